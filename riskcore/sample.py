"""A generated venue, accounts and crash: for the demo, the benchmarks and first steps. Nothing here is market data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .clock import instants
from .engine import Engine
from .kernels.margin_function import RATE, ROOT
from .market import Books, Prices, Segment, Tick, TickTable
from .market import Path as PricePath
from .market.guards import GuardState, guard_path
from .options_sample import OptionsSample as OptionsSample
from .options_sample import options_sample as options_sample
from .options_sample import write_files
from .state import Accounts
from .venue import IMF, MMF, Venue, load_venue

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
    """Tables of a run in natural units, as `Accounts.from_frames` and `riskcore.io.read_ticks` take them.

    Attributes
    ----------
    positions, balances, orders : DataFrame
        Columns as of `Accounts.from_frames`.
    marks, books : DataFrame
        Columns as of `riskcore.io.read_ticks`.

    Examples
    --------
    >>> from riskcore.sample import crash
    >>> venue, tables = crash(50, 4)
    >>> list(tables.marks.columns), len(tables.marks)
    (['time', 'market', 'mark_price', 'index_price'], 12)
    """

    positions: pd.DataFrame
    balances: pd.DataFrame
    orders: pd.DataFrame
    marks: pd.DataFrame
    books: pd.DataFrame


def market_row(
    base: str, tick: str, step: str, imf: tuple[str, str], mmf: tuple[str, str], *, impact: tuple[str, str] | None
) -> dict[str, Any]:
    """Return a market in the venue's public shape, with the fields that riskcore reads.

    Parameters
    ----------
    base : str
        Symbol of the base asset; the market is its perpetual in USDC.
    tick, step : str
        Tick size (settle units) and step size (base units), decimals.
    imf, mmf : tuple of str
        Base and factor of the initial and of the maintenance margin function.
    impact : tuple of str or None
        Least and largest price of an order against the mark, multipliers; None: no such band.

    Returns
    -------
    dict
        A row of ``markets`` in a venue file.

    Examples
    --------
    >>> from riskcore.sample import market_row
    >>> row = market_row("BTC", "0.1", "0.001", ("0.02", "0"), ("0.01", "0"), impact=None)
    >>> row["symbol"], row["mmfFunction"]
    ('BTC_USDC_PERP', {'type': 'sqrt', 'base': '0.01', 'factor': '0'})
    """
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


def with_price_guards(row: dict[str, Any], mean_mark: tuple[str, str]) -> dict[str, Any]:
    """Return a market's row with the venue's other price bands and its update cap.

    Parameters
    ----------
    row : dict
        A market as of `market_row`.
    mean_mark : tuple of str
        Multipliers of the mean mark between which an order may fill.

    Returns
    -------
    dict
        A new row; ``row`` stays as it is.

    Examples
    --------
    >>> from riskcore.sample import market_row, with_price_guards
    >>> row = market_row("BTC", "0.1", "0.001", ("0.02", "0"), ("0.01", "0"), impact=None)
    >>> with_price_guards(row, ("0.96", "1.04"))["filters"]["price"]["maxPriceUpdateMultiplier"]
    '1.0025'
    """
    low, high = mean_mark
    price = row["filters"]["price"] | {
        "minMultiplier": "0.25", "maxMultiplier": "2", **_UPDATE_CAP,
        "meanMarkPriceBand": {"minMultiplier": low, "maxMultiplier": high}, "meanPremiumBand": {"tolerancePct": "0.05"},
    }  # fmt: skip
    return row | {"filters": row["filters"] | {"price": price}}


_UPDATE_CAP = {"minPriceUpdateMultiplier": "0.9975", "maxPriceUpdateMultiplier": "1.0025"}
"""Limits of a price update's factor in a second."""


def venue_source(providers: list[int], *, slices_per_tick: int = 1) -> dict[str, Any]:
    """Return a venue of three markets and four assets as JSON.

    Parameters
    ----------
    providers : list of int
        Account ids of the backstop providers.
    slices_per_tick : int
        Policy figure: rounds of slices in a tick.

    Returns
    -------
    dict
        A venue as `load_venue` takes it.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import venue_source
    >>> rc.load_venue(venue_source([7])).markets.symbol
    ('BTC_USDC_PERP', 'ETH_USDC_PERP', 'SOL_USDC_PERP')
    """
    identity = {"type": "identity"}
    haircut = {"type": "inverseSqrt", "base": "1.0", "positiveCurvePenalty": "0.00005"}
    return {
        "settle_asset": "USDC",
        "markets": [
            with_price_guards(market_row(base, tick, step, (ib, i), (mb, m), impact=("0.99", "1.01")), mean)
            for base, _, tick, step, ib, i, mb, m, mean in _MARKETS
        ],
        "collateral": [
            {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": identity}},
            *(
                {
                    "symbol": base,
                    "haircutFunction": {"weight": "0.95", "kind": haircut},
                    "quantum": "0.00000001",
                    "priceGuard": _UPDATE_CAP,
                }
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
    venue : Venue
        The venue; its first market is the most popular.
    marks : dict of str to float
        Mark price by market symbol, settle units.
    count : int
        Number of accounts, the providers not counted.
    seed : int
        Seed of the draws, >= 0.
    max_leverage : float
        Largest notional over equity that is drawn, at least 1.5.

    Returns
    -------
    positions, balances, orders : DataFrame
        Columns as of `Accounts.from_frames`.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import generate_accounts, venue_source
    >>> venue = rc.load_venue(venue_source([101]))
    >>> marks = {"BTC_USDC_PERP": 100_000.0, "ETH_USDC_PERP": 4_000.0, "SOL_USDC_PERP": 200.0}
    >>> positions, balances, orders = generate_accounts(venue, marks, 100)
    >>> len(rc.select(rc.Accounts.from_frames(venue, positions, balances, orders), venue, marks))
    0
    """
    rng = np.random.default_rng(seed)
    markets, margin_functions = venue.markets, venue.margin_functions
    symbols = np.array(markets.symbol, object)
    mark = np.array([marks[s] for s in markets.symbol])
    step, tick = markets.step_size, markets.tick_size
    weight = 1.0 / np.arange(1, len(symbols) + 1)
    market_count = np.minimum(rng.geometric(0.6, count), len(symbols))
    # the markets with the smallest weighted keys: distinct, the popular ones more often
    choice = np.argsort(rng.exponential(size=(count, len(symbols))) / weight, axis=1)
    account, slot = np.nonzero(np.arange(len(symbols)) < market_count[:, None])
    market = choice[account, slot]

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
    working = np.flatnonzero((slot == 0) & (rng.random(len(account)) < 0.05))
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
    """Draw a crash: the marks table, indexes at the marks.

    The first market falls by ``fall``, the later ones by more.

    Parameters
    ----------
    venue : Venue
        A venue of the markets of `venue_source`.
    ticks : int
        Number of ticks, at least 2.
    seed : int
        Seed of the draws, >= 0.
    fall : float
        Fall of the first market from its start to its lowest, a fraction below 0.6.
    interval : int
        Seconds from tick to tick.

    Returns
    -------
    DataFrame
        time (UTC, from `START`), market, mark_price, index_price (settle units); a row per market and tick.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import generate_crash, venue_source
    >>> marks = generate_crash(rc.load_venue(venue_source([7])), 60, fall=0.2)
    >>> prices = marks.loc[marks["market"] == "BTC_USDC_PERP", "mark_price"]
    >>> bool(prices.min() < 0.85 * prices.iloc[0])
    True
    """
    rng = np.random.default_rng(seed)
    shape = np.interp(np.linspace(0, 1, ticks), [0, 0.15, 0.55, 0.7, 1], [0, 0, -1, -0.75, -0.8])
    common = rng.normal(0, 4e-4, ticks).cumsum()
    frames = []
    for m, (symbol, start) in enumerate(zip(venue.markets.symbol, [row[1] for row in _MARKETS], strict=True)):
        noise = rng.normal(0, 3e-4, ticks).cumsum()
        path = start * np.exp(np.log1p(-fall * (1 + 0.3 * m)) * -shape + common + noise - common[0] - noise[0])
        tick = float(venue.markets.tick[m])
        time = START + pd.to_timedelta(np.arange(ticks) * interval, unit="s")
        mark = np.round(np.rint(path / tick) * tick, 10)
        # without a premium: funding at the quiet rate
        frames.append(pd.DataFrame({"time": time, "market": symbol, "mark_price": mark, "index_price": mark}))
    return pd.concat(frames, ignore_index=True)


def generate_books(venue: Venue, marks: pd.DataFrame, *, seed: int = 0, depth: float = 2e6) -> pd.DataFrame:
    """Draw order books around the marks: 12 levels a side out to 1.5 %, thinner where the price moves fast.

    Parameters
    ----------
    venue : Venue
        The venue that the marks are of.
    marks : DataFrame
        As of `generate_crash`.
    seed : int
        Seed of the draws, >= 0.
    depth : float
        Notional (settle units) of a side within 1.5 % of the mark of the first market in calm times; later markets have
        less.

    Returns
    -------
    DataFrame
        time, market, side (bid, ask), level (0 is the best), price (settle units), quantity (base units).

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import generate_books, generate_crash, venue_source
    >>> venue = rc.load_venue(venue_source([7]))
    >>> books = generate_books(venue, generate_crash(venue, 5))
    >>> len(books) == 5 * 3 * 2 * 12, sorted(books["side"].unique())
    (True, ['ask', 'bid'])
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
            level = np.arange(len(distance))
            # at least a tick from level to level, also where a tick is more than the distance
            price = sign * (np.maximum.accumulate(ticks - level, axis=1) + level) * tick
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

    The venue acts once a second, so that a tick has ``interval`` rounds of slices.

    Parameters
    ----------
    count : int
        Number of accounts; three backstop providers come on top.
    ticks : int
        Number of ticks, at least 2.
    seed : int
        Seed of the draws, >= 0.
    interval : int
        Seconds from tick to tick.

    Returns
    -------
    venue : Venue
        The venue.
    tables : Tables
        The tables of the run.

    Raises
    ------
    RiskDataError
        ``interval`` is outside the range of the policy's ``slices_per_tick``.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import crash
    >>> venue, tables = crash(50, 4)
    >>> accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    >>> len(accounts)
    53
    """
    venue = load_venue(venue_source([count + 1, count + 2, count + 3], slices_per_tick=interval))
    marks = generate_crash(venue, ticks, seed=seed, interval=interval)
    first = {str(k): float(v) for k, v in marks.groupby("market")["mark_price"].first().items()}
    positions, balances, orders = generate_accounts(venue, first, count, seed=seed)
    books = generate_books(venue, marks, seed=seed)
    return venue, Tables(positions, balances, orders, marks, books)


def generate_activity(venue: Venue, tables: Tables) -> pd.DataFrame:
    """Return what a new account does during a run, to imitate: it is opened, pays in, buys, sells, and takes money out.

    Parameters
    ----------
    venue : Venue
        The venue; the account trades in its first market.
    tables : Tables
        The tables of the run.

    Returns
    -------
    DataFrame
        Rows of the table `activity`, as `riskcore.Engine.apply` and `riskcore.io.read_ticks` take them.

    Examples
    --------
    >>> from riskcore.sample import crash, generate_activity
    >>> generate_activity(*crash(100, 20))[["action", "account", "quantity"]].values.tolist()[:3]
    [['open', 104, nan], ['deposit', 104, 20000.0], ['fill', 104, 0.1]]
    """
    market, account = venue.markets.symbol[0], int(tables.balances["account"].max()) + 1
    tick, marks = float(venue.markets.tick_size[0]), tables.marks[tables.marks["market"] == market]
    eighths = marks.iloc[[eighth * (len(marks) - 1) // 8 for eighth in range(9)]]
    times, prices = eighths["time"].tolist(), eighths["mark_price"].tolist()
    money, order = {"asset": venue.settle_asset}, {"order": "take-profit"}

    def limit(part: float) -> float:
        return float(round(round(prices[1] * part / tick) * tick, 8))

    def fill(eighth: int, quantity: float) -> dict[str, Any]:
        price = prices[eighth]
        fee = round(abs(quantity) * price * 0.0005, 2)
        return {"action": "fill", "market": market, "quantity": quantity, "price": price, "fee": fee}

    sold = {"side": "ask", "quantity": 0.05, "price": limit(1.02), "reduce_only": True}
    rows = [
        (0, {"action": "open", "leverage_limit": 10.0}),
        (0, {"action": "deposit", "quantity": 20_000.0} | money),
        (1, fill(1, 0.1)),
        (1, {"action": "place", "market": market} | order | sold),
        (2, {"action": "change", "price": limit(1.01)} | order),
        (4, fill(4, -0.04)),
        (5, {"action": "cancel"} | order),
        (6, {"action": "withdraw", "quantity": 5_000.0} | money),
        (7, fill(7, -0.06)),
    ]
    return pd.DataFrame([{"time": times[eighth], "account": account} | row for eighth, row in rows])


def two_accounts() -> tuple[Venue, Accounts]:
    """Return a venue and two accounts in one market, for examples.

    The venue is the preset "backpack", with a slice in every round and a fund of 1,000 USDC. Both accounts entered
    SOL_USDC_PERP at 200: account 1 is long 10 with 80 USDC, account 2 is short 5 with 400 USDC.

    Returns
    -------
    venue : Venue
        The venue.
    accounts : Accounts
        The accounts.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> rc.sweep(accounts, venue, {"SOL_USDC_PERP": 195.0}).net_equity.tolist()
    [30.0, 425.0]
    """
    venue = load_venue("backpack").replace(policy={"slice_probability": 1, "fund": 1_000})
    position = {"account": [1, 2], "market": "SOL_USDC_PERP", "quantity": [10.0, -5.0], "entry_price": 200.0}
    balance = {"account": [1, 2], "asset": "USDC", "quantity": [80.0, 400.0]}
    return venue, Accounts.from_frames(venue, pd.DataFrame(position), pd.DataFrame(balance))


def small_run(path: str | Path) -> None:
    """Write a run folder of two ticks, for examples: the accounts of `two_accounts`, of which account 1 is liquidated.

    Parameters
    ----------
    path : str or Path
        A new folder, or an empty one.

    Raises
    ------
    RiskDataError
        The folder holds something else.
    OSError
        A file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> rc.read_run(folder).fills[["account", "quantity", "stage"]].to_dict("records")
    [{'account': 1, 'quantity': 5.16, 'stage': 'order book'}]
    """
    venue, accounts = two_accounts()
    engine = Engine(accounts, venue)
    for time, bid, mark in (("2025-10-10T21:00Z", 194.99, 195.0), ("2025-10-10T21:01Z", 193.99, 194.0)):
        book = {"bids": [(bid, 1_000.0)], "asks": [(mark, 1_000.0)]}
        engine.step(Tick(time, {"SOL_USDC_PERP": mark}, {"SOL_USDC_PERP": book}))
    engine.save(path)


def write_inputs(venue: Venue, tables: Tables, folder: str | Path) -> dict[str, Path]:
    """Write the inputs of a run as the files that ``riskcore replay`` reads, and activity for it.

    Parameters
    ----------
    venue
        The venue, written as venue.json.
    tables
        The tables, each written as a CSV file of its name; a table without rows gets no file. The activity is that of
        `generate_activity`.
    folder
        A new or an empty folder.

    Returns
    -------
    dict
        The files by the names of their tables.

    Raises
    ------
    RiskDataError
        The folder has files, or a file cannot be written.
    OSError
        The folder cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore import sample
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(sample.write_inputs(*sample.crash(100, 2), folder))
    ['activity', 'balances', 'books', 'marks', 'orders', 'positions', 'venue']
    """
    return write_files(venue, vars(tables) | {"activity": generate_activity(venue, tables)}, folder)


def at_every_instant(venue: Venue, accounts: Accounts, ticks: TickTable, *, seed: int = 0) -> TickTable:
    """Return a tick for each instant of a venue's clock: the marks of the path, and the books moved with them.

    An engine without a clock that takes these ticks writes the rows of an engine with the clock that takes the given
    ones, but for their numbers of ticks, as long as no instant is left out.

    Parameters
    ----------
    venue : Venue
        The venue, with a ``liquidation_interval``; of perpetual markets, without guards that reject a price and without
        a ``refill_half_life``.
    accounts : Accounts
        The accounts before the first tick.
    ticks : TickTable
        Ticks with a mark for every market and without other prices.
    seed : int
        Seed of the path's draws, that of the engine.

    Returns
    -------
    TickTable
        The ticks and, between them, one for each instant.

    Raises
    ------
    RiskDataError
        A mark at an instant is out of its range.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.io import read_ticks
    >>> from riskcore.sample import at_every_instant, two_accounts
    >>> venue, accounts = two_accounts()
    >>> venue = venue.replace(policy={"price_path": "linear", "liquidation_interval": 20})
    >>> market, time = "SOL_USDC_PERP", ["2025-10-10T21:00Z", "2025-10-10T21:01Z"]
    >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 198.0]})
    >>> ticks = at_every_instant(venue, accounts, read_ticks(venue, accounts, marks))
    >>> [tick.marks[market] for tick in ticks]
    [195.0, 196.0, 197.0, 198.0]
    """
    state, before, last = GuardState.opening(venue), None, None
    times, marks, books = [], [], dict[int, Books]()
    nothing = np.zeros(len(venue.markets.symbol), bool)
    for tick in ticks:
        time, given, own = tick.nanoseconds(), Prices.incomplete(venue, tick), tick.columnar_books(venue)
        at = instants([Segment(-1 if before is None else before, time, venue, nothing)], before, time)
        path = guard_path(
            venue, state, PricePath.between(venue, accounts, state.mark, last, given, own, before, at, seed)
        )
        books |= {instant: path.at(k).books for k, instant in enumerate(at[:-1].tolist())}
        times.append(at)
        marks.append(path.mark)
        state, before = path.state_at(-1), time
        last = given.guarded(accounts, path.mark[-1], path.index[-1], path.own_asset[-1])
        books[time] = own
    mark = np.concatenate(marks)
    none, asset = np.full_like(mark, np.nan), np.full((len(mark), len(venue.assets.symbol)), np.nan)
    return replace(
        ticks, time=np.concatenate(times), mark=mark, index=none, open_interest=none, funding_rate=none, last=none,
        low=none, high=none, asset=asset, books=books,
    )  # fmt: skip
