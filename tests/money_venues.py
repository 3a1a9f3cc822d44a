"""A small venue of several money assets: USDC- and USDT-settled markets and an inverse one, accounts and ticks of it.

The unit of account is USDC. USDT is worth 0.9995 and counts with weight 0.95, BTC with a haircut by size. SOL is
collateral that no market settles in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore.sample import market_row

BTC, ETH, IBTC = "BTC_USDC_PERP", "ETH_USDT_PERP", "BTC_USD_IPERP"
MARKS = {BTC: 100_000.0, ETH: 4_000.0, IBTC: 100_050.0}
ASSET_PRICES = {"USDT": 0.9995, "SOL": 200.0}  # BTC takes its price from the index, or the mark, of BTC_USDC_PERP
PROVIDERS = (901, 902)
START = 1_760_000_000 * 10**9  # ns, 400 s before a full hour
_SIZE = {BTC: (0.1, "0.001"), ETH: (0.01, "0.01"), IBTC: (0.5, "1")}  # tick size, step size


def source(providers: tuple[int, ...] = (), weight: str = "0.95", **policy: Any) -> dict[str, Any]:
    """Content of the venue file; ``weight`` is that of USDT."""
    margins = ("0.02", "0.0000125"), ("0.01", "0.0000075")
    linear, inverse = (market_row("BTC", str(_SIZE[name][0]), _SIZE[name][1], *margins, impact=None)
                       for name in (BTC, IBTC))  # fmt: skip
    inverse |= {"symbol": IBTC, "quoteSymbol": "USD", "marketType": "IPERP", "multiplier": "100"}
    ether = market_row("ETH", "0.01", "0.01", ("0.025", "0.00003"), ("0.0125", "0.00002"), impact=None)
    spots = [
        {"symbol": f"{base}_USDC", "baseSymbol": base, "quoteSymbol": "USDC", "marketType": "SPOT",
         "filters": {"price": {"tickSize": tick}, "quantity": {"stepSize": step}}}
        for base, tick, step in (("USDT", "0.0001", "0.01"), ("BTC", "0.1", "0.00001"))
    ]  # fmt: skip
    identity = {"type": "identity"}
    haircut = {"type": "inverseSqrt", "base": "1", "positiveCurvePenalty": "0.0002"}
    return {
        "settle_asset": "USDC",
        "markets": [linear, ether | {"symbol": ETH, "quoteSymbol": "USDT"}, inverse, *spots],
        "collateral": [
            {"symbol": symbol, "haircutFunction": {"weight": part, "kind": kind}, "quantum": quantum}
            for symbol, part, kind, quantum in (
                ("USDC", "1", identity, "0.000001"), ("SOL", "0.9", haircut, "0.000001"),
                ("USDT", weight, identity, "0.000001"), ("BTC", "0.9", haircut, "0.00000001"),
            )
        ],
        "borrow_lend": [
            {"symbol": symbol, "lentQuantity": lent, "borrowedQuantity": lent, "fee": "0.1", "maxUtilization": "1"}
            for symbol, lent in (("USDC", "5000000"), ("USDT", "1000000"), ("BTC", "10"))
        ],
        "policy": {"fund": 100_000, "liquidation_interval": None} | policy,
        "backstop": [{"account": account, "capacity_per_min": "2000000"} for account in providers],
    }  # fmt: skip


def venue(providers: tuple[int, ...] = (), **others: Any) -> rc.Venue:
    """Load the venue."""
    return rc.load_venue(source(providers, **others))


def frames(count: int, seed: int = 0, providers: tuple[int, ...] = ()) -> dict[str, pd.DataFrame]:
    """Tables of so many accounts, as `Accounts.from_frames` takes them.

    An account has positions in some of the markets, long or short, at 2 to 60 times its equity, which it holds in some
    of the assets; a few owe one of them, lend, have orders, a leverage limit or an unsettled amount.
    """
    rng = np.random.default_rng(seed)
    prices = {"USDC": 1.0, "BTC": MARKS[BTC]} | ASSET_PRICES
    value = {BTC: MARKS[BTC], ETH: MARKS[ETH] * ASSET_PRICES["USDT"], IBTC: 100.0}
    tables: dict[str, list[Any]] = {name: [] for name in ("positions", "balances", "orders", "settings")}
    for account in range(1, count + 1):
        held = [market for market in MARKS if rng.random() < 0.6] or [IBTC]
        notional = 10 ** rng.uniform(3, 5.5)
        for market in held:
            tick, step = _SIZE[market][0], float(_SIZE[market][1])
            lots = max(round(notional / len(held) / value[market] / step), 1)
            entry = round(MARKS[market] * rng.normal(1, 0.01) / tick) * tick
            row = {"account": account, "market": market, "quantity": round(rng.choice([-1, 1]) * lots * step, 6)}
            tables["positions"].append(row | {"entry_price": round(entry, 6)})
            if rng.random() < 0.2:
                ticks = round(MARKS[market] * rng.choice([0.98, 1.02]) / tick)
                order = {"account": account, "market": market, "side": rng.choice(["bid", "ask"])}
                tables["orders"].append(order | {"price": round(ticks * tick, 6), "quantity": round(lots * step, 6)})
        equity = notional / rng.uniform(2, 60)
        parts = rng.dirichlet([0.6] * len(prices))
        owed = rng.choice([*prices, *[""] * 12])
        for (asset, price), part in zip(prices.items(), parts, strict=True):
            quantity = part * equity / price
            lent = quantity * rng.choice([0, 0, 0.5])
            if asset == owed:
                quantity, lent = -0.3 * quantity, 0.0
            row = {"account": account, "asset": asset, "quantity": round(quantity - lent, 8), "lent": round(lent, 8)}
            if quantity:
                tables["balances"].append(row)
        if rng.random() < 0.2:
            limit, unsettled = rng.choice([5.0, 50.0, np.nan]), round(rng.normal(0, 0.01) * equity, 6)
            tables["settings"].append({"account": account, "leverage_limit": limit, "unsettled": unsettled})
    for account in providers:
        for asset, price in prices.items():
            tables["balances"].append(
                {"account": account, "asset": asset, "quantity": round(2e6 / price, 6), "lent": 0.0}
            )
    columns = {
        "positions": ["account", "market", "quantity", "entry_price"],
        "balances": ["account", "asset", "quantity", "lent"],
        "orders": ["account", "market", "side", "price", "quantity"],
        "settings": ["account", "leverage_limit", "unsettled"],
    }
    return {name: pd.DataFrame(rows, columns=columns[name]) for name, rows in tables.items()}


def accounts(count: int, seed: int = 0, providers: tuple[int, ...] = (), **others: Any) -> tuple[rc.Venue, rc.Accounts]:
    """Draw the venue's accounts."""
    own = venue(providers, **others)
    return own, rc.Accounts.from_frames(own, **frames(count, seed, providers))


def ticks(count: int, seed: int = 0, move: float = -0.1, seconds: int = 40, depth: float = 2e5) -> list[rc.Tick]:
    """Draw ticks over which all markets move by a part; books have 8 levels within 1 % and ``depth`` USDC a side."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        level = 1 + move * n / max(count - 1, 1)
        marks = {name: round(price * level * rng.normal(1, 0.0005), 2) for name, price in MARKS.items()}
        indexes = {name: round(price * rng.normal(1, 0.0002), 2) for name, price in marks.items()}
        books: dict[str, Any] = {}
        for name, mark in marks.items():
            tick, step = _SIZE[name][0], float(_SIZE[name][1])
            per_unit = 100.0 if name == IBTC else mark
            for side, sign in (("bids", -1), ("asks", 1)):
                price = np.unique(np.round(mark * (1 + sign * np.linspace(0.0002, 0.01, 8)) / tick).astype(int))[::sign]
                lots = np.maximum(np.round(depth / 8 * rng.lognormal(0, 0.5, len(price)) / per_unit / step), 1)
                levels = zip(price * tick, lots * step, strict=True)
                books.setdefault(name, {})[side] = [(round(float(p), 6), round(float(q), 6)) for p, q in levels]
        made.append(
            rc.Tick(
                START + n * seconds * 10**9, marks, books, indexes,
                {"USDT": round(0.9995 * rng.normal(1, 0.0002), 6), "SOL": round(200 * level, 4)},
            )
        )  # fmt: skip
    return made
