"""The order books of a tick that the guards accept, and their refill."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..._typing import Bool, Float, Int
from ...venue import Venue
from ..books import Books
from ..reading import no_prices
from .state import _SECOND, GuardState, _offset


def _chosen(books: Books, level: Bool) -> Books:
    """Books of the chosen levels alone."""
    if level.all():
        return books
    offset = np.concatenate([[0], np.cumsum(level)])[books.offset]
    return replace(books, offset=offset, price=books.price[level], lots=books.lots[level])


_Refused: TypeAlias = list[tuple[int, int, float]]  # book row, kind (an index into `REASONS`), price update


def _accepted(venue: Venue, books: Books, time: int) -> tuple[Books, Bool, _Refused]:
    """Books without the closed, too old and crossed ones; whether each book is refused; the refusals."""
    if not books.price.size:
        return books, np.zeros(len(books.time), bool), []
    levels = np.diff(books.offset).reshape(-1, 2)
    closed = ~venue.listing.takes_orders & levels.any(axis=1)
    age = time - books.time
    stale = (books.time != 0) & (age > venue.policy.stale_nanoseconds) & levels.any(axis=1) & ~closed
    bid, ask = _best(books)
    crossed = levels.all(axis=1) & (ask <= bid) & ~stale & ~closed
    kinds = enumerate((closed, stale, crossed))
    refused = [(b, kind, math.nan) for kind, rows in kinds for b in np.flatnonzero(rows).tolist()]
    bad = closed | stale | crossed
    return (_chosen(books, ~bad[books.level_sides() // 2]) if refused else books), bad, refused


def two_sided(venue: Venue, books: Books, time: int) -> Bool:
    """Return whether each market has a book with both sides in a tick, and one that is not refused.

    Parameters
    ----------
    venue : Venue
        The rules.
    books : Books
        Books of the tick.
    time : int
        Time of the tick, nanoseconds.

    Returns
    -------
    ndarray of bool, shape (M,)
        By market row.

    Notes
    -----
    The rule: docs/one_tick.md, "Book".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import two_sided
    >>> venue = rc.load_venue("backpack")
    >>> book = {"bids": [(194.99, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {}, {"SOL_USDC_PERP": book})
    >>> two_sided(venue, tick.columnar_books(venue), tick.nanoseconds()).tolist()
    [False, False, True, False]
    """
    accepted = _accepted(venue, books, time)[0]
    sides: Bool = np.diff(accepted.offset).reshape(-1, 2)[: len(venue.markets.symbol)] > 0
    return np.asarray(sides.all(axis=1))


def _best(books: Books) -> tuple[Int, Int]:
    """Best price of the bids and of the asks of each book row in ticks, 0 where there is none."""
    empty = np.diff(books.offset) == 0
    best = np.where(empty, 0, np.append(books.price, 0)[books.offset[:-1]])
    return best[0::2], best[1::2]


def _touch(venue: Venue, books: Books) -> tuple[Float, Float]:
    """Best bid and ask of each market, NaN where there is none."""
    size = venue.markets.tick_size
    if not books.price.size:
        return no_prices(len(size)), no_prices(len(size))
    bid, ask = (np.where(best == 0, np.nan, size * best) for best in (side[: len(size)] for side in _best(books)))
    return bid, ask


def _refilled(
    venue: Venue, guard_state: GuardState, after: GuardState, time: int, books: Books, refused: Bool
) -> Books:
    """Levels left of the books given last; ``after`` keeps these books and their consumed lots.

    A refused book is dropped.
    """
    assert guard_state.books is not None
    assert venue.policy.refill_half_life is not None
    kept, consumed_lots = guard_state.books, guard_state.consumed_lots.copy()  # `record_fills` writes into it
    if consumed_lots.any():
        part_left = 0.5 ** ((time - guard_state.decay_time) / _SECOND / float(venue.policy.refill_half_life))
        consumed_lots = np.floor(consumed_lots * part_left).astype(np.int64)
    if refused.any():
        is_kept = ~refused[kept.level_sides() // 2]
        kept, consumed_lots = _chosen(kept, is_kept), consumed_lots[is_kept]
    if books.price.size:
        is_repeated = _repeated(kept, books) | ~np.diff(books.offset).reshape(-1, 2).any(axis=1)
        old, new = kept.level_sides(), books.level_sides()
        goes_on, begins = is_repeated[old // 2], ~is_repeated[new // 2]
        side = np.concatenate([old[goes_on], new[begins]])
        order = np.argsort(side, kind="stable")

        def merged(ours: Int, theirs: Int) -> Int:
            return np.concatenate([ours[goes_on], theirs[begins]])[order]

        consumed_lots = merged(consumed_lots, np.zeros_like(books.lots))
        price, lots = merged(kept.price, books.price), merged(kept.lots, books.lots)
        kept = Books(_offset(side[order], kept), price, lots, np.zeros_like(kept.time))
    after.books, after.consumed_lots = kept, consumed_lots
    effective = _chosen(kept, consumed_lots < kept.lots)
    return replace(effective, lots=(kept.lots - consumed_lots)[consumed_lots < kept.lots], time=books.time)


def _repeated(kept: Books, books: Books) -> Bool:
    """Whether each book has exactly the levels that were given last, on both sides."""
    same: Bool = (np.diff(kept.offset) == np.diff(books.offset)).reshape(-1, 2).all(axis=1)
    side = kept.level_sides()
    ours, theirs = same[side // 2], same[books.level_sides() // 2]
    differs = (kept.price[ours] != books.price[theirs]) | (kept.lots[ours] != books.lots[theirs])
    same[side[ours][differs] // 2] = False
    return same


def record_fills(guard_state: GuardState, books: Books, left: Int) -> None:
    """Add the lots that takers took of each level of the tick's books to the lots consumed, once a tick.

    Only books that refill keep a record of that.

    Parameters
    ----------
    guard_state : GuardState
        State after the guards of this tick; its ``consumed_lots`` change.
    books : Books
        Books of the tick, guarded.
    left : ndarray of int64, shape (L,)
        Lots left of each level.

    Notes
    -----
    The rule: docs/one_tick.md, "Refill".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState, guard, record_fills
    >>> venue = rc.load_venue("backpack").replace(policy={"refill_half_life": 10})
    >>> book = {"bids": [(194.99, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
    >>> books, time = tick.columnar_books(venue), tick.nanoseconds()
    >>> guarded = guard(venue, GuardState.opening(venue), None, time, rc.Prices.incomplete(venue, tick), books)
    >>> record_fills(guarded.guard_state, guarded.books, guarded.books.lots - [40, 0])
    >>> guarded.guard_state.consumed_lots.tolist()
    [40, 0]
    """
    assert guard_state.books is not None
    guard_state.consumed_lots[guard_state.consumed_lots < guard_state.books.lots] += books.lots - left
