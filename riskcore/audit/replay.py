"""The journal followed row by row: every row and tick is set against the rules, the accounts as they stand there."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .accruals import Accruals
from .activity import Activity
from .adl import Adl
from .backstop import Backstop
from .books import Books
from .close_out import CloseOut
from .cursor import Cursor, OffTrack
from .fills import Fills
from .findings import Findings
from .folder import ACTIVITY, CLOSE_OUT, REPAY, SLICES, Array, Part, Row, Run, is_event
from .guards import Guards
from .margins import TOLERANCE, Sweep, Tick
from .repay import Repay
from .slices import Slices
from .throttle import Throttle
from .winners import Policy, Swept, swept_accounts


class Replay:
    """The journal followed row by row, every row and tick checked against the rules."""

    def __init__(self, run: Run, out: Findings, policies: dict[str, Policy]) -> None:
        self.run, self.out, self.venue = run, out, run.venue
        self.cursor = Cursor(run, out)
        self.state = self.cursor.state
        self.guards = Guards(run, out)
        self.books, self.throttle = Books(run, self.guards), Throttle(run)
        self.repay = Repay(self.cursor, self.books, self.throttle)
        self.slices = Slices(self.cursor, self.books, self.throttle)
        self.backstop, self.adl = Backstop(self.cursor), Adl(self.cursor, policies)
        self.close_out = CloseOut(self.cursor)
        self.fills = Fills(self.cursor, self.books, self.slices, self.backstop)
        self.accruals = Accruals(run, out, self.state)
        self.sweep = Sweep(self.state)
        self.rounds, self.time = int(run.venue.policy["slices_per_tick"]), -1
        gap = run.venue.policy.get("largest_gap")
        self.longest = math.inf if gap is None else math.floor(gap * 10**9)
        self.edges = np.searchsorted(run.journal["tick"], np.arange(run.manifest["ticks"] + 1)).tolist()
        of_start = len(run.ids) - int(is_event(run.journal, "open").sum())
        self.activity = Activity(self.cursor, [number < of_start for number in run.numbers])
        before = np.arange(self.edges[0])[run.usable[: self.edges[0]]]
        if len(before):
            self.activity.follow(run.rows(before[run.phase[before] == ACTIVITY]), None)
            self.state.changed()

    # -- a tick

    def enter(self, part: Part) -> None:
        """Turn to a part of the run."""
        self.guards.check(part)
        self.books.enter(part)

    def follow(self, tick: Tick, row_of_part: int, sample: float | None) -> None:
        """Check one tick, a row of the part, and apply its rows."""
        a, b = self.edges[tick.number : tick.number + 2]
        for row in np.flatnonzero(self.run.journal["time"][a:b] != tick.time).tolist():
            self.out.breach("rows", f"time is not {tick.time}", tick.number, a + row)
        self.books.begin(tick, row_of_part)
        if self.accruals.follow(tick, a, b):
            self.state.changed()
        chosen = a + np.flatnonzero(self.run.usable[a:b] & (self.run.phase[a:b] >= 0))
        rows = self.run.rows(chosen) if len(chosen) else []
        after, rows = (
            [row for row in rows if self.run.phase[row.number] == ACTIVITY],
            [row for row in rows if self.run.phase[row.number] != ACTIVITY],
        )
        self.cursor.begin(tick, rows)
        # a multiplicative hash spreads the sampled ticks evenly, and the same ones every time
        if b > a or sample is None or tick.number * 2654435761 % 2**32 < sample * 2**32:
            self._start(tick, rows)
        self.backstop.advance(tick.time)
        if tick.time <= self.time:
            self.out.breach("rows", f"time {tick.time} is not after {self.time}", tick.number)
        elif tick.number and tick.time - self.time > self.longest:
            what = f"{tick.time - self.time} nanoseconds after the tick before, more than largest_gap"
            self.out.breach("rows", what, tick.number)
        self.time = tick.time
        if rows:
            self._phases(tick)
            self.state.changed()
        if after:
            self.activity.follow(after, tick)
            self.state.changed()

    def _phases(self, tick: Tick) -> None:
        """Follow the rows of a tick through the phases."""
        self.repay.begin()
        self.slices.begin()
        self.slices.advance(tick.time)
        self._open()
        if not self.venue.plain:  # the exact model judges the decisions
            self.fills.follow()
            return
        for phases, follow in (
            ((REPAY, SLICES), self._rounds),
            ((4,), self.backstop.follow),
            ((5,), lambda: self.adl.follow(self.swept)),
            ((CLOSE_OUT,), lambda: self.close_out.follow(self.swept)),
        ):
            try:
                follow()
                self._over(*phases)
            except OffTrack:  # reported; the rest of these rows are applied, so that later rows can be checked
                self._pass(*phases)
        self._pass(*range(CLOSE_OUT + 1))

    def _rounds(self) -> None:
        for round_number in range(self.rounds):
            self.repay.round(round_number)
            self.slices.round(round_number)

    def _over(self, *phases: int) -> None:
        """Check that no more rows of these phases come."""
        self.out.checked["order"] += 1
        if (row := self.cursor.next(*phases)) is not None:
            self.cursor.breach("order", f"market {row.market}, asset {row.asset}: no such row is due here", row)
            raise OffTrack

    def _pass(self, *phases: int) -> None:
        """Apply the rows that come next, as long as they are of these phases."""
        while (row := self.cursor.next(*phases)) is not None:
            if row.reason == "to_backstop":
                self.cursor.escalated.add(row.account)
            self.cursor.apply(row)

    def _start(self, tick: Tick, rows: list[Row]) -> None:
        """Select, and compare with the trigger rows."""
        tick.count(self.state)
        order = self.cursor.order
        triggers = [row for row in rows if row.event == "trigger"]
        for row in triggers:
            if row.account in order:
                self.cursor.breach("selection", "selected twice", row)
            order.setdefault(row.account, len(order))
        if self.sweep.unpriced(tick):
            self.out.breach("prices", "a held market or asset has no price", tick.number)
        margins = self.sweep.margins(tick)
        self._select(tick, *margins)
        self.swept: Swept | None = None
        if any(self.run.phase[row.number] > 4 for row in rows):
            self.swept = swept_accounts(self.sweep, tick, list(order), margins)
        self.throttle.begin(tick.number, tick.time)
        if self.venue.words["account_order"] == "random":
            order_keys: list[tuple[float, int]] = [
                (self.throttle.order_key(row.account), row.account) for row in triggers
            ]
        else:
            order_keys = [(-row.mmr_before, row.account) for row in triggers]
        for (_, two), (earlier, later) in zip(pairwise(triggers), pairwise(order_keys), strict=True):
            self.cursor.require("selection", earlier < later, "out of the order of the accounts", two)

    def _select(self, tick: Tick, equity: Array, maintenance: Array, gross: Array) -> None:
        """Compare the selected accounts with those that are liquidating."""
        exposed = self.state.exposed
        doubt = exposed & (np.abs(maintenance - equity) <= TOLERANCE * gross)
        expected = set(np.flatnonzero(exposed & ~doubt & ~(maintenance < equity)).tolist())
        for account in np.flatnonzero(doubt).tolist():
            exact = self.state.margin(account, tick, self.state.exact)
            if not exact.maintenance < exact.equity:
                expected.add(account)
        self.out.checked["selection"] += len(equity)
        for account in sorted(expected ^ self.cursor.order.keys()):
            what = "not selected" if account in expected else "selected"
            figures = f"maintenance margin {maintenance[account]}, net equity {equity[account]}"
            self.out.breach("selection", f"{what}: {figures}", tick.number, account=account)

    def _open(self) -> None:
        """Follow the rows that begin the tick: the triggers, and the orders that are cancelled."""
        cursor, state, orders, last = self.cursor, self.state, self.run.start["orders"], (0, -1, -1)
        while (row := cursor.next(0, 1)) is not None:
            key = int(self.run.phase[row.number]), cursor.order.get(row.account, 0), row.order
            cursor.require("selection", key > last, "out of the order of the accounts and their orders", row)
            last = key
            if row.event == "trigger":
                cursor.equal("ratios", "mmr_after", row, row.mmr_after, row.mmr_before)
            else:
                cursor.require("stages", row.order in state.open[row.account], f"order {row.order} is not open", row)
                cursor.equal("rows", "requested", row, row.requested, int(orders["lots"][row.order]))
                cursor.equal("rows", "market", row, row.market, int(orders["market"][row.order]))
            cursor.apply(row)
        for account in cursor.order:
            self.out.checked["stages"] += 1
            if state.open[account]:
                what = f"{len(state.open[account])} orders are still open"
                self.out.breach("stages", what, cursor.tick.number, account=account)

    def finish(self) -> None:
        """Compare the state of the replay's parts with the last state."""
        self.accruals.finish()
        self.guards.finish()
        self._finish_ledger()
        equal, state = self.out.equal, self.run.state
        if self.throttle.cooldown is not None:
            owner, market = self.state.owner.tolist(), self.state.market.tolist()
            self.throttle.begin(self.run.manifest["ticks"] - 1, self.time)
            filled = self.throttle.filled.items()
            fills = sorted((owner[p], market[p], time) for p, time in filled if self.throttle.cools(p))
            equal("throttle", "state slices", _rows(state["slices"]), fills)
        if self.slices.account_cap is not None:
            self.slices.advance(self.time)
            sold = sorted((account, quanta) for account, quanta in self.slices.sold.items() if quanta)
            equal("book", "state sold", _rows(state["sold"]), sold)
        if self.books.half_life is not None:
            equal("book", "state books", _rows(state["books"]), _rows(self.books.state()))

    def _finish_ledger(self) -> None:
        """Compare the providers' ledgers, and that there is no other."""
        taken = self.backstop.taken
        ledger, names = self.run.ledger, ("provider_minute", "provider_hour", "provider_total")
        expected = {entry: quanta for row, entries in taken.items()
                    for entry, quanta in zip([(name, row) for name in names], entries, strict=True)}  # fmt: skip
        others = [("book_lots", row) for row in range(len(self.venue.markets))]
        of_assets = ("book_quanta", "pool", "fund", "shortfall")
        others += [(name, row) for name in of_assets for row in range(len(self.venue.assets))]
        entries = sorted(zip(*(self.run.state["ledger"][name].tolist() for name in ("ledger", "item")), strict=True))
        self.out.equal("replay", "entries of the ledger", entries, sorted([*expected, *others]))
        for entry, quanta in expected.items():
            self.out.equal("replay", f"ledger entry {entry}", ledger[entry], quanta)


def _rows(columns: dict[str, Array]) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns.values()), strict=True))
