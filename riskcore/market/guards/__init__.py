"""Guards against unfair liquidation: which price updates and books of a tick count, and the price bands."""

from . import price_bands, state
from .books import note_taken, two_sided
from .price_bands import BAND_NAMES, NO_BAND, bands
from .prices import Guarded, guard
from .state import SECONDS_OF_SAMPLES, Memory

__all__ = [
    "BAND_NAMES",
    "NO_BAND",
    "SECONDS_OF_SAMPLES",
    "Guarded",
    "Memory",
    "bands",
    "guard",
    "note_taken",
    "price_bands",
    "state",
    "two_sided",
]
