"""Margin of an account: net equity, exposure, initial and maintenance requirement, and its status."""

from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .margin_function import margin_requirement

SAFE, LIQUIDATING, BELOW_AUTO_CLOSE, DOUBT = 0, 1, 2, 3
"""Status of an account. DOUBT: float64 cannot decide, exact arithmetic must."""

DOUBT_BAND = 1e-12  # of the gross amounts: some 10,000 roundings wide


class MarginSums(NamedTuple):
    """Margin of an account in settle quanta, or of the eight accounts of a group; gross is the sum of all amounts."""

    equity: float
    exposure: float
    initial: float
    maintenance: float
    gross: float


@kernel
def collateral_weight(size, weight, base, penalty):
    """Weight of a collateral balance at its size: ``min(weight, base / (1 + penalty * sqrt(size)))``.

    size     float64  ()  notional or token quantity, >= 0
    weight   float64  ()  0..1
    base     float64  ()  +inf for the identity haircut
    penalty  float64  ()  per square root of the size unit, >= 0
    """
    if penalty == 0.0 and base == inf:
        return weight
    return min(weight, base / (1.0 + penalty * sqrt(size)))


@kernel
def worst_case_lots(lots, bid, ask):
    """Largest size of a position if none, all bids or all asks among its open orders fill.

    lots  int64  ()  signed position
    bid   int64  ()  lots of open bids, >= 0
    ask   int64  ()  lots of open asks, >= 0
    """
    return max(abs(lots), abs(lots + bid), abs(lots - ask))


@kernel
def is_extra_money(asset, money):
    """Whether an asset is the settle asset of a market, but not of the venue.

    asset  int64  ()    row
    money  int64  (S,)  see layouts.py
    """
    extra = False
    for s in range(1, money.size):
        extra |= money[s] == asset
    return extra


@inner_kernel
def counts_with_profit(balance, account, state, money):
    """Whether a balance may have profit and loss beside it: of an extra money asset with positions or unsettled quanta.

    balance  int64           ()    row, of the account
    account  int64           ()    0 <= account < A
    state    AccountColumns  ()    see layouts.py
    money    int64           (S,)  see layouts.py
    """
    if not is_extra_money(np.int64(state.asset[balance]), money):
        return False
    found = state.unsettled[balance] != 0
    for i in range(state.position_span[account, 0], state.position_span[account, 1]):
        found |= state.position_balance[i] == balance
    return found


@inner_kernel
def account_margin(account, state, prices):
    """Margin of an account from its own columns, by the separable model: each position has a function of its own.

    In the venue's settle asset profit and loss counts in full, beside the balances. In another money asset it is part
    of the balance: together they count as collateral of that size, or, below zero, in full.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  see layouts.py
    """
    equity, gross, exposure, initial, maintenance = 0.0, 0.0, 0.0, 0.0, 0.0
    markets = prices.price_per_lot.size
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        k = np.int64(state.asset[j])
        price = prices.price_per_quantum[k]
        balance = state.lent[j]
        if state.free[j] < 0:
            notional = -state.free[j] * price
            equity -= notional
            gross += notional
            exposure += notional
            initial += margin_requirement(notional, 2 * (markets + k), prices.functions)
            maintenance += margin_requirement(notional, 2 * (markets + k) + 1, prices.functions)
        else:
            balance += state.free[j]
        if counts_with_profit(j, account, state, prices.money):
            continue
        value = balance * price
        gross += value
        equity += value * collateral_weight(
            balance * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
        )

    leverage_fraction = state.leverage_fraction[account]
    has_orders = state.open_orders[account] > 0
    position_value = 0.0
    for i in range(state.position_span[account, 0], state.position_span[account, 1]):
        m = np.int64(state.market[i])
        lots = state.lots[i]
        price = prices.price_per_lot[m]
        if prices.market_settle[m] == prices.money[0]:
            position_value += lots * prices.value_per_lot[m]
        notional = abs(lots) * price
        gross += notional
        maintenance += margin_requirement(notional, 2 * m + 1, prices.functions)
        if has_orders:
            notional = worst_case_lots(lots, state.open_bid[i], state.open_ask[i]) * price
        exposure += notional
        initial += max(margin_requirement(notional, 2 * m, prices.functions), notional * leverage_fraction)

    settle = state.settle_row[account]
    cash_minus_cost = float(state.unsettled[settle] - state.balance_cost[settle])
    equity += position_value + cash_minus_cost
    gross += abs(cash_minus_cost)
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        if counts_with_profit(j, account, state, prices.money):
            k = np.int64(state.asset[j])
            price, position_value = prices.price_per_quantum[k], 0.0
            for i in range(state.position_span[account, 0], state.position_span[account, 1]):
                if state.position_balance[i] == j:
                    position_value += state.lots[i] * prices.value_per_lot[state.market[i]]
            quanta = float(max(state.free[j], 0) + state.lent[j] + state.unsettled[j] - state.balance_cost[j])
            amount = position_value + quanta
            value = amount * price
            gross += abs(quanta * price)
            if amount > 0.0:
                value *= collateral_weight(
                    amount * prices.haircut_size[k],
                    prices.weight[k],
                    prices.haircut_base[k],
                    prices.haircut_penalty[k],
                )
            equity += value
    return MarginSums(
        equity=equity,
        exposure=exposure,
        initial=max(initial, exposure * leverage_fraction),
        maintenance=maintenance,
        gross=gross,
    )


@kernel
def margin_ratio(margin, equity, exposure):
    """Margin over net equity: +inf with exposure and no equity, 0 without exposure.

    margin    float64  ()  settle quanta, >= 0
    equity    float64  ()  settle quanta
    exposure  float64  ()  settle quanta, >= 0
    """
    if exposure == 0.0:
        return 0.0
    if not equity > 0.0:
        return inf
    return margin / equity


@kernel
def float_status(equity, exposure, maintenance, divisor, offset):
    """Status of an account by float64 alone: SAFE, LIQUIDATING or BELOW_AUTO_CLOSE; never SAFE with a NaN.

    equity       float64  ()  settle quanta
    exposure     float64  ()  settle quanta, >= 0
    maintenance  float64  ()  settle quanta, >= 0
    divisor      float64  ()  of the auto-close fraction
    offset       float64  ()  of the auto-close fraction
    """
    if exposure == 0.0 or maintenance < equity:
        return SAFE
    if equity > 0.0 and max(maintenance / divisor, maintenance - offset * exposure) <= equity:
        return LIQUIDATING
    return BELOW_AUTO_CLOSE


@kernel
def account_status(equity, exposure, maintenance, gross, divisor, offset):
    """Status of an account, or DOUBT where the rounding of float64 could have decided.

    equity       float64  ()  settle quanta
    exposure     float64  ()  settle quanta, >= 0
    maintenance  float64  ()  settle quanta, >= 0
    gross        float64  ()  settle quanta, the scale of the rounding error
    divisor      float64  ()  of the auto-close fraction
    offset       float64  ()  of the auto-close fraction
    """
    status = float_status(equity, exposure, maintenance, divisor, offset)
    band = DOUBT_BAND * gross
    if exposure > 0.0 and abs(maintenance - equity) <= band:
        return DOUBT
    if status != SAFE:
        auto_close = max(maintenance / divisor, maintenance - offset * exposure)
        if abs(auto_close - equity) <= band or abs(equity) <= band:
            return DOUBT
    return status
