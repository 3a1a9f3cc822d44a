"""The book phase: slices of many accounts sharing the order books of one tick, one after another."""

import numpy as np

from ._jit import kernel
from .margin import LIQUIDATING, account_margin, float_status, margin_ratio, margin_requirement
from .whole import cost_change, divide_half_even, multiply_divide

FULL, BAND, DEPTH, NO_BOOK = 0, 1, 2, 3
"""Why a slice filled as far as it did."""


@kernel
def slice_lots(lots, fraction_num, fraction_den, floor_lots, min_lots):
    """Size of one slice of a position: a part of it, a minimum notional, and no tail too small to trade.

    lots          int64  ()  size of the position, > 0
    fraction_num  int64  ()  part of the position
    fraction_den  int64  ()  > 0
    floor_lots    int64  ()  lots of the minimum notional
    min_lots      int64  ()  the smallest position that may be left
    """
    size = max(lots // fraction_den * fraction_num + lots % fraction_den * fraction_num // fraction_den, floor_lots, 1)
    if size >= lots or lots - size < min_lots:
        return lots
    return size


@kernel
def walk_book(side, want, book):
    """Take up to ``want`` lots from one side within its band; the book's cursor moves on.

    Returns lots taken, the sum of lots times ticks, and why it ended.

    side  int64        ()  2m for the bids of market m, 2m + 1 for its asks
    want  int64        ()  lots, > 0
    book  BookColumns  ()  see columns.py
    """
    if book.offset[side] == book.offset[side + 1]:
        return 0, 0, NO_BOOK
    left, value = want, 0
    buying = side % 2 == 1
    while left > 0:
        level = book.cursor[side]
        if level == book.offset[side + 1]:
            return want - left, value, DEPTH
        price = book.price[level]
        if (buying and price > book.band[side]) or (not buying and price < book.band[side]):
            return want - left, value, BAND
        take = min(left, book.lots[level] - book.taken[side])
        left -= take
        value += take * price
        book.taken[side] += take
        if book.taken[side] == book.lots[level]:
            book.cursor[side] += 1
            book.taken[side] = 0
    return want, value, FULL


@kernel
def send_slices(accounts, status, state, prices, rules, book, where, size, money, ratio, count):
    """Send slices of the listed accounts into the books, in turn, until each is healthy or below auto-close.

    accounts  int64           (N,)    in the order of treatment
    status    uint8           (N,)    in/out, where each account stands
    state     AccountColumns  ()      lots, cost, entry, account_cost and free change
    prices    PriceColumns    ()      see columns.py
    rules     SliceRules      ()      see columns.py
    book      BookColumns     ()      cursor and taken change
    where     int64           (R, 3)  out, account, market, reason (FULL | BAND | DEPTH | NO_BOOK)
    size      int64           (R, 2)  out, lots requested, signed change of lots
    money     int64           (R, 5)  out, settle quanta: flow to the account, change of cost, cash, fee, entry
    ratio     float64         (R, 2)  out, MMR before and after
    count     int64           (1,)    out, rows written
    """
    row = 0
    widest = 0
    for n in range(accounts.size):
        a = accounts[n]
        widest = max(widest, np.int64(state.position_offset[a + 1]) - np.int64(state.position_offset[a]))
    requirement = np.empty(widest, np.float64)
    order = np.empty(widest, np.int64)
    for _ in range(rules.rounds):
        for n in range(accounts.size):
            a = accounts[n]
            if status[n] != LIQUIDATING:
                continue
            equity, exposure, _i, maintenance, _g = account_margin(a, state, prices)
            before = margin_ratio(maintenance, equity, exposure)

            # positions by maintenance margin, the largest first, ties by market
            first = np.int64(state.position_offset[a])
            held = np.int64(state.position_offset[a + 1]) - first
            for i in range(held):
                m = np.int64(state.market[first + i])
                notional = abs(state.lots[first + i]) * prices.price_per_lot[m]
                own = margin_requirement(notional, 2 * m + 1, prices)
                at = i
                while at > 0 and requirement[at - 1] < own:
                    requirement[at] = requirement[at - 1]
                    order[at] = order[at - 1]
                    at -= 1
                requirement[at] = own
                order[at] = first + i

            for i in range(held):
                p = order[i]
                lots = state.lots[p]
                if lots == 0:
                    continue
                m = np.int64(state.market[p])
                want = slice_lots(
                    abs(lots), rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m]
                )
                filled, value, reason = walk_book(2 * m if lots > 0 else 2 * m + 1, want, book)
                where[row, 0] = a
                where[row, 1] = m
                where[row, 2] = reason
                size[row, 0] = want
                size[row, 1] = 0
                money[row, :] = 0
                ratio[row, 0] = before
                ratio[row, 1] = before
                row += 1
                if filled == 0:
                    continue
                amount = divide_half_even(value * rules.value_num[m], rules.value_den[m])
                change = -filled if lots > 0 else filled
                flow = amount if lots > 0 else -amount
                fee = multiply_divide(amount, rules.fee_num, rules.fee_den)
                paid = cost_change(lots, state.cost[p], change, flow)
                entry = cost_change(lots, state.entry[p], change, flow)
                state.lots[p] += change
                state.cost[p] += paid
                state.entry[p] += entry
                state.account_cost[a] += paid
                state.free[state.settle_row[a]] += flow + paid - fee
                size[row - 1, 1] = change
                money[row - 1, 0] = flow
                money[row - 1, 1] = paid
                money[row - 1, 2] = flow + paid
                money[row - 1, 3] = fee
                money[row - 1, 4] = entry
                equity, exposure, _i, maintenance, _g = account_margin(a, state, prices)
                before = margin_ratio(maintenance, equity, exposure)
                ratio[row - 1, 1] = before
                status[n] = float_status(equity, exposure, maintenance, prices.acmf_divisor, prices.acmf_offset)
                if status[n] != LIQUIDATING:
                    break
    count[0] = row
