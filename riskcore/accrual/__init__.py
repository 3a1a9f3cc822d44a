"""Payments that fall due: interest, funding, realisation of profit and loss, and settlement.

The rules are in docs/one_tick.md, "Between the ticks".
"""

from __future__ import annotations

from .._typing import Float
from ..context import TickContext
from ..market import Prices, Scheduled
from ..state import Accounts
from .funding import Funding, Premiums
from .interest import charge_interest, entry_interest, hours_due, max_growth
from .realize import realization_due, realize_pnl
from .settle import money_balances, settle_accounts

__all__ = ["Accruals", "Premiums", "entry_interest", "max_growth"]


class Accruals:
    """What falls due at an instant; an error is raised on construction, before anything has changed.

    Parameters
    ----------
    accounts, prices
        The state, and prices of the instant.
    lots
        The most that there are of each market.
    premiums
        Those before the instant; the markets of which funding is due begin anew.
    scheduled
        Funding rates with their own times, and the venues of the tick.
    before, now
        Times of the instant before and of this one, nanoseconds.

    Attributes
    ----------
    hours : int
        Hours of interest that are due.
    total : ndarray of float64, shape (K,)
        The most that funding moves of each asset, quanta.

    Raises
    ------
    RiskDataError
        The funding due may be past the range of whole numbers.
    """

    def __init__(
        self, accounts: Accounts, prices: Prices, lots: Float, premiums: Premiums, scheduled: Scheduled, before: int,
        now: int,
    ) -> None:  # fmt: skip
        self._lots = lots
        self.hours = hours_due(prices.venue, before, now)
        self._realizing = realization_due(prices.venue, before, now)
        self._funding = Funding(accounts, prices, lots, premiums, scheduled, before, now)
        self.total = self._funding.total
        premiums.sums[self._funding.due], premiums.counts[self._funding.due] = 0.0, 0

    def apply(self, work: TickContext) -> None:
        """Pay all of it, and settle what accounts then lack."""
        before_accruals = money_balances(work)
        # interest first: what falls due on the hour has not been borrowed in the hour before
        charge_interest(work, self.hours)
        self._funding.pay(work)
        if self._realizing:
            realize_pnl(work, self._lots)
        if self.hours or self._realizing or self._funding.due.size:
            settle_accounts(work, before_accruals)
