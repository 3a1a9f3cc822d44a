"""Ticks in which accounts are liquidating in slices: what each of them costs, in sweeps of all accounts.

A second of a crash has 5 to 50 such accounts, the worst one of a storm a thousand.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np

import riskcore as rc
from riskcore import sample

from . import ACCOUNTS, _Figures, interleaved_ratio

COUNT = max(ACCOUNTS // 10, 2_000)
TICKS = 10
MARKS = {"BTC_USDC_PERP": 100_000.0, "ETH_USDC_PERP": 4_000.0, "SOL_USDC_PERP": 200.0}
LIQUIDATING = (10, 50, 1_000)


class Workload:
    """Accounts at 105 % to 160 % of their maintenance margin, others far from it, and books that take all slices.

    A slice is a fiftieth of a position, so that the accounts go on liquidating for many ticks. One account in ten
    has half of its collateral in another asset.
    """

    def __init__(self, count: int, liquidating: int) -> None:
        providers = [count + 1, count + 2, count + 3]
        source = sample.venue_source(providers)
        source["policy"] |= {"slice_fraction": "0.02", "min_slice_notional": 10}
        self.venue = rc.load_venue(source)
        positions, balances, orders = sample.generate_accounts(self.venue, MARKS, count, max_leverage=20)
        orders = orders[orders["account"] > liquidating]
        accounts = rc.Accounts.from_frames(self.venue, positions, balances, orders)
        table = rc.sweep(accounts, self.venue, MARKS).to_frame().iloc[:liquidating]
        ratio = np.random.default_rng(3).uniform(1.05, 1.6, liquidating)
        moved = (table["maintenance_margin"] / ratio - table["net_equity"]).round(6).to_numpy()
        own = (balances["account"] <= liquidating) & (balances["asset"] == "USDC")
        balances.loc[own, "quantity"] += moved[balances.loc[own, "account"].to_numpy() - 1]
        self.accounts = rc.Accounts.from_frames(self.venue, positions, balances, orders)
        self.books = {
            symbol: {
                "bids": [(round(mark * (1 - n / 10_000), 2), 1e9 / mark) for n in range(1, 11)],
                "asks": [(round(mark * (1 + n / 10_000), 2), 1e9 / mark) for n in range(1, 11)],
            }
            for symbol, mark in MARKS.items()
        }
        self.started = rc.Engine(self.accounts, self.venue, record=False)
        self.started.step(self.tick(0))

    def tick(self, second: int) -> rc.Tick:
        return rc.Tick(sample.START.value + second * 10**9, MARKS, self.books)

    def run(self) -> list[int]:
        """Ticks after the first one; returns the number of accounts that each selected."""
        engine = deepcopy(self.started)
        return [len(engine.step(self.tick(second)).selected) for second in range(1, TICKS + 1)]


class Ratios(_Figures):
    """The copy of the engine that each run begins with is taken off."""

    params = [f"tick with {n:,} liquidating accounts of {100_000:,} / sweep" for n in LIQUIDATING]

    def setup_cache(self) -> dict[str, float | str]:
        found = {}
        for name, liquidating in zip(Ratios.params, LIQUIDATING, strict=True):
            work = Workload(COUNT, min(liquidating, COUNT // 4))

            def sweep(work: Workload = work) -> None:
                rc.sweep(work.accounts, work.venue, MARKS, threads=1)

            def copied(work: Workload = work) -> None:
                deepcopy(work.started)

            run = interleaved_ratio(work.run, sweep, 5) - interleaved_ratio(copied, sweep, 5)
            found[name] = run / TICKS
        return found

    setup_cache.timeout = 600
