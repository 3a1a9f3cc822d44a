"""The clock: two hours of a fall with minute bars against ticks of a second, and quiet minutes with and without it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore import sample
from riskcore.io import read_ticks

from . import ACCOUNTS, _Figures, interleaved_ratio

MARKET = "BTC_USDC_PERP"
HOLDERS = max(ACCOUNTS // 200, 400)  # 5,000 of a million
QUIET = max(ACCOUNTS // 10, 2_000)
MINUTES = 120 if ACCOUNTS >= 200_000 else 15  # less in the smoke run
PATHS = ("hold", "linear", "bridge", "adverse")


def venue(path: str | None, providers: list[int]) -> rc.Venue:
    """BTC alone, with a clock of one second and a path, or without a clock."""
    functions = ("0.0133", "0.0000075"), ("0.01", "0.000005")
    row = sample.market_row("BTC", "0.1", "0.00001", *functions, impact=("0.99", "1.01"))
    source = sample.venue_source(providers)
    clock = {"liquidation_interval": None} if path is None else {"price_path": path}
    return rc.load_venue(source | {"markets": [row], "policy": source["policy"] | clock})


def minutes(count: int, volatility: float, drift: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marks of whole minutes with the bars of a walk second by second, and books of twenty levels around them."""
    rng = np.random.default_rng(11)
    walk = 40_000.0 * np.exp(np.cumsum(np.append(0.0, rng.normal(drift, volatility, 60 * count)))).round(5)
    second = np.arange(count + 1) * 60
    time = pd.to_datetime(1_760_130_000 + second, unit="s", utc=True)
    bars = np.lib.stride_tricks.sliding_window_view(np.append(np.full(60, walk[0]), walk), 61)[second]
    prices = {"mark_price": walk[second], "low_price": bars.min(axis=1), "high_price": bars.max(axis=1)}
    marks = pd.DataFrame({"time": time, "market": MARKET, **{name: of.round(1) for name, of in prices.items()}})
    level = np.arange(20)
    sides = []
    for side, sign in (("bid", -1), ("ask", 1)):
        price = marks["mark_price"].to_numpy()[:, None] * (1 + sign * (level + 1) * 1e-4)
        rows = {"price": price.round(1).ravel(), "quantity": np.tile(2.0 + level, len(marks))}
        where = {"level": np.tile(level, len(marks)), "time": np.repeat(time, len(level))}
        sides.append(pd.DataFrame(rows | where).assign(side=side, market=MARKET))
    return marks, pd.concat(sides, ignore_index=True)


def run(accounts: rc.Accounts, of: rc.Venue, ticks: list[rc.Tick]) -> list[rc.StepResult]:
    engine = rc.Engine(accounts, of, record=False)
    return [engine.step(tick) for tick in ticks]


def book_share(results: list[rc.StepResult]) -> float:
    """Percentage of the notional that went through the order book."""
    fills = pd.concat([result.fills for result in results if len(result.rows)])
    by_stage = fills.groupby("stage")["notional"].sum()
    return float(100 * by_stage.get("order book", 0.0) / by_stage.sum())


class Ratios(_Figures):
    """Ticks are read before the clock starts; a second tick has the mark of the path and the minute's book moved."""

    params = [
        "two hours of a fall, 5,000 accounts: second ticks / minute bars and clock 1 s",
        *(f"quiet minutes, 100,000 accounts, {path}: clock 1 s / no clock" for path in PATHS),
    ]

    def setup_cache(self) -> dict[str, float | str]:
        """Compile with the first run of each."""
        providers = [HOLDERS + 1]
        clock, none = venue("bridge", providers), venue(None, providers)
        marks, books = minutes(MINUTES, 2e-4, -2e-5)
        first = {MARKET: float(marks["mark_price"].iloc[0])}
        accounts = rc.Accounts.from_frames(clock, *sample.generate_accounts(clock, first, HOLDERS, seed=1))
        bars = read_ticks(clock, accounts, marks, books)
        seconds = list(sample.at_every_instant(clock, accounts, bars))
        shares = [book_share(run(accounts, *given)) for given in ((clock, list(bars)), (none, seconds))]
        found = [interleaved_ratio(lambda: run(accounts, none, seconds), lambda: run(accounts, clock, list(bars)), 3)]

        calm = [venue(path, [QUIET + 1]) for path in (None, *PATHS)]
        positions, balances, _ = sample.generate_accounts(calm[0], first, QUIET, max_leverage=3.0)
        balances["quantity"] *= 2.0
        marks, books = minutes(60, 2e-6, 0.0)
        accounts = rc.Accounts.from_frames(calm[0], positions, balances)
        ticks = list(read_ticks(calm[0], accounts, marks, books))
        for of in calm:
            assert not any(len(result.selected) for result in run(accounts, of, ticks))
        for of in calm[1:]:
            with_clock, without = partial(run, accounts, of, ticks), partial(run, accounts, calm[0], ticks)
            found.append(interleaved_ratio(with_clock, without))
        return dict(zip((*Ratios.params, *Shares.params), (*found, abs(shares[0] - shares[1])), strict=True))

    setup_cache.timeout = 1200


class Shares(Ratios):
    """Exact: no clock of the machine is in it."""

    params = ["two hours of a fall: distance of the shares of the order book, second ticks and clock 1 s"]
    unit = "percentage points"
