"""The guarded marks and indexes of a tick: derived, clamped and capped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..._typing import Bool, Float
from ...boundary import RiskDataError
from ...kernels import guards as kernels
from ...kernels.guards import INDEX, MARK
from ...venue import Venue
from ..books import Books
from ..prices import Prices
from .books import _accepted, _refilled, _touch
from .state import _SECOND, GuardState

REASONS = ("closed_book", "stale_book", "crossed_book", "index_update_cap", "mark_held", "index_clamp", "update_cap")
_FIRST_UPDATE_REASON = REASONS.index("index_update_cap")  # from here on the kernel gives the reason


class Refusal(NamedTuple):
    """A rejected book or price update: reason, book row (market m, or M + spot row), price (NaN for a book)."""

    reason: str
    book: int
    price: float


@dataclass
class Guarded:
    """Marks, indexes and books of a tick that count.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
        Settle units; NaN where there is none.
    asset : ndarray of float64, shape (K,)
        Prices of the assets that have one of their own, settle units; NaN for the others.
    books : Books
        Levels that count: without those of refused books, with lots that were refilled.
    refusals : list of Refusal
        By book row, then in the order of `REASONS`.
    guard_state : GuardState
        State after this tick.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState, guard
    >>> venue = rc.load_venue("backpack")
    >>> crossed = {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": crossed})
    >>> books, time = tick.columnar_books(venue), tick.nanoseconds()
    >>> guarded = guard(venue, GuardState.opening(venue), None, time, rc.Prices.incomplete(venue, tick), books)
    >>> [refusal.reason for refusal in guarded.refusals], len(guarded.books.price), guarded.mark.tolist()
    (['crossed_book'], 0, [nan, nan, 195.0, nan])
    """

    mark: Float
    index: Float
    asset: Float
    books: Books
    refusals: list[Refusal]
    guard_state: GuardState


def guard(
    venue: Venue, guard_state: GuardState, before: int | None, time: int, prices: Prices, books: Books
) -> Guarded:
    """Guard the price updates and books of a tick.

    Parameters
    ----------
    venue : Venue
        The rules.
    guard_state : GuardState
        State after the tick before; it stays as it is.
    before : int or None
        Time of that tick, nanoseconds; None at the first one.
    time : int
        Time of this tick, nanoseconds.
    prices, books : Prices, Books
        Prices and books as the tick has them.

    Returns
    -------
    Guarded
        Marks, indexes and books that count, the refusals, and the state after the tick.

    Raises
    ------
    RiskDataError
        A mark is 10**13 ticks or more, or 10**4 times its index.

    Notes
    -----
    The rules: docs/one_tick.md, "Guards".

    Examples
    --------
    A mark more than 5 % above its index is clamped to that distance.

    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState, guard
    >>> venue = rc.load_venue("backpack")
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 220.0}, indexes={"SOL_USDC_PERP": 200.0})
    >>> given, none = rc.Prices.incomplete(venue, tick), rc.Books.empty(venue)
    >>> guarded = guard(venue, GuardState.opening(venue), None, tick.nanoseconds(), given, none)
    >>> guarded.mark.round(6).tolist(), [refusal.reason for refusal in guarded.refusals]
    ([nan, nan, 210.0, nan], ['index_clamp'])
    """
    markets, policy = venue.markets, venue.policy
    books, bad, refusals = _accepted(venue, books, time)
    bid, ask = _touch(venue, books)
    count = len(markets.symbol)
    used, price = np.empty((2, count)), np.empty((3, count))
    stamp, sample = np.empty((3, count), np.int64), np.empty((2, count), np.int64)
    refused, updates, too_large = np.empty((count, 4), bool), np.empty((count, 4)), np.empty((2, count), bool)
    kernels.guard_updates(
        time, policy.stale_nanoseconds, policy.clamp, markets.min_update, markets.max_update, prices.given_mark,
        prices.given_index, prices.last, bid, ask, guard_state.price, guard_state.time, used, price, stamp, refused,
        updates,
    )  # fmt: skip
    kernels.sample_prices(markets.tick_size, used, guard_state.sample, sample, too_large)
    if np.count_nonzero(too_large):
        raise _not_a_sample(venue, used, too_large)
    if np.count_nonzero(refused):
        rows, kinds = np.nonzero(refused)
        rejected = zip(rows.tolist(), kinds.tolist(), updates[rows, kinds].tolist(), strict=True)
        refusals += [(row, _FIRST_UPDATE_REASON + kind, update) for row, kind, update in rejected]
    asset = prices.given_asset
    asset_own = ~np.isnan(asset)
    asset_price = np.where(asset_own, asset, guard_state.asset_price)
    after = GuardState(
        price=price,
        time=stamp,
        sample=sample,
        asset_price=asset_price,
        asset_time=np.where(asset_own, time, guard_state.asset_time),
        asset_own=asset_own,
        second=time // _SECOND,
        samples=guard_state.sampled(before, time, sample, asset_price),
        books=books,
        consumed_lots=np.zeros_like(books.lots),
        decay_time=time,
    )
    if policy.refill_half_life is not None:
        books = _refilled(venue, guard_state, after, time, books, bad)
    elif policy.liquidation_interval is None:
        after.books, after.consumed_lots = None, guard_state.consumed_lots
    in_order = [Refusal(REASONS[kind], row, update) for row, kind, update in sorted(refusals)]
    return Guarded(used[MARK], used[INDEX], asset, books, in_order, after)


def _not_a_sample(venue: Venue, used: Float, too_large: Bool) -> RiskDataError:
    """Error of the first mark, or else the first premium, that is too large for a sample."""
    which, m = (int(indices[0]) for indices in np.nonzero(too_large))
    if used[MARK, m] <= 0.0:
        rule = "must be > 0, and the index plus the basis is not"
        return RiskDataError("marks", venue.markets.symbol[m], rule, value=float(used[MARK, m]))
    table, rule = (
        ("marks", "must be less than 10**13 ticks"), ("indexes", "must be more than 1/10**4 of the mark")
    )[which]  # fmt: skip
    return RiskDataError(table, venue.markets.symbol[m], rule, value=float(used[which, m]))
