"""Runs by hand of accounts that no stage, or a stage out of the usual order, puts an end to."""

from __future__ import annotations

from typing import Any

import pandas as pd

import riskcore as rc
from riskcore import sample

from .wild_runs import spot_row

PROVIDER = 9
POSITIONS = [
    (4, "X", 10.0, 100.0),
    (5, "X", 10.0, 100.0),
    (6, "X", -8.0, 120.0),
    (7, "X", 0.5, 90.0),
    (8, "Y", 10.0, 100.0),
]
BALANCES = [
    (1, "USDC", -1000.0, 0.0),
    (1, "GEM", 10.2, 0.0),
    (2, "USDC", -1000.0, 0.0),
    (2, "TOK", 0.0, 102.0),
    (3, "TOK", -10.0, 0.0),
    (3, "USDC", 104.0, 0.0),
    (4, "USDC", 45.0, 0.0),
    (5, "USDC", 20.0, 0.0),
    (6, "USDC", 3000.0, 0.0),
    (7, "USDC", -2.0, 60.0),
    (8, "USDC", 45.0, 0.0),
    (PROVIDER, "USDC", 5000.0, 0.0),
]
TOUCHES = (99.9, 97.0, 95.0, 96.5)
"""Best bids of X and Y, tick by tick; their mark is 0.1 above, and GEM is bid for at 7 % below its price of 100."""


def venue_source(**policy: Any) -> dict[str, Any]:
    """Perpetuals X and Y with a maintenance margin of 5 %, the spot market of GEM, and TOK that is all lent out."""
    margin = {"type": "sqrt", "base": "0.05", "factor": "0"}
    market = {
        "symbol": "X", "baseSymbol": "X", "quoteSymbol": "USDC", "marketType": "PERP",
        "filters": {"price": {"tickSize": "0.1", "minImpactMultiplier": "0.98", "maxImpactMultiplier": "1.02"},
                    "quantity": {"stepSize": "0.01"}},
        "imfFunction": margin | {"base": "0.1"}, "mmfFunction": margin,
    }  # fmt: skip
    mean = {"tickSize": "0.1", "meanMarkPriceBand": {"minMultiplier": "0.99", "maxMultiplier": "1.01"}}
    other = market | {"symbol": "Y", "baseSymbol": "Y", "filters": market["filters"] | {"price": mean}}
    collateral = [
        {"symbol": symbol, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}
        for symbol in ("USDC", "GEM", "TOK")
    ]
    return {
        "settle_asset": "USDC",
        "markets": [market, other, spot_row("GEM", "0.1", "0.01", (None, None), (None, None))],
        "collateral": collateral,
        "borrow_lend": [{"symbol": "TOK", "lentQuantity": "5", "borrowedQuantity": "200"}],
        "backstop": [{"account": PROVIDER, "markets": ["X"], "assets": [], "max_notional": "1500"}],
        "policy": {
            "liquidation_interval": None, "min_slice_notional": 20, "slice_probability": "0.8",
            "conversion_slippage": "0.1",
        } | policy,
    }  # fmt: skip


def run_of_last_ways(path: Any, policy: dict[str, Any]) -> None:
    """Four ticks, the third one without books of X and Y."""
    venue = rc.load_venue(venue_source(**policy))
    tables = (
        pd.DataFrame(POSITIONS, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(BALANCES, columns=["account", "asset", "quantity", "lent"]),
    )
    engine = rc.Engine(rc.Accounts.from_frames(venue, *tables), venue, seed=3)
    for number, touch in enumerate(TOUCHES):
        books: dict[str, Any] = {"GEM_USDC": {"bids": [(93.0, 50.0)], "asks": [(100.5, 50.0)]}}
        if number != 2:
            books["X"] = {"bids": [(touch, 0.3), (round(touch - 1.5, 1), 0.4), (round(touch - 5.0, 1), 50.0)]}
            books["X"]["asks"] = [(round(touch + 0.2, 1), 50.0)]
            books["Y"] = books["X"]
        time, mark = sample.START + pd.Timedelta(number, "s"), round(touch + 0.1, 1)
        engine.step(rc.Tick(time, {"X": mark, "Y": mark}, books, asset_prices={"GEM": 100.0, "TOK": 10.0}))
    engine.save(path)
