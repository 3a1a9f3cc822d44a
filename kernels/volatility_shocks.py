"""Volatilities and forwards of options in a scenario."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel

UP, DOWN, SAME, POINTS_UP, POINTS_DOWN, PERCENT_UP, PERCENT_DOWN, LINEAR, ABS = range(9)
"""Volatility rules of a scenario; the last two are those of skew scenarios."""

_DAYS_AT_ONE = 30.0  # both powers of the multiplier meet here


class VolatilityShocks(NamedTuple):
    """Figures of the rules of volatility, J expiry buckets of one kind each."""

    up: float  # relative
    down: float  # relative
    p_short: float  # power of the multiplier up to 30 days
    p_long: float  # beyond
    dte_floor: float  # days
    min_vol: float  # floor of a volatility that was shocked up
    floor_down: bool  # whether a volatility that was shocked down stays at or above 0
    points: np.ndarray  # (J, 2) float64: days ascending, volatility added or taken away
    percent: np.ndarray  # (J, 2) float64: days ascending, relative change


class SkewFigures(NamedTuple):
    """Figures of one skew rule."""

    cbase: float  # growth of the cap with the square root of the years
    cap: float  # of the relative change, at expiry
    min_k: float  # least log-moneyness of the full change, >= 0
    width: float  # in standard deviations
    vol_static: float
    vol_scale: float


@inner_kernel
def shock_multiplier(days, dte_floor, p_short, p_long):
    """Term structure of a relative shock: 1 at 30 days, larger before, smaller beyond.

    days       float64  ()  to expiry, >= 0
    dte_floor  float64  ()  days, > 0
    p_short    float64  ()  power up to 30 days
    p_long     float64  ()  power beyond
    """
    base = dte_floor if days < dte_floor else days
    return (_DAYS_AT_ONE / base) ** (p_short if days <= _DAYS_AT_ONE else p_long)


@inner_kernel
def bucket_figure(days, buckets):
    """Figure of a table by days to expiry: linear between its rows, flat outside, 0 without a row.

    days     float64  ()      to expiry, >= 0
    buckets  float64  (J, 2)  days, ascending, and figure
    """
    last = buckets.shape[0] - 1
    if last < 0:
        return 0.0
    if days <= buckets[0, 0]:
        return buckets[0, 1]
    for j in range(last):
        start, end = buckets[j, 0], buckets[j + 1, 0]
        if days <= end:
            return buckets[j, 1] + (buckets[j + 1, 1] - buckets[j, 1]) * ((days - start) / (end - start))
    return buckets[last, 1]


@inner_kernel
def shocked_volatility(rule, volatility, days, shocks):
    """Volatility of an option in a scenario, for the rules that do not depend on the strike.

    rule        int64             ()  UP to PERCENT_DOWN; any other leaves the volatility as it is
    volatility  float64           ()  of a year, >= 0
    days        float64           ()  to expiry, >= 0
    shocks      VolatilityShocks  ()  figures of the model
    """
    if rule == UP:
        multiplier = shock_multiplier(days, shocks.dte_floor, shocks.p_short, shocks.p_long)
        shocked = volatility * (1.0 + shocks.up * multiplier)
        return shocks.min_vol if shocked < shocks.min_vol else shocked
    if rule == DOWN:
        multiplier = shock_multiplier(days, shocks.dte_floor, shocks.p_short, shocks.p_long)
        shocked = volatility * (1.0 - shocks.down * multiplier)
        return 0.0 if shocks.floor_down and shocked < 0.0 else shocked
    if rule == POINTS_UP:
        shocked = volatility + bucket_figure(days, shocks.points)
    elif rule == POINTS_DOWN:
        shocked = volatility - bucket_figure(days, shocks.points)
    elif rule == PERCENT_UP:
        shocked = volatility * (1.0 + bucket_figure(days, shocks.percent))
    elif rule == PERCENT_DOWN:
        shocked = volatility * (1.0 - bucket_figure(days, shocks.percent))
    else:
        return volatility
    return 0.0 if shocked < 0.0 else shocked


@inner_kernel
def skew_multiplier(log_moneyness, years, skew):
    """Factor of a volatility in a skew scenario, >= 0.

    log_moneyness  float64      ()  log(strike / forward); its absolute value for the rule ABS
    years          float64      ()  to expiry, >= 0
    skew           SkewFigures  ()  figures of the rule
    """
    root = sqrt(years)
    cap = skew.cbase * root + skew.cap
    full = root * skew.width * (skew.vol_static + root * skew.vol_scale)
    full = skew.min_k if full < skew.min_k else full
    limit = cap if log_moneyness >= 0.0 else -cap
    if full <= 0.0:
        change = 0.0 if log_moneyness == 0.0 else limit
    else:
        change = log_moneyness * cap / full
        change = min(change, limit) if log_moneyness >= 0.0 else max(change, limit)
    return 0.0 if change < -1.0 else 1.0 + change


@inner_kernel
def shocked_forward(fixed, variable, move):
    """Forward of an expiry in a scenario, >= 0.

    fixed     float64  ()  part that does not move, settle units
    variable  float64  ()  part that moves, settle units
    move      float64  ()  relative; -1 and less: the part that moves is worth nothing
    """
    factor = 1.0 + move
    return fixed + variable * factor if factor > 0.0 else fixed
