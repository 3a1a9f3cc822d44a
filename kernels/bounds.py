"""The sweep over price intervals: the accounts that no price inside can bring to 100 %."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from ._lanes import WIDTH, absolute, broadcast, count_trailing_zeros, gather4, load, mask_gt, select_le
from .layouts import LANES
from .margin_function import fill_requirement_lookup, requirements_above
from .sweep import CHUNK, decided_lanes, settle_value, unsafe_lanes, weight_at, whole_weight_quanta

_INTERVAL_BAND = 1e-9  # of the gross amounts: a thousand times the doubt of float64
_ALL = np.uint64(2**64 - 1)


class BoundSums(NamedTuple):
    """Bounds of accounts at all prices inside intervals, settle quanta; lanes of eight accounts, or one."""

    equity: float
    exposure: float
    maintenance: float
    gross: float


@inner_kernel
def extra_bounds(slot, state, bounds, extra, equity, gross):
    """Least equity and gross amount, once the extra money assets count too.

    slot    uint64        ()        0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()        see layouts.py
    bounds  BoundLookup   ()        see layouts.py
    extra   float64|None  (M+1, 4)  of the bounds
    equity  float64       (8,)      lanes, settle quanta
    gross   float64       (8,)      lanes, settle quanta
    """
    if extra is None:
        return equity, gross
    zero = broadcast(0.0)
    lanes, position_value = np.uint64(LANES), zero
    group, lane = slot // lanes, slot % lanes
    row, end = lanes * state.extra_group[group] + lane, lanes * state.extra_group[group + np.uint64(1)]
    while row < end:
        low, high, _, _ = gather4(extra, state.extra_market, row)
        lots = load(state.extra_lots, row)
        position_value = position_value + lots * select_le(zero, lots, low, high)
        low, high, weight, whole = gather4(bounds.asset, state.extra_asset, row)
        quanta = load(state.extra_quanta, row)
        amount = position_value + quanta
        value = amount * select_le(zero, amount, low, high)
        weight = weight_at(amount, weight, whole, bounds.weight, state.extra_asset, row)
        equity = equity + select_le(zero, amount, value * weight, value)
        gross = gross + absolute(quanta * high)
        position_value = select_le(high, zero, position_value, zero)  # after the last row of an asset comes another
        row += lanes
    return equity, gross


@inner_kernel
def lane_bounds(slot, state, bounds):
    """Least net equity, largest exposure and maintenance margin of the accounts of the lanes from a slot on.

    With the edges of the intervals exchanged: the largest net equity, the least exposure and maintenance margin.

    slot    uint64        ()  0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()  see layouts.py
    bounds  BoundLookup   ()  see layouts.py
    """
    zero = broadcast(0.0)
    equity, exposure, maintenance, gross = zero, zero, zero, zero
    lanes = np.uint64(LANES)
    group, lane = slot // lanes, slot % lanes
    row, end = lanes * state.balance_group[group] + lane, lanes * state.balance_group[group + np.uint64(1)]
    while row < end:
        low, high, weight, whole = gather4(bounds.asset, state.asset, row)
        balance = load(state.balance, row)
        value = balance * select_le(zero, balance, low, high)
        weight = weight_at(balance, weight, whole, bounds.weight, state.asset, row)
        if mask_gt(zero, balance):
            owed = select_le(zero, balance, zero, zero - value)
            equity = equity + select_le(zero, balance, value * weight, value)
            exposure = exposure + owed
            flat, rate, _, _ = gather4(bounds.borrow, state.asset, row)
            required = owed * rate
            if mask_gt(owed, flat):
                _, required = requirements_above(owed, rate, rate, state.asset, row, bounds.borrow_above)
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + absolute(value)
        row += lanes

    row, end = lanes * state.position_group[group] + lane, lanes * state.position_group[group + np.uint64(1)]
    while row < end:
        low, high, flat, rate = gather4(bounds.market, state.market, row)
        lots = load(state.lots, row)
        equity = equity + settle_value(lots * select_le(zero, lots, low, high), low, bounds.extra)
        notional = absolute(lots) * high
        exposure = exposure + notional
        required = notional * rate
        if mask_gt(notional, flat):
            _, required = requirements_above(notional, rate, rate, state.market, row, bounds.market_above)
        maintenance = maintenance + required
        row += lanes

    cash_minus_cost = load(state.cash_minus_cost, slot)
    equity = equity + cash_minus_cost
    gross = gross + exposure + absolute(cash_minus_cost)
    equity, gross = extra_bounds(slot, state, bounds, bounds.extra, equity, gross)
    return BoundSums(equity=equity, exposure=exposure, maintenance=maintenance, gross=gross)


@inner_kernel
def watch_lanes(start, wanted, state, worst, best, spread, watched, confirmed, count):
    """List those of some lanes' slots that price intervals do not prove safe, as of `watch_chunks`.

    start      int64         ()     slot of the first lane
    wanted     uint64        ()     bit n: the slot of lane n counts
    state      SweepColumns  ()     see layouts.py
    worst      BoundLookup   ()     see layouts.py
    best       BoundLookup   ()     see layouts.py: with the edges exchanged
    spread     float64       ()     least width of a mark's interval, part of its upper edge: for confirming
    watched    int64         (8G,)  in/out, slots to be watched
    confirmed  int64         (8G,)  in/out, slots that are at 100 % or above everywhere
    count      int64         (2,)   in/out, how many are watched, and confirmed
    """
    slack, first_slot = broadcast(_INTERVAL_BAND), np.uint64(start)
    sums = lane_bounds(first_slot, state, worst)
    bits = wanted & unsafe_lanes(first_slot, state, sums.equity, sums.exposure, sums.maintenance, slack * sums.gross)
    if bits:
        decided = np.uint64(0)
        if bits & mask_gt(sums.maintenance, sums.equity + broadcast(spread) * sums.exposure):
            sums = lane_bounds(first_slot, state, best)
            decided = decided_lanes(
                first_slot, state, best.acmf_divisor, best.acmf_offset, sums.equity, sums.exposure, sums.maintenance,
                slack * sums.gross,
            )  # fmt: skip
        while bits:
            slot, bit = start + np.int64(count_trailing_zeros(bits)), bits & (~bits + np.uint64(1))
            if decided & bit:
                confirmed[count[1]] = slot
                count[1] += 1
            else:
                watched[count[0]] = slot
                count[0] += 1
            bits = bits ^ bit


@kernel
def watch_chunks(first, last, state, worst, best, spread, watched, confirmed, count):
    """List the slots of the chunks ``first:last`` that price intervals do not prove safe.

    The value of a position is taken at its worse edge, borrows and requirements at the upper one, collateral at the
    lower one: each is monotone in its price. The value of an amount of an extra money asset rises with the values of
    its positions, and with its own price if it is above zero; a negative amount is taken at the upper edge. An account
    that is below 100 % then is so with each price anywhere in its interval. With the edges exchanged, an account that
    is at 100 % or above is so everywhere: it is confirmed. The others are watched.

    first      int64         ()     0 <= first
    last       int64         ()     first <= last <= W
    state      SweepColumns  ()     see layouts.py
    worst      BoundLookup   ()     see layouts.py
    best       BoundLookup   ()     see layouts.py: with the edges exchanged
    spread     float64       ()     least width of a mark's interval, part of its upper edge: for confirming
    watched    int64         (8G,)  out, slots to be watched, ascending
    confirmed  int64         (8G,)  out, slots that are at 100 % or above everywhere, ascending
    count      int64         (2,)   out, how many are watched, and confirmed
    """
    count[0], count[1] = 0, 0
    for start in range(first * CHUNK, min(last * CHUNK, state.account.size), WIDTH):
        watch_lanes(start, _ALL, state, worst, best, spread, watched, confirmed, count)


@kernel
def watch_slots(slots, state, worst, best, spread, watched, confirmed, count):
    """List those of some slots that price intervals do not prove safe, as of `watch_chunks`.

    slots      int64         (n,)  ascending
    state      SweepColumns  ()    see layouts.py
    worst      BoundLookup   ()    see layouts.py
    best       BoundLookup   ()    see layouts.py: with the edges exchanged
    spread     float64       ()    least width of a mark's interval, part of its upper edge: for confirming
    watched    int64         (n,)  out, slots to be watched, ascending
    confirmed  int64         (n,)  out, slots that are at 100 % or above everywhere, ascending
    count      int64         (2,)  out, how many are watched, and confirmed
    """
    count[0], count[1] = 0, 0
    n = 0
    while n < slots.size:
        start, wanted = slots[n] // WIDTH * WIDTH, np.uint64(0)
        while n < slots.size and slots[n] < start + WIDTH:
            wanted |= np.uint64(1) << np.uint64(slots[n] - start)
            n += 1
        watch_lanes(start, wanted, state, worst, best, spread, watched, confirmed, count)


@kernel
def fill_bound_lookup(lowest, highest, bounds):
    """Lay out the worst figures inside price intervals; with the edges exchanged, the best ones.

    lowest   PriceArrays  ()  see layouts.py: every price at the lower edge of its interval, marks of inverse markets at
                              the upper one
    highest  PriceArrays  ()  see layouts.py: every price at the other edge
    bounds   BoundLookup  ()  out, see layouts.py
    """
    markets, assets = lowest.price_per_lot.size, lowest.price_per_quantum.size
    functions = highest.functions
    for m in range(markets):
        r = 2 * m + 1
        bounds.market[m, 0] = lowest.price_per_lot[m]
        bounds.market[m, 1] = highest.price_per_lot[m]
        bounds.market[m, 2] = functions.flat_notional[r]
        bounds.market[m, 3] = functions.flat_rate[r]
    for k in range(assets):
        r = 2 * (markets + k) + 1
        bounds.asset[k, 0] = lowest.price_per_quantum[k]
        bounds.asset[k, 1] = highest.price_per_quantum[k]
        bounds.asset[k, 2] = lowest.weight[k]
        bounds.asset[k, 3] = whole_weight_quanta(k, lowest)
        bounds.weight[k, 0] = lowest.haircut_base[k]
        bounds.weight[k, 1] = lowest.haircut_penalty[k]
        bounds.weight[k, 2] = lowest.haircut_size[k]
        bounds.weight[k, 3] = 0.0
        bounds.borrow[k, 0] = functions.flat_notional[r]
        bounds.borrow[k, 1] = functions.flat_rate[r]
        bounds.borrow[k, 2:] = 0.0
    for table in (bounds.market, bounds.asset, bounds.weight, bounds.borrow):
        table[-1] = 0.0
    bounds.asset[-1, 3] = np.inf
    fill_extra_bounds(lowest, highest, bounds.market, bounds.extra)
    fill_requirement_lookup(0, functions, bounds.market_above)
    fill_requirement_lookup(2 * markets, functions, bounds.borrow_above)


@inner_kernel
def fill_extra_bounds(lowest, highest, market, extra):
    """Lay out the values of lots in the markets' settle assets; mark the markets that settle in extra money assets.

    lowest   PriceArrays   ()        as of `fill_bound_lookup`
    highest  PriceArrays   ()        as of `fill_bound_lookup`
    market   float64       (M+1, 4)  in/out, of `BoundLookup`
    extra    float64|None  (M+1, 4)  out, of `BoundLookup`
    """
    if extra is not None:
        for m in range(lowest.price_per_lot.size):
            if lowest.market_settle[m] != lowest.money[0]:
                market[m, 0] = -1.0
            extra[m, 0] = abs(lowest.value_per_lot[m])
            extra[m, 1] = abs(highest.value_per_lot[m])
            extra[m, 2:] = 0.0
        extra[-1] = 0.0


@kernel
def value_ranges(value, low, high):
    """Least and largest of each value at many instants; NaN if one is missing.

    value  float64  (R, V)  NaN is missing
    low    float64  (V,)    out
    high   float64  (V,)    out
    """
    for v in range(value.shape[1]):
        low[v] = high[v] = value[0, v]
        for r in range(1, value.shape[0]):
            here = value[r, v]
            if here < low[v] or here != here:
                low[v] = here
            if here > high[v] or here != here:
                high[v] = here


@kernel
def max_interval_distance(value, low, high):
    """Largest distance of a value from the middle of its interval: 1 at an edge, +inf if one is outside.

    In an interval without figures a value is inside if it is missing.

    value  float64  (N,)  NaN is missing
    low    float64  (N,)  NaN with high: an interval without figures
    high   float64  (N,)  inclusive
    """
    largest = 0.0
    for n in range(value.size):
        if low[n] <= value[n] <= high[n]:
            if low[n] < high[n]:
                largest = max(largest, abs((value[n] - low[n]) - (high[n] - value[n])) / (high[n] - low[n]))
        elif value[n] == value[n] or low[n] == low[n]:
            return np.inf
    return largest
