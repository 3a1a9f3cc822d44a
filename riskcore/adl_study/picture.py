"""The picture of a study: plotly, which the rest of the package does without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ..boundary import RiskDataError, as_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from .result import Study

_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#393b79", "#637939", "#843c39", "#7b4173",
)  # fmt: skip
_TITLES = (
    "Concentration and largest haircut", "What the largest winners keep", "The ten largest winners, over time",
    "Largest haircut of each wave, of the account's equity",
)  # fmt: skip


def picture(study: Study) -> Figure:
    """Four panels: concentration against the largest haircut, survival, its path, and waves or stages."""
    try:
        from plotly import graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        rule = "the picture needs plotly, of the extra 'cli': pip install 'riskcore[cli]'"
        raise RiskDataError("out", None, rule) from None
    total, waves, paths = (_labelled(frame) for frame in (study.total, study.waves, study.path))
    split = None if study.split is None else _labelled(study.split)
    last = _TITLES[3] if split is None else "Liquidated notional by stage"
    figure = make_subplots(2, 2, subplot_titles=(*_TITLES[:3], last), vertical_spacing=0.14, horizontal_spacing=0.09)
    colour = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(total["policy"])}

    def add(trace: Any, row: int, column: int) -> None:
        figure.add_trace(trace, row=row, col=column)

    for figures in total.to_dict("records"):
        name = figures["policy"]
        group: dict[str, Any] = {"name": name, "legendgroup": name, "showlegend": False}
        add(
            go.Scatter(
                x=[figures["herfindahl"]], y=[figures["largest_to_equity"]], mode="markers", text=[name],
                marker={"size": 13, "color": colour[name]},
                customdata=[[figures["accounts"], figures["largest_to_pnl"]]],
                hovertemplate="%{text}<br>Herfindahl %{x:.4f}<br>of equity %{y:.2%}<br>of profit %{customdata[1]:.2%}"
                "<br>%{customdata[0]:,} accounts<extra></extra>",
                **group | {"showlegend": True},
            ),
            1, 1,
        )  # fmt: skip
        path = paths[paths["policy"] == name]
        line, steps = {"color": colour[name]}, {"color": colour[name], "shape": "hv"}
        add(go.Scatter(x=path["time"], y=1 - path["kept_top10"], mode="lines", line=steps, **group), 2, 1)
        if split is None:
            rows = waves[waves["policy"] == name]
            add(go.Scatter(x=rows["wave"], y=rows["largest_to_equity"], mode="lines+markers", line=line, **group), 2, 2)
    for label, column, shade in (
        ("top 10 at half", "kept_top10_at_half", "#9ecae1"), ("top 10 at the end", "kept_top10", "#3182bd"),
        ("top 1 % at half", "kept_top1pct_at_half", "#a1d99b"), ("top 1 % at the end", "kept_top1pct", "#31a354"),
    ):  # fmt: skip
        if column in total.columns:
            bar = go.Bar(x=total["policy"], y=total[column], name=label, marker={"color": shade}, legend="legend2")
            add(bar, 1, 2)
    if split is not None:
        for stage, shade in zip(split["stage"].unique(), ("#9ecae1", "#fdae6b", "#d62728"), strict=True):
            rows = split[split["stage"] == stage]
            add(
                go.Bar(
                    x=rows["policy"], y=rows["notional_share"], name=stage, marker={"color": shade}, legend="legend3",
                    customdata=rows[["fill_share", "accounts"]],
                    hovertemplate="%{x}: %{y:.2%} of the notional, %{customdata[0]:.2%} of the fills, "
                    "%{customdata[1]:,} accounts",
                ),
                2, 2,
            )  # fmt: skip
    for (row, column_number), x, y in (
        ((1, 1), "Herfindahl index of the closed notional", "largest haircut over equity"),
        ((1, 2), None, "share of notional kept"),
        ((2, 1), None, "share of their notional closed"),
        ((2, 2), "wave" if split is None else None, "haircut over equity" if split is None else "share"),
    ):
        figure.update_xaxes(title_text=x, row=row, col=column_number)
        figure.update_yaxes(title_text=y, tickformat=".1%", rangemode="tozero", row=row, col=column_number)
    if (total["herfindahl"] > 0).all():
        figure.update_xaxes(type="log", row=1, col=1)
    figure.update_layout(
        title=f"Auto-deleveraging under {len(total)} policies", template="plotly_white", height=900,
        legend2={"x": 1.02, "y": 0.35}, legend3={"x": 1.02, "y": 0.15},
    )  # fmt: skip
    return figure


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Names of the policies as labels of plotly, which reads HTML in them."""
    return frame.assign(policy=frame["policy"].map(as_html))
