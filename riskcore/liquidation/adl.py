"""Auto-deleveraging, a stage: closing against opposing accounts by the venue's policy."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from math import ceil

import numpy as np
import numpy.typing as npt

from .._typing import Float, Int
from ..boundary import units
from ..kernels import margin_model as kernels
from ..margin import exact, folded
from ..venue import POLICIES, Counterparties, integer_weights, ranked, top_of_queue, water_fill
from .backstop import by_requirement
from .tick_state import CumulativeRounding, TickState, largest_passing


def deleverage(state: TickState, *, past_the_book: bool) -> None:
    """Close positions against accounts with opposite ones, if the policy has ADL switched on now."""
    if not _is_on(state):
        return
    sides: dict[tuple[int, int], _Opposing] = {}
    for account, _ in state.to_close(past_the_book=past_the_book):
        margin = state.margin(account)
        for row in by_requirement(margin):
            market, lots = int(state.accounts.columns.market[row]), int(state.accounts.columns.lots[row])
            side = 1 if lots > 0 else -1
            if (market, side) not in sides:
                sides[market, side] = _Opposing(state, market, -side)
            opposing = sides[market, side]
            if len(opposing.rows):
                _Deal(state, account, row, margin, opposing).close()
                if state.healthy(account):
                    break


def _is_on(state: TickState) -> bool:
    """Whether ADL acts in this instant; between two levels of the fund it stays on or off as it was."""
    policy, ledger = state.venue.policy, state.ledger
    if policy.adl_when == "backstop_exhausted":
        return True
    fund = int(ledger.fund[state.venue.settle])
    level = fund * state.venue.settle_quantum
    if ledger.adl_on:
        ledger.adl_on = not (fund > 0 and level >= policy.adl_fund_off)
    else:
        ledger.adl_on = level < policy.adl_fund_on or fund == 0
    return ledger.adl_on


class _Opposing:
    """Positions of one side of a market that may be closed in this tick, by account; ``rank`` is the policy's."""

    def __init__(self, state: TickState, market: int, side: int) -> None:
        self.columns, self.side = state.accounts.columns, side
        self.policy = POLICIES[state.venue.policy.adl_policy]
        self.rows, self.accounts, figures = _counterparties(state, market, side)
        self.rank = ranked(self.policy, figures)
        cap = state.venue.policy.adl_cap
        self.allowed = figures.lots if cap == 1 else np.array([ceil(cap * n) for n in figures.lots.tolist()], np.int64)
        self.closed = np.zeros(len(self.rows), np.int64)
        if self.policy.shared:
            self.weight = integer_weights(self.rank)
            return
        # no more can be requested than all selected accounts have on the other side
        opposing_rows, _ = state.accounts.position_rows(state.selected)
        opposing_rows = opposing_rows[self.columns.market[opposing_rows] == market]
        self.need = max(int(np.maximum(-side * self.columns.lots[opposing_rows], 0).sum()), 1)
        self.total = int(self.allowed.sum())
        self.head, self.front = top_of_queue(self.rank, self.allowed, self.need), 0

    def room(self) -> Int:
        """Lots that each may lose now."""
        lots = np.maximum(self.side * self.columns.lots[self.rows], 0)
        return np.asarray(np.minimum(lots, self.allowed - self.closed), np.int64)

    def room_of(self, n: int) -> int:
        """Lots that one may lose now."""
        return int(min(max(self.side * self.columns.lots[self.rows[n]], 0), self.allowed[n] - self.closed[n]))

    def in_order(self) -> Iterator[int]:
        """Yield the counterparties of the queue that have room, in order; more of the queue is sorted when needed."""
        while self.front < len(self.head) and not self.room_of(int(self.head[self.front])):
            self.front += 1
        index = self.front
        while True:
            if index == len(self.head):
                if self.need >= self.total:
                    return
                self.need = min(4 * self.need, self.total)
                self.head = top_of_queue(self.rank, self.allowed, self.need)
                continue
            n = int(self.head[index])
            if self.room_of(n):
                yield n
            index += 1


class _Deal:
    """One position against opposing ones; ``margin`` is that of its account before its first position is closed."""

    def __init__(
        self, state: TickState, account: int, row: int, margin: exact.ExactMargin, opposing: _Opposing
    ) -> None:
        lots = int(state.accounts.columns.lots[row])
        self.state, self.account, self.row, self.opposing = state, account, row, opposing
        self.market, self.size, self.side = int(state.accounts.columns.market[row]), abs(lots), 1 if lots > 0 else -1
        quantum = state.quantum_value(int(state.venue.markets.settle[self.market]))
        equity = Fraction(margin.equity) * (1 - state.venue.policy.adl_price)
        flow = exact.zero_price_flow(margin, row, equity, state.venue.policy.zero_price_band, quantum)
        self.flow, self.left = CumulativeRounding(flow, self.size), self.size
        self.gain = (Fraction(margin.value[row]) - flow * quantum) / self.size

    def close(self) -> None:
        """Close the position as far as counterparties have room."""
        if self.opposing.policy.shared:
            self._share()
        else:
            for n in self.opposing.in_order():
                if self.state.is_other(self.account, self.opposing.accounts[n]):
                    self._offer(n, min(self.left, self.opposing.room_of(n)))
                if not self.left:
                    break

    def _share(self) -> None:
        """Close against all at once, by weight; lots that a counterparty cannot absorb are split among the others."""
        cut = ~self.state.is_other(self.account, self.opposing.accounts)
        while self.left:
            room = np.where(cut, 0, self.opposing.room())
            parts = water_fill(self.left, self.opposing.weight, room)
            offered = np.flatnonzero(parts)
            for n, lots in zip(offered.tolist(), parts[offered].tolist(), strict=True):
                cut[n] = self._offer(n, lots) < lots
            if not cut[offered].any():
                return

    def _offer(self, n: int, lots: int) -> int:
        """Close at most ``lots`` of a counterparty, as many as leave it healthy; return their number."""
        state, opposing = self.state, self.opposing
        row, counterparty = int(opposing.rows[n]), int(opposing.accounts[n])
        if opposing.policy.reach and not self._reaches(row, counterparty):
            return 0
        taken = largest_passing(lots, partial(self._can_absorb, row, counterparty))
        if taken:
            state.transfer(
                "adl", state.venue.policy.adl_when, self.account, self.row, counterparty, self.side * taken, self.size,
                self.flow.next(taken),
            )  # fmt: skip
            opposing.closed[n] += taken
            self.left -= taken
        return taken

    def _can_absorb(self, row: int, counterparty: int, lots: int) -> bool:
        """Whether a counterparty stays healthy after it has closed this many lots."""
        return self.state.after_fill(
            row, counterparty, self.side * lots, -self.flow.peek(lots), self.state.stays_healthy
        )

    def _reaches(self, row: int, counterparty: int) -> bool:
        """Whether a counterparty has equity left at the price of the deal: its own zero price is beyond that price."""
        margin = self.state.margin(counterparty)
        share = exact.equity_share(margin, margin.requirement[row], margin.equity)
        return share + self.gain * abs(int(self.state.accounts.columns.lots[row])) >= 0


def _counterparties(state: TickState, market: int, side: int) -> tuple[Int, Int, Counterparties]:
    """Position rows, account rows and figures, at the tick's sweep, of the possible counterparties on one side."""
    columns, table, prices = state.accounts.columns, state.before.table, state.prices
    rows = np.flatnonzero((columns.market == market) & (state.before.lots * side > 0))
    account = state.accounts.position_accounts()[rows]
    by_id = state.accounts.by_id(account)
    rows, account = rows[by_id], account[by_id]
    keep = ~np.isin(account, state.selected) & (table.net_equity[account] > 0)
    rows, account = rows[keep], account[keep]
    value, paid = _values_and_entries(state, rows)
    if state.venue.policy.adl_counterparties == "profitable":
        keep = _profitable(state, rows, value, paid)
        rows, account, value, paid = rows[keep], account[keep], value[keep], paid[keep]
    requirement = np.empty(len(rows))
    at_sweep = columns._replace(lots=state.before.lots)
    kernels.position_requirements(account, rows, at_sweep, folded(prices), requirement)
    all_rows, counts = state.accounts.position_rows(account)
    all_value, entry = _values_and_entries(state, all_rows)
    profit = np.bincount(np.repeat(np.arange(len(account)), counts), all_value - entry, len(account)).astype(float)
    figures = Counterparties(
        lots=np.abs(state.before.lots[rows]), value=value, entry=paid, requirement=requirement,
        equity=table.net_equity[account], exposure=table.exposure[account],
        maintenance=table.maintenance_margin[account], profit=profit,
    )  # fmt: skip
    for figure in vars(figures).values():
        figure.flags.writeable = False  # a user's policy must not change them
    return rows, account, figures


def _values_and_entries(state: TickState, rows: Int) -> tuple[Float, Float]:
    """Signed values of positions at the mark, and their entry costs, at the tick's sweep, in settle units."""
    market, arrays = state.accounts.columns.market[rows], state.prices.arrays
    quantum = arrays.price_per_quantum[arrays.market_settle[market]] * float(state.venue.settle_quantum)
    value = state.before.lots[rows] * arrays.value_per_lot[market] * quantum
    return np.asarray(value), np.asarray(state.before.entry[rows] * quantum)


def _profitable(state: TickState, rows: Int, value: Float, paid: Float) -> npt.NDArray[np.bool_]:
    """Whether the values of positions exceed their entry costs; exactly."""
    keep, venue = value > paid, state.venue
    for n in np.flatnonzero(np.abs(value - paid) <= 1e-12 * np.abs(paid)).tolist():  # float64 cannot tell
        m = int(state.accounts.columns.market[rows[n]])
        per_lot = venue.markets.lot_value(m, units.exact(state.prices.mark[m]))
        entry = int(state.before.entry[rows[n]]) * venue.assets.quantum[venue.markets.settle[m]]
        keep[n] = int(state.before.lots[rows[n]]) * per_lot > entry
    return np.asarray(keep)
