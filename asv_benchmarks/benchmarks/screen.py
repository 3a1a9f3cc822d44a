"""Who is at 100 % at each of a thousand ticks in which every price moves: the screen against selecting anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

import riskcore as rc
from riskcore.margin import margin_table, selection
from riskcore.market import Prices

from . import ACCOUNTS, MARKETS, _Figures, wide_accounts

TICKS = max(50, min(1_000, ACCOUNTS // 100))
EVERY = 20  # of how many ticks one is selected anew, to compare and to check
PATHS = {"moves of 1 bp": (1e-4, 0.0), "moves of 5 bp, five crashes": (5e-4, 50e-4)}


def path(prices: Prices, move: float, crash: float) -> Iterator[Prices]:
    """Ticks in which every market moves by its volatility, 0.6 to 3, times ``move``, and five times falls as well.

    Markets of the same base asset move alike.
    """
    base = np.array([int(symbol[1:].split("_")[0]) - 1 for symbol in prices.venue.markets.symbol])
    rng = np.random.default_rng(3)
    volatility = rng.uniform(0.6, 3.0, MARKETS)
    moves = rng.normal(0, move, (TICKS, MARKETS))
    moves[TICKS // 10 :: TICKS // 5] -= crash
    unmoved = np.full(len(prices.asset), np.nan)  # assets follow the markets that they are the base of
    for factor in np.exp((moves * volatility).cumsum(axis=0)):
        yield prices.moved(factor[base], unmoved)


def seconds(call: Callable[[], object]) -> float:
    """Seconds of this thread: another process's turn is no part of a tick's time."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


class Ratios(_Figures):
    """The mean takes in the first tick, which tries all accounts; the worst is also given without it."""

    params = [
        f"{figure}, {name}"
        for name in PATHS
        for figure in (
            "select / mean tick of the screen", "worst tick of the screen / sweep", "worst but the first / sweep",
        )
    ]  # fmt: skip

    def setup_cache(self) -> dict[str, float | str]:
        venue, accounts, marks = wide_accounts(ACCOUNTS)
        start = Prices.read(venue, accounts, marks)
        margin_table(accounts, start, threads=1)  # compile
        selection(accounts, start, threads=1)
        found = {}
        for name, (move, crash) in reversed(PATHS.items()):
            screen = rc.Screen(accounts, venue)
            for tick in path(start, move, crash):  # compile: whatever happens in these ticks happens again
                screen.rows(tick)
            screen = rc.Screen(accounts, venue)
            ticks, anew, full, computed = [], [], [], []
            for n, tick in enumerate(path(start, move, crash)):
                rows: list[np.ndarray] = []
                ticks.append(seconds(lambda screen=screen, tick=tick, rows=rows: rows.append(screen.rows(tick))))
                computed.append(screen.accounts_computed)
                if n % EVERY == 0:
                    # prices of their own: what the screen has folded is not there for the others
                    others = [replace(tick), replace(tick)]
                    anew.append(seconds(lambda prices=others[0]: selection(accounts, prices, threads=1)))
                    full.append(seconds(lambda prices=others[1]: margin_table(accounts, prices, threads=1)))
                    assert np.array_equal(rows[0], selection(accounts, tick, threads=1).account)
            found |= {
                f"select / mean tick of the screen, {name}": np.mean(anew) / np.mean(ticks),
                f"worst tick of the screen / sweep, {name}": np.max(ticks) / np.median(full),
                f"worst but the first / sweep, {name}": np.max(ticks[1:]) / np.median(full),
                f"accounts looked at per tick, {name}": float(np.mean(computed)),
            }
        return found

    setup_cache.timeout = 3600


class Counts(Ratios):
    """Exact: no clock is in it."""

    params = [f"accounts looked at per tick, {name}" for name in PATHS]
    unit = "accounts"


class Money(_Figures):
    """Exact counts where a third of the accounts has USDT and inverse markets among its positions."""

    params = [f"{figure}, USDT and inverse markets" for figure in Counts.params]
    unit = "accounts"

    def setup_cache(self) -> dict[str, float | str]:
        venue, accounts, marks = wide_accounts(ACCOUNTS, money=True)
        start = Prices.read(venue, accounts, marks)
        found = {}
        for figure, path_of in zip(self.params, PATHS.values(), strict=True):
            screen, computed = rc.Screen(accounts, venue), []
            for n, tick in enumerate(path(start, *path_of)):
                rows = screen.rows(tick)
                computed.append(screen.accounts_computed)
                assert n % EVERY or np.array_equal(rows, selection(accounts, tick, threads=1).row)
            found[figure] = float(np.mean(computed))
        return found

    setup_cache.timeout = 3600
