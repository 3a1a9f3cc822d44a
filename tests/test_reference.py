"""The oracle against figures that were worked out elsewhere: the venue's examples, dYdX's tests, and by hand."""

import ast
import copy
import hashlib
import json
import math
import random
import struct
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from riskcore import reference

M = 10**6
MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
NOON = 480_012 * HOUR
AT_100 = {"X": 100, "Y": 100}
IDENTITY = {"type": "identity"}


def market_row(symbol, initial, maintenance, tick="0.1", step="0.01", minimum=None):
    return {
        "symbol": symbol,
        "baseSymbol": symbol,
        "marketType": "PERP",
        "filters": {
            "price": {"tickSize": tick, "minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01"},
            "quantity": {"minQuantity": minimum or step, "stepSize": step},
        },
        "imfFunction": {"type": "sqrt", "base": initial[0], "factor": initial[1]},
        "mmfFunction": {"type": "sqrt", "base": maintenance[0], "factor": maintenance[1]},
    }


def asset_row(symbol, weight, kind=IDENTITY, **others):
    return {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": kind}, **others}


X, Y = (market_row(symbol, ("0.10", 0), ("0.05", 0)) for symbol in "XY")
BTC = market_row("BTC", ("0.01333333", "0.00002494"), ("0.00666667", "0.00001496"), "0.1", "0.00001")
SOL = market_row("SOL", ("0.02", "0.000075"), ("0.0135", "0.0000375"), "0.01", "0.01")
RICH = {"USDC": 1000}


# every leg in every round, the largest position first, slices of the policy's size, harmful or not; no clock
PLAIN = {
    "slice_probability": 1, "position_order": "largest", "target_mmr": 0, "harmful_slice": "send",
    "liquidation_interval": None,
}  # fmt: skip


def make_venue(markets=(X, Y), collateral=(("GEM", "0.9"), ("TOK", "0.9")), backstop=(), pools=(), **policy):
    """By default perpetuals X and Y in lots of 0.01, so that at a mark of 100 a lot is worth 1; maintenance 5 %.

    Assets USDC (the settle asset), GEM and TOK; borrows by the defaults, maintenance 5 % USDC and 10 % others.
    """
    rows = [asset_row("USDC", "1")] + [asset_row(*row) if isinstance(row, tuple) else row for row in collateral]
    policy = {"min_slice_notional": 1, **PLAIN, **policy}
    lists = {"markets": list(markets), "backstop": list(backstop), "borrow_lend": list(pools)}
    return reference.Venue({**lists, "collateral": rows, "policy": policy})


GEM_SPOT = {
    "symbol": "GEM_USDC",
    "baseSymbol": "GEM",
    "quoteSymbol": "USDC",
    "marketType": "SPOT",
    "filters": {
        "price": {"tickSize": "0.1", "minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01"},
        "quantity": {"stepSize": "0.01"},
    },
}
BACKPACK = make_venue([BTC, SOL, {"symbol": "SOL_USDC", "marketType": "SPOT"}], [("SOL", "0.95")], slice_fraction=0.1)


def load(venue, accounts, orders=(), settings=()):
    """Accounts {id: {market: (quantity, entry price[, settle price])}}, {id: {asset: quantity, or (quantity, lent)}}.

    A symbol that is both is the market; its balance is spelled "SOL balance".
    """
    positions, balances = [], []
    for account, holdings in accounts.items():
        for symbol, held in holdings.items():
            if symbol in venue.markets:
                row = zip(("quantity", "entry_price", "settle_price"), held, strict=False)
                positions.append({"account": account, "market": symbol, **dict(row)})
            else:
                quantity, lent = held if isinstance(held, tuple) else (held, 0)
                row = {"account": account, "asset": symbol.split()[0], "quantity": quantity, "lent": lent}
                balances.append(row)
    names = ("account", "side", "price", "quantity", "market", "reduce_only")
    orders = [dict(zip(names, row, strict=False)) for row in orders]
    return reference.load_state(venue, positions, balances, orders, settings)


def look_at(venue, holdings, marks, indexes=None, prices=None, **others):
    """The margin of one account."""
    state = load(venue, {1: holdings}, **others)
    return reference.margin(venue, state.accounts[1], reference.Prices(marks, indexes, prices))


def checked_step(venue, state, marks=AT_100, books=None, prices=None, time_ns=0, **others):
    """`step`, with what must hold in every tick: conservation by equality, and rows that add up to the new state."""
    untouched = copy.deepcopy(state)
    new, rows, _ = reference.step(venue, state, time_ns, marks, books or {}, asset_prices=prices, **others)
    assert state == untouched
    assert reference.total_lots(venue, new) == reference.total_lots(venue, state)
    assert reference.total_quanta(venue, new) == reference.total_quanta(venue, state)
    assert reference.journalled(reference.apply_rows(state, rows)) == reference.journalled(new)
    for row in rows:
        assert len(row) == 26
        money = row["cash"] - row["cost"] + row["counter_cash"] - row["counter_cost"] + row["fund"] + row["unsettled"]
        assert money == 0
        assert row["lent"] == -row["quanta"] or row["event"] != "redeem"
    return new, rows


def brief(rows, *columns):
    """Rows as tuples of the event, the reason and some columns, without the triggers."""
    return [tuple(row[name] for name in ("event", "reason", *columns)) for row in rows if row["event"] != "trigger"]


def percent(x, digits=4):
    return f"{float(100 * x):.{digits}f}"


def test_imports_only_the_standard_library_and_pyarrow():
    """pyarrow in the reading of run folders alone."""
    modules = sorted(Path(reference.__file__).parent.glob("*.py"))
    assert len(modules) > 20
    for path in modules:
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1  # the package itself
                imported |= {node.module.split(".")[0]} if node.level == 0 else set()
        assert imported - set(sys.stdlib_module_names) == ({"pyarrow"} if path.name == "folder.py" else set()), path


# ---- Numbers


def test_a_float_stands_for_its_shortest_decimal():
    assert reference.number(97000.1) == Fraction(970001, 10)
    assert reference.number("1/3") == Fraction(1, 3)
    assert reference.number(1e-06) == Fraction(1, 10**6)
    assert reference.number(7) == 7


@pytest.mark.parametrize(
    ("x", "expected"),
    [("0.5", 0), ("1.5", 2), ("2.5", 2), ("-0.5", 0), ("-1.5", -2), ("-2.5", -2), ("2.51", 3), ("-2.51", -3), (4, 4)],
)
def test_halves_round_to_even(x, expected):
    assert reference.rhe(reference.number(x)) == expected


def test_square_roots():
    """(3/7)^2 is exact; sqrt(2) squares back to 2 within 59 digits; sqrt(8) ranks as 2 sqrt(2)."""
    assert reference.square_root(Fraction(9, 49)) == Fraction(3, 7)
    two, eight = reference.square_root(Fraction(2)), reference.square_root(Fraction(8))
    assert abs(two**2 - 2) < Fraction(1, 10**58)
    assert reference.ranking_value(eight) == reference.ranking_value(2 * two)


def test_change_of_cost():
    """Opening, adding, reducing and flipping a position.

    Flat, buy 10 for 1000: cost +1000. Long 10 of cost 1000, buy 5 for 600: +600. Long 10 of cost 1000, sell 3 for 330:
    -300, so cash +30. Long 10 of cost 1000, sell 15 for 1800: 10 lots close for 1200 and 5 lots open short for 600:
    -1000 - 600 = -1600, so cash +200. Long 3 of cost 10, sell 2: 6.67 -> -7. Short 10 of cost -1000, buy 15 paying
    1800: +1000 + 600.
    """
    assert reference.change_of_cost(0, 0, 10, -1000) == 1000
    assert reference.change_of_cost(10, 1000, 5, -600) == 600
    assert reference.change_of_cost(10, 1000, -3, 330) == -300
    assert reference.change_of_cost(10, 1000, -15, 1800) == -1600
    assert reference.change_of_cost(3, 10, -2, 100) == -7
    assert reference.change_of_cost(-10, -1000, 15, -1800) == 1600


# ---- The venue's worked examples (venue_rules.md)


def e1(mark):
    """The margin of E1's account: USDC 20,000, +5 BTC from 100,000."""
    return look_at(BACKPACK, {"BTC": (5, 100000), "USDC": 20000}, {"BTC": mark, "SOL": 145})


@pytest.mark.parametrize(
    ("mark", "notional", "equity", "fraction", "maintenance", "mmr", "imr", "auto_close", "tests"),
    [
        (100000, 500000, 20000, "4.0000", "1.0578", "26.4458", "44.0881", "0.5289", (False, False)),
        (98000, 490000, 10000, "2.0408", "1.0472", "51.3128", "85.5442", "0.5236", (False, False)),
        (97500, 487500, 7500, "1.5385", "1.0445", "67.8941", "113.1871", "0.5223", (False, False)),
        (97000, 485000, 5000, "1.0309", "1.0418", "101.0588", "168.4764", "0.5209", (True, False)),
        (96500, 482500, 2500, "0.5181", "1.0392", "200.5569", "334.3508", "0.5196", (True, True)),
        (96000, 480000, 0, "0.0000", "1.0365", "inf", "inf", "0.5182", (True, True)),
    ],
)
def test_e1_table(mark, notional, equity, fraction, maintenance, mmr, imr, auto_close, tests):
    """E1, row by row; MF = equity/exposure, MMF = maintenance margin/exposure, ACMF = max(MMF/2, MMF - 0.06)."""
    look = e1(mark)
    assert (look.exposure, look.net_equity) == (notional, equity)
    mmf = look.maintenance_margin / look.exposure
    figures = (look.net_equity / look.exposure, mmf, look.mmr, look.imr, max(mmf / 2, mmf - Fraction(6, 100)))
    assert [percent(figure) for figure in figures] == [fraction, maintenance, mmr, imr, auto_close]
    assert (look.liquidating, look.below_auto_close) == tests


@pytest.mark.parametrize(
    ("is_bad", "threshold"),
    [
        (lambda look: look.liquidating, "97010.756239"),
        (lambda look: look.below_auto_close, "96501.403132"),
        (lambda look: look.net_equity <= 0, "96000.000000"),
    ],
)
def test_e1_thresholds(is_bad, threshold):
    bad, good = Fraction(90000), Fraction(100000)
    for _ in range(60):
        middle = (bad + good) / 2
        bad, good = (middle, good) if is_bad(e1(middle)) else (bad, middle)
    assert f"{float(good):.6f}" == threshold


def test_e2_mixed_account():
    """E2, with the assumed borrow functions, which are the defaults: USDC 0.10 and half of it."""
    holdings = {"BTC": ("0.5", 86000), "SOL": (-300, 150), "USDC": -12000, "SOL balance": 200}
    orders = [(1, "bid", 86000, "0.2", "BTC"), (1, "ask", 150, 50, "SOL")]
    look = look_at(BACKPACK, holdings, {"BTC": 86700, "SOL": 145}, orders=orders)
    assert (look.net_equity, look.exposure) == (17400, 123440)
    assert f"{float(look.position_maintenance_margins['BTC']):.4f}" == "289.0001"
    assert look.position_maintenance_margins["SOL"] == Fraction("587.25")
    assert look.borrow_maintenance_margins == {"USDC": 600}
    figures = (look.maintenance_margin, look.initial_margin, look.net_equity - look.initial_margin)
    assert [f"{float(figure):.4f}" for figure in figures] == ["1476.2501", "3024.1998", "14375.8002"]
    ratios = (look.mmr, look.imr, look.net_equity / look.exposure, look.initial_margin / look.exposure)
    assert [percent(figure) for figure in ratios] == ["8.4842", "17.3805", "14.0959", "2.4499"]


def test_e2_reduce_only_orders_add_nothing():
    """A reduce-only bid of 100 BTC leaves E2's BTC exposure at 0.5 * 86,700."""
    orders = [(1, "bid", 86000, 100, "BTC", True)]
    look = look_at(BACKPACK, {"BTC": ("0.5", 86000), "USDC": 12000}, {"BTC": 86700, "SOL": 145}, orders=orders)
    assert look.exposure == 43350


@pytest.mark.parametrize(("mark", "index"), [(144, "144.9578481"), ("144.9578481", math.nan)])
def test_e3_observed_collateral(mark, index):
    """E3: 0.0699302874 SOL at 144.9578481 and weight 0.95, and 10.6524044577 USDC lent, ten decimals in each asset.

    The price of SOL is the index of its perpetual, or the mark where the tick has no index.
    """
    rows = [asset_row("USDC", "1", quantum="1e-10"), asset_row("SOL", "0.95", quantum="1e-10")]
    venue = reference.Venue({"markets": [SOL], "collateral": rows})
    look = look_at(venue, {"USDC": (0, "10.6524044577"), "SOL balance": "0.0699302874"}, {"SOL": mark}, {"SOL": index})
    assert f"{float(look.net_equity - Fraction('10.6524044577')):.10f}" == "9.6300967796"
    assert f"{float(look.net_equity):.10f}" == "20.2825012373"
    assert (look.mmr, look.liquidating) == (0, False)


E4_BIDS = [
    ("86781.4", "2.20229"),
    ("86779.8", "0.00115"),
    ("86779.7", "0.23172"),
    ("86779.6", "0.16803"),
    ("86777.7", "0.03571"),
]


@pytest.mark.parametrize(
    ("lots", "filled", "reason", "average", "proceeds", "fee"),
    [
        (100000, 100000, "full", "86781.4000", "86781.4000", "867.8140"),
        (500000, 263890, "depth", "86781.0853", "229006.6061", "2290.0661"),
    ],
)
def test_e4_walk(lots, filled, reason, average, proceeds, fee):
    """E4, both slices; the floor 86,781.4 * 0.99 = 85,913.586, in ticks 85,913.6, is not reached."""
    levels = [(price, int(reference.number(quantity) * 10**5)) for price, quantity in E4_BIDS]
    band = reference.tightest("bids", Fraction("0.1"), {"impact": reference.number(levels[0][0]) * Fraction("0.99")})
    assert band == reference.Band("bids", Fraction("85913.6"), "impact")
    fill = reference.quote_book(levels, lots, band)
    assert (fill.lots, fill.reason) == (filled, reason)
    money = fill.value / 10**5
    assert [f"{float(x):.4f}" for x in (fill.value / fill.lots, money, money / 100)] == [average, proceeds, fee]


@pytest.mark.parametrize(
    ("quantity", "equity", "filled", "requested", "value", "fee", "reason"),
    [
        (10, 10000, 100000, 100000, 86781400000, 867814000, "full"),
        (50, 100000, 263890, 500000, 229006606115, 2290066061, "depth"),
    ],
)
def test_e4_step(quantity, equity, filled, requested, value, fee, reason):
    """E4 as a tick: 10 % of 10 BTC is sold whole, 10 % of 50 BTC into the five levels; what is left expires.

    Entry and mark 86,781.4. 10 BTC: N = 867,814, MM = 0.00001496 * N^1.5 = 12,094 between the equity 10,000 and twice
    it. 50 BTC: MM = 135,218 between 100,000 and 200,000. 1 % of 229,006.606115 is 2,290.06606115.
    """
    state = load(BACKPACK, {1: {"BTC": (quantity, "86781.4"), "USDC": equity}})
    new, rows = checked_step(BACKPACK, state, {"BTC": "86781.4", "SOL": 145}, {"BTC": {"bids": E4_BIDS}})
    assert brief(rows, "requested", "lots", "fee", "counter_cash") == [
        ("book", reason, requested, -filled, fee, -value)
    ]
    assert (new.fund["USDC"], new.book_quanta["USDC"]) == (fee, -value)
    assert rows[1]["price"] == pytest.approx(value / filled / 10, abs=1e-9)


def test_e5_backstop():
    """E5: 1,000 USD, +2 from 10,000, mark 9,646; maintenance 4 %, so that 1.5136 % is below the auto-close 2 %.

    E = 1,000 - 708 = 292; flow 19,292 - 292 = 19,000; fund 292/3; the provider pays 19,097.333333.
    """
    venue = make_venue([market_row("X", ("0.08", 0), ("0.04", 0))], backstop=[{"account": 9}])
    state = load(venue, {1: {"X": (2, 10000), "USDC": 1000}, 9: {"USDC": 50000}})
    look = reference.sweep(venue, state, reference.Prices({"X": 9646}))[1]
    assert look.net_equity == 292
    assert percent(look.net_equity / look.exposure) == "1.5136"
    assert reference.zero_price(9646, 2, 292, look.position_maintenance_margins["X"], look.maintenance_margin) == 9500
    new, rows = checked_step(venue, state, {"X": 9646})
    assert brief(rows, "price", "fund") == [("backstop", "below_auto_close", 9500.0, 97333333)]
    assert new.fund["USDC"] == 97333333
    lots, cost, entry = new.accounts[9].positions["X"]
    assert (lots, cost, entry) == (200, 19097333333, 19097333333)
    assert f"{cost / M / 2:.4f}, {19292 - cost / M:.4f}" == "9548.6667, 194.6667"
    assert (new.accounts[1].positions["X"], new.accounts[1].balances["USDC"]) == ([0, 0, 0], [0, 0])


def test_e6_two_positions():
    """E6: N = 100k (1 %) and 50k (3 %), equity 1,800: price moves of 0.0072 and 0.0216, losses of 720 and 1,080."""
    venue = make_venue([market_row("A", ("0.02", 0), ("0.01", 0)), market_row("B", ("0.06", 0), ("0.03", 0))])
    look = look_at(venue, {"A": (1000, 100), "B": (-500, 100), "USDC": 1800}, {"A": 100, "B": 100})
    margins, total = look.position_maintenance_margins, look.maintenance_margin
    assert (look.net_equity, margins, percent(look.mmr, 2)) == (1800, {"A": 1000, "B": 1500}, "138.89")
    assert [reference.equity_share(1800, margins[market], total) for market in "AB"] == [720, 1080]
    assert reference.zero_price(100, 1000, 1800, margins["A"], total) == 100 * (1 - Fraction("0.0072"))
    assert reference.zero_price(100, -500, 1800, margins["B"], total) == 100 * (1 + Fraction("0.0216"))


def test_e7_ranking():
    """E7: mark 100, shorts A to D; order B, A, C, D."""
    scores = {}
    for name, quantity, entry, equity, exposure, profit_expected, score_expected in (
        ("A", -10, 110, 400, 1000, "9.0909", "0.22727"),
        ("B", -5, 104, 50, 500, "3.8462", "0.38462"),
        ("C", -8, 120, 8000, 800, "16.6667", "0.01667"),
        ("D", -4, 98, 30, 400, "-2.0408", "-0.00153"),
    ):
        profit = reference.profit_fraction(quantity * 100, quantity * entry)
        assert percent(profit) == profit_expected
        scores[name] = reference.deleveraging_score(profit, Fraction(exposure, equity))
        assert f"{float(scores[name]):.5f}" == score_expected
    assert sorted(scores, key=scores.get, reverse=True) == ["B", "A", "C", "D"]


# ---- dYdX's bankruptcy prices


@pytest.mark.parametrize("case_id", [f"dydx-bk-{case:02d}" for case in (0, 2, 4, 6, 8, 10, 12)])
def test_dydx_bankruptcy_price(case_id, shared):
    """The zero price, whose sharing by maintenance margin is dYdX's bankruptcy price, on dYdX's own cases.

    dYdX: BTC in 1e-8 at 50,000, ETH in 1e-9 at 3,000, quote in 1e-6, maintenance 10 %; the account receives
    `-(change of notional) - floor(TNC * |dMMR| / TMMR)` for the part that it closes. The floor is of a number that is
    negative for an account with negative equity, so it goes away from zero there. Our figure is the same before
    rounding, and we round once, halves to even. So dYdX's is ours rounded up (the change of notional is whole in these
    cases), and our rounded one is at most one quantum away.
    """
    cases = json.loads((shared / "vectors" / "dydx.json").read_text(encoding="utf-8"))["cases"]
    assert any(case["id"].startswith("dydx-bk-") for case in cases)
    case = next(case for case in cases if case["id"] == case_id)
    inputs, expected = case["inputs"], case["expected"]["bankruptcy_quote"]
    rate = reference.number(inputs["maint"])
    markets = [market_row(s, (2 * rate, 0), (rate, 0), "1", step) for s, step in (("BTC", "1e-8"), ("ETH", "1e-9"))]
    venue, marks = make_venue(markets), {"BTC": 50000, "ETH": 3000}
    steps = {market: venue.markets[market].step_size for market in marks}
    held = {market: quantums * steps[market] for market, quantums in inputs["positions"].items()}
    settings = [{"account": 1, "unsettled": inputs["quote_usd"]}]
    look = look_at(venue, {market: (quantity, 0) for market, quantity in held.items()}, marks, settings=settings)
    closed, margins = inputs["close"], look.position_maintenance_margins
    price = reference.zero_price(marks[closed], held[closed], look.net_equity, margins[closed], look.maintenance_margin)
    received = -inputs["delta_quantums"] * steps[closed] * price / venue.settle_quantum
    assert math.ceil(received) == expected
    assert abs(reference.rhe(received) - expected) <= 1


# ---- Margin, by hand


def test_leverage_limit_and_unsettled():
    """Long 10 X at 100, limit 4: IM = 1,000/4; MM = 50; E = 300 + 7. Borrowed GEM 1 at 200: N = 200, IM 40, MM 20.

    Sum of IM = 250 + 40 = 290 < exposure/limit = 1,200/4 = 300. E = 307 - 200 = 107.
    """
    holdings, settings = {"X": (10, 100), "USDC": 300, "GEM": -1}, [{"account": 1, "leverage_limit": 4, "unsettled": 7}]
    look = look_at(make_venue(), holdings, AT_100, prices={"GEM": 200}, settings=settings)
    assert (look.exposure, look.net_equity) == (1200, 107)
    assert (look.initial_margin, look.maintenance_margin) == (300, 70)
    assert look.imr == Fraction(300, 107)


@pytest.mark.parametrize(("unit", "weight"), [("notional", Fraction(1, 2)), ("quantity", Fraction(10, 11))])
def test_inverse_square_root_haircut(unit, weight):
    """100 GEM at 100, weight 0.95, base 1, penalty 0.01: notional 1/(1 + 1) = 1/2, quantity 1/(1 + 0.1) = 10/11."""
    kind = {"type": "inverseSqrt", "base": "1", "positiveCurvePenalty": "0.01"}
    venue = make_venue(collateral=[("GEM", "0.95", kind)], haircut_size_unit=unit)
    assert look_at(venue, {"GEM": (60, 40)}, AT_100, prices={"GEM": 100}).net_equity == 10000 * weight


def test_collateral_rows():
    """A row needs a haircutFunction, also that of the settle asset; without a row the settle asset has weight 1.

    The defaults of a borrow: 10 % of 100 USDC and half of it; of 10,000 GEM, 0.6 of the factor 0.01.
    """
    for symbol in ("USDC", "GEM"):
        with pytest.raises(KeyError, match="haircutFunction"):
            reference.Venue({"markets": [X], "collateral": [{"symbol": symbol}]})
    gem = asset_row("GEM", "0.9", imfFunction={"base": "0.1", "factor": "0.01"})
    venue = reference.Venue({"markets": [X], "collateral": [gem]})
    assert list(venue.assets) == ["GEM", "USDC"]
    assert look_at(venue, {"USDC": 100}, AT_100).net_equity == 100
    look = look_at(venue, {"USDC": -100}, AT_100)
    assert (look.net_equity, look.initial_margin, look.maintenance_margin) == (-100, 10, 5)
    look = look_at(venue, {"GEM": -100}, AT_100, prices={"GEM": 100})
    assert (look.initial_margin, look.maintenance_margin) == (10000, 6000)


def test_margin_equal_to_equity_is_liquidating():
    """MM = 50 = E: MMR = 1. With one quantum more it is not."""
    for equity, expected in (("50", True), ("50.000001", False)):
        look = look_at(make_venue(), {"X": (10, 100), "USDC": equity}, AT_100)
        assert (look.liquidating, look.below_auto_close) == (expected, False)


@pytest.mark.parametrize(("equity", "below"), [("40", False), ("39.999999", True)])
def test_auto_close_by_the_offset(equity, below):
    """MM = 50 and exposure 1,000: 50 - 0.01 * 1,000 = 40 is more than 50/2; equal to it is not below."""
    look = look_at(make_venue(acmf_offset="0.01"), {"X": (10, 100), "USDC": equity}, AT_100)
    assert (look.liquidating, look.below_auto_close) == (True, below)


def test_slice_sizes():
    """10 % of the lots, at least the smallest notional, at most the position, and no rest below minQuantity."""
    venue = make_venue([X, market_row("Z", ("0.1", 0), ("0.05", 0), minimum="9.05")], min_slice_notional=50)
    for market, lots, lot_value, expected in (
        ("X", 1009, Fraction(1), 100),
        ("X", -300, Fraction(1), 50),
        ("X", 30, Fraction(1), 30),
        ("X", 300, Fraction(3, 2), 34),
        ("Z", 1005, Fraction(1), 100),
        ("Z", 1004, Fraction(1), 1004),
    ):
        assert reference.slice_lots(venue, venue.markets[market], lots, lot_value) == expected


# ---- The book, by hand: account 1 with 1,000 lots of X at 100, E = 45 and MM = 50: MMR 1.11, and 45 > 25


def book_tick(book, quantity=10, **policy):
    venue = make_venue(**policy)
    return checked_step(venue, load(venue, {1: {"X": (quantity, 100), "USDC": 45}}), books={"X": book})


def test_book_stops_as_soon_as_the_ratio_is_below_one():
    """Slice 1: 100 lots for 100, fee 1: E = 44, MM = 45. Slice 2: 90 lots for 90, fee 0.9: E = 43.1, MM = 40.5.

    That is healthy, so the third of the three slices is not made.
    """
    new, rows = book_tick({"bids": [(100.0, 100.0)]}, slices_per_tick=3)
    assert brief(rows, "requested", "lots", "cost", "cash", "fee", "price") == [
        ("book", "full", 100, -100, -100 * M, 0, 1 * M, 100.0),
        ("book", "full", 90, -90, -90 * M, 0, 900000, 100.0),
    ]
    assert [row["mmr_after"] for row in rows] == [float(Fraction(50, 45)), float(Fraction(45, 44)), 40.5 / 43.1]
    assert new.accounts[1].positions["X"] == [810, 810 * M, 810 * M]
    assert new.accounts[1].balances["USDC"] == [43100000, 0]
    assert (new.fund["USDC"], new.book_lots["X"], new.book_quanta["USDC"]) == (1900000, 190, -190 * M)
    assert (rows[0]["event"], rows[0]["tick"], rows[0]["time"], new.ticks) == ("trigger", 0, 0, 1)


def test_band_cuts_a_sale():
    """Bids 50 lots at 100, 20 at 99.5, 1,000 at 98.9; the floor is 99 for the whole tick.

    Slice 1 of 100: 50 + 19.9 = 69.9 for 70 lots, cost -70, cash -0.1, fee 0.699; E = 44.201 < MM = 46.5.
    Slice 2 of 93: the next bid 98.9 is outside, nothing is filled.
    """
    new, rows = book_tick({"bids": [("100", "0.5"), ("99.5", "0.2"), ("98.9", "10")]}, slices_per_tick=2)
    assert brief(rows, "requested", "lots", "cost", "cash", "fee") == [
        ("book", "impact", 100, -70, -70 * M, -100000, 699000),
        ("expire", "impact", 93, 0, 0, 0, 0),
    ]
    assert rows[1]["price"] == pytest.approx(69.9 / 0.7, rel=1e-15)
    assert new.accounts[1].balances["USDC"] == [44201000, 0]


def test_band_cuts_a_purchase():
    """The mirror image: short 1,000 lots; asks 50 lots at 100, 20 on the cap 101, then 101.1 above it.

    70.2 for 70 lots: flow -70.2, cost +70, cash -0.2, fee 0.702; E = 45 - 0.2 - 0.702 = 44.098.
    """
    asks = [("100", "0.5"), ("101", "0.2"), ("101.1", "10")]
    new, rows = book_tick({"asks": asks, "bids": [("99", "100")]}, quantity=-10)
    assert brief(rows, "requested", "lots", "cost", "cash", "fee") == [
        ("book", "impact", 100, 70, 70 * M, -200000, 702000)
    ]
    assert new.accounts[1].balances["USDC"] == [44098000, 0]
    assert new.accounts[1].positions["X"] == [-930, -930 * M, -930 * M]


@pytest.mark.parametrize(
    ("book", "expected"),
    [
        # the floor of a touch of 100 is 99, and a bid at 99 is taken; 0.5 less money and the fee leave MMR above 1
        ({"bids": [("100", "0.5"), ("99", "10")]}, [("book", "full", 100, -100), ("book", "full", 90, -90)]),
        # slice 1 of 100 fills 50: E = 44.5 < MM = 47.5; slice 2 of 95 finds nothing
        ({"bids": [("100", "0.5")]}, [("book", "depth", 100, -50), ("expire", "depth", 95, 0)]),
        ({"asks": [("100", "5")]}, [("expire", "no_book", 100, 0)] * 2),
    ],
)
def test_the_ends_of_the_book(book, expected):
    _, rows = book_tick(book, slices_per_tick=2)
    assert brief(rows, "requested", "lots") == expected


def test_a_market_without_multipliers_has_no_band():
    """Bids 50 lots at 100, then 50 at 60; the slice of 100 takes both for 80, harmful as that is."""
    quantity = {"minQuantity": "0.01", "stepSize": "0.01"}
    venue = make_venue([{**X, "filters": {"price": {"tickSize": "0.1"}, "quantity": quantity}}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 45}})
    _, rows = checked_step(venue, state, {"X": 100}, {"X": {"bids": [(100, 0.5), (60, 0.5)]}})
    assert brief(rows, "lots", "price")[:2] == [("harm", "sent", 0, 80.0), ("book", "full", -100, 80.0)]


def test_accounts_and_positions_go_by_margin():
    """Account 2 (MMR 50/40) comes before account 1 (50/45), account 3 equals 2 and follows it; larger MM first.

    Account 2: 700 lots of Y (MM 35) and 300 of X (MM 15): 70 of Y for fee 0.7: E = 39.3 < MM = 46.5; 30 of X: fee 0.3:
    E = 39 < 45. Account 3: 1,000 of X. One slice each.
    """
    venue, bids = make_venue(), {"bids": [("100", "100")]}
    two = {"X": (3, 100), "Y": (7, 100), "USDC": 40}
    state = load(venue, {1: {"X": (10, 100), "USDC": 45}, 2: two, 3: {"X": (10, 100), "USDC": 40}})
    _, rows = checked_step(venue, state, books={"X": bids, "Y": bids})
    assert [row["account"] for row in rows if row["event"] == "trigger"] == [2, 3, 1]
    assert [row[1:] for row in brief(rows, "account", "market", "lots")] == [
        ("full", 2, "Y", -70),
        ("full", 2, "X", -30),
        ("full", 3, "X", -100),
        ("full", 1, "X", -100),
    ]


# ---- Backstop, ADL and close-out, by hand


def test_backstop_in_parts_then_adl_then_the_book():
    """Long 1,000 lots at 100, E = 20 < 25: the backstop. Provider 7 takes 300 lots a minute, 8 takes 600 an hour.

    Share 20, flow 980, to the fund 6.666667. Fill of 7: flow 294, fund 2.0000001 -> 2. Fill of 8, up to 900 lots:
    flow 882 - 294 = 588, fund 6.0000003 - 2 -> 4. The providers pay 296 and 592. The account keeps E = 20 - 18 = 2.

    ADL of the last 100: MM = 5, 2 < 2.5; flow 98. Shorts: 3 has 50 lots from 120 (profit 10/60, exposure 50, equity
    1,010: score 0.008), 4 has 30 from 110 (3/33, 30/13: 0.21), 5 has 30 from 100 (no profit). So 4 takes 30 for 29.4, 3
    takes 50 for 78.4 - 29.4 = 49. 4 closes 33 of cost for 29.4: cash 3.6; 3: 60 for 49: 11. The last 20 lots go to the
    book at 100: E = 2 - 1.6 = 0.4 pays 0.2 of fee.
    """
    venue = make_venue(backstop=[{"account": 8, "capacity_per_hour": "600"}, {"account": 7, "capacity_per_min": 300}])
    shorts = {3: {"X": ("-0.5", 120), "USDC": 1000}, 4: {"X": ("-0.3", 110), "USDC": 10}}
    shorts[5] = {"X": ("-0.3", 100), "USDC": 1000}
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, **shorts, 7: {"USDC": 1000}, 8: {"USDC": 1000}})
    new, rows = checked_step(venue, state, books={"X": {"bids": [("100", "100")]}})
    assert brief(rows, "counterparty", "requested", "lots", "cash", "counter_cost", "counter_cash", "fund") == [
        ("backstop", "below_auto_close", 7, 1000, -300, -6 * M, 296 * M, 0, 2 * M),
        ("backstop", "below_auto_close", 8, 1000, -600, -12 * M, 592 * M, 0, 4 * M),
        ("adl", "backstop_exhausted", 4, 100, -30, -600000, 33 * M, 3600000, 0),
        ("adl", "backstop_exhausted", 3, 100, -50, -1 * M, 60 * M, 11 * M, 0),
        ("market_close", "full", "book", 20, -20, 0, 0, -20 * M, 0),
    ]
    assert [row["price"] for row in rows[1:5]] == [98.0] * 4
    assert (rows[-1]["fee"], new.accounts[1].positions["X"]) == (200000, [0, 0, 0])
    assert [new.accounts[i].balances["USDC"][0] for i in (1, 3, 4)] == [200000, 1011 * M, 13600000]
    assert new.fund["USDC"] == 6200000
    assert new.provider_minute == new.provider_hour == new.provider_total == {7: 300 * M, 8: 600 * M}


def test_adl_of_a_bankrupt_account():
    """Long 1,000 lots from 100 at 95 with 20: E = -30, no provider. The zero price is (950 + 30)/10 = 98.

    The short 3 from 110 with cost 1,100 closes for 980: cash 120. Account 1 gets 980 for 1,000 of cost: 20 - 20 = 0.
    """
    venue = make_venue()
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 3: {"X": (-10, 110), "USDC": 500}})
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    columns = ("counterparty", "lots", "cash", "counter_cash", "price", "mmr_before", "mmr_after")
    assert brief(rows, *columns) == [("adl", "backstop_exhausted", 3, -1000, -20 * M, 120 * M, 98.0, math.inf, 0.0)]
    assert [new.accounts[i].balances["USDC"][0] for i in (1, 3)] == [0, 620 * M]


def test_adl_takes_a_position_without_cost_first():
    """Short 100 lots at 100 with 1 (MM 5, E = 1 < 2.5). Longs: 2 from 50 (score 1 * 1/(1000.5)), 3 and 4 from 0.

    3 and 4 have a cost of 0 and rank first, by id. flow = -100 - 1 = -101: 1.01 a lot; 3 and 4 have 40 lots each.
    """
    venue, longs = make_venue(), {4: ("0.4", 0), 3: ("0.4", 0), 2: (1, 50)}
    longs = {account: {"X": held, "USDC": 1000} for account, held in longs.items()}
    new, rows = checked_step(venue, load(venue, {1: {"X": (-1, 100), "USDC": 1}, **longs}))
    assert brief(rows, "counterparty", "lots", "cost", "cash", "counter_cost", "counter_cash") == [
        ("adl", "backstop_exhausted", 3, 40, 40 * M, -400000, 0, 40400000),
        ("adl", "backstop_exhausted", 4, 40, 40 * M, -400000, 0, 40400000),
        ("adl", "backstop_exhausted", 2, 20, 20 * M, -200000, -10 * M, 10200000),
    ]
    assert new.accounts[1].balances["USDC"] == [0, 0]


def test_fund_then_shortfall():
    """Long 1,000 lots from 100 at 95 with 20: E = -30, so the provider takes it at the mark: flow 950, fund nothing.

    Cash -50 leaves -30: the fund's 12 and a shortfall of 18. The provider holds 1,000 lots of cost 950.
    """
    venue = make_venue(backstop=[{"account": 7}], fund=12)
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH})
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    assert brief(rows, "counterparty", "lots", "cash", "counter_cash", "fund") == [
        ("backstop", "below_auto_close", 7, -1000, -50 * M, 0, 0),
        ("fund", "bankrupt", "fund", 0, 12 * M, 0, -12 * M),
        ("shortfall", "bankrupt", "shortfall", 0, 18 * M, -18 * M, 0),
    ]
    assert new.accounts[1].balances["USDC"] == [0, 0]
    assert new.accounts[7].positions["X"] == [1000, 950 * M, 950 * M]
    assert (new.fund["USDC"], new.shortfall["USDC"]) == (0, -18 * M)


def test_close_out_sells_what_is_left():
    """Long 1,000 lots from 100 at 90 with 20 USDC and GEM 0.5 + 0.1 lent at 100, weight 0.9: E = 20 + 54 - 100 = -26.

    At the mark: cash -100, USDC -80. Then GEM 0.1 redeemed, 0.6 sold for 60 without a fee, a shortfall of 20.
    """
    venue = make_venue(backstop=[{"account": 7, "assets": []}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 20, "GEM": ("0.5", "0.1")}, 7: RICH})
    new, rows = checked_step(venue, state, {"X": 90, "Y": 100}, prices={"GEM": 100})
    assert brief(rows[2:], "asset", "quanta", "cash", "fee") == [
        ("redeem", "close_out", "GEM", 100000, 0, 0),
        ("convert", "close_out", "GEM", -600000, 60 * M, 0),
        ("shortfall", "bankrupt", None, 0, 20 * M, 0),
    ]
    assert new.accounts[1].balances == {"USDC": [0, 0], "GEM": [0, 0]}
    assert new.book_quanta == {"USDC": -60 * M, "GEM": 600000, "TOK": 0}


@pytest.mark.parametrize(
    ("lots", "most", "weights", "taken"),
    [
        (1000, {7: 700, 8: 500}, None, {7: 584, 8: 416}),  # 583.3 and 416.7, the last lot to 700 - 583 = 117 > 84
        (1000, {7: 300, 8: 600}, None, {7: 300, 8: 600}),
        (1000, {7: 3000, 8: 1000}, None, {7: 750, 8: 250}),
        (3, {7: 3, 8: 3}, None, {7: 2, 8: 1}),  # ties in the order given
        (5, {7: 101, 8: 100, 9: 99}, None, {7: 2, 8: 2, 9: 1}),  # 1.68, 1.67, 1.65: two lots left over, one each
        (5, {}, None, {}),
        (0, {7: 3, 8: 1}, None, {7: 0, 8: 0}),
        # 33, 33 and 33, of which 7 and 9 can take 10: of the 80 left 8 can take 40, and 4 gets the rest
        (100, {7: 10, 8: 40, 9: 10, 4: 100}, {7: 2, 8: 2, 9: 2, 4: 0}, {7: 10, 8: 40, 9: 10, 4: 40}),
        # 30, 20 and 50: 9 is cut to 20, and 3 : 2 of the 80 left are 48 and 32; 8 is cut to 30, and 7 gets the rest
        (100, {7: 90, 8: 30, 9: 20}, {7: 3, 8: 2, 9: 5}, {7: 50, 8: 30, 9: 20}),
        # 2.5 each: the one over to 8, which has most room
        (5, {7: 3, 8: 4}, {7: 1, 8: 1}, {7: 2, 8: 3}),
        # nobody has weight: 3 : 1 of 2 are 1.5 and 0.5, and 7 has 2 of room left, 8 has 1
        (2, {7: 3, 8: 1}, {7: 0, 8: 0}, {7: 2, 8: 0}),
        # 0.9 and 0.1: the one over to 8, which has more room
        (1, {7: 5, 8: 7, 9: 0}, {7: 9, 8: 1, 9: 90}, {7: 0, 8: 1, 9: 0}),
        (9, {7: 5, 8: 4}, {7: 0, 8: 1}, {7: 5, 8: 4}),
    ],
)
def test_split(lots, most, weights, taken):
    assert reference.water_fill(lots, most, weights) == taken


def test_most():
    """Where odd numbers pass: 100 and 50 do not, 25 and 37 and 43 do, 46 and 44 do not."""
    assert reference.largest_passing(100, lambda n: n < 5) == 4
    assert reference.largest_passing(100, lambda n: n == 100) == 100
    assert reference.largest_passing(100, lambda n: False) == 0
    assert reference.largest_passing(1, lambda n: False) == 0
    seen = []
    found = reference.largest_passing(100, lambda n: seen.append(n) or n % 2 == 1)
    assert (found, seen) == (43, [100, 50, 25, 37, 43, 46, 44])


def test_a_provider_without_a_limit():
    """It counts for 10^12 at a lot value of 1, beside 500: 999.9999995 and 0.0000005; the last lot to 500 > 1000 - 999.

    Beside limits of 10^12 and 3 * 10^12 it takes a fifth. What it took does not count against it, as it does with the
    others: of the next 1,000 lots 200.00000004, 199.99999999 and 599.99999997, the two over to 8 and 7: most room.
    """
    venue = make_venue(backstop=[{"account": 7}, {"account": 8, "max_notional": 500}])
    _, rows = checked_step(venue, load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH, 8: RICH}))
    assert [row["lots"] for row in rows[1:]] == [-999, -1]
    limits = [{"account": 8, "max_notional": 10**12}, {"account": 9, "max_notional": 3 * 10**12}]
    venue = make_venue(backstop=[{"account": 7}, *limits])
    accounts = {i: {"X": (10, 100), "USDC": 20} for i in (1, 2)} | dict.fromkeys((7, 8, 9), RICH)
    _, rows = checked_step(venue, load(venue, accounts))
    assert [row["lots"] for row in rows[2:]] == [-200, -200, -600, -201, -200, -599]


@pytest.mark.parametrize("step", ["0.01", "0.00000001"])
def test_the_weight_of_a_provider_has_a_limit(step):
    """Lots of 10^-8 at 100 are worth 10^-6: both weights are shifted below 2^50, and stay 3 : 10."""
    limits = [{"account": 7, "max_notional": 3 * 10**11}, {"account": 8, "max_notional": 10**12}]
    venue = make_venue([market_row("X", ("0.10", 0), ("0.05", 0), step=step), Y], backstop=limits)
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH, 8: RICH})
    _, rows = checked_step(venue, state)
    expected = [-231, -769] if step == "0.01" else [-230769231, -769230769]
    assert [row["lots"] for row in rows[1:]] == expected


def test_a_provider_takes_what_its_initial_margin_allows():
    """Long 1,000 lots, E = 20: of them 986.666667 are paid, so that a lot adds 0.0133 of equity and needs 0.1.

    7 has 50: 50 / 0.0866667 = 576.9 lots. Of weights 900, 500 and 100 it would get 600 and gets 576; of the other 424
    are 353.3 and 70.7, and the last one to 8, who has more room.
    """
    limits = {7: 900, 8: 500, 9: 100}
    venue = make_venue(backstop=[{"account": n, "capacity_per_min": limit} for n, limit in limits.items()])
    accounts = {1: {"X": (10, 100), "USDC": 20}, 7: {"USDC": 50}, 8: RICH, 9: RICH}
    new, rows = checked_step(venue, load(venue, accounts))
    assert brief(rows, "counterparty", "lots", "cash", "fund") == [
        ("backstop", "below_auto_close", 7, -576, -11520000, 3840000),
        ("backstop", "below_auto_close", 8, -354, -7080000, 2360000),
        ("backstop", "below_auto_close", 9, -70, -1400000, 466667),
    ]
    looks = reference.sweep(venue, new, reference.Prices(AT_100))
    assert looks[7].imr < 1 < looks[7].initial_margin * Fraction(577, 576) / looks[7].net_equity


@pytest.mark.parametrize(
    ("order", "lots"), [((7, "ask", 120, 5, "Y"), 1000), ((7, "bid", 80, 6, "X"), 1000), ((7, "bid", 80, 8, "X"), 807)]
)
def test_orders_of_a_provider_count(order, lots):
    """7 has 150: 1,000 lots need 100 and give 13.3, so that 50 and 60 of orders fit; 0.1 (x + 800) < 150 + 0.0133 x."""
    venue = make_venue(backstop=[{"account": 7}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: {"USDC": 150}}, [order])
    _, rows = checked_step(venue, state)
    assert rows[1]["lots"] == -lots


def test_a_provider_may_reduce():
    """7 is short 10 from 100 with 60 and cannot take any more, but all that closes what it has."""
    venue = make_venue(backstop=[{"account": 7}])
    for side, lots in ((1, -1000), (-1, None)):
        state = load(venue, {1: {"X": (10 * side, 100), "USDC": 20}, 7: {"X": (-10, 100), "USDC": 60}})
        _, rows = checked_step(venue, state)
        assert brief(rows, "lots")[0][2] == (lots or 0)


def test_below_zero_at_the_zero_price():
    """Long 1,000 lots from 100 at 95 with 20: E = -30, so 980 are paid for what is worth 950, and nothing is lacking.

    7 has 60: it gives 0.03 a lot and needs 0.095, 60 / 0.125 = 480; at exactly 1 it is one less.
    """
    venue = make_venue(backstop=[{"account": 7}], backstop_below_zero="zero_price")
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH})
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    assert brief(rows, "lots", "cash", "counter_cost", "fund", "price") == [
        ("backstop", "below_auto_close", -1000, -20 * M, 980 * M, 0, 98.0)
    ]
    assert new.accounts[1].balances["USDC"] == [0, 0]
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: {"USDC": 60}})
    _, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    assert rows[1]["lots"] == -479
    # with equity left it is the zero price in both
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH})
    _, rows = checked_step(venue, state)
    assert (rows[1]["price"], rows[1]["fund"]) == (98.0, 6666667)


# -- Borrows: nothing can be converted in phase 2


def borrows_tick(accounts, backstop, prices, settings=(), **policy):
    """GEM and TOK count in full; the rows after the triggers and those of phase 2."""
    venue = make_venue(collateral=(("GEM", 1), ("TOK", 1)), backstop=backstop, conversion_limit=0, **policy)
    new, rows = checked_step(venue, load(venue, accounts, settings=settings), prices=prices)
    return new, [row for row in rows if row["event"] not in ("trigger", "expire", "unfilled")]


COUNTER = ("counterparty", "asset", "requested", "quanta", "cash", "counter_cash", "fund")


def test_a_debt_is_taken_over():
    """GEM -10 at 100 and USDC 1,040: E = 40 < 50. All of it for 1,040, of which 13.333333 for the fund.

    7 has 50: a GEM brings 102.667, and needs 20 of margin; 50 / 17.3333 = 2.884615. 8 takes no GEM, 9 has 500 to take.
    The rest stays; 7's part is 299.999960, with 9's it is 819.99996.
    """
    backstop = [{"account": 7}, {"account": 8, "assets": ["TOK"]}, {"account": 9, "max_notional": 500}]
    accounts = {1: {"USDC": 1040, "GEM": -10}, 7: {"USDC": 50}, 8: RICH, 9: RICH}
    new, rows = borrows_tick(accounts, backstop, {"GEM": 100, "TOK": 10})
    share = round(Fraction(13333333 * 2884615, 10**7))
    assert brief(rows, *COUNTER) == [
        ("backstop", "below_auto_close", 7, "GEM", 10 * M, 2884615, -299999960, 299999960 - share, share),
        ("backstop", "below_auto_close", 9, "GEM", 10 * M, 5 * M, -520 * M, 520 * M - 6666667, 6666667),
    ]
    assert [row["price"] for row in rows] == [104.0, 104.0]
    assert new.accounts[1].balances == {"USDC": [220000040, 0], "GEM": [-2115385, 0]}
    assert new.accounts[9].balances == {"USDC": [1513333333, 0], "GEM": [-5 * M, 0], "TOK": [0, 0]}
    assert new.provider_total == {7: 288461500, 8: 0, 9: 500 * M}


def test_positions_go_before_debts():
    """Long 1,000 lots and GEM -10: E = 60 < 75, of which 20 are for X (MM 50) and 40 for GEM (MM 100)."""
    accounts = {1: {"X": (10, 100), "USDC": 1060, "GEM": -10}, 7: RICH}
    new, rows = borrows_tick(accounts, [{"account": 7}], {"GEM": 100})
    assert brief(rows, "market", "asset", "lots", "quanta", "cash", "fund") == [
        ("backstop", "below_auto_close", "X", None, -1000, 0, -20 * M, 6666667),
        ("backstop", "below_auto_close", None, "GEM", 0, 10 * M, -1040 * M, 13333333),
    ]
    assert new.accounts[1].balances == {"USDC": [0, 0], "GEM": [0, 0]}


def test_debts_of_a_bankrupt_account_go_at_the_mark():
    """GEM -5 and TOK -40 with USDC 850: E = -50, whatever `backstop_below_zero`. Taken over at p, GEM first.

    350 are left for TOK and pay 35 of them; the other 5 are bought in the end, and then 50 are lacking.
    """
    accounts = {1: {"USDC": 850, "GEM": -5, "TOK": -40}, 7: RICH}
    _, rows = borrows_tick(accounts, [{"account": 7}], {"GEM": 100, "TOK": 10}, backstop_below_zero="zero_price")
    assert brief(rows, "asset", "quanta", "cash", "fund") == [
        ("backstop", "below_auto_close", "GEM", 5 * M, -500 * M, 0),
        ("backstop", "below_auto_close", "TOK", 35 * M, -350 * M, 0),
        ("convert", "close_out", "TOK", 5 * M, -50 * M, 0),
        ("shortfall", "bankrupt", None, 0, 50 * M, 0),
    ]


def test_collateral_for_the_settle_debt():
    """USDC -1,000 with GEM 4 and TOK 62: E = 20, d = 20 / 1020 = 1 / 51. TOK is worth more: 620 * 50 / 51 come in.

    392.156863 are missing: GEM 4.0000000026 would bring it, so all of it goes. To the fund go a third of the 51sts.
    """
    accounts = {1: {"USDC": -1000, "GEM": 4, "TOK": 62}, 7: RICH}
    new, rows = borrows_tick(accounts, [{"account": 7}], {"GEM": 100, "TOK": 10})
    assert brief(rows, *COUNTER) == [
        ("backstop", "below_auto_close", 7, "TOK", 62 * M, -62 * M, 607843137, -611895425, 4052288),
        ("backstop", "below_auto_close", 7, "GEM", 4 * M, -4 * M, 392156863, -394771242, 2614379),
    ]
    assert [row["price"] for row in rows] == pytest.approx([500 / 51, 5000 / 51], rel=1e-8)
    assert new.accounts[1].balances == {"USDC": [0, 0], "GEM": [0, 0], "TOK": [0, 0]}
    # what 500 of TOK bring is not missing any more; nothing of GEM can be taken, nor of what is lent
    limit = [{"account": 7, "max_notional": 500}]
    new, rows = borrows_tick(accounts, limit, {"GEM": 100, "TOK": 10})
    assert brief(rows, "asset", "requested", "quanta", "cash") == [
        ("backstop", "below_auto_close", "TOK", 62 * M, -50 * M, 490196078)
    ]
    accounts[1] = {"USDC": -1000, "GEM": (0, 4), "TOK": 62}
    pools = [{"symbol": "GEM", "borrowedQuantity": 4}]
    _, rows = borrows_tick(accounts, [{"account": 7}], {"GEM": 100, "TOK": 10}, pools=pools)
    assert [row["asset"] for row in rows] == ["TOK"]


def test_no_more_collateral_than_is_needed():
    """TOK 124 at 9 and -97 unsettled: E = 20. Of TOK go 1,000 / 9 * 51 / 50 = 113.333334, and no GEM."""
    accounts, settings = {1: {"USDC": -1000, "GEM": "0.01", "TOK": 124}, 7: RICH}, [{"account": 1, "unsettled": -97}]
    _, rows = borrows_tick(accounts, [{"account": 7}], {"GEM": 100, "TOK": 9}, settings)
    assert brief([row for row in rows if row["event"] == "backstop"], "asset", "quanta", "cash") == [
        ("backstop", "below_auto_close", "TOK", -113333334, 1000000006)
    ]


def test_a_debt_that_positions_left():
    """Long 1,000 lots from 100 at 95 with 20 and GEM 0.1: E = -20. 30 are missing, and there was no settle debt: d = 0.

    GEM 0.1 goes at p for 10, and 20 are lacking.
    """
    venue = make_venue(collateral=(("GEM", 1),), backstop=[{"account": 7}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 20, "GEM": "0.1"}, 7: RICH})
    _, rows = checked_step(venue, state, {"X": 95, "Y": 100}, prices={"GEM": 100})
    assert brief(rows, "asset", "quanta", "cash", "fund") == [
        ("backstop", "below_auto_close", None, 0, -50 * M, 0),
        ("backstop", "below_auto_close", "GEM", -100000, 10 * M, 0),
        ("shortfall", "bankrupt", None, 0, 20 * M, 0),
    ]


def test_provider_capacity_comes_back_with_the_clock():
    """7 takes 700 a minute, 8 takes 500. Accounts 1 (1,000 lots, E = 20) and 2 (500 lots, E = 10) have MMR 2.5 each.

    Account 1: 584 and 416. Account 2: the rest, 116 and 84; 300 lots are left with E = 10 * 300/500 = 6.
    At 59 s nothing is left; at 60 s a new minute begins: 300 * 700/1200 = 175 and 125.
    """
    venue = make_venue(backstop=[{"account": 7, "capacity_per_min": 700}, {"account": 8, "capacity_per_min": 500}])
    accounts = {1: {"X": (10, 100), "USDC": 20}, 2: {"X": (5, 100), "USDC": 10}, 7: RICH, 8: RICH}
    state, rows = checked_step(venue, load(venue, accounts))
    assert brief(rows, "account", "counterparty", "lots") == [
        ("backstop", "below_auto_close", 1, 7, -584),
        ("backstop", "below_auto_close", 1, 8, -416),
        ("backstop", "below_auto_close", 2, 7, -116),
        ("backstop", "below_auto_close", 2, 8, -84),
        ("unfilled", "no_book", 2, None, 0),
    ]
    assert rows[-1]["requested"] == 300
    assert reference.margin(venue, state.accounts[2], reference.Prices(AT_100)).net_equity == 6
    state, rows = checked_step(venue, state, time_ns=MINUTE - 1)
    assert brief(rows) == [("unfilled", "no_book")]
    state, rows = checked_step(venue, state, time_ns=MINUTE)
    assert brief(rows, "counterparty", "lots") == [
        ("backstop", "below_auto_close", 7, -175),
        ("backstop", "below_auto_close", 8, -125),
    ]
    assert state.provider_minute == {7: 175 * M, 8: 125 * M}
    assert state.provider_hour == state.provider_total == {7: 875 * M, 8: 625 * M}


def test_a_provider_in_liquidation_takes_nothing():
    """Provider 7 is itself liquidating, and takes neither its own nor 1's position; 8 does not take the market."""
    venue = make_venue(backstop=[{"account": 7}, {"account": 8, "markets": ["Y"]}])
    _, rows = checked_step(venue, load(venue, {account: {"X": (10, 100), "USDC": 20} for account in (1, 7)}))
    assert brief(rows, "account", "requested") == [("unfilled", "no_book", i, 1000) for i in (1, 7)]


def test_a_provider_turns_its_position_round():
    """Provider 7 is short 400 lots from 110 (cost -440) and takes 1,000 at the mark 95 (E = -30): flow -950.

    400 lots close for 380 and 600 open for 570: cost +440 + 570, cash -950 + 1,010 = 60.
    """
    venue = make_venue(backstop=[{"account": 7}], fund=100)
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: {"X": (-4, 110), "USDC": 1000}})
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    assert (rows[1]["counter_cost"], rows[1]["counter_cash"]) == (1010 * M, 60 * M)
    assert new.accounts[7].positions["X"] == [600, 570 * M, 570 * M]


def test_adl_passes_over_a_provider_that_was_turned_round():
    """As before at 100 with a limit of 600: the winning short 7 is long 200 lots when the last 400 look for a taker."""
    venue = make_venue(backstop=[{"account": 7, "max_notional": 600}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: {"X": (-4, 110), "USDC": 1000}})
    new, rows = checked_step(venue, state)
    assert brief(rows, "requested", "lots") == [
        ("backstop", "below_auto_close", 1000, -600),
        ("unfilled", "no_book", 400, 0),
    ]
    assert new.accounts[7].positions["X"][0] == 200


def test_adl_passes_over_the_selected_and_open_positions_are_not_closed_out():
    """1 is bankrupt, E = -20. The winning short 3 (E = 30, MM 53.5) is selected: it takes nothing."""
    venue = make_venue()
    state = load(venue, {1: {"X": (10, 100), "USDC": -20}, 3: {"X": (-10, 110), "USDC": -70}})
    _, rows = checked_step(venue, state)
    assert brief(rows, "account", "asset", "requested") == [
        ("expire", "no_book", 3, None, 100),
        ("unfilled", "no_book", 1, None, 1000),
        ("unfilled", "no_collateral", 1, "USDC", 20 * M),
    ]


# -- ADL: the policies. Shorts of X at 100 beside account 1, which is long 10 with E = 20: they buy at 98


SHORTS = {  # E of 1,000, 50, 600, 4,000 and 200
    2: {"X": (-4, 125), "USDC": 900},
    3: {"X": (-3, 105), "USDC": 35},
    4: {"X": (-5, 110), "Y": (10, 100), "USDC": 550},
    5: {"X": (-2, 200), "USDC": 3800},
    6: {"X": (-6, 98), "USDC": 212},
}
DEAR = market_row("Y", ("0.20", 0), ("0.10", 0))


def deleveraged(accounts, **policy):
    """The new state and (counterparty, lots) of the rows of ADL."""
    venue = make_venue((X, DEAR), **policy)
    new, rows = checked_step(venue, load(venue, accounts))
    return new, [(row["counterparty"], abs(row["lots"])) for row in rows if row["event"] == "adl"]


@pytest.mark.parametrize(
    ("policy", "fills"),
    [
        # 0.2 * 0.4 = 0.08, 0.0476 * 6 = 0.286, 0.0909 * 2.5 = 0.227, 0.5 * 0.05 = 0.025, -0.0204 / 3
        ("pnl_leverage", [(3, 300), (4, 500), (2, 200)]),
        # 4: the share of X is 600 * 25 / 125 = 120, so 500 / 120 * 0.0909 = 0.379
        ("bitmex", [(4, 500), (3, 300), (2, 200)]),
        ("bybit", [(3, 300), (4, 500), (2, 200)]),
        # entry / E: 0.5, 6.3, 0.917, 0.1, 2.94
        ("hyperliquid", [(3, 300), (6, 600), (4, 100)]),
        # 100/900 * 20/1000, 15/35 * 15/50, 50/550 * 125/600
        ("binance", [(3, 300), (4, 500), (2, 200)]),
        ("size", [(6, 600), (4, 400)]),
        # 0.4, 6, 2.5, 0.05, 3
        ("leverage", [(3, 300), (6, 600), (4, 100)]),
        ("bankruptcy_price", [(2, 400), (3, 300), (4, 300)]),
        ("pro_rata", [(2, 200), (3, 150), (4, 250), (5, 100), (6, 300)]),
        # of 5,850: 5 would get 683 and then 2 of 1,850 would get 432; the other 400 by 50, 600 and 200
        ("capped_pro_rata", [(2, 400), (3, 23), (4, 282), (5, 200), (6, 95)]),
        # 160, 1800, 1250, 10, 1800: 3 would get 358; the other 700 are 34.8, 271.7, 2.2 and 391.3
        ("rap_linear", [(2, 35), (3, 300), (4, 272), (5, 2), (6, 391)]),
        # 64, 10800, 3125, 0.5, 5400
        ("rap_power", [(2, 6), (3, 300), (4, 254), (6, 440)]),
        # only 3 has more than 5; the other 700 by what they can give: 164.7, 205.9, 82.4, 247.1
        ("rap_tail", [(2, 164), (3, 300), (4, 206), (5, 82), (6, 248)]),
    ],
)
def test_adl_policies(policy, fills):
    accounts = {1: {"X": (10, 100), "USDC": 20}} | SHORTS
    new, found = deleveraged(accounts, adl_policy=policy, adl_counterparties="opposing")
    assert found == fills
    assert new.accounts[1].positions["X"] == [0, 0, 0]
    _, found = deleveraged(accounts, adl_policy=policy)
    assert 6 not in dict(found)
    assert sum(dict(found).values()) == 1000


def figures_of(lots, value, entry, equity=100, exposure=500, margins=(40, 10), profits=0):
    value, entry = Fraction(value), Fraction(entry)
    money = (Fraction(x) for x in (profits, equity, exposure, *margins))
    return reference.Figures(lots, value, entry, *money)


LOSS_OF_LONG, PROFIT_OF_LONG = figures_of(8, 100, 125), figures_of(8, 100, 80)
LOSS_OF_SHORT, PROFIT_OF_SHORT = figures_of(-8, -100, -80), figures_of(-8, -100, -125)
FREE_LONG, PAID_SHORT = figures_of(8, 100, 0), figures_of(-8, -100, 0)


@pytest.mark.parametrize(
    ("policy", "scores"),
    [
        # pnl 0.25, -0.2, 0.2, -0.25; lev 5
        ("pnl_leverage", (1.25, -0.04, 1, -0.05, math.inf, None)),
        # share 25, lev 4
        ("bitmex", (1, -0.05, 0.8, -0.0625, math.inf, None)),
        ("bybit", (1.25, None, 1, None, math.inf, None)),
        ("hyperliquid", (1.25, 0.8, 1.25, 0.8, math.inf, 0)),
        # 20/100 * 40/100, 25/100 * 40/100
        ("binance", (0.08, 0, 0.1, 0, 0.4, 0)),
        ("size", (100,) * 6),
        ("leverage", (5,) * 6),
        ("bankruptcy_price", (0,) * 6),
    ],
)
def test_adl_scores(policy, scores):
    cases = (PROFIT_OF_LONG, LOSS_OF_LONG, PROFIT_OF_SHORT, LOSS_OF_SHORT, FREE_LONG, PAID_SHORT)
    for of, expected in zip(cases, scores, strict=True):
        found = reference.SCORES[policy](of)
        assert found == (expected if expected in (None, math.inf) else reference.number(expected))


def test_adl_scores_at_the_edges():
    """An entry of the wrong sign; no margin; a balance of less than 1; at the entry exactly."""
    wrong_long, wrong_short = figures_of(8, 100, -50), figures_of(-8, -100, 50)
    scores, no_margin = reference.SCORES, figures_of(8, 100, 80, margins=(0, 0))
    for policy in ("pnl_leverage", "bitmex", "bybit", "hyperliquid"):
        assert scores[policy](wrong_long) == math.inf
    # a loss of 150 of 50; 50 / -100 of 1
    assert scores["pnl_leverage"](wrong_short) == Fraction(-3, 5)
    assert scores["hyperliquid"](wrong_short) == Fraction(-1, 2)
    assert scores["bybit"](wrong_short) is None
    # lev = 100 / 100
    assert scores["bitmex"](no_margin) == Fraction(1, 4)
    # 100 - 99.5 counts as 1
    assert scores["binance"](figures_of(8, 100, 80, profits="99.5")) == 8
    even = figures_of(8, 100, 100)
    assert (scores["pnl_leverage"](even), scores["bybit"](even), scores["hyperliquid"](even)) == (0, None, 1)


def test_whole_weights():
    """Of 3 (e = 2) and 1.5: 3 * 2^36; 1/3 in 24 bits are 11184811 / 2^25; 2^-37 is 1/2 of a unit; 2^24 + 1 is 2^24."""
    found = reference.integer_weights({1: 3, 2: Fraction(3, 2), 3: Fraction(1, 3), 4: Fraction(1, 2**37), 5: 0, 6: -2})
    assert found == {1: 3 * 2**36, 2: 3 * 2**35, 3: 11184811 * 2**11, 4: 0, 5: 0, 6: 0}
    assert reference.integer_weights({1: 2**24 + 1, 2: 2**24 + 3}) == {1: 2**37, 2: 2**37 + 2**15}
    assert reference.integer_weights({1: 2**24 - Fraction(1, 2)}) == {1: 2**37}
    assert reference.integer_weights({1: 0}) == {1: 0}
    assert reference.integer_weights({}) == {}


@pytest.mark.parametrize("policy", ["pnl_leverage", "bitmex", "bybit", "hyperliquid"])
def test_positions_without_cost_are_first(policy):
    """The scene of test_adl_takes_a_position_without_cost_first."""
    longs = {account: {"X": held, "USDC": 1000} for account, held in {4: ("0.4", 0), 3: ("0.4", 0), 2: (1, 50)}.items()}
    _, found = deleveraged({1: {"X": (-1, 100), "USDC": 1}, **longs}, adl_policy=policy)
    assert found == [(3, 40), (4, 40), (2, 20)]


@pytest.mark.parametrize(
    ("adl_price", "mark", "price"),
    [(0, 100, 98), ("0.5", 100, 99), (1, 100, 100), (0, 95, 98), ("0.25", 95, "97.25"), (1, 95, 95)],
)
def test_the_price_of_adl(adl_price, mark, price):
    """E = 20, or at 95 -30 with 30 of them lacking at the mark."""
    venue = make_venue(adl_price=adl_price)
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 3: {"X": (-10, 110), "USDC": 500}})
    _, rows = checked_step(venue, state, {"X": mark, "Y": 100})
    assert rows[1]["price"] == float(price)
    lacking = [row["cash"] for row in rows if row["event"] == "shortfall"]
    assert lacking == ([round((98 - Fraction(price)) * 10 * M)] if Fraction(price) < 98 else [])


def test_the_cap_of_adl():
    """A quarter of 7 lots is 2, of 2,000 lots 500: in one tick, whoever is liquidated. 3 is first, 4 is last."""
    venue = make_venue(adl_cap="0.25")
    accounts = {1: {"X": (8, 100), "USDC": 10}, 2: {"X": (4, 100), "USDC": 6}, 3: {"X": (-20, 120), "USDC": 5000}}
    accounts |= {4: {"X": ("-0.07", 119), "USDC": 5000}, 5: {"X": (-20, 101), "USDC": 5000}}
    state, rows = checked_step(venue, load(venue, accounts))
    assert brief(rows, "account", "counterparty", "requested", "lots") == [
        ("adl", "backstop_exhausted", 1, 3, 800, -500),
        ("adl", "backstop_exhausted", 1, 5, 800, -300),
        ("adl", "backstop_exhausted", 2, 5, 400, -200),
        ("adl", "backstop_exhausted", 2, 4, 400, -2),
        ("unfilled", "no_book", 2, None, 198, 0),
    ]
    # in the next tick it is a quarter of the 1,500 that are left
    state.accounts[2].positions["X"], state.accounts[2].balances["USDC"] = [600, 600 * M, 600 * M], [M, 0]
    _, rows = checked_step(venue, state)
    assert [row["lots"] for row in rows[1:]] == [-375, -225]


@pytest.mark.parametrize(("band", "price", "left"), [(1, 98.0, 0), ("0.02", 96.9, 11), (0, 95.0, 30)])
def test_a_zero_price_lies_within_its_band(band, price, left):
    """E = -30 at 95: the zero price is 98; within 2 % of the mark it is 96.9, and 11 are lacking."""
    venue = make_venue(zero_price_band=band)
    _, rows = checked_step(venue, load(venue, {1: {"X": (10, 100), "USDC": 20}, 3: {"X": (-10, 110), "USDC": 500}}),
                           {"X": 95, "Y": 100})  # fmt: skip
    assert rows[1]["price"] == price
    assert sum(row["cash"] for row in rows if row["event"] == "shortfall") == left * M
    # so it does for providers, if the policy lets them pay
    venue = make_venue(zero_price_band=band, backstop=[{"account": 7}], backstop_below_zero="zero_price")
    _, rows = checked_step(venue, load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: RICH}), {"X": 95, "Y": 100})
    assert [(row["price"], row["fund"]) for row in rows if row["event"] == "backstop"] == [(price, 0)]


@pytest.mark.parametrize(("limit", "taker"), [(1, 3), ("0.5", 4)])
def test_adl_leaves_nobody_above_a_margin_ratio(limit, taker):
    """3 has E = 550 and MM = 547.5, 0.0475 of it a lot, and loses 0.03 a lot: under 1 it stays, under 0.5 it is not."""
    venue = make_venue(counterparty_mmr=limit)
    accounts = {1: {"X": (10, 100), "USDC": 20}, 3: TIGHT, 4: {"X": (-10, 96), "USDC": 5000}}
    _, rows = checked_step(venue, load(venue, accounts), {"X": 95, "Y": 100})
    assert rows[1]["counterparty"] == taker


def test_adl_ends_when_the_account_is_healthy():
    """At the mark X, MM 475 of 500, goes first: then E = 60 bears the 25 of Y."""
    venue = make_venue(adl_price=1, adl_counterparties="opposing")
    accounts = {1: {"X": (95, 100), "Y": (5, 100), "USDC": 60}, 3: {"X": (-95, 100), "Y": (-5, 100), "USDC": 5000}}
    new, rows = checked_step(venue, load(venue, accounts))
    assert brief(rows, "market", "lots") == [("adl", "backstop_exhausted", "X", -9500)]
    assert new.accounts[1].positions["Y"][0] == 500


def test_a_provider_may_always_reduce_its_own_position():
    """7 is short 10 with E = 60 of 100 (IMR 167 %) and takes 10 all the same. Flat, it has 73.33 for 846.15 others."""
    venue = make_venue(backstop=[{"account": 7}])
    accounts = {1: {"X": (10, 100), "USDC": 20}, 2: {"X": (40, 100), "USDC": 80}, 7: {"X": (-10, 100), "USDC": 60}}
    new, rows = checked_step(venue, load(venue, accounts))
    found = [(row["account"], row["lots"]) for row in rows if row["event"] == "backstop"]
    assert found == [(1, -1000), (2, -846)]
    assert new.accounts[7].positions["X"][0] == 846


@pytest.mark.parametrize(("unsettled", "paid"), [(-3, 33), (10, 20), (30, 0)])
def test_close_out_takes_what_is_unsettled(unsettled, paid):
    """-30 at the mark, and what is unsettled: nobody is left below zero, or with a claim that another paid for."""
    venue = make_venue(backstop=[{"account": 9}], fund=1000)
    accounts = {1: {"X": (10, 100), "USDC": 20}, 9: RICH}
    state = load(venue, accounts, settings=[{"account": 1, "unsettled": unsettled}])
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    assert sum(row["cash"] for row in rows if row["event"] == "fund") == paid * M
    assert (new.accounts[1].unsettled["USDC"], new.accounts[1].balances["USDC"][0]) == (0, 0)


def test_a_debt_is_not_taken_over_on_credit():
    """GEM -10 with TOK 104 that nobody takes: E = 40 < 50 and no settle, so the debt stays as it is."""
    accounts = {1: {"USDC": 0, "GEM": -10, "TOK": 104}, 7: RICH}
    _, rows = borrows_tick(accounts, [{"account": 7, "assets": ["GEM"]}], {"GEM": 100, "TOK": 10})
    assert rows == []


def test_what_rounding_leaves_goes_to_who_has_a_weight():
    assert reference.water_fill(11, {"a": 100, "b": 100, "c": 1000}, {"a": 1, "b": 1, "c": 0}) == {
        "a": 6,
        "b": 5,
        "c": 0,
    }


UNDER_WATER = {"X": (10, 102), "USDC": 0}  # at 95 E = -70: a counterparty buys at 102 and loses 0.07 a lot
TIGHT = {"X": (-10, 110), "Y": (100, 100), "USDC": 400}  # E = 550, MM = 47.5 + 500


def test_adl_is_cut_where_it_would_liquidate():
    """547.5 - 0.0475 x < 550 - 0.07 x up to 111 lots; 4 gives the rest, and those of 8, who has E = -7: 102 as well."""
    venue = make_venue()
    accounts = {1: UNDER_WATER, 3: TIGHT, 4: {"X": (-20, 97), "USDC": 5000}}
    new, rows = checked_step(venue, load(venue, accounts), {"X": 95, "Y": 100})
    assert brief(rows, "counterparty", "requested", "lots", "price") == [
        ("adl", "backstop_exhausted", 3, 1000, -111, 102.0),
        ("adl", "backstop_exhausted", 4, 1000, -889, 102.0),
    ]
    look = reference.sweep(venue, new, reference.Prices({"X": 95, "Y": 100}))[3]
    assert Fraction(999, 1000) < look.mmr < 1
    accounts |= {8: {"X": (1, 102), "USDC": 0}}
    _, rows = checked_step(venue, load(venue, accounts), {"X": 95, "Y": 100})
    assert brief(rows, "account", "counterparty", "lots") == [
        ("adl", "backstop_exhausted", 1, 3, -111),
        ("adl", "backstop_exhausted", 1, 4, -889),
        ("adl", "backstop_exhausted", 8, 4, -100),
    ]


def test_what_a_cut_leaves_is_shared_again():
    """By 1,000, 500 and 600 lots 3 gets 477 and is cut to 111, 4 gets 238, 5 gets 285; of the 366 left 166 and 200."""
    others = {n: {"X": (lots, 110), "USDC": 5000} for n, lots in ((4, -5), (5, -6))}
    accounts = {1: UNDER_WATER, 3: TIGHT, **others}
    venue = make_venue(adl_policy="pro_rata")
    _, rows = checked_step(venue, load(venue, accounts), {"X": 95, "Y": 100})
    found = [(row["counterparty"], -row["lots"]) for row in rows[1:]]
    assert found == [(3, 111), (4, 238), (5, 285), (4, 166), (5, 200)]
    assert sum(row["cash"] - row["cost"] for row in rows) == 1020 * M


def test_who_cannot_reach_is_passed_over():
    """Each own lot costs 0.07: 70 of 3, whose share is 550 * 47.5 / 547.5 = 47.7; 35 of 4, whose share is its 100.

    At E = 800 the share of 3 is 69.4, at 810 it is 70.3.
    """
    accounts = {1: UNDER_WATER, 4: {"X": (-5, 110), "USDC": 25}}
    for policy, money, fills in (
        ("pnl_leverage", 400, [(3, 111), (4, 500)]),
        ("bankruptcy_price", 400, [(4, 500)]),
        ("bankruptcy_price", 650, [(4, 500)]),
        ("bankruptcy_price", 660, [(3, 1000)]),
    ):
        venue = make_venue(adl_policy=policy)
        state = load(venue, accounts | {3: TIGHT | {"USDC": money}})
        _, rows = checked_step(venue, state, {"X": 95, "Y": 100})
        assert [(row["counterparty"], -row["lots"]) for row in rows if row["event"] == "adl"] == fills


# -- Lends


def account_value(venue, state, prices):
    """What all accounts and the fund have together, at the prices and without haircuts, in quanta."""
    worth = {asset: reference.Prices(AT_100, None, prices).of_quantum(venue, asset) for asset in venue.assets}
    held = [item for one in state.accounts.values() for item in one.balances.items()]
    return state.fund["USDC"] + sum(worth[asset] * sum(amounts) for asset, amounts in held)


def lends_tick(accounts, pools=({"symbol": "GEM"},), prices=None, collateral=(("GEM", "0.9"), ("TOK", "0.9"))):
    """The rows of ADL; nothing of GEM is lent or borrowed outside, and nobody is worth more or less for it."""
    venue, prices = make_venue(pools=pools, collateral=collateral), prices or {"GEM": 100, "TOK": 10}
    state = load(venue, accounts)
    new, rows = checked_step(venue, state, prices=prices)
    rows = [row for row in rows if row["event"] in ("adl", "unfilled")]
    return new, rows, account_value(venue, new, prices) - account_value(venue, state, prices)


LENT = ("counterparty", "asset", "requested", "lent", "quanta", "cash", "counter_cash", "price")


def test_lends_are_settled_with_the_borrowers():
    """GEM 10 lent at 100 (weight 1) and a debt of 995: E = 5. 9.95 of them pay it: 5.5 owed by 2, the rest by 3 and 4.

    Both owe 2.25; 3 comes first. At 0.9 the first 550 pay 880 down to 330 and lift E = 20 by 55: healthy.
    """
    accounts = {1: {"USDC": -995, "GEM": (0, 10)}, 2: {"USDC": 3000, "GEM": "-5.5"}}
    accounts |= {n: {"USDC": 3000, "GEM": "-2.25"} for n in (4, 3)}
    new, rows, gained = lends_tick(accounts, collateral=(("GEM", "1"), ("TOK", "0.9")))
    assert brief(rows, *LENT) == [
        ("adl", "full_utilization", 2, "GEM", 9950000, -5500000, 0, 550 * M, -550 * M, 100.0),
        ("adl", "full_utilization", 3, "GEM", 9950000, -2250000, 0, 225 * M, -225 * M, 100.0),
        ("adl", "full_utilization", 4, "GEM", 9950000, -2200000, 0, 220 * M, -220 * M, 100.0),
    ]
    assert gained == 0
    assert new.accounts[1].balances == {"USDC": [0, 0], "GEM": [0, 50000]}
    assert new.accounts[4].balances == {"USDC": [2780 * M, 0], "GEM": [-50000, 0]}
    _, rows, _ = lends_tick(accounts | {1: {"USDC": -880, "GEM": (0, 10)}})
    assert [row["counterparty"] for row in rows] == [2]


def test_a_borrower_is_left_healthy():
    """2 owes GEM 6 (maintenance 2 %) and has TOK 70: E = 30. What it pays is a debt at 5 %: 12 + 3 y < 30.

    At 6 it would be 30, so it pays for one less; 3 is liquidating itself and pays nothing.
    """
    row = asset_row("GEM", "0.9", imfFunction={"type": "sqrt", "base": "0.04", "factor": "0"})
    accounts = {1: {"USDC": -880, "GEM": (0, 10)}, 2: {"GEM": -6, "TOK": 70}, 3: {"USDC": 407, "GEM": -4}}
    _, rows, gained = lends_tick(accounts, collateral=(row, ("TOK", "0.9")))
    found = [(r["counterparty"], r["lent"], r["cash"]) for r in rows]
    assert (found, gained) == ([(2, -5999999, 599999900)], 0)


def test_only_what_is_stuck():
    """USDC -1,295 with GEM 10 and TOK 30 lent: E = 5. Phase 2 redeems and sells 4 GEM for 396.

    GEM 6 and TOK 30 cannot be redeemed: 600 come from GEM, which is worth more, and 299 from TOK.
    """
    accounts = {1: {"USDC": -1295, "GEM": (0, 10), "TOK": (0, 30)}, 2: {"USDC": 5000, "GEM": -6, "TOK": -30}}
    pools, whole = [{"symbol": "GEM"}, {"symbol": "TOK"}], (("GEM", "1"), ("TOK", "1"))
    new, rows, gained = lends_tick(accounts, pools, collateral=whole)
    assert brief(rows, "asset", "requested", "lent", "cash") == [
        ("adl", "full_utilization", "GEM", 6 * M, -6 * M, 600 * M),
        ("adl", "full_utilization", "TOK", 29900000, -29900000, 299 * M),
    ]
    assert (gained, new.accounts[1].balances["USDC"]) == (0, [0, 0])


def test_lends_pay_debts_of_any_asset():
    """GEM 10 lent, and TOK -86 at 10 with USDC 20: E = 60 < 86, MM. 860 are owed: GEM 8.6, and the debt stays."""
    accounts = {1: {"USDC": 20, "GEM": (0, 10), "TOK": -86}, 2: {"USDC": 5000, "GEM": -10}}
    venue = make_venue(pools=[{"symbol": "GEM"}], conversion_limit=0)
    _, rows = checked_step(venue, load(venue, accounts), prices={"GEM": 100, "TOK": 10})
    assert brief(rows[-1:], "requested", "lent", "cash") == [("adl", "full_utilization", 8600000, -8600000, 860 * M)]


# -- Who pays a shortfall: account 1 is long 1,000 lots from 100 at 95 with 20, and 18 are lacking after the fund's 12


def lacking(others, shortfall, settings=(), **policy):
    venue = make_venue(backstop=[{"account": 9}], shortfall=shortfall, **{"fund": 12, **policy})
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 9: RICH, **others}, settings=settings)
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    return new, [row for row in rows if row["event"] in ("socialize", "shortfall")]


PAID = ("counterparty", "market", "cash", "counter_cash", "unsettled")


def test_a_shortfall_without_recourse():
    new, rows = lacking({}, "non_recourse")
    assert brief(rows, *PAID) == [("shortfall", "bankrupt", "shortfall", None, 18 * M, -18 * M, 0)]
    assert (new.shortfall["USDC"], new.accounts[1].unsettled["USDC"]) == (-18 * M, 0)


def test_a_shortfall_stays_unsettled():
    new, rows = lacking({}, "unsettled")
    assert brief(rows, *PAID) == [("shortfall", "unsettled", None, None, 18 * M, 0, -18 * M)]
    account = new.accounts[1]
    assert (new.shortfall["USDC"], account.unsettled["USDC"], account.balances["USDC"]) == (0, -18 * M, [0, 0])


def test_equity_pays():
    """Shorts with 100 and 300 pay 4.5 and 13.5; the long 5 and 6, who has no position, pay nothing; nor does 9."""
    others = {3: {"X": (-2, 95), "USDC": 100}, 4: {"X": (-3, 95), "USDC": 300}, 5: {"X": (5, 95), "USDC": 300}, 6: RICH}
    new, rows = lacking(others, "equity")
    assert brief(rows, *PAID) == [
        ("socialize", "equity", 3, None, 4500000, -4500000, 0),
        ("socialize", "equity", 4, None, 13500000, -13500000, 0),
    ]
    assert (new.shortfall["USDC"], new.accounts[1].balances["USDC"]) == (0, [0, 0])


def test_open_interest_pays():
    """200, 300 and 500 lots of 1,000, whichever side."""
    others = {3: {"X": (-2, 95), "USDC": 100}, 4: {"X": (-3, 95), "USDC": 300}, 5: {"X": (5, 95), "USDC": 300}, 6: RICH}
    _, rows = lacking(others, "open_interest")
    assert [(row["counterparty"], row["cash"]) for row in rows] == [(3, 3600000), (4, 5400000), (5, 9 * M)]


def test_who_is_cut_pays_no_more():
    """3 has 97 and a maintenance of 95: it can pay less than 2. By 97 : 300 it is asked for 4.397985, rounded up.

    Of what is left then 4 pays all, in a row of its own; 5 is asked for nothing, it is liquidating.
    """
    others = {3: {"X": (-20, 95), "USDC": 97}, 4: {"X": (-3, 95), "USDC": 300}, 5: {"X": (-20, 95), "USDC": 90}}
    _, rows = lacking(others, "equity")
    assert brief(rows, *PAID) == [
        ("socialize", "equity", 3, None, 1999999, -1999999, 0),
        ("socialize", "equity", 4, None, 13602015, -13602015, 0),
        ("socialize", "equity", 4, None, 2397986, -2397986, 0),
    ]


def test_what_nobody_could_pay():
    """3 has 96 and pays 0.999999; the rest is the venue's."""
    _, rows = lacking({3: {"X": (-20, 95), "USDC": 96}}, "equity")
    assert brief(rows, *PAID) == [
        ("socialize", "equity", 3, None, 999999, -999999, 0),
        ("shortfall", "bankrupt", "shortfall", None, 17000001, -17000001, 0),
    ]
    _, rows = lacking({5: {"X": (20, 95), "USDC": 1000}}, "equity")
    assert [row["event"] for row in rows] == ["shortfall"]


def test_who_has_no_position_any_more_pays_what_it_has():
    """At the mark 93 1 has E = -60; 3 bought all its lots, has 53 and no exposure, and gives that."""
    venue = make_venue(shortfall="equity", adl_price=1)
    accounts = {1: {"X": (10, 100), "USDC": 10}, 3: {"X": (-10, 100), "USDC": -17}}
    new, rows = checked_step(venue, load(venue, accounts), {"X": 93, "Y": 100})
    assert brief(rows[1:], "cash", "counter_cash")[1:] == [
        ("socialize", "equity", 53 * M, -53 * M),
        ("shortfall", "bankrupt", 7 * M, -7 * M),
    ]
    assert new.accounts[3].balances["USDC"] == [0, 0]


def test_a_shortfall_over_markets():
    """Long 10 X at 95 and short 5 Y at 100: of 33 pay those opposite in either, by their equity: 100 and 300."""
    others = {3: {"X": (-2, 95), "USDC": 100}, 4: {"Y": (3, 100), "USDC": 300}}
    venue = make_venue(backstop=[{"account": 9}], shortfall="equity")
    state = load(venue, {1: {"X": (10, 100), "Y": (-5, 100), "USDC": 17}, 9: RICH, **others})
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    rows = [row for row in rows if row["event"] == "socialize"]
    assert [(row["counterparty"], row["cash"]) for row in rows] == [(3, 8250000), (4, 24750000)]
    assert new.shortfall["USDC"] == 0


# ---- Repay, by hand: account 1 has balances only


def repay_tick(holdings, prices, **policy):
    venue = make_venue(**policy)
    new, rows = checked_step(venue, load(venue, {1: holdings}), prices=prices)
    return new, rows, {asset: tuple(held) for asset, held in new.accounts[1].balances.items()}


def test_repay_from_collateral():
    """GEM 10 at 145 (weight 0.9: 1,305), USDC -1,250: E = 55, MM = 62.5, auto-close 31.25. Slices of at least 100.

    Target 125. u = ceil(125,000,000/(145 * 0.99)) = ceil(870,776.73) = 870,777; V = 126,262,665; fee 1,262,627. The
    debt falls by 125.000038 to 1,124.999962; GEM 9.129223 count 1,191.363602; E = 66.4 > MM = 56.2: healthy.
    """
    new, rows, balances = repay_tick({"USDC": -1250, "GEM": 10}, {"GEM": 145}, min_slice_notional=100)
    assert brief(rows, "counterparty", "asset", "quanta", "cash", "fee", "counter_cash", "price") == [
        ("convert", "debt", "book", "GEM", -870777, 126262665, 1262627, -126262665, 145.0)
    ]
    assert balances == {"USDC": (-1124999962, 0), "GEM": (9129223, 0)}
    assert new.fund["USDC"] == 1262627
    assert rows[1]["mmr_after"] < 1


def test_the_price_of_a_conversion_is_the_asset_price():
    """The worth of the quanta is rounded (1,010,000,010 at 98.7654321), their price is not."""
    _, rows, _ = repay_tick({"USDC": -1250, "GEM": "14.5"}, {"GEM": 98.7654321}, min_slice_notional=1000)
    assert [row["price"] for row in rows if row["event"] == "convert"] == [98.7654321]


def test_repay_by_redeeming():
    """GEM -10 with 2 lent at 100, USDC 900: E = 900 + 180 - 1,000 = 80, MM = 100, auto-close 50.

    Target 10 % = 1 GEM, redeemed: debt 9, lent 1: E = 90 = MM, MMR exactly 1, still liquidating, but the slice is done.
    """
    _, rows, balances = repay_tick({"USDC": 900, "GEM": (-10, 2)}, {"GEM": 100})
    assert brief(rows, "asset", "quanta", "cash", "mmr_after") == [("redeem", "debt", "GEM", 1 * M, 0, 1.0)]
    assert balances["GEM"] == (-9 * M, 1 * M)


def test_repay_ends_when_the_account_is_healthy():
    """GEM -10 with 2 lent at 100, USDC 895, TOK -1 with 1 lent at 10: E = 74, MM = 101. 2 of 5 GEM redeemed: 94 > 81.

    And: USDC -1,250, GEM 5 at 145 (725) and TOK 73 at 10 (730): E = 59.5, MM = 62.5. For 800 TOK is sold first, for
    722.7 after the fee: E = 652.5 - 527.3, healthy, and GEM is not sold for the rest.
    """
    holdings = {"USDC": 895, "GEM": (-10, 2), "TOK": (-1, 1)}
    _, rows, _ = repay_tick(holdings, {"GEM": 100, "TOK": 10}, min_slice_notional=500)
    assert brief(rows, "asset", "quanta") == [("redeem", "debt", "GEM", 2 * M)]
    holdings = {"USDC": -1250, "GEM": 5, "TOK": 73}
    _, rows, balances = repay_tick(holdings, {"GEM": 145, "TOK": 10}, min_slice_notional=800)
    assert brief(rows, "asset", "quanta") == [("convert", "debt", "TOK", -73 * M)]
    assert balances["USDC"] == (-527300000, 0)


def test_repay_from_the_lent_part_of_another_borrow():
    """USDC -165, TOK -1 with 20 lent at 10: E = 5, MM = 9.25. Target 16.5: ceil(16.5/9.9) = 1.666667 TOK, all lent.

    E = 165 - 148.5 - 10 = 6.5 < MM = 8.4: then the borrow of TOK: a tenth of it is redeemed.
    """
    _, rows, balances = repay_tick({"USDC": -165, "TOK": (-1, 20)}, {"TOK": 10})
    assert brief(rows, "asset", "quanta", "cash") == [
        ("redeem", "debt", "TOK", 1666667, 0),
        ("convert", "debt", "TOK", -1666667, 16666670),
        ("redeem", "debt", "TOK", 100000, 0),
    ]
    assert balances == {"USDC": (-148499997, 0), "TOK": (-900000, 18233333)}


def test_repay_by_buying():
    """GEM -10 at 100, USDC 1,080: E = 80, MM = 100. Buy 1 GEM: 100 and the fee 1."""
    new, rows, balances = repay_tick({"USDC": 1080, "GEM": -10}, {"GEM": 100})
    assert brief(rows, "asset", "quanta", "cash", "fee") == [("convert", "debt", "GEM", 1 * M, -100 * M, 1 * M)]
    assert balances == {"USDC": (979 * M, 0), "GEM": (-9 * M, 0)}
    assert new.book_quanta == {"USDC": 100 * M, "GEM": -1 * M, "TOK": 0}


def test_a_purchase_that_sales_made_needless_is_not_made():
    """GEM -10 at 100, USDC 50, TOK 90 and 20 lent at 10 (weight 0.9: 990): E = 40 < 50: below auto-close, whole debt.

    V = 1,000, fee 10, need 960: u = ceil(960,000,000/9.9) = 96,969,697 TOK; V = 969,696,970, fee 9,696,970: 960.
    Then USDC 1,010, TOK 13.030303: E = 127 > 100, healthy, and nothing is bought.
    """
    _, rows, balances = repay_tick({"USDC": 50, "GEM": -10, "TOK": (90, 20)}, {"GEM": 100, "TOK": 10})
    assert brief(rows, "asset", "quanta", "cash", "fee") == [
        ("redeem", "debt", "TOK", 6969697, 0, 0),
        ("convert", "debt", "TOK", -96969697, 969696970, 9696970),
    ]
    assert rows[-1]["mmr_after"] < 1
    assert balances == {"USDC": (1010 * M, 0), "GEM": (-10 * M, 0), "TOK": (0, 13030303)}


def test_a_purchase_is_cut_to_the_money_at_hand():
    """GEM -10 at 100, USDC 595, TOK 50 at 10 (450): E = 45 < 50, below auto-close; whole debt; need 1,010 - 595 = 415.

    TOK 41.919192 bring 419.19192, fee 4.191919: USDC 1,010.000001 pays for all. Of 25 TOK and 25 lent out the 25 are
    sold for 247.5, and USDC 842.5 buys floor(842.5 / 101) = 8,341,584 quanta: V = 834.1584, fee 8.341584; 16 are left.
    """
    prices, full = {"GEM": 100, "TOK": 10}, [{"symbol": "TOK", "borrowedQuantity": 25}]
    _, rows, _ = repay_tick({"USDC": 595, "GEM": -10, "TOK": 50}, prices)
    assert brief(rows, "asset", "quanta", "cash", "fee") == [
        ("convert", "debt", "TOK", -41919192, 419191920, 4191919),
        ("convert", "debt", "GEM", 10 * M, -1000 * M, 10 * M),
    ]
    _, rows, balances = repay_tick({"USDC": 595, "GEM": -10, "TOK": (25, 25)}, prices, pools=full)
    assert brief(rows, "asset", "quanta", "cash", "fee") == [
        ("convert", "debt", "TOK", -25 * M, 250 * M, 2500000),
        ("convert", "debt", "GEM", 8341584, -834158400, 8341584),
    ]
    assert balances["USDC"] == (16, 0)


def test_an_account_without_equity_pays_no_fee():
    """USDC 505 and TOK 49.5 that count for 445.5: E = -49.5. They bring the 495 that all of the debt lacks."""
    new, rows, balances = repay_tick({"USDC": 505, "GEM": -10, "TOK": "49.5"}, {"GEM": 100, "TOK": 10})
    assert brief(rows, "asset", "quanta", "cash", "fee") == [
        ("convert", "debt", "TOK", -49500000, 495 * M, 0),
        ("convert", "debt", "GEM", 10 * M, -1000 * M, 0),
    ]
    assert balances == {"USDC": (0, 0), "GEM": (0, 0), "TOK": (0, 0)}
    assert (new.fund["USDC"], new.shortfall["USDC"]) == (0, 0)


def test_cancel_is_all_it_takes():
    """Account 2 has nothing but orders: exposure > 0 and E = 0, so its ratio is infinite until they are cancelled.

    Order table: account 1's order is row 0; account 2's are rows 1 to 4: X bids 99 and 100, X ask 101, Y bid 100.
    """
    orders = [(2, "bid", 100, 1, "Y"), (2, "ask", 101, 2, "X"), (2, "bid", 100, 3, "X"), (2, "bid", 99, 4, "X")]
    venue = make_venue()
    new, rows = checked_step(venue, load(venue, {1: {"USDC": 1000}}, [*orders, (1, "bid", 99, 1, "X")]))
    assert brief(rows, "account", "market", "order", "requested") == [
        ("cancel", "liquidation", 2, "X", 1, 400),
        ("cancel", "liquidation", 2, "X", 2, 300),
        ("cancel", "liquidation", 2, "X", 3, 200),
        ("cancel", "liquidation", 2, "Y", 4, 100),
    ]
    assert [row["mmr_after"] for row in rows] == [math.inf] * 4 + [0.0]
    assert (new.accounts[2].orders, [order.index for order in new.accounts[1].orders]) == ([], [0])


def test_a_quiet_tick():
    """Nobody is liquidating: no rows, and the state is the same but for the clock."""
    venue = make_venue()
    state = load(venue, {1: {"X": (10, 100), "USDC": 1000}})
    new, rows = checked_step(venue, state, books={"X": {"bids": [(100, 1)]}})
    assert rows == []
    assert reference.journalled(new) == reference.journalled(state)


# ---- Margin functions


TIERS = {"type": "tiers", "brackets": [{"from": 0, "rate": "0.01"}, {"from": 10000, "rate": "0.02"}]}
TIERS["brackets"].append({"from": 50000, "rate": "0.05"})


def test_tiers_are_continuous():
    """Deductions 0, 10,000 * 0.01 = 100, 100 + 50,000 * 0.03 = 1,600."""
    requirement = reference.margin_function(TIERS)
    cases = {0: 0, 5000: 50, 10000: 100, 20000: 300, 50000: 900, 60000: 1400}
    assert {notional: requirement(Fraction(notional)) for notional in cases} == cases
    for start, rate in ((10000, "0.02"), (50000, "0.05")):
        assert requirement(Fraction(start) + 1) - requirement(Fraction(start)) == Fraction(rate)


def test_whole_tiers():
    """The bracket of 10,000 is the first one still; one more, and 2 % count for all of it."""
    requirement = reference.margin_function({**TIERS, "whole": True})
    assert [requirement(Fraction(n)) for n in (0, 10000, 10001, 60000)] == [0, 100, Fraction("200.02"), 3000]


def test_a_curve_by_quantity():
    """10,000 X at 100: max(0.01, 0.001 * sqrt(10,000)) = 0.1 of 1,000,000; of a borrow of 100 GEM at 4: 0.01 of 400."""
    curve = {"type": "sqrt", "base": "0.01", "factor": "0.001", "unit": "quantity"}
    gem = asset_row("GEM", "1", imfFunction=curve, mmfFunction=curve)
    venue = make_venue([{**X, "imfFunction": curve, "mmfFunction": curve}], [gem])
    look = look_at(venue, {"X": (10000, 100), "GEM": -100, "USDC": 500000}, {"X": 100}, prices={"GEM": 4})
    assert look.position_maintenance_margins == {"X": 100000}
    assert look.borrow_maintenance_margins == {"GEM": 4}
    assert look.initial_margin == 100004


@pytest.mark.parametrize(
    ("given", "fraction"), [({}, "0.265"), ({"X": 5}, "0.02"), ({"X": 20}, "0.51"), ({"X": 50}, "1")]
)
def test_open_interest(given, fraction):
    """0.02 up to 1,000, the whole from 3,000. Longs of 15 and shorts of 10 at 100: 1,500, so 0.02 + 0.98 / 4."""
    curve = {"type": "open_interest", "base": "0.02", "lower": 1000, "upper": 3000}
    venue = make_venue([{**X, "imfFunction": curve, "mmfFunction": curve}])
    state = load(venue, {1: {"X": (12, 100)}, 2: {"X": (3, 100)}, 3: {"X": (-10, 100), "USDC": 5000}})
    looks = reference.sweep(venue, state, reference.Prices({"X": 100}, open_interest=given))
    assert [look.maintenance_margin for look in looks.values()] == [n * Fraction(fraction) for n in (1200, 300, 1000)]


# ---- Between the ticks, by hand


HOURLY = {"fundingInterval": 3_600_000}


def later(venue, state, ticks):
    """Ticks of (time, arguments); the state and the rows after the last."""
    rows = []
    for time_ns, arguments in ticks:
        state, rows = checked_step(venue, state, time_ns=time_ns, **arguments)
        assert all(math.isnan(row["mmr_before"]) and math.isnan(row["mmr_after"]) for row in rows)
    return state, rows


@pytest.mark.parametrize(("end", "is_due"), [(HOUR - 1, False), (HOUR, True), (3 * HOUR - 1, True)])
def test_funding_at_a_given_rate(end, is_due):
    """0.0001 of a long of 1,000 is 0.1, of a short of 400 is 0.04 to it; the book keeps 0.06.

    The rate is that of the last of two hours; the first one pays nothing without premiums.
    """
    venue = make_venue([{**X, **HOURLY}, Y])
    state = load(venue, {1: {"X": (10, 100), "USDC": 1000}, 2: {"X": (-4, 100), "Y": (1, 100), "USDC": 1000}})
    rates = {"funding_rates": {"X": 0.0001, "Y": 0.0001}}
    new, rows = later(venue, state, [(NOON, rates), (NOON + end, rates)])
    expected = [("funding", "interval", 1, "book", "X", -100000, 100000, 100.0)]
    expected.append(("funding", "interval", 2, "book", "X", 40000, -40000, 100.0))
    columns = ("account", "counterparty", "market", "cash", "counter_cash", "price")
    assert brief(rows, *columns) == (expected if is_due else [])
    assert new.book_quanta["USDC"] == 60000 * is_due


def test_funding_of_a_quiet_market():
    """Mark and index equal: 0.0001 / 8 = 0.0000125 an hour (venue_rules.md 1.7), of 1,000 it is 0.0125."""
    venue = make_venue([{**X, **HOURLY}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 1000}})
    _, rows = later(venue, state, [(NOON, {"indexes": AT_100}), (NOON + HOUR, {})])
    assert brief(rows, "cash") == [("funding", "interval", -12500)]


@pytest.mark.parametrize(
    ("row", "cash"),
    [(HOURLY, -187500), ({"fundingInterval": 14_400_000}, -750000), ({**HOURLY, "fundingRateUpperBound": "1"}, -1e5)],
)
def test_funding_from_premiums(row, cash):
    """Premiums 0.001 and 0.003: the mean 0.002 less 0.0005, by 8, is 0.0001875 an hour, 0.00075 in four.

    The mark at the time of the payment is 100 again, and its premium is the first one of the next interval.
    """
    venue = make_venue([{**X, **row}], mark_index_threshold=None)
    state = load(venue, {1: {"X": (10, 100), "USDC": 1000}})
    first = [(NOON + n, {"marks": {"X": mark}, "indexes": AT_100}) for n, mark in enumerate([100.1, 100.3])]
    new, rows = later(venue, state, [*first, (NOON + 1000, {}), (NOON + 4 * HOUR, {"indexes": {"X": 80}})])
    times = 4 if row["fundingInterval"] == 3_600_000 else 1
    assert brief(rows, "cash") == [("funding", "interval", times * cash)]
    assert new.premiums == {"X": (0.25, 1)}


def test_no_funding_without_an_index():
    """No tick before this one had an index: nothing is paid; the one of this tick counts from here on."""
    venue = make_venue([{**X, **HOURLY}])
    state = load(venue, {1: {"X": (10, 100), "USDC": 1000}})
    new, rows = later(venue, state, [(NOON, {}), (NOON + HOUR, {"indexes": AT_100})])
    assert (rows, new.premiums) == ([], {"X": (0.0, 1)})
    _, rows = later(venue, new, [(NOON + 2 * HOUR, {})])
    assert brief(rows, "cash") == [("funding", "interval", -12500)]


def test_interest_of_the_venue_s_example():
    """10,000 borrowed at 5.23 %: 0.059703 an hour (venue_rules.md, section 6).

    20,000 are lent, U = 1/2; with a fee of 10 % the lender gets 0.0523 / 8760 * 0.45 * 20,000 = 0.053733, and the rest
    is the pool's. The second hour is of 10,000.059703: 0.0597036. The hour that runs costs 0.7 quanta of the 0.119407.
    """
    rate = {"borrow_rate_base": "0.0523", "borrow_rate_slope": 0, "borrow_rate_jump": 0}
    venue = make_venue(pools=[{"symbol": "USDC", "fee": "0.1"}], **rate)
    state = load(venue, {1: {"USDC": -10000, "GEM": 200}, 2: {"USDC": (0, 20000)}})
    prices = {"prices": {"GEM": 100}}
    new, rows = later(venue, state, [(NOON, prices), (NOON + HOUR, prices)])
    hour = [
        ("interest", "hour", 1, "pool", "USDC", -59703, 0),
        ("interest", "hour", 2, "pool", "USDC", 0, 53733),
    ]
    columns = ("account", "counterparty", "asset", "quanta", "lent")
    assert brief(rows, *columns) == hour
    assert new.pool == {"USDC": 5970, "GEM": 0, "TOK": 0}
    _, rows = later(venue, state, [(NOON, prices), (NOON + 2 * HOUR, prices)])
    assert brief(rows, *columns) == [
        *hour,
        ("interest", "hour", 1, "pool", "USDC", -59704, 0),
        hour[1],
        ("interest", "entry", 1, "pool", "USDC", -1, 0),
    ]


@pytest.mark.parametrize(
    ("borrowed", "rate"), [(0, 0), (450, "0.03"), (900, "0.06"), (950, "0.56"), (1000, "1.06"), (2000, "1.06")]
)
def test_the_curve_of_the_borrow_rate(borrowed, rate):
    """0.06 up to the optimum of 90 %, then 1 more to 100 %; a debt of 8,760 pays the rate itself in an hour."""
    pool = {"symbol": "GEM", "lentQuantity": 10**9, "borrowedQuantity": borrowed * 10**6 - 8760}
    venue = make_venue(pools=[pool])
    state = load(venue, {1: {"GEM": -8760 if borrowed else 0, "USDC": 10**6}})
    prices = {"prices": {"GEM": 1}}
    _, rows = later(venue, state, [(NOON, prices), (NOON + HOUR, prices)])
    assert sum(row["quanta"] for row in rows) == -Fraction(rate) * M


def test_realisation():
    """Long 10 from 100, short 4 from 100, mark 103: +30 and -12 go from the cost to the balance, the entry stays."""
    venue = make_venue(realize_interval=60)
    state = load(venue, {1: {"X": (10, 100), "Y": (1, 100), "USDC": 90}, 2: {"X": (-4, 100), "USDC": 400}})
    at_103 = {"marks": {"X": 103, "Y": 100}}
    new, rows = later(venue, state, [(NOON, at_103), (NOON + MINUTE, at_103)])
    assert brief(rows, "account", "counterparty", "market", "cost", "cash", "entry", "price") == [
        ("realize", "interval", 1, None, "X", 30 * M, 30 * M, 0, 103.0),
        ("realize", "interval", 2, None, "X", -12 * M, -12 * M, 0, 103.0),
    ]
    assert new.accounts[1].positions["X"] == [1000, 1030 * M, 1000 * M]
    assert new.accounts[2].balances["USDC"] == [388 * M, 0]
    _, rows = later(venue, new, [(NOON + 2 * MINUTE - 1, {})])
    assert rows == []


LOSS = {"marks": {"X": 98, "Y": 100}, "prices": {"GEM": 100}}
USDC_POOL = {"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 50}


def settle_a_loss(holdings, pools=(), settings=(), when=NOON + 30 * MINUTE):
    """A long of 10 X from 100 realises a loss of 20 at 98; the rows after its own."""
    venue = make_venue(pools=pools, realize_interval=60)
    state = load(venue, {1: {"X": (10, 100), **holdings}}, settings=settings)
    new, rows = later(venue, state, [(when - 1, LOSS), (when, LOSS)])
    assert brief(rows[:1], "cash") == [("realize", "interval", -20 * M)]
    return new, rows[1:]


def test_settlement_redeems_lends_first():
    """USDC 3 free and 50 lent: 17 are short. Without a pool nothing holds them back, with it bound = 1 of 150 - 50."""
    for pools in ((), [USDC_POOL]):
        new, rows = settle_a_loss({"USDC": (3, 50), "GEM": 1}, pools)
        assert brief(rows, "asset", "quanta", "lent") == [("redeem", "settlement", "USDC", 17 * M, -17 * M)]
        assert new.accounts[1].balances["USDC"] == [0, 33 * M]


def test_settlement_borrows():
    """Without a pool nothing more happens. With one of 100, of which 50 are borrowed, 20 more make U = 0.7.

    r = 0.06 * 0.7 / 0.9 = 0.046667, in an hour 5.327245e-6, of 20 it is 0.000107, and half of the hour is left: 53.
    On the full hour it is the whole one that begins: 107; the hour before was charged first, when nobody owed anything.
    """
    new, rows = settle_a_loss({"USDC": 0, "GEM": 1})
    assert (rows, new.accounts[1].balances["USDC"]) == ([], [-20 * M, 0])
    for when, fee in ((NOON + 30 * MINUTE, 53), (NOON, 107)):
        new, rows = settle_a_loss({"USDC": 0, "GEM": 1}, [USDC_POOL], when=when)
        assert brief(rows, "counterparty", "asset", "quanta", "lent") == [
            ("interest", "entry", "pool", "USDC", -fee, 0)
        ]
        assert (new.accounts[1].balances["USDC"], new.pool["USDC"]) == ([-20 * M - fee, 0], fee)


@pytest.mark.parametrize(
    ("pool", "borrowed"),
    [
        ({"borrowedQuantity": 95, "maxUtilization": 1}, 5),
        ({"borrowedQuantity": 95, "maxUtilization": "0.97"}, 2),  # the threshold of 1 is above the maximum
        # 0.8 + (1 - 0.8) / 10 = 0.82, and from 0.9 on the threshold holds
        ({"borrowedQuantity": 80, "throttleUtilizationThreshold": "0.5"}, 2),
        ({"borrowedQuantity": 80, "throttleUtilizationThreshold": "0.9"}, 10),
        ({"borrowedQuantity": 80, "openBorrowLendLimit": 86}, 6),
        ({"borrowedQuantity": 80, "openBorrowLendLimit": 70}, 0),
        ({"borrowedQuantity": 100}, 0),
        ({"state": "RepayOnly"}, 0),
    ],
)
def test_how_much_settlement_borrows(pool, borrowed):
    """Of 20 short; for the rest GEM is sold at 100."""
    _, rows = settle_a_loss({"USDC": 0, "GEM": 1}, [{**USDC_POOL, **pool}])
    assert [-row["quanta"] for row in rows if row["event"] == "convert"] == [(20 - borrowed) * 10000]
    assert [row["event"] for row in rows] == ["interest", "convert"] if borrowed else ["convert"]


def test_settlement_sells_collateral_and_leaves_the_rest_unsettled():
    """No USDC can be borrowed. GEM 0.05 free and 1 lent at 100; 0.9 of the 1 is lent out and the bound is 0.95.

    Of 1 - 0.9 / 0.95 = 0.0526316 is redeemable 0.052631, so 0.102631 are sold for 10.2631 and 9.7369 stay unsettled.
    At 99 a minute later 10 are realised, of which 9.7369 are paid.
    """
    gem = {"symbol": "GEM", "borrowedQuantity": "0.9", "throttleUtilizationThreshold": "0.95"}
    venue_pools = [{**USDC_POOL, "state": "Closed"}, gem]
    new, rows = settle_a_loss({"USDC": 0, "GEM": ("0.05", 1)}, venue_pools)
    assert brief(rows, "asset", "quanta", "lent", "cash", "fee", "unsettled") == [
        ("redeem", "settlement", "GEM", 52631, -52631, 0, 0, 0),
        ("convert", "settlement", "GEM", -102631, 0, 10263100, 0, 0),
        ("unsettle", "settlement", None, 0, 0, 9736900, 0, -9736900),
    ]
    account = new.accounts[1]
    assert (account.unsettled["USDC"], account.balances["USDC"]) == (-9736900, [0, 0])
    venue = make_venue(pools=venue_pools, realize_interval=60)
    at_99 = {**LOSS, "marks": {"X": 99, "Y": 100}}
    new, rows = later(venue, new, [(NOON + 31 * MINUTE, at_99)])
    assert brief(rows[1:], "cash", "unsettled") == [("unsettle", "settlement", -9736900, 9736900)]
    assert (new.accounts[1].unsettled["USDC"], new.accounts[1].balances["USDC"]) == (0, [263100, 0])


def test_a_debt_counts_once_it_is_granted():
    """Accounts 1 and 2 are both 20 short and the pool has 30 left: 1 borrows 20, 2 borrows 10 and sells GEM for 10."""
    pool = {**USDC_POOL, "borrowedQuantity": 70}
    venue = make_venue(pools=[pool], realize_interval=60, borrow_rate_slope=0, borrow_rate_jump=0)
    state = load(venue, {account: {"X": (10, 100), "USDC": 0, "GEM": 1} for account in (1, 2)})
    new, rows = later(venue, state, [(NOON + 1, LOSS), (NOON + MINUTE, LOSS)])
    assert brief(rows[2:], "account", "quanta") == [("convert", "settlement", 2, -100000)]
    assert [new.accounts[account].balances["USDC"][0] for account in (1, 2)] == [-20 * M, -10 * M]


def test_a_debt_of_before_is_not_short():
    """A debt of 5, and 20 are lost: 20 are short, not 25; with 2 unsettled of before 22."""
    for unsettled in (0, 2):
        settings = [{"account": 1, "unsettled": -unsettled}]
        new, rows = settle_a_loss({"USDC": (-5, 100), "GEM": 1}, settings=settings)
        expected = [("redeem", "settlement", (20 + unsettled) * M, 0, 0)]
        if unsettled:
            expected.append(("unsettle", "settlement", 0, -2 * M, 2 * M))
        assert brief(rows, "quanta", "cash", "unsettled") == expected
        assert new.accounts[1].unsettled["USDC"] == 0
        assert new.accounts[1].balances["USDC"] == [-5 * M, (80 - unsettled) * M]


LENT_OUT = {"symbol": "GEM", "borrowedQuantity": 30}  # up to 30 GEM lent by the accounts cannot be redeemed


def settle_what_is_owed(accounts, pools=(), when=NOON + 30 * MINUTE, **policy):
    """Accounts {id: (unsettled, holdings)} and a realisation in which there is nothing to realise; GEM is at 100."""
    venue = make_venue(pools=pools, realize_interval=60, **policy)
    settings = [{"account": account, "unsettled": unsettled} for account, (unsettled, _) in accounts.items()]
    state = load(venue, {account: holdings for account, (_, holdings) in accounts.items()}, settings=settings)
    prices = {"prices": {"GEM": 100}}
    return later(venue, state, [(when - 1, prices), (when, prices)])


@pytest.mark.parametrize(
    ("holdings", "pools", "expected", "unsettled", "balance"),
    [
        # 500 of 800 lent are redeemed and paid; with a pool 800 + 100 - 50 could be
        ({"USDC": (0, 800)}, (), [("redeem", 500 * M, 0), ("unsettle", 0, -500 * M)], 0, [0, 300 * M]),
        ({"USDC": (0, 800)}, [USDC_POOL], [("redeem", 500 * M, 0), ("unsettle", 0, -500 * M)], 0, [0, 300 * M]),
        # 100 are there, 250 lent, GEM is sold for 50: 100 are owed still
        (
            {"USDC": (100, 250), "GEM": "0.5"},
            [{**USDC_POOL, "state": "Closed"}],
            [("redeem", 250 * M, 0), ("convert", -500000, 50 * M), ("unsettle", 0, -400 * M)],
            -100 * M,
            [0, 0],
        ),
        # nothing can be had: no row; with 30 lent at a utilisation of 1 neither
        ({"USDC": 0}, [{"symbol": "USDC"}], [], -500 * M, [0, 0]),
        ({"USDC": (0, 30)}, [{"symbol": "USDC", "borrowedQuantity": 30}], [], -500 * M, [0, 30 * M]),
        # 400 of 500 are borrowed, U = 0.9: 0.06 / 8760 of them for an hour, 0.002740, half of which is left
        (
            {"USDC": 100, "GEM": 10},
            [{"symbol": "USDC", "lentQuantity": 1000, "borrowedQuantity": 500}],
            [("interest", -1370, 0), ("unsettle", 0, -500 * M)],
            0,
            [-400 * M - 1370, 0],
        ),
        # the debt of 60 of before is the pool's already: 60 + 30 of the bound of 90; the rest is owed still
        (
            {"USDC": -60, "GEM": ("0.01", 10)},
            [{"symbol": "USDC", "lentQuantity": 100, "maxUtilization": "0.9", "optimalUtilization": 1}, LENT_OUT],
            [("interest", -92, 0), ("convert", -10000, M), ("unsettle", 0, -31 * M)],
            -469 * M,
            [-90 * M - 92, 0],
        ),
        # more is there than is owed
        ({"USDC": (700, 10)}, [USDC_POOL], [("unsettle", 0, -500 * M)], 0, [200 * M, 10 * M]),
    ],
)
def test_settlement_takes_back_what_is_owed(holdings, pools, expected, unsettled, balance):
    """-500 unsettled. In the last but one I = 0.06 * 0.9 / 8760 = 6.164384e-6, of 30 it is 184.9, half of it 92."""
    new, rows = settle_what_is_owed({1: (-500, holdings)}, pools)
    assert [(row["event"], row["quanta"], row["cash"]) for row in rows] == expected
    assert all(row["unsettled"] == -row["cash"] for row in rows if row["event"] == "unsettle")
    assert (new.accounts[1].unsettled["USDC"], new.accounts[1].balances["USDC"]) == (unsettled, balance)


def test_what_is_owed_counts_as_borrowed_once_it_is_granted():
    """The pool has 30 left, and three owe 20: 1 borrows 20, 2 borrows 10 and owes 10 still, 3 has 25 and pays.

    As long as it has not been its turn, what 3 will have left is not borrowed, and after it neither.
    """
    owing = {account: (-20, {"USDC": 25 if account == 3 else 0, "GEM": (0, 10)}) for account in (1, 2, 3)}
    pools = [{**USDC_POOL, "borrowedQuantity": 70}, LENT_OUT]
    new, rows = settle_what_is_owed(owing, pools, borrow_rate_slope=0, borrow_rate_jump=0)
    assert brief(rows, "account", "cash") == [
        ("unsettle", "settlement", 1, -20 * M),
        ("unsettle", "settlement", 2, -10 * M),
        ("unsettle", "settlement", 3, -20 * M),
    ]
    assert [account.unsettled["USDC"] for account in new.accounts.values()] == [0, -10 * M, 0]
    assert [account.balances["USDC"][0] for account in new.accounts.values()] == [-20 * M, -10 * M, 5 * M]


@pytest.mark.parametrize(
    ("holdings", "left"),
    [
        ({"USDC": 0}, 500),
        # what is there is taken, and nothing is borrowed on it
        ({"USDC": 400}, 100),
        ({"USDC": 500}, 0),
        ({"USDC": 0, "X": (0, 100)}, 500),
        ({"USDC": 501}, 0),
        ({"USDC": (0, 1)}, 499),
        ({"USDC": 0, "TOK": "0.1"}, 499),
        ({"USDC": 0, "X": ("0.01", 100)}, 500),
        ({"USDC": 0, "TOK": 0, "X": (10, 40)}, 0),
    ],
)
def test_settlement_lends_nothing_to_who_has_nothing(holdings, left):
    """500 are owed; who has equity borrows what is missing."""
    venue = make_venue(realize_interval=60)
    state = load(venue, {1: holdings, 2: {"X": (1, 100), "USDC": 100}}, settings=[{"account": 1, "unsettled": -500}])
    prices = {"prices": {"GEM": 100, "TOK": 10}}
    state, _ = checked_step(venue, state, time_ns=NOON - 1, **prices)
    new, rows = checked_step(venue, state, time_ns=NOON, **prices)
    assert any(row["event"] == "unsettle" for row in rows) == (left < 500)
    assert new.accounts[1].unsettled["USDC"] == -left * M


def test_funding_on_the_full_hour_bears_no_interest():
    """Funding of 1 leaves a debt that is redeemed at once: the hour's interest came before, and is the lender's alone.

    U = 50 / 150, r = 0.06 / 3 / 0.9; J = r / 8760 / 3 = 8.455945e-7, of 50 lent it is 42.
    """
    venue = make_venue([{**X, **HOURLY}], pools=[USDC_POOL])
    state = load(venue, {1: {"X": (10, 100), "USDC": (0, 50), "GEM": 5}})
    tick = {"funding_rates": {"X": 0.001}, "prices": {"GEM": 100}}
    new, rows = later(venue, state, [(NOON, tick), (NOON + HOUR, tick)])
    assert brief(rows, "cash", "quanta", "lent") == [
        ("interest", "hour", 0, 0, 42),
        ("funding", "interval", -M, 0, 0),
        ("redeem", "settlement", 0, M, -M),
    ]
    assert new.accounts[1].balances["USDC"] == [0, 49 * M + 42]


def test_repay_redeems_only_what_is_not_lent_out():
    """GEM -10 with 2 lent at 100, USDC 900. Outside 9 are lent and 0.5 borrowed: 11 - 10.5 = 0.5 can be redeemed.

    The target is 1: after 0.5 redeemed E = 900 + 135 - 950 = 85 < MM = 95, and 0.5 is bought for 50 and a fee of 0.5.
    """
    venue = make_venue(pools=[{"symbol": "GEM", "lentQuantity": 9, "borrowedQuantity": "0.5"}])
    _, rows = checked_step(venue, load(venue, {1: {"USDC": 900, "GEM": (-10, 2)}}), prices={"GEM": 100})
    assert brief(rows, "quanta", "cash", "fee") == [
        ("redeem", "debt", 500000, 0, 0),
        ("convert", "debt", 500000, -50 * M, 500000),
        ("unfilled", "full_utilization", 0, 0, 0),
    ]
    assert rows[-1]["requested"] == 500000


def test_sales_of_lent_collateral_at_full_utilisation():
    """Nothing of TOK 20 can be redeemed, so GEM is sold though it is worth less."""
    venue = make_venue(pools=[{"symbol": "TOK", "borrowedQuantity": 20}], min_slice_notional=1000)
    state = load(venue, {1: {"USDC": -260, "TOK": (0, 20), "GEM": 1}})
    _, rows = checked_step(venue, state, prices={"TOK": 10, "GEM": 99})
    assert brief(rows, "asset", "quanta") == [("convert", "debt", "GEM", -M)]


def test_adl_ranks_by_entry():
    """3 realised its profit at 95: its cost shows none any more, its entry of 110 does. 4 is the opposite."""
    venue = make_venue()
    winner, loser = {"X": (-10, 110, 95), "USDC": 500}, {"X": (-10, 90, 110), "USDC": 500}
    state = load(venue, {1: {"X": (10, 100), "USDC": 20}, 3: winner, 4: loser})
    assert state.accounts[3].positions["X"] == [-1000, -950 * M, -1100 * M]
    new, rows = checked_step(venue, state, {"X": 95, "Y": 100})
    columns = ("counterparty", "lots", "cost", "entry", "cash", "counter_cost", "counter_entry", "counter_cash")
    assert brief(rows, *columns)[0][1:] == (
        ("backstop_exhausted", 3, -1000, -1000 * M, -1000 * M, -20 * M, 950 * M, 1100 * M, -30 * M)
    )
    assert new.accounts[3].positions["X"] == [0, 0, 0]


# ---- Guards, by hand


def guard_market(**price):
    """X with other figures of its guards and bands; a tick is 0.1 and a lot at 100 is worth 1."""
    row = copy.deepcopy(X)
    row["filters"]["price"] = {"tickSize": "0.1", **price}
    return row


def guarded(ticks, market=X, holdings=None, **policy):
    """Ticks of (seconds, arguments) from NOON on; state, rows and what was seen of each. Account 1 is rich."""
    venue = make_venue([market, GEM_SPOT], **policy)
    state, found = load(venue, {1: {"X": (10, 100), "USDC": 10**6} if holdings is None else holdings}), []
    for seconds, arguments in ticks:
        arguments = {"marks": {}, "books": {}, "asset_prices": {"GEM": 100}, **arguments}
        state, rows, seen = reference.step(venue, state, NOON + round(seconds * 10**9), **arguments)
        found.append((state, rows, seen))
    return found


def marks_of(ticks, market=X, **policy):
    return [float(seen.prices.marks["X"]) for _, _, seen in guarded(ticks, market, **policy)]


BOOK_99_101 = {"X": {"bids": [(99, 1)], "asks": [(101, 1)]}}


def test_a_stale_book():
    """60 s before the tick it counts, a ns more and it does not; that of a spot market shows its asset."""
    books = {"X": {"bids": [(99, 1)]}, "GEM_USDC": {"asks": [(99, 1)]}}
    for late, expected in ((0, []), (1, [("stale_book", "X", None), ("stale_book", None, "GEM")])):
        times = dict.fromkeys(books, NOON - 60 * 10**9 - late)
        [(_, rows, _)] = guarded([(0, {"marks": AT_100, "books": books, "book_times": times})])
        assert [row[1:] for row in brief(rows, "market", "asset")] == expected
    assert {(row["account"], row["counterparty"], row["requested"]) for row in rows} == {(None, None, 0)}
    assert all(math.isnan(row[name]) for row in rows for name in ("price", "mmr_before", "mmr_after"))


@pytest.mark.parametrize(
    ("book", "reasons"),
    [
        ({"bids": [(100, 1)], "asks": [(100, 1)]}, ["crossed_book"]),
        ({"bids": [(100.1, 1)], "asks": [(100, 1), (100.2, 1)]}, ["crossed_book"]),
        ({"bids": [(99.9, 1)], "asks": [(100, 1)]}, []),
        ({"bids": [(99.9, 1)]}, []),
        ({}, []),
    ],
)
def test_a_crossed_book(book, reasons):
    """A book that is crossed and stale is refused once, as stale; without levels there is nothing to refuse."""
    for age, expected in ((0, reasons), (61, ["stale_book"] if book else [])):
        times = {"X": NOON - age * 10**9}
        [(_, rows, _)] = guarded([(0, {"marks": AT_100, "books": {"X": book}, "book_times": times})])
        assert [row["reason"] for row in rows] == expected


@pytest.mark.parametrize("state", ["Closed", "CancelOnly", "PostOnly"])
def test_a_book_that_nobody_can_take_from_is_refused(state):
    """However old or crossed it is; what has no level is not refused."""
    closed = X | {"orderBookState": state}
    for book, age, expected in (
        (BOOK_99_101["X"], 0, ["closed_book"]), ({}, 0, []),
        ({"bids": [(101, 1)], "asks": [(99, 1)]}, 61, ["closed_book"]),
    ):  # fmt: skip
        arguments = {"marks": AT_100, "books": {"X": book}, "book_times": {"X": NOON - age * 10**9}}
        [(_, rows, _)] = guarded([(0, arguments)], closed)
        assert [row["reason"] for row in rows] == expected
    [(_, rows, _)] = guarded([(0, {"marks": AT_100, "books": BOOK_99_101})], X | {"orderBookState": "LimitOnly"})
    assert rows == []


def test_a_refused_book_is_not_there():
    """Account 1 has 1,000 lots and E = 45: it finds no book. A mark of 100 is given, the touch of 90 and 80 is not."""
    book = {"bids": [(90, 10)], "asks": [(80, 10)]}
    arguments = {"marks": AT_100, "indexes": {"X": 100}, "books": {"X": book}}
    [(state, rows, _)] = guarded([(0, arguments)], holdings={"X": (10, 100), "USDC": 45})
    assert brief(rows, "market") == [("guard", "crossed_book", "X"), ("expire", "no_book", "X")]
    assert state.guard_states["X"].basis is None


@pytest.mark.parametrize(
    ("seconds", "given", "used"),
    [
        (0.5, 102, 101.0),  # at least one second
        (2.9, 110, 100 * 1.01**2.0),
        (2.9, 102, 102.0),
        (2, 95, 100 * 0.98**2.0),
        (10**9, 1000, 1000.0),  # 1.01 to the power of 10^9 is more than any float
    ],
)
def test_update_caps(seconds, given, used):
    """Of the index and of the mark, each from the one used before; an index that was missing is no print."""
    market = guard_market(minPriceUpdateMultiplier="0.98", maxPriceUpdateMultiplier="1.01")
    for what, reason in (("indexes", "index_update_cap"), ("marks", "update_cap")):
        others = {} if what == "marks" else {"marks": {"X": 100}}
        first, second = ({**others, what: {"X": price}} for price in (100, given))
        policy = {"mark_index_threshold": None}
        *_, (state, rows, seen) = guarded([(0, first), (seconds, second)], market, **policy)
        assert float(getattr(seen.prices, what)["X"]) == used
        assert brief(rows, "market", "price") == ([("guard", reason, "X", given)] if used != given else [])
        memory = state.guard_states["X"]
        assert (memory.mark if what == "marks" else memory.index) == used
    *_, (_, rows, _) = guarded([(0, {"marks": AT_100, "indexes": {"X": 100}}), (5, {"marks": AT_100})], market)
    assert rows == []


def test_clamp_to_the_index_before_the_cap():
    """110 is clamped to 105 and then to 101, which is how far it may go in a second."""
    market = guard_market(maxPriceUpdateMultiplier="1.01")
    ticks = [(0, {"marks": {"X": 100}}), (1, {"marks": {"X": 110}, "indexes": {"X": 100}})]
    *_, (_, rows, seen) = guarded(ticks, market)
    assert brief(rows, "price") == [("guard", "index_clamp", 110.0), ("guard", "update_cap", 105.0)]
    assert float(seen.prices.marks["X"]) == 101.0
    assert marks_of([(0, {"marks": {"X": 90}, "indexes": {"X": 100}})]) == [95.0]
    assert marks_of([(0, {"marks": {"X": 95}, "indexes": {"X": 100}})]) == [95.0]
    assert marks_of([(0, {"marks": {"X": 90}})]) == [90.0]


def test_the_average_of_the_basis():
    """mid - index is 1 at first, 60 s later 3: e = 1 + (1 - 1/e) * 2 = 2.264241. It stays where one of both lacks."""
    book = {"X": {"bids": [(100, 1)], "asks": [(102, 1)]}}
    higher = {"X": {"bids": [(102.5, 1)], "asks": [(103.5, 1)]}}
    ticks = [(0, {"books": book, "indexes": {"X": 100}}), (30, {"books": higher, "marks": {"X": 100}})]
    ticks += [(60, {"books": higher, "indexes": {"X": 100}}), (61, {"indexes": {"X": 100}})]
    found = guarded(ticks)
    basis = [state.guard_states["X"].basis for state, _, _ in found]
    assert basis[:2] == [1.0, 1.0]
    assert f"{basis[2]:.6f}, {basis[3]:.6f}" == "2.264241, 2.264241"
    assert [float(seen.prices.marks["X"]) for *_, seen in found] == [101.0, 100.0, 100 + basis[2], 100 + basis[2]]


def test_the_next_best_mark():
    """index + e of at most 60 s ago; index; the median of three; mid; last; the mark used before."""
    first = (0, {"books": BOOK_99_101, "indexes": {"X": 99.5}})  # e = 0.5
    index, book, last = {"indexes": {"X": 99}}, {"books": BOOK_99_101}, {"last_prices": {"X": 100.5}}
    one_side = {"books": {"X": {"bids": [(99, 1)]}}}
    for seconds, known, expected in (
        (60, {**index, **last}, 99.5),
        (61, {**index, **last}, 99.0),
        (1, {**book, **last}, 100.5),
        (1, {**book, "last_prices": {"X": 120}}, 101.0),
        (1, {**one_side, **last}, 100.5),
        (1, book, 100.0),
        (60, one_side, 100.0),
        (60, {}, 100.0),
    ):
        assert marks_of([first, (seconds, known)])[1] == expected


def test_a_held_mark():
    """It is held for 60 s from when it was last had otherwise; then a market that is held is an error."""
    ticks = [(0, {"marks": {"X": 100}}), (40, {}), (60, {})]
    found = guarded(ticks)
    assert [brief(rows, "market") for _, rows, _ in found] == [[], *[[("guard", "mark_held", "X")]] * 2]
    assert math.isnan(found[1][1][0]["price"])
    with pytest.raises(ValueError, match="X"):
        guarded([*ticks, (61, {})])
    state = guarded([*ticks, (61, {})], holdings={"USDC": 1})[-1][0]
    assert (state.guard_states["X"].mark, state.guard_states["X"].mark_time, state.ticks) == (100.0, NOON, 4)


def test_what_nobody_holds_needs_no_price():
    """An order holds a market, and a lent balance an asset."""
    venue = make_venue()
    state = load(venue, {1: {"X": (10, 100), "USDC": 10**6}})
    assert reference.step(venue, state, NOON, {"X": 100}, {})[1] == []
    ordered = load(venue, {1: {"USDC": 10**6}}, [(1, "bid", 100, 1, "Y")])
    lent = load(venue, {1: {"USDC": 10**6, "GEM": (0, 1)}})
    for other in (ordered, lent):
        with pytest.raises(ValueError, match=r"Y|GEM"):
            reference.step(venue, other, NOON, {"X": 100}, {})


def test_prints_that_are_errors():
    market = guard_market(maxPrice="1000", maxPriceUpdateMultiplier="2")
    with pytest.raises(ValueError, match="maxPrice"):
        guarded([(0, {"marks": {"X": 1001}})], market)
    assert marks_of([(0, {"marks": {"X": 400}}), (1, {"marks": {"X": 5000}})], market)[1] == 800.0
    with pytest.raises(ValueError, match="ticks"):
        guarded([(0, {"marks": {"X": 10**12}})])
    for index, premium in (("0.01", 9999), ("0.009999", 10**4)):
        tick = {"marks": {"X": 100}, "indexes": {"X": index}}
        if premium < 10**4:
            used = guarded([(0, tick)], mark_index_threshold=10**6)[0][0].guard_states["X"].used
            assert used == [(NOON, 10**6, premium * 10**12)]
        else:
            with pytest.raises(ValueError, match="premium"):
                guarded([(0, tick)], mark_index_threshold=10**6)


def test_samples():
    """Marks 100 at 0.5 s, 110 with an index of 100 at 3 s, 120 at 3.5 s: seconds 1 and 2, 3, and from 4 on."""
    ticks = [(0.5, {"marks": {"X": 100}}), (3, {"marks": {"X": 110}, "indexes": {"X": 100}})]
    ticks += [(3.5, {"marks": {"X": 120}}), (6, {"marks": {"X": 130}})]
    used = guarded(ticks, mark_index_threshold=None)[-1][0].guard_states["X"].used
    at, tenth = NOON // 10**9, 10**11
    expected = {at + second: (10**6, None) for second in (1, 2)} | {at + 3: (1100000, tenth)}
    expected |= {at + 4: (1200000, None), at + 5: (1200000, None), at + 6: (1300000, None)}
    assert reference.samples(used, NOON + 6 * 10**9) == expected
    later = reference.samples(used, NOON + 302 * 10**9 + 1)  # after 2 s and a ns: the second 2 is out
    assert (min(later) - at, len(later)) == (3, 300)
    assert reference.mean_of([1, None, 2], 9) == Fraction(3, 2)
    assert (reference.mean_of([None], 9), reference.mean_of([], None)) == (9, None)


# ---- Bands, by hand: bids 99.5 and asks 100.5 are the touch, the mark 100


TOUCH = {"X": {"bids": [(99.5, 10)], "asks": [(100.5, 10)]}}


def bands_of(ticks, **price):
    """The lower and the upper band of the last tick, and their reasons, through the quote of a lot far away."""
    venue = make_venue([guard_market(**price)])
    state = load(venue, {1: {"X": (10, 100), "USDC": 10**6}})
    for seconds, arguments in ticks:
        prices = reference.Prices(*(arguments.get(name) for name in ("marks", "indexes")))
        tick = reference.Tick(venue, state, NOON + seconds * 10**9, prices, 0)
        tick.guards(TOUCH, arguments.get("last_prices"), None)
        tick.state.ticks += 1
        state = tick.state
    found = [tick.bands["X", side] for side in ("bids", "asks")]
    return [(float(band.price), band.reason) for band in found if band.price is not None]


MEAN = {"meanMarkPriceBand": {"minMultiplier": "0.98", "maxMultiplier": "1.02"}}
PREMIUM = {"meanPremiumBand": {"tolerancePct": "0.015"}}


@pytest.mark.parametrize(
    ("price", "arguments", "expected"),
    [
        ({}, {}, []),
        # 99.5 * 0.99 = 98.505, 100.5 * 1.01 = 101.505, in whole ticks inside
        ({"minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01"}, {}, [(98.6, "impact"), (101.5, "impact")]),
        ({"minImpactMultiplier": "0.99"}, {}, [(98.6, "impact")]),
        (MEAN, {}, [(98.0, "mean_mark"), (102.0, "mean_mark")]),
        # an index of 101: the premium is -1/101, 101 * (1 - 1/101 -+ 0.015) = 98.485 and 101.515
        (PREMIUM, {"indexes": {"X": 101}}, [(98.5, "mean_premium"), (101.5, "mean_premium")]),
        (PREMIUM, {}, []),
        # Active: 100, the mean of 99.5 and 100.5; with a last price of 99.9 or 90 the one in the middle
        ({"minMultiplier": "0.98", "maxMultiplier": "1.02"}, {}, [(98.0, "limit"), (102.0, "limit")]),
        ({"minMultiplier": "0.98"}, {"last_prices": {"X": 99.9}}, [(98.0, "limit")]),  # 97.902
        ({"minMultiplier": "0.98"}, {"last_prices": {"X": 90}}, [(97.6, "limit")]),  # 97.51
        # the tightest; 98.505 and 98.51 are both 98.6: the first of the order
        ({"minImpactMultiplier": "0.99", **MEAN}, {}, [(98.6, "impact"), (102.0, "mean_mark")]),
        ({"minImpactMultiplier": "0.98", **MEAN}, {}, [(98.0, "mean_mark"), (102.0, "mean_mark")]),
        (
            {"minImpactMultiplier": "0.99", "meanMarkPriceBand": {"minMultiplier": "0.9851"}},
            {},
            [(98.6, "impact")],
        ),
        ({"minMultiplier": "0.99", "meanMarkPriceBand": {"minMultiplier": "0.985"}}, {}, [(99.0, "limit")]),
    ],
)
def test_bands(price, arguments, expected):
    assert bands_of([(0, {"marks": {"X": 100}, **arguments})], **price) == expected


def test_a_band_of_the_mean():
    """Marks 100 for ten seconds and then 111: 1,111 / 11 = 101, of which 0.98 is 98.98.

    With premiums 0 for ten seconds and then 0.11: 0.01, so that of the index of 100 99.5 is the lowest.
    """
    ticks = [(0, {"marks": {"X": 100}}), (10, {"marks": {"X": 111}})]
    assert bands_of(ticks, **MEAN)[0] == (99.0, "mean_mark")
    ticks = [(0, {"marks": {"X": 100}, "indexes": {"X": 100}}), (10, {"marks": {"X": 111}, "indexes": {"X": 100}})]
    policy_of_five_percent = bands_of(ticks, **PREMIUM)[0]  # 105: (10 * 0 + 0.05) / 11 = 0.004545
    assert policy_of_five_percent == (99.0, "mean_premium")
    assert bands_of([*ticks, (400, ticks[0][1])], **PREMIUM)[0] == (103.5, "mean_premium")  # 299 of 0.05, one of 0


def test_the_band_stops_a_slice():
    """Bids 50 lots at 100 and 50 at 98.5, the floor of the mean mark is 99; a slice of 100 fills 50."""
    mean = {"meanMarkPriceBand": {"minMultiplier": "0.99", "maxMultiplier": None}}
    book = {"X": {"bids": [(100, 0.5), (98.5, 0.5)]}}
    for price, reason in ((mean, "mean_mark"), ({"minMultiplier": "0.99"}, "limit")):
        arguments = {"marks": {"X": 100}, "books": book}
        [(_, rows, _)] = guarded([(0, arguments)], guard_market(**price), {"X": (10, 100), "USDC": 45})
        assert brief(rows, "requested", "lots") == [("book", reason, 100, -50)]


# ---- Refill, by hand: account 1 sells 100 lots of 1,000 into bids of 60 at 100 and 200 at 99.9


def refill_ticks(ticks, **policy):
    """Rows and books of ticks of (seconds, bids), always with E = 45 of 1,000 lots at the start of each."""
    venue = make_venue(refill_half_life=10, **policy)
    state, found = load(venue, {1: {"X": (10, 100), "USDC": 45}}), []
    for seconds, bids in ticks:
        books = {"X": {"bids": bids}} if bids is not None else {}
        state, rows = checked_step(venue, state, books=books, time_ns=NOON + seconds * 10**9)
        state.accounts[1] = load(venue, {1: {"X": (10, 100), "USDC": 45}}).accounts[1]
        gone = [level[2] for level in state.books["X"]["bids"]]
        found.append((brief(rows, "lots", "price")[0], gone))
    return found


BIDS = [(100, 0.6), (99.9, 2)]


def test_refill():
    """60 and 40 are gone; after 10 s 30 and 20, and 30 and 70 more are taken; another book is whole."""
    first = (("book", "full", -100, pytest.approx(99.96)), [60, 40])
    again = (("book", "full", -100, pytest.approx(99.93)), [60, 90])
    assert refill_ticks([(0, BIDS), (10, BIDS)]) == [first, again]
    assert refill_ticks([(0, BIDS), (10, None)]) == [first, again]
    assert refill_ticks([(0, BIDS), (10, [(100, 0.6), (99.9, 1)])])[1][1] == [60, 40]
    # after 1 s floor(60 * 0.933) = 55 and floor(40 * 0.933) = 37: 5 and 95
    assert refill_ticks([(0, BIDS), (1, BIDS)])[1] == (("book", "full", -100, pytest.approx(99.905)), [60, 132])


def test_empty_levels_are_not_there():
    """At once nothing has come back: the touch is 99.9, and then there is no level. Half of a lot is none."""
    bids, nothing = (
        [(100, 0.6), (99.9, 0.4)],
        (("expire", "no_book", 0, pytest.approx(math.nan, nan_ok=True)), [60, 40]),
    )
    assert refill_ticks([(0, bids), (0, bids)])[1] == nothing
    [_, second] = refill_ticks([(0, [(100, 0.6), (99.9, 0.4), (99, 0.7)]), (0, None)])
    assert second[0][:3] == ("book", "depth", -70)  # the floor would be 99 * 0.99 now
    assert refill_ticks([(0, [(100, 0.01)]), (10, None)])[1] == (("book", "depth", -1, 100.0), [1])


def test_a_refused_book_is_not_given():
    """The crossed book of the second tick is none, and what was there before is forgotten."""
    venue = make_venue(refill_half_life=10)
    state = load(venue, {1: {"X": (10, 100), "USDC": 45}})
    state, _ = checked_step(venue, state, books={"X": {"bids": BIDS}}, time_ns=NOON)
    crossed = {"X": {"bids": [(101, 5)], "asks": [(100, 5)]}}
    state, rows = checked_step(venue, state, books=crossed, time_ns=NOON + 10 * 10**9)
    assert brief(rows, "lots") == [("guard", "crossed_book", 0), ("expire", "no_book", 0)]
    assert state.books == {}


# ---- The throttle


def test_the_draws():
    """Published outputs of splitmix64: of seed 0 the first three, of seed 1234567 the first two."""
    assert [reference.draw(0, n) for n in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [reference.draw(1234567, n) for n in range(2)] == [6457827717110365317, 3203168211198807973]
    digest = hashlib.blake2b(b"5/17/user 3", digest_size=8).digest()
    assert reference.account_key(5, 17, "user 3") == sum(byte << 8 * place for place, byte in enumerate(digest))


def resting(venue, state, seed):
    """The legs that rest in a tick of seed: (market or asset, rounds)."""
    _, rows = checked_step(venue, state, books={"X": {"bids": [(100, 100)]}}, seed=seed, prices={"GEM": 100})
    return [row["market"] or row["asset"] for row in rows if row["reason"] == "throttle"]


@pytest.mark.parametrize("seed", range(20))
def test_the_throttle(seed):
    """X, Y and the borrow of GEM in two rounds: n = 5 * round + 0, 1, and 2 + 1. Y has no book, so all goes on."""
    policy = {"min_slice_notional": "0.01", "slice_fraction": "0.001", "position_order": "pro_rata"}
    venue = make_venue(slice_probability="0.3", slices_per_tick=2, **policy)
    state = load(venue, {1: {"X": (10, 100), "Y": (10, 100), "USDC": 192, "GEM": -1}})
    key = reference.account_key(seed, 0, 1)
    expected = []
    for round_ in range(2):
        for place, leg in ((3, "GEM"), (0, "X"), (1, "Y")):
            if reference.draw(key, 5 * round_ + place) >= 3 * 2**64 // 10:
                expected.append(leg)
    assert resting(venue, state, seed) == expected


def test_nobody_rests_below_auto_close():
    """All legs rest, but a debt of an account below auto-close is repaid whole."""
    venue = make_venue(slice_probability=0)
    rows = checked_step(venue, load(venue, {1: {"USDC": -1250, "GEM": 10}}), prices={"GEM": 145})[1]
    assert brief(rows, "market", "asset") == [("skip", "throttle", None, "USDC")]
    rows = checked_step(venue, load(venue, {1: {"USDC": -1290, "GEM": 10}}), prices={"GEM": 145})[1]
    assert brief(rows, "asset")[0] == ("convert", "debt", "GEM")


def test_cooldown():
    """A slice in the first round; the second round and the tick 29 s later rest, 30 s later it goes on."""
    venue, books = make_venue(slice_cooldown=30, slices_per_tick=2), {"X": {"bids": [(100, 100)]}}
    state, found = load(venue, {1: {"X": (10, 100), "USDC": 45}}), []
    for seconds in (0, 29, 30):
        state, rows = checked_step(venue, state, books=books, time_ns=NOON + seconds * 10**9)
        state.accounts[1].balances["USDC"][0] = state.accounts[1].positions["X"][0] * 45000
        found.append([row[:2] for row in brief(rows)])
    rest, full = ("skip", "cooldown"), ("book", "full")
    assert found == [[full, rest], [rest, rest], [full, rest]]
    assert state.last_slice == {(1, "X"): NOON + 30 * 10**9}


def test_accounts_in_a_random_order():
    """By `mix(k)`; the key is that of seed, tick and account."""
    venue = make_venue(account_order="random")
    state = load(venue, {account: {"X": (10, 100), "USDC": 40 + account % 4} for account in range(1, 9)})
    orders = set()
    for seed in range(4):
        _, rows = checked_step(venue, state, seed=seed)
        found = [row["account"] for row in rows if row["event"] == "trigger"]
        assert found == sorted(
            range(1, 9), key=lambda one, seed=seed: reference.mix(reference.account_key(seed, 0, one))
        )
        orders.add(tuple(found))
    assert len(orders) > 1


# ---- Repay on the books of spot markets, by hand: lots of GEM are 0.01


def spot_tick(holdings, book, price=145, slippage="0.01", **policy):
    venue = make_venue([X, GEM_SPOT], conversion_slippage=slippage, **{"min_slice_notional": 100, **policy})
    books = {"GEM_USDC": book}
    new, rows = checked_step(venue, load(venue, {1: holdings}), books=books, prices={"GEM": price, "TOK": 10})
    return new, rows


def test_a_sale_on_the_book():
    """`test_repay_from_collateral` with bids of 144.9: 0.870777 GEM are 88 lots, sold for 0.5 * 144.9 + 0.38 * 144.5.

    That is 127.36, the fee 1.2736; the debt falls by 126.0864.
    """
    new, rows = spot_tick({"USDC": -1250, "GEM": 10}, {"bids": [(144.9, 0.5), (144.5, 5)]})
    assert brief(rows, "counterparty", "asset", "quanta", "cash", "fee", "counter_cash", "requested") == [
        ("convert", "debt", "book", "GEM", -880000, 127360000, 1273600, -127360000, 0)
    ]
    assert rows[1]["price"] == pytest.approx(127.36 / 0.88, rel=1e-15)
    assert new.accounts[1].balances == {"USDC": [-1250 * M + 126086400, 0], "GEM": [9120000, 0]}
    assert new.book_quanta["GEM"] == 880000


def test_a_sale_of_the_lots_that_there_are():
    """0.855 GEM are 85 lots and 0.5 of one; less than a lot goes at the index. TOK has no spot market."""
    bids = {"bids": [(145, 5)]}
    _, rows = spot_tick({"USDC": -130, "GEM": "0.855"}, bids, min_slice_notional=1000)
    assert brief(rows, "asset", "quanta")[0] == ("convert", "debt", "GEM", -850000)
    _, rows = spot_tick({"USDC": "-1.45", "GEM": "0.009999"}, bids)
    assert brief(rows, "asset", "quanta", "cash")[0] == ("convert", "debt", "GEM", -9999, 1449855)
    _, rows = spot_tick({"USDC": -1250, "TOK": 145}, bids)
    assert brief(rows, "asset", "quanta", "cash")[0] == ("convert", "debt", "TOK", -12626263, 126262630)


@pytest.mark.parametrize(
    ("bids", "reason", "lots"),
    [
        ([(145, 0.5)], "depth", 50),
        # not under 145 * 0.99 = 143.55
        ([(145, 0.5), (143.5, 5)], "conversion", 50),
        ([(143.6, 0.5), (143.5, 5)], "conversion", 50),
        ([(145, 0.5), (143.6, 5)], "full", 89),
        ([(143.5, 5)], "conversion", 0),
        # 0.99 of the touch is above
        ([(146, 0.5), (144.5, 5)], "impact", 50),
        ([(160, 0.5), (150, 5)], "impact", 50),
    ],
)
def test_the_band_of_a_conversion(bids, reason, lots):
    """126.6 / (145 * 0.99), 89 lots, are wanted; without a fill it is a row of its own, and TOK is sold before."""
    holdings = {"USDC": -1266, "GEM": 10}
    _, rows = spot_tick(holdings if lots else holdings | {"TOK": 2}, {"bids": bids})
    if lots:
        assert brief(rows, "asset", "quanta")[0] == ("convert", "debt", "GEM", -lots * 10000)
    else:
        columns = ("asset", "market", "requested", "quanta")
        assert brief(rows, *columns) == [
            ("convert", "debt", "TOK", None, 0, -2 * M),
            ("expire", reason, "GEM", None, 75, 0),
        ]


def test_a_limit_of_a_spot_market():
    """Active is 150, the mean of 146 and 154: 0.97 of it is 145.5; without the asks it is 146, and 141.62."""
    spot = copy.deepcopy(GEM_SPOT)
    spot["filters"]["price"] = {"tickSize": "0.1", "minMultiplier": "0.97"}
    venue = make_venue([X, spot], min_slice_notional=100)
    for asks, quanta in (([(154, 1)], -500000), ([], -880000)):
        book = {"bids": [(146, 0.5), (145, 5)], "asks": asks}
        state = load(venue, {1: {"USDC": -1250, "GEM": 10}})
        _, rows = checked_step(venue, state, books={"GEM_USDC": book}, prices={"GEM": 145})
        assert brief(rows, "quanta") == [("convert", "debt", quanta)]


def test_lends_are_redeemed_for_what_the_book_takes():
    """10 lent: 88 lots are wanted, 50 are filled: 0.5 is redeemed. Where the book gives nothing, nothing is."""
    _, rows = spot_tick({"USDC": -1250, "GEM": (0, 10)}, {"bids": [(145, 0.5)]})
    assert brief(rows, "quanta", "lent") == [("redeem", "debt", 500000, -500000), ("convert", "debt", -500000, 0)]
    _, rows = spot_tick({"USDC": -1250, "GEM": (0, 10)}, {"bids": [(140, 0.5)]})
    assert brief(rows, "requested") == [("expire", "conversion", 88)]


def test_conversions_consume_the_book():
    """Two accounts and bids of 1.2 GEM: the first takes 0.88, the second the rest; a third finds the book empty."""
    venue = make_venue([X, GEM_SPOT], min_slice_notional=100)
    state = load(venue, {account: {"USDC": -1250, "GEM": 10} for account in (1, 2, 3)})
    books = {"GEM_USDC": {"bids": [(145, 1.2)]}}
    _, rows = checked_step(venue, state, books=books, prices={"GEM": 145})
    columns = ("account", "quanta", "requested")
    found = [row for row in brief(rows, *columns) if row[0] != "redeem"]
    assert found == [
        ("convert", "debt", 1, -880000, 0),
        ("convert", "debt", 2, -320000, 0),
        ("expire", "depth", 3, 0, 88),
    ]


def test_a_purchase_on_the_book():
    """`test_repay_by_buying`: 1 GEM from asks of 0.4 at 100 and 2 at 100.5: 40 + 60.3 and a fee of 1.003."""
    asks = {"asks": [(100, 0.4), (100.5, 2)]}
    _, rows = spot_tick({"USDC": 1080, "GEM": -10}, asks, price=100)
    assert brief(rows, "asset", "quanta", "cash", "fee") == [("convert", "debt", "GEM", M, -100300000, 1003000)]
    assert rows[1]["price"] == pytest.approx(100.3, rel=1e-15)
    # 1.005 GEM is not a whole number of lots
    _, rows = spot_tick({"USDC": 1085, "GEM": "-10.05"}, asks, price=100)
    assert brief(rows, "quanta")[0] == ("convert", "debt", 1000000)
    _, rows = spot_tick({"USDC": 1080, "GEM": -10}, {"asks": [(101.1, 2)]}, price=100)
    assert brief(rows, "asset", "requested") == [("expire", "conversion", "GEM", 100)]


def test_a_purchase_on_a_dear_book_is_cut():
    """As in `test_a_purchase_is_cut_to_the_money_at_hand`: USDC 1,010.000001 buys 1,000 lots at the index of 100.

    From asks at 101 a lot costs 1.01 and a fee of 0.0101: 990 lots are 1,009.899. With 1.005 settle, and no equity,
    a lot cannot be had.
    """
    holdings = {"USDC": 595, "GEM": -10, "TOK": 50}
    _, rows = spot_tick(holdings, {"asks": [(101, 20)]}, price=100)
    assert brief(rows, "asset", "quanta", "cash", "fee")[1] == (
        ("convert", "debt", "GEM", 9900000, -999900000, 9999000)
    )
    _, rows = spot_tick({"USDC": "1.005", "GEM": -1}, {"asks": [(101, 20)]}, price=100)
    assert brief(rows, "asset")[0] == ("convert", "close_out", "GEM")


def test_the_conversion_limit():
    """50 settle units of GEM in a tick: floor(50 / 145) of quanta for account 1; it is used up for account 2.

    344,827 quanta bring 49.999915, and of what is left not even one quantum of GEM can be sold.
    """
    venue = make_venue([X, GEM_SPOT], conversion_limit=50, min_slice_notional=100)
    state = load(venue, {account: {"USDC": -1275, "GEM": 10, "TOK": 2} for account in (1, 2)})
    _, rows = checked_step(venue, state, prices={"GEM": 145, "TOK": 10})
    columns = ("account", "asset", "quanta", "requested")
    assert brief(rows, *columns) == [
        ("convert", "debt", 1, "GEM", -344827, 0),
        ("convert", "debt", 1, "TOK", -2 * M, 0),
        ("convert", "debt", 2, "TOK", -2 * M, 0),
        ("expire", "conversion_limit", 2, "GEM", 0, 0),
    ]


def test_the_conversion_limit_counts_both_directions():
    """Account 1 buys 0.3 GEM of the 1 that it would, account 2 sells nothing any more: 30 at 100 is all."""
    venue = make_venue(conversion_limit=30, min_slice_notional=100)
    state = load(venue, {1: {"USDC": 1080, "GEM": -10}, 2: {"USDC": -865, "GEM": 10}})
    _, rows = checked_step(venue, state, prices={"GEM": 100})
    assert brief(rows, "account", "quanta") == [
        ("convert", "debt", 1, 300000),
        ("expire", "conversion_limit", 2, 0),
    ]


# ---- The book phase, by hand: account 1 with 1,000 lots of X at 100, E = 45 and MM = 50 unless it says otherwise


def slice_tick(bids, holdings=None, orders=(), other=(), time_ns=0, venue=None, **policy):
    venue = venue or make_venue(**policy)
    accounts = {1: {"X": (10, 100), "USDC": 45} if holdings is None else holdings, **dict(other)}
    books = {symbol: {"bids": bids} for symbol in ("X", "Y")} if isinstance(bids, list) else bids
    return checked_step(venue, load(venue, accounts), books=books, time_ns=time_ns)


def test_rounds_of_repay_and_book():
    """Long 600 lots of X, GEM -5 at 100, USDC 570: E = 70, MM = 30 + 50. A tenth of each in each round.

    1: 0.5 GEM for 50 and 0.5: E = 69.5 < MM = 75; 60 lots: fee 0.6: E = 68.9 < 72. 2: 0.45 GEM for 45 and 0.45:
    E = 68.45 > 67.5, and nothing more.
    """
    holdings = {"X": (6, 100), "GEM": -5, "USDC": 570}
    venue = make_venue(slices_per_tick=3)
    state, books = load(venue, {1: holdings}), {"X": {"bids": [(100, 100)]}}
    _, rows = checked_step(venue, state, books=books, prices={"GEM": 100})
    assert brief(rows, "quanta", "lots") == [
        ("convert", "debt", 500000, 0),
        ("book", "full", 0, -60),
        ("convert", "debt", 450000, 0),
    ]


def test_float32():
    chance = random.Random(7)
    for _ in range(200):
        x = chance.uniform(-1, 1) * 10.0 ** chance.randrange(-8, 9)
        assert float(reference.float32(x)) == struct.unpack("f", struct.pack("f", x))[0]
    assert reference.float32(2**24 + 1) == 2**24
    assert reference.float32(2**24 + 3) == 2**24 + 4
    assert reference.float32(Fraction(1, 3)) == Fraction(11184811, 2**25)
    assert reference.float32(0) == 0


@pytest.mark.parametrize(
    ("order", "x_bids", "y_bids", "expected"),
    [
        # the larger margin is Y's
        ("largest", 100, 100, "YX"),
        # relief 0.05 a lot for 0.01: a tie, by market
        ("relief", 100, 100, "XY"),
        ("relief", 99.9, 100, "YX"),
        ("relief", 100, 99.9, "XY"),
        ("relief", 100.1, 100.2, "YX"),
        # nothing would be filled of X
        ("relief", None, 98, "YX"),
        ("pro_rata", 99.9, 100, "XY"),
    ],
)
def test_position_orders(order, x_bids, y_bids, expected):
    """X 300 lots and Y 700; slices of 30 and 70."""
    books = {m: {"bids": [(price, 9)] if price else []} for m, price in (("X", x_bids), ("Y", y_bids))}
    holdings = {"X": (3, 100), "Y": (7, 100), "USDC": 45}
    _, rows = slice_tick(books, holdings, position_order=order)
    found = [row["market"] for row in rows if row["event"] in ("book", "expire")]
    assert "".join(found) == expected


def test_the_order_is_by_what_the_book_would_fill():
    """Y's slice of 350 pays 100 for 10 lots and 99 for the rest; X's 15 pay 99.5: both cost more than they seem.

    X: 0.75 of relief for 0.075 + 0.14925. Y, of 10 lots in the book: 0.5 for 0.1 is more.
    """
    books = {"X": {"bids": [(99.5, 9)]}, "Y": {"bids": [(100, 0.1)]}}
    _, rows = slice_tick(books, {"X": ("0.3", 100), "Y": (7, 100), "USDC": 33}, slice_fraction="0.5")
    assert [row["market"] for row in rows if row["event"] == "book"] == ["Y", "X"]


def reasons_of(rows):
    return [(row["event"], row["reason"], row["requested"], -row["lots"]) for row in rows if row["event"] != "trigger"]


def test_the_cap_of_a_market():
    """70 settle units in a tick, of both accounts: 1 sells 70 of 100 lots, 2 none; next tick again."""
    venue = make_venue(market_cap=70)
    state = load(venue, {account: {"X": (10, 100), "USDC": 45} for account in (1, 2)})
    for lots in (1000, 930):
        state, rows = checked_step(venue, state, books={"X": {"bids": [(100, 100)]}})
        assert reasons_of(rows)[0] == ("book", "market_cap", lots // 10, 70)
        assert reasons_of(rows)[1] == ("expire", "market_cap", 100, 0)
        state.accounts[1].balances["USDC"][0] = 40 * M
    # a lot of 1.00000001 counts for 1.000001
    venue = make_venue(market_cap=70)
    state = load(venue, {1: {"X": (10, 100), "USDC": 45}})
    _, rows = checked_step(venue, state, {"X": 100.000001, "Y": 100}, {"X": {"bids": [(100, 100)]}})
    assert reasons_of(rows) == [("book", "market_cap", 100, 69)]


def test_the_cap_of_an_account():
    """150 settle units in a clock minute, over all its markets and in both directions."""
    venue, asks = make_venue(account_cap=150, slices_per_tick=2), {"asks": [(100, 100)], "bids": [(99, 100)]}
    state = load(venue, {1: {"X": (5, 100), "Y": (-5, 100), "USDC": 40}})
    books = {"X": {"bids": [(100, 100)]}, "Y": asks}
    state, rows = checked_step(venue, state, books=books, time_ns=NOON)
    assert reasons_of(rows) == [
        ("book", "full", 50, 50),
        ("book", "full", 50, -50),
        ("book", "full", 45, 45),
        ("book", "account_cap", 45, -5),
    ]
    assert state.sold == {1: 150 * M}
    state.accounts[1].balances["USDC"][0] = 38 * M
    state, rows = checked_step(venue, state, books=books, time_ns=NOON + MINUTE - 1)
    assert {row[:2] for row in reasons_of(rows)} == {("expire", "account_cap")}
    state, rows = checked_step(venue, state, books=books, time_ns=NOON + MINUTE)
    assert reasons_of(rows)[0][1] == "full"


def test_the_share_of_the_depth():
    """Inside the band (99) are 50 and 60 lots: of 110 a half; then of 55. Outside are 1,000."""
    bids = [(100, 0.5), (99.9, 0.6), (98, 10)]
    _, rows = slice_tick(bids, depth_share="0.5", slices_per_tick=2)
    assert reasons_of(rows) == [("book", "depth_share", 100, 55), ("book", "depth_share", 94, 27)]
    _, rows = slice_tick(bids, depth_share="0.5", slice_fraction="0.055")
    assert reasons_of(rows) == [("book", "full", 55, 55)]


def test_slippage():
    """50 basis points of 100: an average of 99.5: 50 at 100 and 50 at 99; a slice of 100 is full.

    Of 200 it is the slippage. 33 of 100.05 are 99.72, in whole ticks 99.8: at 99.6 one for each at 100.
    """
    bids = [(100, 0.5), (99, 10)]
    _, rows = slice_tick(bids, slippage_limit=50, slice_fraction="0.2")
    assert reasons_of(rows) == [("book", "slippage", 200, 100)]
    _, rows = slice_tick(bids, slippage_limit=50)
    assert reasons_of(rows) == [("book", "full", 100, 100)]
    _, rows = slice_tick([(100, 0.5), (99.6, 10)], slippage_limit=28, slice_fraction="0.2")
    assert reasons_of(rows) == [("book", "slippage", 200, 100)]


def test_a_purchase_slips():
    """The mirror image, as the quote itself: asks 50 at 100, 40 at 101, then 102; the average is at most 100.5."""
    asks, band = [(100, 50), (101, 40), (102, 99)], reference.Band("asks")
    fill = reference.quote_book(asks, 200, band, average=Fraction("100.5"))
    # 25 of surplus: 40 at 101 cost 20, 3 at 102 cost 4.5 of the 5 left
    assert (fill.lots, fill.taken, fill.reason, fill.value) == (93, [50, 40, 3], "slippage", 5000 + 4040 + 306)


@pytest.mark.parametrize(
    ("lots", "rooms", "average", "floor", "filled", "reason"),
    [
        (10, (), None, None, 10, "full"),
        (10, (("account_cap", 10),), None, None, 10, "full"),
        (99, (("account_cap", 10), ("market_cap", 10)), None, None, 10, "account_cap"),
        (99, (("account_cap", 11), ("market_cap", 10), ("depth_share", 10)), None, None, 10, "market_cap"),
        (99, (("depth_share", 0),), None, None, 0, "depth_share"),
        # all stop at 30: the room, the end of the book
        (99, (("depth_share", 30),), Fraction(99), 99, 30, "depth_share"),
        (99, (), Fraction(99), 99, 30, "depth"),
        # 20 at 100 are inside the band; an average of 99.9 allows 2 of 99; of 100 none
        (99, (), Fraction(100), 100, 20, "limit"),
        (99, (), Fraction("99.9"), 99, 22, "slippage"),
        (99, (), Fraction(100), 99, 20, "slippage"),
        (99, (), None, 101, 0, "limit"),
        (99, (), Fraction(101), 99, 0, "slippage"),
    ],
)
def test_what_stops_a_quote(lots, rooms, average, floor, filled, reason):
    """20 lots at 100 and 10 at 99."""
    band = reference.Band("bids") if floor is None else reference.Band("bids", Fraction(floor), "limit")
    fill = reference.quote_book([[100, 20], [99, 10]], lots, band, rooms, average)
    assert (fill.lots, fill.reason) == (filled, reason)


def test_a_quote_of_nothing():
    """An empty side is `no_book`, whatever the room; levels that are used up are the end of the book."""
    band = reference.Band("bids")
    assert reference.quote_book([], 5, band, [("depth_share", 0)]).reason == "no_book"
    assert reference.quote_book([[100, 0]], 5, band).reason == "depth"


# -- Do no harm: the loss and the fee of a slice of 100 against 0.05 * 45 / 50 = 0.045 a lot


@pytest.mark.parametrize(
    ("fee", "price", "harm", "basis_points"),
    [
        ("0.01", 100, None, 100),
        ("0.0449", 100, None, 449),
        # exactly as much is harm: g = 4.5, half of it are 225 basis points of 100
        ("0.045", 100, "fee_waived", 225),
        ("0.06", 100, "fee_waived", 225),
        # loss 4.4, g = 0.1; 10^4 * 0.05 / 95.6 = 5.23
        ("0.01", 95.6, "fee_waived", 5),
        # g = 0.01: 0.52
        ("0.01", 95.51, "fee_waived", 0),
        ("0.01", 95.5, "withheld", None),
        ("0.01", 95, "withheld", None),
        # a better price than the mark: g = 5, of 100.5 248.756
        ("0.06", 100.5, "fee_waived", 248),
    ],
)
def test_the_fee_is_waived(fee, price, harm, basis_points):
    venue = make_venue([guard_market() | {"filters": fine_ticks()}], liquidation_fee=fee, harmful_slice="waive")
    new, rows = slice_tick({"X": {"bids": [(price, 10)]}}, venue=venue)
    expected, value = [], rhe_of(price * M)
    if harm is not None:
        assert (rows[1]["event"], rows[1]["price"], rows[1]["lots"]) == ("harm", price, 0)
        assert rows[1]["mmr_before"] == rows[1]["mmr_after"]
        expected.append(("harm", harm, 100, 0))
    if basis_points is not None:
        expected.append(("book", "full", 100, 100))
        assert rows[-1]["fee"] == new.fund["USDC"] == round(Fraction(basis_points * value, 10**4))
        assert rows[-1]["mmr_after"] < rows[-1]["mmr_before"]
    assert reasons_of(rows) == expected


def rhe_of(x):
    return round(Fraction(str(x)))


def fine_ticks():
    return {"price": {"tickSize": "0.01"}, "quantity": {"minQuantity": "0.01", "stepSize": "0.01"}}


@pytest.mark.parametrize(("share", "basis_points"), [(0, 0), ("1/3", 150), (1, 450)])
def test_the_share_of_the_waiver(share, basis_points):
    """Of 4.5: 1.5 is exactly 150 basis points, although a third has no end in float64."""
    _, rows = slice_tick([(100, 10)], liquidation_fee="0.06", harmful_slice="waive", waived_fee_share=share)
    assert rows[-1]["fee"] == basis_points * 10000
    if share == 1:
        assert rows[-1]["mmr_before"] == rows[-1]["mmr_after"]


def test_a_harmful_slice_is_sent():
    _, rows = slice_tick([(95, 10)], harmful_slice="send", venue=make_venue([guard_market()]))
    assert reasons_of(rows) == [("harm", "sent", 100, 0), ("book", "full", 100, 100)]
    assert rows[-1]["fee"] == 950000


def test_sent_on_to_the_backstop():
    """Provider 7 takes it all at the zero price: flow 955, of the share of 45 a third to the fund. No second round.

    Account 2 is sent on as well and 7 has no room left: the rest goes to the book at 95 without a fee, E = 36 - 40.
    """
    policy = {"harmful_slice": "backstop", "slices_per_tick": 2, "backstop": [{"account": 7, "max_notional": 1200}]}
    venue = make_venue([guard_market()], **policy)
    state = load(venue, {account: {"X": (10, 100), "USDC": 45} for account in (1, 2)} | {7: {"USDC": 10**6}})
    new, rows = checked_step(venue, state, books={"X": {"bids": [(95, 100)]}})
    assert reasons_of(rows) == [
        ("harm", "to_backstop", 100, 0),
        ("harm", "to_backstop", 100, 0),
        ("backstop", "escalated", 1000, 1000),
        ("backstop", "escalated", 1000, 200),
        ("market_close", "full", 800, 800),
        ("fund", "bankrupt", 0, 0),
    ]
    assert (rows[6]["fee"], rows[7]["cash"]) == (0, 4 * M)
    assert (rows[4]["cash"], rows[4]["fund"]) == (-45 * M, 15 * M)
    assert new.accounts[1].balances["USDC"] == [0, 0]
    # below auto-close it is the backstop's without being sent
    _, rows = checked_step(venue, load(venue, {1: {"X": (10, 100), "USDC": 20}, 7: {"USDC": 10**6}}))
    assert reasons_of(rows) == [("backstop", "below_auto_close", 1000, 1000)]


# -- Restoring size: E = 44.9, so that 5.1 are lacking; a lot at 100 brings 0.05 - 0.01


SHORT_OF = {"X": (10, 100), "USDC": "44.9"}


@pytest.mark.parametrize(
    ("bids", "policy", "expected"),
    [
        # 5.1 / 0.04 = 127.5
        ([(100, 10)], {}, ("full", 128, 128)),
        ([(100, 10)], {"slice_fraction": "0.1"}, ("full", 100, 100)),
        ([(100, 10)], {"slice_fraction": "0.128"}, ("full", 128, 128)),
        ([(100, 10)], {"slice_fraction": "0.127"}, ("full", 127, 127)),
        ([(100, 10)], {"min_slice_notional": 200}, ("full", 200, 200)),
        # 0.8 * 44.9 - 50 = -14.08, a lot brings 0.05 - 0.008 = 0.042: 335.2
        ([(100, 10)], {"target_mmr": "0.8"}, ("full", 336, 336)),
        # 50 lots bring 2; at 99 a lot brings 0.05 - 0.01 - 0.0099 = 0.0301: 3.1 / 0.0301 = 102.99
        ([(100, 0.5), (99, 10)], {}, ("full", 153, 153)),
        # the quote ends before: the slice is of the policy's size
        ([(100, 1.27)], {}, ("depth", 500, 127)),
        ([(100, 1.28)], {}, ("full", 128, 128)),
        ([(100, 1.28)], {"min_slice_notional": 200}, ("depth", 200, 128)),
        # the fee is waived: 0.06 > 0.05 * 0.898; half of it are 224 basis points: 5.1 / (0.05 - 0.0224) = 184.8
        ([(100, 10)], {"liquidation_fee": "0.06", "harmful_slice": "waive"}, ("full", 185, 185)),
        # at 0.06 each lot makes it worse
        ([(100, 10)], {"liquidation_fee": "0.06"}, ("full", 500, 500)),
    ],
)
def test_restoring_sizes(bids, policy, expected):
    policy = {"slice_fraction": "0.5", "target_mmr": 1, **policy}
    _, rows = slice_tick(bids, SHORT_OF, **policy)
    assert reasons_of(rows)[-1] == ("book", *expected)


def test_a_restoring_size_leaves_no_small_rest():
    """Of 150 lots, short of 1: 25.5 are enough, and 1.25 X are the least that may stay."""
    market = market_row("X", ("0.10", 0), ("0.05", 0), minimum="1.25")
    for market_of, lots in ((X, 26), (market, 150)):
        holdings = {"X": ("1.5", 100), "USDC": "6.48"}
        policy = {"slice_fraction": 1, "target_mmr": 1}
        _, rows = slice_tick([(100, 10)], holdings, venue=make_venue([market_of], **policy))
        assert reasons_of(rows)[-1] == ("book", "full", lots, lots)


def test_the_restoring_size_of_a_short():
    """The mirror image of two levels: at 101 a lot costs 0.01 and a fee of 0.0101: 3.1 / 0.0299 = 103.7."""
    books = {"X": {"asks": [(100, 0.5), (101, 10)]}}
    policy = {"slice_fraction": "0.5", "target_mmr": 1}
    _, rows = slice_tick(books, {"X": (-10, 100), "USDC": "44.9"}, **policy)
    assert reasons_of(rows) == [("book", "full", 154, -154)]
    assert rows[-1]["mmr_after"] < 1


def test_the_gap_by_shares():
    """X 300 lots and Y 700: 1.53 and 3.57 of the gap of 5.1, so 39 and 90 lots; in turn it is all X's first."""
    holdings = {"X": (3, 100), "Y": (7, 100), "USDC": "44.9"}
    policy = {"slice_fraction": "0.5", "target_mmr": 1}
    _, rows = slice_tick([(100, 10)], holdings, position_order="pro_rata", **policy)
    assert [(row["market"], row["lots"]) for row in rows[1:]] == [("X", -39), ("Y", -90)]
    assert rows[1]["mmr_after"] >= 1 > rows[2]["mmr_after"]
    _, rows = slice_tick([(100, 10)], holdings, position_order="largest", **policy)
    assert [(row["market"], row["lots"]) for row in rows[1:]] == [("Y", -128)]


# -- Passes


def pass_tick(accounts, books, **policy):
    venue = make_venue(account_order="pro_rata", **policy)
    return checked_step(venue, load(venue, accounts), books=books)


def test_a_pass_shares_the_book():
    """1 offers 100 lots and 2 offers 50; 60 at 100 and 40 at 99 are there: 66.7 and 33.3, the last one to 1.

    99.6 in all: 67 lots get rhe(66.732), 33 the rest. Both find the touch of 100 when they size their slices.
    """
    accounts = {2: {"X": (5, 100), "USDC": 20}, 1: {"X": (10, 100), "USDC": 45}}
    new, rows = pass_tick(accounts, {"X": {"bids": [(100, 0.6), (99, 0.4)]}})
    assert brief(rows, "account", "requested", "lots", "counter_cash", "fee") == [
        ("book", "depth", 2, 50, -33, -32868000, 328680),
        ("book", "depth", 1, 100, -67, -66732000, 667320),
    ]
    assert new.book_quanta["USDC"] == -99600000


def test_the_last_lot_of_a_pass():
    """Three offers of 100 and 100 lots: one more to the first in the order of the accounts, which is 3, 1, 2."""
    accounts = {1: {"X": (10, 100), "USDC": 44}, 2: {"X": (10, 100), "USDC": 45}, 3: {"X": (10, 100), "USDC": 43}}
    _, rows = pass_tick(accounts, {"X": {"bids": [(100, 1)]}})
    assert brief(rows, "account", "lots") == [("book", "depth", n, -lots) for n, lots in ((3, 34), (1, 33), (2, 33))]


def test_offers_that_get_nothing():
    """Two lots for three: the last one gets an `expire` row, before the others are filled whole."""
    accounts = {account: {"X": (10, 100), "USDC": 45} for account in (1, 2, 3)}
    _, rows = pass_tick(accounts, {"X": {"bids": [(100, "0.02")]}})
    assert reasons_of(rows) == [("expire", "depth", 100, 0)] + [("book", "depth", 100, 1)] * 2


def test_caps_of_a_pass():
    """The caps of the accounts bind each, that of the market once: 40, 40, 40 of 100 each, and 90 in the market."""
    accounts = {account: {"X": (10, 100), "USDC": 45} for account in (1, 2, 3)}
    books = {"X": {"bids": [(100, 100)]}}
    _, rows = pass_tick(accounts, books, account_cap=40)
    assert reasons_of(rows) == [("book", "account_cap", 100, 40)] * 3
    _, rows = pass_tick(accounts, books, account_cap=40, market_cap=90)
    assert reasons_of(rows) == [("book", "market_cap", 100, 30)] * 3
    _, rows = pass_tick(accounts, books, market_cap=90, slices_per_tick=2)
    assert reasons_of(rows) == [("book", "market_cap", 100, 30)] * 3 + [("expire", "market_cap", 97, 0)] * 3
    accounts[4] = {"X": ("0.4", 100), "USDC": 1.9}  # four lots
    _, rows = pass_tick(accounts, books, account_cap=40)
    assert [row for row in rows if row["account"] == 4][1]["reason"] == "full"


def test_the_order_of_a_pass():
    """The first positions of all before the second ones; by market, bids before asks; a harmful one is not offered."""
    accounts = {
        1: {"X": (3, 100), "Y": (7, 100), "USDC": 41},
        2: {"Y": (-5, 100), "X": ("1", 100), "USDC": 27},
        3: {"Y": (5, 100), "USDC": 24},
    }
    books = {"X": {"bids": [(100, 100)]}, "Y": {"bids": [(100, 100)], "asks": [("100.1", 100)]}}
    _, rows = pass_tick(accounts, books)
    found = [(row["account"], row["market"], row["lots"]) for row in rows if row["event"] != "trigger"]
    # MMR: 50/41, 30/27, 25/24; the largest first: 1 Y, 2 Y, 3 Y, then the X of 1 and 2
    assert found == [(1, "Y", -70), (3, "Y", -50), (2, "Y", 50), (1, "X", -30), (2, "X", -10)]


def test_a_pass_goes_side_by_side():
    """X is filled before Y is judged: 2 makes a harmful one there (`harm`)."""
    accounts = {
        1: {"X": (10, 100), "USDC": 42},
        2: {"X": (3, 100), "Y": (7, 100), "USDC": 43},
        3: {"X": (10, 100), "USDC": 44},
    }
    books = {"X": {"bids": [(100, 100)]}, "Y": {"bids": [(95, 100)]}}
    _, rows = pass_tick(accounts, books, harmful_slice="waive")
    assert [(row["event"], row["account"], row["market"]) for row in rows[3:]] == [
        ("book", 1, "X"),
        ("book", 3, "X"),
        ("harm", 2, "Y"),
        ("book", 2, "X"),
    ]
    _, rows = pass_tick(accounts, {"X": books["X"]})
    assert [row["event"] for row in rows[3:]] == ["book", "book", "expire", "book"]


def test_gaps_are_set_at_the_beginning_of_a_round():
    """As in `test_the_gap_by_shares`, twice: 39 and 90 of each account."""
    holdings = {"X": (3, 100), "Y": (7, 100), "USDC": "44.9"}
    policy = {"slice_fraction": "0.5", "target_mmr": 1, "position_order": "pro_rata"}
    _, rows = pass_tick({1: holdings, 2: holdings}, {m: {"bids": [(100, 10)]} for m in "XY"}, **policy)
    found = [(row["account"], row["market"], row["lots"]) for row in rows[2:]]
    assert found == [(1, "X", -39), (2, "X", -39), (1, "Y", -90), (2, "Y", -90)]


# ---- Money per asset, inverse contracts


def inverse_row(symbol="I", base="BTC", tick="0.1", step="1", maintenance="0.05", **others):
    """Contracts of one USD, settled in the base asset; no band."""
    row = market_row(symbol, (str(2 * Fraction(maintenance)), 0), (maintenance, 0), tick, step)
    row["filters"]["price"] = {"tickSize": tick}
    return row | {"marketType": "IPERP", "baseSymbol": base, "quoteSymbol": "USD"} | others


def money_venue(*markets, weight="1", **policy):
    """X in USDC, T (base X) in USDT, and I in BTC; USDT and BTC count with a weight, a quantum of BTC is 1e-8."""
    tether = X | {"symbol": "T", "quoteSymbol": "USDT"}
    rows = [asset_row("USDT", weight), asset_row("BTC", weight, quantum="1e-8")]
    return make_venue(markets or (X, tether, inverse_row()), rows, **policy)


MARKS = {"X": 100, "T": 100, "I": 40_000}
TETHER = {"USDT": "1.25"}  # a price of USDT that shows in every amount


@pytest.mark.parametrize(
    ("contracts", "entry", "mark", "profit"),
    [
        (100_000, 10_000, 10_500, "0.47619048"),
        (1_000, 5_000, 5_500, "0.01818182"),
        (10_000, 8_000, 12_500, "0.45000000"),
        (-1_000, 5_000, 4_500, "0.02222222"),
    ],
)
def test_the_profit_of_an_inverse_contract(contracts, entry, mark, profit):
    """BitMEX (inverse futures guide, 10 XBT from 10,000 to 10,500), Bybit (profit and loss of inverse contracts).

    contracts * (1 / entry - 1 / mark) coins: 10 - 9.52380952; 0.2 - 0.18181818; 1.25 - 0.8; 0.22222222 - 0.2.
    """
    venue = money_venue()
    holdings, marks = {"I": (contracts, entry), "BTC": 1}, MARKS | {"I": mark}
    account = load(venue, {1: holdings}).accounts[1]
    assert account.positions["I"][1:] == [-contracts * 10**8 // entry] * 2
    look = look_at(venue, holdings, marks)
    assert look.net_equity == mark * (1 + contracts * (Fraction(1, entry) - Fraction(1, mark)))
    assert f"{float(look.net_equity / mark - 1):.8f}" == profit
    assert look.exposure == abs(contracts)


def test_the_average_entry_of_an_inverse_contract():
    """Bybit's example: 1,000 contracts at 5,000 and 2,000 at 6,000 are worth 0.53333333 BTC, on average 5,625.

    0.2 BTC and 0.33333333 BTC are paid, with the sign of the value: a long is worth less than 0 coins.
    """
    cost = -20_000_000
    cost += reference.change_of_cost(1000, cost, 2000, 33_333_333)
    assert cost == -53_333_333
    assert money_venue().markets["I"].price_of(3000, -cost / Fraction(10**8), 1) == pytest.approx(5625, rel=1e-8)


@pytest.mark.parametrize("mark", [60_000, 50_400, 69_600, 1, 10**7])
def test_a_short_of_the_value_of_the_coins_has_no_risk(mark):
    """scenario_rules.md, E-S9: 1 BTC and a short of 60,000 from 60,000; 1 + 60,000 / P - 1 coins at P are 60,000."""
    look = look_at(money_venue(), {"I": (-60_000, 60_000), "BTC": 1}, MARKS | {"I": mark})
    assert look.net_equity == look.exposure == 60_000


def test_the_multiplier_of_a_contract():
    """3 contracts of 0.000001 base units at 2,000 are 0.006; 5 inverse ones of 100 USD are 0.0125 BTC at 40,000."""
    linear = market_row("E", ("0.1", 0), ("0.05", 0), "0.05", "1") | {"multiplier": "0.000001"}
    venue = money_venue(linear, inverse_row(multiplier="100"))
    assert venue.markets["E"].lot_value(Fraction(2000)) == Fraction("0.002")
    assert venue.markets["I"].lot_value(Fraction(40_000)) == Fraction("-0.0025")
    look = look_at(venue, {"E": (3, 2000), "I": (-5, 40_000), "USDC": 1}, {"E": 2000, "I": 40_000})
    assert (look.exposure, look.net_equity) == (Fraction("500.006"), 1)
    assert venue.markets["E"].price_of(3, Fraction("-0.006"), 1) == 2000
    assert venue.markets["I"].price_of(-5, Fraction("-0.0125"), 1) == 40_000
    assert venue.markets["I"].price_of(5, 0, 41_000) == 41_000


@pytest.mark.parametrize(
    ("tether", "equity", "exposure"),
    [(160, "67.5", 1125), (60, "-50", 1125), (100, "0", 1125), (-60, "-200", 1200), ((-60, 200), "37.5", 1200)],
)
def test_equity_in_another_asset(tether, equity, exposure):
    """Long 10 T from 100 USDT, the mark is 90: a loss of 100 USDT. USDT is worth 1.25 and counts with weight 0.9.

    Free 160: 60 * 1.25 * 0.9. Free 60: -40 * 1.25, in full. Owed 60: -100 * 1.25 and a borrow of 75. With 200 lent
    besides: 100 * 1.25 * 0.9 - 75.
    """
    look = look_at(money_venue(weight="0.9"), {"T": (10, 100), "USDT": tether}, MARKS | {"T": 90}, None, TETHER)
    assert (look.net_equity, look.exposure) == (Fraction(equity), exposure)


def test_a_haircut_by_what_the_balance_and_the_profit_come_to():
    """60 USDT free, 30 of profit and 10 lent at 1: 100 with the weight 1 / (1 + 0.1 * 10) = 0.5."""
    kind = {"type": "inverseSqrt", "base": "1", "positiveCurvePenalty": "0.1"}
    venue = make_venue([X | {"symbol": "T", "quoteSymbol": "USDT"}], [asset_row("USDT", "1", kind)])
    assert look_at(venue, {"T": (1, 70), "USDT": (60, 10)}, {"T": 100}, None, {"USDT": 1}).net_equity == 50


@pytest.mark.parametrize(
    ("row", "settle"),
    [
        (X, "USDC"),
        (X | {"quoteSymbol": "USD"}, "USDC"),
        (X | {"quoteSymbol": "USDT"}, "USDT"),
        (X | {"quoteSymbol": "USDT", "settle": "USDC"}, "USDC"),
        (inverse_row(), "BTC"),
        (inverse_row(base="XBT", settle="BTC"), "BTC"),
    ],
)
def test_what_a_market_settles_in(row, settle):
    venue = money_venue(row)
    assert venue.markets[row["symbol"]].settle == settle
    assert venue.money == ["USDC", *{settle} - {"USDC"}]


@pytest.mark.parametrize("row", [X | {"quoteSymbol": "EUR"}, inverse_row(base="ETH")])
def test_a_market_that_settles_in_no_asset(row):
    with pytest.raises(LookupError, match="is not a collateral asset"):
        money_venue(row)


def test_the_money_assets_ascend():
    assert money_venue(inverse_row(), X | {"symbol": "T", "quoteSymbol": "USDT"}).money == ["USDC", "USDT", "BTC"]


def test_the_price_of_an_asset_follows_its_quote():
    """BTC at 40,000 USDT, USDT at 1.25; of an inverse market in USD the price is in the unit of account.

    The markets are taken as listed, once: B has no price of USDT where that follows from the market behind it.
    """
    linear = market_row("B", ("0.1", 0), ("0.05", 0)) | {"baseSymbol": "BTC", "quoteSymbol": "USDT"}
    venue, prices = money_venue(linear), reference.Prices({"B": 39_000}, {"B": 40_000}, TETHER)
    assert prices.of_asset(venue, "BTC") == 50_000
    assert reference.Prices({"I": 39_000}, {"I": 40_000}).of_asset(money_venue(), "BTC") == 40_000
    quoted = money_venue(inverse_row(quoteSymbol="USDT"))
    assert reference.Prices({"I": 40_000}, None, TETHER).of_asset(quoted, "BTC") == 50_000
    with pytest.raises(ValueError, match="no price of BTC"):
        reference.Prices({"B": 40_000}).of_asset(venue, "BTC")
    tether, prices = X | {"symbol": "U", "baseSymbol": "USDT"}, reference.Prices({"B": 40_000, "U": "1.5", "I": 61_000})
    assert prices.of_asset(money_venue(tether, linear), "BTC") == 60_000
    assert prices.of_asset(money_venue(linear, tether, inverse_row()), "BTC") == 61_000
    with pytest.raises(ValueError, match="no price of BTC"):
        prices.of_asset(money_venue(linear, tether), "BTC")


def test_a_settle_asset_without_a_price_is_refused():
    """Of USDT without a balance: for the position, or for the open order alone."""
    venue = money_venue()
    state = load(venue, {1: {"T": (1, 100), "USDC": 1000}})
    assert state.accounts[1].balances == {"USDC": [1000 * M, 0], "USDT": [0, 0]}
    waiting = load(venue, {1: RICH}, [(1, "bid", 90, 1, "T")])
    assert waiting.accounts[1].balances == {"USDC": [1000 * M, 0], "USDT": [0, 0]}
    for refused in (state, waiting):
        with pytest.raises(ValueError, match="no price of USDT"):
            reference.step(venue, refused, 0, MARKS, {})
        reference.step(venue, refused, 0, MARKS, {}, asset_prices=TETHER)
    reference.step(venue, load(venue, {1: {"X": (1, 100), "USDC": 1000}}), 0, MARKS, {})


def test_a_quantity_of_tokens():
    """Of N = 4,000: linear 40 tokens at 100, in USDT at 1.25 as well (32 * 100 * 1.25); inverse 0.1 coins at 40,000.

    0.2 * sqrt(40) = 1.264911, 0.2 * sqrt(32) = 1.131371 and 0.2 * sqrt(0.1) = 0.063246 of the notional.
    """
    function = {"type": "sqrt", "base": "0", "factor": "0.2", "unit": "quantity"}
    rows = [row | {"mmfFunction": function} for row in (X, X | {"symbol": "T", "quoteSymbol": "USDT"}, inverse_row())]
    for symbol, quantity, expected in (("X", 40, "5059.644256"), ("T", 32, "4525.483400"), ("I", 4000, "252.982213")):
        price = 40_000 if symbol == "I" else 100
        look = look_at(money_venue(*rows), {symbol: (quantity, price), "USDC": 1}, MARKS, None, TETHER)
        assert look.exposure == 4000
        assert f"{float(look.maintenance_margin):.6f}" == expected


def test_the_open_interest_of_a_contract():
    """5 of the contracts of 100 USD are 500 USD of open interest, 10 T at 100 USDT are 1,250 USDC."""
    venue = money_venue(inverse_row(multiplier="100"), X | {"symbol": "T", "quoteSymbol": "USDT"})
    prices = reference.Prices({"I": 40_000, "T": 100}, None, TETHER, {"I": 5, "T": 10})
    assert [prices.of_open_interest(venue, symbol) for symbol in "IT"] == [500, 1250]


def test_a_slice_of_an_inverse_market():
    """20 contracts from 32,000, coins for E = 0.768 and MM = 1: 2 are sold, one at 64,000 and one at 19,200.

    1562.5 and 5208.3 quanta are 1562 and 5208, each rounded: 6770, not 6771. The cost is -62,500 of 20: 6,250 of it is
    released. 6,250 - 6,770 = -520. The fee is 67.7, so 68. 2 contracts for 6,770 quanta: 29,542.1.
    """
    venue = money_venue()
    state = load(venue, {1: {"I": (20, 32_000), "BTC": "0.000024"}, 2: RICH})
    levels = {"bids": [(64_000, 1), (19_200, 1)]}
    new, rows = checked_step(venue, state, MARKS | {"I": 32_000}, {"I": levels})
    columns = ("market", "settle", "lots", "cost", "cash", "entry", "fee", "counter_cash")
    assert brief(rows[2:3], *columns) == [("book", "full", "I", "BTC", -2, 6250, -520, 6250, 68, 6770)]
    assert rows[2]["price"] == pytest.approx(2 / 6770e-8)
    assert rows[1]["event"] == "harm"
    assert rows[1]["price"] == rows[2]["price"]
    assert new.fund == {"USDC": 0, "USDT": 0, "BTC": 68}
    assert new.accounts[1].balances["BTC"] == [2400 - 520 - 68, 0]
    # at 12,800 the other one brings 7812: 6,250 - 9,374 = -3,124 is more than the 2,400 quanta that E is, and at 13,700
    # 7299 leaves 2,400 - 2,611 < 0; at 14,200 of the fee of 86 there are 46, of which float64 is sure of 45
    for price, cash, fee in ((12_800, -3124, 0), (13_700, -2611, 0), (14_200, -2354, 45)):
        levels = {"bids": [(64_000, 1), (price, 1)]}
        new, rows = checked_step(venue, state, MARKS | {"I": 32_000}, {"I": levels})
        assert (rows[2]["cash"], rows[2]["fee"]) == (cash, fee)


def test_a_slice_that_restores_the_margin_of_a_coin_account():
    """A short of 1,000 contracts at 40,000 with 0.001 BTC: E = 40 and MM = 50 (see 3 Book, Restoring size).

    A lot costs a fee of 0.01 and frees 0.05: 250 lots end the deficit of 10, and 251 bring it below 0.
    They cost 251 / 40,000 = 0.006275 BTC, the fee is 0.00006275.
    """
    venue = money_venue(slice_fraction="0.5", position_order="relief", target_mmr=1, harmful_slice="waive")
    state = load(venue, {1: {"I": (-1000, 40_000), "BTC": "0.001"}})
    _, rows = checked_step(venue, state, MARKS, {"I": {"asks": [(40_000, 10_000)]}})
    assert brief(rows, "requested", "lots", "cost", "cash", "fee") == [("book", "full", 251, 251, -627_500, 0, 6275)]


def test_a_slice_counts_with_the_weight_of_its_asset():
    """Long 10 T from 100 USDT at 1.25 with 80 USDT of weight 0.5: E = 50 and MM = 62.5.

    A lot frees 0.0625; its fee of 0.01 USDT costs 0.00625 only. 12.5 / 0.05625 = 222.2: 223 lots, and not 251.
    """
    venue = money_venue(weight="0.5", slice_fraction="0.5", target_mmr=1, harmful_slice="waive")
    state = load(venue, {1: {"T": (10, 100), "USDT": 80}})
    _, rows = checked_step(venue, state, MARKS, {"T": {"bids": [(100, 100)]}}, TETHER)
    columns = ("settle", "requested", "lots", "cost", "cash", "fee")
    assert brief(rows, *columns) == [("book", "full", "USDT", 223, -223, -223 * M, 0, 2_230_000)]


def test_a_bankruptcy_price_in_another_asset():
    """Long 10 T from 100 USDT at 1.25 with 25 USDC: N = 1,250, MM = 62.5, E = 25 below the auto-close 31.25.

    The share is 25: the flow (1,250 - 25) / 1.25 = 980 USDT, at 98. The fund gets 25 / 3 / 1.25 = 6.666667 USDT, the
    provider pays 986.666667. Then 20 USDT are owed and cost 25 USDC, of which the account has as much.
    """
    venue = money_venue(backstop=[{"account": 9}])
    state = load(venue, {1: {"T": (10, 100), "USDC": 25}, 9: {"USDC": 10_000}})
    new, rows = checked_step(venue, state, MARKS, None, TETHER)
    columns = ("market", "asset", "settle", "cost", "cash", "counter_cost", "counter_cash", "quanta", "fund")
    assert brief(rows, *columns) == [
        ("backstop", "below_auto_close", "T", None, "USDT", -1000 * M, -20 * M, 986666667, 0, 0, 6666667),
        ("backstop", "below_auto_close", None, "USDT", "USDC", 0, -25 * M, 0, 25 * M, 20 * M, 0),
    ]
    assert [row["price"] for row in rows[1:]] == [98, 1.25]
    assert new.fund == {"USDC": 0, "USDT": 6666667, "BTC": 0}
    assert new.accounts[1].balances == {"USDC": [0, 0], "USDT": [0, 0]}
    assert new.accounts[9].balances["USDT"] == [-20 * M, 0]
    assert new.provider_total == {9: 1275 * M}


def test_adl_of_an_inverse_position():
    """Long 10,000 from 50,000 at 40,000 with 0.0501 BTC: 0.0001 BTC is left, E = 4; N = 10,000, MM = 500.

    The flow is -(10,000 + 4) / 40,000 = -0.2501 BTC at 10,000 / 0.2501 = 39,984.006; -0.2 of cost is released.
    The short from 50,000 paid 0.2 and gets 0.0501 BTC in cash.
    """
    venue = money_venue()
    state = load(venue, {1: {"I": (10_000, 50_000), "BTC": "0.0501"}, 2: {"I": (-15_000, 50_000), "BTC": 1}})
    new, rows = checked_step(venue, state, MARKS)
    columns = ("settle", "lots", "cost", "cash", "counter_cost", "counter_cash", "entry", "counter_entry")
    amounts = (-10_000, 20_000_000, -5_010_000, -20_000_000, 5_010_000, 20_000_000, -20_000_000)
    assert brief(rows, *columns) == [("adl", "backstop_exhausted", "BTC", *amounts)]
    assert rows[1]["price"] == pytest.approx(10_000 / 0.2501)
    assert new.accounts[1].balances["BTC"] == [0, 0]


def test_a_bankruptcy_price_that_is_none():
    """A long of 1,000 at 40,000 loses all of its notional: the flow is -0.025 + 0.025 BTC, the price then the mark."""
    venue = money_venue()
    holdings = {1: {"I": (1000, 40_000)}, 2: {"I": (-1000, 50_000), "BTC": 1}}
    _, rows = checked_step(venue, load(venue, holdings, settings=[{"account": 1, "unsettled": -2000}]), MARKS)
    (row,) = (row for row in rows if row["event"] == "adl")
    assert (row["cost"], row["cash"], row["counter_cash"]) == (2_500_000, 2_500_000, -2_000_000)
    assert row["price"] == 40_000


def test_scores_of_inverse_positions():
    """Of a long of 10,000 from 40,000 at 50,000: value -10,000, paid -12,500 (0.25 BTC at 50,000); E = 1,000.

    pnl = 2,500 / 12,500 = 0.2, hyperliquid 50,000 / 40,000 * 10. A short from 62,500: paid 8,000, 10,000 / 8,000 * 10.
    A paid amount of the sign of the lots is a wrong one.
    """
    for lots, value, entry in ((10_000, -10_000, -12_500), (-10_000, 10_000, 8000)):
        of = figures_of(lots, value, entry, equity=1000, exposure=10_000)
        assert reference.SCORES["hyperliquid"](of) == Fraction(25, 2)
        assert reference.SCORES["bybit"](of) == reference.profit_fraction(value, entry) * 10
    assert reference.SCORES["pnl_leverage"](figures_of(10_000, -10_000, -12_500)) == Fraction(1)
    assert reference.SCORES["pnl_leverage"](figures_of(10_000, -10_000, -12_500, 100, 1000)) == 2
    assert reference.SCORES["bitmex"](figures_of(-10_000, 10_000, -5)) == reference.INFINITY


def test_counterparties_in_several_assets():
    """Value and entry of a counterparty are in the unit of account, its other positions' profits too (`binance`).

    2 is short 10 T from 120 USDT at 1.25: value -1,250, paid -1,500, and long 1,000 I from 32,000 at 40,000: value
    -1,000, paid -1,250. E = 1,000 + 250 + 250.
    """
    venue = money_venue()
    state = load(venue, {1: {"T": (10, 100)}, 2: {"T": (-10, 120), "I": (1000, 32_000), "USDC": 1000}})
    prices = reference.Prices(MARKS, None, TETHER)
    tick = reference.Tick(venue, state, 0, prices, 0)
    tick.guards({}, None, None)
    tick.select()
    of = tick.figures(2, "T")
    assert (of.value, of.entry, of.profit, of.profits) == pytest.approx((-1250, -1500, 250, 500))
    assert (of.equity, of.exposure, of.margin, of.position_margin) == pytest.approx((1500, 2250, 112.5, 62.5))
    assert tick.counterparties("T", are_long=False).keys() == {2}


@pytest.mark.parametrize(
    ("fund", "rows", "left"),
    [
        (
            {"USDC": 0, "USDT": 0, "BTC": 50_000},
            [("fund", "BTC", 50_000, 0), ("convert", "USDC", 20 * M, -50_000), ("shortfall", "USDC", 10 * M, 0)],
            {"USDC": 0, "USDT": 0, "BTC": 0},
        ),
        (
            {"USDC": 4 * M, "USDT": 8 * M, "BTC": 50_000},
            [
                ("fund", "USDC", 4 * M, 0),
                *(("fund", "BTC", 50_000, 0), ("convert", "USDC", 20 * M, -50_000)),
                ("shortfall", "USDC", 6 * M, 0),
            ],
            {"USDC": 0, "USDT": 8 * M, "BTC": 0},
        ),
        (
            {"USDC": 0, "USDT": 0, "BTC": 80_000},
            [("fund", "BTC", 75_000, 0), ("convert", "USDC", 30 * M, -75_000)],
            {"USDC": 0, "USDT": 0, "BTC": 5_000},
        ),
    ],
)
def test_the_fund_pays_in_other_assets(fund, rows, left):
    """30 USDC are owed. A quantum of BTC is worth 400 of USDC at 40,000: 75,000 of them pay all.

    The account has a row of BTC and none of USDT, so the USDT of the fund are left to others.
    """
    venue = money_venue()
    state = load(venue, {1: {"USDC": -30, "BTC": 0}})
    state.fund = fund
    new, found = checked_step(venue, state, MARKS, None, TETHER)
    assert [(row["event"], row["settle"], row["cash"], row["quanta"]) for row in found[1:]] == rows
    assert new.fund == left
    assert new.accounts[1].balances == {"USDC": [0, 0], "BTC": [0, 0]}


@pytest.mark.parametrize("policy", ["non_recourse", "unsettled"])
def test_close_out_takes_what_is_unsettled_of_every_asset(policy):
    """30 USDC are owed; 10 USDT at 1.25 and -0.0001 BTC at 40,000 are unsettled: 12.5 and -4.

    The USDT is sold. With the policy "unsettled" what is owed stays so: 17.5 USDC and the BTC.
    """
    venue = money_venue(shortfall=policy)
    state = load(venue, {1: {"USDC": -30, "USDT": 0, "BTC": 0}})
    state.accounts[1].unsettled |= {"USDT": 10 * M, "BTC": -10_000}
    new, rows = checked_step(venue, state, MARKS, None, TETHER)
    sale = ("convert", "USDT", "USDC", 12_500_000, -10 * M, 0)
    taken = ("unsettle", None, "USDT", 10 * M, 0, -10 * M)
    if policy == "unsettled":
        last = [taken, sale, ("shortfall", None, "USDC", 17_500_000, 0, -17_500_000)]
    else:
        last = [
            *(taken, ("unsettle", None, "BTC", -10_000, 0, 10_000), sale),
            *(("convert", "BTC", "USDC", -4 * M, 10_000, 0), ("shortfall", None, "USDC", 21_500_000, 0, 0)),
        ]
    columns = ("event", "asset", "settle", "cash", "quanta", "unsettled")
    assert [tuple(row[name] for name in columns) for row in rows[1:]] == last
    assert new.accounts[1].balances == {"USDC": [0, 0], "USDT": [0, 0], "BTC": [0, 0]}


HOURLY = {"fundingInterval": 3_600_000}


def test_funding_and_realisation_in_the_coin():
    """10,000 contracts at 50,000 and a rate of 0.0001: 1 USD, 2,000 quanta of BTC. A long pays, a short receives.

    Then the long from 40,000 realises 0.25 - 0.2 = 0.05 BTC, the short from 62,500 realises 0.2 - 0.16 = 0.04.
    """
    venue = money_venue(inverse_row(**HOURLY), realize_interval=3600)
    state = load(venue, {1: {"I": (10_000, 40_000), "BTC": 1}, 2: {"I": (-10_000, 62_500), "BTC": 1}})
    state, _ = checked_step(venue, state, {"I": 50_000}, time_ns=NOON - HOUR)
    new, rows = checked_step(venue, state, {"I": 50_000}, time_ns=NOON, funding_rates={"I": "0.0001"})
    columns = ("account", "settle", "cost", "cash", "counter_cash")
    assert brief(rows, *columns) == [
        ("funding", "interval", 1, "BTC", 0, -2000, 2000),
        ("funding", "interval", 2, "BTC", 0, 2000, -2000),
        ("realize", "interval", 1, "BTC", 5_000_000, 5_000_000, 0),
        ("realize", "interval", 2, "BTC", 4_000_000, 4_000_000, 0),
    ]
    assert [account.positions["I"][1:] for account in new.accounts.values()] == [
        [-20_000_000, -25_000_000],
        [20_000_000, 16_000_000],
    ]


CLOSED = [{"symbol": "BTC", "state": "Closed"}]
SETTLED = ("event", "asset", "settle", "cash", "quanta", "lent", "unsettled")


@pytest.mark.parametrize(
    ("holdings", "pools", "expected", "left"),
    [
        # borrowed: nothing is recorded without a pool
        ({"USDC": 100}, [], [], {"USDC": 100 * M, "BTC": -2000}),
        # a quantum of BTC is worth 500 of USDC
        ({"USDC": 100}, CLOSED, [("convert", "USDC", "BTC", 2000, -M, 0, 0)], {"USDC": 99 * M, "BTC": 0}),
        # 1,300 of the 2,000 can be had
        (
            {"USDC": "0.4", "BTC": (0, "0.000005")},
            CLOSED,
            [
                ("redeem", "BTC", None, 0, 500, -500, 0),
                ("convert", "USDC", "BTC", 800, -400_000, 0, 0),
                ("unsettle", None, "BTC", 700, 0, 0, -700),
            ],
            {"USDC": 0, "BTC": 0},
        ),
        # 1 USDT at 1.25 is worth more than the USDC and is sold first
        (
            {"USDC": "0.9", "USDT": 1},
            CLOSED,
            [("convert", "USDT", "BTC", 2000, -800_000, 0, 0)],
            {"USDC": 900_000, "USDT": 200_000, "BTC": 0},
        ),
    ],
)
def test_settlement_of_another_asset(holdings, pools, expected, left):
    """A long of 10,000 contracts pays 2,000 quanta of BTC of funding at 50,000 and has none free."""
    venue = money_venue(inverse_row(maintenance="0", **HOURLY), pools=pools)
    state = load(venue, {1: {"I": (10_000, 49_990)} | holdings, 2: {"I": (-10_000, 50_000)} | RICH})
    state, _ = checked_step(venue, state, {"I": 50_000}, None, TETHER, NOON - HOUR)
    new, rows = checked_step(venue, state, {"I": 50_000}, None, TETHER, NOON, funding_rates={"I": "0.0001"})
    own = [row for row in rows if row["event"] != "funding"]
    assert [tuple(row[name] for name in SETTLED) for row in own] == expected
    prices = {"USDC": Fraction(1, 50_000), "USDT": Fraction(5, 200_000)}
    assert all(row["price"] == float(prices[row["asset"]]) for row in own if row["event"] == "convert")
    assert new.accounts[1].balances == {asset: [free, 0] for asset, free in left.items()}


def test_settlement_takes_every_asset_in_its_turn():
    """A long of X realises -20 USDC; a short of 2,020 contracts 2,020 / 40,804 - 0.05 = -0.00049505 BTC, 20.2 USDC.

    The pass of USDC comes first and sells 20 of the 30 GEM at 1, that of BTC the other 10 for 10 / 40,804 BTC.
    """
    pools = [{"symbol": symbol, "state": "Closed"} for symbol in ("USDC", "BTC")]
    collateral = [asset_row("BTC", "1", quantum="1e-8"), asset_row("GEM", "1")]
    markets = [market_row("X", (0, 0), (0, 0)), inverse_row(maintenance="0")]
    venue = make_venue(markets, collateral, pools=pools, realize_interval=3600)
    state = load(venue, {1: {"X": (10, 102), "I": (-2020, 40_400), "GEM": 30}})
    marks, prices = {"X": 100, "I": 40_804}, {"GEM": 1}
    state, _ = checked_step(venue, state, marks | {"I": 40_400}, None, prices, NOON - 2 * HOUR)
    new, rows = checked_step(venue, state, marks, None, prices, NOON)
    assert [tuple(row[name] for name in SETTLED) for row in rows if row["event"] == "convert"] == [
        ("convert", "GEM", "USDC", 20 * M, -20 * M, 0, 0),
        ("convert", "GEM", "BTC", 24_507, -10 * M, 0, 0),
    ]
    assert new.accounts[1].unsettled == {"USDC": 0, "BTC": 24_507 - 49_505}


# ---- Many small venues, by chance


INVERSE_X = X | {"marketType": "IPERP", "baseSymbol": "GEM", "quoteSymbol": "USD", "multiplier": "100"}
Y_IN_TOK = Y | {"quoteSymbol": "TOK", "multiplier": "0.1"}


def chance_state(chance, mixed):
    backstop = [
        {
            "account": account,
            "capacity_per_min": chance.choice([None, 500, "1234.5"]),
            "max_notional": chance.choice([None, 3000]),
        }
        for account in (90, 91)
        if chance.random() < 0.5
    ]
    policy = {
        "slices_per_tick": chance.choice([1, 1, 3]),
        "min_slice_notional": chance.choice([1, 77]),
        "slice_probability": chance.choice([1, "0.5"]),
        "slice_cooldown": chance.choice([None, 40]),
        "target_mmr": chance.choice([0, "0.9", 1]),
        "depth_share": chance.choice([1, "0.3"]),
        "slippage_limit": chance.choice([None, 70]),
        "market_cap": chance.choice([None, 300]),
        "account_cap": chance.choice([None, 120]),
        "account_order": chance.choice(["mmr", "pro_rata", "random"]),
        "position_order": chance.choice(["relief", "largest", "pro_rata"]),
        "harmful_slice": chance.choice(["waive", "send", "backstop"]),
        "conversion_limit": chance.choice([None, 30]),
        "refill_half_life": chance.choice([None, 20]),
        "backstop_below_zero": chance.choice(["mark", "zero_price"]),
        "shortfall": chance.choice(["non_recourse", "unsettled", "equity", "open_interest"]),
        "adl_policy": chance.choice([*reference.SCORES, *reference.WEIGHTS]),
        "adl_price": chance.choice([0, 0, "0.3", 1]),
        "adl_counterparties": chance.choice(["profitable", "opposing"]),
        "adl_cap": chance.choice([1, "0.3", 2]),
        "pools": [{"symbol": "GEM", "borrowedQuantity": chance.choice([0, 3])}] if chance.random() < 0.7 else [],
        "realize_interval": 60 if mixed else None,
        "stages": chance.choice([["book", "backstop", "adl"], ["adl", "book"], ["backstop", "book", "adl"], ["book"]]),
        "adl_when": chance.choice(["backstop_exhausted", "fund_below"]),
        "adl_fund_off": chance.choice([0, 40]),
    }
    markets = [*((INVERSE_X, Y_IN_TOK) if mixed else (X, Y)), *([GEM_SPOT] if chance.random() < 0.5 else [])]
    venue = make_venue(markets, backstop=backstop, fund=chance.choice([0, 50]), **policy)
    accounts, orders = {account: {"USDC": chance.choice([0, 100, 10**5])} for account in (90, 91)}, []
    for account in range(1, 9):
        accounts[account] = {"USDC": (chance.randrange(-200, 400), chance.choice([0, 0, 30]))}
        for market in ("X", "Y"):
            if chance.random() < 0.7:
                lots = chance.choice([-1, 1]) * chance.randrange(1, 3000)
                accounts[account][market] = (Fraction(lots, 100), chance.randrange(900, 1101) / 10)
            if chance.random() < 0.3:
                orders.append((account, chance.choice(["bid", "ask"]), 100, chance.randrange(1, 9), market))
        for asset in ("GEM", "TOK"):
            if chance.random() < 0.5:
                accounts[account][asset] = (chance.randrange(-20, 40) / 10, chance.choice([0, 0, 1]))
    return venue, load(venue, accounts, orders)


def chance_levels(chance, touch, direction):
    """Five levels from a tick off the touch outwards."""
    prices = [Fraction(touch + direction * (1 + 4 * place), 10) for place in range(5)]
    return [(price, chance.randrange(1, 500) / 100) for price in prices]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_conservation_by_chance(seed, mixed):
    """Three ticks of a small venue; `checked_step` holds, no account changes side, and every close-out ends at zero.

    Mixed: X is an inverse market that settles in GEM, Y settles in TOK. What the fund sells of them may bring up to the
    value of a quantum too much.
    """
    chance = random.Random(seed)
    venue, state = chance_state(chance, mixed)
    for tick in range(3):
        touches = {market: chance.randrange(850, 1151) for market in ("X", "Y", "GEM_USDC")}
        books = {
            market: {"bids": chance_levels(chance, touch, -1), "asks": chance_levels(chance, touch, 1)}
            for market, touch in touches.items()
        }
        marks = {market: touch / 10 for market, touch in touches.items()}
        prices = {"GEM": chance.choice([55.5, 123.456]), "TOK": chance.choice([7.0, 31.7])}
        new, rows = checked_step(venue, state, marks, books, prices, tick * MINUTE // 2)
        selected = {row["account"] for row in rows if row["event"] == "trigger"}
        bankrupt = {row["account"] for row in rows if row["event"] in ("fund", "shortfall")}
        for account_id, account in new.accounts.items():
            before = state.accounts[account_id]
            assert account.orders == ([] if account_id in selected else before.orders)
            free, lent = account.balances["USDC"]
            assert account_id not in bankrupt or (lent == 0 <= free <= 123 * mixed)
            for market, (lots, cost, entry) in account.positions.items():
                held = before.positions[market][0]
                assert account_id in venue.providers or 0 <= lots * held <= held * held
                assert lots != 0 or cost == entry == 0
        state = new
