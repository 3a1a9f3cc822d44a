"""Positions and balances of the accounts of a run at any row of its journal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Bool, Float, Int
from ..record import Rows, follow_orders
from ..state import Accounts, Orders
from ..venue import Venue


@dataclass
class Holdings:
    """Whole-number columns of accounts, to which journal rows are applied.

    Attributes
    ----------
    start : Accounts
        The accounts that the run started from.
    venue : Venue
    lots, cost, entry : ndarray of int64, shape (P,)
        Of each position row.
    free, lent, unsettled : ndarray of int64, shape (B,)
        Of each balance row.
    order_lots, order_price : ndarray of int64, shape (O,)
        Lots of each order, 0 while it is not open, and its limit price in ticks.
    """

    start: Accounts
    venue: Venue
    lots: Int
    cost: Int
    entry: Int
    free: Int
    lent: Int
    unsettled: Int
    order_lots: Int
    order_price: Int
    _position_key: Int
    _balance_key: Int

    @classmethod
    def of(cls, start: Accounts, venue: Venue) -> Holdings:
        """Copy the columns of the accounts."""
        columns = start.columns
        copied = (columns.lots, columns.cost, columns.entry, columns.free, columns.lent, columns.unsettled)
        keys = (
            start.position_accounts().astype(np.int64) * start.market_count + columns.market,
            start.balance_accounts().astype(np.int64) * start.asset_count + columns.asset,
        )
        lots, cost, entry, free, lent, unsettled = (column.copy() for column in copied)
        orders = start.orders.lots.copy(), start.orders.price.copy()
        return cls(start, venue, lots, cost, entry, free, lent, unsettled, *orders, *keys)

    def apply(self, rows: Rows, of_account: Bool | None = None, of_counterparty: Bool | None = None) -> None:
        """Apply the changes that journal rows made.

        Parameters
        ----------
        rows
            Journal rows.
        of_account, of_counterparty
            Whether each row, shape (R,), is to be applied to its account, and to its counterparty; all by default.
        """
        everything = np.ones(len(rows), bool)
        one = rows[(everything if of_account is None else of_account) & (rows["account"] >= 0)]
        other = rows[(everything if of_counterparty is None else of_counterparty) & (rows["counterparty"] >= 0)]
        for side, owner, lots, cost, entry, cash, unsettled, quanta, lent in (
            (one, "account", one["lots"], one["cost"], one["entry"], one["cash"] - one["fee"], one["unsettled"],
             one["quanta"], one["lent"]),
            (other, "counterparty", -other["lots"], other["counter_cost"], other["counter_entry"],
             other["counter_cash"], 0, -(other["quanta"] + other["lent"]), np.zeros(len(other), np.int64)),
        ):  # fmt: skip
            account, settle = side[owner], side["settle"]
            row = self.start.columns.settle_row[account].astype(np.int64)
            extra = (settle >= 0) & (settle != self.venue.settle)
            row[extra] = np.searchsorted(self._balance_key, (account * self.start.asset_count + settle)[extra])
            np.add.at(self.free, row, cash)
            np.add.at(self.unsettled, row, unsettled)
            # a row of an order, a spot book or a refusal names a market or an asset and changes no holding
            changed = (side["market"] >= 0) & ((lots != 0) | (cost != 0) | (entry != 0))
            row = np.searchsorted(self._position_key, account * self.start.market_count + side["market"])[changed]
            for column, change in ((self.lots, lots), (self.cost, cost), (self.entry, entry)):
                np.add.at(column, row, change[changed])
            changed = (side["asset"] >= 0) & ((quanta != 0) | (lent != 0))
            row = np.searchsorted(self._balance_key, account * self.start.asset_count + side["asset"])[changed]
            for column, change in ((self.free, quanta), (self.lent, lent)):
                np.add.at(column, row, change[changed])
        follow_orders(self.order_lots, self.order_price, one, self.venue.markets.tick_size)

    def accounts(self) -> Accounts:
        """Return the accounts as they are now."""
        start, columns = self.start, self.start.columns
        return Accounts.from_rows(
            self.venue, start.ids,
            (start.position_accounts(), columns.market, self.lots.copy(), self.cost.copy(), self.entry.copy()),
            (start.balance_accounts(), columns.asset, self.free.copy(), self.lent.copy(), self.unsettled.copy()),
            self._orders(), start.leverage_limit, start.rounded, start.owner_ids, start.opened,
        ).frozen()  # fmt: skip

    def _orders(self) -> Orders:
        orders = self.start.orders
        columns = orders.columns._replace(lots=self.order_lots.copy(), price=self.order_price.copy())
        return Orders(columns, orders.ids, orders.first)


def market_value(accounts: Accounts, venue: Venue, tick: Int, lot_value: Float, quantum_value: Float) -> Float:
    """Settle units that accounts are worth at market prices, collateral without a haircut.

    Parameters
    ----------
    accounts
        The accounts.
    venue
        Their venue.
    tick
        Tick whose prices value each account, shape (N,).
    lot_value, quantum_value
        Settle units per lot of each market and per quantum of each asset at every tick, shapes (T, M) and (T, K).

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    columns, count = accounts.columns, len(accounts)
    money = columns.unsettled - columns.balance_cost
    value: Float = money[columns.settle_row].astype(np.float64) * float(venue.settle_quantum)
    quanta = columns.free + columns.lent + np.where(columns.asset != venue.settle, money, 0)
    for owner, item, size, price in (
        (accounts.position_accounts(), columns.market, columns.lots, lot_value),
        (accounts.balance_accounts(), columns.asset, quanta, quantum_value),
    ):
        row = np.flatnonzero(size)
        value += np.bincount(owner[row], size[row] * price[tick[owner[row]], item[row]], count)
    return value
