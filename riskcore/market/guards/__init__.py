"""Guards against unfair liquidation: the accepted price updates and books of a tick, and the price bands."""

from . import price_bands, state
from .books import BookMemory, two_sided
from .instants import REASONS, Guarded, GuardedPath, Refusal, guard, guard_path
from .price_bands import BAND_NAMES, NO_BAND, bands
from .state import SECONDS_OF_SAMPLES, GuardState, Samples

__all__ = [
    "BAND_NAMES",
    "NO_BAND",
    "REASONS",
    "SECONDS_OF_SAMPLES",
    "BookMemory",
    "GuardState",
    "Guarded",
    "GuardedPath",
    "Refusal",
    "Samples",
    "bands",
    "guard",
    "guard_path",
    "price_bands",
    "state",
    "two_sided",
]
