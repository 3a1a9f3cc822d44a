"""Requirements of many portfolios where the model is plain, which kernels/scenario_plain.py computes faster."""

from __future__ import annotations

import numpy as np

from .._typing import Float
from ..boundary.threads import in_chunks
from ..kernels import scenario_plain as kernels
from ..kernels._lanes import WIDTH
from ..kernels.scenario_layouts import NO_MINIMUM, SPOT, WORST, PortfolioColumns, ScenarioArrays
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
    columns: PortfolioColumns,
    arrays: ScenarioArrays,
    threads: int | None,
    per_thread: int,
    amounts: Float,
    of_worst: Float,
    positions: Float | None = None,
) -> None:
    """Fill maintenance, initial, loss and scale, and unless they are of length 0 group_loss, worst and group.

    Rows of ``of_worst``; the last two have whole numbers in the place of float64. ``positions`` are the gradient and
    the contribution of each position, if they are asked for.
    """
    group_loss, numbers = of_worst[0], of_worst[1:].view(np.int64)
    outputs = *amounts, group_loss, *numbers, *(np.empty((2, 0)) if positions is None else positions)
    groups = kernels.JOINT
    if (arrays.group_size == 1).all():
        groups = kernels.ONE if len(arrays.group_size) == 1 else kernels.SEPARATE
    vectors: int = arrays.row.shape[1] // WIDTH

    def work(block: int) -> int:
        """Vectors that are added if this many are taken together, and one more for each time."""
        return -(-vectors // block) * (block + 1)

    block = min((each for each in kernels.BLOCKS[groups] if each <= vectors), key=work)

    def chunk(first: int, last: int) -> None:
        kernels.fill_plain_requirements(block, groups, first, last, columns, arrays, *outputs)

    in_chunks(chunk, len(columns.span) - 1, threads, per_thread)
