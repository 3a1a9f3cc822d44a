"""Workloads of the suites: generated, seeded, the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from riskcore import Accounts, Venue, load_venue
from riskcore.sample import market_row

MARKETS, ASSETS = 150, 20


def wide_venue(*, mixed: bool = False) -> Venue:
    """150 markets and 20 collateral assets; ``mixed``: the markets take the three kinds of margin function in turn."""
    imf, mmf = ("0.02", "0.00005"), ("0.0125", "0.00003")
    markets = [market_row(f"A{n}", "0.01", "0.001", imf, mmf, impact=None) for n in range(1, MARKETS + 1)]
    if mixed:
        for row in markets[1::3]:
            row["imfFunction"] = {"type": "tiers", "whole": True, "brackets": brackets(0.02)}
            row["mmfFunction"] = {"type": "tiers", "brackets": brackets(0.01)}
        for row in markets[2::3]:
            row["imfFunction"] = {"type": "open_interest", "base": "0.02", "lower": "1000000", "upper": "1e9"}
    kind = {"type": "identity"}
    names = ["USDC", *(f"A{n}" for n in range(1, ASSETS))]
    return load_venue(
        {
            "settle_asset": "USDC",
            "markets": markets,
            "collateral": [{"symbol": n, "haircutFunction": {"weight": "0.95", "kind": kind}} for n in names],
        }
    )


def brackets(rate: float) -> list[dict[str, str]]:
    """Ten brackets of the proportions that a large venue publishes."""
    edges = [0, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 5e6]
    return [{"from": str(edge), "rate": str(round(rate * (1 + n), 6))} for n, edge in enumerate(edges)]


def wide_tables(venue: Venue, accounts: int, positions: int = 5) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Positions in Zipf-popular markets, two balances each, and a price per market; some accounts near the trigger."""
    rng = np.random.default_rng(7)
    price = np.exp(rng.uniform(0, 6, MARKETS)).round(2)
    popular = 1 / np.arange(1, MARKETS + 1)
    pool = rng.choice(MARKETS, 50_000, p=popular / popular.sum())
    # a stride of its own per account keeps the markets of an account distinct
    first = pool[rng.integers(0, len(pool), accounts)]
    stride = rng.integers(1, MARKETS // positions, accounts)
    market = (first[:, None] + stride[:, None] * np.arange(positions)) % MARKETS
    notional = rng.lognormal(7, 1.2, market.shape)
    quantity = np.maximum(np.rint(notional / price[market] * 1000), 1) / 1000
    quantity *= np.where(rng.random(market.shape) < 0.5, 1, -1)
    entry = price[market] * (1 + rng.normal(0, 0.01, market.shape))
    total = (np.abs(quantity) * price[market]).sum(axis=1)
    symbols = np.array(venue.markets.symbol, object)
    account = np.arange(accounts)
    table = pd.DataFrame(
        {
            "account": np.repeat(account, positions),
            "market": symbols[market.ravel()],
            "quantity": quantity.ravel(),
            "entry_price": entry.ravel(),
        }
    )
    asset = rng.integers(1, ASSETS, accounts)
    margin = total * rng.uniform(0.01, 0.5, accounts)
    balances = pd.DataFrame(
        {
            "account": np.concatenate([account, account]),
            "asset": np.concatenate([np.full(accounts, "USDC", object), np.array(venue.assets.symbol, object)[asset]]),
            "quantity": np.concatenate([margin / 2, margin / 2 / price[asset - 1]]).round(6),
        }
    )
    return table, balances, dict(zip(venue.markets.symbol, price.tolist(), strict=True))


def wide_accounts(accounts: int, *, mixed: bool = False) -> tuple[Venue, Accounts, dict[str, float]]:
    """The tables loaded."""
    venue = wide_venue(mixed=mixed)
    positions, balances, marks = wide_tables(venue, accounts)
    return venue, Accounts.from_frames(venue, positions, balances), marks


def interleaved_ratio(slow: Callable[[], object], fast: Callable[[], object], rounds: int = 3) -> float:
    """Median time of ``slow`` over that of ``fast``, the two run in turn in this process."""
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for kept, call in zip(times, (slow, fast), strict=True):
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return float(np.median(times[0]) / np.median(times[1]))
