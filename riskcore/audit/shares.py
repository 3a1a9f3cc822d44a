"""How whole amounts are shared out: by weight, up to what each can take, instalment by instalment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from .folder import Array

_BITS, _SCALE = 24, 38


def split(left: int, weights: Sequence[int], most: Sequence[int]) -> list[int]:
    """Split a whole amount in proportion to weights, each at most so much."""
    still = [at for at, part in enumerate(most) if part > 0]
    got, by = [0] * len(most), list(weights)
    if left >= sum(most[at] for at in still):
        return [max(part, 0) for part in most]
    while True:
        total = sum(by[at] for at in still)
        if not total:
            for at in still:
                by[at] = most[at]
            total = sum(most[at] for at in still)
        part = {at: left * by[at] // total for at in still}
        full = [at for at in still if part[at] >= most[at]]
        if not full:
            break
        for at in full:
            got[at] = most[at]
            left -= most[at]
        still = [at for at in still if part[at] < most[at]]
    for at in still:
        got[at] = part[at]
    weighty = sorted((at for at in still if by[at]), key=lambda at: part[at] - most[at])
    for at in weighty[: left - sum(part.values())]:
        got[at] += 1
    return got


def most(amount: int, passes: Callable[[int], bool]) -> int:
    """Return all of an amount if it passes, else what halving finds."""
    if amount <= 0:
        return 0
    if passes(amount):
        return amount
    low, high = 0, amount
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def carried(money: int, done: int, lots: int, size: int) -> int:
    """What a fill carries of all the money, so that the fills up to it carry their whole part."""
    return round(Fraction(money * (done + lots), size)) - round(Fraction(money * done, size))


def short(weights: Array) -> Array:
    """Weights with 24 significant bits; what is no weight is 0."""
    weights = np.where(weights > 0, weights, 0.0)
    if np.isinf(weights).any():  # then all others are nothing
        return np.isinf(weights) * 1.0
    mantissa, exponent = np.frexp(weights)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, _BITS)), exponent - _BITS))


def whole(weights: Array) -> list[int]:
    """Whole numbers in the place of short weights."""
    _, exponent = np.frexp(weights.max(initial=0.0))
    return [math.floor(weight) for weight in np.ldexp(weights, _SCALE - exponent).tolist()]


def water_fill(
    amount: int,
    choices: list[dict[int, int]],
    room: Callable[[int, int], int],
    cut: Callable[[int, int, int], int],
    told: Callable[[int], tuple[int, int] | None],
) -> Iterator[tuple[int, int]]:
    """Give who takes how much, offer after offer.

    Parameters
    ----------
    choices
        The weights, by who; where float64 leaves doubt more than one, of which those are kept that fit what is told.
    room
        What one of so many can still take.
    cut
        What one takes of an offer, after so much was taken by others since the last offers were made.
    told
        Who took how much on record, from the next row on.
    """
    closed, taken = set[int](), list[tuple[int, int]]()

    def plan(weights: dict[int, int]) -> tuple[list[tuple[int, int]], set[int]]:
        rooms = {who: 0 if who in closed else room(who, len(weights)) for who in weights}
        fills, refused, done = list[tuple[int, int]](), set[int](), 0
        offers = split(amount, list(weights.values()), list(rooms.values()))
        for who, offer in zip(weights, offers, strict=True):
            if offer:
                got = cut(who, offer, done)
                fills += [(who, got)] if got else []
                refused |= {who} if got < offer else set()
                done += got
        return fills, refused

    while amount > 0:
        plans = [plan(weights) for weights in choices]
        if len(choices) > 1:
            fit = [all(told(at) == fill for at, fill in enumerate(fills)) for fills, _ in plans]
            if any(fit) and not all(fit):
                choices[:] = [weights for weights, fits in zip(choices, fit, strict=True) if fits]
                plans = [one for one, fits in zip(plans, fit, strict=True) if fits]
        taken, refused = plans[0]
        if not taken and not refused:
            return
        closed |= refused
        for who, got in taken:
            amount -= got
            yield who, got
