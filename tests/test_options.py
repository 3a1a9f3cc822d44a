"""Prices, Greeks, shocked volatilities and surfaces of options: 60 digits, worked numbers, limits, planted faults."""

import math
import re
import warnings
from pathlib import Path

import mpmath
import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from riskcore import RiskDataError
from riskcore.kernels import black76 as price_kernels
from riskcore.kernels import volatility_shocks as shocks
from riskcore.options import Greeks, Surface, black76, check_surface, greeks, implied_volatility
from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, load_scenario_model
from tests.option_prices import BAR, RELATIVE_BAR, errors, exact_price, random_cases

DAY = 86_400 * 10**9
START = 1_767_225_600 * 10**9  # 2026-01-01
MONTH, WEEK = 30 / 365, 7 / 365

forwards = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))
strikes = st.floats(1e-6, 1e9)
volatilities = st.one_of(st.just(0.0), st.floats(1e-9, 50.0))
times = st.one_of(st.just(0.0), st.floats(1e-9, 50.0))
discounts = st.floats(0.01, 1.5)
rights = st.sampled_from(["C", "P"])


def compiled(function):
    """An inner kernel, as a function that Python can call."""

    @numba.njit
    def call(*arguments):
        return function(*arguments)

    return call


shocked_volatility = compiled(shocks.shocked_volatility)
shock_multiplier = compiled(shocks.shock_multiplier)
skew_multiplier = compiled(shocks.skew_multiplier)
shocked_forward = compiled(shocks.shocked_forward)


def window_parts(forward, average, seconds, window):
    """Fixed and variable part of the forward of a tick."""
    expiry = pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seconds, "s")
    rows = {"market": ["C"], "kind": "OPTION", "underlying": "X", "expiry": [expiry], "strike": 1.0, "right": "C"}
    instruments = Instruments.from_frame(pd.DataFrame(rows))
    terms = pd.DataFrame({"underlying": ["X"], "expiry": [expiry], "forward": [forward], "average": [average]})
    market = ScenarioMarket.read(instruments, "2026-01-01", terms=terms, volatilities={"C": 0.5}, index={"X": forward})
    window_figures = {"window": "average", "window_seconds": window} if window else {"window": "none"}
    model = load_scenario_model({"scenarios": [{"move": "0.1"}]} | window_figures)
    parts = ScenarioTable.of(model, instruments, market).terms
    return float(parts.fixed[0]), float(parts.variable[0])


# Prices


def test_prices_are_those_of_sixty_digits():
    """The scale is discount * max(forward, strike); 30,000 cases are in tests/option_prices.py."""
    absolute, relative = errors(random_cases(400))
    assert len(relative) > 100
    assert absolute.max() <= BAR
    assert relative.max() <= RELATIVE_BAR


@pytest.mark.parametrize(
    ("arguments", "digits", "value"),
    [
        ((60_000, 65_000, 0.6, MONTH), 8, "2237.86815540"),
        ((60_000, 65_000, 0.6, MONTH, 1.0, "P"), 8, "7237.86815540"),
        ((60_000, 65_000, 0.6, MONTH, math.exp(-0.05 * MONTH)), 8, "2228.69030846"),
        ((60_000, 55_000, 0.6, 0.0), 2, "5000.00"),
        ((60_000, 65_000, 0.0, WEEK, 1.0, "P"), 2, "5000.00"),
        ((60_000, 60_000, 0.6, 1 / 31_536_000), 8, "2.55746243"),
        ((60_000, 240_000, 0.6, WEEK, 1.0, "P"), 2, "180000.00"),
        ((60_000, 1, 0.6, WEEK), 2, "59999.00"),
        ((0, 60_000, 0.6, WEEK, 0.99, "P"), 2, "59400.00"),
    ],
)
def test_worked_prices(arguments, digits, value):
    """E-S1 and E-S2 of the rules."""
    assert f"{black76(*arguments):.{digits}f}" == value


def test_worked_prices_far_from_the_money():
    assert f"{black76(60_000, 240_000, 0.6, WEEK):.7e}" == "5.0750509e-60"
    assert f"{black76(60_000, 30_000, 0.6, WEEK, right='P'):.7e}" == "1.5003091e-14"
    assert f"{float(60_000 - exact_price(60_000, 60_000, 5, 10)):.7e}" == "1.5986678e-10"
    assert 60_000 - black76(60_000, 60_000, 5, 10) == pytest.approx(1.5986678e-10, abs=60_000 * BAR)


def test_worked_greeks():
    value, delta, gamma, vega, theta = greeks(60_000, 65_000, 0.6, MONTH)
    assert f"{delta:.10f}" == "0.3522260125"
    assert f"{gamma:.9e}" == "3.597077737e-05"
    assert (f"{vega:.6f}", f"{theta:.6f}") == ("6386.044859", "-63.860449")
    assert f"{value / 60_000:.10f}" == "0.0372978026"
    assert f"{math.exp(-0.05 * MONTH):.10f}" == "0.9958988438"


@given(forwards, strikes, volatilities, times, discounts)
@example(60_000.0, 60_000.0, 0.6, 1e-9, 1.0)
@example(60_000.0, 1.0, 50.0, 50.0, 1.0)
def test_bounds_and_parity(forward, strike, volatility, years, discount):
    call, put = (black76(forward, strike, volatility, years, discount, right) for right in "CP")
    assert discount * max(forward - strike, 0.0) <= call <= discount * forward
    assert discount * max(strike - forward, 0.0) <= put <= discount * strike
    scale = discount * max(forward, strike)
    assert abs(call - put - discount * (forward - strike)) <= BAR * scale


@given(forwards, strikes, volatilities, times, discounts, rights)
def test_a_price_is_within_its_accuracy(forward, strike, volatility, years, discount, right):
    exact = exact_price(forward, strike, volatility, years, discount, right)
    error = abs(black76(forward, strike, volatility, years, discount, right) - exact)
    assert error <= BAR * discount * max(forward, strike)


@given(st.floats(1e-3, 1e6), st.floats(0.01, 3.0), st.floats(1e-4, 5.0), rights)
def test_a_price_moves_with_strike_and_volatility(forward, volatility, years, right):
    """Rounding apart: neither the price by strike nor the price by volatility turns back."""
    strike = forward * np.exp(np.linspace(-3, 3, 200))
    by_strike = np.diff(black76(forward, strike, volatility, years, right=right))
    assert np.all((by_strike if right == "P" else -by_strike) >= -BAR * strike[1:].clip(forward))
    by_volatility = np.diff(black76(forward, strike[:, None], np.linspace(0, 3, 50), years, right=right))
    assert np.all(by_volatility >= -BAR * strike[:, None].clip(forward))


@given(rights, st.floats(0.5, 2.0))
def test_without_time_or_volatility_the_value_is_intrinsic(right, ratio):
    forward, strike = 100.0, 100.0 * ratio
    intrinsic = 0.98 * max(forward - strike if right == "C" else strike - forward, 0.0)
    for volatility, years in ((0.0, 1.0), (1.0, 0.0), (1e-12, 1e-12)):
        found = greeks(forward, strike, volatility, years, 0.98, right)
        assert found.value == pytest.approx(intrinsic, abs=1e-9)
        if volatility * years == 0.0:
            step = 0.5 if forward == strike else float(forward > strike)
            assert found == Greeks(found.value, 0.98 * (step if right == "C" else step - 1.0), 0.0, 0.0, 0.0)


def test_one_forward_of_zero_has_the_greeks_of_no_chance():
    assert greeks(0.0, 100.0, 0.5, 1.0, 0.9, "P") == Greeks(90.0, -0.9, 0.0, 0.0, 0.0)
    assert greeks(0.0, 100.0, 0.5, 1.0, 0.9) == Greeks(0.0, 0.0, 0.0, 0.0, 0.0)


@given(st.floats(1.0, 1e5), st.floats(-1.5, 1.5), st.floats(0.05, 2.0), st.floats(0.01, 3.0), rights)
def test_greeks_are_derivatives(forward, moneyness, volatility, years, right):
    """Against the differences of exact prices."""
    strike, discount = forward * math.exp(moneyness), 0.97
    found = greeks(forward, strike, volatility, years, discount, right)
    f, s, t, h = (mpmath.mpf(x) for x in (forward, volatility, years, "1e-15"))

    def price(up=0, vol=0, time=0):
        return exact_price(f * (1 + up), strike, s + vol, t + time, discount, right)

    def difference(**step):
        low = {name: -value for name, value in step.items()}
        return (price(**step) - price(**low)) / (2 * h)

    scale = discount * max(forward, strike)
    assert found.value == pytest.approx(float(price()), abs=BAR * scale)
    assert found.delta == pytest.approx(float(difference(up=h) / f), rel=1e-9, abs=1e-14)
    curvature = (price(up=h) - 2 * price() + price(up=-h)) / (f * h) ** 2
    assert found.gamma == pytest.approx(float(curvature), rel=1e-9, abs=1e-12 / forward)
    assert found.vega == pytest.approx(float(difference(vol=h)), rel=1e-9, abs=1e-12 * scale)
    assert found.theta == pytest.approx(float(-difference(time=h)) / 365, rel=1e-9, abs=1e-12 * scale)


@given(st.floats(1.0, 1e5), st.floats(-1.0, 1.0), st.floats(0.01, 3.0), st.floats(0.001, 3.0), discounts, rights)
def test_an_implied_volatility_gives_its_price(forward, moneyness, volatility, years, discount, right):
    strike = forward * math.exp(moneyness)
    price = black76(forward, strike, volatility, years, discount, right)
    implied = implied_volatility(price, forward, strike, years, discount, right)
    again = black76(forward, strike, implied, years, discount, right)
    assert abs(again - price) <= BAR * discount * max(forward, strike)


def test_no_volatility_gives_an_impossible_price():
    assert np.isnan(implied_volatility([-1.0, 4_999.0, 60_000.0, 70_000.0], 60_000, 55_000, MONTH)).all()
    assert np.isnan(implied_volatility(6_000.0, 60_000, 55_000, 0.0))
    assert implied_volatility(5_000.0, 60_000, 55_000, MONTH) == 0.0


def test_the_kernels_of_arrays_and_of_scalars_agree():
    cases = random_cases(100)
    arrays = [cases[name] for name in ("forward", "strike", "volatility", "years", "discount")]
    one = compiled(price_kernels.black76_value)
    scalars = [one(*row, right == "C") for *row, right in zip(*arrays, cases["right"], strict=True)]
    assert np.array_equal(black76(**cases), scalars)
    assert np.array_equal(greeks(**cases).value, scalars)


# The arguments


def test_arguments_broadcast():
    strike = np.array([55_000.0, 60_000.0, 65_000.0])
    assert isinstance(black76(60_000, 65_000, 0.6, MONTH), float)
    grid = black76(60_000, strike, [[0.5], [0.6]], MONTH, right=["C", "P", "C"])
    assert grid.shape == (2, 3)
    assert grid[1, 1] == black76(60_000, 60_000, 0.6, MONTH, right="P")
    assert black76([], strike[:0], 0.6, MONTH).shape == (0,)
    assert np.isnan(black76(60_000, [np.nan, 60_000], [0.6, np.nan], MONTH)).all()
    assert np.isnan(greeks(60_000, np.nan, 0.6, MONTH)).all()


def test_columns_keep_their_index():
    frame = pd.DataFrame({"strike": [55_000, 60_000], "volatility": [0.6, 0.55], "right": ["C", "P"]}, index=["a", "b"])
    prices = black76(60_000, frame["strike"], frame["volatility"], MONTH, right=frame["right"])
    assert prices.index.equals(frame.index)
    assert prices["b"] == black76(60_000, 60_000, 0.55, MONTH, right="P")
    nullable = frame["strike"].astype("Float64").mask(frame["strike"] == 55_000)
    assert black76(60_000, nullable, 0.6, MONTH).isna().tolist() == [True, False]
    assert greeks(60_000, frame["strike"], 0.6, MONTH).delta.index.equals(frame.index)


STRIKE = pd.Series([1.0, 2.0], index=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strike": 0.0}, "options.strike, value 0.0: must be from 1e-30 to 1e+30"),
        ({"forward": [1.0, -1.0]}, "options.forward, row 1, value -1.0: must be from 0.0 to 1e+30"),
        ({"volatility": math.inf}, "options.volatility, value inf: must be from 0.0 to 1e+30"),
        ({"years": -1e-9}, "options.years, value -1e-09: must be from 0.0 to 1e+30"),
        ({"discount": 0}, "options.discount, value 0.0: must be from 1e-30 to 1e+30"),
        ({"right": ["C", "call"]}, "options.right, row 1, value 'call': must be C or P"),
        ({"right": None}, "options.right: must be C or P"),
        ({"forward": True}, "options.forward: must be numbers"),
        ({"forward": [None, 1.0]}, "options.forward: must be numbers"),
        ({"forward": "1.0"}, "options.forward: must be numbers"),
        ({"forward": [1.0, 2.0], "strike": [1.0, 2.0, 3.0]}, "options: must have shapes that broadcast together"),
        ({"forward": STRIKE, "strike": STRIKE[::-1]}, "options.strike: must have the index of forward"),
        ({"forward": STRIKE, "strike": [[1.0], [2.0]]}, "options: must have one number or 2 beside a Series"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    usual = {"forward": 100.0, "strike": 100.0, "volatility": 0.5, "years": 1.0}
    with pytest.raises(RiskDataError, match=f"^{re.escape(message)}"):
        black76(**(usual | arguments))


# Volatilities and forwards in a scenario

FIGURES = shocks.VolatilityShocks(
    up=0.5,
    down=0.275,
    p_short=0.3,
    p_long=0.13,
    dte_floor=1.0,
    min_vol=0.45,
    floor_down=True,
    points=np.array([[0.0, 0.5], [30.0, 0.35], [60.0, 0.25]]),
    percent=np.array([[10.0, 0.4], [20.0, 0.2]]),
)
NO_BUCKETS = FIGURES._replace(points=np.empty((0, 2)), percent=np.empty((0, 2)))


@pytest.mark.parametrize(
    ("days", "multiplier"),
    [(14, "1.25689201"), (7, "1.54741558"), (60, "0.91383145"), (30, "1.00000000"), (1, "2.77419111")],
)
def test_worked_multipliers(days, multiplier):
    """E-S6, E-S8 and E-S19 of the rules; under a day it stays that of one day."""
    assert f"{shock_multiplier(float(days), 1.0, 0.3, 0.13):.8f}" == multiplier
    if days == 1:
        assert shock_multiplier(600 / 86_400, 1.0, 0.3, 0.13) == shock_multiplier(1.0, 1.0, 0.3, 0.13)


def test_relative_shocks():
    assert f"{shocked_volatility(shocks.UP, 0.55, 14.0, FIGURES):.8f}" == "0.89564530"  # E-S6
    grid = FIGURES._replace(down=0.25, min_vol=0.5)
    near, far = (0.60, 7.0), (0.55, 60.0)  # E-S8
    assert [f"{shocked_volatility(shocks.UP, *one, grid):.8f}" for one in (near, far)] == ["1.06422467", "0.80130365"]
    assert [f"{shocked_volatility(shocks.DOWN, *one, grid):.8f}" for one in (near, far)] == ["0.36788766", "0.42434818"]
    assert (
        shocked_volatility(shocks.UP, 0.20, 30.0, FIGURES) == 0.45
    )  # not 0.30: the floor is of the shocked volatility
    steep = FIGURES._replace(down=0.5)
    assert shocked_volatility(shocks.DOWN, 0.5, 1.0, steep) == 0.0
    assert shocked_volatility(shocks.DOWN, 0.5, 1.0, steep._replace(floor_down=False)) < 0.0
    assert shocked_volatility(shocks.SAME, 0.5, 1.0, FIGURES) == 0.5


@pytest.mark.parametrize(
    ("days", "points", "percent"),
    [(0.0, 0.5, 0.4), (15.0, 0.425, 0.3), (30.0, 0.35, 0.2), (45.0, 0.3, 0.2), (60.0, 0.25, 0.2), (400.0, 0.25, 0.2)],
)
def test_shocks_by_expiry_bucket(days, points, percent):
    for rule, expected in [
        (shocks.POINTS_UP, 0.6 + points),
        (shocks.POINTS_DOWN, 0.6 - points),
        (shocks.PERCENT_UP, 0.6 * (1 + percent)),
        (shocks.PERCENT_DOWN, 0.6 * (1 - percent)),
    ]:
        assert shocked_volatility(rule, 0.6, days, FIGURES) == pytest.approx(expected, abs=1e-15)
        assert shocked_volatility(rule, 0.6, days, NO_BUCKETS) == 0.6
    assert shocked_volatility(shocks.POINTS_DOWN, 0.1, days, FIGURES) == 0.0


def test_skew():
    """The arithmetic of the rule by hand, on both sides of zero and at each cap."""
    skew = shocks.SkewFigures(cbase=-0.05, cap=0.15, min_k=0.01, width=4.0, vol_static=0.6, vol_scale=-0.1)
    years = 0.25  # root 0.5: cap 0.125, full change at 0.5 * 4 * (0.6 - 0.05) = 1.1
    assert skew_multiplier(0.55, years, skew) == pytest.approx(1.0625)
    assert skew_multiplier(-0.55, years, skew) == pytest.approx(0.9375)
    assert (skew_multiplier(3.0, years, skew), skew_multiplier(-3.0, years, skew)) == (1.125, 0.875)
    assert skew_multiplier(0.005, 0.0, skew) == pytest.approx(1.075)  # the least log-moneyness of the full change
    assert skew_multiplier(0.0, years, skew) == 1.0
    assert skew_multiplier(-9.0, 0.0, skew._replace(cap=1.5)) == 0.0
    bare = skew._replace(min_k=0.0)
    assert [skew_multiplier(k, 0.0, bare) for k in (-1e-9, 0.0, 1e-9)] == [0.85, 1.0, 1.15]


def test_settlement_window():
    """E-S19 of the rules."""
    fixed, variable = window_parts(60_000.0, math.nan, 600.0, 1_800.0)
    assert (fixed, variable) == (40_000.0, 20_000.0)
    assert shocked_forward(fixed, variable, 0.18) == 63_600.0
    years = 600 / 31_536_000
    volatility = shocked_volatility(shocks.UP, 0.5, 600 / 86_400, FIGURES)
    value, shocked = black76(fixed + variable, 59_000, 0.5, years), black76(63_600.0, 59_000, volatility, years)
    assert (f"{value:.6f}", f"{value - shocked:.6f}") == ("1000.000000", "-3600.000000")
    assert window_parts(60_000.0, 59_000.0, 600.0, 1_800.0) == (pytest.approx(59_000 * 2 / 3), 20_000.0)
    assert window_parts(60_000.0, 59_000.0, 0.0, 1_800.0) == (59_000.0, 0.0)
    for seconds, window in ((1_800.0, 1_800.0), (1e7, 1_800.0), (0.0, 0.0)):
        assert window_parts(60_000.0, 59_000.0, seconds, window) == (0.0, 60_000.0)
    assert (shocked_forward(0.0, 60_000.0, -1.5), shocked_forward(10.0, 60_000.0, -1.0)) == (0.0, 10.0)


# Surfaces

NODES = {
    30: (60_300, {50_000: 0.66, 55_000: 0.60, 60_000: 0.56, 65_000: 0.57, 75_000: 0.64}),
    90: (61_000, {45_000: 0.68, 55_000: 0.61, 60_000: 0.58, 70_000: 0.58, 90_000: 0.66}),
}


def at(days):
    return START + round(days * DAY)


def tables(slices):
    nodes = [("BTC", at(days), strike, sigma) for days, (_, nodes) in slices.items() for strike, sigma in nodes.items()]
    terms = pd.DataFrame([("BTC", at(days), forward) for days, (forward, _) in slices.items()])
    frame = pd.DataFrame(nodes, columns=["underlying", "expiry", "strike", "volatility"])
    return frame, terms.set_axis(["underlying", "expiry", "forward"], axis=1)


def surface_of(slices, index=60_000):
    nodes, terms = tables(slices)
    return Surface.read(nodes.sample(frac=1, random_state=1), START, terms.iloc[::-1], index=index)


SURFACE = surface_of(NODES)


def test_worked_surface():
    """E-S3 of the rules."""
    forward = SURFACE.forward_at(at(60))
    k30, k60 = math.log(62_000 / 60_300), math.log(62_000 / forward)
    assert (f"{k30:.10f}", f"{k60:.10f}", f"{forward:.6f}") == ("0.0278022813", "0.0220314011", "60648.990099")
    assert f"{SURFACE.total_variance(at(30), k30):.10f}" == "0.0261558157"
    found = [SURFACE.total_variance(at(days), k60) for days in (30, 90, 60)]
    assert [f"{w:.10f}" for w in found] == ["0.0260888539", "0.0829479452", "0.0545183996"]
    found = SURFACE.volatility([at(30), at(60), at(30)], [62_000, 62_000, 100_000])
    assert [f"{sigma:.8f}" for sigma in found] == ["0.56411798", "0.57589374", "0.64000000"]
    early = SURFACE.volatility(at(7), SURFACE.forward_at(at(7)))
    late = SURFACE.volatility(at(180), SURFACE.forward_at(at(180)))
    assert (f"{early:.8f}", f"{late:.8f}") == ("0.56062832", "0.58000000")
    k = np.log(np.concatenate([np.array(list(nodes)) / forward for forward, nodes in NODES.values()]))
    gap = SURFACE.total_variance(at(90), k) - SURFACE.total_variance(at(30), k)
    assert (f"{gap.min():.10f}", f"{k[gap.argmin()]:.8f}") == ("0.0532000822", "0.13762138")
    assert SURFACE.check().empty


def test_a_surface_has_the_volatilities_of_its_nodes():
    found = SURFACE.volatility(SURFACE.node_expiry, SURFACE.node_strike)
    np.testing.assert_allclose(found, SURFACE.node_volatility, rtol=4e-16)
    assert [SURFACE.forward_at(at(days)) for days in NODES] == [60_300, 61_000]


@given(st.floats(0.0, 150.0), st.floats(-1.5, 1.5))
@example(30.0, 0.0)
@example(90.0, 0.3)
def test_a_surface_is_continuous(days, k):
    here = SURFACE.total_variance(at(days), k)
    assert SURFACE.total_variance(at(days) + 1, k) == pytest.approx(here, abs=1e-12)
    assert SURFACE.total_variance(at(days), k + 1e-12) == pytest.approx(here, abs=1e-11)
    assert SURFACE.forward_at(at(days) + 1) == pytest.approx(SURFACE.forward_at(at(days)), rel=1e-12)


def test_times_outside_the_expiries():
    k = np.linspace(-0.5, 0.5, 11)
    near, far = SURFACE.total_variance(at(30), k), SURFACE.total_variance(at(90), k)
    np.testing.assert_allclose(SURFACE.total_variance(at(10), k), near / 3)
    np.testing.assert_allclose(SURFACE.total_variance(at(180), k), far * 2)
    assert SURFACE.total_variance(START, 0.0) == SURFACE.volatility(START - DAY, 60_000) == 0.0
    assert SURFACE.forward_at(START) == 60_000
    assert SURFACE.forward_at(at(15)) == pytest.approx(math.sqrt(60_000 * 60_300))
    assert SURFACE.forward_at(at(365)) == 61_000
    assert surface_of(NODES, index=None).forward_at(at(15)) == 60_300


def test_forms_of_a_surface():
    flat = surface_of({30: (100.0, {100.0: 0.5})})
    assert flat.volatility(pd.Timestamp(at(30)), 250.0) == 0.5
    np.testing.assert_allclose(flat.volatility("2026-01-08", [50.0, 400.0]), 0.5)
    assert flat.volatility([[at(3)], [at(300)]], [1.0, 2.0, 3.0]).shape == (2, 3)
    assert flat.check().empty
    nodes, terms = tables(NODES)
    expired = Surface.read(nodes, at(30), terms, index=60_000)
    assert set(expired.node_expiry) == {at(90)}
    none = Surface.read(nodes, at(365), terms)
    assert np.isnan(none.volatility(at(400), 60_000))
    assert np.isnan(none.forward_at(at(400)))
    assert SURFACE.volatility(np.empty(0, np.int64), []).shape == SURFACE.forward_at([]).shape == (0,)
    other = Surface.read(nodes, START, terms, underlying="ETH")
    assert (other.underlying, len(other.node_strike)) == ("ETH", 0)


def test_a_calendar_spread_between_nodes_is_found():
    """Each node of one expiry is fine against the nodes of the other at the nearest strikes; the wings are flat."""
    far = {50_000: 0.66, 70_000: 0.66}
    near = {50_000: 0.66, 60_000: 1.20, 70_000: 0.66}
    crossed = surface_of({30: (60_000, near), 60: (60_000, far)})
    found = crossed.check()
    calendar = found[found["rule"] == "calendar"]
    assert calendar["strike"].tolist() == pytest.approx([60_000])  # no node of the later expiry
    assert calendar["expiry"].tolist() == [at(30)]
    assert calendar["excess"].tolist() == pytest.approx([(1.2**2 * 30 - 0.66**2 * 60) / 365])
    # beyond both ends: the later expiry has one low node at the far right
    wing = surface_of({30: (60_000, {60_000: 0.6}), 60: (60_000, {60_000: 0.6, 90_000: 0.4})})
    assert wing.check()["strike"].tolist() == pytest.approx([90_000])
    # the forwards differ: at equal strikes there is no crossing, at equal moneyness there is
    shifted = {30: (60_000, {60_000: 0.8, 90_000: 0.5}), 60: (90_000, {60_000: 0.8, 90_000: 0.5})}
    assert "calendar" in surface_of(shifted).check()["rule"].tolist()


smiles = st.dictionaries(st.integers(20, 140).map(lambda n: 1_000.0 * n), st.floats(0.2, 1.0), min_size=1, max_size=6)


@given(smiles, smiles, st.integers(31, 90), st.floats(50_000, 70_000))
def test_the_calendar_check_is_exact(near, far, days, forward):
    """Against a grid of log-moneyness, which can only find what the nodes find."""
    surface = surface_of({30: (60_000, near), days: (forward, far)})
    k = np.linspace(-2, 2, 4_001)
    low, high = (surface.total_variance(at(each), k) for each in (30, days))
    found = surface.check()
    found = found[found["rule"] == "calendar"]
    excess = found["excess"].max() if len(found) else 0.0
    assert (low - high).max() <= excess + 1e-12
    for _, row in found.iterrows():
        nodes = [surface.total_variance(at(each), row["log_moneyness"]) for each in (30, days)]
        assert row["excess"] == pytest.approx(nodes[0] - nodes[1])
        assert row["strike"] == pytest.approx(60_000 * math.exp(row["log_moneyness"]))


def test_equal_total_variances_are_no_arbitrage():
    slices = {days: (60_000, {60_000: math.sqrt(0.05 * 365 / days)}) for days in range(20, 400, 7)}
    assert surface_of(slices).check().empty


def test_a_butterfly_is_found():
    fine = {strike: 0.6 for strike in range(40_000, 90_000, 5_000)}
    assert surface_of({30: (60_000, fine)}).check().empty
    found = surface_of({30: (60_000, fine | {65_000: 0.75})}).check()
    assert found[["rule", "strike"]].to_numpy().tolist() == [["butterfly", 65_000.0]]
    prices = [black76(60_000, strike, fine[strike], 30 / 365) for strike in (60_000, 70_000)]
    excess = black76(60_000, 65_000, 0.75, 30 / 365) - sum(prices) / 2
    assert found["excess"].tolist() == pytest.approx([excess])


def test_a_rising_price_is_found():
    found = surface_of({30: (60_000, {70_000: 0.3, 71_000: 0.6})}).check()
    assert found[["rule", "strike"]].to_numpy().tolist() == [["slope", 71_000.0]]
    found = surface_of({30: (60_000, {50_000: 0.6, 51_000: 0.2})}).check()
    assert found[["rule", "strike"]].to_numpy().tolist() == [["slope", 51_000.0]]


@given(st.floats(0.05, 3.0), st.integers(1, 700))
def test_a_flat_surface_has_no_arbitrage(volatility, days):
    """Deep strikes too, where prices differ by rounding."""
    strikes = np.concatenate([np.arange(1.0, 40.0), np.arange(1_000, 400_000, 7_300)])
    assert surface_of({days: (60_000, dict.fromkeys(strikes, volatility))}).check().empty


def test_what_a_check_does():
    crossed = surface_of({30: (60_000, {60_000: 0.9}), 60: (60_000, {60_000: 0.5})})
    message = r"^surface.BTC: must have no arbitrage: 1 violation, the first: calendar by .* strike 60000$"
    with pytest.warns(UserWarning, match=message):
        check_surface(crossed)
    with pytest.raises(RiskDataError, match=message):
        check_surface(crossed, "refuse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_surface(crossed, "off")
        check_surface(SURFACE, "warn")
    with pytest.raises(RiskDataError, match=r"^surface_check, value 'maybe': must be one of warn, refuse, off$"):
        check_surface(SURFACE, "maybe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volatility": -0.1}, "surface.volatility, row 0, value -0.1: must be a finite number >= 0"),
        ({"strike": 0.0}, "surface.strike, row 0, value 0.0: must be a finite number > 0"),
        ({"strike": 55_000}, "surface.underlying+expiry+strike, row 1"),
        ({"expiry": at(31)}, "terms.forward, row BTC: must have a forward for 2026-02-01 00:00:00+00:00"),
        ({"underlying": None}, "surface.underlying, row 0, value nan: must not be missing"),
    ],
)
def test_bad_surfaces_are_refused(change, message):
    nodes, terms = tables(NODES)
    for name, value in change.items():
        nodes[name] = nodes[name].astype(object).where(nodes.index > 0, value)
    with pytest.raises(RiskDataError, match=f"^{re.escape(message)}"):
        Surface.read(nodes, START, terms)


def test_bad_arguments_of_a_surface_are_refused():
    nodes, terms = tables(NODES)
    with pytest.raises(RiskDataError, match=r"^index.BTC, value -1.0: must be from"):
        Surface.read(nodes, START, terms, index=-1)
    with pytest.raises(RiskDataError, match=r"^terms.forward, row BTC: must have a forward"):
        Surface.read(nodes, START, terms[["underlying", "expiry"]])
    with pytest.raises(RiskDataError, match=r"^surface.expiry, row 0, value 'soon': must be a timestamp"):
        SURFACE.volatility("soon", 60_000)


def test_options_take_the_volatilities_of_the_surface():
    rows = [(f"C{days}", "OPTION", "BTC", at(days), 62_000.0, "C") for days in (30, 60, 90)]
    rows += [("F", "DATED", "BTC", at(90), None, None), ("E", "OPTION", "ETH", at(30), 2_000.0, "P")]
    names = ["market", "kind", "underlying", "expiry", "strike", "right"]
    instruments = Instruments.from_frame(pd.DataFrame(rows, columns=names))
    nodes, terms = tables(NODES)
    given = {"terms": terms[:1], "index": {"BTC": 60_000.0}, "marks": {"F": 61_000.0}}
    market = ScenarioMarket.read(instruments, START, surface=nodes, volatilities={"C90": 0.5}, **given)
    assert [f"{sigma:.8f}" for sigma in market.volatility] == ["0.56411798", "0.57589374", "0.50000000", "nan", "nan"]
    assert f"{ScenarioMarket.read(instruments, START, **given).volatility[0]}" == "nan"
    crossed = nodes.assign(volatility=[1.2] * 5 + [0.6] * 5)
    with pytest.warns(UserWarning, match=r"^surface.BTC: must have no arbitrage"):
        ScenarioMarket.read(instruments, START, surface=crossed, **given)
    ScenarioMarket.read(instruments, START, surface=crossed, surface_check="off", **given)
    with pytest.raises(RiskDataError, match=r"^surface.BTC: must have no arbitrage"):
        ScenarioMarket.read(instruments, START, surface=crossed, surface_check="refuse", **given)
    with pytest.raises(RiskDataError, match=r"^terms.forward, row BTC: must have a forward for 2026-04-01"):
        ScenarioMarket.read(instruments, START, surface=nodes, terms=terms[:1])


def test_the_page_shows_the_numbers_of_its_example():
    page = (Path(__file__).parents[1] / "docs" / "scenario_margin.md").read_text(encoding="utf-8")
    section = page.split("\n## Prices and volatilities\n")[1].split("\n## ")[0]
    example = section.split("\n*Example.* ")[1]
    forward, strike, years = SURFACE.forward_at(at(60)), 62_000, 60 / 365
    k, sigma = math.log(strike / forward), SURFACE.volatility(at(60), strike)
    shocked = shocked_volatility(shocks.UP, sigma, 60.0, FIGURES)
    shown = [f"{forward:,.6f}", f"{k:.10f}"]
    shown += [f"{SURFACE.total_variance(at(days), k):.10f}" for days in (30, 90, 60)]
    shown += [f"{sigma:.8f}", *(f"{black76(forward, strike, sigma, years, right=right):,.8f}" for right in "CP")]
    shown += [f"{greeks(forward, strike, sigma, years).delta:.10f}"]
    shown += [f"{shock_multiplier(60.0, 1.0, 0.3, 0.13):.8f}", f"{shocked:.8f}"]
    shown += [f"{black76(1.18 * forward, strike, shocked, years):,.8f}"]
    assert re.findall(r"[\d,]+\.\d{6,}", example) == shown
    for level, nodes in NODES.values():
        assert all(f"{number:,}" in example for number in (level, *nodes))
        assert all(f"{round(100 * volatility)}" in example for volatility in nodes.values())


def test_a_volatility_that_sticks_to_moneyness_moves_with_the_forward():
    rows = [(f"{right}{days}", "OPTION", "BTC", at(days), 62_000.0, right) for days in (30, 60) for right in "CP"]
    names = ["market", "kind", "underlying", "expiry", "strike", "right"]
    instruments = Instruments.from_frame(pd.DataFrame(rows, columns=names))
    nodes, terms = tables(NODES)
    given = {"terms": terms, "index": {"BTC": 60_000.0}, "volatilities": {"P60": 0.7}}
    market = ScenarioMarket.read(instruments, START, surface=nodes, **given)
    moves = (0.0, 0.1, -0.2, -1.0)
    source = {"scenarios": [{"move": str(move), "vol": "same"} for move in moves], "vol_sticky": "moneyness"}
    table = ScenarioTable.of(load_scenario_model(source), instruments, market)
    for i, (_, _, _, expiry, strike, right) in enumerate(rows):
        years = (expiry - START) / (365 * DAY)
        forward = SURFACE.forward_at(expiry)
        ratio = market.volatility[i] / SURFACE.volatility(expiry, strike)  # 1 but for the option with its own
        for s, move in enumerate(moves):
            k = math.log(strike / (forward * (1 + move))) if move > -1 else math.inf
            sigma = ratio * math.sqrt(SURFACE.total_variance(expiry, k) / years)
            shocked = black76(forward * (1 + move), strike, sigma, years, right=right)
            value = black76(forward, strike, market.volatility[i], years, right=right)
            assert table.change[i, s] == pytest.approx(shocked - value, abs=1e-8)
    assert not table.change[:, 0].any()
    bare = ScenarioMarket.read(instruments, START, **given)
    with pytest.raises(RiskDataError, match=r"^surface.BTC: must have nodes: vol_sticky of the scenario model is"):
        ScenarioTable.of(load_scenario_model(source), instruments, bare)
