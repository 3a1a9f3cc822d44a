"""A tick that was read: its instants, and the prices and payments of each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float
from ..accrual import Accruals, Premiums
from ..kernels import path as kernels
from ..kernels.guards import REFUSED, UPDATED
from ..market import Path as PricePath
from ..market import Prices, PriceTable, Scheduled, Segment, open_lots
from ..market.guards import Guarded, GuardedPath, GuardState, Refusal, guard_path
from ..state import Accounts
from .instants import due_instants, new_interval


@lru_cache(maxsize=16)
def _numbers(count: int) -> pd.RangeIndex:
    """Labels of instants, shared: they take longer to make than all of their prices."""
    return pd.RangeIndex(count)


class Course:
    """A tick that was read: what happens at each of its n instants, the last of which is the tick itself.

    Parameters
    ----------
    path : Path
        Prices of the instants as they are given and drawn.
    guard_state : GuardState
        State of the guards before.
    scheduled : Scheduled
        Funding rates and venue changes with their own times.
    accounts : Accounts
        The state before.
    premiums : Premiums
        Those after the tick before; they go on to those after this one.

    Attributes
    ----------
    before : int or None
        Time of the tick before, nanoseconds.
    times : ndarray of int64, shape (n,)
        The instants, nanoseconds.
    books : Books
        Those of the tick, as they were given.
    mark, index : ndarray of float64, shape (n, M)
        Guarded prices, units of the market's quote; NaN for none.
    prices : Prices
        Those of the tick itself.
    last : int
        Number of the instant of the tick itself.
    accruals : dict of int to Accruals
        Payments that fall due, by the number of their instant.

    Raises
    ------
    RiskDataError
        A price at an instant is out of its range, or an account has no price at the tick.
    """

    mark: Float
    index: Float
    _own: Float
    _events: npt.NDArray[np.uint8]

    def __init__(
        self, path: PricePath, guard_state: GuardState, scheduled: Scheduled, accounts: Accounts, premiums: Premiums
    ) -> None:
        self.before, self.times, self.books = path.before, path.time, path.books
        self.scheduled, self.premiums = scheduled, premiums
        self.accruals: dict[int, Accruals] = {}
        self._segments: list[Segment] = []
        self._firsts: list[int] = []
        self._paths: list[GuardedPath] = []
        first, delisted = 0, None  # of the last segment that has an instant: markets, if there are any
        for number, segment in enumerate(scheduled.segments, 1):
            end = self._first_of(number) if number < len(scheduled.segments) else len(self.times)
            if first < end:
                state = self._paths[-1].state_at(-1) if self._paths else guard_state
                delisted = segment.delisted if True in segment.delisted.tolist() else None
                self._paths.append(guard_path(segment.venue, state, path, first, end, delisted))
                self._segments.append(segment)
                self._firsts.append(first)
            first = end
        if len(self._paths) == 1:
            self.mark, self.index, self._own, self._events = self._paths[0].columns
        else:
            columns = zip(*(part.columns for part in self._paths), strict=True)
            self.mark, self.index, self._own, self._events = map(np.concatenate, columns)
        self.prices = path.given.guarded(accounts, self.mark[-1], self.index[-1], self._own[-1], delisted)
        self.last = len(self.times) - 1
        self._last = path.last
        self._open_lots: list[npt.NDArray[np.int64]] = []  # of each segment, between the ticks
        if path.last is not None and self.last:
            self._open_lots = [path.last.open_lots_under(segment.venue, accounts) for segment in self._segments]

    def _first_of(self, segment: int) -> int:
        """Number of the first instant after the beginning of a segment, which may itself have none."""
        return int(np.searchsorted(self.times, self.scheduled.segments[segment].after + 1)) if segment else 0

    @cached_property
    def _asset(self) -> Float:
        """Prices of assets at all instants."""
        if not self.last:
            return self.prices.asset[None]
        assets = [part.asset for part in self._paths]
        return assets[0] if len(assets) == 1 else np.concatenate(assets)

    @cached_property
    def _tables(self) -> list[PriceTable]:
        """Prices of all instants, with the venue of each segment; none of a tick that has only itself."""
        if not self.last:
            return []
        assert self._last is not None
        table = PriceTable(
            time=_numbers(len(self.times)),
            mark=self.mark,
            index=self.index,
            open_interest=self._last.open_interest[None].repeat(len(self.times), axis=0),
            given_asset=self._own,
            asset=self._asset,
            open_lots=self._open_lots[0],
            venue=self._segments[0].venue,
        )
        others = zip(self._segments[1:], self._open_lots[1:], strict=True)
        return [table, *(replace(table, venue=segment.venue, open_lots=lots) for segment, lots in others)]

    @cached_property
    def starts_as_before(self) -> bool:
        """Whether the first instant has the very prices of the tick before."""
        last = self._last
        return (
            last is not None
            and self.mark[0].tobytes() == last.mark.tobytes()
            and self._asset[0].tobytes() == last.asset.tobytes()
        )

    def _number(self, k: int) -> int:
        """Number of the stretch, of one venue, that an instant is in."""
        return bisect_right(self._firsts, k) - 1

    def segment_at(self, k: int) -> Segment:
        """Venue of an instant, and the markets that are delisted then."""
        return self._segments[self._number(k)]

    def delistings_at(self, k: int) -> tuple[tuple[int, float], ...]:
        """Market row and settlement price of the markets that are delisted at an instant, in their order."""
        if not self.scheduled.changes:
            return ()
        segments = enumerate(self.scheduled.segments)
        return tuple(found for n, segment in segments if self._first_of(n) == k for found in segment.delistings)

    def lacks_a_price(self, accounts: Accounts, *, is_covered: bool) -> bool:
        """Whether an account holds something that has no price at an instant in between.

        That is so where activity has opened it, or where its market is delisted at one of them. ``is_covered``: all
        that the accounts hold had a price in the tick before.
        """
        if not self.last or (is_covered and len(self._segments) == 1 and self.starts_as_before):
            return False
        return any(
            self.prices_at(first).missing(accounts, segment.delisted) != (None, None)
            for segment, first in zip(self._segments, self._firsts, strict=True)
            if first < self.last
        )

    def is_due(self, k: int) -> bool:
        """Whether a payment falls due at an instant, or something of the tick happens or is rejected there."""
        return k in self._due or bool(self._events[k] & REFUSED)

    def guarded_at(self, k: int) -> Guarded:
        """Books and price updates of an instant that count; asked for in the order of the instants."""
        number = self._number(k)
        return self._paths[number].at(k - self._firsts[number])

    def refusals_at(self, k: int) -> list[Refusal]:
        """Price updates and books of an instant that are rejected."""
        number = self._number(k)
        return self._paths[number].refusals(k - self._firsts[number])

    def state_after(self) -> GuardState:
        """State of the guards after the tick, once everything before the tick is done."""
        return self._paths[-1].state_at(-1)

    def next_visit(self, k: int) -> int:
        """Number of the first instant from ``k`` on at which something happens, or an update is rejected."""
        refused, found = int(kernels.next_event(self._events, k, REFUSED)), bisect_left(self._due, k)
        return min(refused, self.last, *self._due[found : found + 1])

    def next_update(self, k: int) -> int:
        """Number of the first instant from ``k`` on with a price update."""
        return min(int(kernels.next_event(self._events, k, UPDATED)), self.last)

    def next_interval(self, k: int, since: int) -> int:
        """Number of the first instant from ``k`` on by which a minute or an interval of caps has begun after a time."""
        return max(k, new_interval(self.prices.venue.policy, since, self.times))

    def prices_at(self, k: int) -> Prices:
        """Prices of an instant."""
        return self.prices if k == self.last else self.table_at(k).row(k)

    def table_at(self, k: int) -> PriceTable:
        """Prices of all instants, with the venue of one of them."""
        return self._tables[self._number(k)]

    def highest_prices(self) -> Prices:
        """Each price at the instant at which lots, or quanta, are worth most; settlement prices are among them."""
        settled = [delisting for segment in self.scheduled.segments for delisting in segment.delistings]
        if not self.last and not settled:
            return self.prices
        marks = self.mark
        for market, price in settled:
            row = np.full(marks.shape[1:], np.nan)
            row[market] = price
            marks = np.concatenate([marks, row[None]])
        mark, asset = np.empty(marks.shape[1]), np.empty(self._asset.shape[1])
        kernels.most_valuable(marks, self.prices.venue.markets.inverse, self._asset, mark, asset)
        return self.prices.at(mark, asset)

    def plan_accruals(self, accounts: Accounts, lots: Float) -> None:
        """Work out what falls due at the instants, and the premiums after the tick.

        Raises
        ------
        RiskDataError
            The funding due may be past the range of whole numbers.
        """
        due, noted = due_instants(self.scheduled.segments, self.before, self.times), 0
        if len(self.scheduled.entries.time):
            due = sorted({*due, *np.searchsorted(self.times, self.scheduled.entries.time).tolist()})
        self._due = due
        if times := self.scheduled.times:
            self._due = sorted({*due, *np.searchsorted(self.times, times).tolist()})
        for k in due:
            self._note_premiums(noted, k)
            assert self.before is not None
            since, now = self.before if k == 0 else int(self.times[k - 1]), int(self.times[k])
            prices = self.prices_at(k)
            if k != self.last:
                prices = replace(prices, funding_rate=self._rates_at(now))
            self.accruals[k] = Accruals(accounts, prices, lots, self.premiums, self.scheduled, since, now)
            noted = k
        self._note_premiums(noted, len(self.times))

    def _note_premiums(self, first: int, last: int) -> None:
        """Take the premiums of the instants ``first:last`` into the means."""
        self.premiums.note(self.mark[first:last], self.index[first:last])

    def _rates_at(self, now: int) -> Float:
        """Funding rates of the tick of the markets for which no later instant of the tick is due."""
        later = np.zeros(len(self.prices.mark), bool)
        for _, count in self.scheduled.intervals_due(now, int(self.times[-1])):
            later |= count > 0
        return np.where(later, np.nan, self.prices.funding_rate)

    def count_open_lots(self, accounts: Accounts) -> None:
        """Take the open interest of the tick itself from the accounts' positions as they are now."""
        venue = self.prices.venue
        if venue.margin_functions.open_interest_markets:
            self.prices = replace(self.prices, open_lots=open_lots(venue, accounts, self.prices.open_interest))
