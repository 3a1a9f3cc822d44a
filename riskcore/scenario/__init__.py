"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""

from .checks import discounts_in_order
from .figures import decimal_text
from .instruments import Instruments, Kind
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
from .portfolios import PortfolioOrders, Portfolios
from .presets import preset_names, scenario_preset
from .record import Terms, values_of_record
from .requirement import Gradients, Requirements
from .scenario_market import ScenarioMarket
from .table import ScenarioTable
from .traits import Traits, traits

__all__ = [
    "Basis", "Charge", "Confidence", "DeltaFloor", "DeltaShock", "Depeg", "Discount", "Fee", "Funding", "Gamma",
    "Gradients", "Grid", "Group", "GroupOf", "Haircut", "Instruments", "InterSpread", "IntraSpread", "Kind", "Measure",
    "Minimum", "Notional", "Offset", "OptionShort", "PortfolioOrders", "Portfolios", "Requirements", "Roll", "Row",
    "Scenario", "ScenarioMarket", "ScenarioModel", "ScenarioTable", "Skew", "SkewShock", "SpreadDelta", "SpreadLeg",
    "Spreads", "Terms", "Theta", "Traits", "Vol", "VolShock", "decimal_text", "discounts_in_order",
    "load_scenario_model", "preset_names", "scenario_preset", "traits", "values_of_record",
]  # fmt: skip
