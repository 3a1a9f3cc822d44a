"""The scalar kernels of whole numbers and of the book against exact arithmetic and the oracle."""

import itertools
import os
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from riskcore import reference
from riskcore.kernels import allocation, books, integer_math, separable, slice_size
from riskcore.kernels._jit import kernel
from riskcore.kernels.layouts import (
    AccountColumns,
    BookColumns,
    MarginFunctionArrays,
    PriceArrays,
    SliceRules,
)
from riskcore.venue import top_of_queue

EDGE = 2**62 - 1


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    """Whole numbers of every magnitude, and those next to either end."""
    near_ends = st.one_of(st.integers(low, min(low + 3, high)), st.integers(max(high - 3, low), high))
    magnitudes = st.integers(0, high.bit_length()).flatmap(lambda bits: st.integers(low, max(min(2**bits, high), low)))
    return st.one_of(near_ends, magnitudes)


def signed(size: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return st.tuples(size, st.sampled_from([1, -1])).map(lambda pair: pair[0] * pair[1])


@given(st.integers(-(2**63), 2**63 - 1) | signed(sizes(0, EDGE)), sizes(1, EDGE))
@example(-(2**63), EDGE)
@example(2**63 - 1, 2)
@example(-(2**63), 1)
def test_divide_half_even(numerator, denominator):
    assert integer_math.divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@st.composite
def ratios(draw):
    total = draw(sizes(1, EDGE))
    return draw(sizes(0, total)), total


@settings(max_examples=400)
@given(signed(sizes(0, EDGE)), ratios())
@example(EDGE, (EDGE, EDGE))
@example(-EDGE, (EDGE - 1, EDGE))
@example(EDGE, (2**61, 2**62 - 2))  # a half
@example(EDGE - 1, (2**61 - 1, EDGE - 1))
@example(-EDGE, (1, 2))
@example(3, (2**61, 2**62 - 1))
def test_multiply_divide(value, ratio):
    part, total = ratio
    assert integer_math.multiply_divide(value, part, total) == round(Fraction(value * part, total))


def halves():
    """value * part / total that ends in exactly one half."""
    odd = st.integers(0, 2**30).map(lambda n: 2 * n + 1)
    return st.tuples(odd, odd, st.integers(0, 30)).map(lambda t: (t[0] * t[1], 2 ** t[2], 2 ** (t[2] + 1)))


@given(halves(), st.sampled_from([1, -1]))
def test_multiply_divide_rounds_halves_to_even(case, sign):
    value, part, total = case
    assert integer_math.multiply_divide(sign * value, part, total) == round(Fraction(sign * value, 2))


@settings(max_examples=400)
@given(signed(sizes(0, 2**60)), signed(sizes(0, 2**60)), signed(sizes(1, 2**60)), signed(sizes(0, 2**60)))
@example(5, 7, -5, 3)
@example(1, 2**60, -(2**60), 2**60)
@example(-3, -10, 2, 0)
def test_cost_change(lots, cost, change, flow):
    assert integer_math.cost_change(lots, cost, change, flow) == reference.change_of_cost(lots, cost, change, flow)


UNLIMITED = 2**62


@st.composite
def book_sides(draw, buying):
    """Levels of one side that get worse, best first, and the bounds of price and of average near one of them."""
    steps = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 10_000)), max_size=6))
    price, levels = draw(st.integers(1000, 2**31)), []
    for away, lots in steps:
        price += away if buying else -away
        levels.append((price, lots))
    around = st.sampled_from([level for level, _ in levels] or [price]).flatmap(lambda p: st.integers(p - 1, p + 1))
    none = st.just(UNLIMITED if buying else 0)
    return levels, draw(st.one_of(around, none)), draw(st.one_of(around, st.none()))


def one_side(levels, buying, edge, average) -> BookColumns:
    """Columns of a market of which one side has levels."""
    offset = np.array([0, 0, len(levels)] if buying else [0, len(levels), len(levels)])
    prices, lots = (np.array([level[n] for level in levels], np.int64) for n in (0, 1))
    worst = average if average is not None else (levels[-1][0] if levels else 0)
    inside = sum(lots for price, lots in levels if (price <= edge if buying else price >= edge))
    figures = {"band": edge, "band_reason": books.FIRST_BAND, "worst_average": worst, "inside": inside}
    columns = {name: np.zeros(2, np.int64) for name in figures}
    for name, value in figures.items():
        columns[name][int(buying)] = value
    return BookColumns(
        offset=offset, price=prices, lots=lots, **columns, cursor=offset[:-1].copy(), taken=np.zeros(2, np.int64)
    )


@settings(max_examples=400)
@given(st.data(), st.booleans())
def test_walk_book(data, buying):
    """Several walks, one after another, each from where the one before ended; the other side stays as it is."""
    levels, edge, average = data.draw(book_sides(buying))
    side, other = (1, 0) if buying else (0, 1)
    columns = one_side(levels, buying, edge, average)
    left = [list(level) for level in levels]
    band = reference.Band("asks" if buying else "bids", edge, "impact")
    wants = st.tuples(st.integers(1, 15_000), st.one_of(st.integers(0, 15_000), st.just(UNLIMITED)))
    for want, room in data.draw(st.lists(wants, min_size=1, max_size=4)):
        expected = reference.quote_book(
            [level for level in left if level[1]], want, band, [("market_cap", room)], average
        )
        filled, value, reason = books.walk_book(side, want, room, books.MARKET_CAP, columns)
        assert (filled, value) == (expected.lots, expected.value)
        # an empty side that had levels is a book that ended
        assert books.REASONS[reason] == (expected.reason if any(n for _, n in left) or not levels else drained(room))
        taken = iter(expected.taken)
        for level in left:
            level[1] -= next(taken, 0) if level[1] else 0
    assert columns.inside[side] == sum(lots for price, lots in left if band.holds(price))
    assert columns.lots.tolist() == [level[1] for level in levels]
    assert (columns.cursor[other], columns.taken[other], columns.inside[other]) == (columns.offset[other], 0, 0)


def drained(room: int) -> str:
    return "depth" if room else "market_cap"


@settings(max_examples=300)
@given(
    sizes(1, 2**60),
    st.fractions(Fraction(1, 10**9 - 1), 1, max_denominator=10**9 - 1),
    st.integers(0, 10**6),
    st.fractions(Fraction(1, 1000), 10**6, max_denominator=1000),
    st.integers(0, 1000) | sizes(0, 2**60),
)
def test_slice_lots(lots, fraction, least_notional, lot_value, least_left):
    venue = SimpleNamespace(policy={"slice_fraction": fraction, "min_slice_notional": least_notional})
    market = SimpleNamespace(minimum_lots=least_left)
    floor_lots = -(-least_notional // lot_value)
    found = slice_size.slice_lots(lots, fraction.numerator, fraction.denominator, floor_lots, least_left)
    assert found == reference.slice_lots(venue, market, lots, lot_value)
    assert found == reference.slice_lots(venue, market, -lots, lot_value)


def water_filled(total, weight, cap):
    """Rounds of whole shares: who is full is closed, and what is left goes to the others by their weights."""
    got, weight = [0] * len(cap), list(weight)
    if total >= sum(cap):
        return list(cap)
    still, left = {n for n in range(len(cap)) if cap[n]}, total
    while True:
        if not any(weight[n] for n in still):
            weight = cap
        integer_math = sum(weight[n] for n in still)
        share = {n: left * weight[n] // integer_math for n in still}
        full = {n for n in still if share[n] >= cap[n]}
        if not full:
            break
        for n in full:
            got[n] = cap[n]
            left -= cap[n]
        still -= full
    for n in still:
        got[n] = share[n]
    weighted = [n for n in still if weight[n] > 0]
    for n in sorted(weighted, key=lambda n: (got[n] - cap[n], n))[: total - sum(got)]:
        got[n] += 1
    return got


@st.composite
def shares(draw):
    """An amount, weights and caps of every size, all far apart or alike."""
    count, high = draw(st.integers(1, 8)), draw(st.sampled_from([4, 1000, 2**40, 2**59 - 1]))
    few = st.sampled_from([0, 1, high])
    weight, cap = (draw(st.lists(sizes(0, high) | few, min_size=count, max_size=count)) for _ in range(2))
    return draw(sizes(0, min(sum(cap) + 2, 2**61 - 1))), weight, cap


@settings(max_examples=400)
@given(shares())
@example((5, [0, 0], [3, 4]))  # by the caps
@example((6, [1, 0, 0], [2, 3, 4]))  # the one with a weight is full
@example((7, [5, 3, 3], [9, 9, 9]))  # what rounding leaves
@example((11, [1, 1, 0], [100, 100, 1000]))  # and not to who has no weight
@example((2**61 - 1, [2**61, 2**61 - 1], [2**61 - 1, 2**61 - 1]))
@example((2**61 - 1, [1, 2**61], [2**61, 1]))
@example((2**61 - 1, [1, 2, 3] * 3, [2**61 - 1] * 9))  # the caps pass 64 bits
@example((1, [], []))
def test_share_out(case):
    total, weight, cap = case
    taken = np.full(len(cap) + 1, -7)
    allocation.water_fill(total, np.array(weight, np.int64), np.array(cap, np.int64), taken)
    expected = water_filled(total, weight, cap)
    event("rounds" if any(0 < n == most for n, most in zip(expected, cap, strict=True)) else "one round")
    assert taken.tolist() == [*expected, -7]
    assert sum(expected) == min(total, sum(cap))


def sorted_head(score, room, need):
    """Head of the stable sort of all that take part."""
    rows = [n for n in np.argsort(-score, kind="stable").tolist() if room[n] > 0 and score[n] > -np.inf]
    met = list(itertools.accumulate(int(room[n]) for n in rows))
    return rows[: sum(1 for held in met if held < need) + 1]


SCORES = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, 1.5, -1.0, 5e-324, -5e-324]),
    st.floats(0.1, 0.2),
)


@settings(max_examples=400)
@given(st.lists(st.tuples(SCORES, st.sampled_from([0, 1, 7]) | sizes(0, 2**58)), max_size=12), sizes(1, 2**61))
@example([(-0.0, 1), (0.0, 1), (-0.0, 1)], 2)
@example([(np.inf, 3), (np.inf, 2), (1e308, 4)], 4)
@example([(np.nan, 3), (-np.inf, 2)], 1)
@example([], 1)
def test_head_of_queue(rows, need):
    score, room = np.array([score for score, _ in rows]), np.array([room for _, room in rows], np.int64)
    expected = sorted_head(score, room, need)
    event("met" if sum(room[expected].tolist()) >= need else "not met")
    assert top_of_queue(score, room, need).tolist() == expected


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 5000), st.sampled_from([0.1, 3, 100]), st.floats(0, 1.1),
    st.sampled_from([None, 0, 2]),
)  # fmt: skip
def test_head_of_a_long_queue(seed, count, spread, part, places):
    """Scores of either sign over many orders of magnitude; with ``places``, many of them alike."""
    rng = np.random.default_rng(seed)
    score = np.exp(rng.normal(0, spread, count)) * rng.choice([1, -1], count)
    score = score if places is None else score.round(places)
    room = rng.integers(0, 100, count)
    need = max(int(room.sum() * part), 1)
    assert top_of_queue(score, room, need).tolist() == sorted_head(score, room, need)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
@example(-0.0, 5e-324)
@example(-5e-324, 0.0)
@example(-np.inf, np.finfo(float).min)
@example(np.inf, np.finfo(float).max)
def test_sort_key(x, y):
    place = [int(allocation.sort_key(np.float64(z + 0.0).view(np.uint64))) for z in (x, y)]
    assert (x < y, x == y) == (place[0] < place[1], place[0] == place[1])


def columns_of(kind, **known):
    """Columns of which only some matter here."""
    return kind(*(known.get(name, np.zeros(0)) for name in kind._fields))


@st.composite
def gaps(draw):
    """A position and the side that it is closed on, a margin function, a settle balance, and how much is missing."""
    buying = draw(st.booleans())
    levels, _, _ = draw(book_sides(buying).filter(lambda found: found[0]))
    depth = sum(lots for _, lots in levels)
    mark = levels[0][0] + draw(st.integers(-20, 20))
    size = draw(st.integers(1, 2 * depth))
    base = draw(st.fractions(0, Fraction(1, 5), max_denominator=1000))
    # a root that bends somewhere in the position, or never
    factor = draw(st.one_of(st.just(0.0), st.floats(0.1, 2).map(lambda x: float(base) / (x * size * mark) ** 0.5)))
    cost = round(size * mark * draw(st.sampled_from([0.9, 1.0, 1.2]))) * (-1 if buying else 1)
    # so much that it stays a balance, so little that it becomes a borrow, or a borrow that may be repaid
    balance = round(size * mark * draw(st.sampled_from([10.0, 0.001, 0.0, -0.001, -0.5])))
    weight = draw(st.sampled_from([1.0, 0.9]))
    most = draw(st.integers(1, min(size, depth)))
    return SimpleNamespace(
        buying=buying, levels=levels, mark=mark, size=size, base=float(base), factor=factor, cost=cost, balance=balance,
        weight=weight, most=most, lent=draw(st.sampled_from([0, 10**6])), fee=draw(st.sampled_from([0.0, 0.001, 0.01])),
        part=draw(st.floats(0, 1.2)), target=draw(st.sampled_from([1.0, 0.9])),
    )  # fmt: skip


BORROW = 0.05


@kernel
def restoring_lots(most, worth, gap, fee, state, rules, prices, book):
    return separable.fewest_restoring_lots(0, 0, most, worth, gap, fee, state, rules, prices, book)


@settings(max_examples=600)
@given(gaps())
def test_restoring_lots(case):
    """Against the gap itself: positive there, not one lot before, and at no level's end before."""
    kink = (case.base / case.factor) ** 2 if case.factor else np.inf
    segments = [[0.0, case.base, 0.0, case.factor, 0.0]] * 2 + [[0.0, BORROW, 0.0, 0.0, 0.0]] * 2
    functions = MarginFunctionArrays(
        flat_notional=np.array([kink] * 2 + [np.inf] * 2), flat_rate=np.array([case.base] * 2 + [BORROW] * 2),
        minimum=np.zeros(4), offset=np.arange(5), segments=np.array(segments),
    )  # fmt: skip
    prices = columns_of(
        PriceArrays, price_per_lot=np.array([float(case.mark)]), value_per_lot=np.array([float(case.mark)]),
        money=np.zeros(1, np.int64), price_per_quantum=np.ones(1), functions=functions, weight=np.array([case.weight]),
        haircut_base=np.array([np.inf]), haircut_penalty=np.zeros(1), haircut_size=np.ones(1),
    )  # fmt: skip
    rules = columns_of(
        SliceRules, target=case.target, value_num=np.ones(1, np.int64), value_den=np.ones(1, np.int64),
        value_unit=np.ones(1), fee_num=round(1000 * case.fee), fee_den=1000,
    )  # fmt: skip
    state = columns_of(
        AccountColumns, market=np.zeros(1, np.uint16), lots=np.array([-case.size if case.buying else case.size]),
        cost=np.array([case.cost]), asset=np.zeros(1, np.uint16), free=np.array([case.balance]),
        lent=np.array([case.lent]), position_balance=np.zeros(1, np.uint32),
        position_span=np.array([[0, 1]], np.uint32), balance_span=np.array([[0, 1]], np.uint32),
    )  # fmt: skip

    def value(lots: int) -> int:
        left, found = lots, 0
        for price, available in case.levels:
            taken = min(left, available)
            left, found = left - taken, found + taken * price
        return found

    def requirement(lots: int) -> Fraction:
        notional = lots * case.mark
        return Fraction(notional * max(case.base, case.factor * notional**0.5))

    def gap(lots: int) -> Fraction:
        """Target times equity less maintenance margin, but for what stays the same."""
        sign, part = -1 if case.buying else 1, Fraction(lots, case.size)
        balance = case.balance + sign * value(lots) - Fraction(case.fee) * value(lots) - case.cost * part
        held = max(balance, 0) + case.lent
        equity = sign * (case.size - lots) * case.mark - case.cost * (1 - part)
        equity += Fraction(case.weight) * held + min(balance, 0)
        return Fraction(case.target) * equity - requirement(case.size - lots) - Fraction(BORROW) * max(-balance, 0)

    start = -max(float(gap(case.most) - gap(0)), 0.0) * case.part
    missing = Fraction(start) - gap(0)
    columns = one_side(case.levels, case.buying, UNLIMITED if case.buying else 0, None)
    filled = restoring_lots(case.most, float(value(case.most)), start, case.fee, state, rules, prices, columns)
    found, worth = map(int, filled)  # NumPy's numbers where the JIT is off
    ends = [end for end in itertools.accumulate(lots for _, lots in case.levels) if end < case.most] + [case.most]
    doubt = Fraction(1, 10**12) * (case.size * case.mark + abs(case.cost) + abs(case.balance) + case.lent)
    assume(all(abs(gap(end) + missing) > doubt for end in ends))
    end = next((end for end in ends if gap(end) + missing > 0), None)
    event("restores" if end else "does not")
    if end is None:
        assert (found, worth) == (0, 0)
        return
    assert 0 < found <= end
    assume(min(abs(gap(lots) + missing) for lots in (found - 1, found)) > doubt)
    assert gap(found) + missing > 0
    assert found == 1 or gap(found - 1) + missing <= 0
    assert worth == value(found)


WALK = """
import sys
from numba.core.registry import cpu_target

if sys.argv[1] == "unknown":
    for options in cpu_target.options.__mro__:
        if "_nrt" in vars(options):
            del options._nrt
import numpy as np
from riskcore.kernels.books import FIRST_BAND, walk_books
from riskcore.kernels.layouts import (
    AccountColumns,
    BookColumns,
    MarginFunctionArrays,
    PriceArrays,
    SliceRules,
)

offset, zeros = np.array([0, 2, 2]), np.zeros(2, np.int64)
book = BookColumns(
    offset=offset, price=np.array([10, 9]), lots=np.array([4, 3]), band=zeros.copy(),
    band_reason=np.full(2, FIRST_BAND), worst_average=zeros.copy(), inside=np.array([7, 0]), cursor=offset[:-1].copy(),
    taken=zeros.copy(),
)
out = [np.zeros(2, np.int64) for _ in range(3)]
walk_books(np.zeros(2, np.int64), np.array([5, 5]), book, *out)
print(walk_books.targetoptions.get("_nrt"), [column.tolist() for column in out])
"""


def test_kernels_compile_where_numba_does_not_know_the_undocumented_option():
    """Numba refuses an unknown option when a kernel compiles; ``_nrt`` is left out then, and only speed is lost."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    printed = [
        subprocess.run(
            [sys.executable, "-c", WALK, option],
            env=environment | {"RISKCORE_CACHE": "off"},
            capture_output=True, text=True, check=True,
        ).stdout
        for option in ("known", "unknown")
    ]  # fmt: skip
    assert printed[0].startswith("False [[5, 2], ")
    assert printed[1] == printed[0].replace("False", "None", 1)
