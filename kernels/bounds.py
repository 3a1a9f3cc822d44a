"""The sweep over price intervals: the accounts that no price inside can bring to 100 %."""

from __future__ import annotations

import numpy as np

from ._jit import inner_kernel, kernel
from ._simd import LANES, absolute, broadcast, count_trailing_zeros, gather4, load, mask_gt, select_le
from .margin_function import fill_requirement_lookup, requirements_above
from .sweep import (
    _GROUPS,
    shrunk_weight,
    sure_lanes,
    unsafe_lanes,
    whole_weight_quanta,
)

_BOX_BAND = 1e-9  # of the gross amounts: a thousand times what float64 leaves in doubt


@inner_kernel
def group_bound(group, state, intervals):
    """Least net equity, most exposure and maintenance margin, and gross amounts of a group inside price intervals.

    With the edges of the intervals exchanged, the most net equity and the least exposure and maintenance margin.

    group  uint64         ()  0 <= group < G
    state  SweepColumns  ()  see layouts.py
    intervals    BoundLookup        ()  see layouts.py
    """
    zero = broadcast(0.0)
    equity, exposure, maintenance, gross = zero, zero, zero, zero
    width = np.uint64(LANES)
    place, end = width * state.balance_group[group], width * state.balance_group[group + np.uint64(1)]
    while place < end:
        low, high, weight, kink = gather4(intervals.asset, state.asset, place)
        balance = load(state.balance, place)
        value = balance * select_le(zero, balance, low, high)
        if mask_gt(balance, kink):
            base, penalty, size, _ = gather4(intervals.weight, state.asset, place)
            weight = select_le(balance, kink, weight, shrunk_weight(balance * size, weight, base, penalty))
        if mask_gt(zero, balance):
            owed = select_le(zero, balance, zero, zero - value)
            equity = equity + select_le(zero, balance, value * weight, value)
            exposure = exposure + owed
            limit, always, _, _ = gather4(intervals.borrow, state.asset, place)
            required = owed * always
            if mask_gt(owed, limit):
                _, required = requirements_above(owed, always, always, state.asset, place, intervals.borrow_above)
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + absolute(value)
        place += width

    place, end = width * state.position_group[group], width * state.position_group[group + np.uint64(1)]
    while place < end:
        low, high, limit, always = gather4(intervals.market, state.market, place)
        lots = load(state.lots, place)
        equity = equity + lots * select_le(zero, lots, low, high)
        notional = absolute(lots) * high
        exposure = exposure + notional
        required = notional * always
        if mask_gt(notional, limit):
            _, required = requirements_above(notional, always, always, state.market, place, intervals.market_above)
        maintenance = maintenance + required
        place += width

    cash_minus_cost = load(state.cash_minus_cost, width * group)
    return equity + cash_minus_cost, exposure, maintenance, gross + exposure + absolute(cash_minus_cost)


@kernel
def watch_chunks(first, last, state, worst, best, spread, watched, confirmed, count):
    """Try price intervals on the accounts of the chunks ``first:last``: the slots that they do not prove safe.

    What a position is worth is taken at its worse edge, what is owed and required at the upper one, collateral at the
    lower one: each is monotone in its price. Whoever is below 100 % then is so with each price anywhere in its
    interval. With the edges exchanged, whoever is above 100 % is so everywhere: that is confirmed; others are watched.

    first    int64          ()     0 <= first
    last     int64          ()     first <= last <= W
    state    SweepColumns  ()     see layouts.py
    worst    BoundLookup        ()     see layouts.py
    best     BoundLookup        ()     see layouts.py: with the edges exchanged
    spread   float64        ()     least width of the range of a mark, part of its upper edge: where to look for known
    watched  int64          (8G,)  out, slots to be watched, one after another
    confirmed    int64          (8G,)  out, slots that are at 100 % or above everywhere
    count    int64          (2,)   out, how many are watched, and known
    """
    slack = broadcast(_BOX_BAND)
    count[0], count[1] = 0, 0
    for g in range(first * _GROUPS, min(last * _GROUPS, state.has_orders.size)):
        group = np.uint64(g)
        equity, exposure, maintenance, gross = group_bound(group, state, worst)
        bits = unsafe_lanes(group, state, equity, exposure, maintenance, slack * gross)
        if bits:
            sure = np.uint64(0)
            if bits & mask_gt(maintenance, equity + broadcast(spread) * exposure):
                equity, exposure, maintenance, gross = group_bound(group, state, best)
                sure = sure_lanes(
                    group, state, best.acmf_divisor, best.acmf_offset, equity, exposure, maintenance, slack * gross
                )
            while bits:
                slot, bit = LANES * g + np.int64(count_trailing_zeros(bits)), bits & (~bits + np.uint64(1))
                if sure & bit:
                    confirmed[count[1]] = slot
                    count[1] += 1
                else:
                    watched[count[0]] = slot
                    count[0] += 1
                bits = bits ^ bit


@kernel
def fill_bound_lookup(lowest, highest, intervals):
    """Lay out the worst figures of a set of price intervals of prices; with the edges exchanged, the best ones.

    lowest     PriceArrays  ()  see layouts.py: every price at the bottom of the intervals
    highest  PriceArrays  ()  see layouts.py: every price at its top
    intervals      BoundLookup       ()  out, see layouts.py
    """
    markets, assets = lowest.price_per_lot.size, lowest.price_per_quantum.size
    functions = highest.functions
    for m in range(markets):
        r = 2 * m + 1
        intervals.market[m, 0] = lowest.price_per_lot[m]
        intervals.market[m, 1] = highest.price_per_lot[m]
        intervals.market[m, 2] = functions.flat_notional[r]
        intervals.market[m, 3] = functions.flat_rate[r]
    for k in range(assets):
        r = 2 * (markets + k) + 1
        intervals.asset[k, 0] = lowest.price_per_quantum[k]
        intervals.asset[k, 1] = highest.price_per_quantum[k]
        intervals.asset[k, 2] = lowest.weight[k]
        intervals.asset[k, 3] = whole_weight_quanta(k, lowest)
        intervals.weight[k, 0] = lowest.haircut_base[k]
        intervals.weight[k, 1] = lowest.haircut_penalty[k]
        intervals.weight[k, 2] = lowest.haircut_size[k]
        intervals.weight[k, 3] = 0.0
        intervals.borrow[k, 0] = functions.flat_notional[r]
        intervals.borrow[k, 1] = functions.flat_rate[r]
        intervals.borrow[k, 2:] = 0.0
    for table in (intervals.market, intervals.asset, intervals.weight, intervals.borrow):
        table[-1] = 0.0
    fill_requirement_lookup(0, functions, intervals.market_above)
    fill_requirement_lookup(2 * markets, functions, intervals.borrow_above)


@kernel
def max_interval_distance(value, low, high):
    """How far the farthest of some values is from the middle of its range: 1 at an edge, +inf if one is outside.

    A range without figures holds a value that is missing, and nothing else.

    value  float64  (N,)  NaN is missing
    low    float64  (N,)  NaN with high: nothing was known
    high   float64  (N,)  inclusive
    """
    most = 0.0
    for n in range(value.size):
        if low[n] <= value[n] <= high[n]:
            if low[n] < high[n]:
                most = max(most, abs((value[n] - low[n]) - (high[n] - value[n])) / (high[n] - low[n]))
        elif value[n] == value[n] or low[n] == low[n]:
            return np.inf
    return most
