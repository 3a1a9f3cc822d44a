"""An order book in whole lots and ticks: what it would fill, and taking it."""

from ._jit import kernel

REASONS = (
    "full", "depth", "no_book", "slippage", "account_cap", "market_cap", "depth_share",
    "impact", "mean_mark", "mean_premium", "limit", "conversion",
)  # fmt: skip
"""Why a quote fills as far as it does, by code; from `FIRST_BAND` on the price bands."""
FULL, DEPTH, NO_BOOK, SLIPPAGE, ACCOUNT_CAP, MARKET_CAP, DEPTH_SHARE, FIRST_BAND = range(8)


@kernel
def quote_book(side, want, room, room_reason, book):
    """What one side would fill of ``want`` lots within its band; nothing is taken.

    Returns lots, the sum of lots times ticks, and why it ended: FULL | DEPTH | NO_BOOK | SLIPPAGE, room_reason, or the
    reason of the band.

    side         int64        ()  2b for the bids of book b, 2b + 1 for its asks
    want         int64        ()  lots, > 0
    room         int64        ()  lots that caps leave, >= 0
    room_reason  int64        ()  which cap that is
    book         BookColumns  ()  see layouts.py
    """
    end = book.offset[side + 1]
    if book.offset[side] == end:
        return 0, 0, NO_BOOK
    buying = side % 2 == 1
    band, worst = book.band[side], book.worst_average[side]
    level, used = book.cursor[side], book.taken[side]
    most = min(want, room)
    filled, value, output_buffer = 0, 0, 0  # spare: ticks times lots by which the average is better than its worst
    while filled < most:
        if level == end:
            return filled, value, DEPTH
        price = book.price[level]
        if (buying and price > band) or (not buying and price < band):
            return filled, value, book.band_reason[side]
        take = min(most - filled, book.lots[level] - used)
        worse = price - worst if buying else worst - price
        if worse > 0 and take > output_buffer // worse:
            take = output_buffer // worse
            return filled + take, value + take * price, SLIPPAGE
        output_buffer -= take * worse
        filled += take
        value += take * price
        level, used = level + 1, 0
    return filled, value, FULL if filled == want else room_reason


@kernel
def take_book(side, lots, book):
    """Take lots that a quote of this side has filled; its cursor moves on.

    side  int64        ()  0 <= side < S
    lots  int64        ()  no more than a quote fills
    book  BookColumns  ()  cursor, taken and inside change
    """
    book.inside[side] -= lots
    level, used = book.cursor[side], book.taken[side]
    while lots > 0 and lots >= book.lots[level] - used:
        lots -= book.lots[level] - used
        level, used = level + 1, 0
    book.cursor[side] = level
    book.taken[side] = used + lots


@kernel
def walk_book(side, want, room, room_reason, book):
    """Fill as much of ``want`` lots as a quote does; returns what `quote_book` returns.

    side         int64        ()  2b for the bids of book b, 2b + 1 for its asks
    want         int64        ()  lots, > 0
    room         int64        ()  lots that caps leave, >= 0
    room_reason  int64        ()  which cap that is
    book         BookColumns  ()  cursor, taken and inside change
    """
    filled, value, reason = quote_book(side, want, room, room_reason, book)
    if filled > 0:
        take_book(side, filled, book)
    return filled, value, reason


@kernel
def walk_books(side, want, book, lots, value, reason):
    """Orders of many into the books, one after another.

    side    int64        (N,)  side of each order
    want    int64        (N,)  lots, > 0
    book    BookColumns  ()    cursor, taken and inside change
    lots    int64        (N,)  out, filled
    value   int64        (N,)  out, sum of lots times ticks
    reason  int64        (N,)  out, see `quote_book`
    """
    for n in range(side.size):
        lots[n], value[n], reason[n] = walk_book(side[n], want[n], want[n], FULL, book)
