"""Compiling ahead, so that later processes find every kernel in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import sample
from ..engine import Engine
from ..io import read_ticks
from ..kernels._cache import folder_in_use
from ..kernels.pack import list_holders
from ..margin import attribution, largest_orders, liquidation_prices, scenario_losses, select, sweep, what_if
from ..margin.screen import Screen
from ..market import Books, Tick
from ..state import Accounts
from ..venue import load_venue

_ACCOUNTS = 300


def warm() -> Path | None:
    """Run a small generated crash through everything that has kernels.

    Returns
    -------
    Path or None
        Folder of the compiled kernels; None where the cache is switched off or cannot be used.
    """
    # many assets and few: their rows take two bytes and one in the packed accounts
    _Run(providers=3, assets=256).look()
    # the sweep of several settle assets is compiled apart
    _Run(assets=1, settle="X0").look()
    run = _Run(providers=3)
    run.look()
    run.liquidate()
    # without a fund and a backstop the winners take over
    run = _Run(account_order="pro_rata", fund=0, adl_policy="binance")
    run.ask()
    run.liquidate()
    _look_at_scenarios()
    return folder_in_use()


def _look_at_scenarios() -> None:
    """Margins under a scenario model with discounts and charges, and under a plain one."""
    given = sample.options_sample(_ACCOUNTS)
    for model in ("derive", {"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]}):
        venue = given.venue.replace(scenario_model=model)
        sweep(given.accounts, venue, given.tick)
        select(given.accounts, venue, given.tick)
        next(scenario_losses(given.accounts, venue, given.tick).blocks())
        attribution(given.accounts, venue, given.tick)
    few = sample.options_sample(5)
    liquidation_prices(few.accounts, few.venue, few.tick)
    largest_orders(few.accounts, few.venue, few.tick, few.venue.markets.symbol[0])


class _Run:
    """A generated crash at a venue with backstop providers, assets that nobody holds, and figures of its policy."""

    def __init__(self, providers: int = 0, assets: int = 0, settle: str | None = None, **policy: Any) -> None:
        source = sample.venue_source([_ACCOUNTS + 1 + n for n in range(providers)], slices_per_tick=5)
        identity = {"weight": "1", "kind": {"type": "identity"}}
        source["collateral"] += [{"symbol": f"X{n}", "haircutFunction": identity} for n in range(assets)]
        if settle is not None:
            source["markets"][0]["settle"] = settle
        self.venue = load_venue(source | {"policy": source["policy"] | policy})
        self.marks = sample.generate_crash(self.venue, 30, fall=0.3, interval=150)
        self.first = {str(k): float(v) for k, v in self.marks.groupby("market")["mark_price"].first().items()}
        self.tables = sample.generate_accounts(self.venue, self.first, _ACCOUNTS)
        if settle is not None:
            self.first[settle] = 1.0
        self.accounts = Accounts.from_frames(self.venue, *self.tables)

    def look(self) -> None:
        """Margins and selections, of accounts that can change and cannot, one vector of prices and many."""
        rows = pd.DataFrame([self.first, self.first])
        for accounts in (self.accounts, self.accounts.copy()):
            sweep(accounts, self.venue, self.first)
            sweep(accounts, self.venue, rows)
            select(accounts, self.venue, self.first)
            select(accounts, self.venue, rows)
        screen = Screen(self.accounts, self.venue)
        for share in (1.0, 0.999, 0.8, 0.799):
            screen.select({symbol: price * share for symbol, price in self.first.items()})
        columns = self.accounts.sweep_view.columns  # the screen of many accounts lists holders
        for offset, index in ((columns.position_group, columns.market), (columns.balance_group, columns.asset)):
            list_holders(offset, index, np.full(index.max() + 1, -1), np.empty(0, np.uint32))

    def ask(self) -> None:
        """Questions about single accounts, and ids that are texts."""
        market, price = next(iter(self.first.items()))
        fills = pd.DataFrame({"account": [1], "market": [market], "quantity": [1.0], "price": [price]})
        transfers = pd.DataFrame({"account": [1], "asset": [self.venue.settle_asset], "quantity": [1.0]})
        for accounts in (self.accounts, self.accounts.copy()):
            liquidation_prices(accounts, self.venue, self.first)
            largest_orders(accounts, self.venue, self.first, market)
            what_if(accounts, self.venue, self.first, shocks=-0.1, fills=fills, transfers=transfers)
        texts = [frame.assign(account=frame["account"].astype(str)) for frame in self.tables]
        Accounts.from_frames(self.venue, *texts)

    def liquidate(self) -> None:
        """All phases of the waterfall."""
        books = sample.generate_books(self.venue, self.marks, depth=2e5)
        ticks = list(read_ticks(self.venue, self.accounts, self.marks, books))
        # kernels are compiled for arrays that can be written to, and for others: a tick's are either
        frames, objects = [], []
        for tick, (_, book), (_, mark) in zip(ticks, books.groupby("time"), self.marks.groupby("time"), strict=True):
            book = book.drop(columns="time")
            marks = dict(zip(mark["market"], mark["mark_price"], strict=True))
            frames.append(Tick(tick.time, marks, book))
            objects.append(Tick(tick.time, marks, Books.from_frame(self.venue, book, tick.time)))
        for given in (ticks, frames, objects):
            engine = Engine(self.accounts, self.venue)
            for tick in given:
                engine.step(tick)
