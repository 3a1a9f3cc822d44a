"""The margin of accounts: exact, swept, screened, at many vectors of prices, and the prices that liquidate."""

from . import exact, scenario, separable
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
from .explain import explain_margin
from .liquidation_price import LiquidationPrices, liquidation_prices
from .model import MODELS, MarginModel, folded, model_of, register_model
from .sweep import MarginTable, Selection, margin_table, margins_of, selected, selection
from .what_if import largest_orders, what_if

__all__ = [
    "MODELS",
    "LiquidationPrices",
    "MarginModel",
    "MarginTable",
    "MarginTables",
    "PriceMaps",
    "Selection",
    "Selections",
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
