"""The sweep of all accounts, eight at once: their margin, and which of them are at 100 % or above."""

from __future__ import annotations

import numpy as np

from ._jit import inner_kernel, kernel
from ._lanes import (
    WIDTH,
    absolute,
    broadcast,
    count_trailing_zeros,
    gather4,
    load,
    mask_ge,
    mask_gt,
    maximum,
    select_le,
    sqrt,
    store,
    store_rows,
)
from .layouts import LANES, PriceArrays
from .margin import DOUBT_BAND, MarginSums
from .margin_function import fill_requirement_lookup, requirements_above

CHUNK = 4096
"""Slots within which accounts are reordered, so that accounts with as many positions and balances are neighbours."""

DECIDED, RECHECK, OUT_OF_RANGE = 0, 1, 2
"""Why an account is listed: it is at 100 % or above; float64 cannot decide; the packed columns lack part of it."""

_KINK = 1.0 - 1e-9  # of the balance at which a weight begins to shrink: below, rounding cannot have shrunk it
_ROUNDED = 1.0 - 1e-15  # of a haircut's base: the same where it is just above the weight
_LANE_BITS = (1 << WIDTH) - 1


@inner_kernel
def lane_flags(flags, slot):
    """Flags of the lanes from a slot on: bit n is that of slot + n.

    flags  uint8   (G,)  bit n: lane n of the group
    slot   uint64  ()    0 <= slot < 8 G
    """
    lanes = np.uint64(LANES)
    return np.uint64(flags[slot // lanes]) >> slot % lanes & np.uint64(_LANE_BITS)


@inner_kernel
def weight_at(balance, weight, whole, haircut, asset, row):
    """Weights of collateral balances: ``min(weight, base / (1 + penalty * sqrt(size)))`` where that can be smaller.

    balance  float64       (8,)      lanes, quanta
    weight   float64       (8,)      lanes
    whole    float64       (8,)      lanes, quanta up to which the weight is not reduced
    haircut  float64       (K+1, 4)  base, penalty, size per quantum
    asset    uint8|uint16  (8S,)     asset row
    row      uint64        ()        of the first lane
    """
    if mask_gt(balance, whole):
        base, penalty, size, _ = gather4(haircut, asset, row)
        reduced = base / (broadcast(1.0) + penalty * sqrt(balance * size))
        weight = select_le(balance, whole, weight, select_le(reduced, weight, reduced, weight))
    return weight


@inner_kernel
def settle_value(value, price, extra):
    """Values of positions in the venue's settle asset: 0 of those in markets that settle in an extra money asset.

    value  float64        (8,)      lanes, settle quanta
    price  float64        (8,)      lanes, below 0 of such a market
    extra  float64|None   (M+1, 4)  None: no market settles in an extra money asset
    """
    if extra is None:
        return value
    zero = broadcast(0.0)
    return select_le(price, zero, zero, value)


@inner_kernel
def extra_margins(slot, state, lookup, extra, equity, gross):
    """Equity and gross amount, once the extra money assets count too.

    slot    uint64        ()        0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()        see layouts.py
    lookup  SweepLookup   ()        see layouts.py
    extra   float64|None  (M+1, 4)  of the lookup
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
        per_lot, _, _, _ = gather4(extra, state.extra_market, row)
        price, weight, whole, _ = gather4(lookup.asset, state.extra_asset, row)
        position_value = position_value + load(state.extra_lots, row) * per_lot
        quanta = load(state.extra_quanta, row)
        amount = position_value + quanta
        value = amount * price
        weight = weight_at(amount, weight, whole, lookup.weight, state.extra_asset, row)
        equity = equity + select_le(zero, amount, value * weight, value)
        gross = gross + absolute(quanta * price)
        position_value = select_le(price, zero, position_value, zero)  # after the last row of an asset comes another
        row += lanes
    return equity, gross


@inner_kernel
def group_margins(slot, state, lookup, extra):
    """Margin of the accounts of the lanes from a slot on, with or without their extra rows, as of `lane_margins`.

    slot    uint64        ()        0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()        see layouts.py
    lookup  SweepLookup   ()        see layouts.py
    extra   float64|None  (M+1, 4)  of the lookup; None: without
    """
    zero = broadcast(0.0)
    equity, exposure, initial, maintenance, gross = zero, zero, zero, zero, zero
    lanes = np.uint64(LANES)
    group, lane = slot // lanes, slot % lanes
    row, end = lanes * state.balance_group[group] + lane, lanes * state.balance_group[group + np.uint64(1)]
    while row < end:
        price, weight, whole, flat = gather4(lookup.asset, state.asset, row)
        balance = load(state.balance, row)
        value = balance * price
        weight = weight_at(balance, weight, whole, lookup.weight, state.asset, row)
        if mask_gt(zero, balance):
            owed = select_le(zero, balance, zero, zero - value)
            equity = equity + select_le(zero, balance, value * weight, value)
            exposure = exposure + owed
            initial_rate, rate, _, _ = gather4(lookup.borrow, state.asset, row)
            initial_required, required = owed * initial_rate, owed * rate
            if mask_gt(owed, flat):
                initial_required, required = requirements_above(
                    owed, initial_rate, rate, state.asset, row, lookup.borrow_above
                )
            initial = initial + initial_required
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + absolute(value)
        row += lanes

    position_value = zero
    row, end = lanes * state.position_group[group] + lane, lanes * state.position_group[group + np.uint64(1)]
    while row < end:
        price, flat, initial_rate, rate = gather4(lookup.market, state.market, row)
        value = load(state.lots, row) * price
        position_value = position_value + settle_value(value, price, extra)
        notional = absolute(value)
        exposure = exposure + notional
        initial_required, required = notional * initial_rate, notional * rate
        if mask_gt(notional, flat):
            initial_required, required = requirements_above(
                notional, initial_rate, rate, state.market, row, lookup.market_above
            )
        initial = initial + initial_required
        maintenance = maintenance + required
        row += lanes

    cash_minus_cost = load(state.cash_minus_cost, slot)
    equity = equity + (position_value + cash_minus_cost)
    gross = gross + exposure + absolute(cash_minus_cost)
    equity, gross = extra_margins(slot, state, lookup, extra, equity, gross)
    return MarginSums(equity=equity, exposure=exposure, initial=initial, maintenance=maintenance, gross=gross)


@inner_kernel
def margins_with_extra(slot, state, lookup, extra):
    """Margin as of `lane_margins`; without code for extra rows where a venue has none, and quickly where a group has.

    slot    uint64        ()        0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()        see layouts.py
    lookup  SweepLookup   ()        see layouts.py
    extra   float64|None  (M+1, 4)  of the lookup
    """
    if extra is None:
        return group_margins(slot, state, lookup, None)
    group = slot // np.uint64(LANES)
    if state.extra_group[group] == state.extra_group[group + np.uint64(1)]:
        return group_margins(slot, state, lookup, None)
    return group_margins(slot, state, lookup, extra)


@inner_kernel
def lane_margins(slot, state, lookup):
    """Margin of the accounts of the lanes from a slot on, without their orders.

    The same sums in the same order as `margin.account_margin`, so the same bits.

    slot    uint64        ()  0 <= slot < 8 G, of the first lane
    state   SweepColumns  ()  see layouts.py
    lookup  SweepLookup   ()  see layouts.py
    """
    return margins_with_extra(slot, state, lookup, lookup.extra)


@inner_kernel
def list_lanes(slot, bits, reason, chunk, state, listed, count):
    """List the accounts of some lanes with the reason, after those of the chunk that are listed already.

    slot    uint64        ()     0 <= slot < 8 G, of the first lane
    bits    uint64        ()     bit n: list lane n
    reason  int64         ()     DECIDED | RECHECK | OUT_OF_RANGE
    chunk   int64         ()     0 <= chunk < W
    state   SweepColumns  ()     see layouts.py
    listed  int64         (8G,)  out, 4 * account + reason, from 4096 * chunk on
    count   int64         (W,)   out, one more for each
    """
    position = chunk * CHUNK + count[chunk]
    while bits:
        listed[position] = 4 * np.int64(state.account[slot + count_trailing_zeros(bits)]) + reason
        bits = bits & (bits - np.uint64(1))
        position += 1
    count[chunk] = position - chunk * CHUNK


@inner_kernel
def unsafe_lanes(slot, state, equity, exposure, maintenance, band):
    """Bit n is set where the account of lane n has an exposure and a maintenance margin that is not below its equity.

    slot         uint64        ()    0 <= slot < 8 G, of the first lane
    state        SweepColumns  ()    see layouts.py
    equity       float64       (8,)  lanes, settle quanta
    exposure     float64       (8,)  lanes, settle quanta, without orders
    maintenance  float64       (8,)  lanes, settle quanta
    band         float64       (8,)  lanes, settle quanta: less than this below equity is not below
    """
    exposed = mask_gt(exposure, broadcast(0.0)) | lane_flags(state.has_orders, slot)
    return mask_ge(maintenance + band, equity) & exposed | lane_flags(state.overflow, slot)


@inner_kernel
def decided_lanes(slot, state, divisor, offset, equity, exposure, maintenance, band):
    """Bit n is set where rounding cannot change that lane n is at 100 % or above, and whether it is below auto-close.

    slot         uint64        ()    0 <= slot < 8 G, of the first lane
    state        SweepColumns  ()    see layouts.py
    divisor      float64       ()    of the auto-close fraction
    offset       float64       ()    of the auto-close fraction
    equity       float64       (8,)  lanes, settle quanta
    exposure     float64       (8,)  lanes, settle quanta, without orders
    maintenance  float64       (8,)  lanes, settle quanta
    band         float64       (8,)  lanes, settle quanta
    """
    auto_close = maximum(maintenance / broadcast(divisor), maintenance - broadcast(offset) * exposure)
    in_doubt = mask_gt(equity + band, maintenance) | lane_flags(state.overflow, slot)
    decided = mask_gt(absolute(equity), band) & mask_gt(absolute(auto_close - equity), band)
    return mask_gt(exposure, broadcast(0.0)) & decided & ~in_doubt


@kernel
def select_chunks(first, last, state, lookup, listed, count):
    """List the accounts of the chunks ``first:last`` that are at 100 % or above, or may be.

    first   int64         ()     0 <= first
    last    int64         ()     first <= last <= W
    state   SweepColumns  ()     see layouts.py
    lookup  SweepLookup   ()     see layouts.py
    listed  int64         (8G,)  out, 4 * account + DECIDED | RECHECK; those of chunk w from 4096 w on
    count   int64         (W,)   out, how many are listed of each chunk
    """
    doubt = broadcast(DOUBT_BAND)
    for chunk in range(first, last):
        count[chunk] = 0
        for start in range(chunk * CHUNK, min((chunk + 1) * CHUNK, state.account.size), WIDTH):
            slot = np.uint64(start)
            sums = lane_margins(slot, state, lookup)
            band = doubt * sums.gross
            bits = unsafe_lanes(slot, state, sums.equity, sums.exposure, sums.maintenance, band)
            if bits:
                decided = decided_lanes(
                    slot, state, lookup.acmf_divisor, lookup.acmf_offset, sums.equity, sums.exposure,
                    sums.maintenance, band,
                )  # fmt: skip
                list_lanes(slot, bits & decided, DECIDED, chunk, state, listed, count)
                list_lanes(slot, bits & ~decided, RECHECK, chunk, state, listed, count)


@kernel
def sweep_chunks(
    first, last, state, slot_in_chunk, lookup, scratch, equity, exposure, initial, maintenance, listed, count
):
    """Compute the margin of the accounts of the chunks ``first:last``, and list those whose status is not yet known.

    first          int64         ()         0 <= first
    last           int64         ()         first <= last <= W
    state          SweepColumns  ()         see layouts.py
    slot_in_chunk  uint16        (8G,)      slot of an account in its chunk
    lookup         SweepLookup   ()         see layouts.py
    scratch        float64       (4096, 4)  out, working memory
    equity         float64       (8G,)      out, settle units, by account
    exposure       float64       (8G,)      out, settle units, by account
    initial        float64       (8G,)      out, settle units, by account
    maintenance    float64       (8G,)      out, settle units, by account
    listed         int64         (8G,)      out, 4 * account + DECIDED | RECHECK | OUT_OF_RANGE; chunk w from 4096 w on
    count          int64         (W,)       out, how many are listed of each chunk
    """
    doubt, unit = broadcast(DOUBT_BAND), broadcast(1.0 / lookup.settle_quantum)
    for chunk in range(first, last):
        count[chunk] = 0
        begin, end = chunk * CHUNK, min((chunk + 1) * CHUNK, state.account.size)
        for start in range(begin, end, WIDTH):
            slot = np.uint64(start)
            sums = lane_margins(slot, state, lookup)
            out_of_range = (
                lane_flags(state.has_orders, slot)
                | lane_flags(state.has_leverage_limit, slot)
                | lane_flags(state.overflow, slot)
            )
            band = doubt * sums.gross
            bits = unsafe_lanes(slot, state, sums.equity, sums.exposure, sums.maintenance, band) & ~out_of_range
            if out_of_range:
                list_lanes(slot, out_of_range, OUT_OF_RANGE, chunk, state, listed, count)
            if bits:
                decided = decided_lanes(
                    slot, state, lookup.acmf_divisor, lookup.acmf_offset, sums.equity, sums.exposure,
                    sums.maintenance, band,
                )  # fmt: skip
                list_lanes(slot, bits & decided, DECIDED, chunk, state, listed, count)
                list_lanes(slot, bits & ~decided, RECHECK, chunk, state, listed, count)
            store_rows(scratch, np.uint64(start - begin), sums.equity, sums.exposure, sums.initial, sums.maintenance)
        for start in range(begin, end, WIDTH):
            account = np.uint64(start)
            net, gross_exposure, initial_required, required = gather4(scratch, slot_in_chunk, account)
            store(equity, account, net / unit)
            store(exposure, account, gross_exposure / unit)
            store(initial, account, initial_required / unit)
            store(maintenance, account, required / unit)


@kernel
def first_unsafe(
    first, last, state, prices, price_per_lot, value_per_lot, price_per_quantum, haircut_size, lookup, found
):
    """Find the first of the instants ``first:last`` at which an account is at 100 % or above, or may be.

    first              int64         ()      0 <= first
    last               int64         ()      first <= last <= n
    state              SweepColumns  ()      see layouts.py
    prices             PriceArrays   ()      see layouts.py: the figures that are the same at all n instants
    price_per_lot      float64       (n, M)  as of `PriceArrays`, at each instant
    value_per_lot      float64       (n, M)  as of `PriceArrays`, at each instant
    price_per_quantum  float64       (n, K)  as of `PriceArrays`, at each instant
    haircut_size       float64       (n, K)  as of `PriceArrays`, at each instant
    lookup             SweepLookup   ()      in/out, see layouts.py: filled at any prices
    found              int64         (1,)    out, its number; last if there is none
    """
    found[0] = last
    doubt = broadcast(DOUBT_BAND)
    for t in range(first, last):
        at_instant = PriceArrays(
            price_per_lot=price_per_lot[t],
            value_per_lot=value_per_lot[t],
            market_settle=prices.market_settle,
            money=prices.money,
            price_per_quantum=price_per_quantum[t],
            functions=prices.functions,
            weight=prices.weight,
            haircut_base=prices.haircut_base,
            haircut_penalty=prices.haircut_penalty,
            haircut_size=haircut_size[t],
            settle_quantum=prices.settle_quantum,
            acmf_divisor=prices.acmf_divisor,
            acmf_offset=prices.acmf_offset,
        )
        fill_prices(at_instant, lookup)
        for start in range(0, state.account.size, WIDTH):
            slot = np.uint64(start)
            sums = lane_margins(slot, state, lookup)
            if unsafe_lanes(slot, state, sums.equity, sums.exposure, sums.maintenance, doubt * sums.gross):
                found[0] = t
                return


@inner_kernel
def fill_prices(prices, lookup):
    """Lay out the figures that a sweep looks up and that depend on prices alone.

    prices  PriceArrays  ()  see layouts.py
    lookup  SweepLookup  ()  in/out, see layouts.py
    """
    for m in range(prices.price_per_lot.size):
        lookup.market[m, 0] = prices.price_per_lot[m]
    for k in range(prices.price_per_quantum.size):
        lookup.asset[k, 0] = prices.price_per_quantum[k]
        lookup.asset[k, 2] = whole_weight_quanta(k, prices)
        lookup.weight[k, 2] = prices.haircut_size[k]
    fill_extra(prices, lookup.market, lookup.extra)


@kernel
def fill_sweep_lookup(prices, lookup):
    """Lay out the figures that a sweep looks up.

    prices  PriceArrays  ()  see layouts.py
    lookup  SweepLookup  ()  out, see layouts.py
    """
    markets, assets = prices.price_per_lot.size, prices.price_per_quantum.size
    functions = prices.functions
    for m in range(markets):
        i, r = 2 * m, 2 * m + 1
        lookup.market[m, 1] = min(functions.flat_notional[i], functions.flat_notional[r])
        lookup.market[m, 2] = functions.flat_rate[i]
        lookup.market[m, 3] = functions.flat_rate[r]
    for k in range(assets):
        i, r = 2 * (markets + k), 2 * (markets + k) + 1
        lookup.asset[k, 1] = prices.weight[k]
        lookup.asset[k, 3] = min(functions.flat_notional[i], functions.flat_notional[r])
        lookup.weight[k, 0] = prices.haircut_base[k]
        lookup.weight[k, 1] = prices.haircut_penalty[k]
        lookup.weight[k, 3] = 0.0
        lookup.borrow[k, 0] = functions.flat_rate[i]
        lookup.borrow[k, 1] = functions.flat_rate[r]
        lookup.borrow[k, 2:] = 0.0
    for table in (lookup.market, lookup.asset, lookup.weight, lookup.borrow):
        table[-1] = 0.0
    lookup.asset[-1, 2] = np.inf
    fill_prices(prices, lookup)
    fill_requirement_lookup(0, functions, lookup.market_above)
    fill_requirement_lookup(2 * markets, functions, lookup.borrow_above)


@inner_kernel
def fill_extra(prices, market, extra):
    """Lay out the values of lots in the markets' settle assets; mark the markets that settle in extra money assets.

    prices  PriceArrays   ()        see layouts.py
    market  float64       (M+1, 4)  in/out, of `SweepLookup`
    extra   float64|None  (M+1, 4)  out, of `SweepLookup`
    """
    if extra is not None:
        for m in range(prices.price_per_lot.size):
            if prices.market_settle[m] != prices.money[0]:
                market[m, 0] = -prices.price_per_lot[m]
            extra[m, 0] = abs(prices.value_per_lot[m])
            extra[m, 1:] = 0.0
        extra[-1] = 0.0


@inner_kernel
def whole_weight_quanta(asset, prices):
    """Quanta of an asset up to which neither its haircut nor rounding can have reduced its weight.

    asset   int64        ()  0 <= asset < K
    prices  PriceArrays  ()  see layouts.py
    """
    weight, base, penalty = prices.weight[asset], prices.haircut_base[asset], prices.haircut_penalty[asset]
    if base == np.inf or weight == 0.0:
        return np.inf
    headroom = base * _ROUNDED / weight - 1.0
    if headroom <= 0.0:
        return 0.0
    if penalty == 0.0 or prices.haircut_size[asset] == 0.0:
        return np.inf
    return (headroom / penalty) ** 2 / prices.haircut_size[asset] * _KINK
