"""The worked examples of docs/one_tick.md: each is computed here, and the page shows its numbers."""

from __future__ import annotations

import math
import re
from copy import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import reference
from riskcore.clock import instants
from riskcore.margin import exact
from riskcore.market import Path as Path_
from riskcore.market import Segment
from riskcore.market.guards import GuardState, guard, guard_path
from tests import money_venues
from tests.comparison import assert_same_journal
from tests.money_venues import ETH, IBTC
from tests.strategies import Scene, TickInput

PAGE = (Path(__file__).parents[1] / "docs" / "one_tick.md").read_text(encoding="utf-8")
SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
NOON = 480_012 * HOUR
USDC = 10**6  # quanta
AT_100 = {"X": 100.0, "Y": 100.0}
PRICES = {"GEM": 100.0, "TOK": 10.0}
Row = dict[str, Any]


def example(title: str, *shown: str) -> list[Fraction]:
    """Numbers that the example of a subsection must show, as they stand there."""
    text = PAGE.split(f"\n### {title}\n")[1].split("\n*Example.* ")[1]
    text = re.split(r"\n\n|\n#", text)[0]
    for number in shown:
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])(?![.,]\d)", text), f"{title}: {number}"
    return [Fraction(number.replace(",", "")) for number in shown]


def market(symbol: str, *, imf: Any = "0.1", mmf: Any = "0.05", **price: Any) -> Row:
    """A perpetual as the page's X and Y: a lot is worth 1 USDC at a mark of 100."""
    flat = [f if isinstance(f, dict) else {"type": "sqrt", "base": f, "factor": "0"} for f in (imf, mmf)]
    filters = {"tickSize": "0.1", "minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01", **price}
    return {
        "symbol": symbol, "baseSymbol": symbol, "quoteSymbol": "USDC", "marketType": "PERP",
        "filters": {"price": filters, "quantity": {"stepSize": "0.01", "minQuantity": "0.01"}},
        "imfFunction": flat[0], "mmfFunction": flat[1],
    }  # fmt: skip


GEM_SPOT = {
    "symbol": "GEM_USDC", "baseSymbol": "GEM", "quoteSymbol": "USDC", "marketType": "SPOT",
    "filters": {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.01", "minQuantity": "0.01"}},
}  # fmt: skip


def source(markets: Any = None, weight: str = "0.9", backstop: Any = (), pools: Any = (), **policy: Any) -> Row:
    """The venue of the examples."""
    weights = {"USDC": "1", "GEM": weight, "TOK": weight}
    return {
        "settle_asset": "USDC",
        "markets": [market("X"), market("Y")] if markets is None else markets,
        "collateral": [
            {"symbol": symbol, "haircutFunction": {"weight": figure, "kind": {"type": "identity"}}}
            for symbol, figure in weights.items()
        ],
        "borrow_lend": list(pools),
        "policy": {"slice_probability": 1, "min_slice_notional": 1, "liquidation_interval": None, **policy},
        "backstop": list(backstop),
    }


def scene(venue: Row, accounts: Any, orders: Any = (), unsettled: Any = None, limit: float | None = None) -> Scene:
    """Accounts {id: {market: (quantity, entry price), asset: quantity or (free, lent)}}."""
    positions, balances = [], []
    for account, holdings in accounts.items():
        for symbol, held in holdings.items():
            if symbol in AT_100:
                row = {"account": account, "market": symbol, "quantity": float(held[0]), "entry_price": float(held[1])}
                positions.append(row)
            else:
                free, lent = held if isinstance(held, tuple) else (held, 0)
                balances.append({"account": account, "asset": symbol, "quantity": float(free), "lent": float(lent)})
    names = ("account", "market", "side", "price", "quantity", "reduce_only")
    rows = [dict(zip(names, order, strict=True)) for order in orders]
    limits = {} if limit is None else {"leverage_limit": limit}
    settings = [{"account": a, "unsettled": float((unsettled or {}).get(a, 0)), **limits} for a in accounts]
    return Scene(venue, positions, balances, rows, settings)


def at(seconds: float = 0, marks: Any = None, books: Any = None, prices: Any = None, **others: Any) -> TickInput:
    """A tick some seconds after noon."""
    time = NOON + round(seconds * SECOND)
    return TickInput(
        time, AT_100 if marks is None else marks, others.pop("indexes", {}), prices or PRICES, books or {}, **others
    )


def run(scene: Scene, *ticks: TickInput) -> tuple[reference.State, list[Row]]:
    """The state and the rows of the last tick by the oracle; the engine's journal of every tick is the same."""
    oracle, state = scene.load_reference()
    venue, accounts = scene.load()
    engine, rows = rc.Engine(accounts, venue), []
    for tick in ticks:
        before = state
        state, rows, seen = reference.step(oracle, before, *tick.reference_arguments())
        assert_same_journal(engine.step(tick.tick()), rows, oracle, before, seen.prices)
    return state, rows


def of(rows: list[Row], event: str, *columns: str) -> list[Any]:
    """Columns of the rows of an event, or the column if it is one."""
    found = [tuple(row[name] for name in columns) for row in rows if row["event"] == event]
    return [one[0] for one in found] if len(columns) == 1 else found


def look(holdings: Row, marks: Any = None, *, venue: Row | None = None, orders: Any = (), **settings: Any) -> Any:
    """The row of one account in a sweep, and its margin by the oracle."""
    own = scene(venue or source(), {1: holdings}, orders, **settings)
    loaded, accounts = own.load()
    table = rc.sweep(accounts, loaded, (marks or AT_100) | PRICES).to_frame().iloc[0]
    oracle, state = own.load_reference()
    prices = reference.Prices(marks or AT_100, asset_prices=PRICES).at(oracle, state)
    exact = reference.margin(oracle, state.accounts[1], prices)
    for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin"):
        assert table[name] == pytest.approx(float(getattr(exact, name)), rel=1e-12, abs=1e-9)
    assert bool(table["liquidatable"]) == exact.liquidating
    return exact


def money_source(**others: Any) -> Row:
    """X settles in USDT; a contract of Y is worth 1 USD and settles in BTC, with quanta of 0.00000001."""
    inverse = market("Y") | {"marketType": "IPERP", "baseSymbol": "BTC", "quoteSymbol": "USD"}
    inverse["filters"]["quantity"] = {"stepSize": "1", "minQuantity": "1"}
    found = source([market("X") | {"quoteSymbol": "USDT"}, inverse], **others)
    identity = {"weight": "1", "kind": {"type": "identity"}}
    found["collateral"] += [
        {"symbol": "USDT", "haircutFunction": identity},
        {"symbol": "BTC", "haircutFunction": identity, "quantum": "0.00000001"},
    ]
    return found


def money_at(seconds: float, mark: float, **others: Any) -> TickInput:
    """A tick with a mark of Y; USDT is at 1.25, and BTC follows Y."""
    return at(seconds, {"X": 100.0, "Y": float(mark)}, prices={"USDT": 1.25}, **others)


# ---- Numbers


def test_decimals_and_whole_units():
    value, down, up = example("Decimals and whole units", "250,250,000", "2", "4")
    assert reference.number(97000.1) == Fraction(970001, 10)
    assert Fraction(250 * 1001) * Fraction("0.1") * Fraction("0.01") / Fraction("0.000001") == value
    assert [reference.rhe(Fraction(5, 2)), reference.rhe(Fraction(7, 2))] == [down, up]


def test_contracts_and_settle_assets():
    title = "Contracts and settle assets"
    contracts, cost, value, quanta, coins, worth = example(
        title, "10,000", "-125,000,000", "-80,000,000", "45,000,000", "0.45", "5,625"
    )
    own = money_venues.source()
    own["markets"][2]["multiplier"] = "1"
    venue = rc.load_venue(own)
    positions = pd.DataFrame({"account": [1], "market": IBTC, "quantity": float(contracts), "entry_price": 8_000.0})
    accounts = rc.Accounts.from_frames(
        venue, positions, pd.DataFrame({"account": [1], "asset": "BTC", "quantity": 1.0})
    )
    quantum = Fraction("0.00000001")
    row = venue.markets.row[IBTC]
    assert accounts.columns.cost.tolist() == [cost]
    assert contracts * venue.markets.lot_value(row, Fraction(12_500)) == value * quantum
    assert (value - cost, (value - cost) * quantum, coins * 12_500) == (quanta, coins, worth)


def test_cost_cash_and_entry():
    released, cash, flip, flipped, cost = example("Cost, cash and entry", "250", "5", "-1,510", "20", "-510")
    change = reference.change_of_cost(1000, 1000 * USDC, -250, 255 * USDC)
    assert (-change, 255 * USDC + change) == (released * USDC, cash * USDC)
    change = reference.change_of_cost(1000, 1000 * USDC, -1500, 1530 * USDC)
    assert (change, 1530 * USDC + change, 1000 * USDC + change) == (flip * USDC, flipped * USDC, cost * USDC)


def test_times():
    day, gap = example("Times", "86,400", "86,400,000,000,000")
    venue, accounts = scene(source(), {1: {"USDC": 1}}).load()
    assert (venue.policy.largest_gap, gap) == (day, day * SECOND)
    for late in (0, 1):
        engine = rc.Engine(accounts, venue)
        engine.step(rc.Tick(NOON, AT_100))
        if late:
            with pytest.raises(rc.RiskDataError, match="largest_gap"):
                engine.step(rc.Tick(NOON + int(gap) + 1, AT_100))
        else:
            engine.step(rc.Tick(NOON + int(gap), AT_100))


# ---- Guards

CAPPED = {"minPriceUpdateMultiplier": "0.98", "maxPriceUpdateMultiplier": "1.01"}
HELD = {1: {"X": (10, 100), "USDC": 1000}}


def guarded(
    *ticks: TickInput, accounts: Any = None, **price: Any
) -> tuple[reference.State, list[Row], reference.Prices]:
    """State, rows and guarded prices of the last tick; ``price`` are figures of the market X."""
    own = scene(source([market("X", **price), market("Y")]), HELD if accounts is None else accounts)
    state, rows = run(own, *ticks)
    _, before = own.load_reference()
    oracle = reference.Venue(own.source)
    for tick in ticks:
        before, _, seen = reference.step(oracle, before, *tick.reference_arguments())
    return state, rows, seen.prices


def clock_run(*ticks: rc.Tick, **policy: Any) -> list[tuple[int, str, int]]:
    """Offset in ns from noon, event and lots of the rows of the page's account, long 1,000 lots with 40 USDC."""
    venue = rc.load_venue(source(**policy))
    positions = pd.DataFrame({"account": [1], "market": ["X"], "quantity": [10.0], "entry_price": [100.0]})
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [40.0]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    steps = [engine.step(tick) for tick in ticks]
    assert engine.accounts.columns.lots.tolist() == [1000 + sum(int(step.rows["lots"].sum()) for step in steps)]
    frame = pd.concat([step.raw_events for step in steps])
    times = frame["time"].astype("datetime64[ns, UTC]").astype("int64") - NOON
    return list(zip(times, frame["event"], frame["lots"], strict=True))


def test_instants():
    example("Instants", "100", "90", "61", "0.998933")
    half, end = NOON + SECOND // 2, NOON + 3 * SECOND
    for interval, seconds in ((1, [1, 2, 3]), (2, [2, 3])):
        venue = rc.load_venue(source(liquidation_interval=interval, realize_interval=3))
        stretch = Segment(half, end, venue, np.zeros(2, bool))
        assert ((instants([stretch], half, end) - NOON) / SECOND).tolist() == seconds
    book = {"X": {"bids": [(100.0, 50.0)], "asks": [(100.1, 50.0)]}}
    ticks = [rc.Tick(time, AT_100, book) for time in (half, end)]
    rows = clock_run(*ticks, liquidation_interval=1)
    assert [row for row in rows if row[1] == "book"] == [
        (SECOND // 2, "book", -100), (SECOND, "book", -90), (2 * SECOND, "book", -61)
    ]  # fmt: skip


def path_of(kind: str, before: rc.Tick, now: rc.Tick, seed: int = 0, **policy: Any) -> tuple[rc.Venue, Any, Any]:
    """The venue, the path between two ticks at a clock of one second, and the state of the guards at its begin."""
    venue = rc.load_venue(source(price_path=kind, **policy))
    prices = [rc.Prices.incomplete(venue, tick) for tick in (before, now)]
    time, end = before.nanoseconds(), now.nanoseconds(before.nanoseconds())
    state = guard(venue, GuardState.opening(venue), None, time, prices[0], before.columnar_books(venue)).guard_state
    accounts = scene(source(), HELD).load()[1]
    times = np.arange(time + SECOND, end + 1, SECOND)
    books = now.columnar_books(venue)
    return venue, Path_.between(venue, accounts, state.mark, prices[0], prices[1], books, time, times, seed), state


def test_path_between_two_ticks():
    title = "Path between two ticks"
    shown = example(title, "98.8", "97.6", "99.4", "101.2", "100", "97.9767", "96.624", "0.99", "0.01")
    ticks = (
        rc.Tick(NOON, {"X": 100.0}, indexes={"X": 99.0}),
        rc.Tick(NOON + 6 * SECOND, {"X": 98.8}, indexes={"X": 98.8}, lows={"X": 97.6}, highs={"X": 101.2}),
    )
    venue, path, _ = path_of("adverse", *ticks)
    mark, index = path.values(venue, 1, 5)
    assert mark[:, 0].tolist() == [float(x) for x in shown[:5]]
    assert index[0, 0] == float(shown[5])
    seeds = (path_of("hold", *ticks, seed=seed) for seed in range(9))
    venue, path, _ = next(found for found in seeds if found[1].values(found[0], 2, 2)[0][0, 0] == 97.6)
    mark, index = path.values(venue, 1, 5)
    assert mark[:, 0].tolist() == [100.0, 97.6, 97.6, 101.2, 101.2]
    assert index[1, 0] == float(shown[6]) == 97.6 * 0.99


def test_books_between_two_ticks():
    shown = example("Books between two ticks", "99.75", "-2.5", "-2", "99.7", "99.9", "60", "40", "80", "200")
    book = {"X": {"bids": [(99.9, 1.0), (0.2, 1.0)], "asks": [(100.1, 2.0)]}}
    ticks = rc.Tick(NOON, {"X": 100.0}, book), rc.Tick(NOON + 20 * SECOND, {"X": 99.0})
    venue, path, state = path_of("linear", *ticks, refill_half_life=10)
    instants_of = guard_path(venue, state, path)
    at = instants_of.at(4)
    assert instants_of.mark[4, 0] == float(shown[0])
    assert (at.books.price / 10).tolist() == [float(x) for x in shown[3:5]]
    assert at.books.lots.tolist() == [100, 200]
    at.guard_state.book_memory.record(np.array([20, 200]))
    assert instants_of.at(14).books.lots.tolist() == [60, 200]


def test_guards_of_collateral():
    shown = example("Guards of collateral", "50", "95", "99", "0.99", "1.01", "0.05", "100")
    venue = source()
    venue["collateral"][1]["priceGuard"] = {
        "minPriceUpdateMultiplier": "0.99", "maxPriceUpdateMultiplier": "1.01", "meanThreshold": "0.05",
    }  # fmt: skip
    loaded, accounts = scene(venue, HELD).load()
    engine = rc.Engine(accounts, loaded)
    for seconds, price in ((0, 100.0), (9, 100.0), (10, 50.0)):
        result = engine.step(rc.Tick(NOON + seconds * SECOND, AT_100, asset_prices={"GEM": price}))
    rows = result.raw_events[["event", "reason", "asset", "price"]].to_numpy().tolist()
    assert rows == [["guard", "mean_clamp", "GEM", float(shown[0])], ["guard", "update_cap", "GEM", float(shown[1])]]
    assert engine.guard_state.asset_price[1] == float(shown[2])


def test_instants_that_are_left_out():
    text = PAGE.split("### Instants that are left out")[1].split("*Example.*")[1][:500]
    assert all(time in text for time in ("12:00:58", "12:01:01", "12:00:59", "12:01:00"))
    ticks = [rc.Tick(NOON + second * SECOND, AT_100) for second in (58, 61)]
    rows = clock_run(*ticks, liquidation_interval=1)
    assert [(time // SECOND, event) for time, event, _ in rows] == [
        (58, "trigger"), (58, "expire"), (60, "trigger"), (60, "expire"), (61, "trigger"), (61, "expire")
    ]  # fmt: skip


def test_order_and_rows():
    capped, mark, used = example("Order and rows", "110", "120", "101")
    crossed = {"Y": {"bids": [(101.0, 1.0)], "asks": [(100.0, 1.0)]}}
    ticks = at(indexes={"X": 100.0}), at(1, AT_100 | {"X": 120.0}, crossed, indexes={"X": 110.0})
    _, rows, prices = guarded(*ticks, **CAPPED)
    assert of(rows, "guard", "reason", "market") == [
        ("index_update_cap", "X"), ("update_cap", "X"), ("crossed_book", "Y"),
    ]  # fmt: skip
    assert of(rows, "guard", "price")[:2] == [capped, mark]
    assert prices.indexes["X"] == prices.marks["X"] == used


def test_book():
    stale, fresh, *touches = example("Book", "61", "60", "100.1", "100", "99.9", "99.95")
    for age, reasons in ((stale, ["stale_book"]), (fresh, [])):
        time = {"X": NOON - int(age) * SECOND}
        book = {"X": {"bids": [(99.9, 1.0)], "asks": [(100.0, 1.0)]}}
        assert of(guarded(at(books=book, book_times=time))[1], "guard", "reason") == reasons
    crossing, ask, bid, mid = map(float, touches)
    for best, reasons in ((crossing, ["crossed_book"]), (bid, [])):
        book = {"X": {"bids": [(best, 1.0)], "asks": [(ask, 1.0)]}}
        state, rows, _ = guarded(at(books=book, indexes={"X": 90.0}))
        assert of(rows, "guard", "reason")[: len(reasons)] == reasons
    assert state.guard_states["X"].basis == pytest.approx(mid - 90)


def test_index():
    previous, given, seconds, used = example("Index", "100", "110", "2.9", "102.01")
    ticks = (at(t, indexes={"X": float(i)}) for t, i in ((0, previous), (float(seconds), given)))
    prices = guarded(*ticks, **CAPPED)[2]
    assert float(prices.indexes["X"]) == pytest.approx(float(used), abs=1e-12)


def book_around(mid: float) -> Row:
    return {"X": {"bids": [(mid - 0.5, 1.0)], "asks": [(mid + 0.5, 1.0)]}}


def test_basis_and_mark():
    first, second, decay, basis = example("Basis", "1", "3", "0.367879", "2.264241")
    index, mark, median = example("Mark", "100", "102.264241", "101")
    indexes = {"X": float(index)}
    ticks = [
        at(n * 60, books=book_around(float(index + off)), indexes=indexes) for n, off in enumerate((first, second))
    ]
    state, *_ = guarded(*ticks)
    assert round(math.exp(-1), 6) == float(decay)
    assert round(state.guard_states["X"].basis, 6) == float(basis)
    assert example("Mark", "2.264241") == [basis]
    prices = guarded(*ticks, at(61, {"Y": 100.0}, indexes=indexes))[2]
    assert round(float(prices.marks["X"]), 6) == float(mark)
    bid, ask, last = map(float, example("Mark", "99", "101", "120"))
    book = {"X": {"bids": [(bid, 1.0)], "asks": [(ask, 1.0)]}}
    assert guarded(at(0, {"Y": 100.0}, book, last_prices={"X": last}))[2].marks["X"] == median


def test_clamp_to_the_index_and_update_cap():
    mark, index, clamped, used = example("Clamp to the index and update cap", "110", "100", "105", "101")
    _, rows, prices = guarded(at(), at(1, {"X": float(mark), "Y": 100.0}, indexes={"X": float(index)}), **CAPPED)
    assert of(rows, "guard", "reason", "price") == [("index_clamp", mark), ("update_cap", clamped)]
    assert prices.marks["X"] == used


def test_ranges():
    most, units, small, large = example(
        "Ranges", "4,611,686,018,427,387,904", "100,000,000", "150,000,000,000,000,000", "5,100,000,000,000,000,000"
    )
    assert most == 2**62
    assert 5 * 3 * units * 100 * USDC == small
    assert 5 * units * (10_000 + 2 * 100) * USDC == large
    accounts = {n: {"X": (float(units) * (-1) ** n, 100)} for n in range(5)}
    venue, held = scene(source([market("X", maxPrice="10000")]), accounts).load()
    rc.Engine(held, venue).step(rc.Tick(NOON, {"X": 100.0}))
    with pytest.raises(rc.RiskDataError, match="2\\*\\*62"):
        rc.Engine(held, venue).step(rc.Tick(NOON, {"X": 10_000.0}))


def test_samples():
    before, after, unit, other, mean = example("Samples", "100", "111", "1,000,000", "1,110,000", "101")
    state, *_ = guarded(at(0, {"X": float(before), "Y": 100.0}), at(10, {"X": float(after), "Y": 100.0}))
    found = [mark for mark, _ in reference.samples(state.guard_states["X"].used, NOON + 10 * SECOND).values()]
    assert found == [unit] * 10 + [other]
    assert reference.mean_of(found, None) / 1000 * Fraction("0.1") == mean


def test_bands():
    bid, ask, low, high, sale, purchase = example("Bands", "99.5", "100.5", "98.505", "101.505", "98.6", "101.5")
    bounds = {"bids": (bid, "0.99", low, sale), "asks": (ask, "1.01", high, purchase)}
    for side, (touch, multiplier, bound, price) in bounds.items():
        assert touch * Fraction(multiplier) == bound
        assert reference.tightest(side, Fraction("0.1"), {"impact": bound}).price == price


def test_refill():
    first, second, *later = (int(n) for n in example("Refill", "60", "40", "30", "20", "30", "180"))
    own = scene(source(refill_half_life=10, position_order="largest"), {1: {"X": (10, 100), "USDC": 45}})
    book = {"X": {"bids": [(100.0, 0.6), (99.9, 2.0)]}}
    state, rows = run(own, at(0, AT_100, book))
    assert of(rows, "book", "lots") == [-first - second]
    assert [level[2] for level in state.books["X"]["bids"]] == [first, second]
    tick = reference.Tick(reference.Venue(own.source), state, NOON + 10 * SECOND, reference.Prices(AT_100), 0)
    tick.guards(book, None, None)
    assert [level[2][2] for level in tick.levels["X", "bids"]] == later[:2]
    assert [level[1] for level in tick.levels["X", "bids"]] == later[2:]


# ---- Prices and margins


def test_prices():
    text = PAGE.split("\n## Prices\n")[1].split("*Example.*")[1].split("\n## ")[0]
    markets = [market("GEM"), market("GEM") | {"symbol": "GEM_DATED"}]
    oracle = reference.Venue(source(markets))
    prices = reference.Prices({"GEM_DATED": 2}, {"GEM_DATED": 2.5})
    assert f"GEM is worth {float(prices.of_asset(oracle, 'GEM'))}." in text
    assert prices.of_quantum(oracle, "GEM") == prices.of_asset(oracle, "GEM")


def test_balances():
    value, weight, maintenance, initial = example("Balances", "1,305", "0.909091", "62.5", "125")
    collateral = reference.Venue(source()).assets["GEM"]
    assert 10 * 145 * collateral.effective_weight(Fraction(1450)) == value
    kind = {"type": "inverseSqrt", "base": "1", "positiveCurvePenalty": "0.0001"}
    row = {"symbol": "GEM", "haircutFunction": {"weight": "0.95", "kind": kind}}
    assert round(float(reference.Asset(row, "0.20").effective_weight(Fraction(10**6))), 6) == float(weight)
    margin = look({"USDC": -1250, "GEM": 20})
    assert (margin.maintenance_margin, margin.initial_margin) == (maintenance, initial)


def test_positions_and_orders():
    title = "Positions and orders"
    exposure, maintenance, initial, limited = example(title, "500", "15", "50", "100")
    orders = [(1, "X", "bid", 99.0, 5.0, False), (1, "X", "ask", 101.0, 2.0, False), (1, "X", "ask", 101.0, 9.0, True)]
    for limit, required in ((None, initial), (5.0, limited)):
        margin = look({"X": (-3, 100), "USDC": 1000}, orders=orders, limit=limit)
        assert (margin.exposure, margin.maintenance_margin) == (exposure, maintenance)
        assert margin.initial_margin == required


def test_margin_functions():
    title = "Margin functions"
    small, large, grown, least, tiers, share = example(title, "100", "6,400,000", "200", "5", "1,400", "0.51")
    by_root = reference.square_root_function({"base": "0.01", "factor": "0.0001"})
    assert (by_root(Fraction(10_000)), by_root(Fraction(16_000_000))) == (small, large)
    linear = reference.linear_function({"base": "0.01", "slope": "0.000001", "minimum": 5})
    assert (linear(Fraction(10_000)), linear(Fraction(100))) == (grown, least)
    brackets = [{"from": 0, "rate": "0.01"}, {"from": 10_000, "rate": "0.02"}, {"from": 50_000, "rate": "0.05"}]
    assert reference.tier_function({"brackets": brackets})(Fraction(60_000)) == tiers
    by_interest = reference.open_interest_function({"base": "0.02", "lower": 10**6, "upper": 2 * 10**6})
    assert by_interest(Fraction(1), 1, 1_500_000) == share


def test_money_assets():
    price, weight, held, counted, negative, full = example(
        "Money assets", "0.9995", "0.95", "1,100", "1,044.4775", "-60", "-59.97"
    )
    venue = money_venues.venue()
    for balance, entry, size, equity in ((1_000.0, 3_900.0, held, counted), (40.0, 4_100.0, negative, full)):
        positions = pd.DataFrame({"account": [1], "market": ETH, "quantity": 1.0, "entry_price": entry})
        balances = pd.DataFrame({"account": [1], "asset": "USDT", "quantity": balance})
        accounts = rc.Accounts.from_frames(venue, positions, balances)
        prices = rc.Prices.read(venue, accounts, money_venues.MARKS, asset_prices={"USDT": float(price)})
        assert Fraction(exact.account_margin(accounts, 0, prices).equity) == equity
        assert size * price * (weight if size > 0 else 1) == equity


def test_net_equity_margins_and_status():
    title = "Net equity, margins and status"
    equity, exposure, maintenance, initial, mmr, imr = example(title, "40", "1,000", "50", "100", "1.25", "2.5")
    margin = look({"X": (10, 100), "USDC": 40})
    assert (margin.net_equity, margin.exposure) == (equity, exposure)
    assert (margin.maintenance_margin, margin.initial_margin) == (maintenance, initial)
    assert (margin.mmr, margin.imr, margin.liquidating, margin.below_auto_close) == (mmr, imr, True, False)
    by_divisor, by_offset = example(title, "25", "-10")
    assert (maintenance / 2, maintenance - Fraction("0.06") * exposure) == (by_divisor, by_offset)
    assert look({"X": (10, 100), "USDC": 24.999999}).below_auto_close
    assert not look({"USDC": 0}, unsettled={1: -1}).liquidating


# ---- Between the ticks


def test_instants_and_order():
    text = PAGE.split("\n### Instants and order\n")[1].split("*Example.*")[1].split("\n### ")[0]
    own = scene(source(pools=[{"symbol": "USDC"}]), {1: {"USDC": -1, "GEM": 1}, 2: {"USDC": (0, 1)}})
    _, rows = run(own, at(-1), at(7200))
    due = of(rows, "interest", "reason", "account").count(("hour", 1))
    assert f"{ {3: 'three'}[due] } instants" in text


def test_interest():
    title = "Interest"
    used, charged, earned, kept = example(title, "0.5", "59,703", "53,733", "5,970")
    flat = {"borrow_rate_base": "0.0523", "borrow_rate_slope": 0, "borrow_rate_jump": 0}
    accounts = {1: {"USDC": -10_000, "GEM": 200}, 2: {"USDC": (0, 20_000)}}
    state, rows = run(scene(source(pools=[{"symbol": "USDC", "fee": "0.1"}], **flat), accounts), at(), at(3600))
    assert Fraction(10_000, 20_000) == used
    assert of(rows, "interest", "quanta", "lent") == [(-charged, 0), (0, earned)]
    assert state.pool["USDC"] == kept


def test_funding_and_premiums():
    first, second, mean, rate, paid = example("Funding", "0.001", "0.003", "0.002", "0.0001875", "187,500")
    mark, index, added = example("Premiums", "100.3", "100", "0.003")
    markets = [market("X") | {"fundingInterval": 3_600_000}, market("Y")]
    marks = [{"X": 100 * (1 + float(premium)), "Y": 100.0} for premium in (first, second)]
    ticks = [at(n, marked, indexes={"X": 100.0}) for n, marked in enumerate(marks)]
    own = scene(source(markets), HELD)
    state, _ = run(own, *ticks)
    assert round(state.premiums["X"][0] / state.premiums["X"][1], 12) == float(mean)
    assert round(float((mark - index) / index), 12) == float(added)
    _, rows = run(own, *ticks, at(3600))
    assert of(rows, "funding", "cash") == [-paid]
    assert rate * 1000 * USDC == paid
    contracts, mark, coins = example("Funding", "20,000", "10,000", "37,500")
    venue = money_source()
    venue["markets"][1] |= {"fundingInterval": 3_600_000}
    own = scene(venue, {1: {"Y": (contracts, mark), "BTC": 1}})
    _, rows = run(own, money_at(0, mark), money_at(3600, mark, funding_rates={"Y": float(rate)}))
    assert of(rows, "funding", "settle", "cash") == [("BTC", -coins)]


def stepped(own: Scene, *ticks: rc.Tick) -> tuple[rc.Engine, pd.DataFrame]:
    """An engine after some ticks, and the events of the last one."""
    venue, accounts = own.load()
    engine = rc.Engine(accounts, venue)
    return engine, [engine.step(tick) for tick in ticks][-1].events


def tick_at(seconds: float, marks: Any = None, **events: Any) -> rc.Tick:
    return rc.Tick(NOON + round(seconds * SECOND), AT_100 if marks is None else marks, asset_prices=PRICES, **events)


def test_funding_table():
    paid, received = example("Funding table", "1,000,000", "500,000")
    holdings = {1: {"X": (10, 100), "USDC": 500}}
    rows = [{"time": NOON + n * MINUTE, "market": "X", "rate": rate} for n, rate in ((10, 0.001), (40, -0.0005))]
    for interval in (None, 1):
        own = scene(
            source([market("X") | {"fundingInterval": 1_800_000}, market("Y")], liquidation_interval=interval), holdings
        )
        _, events = stepped(own, tick_at(0), tick_at(3600, funding=rows))
        assert events[["event", "reason", "cash"]].to_numpy().tolist() == [
            ["funding", "rate", -paid], ["funding", "rate", received],
        ]  # fmt: skip
    minutes = (events["time"] - pd.Timestamp(NOON, unit="ns", tz="UTC")) // pd.Timedelta("1min")
    assert minutes.tolist() == [10, 40]


def test_changes_of_markets_and_assets():
    title = "Changes of markets and assets"
    maintenance, before, changed, after = example(title, "50", "0.833333", "80", "1.333333")
    own = scene(source(liquidation_interval=1), {1: {"X": (10, 100), "USDC": 60}})
    rows = [{"time": NOON + 30 * SECOND, "market": "X", "field": "mmfFunction.base", "value": "0.08"}]
    _, events = stepped(own, tick_at(0), tick_at(60, venue_changes=rows))
    assert look({"X": (10, 100), "USDC": 60}).maintenance_margin == maintenance
    assert round(float(look({"X": (10, 100), "USDC": 60}).mmr), 6) == float(before)
    first = events.iloc[0]
    assert (first["event"], first["time"]) == ("trigger", pd.Timestamp(NOON + 30 * SECOND, unit="ns", tz="UTC"))
    assert round(first["mmr_before"], 6) == float(after)
    dearer = source([market("X", mmf="0.08"), market("Y")])
    assert look({"X": (10, 100), "USDC": 60}, venue=dearer).maintenance_margin == changed


def test_delisting():
    price, paid, received = example("Delisting", "95.5", "45,000,000", "10,000,000")
    holdings = {1: {"X": (10, 100), "USDC": 500}, 2: {"X": (-4, 98), "USDC": 500}}
    own = scene(source(liquidation_interval=1), holdings, orders=[(1, "X", "bid", 99.0, 1.0, False)])
    rows = [{"time": NOON + 30 * SECOND, "market": "X", "field": "delist", "value": float(price)}]
    engine, events = stepped(own, tick_at(0), tick_at(60, venue_changes=rows))
    assert events[["event", "reason", "account", "cash"]].to_numpy().tolist() == [
        ["cancel", "delisted", 1, 0], ["delist", "settlement_price", 1, -paid],
        ["delist", "settlement_price", 2, received],
    ]  # fmt: skip
    assert len(engine.step(tick_at(3700, {"Y": 100.0})).rows) == 0


def test_realisation():
    mark, long, cost, short = example("Realisation", "103", "30", "1,030", "-12")
    accounts = {1: {"X": (10, 100), "USDC": 90}, 2: {"X": (-4, 100), "USDC": 400}}
    marks = {"X": float(mark), "Y": 100.0}
    state, rows = run(scene(source(realize_interval=60), accounts), at(0, marks), at(60, marks))
    assert of(rows, "realize", "cash") == [long * USDC, short * USDC]
    assert state.accounts[1].positions["X"] == [1000, cost * USDC, 1000 * USDC]
    contracts, entry, cost, mark, value, profit = example(
        "Realisation", "20,000", "8,000", "-250,000,000", "10,000", "-200,000,000", "50,000,000"
    )
    own = scene(money_source(realize_interval=60), {1: {"Y": (contracts, entry), "BTC": 1}})
    assert own.load()[1].columns.cost.tolist() == [cost]
    state, rows = run(own, money_at(0, mark), money_at(60, mark))
    assert of(rows, "realize", "settle", "cash") == [("BTC", profit)]
    assert state.accounts[1].positions["Y"] == [contracts, value, cost]


def test_settlement():
    redeemed, sold, proceeds, left = example("Settlement", "52,631", "102,631", "10,263,100", "9,736,900")
    gem = {"symbol": "GEM", "borrowedQuantity": "0.9", "throttleUtilizationThreshold": "0.95"}
    usdc = {"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 50, "state": "Closed"}
    accounts = {1: {"X": (10, 100), "USDC": 0, "GEM": ("0.05", 1)}}
    own, marks = scene(source(pools=[usdc, gem], realize_interval=60), accounts), {"X": 98.0, "Y": 100.0}
    _, rows = run(own, at(1799, marks), at(1800, marks))
    assert of(rows, "redeem", "quanta") == [redeemed]
    assert of(rows, "convert", "quanta", "cash") == [(-sold, proceeds)]
    assert of(rows, "unsettle", "cash", "unsettled") == [(left, -left)]
    due, usdc, mark, per_quantum, sold = example("Settlement", "2,000", "1,000", "50,000", "500", "1,000,000")
    venue = money_source(pools=[{"symbol": "BTC", "state": "Closed"}])
    venue["markets"][1] |= {"fundingInterval": 3_600_000}
    own = scene(venue, {1: {"Y": (10_000, mark), "USDC": usdc}})
    _, rows = run(own, money_at(0, mark), money_at(3600, mark, funding_rates={"Y": 0.0001}))
    assert of(rows, "funding", "cash") == [-due]
    assert of(rows, "convert", "asset", "quanta", "settle", "cash") == [("USDC", -sold, "BTC", due)]
    assert due * per_quantum == sold


# ---- Shared procedures


def test_largest_passing_number():
    limit, largest, *tried = example("Largest passing number", "10", "6", "10", "5", "7", "6")
    seen = []
    assert reference.largest_passing(int(limit), lambda n: seen.append(n) or n <= largest) == largest
    assert seen == tried


def test_water_filling():
    lots, first, second, *portions = (int(n) for n in example("Water-filling", "1,000", "700", "500", "583", "416"))
    rooms = example("Water-filling", "117", "84")
    taken = example("Water-filling", "584", "416")
    limits = {7: first, 8: second}
    assert [lots * limit // (first + second) for limit in limits.values()] == portions
    assert [limit - part for limit, part in zip(limits.values(), portions, strict=True)] == rooms
    assert list(reference.water_fill(lots, limits, limits).values()) == taken


def test_cumulative_rounding():
    amount, size, *parts = (int(n) for n in example("Cumulative rounding", "10", "3", "3", "4", "3"))
    assert [reference.part(amount, n, n + 1, size) for n in range(size)] == parts


def test_integer_weights():
    first, second, *whole = example("Integer weights", "3", "1.5", "206,158,430,208", "103,079,215,104")
    assert list(reference.integer_weights({1: first, 2: second}).values()) == whole


def test_healthy_accounts():
    equity, margin, limit, edge = example("Healthy accounts", "55", "50", "0.9", "49.5")
    held = look({"X": (10, 100), "USDC": float(equity)})
    assert (held.net_equity, held.maintenance_margin, limit * equity) == (equity, margin, edge)
    oracle = reference.Venue(source())
    tick = reference.Tick(oracle, reference.load_state(oracle, [], []), 0, reference.Prices({}), 0)
    assert tick.stays_healthy(held)
    tick.venue.policy["counterparty_mmr"] = limit
    assert not tick.stays_healthy(held)


def test_owners():
    example("Owners", "1,000", "102", "20", "95", "110", "2,000", "98", "5,000")
    accounts = {1: {"X": (10, 102), "USDC": 20}, 2: {"X": (-10, 110), "USDC": 5000}, 3: {"X": (-20, 98), "USDC": 5000}}
    alone = scene(source(), accounts)
    owned = scene(source(), accounts)
    owned.settings[1]["owner"] = 1
    for one, counterparty in ((alone, 2), (owned, 3)):
        rows = run(one, at(marks={"X": 95.0, "Y": 100.0}))[1]
        assert of(rows, "adl", "counterparty", "lots") == [(counterparty, -1000)]


# ---- The phases

DEEP = {"X": {"bids": [(100.0, 100.0)], "asks": [(100.1, 100.0)]}}
LONG = {"X": (10, 100), "USDC": 40}


def test_select():
    ratios = example("Select", "1.1111", "1.25")
    order = example("Select", "2", "3", "1")
    accounts = {1: LONG | {"USDC": 45}, 2: {"X": (5, 100), "USDC": 20}, 3: LONG}
    rows = of(run(scene(source(), accounts), at())[1], "trigger", "account", "mmr_before")
    assert [account for account, _ in rows] == order
    assert [round(mmr, 4) for _, mmr in rows] == [float(ratios[1]), float(ratios[1]), float(ratios[0])]


def test_stages():
    lots, mmr, room, price, slice_, rest, first = example("Stages", "1,000", "1.25", "400", "96", "60", "600", "100")
    accounts = {1: LONG, 3: {"X": (-room / 100, 120), "USDC": 1000}}
    rows = run(scene(source(stages=["adl", "book"]), accounts), at(0, AT_100, DEEP))[1]
    assert of(rows, "trigger", "mmr_after") == [mmr]
    assert of(rows, "adl", "lots", "price", "reason") == [(-room, price, "backstop_exhausted")]
    assert of(rows, "book", "lots") == [-slice_]
    rows = run(scene(source(), accounts), at(0, AT_100, DEEP))[1]
    assert (of(rows, "adl", "lots"), of(rows, "book", "lots"), lots - room) == ([], [-first], rest)


def test_cancel():
    ask, above, bid, below, after = example("1 Cancel", "50", "101", "100", "99", "0")
    orders = [
        (1, "X", "ask", float(above), float(ask / 100), False),
        (1, "X", "bid", float(below), float(bid / 100), False),
    ]
    rows = run(scene(source(), {1: {"USDC": 0}}, orders), at())[1]
    assert of(rows, "cancel", "requested", "mmr_after") == [(bid, math.inf), (ask, after)]


def test_rounds():
    equity, margin, first, lots, second = example("Rounds", "70", "80", "500,000", "60", "344,445")
    after = example("Rounds", "68.555555", "68.55555")
    holdings = {"X": (6, 100), "GEM": -5, "USDC": 570}
    before = look(holdings)
    assert (before.net_equity, before.maintenance_margin) == (equity, margin)
    state, rows = run(scene(source(slices_per_tick=3), {1: holdings}), at(0, AT_100, DEEP))
    events = [(row["event"], row["quanta"] or -row["lots"]) for row in rows if row["event"] != "trigger"]
    assert events == [("convert", first), ("book", lots), ("convert", second)]
    margin = reference.margin(
        reference.Venue(source()), state.accounts[1], reference.Prices(AT_100, asset_prices=PRICES)
    )
    assert [margin.net_equity, margin.maintenance_margin] == after


def test_throttle():
    first, third, limit = example(
        "Throttle", "16,294,208,416,658,607,535", "487,617,019,471,545,679", "9,223,372,036,854,775,808"
    )
    assert (reference.draw(0, 0), reference.draw(0, 2), 2**63) == (first, third, limit)
    assert third < limit <= first
    draws = [reference.draw(reference.account_key(0, NOON, account), 0) for account in range(1, 6)]
    accounts = {account: LONG for account in range(1, 6)}
    rows = run(scene(source(slice_probability="0.5"), accounts), at(0, AT_100, DEEP))[1]
    assert of(rows, "skip", "account", "reason") == [
        (account, "throttle") for account, draw in enumerate(draws, 1) if draw >= limit
    ]


def test_repay_target_and_redemption():
    title = "2 Repay: target and redemption"
    debt, equity, margin, target, redeemed = example(title, "1,250", "55", "62.5", "125,000,000", "1,000,000")
    venue = source(min_slice_notional=100)
    own, prices = scene(venue, {1: {"USDC": -float(debt), "GEM": 10}}), {"GEM": 145.0}
    oracle, state = own.load_reference()
    tick = reference.Tick(oracle, state, NOON, reference.Prices(AT_100, asset_prices=prices), 0)
    assert (tick.look(1).net_equity, tick.look(1).maintenance_margin) == (equity, margin)
    assert tick.repay_target(1, "USDC") == target
    rows = run(scene(source(), {1: {"USDC": 900, "GEM": (-10, 2)}}), at())[1]
    assert of(rows, "redeem", "quanta")[0] == redeemed


def test_repay_selling_collateral():
    need, upper, sold, value, fee = example(
        "2 Repay: selling collateral", "125", "870,777", "689,656", "100,000,120", "1,000,001"
    )
    assert math.ceil(need * USDC / (145 * Fraction("0.99"))) == upper
    own = scene(source(min_slice_notional=100), {1: {"USDC": -1250, "GEM": 10}})
    rows = run(own, at(prices={"GEM": 145.0}))[1]
    assert of(rows, "convert", "quanta", "cash", "fee") == [(-sold, value, fee)]


def unequal(holdings: Row, **policy: Any) -> tuple[Any, list[Row]]:
    """Margin and rows of an account in debt where GEM at 50 counts in full and TOK at 10 with a weight of 0.8."""
    venue, prices = source(**policy), {"GEM": 50.0, "TOK": 10.0}
    for row, weight in zip(venue["collateral"][1:], ("1", "0.8"), strict=True):
        row["haircutFunction"]["weight"] = weight
    own = scene(venue, {1: {"USDC": -900, **holdings}})
    oracle, state = own.load_reference()
    margin = reference.margin(oracle, state.accounts[1], reference.Prices({}, asset_prices=prices).at(oracle, state))
    return margin, run(own, at(marks={}, prices=prices))[1]


def test_repay_order_of_collateral():
    title = "2 Repay: order of collateral"
    equity, margin, need, dear, cheap = example(title, "40", "45", "90", "0.0101", "-0.1919")
    before, rows = unequal({"GEM": 14, "TOK": 30})
    assert (before.net_equity, before.maintenance_margin) == (equity, margin)
    value = need / Fraction("0.99")
    assert [round((weight * value - need) / need, 4) for weight in (Fraction(1), Fraction("0.8"))] == [dear, cheap]
    assert of(rows, "convert", "asset") == ["TOK"]


def test_repay_do_no_harm():
    title = "2 Repay: do no harm"
    shown = ("8", "45", "9.08", "44.946", "408.6", "359.568", "8", "44")
    equity, margin, loss, relief, harm, help_, gain, points = example(title, *shown)
    before, rows = unequal({"GEM": "18.16"})
    assert (before.net_equity, before.maintenance_margin) == (equity, margin)
    assert (loss * margin, relief * equity, 900 * Fraction("0.05") * equity / margin) == (harm, help_, gain)
    assert of(rows, "harm", "asset", "reason", "requested", "price") == [("GEM", "fee_waived", 18_160_000, 50.0)]
    assert of(rows, "convert", "fee")[0] == round(of(rows, "convert", "cash")[0] * points / 10_000)


def test_repay_size():
    upper, gained, freed, sold, value, fee = example(
        "2 Repay: size", "9,090,910", "0.19", "0.0495", "2,087,683", "20,876,830", "208,768"
    )
    before, rows = unequal({"GEM": 14, "TOK": 30})
    assert upper == math.ceil(90 * USDC / (10 * Fraction("0.99")))
    missing = before.maintenance_margin - before.net_equity
    assert abs(missing * USDC / (gained + freed) / 10 - sold) < 1
    assert of(rows, "convert", "quanta", "cash", "fee") == [(-sold, value, fee)]


def test_repay_fee():
    equity, value, whole, fee = example("2 Repay: fee", "1", "901", "9.01", "1")
    before, rows = unequal({"GEM": "18.02"}, harmful_slice="send")
    assert (before.net_equity, value / 100) == (equity, whole)
    assert of(rows, "convert", "cash", "fee", "mmr_after") == [(value * USDC, fee * USDC, 0)]


def test_repay_buying_a_debt():
    title = "2 Repay: buying a debt"
    equity, margin, target, missing, sold, proceeds, paid, bought, value, fee = example(
        title, "82", "100", "1,000,000", "81", "8,181,819", "81,818,190", "818,182", "1,000,000", "100,000,000",
        "1,000,000",
    )  # fmt: skip
    holdings = {"USDC": 20, "GEM": -10, "TOK": 118}
    before = look(holdings)
    assert (before.net_equity, before.maintenance_margin) == (equity, margin)
    assert target * 100 * Fraction("1.01") == (missing + 20) * USDC
    rows = of(run(scene(source(), {1: holdings}), at())[1], "convert", "asset", "quanta", "cash", "fee")
    assert rows == [("TOK", -sold, proceeds, paid), ("GEM", bought, -value, fee)]


def test_repay_where():
    upper, most, lots, value, fee = example("2 Repay: where", "870,777", "88", "69", "99,905,000", "999,050")
    assert math.ceil(upper / 10_000) == most
    venue = source([market("X"), market("Y"), GEM_SPOT], min_slice_notional=100)
    books = {"GEM_USDC": {"bids": [(144.9, 0.5), (144.5, 5.0)], "asks": []}}
    rows = run(scene(venue, {1: {"USDC": -1250, "GEM": 10}}), at(0, AT_100, books, {"GEM": 145.0}))[1]
    assert of(rows, "convert", "quanta", "cash", "fee") == [(-lots * 10_000, value, fee)]


def test_book_participation_and_order():
    title = "3 Book: participation and order"
    x_relief, x_loss, x_score, y_relief, y_loss, y_score = example(
        title, "1.5", "0.3", "5", "3.5", "1.0465", "3.344482"
    )
    assert x_relief / x_loss == x_score
    assert round(float(y_relief / y_loss), 6) == float(y_score)
    own = scene(source(), {1: {"X": (3, 100), "Y": (7, 100), "USDC": 45}})
    books = {"X": DEEP["X"], "Y": {"bids": [(99.5, 100.0)], "asks": []}}
    rows = run(own, at(0, AT_100, books))[1]
    assert of(rows, "book", "market") == ["X", "Y"]
    oracle, state = own.load_reference()
    tick = reference.Tick(oracle, state, NOON, reference.Prices(AT_100), 0)
    fills = {"X": (30, 30 * USDC), "Y": (70, 70 * Fraction("99.5") * USDC / 100)}
    found = [tick.effect(1, symbol, *fill, Fraction("0.01")) for symbol, fill in fills.items()]
    assert found == [(x_loss * USDC, x_relief * USDC), (y_loss * USDC, y_relief * USDC)]


def test_float64_margins():
    title = "Float64 margins"
    equity, value, maintenance, mmr = example(title, "45,000,000", "1,000,000,000", "50,000,000", "1.1111")
    own = scene(source(), {1: {"X": (10, 100), "USDC": 45}})
    oracle, state = own.load_reference()
    tick = reference.Tick(oracle, state, NOON, reference.Prices(AT_100), 0)
    sums = tick.sums(1)
    assert (sums.equity, sums.exposure, sums.maintenance, sums.gross) == (
        equity,
        value,
        maintenance,
        2 * value + equity,
    )
    tick.select()
    assert round(tick.swept_figures(1).mmr, 4) == float(mmr)
    assert of(run(own, at())[1], "trigger", "mmr_after") == [tick.swept_figures(1).mmr]


def test_book_policy_size():
    size, minimum, whole, least, left = (int(n) for n in example("3 Book: policy size", "100", "5", "12", "10", "2"))
    oracle = reference.Venue(source())
    assert reference.slice_lots(oracle, oracle.markets["X"], 1000, Fraction(1)) == size
    oracle.policy["min_slice_notional"], oracle.markets["X"].minimum_lots = Fraction(least), minimum
    assert reference.slice_lots(oracle, oracle.markets["X"], whole, Fraction(1)) == whole
    assert whole - least == left


def test_book_room():
    title = "3 Book: room"
    account, market_cap, depth, size, lots = example(title, "40", "90", "50", "100", "40")
    policy = {"account_cap": int(account), "market_cap": int(market_cap), "depth_share": "0.5"}
    own, books = scene(source(**policy), {1: LONG}), {"X": {"bids": [(100.0, 1.0)], "asks": []}}
    rows = run(own, at(0, AT_100, books))[1]
    assert of(rows, "book", "requested", "lots", "reason") == [(size, -lots, "account_cap")]
    oracle, state = own.load_reference()
    tick = reference.Tick(oracle, state, NOON, reference.Prices(AT_100), 0)
    tick.guards(books, None, None)
    rooms = [*tick.account_room(1, "X"), *tick.market_room("X"), *tick.depth_room("X", "bids")]
    assert [room for _, room in rooms] == [account, market_cap, depth]


def test_book_quote():
    points, average, lots, wanted, value = example("3 Book: quote", "20", "99.8", "75", "100", "74,850,000")
    levels = [(Fraction(100), 60), (Fraction(99), 100)]
    assert 100 * (1 - points / 10**4) == average
    quote = reference.quote_book(levels, int(wanted), reference.Band("bids"), (), average)
    assert (quote.lots, quote.value * 10_000, quote.reason) == (lots, value, "slippage")
    # deep enough inside the impact band of 99, so that the slippage limit is what stops the slice
    books = {"X": {"bids": [(100.0, 0.6), (99.0, 1.0)], "asks": []}}
    rows = run(scene(source(slippage_limit=int(points)), {1: LONG}), at(0, AT_100, books))[1]
    assert of(rows, "book", "lots", "counter_cash", "reason") == [(-lots, -value, "slippage")]


def test_book_loss_relief_and_harm():
    value, slip, fee, loss, relief = example("3 Book: loss and relief", "96.5", "3.5", "0.965", "4.465", "5")
    own = scene(source(), {1: LONG})
    oracle, state = own.load_reference()
    tick = reference.Tick(oracle, state, NOON, reference.Prices(AT_100), 0)
    assert slip + fee == loss
    assert tick.effect(1, "X", 100, value * USDC, Fraction("0.01")) == (loss * USDC, relief * USDC)
    value, charge, loss_quanta, relief_quanta = example(
        "3 Book: float64", "96,500,000", "965,000", "4,465,000", "5,000,000"
    )
    assert charge == value / 100
    found = tick.effect(1, "X", 100, float(value), 0.01)
    assert [type(amount) for amount in found] == [float, float]
    assert found == (loss_quanta, relief_quanta)
    title = "3 Book: do no harm"
    equity, margin, cost, freed, gain, points, money = example(
        title, "40", "50", "223.25", "200", "0.5", "25", "241,250"
    )
    assert (tick.look(1).net_equity, tick.look(1).maintenance_margin) == (equity, margin)
    assert (loss * margin, relief * equity, relief * equity / margin - slip) == (cost, freed, gain)
    rows = run(own, at(0, AT_100, {"X": {"bids": [(96.5, 100.0)], "asks": []}}))[1]
    assert of(rows, "harm", "reason") == ["fee_waived"]
    assert of(rows, "book", "fee") == [money]
    assert money == points / 10**4 * value


def test_book_restoring_size():
    deficit, ends, lots, policy_size = example("3 Book: restoring size", "10", "250", "251", "500")
    assert deficit / (Fraction("0.05") - Fraction("0.01")) == ends
    own = scene(source(slice_fraction="0.5"), {1: LONG})
    assert reference.slice_lots(reference.Venue(own.source), market_of(own), 1000, Fraction(1)) == policy_size
    rows = run(own, at(0, AT_100, DEEP))[1]
    assert of(rows, "book", "requested", "lots", "reason") == [(lots, -lots, "full")]


def market_of(own: Scene) -> reference.Market:
    return reference.Venue(own.source).markets["X"]


def test_book_fill():
    lots, cost, cash, fee, before, after = example("3 Book: fill", "100", "-100", "0", "1", "1.25", "1.1538")
    [row] = [row for row in run(scene(source(), {1: LONG}), at(0, AT_100, DEEP))[1] if row["event"] == "book"]
    assert (row["lots"], row["cost"], row["cash"]) == (-lots, cost * USDC, cash)
    assert (row["fee"], row["mmr_before"], round(row["mmr_after"], 4)) == (fee * USDC, before, float(after))
    money, rate, full, cut = example("3 Book: fill", "25.3", "0.03", "30", "25.3")
    policy = {"slice_fraction": 1, "liquidation_fee": str(float(rate)), "harmful_slice": "send"}
    state, rows = run(scene(source(**policy), {1: {"X": (10, 100), "USDC": money}}), at(0, AT_100, DEEP))
    assert of(rows, "book", "lots", "fee") == [(-1000, cut * USDC)]
    assert (rate * 1000, state.accounts[1].balances["USDC"]) == (full, [0, 0])


def test_book_passes():
    second, second_money, first, first_money = example("3 Book: passes", "33", "32,868,000", "67", "66,732,000")
    accounts = {1: LONG | {"USDC": 45}, 2: {"X": (5, 100), "USDC": 20}}
    books = {"X": {"bids": [(100.0, 0.6), (99.0, 0.4)], "asks": []}}
    rows = run(scene(source(account_order="pro_rata"), accounts), at(0, AT_100, books))[1]
    assert of(rows, "book", "account", "requested") == [(2, 50), (1, 100)]
    assert of(rows, "book", "lots", "counter_cash") == [(-second, -second_money), (-first, -first_money)]


# ---- Backstop

RICH = {"USDC": 1000}
POOR = {"X": (10, 100), "USDC": 20}


def handed_over(backstop: Any, providers: Any, holdings: Any = None, **policy: Any) -> list[Row]:
    own = scene(source(backstop=backstop, **policy), {1: holdings or POOR, **providers})
    return run(own, at())[1]


def test_backstop_price_and_the_row_adds_up():
    equity, auto_close, share, flow, to_fund, price = example(
        "4 Backstop: price", "20", "25", "20", "980,000,000", "6,666,667", "98"
    )
    margin = look(POOR)
    assert (margin.net_equity, margin.maintenance_margin / 2, margin.below_auto_close) == (equity, auto_close, True)
    assert reference.zero_price(100, 10, share, 50, 50) == price
    [row] = [row for row in handed_over([{"account": 7}], {7: RICH}) if row["event"] == "backstop"]
    assert (row["cash"] - row["cost"], row["fund"], row["price"]) == (flow, to_fund, price)
    columns = ("cash", "cost", "counter_cash", "counter_cost", "fund")
    shown = example("Rows add up", "-20,000,000", "-1,000,000,000", "0", "986,666,667", "6,666,667")
    assert [row[name] for name in columns] == shown
    assert shown[0] - shown[1] + shown[2] - shown[3] + shown[4] == 0


def test_backstop_price_in_another_asset():
    price, usdc, notional, auto_close, flow, closed_at, to_fund, owed = example(
        "4 Backstop: price", "1.25", "25", "1,250", "31.25", "980,000,000", "98", "6,666,667", "20"
    )
    own = scene(money_source(backstop=[{"account": 7}]), {1: {"X": (10, 100), "USDC": usdc}, 7: RICH})
    state, rows = run(own, money_at(0, 100))
    [row] = [row for row in rows if row["market"] == "X"]
    assert (row["settle"], row["cash"] - row["cost"], row["fund"], row["price"]) == ("USDT", flow, to_fund, closed_at)
    assert (row["cash"], 10 * 100 * price, notional / 40) == (-owed * USDC, notional, auto_close)
    assert of(rows, "backstop", "asset", "quanta", "cash")[1:] == [("USDT", owed * USDC, -usdc * USDC)]
    assert state.accounts[1].balances["USDC"] == [0, 0]


def test_backstop_providers():
    title = "4 Backstop: providers"
    money, a_lot, lots, equity, margin = example(title, "50", "0.986667", "576", "57.68", "57.6")
    assert round(float((980 + Fraction(20, 3)) / 1000), 6) == float(a_lot)
    rows = handed_over([{"account": 7}], {7: {"USDC": money}})
    assert of(rows, "backstop", "lots") == [-lots]
    assert (money + lots / 75, lots / 10) == (equity, margin)


def test_backstop_fills():
    title = "4 Backstop: fills"
    seven, eight, *flows = example(title, "300", "600", "294,000,000", "588,000,000", "2,000,000", "4,000,000", "100")
    backstop = [{"account": 8, "capacity_per_hour": int(eight)}, {"account": 7, "capacity_per_min": int(seven)}]
    rows = handed_over(backstop, {7: RICH, 8: RICH})
    assert of(rows, "backstop", "counterparty", "lots") == [(7, -seven), (8, -eight)]
    assert [row["cash"] - row["cost"] for row in rows if row["event"] == "backstop"] == flows[:2]
    assert of(rows, "backstop", "fund") == flows[2:4]
    assert of(rows, "unfilled", "requested", "reason") == [(flows[4], "no_book")]


def test_backstop_borrows():
    title = "4 Backstop: borrows"
    settle, equity, cost, notional, quanta, paid, fund = example(
        title, "1,040", "40", "1,040", "500", "5,000,000", "520,000,000", "6,666,666"
    )
    backstop = [{"account": 7, "max_notional": int(notional)}]
    own = scene(source(backstop=backstop, weight="1", conversion_limit=0), {1: {"USDC": settle, "GEM": -10}, 7: RICH})
    assert settle - 1000 == equity
    rows = run(own, at())[1]
    assert of(rows, "backstop", "quanta", "cash", "fund") == [(quanta, -paid, fund)]
    assert paid / quanta * 10 == cost


# ---- ADL


def test_adl_lends():
    quanta, *payments = example("5 ADL: lends", "9,950,000", "550", "225", "220")
    accounts = {1: {"USDC": -995, "GEM": (0, 10)}, 2: {"USDC": 3000, "GEM": "-5.5"}}
    accounts |= {n: {"USDC": 3000, "GEM": "-2.25"} for n in (3, 4)}
    rows = run(scene(source(weight="1", pools=[{"symbol": "GEM"}]), accounts), at())[1]
    assert of(rows, "adl", "requested", "counterparty", "cash") == [
        (quanta, account, paid * USDC) for account, paid in zip((2, 3, 4), payments, strict=True)
    ]


def test_adl_when():
    on, off, *levels = example("5 ADL: when", "50", "100", "80", "40", "90", "100")
    policy = {"adl_when": "fund_below", "adl_fund_on": int(on), "adl_fund_off": int(off)}
    own = scene(source(**policy), {1: POOR, 3: {"X": (-1, 120), "USDC": 1000}, 4: {"X": (-1, 120), "USDC": 1000}})
    (oracle, state), (rules, held) = own.load_reference(), own.load()
    engine, switched = rc.Engine(held, rules), []
    for second, level in enumerate(levels):
        state.fund["USDC"] = engine.ledger.fund[rules.settle] = int(level * USDC)
        engine, before, tick = copy(engine), state, at(second)
        state, rows, seen = reference.step(oracle, before, *tick.reference_arguments())
        assert_same_journal(engine.step(tick.tick()), rows, oracle, before, seen.prices)
        switched.append((engine.ledger.adl_on, of(rows, "adl", "lots", "reason")))
    nothing, taken = [], [(-100, "fund_below"), (-100, "fund_below")]
    assert switched == [(False, nothing), (True, taken), (True, nothing), (False, nothing)]


def test_adl_price():
    mark, equity, price = example("5 ADL: price", "95", "-30", "98")
    accounts = {1: POOR, 3: {"X": (-10, 110), "USDC": 500}}
    marks = {"X": float(mark), "Y": 100.0}
    assert look(POOR, marks).net_equity == equity
    assert of(run(scene(source(), accounts), at(0, marks))[1], "adl", "price") == [price]
    contracts, entry, coins, mark, loss, equity, flow, price = example(
        "5 ADL: price", "10,000", "50,000", "0.0501", "40,000", "0.05", "4", "-0.2501", "39,984.0064"
    )
    accounts = {1: {"Y": (contracts, entry), "BTC": coins}, 3: {"Y": (-15_000, entry), "BTC": 1}}
    [row] = [row for row in run(scene(money_source(), accounts), money_at(0, mark))[1] if row["event"] == "adl"]
    assert (row["cash"] - row["cost"], row["lots"]) == (flow * 10**8, -contracts)
    assert round(row["price"], 4) == float(price)
    assert (contracts / mark - contracts / entry, (coins - loss) * mark) == (loss, equity)


def test_adl_counterparties():
    title = "5 ADL: counterparties"
    large, small, unprofitable, *rooms = example(title, "51", "30", "30", "26", "15")
    accounts = {1: POOR, 3: {"X": (-large / 100, 120), "USDC": 1000}, 4: {"X": (-small / 100, 110), "USDC": 10}}
    accounts[5] = {"X": (-unprofitable / 100, 100), "USDC": 1000}
    rows = run(scene(source(adl_cap="0.5"), accounts), at())[1]
    assert sorted(of(rows, "adl", "counterparty", "lots")) == [(3, -rooms[0]), (4, -rooms[1])]


def test_adl_policies():
    first = example("5 ADL: policies", "0.047619", "6", "0.285714")
    second = example("5 ADL: policies", "0.2", "0.4", "0.08")
    figures = [
        reference.Figures(-300, Fraction(-300), Fraction(-315), Fraction(15), Fraction(50), Fraction(300), 15, 15),
        reference.Figures(-400, Fraction(-400), Fraction(-500), Fraction(100), Fraction(1000), Fraction(400), 20, 20),
    ]
    for of_one, shown in zip(figures, (first, second), strict=True):
        found = of_one.profit / abs(of_one.entry), of_one.leverage, reference.SCORES["pnl_leverage"](of_one)
        assert [round(float(x), 6) for x in found] == [float(x) for x in shown]
    accounts = {1: POOR, 2: {"X": (-4, 125), "USDC": 900}, 3: {"X": (-3, 105), "USDC": 35}}
    assert of(run(scene(source(), accounts), at())[1], "adl", "counterparty") == [3, 2]


def test_adl_offers():
    title = "5 ADL: offers"
    equity, margin, loss, cut, others = example(title, "550", "547.5", "0.07", "111", "889")
    tight = {"X": (-10, 110), "Y": (100, 100), "USDC": 400}
    accounts = {1: {"X": (10, 102), "USDC": 0}, 3: tight, 4: {"X": (-20, 97), "USDC": 5000}}
    marks = {"X": 95.0, "Y": 100.0}
    before = look(tight, marks)
    assert (before.net_equity, before.maintenance_margin) == (equity, margin)
    rows = run(scene(source(), accounts), at(0, marks))[1]
    assert of(rows, "adl", "counterparty", "lots", "price") == [(3, -cut, 102), (4, -others, 102)]
    assert (102 - 95) * Fraction("0.01") == loss


def test_the_last_book():
    lots, money, first, second, fee, left, poorer, cut = example(
        "The last book", "1,000", "20", "600", "98", "5.97", "400", "5", "2"
    )
    books = {"X": {"bids": [(99.5, first / 100), (float(second), 10.0)], "asks": [(100.5, 10.0)]}}
    for held, paid in ((money, fee), (poorer, cut)):
        rows = run(scene(source(), {1: {"X": (lots / 100, 100), "USDC": held}}), at(0, AT_100, books))[1]
        assert of(rows, "market_close", "requested", "lots", "fee", "reason") == [(lots, -first, paid * USDC, "impact")]
        assert of(rows, "unfilled", "requested", "reason") == [(left, "impact")]
    example("The last book", "99.5", "597")


# ---- Close out


def test_close_out_conversion():
    left, redeemed, sold, value, lacking = example("6 Close out: conversion", "-80", "100,000", "600,000", "60", "20")
    own = scene(source(backstop=[{"account": 7, "assets": []}]), {1: POOR | {"GEM": ("0.5", "0.1")}, 7: RICH})
    rows = run(own, at(0, {"X": 90.0, "Y": 100.0}))[1]
    assert of(rows, "backstop", "cash") == [(left - 20) * USDC]
    assert of(rows, "redeem", "quanta") == [redeemed]
    assert of(rows, "convert", "quanta", "cash") == [(-sold, value * USDC)]
    assert of(rows, "shortfall", "cash") == [lacking * USDC]


def test_close_out_shortfall():
    title = "6 Close out: shortfall"
    lacking, fund, first, second, small, large, rest = example(title, "30", "12", "100", "300", "4.5", "13.5", "18")
    accounts = {1: POOR, 3: {"X": (-2, 95), "USDC": first}, 4: {"X": (-3, 95), "USDC": second}, 9: RICH}
    venue = source(backstop=[{"account": 9}], shortfall="equity", fund=int(fund))
    rows = run(scene(venue, accounts), at(0, {"X": 95.0, "Y": 100.0}))[1]
    assert of(rows, "fund", "cash") == [fund * USDC]
    assert of(rows, "socialize", "counterparty", "cash") == [(3, small * USDC), (4, large * USDC)]
    assert (fund + rest, small + large) == (lacking, rest)
    usdc, coins, mark, lacking, first, second, rest = example(title, "4", "0.0005", "40,000", "30", "4", "20", "6")
    own, tick = scene(money_source(), {1: {"USDC": -lacking, "BTC": 0}}), money_at(0, mark)
    (oracle, state), (rules, held) = own.load_reference(), own.load()
    engine = rc.Engine(held, rules)
    for asset, amount in (("USDC", usdc * USDC), ("BTC", coins * 10**8)):
        state.fund[asset] = engine.ledger.fund[rules.assets.row[asset]] = int(amount)
    _, rows, seen = reference.step(oracle, state, *tick.reference_arguments())
    assert_same_journal(copy(engine).step(tick.tick()), rows, oracle, state, seen.prices)
    assert of(rows, "fund", "settle", "cash") == [("USDC", first * USDC), ("BTC", coins * 10**8)]
    assert of(rows, "convert", "cash") == [second * USDC]
    assert of(rows, "shortfall", "cash") == [rest * USDC]


def test_what_stays_open():
    debt, money, equity, limit, left = example("What stays open", "10", "1,040", "40", "50", "10,000,000")
    own = {"USDC": money, "GEM": -debt}
    margin = look(own, venue=source(weight="1"))
    assert (margin.net_equity, margin.maintenance_margin / 2, margin.below_auto_close) == (equity, limit, True)
    rows = run(scene(source(weight="1", conversion_limit=0), {1: own}), at())[1]
    assert of(rows, "expire", "reason") == ["conversion_limit"]
    assert of(rows, "unfilled", "asset", "requested", "reason") == [("GEM", left, "conversion_limit")]


def test_host_mode():
    lots, money, mark, bid, slice_lots, limit, half, price, fee, left, next_lots = example(
        "Host mode", "1,000", "90", "95", "94.9", "100", "94", "50", "94.5", "0.4725", "950", "95"
    )
    books = {"X": {"bids": [(float(bid), 1.0), (94.5, 20.0)], "asks": [(95.1, 20.0)]}}
    own = scene(source(), {1: {"X": (lots / 100, 100), "USDC": money}})
    oracle, state = own.load_reference()
    state.book_of_host = True
    venue, accounts = own.load()
    engine, tick = rc.Engine(accounts, venue, book="host"), at(0, {"X": float(mark), "Y": 100.0}, books)
    rows = reference.step(oracle, state, *tick.reference_arguments())[1]
    written = engine.step(tick.tick()).raw_events[["event", "reason", "requested", "mmr_after"]].to_numpy().tolist()
    assert written == [[row[name] for name in ("event", "reason", "requested")] + [pytest.approx(row["mmr_after"])]
                       for row in rows]  # fmt: skip
    assert of(rows, "propose", "requested", "price", "reason") == [(slice_lots, limit, "full")]
    account = engine.account(1)
    filled = account.confirm("X", -float(half) / 100, float(price))
    assert (filled.quantity, engine.ledger.fund[0] - accounts_fund(venue)) == (left / 100, fee * USDC)
    assert engine.ledger.proposals[0, 0].lots == half - slice_lots
    later = engine.step(at(60, {"X": float(mark), "Y": 100.0}, books).tick())
    assert later.slices["quantity"].tolist() == [-float(next_lots) / 100]


def accounts_fund(venue: rc.Venue) -> int:
    """Quanta of the fund at the start."""
    return round(venue.policy.fund / venue.settle_quantum)


def test_every_subsection_has_a_formula_and_an_example():
    for title in re.findall(r"^### (.+)$", PAGE, re.M):
        text = re.split(r"\n##", PAGE.split(f"\n### {title}\n")[1])[0]
        assert "\n    " in text, title
        assert text.count("\n*Example.* ") == 1, title


def test_no_symbol_stands_twice():
    table = PAGE.split("\n## Symbols\n")[1].split("\n## ")[0]
    symbols = [name for row in table.split("\n| ")[1:] for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(symbols) == len(set(symbols))


# ---- Activity


def test_activity():
    example(
        "Activity between ticks", "100", "1,000", "1,000,000,000", "1,001,000,000", "95", "49", "50", "3", "4", "1,500",
        "400", "96", "-16", "600", "450", "4,600", "437", "4,800", "456",
    )  # fmt: skip
    own = scene(source(), {1: {"USDC": 100}, 2: {"USDC": 500}})
    own.settings[1]["owner"] = 1
    venue, accounts = own.load()
    engine = rc.Engine(accounts, venue)
    fill = {"action": "fill", "account": 1, "market": "X", "quantity": 10.0, "price": 100.0, "fee": 1.0}
    row = engine.apply(fill, check="off").events.iloc[0]
    found = {name: row[name] for name in ("tick", "lots", "cost", "cash", "entry", "fee", "fund", "counter_cash")}
    assert found == {
        "tick": -1, "lots": 1000, "cost": 1000 * USDC, "cash": 0, "entry": 1000 * USDC, "fee": USDC, "fund": -USDC,
        "counter_cash": 1001 * USDC,
    }  # fmt: skip

    engine.step(at(marks={"X": 95.0, "Y": 100.0}).tick())
    with pytest.raises(rc.RiskDataError, match="initial margin ratio"):
        engine.account(1).withdraw("USDC", 0.01)
    engine.account(2).transfer(1, "USDC", 50.0)
    with pytest.raises(rc.RiskDataError, match="initial margin ratio"):
        engine.account(1).withdraw("USDC", 4.0)
    engine.account(1).withdraw("USDC", 3.0)
    one, two = engine.account(1), engine.account(2)
    order = one.place("X", "ask", 15.0, 100.0, reduce_only=True)
    assert one.orders[order].quantity == 10.0
    assert one.fill("X", -4.0, 96.0) == (-16.0, 100.0, 6.0)
    assert one.orders[order].quantity == 6.0
    assert two.equity == 450.0
    with pytest.raises(rc.RiskDataError, match="initial margin ratio"):
        two.place("X", "bid", 48.0, 90.0)
    two.place("X", "bid", 46.0, 90.0)
    assert (two.exposure, two.initial_margin) == (4370.0, 437.0)
