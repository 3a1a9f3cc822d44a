"""A generated venue, accounts and crash: for the demo, the benchmarks and first steps. Nothing here is market data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .kernels.margin_function import RATE, ROOT
from .venue import IMF, MMF, Venue, load_venue

Float = npt.NDArray[np.float64]

# symbol, price, tickSize, stepSize, IMF base and factor, MMF base and factor, mean-mark band; the figures are of the
# size that a large venue uses (venue_rules.md section 1.3)
_MARKETS = (
    ("BTC", 100_000.0, "0.1", "0.00001", "0.01333333", "0.00002494", "0.00666667", "0.00001496", ("0.96", "1.04")),
    ("ETH", 4_000.0, "0.01", "0.0001", "0.02", "0.0000561", "0.0125", "0.00003366", ("0.95", "1.05")),
    ("SOL", 200.0, "0.01", "0.01", "0.02", "0.000075", "0.0135", "0.0000375", ("0.925", "1.075")),
)

START = pd.Timestamp("2025-10-10 20:58", tz="UTC")  # an hour passes in the crash: funding and interest fall due


@dataclass(frozen=True)
class Tables:
    """Tables of a run in natural units, as `Accounts.from_frames` and `read_ticks` take them."""

    positions: pd.DataFrame
    balances: pd.DataFrame
    orders: pd.DataFrame
    marks: pd.DataFrame
    books: pd.DataFrame


def market_row(
    base: str, tick: str, step: str, imf: tuple[str, str], mmf: tuple[str, str], *, impact: tuple[str, str] | None
) -> dict[str, Any]:
    """Return a market in the venue's public shape, with the fields that riskcore reads."""
    low, high = impact or (None, None)
    return {
        "symbol": f"{base}_USDC_PERP", "baseSymbol": base, "quoteSymbol": "USDC", "marketType": "PERP",
        "filters": {
            "price": {"tickSize": tick, "maxPrice": "1000000", "minImpactMultiplier": low, "maxImpactMultiplier": high},
            "quantity": {"stepSize": step, "minQuantity": step},
        },
        "imfFunction": {"type": "sqrt", "base": imf[0], "factor": imf[1]},
        "mmfFunction": {"type": "sqrt", "base": mmf[0], "factor": mmf[1]},
        "fundingInterval": 3_600_000, "fundingRateUpperBound": "150", "fundingRateLowerBound": "-150",
    }  # fmt: skip


def guarded(row: dict[str, Any], mean_mark: tuple[str, str]) -> dict[str, Any]:
    """Give a market's row the venue's other price bands and its update cap."""
    low, high = mean_mark
    price = row["filters"]["price"] | {
        "minMultiplier": "0.25", "maxMultiplier": "2", "minPriceUpdateMultiplier": "0.9975",
        "maxPriceUpdateMultiplier": "1.0025", "meanMarkPriceBand": {"minMultiplier": low, "maxMultiplier": high},
        "meanPremiumBand": {"tolerancePct": "0.05"},
    }  # fmt: skip
    return row | {"filters": row["filters"] | {"price": price}}


def venue_source(providers: list[int], *, slices_per_tick: int = 1) -> dict[str, Any]:
    """Return a venue of three markets and four assets as JSON; ``providers`` are the backstop's account ids."""
    identity = {"type": "identity"}
    haircut = {"type": "inverseSqrt", "base": "1.0", "positiveCurvePenalty": "0.00005"}
    return {
        "settle_asset": "USDC",
        "markets": [
            guarded(market_row(base, tick, step, (ib, i), (mb, m), impact=("0.99", "1.01")), mean)
            for base, _, tick, step, ib, i, mb, m, mean in _MARKETS
        ],
        "collateral": [
            {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": identity}},
            *(
                {"symbol": base, "haircutFunction": {"weight": "0.95", "kind": haircut}, "quantum": "0.00000001"}
                for base, *_ in _MARKETS
            ),
        ],
        "borrow_lend": [{"symbol": "USDC", "lentQuantity": "50000000", "borrowedQuantity": "30000000", "fee": "0.1"}],
        "policy": {"fund": 1_000_000, "slices_per_tick": slices_per_tick},
        "backstop": [
            {"account": account, "capacity_per_min": "20000000", "capacity_per_hour": "400000000"}
            for account in providers
        ],
    }


def generate_accounts(
    venue: Venue, marks: dict[str, float], count: int, *, seed: int = 0, max_leverage: float = 75.0
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Draw accounts: positions, balances and orders.

    Accounts are numbered from 1. Leverage is drawn log-uniform from 1.5 to ``max_leverage`` and lowered where the
    initial margin asks for more; one account in ten has since lost a part of what it had above its maintenance
    margin. None is liquidating at the start. Six in ten positions are long.
    One account in ten keeps half of its collateral in the base asset of a market, one in twenty has a resting order.
    Each backstop provider of the venue gets 50 million of the settle asset.

    Parameters
    ----------
    venue
        Its markets, of which the first is the most popular.
    marks
        Mark price by market symbol.
    count
        Number of accounts, the providers not counted.
    """
    rng = np.random.default_rng(seed)
    markets, margin_functions = venue.markets, venue.margin_functions
    symbols = np.array(markets.symbol, object)
    mark = np.array([marks[s] for s in markets.symbol])
    step, tick = markets.step_size, markets.tick_size
    weight = 1.0 / np.arange(1, len(symbols) + 1)
    held = np.minimum(rng.geometric(0.6, count), len(symbols))
    # the markets with the smallest weighted keys: distinct, the popular ones more often
    choice = np.argsort(rng.exponential(size=(count, len(symbols))) / weight, axis=1)
    account, place = np.nonzero(np.arange(len(symbols)) < held[:, None])
    market = choice[account, place]

    notional = np.minimum(rng.lognormal(np.log(2_000.0), 1.8, len(account)), 5e6)
    lots = np.maximum(np.rint(notional / (mark * step)[market]), 1)
    side = np.where(rng.random(len(account)) < 0.6, 1, -1)
    entry = mark[market] * (1 + rng.normal(0, 0.005, len(account)))
    entry = np.round(np.rint(entry / tick[market]) * tick[market], 10)
    notional = lots * (mark * step)[market]
    profit = side * lots * step[market] * (mark[market] - entry)

    root = np.sqrt(notional)
    imf, mmf = (
        np.maximum(margin_functions.first[f, RATE], margin_functions.first[f, ROOT] * root)
        for f in (2 * market + IMF, 2 * market + MMF)
    )
    leverage = np.exp(rng.uniform(np.log(1.5), np.log(max_leverage), count))
    total = np.bincount(account, notional, count)
    equity = np.maximum(total / leverage, 1.1 * np.bincount(account, notional * imf, count))
    lowest = 1.01 * np.bincount(account, notional * mmf, count)
    equity -= np.where(rng.random(count) < 0.1, rng.random(count), 0.0) * (equity - lowest)
    collateral = np.maximum(equity - np.bincount(account, profit, count), 0.001 * total)

    mixed = np.flatnonzero(rng.random(count) < 0.1)
    base = markets.base_asset[choice[mixed, 0]]
    mixed, base = mixed[base >= 0], base[base >= 0]
    price = {int(k): p for k, p in zip(markets.base_asset, mark, strict=True)}
    half = collateral[mixed] / 2
    quantity = np.round(half / np.array([price[int(k)] for k in base]) / 0.9, 6) if len(base) else half
    settle = collateral.copy()
    settle[mixed] -= half
    assets = np.array(venue.assets.symbol, object)
    providers = [p.account for p in venue.backstop]
    positions = pd.DataFrame(
        {
            "account": account + 1,
            "market": symbols[market],
            "quantity": np.round(side * lots * step[market], 10),
            "entry_price": entry,
        }
    )
    balances = pd.DataFrame(
        {
            "account": np.concatenate([np.arange(count) + 1, mixed + 1, providers]).astype(np.int64),
            "asset": np.concatenate(
                [np.full(count, venue.settle_asset, object), assets[base], np.full(len(providers), venue.settle_asset)]
            ),
            "quantity": np.concatenate([np.round(settle, 6), quantity, np.full(len(providers), 5e7)]),
        }
    )
    working = np.flatnonzero((place == 0) & (rng.random(len(account)) < 0.05))
    away = np.rint(mark[market[working]] * (1 - side[working] * 0.05) / tick[market[working]]) * tick[market[working]]
    orders = pd.DataFrame(
        {
            "account": account[working] + 1,
            "market": symbols[market[working]],
            "side": np.where(side[working] > 0, "bid", "ask"),
            "price": np.round(away, 10),
            "quantity": np.round(np.maximum(lots[working] // 10, 1) * step[market[working]], 10),
            "reduce_only": False,
        }
    )
    return positions, balances, orders


def generate_crash(
    venue: Venue, ticks: int = 240, *, seed: int = 0, fall: float = 0.12, interval: int = 1
) -> pd.DataFrame:
    """Draw a crash, a tick every ``interval`` seconds: the marks table, indexes at the marks.

    The first market falls by ``fall``, the later ones by more.
    """
    rng = np.random.default_rng(seed)
    shape = np.interp(np.linspace(0, 1, ticks), [0, 0.15, 0.55, 0.7, 1], [0, 0, -1, -0.75, -0.8])
    common = rng.normal(0, 4e-4, ticks).cumsum()
    frames = []
    for m, (symbol, start) in enumerate(zip(venue.markets.symbol, [row[1] for row in _MARKETS], strict=True)):
        own = rng.normal(0, 3e-4, ticks).cumsum()
        path = start * np.exp(np.log1p(-fall * (1 + 0.3 * m)) * -shape + common + own - common[0] - own[0])
        tick = float(venue.markets.tick[m])
        time = START + pd.to_timedelta(np.arange(ticks) * interval, unit="s")
        mark = np.round(np.rint(path / tick) * tick, 10)
        # without a premium: funding at the quiet rate
        frames.append(pd.DataFrame({"time": time, "market": symbol, "mark_price": mark, "index_price": mark}))
    return pd.concat(frames, ignore_index=True)


def generate_books(venue: Venue, marks: pd.DataFrame, *, seed: int = 0, depth: float = 2e6) -> pd.DataFrame:
    """Draw order books around the marks: 12 levels a side out to 1.5 %, thinner where the price moves fast.

    ``depth`` is the notional of a side within 1 % of the first market in calm times; later markets have less.
    """
    rng = np.random.default_rng(seed)
    distance = np.array([1, 2, 4, 7, 11, 16, 25, 40, 60, 85, 110, 150]) / 1e4
    share = np.diff(np.r_[0, np.sqrt(distance)])
    share /= share.sum()
    parts = []
    for m, symbol in enumerate(venue.markets.symbol):
        tick, step = float(venue.markets.tick[m]), float(venue.markets.step[m])
        path = marks[marks["market"] == symbol]
        mark = path["mark_price"].to_numpy()
        speed = np.abs(np.diff(np.log(mark), prepend=np.log(mark[0])))
        calm = 1 / (1 + speed / 5e-4)
        for side, sign, away in (("bid", -1, np.floor), ("ask", 1, np.ceil)):
            noise = rng.lognormal(0, 0.5, (len(mark), len(distance)))
            lots = np.rint(depth / (m + 1) * share * noise * calm[:, None] / mark[:, None] / step)
            ticks = sign * away(np.round(mark[:, None] * (1 + sign * distance) / tick, 6))
            place = np.arange(len(distance))
            # at least a tick from level to level, also where a tick is more than the distance
            price = sign * (np.maximum.accumulate(ticks - place, axis=1) + place) * tick
            parts.append(
                pd.DataFrame(
                    {
                        "time": np.repeat(path["time"].to_numpy(), len(distance)),
                        "market": symbol,
                        "side": side,
                        "level": np.tile(np.arange(len(distance)), len(mark)),
                        "price": np.round(price.ravel(), 10),
                        "quantity": np.round(np.maximum(lots.ravel(), 1) * step, 10),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def crash(count: int = 10_000, ticks: int = 240, *, seed: int = 0, interval: int = 1) -> tuple[Venue, Tables]:
    """Return a whole generated run: venue, accounts, and a crash with its books.

    A tick every ``interval`` seconds; the venue acts once a second, so that a tick has as many rounds of slices.
    """
    venue = load_venue(venue_source([count + 1, count + 2, count + 3], slices_per_tick=interval))
    marks = generate_crash(venue, ticks, seed=seed, interval=interval)
    first = {str(k): float(v) for k, v in marks.groupby("market")["mark_price"].first().items()}
    positions, balances, orders = generate_accounts(venue, first, count, seed=seed)
    books = generate_books(venue, marks, seed=seed)
    return venue, Tables(positions, balances, orders, marks, books)
