"""The size of a slice: lots that restore the margin, lots that the book fills, and whether the slice helps."""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inner_kernel, kernel
from .books import ACCOUNT_CAP, DEPTH_SHARE, FULL, MARKET_CAP, REASONS, quote_book
from .integer_math import multiply_divmod
from .margin import collateral_weight
from .margin_function import margin_requirement, marginal_requirement

THROTTLE, COOLDOWN, FEE_WAIVED, SENT, WITHHELD, TO_BACKSTOP = range(len(REASONS), len(REASONS) + 6)

RELIEF, LARGEST, PRO_RATA = 0, 1, 2
"""Order of treatment of an account's positions."""
WAIVE, SEND, BACKSTOP = 0, 1, 2
"""Treatment of a slice that would not lower the MMR."""
ESCALATED = 4
"""Status of an account that goes on to the backstop although it is not below auto-close."""

_UNLIMITED = 1 << 62
_EDGE = 1e-6  # of a basis point: so that the last bit of float64 does not decide the whole one


class SliceEffect(NamedTuple):
    """Net equity that filling lots costs an account, and maintenance margin that it releases, settle quanta."""

    loss: float
    relief: float


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
def balance_margin(balance, lent, rules, prices):
    """Net equity and maintenance margin of a settle balance, settle quanta.

    balance  float64      ()  settle quanta, negative: a borrow
    lent     int64        ()  settle quanta
    rules    SliceRules   ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    """
    k = rules.settle
    collateral = max(balance, 0.0) + lent
    weight = collateral_weight(
        collateral * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
    )
    if balance >= 0.0:
        return collateral * weight, 0.0
    margin_function = 2 * (prices.price_per_lot.size + k) + 1
    return collateral * weight + balance, margin_requirement(-balance, margin_function, prices.functions)


@kernel
def balance_after(side, size, lots, value, fee, cost, balance):
    """Free settle balance after lots of a position are filled and their cost is released.

    side     int64    ()  of a market's book
    size     int64    ()  lots of the position before, > 0
    lots     int64    ()  filled
    value    float64  ()  settle quanta they are filled for
    fee      float64  ()  part of the value
    cost     int64    ()  settle quanta, signed cost of the position
    balance  int64    ()  settle quanta before
    """
    flow = -value if side % 2 == 1 else value
    return balance + (flow - fee * value - cost * (lots / size))


@inner_kernel
def position_effect(side, size, required, lots, value, fee, prices):
    """Effect of filling lots on the position alone.

    side      int64        ()  of a market's book
    size      int64        ()  lots of the position before, > 0
    required  float64      ()  settle quanta, its maintenance margin before
    lots      int64        ()  filled
    value     float64      ()  settle quanta they are filled for
    fee       float64      ()  part of the value
    prices    PriceArrays  ()  see layouts.py
    """
    m = side // 2
    price, margin_function = prices.price_per_lot[m], 2 * m + 1
    loss = (value - lots * price if side % 2 == 1 else lots * price - value) + fee * value
    return SliceEffect(
        loss=loss, relief=required - margin_requirement((size - lots) * price, margin_function, prices.functions)
    )


@inner_kernel
def slice_effect(side, size, lots, value, fee, cost, balance, lent, rules, prices):
    """Effect of filling lots on the position and the settle balance.

    side     int64        ()  of a market's book
    size     int64        ()  lots of the position before, > 0
    lots     int64        ()  filled
    value    float64      ()  settle quanta they are filled for
    fee      float64      ()  part of the value
    cost     int64        ()  settle quanta, signed cost of the position
    balance  int64        ()  settle quanta, free
    lent     int64        ()  settle quanta
    rules    SliceRules   ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    """
    required = margin_requirement(size * prices.price_per_lot[side // 2], 2 * (side // 2) + 1, prices.functions)
    loss, relief = position_effect(side, size, required, lots, value, fee, prices)
    after = balance_after(side, size, lots, value, fee, cost, balance)
    if not (rules.settle_plain and balance >= 0 and after >= 0.0):
        equity, maintenance = balance_margin(float(balance), lent, rules, prices)
        equity_after, maintenance_after = balance_margin(after, lent, rules, prices)
        # the amount that moves from the position to the balance counts with the weight of the balance
        loss += (after - balance) - (equity_after - equity)
        relief -= maintenance_after - maintenance
    return SliceEffect(loss=loss, relief=relief)


@inner_kernel
def restoring_lots(side, size, required, limit, surplus, fee, rules, prices, book):
    """Fewest lots whose fill makes the surplus positive, and their lots times ticks; 0 and 0 if ``limit`` lots do not.

    The surplus is target times net equity less maintenance margin, where the settle balance counts in full. It is
    concave in lots: a price gets worse from level to level, and the requirement of the remaining lots falls ever more
    slowly. So its tangent shows at once when no size is enough, and Newton's method approaches the root from below.

    side      int64        ()  of a market's book
    size      int64        ()  lots of the position
    required  float64      ()  settle quanta, its maintenance margin
    limit     int64        ()  lots that a quote of this side fills, <= size
    surplus   float64      ()  settle quanta before, <= 0
    fee       float64      ()  part of the value
    rules     SliceRules   ()  see layouts.py
    prices    PriceArrays  ()  see layouts.py
    book      BookColumns  ()  see layouts.py
    """
    m, target = side // 2, rules.target
    price, unit, margin_function = prices.price_per_lot[m], rules.value_unit[m], 2 * m + 1
    # change of the surplus per lot and per value: a sale loses the lot and gets the value, a purchase the opposite
    per_lot, per_value = -target * price, target * (1.0 - fee)
    if side % 2 == 1:
        per_lot, per_value = target * price, -target * (1.0 + fee)
    level, taken = book.cursor[side], book.taken[side]
    ticks = book.price[level]
    base = surplus + required
    slope = (
        per_lot
        + per_value * ticks * unit
        + marginal_requirement(size * price, margin_function, prices.functions) * price
    )
    low, value, surplus_low = 0, 0, surplus
    surplus_after, high = surplus, 0
    while low < limit and surplus + limit * slope > 0.0:
        ticks = book.price[level]
        high = min(low + book.lots[level] - taken, limit)
        surplus_after = base + per_lot * high + per_value * ((value + (high - low) * ticks) * unit)
        surplus_after -= margin_requirement((size - high) * price, margin_function, prices.functions)
        if surplus_after > 0.0:
            break
        value += (high - low) * ticks
        low, surplus_low = high, surplus_after
        level, taken = level + 1, 0
    if not surplus_after > 0.0:
        return 0, 0
    newton_steps = 4
    while high - low > 1:
        step = (high - low) // 2
        if newton_steps > 0:
            newton_steps -= 1
            slope = per_lot + per_value * ticks * unit
            slope += marginal_requirement((size - low) * price, margin_function, prices.functions) * price
            if slope > 0.0 and -surplus_low < slope * (high - low):
                step = min(max(int(-surplus_low / slope), 1), high - low - 1)
        for _ in range(2):
            surplus_after = base + per_lot * (low + step) + per_value * ((value + step * ticks) * unit)
            surplus_after -= margin_requirement((size - low - step) * price, margin_function, prices.functions)
            if surplus_after > 0.0:
                high = low + step
                break
            low, value, surplus_low = low + step, value + step * ticks, surplus_after
            # Newton's method ends next to the root: one more lot decides
            step = 1
            if high - low <= 1:
                break
    return high, value + (high - low) * ticks


@inner_kernel
def restoring_lots_and_balance(side, size, limit, surplus, fee, cost, balance, lent, rules, prices, book):
    """Fewest lots as in `restoring_lots`, with the settle balance counted; by bisection.

    side     int64        ()  of a market's book
    size     int64        ()  lots of the position
    limit    int64        ()  lots that a quote of this side fills, <= size
    surplus  float64      ()  settle quanta before, <= 0
    fee      float64      ()  part of the value
    cost     int64        ()  settle quanta, signed cost of the position
    balance  int64        ()  settle quanta, free
    lent     int64        ()  settle quanta
    rules    SliceRules   ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    book     BookColumns  ()  see layouts.py
    """
    unit = rules.value_unit[side // 2]
    level, taken = book.cursor[side], book.taken[side]
    low, value, high, ticks = 0, 0, 0, 0
    restored = False
    while low < limit:
        ticks = book.price[level]
        high = min(low + book.lots[level] - taken, limit)
        filled_value = (value + (high - low) * ticks) * unit
        loss, relief = slice_effect(side, size, high, filled_value, fee, cost, balance, lent, rules, prices)
        restored = surplus - rules.target * loss + relief > 0.0
        if restored:
            break
        value += (high - low) * ticks
        low, level, taken = high, level + 1, 0
    if not restored:
        return 0, 0
    while high - low > 1:
        step = (high - low) // 2
        filled_value = (value + step * ticks) * unit
        loss, relief = slice_effect(side, size, low + step, filled_value, fee, cost, balance, lent, rules, prices)
        if surplus - rules.target * loss + relief > 0.0:
            high = low + step
        else:
            low, value = low + step, value + step * ticks
    return high, value + (high - low) * ticks


@inner_kernel
def judge_slice(side, size, lots, value, cost, balance, lent, equity, maintenance, rules, prices):
    """Judge whether filling lots lowers the MMR; if not, the policy decides about the fee and the slice.

    side         int64        ()  of a market's book
    size         int64        ()  lots of the position, > 0
    lots         int64        ()  filled, > 0
    value        float64      ()  settle quanta they are filled for
    cost         int64        ()  settle quanta, signed cost of the position
    balance      int64        ()  settle quanta, free
    lent         int64        ()  settle quanta
    equity       float64      ()  settle quanta, > 0
    maintenance  float64      ()  settle quanta, > 0
    rules        SliceRules   ()  see layouts.py
    prices       PriceArrays  ()  see layouts.py
    """
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    loss, relief = slice_effect(side, size, lots, value, fee_num / fee_den, cost, balance, lent, rules, prices)
    if loss * maintenance >= relief * equity:
        if rules.on_harm == SEND:
            harm = SENT
        elif rules.on_harm == BACKSTOP:
            harm = TO_BACKSTOP
        else:
            loss, relief = slice_effect(side, size, lots, value, 0.0, cost, balance, lent, rules, prices)
            harmless = relief * equity / maintenance - loss
            harm = WITHHELD
            if harmless > 0.0:
                harm, fee_den = FEE_WAIVED, 10_000
                fee_num = int(10_000 * rules.waived_share * harmless / value + _EDGE)
    return SliceJudgement(fee_num=fee_num, fee_den=fee_den, harm=harm)


@inner_kernel
def size_slice(side, size, cost, balance, lent, equity, maintenance, surplus, account_room, rules, prices, book):
    """Size a slice by the policy and the book, judge whether it helps, and reduce it to lots that restore the target.

    side          int64        ()  of a market's book
    size          int64        ()  lots of the position, > 0
    cost          int64        ()  settle quanta, signed cost of the position
    balance       int64        ()  settle quanta, free
    lent          int64        ()  settle quanta
    equity        float64      ()  settle quanta, > 0
    maintenance   float64      ()  settle quanta, > 0
    surplus       float64      ()  settle quanta, <= 0, that the slice is to bring above 0
    account_room  int64        ()  settle quanta that the account's cap leaves
    rules         SliceRules   ()  see layouts.py
    prices        PriceArrays  ()  see layouts.py
    book          BookColumns  ()  see layouts.py
    """
    m = side // 2
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    want = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
    room, room_reason = slice_room(side, account_room, rules, book)
    filled, value, reason = quote_book(side, want, room, room_reason, book)
    judged, judged_value = filled, value
    if filled > 0:
        filled_value, fee = value * rules.value_unit[m], fee_num / fee_den
        # the balance is concave in the lots too: counted in full at both ends, it is so between
        balance_filled = balance_after(side, size, filled, filled_value, fee, cost, balance)
        plain = rules.settle_plain and balance >= 0 and balance_filled >= 0.0
        required = margin_requirement(size * prices.price_per_lot[m], 2 * m + 1, prices.functions)
        harmful = True
        if plain:
            loss, relief = position_effect(side, size, required, filled, filled_value, fee, prices)
            harmful = loss * maintenance >= relief * equity
        if harmful:
            fee_num, fee_den, harm = judge_slice(
                side, size, filled, filled_value, cost, balance, lent, equity, maintenance, rules, prices
            )
            if harm in (WITHHELD, TO_BACKSTOP):
                filled = 0
        if filled > 0:
            fee = fee_num / fee_den
            if plain:
                restoring, restoring_value = restoring_lots(
                    side, size, required, filled, surplus, fee, rules, prices, book
                )
            else:
                restoring, restoring_value = restoring_lots_and_balance(
                    side, size, filled, surplus, fee, cost, balance, lent, rules, prices, book
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
def size_at_price(side, size, want, lots, price, cost, balance, lent, equity, maintenance, surplus, rules, prices):
    """Judge lots at one price, and reduce the slice to the lots that restore the target at that price.

    The lots requested are 0 where nothing is sent.

    side         int64        ()  of a market's book
    size         int64        ()  lots of the position, > 0
    want         int64        ()  lots by the policy
    lots         int64        ()  those of them that are filled, > 0
    price        float64      ()  settle quanta per lot
    cost         int64        ()  settle quanta, signed cost of the position
    balance      int64        ()  settle quanta, free
    lent         int64        ()  settle quanta
    equity       float64      ()  settle quanta, > 0
    maintenance  float64      ()  settle quanta, > 0
    surplus      float64      ()  settle quanta, <= 0, that the slice is to bring above 0
    rules        SliceRules   ()  see layouts.py
    prices       PriceArrays  ()  see layouts.py
    """
    fee_num, fee_den, harm = judge_slice(
        side, size, lots, lots * price, cost, balance, lent, equity, maintenance, rules, prices
    )
    if harm in (WITHHELD, TO_BACKSTOP):
        return PricedSize(want=0, fee_num=fee_num, fee_den=fee_den, harm=harm)
    fee, low, high = fee_num / fee_den, 0, lots
    loss, relief = slice_effect(side, size, lots, lots * price, fee, cost, balance, lent, rules, prices)
    if surplus - rules.target * loss + relief > 0.0:
        while high - low > 1:
            middle = low + (high - low) // 2
            loss, relief = slice_effect(side, size, middle, middle * price, fee, cost, balance, lent, rules, prices)
            if surplus - rules.target * loss + relief > 0.0:
                high = middle
            else:
                low = middle
        m = side // 2
        want = min(want, without_remainder(max(high, rules.floor_lots[m], 1), size, rules.min_lots[m]))
    return PricedSize(want=want, fee_num=fee_num, fee_den=fee_den, harm=harm)
