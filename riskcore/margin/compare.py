"""The requirements of the same accounts at the same prices under several margin models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, as_text
from ..market import Prices, Tick
from ..scenario import ScenarioModel, load_scenario_model
from ..state import Accounts, must_fit
from ..venue import Venue
from .attribution import alone_of, borrow_margins
from .scenario import table_of
from .scenario_losses import NO_LOSS, owners_of, portfolios_at, scenario_names
from .sweep import MarginTable, margin_table, margins_of

Model: TypeAlias = "str | Path | dict[str, Any] | ScenarioModel"
SEPARABLE = "separable"


def compare_models(
    accounts: Accounts,
    venue: Venue,
    tick: Tick,
    models: Mapping[str, Model] | Iterable[Model],
    *,
    threads: int | None = None,
) -> pd.DataFrame:
    """Compute the margin of every account under several margin models.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue; its own margin model takes no part.
    tick : Tick
        The prices.
    models : mapping of str to model, or iterable of models
        Scenario models as `riskcore.load_scenario_model` takes them, or "separable", by the names of the column model;
        of an iterable the names are the presets' and files', "model 1" and so on for others.
    threads : int, optional
        As of `sweep`.

    Returns
    -------
    DataFrame
        A row per account and model, the models of an account together: account, model, requirement (maintenance),
        initial_requirement, net_equity (settle units), mmr (ratio), liquidatable, scenario (name of the binding one),
        saved_by_hedging (requirements of the positions alone less that of the account; 0 of the separable model, whose
        requirement is their sum). NaN and "-" for an account with options under the separable model.

    Raises
    ------
    RiskDataError
        A model is wrong or named twice, the venue has no margin functions for the separable model, or a price is
        missing.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> frame = rc.compare_models(sample.accounts, sample.venue, sample.tick, ["derive", "grid24"])
    >>> frame[["account", "model", "scenario"]].values.tolist()[:2]
    [[1, 'derive', '-18 % up'], [1, 'grid24', '-16 % up']]
    """
    must_fit(accounts, venue)
    columns = []
    for name, model in named_models(models).items():
        if isinstance(model, str) and model == SEPARABLE:
            columns.append(_separable(accounts, venue, tick, name))
        else:
            columns.append(_scenario(accounts, venue, tick, name, load_scenario_model(model), threads))
    if not columns:
        raise RiskDataError("models", None, "must have at least one model")
    table = pd.concat(columns, keys=range(len(columns)), names=["number", "place"])
    return table.sort_values(["place", "number"], kind="stable").reset_index(drop=True)


def named_models(models: Mapping[str, Model] | Iterable[Model]) -> dict[str, Model]:
    """Return models by their names.

    Parameters
    ----------
    models
        As of `compare_models`.

    Returns
    -------
    dict of str to model
        In their order.

    Raises
    ------
    RiskDataError
        A name comes twice, or ``models`` is a single model.
    """
    if isinstance(models, Mapping):
        if not all(isinstance(name, str) for name in models):
            raise RiskDataError("models", None, "must have texts as the names of the models")
        return dict(models)
    if isinstance(models, str | ScenarioModel) or not isinstance(models, Iterable):
        raise RiskDataError("models", None, "must be a list of models, or models by their names", value=as_text(models))
    named: dict[str, Model] = {}
    for number, model in enumerate(models, 1):
        is_name = isinstance(model, str | Path) and not str(model).lstrip().startswith("{")
        name = str(model) if is_name else f"model {number}"
        if name in named:
            raise RiskDataError("models", None, "must not have the same model twice", value=name)
        named[name] = model
    return named


def _scenario(
    accounts: Accounts, venue: Venue, tick: Tick, name: str, model: ScenarioModel, threads: int | None
) -> pd.DataFrame:
    """Margin of every account under a scenario model."""
    venue = venue.replace(scenario_model=model, policy={"margin_model": "scenario"})
    prices, rows = Prices.read(venue, accounts, tick), np.arange(len(accounts))
    table, portfolios = table_of(prices), portfolios_at(accounts, rows, prices)
    worst = table.requirements(portfolios, worst=True, threads=threads).worst
    alone = np.bincount(owners_of(portfolios), alone_of(prices, portfolios), len(rows))
    for borrow in borrow_margins(accounts, rows, prices):
        alone[borrow.place] += borrow.margin
    margins = margin_table(accounts, prices, threads=threads)
    columns = _columns(margins) | {
        "scenario": np.array([*scenario_names(table)["name"], NO_LOSS], object)[worst],
        "saved_by_hedging": alone - margins.maintenance_margin,
    }
    return pd.DataFrame({"account": accounts.ids, "model": name} | columns)


def _separable(accounts: Accounts, venue: Venue, tick: Tick, name: str) -> pd.DataFrame:
    """Margin of every account that holds no option under the separable model."""
    any_model = venue.replace(scenario_model={"scenarios": [{"move": "0"}]}, policy={"margin_model": "scenario"})
    prices = Prices.read(any_model, accounts, tick)  # which accepts accounts with options
    prices = replace(prices, venue=venue.replace(policy={"margin_model": SEPARABLE}))
    held = venue.markets.is_option[accounts.columns.market] & (accounts.columns.lots != 0)
    rows = np.setdiff1d(np.arange(len(accounts)), accounts.position_accounts()[held])
    columns = _columns(margins_of(accounts, rows, prices)) | {"saved_by_hedging": np.zeros(len(rows))}
    frame = pd.DataFrame(columns, index=rows).reindex(np.arange(len(accounts)))
    frame["liquidatable"] = frame["liquidatable"].astype("boolean")
    frame.insert(5, "scenario", "-")
    return pd.concat([pd.DataFrame({"account": accounts.ids, "model": name}), frame], axis=1)


def _columns(margins: MarginTable) -> dict[str, Any]:
    return {
        "requirement": margins.maintenance_margin,
        "initial_requirement": margins.initial_margin,
        "net_equity": margins.net_equity,
        "mmr": margins.mmr,
        "liquidatable": margins.liquidatable,
    }
