"""Small accounts: exact money, prices folded in place, margins of the exact model, and the path of an engine."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import scalar
from riskcore.boundary import exact
from riskcore.kernels._jit import JIT_OFF
from riskcore.kernels.margin import DOUBT
from riskcore.kernels.slice_rounds import BOOK, ROW_REASONS
from riskcore.kernels.small_books import MARKET_CLOSE
from riskcore.margin import margins_of, model_of
from riskcore.market import Prices
from riskcore.sample import market_row
from tests import money_venues
from tests.strategies import scenes

X, Y = "X_USDC_PERP", "Y_USDC_PERP"
SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3_600 * 10**9
START = 1_760_000_400 * SECOND  # a full hour


def source(**policy):
    """Two markets in USDC without price guards, and a policy whose slices nothing but the account decides."""
    rows = [
        market_row("X", "0.1", "0.01", ("0.04", "0.00005"), ("0.02", "0.00003"), impact=("0.98", "1.02")),
        market_row("Y", "0.05", "0.1", ("0.08", "0"), ("0.05", "0"), impact=None),
    ]
    rows[1]["filters"]["price"] |= {"minMultiplier": "0.97", "maxMultiplier": "1.03"}
    identity = {"weight": "1", "kind": {"type": "identity"}}
    least = {"slice_probability": 1, "liquidation_interval": None, "min_slice_notional": 50}
    collateral = [{"symbol": "USDC", "haircutFunction": identity}]
    return {"settle_asset": "USDC", "markets": rows, "collateral": collateral, "policy": least | policy}


@cache
def venue_of(**policy):
    return rc.load_venue(source(**{name: list(v) if isinstance(v, tuple) else v for name, v in policy.items()}))


money_venue = cache(money_venues.venue)


@cache
def money_account():
    """Small account at the venue of several money assets."""
    return scalar.small_account(money_venue(), money_venues.MARKS, asset_prices=money_venues.ASSET_PRICES)


@cache
def plain_account():
    """Account of `venue_of` whose money nothing changes."""
    return account_of(venue_of())


def undoubted(account):
    account.doubts[0] = 0
    return account


def account_of(venue, cash=1_000.0, marks=None, **more):
    return scalar.small_account(venue, marks or {X: 100.0, Y: 50.0}, cash=cash, **more)


def rhe(value):
    return round(Fraction(value))


prices = st.one_of(
    st.integers(1, 10**7).map(lambda n: n / 10),
    st.integers(1, 10**12).map(lambda n: n / 10**6),
    st.floats(1e-3, 1e6),
)
rates = st.one_of(st.integers(-10_000, 10_000).map(lambda n: n / 10**6), st.floats(-0.01, 0.01))


def is_short(number):
    return len(repr(float(number)).partition("e")[0].strip("-").replace(".", "").strip("0")) <= 15


def near(found, expected, account, digits):
    """Equal, but for a quantum where the account counts a doubt, which a number of few digits never leaves."""
    if digits:
        assert account.doubts[0] == 0
        assert found == expected
    elif found != expected:
        # a decimal of 17 digits is half a unit of the last bit away
        assert abs(found - expected) <= 1 + abs(expected) * 2.0**-50
        assert account.doubts[0] or abs(expected) > 2**40


class TestAmounts:
    """Whole quanta against fractions; a decimal of few digits is exact."""

    @given(st.integers(-(10**6), 10**6), prices)
    def test_values_of_lots(self, lots, price):
        venue, account = venue_of(), undoubted(plain_account())
        for m in range(2):
            size = venue.markets.exact_lot_size[m] / venue.assets.quantum[0]
            expected = rhe(abs(lots) * size * exact(price))
            near(scalar.value_of(account, m, lots, price), expected, account, is_short(price))

    @given(st.integers(1, 10**6), prices.filter(lambda price: price > 0.01))
    def test_values_of_inverse_lots(self, lots, price):
        venue, account = money_venue(), undoubted(money_account())
        m = venue.markets.row[money_venues.IBTC]
        expected = rhe(abs(venue.markets.lot_value(m, exact(price))) * lots / venue.assets.quantum[3])
        near(scalar.value_of(account, m, lots, price), expected, account, is_short(price))

    @given(st.integers(-(10**15), 10**15), rates)
    def test_parts(self, quanta, rate):
        account = undoubted(plain_account())
        near(scalar.part_of(account, quanta, rate), rhe(quanta * exact(rate)), account, is_short(rate))

    @given(st.one_of(st.integers(-(10**14), 10**14).map(lambda n: n / 10**7), st.floats(-1e6, 1e6)))
    def test_quanta(self, quantity):
        account = undoubted(plain_account())
        near(scalar.whole_quanta(account, 0, quantity), rhe(exact(quantity) * 10**6), account, is_short(quantity))

    @given(st.integers(-(10**8), 10**8), st.integers(1, 10**6).map(lambda n: n / 10), rates, st.booleans())
    def test_funding(self, lots, mark, rate, inverse):
        """As `riskcore.accrual.funding` does it: a lot in parts of a quantum first."""
        venue = money_venue()
        market = money_venues.IBTC if inverse else money_venues.BTC
        account = undoubted(money_account())
        m, p = venue.markets.row[market], venue.markets.settle[venue.markets.row[market]]
        account.state.lots[account.row[m]], before = lots, account.funding[m]
        scalar.set_mark(account, m, mark)
        of_lot = rhe(exact(rate) * abs(venue.markets.lot_value(m, exact(mark))) / venue.assets.quantum[p] * 10**9)
        expected = -rhe(Fraction(lots * of_lot, 10**9))
        found = scalar.pay_funding(account, m, rate)
        if is_short(rate):
            assert (found, account.doubts[0]) == (expected, 0)
        assert abs(found - expected) <= 1 + abs(expected) * 2.0**-45
        assert account.funding[m] - before == found

    def test_a_half_goes_to_the_even_quantum(self):
        account = account_of(venue_of())
        assert [scalar.part_of(account, 1, rate) for rate in (0.5, 1.5, 2.5, -0.5, -1.5)] == [0, 2, 2, 0, -2]
        assert account.doubts[0] == 0

    def test_a_long_number_near_a_half_counts_a_doubt(self):
        account = account_of(venue_of())
        scalar.part_of(account, 3, 0.1666666666666666574)  # 1/6: a half, but for the last bit
        assert account.doubts[0] == 1

    def test_whole_units(self):
        account = account_of(venue_of())
        assert scalar.whole_lots(account, 0, 0.29) == 29
        assert scalar.whole_lots(account, 0, 0.295) == scalar.NOT_WHOLE
        assert scalar.whole_ticks(account, 1, 50.05) == 1_001
        assert scalar.whole_ticks(account, 1, 50.06) == scalar.NOT_WHOLE
        assert scalar.whole_ticks(account, 1, 1e300) == scalar.NOT_WHOLE


trades = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-5_000, 5_000).filter(bool), prices, st.integers(-(10**6), 10**6)),
    min_size=1,
    max_size=12,
)


@given(trades)
def test_fills_are_those_of_accounts(rows):
    venue = venue_of()
    account = account_of(venue)
    frame = pd.DataFrame(
        {
            "account": "a",
            "market": [venue.markets.symbol[m] for m, *_ in rows],
            "quantity": [venue.markets.quantity(np.array([lots]), np.array([m]))[0] for m, lots, *_ in rows],
            "price": [price for *_, price, _ in rows],
            "fee": [fee / 10**6 for *_, fee in rows],
        }
    )
    before = scalar.to_accounts(account, venue, "a")
    fees = scalar.whole_quanta
    realized = 0
    for m, lots, price, fee in rows:
        entry = int(account.state.entry.sum())
        done = scalar.fill_position(account, m, lots, price, fees(account, 0, fee / 10**6))
        assert done.lots == scalar.position(account, m)
        assert done.realized == done.flow + int(account.state.entry.sum()) - entry
        realized += done.realized
    if account.doubts[0]:
        return
    after = before.with_fills(venue, frame).columns
    for name in ("lots", "cost", "entry"):
        of_market = np.zeros(2, np.int64)
        of_market[after.market] = getattr(after, name)
        assert getattr(account.state, name).tolist() == of_market.tolist()
    assert account.state.free.tolist() == after.free.tolist()
    assert account.state.balance_cost.tolist() == after.balance_cost.tolist()
    assert (account.realized.sum(), account.fees.sum()) == (realized, sum(fee for *_, fee in rows))


def bits(arrays):
    """All arrays and numbers of named tuples."""
    for value in arrays:
        if isinstance(value, tuple):
            yield from bits(value)
        else:
            yield np.asarray(value)


def small(accounts, venue, id_, tick, markets=None):
    """Small account of an account of a scene at the prices of a tick; None if a price is missing."""
    given_ = {"indexes": tick.indexes, "asset_prices": tick.asset_prices, "open_interest": tick.open_interest}
    try:
        return scalar.from_accounts(accounts, venue, id_, tick.marks, markets=markets, **given_)
    except rc.RiskDataError:
        return None


class TestPrices:
    """Prices folded in place have the bits of those of a tick."""

    @settings(max_examples=60)
    @given(scenes(ticks=2, most=4, mixed=True))
    def test_prices_fold_as_a_tick_does(self, scene):
        venue, accounts = scene.load()
        first, second = scene.ticks
        account = small(accounts, venue, accounts.ids[0], first)
        assume(account is not None)
        account.state.open_orders[0] = 0
        for symbol, row in venue.markets.row.items():
            scalar.set_open_interest(account, row, second.open_interest.get(symbol, np.nan))
        for symbol, row in venue.assets.row.items():
            if symbol != venue.settle_asset:
                scalar.set_asset_price(account, row, second.asset_prices.get(symbol, np.nan))
        marks = {**first.marks, **second.marks}
        for symbol, row in venue.markets.row.items():
            scalar.set_index(account, row, second.indexes.get(symbol, np.nan))
            scalar.set_mark(account, row, marks[symbol])
        alone = scalar.to_accounts(account, venue)
        known = {"indexes": second.indexes, "asset_prices": second.asset_prices, "open_interest": second.open_interest}
        expected = Prices.read(venue, alone, marks, **known).arrays
        by_interest = bool(venue.margin_functions.by_open_interest)
        for found, wanted in zip(bits(account.prices), bits(expected), strict=True):
            if by_interest:
                np.testing.assert_allclose(found, wanted, rtol=1e-14)
            else:
                np.testing.assert_array_equal(found, wanted)

    def test_a_missing_mark_changes_nothing(self):
        account = account_of(venue_of())
        before = [array.copy() for array in bits(account.prices)]
        for mark in (np.nan, 0.0, -1.0):
            scalar.set_mark(account, 0, mark)
        for found, wanted in zip(bits(account.prices), before, strict=True):
            np.testing.assert_array_equal(found, wanted)


class TestMargins:
    """Margins, statuses and liquidation prices of scenes, account by account."""

    @settings(max_examples=60)
    @given(scenes(most=4, mixed=True))
    def test_margins_are_those_of_the_accounts(self, scene):
        venue, accounts = scene.load()
        (tick,) = scene.ticks
        given_ = {"indexes": tick.indexes, "asset_prices": tick.asset_prices, "open_interest": tick.open_interest}
        prices = Prices.read(venue, accounts, tick.marks, **given_)
        table = margins_of(accounts, np.arange(len(accounts)), prices)
        at = rc.liquidation_prices(accounts, venue, tick.marks, **given_)
        unit = 1.0 / float(venue.settle_quantum)
        same = not venue.margin_functions.open_interest_markets or all(s in tick.open_interest for s in tick.marks)
        for row, id_ in enumerate(accounts.ids.tolist()):
            account = small(accounts, venue, id_, tick, [])  # no other rows: the sums are in the same order
            if account is None or not same:
                continue
            sums, status = scalar.account_margin(account), scalar.account_status(account)
            if status != DOUBT:
                assert sums.equity / unit == table.net_equity[row]
                assert sums.maintenance / unit == table.maintenance_margin[row]
                assert sums.initial / unit == table.initial_margin[row]
                assert status == model_of(venue).account(accounts, row, prices).status
            for n in np.flatnonzero(at.account == id_):
                found = scalar.liquidation_price(account, venue.markets.row[at.market[n]])
                np.testing.assert_equal(found, at.liquidation_price[n])

    def test_entry_price_and_orders(self):
        venue = venue_of()
        account = account_of(venue)
        assert np.isnan(scalar.entry_price(account, 0))
        scalar.fill_position(account, 0, 100, 99.0, 0)
        scalar.fill_position(account, 0, 300, 101.0, 0)
        assert scalar.entry_price(account, 0) == 100.5
        initial = scalar.account_margin(account).initial
        scalar.set_orders(account, 0, 0, 900)
        assert scalar.account_margin(account).initial == pytest.approx(initial * 5 / 4)
        scalar.set_orders(account, 0, 0, 0)
        assert scalar.account_margin(account).initial == initial
        assert account.state.open_orders[0] == 0


def book_around(rng, ticks, depth):
    """Levels of both sides around a price in ticks, best first: prices and lots."""
    sides = []
    for sign in (-1, 1):
        steps = np.cumsum(rng.integers(1, 6, depth))
        sides += [ticks + sign * steps, rng.integers(1, 1_000, depth)]
    return sides


def in_units(venue, m, ticks, lots):
    """Levels as a tick takes them."""
    return [
        (n * float(venue.markets.tick[m]), q * float(venue.markets.step[m])) for n, q in zip(ticks, lots, strict=True)
    ]


POLICIES = {
    "default": {},
    "rounds": {"slices_per_tick": 5, "slice_fraction": "0.2", "position_order": "largest"},
    "caps": {"market_cap": 3_000, "account_cap": 5_000, "account_cap_interval": 3600, "depth_share": "0.4"},
    "slippage": {"slippage_limit": 20, "position_order": "pro_rata", "target_mmr": "0.9"},
    "send": {"harmful_slice": "send", "liquidation_fee": "0.03", "slice_fraction": 1},
    "escalate": {"harmful_slice": "backstop", "liquidation_fee": "0.04"},
    "unsettled": {"shortfall": "unsettled", "slice_fraction": "0.3", "liquidation_fee": 0},
    "no book": {"stages": ("backstop", "adl")},
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_path_is_that_of_an_engine(name):
    """Trades, funding, deposits and liquidations of hundreds of ticks: the whole numbers of both are the same."""
    venue = venue_of(**POLICIES[name])
    rng = np.random.default_rng(sum(map(ord, name)))
    account = account_of(venue, cash=600.0)
    books = scalar.small_books(venue, account, levels=12)
    engine = rc.Engine(scalar.to_accounts(account, venue, "a"), venue)
    ticks = np.array([1_000, 1_000])
    sold = closed = bankrupt = 0
    interval = None
    for n in range(400):
        time = START + n * 10 * MINUTE
        move = rng.normal(0, 0.012 if n % 40 else 0.15, 2)  # and a jump at times
        ticks = np.clip(ticks + np.rint(ticks * move).astype(np.int64), 200, 20_000)
        marks = {s: float(ticks[m] * venue.markets.tick[m]) for m, s in enumerate((X, Y))}
        rate = round(float(rng.normal(0, 2e-4)), 6)
        levels = [book_around(rng, ticks[m], int(rng.integers(0, 13))) for m in range(2)]
        # the small account
        for m, symbol in enumerate((X, Y)):
            scalar.set_mark(account, m, marks[symbol])
            if n and time % HOUR == 0:
                scalar.pay_funding(account, m, rate)
        for m in range(2):
            scalar.set_book(account, books, m, *levels[m])
        if interval != (interval := time // HOUR):
            scalar.renew_account_cap(books)
        result = scalar.liquidate(account, books)
        rows = [
            (venue.markets.symbol[books.rows.market[r]], ROW_REASONS[books.rows.reason[r]],
             *(int(getattr(books.rows, c)[r]) for c in ("requested", "lots", "cost", "entry", "fee")),
             int(books.rows.flow[r] + books.rows.cost[r]), float(books.rows.before[r]))
            for r in range(result.rows) if books.rows.event[r] in (BOOK, MARKET_CLOSE)
        ]  # fmt: skip
        # the engine
        given_ = {s: {"bids": in_units(venue, m, *levels[m][:2]), "asks": in_units(venue, m, *levels[m][2:])}
                  for m, s in enumerate((X, Y))}  # fmt: skip
        step = engine.step(rc.Tick(time, marks, given_, funding_rates={X: rate, Y: rate} if time % HOUR == 0 else None))
        events = step.raw_events
        fills = events[events["event"].isin(["book", "market_close"])]
        columns = ["market", "reason", "requested", "lots", "cost", "entry", "fee", "cash"]
        assert [row[:-1] for row in rows] == [tuple(row) for row in fills[columns].to_numpy().tolist()], n
        ratios = np.array([row[-1] for row in rows])
        ratios[ratios > 1e9] = np.inf  # exact arithmetic finds an equity of 0
        np.testing.assert_allclose(ratios, fills["mmr_before"], rtol=1e-12)
        lost = events[events["event"].isin(["fund", "shortfall"])]  # the fund of an engine has the fees of before
        assert result.shortfall == int(lost["cash"].sum())
        compare(account, engine, venue)
        sold, closed = (
            sold + int((fills["event"] == "book").sum()),
            closed + int((fills["event"] == "market_close").sum()),
        )
        bankrupt += result.shortfall > 0
        if bankrupt and venue.policy.shortfall == "unsettled":
            break  # from now on an engine settles the debt
        # and a trade, or money after a bankruptcy
        if not account.state.lots.any() and account.state.free[0] < 200e6:
            deposit(account, engine, 600.0)
        elif scalar.account_status(account) == scalar.SAFE and rng.random() < 0.5:
            m = int(rng.integers(2))
            lots = int(rng.integers(-1, 2)) * int(rng.integers(100, 9_000)) or 5
            price = round(float(marks[(X, Y)[m]] * rng.uniform(0.999, 1.001)), 4)
            trade(account, engine, venue, m, lots, price)
        compare(account, engine, venue)
    assert bankrupt > 0
    assert sold > 5 or name in ("no book", "unsettled")
    assert closed > 10 or name == "unsettled"
    assert account.doubts[0] == 0
    again = rc.Accounts.from_frames(venue, *scalar.to_accounts(account, venue, "a").to_frames())
    for column in ("lots", "free"):
        of = getattr(again.columns, column)
        assert of[of != 0].tolist() == [n for n in getattr(account.state, column).tolist() if n]


def compare(account, engine, venue):
    """Positions, money, margin and status of a small account and of the only account of an engine."""
    columns, state = engine.accounts.columns, account.state
    for name in ("lots", "cost", "entry"):
        of_market = np.zeros(2, np.int64)
        of_market[columns.market] = getattr(columns, name)
        assert getattr(state, name).tolist() == of_market.tolist()
    for name in ("free", "lent", "unsettled", "balance_cost"):
        assert getattr(state, name).tolist() == getattr(columns, name).tolist()
    sums = scalar.account_margin(account)
    marks = dict(zip(venue.markets.symbol, account.mark.tolist(), strict=True))
    table = rc.sweep(engine.accounts, venue, marks)
    ratio = scalar.margin_ratio(sums.maintenance, sums.equity, sums.exposure)
    status = scalar.account_status(account)
    if status != DOUBT:
        assert ratio == pytest.approx(table.mmr[0], rel=1e-12)
        exact_ = model_of(venue).account(engine.accounts, 0, Prices.read(venue, engine.accounts, marks))
        assert status == exact_.status


def trade(account, engine, venue, m, lots, price):
    """Fill a trade on both sides; the profit realised and the position afterwards are the same."""
    fee = scalar.part_of(account, scalar.value_of(account, m, lots, price), 0.0005)
    fill = scalar.fill_position(account, m, lots, price, fee)
    quantity = venue.markets.quantity(np.array([lots]), np.array([m]))[0]
    row = {"action": "fill", "account": "a", "market": venue.markets.symbol[m], "quantity": quantity, "price": price}
    (done,) = engine.apply(row | {"fee": fee / 1e6}, check="off").fills.itertuples()
    assert round(done.realized_pnl * 1e6) == fill.realized
    assert round(done.position / float(venue.markets.step[m])) == fill.lots


def deposit(account, engine, units):
    scalar.add_cash(account, 0, scalar.whole_quanta(account, 0, units))
    engine.apply({"action": "deposit", "account": "a", "asset": "USDC", "quantity": units}, check="off")


class TestSlices:
    """One slice by hand and by the round."""

    def filled(self, **policy):
        venue = venue_of(**policy)
        account = account_of(venue, cash=150.0)
        scalar.fill_position(account, 0, 10_000, 100.0, 0)
        scalar.set_mark(account, 0, 99.8)
        books = scalar.small_books(venue, account)
        scalar.set_book(account, books, 0, *np.array([[997, 995], [800, 90_000], [999, 1_000], [50, 50]]).reshape(4, 2))
        return account, books

    def test_a_slice_and_the_round_do_the_same(self):
        account, books = self.filled()
        sized = scalar.slice_size(account, books, 0)
        assert (sized.lots, sized.harm, ROW_REASONS[sized.reason]) == (-1_000, -1, "full")
        assert sized.value == 800 * 997 + 200 * 995
        fill = scalar.fill_slice(account, books, 0, sized)
        other, its_books = self.filled()
        assert scalar.liquidate(other, its_books).rows == 1
        assert other.state.free.tolist() == account.state.free.tolist()
        assert (other.realized[0], other.fees[0]) == (fill.realized, account.fees[0])
        assert fill.lots == 9_000

    def test_copies_are_independent(self):
        account, books = self.filled()
        other, _ = self.filled()
        scalar.liquidate(other, books)
        scalar.copy_account(account, other)
        for one, two in zip(bits(account), bits(other), strict=True):
            np.testing.assert_array_equal(one, two)
            assert one is not two

    def test_no_slice_of_a_safe_account_or_of_nothing(self):
        account, books = self.filled()
        assert scalar.slice_size(account, books, 1).lots == 0
        scalar.add_cash(account, 0, 10**9)
        assert scalar.slice_size(account, books, 0).lots == 0
        assert scalar.liquidate(account, books) == (0, 0, 0)

    def test_bands_bound_a_slice(self):
        account, books = self.filled()
        scalar.set_bands(books, 0, 996, 2**62)
        sized = scalar.slice_size(account, books, 0)
        assert (sized.filled, sized.limit, ROW_REASONS[sized.reason]) == (800, 996, "mean_mark")

    def test_a_crossed_book_has_no_levels(self):
        account, books = self.filled()
        scalar.set_book(account, books, 0, *np.array([[1_000], [5], [1_000], [5]]))
        sized = scalar.slice_size(account, books, 0)
        assert (sized.filled, ROW_REASONS[sized.reason]) == (0, "no_book")

    def test_a_market_without_a_book_leaves_all_open(self):
        account, _ = self.filled()
        books = scalar.small_books(venue_of(), account, levels=1)
        scalar.set_mark(account, 0, 90.0)
        assert scalar.liquidate(account, books) == (0, 10_000, 0)

    def test_deep_levels_are_left_out(self):
        account, _ = self.filled()
        books = scalar.small_books(venue_of(), account, levels=1)
        scalar.set_book(account, books, 0, *np.array([[997, 995], [800, 90_000], [999, 1_000], [50, 50]]).reshape(4, 2))
        assert scalar.slice_size(account, books, 0).filled == 800


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"marks": {X: 100.0}}, "marks.Y_USDC_PERP: must have a price: the account has a row of it"),
        ({"markets": ["Z"]}, "markets, value 'Z': must be a market of the venue"),
        ({"cash": float("nan")}, "balances.quantity, row 0, value nan: must not be missing"),
        ({"leverage_limit": 0.0}, "settings.leverage_limit, row 0, value 0.0"),
        ({"balances": {"GEM": 1.0}}, "balances.asset, row 0, value 'GEM'"),
    ],
)
def test_bad_figures_are_one_line(arguments, message):
    marks = arguments.pop("marks", {X: 100.0, Y: 50.0})
    with pytest.raises(rc.RiskDataError) as error:
        scalar.small_account(venue_of(), marks, **arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_a_small_account_is_not_for():
    venue = venue_of()
    account = account_of(venue)
    scalar.set_orders(account, 0, 5, 0)
    with pytest.raises(rc.RiskDataError, match=r"account\.open_orders: must be 0"):
        scalar.to_accounts(account, venue)
    with pytest.raises(rc.RiskDataError, match=r"policy\.account_order, value 'pro_rata'"):
        scalar.small_books(venue_of(account_order="pro_rata"), account)
    with pytest.raises(rc.RiskDataError, match="levels, value 0: must be a whole number from 1 to 10000"):
        scalar.small_books(venue, account, levels=0)
    with pytest.raises(rc.RiskDataError, match="account, value 'b'"):
        scalar.from_accounts(scalar.to_accounts(account_of(venue), venue), venue, "b", {X: 1.0, Y: 1.0})


@numba.njit(nogil=True)
def trend(account, books, ticks, levels, period):
    """A user's loop: follows the trend, pays funding, and is liquidated; counts ticks, trades and liquidations."""
    done, trades, liquidated = 0, 0, 0
    for n in range(ticks.size):
        price = ticks[n] / 10
        scalar.set_mark(account, 0, price)
        if n % period == period - 1:
            scalar.pay_funding(account, 0, 0.0001)
        if scalar.account_status(account) != scalar.SAFE:
            levels[0, 0], levels[2, 0] = ticks[n] - 1, ticks[n] + 1
            scalar.set_book(account, books, 0, levels[0], levels[1], levels[2], levels[3])
            scalar.liquidate(account, books)
            liquidated += 1
        elif n % 1_000 == 999:
            lots = 500 if ticks[n] > ticks[n - 999] else -500
            fee = scalar.part_of(account, scalar.value_of(account, 0, lots, price), 0.0005)
            scalar.fill_position(account, 0, lots, price, fee)
            trades += 1
        done += 1
    return done, trades, liquidated


def test_a_million_ticks_in_one_call():
    """Every tick is done, and all that happened adds up: what is left is what came in, less fees, plus profit."""
    count = 20_000 if JIT_OFF else 1_000_000
    rng = np.random.default_rng(3)
    ticks = np.maximum(np.rint(20_000 * np.exp(np.cumsum(rng.normal(0, 2e-4, count)))), 100).astype(np.int64)
    venue = venue_of()
    account = account_of(venue, 10_000.0, {X: 2_000.0, Y: 50.0})
    books = scalar.small_books(venue, account)
    levels = np.ones((4, 1), np.int64)
    levels[[1, 3]] = 10_000
    done, trades, liquidated = trend(account, books, ticks, levels, 3_600)
    assert done == count
    assert trades > count // 2_000
    assert JIT_OFF or liquidated > 0
    closed_profit = int(account.realized[0] - account.fees[0] + account.funding[0])
    assert account.state.free[0] >= 10_000_000_000 + closed_profit
    assert account.doubts[0] == 0
