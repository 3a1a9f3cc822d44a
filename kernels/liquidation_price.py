"""Marks at which an account would be liquidated, and the largest orders that its margin allows."""

from math import nan

import numpy as np

from ._jit import inner_kernel, kernel
from .margin import account_margin, worst_case_lots
from .margin_function import margin_requirement, marginal_requirement, outgrowing_notional, unbounded_requirement

_STEPS = 100  # of Newton's method; seven are common, more near a double root
_MOST_LOTS = 1 << 53


@inner_kernel
def surplus_root(side, rest, start, function, functions):
    """Notional at which ``rest + side * notional`` equals the requirement, by Newton's method; NaN if it has none.

    The surplus between the two is concave, so from a start where it is not positive no step goes past the root, and on
    brackets the last step ends on it.

    side    float64       ()  +1 long, -1 short
    rest    float64       ()  settle quanta
    start   float64       ()  settle quanta, > 0, where the surplus is not positive, on the root's far side
    function   int64                 ()  of the maintenance margin, 0 <= function < N
    functions  MarginFunctionArrays  ()  see margin_function.py
    """
    notional = start
    direction = 0.0
    for _ in range(_STEPS):
        surplus = rest + side * notional - margin_requirement(notional, function, functions)
        slope = side - marginal_requirement(notional, function, functions)
        if slope == 0.0 or (direction != 0.0 and slope * direction < 0.0):
            # past the top of the surplus, which stays under zero
            return nan if surplus < 0.0 else notional
        following = notional - surplus / slope
        if direction == 0.0:
            direction = 1.0 if slope > 0.0 else -1.0
        if direction * (following - notional) <= 0.0:
            break
        notional = following
    return notional


@inner_kernel
def liquidation_notional(side, rest, held, most, function, fraction, functions):
    """Notional of a position at which the account's net equity equals its maintenance margin, NaN if there is none.

    A short position has at most one, above which it is liquidated. A long one has up to two, below and above which it
    is: the lower, or the upper where there is no lower or the position is beyond the upper now.

    side      float64       ()  +1 long, -1 short
    rest      float64       ()  settle quanta, equity less the position's worth and less the other maintenance margin
    held      float64       ()  settle quanta, the present notional
    most      float64       ()  settle quanta, the notional at the highest mark: an upper price may not be past it
    function   int64                 ()  of the maintenance margin, 0 <= function < N
    fraction  float64       ()  maintenance margin fraction whatever the price, NaN: the margin function's
    functions  MarginFunctionArrays  ()  see margin_function.py
    """
    base, outgrown = functions.flat_rate[function], outgrowing_notional(function, functions)
    if fraction == fraction:
        base, outgrown = fraction, np.inf
    minimum = functions.minimum[function]
    if side < 0.0:
        if rest <= minimum:
            return nan
        notional = min(rest / (1.0 + base), rest - minimum)
        return notional if fraction == fraction else surplus_root(side, rest, notional, function, functions)
    lower = nan
    if rest < minimum:
        if base >= 1.0:
            return nan
        lower = max(-rest / (1.0 - base), minimum - rest)
        if fraction == fraction:
            return lower
        lower = surplus_root(side, rest, lower, function, functions)
        if not lower < held or held + rest >= margin_requirement(held, function, functions):
            return lower
    # a rate alone is at most 1: only a slope or a root outgrows the equity that a rising mark brings
    upper = nan
    if outgrown < np.inf:
        upper = surplus_root(side, rest, max(outgrown, rest), function, functions)
    elif base > 1.0 and rest > 0.0:
        upper = rest / (base - 1.0)
    return upper if upper <= most else lower


@kernel
def liquidation_marks(first, last, state, prices, by_quantity, highest, mark):
    """Mark of each position at which its account's MMR reaches 1, all else equal: a chunk of the accounts.

    first        int64           ()    0 <= first
    last         int64           ()    first <= last <= A
    state        AccountColumns  ()    see layouts.py
    prices       PriceArrays    ()    see layouts.py
    by_quantity  bool            (N,)  the function's size is the quantity: its fraction does not move with the mark
    highest      float64         (M,)  highest mark, as a part of the present mark
    mark         float64         (P,)  out, as a part of the present mark, NaN if there is none
    """
    for a in range(first, last):
        equity, _exposure, _initial, maintenance, _gross = account_margin(a, state, prices)
        for i in range(state.position_offset[a], state.position_offset[a + 1]):
            mark[i] = nan
            lots = state.lots[i]
            if lots == 0:
                continue
            m = np.int64(state.market[i])
            notional = abs(lots) * prices.price_per_lot[m]
            own = margin_requirement(notional, 2 * m + 1, prices.functions)
            side = 1.0 if lots > 0 else -1.0
            rest = (equity - side * notional) - (maintenance - own)
            fraction = nan
            if by_quantity[2 * m + 1]:
                segment = prices.functions.offset[2 * m + 1]
                fraction = unbounded_requirement(notional, segment, prices.functions) / notional
            found = liquidation_notional(
                side, rest, notional, notional * highest[m], 2 * m + 1, fraction, prices.functions
            )
            if found > 0.0:
                mark[i] = found / notional


@inner_kernel
def order_room(lots, bid, ask, side, own_fraction, room, exposure_room, market, prices):
    """Largest order of one side, in lots, with which an account's initial margin stays under its net equity.

    lots           int64         ()  signed position
    bid            int64         ()  lots of resting bids
    ask            int64         ()  lots of resting asks
    side           int64         ()  +1 a bid, -1 an ask
    own_fraction   float64       ()  1 / leverage limit, 0 without one
    room           float64       ()  settle quanta that the market's initial margin must stay under
    exposure_room  float64       ()  settle quanta that its exposure must stay under, +inf without a limit
    market         int64         ()  0 <= market < M
    prices         PriceArrays  ()  see layouts.py
    """
    price = prices.price_per_lot[market]
    low, high = np.int64(-1), np.int64(_MOST_LOTS)
    while high - low > 1:
        size = low + (high - low) // 2
        more_bid = bid + size if side > 0 else bid
        more_ask = ask + size if side < 0 else ask
        notional = worst_case_lots(lots, more_bid, more_ask) * price
        needed = max(margin_requirement(notional, 2 * market, prices.functions), notional * own_fraction)
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
    prices    PriceArrays    ()      see layouts.py
    lots      int64           (N, 2)  out, bid and ask, 0 if none
    """
    for n in range(accounts.size):
        a = accounts[n]
        equity, exposure, _initial, _maintenance, _gross = account_margin(a, state, prices)
        own_fraction = state.leverage_fraction[a]
        held, bid, ask = np.int64(0), np.int64(0), np.int64(0)
        total = 0.0
        for i in range(state.position_offset[a], state.position_offset[a + 1]):
            m = np.int64(state.market[i])
            notional = worst_case_lots(state.lots[i], state.open_bid[i], state.open_ask[i]) * prices.price_per_lot[m]
            if m == market:
                held, bid, ask = state.lots[i], state.open_bid[i], state.open_ask[i]
                exposure -= notional
            else:
                total += max(margin_requirement(notional, 2 * m, prices.functions), notional * own_fraction)
        total += borrow_margin(a, state, prices)
        exposure_room = equity / own_fraction - exposure if own_fraction > 0.0 else np.inf
        for c in range(2):
            side = 1 - 2 * c
            lots[n, c] = order_room(held, bid, ask, side, own_fraction, equity - total, exposure_room, market, prices)


@inner_kernel
def borrow_margin(account, state, prices):
    """Initial margin of an account's borrows, settle quanta.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays    ()  see layouts.py
    """
    total = 0.0
    markets = prices.price_per_lot.size
    for j in range(state.balance_offset[account], state.balance_offset[account + 1]):
        if state.free[j] < 0:
            k = np.int64(state.asset[j])
            total += margin_requirement(
                -state.free[j] * prices.price_per_quantum[k], 2 * (markets + k), prices.functions
            )
    return total
