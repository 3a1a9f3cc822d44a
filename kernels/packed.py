"""The sweep of all accounts, eight abreast: margin of everybody, who is at 100 %, and who cannot be within a box."""

import numpy as np

from ._jit import inner_kernel, kernel
from ._lanes import (
    LANES,
    bits_not_less,
    bits_past,
    full,
    greater,
    load,
    look_up,
    lowest,
    magnitude,
    root,
    store,
    store_rows,
    where_within,
)
from .margin import DOUBT_BAND

WINDOW = 4096
"""Slots in which accounts change places, so that those with as many positions and balances stand together."""
_GROUPS = WINDOW // LANES

SURE, LOOK, WIDE = 0, 1, 2
"""Why an account is listed: it is at 100 % or above; float64 cannot tell; the packed columns do not say all of it."""

_SHORT = (1 << 31) - 1
_BOX_BAND = 1e-9  # of the gross amounts: a thousand times what float64 leaves in doubt
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
    found = base / (full(1.0) + penalty * root(size))
    return where_within(found, weight, found, weight)


@inner_kernel
def steep_requirement(notional, fraction, factor, limit):
    """What margin functions with a square root require of notionals: from the limit on that is more than a fraction.

    notional  float64  (8,)  lanes, settle quanta
    fraction  float64  (8,)  lanes
    factor    float64  (8,)  lanes, per square root of a quantum
    limit     float64  (8,)  lanes, settle quanta
    """
    return where_within(notional, limit, notional * fraction, notional * greater(fraction, factor * root(notional)))


@inner_kernel
def tier_requirement(notional, required, index, place, tiers):
    """What tiers require of notionals past the first of them; of the others what was said.

    notional  float64  (8,)           lanes, settle quanta
    required  float64  (8,)           lanes, settle quanta
    index     uint8|uint16  (N,)      market or asset row
    place     uint64   ()             of the first lane
    tiers     float64  (T, N, 4)      from, rate and deduction of the tiers after the first, ascending
    """
    for tier in range(tiers.shape[0]):
        edge, rate, deduction, _ = look_up(tiers[tier], index, place)
        if not bits_past(notional, edge):
            break
        required = where_within(notional, edge, required, notional * rate - deduction)
    return required


@inner_kernel
def group_margin(group, state, rows):
    """Net equity, exposure, initial and maintenance margin, and gross amounts of a group, without its orders.

    The same sums in the same order as `margin.account_margin`, so the same bits.

    group  uint64         ()  0 <= group < G
    state  PackedColumns  ()  see columns.py
    rows   PriceRows      ()  see columns.py
    """
    zero = full(0.0)
    equity, exposure, initial, maintenance, gross = zero, zero, zero, zero, zero
    width = np.uint64(LANES)
    place, end = width * state.balance_group[group], width * state.balance_group[group + np.uint64(1)]
    while place < end:
        price, weight, kink, limit = look_up(rows.asset, state.asset, place)
        held = load(state.held, place)
        value = held * price
        if bits_past(held, kink):
            base, penalty, size, _ = look_up(rows.weight, state.asset, place)
            weight = where_within(held, kink, weight, shrunk_weight(held * size, weight, base, penalty))
        if bits_past(zero, held):
            owed = where_within(zero, held, zero, zero - value)
            equity = equity + where_within(zero, held, value * weight, value)
            exposure = exposure + owed
            at_first, always, _, _ = look_up(rows.borrow, state.asset, place)
            locked, required = owed * at_first, owed * always
            if bits_past(owed, limit):
                factor, tail, end_first, end_always = look_up(rows.borrow_tail, state.asset, place)
                locked = steep_requirement(owed, at_first, factor, end_first)
                required = steep_requirement(owed, always, tail, end_always)
                locked = tier_requirement(owed, locked, state.asset, place, rows.borrow_initial_tiers)
                required = tier_requirement(owed, required, state.asset, place, rows.borrow_tiers)
            initial = initial + locked
            maintenance = maintenance + required
        else:
            equity = equity + value * weight
        gross = gross + magnitude(value)
        place += width

    worth = zero
    place, end = width * state.position_group[group], width * state.position_group[group + np.uint64(1)]
    while place < end:
        price, limit, at_first, always = look_up(rows.market, state.market, place)
        value = load(state.lots, place) * price
        worth = worth + value
        notional = magnitude(value)
        exposure = exposure + notional
        locked, required = notional * at_first, notional * always
        if bits_past(notional, limit):
            factor, tail, end_first, end_always = look_up(rows.tail, state.market, place)
            locked = steep_requirement(notional, at_first, factor, end_first)
            required = steep_requirement(notional, always, tail, end_always)
            locked = tier_requirement(notional, locked, state.market, place, rows.initial_tiers)
            required = tier_requirement(notional, required, state.market, place, rows.tiers)
        initial = initial + locked
        maintenance = maintenance + required
        place += width

    booked = load(state.booked, width * group)
    return equity + (worth + booked), exposure, initial, maintenance, gross + exposure + magnitude(booked)


@inner_kernel
def list_lanes(group, bits, why, window, state, found, count):
    """List the accounts of some lanes, with why, behind those of the window that are listed already.

    group   uint64         ()    0 <= group < G
    bits    uint64         ()    bit n: list lane n
    why     int64          ()    SURE | LOOK | WIDE
    window  int64          ()    0 <= window < W
    state   PackedColumns  ()    see columns.py
    found   int64          (8G,)  out, 4 * account + why, from 4096 * window on
    count   int64          (W,)  out, one more for each
    """
    place = window * WINDOW + count[window]
    while bits:
        found[place] = 4 * np.int64(state.account[np.uint64(LANES) * group + lowest(bits)]) + why
        bits = bits & (bits - np.uint64(1))
        place += 1
    count[window] = place - window * WINDOW


@inner_kernel
def unsafe_lanes(group, state, equity, exposure, maintenance, band):
    """Bit n is set where account n of a group has an exposure and its maintenance margin is not below its equity.

    group        uint64         ()    0 <= group < G
    state        PackedColumns  ()    see columns.py
    equity       float64        (8,)  lanes, settle quanta
    exposure     float64        (8,)  lanes, settle quanta, without orders
    maintenance  float64        (8,)  lanes, settle quanta
    band         float64        (8,)  lanes, settle quanta: as near as that counts as not below
    """
    exposed = bits_past(exposure, full(0.0)) | np.uint64(state.resting[group])
    return bits_not_less(maintenance + band, equity) & exposed | np.uint64(state.unpacked[group])


@inner_kernel
def sure_lanes(group, state, divisor, offset, equity, exposure, maintenance, band):
    """Bit n is set where account n of a group is at 100 % or above, and where below auto-close, past all doubt.

    group        uint64         ()    0 <= group < G
    state        PackedColumns  ()    see columns.py
    divisor      float64        ()    of the auto-close fraction
    offset       float64        ()    of the auto-close fraction
    equity       float64        (8,)  lanes, settle quanta
    exposure     float64        (8,)  lanes, settle quanta, without orders
    maintenance  float64        (8,)  lanes, settle quanta
    band         float64        (8,)  lanes, settle quanta
    """
    divided, less = maintenance / full(divisor), maintenance - full(offset) * exposure
    from_auto_close = magnitude(greater(divided, less) - equity)
    in_doubt = bits_past(equity + band, maintenance) | np.uint64(state.unpacked[group])
    sure = bits_past(magnitude(equity), band) & bits_past(from_auto_close, band)
    return bits_past(exposure, full(0.0)) & sure & ~in_doubt


@kernel
def select_windows(first, last, state, rows, found, count):
    """Accounts of the windows ``first:last`` that are at 100 % or above, or may be.

    first   int64          ()     0 <= first
    last    int64          ()     first <= last <= W
    state   PackedColumns  ()     see columns.py
    rows    PriceRows      ()     see columns.py
    found   int64          (8G,)  out, 4 * account + SURE | LOOK; those of window w from 4096 w on
    count   int64          (W,)   out, how many those are
    """
    doubt = full(DOUBT_BAND)
    for window in range(first, last):
        count[window] = 0
        for g in range(window * _GROUPS, min((window + 1) * _GROUPS, state.resting.size)):
            group = np.uint64(g)
            equity, exposure, _, maintenance, gross = group_margin(group, state, rows)
            band = doubt * gross
            bits = unsafe_lanes(group, state, equity, exposure, maintenance, band)
            if bits:
                sure = sure_lanes(
                    group, state, rows.acmf_divisor, rows.acmf_offset, equity, exposure, maintenance, band
                )
                list_lanes(group, bits & sure, SURE, window, state, found, count)
                list_lanes(group, bits & ~sure, LOOK, window, state, found, count)


@kernel
def sweep_windows(first, last, state, slot, rows, scratch, equity, exposure, initial, maintenance, found, count):
    """Margin of the accounts of the windows ``first:last``, and those of them to look at.

    first        int64          ()         0 <= first
    last         int64          ()         first <= last <= W
    state        PackedColumns  ()         see columns.py
    slot         uint16         (8G,)      slot of an account in its window
    rows         PriceRows      ()         see columns.py
    scratch      float64        (4096, 4)  out, of no meaning
    equity       float64        (8G,)      out, settle units, by account
    exposure     float64        (8G,)      out, settle units, by account
    initial      float64        (8G,)      out, settle units, by account
    maintenance  float64        (8G,)      out, settle units, by account
    found        int64          (8G,)      out, 4 * account + SURE | LOOK | WIDE; those of window w from 4096 w on
    count        int64          (W,)       out, how many those are
    """
    doubt, unit = full(DOUBT_BAND), full(1.0 / rows.settle_quantum)
    width = np.uint64(LANES)
    for window in range(first, last):
        count[window] = 0
        start, end = window * _GROUPS, min((window + 1) * _GROUPS, state.resting.size)
        for g in range(start, end):
            group = np.uint64(g)
            net, gross_exposure, locked, required, gross = group_margin(group, state, rows)
            wide = np.uint64(state.resting[group] | state.leveraged[group] | state.unpacked[group])
            band = doubt * gross
            bits = unsafe_lanes(group, state, net, gross_exposure, required, band) & ~wide
            if wide:
                list_lanes(group, wide, WIDE, window, state, found, count)
            if bits:
                sure = sure_lanes(
                    group, state, rows.acmf_divisor, rows.acmf_offset, net, gross_exposure, required, band
                )
                list_lanes(group, bits & sure, SURE, window, state, found, count)
                list_lanes(group, bits & ~sure, LOOK, window, state, found, count)
            store_rows(scratch, width * np.uint64(g - start), net, gross_exposure, locked, required)
        base = width * np.uint64(start)
        for g in range(end - start):
            place = base + width * np.uint64(g)
            net, gross_exposure, locked, required = look_up(scratch, slot, place)
            store(equity, place, net / unit)
            store(exposure, place, gross_exposure / unit)
            store(initial, place, locked / unit)
            store(maintenance, place, required / unit)


@inner_kernel
def group_bound(group, state, box):
    """Least net equity, most exposure and maintenance margin, and gross amounts of a group anywhere in a box of prices.

    With the edges of the box exchanged, the most net equity and the least exposure and maintenance margin.

    group  uint64         ()  0 <= group < G
    state  PackedColumns  ()  see columns.py
    box    BoxRows        ()  see columns.py
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
def update_slots(slots, places, state, packed):
    """Copy what the accounts of some slots hold to others, which have room for as many rows.

    slots   int64          (N,)  0 <= slot < 8 G, with an account
    places  int64          (N,)  slots to copy to
    state   PackedColumns  ()    see columns.py: where from
    packed  PackedColumns  ()    out, see columns.py: where to; offsets are there, and what fills up
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        target, target_lane = places[n] // LANES, places[n] % LANES
        at = LANES * np.int64(packed.position_group[target]) + target_lane
        for row in range(np.int64(state.position_group[group]), np.int64(state.position_group[group + 1])):
            packed.market[at] = state.market[LANES * row + lane]
            packed.lots[at] = state.lots[LANES * row + lane]
            at += LANES
        at = LANES * np.int64(packed.balance_group[target]) + target_lane
        for row in range(np.int64(state.balance_group[group]), np.int64(state.balance_group[group + 1])):
            packed.asset[at] = state.asset[LANES * row + lane]
            packed.held[at] = state.held[LANES * row + lane]
            at += LANES
        packed.account[places[n]] = state.account[slots[n]]
        packed.booked[places[n]] = state.booked[slots[n]]
        bit = np.uint8(1 << target_lane)
        for bits, source in (
            (packed.resting, state.resting),
            (packed.leveraged, state.leveraged),
            (packed.unpacked, state.unpacked),
        ):
            bits[target] = bits[target] | bit if source[group] >> lane & 1 else bits[target] & ~bit


@kernel
def watch_windows(first, last, state, worst, best, spread, watched, known, count):
    """Try a box of prices on the accounts of the windows ``first:last``: the slots that it does not prove safe.

    What a position is worth is taken at its worse edge, what is owed and required at the upper one, collateral at the
    lower one: each is monotone in its price. Whoever is below 100 % then is so wherever in the box each price is. With
    the edges exchanged, whoever is above 100 % is so everywhere: that is known. The others are to be watched.

    first    int64          ()     0 <= first
    last     int64          ()     first <= last <= W
    state    PackedColumns  ()     see columns.py
    worst    BoxRows        ()     see columns.py
    best     BoxRows        ()     see columns.py: with the edges exchanged
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
def lay_out_prices(prices, rows):
    """Lay out what a sweep looks up.

    prices  PriceColumns  ()  see columns.py
    rows    PriceRows     ()  out, see columns.py
    """
    markets, assets = prices.price_per_lot.size, prices.price_per_quantum.size
    for m in range(markets):
        i, r = 2 * m, 2 * m + 1
        rows.market[m, 0] = prices.price_per_lot[m]
        rows.market[m, 1] = min(prices.curve_limit[i], prices.curve_limit[r])
        rows.market[m, 2] = prices.curve_base[i]
        rows.market[m, 3] = prices.curve_base[r]
        rows.tail[m, 0] = prices.curve_factor[i]
        rows.tail[m, 1] = prices.curve_factor[r]
        rows.tail[m, 2] = prices.curve_limit[i]
        rows.tail[m, 3] = prices.curve_limit[r]
    for k in range(assets):
        i, r = 2 * (markets + k), 2 * (markets + k) + 1
        rows.asset[k, 0] = prices.price_per_quantum[k]
        rows.asset[k, 1] = prices.weight[k]
        rows.asset[k, 2] = whole_weight_quanta(k, prices)
        rows.asset[k, 3] = min(prices.curve_limit[i], prices.curve_limit[r])
        rows.weight[k, 0] = prices.haircut_base[k]
        rows.weight[k, 1] = prices.haircut_penalty[k]
        rows.weight[k, 2] = prices.haircut_size[k]
        rows.weight[k, 3] = 0.0
        rows.borrow[k, 0] = prices.curve_base[i]
        rows.borrow[k, 1] = prices.curve_base[r]
        rows.borrow[k, 2:] = 0.0
        rows.borrow_tail[k, 0] = prices.curve_factor[i]
        rows.borrow_tail[k, 1] = prices.curve_factor[r]
        rows.borrow_tail[k, 2] = prices.curve_limit[i]
        rows.borrow_tail[k, 3] = prices.curve_limit[r]
    for table in (rows.market, rows.tail, rows.asset, rows.weight, rows.borrow, rows.borrow_tail):
        table[-1] = 0.0


@kernel
def lay_out_box(lowest, highest, box):
    """Lay out the worst figures of a box of prices; with the edges exchanged, the best ones.

    lowest   PriceColumns  ()  see columns.py: every price at the bottom of the box
    highest  PriceColumns  ()  see columns.py: every price at its top
    box      BoxRows       ()  out, see columns.py
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


@inner_kernel
def whole_weight_quanta(asset, prices):
    """Quanta of an asset up to which rounding cannot have shrunk its weight.

    asset   int64         ()  0 <= asset < K
    prices  PriceColumns  ()  see columns.py
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


@kernel
def largest_costs(state, size):
    """Number of binary digits of what each account paid for its largest position, in quarters.

    state  AccountColumns  ()    see columns.py
    size   uint16          (A,)  out
    """
    for account in range(size.size):
        most = 0
        for i in range(np.int64(state.position_offset[account]), np.int64(state.position_offset[account + 1])):
            most = max(most, abs(state.cost[i]))
        size[account] = np.uint16(4.0 * np.log2(float(most) + 1.0))


@kernel
def pack_slots(slots, state, packed):
    """Write the amounts of some slots anew, and which rows they are of.

    slots   int64           (N,)  0 <= slot < 8 G, with an account
    state   AccountColumns  ()    see columns.py
    packed  PackedColumns   ()    out, see columns.py; accounts and offsets are there, and what fills up
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        account = np.int64(packed.account[slots[n]])
        positions = range(np.int64(state.position_offset[account]), np.int64(state.position_offset[account + 1]))
        balances = range(np.int64(state.balance_offset[account]), np.int64(state.balance_offset[account + 1]))
        fits = True
        for i in positions:
            fits = fits and abs(state.lots[i]) <= _SHORT
        for j in balances:
            fits = fits and (state.free[j] >= 0 or state.lent[j] == 0)
        place = LANES * np.int64(packed.position_group[group]) + lane
        for i in positions:
            packed.market[place] = state.market[i]
            packed.lots[place] = state.lots[i] if fits else 0
            place += LANES
        place = LANES * np.int64(packed.balance_group[group]) + lane
        for j in balances:
            packed.asset[place] = state.asset[j]
            packed.held[place] = float(state.free[j] + state.lent[j]) if fits else 0.0
            place += LANES
        packed.booked[slots[n]] = float(state.unsettled[account] - state.account_cost[account]) if fits else 0.0
        bit = np.uint8(1 << lane)
        for bits, is_set in (
            (packed.resting, state.open_orders[account] > 0),
            (packed.leveraged, state.leverage_fraction[account] > 0.0),
            (packed.unpacked, not fits),
        ):
            bits[group] = bits[group] | bit if is_set else bits[group] & ~bit


@kernel
def list_holders(group_of_row, index, start, slots):
    """Slots with a row of each market or asset that is listed, one after another, ascending.

    group_of_row  uint32        (R+1,)  first row of each group
    index         uint8|uint16  (8R,)   market or asset row
    start         int64         (N+1,)  in/out, where the slots of each begin, -1: it is not listed; then where they end
    slots         uint32        (S,)    out
    """
    for group in range(group_of_row.size - 1):
        for place in range(LANES * np.int64(group_of_row[group]), LANES * np.int64(group_of_row[group + 1])):
            at = start[index[place]]
            if at >= 0:
                slots[at] = LANES * group + place % LANES
                start[index[place]] = at + 1


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
