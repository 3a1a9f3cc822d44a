"""What changed the equity of one account over a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..record import EVENT, Rows, reader
from ..state import Accounts


@dataclass(frozen=True)
class EquityChange:
    """Equity of an account at the first and at the last tick of a run, and what changed it; settle units.

    Equity is the settle balance, the other balances at their prices and the unrealised PnL at the mark, without
    haircuts. A loss is negative; ``start`` and the changes sum to ``end``.

    Attributes
    ----------
    start, end : float
        Equity at the first tick before its events, and at the last tick after them; NaN in a run without ticks.
    price : float
        Moves of marks and of prices of assets.
    slippage : float
        Fills in order books, against the mark or the asset's price of the tick.
    fee : float
        Liquidation fees.
    backstop : float
        Edge of the backstop: takeovers by a provider, against the same prices. A gain of an account that is a provider.
    adl : float
        Auto-deleveraging, against the same prices: of the account itself or as the counterparty.
    funding, interest : float
        Funding and interest.
    shortfall : float
        Equity below zero that others paid or that was left on record, or the shortfall of others that the account paid.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import explain
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> equity = explain(folder, 1).equity
    >>> [round(amount, 6) for amount in (equity.start, equity.price, equity.slippage, equity.fee, equity.end)]
    [30.0, -10.0, -0.0516, -10.009884, 9.938516]
    """

    start: float
    end: float
    price: float
    slippage: float
    fee: float
    backstop: float
    adl: float
    funding: float
    interest: float
    shortfall: float


_CAUSES = {
    "book": "slippage", "convert": "slippage", "backstop": "backstop", "adl": "adl", "funding": "funding",
    "interest": "interest", "fund": "shortfall", "socialize": "shortfall", "shortfall": "shortfall",
}  # fmt: skip
"""Cause of the changes by event; other events change no equity."""


def equity_change(run: reader.Reader, accounts: Accounts, row: int, journal: Rows) -> EquityChange:
    """Attribute the change of an account's equity to its causes.

    Parameters
    ----------
    run, accounts
        A run, and the accounts that it started from.
    row
        Account row.
    journal
        Journal rows of the account, as itself or as the counterparty.

    Returns
    -------
    EquityChange, its price component what the others leave of the change.
    """
    venue = run.venue
    _, mark, asset = run.prices()
    # a tick without a price keeps the last one
    mark, asset = (pd.DataFrame(prices).ffill().to_numpy() for prices in (mark, asset))
    lot, quantum, unit = mark * venue.markets.step_size, asset * venue.assets.quantum_size, float(venue.settle_quantum)
    start = end = np.nan
    if len(mark):
        start = _equity(accounts, row, lot[0], quantum[0], unit)
        end = _equity(run.accounts(last=True), row, lot[-1], quantum[-1], unit)
    mine = journal["account"] == row
    tick, changes = journal["tick"], dict.fromkeys(_CAUSES.values(), 0.0)
    cash_flow = np.where(
        mine,
        journal["cash"] - journal["cost"] + journal["unsettled"],
        journal["counter_cash"] - journal["counter_cost"],
    )
    holdings = np.zeros(len(journal))
    for item, amount, unit_value in (
        ("market", journal["lots"], lot), ("asset", journal["quanta"] + journal["lent"], quantum)
    ):  # fmt: skip
        rows = np.flatnonzero((journal[item] >= 0) & (amount != 0))
        holdings[rows] = amount[rows] * unit_value[tick[rows], journal[item][rows]]
    value = cash_flow * unit + np.where(mine, holdings, -holdings)
    for event, cause in _CAUSES.items():
        changes[cause] += float(value[journal["event"] == EVENT[event]].sum())
    fee = 0.0 - float(journal["fee"][mine].sum()) * unit
    price = end - start - fee - sum(changes.values())
    return EquityChange(start=start, end=end, price=price, fee=fee, **changes)


def _equity(
    accounts: Accounts, row: int, lot: npt.NDArray[Any], quantum: npt.NDArray[Any], settle_quantum: float
) -> float:
    """Equity of an account, without haircuts, at values of a lot and of a quantum in settle units."""
    columns = accounts.columns
    positions, balances = accounts.position_accounts() == row, accounts.balance_accounts() == row
    lots, amount = columns.lots[positions], columns.free[balances] + columns.lent[balances]
    value = np.where(lots, lots * lot[columns.market[positions]], 0.0).sum()
    value += np.where(amount, amount * quantum[columns.asset[balances]], 0.0).sum()
    money = int(columns.unsettled[row]) - int(columns.cost[positions].sum())
    return float(value + money * settle_quantum)
