"""The screen against recomputing everybody at every tick; and what it takes for granted in between, exactly."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore import Accounts, RiskDataError, Screen, load_venue, sample, select, sweep
from riskcore.kernels import margin as scalar
from riskcore.kernels.sweep import CHUNK
from riskcore.margin import batch, exact, margins_of
from riskcore.margin.screen import intervals as interval_module
from riskcore.margin.screen import screen, watch
from riskcore.state import chunk_count
from tests.crowds import OUT_OF_RANGE, Market, crowd, markets, moved
from tests.test_sweep_view import every_kind

NEAR = [-1, 0, 0.5, 0.9, 0.98, 1, 1, 1.001, 1.005, 1.02, 1.05, 1.1, 1.3, 2, 3, 6, 6, 6, 6]


def liquidatable(accounts: Accounts, prices) -> list[int]:
    """Rows of the accounts at 100 %, everybody one by one."""
    return np.flatnonzero(margins_of(accounts, np.arange(len(accounts)), prices).liquidatable).tolist()


class Paths(Screen):
    """A screen that counts which ways it went."""

    seen: Counter

    def __init__(self, *args, seen: Counter, **options):
        self.seen = seen
        super().__init__(*args, **options)

    def rows(self, prices):
        before = self._next, self._watch, self._intervals
        self._changed_next = before[0] is not None and len(before[0].changed) > 0
        found = super().rows(prices)
        self.seen["ticks"] += 1
        if before[0] is None and self._next is not None:
            self.seen["next begun"] += 1
        if before[0] is not None:
            how = "abandoned" if self._intervals is before[2] else "done"
            how = "part" if self._next is before[0] else how
            self.seen[f"next {how}"] += 1
            self.seen[f"next {how} with changes"] += self._changed_next
            if how == "part" and self._intervals is not before[2]:
                self.seen["partial while next"] += 1
        self.seen["confirmed"] += len(self._confirmed) > 0
        self.seen["watched"] += len(self._watch.slots) > 0
        self.seen["added"] += len(self._added.slots) > 0
        return found

    def _leave_intervals(self, prices, values, volatility):
        watch, outside = self._watch, 0 if self._intervals is None else len(self._intervals.outside(values))
        before = self._intervals
        super()._leave_intervals(prices, values, volatility)
        whole = self._watch is not watch and volatility.ticks == 0
        self.seen["whole" if whole else "partial"] += 1
        if not whole:
            self.seen["partial by asset"] += not np.array_equal(
                before.low[len(prices.mark) :], self._intervals.low[len(prices.mark) :], equal_nan=True
            )
            self.seen["partial of many"] += outside > 1

    def _inner_intervals(self, prices, values, volatility):
        before = self._inner
        found = super()._inner_intervals(prices, values, volatility)
        if found.intervals is not None:
            self.seen["inner again" if found is before else "inner made"] += 1
            self.seen["inner confirmed"] += len(found.confirmed) > 0
            self.seen["inner watched"] += len(found.columns.account) > 0
        return found

    def _replace_intervals(self, intervals, *args):
        self._in_parts = self._next is not None and intervals is self._next.intervals and len(self._next.watched) > 1
        super()._replace_intervals(intervals, *args)

    def _decide_slots(self, slots, intervals):
        watch, confirmed = self._watch, self._confirmed
        super()._decide_slots(slots, intervals)
        self.seen["merged"] += self._watch is not watch
        self.seen["merged after parts"] += self._watch is not watch and self._in_parts
        self.seen["confirmed again"] += self._confirmed is not confirmed

    def changed(self, accounts):
        intervals = self._intervals
        super().changed(accounts)
        self.seen["changed too many"] += intervals is not None and self._intervals is None
        self.seen["changed"] += 1
        self.seen["changed while next"] += self._next is not None


EVERYTHING = {
    "whole", "partial", "partial by asset", "partial of many", "next begun", "next part", "next done", "next abandoned",
    "next done with changes", "partial while next", "confirmed", "watched", "added", "inner made", "inner again",
    "inner confirmed", "inner watched", "merged", "merged after parts", "confirmed again", "changed",
    "changed too many", "changed while next",
}  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Parts, holders, inner intervals and merging with few accounts."""

    def apply(**constants):
        for name, value in ({"_LARGE": 1, "_MIN_FOR_INNER": 2, "_MAX_ADDED": 2, "_COPY": 2} | constants).items():
            modules = [module for module in (interval_module, watch, screen) if hasattr(module, name)]
            assert modules, name
            for module in modules:
                monkeypatch.setattr(module, name, value)

    return apply


# ---- Ticks that may do anything, and edits between them


class Walk:
    """Prices of one tick after another: each by a kind of move, some of them to the very edges of the intervals."""

    KINDS = (
        *["walk", "walk", "still", "one", "one", "asset", "all down", "all up", "wild", "interest", "interest gone"],
        *["edge of now", "edge of now", "edge of next", "edge of inner", "past an edge", "idle", "corner", "back"],
    )

    def __init__(self, market: Market, rng):
        self.market, self.rng = market, rng
        self.mark, self.asset = market.mark.copy(), market.asset.copy()
        self.most = market.venue.markets.max_price
        self.interest = np.full(len(self.mark), np.nan)
        self.wild = rng.choice([2e-4, 2e-3])
        self.before = self.mark.copy(), self.asset.copy()
        if market.idle:
            self.mark[-market.idle :] = np.nan

    def prices(self, accounts: Accounts):
        return self.market.prices(accounts, self.mark, self.asset, self.interest)

    def move(self, kind: str, watcher: Screen) -> None:
        rng, held, before = self.rng, len(self.mark) - self.market.idle, (self.mark.copy(), self.asset.copy())
        if kind == "walk":
            self.mark *= np.exp(rng.normal(0, self.wild, len(self.mark)))
            self.asset *= np.exp(rng.normal(0, self.wild, len(self.asset)))
        elif kind == "one":
            self.mark[rng.integers(held)] *= rng.choice([0.9, 0.97, 0.995, 1.005, 1.03, 1.1, 1.6])
        elif kind == "asset":
            self.asset[rng.integers(len(self.asset))] *= rng.choice([0.6, 0.97, 1.03, 1.5])
        elif kind in ("all down", "all up"):
            by = rng.choice([0.995, 0.95, 0.8])
            for column in (self.mark, self.asset):
                column *= by if kind == "all down" else 1 / by
        elif kind == "wild":
            self.mark *= np.exp(rng.normal(0, 0.1, len(self.mark)))
        elif kind == "interest":
            confirmed = np.where(np.isnan(self.interest), 1e6 / self.market.mark, self.interest)
            grown = confirmed * rng.choice([0.0, 0.01, 0.5, 1.4999, 1.5, 1.51, 3.0, 40.0], len(confirmed))
            self.interest = np.where(rng.random(len(confirmed)) < 0.6, grown, self.interest)
        elif kind == "interest gone":
            self.interest[:] = np.nan
        elif kind == "idle" and self.market.idle:
            at = -1 - rng.integers(self.market.idle)
            self.mark[at] = self.market.mark[at] if rng.random() < 0.6 else np.nan
        elif kind == "back":
            self.mark, self.asset = (column.copy() for column in self.before)
        elif kind in ("edge of now", "edge of next", "edge of inner", "past an edge", "corner"):
            intervals = {"edge of next": watcher._next, "edge of inner": watcher._inner}
            intervals = intervals[kind] and intervals[kind].intervals if kind in intervals else watcher._intervals
            if intervals is not None:
                self._to_edges(intervals, kind)
        self.before = before
        settle = self.market.venue.settle
        self.asset[settle] = np.nan
        # within what the venue allows, and not to nothing
        self.mark = np.clip(self.mark, self.market.mark / 50, np.minimum(self.market.mark * 9, self.most))
        self.asset = np.clip(self.asset, 0.01, 1e6)

    def _to_edges(self, intervals, kind: str) -> None:
        rng, markets = self.rng, len(self.mark)
        side = rng.random(len(intervals.low)) < 0.5
        edge = np.where(side, intervals.low, intervals.high)
        if kind == "past an edge":
            edge = np.where(side, np.nextafter(intervals.low, 0), np.nextafter(intervals.high, np.inf))
        elif kind != "corner":
            inner = np.where(side, np.nextafter(intervals.low, np.inf), np.nextafter(intervals.high, 0))
            edge = np.where(rng.random(len(edge)) < 0.5, edge, inner)
        taken = np.isfinite(edge) & ((rng.random(len(edge)) < 0.5) | (kind == "corner"))
        if kind == "past an edge":
            taken &= np.arange(len(edge)) == rng.integers(len(edge))
        at = taken[:markets]
        self.mark[at] = edge[:markets][at]
        at = taken[markets : markets + len(self.asset)]
        self.asset[at] = edge[markets : markets + len(self.asset)][at]
        asking = sorted(self.market.venue.margin_functions.open_interest_markets)
        for n, m in enumerate(asking, markets + len(self.asset)):
            if taken[n]:
                self.interest[m] = edge[n]


EDITS = (
    "fill",
    "fill",
    "transfer",
    "transfer",
    "borrow",
    "lend",
    "cancel",
    "place",
    "unsettled",
    "wide",
    "flat",
    "everybody",
)


def edit(state: Accounts, rng, rows, kind: str) -> None:
    """What an engine might do to some accounts between two ticks."""
    c = state.columns
    for account in rows.tolist():
        positions, balances = state.positions_of(account), state.balances_of(account)
        if len(positions):
            row = int(rng.integers(positions.start, positions.stop))
            if kind == "fill":
                c.lots[row] = rng.choice([0, -c.lots[row], c.lots[row] // 2, 2 * c.lots[row] + 1])
                c.balance_cost[c.position_balance[row]] += (cost := int(c.cost[row] * rng.normal(0, 0.3)))
                c.cost[row] += cost
            elif kind == "wide":
                c.lots[row] = rng.choice(OUT_OF_RANGE)
            elif kind == "flat":
                c.lots[positions.start : positions.stop] = 0
            elif kind == "place":
                c.open_orders[account] = 1
                c.open_bid[row] += abs(int(c.lots[row])) + 1
        row = int(rng.integers(balances.start, balances.stop))
        held = int(c.free[row]) + int(c.lent[row])
        if kind == "transfer":
            c.free[row] += int(rng.normal(0, 1) * (abs(held) + 10**8))
        elif kind == "borrow":
            c.free[row] = -abs(held) - 1
        elif kind == "lend":
            c.lent[row] += abs(held)
        elif kind == "cancel":
            c.open_orders[account] = 0
            for column in (c.open_bid, c.open_ask):
                column[positions.start : positions.stop] = 0
        elif kind == "unsettled":
            money = [c.settle_row[account], *c.position_balance[positions.start : positions.stop]]
            c.unsettled[rng.choice(money)] = int(rng.normal(0, 1) * 10 ** rng.uniform(6, 11))


def run(market: Market, count: int, ticks: list[tuple[str, str | None]], seed: int, seen: Counter, check: bool) -> None:
    """Go through ticks and the edits after each; hold every tick to recomputing everybody."""
    rng = np.random.default_rng(seed)
    state = crowd(market, count, seed, NEAR).copy()
    view = state.view()
    watcher, walk = Paths(view, market.venue, check=check, seen=seen), Walk(market, rng)
    for n, (move, change) in enumerate(ticks):
        walk.move(move, watcher)
        prices = walk.prices(view)
        assert watcher.rows(prices).tolist() == liquidatable(view, prices), n
        if change is not None:
            rows = np.unique(rng.integers(0, count, 1 + rng.integers(max(count // 20, 3))))
            if change == "everybody":
                rows, change = np.arange(count), "transfer"
            edit(state, rng, rows, change)
            watcher.changed(rows)


any_markets = st.tuples(st.integers(0, 1), st.booleans()).flatmap(lambda drawn: markets(*drawn))
ticks = st.lists(st.tuples(st.sampled_from(Walk.KINDS), st.none() | st.sampled_from(EDITS)), min_size=2, max_size=12)


def test_a_small_screen_selects_what_a_full_sweep_does_at_any_tick(small):
    small(_LARGE=10**9)
    seen = Counter()

    @settings(max_examples=50)
    @given(any_markets, st.integers(1, 60), ticks, st.integers(0, 2**32))
    def check(market, count, drawn, seed):
        run(market, count, drawn, seed, seen, check=bool(seed % 2))

    check()
    assert set(seen) >= {
        "whole",
        "confirmed",
        "watched",
        "added",
        "merged",
        "inner made",
        "inner again",
        "confirmed again",
    }
    assert not {"partial", "next begun"} & set(+seen)


def test_a_large_screen_selects_what_a_full_sweep_does_at_any_tick(small):
    """Large is what it takes for more than one account: every way that a screen has, with a single chunk."""
    small()
    seen = Counter()

    @settings(max_examples=40)
    @given(any_markets, st.integers(1, 60), ticks, st.integers(0, 2**32))
    def check(market, count, drawn, seed):
        run(market, count, drawn, seed, seen, check=bool(seed % 2))

    check()
    assert set(+seen) >= {"whole", "partial", "next begun", "next done", "confirmed", "watched", "added"}


DRIFT = [("walk", "fill"), ("walk", None), ("walk", "transfer"), ("walk", "borrow"), ("still", "cancel")]
COURSES = [
    [("walk", None), *DRIFT, ("one", None), ("corner", "transfer"), ("walk", "wide"), ("one", "unsettled")] * 3,
    [("walk", None), ("corner", "fill"), ("still", "lend"), ("corner", "place"), ("corner", "flat"), ("one", None)] * 4,
    [("walk", "fill"), ("asset", None), ("back", "fill"), ("edge of now", "lend"), ("one", "fill"), ("idle", None)] * 4,
    [("walk", "everybody"), ("still", "transfer"), ("walk", "everybody"), ("one", "everybody"), ("still", "borrow")]
    * 2,
    [("corner", "fill"), ("still", "transfer"), ("still", "unsettled"), ("one", None), ("asset", None)] * 4,
    [("still", "unsettled"), ("edge of next", None), ("edge of inner", None), ("past an edge", "transfer")] * 5,
    [("interest", "fill"), ("corner", None), ("interest gone", "fill"), ("interest", None), ("wild", "fill")] * 4,
]


def test_intervals_decided_in_parts_while_accounts_change(small):
    """Three chunks, each a part of its own; and every way that a screen has is taken."""
    small(_PARTS=3, _COPY=1.3, _MAX_ADDED=9, _MIN_FOR_INNER=50, _WIDEST=0.02)
    seen = Counter()
    for seed, drawn in enumerate(COURSES):
        run(replace(every_kind(seed % 2 == 1), idle=1), 2 * CHUNK + 9, drawn, seed, seen, check=False)
    assert EVERYTHING - set(+seen) == set(), seen


def test_a_day_of_ticks_with_crashes_and_edits_in_each(small):
    """1,440 minutes; those selected are closed out or not, others trade, deposit and withdraw."""
    small(_COPY=16, _MIN_FOR_INNER=100, _MAX_ADDED=50)
    venue = load_venue(sample.venue_source([]))
    path = sample.generate_crash(venue, 1440, seed=2, interval=60)
    marks = path.pivot(index="time", columns="market", values="mark_price")[list(venue.markets.symbol)].to_numpy(
        copy=True
    )
    rng = np.random.default_rng(11)
    for at, by in (
        (400, [0.93, 0.9, 0.85]),
        (401, [0.97, 1.0, 1.0]),
        (700, [1.0, 1.0, 1.25]),
        (1100, [1.1, 1.12, 1.2]),
    ):
        marks[at:] *= by
    marks = np.minimum(marks, venue.markets.max_price)
    first = dict(zip(venue.markets.symbol, marks[0].tolist(), strict=True))
    accounts = Accounts.from_frames(venue, *sample.generate_accounts(venue, first, 3000, seed=4))
    market = Market(venue, marks[0], np.full(len(venue.assets.symbol), np.nan))
    state, seen = accounts.copy(), Counter()
    view = state.view()
    watcher = Paths(view, venue, seen=seen)
    accounts_computed = selected = 0
    for n, mark in enumerate(marks):
        prices = market.prices(view, mark)
        rows = watcher.rows(prices)
        assert rows.tolist() == liquidatable(view, prices), n
        accounts_computed, selected = accounts_computed + watcher.accounts_computed, selected + len(rows)
        closed = rows[rng.random(len(rows)) < 0.5][:100]
        edit(state, rng, closed, "flat")
        others = np.setdiff1d(rng.integers(0, len(view), 2), closed)
        edit(state, rng, others, str(rng.choice(["fill", "transfer", "place", "cancel", "unsettled"])))
        watcher.changed(np.sort(np.concatenate([closed, others])))
    assert selected > 500
    assert accounts_computed < 0.4 * len(marks) * len(view)
    assert set(+seen) >= {"whole", "next begun", "next done", "inner made", "confirmed", "added", "merged"}


# ---- What a set of price intervals proves


def around(prices, low, high):
    """Intervals between two rows of values, the price of the venue's settle asset apart: it is 1."""
    settle = len(prices.mark) + prices.venue.settle
    low[settle] = high[settle] = 1.0
    return interval_module.PriceIntervals.around(prices, low, high)


def corners(prices, intervals, account: int, accounts: Accounts, rng):
    """Prices at corners of a set of price intervals, its inside, and where an account is worst and best off."""
    c, markets, assets = accounts.columns, len(prices.mark), len(prices.asset)
    worst = rng.random(len(intervals.low)) < 0.5
    for i in accounts.positions_of(account):
        worst[c.market[i]] = c.lots[i] < 0
    for j in accounts.balances_of(account):
        worst[markets + c.asset[j]] = c.free[j] < 0
    worst[markets + assets :] = True
    low = np.zeros_like(worst)
    fine = np.where(np.arange(len(worst)) < markets + assets, ~worst, False)
    points = [
        np.where(high, intervals.high, intervals.low) for high in (worst, fine, low, ~low, rng.random(len(worst)) < 0.5)
    ]
    points.append(
        np.clip(
            intervals.low + rng.random(len(worst)) * (intervals.high - intervals.low), intervals.low, intervals.high
        )
    )
    asking = sorted(prices.venue.margin_functions.open_interest_markets)
    for point in points:
        interest = prices.open_interest.copy()
        interest[asking] = point[markets + assets :]
        yield moved(prices, point[:markets], point[markets : markets + assets], interest)


@settings(max_examples=40)
@given(any_markets, st.integers(1, 25), st.integers(0, 2**32), st.floats(-5, -0.61))
def test_accounts_off_the_watchlist_are_safe_or_confirmed_at_every_corner(market, count, seed, widest):
    rng = np.random.default_rng(seed)
    accounts = crowd(market, count, seed, [*NEAR, 1.5, 1.5, 0.7, 0.4])
    prices = market.prices(accounts)
    values = interval_module.interval_values(prices)
    half = 10 ** np.where(rng.random(len(values)) < 0.3, rng.uniform(-6, widest, len(values)), widest)
    low, high = values * (1 - half), values * (1 + half * rng.choice([0, 1, 1, 1], len(values)))
    intervals = around(prices, low, high)
    columns = accounts.sweep_view.columns
    watch, confirmed = intervals.decide(columns, 0, chunk_count(columns))
    assert (np.diff(watch.slots) > 0).all()
    watched, confirmed = columns.account[watch.slots].tolist(), columns.account[confirmed].tolist()
    assert watch.columns.account[: len(watched)].tolist() == watched
    assert set(watched).isdisjoint(confirmed)
    assert len({*watched, *confirmed}) == len(watched) + len(confirmed)
    assert all(n < count for n in (*watched, *confirmed))
    for account in range(count):
        if account not in watched:
            for point in corners(prices, intervals, account, accounts, rng):
                safe = exact.account_margin(accounts, account, point).status == scalar.SAFE
                assert safe == (account not in confirmed)


@pytest.mark.parametrize("half", [1e-4, 0.01, 0.2])
def test_who_is_safe_at_the_worst_corner_is_not_watched(half):
    """Of those with one: neither long nor borrowers, they are worst off with marks at the top, assets at the bottom."""
    market = every_kind()
    accounts = crowd(market, 6000, 4, np.linspace(1, 1 + 30 * half, 50))
    prices, columns, state = market.prices(accounts), accounts.sweep_view.columns, accounts.columns
    values = interval_module.interval_values(prices)
    intervals = around(prices, values * (1 - half), values * (1 + half))
    watch, _ = intervals.decide(columns, 0, chunk_count(columns))
    interest = prices.open_interest.copy()
    interest[3] = intervals.high[7]
    worst = margins_of(
        accounts, np.arange(len(accounts)), moved(prices, intervals.high[:4], intervals.low[4:7], interest)
    )
    safe = worst.net_equity - worst.maintenance_margin > 1e-7 * (worst.exposure + np.abs(worst.net_equity) + 1e5)
    other = np.zeros(len(accounts), bool)
    other[accounts.position_accounts()[(state.lots > 0) | (np.abs(state.lots) > 2**31 - 1)]] = True
    other[accounts.balance_accounts()[state.free < 0]] = True
    safe &= ~other
    assert safe.sum() > 50
    assert (~safe & ~other & (one_at(accounts, prices).mmr < 1)).sum() > 20
    assert np.intersect1d(columns.account[watch.slots], np.flatnonzero(safe)).tolist() == []


def one_at(accounts: Accounts, prices):
    return margins_of(accounts, np.arange(len(accounts)), prices)


def test_a_narrow_interval_leaves_few_in_doubt():
    """Nobody is watched who is not near: nearly all accounts are safe or confirmed."""
    market = every_kind()
    accounts = crowd(market, 4000, 9, [-1, 0.5, 0.9, 1.1, 1.5, 3])
    prices = market.prices(accounts)
    values, columns = interval_module.interval_values(prices), accounts.sweep_view.columns
    intervals = interval_module.PriceIntervals.around(prices, values * (1 - 1e-7), values * (1 + 1e-7))
    watch, confirmed = intervals.decide(columns, 0, chunk_count(columns))
    table = margins_of(accounts, np.arange(len(accounts)), prices)
    flat = np.bincount(accounts.position_accounts(), np.abs(accounts.columns.lots), len(accounts)) == 0
    overflow = np.zeros(len(columns.account), bool)
    overflow[:] = np.unpackbits(columns.overflow, bitorder="little")
    odd = flat | np.isin(np.arange(len(accounts)), columns.account[overflow])
    near = np.abs(table.mmr - 1) < 1e-3
    assert set(columns.account[watch.slots].tolist()) <= set(
        np.flatnonzero(odd | near | (table.exposure > 1e10)).tolist()
    )
    assert len(confirmed) > 500


def test_a_value_past_an_edge_is_outside_its_interval():
    market = every_kind()
    prices = market.prices(crowd(market, 5, 1))
    values = interval_module.interval_values(prices)
    low, high = values * 0.99, values * 1.02
    intervals = interval_module.PriceIntervals.around(prices, low, high)
    assert intervals.max_interval_distance(values) < 1
    for n in range(len(values)):
        for edge, off in ((low, 0.0), (high, np.inf)):
            there = values.copy()
            there[n] = edge[n]
            assert intervals.max_interval_distance(there) == 1.0
            assert intervals.outside(there).tolist() == []
            there[n] = np.nextafter(edge[n], off)
            assert intervals.max_interval_distance(there) == np.inf
            assert intervals.outside(there).tolist() == [n]
            there[n] = np.nan
            assert intervals.max_interval_distance(there) == np.inf
            assert intervals.outside(there).tolist() == [n]


def test_an_interval_without_a_price_contains_a_missing_price_alone():
    market = every_kind()
    prices = market.prices(crowd(replace(market, idle=1), 5, 1), np.append(market.mark[:-1], np.nan))
    values = interval_module.interval_values(prices)
    intervals = interval_module.PriceIntervals.around(prices, values * 0.99, values * 1.02)
    assert intervals.max_interval_distance(values) < 1
    assert intervals.outside(values).tolist() == []
    values[3] = 0.16
    assert intervals.max_interval_distance(values) == np.inf
    assert intervals.outside(values).tolist() == [3]


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(0, 2**32))
def test_holders_are_who_has_a_row(count, seed):
    market = every_kind()
    accounts = crowd(market, count, seed)
    sweep_view = accounts.sweep_view
    rows = [(accounts.position_accounts()[accounts.columns.market == m]) for m in range(4)]
    rows += [(accounts.balance_accounts()[accounts.columns.asset == k]) for k in range(3)]
    everybody, few = (watch.HolderIndex.of(sweep_view, most) for most in (count, count // 3))
    for item, expected in enumerate(rows):
        if len(expected):
            slots, items = np.sort(sweep_view.slots(expected)).tolist(), np.array([item])
            assert everybody.slots(items, count).tolist() == slots
            assert everybody.slots(items, len(expected) - 1) is None
            found = few.slots(items, count)
            assert found is None if len(expected) > count // 3 else found.tolist() == slots
    assert everybody.slots(np.array([0, 7]), 10**9) is None  # an open interest
    both = np.unique(np.concatenate([rows[1], rows[5]]))
    assert everybody.slots(np.array([1, 5]), 2 * count).tolist() == np.sort(sweep_view.slots(both)).tolist()


# ---- A screen that is held to it


@pytest.fixture
def watching():
    """A screen that checks itself, after some quiet ticks, and the state under it."""
    market = every_kind()
    state = crowd(market, 300, 5, [1.1, 1.2, 1.5, 2, 3]).copy()
    watcher = Screen(state.view(), market.venue, check=True)
    for _ in range(3):
        watcher.rows(market.prices(watcher.accounts))
    return market, state, watcher


@pytest.mark.parametrize("name", ["lots", "free", "unsettled", "balance_cost", "open_orders"])
def test_an_edit_that_the_screen_was_not_told_of_is_found(watching, name):
    market, state, watcher = watching
    row = state.columns.settle_row[17] if name in ("unsettled", "balance_cost") else 17
    getattr(state.columns, name)[row] = 3
    with pytest.raises(RuntimeError, match="stale"):
        watcher.rows(market.prices(watcher.accounts))


def test_an_interval_that_is_too_wide_is_found(watching):
    market, _, watcher = watching
    for intervals in (watcher._intervals, watcher._inner and watcher._inner.intervals):
        if intervals is not None:
            intervals.low[:], intervals.high[:] = 0.0, np.inf
    crash = market.prices(watcher.accounts, market.mark * 0.5)
    watcher.check = False
    assert watcher.rows(crash).tolist() != liquidatable(watcher.accounts, crash)
    watcher.check = True
    with pytest.raises(RuntimeError, match="missed"):
        watcher.rows(crash)


def test_a_confirmed_account_that_is_not_liquidatable_is_found(watching):
    market, _, watcher = watching
    prices = market.prices(watcher.accounts)
    safe = np.setdiff1d(np.arange(300), liquidatable(watcher.accounts, prices))[:1]
    watcher._confirmed, watcher._inner = np.union1d(watcher._confirmed, watcher._sweep_view.slots(safe)), None
    with pytest.raises(RuntimeError, match=rf"selected \[{safe[0]}\]"):
        watcher.rows(prices)


def test_a_change_of_nobody_changes_nothing(watching):
    market, _, watcher = watching
    before = watcher._intervals, watcher._watch, watcher._added, watcher._inner
    watcher.changed(np.empty(0, np.int64))
    assert all(
        one is other
        for one, other in zip(before, (watcher._intervals, watcher._watch, watcher._added, watcher._inner), strict=True)
    )
    watcher.rows(market.prices(watcher.accounts))


def test_quiet_ticks_look_at_few(watching):
    market, _, watcher = watching
    for step in range(1, 5):
        watcher.rows(market.prices(watcher.accounts, market.mark * (1 + 1e-5 * step)))
        assert watcher.accounts_computed < 150


def test_a_selection_is_that_of_a_sweep():
    market = every_kind()
    accounts = crowd(market, 300, 3, NEAR)
    marks = dict(zip(market.venue.markets.symbol, market.mark.tolist(), strict=True))
    given = {"asset_prices": {"GEM": 17.25}}
    watcher = Screen(accounts, market.venue)
    table = sweep(accounts, market.venue, marks, **given)
    with pytest.raises(RiskDataError):
        watcher.select(marks)  # GEM has no price
    for found in (watcher.select(marks, **given), select(accounts, market.venue, marks, **given)):
        assert found.row.tolist() == np.flatnonzero(table.liquidatable).tolist()
        assert found.account.tolist() == table.account[table.liquidatable].tolist()
        assert len(found) == table.liquidatable.sum() > 50
        rows = found.table()
        for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin"):
            assert getattr(rows, name).tolist() == getattr(table, name)[table.liquidatable].tolist()
        assert rows.liquidatable.all()


def test_an_account_that_only_inner_intervals_confirm_is_selected(small):
    """The wide intervals leave the account in doubt, the inner ones none: it is selected all the same."""
    small(_LARGE=10**9, _MIN_FOR_INNER=1)
    market = every_kind()
    accounts = crowd(market, 1, 0, [0.5])
    for seed in range(200):
        accounts = crowd(market, 1, seed, [0.98])
        prices, seen = market.prices(accounts), Counter()
        watcher = Paths(accounts, market.venue, seen=seen)
        assert watcher.rows(prices).tolist() == liquidatable(accounts, prices)
        if seen["inner confirmed"] and not seen["inner watched"] and not seen["confirmed"]:
            return
    pytest.fail("no account was confirmed by the inner intervals alone")


@pytest.mark.parametrize("threads", [1, 2])
def test_selections_of_a_frame_are_those_of_its_rows(monkeypatch, threads):
    """In blocks with intervals each, and in parts with intervals of their own; a market without a price at first."""
    constants = {
        "_MIN_ACCOUNTS": 1, "_FIRST": 8, "_SHORTEST": 2, "_LONGEST": 32, "_PART": 3, "_PARTS": 3, "_MIN_IN_DOUBT": 9,
    }  # fmt: skip
    for name, value in constants.items():
        monkeypatch.setattr(batch, name, value)
    market, rng = replace(every_kind(), idle=1), np.random.default_rng(3)
    accounts = crowd(market, CHUNK + 9, 3, NEAR)
    moves = rng.normal(0, 1e-4, (90, 4))
    moves[[20, 21, 50]] *= 400
    marks = np.exp(moves.cumsum(axis=0)) * market.mark
    marks[:30, 3] = np.nan
    frame = pd.DataFrame(marks, columns=list(market.venue.markets.symbol)).assign(GEM=17.25)
    found = select(accounts, market.venue, frame, threads=threads)
    assert len(found) == 90
    for n, mark in enumerate(marks):
        assert found.row[n].tolist() == liquidatable(accounts, market.prices(accounts, mark)), n
