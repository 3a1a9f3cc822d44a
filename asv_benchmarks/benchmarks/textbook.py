"""The workload as anybody would lay it out, for the peers: ids, quantities and prices in plain columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

import riskcore as rc
from riskcore.kernels.margin_function import RATE, ROOT

from . import ACCOUNTS, wide_tables, wide_venue

Array = np.ndarray


@dataclass(frozen=True)
class Textbook:
    """Positions and balances by account, and the venue's figures at one vector of prices; A accounts, M, K.

    ``account``, ``market``, ``quantity``, ``entry`` have a row per position, ``holder``, ``asset``, ``balance`` one per
    balance; ``price``, ``lot`` and the margin functions one per market; ``asset_price``, ``weight`` and the rates of
    borrows one per asset.
    """

    accounts: int
    account: Array
    market: Array
    quantity: Array
    entry: Array
    holder: Array
    asset: Array
    balance: Array
    price: Array
    lot: Array
    initial: Array
    initial_root: Array
    maintenance: Array
    maintenance_root: Array
    asset_price: Array
    weight: Array
    asset_initial: Array
    asset_maintenance: Array

    def gross(self) -> Array:
        """Sum of the absolute amounts of each account: what a rounding error is measured by."""
        value = np.abs(self.quantity) * (self.price[self.market] + self.entry)
        held = np.abs(self.balance * self.asset_price[self.asset])
        return np.bincount(self.account, value, self.accounts) + np.bincount(self.holder, held, self.accounts)

    def check(self, ours: rc.MarginTable, theirs: tuple[Array, ...]) -> None:
        """Refuse to compare the times of what gives other numbers: to 1e-12 of the gross amounts."""
        gross = self.gross()
        mine = (ours.net_equity, ours.exposure, ours.initial_margin, ours.maintenance_margin)
        for own, other in zip(mine, theirs, strict=True):
            assert np.all(np.abs(own - other) <= 1e-12 * gross)


@cache
def workload() -> tuple[rc.Venue, rc.Accounts, dict[str, float], Textbook]:
    """The workload for the engine and for its peers, all roots and no brackets."""
    venue = wide_venue()
    positions, balances, marks = wide_tables(venue, ACCOUNTS)
    price = np.array([marks[symbol] for symbol in venue.markets.symbol])
    functions, width = venue.margin_functions.first, 2 * len(price)
    book = Textbook(
        accounts=ACCOUNTS,
        account=positions["account"].to_numpy(),
        market=_rows(positions["market"], venue.markets.symbol),
        quantity=positions["quantity"].to_numpy(),
        entry=positions["entry_price"].to_numpy(),
        holder=balances["account"].to_numpy(),
        asset=_rows(balances["asset"], venue.assets.symbol),
        balance=balances["quantity"].to_numpy(),
        price=price,
        lot=venue.markets.step_size,
        initial=functions[0:width:2, RATE],
        initial_root=functions[0:width:2, ROOT],
        maintenance=functions[1:width:2, RATE],
        maintenance_root=functions[1:width:2, ROOT],
        asset_price=np.array([1.0, *(marks[f"{symbol}_USDC_PERP"] for symbol in venue.assets.symbol[1:])]),
        weight=venue.assets.weight,
        asset_initial=functions[width::2, RATE],
        asset_maintenance=functions[width + 1 :: 2, RATE],
    )
    return venue, rc.Accounts.from_frames(venue, positions, balances), marks, book


def _rows(names: object, symbols: tuple[str, ...]) -> Array:
    import pandas as pd

    return pd.Index(symbols).get_indexer(pd.Index(names)).astype(np.int32)
