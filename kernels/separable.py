"""The separable margin model: each position and each borrow has a margin function of its own notional."""

from __future__ import annotations

import numpy as np

from . import margin
from ._jit import implement, inner_kernel
from .layouts import PriceArrays
from .margin import collateral_weight
from .margin_function import margin_requirement, marginal_requirement
from .margin_model import (
    FillEffect,
    account_margin,
    closing_flow,
    fill_effect,
    position_requirement,
    restoring_lots,
    restoring_lots_by_bisection,
)


@inner_kernel
def own_requirement(account, p, state, prices):
    """Maintenance margin of a position.

    account  int64           ()  0 <= account < A
    p        int64           ()  0 <= p < P
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    """
    m = np.int64(state.market[p])
    return margin_requirement(abs(state.lots[p]) * prices.price_per_lot[m], 2 * m + 1, prices.functions)


@inner_kernel
def balance_margin(k, balance, lent, prices):
    """Net equity and maintenance margin of a settle balance, settle quanta.

    k        int64        ()  row of the settle asset
    balance  float64      ()  settle quanta, negative: a borrow
    lent     int64        ()  settle quanta
    prices   PriceArrays  ()  see layouts.py
    """
    collateral = max(balance, 0.0) + lent
    weight = collateral_weight(
        collateral * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
    )
    if balance >= 0.0:
        return collateral * weight, 0.0
    margin_function = 2 * (prices.price_per_lot.size + k) + 1
    return collateral * weight + balance, margin_requirement(-balance, margin_function, prices.functions)


@inner_kernel
def money_margin(k, balance, lent, profit, prices):
    """Net equity and maintenance margin in another money asset than the venue's, settle quanta.

    k        int64        ()  asset row
    balance  float64      ()  quanta, negative: a borrow
    lent     int64        ()  quanta
    profit   float64      ()  quanta of profit and loss and of what is unsettled
    prices   PriceArrays  ()  see layouts.py
    """
    price = prices.price_per_quantum[k]
    total = max(balance, 0.0) + lent + profit
    equity = total * price
    if total > 0.0:
        equity *= collateral_weight(
            total * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
        )
    if balance >= 0.0:
        return equity, 0.0
    owed = -balance * price
    return equity - owed, margin_requirement(owed, 2 * (prices.price_per_lot.size + k) + 1, prices.functions)


@inner_kernel
def profit_in(account, row, state, prices):
    """Profit and loss of the positions that settle in a balance row, and what is unsettled in it, quanta.

    account  int64           ()  0 <= account < A
    row      int64           ()  balance row of the account
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    """
    value = 0.0
    for i in range(state.position_span[account, 0], state.position_span[account, 1]):
        if state.position_balance[i] == row:
            value += state.lots[i] * prices.value_per_lot[state.market[i]]
    return value + float(state.unsettled[row] - state.balance_cost[row])


@inner_kernel
def balance_after(p, lots, value, fee, state, prices):
    """Free balance of a position's settle asset after lots are closed and their cost is released, quanta.

    p       int64           ()  position row
    lots    int64           ()  closed, > 0
    value   float64         ()  quanta they are closed for, without sign
    fee     float64         ()  part of the value
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays     ()  see layouts.py
    """
    held = state.lots[p]
    flow = closing_flow(held, value, prices.value_per_lot[state.market[p]])
    return state.free[state.position_balance[p]] + (flow - fee * value - state.cost[p] * (lots / abs(held)))


@inner_kernel
def counts_in_full(p, lots, value, fee, state, prices):
    """Whether the settle balance counts in full, and is no borrow, before lots of a position are closed and after.

    The balance is concave in the lots: then it counts in full for any smaller number of lots too. In another money
    asset than the venue's, and for inverse contracts, the answer is no.

    p       int64           ()  position row
    lots    int64           ()  closed, > 0
    value   float64         ()  quanta they are closed for
    fee     float64         ()  part of the value
    state   AccountColumns  ()  see layouts.py
    prices  PriceArrays     ()  see layouts.py
    """
    row, m = state.position_balance[p], np.int64(state.market[p])
    k = np.int64(state.asset[row])
    return (
        prices.weight[k] == 1.0
        and prices.haircut_penalty[k] == 0.0
        and prices.haircut_base[k] >= 1.0
        and k == prices.money[0]
        and prices.value_per_lot[m] > 0.0
        and state.free[row] >= 0
        and balance_after(p, lots, value, fee, state, prices) >= 0.0
    )


@inner_kernel
def effect_of_fill(account, p, lots, value, fee, state, prices):
    """Effect of closing lots on the position and the balance of its settle asset.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    lots     int64           ()  closed, > 0, no more than the position has
    value    float64         ()  quanta of the settle asset they are closed for, without sign
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    """
    m, held = np.int64(state.market[p]), state.lots[p]
    size, price, functions = abs(held), prices.price_per_lot[m], prices.functions
    relief = margin_requirement(size * price, 2 * m + 1, functions)
    relief -= margin_requirement((size - lots) * price, 2 * m + 1, functions)
    row = np.int64(state.position_balance[p])
    k, balance, lent = np.int64(state.asset[row]), state.free[row], state.lent[row]
    settles_in_venue, inverse = k == prices.money[0], prices.value_per_lot[m] < 0.0
    if settles_in_venue and not inverse:
        loss = (lots * price - value if held > 0 else value - lots * price) + fee * value
        if not counts_in_full(p, lots, value, fee, state, prices):
            after = balance_after(p, lots, value, fee, state, prices)
            equity, maintenance = balance_margin(k, float(balance), lent, prices)
            equity_after, maintenance_after = balance_margin(k, after, lent, prices)
            # the amount that moves from the position to the balance counts with the weight of the balance
            loss += (after - balance) - (equity_after - equity)
            relief -= maintenance_after - maintenance
        return FillEffect(loss=loss, relief=relief)
    after = balance_after(p, lots, value, fee, state, prices)
    lot_value = prices.value_per_lot[m]
    # what profit and loss, apart from the flow, loses: the value of the lots less their cost
    gone = (lots * lot_value if held > 0 else -(lots * lot_value)) - state.cost[p] * (lots / size)
    if settles_in_venue:
        equity, maintenance = balance_margin(k, float(balance), lent, prices)
        equity_after, maintenance_after = balance_margin(k, after, lent, prices)
        return FillEffect(loss=equity - equity_after + gone, relief=relief - (maintenance_after - maintenance))
    profit = profit_in(account, row, state, prices)
    equity, maintenance = money_margin(k, float(balance), lent, profit, prices)
    equity_after, maintenance_after = money_margin(k, after, lent, profit - gone, prices)
    return FillEffect(loss=equity - equity_after, relief=relief - (maintenance_after - maintenance))


@inner_kernel
def restoring_lots_by_tangents(account, p, limit, surplus, fee, state, rules, prices, book):
    """Restoring lots where the settle balance counts in full.

    The surplus is concave in lots: a price gets worse from level to level, and the requirement of the remaining lots
    falls ever more slowly. So its tangent shows at once when no size is enough, and Newton's method approaches the root
    from below.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    limit    int64           ()  lots that a quote of this side fills, <= size
    surplus  float64         ()  settle quanta before, <= 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    rules    SliceRules      ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    book     BookColumns     ()  see layouts.py
    """
    m, held, target = np.int64(state.market[p]), state.lots[p], rules.target
    side, size = 2 * m if held > 0 else 2 * m + 1, abs(held)
    price, unit, margin_function = prices.price_per_lot[m], rules.value_unit[m], 2 * m + 1
    # change of the surplus per lot and per value: a sale loses the lot and gets the value, a purchase the opposite
    per_lot, per_value = -target * price, target * (1.0 - fee)
    if held < 0:
        per_lot, per_value = target * price, -target * (1.0 + fee)
    level, taken = book.cursor[side], book.taken[side]
    ticks = book.price[level]
    base = surplus + margin_requirement(size * price, margin_function, prices.functions)
    slope = (
        per_lot
        + per_value * ticks * unit
        + marginal_requirement(size * price, margin_function, prices.functions) * price
    )
    low, value, surplus_low = 0, 0, surplus
    surplus_after, high = surplus, 0
    while low < limit and surplus + limit * slope > 0.0:
        ticks = book.price[level]
        high = min(low + book.lots[level] - taken, limit)
        surplus_after = base + per_lot * high + per_value * ((value + (high - low) * ticks) * unit)
        surplus_after -= margin_requirement((size - high) * price, margin_function, prices.functions)
        if surplus_after > 0.0:
            break
        value += (high - low) * ticks
        low, surplus_low = high, surplus_after
        level, taken = level + 1, 0
    if not surplus_after > 0.0:
        return 0, 0
    newton_steps = 4
    while high - low > 1:
        step = (high - low) // 2
        if newton_steps > 0:
            newton_steps -= 1
            slope = per_lot + per_value * ticks * unit
            slope += marginal_requirement((size - low) * price, margin_function, prices.functions) * price
            if slope > 0.0 and -surplus_low < slope * (high - low):
                step = min(max(int(-surplus_low / slope), 1), high - low - 1)
        for _ in range(2):
            surplus_after = base + per_lot * (low + step) + per_value * ((value + step * ticks) * unit)
            surplus_after -= margin_requirement((size - low - step) * price, margin_function, prices.functions)
            if surplus_after > 0.0:
                high = low + step
                break
            low, value, surplus_low = low + step, value + step * ticks, surplus_after
            # Newton's method ends next to the root: one more lot decides
            step = 1
            if high - low <= 1:
                break
    return high, value + (high - low) * ticks


@inner_kernel
def fewest_restoring_lots(account, p, limit, value, surplus, fee, state, rules, prices, book):
    """Restoring lots of the separable model.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    limit    int64           ()  lots that a quote of this side fills, > 0, no more than the position has
    value    float64         ()  settle quanta that they are filled for
    surplus  float64         ()  settle quanta before, <= 0
    fee      float64         ()  part of the value
    state    AccountColumns  ()  see layouts.py
    rules    SliceRules      ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    book     BookColumns     ()  see layouts.py
    """
    # by the whole fee, even where part of it is waived: with less the balance is larger
    if counts_in_full(p, limit, value, rules.fee_num / rules.fee_den, state, prices):
        return restoring_lots_by_tangents(account, p, limit, surplus, fee, state, rules, prices, book)
    return restoring_lots_by_bisection(account, p, limit, value, surplus, fee, state, rules, prices, book)


implement(
    PriceArrays,
    {
        account_margin: margin.account_margin,
        position_requirement: own_requirement,
        fill_effect: effect_of_fill,
        restoring_lots: fewest_restoring_lots,
    },
)
