"""The engine: quiet ticks, a crash from start to finish, and the run folder that keeps it."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

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
