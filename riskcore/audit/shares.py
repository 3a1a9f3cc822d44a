"""Allocation of whole amounts: by weight, up to a limit of each taker, fill by fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from .folder import Array

_BITS, _SCALE = 24, 38


def split(amount: int, weights: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Split a whole amount in proportion to weights, each part up to its limit."""
    unfilled = [n for n, offer in enumerate(limits) if offer > 0]
    parts, weight = [0] * len(limits), list(weights)
    if amount >= sum(limits[n] for n in unfilled):
        return [max(offer, 0) for offer in limits]
    while True:
        total = sum(weight[n] for n in unfilled)
        if not total:
            for n in unfilled:
                weight[n] = limits[n]
            total = sum(limits[n] for n in unfilled)
        offer = {n: amount * weight[n] // total for n in unfilled}
        full = [n for n in unfilled if offer[n] >= limits[n]]
        if not full:
            break
        for n in full:
            parts[n] = limits[n]
            amount -= limits[n]
        unfilled = [n for n in unfilled if offer[n] < limits[n]]
    for n in unfilled:
        parts[n] = offer[n]
    by_room = sorted((n for n in unfilled if weight[n]), key=lambda n: offer[n] - limits[n])
    for n in by_room[: amount - sum(offer.values())]:
        parts[n] += 1
    return parts


def largest_passing(amount: int, passes: Callable[[int], bool]) -> int:
    """Return all of an amount if it passes, else a smaller one found by halving."""
    if amount <= 0:
        return 0
    if passes(amount):
        return amount
    low, high = 0, amount
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def fill_share(money: int, done: int, lots: int, size: int) -> int:
    """Part of the money that belongs to a fill, rounded cumulatively."""
    return round(Fraction(money * (done + lots), size)) - round(Fraction(money * done, size))


def short_weights(weights: Array) -> Array:
    """Weights with 24 significant bits; NaN and weights below 0 become 0."""
    weights = np.where(weights > 0, weights, 0.0)
    if np.isinf(weights).any():  # then all others are nothing
        return np.isinf(weights) * 1.0
    mantissa, exponent = np.frexp(weights)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, _BITS)), exponent - _BITS))


def integer_weights(weights: Array) -> list[int]:
    """Short weights as whole numbers in the same proportions."""
    _, exponent = np.frexp(weights.max(initial=0.0))
    return [math.floor(weight) for weight in np.ldexp(weights, _SCALE - exponent).tolist()]


def water_fill(
    amount: int,
    choices: list[dict[int, int]],
    room: Callable[[int, int], int],
    cut: Callable[[int, int, int], int],
    recorded: Callable[[int], tuple[int, int] | None],
) -> Iterator[tuple[int, int]]:
    """Yield takers and amounts, offer after offer.

    Parameters
    ----------
    choices
        The weights by taker; where float64 leaves doubt more than one, of which those that fit the record are kept.
    room
        Amount that a taker can still take, given the number of takers.
    cut
        Amount that a taker takes of an offer, after an amount that others took since the last offers.
    recorded
        Account and amount on record, by number from the next row on.
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
            fit = [all(recorded(n) == fill for n, fill in enumerate(fills)) for fills, _ in plans]
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
