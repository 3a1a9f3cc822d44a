"""Equity that liquidated accounts lost, by cause."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._typing import Int
from ..record import EVENT
from .causes import equity_changes, value_changes
from .recorded_run import RecordedRun

CAUSES = {
    "price": "price after the trigger",
    "slippage": "slippage",
    "fees": "liquidation fees",
    "provider_edge": "edge of the providers",
    "fund_share": "fund's share of takeovers",
    "adl": "ADL",
    "accruals": "funding and interest",
    "delisting": "settlement of delisted markets",
    "covered": "shortfall paid by others",
    "activity": "transfers and trades between ticks",
}
"""Columns of `liquidation_losses` that sum to the loss, and their names; payments for an account are negative."""


def liquidation_losses(run: RecordedRun) -> pd.DataFrame:
    """Equity of the liquidated accounts at their first trigger and at the end of the run, and the causes of the loss.

    Equity and causes are those of `riskcore.run.causes.equity_changes`. Backstop providers are left out.

    Parameters
    ----------
    run
        The run.

    Returns
    -------
    DataFrame, ascending by account: account (id), time (of the first trigger), closed (no position is left), bankrupt
    (others paid its shortfall, the shortfall stayed on record, or positions are left and equity is below zero); in
    settle units equity, equity_end, loss, and the columns of `CAUSES`, which sum to the loss.
    """
    first = _first_trigger(run)
    liquidated = np.flatnonzero(first < len(run.rows))
    trigger = first[liquidated]
    change = equity_changes(run, liquidated, trigger)
    lost = 0.0 - change.rename(columns={"fee": "fees", "shortfall": "covered"})
    lost["accruals"] = lost["funding"] + lost["interest"]
    position_count = np.bincount(run.end.position_accounts(), run.end.columns.lots != 0, len(run.start))
    closed = position_count[liquidated] == 0
    short = np.isin(run.rows["event"], [EVENT[event] for event in ("fund", "socialize", "shortfall")])
    return pd.DataFrame(
        {
            "account": run.start.ids[liquidated],
            "time": pd.to_datetime(run.time[run.rows["tick"][trigger]], utc=True),
            "closed": closed,
            "bankrupt": np.isin(liquidated, run.rows["account"][short]) | (~closed & (change["end"] < 0)),
            "equity": change["start"], "equity_end": change["end"], "loss": change["start"] - change["end"],
            **{cause: lost[cause] for cause in CAUSES},
        }
    )  # fmt: skip


def adl_gain_of_counterparties(run: RecordedRun) -> float:
    """Settle units that the counterparties of ADL gained against the marks; negative if they lost."""
    adl = run.rows[run.rows["event"] == EVENT["adl"]]
    return float(value_changes(run, adl, "counterparty").sum())


def _first_trigger(run: RecordedRun) -> Int:
    """Journal row of each account's first trigger; number of all rows for accounts without, and for providers."""
    first = np.full(len(run.start), len(run.rows))
    triggers = np.flatnonzero(run.rows["event"] == EVENT["trigger"])
    np.minimum.at(first, run.rows["account"][triggers], triggers)
    first[run.folder.manifest["providers"]] = len(run.rows)
    return first
