"""riskcore: who would be liquidated, how, at what price, and who pays."""

from .accounts import Accounts
from .engine import Engine, StepResult
from .errors import RecordingWarning, RiskDataError
from .explain import explain_margin
from .guards import cross_venue_index
from .hypothetical import changed_accounts, largest_orders, what_if
from .liquidation import LiquidationPrices, liquidation_prices
from .many import MarginTables, Selections, select, sweep, sweep_rows
from .margin import MarginTable, Selection
from .screen import Screen
from .tick import Tick
from .venue import Venue, load_venue

__version__ = "0.1.0.dev0"

__all__ = [
    "Accounts", "Engine", "LiquidationPrices", "MarginTable", "MarginTables", "RecordingWarning", "RiskDataError",
    "Screen", "Selection", "Selections", "StepResult", "Tick", "Venue", "__version__", "changed_accounts",
    "cross_venue_index", "explain_margin", "largest_orders", "liquidation_prices", "load_venue", "select", "sweep",
    "sweep_rows", "what_if",
]  # fmt: skip
