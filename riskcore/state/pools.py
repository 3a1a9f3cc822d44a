"""Borrow-lend pools: amounts lent and borrowed, the rate, and the amounts that may be redeemed or borrowed."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from ..venue import Policy, Pool, Venue
from .accounts import Accounts

HOUR = 3_600_000_000_000
HOURS_A_YEAR = 8760
RATE_UNIT = 10**15
"""Interest of an hour is a whole number of these parts of the amount."""


class Pools:
    """Lent and borrowed quanta of each asset with a pool, those outside the run included, counted when first asked for.

    ``bound`` is the highest utilisation that redeeming and borrowing may reach; without one, all that is not lent out.
    """

    def __init__(self, venue: Venue, accounts: Accounts) -> None:
        self.pools, self.policy, self.columns = venue.pools, venue.policy, accounts.columns
        self.lent: dict[int, int] = {}
        self.borrowed: dict[int, int] = {}
        self.bound: dict[int, Fraction] = {}

    def refresh(self) -> None:
        """Drop the counted amounts and the bounds."""
        for counted in (self.lent, self.borrowed, self.bound):
            counted.clear()

    def throttle(self, asset: int, ungranted: int) -> None:
        """Set the bound of this tick from the utilisation of this moment (venue_rules.md section 6).

        ``ungranted`` quanta of the debts are not borrows yet.
        """
        pool = self._counted(asset)
        if pool is not None:
            self.borrowed[asset] -= ungranted
            used = self.utilization(asset)
            self.bound[asset] = min(pool.highest, max(pool.threshold, used + pool.update * (pool.highest - used)))

    def utilization(self, asset: int) -> Fraction:
        """Borrowed over lent, at most 1; without lenders 1 if anything is borrowed."""
        lent, borrowed = self.lent[asset], self.borrowed[asset]
        if lent <= 0:
            return Fraction(int(borrowed > 0))
        return min(Fraction(borrowed, lent), Fraction(1))

    def redeemable(self, asset: int) -> int | None:
        """Quanta that may be redeemed now; None: without limit."""
        if self._counted(asset) is None:
            return None
        bound = self.bound.get(asset, Fraction(1))
        return max(0, floor(self.lent[asset] - self.borrowed[asset] / bound))

    def borrowable(self, asset: int) -> int | None:
        """Quanta that may be borrowed now; None: without limit."""
        pool = self._counted(asset)
        if pool is None:
            return None
        if not pool.is_open:
            return 0
        room = floor(self.bound[asset] * self.lent[asset]) - self.borrowed[asset]
        if pool.limit is not None:
            room = min(room, pool.limit - self.borrowed[asset])
        return max(0, room)

    def changed(self, asset: int, free_before: int, free_after: int, lent: int) -> None:
        """Record that a free balance went from one amount to another and a lent one changed by ``lent``."""
        if asset in self.lent:
            self.lent[asset] += lent
            self.borrowed[asset] += max(-free_after, 0) - max(-free_before, 0)

    def accrued(self, asset: int, paid: int, received: int) -> None:
        """Record the interest that borrowers paid and lenders received."""
        self.borrowed[asset] += paid
        self.lent[asset] += received

    def hourly(self, asset: int) -> tuple[int, int]:
        """Interest of an hour that borrowers pay and lenders receive now, in parts of ``RATE_UNIT``."""
        pool = self._counted(asset)
        assert pool is not None
        used = self.utilization(asset)
        rate = borrow_rate(self.policy, pool, used) / HOURS_A_YEAR
        return round(rate * RATE_UNIT), round(rate * used * (1 - pool.fee) * RATE_UNIT)

    def _counted(self, asset: int) -> Pool | None:
        """Pool of an asset, its lends and borrows counted."""
        pool = self.pools[asset]
        if pool is not None and asset not in self.lent:
            rows = self.columns.asset == asset
            free = self.columns.free[rows]
            self.lent[asset] = pool.lent + int(self.columns.lent[rows].sum())
            self.borrowed[asset] = pool.borrowed - int(free[free < 0].sum())
        return pool


def limited(amount: int, limit: int | None) -> int:
    """Return an amount, or the limit if that is less."""
    return amount if limit is None else min(amount, limit)


def borrow_rate(policy: Policy, pool: Pool, used: Fraction) -> Fraction:
    """Yearly borrow rate at a utilisation: two slopes that meet at the optimal one (venue_rules.md section 6)."""
    if used <= pool.optimal:
        return policy.borrow_rate_base + policy.borrow_rate_slope * used / pool.optimal
    above_optimal = (used - pool.optimal) / (1 - pool.optimal)
    return policy.borrow_rate_base + policy.borrow_rate_slope + policy.borrow_rate_jump * above_optimal
