"""Writes docs/scenario_models.md: every preset with its scenarios, and its figures with their sources."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

from .figures import decimal_text
from .model import Scenario, ScenarioModel
from .presets import preset_names, scenario_preset

_ROWS = ("scenarios", "grid", "tails")
_STEP = re.compile(r"[^.\[\]]+")


def scenario_models_page() -> str:
    """Write docs/scenario_models.md.

    Returns
    -------
    str
        Markdown: an introduction, and a section per preset with its scenarios, its figures and their sources.

    Examples
    --------
    >>> from riskcore.scenario import scenario_models_page
    >>> print(scenario_models_page().splitlines()[0])
    # Scenario models
    """
    names = preset_names()
    listed = [f"* [{name}](#{name}): {scenario_preset(name)['title']}" for name in names]
    return "\n".join([_INTRODUCTION, *listed, "", *(_section(name) for name in names)])


def _section(name: str) -> str:
    preset = scenario_preset(name)
    lines = [f"## {name}", "", f"{preset['title']}. {preset['summary']}", ""]
    if "history" not in preset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = ScenarioModel.read(preset["model"])
        lines += [f"{len(model.rows)} scenarios: {_scenarios(model.rows)}.", "", *_traits(model), ""]
    lines += ["| figure | value | status | date | source |", "|---|---|---|---|---|"]
    for path, source in preset["sources"].items():
        if source is not None:
            value = _value(preset, path)
            lines.append(f"| `{path}` | {value} | {source['status']} | {source['date']} | {source['source']} |")
    return "\n".join([*lines, ""])


def _scenarios(rows: tuple[Scenario, ...]) -> str:
    """Names of the scenarios with their ids, those with a weight with it."""
    weights = [f" (weight {decimal_text(row.weight)})" if row.weight != 1 else "" for row in rows]
    return "; ".join(
        f"{number} {row.name}{weight}" for number, (row, weight) in enumerate(zip(rows, weights, strict=True))
    )


def _traits(model: ScenarioModel) -> list[str]:
    traits = model.traits
    words = [f"{name}: {'yes' if getattr(traits, name) else 'no'}" for name in ("homogeneous", "convex", "subadditive")]
    reasons = ["", *(f"* {reason}" for reason in traits.reasons)] if traits.reasons else []
    return [f"{', '.join(words)}.".capitalize(), *reasons]


def _value(preset: dict[str, Any], path: str) -> str:
    """The figures at a path; of scenarios nothing, because they are listed above."""
    steps = _STEP.findall(path)
    if steps[0] in _ROWS and steps[0] != "grid":
        return "listed above"
    value: Any = preset if steps[0] == "history" else preset["model"]
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


_INTRODUCTION = """\
# Scenario models

The portfolio margin models that ship with riskcore. `riskcore.load_scenario_model(name)` reads one, `replace` changes
its figures; [scenario_margin.md](scenario_margin.md) has the rules that the figures enter and the keys of a file.

Every figure has a status: **published** (a page, a rulebook, public code or a reply of the venue has it), **inferred**
(it follows from what is published with an assumption, which the source states), **unknown** (it is not public, and the
value is a placeholder). Venues change their figures often: compare the dates, and take what a venue gives today.

This page is written by `riskcore.scenario.scenario_models_page` from `riskcore/presets/scenario/`.
"""
