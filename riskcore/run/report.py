"""Tables and pictures of a run: who took what was liquidated, whether it paid, and how the margin ratios lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..boundary import RiskDataError, as_html, frame_as_html
from ..record import EVENT, STAGES, Rows, reader
from ..venue import Venue

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
    """Settle units of equity below zero that the fund paid, that other accounts paid, and that were left on record."""
    quantum = float(venue.settle_quantum)
    paid = {"paid_by_fund": "fund", "paid_by_others": "socialize", "left_on_record": "shortfall"}
    return {name: float(rows["cash"][rows["event"] == EVENT[event]].sum()) * quantum for name, event in paid.items()}


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


class _Run(NamedTuple):
    """What the tables over time are made of, read once."""

    folder: reader.Reader
    rows: Rows
    time: npt.NDArray[np.int64]
    mark: npt.NDArray[Any]
    asset: npt.NDArray[Any]

    @classmethod
    def read(cls, path: Path) -> _Run:
        folder = reader.opened(path)
        return cls(folder, folder.journal(), *folder.prices())


def provider_pnl(path: str | Path) -> pd.DataFrame:
    """Profit and loss of each backstop provider on what it took over, tick by tick: whether the risk was paid.

    As if it had kept all it took: positions and borrows at the marks and prices of each tick (the last one where a tick
    has none), less what it paid; without funding and interest since, and whatever the account did or suffered besides.

    Parameters
    ----------
    path
        A run folder.

    Returns
    -------
    DataFrame: time, provider (account id), taken (settle units of notional so far, at the prices of the takeover), edge
    (what that was worth more than was paid, then), pnl (what it is worth more now), pnl_bp (basis points of taken).
    """
    return _provider_pnl(_Run.read(Path(path)))


def _provider_pnl(run: _Run) -> pd.DataFrame:
    folder, rows, time, mark, asset = run
    venue, accounts = folder.venue, folder.accounts()
    mark, asset = (pd.DataFrame(prices).ffill().to_numpy() for prices in (mark, asset))
    lot, quantum = mark * venue.markets.step_size, asset * venue.assets.quantum_size
    rows = rows[rows["event"] == EVENT["backstop"]]
    received = (rows["counter_cash"] - rows["counter_cost"]) * float(venue.settle_quantum)
    frames = []
    for account in folder.known["providers"]:
        own = rows["counterparty"] == account
        tick, money = rows["tick"][own], received[own]
        worth, taken, now = np.zeros(len(time)), np.zeros(len(time)), np.zeros(len(time))
        for item, change, price in (
            ("market", -rows["lots"][own], lot), ("asset", -rows["quanta"][own] - rows["lent"][own], quantum)
        ):  # fmt: skip
            here = rows[item][own] >= 0
            at, of, size = tick[here], rows[item][own][here], change[here]
            value = size * price[at, of]
            worth += np.bincount(at, value, len(time))
            taken += np.bincount(at, np.abs(value), len(time))
            for n in np.unique(of):
                held = np.bincount(at[of == n], size[of == n], len(time)).cumsum()
                now += np.where(held != 0, held * price[:, n], 0.0)
        paid = np.bincount(tick, money, len(time))
        total = taken.cumsum()
        pnl = now + paid.cumsum()
        with np.errstate(invalid="ignore"):
            relative = np.where(total > 0, pnl / total * 1e4, 0.0)
        frames.append(
            pd.DataFrame(
                {
                    "time": pd.to_datetime(time, utc=True), "provider": accounts.ids[account], "taken": total,
                    "edge": (worth + paid).cumsum(), "pnl": pnl, "pnl_bp": relative,
                }
            )
        )  # fmt: skip
    columns = ["time", "provider", "taken", "edge", "pnl", "pnl_bp"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def timeline(path: str | Path) -> pd.DataFrame:
    """What each stage has taken so far, and what the fund has, tick by tick.

    Returns
    -------
    DataFrame: time, a column for each stage (settle units of notional at the fill prices), fund, shortfall (left on
    record or unsettled so far).
    """
    return _timeline(_Run.read(Path(path)))


def _timeline(run: _Run) -> pd.DataFrame:
    venue, rows, time = run.folder.venue, run.rows, run.time
    quantum = float(venue.settle_quantum)

    def so_far(of: npt.NDArray[np.bool_], amount: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bincount(rows["tick"][of], amount[of], len(time)).cumsum()

    notional = np.abs(rows["lots"]) * venue.markets.step_size[rows["market"]] * np.nan_to_num(rows["price"])
    table: dict[str, Any] = {"time": pd.to_datetime(time, utc=True)}
    for event, stage in STAGES.items():
        table[stage] = so_far((rows["event"] == EVENT[event]) & (rows["market"] >= 0), notional)
    everything = np.ones(len(rows), bool)
    table["fund"] = float(venue.policy.fund) + so_far(everything, (rows["fund"] + rows["fee"]) * quantum)
    table["shortfall"] = so_far(rows["event"] == EVENT["shortfall"], rows["cash"] * quantum)
    return pd.DataFrame(table)


def page(path: str | Path) -> str:
    """One self-contained HTML page of a run: who took what, the fund, and whether the providers were paid.

    Raises
    ------
    RiskDataError
        plotly is not installed, or the folder holds no run, or one that is damaged.
    """
    try:
        from plotly import graph_objects, subplots
    except ImportError:
        raise RiskDataError("report", None, "plotly draws the pictures: pip install 'riskcore[cli]'") from None
    run = _Run.read(Path(path))
    venue, rows = run.folder.venue, run.rows
    settle, line, pnl = venue.settle_asset, _timeline(run), _provider_pnl(run)
    titles = ("liquidated so far", "fund, and shortfall that nobody paid", "providers: PnL on what they took")
    figure = subplots.make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)
    margin_functions = [(1, stage, line["time"], line[stage]) for stage in STAGES.values()]
    margin_functions += [(2, name, line["time"], line[name]) for name in ("fund", "shortfall")]
    margin_functions += [(3, f"provider {name}", own["time"], own["pnl"]) for name, own in pnl.groupby("provider")]
    for row, name, x, y in margin_functions:
        figure.add_trace(graph_objects.Scatter(x=x, y=y, name=as_html(name), legend=f"legend{row}"), row=row, col=1)
    figure.update_yaxes(title_text=as_html(settle))
    legends = {f"legend{row}": {"y": 1 - (row - 1) * 0.355, "yanchor": "top"} for row in (1, 2, 3)}
    figure.update_layout(height=900, template="plotly_white", **legends)
    last = pnl.groupby("provider", as_index=False).last().drop(columns="time")
    tables = {
        "Who took it": waterfall_split(rows, venue),
        "Shortfall": pd.DataFrame([shortfalls(rows, venue)]),
        "Backstop providers": last,
    }
    parts = [f"<h2>{title}</h2>{frame_as_html(table)}" for title, table in tables.items()]
    style = "body{font-family:sans-serif;margin:2em} td,th{padding:.2em .8em;text-align:right}"
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=True)
    return (
        f"<!doctype html><meta charset='utf-8'><title>riskcore run</title><style>{style}</style>"
        f"<h1>{as_html(Path(path).name)}</h1>" + "".join(parts) + drawn
    )
