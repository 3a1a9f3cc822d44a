"""The sweep over price intervals: the accounts that no price inside can bring to 100 %."""

from __future__ import annotations

import numpy as np

from ._jit import inner_kernel, kernel
from ._simd import LANES, bits_past, full, load, look_up, lowest, magnitude, where_within
from .sweep import (
    _GROUPS,
    shrunk_weight,
    steep_requirement,
    sure_lanes,
    tier_requirement,
    unsafe_lanes,
    whole_weight_quanta,
)

_BOX_BAND = 1e-9  # of the gross amounts: a thousand times what float64 leaves in doubt


@inner_kernel
def group_bound(group, state, box):
    """Least net equity, most exposure and maintenance margin, and gross amounts of a group anywhere in a box of prices.

    With the edges of the box exchanged, the most net equity and the least exposure and maintenance margin.

    group  uint64         ()  0 <= group < G
    state  PackedColumns  ()  see layouts.py
    box    BoxRows        ()  see layouts.py
    """
    zero = full(0.0)
    equity, exposure, maintenance, gross = zero, zero, zero, zero
    width = np.uint64(LANES)
    place, end = width * state.balance_group[group], width * state.balance_group[group + np.uint64(1)]
    while place < end:
        low, high, weight, kink = look_up(box.asset, state.asset, place)
        held = load(state.held, place)
        value = held * where_within(zero, held, low, high)
        if bits_past(held, kink):
            base, penalty, size, _ = look_up(box.weight, state.asset, place)
            weight = where_within(held, kink, weight, shrunk_weight(held * size, weight, base, penalty))
        if bits_past(zero, held):
            owed = where_within(zero, held, zero, zero - value)
            equity = equity + where_within(zero, held, value * weight, value)
            exposure = exposure + owed
            limit, always, factor, _ = look_up(box.borrow, state.asset, place)
            required = steep_requirement(owed, always, factor, limit)
            required = tier_requirement(owed, required, state.asset, place, box.borrow_tiers)
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + magnitude(value)
        place += width

    place, end = width * state.position_group[group], width * state.position_group[group + np.uint64(1)]
    while place < end:
        low, high, limit, always = look_up(box.market, state.market, place)
        lots = load(state.lots, place)
        equity = equity + lots * where_within(zero, lots, low, high)
        notional = magnitude(lots) * high
        exposure = exposure + notional
        required = notional * always
        if bits_past(notional, limit):
            factor, end_always, _, _ = look_up(box.tail, state.market, place)
            required = steep_requirement(notional, always, factor, end_always)
            required = tier_requirement(notional, required, state.market, place, box.tiers)
        maintenance = maintenance + required
        place += width

    booked = load(state.booked, width * group)
    return equity + booked, exposure, maintenance, gross + exposure + magnitude(booked)


@kernel
def watch_windows(first, last, state, worst, best, spread, watched, known, count):
    """Try a box of prices on the accounts of the windows ``first:last``: the slots that it does not prove safe.

    What a position is worth is taken at its worse edge, what is owed and required at the upper one, collateral at the
    lower one: each is monotone in its price. Whoever is below 100 % then is so wherever in the box each price is. With
    the edges exchanged, whoever is above 100 % is so everywhere: that is known. The others are to be watched.

    first    int64          ()     0 <= first
    last     int64          ()     first <= last <= W
    state    PackedColumns  ()     see layouts.py
    worst    BoxRows        ()     see layouts.py
    best     BoxRows        ()     see layouts.py: with the edges exchanged
    spread   float64        ()     least width of the range of a mark, part of its upper edge: where to look for known
    watched  int64          (8G,)  out, slots to be watched, one after another
    known    int64          (8G,)  out, slots that are at 100 % or above everywhere
    count    int64          (2,)   out, how many are watched, and known
    """
    slack = full(_BOX_BAND)
    count[0], count[1] = 0, 0
    for g in range(first * _GROUPS, min(last * _GROUPS, state.resting.size)):
        group = np.uint64(g)
        equity, exposure, maintenance, gross = group_bound(group, state, worst)
        bits = unsafe_lanes(group, state, equity, exposure, maintenance, slack * gross)
        if bits:
            sure = np.uint64(0)
            if bits & bits_past(maintenance, equity + full(spread) * exposure):
                equity, exposure, maintenance, gross = group_bound(group, state, best)
                sure = sure_lanes(
                    group, state, best.acmf_divisor, best.acmf_offset, equity, exposure, maintenance, slack * gross
                )
            while bits:
                slot, bit = LANES * g + np.int64(lowest(bits)), bits & (~bits + np.uint64(1))
                if sure & bit:
                    known[count[1]] = slot
                    count[1] += 1
                else:
                    watched[count[0]] = slot
                    count[0] += 1
                bits = bits ^ bit


@kernel
def lay_out_box(lowest, highest, box):
    """Lay out the worst figures of a box of prices; with the edges exchanged, the best ones.

    lowest   PriceColumns  ()  see layouts.py: every price at the bottom of the box
    highest  PriceColumns  ()  see layouts.py: every price at its top
    box      BoxRows       ()  out, see layouts.py
    """
    markets, assets = lowest.price_per_lot.size, lowest.price_per_quantum.size
    for m in range(markets):
        r = 2 * m + 1
        box.market[m, 0] = lowest.price_per_lot[m]
        box.market[m, 1] = highest.price_per_lot[m]
        box.market[m, 2] = highest.curve_limit[r]
        box.market[m, 3] = highest.curve_base[r]
        box.tail[m, 0] = highest.curve_factor[r]
        box.tail[m, 1] = highest.curve_limit[r]
        box.tail[m, 2:] = 0.0
    for k in range(assets):
        r = 2 * (markets + k) + 1
        box.asset[k, 0] = lowest.price_per_quantum[k]
        box.asset[k, 1] = highest.price_per_quantum[k]
        box.asset[k, 2] = lowest.weight[k]
        box.asset[k, 3] = whole_weight_quanta(k, lowest)
        box.weight[k, 0] = lowest.haircut_base[k]
        box.weight[k, 1] = lowest.haircut_penalty[k]
        box.weight[k, 2] = lowest.haircut_size[k]
        box.weight[k, 3] = 0.0
        box.borrow[k, 0] = highest.curve_limit[r]
        box.borrow[k, 1] = highest.curve_base[r]
        box.borrow[k, 2] = highest.curve_factor[r]
        box.borrow[k, 3] = 0.0
    for table in (box.market, box.tail, box.asset, box.weight, box.borrow):
        table[-1] = 0.0


@kernel
def farthest(value, low, high):
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
