"""Causes of the changes of equity over a run: the one attribution, of which the report and `explain` show parts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..record import EVENT, Rows
from .holdings import Holdings, market_value
from .recorded_run import RecordedRun

CAUSES = (
    "price", "slippage", "fee", "provider_edge", "fund_share", "adl", "funding", "interest", "delisting", "shortfall",
    "activity",
)  # fmt: skip
"""Columns of `equity_changes` that sum to the change of the equity."""

_EVENTS = {
    "slippage": ("book", "market_close", "convert"), "provider_edge": ("backstop",), "adl": ("adl",),
    "funding": ("funding",), "interest": ("interest",), "delisting": ("delist",),
    "shortfall": ("fund", "socialize", "shortfall"),
    "activity": ("transfer", "deposit", "withdraw", "fill", "borrow", "repay"),
}  # fmt: skip
"""Events whose rows change equity, by cause; rows of other events only move money within an account."""


def equity_changes(run: RecordedRun, accounts: Int, first_row: Int | None = None) -> pd.DataFrame:
    """Equity of accounts at the start and at the end of a run, and the causes of its change, in settle units.

    Equity is the market value: the balances at their prices without haircuts, and the unrealised PnL at the mark. A
    fill changes it by the difference between its price and the mark of its tick, a conversion by the difference to the
    price of the asset. The rest of the change is that of the price.

    Parameters
    ----------
    run
        The run.
    accounts
        Rows of the accounts, shape (A,).
    first_row
        Journal row of each account at which its time starts, shape (A,): equity just after that row, at the prices of
        its tick, is the equity at the start. None: equity before the events of the first tick, at its prices.

    Returns
    -------
    DataFrame, a row for each of ``accounts``: start, end, and a column for each of `CAUSES`; a loss is negative, and
    start plus the causes is end. NaN in a run without ticks.

        price          moves of marks and of prices of assets, those of settle assets among them
        slippage       fills in order books, against the mark or the asset's price of the tick
        fee            liquidation fees, and those of fills between ticks
        provider_edge  takeovers by a backstop provider, against the same prices, without the fund's share
        fund_share     the fund's share of takeovers
        adl            auto-deleveraging, against the same prices, of the account itself or as the counterparty
        funding, interest
        delisting      settlement of the positions in a market that is delisted, against the last mark before
        shortfall      equity below zero that others paid or that was left on record, or that of others which it paid
        activity       transfers, deposits, withdrawals, borrows, repayments, and fills between ticks, against the marks
                       of the tick before
    """
    count, opening, tick = len(run.start), run.start, np.zeros(len(run.start), np.int64)
    first = np.full(count, len(run.rows))
    first[accounts] = -1 if first_row is None else first_row
    number = np.arange(len(run.rows))
    counted = {
        side: (run.rows[side] >= 0) & (number > first[np.maximum(run.rows[side], 0)])
        for side in ("account", "counterparty")
    }
    if first_row is not None:
        holdings = Holdings.of(run.start, run.venue)
        holdings.apply(run.rows, *(~later for later in counted.values()))
        opening = holdings.accounts()
        tick[accounts] = run.rows["tick"][first_row]
    start = end = np.full(len(accounts), np.nan)
    if len(run.time):
        start, end = (
            market_value(state, run.venue, ticks, run.lot_value, run.quantum_value)[accounts]
            for state, ticks in ((opening, tick), (run.end, np.full(count, len(run.time) - 1)))
        )
    changes = {cause: np.zeros(count) for cause in CAUSES if cause != "price"}
    for side, chosen in counted.items():
        rows = run.rows[chosen]
        value = value_changes(run, rows, side)
        for cause, events in _EVENTS.items():
            of_cause = np.isin(rows["event"], [EVENT[event] for event in events])
            changes[cause] += np.bincount(rows[side][of_cause], value[of_cause], count)
        if side == "account":
            money = _money_value(run, rows)
            to_fund = np.where(rows["event"] == EVENT["backstop"], rows["fund"] * money, 0.0)
            to_fund = np.bincount(rows[side], to_fund, count)
            changes["fund_share"] -= to_fund
            changes["provider_edge"] += to_fund
            changes["fee"] -= np.bincount(rows[side], rows["fee"] * money, count)
    changes = {cause: change[accounts] for cause, change in changes.items()}
    changes["price"] = end - start - sum(changes.values())
    return pd.DataFrame({"start": start, "end": end} | {cause: changes[cause] for cause in CAUSES})


def _money_value(run: RecordedRun, rows: Rows) -> Float:
    """Settle units of a quantum of the settle asset of journal rows, at the prices of their ticks; 0 without one."""
    if run.venue.plain_money:
        return np.full(len(rows), float(run.venue.settle_quantum))
    value = run.quantum_value[rows["tick"], rows["settle"]]
    return np.asarray(np.where(rows["settle"] >= 0, value, 0.0))


def value_changes(run: RecordedRun, rows: Rows, side: str) -> Float:
    """Settle units by which journal rows changed the market value of one side, fees not counted.

    Parameters
    ----------
    run
        The run.
    rows
        Journal rows, shape (R,).
    side
        "account" or "counterparty".

    Returns
    -------
    ndarray of float64, shape (R,)
    """
    lots, quanta = rows["lots"], rows["quanta"] + rows["lent"]
    if side == "account":
        money = rows["cash"] - rows["cost"] + rows["unsettled"]
    else:
        money, lots, quanta = rows["counter_cash"] - rows["counter_cost"], -lots, -quanta
    change: Float = money * _money_value(run, rows)
    for item, size, unit_value in ((rows["market"], lots, run.lot_value), (rows["asset"], quanta, run.quantum_value)):
        row = np.flatnonzero((item >= 0) & (size != 0))
        change[row] += size[row] * unit_value[rows["tick"][row], item[row]]
    return change
