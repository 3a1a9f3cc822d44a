"""The sweep's columns, packed from the accounts."""

from __future__ import annotations

import numpy as np

from ._jit import inner_kernel, kernel
from .layouts import LANES

_INT32_MAX = (1 << 31) - 1


@kernel
def update_slots(slots, targets, state, sweep_view):
    """Copy the accounts of some slots to other slots, whose groups have at least as many rows.

    slots       int64         (N,)  0 <= slot < 8 G, with an account
    targets     int64         (N,)  slots to copy to
    state       SweepColumns  ()    see layouts.py: copied from
    sweep_view  SweepColumns  ()    out, see layouts.py: copied to; its offsets and filling rows are set
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        target_group, target_lane = targets[n] // LANES, targets[n] % LANES
        target_row = LANES * np.int64(sweep_view.position_group[target_group]) + target_lane
        for row in range(np.int64(state.position_group[group]), np.int64(state.position_group[group + 1])):
            sweep_view.market[target_row] = state.market[LANES * row + lane]
            sweep_view.lots[target_row] = state.lots[LANES * row + lane]
            target_row += LANES
        target_row = LANES * np.int64(sweep_view.balance_group[target_group]) + target_lane
        for row in range(np.int64(state.balance_group[group]), np.int64(state.balance_group[group + 1])):
            sweep_view.asset[target_row] = state.asset[LANES * row + lane]
            sweep_view.balance[target_row] = state.balance[LANES * row + lane]
            target_row += LANES
        target_row = LANES * np.int64(sweep_view.extra_group[target_group]) + target_lane
        for row in range(np.int64(state.extra_group[group]), np.int64(state.extra_group[group + 1])):
            sweep_view.extra_market[target_row] = state.extra_market[LANES * row + lane]
            sweep_view.extra_lots[target_row] = state.extra_lots[LANES * row + lane]
            sweep_view.extra_asset[target_row] = state.extra_asset[LANES * row + lane]
            sweep_view.extra_quanta[target_row] = state.extra_quanta[LANES * row + lane]
            target_row += LANES
        sweep_view.account[targets[n]] = state.account[slots[n]]
        sweep_view.cash_minus_cost[targets[n]] = state.cash_minus_cost[slots[n]]
        bit = np.uint8(1 << target_lane)
        for flags, source in (
            (sweep_view.has_orders, state.has_orders),
            (sweep_view.has_leverage_limit, state.has_leverage_limit),
            (sweep_view.overflow, state.overflow),
        ):
            flags[target_group] = flags[target_group] | bit if source[group] >> lane & 1 else flags[target_group] & ~bit


@kernel
def largest_costs(state, size):
    """Size of the largest cost among the positions of each account: four times its base-2 logarithm.

    state  AccountColumns  ()    see layouts.py
    size   uint16          (A,)  out
    """
    for account in range(size.size):
        largest = 0
        for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
            largest = max(largest, abs(state.cost[i]))
        size[account] = np.uint16(4.0 * np.log2(float(largest) + 1.0))


@inner_kernel
def _clear_lane(group, lane, sweep_view):
    """Set all amounts of a lane to 0.

    group       int64         ()  0 <= group < G
    lane        int64         ()  0 <= lane < 8
    sweep_view  SweepColumns  ()  out, see layouts.py
    """
    for row in range(np.int64(sweep_view.position_group[group]), np.int64(sweep_view.position_group[group + 1])):
        sweep_view.lots[LANES * row + lane] = 0
    for row in range(np.int64(sweep_view.balance_group[group]), np.int64(sweep_view.balance_group[group + 1])):
        sweep_view.balance[LANES * row + lane] = 0.0
    for row in range(np.int64(sweep_view.extra_group[group]), np.int64(sweep_view.extra_group[group + 1])):
        sweep_view.extra_lots[LANES * row + lane] = 0
        sweep_view.extra_quanta[LANES * row + lane] = 0.0


@inner_kernel
def extra_positions(balance, account, state, extra):
    """Number of an account's positions that settle in a balance of an extra money asset, 0 of another asset.

    balance  int64           ()    row, of the account
    account  int64           ()    0 <= account < A
    state    AccountColumns  ()    see layouts.py
    extra    bool            (K,)  the asset is an extra money asset
    """
    count = 0
    if extra[state.asset[balance]]:
        for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
            count += state.position_balance[i] == balance
    return count


@kernel
def pack_slots(slots, state, inverse, extra, sweep_view):
    """Write the amounts of some slots, and the market or asset row of each.

    slots       int64           (N,)  0 <= slot < 8 G, with an account
    state       AccountColumns  ()    see layouts.py
    inverse     bool            (M,)  the market is inverse
    extra       bool            (K,)  the asset is an extra money asset
    sweep_view  SweepColumns    ()    out, see layouts.py; its accounts, offsets and filling rows are set
    """
    for n in range(slots.size):
        group, lane = slots[n] // LANES, slots[n] % LANES
        account = np.int64(sweep_view.account[slots[n]])
        positions = range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1]))
        balances = range(np.int64(state.balance_span[account, 0]), np.int64(state.balance_span[account, 1]))
        position_room = np.int64(sweep_view.position_group[group + 1]) - np.int64(sweep_view.position_group[group])
        balance_room = np.int64(sweep_view.balance_group[group + 1]) - np.int64(sweep_view.balance_group[group])
        extra_rows = 0
        for j in balances:
            extra_rows += extra_positions(j, account, state, extra)
        extra_room = np.int64(sweep_view.extra_group[group + 1]) - np.int64(sweep_view.extra_group[group])
        has_room = len(positions) <= position_room and len(balances) <= balance_room and extra_rows <= extra_room
        fits = has_room
        if not has_room:  # it got more rows since the group was laid out: nothing of it is in the lane
            _clear_lane(group, lane, sweep_view)
            positions, balances = range(0), range(0)
        for i in positions:
            fits = fits and abs(state.lots[i]) <= _INT32_MAX
        for j in balances:
            if not extra_positions(j, account, state, extra):
                fits = fits and (state.free[j] >= 0 or state.lent[j] == 0)
                fits = fits and not (extra[state.asset[j]] and state.unsettled[j])
        row = LANES * np.int64(sweep_view.position_group[group]) + lane
        for i in positions:
            m = state.market[i]
            sweep_view.market[row] = m
            sweep_view.lots[row] = (-state.lots[i] if inverse[m] else state.lots[i]) if fits else 0
            row += LANES
        row = LANES * np.int64(sweep_view.balance_group[group]) + lane
        for j in balances:
            quanta = state.free[j] + state.lent[j]
            if extra_positions(j, account, state, extra):
                quanta = min(state.free[j], 0)
            sweep_view.asset[row] = state.asset[j]
            sweep_view.balance[row] = float(quanta) if fits else 0.0
            row += LANES
        settle = state.settle_row[account]
        sweep_view.cash_minus_cost[slots[n]] = (
            float(state.unsettled[settle] - state.balance_cost[settle]) if fits else 0.0
        )
        row = LANES * np.int64(sweep_view.extra_group[group]) + lane
        for j in balances:
            if extra_positions(j, account, state, extra):
                for i in positions:
                    if state.position_balance[i] == j:
                        m = state.market[i]
                        sweep_view.extra_market[row] = m
                        sweep_view.extra_lots[row] = (-state.lots[i] if inverse[m] else state.lots[i]) if fits else 0
                        sweep_view.extra_asset[row], sweep_view.extra_quanta[row] = extra.size, 0.0
                        row += LANES
                quanta = max(state.free[j], 0) + state.lent[j] + state.unsettled[j] - state.balance_cost[j]
                sweep_view.extra_asset[row - LANES] = state.asset[j]
                sweep_view.extra_quanta[row - LANES] = float(quanta) if fits else 0.0
        bit = np.uint8(1 << lane)
        for flags, is_set in (
            (sweep_view.has_orders, state.open_orders[account] > 0),
            (sweep_view.has_leverage_limit, state.leverage_fraction[account] > 0.0),
            (sweep_view.overflow, not fits),
        ):
            flags[group] = flags[group] | bit if is_set else flags[group] & ~bit


@kernel
def list_holders(row_offset, index, start, slots):
    """List the slots that hold each of the requested markets or assets, ascending.

    row_offset  uint32        (R+1,)  first row of each group
    index       uint8|uint16  (8R,)   market or asset row
    start       int64         (N+1,)  in/out, where the slots of each begin, -1: not requested; then where they end
    slots       uint32        (S,)    out
    """
    for group in range(row_offset.size - 1):
        for row in range(LANES * np.int64(row_offset[group]), LANES * np.int64(row_offset[group + 1])):
            position = start[index[row]]
            if position >= 0:
                slots[position] = LANES * group + row % LANES
                start[index[row]] = position + 1
