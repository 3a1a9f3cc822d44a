"""Terms, scenarios and option values of a tick under a model: everything that needs a logarithm or an exponential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError
from ..kernels import volatility_shocks as shocks
from ..kernels.black76 import black76_values
from ..kernels.scenario_layouts import COLUMNS
from ..kernels.scenario_table import OptionColumns, fill_option_values
from ..kernels.volatility_shocks import SkewFigures, VolatilityShocks
from .instruments import Instruments, Kind
from .model import SKEWS, Scenario, ScenarioModel, SkewShock, Vol
from .scenario_market import ScenarioMarket

HOURS_PER_YEAR = 8_760.0

_RULES = {
    Vol.SAME: shocks.SAME,
    Vol.UP: shocks.UP,
    Vol.DOWN: shocks.DOWN,
    Vol.POINTS_UP: shocks.POINTS_UP,
    Vol.POINTS_DOWN: shocks.POINTS_DOWN,
    Vol.PERCENT_UP: shocks.PERCENT_UP,
    Vol.PERCENT_DOWN: shocks.PERCENT_DOWN,
    Vol.LINEAR: shocks.LINEAR,
    Vol.ABS: shocks.ABS,
    Vol.RELATIVE: shocks.SAME,
    Vol.ABSOLUTE: shocks.SAME,
}
"""Rule of the kernels; a change that the scenario itself gives is in the volatilities already."""


@dataclass(frozen=True)
class Terms:
    """The N terms of a tick under a model.

    Attributes
    ----------
    years, seconds : ndarray of float64, shape (N,)
        Time to expiry.
    given_rate : ndarray of float64, shape (N,)
        Interest rate that the discounts by the sign of a value take.
    discount : ndarray of float64, shape (N,)
        Discount factor.
    fixed, variable : ndarray of float64, shape (N,)
        Part of the forward that the settlement average has fixed, and the part that still moves.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.scenario import Terms
    >>> one = np.ones(1)
    >>> Terms(one, one, one, one, 40_000 * one, 20_000 * one).forward
    array([60000.])
    """

    years: Float
    seconds: Float
    given_rate: Float
    discount: Float
    fixed: Float
    variable: Float

    @property
    def forward(self) -> Float:
        """Forward of record; float64, shape (N,).

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.scenario import Terms
        >>> one = np.ones(1)
        >>> Terms(one, one, one, one, 0 * one, 60_000 * one).forward
        array([60000.])
        """
        return self.fixed + self.variable


def terms_of(instruments: Instruments, market: ScenarioMarket, model: ScenarioModel) -> Terms:
    """Forwards, times and discount factors of the terms of a tick."""
    seconds = np.maximum(instruments.term_expiry - market.time, 0) / 1e9
    years = market.years(instruments)
    given = np.maximum(market.rate, 0.0) if model.rates == "not_negative" else market.rate
    discount = np.ones_like(given) if model.rates == "zero" else np.exp(-given * years)
    forward = market.index[instruments.term_underlying] if model.forward_source == "spot" else market.forward
    window = float(model.window_seconds) if model.window == "average" else 0.0
    inside = seconds < window
    so_far = np.where(np.isnan(market.average), forward, market.average)
    length = window if window > 0.0 else 1.0
    fixed = np.where(inside, so_far * (window - seconds) / length, 0.0)
    variable = np.where(inside, forward * seconds / length, forward)
    return Terms(years, seconds, given, discount, fixed, variable)


def values_of_record(instruments: Instruments, market: ScenarioMarket, model: ScenarioModel | None = None) -> Float:
    """Return the value of each option that counts in equity: the value of record, which changes are taken from.

    Parameters
    ----------
    instruments : Instruments
        The M instruments.
    market : ScenarioMarket
        The data of the tick, of these instruments.
    model : ScenarioModel, optional
        The model, which says where rates, forwards and values come from. Without one the value is that of the given
        forward, rate and volatility.

    Returns
    -------
    ndarray of float64, shape (M,)
        Settle units per base unit; coins per base unit of an option that is settled in coin. NaN of an option without
        forward or volatility, and of all other instruments.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, ScenarioMarket, values_of_record
    >>> names = ["market", "kind", "underlying", "expiry", "strike", "right"]
    >>> row = ("C", "OPTION", "BTC", "2026-01-31T00:00Z", 65_000.0, "C")
    >>> instruments = Instruments.from_frame(pd.DataFrame([row], columns=names))
    >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31T00:00Z"], "forward": [60_000.0]})
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", terms=terms, volatilities={"C": 0.6})
    >>> round(float(values_of_record(instruments, market)[0]), 8)
    2237.8681554
    """
    model = ScenarioModel(window="none") if model is None else model
    rows = np.flatnonzero(instruments.kind == Kind.OPTION)
    values = np.full(len(instruments), np.nan)
    if model.price_source == "mark":
        values[rows] = market.mark[rows]
        return values
    terms, term = terms_of(instruments, market, model), instruments.term[rows]
    forward, found = terms.forward[term], np.empty(len(rows))
    black76_values(
        forward, instruments.strike[rows], market.volatility[rows], terms.years[term], terms.discount[term],
        instruments.is_call[rows], found,
    )  # fmt: skip
    values[rows] = np.where(instruments.inverse[rows], found / forward, found)
    return values


@dataclass(frozen=True)
class Columns:
    """C scenarios of a model for U underlyings, padded.

    Attributes
    ----------
    move, shift, weight, dampener : ndarray of float64, shape (U, C)
        Relative and absolute move, weight, and dampener in the numeraire.
    change : ndarray of float64, shape (U, C)
        Change of the volatility that a scenario itself gives.
    vol : ndarray of int64, shape (C,)
        `Vol`.
    passed : ndarray of float64, shape (C,)
        Years that pass.
    probability : ndarray of float64, shape (C,)
        Of a measure that is not the worst.
    is_stress : ndarray of bool, shape (C,)
        Whether the scenario is of the second set of such a measure.
    """

    move: Float
    shift: Float
    weight: Float
    dampener: Float
    change: Float
    vol: Int
    passed: Float
    probability: Float
    is_stress: Bool

    @property
    def is_skew(self) -> Bool:
        """Whether each scenario turns the skew, and leaves the forward where it is."""
        skewed: Bool = np.isin(self.vol, SKEWS)
        return skewed


def padded(count: int) -> Int:
    """Numbers of the scenarios, the last one repeated until there is a multiple of the padding."""
    length = -(-count // COLUMNS) * COLUMNS
    return np.minimum(np.arange(length), count - 1)


def scenario_columns(model: ScenarioModel, underlyings: tuple[str, ...], index: Float, in_coin: bool) -> Columns:
    """Expand the scenarios of a model into padded columns; ``in_coin``: the numeraire is the coin, at the index.

    Those of the maintenance requirement come first, then those of the initial one where the model has some.
    """
    columns, edge, is_damped = _expanded(model, underlyings)
    if not in_coin:
        return columns
    weight = np.where(is_damped, columns.weight * (1.0 + columns.move) / (1.0 + edge), columns.weight)
    return replace(columns, weight=weight, dampener=columns.dampener / ((1.0 + edge) * index[:, None]))


@lru_cache(maxsize=8)
def _expanded(model: ScenarioModel, underlyings: tuple[str, ...]) -> tuple[Columns, Float, Bool]:
    """Columns in settle units, the edge of the range of each, and whether the change in coin is damped."""
    model.must_cover(underlyings)
    scenarios, numbers = [*model.rows], padded(len(model.rows))
    probability = probabilities_of(model.rows)
    if model.initial_rows is not None:
        numbers = np.append(numbers, len(scenarios) + padded(len(model.initial_rows)))
        scenarios += model.initial_rows
        probability += probabilities_of(model.initial_rows)

    def by_underlying(figure: str) -> Float:
        found = [[getattr(each, figure)(name) for each in scenarios] for name in underlyings]
        return np.ascontiguousarray(np.array(found, np.float64).reshape(len(underlyings), len(scenarios))[:, numbers])

    def by_scenario(figure: str) -> Float:
        return np.array([float(getattr(each, figure)) for each in scenarios])[numbers]

    columns = Columns(
        move=by_underlying("move_of"),
        shift=by_underlying("shift_of"),
        change=by_underlying("vol_change_of"),
        weight=np.tile(by_scenario("weight"), (len(underlyings), 1)),
        dampener=np.tile(by_scenario("dampener"), (len(underlyings), 1)),
        vol=by_scenario("vol").astype(np.int64),
        passed=by_scenario("hours") / HOURS_PER_YEAR,
        probability=np.array([float(each) for each in probability])[numbers],
        is_stress=by_scenario("stress") > 0.0,
    )
    return columns, by_scenario("edge"), by_scenario("coin_tail") > 0.0


def probabilities_of(scenarios: Sequence[Scenario]) -> list[Fraction]:
    """Probability of each scenario in its set: in proportion to the given ones; equal where none is given."""
    given = [Fraction(1) if each.probability is None else each.probability for each in scenarios]
    total = {is_stress: Fraction(0) for is_stress in (False, True)}
    for probability, each in zip(given, scenarios, strict=True):
        total[each.stress] += probability
    return [p / (total[each.stress] or 1) for p, each in zip(given, scenarios, strict=True)]


@dataclass(frozen=True)
class OptionRecord:
    """Options of a tick, O of them: values of record, Greeks, and shocked values, settle units.

    Attributes
    ----------
    rows : ndarray of int64, shape (O,)
        The instruments, by expiry and strike.
    value : ndarray of float64, shape (O,)
        Model value.
    greeks : ndarray of float64, shape (O, 4)
        Delta, gamma, vega, theta.
    basis : ndarray of float64, shape (O, 2)
        Change by the two moves of the basis contingency.
    decay : ndarray of float64, shape (O,)
        Change as the hours of the theta charge pass.
    shocked : ndarray of float64, shape (O, C)
        Value in each scenario.
    forward : ndarray of float64, shape (O, C)
        Forward in each scenario.
    """

    rows: Int
    value: Float
    greeks: Float
    basis: Float
    decay: Float
    shocked: Float
    forward: Float


def price_options(
    instruments: Instruments,
    market: ScenarioMarket,
    model: ScenarioModel,
    terms: Terms,
    columns: Columns,
    basis: Float,
    decay: float,
) -> OptionRecord:
    """Prices all options in all scenarios; an option without volatility or forward has NaN.

    ``basis`` is the up and the down move of each underlying, shape (2, U); ``decay`` the years of the theta charge.
    """
    rows = np.flatnonzero(instruments.kind == Kind.OPTION)
    rows = rows[np.argsort(instruments.rank[rows])]
    term, count, width = instruments.term[rows], len(rows), len(columns.vol)
    options = OptionColumns(
        fixed=terms.fixed[term],
        variable=terms.variable[term],
        strike=instruments.strike[rows],
        volatility=market.volatility[rows],
        base=_base_volatility(instruments, market, model, terms, rows, columns),
        years=terms.years[term],
        discount=terms.discount[term],
        is_call=instruments.is_call[rows],
        underlying=instruments.underlying[rows],
        is_skewed=columns.is_skew,
        rule=np.array([_RULES[Vol(vol)] for vol in columns.vol], np.int64),
        move=columns.move,
        shift=columns.shift,
        passed=columns.passed,
        up=basis[0],
        down=basis[1],
        decay=decay,
    )
    record = OptionRecord(
        rows,
        value=np.empty(count),
        greeks=np.empty((count, 4)),
        basis=np.empty((count, 2)),
        decay=np.empty(count),
        shocked=np.empty((count, width)),
        forward=np.empty((count, width)),
    )
    linear, absolute = (_skew_figures(each) for each in (model.skew.linear, model.skew.abs))
    fill_option_values(
        options, _shock_figures(model), linear, absolute, np.empty(width), record.value, record.greeks, record.basis,
        record.decay, record.shocked, record.forward,
    )  # fmt: skip
    return record


def _base_volatility(
    instruments: Instruments, market: ScenarioMarket, model: ScenarioModel, terms: Terms, rows: Int, columns: Columns
) -> Float:
    """Volatility of each option in each scenario before its rule; one column where it is the same in all of them."""
    volatility = market.volatility[rows, None]
    if model.vol_sticky == "moneyness":
        volatility = _moved_volatility(instruments, market, terms, rows, columns)
    if not np.isin(columns.vol, (Vol.RELATIVE, Vol.ABSOLUTE)).any():
        return np.ascontiguousarray(volatility)
    change = columns.change[instruments.underlying[rows]]
    changed = np.where(columns.vol == Vol.RELATIVE, volatility * (1.0 + change), volatility + change)
    return np.where(np.isin(columns.vol, (Vol.RELATIVE, Vol.ABSOLUTE)), np.maximum(changed, 0.0), volatility)


def _moved_volatility(
    instruments: Instruments, market: ScenarioMarket, terms: Terms, rows: Int, columns: Columns
) -> Float:
    """Volatilities that move with the forward: of an option times the surface's ratio of after to before the move."""
    of, term, strike = instruments.underlying[rows], instruments.term[rows], instruments.strike[rows, None]
    volatility = np.repeat(market.volatility[rows, None], len(columns.vol), axis=1)
    factor = np.where(columns.is_skew, 1.0, np.maximum(1.0 + columns.move[of], 0.0))
    shift = np.where(columns.is_skew, 0.0, columns.shift[of])
    before = terms.forward[term, None]
    after = np.maximum(terms.fixed[term, None] + terms.variable[term, None] * factor + shift, 0.0)
    for u in np.unique(of[np.isfinite(volatility[:, 0])]):
        surface = market.surfaces[u] if market.surfaces else None
        if surface is None:
            rule = "must have nodes: vol_sticky of the scenario model is 'moneyness'"
            raise RiskDataError("surface", instruments.underlyings[u], rule)
        own = np.flatnonzero(of == u)
        expiry = instruments.term_expiry[term[own], None]
        old, new = (surface.total_variance(expiry, np.log(strike[own] / level[own])) for level in (before, after))
        volatility[own] *= np.sqrt(np.divide(new, old, out=np.ones_like(new), where=old > 0.0))
    return volatility


def _shock_figures(model: ScenarioModel) -> VolatilityShocks:
    shock = model.vol_shock

    def buckets(rows: Sequence[tuple[Fraction, Fraction]]) -> Float:
        return np.array(rows, np.float64).reshape(-1, 2)

    return VolatilityShocks(
        up=float(shock.up or 0),
        down=float(shock.down or 0),
        p_short=float(shock.p_short),
        p_long=float(shock.p_long),
        dte_floor=float(shock.dte_floor),
        min_vol=float(shock.min_vol),
        floor_down=shock.floor_down,
        points=buckets(shock.points),
        percent=buckets(shock.percent),
    )


def _skew_figures(skew: SkewShock | None) -> SkewFigures:
    """Figures of a skew rule; a model without the rule has no scenario that takes them."""
    if skew is None:
        return SkewFigures(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    return SkewFigures(*(float(getattr(skew, name)) for name in SkewFigures._fields))
