"""The worst price that a taker may trade at on each side of each book."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from ..._limits import AMOUNT_LIMIT
from ..._typing import Bool, Int
from ...boundary import units
from ...kernels.guards import MARK_UNIT, PREMIUM_UNIT
from ...venue import Venue
from ..books import Books
from ..prices import Prices
from .books import _best
from .state import GuardState

BAND_NAMES = ("impact", "mean_mark", "mean_premium", "limit", "conversion")
NO_BAND = AMOUNT_LIMIT


def bands(
    venue: Venue, guard_state: GuardState, prices: Prices, books: Books, used: Bool | None = None
) -> tuple[Int, Int]:
    """Return bounds of a taker's price on each side of each book.

    Parameters
    ----------
    venue : Venue
        The rules.
    guard_state : GuardState
        State after the guards of this tick.
    prices, books : Prices, Books
        Those of the tick, guarded.
    used : ndarray of bool, shape (B,), optional
        Books that are to have bands; all by default.

    Returns
    -------
    bound : ndarray of int64, shape (2B,)
        Worst price in ticks that may still be taken; 0 (bids) or 2**62 (asks) where there is no band, on a side without
        a level, and in a book that is not used.
    code : ndarray of int64, shape (2B,)
        The band that binds, an index into `BAND_NAMES`; 0 where there is none.

    Notes
    -----
    The rule: docs/one_tick.md, "Bands".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import BAND_NAMES, GuardState, bands
    >>> from riskcore.sample import venue_source
    >>> venue = rc.load_venue(venue_source([]))
    >>> book = {"bids": [(194.99, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
    >>> prices, books = rc.Prices.incomplete(venue, tick), tick.columnar_books(venue)
    >>> bound, code = bands(venue, GuardState.opening(venue), prices, books)
    >>> bound[4:6].tolist(), [BAND_NAMES[c] for c in code[4:6]]
    ([19305, 19695], ['impact', 'impact'])
    """
    listing, markets = venue.listing, len(venue.markets.symbol)
    bound = np.tile(np.array([0, NO_BAND]), len(listing.symbol))
    code = np.zeros_like(bound)
    bid, ask = (best.tolist() for best in _best(books))
    has_levels = np.diff(books.offset).reshape(-1, 2).any(axis=1)
    for b in np.flatnonzero(has_levels if used is None else has_levels & used).tolist():
        best = bid[b], ask[b]
        if b < markets:
            last = _exact(prices.last[b], listing.tick[b])
            others = _mean_bands(venue, guard_state, prices, b)
        else:
            last, others = None, _conversion_band(venue, prices, b - markets)
        active = _median([price for price in (*best, last) if price])
        impact = listing.min_impact[b], listing.max_impact[b]
        limit = listing.min_multiplier[b], listing.max_multiplier[b]
        for side in (0, 1):  # bids, asks
            if best[side]:
                mean_mark, mean_premium, conversion = others[side]
                edges = [
                    _product(best[side], impact[side]), mean_mark, mean_premium, _product(active, limit[side]),
                    conversion,
                ]  # fmt: skip
                inside = math.floor if side else math.ceil
                ticks = {kind: inside(edge) for kind, edge in enumerate(edges) if edge is not None}
                if ticks:
                    tightest = (min if side else max)(ticks, key=ticks.__getitem__)  # the first of equal ones
                    bound[2 * b + side] = min(max(ticks[tightest], 0), NO_BAND)
                    code[2 * b + side] = tightest
    return bound, code


_Edges: TypeAlias = tuple[Fraction | None, Fraction | None, Fraction | None]


def _mean_bands(venue: Venue, guard_state: GuardState, prices: Prices, m: int) -> tuple[_Edges, _Edges]:
    """Edges of a perpetual's bands around the means, below and above, in ticks."""
    markets = venue.markets
    mark = guard_state._mean(0, m) if guard_state.count[0, m] or not np.isnan(prices.mark[m]) else None
    if mark is not None:
        mark /= MARK_UNIT
    index, tolerance = _exact(prices.index[m], markets.tick[m]), markets.premium_tolerance[m]
    premium = guard_state._mean(1, m)
    below = above = None
    if index is not None and premium is not None and tolerance is not None:
        mean = 1 + premium / PREMIUM_UNIT
        below, above = index * (mean - tolerance), index * (mean + tolerance)
    low, high = _product(mark, markets.mean_mark_low[m]), _product(mark, markets.mean_mark_high[m])
    return (low, below, None), (high, above, None)


def _conversion_band(venue: Venue, prices: Prices, row: int) -> tuple[_Edges, _Edges]:
    """Edges of a spot market's band around the price of its asset, below and above, in ticks."""
    price = _exact(prices.asset[venue.spots.asset[row]], venue.spots.tick[row])
    slip = venue.policy.conversion_slippage
    return (None, None, _product(price, 1 - slip)), (None, None, _product(price, 1 + slip))


def _exact(price: np.float64, tick: Fraction) -> Fraction | None:
    """Return the price that the user wrote, in ticks; None for NaN."""
    return None if np.isnan(price) else units.exact(float(price)) / tick


def _product(price: Fraction | int | None, multiplier: Fraction | None) -> Fraction | None:
    return None if price is None or multiplier is None else price * multiplier


def _median(values: Sequence[Fraction | int]) -> Fraction:
    ordered = sorted(values)
    middle, even = divmod(len(ordered), 2)
    return Fraction(ordered[middle] if even else (ordered[middle - 1] + ordered[middle]) / Fraction(2))
