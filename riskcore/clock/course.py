"""A tick that was read: its instants, and the prices and payments of each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..accrual import Accruals, Premiums
from ..market import Books, Prices, PriceTable, open_lots
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
    """

    before: int | None
    times: Int
    prices: Prices
    guarded: Guarded
    books: Books
    premiums: Premiums
    table: PriceTable | None = None
    updates: Int = field(default_factory=lambda: np.empty(0, np.int64))
    accruals: dict[int, Accruals] = field(default_factory=dict)
    _between: Guarded | None = None

    @property
    def last(self) -> int:
        """Number of the instant of the tick itself."""
        return len(self.times) - 1

    def hold(self, prices: Prices, guard_state: GuardState) -> None:
        """Hold the prices and books of the tick before at the instants in between."""
        assert guard_state.books is not None
        self._between = Guarded(prices.mark, prices.index, prices.own_asset, guard_state.books, [], guard_state)

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

    def guarded_at(self, k: int) -> Guarded:
        """Books and price updates of an instant that count."""
        if k == self.last:
            return self.guarded
        assert self._between is not None
        return self._between

    def next_visit(self, k: int) -> int:
        """Number of the first instant from ``k`` on at which something falls due, or an update is rejected."""
        return min((number for number in self.accruals if number >= k), default=self.last)

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
        assert self.table is not None
        return self.table.row(k)

    def highest_prices(self) -> Prices:
        """Each price at the instant at which lots, or quanta, are worth most."""
        if self.table is None:
            return self.prices
        inverse = self.prices.venue.markets.inverse
        mark = np.fmax.reduce(self.table.mark)
        if inverse.any():
            mark = np.where(inverse, np.fmin.reduce(self.table.mark), mark)
        return replace(self.prices, mark=mark, asset=np.fmax.reduce(self.table.asset))

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
            self.accruals[k] = Accruals(accounts, prices, lots, self.premiums, since, now)
            noted = k
        self._note_premiums(noted, len(self.times))

    def _note_premiums(self, first: int, last: int) -> None:
        """Take the premiums of the instants ``first:last`` into the means."""
        if self.table is None:
            self.premiums.note(self.prices.mark[None], self.prices.index[None])
        else:
            self.premiums.note(self.table.mark[first:last], self.table.index[first:last])

    def _rates_at(self, now: int) -> Float:
        """Funding rates of the tick of the markets for which no later instant of the tick is due."""
        period = self.prices.venue.markets.funding_interval
        passed = period > 0
        period = np.maximum(period, 1)
        is_last = passed & (now // period == self.times[-1] // period)
        return np.where(is_last, self.prices.funding_rate, np.nan)

    def count_open_lots(self, accounts: Accounts) -> None:
        """Take the open interest of the tick itself from the accounts' positions as they are now."""
        venue = self.prices.venue
        if venue.margin_functions.open_interest_markets:
            self.prices = replace(self.prices, open_lots=open_lots(venue, accounts, self.prices.open_interest))
