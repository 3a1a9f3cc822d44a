"""Marks at which an account would be liquidated, and the largest orders that its margin allows."""

from math import nan

import numpy as np

from ._jit import inner_kernel, kernel
from .margin import account_margin, collateral_weight, worst_case_lots
from .margin_function import margin_requirement, marginal_requirement, outgrowing_notional, unbounded_requirement
from .margin_model import account_margin as margin_by_model
from .separable import profit_in

_LEAST, _MOST = 1e-12, 1e12  # parts of the present notional between which a root is sought by bisection
_MAX_STEPS = 100  # of Newton's method; seven are common, more near a double root
_MAX_LOTS = 1 << 53


@inner_kernel
def surplus_root(side, other, start, function, functions):
    """Notional at which ``other + side * notional`` equals the requirement, by Newton's method; NaN if it has none.

    The surplus, their difference, is concave: from a start where it is not positive no step passes the root, and on
    brackets the last step ends on it.

    side       float64               ()  +1 long, -1 short
    other      float64               ()  settle quanta
    start      float64               ()  settle quanta, > 0, where the surplus is not positive, on the root's far side
    function   int64                 ()  of the maintenance margin, 0 <= function < N
    functions  MarginFunctionArrays  ()  see layouts.py
    """
    notional = start
    direction = 0.0
    for _ in range(_MAX_STEPS):
        surplus = other + side * notional - margin_requirement(notional, function, functions)
        slope = side - marginal_requirement(notional, function, functions)
        if slope == 0.0 or (direction != 0.0 and slope * direction < 0.0):
            # past the maximum of the surplus, which is negative
            return nan if surplus < 0.0 else notional
        next_notional = notional - surplus / slope
        if direction == 0.0:
            direction = 1.0 if slope > 0.0 else -1.0
        if direction * (next_notional - notional) <= 0.0:
            break
        notional = next_notional
    return notional


@inner_kernel
def liquidation_notional(side, other, present, highest, function, fraction, functions):
    """Notional of a position at which the account's net equity equals its maintenance margin, NaN if there is none.

    A short position has at most one, and is liquidated above it. A long position has up to two, and is liquidated below
    the lower and above the upper: the lower is returned, or the upper where there is no lower or where the present
    notional is above the upper.

    side       float64               ()  +1 long, -1 short
    other      float64               ()  settle quanta, equity less the position's value less other maintenance margin
    present    float64               ()  settle quanta, the present notional
    highest    float64               ()  settle quanta, the notional at the highest mark, for an upper price
    function   int64                 ()  of the maintenance margin, 0 <= function < N
    fraction   float64               ()  maintenance margin fraction at every price, NaN: by the function
    functions  MarginFunctionArrays  ()  see layouts.py
    """
    base, outgrown = functions.flat_rate[function], outgrowing_notional(function, functions)
    if fraction == fraction:
        base, outgrown = fraction, np.inf
    minimum = functions.minimum[function]
    if side < 0.0:
        if other <= minimum:
            return nan
        notional = min(other / (1.0 + base), other - minimum)
        return notional if fraction == fraction else surplus_root(side, other, notional, function, functions)
    lower = nan
    if other < minimum:
        if base >= 1.0:
            return nan
        lower = max(-other / (1.0 - base), minimum - other)
        if fraction == fraction:
            return lower
        lower = surplus_root(side, other, lower, function, functions)
        if not lower < present or present + other >= margin_requirement(present, function, functions):
            return lower
    # a rate alone is at most 1: only a slope or a root outgrows the equity that a rising mark brings
    upper = nan
    if outgrown < np.inf:
        upper = surplus_root(side, other, max(outgrown, other), function, functions)
    elif base > 1.0 and other > 0.0:
        upper = other / (base - 1.0)
    return upper if upper <= highest else lower


@inner_kernel
def surplus_in_money(notional, side, rest, quanta, k, function, fraction, prices):
    """Net equity less maintenance margin where a position of a notional settles in another asset than the venue's.

    notional  float64      ()  settle quanta, > 0
    side      float64      ()  +1 if its value is positive, else -1
    rest      float64      ()  settle quanta, all that the notional does not change
    quanta    float64      ()  of the asset: balance, unsettled amount and profit and loss without the position's value
    k         int64        ()  asset row
    function  int64        ()  of the maintenance margin
    fraction  float64      ()  maintenance margin fraction at every price, NaN: by the function
    prices    PriceArrays  ()  see layouts.py
    """
    price = prices.price_per_quantum[k]
    total = quanta + side * notional / price
    equity = total * price
    if total > 0.0:
        equity *= collateral_weight(
            total * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
        )
    if fraction == fraction:
        return rest + equity - notional * fraction
    return rest + equity - margin_requirement(notional, function, prices.functions)


@inner_kernel
def root_in_money(positive, other, side, rest, quanta, k, function, fraction, prices):
    """Notional between two at which the surplus changes its sign, by bisection; NaN if it does not.

    positive  float64      ()  settle quanta, > 0, where the surplus is positive
    other     float64      ()  settle quanta, > 0
    side      float64      ()  as of `surplus_in_money`
    rest      float64      ()  settle quanta
    quanta    float64      ()  of the asset
    k         int64        ()  asset row
    function  int64        ()  of the maintenance margin
    fraction  float64      ()  maintenance margin fraction at every price, NaN: by the function
    prices    PriceArrays  ()  see layouts.py
    """
    if surplus_in_money(other, side, rest, quanta, k, function, fraction, prices) > 0.0:
        return nan
    for _ in range(_MAX_STEPS):
        middle = np.sqrt(positive * other)
        if surplus_in_money(middle, side, rest, quanta, k, function, fraction, prices) > 0.0:
            positive = middle
        else:
            other = middle
    return other


@inner_kernel
def liquidation_notional_in_money(side, present, highest, rest, quanta, k, function, fraction, prices):
    """Notional of `liquidation_notional` where the weight of the position's settle asset depends on its size.

    The surplus is concave: it is positive between two roots, or nowhere.

    side      float64      ()  as of `surplus_in_money`
    present   float64      ()  settle quanta, the present notional
    highest   float64      ()  settle quanta, the largest notional, for an upper root
    rest      float64      ()  settle quanta
    quanta    float64      ()  of the asset
    k         int64        ()  asset row
    function  int64        ()  of the maintenance margin
    fraction  float64      ()  maintenance margin fraction at every price, NaN: by the function
    prices    PriceArrays  ()  see layouts.py
    """
    least, most = present * _LEAST, present * _MOST
    if side > 0.0:
        most = min(most, highest)
    inside, low, high = present, least, most
    for _ in range(_MAX_STEPS):
        if surplus_in_money(inside, side, rest, quanta, k, function, fraction, prices) > 0.0:
            break
        left, right = low ** (2.0 / 3.0) * high ** (1.0 / 3.0), low ** (1.0 / 3.0) * high ** (2.0 / 3.0)
        at_left = surplus_in_money(left, side, rest, quanta, k, function, fraction, prices)
        at_right = surplus_in_money(right, side, rest, quanta, k, function, fraction, prices)
        inside = left if at_left > at_right else right
        if at_left > at_right:
            high = right
        else:
            low = left
    if not surplus_in_money(inside, side, rest, quanta, k, function, fraction, prices) > 0.0:
        return nan
    upper = root_in_money(inside, most, side, rest, quanta, k, function, fraction, prices)
    if side < 0.0:
        return upper
    lower = root_in_money(inside, least, side, rest, quanta, k, function, fraction, prices)
    return upper if np.isnan(lower) or present > upper else lower


@inner_kernel
def liquidation_mark(account, i, sums, state, prices, by_quantity, highest):
    """Mark of a position at which the MMR of its account reaches 1, all else equal, in units of the present mark.

    NaN if there is none. The notional of a linear contract grows with the mark, that of an inverse one shrinks.

    account      int64           ()    0 <= account < A
    i            int64           ()    position row of the account
    sums         MarginSums      ()    margin of the account
    state        AccountColumns  ()    see layouts.py
    prices       PriceArrays     ()    see layouts.py
    by_quantity  bool            (N,)  the function's size is the quantity: its fraction does not move with the mark
    highest      float64         ()    largest notional that a mark can give, in units of the present one
    """
    lots = state.lots[i]
    if lots == 0:
        return nan
    m = np.int64(state.market[i])
    notional = abs(lots) * prices.price_per_lot[m]
    required = margin_requirement(notional, 2 * m + 1, prices.functions)
    side = 1.0 if (lots > 0) == (prices.value_per_lot[m] > 0.0) else -1.0
    inverse, row = prices.value_per_lot[m] < 0.0, np.int64(state.position_balance[i])
    k = np.int64(state.asset[row])
    price = prices.price_per_quantum[k]
    in_full = prices.weight[k] == 1.0 and (prices.haircut_penalty[k] == 0.0 and prices.haircut_base[k] >= 1.0)
    other = (sums.equity - side * notional) - (sums.maintenance - required)
    fraction = nan
    if by_quantity[2 * m + 1] and not inverse:
        segment = prices.functions.offset[2 * m + 1]
        fraction = unbounded_requirement(notional, segment, prices.functions) / notional
    if k == prices.money[0] or in_full:
        result = liquidation_notional(side, other, notional, notional * highest, 2 * m + 1, fraction, prices.functions)
    else:
        quanta = max(float(state.free[row]), 0.0) + state.lent[row] + profit_in(account, row, state, prices)
        quanta -= side * notional / price
        own = surplus_in_money(notional, side, 0.0, quanta, k, 2 * m + 1, fraction, prices)
        rest = sums.equity - sums.maintenance - own
        result = liquidation_notional_in_money(
            side, notional, notional * highest, rest, quanta, k, 2 * m + 1, fraction, prices
        )
    if result > 0.0:
        return notional / result if inverse else result / notional
    return nan


@kernel
def liquidation_marks(first, last, state, prices, by_quantity, highest, mark):
    """Mark of each position at which the MMR of its account reaches 1, all else equal, for a range of accounts.

    first        int64           ()    0 <= first
    last         int64           ()    first <= last <= A
    state        AccountColumns  ()    see layouts.py
    prices       PriceArrays     ()    see layouts.py
    by_quantity  bool            (N,)  as of `liquidation_mark`
    highest      float64         (M,)  largest notional that a mark can give, in units of the present one
    mark         float64         (P,)  out, in units of the present mark, NaN if there is none
    """
    for a in range(first, last):
        sums = account_margin(a, state, prices)
        for i in range(state.position_span[a, 0], state.position_span[a, 1]):
            mark[i] = liquidation_mark(a, i, sums, state, prices, by_quantity, highest[np.int64(state.market[i])])


@inner_kernel
def order_room(lots, bid, ask, side, leverage_fraction, room, exposure_room, market, prices):
    """Largest order of one side, in lots, with which an account's initial margin stays under its net equity.

    lots               int64        ()  signed position
    bid                int64        ()  lots of resting bids
    ask                int64        ()  lots of resting asks
    side               int64        ()  +1 a bid, -1 an ask
    leverage_fraction  float64      ()  1 / leverage limit, 0 without one
    room               float64      ()  settle quanta that the market's initial margin must stay under
    exposure_room      float64      ()  settle quanta that its exposure must stay under, +inf without a limit
    market             int64        ()  0 <= market < M
    prices             PriceArrays  ()  see layouts.py
    """
    price = prices.price_per_lot[market]
    low, high = np.int64(-1), np.int64(_MAX_LOTS)
    while high - low > 1:
        size = low + (high - low) // 2
        more_bid = bid + size if side > 0 else bid
        more_ask = ask + size if side < 0 else ask
        notional = worst_case_lots(lots, more_bid, more_ask) * price
        needed = max(margin_requirement(notional, 2 * market, prices.functions), notional * leverage_fraction)
        if needed < room and notional < exposure_room:
            low = size
        else:
            high = size
    return max(low, 0)


@kernel
def largest_orders(accounts, market, state, prices, lots):
    """Largest bid and ask in one market with which each account's IMR stays under 1.

    accounts  int64           (N,)    0 <= account < A
    market    int64           ()      0 <= market < M
    state     AccountColumns  ()      see layouts.py
    prices    PriceArrays     ()      see layouts.py
    lots      int64           (N, 2)  out, bid and ask, 0 if none
    """
    for n in range(accounts.size):
        a = accounts[n]
        sums = account_margin(a, state, prices)
        leverage_fraction = state.leverage_fraction[a]
        position, bid, ask = np.int64(0), np.int64(0), np.int64(0)
        exposure = sums.exposure
        required = 0.0
        for i in range(state.position_span[a, 0], state.position_span[a, 1]):
            m = np.int64(state.market[i])
            notional = worst_case_lots(state.lots[i], state.open_bid[i], state.open_ask[i]) * prices.price_per_lot[m]
            if m == market:
                position, bid, ask = state.lots[i], state.open_bid[i], state.open_ask[i]
                exposure -= notional
            else:
                required += max(margin_requirement(notional, 2 * m, prices.functions), notional * leverage_fraction)
        required += borrow_margin(a, state, prices)
        room = sums.equity - required
        exposure_room = sums.equity / leverage_fraction - exposure if leverage_fraction > 0.0 else np.inf
        for c in range(2):
            side = 1 - 2 * c
            lots[n, c] = order_room(position, bid, ask, side, leverage_fraction, room, exposure_room, market, prices)


@kernel
def largest_orders_by_trial(accounts, rows, state, prices, lots):
    """Largest bid and ask of `largest_orders` for any margin model: the orders are placed, and taken back.

    accounts  int64           (N,)    0 <= account < A
    rows      int64           (N,)    position row of the account in the market
    state     AccountColumns  ()      see layouts.py; the same after the call
    prices    PriceArrays     ()      see layouts.py, or the class of another model
    lots      int64           (N, 2)  out, bid and ask, 0 if none
    """
    for n in range(accounts.size):
        a, p = accounts[n], rows[n]
        bid, ask, orders = state.open_bid[p], state.open_ask[p], state.open_orders[a]
        for c in range(2):
            low, high = np.int64(-1), np.int64(_MAX_LOTS)
            while high - low > 1:
                size = low + (high - low) // 2
                state.open_bid[p], state.open_ask[p] = (bid + size, ask) if c == 0 else (bid, ask + size)
                state.open_orders[a] = max(orders, 1)
                sums = margin_by_model(a, state, prices)
                if sums.initial < sums.equity:
                    low = size
                else:
                    high = size
            lots[n, c] = max(low, 0)
            state.open_bid[p], state.open_ask[p], state.open_orders[a] = bid, ask, orders


@inner_kernel
def borrow_margin(account, state, prices):
    """Initial margin of an account's borrows, settle quanta.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    """
    required = 0.0
    markets = prices.price_per_lot.size
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        if state.free[j] < 0:
            k = np.int64(state.asset[j])
            required += margin_requirement(
                -state.free[j] * prices.price_per_quantum[k], 2 * (markets + k), prices.functions
            )
    return required
