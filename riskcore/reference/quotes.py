"""What a book gives for a number of lots, and the size of a slice."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .numbers import exact
from .price_updates import Band
from .venue import Market, Venue


@dataclass(frozen=True)
class BookFill:
    """The lots that a book gives, and what stopped the rest (3 Book)."""

    lots: int  # filled
    value: Any  # sum of what the levels taken are worth: lots * price
    taken: list  # lots taken of each level, as far as the quote goes
    reason: str


def quote_book(levels, lots: int, band: Band, rooms=(), average=None, worth=operator.mul) -> BookFill:
    """The quote of `lots` from levels of (price, lots), best first (3 Book, Quote).

    `rooms` are pairs of a reason and lots, `average` is the worst average price; `worth` gives what the lots of a level
    are worth at its price.
    """
    if not levels:
        return BookFill(0, 0, [], "no_book")
    most = min([lots, *(room for _, room in rooms)])
    filled, value, surplus = 0, 0, 0  # surplus: lots times what their prices are better than the worst average
    taken: list[int] = []
    for price, available, *_ in levels:
        if filled == most:
            break
        count, price = min(available, most - filled), exact(price)
        if count > 0 and not band.holds(price):
            return BookFill(filled, value, taken, band.reason)
        better = 0 if average is None else price - average if band.side == "bids" else average - price
        fitting = count if better >= 0 else min(count, math.floor(Fraction(surplus) / -better))
        filled, value, surplus = filled + fitting, value + worth(fitting, price), surplus + fitting * better
        taken.append(fitting)
        if fitting < count:
            return BookFill(filled, value, taken, "slippage")
    if filled < most:
        return BookFill(filled, value, taken, "depth")
    return BookFill(filled, value, taken, next(why for why, room in [("full", lots), *rooms] if room == filled))


def slice_lots(venue: Venue, market: Market, lots: int, lot_value: Fraction) -> int:
    """`s0`: the lots of one slice of a position (3 Book, Policy size)."""
    size, share = abs(lots), venue.policy["slice_fraction"]
    wanted = max(size * share.numerator // share.denominator, least_lots(venue, lot_value))
    return no_small_rest(market, size, min(wanted, size))


def no_small_rest(market: Market, size: int, lots_of_slice: int) -> int:
    """The slice, or the whole position if less than `minQuantity` would be left (3 Book)."""
    return size if size - lots_of_slice < market.minimum_lots else lots_of_slice


def least_lots(venue: Venue, lot_value: Fraction) -> int:
    """The lots of the smallest slice (3 Book)."""
    return max(math.ceil(venue.policy["min_slice_notional"] / lot_value), 1)
