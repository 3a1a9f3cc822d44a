"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""

from .checks import discounts_in_order
from .figures import decimal_text
from .history import expected_shortfall, value_at_risk
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
    Scenario,
    ScenarioModel,
    ScenarioRow,
    Skew,
    SkewShock,
    SpreadDelta,
    SpreadLeg,
    Spreads,
    Theta,
    Vol,
    VolShock,
)
from .page import scenario_models_page
from .portfolios import PortfolioOrders, Portfolios
from .presets import preset_names, scenario_preset
from .record import Terms, values_of_record
from .requirement import Gradients, Requirements
from .scenario_market import ScenarioMarket
from .table import ScenarioTable
from .traits import Traits

__all__ = [
    "Basis", "Charge", "Confidence", "DeltaFloor", "DeltaShock", "Depeg", "Discount", "Fee", "Funding", "Gamma",
    "Gradients", "Grid", "Group", "GroupOf", "Haircut", "Instruments", "InterSpread", "IntraSpread", "Kind", "Measure",
    "Minimum", "Notional", "Offset", "OptionShort", "PortfolioOrders", "Portfolios", "Requirements", "Roll", "Scenario",
    "ScenarioMarket", "ScenarioModel", "ScenarioRow", "ScenarioTable", "Skew", "SkewShock", "SpreadDelta", "SpreadLeg",
    "Spreads", "Terms", "Theta", "Traits", "Vol", "VolShock", "decimal_text", "discounts_in_order",
    "expected_shortfall", "load_scenario_model", "preset_names", "scenario_models_page", "scenario_preset",
    "value_at_risk", "values_of_record",
]  # fmt: skip
