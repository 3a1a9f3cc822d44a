"""The state: positions, balances and open orders of all accounts, in columns grouped by account."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import tables
from .errors import RiskDataError
from .kernels.columns import AccountColumns
from .venue import Venue

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Orders:
    """Open orders (O rows) ascending by account, market, bids first, price. ``lots`` 0 means cancelled."""

    account: Int
    market: Int
    side: Int
    price: Int
    lots: Int
    reduce_only: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Accounts:
    """All accounts in whole numbers: lots of positions, quanta of money.

    Accounts ascend by id, positions of an account by market, balances by asset; every account has a balance of the
    settle asset and every backstop provider a position row in every market, so a liquidation never adds a row.

    Attributes
    ----------
    ids : ndarray, shape (A,)
        The user's account ids, whole numbers or text.
    columns : AccountColumns
        The columns that the kernels read and write; shapes and dtypes there.
    orders : Orders
    leverage_limit : ndarray of float64, shape (A,)
        +inf without a limit.
    rounded : float
        Sum of the absolute amounts, in quanta, that rounding to whole quanta moved at the boundary.
    """

    ids: npt.NDArray[Any]
    columns: AccountColumns
    orders: Orders
    leverage_limit: npt.NDArray[np.float64]
    rounded: float

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_frames(
        cls,
        venue: Venue,
        positions: pd.DataFrame,
        balances: pd.DataFrame,
        orders: pd.DataFrame | None = None,
        settings: pd.DataFrame | None = None,
    ) -> Accounts:
        """Read accounts from tables in natural units.

        Parameters
        ----------
        venue
            The venue whose markets and assets the tables name.
        positions
            account, market, quantity (signed, whole lots), entry_price.
        balances
            account, asset, quantity (negative is borrowed), lent (optional, counts as collateral).
        orders
            account, market, side (bid, ask), price (whole ticks), quantity (whole lots), reduce_only (optional).
        settings
            account, leverage_limit (optional), unsettled (optional, settle units).

        Raises
        ------
        RiskDataError
            A table breaks a rule; the message names table, column, row, value and rule.
        """
        positions = tables.checked("positions", positions)
        balances = tables.checked("balances", balances)
        orders = tables.checked("orders", pd.DataFrame(columns=_ORDERS) if orders is None else orders)
        settings = tables.checked("settings", pd.DataFrame(columns=["account"]) if settings is None else settings)
        ids, owner = _account_rows(venue, positions, balances, orders, settings)
        count = len(ids)
        providers = owner["backstop"]

        # positions, with a row for every market in which the account has an order, and every one for a provider
        market = tables.codes("positions", "market", positions["market"], venue.markets.symbol, "a market")
        step = np.array([float(s) for s in venue.markets.step])
        lots = tables.whole(
            "positions",
            "quantity",
            positions["quantity"].to_numpy(),
            step[market],
            "must be a whole number of lots of the market's stepSize",
        )
        _in_range(venue, "positions", positions["quantity"], market, lots)
        entry = positions["entry_price"].to_numpy()
        quantum = np.array([float(q) for q in venue.assets.quantum])
        cost = tables.half_even(
            "positions",
            "quantity",
            [lots.astype(float), step[market], entry],
            np.full(len(lots), quantum[venue.settle]),
        )
        order_market = tables.codes("orders", "market", orders["market"], venue.markets.symbol, "a market")
        markets = len(venue.markets.symbol)
        key = np.concatenate(
            [
                owner["positions"] * markets + market,
                owner["orders"] * markets + order_market,
                (providers[:, None] * markets + np.arange(markets)).ravel(),
            ]
        )
        key, place = np.unique(key, return_inverse=True)
        place = place[: len(lots)]
        position_lots, position_cost = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
        position_lots[place], position_cost[place] = lots, cost
        position_account, position_market = key // markets, key % markets

        # balances, with a row of the settle asset for every account
        asset = tables.codes("balances", "asset", balances["asset"], venue.assets.symbol, "a collateral asset")
        assets = len(venue.assets.symbol)
        key = np.concatenate([owner["balances"] * assets + asset, np.arange(count) * assets + venue.settle])
        key, place = np.unique(key, return_inverse=True)
        place = place[: len(asset)]
        free, lent = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
        rounded = 0.0
        for name, into in (("quantity", free), ("lent", lent)):
            if name in balances.columns:
                amount = balances[name].to_numpy()
                into[place] = tables.half_even("balances", name, [amount], quantum[asset])
                rounded += float(np.abs(amount / quantum[asset] - into[place]).sum())
        balance_account, balance_asset = key // assets, key % assets

        book = _orders(venue, orders, owner["orders"], order_market, step)
        leverage, unsettled = np.full(count, np.inf), np.zeros(count, np.int64)
        if "leverage_limit" in settings.columns:
            leverage[owner["settings"]] = settings["leverage_limit"].fillna(np.inf).to_numpy()
        if "unsettled" in settings.columns:
            unsettled[owner["settings"]] = tables.half_even(
                "settings",
                "unsettled",
                [settings["unsettled"].to_numpy()],
                np.full(len(settings), quantum[venue.settle]),
            )
        return cls.from_rows(
            venue,
            ids,
            (position_account, position_market, position_lots, position_cost),
            (balance_account, balance_asset, free, lent),
            book,
            leverage,
            unsettled,
            rounded,
        )

    @classmethod
    def from_rows(
        cls,
        venue: Venue,
        ids: npt.NDArray[Any],
        positions: tuple[Int, Int, Int, Int],
        balances: tuple[Int, Int, Int, Int],
        orders: Orders,
        leverage_limit: npt.NDArray[np.float64],
        unsettled: Int,
        rounded: float = 0.0,
    ) -> Accounts:
        """Build the columns from whole-number rows in canonical order: (account, market, lots, cost) and so on."""
        count = len(ids)
        owner, market, lots, cost = positions
        holder, asset, free, lent = balances
        edges = np.arange(count + 1)
        width = len(venue.markets.symbol)
        row = np.searchsorted(owner * width + market, orders.account * width + orders.market)
        counted = ~orders.reduce_only
        sums = []
        for side in (1, -1):
            total = np.zeros(len(lots), np.int64)
            chosen = counted & (orders.side == side)
            np.add.at(total, row[chosen], orders.lots[chosen])
            sums.append(total)
        account_cost = np.zeros(count, np.int64)
        np.add.at(account_cost, owner, cost)
        columns = AccountColumns(
            position_offset=np.searchsorted(owner, edges).astype(np.uint32),
            market=market.astype(np.uint16),
            lots=lots,
            open_bid=sums[0],
            open_ask=sums[1],
            cost=cost,
            balance_offset=np.searchsorted(holder, edges).astype(np.uint32),
            asset=asset.astype(np.uint16),
            free=free,
            lent=lent,
            settle_row=np.flatnonzero(asset == venue.settle).astype(np.uint32),
            account_cost=account_cost,
            open_orders=np.bincount(orders.account[orders.lots > 0], minlength=count).astype(np.uint32),
            unsettled=unsettled,
            leverage_fraction=1.0 / leverage_limit,
        )
        return cls(ids, columns, orders, leverage_limit, rounded)

    def copy(self) -> Accounts:
        """Return an independent copy of every column that a liquidation changes."""
        c = self.columns
        columns = c._replace(
            **{
                name: getattr(c, name).copy()
                for name in (
                    "lots",
                    "open_bid",
                    "open_ask",
                    "cost",
                    "free",
                    "lent",
                    "account_cost",
                    "open_orders",
                    "unsettled",
                )
            }
        )
        orders = Orders(**{f.name: getattr(self.orders, f.name).copy() for f in fields(Orders)})
        return Accounts(self.ids, columns, orders, self.leverage_limit, self.rounded)

    def position_accounts(self) -> Int:
        """Account row of every position row, shape (P,)."""
        return _owners(self.columns.position_offset)

    def balance_accounts(self) -> Int:
        """Account row of every balance row, shape (B,)."""
        return _owners(self.columns.balance_offset)

    def positions_of(self, account: int) -> range:
        """Position rows of an account."""
        offset = self.columns.position_offset
        return range(int(offset[account]), int(offset[account + 1]))

    def balances_of(self, account: int) -> range:
        """Balance rows of an account."""
        offset = self.columns.balance_offset
        return range(int(offset[account]), int(offset[account + 1]))

    def position_row(self, account: int, market: int) -> int:
        """Position row of an account in a market that it has a row of."""
        rows = self.positions_of(account)
        return rows.start + int(np.searchsorted(self.columns.market[rows.start : rows.stop], market))

    def row_of(self, account: int | str) -> int:
        """Account row of a user's id.

        Raises
        ------
        KeyError
            There is no such account.
        """
        found = np.flatnonzero(self.ids == account)
        if not found.size:
            raise KeyError(account)
        return int(found[0])


def _owners(offset: npt.NDArray[np.uint32]) -> Int:
    """Account row of every row that the offsets group."""
    return np.repeat(np.arange(len(offset) - 1), offset[1:] - offset[:-1])


_ORDERS = ["account", "market", "side", "price", "quantity"]


def _account_rows(
    venue: Venue, positions: pd.DataFrame, balances: pd.DataFrame, orders: pd.DataFrame, settings: pd.DataFrame
) -> tuple[npt.NDArray[Any], dict[str, Int]]:
    """All account ids, ascending, and for each table the account row of each of its rows."""
    named = {"positions": positions, "balances": balances, "orders": orders, "settings": settings}
    texts: bool | None = None
    for name, table in named.items():
        if not len(table):
            continue
        account = table["account"]
        if pd.api.types.is_integer_dtype(account.dtype):
            text = False
        else:
            odd = np.flatnonzero(~account.map(lambda value: isinstance(value, str)))
            if odd.size:
                raise RiskDataError(
                    name,
                    "account",
                    "must be a whole number in every row or text in every row",
                    row=int(odd[0]),
                    value=account.iloc[odd[0]],
                )
            text = True
        if texts is not None and text != texts:
            raise RiskDataError(
                name,
                "account",
                "must be of one kind, whole number or text, in all tables",
                row=0,
                value=account.iloc[0],
            )
        texts = text
    if texts is None:
        raise RiskDataError("balances", None, "must have at least one row")
    kind = object if texts else np.int64
    listed = [t["account"].to_numpy(kind) if len(t) else np.empty(0, kind) for t in named.values()]
    ids, rows = np.unique(np.concatenate(listed), return_inverse=True)
    ends = np.cumsum([len(t) for t in named.values()])[:-1]
    owner = dict(zip(named, np.split(rows.astype(np.int64), ends), strict=True))
    backstop = []
    for at, provider in enumerate(venue.backstop):
        found = np.flatnonzero(ids == provider.account)
        if not found.size:
            raise RiskDataError(
                "venue",
                f"backstop[{at}].account",
                "must have a row in balances or positions",
                value=str(provider.account),
            )
        backstop.append(int(found[0]))
    owner["backstop"] = np.array(backstop, np.int64)
    return ids, owner


def _in_range(venue: Venue, table: str, quantity: pd.Series[float], market: Int, lots: Int) -> None:
    """Refuse a position whose worth at the market's highest price would not fit 64 bits with room to spare."""
    worth = venue.markets.max_ticks * np.maximum(venue.markets.value_num, 1)
    bad = np.flatnonzero(np.abs(lots) >= 2**60 // worth[market])
    if bad.size:
        raise RiskDataError(
            table,
            "quantity",
            "must be worth less than 2**60 settle quanta at the market's maxPrice",
            row=int(bad[0]),
            value=quantity.iloc[bad[0]],
        )


def _orders(venue: Venue, table: pd.DataFrame, account: Int, market: Int, step: npt.NDArray[np.float64]) -> Orders:
    lots = tables.whole(
        "orders",
        "quantity",
        table["quantity"].to_numpy(float),
        step[market],
        "must be a whole number of lots of the market's stepSize",
    )
    _in_range(venue, "orders", table["quantity"], market, lots)
    tick = np.array([float(t) for t in venue.markets.tick])
    price = tables.whole(
        "orders",
        "price",
        table["price"].to_numpy(float),
        tick[market],
        "must be a whole number of ticks of the market's tickSize",
    )
    side = np.where(table["side"].to_numpy(object) == "bid", 1, -1).astype(np.int64)
    reduce_only = np.zeros(len(table), bool)
    if "reduce_only" in table.columns:
        reduce_only = table["reduce_only"].to_numpy(bool)
    order = np.lexsort((price, -side, market, account))
    return Orders(account[order], market[order], side[order], price[order], lots[order], reduce_only[order])
