"""What the prints of a tick come to: update caps, basis, clamp, samples, and the prices that follow from others."""

from math import exp, isnan, nan

import numpy as np

from ._jit import inner_kernel, kernel

MARK, INDEX, BASIS = 0, 1, 2
"""Rows of what is remembered of each market; the first two are also those of what is used and sampled."""
INDEX_UPDATE_CAP, MARK_HELD, INDEX_CLAMP, UPDATE_CAP = 0, 1, 2, 3
"""Columns of what was refused."""
NO_SAMPLE = -(2**63)
MARK_UNIT, PREMIUM_UNIT = 10**3, 10**12
"""Of a sample: of a tick of the mark, and of the premium."""

_SECOND = 1_000_000_000
_MAX_TICKS, _MAX_PREMIUM = 1e13, 1e4  # so that the sum of a window stays below 2**62


@inner_kernel
def bounded_print(value, low, high):
    """Bring a print inside its bounds; NaN is no print, and no bound.

    value  float64  ()  NaN if there is none
    low    float64  ()  NaN if anything goes
    high   float64  ()  NaN if anything goes
    """
    if value < low:
        return low
    if value > high:
        return high
    return value


@inner_kernel
def capped_print(value, previous, passed, least, most):
    """Bring a print as near to the previous one as the update cap of the seconds passed asks.

    value     float64  ()  NaN if there is none
    previous  float64  ()  NaN if there is none
    passed    int64    ()  nanoseconds
    least     float64  ()  factor of a second, NaN if anything goes
    most      float64  ()  factor of a second, NaN if anything goes
    """
    if isnan(value) or isnan(previous):
        return value
    seconds = float(max(passed // _SECOND, 1))
    return bounded_print(value, previous * least**seconds, previous * most**seconds)


@inner_kernel
def ewma_share(passed):
    """Share of the one-minute EWMA that is new after the time passed.

    passed  int64  ()  nanoseconds
    """
    return 1.0 - exp(-(passed / _SECOND) / 60.0)


@inner_kernel
def derived_mark(index, basis, bid, ask, last):
    """Mark of a market whose tick gives none: the first that is known of what it may follow from, or NaN.

    index  float64  ()  NaN if there is none
    basis  float64  ()  EWMA of mid - index, NaN if there is no recent one
    bid    float64  ()  touch, NaN if there is none
    ask    float64  ()  touch, NaN if there is none
    last   float64  ()  price of the last trade, NaN if there is none
    """
    if not isnan(index):
        return index if isnan(basis) else index + basis
    if isnan(bid) or isnan(ask):
        return last
    if isnan(last):
        return (bid + ask) / 2.0
    return max(min(bid, ask), min(max(bid, ask), last))


@kernel
def guard_prints(
    time, stale_after, threshold, least, most, mark, index, last, bid, ask, price, stamp, used, price_after,
    stamp_after, refused, prints,
):  # fmt: skip
    """Guard the marks and indexes of a tick, market by market; docs/one_tick.md has the rules.

    time         int64    ()      of the tick, nanoseconds
    stale_after  int64    ()      nanoseconds
    threshold    float64  ()      of the clamp to the index
    least        float64  (M,)    update cap of a second, NaN: none
    most         float64  (M,)    update cap of a second, NaN: none
    mark         float64  (M,)    as the tick has it, NaN: none
    index        float64  (M,)    as the tick has it, NaN: none
    last         float64  (M,)    price of the last trade, NaN: none
    bid          float64  (M,)    touch of an accepted book, NaN: none
    ask          float64  (M,)    touch of an accepted book, NaN: none
    price        float64  (3, M)  MARK, INDEX, BASIS remembered, NaN: never had
    stamp        int64    (3, M)  when each was last had, nanoseconds
    used         float64  (2, M)  out, MARK and INDEX that count, NaN: none
    price_after  float64  (3, M)  out, to be remembered
    stamp_after  int64    (3, M)  out, to be remembered
    refused      bool     (M, 4)  out, why a print does not count
    prints       float64  (M, 4)  out, the print that does not, NaN: there is none
    """
    for m in range(mark.size):
        reference = capped_print(index[m], price[INDEX, m], time - stamp[INDEX, m], least[m], most[m])
        believed = reference == index[m]  # an index that was refused says nothing against a mark
        refused[m, INDEX_UPDATE_CAP] = not (believed or isnan(reference))
        prints[m, INDEX_UPDATE_CAP] = index[m]

        basis, basis_time = price[BASIS, m], stamp[BASIS, m]
        off = (bid[m] + ask[m]) / 2.0 - reference
        if not isnan(off):
            basis = off if isnan(basis) else basis + ewma_share(time - basis_time) * (off - basis)
            basis_time = time

        value = mark[m]
        if isnan(value):
            recent = basis if time - basis_time <= stale_after else nan
            value = derived_mark(reference, recent, bid[m], ask[m], last[m])
        held = isnan(value) and not isnan(price[MARK, m]) and time - stamp[MARK, m] <= stale_after
        refused[m, MARK_HELD] = held
        prints[m, MARK_HELD] = nan

        near = value
        if believed:
            near = bounded_print(value, reference * (1.0 - threshold), reference * (1.0 + threshold))
        refused[m, INDEX_CLAMP] = near < value or near > value
        prints[m, INDEX_CLAMP] = value
        capped = capped_print(near, price[MARK, m], time - stamp[MARK, m], least[m], most[m])
        refused[m, UPDATE_CAP] = capped < near or capped > near
        prints[m, UPDATE_CAP] = near

        used[MARK, m] = price[MARK, m] if held else capped
        used[INDEX, m] = reference
        price_after[MARK, m] = price[MARK, m] if isnan(capped) else capped
        stamp_after[MARK, m] = stamp[MARK, m] if isnan(capped) else time
        price_after[INDEX, m] = price[INDEX, m] if isnan(reference) else reference
        stamp_after[INDEX, m] = stamp[INDEX, m] if isnan(reference) else time
        price_after[BASIS, m] = basis
        stamp_after[BASIS, m] = basis_time


if not hasattr(guard_prints, "py_func"):  # interpreted, NumPy would warn of a bound that is past all numbers
    guard_prints = np.errstate(over="ignore")(guard_prints)


@kernel
def sample_prints(tick_size, used, before, sample, too_large):
    """Samples of the marks and premiums used last, in whole units.

    tick_size  float64  (M,)    price of a tick
    used       float64  (2, M)  MARK and INDEX that count, NaN: none
    before     int64    (2, M)  samples of the tick before, or NO_SAMPLE
    sample     int64    (2, M)  out, thousandths of a tick, and premium in units of 1e-12, or NO_SAMPLE
    too_large  bool     (2, M)  out, mark in ticks or premium is past what a sample holds, or the mark is not > 0
    """
    for m in range(tick_size.size):
        mark, index = used[MARK, m], used[INDEX, m]
        ticks = mark / tick_size[m]
        premium = 0.0 if isnan(index) else (mark - index) / index
        too_large[0, m] = ticks >= _MAX_TICKS or ticks <= 0.0
        too_large[1, m] = premium >= _MAX_PREMIUM
        if 0.0 < ticks < _MAX_TICKS and premium < _MAX_PREMIUM:
            sample[0, m] = np.int64(np.rint(ticks * MARK_UNIT))
            sample[1, m] = NO_SAMPLE if isnan(index) else np.int64(np.rint(premium * PREMIUM_UNIT))
        else:
            sample[0, m] = before[0, m]
            sample[1, m] = before[1, m]


@kernel
def add_samples(sample, seconds, before, after):
    """Add samples that hold for some seconds to running sums; these may wrap, their differences do not.

    sample   int64  (2, M)     or NO_SAMPLE
    seconds  int64  ()         > 0
    before   int64  (2, 2, M)  sum of the samples of all seconds so far, and their number
    after    int64  (2, 2, M)  out
    """
    for which in range(2):
        for m in range(sample.shape[1]):
            there = sample[which, m] != NO_SAMPLE
            after[0, which, m] = before[0, which, m] + (sample[which, m] * seconds if there else 0)
            after[1, which, m] = before[1, which, m] + (seconds if there else 0)


@kernel
def follow_markets(mark, index, base_asset, settle, asset):
    """Give the assets without a price that of the first market that has one: its index, or its mark.

    mark        float64  (M,)  NaN: none
    index       float64  (M,)  NaN: none
    base_asset  int64    (M,)  asset row of each market, -1: none
    settle      int64    ()    row of the settle asset, which is worth 1
    asset       float64  (K,)  in/out, NaN: none
    """
    for m in range(base_asset.size):
        k = base_asset[m]
        if k >= 0 and isnan(asset[k]):
            asset[k] = mark[m] if isnan(index[m]) else index[m]
    asset[settle] = 1.0


@kernel
def first_missing(price):
    """Row of the first price that is missing, -1 if there is none.

    price  float64  (N,)  NaN: none
    """
    for n in range(price.size):
        if isnan(price[n]):
            return n
    return -1


LEVEL_FINE, LEVEL_OFFSET, LEVEL_LOW, LEVEL_HIGH, LEVEL_LOTS, LEVEL_ORDER, LEVEL_WORTH = range(7)
"""What is wrong with a level of a book."""


@kernel
def first_wrong_level(offset, price, lots, highest, worth):
    """First side and level of order books that break a rule, and which rule it is.

    offset   int64  (2B + 1,)  side s owns the levels offset[s]:offset[s + 1]
    price    int64  (L,)       ticks, best first
    lots     int64  (L,)       of each level
    highest  int64  (B,)       ticks
    worth    float64  (B,)     settle quanta of a lot at a tick, or more
    """
    if offset[0] != 0 or offset[offset.size - 1] != price.size:
        return 0, 0, LEVEL_OFFSET
    for side in range(offset.size - 1):
        if offset[side] > offset[side + 1] or offset[side + 1] > price.size:
            return side, 0, LEVEL_OFFSET
    for side in range(offset.size - 1):
        deepest, total = 0.0, 0.0
        for level in range(offset[side], offset[side + 1]):
            if price[level] < 1:
                return side, level, LEVEL_LOW
            if price[level] > highest[side // 2]:
                return side, level, LEVEL_HIGH
            if not 1 <= lots[level] < 2**53:
                return side, level, LEVEL_LOTS
            if level > offset[side]:
                gets_worse = price[level] < price[level - 1] if side % 2 == 0 else price[level] > price[level - 1]
                if not gets_worse:
                    return side, level, LEVEL_ORDER
            deepest, total = max(deepest, float(price[level])), total + lots[level]
            if total * deepest * worth[side // 2] >= 2.0**61:
                return side, level, LEVEL_WORTH
    return 0, 0, LEVEL_FINE


@kernel
def first_above(price, highest):
    """Row of the first price above its highest, -1 if there is none.

    price    float64  (N,)  NaN: none
    highest  float64  (N,)  of each row
    """
    for n in range(price.size):
        if price[n] > highest[n]:
            return n
    return -1


@kernel
def gross_worth(mark, lots, asset, quanta):
    """Worth of all positions and balances together, all taken positive; what has no price counts for nothing.

    mark    float64  (M,)  NaN: none
    lots    float64  (M,)  lots, times what one is worth at a mark of 1
    asset   float64  (K,)  NaN: none
    quanta  float64  (K,)  quanta, times what one is worth at a price of 1
    """
    total = 0.0
    for m in range(mark.size):
        if mark[m] == mark[m]:
            total += mark[m] * lots[m]
    for k in range(asset.size):
        if asset[k] == asset[k]:
            total += asset[k] * quanta[k]
    return total


@kernel
def add_premiums(mark, index, premium_sum, premium_count):
    """Take the premiums of mark over index into their sums.

    mark           float64  (M,)  NaN: none
    index          float64  (M,)  NaN: none
    premium_sum    float64  (M,)  in/out
    premium_count  int64    (M,)  in/out
    """
    for m in range(mark.size):
        if not (isnan(mark[m]) or isnan(index[m])):
            premium_sum[m] += (mark[m] - index[m]) / index[m]
            premium_count[m] += 1
