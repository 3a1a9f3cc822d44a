"""The rules of one account in an njit loop: prices folded in place, fills, funding, and money in whole quanta."""

from __future__ import annotations

from math import floor, isnan, nan, sqrt
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .guards import follow_markets
from .integer_math import cost_change, scale
from .liquidation_price import liquidation_mark
from .margin import account_margin
from .margin_function import FROM, RATE, ROOT, SLOPE

NOT_WHOLE = -(1 << 62)
"""What `whole_units` gives for an amount that is no whole number of units."""

_MAX = (1 << 62) - 1
_MAX_DIGITS = 1e15  # two decimals of fewer digits are never the same float64
_TENS = tuple(10**n for n in range(19))
_FLOAT_TENS = tuple(10.0**n for n in range(23))  # the powers of ten that float64 holds
_EPS = 2.0**-52
_WHOLE = 1e-6  # of a unit: the distance from a whole number that rounding errors explain
_FUNDING_PLACES = 9  # decimals of a quantum in the funding of a lot


class Fill(NamedTuple):
    """Result of a fill: profit realised against the entry price, without the fee, quanta of the settle asset.

    ``flow`` is the money received for the lots; ``lots`` and ``entry`` are the position after the fill.
    """

    realized: int
    flow: int
    lots: int
    entry: int


@kernel
def decimal_of(value):
    """Digits and decimal places of the shortest decimal that reads back as a number; places -1 past 15 digits.

    value  float64  ()  finite
    """
    for places in range(23):
        digits = np.rint(value * _FLOAT_TENS[places])
        if abs(digits) > _MAX_DIGITS:
            break
        if digits / _FLOAT_TENS[places] == value:
            return np.int64(digits), places
    return np.int64(0), -1


@kernel
def nearest_whole(value, doubts):
    """Nearest whole number of a float64, halves to even; a doubt is counted where its rounding error could decide.

    value   float64  ()    |value| < 2**62
    doubts  int64    (1,)  perhaps one more
    """
    if abs(abs(value - floor(value)) - 0.5) <= abs(value) * 8 * _EPS + 1e-9:
        doubts[0] += 1
    return np.int64(np.rint(value))


@kernel
def scaled_decimal(count, value, num, den, inverse, doubts):
    """``count * value * num / den`` of a decimal, or ``count * num / (value * den)``, halves to even.

    It is exact for a number of at most 15 digits if ``count * num`` and ``den`` times its power of ten fit 64 bits, and
    else the `nearest_whole` of float64.

    count    int64    ()    |count| < 2**61
    value    float64  ()    finite, the shortest decimal that reads back as it; > 0 where inverse
    num      int64    ()    > 0
    den      int64    ()    > 0
    inverse  bool     ()    divide by the value
    doubts   int64    (1,)  perhaps one more
    """
    digits, places = decimal_of(value)
    size = abs(digits)
    if places >= 0 and places < len(_TENS):
        power = _TENS[places]
        if size == 0 or count == 0:
            return np.int64(0)
        if inverse:
            if num <= _MAX // power and den <= _MAX // size:
                return scale(count, num * power, den * size)
        elif den <= _MAX // power and abs(count) <= _MAX // num:
            amount = scale(size, abs(count) * num, den * power)
            return amount if (count > 0) == (digits > 0) else -amount
    ratio = num / den
    return nearest_whole(count * ratio / value if inverse else count * value * ratio, doubts)


@kernel
def whole_units(quantity, unit):
    """Whole number of units in a quantity, or NOT_WHOLE where rounding errors do not explain the rest.

    quantity  float64  ()  signed
    unit      float64  ()  > 0
    """
    ratio = quantity / unit
    count = np.rint(ratio)
    if abs(ratio - count) <= max(_WHOLE, abs(count) * 4 * _EPS) and abs(count) < _MAX:
        return np.int64(count)
    return np.int64(NOT_WHOLE)


@inner_kernel
def fold_function(f, price, prices, units):
    """Fold a margin function by the token quantity with the price of a token; others do not change.

    f       int64        ()  0 <= f < N
    price   float64      ()  settle units, 0: none
    prices  PriceArrays  ()  its functions change
    units   UnitColumns  ()  see layouts.py
    """
    if not units.by_quantity[f]:
        return
    functions = prices.functions
    size = prices.settle_quantum / price if price > 0.0 else 0.0
    first, end = functions.offset[f], functions.offset[f + 1]
    for s in range(first, end):
        functions.segments[s, SLOPE] = units.slope[s] * size
        functions.segments[s, ROOT] = units.root[s] * sqrt(size)
    flat = np.inf
    root = functions.segments[first, ROOT]
    if root > 0.0:
        ratio = functions.segments[first, RATE] / root
        flat = ratio * ratio
    if functions.segments[first, SLOPE] > 0.0 or functions.minimum[f] > 0.0:
        flat = 0.0
    if end - first > 1:
        flat = functions.segments[first + 1, FROM]
    functions.flat_notional[f] = flat


@inner_kernel
def fold_open_interest(m, account):
    """Set the rates of a market's margin functions by open interest, in float64.

    m        int64         ()  0 <= m < M
    account  SmallAccount  ()  its functions change
    """
    units, prices = account.units, account.prices
    for f in range(2 * m, 2 * m + 2):
        base, lower, upper = units.open_interest[f, 0], units.open_interest[f, 1], units.open_interest[f, 2]
        if isnan(base):
            continue
        lots = account.interest[m] / units.step_size[m]
        if isnan(lots):
            lots = float(abs(account.state.lots[account.row[m]])) if account.row[m] >= 0 else 0.0
        notional = lots * prices.price_per_lot[m] * prices.settle_quantum
        rate = base + (1.0 - base) * min(max((notional - lower) / (upper - lower), 0.0), 1.0)
        prices.functions.flat_rate[f] = rate
        prices.functions.segments[prices.functions.offset[f], RATE] = rate


@inner_kernel
def fold_market(m, account):
    """Fold the mark of a market, and the price of its settle asset, into the prices of its lots.

    m        int64         ()  0 <= m < M
    account  SmallAccount  ()  its prices change
    """
    units, prices = account.units, account.prices
    mark = 0.0 if isnan(account.mark[m]) else account.mark[m]
    value = mark * units.lot_value[m]
    if units.inverse[m]:
        value = -units.lot_value[m] / mark if mark > 0.0 else 0.0
    k = prices.market_settle[m]
    prices.value_per_lot[m] = value
    prices.price_per_lot[m] = abs(value) * prices.price_per_quantum[k]
    token = 0.0 if isnan(account.asset[k]) else account.asset[k]
    if not units.inverse[m]:
        token *= mark
    fold_function(2 * m, token, prices, units)
    fold_function(2 * m + 1, token, prices, units)
    fold_open_interest(m, account)


@inner_kernel
def fold_assets(account):
    """Price the assets, by their own prices or by the markets that they follow, and fold the prices that changed.

    account  SmallAccount  ()  its prices change
    """
    units, prices, markets = account.units, account.prices, account.mark.size
    for k in range(account.asset.size):
        account.asset[k] = account.own_asset[k]
    follow_markets(
        account.mark, account.index_price, units.base_asset, units.quote_asset, prices.money[0], account.asset
    )
    for k in range(account.asset.size):
        price = 0.0 if isnan(account.asset[k]) else account.asset[k]
        per_quantum = price * units.quantum_value[k]
        if per_quantum != prices.price_per_quantum[k]:
            prices.price_per_quantum[k] = per_quantum
            prices.haircut_size[k] = units.quantum_size[k] * (price if units.haircut_by_price else 1.0)
            fold_function(2 * (markets + k), price, prices, units)
            fold_function(2 * (markets + k) + 1, price, prices, units)
            for m in range(markets):
                if prices.market_settle[m] == k:
                    fold_market(m, account)


@inner_kernel
def follow_market(m, account):
    """Price the assets anew where one of them follows a market.

    m        int64         ()  0 <= m < M
    account  SmallAccount  ()  its prices change
    """
    base = account.units.base_asset[m]
    if base >= 0 and isnan(account.own_asset[base]):
        fold_assets(account)


@inner_kernel
def move_mark(m, mark, account):
    """Set the mark of a market, and all that follows from it; without a mark above 0 nothing changes.

    m        int64         ()  0 <= m < M
    mark     float64       ()  units of the quote
    account  SmallAccount  ()  its prices change
    """
    if not mark > 0.0:
        return
    account.mark[m] = mark
    fold_market(m, account)
    follow_market(m, account)


@inner_kernel
def move_index(m, index, account):
    """Set the index of a market, and the prices of the assets that follow it.

    m        int64         ()  0 <= m < M
    index    float64       ()  units of the quote, NaN: none
    account  SmallAccount  ()  its prices change
    """
    account.index_price[m] = index
    follow_market(m, account)


@inner_kernel
def value_of_lots(lots, price, m, account):
    """Value of lots at a price, whole quanta of the market's settle asset without the sign.

    lots     int64         ()  >= 0
    price    float64       ()  units of the quote, > 0
    m        int64         ()  0 <= m < M
    account  SmallAccount  ()  doubts, perhaps one more
    """
    units = account.units
    return scaled_decimal(lots, price, units.lot_num[m], units.lot_den[m], units.inverse[m], account.doubts)


@inner_kernel
def book_fill(m, lots, flow, fee, account):
    """Change a position by lots against money, and charge a fee; a `Fill`.

    m        int64         ()  0 <= m < M, a market of the account
    lots     int64         ()  signed, 0: the fee alone
    flow     int64         ()  quanta of the settle asset received, signed
    fee      int64         ()  quanta of the settle asset paid
    account  SmallAccount  ()  its position, balance and sums change
    """
    state, p = account.state, account.row[m]
    realized = np.int64(0)
    balance = np.int64(state.position_balance[p])
    if lots != 0:
        cost = cost_change(state.lots[p], state.cost[p], lots, flow)
        entry = cost_change(state.lots[p], state.entry[p], lots, flow)
        state.lots[p] += lots
        state.cost[p] += cost
        state.entry[p] += entry
        state.balance_cost[balance] += cost
        state.free[balance] += flow + cost
        realized = flow + entry
    state.free[balance] -= fee
    account.realized[m] += realized
    account.fees[m] += fee
    return Fill(realized=realized, flow=flow, lots=state.lots[p], entry=state.entry[p])


@inner_kernel
def fill_for_value(m, lots, value, fee, account):
    """Fill lots for an amount of money; a `Fill`.

    m        int64         ()  0 <= m < M, a market of the account
    lots     int64         ()  signed
    value    int64         ()  quanta of the settle asset that the lots are worth, without sign
    fee      int64         ()  quanta of the settle asset paid
    account  SmallAccount  ()  its position, balance and sums change
    """
    return book_fill(m, lots, value if (lots < 0) != account.units.inverse[m] else -value, fee, account)


@inner_kernel
def fill_at_price(m, lots, price, fee, account):
    """Fill lots at a price, its money rounded once to whole quanta; a `Fill`.

    m        int64         ()  0 <= m < M, a market of the account
    lots     int64         ()  signed
    price    float64       ()  units of the quote, > 0
    fee      int64         ()  quanta of the settle asset paid
    account  SmallAccount  ()  its position, balance and sums change
    """
    return fill_for_value(m, lots, value_of_lots(abs(lots), price, m, account), fee, account)


@inner_kernel
def funding_of_lot(m, rate, account):
    """Funding of a lot at a rate and the present mark, without its sign, parts of 10**-9 of a quantum.

    m        int64         ()  0 <= m < M
    rate     float64       ()  fraction of the notional, >= 0
    account  SmallAccount  ()  doubts, perhaps one more
    """
    units, mark = account.units, account.mark[m]
    rate_digits, rate_places = decimal_of(rate)
    digits, places = decimal_of(mark)
    num, den = units.lot_num[m], units.lot_den[m]
    if rate_digits == 0 and rate_places >= 0:
        return np.int64(0)
    if rate_places >= 0 and places >= 0 and digits > 0:
        # decimals of the product, less those of the parts
        more = rate_places - _FUNDING_PLACES + (-places if units.inverse[m] else places)
        if abs(more) < len(_TENS):
            over = _TENS[max(-more, 0)]
            under = _TENS[max(more, 0)]
            if num <= _MAX // over and den <= _MAX // under:
                num, den = num * over, den * under
                if not units.inverse[m] and rate_digits <= _MAX // num:
                    return scale(digits, rate_digits * num, den)
                if units.inverse[m] and den <= _MAX // digits:
                    return scale(rate_digits, num, den * digits)
    return nearest_whole(rate * abs(account.prices.value_per_lot[m]) * _FLOAT_TENS[_FUNDING_PLACES], account.doubts)


@inner_kernel
def fund_position(m, rate, account):
    """Pay the funding of one instant of a position at the present mark; returns the quanta received.

    m        int64         ()  0 <= m < M, a market of the account
    rate     float64       ()  fraction of the notional, above 0 a long pays
    account  SmallAccount  ()  its balance and funding change
    """
    state, p = account.state, account.row[m]
    if isnan(account.mark[m]) or state.lots[p] == 0:
        return np.int64(0)
    of_lot = funding_of_lot(m, abs(rate), account)
    if of_lot == 0:
        return np.int64(0)
    paid = scale(state.lots[p], of_lot, _TENS[_FUNDING_PLACES])
    received = -paid if rate > 0.0 else paid
    state.free[state.position_balance[p]] += received
    account.funding[m] += received
    return received


@inner_kernel
def balance_row(k, account):
    """Balance row of an asset, -1 if the account has none.

    k        int64         ()  0 <= k < K
    account  SmallAccount  ()  see layouts.py
    """
    for j in range(account.state.asset.size):
        if account.state.asset[j] == k:
            return j
    return -1


@inner_kernel
def rest_orders(m, bid, ask, account):
    """Set the lots of the open orders of a market that are not reduce-only.

    m        int64         ()  0 <= m < M, a market of the account
    bid      int64         ()  lots, >= 0
    ask      int64         ()  lots, >= 0
    account  SmallAccount  ()  open_bid, open_ask and open_orders change
    """
    state, p = account.state, account.row[m]
    state.open_bid[p], state.open_ask[p] = bid, ask
    orders = 0
    for i in range(state.lots.size):
        orders += (state.open_bid[i] > 0) + (state.open_ask[i] > 0)
    state.open_orders[0] = orders


@inner_kernel
def price_at_liquidation(m, account):
    """Mark at which the MMR of the account reaches 1 with all else equal, units of the quote; NaN if there is none.

    m        int64         ()  0 <= m < M, a market of the account
    account  SmallAccount  ()  see layouts.py
    """
    units, mark = account.units, account.mark[m]
    highest = mark / units.tick_size[m] if units.inverse[m] else units.max_price[m] / mark
    sums = account_margin(0, account.state, account.prices)
    return mark * liquidation_mark(0, account.row[m], sums, account.state, account.prices, units.by_quantity, highest)


@inner_kernel
def average_price(m, account):
    """Average price paid for a position, units of the quote; NaN without a position.

    m        int64         ()  0 <= m < M, a market of the account
    account  SmallAccount  ()  see layouts.py
    """
    p = account.row[m]
    if account.state.lots[p] == 0:
        return nan
    paid, value = float(abs(account.state.entry[p])), abs(account.state.lots[p]) * account.units.lot_value[m]
    return value / paid if account.units.inverse[m] else paid / value


@inner_kernel
def copy_array(source, target):
    """Copy an array.

    source  float64|int64|uint32  (N,)  to be copied
    target  float64|int64|uint32  (N,)  out
    """
    for n in range(source.size):
        target[n] = source[n]


@inner_kernel
def copy_small(source, target):
    """Copy all of an account that changes to another one of the same venue and the same rows.

    source  SmallAccount  ()  see layouts.py
    target  SmallAccount  ()  out
    """
    copy_array(source.state.lots, target.state.lots)
    copy_array(source.state.open_bid, target.state.open_bid)
    copy_array(source.state.open_ask, target.state.open_ask)
    copy_array(source.state.cost, target.state.cost)
    copy_array(source.state.entry, target.state.entry)
    copy_array(source.state.free, target.state.free)
    copy_array(source.state.lent, target.state.lent)
    copy_array(source.state.balance_cost, target.state.balance_cost)
    copy_array(source.state.unsettled, target.state.unsettled)
    copy_array(source.state.open_orders, target.state.open_orders)
    copy_array(source.state.leverage_fraction, target.state.leverage_fraction)
    copy_array(source.prices.price_per_lot, target.prices.price_per_lot)
    copy_array(source.prices.value_per_lot, target.prices.value_per_lot)
    copy_array(source.prices.price_per_quantum, target.prices.price_per_quantum)
    copy_array(source.prices.haircut_size, target.prices.haircut_size)
    copy_array(source.prices.functions.flat_notional, target.prices.functions.flat_notional)
    copy_array(source.prices.functions.flat_rate, target.prices.functions.flat_rate)
    for s in range(source.prices.functions.segments.shape[0]):
        copy_array(source.prices.functions.segments[s], target.prices.functions.segments[s])
    copy_array(source.mark, target.mark)
    copy_array(source.index_price, target.index_price)
    copy_array(source.asset, target.asset)
    copy_array(source.own_asset, target.own_asset)
    copy_array(source.interest, target.interest)
    copy_array(source.realized, target.realized)
    copy_array(source.fees, target.fees)
    copy_array(source.funding, target.funding)
    copy_array(source.doubts, target.doubts)
