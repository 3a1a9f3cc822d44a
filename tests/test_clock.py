"""The clock: the instants between two ticks, as docs/one_tick.md states them."""

from __future__ import annotations

import itertools
import pickle
import sys
from copy import copy, deepcopy
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import sample
from riskcore.clock import due_instants, instants
from riskcore.io import read_ticks
from riskcore.market import Segment
from riskcore.record import EVENT, EVENTS, read_journal
from tests.comparison import whole_state
from tests.test_one_tick import AT_100, HOUR, MINUTE, NOON, SECOND, market, source

PATHS = ("hold", "linear", "bridge", "adverse")
SPAN = 240  # seconds of the generated crash
EVERY = 40  # seconds from tick to tick


@pytest.fixture(scope="module")
def crash():
    """A generated crash: venue, tables of accounts, and a table of ticks with the bars of the seconds between them."""
    venue, tables = sample.crash(120, SPAN + 1, seed=5)
    policy = venue.source["policy"] | {"realize_interval": 30}
    markets = [row | {"fundingInterval": 60_000} for row in venue.source["markets"]]
    for row in markets:  # caps that let the path through
        price = row["filters"]["price"] | {"minPriceUpdateMultiplier": "0.9", "maxPriceUpdateMultiplier": "1.1"}
        row["filters"] = row["filters"] | {"price": price}
    small = [row | {"capacity_per_min": "30000"} for row in venue.source["backstop"]]
    venue = rc.load_venue(venue.source | {"policy": policy, "markets": markets, "backstop": small})
    marks = tables.marks.sort_values(["market", "time"], kind="stable")
    bars = marks.groupby("market")["mark_price"].rolling(EVERY + 1, min_periods=1)
    marks["low_price"], marks["high_price"] = bars.min().to_numpy(), bars.max().to_numpy()
    times = sorted(marks["time"].unique())[::EVERY]
    marks = marks[marks["time"].isin(times)].assign(index_price=marks["mark_price"] * 0.9995)
    return venue, tables, marks, tables.books[tables.books["time"].isin(times)]


def started(crash, path: str, *, seed: int = 0, check_screen: bool = False, **policy):
    """An engine of the crash with a path of prices, and its ticks."""
    venue, tables, marks, books = crash
    venue = venue.replace(policy={"liquidation_interval": 1, "price_path": path} | policy)
    accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    return rc.Engine(accounts, venue, seed, check_screen=check_screen), list(read_ticks(venue, accounts, marks, books))


def rows_of(results):
    return np.concatenate([result.rows for result in results])


def is_at(seconds: float) -> int:
    """Nanoseconds of a time after noon."""
    return NOON + round(seconds * SECOND)


# ---------------------------------------------------------------------------------------------------- instants


def whole(venue, since, now):
    """The one stretch of a tick in which the venue does not change."""
    return [Segment(-1 if since is None else since, now, venue, np.zeros(len(venue.markets.symbol), bool))]


@pytest.mark.parametrize(
    ("interval", "before", "now", "more", "expected"),
    [
        (None, 0, 9, [], [9]),
        (1, None, 9, [], [9]),
        (1, 5, 8, [], [6, 7, 8]),
        (1, 5.5, 8.25, [], [6, 7, 8, 8.25]),
        (4, 5, 12, [], [8, 12]),
        (4, 5, 13, [9, 5, 13, 14, 9], [8, 9, 12, 13]),
        (45, 58, 63, [], [60, 63]),  # realisation is due every 20 seconds
        (30, 58, 62, [], [60, 62]),
        (86_400, 0, 40, [], [20, 40]),
    ],
)
def test_instants_of_a_tick(interval, before, now, more, expected):
    """The multiples of the interval, what is due and what else happens, each once; last the tick."""
    venue = rc.load_venue(source(liquidation_interval=interval, realize_interval=20))
    since = None if before is None else is_at(before)
    stretch = whole(venue, since, is_at(now))
    found = instants(stretch, since, is_at(now), [is_at(time) for time in more])
    assert found.tolist() == [is_at(time) for time in expected]
    due = due_instants(stretch, since, found)
    assert due == ([] if since is None else [
        k for k, time in enumerate(found.tolist())
        if (found[k - 1] if k else since) // (20 * SECOND) < time // (20 * SECOND)
    ])  # fmt: skip


def test_hours_of_pools_and_intervals_of_markets_are_due():
    pool = {"symbol": "USDC", "lentQuantity": "10", "borrowedQuantity": "5"}
    markets = [market("X") | {"fundingInterval": 1_800_000}, market("Y")]
    for pools, marked, expected in (
        ([pool], None, [HOUR]), ([], markets, [HOUR // 2, HOUR]), ([], None, []), ([pool], markets, [HOUR // 2, HOUR])
    ):  # fmt: skip
        venue = rc.load_venue(source(marked, pools=pools, liquidation_interval=86_400))
        end = NOON + HOUR + MINUTE
        assert (instants(whole(venue, NOON, end), NOON, end) - NOON).tolist() == [*expected, HOUR + MINUTE]


# ------------------------------------------------------------------------------------------- one account by hand

BOOK = {"X": {"bids": [(100.0, 50.0), (99.0, 500.0)], "asks": [(100.1, 50.0), (101.0, 500.0)]}}


def one_account(quantity=10.0, entry=100.0, cash=40.0, others=(), **figures):
    """An engine of the page's venue with an account, long at 100 unless said otherwise."""
    venue = rc.load_venue(source(**{"liquidation_interval": 1} | figures))
    held = [(1, quantity, entry, cash), *others]
    positions = pd.DataFrame(
        [(a, "X", q, e) for a, q, e, _ in held], columns=["account", "market", "quantity", "entry_price"]
    )
    balances = pd.DataFrame([(a, "USDC", c) for a, _, _, c in held], columns=["account", "asset", "quantity"])
    return rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue, check_screen=True)


def tick(second, mark=100.0, book=BOOK, **more):
    return rc.Tick(is_at(second), AT_100 | {"X": mark}, book, **more)


def seconds_of(results, event):
    """Seconds after noon of the rows of an event."""
    rows = rows_of(results)
    return ((rows["time"][rows["event"] == EVENT[event]] - NOON) / SECOND).tolist()


def test_an_instant_is_liquidated_at_its_own_time_under_the_number_of_its_tick():
    engine = one_account()
    results = [engine.step(tick(0.5)), engine.step(tick(3))]
    assert seconds_of(results, "book") == [0.5, 1, 2]
    assert results[1].rows["tick"].tolist() == [1] * 4
    assert (np.diff(results[1].rows["time"]) >= 0).all()
    assert results[1].selected.tolist() == [0]
    assert results[1].margins.mmr.tolist() == [results[1].rows["mmr_before"][0]]


def test_an_engine_without_a_clock_acts_at_ticks_alone():
    engine = one_account(liquidation_interval=None)
    results = [engine.step(tick(0.5)), engine.step(tick(3)), engine.step(tick(9))]
    assert seconds_of(results, "book") == [0.5, 3, 9]


def stuck(**figures):
    """An account of which nothing can be sold: there is no book, no provider and nobody opposite."""
    return one_account(**figures)


def test_a_stuck_account_is_left_out_until_a_minute_begins():
    engine = stuck()
    results = [engine.step(tick(10, book=None)), engine.step(tick(130.5, book=None))]
    assert seconds_of(results, "trigger") == [10, 60, 120, 130.5]


def test_a_stuck_account_is_tried_again_when_an_interval_of_caps_begins():
    engine = stuck(account_cap_interval=25)
    results = [engine.step(tick(10, book=None)), engine.step(tick(77, book=None))]
    assert seconds_of(results, "trigger") == [10, 25, 50, 60, 75, 77]


def test_a_stuck_account_is_tried_again_when_something_is_due():
    engine = stuck(realize_interval=5)
    results = [engine.step(tick(1, book=None)), engine.step(tick(16, book=None))]
    assert seconds_of(results, "trigger") == [1, 5, 10, 15, 16]


def test_a_throttled_account_is_tried_again_at_every_instant():
    engine = one_account(slice_probability="0.1")
    results = [engine.step(tick(0)), engine.step(tick(8))]
    assert seconds_of(results, "trigger") == list(range(9))
    assert 0 < len(seconds_of(results, "skip")) <= 9


def test_activity_ends_the_rest_of_a_stuck_account():
    quiet, active = stuck(), stuck()
    for engine in (quiet, active):
        engine.step(tick(10, book=None))
    active.apply({"action": "deposit", "account": 1, "asset": "USDC", "quantity": 1.0})
    assert seconds_of([quiet.step(tick(13, book=None))], "trigger") == [13]
    assert seconds_of([active.step(tick(13, book=None))], "trigger") == [11, 13]


def test_hours_without_ticks_end_quickly_for_a_stuck_account():
    """A minute each at most, of 14,400 seconds."""
    engine = stuck(largest_gap=None)
    engine.step(tick(0, book=None))
    result = engine.step(tick(14_400, book=None))
    assert len(np.unique(result.rows["time"])) == 240


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("quantity", [10.0, -10.0])
def test_an_account_that_only_the_bar_liquidates_is_found(path, quantity):
    """At the marks of both ticks the account is safe, at the end of the bar it is not."""
    engine = one_account(quantity, cash=65.0, price_path=path)
    low, high = ({"X": 98.0}, {"X": 100.5}) if quantity > 0 else ({"X": 99.5}, {"X": 102.0})
    results = [engine.step(tick(0)), engine.step(tick(60, lows=low, highs=high))]
    assert seconds_of(results, "trigger")
    assert 0 < min(seconds_of(results, "trigger")) < 60
    again = one_account(quantity, cash=65.0, price_path=path, liquidation_interval=None)
    assert not len(rows_of([again.step(tick(0)), again.step(tick(60, lows=low, highs=high))]))


def test_payments_fall_due_at_their_own_instants_and_a_given_rate_at_the_last_of_them():
    """Three hours of funding by the premiums of the ticks before, the last by the rate of the tick."""
    hourly = [market("X") | {"fundingInterval": 3_600_000}, market("Y")]
    engine = one_account(cash=400.0, markets=hourly, price_path="linear", realize_interval=5400, largest_gap=None)
    first = rc.Tick(NOON - SECOND, AT_100, indexes={"X": 99.9})
    last = rc.Tick(NOON + 3 * HOUR, AT_100 | {"X": 106.0}, indexes={"X": 105.9}, funding_rates={"X": 0.001})
    engine.step(first)
    rows = engine.step(last).rows
    funding = rows[rows["event"] == EVENT["funding"]]
    assert ((funding["time"] - NOON) // HOUR).tolist() == [0, 1, 2, 3]
    assert funding["price"].tolist() == pytest.approx([100.0, 102.0, 104.0, 106.0], abs=1e-3)
    assert funding["cash"][3] == -round(1000 * 0.001 * 1.06 * 1e6)
    realized = rows["time"][rows["event"] == EVENT["realize"]]
    assert ((realized - NOON) // (HOUR // 2)).tolist() == [0, 3, 6]


def test_the_full_table_is_that_of_the_tick():
    engine = one_account()
    engine.step(tick(0))
    result = engine.step(tick(5), full_table=True)
    assert result.table.mmr[0] == pytest.approx(0.998933, abs=1e-6)
    assert result.margins.mmr[0] > 1


@pytest.mark.parametrize(
    "bad",
    [
        {"lows": {"X": 99.0}, "highs": {"X": 9e13}},  # a mark on the path is above the largest
        {"lows": {"X": 100.5}, "highs": {"X": 101.0}},
        {"lows": {"X": 99.0}},
    ],
)
def test_a_tick_that_would_fail_at_a_later_instant_changes_nothing(bad):
    engine = one_account(price_path="linear", others=[(2, -10.0, 100.0, 1e6)])
    engine.step(tick(0))
    before = whole_state(engine)
    with pytest.raises(rc.RiskDataError) as error:
        engine.step(tick(60, **bad))
    assert "\n" not in str(error.value)
    assert whole_state(engine) == before
    other = one_account(price_path="linear", others=[(2, -10.0, 100.0, 1e6)])
    other.step(tick(0))
    assert engine.step(tick(60)).rows.tobytes() == other.step(tick(60)).rows.tobytes()


def test_totals_are_checked_at_the_highest_price_of_the_path():
    """Five large accounts fit at the marks of both ticks, not at the high of the bar."""
    others = [(a, (-1) ** a * 1e8, 100.0, 1e6) for a in range(2, 6)]
    engine = one_account(1e8, cash=1e10, others=others, price_path="linear")
    engine.step(tick(0))
    before = whole_state(engine)
    with pytest.raises(rc.RiskDataError, match="2\\*\\*62"):
        engine.step(tick(60, lows={"X": 99.0}, highs={"X": 10_000.0}))
    assert whole_state(engine) == before
    engine.step(tick(60, lows={"X": 99.0}, highs={"X": 101.0}))


# ------------------------------------------------------------------------------------------------ whole runs


def moved(book, shift, size):
    """A book of which every level has moved by some ticks."""
    sides = {side: [(float(Fraction(str(p)) + shift * size), q) for p, q in levels] for side, levels in book.items()}
    return {side: [(p, q) for p, q in levels if p > 0] for side, levels in sides.items()}


@pytest.mark.parametrize("policy", [{}, {"slice_probability": "0.5", "slice_cooldown": 3, "account_cap": 300}])
def test_ticks_at_every_instant_write_the_rows_of_the_clock(policy):
    """A tick for each instant, with the path's marks and the books moved with them, writes the same rows but `tick`.

    That holds where every instant has an update (no instant is left out), for books that do not refill (they are whole
    at every instant; consumed lots decay and round at each tick, on the clock only where somebody is selected), and
    where every mark is given (a tick's book changes the basis, books in between do not).
    """
    figures = {"price_path": "linear", "realize_interval": 20, "account_cap_interval": 30} | policy
    others = [(2, -10.0, 101.0, 52.0), (3, 8.0, 99.0, 20.0), (4, -6.0, 100.0, 31.0)]
    sparse, dense = (one_account(others=others, **figures) for _ in range(2))
    size = Fraction(1, 10)
    marks = [(0, 100.0), (30, 96.37), (60, 97.111), (90, 103.9)]
    rows = [[], []]
    for (start, first), (end, last) in itertools.pairwise(marks):
        for engine, kept in zip((sparse, dense), rows, strict=True):
            if engine.ticks == 0:
                kept.append(engine.step(tick(start, first)).rows)
        rows[0].append(sparse.step(tick(end, last)).rows)
        for second in range(start + 1, end):
            value = first + (last - first) * ((second - start) / (end - start))
            value = float(np.rint(value / 0.1 * 1000.0) * 1.0 / (10.0 * 1000.0))
            shift = round((Fraction(str(value)) - Fraction(str(first))) / size)
            rows[1].append(dense.step(tick(second, value, {"X": moved(BOOK["X"], shift, size)})).rows)
        rows[1].append(dense.step(tick(end, last)).rows)
    ours, theirs = (np.concatenate(parts) for parts in rows)
    assert len(ours) > 20
    for name in ours.dtype.names:
        if name != "tick":
            np.testing.assert_array_equal(ours[name], theirs[name], name)
    assert sparse.accounts.columns.lots.tolist() == dense.accounts.columns.lots.tolist()
    assert sparse.ledger.premium_sum.tolist() == dense.ledger.premium_sum.tolist()


@pytest.mark.parametrize("path", PATHS)
def test_a_run_goes_on_after_every_tick_as_if_nothing_had_happened(crash, tmp_path, path):
    """Saved, resumed, copied and pickled after each tick, and with a screen that computes everybody: the same bits."""
    figures = {"refill_half_life": 10, "slice_probability": "0.7", "slice_cooldown": 2, "account_cap": 5_000}
    whole, ticks = started(crash, path, **figures)
    expected = [whole.step(tick).rows for tick in ticks]
    events = {EVENTS[code] for code in np.concatenate(expected)["event"]}
    assert {"trigger", "book", "funding", "realize", "backstop"} <= events
    times = np.concatenate(expected)["time"]
    assert len(np.unique(times)) > 3 * len(ticks)
    engine, _ = started(crash, path, check_screen=True, **figures)
    engine.save(tmp_path / "run", complete=False)
    for number, tick in enumerate(ticks):
        found = [copy.step(tick).rows for copy in (deepcopy(engine), copy(engine), pickle.loads(pickle.dumps(engine)))]
        found.append(engine.step(tick).rows)
        assert all(rows.tobytes() == expected[number].tobytes() for rows in found), number
        engine.save(tmp_path / "run", complete=False)
        engine = rc.Engine.resume(tmp_path / "run", check_screen=True)
    assert whole_state(engine) == whole_state(whole)
    assert read_journal(tmp_path / "run").tobytes() == np.concatenate(expected).tobytes()


@pytest.mark.parametrize("path", PATHS)
def test_ticks_by_hand_and_in_a_table_give_the_same_bits(crash, path):
    table, ticks = started(crash, path)
    by_hand, _ = started(crash, path)
    for given_tick in ticks:
        same = rc.Tick(
            pd.Timestamp(given_tick.time, tz="UTC"), given_tick.marks, given_tick.books, given_tick.indexes,
            given_tick.asset_prices, lows=given_tick.lows, highs=given_tick.highs,
        )  # fmt: skip
        assert table.step(given_tick).rows.tobytes() == by_hand.step(same).rows.tobytes()


def test_the_seed_draws_the_bridge_and_no_other_path(crash):
    marks = {}
    for path in PATHS:
        runs = []
        for seed in (0, 1):
            engine, ticks = started(crash, path, seed=seed, slice_probability=1)
            runs.append(rows_of([engine.step(tick) for tick in ticks]).tobytes())
        marks[path] = runs[0] == runs[1]
    assert not marks["bridge"]
    assert marks["adverse"]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(crash, monkeypatch, threads):
    monkeypatch.setattr(sys.modules["riskcore.margin.sweep"], "CHUNKS_PER_THREAD", 1)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    engine, ticks = started(crash, "bridge")
    other, _ = started(crash, "bridge", check_screen=True)
    for given_tick in ticks:
        one, two = engine.step(given_tick, full_table=True), other.step(given_tick)
        assert one.rows.tobytes() == two.rows.tobytes()


prices = st.floats(95.0, 105.0).map(lambda x: round(x, 1))
bars = st.none() | st.tuples(st.floats(0, 4), st.floats(0, 4))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(PATHS),
    interval=st.sampled_from([1, 2, 7]),
    steps=st.lists(
        st.tuples(st.sampled_from([1.5, 2, 13, 61, 200]), prices, bars, st.booleans()), min_size=2, max_size=5
    ),
    policy=st.sampled_from([{}, {"refill_half_life": 5}, {"slice_probability": "0.4", "realize_interval": 9}]),
    equity=st.lists(st.floats(20.0, 120.0).map(lambda x: round(x, 2)), min_size=4, max_size=4),
    seed=st.integers(0, 3),
)
def test_the_screen_misses_nobody_at_any_instant(path, interval, steps, policy, equity, seed):
    """The engine compares the screen with every account at every instant, also at those that ranges decide."""
    others = [(a, (-1.0) ** a * 5 * a, 100.0, a * cash) for a, cash in enumerate(equity, 2)]
    engine = one_account(others=others, price_path=path, **policy | {"liquidation_interval": interval})
    engine._seed = seed
    second = 0.0
    for gap, mark, bar, has_book in steps:
        second += gap
        more = {}
        if bar is not None:
            more = {"lows": {"X": round(mark - bar[0], 1)}, "highs": {"X": round(mark + bar[1], 1)}}
        result = engine.step(tick(second, mark, BOOK if has_book else None, **more))
        times = result.rows["time"]
        assert (np.diff(times) >= 0).all()
        assert set(result.selected.tolist()) == set(
            result.rows["account"][result.rows["event"] == EVENT["trigger"]].tolist()
        )
