"""Phase 2: borrows are repaid, from lends and from collateral sold at the index."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from ..kernels.margin import BELOW_AUTO_CLOSE, SAFE
from .convert import Converter
from .tick_state import TickState


def repay_borrows(state: TickState) -> None:
    """Repay each borrow by a slice, or whole when the account is below the auto-close fraction."""
    columns = state.accounts.columns
    for n in np.flatnonzero(state.statuses() != SAFE):
        account = int(state.selected[n])
        for row in state.accounts.balances_of(account):
            if columns.free[row] < 0 and not _Repayment(state, account).repay(row):
                break


class _Repayment(Converter):
    """The repayment of one account's borrows."""

    def __init__(self, state: TickState, account: int) -> None:
        super().__init__(state, account, "debt", state.venue.policy.liquidation_fee)

    def enough(self) -> bool:
        return self.state.margin(self.account).status == SAFE

    def repay(self, row: int) -> bool:
        """Repay one borrow by its target; return whether the account is still liquidating."""
        columns = self.columns
        target = self.target(row)
        redeemed = min(self.redeemable(row), target)
        if redeemed:
            self.redeem(row, redeemed)
            if self.enough():
                return False
            target -= redeemed
        if not target:
            return True
        if row == self.settle:
            self.raise_settle(target, row)
            return not self.enough()
        worth = self.worth(row)
        value = round(worth * target)
        due = value + round(value * self.fee)
        missing = due - max(int(columns.free[self.settle]), 0)
        if missing > 0:
            self.raise_settle(missing, row)
        at_hand = int(columns.free[self.settle])
        if due > at_hand:
            target = min(target, floor(at_hand / (worth * (1 + self.fee))))
        if target > 0:
            self.exchange(row, target)
        return not self.enough()

    def target(self, row: int) -> int:
        """Quanta of the debt to repay in this tick."""
        debt = -int(self.columns.free[row])
        if self.state.margin(self.account).status == BELOW_AUTO_CLOSE:
            return debt
        policy, venue = self.state.venue.policy, self.state.venue
        smallest = ceil(policy.min_slice_notional / venue.settle_quantum / self.worth(row))
        return min(debt, max(floor(debt * policy.slice_fraction), smallest, 1))
