"""What all accounts hold together: while that is below a limit, no sum of theirs passes 64 bits.

Whoever could bring it there, the prices of a tick or what falls due, is refused before anything changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._limits import AMOUNT_LIMIT
from .._typing import Float, Int
from ..boundary import RiskDataError
from ..kernels import journal as kernels
from ..kernels.guards import gross_value
from ..market import Prices
from ..state import Accounts
from ..venue import Venue
from .events import ROW, Rows

_LIMIT = AMOUNT_LIMIT * (1.0 - 1e-9)  # float64 sums are less than that off


class Totals:
    """Upper bounds of the sums over all accounts, by market and asset, all amounts taken positive.

    A transfer between accounts never adds to the lots of a market. Money may grow, and is counted anew when the bounds
    have grown to the limit.

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
        self._count()

    def _count(self) -> None:
        """Count all of it."""
        columns, venue = self._accounts.columns, self._venue
        self.lots = _by(columns.market, columns.lots, len(venue.markets.symbol))
        self.quanta = _by(columns.asset, columns.free, len(venue.assets.symbol))
        self.quanta += _by(columns.asset, columns.lent, len(venue.assets.symbol))
        self.paid = sum(float(np.abs(c.astype(float)).sum()) for c in (columns.cost, columns.entry, columns.unsettled))
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
        >>> journal.add("adl", "backstop_exhausted", 0, 1.2, 1.1, counterparty=1, cash=5, counter_cash=-5)
        >>> Totals(accounts, venue).add(journal.rows(), np.array([0, 1]))
        """
        paid, bad = np.array([self.paid]), np.empty(1, np.int64)
        arguments: list[Any] = [*(rows[n] for n in _MOVING), self._venue.settle, AMOUNT_LIMIT, self.quanta, paid, bad]
        kernels.sum_rows(*arguments)
        self.paid = float(paid[0])
        self._weigh()
        if bad[0] >= 0:
            named_values = zip(ROW.names or (), rows[bad[0]].tolist(), strict=True)
            row = {name: value for name, value in named_values if value}
            raise RuntimeError(f"journal row {bad[0]} of the tick reaches 2**62: {row}")
        past = kernels.first_over_limit(accounts, self._accounts.columns, AMOUNT_LIMIT)
        if past >= 0:
            account = self._accounts.ids[accounts[past]]
            raise RuntimeError(f"the holdings and costs of account {account} exceed 2**62 quanta: {_ADVICE}")

    def must_fit(self, prices: Prices, *, growth: float = 1.0, due: float = 0.0) -> None:
        """Refuse prices at which the value of all positions and balances, and the amounts due, may come to the limit.

        Parameters
        ----------
        prices : Prices
            Prices of a tick.
        growth : float
            Factor by which a debt or a lend may grow by then.
        due : float
            Settle quanta that may change hands beside.

        Raises
        ------
        RiskDataError
            The sum may come to 2**62 settle quanta; the message names its largest part.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.record import Totals
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> Totals(accounts, venue).must_fit(rc.Prices.read(venue, accounts, {market: 195.0}))
        """
        if self._fits(prices, growth, due):
            return
        self._count()
        if not self._fits(prices, growth, due):
            raise self._refusal(prices, growth, due)

    def _fits(self, prices: Prices, growth: float, due: float) -> bool:
        value = gross_value(prices.mark, self._value_at_one[0], prices.asset, self._value_at_one[1])
        return value * growth + self.paid + due < _LIMIT and self._highest * growth < _LIMIT

    def _refusal(self, prices: Prices, growth: float, due: float) -> RiskDataError:
        """Name the largest part of it."""
        venue, quanta = self._venue, self.quanta
        if self._highest >= _LIMIT:
            symbol = venue.assets.symbol[int(np.argmax(quanta))]
            return RiskDataError("balances", "quantity", f"all of {symbol} must be less than 2**62 quanta: {_ADVICE}")
        if growth > 1.0 and self._fits(prices, 1.0, due):
            symbol = venue.assets.symbol[int(np.argmax(quanta))]
            rule = f"the amount due may reach 2**62 quanta: {_ADVICE}"
            return RiskDataError("tick", f"interest of {symbol}", rule)
        if due and self._fits(prices, growth, 0.0):
            return RiskDataError("tick", "funding", f"the amount due may reach 2**62 settle quanta: {_ADVICE}")
        value = np.nan_to_num(np.append(prices.mark * self._value_at_one[0], prices.asset * self._value_at_one[1]))
        largest = int(value.argmax())
        markets = len(venue.markets.symbol)
        rule = f"the holdings and costs of all accounts together must be less than 2**62 settle quanta: {_ADVICE}"
        if self.paid > value[largest]:
            return RiskDataError("positions", "entry_price", rule)
        if largest < markets:
            return RiskDataError("marks", venue.markets.symbol[largest], rule, value=float(prices.mark[largest]))
        asset = largest - markets
        return RiskDataError("asset_prices", venue.assets.symbol[asset], rule, value=float(prices.asset[asset]))


_ADVICE = "set larger quanta for the venue's assets"
_MOVING = (
    "asset", "cash", "cost", "counter_cash", "counter_cost", "entry", "counter_entry", "fee", "fund", "unsettled",
    "quanta", "lent",
)  # fmt: skip


def _by(item: npt.NDArray[np.uint16], amount: Int, count: int) -> Float:
    """Sums of absolute amounts by market or asset."""
    return np.bincount(item, np.abs(amount.astype(float)), count).astype(float)
