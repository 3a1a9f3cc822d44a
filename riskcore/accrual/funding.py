"""Funding: payments between longs and shorts, at every interval of a market or by rates with their own times."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import numpy as np

from .._typing import Float, Int
from ..boundary import RiskDataError, exact
from ..context import TickContext
from ..kernels.guards import add_premiums
from ..market import Prices, Scheduled
from ..record import BOOK, EVENT, REASON
from ..state import Accounts
from ..venue import Venue
from .amounts import scaled

_PARTS = 10**9  # of a settle quantum in the funding of a lot
_INTEREST = 0.0001  # 0.03 % a day for 8 hours
_DAMPER = 0.0005
_HOURS = 8.0  # that the premium's formula is for


class Premiums(NamedTuple):
    """Premiums of the mark over the index since each market's last funding.

    Attributes
    ----------
    sums : ndarray of float64, shape (M,)
    counts : ndarray of int64, shape (M,)
    """

    sums: Float
    counts: Int

    def note(self, mark: Float, index: Float) -> None:
        """Take the premiums of some instants into the means; arrays of shape (n, M), one instant after another."""
        add_premiums(mark, index, self.sums, self.counts)


class Funding:
    """Funding due to and from every position; an error is raised on construction, before anything has changed.

    First the instants of the markets' intervals are paid, then the entries with their own times, one time after
    another. ``lots`` are the most that there are of each market, ``premiums`` those before this instant; ``total``
    holds the most that changes hands of each asset, quanta.

    Raises
    ------
    RiskDataError
        The funding of a position is past the range of whole numbers.
    """

    def __init__(
        self, accounts: Accounts, prices: Prices, lots: Float, premiums: Premiums, scheduled: Scheduled, before: int,
        now: int,
    ) -> None:  # fmt: skip
        self._prices, self._lots = prices, lots
        intervals, self._entries = scheduled.intervals_due(before, now), scheduled.due_entries(before, now)
        markets = [np.flatnonzero(count) for _, count in intervals]
        self.due: Int = np.unique(np.concatenate([*markets, self._entries.market]))
        self._payments: list[tuple[str, list[int]]] = []  # reason, and parts of a quantum of each market's lot
        if intervals:
            self._payments.append(("interval", self._of_intervals(intervals, premiums)))
        times = self._entries.time.tolist()
        for _, numbers in groupby(range(len(times)), times.__getitem__):
            per_lot = [0] * len(lots)
            for n in numbers:
                market = int(self._entries.market[n])
                per_lot[market] = -self._of_lot(market, float(self._entries.rate[n]))
            self._payments.append(("rate", per_lot))
        self.total = np.zeros(len(prices.venue.assets.quantum))
        if any(any(per_lot) for _, per_lot in self._payments):
            self._must_fit(accounts)

    def _of_intervals(self, intervals: list[tuple[Venue, Int]], premiums: Premiums) -> list[int]:
        """Parts of a quantum that a lot of each market receives for some instants; the last has the tick's own rate."""
        per_lot = [0] * len(self._lots)
        tick_rate = self._prices.funding_rate.copy()
        for venue, count in reversed(intervals):
            for m in np.flatnonzero(count).tolist():
                number = int(count[m])
                if not np.isnan(tick_rate[m]):
                    per_lot[m] -= self._of_lot(m, float(tick_rate[m]))
                    number, tick_rate[m] = number - 1, np.nan
                if number:
                    per_lot[m] -= self._of_lot(m, premium_rate(venue, premiums, m)) * number
        return per_lot

    def _of_lot(self, market: int, rate: float) -> int:
        """Parts of a quantum that a lot pays at a rate; 0 without a mark."""
        venue, mark = self._prices.venue, self._prices.mark[market]
        if not rate or not self._lots[market] or np.isnan(mark):
            return 0
        quantum = venue.assets.quantum[venue.markets.settle[market]]
        parts: int = round(exact(rate) * abs(venue.markets.lot_value(market, exact(mark))) / quantum * _PARTS)
        return parts

    def _must_fit(self, accounts: Accounts) -> None:
        """Sum what changes hands, and refuse amounts that are past the range of whole numbers."""
        venue, columns = self._prices.venue, accounts.columns
        lot_payment: Float = np.abs(np.array([per_lot for _, per_lot in self._payments], float)).sum(axis=0) / _PARTS
        self.total = np.bincount(venue.markets.settle, lot_payment * self._lots, len(self.total)).astype(float)
        payment = lot_payment[columns.market] * np.abs(columns.lots)
        if payment.max(initial=0.0) >= 2.0**60:
            symbol = venue.markets.symbol[int(columns.market[payment.argmax()])]
            raise RiskDataError("tick", f"funding of {symbol}", "must be less than 2**60 settle quanta a position")

    def pay(self, work: TickContext) -> None:
        """Pay the funding, and write the journal rows."""
        for reason, per_lot in self._payments:
            if any(per_lot):
                _pay(work, reason, per_lot)
        work.ledger.funding_scheduled[self._entries.market] = True


def _pay(work: TickContext, reason: str, per_lot: list[int]) -> None:
    columns = work.accounts.columns
    cash = scaled(columns.lots, columns.market, per_lot, _PARTS)
    paid = np.flatnonzero(cash)
    owner = work.accounts.position_accounts()[paid]
    by_id = work.accounts.by_id(owner)
    paid, owner = paid[by_id], owner[by_id]
    cash, market = cash[paid], columns.market[paid]
    settle = work.venue.markets.settle[market]
    np.add.at(columns.free, columns.position_balance[paid], cash)
    np.subtract.at(work.ledger.book_quanta, settle, cash)
    rows = work.journal.block(len(paid))
    rows["event"], rows["reason"] = EVENT["funding"], REASON[reason]
    rows["account"], rows["counterparty"], rows["market"], rows["settle"] = owner, BOOK, market, settle
    rows["cash"], rows["counter_cash"], rows["price"] = cash, -cash, work.prices.mark[market]
    work.journal.extend(rows)


def premium_rate(venue: Venue, premiums: Premiums, market: int) -> float:
    """Funding rate of one interval from the mean premium since the last funding; 0 without any."""
    samples = int(premiums.counts[market])
    if not samples:
        return 0.0
    premium = float(premiums.sums[market]) / samples
    hours = int(venue.markets.funding_interval[market]) / 3_600_000_000_000
    rate = (premium + min(max(_INTEREST - premium, -_DAMPER), _DAMPER)) / _HOURS * hours
    return min(max(rate, float(venue.markets.funding_lower[market])), float(venue.markets.funding_upper[market]))
