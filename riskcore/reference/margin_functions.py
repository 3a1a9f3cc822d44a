"""Margin functions of every kind: the requirement of a notional, in exact numbers or in float64 (`as_number`)."""

from __future__ import annotations

import itertools
from fractions import Fraction

from .numbers import number, square_root


def margin_function(row, as_number=number):
    """`R(notional, price, open interest)` of a row of any kind, all in settle units (Margin of an account)."""
    kinds = {
        "sqrt": square_root_function,
        "linear": linear_function,
        "tiers": tier_function,
        "open_interest": open_interest_function,
    }
    return kinds[row.get("type", "sqrt")](row, as_number)


def square_root_function(row, as_number=number):
    """`R = N * max(base, factor * sqrt(s))` (Margin of an account)."""
    base, factor, by_quantity = as_number(row["base"]), as_number(row["factor"]), row.get("unit") == "quantity"

    def requirement(notional, price=1, interest=None):
        return notional * max(base, factor * square_root(notional / price if by_quantity else notional))

    return requirement


def linear_function(row, as_number=number):
    """`R = max(minimum, N * (base + slope * s))` of N > 0 (Margin of an account)."""
    base, slope, minimum = as_number(row["base"]), as_number(row["slope"]), as_number(row.get("minimum", 0))
    by_quantity = row.get("unit") == "quantity"

    def requirement(notional, price=1, interest=None):
        if not notional:
            return Fraction(0)
        return max(minimum, notional * (base + slope * (notional / price if by_quantity else notional)))

    return requirement


def tier_function(row, as_number=number):
    """`R = N * rate_i - deduction_i` (Margin of an account)."""
    brackets = [(as_number(bracket["from"]), as_number(bracket["rate"])) for bracket in row["brackets"]]
    deductions = [as_number(0)]
    for (_, rate_before), (start, rate) in itertools.pairwise(brackets):
        deductions.append(deductions[-1] + start * (rate - rate_before))
    if row.get("whole"):
        deductions = [as_number(0)] * len(brackets)

    def requirement(notional, price=1, interest=None):
        last = max(sum(start < notional for start, _ in brackets) - 1, 0)
        return notional * brackets[last][1] - deductions[last]

    return requirement


def open_interest_function(row, as_number=number):
    """`R = N * (base + (1 - base) * part)` (Margin of an account)."""
    base, lower, upper = as_number(row["base"]), as_number(row["lower"]), as_number(row["upper"])

    def requirement(notional, price, interest):
        return notional * (base + (1 - base) * min(max((interest - lower) / (upper - lower), 0), 1))

    return requirement


def initial_row(row, default_base=None) -> dict:
    """The figures of the initial margin function of a row, or the default ones."""
    return row.get("imfFunction") or {"base": default_base, "factor": 0}


def maintenance_row(row, default_base=None) -> dict:
    """The figures of the maintenance margin function of a row, or the default ones."""
    if row.get("mmfFunction") is not None:
        return row["mmfFunction"]
    initial = initial_row(row, default_base)
    return initial | {"base": number(initial["base"]) / 2, "factor": number(initial["factor"]) * 6 / 10}


def margin_functions(row, default_base=None, as_number=number) -> tuple:
    """The initial and the maintenance function of a row, or their defaults."""
    rows = initial_row(row, default_base), maintenance_row(row, default_base)
    return margin_function(rows[0], as_number), margin_function(rows[1], as_number)
