"""Margin functions: what one requires of a notional, and of one more quantum of it."""

from __future__ import annotations

from math import sqrt

import numpy as np

from ._jit import inner_kernel, kernel
from ._lanes import broadcast, gather4, mask_gt, maximum, select_le
from ._lanes import sqrt as lane_sqrt

FROM, RATE, SLOPE, ROOT, DEDUCTION = range(5)
"""Columns of a segment."""


@inner_kernel
def segment_of(notional, function, functions):
    """Segment of a margin function that a notional lies in.

    notional   float64               ()  settle quanta, >= 0
    function   int64                 ()  0 <= function < N
    functions  MarginFunctionArrays  ()  see layouts.py
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
    functions  MarginFunctionArrays  ()  see layouts.py
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
    functions  MarginFunctionArrays  ()  see layouts.py
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
    functions  MarginFunctionArrays  ()  see layouts.py
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
    functions  MarginFunctionArrays  ()  see layouts.py
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
def requirements_above(notional, initial_rate, maintenance_rate, index, row, lookup):
    """Initial and maintenance requirement of notionals of which one at least is above a flat one.

    notional          float64            (8,)  lanes, settle quanta
    initial_rate      float64            (8,)  lanes, flat
    maintenance_rate  float64            (8,)  lanes, flat
    index             uint8|uint16       (X,)  market or asset row
    row               uint64             ()    of the first lane
    lookup            RequirementLookup  ()    see layouts.py
    """
    initial, maintenance = notional * initial_rate, notional * maintenance_rate
    initial_root, maintenance_root, initial_flat, maintenance_flat = gather4(lookup.roots, index, row)
    if mask_gt(notional, initial_flat) | mask_gt(notional, maintenance_flat):
        root = lane_sqrt(notional)
        above = notional * maximum(initial_rate, initial_root * root)
        initial = select_le(notional, initial_flat, initial, above)
        above = notional * maximum(maintenance_rate, maintenance_root * root)
        maintenance = select_le(notional, maintenance_flat, maintenance, above)
    for tier in range(lookup.tiers.shape[0]):
        initial_from, maintenance_from, rate, other_rate = gather4(lookup.tiers[tier], index, row)
        if not mask_gt(notional, initial_from) | mask_gt(notional, maintenance_from):
            break
        deduction, other_deduction, _, _ = gather4(lookup.deductions[tier], index, row)
        initial = select_le(notional, initial_from, initial, notional * rate - deduction)
        maintenance = select_le(notional, maintenance_from, maintenance, notional * other_rate - other_deduction)
    if lookup.grows:
        zero = broadcast(0.0)
        slope, other_slope, least, other_least = gather4(lookup.growth, index, row)
        initial = select_le(slope, zero, initial, notional * (initial_rate + slope * notional))
        maintenance = select_le(other_slope, zero, maintenance, notional * (maintenance_rate + other_slope * notional))
        initial = select_le(notional, zero, initial, maximum(initial, least))
        maintenance = select_le(notional, zero, maintenance, maximum(maintenance, other_least))
    return initial, maintenance


@kernel
def fill_requirement_lookup(first, functions, lookup):
    """Lay out the roots, slopes and minimums of functions two by two, from one on.

    first      int64                 ()  function of row 0; row r has the functions first + 2 r and first + 2 r + 1
    functions  MarginFunctionArrays  ()  see layouts.py
    lookup     RequirementLookup     ()  roots and growth, out
    """
    for r in range(lookup.roots.shape[0] - 1):
        for n in range(2):
            function = first + 2 * r + n
            segment = functions.offset[function]
            root = functions.segments[segment, ROOT]
            lookup.roots[r, n] = root
            lookup.roots[r, 2 + n] = functions.flat_notional[function] if root > 0.0 else np.inf
            lookup.growth[r, n] = functions.segments[segment, SLOPE]
            lookup.growth[r, 2 + n] = functions.minimum[function]
    lookup.roots[-1] = 0.0
    lookup.growth[-1] = 0.0
