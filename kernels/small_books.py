"""Slices of one account in an njit loop: books in whole ticks, their bands, a slice, a round, and the last book."""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .books import DEPTH, FIRST_BAND, FULL, NO_BOOK, quote_book, take_book
from .integer_math import multiply_divide, multiply_divmod
from .margin import DOUBT_BAND, LIQUIDATING, SAFE, account_margin, float_status
from .margin_model import closing_flow, position_requirement
from .slice_rounds import BOOK, EXPIRE, fill_slice, refresh_margin, send_slices, write_row
from .slice_size import _UNLIMITED, PRO_RATA, TO_BACKSTOP, WITHHELD, fill_amount, size_slice
from .small_account import Fill, book_fill

IMPACT, MEAN_MARK, LIMIT = FIRST_BAND, FIRST_BAND + 1, FIRST_BAND + 3
"""Reasons of the bands that a small book has."""

MARKET_CLOSE = BOOK + 1
"""Event of a row of the last book; those of the slices are the codes of slice_rounds.py."""

_NEW = -1  # room of a market whose cap begins anew
_ROUNDING = 2.0**-49  # some roundings of float64


class Slice(NamedTuple):
    """A slice to be sent, and what the book fills of it.

    ``lots`` is the signed change of the position that is sent, 0: nothing. ``limit`` is the worst price inside the
    bands in ticks, 2**62: any purchase. ``filled`` and ``value`` are the lots that the book fills and their lots times
    ticks; ``fee_num / fee_den`` is the fee as a part of the value, ``reason`` why the fill ends, an index of `REASONS`,
    and ``harm`` the reason of harm, an index of `ROW_REASONS`, -1: none.
    """

    lots: int
    limit: int
    filled: int
    value: int
    fee_num: int
    fee_den: int
    reason: int
    harm: int


class Liquidation(NamedTuple):
    """What a tick's liquidation did: rows written, lots that no book took, shortfall in settle quanta."""

    rows: int
    open_lots: int
    shortfall: int


@kernel
def whole_up(value):
    """Least whole number that a float64 is not above, but for its rounding errors.

    value  float64  ()  >= 0
    """
    nearest = np.rint(value)
    if abs(value - nearest) <= value * _ROUNDING:
        return np.int64(min(nearest, float(_UNLIMITED)))
    return np.int64(min(ceil(value), float(_UNLIMITED)))


@kernel
def edge_of(ticks, num, den, up):
    """``ticks * num / den`` in whole ticks, rounded up or down.

    ticks  int64  ()  >= 0
    num    int64  ()  >= 0
    den    int64  ()  > 0
    up     bool   ()  round up
    """
    whole, rest = multiply_divmod(ticks, num % den, den)
    return ticks * (num // den) + whole + (1 if up and rest > 0 else 0)


@inner_kernel
def set_side(side, count, ticks, lots, books):
    """Copy the first levels of a side into its rows, best first; levels that do not fit are left out.

    side   int64       ()    0 <= side < S
    count  int64       ()    0 <= count <= L
    ticks  int64       (L,)  price of each level
    lots   int64       (L,)  > 0
    books  SmallBooks  ()    book and given change
    """
    book = books.book
    end = book.offset[side + 1]
    count = min(count, end - book.offset[side])
    first = end - count
    for n in range(count):
        book.price[first + n], book.lots[first + n] = ticks[n], lots[n]
    book.cursor[side], book.taken[side] = first, 0
    books.given[side] = count


@inner_kernel
def count_inside(side, book):
    """Sum the lots of a side inside its band.

    side  int64        ()  0 <= side < S
    book  BookColumns  ()  inside changes
    """
    inside, buying = np.int64(0), side % 2 == 1
    for level in range(book.cursor[side], book.offset[side + 1]):
        if (book.price[level] <= book.band[side]) if buying else (book.price[level] >= book.band[side]):
            inside += book.lots[level]
    book.inside[side] = inside


@inner_kernel
def set_bands(m, books):
    """Set the bands of a market's sides by their touch, and the worst averages of a slippage limit.

    m      int64       ()  0 <= m < M
    books  SmallBooks  ()  book changes
    """
    book = books.book
    for side in range(2 * m, 2 * m + 2):
        buying, other, level = side % 2 == 1, side ^ 1, book.cursor[side]
        book.band[side], book.band_reason[side] = _UNLIMITED if buying else 0, IMPACT
        book.worst_average[side] = 0
        if books.given[side] > 0:
            touch = book.price[level]
            if books.impact_num[side] > 0:
                book.band[side] = edge_of(touch, books.impact_num[side], books.impact_den[side], not buying)
            if books.limit_num[side] > 0:
                middle = 2 * touch
                if books.given[other] > 0:
                    middle = touch + book.price[book.cursor[other]]
                edge = edge_of(middle, books.limit_num[side], 2 * books.limit_den[side], not buying)
                if (edge < book.band[side]) if buying else (edge > book.band[side]):
                    book.band[side], book.band_reason[side] = edge, LIMIT
            book.worst_average[side] = book.price[book.offset[side + 1] - 1]
            if books.slippage_num[side % 2] > 0:
                num, den = books.slippage_num[side % 2], books.slippage_den[side % 2]
                book.worst_average[side] = edge_of(touch, num, den, not buying)
        count_inside(side, book)


@inner_kernel
def set_levels(m, bid_ticks, bid_lots, ask_ticks, ask_lots, books):
    """Set the book of a market; one that is crossed has no levels.

    m          int64       ()    0 <= m < M
    bid_ticks  int64       (B,)  best first
    bid_lots   int64       (B,)  > 0
    ask_ticks  int64       (L,)  best first
    ask_lots   int64       (L,)  > 0
    books      SmallBooks  ()    book, given and the room of a market's cap change
    """
    bids, asks = np.int64(bid_ticks.size), np.int64(ask_ticks.size)
    if bids > 0 and asks > 0 and ask_ticks[0] <= bid_ticks[0]:
        bids, asks = 0, 0
    set_side(2 * m, bids, bid_ticks, bid_lots, books)
    set_side(2 * m + 1, asks, ask_ticks, ask_lots, books)
    set_bands(m, books)
    books.rules.market_room[m] = _NEW


@inner_kernel
def tighten_bands(m, lowest, highest, books):
    """Bound the prices of a market's book further.

    m        int64       ()  0 <= m < M
    lowest   int64       ()  ticks, worst price of a sale; 0: no further bound
    highest  int64       ()  ticks, worst price of a purchase; 2**62: no further bound
    books    SmallBooks  ()  book changes
    """
    book = books.book
    if lowest > book.band[2 * m]:
        book.band[2 * m], book.band_reason[2 * m] = lowest, MEAN_MARK
    if highest < book.band[2 * m + 1]:
        book.band[2 * m + 1], book.band_reason[2 * m + 1] = highest, MEAN_MARK
    count_inside(2 * m, book)
    count_inside(2 * m + 1, book)


@inner_kernel
def set_rules(account, books):
    """Set the figures of the policy that depend on the marks, for the markets of the account.

    account  SmallAccount  ()  see layouts.py
    books    SmallBooks    ()  floor_lots, lot_quanta and market_room of the rules change
    """
    rules, state = books.rules, account.state
    for p in range(state.lots.size):
        m = np.int64(state.market[p])
        price = account.prices.price_per_lot[m]
        rules.lot_quanta[m] = max(whole_up(price), 1)
        rules.floor_lots[m] = whole_up(books.least_slice / price) if price > 0.0 else 1
        if rules.market_room[m] == _NEW:
            rules.market_room[m] = books.market_cap // rules.lot_quanta[m]


@inner_kernel
def reason_of(side, lots, reason, books):
    """Reason why a quote ended, where a side without levels gives NO_BOOK and not DEPTH.

    side    int64       ()  0 <= side < S
    lots    int64       ()  filled
    reason  int64       ()  of the quote
    books   SmallBooks  ()  see layouts.py
    """
    return NO_BOOK if lots == 0 and reason == DEPTH and books.given[side] == 0 else reason


@inner_kernel
def part_of_surplus(p, surplus, account, books):
    """Part of a position in the surplus that slices are to restore: all of it, or its part of the notional.

    p        int64         ()  position row
    surplus  float64       ()  settle quanta, of the account
    account  SmallAccount  ()  see layouts.py
    books    SmallBooks    ()  see layouts.py
    """
    if books.rules.position_order != PRO_RATA:
        return surplus
    state, prices, gross = account.state, account.prices, 0.0
    for i in range(state.lots.size):
        gross += abs(state.lots[i]) * prices.price_per_lot[np.int64(state.market[i])]
    return surplus * (abs(state.lots[p]) * prices.price_per_lot[np.int64(state.market[p])] / gross)


@inner_kernel
def next_slice(m, account, books):
    """Size the slice that the policy sends of a position now; a `Slice`, which changes nothing.

    m        int64         ()  0 <= m < M, a market of the account
    account  SmallAccount  ()  see layouts.py
    books    SmallBooks    ()  rules change
    """
    state, prices, p = account.state, account.prices, account.row[m]
    set_rules(account, books)
    rules, book = books.rules, books.book
    held = state.lots[p]
    side = 2 * m if held > 0 else 2 * m + 1
    sums = account_margin(0, state, prices)
    if held == 0 or not (sums.equity > 0.0 and sums.maintenance >= sums.equity):
        return Slice(
            lots=0, limit=book.band[side], filled=0, value=0, fee_num=rules.fee_num, fee_den=rules.fee_den,
            reason=FULL, harm=-1,
        )  # fmt: skip
    surplus = part_of_surplus(p, rules.target * sums.equity - sums.maintenance, account, books)
    sized = size_slice(0, p, sums.equity, sums.maintenance, surplus, books.queue.room[0], state, rules, prices, book)
    lots = np.int64(0) if sized.harm == WITHHELD or sized.harm == TO_BACKSTOP else sized.want
    return Slice(
        lots=-lots if held > 0 else lots, limit=book.band[side], filled=sized.filled, value=sized.value,
        fee_num=sized.fee_num, fee_den=sized.fee_den, reason=reason_of(side, sized.filled, sized.reason, books),
        harm=sized.harm,
    )  # fmt: skip


@inner_kernel
def add_up_row(row, account, books):
    """Add the amounts of a row of a fill to the sums of the account.

    row      int64         ()  of the rows
    account  SmallAccount  ()  realized and fees change
    books    SmallBooks    ()  see layouts.py
    """
    rows = books.rows
    m = rows.market[row]
    account.realized[m] += rows.flow[row] + rows.entry[row]
    account.fees[m] += rows.fee[row]


@inner_kernel
def book_slice(m, slice_, account, books):
    """Fill what the book fills of a slice, and charge its fee; a `Fill`.

    m        int64         ()  0 <= m < M, a market of the account
    slice_   Slice         ()  of `next_slice`, nothing having changed since
    account  SmallAccount  ()  its position, balance and sums change
    books    SmallBooks    ()  book, queue and rows change
    """
    state, prices, rules, rows = account.state, account.prices, books.rules, books.rows
    p = account.row[m]
    if slice_.filled == 0:
        return Fill(realized=0, flow=0, lots=state.lots[p], entry=state.entry[p])
    side = 2 * m if state.lots[p] > 0 else 2 * m + 1
    amount = fill_amount(side, slice_.filled, slice_.value, rules, prices, books.book)
    take_book(side, slice_.filled, books.book)
    fee = multiply_divide(amount, slice_.fee_num, slice_.fee_den)
    rows.written[0], books.queue.order[0] = 0, p
    fill_slice(
        0, 0, abs(slice_.lots), slice_.filled, amount, fee, slice_.reason, books.queue, state, prices, rules, rows
    )
    add_up_row(0, account, books)
    return Fill(realized=rows.flow[0] + rows.entry[0], flow=rows.flow[0], lots=state.lots[p], entry=state.entry[p])


@inner_kernel
def float64_status(account):
    """Status of the account, by float64 alone where that leaves a doubt.

    account  SmallAccount  ()  see layouts.py
    """
    prices = account.prices
    sums = account_margin(0, account.state, prices)
    return float_status(sums.equity, sums.exposure, sums.maintenance, prices.acmf_divisor, prices.acmf_offset)


@inner_kernel
def largest_left(account, books):
    """Position row with lots and the largest maintenance margin that is not marked yet, -1: none; it is marked.

    account  SmallAccount  ()  see layouts.py
    books    SmallBooks    ()  score of the queue changes
    """
    largest, found = -1.0, -1
    for p in range(account.state.lots.size):
        required = position_requirement(0, p, account.state, account.prices)
        if account.state.lots[p] != 0 and books.queue.score[p] == 0.0 and required > largest:
            largest, found = required, p
    if found >= 0:
        books.queue.score[found] = 1.0
    return found


@inner_kernel
def close_position(p, account, books):
    """Send a whole position to its book as one order inside the bands, and append its row; returns the lots left open.

    p        int64         ()  position row, not flat
    account  SmallAccount  ()  its positions, balances and sums change
    books    SmallBooks    ()  book, queue, rules and rows change
    """
    state, prices, rules, book, rows = account.state, account.prices, books.rules, books.book, books.rows
    m, held = np.int64(state.market[p]), state.lots[p]
    side = 2 * m if held > 0 else 2 * m + 1
    worst = book.worst_average[side]
    book.worst_average[side] = book.price[book.offset[side + 1] - 1]  # no slippage limit
    quote = quote_book(side, abs(held), abs(held), FULL, book)
    book.worst_average[side] = worst
    if quote.lots == 0:
        return abs(held)
    before = refresh_margin(0, books.queue, state, prices)
    amount = fill_amount(side, quote.lots, quote.value, rules, prices, book)
    take_book(side, quote.lots, book)
    row, change = rows.written[0], -quote.lots if held > 0 else quote.lots
    write_row(0, m, MARKET_CLOSE, quote.reason, abs(held), books.queue, rows)
    cost, entry, flow = state.cost[p], state.entry[p], closing_flow(held, amount, prices.value_per_lot[m])
    book_fill(m, change, flow, np.int64(0), account)
    rows.lots[row], rows.flow[row] = change, flow
    rows.cost[row], rows.entry[row] = state.cost[p] - cost, state.entry[p] - entry
    if before.equity > 0.0:
        sums = account_margin(0, state, prices)
        price = prices.price_per_quantum[np.int64(state.asset[np.int64(state.position_balance[p])])]
        afforded = max(floor((sums.equity + DOUBT_BAND * sums.gross) / price), 0.0)
        rows.fee[row] = np.int64(min(float(multiply_divide(amount, rules.fee_num, rules.fee_den)), afforded))
        book_fill(m, np.int64(0), np.int64(0), rows.fee[row], account)
    refresh_margin(0, books.queue, state, prices)
    rows.after[row] = books.queue.ratio[0]
    return abs(held) - quote.lots


@inner_kernel
def close_out(account, books):
    """Take a bankrupt account without positions and other assets to a balance of zero; returns its shortfall, quanta.

    account  SmallAccount  ()  its settle balance changes
    books    SmallBooks    ()  see layouts.py
    """
    state = account.state
    row = np.int64(state.settle_row[0])
    for p in range(state.lots.size):
        if state.lots[p] != 0:
            return np.int64(0)
    for j in range(state.asset.size):
        if j != row and (state.free[j] != 0 or state.lent[j] != 0 or state.unsettled[j] != 0):
            return np.int64(0)
    if account_margin(0, state, account.prices).equity > 0.0:
        return np.int64(0)
    state.free[row] += state.lent[row]
    state.lent[row] = 0
    if state.unsettled[row] > 0 or not books.keeps_shortfall:
        state.free[row] += state.unsettled[row]
        state.unsettled[row] = 0
    shortfall = max(-state.free[row], 0)
    state.free[row] += shortfall
    if books.keeps_shortfall:
        state.unsettled[row] -= shortfall
    return shortfall


@inner_kernel
def add_up_rows(account, books):
    """Add the amounts of the slices to the sums of the account, and name the sides without levels in their rows.

    account  SmallAccount  ()  realized and fees change
    books    SmallBooks    ()  reason of the rows changes
    """
    rows = books.rows
    for row in range(rows.written[0]):
        if rows.event[row] == BOOK:
            add_up_row(row, account, books)
        elif rows.event[row] == EXPIRE:
            m = rows.market[row]
            side = 2 * m if account.state.lots[account.row[m]] > 0 else 2 * m + 1
            rows.reason[row] = reason_of(side, 0, rows.reason[row], books)


@inner_kernel
def liquidate_account(account, books):
    """Do at a tick what the venue does with an account that is alone there; a `Liquidation`.

    account  SmallAccount  ()  its orders, positions, balances and sums change
    books    SmallBooks    ()  book, queue, rules and rows change
    """
    state, prices, queue = account.state, account.prices, books.queue
    books.rows.written[0] = 0
    queue.status[0] = float64_status(account)
    open_lots, shortfall = np.int64(0), np.int64(0)
    if queue.status[0] != SAFE:
        state.open_bid[:] = 0
        state.open_ask[:] = 0
        state.open_orders[0] = 0
        set_rules(account, books)
        for _ in range(books.rounds):
            if queue.status[0] == LIQUIDATING:  # after a fill its status is that of float64
                send_slices(queue, state, prices, books.rules, books.book, books.rows)
        add_up_rows(account, books)
        if books.rounds == 0 or queue.status[0] > LIQUIDATING:  # below auto-close or escalated
            queue.score[:] = 0.0
            while float64_status(account) != SAFE:
                p = largest_left(account, books)
                if p < 0:
                    break
                open_lots += close_position(p, account, books)
        shortfall = close_out(account, books)
    return Liquidation(rows=books.rows.written[0], open_lots=open_lots, shortfall=shortfall)
