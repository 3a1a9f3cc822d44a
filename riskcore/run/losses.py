"""Equity that liquidated accounts lost, by cause."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._typing import Bool, Float, Int
from ..record import EVENT, Rows
from .holdings import Holdings, market_value
from .report import RecordedRun

CAUSES = {
    "price": "price after the trigger",
    "slippage": "slippage",
    "fees": "liquidation fees",
    "provider_edge": "edge of the providers",
    "fund_share": "fund's share of takeovers",
    "adl": "ADL",
    "accruals": "funding and interest",
    "covered": "shortfall paid by others",
}
"""Columns of `liquidation_losses` that add up to the loss, and their names; payments for an account are negative."""

_CAUSE = {
    "book": "slippage", "convert": "slippage", "backstop": "provider_edge", "adl": "adl", "funding": "accruals",
    "interest": "accruals", "fund": "covered", "socialize": "covered", "shortfall": "covered",
}  # fmt: skip
_SIDES = "account", "counterparty"


def liquidation_losses(run: RecordedRun) -> pd.DataFrame:
    """Equity of the liquidated accounts at their first trigger and at the end of the run, and the causes of the loss.

    Equity is the market value: collateral without haircuts. A fill loses the difference between its price and the mark
    of its tick, a conversion the difference to the price of the asset. Backstop providers are left out.

    Parameters
    ----------
    run
        The run.

    Returns
    -------
    DataFrame, ascending by account: account (id), time (of the first trigger), closed (no position is left), bankrupt
    (others paid its shortfall, or the shortfall stayed on record); in settle units equity, equity_end, loss, and the
    columns of `CAUSES`, which add up to the loss.
    """
    rows, count = run.rows, len(run.start)
    first = _first_trigger(run)
    chosen = np.flatnonzero(first < len(rows))
    tick, number = np.zeros(count, np.int64), np.arange(len(rows))
    tick[chosen] = rows["tick"][first[chosen]]
    since = {side: (rows[side] >= 0) & (number > first[np.maximum(rows[side], 0)]) for side in _SIDES}
    at_trigger = Holdings.of(run.start, run.venue)
    at_trigger.apply(rows, *(~later for later in since.values()))
    equity, equity_end = (
        market_value(accounts, run.venue, at, run.lot_value, run.quantum_value)[chosen]
        for accounts, at in ((at_trigger.accounts(), tick), (run.end, np.full(count, len(run.time) - 1)))
    )
    lost = {cause: values[chosen] for cause, values in _lost_by_rows(run, since).items()}
    lost["price"] = equity - equity_end - sum(lost.values())
    position_count = np.bincount(run.end.position_accounts(), run.end.columns.lots != 0, count)
    short = np.isin(rows["event"], [EVENT[event] for event, cause in _CAUSE.items() if cause == "covered"])
    return pd.DataFrame(
        {
            "account": run.start.ids[chosen], "time": pd.to_datetime(run.time[tick[chosen]], utc=True),
            "closed": position_count[chosen] == 0, "bankrupt": np.isin(chosen, rows["account"][short]),
            "equity": equity, "equity_end": equity_end, "loss": equity - equity_end,
            **{cause: lost[cause] for cause in CAUSES},
        }
    )  # fmt: skip


def adl_loss_of_counterparties(run: RecordedRun) -> float:
    """Settle units that the counterparties of ADL lost against the marks; negative if they gained."""
    adl = run.rows[run.rows["event"] == EVENT["adl"]]
    return -float(_value_change(run, adl, "counterparty").sum())


def _first_trigger(run: RecordedRun) -> Int:
    """Journal row of each account's first trigger; number of all rows for accounts without, and for providers."""
    first = np.full(len(run.start), len(run.rows))
    triggers = np.flatnonzero(run.rows["event"] == EVENT["trigger"])
    np.minimum.at(first, run.rows["account"][triggers], triggers)
    first[run.folder.known["providers"]] = len(run.rows)
    return first


def _lost_by_rows(run: RecordedRun, since: dict[str, Bool]) -> dict[str, Float]:
    """Settle units that each account lost by the chosen journal rows, by cause; the price has no rows."""
    count, quantum = len(run.start), float(run.venue.settle_quantum)
    lost = {cause: np.zeros(count) for cause in CAUSES if cause != "price"}
    for event, cause in _CAUSE.items():
        for side, chosen in since.items():
            rows = run.rows[chosen & (run.rows["event"] == EVENT[event])]
            lost[cause] -= np.bincount(rows[side], _value_change(run, rows, side), count)
            if event == "backstop" and side == "account":
                to_fund = np.bincount(rows[side], rows["fund"] * quantum, count)
                lost["provider_edge"] -= to_fund
                lost["fund_share"] += to_fund
    own = run.rows[since["account"]]
    lost["fees"] += np.bincount(own["account"], own["fee"] * quantum, count)
    return lost


def _value_change(run: RecordedRun, rows: Rows, side: str) -> Float:
    """Settle units by which journal rows changed the market value of one side, fees not counted."""
    if side == "account":
        money, lots, quanta = (
            rows["cash"] - rows["cost"] + rows["unsettled"],
            rows["lots"],
            rows["quanta"] + rows["lent"],
        )
    else:
        money, lots = rows["counter_cash"] - rows["counter_cost"], -rows["lots"]
        quanta = -(rows["quanta"] + rows["lent"])
    change: Float = money * float(run.venue.settle_quantum)
    for item, size, price in ((rows["market"], lots, run.lot_value), (rows["asset"], quanta, run.quantum_value)):
        row = np.flatnonzero((item >= 0) & (size != 0))
        change[row] += size[row] * price[rows["tick"][row], item[row]]
    return change
