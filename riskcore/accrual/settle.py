"""Settlement: where settle runs short, lends are redeemed, then settle is borrowed, then collateral converted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ..context import TickContext
from ..liquidation import Converter
from ..record import POOL
from ..state import HOUR, RATE_UNIT, limited

_REASON = "settlement"
_NONE = float("nan")  # rows between the ticks carry no margin ratio


def settle_accounts(work: TickContext, before: npt.NDArray[np.int64]) -> None:
    """Cover settle debts that the accruals added, and unsettled debts; ``before`` holds the earlier settle balances.

    The unsettled debt of an account counts in its settle balance while the account is settled.
    """
    columns = work.accounts.columns
    free = columns.free[columns.settle_row]
    owed = np.maximum(-columns.unsettled[columns.settle_row], 0)
    added = np.maximum(np.maximum(-free, 0) - np.maximum(-before, 0), 0)
    short = added + np.maximum(owed - np.maximum(free, 0), 0)
    work.pools.refresh()
    for asset in range(len(work.venue.pools)):
        work.pools.throttle(asset, sum(added.tolist()) if asset == work.venue.settle else 0)
    due = np.flatnonzero((short > 0) | (owed > 0))
    for account in due[work.accounts.by_id(due)].tolist():
        # nobody borrows on nothing to pay an old claim
        solvent = short[account] == added[account] or work.margin(account).equity > 0
        most = short[account] if solvent else added[account]
        _Settlement(work, account).cover(int(short[account]), int(owed[account]), int(most))


class _Settlement(Converter):
    """The settlement of one account, without a fee."""

    def __init__(self, work: TickContext, account: int) -> None:
        super().__init__(work, account, _REASON, Fraction(0))

    def mmr(self) -> float:
        return _NONE

    def cover(self, short: int, owed: int, most: int) -> None:
        """Cover a lack of settle by what can be redeemed, borrowed (``most``) and sold; the rest is unsettled."""
        self.columns.free[self.settle] -= owed
        self.short = short
        redeemed = min(short, self.redeemable(self.settle))
        if redeemed:
            self.redeem(self.settle, redeemed)
        self._borrow(limited(min(self.short, most), self.state.pools.borrowable(self.state.venue.settle)))
        if self.short:
            self.raise_settle(self.short, self.settle)
        unpaid = self.short
        self.columns.free[self.settle] += unpaid
        self.columns.unsettled[self.settle] += owed - unpaid
        if unpaid != owed:
            self.state.journal.add(
                "unsettle", _REASON, self.account, _NONE, _NONE, cash=unpaid - owed, unsettled=owed - unpaid
            )

    def _borrow(self, quanta: int) -> None:
        """Borrow a part of the amount that is short; a pool charges interest for the rest of the hour."""
        if not quanta:
            return
        work, settle = self.state, self.state.venue.settle
        granted = self._granted(self.settle)
        self.short -= quanta
        work.pools.changed(settle, granted, granted - quanta, 0)
        if work.venue.pools[settle] is None:
            return
        rate, _ = work.pools.hourly(settle)
        rest_of_hour = HOUR - work.journal.time % HOUR
        interest = round(Fraction(quanta * rate * rest_of_hour, RATE_UNIT * HOUR))
        if interest:
            granted = self._granted(self.settle)
            self.columns.free[self.settle] -= interest
            work.pools.changed(settle, granted, granted - interest, 0)
            work.ledger.pool[settle] += interest
            work.journal.add(
                "interest", "entry", self.account, _NONE, _NONE, counterparty=POOL, asset=settle, quanta=-interest
            )
