"""Margin functions: what one requires of a notional, and of one more quantum of it."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._jit import inner_kernel
from ._simd import count_trailing_zeros, extract, insert

FROM, RATE, SLOPE, ROOT, DEDUCTION = range(5)
"""Columns of a segment."""


class MarginFunctionArrays(NamedTuple):
    """Margin functions folded with a tick's prices: N functions of T segments, all amounts in settle quanta.

    Up to ``flat_notional`` a function requires ``notional * flat_rate``. Above, the last segment that starts below the
    notional requires ``notional * max(rate + slope * notional, root * sqrt(notional)) - deduction``, and the function
    its minimum at least.

    =============  =======  ======  =========================================================================
    flat_notional  float64  (N,)    notional up to which the flat rate is the whole rule, +inf: always
    flat_rate      float64  (N,)    fraction
    minimum        float64  (N,)    least requirement of a notional above the flat one
    offset         int64    (N+1,)  function f owns segments offset[f]:offset[f+1], one at least
    segments       float64  (T, 5)  columns FROM, RATE, SLOPE, ROOT and DEDUCTION; FROM ascends in a function
    =============  =======  ======  =========================================================================
    """

    flat_notional: npt.NDArray[np.float64]
    flat_rate: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    offset: npt.NDArray[np.int64]
    segments: npt.NDArray[np.float64]


@inner_kernel
def segment_of(notional, function, functions):
    """Segment of a margin function that a notional lies in.

    notional   float64               ()  settle quanta, >= 0
    function   int64                 ()  0 <= function < N
    functions  MarginFunctionArrays  ()  see above
    """
    segment, last = functions.offset[function], functions.offset[function + 1] - 1
    while segment < last and notional > functions.segments[segment + 1, FROM]:
        segment += 1
    return segment


@inner_kernel
def unbounded_requirement(notional, segment, functions):
    """Requirement of a notional in a segment of a function, its minimum apart, settle quanta.

    notional   float64               ()  settle quanta, >= 0
    segment    int64                 ()  0 <= segment < T
    functions  MarginFunctionArrays  ()  see above
    """
    segments = functions.segments
    fraction = segments[segment, RATE]
    if segments[segment, SLOPE] > 0.0:
        fraction += segments[segment, SLOPE] * notional
    if segments[segment, ROOT] > 0.0:
        fraction = max(fraction, segments[segment, ROOT] * sqrt(notional))
    return notional * fraction - segments[segment, DEDUCTION]


@inner_kernel
def margin_requirement(notional, function, functions):
    """Requirement of a notional, settle quanta.

    notional   float64               ()  settle quanta, >= 0
    function   int64                 ()  0 <= function < N
    functions  MarginFunctionArrays  ()  see above
    """
    if notional <= functions.flat_notional[function]:
        return notional * functions.flat_rate[function]
    required = unbounded_requirement(notional, segment_of(notional, function, functions), functions)
    # not max(): a NaN must stay one
    return functions.minimum[function] if required < functions.minimum[function] else required


@inner_kernel
def marginal_requirement(notional, function, functions):
    """Requirement of one more quantum of notional.

    notional   float64               ()  settle quanta, >= 0
    function   int64                 ()  0 <= function < N
    functions  MarginFunctionArrays  ()  see above
    """
    if notional <= functions.flat_notional[function]:
        return functions.flat_rate[function]
    segments, segment = functions.segments, segment_of(notional, function, functions)
    if unbounded_requirement(notional, segment, functions) < functions.minimum[function]:
        return 0.0
    marginal = segments[segment, RATE]
    if segments[segment, SLOPE] > 0.0:
        marginal += 2.0 * segments[segment, SLOPE] * notional
    if segments[segment, ROOT] > 0.0:
        marginal = max(marginal, 1.5 * segments[segment, ROOT] * sqrt(notional))
    return marginal


@inner_kernel
def outgrowing_notional(function, functions):
    """Notional from which a margin function requires at least twice the notional, +inf if it never does.

    function   int64                 ()  0 <= function < N
    functions  MarginFunctionArrays  ()  see above
    """
    last = functions.offset[function + 1] - 1
    slope, root = functions.segments[last, SLOPE], functions.segments[last, ROOT]
    notional = np.inf
    if root > 0.0:
        notional = 4.0 / root**2
    if slope > 0.0:
        notional = min(notional, 2.0 / slope)
    return notional


@inner_kernel
def requirements_above(notional, lanes, required, index, position, first, functions):
    """Requirements of the lanes listed, by the functions of their rows; of the others those that were computed before.

    notional   float64               (8,)  lanes, settle quanta
    lanes      uint64                ()    bit n: compute lane n
    required   float64               (8,)  lanes, settle quanta
    index      uint8|uint16          (R,)  market or asset row
    position   uint64                ()    of the first lane in the index
    first      int64                 ()    function of row 0; row r has function first + 2 r
    functions  MarginFunctionArrays  ()    see above
    """
    while lanes:
        lane = count_trailing_zeros(lanes)
        function = first + 2 * np.int64(index[position + lane])
        required = insert(required, lane, margin_requirement(extract(notional, lane), function, functions))
        lanes = lanes & (lanes - np.uint64(1))
    return required
