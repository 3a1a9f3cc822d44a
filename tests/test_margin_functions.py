"""Properties that the engine relies on, of every kind of margin function."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import get_args

import msgspec
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskcore.kernels import margin_function as kernels
from riskcore.venue import MarginFunction
from riskcore.venue.margin_functions import MarginFunctions
from tests.strategies import FUNCTIONS, SHAPES, decimals

KINDS = [kind.__struct_config__.tag for kind in get_args(MarginFunction)]
PRICE, UNIT = 250.0, 0.001
notionals = st.floats(1e-3, 1e8)  # settle units


@numba.njit
def value_and_slope(notional, functions):
    return kernels.margin_requirement(notional, 0, functions), kernels.marginal_requirement(notional, 0, functions)


@st.composite
def maintenance_functions(draw, kind):
    base, part = draw(decimals(5, 100, 3)), Decimal("0.5")
    return msgspec.convert(FUNCTIONS[kind](base, part, False, draw(SHAPES[kind]())), MarginFunction)


def folded(function, interest=0):
    table = MarginFunctions.of([function, function])
    return table, table.folded(np.array([PRICE]), lambda market: Fraction(interest), UNIT)


def required(notional, functions):
    """Requirement and its growth, settle units."""
    value, slope = value_and_slope(notional / UNIT, functions)
    return value * UNIT, slope


def test_every_kind_is_drawn():
    assert set(KINDS) == set(SHAPES) == set(FUNCTIONS)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data(), notionals, notionals)
def test_it_grows_and_its_growth_never_shrinks(kind, data, one, other):
    """So the gap between net equity and requirement is concave in a price and in the lots of a slice."""
    _, functions = folded(data.draw(maintenance_functions(kind)), data.draw(st.integers(0, 10**7)))
    low, high = sorted((one, other))
    (below, slope), (above, slope_above) = required(low, functions), required(high, functions)
    assert 0 < below <= above
    assert 0 <= slope <= slope_above
    # the tangents at both ends are below the function
    assert above >= below + slope * (high - low) - 1e-9 * above
    assert below >= above - slope_above * (high - low) - 1e-9 * above


@pytest.mark.parametrize("kind", KINDS)
@given(st.data(), st.integers(0, 4), st.sampled_from([-1, 1]))
def test_it_has_no_step(kind, data, segment, off):
    """Next to an edge of a segment, of the flat rate and of the minimum too."""
    function = data.draw(maintenance_functions(kind))
    _, functions = folded(function)
    edges = [
        *functions.segments[:, 0],
        functions.flat_notional[0],
        functions.minimum[0] / functions.segments[0, kernels.RATE],
    ]
    edge = edges[segment % len(edges)]
    if 0 < edge < math.inf:
        at = required(edge * UNIT, functions)[0]
        assert math.isclose(at, required(edge * UNIT * (1 + off * 1e-12), functions)[0], rel_tol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data(), notionals)
def test_it_is_its_exact_value(kind, data, notional):
    interest = data.draw(st.integers(0, 10**7))
    table, functions = folded(data.draw(maintenance_functions(kind)), interest)
    with localcontext(prec=60):
        exact = table.requirement(1, Decimal(notional), Decimal(PRICE), lambda market: Fraction(interest))
    assert math.isclose(required(notional, functions)[0], exact, rel_tol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_it_outgrows_twice_the_notional_where_it_says_so(kind, data):
    _, functions = folded(data.draw(maintenance_functions(kind)))
    notional = outgrowing(functions)
    if notional < math.inf:
        assert value_and_slope(notional, functions)[0] >= 2 * notional * (1 - 1e-12)
    else:
        assert value_and_slope(1e18, functions)[0] < 2e18


@numba.njit
def outgrowing(functions):
    return kernels.outgrowing_notional(0, functions)
