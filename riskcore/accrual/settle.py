"""Settlement: where money runs short, lends are redeemed, then money is borrowed, then collateral converted."""

from __future__ import annotations

import numpy as np

from .._typing import AnyInt, Int
from ..context import TickContext
from ..liquidation import Converter
from ..record import POOL
from ..state import limited
from .interest import entry_interest

_REASON = "settlement"
_NONE = float("nan")  # rows between the ticks carry no margin ratio


def money_balances(work: TickContext) -> dict[int, tuple[AnyInt, Int]]:
    """Balance rows of each money asset, and their free quanta now."""
    columns, (settle, *others) = work.accounts.columns, work.venue.money
    rows: dict[int, AnyInt] = {settle: columns.settle_row}
    rows |= {asset: np.flatnonzero(columns.asset == asset) for asset in others}
    return {asset: (row, columns.free[row]) for asset, row in rows.items()}


def settle_accounts(work: TickContext, before: dict[int, tuple[AnyInt, Int]]) -> None:
    """Cover debts of money assets that the accruals added, and unsettled debts, one asset after another.

    The unsettled debt of an account counts in its balance while the account is settled. ``before`` are the
    `money_balances` before the accruals.
    """
    columns = work.accounts.columns
    for asset, (rows, free_before) in before.items():
        free = columns.free[rows]
        owed = np.maximum(-columns.unsettled[rows], 0)
        added = np.maximum(np.maximum(-free, 0) - np.maximum(-free_before, 0), 0)
        short = added + np.maximum(owed - np.maximum(free, 0), 0)
        work.pools.refresh()
        for pool in range(len(work.venue.pools)):
            work.pools.throttle(pool, sum(added.tolist()) if pool == asset else 0)
        chosen = np.flatnonzero((short > 0) | (owed > 0))
        owner = chosen if asset == work.venue.settle else work.accounts.balance_accounts()[rows[chosen]]
        by_id = work.accounts.by_id(owner)
        for n, account in zip(chosen[by_id].tolist(), owner[by_id].tolist(), strict=True):
            # nobody borrows on nothing to pay an old claim
            solvent = short[n] == added[n] or work.margin(account).equity > 0
            most = short[n] if solvent else added[n]
            _Settlement(work, account, int(rows[n])).cover(int(short[n]), int(owed[n]), int(most))


class _Settlement(Converter):
    """The settlement of the debt of one account in the asset of a balance row, without a fee."""

    def __init__(self, work: TickContext, account: int, row: int) -> None:
        super().__init__(work, account, _REASON, row)

    def mmr(self) -> float:
        return _NONE

    def cover(self, short: int, owed: int, most: int) -> None:
        """Cover a lack of money by what can be redeemed, borrowed (``most``) and sold; the rest is unsettled."""
        self.columns.free[self.settle] -= owed
        self.short = short
        redeemed = min(short, self.redeemable(self.settle))
        if redeemed:
            self.redeem(self.settle, redeemed)
        self._borrow(limited(min(self.short, most), self.state.pools.borrowable(self.money)))
        if self.short:
            self.raise_settle(self.short, self.settle)
        unpaid = self.short
        self.columns.free[self.settle] += unpaid
        self.columns.unsettled[self.settle] += owed - unpaid
        if unpaid != owed:
            self.state.journal.add(
                "unsettle", _REASON, self.account, _NONE, _NONE, settle=self.money, cash=unpaid - owed,
                unsettled=owed - unpaid,
            )  # fmt: skip

    def _borrow(self, quanta: int) -> None:
        """Borrow a part of the amount that is short; a pool charges interest for the rest of the hour."""
        if not quanta:
            return
        work, settle = self.state, self.money
        granted = self._granted(self.settle)
        self.short -= quanta
        work.pools.changed(settle, granted, granted - quanta, 0)
        if work.venue.pools[settle] is None:
            return
        interest = entry_interest(work.pools, settle, quanta, work.journal.time)
        if interest:
            granted = self._granted(self.settle)
            self.columns.free[self.settle] -= interest
            work.pools.changed(settle, granted, granted - interest, 0)
            work.ledger.pool[settle] += interest
            work.journal.add(
                "interest", "entry", self.account, _NONE, _NONE, counterparty=POOL, asset=settle, quanta=-interest
            )
