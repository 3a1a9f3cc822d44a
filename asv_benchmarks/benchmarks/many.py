"""A day of minutes in one call, against a call for each minute."""

from __future__ import annotations

import numpy as np
import pandas as pd

import riskcore as rc

from . import ACCOUNTS, MARKETS, _Figures, interleaved_ratio, wide_accounts

ROWS, SINGLES, FULL = 1_440, 48, 8
PATHS = {"calm day": 0.0, "fall of 5 %": 0.01}  # how far each of five minutes at noon falls


def day(marks: dict[str, float], crash: float) -> pd.DataFrame:
    """Marks that walk by 1 to 3 basis points a minute, each market by its own, and fall together for five minutes."""
    rng = np.random.default_rng(5)
    moves = rng.normal(0, 1, (ROWS, MARKETS)) * rng.uniform(1e-4, 3e-4, MARKETS)
    moves[ROWS // 2 : ROWS // 2 + 5] -= crash
    times = pd.date_range("2025-10-10", periods=ROWS, freq="min", tz="UTC")
    return pd.DataFrame(np.array(list(marks.values())) * np.exp(moves.cumsum(axis=0)), times, list(marks))


class Ratios(_Figures):
    """One thread for both; the selections are compared before they are measured."""

    params = [*(f"select of a day of minutes, {name}: call by call / one call" for name in PATHS),
              "sweep of eight minutes: call by call / one call"]  # fmt: skip

    def setup_cache(self) -> dict[str, float | str]:
        venue, accounts, marks = wide_accounts(ACCOUNTS)
        found: dict[str, float | str] = {}
        some = np.linspace(0, ROWS - 1, SINGLES).astype(int).tolist()
        for name, crash in PATHS.items():
            path = day(marks, crash)

            def one_call(path: pd.DataFrame = path) -> rc.Selections:
                return rc.select(accounts, venue, path, threads=1)

            def call_by_call(path: pd.DataFrame = path) -> list[rc.Selection]:
                return [rc.select(accounts, venue, path.iloc[t], threads=1) for t in some]

            rows = one_call().row
            for t, single in zip(some, call_by_call(), strict=True):
                assert np.array_equal(single.row, rows[t])
            ratio = interleaved_ratio(call_by_call, one_call) * ROWS / SINGLES
            found[f"select of a day of minutes, {name}: call by call / one call"] = ratio

        path = path.iloc[:FULL]
        found["sweep of eight minutes: call by call / one call"] = interleaved_ratio(
            lambda: [rc.sweep(accounts, venue, path.iloc[t], threads=1) for t in range(FULL)],
            lambda: rc.sweep(accounts, venue, path, threads=1),
            9,
        )
        return found
