"""The state that the liquidation of a tick works on, and the transfers that its phases make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._typing import Float, Int
from ..context import TickContext
from ..kernels import margin as kernels
from ..kernels import margin_model
from ..kernels.integer_math import cost_change
from ..kernels.layouts import BookColumns, SliceRules
from ..margin import MarginTable, folded, margin_table, margins_of, model_of
from ..market import Prices
from ..state import Accounts
from .throttle import Draws, draws


class _Snapshot(NamedTuple):
    """Account rows, their margins, their position rows, and lots and entry of these."""

    accounts: Int
    margins: MarginTable
    rows: Int
    lots: Int
    entry: Int


class Before:
    """State of all accounts when the accounts of a tick were selected, computed when it is first needed.

    An account is copied before its first change; the others still have that state.

    Parameters
    ----------
    accounts
        The state, not changed here; its packed view stays that of this moment until the tick is over.
    prices
        The tick's.
    selected, margins
        Account rows that were selected, and their margins.
    """

    def __init__(self, accounts: Accounts, prices: Prices, selected: Int, margins: MarginTable) -> None:
        self._accounts, self._prices = accounts, prices
        self._in_snapshots: set[int] = set()
        self._snapshots: list[_Snapshot] = []
        self._take_snapshot(selected, margins)

    def remember(self, account: int) -> None:
        """Copy the state of an account before its first change."""
        if account not in self._in_snapshots:
            row = np.array([account])
            self._take_snapshot(row, margins_of(self._accounts, row, self._prices))

    def _take_snapshot(self, accounts: Int, margins: MarginTable) -> None:
        rows, columns = self._accounts.position_rows(accounts)[0], self._accounts.columns
        self._in_snapshots.update(accounts.tolist())
        self._snapshots.append(_Snapshot(accounts, margins, rows, columns.lots[rows], columns.entry[rows]))

    @cached_property
    def table(self) -> MarginTable:
        """Margin of every account."""
        table = margin_table(self._accounts, self._prices)
        for snapshot in self._snapshots:
            table.put(snapshot.accounts, snapshot.margins)
        return table

    @cached_property
    def lots(self) -> Int:
        """Lots of every position row."""
        lots = self._accounts.columns.lots.copy()
        for snapshot in self._snapshots:
            lots[snapshot.rows] = snapshot.lots
        return lots

    @cached_property
    def entry(self) -> Int:
        """Entry cost of every position row, settle quanta."""
        entry = self._accounts.columns.entry.copy()
        for snapshot in self._snapshots:
            entry[snapshot.rows] = snapshot.entry
        return entry


@dataclass(frozen=True)
class TickState(TickContext):
    """The state that a tick's liquidation changes, and the state ``before``, when its accounts were selected.

    ``selected`` holds the liquidating accounts in the order of treatment, ``keys`` their seeded keys. ``book`` and
    ``rules`` are shared by all slices, which use up the depth; ``escalated`` has the accounts that go on to the
    backstop because a slice would harm them, ``converted`` the settle quanta that were converted at the index, by
    asset; ``fee_rates`` the rate of the fee, numerator and denominator, of each fill in a book, in a dry run alone.
    """

    before: Before
    selected: Int
    keys: Draws
    book: BookColumns
    rules: SliceRules
    converted: dict[int, int] = field(default_factory=dict)
    escalated: set[int] = field(default_factory=set)
    fee_rates: dict[tuple[int, int], tuple[int, int]] | None = None
    _last_mmr: dict[tuple[int, int], float] = field(default_factory=dict)  # one, by account and number of rows
    _decided: list[tuple[int, npt.NDArray[np.uint8]]] = field(default_factory=list)  # number of rows, statuses then

    def participates(self, index: npt.NDArray[np.int64], number: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether legs participate in a round: index of the selected account, number of the draw."""
        probability = self.venue.policy.slice_probability
        if probability == 1:
            return np.ones(len(index), bool)
        return draws(self.keys[index], number) < np.uint64(floor(probability * 2**64))

    def statuses(self) -> npt.NDArray[np.uint8]:
        """Margin status of each selected account now; every change since the last call has written a row."""
        if not self._decided or self._decided[0][0] != len(self.journal):
            self._decided[:] = [(len(self.journal), self._statuses_now())]
        return self._decided[0][1]

    def _statuses_now(self) -> npt.NDArray[np.uint8]:
        status = np.empty(len(self.selected), np.uint8)
        margin_model.account_statuses(self.selected, self.accounts.columns, folded(self.prices), status)
        for n in np.flatnonzero(status == kernels.DOUBT):
            status[n] = self.margin(int(self.selected[n])).status
        return status

    def to_close(self, *, past_the_book: bool) -> Iterator[tuple[int, str]]:
        """Selected accounts whose positions a stage closes now, in order, each with the reason.

        They are all that are liquidating, but past the stage of the book only those below auto-close or escalated.
        """
        status = self.statuses()
        below, escalated = status == kernels.BELOW_AUTO_CLOSE, np.isin(self.selected, list(self.escalated))
        closed = below | ((status != kernels.SAFE) & (escalated | (not past_the_book)))
        for n in np.flatnonzero(closed).tolist():
            yield int(self.selected[n]), "below_auto_close" if below[n] else "escalated" if escalated[n] else "mmr"

    def is_other(self, account: int, accounts: Int | int) -> npt.NDArray[np.bool_]:
        """Whether accounts have another owner than an account: an owner's accounts are never counterparties."""
        owner = self.accounts.owner
        return np.asarray(owner[accounts] != owner[account])

    def healthy(self, account: int) -> bool:
        """Whether the maintenance margin ratio of an account is under 1."""
        return self.margin(account).status == kernels.SAFE

    def stays_healthy(self, account: int) -> bool:
        """Whether the MMR of a counterparty is below the policy's limit, and its net equity not below 0."""
        return self.margin(account).stays_healthy(self.venue.policy.counterparty_mmr)

    def covers_initial_margin(self, account: int) -> bool:
        """Whether the initial margin ratio of an account is under 1, and its net equity not below 0."""
        return model_of(self.venue).covers_initial_margin(self.accounts, account, self.prices)

    def _mmr(self, account: int, *, changed: bool = False) -> float:
        """Margin ratio of an account; that of its last hand-over until another row is written.

        ``changed`` is for an account whose row is written next.
        """
        key = account, len(self.journal) + changed
        if changed or key not in self._last_mmr:
            self._last_mmr.clear()
            self._last_mmr[key] = self.margin(account).mmr
        return self._last_mmr[key]

    def add_cash(self, account: int, quanta: int) -> None:
        """Add to the free balance of the venue's settle asset of an account."""
        columns = self.accounts.columns
        columns.free[columns.settle_row[account]] += quanta

    def change_position(self, row: int, change: int, flow: int) -> tuple[int, int, int]:
        """Change a position by lots against money received; return the changes of cost, cash and entry."""
        columns = self.accounts.columns
        lots = int(columns.lots[row])
        cost = int(cost_change(lots, int(columns.cost[row]), change, flow))
        entry = int(cost_change(lots, int(columns.entry[row]), change, flow))
        columns.lots[row] += change
        columns.cost[row] += cost
        columns.entry[row] += entry
        balance = columns.position_balance[row]
        columns.balance_cost[balance] += cost
        columns.free[balance] += flow + cost
        return cost, flow + cost, entry

    def after_fill(self, row: int, account: int, change: int, flow: int, passes: Callable[[int], bool]) -> bool:
        """Whether an account passes a test once a position has changed by lots against money; it does not change."""
        columns = self.accounts.columns
        balance = columns.position_balance[row]
        cells = [(column, row) for column in (columns.lots, columns.cost, columns.entry)]
        cells += [(column, balance) for column in (columns.balance_cost, columns.free)]
        before = [column[index] for column, index in cells]
        self.change_position(row, change, flow)
        passed = passes(account)
        for (column, index), value in zip(cells, before, strict=True):
            column[index] = value
        return passed

    def prices_of(self, market: Int, lots: Int, flow: Int) -> Float:
        """Prices at which lots of some markets are worth these quanta of the markets' settle assets.

        An inverse contract has none for a flow of 0 quanta: the mark then.
        """
        markets, assets = self.venue.markets, self.venue.assets
        none = markets.inverse[market] & (flow == 0)
        money = np.where(none, 1, flow) * assets.quantum_size[markets.settle[market]]
        return np.where(none, self.prices.mark[market], markets.prices_of(market, lots, money))

    def after_exchange(self, row: int, account: int, quanta: int, cash: int, passes: Callable[[int], bool]) -> bool:
        """Whether an account passes a test once a free balance and settle have changed; they do not change."""
        free = self.accounts.columns.free
        free[row] += quanta
        self.add_cash(account, cash)
        passed = passes(account)
        free[row] -= quanta
        self.add_cash(account, -cash)
        return passed

    def exchange(
        self, event: str, reason: str, account: int, row: int, counterparty: int, size: int, *, quanta: int = 0,
        lent: int = 0, cash: int, to_fund: int = 0,
    ) -> None:  # fmt: skip
        """Change a balance row and the settle of an account against those of a counterparty account; write the row.

        ``to_fund`` is the payment of the counterparty on top of ``cash``; ``size`` are the quanta to be exchanged.
        """
        columns, venue = self.accounts.columns, self.venue
        self.before.remember(counterparty)
        asset, before = int(columns.asset[row]), self._mmr(account)
        columns.free[row] += quanta
        columns.lent[row] += lent
        self.add_cash(account, cash)
        columns.free[self.accounts.balance_row(counterparty, asset)] -= quanta + lent
        self.add_cash(counterparty, -cash - to_fund)
        self.ledger.fund[venue.settle] += to_fund
        price = -cash * float(venue.settle_quantum) / ((quanta + lent) * float(venue.assets.quantum[asset]))
        self.journal.add(
            event, reason, account, before, self._mmr(account, changed=True), counterparty=counterparty, asset=asset,
            settle=venue.settle, requested=size, quanta=quanta, lent=lent, cash=cash, counter_cash=-cash - to_fund,
            fund=to_fund, price=price,
        )  # fmt: skip

    def transfer(
        self, event: str, reason: str, account: int, row: int, counterparty: int, lots: int, size: int, flow: int,
        to_fund: int = 0,
    ) -> None:  # fmt: skip
        """Move ``lots`` of a position row to a counterparty account, off the book, and write the row.

        ``flow`` is the money that the account receives, ``to_fund`` the payment of the counterparty on top, quanta of
        the market's settle asset; ``size`` is the position to be handed over.
        """
        market = int(self.accounts.columns.market[row])
        settle = int(self.venue.markets.settle[market])
        self.before.remember(counterparty)
        before = self._mmr(account)
        cost, cash, entry = self.change_position(row, -lots, flow)
        other = self.accounts.position_row(counterparty, market)
        counter_cost, counter_cash, counter_entry = self.change_position(other, lots, -flow - to_fund)
        self.ledger.fund[settle] += to_fund
        price = float(self.prices_of(np.array([market]), np.array([lots]), np.array([flow]))[0])
        self.journal.add(
            event, reason, account, before, self._mmr(account, changed=True), counterparty=counterparty, market=market,
            settle=settle, requested=size, lots=-lots, cost=cost, cash=cash, entry=entry, counter_cost=counter_cost,
            counter_cash=counter_cash, counter_entry=counter_entry, fund=to_fund, price=price,
        )  # fmt: skip


class CumulativeRounding:
    """Splits a whole amount over a whole number of lots so that the parts add up to it exactly."""

    def __init__(self, amount: int, lots: int) -> None:
        self.amount, self.lots, self._done, self._paid = amount, lots, 0, 0

    def peek(self, lots: int) -> int:
        """Part of the amount that would go with the next ``lots``."""
        return round(Fraction(self.amount * (self._done + lots), self.lots)) - self._paid

    def next(self, lots: int) -> int:
        """Part of the amount that goes with the next ``lots``."""
        part = self.peek(lots)
        self._done, self._paid = self._done + lots, self._paid + part
        return part


def largest_passing(limit: int, passes: Callable[[int], bool]) -> int:
    """Return a limit if it passes a test, else a smaller number that does while the next does not, by halving; or 0."""
    if limit == 0 or passes(limit):
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low
