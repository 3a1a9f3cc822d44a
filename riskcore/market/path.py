"""The path of prices between two ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from .._typing import Bool, Float, Int
from ..kernels import path as kernels
from ..kernels.guards import has_price
from ..kernels.path import ADVERSE, BRIDGE, HOLD, LINEAR
from ..state import Accounts
from ..venue import Venue
from .books import Books
from .prices import Prices

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
        Of the draws.
    ends, indexes : ndarray of float64, shape (2, M)
        Mark used last before and mark given; index used in the tick before and index given; NaN for none.
    bar : ndarray of float64, shape (2, M)
        Low and high since the tick before, NaN for none.
    low_first : ndarray of bool, shape (M,)
        Whether the low comes before the high on an adverse path.
    own : ndarray of float64, shape (2, K)
        Own prices of assets that counted in the tick before, and those given; NaN for none.
    mark_before : ndarray of float64, shape (M,)
        Marks that counted in the tick before, NaN for none.
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
    ends: Float
    indexes: Float
    bar: Float
    low_first: Bool
    own: Float
    mark_before: Float
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
        >>> Path.between(venue, accounts, none, None, given, books, None, times, seed=0).ends[:, 2].tolist()
        [nan, 195.0]
        """
        if len(time) == 1:
            return cls.of_tick(given, books, before, time)
        markets, assets = len(mark), len(given.given_asset)
        ends, indexes, bar = np.empty((3, 2, markets))
        own, mark_before = np.empty((2, assets)), mark
        ends[0], ends[1] = mark, given.given_mark
        bar[0], bar[1] = given.low, given.high
        indexes[1], own[1] = given.given_index, given.given_asset
        if last is None:
            indexes[0], own[0] = np.nan, np.nan
        else:
            indexes[0], own[0], mark_before = last.index, last.own_asset, last.mark
        kind, now = _KINDS[venue.policy.price_path], int(time[-1])
        low_first = _all_low_first(markets)
        if kind == ADVERSE and last is not None and has_price(bar):
            assert accounts is not None
            low_first = _low_first(accounts, last)
        digest = blake2b(f"{seed}/path/{now}".encode(), digest_size=8).digest()
        return cls(
            time=time,
            before=before,
            kind=kind,
            key=int.from_bytes(digest, "little"),
            ends=ends,
            indexes=indexes,
            bar=bar,
            low_first=low_first,
            own=own,
            mark_before=mark_before,
            last=last,
            given=given,
            books=books,
        )

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
        markets, own = _no_pairs(len(given.given_mark)), np.empty((2, len(given.given_asset)))
        own[0], own[1] = np.nan, given.given_asset
        return cls(
            time=time,
            before=before,
            kind=HOLD,
            key=0,
            ends=markets,
            indexes=markets,
            bar=markets,
            low_first=_all_low_first(0),
            own=own,
            mark_before=markets[0],
            last=None,
            given=given,
            books=books,
        )

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
        given = self.given
        mark, index, last, low, high = (
            np.where(delisted, np.nan, prices)
            for prices in (given.given_mark, given.given_index, given.last, given.low, given.high)
        )
        return replace(
            self,
            ends=np.where(delisted, np.nan, self.ends),
            indexes=np.where(delisted, np.nan, self.indexes),
            bar=np.where(delisted, np.nan, self.bar),
            given=replace(
                given, mark=mark, index=index, given_mark=mark, given_index=index, last=last, low=low, high=high
            ),
            books=self.books.without(delisted),
        )

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
        mark, index = np.empty((2, last - first + 1, self.ends.shape[1]))
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
        kernels.fill_path(
            self.kind, np.uint64(self.key), self.before or 0, self.time, first, self.ends, self.bar, self.low_first,
            self.indexes, venue.markets.tick_ratio, mark, index,
        )  # fmt: skip


@lru_cache(maxsize=16)
def _no_pairs(rows: int) -> Float:
    """NaN for both ends of every path, shared: nobody writes to a path."""
    return np.full((2, rows), np.nan)


@lru_cache(maxsize=16)
def _all_low_first(rows: int) -> Bool:
    """True for every path, shared as `_no_pairs`: the low comes first where nothing else is known."""
    return np.ones(rows, bool)


def _low_first(accounts: Accounts, last: Prices) -> Bool:
    """Whether the shorts of each market do not require more maintenance margin than the longs."""
    margins = np.zeros((2, len(last.mark)), np.int64)
    arrays, columns = last.arrays, accounts.columns
    kernels.add_side_margins(columns.market, columns.lots, arrays.price_per_lot, arrays.functions, margins)
    last.forget()
    return np.asarray(margins[1] <= margins[0])
