"""A market is delisted: its open orders are cancelled, and its positions are settled at one price."""

from __future__ import annotations

import numpy as np

from .boundary import exact
from .context import TickContext
from .record import BOOK, EVENT, REASON


def delist(work: TickContext, market: int, price: float) -> None:
    """Cancel the open orders of a market and settle its positions, without a fee; the market is delisted from then on.

    Parameters
    ----------
    work
        The state, which changes, and the journal, which gets the rows: those of the orders and then those of the
        positions, by account.
    market
        Row of the market.
    price
        Settlement price, units of the market's quote.

    Notes
    -----
    The rule: docs/one_tick.md, "Delisting".
    """
    _cancel_orders(work, market)
    _settle_positions(work, market, price)
    work.ledger.delisted[market] = True


def _cancel_orders(work: TickContext, market: int) -> None:
    accounts, orders, columns = work.accounts, work.accounts.orders, work.accounts.columns
    row = orders.in_order(np.flatnonzero((orders.market == market) & (orders.lots > 0)))
    row = row[accounts.by_id(orders.account[row])]
    owner, lots = orders.account[row], orders.lots[row]
    rows = work.journal.block(len(row))
    rows["event"], rows["reason"], rows["account"] = EVENT["cancel"], REASON["delisted"], owner
    rows["market"], rows["order"], rows["requested"] = market, row, lots
    work.journal.extend(rows)
    orders.lots[row] = 0
    np.subtract.at(columns.open_orders, owner, 1)
    position = accounts.rows_with("position", owner, np.full(len(row), market))
    for side, column in ((1, columns.open_bid), (-1, columns.open_ask)):
        counted = (orders.side[row] == side) & ~orders.reduce_only[row]
        np.subtract.at(column, position[counted], lots[counted])


def _settle_positions(work: TickContext, market: int, price: float) -> None:
    accounts, columns, venue = work.accounts, work.accounts.columns, work.venue
    settle = int(venue.markets.settle[market])
    position = np.flatnonzero((columns.market == market) & (columns.lots != 0))
    owner = accounts.position_accounts()[position]
    by_id = accounts.by_id(owner)
    position, owner = position[by_id], owner[by_id]
    value = venue.markets.lot_value(market, exact(price)) / venue.assets.quantum[settle]
    flow = np.array([round(lots * value) for lots in columns.lots[position].tolist()], np.int64)
    rows = work.journal.block(len(position))
    rows["event"], rows["reason"] = EVENT["delist"], REASON["settlement_price"]
    rows["account"], rows["counterparty"], rows["market"], rows["settle"] = owner, BOOK, market, settle
    rows["lots"], rows["cost"] = -columns.lots[position], -columns.cost[position]
    rows["entry"], rows["cash"] = -columns.entry[position], flow - columns.cost[position]
    rows["counter_cash"], rows["price"] = -flow, price
    work.journal.extend(rows)
    balance = columns.position_balance[position]
    np.add.at(columns.balance_cost, balance, rows["cost"])
    np.add.at(columns.free, balance, rows["cash"])
    work.ledger.book_lots[market] -= rows["lots"].sum()
    work.ledger.book_quanta[settle] -= flow.sum()
    for column in (columns.lots, columns.cost, columns.entry):
        column[position] = 0
