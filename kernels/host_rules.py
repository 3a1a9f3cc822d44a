"""What the njit loop of a backtest host calls by address: a liquidation, in earnest or as a dry run, and trades."""

from __future__ import annotations

from math import floor

import numpy as np

from ._jit import kernel
from .margin import account_margin, worst_case_lots
from .small_account import NOT_WHOLE, copy_small, fill_at_price, rest_orders, whole_units
from .small_books import Liquidation, liquidate_account

FOLLOWED, NOT_LOTS, OTHER_CONTRACT = range(3)
"""What `follow_trades` returns: done, a position is no whole number of lots, the contract is not worth its price."""

LOTS, BALANCE, FEE = range(3)
VOLUME, VALUE = range(2)


@kernel
def mark_price(ticks, tick_size):
    """Price of ticks as the shortest decimal: 3 ticks of 0.1 are 0.3, and 3 * 0.1 is not.

    ticks      float64  ()  whole or half
    tick_size  float64  ()  > 0
    """
    per_unit = np.rint(1.0 / tick_size)
    return ticks / per_unit if per_unit * tick_size == 1.0 else ticks * tick_size


@kernel
def follow_trades(m, position, totals, account, seen, traded):
    """Carry over what a host traded in a market since the last call.

    Trades in one direction are one fill at their average price. Where there were purchases and sales, the difference is
    filled at the mark, and what the trades brought beside that is cash: equity and margins are the same.

    m         int64         ()    0 <= m < M, a market of the account
    position  float64       ()    position of the host
    totals    float64       (4,)  money received, fees paid, volume and value of all its trades
    account   SmallAccount  ()    its position, balance and fees change
    seen      int64         (3,)  lots, quanta received and quanta of fees that are carried over, in/out
    traded    float64       (2,)  volume and value that are carried over, in/out
    """
    lots = whole_units(position, account.units.step_size[m])
    if lots == NOT_WHOLE:
        return NOT_LOTS
    tick_size, p = account.units.tick_size[m], account.row[m]
    quantum = account.units.quantum_size[account.prices.market_settle[m]]
    balance, fee = np.int64(np.rint(totals[0] / quantum)), np.int64(np.rint(totals[1] / quantum))
    change, money, paid = lots - seen[LOTS], balance - seen[BALANCE], fee - seen[FEE]
    volume, value = totals[2] - traded[VOLUME], totals[3] - traded[VALUE]
    if volume > 0.0:
        price = value / volume
        if not (0.5 * account.mark[m] < price < 2.0 * account.mark[m]):
            return OTHER_CONTRACT
        if abs(change) != whole_units(volume, account.units.step_size[m]):
            price = account.mark[m]
        ticks = np.rint(price / tick_size)
        if abs(price / tick_size - ticks) < 1e-6:
            price = mark_price(ticks, tick_size)
        money -= fill_at_price(m, change, price, np.int64(0), account).flow
    account.state.free[account.state.position_balance[p]] += money - paid
    account.fees[m] += paid
    seen[LOTS], seen[BALANCE], seen[FEE] = lots, balance, fee
    traded[VOLUME], traded[VALUE] = totals[2], totals[3]
    return FOLLOWED


@kernel
def takes_order(m, bid, ask, lots, account):
    """Whether the venue takes an order: it raises no exposure, or the initial margin ratio stays below 1.

    m        int64         ()  0 <= m < M, a market of the account
    bid      int64         ()  lots of its other open purchases, >= 0
    ask      int64         ()  lots of its other open sales, >= 0
    lots     int64         ()  of the order, signed
    account  SmallAccount  ()  its open orders change
    """
    held = account.state.lots[account.row[m]]
    before = worst_case_lots(held, bid, ask)
    bid, ask = bid + max(lots, 0), ask + max(-lots, 0)
    rest_orders(m, bid, ask, account)
    if worst_case_lots(held, bid, ask) <= before:
        return True
    sums = account_margin(0, account.state, account.prices)
    return sums.initial < sums.equity


@kernel
def liquidate_for_host(dry, account, books, spare):
    """Liquidate an account where it must be, and write the rows; a dry run leaves the account and its cap as they were.

    dry      bool          ()  a dry run
    account  SmallAccount  ()  its orders, positions, balances and sums change
    books    SmallBooks    ()  book, queue, rules and rows change
    spare    SmallAccount  ()  another one of the same venue and the same rows, out: the account after the liquidation
    """
    room = books.queue.room[0]
    copy_small(account, spare)
    done = liquidate_account(spare, books)
    if dry:
        books.queue.room[0] = room
    else:
        copy_small(spare, account)
    return Liquidation(rows=done.rows, open_lots=done.open_lots, shortfall=done.shortfall)


@kernel
def whole_part(quantity, unit):
    """Whole units in a quantity, rounded down but for rounding errors.

    quantity  float64  ()  >= 0
    unit      float64  ()  > 0
    """
    return np.int64(floor(quantity / unit + 1e-6))
