"""The operations of `_simd` on one account at a time: the sweep in plain loops, without vectors.

`_lanes` takes them where the vectors cannot be compiled or RISKCORE_SIMD=0 switches them off. They do the same
arithmetic in the same order, so every result has the same bits.
"""

import numpy as np

from ._jit import inner_kernel

WIDTH = 1
"""Accounts that an operation treats together."""


@inner_kernel
def broadcast(value):
    """Give every lane one number."""
    return value


@inner_kernel
def load(array, row):
    """Read a number of an array of float64 or int32."""
    return np.float64(array[row])


@inner_kernel
def store(array, row, value):
    """Write a number into an array of float64."""
    array[row] = value


@inner_kernel
def gather4(table, index, row):
    """Read four columns of a (N, 4) table in the row that an element of an index names."""
    i = index[row]
    return table[i, 0], table[i, 1], table[i, 2], table[i, 3]


@inner_kernel
def store_rows(table, row, first, second, third, fourth):
    """Write four columns of a row of a (N, 4) table."""
    table[row, 0], table[row, 1], table[row, 2], table[row, 3] = first, second, third, fourth


@inner_kernel
def absolute(x):
    """Absolute value."""
    return abs(x)


@inner_kernel
def sqrt(x):
    """Square root, NaN of a negative number."""
    return np.sqrt(x)


@inner_kernel
def maximum(x, y):
    """The larger of two numbers; the first where one is NaN."""
    return y if x <= y else x


@inner_kernel
def select_le(x, limit, inside, outside):
    """One number where ``x <= limit``, the other where not or where one is NaN."""
    return inside if x <= limit else outside


@inner_kernel
def mask_gt(x, limit):
    """Bit 0 is set where ``x <= limit`` does not hold, as with a NaN."""
    return np.uint64(0) if x <= limit else np.uint64(1)


@inner_kernel
def mask_ge(x, limit):
    """Bit 0 is set where ``x < limit`` does not hold, as with a NaN."""
    return np.uint64(0) if x < limit else np.uint64(1)


@inner_kernel
def count_trailing_zeros(_bits):
    """Position of the lowest bit that is set: the only lane is lane 0."""
    return np.uint64(0)
