"""The commands on scenario margin: worst losses, their attribution to positions, and models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import riskcore as rc

from .commands import (
    AssetPricesFile,
    BalancesFile,
    JsonFlag,
    MarginModel,
    MarksFile,
    OrdersFile,
    PositionsFile,
    SettingsFile,
    SurfaceFile,
    TermsFile,
    ThreadCount,
    TimeUnit,
    UnderlyingsFile,
    VenueFile,
    VolatilitiesFile,
    _inputs,
    _read,
    _running,
    _spinner,
    app,
)
from .render import MOST_SHOWN, _print_json, _records, out, print_attribution, print_losses, print_models

if TYPE_CHECKING:
    import pandas as pd

OneAccount = Annotated[str | None, typer.Option("--account", help="Account id.")]


@app.command(name="scenario-losses")
def scenario_losses_command(
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
    account: OneAccount = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="SVG: how many accounts each scenario binds; with --account, the account's losses."
        ),
    ] = None,
    matrix: Annotated[
        Path | None, typer.Option("--matrix", help="Loss of every account in every scenario, Parquet or CSV.")
    ] = None,
    time_unit: TimeUnit = "ns",
    threads: ThreadCount = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="Worst losses; with --account, its positions. Parquet or CSV by the suffix."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute the worst loss of every account and its scenario, or the part of each position of one account."""
    with _running():
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices,
            volatilities=volatilities, terms=terms, surface=surface, underlyings=underlyings,
        )  # fmt: skip
        for path, suffixes in ((out_file, rc.io.TABLES), (matrix, rc.io.TABLES), (picture, (".svg",))):
            if path is not None:
                rc.io.output_file(path, suffixes, files.values())
        venue, accounts, ticks = _read(files, time_unit, as_json, margin_model)
        tick = ticks.tick(len(ticks) - 1)
        with _spinner(as_json) as show:
            show("losses")
            losses = rc.scenario_losses(accounts, venue, tick, threads=threads)
            table = worst = losses.to_frame()
            if account is not None:
                split = rc.attribution(accounts, venue, tick, account=_id_of(accounts, account), threads=threads)
                table, worst = split.to_frame(), split.accounts_frame()
            if out_file is not None:
                rc.io.write_table(table, out_file)
            if matrix is not None:
                rc.io.write_scenario_losses(matrix, losses)
            if picture is not None:
                drawn = (
                    rc.run.binding_picture(losses)
                    if account is None
                    else rc.run.payoff_picture(accounts, venue, tick, _id_of(accounts, account))
                )
                rc.io.write_text(drawn, picture, ".svg")
        largest = worst.sort_values("requirement", ascending=False, kind="stable")[:MOST_SHOWN]
        if as_json:
            paths = {"out": out_file, "matrix": matrix, "picture": picture}
            _print_json(
                {"time": rc.boundary.moment(ticks.time[-1]), "accounts": len(accounts), "largest": _records(largest)}
                | ({} if account is None else {"positions": _records(table)})
                | {name: None if path is None else str(path) for name, path in paths.items()}
            )  # fmt: skip
            return
        if account is None:
            print_losses(largest, rc.boundary.moment(ticks.time[-1]))
            most = table["scenario_name"].value_counts()
            often = rc.boundary.counted(int(most.iloc[0]), "account")
            written = "".join(f"; {path}" for path in (out_file, matrix, picture) if path is not None)
            out.print(
                f"{rc.boundary.counted(len(accounts), 'account')}; {most.index[0]} is the worst of {often}{written}"
            )
        else:
            print_attribution(table, worst)


@app.command(name="compare-models")
def compare_models_command(
    venue_name: VenueFile,
    positions: PositionsFile,
    balances: BalancesFile,
    marks: MarksFile,
    models: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME|FILE", help="A scenario model or separable; give two or more."),
    ],
    orders: OrdersFile = None,
    settings: SettingsFile = None,
    asset_prices: AssetPricesFile = None,
    volatilities: VolatilitiesFile = None,
    terms: TermsFile = None,
    surface: SurfaceFile = None,
    underlyings: UnderlyingsFile = None,
    time_unit: TimeUnit = "ns",
    threads: ThreadCount = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="A row per account and model, Parquet or CSV by the suffix.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare requirements and margin ratios of all accounts under several margin models, at the last time."""
    with _running():
        files = _inputs(
            rc.venue.venue_path(venue_name), positions, balances, orders, settings, marks, asset_prices,
            volatilities=volatilities, terms=terms, surface=surface, underlyings=underlyings,
        )  # fmt: skip
        scenario = next((model for model in models if model != "separable"), None)
        if out_file is not None:
            named = [model for model in models if Path(model).is_file()]
            rc.io.output_file(out_file, rc.io.TABLES, (*files.values(), *named))
        venue, accounts, ticks = _read(files, time_unit, as_json, scenario)  # any model: it only reads the inputs
        with _spinner(as_json) as show:
            show("margins under each model")
            table = rc.compare_models(accounts, venue, ticks.tick(len(ticks) - 1), models, threads=threads)
        if out_file is not None:
            rc.io.write_table(table, out_file)
        totals = _totals(table)
        if as_json:
            _print_json(
                {"time": rc.boundary.moment(ticks.time[-1]), "accounts": len(accounts), "models": _records(totals)}
                | {"out": None if out_file is None else str(out_file)}
            )  # fmt: skip
            return
        print_models(table, totals, rc.boundary.moment(ticks.time[-1]))


def _id_of(accounts: rc.Accounts, text: str) -> int | str:
    """An account id as typed: a number where the ids are numbers."""
    if accounts.ids.dtype.kind in "iu" and text.lstrip("-").isdecimal():
        return int(text)
    return text


def _totals(table: pd.DataFrame) -> pd.DataFrame:
    """Sums over the accounts by model, in the order of the models."""
    of_model = table.groupby("model", sort=False)
    return of_model.agg(
        requirement=("requirement", "sum"), initial_requirement=("initial_requirement", "sum"),
        saved_by_hedging=("saved_by_hedging", "sum"), liquidatable=("liquidatable", "sum"),
        without=("requirement", lambda column: int(column.isna().sum())),
    ).reset_index()  # fmt: skip
