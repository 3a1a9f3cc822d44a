"""The sweep of all accounts, and what a pandas user would write instead."""

from __future__ import annotations

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore.margin import margin_table
from riskcore.tick import Prices

from . import interleaved_ratio, wide_accounts, wide_tables, wide_venue


class Sweep:
    params = ([10_000, 1_000_000], [1, 2])
    param_names = ("accounts", "threads")
    timeout = 300

    def setup(self, accounts: int, threads: int) -> None:
        self.venue, self.accounts, self.marks = wide_accounts(accounts)
        self.time_sweep(accounts, threads)  # compile

    def time_sweep(self, accounts: int, threads: int) -> None:
        rc.sweep(self.accounts, self.venue, self.marks, threads=threads)

    def peakmem_reference(self, accounts: int, threads: int) -> None:
        """Memory of the setup, to hold against peakmem_sweep."""

    def peakmem_sweep(self, accounts: int, threads: int) -> None:
        self.time_sweep(accounts, threads)


def pandas_sweep(
    positions: pd.DataFrame, balances: pd.DataFrame, markets: pd.DataFrame, assets: pd.DataFrame
) -> pd.DataFrame:
    """Equity, exposure and both margins with merge and groupby."""
    p = positions.merge(markets, on="market")
    notional = p["quantity"].abs() * p["mark"]
    root = np.sqrt(notional)
    p = pd.DataFrame(
        {
            "account": p["account"],
            "equity": p["quantity"] * (p["mark"] - p["entry_price"]),
            "exposure": notional,
            "initial": notional * np.maximum(p["imf_base"], p["imf_factor"] * root),
            "maintenance": notional * np.maximum(p["mmf_base"], p["mmf_factor"] * root),
        }
    )
    b = balances.merge(assets, on="asset")
    value = b["quantity"] * b["price"] * b["weight"]
    table = p.groupby("account").sum()
    table["equity"] += value.groupby(b["account"]).sum()
    return table


class SweepAgainstPandas:
    """Ratio of the times, interleaved in one process, one thread, after a check that the numbers agree."""

    params = [1_000_000]
    param_names = ("accounts",)
    timeout = 600

    def setup(self, accounts: int) -> None:
        self.venue = wide_venue()
        self.positions, self.balances, self.marks = wide_tables(self.venue, accounts)
        self.accounts = rc.Accounts.from_frames(self.venue, self.positions, self.balances)
        m, a, curves = self.venue.markets, self.venue.assets, self.venue.curves
        initial = 2 * np.arange(len(m.symbol))
        self.markets = pd.DataFrame(
            {
                "market": m.symbol, "mark": [self.marks[s] for s in m.symbol],
                "imf_base": curves.base[initial], "imf_factor": curves.factor[initial],
                "mmf_base": curves.base[initial + 1], "mmf_factor": curves.factor[initial + 1],
            }
        )  # fmt: skip
        price = [1.0, *(self.marks[f"{s}_USDC_PERP"] for s in a.symbol[1:])]
        self.assets = pd.DataFrame({"asset": a.symbol, "price": price, "weight": a.weight})
        ours = rc.sweep(self.accounts, self.venue, self.marks, threads=1)
        theirs = self.peer()
        gross = theirs["exposure"].to_numpy() + np.abs(ours.net_equity)
        # entry prices are rounded to whole quanta of cost: the only difference there may be
        for mine, name in ((ours.net_equity, "equity"), (ours.exposure, "exposure"),
                           (ours.initial_margin, "initial"), (ours.maintenance_margin, "maintenance")):  # fmt: skip
            assert np.all(np.abs(mine - theirs[name].to_numpy()) <= 1e-12 * gross + 1e-5)

    def peer(self) -> pd.DataFrame:
        return pandas_sweep(self.positions, self.balances, self.markets, self.assets)

    def track_pandas_over_riskcore(self, accounts: int) -> float:
        return interleaved_ratio(self.peer, lambda: rc.sweep(self.accounts, self.venue, self.marks, threads=1))

    track_pandas_over_riskcore.unit = "ratio"


class MixedSweep:
    """Time of a sweep over a venue that mixes the three margin functions, over that of the pure sqrt venue."""

    params = [1_000_000]
    param_names = ("accounts",)
    timeout = 600

    def setup(self, accounts: int) -> None:
        self.pure, self.mixed = wide_accounts(accounts), wide_accounts(accounts, mixed=True)
        # the accounts' own open interest, once: deriving it is not the sweep
        self.prices = [Prices.read(venue, own, marks) for venue, own, marks in (self.pure, self.mixed)]
        kinds = {type(f).__name__ for f in self.mixed[0].curves.functions}
        assert kinds == {"Sqrt", "Tiers", "OpenInterest"}

    def track_mixed_over_sqrt(self, accounts: int) -> float:
        return interleaved_ratio(
            lambda: margin_table(self.mixed[1], self.prices[1], threads=1),
            lambda: margin_table(self.pure[1], self.prices[0], threads=1),
            rounds=7,
        )

    track_mixed_over_sqrt.unit = "ratio"


class LiquidationPrices:
    params = [200_000]
    param_names = ("accounts",)
    timeout = 300

    def setup(self, accounts: int) -> None:
        self.venue, self.accounts, self.marks = wide_accounts(accounts, mixed=True)
        self.time_liquidation_prices(accounts)  # compile

    def time_liquidation_prices(self, accounts: int) -> None:
        """Five positions each: a million liquidation prices."""
        rc.liquidation_prices(self.accounts, self.venue, self.marks, threads=1)
