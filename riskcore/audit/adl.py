"""Phase 5: positions go against counterparties as the policy ranks or weighs them, and stuck lends to borrowers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .backstop import by_margin, part
from .folder import Row
from .margins import Margin
from .shares import carried, most, water_fill
from .venue import RunError
from .watch import OffTrack, Watch
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

    def __init__(self, watch: Watch, policies: dict[str, Policy]) -> None:
        self.watch, self.state, self.venue = watch, watch.state, watch.venue
        if redefined := POLICIES.keys() & policies.keys():
            raise RunError(f"{' '.join(sorted(redefined))}: docs/one_tick.md defines these policies")
        policy, self.name = self.venue.policy, self.venue.words["adl_policy"]
        self.policy = (POLICIES | policies).get(self.name)
        self.price, self.cap = policy["adl_price"], policy["adl_cap"]
        self.profitable = self.venue.words["adl_counterparties"] == "profitable"
        self.order_reported = False

    def follow(self, swept: Swept | None) -> None:
        """Follow the phase; `swept` are the accounts at the tick's sweep, None if no row is of this phase."""
        watch = self.watch
        self.swept = swept
        self.used = dict[int, int]()
        """Lots that were closed in this tick by position row."""
        for account in watch.order:
            if watch.liquidating(account):
                self._lends(account)
        for account in watch.order:
            if watch.look(account).positions and watch.below(account):
                look = watch.exact(account)
                for p in by_margin(look):
                    if watch.liquidating(account):
                        self._close(account, p, look)

    def _close(self, account: int, p: int, look: Margin) -> None:
        """Follow one position against its counterparties."""
        watch, lots, market = self.watch, self.state.lots[p], int(self.state.market[p])
        share = (1 - self.price) * part(look, look.positions[p], Fraction(look.equity))
        deal = _Deal(account, p, market, lots > 0, abs(lots), watch.flow(p, share))
        watch.expect("stages", account, "adl unfilled", market)
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
            row = watch.expect("stages", account, "unfilled", market)
            watch.equal("stages", "requested", row, row.requested, unfilled)
            watch.apply(row)

    def _room(self, p: int) -> int:
        """Lots that may still be closed of a counterparty's position."""
        swept = int(self.swept.lots[p]) if self.swept else 0
        open_lots = self.state.lots[p] * (1 if swept > 0 else -1)
        return max(min(open_lots, math.ceil(self.cap * abs(swept)) - self.used.get(p, 0)), 0)

    def _cut(self, deal: _Deal, p: int, offer: int, done: int) -> int:
        """Lots of an offer that leave the counterparty healthy, after so many of the position."""

        def can_absorb(x: int) -> bool:
            flow = -carried(deal.flow, done, x, deal.size)
            return self.watch.can_absorb(int(self.state.owner[p]), position=p, lots=x if deal.long else -x, flow=flow)

        return most(offer, can_absorb)

    def _reaches(self, deal: _Deal, p: int) -> bool:
        """Whether what the deal gives a counterparty leaves its position no less than its zero price."""
        look = self.watch.exact(int(self.state.owner[p]))
        unit_value = Fraction(self.watch.tick.worth("lot", deal.market))
        value = deal.size * unit_value * (1 if deal.long else -1)
        share = part(look, look.positions[p], Fraction(look.equity))
        return share + (value - deal.flow * self.venue.quantum) / deal.size * abs(self.state.lots[p]) >= 0

    def _takes(self, deal: _Deal, p: int) -> int:
        """Lots that a counterparty takes of the rest of the position."""
        open_lots, room = abs(self.state.lots[deal.position]), self._room(p)
        if not room or (self.name == "bankruptcy_price" and not self._reaches(deal, p)):
            return 0
        return self._cut(deal, p, min(open_lots, room), deal.size - open_lots)

    def _fill(self, deal: _Deal, row: Row) -> None:
        """Check the money of a fill, and apply it."""
        watch, done = self.watch, deal.size - abs(self.state.lots[deal.position])
        watch.equal("stages", "reason", row, row.reason, "backstop_exhausted")
        watch.equal("stages", "requested", row, row.requested, deal.size)
        watch.require("touched", row.counterparty not in watch.order, "the counterparty is selected", row)
        instalment = [carried(deal.flow, done, abs(row.lots), deal.size), 0]
        watch.equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], instalment)
        watch.trade(row)
        self.used[row.counter_position] = self.used.get(row.counter_position, 0) + abs(row.lots)
        watch.apply(row)

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
            row = self.watch.expect("stages", deal.account, "adl unfilled", deal.market)
            while side.first < len(side.rows) and not self._room(side.rows[side.first]):
                side.first += 1
            rest, target = range(side.first, len(side.rows)), side.place.get(row.counter_position, -1)
            if row.event == "unfilled":
                has_counterparty = any(side.sure[n] and able(n) for n in rest)
                self.watch.require("stages", not has_counterparty, "a counterparty could take more", row)
                return
            fits = target >= side.first and able(target)
            for n in rest[: max(target - side.first, 0)] if fits else ():
                if side.sure[n] and (side.low[n] > side.high[target] or side.tied(n, target)):
                    if able(n):
                        fits = False
                        break
                    visited.add(side.rows[n])  # cut to nothing or passed over: it gets no further offer
            self.watch.require("touched", fits, "the counterparty is not the next by score", row)
            if fits:
                self.watch.equal("touched", "lots", row, abs(row.lots), takes[row.counter_position])
            visited.add(row.counter_position)
            self._fill(deal, row)
            takes.clear()  # of what is left now

    # -- shares

    def _shared(self, deal: _Deal, policy: Policy, swept: Swept) -> None:
        """Follow the fills that are shared out by weight."""
        choices = swept.shared(deal.market, not deal.long, self.profitable, policy.function)
        recorded = self.watch.recorded_fills(deal.account, "adl", lambda row: (row.counter_position, abs(row.lots)))

        def cut(p: int, offer: int, done: int) -> int:
            return self._cut(deal, p, offer, deal.size - abs(self.state.lots[deal.position]) + done)

        for p, lots in water_fill(deal.size, choices, lambda p, _: self._room(p), cut, recorded):
            row = self.watch.expect("stages", deal.account, "adl", deal.market)
            fill, sign = (row.counter_position, row.lots), -1 if deal.long else 1
            self.watch.equal("touched", "counterparty's position row and lots", row, fill, (p, sign * lots))
            self._fill(deal, row)

    def _any(self, deal: _Deal, swept: Swept) -> None:
        """Follow fills of a policy whose order is not known."""
        if not self.order_reported:
            row = self.watch.rows[self.watch.at]
            what = f"the order of counterparties by {self.name} cannot be checked: give its function to the audit"
            self.watch.breach("touched", what, row)
            self.order_reported = True
        members = set(swept.members(deal.market, not deal.long, self.profitable)[0].tolist())
        while self.state.lots[deal.position]:
            row = self.watch.expect("stages", deal.account, "adl unfilled", deal.market)
            if row.event == "unfilled":
                return
            p, open_lots = row.counter_position, abs(self.state.lots[deal.position])
            fits = p in members and abs(row.lots) <= min(open_lots, self._room(p))
            fits = fits and self._cut(deal, p, abs(row.lots), deal.size - open_lots) == abs(row.lots)
            self.watch.require("touched", fits, "the counterparty cannot take this", row)
            self._fill(deal, row)

    # -- lends

    def _lends(self, account: int) -> None:
        """Follow lends that an account cannot redeem to the borrowers."""
        watch, state = self.watch, self.state
        need, lent, settle = 0, list[int](), state.settle[account]
        for b in range(*state.balance_offset[account : account + 2]):
            owed = max(-state.free[b], 0)
            need += owed if b == settle else round(owed * watch.worth(b)) if owed else 0
            if b != settle and state.lent[b] and state.asset[b] in self.venue.pools:
                lent.append(b)
        for b in sorted(lent, key=lambda b: -state.lent[b] * watch.worth(b)):
            asset, unit_value = int(state.asset[b]), watch.worth(b)
            stuck = state.lent[b] - min(state.lent[b], watch.pool_room(asset))
            if stuck > 0 and need > 0:
                wanted = min(stuck, math.ceil(need / unit_value)) if unit_value else stuck
                need -= self._settle(account, b, wanted)

    def _settle(self, account: int, b: int, wanted: int) -> int:
        """Follow a lend to the borrowers; return the settle received."""
        watch, state, asset = self.watch, self.state, int(self.state.asset[b])
        unit_value, remaining, received = watch.worth(b), wanted, 0
        rows = state.pool_rows[asset]
        owing = rows[state.columns["free"][rows] < 0]
        debts = state.columns["free"][owing]
        for other in owing[np.lexsort((owing, debts))].tolist():
            borrower = int(state.holder[other])
            if not remaining or not watch.liquidating(account):
                break
            if borrower in watch.order:
                continue

            def can_absorb(x: int, borrower: int = borrower, other: int = other) -> bool:
                return watch.can_absorb(borrower, balance=other, quanta=x, flow=-round(x * unit_value))

            settled = most(min(remaining, -state.free[other]), can_absorb)
            if settled:
                row = watch.expect("stages", account, "adl", asset=asset)
                watch.equal("stages", "reason", row, row.reason, "full_utilization")
                watch.equal("stages", "requested", row, row.requested, wanted)
                recorded = row.counterparty, row.lent, row.cash, row.fund
                expected = borrower, -settled, round(settled * unit_value), 0
                watch.equal("touched", "borrower, lent, cash and the fund's", row, recorded, expected)
                watch.price(row, abs(row.cash), self.venue.assets[asset].quantum * abs(row.lent))
                watch.apply(row)
                remaining, received = remaining - settled, received + row.cash
        return received
