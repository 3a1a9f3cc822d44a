"""Writes accounts as the tables of users, in natural units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float, Int
from ..boundary import natural
from ..venue import Units
from .rows import costs

if TYPE_CHECKING:
    from .accounts import Accounts

_SIDE_NAMES = np.array([None, "bid", "ask"], object)


class AccountFrames(NamedTuple):
    """Accounts as `Accounts.from_frames` takes them: ``Accounts.from_frames(venue, *frames)``.

    Attributes
    ----------
    positions : DataFrame
        account, market, quantity, entry_price; settle_price where PnL was realised since the entry.
    balances : DataFrame
        account, asset, quantity, lent.
    orders : DataFrame
        account, market, side, price, quantity, reduce_only; order where an id is not the number of the row.
    settings : DataFrame
        account, leverage_limit (NaN: none), unsettled (settle units), of accounts that have one of the two or another
        owner; owner where an account has another one than itself.

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> frames = accounts.to_frames()
    >>> frames.positions["quantity"].tolist(), list(frames.settings.columns)
    ([10.0, -5.0], ['account', 'leverage_limit', 'unsettled'])
    """

    positions: pd.DataFrame
    balances: pd.DataFrame
    orders: pd.DataFrame
    settings: pd.DataFrame


def to_frames(accounts: Accounts) -> AccountFrames:
    """Return the frames of `Accounts.to_frames`."""
    return AccountFrames(_positions(accounts), _balances(accounts), _orders(accounts), _settings(accounts))


def _names(symbols: tuple[str, ...], row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.array(symbols, object)[row])


def _positions(accounts: Accounts) -> pd.DataFrame:
    columns, venue_units = accounts.columns, accounts.units
    row = np.flatnonzero(columns.lots)
    market, lots = columns.market[row].astype(np.int64), columns.lots[row]
    quantity = natural(lots, venue_units.steps, market)
    price = {}
    for name, paid in (("entry_price", columns.entry[row]), ("settle_price", columns.cost[row])):
        price[name] = average_prices(venue_units, paid, lots, market)
    never = (columns.cost[row] == columns.entry[row]) | venue_units.options[market]
    price["settle_price"] = np.where(never, np.nan, price["settle_price"])
    if np.isnan(price["settle_price"]).all():
        del price["settle_price"]
    owner = accounts.ids[accounts.position_accounts()[row]]
    return pd.DataFrame({"account": owner, "market": _names(venue_units.markets, market), "quantity": quantity} | price)


def average_prices(venue_units: Units, paid: Int, lots: Int, market: Int) -> Float:
    """Return the average price at which quanta were paid for positions: whole ticks where these give ``paid``.

    Parameters
    ----------
    venue_units : Units
        Of the venue.
    paid : ndarray of int64, shape (n,)
        Quanta of the markets' settle assets.
    lots : ndarray of int64, shape (n,)
        Not 0.
    market : ndarray of int, shape (n,)
        Market rows.

    Returns
    -------
    ndarray of float64, shape (n,)
        Quote units.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.state import average_prices
    >>> venue = rc.load_venue("backpack")
    >>> market = np.array([venue.markets.row["SOL_USDC_PERP"]])
    >>> average_prices(venue.units, np.array([2_000_000_000]), np.array([1_000]), market).tolist()
    [200.0]
    """
    step, multiplier, quantum = (size[market] for size in venue_units.market_sizes)
    value = np.abs(lots) * step * multiplier / quantum  # quanta at a price of 1
    # less than half a quantum was paid, rounded to none: any such price gives the same amount
    amount = np.where(paid == 0, 0.25, np.abs(paid))
    price = np.where(np.array(venue_units.inverse)[market], value / amount, amount / value)
    ticks = np.array([float(tick) for tick in venue_units.ticks])
    on_tick = natural(np.maximum(np.rint(price / ticks[market]), 1).astype(np.int64), venue_units.ticks, market)
    read = costs("positions", "entry_price", on_tick, lots, market, venue_units)
    return np.where(read == paid, on_tick, price)


def _balances(accounts: Accounts) -> pd.DataFrame:
    columns, venue_units = accounts.columns, accounts.units
    settle = np.zeros(len(columns.free), bool)
    settle[columns.settle_row] = True  # every account has a row
    row = np.flatnonzero((columns.free != 0) | (columns.lent != 0) | settle)
    asset = columns.asset[row].astype(np.int64)
    return pd.DataFrame(
        {
            "account": accounts.ids[accounts.balance_accounts()[row]],
            "asset": _names(venue_units.assets, asset),
            "quantity": natural(columns.free[row], venue_units.quanta, asset),
            "lent": natural(columns.lent[row], venue_units.quanta, asset),
        }
    )


def _orders(accounts: Accounts) -> pd.DataFrame:
    orders, venue_units = accounts.orders, accounts.units
    row = orders.in_order(np.flatnonzero(orders.lots))
    market = orders.market[row]
    frame = pd.DataFrame(
        {
            "account": accounts.ids[orders.account[row]],
            "market": _names(venue_units.markets, market),
            "side": _SIDE_NAMES[orders.side[row]],
            "price": natural(orders.price[row], venue_units.ticks, market),
            "quantity": natural(orders.lots[row], venue_units.steps, market),
            "reduce_only": orders.reduce_only[row],
        }
    )
    ids = [orders.id_of(number) for number in row.tolist()]
    return frame if ids == list(map(str, range(len(ids)))) else frame.assign(order=ids)


def _settings(accounts: Accounts) -> pd.DataFrame:
    venue_units, columns, limit = accounts.units, accounts.columns, accounts.leverage_limit
    unsettled = columns.unsettled[columns.settle_row]
    row = np.flatnonzero((unsettled != 0) | np.isfinite(limit) | (accounts.owners != accounts.ids))
    settle = np.full(len(row), venue_units.assets.index(venue_units.settle_asset))
    frame = pd.DataFrame(
        {
            "account": accounts.ids[row],
            "leverage_limit": np.where(np.isfinite(limit[row]), limit[row], np.nan),
            "unsettled": natural(unsettled[row], venue_units.quanta, settle),
        }
    )
    return frame if accounts.owner_ids is None else frame.assign(owner=accounts.owners[row])
