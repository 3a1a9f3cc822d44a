"""What all accounts hold together: while that is below a limit, no sum of theirs passes 64 bits.

Whoever could bring it there, the prices of a tick or what falls due, is refused before anything changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._limits import AMOUNT_LIMIT
from .._typing import AnyInt, Float, Int
from ..boundary import RiskDataError
from ..kernels import journal as kernels
from ..kernels.guards import gross_value
from ..market import Prices
from ..state import Accounts
from ..venue import Venue
from .events import EVENT, ROW, Rows

_LIMIT = AMOUNT_LIMIT * (1.0 - 1e-9)  # float64 sums are less than that off


class Totals:
    """Upper bounds of the sums over all accounts, by market and asset, all amounts taken positive.

    A transfer between accounts never adds to the lots of a market, a fill between ticks does. Money may grow, and is
    counted anew when the bounds have grown to the limit.

    Parameters
    ----------
    accounts : Accounts
        The state, for reading.
    venue : Venue
        The rules.

    Examples
    --------
    >>> from riskcore.record import Totals
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> totals = Totals(accounts, venue)
    >>> totals.lots[venue.markets.row[market]].item(), totals.quanta[venue.settle].item()
    (1500.0, 480000000.0)
    """

    def __init__(self, accounts: Accounts, venue: Venue) -> None:
        self._accounts, self._venue = accounts, venue
        self._per_lot, self._per_quantum = venue.settle_quanta
        self._nothing = np.zeros(len(venue.assets.symbol))
        self._count()

    def _count(self) -> None:
        """Count all of it."""
        columns, venue = self._accounts.columns, self._venue
        self.lots = _by(columns.market, columns.lots, len(venue.markets.symbol))
        self.quanta = _by(columns.asset, columns.free, len(venue.assets.symbol))
        self.quanta += _by(columns.asset, columns.lent, len(venue.assets.symbol))
        self.paid = _by(columns.asset, columns.unsettled, len(venue.assets.symbol))
        for column in (columns.cost, columns.entry):
            self.paid += _by(venue.markets.settle[columns.market], column, len(venue.assets.symbol))
        self._weigh()

    def _weigh(self) -> None:
        """Compute for every tick: the value at prices of 1, and the largest of the quanta."""
        self._value_at_one = self.lots * self._per_lot, self.quanta * self._per_quantum
        self._highest = float(self.quanta.max())

    def add(self, rows: Rows, accounts: Int) -> None:
        """Add the amounts of journal rows, and check that no amount is past the limit.

        Parameters
        ----------
        rows : ndarray of `ROW`
            Rows of a tick, applied to the accounts.
        accounts : ndarray of int64
            Rows of the accounts that they changed.

        Raises
        ------
        RuntimeError
            A row's or an account's amounts, or the sum of its costs, are past the limit.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.record import Journal, Totals
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> journal = Journal(0, 0)
        >>> journal.add("adl", "backstop_exhausted", 0, 1.2, 1.1, counterparty=1, settle=0, cash=5, counter_cash=-5)
        >>> Totals(accounts, venue).add(journal.rows(), np.array([0, 1]))
        """
        bad = np.empty(1, np.int64)
        arguments: list[Any] = [*(rows[n] for n in _MOVING), AMOUNT_LIMIT, self.quanta, self.paid, bad]
        kernels.sum_rows(*arguments)
        fills = np.flatnonzero(rows["event"] == EVENT["fill"])
        lots = np.abs(rows["lots"][fills].astype(float))
        self.lots += np.bincount(rows["market"][fills], lots, len(self.lots))
        self._weigh()
        if bad[0] >= 0:
            named_values = zip(ROW.names or (), rows[bad[0]].tolist(), strict=True)
            row = {name: value for name, value in named_values if value}
            raise RuntimeError(f"journal row {bad[0]} of the tick reaches 2**62: {row}")
        past = kernels.first_over_limit(accounts, self._accounts.columns, AMOUNT_LIMIT)
        if past >= 0:
            account = self._accounts.ids[accounts[past]]
            raise RuntimeError(f"the holdings and costs of account {account} exceed 2**62 quanta: {_ADVICE}")

    def must_fit(self, prices: Prices, *, growth: float = 1.0, due: Float | None = None) -> None:
        """Refuse prices at which the value of all positions and balances, and the amounts due, may come to the limit.

        Parameters
        ----------
        prices : Prices
            Prices of a tick.
        growth : float
            Factor by which a debt or a lend may grow by then.
        due : ndarray of float64, shape (K,), optional
            Quanta of each asset that may change hands beside; 0 by default.

        Raises
        ------
        RiskDataError
            The sum may come to 2**62 quanta of the venue's settle asset, or a part of it to 2**62 quanta of the asset
            that the part is paid in; the message names the largest part.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.record import Totals
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> Totals(accounts, venue).must_fit(rc.Prices.read(venue, accounts, {market: 195.0}))
        """
        due = self._nothing if due is None else due
        if self._fits(prices, growth, due):
            return
        self._count()
        if not self._fits(prices, growth, due):
            raise self._refusal(prices, growth, due)

    def _fits(self, prices: Prices, growth: float, due: Float) -> bool:
        if not self._highest * growth < _LIMIT:
            return False
        if self._venue.plain_money:
            value = gross_value(prices.mark, self._value_at_one[0], prices.asset, self._value_at_one[1])
            paid = self.paid[self._venue.settle] + due[self._venue.settle]
            return bool(value * growth + paid < _LIMIT)
        arrays = prices.arrays
        value = float(self.lots @ arrays.price_per_lot + self.quanta @ arrays.price_per_quantum)
        paid = float((self.paid + due) @ arrays.price_per_quantum)
        return value * growth + paid < _LIMIT and bool((self._of_assets(prices, growth) + due < _LIMIT).all())

    def _of_assets(self, prices: Prices, growth: float) -> Float:
        """Quanta of each asset that balances, costs, and the values of positions that are paid in it come to."""
        arrays = prices.arrays
        value = self.lots * np.abs(arrays.value_per_lot)
        of_positions = np.bincount(arrays.market_settle, value, len(self.quanta)).astype(float)
        held: Float = (self.quanta + of_positions) * growth + self.paid
        return held

    def _refusal(self, prices: Prices, growth: float, due: Float) -> RiskDataError:
        """Name the largest part of it."""
        venue, quanta = self._venue, self.quanta
        if self._highest >= _LIMIT:
            symbol = venue.assets.symbol[int(np.argmax(quanta))]
            return RiskDataError("balances", "quantity", f"all of {symbol} must be less than 2**62 quanta: {_ADVICE}")
        if growth > 1.0 and self._fits(prices, 1.0, due):
            symbol = venue.assets.symbol[int(np.argmax(quanta))]
            rule = f"the amount due may reach 2**62 quanta: {_ADVICE}"
            return RiskDataError("tick", f"interest of {symbol}", rule)
        if due.any() and self._fits(prices, growth, np.zeros(len(due))):
            return RiskDataError("tick", "funding", f"the amount due may reach 2**62 settle quanta: {_ADVICE}")
        past = [] if venue.plain_money else np.flatnonzero(self._of_assets(prices, growth) >= _LIMIT).tolist()
        if past:
            rule = f"the holdings, costs and values of all accounts together must be less than 2**62 quanta: {_ADVICE}"
            return RiskDataError("positions", f"money in {venue.assets.symbol[past[0]]}", rule)
        arrays = prices.arrays
        value = np.append(self.lots * arrays.price_per_lot, quanta * arrays.price_per_quantum)
        largest = int(value.argmax())
        markets = len(venue.markets.symbol)
        rule = f"the holdings and costs of all accounts together must be less than 2**62 settle quanta: {_ADVICE}"
        if self.paid @ arrays.price_per_quantum > value[largest]:
            return RiskDataError("positions", "entry_price", rule)
        if largest < markets:
            return RiskDataError("marks", venue.markets.symbol[largest], rule, value=float(prices.mark[largest]))
        asset = largest - markets
        return RiskDataError("asset_prices", venue.assets.symbol[asset], rule, value=float(prices.asset[asset]))


_ADVICE = "set larger quanta for the venue's assets"
_MOVING = (
    "asset", "settle", "cash", "cost", "counter_cash", "counter_cost", "entry", "counter_entry", "fee", "fund",
    "unsettled", "quanta", "lent",
)  # fmt: skip


def _by(item: AnyInt, amount: Int, count: int) -> Float:
    """Sums of absolute amounts by market or asset."""
    return np.bincount(item, np.abs(amount.astype(float)), count).astype(float)
