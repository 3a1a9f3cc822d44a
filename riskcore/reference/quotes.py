"""What a book gives for a number of lots, and the size of a slice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .numbers import number
from .price_updates import Band
from .venue import Market, Venue


@dataclass(frozen=True)
class BookFill:
    """The lots that a book gives, and what stopped the rest (3 Book)."""

    lots: int  # filled
    taken: list  # lots taken of each level
    prices: list  # of each level
    reason: str

    @property
    def value(self) -> Fraction:
        """Sum of lots times price over the levels taken."""
        return sum((lots * price for lots, price in zip(self.taken, self.prices, strict=True)), Fraction(0))


def walk_book(levels, lots: int, reason="full") -> BookFill:
    """Take `lots` from `levels` of (price, lots), best first (3 Book)."""
    taken: list[int] = []
    for _, available, *_ in levels:
        taken.append(min(available, lots - sum(taken)))
    return BookFill(sum(taken), taken, [number(price) for price, *_ in levels], reason)


def no_worse_than(levels, side: str, average) -> int:
    """The most lots whose average price is no worse than `average` (3 Book, Quote)."""
    lots, surplus = 0, Fraction(0)
    for price, available, *_ in levels:
        better = number(price) - average if side == "bids" else average - number(price)
        possible = available if better >= 0 else min(available, math.floor(surplus / -better))
        lots, surplus = lots + possible, surplus + possible * better
        if possible < available:
            break
    return lots


def quote_book(levels, lots: int, band: Band, rooms=(), average=None) -> BookFill:
    """The quote of `lots`: rooms of (reason, lots), and the worst average price (3 Book, Quote)."""
    if not levels:
        return BookFill(0, [], [], "no_book")
    depth = sum(available for _, available, *_ in levels)
    inside = sum(available for price, available, *_ in levels if band.holds(number(price)))
    slipping = depth if average is None else no_worse_than(levels, band.side, average)
    filled = min(lots, depth, inside, slipping, *(room for _, room in rooms))
    stops = [("full", lots), *rooms, ("depth", depth), (band.reason, inside), ("slippage", slipping)]
    return walk_book(levels, filled, next(reason for reason, most in stops if most == filled))


def slice_lots(venue: Venue, market: Market, lots: int, lot_value: Fraction) -> int:
    """`s0`: the lots of one slice of a position (3 Book, Policy size)."""
    size = abs(lots)
    wanted = max(math.floor(size * venue.policy["slice_fraction"]), least_lots(venue, lot_value))
    return no_small_rest(market, size, min(wanted, size))


def no_small_rest(market: Market, size: int, lots_of_slice: int) -> int:
    """The slice, or the whole position if less than `minQuantity` would be left (3 Book)."""
    return size if size - lots_of_slice < market.minimum_lots else lots_of_slice


def least_lots(venue: Venue, lot_value: Fraction) -> int:
    """The lots of the smallest slice (3 Book)."""
    return max(math.ceil(venue.policy["min_slice_notional"] / lot_value), 1)
