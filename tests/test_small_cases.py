"""Small cases: one account, ten positions, a tick that triggers nothing, and margins in a user's own njit loop."""

import math
from itertools import permutations

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore import Accounts, Engine, RiskDataError, Tick, load_venue, read_run
from riskcore.kernels import guards as kernels
from riskcore.kernels.margin import SAFE, account_margin, account_status
from riskcore.margin import margin_table
from riskcore.market import Prices, asset_values
from riskcore.market.guards import GuardState, guard
from riskcore.run import explain
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
        cap, none = np.array([[least], [most]]), np.array([math.nan])
        mark, index, price = np.empty((1, 1)), np.empty((1, 1)), np.array([[previous], [math.nan], [math.nan]])
        stamp, refused, prints = np.zeros((3, 1), np.int64), np.empty((1, 4), bool), np.empty((1, 4))
        happened, events = np.empty((1, 1), np.uint8), np.empty(1, np.uint8)
        kernels.guard_updates(
            seconds * SECOND, 0, 0.05, cap, np.ones(1), np.array([value]), none, none, none, none, price, stamp,
            stamp[:2].copy(), mark, index, happened, events, refused, prints,
        )  # fmt: skip
        assert mark[0, 0] == price[kernels.MARK, 0] == expected
        assert refused[0].tolist() == [False, False, False, expected != value]
        assert bool(events[0] & kernels.REFUSED) == (expected != value)

    @given(st.integers(0, 10**13), st.floats(-10, 10), st.floats(-10, 10))
    def test_basis_has_the_bits_of_python(self, passed, basis, off):
        none, mid = np.array([math.nan]), np.array([100.0 + off])
        price, stamp = np.array([[math.nan], [math.nan], [basis]]), np.zeros((3, 1), np.int64)
        index, refused, prints = np.array([100.0]), np.empty((1, 4), bool), np.empty((1, 4))
        kernels.guard_updates(
            passed, 0, 0.05, np.array([none, none]), np.ones(1), mid, index, none, mid, mid, price, stamp,
            stamp[:2].copy(), np.empty((1, 1)), np.empty((1, 1)), np.empty((1, 1), np.uint8), np.empty(1, np.uint8),
            refused, prints,
        )  # fmt: skip
        fresh = float(mid[0]) - 100.0
        assert price[kernels.BASIS, 0] == basis + (1 - math.exp(-(passed / SECOND) / 60)) * (fresh - basis)

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
        samples = np.concatenate([np.repeat(block.market, block.seconds, axis=0) for block in memory.samples])[-300:]
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


def lone(positions, balances, *, maintenance="0.02", pools=(), backstop=(), **policy):
    """Engine of accounts {account: {market: (quantity, entry)}} and {account: {asset: quantity or (free, lent)}}.

    Markets A and B have no bands and lots of 1; GOOD counts in full. Slices close whole positions.
    """
    flat = {"type": "sqrt", "factor": "0"}
    weights = {"weight": "1", "kind": {"type": "identity"}}
    rows = [
        {
            "symbol": name, "baseSymbol": name, "quoteSymbol": "USDC", "marketType": "PERP",
            "filters": {"price": {"tickSize": "0.01"}, "quantity": {"stepSize": "1"}},
            "imfFunction": flat | {"base": str(2 * float(maintenance))}, "mmfFunction": flat | {"base": maintenance},
        }
        for name in "AB"
    ]  # fmt: skip
    venue = load_venue(
        {
            "settle_asset": "USDC", "markets": rows, "borrow_lend": list(pools), "backstop": list(backstop),
            "collateral": [{"symbol": name, "haircutFunction": weights} for name in ("USDC", "GOOD")],
            "policy": {"slice_probability": 1, "slice_fraction": 1, **policy},
        }
    )  # fmt: skip
    held = [
        {"account": account, "market": market, "quantity": float(quantity), "entry_price": float(entry)}
        for account, own in positions.items()
        for market, (quantity, entry) in own.items()
    ]
    money = [
        {"account": account, "asset": asset}
        | dict(zip(("quantity", "lent"), (*(np.atleast_1d(part)), 0.0), strict=False))
        for account, own in balances.items()
        for asset, part in own.items()
    ]
    names = ["account", "market", "quantity", "entry_price"]
    return Engine(Accounts.from_frames(venue, pd.DataFrame(held, columns=names), pd.DataFrame(money)), venue)


def at_touch(price, market="A", size=100_000.0):
    """A book one tick around a price."""
    return {market: {"bids": [(round(price - 0.01, 2), size)], "asks": [(round(price + 0.01, 2), size)]}}


def told(result):
    """Events and reasons of a tick, without the trigger."""
    rows = result.events[["event", "reason"]].to_numpy().tolist()
    return [f"{event}: {reason}" for event, reason in rows if event != "trigger"]


def status_of(engine, marks, **prices):
    """Account, exposure, net equity and whether it is liquidating, of every account."""
    table = margin_table(engine.accounts, Prices.read(engine.venue, engine.accounts, marks, asset_prices=prices))
    return table.net_equity, table.exposure, table.liquidatable


class TestWaysOut:
    """What a stage cannot do goes to the next one; what none takes goes to the book at any price, or has a reason."""

    @settings(max_examples=60)
    @given(
        st.sampled_from([-1, 1]),
        st.integers(1, 200),
        st.integers(1_000, 20_000),
        st.integers(15, 200),
        st.sampled_from(["0.005", "0.02", "0.05"]),
        st.lists(st.integers(80, 120), min_size=1, max_size=5),
        st.sampled_from([0, 7, 1_000]),
    )
    def test_an_account_alone_does_not_live_through_its_bankruptcy(
        self, side, lots, cents, thousandths, maintenance, moves, fund
    ):
        """Nobody else trades: it is closed in the book, and the fund or the record has what is below zero."""
        entry = cents / 100
        money = round(lots * entry * thousandths / 1_000, 2)
        engine = lone({"me": {"A": (side * lots, entry)}}, {"me": {"USDC": money}}, maintenance=maintenance, fund=fund)
        close = entry
        for day, move in enumerate(moves):
            close = round(close * move / 100, 2)
            equity, _, liquidating = status_of(engine, {"A": close})
            before = engine.ledger.fund.sum() + engine.ledger.shortfall.sum()
            held = int(engine.accounts.columns.lots[0])
            engine.step(Tick(START + day * 86_400 * SECOND, {"A": close}, at_touch(close)))
            left, _, open_still = status_of(engine, {"A": close})
            assert left[0] >= 0
            assert not open_still[0]
            if liquidating[0] and equity[0] <= 0:
                assert not engine.accounts.columns.lots[0]
                paid = before - engine.ledger.fund.sum() - engine.ledger.shortfall.sum()
                assert paid / 1e6 == pytest.approx(-equity[0] + abs(held) * 0.01, abs=2e-6)
                return

    @pytest.mark.parametrize(
        ("closes", "missing"), [((50.0, 48.3, 45.0, 44.0, 52.0), 0.0), ((50.0, 45.0, 44.0, 52.0), 120.4)]
    )
    def test_it_does_not_earn_on_the_rebound(self, tmp_path, closes, missing):
        """Long 40 at 50 with 80: closed at 48.3 for all that is left; after a gap to 45 the rest is on record."""
        engine = lone({"me": {"A": (40, 50.0)}}, {"me": {"USDC": 80.0}})
        for day, close in enumerate(closes):
            engine.step(Tick(START + day * 86_400 * SECOND, {"A": close}, at_touch(close)))
            equity, exposure, _ = status_of(engine, {"A": close})
            assert (equity[0], exposure[0]) == ((0, 0) if day else (80, 2_000))
        engine.save(tmp_path / "run")
        summary = read_run(tmp_path / "run").summary
        assert summary.left_open == {"accounts": 0, "notional": 0.0}
        assert list(summary.shortfall.values()) == [0, 0, pytest.approx(missing)]
        assert summary.split["notional"].tolist() == [pytest.approx(40 * (closes[1] - 0.01)), 0, 0]

    def test_without_a_book_it_stays_open_and_the_summary_says_so(self, tmp_path):
        engine = lone({"me": {"A": (40, 50.0)}}, {"me": {"USDC": 80.0}})
        for second, close in enumerate((50.0, 48.3, 45.0)):
            result = engine.step(Tick(START + second * SECOND, {"A": close}))
        assert told(result) == ["unfilled: no_book"]
        engine.save(tmp_path / "run")
        assert read_run(tmp_path / "run").summary.left_open == {"accounts": 1, "notional": 1_800.0}
        story = explain(tmp_path / "run", "me")
        assert (story.left_open, story.events["what"].iloc[-1]) == (1_800.0, "40 A stays open")
        engine.step(Tick(START + 3 * SECOND, {"A": 45.0}, at_touch(45.0)))
        engine.save(tmp_path / "run")
        assert read_run(tmp_path / "run").summary.left_open == {"accounts": 0, "notional": 0.0}
        story = explain(tmp_path / "run", "me")
        sold = "40 of 40 A sold at 44.99 as one order, fee 0.00"
        assert (story.left_open, sold in story.events["what"].tolist()) == (0.0, True)

    def test_a_lender_at_full_utilisation(self, tmp_path):
        """Nobody in the run borrows what it has lent: it waits, until phase 6 redeems the lend whole."""
        pools = [{"symbol": "GOOD", "lentQuantity": "0", "borrowedQuantity": "10"}]
        engine = lone({}, {"lender": {"USDC": -995.0, "GOOD": (0.0, 10.0)}}, pools=pools)
        result = engine.step(Tick(START, {}, asset_prices={"GOOD": 100.0}))
        assert told(result) == ["unfilled: full_utilization", "unfilled: no_collateral"]
        assert result.events["requested"].tolist()[1:] == [9_950_000, 995_000_000]
        engine.save(tmp_path / "run")
        told_by = explain(tmp_path / "run", "lender").events["what"].tolist()
        assert told_by[1:] == ["lend of 9.95 GOOD stays open", "debt of 995 USDC stays open"]
        result = engine.step(Tick(START + SECOND, {}, asset_prices={"GOOD": 99.0}))
        assert told(result)[-3:] == ["redeem: close_out", "convert: close_out", "shortfall: bankrupt"]
        assert engine.ledger.shortfall[engine.venue.settle] == -5_000_000

    def test_a_lender_whose_borrower_is_in_the_run(self):
        own = {"lender": {"USDC": -995.0, "GOOD": (0.0, 10.0)}, "borrower": {"USDC": 3_000.0, "GOOD": -10.0}}
        engine = lone({}, own, pools=[{"symbol": "GOOD"}])
        assert told(engine.step(Tick(START, {}, asset_prices={"GOOD": 100.0}))) == ["adl: full_utilization"]

    def test_escalated_without_providers(self):
        """The slice harms, the policy asks for the backstop, and there is none: the last book closes the account."""
        engine = lone({1: {"A": (40, 50.0)}}, {1: {"USDC": 25.0}}, harmful_slice="backstop", liquidation_fee="0.03")
        result = engine.step(Tick(START, {"A": 50.0}, at_touch(50.0)))
        assert told(result) == ["harm: to_backstop", "market_close: full"]
        assert result.fills[["stage", "quantity"]].to_numpy().tolist() == [["order book", 40.0]]
        equity, exposure, _ = status_of(engine, {"A": 50.0})
        assert (equity[0], exposure[0]) == (0, 0)  # the fee took what was left, and no more

    @pytest.mark.parametrize("counterparties", ["profitable", "opposing"])
    def test_two_bankrupt_accounts_opposite_each_other(self, counterparties):
        positions = {1: {"A": (100, 100.0)}, 2: {"A": (-100, 90.0)}}
        held = positions, {1: {"USDC": 200.0}, 2: {"USDC": 200.0}}
        engine = lone(*held, adl_counterparties=counterparties)
        result = engine.step(Tick(START, {"A": 95.0}))
        assert told(result) == ["unfilled: no_book"] * 2
        result = engine.step(Tick(START + SECOND, {"A": 95.0}, at_touch(95.0)))
        assert told(result) == ["market_close: full"] * 2 + ["shortfall: bankrupt"] * 2
        assert engine.ledger.shortfall[engine.venue.settle] == -2 * 301_000_000

    @pytest.mark.parametrize(
        ("debt", "policy", "expected"),
        [
            (980.0, {}, ["convert: debt"]),
            (980.0, {"conversion_limit": 0}, ["expire: conversion_limit", "unfilled: conversion_limit"]),
            (
                1_010.0,
                {"conversion_limit": 0},
                ["expire: conversion_limit", "convert: close_out", "shortfall: bankrupt"],
            ),
        ],
    )
    def test_debts_alone(self, debt, policy, expected):
        """Ten GOOD at 100 against a debt: below auto-close, and without equity."""
        engine = lone({}, {1: {"USDC": -debt, "GOOD": 10.0}}, **policy)
        assert told(engine.step(Tick(START, {}, asset_prices={"GOOD": 100.0}))) == expected

    @pytest.mark.parametrize(
        "stages", [list(some) for n in (1, 2, 3) for some in permutations(["book", "backstop", "adl"], n)]
    )
    @pytest.mark.parametrize("books", [at_touch(95.0), {}])
    def test_stages_in_any_order(self, stages, books):
        """One account to be liquidated, one below auto-close and one bankrupt; a winner and a provider."""
        positions = {1: {"A": (40, 95.0)}, 2: {"A": (40, 95.0)}, 3: {"A": (40, 100.0)}, 4: {"A": (-60, 120.0)}}
        money = {1: 70.0, 2: 30.0, 3: 20.0, 4: 500.0, 9: 500.0}
        engine = lone(
            positions, {account: {"USDC": quantity} for account, quantity in money.items()}, stages=stages,
            backstop=[{"account": 9, "max_notional": "3000"}], adl_counterparties="opposing",
        )  # fmt: skip
        result = engine.step(Tick(START, {"A": 95.0}, books))
        rows, ids = result.events, engine.accounts.ids
        assert result.selected.tolist() == [engine.accounts.row_of(n) for n in (3, 2, 1)]
        open_still = status_of(engine, {"A": 95.0})[2]
        named = set(rows["account"][rows["event"].isin(["unfilled", "expire"])])
        assert set(ids[open_still].tolist()) <= named
        if books:
            assert not open_still.any()
        if books or stages[0] != "book":
            first = rows[rows["event"].isin(["book", "backstop", "adl", "market_close"])].iloc[0]
            reason = {"book": "full", "backstop": "below_auto_close", "adl": "backstop_exhausted"}[stages[0]]
            assert (first["event"], first["reason"]) == (stages[0], reason)

    def test_adl_goes_by_the_fund_and_stays_as_it_was_in_between(self, tmp_path):
        """A fund of 40: on; of 59, after a save: still on; of 77: off, and the last book closes."""
        longs = {n: {"A": (10, 100.0)} for n in (1, 2, 3)} | {4: {"B": (20, 100.0)}, 5: {"B": (20, 100.0)}}
        shorts = {8: {"A": (-5, 130.0)}, 9: {"A": (-25, 130.0)}}
        money = {1: 105.0, 2: 205.0, 3: 305.0, 4: 60.0, 5: 230.0, 8: 900.0, 9: 900.0}
        policy = {
            "adl_when": "fund_below",
            "adl_fund_on": 50,
            "adl_fund_off": 60,
            "fund": 40,
            "stages": ["book", "adl"],
        }
        engine = lone(longs | shorts, {n: {"USDC": quantity} for n, quantity in money.items()}, **policy)
        found = []
        for second, (a, b) in enumerate(((90.0, 100.0), (80.0, 98.5), (70.0, 90.0))):
            books = at_touch(a, "A") | at_touch(b, "B")
            result = engine.step(Tick(START + second * SECOND, {"A": a, "B": b}, books))
            found.append((bool(engine.ledger.adl_on), told(result)))
            engine.save(tmp_path / "run")
            engine = Engine.resume(tmp_path / "run")
            assert engine.ledger.adl_on == found[-1][0]
        assert found == [
            (True, ["adl: fund_below"]),
            (True, ["book: full", "adl: fund_below"]),
            (False, ["book: full", "market_close: full", "market_close: full", "fund: bankrupt"]),
        ]
