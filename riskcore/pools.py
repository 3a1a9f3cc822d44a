"""Borrow-lend pools: what is lent and borrowed now, its rate, and what may be redeemed or borrowed."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from .accounts import Accounts
from .venue import Policy, Pool, Venue

HOUR = 3_600_000_000_000
HOURS_A_YEAR = 8760
RATE_UNIT = 10**15
"""Interest of an hour is a whole number of these parts of the amount."""


class Pools:
    """Lent and borrowed quanta of every asset with a pool, those outside the run included.

    ``bound`` is the highest utilisation that redeeming and borrowing may reach, None: whatever is not lent out.
    """

    def __init__(self, venue: Venue, accounts: Accounts) -> None:
        self.pools, self.policy = venue.pools, venue.policy
        self.lent: dict[int, int] = {}
        self.borrowed: dict[int, int] = {}
        self.bound: dict[int, Fraction] = {}
        self.refresh(accounts)

    def refresh(self, accounts: Accounts) -> None:
        """Count anew what is lent and borrowed, without bounds."""
        columns = accounts.columns
        self.bound.clear()
        for k, pool in enumerate(self.pools):
            if pool is not None:
                own = columns.asset == k
                free = columns.free[own]
                self.lent[k] = pool.lent + int(columns.lent[own].sum())
                self.borrowed[k] = pool.borrowed - int(free[free < 0].sum())

    def utilization(self, asset: int) -> Fraction:
        """Borrowed over lent, at most 1."""
        return utilization(self.lent[asset], self.borrowed[asset])

    def throttle(self) -> None:
        """Set the bounds of this tick from the utilisation of this moment (venue_rules.md section 6)."""
        for k in self.lent:
            pool, used = self._pool(k), self.utilization(k)
            self.bound[k] = min(pool.highest, max(pool.threshold, used + pool.update * (pool.highest - used)))

    def redeemable(self, asset: int) -> int | None:
        """Quanta that may be redeemed now; None: without limit."""
        if asset not in self.lent:
            return None
        bound = self.bound.get(asset, Fraction(1))
        return max(0, floor(self.lent[asset] - self.borrowed[asset] / bound))

    def borrowable(self, asset: int) -> int | None:
        """Quanta that may be borrowed now; None: without limit."""
        if asset not in self.lent:
            return None
        pool = self._pool(asset)
        if not pool.is_open:
            return 0
        room = floor(self.bound[asset] * self.lent[asset]) - self.borrowed[asset]
        if pool.limit is not None:
            room = min(room, pool.limit - self.borrowed[asset])
        return max(0, room)

    def changed(self, asset: int, free_before: int, free_after: int, lent: int) -> None:
        """Take note that a free balance went from one amount to another and a lent one changed by ``lent``."""
        if asset in self.lent:
            self.lent[asset] += lent
            self.borrowed[asset] += max(-free_after, 0) - max(-free_before, 0)

    def hourly(self, asset: int) -> tuple[int, int]:
        """Interest of an hour that borrowers pay and lenders receive now, in parts of ``RATE_UNIT``."""
        pool, used = self._pool(asset), self.utilization(asset)
        rate = borrow_rate(self.policy, pool, used) / HOURS_A_YEAR
        return round(rate * RATE_UNIT), round(rate * used * (1 - pool.fee) * RATE_UNIT)

    def _pool(self, asset: int) -> Pool:
        pool = self.pools[asset]
        assert pool is not None
        return pool


def limited(amount: int, limit: int | None) -> int:
    """Return an amount, or the limit if that is less."""
    return amount if limit is None else min(amount, limit)


def utilization(lent: int, borrowed: int) -> Fraction:
    """Borrowed over lent, at most 1; without lenders 1 if anything is borrowed."""
    if lent <= 0:
        return Fraction(int(borrowed > 0))
    return min(Fraction(borrowed, lent), Fraction(1))


def borrow_rate(policy: Policy, pool: Pool, used: Fraction) -> Fraction:
    """Yearly borrow rate at a utilisation: two slopes that meet at the optimal one (venue_rules.md section 6)."""
    if used <= pool.optimal:
        return policy.borrow_rate_base + policy.borrow_rate_slope * used / pool.optimal
    steep = (used - pool.optimal) / (1 - pool.optimal)
    return policy.borrow_rate_base + policy.borrow_rate_slope + policy.borrow_rate_jump * steep
