"""How well the order of a queue policy explains the order that a venue took."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..deleveraging import POLICIES, Counterparties, ranked
from ..errors import RiskDataError
from .tables import checked

Float = npt.NDArray[np.float64]

_LOW = 1e-12  # of leverage, and of value over entry

LEAST = 3
"""Rows that a burst has at least."""

_ALWAYS = ("pnl_leverage", "bybit", "hyperliquid", "leverage")
_WITH_NOTIONAL = ("size", "binance")


def order_agreement(queue: pd.DataFrame, *, unit: str = "ns") -> pd.DataFrame:
    """Rank correlation between the order that a venue closed positions in and that of each policy.

    Parameters
    ----------
    queue
        Rows in the order that the venue took, or with their ``sequence``: time, account, pnl_pct (as the venue counts
        it, in percent), leverage (of the account, taken to have this position alone), and optionally market, notional.
    unit
        Of times that are whole numbers since the epoch: "ns", "us", "ms" or "s".

    Returns
    -------
    DataFrame, the best first: policy, spearman (mean over the bursts by their rows), worst and best (of a burst),
    bursts, rows. Beside the policies that these columns suffice for stands the factor ``pnl_pct`` by itself.
    A burst is the rows of a time and a market, at least three; one in which all scores are equal counts as 0.

    Raises
    ------
    RiskDataError
        The table breaks a rule, or has no burst of three rows.
    """
    queue = checked("queue", queue, unit=unit)
    if "sequence" in queue.columns:
        queue = queue.sort_values("sequence", kind="stable", ignore_index=True)
    groups = [rows for rows in queue.groupby(["time", "market"], sort=False).indices.values() if len(rows) >= LEAST]
    if not groups:
        raise RiskDataError("queue", None, f"must have a time and market with at least {LEAST} rows")
    found = []
    for name, score in _scores(queue).items():
        each = np.array([_spearman(score[rows]) for rows in groups])
        size = np.array([len(rows) for rows in groups])
        mean = float((each * size).sum() / size.sum())
        found.append((name, mean, each.min(), each.max(), len(groups), int(size.sum())))
    table = pd.DataFrame(found, columns=["policy", "spearman", "worst", "best", "bursts", "rows"])
    return table.sort_values("spearman", ascending=False, kind="stable", ignore_index=True)


def _scores(queue: pd.DataFrame) -> dict[str, Float]:
    """Scores of the policies whose figures the columns give; without notional, of accounts with an equity of 1."""
    gain, leverage = queue["pnl_pct"].to_numpy() / 100, np.maximum(queue["leverage"].to_numpy(), _LOW)
    given = "notional" in queue.columns
    value = queue["notional"].to_numpy() if given else leverage
    ratio = np.where(np.abs(1 + gain) > _LOW, 1 + gain, _LOW)  # value over entry
    entry, equity = value / np.abs(ratio), value / leverage
    value = entry * ratio
    size = np.abs(value)
    lots = np.ones(len(queue), np.int64)
    of = Counterparties(lots, value, entry, size, equity, size, size, value - entry)
    names = _ALWAYS + _WITH_NOTIONAL if given else _ALWAYS
    return {name: ranked(POLICIES[name], of) for name in names} | {"pnl_pct": gain}


def _spearman(score: Float) -> float:
    """Rank correlation of scores, the first to be closed in front, with an order from the highest to the lowest."""
    rank = pd.Series(-score).rank().to_numpy()
    place = np.arange(len(score), dtype=float)
    rank, place = rank - rank.mean(), place - place.mean()
    spread = np.sqrt((rank @ rank) * (place @ place))
    return float(rank @ place / spread) if spread else 0.0
