"""The order books of a tick that the guards accept, and their refill."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..._typing import Bool, Float, Int
from ...venue import Venue
from ..books import Books
from ..reading import no_prices

_SECOND = 1_000_000_000


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
    return (books.chosen(~bad[books.level_sides() // 2]) if refused else books), bad, refused


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
        none = no_prices(len(size))
        return none, none
    bid, ask = (np.where(best == 0, np.nan, size * best) for best in (side[: len(size)] for side in _best(books)))
    return bid, ask


@dataclass
class BookMemory:
    """The levels that takers may still take: the books given last, and the lots consumed of them.

    Attributes
    ----------
    books : Books
        Books given last, without those that were refused; L levels.
    consumed_lots : ndarray of int64, shape (L,)
        Lots consumed of each level; 0 of books that do not refill.
    decay_time : int
        Time at which the consumed lots decayed last, nanoseconds; 0 if never.
    half_life : float or None
        Seconds in which half of the consumed lots come back; None: the books are whole again at every instant.
    is_offered : ndarray of bool, shape (L,)
        Levels that were offered last.

    Notes
    -----
    The rules: docs/one_tick.md, "Refill".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import BookMemory
    >>> BookMemory.opening(rc.load_venue("backpack")).consumed_lots.tolist()
    []
    """

    books: Books
    consumed_lots: Int
    decay_time: int
    half_life: float | None
    is_offered: Bool

    @classmethod
    def opening(cls, venue: Venue) -> BookMemory:
        """Return the memory before the first tick.

        Parameters
        ----------
        venue : Venue
            The rules.

        Returns
        -------
        BookMemory
            Without levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import BookMemory
        >>> BookMemory.opening(rc.load_venue("backpack")).half_life is None
        True
        """
        half_life = venue.policy.refill_half_life
        return cls._of(Books.empty(venue), 0, None if half_life is None else float(half_life))

    @classmethod
    def _of(cls, books: Books, time: int, half_life: float | None) -> BookMemory:
        return cls(books, np.zeros_like(books.lots), time, half_life, np.ones(len(books.lots), bool))

    @property
    def is_refilling(self) -> bool:
        """Whether lots that takers have taken are still to come back."""
        return bool(self.consumed_lots.any())

    def decay(self, time: int) -> None:
        """Let the consumed lots come back up to a time.

        Parameters
        ----------
        time : int
            Nanoseconds.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import BookMemory
        >>> memory = BookMemory.opening(rc.load_venue("backpack"))
        >>> memory.decay(10**9)
        >>> memory.decay_time
        1000000000
        """
        if self.half_life is not None and self.consumed_lots.any():
            part_left = 0.5 ** ((time - self.decay_time) / _SECOND / self.half_life)
            self.consumed_lots = np.floor(self.consumed_lots * part_left).astype(np.int64)
        self.decay_time = time

    def offered(self, is_open: Bool, shift: Int | None = None, seen: Int | None = None) -> Books:
        """Return the levels that are offered: those given last, less what is consumed.

        Parameters
        ----------
        is_open : ndarray of bool, shape (B,)
            Whether each book fills orders.
        shift : ndarray of int64, shape (B,), optional
            Ticks by which the levels of each book have moved since; a level below one tick does not exist.
        seen : ndarray of int64, shape (B,), optional
            When each book was seen, nanoseconds.

        Returns
        -------
        Books
            The levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import BookMemory
        >>> venue = rc.load_venue("backpack")
        >>> BookMemory.opening(venue).offered(venue.listing.takes_orders)
        Books(0 levels in 0 markets)
        """
        price, book = self.books.price, self.books.level_sides() // 2
        if shift is not None:
            price = price + shift[book]
        self.is_offered = (self.consumed_lots < self.books.lots) & (price >= 1) & is_open[book]
        time = self.books.time if seen is None else seen
        left = replace(self.books, price=price, lots=self.books.lots - self.consumed_lots, time=time)
        return left.chosen(self.is_offered)

    def record(self, left: Int) -> None:
        """Add the lots that takers took of the levels offered last to the lots consumed, of books that refill.

        Parameters
        ----------
        left : ndarray of int64
            Lots left of each of these levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState, guard
        >>> venue = rc.load_venue("backpack").replace(policy={"refill_half_life": 10})
        >>> book = {"bids": [(194.99, 1.0)], "asks": [(195.0, 1.0)]}
        >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
        >>> books, time = tick.columnar_books(venue), tick.nanoseconds()
        >>> guarded = guard(venue, GuardState.opening(venue), None, time, rc.Prices.incomplete(venue, tick), books)
        >>> memory = guarded.guard_state.book_memory
        >>> memory.record(guarded.books.lots - [40, 0])
        >>> memory.consumed_lots.tolist()
        [40, 0]
        """
        if self.half_life is not None:
            self.consumed_lots[self.is_offered] = self.books.lots[self.is_offered] - left

    def followed_by(self, books: Books, refused: Bool, time: int) -> BookMemory:
        """Return the memory of the next tick; this one stays as it is.

        Parameters
        ----------
        books : Books
            Books of the tick, without those that were refused.
        refused : ndarray of bool, shape (B,)
            Whether each book was refused; it is dropped.
        time : int
            Time of the tick, nanoseconds.

        Returns
        -------
        BookMemory
            The levels given in the tick. Of books that refill, a market without levels in the tick, or with exactly
            those given last, goes on with the levels given last.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market.guards import BookMemory
        >>> venue = rc.load_venue("backpack")
        >>> BookMemory.opening(venue).followed_by(rc.Books.empty(venue), np.zeros(4, bool), 10**9).decay_time
        0
        """
        if not (books.price.size or self.books.price.size):
            return self
        after = self._of(books, time, self.half_life)
        if self.half_life is None:
            return after
        before = replace(self)
        before.decay(time)
        kept, consumed_lots = before.books, before.consumed_lots
        if refused.any():
            is_kept = ~refused[kept.level_sides() // 2]
            kept, consumed_lots = kept.chosen(is_kept), consumed_lots[is_kept]
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
        after.books, after.consumed_lots, after.is_offered = kept, consumed_lots.copy(), np.ones(len(kept.lots), bool)
        return after


def _offset(side: Int, books: Books) -> Int:
    return np.searchsorted(side, np.arange(len(books.offset)))


def _repeated(kept: Books, books: Books) -> Bool:
    """Whether each book has exactly the levels that were given last, on both sides."""
    same: Bool = (np.diff(kept.offset) == np.diff(books.offset)).reshape(-1, 2).all(axis=1)
    side = kept.level_sides()
    ours, theirs = same[side // 2], same[books.level_sides() // 2]
    differs = (kept.price[ours] != books.price[theirs]) | (kept.lots[ours] != books.lots[theirs])
    same[side[ours][differs] // 2] = False
    return same
