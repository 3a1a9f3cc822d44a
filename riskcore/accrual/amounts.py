"""Whole-number amounts of many rows at one rate per market or asset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..kernels.integer_math import scale_rows


def instants(before: int, now: int, period: int) -> int:
    """Number of multiples of a period since the epoch after ``before`` and up to ``now``."""
    return now // period - before // period


def scaled(amount: Int, item: npt.NDArray[np.uint16], rate: Sequence[int], whole: int) -> Int:
    """``amount * rate[item] / whole`` of every row, halves to even."""
    high = [abs(r) // (2 * whole) * 2 for r in rate]
    low = [abs(r) - h * whole for r, h in zip(rate, high, strict=True)]
    sign = np.array([(r > 0) - (r < 0) for r in rate], np.int64)
    result = np.empty(len(amount), np.int64)
    scale_rows(amount, item, np.array(high, np.int64), np.array(low, np.int64), whole, result)
    result *= sign[item]
    return result
