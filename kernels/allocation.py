"""Allocation: whole amounts split by weight up to a cap each, and the top of a queue without sorting it."""

import numpy as np

from ._jit import allocating_kernel, kernel
from .integer_math import multiply_divmod

_BITS = 14  # buckets of the histogram: 2**14 sums stay in the second cache
_ENOUGH = 4  # a bucket with less than this part of the rows, a power of two, is not divided further
_SIGN = np.uint64(1 << 63)
_LOWEST = np.uint64(0x000FFFFFFFFFFFFF)  # sort key of -inf: scores that are not above it take no part
_HIGHEST = np.uint64(0xFFF0000000000000)  # sort key of +inf; above it are NaNs


@kernel
def water_fill(total, weight, cap, allocated):
    """Split a whole amount in proportion to weights, never past the caps: water-filling.

    The share of a row beyond its cap goes to the other rows by their weights; where all weights are 0 the caps are the
    weights. The units that rounding down leaves go, one each, to the rows with a weight that have the most room left,
    the earlier rows first.

    total      int64  ()    0 <= total < 2**61
    weight     int64  (N,)  >= 0, together < 2**62
    cap        int64  (N,)  0 <= cap < 2**61, together < 2**62 if all weights may be 0
    allocated  int64  (X,)  out; the first N elements
    """
    room = 0
    for n in range(cap.size):
        if room <= total:  # all of them together may pass 64 bits
            room += cap[n]
    if total >= room:
        for n in range(cap.size):
            allocated[n] = cap[n]
        return
    for n in range(cap.size):
        allocated[n] = -1 if cap[n] > 0 else 0  # below 0: open, -1 less its share of this pass
    remaining, by_cap, closed = total, False, 1
    while closed > 0:
        total_weight = 0
        for n in range(cap.size):
            if allocated[n] < 0:
                total_weight += cap[n] if by_cap else weight[n]
        if total_weight == 0:
            by_cap = True
            continue
        closed = 0
        for n in range(cap.size):
            if allocated[n] < 0:
                share, _ = multiply_divmod(remaining, cap[n] if by_cap else weight[n], total_weight)
                if share >= cap[n]:
                    allocated[n] = cap[n]
                    closed += cap[n]
                else:
                    allocated[n] = -1 - share
        remaining -= closed
    units, high = remaining, 1
    for n in range(cap.size):
        if allocated[n] < 0:
            allocated[n] = -1 - allocated[n]
            units -= allocated[n]
            if by_cap or weight[n] > 0:
                high = max(high, cap[n] - allocated[n] + 1)
    # the largest room that at least as many rows have as units remain
    low, above = 1, 0
    while units > 0 and high - low > 1:
        middle, rows = (low + high) // 2, 0
        for n in range(cap.size):
            rows += cap[n] - allocated[n] >= middle and (by_cap or weight[n] > 0)
        if rows >= units:
            low = middle
        else:
            high, above = middle, rows
    ties = units - above
    for n in range(cap.size):
        room_left = cap[n] - allocated[n] if by_cap or weight[n] > 0 else 0
        if units > 0 and (room_left > low or (room_left == low and ties > 0)):
            allocated[n] += 1
            ties -= room_left == low


@kernel
def sort_key(bits):
    """Sort key of a float64: unsigned whole numbers that ascend as the floats do.

    bits  uint64  ()  of a float64, but for -0.0
    """
    return ~bits if bits & _SIGN else bits | _SIGN


@allocating_kernel
def top_of_queue(bits, room, need, chosen, count):
    """Choose the rows with the highest scores that together have the room needed, and perhaps some more.

    The rows left out all score less than those chosen. Scores of -inf and NaN, and rows without room, take no part.

    bits    uint64  (N,)  of the float64 scores, but for -0.0
    room    int64   (N,)  >= 0, together < 2**62
    need    int64   ()    > 0
    chosen  int64   (N,)  out, rows, ascending
    count   int64   (1,)  out, rows chosen
    """
    low, high = ~np.uint64(0), np.uint64(0)
    for n in range(bits.size):
        key = sort_key(bits[n])
        if room[n] > 0 and _LOWEST < key <= _HIGHEST:
            low, high = min(low, key), max(high, key)
    highest, room_above = high, 0
    sums, rows = np.empty(1 << _BITS, np.int64), np.empty(1 << _BITS, np.int64)
    while low <= high:
        shift = np.uint64(0)
        while (high - low) >> shift >= np.uint64(1 << _BITS):
            shift += np.uint64(1)
        sums[:], rows[:] = 0, 0
        for n in range(bits.size):
            key = sort_key(bits[n])
            if room[n] > 0 and low <= key <= high:
                sums[(key - low) >> shift] += room[n]
                rows[(key - low) >> shift] += 1
        bucket = (1 << _BITS) - 1
        while bucket > 0 and room_above + sums[bucket] < need:
            room_above += sums[bucket]
            bucket -= 1
        low += np.uint64(bucket) << shift
        high = min(high, low + (np.uint64(1) << shift) - np.uint64(1))
        if shift == 0 or rows[bucket] < bits.size >> _ENOUGH:
            break  # else most rows are in one bucket: divide that one
    chosen_count = 0
    for n in range(bits.size):
        key = sort_key(bits[n])
        if room[n] > 0 and low <= key <= highest:
            chosen[chosen_count] = n
            chosen_count += 1
    count[0] = chosen_count
