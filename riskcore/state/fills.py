"""Reads fills and transfers, and adds them to the rows of accounts in whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .._limits import POSITION_LIMIT
from .._typing import Bool, Int
from ..boundary import RiskDataError, as_text, frames, schemas, units
from ..kernels.integer_math import apply_fills
from ..venue import Venue
from .ids import did_you_mean
from .read import _canonical
from .rows import PositionRows, Rows, _key, costs

if TYPE_CHECKING:
    from .accounts import Accounts

_TOO_LARGE = "the resulting holdings and costs must be less than 2**60 quanta"


class _Fills(NamedTuple):
    """Fills in whole numbers; F rows."""

    account: Int  # row
    market: Int  # row
    lots: Int  # signed
    flow: Int  # quanta of the market's settle asset received, without the fee
    fee: Int  # quanta of the market's settle asset paid


class _Transfers(NamedTuple):
    """Transfers in whole numbers; T rows."""

    account: Int  # row
    asset: Int  # row
    quanta: Int  # signed


def changed_rows(
    accounts: Accounts, venue: Venue, fills: pd.DataFrame | None, transfers: pd.DataFrame | None
) -> tuple[PositionRows, Rows]:
    """Position and balance rows of `Accounts.with_fills`."""
    columns, owner, holder = accounts.columns, accounts.position_accounts(), accounts.balance_accounts()
    traded, moved = _read_fills(accounts, venue, fills), _read_transfers(accounts, venue, transfers)
    positions: list[Any] = [owner, columns.market, columns.lots, columns.cost, columns.entry]
    balances: list[Any] = [holder, columns.asset, columns.free, columns.lent, columns.unsettled]
    cash = np.zeros(len(traded.lots), np.int64)
    if len(traded.lots):
        width = len(venue.markets.symbol)
        key = _key(traded.account, traded.market, width)
        _canonical("positions", positions, width, key)
        row = np.searchsorted(_key(positions[0], positions[1], width), key)
        _must_stay_small(venue, traded, row, positions, fills)
        lots, cost, entry = positions[2:]
        apply_fills(row, traded.lots, traded.flow, lots, cost, entry, cash)
    payer = np.concatenate([moved.account, traded.account, traded.account])
    if len(payer):
        settle = np.tile(venue.markets.settle[traded.market], 2)
        quanta = np.concatenate([moved.quanta, cash, -traded.fee])
        width = len(venue.assets.symbol)
        key = _key(payer, np.concatenate([moved.asset, settle]), width)
        _canonical("balances", balances, width, key)
        row = np.searchsorted(_key(balances[0], balances[1], width), key)
        free = balances[2]
        total = np.bincount(row, np.abs(quanta.astype(float)), len(free)) + np.abs(free.astype(float))
        ends = np.cumsum([len(moved.quanta), len(cash)])
        of_transfers, of_price, of_fee = np.split((total >= POSITION_LIMIT)[row], ends)
        _refuse("transfers", "quantity", transfers, of_transfers, _TOO_LARGE)
        _refuse("fills", "price", fills, of_price & (cash != 0), _TOO_LARGE)
        _refuse("fills", "fee", fills, of_fee & (traded.fee != 0), _TOO_LARGE)
        np.add.at(free, row, quanta)
    return (
        (positions[0], positions[1], positions[2], positions[3], positions[4]),
        (balances[0], balances[1], balances[2], balances[3], balances[4]),
    )


def _must_stay_small(venue: Venue, traded: _Fills, row: Int, positions: list[Any], fills: pd.DataFrame | None) -> None:
    """Refuse fills with which a position, or what its account paid, might not fit 64 bits, all taken positive."""
    owner, market, lots, cost, entry = positions
    total = np.abs(lots.astype(float))
    np.add.at(total, row, np.abs(traded.lots.astype(float)))
    largest = np.minimum(venue.markets.max_lots, POSITION_LIMIT)[market]
    rule = f"{_TOO_LARGE} at the market's maxPrice (of an inverse contract: at one tick)"
    _refuse("fills", "quantity", fills, (total > largest)[row], rule)
    paid = np.maximum(np.abs(cost.astype(float)), np.abs(entry))
    np.add.at(paid, row, np.abs(traded.flow.astype(float)))
    _refuse("fills", "price", fills, (np.bincount(owner, paid) >= POSITION_LIMIT)[traded.account], _TOO_LARGE)


def _refuse(table: str, column: str, frame: pd.DataFrame | None, bad: Bool, rule: str) -> None:
    """Refuse the first row of a table that breaks a rule."""
    if bad.any():
        assert frame is not None
        row = int(bad.argmax())
        raise RiskDataError(table, column, rule, row=row, value=frames.as_frame(table, frame)[column].iloc[row])


def _account_rows(accounts: Accounts, table: str, ids: pd.Series[Any]) -> Int:
    rows = np.asarray(pd.Index(accounts.ids).get_indexer(pd.Index(ids)), np.int64)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        id_ = ids.iloc[missing[0]]
        rule = f"must be an account of the state{did_you_mean(id_, accounts.ids)}"
        raise RiskDataError(table, "account", rule, row=int(missing[0]), value=as_text(id_))
    return rows


def _read_fills(accounts: Accounts, venue: Venue, fills: pd.DataFrame | None) -> _Fills:
    if fills is None or not len(fills := frames.as_frame("fills", fills)):
        return _Fills(*(np.empty(0, np.int64),) * 5)
    table = schemas.checked("fills", fills)
    account = _account_rows(accounts, "fills", table["account"])
    market = schemas.codes("fills", "market", table["market"], venue.markets.symbol, "a market")
    step, price = units.PerKind(venue.markets.step_size, market), table["price"].to_numpy()
    rule = "must be a whole number of lots of the market's stepSize"
    lots = units.whole_multiples("fills", "quantity", table["quantity"].to_numpy(), step, rule)
    zero = np.flatnonzero(lots == 0)
    if zero.size:
        raise RiskDataError("fills", "quantity", "must not be 0", row=int(zero[0]), value=0.0)
    flow = -costs("fills", "price", price, lots, market, venue.units)
    fee = np.zeros(len(lots), np.int64)
    if "fee" in table.columns:
        quantum = units.PerKind(venue.assets.quantum_size[venue.markets.settle], market)
        fee = units.round_half_even("fills", "fee", [table["fee"].to_numpy()], quantum)
    return _Fills(account, market, lots, flow, fee)


def _read_transfers(accounts: Accounts, venue: Venue, transfers: pd.DataFrame | None) -> _Transfers:
    if transfers is None or not len(transfers := frames.as_frame("transfers", transfers)):
        return _Transfers(*(np.empty(0, np.int64),) * 3)
    table = schemas.checked("transfers", transfers)
    account = _account_rows(accounts, "transfers", table["account"])
    asset = schemas.codes("transfers", "asset", table["asset"], venue.assets.symbol, "a collateral asset")
    quantity, quantum = table["quantity"].to_numpy(), units.PerKind(venue.assets.quantum_size, asset)
    return _Transfers(account, asset, units.round_half_even("transfers", "quantity", [quantity], quantum))
