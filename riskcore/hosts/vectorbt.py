"""Liquidation of one account inside a flexible order function of vectorbt 1.2.0.

A group of columns that share cash is one account: its columns are markets of a venue. `open_account` makes the account,
and `liquidation_order_nb`, called first in the order function, carries over what vectorbt filled, marks the account at
the close of the bar, and returns the orders of a liquidation one after another. docs/hosts/vectorbt.md is the page.

================================  =====================================================================================
vectorbt                          riskcore
================================  =====================================================================================
``last_cash[group]``              cash of the account and a credit, less the price of what is held: a purchase pays the
                                  whole price in cash, and a short sale receives it
``init_cash``                     cash of the account and the credit, which lets vectorbt buy with leverage
``order_records``                 fills: size, price and fees of each order
``close``                         mark of a bar; with a half spread and a quantity also its book
================================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from vectorbt.base.reshape_fns import flex_select_auto_nb
from vectorbt.portfolio.enums import OrderSide
from vectorbt.portfolio.nb import order_nb, order_nothing_nb

from .. import scalar
from .._typing import Float, Int
from ..boundary import RiskDataError
from ..kernels import host_rules
from ..kernels._jit import host_function
from ..kernels.small_account import NOT_WHOLE, whole_units
from ..market import PriceMap
from ..scalar import SmallAccount, SmallBooks
from ..venue import Venue
from .by_address import FILLED, SHORTFALL, UNFILLED, ByAddress, asset_of, fee_rate, must_liquidate, shared_fields

__all__ = ["HostAccount", "allows_order_nb", "equity_nb", "is_liquidating_nb", "liquidation_order_nb", "open_account"]

_PLANNED, _SENT, _GROUP, _LIQUIDATING = range(4)
_ROUNDING = 1e-9
_CENT = 0.01


class HostAccount(NamedTuple):
    """An account of riskcore for a group of C columns; R orders of a bar.

    ============  ============  ======  ===============================================================================
    account       SmallAccount  ()      the account
    books         SmallBooks    ()      its order books
    market        int64         (C,)    row of the venue's market of each column
    tick_size     float64       (C,)    of each column
    lot_size      float64       (C,)    of each column
    quantum       float64       ()      of the settle asset, units
    start         int64         (1,)    quanta of the cash that every group starts with
    credit        float64       ()      cash that vectorbt has beyond that of the account, settle units
    fill_at_host  bool          ()      whether vectorbt prices the orders of a liquidation
    seen          int64         (C,)    last order record of each column that has been carried over
    column, lots  int64         (R,)    orders of the present bar: column and signed lots
    price         float64       (R,)    their prices where riskcore fills them, units of the quote
    fee           float64       (R,)    their fees, as a part of the value
    fixed_fee     float64       (R,)    amount beside them, settle units
    at            int64         (4,)    orders planned and sent, present group, whether the bar liquidates
    totals        int64         (3,)    lots filled, lots that no book took, shortfall in quanta of the settle asset
    spare         SmallAccount  ()      scratch
    mark, fill, margin, takes, set_book, liquidate  functions  ()  the rules
    ============  ============  ======  ===============================================================================
    """

    account: SmallAccount
    books: SmallBooks
    market: Int
    tick_size: Float
    lot_size: Float
    quantum: float
    start: Int
    credit: float
    fill_at_host: bool
    seen: Int
    column: Int
    lots: Int
    price: Float
    fee: Float
    fixed_fee: Float
    at: Int
    totals: Int
    spare: SmallAccount
    mark: ByAddress
    fill: ByAddress
    margin: ByAddress
    takes: ByAddress
    set_book: ByAddress
    liquidate: ByAddress


def open_account(
    venue: Venue,
    markets: Sequence[str],
    marks: PriceMap,
    cash: float,
    credit: float,
    *,
    fill_at_host: bool = True,
) -> HostAccount:
    """Make the account of a group of columns.

    Parameters
    ----------
    venue : Venue
        The venue whose rules hold.
    markets : sequence of str
        Market of each column of a group, in their order.
    marks : mapping
        First mark of each market, units of the quote.
    cash : float
        Collateral of the account, units of the venue's settle asset.
    credit : float
        Cash that vectorbt gets beyond it, so that it can buy with leverage: ``init_cash`` is the sum of both. The
        largest notional that the account can hold is enough.
    fill_at_host : bool
        True: the slices of a round are orders at the close, with the half spread as slippage; what vectorbt filled is
        carried over. False: slices fill in riskcore's book, whose prices are whole ticks, in all rounds of the policy,
        and vectorbt gets orders of these sizes, prices and fees.

    Returns
    -------
    HostAccount
        The account, an argument of the order function. Every group starts with it anew.

    Raises
    ------
    RiskDataError
        A market is inverse, settles in another asset than the venue or occurs twice, the credit is no number >= 0, the
        policy has an `account_cap`, or as of `riskcore.scalar.small_account`.
    """
    if not 0.0 <= credit < np.inf:
        raise RiskDataError("credit", None, "must be a number >= 0: cash without end has no equity", value=credit)
    fields = shared_fields(venue, markets, marks, cash, len(markets), 1, fill_at_host=fill_at_host)
    account, orders = fields["account"], len(fields["books"].rows.market)
    return HostAccount(
        **fields,
        start=account.state.free[account.state.settle_row].copy(),
        credit=float(credit),
        seen=np.full(len(markets), -1),
        column=np.zeros(orders, np.int64),
        lots=np.zeros(orders, np.int64),
        price=np.zeros(orders),
        fee=np.zeros(orders),
        fixed_fee=np.zeros(orders),
        at=np.array([0, 0, -1, 0]),
        fill=ByAddress(scalar.fill_position, account, 0, 0, 0.0, 0),
    )


@host_function
def equity_nb(host: HostAccount) -> float:
    """Return the equity of the account at the present marks, units of the settle asset."""
    return host.margin(host.account).equity * host.quantum


@host_function
def is_liquidating_nb(host: HostAccount) -> bool:
    """Return whether the account was liquidating in the present bar: the strategy then sends no order."""
    return host.at[_LIQUIDATING] == 1


@host_function
def allows_order_nb(host: HostAccount, column: int, size: float) -> bool:
    """Return whether the venue takes an order: it raises no exposure, or the initial margin ratio stays below 100 %.

    Parameters
    ----------
    host : HostAccount
        The account.
    column : int
        Column of the order within its group.
    size : float
        Above 0: a purchase; below 0: a sale.
    """
    none, lots = np.int64(0), np.int64(np.rint(size / host.lot_size[column]))
    taken = host.takes(host.market[column], none, none, lots, host.account)
    host.takes(host.market[column], none, none, none, host.account)  # it is no open order
    return taken


@host_function
def liquidation_order_nb(c: Any, host: HostAccount, depth: Any, half_spread: float) -> Any:
    """Follow the group, and return the next order of a liquidation, or the column -1.

    Parameters
    ----------
    c : FlexOrderContext
        The context of the order function, which calls this first, in every call.
    host : HostAccount
        The account.
    depth : ndarray of float64, 2-dimensional
        Quantity of each side of the book of a bar, by bar and column, as vectorbt takes arrays: its volume, say.
    half_spread : float
        Distance of the book's prices from the close, a part of the close.

    Returns
    -------
    tuple of (int, Order)
        Column of the order, -1: none, and the order.

    Raises
    ------
    ValueError
        The group has other columns than the account, ``init_cash`` is not the cash and the credit, cash is not shared,
        rows are simulated before groups, a size is no whole number of lots, or vectorbt filled less than it was sent.

    Notes
    -----
    A loss beyond the cash of the account is the venue's: the fee of the last order is lower by it, and
    ``host.totals[2]`` has it in quanta.
    """
    at = host.at
    if c.call_idx == 0:
        _begin_bar(c, host)
    _follow(c, host)
    if c.call_idx == 0:
        for column in range(host.market.size):
            close = flex_select_auto_nb(c.close, c.i, c.from_col + column, c.flex_2d)
            if close > 0.0:
                host.mark(host.account, host.market[column], close)
        if must_liquidate(host):
            _plan(c, host, depth, half_spread)
    if at[_SENT] == at[_PLANNED]:
        return -1, order_nothing_nb()
    row = at[_SENT]
    at[_SENT] += 1
    column = c.from_col + host.column[row]
    size, price, slippage = host.lots[row] * host.lot_size[host.column[row]], host.price[row], 0.0
    if host.fill_at_host:
        price, slippage = flex_select_auto_nb(c.close, c.i, column, c.flex_2d), half_spread
    return column, order_nb(
        size=size, price=price, slippage=slippage, fees=host.fee[row], fixed_fees=host.fixed_fee[row]
    )


@host_function
def _begin_bar(c: Any, host: HostAccount) -> None:
    """Begin a bar, and at the first one of a group the account anew."""
    at, account = host.at, host.account
    if c.i == 0:
        if not c.cash_sharing or c.group_len != host.market.size:
            raise ValueError("a group must share cash, and have a column for each market of the account")
        state = account.state
        state.lots[:], state.cost[:], state.entry[:], state.unsettled[:] = 0, 0, 0, 0
        state.free[:], state.balance_cost[:] = host.start[0], 0
        account.fees[:], account.realized[:], host.seen[:], at[_GROUP] = 0, 0, -1, c.group
    elif c.group != at[_GROUP]:
        raise ValueError("row_wise must be False: a group is simulated from its first bar to its last")
    at[_PLANNED], at[_SENT], at[_LIQUIDATING] = 0, 0, 0


@host_function
def _follow(c: Any, host: HostAccount) -> None:
    """Carry over the orders that vectorbt filled since the last call, and compare its cash with the account's."""
    at, state = host.at, host.account.state
    filled = at[_SENT] == 0
    for column in range(host.market.size):
        record = c.last_oidx[c.from_col + column]
        if record == host.seen[column]:
            continue
        host.seen[column] = record
        order = c.order_records[record]
        lots = whole_units(order.size, host.lot_size[column])
        if lots == NOT_WHOLE:
            raise ValueError("the size of an order is no whole number of lots of its market")
        if order.side == OrderSide.Sell:
            lots = -lots
        filled = filled or (lots == host.lots[at[_SENT] - 1] and column == host.column[at[_SENT] - 1])
        if host.fill_at_host or at[_SENT] == 0:
            fee = np.int64(np.rint(order.fees / host.quantum))
            host.fill(host.account, host.market[column], lots, order.price, fee)
    if not filled:
        raise ValueError("vectorbt filled less of a liquidation than it was sent: the credit is too small")
    if host.fill_at_host or at[_SENT] == at[_PLANNED]:
        row = state.settle_row[0]
        cash = (state.free[row] - state.balance_cost[row]) * host.quantum + host.credit
        if not abs(c.last_cash[c.group] - cash) <= _CENT + _ROUNDING * host.credit:
            raise ValueError("the cash of vectorbt is not that of the account: init_cash must be its cash and credit")


@host_function
def _plan(c: Any, host: HostAccount, depth: Any, half_spread: float) -> None:
    """Size the liquidation of the bar, and keep its orders."""
    account, books, rows = host.account, host.books, host.books.rows
    bid, ask, lots = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    for column in range(host.market.size):
        close = flex_select_auto_nb(c.close, c.i, c.from_col + column, c.flex_2d)
        quantity = flex_select_auto_nb(depth, c.i, c.from_col + column, c.flex_2d)
        levels = 0
        if close > 0.0 and quantity > 0.0:
            bid[0] = np.int64(np.floor(close * (1.0 - half_spread) / host.tick_size[column] + _ROUNDING))
            ask[0] = np.int64(np.ceil(close * (1.0 + half_spread) / host.tick_size[column] - _ROUNDING))
            lots[0] = host_rules.whole_part(quantity, host.lot_size[column])
            levels = 1 if lots[0] > 0 and bid[0] > 0 else 0
        host.set_book(account, books, host.market[column], bid[:levels], lots[:levels], ask[:levels], lots[:levels])
    done = host.liquidate(host.fill_at_host, account, books, host.spare)
    planned, rebate = 0, done.shortfall * host.quantum
    for row in range(done.rows):
        if rows.lots[row] == 0:
            continue
        column = asset_of(rows.market[row], host.market)
        host.column[planned], host.lots[planned] = column, rows.lots[row]
        size, value = abs(rows.lots[row]) * host.lot_size[column], abs(rows.flow[row]) * host.quantum
        if host.fill_at_host:
            host.fee[planned], host.fixed_fee[planned] = fee_rate(row, rows, books.rules), 0.0
            rebate += host.fee[planned] * value - rows.fee[row] * host.quantum  # a fee is not cut to the equity left
        else:
            host.price[planned], host.fixed_fee[planned] = value / size, rows.fee[row] * host.quantum
        host.totals[FILLED] += abs(rows.lots[row])
        planned += 1
    if planned > 0 and done.open_lots == 0:
        host.fixed_fee[planned - 1] -= rebate
        host.totals[SHORTFALL] += np.int64(np.rint(rebate / host.quantum))
    host.totals[UNFILLED] += done.open_lots
    host.at[_PLANNED], host.at[_LIQUIDATING] = planned, 1
