"""What goes in in natural units comes out in them: venues, accounts, events, fills, whole runs, one-line texts."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import riskcore as rc
from riskcore.cli import app
from riskcore.io import backpack, dydx, hyperliquid
from riskcore.kernels.layouts import OrderColumns
from riskcore.record.events import PAYING
from riskcore.venue import PRESETS, shipped
from tests import small_run

MODULES = {"backpack": backpack, "dydx": dydx, "hyperliquid": hyperliquid}


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_a_preset_is_the_venue_of_the_saved_reply(self, name):
        content, module = shipped(name), MODULES[name]
        assert all(row["source"] and row["date"] for row in content["markets"])
        reply = module.preset()
        built = module.load_venue(**reply) if name == "backpack" else module.load_venue(reply)
        found = rc.load_venue(name).source
        bare = [[{k: v for k, v in row.items() if k not in ("source", "date")} for row in source["markets"]]
                for source in (found, built.source)]  # fmt: skip
        assert bare[0] == bare[1]
        assert found | {"markets": 0} == built.source | {"markets": 0}

    @pytest.mark.parametrize(
        ("name", "stages", "when"),
        [
            ("backpack", ("book", "backstop", "adl"), "backstop_exhausted"),
            ("dydx", ("book", "adl"), "fund_below"),
            ("hyperliquid", ("book", "backstop", "adl"), "backstop_exhausted"),
        ],
    )
    def test_a_preset_has_the_stages_of_its_venue(self, name, stages, when):
        policy = rc.load_venue(name).policy
        assert (policy.stages, policy.adl_when, policy.adl_fund_off) == (stages, when, 0)

    def test_a_name_is_never_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rc.load_venue("backpack").replace(policy={"fund": 7}).to_json("dydx")
        assert len(rc.load_venue("dydx").markets.symbol) == 33
        assert rc.load_venue("./dydx").policy.fund == 7
        with pytest.raises(
            rc.RiskDataError, match=r"value 'bakpack': must be a preset \(backpack, dydx, hyperliquid\)"
        ):
            rc.load_venue("bakpack")

    def test_the_command_takes_a_name(self, tmp_path):
        frames = small_run.tables()
        frames["balances"] = frames["balances"].query("asset == 'USDC'")
        del frames["asset_prices"], frames["books"]
        files = small_run.write(tmp_path, rc.load_venue("backpack").source, frames)
        outputs = []
        for venue in (files["venue"], "backpack"):
            line = small_run.arguments("sweep", files | {"venue": venue}, tmp_path / "out.csv")
            assert CliRunner().invoke(app, line).exit_code == 0
            outputs.append((tmp_path / "out.csv").read_text())
        assert outputs[0] == outputs[1]
        assert outputs[0].count("\n") > 2
        line = small_run.arguments("sweep", files | {"venue": "binance"}, tmp_path / "out.csv")
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 2
        assert "must be a preset (backpack, dydx, hyperliquid)" in result.stderr

    def test_help_names_the_presets(self):
        (parameter,) = (p for p in get_command(app).commands["sweep"].params if "--venue" in p.opts)
        assert parameter.help == f"Venue, JSON; or a preset: {', '.join(PRESETS)}."


class TestVenue:
    def test_replace_changes_what_is_named_and_nothing_else(self):
        venue = rc.load_venue(small_run.venue_source())
        other = venue.replace(policy={"fund": 5, "adl_policy": "pro_rata"}, backstop=[{"account": 3}])
        assert (other.policy.fund, other.policy.adl_policy, other.backstop[0].account) == (5, "pro_rata", 3)
        assert other.policy.slices_per_tick == venue.policy.slices_per_tick
        assert other.replace(policy=venue.source["policy"], backstop=venue.source["backstop"]).source == venue.source
        assert other.units == venue.units
        assert other.replace(backstop=[]).backstop == ()
        with pytest.raises(rc.RiskDataError, match="acmf_divisors"):
            venue.replace(policy={"acmf_divisors": 2})
        with pytest.raises(rc.RiskDataError, match="must be a mapping"):
            venue.replace(policy=[("fund", 2)])

    @pytest.mark.parametrize("source", [*PRESETS, small_run.venue_source("é\n")])
    def test_a_written_venue_is_the_same_venue(self, source, tmp_path):
        venue = rc.load_venue(source)
        venue.to_json(tmp_path / "venue.json")
        again = rc.load_venue(tmp_path / "venue.json")
        assert again.source == venue.source
        assert (again.policy, again.backstop, again.pools) == (venue.policy, venue.backstop, venue.pools)
        assert again.units == venue.units
        assert json.loads((tmp_path / "venue.json").read_text())["settle_asset"] == "USDC"
        with pytest.raises(rc.RiskDataError, match="cannot be written"):
            venue.to_json(tmp_path / "none" / "venue.json")


def whole_numbers(accounts):
    """Rows of anything, by name, of accounts that were read or liquidated."""
    columns, orders = accounts.columns, accounts.orders
    kept = columns.lots != 0
    found = {
        "positions": (accounts.position_accounts(), columns.market, columns.lots, columns.cost, columns.entry),
        "balances": (accounts.balance_accounts(), columns.asset, columns.free, columns.lent),
        "orders": tuple(orders.columns),
    }
    keep = {"positions": kept, "balances": (columns.free != 0) | (columns.lent != 0), "orders": orders.lots != 0}
    found = {name: np.array(rows)[:, keep[name]].tolist() for name, rows in found.items()}
    assert not columns.cost[~kept].any()
    return found | {
        "ids": accounts.ids.tolist(),
        "unsettled": columns.unsettled[columns.settle_row].tolist(),
        "limit": accounts.leverage_limit.tolist(),
        "open": (columns.open_bid[kept].tolist(), columns.open_ask[kept].tolist(), columns.open_orders.tolist()),
    }


class TestToFrames:
    def test_tables_come_back_as_they_were(self):
        frames = small_run.tables()
        frames["positions"]["settle_price"] = [99_000.0, np.nan]
        _, accounts, _ = small_run.read(frames)
        found = accounts.to_frames()
        pd.testing.assert_frame_equal(found.positions, frames["positions"])
        pd.testing.assert_frame_equal(found.orders, frames["orders"])
        pd.testing.assert_frame_equal(found.settings, frames["settings"])
        # the account 2 has no settle asset: it gets a row of it
        wanted = pd.concat(
            [frames["balances"], pd.DataFrame([(2, "USDC", 0.0, 0.0)], columns=frames["balances"].columns)]
        )
        wanted = wanted.sort_values(["account", "asset"], ignore_index=True)
        pd.testing.assert_frame_equal(found.balances, wanted)

    def test_a_run_s_last_state_comes_back_as_the_same_whole_numbers(self):
        venue, accounts, ticks = small_run.crash()
        engine = rc.Engine(accounts, venue)
        for tick in ticks.starting_at(0):
            engine.step(tick)
        assert (engine.accounts.columns.cost != engine.accounts.columns.entry).any()
        for state in (accounts, engine.accounts):
            again = rc.Accounts.from_frames(venue, *state.to_frames())
            assert whole_numbers(again) == whole_numbers(state)
            assert again.rounded < 1e-2  # floats of 50 million USDC are 0.0075 quanta apart

    @pytest.mark.parametrize("name", PRESETS)
    def test_any_amounts_come_back(self, name):
        venue, chance = rc.load_venue(name), np.random.default_rng(3)
        markets, steps, ticks = venue.markets.symbol, venue.markets.step_size, venue.markets.tick_size
        rows = []
        for account in range(200):
            for m in chance.choice(len(markets), 3, replace=False).tolist():
                price = 10 ** chance.uniform(0.5 if name == "backpack" else -3, 3)
                lots = int(10 ** chance.uniform(-2, 6) / price / steps[m] + 1) * chance.choice([-1, 1])
                price = np.rint(price / ticks[m] + 1) * ticks[m] if account % 2 else price
                settle = price * chance.uniform(0.5, 2) if account % 3 else np.nan
                rows.append((f"a{account}", markets[m], lots * steps[m], price, settle))
        names = ["account", "market", "quantity", "entry_price", "settle_price"]
        positions = pd.DataFrame(rows, columns=names)
        money = chance.uniform(-1e6, 1e7, 200)
        balances = pd.DataFrame({"account": [f"a{n}" for n in range(200)], "asset": "USDC", "quantity": money})
        balances["lent"] = chance.uniform(0, 1e3, 200)
        settings = pd.DataFrame({"account": ["a3"], "unsettled": [-12.25]})
        accounts = rc.Accounts.from_frames(venue, positions, balances, None, settings)
        again = rc.Accounts.from_frames(venue, *accounts.to_frames())
        assert whole_numbers(again) == whole_numbers(accounts)
        pd.testing.assert_frame_equal(again.to_frames().positions, accounts.to_frames().positions)

    def test_a_position_of_less_than_half_a_quantum(self):
        venue = rc.load_venue("dydx")
        positions = pd.DataFrame({"account": [1], "market": ["PEPE-USD"], "quantity": [1e7], "entry_price": [4e-14]})
        balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1.0]})
        accounts = rc.Accounts.from_frames(venue, positions, balances)
        assert accounts.columns.lots[0] == 1
        assert accounts.columns.entry[0] == 0
        assert whole_numbers(rc.Accounts.from_frames(venue, *accounts.to_frames())) == whole_numbers(accounts)

    def test_accounts_of_nothing(self):
        venue = rc.load_venue("backpack")
        balances = pd.DataFrame({"account": [5], "asset": ["USDC"], "quantity": [0.0]})
        empty = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
        accounts = rc.Accounts.from_frames(venue, empty, balances)
        again = rc.Accounts.from_frames(venue, *accounts.to_frames())
        assert again.ids.tolist() == [5]
        assert [len(frame) for frame in accounts.to_frames()] == [0, 1, 0, 0]


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A run of the generated crash: the results of its ticks, its accounts after each, and its folder."""
    venue, accounts, ticks = small_run.crash()
    engine, results, states = rc.Engine(accounts, venue), [], []
    for tick in ticks.starting_at(0):
        results.append(engine.step(tick, full_table=True))
        states.append(engine.accounts.copy())
    path = tmp_path_factory.mktemp("runs") / "crash"
    engine.save(path)
    return engine, results, states, path


class TestEvents:
    def test_natural_columns_stand_for_the_whole_numbers(self, crash):
        engine, results, *_ = crash
        venue = engine.venue
        step, quantum = (
            dict(zip(venue.markets.symbol, venue.markets.step, strict=True)),
            dict(zip(venue.assets.symbol, venue.assets.quantum, strict=True)),
        )
        spots = zip(venue.spots.asset.tolist(), venue.spots.step, strict=True)
        spot = {venue.assets.symbol[k]: size for k, size in spots}
        seen = set()
        for result in results:
            events = result.events
            assert set(result.raw_events.columns) <= set(events.columns)
            for row in events.to_dict("records"):
                seen.add(row["event"])
                assert row["settle_asset"] == "USDC" if row["event"] in PAYING else pd.isna(row["settle_asset"])
                in_market, in_asset = row["market"] in step, row["asset"] in quantum
                exact = {"quantity": step[row["market"]] * row["lots"] if in_market else None}
                exact["amount"] = quantum[row["asset"]] * row["quanta"] if in_asset else None
                exact["lent_amount"] = quantum[row["asset"]] * row["lent"] if in_asset else None
                for name in ("cash", "fee", "unsettled", "fund"):
                    exact[f"{name}_amount"] = quantum["USDC"] * row[name]
                unit = step[row["market"]] if in_market else quantum[row["asset"]] if in_asset else None
                if not in_market and row["event"] in ("expire", "skip"):
                    unit = spot[row["asset"]]
                exact["requested_quantity"] = None if unit is None else unit * row["requested"]
                for name, value in exact.items():
                    assert np.isnan(row[name]) if value is None else row[name] == float(value), (name, row)
        assert {"book", "backstop", "cancel", "trigger", "realize", "funding"} <= seen

    def test_fills_are_the_rows_that_close_positions(self, crash):
        engine, results, *_ = crash
        every = pd.concat([result.fills for result in results], ignore_index=True)
        assert every.columns.tolist() == [
            "time", "account", "market", "side", "quantity", "price", "notional", "fee", "settle_asset", "stage",
            "reason", "counterparty", "owner",
        ]  # fmt: skip
        split = rc.run.report.waterfall_split(np.concatenate([r.rows for r in results]), engine.venue).set_index(
            "stage"
        )
        for stage, own in every.groupby("stage"):
            assert len(own) == split.loc[stage, "fills"]
            assert own["notional"].sum() == pytest.approx(split.loc[stage, "notional"], rel=1e-12)
            assert (own["counterparty"] == "book").all() == (stage == "order book")
        for result in results:
            events = result.events
            wanted = events[events["event"].isin(["book", "backstop", "adl"]) & events["market"].notna()]
            assert result.fills["quantity"].tolist() == wanted["quantity"].abs().tolist()
            assert (result.fills["side"] == "sell").tolist() == (wanted["lots"] < 0).tolist()
            assert result.fills["fee"].tolist() == wanted["fee_amount"].tolist()
        assert (every["quantity"] > 0).all()
        assert set(every["side"]) == {"buy", "sell"}

    def test_fees_are_taken_from_what_is_sold(self, crash):
        every = pd.concat([result.fills for result in crash[1]])
        book = every[every["stage"] == "order book"]
        assert (book["fee"] >= 0).all()
        assert book["fee"].sum() > 0
        assert (book["fee"] <= 0.01 * book["notional"] + 1e-6).all()


class TestReadRun:
    def test_tables_of_a_run(self, crash):
        _, results, _, path = crash
        run = rc.read_run(path)
        natural = pd.concat([result.events for result in results], ignore_index=True)[run.events.columns]
        frames = [frame.astype(object).where(frame.notna(), None) for frame in (run.events, natural)]
        pd.testing.assert_frame_equal(*frames)
        fills = pd.concat([result.fills for result in results], ignore_index=True)
        pd.testing.assert_frame_equal(run.fills, fills, check_dtype=False)
        assert run.rows.tobytes() == np.concatenate([result.rows for result in results]).tobytes()
        assert len(run.raw_events) == len(run.events)
        assert (run.ticks, run.complete, run.seed) == (25, True, 0)

    def test_marks_are_the_guarded_ones_and_go_in_again(self, crash):
        _, results, _, path = crash
        run = rc.read_run(path)
        assert run.marks.columns.tolist() == ["time", "market", "mark_price", "index_price"]
        assert len(run.marks) == 25 * len(run.venue.markets.symbol)
        assert run.marks["time"].astype("int64").unique().tolist() == [result.time for result in results]
        ticks = rc.io.read_ticks(run.venue, run.accounts, run.marks)
        assert ticks.mark.ravel().tolist() == run.marks["mark_price"].tolist()
        assert ticks.index.ravel().tolist() == run.marks["index_price"].tolist()
        # the margins of a tick are those of its marks
        prices = run.marks.iloc[-3:].set_index("market")
        found = rc.sweep(run.accounts_at(23), run.venue, prices["mark_price"], indexes=prices["index_price"])
        assert len(found.account) == len(run.accounts)

    def test_accounts_at_a_tick_are_the_engines(self, crash):
        engine, _, states, path = crash
        run = rc.read_run(path)
        for tick, state in enumerate(states):
            assert_same_accounts(run.accounts_at(tick), state)
        assert_same_accounts(run.accounts_at(), engine.accounts)
        assert_same_accounts(run.accounts, small_run.crash()[1])
        for wrong in (25, -1, True, 1.0, "3"):
            with pytest.raises(rc.RiskDataError, match="must be a tick of the run, from 0 to 24"):
                run.accounts_at(wrong)

    def test_the_summary_adds_up(self, crash):
        engine, results, _, path = crash
        found = rc.read_run(path).summary
        assert found.accounts == len(engine.accounts)
        assert found.liquidated == len({n for result in results for n in result.selected.tolist()})
        assert found.fund_start == 1_000_000
        assert found.fund_assets == {"USDC": found.fund_end}
        assert found.fund_end == pytest.approx(engine.ledger.fund[engine.venue.settle] * 1e-6, abs=1e-6)
        assert found.split["fills"].sum() == sum(len(result.fills) for result in results)
        assert set(found.shortfall) == {"paid_by_fund", "paid_by_others", "left_on_record"}

    def test_no_run(self, tmp_path):
        with pytest.raises(rc.RiskDataError, match=r"must be a run folder with a run\.json"):
            rc.read_run(tmp_path)

    def test_a_run_without_ticks(self, tmp_path):
        venue, accounts, _ = small_run.crash()
        rc.Engine(accounts, venue).save(tmp_path / "run", complete=False)
        run = rc.read_run(tmp_path / "run")
        assert [len(frame) for frame in (run.events, run.fills, run.marks)] == [0, 0, 0]
        assert repr(run) == "Run(run: 0 ticks, 123 accounts, 0 liquidated, not complete)"
        assert_same_accounts(run.accounts_at(), accounts)


def assert_same_accounts(found, wanted):
    for name, column in found.columns._asdict().items():
        np.testing.assert_array_equal(column, getattr(wanted.columns, name), err_msg=name)
    for name in OrderColumns._fields:
        np.testing.assert_array_equal(getattr(found.orders, name), getattr(wanted.orders, name), err_msg=name)
    np.testing.assert_array_equal(found.leverage_limit, wanted.leverage_limit)


BTC, SOL, ETH = "BTC_USDC_PERP", "SOL_USDC_PERP", "ETH_USDC_PERP"
NS = 1_760_130_000 * 10**9
BIDS = [(60_000.0, 0.5), (59_999.9, 1.25), (59_990.0, 0.00001)]
ASKS = [(60_000.1, 2.0), (60_000.3, 1e3)]


def same_books(one, other):
    for name in ("offset", "price", "lots", "time"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == np.int64
    return one.units == other.units


FORMS = {
    "lists": lambda rows: [list(row) for row in rows],
    "tuples": tuple,
    "array": lambda rows: np.array(rows).reshape(-1, 2),
    "three columns": lambda rows: np.array([(*row, 7) for row in rows]).reshape(-1, 3),
    "three numbers": lambda rows: [(*row, 7) for row in rows],
    "text": lambda rows: [[repr(x) for x in row] for row in rows],
    "other floats": lambda rows: [tuple(map(np.float64, row)) for row in rows],
    "mixed lengths": lambda rows: [(*row, 7) if n else row for n, row in enumerate(rows)],
    "rows of arrays": lambda rows: [np.array(row) for row in rows],
}


class TestBooksOfPairs:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_says_the_same_as_the_frame(self, form):
        venue, write = rc.load_venue("backpack"), FORMS[form]
        rows = [
            (BTC, side, level, *pair) for side, of in (("bid", BIDS), ("ask", ASKS)) for level, pair in enumerate(of)
        ]
        rows.append((SOL, "ask", 0, 180.25, 3.0))
        frame = pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])
        frame["book_time"] = np.where(frame["market"] == BTC, NS - 5, NS)
        wanted = rc.Tick(NS, {}, frame).columnar_books(venue)
        given = {
            SOL: {"bids": write([]), "asks": write([(180.25, 3.0)])},
            ETH: {"bids": write([]), "asks": write([])},
            BTC: {"asks": write(ASKS), "bids": write(BIDS), "timestamp": NS},
        }
        times = {BTC: NS - 5, SOL: NS, ETH: NS - 9}
        assert same_books(rc.Tick(NS, {}, given, book_times=times).columnar_books(venue), wanted)

    @pytest.mark.parametrize("form", ["lists", "array"])
    @pytest.mark.parametrize(
        ("bids", "message"),
        [
            ([(60_000.05, 1.0)], "books.price, row 0, value 60000.05: must be a whole number of ticks"),
            ([(60_000.0, 0.000001)], "books.quantity, row 0, value 1e-06: must be a whole number of lots"),
            (
                [(60_000.0, 1.0), (60_001.0, 1.0)],
                "books.BTC_USDC_PERP, row bids[1], value 60001.0: must get worse",
            ),
            ([(60_000.0, 1.0), (60_000.0, 1.0)], "books.price, row 1, value 60000.0: must get worse from level"),
            ([(0.0, 1.0)], "books.price, row 0, value 0.0: must be a finite number > 0"),
            ([(60_000.0, -1.0)], "books.quantity, row 0, value -1.0: must be a finite number > 0"),
            ([(60_000.0, np.nan)], "books.quantity, row 0, value nan: must not be missing"),
            ([(np.inf, 1.0)], "books.price, row 0, value inf: must be a finite number > 0"),
            ([(1_000_000.1, 1.0)], "books.price, row 0, value 1000000.1: must be at most the market's maxPrice"),
            ([(60_000.0, 8e7), (59_999.0, 8e7)], "must be worth less than 2**61 quanta"),
            ([(60_000.0, 1.0, 2.0, 3.0)], "must be 'bids' or 'asks', each a list"),
            ([(60_000.0,)], "must be 'bids' or 'asks', each a list"),
            ([60_000.0, 1.0], "must be 'bids' or 'asks', each a list"),
            ([(True, 1.0)], "must be numbers"),
            ([(1 + 0j, 1.0)], "must be numbers"),
        ],
    )
    def test_what_is_wrong_is_said_as_before(self, bids, message, form):
        if form == "array":
            bids = np.array(bids, object if isinstance(bids[0], tuple) and bids[0][0] is True else None)
        with pytest.raises(rc.RiskDataError) as error:
            rc.Tick(NS, {}, {BTC: {"bids": bids, "asks": []}}).columnar_books(rc.load_venue("backpack"))
        assert message in str(error.value)

    @pytest.mark.parametrize(
        ("books", "times", "message"),
        [
            ({BTC: {"bid": np.array(BIDS)}}, None, "must be 'bids' or 'asks'"),
            ({BTC: {"bids": BIDS, "asks": ASKS, "ask": np.array(ASKS)}}, None, "must be 'bids' or 'asks'"),
            ({BTC: {"bids": np.array(5.0)}}, None, "must be 'bids' or 'asks'"),
            ({BTC: {"bids": "12"}}, None, "must be 'bids' or 'asks'"),
            ({"XRP": {"bids": np.array(BIDS)}}, None, "must be a market of the venue"),
            ({7: {"bids": np.array(BIDS)}}, None, "must be a market of the venue"),
            ({BTC: np.array(BIDS)}, None, "must be a mapping with bids and asks"),
            ({BTC: {"bids": np.array(BIDS)}}, {BTC: NS + 1}, "must not be later than the tick"),
            ({BTC: {"bids": np.array(BIDS)}}, {"XRP": NS}, "must be a market of the venue"),
        ],
    )
    def test_what_is_no_book_is_refused(self, books, times, message):
        with pytest.raises(rc.RiskDataError) as error:
            rc.Tick(NS, {}, books, book_times=times).columnar_books(rc.load_venue("backpack"))
        assert message in str(error.value)

    def test_any_books_are_those_of_the_frame(self):
        venue, chance = rc.load_venue("backpack"), np.random.default_rng(1)
        for _ in range(30):
            books, rows = {}, []
            for m, market in enumerate(venue.markets.symbol):
                book = {}
                for name, sign in (("bids", -1), ("asks", 1)):
                    size = int(chance.integers(0, 30))
                    ticks = 5_000 + sign * np.cumsum(chance.integers(1, 9, size))
                    price = ticks * venue.markets.tick_size[m]
                    quantity = chance.integers(1, 10**6, size) * venue.markets.step_size[m]
                    book[name] = np.column_stack([price, quantity])
                    rows += [(market, name[:-1], n, *pair) for n, pair in enumerate(book[name].tolist())]
                books[market] = book
            frame = pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])
            wanted = rc.Tick(NS, {}, frame).columnar_books(venue)
            assert same_books(rc.Tick(NS, {}, books).columnar_books(venue), wanted)

    def test_books_do_not_share_the_users_array(self):
        venue, bids = rc.load_venue("backpack"), np.array(BIDS)
        found = rc.Tick(NS, {}, {BTC: {"bids": bids}}).columnar_books(venue)
        before = found.price.copy()
        bids[:] = 1.0
        assert found.price.tolist() == before.tolist()


class TestOneLine:
    def test_texts(self, crash):
        engine, results, _, path = crash
        _, accounts, _ = small_run.crash()
        assert repr(accounts) == "Accounts(123 accounts, 205 positions, 7 open orders, 150,219,110.79 USDC in balances)"
        assert repr(engine.venue) == (
            "Venue(3 markets: BTC_USDC_PERP, ETH_USDC_PERP, SOL_USDC_PERP; 4 assets, settles in USDC, fund 1,000,000, "
            "3 backstop providers)"
        )
        fund = f"{engine.ledger.fund[engine.venue.settle] * 1e-6:,.2f}"
        assert repr(engine) == f"Engine(123 accounts, 25 ticks, last at 2025-10-10 20:58:24+00:00, fund {fund} USDC)"
        assert repr(rc.Engine(accounts, engine.venue)) == "Engine(123 accounts, 0 ticks, fund 1,000,000.00 USDC)"
        assert repr(results[0]) == "StepResult(tick 0 at 2025-10-10 20:58:00+00:00: 0 liquidated, 0 events)"
        result = results[8]
        closed = result.fills.groupby("stage", sort=False)["notional"].sum()
        stages = ", ".join(f"{stage} {notional:,.2f}" for stage, notional in closed.items())
        counts = f"{len(result.selected)} liquidated, {len(result.rows)} events"
        assert repr(result) == f"StepResult(tick 8 at 2025-10-10 20:58:08+00:00: {counts}, {stages})"
        assert repr(results[0].table).startswith("MarginTable(123 accounts, 0 at 100 % or above, highest MMR ")
        assert repr(results[0].table.rows(np.empty(0, np.int64))) == "MarginTable(0 accounts, 0 at 100 % or above)"
        assert "highest MMR infinite" in repr(result.table)
        _, _, ticks = small_run.read(small_run.tables())
        times = "2025-10-10 21:00:00+00:00 to 2025-10-10 21:00:01+00:00"
        assert repr(ticks) == f"TickTable(2 ticks from {times}, 3 markets, books in 2 ticks)"
        assert repr(ticks.tick(0).books) == "Books(4 levels in 1 market)"
        assert repr(rc.Prices.read(engine.venue, accounts, {BTC: 1e5, ETH: 4e3, SOL: 200.0})) == (
            "Prices(3 markets, 4 assets)"
        )
        every = [accounts, engine.venue, engine, *results, *(r.table for r in results), rc.read_run(path)]
        assert not any("\n" in repr(one) or len(repr(one)) > 240 for one in every)

    def test_tables_in_notebooks(self, crash):
        engine, results, *_ = crash
        table = results[8].table
        page = table._repr_html_()
        assert page.count("<tr") == 11
        assert "123 rows, 10 of them shown" in page
        assert str(table.account[np.argmax(table.mmr)]) in page
        assert results[8]._repr_html_().count("<tr") == 1 + min(20, len(results[8].fills))
        chosen = rc.select(engine.accounts, engine.venue, {BTC: 1e5, ETH: 1e3, SOL: 50.0})
        assert repr(chosen) == f"Selection({len(chosen)} of 123 accounts at 100 % or above)"
        assert chosen._repr_html_().count("<tr") == 1 + min(10, len(chosen))

    def test_names_are_text_in_a_page(self):
        source = small_run.venue_source("<b>\x1b")
        frames = small_run.tables()
        for name in ("positions", "balances", "orders", "settings"):
            frames[name]["account"] = frames[name]["account"].map({1: "<i>", 2: "b", small_run.PROVIDER: "<b>\x1b"})
        venue = rc.load_venue(source)
        accounts = rc.Accounts.from_frames(venue, *(frames[n] for n in ("positions", "balances", "orders", "settings")))
        table = rc.sweep(accounts, venue, {BTC: 1e5, ETH: 4e3}, asset_prices={"XAU": 4e3})
        assert "&lt;i&gt;" in table._repr_html_()
        assert not {"<i>", "<b>"} & set(table._repr_html_().replace(">", ">\n<").split("\n"))
