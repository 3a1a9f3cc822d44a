"""Tables of a run: who took what was liquidated, and how the margin ratios lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from .journal import EVENT, Rows
from .venue import Venue

STAGES = {"book": "order book", "backstop": "backstop", "adl": "ADL"}
"""Events that close positions, and the stages' names."""

MMR_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, np.inf)


def waterfall_split(rows: Rows, venue: Venue) -> pd.DataFrame:
    """Share of each stage in the positions that were liquidated.

    Returns
    -------
    DataFrame with a row per stage: stage, notional (settle units at the fill prices), notional_share, fills,
    fill_share, accounts (that the stage touched).
    """
    table = []
    for event, stage in STAGES.items():
        own = rows[(rows["event"] == EVENT[event]) & (rows["market"] >= 0)]
        notional = float((np.abs(own["lots"]) * venue.markets.step_size[own["market"]] * own["price"]).sum())
        table.append((stage, notional, len(own), len(np.unique(own["account"]))))
    split = pd.DataFrame(table, columns=["stage", "notional", "fills", "accounts"])
    for name, column in (("notional_share", "notional"), ("fill_share", "fills")):
        total = split[column].sum()
        split[name] = split[column] / total if total else 0.0
    return split[["stage", "notional", "notional_share", "fills", "fill_share", "accounts"]]


def shortfalls(rows: Rows, venue: Venue) -> dict[str, float]:
    """Settle units of equity below zero that the fund paid, and that were left on record."""
    quantum = float(venue.settle_quantum)
    return {
        "paid_by_fund": float(rows["cash"][rows["event"] == EVENT["fund"]].sum()) * quantum,
        "left_on_record": float(rows["cash"][rows["event"] == EVENT["shortfall"]].sum()) * quantum,
    }


def margin_distribution(mmr: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Number of accounts by maintenance margin ratio, those at 0 first: from, to, accounts, share."""
    edges = np.array(MMR_EDGES)
    flat = int((mmr == 0).sum())
    above = np.searchsorted(edges, mmr[mmr > 0], side="right") - 1
    counts = np.bincount(np.minimum(above, len(edges) - 2), minlength=len(edges) - 1)
    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "accounts": counts})
    table = pd.concat([pd.DataFrame({"from": [0.0], "to": [0.0], "accounts": [flat]}), table], ignore_index=True)
    table["share"] = table["accounts"] / max(len(mmr), 1)
    return table
