"""Who takes how much: whole amounts split by weight up to a cap each, and the head of a queue without sorting it."""

import numpy as np

from ._jit import allocating_kernel, kernel
from .integer_math import multiply_divmod

_BITS = 14  # buckets of the histogram: 2**14 sums stay in the second cache
_ENOUGH = 4  # a bucket with less than this part of the rows, a power of two, is not looked into
_SIGN = np.uint64(1 << 63)
_LOWEST = np.uint64(0x000FFFFFFFFFFFFF)  # place of -inf: what is not above it takes no part
_HIGHEST = np.uint64(0xFFF0000000000000)  # place of +inf; above it are NaNs


@kernel
def water_fill(total, weight, cap, taken):
    """Split a whole amount in proportion to weights, never past the caps: water-filling.

    What a full one would have got beyond its cap goes to the others by their weights; where all weights are 0 the caps
    are the weights. What rounding down leaves goes, one each, to those with a weight that have the most room left, the
    earlier ones first.

    total   int64  ()    0 <= total < 2**61
    weight  int64  (N,)  >= 0, together < 2**62
    cap     int64  (N,)  0 <= cap < 2**61, together < 2**62 if all weights may be 0
    taken   int64  (X,)  out; the first N of them
    """
    room = 0
    for n in range(cap.size):
        if room <= total:  # all of them together may pass 64 bits
            room += cap[n]
    if total >= room:
        for n in range(cap.size):
            taken[n] = cap[n]
        return
    for n in range(cap.size):
        taken[n] = -1 if cap[n] > 0 else 0  # below 0: open, -1 less its share of the round
    left, by_cap, closed = total, False, 1
    while closed > 0:
        whole = 0
        for n in range(cap.size):
            if taken[n] < 0:
                whole += cap[n] if by_cap else weight[n]
        if whole == 0:
            by_cap = True
            continue
        closed = 0
        for n in range(cap.size):
            if taken[n] < 0:
                share, _ = multiply_divmod(left, cap[n] if by_cap else weight[n], whole)
                if share >= cap[n]:
                    taken[n] = cap[n]
                    closed += cap[n]
                else:
                    taken[n] = -1 - share
        left -= closed
    rest, high = left, 1
    for n in range(cap.size):
        if taken[n] < 0:
            taken[n] = -1 - taken[n]
            rest -= taken[n]
            if by_cap or weight[n] > 0:
                high = max(high, cap[n] - taken[n] + 1)
    # the largest room that is enough: as many as there is rest have it, or more
    low, above = 1, 0
    while rest > 0 and high - low > 1:
        middle, found = (low + high) // 2, 0
        for n in range(cap.size):
            found += cap[n] - taken[n] >= middle and (by_cap or weight[n] > 0)
        if found >= rest:
            low = middle
        else:
            high, above = middle, found
    even = rest - above
    for n in range(cap.size):
        more = cap[n] - taken[n] if by_cap or weight[n] > 0 else 0
        if rest > 0 and (more > low or (more == low and even > 0)):
            taken[n] += 1
            even -= more == low


@kernel
def place_in_order(bits):
    """Place of a float64 among all of them, by its bits: unsigned whole numbers that ascend as the floats do.

    bits  uint64  ()  of a float64, but for -0.0
    """
    return ~bits if bits & _SIGN else bits | _SIGN


@allocating_kernel
def top_of_queue(bits, room, need, chosen, count):
    """Rows with the highest scores that together have room for what is needed, and some more; in the order of rows.

    The rows left out all score less than those chosen. Scores of -inf and NaN, and rows without room, take no part.

    bits    uint64  (N,)  of the float64 scores, but for -0.0
    room    int64   (N,)  >= 0, together < 2**62
    need    int64   ()    > 0
    chosen  int64   (N,)  out, rows, ascending
    count   int64   (1,)  out, how many
    """
    low, high = ~np.uint64(0), np.uint64(0)
    for n in range(bits.size):
        place = place_in_order(bits[n])
        if room[n] > 0 and _LOWEST < place <= _HIGHEST:
            low, high = min(low, place), max(high, place)
    highest, held = high, 0
    sums, rows = np.empty(1 << _BITS, np.int64), np.empty(1 << _BITS, np.int64)
    while low <= high:
        shift = np.uint64(0)
        while (high - low) >> shift >= np.uint64(1 << _BITS):
            shift += np.uint64(1)
        sums[:], rows[:] = 0, 0
        for n in range(bits.size):
            place = place_in_order(bits[n])
            if room[n] > 0 and low <= place <= high:
                sums[(place - low) >> shift] += room[n]
                rows[(place - low) >> shift] += 1
        bucket = (1 << _BITS) - 1
        while bucket > 0 and held + sums[bucket] < need:
            held += sums[bucket]
            bucket -= 1
        low += np.uint64(bucket) << shift
        high = min(high, low + (np.uint64(1) << shift) - np.uint64(1))
        if shift == 0 or rows[bucket] < bits.size >> _ENOUGH:
            break  # else most lie in one bucket: look into that one
    found = 0
    for n in range(bits.size):
        place = place_in_order(bits[n])
        if room[n] > 0 and low <= place <= highest:
            chosen[found] = n
            found += 1
    count[0] = found
