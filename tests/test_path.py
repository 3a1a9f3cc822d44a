"""The path of prices between two ticks: its values, its guards, and the states of its instants."""

import hashlib
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import RiskDataError
from riskcore.market import Path
from riskcore.market.guards import GuardState, guard, guard_path
from riskcore.sample import market_row

SECOND = 10**9
START = 1_760_130_000 * SECOND
KINDS = ("hold", "linear", "bridge", "adverse")
TICK = {"X": "0.1", "Y": "0.003"}


def make_venue(kind="hold", *, cap=None, threshold="0.9", collateral=(), **policy):
    rows = [market_row(base, TICK[base], "0.01", ("0.1", "0"), ("0.05", "0"), impact=("0.9", "1.1")) for base in TICK]
    for row in rows:
        if cap is not None:
            row["filters"]["price"] |= {
                "minPriceUpdateMultiplier": str(cap[0]), "maxPriceUpdateMultiplier": str(cap[1]),
            }  # fmt: skip
    haircut = {"weight": "0.9", "kind": {"type": "identity"}}
    return rc.load_venue(
        {
            "settle_asset": "USDC",
            "markets": rows,
            "collateral": [{"symbol": "USDC", "haircutFunction": haircut | {"weight": "1"}}, *collateral],
            "policy": {"price_path": kind, "mark_index_threshold": threshold} | policy,
        }
    )


def prices(venue, marks, indexes=None, lows=None, highs=None, assets=None):
    named = [
        None if values is None else dict(zip(venue.markets.symbol, values, strict=True))
        for values in (marks, indexes, lows, highs)
    ]
    marks, indexes, lows, highs = ({k: v for k, v in (one or {}).items() if v is not None} for one in named)
    tick = rc.Tick(START, marks, indexes=indexes, lows=lows, highs=highs, asset_prices=assets)
    return rc.Prices.incomplete(venue, tick)


def path_of(venue, before, now, seconds=60, seed=0, interval=1, accounts=None):
    times = START + np.arange(interval, seconds + 1, interval) * SECOND
    return Path.between(venue, accounts, before.mark, before, now, rc.Books.empty(venue), START, times, seed)


def values(venue, path):
    return path.values(venue, 0, len(path.time) - 1)


MARK = st.floats(0.5, 2_000.0)


@given(
    st.sampled_from(KINDS), st.tuples(MARK, MARK), st.tuples(MARK, MARK), st.none() | st.floats(0, 0.5),
    st.floats(0, 0.5), st.integers(2, 400), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_path_stays_in_the_bar_and_visits_its_ends(kind, begin, end, down, up, seconds, seed):
    venue, accounts = make_venue(kind), None
    lows = highs = None
    if down is not None:
        lows, highs = [mark * (1 - down) for mark in end], [mark * (1 + up) for mark in end]
    if kind == "adverse":
        accounts = rc.Accounts.from_frames(
            venue,
            pd.DataFrame({"account": [1], "market": ["X_USDC_PERP"], "quantity": [1.0], "entry_price": [begin[0]]}),
            pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1e6]}),
        )
    path = path_of(
        venue, prices(venue, begin), prices(venue, end, lows=lows, highs=highs), seconds, seed, accounts=accounts
    )
    mark, index = values(venue, path)
    count = seconds - 1
    assert mark.shape == (count + 1, 2)
    assert np.isnan(index).all()
    np.testing.assert_array_equal(mark[0], begin)
    for m in range(2):
        low, high = min(begin[m], end[m]), max(begin[m], end[m])
        if down is not None:
            low, high = min(low, lows[m]), max(high, highs[m])
        assert low <= mark[1:, m].min(initial=low)
        assert mark[1:, m].max(initial=high) <= high
        anchors = {0}
        if down is not None and count >= 2:
            a, b = (count + 1) // 3, 2 * (count + 1) // 3
            anchors |= {a, b}
            assert sorted([mark[a, m], mark[b, m]]) == sorted([lows[m], highs[m]])
            if kind == "adverse":
                assert mark[a, m] == lows[m]  # a long in X, nobody in Y
        elif down is not None and count == 1:
            anchors |= {1}
            assert mark[1, m] in (lows[m], highs[m])
        if kind == "hold":
            held = mark[0, m]
            for k in range(count + 1):
                held = mark[k, m] if k in anchors else held
                assert mark[k, m] == held
        else:
            tick = float(TICK[venue.markets.symbol[m][0]])
            inner = [k for k in range(1, count + 1) if k not in anchors and low < mark[k, m] < high]
            thousandths = mark[inner, m] / tick * 1000
            np.testing.assert_allclose(
                thousandths, np.rint(thousandths), rtol=0, atol=1e-6 * thousandths.max(initial=1)
            )


def draw(key, market, number):
    z = (key + (market * 2**32 + number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_a_bridge_from_the_formula():
    """The block of docs/one_tick.md, in plain Python."""
    venue, seed, seconds = make_venue("bridge"), 7, 12
    begin, end, low, high = 100.0, 101.0, 97.5, 103.0
    before = prices(venue, (begin, None), (99.9, None))
    now = prices(venue, (end, None), (101.5, None), (low, None), (high, None))
    path = path_of(venue, before, now, seconds, seed)
    text = f"{seed}/path/{START + seconds * SECOND}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

    def step(k):
        word = draw(key, 0, k)
        return (sum((word >> 16 * n) & 0xFFFF for n in range(4)) - 131070) / 65536 * 1.7320508075688772

    def rounded(x):
        return round(x / 0.1 * 1000) * 1.0 / (10.0 * 1000)

    one, other = (low, high) if draw(key, 0, 0) < 2**63 else (high, low)
    anchors = [(0, begin), (4, one), (8, other), (12, end)]
    scale = (high - low) * (0.6266570686577501 / math.sqrt(12))
    expected, indexes = {0: begin}, {0: 99.9}
    for (i, start), (j, stop) in pairwise(anchors):
        expected[j] = stop
        whole = walk = 0.0
        for k in range(i + 1, j + 1):
            whole += step(k)
        for k in range(i + 1, j):
            walk += step(k)
            part = ((k - i) * SECOND) / ((j - i) * SECOND)
            x = rounded((start + (stop - start) * part) + scale * (walk - whole * part))
            expected[k] = min(max(x, low), high)
    for k in range(1, 12):
        ratio = 99.9 / begin + (101.5 / end - 99.9 / begin) * ((k * SECOND) / (12 * SECOND))
        indexes[k] = rounded(expected[k] * ratio)
    mark, index = values(venue, path)
    assert mark[:, 0].tolist() == [expected[k] for k in range(12)]
    assert index[:, 0].tolist() == [indexes[k] for k in range(12)]
    assert np.isnan(mark[:, 1]).all()
    assert len(set(mark[:, 0].tolist())) > 8


@pytest.mark.parametrize("kind", KINDS)
def test_draws_depend_on_the_seed_and_the_time(kind):
    venue = make_venue(kind)
    before = prices(venue, (100.0, 50.0))
    now = prices(venue, (101.0, 51.0))
    one, same, other = (values(venue, path_of(venue, before, now, seed=seed))[0] for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert (one.tobytes() == other.tobytes()) == (kind != "bridge")
    assert kind != "bridge" or not np.array_equal(one[:, 0] - 100, one[:, 1] - 50)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_path_are_the_path(kind):
    venue = make_venue(kind)
    before = prices(venue, (100.0, 50.0), (100.5, 49.0))
    now = prices(venue, (101.0, 51.0), (101.0, 51.5), (99.0, 47.0), (102.0, 52.0))
    path = path_of(venue, before, now, accounts=accounts_of(venue, 1.0))
    whole = values(venue, path)
    for first, last in ((0, 0), (1, 1), (0, 59), (5, 20), (20, 20), (19, 59), (39, 41)):
        for part, all_ in zip(path.values(venue, first, last), whole, strict=True):
            np.testing.assert_array_equal(part, all_[first : last + 1])


def accounts_of(venue, lots, other=0.0):
    return rc.Accounts.from_frames(
        venue,
        pd.DataFrame(
            {"account": [1, 2], "market": "X_USDC_PERP", "quantity": [lots, other], "entry_price": 100.0}
        ),
        pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": 1e6}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("longs", "shorts", "low_first"), [(1.0, 0.0, True), (1.0, -1.0, True), (1.0, -1.01, False), (0.0, -0.01, False)]
)
def test_an_adverse_path_hurts_the_larger_side_first(longs, shorts, low_first):
    venue = make_venue("adverse")
    before, now = prices(venue, (100.0, 50.0)), prices(venue, (100.0, 50.0), None, (98.0, 49.0), (103.0, 52.0))
    mark = values(venue, path_of(venue, before, now, accounts=accounts_of(venue, longs, shorts)))[0]
    assert (mark[20, 0], mark[40, 0]) == ((98.0, 103.0) if low_first else (103.0, 98.0))
    assert (mark[20, 1], mark[40, 1]) == (49.0, 52.0)  # nobody is in Y: the low comes first


def test_a_market_without_one_end():
    venue = make_venue("linear")
    path = path_of(venue, prices(venue, (100.0, None), (99.0, None)), prices(venue, (None, 50.0), (101.0, 50.0)), 4)
    mark, index = values(venue, path)
    assert mark[:, 0].tolist() == [100.0] * 4
    assert index[:, 0].tolist() == [99.0] * 4
    assert np.isnan(mark[:, 1]).all()
    assert np.isnan(index[:, 1]).all()


def test_an_index_that_is_held_keeps_its_distance():
    venue = make_venue("hold")
    before = prices(venue, (100.0, 50.0), (99.0, None))
    now = prices(venue, (100.0, 50.0), (90.0, 50.0), (95.0, 50.0), (104.0, 50.0))
    mark, index = values(venue, path_of(venue, before, now, 6, seed=3))
    order = (95.0, 104.0) if mark[2, 0] == 95.0 else (104.0, 95.0)
    assert mark[:, 0].tolist() == [100.0, 100.0, order[0], order[0], order[1], order[1]]
    assert index[:, 0].tolist() == [99.0, 99.0, *(x * (99.0 / 100.0) for x in np.repeat(order, 2).tolist())]
    assert np.isnan(index[:, 1]).all()


def modelled(mark, index, time, cap, threshold):
    """Marks and indexes of one market that count on a path, with their times and refusals, in plain Python."""
    used, reference, used_time, reference_time = mark[0], index[0], START, START

    def capped(value, previous, elapsed):
        if cap is None:
            return value
        low, high = (float(factor) ** max(elapsed // SECOND, 1) for factor in cap)
        return min(max(value, previous * low), previous * high)

    for k, now in enumerate(time, 1):
        refused, fits = [], True
        if index[k] != index[k - 1]:
            value = capped(index[k], reference, now - reference_time)
            fits = value == index[k]
            refused += [] if fits else [("index_update_cap", index[k])]
            reference, reference_time = value, now
        if mark[k] != mark[k - 1]:
            value = mark[k]
            if fits:
                value = min(max(value, reference * (1 - threshold)), reference * (1 + threshold))
            refused += [("index_clamp", mark[k])] if value != mark[k] else []
            clamped, value = value, capped(value, used, now - used_time)
            refused += [("update_cap", clamped)] if value != clamped else []
            used, used_time = value, now
        yield used, reference, used_time, reference_time, refused


@given(
    st.sampled_from(KINDS[:3]), st.tuples(st.floats(80, 120), st.floats(80, 120)),
    st.tuples(st.floats(80, 120), st.floats(80, 120)), st.floats(0, 0.3), st.booleans(), st.integers(0, 99),
    st.sampled_from([(1, 60), (7, 301), (60, 600), (1, 400)]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_instants_are_guarded_one_after_another(kind, begin, end, width, capped, seed, clock):
    interval, seconds = clock
    cap, none = (("0.999", "1.001") if capped else None), rc.Books.empty
    venue = make_venue(kind, cap=cap, threshold="0.01", stale_after=10**6)
    before = prices(venue, begin, [mark * 1.002 for mark in begin])
    now = prices(
        venue, end, [mark * 1.01 for mark in end], [mark * (1 - width) for mark in end],
        [mark * (1 + width) for mark in end],
    )  # fmt: skip
    memory = guard(venue, GuardState.opening(venue), None, START, before, none(venue)).guard_state
    path = path_of(venue, before, now, seconds, seed, interval)
    guarded = guard_path(venue, memory, path)
    mark, index = values(venue, path)
    between = path.time[:-1].tolist()
    models = [list(modelled(mark[:, m].tolist(), index[:, m].tolist(), between, cap, 0.01)) for m in range(2)]
    sizes = venue.markets.tick_size.tolist()
    sampled = [{START // SECOND: before_of(before, m, sizes[m])} for m in range(2)]
    for k, time in enumerate(between):
        found = [(r.reason, r.book, r.price) for r in guarded.refusals(k)]
        assert found == [(reason, m, price) for m in range(2) for reason, price in models[m][k][4]]
        assert guarded.refused[k] == bool(found)
        assert guarded.updates[k] == any(values[k + 1, m] != values[k, m] for values in (mark, index) for m in range(2))
        for m in range(2):
            used, reference = models[m][k][:2]
            assert (guarded.mark[k, m], guarded.index[k, m]) == (used, reference)
            for second in range(max(sampled[m]) + 1, time // SECOND):
                sampled[m][second] = sampled[m][second - 1]
            sample = round(used / sizes[m] * 1e3), round((used - reference) / reference * 1e12)
            sampled[m][time // SECOND] = sample
        if k % 17 == 0 or k == len(between) - 1:
            state = guarded.state_at(k)
            assert state.second == time // SECOND
            for m in range(2):
                window = [v for second, v in sampled[m].items() if second > time // SECOND - 300]
                assert state.price[:2, m].tolist() == list(models[m][k][:2])
                assert state.time[:2, m].tolist() == list(models[m][k][2:4])
                assert state.count[:, m].tolist() == [len(window)] * 2
                assert state.total[:, m].tolist() == [sum(v) for v in zip(*window, strict=True)]
                assert tuple(state.sample[:, m].tolist()) == sampled[m][time // SECOND]
    assert guarded.updates[-1]
    if between:
        state = guarded.state_at(len(between) - 1)
        last = guard(venue, state, between[-1], int(path.time[-1]), now, none(venue))
        assert last.mark.tobytes() == guarded.mark[-1].tobytes()
        assert_same_memory(last.guard_state, guarded.state_at(-1))


def before_of(before, m, size):
    """Samples of the tick before."""
    mark, index = before.mark[m], before.index[m]
    return round(mark / size * 1e3), round((mark - index) / index * 1e12)


def assert_same_memory(one, other):
    """Two states of the guards with the same prices, samples of each second, and books."""
    tables, others = one.frames(), other.frames()
    for name in ("markets", "assets", "books"):
        pd.testing.assert_frame_equal(tables[name], others[name], check_exact=True)
    for name in ("samples", "asset_samples"):
        expanded = []
        for table in (tables[name], others[name]):
            table = table.loc[table.index.repeat(table["count"])]
            order = table.groupby(["second", table.columns[2]]).cumcount()
            table = table.assign(second=table["second"] + order).drop(columns="count")
            expanded.append(table.sort_values([*table.columns[:2]]).reset_index(drop=True))
        pd.testing.assert_frame_equal(*expanded, check_exact=True)


def test_segments_of_a_path_are_the_path():
    venue = make_venue("bridge", cap=("0.9999", "1.0001"))
    before, now = prices(venue, (100.0, 50.0), (100.0, 50.0)), prices(venue, (104.0, 49.0), (104.0, 49.0))
    memory = guard(venue, GuardState.opening(venue), None, START, before, rc.Books.empty(venue)).guard_state
    path = path_of(venue, before, now)
    whole = guard_path(venue, memory, path)
    first = guard_path(venue, memory, path, 0, 25)
    second = guard_path(venue, first.state_at(-1), path, 25, 26)
    third = guard_path(venue, second.state_at(-1), path, 26)
    for name in ("mark", "index", "asset", "own_asset", "updates", "refused"):
        parts = np.concatenate([getattr(part, name) for part in (first, second, third)])
        np.testing.assert_array_equal(parts, getattr(whole, name))
    assert_same_memory(whole.state_at(-1), third.state_at(-1))
    assert repr(
        [r for part in (first, second, third) for k in range(len(part.time)) for r in part.refusals(k)]
    ) == repr([r for k in range(60) for r in whole.refusals(k)])


def test_prices_that_do_not_change_are_no_updates():
    venue = make_venue("hold", cap=("0.99", "1.01"))
    before = prices(venue, (100.0, 50.0), (100.0, 50.0))
    memory = guard(venue, GuardState.opening(venue), None, START, before, rc.Books.empty(venue)).guard_state
    now = prices(venue, (130.0, 50.0), (130.0, 50.0))
    guarded = guard_path(venue, memory, path_of(venue, before, now))
    assert guarded.updates.tolist() == [False] * 59 + [True]
    assert not guarded.refused.any()  # the cap of the tick counts all 60 seconds
    assert guarded.mark[-1, 0] == 130.0
    state = guarded.state_at(58)
    assert (state.time[:2] == START).all()
    assert state.count.tolist() == [[60, 60], [60, 60]]


def test_a_bar_beyond_the_highest_price_is_refused():
    source = make_venue("linear").source
    source["markets"][0]["filters"]["price"]["maxPrice"] = "150"
    venue = rc.load_venue(source)
    before, now = prices(venue, (100.0, 50.0)), prices(venue, (100.0, 50.0), None, (99.0, 50.0), (200.0, 50.0))
    memory = guard(venue, GuardState.opening(venue), None, START, before, rc.Books.empty(venue)).guard_state
    with pytest.raises(RiskDataError, match=r"^marks\.X_USDC_PERP, row on the path at 2025-10-10 .*maxPrice"):
        guard_path(venue, memory, path_of(venue, before, now))


def book(bids, asks):
    return {"bids": bids, "asks": asks}


def test_levels_move_with_the_mark_and_come_back():
    """1.3: every level moves by rhe((mark - mark before) / tickSize) ticks; what is consumed stays with its level."""
    venue = make_venue("linear", refill_half_life=10)
    books = {"X_USDC_PERP": book([(99.9, 1.0), (0.2, 1.0)], [(100.1, 2.0)])}
    tick = rc.Tick(START, {"X_USDC_PERP": 100.0}, books)
    before = rc.Prices.incomplete(venue, tick)
    memory = guard(venue, GuardState.opening(venue), None, START, before, tick.columnar_books(venue, START)).guard_state
    now = prices(venue, (99.0, None))
    guarded = guard_path(venue, memory, path_of(venue, before, now, 20))
    at = guarded.at(4)  # 5 seconds, a mark of 99.75: 2.5 ticks down, to the even 2
    assert guarded.mark[4, 0] == 99.75
    assert at.books.price.tolist() == [997, 999]  # the level of 2 ticks is gone
    assert at.books.lots.tolist() == [100, 200]
    at.guard_state.book_memory.record(np.array([20, 200]))
    assert memory.book_memory.consumed_lots.tolist() == [80, 0, 0]
    at = guarded.at(14)  # ten seconds later
    assert at.books.price.tolist() == [991, 993]  # 7.5 ticks down, to the even 8
    assert at.books.lots.tolist() == [60, 200]
    last = guarded.at(19)  # no book is given: the levels of the tick before, as they were given
    assert last.books.price.tolist() == [999, 2, 1001]
    assert last.books.lots.tolist() == [100 - math.floor(40 * 0.5**0.5), 100, 200]
    assert last.guard_state is guarded.state_at(-1)
    assert last.guard_state.book_memory is not memory.book_memory


def test_books_without_a_refill_are_whole_at_every_instant():
    venue = make_venue("hold")
    tick = rc.Tick(START, {"X_USDC_PERP": 100.0}, {"X_USDC_PERP": book([(99.9, 1.0)], [(100.1, 2.0)])})
    before = rc.Prices.incomplete(venue, tick)
    memory = guard(venue, GuardState.opening(venue), None, START, before, tick.columnar_books(venue, START)).guard_state
    guarded = guard_path(venue, memory, path_of(venue, before, prices(venue, (100.0, None)), 20))
    for k in (3, 4):
        at = guarded.at(k)
        assert at.books.lots.tolist() == [100, 200]
        at.guard_state.book_memory.record(np.array([0, 0]))
    assert not guarded.at(19).books.lots.size


BARS = [
    ({"lows": {"X_USDC_PERP": 99.0}}, "lows.X_USDC_PERP, value 99.0: needs a high: a bar has both ends"),
    ({"highs": {"X_USDC_PERP": 99.0}}, "highs.X_USDC_PERP, value 99.0: needs a low: a bar has both ends"),
    (
        {"marks": {}, "lows": {"X_USDC_PERP": 99.0}, "highs": {"X_USDC_PERP": 101.0}},
        "lows.X_USDC_PERP, value 99.0: needs a mark: a bar is that of the time up to the mark",
    ),
    (
        {"lows": {"X_USDC_PERP": 100.5}, "highs": {"X_USDC_PERP": 101.0}},
        "lows.X_USDC_PERP, value 100.5: must not be above the mark",
    ),
    (
        {"lows": {"X_USDC_PERP": 99.0}, "highs": {"X_USDC_PERP": 99.5}},
        "highs.X_USDC_PERP, value 99.5: must not be below the mark",
    ),
    ({"lows": {"X_USDC_PERP": -1.0}}, "lows.X_USDC_PERP, value -1.0: must be a finite number > 0"),
    ({"highs": {"Z": 1.0}}, "highs.Z, value 1.0: must be a market of the venue"),
]


@pytest.mark.parametrize(("more", "message"), BARS)
def test_bad_bars(more, message):
    venue = make_venue()
    engine = rc.Engine(accounts_of(venue, 1.0), venue)
    tick = {"marks": {"X_USDC_PERP": 100.0}}
    with pytest.raises(RiskDataError) as refusal:
        engine.step(rc.Tick(START, **tick | more))
    assert str(refusal.value) == message
    assert engine.ticks == 0
    engine.step(rc.Tick(START, **tick, lows={"X_USDC_PERP": 99.0}, highs={"X_USDC_PERP": 101.0}))


def test_bars_of_a_table():
    venue = make_venue()
    accounts = accounts_of(venue, 1.0)
    marks = pd.DataFrame(
        {"time": ["2025-10-10T21:00Z", "2025-10-10T21:01Z"], "market": "X_USDC_PERP", "mark_price": [100.0, 101.0],
         "low_price": [np.nan, 99.0], "high_price": [np.nan, 102.0]}
    )  # fmt: skip
    ticks = rc.io.read_ticks(venue, accounts, marks)
    assert ticks.tick(0).lows == {}
    assert (ticks.tick(1).lows, ticks.tick(1).highs) == ({"X_USDC_PERP": 99.0}, {"X_USDC_PERP": 102.0})
    with pytest.raises(RiskDataError) as refusal:
        rc.io.read_ticks(venue, accounts, marks.assign(high_price=[np.nan, 100.0]))
    assert str(refusal.value) == "marks.high_price, row 1, value 100.0: must not be below the mark"
    with pytest.raises(RiskDataError) as refusal:
        rc.io.read_ticks(venue, accounts, marks.drop(columns="high_price"))
    assert str(refusal.value) == "marks.low_price, row 1, value 99.0: needs a high: a bar has both ends"


@pytest.mark.parametrize("kind", ["bridge", "adverse"])
def test_a_run_that_is_resumed_has_the_same_bits(kind, tmp_path):
    """Paths, books, samples and prices of assets of their own after a save, also for activity."""
    haircut = {"weight": "0.9", "kind": {"type": "identity"}}
    guards = {"minPriceUpdateMultiplier": "0.9999", "maxPriceUpdateMultiplier": "1.0001", "meanThreshold": "0.001"}
    venue = make_venue(
        kind, cap=("0.999", "1.001"), refill_half_life=20, slice_probability="0.5", min_slice_notional=1,
        collateral=[{"symbol": "GEM", "haircutFunction": haircut, "priceGuard": guards | {"staleAfter": "90"}}],
    )  # fmt: skip
    accounts = rc.Accounts.from_frames(
        venue,
        pd.DataFrame(
            {
                "account": [1, 2, 3, 4],
                "market": "X_USDC_PERP",
                "quantity": [40.0, -30.0, 20.0, 1.0],
                "entry_price": 100.0,
            }
        ),
        pd.DataFrame(
            {"account": [1, 2, 3, 4], "asset": ["USDC", "USDC", "GEM", "USDC"], "quantity": [230.0, 170.0, 11.0, 50.0]}
        ),
    )
    books = {"X_USDC_PERP": book([(99.9, 2.0), (99.0, 9.0)], [(100.1, 2.0), (101.0, 9.0)])}

    def tick(number):
        mark = 100.0 + 0.4 * (-1) ** number
        given = {"asset_prices": {"GEM": 10.0 + 0.1 * number}} if number != 2 else {}
        return rc.Tick(
            START + number * 60 * SECOND, {"X_USDC_PERP": mark}, books if number % 2 == 0 else None,
            indexes={"X_USDC_PERP": 100.0}, lows={"X_USDC_PERP": mark - 1.5}, highs={"X_USDC_PERP": mark + 1.5},
            **given,
        )  # fmt: skip

    straight, cut = rc.Engine(accounts, venue, seed=3), rc.Engine(accounts, venue, seed=3)
    activity = [
        {"action": "withdraw", "account": 4, "asset": "USDC", "quantity": 0.5},
        {"action": "fill", "account": 2, "market": "X_USDC_PERP", "quantity": -1.0, "price": 100.0},
    ]
    wrote = 0
    for number in range(6):
        done = [engine.step(tick(number)).rows.tobytes() for engine in (straight, cut)]
        assert done[0] == done[1]
        wrote += len(done[0])
        cut.save(tmp_path, complete=False)
        cut = rc.Engine.resume(tmp_path)
        if number == 3:
            changes = [engine.apply(activity, check="off").events for engine in (straight, cut)]
            pd.testing.assert_frame_equal(*changes)
        assert_same_memory(straight.guard_state, cut.guard_state)
    assert wrote
    assert (straight.accounts.columns.lots != accounts.columns.lots).any()
