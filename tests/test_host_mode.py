"""Host mode: slices are proposed to the host, and the next tick goes on from what the host has really filled."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.record import EVENT, read_journal, reader, run_folder
from riskcore.state import Proposals
from tests import small_run

MARKET = "SOL_USDC_PERP"
START = pd.Timestamp("2025-10-10T21:00Z")
BOOK = {"bids": [(193.99, 1_000.0)], "asks": [(194.0, 1_000.0)]}


def venue_of(**policy):
    figures = {"slice_probability": 1, "fund": 1_000, "slices_per_tick": 3, "liquidation_interval": 1} | policy
    return rc.load_venue("backpack").replace(policy=figures)


def engine_of(quantity=10.0, cash=80.0, *, book="host", others=((2, -5.0, 400.0),), venue=None):
    """An engine with account 1, bought at 200, and others."""
    venue = venue or venue_of()
    held = pd.DataFrame([(1, quantity, cash), *others], columns=["account", "quantity", "cash"])
    positions = held[["account", "quantity"]].assign(market=MARKET, entry_price=200.0)
    balances = held[["account"]].assign(asset="USDC", quantity=held["cash"])
    accounts = rc.Accounts.from_frames(venue, positions[positions["quantity"] != 0], balances)
    return rc.Engine(accounts, venue, book=book)


def tick(n=0, mark=194.0, book=BOOK):
    return rc.Tick(START + pd.Timedelta(minutes=n), {MARKET: mark}, {} if book is None else {MARKET: book})


def confirm(quantity, price=193.99, **other):
    return {"action": "confirm", "account": 1, "market": MARKET, "quantity": quantity, "price": price} | other


def lots_of(engine, account=1):
    return int(engine.accounts.columns.lots[engine.accounts.position_row(account - 1, row_of(engine))])


def row_of(engine):
    return engine.venue.markets.row[MARKET]


def state_of(engine):
    """Everything that a tick or an action changes, to be compared."""
    guards = {name: frame.to_dict("list") for name, frame in engine.guard_state.frames().items()}
    accounts = engine.accounts
    return pickle.dumps((accounts.columns, accounts.orders, engine.ledger, engine.ticks, engine.time)), repr(guards)


def all_lots(engine):
    return int(engine.accounts.columns.lots.sum() + engine.ledger.book_lots.sum())


class TestFirstStep:
    def test_nothing_is_filled_and_the_slice_is_proposed(self):
        engine = engine_of()
        before = pickle.dumps(engine.accounts.columns)
        result = engine.step(tick())
        assert pickle.dumps(engine.accounts.columns) == before
        assert not len(result.fills)
        assert not engine.ledger.book_lots.any()
        assert engine.ledger.fund[engine.venue.settle] == 1_000 * 10**6
        assert result.slices.to_dict("records") == [
            {"account": 1, "market": MARKET, "side": "sell", "quantity": -5.16, "limit_price": 192.06, "fee_rate": 0.01,
             "stage": "order book"},
        ]  # fmt: skip
        rows = result.events[["event", "reason", "requested_quantity", "price"]].to_numpy().tolist()
        assert rows[1:] == [["propose", "full", 5.16, 192.06]]

    def test_ticks_are_the_clock(self, tmp_path):
        engine = engine_of()
        assert engine.venue.policy.liquidation_interval is None
        engine.step(tick())
        result = engine.step(tick(1))
        assert set(result.rows["time"]) == {result.time}
        engine.save(tmp_path / "run")
        assert rc.Engine.resume(tmp_path / "run").venue.policy.liquidation_interval is None

    def test_a_mode_that_is_none_is_refused(self):
        for book in ("hosts", None, ["host"]):
            with pytest.raises(rc.RiskDataError, match=r"^book, value .*: must be one of engine, host$"):
                engine_of(book=book)

    def test_the_engine_proposes_nothing_in_its_own_books(self):
        result = engine_of(book="engine").step(tick())
        assert len(result.fills)
        assert not len(result.slices)
        assert list(result.slices.columns) == list(engine_of().step(tick()).slices.columns)


def test_proposals_are_what_the_engine_would_fill():
    """Slices of the stage are those that the engine fills in its first round; the rows of both are the same else."""
    venue, accounts, ticks = small_run.crash()
    venue = venue.replace(policy={"liquidation_interval": None, "slices_per_tick": 1, "slice_probability": 1})
    engine, of_host = rc.Engine(accounts, venue), rc.Engine(accounts, venue, book="host")
    count, is_first = 0, True
    for given in ticks:
        proposed = engine.propose(given)
        proposed = proposed[proposed["stage"] == "order book"]
        rows = engine.step(given).rows
        filled = rows[rows["event"] == EVENT["book"]]
        lots = (proposed["quantity"] / STEP[proposed["market"]].to_numpy()).round().astype(int)
        assert lots.tolist() == filled["lots"].tolist()
        assert proposed["account"].tolist() == engine.accounts.ids[filled["account"]].tolist()
        fee = (np.abs(filled["counter_cash"]) * proposed["fee_rate"]).round()
        assert (np.abs(fee - filled["fee"]) <= 1).all()
        count += len(filled)
        if is_first:
            is_first = not len(filled)
            same_slices(rows, of_host.step(given).rows)
    assert count > 10


def same_slices(rows, of_host):
    """Rows of the stage `book` from the same state, but for what a fill changes."""
    slices = [EVENT[name] for name in ("skip", "expire", "harm", "book", "propose")]
    one, other = (some[np.isin(some["event"], slices)] for some in (rows, of_host))
    other = other[: len(one)]  # those of the last book follow
    for name in ("account", "market", "reason", "mmr_before", "mmr_after"):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    is_fill = one["event"] == EVENT["book"]
    np.testing.assert_array_equal(other["event"], np.where(is_fill, EVENT["propose"], one["event"]))
    np.testing.assert_array_equal(other["requested"], np.where(is_fill, np.abs(one["lots"]), one["requested"]))


class TestConfirm:
    def test_a_host_that_fills_at_the_touch_restores_the_account(self, tmp_path):
        engine = engine_of()
        lots = all_lots(engine)
        for n in range(8):
            slices = engine.step(tick(n)).slices
            if not len(slices):
                break
            touch = np.where(slices["quantity"] < 0, 193.99, 194.0)
            engine.apply(slices[["account", "market", "quantity"]].assign(action="confirm", price=touch))
            assert all_lots(engine) == lots
        assert 0 < n < 7
        assert engine.margin(1).status == "safe"
        assert not engine.ledger.proposals
        engine.save(tmp_path / "run")
        assert audit(tmp_path / "run").ok

    def test_a_host_that_fills_nothing_is_asked_again(self):
        engine = engine_of()
        first = engine.step(tick()).slices
        again = engine.step(tick(1)).slices
        pd.testing.assert_frame_equal(first, again)
        assert lots_of(engine) == 1_000
        assert not len(engine.step(tick(2, mark=200.0, book=None)).slices)
        assert not engine.ledger.proposals
        with pytest.raises(rc.RiskDataError, match=r"market.*: must be one in which the last tick proposed"):
            engine.apply(confirm(-1.0))

    def test_the_next_tick_goes_on_from_a_partial_fill(self):
        engine = engine_of()
        engine.step(tick())
        result = engine.apply([confirm(-2.0), confirm(-1.16, price=193.0)])
        assert result.events[["event", "reason", "requested_quantity", "quantity", "price"]].to_numpy().tolist() == [
            ["book", "host", 5.16, -2.0, 193.99], ["book", "host", 3.16, -1.16, 193.0],
        ]  # fmt: skip
        paid = 2 * 193.99 + 1.16 * 193.0
        assert result.events["fee_amount"].sum() == pytest.approx(paid * 0.01)
        assert engine.ledger.fund[engine.venue.settle] == 1_000 * 10**6 + round(paid * 10_000)
        assert {key: p.lots for key, p in engine.ledger.proposals.items()} == {(0, row_of(engine)): -200}
        assert lots_of(engine) == 684
        cash = 80.0 - 2 * 6.01 - 1.16 * 7.0 - paid * 0.01
        other = engine_of(6.84, round(cash, 6))
        pd.testing.assert_frame_equal(engine.step(tick(1)).slices, other.step(tick(1)).slices)
        assert engine.ledger.proposals == other.ledger.proposals

    @pytest.mark.parametrize(
        ("change", "column", "rule"),
        [
            ({"quantity": 5.16}, "quantity", "must be below 0, as the proposed slice"),
            ({"quantity": -5.17}, "quantity", "must be at most what is open of the proposed slice"),
            ({"price": 192.05}, "price", "must be no worse than the limit price of the proposed slice"),
            ({"fee": 10.0}, "fee", "must be the fee of the proposed slice, 10.009884, to one quantum"),
            ({"fee": -0.000001}, "fee", "must be the fee of the proposed slice"),
            ({"account": 2, "quantity": 1.0}, "market", "must be one in which the last tick proposed a slice"),
            ({"market": "BTC_USDC_PERP"}, "market", "must be one in which the last tick proposed a slice"),
        ],
    )
    @pytest.mark.parametrize("check", ["on", "off"])
    def test_others_are_refused_and_nothing_changes(self, change, column, rule, check):
        engine = engine_of()
        engine.step(tick())
        before = state_of(engine)
        with pytest.raises(rc.RiskDataError) as error:
            engine.apply(confirm(-5.16) | change, check=check)
        message = str(error.value)
        assert message.startswith(f"activity.{column}, row 0")
        assert rule in message
        assert state_of(engine) == before

    def test_a_batch_is_whole_or_refused_whole(self):
        engine = engine_of()
        engine.step(tick())
        before = state_of(engine)
        with pytest.raises(rc.RiskDataError, match=r"^activity\.market, row 2, value .*: must be one in which"):
            engine.apply([confirm(-2.0), confirm(-3.16), confirm(-0.01)])
        assert state_of(engine) == before

    def test_a_given_fee_may_be_one_quantum_off(self):
        engine = engine_of()
        engine.step(tick())
        for n, fee in enumerate((1.939901, 1.9399, 1.939899)):
            assert engine.apply(confirm(-1.0, fee=fee)).events["fee_amount"].tolist() == [fee], n

    def test_reduce_only_orders_shrink_with_the_position(self):
        engine = engine_of(cash=1_000.0)
        engine.step(tick())
        account = engine.account(1)
        account.place(MARKET, "ask", 9.0, 250.0, reduce_only=True, order="exit")
        engine.apply({"action": "withdraw", "account": 1, "asset": "USDC", "quantity": 920.0}, check="off")
        slices = engine.step(tick(1)).slices
        assert slices["quantity"].tolist() == [-5.16]
        assert not account.orders  # cancelled by the liquidation
        engine.apply({"action": "place", "account": 1, "market": MARKET, "side": "ask", "quantity": 9.0, "price": 250.0,
                      "reduce_only": True, "order": "exit"}, check="off")  # fmt: skip
        events = engine.apply(confirm(-5.16)).events
        assert events[["event", "reason", "requested_quantity"]].to_numpy().tolist() == [
            ["book", "host", 5.16], ["change", "reduce_only", 4.84],
        ]  # fmt: skip
        assert account.orders["exit"].quantity == 4.84

    def test_a_slice_of_the_last_book_is_a_market_close(self):
        """A lone account far below its maintenance margin, without counterparties or providers."""
        engine = engine_of(cash=70.0, others=())
        result = engine.step(tick())
        assert result.slices[["quantity", "stage", "fee_rate"]].to_numpy().tolist() == [[-10.0, "last book", 0.01]]
        fill = engine.apply(confirm(-10.0))
        assert fill.events[["event", "reason", "requested_quantity"]].to_numpy().tolist() == [
            ["market_close", "host", 10.0]
        ]
        after = engine.step(tick(1))
        assert not len(after.slices)
        assert lots_of(engine) == 0

    def test_without_equity_the_last_book_has_no_fee(self):
        engine = engine_of(cash=50.0, others=())
        assert engine.step(tick()).slices["fee_rate"].tolist() == [0.0]
        assert engine.apply(confirm(-10.0)).events["fee_amount"].tolist() == [0.0]


class TestOtherStages:
    def test_the_backstop_takes_a_position_for_good(self):
        venue = venue_of().replace(backstop=[{"account": 2}])
        engine = engine_of(cash=70.0, others=((2, 0.0, 1e6),), venue=venue)
        result = engine.step(tick())
        assert not len(result.slices)
        assert lots_of(engine) == 0
        assert result.fills["stage"].tolist() == ["backstop"]

    def test_a_slice_of_a_position_that_was_taken_is_not_open(self):
        """The book's slice would harm: the account is escalated, and the provider takes its positions."""
        venue = venue_of(harmful_slice="backstop").replace(backstop=[{"account": 2}])
        engine = engine_of(cash=70.0, others=((2, 0.0, 1e6),), venue=venue)
        bad = {"bids": [(185.0, 1_000.0)], "asks": [(194.0, 1_000.0)]}
        assert not len(engine.step(tick(book=bad)).slices)
        assert not Proposals(engine.ledger.proposals).open_lots(0, row_of(engine), lots_of(engine))

    def test_without_a_book_nothing_is_proposed(self):
        engine = engine_of()
        result = engine.step(tick(book=None))
        assert not len(result.slices)
        assert result.events[["event", "reason"]].to_numpy().tolist()[1:] == [["expire", "no_book"]]

    def test_the_share_of_the_depth_sizes_a_slice(self):
        thin = {"bids": [(193.99, 10.0)], "asks": [(194.0, 10.0)]}
        whole = engine_of(venue=venue_of(depth_share=1)).step(tick(book=thin)).slices["quantity"].item()
        shared = engine_of(venue=venue_of(depth_share="0.25")).step(tick(book=thin)).slices["quantity"].item()
        assert (whole, shared) == (-5.16, -2.5)

    def test_cooldown_and_caps_count_what_was_filled(self):
        engine = engine_of(venue=venue_of(slice_cooldown=120, account_cap=600, account_cap_interval=86_400))
        assert engine.step(tick()).slices["quantity"].tolist() == [-3.09]  # 600 USDC at the mark of 194
        engine.apply(confirm(-2.0))
        waiting = engine.step(tick(1))
        assert waiting.events[["event", "reason"]].to_numpy().tolist()[1:] == [["skip", "cooldown"]]
        assert engine.step(tick(2)).slices["quantity"].tolist() == [-1.09]
        assert engine.ledger.sold == {0: 2 * 194 * 10**6}


class TestPropose:
    @pytest.mark.parametrize("book", ["host", "engine"])
    def test_it_says_what_a_step_would_propose_and_changes_nothing(self, book):
        engine, host = engine_of(book=book), engine_of()
        before = state_of(engine)
        proposed = engine.propose(tick())
        assert state_of(engine) == before
        pd.testing.assert_frame_equal(proposed, host.step(tick()).slices)
        if book == "host":
            pd.testing.assert_frame_equal(proposed, engine.step(tick()).slices)
            engine.apply(confirm(-2.0))
            pd.testing.assert_frame_equal(engine.propose(tick(1)), engine.step(tick(1)).slices)
        assert (engine.ticks, engine.book) == (2 if book == "host" else 0, book)

    def test_it_refuses_what_a_step_refuses(self):
        engine = engine_of()
        engine.step(tick(1))
        with pytest.raises(rc.RiskDataError, match="must be later than the tick before"):
            engine.propose(tick())


class TestFolder:
    def test_a_resumed_engine_has_the_proposals(self, tmp_path):
        engine = engine_of()
        engine.step(tick())
        engine.apply(confirm(-2.0))
        engine.save(tmp_path / "run")
        resumed = rc.Engine.resume(tmp_path / "run")
        assert (resumed.book, resumed.ledger.proposals) == ("host", engine.ledger.proposals)
        for one in (engine, resumed):
            one.apply(confirm(-1.0))
            one.step(tick(1))
        assert resumed.ledger.proposals == engine.ledger.proposals
        engine.save(tmp_path / "run")
        rows = read_journal(tmp_path / "run")
        assert rows["event"].tolist()[-1] == EVENT["propose"]
        assert copy.copy(engine).ledger.proposals == engine.ledger.proposals

    def test_a_whole_run_is_the_same_bits_however_it_is_saved(self, tmp_path):
        """A host fills a part of every slice; the engine is resumed after every third tick."""
        venue, accounts, ticks = small_run.crash()
        engines = [rc.Engine(accounts, venue, seed=7, book="host") for _ in range(2)]
        for n, given in enumerate(ticks):
            for m, engine in enumerate(engines):
                slices = engine.step(given).slices
                if len(slices):
                    lots = np.ceil(np.abs(slices["quantity"] / 2 / STEP[slices["market"]].to_numpy()).round(6))
                    part = np.sign(slices["quantity"]) * lots * STEP[slices["market"]].to_numpy()
                    fills = slices[["account", "market"]].assign(quantity=part.round(8), price=slices["limit_price"])
                    fills["price"] = fills["price"].fillna(given_price(engine, fills))
                    engine.apply(fills.assign(action="confirm"))
                if m and n % 3 == 2:
                    engine.save(tmp_path / "parts", complete=False)
                    engines[m] = rc.Engine.resume(tmp_path / "parts")
        engines[0].save(tmp_path / "whole")
        engines[1].save(tmp_path / "parts")
        small_run.assert_same_run(tmp_path / "whole", tmp_path / "parts")
        events = pd.Series(reader.read_journal(tmp_path / "whole")["event"]).value_counts()
        assert min(events[EVENT["propose"]], events[EVENT["book"]]) > 10
        report = audit(tmp_path / "whole")
        assert report.ok, report

    def test_proposals_of_an_engine_with_its_own_books_are_refused(self, tmp_path):
        engine = engine_of(book="engine")
        engine.step(tick())
        engine.save(tmp_path / "run")
        name = tmp_path / "run" / run_folder.file_of("state/proposals", 0)
        frame = pd.read_parquet(name)
        row = {"account": 0, "market": 2, "lots": -1, "price": 1, "fee_num": 0, "fee_den": 1, "event": "book"}
        pd.concat([frame, pd.DataFrame([row])]).to_parquet(name, index=False)
        small_run.seal(tmp_path / "run")
        with pytest.raises(rc.RiskDataError, match=r"proposals.*must be slices of the last tick in host mode"):
            rc.Engine.resume(tmp_path / "run")


def test_refusals_name_the_column():
    proposals = Proposals()
    assert proposals.refusal(0, 0, -1, 5, Fraction(7))[0] == "market"
    assert proposals.open_lots(0, 0, 5) == 0


CRASHED = small_run.crash()[0]
STEP = pd.Series({symbol: float(CRASHED.markets.step[row]) for symbol, row in CRASHED.markets.row.items()})


def given_price(engine, fills):
    return pd.Series([engine.prices.mark[engine.venue.markets.row[market]] for market in fills["market"]], fills.index)
