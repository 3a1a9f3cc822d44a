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
    """Lent and borrowed quanta of each asset with a pool, quantities outside the run included, counted at first use.

    Parameters
    ----------
    venue : Venue
        The rules.
    accounts : Accounts
        The state.

    Attributes
    ----------
    lent, borrowed : dict of int to int
        Quanta by asset row, of the assets counted so far.
    bound : dict of int to Fraction
        Highest utilisation that redeeming and borrowing may reach in this tick, by asset row; without an entry, 1.

    Notes
    -----
    The rules: docs/one_tick.md, "Interest" and "Settlement".

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import Pools
    >>> venue, accounts = two_accounts()
    >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 80}])
    >>> Pools(venue, accounts).redeemable(venue.settle)  # quanta
    20000000
    """

    def __init__(self, venue: Venue, accounts: Accounts) -> None:
        self.pools, self.policy, self.columns = venue.pools, venue.policy, accounts.columns
        self.lent: dict[int, int] = {}
        self.borrowed: dict[int, int] = {}
        self.bound: dict[int, Fraction] = {}

    def refresh(self) -> None:
        """Forget the counts and the bounds.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> pools = Pools(venue, accounts)
        >>> pools.refresh()
        >>> pools.lent
        {}
        """
        for counted in (self.lent, self.borrowed, self.bound):
            counted.clear()

    def throttle(self, asset: int, ungranted: int) -> None:
        """Set the bound of this tick from the utilisation at this moment.

        Parameters
        ----------
        asset : int
            Asset row.
        ungranted : int
            Quanta of the debts that are no borrows yet.

        Notes
        -----
        The rule: docs/one_tick.md, "Settlement".

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> pool = {
        ...     "symbol": "USDC",
        ...     "lentQuantity": 100,
        ...     "borrowedQuantity": 80,
        ...     "throttleUtilizationThreshold": "0.5",
        ... }
        >>> pools = Pools(venue.replace(borrow_lend=[pool]), accounts)
        >>> pools.throttle(venue.settle, 0)
        >>> pools.bound[venue.settle]  # a tenth of the way from 0.8 to 1
        Fraction(41, 50)
        """
        pool = self._counted(asset)
        if pool is not None:
            self.borrowed[asset] -= ungranted
            used = self.utilization(asset)
            throttled = used + pool.throttle_update * (pool.max_utilization - used)
            self.bound[asset] = min(pool.max_utilization, max(pool.throttle_threshold, throttled))

    def utilization(self, asset: int) -> Fraction:
        """Return borrowed over lent.

        Parameters
        ----------
        asset : int
            Asset row, counted already.

        Returns
        -------
        Fraction
            At most 1; without lenders 1 if anything is borrowed.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 80}])
        >>> pools = Pools(venue, accounts)
        >>> pools.redeemable(venue.settle), pools.utilization(venue.settle)
        (20000000, Fraction(4, 5))
        """
        lent, borrowed = self.lent[asset], self.borrowed[asset]
        if lent <= 0:
            return Fraction(int(borrowed > 0))
        return min(Fraction(borrowed, lent), Fraction(1))

    def redeemable(self, asset: int) -> int | None:
        """Return the quanta that may be redeemed now.

        Parameters
        ----------
        asset : int
            Asset row.

        Returns
        -------
        int or None
            Quanta; None: without limit.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> Pools(venue, accounts).redeemable(venue.settle) is None  # the asset has no pool
        True
        """
        if self._counted(asset) is None:
            return None
        bound = self.bound.get(asset, Fraction(1))
        return max(0, floor(self.lent[asset] - self.borrowed[asset] / bound))

    def borrowable(self, asset: int) -> int | None:
        """Return the quanta that may be borrowed now.

        Parameters
        ----------
        asset : int
            Asset row; of an asset with a pool the bound is set (`throttle`).

        Returns
        -------
        int or None
            Quanta; None: without limit.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 80}])
        >>> pools = Pools(venue, accounts)
        >>> pools.throttle(venue.settle, 0)
        >>> pools.borrowable(venue.settle)
        20000000
        """
        pool = self._counted(asset)
        if pool is None:
            return None
        if not pool.is_open:
            return 0
        room = floor(self.bound[asset] * self.lent[asset]) - self.borrowed[asset]
        if pool.borrow_limit is not None:
            room = min(room, pool.borrow_limit - self.borrowed[asset])
        return max(0, room)

    def changed(self, asset: int, free_before: int, free_after: int, lent: int) -> None:
        """Follow a change of an account's balance.

        Parameters
        ----------
        asset : int
            Asset row.
        free_before, free_after : int
            Free balance before and after, quanta; negative is borrowed.
        lent : int
            Change of the lent balance, quanta.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 80}])
        >>> pools = Pools(venue, accounts)
        >>> before = pools.redeemable(venue.settle)
        >>> pools.changed(venue.settle, 10, -5, 0)
        >>> before - pools.redeemable(venue.settle)
        5
        """
        if asset in self.lent:
            self.lent[asset] += lent
            self.borrowed[asset] += max(-free_after, 0) - max(-free_before, 0)

    def accrued(self, asset: int, paid: int, received: int) -> None:
        """Add interest that borrows grew by and that lends grew by.

        Parameters
        ----------
        asset : int
            Asset row, counted already.
        paid, received : int
            Quanta.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Pools
        >>> venue, accounts = two_accounts()
        >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 80}])
        >>> pools = Pools(venue, accounts)
        >>> before = pools.redeemable(venue.settle)
        >>> pools.accrued(venue.settle, 7, 6)
        >>> before - pools.redeemable(venue.settle)
        1
        """
        self.borrowed[asset] += paid
        self.lent[asset] += received

    def hourly(self, asset: int) -> tuple[int, int]:
        """Return the interest of an hour that borrowers pay and lenders receive now.

        Parameters
        ----------
        asset : int
            Asset row with a pool.

        Returns
        -------
        paid, received : int
            Parts of ``RATE_UNIT`` of the amounts.

        Notes
        -----
        The rule: docs/one_tick.md, "Interest".

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import RATE_UNIT, Pools
        >>> venue, accounts = two_accounts()
        >>> venue = venue.replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "borrowedQuantity": 90}])
        >>> paid, received = Pools(venue, accounts).hourly(venue.settle)
        >>> paid == round(RATE_UNIT * 0.06 / 8760), received == round(RATE_UNIT * 0.06 / 8760 * 0.9)
        (True, True)
        """
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
    """Return an amount, or the limit if that is less.

    Parameters
    ----------
    amount : int
        The amount.
    limit : int or None
        The limit; None: no limit.

    Returns
    -------
    int
        The smaller of both.

    Examples
    --------
    >>> from riskcore.state import limited
    >>> limited(5, 3), limited(5, None)
    (3, 5)
    """
    return amount if limit is None else min(amount, limit)


def borrow_rate(policy: Policy, pool: Pool, used: Fraction) -> Fraction:
    """Yearly borrow rate at a utilisation: two slopes that meet at the optimal one (venue_rules.md section 6)."""
    if used <= pool.optimal_utilization:
        return policy.borrow_rate_base + policy.borrow_rate_slope * used / pool.optimal_utilization
    above_optimal = (used - pool.optimal_utilization) / (1 - pool.optimal_utilization)
    return policy.borrow_rate_base + policy.borrow_rate_slope + policy.borrow_rate_jump * above_optimal
