"""The screen: selects the accounts at 100 % tick by tick, and computes only those that may have changed status."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._typing import Float, Int
from ...kernels import bounds, sweep
from ...kernels.layouts import SweepColumns
from ...market import PriceMap, Prices, PriceTable, Tick
from ...state import Accounts, chunk_count, must_fit
from ...venue import Venue
from ..model import model_of
from ..sweep import Selection, first_unsafe, margins_of, selected
from .intervals import _LARGE, _NONE, PriceIntervals, Watchlist, interval_values
from .watch import _COPY, _MAX_ADDED, HolderIndex, InnerIntervals, NextIntervals, VolatilityEstimate

_PARTS = 16
"""Ticks over which the next intervals are tried on all accounts while those of now still hold."""
_DRIFTED = 0.7  # distance, in half-widths, from which on the next intervals are made
_SCALE, _INNER_SCALE = 100.0, 12.0  # of half-widths, in standard deviations from tick to tick
_MIN_FOR_INNER = 2048  # accounts watched
_MANY_LANES = 400_000  # accounts times instants; with fewer, a test of each costs less than intervals


class _Range(NamedTuple):
    """Least and largest of the values of `interval_values` at one instant or many."""

    low: Float
    high: Float

    def distance(self, intervals: PriceIntervals | InnerIntervals) -> float:
        """Largest distance of a value from the middle of its interval, as of `PriceIntervals.max_interval_distance`."""
        distance = intervals.max_interval_distance(self.low)
        return distance if self.high is self.low else max(distance, intervals.max_interval_distance(self.high))

    def widened(self, volatility: VolatilityEstimate) -> _Range:
        """Bounds of intervals around all values."""
        low, high = volatility.ranges(self.low)
        return _Range(low, high if self.high is self.low else volatility.ranges(self.high)[1])


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
        prices: PriceMap | Tick,
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
        inner = self._watched(prices, _Range(values, values))
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

    def first(self, prices: PriceTable, first: int, last: int) -> int:
        """Return the first of some instants at which an account may be at a ratio of 1 or more.

        The intervals decide for all instants together, at the ranges of their prices; where they cannot, the watched
        accounts are tested instant by instant in one call.

        Parameters
        ----------
        prices : PriceTable
            Complete prices of the instants.
        first, last : int
            Numbers of the first instant, and of the one after the last.

        Returns
        -------
        int
            Number of an instant: `rows` at those before it is empty. ``last`` if there is none.

        Raises
        ------
        RiskDataError
            The accounts were read with a venue of other units than the prices.
        RuntimeError
            With ``check``: the screen differs from a sweep of all accounts.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> path = pd.DataFrame({"SOL_USDC_PERP": [196.0, 195.0, 190.0, 196.0]})
        >>> rc.Screen(accounts, venue).first(PriceTable.read(venue, accounts, path), 0, 4)
        2
        """
        self.accounts.units.must_fit(prices.venue.units)
        found = self._first(prices, first, last) if first < last else last
        if self.check:
            for t in range(first, found):
                self._compare(_NONE, prices.row(t))
        return found

    def _first(self, prices: PriceTable, first: int, last: int) -> int:
        if not self._bounded:
            return self._first_of(self._sweep_view.columns, prices, first, last)
        values = interval_values(prices)[first:last]
        low, high = np.empty(values.shape[1]), np.empty(values.shape[1])
        bounds.value_ranges(values, low, high)
        moves = _Range(low, high)
        inner = self._watched(prices, moves)
        if len(inner.confirmed):
            return first
        watched = [columns for columns in (inner.columns, self._added.columns) if len(columns.account)]
        if (last - first) * sum(len(columns.account) for columns in watched) > _MANY_LANES:
            intervals = self._bounded_by(prices, *moves)
            decided = [intervals.decide(columns, 0, chunk_count(columns)) for columns in watched]
            if any(len(confirmed) for _, confirmed in decided):
                return first
            watched = [watch.columns for watch, _ in decided if len(watch.slots)]
        for columns in watched:
            self.accounts_computed += len(columns.account)
            last = self._first_of(columns, prices, first, last)
        return last

    def _first_of(self, columns: SweepColumns, prices: PriceTable, first: int, last: int) -> int:
        """First instant at which an account of some columns may be at 100 % or above."""
        if model_of(self.venue).packed and self.venue.folded_margin_functions is not None:
            return first_unsafe(columns, prices, first, last)
        instants = range(first, last)
        return next((t for t in instants if selected(self.accounts, columns, prices.row(t), threads=1).size), last)

    def _bounded_by(self, prices: Prices | PriceTable, low: Float, high: Float) -> PriceIntervals:
        """Intervals between two rows of values, with complete prices of one instant, or the first of many."""
        return self._bound(prices.start if isinstance(prices, PriceTable) else prices, low, high)

    def _watched(self, prices: Prices | PriceTable, moves: _Range) -> InnerIntervals:
        """Accounts that neither the intervals nor the inner ones decide at all prices of a range.

        New intervals are made where the range leaves those of now. ``prices`` are prices of the range.
        """
        self._restart_if_edited()
        if self._volatilities is None:
            markets, assets = prices.mark.shape[-1], prices.asset.shape[-1]
            item_counts = markets + assets, markets + self.venue.settle
            self._volatilities = tuple(
                VolatilityEstimate(len(moves.low), *item_counts, scale) for scale in (_SCALE, _INNER_SCALE)
            )
        volatility, inner_volatility = self._volatilities
        volatility.ticks += 1
        self.accounts_computed = 0
        distance = np.inf if self._intervals is None else moves.distance(self._intervals)
        if distance == np.inf:
            self._leave_intervals(prices, moves, volatility)
        elif self._next is not None:
            self._advance_next(self._next, moves, volatility)
        elif distance > _DRIFTED and self._large:
            self._next = NextIntervals(self._bounded_by(prices, *moves.widened(volatility)), 0, [], [], [])
        return self._inner_intervals(prices, moves, inner_volatility)

    def _restart_if_edited(self) -> None:
        """Drop the intervals if accounts were changed without `changed`, as by the engine that owns them."""
        if self._edits != self._sweep_view.edits:
            self._intervals, self._next, self._edits = None, None, self._sweep_view.edits

    def _inner_intervals(
        self, prices: Prices | PriceTable, moves: _Range, volatility: VolatilityEstimate
    ) -> InnerIntervals:
        """Watched accounts without those whose status inner intervals prove."""
        columns, volatility.ticks = self._watch.columns, volatility.ticks + 1
        if self._inner is not None and moves.distance(self._inner) < np.inf:
            return self._inner
        if self._touched or len(columns.account) < _MIN_FOR_INNER:
            self._touched = False
            return InnerIntervals(None, self._watch, self._rows_of(self._confirmed))
        intervals = self._bounded_by(prices, *moves.widened(volatility))
        self.accounts_computed += len(columns.account)
        self._computed_since_rebuild += len(columns.account)
        watch, confirmed = intervals.decide(columns, 0, chunk_count(columns))
        volatility.learn(moves.low, len(columns.account), len(watch.slots))
        rows = np.concatenate([self._rows_of(self._confirmed), columns.account[confirmed]])
        self._inner = InnerIntervals(intervals, watch, np.sort(rows))
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
        if len(accounts) > 1:
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
        slots = np.sort(self._sweep_view.slots(accounts))
        if self._next is not None:
            self._next.changed.append(slots)
        columns = self._sweep_view.columns
        others = self._watch.update(columns, slots)
        if len(others) < len(slots):
            self._update_inner(np.setdiff1d(slots, others, assume_unique=True))
        self._decide_slots(self._added.update(columns, others), self._intervals)

    def _update_inner(self, slots: Int) -> None:
        """Take changed watched accounts to the inner intervals, and drop these where they leave one in doubt."""
        inner, columns = self._inner, self._watch.columns
        if inner is not None and inner.intervals is not None:
            own_slots = self._watch.own_slots[np.searchsorted(self._watch.slots, slots)]
            others = inner.watch.update(columns, own_slots)
            self.accounts_computed += len(others)
            doubtful, unsafe = inner.intervals.decide_slots(columns, others)
            if not (len(doubtful) or len(unsafe) or np.isin(columns.account[others], inner.confirmed).any()):
                return
        self._inner, self._touched = None, True

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
        >>> added = Growth(state, view, venue).add(Opened.of([9], [np.inf], [9]), nothing, nothing)
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

    def _leave_intervals(self, prices: Prices | PriceTable, moves: _Range, volatility: VolatilityEstimate) -> None:
        """Make intervals around a range: of the items outside alone, if few accounts have these, else of all."""
        low, high = moves.widened(volatility)
        if self._intervals is not None and self._holders is not None:
            outside = np.union1d(self._intervals.outside(moves.low), self._intervals.outside(moves.high))
            slots = self._holders.slots(outside, len(self.accounts) // _COPY)
            if slots is not None:
                edges = self._intervals.low.copy(), self._intervals.high.copy()
                edges[0][outside], edges[1][outside] = low[outside], high[outside]
                self._intervals = self._bounded_by(prices, *edges)
                for watch in (self._watch, self._added):
                    slots = np.setdiff1d(slots, watch.slots, assume_unique=True)
                self._decide_slots(slots, self._intervals)
                return
        if self._large and self._holders is None:
            self._holders = HolderIndex.of(self._sweep_view, len(self.accounts) // _COPY)
        intervals, columns = self._bounded_by(prices, low, high), self._sweep_view.columns
        self.accounts_computed += len(self.accounts)
        self._replace_intervals(intervals, *intervals.decide(columns, 0, chunk_count(columns)), moves.low, volatility)

    def _advance_next(self, upcoming: NextIntervals, moves: _Range, volatility: VolatilityEstimate) -> None:
        """Test the next intervals on some more chunks; after the last chunk they replace the current ones."""
        if moves.distance(upcoming.intervals) == np.inf:
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
            self._replace_intervals(upcoming.intervals, watchlist, confirmed, moves.low, volatility)
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
        if not len(slots):
            return _NONE
        return np.sort(self._sweep_view.columns.account[slots].astype(np.int64))

    def _decide_slots(self, slots: Int, intervals: PriceIntervals) -> None:
        """Test some slots that are not watched so far on the current intervals."""
        if not len(slots):
            return
        self.accounts_computed += len(slots)
        watched, confirmed = intervals.decide_slots(self._sweep_view.columns, slots)
        if len(confirmed) or (len(self._confirmed) and np.isin(slots, self._confirmed, assume_unique=True).any()):
            others = np.setdiff1d(self._confirmed, slots, assume_unique=True)
            self._confirmed, self._inner = np.union1d(others, confirmed), None
        if len(watched):
            more = np.sort(np.concatenate([self._added.slots, watched]))
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
