"""Funding: payments between longs and shorts, at every interval of a market or by rates with their own times."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt

from .._typing import Float, Int
from ..boundary import RiskDataError, exact
from ..context import TickContext
from ..kernels.guards import add_premiums
from ..market import Prices, Scheduled
from ..record import BOOK, EVENT, REASON
from ..state import Ledger
from ..venue import Venue
from .amounts import scaled

_PARTS = 10**9  # of a settle quantum in the funding of a lot
_INTEREST = 0.0001  # 0.03 % a day for 8 hours
_DAMPER = 0.0005
_HOURS = 8.0  # that the premium's formula is for


class Funding:
    """Funding due to and from every position; an error is raised on construction, before anything has changed.

    First the instants of the markets' intervals are paid, then the entries with their own times, one time after
    another. ``lots`` are the most that there are of each market; ``total`` holds the most that changes hands of each
    asset, quanta.

    Raises
    ------
    RiskDataError
        The funding of a position is past the range of whole numbers.
    """

    def __init__(
        self, work: TickContext, lots: npt.NDArray[np.float64], scheduled: Scheduled, after: int, until: int
    ) -> None:
        self.work, self.lots = work, lots
        count, self.entries = scheduled.interval_instants(after, until), scheduled.due_entries(after, until)
        self.due: Int = np.union1d(np.flatnonzero(count), self.entries.market)
        self.payments: list[tuple[str, list[int]]] = []  # reason, and parts of a quantum of each market's lot
        if count.any():
            later = scheduled.interval_instants(until, scheduled.segments[-1].until)
            self.payments.append(("interval", self._of_intervals(count, later)))
        times = self.entries.time.tolist()
        for _, numbers in groupby(range(len(times)), times.__getitem__):
            per_lot = [0] * len(count)
            for n in numbers:
                market = int(self.entries.market[n])
                per_lot[market] = -self._of_lot(market, float(self.entries.rate[n]))
            self.payments.append(("rate", per_lot))
        self.total = np.zeros(len(work.venue.assets.quantum))
        if any(any(per_lot) for _, per_lot in self.payments):
            self._must_fit()

    def _of_intervals(self, count: Int, later: Int) -> list[int]:
        """Parts of a quantum that a lot of each market receives for a number of instants; the tick's rate comes last.

        It does not come if ``later`` instants follow in the tick.
        """
        per_lot = [0] * len(count)
        for m in np.flatnonzero(count).tolist():
            number, rate = int(count[m]), float(self.work.prices.funding_rate[m])
            if not np.isnan(rate) and not later[m]:
                per_lot[m] = -self._of_lot(m, rate)
                number -= 1
            if number:
                per_lot[m] -= self._of_lot(m, premium_rate(self.work.venue, self.work.ledger, m)) * number
        return per_lot

    def _of_lot(self, market: int, rate: float) -> int:
        """Parts of a quantum that a lot pays at a rate; 0 without a mark."""
        markets, mark = self.work.venue.markets, self.work.prices.mark[market]
        if not rate or not self.lots[market] or np.isnan(mark):
            return 0
        quantum = self.work.venue.assets.quantum[markets.settle[market]]
        parts: int = round(exact(rate) * abs(markets.lot_value(market, exact(mark))) / quantum * _PARTS)
        return parts

    def _must_fit(self) -> None:
        """Sum what changes hands, and refuse amounts that are past the range of whole numbers."""
        venue, columns = self.work.venue, self.work.accounts.columns
        lot_payment: Float = np.abs(np.array([per_lot for _, per_lot in self.payments], float)).sum(axis=0) / _PARTS
        self.total = np.bincount(venue.markets.settle, lot_payment * self.lots, len(self.total)).astype(float)
        payment = lot_payment[columns.market] * np.abs(columns.lots)
        if payment.max(initial=0.0) >= 2.0**60:
            symbol = venue.markets.symbol[int(columns.market[payment.argmax()])]
            raise RiskDataError("tick", f"funding of {symbol}", "must be less than 2**60 settle quanta a position")

    def pay(self) -> None:
        """Pay the funding, and write the journal rows."""
        for reason, per_lot in self.payments:
            if any(per_lot):
                self._pay(reason, per_lot)
        ledger = self.work.ledger
        ledger.premium_sum[self.due], ledger.premium_count[self.due] = 0.0, 0
        ledger.funding_scheduled[self.entries.market] = True

    def _pay(self, reason: str, per_lot: list[int]) -> None:
        work, columns = self.work, self.work.accounts.columns
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


def premium_rate(venue: Venue, ledger: Ledger, market: int) -> float:
    """Funding rate of one interval from the mean premium since the last funding; 0 without any."""
    samples = int(ledger.premium_count[market])
    if not samples:
        return 0.0
    premium = float(ledger.premium_sum[market]) / samples
    hours = int(venue.markets.funding_interval[market]) / 3_600_000_000_000
    rate = (premium + min(max(_INTEREST - premium, -_DAMPER), _DAMPER)) / _HOURS * hours
    return min(max(rate, float(venue.markets.funding_lower[market])), float(venue.markets.funding_upper[market]))


def note_premiums(ledger: Ledger, prices: Prices) -> None:
    """Take the tick's premiums of mark over index into the means."""
    add_premiums(prices.mark, prices.index, ledger.premium_sum, ledger.premium_count)
