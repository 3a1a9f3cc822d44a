"""Exact numbers: decimals, rounding, square roots, and what a fill changes of a cost."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction

INFINITY = float("inf")
MINUTE = 60 * 10**9
HOUR = 3600 * 10**9
MILLISECOND = 10**6
SECOND = 10**9
YEAR_HOURS = 8760
ROUNDING = Fraction(1, 10**12)  # of the gross amounts: the error that the sweep's float64 may make
CLOSE = 10 * ROUNDING  # the same of several steps
CLOSER = ROUNDING / 10  # the same of one step
ROOT_DIGITS = Context(prec=60)
RANKING_DIGITS = Context(prec=50)


def number(x) -> Fraction:
    """The exact number that a user means (Numbers): a float prints as the shortest decimal that reads back as it."""
    return x if isinstance(x, Fraction) else Fraction(str(x))


def exact(x):
    """A whole number as it is, any other as `number` reads it."""
    return x if isinstance(x, int) else number(x)


def figure_of(x):
    """A float64 as it is, any other number as `number` reads it."""
    return x if isinstance(x, float) else number(x)


def approximate(x) -> float:
    """The float64 nearest to the number that a user means."""
    return float(number(x))


def rhe(x) -> int:
    """The nearest whole number, halves to the even one (Numbers): so rounds Python a `Fraction`."""
    return round(x)


def whole(x: Fraction) -> int:
    """A number that must be whole (Numbers)."""
    if x.denominator != 1:
        raise ValueError(f"not a whole number: {x}")
    return x.numerator


def figure(x) -> Fraction | None:
    """A figure that may be missing."""
    return None if x is None else number(x)


def exponent(x: Fraction) -> int:
    """`k` with `2^(k - 1) <= |x| < 2^k` (Integer weights)."""
    least = x.numerator.bit_length() - x.denominator.bit_length()
    return least + 1 if abs(x) >= Fraction(2) ** least else least


def float32(x) -> Fraction:
    """Round x to 24 bits, halves to the even one (3 Book, 5 ADL)."""
    x = Fraction(x)
    if x == 0:
        return x
    unit = Fraction(2) ** (exponent(x) - 24)
    return round(x / unit) * unit


def square_root(x):
    """The square root: exact where it is rational, so that ties of `max` are exact, else to 60 digits; of a float64."""
    if isinstance(x, float):
        return math.sqrt(x)
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    if root**2 == x:
        return root
    return Fraction(ROOT_DIGITS.sqrt(ROOT_DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))))


def ranking_value(x) -> Decimal:
    """Cut x to 50 digits: what is equal on paper stays equal although roots are cut at 60."""
    if x == INFINITY:
        return Decimal(INFINITY)
    return RANKING_DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))


def descending(items, value) -> list:
    """The items by value descending; equal ones stay in the order given, which is ascending everywhere here."""
    return sorted(items, key=lambda item: ranking_value(value(item)), reverse=True)


def times(x, multiplier):
    """`x * multiplier`, unknown if one of them is."""
    return None if x is None or multiplier is None else x * multiplier


def median(*x):
    """The middle one, of two their mean (Guards)."""
    x = sorted(x)
    return (x[(len(x) - 1) // 2] + x[len(x) // 2]) / 2 if len(x) % 2 == 0 else x[len(x) // 2]


def change_of_cost(lots: int, cost: int, change: int, flow: int) -> int:
    """The change of a position's cost when its lots change by `change` for the signed money `flow` (Numbers)."""
    if lots == 0 or (lots > 0) == (change > 0):
        return -flow
    if abs(change) <= abs(lots):
        return -rhe(Fraction(cost * abs(change), abs(lots)))
    return -cost - rhe(Fraction(flow * (abs(change) - abs(lots)), abs(change)))


def part(amount: int, before: int, after: int, size: int) -> int:
    """What a fill carries that brings the lots handed over from `before` to `after` of `size` (Cumulative rounding)."""
    return rhe(Fraction(amount * after, size)) - rhe(Fraction(amount * before, size))
