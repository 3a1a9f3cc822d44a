"""The liquidation waterfall: one module per phase, and one entry, `liquidate`."""

from .book import slice_rules
from .convert import Converter
from .waterfall import liquidate, phases, start_tick

__all__ = ["Converter", "liquidate", "phases", "slice_rules", "start_tick"]
