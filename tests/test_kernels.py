"""The scalar kernels of whole numbers and of the book against exact arithmetic and the oracle."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from riskcore.kernels import book, whole
from riskcore.kernels.columns import BookColumns
from tests import naive

EDGE = 2**62 - 1
REASONS = {book.FULL: "full", book.BAND: "band", book.DEPTH: "depth"}


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
    assert whole.divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


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
    assert whole.multiply_divide(value, part, total) == round(Fraction(value * part, total))


def halves():
    """value * part / total that ends in exactly one half."""
    odd = st.integers(0, 2**30).map(lambda n: 2 * n + 1)
    return st.tuples(odd, odd, st.integers(0, 30)).map(lambda t: (t[0] * t[1], 2 ** t[2], 2 ** (t[2] + 1)))


@given(halves(), st.sampled_from([1, -1]))
def test_multiply_divide_rounds_halves_to_even(case, sign):
    value, part, total = case
    assert whole.multiply_divide(sign * value, part, total) == round(Fraction(sign * value, 2))


@settings(max_examples=400)
@given(signed(sizes(0, 2**60)), signed(sizes(0, 2**60)), signed(sizes(1, 2**60)), signed(sizes(0, 2**60)))
@example(5, 7, -5, 3)
@example(1, 2**60, -(2**60), 2**60)
@example(-3, -10, 2, 0)
def test_cost_change(lots, cost, change, flow):
    assert whole.cost_change(lots, cost, change, flow) == naive.change_of_cost(lots, cost, change, flow)


@st.composite
def book_sides(draw, buying):
    """Levels of one side that get worse, best first, and the band's edge near one of them."""
    steps = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 10_000)), max_size=6))
    price, levels = draw(st.integers(1000, 2**31)), []
    for away, lots in steps:
        price += away if buying else -away
        levels.append((price, lots))
    around = st.sampled_from([level for level, _ in levels] or [price]).flatmap(lambda p: st.integers(p - 1, p + 1))
    return levels, draw(st.one_of(around, st.just(2**62 if buying else 0)))


@given(st.data(), st.booleans())
def test_walk_book(data, buying):
    """Several walks, one after another, each from where the one before ended; the other side stays as it is."""
    levels, edge = data.draw(book_sides(buying))
    offset = np.array([0, 0, len(levels)] if buying else [0, len(levels), len(levels)])
    side, other = (1, 0) if buying else (0, 1)
    band = np.zeros(2, np.int64)
    band[side] = edge
    prices, lots = (np.array([level[n] for level in levels], np.int64) for n in (0, 1))
    columns = BookColumns(offset, prices, lots, band, offset[:-1].copy(), np.zeros(2, np.int64))
    left = [list(level) for level in levels]
    for want in data.draw(st.lists(st.integers(1, 15_000), min_size=1, max_size=4)):
        filled, value, reason = book.walk_book(side, want, columns)
        if not levels:
            assert (filled, value, reason) == (0, 0, book.NO_BOOK)
            continue
        expected = naive.walk_book(left, want, (0, edge) if buying else (edge, naive.INFINITY))
        assert (filled, value, REASONS[reason]) == (expected.lots, expected.value, expected.reason)
        for level, taken in zip(left, expected.taken, strict=True):
            level[1] -= taken
    assert columns.lots.tolist() == [level[1] for level in levels]
    assert (columns.cursor[other], columns.taken[other]) == (offset[other], 0)


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
    found = book.slice_lots(lots, fraction.numerator, fraction.denominator, floor_lots, least_left)
    assert found == naive.slice_lots(venue, market, lots, lot_value)
    assert found == naive.slice_lots(venue, market, -lots, lot_value)
