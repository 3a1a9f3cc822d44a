"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""

from .checks import discounts_in_order
from .figures import decimal_text
from .load import load_scenario_model
from .model import (
    Basis,
    Charge,
    Confidence,
    DeltaFloor,
    DeltaShock,
    Depeg,
    Discount,
    Fee,
    Funding,
    Gamma,
    Grid,
    Group,
    GroupOf,
    Haircut,
    InterSpread,
    IntraSpread,
    Measure,
    Minimum,
    Notional,
    Offset,
    OptionShort,
    Roll,
    Row,
    Scenario,
    ScenarioModel,
    Skew,
    SkewShock,
    SpreadDelta,
    SpreadLeg,
    Spreads,
    Theta,
    Vol,
    VolShock,
)
from .presets import preset_names, scenario_preset
from .traits import Traits, traits

__all__ = [
    "Basis", "Charge", "Confidence", "DeltaFloor", "DeltaShock", "Depeg", "Discount", "Fee", "Funding", "Gamma",
    "Grid", "Group", "GroupOf", "Haircut", "InterSpread", "IntraSpread", "Measure", "Minimum", "Notional", "Offset",
    "OptionShort", "Roll", "Row", "Scenario", "ScenarioModel", "Skew", "SkewShock", "SpreadDelta", "SpreadLeg",
    "Spreads", "Theta", "Traits", "Vol", "VolShock", "decimal_text", "discounts_in_order", "load_scenario_model",
    "preset_names", "scenario_preset", "traits",
]  # fmt: skip
