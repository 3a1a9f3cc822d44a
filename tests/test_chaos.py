"""The chaos drill: no print that the guards exclude liquidates, no fill leaves its band, no tick is left half done."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from riskcore import Accounts, Engine, RiskDataError, Tick, load_venue
from riskcore.audit import audit
from riskcore.sample import market_row
from tests.comparison import totals, whole_state

BTC, START, SECOND = "BTC_USDC_PERP", 1_700_000_000 * 10**9, 10**9
MARK = 100_000.0
PROVIDER = 9


def make_venue(state=None, **policy):
    """One market with every guard that the venue publishes for BTC, and a backstop."""
    row = market_row(
        "BTC", "0.1", "0.001", ("0.01333333", "0.00002494"), ("0.00666667", "0.00001496"), impact=("0.99", "1.01")
    )
    row["filters"]["price"] |= {
        "minMultiplier": "0.25", "maxMultiplier": "2", "minPriceUpdateMultiplier": "0.9975",
        "maxPriceUpdateMultiplier": "1.0025", "meanMarkPriceBand": {"minMultiplier": "0.96", "maxMultiplier": "1.04"},
        "meanPremiumBand": {"tolerancePct": "0.05"},
    }  # fmt: skip
    del row["fundingInterval"]
    row["orderBookState"] = state
    return load_venue(
        {
            "settle_asset": "USDC", "markets": [row], "collateral": [],
            "policy": {"slice_probability": 1, "fund": 1_000_000} | policy, "backstop": [{"account": PROVIDER}],
        }
    )  # fmt: skip


def make_engine(rows, **policy) -> Engine:
    """An engine over accounts of (account, quantity, equity) that entered at the mark."""
    venue = make_venue(**policy)
    positions = pd.DataFrame(
        [(a, BTC, q, MARK) for a, q, _ in rows], columns=["account", "market", "quantity", "entry_price"]
    )
    money = [(a, "USDC", e) for a, _, e in rows] + [(PROVIDER, "USDC", 1e7)]
    balances = pd.DataFrame(money, columns=["account", "asset", "quantity"])
    return Engine(Accounts.from_frames(venue, positions, balances), venue)


def book(mid: float = MARK, size: float = 5.0, levels: int = 20) -> dict:
    """Levels a tenth of a basis point apart around a mid."""
    away = [round(mid * 1e-5 * (n + 1), 1) for n in range(levels)]
    return {"bids": [(round(mid - d, 1), size) for d in away], "asks": [(round(mid + d, 1), size) for d in away]}


def crossed() -> dict:
    levels = book()
    return {"bids": levels["bids"], "asks": [(round(levels["bids"][0][0] - 1, 1), 5.0), *levels["asks"]]}


HEALTHY = [(1, 1.0, 3_000.0), (2, -1.0, 3_000.0)]  # 3 % of equity: a move of 2.3 % liquidates
WEAK = [(1, 1.0, 600.0), (2, -1.0, 600.0), (3, 1.0, 50_000.0), (4, -1.0, 50_000.0)]  # 1 and 2 are past the trigger


def happened(result) -> set[tuple[str, str]]:
    return set(zip(result.events["event"].astype(str), result.events["reason"].astype(str), strict=True))


def quiet(engine: Engine, seconds: int, **more) -> None:
    """Ticks in which nothing moves, second by second."""
    for n in range(seconds):
        time = START + n * SECOND if engine.time is None else engine.time + SECOND
        result = engine.step(Tick(time, {BTC: MARK}, {BTC: book()}, indexes={BTC: MARK}, **more))
        assert len(result.selected) == 0


class TestBooks:
    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            (None, "no_book"), ({"bids": [], "asks": []}, "no_book"), ({"asks": book()["asks"]}, "no_book"),
            (crossed(), "no_book"),
        ],
        ids=["empty", "no levels", "one-sided", "crossed"],
    )  # fmt: skip
    def test_long_is_not_sold_where_there_is_no_bid(self, given, reason):
        engine = make_engine(WEAK[:1] + WEAK[2:])
        result = engine.step(Tick(START, {BTC: MARK}, given and {BTC: given}))
        assert ("expire", reason) in happened(result)
        assert not (result.events["event"] == "book").any()

    def test_one_sided_book_serves_its_side(self):
        result = make_engine(WEAK).step(Tick(START, {BTC: MARK}, {BTC: {"asks": book()["asks"]}}))
        filled = result.events[result.events["event"] == "book"]
        assert filled["account"].tolist() == [2]

    def test_crossed_book_is_refused_on_record(self):
        result = make_engine(WEAK).step(Tick(START, {BTC: MARK}, {BTC: crossed()}))
        refused = result.events[result.events["event"] == "guard"]
        assert refused[["reason", "market"]].astype(str).to_numpy().tolist() == [["crossed_book", BTC]]
        assert refused["account"].isna().all()

    @pytest.mark.parametrize("state", ["Closed", "CancelOnly", "PostOnly"])
    def test_nothing_is_sold_into_a_book_that_is_closed(self, state):
        """It gives no mark either."""
        engine = make_engine(WEAK, state=state)
        result = engine.step(Tick(START, {BTC: MARK}, {BTC: book()}))
        assert {("guard", "closed_book"), ("expire", "no_book")} <= happened(result)
        assert not (result.events["event"] == "book").any()
        with pytest.raises(RiskDataError, match="a mark is needed"):
            make_engine(WEAK, state=state).step(Tick(START, {}, {BTC: book()}))

    @pytest.mark.parametrize("state", ["Open", "LimitOnly", None])
    def test_a_book_that_takes_limit_orders_is_sold_into(self, state):
        result = make_engine(WEAK, state=state).step(Tick(START, {BTC: MARK}, {BTC: book()}))
        assert (result.events["event"] == "book").any()

    def test_an_unknown_state_of_a_book_is_refused(self):
        with pytest.raises(
            RiskDataError, match=r"^venue.markets\[0\].orderBookState, value 'Shut': must be one of Open"
        ):
            make_engine(WEAK, state="Shut")

    def test_stale_book_is_refused_on_record(self):
        engine = make_engine(WEAK)
        tick = Tick(START, {BTC: MARK}, {BTC: book()}, book_times={BTC: START - 61 * SECOND})
        assert {("guard", "stale_book"), ("expire", "no_book")} <= happened(engine.step(tick))

    def test_duplicated_book_serves_once_where_it_refills(self):
        """The same snapshot again is the same liquidity: what was taken comes back with the half-life alone."""
        thin = {"bids": [(99_999.0, 0.05)], "asks": [(100_001.0, 0.05)]}
        filled = {}
        for refill in (None, 10):
            engine = make_engine(WEAK, refill_half_life=refill, liquidation_interval=None)
            lots = []
            for n in (0, 10):
                events = engine.step(Tick(START + n * SECOND, {BTC: MARK}, {BTC: thin})).events
                lots.append(-int(events.loc[events["lots"] < 0, "lots"].sum()))
            filled[refill] = lots
        assert filled == {None: [50, 50], 10: [50, 25]}

    def test_duplicated_levels_are_refused_and_nothing_changes(self):
        engine = make_engine(WEAK)
        before = whole_state(engine)
        twice = {"bids": [(99_999.0, 1.0), (99_999.0, 1.0)]}
        with pytest.raises(RiskDataError, match="must get worse from level to level"):
            engine.step(Tick(START, {BTC: MARK}, {BTC: twice}))
        assert whole_state(engine) == before

    def test_wick_of_60_percent_liquidates_nobody_and_fills_nothing(self):
        """Bids and asks 60 % lower for one tick: the computed mark moves by its update cap, the fill by no band."""
        engine = make_engine([*HEALTHY, (5, 1.0, 600.0)])
        for n in range(30):
            engine.step(Tick(START + n * SECOND, {}, {BTC: {}}, indexes={BTC: MARK}))
        low = {"bids": [(40_000.0, 50.0)], "asks": [(40_010.0, 50.0)]}
        result = engine.step(Tick(START + 30 * SECOND, {}, {BTC: low}, indexes={BTC: MARK}))
        assert result.accounts.ids[result.selected].tolist() == [5]  # was past the trigger before
        assert engine.guard_state.mark[0] >= MARK * 0.9975
        assert ("expire", "mean_mark") in happened(result)
        assert not (result.events["event"] == "book").any()


class TestPrints:
    def test_index_that_goes_mad_moves_by_its_cap(self):
        engine = make_engine(HEALTHY)
        quiet(engine, 5)
        result = engine.step(Tick(engine.time + SECOND, {}, {BTC: book()}, indexes={BTC: 3 * MARK}))
        assert ("guard", "index_update_cap") in happened(result)
        assert len(result.selected) == 0
        assert engine.guard_state.index[0] == MARK * 1.0025

    @pytest.mark.parametrize("factor", [0.4, 0.9, 1.1, 2.5])
    def test_mark_that_goes_mad_liquidates_nobody(self, factor):
        engine = make_engine(HEALTHY)
        quiet(engine, 5)
        tick = Tick(engine.time + SECOND, {BTC: MARK * factor}, {BTC: book()}, indexes={BTC: MARK})
        result = engine.step(tick)
        assert ("guard", "index_clamp") in happened(result)
        assert ("guard", "update_cap") in happened(result)
        refused = result.events.loc[result.events["reason"] == "index_clamp", "price"]
        assert refused.tolist() == [MARK * factor]
        assert len(result.selected) == 0

    def test_true_fall_arrives_second_by_second(self):
        """The cap delays a fall that stays; it does not hide it: 3 % take twelve seconds and more."""
        engine = make_engine(HEALTHY)
        quiet(engine, 5)
        fallen, seconds = MARK * 0.97, 0
        while engine.guard_state.mark[0] > fallen:
            engine.step(Tick(engine.time + SECOND, {BTC: fallen}, {BTC: book(fallen)}, indexes={BTC: fallen}))
            seconds += 1
        assert seconds == 13

    def test_mark_that_stops_follows_the_index_then_the_book_then_is_held(self):
        engine = make_engine(HEALTHY)
        quiet(engine, 5)
        for indexes, books in (({BTC: MARK}, {BTC: book()}), (None, {BTC: book()}), (None, None)):
            result = engine.step(Tick(engine.time + SECOND, {}, books, indexes=indexes))
            assert len(result.selected) == 0
            assert engine.guard_state.mark[0] == pytest.approx(MARK, rel=1e-9)
        assert ("guard", "mark_held") in happened(result)

    def test_mark_held_too_long_refuses_the_tick_and_changes_nothing(self):
        engine = make_engine(HEALTHY)
        quiet(engine, 5)
        before = whole_state(engine)
        with pytest.raises(RiskDataError, match="a mark is needed"):
            engine.step(Tick(engine.time + 61 * SECOND, {}))
        assert whole_state(engine) == before

    @pytest.mark.parametrize("step", [0, -1, -3600])
    def test_time_that_goes_backwards_is_refused_and_changes_nothing(self, step):
        engine = make_engine(WEAK)
        engine.step(Tick(START, {BTC: MARK}, {BTC: book()}))
        before, guard_state = whole_state(engine), frames(engine)
        with pytest.raises(RiskDataError, match=r"'2023-11-14 .*: must be later than the tick before, 2023-11-14 "):
            engine.step(Tick(START + step * SECOND, {BTC: MARK * 0.5}, {BTC: book(MARK * 0.5)}))
        assert whole_state(engine) == before
        assert frames(engine) == guard_state

    @pytest.mark.parametrize(
        "spoilt",
        [
            {"marks": {BTC: float("nan")}}, {"marks": {BTC: -1.0}}, {"marks": {"DOGE": 1.0}},
            {"indexes": {BTC: float("inf")}}, {"books": {BTC: {"bids": [(100.05, 1.0)]}}},
            {"books": {BTC: {"bids": [(100.0, 0.0001)]}}}, {"books": {BTC: {"bids": [(100.0, -1.0)]}}},
            {"book_times": {BTC: START + 3600 * SECOND}}, {"last_prices": {BTC: 0.0}},
        ],
        ids=str,
    )  # fmt: skip
    def test_refused_tick_changes_nothing(self, spoilt):
        engine = make_engine(WEAK)
        quiet_tick = {"marks": {BTC: MARK}, "books": {BTC: book()}, "indexes": {BTC: MARK}}
        engine.step(Tick(START, **quiet_tick))
        before, guard_state = whole_state(engine), frames(engine)
        with pytest.raises(RiskDataError):
            engine.step(Tick(START + SECOND, **quiet_tick | spoilt))
        assert whole_state(engine) == before
        assert frames(engine) == guard_state


def frames(engine: Engine) -> dict[str, list]:
    """What the guards remember, to be compared by equality."""
    return {name: frame.astype(str).to_numpy().tolist() for name, frame in engine.guard_state.frames().items()}


@pytest.mark.parametrize("order", ["mmr", "pro_rata", "random"])
def test_ten_thousand_at_the_trigger_and_depth_for_a_hundred(tmp_path, order):
    """Depth for a hundred slices: they are taken whole, in order, within the band; all is conserved and audited."""
    count = 10_000
    rng = np.random.default_rng(5)
    rows = [(10 + n, 0.1 if n % 2 else -0.1, float(e)) for n, e in enumerate(rng.uniform(40, 66, count).round(2))]
    engine = make_engine([*rows, (1, 1.0, 1e6), (2, -1.0, 1e6)], account_order=order)
    everything = totals(engine, engine.venue)
    # a tenth of 0.1 BTC is the minimum notional: 0.01 BTC
    levels = book(size=0.01, levels=50)
    levels["bids"].append((round(MARK * 0.985, 1), 1_000.0))  # below the band: nobody is sold there
    result = engine.step(Tick(START, {BTC: MARK}, {BTC: levels}))
    assert len(result.selected) == count
    fills = result.events[result.events["event"] == "book"]
    assert -fills.loc[fills["lots"] < 0, "lots"].sum() == fills.loc[fills["lots"] > 0, "lots"].sum() == 500
    assert fills["price"].between(MARK * 0.99, MARK * 1.01).all()
    assert totals(engine, engine.venue) == everything
    mmr = result.margins.mmr
    if order == "mmr":
        served = np.flatnonzero(np.isin(result.accounts.ids[result.selected], fills["account"]))
        assert (np.diff(mmr) <= 0).all()
        assert served.max() < 400
    if order == "pro_rata":
        assert len(set(fills["price"].round(6))) <= 12  # a side has one price, within the rounding of a quantum
    engine.save(tmp_path / "run")
    found = audit(tmp_path / "run")
    assert found.ok, found.breaches
