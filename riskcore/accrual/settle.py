"""Settlement: where settle runs short, lends are redeemed, then settle is borrowed, then collateral converted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ..journal import POOL
from ..pools import HOUR, RATE_UNIT, limited
from ..waterfall.convert import Converter
from ..waterfall.tick_state import TickContext

_REASON = "settlement"
_NONE = float("nan")  # rows between the ticks carry no margin ratio


def settle_accounts(work: TickContext, before: npt.NDArray[np.int64]) -> None:
    """Cover what the accruals added to settle debts; ``before`` holds the free settle balances before them."""
    columns = work.accounts.columns
    free = columns.free[columns.settle_row]
    short = np.maximum(-free, 0) - np.maximum(-before, 0)
    late = (columns.unsettled < 0) & (free > 0)
    work.pools.refresh()
    for asset in range(len(work.venue.pools)):
        work.pools.throttle(asset, int(short[short > 0].sum()) if asset == work.venue.settle else 0)
    for account in np.flatnonzero((short > 0) | late).tolist():
        settlement = _Settlement(work, account)
        if late[account]:
            settlement.move_unsettled(-min(-int(columns.unsettled[account]), int(free[account])))
        else:
            settlement.cover(int(short[account]))


class _Settlement(Converter):
    """The settlement of one account, without a fee."""

    def __init__(self, work: TickContext, account: int) -> None:
        super().__init__(work, account, _REASON, Fraction(0))

    def mmr(self) -> float:
        return _NONE

    def cover(self, short: int) -> None:
        """Cover a lack of settle by what the account lends, may borrow and can sell; the rest stays unsettled."""
        self.short = short
        redeemed = min(short, self.redeemable(self.settle))
        if redeemed:
            self.redeem(self.settle, redeemed)
        self._borrow(limited(self.short, self.state.pools.borrowable(self.state.venue.settle)))
        if self.short:
            self.raise_settle(self.short, self.settle)
        if self.short:
            self.move_unsettled(self.short)

    def move_unsettled(self, quanta: int) -> None:
        """Move an amount out of the unsettled balance into the free one."""
        granted = self._granted(self.settle)
        self.columns.free[self.settle] += quanta
        self.columns.unsettled[self.account] -= quanta
        self.short = 0
        self.state.pools.changed(self.state.venue.settle, granted, self._granted(self.settle), 0)
        self.state.journal.add(
            "unsettle", _REASON, self.account, _NONE, _NONE, cash=quanta, unsettled=-quanta
        )  # fmt: skip

    def _borrow(self, quanta: int) -> None:
        """Let a part of the lack be a borrow; a pool takes the interest of what is left of the hour."""
        if not quanta:
            return
        work, settle = self.state, self.state.venue.settle
        granted = self._granted(self.settle)
        self.short -= quanta
        work.pools.changed(settle, granted, granted - quanta, 0)
        if work.venue.pools[settle] is None:
            return
        rate, _ = work.pools.hourly(settle)
        left = HOUR - work.journal.time % HOUR
        interest = round(Fraction(quanta * rate * left, RATE_UNIT * HOUR))
        if interest:
            granted = self._granted(self.settle)
            self.columns.free[self.settle] -= interest
            work.pools.changed(settle, granted, granted - interest, 0)
            work.ledger.pool[settle] += interest
            work.journal.add(
                "interest", "entry", self.account, _NONE, _NONE, counterparty=POOL, asset=settle, quanta=-interest
            )
