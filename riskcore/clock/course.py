"""A tick that was read: its instants, and the prices and payments of each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from .._typing import Bool, Float
from ..accrual import Accruals, Premiums
from ..kernels import path as kernels
from ..market import Path as PricePath
from ..market import Prices, PriceTable, Scheduled, Segment, open_lots
from ..market.guards import Guarded, GuardedPath, GuardState, Refusal, guard_path
from ..state import Accounts
from .instants import due_instants, new_interval


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

    def __init__(
        self, path: PricePath, guard_state: GuardState, scheduled: Scheduled, accounts: Accounts, premiums: Premiums
    ) -> None:
        self.before, self.times, self.books = path.before, path.time, path.books
        self.scheduled, self.premiums = scheduled, premiums
        self.accruals: dict[int, Accruals] = {}
        self._segments: list[Segment] = []
        self._firsts: list[int] = []
        self._paths: list[GuardedPath] = []
        # a segment may have no instant: another change follows before the first one
        self._starts = [0, *(int(np.searchsorted(self.times, part.after + 1)) for part in scheduled.segments[1:])]
        ends = [*self._starts[1:], len(self.times)]
        delisted: Bool | None = None  # of the last segment, if there are any
        for segment, first, end in zip(scheduled.segments, self._starts, ends, strict=True):
            if first < end:
                state = self._paths[-1].state_at(-1) if self._paths else guard_state
                delisted = segment.delisted if any(segment.delisted.tolist()) else None
                self._paths.append(guard_path(segment.venue, state, path, first, end, delisted))
                self._segments.append(segment)
                self._firsts.append(first)
        self.mark, self.index, own = self._joined("mark"), self._joined("index"), self._joined("own_asset")
        self.prices = path.given.guarded(accounts, self.mark[-1], self.index[-1], own[-1], delisted)
        self.last = len(self.times) - 1
        self._last, self._own = path.last, own
        self._asset = self._joined("asset") if self.last else self.prices.asset[None]

    def _joined(self, name: str) -> Float:
        """Column of all instants."""
        if len(self._paths) == 1:
            column: Float = getattr(self._paths[0], name)
            return column
        return np.concatenate([getattr(part, name) for part in self._paths])

    @cached_property
    def _tables(self) -> list[PriceTable]:
        """Prices of all instants, with the venue of each segment; none of a tick that has only itself."""
        if not self.last:
            return []
        assert self._last is not None
        table = PriceTable(
            time=pd.RangeIndex(len(self.times)),
            mark=self.mark,
            index=self.index,
            open_interest=np.broadcast_to(self._last.open_interest, self.mark.shape),
            given_asset=self._own,
            asset=self._asset,
            open_lots=self._last.open_lots,
            venue=self._segments[0].venue,
        )
        return [table, *(replace(table, venue=segment.venue) for segment in self._segments[1:])]

    @cached_property
    def _updates(self) -> list[int]:
        return list(self._joined("updates").nonzero()[0].tolist())

    @cached_property
    def _visits(self) -> list[int]:
        """Instants that are visited whoever is liquidating: something is due or rejected there, or a venue changes."""
        visits = [*self._joined("refused").nonzero()[0].tolist(), *self.accruals]
        if self.scheduled.times:
            visits += np.searchsorted(self.times, self.scheduled.times).tolist()
        return sorted(set(visits))

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
        segments = zip(self.scheduled.segments, self._starts, strict=True)
        return tuple(delisting for segment, first in segments if first == k for delisting in segment.delistings)

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
        found = bisect_left(self._visits, k)
        return min(self._visits[found], self.last) if found < len(self._visits) else self.last

    def next_update(self, k: int) -> int:
        """Number of the first instant from ``k`` on with a price update."""
        found = bisect_left(self._updates, k)
        return self._updates[found] if found < len(self._updates) else self.last

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
        return replace(self.prices, mark=mark, asset=asset)

    def plan_accruals(self, accounts: Accounts, lots: Float) -> None:
        """Work out what falls due at the instants, and the premiums after the tick.

        Raises
        ------
        RiskDataError
            The funding due may be past the range of whole numbers.
        """
        if self.before is None:
            self._note_premiums(0, 1)
            return
        due = due_instants(self.scheduled.segments, self.before, self.times)
        if len(self.scheduled.entries.time):
            due = sorted({*due, *np.searchsorted(self.times, self.scheduled.entries.time).tolist()})
        noted = 0
        for k in due:
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
