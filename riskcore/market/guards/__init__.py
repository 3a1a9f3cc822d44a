"""Guards against unfair liquidation: the accepted price updates and books of a tick, and the price bands."""

from . import price_bands, state
from .books import record_fills, two_sided
from .price_bands import BAND_NAMES, NO_BAND, bands
from .prices import Guarded, guard
from .state import SECONDS_OF_SAMPLES, GuardState, Samples

__all__ = [
    "BAND_NAMES",
    "NO_BAND",
    "SECONDS_OF_SAMPLES",
    "GuardState",
    "Guarded",
    "Samples",
    "bands",
    "guard",
    "price_bands",
    "record_fills",
    "state",
    "two_sided",
]
