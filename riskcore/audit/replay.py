"""The journal followed row by row: every row and tick is set against the rules, the accounts as they stand there."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from .accruals import Accruals
from .findings import Findings
from .folder import Row, Run
from .margins import NOISE, TOLERANCE, Margin, State, Sweep, Tick

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_UNLIMITED = Fraction(10**12)


def _cost_change(lots: int, cost: int, change: int, flow: int) -> int:
    """Change of a position's cost when its lots change for `flow` received."""
    if lots * change >= 0:
        return -flow
    if abs(change) <= abs(lots):
        return -round(Fraction(cost * abs(change), abs(lots)))
    return -cost - round(Fraction(flow * (abs(change) - abs(lots)), abs(change)))


@dataclass
class _Handover:
    """A position that goes to others: its lots, the money of all of it, what fills carried so far."""

    lots: int
    flow: int
    to_fund: int
    fills: list[tuple[int, int]]  # of the backstop: account and lots
    done: int = 0


class Replay:
    """The journal followed row by row, every row and tick set against the rules."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run, self.out, self.venue = run, out, run.venue
        self.state = State(run)
        self.accruals = Accruals(run, out, self.state)
        self.sweep = Sweep(self.state)
        self.fund = run.opening_fund
        self.fee, self.time = run.venue.policy["liquidation_fee"], -1
        self.taken = {provider.account: [0, 0, 0] for provider in run.venue.providers}
        self.edges = np.searchsorted(run.journal["tick"], np.arange(run.manifest["ticks"] + 1)).tolist()
        self.check_row: dict[str, Callable[[Row, Margin], None]] = {
            "trigger": self._trigger, "cancel": self._cancel, "redeem": self._redeem, "convert": self._convert,
            "book": self._book, "expire": self._book, "backstop": self._handover, "adl": self._handover,
            "unfilled": self._unfilled, "fund": self._cover, "shortfall": self._cover,
        }  # fmt: skip

    # -- a tick

    def follow(self, tick: Tick, sample: float | None) -> None:
        """Check one tick and apply its rows."""
        a, b = self.edges[tick.number : tick.number + 2]
        for at in np.flatnonzero(self.run.journal["time"][a:b] != tick.time).tolist():
            self.out.breach("rows", f"time is not {tick.time}", tick.number, a + at)
        if self.accruals.follow(tick, a, b):
            self.state.changed()
        rows = self.run.rows(a + np.flatnonzero(self.run.usable[a:b] & (self.run.phase[a:b] >= 0)))
        # a multiplicative hash spreads the sampled ticks evenly, and the same ones every time
        if b > a or sample is None or tick.number * 2654435761 % 2**32 < sample * 2**32:
            self._start(tick, rows)
        if self.time // _MINUTE != tick.time // _MINUTE:
            for taken in self.taken.values():
                taken[:2] = [0, taken[1] if self.time // _HOUR == tick.time // _HOUR else 0]
        if tick.time <= self.time:
            self.out.breach("rows", f"time {tick.time} is not after {self.time}", tick.number)
        self.time = tick.time
        for row in rows:
            self._follow_row(row)
        if rows:
            for account in self.order:
                self._finish(account)
            self.state.changed()

    def _start(self, tick: Tick, rows: list[Row]) -> None:
        """Select, and compare with the trigger rows."""
        self.tick, self.looks = tick, dict[int, Margin]()
        tick.count(self.state)
        self.dry = set[int]()  # pools of which all was lent out at some moment of the tick
        self._note_dry()
        self.order: dict[int, int] = {}  # the selected accounts, in order
        triggers = [row for row in rows if row.event == "trigger"]
        for row in triggers:
            if row.account in self.order:
                self._breach("selection", "selected twice", row)
            self.order.setdefault(row.account, len(self.order))
        if self.sweep.unpriced(tick):
            self.out.breach("prices", "something that is held has no price", tick.number)
        equity, maintenance, gross = self.sweep.margins(tick)
        exposed = self.state.exposed
        doubt = exposed & (np.abs(maintenance - equity) <= TOLERANCE * gross)
        expected = set(np.flatnonzero(exposed & ~doubt & ~(maintenance < equity)).tolist())
        for account in np.flatnonzero(doubt).tolist():
            exact = self.state.margin(account, tick, self.state.decimals)
            if not exact.maintenance < exact.equity:
                expected.add(account)
        self.out.checked["selection"] += len(equity)
        for account in sorted(expected ^ self.order.keys()):
            what = "not selected" if account in expected else "selected"
            figures = f"maintenance margin {maintenance[account]}, net equity {equity[account]}"
            self.out.breach("selection", f"{what}: {figures}", tick.number, account=account)
        for one, two in pairwise(triggers):
            if (-one.mmr_before, one.account) >= (-two.mmr_before, two.account):
                self._breach("selection", f"mmr {two.mmr_before} after {one.mmr_before}: out of order", two)
        self.place, self.round = (0, -1), 0
        self.slices: dict[int, int] = defaultdict(int)
        self.handovers: dict[tuple[str, int], _Handover] = {}
        self.snapshots: dict[tuple[str, int], Margin] = {}
        self.last: dict[tuple[str, int], Any] = {}
        self.acted, self.settled, self.unfilled = set[int](), set[int](), set[int]()
        if any(row.event in ("adl", "unfilled") for row in rows):
            self.winners = self.sweep.winners(tick, self.order, equity, gross)

    def _finish(self, account: int) -> None:
        """What must hold of a selected account after its last row."""
        state, look = self.state, self._look(account)
        number, breach = self.tick.number, self.out.breach
        self.out.checked["stages"] += 1
        if account not in self.acted and not self._stuck(account):
            breach("selection", "selected, and nothing was done", number, account=account)
        if state.open[account]:
            breach("stages", f"{len(state.open[account])} orders are still open", number, account=account)
        left = look.positions.keys() - self.unfilled
        if left and self._below(account):
            breach("stages", "below auto-close, and a position was not handed over", number, account=account)
        if rested := self._unsliced(account, look):
            breach("stages", f"liquidating, and positions {rested} had too few slices", number, account=account)
        balances = range(*state.balance_offset[account : account + 2])
        bankrupt = account in self.settled or (not look.positions and look.equity < -NOISE * look.gross)
        kept = [b for b in balances if state.asset[b] != self.venue.settle and (state.free[b] or state.lent[b])]
        if bankrupt and (kept or state.free[state.settle[account]] < 0):
            what = f"settle balance {state.free[state.settle[account]]}, {len(kept)} other balances"
            breach("stages", f"bankrupt, and not closed out: {what}", number, account=account)
        for market_row in range(*state.position_offset[account : account + 2]):
            handover = self.handovers.get(("backstop", market_row))
            if handover and handover.fills:
                breach("stages", f"providers {handover.fills} did not take their lots", number, account=account)

    def _unsliced(self, account: int, look: Margin) -> list[int]:
        """Positions that the book phase left out, of an account that stayed liquidating and was not handed over."""
        handed = ("backstop", account) in self.snapshots or ("adl", account) in self.snapshots
        if handed or look.ratio() <= 1 + TOLERANCE or self._below(account):
            return []
        return [p for p in look.positions if self.slices[p] < self.venue.policy["slices_per_tick"]]

    def _stuck(self, account: int) -> bool:
        """Whether there is nothing to sell or redeem: a debt in a token, and no settle balance that buys any."""
        state, settle, least = self.state, self.venue.settle, 1
        for b in range(*state.balance_offset[account : account + 2]):
            free, token = state.free[b], state.asset[b] != settle
            redeems = state.lent[b] and (token or free < 0) and int(state.asset[b]) not in self.dry
            if (token and free > 0) or redeems:
                return False
            if token and free < 0:
                price = self.tick.worth("quantum", int(state.asset[b])) / self.venue.quantum
                least = max(least, math.ceil(price * (1 + self.fee)))
        return not self._look(account).positions and state.free[state.settle[account]] < least

    # -- a row

    def _breach(self, rule: str, what: str, row: Row) -> None:
        self.out.breach(rule, f"{row.event}: {what}", self.tick.number, row.at, row.account)

    def _require(self, rule: str, kept: bool, what: str, row: Row) -> None:
        self.out.checked[rule] += 1
        if not kept:
            self._breach(rule, what, row)

    def _equal(self, rule: str, what: str, row: Row, found: object, expected: object) -> None:
        self._require(rule, found == expected, f"{what} is {found}, not {expected}", row)

    def _ratio(self, name: str, recorded: float, look: Margin, row: Row) -> None:
        self._require("ratios", look.agrees(recorded), f"{name} is {recorded}, not {look.ratio()}", row)

    def _look(self, account: int) -> Margin:
        if account not in self.looks:
            self.looks[account] = self.state.margin(account, self.tick, self.state.floats)
        return self.looks[account]

    def _follow_row(self, row: Row) -> None:
        self._require("touched", row.account in self.order, "the account was not selected in this tick", row)
        before = self._look(row.account)
        self._ratio("mmr_before", row.mmr_before, before, row)
        if row.event != "trigger":
            self.acted.add(row.account)
        self._sequence(row)
        self.check_row[row.event](row, before)
        self.state.apply(row)
        if row.event in ("redeem", "convert", "backstop", "adl", "book"):
            self._note_dry()
        self.fund += row.fund + row.fee
        self._require("stages", self.fund >= 0, f"the fund is at {self.fund}", row)
        for account in (row.account, row.counterparty):
            self.looks.pop(account, None)
        self._ratio("mmr_after", row.mmr_after, self._look(row.account), row)

    def _note_dry(self) -> None:
        self.dry |= {asset for asset in self.venue.pools if self._redeemable(asset) == 0}

    def _redeemable(self, asset: int) -> int:
        """Quanta of a pool that are not lent out."""
        lent, borrowed = self.state.pool(asset)
        return max(lent - borrowed, 0)

    def _sequence(self, row: Row) -> None:
        """Within a phase the accounts follow in the order of selection; the book phase has rounds."""
        phase = int(self.run.phase[row.at])
        place = phase, self.order.get(row.account, 0)
        if place < self.place:
            self.round += phase == 3
            kept = phase == self.place[0] == 3 and self.round < self.venue.policy["slices_per_tick"]
            self._require("selection", kept, "out of the order of selection", row)
        self.place = place
        if row.event not in ("trigger", "cancel"):
            self._require("stages", not self.state.open[row.account], "comes before all orders are cancelled", row)

    def _below(self, account: int) -> bool:
        """Whether the account is below auto-close; exact where float64 leaves doubt."""
        look = self._look(account)
        if min(abs(self._gap(look)), abs(look.equity)) <= TOLERANCE * look.gross:
            look = self.state.margin(account, self.tick, self.state.decimals)
        return bool(look.exposure > 0 and (self._gap(look) > 0 or look.equity <= 0))

    def _gap(self, look: Margin) -> Any:
        """How far the net equity is below the auto-close requirement."""
        policy, of = self.venue.policy, float if isinstance(look.equity, float) else Fraction
        equity, maintenance, exposure = of(look.equity), of(look.maintenance), of(look.exposure)
        divided, lowered = maintenance / of(policy["acmf_divisor"]), maintenance - of(policy["acmf_offset"]) * exposure
        return max(divided, lowered) - equity

    def _trigger(self, row: Row, before: Margin) -> None:
        self._equal("ratios", "mmr_after", row, row.mmr_after, row.mmr_before)

    def _cancel(self, row: Row, before: Margin) -> None:
        orders, key = self.run.start["orders"], ("cancel", row.account)
        self._require("stages", row.order in self.state.open[row.account], f"order {row.order} is not open", row)
        self._require("stages", row.order > self.last.get(key, -1), f"order {row.order} is out of order", row)
        self.last[key] = row.order
        self._equal("rows", "requested", row, row.requested, int(orders["lots"][row.order]))
        self._equal("rows", "market", row, row.market, int(orders["market"][row.order]))

    def _liquidating(self, row: Row) -> None:
        self._require("stages", row.mmr_before >= 1 - TOLERANCE, f"mmr_before {row.mmr_before} is healthy", row)

    def _close_out(self, row: Row, before: Margin) -> None:
        """Rows of the last phase: no position is left, and at the first of them no equity."""
        kept = not before.positions and (row.account in self.settled or before.equity <= NOISE * before.gross)
        self._require("stages", kept, f"net equity {before.equity}, {len(before.positions)} positions", row)
        self.settled.add(row.account)

    def _redeem(self, row: Row, before: Margin) -> None:
        self._close_out(row, before) if row.reason == "close_out" else self._liquidating(row)
        lent = self.state.lent[row.balance]
        self.last["redeem", row.balance] = (row.at, row.quanta)
        if row.reason == "debt" and row.asset in self.venue.pools:
            lent = min(lent, self._redeemable(row.asset))
        self._require("stages", row.quanta <= lent, f"{row.quanta} of {lent} quanta to redeem", row)

    def _convert(self, row: Row, before: Margin) -> None:
        if row.reason == "close_out":
            self._close_out(row, before)
        elif row.quanta < 0:
            self._liquidating(row)
        free, redeemed = self.state.free[row.balance], self.last.get(("redeem", row.balance), (0, 0))
        have = -free if row.quanta > 0 else free
        if row.quanta < 0 and redeemed[0] == row.at - 1:  # a lent quantity may be sold beside a debt in the same asset
            have = max(free - redeemed[1], 0) + redeemed[1]
        self._require("stages", abs(row.quanta) <= have, f"{row.quanta} of {free} quanta", row)
        worth = round(abs(row.quanta) * self.tick.worth("quantum", row.asset) / self.venue.quantum)
        self._equal("cost", "cash", row, row.cash, worth if row.quanta < 0 else -worth)
        self._equal("cost", "fee", row, row.fee, round(worth * self.fee) if row.reason == "debt" else 0)
        self._equal("rows", "price", row, row.price, float(self.tick.asset[row.asset]))

    # -- positions

    def _trade(self, row: Row) -> None:
        """Cost and entry of both sides, the price, and that the position only shrinks."""
        state, p = self.state, row.position
        lots, flow = state.lots[p], row.cash - row.cost
        self._require("cost", lots * row.lots < 0 and abs(row.lots) <= abs(lots), f"{row.lots} of {lots} lots", row)
        self._equal("cost", "cost", row, row.cost, _cost_change(lots, state.cost[p], row.lots, flow))
        self._equal("cost", "entry", row, row.entry, _cost_change(lots, state.entry[p], row.lots, flow))
        if row.counterparty >= 0:
            p, flow_back = row.counter_position, row.counter_cash - row.counter_cost
            change = _cost_change(state.lots[p], state.cost[p], -row.lots, flow_back)
            self._equal("cost", "counter_cost", row, row.counter_cost, change)
            change = _cost_change(state.lots[p], state.entry[p], -row.lots, flow_back)
            self._equal("cost", "counter_entry", row, row.counter_entry, change)
        per_lot = float(self.venue.quantum / self.venue.markets[row.market].step) / max(abs(row.lots), 1)
        price = abs(flow) * per_lot if flow * row.lots < 0 else -abs(flow) * per_lot
        near = abs(row.price - price) <= TOLERANCE * abs(price) + 0.51 * per_lot  # a flow is rounded to quanta
        self._require("rows", near, f"price is {row.price}, not {price}", row)

    def _slice(self, lots: int, market: int) -> int:
        policy, size = self.venue.policy, abs(lots)
        worth = self.tick.worth("lot", market)
        least = math.ceil(policy["min_slice_notional"] / worth) if worth else 1
        lots = min(max(math.floor(size * policy["slice_fraction"]), least, 1), size)
        return size if size - lots < self.venue.markets[market].min_lots else lots

    def _book(self, row: Row, before: Margin) -> None:
        """A slice walks the recorded book, level by level, as far as the band."""
        self._liquidating(row)
        clearly = self._gap(before) > TOLERANCE * before.gross or before.equity < -TOLERANCE * before.gross
        self._require("stages", not clearly, "the account is below auto-close", row)
        self.slices[row.position] += 1
        kept = self.slices[row.position] <= self.venue.policy["slices_per_tick"]
        self._require("book", kept, f"{self.slices[row.position]} slices in this tick", row)
        held = self.state.lots[row.position]
        self._equal("book", "requested", row, row.requested, self._slice(held, row.market))
        side = self.tick.side(row.market, 1 if held > 0 else -1)
        filled = min(row.requested, max(side.in_band, 0))
        reason = "full" if filled == row.requested else side.short
        expected = "book" if filled else "expire", reason, -filled if held > 0 else filled
        self._equal("book", "event, reason and lots", row, (row.event, row.reason, row.lots), expected)
        if row.event == "book":
            self._trade(row)
            money = round(side.take(abs(row.lots)) * self.venue.markets[row.market].worth)
            self._equal("book", "money", row, row.cash - row.cost, money if row.lots < 0 else -money)
            self._equal("cost", "fee", row, row.fee, round(money * self.fee))

    def _handed(self, row: Row, event: str) -> _Handover:
        """Return the handover of a position, with its money fixed by the margin when the account's turn began."""
        if (event, row.position) in self.handovers:
            return self.handovers[event, row.position]
        key, state = (event, row.account), self.state
        if key not in self.snapshots:
            self._require("stages", self._below(row.account), "the account is not below auto-close", row)
            self.snapshots[key] = state.margin(row.account, self.tick, state.decimals)
        look, lots, quantum = self.snapshots[key], state.lots[row.position], self.venue.quantum
        part = look.positions.get(row.position, Decimal(0))
        first = part <= self.last.get(key, part) * (1 + Decimal(TOLERANCE))
        self._require("stages", first, "positions are not in the order of their maintenance margins", row)
        self.last[key] = part
        equity = Fraction(max(look.equity, Decimal(0)) if event == "backstop" else look.equity)
        share = equity * Fraction(part) / Fraction(look.maintenance) if look.maintenance else Fraction(0)
        flow = round((lots * self.tick.worth("lot", row.market) - share) / quantum)
        to_fund = round(share * self.venue.policy["backstop_fund_share"] / quantum) if event == "backstop" else 0
        fills = list[tuple[int, int]]()
        if event == "backstop" or ("backstop", row.position) not in self.handovers:
            fills = self._allocation(row.market, abs(lots))
        if event == "adl":
            self._require("stages", not fills, f"providers could take {fills}", row)
        return self.handovers.setdefault((event, row.position), _Handover(lots, flow, to_fund, fills))

    def _allocation(self, market: int, size: int) -> list[tuple[int, int]]:
        """Lots of each provider, in proportion to what it has room for."""
        most, lot = {}, self.tick.worth("lot", market)
        for provider in self.venue.providers:
            taken = self.taken[provider.account]
            room = min(limit - used * self.venue.quantum for limit, used in zip(provider.limits, taken, strict=True))
            if market in provider.markets and provider.account not in self.order and lot:
                most[provider.account] = max(math.floor((room if room < math.inf else _UNLIMITED) / lot), 0)
        total = sum(most.values())
        if total > size:
            share = {account: size * lots // total for account, lots in most.items()}
            left = sorted(most, key=lambda account: (share[account] - most[account], account))
            for account in left[: size - sum(share.values())]:
                share[account] += 1
            most = share
        return [(account, lots) for account, lots in sorted(most.items()) if lots]

    def _handover(self, row: Row, before: Margin) -> None:
        """A fill of the backstop or of ADL."""
        handover, state = self._handed(row, row.event), self.state
        size, done = max(abs(handover.lots), 1), abs(row.lots)
        self._equal("stages", "requested", row, row.requested, abs(handover.lots))
        carried = [
            round(Fraction(money * (handover.done + done), size)) - round(Fraction(money * handover.done, size))
            for money in (handover.flow, handover.to_fund)
        ]
        self._equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], carried)
        handover.done += done
        self._require("touched", row.counterparty not in self.order, "the counterparty is selected", row)
        if row.event == "backstop":
            expected = handover.fills.pop(0) if handover.fills else (None, 0)
            self._equal("touched", "provider and lots", row, (row.counterparty, abs(row.lots)), expected)
            notional = round(abs(row.lots) * self.tick.worth("lot", row.market) / self.venue.quantum)
            self.taken[row.counterparty] = [n + notional for n in self.taken.get(row.counterparty, (0, 0, 0))]
        else:
            lots, theirs = state.lots[row.position], state.lots[row.counter_position]
            fits = self.winners.fits(row.market, lots, row.counter_position, state.lots)
            self._require("touched", fits, "the counterparty is not the next by score", row)
            self._equal("touched", "lots", row, abs(row.lots), min(abs(lots), max(-theirs * np.sign(lots), 0)))
        self._trade(row)

    def _unfilled(self, row: Row, before: Margin) -> None:
        self._handed(row, "adl")
        lots = self.state.lots[row.position]
        self._equal("stages", "requested", row, row.requested, abs(lots))
        self._require("stages", self.winners.fits(row.market, lots, -1, self.state.lots), "a counterparty is left", row)
        self.unfilled.add(row.position)

    def _cover(self, row: Row, before: Margin) -> None:
        """The fund, and after it the venue, pays what an account without positions owes."""
        self._close_out(row, before)
        owed = -self.state.free[self.state.settle[row.account]]
        self._equal("stages", "cash", row, row.cash, min(owed, self.fund) if row.event == "fund" else owed)
        if row.event == "shortfall":
            self._equal("stages", "the fund", row, self.fund, 0)

    def finish(self) -> None:
        """Compare the providers' ledgers, and that there is no other; and what the accruals left."""
        self.accruals.finish()
        ledger, names = self.run.ledger, ("provider_minute", "provider_hour", "provider_total")
        expected = {entry: quanta for row, taken in self.taken.items()
                    for entry, quanta in zip([(name, row) for name in names], taken, strict=True)}  # fmt: skip
        others = [("fund", 0), ("shortfall", 0), *(("book_lots", row) for row in range(len(self.venue.markets)))]
        others += [(name, row) for name in ("book_quanta", "pool") for row in range(len(self.venue.assets))]
        self.out.equal("replay", "entries of the ledger", sorted(ledger), sorted([*expected, *others]))
        for entry, quanta in expected.items():
            self.out.equal("replay", f"ledger entry {entry}", ledger[entry], quanta)
