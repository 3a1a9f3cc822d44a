"""Sums over a block of the columns of a table, kept in vector registers while rows are added to them.

A block is a tuple of `WIDTH`-wide vectors of `_lanes` (of single float64 where the vectors are off), so that the number
of its columns is known to the compiler and its loops unroll. Memory is touched once for each element of a row: sums in
an array take twice as long. Above each intrinsic stands a NumPy function with the same result, which runs in its place
where the JIT is off.
"""

from math import inf
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ._jit import JIT_OFF
from ._lanes import WIDTH

_I64, _DOUBLE = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, WIDTH) if WIDTH > 1 else _DOUBLE


def _element() -> Any:
    if WIDTH == 1:
        return types.float64
    from ._simd import Lanes

    return Lanes()


_ELEMENT = _element()


def _with_python(python: Any) -> Any:
    """Make an intrinsic; with the JIT off, take the Python function with the same result."""
    return lambda typing: python if JIT_OFF else intrinsic(prefer_literal=True)(typing)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * WIDTH if WIDTH > 1 else value)


def _spread(builder: Any, value: Any) -> Any:
    """Give every lane one number."""
    if WIDTH == 1:
        return value
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, one, zeros)


def _elements(builder: Any, block: Any) -> list[Any]:
    return [builder.extract_value(block, n) for n in range(block.type.count)]


def _start(context: Any, builder: Any, kind: Any, table: Any, row: Any, column: Any) -> Any:
    """Pointer to an element of a table."""
    made = context.make_array(kind)(context, builder, table)
    columns = builder.extract_value(made.shape, 1)
    return builder.gep(made.data, [builder.add(builder.mul(row, columns), column)])


def _part(builder: Any, start: Any, n: int) -> Any:
    """Pointer to the vector n of a block."""
    return builder.bitcast(builder.gep(start, [ir.Constant(_I64, n * WIDTH)]), _VECTOR.as_pointer())


def _load(builder: Any, start: Any, n: int) -> Any:
    return builder.load(_part(builder, start, n), align=8, typ=_VECTOR)


def _less(builder: Any, x: Any, y: Any) -> Any:
    """``x if x < y else y``, which is one instruction."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


def _require_table(kind: Any) -> None:
    if kind.layout != "C" or kind.ndim != 2 or kind.dtype != types.float64:
        raise TypingError(f"columns are read from a contiguous table of float64, not from {kind}")


def _columns_of(block: Any, column: Any) -> slice:
    return slice(int(column), int(column) + len(block))


def _no_sums(vectors: int) -> Any:
    return np.zeros(vectors * WIDTH)


@_with_python(_no_sums)
def no_sums(_typing, vectors):
    """Sums of a block of so many vectors, all 0."""
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    block = types.UniTuple(_ELEMENT, vectors.literal_value)

    def generate(context, builder, signature, _args):
        return context.make_tuple(builder, signature.return_type, [_constant(0.0)] * block.count)

    return block(vectors), generate


def _columns(sums: Any) -> Any:
    return len(sums)


@_with_python(_columns)
def columns(_typing, sums):
    """Number of columns of a block."""

    def generate(context, _builder, signature, _args):
        return context.get_constant(types.int64, signature.args[0].count * WIDTH)

    return types.int64(sums), generate


def _plus_product(sums: Any, table: Any, row: Any, column: Any, factor: Any) -> Any:
    return sums + factor * table[row, _columns_of(sums, column)]


@_with_python(_plus_product)
def plus_product(_typing, sums, table, row, column, factor):
    """Add a row's columns from one on, times a factor."""
    _require_table(table)

    def generate(context, builder, signature, args):
        sums, table, row, column, factor = args
        start, spread = _start(context, builder, signature.args[1], table, row, column), _spread(builder, factor)
        added = [
            builder.fadd(total, builder.fmul(spread, _load(builder, start, n)))
            for n, total in enumerate(_elements(builder, sums))
        ]
        return context.make_tuple(builder, signature.return_type, added)

    return sums(sums, table, types.int64, types.int64, types.float64), generate


def _plus_weighted(total: Any, sums: Any, table: Any, row: Any, column: Any) -> Any:
    return total + sums * table[row, _columns_of(sums, column)]


@_with_python(_plus_weighted)
def plus_weighted(_typing, total, sums, table, row, column):
    """Add other sums, each times its column of a row of weights."""
    _require_table(table)

    def generate(context, builder, signature, args):
        total, sums, table, row, column = args
        start = _start(context, builder, signature.args[2], table, row, column)
        added = [
            builder.fadd(one, builder.fmul(other, _load(builder, start, n)))
            for n, (one, other) in enumerate(zip(_elements(builder, total), _elements(builder, sums), strict=True))
        ]
        return context.make_tuple(builder, signature.return_type, added)

    return total(total, sums, table, types.int64, types.int64), generate


def _lowest_vector(builder: Any, sums: Any) -> Any:
    """The lowest of some sums in each lane."""
    left = _elements(builder, sums)
    while len(left) > 1:
        half = len(left) // 2
        pairs = zip(left[:half], left[half : 2 * half], strict=True)
        left = [*(_less(builder, *pair) for pair in pairs), *left[2 * half :]]
    return left[0]


def _lowest_lane(builder: Any, vector: Any) -> Any:
    """The lowest lane of a vector."""
    if WIDTH == 1:
        return vector
    width = WIDTH
    while width > 1:
        width //= 2
        halves = [
            ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width))) for first in (0, width)
        ]
        vector = _less(builder, *(builder.shuffle_vector(vector, vector, half) for half in halves))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _lowest(sums: Any) -> Any:
    return np.min(sums)


@_with_python(_lowest)
def lowest(_typing, sums):
    """The lowest of some sums."""

    def generate(_context, builder, _signature, args):
        return _lowest_lane(builder, _lowest_vector(builder, args[0]))

    return types.float64(sums), generate


def _first_equal(sums: Any, value: Any) -> Any:
    return np.flatnonzero(sums == value)[0]


@_with_python(_first_equal)
def first_equal(_typing, sums, value):
    """Number of the first of some sums that is equal to a value; one of them is."""

    def generate(_context, builder, signature, args):
        spread = _spread(builder, args[1])
        found = _constant(inf)
        for n, one in reversed(list(enumerate(_elements(builder, args[0])))):
            numbers = [float(n * WIDTH + lane) for lane in range(WIDTH)]
            numbers = ir.Constant(_VECTOR, numbers if WIDTH > 1 else numbers[0])
            found = builder.select(builder.fcmp_ordered("==", one, spread), numbers, found)
        return builder.fptosi(_lowest_lane(builder, found), _I64)

    return types.int64(sums, types.float64), generate
