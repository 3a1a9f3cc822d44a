"""Amounts in natural units as whole numbers of lots and quanta, exactly as decimal arithmetic gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import RiskDataError

_BLOCK = 1 << 15
"""Rows that are worked on at a time: what a step leaves for the next is then still in the cache."""


@dataclass(frozen=True)
class PerKind:
    """A number of each row that depends on its kind alone, as the step size on the market: not written out by rows."""

    values: npt.NDArray[np.float64]
    kind: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: slice | int) -> Any:
        """Return the numbers of some rows."""
        return self.values[self.kind[rows]]


Int = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64] | Int | PerKind


def blocks(count: int) -> Iterator[slice]:
    """Rows in pieces whose intermediate results stay in the cache, and small."""
    return (slice(first, min(first + _BLOCK, count)) for first in range(0, count, _BLOCK))


def whole(table: str, column: str, values: npt.NDArray[np.float64], unit: Numbers, rule: str) -> npt.NDArray[np.int64]:
    """``values / unit`` as whole numbers; more than a rounding away from one is an error."""
    result = np.empty(len(values), np.int64)
    for rows in blocks(len(values)):
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = values[rows] / unit[rows]
            count = np.rint(ratio)
            slack = np.maximum(1e-6, np.abs(count) * 4 * np.finfo(float).eps)
            bad = np.flatnonzero(~(np.abs(ratio - count) <= slack) | (np.abs(count) >= 2.0**62))
        if bad.size:
            row = rows.start + int(bad[0])
            limit = "" if abs(ratio[bad[0]]) < 2.0**62 else " and less than 2**62 of them"
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


def natural(
    amounts: npt.NDArray[np.integer[Any]], unit: Sequence[Fraction], kind: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float64]:
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
    found: npt.NDArray[np.float64] = amounts * over[kind] / under[kind]
    return found


def half_even(table: str, column: str, factors: Sequence[Numbers], unit: Numbers) -> npt.NDArray[np.int64]:
    """``product(factors) / unit`` rounded half-even to whole numbers, as exact arithmetic would.

    Float64 decides where its error cannot matter; rows near a half are done in whole numbers.
    """
    result = np.empty(len(factors[0]), np.int64)
    for rows in blocks(len(result)):
        ratio = 1.0 / unit[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            for factor in factors:
                ratio = ratio * factor[rows]
        bad = np.flatnonzero(~(np.abs(ratio) < 2.0**62))
        if bad.size:
            row = rows.start + int(bad[0])
            raise RiskDataError(table, column, "must be less than 2**62 quanta", row=row, value=factors[0][row])
        result[rows] = np.rint(ratio)
        distance = np.abs(np.abs(ratio - np.floor(ratio)) - 0.5)
        near = np.flatnonzero(distance <= np.abs(ratio) * 8 * np.finfo(float).eps + 1e-9)
        if near.size:
            result[rows.start + near] = _half_even(factors, unit, rows.start + near, ratio[near])
    return result


def _half_even(factors: Sequence[Numbers], unit: Numbers, rows: Int, ratio: npt.NDArray[np.float64]) -> Int:
    """``product(factors) / unit`` of some rows rounded half-even, exactly; ``ratio`` is the same in float64.

    With decimals for the numbers the ratio is that of two whole numbers. What float64 leaves of it is short, so that
    arithmetic that wraps has it right. What has too many digits for that is done in fractions.
    """
    result = np.floor(ratio).astype(np.int64)
    off = np.abs(ratio) * 8 * np.finfo(float).eps + 2  # the result may be, and the remainder that many divisors
    divisor, exponent, known = _decimals_of(unit, rows)
    dividend, exponent = np.ones(len(rows), np.int64), -exponent
    for factor in factors:
        digits, places, fits = _decimals_of(factor, rows)
        dividend, exponent, known = dividend * digits, exponent + places, known & fits
    known &= np.abs(exponent) < len(_TENS)
    power = _TENS[np.where(known, np.abs(exponent), 0)]
    over, under = np.where(exponent < 0, 1, power), np.where(exponent < 0, power, 1)
    known &= divisor.astype(float) * under * off < 2.0**61
    dividend, divisor = dividend * over, np.where(known, divisor * under, 1)
    more, rest = np.divmod(dividend - result * divisor, divisor)
    result += more
    other = divisor - rest
    result += (rest > other) | ((rest == other) & (result % 2 != 0))
    for at in np.flatnonzero(~known).tolist():
        product = 1 / exact(unit[rows[at]])
        for factor in factors:
            product *= exact(factor[rows[at]])
        result[at] = round(product)
    return result


def _decimals_of(numbers: Numbers, rows: Int) -> list[Any]:
    """What `_decimals` finds of some rows; once for what many rows share."""
    values: npt.NDArray[Any]
    if isinstance(numbers, PerKind):
        values, place = numbers.values, numbers.kind[rows]
    elif numbers.strides == (0,):
        values, place = numbers[:1], np.zeros(len(rows), np.int64)
    else:
        return list(_decimals(numbers[rows]))
    digits, exponent, known = _decimals(values)
    for zeros in (8, 4, 2, 1):  # the fewer digits, the more room for those of the other numbers
        fewer, rest = np.divmod(digits, _TENS[zeros])
        digits, exponent = np.where(rest == 0, fewer, digits), exponent + zeros * (rest == 0)
    return [column[place] for column in (digits, exponent, known)]


_TENS = 10 ** np.arange(19, dtype=np.int64)
_MOST_PLACES = 22  # the largest exact power of ten in float64
_UNSURE = 1e-6  # of a unit of the last digit: float64 tells the shortest decimal by more than that


def _decimals(values: npt.NDArray[Any]) -> tuple[Int, Int, npt.NDArray[np.bool_]]:
    """Digits and power of ten of each number's shortest decimal, and whether they are known."""
    if values.dtype == np.int64:
        return values, np.zeros_like(values), np.abs(values) <= 2**53
    places = 15 - np.ceil(np.frexp(values)[1] * np.log10(2.0))
    first = np.clip(places, 0, _MOST_PLACES)
    power = 10.0**first
    found = np.rint(values * power)
    # no two decimals of 15 digits are the same float64, and no two whole numbers up to 2**53
    known = (np.abs(found) <= np.where(first > 0, 1e15, 2.0**53)) & (found / power == values)
    digits, exponent = np.where(known, found, 0).astype(np.int64), -first.astype(np.int64)
    longer = np.flatnonzero(~known & (places >= 0) & (places + 2 <= _MOST_PLACES))
    for more in (2, 1) if longer.size else ():  # 17 digits always read back; 16 are shorter if they do
        nearest, reads_back = _nearest(values[longer], 10.0 ** (places[longer] + more))
        sure = longer[reads_back > 0]
        digits[sure], exponent[sure] = nearest[reads_back > 0], -(places[sure] + more).astype(np.int64)
        known[longer] = (known[longer] | (reads_back > 0)) & ~np.isnan(reads_back)
    return digits, exponent, known


def _nearest(values: npt.NDArray[Any], power: npt.NDArray[Any]) -> tuple[Int, npt.NDArray[Any]]:
    """Nearest whole numbers of ``values * power``, and whether they read back as the values: NaN if unsure."""
    product = values * power
    high, low = _halves(values), _halves(power)
    # what rounding took from the product, exactly (Dekker)
    error = ((high[0] * low[0] - product) + high[0] * low[1] + high[1] * low[0]) + high[1] * low[1]
    whole = np.rint(product)
    off = (product - whole) + error
    step = np.rint(off)
    off = np.abs(off - step)
    room = np.spacing(np.abs(values)) / 2 * power
    unsure = (np.abs(off - room) < _UNSURE) | (off > 0.5 - _UNSURE) | (np.abs(np.frexp(values)[0]) == 0.5)
    return whole.astype(np.int64) + step.astype(np.int64), np.where(unsure, np.nan, off < room)


def _halves(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Upper and lower half of the bits of each number."""
    large = values * (2.0**27 + 1)
    high = large - (large - values)
    return high, values - high
