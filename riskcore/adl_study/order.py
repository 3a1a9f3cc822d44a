"""How well the order of a queue policy explains the order that a venue took."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._typing import Float
from ..boundary import RiskDataError
from ..venue import POLICIES, Counterparties, ranked
from .tables import checked

_LOW = 1e-12  # of leverage

LEAST = 3
"""Rows that a burst has at least."""

_BURST = ["time", "market", "side"]
_ALWAYS = ("pnl_leverage", "bybit", "hyperliquid", "leverage")
_WITH_NOTIONAL = ("size", "binance")


def order_agreement(queue: pd.DataFrame, *, unit: str = "ns") -> pd.DataFrame:
    """Compute the rank correlation between the order that a venue closed positions in and that of each policy.

    Parameters
    ----------
    queue : DataFrame
        Rows in the order that the venue took, or with their ``sequence``: time, account, side (long or short, of the
        position that was closed), pnl_pct (of the entry value, in percent), leverage (of the account, taken to have
        this position alone), and optionally market, notional (at the mark, settle units).
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.

    Returns
    -------
    DataFrame
        The best first: policy, spearman (mean over the bursts by their rows), worst and best (of a burst), bursts,
        rows.
        Beside the policies that these columns suffice for stands the factor ``pnl_pct`` by itself.
        A burst is the rows of a time, a market and a side, at least three; one in which all scores are equal counts
        as 0.

    Raises
    ------
    RiskDataError
        The table breaks a rule, a loss or profit takes the value of a position to 0 or below, or there is no burst of
        three rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.adl_study import order_agreement
    >>> queue = pd.DataFrame({"account": [1, 2, 3], "pnl_pct": [10.0, 20.0, 1.0], "leverage": [9.0, 5.0, 2.0]})
    >>> table = order_agreement(queue.assign(time="2025-10-10T21:00Z", side="long"))
    >>> table.loc[table["policy"].isin(["leverage", "pnl_pct"]), ["policy", "spearman"]].round(6).to_dict("records")
    [{'policy': 'leverage', 'spearman': 1.0}, {'policy': 'pnl_pct', 'spearman': 0.5}]
    """
    queue = checked("queue", queue, unit=unit)
    none_left = np.flatnonzero(_over_entry(queue) <= 0)
    if none_left.size:
        row = int(none_left[0])
        rule = "must be a percentage of the entry value: more than -100 for a long, less than 100 for a short"
        raise RiskDataError("queue", "pnl_pct", rule, row=row, value=queue["pnl_pct"].iloc[row])
    if "sequence" in queue.columns:
        queue = queue.sort_values("sequence", kind="stable", ignore_index=True)
    groups = [rows for rows in queue.groupby(_BURST, sort=False).indices.values() if len(rows) >= LEAST]
    if not groups:
        raise RiskDataError("queue", None, f"must have a time, market and side with at least {LEAST} rows")
    table_rows = []
    for name, score in _scores(queue).items():
        each = np.array([_spearman(score[rows]) for rows in groups])
        size = np.array([len(rows) for rows in groups])
        mean = float((each * size).sum() / size.sum())
        table_rows.append((name, mean, each.min(), each.max(), len(groups), int(size.sum())))
    table = pd.DataFrame(table_rows, columns=["policy", "spearman", "worst", "best", "bursts", "rows"])
    return table.sort_values("spearman", ascending=False, kind="stable", ignore_index=True)


def _over_entry(queue: pd.DataFrame) -> Float:
    """Value over entry value of each position: a long's profit adds to it, a short's takes from it."""
    ratio: Float = 1 + np.where(queue["side"] == "long", 1, -1) * (queue["pnl_pct"].to_numpy() / 100)
    return ratio


def _scores(queue: pd.DataFrame) -> dict[str, Float]:
    """Scores of the policies whose figures the columns give; without notional, of accounts with an equity of 1."""
    leverage = np.maximum(queue["leverage"].to_numpy(), _LOW)
    has_notional = "notional" in queue.columns
    notional = queue["notional"].to_numpy() if has_notional else leverage
    ratio = _over_entry(queue)
    entry = np.where(queue["side"] == "long", notional, -notional) / ratio
    value, equity = entry * ratio, notional / leverage
    size, lots = np.abs(value), np.ones(len(queue), np.int64)
    counterparties = Counterparties(
        lots=lots, value=value, entry=entry, requirement=size, equity=equity, exposure=size, maintenance=size,
        profit=value - entry,
    )  # fmt: skip
    names = _ALWAYS + _WITH_NOTIONAL if has_notional else _ALWAYS
    return {name: ranked(POLICIES[name], counterparties) for name in names} | {"pnl_pct": queue["pnl_pct"].to_numpy()}


def _spearman(score: Float) -> float:
    """Rank correlation of scores, the first to be closed in front, with an order from the highest to the lowest."""
    mantissa, exponent = np.frexp(score)
    score = np.ldexp(np.round(mantissa, 12), exponent)  # what differs by rounding alone is equal
    rank = pd.Series(-score).rank().to_numpy()
    order = np.arange(len(score), dtype=float)
    rank, order = rank - rank.mean(), order - order.mean()
    spread = np.sqrt((rank @ rank) * (order @ order))
    return float(rank @ order / spread) if spread else 0.0
