"""Funding: payments between longs and shorts at every interval of a market (venue_rules.md 1.7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._typing import Float, Int
from ..boundary import RiskDataError, exact
from ..context import TickContext
from ..kernels.guards import add_premiums
from ..market import Prices
from ..record import BOOK, EVENT, REASON
from ..state import Accounts
from ..venue import Venue
from .amounts import instants, scaled

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

    ``lots`` are the most that there are of each market, ``premiums`` those before this instant; ``total`` holds the
    most that changes hands of each asset, quanta.

    Raises
    ------
    RiskDataError
        The funding of a position is past the range of whole numbers.
    """

    def __init__(
        self, accounts: Accounts, prices: Prices, lots: Float, premiums: Premiums, before: int, now: int
    ) -> None:
        venue, columns = prices.venue, accounts.columns
        settle, quantum = venue.markets.settle, venue.assets.quantum
        self.count = [instants(before, now, p) if p else 0 for p in venue.markets.funding_interval.tolist()]
        self.due = np.flatnonzero(self.count).tolist()
        self.per_lot = [0] * len(self.count)
        for m in self.due:
            rate = funding_rate(venue, prices, premiums, m)
            if rate and lots[m] and not np.isnan(prices.mark[m]):
                lot = abs(venue.markets.lot_value(m, exact(prices.mark[m]))) / quantum[settle[m]]
                self.per_lot[m] = -round(exact(rate) * lot * _PARTS) * self.count[m]
        self.total = np.zeros(len(quantum))
        if any(self.per_lot):
            lot_payment = np.abs(np.array(self.per_lot, float) / _PARTS)
            self.total = np.bincount(settle, lot_payment * lots, len(quantum)).astype(float)
            payment = lot_payment[columns.market] * np.abs(columns.lots)
            if payment.max(initial=0.0) >= 2.0**60:
                symbol = venue.markets.symbol[int(columns.market[payment.argmax()])]
                raise RiskDataError("tick", f"funding of {symbol}", "must be less than 2**60 settle quanta a position")

    def pay(self, work: TickContext) -> None:
        """Pay the funding, and write the journal rows."""
        if not self.due:
            return
        columns = work.accounts.columns
        cash = scaled(columns.lots, columns.market, self.per_lot, _PARTS)
        paid = np.flatnonzero(cash)
        owner = work.accounts.position_accounts()[paid]
        by_id = work.accounts.by_id(owner)
        paid, owner = paid[by_id], owner[by_id]
        cash, market = cash[paid], columns.market[paid]
        settle = work.venue.markets.settle[market]
        np.add.at(columns.free, columns.position_balance[paid], cash)
        np.subtract.at(work.ledger.book_quanta, settle, cash)
        rows = work.journal.block(len(paid))
        rows["event"], rows["reason"] = EVENT["funding"], REASON["interval"]
        rows["account"], rows["counterparty"], rows["market"], rows["settle"] = owner, BOOK, market, settle
        rows["cash"], rows["counter_cash"], rows["price"] = cash, -cash, work.prices.mark[market]
        work.journal.extend(rows)


def funding_rate(venue: Venue, prices: Prices, premiums: Premiums, market: int) -> float:
    """Funding rate of one interval: the tick's, or from the mean premium since the last; 0 without either."""
    rate_of_tick = float(prices.funding_rate[market])
    if not np.isnan(rate_of_tick):
        return rate_of_tick
    samples = int(premiums.counts[market])
    if not samples:
        return 0.0
    premium = float(premiums.sums[market]) / samples
    hours = int(venue.markets.funding_interval[market]) / 3_600_000_000_000
    rate = (premium + min(max(_INTEREST - premium, -_DAMPER), _DAMPER)) / _HOURS * hours
    return min(max(rate, float(venue.markets.funding_lower[market])), float(venue.markets.funding_upper[market]))
