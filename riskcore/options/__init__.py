"""Prices of European options, their Greeks, and volatility surfaces; arrays alone, no venue and no accounts."""

from .black76 import Greeks, black76, greeks, implied_volatility
from .surface import Surface, check_surface

__all__ = ["Greeks", "Surface", "black76", "check_surface", "greeks", "implied_volatility"]
