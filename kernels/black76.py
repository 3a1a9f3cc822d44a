"""Prices of European options on a forward (Black 1976) and their Greeks.

The out-of-the-money option of a strike is computed, and the other one is that value plus the intrinsic value, so no
price loses digits by a difference of two large numbers. A NaN gives a NaN.
"""

from __future__ import annotations

from math import erfc, exp, log, nan, sqrt
from typing import NamedTuple

from ._jit import inner_kernel, kernel

_ROOT_HALF = 0.7071067811865476
_DENSITY_AT_ZERO = 0.3989422804014327  # 1 / sqrt(2 pi)
_DAYS_PER_YEAR = 365.0
_LARGEST_DEVIATION = 64.0  # beyond about 17 the value is the forward or the strike itself
_PRICE_ACCURACY = 1e-14  # of the larger of forward and strike


class OptionGreeks(NamedTuple):
    """Value and Greeks of one unit, forward and interest rate held."""

    value: float
    delta: float  # per 1 of the forward
    gamma: float  # per 1 of the forward squared
    vega: float  # per 1.00 of volatility
    theta: float  # per day


@inner_kernel
def normal_probability(z):
    """Probability that a standard normal number is below another number.

    z  float64  ()  standard deviations
    """
    return 0.5 * erfc(-z * _ROOT_HALF)


@inner_kernel
def normal_density(z):
    """Density of the standard normal distribution.

    z  float64  ()  standard deviations
    """
    return _DENSITY_AT_ZERO * exp(-0.5 * z * z)


@inner_kernel
def time_value(forward, strike, deviation):
    """Undiscounted value of the out-of-the-money option of a strike: of the call if strike >= forward, else of the put.

    forward    float64  ()  settle units, >= 0
    strike     float64  ()  settle units, > 0
    deviation  float64  ()  volatility times the square root of the years, >= 0
    """
    if deviation <= 0.0 or forward <= 0.0 or strike <= 0.0:
        return 0.0
    log_ratio, half = log(forward / strike) / deviation, 0.5 * deviation
    if strike >= forward:
        upper = forward
        value = forward * normal_probability(log_ratio + half) - strike * normal_probability(log_ratio - half)
    else:
        upper = strike
        value = strike * normal_probability(half - log_ratio) - forward * normal_probability(-log_ratio - half)
    if value < 0.0:
        return 0.0
    return upper if value > upper else value


@inner_kernel
def option_value(time_value, forward, strike, discount, is_call):
    """Value of the call or the put of a strike from the value of its out-of-the-money option.

    time_value  float64  ()  of the same forward and strike, settle units, >= 0
    forward     float64  ()  settle units, >= 0
    strike      float64  ()  settle units, > 0
    discount    float64  ()  discount factor, > 0
    is_call     bool     ()  false is a put
    """
    value = time_value
    if is_call:
        if strike < forward:
            value = time_value + (forward - strike)
            value = forward if value > forward else value
    elif not strike < forward:
        value = time_value + (strike - forward)
        value = strike if value > strike else value
    return discount * value


@inner_kernel
def black76_value(forward, strike, volatility, years, discount, is_call):
    """Value of one unit of a European option, settle units; the intrinsic value without time or without volatility.

    forward     float64  ()  settle units, >= 0
    strike      float64  ()  settle units, > 0
    volatility  float64  ()  of a year, >= 0
    years       float64  ()  to expiry, >= 0
    discount    float64  ()  discount factor, > 0
    is_call     bool     ()  false is a put
    """
    return option_value(time_value(forward, strike, volatility * sqrt(years)), forward, strike, discount, is_call)


@inner_kernel
def black76_greeks(forward, strike, volatility, years, discount, is_call):
    """Value and Greeks of one unit of a European option.

    forward     float64  ()  settle units, >= 0
    strike      float64  ()  settle units, > 0
    volatility  float64  ()  of a year, >= 0
    years       float64  ()  to expiry, >= 0
    discount    float64  ()  discount factor, > 0
    is_call     bool     ()  false is a put
    """
    root = sqrt(years)
    deviation = volatility * root
    value = option_value(time_value(forward, strike, deviation), forward, strike, discount, is_call)
    if deviation <= 0.0 or forward <= 0.0:
        # half of the step at the strike
        probability = 0.5 if forward == strike else (1.0 if forward > strike else 0.0)
        return OptionGreeks(value, discount * (probability if is_call else probability - 1.0), 0.0, 0.0, 0.0)
    d1 = log(forward / strike) / deviation + 0.5 * deviation
    density = discount * normal_density(d1)
    return OptionGreeks(
        value=value,
        delta=discount * normal_probability(d1) if is_call else -discount * normal_probability(-d1),
        gamma=density / forward / deviation,
        vega=density * forward * root,
        theta=-density * forward * volatility / (2.0 * root) / _DAYS_PER_YEAR,
    )


@inner_kernel
def implied_volatility(value, forward, strike, years, discount, is_call):
    """Least volatility of which an option has a value, NaN if there is none.

    value     float64  ()  of one unit, settle units
    forward   float64  ()  settle units, >= 0
    strike    float64  ()  settle units, > 0
    years     float64  ()  to expiry, >= 0
    discount  float64  ()  discount factor, > 0
    is_call   bool     ()  false is a put
    """
    intrinsic = forward - strike if is_call else strike - forward
    wanted = value / discount - (intrinsic if intrinsic > 0.0 else 0.0)
    if wanted <= 0.0:
        return 0.0 if wanted >= -_PRICE_ACCURACY * max(forward, strike) else nan
    if not wanted < min(forward, strike) or years <= 0.0:
        return nan
    low, high = 0.0, _LARGEST_DEVIATION
    middle = 0.5 * high
    while low < middle < high:  # until the two are neighbours
        if time_value(forward, strike, middle) < wanted:
            low = middle
        else:
            high = middle
        middle = 0.5 * (low + high)
    return high / sqrt(years)


@kernel
def black76_values(forward, strike, volatility, years, discount, is_call, value):
    """Values of one unit of European options.

    forward     float64  (N,)  settle units, >= 0
    strike      float64  (N,)  settle units, > 0
    volatility  float64  (N,)  of a year, >= 0
    years       float64  (N,)  to expiry, >= 0
    discount    float64  (N,)  discount factor, > 0
    is_call     bool     (N,)  false is a put
    value       float64  (N,)  out, settle units
    """
    for n in range(value.shape[0]):
        value[n] = black76_value(forward[n], strike[n], volatility[n], years[n], discount[n], is_call[n])


@kernel
def black76_greeks_of_all(forward, strike, volatility, years, discount, is_call, value, delta, gamma, vega, theta):
    """Values and Greeks of one unit of European options.

    forward     float64  (N,)  settle units, >= 0
    strike      float64  (N,)  settle units, > 0
    volatility  float64  (N,)  of a year, >= 0
    years       float64  (N,)  to expiry, >= 0
    discount    float64  (N,)  discount factor, > 0
    is_call     bool     (N,)  false is a put
    value       float64  (N,)  out, settle units
    delta       float64  (N,)  out, per 1 of the forward
    gamma       float64  (N,)  out, per 1 of the forward squared
    vega        float64  (N,)  out, per 1.00 of volatility
    theta       float64  (N,)  out, per day
    """
    for n in range(value.shape[0]):
        value[n], delta[n], gamma[n], vega[n], theta[n] = black76_greeks(
            forward[n], strike[n], volatility[n], years[n], discount[n], is_call[n]
        )


@kernel
def implied_volatilities(value, forward, strike, years, discount, is_call, volatility):
    """Least volatilities of which options have their values.

    value       float64  (N,)  of one unit, settle units
    forward     float64  (N,)  settle units, >= 0
    strike      float64  (N,)  settle units, > 0
    years       float64  (N,)  to expiry, >= 0
    discount    float64  (N,)  discount factor, > 0
    is_call     bool     (N,)  false is a put
    volatility  float64  (N,)  out, of a year; NaN if no volatility gives the value
    """
    for n in range(value.shape[0]):
        volatility[n] = implied_volatility(value[n], forward[n], strike[n], years[n], discount[n], is_call[n])
