"""The engine: quiet ticks, a crash from start to finish, and the run folder that keeps it."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore import sample
from riskcore.io import read_ticks

from . import ACCOUNTS, _Figures, interleaved_ratio, seconds

COUNT = max(ACCOUNTS // 50, 400)
CRASH = 60


class Ratios(_Figures):
    """A quiet tick is one in which nobody is liquidated; it has the books of three markets to read."""

    params = [
        "quiet tick of the engine, 20,000 accounts / sweep", "mean tick of a crash, 20,000 accounts / sweep",
        "60 ticks of a crash / writing their run folder", "60 ticks of a crash / reading the state they end in",
    ]  # fmt: skip

    def setup_cache(self) -> dict[str, float | str]:
        venue, tables = sample.crash(COUNT, CRASH)
        accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
        ticks = list(read_ticks(venue, accounts, tables.marks, tables.books))
        first, engine, second = ticks[0], rc.Engine(accounts, venue), itertools.count()

        def crashed() -> rc.Engine:
            engine = rc.Engine(accounts, venue)
            for tick in ticks:
                engine.step(tick)
            return engine

        def sweep() -> None:
            rc.sweep(accounts, venue, first.marks, threads=1)

        def quiet() -> None:
            time = first.nanoseconds() + 10**9 * next(second)
            engine.step(rc.Tick(time, first.marks, first.books, first.indexes))

        last = crashed()  # compile
        crash = interleaved_ratio(crashed, sweep, 3)
        with tempfile.TemporaryDirectory(prefix="riskcore-bench-") as folder:
            run = Path(folder, "run")
            found = [
                interleaved_ratio(quiet, sweep, 51),
                crash / CRASH,
                seconds(crashed) / seconds(lambda: last.save(run)),
                interleaved_ratio(crashed, lambda: rc.Engine.resume(run), 3),
            ]
            parts = list((run / "journal").glob("*.parquet"))
            rows = sum(len(pd.read_parquet(part, columns=["tick"])) for part in parts)
            size = sum(part.stat().st_size for part in parts)
        return dict(zip((*Ratios.params, *Sizes.params), (*found, size / rows), strict=True))

    setup_cache.timeout = 600


class Sizes(Ratios):
    """Exact: no clock is in it."""

    params = ["bytes on disk per row of the journal"]
    unit = "bytes"


class Quiet:
    """A step that triggers nothing: two accounts in two markets, marks as a dict, a liquidation clock of a second.

    Seconds of the calling thread, the median of the fastest of five runs of 500 steps; the fill is not in them, what a
    step does with it is.
    """

    params = ((1, 60), (False, True))
    param_names = ("seconds between ticks", "a fill before each")
    unit = "microseconds a step"
    timeout = 300

    def setup(self, seconds_between: int, has_fill: bool) -> None:
        self.venue, self.accounts = two_markets()
        symbols = self.venue.markets.symbol
        marks = 100.0 * np.exp(np.random.default_rng(0).normal(0.0, 1e-4, (550, 2)).cumsum(axis=0)).round(5)
        times = 1_760_000_100 * 10**9 + np.arange(len(marks)) * seconds_between * 10**9
        self.ticks = [
            rc.Tick(time, dict(zip(symbols, row, strict=True)))
            for time, row in zip(times.tolist(), marks.tolist(), strict=True)
        ]
        self.run(has_fill)  # compile

    def run(self, has_fill: bool) -> float:
        engine, found, signed = rc.Engine(self.accounts, self.venue), [], 1.0
        account, symbol = engine.account(1), self.venue.markets.symbol[0]
        for number, tick in enumerate(self.ticks):
            if has_fill and number:
                account.fill(symbol, signed, 100.0, check="off")
                signed = -signed
            start = time.thread_time()
            engine.step(tick)
            found.append(time.thread_time() - start)
        return float(np.median(found[50:]))

    def track_microseconds_a_step(self, seconds_between: int, has_fill: bool) -> float:
        return min(self.run(has_fill) for _ in range(5)) * 1e6


def two_markets() -> tuple[rc.Venue, rc.Accounts]:
    """Two accounts, one on each side of two markets, far from liquidation."""
    functions = ("0.02", "0.00005"), ("0.0125", "0.00003")
    identity = {"weight": "1", "kind": {"type": "identity"}}
    venue = rc.load_venue(
        {
            "settle_asset": "USDC",
            "markets": [sample.market_row(name, "0.01", "0.001", *functions, impact=None) for name in ("BTC", "SOL")],
            "collateral": [{"symbol": "USDC", "haircutFunction": identity}],
            "borrow_lend": [{"symbol": "USDC", "lentQuantity": "1000", "borrowedQuantity": "500"}],
        }
    )
    symbols, quantity = list(venue.markets.symbol), [1.0, -2.0, -1.0, 2.0]
    positions = {"account": [1, 1, 2, 2], "market": symbols * 2, "quantity": quantity, "entry_price": 100.0}
    balances = {"account": [1, 2], "asset": "USDC", "quantity": 10_000.0}
    return venue, rc.Accounts.from_frames(venue, pd.DataFrame(positions), pd.DataFrame(balances))
