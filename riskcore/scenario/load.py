"""Reads a scenario model from a preset, a file, JSON text or parsed content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..boundary import RiskDataError, json_input
from .model import ScenarioModel
from .presets import scenario_preset


def load_scenario_model(source: str | Path | dict[str, Any] | ScenarioModel) -> ScenarioModel:
    """Read a scenario model.

    Parameters
    ----------
    source : str, Path, dict or ScenarioModel
        Name of a preset (docs/scenario_models.md), path of a JSON file, JSON text, or its content parsed. Text without
        a suffix and without a separator is the name of a preset. A model is returned as it is.

    Returns
    -------
    ScenarioModel
        The model.

    Raises
    ------
    RiskDataError
        There is no such preset or file, or a figure is wrong; one line with the path of the key and its value.

    Notes
    -----
    A model in which a discount of long options can be larger than that of short options is read with a `UserWarning`.

    Examples
    --------
    >>> import riskcore as rc
    >>> rc.load_scenario_model("derive")
    ScenarioModel(31 scenarios, 7 charges, mm 0.8, im 1)
    >>> rc.load_scenario_model({"grid": {"range": "0.15", "steps": 3}}).rows[0].name
    '-15 % same'
    >>> rc.load_scenario_model({"scenarios": [{"moev": "0.1"}]})
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: scenario_model.scenarios[0].moev: is no key of a model; do you mean 'move'?
    """
    if isinstance(source, ScenarioModel):
        return source
    given: str | Path | dict[str, Any] = source
    if isinstance(source, str) and source.lstrip()[:1] == "{":
        try:
            given = json.loads(source, parse_float=str)
        except ValueError as error:
            raise RiskDataError("scenario_model", None, f"is not JSON: {error}") from None
    elif isinstance(source, str) and not (Path(source).suffix or any(s in source for s in (os.sep, os.altsep) if s)):
        given = _content_of_preset(source)
    content = json_input.raw(given, "scenario_model")
    if not isinstance(content, dict):
        raise RiskDataError("scenario_model", None, "must be an object")
    return ScenarioModel.read(content)


def _content_of_preset(name: str) -> dict[str, Any]:
    preset = scenario_preset(name)
    if "history" in preset:
        rule = f"must be made from a history of prices: ScenarioModel.from_returns(frame, preset={name!r})"
        raise RiskDataError("scenario_model", None, rule, value=name)
    content: dict[str, Any] = preset["model"]
    return content
