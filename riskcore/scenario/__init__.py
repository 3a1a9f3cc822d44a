"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""

from .instruments import Instruments, Kind
from .portfolios import PortfolioOrders, Portfolios
from .scenario_market import ScenarioMarket

__all__ = ["Instruments", "Kind", "PortfolioOrders", "Portfolios", "ScenarioMarket"]
