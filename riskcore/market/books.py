"""Order books of a tick in whole ticks and lots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from .._limits import EXACT_LIMIT, INT64_MAX, INT64_MIN, TOTAL_LIMIT
from .._typing import Bool, Int
from ..boundary import RiskDataError, counted, schemas, timestamps, units
from ..kernels.guards import (
    LEVEL_HIGH,
    LEVEL_LOTS,
    LEVEL_LOW,
    LEVEL_OFFSET,
    LEVEL_ORDER,
    LEVEL_VALID,
    LEVEL_VALUE,
    first_wrong_level,
)
from ..venue import Units, Venue

_NO_TIME = INT64_MIN
"""NaT as a whole number."""


@dataclass(frozen=True)
class Books:
    """Order books of one tick in whole ticks and lots; side 2b is the bids of book row b, 2b + 1 its asks.

    Book rows are those of `Venue.listing`: the markets, and then the spot markets (B rows).

    Attributes
    ----------
    offset : ndarray of int64, shape (2B + 1,)
        Side s owns levels ``offset[s]:offset[s + 1]``, best first.
    price, lots : ndarray of int64, shape (L,)
        Price in ticks, lots > 0.
    time : ndarray of int64, shape (B,)
        When a book was seen, nanoseconds; 0 for one that was given without a time of its own, or not given.
    units : Units or None
        Units of the whole numbers, where the books were read with a venue.

    Examples
    --------
    A book of one market from NumPy arrays, without a frame: the third of four markets has 2 bids and 1 ask.

    >>> import numpy as np
    >>> import riskcore as rc
    >>> offset = np.array([0, 0, 0, 0, 0, 2, 3, 3, 3])
    >>> price, lots = np.array([19499, 19498, 19500]), np.array([100_000, 50_000, 100_000])
    >>> books = rc.Books(offset, price, lots, np.zeros(4, np.int64))
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, books)
    >>> len(tick.columnar_books(rc.load_venue("backpack")).price)
    3
    """

    offset: Int
    price: Int
    lots: Int
    time: Int
    units: Units | None = None

    def __repr__(self) -> str:
        """One line: levels, and the markets that have any."""
        levels = np.diff(self.offset).reshape(-1, 2).sum(axis=1)
        return f"Books({counted(levels.sum(), 'level')} in {counted((levels > 0).sum(), 'market')})"

    def checked(self, venue: Venue, time: int) -> Books:
        """Return these books, checked and in arrays that nobody else writes to.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        time : int
            Time of the tick, nanoseconds.

        Returns
        -------
        Books
            The same books, with the venue's units.

        Raises
        ------
        RiskDataError
            They are of a venue of other units, an array is not of its shape, or a level breaks a rule of `from_frame`.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> venue = rc.load_venue("backpack")
        >>> offset, none = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]), np.zeros(4, np.int64)
        >>> rc.Books(offset, np.array([19499]), np.array([-5]), none).checked(venue, 1_760_130_000_000_000_000)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: books.lots, row SOL_USDC_PERP bid 0, value -5: must be at least one ...
        """
        if self.units is not None:
            self.units.must_fit(venue.book_units, "books")
        listing = venue.listing
        offset, price, lots, seen = (_copied_whole(n, getattr(self, n)) for n in ("offset", "price", "lots", "time"))
        books = Books(offset, price, lots, seen, venue.book_units)
        for name, array, size in (
            ("offset", books.offset, 2 * len(listing.symbol) + 1),
            ("lots", books.lots, len(books.price)),
            ("time", books.time, len(listing.symbol)),
        ):
            if len(array) != size:
                raise RiskDataError("books", name, f"must be {size} whole numbers, not {len(array)}")
        limits = listing.max_ticks, *listing.side_limits
        side, level, fault = first_wrong_level(books.offset, books.price, books.lots, *limits)
        if fault != LEVEL_VALID:
            column, rule = _LEVEL_RULES[fault]
            if fault == LEVEL_HIGH:
                rule = listing.too_high(side // 2)
            where = f"{listing.symbol[side // 2]} {'ask' if side % 2 else 'bid'}"
            if fault != LEVEL_OFFSET:
                where += f" {level - int(books.offset[side])}"
            value = books.offset[side + 1] if fault == LEVEL_OFFSET else getattr(books, column)[level]
            raise RiskDataError("books", column, rule, row=where, value=int(value))
        late = np.flatnonzero(books.time > time)
        if late.size:
            book, rule = late[0], "must not be later than the tick"
            value = timestamps.moment(int(books.time[book]))
            raise RiskDataError("books", "time", rule, row=listing.symbol[book], value=value)
        return books

    @classmethod
    def from_frame(cls, venue: Venue, frame: pd.DataFrame, time: int, *, unit: str = "ns") -> Books:
        """Read the books of one tick.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        frame : DataFrame
            market, side (bid, ask), level (0 is the best), price (settle units), quantity (base units), and perhaps
            book_time.
        time : int
            Time of the tick, nanoseconds.
        unit : {"ns", "us", "ms", "s"}
            Of whole numbers in the frame's times.

        Returns
        -------
        Books
            Books of all markets and spot markets.

        Raises
        ------
        RiskDataError
            A level is not whole in ticks or lots, a side is unsorted, a book has two times or one after ``time``.

        Notes
        -----
        The rules: docs/one_tick.md, "Book" and "Ranges".

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> frame = pd.DataFrame({"side": ["bid", "ask"], "price": [194.99, 195.0]})
        >>> frame = frame.assign(market="SOL_USDC_PERP", level=0, quantity=9.0)
        >>> books = rc.Books.from_frame(rc.load_venue("backpack"), frame, 1_760_130_000_000_000_000)
        >>> books.price.tolist(), books.lots.tolist()
        ([19499, 19500], [900, 900])
        """
        own_clock = timestamps.has_own_clock(time)
        timed = frame if "time" in frame.columns else frame.assign(time=pd.Timestamp(time, tz="UTC"))
        table = schemas.checked("books", timed, unit=unit, own_clock=own_clock)
        return cls.split(venue, table)[0][1]

    @classmethod
    def split(cls, venue: Venue, table: pd.DataFrame) -> list[tuple[int, Books]]:
        """Read a checked table of books of many ticks.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        table : DataFrame
            As of `from_frame`, with the column time; nanoseconds, ranges and types are checked already.

        Returns
        -------
        list of tuple of int and Books
            A pair of time (nanoseconds) and books for each time, ascending.

        Raises
        ------
        RiskDataError
            As of `from_frame`.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> start = 1_760_130_000_000_000_000
        >>> level = {"market": "SOL_USDC_PERP", "side": "bid", "level": 0, "price": [194.99, 193.99], "quantity": 9.0}
        >>> table = pd.DataFrame(level | {"time": [start, start + 60 * 10**9]})
        >>> [(time - start, books.price.tolist()) for time, books in rc.Books.split(rc.load_venue("backpack"), table)]
        [(0, [19499]), (60000000000, [19399])]
        """
        listing = venue.listing
        market = schemas.codes("books", "market", table["market"], listing.symbol, "a market")
        prices, quantities = table["price"].to_numpy(), table["quantity"].to_numpy()
        rule = "must be a whole number of {} of the market's {}"
        price = units.whole_multiples(
            "books", "price", prices, listing.tick_size[market], rule.format("ticks", "tickSize")
        )
        lots = units.whole_multiples(
            "books", "quantity", quantities, listing.step_size[market], rule.format("lots", "stepSize")
        )
        for column, values, fits, rule in (
            ("price", prices, price >= 1, "must be at least one tick"),
            ("quantity", quantities, lots >= 1, "must be at least one lot"),
            ("quantity", quantities, lots < EXACT_LIMIT, "must be less than 2**53 lots"),
        ):
            bad = np.flatnonzero(~fits)
            if bad.size:
                raise RiskDataError("books", column, rule, row=int(bad[0]), value=values[bad[0]])
        bad = np.flatnonzero(price > listing.max_ticks[market])
        if bad.size:
            row = int(bad[0])
            raise RiskDataError("books", "price", listing.too_high(market[row]), row=row, value=prices[row])
        stamp = table["time"].to_numpy(np.int64)
        seen = table["book_time"].to_numpy(np.int64) if "book_time" in table.columns else np.zeros_like(stamp)
        bid = table["side"].to_numpy(object) == "bid"
        side = 2 * market + np.where(bid, 0, 1)
        order = np.lexsort((table["level"].to_numpy(), side, stamp))
        stamp, side, price, lots, bid, seen = (column[order] for column in (stamp, side, price, lots, bid, seen))

        same_time = np.diff(stamp) == 0
        worse = np.where(bid[1:], np.diff(price) < 0, np.diff(price) > 0)
        bad = np.flatnonzero(same_time & (np.diff(side) == 0) & ~worse)
        if bad.size:
            row = int(order[bad[0] + 1])
            raise RiskDataError(
                "books", "price", "must get worse from level to level (an unsorted book)", row=row, value=prices[row]
            )
        first = np.flatnonzero(np.r_[True, ~(same_time & (np.diff(side) == 0))]) if len(side) else np.empty(0, np.int64)
        if first.size:
            side_lots, book = np.add.reduceat(lots.astype(float), first), side[first] // 2
            unit, most_lots = listing.side_limits
            deepest = side_lots * np.maximum.reduceat(price, first) * unit[book]
            bad = np.flatnonzero((deepest >= TOTAL_LIMIT) | (side_lots >= most_lots[book]))
            if bad.size:
                row = int(order[first[bad[0]]])
                rule = f"{_SIDE_VALUE}, and than 2**61 ticks"
                raise RiskDataError("books", "quantity", rule, row=row, value=quantities[row])
        for bad, rule in (
            (np.flatnonzero(seen > stamp), "must not be later than the tick"),
            (
                1 + np.flatnonzero(same_time & (np.diff(side // 2) == 0) & (np.diff(seen) != 0)),
                "must be the same for all levels of a book",
            ),
        ):
            if bad.size:
                value = timestamps.moment(int(seen[bad[0]])) if seen[bad[0]] else "none"
                raise RiskDataError("books", "book_time", rule, row=int(order[bad[0]]), value=value)

        moments, starts = np.unique(stamp, return_index=True)
        edges = np.append(starts, len(stamp))
        sides = np.arange(2 * len(listing.symbol) + 1)
        pairs = []
        for moment, start, end in zip(moments, edges[:-1], edges[1:], strict=True):
            time = np.zeros(len(listing.symbol), np.int64)
            time[side[start:end] // 2] = seen[start:end]
            offset = np.searchsorted(side[start:end], sides)
            pairs.append((int(moment), cls(offset, price[start:end], lots[start:end], time, venue.book_units)))
        return pairs

    @classmethod
    def empty(cls, venue: Venue) -> Books:
        """Return books without a level in any market.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.

        Returns
        -------
        Books
            B books of 0 levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> len(rc.Books.empty(rc.load_venue("backpack")).price)
        0
        """
        return _no_books(len(venue.book_symbols))

    def chosen(self, level: Bool) -> Books:
        """Return books of some levels alone.

        Parameters
        ----------
        level : ndarray of bool, shape (L,)
            The levels to keep.

        Returns
        -------
        Books
            Those levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> book = {"bids": [(194.99, 1.0), (194.98, 1.0)], "asks": []}
        >>> books = rc.Tick(0, {}, {"SOL_USDC_PERP": book}).columnar_books(rc.load_venue("backpack"))
        >>> books.chosen(books.price < 19499).price.tolist()
        [19498]
        """
        if level.all():
            return self
        offset = np.concatenate([[0], np.cumsum(level)])[self.offset]
        return replace(self, offset=offset, price=self.price[level], lots=self.lots[level])

    def without(self, market: Bool) -> Books:
        """Return books without those of some markets.

        Parameters
        ----------
        market : ndarray of bool, shape (M,)
            The markets; spot markets stay.

        Returns
        -------
        Books
            The other levels.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> book = {"bids": [(194.99, 1.0)], "asks": []}
        >>> books = rc.Tick(0, {}, {"SOL_USDC_PERP": book}).columnar_books(rc.load_venue("backpack"))
        >>> books.without(np.array([False, False, True, False])).price.tolist()
        []
        """
        if not market.any():
            return self
        return self.chosen(~np.isin(self.level_sides() // 2, np.flatnonzero(market)))

    def level_sides(self) -> Int:
        """Return the side of each level.

        Returns
        -------
        ndarray of int64, shape (L,)
            Numbers of sides, ascending.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> one = np.ones(3, np.int64)
        >>> rc.Books(np.array([0, 2, 3]), one, one, one[:1]).level_sides().tolist()
        [0, 0, 1]
        """
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))


_SIDES = {"bids": "bid", "asks": "ask"}
_ASCENDS = (
    "must get worse from level to level (an unsorted book): the best comes first; the function"
    " riskcore.io.backpack.read_book reverses bids that ascend"
)

_SIDE_VALUE = "a side at its highest price (of an inverse contract: at one tick) must be worth less than 2**61 quanta"

_LEVEL_RULES = {
    LEVEL_OFFSET: ("offset", "must begin with 0, not descend, and end with the number of levels"),
    LEVEL_LOW: ("price", "must be at least one tick"),
    LEVEL_HIGH: ("price", ""),  # `Listing.too_high` says the market's own bound
    LEVEL_LOTS: ("lots", "must be at least one lot and less than 2**53"),
    LEVEL_ORDER: ("price", "must get worse from level to level (an unsorted book)"),
    LEVEL_VALUE: ("lots", _SIDE_VALUE),
}


def _copied_whole(name: str, array: object) -> Int:
    """Copy a user's array of whole numbers: books outlive the call."""
    if not (isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "iu"):
        kind = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise RiskDataError("books", name, "must be a one-dimensional array of whole numbers", value=kind)
    if array.dtype == np.uint64 and (array > INT64_MAX).any():
        raise RiskDataError("books", name, "must fit 64 bits", value=int(array.max()))
    return array.astype(np.int64)


@lru_cache(maxsize=16)
def _no_books(rows: int) -> Books:
    """Empty books, shared: nobody writes to books."""
    none = np.empty(0, np.int64)
    return Books(np.zeros(2 * rows + 1, np.int64), none, none, np.zeros(rows, np.int64))
