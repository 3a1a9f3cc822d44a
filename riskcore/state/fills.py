"""Reads fills and transfers, and adds them to the rows of accounts in whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .._limits import POSITION_LIMIT
from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, frames, schemas, units
from ..kernels.integer_math import apply_fills
from ..venue import Venue
from .growth import Growth
from .rows import NOBODY_OPENED, costs

if TYPE_CHECKING:
    from .accounts import Accounts

RowsOf = Callable[[str, str, "pd.Series[Any]"], Int]
"""Rows of accounts by their ids; the names of table and column are for messages."""

_TOO_LARGE = "the resulting holdings and costs must be less than 2**60 quanta"


class Fills(NamedTuple):
    """Fills in whole numbers; F rows.

    Attributes
    ----------
    account, market : ndarray of int64, shape (F,)
        Account row and market row.
    lots : ndarray of int64, shape (F,)
        Signed.
    flow : ndarray of int64, shape (F,)
        Quanta of the market's settle asset that the account receives, without the fee.
    fee : ndarray of int64, shape (F,)
        Quanta of the market's settle asset that the account pays.
    price : ndarray of float64, shape (F,)
        As in the table.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import read_fills
    >>> venue, accounts = two_accounts()
    >>> table = pd.DataFrame({"account": [2], "market": "SOL_USDC_PERP", "quantity": 1.0, "price": [195.0]})
    >>> fills = read_fills(accounts.rows_of, venue, table)
    >>> fills.lots.tolist(), fills.flow.tolist()
    ([100], [-195000000])
    """

    account: Int
    market: Int
    lots: Int
    flow: Int
    fee: Int
    price: Float


class Changes(NamedTuple):
    """Changes of accounts by fills, quanta of the markets' settle assets; F rows."""

    cost: Int
    cash: Int  # the fee not counted
    entry: Int


class _Transfers(NamedTuple):
    """Transfers in whole numbers; T rows."""

    account: Int  # row
    asset: Int  # row
    quanta: Int  # signed


def change(accounts: Accounts, venue: Venue, fills: pd.DataFrame | None, transfers: pd.DataFrame | None) -> None:
    """Apply the tables of `Accounts.with_fills` to accounts whose columns one can write to."""
    traded, moved = read_fills(accounts.rows_of, venue, fills), _read_transfers(accounts, venue, transfers)
    positions, balances = (np.stack(pair, axis=1) for pair in (traded[:2], moved[:2]))
    growth = Growth(accounts, accounts.view(), venue)
    growth.add(NOBODY_OPENED, positions, balances)
    growth.pack()
    if len(moved.quanta):
        row = accounts.rows_with("balance", moved.account, moved.asset)
        _refuse("transfers", "quantity", transfers, _too_large(accounts.columns.free, row, moved.quanta), _TOO_LARGE)
        np.add.at(accounts.columns.free, row, moved.quanta)
    fill(accounts, venue, traded, fills)


def fill(accounts: Accounts, venue: Venue, traded: Fills, table: pd.DataFrame | None) -> Changes:
    """Apply fills one after another to accounts that have the rows for them.

    Parameters
    ----------
    accounts
        Their columns change.
    venue
        Their venue.
    traded
        The fills; accounts by their rows.
    table
        From which the fills were read, for messages.

    Returns
    -------
    Changes
        Of each fill.

    Raises
    ------
    RiskDataError
        A position, or what an account has or paid, might come to 2**60 quanta; the columns are of no use then.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import fill, read_fills
    >>> venue, accounts = two_accounts()
    >>> table = pd.DataFrame({"account": [2], "market": "SOL_USDC_PERP", "quantity": 1.0, "price": [195.0]})
    >>> changed = accounts.copy()
    >>> fill(changed, venue, read_fills(accounts.rows_of, venue, table), table).cash.tolist()
    [5000000]
    """
    columns, count = accounts.columns, len(traded.lots)
    changes = Changes(*(np.zeros(count, np.int64) for _ in Changes._fields))
    if not count:
        return changes
    row = accounts.rows_with("position", traded.account, traded.market)
    _must_stay_small(accounts, venue, traded, row, table)
    lots, cost, entry = columns.lots, columns.cost, columns.entry
    apply_fills(row, traded.lots, traded.flow, lots, cost, entry, changes.cash, changes.entry)
    is_option = venue.units.options[traded.market]
    if is_option.any():  # the premium is cash at once
        changes.cash[is_option] = traded.flow[is_option]
        cost[row[is_option]] = 0
    np.subtract(changes.cash, traded.flow, out=changes.cost)
    balance = columns.position_balance[row].astype(np.int64)
    np.add.at(columns.balance_cost, balance, changes.cost)
    paid = np.concatenate([changes.cash, -traded.fee])
    too_large = _too_large(columns.free, np.tile(balance, 2), paid)
    _refuse("fills", "price", table, too_large[:count] & (changes.cash != 0), _TOO_LARGE)
    _refuse("fills", "fee", table, too_large[count:] & (traded.fee != 0), _TOO_LARGE)
    np.add.at(columns.free, balance, changes.cash - traded.fee)
    return changes


def _too_large(free: Int, row: Int, quanta: Int) -> Bool:
    """Whether each of some amounts is of a balance that might come to 2**60 quanta, all amounts taken positive."""
    rows, of_row = np.unique(row, return_inverse=True)
    total = np.bincount(of_row, np.abs(quanta.astype(float))) + np.abs(free[rows].astype(float))
    return np.asarray((total >= POSITION_LIMIT)[of_row])


def _must_stay_small(accounts: Accounts, venue: Venue, traded: Fills, row: Int, table: pd.DataFrame | None) -> None:
    """Refuse fills with which a position, or what its account paid, might not fit 64 bits, all taken positive."""
    columns = accounts.columns
    rows, counts = accounts.position_rows(np.unique(traded.account))
    place = np.zeros(len(columns.lots), np.int64)
    place[rows] = np.arange(len(rows))
    total = np.abs(columns.lots[rows].astype(float))
    np.add.at(total, place[row], np.abs(traded.lots.astype(float)))
    largest = np.minimum(venue.markets.max_lots, POSITION_LIMIT)[columns.market[rows]]
    rule = f"{_TOO_LARGE} at the market's maxPrice (of an inverse contract: at one tick)"
    _refuse("fills", "quantity", table, (total > largest)[place[row]], rule)
    paid = np.maximum(np.abs(columns.cost[rows].astype(float)), np.abs(columns.entry[rows]))
    np.add.at(paid, place[row], np.abs(traded.flow.astype(float)))
    of_account = np.bincount(np.repeat(np.arange(len(counts)), counts), paid, len(counts))
    account = np.searchsorted(np.unique(traded.account), traded.account)
    _refuse("fills", "price", table, (of_account >= POSITION_LIMIT)[account], _TOO_LARGE)


def _refuse(table: str, column: str, frame: pd.DataFrame | None, bad: Bool, rule: str) -> None:
    """Refuse the first row of a table that breaks a rule."""
    if bad.any():
        assert frame is not None
        row = int(bad.argmax())
        raise RiskDataError(table, column, rule, row=row, value=frames.as_frame(table, frame)[column].iloc[row])


def read_fills(rows_of: RowsOf, venue: Venue, fills: pd.DataFrame | None) -> Fills:
    """Read a table of fills.

    Parameters
    ----------
    rows_of : callable
        Gives the rows of accounts by their ids; the names of table and column are for messages.
    venue : Venue
        The venue that the accounts were read with.
    fills : DataFrame or None
        The table; None or one without rows: no fills.

    Returns
    -------
    Fills
        The fills.

    Raises
    ------
    RiskDataError
        The table breaks a rule.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import read_fills
    >>> venue, accounts = two_accounts()
    >>> table = pd.DataFrame({"account": [2], "market": "SOL_USDC_PERP", "quantity": 1.0, "price": [195.0]})
    >>> read_fills(accounts.rows_of, venue, table).account.tolist()
    [1]
    """
    if fills is None or not len(fills := frames.as_frame("fills", fills)):
        nothing = np.empty(0, np.int64)
        return Fills(nothing, nothing, nothing, nothing, nothing, np.empty(0))
    table = schemas.checked("fills", fills)
    account = rows_of("fills", "account", table["account"])
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
    return Fills(account, market, lots, flow, fee, price)


def _read_transfers(accounts: Accounts, venue: Venue, transfers: pd.DataFrame | None) -> _Transfers:
    if transfers is None or not len(transfers := frames.as_frame("transfers", transfers)):
        return _Transfers(*(np.empty(0, np.int64),) * 3)
    table = schemas.checked("transfers", transfers)
    account = accounts.rows_of("transfers", "account", table["account"])
    asset = schemas.codes("transfers", "asset", table["asset"], venue.assets.symbol, "a collateral asset")
    quantity, quantum = table["quantity"].to_numpy(), units.PerKind(venue.assets.quantum_size, asset)
    return _Transfers(account, asset, units.round_half_even("transfers", "quantity", [quantity], quantum))
