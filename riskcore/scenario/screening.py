"""Upper bounds of maintenance requirements, and the accounts that they do not clear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Float, Int
from ..boundary.threads import in_chunks
from ..kernels import scenario_bounds as kernels
from ..kernels.scenario_layouts import OPTION, ScenarioArrays
from .plain import aligned
from .portfolios import Portfolios
from .requirement import columns_of

PER_THREAD = 50_000
"""Accounts that are worth a thread."""

SAMPLE = 10_000
"""Accounts that are tried first: where the bounds leave most of them, they cost more than they save."""

ROUNDING = 2.0**-36
"""More than the relative rounding error of a sum of 65,535 products, twice over."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of a unit of M instruments.

    Attributes
    ----------
    unit, tilt : ndarray of float64, shape (M,)
        Bound of what a unit adds to the maintenance requirement: ``unit + tilt`` if it is long, ``unit - tilt`` if it
        is short.
    envelope : ndarray of float64, shape (2 M, W)
        Lowest change in each block of scenarios, times the factors of the model; and the other ways to a loss. A long
        unit in row 2 i, a short one in row 2 i + 1.
    charge : ndarray of float64, shape (2 M,)
        What adds up whatever the scenario.
    group : ndarray of int32, shape (M,)
        Group of each instrument, -1 for none.
    slack : float
        More for each position.
    """

    unit: Float
    tilt: Float
    envelope: Float
    charge: Float
    group: Int
    slack: float

    @classmethod
    def of(cls, arrays: ScenarioArrays) -> Bounds:
        """Fold a table of record into bounds."""
        u, count = arrays.underlying, len(arrays.value)
        lowest = _lowest_changes(arrays)
        several = np.append(arrays.group_size > 1, False)[np.append(arrays.group, -1)[u]]
        if arrays.has_offset or arrays.has_dampener:
            lowest[several] = np.minimum(lowest[several], 0.0)  # a gain may pay for less of another underlying's loss
        factor = arrays.mm_factor * arrays.buffer
        columns = []
        if arrays.has_basis:
            columns.append(factor * _basis(arrays))
        if arrays.has_floor:
            columns.append(-factor * _per_delta(arrays, _floor_rate(arrays)))
        charge, least = _charges(arrays), _minimum(arrays)
        if least.any():
            columns.append(charge - least)
        blocks = factor * _lowest_of_blocks(lowest, arrays, kernels.WIDE - len(columns))
        envelope = np.concatenate([blocks, *(each[:, :, None] for each in columns)], axis=2)
        unit = charge - np.minimum(envelope.min(axis=2), 0.0)
        rounding = ROUNDING * (unit.max(axis=1) + arrays.reach)[:, None]
        width = kernels.NARROW if envelope.shape[2] <= kernels.NARROW else kernels.WIDE
        padded = envelope[:, :, np.minimum(np.arange(width), envelope.shape[2] - 1)]
        slack = arrays.mm_factor * 0.5 / arrays.round_worst if arrays.round_worst > 0.0 else 0.0
        group = np.zeros(count, np.int32) if len(arrays.group_size) == 1 else np.append(arrays.group, -1)[u]
        long, short = (unit + rounding).T
        return cls(
            (long + short) / 2.0,
            (long - short) / 2.0,
            aligned(padded.reshape(2 * count, width)),
            (charge + rounding).ravel(),
            group.astype(np.int32),
            slack * (1.0 + ROUNDING),
        )


def _lowest_changes(arrays: ScenarioArrays) -> Float:
    """Lowest weighted change that a long and a short unit can make of each scenario; shape (M, 2, S).

    One of the two discounts applies to all options of a term, and in a skew scenario the change counts as a loss.
    """
    row, value = arrays.row[:, : arrays.scenarios], arrays.value[:, None]
    change = np.stack([np.where(arrays.moves_long[:, None], row, 0.0), -row], axis=1)
    is_option = arrays.kind == OPTION
    if arrays.is_discounted:
        gain, loss = (each[:, None] for each in arrays.discount[arrays.term[is_option]].T)
        first, second = (row[is_option] * discount - value[is_option] for discount in (gain, loss))
        change[is_option, 0] = np.minimum(first, second)
        change[is_option, 1] = np.minimum(-first, -second)
    if arrays.is_skew.any():
        skewed = np.ix_(is_option, np.ones(2, bool), arrays.is_skew[: arrays.scenarios])
        change[skewed] = -np.abs(change[skewed]).max(axis=1, keepdims=True)
    weight = np.append(arrays.weight[:, : arrays.scenarios], np.ones((1, arrays.scenarios)), axis=0)
    weighted: Float = change * weight[arrays.underlying][:, None, :]
    return weighted


def _lowest_of_blocks(lowest: Float, arrays: ScenarioArrays, most: int) -> Float:
    """Lowest change in each block of scenarios: those of one move, or neighbours where there are more moves."""
    keys = np.column_stack([arrays.is_skew[: arrays.scenarios], arrays.coin[:, : arrays.scenarios].T])
    _, block = np.unique(keys, axis=0, return_inverse=True)
    count = int(block.max()) + 1
    if count > most:
        block = block * most // count
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.diff(block[order], prepend=-1))
    blocks: Float = np.minimum.reduceat(lowest[:, :, order], starts, axis=2)
    return blocks


def _basis(arrays: ScenarioArrays) -> Float:
    """Lowest change of a unit by the basis contingency; shape (M, 2)."""
    signed = np.stack([arrays.basis, -arrays.basis], axis=1).min(axis=2)
    share = np.append(arrays.basis_weight, 0.0)[arrays.term]
    change: Float = np.minimum(signed, 0.0) * np.where(arrays.kind == OPTION, share, 0.0)[:, None]
    return change


def _per_delta(arrays: ScenarioArrays, rate: Float) -> Float:
    """Amount of a unit, whatever its side: a rate per base unit of delta of each underlying; shape (M, 2)."""
    amount = np.abs(arrays.delta) * np.append(rate, 0.0)[arrays.underlying]
    return np.repeat(amount[:, None], 2, axis=1)


def _floor_rate(arrays: ScenarioArrays) -> Float:
    """Delta floor of a base unit: alone, or one half of a hedge."""
    rate: Float = np.maximum(arrays.floor[:, 0], arrays.floor[:, 1] / 2.0) * arrays.price
    return rate


def _charges(arrays: ScenarioArrays) -> Float:
    """Charges that a long and a short unit can add; shape (M, 2)."""
    side = np.array([1.0, -1.0])
    charge: Float = arrays.charge[:, :2] + arrays.perpetual_charge[:, :1]
    charge += np.maximum(np.outer(arrays.funding, side), 0.0) * arrays.scaling[0, 0]
    charge += np.maximum(np.outer(arrays.decay, -side), 0.0) * arrays.scaling[1, 0]
    charge[:, 1] += arrays.strike_charge[:, 0]
    if arrays.has_deltas:
        charge += np.abs(arrays.delta)[:, None] * np.append(arrays.roll[:, 0], 0.0)[arrays.term][:, None]
        charge += _per_delta(arrays, arrays.delta_shock[:, 1] * arrays.price * arrays.scaling[2, 0])
        linear = (arrays.kind != OPTION)[:, None]
        years = float(arrays.years.max(initial=0.0))
        charge += linear * _per_delta(arrays, 0.5 * arrays.spread[:, 0] * (years if arrays.annual_spread else 1.0))
    if arrays.has_spreads and len(arrays.intra_charge):
        rate = np.zeros(len(arrays.price))
        np.maximum.at(rate, arrays.intra_underlying, arrays.intra_charge / arrays.intra_delta.min(axis=1))
        charge += _per_delta(arrays, 0.5 * rate)
    return charge


def _minimum(arrays: ScenarioArrays) -> Float:
    """Minimum requirement that a unit can add; shape (M, 2)."""
    least: Float = arrays.minimum * float(arrays.brackets[:, 1].max(initial=0.0))
    least[:, 1] = np.maximum(least[:, 1], arrays.short_minimum)
    return least


def bounds_of(portfolios: Portfolios, bounds: Bounds, threads: int | None) -> tuple[Float, Float]:
    """Bounds of all accounts, by single positions and by blocks of scenarios."""
    columns, (single, bound) = columns_of(portfolios), np.empty((2, len(portfolios)))

    def chunk(first: int, last: int) -> None:
        kernels.fill_bounds(
            first,
            last,
            columns,
            bounds.unit,
            bounds.tilt,
            bounds.group,
            bounds.envelope,
            bounds.charge,
            bounds.slack,
            single,
            bound,
        )

    in_chunks(chunk, len(portfolios), threads, PER_THREAD)
    return single, bound


def undecided(portfolios: Portfolios, bounds: Bounds, equity: Float, threads: int | None) -> Int:
    """Accounts that the bounds do not clear, in ascending order."""
    columns, listed = columns_of(portfolios), np.empty(len(portfolios), np.int64)
    found: dict[int, int] = {}

    def chunk(first: int, last: int) -> None:
        count = np.empty(1, np.int64)
        kernels.list_above_sum(first, last, columns, bounds.unit, bounds.tilt, bounds.slack, equity, listed, count)
        kernels.keep_above_envelope(
            first, columns, bounds.group, bounds.envelope, bounds.charge, bounds.slack, equity, listed, count
        )
        found[first] = int(count[0])

    in_chunks(chunk, len(portfolios), threads, PER_THREAD)
    return np.concatenate([listed[:0], *(listed[first : first + found[first]] for first in sorted(found))])


def are_worth(portfolios: Portfolios, bounds: Bounds, equity: Float) -> bool:
    """Whether the bounds clear half of the first accounts."""
    count = min(len(portfolios), SAMPLE)
    some = Portfolios(portfolios.span[: count + 1], portfolios.instrument, portfolios.size)
    return 2 * len(undecided(some, bounds, equity, 1)) <= count


def taken(portfolios: Portfolios, accounts: Int) -> Portfolios:
    """Portfolios of some accounts, without their orders."""
    count = portfolios.span[accounts + 1] - portfolios.span[accounts]
    span = np.concatenate([[0], count.cumsum()]).astype(np.uint32)
    found = Portfolios(span, np.empty(span[-1], np.uint16), np.empty(span[-1]))
    kernels.copy_rows(accounts, columns_of(portfolios), found.instrument, found.size)
    vars(found)["held"] = portfolios.held  # to count them again takes longer; more than is held does no harm
    return found
