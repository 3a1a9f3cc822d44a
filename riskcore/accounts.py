"""The state: positions, balances and open orders of all accounts, in columns grouped by account."""

from __future__ import annotations

from bisect import bisect_left
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
Rows = tuple[Int, Int, Int, Int]
PositionRows = tuple[Int, Int, Int, Int, Int]


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
            account, market, quantity (signed, whole lots), entry_price, settle_price (optional: the mark at which PnL
            was last realised, the entry price where it never was).
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
        book = _orders(venue, orders, owner["orders"])
        quanta, rounded = _balances(venue, balances, owner["balances"], len(ids), owner["backstop"])
        leverage_limit, unsettled = _settings(venue, settings, owner["settings"], len(ids))
        lots = _positions(venue, positions, owner["positions"], book, owner["backstop"])
        return cls.from_rows(venue, ids, lots, quanta, book, leverage_limit, unsettled, rounded)

    @classmethod
    def from_rows(
        cls,
        venue: Venue,
        ids: npt.NDArray[Any],
        positions: PositionRows,
        balances: Rows,
        orders: Orders,
        leverage_limit: npt.NDArray[np.float64],
        unsettled: Int,
        rounded: float = 0.0,
    ) -> Accounts:
        """Build the columns from whole-number rows in canonical order: account, market, lots, cost, entry and so on."""
        count = len(ids)
        owner, market, lots, cost, entry = positions
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
            entry=entry,
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
                    "entry",
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

    def in_debt(self, accounts: Int) -> npt.NDArray[np.bool_]:
        """Whether each of the accounts has borrowed anything."""
        rows, counts = _rows_of(self.columns.balance_offset, accounts)
        owner = np.repeat(np.arange(len(accounts)), counts)
        return np.asarray(np.bincount(owner, self.columns.free[rows] < 0, len(accounts)) > 0)

    def position_rows(self, accounts: Int) -> tuple[Int, Int]:
        """Position rows of the accounts, one account after another, and the number of each."""
        return _rows_of(self.columns.position_offset, accounts)

    def position_row(self, account: int, market: int) -> int:
        """Position row of an account in a market that it has a row of."""
        rows = self.positions_of(account)
        return rows.start + int(np.searchsorted(self.columns.market[rows.start : rows.stop], market))

    def balance_row(self, account: int, asset: int) -> int:
        """Balance row of an account in an asset that it has a row of."""
        rows = self.balances_of(account)
        return rows.start + int(np.searchsorted(self.columns.asset[rows.start : rows.stop], asset))

    def row_of(self, account: int | str) -> int:
        """Account row of a user's id.

        Raises
        ------
        KeyError
            There is no such account.
        """
        try:
            row = bisect_left(self.ids, account)
        except TypeError:  # text among whole numbers, or the other way round
            raise KeyError(account) from None
        if row == len(self) or self.ids[row] != account:
            raise KeyError(account)
        return row


def _rows_of(offset: npt.NDArray[np.uint32], accounts: Int) -> tuple[Int, Int]:
    """Rows that some accounts own, one account after another, and the number of each."""
    first = offset[accounts].astype(np.int64)
    counts = offset[accounts + 1] - first
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(first, counts) + within, counts


def _owners(offset: npt.NDArray[np.uint32]) -> Int:
    """Account row of every row that the offsets group."""
    return np.repeat(np.arange(len(offset) - 1), offset[1:] - offset[:-1])


_ORDERS = ["account", "market", "side", "price", "quantity"]


def _account_rows(
    venue: Venue, positions: pd.DataFrame, balances: pd.DataFrame, orders: pd.DataFrame, settings: pd.DataFrame
) -> tuple[npt.NDArray[Any], dict[str, Int]]:
    """All account ids, ascending; and the account row of each row of each table, and of each backstop provider."""
    named = {"positions": positions, "balances": balances, "orders": orders, "settings": settings}
    filled = {name: table["account"] for name, table in named.items() if len(table)}
    if not filled:
        raise RiskDataError("balances", None, "must have at least one row")
    kinds = {name: account.dtype == np.int64 for name, account in filled.items()}
    for name, kind in kinds.items():
        if kind != next(iter(kinds.values())):
            rule = "must be of one kind, whole number or text, in all tables"
            raise RiskDataError(name, "account", rule, row=0, value=filled[name].iloc[0])
    ids, rows = np.unique(np.concatenate([account.to_numpy() for account in filled.values()]), return_inverse=True)
    ends = np.cumsum([len(table) for table in named.values()])[:-1]
    owner = dict(zip(named, np.split(rows.astype(np.int64), ends), strict=True))
    backstop = []
    for at, provider in enumerate(venue.backstop):
        found = np.flatnonzero(ids == provider.account)
        if not found.size:
            rule = "must have a row in balances or positions"
            raise RiskDataError("venue", f"backstop[{at}].account", rule, value=str(provider.account))
        backstop.append(int(found[0]))
    return ids, owner | {"backstop": np.array(backstop, np.int64)}


def worth_of_lots(venue: Venue) -> Int:
    """Settle quanta that a lot of each market is worth at its highest price, or more."""
    return venue.markets.max_ticks * np.maximum(venue.markets.value_num, 1)


def _lots(venue: Venue, name: str, table: pd.DataFrame, market: Int) -> Int:
    """Quantities in whole lots, small enough for their worth at the highest price to fit 64 bits with room to spare."""
    quantity = table["quantity"].to_numpy(float)
    rule = "must be a whole number of lots of the market's stepSize"
    lots = tables.whole(name, "quantity", quantity, venue.markets.step_size[market], rule)
    bad = np.flatnonzero(np.abs(lots) > (2**60 - 1) // worth_of_lots(venue)[market])
    if bad.size:
        rule = "must be worth less than 2**60 settle quanta at the market's maxPrice"
        raise RiskDataError(name, "quantity", rule, row=int(bad[0]), value=quantity[bad[0]])
    return lots


def _positions(venue: Venue, table: pd.DataFrame, owner: Int, orders: Orders, providers: Int) -> PositionRows:
    """Position rows; also for a market in which the account has only an order, and of a provider for every market."""
    market = tables.codes("positions", "market", table["market"], venue.markets.symbol, "a market")
    lots = _lots(venue, "positions", table, market)
    paid = {"entry_price": table["entry_price"].to_numpy()}
    if "settle_price" in table.columns:
        paid["settle_price"] = table["settle_price"].fillna(table["entry_price"]).to_numpy()
    quanta = []
    for name, price in paid.items():
        factors = [price, lots.astype(float), venue.markets.step_size[market]]
        quanta.append(tables.half_even("positions", name, factors, np.full(len(lots), float(venue.settle_quantum))))
        total = np.bincount(owner, np.abs(quanta[-1].astype(float)), 1)
        bad = np.flatnonzero(total[owner] >= 2.0**60)
        if bad.size:
            rule = "what the account paid for its positions must be less than 2**60 settle quanta"
            raise RiskDataError("positions", name, rule, row=int(bad[0]), value=price[bad[0]])
    width = len(venue.markets.symbol)
    bad = np.flatnonzero(np.bincount(market, np.abs(lots).astype(float), width)[market] >= 2.0**61)
    if bad.size:
        rule = "all positions in a market must be less than 2**61 lots"
        raise RiskDataError("positions", "quantity", rule, row=int(bad[0]), value=table["quantity"].iloc[bad[0]])
    everywhere = (providers[:, None] * width + np.arange(width)).ravel()
    key = np.concatenate([owner * width + market, orders.account * width + orders.market, everywhere])
    key, place = np.unique(key, return_inverse=True)
    columns = []
    for values in (lots, quanta[-1], quanta[0]):
        columns.append(np.zeros(len(key), np.int64))
        columns[-1][place[: len(lots)]] = values
    return key // width, key % width, columns[0], columns[1], columns[2]


def _balances(venue: Venue, table: pd.DataFrame, owner: Int, accounts: int, providers: Int) -> tuple[Rows, float]:
    """Balance rows, with one of settle for every account and of all for a provider; and what rounding moved, quanta."""
    asset = tables.codes("balances", "asset", table["asset"], venue.assets.symbol, "a collateral asset")
    width = len(venue.assets.symbol)
    everything = (providers[:, None] * width + np.arange(width)).ravel()
    key = np.concatenate([owner * width + asset, np.arange(accounts) * width + venue.settle, everything])
    key, place = np.unique(key, return_inverse=True)
    free, lent = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
    quantum = venue.assets.quantum_size[asset]
    rounded = 0.0
    for name, into in (("quantity", free), ("lent", lent)):
        if name in table.columns:
            amount = table[name].to_numpy()
            quanta = tables.half_even("balances", name, [amount], quantum)
            rounded += float(np.abs(amount / quantum - quanta).sum())
            into[place[: len(asset)]] = quanta
    return (key // width, key % width, free, lent), rounded


def _settings(venue: Venue, table: pd.DataFrame, owner: Int, accounts: int) -> tuple[npt.NDArray[np.float64], Int]:
    """Leverage limit (+inf without one) and unsettled quanta of every account."""
    leverage_limit, unsettled = np.full(accounts, np.inf), np.zeros(accounts, np.int64)
    if "leverage_limit" in table.columns:
        leverage_limit[owner] = table["leverage_limit"].fillna(np.inf).to_numpy()
    if "unsettled" in table.columns:
        quantum = np.full(len(table), float(venue.settle_quantum))
        unsettled[owner] = tables.half_even("settings", "unsettled", [table["unsettled"].to_numpy()], quantum)
    return leverage_limit, unsettled


def _orders(venue: Venue, table: pd.DataFrame, account: Int) -> Orders:
    """Open orders in canonical order."""
    market = tables.codes("orders", "market", table["market"], venue.markets.symbol, "a market")
    lots = _lots(venue, "orders", table, market)
    rule = "must be a whole number of ticks of the market's tickSize"
    price = tables.whole("orders", "price", table["price"].to_numpy(float), venue.markets.tick_size[market], rule)
    for column, unit, values in (("price", "tick", price), ("quantity", "lot", lots)):
        bad = np.flatnonzero(values < 1)
        if bad.size:
            row = int(bad[0])
            raise RiskDataError(
                "orders", column, f"must be at least one {unit}", row=row, value=table[column].iloc[row]
            )
    side = np.where(table["side"].to_numpy(object) == "bid", 1, -1).astype(np.int64)
    reduce_only = np.zeros(len(table), bool)
    if "reduce_only" in table.columns:
        reduce_only = table["reduce_only"].to_numpy(bool)
    order = np.lexsort((price, -side, market, account))
    return Orders(account[order], market[order], side[order], price[order], lots[order], reduce_only[order])
