"""Prices of European options, their Greeks, and volatility surfaces; arrays alone, no venue and no accounts."""
