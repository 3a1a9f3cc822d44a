"""A tick that was read: its instants, and the prices and payments of each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..accrual import Accruals, Premiums
from ..market import Books, Prices, PriceTable, Scheduled, Segment, asset_values, open_lots
from ..market.guards import Guarded, GuardState
from ..state import Accounts
from .instants import new_interval


@dataclass
class Course:
    """A tick that was read and checked: what happens at each of its n instants, the last of which is the tick itself.

    Attributes
    ----------
    before : int or None
        Time of the tick before, nanoseconds.
    times : ndarray of int64, shape (n,)
        The instants, nanoseconds.
    prices, guarded, books : Prices, Guarded, Books
        Those of the tick itself; ``books`` as they were given.
    table : PriceTable or None
        Prices of all instants; None where there is but one.
    updates : ndarray of int64
        Numbers of the instants in between that have a price update, ascending.
    accruals : dict of int to Accruals
        Payments that fall due, by the number of their instant.
    premiums : Premiums
        Those after the tick.
    scheduled : Scheduled
        Funding rates and venue changes with their own times.
    """

    before: int | None
    times: Int
    prices: Prices
    guarded: Guarded
    books: Books
    premiums: Premiums
    scheduled: Scheduled
    table: PriceTable | None = None
    updates: Int = field(default_factory=lambda: np.empty(0, np.int64))
    accruals: dict[int, Accruals] = field(default_factory=dict)
    _between: list[Guarded] = field(default_factory=list)

    @cached_property
    def segment_starts(self) -> list[int]:
        """Number of the first instant of each segment of `Scheduled`; another segment's where a segment has none."""
        return [int(np.searchsorted(self.times, segment.after + 1)) for segment in self.scheduled.segments]

    def segment_at(self, k: int) -> Segment:
        """Venue of an instant, and the markets that are delisted then."""
        return self.scheduled.segments[bisect_right(self.segment_starts, k) - 1]

    def delistings_at(self, k: int) -> tuple[tuple[int, float], ...]:
        """Market row and settlement price of the markets that are delisted at an instant, in their order."""
        segments = zip(self.scheduled.segments, self.segment_starts, strict=True)
        return tuple(delisting for segment, first in segments if first == k for delisting in segment.delistings)

    @cached_property
    def visits(self) -> list[int]:
        """Numbers of the instants at which a venue changes, an entry is given or something falls due, ascending."""
        given = np.searchsorted(self.times, self.scheduled.times)
        return sorted({*self.accruals, *given.tolist()})

    @property
    def last(self) -> int:
        """Number of the instant of the tick itself."""
        return len(self.times) - 1

    def hold(self, prices: Prices, guard_state: GuardState) -> None:
        """Hold the prices and books of the tick before at the instants in between."""
        for segment in self.scheduled.segments:
            state = guard_state.without(segment.delisted)
            assert state.books is not None
            self._between.append(Guarded(prices.mark, prices.index, prices.own_asset, state.books, [], state))

        def rows(held: Float, own: Float) -> Float:
            return np.concatenate([np.tile(held, (self.last, 1)), own[None]])

        self.table = PriceTable(
            time=pd.RangeIndex(len(self.times)),
            mark=rows(prices.mark, self.prices.mark),
            index=rows(prices.index, self.prices.index),
            open_interest=rows(prices.open_interest, self.prices.open_interest),
            given_asset=rows(prices.own_asset, self.prices.own_asset),
            asset=rows(prices.asset, self.prices.asset),
            open_lots=prices.open_lots,
            venue=prices.venue,
        )
        for segment, first in zip(self.scheduled.segments, self.segment_starts, strict=True):
            if segment.delisted.any():
                between = slice(first, self.last)
                self.table.mark[between, segment.delisted] = self.table.index[between, segment.delisted] = np.nan
                self.table.asset[between] = asset_values(
                    segment.venue, self.table.mark[between], self.table.index[between], self.table.given_asset[between]
                )

    def lacks_a_price(self, accounts: Accounts) -> bool:
        """Whether an account holds something that has no price at an instant in between, as a market is delisted."""
        instants = zip(self.scheduled.segments, self.segment_starts, strict=True)
        return any(
            self.prices_at(k).missing(accounts, segment.delisted) != (None, None)
            for segment, k in instants if k < self.last and segment.delisted.any()
        )  # fmt: skip

    def guarded_at(self, k: int) -> Guarded:
        """Books and price updates of an instant that count."""
        if k == self.last:
            return self.guarded
        return self._between[bisect_right(self.segment_starts, k) - 1]

    def next_visit(self, k: int) -> int:
        """Number of the first instant from ``k`` on at which something happens, or an update is rejected."""
        found = bisect_left(self.visits, k)
        return min(self.visits[found], self.last) if found < len(self.visits) else self.last

    def next_update(self, k: int) -> int:
        """Number of the first instant from ``k`` on with a price update."""
        found = int(np.searchsorted(self.updates, k))
        return int(self.updates[found]) if found < len(self.updates) else self.last

    def next_interval(self, k: int, since: int) -> int:
        """Number of the first instant from ``k`` on by which a minute or an interval of caps has begun after a time."""
        return max(k, new_interval(self.prices.venue.policy, since, self.times))

    def prices_at(self, k: int) -> Prices:
        """Prices of an instant."""
        if k == self.last:
            return self.prices
        return self.table_at(k).row(k)

    def table_at(self, k: int) -> PriceTable:
        """Prices of all instants, with the venue of one of them."""
        assert self.table is not None
        return replace(self.table, venue=self.segment_at(k).venue)

    def highest_prices(self) -> Prices:
        """Each price at the instant at which lots, or quanta, are worth most; settlement prices are among them."""
        settled = [delisting for segment in self.scheduled.segments for delisting in segment.delistings]
        if self.table is None and not settled:
            return self.prices
        marks, assets = self.prices.mark[None], self.prices.asset[None]
        if self.table is not None:
            marks, assets = self.table.mark, self.table.asset
        for market, price in settled:
            row = np.full(marks.shape[1:], np.nan)
            row[market] = price
            marks = np.concatenate([marks, row[None]])
        inverse = self.prices.venue.markets.inverse
        mark = np.fmax.reduce(marks)
        if inverse.any():
            mark = np.where(inverse, np.fmin.reduce(marks), mark)
        return replace(self.prices, mark=mark, asset=np.fmax.reduce(assets))

    def plan_accruals(self, accounts: Accounts, lots: Float, due: Int) -> None:
        """Work out what falls due at some instants, by number, and the premiums after the tick.

        Raises
        ------
        RiskDataError
            The funding due may be past the range of whole numbers.
        """
        noted = 0
        for k in due.tolist():
            self._note_premiums(noted, k)
            since, now = self.before if k == 0 else int(self.times[k - 1]), int(self.times[k])
            assert since is not None
            prices = self.prices_at(k)
            if k != self.last:
                prices = replace(prices, funding_rate=self._rates_at(now))
            self.accruals[k] = Accruals(accounts, prices, lots, self.premiums, self.scheduled, since, now)
            noted = k
        self._note_premiums(noted, len(self.times))

    def _note_premiums(self, first: int, last: int) -> None:
        """Take the premiums of the instants ``first:last`` into the means."""
        prices = self.prices if self.table is None else self.table
        marks, indexes = (np.atleast_2d(of) for of in (prices.mark, prices.index))
        self.premiums.note(marks[first:last], indexes[first:last])

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
