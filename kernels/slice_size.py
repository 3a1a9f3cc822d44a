"""The size of a slice: what restores the margin, what the book gives, and whether the slice helps."""

from __future__ import annotations

from ._jit import inner_kernel, kernel
from .books import ACCOUNT_CAP, DEPTH_SHARE, FULL, MARKET_CAP, REASONS, quote_book
from .integer_math import multiply_divmod
from .margin import collateral_weight
from .margin_function import margin_requirement, marginal_requirement

THROTTLE, COOLDOWN, FEE_WAIVED, SENT, WITHHELD, TO_BACKSTOP = range(len(REASONS), len(REASONS) + 6)

RELIEF, LARGEST, PRO_RATA = 0, 1, 2
"""Orders of an account's positions."""
WAIVE, SEND, BACKSTOP = 0, 1, 2
"""What becomes of a slice that would not lower the MMR."""
ESCALATED = 4
"""Status of an account that goes on to the backstop although it is not below auto-close."""

_UNLIMITED = 1 << 62
_EDGE = 1e-6  # of a basis point: the last bit of float64 decides no whole one


@kernel
def slice_lots(lots, fraction_num, fraction_den, floor_lots, min_lots):
    """Size that the policy gives a slice: a part of the position, a minimum notional, no tail too small to trade.

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
    """A slice's size, or the whole position where less than the smallest would be left.

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
    """What a settle balance adds to net equity and to the maintenance margin, settle quanta.

    balance  float64       ()  settle quanta, negative: a borrow
    lent     int64         ()  settle quanta
    rules    SliceRules    ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    """
    k = rules.settle
    held = max(balance, 0.0) + lent
    weight = collateral_weight(
        held * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
    )
    if balance >= 0.0:
        return held * weight, 0.0
    margin_function = 2 * (prices.price_per_lot.size + k) + 1
    return held * weight + balance, margin_requirement(-balance, margin_function, prices.functions)


@kernel
def balance_after(side, size, lots, worth, fee, cost, balance):
    """Free settle balance once lots of a position are filled and what was paid for them is released.

    side     int64    ()  of a market's book
    size     int64    ()  lots of the position before, > 0
    lots     int64    ()  filled
    worth    float64  ()  settle quanta they are filled for
    fee      float64  ()  part of the value
    cost     int64    ()  settle quanta, signed cost of the position
    balance  int64    ()  settle quanta before
    """
    flow = -worth if side % 2 == 1 else worth
    return balance + (flow - fee * worth - cost * (lots / size))


@inner_kernel
def position_effect(side, size, own, lots, worth, fee, prices):
    """Net equity that filling lots costs an account, and maintenance margin that it sets free, of the position alone.

    side    int64         ()  of a market's book
    size    int64         ()  lots of the position before, > 0
    own     float64       ()  settle quanta, its maintenance margin before
    lots    int64         ()  filled
    worth   float64       ()  settle quanta they are filled for
    fee     float64       ()  part of the value
    prices  PriceArrays  ()  see layouts.py
    """
    m = side // 2
    price, margin_function = prices.price_per_lot[m], 2 * m + 1
    loss = (worth - lots * price if side % 2 == 1 else lots * price - worth) + fee * worth
    return loss, own - margin_requirement((size - lots) * price, margin_function, prices.functions)


@inner_kernel
def slice_effect(side, size, lots, worth, fee, cost, balance, lent, rules, prices):
    """Net equity that filling lots costs an account, and maintenance margin that it sets free; settle quanta.

    side     int64         ()  of a market's book
    size     int64         ()  lots of the position before, > 0
    lots     int64         ()  filled
    worth    float64       ()  settle quanta they are filled for
    fee      float64       ()  part of the value
    cost     int64         ()  settle quanta, signed cost of the position
    balance  int64         ()  settle quanta, free
    lent     int64         ()  settle quanta
    rules    SliceRules    ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    """
    own = margin_requirement(size * prices.price_per_lot[side // 2], 2 * (side // 2) + 1, prices.functions)
    loss, relief = position_effect(side, size, own, lots, worth, fee, prices)
    after = balance_after(side, size, lots, worth, fee, cost, balance)
    if not (rules.settle_plain and balance >= 0 and after >= 0.0):
        equity, maintenance = balance_margin(float(balance), lent, rules, prices)
        equity_after, maintenance_after = balance_margin(after, lent, rules, prices)
        # what moves from the position to the balance counts as the balance does
        loss += (after - balance) - (equity_after - equity)
        relief -= maintenance_after - maintenance
    return loss, relief


@inner_kernel
def restoring_lots(side, size, own, most, surplus, fee, rules, prices, book):
    """Fewest lots whose fill makes the surplus positive, and their lots times ticks; 0 and 0 if ``most`` lots do not.

    The surplus is target times net equity less maintenance margin where it is plain. It is concave in lots: a price
    gets worse from level to level, and the requirement of what is left falls ever more slowly. So its tangent says at
    once when no size will do, and Newton's method comes from below.

    side    int64         ()  of a market's book
    size    int64         ()  lots of the position
    own     float64       ()  settle quanta, its maintenance margin
    most    int64         ()  what a quote of this side fills, <= size
    surplus     float64       ()  settle quanta, <= 0: what is to be passed
    fee     float64       ()  part of the value
    rules   SliceRules    ()  see layouts.py
    prices  PriceArrays  ()  see layouts.py
    book    BookColumns   ()  see layouts.py
    """
    m, target = side // 2, rules.target
    price, unit, margin_function = prices.price_per_lot[m], rules.value_unit[m], 2 * m + 1
    # what a lot and what its value do to the surplus: a sale loses the lot and gets the value, a purchase the other way
    per_lot, per_value = -target * price, target * (1.0 - fee)
    if side % 2 == 1:
        per_lot, per_value = target * price, -target * (1.0 + fee)
    level, used = book.cursor[side], book.taken[side]
    ticks = book.price[level]
    start = surplus + own
    slope = (
        per_lot
        + per_value * ticks * unit
        + marginal_requirement(size * price, margin_function, prices.functions) * price
    )
    low, value, before = 0, 0, surplus
    after, high = surplus, 0
    while low < most and surplus + most * slope > 0.0:
        ticks = book.price[level]
        high = min(low + book.lots[level] - used, most)
        after = start + per_lot * high + per_value * ((value + (high - low) * ticks) * unit)
        after -= margin_requirement((size - high) * price, margin_function, prices.functions)
        if after > 0.0:
            break
        value += (high - low) * ticks
        low, before = high, after
        level, used = level + 1, 0
    if not after > 0.0:
        return 0, 0
    newton = 4
    while high - low > 1:
        step = (high - low) // 2
        if newton > 0:
            newton -= 1
            slope = per_lot + per_value * ticks * unit
            slope += marginal_requirement((size - low) * price, margin_function, prices.functions) * price
            if slope > 0.0 and -before < slope * (high - low):
                step = min(max(int(-before / slope), 1), high - low - 1)
        for _ in range(2):
            after = start + per_lot * (low + step) + per_value * ((value + step * ticks) * unit)
            after -= margin_requirement((size - low - step) * price, margin_function, prices.functions)
            if after > 0.0:
                high = low + step
                break
            low, value, before = low + step, value + step * ticks, after
            # Newton ends next to the root: one lot more decides
            step = 1
            if high - low <= 1:
                break
    return high, value + (high - low) * ticks


@inner_kernel
def restoring_lots_and_balance(side, size, most, surplus, fee, cost, balance, lent, rules, prices, book):
    """Fewest lots as `restoring_lots` finds them, the settle balance with them; by halving.

    side     int64         ()  of a market's book
    size     int64         ()  lots of the position
    most     int64         ()  what a quote of this side fills, <= size
    surplus      float64       ()  settle quanta, <= 0: what is to be passed
    fee      float64       ()  part of the value
    cost     int64         ()  settle quanta, signed cost of the position
    balance  int64         ()  settle quanta, free
    lent     int64         ()  settle quanta
    rules    SliceRules    ()  see layouts.py
    prices   PriceArrays  ()  see layouts.py
    book     BookColumns   ()  see layouts.py
    """
    unit = rules.value_unit[side // 2]
    level, used = book.cursor[side], book.taken[side]
    low, value, high, ticks = 0, 0, 0, 0
    found = False
    while low < most:
        ticks = book.price[level]
        high = min(low + book.lots[level] - used, most)
        worth = (value + (high - low) * ticks) * unit
        loss, relief = slice_effect(side, size, high, worth, fee, cost, balance, lent, rules, prices)
        found = surplus - rules.target * loss + relief > 0.0
        if found:
            break
        value += (high - low) * ticks
        low, level, used = high, level + 1, 0
    if not found:
        return 0, 0
    while high - low > 1:
        step = (high - low) // 2
        worth = (value + step * ticks) * unit
        loss, relief = slice_effect(side, size, low + step, worth, fee, cost, balance, lent, rules, prices)
        if surplus - rules.target * loss + relief > 0.0:
            high = low + step
        else:
            low, value = low + step, value + step * ticks
    return high, value + (high - low) * ticks


@inner_kernel
def judge_slice(side, size, lots, worth, cost, balance, lent, equity, maintenance, rules, prices):
    """Whether filling lots lowers the MMR, and what becomes of them if not: the fee rate, and a reason of harm or -1.

    side         int64         ()  of a market's book
    size         int64         ()  lots of the position, > 0
    lots         int64         ()  filled, > 0
    worth        float64       ()  settle quanta they are filled for
    cost         int64         ()  settle quanta, signed cost of the position
    balance      int64         ()  settle quanta, free
    lent         int64         ()  settle quanta
    equity       float64       ()  settle quanta, > 0
    maintenance  float64       ()  settle quanta, > 0
    rules        SliceRules    ()  see layouts.py
    prices       PriceArrays  ()  see layouts.py
    """
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    loss, relief = slice_effect(side, size, lots, worth, fee_num / fee_den, cost, balance, lent, rules, prices)
    if loss * maintenance >= relief * equity:
        if rules.on_harm == SEND:
            harm = SENT
        elif rules.on_harm == BACKSTOP:
            harm = TO_BACKSTOP
        else:
            loss, relief = slice_effect(side, size, lots, worth, 0.0, cost, balance, lent, rules, prices)
            harmless = relief * equity / maintenance - loss
            harm = WITHHELD
            if harmless > 0.0:
                harm, fee_den = FEE_WAIVED, 10_000
                fee_num = int(10_000 * rules.waived_share * harmless / worth + _EDGE)
    return fee_num, fee_den, harm


@inner_kernel
def size_slice(side, size, cost, balance, lent, equity, maintenance, surplus, account_room, rules, prices, book):
    """Size a slice by the policy and the book, see whether it helps, and cut it to what restores the target.

    Returns the lots requested, the lots that the book fills of them and their value in lots times ticks, the reason of
    the fill, the fee as a ratio of whole numbers, a reason of harm (-1: none), and lots and value that were judged.

    side          int64         ()  of a market's book
    size          int64         ()  lots of the position, > 0
    cost          int64         ()  settle quanta, signed cost of the position
    balance       int64         ()  settle quanta, free
    lent          int64         ()  settle quanta
    equity        float64       ()  settle quanta, > 0
    maintenance   float64       ()  settle quanta, > 0
    surplus           float64       ()  settle quanta that the slice is to bring above 0, <= 0
    account_room  int64         ()  settle quanta that the account's cap leaves
    rules         SliceRules    ()  see layouts.py
    prices        PriceArrays  ()  see layouts.py
    book          BookColumns   ()  see layouts.py
    """
    m = side // 2
    fee_num, fee_den, harm = rules.fee_num, rules.fee_den, -1
    want = slice_lots(size, rules.fraction_num, rules.fraction_den, rules.floor_lots[m], rules.min_lots[m])
    room, room_reason = slice_room(side, account_room, rules, book)
    filled, value, reason = quote_book(side, want, room, room_reason, book)
    judged, judged_value = filled, value
    if filled > 0:
        worth, fee = value * rules.value_unit[m], fee_num / fee_den
        # the balance is concave in the lots too: plain at both ends, plain between
        after = balance_after(side, size, filled, worth, fee, cost, balance)
        plain = rules.settle_plain and balance >= 0 and after >= 0.0
        own = margin_requirement(size * prices.price_per_lot[m], 2 * m + 1, prices.functions)
        harmful = True
        if plain:
            loss, relief = position_effect(side, size, own, filled, worth, fee, prices)
            harmful = loss * maintenance >= relief * equity
        if harmful:
            fee_num, fee_den, harm = judge_slice(
                side, size, filled, worth, cost, balance, lent, equity, maintenance, rules, prices
            )
            if harm in (WITHHELD, TO_BACKSTOP):
                filled = 0
        if filled > 0:
            fee = fee_num / fee_den
            if plain:
                enough, enough_value = restoring_lots(side, size, own, filled, surplus, fee, rules, prices, book)
            else:
                enough, enough_value = restoring_lots_and_balance(
                    side, size, filled, surplus, fee, cost, balance, lent, rules, prices, book
                )
            smaller = without_remainder(max(enough, rules.floor_lots[m], 1), size, rules.min_lots[m])
            if enough > 0 and smaller < want:
                want = smaller
                if smaller == enough:
                    filled, value, reason = enough, enough_value, FULL
                else:
                    filled, value, reason = quote_book(side, want, room, room_reason, book)
    return want, filled, value, reason, fee_num, fee_den, harm, judged, judged_value


@inner_kernel
def size_at_price(side, size, want, lots, price, cost, balance, lent, equity, maintenance, surplus, rules, prices):
    """Judge lots at one price, and cut the slice to what restores the target there.

    Returns the lots requested (0: nothing is sent), the fee as a ratio of whole numbers, and a reason of harm or -1.

    side         int64         ()  of a market's book
    size         int64         ()  lots of the position, > 0
    want         int64         ()  lots of the policy's size
    lots         int64         ()  those of them that are filled, > 0
    price        float64       ()  settle quanta per lot
    cost         int64         ()  settle quanta, signed cost of the position
    balance      int64         ()  settle quanta, free
    lent         int64         ()  settle quanta
    equity       float64       ()  settle quanta, > 0
    maintenance  float64       ()  settle quanta, > 0
    surplus          float64       ()  settle quanta that the slice is to bring above 0, <= 0
    rules        SliceRules    ()  see layouts.py
    prices       PriceArrays  ()  see layouts.py
    """
    fee_num, fee_den, harm = judge_slice(
        side, size, lots, lots * price, cost, balance, lent, equity, maintenance, rules, prices
    )
    if harm in (WITHHELD, TO_BACKSTOP):
        return 0, fee_num, fee_den, harm
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
    return want, fee_num, fee_den, harm
