"""The commands: their options, and the order of what they do.

The packages that a command runs are attributes of `rc`, which load at first use: help and completion load none.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

import riskcore as rc

from .render import (
    MOST_SHOWN,
    _audit_json,
    _explanation_json,
    _print_agreement,
    _print_audit,
    _print_distribution,
    _print_explanation,
    _print_json,
    _print_liquidation_prices,
    _print_providers,
    _print_split,
    _print_status_changes,
    _records,
    err,
    out,
    print_study,
)

if TYPE_CHECKING:
    import pandas as pd


class _Commands(TyperGroup):
    """The commands; a message on their usage shows what was typed as text."""

    def make_context(self, *args: Any, **how: Any) -> Any:
        """Read the command line."""
        with _shown_usage():
            return super().make_context(*args, **how)

    def invoke(self, *args: Any, **how: Any) -> Any:
        """Run the command."""
        with _shown_usage():
            return super().invoke(*args, **how)


@contextmanager
def _shown_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what typer raises has no public name
        message = getattr(error, "message", None)
        if isinstance(message, str) and not message.isprintable() and hasattr(error, "format_message"):
            error.message = rc.boundary.escaped(message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    help="Compute margins, liquidate accounts in a replay, audit the run and explain it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
VenueFile = Annotated[
    str, typer.Option("--venue", metavar="FILE|NAME", help="Venue, JSON; or a preset: backpack, dydx, hyperliquid.")
]
PositionsFile = Annotated[Path, typer.Option("--positions", help="Positions table, Parquet or CSV.")]
BalancesFile = Annotated[Path, typer.Option("--balances", help="Balances table.")]
OrdersFile = Annotated[Path | None, typer.Option("--orders", help="Open orders table.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Account settings: leverage_limit, unsettled, owner.")
]
MarksFile = Annotated[Path, typer.Option("--marks", help="Mark prices table.")]
AssetPricesFile = Annotated[Path | None, typer.Option("--asset-prices", help="Prices of the other assets.")]
VolatilitiesFile = Annotated[Path | None, typer.Option("--volatilities", help="Volatilities of options.")]
TermsFile = Annotated[
    Path | None, typer.Option("--terms", help="Forwards, rates and confidences by underlying and expiry.")
]
SurfaceFile = Annotated[Path | None, typer.Option("--surface", help="Nodes of volatility surfaces.")]
UnderlyingsFile = Annotated[Path | None, typer.Option("--underlyings", help="Indexes and confidences of underlyings.")]
MarginModel = Annotated[
    str | None,
    typer.Option(
        "--margin-model", metavar="NAME|FILE", help="separable; or a scenario model: a preset's name or a JSON file."
    ),
]
ThreadCount = Annotated[
    int | None, typer.Option("--threads", min=1, help="Number of threads; by default as many cores as save time.")
]
TimeUnit = Annotated[
    str, typer.Option("--time-unit", help="Unit of times that are whole numbers since the epoch: ns, us, ms or s.")
]


@contextmanager
def _running() -> Iterator[None]:
    """Run a command: a line on standard error tells of compiling that takes long.

    What is wrong with the input becomes one line on standard error and exit code 2. A SIGTERM ends the command as an
    exception does: what was written half is removed.
    """
    from pyarrow import ArrowException

    from .compiling import compiling_noticed

    own_stderr = sys.stderr is sys.__stderr__  # a Python caller that captures it gets errors alone
    noticed = compiling_noticed(_say) if own_stderr else nullcontext()
    main = threading.current_thread() is threading.main_thread()  # no other may set a handler
    before = signal.signal(signal.SIGTERM, _end) if main else None
    try:
        with noticed:
            yield
    except (rc.RiskDataError, rc.audit.RunError, OSError, ArrowException) as error:
        _say(" ".join(str(error).splitlines()))
        raise typer.Exit(2) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    err.print(f"riskcore: {line}", soft_wrap=True)


def _end(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + number)


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error for work that takes a while."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _spinner(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done, for work that takes a while and cannot say how long."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what: bar.update(task, description=what, refresh=True)


def _show_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"riskcore {rc.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder; by default a new one under runs/.")
    ] = None,
    accounts: Annotated[int, typer.Option(min=100, help="Number of generated accounts.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the generated run.")] = 0,
    inputs_folder: Annotated[
        Path | None,
        typer.Option("--inputs", help="Write the input files into this folder and print the command that runs them."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a generated crash from start to finish: liquidations, audit, run folder."""
    with _running():
        venue, tables = rc.sample.crash(accounts, seed=seed, interval=5)
        if inputs_folder is not None:
            files = rc.sample.write_inputs(venue, tables, inputs_folder)
            _print_replay(files, out_folder or Path("runs") / inputs_folder.resolve().name, seed, as_json)
            return
        path = out_folder or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
        state = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
        ticks = rc.io.read_ticks(venue, state, tables.marks, tables.books)
        result = _run(venue, state, ticks, path, seed, {}, as_json)
        with _progress("audit", as_json) as bar:
            findings = rc.audit.audit(path, progress=bar)
        if as_json:
            _print_json(result | {"audit": _audit_json(findings)})
        else:
            _print_audit(findings)
            out.print(f"Run folder: {path}")
        if not findings.ok:
            raise typer.Exit(1)


@app.command()
def sweep(
    venue_name: VenueFile,
    positions: PositionsFile,
    balances: BalancesFile,
    marks: MarksFile,
    out_file: Annotated[Path, typer.Option("--out", help="Margin table, Parquet or CSV by the suffix.")],
    orders: OrdersFile = None,
    settings: SettingsFile = None,
    asset_prices: AssetPricesFile = None,
    volatilities: VolatilitiesFile = None,
    terms: TermsFile = None,
    surface: SurfaceFile = None,
    underlyings: UnderlyingsFile = None,
    margin_model: MarginModel = None,
    time_unit: TimeUnit = "ns",
    select_only: Annotated[
        bool, typer.Option("--select-only", help="Write only the accounts at 100 % or above.")
    ] = False,
    threads: ThreadCount = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute the margin table of all accounts, for every time in the marks, and write it while computing."""
    with _running():
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices,
            volatilities=volatilities, terms=terms, surface=surface, underlyings=underlyings,
        )  # fmt: skip
        rc.io.output_file(out_file, rc.io.TABLES, files.values())
        venue, accounts, ticks = _read(files, time_unit, as_json, margin_model)
        with _progress("sweep", as_json) as bar:
            counts = rc.io.write_sweep(
                out_file, accounts, venue, ticks, select_only=select_only, threads=threads, progress=bar
            )  # fmt: skip
        if as_json:
            _print_json({"accounts": len(accounts), "times": len(ticks), "liquidatable": counts, "out": str(out_file)})
            return
        prices = rc.Prices.of_tick(venue, accounts, ticks.tick(len(ticks) - 1))
        last = rc.margin.margin_table(accounts, prices, threads=threads)
        label = rc.boundary.moment(ticks.time[-1]) if len(ticks) > 1 else "accounts"
        _print_distribution({label: rc.run.report.margin_distribution(last.mmr)})
        when = f" at the last of {len(ticks):,} times" if len(ticks) > 1 else ""
        swept = rc.boundary.counted(len(accounts), "account")
        out.print(f"{swept}, {counts[-1]:,} at 100 % or above{when}; table in {out_file}")


@app.command(name="liquidation-prices")
def liquidation_prices_command(
    venue_name: VenueFile,
    positions: PositionsFile,
    balances: BalancesFile,
    marks: MarksFile,
    orders: OrdersFile = None,
    settings: SettingsFile = None,
    asset_prices: AssetPricesFile = None,
    volatilities: VolatilitiesFile = None,
    terms: TermsFile = None,
    surface: SurfaceFile = None,
    underlyings: UnderlyingsFile = None,
    margin_model: MarginModel = None,
    time_unit: TimeUnit = "ns",
    threads: ThreadCount = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Table of all positions, Parquet or CSV by the suffix.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute the liquidation price of every position, at the last time in the marks; show the nearest ones."""
    with _running():
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices,
            volatilities=volatilities, terms=terms, surface=surface, underlyings=underlyings,
        )  # fmt: skip
        if out_file is not None:
            rc.io.output_file(out_file, rc.io.TABLES, files.values())
        venue, accounts, ticks = _read(files, time_unit, as_json, margin_model)
        prices = _last_prices(venue, ticks)
        with _spinner(as_json) as show:
            show("liquidation prices")
            table = rc.liquidation_prices(accounts, venue, **prices, threads=threads).to_frame()
        if out_file is not None:
            rc.io.write_table(table, out_file)
        priced = table.dropna(subset="liquidation_price")
        nearest = priced.loc[priced["distance"].abs().sort_values(kind="stable").index[:MOST_SHOWN]]
        if as_json:
            counts = {"positions": len(table), "with_liquidation_price": len(priced)}
            _print_json(
                {"time": rc.boundary.moment(ticks.time[-1])} | counts
                | {"nearest": _records(nearest), "out": None if out_file is None else str(out_file)}
            )  # fmt: skip
            return
        _print_liquidation_prices(nearest, rc.boundary.moment(ticks.time[-1]))
        written = "" if out_file is None else f"; table in {out_file}"
        out.print(f"{rc.boundary.counted(len(table), 'position')}, {len(priced):,} with a liquidation price{written}")


@app.command(name="what-if")
def what_if_command(
    venue_name: VenueFile,
    positions: PositionsFile,
    balances: BalancesFile,
    marks: MarksFile,
    orders: OrdersFile = None,
    settings: SettingsFile = None,
    asset_prices: AssetPricesFile = None,
    volatilities: VolatilitiesFile = None,
    terms: TermsFile = None,
    surface: SurfaceFile = None,
    underlyings: UnderlyingsFile = None,
    margin_model: MarginModel = None,
    shock: Annotated[
        list[str] | None,
        typer.Option(
            "--shock",
            help="Price move, SYMBOL=-10% or SYMBOL=-0.1; may be repeated; "
            "all=-10% moves every market and asset without a separate move.",
        ),
    ] = None,
    fills: Annotated[
        Path | None, typer.Option("--fills", help="Fills table: account, market, quantity (signed), price.")
    ] = None,
    transfers: Annotated[
        Path | None, typer.Option("--transfers", help="Transfers table: account, asset, quantity (signed).")
    ] = None,
    time_unit: TimeUnit = "ns",
    threads: ThreadCount = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Table of all accounts before and after, Parquet or CSV by the suffix.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare the margin of all accounts before and after price moves, fills and transfers, at the last time."""
    with _running():
        if not shock and fills is None and transfers is None:
            raise rc.RiskDataError("what-if", None, "needs --shock, --fills or --transfers")
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices,
            volatilities=volatilities, terms=terms, surface=surface, underlyings=underlyings,
        )  # fmt: skip
        if out_file is not None:
            rc.io.output_file(out_file, rc.io.TABLES, (*files.values(), fills, transfers))
        venue, accounts, ticks = _read(files, time_unit, as_json, margin_model)
        prices = _last_prices(venue, ticks)
        traded, transferred = _table(fills, "fills", accounts), _table(transfers, "transfers", accounts)
        shocks = _shocks(shock or [], venue)
        with _spinner(as_json) as show:
            show("margins before and after")
            before = rc.what_if(accounts, venue, **prices, threads=threads)
            after = rc.what_if(
                accounts, venue, **prices, fills=traded, transfers=transferred, shocks=shocks, threads=threads
            )  # fmt: skip
        table = _before_and_after(before, after)
        if out_file is not None:
            rc.io.write_table(table, out_file)
        changed = table[before.status != after.status]
        liquidatable = {"before": int(before.liquidatable.sum()), "after": int(after.liquidatable.sum())}
        if as_json:
            _print_json(
                {"time": rc.boundary.moment(ticks.time[-1]), "accounts": len(accounts), "liquidatable": liquidatable}
                | {"changed": _records(changed), "out": None if out_file is None else str(out_file)}
            )  # fmt: skip
            return
        _print_status_changes(changed)
        out.print(
            f"{rc.boundary.counted(len(accounts), 'account')} at {rc.boundary.moment(ticks.time[-1])}: "
            f"{liquidatable['before']:,} at 100 % or above before, {liquidatable['after']:,} after"
            + ("" if out_file is None else f"; table in {out_file}")
        )


class Check(StrEnum):
    """Whether activity is checked as the venue checks it."""

    on = "on"
    off = "off"


def _unused(ticks: rc.market.TickTable) -> int:
    """Number of rows of activity after the last tick."""
    return 0 if ticks.activity is None else len(ticks.activity) - ticks.actions_until(len(ticks) - 1)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


_WITHOUT_BOOKS = "no --books: without depth no slice is filled, and liquidated positions go to the backstop and ADL"


@app.command(name="replay")
def replay_command(
    venue_name: VenueFile,
    positions: PositionsFile,
    balances: BalancesFile,
    marks: MarksFile,
    out_folder: Annotated[Path, typer.Option("--out", help="Run folder; an interrupted run is continued.")],
    books: Annotated[
        Path | None, typer.Option("--books", help="Order books table; without it no market has depth.")
    ] = None,
    orders: OrdersFile = None,
    settings: SettingsFile = None,
    asset_prices: AssetPricesFile = None,
    funding: Annotated[
        Path | None, typer.Option("--funding", help="Funding rates with their own times: time, market, rate.")
    ] = None,
    venue_changes: Annotated[
        Path | None,
        typer.Option("--venue-changes", help="Changes of the venue: time, market or asset, field, value."),
    ] = None,
    activity: Annotated[
        Path | None,
        typer.Option("--activity", help="Actions of accounts between the ticks: time, action, account and more."),
    ] = None,
    activity_check: Annotated[
        Check, typer.Option("--activity-check", help="off: make no checks of margin, the host has decided already.")
    ] = Check.on,
    time_unit: TimeUnit = "ns",
    seed: Annotated[int, typer.Option(help="Seed of the random draws.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Run the engine over all ticks of the tables into a run folder."""
    with _running():
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices, books, funding,
            venue_changes, activity,
        )  # fmt: skip
        if any(out_folder.resolve() in path.resolve().parents for path in files.values()):
            raise rc.RiskDataError("out", None, "must not hold an input of the same command", value=str(out_folder))
        venue, accounts, ticks = _read(files, time_unit, as_json)
        if books is None:
            _say(_WITHOUT_BOOKS)
        if unused := _unused(ticks):
            _say(f"{rc.boundary.counted(unused, 'row')} of --activity after the last tick {_is(unused)} not used")
        inputs = {name: {"path": str(path), "sha256": _digest(path)} for name, path in files.items()}
        result = _run(venue, accounts, ticks, out_folder, seed, inputs, as_json, activity_check.value)
        if as_json:
            _print_json(result)
        else:
            out.print(f"Run folder: {out_folder}")


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    sample_share: Annotated[
        float | None,
        typer.Option("--sample", min=0.0, max=1.0, help="Sweep only this share of the ticks without events."),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="Compare every row with the exact model too: about 0.2 s for 1,000 accounts and a tick.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check a run folder against the rules: exit 0 if every rule was kept, else 1 and the breaches."""
    with _running():
        with _progress("audit", as_json) as bar:
            findings = rc.audit.audit(run, sample=sample_share, reference=reference, progress=bar)
        if as_json:
            _print_json(_audit_json(findings))
        else:
            _print_audit(findings)
        if not findings.ok:
            raise typer.Exit(1)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    account: Annotated[str, typer.Option("--account", help="Account id.")],
    as_json: JsonFlag = False,
) -> None:
    """Explain the run of one account: the causes of its change of equity, and every event with its reason."""
    with _running():
        explanation = rc.run.explain(run, account)
        if as_json:
            _print_json(_explanation_json(explanation))
        else:
            _print_explanation(explanation)


@app.command(name="report")
def report_command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Page; by default report.html in the run.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML page: losses, liquidations, fund, providers, worst accounts, audit."""
    with _running():
        path = out_file or run / "report.html"
        rc.io.output_file(path, (".html",))
        rc.io.write_text(rc.run.page(run, _verdict(run)), path, ".html")
        if as_json:
            providers = rc.run.report.provider_pnl(rc.run.RecordedRun.read(run)).to_json(
                orient="records", date_format="iso"
            )
            _print_json({"out": str(path), "providers": json.loads(providers)})
        else:
            out.print(f"Report: {path}")


@app.command(name="adl-study")
def adl_study_command(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the run is repeated under every policy.")] = None,
    winners: Annotated[Path | None, typer.Option("--winners", help="Winners table of an event.")] = None,
    requests: Annotated[Path | None, typer.Option("--requests", help="Requests table of the event.")] = None,
    queue: Annotated[Path | None, typer.Option("--queue", help="Rows of a real queue, in the venue's order.")] = None,
    policies: Annotated[
        list[str] | None, typer.Option("--policy", help="Name of a policy; may be repeated; by default all policies.")
    ] = None,
    time_unit: TimeUnit = "ns",
    wave_gap: Annotated[float, typer.Option(min=0, help="Seconds without a request that end a wave.")] = 5,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Picture; by default adl-study.html in the run or here (none with --json)."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare the deleveraging policies on a run, on an event from tables, or on a generated event."""
    with _running():
        inputs = [run is not None, winners is not None, queue is not None]
        if sum(inputs) > 1 or (winners is None) != (requests is None) or (queue is not None and out_file is not None):
            rule = "needs a run folder, --winners with --requests, --queue alone, or no input at all"
            raise rc.RiskDataError("adl-study", None, rule)
        if out_file is not None:
            rc.io.output_file(out_file, (".html",), (winners, requests))
        if queue is not None:
            _print_agreement(rc.adl_study.order_agreement(rc.io.read_table(queue, "queue"), unit=time_unit), as_json)
            return
        with _progress("study", as_json) as bar:
            if run is not None:
                result = rc.adl_study.study_run(run, policies, wave_gap, progress=bar)
            elif winners is not None and requests is not None:
                tables = rc.io.read_table(winners, "winners"), rc.io.read_table(requests, "requests")
                result = rc.adl_study.study(*tables, policies, wave_gap, unit=time_unit, progress=bar)
            else:
                result = rc.adl_study.study(*rc.adl_study.generated_event(), policies, wave_gap, progress=bar)
        if out_file is None and not as_json and result.total["waves"].any():
            out_file = (run or Path()) / "adl-study.html"
        if out_file is not None:
            result.write_html(out_file)
        if as_json:
            frames = {"total": result.total, "waves": result.waves, "split": result.split}
            _print_json({name: _records(frame) for name, frame in frames.items()})
            return
        print_study(result, out)
        if out_file is not None:
            out.print(f"Picture: {out_file}")


@app.command()
def warm() -> None:
    """Compile every kernel ahead, into the user's cache folder: later commands and processes start at once."""
    with _running():
        from .warm import warm as compile_ahead

        folder = compile_ahead()
        if folder is None:
            raise rc.RiskDataError("warm", None, "kept no compiled kernels: RISKCORE_CACHE=0, or see the warning")
        out.print(f"Compiled kernels: {folder}", highlight=False, soft_wrap=True)


def _print_replay(files: dict[str, Path], run: Path, seed: int, as_json: bool) -> None:
    """Print the command that replays input files into a run folder, as `demo` does: without the activity."""
    used = {name: path for name, path in files.items() if name != "activity"}
    options = [part for name, path in used.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    command = ["riskcore", "replay", *options, "--out", str(run), *(["--seed", str(seed)] if seed else [])]
    if as_json:
        _print_json({"inputs": {name: str(path) for name, path in files.items()}, "command": command})
    else:
        out.print(shlex.join(command), soft_wrap=True, highlight=False, markup=False)


def _table(path: Path | None, name: str, accounts: rc.Accounts | None = None) -> pd.DataFrame | None:
    return None if path is None else rc.io.read_table(path, name, accounts)


def _inputs(
    venue: Path,
    positions: Path,
    balances: Path,
    orders: Path | None,
    settings: Path | None,
    marks: Path,
    asset_prices: Path | None,
    books: Path | None = None,
    funding: Path | None = None,
    venue_changes: Path | None = None,
    activity: Path | None = None,
    **scenario_tables: Path | None,
) -> dict[str, Path]:
    """Files of a command by the names of their tables, of those that are given."""
    files = {
        "venue": venue, "positions": positions, "balances": balances, "orders": orders, "settings": settings,
        "asset_prices": asset_prices, "marks": marks, "books": books, "funding": funding,
        "venue_changes": venue_changes, "activity": activity,
    } | scenario_tables  # fmt: skip
    return {name: path for name, path in files.items() if path is not None}


def _read(
    files: dict[str, Path], time_unit: str, quiet: bool, margin_model: str | None = None
) -> tuple[rc.Venue, rc.Accounts, rc.market.TickTable]:
    """Read the input files of a command; a margin model stands in the place of the venue's."""
    with _spinner(quiet) as show:
        show("reading accounts")
        venue = rc.load_venue(files["venue"] if margin_model is None else _with_model(files["venue"], margin_model))
        accounts = rc.io.read_accounts(
            venue, files["positions"], files["balances"], files.get("orders"), files.get("settings")
        )  # fmt: skip
        show("reading marks")
        marks = rc.io.read_table(files["marks"], "marks")
        show("reading books")
        books = _table(files.get("books"), "books")
        show("collecting ticks")
        asset_prices = _table(files.get("asset_prices"), "asset_prices")
        events = {name: _table(files.get(name), name, accounts) for name in ("funding", "venue_changes", "activity")}
        tables = {name: _table(files.get(name), name) for name in ("volatilities", "terms", "surface", "underlyings")}
        ticks = rc.io.read_ticks(venue, accounts, marks, books, asset_prices, **events, **tables, unit=time_unit)
    return venue, accounts, ticks


def _with_model(path: Path, name: str) -> dict[str, Any]:
    """Content of a venue file with another margin model."""
    content: dict[str, Any] = rc.boundary.json_input.raw(path, "venue")
    if not isinstance(content, dict) or not isinstance(content.get("policy", {}), dict):
        rc.load_venue(content)  # which refuses it
    if name == "separable":
        return content | {"policy": content.get("policy", {}) | {"margin_model": name}}
    policy = content.get("policy", {}) | {"margin_model": "scenario"}
    return content | {"scenario_model": rc.load_scenario_model(name).to_dict(), "policy": policy}


def _last_prices(venue: rc.Venue, ticks: rc.market.TickTable) -> dict[str, Any]:
    """Prices of the last tick, as the functions of a single vector of prices take them."""
    tick = ticks.tick(len(ticks) - 1)
    if venue.has_scenarios:
        return {"prices": tick}
    return {
        "prices": tick.marks, "indexes": tick.indexes, "asset_prices": tick.asset_prices,
        "open_interest": tick.open_interest,
    }  # fmt: skip


def _shocks(texts: list[str], venue: rc.Venue) -> dict[str, float] | None:
    """Read the moves of prices by symbol."""
    if not texts:
        return None
    shocks: dict[str, float] = {}
    for text in texts:
        symbol, _, move = text.rpartition("=")
        try:
            number = Decimal(move.removesuffix("%")) / (100 if move.endswith("%") else 1)
        except ArithmeticError:
            number = Decimal("nan")
        if not symbol or number.is_nan():
            rule = "must be SYMBOL=MOVE, as all=-10% or BTC_USDC_PERP=-0.1"
            raise rc.RiskDataError("shock", None, rule, value=text)
        if symbol in shocks:
            raise rc.RiskDataError("shock", symbol, "must not be repeated", value=text)
        shocks[symbol] = float(number)
    if "all" in shocks:
        names = dict.fromkeys((*venue.markets.symbol, *venue.assets.symbol), shocks.pop("all"))
        options = [
            name for name, kind in zip(venue.markets.symbol, venue.markets.type, strict=True) if kind == "OPTION"
        ]
        for name in (venue.settle_asset, *options):  # an option has its value when its underlying has moved
            del names[name]
        shocks = names | shocks
    return shocks


def _before_and_after(before: rc.MarginTable, after: rc.MarginTable) -> pd.DataFrame:
    """Margin of the same accounts in two tables, side by side."""
    import numpy as np
    import pandas as pd

    statuses = np.array(["safe", "liquidating", "below_auto_close"], object)
    columns = {"account": before.account}
    for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin", "imr", "mmr"):
        columns |= {f"{name}_before": getattr(before, name), f"{name}_after": getattr(after, name)}
    columns |= {"status_before": statuses[before.status], "status_after": statuses[after.status]}
    return pd.DataFrame(columns)


_ROWS_TO_AUDIT = 200_000
_SWEPT_TO_AUDIT = 20_000_000  # ticks times accounts


def _verdict(path: Path) -> str | None:
    """Result of the audit of a small run in one line; None of a large run, which is not audited for its report."""
    run = rc.record.reader.open_run(path)
    if run.manifest["events"] > _ROWS_TO_AUDIT or run.sizes["tick"] * run.sizes["account"] > _SWEPT_TO_AUDIT:
        return None
    return rc.audit.audit(path).verdict


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(
    venue: rc.Venue,
    accounts: rc.Accounts,
    ticks: rc.market.TickTable,
    path: Path,
    seed: int,
    inputs: dict[str, Any],
    quiet: bool,
    activity_check: str = "on",
) -> dict[str, Any]:
    """Replay into a run folder and show what came of it; return the same for JSON."""
    with _progress("replay", quiet) as bar:
        engine = rc.run.replay(
            venue, accounts, ticks, path, seed=seed, activity_check=activity_check, inputs=inputs, progress=bar
        )
    recorded = rc.run.RecordedRun.read(path)
    rows, prices = recorded.rows, recorded.asset_price
    split = rc.run.report.waterfall_split(rows, venue, prices)
    unpaid, stays = rc.run.report.shortfalls(rows, venue, prices), rc.run.report.left_open(recorded)
    still = rc.run.report.left_open_totals(stays)
    providers = rc.run.report.provider_pnl(recorded).groupby("provider", as_index=False).last().drop(columns="time")
    refused = int((rows["event"] == rc.record.EVENT["guard"]).sum())

    def margins(venue: rc.Venue, state: rc.Accounts, tick: int) -> rc.MarginTable:
        prices = rc.Prices.incomplete(venue, ticks.tick(tick)).guarded(state, *rc.record.reader.read_prices(path, tick))
        return rc.margin.margin_table(state, prices)

    end = margins(engine.venue, engine.accounts, len(ticks) - 1)
    first, last = (rc.run.report.margin_distribution(table.mmr) for table in (margins(venue, accounts, 0), end))
    # no tick selects an account without exposure, so no shortfall row tells of its debt
    insolvent = end.net_equity[(end.exposure == 0) & (end.net_equity < 0)]
    debtors, debt = len(insolvent), -float(insolvent.sum())
    if not quiet:
        _print_distribution({"first tick": first, "last tick": last})
        _print_split(split, unpaid, still, venue)
        if debtors:
            what = f"Uncovered debt of {rc.boundary.counted(debtors, 'account')} without exposure"
            out.print(f"{what}: {debt:,.2f} {venue.settle_asset}")
        _print_providers(providers)
        sizes = {"account": len(accounts), "tick": len(ticks), "journal row": len(rows)}
        out.print(", ".join(rc.boundary.counted(size, what) for what, size in sizes.items()))
        if refused:
            out.print(f"Price updates and books rejected by the guards: {refused:,}")
        if accounts.rounded >= 0.05:
            out.print(f"{accounts.rounded:,.1f} quanta changed by rounding balances to whole quanta")
    return {
        "run": str(path), "accounts": len(accounts), "ticks": len(ticks), "events": len(rows), "refused": refused,
        "rounded_quanta": accounts.rounded, "split": split.to_dict("records"), "shortfall": unpaid,
        "left_open": still,
        "insolvent": {"accounts": debtors, "amount": debt}, "providers": providers.to_dict("records"),
        "distribution": {"first": first.to_dict("records"), "last": last.to_dict("records")},
    }  # fmt: skip
