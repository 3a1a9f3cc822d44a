"""One event under every policy: the same requests, in order, over the same winners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from .._limits import POSITION_LIMIT
from .._typing import Float, Int
from ..boundary import RiskDataError, schemas
from ..venue import AdlPolicy, Counterparties, allocate
from .tables import checked_pair, quanta
from .tally import Start, Tally

REQUIREMENT = 0.01
"""Maintenance margin per notional, where the winners table has none: no built-in policy depends on its size."""


@dataclass(frozen=True)
class Event:
    """The two tables in whole numbers: N positions of A accounts, R requests.

    A lot has the value of one quantum of the settle asset at the first mark: a market's price is 1 until it moves.

    Attributes
    ----------
    names : DataFrame
        account, market, side of the positions.
    owner, group, lots, side : ndarray of int64, shape (N,)
        Account, market and side as one number, size > 0, and 1 for a long position, -1 for a short one.
    profit, requirement : ndarray of float64, shape (N,)
        Settle units, at the first mark.
    equity, exposure, maintenance : ndarray of float64, shape (A,)
        Equity, and the exposure and maintenance margin of positions that are not in the table; settle units.
    time, wanted_group : ndarray of int64, shape (R,)
        Ascending times, and the group of the positions to be closed, -1 if nobody has one.
    notional, deficit : ndarray of int64, shape (R,)
        Notional and deficit in quanta.
    price : ndarray of float64, shape (R,)
        Mark over the market's first mark.
    """

    names: pd.DataFrame
    owner: Int
    group: Int
    lots: Int
    side: Int
    profit: Float
    requirement: Float
    equity: Float
    exposure: Float
    maintenance: Float
    time: Int
    wanted_group: Int
    notional: Int
    deficit: Int
    price: Float
    quantum: float

    @classmethod
    def from_frames(cls, winners: pd.DataFrame, requests: pd.DataFrame, quantum: float, *, unit: str = "ns") -> Event:
        """Check and convert the tables; docs/adl_study.md has their columns, ``unit`` is of whole-number times.

        Raises
        ------
        RiskDataError
            A table breaks a rule.
        """
        quantum = schemas.figure("quantum", quantum)
        if not 1e-18 <= quantum <= 1e18:
            raise RiskDataError("quantum", None, "must be a number from 1e-18 to 1e18", value=quantum)
        winners, requests = checked_pair(winners, requests, unit=unit)
        owner, _ = pd.factorize(winners["account"])
        accounts = int(owner.max()) + 1
        keys = pd.MultiIndex.from_frame(winners[["market", "side"]])
        group, groups = pd.factorize(keys)
        notional = winners["notional"].to_numpy()
        requirement = winners["requirement"].to_numpy() if "requirement" in winners.columns else REQUIREMENT * notional
        totals = np.bincount(owner, notional, accounts), np.bincount(owner, requirement, accounts)
        first = winners.groupby(owner).first()
        exposure = (first["leverage"] * first["equity"]).to_numpy() - totals[0]
        maintenance = (
            first["maintenance"].to_numpy() - totals[1] if "maintenance" in winners.columns else REQUIREMENT * exposure
        )
        mark = requests["mark"].to_numpy()
        return cls(
            names=winners[["account", "market", "side"]],
            owner=owner.astype(np.int64),
            group=group.astype(np.int64),
            lots=quanta("winners", winners["notional"], quantum),
            side=np.where(winners["side"] == "long", 1, -1),
            profit=winners["pnl"].to_numpy(),
            requirement=requirement,
            equity=first["equity"].to_numpy(),
            exposure=np.maximum(exposure, 0.0),
            maintenance=np.maximum(maintenance, 0.0),
            time=requests["time"].to_numpy(),
            wanted_group=groups.get_indexer(pd.MultiIndex.from_frame(requests[["market", "side"]])),
            notional=quanta("requests", requests["notional"], quantum),
            deficit=quanta("requests", requests["deficit"], quantum),
            price=mark / requests.groupby("market")["mark"].transform("first").to_numpy(),
            quantum=quantum,
        )

    def by_time(self) -> Iterator[tuple[int, range]]:
        """Times, and the rows of their requests."""
        edges = np.r_[np.flatnonzero(np.r_[True, np.diff(self.time) != 0]), len(self.time)]
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield int(self.time[first]), range(first, end)


@dataclass
class _State:
    """The winners' positions as a policy has left them."""

    event: Event
    left: Int  # lots
    price: Float  # of a lot, in quanta
    haircut: Int  # so far, in quanta
    realised: Float  # profit of the closed lots since the first mark, in quanta

    def margins(self) -> tuple[Float, Float, Float]:
        """Equity and maintenance margin of the accounts, and that of each position, in settle units."""
        event = self.event
        gain = event.side * self.left * (self.price - 1) + self.realised - self.haircut
        requirement = event.requirement * (self.left / event.lots) * self.price
        equity = event.equity + self._per_account(gain) * event.quantum
        return equity, event.maintenance + self._per_account(requirement), requirement

    def sweep(self) -> tuple[Counterparties, Float, Float]:
        """All positions as a policy sees them; equity and profit of the accounts in quanta."""
        event, unit = self.event, self.event.quantum
        value = event.side * self.left * self.price * unit
        profit = event.profit * (self.left / event.lots) + event.side * self.left * (self.price - 1) * unit
        equity, maintenance, requirement = self.margins()
        profits = self._per_account(profit)
        exposure = event.exposure + self._per_account(np.abs(value))
        counterparties = Counterparties(
            lots=self.left, value=value, entry=value - profit, requirement=requirement, equity=equity[event.owner],
            exposure=exposure[event.owner], maintenance=maintenance[event.owner], profit=profits[event.owner],
        )  # fmt: skip
        return counterparties, equity / unit, profits / unit

    def absorbable(self, rows: Int, loss: float) -> Int:
        """Lots of each position that can be closed at a loss per lot with the account's margin ratio still under 1.

        Requirements shrink with the position, in proportion; haircuts of earlier requests of the same time count.
        """
        equity, maintenance, requirement = self.margins()
        per_lot = requirement[rows] / np.maximum(self.left[rows], 1) / self.event.quantum
        above = (equity - maintenance)[self.event.owner[rows]] / self.event.quantum
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(loss > per_lot, np.ceil(above / (loss - per_lot)) - 1, np.inf)
        most = np.where(
            above > 0, np.clip(most, 0, float(POSITION_LIMIT)), np.where(loss <= per_lot, float(POSITION_LIMIT), 0)
        )
        return most.astype(np.int64)

    def _per_account(self, values: Float) -> Float:
        return np.bincount(self.event.owner, values, len(self.event.equity)).astype(np.float64)


def run(event: Event, policy: AdlPolicy, gap: int) -> tuple[Tally, pd.DataFrame]:
    """Run all requests under one policy.

    Returns
    -------
    The figures; and the positions with the whole quanta closed of each, at its first mark, and taken from it.
    """
    ones = np.ones(len(event.lots))
    state = _State(event, event.lots.copy(), ones.copy(), np.zeros_like(event.lots), np.zeros(len(event.lots)))
    profit = np.bincount(event.owner, event.profit, len(event.equity)) / event.quantum
    tally = Tally(policy.name, Start(event.owner, event.side * event.lots, ones, profit), gap, event.quantum)
    for time, requests in event.by_time():
        for r in requests:
            state.price[event.group == event.wanted_group[r]] = event.price[r]
        counterparties, equity, profits = state.sweep()
        tally.begin(time, state.price.copy(), equity, profits)
        able = np.flatnonzero((counterparties.lots > 0) & (counterparties.equity > 0))
        groups = {g: able[event.group[able] == g] for g in set(event.wanted_group[requests.start : requests.stop])}
        for r in requests:
            rows = groups[event.wanted_group[r]]
            _close(state, tally, policy, rows, _chosen(counterparties, rows), r)
        tally.end()
    closed = event.names.assign(policy=policy.name, closed=event.lots - state.left, haircut=state.haircut)
    return tally, closed


def _close(
    state: _State, tally: Tally, policy: AdlPolicy, rows: Int, counterparties: Counterparties, request: int
) -> None:
    """Close the notional of a request as far as there is room; take its deficit from the closed positions, by size."""
    event = state.event
    need = round(event.notional[request] / event.price[request])
    room = np.minimum(state.left[rows], state.absorbable(rows, event.deficit[request] / max(need, 1)))
    if policy.reach:  # a deal beyond the winner's zero price would leave it with negative equity
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.nan_to_num(counterparties.equity * counterparties.requirement / counterparties.maintenance)
        room = np.where(share >= event.deficit[request] / max(need, 1) * event.quantum * counterparties.lots, room, 0)
    lots = allocate(policy, counterparties, need, room)
    hit = np.flatnonzero(lots)
    rows, lots = rows[hit], lots[hit]
    filled = int(lots.sum())
    tally.request((need - filled) * event.price[request], event.deficit[request])
    taken = round(Fraction(int(event.deficit[request]) * filled, max(need, 1)))
    haircut = _split(taken, lots)
    state.left[rows] -= lots
    state.haircut[rows] += haircut
    signed = event.side[rows] * lots
    state.realised[rows] += signed * (state.price[rows] - 1)
    tally.deal(rows, signed, haircut)


def _split(total: int, lots: Int) -> Int:
    """Split a whole amount by size, exactly; of the quanta that rounding leaves the first rows get one each."""
    if not len(lots):
        return lots
    share: Int = np.floor(total * (lots / lots.sum())).astype(np.int64)
    rest = total - int(share.sum())
    share[: abs(rest)] += np.sign(rest)
    return share


def _chosen(counterparties: Counterparties, rows: Int) -> Counterparties:
    return Counterparties(*(getattr(counterparties, name)[rows] for name in Counterparties.__dataclass_fields__))
