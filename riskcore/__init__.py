"""riskcore: who would be liquidated, how, at what price, and who pays."""

from .boundary import RecordingWarning, RiskDataError
from .engine import Engine, StepResult
from .margin import (
    LiquidationPrices,
    MarginTable,
    MarginTables,
    Selection,
    Selections,
    explain_margin,
    largest_orders,
    liquidation_prices,
    select,
    sweep,
    sweep_rows,
    what_if,
)
from .margin.screen import Screen
from .market import Books, Prices, Tick, cross_venue_index
from .run import read_run
from .state import Accounts
from .venue import Venue, load_venue

__version__ = "0.1.0.dev0"

__all__ = [
    "Accounts", "Books", "Engine", "LiquidationPrices", "MarginTable", "MarginTables", "Prices", "RecordingWarning",
    "RiskDataError", "Screen", "Selection", "Selections", "StepResult", "Tick", "Venue", "__version__",
    "cross_venue_index", "explain_margin", "largest_orders", "liquidation_prices", "load_venue",
    "read_run", "select", "sweep", "sweep_rows", "what_if",
]  # fmt: skip
