"""Values and Greeks of record of options, and their shocked values in each scenario."""

from math import log, sqrt
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .black76 import black76_greeks, black76_value, option_value, time_value
from .volatility_shocks import ABS, LINEAR, shocked_forward, shocked_volatility, skew_multiplier


class OptionColumns(NamedTuple):
    """O options, those of one expiry and strike beside each other, and C scenarios.

    fixed       float64  (O,)    part of the forward that does not move any more, settle units
    variable    float64  (O,)    part that moves, settle units
    strike      float64  (O,)    settle units
    volatility  float64  (O,)    of a year
    base        float64  (O, C)  in each scenario before its rule; or (O, 1), one for all
    years       float64  (O,)    to expiry
    discount    float64  (O,)    discount factor
    is_call     bool     (O,)
    underlying  int64    (O,)    row
    is_skewed   bool     (C,)    whether the options ignore the move and turn the skew
    rule        int64    (C,)    volatility rule, see volatility_shocks.py
    move        float64  (U, C)  relative move of the underlying
    shift       float64  (U, C)  absolute move, settle units
    passed      float64  (C,)    years that pass
    up          float64  (U,)    relative move of the basis contingency
    down        float64  (U,)    the other one
    decay       float64  ()      years of the theta charge
    """

    fixed: np.ndarray
    variable: np.ndarray
    strike: np.ndarray
    volatility: np.ndarray
    base: np.ndarray
    years: np.ndarray
    discount: np.ndarray
    is_call: np.ndarray
    underlying: np.ndarray
    is_skewed: np.ndarray
    rule: np.ndarray
    move: np.ndarray
    shift: np.ndarray
    passed: np.ndarray
    up: np.ndarray
    down: np.ndarray
    decay: float


@kernel
def years_left(years, passed):
    """Years to expiry after a time has passed, at least 0.

    years   float64  ()  >= 0
    passed  float64  ()  years, >= 0
    """
    return years - passed if years > passed else 0.0


@inner_kernel
def scenario_forward(o, s, options):
    """Forward of an option in a scenario, >= 0.

    o        int64          ()  option
    s        int64          ()  scenario
    options  OptionColumns  ()  see above
    """
    u, fixed, variable = options.underlying[o], options.fixed[o], options.variable[o]
    if options.is_skewed[s]:
        return fixed + variable
    forward = shocked_forward(fixed, variable, options.move[u, s]) + options.shift[u, s]
    return forward if forward > 0.0 else 0.0


@inner_kernel
def scenario_volatility(o, s, days, shocks, linear, absolute, options):
    """Volatility of an option in a scenario.

    o         int64             ()  option
    s         int64             ()  scenario
    days      float64           ()  to expiry
    shocks    VolatilityShocks  ()  see volatility_shocks.py
    linear    SkewFigures       ()  see volatility_shocks.py
    absolute  SkewFigures       ()  see volatility_shocks.py
    options   OptionColumns     ()  see above
    """
    volatility = options.base[o, s if options.base.shape[1] > 1 else 0]
    rule = options.rule[s]
    if rule != LINEAR and rule != ABS:
        return shocked_volatility(rule, volatility, days, shocks)
    moneyness = log(options.strike[o] / (options.fixed[o] + options.variable[o]))
    if rule == LINEAR:
        return volatility * skew_multiplier(moneyness, options.years[o], linear)
    return volatility * skew_multiplier(abs(moneyness), options.years[o], absolute)


@kernel
def fill_option_values(options, shocks, linear, absolute, otm, value, greeks, basis, decay, shocked, forward):
    """Values, Greeks and shocked values of options; of a call and a put that are alike the formula is computed once.

    options   OptionColumns     ()      see above
    shocks    VolatilityShocks  ()      see volatility_shocks.py
    linear    SkewFigures       ()      see volatility_shocks.py
    absolute  SkewFigures       ()      see volatility_shocks.py
    otm       float64           (C,)    work space
    value     float64           (O,)    out, settle units
    greeks    float64           (O, 4)  out, delta, gamma, vega, theta
    basis     float64           (O, 2)  out, change by the up and the down move of the basis contingency
    decay     float64           (O,)    out, change as the hours of the theta charge pass
    shocked   float64           (O, C)  out, settle units
    forward   float64           (O, C)  out, settle units
    """
    for o in range(value.shape[0]):
        now, strike, years = options.fixed[o] + options.variable[o], options.strike[o], options.years[o]
        discount, is_call, u = options.discount[o], options.is_call[o], options.underlying[o]
        volatility, days = options.volatility[o], 365.0 * years
        one = black76_greeks(now, strike, volatility, years, discount, is_call)
        value[o] = one.value
        greeks[o, 0], greeks[o, 1], greeks[o, 2], greeks[o, 3] = one.delta, one.gamma, one.vega, one.theta
        up = shocked_forward(options.fixed[o], options.variable[o], options.up[u])
        down = shocked_forward(options.fixed[o], options.variable[o], options.down[u])
        basis[o, 0] = black76_value(up, strike, volatility, years, discount, is_call) - one.value
        basis[o, 1] = black76_value(down, strike, volatility, years, discount, is_call) - one.value
        left = years_left(years, options.decay)
        decay[o] = black76_value(now, strike, volatility, left, discount, is_call) - one.value
        is_known = o > 0 and is_alike(o - 1, o, options)
        for s in range(shocked.shape[1]):
            if not is_known:
                left = years_left(years, options.passed[s])
                deviation = scenario_volatility(o, s, days, shocks, linear, absolute, options) * sqrt(left)
                otm[s] = time_value(scenario_forward(o, s, options), strike, deviation)
            forward[o, s] = scenario_forward(o, s, options)
            shocked[o, s] = option_value(otm[s], forward[o, s], strike, discount, is_call)


@inner_kernel
def is_alike(first, other, options):
    """Whether two options have one expiry, strike and volatility.

    first    int64          ()  option
    other    int64          ()  option
    options  OptionColumns  ()  see above
    """
    alike = options.strike[first] == options.strike[other] and options.years[first] == options.years[other]
    alike = alike and options.underlying[first] == options.underlying[other]
    alike = alike and options.fixed[first] == options.fixed[other]
    alike = alike and options.variable[first] == options.variable[other]
    for s in range(options.base.shape[1]):
        alike = alike and options.base[first, s] == options.base[other, s]
    return alike
