"""Guards of a tick's price updates: update caps, basis, clamp, samples, and prices derived from other prices."""

from math import exp, isnan, nan
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel

MARK, INDEX, BASIS = 0, 1, 2
"""Rows of the prices remembered of each market; the first two are also the rows of the used and sampled prices."""
MARK_UPDATE, INDEX_UPDATE, INDEX_CAPPED, MARK_CLAMPED, MARK_CAPPED = 1, 2, 4, 8, 16
"""What happened to the prices of a market at an instant."""
UPDATED, REFUSED, TOO_LARGE = 1, 2, 4
"""What happened at an instant: a price was updated; an update was rejected; a mark or premium does not fit a sample."""
INDEX_UPDATE_CAP, MARK_HELD, INDEX_CLAMP, UPDATE_CAP = 0, 1, 2, 3
"""Columns of the rejected updates: why an update does not count."""
NO_SAMPLE = -(2**63)
MARK_UNIT, PREMIUM_UNIT = 10**3, 10**12
"""Samples per tick of the mark, and per unit of premium."""

MAX_TICKS, MAX_PREMIUM = 1e13, 1e4
"""A sample has fewer, so that the sum over a window stays below 2**62."""

_SECOND = 1_000_000_000


@inner_kernel
def clamp_price(value, low, high):
    """Clamp a price to its bounds; NaN is no price, and no bound.

    value  float64  ()  NaN if there is none
    low    float64  ()  NaN: no bound
    high   float64  ()  NaN: no bound
    """
    if value < low:
        return low
    if value > high:
        return high
    return value


@inner_kernel
def cap_update(value, previous, elapsed, min_factor, max_factor):
    """Cap an update: bring it as near to the previous price as the update cap of the elapsed seconds requires.

    value       float64  ()  NaN if there is none
    previous    float64  ()  NaN if there is none
    elapsed     int64    ()  nanoseconds
    min_factor  float64  ()  factor of a second, NaN: no bound
    max_factor  float64  ()  factor of a second, NaN: no bound
    """
    if isnan(value) or isnan(previous):
        return value
    seconds = float(max(elapsed // _SECOND, 1))
    return clamp_price(value, previous * min_factor**seconds, previous * max_factor**seconds)


@inner_kernel
def ewma_weight(elapsed):
    """Weight of the new value in the one-minute EWMA after the elapsed time.

    elapsed  int64  ()  nanoseconds
    """
    return 1.0 - exp(-(elapsed / _SECOND) / 60.0)


@inner_kernel
def derived_mark(index, basis, bid, ask, last):
    """Mark of a market that has none in the tick: from index and basis, from the book, from the last trade, or NaN.

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


@inner_kernel
def sample_of(mark, index, tick_size):
    """Samples of a mark, in thousandths of a tick, and of its premium, in units of 1e-12; NO_SAMPLE without an index.

    mark       float64  ()  that counts
    index      float64  ()  that counts, NaN: none
    tick_size  float64  ()  price of a tick
    """
    premium = NO_SAMPLE
    if not isnan(index):
        premium = np.int64(np.rint((mark - index) / index * PREMIUM_UNIT))
    return np.int64(np.rint(mark / tick_size * MARK_UNIT)), premium


@kernel
def guard_updates(
    time, stale_after, clamp, update_cap, tick_size, mark, index, last, bid, ask, price, stamp, sample, used_mark,
    used_index, happened, events, rejected, rejected_price,
):  # fmt: skip
    """Guard the mark and index updates of a tick, market by market, and sample them; docs/one_tick.md has the rules.

    time            int64    ()      of the tick, nanoseconds
    stale_after     int64    ()      nanoseconds
    clamp           float64  ()      width of the clamp to the index, part of the index
    update_cap      float64  (2, M)  least and largest factor of a second, NaN: none
    tick_size       float64  (M,)    price of a tick
    mark            float64  (M,)    as the tick has it, NaN: none
    index           float64  (M,)    as the tick has it, NaN: none
    last            float64  (M,)    price of the last trade, NaN: none
    bid             float64  (M,)    touch of an accepted book, NaN: none
    ask             float64  (M,)    touch of an accepted book, NaN: none
    price           float64  (3, M)  in/out, MARK, INDEX, BASIS remembered, NaN: none yet
    stamp           int64    (3, M)  in/out, time of each, nanoseconds
    sample          int64    (2, M)  in/out, thousandths of a tick, and premium in units of 1e-12, or NO_SAMPLE
    used_mark       float64  (R, M)  out, marks that count, in the last row; NaN: none
    used_index      float64  (R, M)  out, indexes that count, in the last row; NaN: none
    happened        uint8    (R, M)  out, INDEX_CAPPED or 0, in the last row
    events          uint8    (R,)    out, UPDATED and so on, in the last row
    rejected        bool     (M, 4)  out, why an update does not count
    rejected_price  float64  (M, 4)  out, the update that does not count, NaN: none
    """
    row, event = used_mark.shape[0] - 1, UPDATED
    for m in range(mark.size):
        least, largest = update_cap[0, m], update_cap[1, m]
        reference = cap_update(index[m], price[INDEX, m], time - stamp[INDEX, m], least, largest)
        index_counts = reference == index[m]  # a rejected index does not clamp the mark
        rejected[m, INDEX_UPDATE_CAP] = not (index_counts or isnan(reference))
        rejected_price[m, INDEX_UPDATE_CAP] = index[m]

        basis, basis_time = price[BASIS, m], stamp[BASIS, m]
        mid_basis = (bid[m] + ask[m]) / 2.0 - reference
        if not isnan(mid_basis):
            basis = mid_basis if isnan(basis) else basis + ewma_weight(time - basis_time) * (mid_basis - basis)
            basis_time = time

        update = mark[m]
        if isnan(update):
            recent_basis = basis if time - basis_time <= stale_after else nan
            update = derived_mark(reference, recent_basis, bid[m], ask[m], last[m])
        carried = isnan(update) and not isnan(price[MARK, m]) and time - stamp[MARK, m] <= stale_after
        rejected[m, MARK_HELD] = carried
        rejected_price[m, MARK_HELD] = nan

        clamped = update
        if index_counts:
            clamped = clamp_price(update, reference * (1.0 - clamp), reference * (1.0 + clamp))
        rejected[m, INDEX_CLAMP] = clamped < update or clamped > update
        rejected_price[m, INDEX_CLAMP] = update
        capped = cap_update(clamped, price[MARK, m], time - stamp[MARK, m], least, largest)
        rejected[m, UPDATE_CAP] = capped < clamped or capped > clamped
        rejected_price[m, UPDATE_CAP] = clamped

        used = price[MARK, m] if carried else capped
        used_mark[row, m], used_index[row, m] = used, reference
        if not isnan(capped):
            price[MARK, m], stamp[MARK, m] = capped, time
        if not isnan(reference):
            price[INDEX, m], stamp[INDEX, m] = reference, time
        price[BASIS, m], stamp[BASIS, m] = basis, basis_time

        happened[row, m] = INDEX_CAPPED if rejected[m, INDEX_UPDATE_CAP] else 0
        for kind in range(4):
            if rejected[m, kind]:
                event |= REFUSED
        if not isnan(used):
            if not 0.0 < used / tick_size[m] < MAX_TICKS or (used - reference) / reference >= MAX_PREMIUM:
                event |= TOO_LARGE
            else:
                sample[0, m], sample[1, m] = sample_of(used, reference, tick_size[m])
    events[row] = event


if not hasattr(guard_updates, "py_func"):  # interpreted, NumPy would warn of a bound that overflows
    guard_updates = np.errstate(over="ignore")(guard_updates)


@kernel
def add_samples(second, seconds, sample, before, window):
    """Add the samples of the runs' seconds after a second to their sums and numbers.

    second   int64  (N,)       first second of each run
    seconds  int64  (N,)       number of its seconds
    sample   int64  (N, 2, M)  samples of each of its seconds, or NO_SAMPLE
    before   int64  ()         seconds up to this one do not count
    window   int64  (2, 2, M)  in/out, sum of the samples, and their number
    """
    for n in range(second.size):
        count = second[n] + seconds[n] - 1 - max(second[n] - 1, before)
        if count > 0:
            for kind in range(2):
                for m in range(sample.shape[2]):
                    if sample[n, kind, m] != NO_SAMPLE:
                        window[0, kind, m] += sample[n, kind, m] * count
                        window[1, kind, m] += count


@kernel
def follow_markets(mark, index, base_asset, quote_asset, settle, asset):
    """Price the assets without a price by the first market that tells: its index, or mark, times the quote's price.

    mark         float64  (M,)  NaN: none
    index        float64  (M,)  NaN: none
    base_asset   int64    (M,)  asset row of each market, -1: none
    quote_asset  int64    (M,)  asset row of each market
    settle       int64    ()    row of the settle asset, whose price is 1
    asset        float64  (K,)  in/out, NaN: none
    """
    asset[settle] = 1.0
    for m in range(base_asset.size):
        k = base_asset[m]
        if k >= 0 and isnan(asset[k]):
            asset[k] = (mark[m] if isnan(index[m]) else index[m]) * asset[quote_asset[m]]


@kernel
def follow_instants(mark, index, base_asset, quote_asset, settle, asset):
    """Price the assets without a price at many instants, as of `follow_markets`.

    mark         float64  (R, M)  NaN: none
    index        float64  (R, M)  NaN: none
    base_asset   int64    (M,)    asset row of each market, -1: none
    quote_asset  int64    (M,)    asset row of each market
    settle       int64    ()      row of the settle asset, whose price is 1
    asset        float64  (R, K)  in/out, NaN: none
    """
    for r in range(mark.shape[0]):
        follow_markets(mark[r], index[r], base_asset, quote_asset, settle, asset[r])


UNPRICED, OUT_OF_RANGE = 1, 2
"""What `complete_prices` found: a market or an asset without a price; a mark below its lowest or above its highest."""


@kernel
def complete_prices(mark, index, own, bounds, base_asset, quote_asset, settle, asset, found):
    """Complete the prices of assets as of `follow_markets`, and say what is missing or out of range.

    mark         float64  (M,)    NaN: none
    index        float64  (M,)    NaN: none
    own          float64  (K,)    prices of their own, NaN: none
    bounds       float64  (2, M)  lowest and highest mark
    base_asset   int64    (M,)    asset row of each market, -1: none
    quote_asset  int64    (M,)    asset row of each market
    settle       int64    ()      row of the settle asset, whose price is 1
    asset        float64  (K,)    out, NaN: none
    found        int64    (1,)    out, UNPRICED and OUT_OF_RANGE
    """
    found[0] = 0
    for k in range(own.size):
        asset[k] = own[k]
    follow_markets(mark, index, base_asset, quote_asset, settle, asset)
    for m in range(mark.size):
        if isnan(mark[m]):
            found[0] |= UNPRICED
        elif not bounds[0, m] <= mark[m] <= bounds[1, m]:
            found[0] |= OUT_OF_RANGE
    for k in range(own.size):
        if isnan(asset[k]):
            found[0] |= UNPRICED


@kernel
def has_price(price):
    """Whether there is a price.

    price  float64  (N,)  NaN: none
    """
    found = False
    for n in range(price.size):
        found |= not isnan(price[n])
    return found


@kernel
def any_lots(lots, bid, ask, found):
    """Whether positions have lots or open orders.

    lots   int64  (P,)  of the position
    bid    int64  (P,)  of its open bids
    ask    int64  (P,)  of its open asks
    found  bool   (P,)  out
    """
    for p in range(lots.size):
        found[p] = lots[p] != 0 or bid[p] != 0 or ask[p] != 0


@kernel
def first_unpriced(price, row, holds):
    """Least row without a price of which somebody holds something, -1 if there is none.

    price  float64  (N,)  NaN: none
    row    uint16   (H,)  row of each holding
    holds  bool     (H,)  whether it is more than nothing
    """
    first = price.size
    for n in range(row.size):
        if row[n] < first and holds[n] and isnan(price[row[n]]):
            first = np.int64(row[n])
    return -1 if first == price.size else first


@kernel
def first_missing(price):
    """Row of the first missing price, -1 if there is none.

    price  float64  (N,)  NaN: none
    """
    for n in range(price.size):
        if isnan(price[n]):
            return n
    return -1


LEVEL_VALID, LEVEL_OFFSET, LEVEL_LOW, LEVEL_HIGH, LEVEL_LOTS, LEVEL_ORDER, LEVEL_VALUE = range(7)
"""Rules that a level of a book can break."""


class LevelError(NamedTuple):
    """A level of a book and the rule that it breaks."""

    side: int
    level: int
    rule: int


@kernel
def first_wrong_level(offset, price, lots, highest, value_per_lot, most_lots):
    """Find the first side and level of order books that break a rule, and the rule.

    offset         int64    (2B + 1,)  side s owns the levels offset[s]:offset[s + 1]
    price          int64    (L,)       ticks, best first
    lots           int64    (L,)       of each level
    highest        int64    (B,)       ticks
    value_per_lot  float64  (B,)       quanta of a lot at a price of one tick, 1 at least; 1 of an inverse contract
    most_lots      float64  (B,)       a side has fewer
    """
    if offset[0] != 0 or offset[offset.size - 1] != price.size:
        return LevelError(side=0, level=0, rule=LEVEL_OFFSET)
    for side in range(offset.size - 1):
        if offset[side] > offset[side + 1] or offset[side + 1] > price.size:
            return LevelError(side=side, level=0, rule=LEVEL_OFFSET)
    for side in range(offset.size - 1):
        deepest, total_lots = 0.0, 0.0
        for level in range(offset[side], offset[side + 1]):
            if price[level] < 1:
                return LevelError(side=side, level=level, rule=LEVEL_LOW)
            if price[level] > highest[side // 2]:
                return LevelError(side=side, level=level, rule=LEVEL_HIGH)
            if not 1 <= lots[level] < 2**53:
                return LevelError(side=side, level=level, rule=LEVEL_LOTS)
            if level > offset[side]:
                is_worse = price[level] < price[level - 1] if side % 2 == 0 else price[level] > price[level - 1]
                if not is_worse:
                    return LevelError(side=side, level=level, rule=LEVEL_ORDER)
            deepest, total_lots = max(deepest, float(price[level])), total_lots + lots[level]
            book = side // 2
            if total_lots * deepest * value_per_lot[book] >= 2.0**61 or total_lots >= most_lots[book]:
                return LevelError(side=side, level=level, rule=LEVEL_VALUE)
    return LevelError(side=0, level=0, rule=LEVEL_VALID)


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
def gross_value(mark, lots, asset, quanta):
    """Value of all positions and balances, all taken positive; those without a price are left out.

    mark    float64  (M,)  NaN: none
    lots    float64  (M,)  lots, times the value of one at a mark of 1
    asset   float64  (K,)  NaN: none
    quanta  float64  (K,)  quanta, times the value of one at a price of 1
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
    """Add the premiums of mark over index of some instants to their sums, one instant after another.

    mark           float64  (n, M)  NaN: none
    index          float64  (n, M)  NaN: none
    premium_sum    float64  (M,)    in/out
    premium_count  int64    (M,)    in/out
    """
    for t in range(mark.shape[0]):
        for m in range(premium_sum.size):
            if not (isnan(mark[t, m]) or isnan(index[t, m])):
                premium_sum[m] += (mark[t, m] - index[t, m]) / index[t, m]
                premium_count[m] += 1
