"""What kernels ask of a margin model: functions that the class of the folded prices chooses.

A margin model folds the prices of a tick into a named tuple of its own. Its class must have these fields, by the rows
of `PriceArrays`: price_per_lot, value_per_lot, price_per_quantum, settle_quantum, acmf_divisor and acmf_offset.
Kernels that take such a tuple as ``prices`` compute margins by the functions here alone. `implement` in _jit.py names
the implementations of a class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel, model_kernel
from .books import inverse_level
from .integer_math import cost_change
from .margin import account_status


class FillEffect(NamedTuple):
    """Net equity that filling lots costs an account, and maintenance margin that it releases, settle quanta."""

    loss: float
    relief: float


@kernel
def closing_flow(held, value, value_per_lot):
    """Money that an account receives for closing lots of a position; for an inverse contract the sign is opposite.

    held           int64          ()  signed lots of the position before, not 0
    value          int64|float64  ()  value of the lots closed without its sign, quanta of the market's settle asset
    value_per_lot  float64        ()  signed value of a lot at the mark
    """
    return value if (held > 0) == (value_per_lot > 0.0) else -value


@model_kernel
def account_margin(account, state, prices):
    """Margin of an account, a `MarginSums`; the equity is concave and the margins convex in the lots of each position.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    """


@model_kernel
def position_requirement(account, p, state, prices):
    """Part of a position in the maintenance margin of its account, settle quanta.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    """


@model_kernel
def fill_effect(account, p, lots, value, fee, state, prices):
    """Effect of closing lots of a position on the margin of its account, a `FillEffect`.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    lots     int64           ()  filled, > 0, no more than the position has
    value    float64         ()  quanta of the market's settle asset they are filled for, without sign, > 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    """


@model_kernel
def restoring_lots(account, p, limit, value, surplus, fee, state, rules, prices, book):
    """Fewest lots whose fill makes the surplus positive, and their lots times ticks; 0 and 0 if ``limit`` lots do not.

    The surplus is target times net equity less maintenance margin, a part of it with the order pro_rata.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    limit    int64           ()  lots that a quote of this side fills, > 0, no more than the position has
    value    float64         ()  quanta of the market's settle asset that they are filled for, without sign
    surplus  float64         ()  settle quanta before, <= 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    rules    SliceRules      ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    book     BookColumns     ()  see layouts.py
    """


@inner_kernel
def effect_of_trial(account, p, lots, value, fee, state, prices):
    """Effect of closing lots: the fill is booked, the margin computed anew, and the fill taken back.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    lots     int64           ()  filled, > 0, no more than the position has
    value    float64         ()  quanta of the market's settle asset they are filled for, without sign, > 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py; the same after the call
    prices   PriceArrays     ()  or the class of another model
    """
    before = account_margin(account, state, prices)
    held, cost, row = state.lots[p], state.cost[p], np.int64(state.position_balance[p])
    balance_cost, free = state.balance_cost[row], state.free[row]
    amount, charged = np.int64(np.rint(value)), np.int64(np.rint(fee * value))
    change, flow = -lots if held > 0 else lots, closing_flow(held, amount, prices.value_per_lot[state.market[p]])
    released = cost_change(held, cost, change, flow)
    state.lots[p] += change
    state.cost[p] += released
    state.balance_cost[row] += released
    state.free[row] += flow + released - charged
    after = account_margin(account, state, prices)
    state.lots[p], state.cost[p], state.balance_cost[row], state.free[row] = held, cost, balance_cost, free
    return FillEffect(loss=before.equity - after.equity, relief=before.maintenance - after.maintenance)


@inner_kernel
def restoring_lots_by_bisection(account, p, limit, value, surplus, fee, state, rules, prices, book):
    """Restoring lots of any model, level by level, then by bisection inside the first level whose end restores.

    The surplus is concave in lots: a price gets worse from level to level, and `account_margin` states the rest. Below
    zero at first, it has no second change of sign before its largest value.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    limit    int64           ()  lots that a quote of this side fills, > 0, no more than the position has
    value    float64         ()  quanta of the market's settle asset that they are filled for, without sign
    surplus  float64         ()  settle quanta before, <= 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    rules    SliceRules      ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    book     BookColumns     ()  see layouts.py
    """
    m = np.int64(state.market[p])
    side, num, den = 2 * m if state.lots[p] > 0 else 2 * m + 1, rules.value_num[m], rules.value_den[m]
    inverse = prices.value_per_lot[m] < 0.0
    unit = 1.0 if inverse else rules.value_unit[m]
    level, taken = book.cursor[side], book.taken[side]
    # lots times ticks of the levels before, or their quanta of an inverse contract, whose levels are rounded one by one
    start, sum_before, lots_ticks, high, ticks = 0, 0, 0, 0, 0
    restored = False
    while start < limit:
        ticks = book.price[level]
        high = min(start + book.lots[level] - taken, limit)
        worth = inverse_level(high - start, ticks, num, den) if inverse else (high - start) * ticks
        loss, relief = fill_effect(account, p, high, (sum_before + worth) * unit, fee, state, prices)
        restored = surplus - rules.target * loss + relief > 0.0
        if restored:
            break
        sum_before += worth
        lots_ticks += (high - start) * ticks
        start, level, taken = high, level + 1, 0
    if not restored:
        return 0, 0
    low = start
    while high - low > 1:
        middle = low + (high - low) // 2
        worth = inverse_level(middle - start, ticks, num, den) if inverse else (middle - start) * ticks
        loss, relief = fill_effect(account, p, middle, (sum_before + worth) * unit, fee, state, prices)
        if surplus - rules.target * loss + relief > 0.0:
            high = middle
        else:
            low = middle
    return high, lots_ticks + (high - start) * ticks


@kernel
def account_statuses(accounts, state, prices, status):
    """Status of each of the listed accounts.

    accounts  int64           (N,)  0 <= account < A
    state     AccountColumns  ()    see layouts.py
    prices    PriceArrays     ()    or the class of another model
    status    uint8           (N,)  out, SAFE | LIQUIDATING | BELOW_AUTO_CLOSE | DOUBT
    """
    for n in range(accounts.size):
        sums = account_margin(accounts[n], state, prices)
        status[n] = account_status(
            sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
        )


@kernel
def account_margins(accounts, state, prices, equity, exposure, initial, maintenance, status):
    """Margin of each of the listed accounts.

    accounts     int64           (N,)  0 <= account < A
    state        AccountColumns  ()    see layouts.py
    prices       PriceArrays     ()    or the class of another model
    equity       float64         (N,)  out, settle units
    exposure     float64         (N,)  out, settle units
    initial      float64         (N,)  out, settle units
    maintenance  float64         (N,)  out, settle units
    status       uint8           (N,)  out, SAFE | LIQUIDATING | BELOW_AUTO_CLOSE | DOUBT
    """
    quanta_per_unit = 1.0 / prices.settle_quantum
    for n in range(accounts.size):
        sums = account_margin(accounts[n], state, prices)
        status[n] = account_status(
            sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
        )
        equity[n] = sums.equity / quanta_per_unit
        exposure[n] = sums.exposure / quanta_per_unit
        initial[n] = sums.initial / quanta_per_unit
        maintenance[n] = sums.maintenance / quanta_per_unit


@kernel
def position_requirements(accounts, rows, state, prices, requirement):
    """Part of each of the listed positions in the maintenance margin of its account.

    accounts     int64           (N,)  account of each row
    rows         int64           (N,)  0 <= row < P
    state        AccountColumns  ()    see layouts.py
    prices       PriceArrays     ()    or the class of another model
    requirement  float64         (N,)  out, settle units
    """
    quanta_per_unit = 1.0 / prices.settle_quantum
    for n in range(rows.size):
        requirement[n] = position_requirement(accounts[n], rows[n], state, prices) / quanta_per_unit
