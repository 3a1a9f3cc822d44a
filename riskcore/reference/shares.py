"""Shares of equity, water-filling, integer weights and the largest number that passes a test."""

from __future__ import annotations

import math
from fractions import Fraction

from .numbers import exponent, figure_of, float32, number

LARGEST = 2**61  # sum of what can be shared of a shortfall


def equity_share(net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """`E * MM_i / maintenance margin` (4 Backstop, 5 ADL)."""
    if maintenance_margin == 0:
        return Fraction(0)
    return figure_of(net_equity) * figure_of(position_maintenance_margin) / figure_of(maintenance_margin)


def zero_price(mark, quantity, net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """The price at which closing every position leaves nothing; `quantity` is signed (4 Backstop)."""
    share = equity_share(net_equity, position_maintenance_margin, maintenance_margin)
    return number(mark) - share / number(quantity)


def water_fill(lots: int, most: dict, weights: dict | None = None) -> dict:
    """How many of `lots` each one takes, ties in the order of `most` (Water-filling).

    Without weights they are what each can take (3 Book, passes).
    """
    if lots >= sum(most.values()):
        return dict(most)
    taken, weights = dict.fromkeys(most, 0), most if weights is None else weights
    remaining = [one for one in most if most[one] > 0]
    while True:
        if sum(weights[one] for one in remaining) == 0:
            weights = most
        total = sum(weights[one] for one in remaining)
        shares = {one: lots * weights[one] // total for one in remaining}
        full = [one for one in remaining if shares[one] >= most[one]]
        if not full:
            break
        for one in full:
            taken[one] = most[one]
            lots -= most[one]
            remaining.remove(one)
    left_over = lots - sum(shares.values())
    weighted = [one for one in remaining if weights[one] > 0]
    for one in sorted(weighted, key=lambda one: shares[one] - most[one])[:left_over]:
        shares[one] += 1
    return taken | shares


def payment_limit(rest: int, payers: int) -> int:
    """What each of so many payers of a shortfall takes at most (6 Close out: shortfall)."""
    return min(rest, LARGEST // max(payers, 1))


def largest_passing(n: int, passes) -> int:
    """`largest_passing(n)` (Largest passing number)."""
    if n == 0 or passes(n):
        return n
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def integer_weights(weights: dict) -> dict:
    """Weights in 24 bits, made whole by the largest of them (Integer weights)."""
    weights = {one: float32(max(weight, 0)) for one, weight in weights.items()}
    largest = max(weights.values(), default=Fraction(0))
    if largest == 0:
        return dict.fromkeys(weights, 0)
    unit = Fraction(2) ** (exponent(largest) - 38)
    return {one: math.floor(weight / unit) for one, weight in weights.items()}
