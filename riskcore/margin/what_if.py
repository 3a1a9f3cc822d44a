"""Hypothetical margins: after fills, transfers and price shocks, and the largest order that an account may place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from .._limits import LARGEST
from .._typing import Int
from ..boundary import RiskDataError, as_text, schemas
from ..market import PriceMap, Prices, Rule, Tick, by_symbol
from ..state import Accounts, must_fit
from ..venue import Venue
from .model import model_of
from .sweep import MarginTable, margin_table

Shocks: TypeAlias = "PriceMap | float"


def what_if(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap | Tick,
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
    fills, transfers : DataFrame, optional
        As of `Accounts.with_fills`.
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
    must_fit(accounts, venue)
    if fills is not None or transfers is not None:
        accounts = accounts.with_fills(venue, fills, transfers)
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    if shocks is not None:
        read = _shocked(read, shocks)
    return margin_table(accounts, read, threads=threads)


def largest_orders(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap | Tick,
    market: str,
    *,
    account: Sequence[int | str] | int | str | None = None,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
) -> pd.DataFrame:
    """Return the largest further bid and ask in a market with which each account's initial margin ratio stays under 1.

    An order counts as a resting order: all bids of the market filling, or all asks, whichever is worse. With the
    scenario model it is an order at the mark, which adds its loss to each scenario and never a gain.

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
        raise RiskDataError("largest_orders", "market", "must be a market of the venue", value=as_text(market))
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    m = venue.markets.symbol.index(market)
    if np.isnan(read.mark[m]):
        raise RiskDataError("marks", market, "the order needs a mark")
    rows = rows_of("largest_orders", accounts, account)
    lots = model_of(venue).largest_orders(accounts, rows, m, read)
    size = venue.markets.quantity(lots, np.full(lots.shape, m))
    return pd.DataFrame({"account": accounts.ids[rows], "market": market, "bid": size[:, 0], "ask": size[:, 1]})


def rows_of(function: str, accounts: Accounts, account: Any) -> Int:
    """Rows of one account or several by id, of all for None; ``function`` is the one that was called."""
    if account is None:
        return np.arange(len(accounts))
    ids = [account] if isinstance(account, str) or not isinstance(account, Iterable) else list(account)
    rows = np.empty(len(ids), np.int64)
    for n, id_ in enumerate(ids):
        try:
            rows[n] = accounts.row_of(id_)
        except KeyError:
            rule = "must be an account of the state"
            raise RiskDataError(function, "account", rule, row=n, value=as_text(id_)) from None
    return rows


_SHOCK = Rule(math.nextafter(-1.0, 0.0), LARGEST, "must be a finite number > -1")


def _shocked(prices: Prices, shocks: Shocks) -> Prices:
    """Prices after relative shocks."""
    venue = prices.venue
    markets, assets = venue.markets.symbol, venue.assets.symbol
    underlyings = () if prices.scenario is None else venue.instruments.underlyings
    names = tuple(dict.fromkeys((*markets, *assets, *underlyings)))
    options = {markets[m] for m in np.flatnonzero(venue.markets.is_option)}
    if isinstance(shocks, float | int | np.number):
        alike = schemas.figure("shocks", shocks)
        shocks = dict.fromkeys((n for n in names if n != venue.settle_asset and n not in options), alike)
    rows = {name: row for row, name in enumerate(names)}
    what = "a market, a collateral asset or an underlying" if underlyings else "a market or a collateral asset"
    shock = by_symbol("shocks", shocks, rows, what, _SHOCK)
    moved = dict(zip(names, shock.tolist(), strict=True))
    if moved[venue.settle_asset] == moved[venue.settle_asset]:
        raise RiskDataError("shocks", venue.settle_asset, "must not be the settle asset: it is worth 1")
    for name in options:
        if moved[name] == moved[name]:
            raise RiskDataError("shocks", name, "must not be an option: it has its value when its underlying has moved")
    market, asset, underlying = (1.0 + np.array([moved[n] for n in each]) for each in (markets, assets, underlyings))
    return prices.moved(market, asset, underlying)
