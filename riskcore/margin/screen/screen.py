"""The screen: who is at 100 % at each of many ticks, without computing every account at each of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...kernels import sweep
from ...market import PriceMap, Prices
from ...state import Accounts, chunk_count, must_fit
from ...venue import Venue
from ..sweep import Selection, margins_of, selected
from .intervals import _LARGE, _NONE, Float, Int, PriceIntervals, Watchlist, interval_values
from .watch import _COPY, _MOST_MORE, HolderIndex, InnerIntervals, NextIntervals, VolatilityEstimate

_PARTS = 16
"""Ticks over which the next intervals are tried on all accounts while those of now still hold."""
_DRIFTED = 0.7  # of a half-width: from there on the next intervals are made
_SCALE, _NARROW_SCALE = 100.0, 12.0  # of half-widths, in standard deviations from tick to tick
_WORTH_NARROWING = 2048  # accounts watched


class Screen:
    """Accounts at a maintenance margin ratio of 1 or more, tick by tick.

    Parameters
    ----------
    accounts : Accounts
        The state. The owner of a copy, who alone can write to its columns, reports changes by `changed`.
    venue : Venue
        The rules.
    check : bool
        Recompute every account at every tick and raise RuntimeError where the screen differs: slow, to be sure.

    Attributes
    ----------
    looked_at : int
        Accounts computed in the last tick: those recomputed at its prices, and those tried on new intervals.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Notes
    -----
    How the price intervals decide: docs/decisions/0014-price-intervals.md.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> screen = rc.Screen(accounts, venue)
    >>> [screen.select({market: mark}).account.tolist() for mark in (195.0, 190.0, 196.0)]
    [[], [1], []]
    """

    def __init__(self, accounts: Accounts, venue: Venue, *, check: bool = False) -> None:
        must_fit(accounts, venue)
        self.accounts, self.venue, self.check = accounts, venue, check
        self.looked_at = 0
        self._spent = 0  # accounts watched since the intervals were made
        self._packed = accounts.sweep_view
        self._edits = self._packed.edits
        self._large = len(accounts) >= _LARGE
        self._holders = HolderIndex.of(self._packed, len(accounts) // _COPY) if self._large else None
        self._box: PriceIntervals | None = None
        self._next: NextIntervals | None = None
        self._watch = self._more = self._watching(_NONE)
        self._known = _NONE
        self._narrow: InnerIntervals | None = None
        self._touched = False  # the watched are others than in the tick before, or hold something else
        self._moves: tuple[VolatilityEstimate, ...] | None = None

    def select(
        self,
        prices: PriceMap,
        *,
        indexes: PriceMap | None = None,
        asset_prices: PriceMap | None = None,
        open_interest: PriceMap | None = None,
    ) -> Selection:
        """Select the accounts at a ratio of 1 or more: those that a sweep at these prices selects.

        Parameters
        ----------
        prices, indexes, asset_prices, open_interest
            As of `riskcore.sweep`, with a single vector of prices.

        Returns
        -------
        Selection
            The accounts, ascending.

        Raises
        ------
        RiskDataError
            A price is missing, not finite or not > 0.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> rc.Screen(accounts, venue).select({market: 190.0})
        Selection(1 of 2 accounts at 100 % or above)
        """
        read = Prices.read(self.venue, self.accounts, prices, indexes, asset_prices, open_interest)
        return Selection(self.rows(read), self.accounts, read)

    def rows(self, prices: Prices) -> Int:
        """Return the rows of the accounts at a ratio of 1 or more, at complete prices.

        Parameters
        ----------
        prices : Prices
            Complete prices of one instant.

        Returns
        -------
        ndarray of int64
            Account rows, ascending.

        Raises
        ------
        RiskDataError
            The accounts were read with a venue of other units than the prices.
        RuntimeError
            With ``check``: the screen differs from a sweep of all accounts.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> rc.Screen(accounts, venue).rows(rc.Prices.read(venue, accounts, {market: 190.0})).tolist()
        [0]
        """
        self.accounts.units.must_fit(prices.venue.units)
        values = interval_values(prices)
        self._notice_others()
        if self._moves is None:
            places = len(prices.mark) + len(prices.asset), len(prices.mark) + self.venue.settle
            self._moves = tuple(VolatilityEstimate(len(values), *places, scale) for scale in (_SCALE, _NARROW_SCALE))
        moves, narrow_moves = self._moves
        moves.ticks += 1
        self.looked_at = 0
        distance = np.inf if self._box is None else self._box.max_interval_distance(values)
        if distance == np.inf:
            self._leave_box(prices, values, moves)
        elif self._next is not None:
            self._try_next(self._next, values, moves)
        elif distance > _DRIFTED and self._large:
            self._next = NextIntervals(PriceIntervals.around(prices, *moves.ranges(values)), 0, [], [], [])
        narrow = self._narrowed(prices, values, narrow_moves)
        rows = narrow.confirmed.copy()
        for columns in (narrow.columns, self._more.columns):
            if len(columns.account):
                self.looked_at += len(columns.account)
                self._spent += len(columns.account)
                found = selected(self.accounts, columns, prices, threads=1)
                rows = np.sort(np.concatenate([rows, found]), kind="stable")  # two runs: that merges them
        if self.check:
            self._hold_to(rows, prices)
        return rows

    def _notice_others(self) -> None:
        """Begin anew if somebody else, the engine whose accounts these are, has changed something."""
        if self._edits != self._packed.edits:
            self._box, self._next, self._edits = None, None, self._packed.edits

    def _narrowed(self, prices: Prices, values: Float, moves: VolatilityEstimate) -> InnerIntervals:
        """Watched accounts without those that narrower intervals prove safe, or above."""
        columns, moves.ticks = self._watch.columns, moves.ticks + 1
        if self._narrow is not None and self._narrow.max_interval_distance(values) < np.inf:
            return self._narrow
        if self._touched or len(columns.account) < _WORTH_NARROWING:
            self._touched = False
            return InnerIntervals(None, columns, self._rows_of(self._known))
        intervals = PriceIntervals.around(prices, *moves.ranges(values))
        self.looked_at += len(columns.account)
        self._spent += len(columns.account)
        watch, confirmed = intervals.tried(columns, 0, chunk_count(columns))
        moves.learn(values, len(columns.account), len(watch.slots))
        rows = np.concatenate([self._rows_of(self._known), columns.account[confirmed]])
        self._narrow = InnerIntervals(intervals, watch.columns, np.sort(rows))
        return self._narrow

    def changed(self, accounts: npt.ArrayLike) -> None:
        """Read again some accounts whose columns have changed.

        Parameters
        ----------
        accounts : array_like of int
            Account rows.

        Raises
        ------
        IndexError
            There is no such row.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> state = accounts.copy()
        >>> screen = rc.Screen(state, venue)
        >>> screen.select({market: 190.0}).account.tolist()
        [1]
        >>> state.columns.free[state.columns.settle_row[0]] += 1_000_000_000  # quanta: pays in 1,000 USDC
        >>> screen.changed([0])
        >>> screen.select({market: 190.0}).account.tolist()
        []
        """
        accounts = np.asarray(accounts, np.int64)
        if not accounts.size:
            return
        accounts = np.unique(accounts)
        if accounts[0] < 0 or accounts[-1] >= len(self.accounts):
            raise IndexError(f"account rows must be from 0 to {len(self.accounts) - 1}")
        self._notice_others()
        self._packed.refresh(self.accounts.columns, accounts)
        self._edits = self._packed.edits
        if self._box is None:
            return
        if self._large and _COPY * len(accounts) > len(self.accounts):
            self._box = self._next = None
            return
        self._narrow, self._touched = None, True
        slots = np.sort(self._packed.slots(accounts))
        if self._next is not None:
            self._next.changed.append(slots)
        columns = self._packed.columns
        self._try(self._more.update(columns, self._watch.update(columns, slots)), self._box)

    def _leave_box(self, prices: Prices, values: Float, moves: VolatilityEstimate) -> None:
        """Make intervals that hold the values: of those outside alone, if few accounts hold them, or of all."""
        low, high = moves.ranges(values)
        if self._box is not None and self._holders is not None:
            outside = self._box.outside(values)
            slots = self._holders.slots(outside, len(self.accounts) // _COPY)
            if slots is not None:
                edges = self._box.low.copy(), self._box.high.copy()
                edges[0][outside], edges[1][outside] = low[outside], high[outside]
                self._box = PriceIntervals.around(prices, *edges)
                for watch in (self._watch, self._more):
                    slots = np.setdiff1d(slots, watch.slots, assume_unique=True)
                self._try(slots, self._box)
                return
        intervals, columns = PriceIntervals.around(prices, low, high), self._packed.columns
        self.looked_at += len(self.accounts)
        self._begin(intervals, *intervals.tried(columns, 0, chunk_count(columns)), values, moves)

    def _try_next(self, coming: NextIntervals, values: Float, moves: VolatilityEstimate) -> None:
        """Try the next intervals on some more chunks; once all are through, they take the place of the current ones."""
        if coming.intervals.max_interval_distance(values) == np.inf:
            self._next = None
            return
        columns, first = self._packed.columns, coming.chunks
        chunks = chunk_count(columns)
        coming.chunks = min(chunks, first + -(-chunks // _PARTS))
        self.looked_at += (coming.chunks - first) * sweep.CHUNK
        watched, confirmed = coming.intervals.tried(columns, first, coming.chunks)
        coming.watched.append(watched)
        coming.confirmed.append(confirmed)
        if coming.chunks == chunks:
            changed = np.unique(np.concatenate([_NONE, *coming.changed]))
            confirmed = np.setdiff1d(np.concatenate(coming.confirmed), changed, assume_unique=True)
            self._begin(coming.intervals, Watchlist.joined(coming.watched), confirmed, values, moves)
            # what changed since it was tried is tried again, unless it is watched anyway
            self._try(self._watch.update(columns, changed), coming.intervals)

    def _begin(
        self, intervals: PriceIntervals, watch: Watchlist, confirmed: Int, values: Float, moves: VolatilityEstimate
    ) -> None:
        """Take new intervals of everything."""
        moves.learn(values, len(self.accounts), self._spent / max(moves.ticks, 1))
        self._spent = 0
        self._box, self._next, self._narrow = intervals, None, None
        self._watch, self._more = watch, self._watching(_NONE)
        self._known = confirmed

    def _watching(self, slots: Int) -> Watchlist:
        return Watchlist.of(self._packed.columns, slots, self._packed.markets, self._packed.assets)

    def _rows_of(self, slots: Int) -> Int:
        """Account rows of some slots, ascending."""
        return np.sort(self._packed.columns.account[slots].astype(np.int64))

    def _try(self, slots: Int, intervals: PriceIntervals) -> None:
        """Try some slots, not watched so far, on the intervals of now."""
        if not len(slots):
            return
        self.looked_at += len(slots)
        part = self._watching(slots).columns
        watched, confirmed = intervals.tried(part, 0, chunk_count(part))
        confirmed = slots[confirmed]
        if len(confirmed) or np.isin(slots, self._known, assume_unique=True).any():
            self._known, self._narrow = (
                np.union1d(np.setdiff1d(self._known, slots, assume_unique=True), confirmed),
                None,
            )
        if len(watched.slots):
            more = np.sort(np.concatenate([self._more.slots, slots[watched.slots]]))
            if len(more) > _MOST_MORE:
                self._watch = self._watching(np.sort(np.concatenate([self._watch.slots, more])))
                self._narrow, more = None, _NONE
            self._more = self._watching(more)

    def _hold_to(self, rows: Int, prices: Prices) -> None:
        """Raise an error unless the packed view is that of the accounts, and the rows are those of a full sweep."""
        if self._packed.differs(self.accounts.columns):
            raise RuntimeError("the packed view is stale")
        confirmed = np.flatnonzero(margins_of(self.accounts, np.arange(len(self.accounts)), prices).liquidatable)
        if not np.array_equal(rows, confirmed):
            missed, more = np.setdiff1d(confirmed, rows), np.setdiff1d(rows, confirmed)
            raise RuntimeError(f"the screen missed the account rows {missed.tolist()}, and selected {more.tolist()}")
