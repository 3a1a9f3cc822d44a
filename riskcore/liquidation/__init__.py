"""The liquidation waterfall: one module per phase, and one entry, `liquidate`."""

from .convert import Converter
from .waterfall import PHASES, liquidate, start_tick

__all__ = ["PHASES", "Converter", "liquidate", "start_tick"]
