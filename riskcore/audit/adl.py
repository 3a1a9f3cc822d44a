"""Phase 5: positions go against counterparties as the policy ranks or weighs them, and stuck lends to borrowers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .backstop import by_margin, equity_share
from .cursor import Cursor, OffTrack
from .folder import Row
from .margins import Margin
from .shares import fill_share, largest_passing, water_fill
from .venue import RunError
from .winners import POLICIES, Policy, Side, Swept


class _Deal(NamedTuple):
    """A position that is to be closed: its size, and the flow of the whole."""

    account: int
    position: int
    market: int
    long: bool
    size: int
    flow: int


class Adl:
    """Positions of accounts that no provider took, each fill computed again."""

    def __init__(self, cursor: Cursor, policies: dict[str, Policy]) -> None:
        self.cursor, self.state, self.venue = cursor, cursor.state, cursor.venue
        if redefined := POLICIES.keys() & policies.keys():
            raise RunError(f"{' '.join(sorted(redefined))}: docs/one_tick.md defines these policies")
        policy, self.name = self.venue.policy, self.venue.words["adl_policy"]
        self.policy = (POLICIES | policies).get(self.name)
        self.price, self.cap = policy["adl_price"], policy["adl_cap"]
        self.profitable = self.venue.words["adl_counterparties"] == "profitable"
        self.order_reported = False

    def follow(self, swept: Swept | None) -> None:
        """Follow the phase; `swept` are the accounts at the tick's sweep, None if no row is of this phase."""
        cursor = self.cursor
        self.swept = swept
        self.used = dict[int, int]()
        """Lots that were closed in this tick by position row."""
        for account in cursor.order:
            if cursor.liquidating(account):
                self._lends(account)
        for account in cursor.order:
            if cursor.margin(account).positions and cursor.below(account):
                margin = cursor.exact_margin(account)
                for p in by_margin(margin):
                    if cursor.liquidating(account):
                        self._close(account, p, margin)

    def _close(self, account: int, p: int, margin: Margin) -> None:
        """Follow one position against its counterparties."""
        cursor, lots, market = self.cursor, self.state.lots[p], int(self.state.market[p])
        share = (1 - self.price) * equity_share(margin, margin.positions[p], Fraction(margin.equity))
        deal = _Deal(account, p, market, lots > 0, abs(lots), cursor.flow(p, share))
        cursor.expect("stages", account, "adl unfilled", market)
        if self.swept is None:
            raise OffTrack
        if self.policy is None:
            self._any(deal, self.swept)
        elif self.policy.shared:
            self._shared(deal, self.policy, self.swept)
        else:
            side = self.swept.queue(market, not deal.long, self.profitable, self.policy.function)
            self._queue(deal, side)
        if unfilled := abs(self.state.lots[p]):
            row = cursor.expect("stages", account, "unfilled", market)
            cursor.equal("stages", "requested", row, row.requested, unfilled)
            cursor.apply(row)

    def _room(self, p: int) -> int:
        """Lots that may still be closed of a counterparty's position."""
        swept = int(self.swept.lots[p]) if self.swept else 0
        open_lots = self.state.lots[p] * (1 if swept > 0 else -1)
        return max(min(open_lots, math.ceil(self.cap * abs(swept)) - self.used.get(p, 0)), 0)

    def _cut(self, deal: _Deal, p: int, offer: int, done: int) -> int:
        """Lots of an offer that leave the counterparty healthy, after so many of the position."""

        def can_absorb(x: int) -> bool:
            flow = -fill_share(deal.flow, done, x, deal.size)
            return self.cursor.can_absorb(int(self.state.owner[p]), position=p, lots=x if deal.long else -x, flow=flow)

        return largest_passing(offer, can_absorb)

    def _reaches(self, deal: _Deal, p: int) -> bool:
        """Whether the price of the trade does not pass the counterparty's own bankruptcy price."""
        margin = self.cursor.exact_margin(int(self.state.owner[p]))
        unit_value = Fraction(self.cursor.tick.unit_value("lot", deal.market))
        value = deal.size * unit_value * (1 if deal.long else -1)
        share = equity_share(margin, margin.positions[p], Fraction(margin.equity))
        return share + (value - deal.flow * self.venue.quantum) / deal.size * abs(self.state.lots[p]) >= 0

    def _takes(self, deal: _Deal, p: int) -> int:
        """Lots of the rest of the position that a counterparty takes."""
        open_lots, room = abs(self.state.lots[deal.position]), self._room(p)
        if not self.state.is_other(deal.account, self.state.owner[p]):
            return 0
        if not room or (self.name == "bankruptcy_price" and not self._reaches(deal, p)):
            return 0
        return self._cut(deal, p, min(open_lots, room), deal.size - open_lots)

    def _fill(self, deal: _Deal, row: Row) -> None:
        """Check the money of a fill, and apply it."""
        cursor, done = self.cursor, deal.size - abs(self.state.lots[deal.position])
        cursor.equal("stages", "reason", row, row.reason, "backstop_exhausted")
        cursor.equal("stages", "requested", row, row.requested, deal.size)
        cursor.require("touched", row.counterparty not in cursor.order, "the counterparty is selected", row)
        instalment = [fill_share(deal.flow, done, abs(row.lots), deal.size), 0]
        cursor.equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], instalment)
        cursor.trade(row)
        self.used[row.counter_position] = self.used.get(row.counter_position, 0) + abs(row.lots)
        cursor.apply(row)

    # -- queues

    def _queue(self, deal: _Deal, side: Side) -> None:
        """Follow the fills against one after another."""
        visited, takes = set[int](), dict[int, int]()

        def able(n: int) -> bool:
            p = side.rows[n]
            if p not in takes:
                takes[p] = 0 if p in visited else self._takes(deal, p)
            return takes[p] > 0

        while self.state.lots[deal.position]:
            row = self.cursor.expect("stages", deal.account, "adl unfilled", deal.market)
            while side.first < len(side.rows) and not self._room(side.rows[side.first]):
                side.first += 1
            rest, target = range(side.first, len(side.rows)), side.index.get(row.counter_position, -1)
            if row.event == "unfilled":
                has_counterparty = any(side.sure[n] and able(n) for n in rest)
                self.cursor.require("stages", not has_counterparty, "a counterparty could take more", row)
                return
            fits = target >= side.first and able(target)
            for n in rest[: max(target - side.first, 0)] if fits else ():
                if side.sure[n] and (side.low[n] > side.high[target] or side.tied(n, target)):
                    if able(n):
                        fits = False
                        break
                    visited.add(side.rows[n])  # cut to nothing or passed over: it gets no further offer
            self.cursor.require("touched", fits, "the counterparty is not the next by score", row)
            if fits:
                self.cursor.equal("touched", "lots", row, abs(row.lots), takes[row.counter_position])
            visited.add(row.counter_position)
            self._fill(deal, row)
            takes.clear()  # they were of the lots before this fill

    # -- shares

    def _shared(self, deal: _Deal, policy: Policy, swept: Swept) -> None:
        """Follow the fills that are shared out by weight."""
        choices = swept.shared(deal.market, not deal.long, self.profitable, policy.function)
        recorded = self.cursor.recorded_fills(deal.account, "adl", lambda row: (row.counter_position, abs(row.lots)))

        def cut(p: int, offer: int, done: int) -> int:
            return self._cut(deal, p, offer, deal.size - abs(self.state.lots[deal.position]) + done)

        def room(p: int, _: int) -> int:
            return self._room(p) if self.state.is_other(deal.account, self.state.owner[p]) else 0

        for p, lots in water_fill(deal.size, choices, room, cut, recorded):
            row = self.cursor.expect("stages", deal.account, "adl", deal.market)
            fill, sign = (row.counter_position, row.lots), -1 if deal.long else 1
            self.cursor.equal("touched", "counterparty's position row and lots", row, fill, (p, sign * lots))
            self._fill(deal, row)

    def _any(self, deal: _Deal, swept: Swept) -> None:
        """Follow fills of a policy whose order is not known."""
        if not self.order_reported:
            row = self.cursor.rows[self.cursor.index]
            what = f"the order of counterparties by {self.name} cannot be checked: give its function to the audit"
            self.cursor.breach("touched", what, row)
            self.order_reported = True
        members = set(swept.members(deal.market, not deal.long, self.profitable)[0].tolist())
        while self.state.lots[deal.position]:
            row = self.cursor.expect("stages", deal.account, "adl unfilled", deal.market)
            if row.event == "unfilled":
                return
            p, open_lots = row.counter_position, abs(self.state.lots[deal.position])
            fits = p in members and abs(row.lots) <= min(open_lots, self._room(p))
            fits = fits and bool(self.state.is_other(deal.account, row.counterparty))
            fits = fits and self._cut(deal, p, abs(row.lots), deal.size - open_lots) == abs(row.lots)
            self.cursor.require("touched", fits, "the counterparty cannot take this", row)
            self._fill(deal, row)

    # -- lends

    def _lends(self, account: int) -> None:
        """Follow lends that an account cannot redeem to the borrowers."""
        cursor, state = self.cursor, self.state
        need, lent, settle = 0, list[int](), state.settle[account]
        for b in range(*state.balance_offset[account : account + 2]):
            owed = max(-state.free[b], 0)
            need += owed if b == settle else round(owed * cursor.quantum_value(b)) if owed else 0
            if b != settle and state.lent[b] and state.asset[b] in self.venue.pools:
                lent.append(b)
        for b in sorted(lent, key=lambda b: -state.lent[b] * cursor.quantum_value(b)):
            asset, unit_value = int(state.asset[b]), cursor.quantum_value(b)
            stuck = state.lent[b] - min(state.lent[b], cursor.pool_room(asset))
            if stuck > 0 and need > 0:
                wanted = min(stuck, math.ceil(need / unit_value)) if unit_value else stuck
                need -= self._settle(account, b, wanted)

    def _settle(self, account: int, b: int, wanted: int) -> int:
        """Follow a lend to the borrowers; return the settle received."""
        cursor, state, asset = self.cursor, self.state, int(self.state.asset[b])
        unit_value, remaining, received = cursor.quantum_value(b), wanted, 0
        rows = state.pool_rows[asset]
        owing = rows[state.columns["free"][rows] < 0]
        debts = state.columns["free"][owing]
        for other in owing[np.lexsort((owing, debts))].tolist():
            borrower = int(state.holder[other])
            if not remaining or not cursor.liquidating(account):
                break
            if borrower in cursor.order or not state.is_other(account, borrower):
                continue

            def can_absorb(x: int, borrower: int = borrower, other: int = other) -> bool:
                return cursor.can_absorb(borrower, balance=other, quanta=x, flow=-round(x * unit_value))

            settled = largest_passing(min(remaining, -state.free[other]), can_absorb)
            if settled:
                row = cursor.expect("stages", account, "adl", asset=asset)
                cursor.equal("stages", "reason", row, row.reason, "full_utilization")
                cursor.equal("stages", "requested", row, row.requested, wanted)
                recorded = row.counterparty, row.lent, row.cash, row.fund
                expected = borrower, -settled, round(settled * unit_value), 0
                cursor.equal("touched", "borrower, lent, cash and the fund's", row, recorded, expected)
                cursor.price(row, abs(row.cash), self.venue.assets[asset].quantum * abs(row.lent))
                cursor.apply(row)
                remaining, received = remaining - settled, received + row.cash
        return received
