"""Requirements of many portfolios at once, in threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .._typing import Float, Int
from ..boundary.threads import in_chunks
from ..kernels import scenario as kernels
from ..kernels.scenario_gradient import BUMP, fill_gradients
from ..kernels.scenario_layouts import COLUMNS, PortfolioColumns, ScenarioArrays, ScenarioScratch
from .plain import fill_plain, is_plain
from .portfolios import Portfolios

PER_THREAD = 2_000
"""Accounts that are worth a thread."""


@dataclass(frozen=True)
class Requirements:
    """Requirements of A accounts, in the numeraire.

    Attributes
    ----------
    maintenance, initial : ndarray of float64, shape (A,)
        Maintenance and initial requirement.
    loss, initial_loss : ndarray of float64, shape (A,)
        Sum of the worst losses of the groups, >= 0, without factors and charges; ``initial_loss`` with open orders, or
        over the scenarios of the initial requirement.
    scale : ndarray of float64, shape (A,)
        Sum of all amounts, which bounds the rounding errors.
    find_worst : callable
        Returns `group_loss`, `worst` and `group`, when one of them is first read.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.scenario import Requirements
    >>> one, none = np.ones(1), np.full(1, -1)
    >>> Requirements(one, one, one, one, one, lambda: (one, none, none)).worst.tolist()
    [-1]
    """

    maintenance: Float
    initial: Float
    loss: Float
    initial_loss: Float
    scale: Float
    find_worst: Callable[[], tuple[Float, Int, Int]] = field(repr=False)

    @cached_property
    def _of_worst(self) -> tuple[Float, Int, Int]:
        return self.find_worst()

    @property
    def group_loss(self) -> Float:
        """Loss of the group with the largest requirement; float64, shape (A,)."""
        return self._of_worst[0]

    @property
    def worst(self) -> Int:
        """Scenario that sets it; int64, shape (A,): the number of scenarios for the basis contingency, -1 for none."""
        return self._of_worst[1]

    @property
    def group(self) -> Int:
        """That group; int64, shape (A,): -1 for an account without one."""
        return self._of_worst[2]


@dataclass(frozen=True)
class Gradients:
    """Maintenance requirements of A accounts, and what each of their P positions adds to them, in the numeraire.

    Attributes
    ----------
    maintenance : ndarray of float64, shape (A,)
        Maintenance requirement.
    gradient : ndarray of float64, shape (P,)
        Change of the requirement by one unit more of each position, exact away from ties.
    contribution : ndarray of float64, shape (P,)
        Size times gradient. What these miss of the requirement, which is nothing in a homogeneous model, is shared in
        proportion to their absolute values, so that the contributions of an account sum to its requirement.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.scenario import Gradients
    >>> Gradients(np.array([30.0]), np.array([15.0]), np.array([30.0])).contribution
    array([30.])
    """

    maintenance: Float
    gradient: Float
    contribution: Float


def columns_of(portfolios: Portfolios) -> PortfolioColumns:
    """Portfolios as the kernels take them; no orders are orders of length 0."""
    orders = portfolios.orders
    if orders is None:
        none = np.zeros(len(portfolios) + 1, np.uint32)
        return PortfolioColumns(
            portfolios.span, portfolios.instrument, portfolios.size, none, np.empty(0, np.uint16), *np.empty((2, 0))
        )
    return PortfolioColumns(
        portfolios.span,
        portfolios.instrument,
        portfolios.size,
        orders.span,
        orders.instrument,
        orders.size,
        orders.price,
    )


def scratch_of(arrays: ScenarioArrays) -> ScenarioScratch:
    """Work space for the accounts of one thread."""
    columns, runs = arrays.row.shape[1], arrays.price.size + 1
    return ScenarioScratch(
        underlying=np.empty(columns),
        term=np.empty(columns),
        group=np.empty(columns),
        lowest=np.empty(COLUMNS),
        delta=np.zeros(len(arrays.years)),
        run_underlying=np.empty(runs, np.int64),
        run_first=np.empty(runs, np.int64),
        run_end=np.empty(runs, np.int64),
        result=np.empty((runs, kernels.RESULTS)),
        spread=np.empty((runs, kernels.SPREADS)),
        tier=np.empty(max(arrays.tier.max(initial=0), arrays.intra_tier.max(initial=0)) + 1),
    )


def requirements(
    portfolios: Portfolios, arrays: ScenarioArrays, threads: int | None, initial: bool = True, worst: bool = False
) -> Requirements:
    """Requirements of all accounts; without ``initial`` open orders and initial scenarios take no part.

    With ``worst`` the scenario that sets each is found in the same pass, else in one of its own when it is first read.
    """
    if not initial:
        portfolios = replace(portfolios, orders=None)
        arrays = arrays._replace(initial_first=0, initial_scenarios=arrays.scenarios)
    count, columns = len(portfolios), columns_of(portfolios)
    if is_plain(portfolios, arrays):
        plain = fill_plain(columns, arrays, threads, PER_THREAD, with_worst=worst)

        def find_worst() -> tuple[Float, Int, Int]:
            found = plain if worst else fill_plain(columns, arrays, threads, PER_THREAD, with_worst=True)
            return found.group_loss, found.worst, found.group

        return Requirements(plain.maintenance, plain.initial, plain.loss, plain.loss, plain.scale, find_worst)
    amounts, numbers = np.empty((6, count)), np.empty((2, count), np.int64)
    maintenance, first, loss, initial_loss, group_loss, scale = amounts
    scenario, group = numbers

    def chunk(start: int, end: int) -> None:
        kernels.fill_requirements(
            start, end, columns, arrays, scratch_of(arrays), maintenance, first, loss, initial_loss, group_loss,
            scenario, group, scale,
        )  # fmt: skip

    in_chunks(chunk, count, threads, PER_THREAD)
    return Requirements(maintenance, first, loss, initial_loss, scale, lambda: (group_loss, scenario, group))


def gradients(portfolios: Portfolios, arrays: ScenarioArrays, threads: int | None) -> Gradients:
    """Requirements of all accounts and gradients of all positions."""
    portfolios = replace(portfolios, orders=None)
    arrays = arrays._replace(initial_first=0, initial_scenarios=arrays.scenarios)
    if is_plain(portfolios, arrays):
        plain = fill_plain(columns_of(portfolios), arrays, threads, PER_THREAD, with_gradients=True)
        return Gradients(plain.maintenance, plain.gradient, plain.contribution)
    columns, gradient = columns_of(portfolios), np.empty(len(portfolios.size))
    maintenance = np.empty(len(portfolios))
    account = np.repeat(np.arange(len(portfolios)), (portfolios.span[1:] - portfolios.span[:-1]).astype(np.int64))

    def chunk(first: int, last: int) -> None:
        fill_gradients(first, last, columns, arrays, scratch_of(arrays), maintenance, gradient)

    if arrays.has_spreads:
        maintenance[:] = requirements(portfolios, arrays, threads, initial=False).maintenance
        gradient[:] = _by_differences(portfolios, arrays, threads, account)
    else:
        in_chunks(chunk, len(portfolios), threads, PER_THREAD)
    contribution = portfolios.size * gradient
    total = np.bincount(account, contribution, len(portfolios))
    size = np.bincount(account, np.abs(contribution), len(portfolios))
    missing = np.divide(maintenance - total, size, out=np.zeros(len(portfolios)), where=size > 0.0)
    return Gradients(maintenance, gradient, contribution + missing[account] * np.abs(contribution))


def _by_differences(portfolios: Portfolios, arrays: ScenarioArrays, threads: int | None, account: Int) -> Float:
    """Gradients by differences, for models whose spreads depend on all positions of an account."""
    span = portfolios.span.astype(np.int64)
    length = (span[1:] - span[:-1])[account]  # a portfolio for each position, with all rows of its account
    end = np.cumsum(length)
    row = np.arange(end[-1] if len(end) else 0)
    position = np.repeat(np.arange(len(account)), length)
    source = span[account][position] + row - (end - length)[position]
    bump = BUMP * np.where(portfolios.size == 0.0, 1.0, np.abs(portfolios.size))
    spans, instrument = np.append(0, end).astype(np.uint32), portfolios.instrument[source]
    shift = np.where(source == position, bump[position], 0.0)
    more, less = (
        requirements(
            Portfolios(spans, instrument, portfolios.size[source] + side), arrays, threads, initial=False
        ).maintenance
        for side in (shift, -shift)
    )
    slope: Float = (more - less) / (2.0 * bump)
    return slope


def losses(portfolios: Portfolios, arrays: ScenarioArrays, first: int, last: int) -> Float:
    """Changes of the groups of some accounts in each scenario."""
    shape = last - first, len(arrays.group_size), arrays.scenarios + arrays.has_basis
    result = np.empty(shape)
    kernels.fill_losses(first, last, columns_of(portfolios), arrays, scratch_of(arrays), result)
    return result
