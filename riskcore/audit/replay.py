"""The journal followed row by row: every row and tick is set against the rules, the accounts as they stand there."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .accruals import Accruals
from .activity import Activity
from .books import Books
from .decisions import Decisions, Policy
from .findings import Findings
from .folder import ACTIVITY, DELISTING, Array, Run, is_event
from .guards import Guards
from .margins import TOLERANCE, State, Sweep, Tick
from .venue_changes import Delistings, Step, Stretch


class Replay:
    """The journal followed tick by tick: accruals and decisions are made again, and the rows on record applied."""

    def __init__(self, run: Run, out: Findings, policies: dict[str, Policy]) -> None:
        self.run, self.out, self.venue, self.state = run, out, run.venue, State(run)
        self.guards = Guards(run, out)
        self.books = Books(run, self.guards)
        self.decisions = Decisions(run, out, self.books, self.state, policies)
        self.accruals = Accruals(run, out, self.state)
        self.delistings, self.due = Delistings(run, out, self.state), list[tuple[int, Fraction]]()
        self.sweep, self.fund, self.time = Sweep(self.state), run.opening_fund, -1
        gap = run.venue.policy.get("largest_gap")
        self.longest = math.inf if gap is None else math.floor(gap * 10**9)
        self.edges = np.searchsorted(run.journal["tick"], np.arange(run.manifest["ticks"] + 1)).tolist()
        of_start = len(run.ids) - int(is_event(run.journal, "open").sum())
        there = [number < of_start for number in run.numbers]
        self.activity = Activity(run, out, self.decisions, there)
        before = np.arange(self.edges[0])[run.usable[: self.edges[0]]]
        if len(before):
            self.activity.follow(before[run.phase[before] == ACTIVITY], None)

    # -- a tick

    def enter(self, stretch: Stretch) -> None:
        """Turn to a stretch of the run."""
        part, self.due = stretch.part, [one for step in stretch.steps for one in step.delistings]
        if stretch.steps:
            self._change(stretch.steps[-1])
        self.guards.check(part)
        self.books.enter(part)

    def _change(self, step: Step) -> None:
        """Take over another venue."""
        self.venue = step.venue
        self.state.take(step.venue)
        self.sweep = Sweep(self.state)
        self.accruals.take(step.venue)
        self.decisions.take(step.source, step.venue)

    def follow(self, tick: Tick, row_of_part: int, sample: float | None) -> None:
        """Check one tick, a row of the part, and apply its rows."""
        a, b = self.edges[tick.number : tick.number + 2]
        for row in np.flatnonzero(self.run.journal["time"][a:b] != tick.time).tolist():
            self.out.breach("rows", f"time is not {tick.time}", tick.number, a + row)
        self.books.begin(tick, row_of_part)
        phase = np.where(self.run.usable[a:b], self.run.phase[a:b], 0)
        self.delistings.follow(tick.number, a + np.flatnonzero(phase == DELISTING), [] if row_of_part else self.due)
        if self.accruals.follow(tick, a, b):
            self.state.changed()
        rows = a + np.flatnonzero(self.run.usable[a:b] & (self.run.phase[a:b] >= 0))
        after, rows = rows[self.run.phase[rows] == ACTIVITY], rows[self.run.phase[rows] != ACTIVITY]
        # a multiplicative hash spreads the sampled ticks evenly, and the same ones every time
        if b > a or sample is None or tick.number * 2654435761 % 2**32 < sample * 2**32:
            self._decide(tick, rows)
        if tick.time <= self.time:
            self.out.breach("rows", f"time {tick.time} is not after {self.time}", tick.number)
        elif tick.number and tick.time - self.time > self.longest:
            what = f"{tick.time - self.time} nanoseconds after the tick before, more than largest_gap"
            self.out.breach("rows", what, tick.number)
        self.time = tick.time
        if len(rows):
            self.state.apply(rows, self.run.journal)
            self.state.changed()
            asset, gained = self.run.journal["settle"][rows], self.run.journal["fund"] + self.run.journal["fee"]
            for k in np.unique(asset[asset >= 0]).tolist():
                self.fund[k] += sum(gained[rows[asset == k]].tolist())
        if len(after):
            self.activity.follow(after, tick)

    def _decide(self, tick: Tick, rows: Array) -> None:
        """Compute all margins, and where an account is liquidating or a row is on record, decide the tick again."""
        tick.count(self.state)
        if self.sweep.unpriced(tick):
            self.out.breach("prices", "a held market or asset has no price", tick.number)
        equity, maintenance, gross = self.sweep.margins(tick)
        exposed = self.state.exposed
        may_be = np.flatnonzero(exposed & ~(maintenance < equity - TOLERANCE * gross)).tolist()
        self.out.checked["selection"] += len(equity)
        if may_be or len(rows):
            self.decisions.follow(tick, rows, may_be, self.fund)

    def finish(self) -> None:
        """Compare the state of the replay's parts with the last state."""
        self.accruals.finish()
        is_delisted = [market in self.venue.delisted for market in range(len(self.venue.markets))]
        self.out.equal("replay", "state markets.delisted", self.run.state["markets"]["delisted"].tolist(), is_delisted)
        self.guards.finish()
        self.decisions.finish(self.time)
