"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""

from . import exact
from .exact import ChargePart, GroupPart, Parts
from .hedging import saved_by_position
from .history import expected_shortfall, value_at_risk
from .instruments import Instruments, Kind
from .load import load_scenario_model
from .model import Scenario, ScenarioModel, Vol
from .page import scenario_models_page
from .portfolios import PortfolioOrders, Portfolios
from .presets import preset_names, scenario_preset
from .record import Terms, values_of_record
from .requirement import Gradients, Requirements
from .scenario_market import ScenarioMarket
from .table import ScenarioTable
from .traits import Traits

__all__ = [
    "ChargePart", "Gradients", "GroupPart", "Instruments", "Kind", "Parts", "PortfolioOrders", "Portfolios",
    "Requirements", "Scenario", "ScenarioMarket", "ScenarioModel", "ScenarioTable", "Terms", "Traits", "Vol", "exact",
    "expected_shortfall", "load_scenario_model", "preset_names", "saved_by_position", "scenario_models_page",
    "scenario_preset", "value_at_risk", "values_of_record",
]  # fmt: skip
