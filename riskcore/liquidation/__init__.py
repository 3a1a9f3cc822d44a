"""The liquidation waterfall: one module per phase, and one entry, `liquidate`."""

from .book import remember_fill, slice_rules
from .convert import Converter
from .propose import open_proposals, slices_frame
from .waterfall import liquidate, phases, start_tick

__all__ = [
    "Converter", "liquidate", "open_proposals", "phases", "remember_fill", "slice_rules", "slices_frame", "start_tick",
]  # fmt: skip
