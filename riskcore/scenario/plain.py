"""Requirements of many portfolios where the model is plain, which kernels/scenario_plain.py computes faster."""

from __future__ import annotations

import numpy as np

from .._typing import Float
from ..boundary.threads import in_chunks
from ..kernels import scenario_plain as kernels
from ..kernels._lanes import WIDTH
from ..kernels.scenario_layouts import NO_MINIMUM, SPOT, WORST, PlainRequirements, PortfolioColumns, ScenarioArrays
from .portfolios import Portfolios

ALIGNMENT = 64
"""Bytes of a vector: one that crosses a line of the cache takes twice the time."""


def aligned(array: Float) -> Float:
    """Return an array with the same content that begins at the boundary of a vector."""
    raw = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def is_plain(portfolios: Portfolios, arrays: ScenarioArrays) -> bool:
    """Whether the requirement is the factor times the lowest weighted sum of each group, and nothing else."""
    charges = (
        arrays.charge, arrays.perpetual_charge, arrays.strike_charge, arrays.funding, arrays.decay, arrays.short_minimum
    )  # fmt: skip
    other_steps = (
        arrays.by_term, arrays.has_basis, arrays.has_offset, arrays.has_dampener, arrays.has_strikes,
        arrays.has_deltas, arrays.has_floor, arrays.has_spreads, arrays.initial_first > 0, arrays.measure != WORST,
        arrays.buffer != 1.0,
        arrays.minimum_level != NO_MINIMUM, arrays.round_worst > 0.0, arrays.round_initial > 0.0,
        portfolios.orders is not None, any(charge.any() for charge in charges),
        bool((np.diff(arrays.group) < 0).any()),
    )  # fmt: skip
    held = portfolios.held
    return not any(other_steps) and not (arrays.kind[: len(held)][held] == SPOT).any()


def fill_plain(
    portfolios: PortfolioColumns,
    arrays: ScenarioArrays,
    threads: int | None,
    per_thread: int,
    *,
    with_worst: bool = False,
    with_gradients: bool = False,
) -> PlainRequirements:
    """Return requirements, with the scenario that sets each and the gradients if they are asked for."""
    count, positions = len(portfolios.span) - 1, len(portfolios.size) if with_gradients else 0
    found = count if with_worst else 0
    maintenance, initial, loss, scale = np.empty((4, count))
    worst, group = np.empty((2, found), np.int64)
    gradient, contribution = np.empty((2, positions))
    result = PlainRequirements(maintenance, initial, loss, scale, np.empty(found), worst, group, gradient, contribution)
    groups = kernels.JOINT
    if (arrays.group_size == 1).all():
        groups = kernels.ONE if len(arrays.group_size) == 1 else kernels.SEPARATE
    vectors: int = arrays.row.shape[1] // WIDTH

    def work(block: int) -> int:
        """Vectors that are added if this many are taken together, and one more for each time."""
        return -(-vectors // block) * (block + 1)

    block = min((each for each in kernels.BLOCKS[groups] if each <= vectors), key=work)

    def chunk(first: int, last: int) -> None:
        kernels.fill_plain_requirements(block, groups, first, last, portfolios, arrays, result)

    in_chunks(chunk, count, threads, per_thread)
    return result
