"""The rounds of the book phase: slices of many accounts that share the books."""

from __future__ import annotations

import numpy as np

from ._jit import allocating_kernel, inner_kernel, kernel
from .allocation import water_fill
from .books import ACCOUNT_CAP, FULL, REASONS, quote_book, take_book
from .integer_math import cost_change, multiply_divide, scale
from .margin import LIQUIDATING, account_margin, float_status, margin_ratio
from .margin_function import margin_requirement
from .slice_size import (
    _UNLIMITED,
    ESCALATED,
    LARGEST,
    PRO_RATA,
    RELIEF,
    TO_BACKSTOP,
    size_at_price,
    size_slice,
    slice_effect,
    slice_lots,
    slice_room,
)

EVENTS = ("skip", "expire", "harm", "book")
"""What a row of the phase says, by code."""
SKIP, EXPIRE, HARM, BOOK = range(4)

ROW_REASONS = (*REASONS, "throttle", "cooldown", "fee_waived", "sent", "withheld", "to_backstop")
"""Why, by code: those of the book, and on."""


@inner_kernel
def open_queue(n, queue, state, prices, rules, book):
    """Look at an account's margin, and put its positions in order.

    n       int64           ()  place of the account
    queue   SliceQueue      ()  equity, maintenance, ratio, order, surplus and score change
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays    ()  see layouts.py
    rules   SliceRules      ()  see layouts.py
    book    BookColumns     ()  see layouts.py
    """
    refresh_margin(n, queue, state, prices)
    first = np.int64(state.position_offset[queue.account[n]])
    start, end = queue.start[n], queue.start[n + 1]
    gross = 0.0
    for i in range(end - start):
        p = first + i
        m, size = np.int64(state.market[p]), abs(state.lots[p])
        side = 2 * m if state.lots[p] > 0 else 2 * m + 1
        gross += size * prices.price_per_lot[m]
        own = np.float32(1.0)
        if size == 0:
            own = np.float32(-np.inf)
        elif rules.position_order == LARGEST:
            own = np.float32(margin_requirement(size * prices.price_per_lot[m], 2 * m + 1, prices.functions))
        elif rules.position_order == RELIEF and end - start > 1:
            row = state.settle_row[queue.account[n]]
            own = np.float32(
                relief_per_cost(
                    side, size, state.cost[p], state.free[row], state.lent[row], queue.room[n], rules, prices, book
                )
            )
        at = start + i
        while at > start and queue.score[at - 1] < own:
            queue.score[at], queue.order[at] = queue.score[at - 1], queue.order[at - 1]
            at -= 1
        queue.score[at], queue.order[at] = own, p
    surplus = rules.target * queue.equity[n] - queue.maintenance[n]
    for i in range(start, end):
        p = queue.order[i]
        if state.lots[p] != 0:
            queue.surplus[i] = surplus * (abs(state.lots[p]) * prices.price_per_lot[state.market[p]] / gross)


@inner_kernel
def refresh_margin(n, queue, state, prices):
    """Look at an account's margin as it is now; returns where it stands, by float64 alone.

    n       int64           ()  place of the account
    queue   SliceQueue      ()  equity, maintenance and ratio change
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays    ()  see layouts.py
    """
    equity, exposure, _initial, maintenance, _gross = account_margin(queue.account[n], state, prices)
    queue.equity[n], queue.maintenance[n] = equity, maintenance
    queue.ratio[n] = margin_ratio(maintenance, equity, exposure)
    return float_status(equity, exposure, maintenance, prices.acmf_divisor, prices.acmf_offset)


@inner_kernel
def relief_per_cost(side, size, cost, balance, lent, account_room, rules, prices, book):
    """Maintenance margin that a slice of policy size sets free, per quantum that it costs; -1e30 if nothing is filled.

    side          int64         ()  of a market's book
    size          int64         ()  lots of the position, > 0
    cost          int64         ()  settle quanta, signed cost of the position
    balance       int64         ()  settle quanta, free
    lent          int64         ()  settle quanta
    account_room  int64         ()  settle quanta that the account's cap leaves
    rules         SliceRules    ()  see layouts.py
    prices        PriceArrays  ()  see layouts.py
    book          BookColumns   ()  see layouts.py
    """
    m = side // 2
    want = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
    room, room_reason = slice_room(side, account_room, rules, book)
    filled, value, _reason = quote_book(side, want, room, room_reason, book)
    if filled == 0:
        return -1e30
    worth, fee = value * rules.value_unit[m], rules.fee_num / rules.fee_den
    loss, relief = slice_effect(side, size, filled, worth, fee, cost, balance, lent, rules, prices)
    return relief / max(loss, 1.0)


@inner_kernel
def write_row(n, market, event, reason, requested, queue, rows):
    """Append a row in which nothing changes.

    n          int64       ()  place of the account
    market     int64       ()  0 <= market < M
    event      int64       ()  SKIP | EXPIRE | HARM | BOOK
    reason     int64       ()  index of ROW_REASONS
    requested  int64       ()  lots
    queue      SliceQueue  ()  see layouts.py
    rows       SliceRows   ()  one more
    """
    row = rows.written[0]
    rows.written[0] += 1
    rows.account[row], rows.market[row] = queue.account[n], market
    rows.event[row], rows.reason[row], rows.requested[row] = event, reason, requested
    rows.lots[row] = rows.flow[row] = rows.cost[row] = rows.entry[row] = rows.fee[row] = 0
    rows.before[row] = rows.after[row] = queue.ratio[n]


@inner_kernel
def write_harm(n, side, reason, lots, amount, queue, rows):
    """Append the row of a slice that would not help, and send its account on if that is the reason.

    n       int64       ()  place of the account
    side    int64       ()  of a market's book
    reason  int64       ()  FEE_WAIVED | SENT | WITHHELD | TO_BACKSTOP
    lots    int64       ()  that were judged
    amount  int64       ()  settle quanta they would be filled for
    queue   SliceQueue  ()  status changes
    rows    SliceRows   ()  one more
    """
    write_row(n, side // 2, HARM, reason, lots, queue, rows)
    rows.flow[rows.written[0] - 1] = -amount if side % 2 == 1 else amount
    if reason == TO_BACKSTOP:
        queue.status[n] = ESCALATED


@inner_kernel
def rests(n, i, queue, state, rows):
    """Whether a position has nothing to send in its queue: it is flat, or rests, of which a row tells.

    n      int64           ()  place of the account
    i      int64           ()  place of the position in its order
    queue  SliceQueue      ()  see layouts.py
    state  AccountColumns  ()  see layouts.py
    rows   SliceRows       ()  perhaps one more
    """
    p = queue.order[queue.start[n] + i]
    reason = np.int64(queue.rests[queue.start[n] + p - np.int64(state.position_offset[queue.account[n]])])
    if state.lots[p] != 0 and reason != 0:
        write_row(n, np.int64(state.market[p]), SKIP, reason, 0, queue, rows)
    return state.lots[p] == 0 or reason != 0


@inner_kernel
def surplus_over_target(n, i, queue, rules):
    """What a position in its queue is to bring above 0: target times net equity less maintenance margin, or its part.

    n      int64       ()  place of the account
    i      int64       ()  place of the position in its order
    queue  SliceQueue  ()  see layouts.py
    rules  SliceRules  ()  see layouts.py
    """
    if rules.position_order == PRO_RATA:
        return queue.surplus[queue.start[n] + i]
    return rules.target * queue.equity[n] - queue.maintenance[n]


@inner_kernel
def fill_slice(n, i, want, filled, amount, fee, reason, queue, state, prices, rules, rows):
    """Book what a slice filled, write its row, and look at the account again.

    n       int64           ()  place of the account
    i       int64           ()  place of the position in its order
    want    int64           ()  lots requested
    filled  int64           ()  lots filled, > 0
    amount  int64           ()  settle quanta they were filled for
    fee     int64           ()  settle quanta
    reason  int64           ()  of the fill
    queue   SliceQueue      ()  status, room, equity, maintenance and ratio change
    state   AccountColumns  ()  lots, cost, entry, account_cost and free change
    prices  PriceArrays    ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    rows    SliceRows       ()  one more
    """
    account, p = queue.account[n], queue.order[queue.start[n] + i]
    lots, m = state.lots[p], np.int64(state.market[p])
    change = -filled if lots > 0 else filled
    flow = amount if lots > 0 else -amount
    cost = cost_change(lots, state.cost[p], change, flow)
    entry = cost_change(lots, state.entry[p], change, flow)
    state.lots[p] += change
    state.cost[p] += cost
    state.entry[p] += entry
    state.account_cost[account] += cost
    state.free[state.settle_row[account]] += flow + cost - fee
    queue.room[n] -= filled * rules.lot_quanta[m]
    rules.market_room[m] -= filled
    row = rows.written[0]
    write_row(n, m, BOOK, reason, want, queue, rows)
    rows.lots[row], rows.flow[row], rows.cost[row], rows.entry[row], rows.fee[row] = change, flow, cost, entry, fee
    queue.status[n] = refresh_margin(n, queue, state, prices)
    rows.after[row] = queue.ratio[n]


@kernel
def send_slices(queue, state, prices, rules, book, rows):
    """A slice of each position of the accounts, one account after another, while it is liquidating.

    queue   SliceQueue      ()  see layouts.py
    state   AccountColumns  ()  lots, cost, entry, account_cost and free change
    prices  PriceArrays    ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    book    BookColumns     ()  cursor, taken and inside change
    rows    SliceRows       ()  what was done
    """
    for n in range(queue.account.size):
        open_queue(n, queue, state, prices, rules, book)
        for i in range(queue.start[n + 1] - queue.start[n]):
            if queue.status[n] != LIQUIDATING:
                break
            if rests(n, i, queue, state, rows):
                continue
            p, row = queue.order[queue.start[n] + i], state.settle_row[queue.account[n]]
            lots, m = state.lots[p], np.int64(state.market[p])
            side = 2 * m if lots > 0 else 2 * m + 1
            want, filled, value, reason, fee_num, fee_den, harm, judged, judged_value = size_slice(
                side, abs(lots), state.cost[p], state.free[row], state.lent[row], queue.equity[n], queue.maintenance[n],
                surplus_over_target(n, i, queue, rules), queue.room[n], rules, prices, book,
            )  # fmt: skip
            if harm >= 0:
                amount = scale(judged_value, rules.value_num[m], rules.value_den[m])
                write_harm(n, side, harm, judged, amount, queue, rows)
            elif filled == 0:
                write_row(n, m, EXPIRE, reason, want, queue, rows)
            if filled > 0:
                take_book(side, filled, book)
                amount = scale(value, rules.value_num[m], rules.value_den[m])
                fee = multiply_divide(amount, fee_num, fee_den)
                fill_slice(n, i, want, filled, amount, fee, reason, queue, state, prices, rules, rows)


@allocating_kernel
def send_shared(queue, state, prices, rules, book, rows):
    """A slice of each position of the accounts, in passes: those of a pass share each side of the books at one price.

    queue   SliceQueue      ()  see layouts.py
    state   AccountColumns  ()  lots, cost, entry, account_cost and free change
    prices  PriceArrays    ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    book    BookColumns     ()  cursor, taken and inside change
    rows    SliceRows       ()  what was done
    """
    total, passes = queue.account.size, 0
    for n in range(total):
        open_queue(n, queue, state, prices, rules, book)
        passes = max(passes, queue.start[n + 1] - queue.start[n])
    who, sides = np.empty(total, np.int64), np.empty(total, np.int64)
    for i in range(passes):
        offers = 0
        for n in range(total):
            if queue.status[n] != LIQUIDATING or queue.start[n] + i >= queue.start[n + 1]:
                continue
            if not rests(n, i, queue, state, rows):
                p = queue.order[queue.start[n] + i]
                m = np.int64(state.market[p])
                who[offers], sides[offers] = n, 2 * m if state.lots[p] > 0 else 2 * m + 1
                offers += 1
        by_side = np.argsort(sides[:offers], kind="mergesort")
        last = 0
        while last < offers:
            first = last
            while last < offers and sides[by_side[last]] == sides[by_side[first]]:
                last += 1
            share_side(sides[by_side[first]], i, who[by_side[first:last]], queue, state, prices, rules, book, rows)


@allocating_kernel
def share_side(side, i, who, queue, state, prices, rules, book, rows):
    """Fill the offers of one side together, each judged and sized at the price that all of them would get.

    side    int64           ()    of a market's book
    i       int64           ()    pass: place of the positions in the order of their accounts
    who     int64           (X,)  places of the accounts, ascending
    queue   SliceQueue      ()    see layouts.py
    state   AccountColumns  ()    lots, cost, entry, account_cost and free change
    prices  PriceArrays    ()    see layouts.py
    rules   SliceRules      ()    market_room changes
    book    BookColumns     ()    cursor, taken and inside change
    rows    SliceRows       ()    what was done
    """
    m = side // 2
    want, offer, got = np.empty(who.size, np.int64), np.empty(who.size, np.int64), np.empty(who.size, np.int64)
    fee_num, fee_den = np.empty(who.size, np.int64), np.empty(who.size, np.int64)
    together = 0
    for g in range(who.size):
        size = abs(state.lots[queue.order[queue.start[who[g]] + i]])
        want[g] = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
        offer[g] = min(want[g], max(queue.room[who[g]], 0) // rules.lot_quanta[m])
        together += offer[g]
    room, room_reason = slice_room(side, _UNLIMITED, rules, book)
    filled, value, reason = quote_book(side, together, room, room_reason, book)
    water_fill(filled, offer, offer, got)
    amount = scale(value, rules.value_num[m], rules.value_den[m])
    price = value * rules.value_unit[m] / filled if filled > 0 else 0.0
    together = 0
    for g in range(who.size):
        n = who[g]
        p, row = queue.order[queue.start[n] + i], state.settle_row[queue.account[n]]
        if got[g] == 0:
            write_row(n, m, EXPIRE, ACCOUNT_CAP if offer[g] == 0 else reason, want[g], queue, rows)
            offer[g] = 0
            continue
        want[g], fee_num[g], fee_den[g], harm = size_at_price(
            side, abs(state.lots[p]), want[g], got[g], price, state.cost[p], state.free[row], state.lent[row],
            queue.equity[n], queue.maintenance[n], surplus_over_target(n, i, queue, rules), rules, prices,
        )  # fmt: skip
        if harm >= 0:
            write_harm(n, side, harm, got[g], multiply_divide(amount, got[g], filled), queue, rows)
        offer[g] = min(want[g], max(queue.room[n], 0) // rules.lot_quanta[m])
        together += offer[g]
    if together == 0:
        return
    filled, value, reason = quote_book(side, together, room, room_reason, book)
    take_book(side, filled, book)
    amount = scale(value, rules.value_num[m], rules.value_den[m])
    water_fill(filled, offer, offer, got)
    done, paid = 0, 0
    for g in range(who.size):
        n = who[g]
        if offer[g] == 0:
            continue
        why = reason
        if got[g] == offer[g]:
            why = FULL if got[g] == want[g] else ACCOUNT_CAP
        if got[g] == 0:
            write_row(n, m, EXPIRE, why, want[g], queue, rows)
            continue
        done += got[g]
        due = multiply_divide(amount, done, filled)
        fee = multiply_divide(due - paid, fee_num[g], fee_den[g])
        fill_slice(n, i, want[g], got[g], due - paid, fee, why, queue, state, prices, rules, rows)
        paid = due
