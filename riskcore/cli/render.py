"""Tables and JSON of the commands."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite, isinf, isnan
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import riskcore as rc

if TYPE_CHECKING:
    import pandas as pd


class _Console(Console):
    """A console that shows text as text: no markup, no control characters, nothing that its encoding cannot say."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Take every text that is printed, also by itself in a table or its title."""
        plain = rc.boundary.escaped(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        return super().render_str(plain, **how)


out, err = _Console(), _Console(stderr=True)


def _print_json(value: dict[str, Any]) -> None:
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: plain(v) for k, v in item.items()}
        if isinstance(item, list):
            return [plain(v) for v in item]
        if isinstance(item, float) and not isfinite(item):
            return None if isnan(item) else "inf"
        return item.item() if hasattr(item, "item") else item  # of NumPy

    typer.echo(json.dumps(plain(value)))


def _table(title: str, *headers: str, texts: int = 1) -> Table:
    """Return a table without rows: columns of text, which a narrow console shows in several lines, then of numbers."""
    view = Table(title=title, title_justify="left")
    for n, header in enumerate(headers):
        view.add_column(header, justify="left" if n < texts else "right", overflow="fold")
    return view


def _ratio(value: float) -> str:
    return "" if isnan(value) else "inf" if isinf(value) else f"{value:.2%}"


def _print_distribution(moments: dict[str, pd.DataFrame]) -> None:
    view = _table("Accounts by margin ratio", "MMR", *moments)
    for rows in zip(*(table.to_dict("records") for table in moments.values()), strict=True):
        low, high = rows[0]["from"], rows[0]["to"]
        label = "0%" if high == 0 else f">= {low:.0%}" if isinf(high) else f"{low:.0%} to {high:.0%}"
        view.add_row(label, *(f"{row['accounts']:,}  {row['share']:7.2%}" for row in rows))
    out.print(view)


def _print_split(split: pd.DataFrame, unpaid: dict[str, float], still: dict[str, float], venue: rc.Venue) -> None:
    view = _table("Liquidated notional by stage", "stage", "notional", "share", "fills", "share", "accounts")
    for row in split.to_dict("records"):
        view.add_row(
            row["stage"], f"{row['notional']:,.0f}", f"{row['notional_share']:.2%}", f"{row['fills']:,}",
            f"{row['fill_share']:.2%}", f"{row['accounts']:,}",
        )  # fmt: skip
    out.print(view)
    out.print(
        f"Shortfall: {unpaid['paid_by_fund']:,.2f} {venue.settle_asset} paid by the fund, "
        + (f"{unpaid['paid_by_others']:,.2f} by other accounts, " if unpaid["paid_by_others"] else "")
        + f"{unpaid['left_on_record']:,.2f} left on record",
    )
    out.print(
        f"Left open at the end: {rc.boundary.counted(int(still['accounts']), 'account')} at 100 % or above, "
        f"notional {still['notional']:,.2f} {venue.settle_asset}"
    )


def _print_providers(providers: pd.DataFrame) -> None:
    """Whether the backstop was paid for the risk, if it took any."""
    if not providers["taken"].any():
        return
    view = _table("Backstop providers", "provider", "taken", "edge", "PnL since", "of taken")
    for row in providers.to_dict("records"):
        view.add_row(
            str(row["provider"]), f"{row['taken']:,.0f}", f"{row['edge']:,.0f}", f"{row['pnl']:,.0f}",
            f"{row['pnl_bp']:,.1f} bp",
        )  # fmt: skip
    out.print(view)


def print_study(result: rc.adl_study.Study, console: Console) -> None:
    """Show the policies of a study side by side; a console of 120 columns or more gets the less important ones too."""
    first = result.total.iloc[0]
    if not first["waves"]:
        console.print("Nothing was deleveraged.")
        return
    waves = rc.boundary.counted(first["waves"], "wave")
    title = f"Deleveraging: {first['requested']:,.2f} in {waves}, deficit {first['deficit']:,.2f}"
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    columns = [column for column in _STUDY_COLUMNS if console.width >= 120 or column[3]]
    for name, header, _, _ in columns:
        view.add_column(Text(header), justify="left" if name == "policy" else "right", no_wrap=True)
    for row in result.total.to_dict("records"):
        view.add_row(*("" if row[name] != row[name] else show(row[name]) for name, _, show, _ in columns))
    console.print(view)
    if result.split is not None:
        _print_stages(result.split, console)


def _share(value: float) -> str:
    return f"{value:.1%}" if value < 10 else f"{value:,.0f}x"


def _amount(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:.0f}k" if value < 1e6 else f"{value / 1e6:.1f}M"


_STUDY_COLUMNS: list[tuple[str, str, Callable[[Any], str], bool]] = [
    ("policy", "policy", str, True),
    ("unfilled", "unfilled", _amount, False),
    ("overshoot", "overshoot", _amount, False),
    ("haircut_to_deficit", "haircut\n/ deficit", _share, True),
    ("largest_to_equity", "largest\n/ equity", _share, True),
    ("largest_to_pnl", "largest\n/ PnL", _share, True),
    ("kept_top10_at_half", "top 10\nat half", _share, True),
    ("kept_top10", "top 10\nat end", _share, True),
    ("kept_top1pct_at_half", "top 1 %\nat half", _share, False),
    ("kept_top1pct", "top 1 %\nat end", _share, False),
    ("herfindahl", "Herf.", "{:.4f}".format, True),
    ("top10_of_closed", "top 10\nclosed", _share, False),
    ("accounts", "accts", _short, True),
    ("fills", "fills", _short, True),
]
"""Figures of a study on the console: name, header, text of a value, and whether a narrow one has it."""


def _print_stages(split: pd.DataFrame, console: Console) -> None:
    stages = split["stage"].unique()
    view = _table("Liquidated notional and fills by stage", "policy", *stages)
    for policy, table in split.groupby("policy", sort=False):
        rows = table.to_dict("records")
        view.add_row(str(policy), *(f"{row['notional_share']:.2%}  {row['fill_share']:7.2%}" for row in rows))
    console.print(view)


def _print_agreement(agreement: pd.DataFrame, as_json: bool) -> None:
    if as_json:
        _print_json({"agreement": _records(agreement)})
        return
    columns = ("order", "Spearman", "worst burst", "best burst")
    view = _table("Rank correlation with the order of the venue", *columns)
    for row in agreement.to_dict("records"):
        view.add_row(row["policy"], *(f"{row[name]:.3f}" for name in ("spearman", "worst", "best")))
    out.print(view)
    first = agreement.iloc[0]
    rows, bursts = (rc.boundary.counted(first[f"{what}s"], what) for what in ("row", "burst"))
    out.print(f"{rows} in {bursts} of a time, a market and a side")


def _records(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Rows of a frame for JSON, times as text."""
    if frame is None:
        return []
    times = {name: frame[name].map(lambda time: time.isoformat()) for name in frame.select_dtypes("datetimetz").columns}
    records: list[Any] = frame.assign(**times).to_dict("records")
    return records


MOST_SHOWN = 20
"""Rows of a table on the console, of what can be as many as the accounts."""


def _print_liquidation_prices(nearest: pd.DataFrame, when: str) -> None:
    columns = ("account", "market", "quantity", "mark", "liquidation price", "distance")
    view = _table(f"Nearest to liquidation at {when}", *columns, texts=2)
    for row in nearest.to_dict("records"):
        view.add_row(
            str(row["account"]), row["market"], f"{row['quantity']:,g}", f"{row['mark_price']:,.6g}",
            f"{row['liquidation_price']:,.6g}", f"{row['distance']:+.2%}",
        )  # fmt: skip
    out.print(view)


def print_losses(largest: pd.DataFrame, when: str) -> None:
    """Show the accounts with the largest requirements, and their worst scenarios."""
    columns = ("account", "worst scenario", "group", "worst loss", "requirement")
    view = _table(f"Largest requirements at {when}", *columns, texts=3)
    for row in largest.to_dict("records"):
        figures = (f"{row[name]:,.2f}" for name in ("worst_loss", "requirement"))
        view.add_row(str(row["account"]), row["scenario_name"], row["group"], *figures)
    out.print(view)


def print_attribution(positions: pd.DataFrame, account: pd.DataFrame) -> None:
    """Show the requirement of one account by position."""
    (whole,) = account.to_dict("records")
    columns = ("position", "quantity", "contributes", "per unit", "saves", "alone")
    view = _table(f"Requirement of account {whole['account']}: {whole['requirement']:,.2f}", *columns)
    for row in positions.to_dict("records"):
        figures = (f"{row[name]:,.2f}" for name in ("contribution", "marginal", "saved", "alone"))
        view.add_row(row["item"], f"{row['quantity']:,g}", *figures)
    out.print(view)
    out.print(
        f"Binding scenario: {whole['scenario_name']} ({whole['group']}). "
        f"Alone the positions need {whole['alone']:,.2f}: hedging saves {whole['saved_by_hedging']:,.2f}."
    )


def print_models(table: pd.DataFrame, totals: pd.DataFrame, when: str) -> None:
    """Show accounts under each model, those with the largest requirement under the first one, and the sums."""
    first = table[table["model"] == totals["model"].iloc[0]]
    first = first.sort_values("requirement", ascending=False, kind="stable").head(max(MOST_SHOWN // len(totals), 3))
    columns = ("account", "model", "worst scenario", "requirement", "initial", "MMR", "saved")
    view = _table(f"Largest requirements at {when}", *columns, texts=3)
    rows = table[table["account"].isin(first["account"])].set_index("account")
    for account in first["account"].tolist():
        view.add_section()
        for row in rows.loc[[account]].to_dict("records"):
            required, initial, saved = (
                "-" if isnan(row[name]) else f"{round(row[name]):,}"
                for name in ("requirement", "initial_requirement", "saved_by_hedging")
            )
            ratio = _ratio(row["mmr"]) or "-"
            view.add_row(str(account), row["model"], row["scenario"], required, initial, ratio, saved)
    out.print(view)
    sums = _table("All accounts", "model", "requirement", "initial", "saved by hedging", "at 100 %", "no margin")
    for row in totals.to_dict("records"):
        figures = [f"{round(row[name]):,}" for name in ("requirement", "initial_requirement", "saved_by_hedging")]
        sums.add_row(row["model"], *figures, f"{row['liquidatable']:,}", f"{row['without']:,}")
    out.print(sums)


def _print_status_changes(changed: pd.DataFrame) -> None:
    """Margin before and after of accounts whose status changes, largest equity first."""
    if not len(changed):
        out.print("No account changes its status.")
        return
    columns = ("account", "status", "net equity", "after", "MMR", "after")
    view = _table(f"Accounts whose status changes: {len(changed):,}", *columns, texts=2)
    largest = changed.sort_values("net_equity_before", ascending=False, kind="stable")[:MOST_SHOWN]
    for row in largest.to_dict("records"):
        status = f"{row['status_before']} > {row['status_after']}".replace("below_auto_close", "auto-close")
        view.add_row(
            str(row["account"]), status,
            *(f"{row[f'net_equity_{moment}']:,.2f}" for moment in ("before", "after")),
            *(_ratio(row[f"mmr_{moment}"]) for moment in ("before", "after")),
        )  # fmt: skip
    out.print(view)
    if len(changed) > MOST_SHOWN:
        out.print(f"The {MOST_SHOWN} with the largest equity are shown.")


_CHANGES = {
    "price": "price", "slippage": "slippage", "fee": "fee", "backstop": "backstop edge", "adl": "ADL",
    "funding": "funding", "interest": "interest", "delisting": "settlement of delisted markets",
    "shortfall": "shortfall", "activity": "transfers and trades",
}  # fmt: skip
"""Causes of a change of equity, and their names; those after ADL are shown if there was any."""


def _print_explanation(explanation: rc.run.Explanation) -> None:
    equity = asdict(explanation.equity)
    out.print(
        f"Account {explanation.account}: equity {equity['start']:,.2f} {explanation.settle_asset} at the start, "
        f"{equity['end']:,.2f} at the end"
    )
    if explanation.left_open:
        out.print(
            f"Left open: at 100 % or above at the end, notional {explanation.left_open:,.2f} {explanation.settle_asset}"
        )
    always = list(_CHANGES)[:5]
    named = [f"{text} {equity[name]:+,.2f}" for name, text in _CHANGES.items() if name in always or equity[name]]
    # no-break spaces keep a cause and its amount on one line
    changed = "Changed by " + ", ".join(text.replace(" ", "\xa0") for text in named)
    for line in textwrap.wrap(changed, out.width, break_on_hyphens=False):
        out.print(line.replace("\xa0", " "))
    events = explanation.events
    if not len(events):
        out.print(f"Nothing happened to account {explanation.account}: it was never at 100 % and took nothing over.")
        return
    one_day = events["time"].iloc[0].date() == events["time"].iloc[-1].date()
    header = f"{events['time'].iloc[0]:%Y-%m-%d}" if one_day else "time"
    view = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in (header, "what", "reason", "MMR after"):
        view.add_column(name, justify="right" if name == "MMR after" else "left", no_wrap=True)
    for row in events.to_dict("records"):
        ratio = row["mmr_after"]
        ratio = _ratio(ratio) if isnan(ratio) or isinf(ratio) or ratio < 10 else _share(ratio)
        view.add_row(
            f"{row['time']:{'%H:%M:%S' if one_day else '%Y-%m-%d %H:%M:%S'}}", row["what"], row["reason"], ratio
        )
    # a row is a line, also where the console is narrower or is no terminal
    view.width = Measurement.get(out, out.options.update(max_width=10_000), view).maximum
    out.print(view, crop=False)
    reasons = events.drop_duplicates("reason").sort_values("reason")
    for reason, why in zip(reasons["reason"], reasons["why"], strict=True):
        if reason != why:
            out.print(f"{reason}: {why}", soft_wrap=True)


def _explanation_json(explanation: rc.run.Explanation) -> dict[str, Any]:
    """Numbers of an explanation, without the sentences."""
    events = _records(explanation.events.drop(columns=["what", "why"]))
    return {
        "account": str(explanation.account), "settle_asset": explanation.settle_asset,
        "equity": asdict(explanation.equity), "left_open": explanation.left_open, "events": events,
    }  # fmt: skip


def _print_audit(findings: rc.audit.AuditReport) -> None:
    view = _table("Audit", "rule", "checked", "breaches")
    for row in findings.checks.to_dict("records"):
        view.add_row(row["rule"], f"{row['checked']:,}", f"{row['breaches']:,}")
    out.print(view)
    for row in findings.breaches.head(20).to_dict("records"):
        where = f"tick {row['tick']}, row {row['row']}, account {row['account']}"
        out.print(f"  {where}: {row['rule']}: {row['what']}")
    total = int(findings.checks["breaches"].sum())
    out.print("Every rule was kept." if findings.ok else f"Breaches: {total:,}.")


def _audit_json(findings: rc.audit.AuditReport) -> dict[str, Any]:
    return {
        "ok": findings.ok, "checks": findings.checks.to_dict("records"),
        "breaches": findings.breaches.to_dict("records"),
    }  # fmt: skip
