"""Liquidation prices: worked example E1, closed forms, and the exact margin at the returned mark."""

import copy
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import reference, sample
from riskcore.kernels.layouts import OrderColumns
from riskcore.state import Orders
from tests.comparison import ROUNDING, gross
from tests.strategies import Scene, scenes

BTC = "BTC_USDC_PERP"
BASE, FACTOR = "0.00666667", "0.00001496"
NEAR_DOUBLE_ROOT = Fraction(1, 10**9)  # of the gross amounts


def found_by_engine(scene: Scene, **other):
    venue, accounts = scene.load()
    first = scene.ticks[0]
    known = {"asset_prices": first.asset_prices, "open_interest": first.open_interest}
    return rc.liquidation_prices(accounts, venue, first.marks, indexes=first.indexes, **known, **other)


def one_position(quantity, entry, cash, base=BASE, factor=FACTOR):
    market = sample.market_row(
        "BTC", "0.1", "0.00001", (max("0.02", base, key=float), "0"), (base, factor), impact=None
    )
    venue = rc.load_venue({"settle_asset": "USDC", "markets": [market], "collateral": []})
    positions = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [quantity], "entry_price": [entry]})
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [cash]})
    return venue, rc.Accounts.from_frames(venue, positions, balances)


def liquidation_price(venue, accounts, mark):
    return rc.liquidation_prices(accounts, venue, {BTC: mark}).liquidation_price.item()


# ---- Worked example E1 of venue_rules.md


def test_e1_to_the_printed_digits():
    venue, accounts = one_position(5.0, 100_000.0, 20_000.0)
    for mark in (100_000.0, 97_010.756239, 96_200.0, 30_000.0, 900_000.0):
        assert liquidation_price(venue, accounts, mark) == pytest.approx(97_010.756239, abs=5e-7)


def test_e1_the_status_flips_at_the_price():
    venue, accounts = one_position(5.0, 100_000.0, 20_000.0)
    price = liquidation_price(venue, accounts, 100_000.0)
    assert rc.sweep(accounts, venue, {BTC: price + 1e-9}).status[0] == 0
    assert rc.sweep(accounts, venue, {BTC: price - 1e-9}).status[0] == 1


@pytest.mark.parametrize(("quantity", "cash"), [(1.0, 5_000.0), (-1.0, 5_000.0), (0.5, 49_000.0), (-0.5, 10.0)])
def test_the_linear_zone(quantity, cash):
    """A long: (q Pe - E0) / (q (1 - base)), a short: (|q| Pe + E0) / (|q| (1 + base))."""
    side = 1 if quantity > 0 else -1
    size, entry, base = abs(quantity), 100_000.0, float(BASE)
    expected = (size * entry - side * cash) / (size * (1 - side * base))
    assert size * expected < (float(BASE) / float(FACTOR)) ** 2
    venue, accounts = one_position(quantity, entry, cash)
    assert liquidation_price(venue, accounts, 91_000.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("quantity", "cash"), [(5.0, 20_000.0), (-5.0, 20_000.0), (200.0, 1e7), (-200.0, 1e7)])
def test_the_sqrt_zone(quantity, cash):
    """With u = sqrt(N), a long: factor u^3 - u^2 + (q Pe - E0) = 0, a short: factor u^3 + u^2 - (|q| Pe + E0) = 0."""
    side, size, factor = (1 if quantity > 0 else -1), Decimal(str(abs(quantity))), Decimal(FACTOR)
    with localcontext(prec=50):
        paid = size * 100_000 - side * Decimal(str(cash))
        low, high = Decimal(0), 2 / (3 * factor)  # where a long's gap is widest
        for _ in range(160):
            root = (low + high) / 2
            below = side * (root**2 - paid) < factor * root**3
            low, high = (root, high) if below == (side > 0) else (low, root)
        notional = root**2
        assert notional > (Decimal(BASE) / factor) ** 2
        expected = float(notional / size)
    venue, accounts = one_position(quantity, 100_000.0, cash)
    for mark in (100_000.0, 60_000.0, 250_000.0):
        assert liquidation_price(venue, accounts, mark) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("quantity", "cash", "base", "factor"),
    [
        (1.0, 100_000.0, BASE, "0"),  # paid for: no mark takes the equity below the margin
        (1.0, 250_000.0, BASE, FACTOR),
        (-1.0, -100_000.0, BASE, "0"),  # a short that owes what it sold for: no mark is low enough
        (1.0, 0.0, "1", "0"),  # the margin is the whole notional
        (500.0, 1_000.0, BASE, "0.001"),  # the margin outgrows the notional before the equity does
    ],
)
def test_there_is_none(quantity, cash, base, factor):
    venue, accounts = one_position(quantity, 100_000.0, cash, base, factor)
    assert np.isnan(liquidation_price(venue, accounts, 100_000.0))


def test_two_roots():
    """Above the upper root the margin outgrows a long's equity: there the price is the upper one, else the lower."""
    venue, accounts = one_position(2_000.0, 100.0, 100_000.0, BASE, "0.001")
    marks = [80.0, 100.0, 500.0, 200_000.0]
    safe = rc.sweep(accounts, venue, pd.DataFrame({BTC: marks}))
    assert [table.status[0] == 0 for table in safe] == [False, True, False, False]
    low, high = liquidation_price(venue, accounts, 100.0), liquidation_price(venue, accounts, 500.0)
    assert 80.0 < low < 100.0 < high < 500.0
    for mark, price in zip(marks, (low, low, high, high), strict=True):
        assert liquidation_price(venue, accounts, mark) == pytest.approx(price, rel=1e-13)
    for price, flips in ((low, (False, True)), (high, (True, False))):
        around = rc.sweep(accounts, venue, pd.DataFrame({BTC: [price * (1 - 1e-9), price * (1 + 1e-9)]}))
        assert tuple(table.status[0] == 0 for table in around) == flips


def test_only_an_upper_root():
    """A long that cannot be liquidated by a fall, and is by a rise: 8 million with 8.1 million at hand."""
    venue, accounts = one_position(80_000.0, 100.0, 8_100_000.0, "0.05", "0.00026")
    price = liquidation_price(venue, accounts, 100.0)
    assert 100.0 < price < 300.0
    assert rc.sweep(accounts, venue, {BTC: price}).mmr[0] == pytest.approx(1, abs=1e-12)
    for mark in (50.0, 250.0, 300.0):
        assert liquidation_price(venue, accounts, mark) == pytest.approx(price, rel=1e-13)


@pytest.mark.parametrize(("highest", "expected"), [("200", 200.0), ("199.9", np.nan), ("200.1", 200.0)])
def test_an_upper_price_at_the_highest_price_is_one(highest, expected):
    """4 units bought at 100 with 1,200 and a margin fraction of 2: 1200 + 4 (p - 100) = 2 * 4 p at a mark p of 200."""
    market = sample.market_row("BTC", "0.1", "0.00001", ("2", "0"), ("2", "0"), impact=None)
    market["filters"]["price"]["maxPrice"] = highest
    for function in ("imfFunction", "mmfFunction"):
        market[function]["unit"] = "quantity"
    venue = rc.load_venue({"settle_asset": "USDC", "markets": [market], "collateral": []})
    positions = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [4.0], "entry_price": [100.0]})
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1_200.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    np.testing.assert_equal(liquidation_price(venue, accounts, 100.0), expected)


def test_a_rise_past_the_highest_price_is_none():
    """E1 with more equity than its notional: only a mark of 900 million would liquidate it."""
    venue, accounts = one_position(5.0, 100_000.0, 600_000.0, BASE, FACTOR)
    assert np.isnan(liquidation_price(venue, accounts, 100_000.0))


# ---- Any account


def with_mark(prices: reference.Prices, symbol: str, mark: Fraction) -> reference.Prices:
    """These prices with another mark: the open interest keeps its worth, every asset its price."""
    other = copy.copy(prices)
    other.marks = prices.marks | {symbol: mark}
    held = prices.open_interest[symbol] * prices.marks[symbol] / mark
    other.open_interest = prices.open_interest | {symbol: held}
    return other


def widest_gap(gap, mark: Fraction, enough: Fraction) -> Fraction:
    """Largest value of a concave function of the mark, or the first one found of ``enough`` or more."""
    high = mark
    while True:  # until the function falls
        if gap(high) >= enough:
            return gap(high)
        if gap(2 * high) <= gap(high):
            break
        high *= 2
    low, high = Fraction(0), 2 * high
    for _ in range(200):
        left, right = low + (high - low) * 4 / 10, low + (high - low) * 6 / 10
        at_left, at_right = gap(left), gap(right)
        if max(at_left, at_right) >= enough:
            break
        low, high = (left, high) if at_left < at_right else (low, right)
    return max(at_left, at_right)


@settings(max_examples=30)
@given(scenes())
def test_at_the_returned_mark_equity_is_the_margin(scene: Scene):
    """Exactly, within 1e-12 of the gross amounts; a long's lower root, or its upper one if that is all or passed."""
    found = found_by_engine(scene)
    highest = dict(zip(scene.load()[0].markets.symbol, scene.load()[0].markets.max_ticks.tolist(), strict=True))
    venue, state = scene.load_reference()
    prices = scene.ticks[0].prices().at(venue, state)
    prices.asset_prices = {
        symbol: prices.of_asset(venue, symbol) for account in state.accounts.values() for symbol in account.balances
    }
    held = [
        (account, symbol, account_id)
        for account_id, account in state.accounts.items()
        for symbol in venue.markets
        if account.positions.get(symbol, [0])[0]
    ]
    assert list(zip(found.account, found.market, strict=True)) == [(row[2], row[1]) for row in held]
    for (account, symbol, _), quantity, mark, price in zip(
        held, found.quantity, found.mark_price, found.liquidation_price, strict=True
    ):
        lots, before = account.positions[symbol][0], prices.marks[symbol]
        assert quantity == pytest.approx(float(lots * venue.markets[symbol].step_size), rel=1e-15)
        assert reference.number(mark) == before

        def gap(mark, account=account, symbol=symbol):
            look = reference.margin(venue, account, with_mark(prices, symbol, mark))
            return look.net_equity - look.maintenance_margin

        rest = gap(Fraction(1, 10**30))  # at a mark of next to nothing, where a least requirement still counts
        side = 1 if lots > 0 else -1
        scale = gross(venue, account, prices)
        if np.isnan(price):
            if side * rest >= -ROUNDING * scale:
                event("NaN: safe at every lower mark, or liquidatable at every one")
                most = highest[symbol] * venue.markets[symbol].tick_size
                own_scale = gross(venue, account, with_mark(prices, symbol, most))
                assert side < 0 or gap(most) >= -ROUNDING * max(scale, own_scale)
                continue
            assert side > 0  # a short with equity left at a mark of nothing always has a root
            widest = widest_gap(gap, before, 2 * NEAR_DOUBLE_ROOT * scale)
            assert widest < NEAR_DOUBLE_ROOT * scale
            event("NaN: liquidatable at every mark")
            continue
        event("a price")
        root = Fraction(float(price))
        assert root > 0
        moved = with_mark(prices, symbol, root)
        scale = max(scale, gross(venue, account, moved))
        assert abs(gap(root)) <= ROUNDING * scale
        # the gap is concave: where it grows with the mark there is no root below, where it falls none above
        beyond = gap(root * (1 + side * Fraction(1, 10**9)))
        enough = NEAR_DOUBLE_ROOT * scale
        if side > 0 and beyond < gap(root) and widest_gap(gap, root, enough) >= enough:
            event("a long's upper root")
            assert rest >= -ROUNDING * scale or before > root
            continue
        assert side * rest <= ROUNDING * scale
        assert beyond > gap(root) or widest_gap(gap, root, enough) < enough


@settings(max_examples=10)
@given(scenes(), st.integers(2, 4))
def test_order_of_rows_and_threads_change_no_bit(scene: Scene, threads):
    expected = found_by_engine(scene)
    found = found_by_engine(
        Scene(scene.source, *(rows[::-1] for rows in (scene.positions, scene.balances, scene.orders, scene.settings)),
              scene.ticks), threads=threads,
    )  # fmt: skip
    assert found.liquidation_price.tobytes() == expected.liquidation_price.tobytes()


# ---- Rows, many accounts, errors


def test_flat_positions_have_no_row():
    """Neither the market of a mere order, nor a provider's, nor a position of zero lots."""
    source = sample.venue_source([9])
    venue = rc.load_venue(source)
    positions = pd.DataFrame(
        [("1", BTC, 1.0, 1e5), ("1", "SOL_USDC_PERP", 0.0, 200.0)],
        columns=["account", "market", "quantity", "entry_price"],
    ).assign(account=[1, 1])
    balances = pd.DataFrame({"account": [1, 9], "asset": ["USDC", "USDC"], "quantity": [20_000.0, 1e6]})
    orders = pd.DataFrame(
        {"account": [1], "market": ["ETH_USDC_PERP"], "side": ["bid"], "price": [4_000.0], "quantity": [1.0]}
    )
    accounts = rc.Accounts.from_frames(venue, positions, balances, orders)
    marks = {BTC: 100_000.0, "ETH_USDC_PERP": 4_000.0, "SOL_USDC_PERP": 200.0}
    frame = rc.liquidation_prices(accounts, venue, marks).to_frame()
    assert frame[["account", "market", "quantity", "mark_price"]].to_numpy().tolist() == [[1, BTC, 1.0, 1e5]]
    assert frame["distance"].item() == pytest.approx(frame["liquidation_price"].item() / 1e5 - 1, abs=1e-15)


def test_an_account_may_have_no_position():
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": ["a"], "asset": ["USDC"], "quantity": [1.0]})
    found = rc.liquidation_prices(rc.Accounts.from_frames(venue, positions, balances), venue, {})
    assert found.to_frame().empty


def test_the_price_of_the_base_asset_stays():
    """A long of one coin against a debt of one: only the margins move with the mark, not the debt."""
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame({"account": [1], "market": ["SOL_USDC_PERP"], "quantity": [10.0], "entry_price": [200.0]})
    balances = pd.DataFrame({"account": [1, 1], "asset": ["USDC", "SOL"], "quantity": [3_000.0, -10.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    found = rc.liquidation_prices(accounts, venue, {"SOL_USDC_PERP": 200.0})
    borrow = 2_000 * 0.1  # half of the default 0.20
    rest = 3_000 - 2_000 - 2_000 - borrow
    assert found.liquidation_price[0] == pytest.approx(-rest / (1 - 0.0135) / 10, rel=1e-14)


@pytest.mark.parametrize(
    ("marks", "asset_prices", "error"),
    [
        ({}, {"SOL": 200.0}, "marks.BTC_USDC_PERP: an account holds it: a mark is needed"),
        ({BTC: 1e5}, {}, "asset_prices.SOL: an account holds it: a price is needed"),
        ({BTC: 0.0}, {"SOL": 200.0}, "marks.BTC_USDC_PERP, value 0.0: must be a finite number > 0"),
    ],
)
def test_a_price_is_missing(marks, asset_prices, error):
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [1.0], "entry_price": [1e5]})
    balances = pd.DataFrame({"account": [1], "asset": ["SOL"], "quantity": [100.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    with pytest.raises(rc.RiskDataError) as caught:
        rc.liquidation_prices(accounts, venue, marks, asset_prices=asset_prices)
    assert str(caught.value) == error


def test_a_million_positions_and_any_number_of_threads():
    """200,000 accounts of five positions each: every price, the same bits, and each account's like its own."""
    bases, count = ("BTC", "ETH", "SOL", "AVAX", "DOGE"), 200_000
    rows = [
        sample.market_row(base, "0.1", "0.001", ("0.02", "0.00006"), ("0.01", "0.00003"), impact=None) for base in bases
    ]
    venue = rc.load_venue({"settle_asset": "USDC", "markets": rows, "collateral": []})
    marks = np.array([100_000.0, 4_000.0, 200.0, 30.0, 0.2])
    rng = np.random.default_rng(5)
    lots = rng.choice([-1, 1], (count, 5)) * (rng.integers(1, 50_000, (count, 5)) / marks * 1000).astype(int).clip(1)
    cost = np.rint(lots * marks * rng.uniform(0.95, 1.05, (count, 5)) * 1000).astype(np.int64)
    cash = rng.integers(3_000, 40_000, count) * 10**6
    owner, none = np.arange(count), np.zeros(count, np.int64)

    def accounts_of(chosen):
        some = np.arange(len(chosen))
        positions = (np.repeat(some, 5), np.tile(np.arange(5), len(some)), *(
            column[chosen].ravel() for column in (lots, cost, cost)))  # fmt: skip
        empty = np.empty(0, np.int64)
        return rc.Accounts.from_rows(
            venue, owner[chosen], positions, (some, none[chosen], cash[chosen], none[chosen], none[chosen]),
            Orders(OrderColumns(empty, empty, empty, empty, empty, np.empty(0, bool))), np.full(len(some), np.inf),
        )  # fmt: skip

    prices = dict(zip(venue.markets.symbol, marks.tolist(), strict=True))
    accounts = accounts_of(owner)
    alone = rc.liquidation_prices(accounts, venue, prices, threads=1)
    assert len(alone.liquidation_price) == 5 * count
    assert 0.5 < np.isfinite(alone.liquidation_price).mean() < 1.0
    for threads in (2, 3, None):
        again = rc.liquidation_prices(accounts, venue, prices, threads=threads)
        assert again.liquidation_price.tobytes() == alone.liquidation_price.tobytes()
    chosen = rng.choice(count, 100, replace=False)
    few = rc.liquidation_prices(accounts_of(chosen), venue, prices)
    assert few.liquidation_price.tobytes() == alone.liquidation_price.reshape(count, 5)[chosen].tobytes()
