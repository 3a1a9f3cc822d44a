"""The path of prices between two ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from .._typing import Bool, Float, Int
from ..kernels import path as kernels
from ..kernels.path import ADVERSE, BRIDGE, HOLD, LINEAR
from ..state import Accounts
from ..venue import Venue
from .books import Books
from .prices import Prices
from .reading import no_prices

_KINDS = {"hold": HOLD, "linear": LINEAR, "bridge": BRIDGE, "adverse": ADVERSE}


@dataclass
class Path:
    """The path of prices from a tick to the next, at N instants in between, and that next tick.

    Attributes
    ----------
    time : ndarray of int64, shape (N + 1,)
        Times of the instants and of the tick, nanoseconds, ascending.
    before : int or None
        Time of the tick before, nanoseconds; None at the first tick, which has no instants before it.
    kind : int
        The policy's ``price_path``, a number of `riskcore.kernels.path`.
    key : int
        Of the draws; 0 of a path without any.
    low_first : ndarray of bool, shape (M,)
        Whether the low comes before the high on an adverse path.
    mark : ndarray of float64, shape (M,)
        Mark used last before, NaN for none.
    index : ndarray of float64, shape (M,)
        Index used in the tick before, NaN for none.
    own : ndarray of float64, shape (K,)
        Own prices of assets that counted in the tick before, NaN for none.
    last : Prices or None
        Prices that counted in the tick before.
    given : Prices
        Prices as the tick has them.
    books : Books
        Books as the tick has them.

    Notes
    -----
    The rule: docs/one_tick.md, "Path between two ticks".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import Path
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> engine = rc.Engine(accounts, venue.replace(policy={"price_path": "linear"}))
    >>> market, none = "SOL_USDC_PERP", rc.Books.empty(venue)
    >>> last = rc.Prices.of_tick(engine.venue, accounts, rc.Tick(0, {market: 195.0}))
    >>> result = engine.step(rc.Tick(0, {market: 195.0}))
    >>> given = rc.Prices.incomplete(engine.venue, rc.Tick(4 * 10**9, {market: 191.0}))
    >>> times = np.arange(1, 5) * 10**9
    >>> path = Path.between(engine.venue, accounts, engine.guard_state.mark, last, given, none, 0, times, seed=0)
    >>> path.values(engine.venue, 0, 3)[0][:, 2].tolist()
    [195.0, 194.0, 193.0, 192.0]
    """

    time: Int
    before: int | None
    kind: int
    key: int
    low_first: Bool
    mark: Float
    index: Float
    own: Float
    last: Prices | None
    given: Prices
    books: Books

    @classmethod
    def between(
        cls,
        venue: Venue,
        accounts: Accounts | None,
        mark: Float,
        last: Prices | None,
        given: Prices,
        books: Books,
        before: int | None,
        time: Int,
        seed: int,
    ) -> Path:
        """Return the path from a tick to the next.

        Parameters
        ----------
        venue : Venue
            The rules.
        accounts : Accounts or None
            The state before the tick; an adverse path needs it.
        mark : ndarray of float64, shape (M,)
            Mark used last of each market, NaN for none.
        last : Prices or None
            Prices that counted in the tick before; None at the first tick.
        given : Prices
            Prices as the tick has them.
        books : Books
            Books as the tick has them.
        before : int or None
            Time of the tick before, nanoseconds; None at the first tick.
        time : ndarray of int64, shape (N + 1,)
            Times of the instants and of the tick, nanoseconds, ascending.
        seed : int
            Of the draws.

        Returns
        -------
        Path
            The path.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> given = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> none, books, times = np.full(4, np.nan), rc.Books.empty(venue), np.arange(1, 3)
        >>> Path.between(venue, accounts, none, None, given, books, None, times, seed=0).given.mark.tolist()
        [nan, nan, 195.0, nan]
        """
        kind, key, low_first = HOLD, 0, _all_low_first(len(mark))
        index, own = no_prices(len(mark)), no_prices(len(given.given_asset))
        if last is not None:
            index, own = last.index, last.own_asset
        if len(time) > 1:
            kind = _KINDS[venue.policy.price_path]
            has_bars = given.low is not given.high
            if has_bars or kind == BRIDGE:
                key = int.from_bytes(blake2b(f"{seed}/path/{time[-1]}".encode(), digest_size=8).digest(), "little")
            if has_bars and kind == ADVERSE and last is not None:
                assert accounts is not None
                low_first = _low_first(accounts, last)
        return cls(time, before, kind, key, low_first, mark, index, own, last, given, books)

    @classmethod
    def of_tick(cls, given: Prices, books: Books, before: int | None, time: Int) -> Path:
        """Return the path to a tick without instants before it.

        Parameters
        ----------
        given : Prices
            Prices as the tick has them.
        books : Books
            Books as the tick has them.
        before : int or None
            Time of the tick before, nanoseconds; None at the first tick.
        time : ndarray of int64, shape (1,)
            Time of the tick, nanoseconds.

        Returns
        -------
        Path
            The path.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> venue = rc.load_venue("backpack")
        >>> given = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> Path.of_tick(given, rc.Books.empty(venue), None, np.array([0])).time.tolist()
        [0]
        """
        none, own = no_prices(len(given.given_mark)), no_prices(len(given.given_asset))
        return cls(time, before, HOLD, 0, _all_low_first(len(none)), none, none, own, None, given, books)

    def without(self, delisted: Bool) -> Path:
        """Return the path without the prices of some markets.

        Parameters
        ----------
        delisted : ndarray of bool, shape (M,)
            Whether each market is left out.

        Returns
        -------
        Path
            Those markets have no mark, no index and no book, between the ticks and in the tick.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> venue = rc.load_venue("backpack")
        >>> given = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> path = Path.of_tick(given, rc.Books.empty(venue), None, np.array([0]))
        >>> path = path.without(np.array([False, False, True, False]))
        >>> path.given.given_mark.tolist()
        [nan, nan, nan, nan]
        """
        if not delisted.any():
            return self
        mark, index = (np.where(delisted, np.nan, prices) for prices in (self.mark, self.index))
        given, books = self.given.without(delisted), self.books.without(delisted)
        return replace(self, mark=mark, index=index, given=given, books=books)

    def values(self, venue: Venue, first: int, last: int) -> tuple[Float, Float]:
        """Return marks and indexes on the path, not guarded.

        Parameters
        ----------
        venue : Venue
            The rules.
        first, last : int
            Numbers of the first and of the last instant: 0 is the tick before, the last one is N at most.

        Returns
        -------
        mark, index : ndarray of float64, shape (last - first + 1, M)
            Settle units; NaN for none.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> last = rc.Prices.of_tick(venue, accounts, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> given = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 190.0}))
        >>> times, books = np.arange(1, 4) * 10**9, rc.Books.empty(venue)
        >>> path = Path.between(venue, accounts, last.mark, last, given, books, 0, times, seed=0)
        >>> path.values(venue, 1, 2)[0][:, 2].tolist()
        [195.0, 195.0]
        """
        mark, index = np.empty((2, last - first + 1, len(self.mark)))
        self.fill(venue, first, mark, index)
        return mark, index

    def fill(self, venue: Venue, first: int, mark: Float, index: Float) -> None:
        """Write marks and indexes on the path, not guarded, into arrays.

        Parameters
        ----------
        venue : Venue
            The rules.
        first : int
            Number of the first instant wanted: 0 is the tick before.
        mark, index : ndarray of float64, shape (R + 1, M)
            Those of the instants from ``first`` on, settle units; written.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> given = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> none, books, times = np.full(4, np.nan), rc.Books.empty(venue), np.zeros(1, np.int64)
        >>> mark, index = np.zeros((2, 1, 4))
        >>> Path.between(venue, accounts, none, None, given, books, None, times, seed=0).fill(venue, 0, mark, index)
        >>> mark.tolist()
        [[nan, nan, nan, nan]]
        """
        given = self.given
        kernels.fill_path(
            self.kind, np.uint64(self.key), self.before or 0, self.time, first, self.mark, given.given_mark, given.low,
            given.high, self.low_first, self.index, given.given_index, venue.markets.tick_ratio, mark, index,
        )  # fmt: skip


@lru_cache(maxsize=16)
def _all_low_first(rows: int) -> Bool:
    """True for every market, shared: nobody writes to a path. The low comes first where nothing else is known."""
    return np.ones(rows, bool)


def _low_first(accounts: Accounts, last: Prices) -> Bool:
    """Whether the shorts of each market do not require more maintenance margin than the longs."""
    margins = np.zeros((2, len(last.mark)), np.int64)
    arrays, columns = last.arrays, accounts.columns
    kernels.add_side_margins(columns.market, columns.lots, arrays.price_per_lot, arrays.functions, margins)
    last.forget()
    return np.asarray(margins[1] <= margins[0])
