"""Rules of a price update, its samples, and the price band of an order."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .numbers import INFINITY, SECOND
from .venue import Market

WINDOW = 300  # seconds of samples


def power(multiplier: Fraction, exponent: int) -> float:
    """`multiplier ** n` in float64 (Guards)."""
    try:
        return float(multiplier) ** float(exponent)
    except OverflowError:
        return INFINITY


def capped(market: Market, update: float, previous: float | None, elapsed: int) -> float:
    """A price update within the cap of the one before it, `elapsed` ns ago (Guards)."""
    if previous is not None:
        lowest, highest = market.update
        seconds = max(1, elapsed // SECOND)
        if lowest is not None:
            update = max(update, previous * power(lowest, seconds))
        if highest is not None:
            update = min(update, previous * power(highest, seconds))
    return update


def mark_sample(market: Market, mark: float) -> int:
    """The sample of a mark, in thousandths of a tick (Samples)."""
    ticks = mark / float(market.tick_size)
    if ticks >= 10**13:
        raise ValueError(f"{market.symbol}: a mark of {ticks} ticks")
    return round(ticks * 10.0**3)


def premium_sample(mark: float, index: float | None) -> int | None:
    """The sample of a premium, in 10^-12 (Samples)."""
    if index is None:
        return None
    premium = (mark - index) / index
    if premium >= 10**4:
        raise ValueError(f"a premium of {premium}")
    return round(premium * 10.0**12)


def samples(used, time_ns: int) -> dict:
    """The samples of a market in `(t - 300 s, t]`: second: (mark, premium or None) (Samples)."""
    result, last, times = {}, time_ns // SECOND, [time for time, *_ in used]
    for second in range(last - WINDOW + 1, last + 1):
        before = bisect_right(times, second * SECOND)
        if second * SECOND > time_ns - WINDOW * SECOND and before and used[before - 1][1] is not None:
            result[second] = used[before - 1][1:]
    return result


def mean_of(values, last):
    """The mean of samples; without any, the sample of the tick (Samples)."""
    values = [sample for sample in values if sample is not None]
    return Fraction(sum(values), len(values)) if values else last


@dataclass(frozen=True)
class Band:
    """The worst price of a sale into the bids, or of a purchase from the asks, and why (Guards)."""

    side: str
    price: Any = None
    reason: str = ""

    def holds(self, price) -> bool:
        """Whether the band lets an order fill at a price."""
        if self.price is None:
            return True
        return price >= self.price if self.side == "bids" else price <= self.price


def tightest(side: str, tick_size: Fraction, bounds) -> Band:
    """The band of bounds {reason: price or None}, in whole ticks inside them (Guards)."""
    band = Band(side)
    for reason, bound in bounds.items():
        if bound is not None:
            inside = (math.ceil if side == "bids" else math.floor)(bound / tick_size) * tick_size
            if band.price is None or (inside > band.price if side == "bids" else inside < band.price):
                band = Band(side, inside, reason)
    return band
