"""The accounts that may be liquidating: most are far from it, and stay so until prices have moved a good way."""

from __future__ import annotations

import numpy as np

from .folder import Array
from .margins import TOLERANCE, Held, Quotes, Sweep

WIDTH = 0.01  # how far prices may move until all accounts are looked at again


class Near:
    """The accounts that may be liquidating while prices stay in a box; a row of an account brings it among them."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.box: tuple[Quotes, Quotes] | None = None
        self.accounts, self.held = np.zeros(0, np.int64), sweep.all

    def forget(self) -> None:
        """All accounts may have changed."""
        self.box = None

    def touch(self, accounts: Array) -> None:
        """Some accounts, which ascend, have changed."""
        if self.box is not None and not np.isin(accounts, self.accounts, assume_unique=True).all():
            self._keep(np.union1d(self.accounts, accounts))

    def _keep(self, accounts: Array) -> None:
        self.accounts, self.held = accounts, self.sweep.held(accounts)

    def candidates(self, quotes: Quotes) -> Array:
        """The accounts that may be liquidating somewhere between the least and the most of some quotes, ascending."""
        low, high = quotes.extremes()
        if self.box is None or not (low.are_between(*self.box) and high.are_between(*self.box)):
            self.box = low.moved(-WIDTH), high.moved(WIDTH)
            everybody = np.arange(self.sweep.all.accounts)
            self._keep(np.flatnonzero(self.doubtful(self.sweep.all, everybody, *self.box)[0]))
        return np.asarray(self.accounts[self.doubtful(self.held, self.accounts, low, high)[0]])

    def flags(self, accounts: Array, quotes: Quotes) -> Array:
        """Which of some accounts may be liquidating, a row for every moment of the quotes."""
        return self.doubtful(self.sweep.held(accounts), accounts, quotes, quotes)

    def doubtful(self, held: Held, accounts: Array, low: Quotes, high: Quotes) -> Array:
        """Which of some accounts may be liquidating while prices stay between two others, moment by moment."""
        equity, maintenance, gross = self.sweep.bounds(held, low, high)
        return np.asarray(self.sweep.state.exposed[accounts] & ~(maintenance < equity - TOLERANCE * gross))
