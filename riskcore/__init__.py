"""riskcore: portfolio margin and liquidations: which accounts, how, at what price, and who pays."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

__all__ = [
    "Account", "Accounts", "ActivityResult", "Attribution", "Books", "Engine", "LiquidationPrices", "Margin",
    "MarginTable", "MarginTables", "Prices", "RecordingWarning", "RiskDataError", "ScenarioLosses", "ScenarioModel",
    "Screen", "Selection", "Selections", "StepResult", "Tick", "Venue", "__version__", "attribution", "compare_models",
    "cross_venue_index", "explain_margin", "largest_orders", "liquidation_prices", "load_scenario_model", "load_venue",
    "read_run", "scenario_losses", "select", "sweep", "sweep_rows", "what_if",
]  # fmt: skip

# A name loads its package at first use: pandas and Numba alone take longer than an import should
# (docs/decisions/0016-import-on-demand.md). Type checkers and editors read the imports, Python the table.
if TYPE_CHECKING:
    from . import adl_study as adl_study
    from . import audit as audit
    from . import boundary as boundary
    from . import io as io
    from . import margin as margin
    from . import market as market
    from . import options as options
    from . import record as record
    from . import run as run
    from . import sample as sample
    from . import scalar as scalar
    from . import scenario as scenario
    from . import state as state
    from . import venue as venue
    from .activity import Account, ActivityResult, Margin
    from .boundary import RecordingWarning, RiskDataError
    from .engine import Engine, StepResult
    from .margin import (
        Attribution,
        LiquidationPrices,
        MarginTable,
        MarginTables,
        ScenarioLosses,
        Selection,
        Selections,
        attribution,
        compare_models,
        explain_margin,
        largest_orders,
        liquidation_prices,
        scenario_losses,
        select,
        sweep,
        sweep_rows,
        what_if,
    )
    from .margin.screen import Screen
    from .market import Books, Prices, Tick, cross_venue_index
    from .run import read_run
    from .scenario import ScenarioModel, load_scenario_model
    from .state import Accounts
    from .venue import Venue, load_venue
else:
    _PACKAGES = [
        "adl_study", "audit", "boundary", "io", "margin", "market", "options", "record", "run", "sample", "scalar",
        "scenario", "state", "venue",
    ]  # fmt: skip
    _NAMES = {
        "activity": ["Account", "ActivityResult", "Margin"],
        "boundary": ["RecordingWarning", "RiskDataError"],
        "engine": ["Engine", "StepResult"],
        "margin": [
            "Attribution", "LiquidationPrices", "MarginTable", "MarginTables", "ScenarioLosses", "Selection",
            "Selections", "attribution", "compare_models", "explain_margin", "largest_orders", "liquidation_prices",
            "scenario_losses", "select", "sweep", "sweep_rows", "what_if",
        ],
        "margin.screen": ["Screen"],
        "market": ["Books", "Prices", "Tick", "cross_venue_index"],
        "run": ["read_run"],
        "scenario": ["ScenarioModel", "load_scenario_model"],
        "state": ["Accounts"],
        "venue": ["Venue", "load_venue"],
    }  # fmt: skip

    def __getattr__(name: str) -> object:
        """Load a package, or a name from its package, which is kept."""
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        package = next((package for package, names in _NAMES.items() if name in names), None)
        if package is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{package}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_PACKAGES})
