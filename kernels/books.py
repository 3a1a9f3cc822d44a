"""An order book in whole lots and ticks: quotes, and fills."""

from typing import NamedTuple

from ._jit import kernel
from .integer_math import scale

REASONS = (
    "full", "depth", "no_book", "slippage", "account_cap", "market_cap", "depth_share",
    "impact", "mean_mark", "mean_premium", "limit", "conversion",
)  # fmt: skip
"""Reasons why a quote ends, by code; from `FIRST_BAND` on the price bands."""
FULL, DEPTH, NO_BOOK, SLIPPAGE, ACCOUNT_CAP, MARKET_CAP, DEPTH_SHARE, FIRST_BAND = range(8)


class Quote(NamedTuple):
    """Fill of a side of a book: lots, the sum of lots times ticks, and why it ended, an index of `REASONS`."""

    lots: int
    value: int
    reason: int


@kernel
def quote_book(side, want, room, room_reason, book):
    """Quote what one side would fill of ``want`` lots within its band; the book does not change.

    The reason is FULL | DEPTH | NO_BOOK | SLIPPAGE, room_reason, or the reason of the band.

    side         int64        ()  2b for the bids of book b, 2b + 1 for its asks
    want         int64        ()  lots, > 0
    room         int64        ()  lots that caps leave, >= 0
    room_reason  int64        ()  which cap that is
    book         BookColumns  ()  see layouts.py
    """
    end = book.offset[side + 1]
    if book.offset[side] == end:
        return Quote(lots=0, value=0, reason=NO_BOOK)
    buying = side % 2 == 1
    band, worst = book.band[side], book.worst_average[side]
    level, taken = book.cursor[side], book.taken[side]
    limit = min(want, room)
    filled, value, slack = 0, 0, 0  # slack: ticks times lots by which the average beats the worst average
    while filled < limit:
        if level == end:
            return Quote(lots=filled, value=value, reason=DEPTH)
        price = book.price[level]
        if (buying and price > band) or (not buying and price < band):
            return Quote(lots=filled, value=value, reason=book.band_reason[side])
        take = min(limit - filled, book.lots[level] - taken)
        excess = price - worst if buying else worst - price
        if excess > 0 and take > slack // excess:
            take = slack // excess
            return Quote(lots=filled + take, value=value + take * price, reason=SLIPPAGE)
        slack -= take * excess
        filled += take
        value += take * price
        level, taken = level + 1, 0
    return Quote(lots=filled, value=value, reason=FULL if filled == want else room_reason)


@kernel
def inverse_level(lots, ticks, value_num, value_den):
    """Quanta of the settle asset that lots of an inverse contract are worth at a price, without their sign.

    lots       int64  ()  >= 0
    ticks      int64  ()  > 0
    value_num  int64  ()  value of a lot at one tick, quanta
    value_den  int64  ()  its denominator; value_den * ticks < 2**62
    """
    return scale(lots, value_num, value_den * ticks)


@kernel
def inverse_amount(side, lots, value_num, value_den, book):
    """Quanta of the settle asset of a fill of an inverse contract: each level rounded to whole ones, without the sign.

    side       int64        ()  0 <= side < S
    lots       int64        ()  no more than a quote fills
    value_num  int64        ()  value of a lot at one tick, quanta
    value_den  int64        ()  its denominator
    book       BookColumns  ()  see layouts.py
    """
    level, taken, amount = book.cursor[side], book.taken[side], 0
    while lots > 0:
        take = min(lots, book.lots[level] - taken)
        amount += inverse_level(take, book.price[level], value_num, value_den)
        lots, level, taken = lots - take, level + 1, 0
    return amount


@kernel
def take_book(side, lots, book):
    """Fill the lots of a quote of this side: its cursor moves on.

    side  int64        ()  0 <= side < S
    lots  int64        ()  no more than a quote fills
    book  BookColumns  ()  cursor, taken and inside change
    """
    book.inside[side] -= lots
    level, taken = book.cursor[side], book.taken[side]
    while lots > 0 and lots >= book.lots[level] - taken:
        lots -= book.lots[level] - taken
        level, taken = level + 1, 0
    book.cursor[side] = level
    book.taken[side] = taken + lots


@kernel
def walk_book(side, want, room, room_reason, book):
    """Quote ``want`` lots of one side and fill them; returns the quote.

    side         int64        ()  2b for the bids of book b, 2b + 1 for its asks
    want         int64        ()  lots, > 0
    room         int64        ()  lots that caps leave, >= 0
    room_reason  int64        ()  which cap that is
    book         BookColumns  ()  cursor, taken and inside change
    """
    quote = quote_book(side, want, room, room_reason, book)
    if quote.lots > 0:
        take_book(side, quote.lots, book)
    return quote


@kernel
def walk_books(side, want, book, lots, value, reason):
    """Fill orders from the books, one after another.

    side    int64        (N,)  side of each order
    want    int64        (N,)  lots, > 0
    book    BookColumns  ()    cursor, taken and inside change
    lots    int64        (N,)  out, filled
    value   int64        (N,)  out, sum of lots times ticks
    reason  int64        (N,)  out, see `quote_book`
    """
    for n in range(side.size):
        lots[n], value[n], reason[n] = walk_book(side[n], want[n], want[n], FULL, book)
