"""The liquidation waterfall: one module per phase, and one entry, `liquidate`."""

from .book import cap_quanta, remember_fill, slice_rows, slice_rules
from .convert import Converter
from .propose import open_proposals, slices_frame
from .waterfall import liquidate, phases, start_tick

__all__ = [
    "Converter", "cap_quanta", "liquidate", "open_proposals", "phases", "remember_fill", "slice_rows", "slice_rules",
    "slices_frame", "start_tick",
]  # fmt: skip
