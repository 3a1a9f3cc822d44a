"""The sweep's columns, packed from the accounts."""

from __future__ import annotations

import numpy as np

from ._jit import kernel
from ._simd import LANES
from .sweep import _SHORT


@kernel
def update_slots(slots, places, state, sweep_view):
    """Copy what the accounts of some slots hold to others, which have room for as many rows.

    slots   int64          (N,)  0 <= slot < 8 G, with an account
    places  int64          (N,)  slots to copy to
    state   SweepColumns  ()    see layouts.py: where from
    sweep_view  SweepColumns  ()    out, see layouts.py: where to; offsets are there, and what fills up
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        target, target_lane = places[n] // LANES, places[n] % LANES
        at = LANES * np.int64(sweep_view.position_group[target]) + target_lane
        for row in range(np.int64(state.position_group[group]), np.int64(state.position_group[group + 1])):
            sweep_view.market[at] = state.market[LANES * row + lane]
            sweep_view.lots[at] = state.lots[LANES * row + lane]
            at += LANES
        at = LANES * np.int64(sweep_view.balance_group[target]) + target_lane
        for row in range(np.int64(state.balance_group[group]), np.int64(state.balance_group[group + 1])):
            sweep_view.asset[at] = state.asset[LANES * row + lane]
            sweep_view.balance[at] = state.balance[LANES * row + lane]
            at += LANES
        sweep_view.account[places[n]] = state.account[slots[n]]
        sweep_view.cash_minus_cost[places[n]] = state.cash_minus_cost[slots[n]]
        bit = np.uint8(1 << target_lane)
        for bits, source in (
            (sweep_view.has_orders, state.has_orders),
            (sweep_view.has_leverage_limit, state.has_leverage_limit),
            (sweep_view.overflow, state.overflow),
        ):
            bits[target] = bits[target] | bit if source[group] >> lane & 1 else bits[target] & ~bit


@kernel
def largest_costs(state, size):
    """Number of binary digits of what each account paid for its largest position, in quarters.

    state  AccountColumns  ()    see layouts.py
    size   uint16          (A,)  out
    """
    for account in range(size.size):
        most = 0
        for i in range(np.int64(state.position_offset[account]), np.int64(state.position_offset[account + 1])):
            most = max(most, abs(state.cost[i]))
        size[account] = np.uint16(4.0 * np.log2(float(most) + 1.0))


@kernel
def pack_slots(slots, state, sweep_view):
    """Write the amounts of some slots anew, and which rows they are of.

    slots   int64           (N,)  0 <= slot < 8 G, with an account
    state   AccountColumns  ()    see layouts.py
    sweep_view  SweepColumns   ()    out, see layouts.py; accounts and offsets are there, and what fills up
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        account = np.int64(sweep_view.account[slots[n]])
        positions = range(np.int64(state.position_offset[account]), np.int64(state.position_offset[account + 1]))
        balances = range(np.int64(state.balance_offset[account]), np.int64(state.balance_offset[account + 1]))
        fits = True
        for i in positions:
            fits = fits and abs(state.lots[i]) <= _SHORT
        for j in balances:
            fits = fits and (state.free[j] >= 0 or state.lent[j] == 0)
        place = LANES * np.int64(sweep_view.position_group[group]) + lane
        for i in positions:
            sweep_view.market[place] = state.market[i]
            sweep_view.lots[place] = state.lots[i] if fits else 0
            place += LANES
        place = LANES * np.int64(sweep_view.balance_group[group]) + lane
        for j in balances:
            sweep_view.asset[place] = state.asset[j]
            sweep_view.balance[place] = float(state.free[j] + state.lent[j]) if fits else 0.0
            place += LANES
        sweep_view.cash_minus_cost[slots[n]] = (
            float(state.unsettled[account] - state.account_cost[account]) if fits else 0.0
        )
        bit = np.uint8(1 << lane)
        for bits, is_set in (
            (sweep_view.has_orders, state.open_orders[account] > 0),
            (sweep_view.has_leverage_limit, state.leverage_fraction[account] > 0.0),
            (sweep_view.overflow, not fits),
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
