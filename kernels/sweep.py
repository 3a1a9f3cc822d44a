"""The sweep of all accounts, eight abreast: their margin, and who is at 100 % or above."""

from __future__ import annotations

import numpy as np

from ._jit import inner_kernel, kernel
from ._simd import (
    LANES,
    absolute,
    broadcast,
    count_trailing_zeros,
    gather4,
    load,
    mask_ge,
    mask_gt,
    maximum,
    select_le,
    sqrt_of,
    store,
    store_rows,
)
from .margin import DOUBT_BAND
from .margin_function import fill_requirement_lookup, requirements_above

CHUNK = 4096
"""Slots in which accounts change places, so that those with as many positions and balances stand together."""
_GROUPS = CHUNK // LANES

DECIDED, RECHECK, OUT_OF_RANGE = 0, 1, 2
"""Why an account is listed: it is at 100 % or above; float64 cannot tell; the packed columns do not say all of it."""

_SHORT = (1 << 31) - 1
_KINK = 1.0 - 1e-9  # of where a weight begins to shrink: below, rounding cannot have shrunk it
_ROUNDED = 1.0 - 1e-15  # of a haircut's base: the same where it is just above the weight


@inner_kernel
def shrunk_weight(size, weight, base, penalty):
    """Weights of collateral at its sizes: ``min(weight, base / (1 + penalty * sqrt(size)))``.

    size     float64  (8,)  lanes
    weight   float64  (8,)  lanes
    base     float64  (8,)  lanes
    penalty  float64  (8,)  lanes
    """
    found = base / (broadcast(1.0) + penalty * sqrt_of(size))
    return select_le(found, weight, found, weight)


@inner_kernel
def group_margin(group, state, rows):
    """Net equity, exposure, initial and maintenance margin, and gross amounts of a group, without its orders.

    The same sums in the same order as `margin.account_margin`, so the same bits.

    group  uint64         ()  0 <= group < G
    state  SweepColumns  ()  see layouts.py
    rows   SweepLookup      ()  see layouts.py
    """
    zero = broadcast(0.0)
    equity, exposure, initial, maintenance, gross = zero, zero, zero, zero, zero
    width = np.uint64(LANES)
    place, end = width * state.balance_group[group], width * state.balance_group[group + np.uint64(1)]
    while place < end:
        price, weight, kink, limit = gather4(rows.asset, state.asset, place)
        balance = load(state.balance, place)
        value = balance * price
        if mask_gt(balance, kink):
            base, penalty, size, _ = gather4(rows.weight, state.asset, place)
            weight = select_le(balance, kink, weight, shrunk_weight(balance * size, weight, base, penalty))
        if mask_gt(zero, balance):
            owed = select_le(zero, balance, zero, zero - value)
            equity = equity + select_le(zero, balance, value * weight, value)
            exposure = exposure + owed
            at_first, always, _, _ = gather4(rows.borrow, state.asset, place)
            locked, required = owed * at_first, owed * always
            if mask_gt(owed, limit):
                locked, required = requirements_above(owed, at_first, always, state.asset, place, rows.borrow_above)
            initial = initial + locked
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + absolute(value)
        place += width

    worth = zero
    place, end = width * state.position_group[group], width * state.position_group[group + np.uint64(1)]
    while place < end:
        price, limit, at_first, always = gather4(rows.market, state.market, place)
        value = load(state.lots, place) * price
        worth = worth + value
        notional = absolute(value)
        exposure = exposure + notional
        locked, required = notional * at_first, notional * always
        if mask_gt(notional, limit):
            locked, required = requirements_above(notional, at_first, always, state.market, place, rows.market_above)
        initial = initial + locked
        maintenance = maintenance + required
        place += width

    cash_minus_cost = load(state.cash_minus_cost, width * group)
    return (
        equity + (worth + cash_minus_cost),
        exposure,
        initial,
        maintenance,
        gross + exposure + absolute(cash_minus_cost),
    )


@inner_kernel
def list_lanes(group, bits, why, chunk, state, found, count):
    """List the accounts of some lanes, with why, behind those of the chunk that are listed already.

    group   uint64         ()    0 <= group < G
    bits    uint64         ()    bit n: list lane n
    why     int64          ()    DECIDED | RECHECK | OUT_OF_RANGE
    chunk  int64          ()    0 <= chunk < W
    state   SweepColumns  ()    see layouts.py
    found   int64          (8G,)  out, 4 * account + why, from 4096 * chunk on
    count   int64          (W,)  out, one more for each
    """
    place = chunk * CHUNK + count[chunk]
    while bits:
        found[place] = 4 * np.int64(state.account[np.uint64(LANES) * group + count_trailing_zeros(bits)]) + why
        bits = bits & (bits - np.uint64(1))
        place += 1
    count[chunk] = place - chunk * CHUNK


@inner_kernel
def unsafe_lanes(group, state, equity, exposure, maintenance, band):
    """Bit n is set where account n of a group has an exposure and its maintenance margin is not below its equity.

    group        uint64         ()    0 <= group < G
    state        SweepColumns  ()    see layouts.py
    equity       float64        (8,)  lanes, settle quanta
    exposure     float64        (8,)  lanes, settle quanta, without orders
    maintenance  float64        (8,)  lanes, settle quanta
    band         float64        (8,)  lanes, settle quanta: as near as that counts as not below
    """
    exposed = mask_gt(exposure, broadcast(0.0)) | np.uint64(state.has_orders[group])
    return mask_ge(maintenance + band, equity) & exposed | np.uint64(state.overflow[group])


@inner_kernel
def sure_lanes(group, state, divisor, offset, equity, exposure, maintenance, band):
    """Bit n is set where account n of a group is at 100 % or above, and where below auto-close, past all doubt.

    group        uint64         ()    0 <= group < G
    state        SweepColumns  ()    see layouts.py
    divisor      float64        ()    of the auto-close fraction
    offset       float64        ()    of the auto-close fraction
    equity       float64        (8,)  lanes, settle quanta
    exposure     float64        (8,)  lanes, settle quanta, without orders
    maintenance  float64        (8,)  lanes, settle quanta
    band         float64        (8,)  lanes, settle quanta
    """
    divided, less = maintenance / broadcast(divisor), maintenance - broadcast(offset) * exposure
    from_auto_close = absolute(maximum(divided, less) - equity)
    in_doubt = mask_gt(equity + band, maintenance) | np.uint64(state.overflow[group])
    sure = mask_gt(absolute(equity), band) & mask_gt(from_auto_close, band)
    return mask_gt(exposure, broadcast(0.0)) & sure & ~in_doubt


@kernel
def select_chunks(first, last, state, rows, found, count):
    """Accounts of the chunks ``first:last`` that are at 100 % or above, or may be.

    first   int64          ()     0 <= first
    last    int64          ()     first <= last <= W
    state   SweepColumns  ()     see layouts.py
    rows    SweepLookup      ()     see layouts.py
    found   int64          (8G,)  out, 4 * account + DECIDED | RECHECK; those of chunk w from 4096 w on
    count   int64          (W,)   out, how many those are
    """
    doubt = broadcast(DOUBT_BAND)
    for chunk in range(first, last):
        count[chunk] = 0
        for g in range(chunk * _GROUPS, min((chunk + 1) * _GROUPS, state.has_orders.size)):
            group = np.uint64(g)
            equity, exposure, _, maintenance, gross = group_margin(group, state, rows)
            band = doubt * gross
            bits = unsafe_lanes(group, state, equity, exposure, maintenance, band)
            if bits:
                sure = sure_lanes(
                    group, state, rows.acmf_divisor, rows.acmf_offset, equity, exposure, maintenance, band
                )
                list_lanes(group, bits & sure, DECIDED, chunk, state, found, count)
                list_lanes(group, bits & ~sure, RECHECK, chunk, state, found, count)


@kernel
def sweep_chunks(first, last, state, slot, rows, scratch, equity, exposure, initial, maintenance, found, count):
    """Margin of the accounts of the chunks ``first:last``, and those of them to look at.

    first        int64          ()         0 <= first
    last         int64          ()         first <= last <= W
    state        SweepColumns  ()         see layouts.py
    slot         uint16         (8G,)      slot of an account in its chunk
    rows         SweepLookup      ()         see layouts.py
    scratch      float64        (4096, 4)  out, of no meaning
    equity       float64        (8G,)      out, settle units, by account
    exposure     float64        (8G,)      out, settle units, by account
    initial      float64        (8G,)      out, settle units, by account
    maintenance  float64        (8G,)      out, settle units, by account
    found        int64          (8G,)      out, 4 * account + DECIDED | RECHECK | OUT_OF_RANGE; chunk w from 4096 w on
    count        int64          (W,)       out, how many those are
    """
    doubt, unit = broadcast(DOUBT_BAND), broadcast(1.0 / rows.settle_quantum)
    width = np.uint64(LANES)
    for chunk in range(first, last):
        count[chunk] = 0
        start, end = chunk * _GROUPS, min((chunk + 1) * _GROUPS, state.has_orders.size)
        for g in range(start, end):
            group = np.uint64(g)
            net, gross_exposure, locked, required, gross = group_margin(group, state, rows)
            wide = np.uint64(state.has_orders[group] | state.has_leverage_limit[group] | state.overflow[group])
            band = doubt * gross
            bits = unsafe_lanes(group, state, net, gross_exposure, required, band) & ~wide
            if wide:
                list_lanes(group, wide, OUT_OF_RANGE, chunk, state, found, count)
            if bits:
                sure = sure_lanes(
                    group, state, rows.acmf_divisor, rows.acmf_offset, net, gross_exposure, required, band
                )
                list_lanes(group, bits & sure, DECIDED, chunk, state, found, count)
                list_lanes(group, bits & ~sure, RECHECK, chunk, state, found, count)
            store_rows(scratch, width * np.uint64(g - start), net, gross_exposure, locked, required)
        base = width * np.uint64(start)
        for g in range(end - start):
            place = base + width * np.uint64(g)
            net, gross_exposure, locked, required = gather4(scratch, slot, place)
            store(equity, place, net / unit)
            store(exposure, place, gross_exposure / unit)
            store(initial, place, locked / unit)
            store(maintenance, place, required / unit)


@kernel
def fill_sweep_lookup(prices, rows):
    """Lay out what a sweep looks up.

    prices  PriceArrays  ()  see layouts.py
    rows    SweepLookup     ()  out, see layouts.py
    """
    markets, assets = prices.price_per_lot.size, prices.price_per_quantum.size
    functions = prices.functions
    for m in range(markets):
        i, r = 2 * m, 2 * m + 1
        rows.market[m, 0] = prices.price_per_lot[m]
        rows.market[m, 1] = min(functions.flat_notional[i], functions.flat_notional[r])
        rows.market[m, 2] = functions.flat_rate[i]
        rows.market[m, 3] = functions.flat_rate[r]
    for k in range(assets):
        i, r = 2 * (markets + k), 2 * (markets + k) + 1
        rows.asset[k, 0] = prices.price_per_quantum[k]
        rows.asset[k, 1] = prices.weight[k]
        rows.asset[k, 2] = whole_weight_quanta(k, prices)
        rows.asset[k, 3] = min(functions.flat_notional[i], functions.flat_notional[r])
        rows.weight[k, 0] = prices.haircut_base[k]
        rows.weight[k, 1] = prices.haircut_penalty[k]
        rows.weight[k, 2] = prices.haircut_size[k]
        rows.weight[k, 3] = 0.0
        rows.borrow[k, 0] = functions.flat_rate[i]
        rows.borrow[k, 1] = functions.flat_rate[r]
        rows.borrow[k, 2:] = 0.0
    for table in (rows.market, rows.asset, rows.weight, rows.borrow):
        table[-1] = 0.0
    fill_requirement_lookup(0, functions, rows.market_above)
    fill_requirement_lookup(2 * markets, functions, rows.borrow_above)


@inner_kernel
def whole_weight_quanta(asset, prices):
    """Quanta of an asset up to which rounding cannot have shrunk its weight.

    asset   int64         ()  0 <= asset < K
    prices  PriceArrays  ()  see layouts.py
    """
    weight, base, penalty = prices.weight[asset], prices.haircut_base[asset], prices.haircut_penalty[asset]
    if base == np.inf or weight == 0.0:
        return np.inf
    room = base * _ROUNDED / weight - 1.0
    if room <= 0.0:
        return 0.0
    if penalty == 0.0 or prices.haircut_size[asset] == 0.0:
        return np.inf
    return (room / penalty) ** 2 / prices.haircut_size[asset] * _KINK
