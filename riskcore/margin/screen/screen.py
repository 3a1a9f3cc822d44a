"""The screen: selects the accounts at 100 % tick by tick, and computes only those that may have changed status."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._typing import Float, Int
from ...kernels import sweep
from ...market import PriceMap, Prices
from ...state import Accounts, chunk_count, must_fit
from ...venue import Venue
from ..model import model_of
from ..sweep import Selection, margins_of, selected
from .intervals import _LARGE, _NONE, PriceIntervals, Watchlist, interval_values
from .watch import _COPY, _MAX_ADDED, HolderIndex, InnerIntervals, NextIntervals, VolatilityEstimate

_PARTS = 16
"""Ticks over which the next intervals are tried on all accounts while those of now still hold."""
_DRIFTED = 0.7  # distance, in half-widths, from which on the next intervals are made
_SCALE, _INNER_SCALE = 100.0, 12.0  # of half-widths, in standard deviations from tick to tick
_MIN_FOR_INNER = 2048  # accounts watched


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
    accounts_computed : int
        Accounts computed in the last tick: those recomputed at its prices, and those tried on new intervals.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units, or its margin model is not registered.

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
        bound = model_of(venue).bound
        self._bounded, self._bound = bound is not None, bound or PriceIntervals.around
        self.accounts_computed = 0
        self._computed_since_rebuild = 0  # sum of the accounts computed per tick since the intervals were made
        self._sweep_view = accounts.sweep_view
        self._edits = self._sweep_view.edits
        self._large = len(accounts) >= _LARGE
        self._holders: HolderIndex | None = None
        self._intervals: PriceIntervals | None = None
        self._next: NextIntervals | None = None
        self._watch = self._added = self._watchlist_of(_NONE)
        self._confirmed = _NONE
        self._inner: InnerIntervals | None = None
        self._touched = False  # watched accounts were added or changed since the last tick
        self._volatilities: tuple[VolatilityEstimate, ...] | None = None

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
        if not self._bounded:
            self.accounts_computed = len(self.accounts)
            return selected(self.accounts, self._sweep_view.columns, prices)
        values = interval_values(prices)
        self._restart_if_edited()
        if self._volatilities is None:
            item_counts = len(prices.mark) + len(prices.asset), len(prices.mark) + self.venue.settle
            self._volatilities = tuple(
                VolatilityEstimate(len(values), *item_counts, scale) for scale in (_SCALE, _INNER_SCALE)
            )
        volatility, inner_volatility = self._volatilities
        volatility.ticks += 1
        self.accounts_computed = 0
        distance = np.inf if self._intervals is None else self._intervals.max_interval_distance(values)
        if distance == np.inf:
            self._leave_intervals(prices, values, volatility)
        elif self._next is not None:
            self._advance_next(self._next, values, volatility)
        elif distance > _DRIFTED and self._large:
            self._next = NextIntervals(self._bound(prices, *volatility.ranges(values)), 0, [], [], [])
        inner = self._inner_intervals(prices, values, inner_volatility)
        rows = inner.confirmed.copy()
        for columns in (inner.columns, self._added.columns):
            if len(columns.account):
                self.accounts_computed += len(columns.account)
                self._computed_since_rebuild += len(columns.account)
                selected_rows = selected(self.accounts, columns, prices, threads=1)
                rows = np.sort(np.concatenate([rows, selected_rows]), kind="stable")  # merges: both are sorted
        if self.check:
            self._compare(rows, prices)
        return rows

    def _restart_if_edited(self) -> None:
        """Drop the intervals if accounts were changed without `changed`, as by the engine that owns them."""
        if self._edits != self._sweep_view.edits:
            self._intervals, self._next, self._edits = None, None, self._sweep_view.edits

    def _inner_intervals(self, prices: Prices, values: Float, volatility: VolatilityEstimate) -> InnerIntervals:
        """Watched accounts without those whose status inner intervals prove."""
        columns, volatility.ticks = self._watch.columns, volatility.ticks + 1
        if self._inner is not None and self._inner.max_interval_distance(values) < np.inf:
            return self._inner
        if self._touched or len(columns.account) < _MIN_FOR_INNER:
            self._touched = False
            return InnerIntervals(None, columns, self._rows_of(self._confirmed))
        intervals = self._bound(prices, *volatility.ranges(values))
        self.accounts_computed += len(columns.account)
        self._computed_since_rebuild += len(columns.account)
        watch, confirmed = intervals.decide(columns, 0, chunk_count(columns))
        volatility.learn(values, len(columns.account), len(watch.slots))
        rows = np.concatenate([self._rows_of(self._confirmed), columns.account[confirmed]])
        self._inner = InnerIntervals(intervals, watch.columns, np.sort(rows))
        return self._inner

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
        self._restart_if_edited()
        self._sweep_view.refresh(self.accounts.columns, accounts)
        self._edits = self._sweep_view.edits
        if self._intervals is None:
            return
        if self._large and _COPY * len(accounts) > len(self.accounts):
            self._intervals = self._next = None
            return
        self._inner, self._touched = None, True
        slots = np.sort(self._sweep_view.slots(accounts))
        if self._next is not None:
            self._next.changed.append(slots)
        columns = self._sweep_view.columns
        self._decide_slots(self._added.update(columns, self._watch.update(columns, slots)), self._intervals)

    def grown(self, accounts: Int) -> None:
        """Take in accounts that were opened, and others that got more rows, by the owner of the state.

        Parameters
        ----------
        accounts : ndarray of int64
            Their rows.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Growth, Opened
        >>> venue, accounts = two_accounts()
        >>> state = accounts.copy()
        >>> view, nothing = state.view(), np.empty((0, 2), np.int64)
        >>> screen = rc.Screen(view, venue, check=True)
        >>> Growth(state, view, venue).add(Opened.of([9], [np.inf], [9]), nothing, nothing)
        >>> screen.grown(np.array([2]))
        >>> screen.select({"SOL_USDC_PERP": 190.0}).account.tolist()
        [1]
        """
        self._restart_if_edited()
        packings = self._sweep_view.packings
        self._sweep_view.grow(self.accounts.columns, accounts)
        self._holders, self._large = None, len(self.accounts) >= _LARGE
        if self._sweep_view.packings == packings:
            self._edits = self._sweep_view.edits
        self.changed(accounts)  # which drops the intervals of slots that are no longer those of their accounts

    def _leave_intervals(self, prices: Prices, values: Float, volatility: VolatilityEstimate) -> None:
        """Make intervals around the values: of those outside alone, if few accounts have these items, else of all."""
        low, high = volatility.ranges(values)
        if self._intervals is not None and self._holders is not None:
            outside = self._intervals.outside(values)
            slots = self._holders.slots(outside, len(self.accounts) // _COPY)
            if slots is not None:
                edges = self._intervals.low.copy(), self._intervals.high.copy()
                edges[0][outside], edges[1][outside] = low[outside], high[outside]
                self._intervals = self._bound(prices, *edges)
                for watch in (self._watch, self._added):
                    slots = np.setdiff1d(slots, watch.slots, assume_unique=True)
                self._decide_slots(slots, self._intervals)
                return
        if self._large and self._holders is None:
            self._holders = HolderIndex.of(self._sweep_view, len(self.accounts) // _COPY)
        intervals, columns = self._bound(prices, low, high), self._sweep_view.columns
        self.accounts_computed += len(self.accounts)
        self._replace_intervals(intervals, *intervals.decide(columns, 0, chunk_count(columns)), values, volatility)

    def _advance_next(self, upcoming: NextIntervals, values: Float, volatility: VolatilityEstimate) -> None:
        """Test the next intervals on some more chunks; after the last chunk they replace the current ones."""
        if upcoming.intervals.max_interval_distance(values) == np.inf:
            self._next = None
            return
        columns, first = self._sweep_view.columns, upcoming.chunks
        chunks = chunk_count(columns)
        upcoming.chunks = min(chunks, first + -(-chunks // _PARTS))
        self.accounts_computed += (upcoming.chunks - first) * sweep.CHUNK
        watchlist, confirmed = upcoming.intervals.decide(columns, first, upcoming.chunks)
        upcoming.watched.append(watchlist)
        upcoming.confirmed.append(confirmed)
        if upcoming.chunks == chunks:
            changed = np.unique(np.concatenate([_NONE, *upcoming.changed]))
            confirmed = np.setdiff1d(np.concatenate(upcoming.confirmed), changed, assume_unique=True)
            watchlist = Watchlist.joined(upcoming.watched)
            self._replace_intervals(upcoming.intervals, watchlist, confirmed, values, volatility)
            # slots that changed after their test are tested again, unless they are watched anyway
            self._decide_slots(self._watch.update(columns, changed), upcoming.intervals)

    def _replace_intervals(
        self, intervals: PriceIntervals, watch: Watchlist, confirmed: Int, values: Float, volatility: VolatilityEstimate
    ) -> None:
        """Replace intervals, watchlist and confirmed slots."""
        volatility.learn(values, len(self.accounts), self._computed_since_rebuild / max(volatility.ticks, 1))
        self._computed_since_rebuild = 0
        self._intervals, self._next, self._inner = intervals, None, None
        self._watch, self._added = watch, self._watchlist_of(_NONE)
        self._confirmed = confirmed

    def _watchlist_of(self, slots: Int) -> Watchlist:
        view = self._sweep_view
        return Watchlist.of(view.columns, slots, view.market_count, view.asset_count)

    def _rows_of(self, slots: Int) -> Int:
        """Account rows of some slots, ascending."""
        return np.sort(self._sweep_view.columns.account[slots].astype(np.int64))

    def _decide_slots(self, slots: Int, intervals: PriceIntervals) -> None:
        """Test some slots that are not watched so far on the current intervals."""
        if not len(slots):
            return
        self.accounts_computed += len(slots)
        part = self._watchlist_of(slots).columns
        watchlist, confirmed = intervals.decide(part, 0, chunk_count(part))
        confirmed = slots[confirmed]
        if len(confirmed) or np.isin(slots, self._confirmed, assume_unique=True).any():
            others = np.setdiff1d(self._confirmed, slots, assume_unique=True)
            self._confirmed, self._inner = np.union1d(others, confirmed), None
        if len(watchlist.slots):
            more = np.sort(np.concatenate([self._added.slots, slots[watchlist.slots]]))
            if len(more) > _MAX_ADDED:
                self._watch = self._watchlist_of(np.sort(np.concatenate([self._watch.slots, more])))
                self._inner, more = None, _NONE
            self._added = self._watchlist_of(more)

    def _compare(self, rows: Int, prices: Prices) -> None:
        """Raise an error unless the packed view is that of the accounts, and the rows are those of a full sweep."""
        if self._sweep_view.differs(self.accounts.columns):
            raise RuntimeError("the sweep view is stale")
        confirmed = np.flatnonzero(margins_of(self.accounts, np.arange(len(self.accounts)), prices).liquidatable)
        if not np.array_equal(rows, confirmed):
            missed, more = np.setdiff1d(confirmed, rows), np.setdiff1d(rows, confirmed)
            raise RuntimeError(f"the screen missed the account rows {missed.tolist()}, and selected {more.tolist()}")
