"""The stage `backstop`: providers take over positions and borrows that the book cannot close, at the zero price."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..boundary import exact as to_fraction
from ..margin import exact
from ..venue import water_fill
from .convert import settle_per_quantum
from .tick_state import CumulativeRounding, TickState, largest_passing

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_NO_LIMIT = Fraction(10) ** 12  # settle units: capacity of a provider without a limit
_BITS = 50  # of a weight: many of them still fit 64 bits


_Limits: TypeAlias = dict[int, list[Fraction | None]]


def hand_over(state: TickState, *, past_the_book: bool) -> None:
    """Close positions of accounts, and the borrows of those below auto-close, against the providers."""
    selected = set(state.selected.tolist())
    providers = sorted(
        (account, p)
        for p, provider in enumerate(state.venue.backstop)
        if (account := state.accounts.row_of(provider.account)) not in selected
    )
    if not providers:
        return
    limits: _Limits = {}
    for _, p in providers:
        rules = state.venue.backstop[p]
        amounts = (rules.capacity_per_min, rules.capacity_per_hour, rules.max_notional)
        limits[p] = [None if amount is None else amount / state.venue.settle_quantum for amount in amounts]
    for account, reason in state.to_close(past_the_book=past_the_book):
        takeover = _Takeover(state, account, reason, providers, limits)
        for row in by_requirement(takeover.margin):
            takeover.hand_over_position(row)
        if reason == "below_auto_close":
            takeover.hand_over_borrows()


def by_requirement(margin: exact.ExactMargin) -> list[int]:
    """Position rows by maintenance margin, the largest first, ties by market."""
    return sorted(margin.requirement, key=lambda row: (-margin.requirement[row], row))


class _Takeover:
    """Takeover of one account; ``margin`` is its margin at the start.

    ``limits`` are those of each provider per minute, per hour and altogether, settle quanta; None: no limit.
    """

    def __init__(
        self, state: TickState, account: int, reason: str, providers: list[tuple[int, int]], limits: _Limits
    ) -> None:
        self.state, self.account, self.reason, self.limits = state, account, reason, limits
        others = state.is_other(account, np.array([row for row, _ in providers]))
        self.providers = [provider for provider, other in zip(providers, others.tolist(), strict=True) if other]
        self.margin = state.margin(account)
        self.quantum, self.fund_share = state.venue.settle_quantum, state.venue.policy.backstop_fund_share
        # without equity left the price is the mark: no provider pays for another account's loss
        self.equity = max(self.margin.equity, Decimal(0))

    def hand_over_position(self, row: int) -> None:
        """Offer one position to the providers who take its market."""
        state, columns = self.state, self.state.accounts.columns
        market, lots = int(columns.market[row]), int(columns.lots[row])
        size, side = abs(lots), 1 if lots > 0 else -1
        settle = int(state.venue.markets.settle[market])
        money = state.quantum_value(settle)
        # a lot of an inverse contract is worth no decimal
        value = abs(state.venue.markets.lot_value(market, to_fraction(float(state.prices.mark[market]))))
        lot_value = value * money / state.venue.assets.quantum[settle] / self.quantum
        at_zero_price = state.venue.policy.backstop_below_zero == "zero_price"
        equity = self.margin.equity if at_zero_price else self.equity
        flow = exact.zero_price_flow(self.margin, row, equity, state.venue.policy.zero_price_band, money)
        share = exact.equity_share(self.margin, self.margin.requirement[row], self.equity)
        to_fund = round(share * self.fund_share / money)

        def can_absorb(provider: int, taken: int) -> bool:
            other = state.accounts.position_row(provider, market)
            lots_before = int(columns.lots[other])
            if abs(lots_before + side * taken) <= abs(lots_before):
                return True
            due = -round(Fraction((flow + to_fund) * taken, size))
            return state.after_fill(other, provider, side * taken, due, state.covers_initial_margin)

        flows, shares = CumulativeRounding(flow, size), CumulativeRounding(to_fund, size)
        for provider, p, taken in self._split(
            size, lot_value, [market in b.markets for b in state.venue.backstop], can_absorb
        ):
            state.transfer(
                "backstop", self.reason, self.account, row, provider, side * taken, size, flows.next(taken),
                shares.next(taken),
            )  # fmt: skip
            state.ledger.taken[p] += round(lot_value * taken)

    def hand_over_borrows(self) -> None:
        """Sell collateral for the cost of the borrows, then hand over borrows of other assets for the proceeds."""
        state, columns = self.state, self.state.accounts.columns
        settle = int(columns.settle_row[self.account])
        debts = [row for row in state.accounts.balances_of(self.account) if row != settle and columns.free[row] < 0]
        costs = {row: self._cost(row) for row in debts}
        self._sell_for_settle(settle, sum(map(ceil, costs.values())))
        for row, cost in costs.items():
            if state.healthy(self.account):
                return
            debt, available = -int(columns.free[row]), max(int(columns.free[settle]), 0)
            # no debt is handed over for which the account would borrow settle
            part = Fraction(1) if cost <= available else Fraction(floor(debt * available / cost), debt)
            if part:
                self._exchange(
                    row, int(debt * part), -round(cost * part), round(self._share(row) * self.fund_share * part)
                )

    def _cost(self, row: int) -> Fraction:
        """Settle quanta that the takeover of a debt in another asset costs: its value and its share of the equity."""
        debt = -int(self.state.accounts.columns.free[row])
        return settle_per_quantum(self.state, row) * debt + self._share(row)

    def _sell_for_settle(self, settle: int, costs: int) -> None:
        """Sell collateral for settle, at a discount of the settle debt's share of the equity."""
        state, columns = self.state, self.state.accounts.columns
        collateral = [
            (-int(columns.free[row]) * settle_per_quantum(state, row), row)
            for row in state.accounts.balances_of(self.account)
            if row != settle and columns.free[row] > 0
        ]
        need, share = costs - int(columns.free[settle]), self._share(settle)
        edge = share / (need + share) if need > 0 and share else Fraction(0)
        for _, row in sorted(collateral):
            if need <= 0 or state.healthy(self.account):
                return
            unit_value = settle_per_quantum(state, row)
            sold = min(int(columns.free[row]), ceil(need / (unit_value * (1 - edge))))
            value, before = unit_value * sold, int(columns.free[settle])
            self._exchange(row, -sold, round(value * (1 - edge)), round(value * edge * self.fund_share))
            need -= int(columns.free[settle]) - before

    def _share(self, row: int) -> Fraction:
        """Settle quanta of the equity that belong to a borrow."""
        required = self.margin.borrowed.get(row, Decimal(0))
        return exact.equity_share(self.margin, required, self.equity) / self.quantum

    def _exchange(self, row: int, quanta: int, cash: int, to_fund: int) -> None:
        """Offer providers to give ``quanta`` of an asset, or take them, for ``cash`` and the fund's part."""
        state, account = self.state, self.account
        asset, size, sign = int(state.accounts.columns.asset[row]), abs(quanta), 1 if quanta > 0 else -1
        unit_value = settle_per_quantum(state, row)

        def can_absorb(provider: int, taken: int) -> bool:
            other = state.accounts.balance_row(provider, asset)
            due = round(Fraction((-cash - to_fund) * taken, size))
            return state.after_exchange(other, provider, -sign * taken, due, state.covers_initial_margin)

        parts, shares = CumulativeRounding(cash, size), CumulativeRounding(to_fund, size)
        for provider, p, taken in self._split(
            size, unit_value, [asset in b.assets for b in state.venue.backstop], can_absorb
        ):
            state.exchange(
                "backstop", self.reason, account, row, provider, size, quanta=sign * taken, cash=parts.next(taken),
                to_fund=shares.next(taken),
            )  # fmt: skip
            state.ledger.taken[p] += round(unit_value * taken)

    def _split(
        self, size: int, unit_value: Fraction, takes: list[bool], can_absorb: Callable[[int, int], bool]
    ) -> list[tuple[int, int, int]]:
        """Account, number and part of each provider that takes a part, by its remaining capacity and its margin.

        ``unit_value`` is in settle quanta per lot or quantum; ``can_absorb`` tests a provider's initial margin.
        """
        open_to = [(account, p) for account, p in self.providers if takes[p]]
        room = [int(self._remaining(p) / unit_value) for _, p in open_to]
        shift = max(max(room, default=0).bit_length() - _BITS, 0)
        cap = [
            largest_passing(min(lots, size), partial(can_absorb, account))
            for (account, _), lots in zip(open_to, room, strict=True)
        ]
        weight = np.array([lots >> shift for lots in room], np.int64)
        parts = water_fill(size, weight, np.array(cap, np.int64)).tolist()
        return [(account, p, part) for (account, p), part in zip(open_to, parts, strict=True) if part]

    def _remaining(self, provider: int) -> Fraction:
        """Capacity that a provider has left, in settle quanta of notional."""
        limits, taken = self.limits[provider], self.state.ledger.taken[provider].tolist()
        remaining = [limit - used for limit, used in zip(limits, taken, strict=True) if limit is not None]
        return max(min(remaining, default=_NO_LIMIT / self.quantum), Fraction(0))


def roll_capacity(taken: npt.NDArray[np.int64], before: int, now: int) -> None:
    """Forget the takeovers of a clock minute or hour that has passed."""
    for column, span in ((0, _MINUTE), (1, _HOUR)):
        if now // span != before // span:
            taken[:, column] = 0
