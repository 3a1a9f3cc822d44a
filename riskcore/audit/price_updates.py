"""What the guards of marks and of asset prices have in common: clamps, update caps, and what was used last."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .folder import Array
from .venue import Bounds

SECOND = 10**9
WINDOW = 300  # seconds


class Last:
    """Last value and its time of every column of a table that is read row by row."""

    def __init__(self, count: int) -> None:
        self.value, self.time = np.full(count, np.nan), np.zeros(count, np.int64)

    def before(self, values: Array, time: Array) -> tuple[Array, Array, Array, Array]:
        """Return the last value that is a number, and its time, before each row; and with it."""
        rows = np.arange(len(values))[:, None]
        last_row = np.maximum.accumulate(np.where(np.isnan(values), -1, rows), axis=0)
        value = np.where(last_row >= 0, np.take_along_axis(values, np.maximum(last_row, 0), axis=0), self.value)
        when = np.where(last_row >= 0, time[np.maximum(last_row, 0)], self.time)
        earlier = np.concatenate([self.value[None], value[:-1]]), np.concatenate([self.time[None], when[:-1]])
        self.value, self.time = value[-1].copy(), when[-1].copy()
        return *earlier, value, when


def _powers(base: float, exponents: Array) -> Array:
    """Return Python's powers of a number, with whole exponents."""
    distinct, inverse = np.unique(exponents, return_inverse=True)

    def power(exponent: int) -> float:
        try:
            return float(base**exponent)
        except OverflowError:
            return math.inf

    return np.array([power(exponent) for exponent in distinct.tolist()])[inverse].reshape(exponents.shape)


def clamped(values: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the values within the bounds that are numbers, and which of them were not."""
    within = np.where(values < low, low, np.where(values > high, high, values))
    return within, (values < low) | (values > high)


def band(index: Array, threshold: float) -> tuple[Array, Array]:
    """Bounds around an index."""
    return index * (1 - threshold), index * (1 + threshold)


def capped(updates: Sequence[Bounds], values: Array, previous: Array, time: Array, since: Array) -> tuple[Array, Array]:
    """Values cut to the update caps of their columns around the previous ones, and which values are cut."""
    low, high = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for column, bounds in enumerate(updates):
        if bounds != (None, None):
            has_previous = ~np.isnan(previous[:, column])
            seconds = np.maximum((time[has_previous] - since[has_previous, column]) // SECOND, 1)
            for bound, figure in zip((low, high), bounds, strict=True):
                if figure is not None:
                    bound[has_previous, column] = previous[has_previous, column] * _powers(float(figure), seconds)
    return clamped(values, low, high)


class Refusals(dict[str, tuple[Array, Array | None]]):
    """Rows that are due, by reason: where, and the rejected prices; None: without a price."""


def same(one: float, two: float) -> bool:
    """Whether two floats are the same, or both no numbers."""
    return one == two or (one != one and two != two)
