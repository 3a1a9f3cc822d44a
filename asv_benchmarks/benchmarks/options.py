"""Option prices and surfaces, against the formula written with NumPy and SciPy, and against each other."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from riskcore.options import Surface, black76, greeks, implied_volatility

from . import _Figures, interleaved_ratio, seconds

PRICES = 200_000
QUERIES = 5_000
DAY = 86_400 * 10**9


def by_numpy(forward: float, strike: np.ndarray, volatility: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Calls by the formula: no bounds, and no care for digits in the money."""
    deviation = volatility * np.sqrt(years)
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    return forward * ndtr(d1) - strike * ndtr(d1 - deviation)


def surface_at(time: int) -> Surface:
    """Eight expiries of 80 nodes."""
    expiry = time + np.array([7, 14, 30, 60, 90, 180, 270, 365]) * DAY
    forward = 60_000 * np.exp(np.linspace(0.002, 0.05, len(expiry)))
    strike = np.tile(60_000 * np.exp(np.linspace(-1, 1, 80)), len(expiry))
    volatility = 0.6 + 0.1 * np.log(strike / 60_000) ** 2
    return Surface.of("BTC", time, 60_000.0, expiry, forward, np.repeat(expiry, 80), strike, volatility)


class Ratios(_Figures):
    """One core; the formula in NumPy and SciPy is what a user would write."""

    params = [
        "200,000 option prices in NumPy and SciPy / black76",
        "200,000 prices with Greeks / without",
        "5,000 implied volatilities / 5,000 prices",
        "5,000 volatilities of a new surface of 640 nodes / 5,000 prices",
        "check of a surface of 640 nodes / 5,000 prices",
    ]

    def setup_cache(self) -> dict[str, float | str]:
        rng = np.random.default_rng(0)
        strike = 60_000 * np.exp(rng.normal(0, 0.4, PRICES))
        volatility, years = rng.uniform(0.3, 1.2, PRICES), rng.uniform(1 / 365, 1, PRICES)
        assert np.abs(by_numpy(6e4, strike, volatility, years) - black76(6e4, strike, volatility, years)).max() < 1e-9
        few, time = slice(QUERIES), 10**18
        expiry = time + rng.choice([3, 7, 14, 30, 45, 60, 90, 120, 180, 365, 500], QUERIES) * DAY
        price = black76(6e4, strike[few], volatility[few], years[few])

        def prices() -> object:
            return black76(6e4, strike[few], volatility[few], years[few])

        def volatilities() -> object:
            return surface_at(time).volatility(expiry, strike[few])

        calls = [
            (lambda: by_numpy(6e4, strike, volatility, years), lambda: black76(6e4, strike, volatility, years)),
            (lambda: greeks(6e4, strike, volatility, years), lambda: black76(6e4, strike, volatility, years)),
            (lambda: implied_volatility(price, 6e4, strike[few], years[few]), prices),
            (volatilities, prices),
            (surface_at(time).check, prices),
        ]
        for pair in calls:  # compile
            pair[0](), pair[1]()
        print(f"{min(seconds(calls[0][1]) for _ in range(9)) / PRICES * 1e9:.0f} ns a price")
        return {name: interleaved_ratio(*pair, 9) for name, pair in zip(self.params, calls, strict=True)}
