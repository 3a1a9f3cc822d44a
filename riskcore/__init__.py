"""riskcore: who would be liquidated, how, at what price, and who pays."""

from .accounts import Accounts
from .engine import Engine, StepResult
from .errors import RiskDataError
from .margin import MarginTable, MarginTables, sweep
from .tick import Tick
from .venue import Venue, load_venue

__version__ = "0.1.0.dev0"

__all__ = [
    "Accounts", "Engine", "MarginTable", "MarginTables", "RiskDataError", "StepResult", "Tick", "Venue", "__version__",
    "load_venue", "sweep",
]  # fmt: skip
