"""The report: one self-contained HTML page of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, as_html, counted
from ..venue import load_venue
from . import figures
from .explain import account_events
from .losses import CAUSES, adl_gain_of_counterparties, liquidation_losses
from .recorded_run import RecordedRun
from .report import left_open, owner_table, provider_pnl, shortfalls, timeline, waterfall_split

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_WORST = 10
_STORY_ROWS = 12
_ROUTINE = ("funding", "interest", "realize", "skip")
_ROUNDING = 1e-6  # of sums in float64: a smaller amount is shown as 0


def page(path: str | Path, verdict: str | None = None) -> str:
    """Return the report of a run as one HTML page that needs no other file.

    Headline, figures over time, tables of the stages, of the backstop providers and of the owners of several accounts,
    the ten accounts with the largest loss and their stories, and the policy figures, seed and versions of the run. A
    series has at most `riskcore.run.figures.POINTS` points.

    Parameters
    ----------
    path : str or Path
        A run folder.
    verdict : str, optional
        Result of the audit in one line; None if the run was not audited.

    Returns
    -------
    str
        The page.

    Raises
    ------
    RiskDataError
        plotly is not installed, or the folder holds no run, or one that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import page
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> page(folder, verdict="no rule was broken")[:33]
    '<!doctype html><html lang="en"><h'
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise RiskDataError("report", None, "plotly draws the figures: pip install 'riskcore[cli]'") from None
    run = RecordedRun.read(path)
    name, pnl = as_html(Path(path).resolve().name), provider_pnl(run)
    losses = liquidation_losses(run) if len(run.time) else None
    body = [f"<h1>{name}</h1>", _subtitle(run)]
    if losses is None:
        body.append("<p>The run has no tick yet.</p>")
    else:
        body += [_headline(run, losses, verdict), _causes(run, losses), _figures(run, pnl), _stages(run)]
        body += [_providers(run, pnl), _owners(run), _worst_accounts(run, losses)]
    body += [_policy(run), _provenance(run)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name} - riskcore report</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><main>{''.join(body)}</main><script>{_THEME}</script></body></html>"
    )


def money(value: float) -> str:
    """Amount with thousands separators: whole from 1,000 on, else with two decimals, small ones with two digits.

    Examples
    --------
    >>> from riskcore.run.page import money
    >>> money(-1234567.8), money(12.345), money(0.00123), money(-0.0)
    ('-1,234,568', '12.35', '0.0012', '0')
    """
    size = abs(value)
    if size < _ROUNDING or not np.isfinite(value):
        return "0" if size < _ROUNDING else "-"
    return f"{value:,.0f}" if size >= 1000 else f"{value:,.2f}" if size >= 0.01 else f"{value:.2g}"


def _share(value: float) -> str:
    return f"{value if abs(value) >= 0.0005 else 0:.1%}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _moment(value: pd.Timestamp) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}"


def _subtitle(run: RecordedRun) -> str:
    sizes = {"account": len(run.start), "tick": len(run.time), "journal row": len(run.rows)}
    size = ", ".join(counted(count, what) for what, count in sizes.items())
    if len(run.time):
        first, last = (_moment(pd.Timestamp(int(time), tz="UTC")) for time in run.time[[0, -1]])
        size += f"; {first} to {last} UTC"
    state = "" if run.folder.manifest["complete"] else "; the run is not complete"
    others = [as_html(run.venue.assets.symbol[asset]) for asset in run.venue.money[1:]]
    money = f"; money in {', '.join(others)} counts at the prices of its ticks" if others else ""
    return f'<p class="quiet">{size}{state}. Amounts in {as_html(run.venue.settle_asset)}{money}.</p>'


def _headline(run: RecordedRun, losses: pd.DataFrame, verdict: str | None) -> str:
    """Tiles: accounts, equity lost, the fund, and the verdict of the audit."""
    settle, equity, lost = as_html(run.venue.settle_asset), losses["equity"].sum(), losses["loss"].sum()
    opening = float(run.venue.policy.fund)
    fund = timeline(run)["fund"]
    share = f" ({_share(lost / equity)} of their equity at the trigger)" if equity > 0 else ""
    tiles = [
        ("accounts liquidated", _count(len(losses)),
         f"{_count(losses['closed'].sum())} closed, {_count(losses['bankrupt'].sum())} bankrupt"),
        ("equity lost by liquidated users", f"{money(lost)} {settle}", f"after the trigger{share}"),
        ("insurance fund at the end", f"{money(fund.iloc[-1])} {settle}",
         f"first {money(opening)}, least {money(min(opening, fund.min()))}"),
        ("audit", as_html(verdict or "not audited: run `riskcore audit`"), ""),
    ]  # fmt: skip
    return '<div class="tiles">' + "".join(_tile(*tile) for tile in tiles) + "</div>"


def _tile(label: str, value: str, detail: str) -> str:
    size = ' class="text"' if len(value) > 20 else ""
    return f'<div class="tile"><span>{label}</span><b{size}>{value}</b><span>{detail}</span></div>'


def _causes(run: RecordedRun, losses: pd.DataFrame) -> str:
    """Table of the causes of the users' loss, and what ADL and socialising took from others."""
    total = losses["loss"].sum()
    causes = pd.DataFrame(
        {"cause": [*CAUSES.values(), "in all"], "lost": [*(losses[cause].sum() for cause in CAUSES), total]}
    )
    causes["share"] = causes["lost"] / total if total else 0.0
    paid = shortfalls(run.rows, run.venue, run.asset_price)
    notes = {
        "Gain of ADL counterparties against the marks": adl_gain_of_counterparties(run),
        "Shortfall paid by the fund": paid["paid_by_fund"],
        "Shortfall paid by other accounts": paid["paid_by_others"],
        "Shortfall left on record": paid["left_on_record"],
    }
    settle = as_html(run.venue.settle_asset)
    text = "".join(f"<li>{note}: {money(amount)} {settle}</li>" for note, amount in notes.items())
    about = (
        "Equity of liquidated accounts from the first trigger to the end of the run, collateral at market prices; "
        "negative: the accounts gained."
    )
    columns: _Columns = {"cause": ("cause", str), "lost": (_of("lost", run), money), "share": ("share", _share)}
    return _section("Causes of lost equity", f"<p>{about}</p>{_table(causes, columns)}<ul>{text}</ul>")


def _figures(run: RecordedRun, pnl: pd.DataFrame) -> str:
    drawn: list[tuple[str, Callable[[], Figure]]] = [
        ("Liquidations and price", lambda: figures.liquidations(run)),
        ("Split of the liquidated notional over time", lambda: figures.split_over_time(run)),
        ("Accounts by maintenance margin ratio", lambda: figures.accounts_by_margin_ratio(run)),
        ("Insurance fund and shortfall", lambda: figures.fund_over_time(run)),
    ]
    if len(pnl):
        drawn.append(("Profit and loss of the backstop providers", lambda: figures.provider_profit(run, pnl)))
    return "".join(_section(title, _drawn(draw(), f"figure-{n}")) for n, (title, draw) in enumerate(drawn))


def _drawn(figure: Figure, name: str) -> str:
    """Figure as HTML without plotly's library; `_THEME` colours it."""
    figure.update_layout(
        template="none", height=380, margin={"l": 8, "r": 8, "t": 8, "b": 8}, hovermode="x unified", dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 12},
        legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0, "traceorder": "normal"}, showlegend=True,
    )  # fmt: skip
    figure.update_xaxes(automargin=True, nticks=6)
    figure.update_yaxes(automargin=True, zeroline=False)
    config = {"responsive": True, "displayModeBar": False}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return html


def _stages(run: RecordedRun) -> str:
    columns: _Columns = {
        "stage": ("stage", str), "notional": (_of("notional", run), money), "notional_share": ("share", _share),
        "fills": ("fills", _count), "fill_share": ("share of fills", _share), "accounts": ("accounts", _count),
    }  # fmt: skip
    stays = left_open(run)
    still = (
        f"<p>Left open at the end of the run: {counted(len(stays), 'account')} at a margin ratio of 100 % or above, "
        f"with a notional of {money(stays['notional'].sum())} {as_html(run.venue.settle_asset)}.</p>"
    )
    split = _table(waterfall_split(run.rows, run.venue, run.asset_price), columns)
    return _section("Liquidated positions by stage", split + still)


def _providers(run: RecordedRun, pnl: pd.DataFrame) -> str:
    last = pnl.groupby("provider", as_index=False).last()
    columns: _Columns = {
        "provider": ("provider", str), "taken": (_of("taken over", run), money),
        "edge": (_of("edge at takeover", run), money), "pnl": (_of("PnL since", run), money),
        "pnl_bp": ("PnL (bp of taken over)", "{:,.1f}".format),
    }  # fmt: skip
    return _section("Backstop providers", _table(last, columns) if len(last) else "<p>The venue has no provider.</p>")


def _owners(run: RecordedRun) -> str:
    """Table of the owners of several accounts, those with the most liquidated notional first."""
    table = owner_table(run)
    several = table[table["accounts"] > 1].sort_values("notional", ascending=False, kind="stable")
    if several.empty:
        return ""
    columns: _Columns = {
        "owner": ("owner", str), "accounts": ("accounts", _count), "liquidated": ("liquidated", _count),
        "notional": (_of("liquidated notional", run), money), "equity_start": ("equity at the start", money),
        "equity_end": ("at the end", money),
    }  # fmt: skip
    rest = f"<p>{len(several) - _WORST:,} more owners have several accounts.</p>" if len(several) > _WORST else ""
    return _section("Owners of several accounts", _table(several.head(_WORST), columns) + rest)


def _worst_accounts(run: RecordedRun, losses: pd.DataFrame) -> str:
    """Table of the accounts with the largest loss, and the story of each."""
    worst = losses.sort_values("loss", ascending=False, kind="stable").head(_WORST)
    if worst.empty:
        return _section("Largest losses", "<p>No account was liquidated.</p>")
    columns: _Columns = {
        "account": ("account", str), "loss": (_of("loss", run), money), "equity": ("equity at first trigger", money),
        "equity_end": ("at the end", money), "time": ("first trigger (UTC)", _moment),
        **{cause: (cause.replace("_", " "), money) for cause in CAUSES if worst[cause].any()},
    }  # fmt: skip
    stories = "".join(_story(run, account) for account in worst["account"].tolist())
    return _section("Largest losses", _table(worst, columns) + stories)


def _story(run: RecordedRun, account: int | str) -> str:
    """Liquidation of an account in sentences, routine events and the middle of a long story left out."""
    events, half = account_events(run, run.start.row_of(account)), _STORY_ROWS // 2
    rows = events[~events["event"].isin(_ROUTINE)]
    lines = [
        f"<li><time>{_moment(time)}</time> {as_html(what)} <i>({as_html(why)})</i></li>"
        for time, what, why in rows[["time", "what", "why"]].itertuples(index=False)
    ]
    if len(lines) > _STORY_ROWS:
        lines[half:-half] = [f"<li>{len(lines) - _STORY_ROWS:,} more events: see <code>riskcore explain</code></li>"]
    return f"<details><summary>Account {as_html(str(account))}</summary><ul>{''.join(lines)}</ul></details>"


def _policy(run: RecordedRun) -> str:
    """Policy figures of the venue that differ from the defaults."""
    policy, default = (vars(venue.policy) for venue in (run.venue, load_venue(run.venue.source | {"policy": {}})))
    changed = [
        (name, _figure(policy[name]), _figure(default[name]))
        for name in type(run.venue.policy).__dataclass_fields__
        if policy[name] != default[name]
    ]
    if not changed:
        return _section("Policy", "<p>Every figure is the default.</p>")
    columns: _Columns = {"figure": ("figure", str), "value": ("value", str), "default": ("default", str)}
    table = pd.DataFrame(changed, columns=list(columns))
    return _section("Policy figures other than the default", _table(table, columns))


def _figure(value: Any) -> str:
    """Policy figure as text: a fraction as a decimal where the decimal is exact."""
    if value is None:
        return "none"
    if isinstance(value, Fraction):
        decimal = f"{float(value):,.10g}"
        return decimal if Fraction(decimal.replace(",", "")) == value else str(value)
    return str(value)


def _provenance(run: RecordedRun) -> str:
    manifest = run.folder.manifest
    facts = [("seed", str(manifest["seed"])), *((name, version) for name, version in manifest["versions"].items())]
    facts += [(f"{name} (sha256)", entry["sha256"]) for name, entry in manifest["inputs"].items()]
    facts.append(("digest of the run", manifest["digest"]))
    rows = "".join(f"<tr><th>{as_html(name)}</th><td><code>{as_html(value)}</code></td></tr>" for name, value in facts)
    return _section("Seed, versions and inputs", f'<div class="scroll"><table class="facts">{rows}</table></div>')


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


_Columns = dict[str, tuple[str, Callable[[Any], str]]]
"""Columns of a table of the page: their headers, and the text of a value."""


def _of(name: str, run: RecordedRun) -> str:
    """Header of a column of amounts."""
    return f"{name} ({run.venue.settle_asset})"


def _table(frame: pd.DataFrame, columns: _Columns) -> str:
    """Table as HTML that scrolls by itself where it is too wide; all text in it is escaped."""
    head = "".join(f"<th>{as_html(header)}</th>" for header, _ in columns.values())
    body = "".join(
        "<tr>" + "".join(_cells(row, columns)) + "</tr>" for row in frame[list(columns)].itertuples(index=False)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(row: Iterable[Any], columns: _Columns) -> Iterable[str]:
    return (f"<td>{as_html(text(value))}</td>" for value, (_, text) in zip(row, columns.values(), strict=True))


_STYLE = """
:root{color-scheme:light dark;--text:#1c2733;--quiet:#5b6875;--back:#f5f7f9;--card:#fff;--line:#dde3e9}
@media(prefers-color-scheme:dark){:root{--text:#e4e9ee;--quiet:#9aa7b4;--back:#12171d;--card:#1b222a;--line:#323c47}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1200px;margin:0 auto;padding:16px}
h1{font-size:1.6em;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.1em;margin:0 0 .6em}
.quiet{color:var(--quiet);margin:.2em 0 1em}
section,.tile{background:var(--card);border:1px solid var(--line);border-radius:8px}
section{padding:14px;margin:14px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr));gap:12px}
.tile{padding:12px 14px;min-width:0}
.tile span{display:block;color:var(--quiet);font-size:.87em}
.tile b{display:block;font-size:1.5em;overflow-wrap:anywhere}
.tile b.text{font-size:1.05em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3em .9em .3em 0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child,.facts td{text-align:left}
th{font-weight:600;color:var(--quiet)}
code{font-size:.9em}
details{margin:.5em 0;overflow-wrap:anywhere}
summary{cursor:pointer}
time{color:var(--quiet);font-variant-numeric:tabular-nums}
td:first-child{white-space:normal}
.plotly-graph-div{width:100%;overflow:hidden}
@media(max-width:600px){
body{font-size:14px}
main{padding:10px}
section{padding:12px 10px}
th,td{padding-right:.6em}
.tiles{grid-template-columns:1fr 1fr}
.tile b{font-size:1.15em}
}
"""

_THEME = """
const dark = matchMedia('(prefers-color-scheme: dark)');
const mouse = matchMedia('(pointer: fine)').matches;
function colour() {
  const style = getComputedStyle(document.documentElement);
  const [text, line, card] = ['--text', '--line', '--card'].map(name => style.getPropertyValue(name));
  for (const div of document.querySelectorAll('.plotly-graph-div')) {
    const change = {'font.color': text, 'dragmode': mouse ? 'zoom' : false,
                    'hoverlabel.bgcolor': card, 'hoverlabel.bordercolor': line};
    for (const axis of Object.keys(div.layout).filter(name => /^[xy]axis/.test(name))) {
      change[axis + '.gridcolor'] = line;
      change[axis + '.linecolor'] = line;
    }
    Plotly.relayout(div, change);
    Plotly.Plots.resize(div);
  }
}
addEventListener('load', colour);
dark.addEventListener('change', colour);
"""
