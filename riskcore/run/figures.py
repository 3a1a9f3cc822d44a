"""Figures of the report page, drawn by plotly."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..boundary import as_html
from ..record import STAGES, closes_positions
from .recorded_run import RecordedRun
from .report import MMR_EDGES, fill_notional, margin_bands, timeline

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

POINTS = 1000
"""Most points of one series."""

_BARS = 120
_PROVIDERS = 8
_SWEPT_ACCOUNTS = 10_000_000  # accounts times sampled ticks
STAGE_COLOURS = ("#4c9be8", "#f0a032", "#e0524d")
_BAND_COLOURS = ("#9aa3ad", "#2f7d4f", "#5aa469", "#9dc183", "#e3c567", "#f0a032", "#e87a3e", "#d63d3d")
_LINE_COLOURS = ("#8f7ee7", "#2fa39a", "#e0719e", "#7a9e3b", "#c98a4b", "#5b8def", "#b35fc4", "#8a8f98", "#d0a93c")


def liquidations(run: RecordedRun) -> Figure:
    """Liquidated notional by stage, in bars of equal time, and the mark price of the most liquidated market."""
    go, venue = _graph_objects(), run.venue
    line = timeline(run)
    edges = np.unique(np.linspace(0, len(line), min(_BARS, len(line)) + 1).astype(int))
    times, last = line["time"].iloc[edges[:-1]], edges[1:] - 1
    figure = go.Figure()
    for stage, colour in zip(STAGES, STAGE_COLOURS, strict=True):
        notional = np.diff(line[stage].to_numpy()[last], prepend=0.0)
        figure.add_bar(x=times, y=notional, name=stage, marker={"color": colour, "line": {"width": 0}})
    market = _most_liquidated(run)
    if market >= 0:
        mark = run.mark[:, market]
        points = thinned(mark)
        name = f"mark price of {as_html(venue.markets.symbol[market])}"
        figure.add_scatter(
            x=line["time"].iloc[points], y=mark[points], name=name, yaxis="y2", mode="lines",
            line={"color": _LINE_COLOURS[0], "width": 1.6},
        )  # fmt: skip
    settle = as_html(venue.settle_asset)
    quote = f" ({settle})" if venue.plain_money else ""
    figure.update_layout(
        barmode="stack", bargap=0, yaxis={"title": {"text": f"notional per bar ({settle})"}},
        yaxis2={
            "title": {"text": f"mark price{quote}"}, "overlaying": "y", "side": "right",
            "showgrid": False, "tickmode": "auto", "tickformat": ",.6~g",
        },
    )  # fmt: skip
    return figure


def split_over_time(run: RecordedRun) -> Figure:
    """Share of each stage in all notional liquidated so far."""
    go, line = _graph_objects(), timeline(run)
    total = line[list(STAGES)].sum(axis=1)
    line = line[total > 0]
    points = _even(len(line))
    figure = go.Figure()
    for stage, colour in zip(STAGES, STAGE_COLOURS, strict=True):
        share = (line[stage] / total[total > 0]).iloc[points]
        figure.add_scatter(
            x=line["time"].iloc[points], y=share, name=stage, stackgroup="stages", mode="lines",
            line={"width": 0.5, "color": colour}, fillcolor=colour,
        )  # fmt: skip
    figure.update_layout(yaxis={"title": {"text": "share of notional so far"}, "tickformat": ".0%", "range": [0, 1]})
    return figure


def fund_over_time(run: RecordedRun) -> Figure:
    """Insurance fund after every tick, and the shortfall left on record so far if there is any."""
    line = timeline(run)
    return _lines(
        run, {name: line[name].to_numpy() for name in ("fund", "shortfall") if name == "fund" or line[name].any()}
    )


def provider_profit(run: RecordedRun, pnl: pd.DataFrame) -> Figure:
    """Profit and loss of each provider on its takeovers; the smaller providers of many are added up."""
    by_provider = {name: table["pnl"].to_numpy() for name, table in pnl.groupby("provider", sort=False)}
    taken = pnl.groupby("provider")["taken"].last().sort_values(ascending=False, kind="stable")
    names = taken.index.tolist()
    series = {f"provider {name}": by_provider[name] for name in names[:_PROVIDERS]}
    if rest := names[_PROVIDERS:]:
        series[f"{len(rest)} other providers"] = np.sum([by_provider[name] for name in rest], axis=0)
    return _lines(run, series)


def accounts_by_margin_ratio(run: RecordedRun) -> Figure:
    """Number of accounts in each band of the maintenance margin ratio, at sampled ticks."""
    go = _graph_objects()
    samples = min(max(_SWEPT_ACCOUNTS // max(len(run.start), 1), 12), 120)
    bands = margin_bands(run, samples)
    figure = go.Figure()
    labels = ["no exposure", *(_band(*edges) for edges in pairwise(MMR_EDGES))]
    for number, (label, colour) in enumerate(zip(labels, _BAND_COLOURS, strict=True)):
        rows = bands.iloc[number :: len(labels)]
        figure.add_scatter(
            x=rows["time"], y=rows["accounts"], name=label, stackgroup="bands", mode="lines",
            line={"width": 0.5, "color": colour}, fillcolor=colour,
        )  # fmt: skip
    figure.update_layout(yaxis={"title": {"text": "accounts"}, "rangemode": "tozero"})
    return figure


def thinned(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Positions of at most `POINTS` values that keep first, last, and the extremes of every part between them.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.run.figures import POINTS, thinned
    >>> values = np.zeros(100_000)
    >>> values[77_777] = -1
    >>> kept = thinned(values)
    >>> len(kept) <= POINTS, 77_777 in kept
    (True, True)
    """
    if len(values) <= POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), POINTS // 2).astype(np.int64)
    points = [0, len(values) - 1]
    for first, last in pairwise(edges.tolist()):
        part = values[first:last]
        if not np.isnan(part).all():
            points += [first + np.nanargmin(part), first + np.nanargmax(part)]
    return np.unique(points)


def _even(count: int) -> npt.NDArray[np.int64]:
    """Positions of at most `POINTS` of a number of values, evenly, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(np.int64))


def _lines(run: RecordedRun, series: dict[str, npt.NDArray[Any]]) -> Figure:
    figure, times = _graph_objects().Figure(), pd.to_datetime(run.time, utc=True)
    for (name, values), colour in zip(series.items(), _LINE_COLOURS, strict=False):
        points = thinned(values)
        figure.add_scatter(
            x=times[points], y=values[points], name=as_html(name), mode="lines", line={"color": colour, "width": 1.8}
        )
    figure.update_layout(yaxis={"title": {"text": as_html(run.venue.settle_asset)}})
    return figure


def _most_liquidated(run: RecordedRun) -> int:
    """Market with the largest liquidated notional; -1 if nothing was liquidated."""
    rows = run.rows[closes_positions(run.rows)]
    return (
        int(np.bincount(rows["market"], fill_notional(rows, run.venue, run.asset_price)).argmax()) if len(rows) else -1
    )


def _band(low: float, high: float) -> str:
    return f"{low:.0%} or more" if np.isinf(high) else f"{low:.0%} to {high:.0%}"


def _graph_objects() -> Any:
    from plotly import graph_objects

    return graph_objects
