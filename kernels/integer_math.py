"""Whole-number arithmetic: products and quotients that neither wrap nor lose a digit."""

from ._jit import kernel


@kernel
def divide_half_even(numerator, denominator):
    """Nearest whole number of a quotient, halves to the even one.

    numerator    int64  ()  any sign
    denominator  int64  ()  0 < denominator < 2**62
    """
    quotient = numerator // denominator
    remainder = numerator - quotient * denominator
    complement = denominator - remainder
    if remainder > complement or (remainder == complement and quotient % 2 != 0):
        quotient += 1
    return quotient


@kernel
def multiply_divmod(value, part, whole):
    """Whole quotient and remainder of ``value * part / whole``, where the product may pass 64 bits.

    value  int64  ()  0 <= value < 2**61, < 2**62 with part <= whole
    part   int64  ()  0 <= part < 2 * whole
    whole  int64  ()  0 < whole < 2**62
    """
    if part == 0 or value <= (1 << 62) // part:
        return value * part // whole, value * part % whole
    # The quotient cannot overflow (part < 2 whole); the remainder is multiplied bit by bit.
    quotient = value // whole * part
    value_remainder = value % whole
    high, remainder = 0, 0
    for bit in range(62, -1, -1):
        high, remainder = 2 * high, 2 * remainder
        if remainder >= whole:
            high, remainder = high + 1, remainder - whole
        if (part >> bit) & 1:
            remainder += value_remainder
            if remainder >= whole:
                high, remainder = high + 1, remainder - whole
    return quotient + high, remainder


@kernel
def multiply_divide(value, part, whole):
    """``value * part / whole``, halves to even, where the product may pass 64 bits.

    value  int64  ()  |value| < 2**61, < 2**62 with part <= whole
    part   int64  ()  0 <= part < 2 * whole
    whole  int64  ()  0 < whole < 2**62
    """
    quotient, remainder = multiply_divmod(abs(value), part, whole)
    complement = whole - remainder
    if remainder > complement or (remainder == complement and quotient % 2 != 0):
        quotient += 1
    return quotient if value > 0 else -quotient


@kernel
def scale(value, numerator, denominator):
    """``value * numerator / denominator``, halves to even, where the product may pass 64 bits.

    value        int64  ()  |value| < 2**61, and the result < 2**62
    numerator    int64  ()  > 0
    denominator  int64  ()  0 < denominator < 2**62
    """
    if abs(value) <= (1 << 62) // numerator:
        return divide_half_even(value * numerator, denominator)
    high = numerator // (2 * denominator) * 2
    # an even whole part leaves the half-even choice to the remainder
    return value * high + multiply_divide(value, numerator - high * denominator, denominator)


@kernel
def scale_rows(amount, item, high, low, whole, scaled):
    """``amount * (high + low / whole)`` of each row's item, halves to even.

    amount  int64   (N,)  |amount| < 2**61, and so the result
    item    uint16  (N,)  row of high and low
    high    int64   (I,)  even, >= 0
    low     int64   (I,)  0 <= low < 2 * whole
    whole   int64   ()    0 < whole < 2**61
    scaled  int64   (N,)  out
    """
    for n in range(amount.size):
        i = item[n]
        scaled[n] = amount[n] * high[i] + multiply_divide(amount[n], low[i], whole)


@kernel
def cost_change(lots, cost, change, flow):
    """Change of a position's cost when its lots change; the cash that moves is ``flow + cost_change``.

    Adding to a position adds the amount paid; reducing it releases cost in proportion; reversing it releases all cost
    and opens the remaining lots at their share of the flow.

    lots    int64  ()  signed position before, |lots| < 2**62
    cost    int64  ()  settle quanta, its cost before
    change  int64  ()  signed change of lots, not 0
    flow    int64  ()  settle quanta received for it, signed
    """
    if lots == 0 or (lots > 0) == (change > 0):
        return -flow
    if abs(change) <= abs(lots):
        return -multiply_divide(cost, abs(change), abs(lots))
    return -cost - multiply_divide(flow, abs(change) - abs(lots), abs(change))


@kernel
def apply_fills(row, change, flow, lots, cost, entry, cash, entry_change):
    """Apply fills one after another, each to a position row.

    row           int64  (N,)  0 <= row < P
    change        int64  (N,)  signed change of lots, not 0
    flow          int64  (N,)  settle quanta received for it, signed
    lots          int64  (P,)  in/out, signed
    cost          int64  (P,)  in/out, settle quanta
    entry         int64  (P,)  in/out, settle quanta
    cash          int64  (N,)  out, settle quanta that go to the account's balance
    entry_change  int64  (N,)  out, settle quanta
    """
    for n in range(row.size):
        p = row[n]
        cost_delta = cost_change(lots[p], cost[p], change[n], flow[n])
        entry_change[n] = cost_change(lots[p], entry[p], change[n], flow[n])
        entry[p] += entry_change[n]
        cost[p] += cost_delta
        lots[p] += change[n]
        cash[n] = flow[n] + cost_delta
