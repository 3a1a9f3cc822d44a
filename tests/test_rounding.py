"""Amounts in natural units become whole numbers as exact arithmetic rounds them."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest

from riskcore.boundary import units
from riskcore.kernels.integer_math import multiply_divide, multiply_divmod

_STEPS = np.array([1e-3, 1.0, 0.5, 1e-8, 0.25, 1000.0, 1 / 3])
_QUANTA = np.array([1e-6, 1e-8, 1e-2, 1e-18, 0.3, 1e-12, 1.0, 7e-5])


def _prices(kind: str, count: int, draw: np.random.Generator) -> np.ndarray:
    odd = 2 * draw.integers(1, 10**6, count) + 1
    found = {
        "decimals": np.round(10.0 ** draw.uniform(-8, 6, count), int(draw.integers(12))),
        "computed": draw.uniform(0, 1e5, count),
        "ties": odd / 2 * 10.0 ** -draw.integers(5, 10, count),
        "written_ties": np.round(odd / 2e6, 7),
        "any_exponent": np.ldexp(draw.uniform(0.5, 1, count), draw.integers(-1074, 60, count)),
        "powers": np.ldexp(1.0, draw.integers(-1074, 60, count)),
    }[kind]
    return np.asarray(np.where(found > 0, found, 5e-324))


@pytest.mark.parametrize("kind", ["decimals", "computed", "ties", "written_ties", "any_exponent", "powers"])
def test_products_are_rounded_as_fractions_of_what_was_written(kind: str) -> None:
    draw = np.random.default_rng(5)
    for size in (5, 10**6, 2**50, 2**62):
        price, lots = _prices(kind, 500, draw), draw.integers(-size, size, 500)
        step, quantum = draw.integers(len(_STEPS), size=500), draw.integers(len(_QUANTA), size=500)
        fits = np.abs(price * lots * _STEPS[step] / _QUANTA[quantum]) < 2.0**61
        price, lots, step, quantum = price[fits], lots[fits], step[fits], quantum[fits]
        steps, unit = units.PerKind(_STEPS, step), units.PerKind(_QUANTA, quantum)
        found = units.round_half_even("positions", "entry_price", [price, lots, steps], unit)
        for n, whole in enumerate(found.tolist()):
            product = Fraction(1)
            for factor in (price[n], lots[n], _STEPS[step[n]]):
                product *= Fraction(repr(float(factor)))
            assert whole == round(product / Fraction(repr(float(_QUANTA[quantum[n]]))))


def test_exact_ties_cost_no_fractions() -> None:
    draw, count = np.random.default_rng(6), 100_000
    lots = 2 * draw.integers(1, 1000, count) + 1
    step = units.PerKind(np.array([0.5]), np.zeros(count, np.int64))
    unit = np.broadcast_to(1e-6, count)
    for digits in (6, 17):  # as written, and as computed
        price = np.round((2 * draw.integers(10**6, 10**8, count) + 1) * 1e-6, digits)
        start = time.process_time()
        found = units.round_half_even("positions", "entry_price", [price, lots, step], unit)
        assert time.process_time() - start < 1.0  # fractions take several seconds
        assert (found % 2 == 0).mean() > 0.9 or digits == 17


def test_products_of_whole_numbers_keep_every_digit() -> None:
    edges = [1, 2, 3, 10**9 - 1, 2**31, 2**60 - 1, 2**60, 2**60 + 1, 2**61 - 1, 2**61, 2**62 - 1]
    draw = np.random.default_rng(7)
    drawn = [int(n) for n in draw.integers(1, 2**62, 12)] + [int(n) for n in 2 ** draw.uniform(0, 62, 12)]
    for whole in edges + drawn:
        for part in {0, 1, 2, whole // 3, whole - 1, whole, whole + 1, 2 * whole - 1, *(n for n in drawn if n < whole)}:
            for value in [0, *edges, *drawn]:
                if not 0 <= part < 2 * whole or value >= (2**62 if part <= whole else 2**61):
                    continue
                product = value * part
                assert tuple(map(int, multiply_divmod(value, part, whole))) == divmod(product, whole)
                assert multiply_divide(value, part, whole) == round(Fraction(product, whole))
                assert multiply_divide(-value, part, whole) == -round(Fraction(product, whole))
    assert tuple(map(int, multiply_divmod(2**60, 2, 2**61))) == (1, 0)
