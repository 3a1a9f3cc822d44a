"""Phase 4: positions and debts of accounts below auto-close go to the backstop's providers."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial

from .cursor import Cursor
from .folder import Row
from .margins import Margin
from .shares import fill_share, largest_passing, split

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_UNLIMITED = Fraction(10**12)
_HEAVY = 50
"""Bits of the largest weight."""


class Backstop:
    """Takeovers by the providers, each fill computed again."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor, self.state, self.venue, self.time = cursor, cursor.state, cursor.venue, -1
        self.share, self.word = self.venue.policy["backstop_fund_share"], self.venue.words["backstop_below_zero"]
        self.taken = {provider.account: [0, 0, 0] for provider in self.venue.providers}
        """Quanta of notional that a provider took in the clock minute, in the hour and ever."""

    def advance(self, time: int) -> None:
        """Turn to the time of another tick."""
        if self.time // _MINUTE != time // _MINUTE:
            for taken in self.taken.values():
                taken[:2] = [0, taken[1] if self.time // _HOUR == time // _HOUR else 0]
        self.time = time

    def follow(self) -> None:
        """Follow the phase."""
        cursor, state = self.cursor, self.state
        for account in cursor.order:
            if not cursor.liquidating(account):
                continue
            below = cursor.below(account)
            if not below and account not in cursor.escalated:
                continue
            margin = cursor.exact_margin(account)
            balances = range(*state.balance_offset[account : account + 2])
            requirements = {b: cursor.debt_margin(b) for b in balances if state.free[b] < 0} if below else {}
            for p in by_margin(margin):
                self._hand(account, p, margin, "below_auto_close" if below else "escalated")
            if below:
                self._debts(account, margin, requirements)

    def _hand(self, account: int, p: int, margin: Margin, reason: str) -> None:
        """Follow one position to the providers."""
        cursor, state, lots, market = self.cursor, self.state, self.state.lots[p], int(self.state.market[p])
        equity, size, sign = Fraction(margin.equity), abs(lots), 1 if lots > 0 else -1
        priced_equity = equity if self.word == "zero_price" else max(equity, Fraction(0))
        share = equity_share(margin, margin.positions[p], priced_equity)
        flow = cursor.flow(p, share)
        to_fund = round(max(share, Fraction(0)) * self.share / self.venue.quantum)

        def can_absorb(provider: int, x: int) -> bool:
            paid = -round(Fraction((flow + to_fund) * x, size))
            position = self.state.position(provider, market)
            if position >= 0 and abs(self.state.lots[position] + sign * x) <= abs(self.state.lots[position]):
                return True
            return cursor.can_absorb(provider, position=position, lots=sign * x, flow=paid, initial=True)

        takers = {provider.account for provider in self.venue.providers if market in provider.markets}
        takers = {provider for provider in takers if state.is_other(account, provider)}
        done, lot_value = 0, Fraction(cursor.tick.unit_value("lot", market))
        for provider, taken in self._allocation(takers, size, lot_value, can_absorb):
            row = cursor.expect("stages", account, "backstop", market)
            cursor.equal("stages", "reason", row, row.reason, reason)
            cursor.equal("touched", "provider and lots", row, (row.counterparty, row.lots), (provider, -sign * taken))
            cursor.trade(row)
            self._taken(row, size, row.cash - row.cost, (flow, to_fund), (done, taken), lot_value)
            done += taken

    def _taken(
        self, row: Row, size: int, money: int, whole: tuple[int, int], fill: tuple[int, int], unit_value: Fraction
    ) -> None:
        """Check the money of a fill, add its notional to the provider, and apply the row."""
        cursor, (done, taken) = self.cursor, fill
        cursor.equal("stages", "requested", row, row.requested, size)
        instalment = [fill_share(amount, done, taken, size) for amount in whole]
        cursor.equal("stages", "money and the fund's", row, [money, row.fund], instalment)
        self.count(row, unit_value)
        cursor.apply(row)

    def count(self, row: Row, unit_value: Fraction) -> None:
        """Add the notional of a fill, of lots or quanta of a value in settle units, to what the provider took."""
        notional = round((abs(row.lots) or abs(row.quanta)) * unit_value / self.venue.quantum)
        self.taken[row.counterparty] = [n + notional for n in self.taken.get(row.counterparty, (0, 0, 0))]

    def _allocation(
        self, takers: set[int], size: int, unit_value: Fraction, can_absorb: Callable[[int, int], bool]
    ) -> list[tuple[int, int]]:
        """Whole lots or quanta of each provider, in proportion to its remaining capacity."""
        weights, able = [], []
        takers = {account for account in takers if account not in self.cursor.order} if unit_value else set()
        limits = {provider.account: provider.limits for provider in self.venue.providers}
        for account in sorted(takers):
            used = self.taken[account]
            room = min(limit - n * self.venue.quantum for limit, n in zip(limits[account], used, strict=True))
            weight = max(math.floor((room if room < math.inf else _UNLIMITED) / unit_value), 0)
            weights.append(weight)
            able.append(largest_passing(min(weight, size), partial(can_absorb, account)))
        bits = max(max(weights, default=0).bit_length() - _HEAVY, 0)
        shares = zip(sorted(takers), split(size, [weight >> bits for weight in weights], able), strict=True)
        return [(account, share) for account, share in shares if share]

    # -- borrows

    def _debts(self, account: int, margin: Margin, requirements: dict[int, Decimal]) -> None:
        """Follow the account's collateral to the providers, and then its debts in other assets for the proceeds."""
        cursor, state, settle = self.cursor, self.state, self.state.settle[account]
        equity, quantum = max(Fraction(margin.equity), Fraction(0)), self.venue.quantum
        balances = [b for b in range(*state.balance_offset[account : account + 2]) if b != settle]
        owing = [b for b in balances if state.free[b] < 0]
        share = {b: equity_share(margin, requirement, equity) / quantum for b, requirement in requirements.items()}
        cost = {b: -state.free[b] * cursor.quantum_value(b) + share.get(b, 0) for b in owing}
        need = max(sum(map(math.ceil, cost.values())) - state.free[settle], 0)
        settle_share = share.get(settle, Fraction(0))
        discount = settle_share / (need + settle_share) if need else settle_share
        collateral = [b for b in balances if state.free[b] > 0]
        for b in sorted(collateral, key=lambda b: -state.free[b] * cursor.quantum_value(b)):
            if need <= 0:
                break
            if not cursor.liquidating(account):
                return
            net = cursor.quantum_value(b) * (1 - discount)
            size = min(state.free[b], math.ceil(need / net)) if net > 0 else state.free[b]
            money = round(size * net), round(size * cursor.quantum_value(b) * discount * self.share)
            need -= self._give(account, b, size, money, -1)
        for b in owing:
            if not cursor.liquidating(account):
                return
            debt, available = -state.free[b], state.free[settle]
            size = debt if cost[b] <= available else math.floor(debt * available / cost[b])
            if size > 0:
                paid = cost[b] * size / debt, share.get(b, Fraction(0)) * self.share * size / debt
                self._give(account, b, size, (-round(paid[0]), round(paid[1])), 1)

    def _give(self, account: int, b: int, size: int, money: tuple[int, int], sign: int) -> int:
        """Follow a debt (1) or a free balance (-1) to the providers; return the settle received."""
        cursor, asset, done, received = self.cursor, int(self.state.asset[b]), 0, 0
        unit_value = cursor.quantum_value(b) * self.venue.quantum

        def can_absorb(provider: int, x: int) -> bool:
            paid = -round(Fraction(sum(money) * x, size))
            balance = self.state.balance(provider, asset)
            return cursor.can_absorb(provider, balance=balance, quanta=-sign * x, flow=paid, initial=True)

        takers = {provider.account for provider in self.venue.providers if asset in provider.assets}
        takers = {provider for provider in takers if self.state.is_other(account, provider)}
        for provider, taken in self._allocation(takers, size, unit_value, can_absorb):
            row = cursor.expect("stages", account, "backstop", asset=asset)
            cursor.equal("stages", "reason", row, row.reason, "below_auto_close")
            recorded = row.counterparty, row.quanta
            cursor.equal("touched", "provider and quanta", row, recorded, (provider, sign * taken))
            cursor.price(row, abs(row.cash), self.venue.assets[asset].quantum * abs(row.quanta))
            self._taken(row, size, row.cash, money, (done, taken), unit_value)
            done, received = done + taken, received + row.cash
        return received


def by_margin(margin: Margin) -> list[int]:
    """Positions by their maintenance margin, the largest first, ties by market."""
    return sorted(margin.positions, key=lambda p: (-margin.positions[p], p))


def equity_share(margin: Margin, requirement: Decimal, equity: Fraction) -> Fraction:
    """Equity that belongs to a position or a debt by its maintenance margin."""
    return equity * Fraction(requirement) / Fraction(margin.maintenance) if margin.maintenance else Fraction(0)
