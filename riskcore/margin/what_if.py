"""Questions to a state that stays as it is: what if these fills, transfers and prices; how large an order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..boundary import RiskDataError, frames, schemas, text_of, units
from ..kernels import liquidation_price as kernels
from ..kernels.integer_math import apply_fills
from ..market import LARGEST, PriceMap, Prices, Rule, by_symbol
from ..state import Accounts, must_fit, nearest
from ..venue import Venue
from .sweep import MarginTable, margin_table

Int = npt.NDArray[np.int64]
Shocks: TypeAlias = "PriceMap | float"


def what_if(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap,
    *,
    fills: pd.DataFrame | None = None,
    transfers: pd.DataFrame | None = None,
    shocks: Shocks | None = None,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
    threads: int | None = None,
) -> MarginTable:
    """Compute the margin of every account after hypothetical fills, transfers and price shocks; nothing is changed.

    Parameters
    ----------
    accounts, venue, prices
        As of `sweep`, with a single vector of prices.
    fills : DataFrame, optional
        account, market, quantity (signed: bought or sold, whole lots), price (settle units); without a fee, in the
        order of the rows.
    transfers : DataFrame, optional
        account, asset, quantity (signed: paid in or out).
    shocks : mapping of str to float, Series or float, optional
        Relative change of a mark, or of an asset's price, by symbol (-0.1: ten percent down); of a market it moves the
        index too, and an asset that takes its price from there, unless the asset has a shock of its own (0: its price
        stays). A single number counts for all markets, and for all assets but the settle asset.
    indexes, asset_prices, open_interest, threads
        As of `sweep`, with a single vector of prices.

    Returns
    -------
    MarginTable
        A row per account, settle units.

    Raises
    ------
    RiskDataError
        A row names an account, market or asset that is not there, breaks a rule of its table, or a shock is not > -1.

    Notes
    -----
    How fills change cost and cash: docs/one_tick.md, "Cost, cash and entry".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> market = "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": [1, 2], "market": market, "quantity": [10.0, -5.0], "entry_price": 200.0})
    >>> balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [80.0, 400.0]})
    >>> accounts = rc.Accounts.from_frames(venue, positions, balances)
    >>> rc.what_if(accounts, venue, {market: 195.0}, shocks=-0.05)
    MarginTable(2 accounts, 1 at 100 % or above, highest MMR infinite)
    >>> paid_in = pd.DataFrame({"account": [1], "asset": "USDC", "quantity": [100.0]})
    >>> rc.what_if(accounts, venue, {market: 195.0}, transfers=paid_in).net_equity.tolist()
    [130.0, 425.0]
    """
    if fills is not None or transfers is not None:
        accounts = changed_accounts(accounts, venue, fills, transfers)
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    if shocks is not None:
        read = _shocked(read, shocks)
    return margin_table(accounts, read, threads=threads)


def changed_accounts(
    accounts: Accounts, venue: Venue, fills: pd.DataFrame | None = None, transfers: pd.DataFrame | None = None
) -> Accounts:
    """Return other accounts: these after fills and transfers, with rows for new positions and balances.

    Parameters
    ----------
    accounts : Accounts
        The state; it stays as it is.
    venue : Venue
        The venue that the accounts were read with, or one of the same units.
    fills, transfers : DataFrame, optional
        As of `what_if`.

    Returns
    -------
    Accounts
        The accounts after the fills and transfers; nobody can write to them.

    Raises
    ------
    RiskDataError
        A row names an account, market or asset that is not there, or breaks a rule of its table.

    Notes
    -----
    How fills change cost and cash: docs/one_tick.md, "Cost, cash and entry".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> bought = pd.DataFrame({"account": [2], "market": market, "quantity": [5.0], "price": [195.0]})
    >>> after = rc.changed_accounts(accounts, venue, fills=bought)
    >>> after
    Accounts(2 accounts, 1 position, 0 open orders, 505.00 USDC in balances)
    >>> after.to_frames().balances["quantity"].tolist()
    [80.0, 425.0]
    """
    must_fit(accounts, venue)
    accounts = copy(accounts)  # of an engine's, which go on
    columns = accounts.columns
    width = len(venue.markets.symbol)
    account, market, lots, flow = _fills(accounts, venue, fills)
    key = np.concatenate([accounts.position_accounts() * width + columns.market, account * width + market])
    key, place = np.unique(key, return_inverse=True)
    held, cost, entry = (np.zeros(len(key), np.int64) for _ in range(3))
    old = place[: len(columns.lots)]
    held[old], cost[old], entry[old] = columns.lots, columns.cost, columns.entry
    owner, new = key // width, place[len(old) :]
    largest = np.abs(held.astype(float))
    np.add.at(largest, new, np.abs(lots.astype(float)))
    most = np.minimum(venue.markets.most_lots, 2**60)[key % width]
    _must_fit("fills", "quantity", fills, (largest > most)[new], f"{_FITS} at the market's maxPrice")
    paid = np.maximum(np.abs(cost.astype(float)), np.abs(entry))
    np.add.at(paid, new, np.abs(flow.astype(float)))
    too_much = np.bincount(owner, paid, 1) >= 2.0**60
    _must_fit("fills", "price", fills, too_much[account], _FITS)
    cash = np.zeros(len(lots), np.int64)
    apply_fills(new, lots, flow, held, cost, entry, cash)
    positions = (owner, key % width, held, cost, entry)

    kinds = len(venue.assets.symbol)
    payer, asset, quanta = _transfers(accounts, venue, transfers)
    payer = np.concatenate([payer, account])
    asset, quanta = np.concatenate([asset, np.full(len(cash), venue.settle)]), np.concatenate([quanta, cash])
    key = np.concatenate([accounts.balance_accounts() * kinds + columns.asset, payer * kinds + asset])
    key, place = np.unique(key, return_inverse=True)
    free, lent = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
    old = place[: len(columns.free)]
    free[old], lent[old] = columns.free, columns.lent
    moved = np.abs(free.astype(float))
    np.add.at(moved, place[len(old) :], np.abs(quanta.astype(float)))
    too_much = (moved >= 2.0**60)[place[len(old) :]]
    _must_fit("transfers", "quantity", transfers, too_much[: len(too_much) - len(cash)], _FITS)
    _must_fit("fills", "price", fills, too_much[len(too_much) - len(cash) :], _FITS)
    np.add.at(free, place[len(old) :], quanta)
    return Accounts.from_rows(
        venue, accounts.ids, positions, (key // kinds, key % kinds, free, lent),
        accounts.orders, accounts.leverage_limit, columns.unsettled, accounts.rounded,
    ).frozen()  # fmt: skip


def largest_orders(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap,
    market: str,
    *,
    account: Sequence[int | str] | int | str | None = None,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
) -> pd.DataFrame:
    """Return the largest further bid and ask in a market with which each account's initial margin ratio stays under 1.

    An order counts as a resting order: all bids of the market filling, or all asks, whichever is worse.

    Parameters
    ----------
    accounts, venue, prices
        As of `sweep`, with a single vector of prices; the market needs one.
    market : str
        Symbol.
    account : int, str or sequence of those, optional
        Account ids; None: all.
    indexes, asset_prices, open_interest
        As of `sweep`, with a single vector of prices.

    Returns
    -------
    DataFrame
        account, market, bid, ask (quantities, whole lots, 0 where the initial margin ratio is 1 or more already).

    Raises
    ------
    RiskDataError
        The market or an account is not there, or a price is missing.

    Notes
    -----
    How orders count: docs/one_tick.md, "Positions and orders".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> print(rc.largest_orders(accounts, venue, {market: 195.0}, market).to_string(index=False))
     account        market    bid    ask
           1 SOL_USDC_PERP   0.00   0.00
           2 SOL_USDC_PERP 113.97 103.97
    """
    must_fit(accounts, venue)
    if not isinstance(market, str) or market not in venue.markets.symbol:
        raise RiskDataError("largest_orders", "market", "must be a market of the venue", value=text_of(market))
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    m = venue.markets.symbol.index(market)
    if np.isnan(read.mark[m]):
        raise RiskDataError("marks", market, "an order is asked for: a mark is needed")
    rows = np.arange(len(accounts))
    if account is not None:
        ids = [account] if isinstance(account, str) or not isinstance(account, Iterable) else list(account)
        rows = np.array([_row_of(accounts, id_, n) for n, id_ in enumerate(ids)], np.int64)
    lots = np.empty((len(rows), 2), np.int64)
    kernels.largest_orders(rows, m, accounts.columns, read.arrays, lots)
    size = venue.markets.quantity(lots, np.full(lots.shape, m))
    return pd.DataFrame({"account": accounts.ids[rows], "market": market, "bid": size[:, 0], "ask": size[:, 1]})


_FITS = "what an account then holds or paid must be less than 2**60 quanta"


def _must_fit(table: str, column: str, frame: pd.DataFrame | None, too_much: npt.NDArray[np.bool_], rule: str) -> None:
    """Refuse the first row of a table that brings amounts to where 64 bits do not hold them with room to spare."""
    if too_much.any():
        assert frame is not None
        row = int(too_much.argmax())
        raise RiskDataError(table, column, rule, row=row, value=frame[column].iloc[row])


def _row_of(accounts: Accounts, account: Any, row: int) -> int:
    try:
        return accounts.row_of(account)
    except KeyError:
        rule = "must be an account of the state"
        raise RiskDataError("largest_orders", "account", rule, row=row, value=text_of(account)) from None


def _rows_of(accounts: Accounts, table: str, ids: pd.Series[Any]) -> Int:
    rows = np.asarray(pd.Index(accounts.ids).get_indexer(pd.Index(ids)), np.int64)
    bad = np.flatnonzero(rows < 0)
    if bad.size:
        value = ids.iloc[bad[0]]
        rule = f"must be an account of the state{nearest(value, accounts.ids)}"
        raise RiskDataError(table, "account", rule, row=int(bad[0]), value=text_of(value))
    return rows


def _fills(accounts: Accounts, venue: Venue, fills: pd.DataFrame | None) -> tuple[Int, Int, Int, Int]:
    """Account row, market row, signed lots and settle quanta received of every fill."""
    if fills is None or not len(fills := frames.as_frame("fills", fills)):
        return (np.empty(0, np.int64),) * 4
    table = schemas.checked("fills", fills)
    account = _rows_of(accounts, "fills", table["account"])
    market = schemas.codes("fills", "market", table["market"], venue.markets.symbol, "a market")
    step, price = units.PerKind(venue.markets.step_size, market), table["price"].to_numpy()
    rule = "must be a whole number of lots of the market's stepSize"
    lots = units.whole("fills", "quantity", table["quantity"].to_numpy(), step, rule)
    bad = np.flatnonzero(lots == 0)
    if bad.size:
        raise RiskDataError("fills", "quantity", "must not be 0", row=int(bad[0]), value=0.0)
    unit = np.broadcast_to(float(venue.settle_quantum), len(lots))
    return account, market, lots, -units.half_even("fills", "price", [price, lots, step], unit)


def _transfers(accounts: Accounts, venue: Venue, transfers: pd.DataFrame | None) -> tuple[Int, Int, Int]:
    """Account row, asset row and signed quanta of every transfer."""
    if transfers is None or not len(transfers := frames.as_frame("transfers", transfers)):
        return (np.empty(0, np.int64),) * 3
    table = schemas.checked("transfers", transfers)
    account = _rows_of(accounts, "transfers", table["account"])
    asset = schemas.codes("transfers", "asset", table["asset"], venue.assets.symbol, "a collateral asset")
    amount, unit = [table["quantity"].to_numpy()], units.PerKind(venue.assets.quantum_size, asset)
    return account, asset, units.half_even("transfers", "quantity", amount, unit)


_SHOCK = Rule(math.nextafter(-1.0, 0.0), LARGEST, "must be a finite number > -1")


def _shocked(prices: Prices, shocks: Shocks) -> Prices:
    """Prices moved by a part of themselves."""
    venue = prices.venue
    markets, assets = venue.markets.symbol, venue.assets.symbol
    names = (*markets, *(a for a in assets if a not in markets))
    if isinstance(shocks, float | int | np.number):
        alike = schemas.figure("shocks", shocks)
        shocks = dict.fromkeys((n for n in names if n != venue.settle_asset), alike)
    rows = {name: row for row, name in enumerate(names)}
    shock = by_symbol("shocks", shocks, rows, "a market or a collateral asset", _SHOCK)
    moved = dict(zip(names, shock.tolist(), strict=True))
    if moved[venue.settle_asset] == moved[venue.settle_asset]:
        raise RiskDataError("shocks", venue.settle_asset, "must not be the settle asset: it is worth 1")
    return prices.moved(1.0 + np.nan_to_num(shock[: len(markets)]), 1.0 + np.array([moved[a] for a in assets]))
