"""The margin of accounts: exact, swept, screened, at many vectors of prices, and the prices that liquidate."""

from . import exact, scenario, separable
from .attribution import Attribution, attribution
from .batch import (
    MarginTables,
    PriceMaps,
    Selections,
    join_tables,
    select,
    select_table,
    sweep,
    sweep_rows,
    sweep_table,
)
from .compare import compare_models
from .explain import explain_margin
from .liquidation_price import LiquidationPrices, liquidation_prices
from .model import MODELS, MarginModel, folded, model_of, register_model
from .scenario_losses import NO_LOSS, LossBlock, ScenarioLosses, scenario_losses
from .sweep import MarginTable, Selection, margin_table, margins_of, selected, selection
from .what_if import largest_orders, what_if

__all__ = [
    "MODELS",
    "NO_LOSS",
    "Attribution",
    "LiquidationPrices",
    "LossBlock",
    "MarginModel",
    "MarginTable",
    "MarginTables",
    "PriceMaps",
    "ScenarioLosses",
    "Selection",
    "Selections",
    "attribution",
    "compare_models",
    "exact",
    "explain_margin",
    "folded",
    "join_tables",
    "largest_orders",
    "liquidation_prices",
    "margin_table",
    "margins_of",
    "model_of",
    "register_model",
    "scenario",
    "scenario_losses",
    "select",
    "select_table",
    "selected",
    "selection",
    "separable",
    "sweep",
    "sweep_rows",
    "sweep_table",
    "what_if",
]
