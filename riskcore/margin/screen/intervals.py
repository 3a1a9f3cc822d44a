"""Price intervals, and the accounts whose status may change within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..._typing import Float, Int
from ...kernels import bounds, pack, sweep
from ...kernels.layouts import BoundLookup, SweepColumns
from ...market import Prices, PriceTable
from ...state import copy_slots, join_columns

_LARGE = 32 * sweep.CHUNK  # with fewer accounts, building intervals in parts or from holders is not worth its overhead
_TICK, _REBUILD = 15_000, 50_000  # fixed time of a tick, and of making intervals, in accounts swept
_WIDEST, _NARROWEST = 0.25, 1e-4  # half-widths
_OPEN_INTEREST = 1.5  # upper end of its range, a multiple of the current one
_AT_ONCE = 16  # chunks between copies of watched accounts, while they are in the cache
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class PriceIntervals:
    """Ranges of marks, prices of assets and open interests, in one row, and the worst and best figures in them.

    Attributes
    ----------
    low, high : ndarray of float64, shape (V,)
        Least and largest of the values of `interval_values`; NaN where there is no price.
    worst, best : BoundLookup
        Figures of equity and requirement at the worst and at the best prices of the ranges, settle quanta.
    spread : float
        Least width of a mark's range, a part of its upper end.

    Notes
    -----
    docs/decisions/0014-price-intervals.md.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin.screen import PriceIntervals, interval_values
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
    >>> values = interval_values(prices)
    >>> PriceIntervals.around(prices, values * 0.9, values * 1.1).high[venue.markets.row[market]].round(6).item()
    214.5
    """

    low: Float
    high: Float
    worst: BoundLookup
    best: BoundLookup
    spread: float  # smallest width of a mark's range, relative to its upper end

    @classmethod
    def around(cls, prices: Prices, low: Float, high: Float) -> PriceIntervals:
        """Make the intervals between two rows of values.

        Parameters
        ----------
        prices : Prices
            Complete prices, for all that the values do not have.
        low, high : ndarray of float64, shape (V,)
            Values as of `interval_values`, ``low`` nowhere above ``high``.

        Returns
        -------
        PriceIntervals
            The intervals.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin.screen import PriceIntervals, interval_values
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
        >>> values = interval_values(prices)
        >>> round(PriceIntervals.around(prices, values * 0.9, values).spread, 6)
        0.1
        """
        markets, assets = len(prices.mark), len(prices.asset)
        asking = sorted(prices.venue.margin_functions.open_interest_markets)
        edges = []
        for edge, other in ((low, high), (high, low)):
            interest = prices.open_interest.copy()
            interest[asking] = edge[markets + assets :]
            # an inverse market's notional is largest at the lowest mark
            mark = np.where(prices.venue.markets.inverse, other[:markets], edge[:markets])
            asset = edge[markets : markets + assets]
            edges.append(replace(prices, mark=mark, asset=asset, open_interest=interest).arrays)
        tables = []
        for near, far in (edges, edges[::-1]):
            market = np.empty((markets + 1, 4))
            asset, weight, borrow = np.empty((3, assets + 1, 4))
            market_above, borrow_above = prices.venue.requirement_lookups()
            lookup = BoundLookup(
                market=market,
                extra=np.empty_like(market) if len(near.money) > 1 else None,
                asset=asset,
                weight=weight,
                borrow=borrow,
                market_above=market_above,
                borrow_above=borrow_above,
                acmf_divisor=near.acmf_divisor,
                acmf_offset=near.acmf_offset,
            )
            bounds.fill_bound_lookup(near, far, lookup)
            tables.append(lookup)
        lowest, highest = low[:markets], high[:markets]
        has_mark = highest > 0.0
        spread = float((1.0 - lowest[has_mark] / highest[has_mark]).min(initial=1.0))
        return cls(low, high, tables[0], tables[1], spread)

    def max_interval_distance(self, values: Float) -> float:
        """Return the largest distance of a value from the middle of its interval.

        Parameters
        ----------
        values : ndarray of float64, shape (V,)
            Values as of `interval_values`.

        Returns
        -------
        float
            A part of the half-width: 1 at an edge; +inf outside.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin.screen import PriceIntervals, interval_values
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
        >>> values = interval_values(prices)
        >>> intervals = PriceIntervals.around(prices, values * 0.75, values * 1.25)
        >>> intervals.max_interval_distance(values), intervals.max_interval_distance(values * 1.125)
        (0.0, 0.5)
        """
        return float(bounds.max_interval_distance(values, self.low, self.high))

    def outside(self, values: Float) -> Int:
        """Return positions of the values that are outside their intervals.

        Parameters
        ----------
        values : ndarray of float64, shape (V,)
            Values as of `interval_values`.

        Returns
        -------
        ndarray of int64
            Positions, ascending.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin.screen import PriceIntervals, interval_values
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
        >>> values = interval_values(prices)
        >>> PriceIntervals.around(prices, values * 0.75, values).outside(
        ...     np.where(np.arange(6) == 2, 200.0, values)
        ... ).tolist()
        [2]
        """
        missing = np.isnan(values) & np.isnan(self.low)
        return np.flatnonzero(~((self.low <= values) & (values <= self.high) | missing))

    def decide(self, columns: SweepColumns, first: int, last: int) -> tuple[Watchlist, Int]:
        """Decide the accounts of some chunks at all prices inside the intervals, where the bounds of their margins can.

        Parameters
        ----------
        columns : SweepColumns
            Columns of all accounts or of some.
        first, last : int
            First chunk, and the one after the last.

        Returns
        -------
        watchlist : Watchlist
            Slots of the accounts that may be above or below 100 %.
        confirmed : ndarray of int64
            Slots of the accounts at 100 % or above at all prices inside.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin.screen import PriceIntervals, interval_values
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 190.0})
        >>> values = interval_values(prices)
        >>> intervals = PriceIntervals.around(prices, values, values)
        >>> watchlist, confirmed = intervals.decide(accounts.sweep_view.columns, 0, 1)
        >>> len(watchlist.slots), len(confirmed)
        (0, 1)
        """
        nothing = len(self.worst.market) - 1, len(self.worst.asset) - 1
        parts, confirmed = [Watchlist.of(columns, _NONE, *nothing)], [_NONE]
        for start in range(first, last, _AT_ONCE):
            end = min(start + _AT_ONCE, last)
            slots, certain = np.empty((2, (end - start) * sweep.CHUNK), np.int64)
            count = np.empty(2, np.int64)
            bounds.watch_chunks(start, end, columns, self.worst, self.best, self.spread, slots, certain, count)
            confirmed.append(certain[: count[1]])
            if count[0]:
                parts.append(Watchlist.of(columns, slots[: count[0]].copy(), *nothing))
        return Watchlist.joined(parts), np.concatenate(confirmed)

    def decide_slots(self, columns: SweepColumns, slots: Int) -> tuple[Int, Int]:
        """Decide some accounts at all prices inside the intervals, where the bounds of their margins can.

        Parameters
        ----------
        columns : SweepColumns
            Columns of all accounts or of some.
        slots : ndarray of int64
            Their slots, ascending.

        Returns
        -------
        watched : ndarray of int64
            Slots of the accounts that may be above or below 100 %.
        confirmed : ndarray of int64
            Slots of the accounts at 100 % or above at all prices inside.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin.screen import PriceIntervals, interval_values
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 190.0})
        >>> values = interval_values(prices)
        >>> intervals, view = PriceIntervals.around(prices, values, values), accounts.sweep_view
        >>> watched, confirmed = intervals.decide_slots(view.columns, np.sort(view.slots(np.arange(2))))
        >>> view.columns.account[confirmed].tolist()
        [0]
        """
        watched, confirmed, count = np.empty_like(slots), np.empty_like(slots), np.empty(2, np.int64)
        bounds.watch_slots(slots, columns, self.worst, self.best, self.spread, watched, confirmed, count)
        return watched[: count[0]], confirmed[: count[1]]


@dataclass
class Watchlist:
    """Watched slots, ascending, with a copy of their columns, and the slot of each in that copy."""

    slots: Int
    own_slots: Int
    columns: SweepColumns

    @classmethod
    def of(cls, columns: SweepColumns, slots: Int, markets: int, assets: int) -> Watchlist:
        """Copy some slots."""
        return cls(slots, np.arange(len(slots)), copy_slots(columns, slots, markets, assets))

    @classmethod
    def joined(cls, parts: Sequence[Watchlist]) -> Watchlist:
        """Concatenate several watchlists, of ascending slots."""
        starts = np.cumsum([0, *(len(part.columns.account) for part in parts)])
        positions = [start + part.own_slots for start, part in zip(starts.tolist(), parts, strict=False)]
        slots = np.concatenate([part.slots for part in parts])
        return cls(slots, np.concatenate(positions), join_columns([part.columns for part in parts]))

    def update(self, columns: SweepColumns, slots: Int) -> Int:
        """Copy some slots again, after they changed; return those that are not on the list."""
        if not len(self.slots):
            return slots
        index = np.searchsorted(self.slots, slots)
        is_watched = np.append(self.slots, -1)[index] == slots
        pack.update_slots(slots[is_watched], self.own_slots[index[is_watched]], columns, self.columns)
        missing: Int = slots[~is_watched]
        return missing


def interval_values(prices: Prices | PriceTable) -> Float:
    """Return marks, prices of assets, and the open interests that margin functions ask for; of one instant or many.

    Parameters
    ----------
    prices : Prices or PriceTable
        Complete prices.

    Returns
    -------
    ndarray of float64, shape (V,) or (T, V)
        M marks and K prices of assets, settle units, and open interests, quantities; NaN where there is none.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin.screen import interval_values
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> interval_values(rc.Prices.read(venue, accounts, {market: 195.0})).tolist()
    [nan, nan, 195.0, nan, 1.0, 195.0]
    """
    if not prices.venue.margin_functions.open_interest_markets:
        return np.concatenate((prices.mark, prices.asset), axis=-1)
    asking = sorted(prices.venue.margin_functions.open_interest_markets)
    reported = prices.open_interest[..., asking]
    accounts_own = prices.open_lots[asking] * prices.venue.markets.step_size[asking]
    interest = np.where(np.isnan(reported), accounts_own, reported)
    return np.concatenate([prices.mark, prices.asset, interest], axis=-1)
