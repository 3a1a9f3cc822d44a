"""Converts amounts in natural units to whole lots and quanta and back, with the results of decimal arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .._limits import AMOUNT_LIMIT, EXACT_LIMIT, TOTAL_LIMIT
from .._typing import AnyInt, Bool, Float, Int
from .errors import RiskDataError

_BLOCK = 1 << 15
"""Rows per step: intermediate results stay in the cache."""


@dataclass(frozen=True)
class PerKind:
    """A number of each row that depends on its kind alone, as the step size on the market; stored once per kind."""

    values: Float
    kind: AnyInt

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: slice | int) -> Any:
        """Return the numbers of some rows."""
        return self.values[self.kind[rows]]


Numbers = Float | Int | PerKind


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most `_BLOCK` rows."""
    return (slice(first, min(first + _BLOCK, count)) for first in range(0, count, _BLOCK))


def whole_multiples(table: str, column: str, values: Float, unit: Numbers, rule: str) -> Int:
    """``values / unit`` as whole numbers; a ratio that rounding errors do not explain is an error."""
    result = np.empty(len(values), np.int64)
    for rows in blocks(len(values)):
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = values[rows] / unit[rows]
            count = np.rint(ratio)
            slack = np.maximum(1e-6, np.abs(count) * 4 * np.finfo(float).eps)
            bad = np.flatnonzero(~(np.abs(ratio - count) <= slack) | (np.abs(count) >= AMOUNT_LIMIT))
        if bad.size:
            row = rows.start + int(bad[0])
            limit = "" if abs(ratio[bad[0]]) < AMOUNT_LIMIT else " and less than 2**62 of them"
            rule = f"{rule} ({np.format_float_positional(unit[row], trim='-')}){limit}"
            raise RiskDataError(table, column, rule, row=row, value=values[row])
        result[rows] = count
    return result


def exact(value: float) -> Fraction:
    """Return the shortest decimal that reads back as a float: the one that the user wrote.

    Parameters
    ----------
    value : float
        Finite.

    Returns
    -------
    Fraction
        Its decimal, exactly.

    Notes
    -----
    The rule: docs/one_tick.md, "Decimals and whole units".

    Examples
    --------
    >>> from riskcore.boundary import exact
    >>> exact(0.1)
    Fraction(1, 10)
    """
    return Fraction(repr(float(value)))


def natural(amounts: AnyInt, unit: Sequence[Fraction], kind: AnyInt) -> Float:
    """Return amounts of whole units as float64, so that they print as the user wrote them.

    Parameters
    ----------
    amounts : ndarray of int64, shape (N,)
        Numbers of units.
    unit : sequence of Fraction
        Size of a unit, exact, by kind.
    kind : ndarray of int, shape (N,)
        Kind of each amount.

    Returns
    -------
    ndarray of float64, shape (N,)
        Amounts.

    Examples
    --------
    >>> from fractions import Fraction
    >>> import numpy as np
    >>> from riskcore.boundary import natural
    >>> natural(np.array([3, -7]), [Fraction(1, 10), Fraction(5)], np.array([0, 1]))
    array([  0.3, -35. ])
    """
    over, under = np.array([(float(size.numerator), float(size.denominator)) for size in unit]).reshape(-1, 2).T
    quantities: Float = amounts * over[kind] / under[kind]
    return quantities


def round_half_even(table: str, column: str, factors: Sequence[Numbers], *divisors: Numbers) -> Int:
    """``product(factors) / product(divisors)`` rounded half-even to whole numbers, as exact arithmetic would.

    Float64 decides where its error cannot matter; rows near a half are done in whole numbers.
    """
    result = np.empty(len(factors[0]), np.int64)
    for rows in blocks(len(result)):
        ratio = 1.0 / divisors[0][rows]
        with np.errstate(over="ignore", invalid="ignore"):
            for divisor in divisors[1:]:
                ratio = ratio / divisor[rows]
            for factor in factors:
                ratio = ratio * factor[rows]
        bad = np.flatnonzero(~(np.abs(ratio) < AMOUNT_LIMIT))
        if bad.size:
            row = rows.start + int(bad[0])
            raise RiskDataError(table, column, "must be less than 2**62 quanta", row=row, value=factors[0][row])
        result[rows] = np.rint(ratio)
        distance = np.abs(np.abs(ratio - np.floor(ratio)) - 0.5)
        near = np.flatnonzero(distance <= np.abs(ratio) * 8 * np.finfo(float).eps + 1e-9)
        if near.size:
            result[rows.start + near] = _round_half_even(factors, divisors, rows.start + near, ratio[near])
    return result


def _round_half_even(factors: Sequence[Numbers], divisors: Sequence[Numbers], rows: Int, ratio: Float) -> Int:
    """``product(factors) / product(divisors)`` of some rows rounded half-even, exactly; ``ratio`` is it in float64.

    Written as decimals, the numbers give a ratio of two whole numbers. Its float64 quotient is off by a few units at
    most, so that the remainder fits 64 bits even where the products wrap. Rows with too many digits use fractions.
    """
    result = np.floor(ratio).astype(np.int64)
    # bound of the result's error in units, and of the remainder in divisors
    error = np.abs(ratio) * 8 * np.finfo(float).eps + 2
    divisor, exponent, is_exact = _decimals_of(divisors[0], rows)
    for more in divisors[1:]:
        digits, power_of_ten, fits = _decimals_of(more, rows)
        is_exact &= fits & (divisor.astype(float) * digits < TOTAL_LIMIT)
        divisor, exponent = divisor * digits, exponent + power_of_ten
    dividend, exponent = np.ones(len(rows), np.int64), -exponent
    for factor in factors:
        digits, power_of_ten, fits = _decimals_of(factor, rows)
        dividend, exponent, is_exact = dividend * digits, exponent + power_of_ten, is_exact & fits
    is_exact &= np.abs(exponent) < len(_TENS)
    power = _TENS[np.where(is_exact, np.abs(exponent), 0)]
    over, under = np.where(exponent < 0, 1, power), np.where(exponent < 0, power, 1)
    is_exact &= divisor.astype(float) * under * error < TOTAL_LIMIT
    dividend, divisor = dividend * over, np.where(is_exact, divisor * under, 1)
    quotient, rest = np.divmod(dividend - result * divisor, divisor)
    result += quotient
    distance_up = divisor - rest
    result += (rest > distance_up) | ((rest == distance_up) & (result % 2 != 0))
    for row in np.flatnonzero(~is_exact).tolist():
        product = Fraction(1)
        for factor in factors:
            product *= exact(factor[rows[row]])
        for more in divisors:
            product /= exact(more[rows[row]])
        result[row] = round(product)
    return result


def _decimals_of(numbers: Numbers, rows: Int) -> list[Any]:
    """Results of `_decimals` for some rows; computed once per kind."""
    values: npt.NDArray[Any]
    if isinstance(numbers, PerKind):
        values, kind = numbers.values, numbers.kind[rows]
    elif numbers.strides == (0,):
        values, kind = numbers[:1], np.zeros(len(rows), np.int64)
    else:
        return list(_decimals(numbers[rows]))
    digits, exponent, is_exact = _decimals(values)
    for zeros in (8, 4, 2, 1):  # trailing zeros go into the exponent: the product then has fewer digits
        fewer, rest = np.divmod(digits, _TENS[zeros])
        digits, exponent = np.where(rest == 0, fewer, digits), exponent + zeros * (rest == 0)
    return [column[kind] for column in (digits, exponent, is_exact)]


_TENS = 10 ** np.arange(19, dtype=np.int64)
_MAX_DECIMALS = 22  # the largest exact power of ten in float64
_TOLERANCE = 1e-6  # of a unit of the last digit; a product closer to a half is not decided


def _decimals(values: npt.NDArray[Any]) -> tuple[Int, Int, Bool]:
    """Digits and power of ten of each number's shortest decimal, and whether they are known."""
    if values.dtype == np.int64:
        return values, np.zeros_like(values), np.abs(values) <= EXACT_LIMIT
    decimals = 15 - np.ceil(np.frexp(values)[1] * np.log10(2.0))
    first = np.clip(decimals, 0, _MAX_DECIMALS)
    power = 10.0**first
    rounded = np.rint(values * power)
    # no two decimals of 15 digits are the same float64, and no two whole numbers up to 2**53
    is_exact = (np.abs(rounded) <= np.where(first > 0, 1e15, EXACT_LIMIT)) & (rounded / power == values)
    digits, exponent = np.where(is_exact, rounded, 0).astype(np.int64), -first.astype(np.int64)
    longer = np.flatnonzero(~is_exact & (decimals >= 0) & (decimals + 2 <= _MAX_DECIMALS))
    for more in (2, 1) if longer.size else ():  # 17 digits always read back; 16 are shorter if they do
        nearest, reads_back = _nearest(values[longer], 10.0 ** (decimals[longer] + more))
        decided = longer[reads_back > 0]
        digits[decided], exponent[decided] = nearest[reads_back > 0], -(decimals[decided] + more).astype(np.int64)
        is_exact[longer] = (is_exact[longer] | (reads_back > 0)) & ~np.isnan(reads_back)
    return digits, exponent, is_exact


def _nearest(values: npt.NDArray[Any], power: npt.NDArray[Any]) -> tuple[Int, npt.NDArray[Any]]:
    """Nearest whole numbers of ``values * power``, and whether they read back as the values: NaN if unsure."""
    product = values * power
    high, low = _halves(values), _halves(power)
    # the rounding error of the product, exactly (Dekker)
    error = ((high[0] * low[0] - product) + high[0] * low[1] + high[1] * low[0]) + high[1] * low[1]
    whole = np.rint(product)
    distance = (product - whole) + error
    step = np.rint(distance)
    distance = np.abs(distance - step)
    half_spacing = np.spacing(np.abs(values)) / 2 * power
    unsure = (np.abs(distance - half_spacing) < _TOLERANCE) | (distance > 0.5 - _TOLERANCE)
    unsure |= np.abs(np.frexp(values)[0]) == 0.5
    return whole.astype(np.int64) + step.astype(np.int64), np.where(unsure, np.nan, distance < half_spacing)


def _halves(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Upper and lower half of the bits of each number."""
    large = values * (2.0**27 + 1)
    high = large - (large - values)
    return high, values - high
