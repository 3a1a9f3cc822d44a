"""The rounds of the book phase: slices of many accounts that share the books."""

from __future__ import annotations

from math import floor

import numpy as np

from ._jit import allocating_kernel, inner_kernel, kernel
from .allocation import water_fill
from .books import ACCOUNT_CAP, FULL, REASONS, quote_book, take_book
from .integer_math import cost_change, multiply_divide
from .margin import DOUBT_BAND, LIQUIDATING, float_status, margin_ratio
from .margin_model import account_margin, closing_flow, fill_effect, position_requirement
from .slice_size import (
    _UNLIMITED,
    ESCALATED,
    LARGEST,
    PRO_RATA,
    RELIEF,
    TO_BACKSTOP,
    fill_amount,
    fill_value,
    size_at_price,
    size_slice,
    slice_lots,
    slice_room,
)

EVENTS = ("skip", "expire", "harm", "book")
"""Events of the rows of the phase, by code."""
SKIP, EXPIRE, HARM, BOOK = range(4)

ROW_REASONS = (*REASONS, "throttle", "cooldown", "fee_waived", "sent", "withheld", "to_backstop")
"""Reasons of the rows, by code: first those of the book."""


@inner_kernel
def open_queue(n, queue, state, prices, rules, book):
    """Compute an account's margin, and sort its positions into the order of treatment.

    n       int64           ()  index of the account in the queue
    queue   SliceQueue      ()  equity, maintenance, ratio, order, surplus and score change
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays     ()  see layouts.py
    rules   SliceRules      ()  see layouts.py
    book    BookColumns     ()  see layouts.py
    """
    refresh_margin(n, queue, state, prices)
    first = np.int64(state.position_span[queue.account[n], 0])
    start, end = queue.start[n], queue.start[n + 1]
    gross = 0.0
    for i in range(end - start):
        p = first + i
        m, size = np.int64(state.market[p]), abs(state.lots[p])
        gross += size * prices.price_per_lot[m]
        score = np.float32(1.0)
        if size == 0:
            score = np.float32(-np.inf)
        elif rules.position_order == LARGEST:
            score = np.float32(position_requirement(queue.account[n], p, state, prices))
        elif rules.position_order == RELIEF and end - start > 1:
            score = np.float32(relief_per_cost(queue.account[n], p, queue.room[n], state, rules, prices, book))
        rank = start + i
        while rank > start and queue.score[rank - 1] < score:
            queue.score[rank], queue.order[rank] = queue.score[rank - 1], queue.order[rank - 1]
            rank -= 1
        queue.score[rank], queue.order[rank] = score, p
    surplus = rules.target * queue.equity[n] - queue.maintenance[n]
    for i in range(start, end):
        p = queue.order[i]
        if state.lots[p] != 0:
            queue.surplus[i] = surplus * (abs(state.lots[p]) * prices.price_per_lot[state.market[p]] / gross)


@inner_kernel
def refresh_margin(n, queue, state, prices):
    """Compute an account's margin anew; returns its sums.

    n       int64           ()  index of the account in the queue
    queue   SliceQueue      ()  equity, maintenance and ratio change
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays     ()  see layouts.py
    """
    sums = account_margin(queue.account[n], state, prices)
    queue.equity[n], queue.maintenance[n] = sums.equity, sums.maintenance
    queue.ratio[n] = margin_ratio(sums.maintenance, sums.equity, sums.exposure)
    return sums


@inner_kernel
def affordable_fee(account, row, fee, equity, exposure, state, prices):
    """Quanta of a fee that has been taken which its account can pay without its net equity falling below 0.

    account   int64           ()  0 <= account < A
    row       int64           ()  balance row that paid it
    fee       int64           ()  quanta of its asset, >= 0
    equity    float64         ()  settle quanta, after the fee
    exposure  float64         ()  settle quanta, the scale of the rounding error: money is whole
    state     AccountColumns  ()  free changes where the fee is cut
    prices    PriceArrays     ()  see layouts.py, or the class of another model
    """
    if fee == 0 or equity > DOUBT_BAND * exposure:
        return fee
    state.free[row] += fee
    sums = account_margin(account, state, prices)
    left = floor((sums.equity - DOUBT_BAND * sums.exposure) / prices.price_per_quantum[state.asset[row]])
    paid = np.int64(min(float(fee), max(left, 0.0)))
    state.free[row] -= paid
    return paid


@inner_kernel
def relief_per_cost(account, p, account_room, state, rules, prices, book):
    """Maintenance margin that a slice of policy size releases per quantum of its cost; -1e30 if nothing is filled.

    account       int64           ()  0 <= account < A
    p             int64           ()  position row of the account, not flat
    account_room  int64           ()  settle quanta that the account's cap leaves
    state         AccountColumns  ()  see layouts.py
    rules         SliceRules      ()  see layouts.py
    prices        PriceArrays     ()  see layouts.py, or the class of another model
    book          BookColumns     ()  see layouts.py
    """
    m, size = np.int64(state.market[p]), abs(state.lots[p])
    side = 2 * m if state.lots[p] > 0 else 2 * m + 1
    want = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
    room, room_reason = slice_room(side, account_room, rules, book)
    quote = quote_book(side, want, room, room_reason, book)
    if quote.lots == 0:
        return -1e30
    value, fee = fill_value(side, quote.lots, quote.value, rules, prices, book), rules.fee_num / rules.fee_den
    effect = fill_effect(account, p, quote.lots, value, fee, state, prices)
    return effect.relief / max(effect.loss, 1.0)


@inner_kernel
def write_row(n, market, event, reason, requested, queue, rows):
    """Append a row without amounts.

    n          int64       ()  index of the account in the queue
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
    rows.fee_num[row], rows.fee_den[row] = 0, 1
    rows.before[row] = rows.after[row] = queue.ratio[n]


@inner_kernel
def write_harm(n, market, reason, lots, flow, queue, rows):
    """Append the row of a slice that would not help; with the reason TO_BACKSTOP its account is escalated.

    n       int64       ()  index of the account in the queue
    market  int64       ()  0 <= market < M
    reason  int64       ()  FEE_WAIVED | SENT | WITHHELD | TO_BACKSTOP
    lots    int64       ()  lots judged
    flow    int64       ()  quanta of the settle asset that their fill would bring
    queue   SliceQueue  ()  status changes
    rows    SliceRows   ()  one more
    """
    write_row(n, market, HARM, reason, lots, queue, rows)
    rows.flow[rows.written[0] - 1] = flow
    if reason == TO_BACKSTOP:
        queue.status[n] = ESCALATED


@inner_kernel
def skips_position(n, i, queue, state, rows):
    """Whether a position sends nothing in this round: it is flat, or throttled, which a row records.

    n      int64           ()  index of the account in the queue
    i      int64           ()  index of the position in its order
    queue  SliceQueue      ()  see layouts.py
    state  AccountColumns  ()  see layouts.py
    rows   SliceRows       ()  perhaps one more
    """
    p = queue.order[queue.start[n] + i]
    reason = np.int64(queue.throttled[queue.start[n] + p - np.int64(state.position_span[queue.account[n], 0])])
    if state.lots[p] != 0 and reason != 0:
        write_row(n, np.int64(state.market[p]), SKIP, reason, 0, queue, rows)
    return state.lots[p] == 0 or reason != 0


@inner_kernel
def surplus_over_target(n, i, queue, rules):
    """Surplus that a slice is to bring above 0: target times net equity less maintenance margin, or its part of it.

    n      int64       ()  index of the account in the queue
    i      int64       ()  index of the position in its order
    queue  SliceQueue  ()  see layouts.py
    rules  SliceRules  ()  see layouts.py
    """
    if rules.position_order == PRO_RATA:
        return queue.surplus[queue.start[n] + i]
    return rules.target * queue.equity[n] - queue.maintenance[n]


@inner_kernel
def fill_slice(n, i, want, filled, amount, fee, reason, queue, state, prices, rules, rows):
    """Apply the fill of a slice, write its row, and compute the margin of the account anew.

    n       int64           ()  index of the account in the queue
    i       int64           ()  index of the position in its order
    want    int64           ()  lots requested
    filled  int64           ()  lots filled, > 0
    amount  int64           ()  quanta of the settle asset of the fill, without sign
    fee     int64           ()  quanta of it; no more than leave equity is taken
    reason  int64           ()  of the fill
    queue   SliceQueue      ()  status, room, equity, maintenance and ratio change
    state   AccountColumns  ()  lots, cost, entry, balance_cost and free change
    prices  PriceArrays     ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    rows    SliceRows       ()  one more
    """
    p = queue.order[queue.start[n] + i]
    lots, m = state.lots[p], np.int64(state.market[p])
    change = -filled if lots > 0 else filled
    flow = closing_flow(lots, amount, prices.value_per_lot[m])
    cost = cost_change(lots, state.cost[p], change, flow)
    entry = cost_change(lots, state.entry[p], change, flow)
    state.lots[p] += change
    state.cost[p] += cost
    state.entry[p] += entry
    balance = state.position_balance[p]
    state.balance_cost[balance] += cost
    state.free[balance] += flow + cost - fee
    queue.room[n] -= filled * rules.lot_quanta[m]
    rules.market_room[m] -= filled
    row = rows.written[0]
    write_row(n, m, BOOK, reason, want, queue, rows)
    rows.lots[row], rows.flow[row], rows.cost[row], rows.entry[row], rows.fee[row] = change, flow, cost, entry, fee
    sums = refresh_margin(n, queue, state, prices)
    paid = affordable_fee(queue.account[n], balance, fee, sums.equity, sums.exposure, state, prices)
    if paid < fee:
        rows.fee[row] = paid
        sums = refresh_margin(n, queue, state, prices)
    queue.status[n] = float_status(
        sums.equity, sums.exposure, sums.maintenance, prices.acmf_divisor, prices.acmf_offset
    )
    rows.after[row] = queue.ratio[n]


@kernel
def send_slices(queue, state, prices, rules, book, rows):
    """Send a slice of each position of the accounts, one account after another, while it is liquidating.

    queue   SliceQueue      ()  see layouts.py
    state   AccountColumns  ()  lots, cost, entry, balance_cost and free change
    prices  PriceArrays     ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    book    BookColumns     ()  cursor, taken and inside change
    rows    SliceRows       ()  rows are appended
    """
    for n in range(queue.account.size):
        open_queue(n, queue, state, prices, rules, book)
        for i in range(queue.start[n + 1] - queue.start[n]):
            if queue.status[n] != LIQUIDATING:
                break
            if skips_position(n, i, queue, state, rows):
                continue
            p = queue.order[queue.start[n] + i]
            m = np.int64(state.market[p])
            side = 2 * m if state.lots[p] > 0 else 2 * m + 1
            sized = size_slice(
                queue.account[n], p, queue.equity[n], queue.maintenance[n], surplus_over_target(n, i, queue, rules),
                queue.room[n], state, rules, prices, book,
            )  # fmt: skip
            if sized.harm >= 0:
                amount = fill_amount(side, sized.judged, sized.judged_value, rules, prices, book)
                flow = closing_flow(state.lots[p], amount, prices.value_per_lot[m])
                write_harm(n, m, sized.harm, sized.judged, flow, queue, rows)
            elif sized.filled == 0:
                write_row(n, m, EXPIRE, sized.reason, sized.want, queue, rows)
            if sized.filled > 0:
                amount = fill_amount(side, sized.filled, sized.value, rules, prices, book)
                take_book(side, sized.filled, book)
                fee = multiply_divide(amount, sized.fee_num, sized.fee_den)
                fill_slice(n, i, sized.want, sized.filled, amount, fee, sized.reason, queue, state, prices, rules, rows)
                row = rows.written[0] - 1
                rows.fee_num[row], rows.fee_den[row] = sized.fee_num, sized.fee_den


@allocating_kernel
def send_shared(queue, state, prices, rules, book, rows):
    """Send a slice of each position of the accounts, in passes: those of a pass share a side of a book at one price.

    queue   SliceQueue      ()  see layouts.py
    state   AccountColumns  ()  lots, cost, entry, balance_cost and free change
    prices  PriceArrays     ()  see layouts.py
    rules   SliceRules      ()  market_room changes
    book    BookColumns     ()  cursor, taken and inside change
    rows    SliceRows       ()  rows are appended
    """
    accounts, passes = queue.account.size, 0
    for n in range(accounts):
        open_queue(n, queue, state, prices, rules, book)
        passes = max(passes, queue.start[n + 1] - queue.start[n])
    members, sides = np.empty(accounts, np.int64), np.empty(accounts, np.int64)
    for i in range(passes):
        offers = 0
        for n in range(accounts):
            if queue.status[n] != LIQUIDATING or queue.start[n] + i >= queue.start[n + 1]:
                continue
            if not skips_position(n, i, queue, state, rows):
                p = queue.order[queue.start[n] + i]
                m = np.int64(state.market[p])
                members[offers], sides[offers] = n, 2 * m if state.lots[p] > 0 else 2 * m + 1
                offers += 1
        by_side = np.argsort(sides[:offers], kind="mergesort")
        last = 0
        while last < offers:
            first = last
            while last < offers and sides[by_side[last]] == sides[by_side[first]]:
                last += 1
            share_side(sides[by_side[first]], i, members[by_side[first:last]], queue, state, prices, rules, book, rows)


@allocating_kernel
def share_side(side, i, members, queue, state, prices, rules, book, rows):
    """Fill the slices of one side together, each judged and sized at the price that all of them would get.

    side     int64           ()    of a market's book
    i        int64           ()    pass: index of the positions in the order of their accounts
    members  int64           (X,)  indexes of the accounts in the queue, ascending
    queue    SliceQueue      ()    see layouts.py
    state    AccountColumns  ()    lots, cost, entry, balance_cost and free change
    prices   PriceArrays     ()    see layouts.py
    rules    SliceRules      ()    market_room changes
    book     BookColumns     ()    cursor, taken and inside change
    rows     SliceRows       ()    rows are appended
    """
    m = side // 2
    count = members.size
    want, offers, filled_lots = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    fee_num, fee_den = np.empty(count, np.int64), np.empty(count, np.int64)
    offered = 0
    for g in range(members.size):
        size = abs(state.lots[queue.order[queue.start[members[g]] + i]])
        want[g] = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
        offers[g] = min(want[g], max(queue.room[members[g]], 0) // rules.lot_quanta[m])
        offered += offers[g]
    room, room_reason = slice_room(side, _UNLIMITED, rules, book)
    filled, value, reason = quote_book(side, offered, room, room_reason, book)
    water_fill(filled, offers, offers, filled_lots)
    amount = fill_amount(side, filled, value, rules, prices, book)
    price = fill_value(side, filled, value, rules, prices, book) / filled if filled > 0 else 0.0
    offered = 0
    for g in range(members.size):
        n = members[g]
        if filled_lots[g] == 0:
            write_row(n, m, EXPIRE, ACCOUNT_CAP if offers[g] == 0 else reason, want[g], queue, rows)
            offers[g] = 0
            continue
        want[g], fee_num[g], fee_den[g], harm = size_at_price(
            queue.account[n], queue.order[queue.start[n] + i], want[g], filled_lots[g], price, queue.equity[n],
            queue.maintenance[n], surplus_over_target(n, i, queue, rules), state, rules, prices,
        )  # fmt: skip
        if harm >= 0:
            flow = closing_flow(
                state.lots[queue.order[queue.start[n] + i]], multiply_divide(amount, filled_lots[g], filled),
                prices.value_per_lot[m],
            )  # fmt: skip
            write_harm(n, m, harm, filled_lots[g], flow, queue, rows)
        offers[g] = min(want[g], max(queue.room[n], 0) // rules.lot_quanta[m])
        offered += offers[g]
    if offered == 0:
        return
    filled, value, reason = quote_book(side, offered, room, room_reason, book)
    amount = fill_amount(side, filled, value, rules, prices, book)
    take_book(side, filled, book)
    water_fill(filled, offers, offers, filled_lots)
    filled_so_far, paid_so_far = 0, 0
    for g in range(members.size):
        n = members[g]
        if offers[g] == 0:
            continue
        fill_reason = reason
        if filled_lots[g] == offers[g]:
            fill_reason = FULL if filled_lots[g] == want[g] else ACCOUNT_CAP
        if filled_lots[g] == 0:
            write_row(n, m, EXPIRE, fill_reason, want[g], queue, rows)
            continue
        filled_so_far += filled_lots[g]
        due_so_far = multiply_divide(amount, filled_so_far, filled)
        part = due_so_far - paid_so_far
        fee = multiply_divide(part, fee_num[g], fee_den[g])
        fill_slice(n, i, want[g], filled_lots[g], part, fee, fill_reason, queue, state, prices, rules, rows)
        row = rows.written[0] - 1
        rows.fee_num[row], rows.fee_den[row] = fee_num[g], fee_den[g]
        paid_so_far = due_so_far
