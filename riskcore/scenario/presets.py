"""Scenario models that ship with the package: a file for each, with the source of every figure."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..boundary import RiskDataError


def _folder() -> Path:
    return Path(str(resources.files("riskcore") / "presets" / "scenario"))


@cache
def _files() -> dict[str, dict[str, Any]]:
    """The content of each file by its name, of each variant by the file's name and its own."""
    found = {}
    for path in sorted(_folder().glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        variants = content.pop("variants", {})
        found[path.stem] = content
        for name, variant in variants.items():
            model = {key: each for key, each in (content["model"] | variant["model"]).items() if each is not None}
            sources = content["sources"] | variant["sources"]
            found[f"{path.stem}_{name}"] = {**content, **variant, "model": model, "sources": sources}
    return found


def preset_names() -> tuple[str, ...]:
    """Return the names of the scenario models that ship with the package.

    Returns
    -------
    tuple of str
        Names that `load_scenario_model` takes.

    Examples
    --------
    >>> from riskcore.scenario import preset_names
    >>> "derive" in preset_names()
    True
    """
    return tuple(_files())


def scenario_preset(name: str) -> dict[str, Any]:
    """Return a shipped scenario model with the sources of its figures.

    Parameters
    ----------
    name : str
        Name of the preset.

    Returns
    -------
    dict
        ``title``, ``summary``, ``model`` (the content that `ScenarioModel.read` takes), ``sources`` (by the path of a
        figure: ``source``, ``date`` and ``status``, which is published, inferred or unknown).

    Raises
    ------
    RiskDataError
        No preset has this name.

    Examples
    --------
    >>> from riskcore.scenario import scenario_preset
    >>> scenario_preset("derive")["model"]["mm_factor"]
    '0.8'
    """
    if name not in _files():
        rule = f"must be a preset ({', '.join(_files())}), a path with a suffix or a separator, or JSON"
        raise RiskDataError("scenario_model", None, rule, value=name)
    content: dict[str, Any] = json.loads(json.dumps(_files()[name]))
    return content
