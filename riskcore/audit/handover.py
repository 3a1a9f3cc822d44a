"""Phases 4 and 5: positions go to the backstop's providers, and against the winners."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np

from .margins import Margin, Winners
from .watch import Astray, Watch

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_UNLIMITED = Fraction(10**12)


class Handover:
    """Positions of accounts below auto-close, each fill computed again."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.state, self.venue, self.time = watch, watch.state, watch.venue, -1
        self.taken = {provider.account: [0, 0, 0] for provider in self.venue.providers}
        """Quanta of mark notional that a provider took in the clock minute, in the hour and ever."""

    def advance(self, time: int) -> None:
        """Turn to the time of another tick."""
        if self.time // _MINUTE != time // _MINUTE:
            for taken in self.taken.values():
                taken[:2] = [0, taken[1] if self.time // _HOUR == time // _HOUR else 0]
        self.time = time

    def backstop(self) -> None:
        """Follow phase 4."""
        watch, share = self.watch, self.venue.policy["backstop_fund_share"]
        for account in watch.order:
            if not watch.look(account).positions or not watch.liquidating(account):
                continue
            below = watch.below(account)
            if not below and account not in watch.sent:
                continue
            look = watch.exact(account)
            equity = Fraction(max(look.equity, Decimal(0)))
            for p in _by_margin(look):
                self._hand(account, p, look, equity, share, "below_auto_close" if below else "sent_on")

    def _hand(self, account: int, p: int, look: Margin, equity: Fraction, share: Fraction, reason: str) -> None:
        """Follow one position to the providers."""
        watch, lots, market = self.watch, self.state.lots[p], int(self.state.market[p])
        part = self._part(look, p, equity)
        flow, to_fund = self._flow(p, part), round(part * share / self.venue.quantum)
        done, size = 0, abs(lots)
        for provider, given in self._allocation(market, size):
            row = watch.expect("stages", account, "backstop", market)
            watch.equal("stages", "reason", row, row.reason, reason)
            watch.equal("stages", "requested", row, row.requested, size)
            watch.equal("touched", "provider and lots", row, (row.counterparty, abs(row.lots)), (provider, given))
            carried = [_carried(money, done, given, size) for money in (flow, to_fund)]
            watch.equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], carried)
            watch.trade(row)
            done += given
            notional = round(abs(row.lots) * watch.tick.worth("lot", market) / self.venue.quantum)
            self.taken[row.counterparty] = [n + notional for n in self.taken.get(row.counterparty, (0, 0, 0))]
            watch.apply(row)

    def _part(self, look: Margin, p: int, equity: Fraction) -> Fraction:
        """Equity that belongs to a position by its maintenance margin."""
        return equity * Fraction(look.positions[p]) / Fraction(look.maintenance) if look.maintenance else Fraction(0)

    def _flow(self, p: int, part: Fraction) -> int:
        """Quanta for which the whole of a position goes: at its zero price."""
        worth = Fraction(self.watch.tick.worth("lot", int(self.state.market[p])))
        return round((self.state.lots[p] * worth - part) / self.venue.quantum)

    def _allocation(self, market: int, size: int) -> list[tuple[int, int]]:
        """Lots of each provider, in proportion to what it has room for."""
        most, lot = {}, self.watch.tick.worth("lot", market)
        for provider in self.venue.providers:
            taken = self.taken[provider.account]
            room = min(limit - used * self.venue.quantum for limit, used in zip(provider.limits, taken, strict=True))
            if market in provider.markets and provider.account not in self.watch.order and lot:
                most[provider.account] = max(math.floor((room if room < math.inf else _UNLIMITED) / lot), 0)
        total = sum(most.values())
        if total > size:
            share = {account: size * lots // total for account, lots in most.items()}
            left = sorted(most, key=lambda account: (share[account] - most[account], account))
            for account in left[: size - sum(share.values())]:
                share[account] += 1
            most = share
        return [(account, lots) for account, lots in sorted(most.items()) if lots]

    def adl(self, winners: Winners | None) -> None:
        """Follow phase 5; `winners` are those at the tick's sweep, None if no row is of this phase."""
        watch = self.watch
        for account in watch.order:
            if watch.look(account).positions and watch.below(account):
                look = watch.exact(account)
                for p in _by_margin(look):
                    self._close(account, p, look, winners)

    def _close(self, account: int, p: int, look: Margin, winners: Winners | None) -> None:
        """Follow one position against the winners."""
        watch, state, market = self.watch, self.state, int(self.state.market[p])
        lots, done = state.lots[p], 0
        flow, size = self._flow(p, self._part(look, p, Fraction(look.equity))), abs(lots)
        while state.lots[p]:
            row, left = watch.expect("stages", account, "adl unfilled", market), state.lots[p]
            if winners is None:
                raise Astray
            if row.event == "unfilled":
                watch.equal("stages", "requested", row, row.requested, abs(left))
                watch.require("stages", winners.fits(market, left, -1, state.lots), "a counterparty is left", row)
                watch.apply(row)
                return
            watch.equal("stages", "requested", row, row.requested, size)
            watch.require("touched", row.counterparty not in watch.order, "the counterparty is selected", row)
            fits = winners.fits(market, left, row.counter_position, state.lots)
            watch.require("touched", fits, "the counterparty is not the next by score", row)
            theirs = max(-state.lots[row.counter_position] * int(np.sign(left)), 0)
            watch.equal("touched", "lots", row, abs(row.lots), min(abs(left), theirs))
            carried = [_carried(flow, done, abs(row.lots), size), 0]
            watch.equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], carried)
            watch.trade(row)
            done += abs(row.lots)
            watch.apply(row)


def _by_margin(look: Margin) -> list[int]:
    """Positions by their maintenance margin, the largest first, ties by market."""
    return sorted(look.positions, key=lambda p: (-look.positions[p], p))


def _carried(money: int, done: int, lots: int, size: int) -> int:
    """What a fill carries of all the money, so that the fills up to it carry their whole part."""
    return round(Fraction(money * (done + lots), size)) - round(Fraction(money * done, size))
