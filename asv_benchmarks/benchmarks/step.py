"""Ticks of the engine: quiet ones, and a crash from start to finish."""

from __future__ import annotations

import riskcore as rc
from riskcore import sample
from riskcore.io import read_ticks


class Step:
    params = [1_000, 20_000]
    param_names = ("accounts",)
    timeout = 300

    def setup(self, accounts: int) -> None:
        self.venue, tables = sample.crash(accounts, 60)
        self.accounts = rc.Accounts.from_frames(self.venue, tables.positions, tables.balances, tables.orders)
        self.ticks = list(read_ticks(self.venue, self.accounts, tables.marks, tables.books))
        self.time_crash_of_60_ticks(accounts)  # compile

    def time_quiet_tick(self, accounts: int) -> None:
        rc.Engine(self.accounts, self.venue).step(self.ticks[0])

    def time_crash_of_60_ticks(self, accounts: int) -> None:
        engine = rc.Engine(self.accounts, self.venue)
        for tick in self.ticks:
            engine.step(tick)


class Load:
    params = [100_000]
    param_names = ("accounts",)

    def setup(self, accounts: int) -> None:
        self.venue, self.tables = sample.crash(accounts, 2)

    def time_from_frames(self, accounts: int) -> None:
        rc.Accounts.from_frames(self.venue, self.tables.positions, self.tables.balances, self.tables.orders)


def timeraw_import() -> str:
    return "import riskcore"
