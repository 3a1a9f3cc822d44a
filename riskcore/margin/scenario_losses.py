"""What the portfolios of accounts would lose in each scenario of a model: the worst, and all of them in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float, Int
from ..boundary import RiskDataError, as_html, as_text, counted, frame_as_html
from ..market import Prices, Tick
from ..scenario import Portfolios, ScenarioTable
from ..state import Accounts, must_fit
from ..venue import Venue
from .model import folded, model_of
from .scenario import table_of
from .scenario_view import portfolios_of

_SHOWN = 10  # rows in a notebook
NO_LOSS = "no loss"
"""Name of the scenario of an account that loses in none."""


class LossBlock(NamedTuple):
    """Losses of some accounts, a row per account and group of underlyings that it holds.

    Attributes
    ----------
    account : ndarray, shape (n,)
        The user's account ids.
    group : ndarray of object, shape (n,)
        Names of the groups.
    loss : ndarray of float64, shape (n, C)
        Loss in each scenario, a gain is negative, in units of the requirement; C scenarios, the basis contingency the
        last of them if the model has one.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(10)
    >>> block = next(rc.scenario_losses(sample.accounts, sample.venue, sample.tick).blocks())
    >>> block.group[:3].tolist(), block.loss.shape
    (['ETH', 'BTC', 'ETH'], (10, 32))
    """

    account: npt.NDArray[Any]
    group: npt.NDArray[Any]
    loss: Float


@dataclass(frozen=True, repr=False)
class ScenarioLosses:
    """Worst losses of A accounts, in units of the requirement: settle units, or the coin that the model names.

    Attributes
    ----------
    account : ndarray, shape (A,)
        The user's account ids, ascending.
    requirement : ndarray of float64, shape (A,)
        Maintenance requirement of the positions: losses times the factor, and charges.
    group : ndarray of int64, shape (A,)
        Group of underlyings with the largest requirement: the place in ``groups``; -1 for an account without positions.
    scenario : ndarray of int64, shape (A,)
        Id of the scenario that sets the loss of this group: the row of ``scenarios``; -1 if it loses in none.
    worst_loss : ndarray of float64, shape (A,)
        The loss, >= 0, without factor and charges.
    scenarios : DataFrame
        scenario (id), name, move, vol, weight, hours: a row per scenario, and one of the basis contingency if the model
        has one.
    groups : tuple of str
        Names of the groups: their underlyings, joined by a plus sign.
    block : int
        Largest number of rows of one of the `blocks`, but for an account that holds more groups.
    table : ScenarioTable
        The table of record.
    portfolios : Portfolios
        The positions.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> losses = rc.scenario_losses(sample.accounts, sample.venue, sample.tick)
    >>> losses
    ScenarioLosses(100 accounts, 32 scenarios; '-18 % up' is the worst of 30 accounts)
    """

    account: npt.NDArray[Any]
    requirement: Float
    group: Int
    scenario: Int
    worst_loss: Float
    scenarios: pd.DataFrame
    groups: tuple[str, ...]
    block: int
    table: ScenarioTable
    portfolios: Portfolios

    def __repr__(self) -> str:
        """One line: accounts, scenarios, and the scenario that is the worst of most accounts."""
        sizes = f"{counted(len(self.account), 'account')}, {counted(len(self.scenarios), 'scenario')}"
        found = self.scenario[self.scenario >= 0]
        if not len(found):
            return f"ScenarioLosses({sizes}, no loss)"
        count = np.bincount(found)
        most = int(count.argmax())
        name = self.scenarios["name"].iloc[most]
        return f"ScenarioLosses({sizes}; {name!r} is the worst of {counted(int(count[most]), 'account')})"

    def _repr_html_(self) -> str:
        worst = np.argsort(-self.requirement, kind="stable")[:_SHOWN]
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.to_frame().iloc[worst], _SHOWN)}"

    @property
    def scenario_name(self) -> npt.NDArray[Any]:
        """Names of the scenarios in ``scenario``: ndarray of object, shape (A,); "no loss" for -1."""
        return _by_number([*self.scenarios["name"], NO_LOSS], self.scenario)

    @property
    def group_name(self) -> npt.NDArray[Any]:
        """Names of the groups in ``group``: ndarray of object, shape (A,); "" for -1."""
        return _by_number([*self.groups, ""], self.group)

    def to_frame(self) -> pd.DataFrame:
        """Return the worst losses as a frame.

        Returns
        -------
        DataFrame
            account, requirement, worst_loss (units of the requirement), scenario (id), scenario_name, group (name).

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import options_sample
        >>> sample = options_sample(10)
        >>> frame = rc.scenario_losses(sample.accounts, sample.venue, sample.tick).to_frame()
        >>> frame[["account", "scenario_name", "group"]].values.tolist()[:2]
        [[1, '-18 % up', 'ETH'], [2, '+18 % up', 'BTC']]
        """
        return pd.DataFrame(
            {
                "account": self.account,
                "requirement": self.requirement,
                "worst_loss": self.worst_loss,
                "scenario": self.scenario,
                "scenario_name": self.scenario_name,
                "group": self.group_name,
            }
        )

    def blocks(self) -> Iterator[LossBlock]:
        """Compute the loss in every scenario, some accounts at a time: memory does not grow with their number.

        Returns
        -------
        iterator of LossBlock
            Accounts ascending, a row per account and group that it holds; accounts without positions have none.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import options_sample
        >>> sample = options_sample(100)
        >>> losses = rc.scenario_losses(sample.accounts, sample.venue, sample.tick, block=60)
        >>> [block.loss.shape for block in losses.blocks()]
        [(30, 32), (32, 32), (41, 32)]
        """
        table, portfolios = self.table, self.portfolios
        names, end = np.array(self.groups, object), len(self.account)
        parts: list[LossBlock] = []
        for first in range(0, end, step := max(self.block // len(names), 1)):  # of all groups
            last = min(first + step, end)
            account, group = _held(table, portfolios, first, last)
            loss = 0.0 - table.losses(portfolios, first, last)[account, group]
            if parts and sum(len(part.account) for part in parts) + len(account) > self.block:
                yield LossBlock(*map(np.concatenate, zip(*parts, strict=True)))
                parts = []
            parts.append(LossBlock(self.account[first:last][account], names[group], loss))
        if parts:
            yield LossBlock(*map(np.concatenate, zip(*parts, strict=True)))


def scenario_losses(
    accounts: Accounts, venue: Venue, tick: Tick, *, block: int = 4096, threads: int | None = None
) -> ScenarioLosses:
    """Compute what the portfolio of every account would lose in the worst scenario of the venue's model, and in which.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue, with the margin model "scenario".
    tick : Tick
        The prices.
    block : int
        Largest number of rows of one of `ScenarioLosses.blocks`, >= 1, but for an account that holds more groups.
    threads : int, optional
        As of `sweep`.

    Returns
    -------
    ScenarioLosses
        A row per account.

    Raises
    ------
    RiskDataError
        The venue has another margin model, a price is missing, or the accounts were read with a venue of other units.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> rc.scenario_losses(sample.accounts, sample.venue, sample.tick).scenario_name[:3].tolist()
    ['-18 % up', '+18 % up', '+18 % up']
    """
    if not isinstance(block, int | np.integer) or isinstance(block, bool) or block < 1:
        raise RiskDataError("block", None, "must be a whole number >= 1", value=as_text(block))
    prices = scenario_prices(accounts, venue, tick)
    table, portfolios = table_of(prices), portfolios_at(accounts, np.arange(len(accounts)), prices)
    needed = table.requirements(portfolios, worst=True, threads=threads)
    return ScenarioLosses(
        account=accounts.ids,
        requirement=needed.maintenance,
        worst_loss=needed.group_loss,
        scenario=needed.worst,
        group=needed.group,
        scenarios=scenario_names(table),
        groups=group_names(table),
        block=int(block),
        table=table,
        portfolios=portfolios,
    )


def scenario_prices(accounts: Accounts, venue: Venue, tick: Tick) -> Prices:
    """Read the prices of a tick of a venue whose margin model is that of scenarios.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue.
    tick : Tick
        The prices.

    Returns
    -------
    Prices
        Complete prices.

    Raises
    ------
    RiskDataError
        The venue has another margin model, or a price is missing.
    """
    must_fit(accounts, venue)
    name = model_of(venue).name
    if name != "scenario":
        raise RiskDataError("venue", "policy.margin_model", "must be scenario: others have no scenarios", value=name)
    return Prices.read(venue, accounts, tick)


def portfolios_at(accounts: Accounts, row: Int, prices: Prices) -> Portfolios:
    """Return the positions of some accounts as portfolios whose rows nobody else has, without orders.

    Parameters
    ----------
    accounts : Accounts
        The state.
    row : ndarray of int64, shape (n,)
        Account rows.
    prices : Prices
        Complete prices.

    Returns
    -------
    Portfolios
        n portfolios.
    """
    shared = portfolios_of(accounts, row, folded(prices).layout, prices)
    rows = slice(int(shared.span[0]), int(shared.span[-1]))
    return Portfolios(shared.span - shared.span[0], shared.instrument[rows], shared.size[rows])


def owners_of(portfolios: Portfolios) -> Int:
    """Return the account of each position of portfolios.

    Parameters
    ----------
    portfolios : Portfolios
        Portfolios of N positions.

    Returns
    -------
    ndarray of int64, shape (N,)
        Places of the accounts.
    """
    count = portfolios.span[1:].astype(np.int64) - portfolios.span[:-1]
    return np.repeat(np.arange(len(portfolios)), count)


def scenario_names(table: ScenarioTable) -> pd.DataFrame:
    """Return the scenarios of a model, and the basis contingency behind them if it has one.

    Parameters
    ----------
    table : ScenarioTable
        The table of record.

    Returns
    -------
    DataFrame
        scenario, name, move, vol, weight, hours.
    """
    scenarios = table.model.describe()
    if table.arrays.has_basis:
        row = [len(scenarios), "basis", np.nan, "same", 1.0, 0.0]
        basis = pd.DataFrame([row], columns=scenarios.columns)
        scenarios = pd.concat([scenarios, basis], ignore_index=True)
    return scenarios


def group_names(table: ScenarioTable) -> tuple[str, ...]:
    """Return the groups of underlyings of a table, each by its underlyings.

    Parameters
    ----------
    table : ScenarioTable
        The table of record.

    Returns
    -------
    tuple of str
        In the order of the groups.
    """
    names = table.instruments.underlyings
    return tuple("+".join(names[u] for u in group.members) for group in table.model.groups_of(names))


def _held(table: ScenarioTable, portfolios: Portfolios, first: int, last: int) -> tuple[Int, Int]:
    """Accounts, counted from the first, and the groups that each holds, ascending."""
    span = portfolios.span[first : last + 1].astype(np.int64)
    rows = slice(int(span[0]), int(span[-1]))
    account = np.repeat(np.arange(last - first), np.diff(span))
    underlying = table.arrays.underlying[portfolios.instrument[rows]]
    counts = (underlying >= 0) & (portfolios.size[rows] != 0.0)
    groups = len(table.arrays.group_size)
    held = np.unique(account[counts] * groups + table.arrays.group[underlying[counts]])
    return held // groups, held % groups


def _by_number(names: list[str], number: Int) -> npt.NDArray[Any]:
    """Names by their places; the last one for -1."""
    return np.array(names, object)[number]
