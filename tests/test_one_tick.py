"""The worked examples of docs/one_tick.md: each is computed here, and the page shows its numbers."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import riskcore as rc
from tests import naive
from tests.comparison import assert_same_journal
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
        "policy": {"slice_probability": 1, "min_slice_notional": 1, **policy},
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


def run(scene: Scene, *ticks: TickInput) -> tuple[naive.State, list[Row]]:
    """The state and the rows of the last tick by the oracle; the engine's journal of every tick is the same."""
    oracle, state = scene.load_naive()
    venue, accounts = scene.load()
    engine, rows = rc.Engine(accounts, venue), []
    for tick in ticks:
        before = state
        state, rows, seen = naive.step(oracle, before, *tick.naive_arguments())
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
    oracle, state = own.load_naive()
    prices = naive.Prices(marks or AT_100, asset_prices=PRICES).at(oracle, state)
    exact = naive.margin(oracle, state.accounts[1], prices)
    for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin"):
        assert table[name] == pytest.approx(float(getattr(exact, name)), rel=1e-12, abs=1e-9)
    assert bool(table["liquidatable"]) == exact.liquidating
    return exact


# ---- Numbers


def test_decimals_and_whole_units():
    value, down, up = example("Decimals and whole units", "250,250,000", "2", "4")
    assert naive.number(97000.1) == Fraction(970001, 10)
    assert Fraction(250 * 1001) * Fraction("0.1") * Fraction("0.01") / Fraction("0.000001") == value
    assert [naive.rhe(Fraction(5, 2)), naive.rhe(Fraction(7, 2))] == [down, up]


def test_cost_cash_and_entry():
    released, cash, flip, flipped, cost = example("Cost, cash and entry", "250", "5", "-1,510", "20", "-510")
    change = naive.change_of_cost(1000, 1000 * USDC, -250, 255 * USDC)
    assert (-change, 255 * USDC + change) == (released * USDC, cash * USDC)
    change = naive.change_of_cost(1000, 1000 * USDC, -1500, 1530 * USDC)
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


def guarded(*ticks: TickInput, accounts: Any = None, **price: Any) -> tuple[naive.State, list[Row], naive.Prices]:
    """State, rows and guarded prices of the last tick; ``price`` are figures of the market X."""
    own = scene(source([market("X", **price), market("Y")]), HELD if accounts is None else accounts)
    state, rows = run(own, *ticks)
    _, before = own.load_naive()
    oracle = naive.Venue(own.source)
    for tick in ticks:
        before, _, seen = naive.step(oracle, before, *tick.naive_arguments())
    return state, rows, seen.prices


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
    assert state.memory["X"].basis == pytest.approx(mid - 90)


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
    assert round(state.memory["X"].basis, 6) == float(basis)
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
    found = [mark for mark, _ in naive.samples(state.memory["X"].used, NOON + 10 * SECOND).values()]
    assert found == [unit] * 10 + [other]
    assert naive.mean_of(found, None) / 1000 * Fraction("0.1") == mean


def test_bands():
    bid, ask, low, high, sale, purchase = example("Bands", "99.5", "100.5", "98.505", "101.505", "98.6", "101.5")
    bounds = {"bids": (bid, "0.99", low, sale), "asks": (ask, "1.01", high, purchase)}
    for side, (touch, multiplier, bound, price) in bounds.items():
        assert touch * Fraction(multiplier) == bound
        assert naive.tightest(side, Fraction("0.1"), {"impact": bound}).price == price


def test_refill():
    first, second, *later = (int(n) for n in example("Refill", "60", "40", "30", "20", "30", "180"))
    own = scene(source(refill_half_life=10, position_order="largest"), {1: {"X": (10, 100), "USDC": 45}})
    book = {"X": {"bids": [(100.0, 0.6), (99.9, 2.0)]}}
    state, rows = run(own, at(0, AT_100, book))
    assert of(rows, "book", "lots") == [-first - second]
    assert [level[2] for level in state.books["X"]["bids"]] == [first, second]
    tick = naive._Tick(naive.Venue(own.source), state, NOON + 10 * SECOND, naive.Prices(AT_100), 0)
    tick.guards(book, None, None)
    assert [level[2][2] for level in tick.levels["X", "bids"]] == later[:2]
    assert [level[1] for level in tick.levels["X", "bids"]] == later[2:]


# ---- Prices and margins


def test_prices():
    text = PAGE.split("\n## Prices\n")[1].split("*Example.*")[1].split("\n## ")[0]
    markets = [market("GEM"), market("GEM") | {"symbol": "GEM_DATED"}]
    oracle = naive.Venue(source(markets))
    prices = naive.Prices({"GEM_DATED": 2}, {"GEM_DATED": 2.5})
    assert f"GEM is worth {float(prices.of_asset(oracle, 'GEM'))}." in text
    assert prices.of_quantum(oracle, "GEM") == prices.of_asset(oracle, "GEM")


def test_balances():
    value, weight, maintenance, initial = example("Balances", "1,305", "0.909091", "62.5", "125")
    collateral = naive.Venue(source()).assets["GEM"]
    assert 10 * 145 * collateral.effective_weight(Fraction(1450)) == value
    kind = {"type": "inverseSqrt", "base": "1", "positiveCurvePenalty": "0.0001"}
    row = {"symbol": "GEM", "haircutFunction": {"weight": "0.95", "kind": kind}}
    assert round(float(naive.Asset(row, "0.20").effective_weight(Fraction(10**6))), 6) == float(weight)
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
    small, large, tiers, share = example("Margin functions", "100", "6,400,000", "1,400", "0.51")
    by_root = naive.square_root_function({"base": "0.01", "factor": "0.0001"})
    assert (by_root(Fraction(10_000)), by_root(Fraction(16_000_000))) == (small, large)
    brackets = [{"from": 0, "rate": "0.01"}, {"from": 10_000, "rate": "0.02"}, {"from": 50_000, "rate": "0.05"}]
    assert naive.tier_function({"brackets": brackets})(Fraction(60_000)) == tiers
    by_interest = naive.open_interest_function({"base": "0.02", "lower": 10**6, "upper": 2 * 10**6})
    assert by_interest(Fraction(1), 1, 1_500_000) == share


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


def test_realisation():
    mark, long, cost, short = example("Realisation", "103", "30", "1,030", "-12")
    accounts = {1: {"X": (10, 100), "USDC": 90}, 2: {"X": (-4, 100), "USDC": 400}}
    marks = {"X": float(mark), "Y": 100.0}
    state, rows = run(scene(source(realize_interval=60), accounts), at(0, marks), at(60, marks))
    assert of(rows, "realize", "cash") == [long * USDC, short * USDC]
    assert state.accounts[1].positions["X"] == [1000, cost * USDC, 1000 * USDC]


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
