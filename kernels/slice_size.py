"""The size of a slice: lots that restore the margin, lots that the book fills, and whether the slice helps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .books import ACCOUNT_CAP, DEPTH_SHARE, FULL, MARKET_CAP, REASONS, inverse_amount, quote_book
from .integer_math import multiply_divmod, scale
from .margin_model import fill_effect, restoring_lots

THROTTLE, COOLDOWN, FEE_WAIVED, SENT, WITHHELD, TO_BACKSTOP = range(len(REASONS), len(REASONS) + 6)

RELIEF, LARGEST, PRO_RATA = 0, 1, 2
"""Order of treatment of an account's positions."""
WAIVE, SEND, BACKSTOP = 0, 1, 2
"""Treatment of a slice that would not lower the MMR."""
ESCALATED = 4
"""Status of an account that goes on to the backstop although it is not below auto-close."""

_UNLIMITED = 1 << 62
_EDGE = 1e-6  # of a basis point: so that the last bit of float64 does not decide the whole one


class SliceJudgement(NamedTuple):
    """Fee of a slice as a ratio of whole numbers, and a reason of harm, an index of `ROW_REASONS`, -1: none."""

    fee_num: int
    fee_den: int
    harm: int


class SliceSize(NamedTuple):
    """Size of a slice: lots requested, lots filled and their value in lots times ticks, the reason of the fill.

    The fee and the reason of harm are those of `SliceJudgement`, of the lots and value judged.
    """

    want: int
    filled: int
    value: int
    reason: int
    fee_num: int
    fee_den: int
    harm: int
    judged: int
    judged_value: int


class PricedSize(NamedTuple):
    """Size of a slice at one price: lots requested, and fee and reason of harm as in `SliceJudgement`."""

    want: int
    fee_num: int
    fee_den: int
    harm: int


@kernel
def slice_lots(lots, fraction_num, fraction_den, floor_lots, min_lots):
    """Size of a slice by the policy: a part of the position, a minimum notional, no remainder too small to trade.

    lots          int64  ()  size of the position, > 0
    fraction_num  int64  ()  part of the position
    fraction_den  int64  ()  > 0
    floor_lots    int64  ()  lots of the minimum notional
    min_lots      int64  ()  the smallest position that may be left
    """
    size = max(lots // fraction_den * fraction_num + lots % fraction_den * fraction_num // fraction_den, floor_lots, 1)
    return without_remainder(size, lots, min_lots)


@kernel
def without_remainder(size, lots, min_lots):
    """Size of a slice, or the whole position where less than the smallest position would be left.

    size      int64  ()  > 0
    lots      int64  ()  size of the position, > 0
    min_lots  int64  ()  the smallest position that may be left
    """
    if size >= lots or lots - size < min_lots:
        return lots
    return size


@inner_kernel
def slice_room(side, account_room, rules, book):
    """Lots that the caps leave a slice, and the cap that leaves the fewest.

    side          int64        ()  of a market's book
    account_room  int64        ()  settle quanta that the account's cap leaves
    rules         SliceRules   ()  see layouts.py
    book          BookColumns  ()  see layouts.py
    """
    room, reason = max(account_room, 0) // rules.lot_quanta[side // 2], ACCOUNT_CAP
    if rules.market_room[side // 2] < room:
        room, reason = max(rules.market_room[side // 2], 0), MARKET_CAP
    if rules.share_num < rules.share_den:
        share, _ = multiply_divmod(book.inside[side], rules.share_num, rules.share_den)
        if share < room:
            room, reason = share, DEPTH_SHARE
    return room, reason


@inner_kernel
def fill_amount(side, lots, value, rules, prices, book):
    """Whole quanta of the settle asset of a quote that has not been taken, without sign.

    side    int64        ()  of a market's book
    lots    int64        ()  of the quote
    value   int64        ()  its lots times ticks
    rules   SliceRules   ()  see layouts.py
    prices  PriceArrays  ()  see layouts.py, or the class of another model
    book    BookColumns  ()  see layouts.py
    """
    m = side // 2
    if prices.value_per_lot[m] < 0.0:
        return inverse_amount(side, lots, rules.value_num[m], rules.value_den[m], book)
    return scale(value, rules.value_num[m], rules.value_den[m])


@inner_kernel
def fill_value(side, lots, value, rules, prices, book):
    """Value of a quote that has not been taken, quanta of the settle asset without sign; of an inverse contract whole.

    side    int64        ()  of a market's book
    lots    int64        ()  of the quote
    value   int64        ()  its lots times ticks
    rules   SliceRules   ()  see layouts.py
    prices  PriceArrays  ()  see layouts.py, or the class of another model
    book    BookColumns  ()  see layouts.py
    """
    m = side // 2
    if prices.value_per_lot[m] < 0.0:
        return float(inverse_amount(side, lots, rules.value_num[m], rules.value_den[m], book))
    return value * rules.value_unit[m]


@inner_kernel
def judge_slice(account, p, lots, value, equity, maintenance, state, rules, prices):
    """Judge whether filling lots lowers the MMR; if not, the policy decides about the fee and the slice.

    account      int64           ()  0 <= account < A
    p            int64           ()  position row of the account
    lots         int64           ()  filled, > 0
    value        float64         ()  quanta of the settle asset they are filled for, without sign
    equity       float64         ()  settle quanta, > 0
    maintenance  float64         ()  settle quanta, > 0
    state        AccountColumns  ()  see layouts.py
    rules        SliceRules      ()  see layouts.py
    prices       PriceArrays     ()  see layouts.py, or the class of another model
    """
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    loss, relief = fill_effect(account, p, lots, value, fee_num / fee_den, state, prices)
    if loss * maintenance >= relief * equity:
        if rules.on_harm == SEND:
            harm = SENT
        elif rules.on_harm == BACKSTOP:
            harm = TO_BACKSTOP
        else:
            loss, relief = fill_effect(account, p, lots, value, 0.0, state, prices)
            harmless = relief * equity / maintenance - loss
            harm = WITHHELD
            if harmless > 0.0:
                harm, fee_den = FEE_WAIVED, 10_000
                worth = value * prices.price_per_quantum[state.asset[state.position_balance[p]]]
                fee_num = int(10_000 * rules.waived_share * harmless / worth + _EDGE)
    return SliceJudgement(fee_num=fee_num, fee_den=fee_den, harm=harm)


@inner_kernel
def size_slice(account, p, equity, maintenance, surplus, account_room, state, rules, prices, book):
    """Size a slice by the policy and the book, judge whether it helps, and reduce it to lots that restore the target.

    account       int64           ()  0 <= account < A
    p             int64           ()  position row of the account, not flat
    equity        float64         ()  settle quanta, > 0
    maintenance   float64         ()  settle quanta, > 0
    surplus       float64         ()  settle quanta, <= 0, that the slice is to bring above 0
    account_room  int64           ()  settle quanta that the account's cap leaves
    state         AccountColumns  ()  see layouts.py
    rules         SliceRules      ()  see layouts.py
    prices        PriceArrays     ()  see layouts.py, or the class of another model
    book          BookColumns     ()  see layouts.py
    """
    m, size = np.int64(state.market[p]), abs(state.lots[p])
    side = 2 * m if state.lots[p] > 0 else 2 * m + 1
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    want = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
    room, room_reason = slice_room(side, account_room, rules, book)
    filled, value, reason = quote_book(side, want, room, room_reason, book)
    judged, judged_value = filled, value
    if filled > 0:
        filled_value = fill_value(side, filled, value, rules, prices, book)
        fee_num, fee_den, harm = judge_slice(
            account, p, filled, filled_value, equity, maintenance, state, rules, prices
        )
        if harm in (WITHHELD, TO_BACKSTOP):
            filled = 0
        if filled > 0:
            restoring, restoring_value = restoring_lots(
                account, p, filled, filled_value, surplus, fee_num / fee_den, state, rules, prices, book
            )
            smaller = without_remainder(max(restoring, rules.floor_lots[m], 1), size, rules.min_lots[m])
            if restoring > 0 and smaller < want:
                want = smaller
                if smaller == restoring:
                    filled, value, reason = restoring, restoring_value, FULL
                else:
                    filled, value, reason = quote_book(side, want, room, room_reason, book)
    return SliceSize(
        want=want, filled=filled, value=value, reason=reason, fee_num=fee_num, fee_den=fee_den, harm=harm,
        judged=judged, judged_value=judged_value,
    )  # fmt: skip


@inner_kernel
def size_at_price(account, p, want, lots, price, equity, maintenance, surplus, state, rules, prices):
    """Judge lots at one price, and reduce the slice to the lots that restore the target at that price.

    The lots requested are 0 where nothing is sent.

    account      int64           ()  0 <= account < A
    p            int64           ()  position row of the account, not flat
    want         int64           ()  lots by the policy
    lots         int64           ()  those of them that are filled, > 0
    price        float64         ()  quanta of the settle asset per lot, without sign
    equity       float64         ()  settle quanta, > 0
    maintenance  float64         ()  settle quanta, > 0
    surplus      float64         ()  settle quanta, <= 0, that the slice is to bring above 0
    state        AccountColumns  ()  see layouts.py
    rules        SliceRules      ()  see layouts.py
    prices       PriceArrays     ()  see layouts.py, or the class of another model
    """
    fee_num, fee_den, harm = judge_slice(account, p, lots, lots * price, equity, maintenance, state, rules, prices)
    if harm in (WITHHELD, TO_BACKSTOP):
        return PricedSize(want=0, fee_num=fee_num, fee_den=fee_den, harm=harm)
    fee, low, high = fee_num / fee_den, 0, lots
    loss, relief = fill_effect(account, p, lots, lots * price, fee, state, prices)
    if surplus - rules.target * loss + relief > 0.0:
        while high - low > 1:
            middle = low + (high - low) // 2
            loss, relief = fill_effect(account, p, middle, middle * price, fee, state, prices)
            if surplus - rules.target * loss + relief > 0.0:
                high = middle
            else:
                low = middle
        m = np.int64(state.market[p])
        size = abs(state.lots[p])
        want = min(want, without_remainder(max(high, rules.floor_lots[m], 1), size, rules.min_lots[m]))
    return PricedSize(want=want, fee_num=fee_num, fee_den=fee_den, harm=harm)
