"""Settlement of realised losses and of interest: redemption, borrowing, sale of collateral."""

from __future__ import annotations

import math
from fractions import Fraction

from .journal import POOL
from .numbers import HOUR, INFINITY, rhe
from .tick_state import TickState


class Settlement(TickState):
    """Settlement of realised losses and of interest: redemption, borrowing, sale of collateral."""

    def settlement(self, asset: str, debts) -> None:
        """The settlement of one money asset; `debts` are those before interest (Settlement)."""
        self.settling = asset
        for account_id, account in self.state.accounts.items():
            if asset not in account.balances:
                continue
            owed, free = max(-account.unsettled[asset], 0), account.balances[asset][0]
            self.added[account_id] = max(self.debt(account_id, asset) - debts[account_id], 0)
            lacking = max(owed - max(free, 0), 0)
            self.owed[account_id], self.short[account_id] = owed, self.added[account_id] + lacking
        self.bounds = {pool: self.bound(pool) for pool in self.venue.pools}
        for account_id in list(self.short):
            for cover in (self.settle_by_redeeming, self.settle_by_borrowing, self.settle_by_selling):
                if self.short[account_id] > 0:
                    cover(account_id, asset)
            cash = self.short.pop(account_id) - self.owed.pop(account_id)
            if cash != 0:
                self.record("unsettle", "settlement", account_id, settle=asset, cash=cash, unsettled=-cash)
        self.settling = None

    def bound(self, asset: str) -> Fraction:
        """`bound` of a pool (Settlement)."""
        pool, u = self.venue.pools[asset], self.utilisation(asset)
        return min(pool.highest, max(pool.threshold, u + pool.update_fraction * (pool.highest - u)))

    def redeemable(self, asset: str):
        """What settlement can redeem of an asset (Settlement)."""
        if asset not in self.venue.pools:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        return max(0, math.floor(lent - borrowed / self.bounds[asset]))

    def borrowable(self, asset: str):
        """What settlement can borrow of an asset (Settlement)."""
        pool = self.venue.pools.get(asset)
        if pool is None:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        room = min(math.floor(self.bounds[asset] * lent - borrowed), pool.limit - borrowed)
        return max(0, room) if pool.is_open else 0

    def settle_by_redeeming(self, account_id, settle: str) -> None:
        """Lends of the asset are redeemed (Settlement)."""
        lent = self.state.accounts[account_id].balances[settle][1]
        redeemed = min(self.short[account_id], lent, self.redeemable(settle))
        if redeemed > 0:
            self.redeem(account_id, settle, redeemed, "settlement")
            self.short[account_id] -= redeemed

    def settle_by_borrowing(self, account_id, settle: str) -> None:
        """The debt is granted, and the rest of the running hour of it paid (Settlement)."""
        granted = min(self.short[account_id], self.borrowable(settle))
        if self.look(account_id).net_equity <= 0:
            granted = min(granted, self.added[account_id])
        self.short[account_id] -= granted
        if granted > 0 and settle in self.venue.pools:
            rate, left = self.hourly_rates(settle)[0], HOUR - self.time_ns % HOUR
            fee = rhe(Fraction(granted * rate * left, 10**15 * HOUR))
            if fee != 0:
                self.record("interest", "entry", account_id, counterparty=POOL, asset=settle, quanta=-fee)

    def settle_by_selling(self, account_id, settle: str) -> None:
        """Collateral is sold without a fee (Settlement)."""
        balances = self.state.accounts[account_id].balances
        for asset in self.collateral(account_id, settle):
            if self.short[account_id] <= 0:
                return
            free, lent = max(balances[asset][0], 0), balances[asset][1]
            have = free + min(lent, self.redeemable(asset))
            unit_value = self.prices.of_quantum(self.venue, asset, settle)
            sold = min(have, math.ceil(self.short[account_id] / unit_value))
            if sold > free:
                self.redeem(account_id, asset, sold - free, "settlement")
            if sold > 0:
                proceeds = self.convert(account_id, asset, -sold, "settlement", settle)
                self.short[account_id] = max(self.short[account_id] - proceeds, 0)
