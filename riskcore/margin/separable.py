"""The separable margin model: each position and each borrow has a margin function of its own notional."""

from __future__ import annotations

import numpy as np

from .._typing import Float, Int
from ..kernels import liquidation_price
from ..kernels import separable as _kernels  # noqa: F401, which implements the kernels of the model
from ..kernels.layouts import PriceArrays
from ..market import Prices
from ..state import Accounts
from . import exact
from .model import MODELS, MarginModel
from .screen import PriceIntervals


class SeparableModel(MarginModel):
    """The margin model of docs/one_tick.md; the packed sweep and its bounds compute it eight accounts at once."""

    name = "separable"
    folded = PriceArrays
    packed = True

    def fold(self, prices: Prices) -> PriceArrays:
        """Return the prices with the margin functions."""
        return prices.arrays

    def account(self, accounts: Accounts, account: int, prices: Prices) -> exact.ExactMargin:
        """Return the margin of an account; each position and borrow has its own requirement."""
        return exact.account_margin(accounts, account, prices)

    def covers_initial_margin(self, accounts: Accounts, account: int, prices: Prices) -> bool:
        """Return whether the initial margin ratio of an account is under 1, and its net equity not below 0."""
        return exact.covers_initial_margin(accounts, account, prices)

    def largest_orders(self, accounts: Accounts, row: Int, market: int, prices: Prices) -> Int:
        """Return the largest bid and ask in a market that the initial margin of each account allows."""
        lots = np.empty((len(row), 2), np.int64)
        liquidation_price.largest_orders(row, market, accounts.columns, prices.arrays, lots)
        return lots

    def bound(self, prices: Prices, low: Float, high: Float) -> PriceIntervals:
        """Return the worst and best figures between two rows of values."""
        return PriceIntervals.around(prices, low, high)


MODELS[SeparableModel.name] = SeparableModel()
