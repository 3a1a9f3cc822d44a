"""Small cases: one account, ten positions, a tick that triggers nothing, and margins in a user's own njit loop."""

import math

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore import Accounts, Engine, RiskDataError, Tick, load_venue
from riskcore.kernels import guards as kernels
from riskcore.kernels.margin import SAFE, account_margin, account_status
from riskcore.margin import margin_table
from riskcore.market import Prices, asset_values
from riskcore.market.guards import GuardState, guard
from riskcore.sample import market_row, with_price_guards
from tests.comparison import whole_state

SECOND = 10**9
START = 1_760_000_000 * SECOND
NAMES = [f"A{n}" for n in range(10)]
IMF, MMF = ("0.02", "0.00005"), ("0.0125", "0.00003")
TIME = "must be a timestamp, ISO text or whole nanoseconds since the epoch, from 2000 to 2200"


def made(**policy):
    """One account with ten positions of ten markets, all guards on."""
    rows = [
        with_price_guards(market_row(n, "0.01", "0.001", IMF, MMF, impact=("0.99", "1.01")), ("0.95", "1.05"))
        for n in NAMES
    ]
    identity = {"weight": "1", "kind": {"type": "identity"}}
    venue = load_venue(
        {
            "settle_asset": "USDC",
            "markets": rows,
            "collateral": [{"symbol": asset, "haircutFunction": identity} for asset in ("USDC", "A0", "A1")],
            "borrow_lend": [{"symbol": "USDC", "lentQuantity": "1000", "borrowedQuantity": "500"}],
            "policy": policy,
        }
    )
    quantity = [1.0 if n % 3 else -1.0 for n in range(10)]
    positions = pd.DataFrame({"account": 7, "market": venue.markets.symbol, "quantity": quantity, "entry_price": 100.0})
    balances = pd.DataFrame({"account": [7, 7], "asset": ["USDC", "A1"], "quantity": [500.0, 1.5]})
    return venue, Accounts.from_frames(venue, positions, balances)


def paths(ticks, seed=0):
    """Marks of each tick, shape (T, M)."""
    rng = np.random.default_rng(seed)
    return np.round(100.0 * np.exp(rng.normal(0, 5e-4, (ticks, 10)).cumsum(axis=0)), 2)


def by_name(venue, column):
    pairs = zip(venue.markets.symbol, column.tolist(), strict=True)
    return {symbol: price for symbol, price in pairs if not math.isnan(price)}


class TestQuietTick:
    def test_it_needs_no_frame(self, monkeypatch):
        """What a tick costs must not begin with pandas: whole nanoseconds, a dict of marks, no books."""
        venue, accounts = made()
        engine, rows = Engine(accounts, venue), paths(3)
        engine.step(Tick(START, by_name(venue, rows[0])))

        def made_a_frame(*_args, **_more):
            raise AssertionError("a quiet tick made a frame")

        for kind in (pd.DataFrame, pd.Series):
            monkeypatch.setattr(kind, "__init__", made_a_frame)
        for n in (1, 2):
            result = engine.step(Tick(START + n * SECOND, by_name(venue, rows[n])))
            assert (len(result.rows), len(result.selected)) == (0, 0)
        assert engine.guard_state.mark.tolist() == rows[2].tolist()

    def test_prices_are_folded_only_when_a_margin_asks(self):
        venue, accounts = made()
        given_ = Prices.incomplete(venue, Tick(START, by_name(venue, paths(1)[0])))
        used = given_.guarded(accounts, given_.mark, given_.index, given_.asset)
        assert "arrays" not in vars(used)
        margin_table(accounts, used)
        assert "arrays" in vars(used)

    @pytest.mark.parametrize("gap", [SECOND // 10, SECOND, 7 * SECOND, 3_600 * SECOND])
    def test_dict_series_and_array_are_the_same_tick(self, gap):
        """Marks and indexes as a dict, a Series and an array, some of them missing."""
        venue, accounts = made(stale_after=100_000)
        marks, indexes, rng = paths(8), paths(8, seed=1), np.random.default_rng(2)
        indexes[rng.random(indexes.shape) < 0.4] = np.nan
        marks[3:, 0] = np.nan  # follows from the index, or is held
        indexes[3, 0] = marks[2, 0]
        found = []
        for kind in (dict, pd.Series, np.array):
            engine = Engine(accounts, venue)
            for n in range(8):
                columns = [marks[n], indexes[n]]
                if kind is not np.array:
                    columns = [kind(by_name(venue, column)) for column in columns]
                engine.step(Tick(START + n * gap, columns[0], indexes=columns[1]))
            found.append(whole_state(engine))
        assert found[0] == found[1] == found[2]

    def test_an_array_given_stays_as_it_is(self):
        venue, accounts = made()
        marks = paths(1)[0]
        kept = marks.copy()
        engine = Engine(accounts, venue)
        engine.step(Tick(START, marks, indexes=marks * 2))
        marks *= 3
        assert engine.guard_state.mark.tolist() == np.clip(kept, kept * 2 * 0.95, None).tolist()

    @pytest.mark.parametrize(
        ("marks", "line"),
        [
            (np.ones(9), "marks: must be 10 numbers, in the order of the venue, not float64 of shape (9,)"),
            (np.ones((1, 10)), "marks: must be 10 numbers, in the order of the venue, not float64 of shape (1, 10)"),
            (np.full(10, "1"), "marks: must be 10 numbers, in the order of the venue, not <U1 of shape (10,)"),
            (np.r_[np.ones(8), -1, 0], "marks.A8_USDC_PERP, value -1.0: must be a finite number > 0"),
            (np.r_[np.ones(9), np.inf], "marks.A9_USDC_PERP, value inf: must be a finite number > 0"),
        ],
    )
    def test_an_array_that_is_wrong(self, marks, line):
        venue, accounts = made()
        with pytest.raises(RiskDataError) as refusal:
            Engine(accounts, venue).step(Tick(START, marks))
        assert str(refusal.value) == line

    @pytest.mark.parametrize("time", [START, np.int64(START), "2025-10-09T08:53:20Z", pd.Timestamp(START, tz="UTC")])
    def test_times(self, time):
        assert Tick(time, {}).nanoseconds() == START
        assert type(Tick(time, {}).nanoseconds()) is int

    @pytest.mark.parametrize(
        ("time", "rule"),
        [
            *((time, TIME) for time in (True, 2**63, -(2**63) - 1, -1, [], pd.Timestamp(0), "2201-01-01")),
            (1.5, f"{TIME}; the value is a float, not a whole number"),
            (None, "must not be missing"),
        ],
    )
    def test_times_that_are_none(self, time, rule):
        with pytest.raises(RiskDataError) as refusal:
            Tick(time, {}).nanoseconds()
        assert str(refusal.value) == f"tick.time, row 0, value '{time}': {rule}"


class TestGuardKernels:
    FACTOR = st.floats(0.5, 2.0) | st.sampled_from([0.9975, 1.0025, 1.0, math.nan])

    @given(FACTOR, FACTOR, st.floats(1e-6, 1e9), st.floats(1e-6, 1e9), st.integers(0, 10**7))
    def test_cap_has_the_bits_of_python(self, least, most, value, previous, seconds):
        """Powers by the library that Python calls; past all numbers there is no bound."""

        def power(factor):
            try:
                return factor ** max(seconds, 1)
            except OverflowError:
                return math.inf

        low, high = previous * power(least), previous * power(most)
        expected = low if value < low else high if value > high else value
        market = np.array([[least], [most], [value], [math.nan]])
        used, price = np.empty((2, 1)), np.array([[previous], [math.nan], [math.nan]])
        stamp, refused, prints = np.zeros((3, 1), np.int64), np.empty((1, 4), bool), np.empty((1, 4))
        kernels.guard_updates(
            seconds * SECOND, 0, 0.05, *market, market[3], market[3], market[3], price, stamp, used, price.copy(),
            stamp.copy(), refused, prints,
        )  # fmt: skip
        assert used[0, 0] == expected
        assert refused[0].tolist() == [False, False, False, expected != value]

    @given(st.integers(0, 10**13), st.floats(-10, 10), st.floats(-10, 10))
    def test_basis_has_the_bits_of_python(self, passed, basis, off):
        none, mid = np.array([math.nan]), np.array([100.0 + off])
        price, stamp = np.array([[math.nan], [math.nan], [basis]]), np.zeros((3, 1), np.int64)
        after, used = price.copy(), np.empty((2, 1))
        index, refused, prints = np.array([100.0]), np.empty((1, 4), bool), np.empty((1, 4))
        kernels.guard_updates(
            passed, 0, 0.05, none, none, mid, index, none, mid, mid, price, stamp, used, after, stamp.copy(), refused,
            prints,
        )  # fmt: skip
        fresh = float(mid[0]) - 100.0
        assert after[kernels.BASIS, 0] == basis + (1 - math.exp(-(passed / SECOND) / 60)) * (fresh - basis)

    def test_a_second_look_from_the_same_memory(self):
        """The guards leave what they were given, the samples of five minutes too."""
        venue, _ = made()
        memory, before = GuardState.opening(venue), None
        for n, row in enumerate(paths(400)):
            tick = Tick(START + n * SECOND, row)
            asked = (
                venue,
                memory,
                before,
                START + n * SECOND,
                Prices.incomplete(venue, tick),
                tick.columnar_books(venue),
            )
            once, again = guard(*asked).guard_state, guard(*asked).guard_state
            for name in ("total", "count"):
                np.testing.assert_array_equal(getattr(once, name), getattr(again, name))
            memory, before = once, START + n * SECOND
        samples = np.concatenate([block.market for block in memory.samples])[-300:]
        assert memory.total[0].tolist() == np.sum(samples, axis=0)[0].tolist()
        assert memory.count.tolist() == [[300] * 10, [0] * 10]

    def test_sums_of_the_largest_marks(self):
        """Marks so large that the samples of all seconds, but not those of five minutes, would pass 64 bits."""
        venue, _ = made(mark_index_threshold="0.9")
        memory, before = GuardState.opening(venue), None
        marks = 9e10 + np.arange(1_500)  # 9e15 thousandths of a tick: 1,025 seconds of them fill 63 bits
        for n, mark in enumerate(marks.tolist()):
            tick = Tick(START + n * SECOND, np.full(10, mark))
            given_ = Prices.incomplete(venue, tick)
            memory, before = (
                guard(venue, memory, before, START + n * SECOND, given_, tick.columnar_books(venue)).guard_state,
                START + n * SECOND,
            )
        assert memory.total[0].tolist() == [sum(round(mark * 100 * 1_000) for mark in marks[-300:].tolist())] * 10


def test_an_asset_follows_the_first_market_with_a_price():
    venue = load_venue(
        {
            "settle_asset": "USDC",
            "markets": [
                market_row("A", "0.01", "0.001", IMF, MMF, impact=None),
                market_row("A", "0.01", "0.001", IMF, MMF, impact=None) | {"symbol": "A_DATED"},
                market_row("B", "0.01", "0.001", IMF, MMF, impact=None),
            ],
            "collateral": [
                {"symbol": name, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}
                for name in ("USDC", "A", "B")
            ],
        }
    )
    none = math.nan
    mark = np.array([[1.0, 2.0, 3.0], [none, 2.0, 3.0], [none, none, 3.0], [1.0, 2.0, none]])
    index = np.array([[none, 2.5, none], [none, none, 3.5], [none, none, none], [none, 2.5, none]])
    given_ = np.array([[none, none, none], [none, none, 9.0], [5.0, none, none], [none, none, none]])
    expected = [[1.0, 1.0, 3.0], [1.0, 2.0, 9.0], [1.0, none, 3.0], [1.0, 1.0, none]]
    np.testing.assert_array_equal(asset_values(venue, mark, index, given_), expected)
    for row in range(4):
        np.testing.assert_array_equal(asset_values(venue, mark[row], index[row], given_[row]), expected[row])


@numba.njit
def worst_maintenance(account, state, prices, factors):
    """A user's own loop: the largest maintenance margin of an account over shocks of a market, and if it stays safe."""
    worst, safe, mark = 0.0, True, prices.price_per_lot[0]
    for n in range(factors.size):
        prices.price_per_lot[0] = mark * factors[n]
        equity, exposure, _initial, maintenance, gross = account_margin(account, state, prices)
        status = account_status(equity, exposure, maintenance, gross, prices.acmf_divisor, prices.acmf_offset)
        worst, safe = max(worst, maintenance), safe and status == SAFE
    prices.price_per_lot[0] = mark
    return worst, safe


def test_kernels_in_a_users_own_loop():
    venue, accounts = made()
    marks = by_name(venue, paths(1)[0])
    first = venue.markets.symbol[0]
    factors = np.array([0.8, 1.0, 1.1])
    columns = Prices.of_tick(venue, accounts, Tick(START, marks)).arrays
    worst, safe = worst_maintenance(0, accounts.columns, columns, factors)
    tables = []
    for factor in factors.tolist():
        shocked = Prices.of_tick(venue, accounts, Tick(START, marks | {first: marks[first] * factor}))
        tables.append(margin_table(accounts, shocked))
    quanta = [table.maintenance_margin[0] / float(venue.settle_quantum) for table in tables]
    assert worst == pytest.approx(max(quanta), rel=1e-12)
    assert safe == (not any(table.liquidatable[0] for table in tables))


def lent_on_collateral(debt, collateral, maintenance="0.012", **policy):
    """Engine of one account that owes USDC; collateral {asset: (weight, quantity)}."""
    weights = {"USDC": "1"} | {asset: weight for asset, (weight, _) in collateral.items()}
    rows = [
        {"symbol": asset, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
        for asset, weight in weights.items()
    ]
    rows[0]["mmfFunction"] = {"type": "sqrt", "base": maintenance, "factor": "0"}
    rows[0]["imfFunction"] = {"type": "sqrt", "base": "0.1", "factor": "0"}
    venue = load_venue(
        {
            "settle_asset": "USDC",
            "collateral": rows,
            "markets": [market_row("A0", "0.01", "0.001", IMF, MMF, impact=("0.99", "1.01"))],
            "policy": {"slice_probability": 1, **policy},
        }
    )
    held = {"USDC": -debt} | {asset: quantity for asset, (_, quantity) in collateral.items()}
    balances = pd.DataFrame({"account": "a", "asset": list(held), "quantity": list(held.values())})
    nothing = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    return Engine(Accounts.from_frames(venue, nothing, balances), venue)


def margins_at(engine, prices):
    table = margin_table(engine.accounts, Prices.read(engine.venue, engine.accounts, {}, asset_prices=prices))
    return table.net_equity[0], table.maintenance_margin[0]


class TestConversions:
    """Collateral is sold in the order that costs least, does no harm, and no more of it than restores the account."""

    def test_the_poor_collateral_goes_first(self):
        prices = {"GOOD": 50.0, "POOR": 200.0}
        engine = lent_on_collateral(900.0, {"GOOD": ("1", 14.0), "POOR": ("0.8", 1.3)}, min_slice_notional=10)
        rows = engine.step(Tick(START, {}, asset_prices=prices)).events
        assert rows[["event", "asset", "quanta", "cash", "fee"]].to_numpy().tolist()[1:] == [
            ["convert", "POOR", -69_349, 13_869_800, 138_698]
        ]
        equity, maintenance = margins_at(engine, prices)
        assert 0 < equity - maintenance < 2e-4  # one quantum of POOR is worth 0.0002
        assert not len(engine.step(Tick(START + SECOND, {}, asset_prices=prices)).events)

    @settings(max_examples=40)
    @given(
        st.integers(1, 40),
        st.lists(st.tuples(st.sampled_from(["1", "0.95", "0.8", "0.5"]), st.integers(1, 900)), min_size=1, max_size=3),
        st.sampled_from(["0.012", "0.03", "0.1"]),
        st.sampled_from(["waive", "send", "backstop"]),
        st.integers(1, 99),
    )
    def test_nothing_gets_worse_and_nothing_is_sold_in_vain(self, price, parts, maintenance, harm, closeness):
        """The debt is what leaves the account ``closeness`` hundredths of its maintenance margin."""
        names = ("GOOD", "POOR", "ODD")[: len(parts)]
        worth = sum(float(weight) * quantity * price for weight, quantity in parts)
        debt = round(worth / (1 + closeness / 100 * float(maintenance)), 6)
        collateral = {name: (weight, float(quantity)) for name, (weight, quantity) in zip(names, parts, strict=True)}
        prices = dict.fromkeys(names, float(price))
        engine = lent_on_collateral(debt, collateral, maintenance, harmful_slice=harm, min_slice_notional=0)
        before, _ = margins_at(engine, prices)
        for second in range(3):
            rows = engine.step(Tick(START + second * SECOND, {}, asset_prices=prices)).events
            equity, required = margins_at(engine, prices)
            assert before <= 0 or equity >= 0
            sales = rows[(rows["event"] == "convert") & (rows["reason"] == "debt")]
            if harm != "send":
                assert (sales["mmr_after"] <= sales["mmr_before"] * (1 + 1e-9)).all()
            if len(sales) and equity > required > 0:
                assert equity - required <= 3e-6 * price  # the fewest quanta that restore, rounded
            if not len(rows) or equity <= 0:
                break
            before = equity
