"""The operations on eight float64, one of each account of a group, that the sweep is written in.

LLVM does not vectorise a loop over the handful of positions that an account has, and turns look-ups into gathers,
which some processors run slower than scalar loads (docs/decisions/0013-packed-sweep.md). So the vectors are explicit:
`Lanes` is an LLVM vector of eight doubles, which is one AVX-512 register, two of AVX or four of NEON. The functions are
intrinsics without a bounds check. Above each stands a NumPy function with the same result, which runs in its place
where the JIT is off. `_scalar` has the same operations on one account.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, overload, register_model

from ._jit import JIT_OFF
from .layouts import LANES

WIDTH = LANES
"""Accounts that an operation treats together."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_EIGHT, _FOUR = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.DoubleType(), 4)
_EIGHT_INTS = ir.VectorType(_I32, LANES)


class Lanes(types.Type):
    """Eight float64, one of each account of a group."""

    def __init__(self) -> None:
        super().__init__("Lanes")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _EIGHT)


_LANES = Lanes()
_ROW = types.uint64


def _with_python(python: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make an intrinsic; with the JIT off, take the Python function with the same result."""
    return lambda typing: python if JIT_OFF else intrinsic(typing)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, element: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [element])


def _read(builder: Any, pointer: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=align, typ=kind)


def _write(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=8)


def _require_layout(kind: Any, *dtypes: Any, dimensions: int = 1) -> None:
    """Refuse an array that is not contiguous, or of another dtype or number of dimensions."""
    if kind.layout != "C" or kind.ndim != dimensions or kind.dtype not in dtypes:
        raise TypingError(f"lanes are read from contiguous arrays of {dtypes}, not from {kind}")


def _shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _interleave(builder: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Elements 0, 2, 4, 6 and 1, 3, 5, 7 of two vectors, taken in turn from each."""
    even, odd = [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]
    return _shuffle(builder, x, y, even), _shuffle(builder, x, y, odd)


def _interleave_pairs(builder: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Elements 0, 1, 4, 5 and 2, 3, 6, 7 of two vectors, taken two by two from each."""
    low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    return _shuffle(builder, x, y, low), _shuffle(builder, x, y, high)


def _broadcast(value: Any) -> Any:
    return np.full(LANES, value, np.float64)


@_with_python(_broadcast)
def broadcast(_typing, value):
    """Give every lane one number."""

    def generate(_context, builder, _signature, args):
        one = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), args[0], ir.Constant(_I32, 0))
        return _shuffle(builder, one, one, [0] * LANES)

    return _LANES(types.float64), generate


def _load(array: Any, row: Any) -> Any:
    return array[int(row) : int(row) + LANES].astype(np.float64)


@_with_python(_load)
def load(_typing, array, row):
    """Read eight numbers of an array of float64 or int32 from a row on."""
    _require_layout(array, types.float64, types.int32)

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        if signature.args[0].dtype == types.float64:
            return _read(builder, pointer, _EIGHT, 8)
        return builder.sitofp(_read(builder, pointer, _EIGHT_INTS, 4), _EIGHT)

    return _LANES(array, _ROW), generate


def _store(array: Any, row: Any, lanes: Any) -> None:
    array[int(row) : int(row) + LANES] = lanes


@_with_python(_store)
def store(_typing, array, row, lanes):
    """Write eight numbers into an array of float64 from a row on."""
    _require_layout(array, types.float64)

    def generate(context, builder, signature, args):
        _write(builder, args[2], _pointer(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(array, _ROW, _LANES), generate


def _gather4(table: Any, index: Any, row: Any) -> Any:
    return tuple(table[index[int(row) : int(row) + LANES]].T)


@_with_python(_gather4)
def gather4(_typing, table, index, row):
    """Read four columns of a (N, 4) table in the rows that eight elements of an index name, from a row of it on."""
    _require_layout(table, types.float64, dimensions=2)
    _require_layout(index, types.uint8, types.uint16)
    four = types.UniTuple(_LANES, 4)

    def generate(context, builder, signature, args):
        table, index, row = args
        first = _pointer(context, builder, signature.args[1], index, row)
        rows = []
        for lane in range(LANES):
            table_row = builder.zext(builder.load(builder.gep(first, [ir.Constant(_I64, lane)])), _I64)
            start = builder.shl(table_row, ir.Constant(_I64, 2))
            rows.append(_read(builder, _pointer(context, builder, signature.args[0], table, start), _FOUR, 8))
        pairs = [_shuffle(builder, rows[lane], rows[lane + 4], list(range(8))) for lane in range(4)]
        (even, odd), (next_even, next_odd) = (_interleave(builder, *pairs[n : n + 2]) for n in (0, 2))
        first, third = _interleave_pairs(builder, even, next_even)
        second, fourth = _interleave_pairs(builder, odd, next_odd)
        return context.make_tuple(builder, four, [first, second, third, fourth])

    return four(table, index, _ROW), generate


def _store_rows(table: Any, row: Any, first: Any, second: Any, third: Any, fourth: Any) -> None:
    table[int(row) : int(row) + LANES] = np.stack([first, second, third, fourth], axis=1)


@_with_python(_store_rows)
def store_rows(_typing, table, row, first, second, third, fourth):
    """Write four columns into eight rows of a (N, 4) table from a row on."""
    _require_layout(table, types.float64, dimensions=2)

    def generate(context, builder, signature, args):
        table, row, *columns = args
        start = _pointer(context, builder, signature.args[0], table, builder.shl(row, ir.Constant(_I64, 2)))
        (even, odd), (next_even, next_odd) = (_interleave(builder, *columns[n : n + 2]) for n in (0, 2))
        parts = [*_interleave_pairs(builder, even, next_even), *_interleave_pairs(builder, odd, next_odd)]
        for lane in range(LANES):
            part = parts[(0, 2, 1, 3)[lane % 4]]
            first = lane // 4 * 4
            four = _shuffle(builder, part, part, list(range(first, first + 4)))
            _write(builder, four, builder.gep(start, [ir.Constant(_I64, 4 * lane)]))
        return context.get_dummy_value()

    return types.none(table, _ROW, *[_LANES] * 4), generate


def _operator(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Compile an operator of Python between lanes to an instruction."""

    @intrinsic
    def combine(_typing, x, y):
        def generate(_context, builder, _signature, args):
            return getattr(builder, instruction)(*args)

        return _LANES(_LANES, _LANES), generate

    @overload(symbol)
    def between_lanes(x, y):
        return (lambda x, y: combine(x, y)) if isinstance(x, Lanes) and isinstance(y, Lanes) else None


if not JIT_OFF:
    for _symbol, _instruction in (
        (operator.add, "fadd"),
        (operator.sub, "fsub"),
        (operator.mul, "fmul"),
        (operator.truediv, "fdiv"),
    ):
        _operator(_symbol, _instruction)


def _llvm_function(name: str) -> Callable[[Any, Any], Any]:
    """Typing function of an LLVM function of one vector."""

    def typing(_typing, x):
        def generate(_context, builder, _signature, args):
            kind = ir.FunctionType(_EIGHT, [_EIGHT])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v8f64"), args)

        return _LANES(_LANES), generate

    return typing


def _sqrt(x: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


absolute = _with_python(np.abs)(_llvm_function("fabs"))
sqrt = _with_python(_sqrt)(_llvm_function("sqrt"))


def _maximum(x: Any, y: Any) -> Any:
    return np.where(x <= y, y, x)


@_with_python(_maximum)
def maximum(_typing, x, y):
    """The larger of two numbers, lane by lane; the first where one is NaN."""

    def generate(_context, builder, _signature, args):
        return builder.select(builder.fcmp_ordered("<=", *args), args[1], args[0])

    return _LANES(_LANES, _LANES), generate


def _select_le(x: Any, limit: Any, inside: Any, outside: Any) -> Any:
    return np.where(x <= limit, inside, outside)


@_with_python(_select_le)
def select_le(_typing, x, limit, inside, outside):
    """One number where ``x <= limit``, the other where not or where one is NaN."""

    def generate(_context, builder, _signature, args):
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

    return _LANES(_LANES, _LANES, _LANES, _LANES), generate


def _mask_where_not(builder: Any, symbol: str, args: Any) -> Any:
    """One bit for each lane, set where a comparison does not hold."""
    failed = builder.not_(builder.fcmp_ordered(symbol, *args))
    return builder.zext(builder.bitcast(failed, ir.IntType(LANES)), _I64)


def _mask_gt(x: Any, limit: Any) -> Any:
    return np.uint64(np.packbits(~(x <= limit), bitorder="little")[0])


@_with_python(_mask_gt)
def mask_gt(_typing, x, limit):
    """Bit n is set where ``x <= limit`` does not hold in lane n, as with a NaN."""

    def generate(_context, builder, _signature, args):
        return _mask_where_not(builder, "<=", args)

    return types.uint64(_LANES, _LANES), generate


def _mask_ge(x: Any, limit: Any) -> Any:
    return np.uint64(np.packbits(~(x < limit), bitorder="little")[0])


@_with_python(_mask_ge)
def mask_ge(_typing, x, limit):
    """Bit n is set where ``x < limit`` does not hold in lane n, as with a NaN."""

    def generate(_context, builder, _signature, args):
        return _mask_where_not(builder, "<", args)

    return types.uint64(_LANES, _LANES), generate


def _count_trailing_zeros(bits: Any) -> Any:
    return np.uint64((int(bits) & -int(bits)).bit_length() - 1)


@_with_python(_count_trailing_zeros)
def count_trailing_zeros(_typing, bits):
    """Position of the lowest bit that is set, of a number that is not 0."""

    def generate(_context, builder, _signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
