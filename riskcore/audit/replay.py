"""The journal followed row by row: every row and tick is set against the rules, the accounts as they stand there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from .accruals import Accruals
from .activity import Activity
from .books import Books
from .decisions import Decisions, Policy
from .findings import Findings
from .folder import ACTIVITY, DELISTING, GUARD, Array, Part, Run
from .guards import Guards
from .instants import Before, Instants
from .margins import Quotes, State, Sweep, Tick
from .near import Near
from .venue import Venue
from .venue_changes import Delistings, Step, Stretch, delistings_of

_NO_ROWS = np.zeros(0, np.int64)
_Piece = tuple[int, int, list[tuple[int, Fraction]]]
"""First row of a chunk, end of its rows, and what is delisted at the first."""


class _Watched:
    """Accounts that may be liquidating at some instants, ascending, and at which."""

    def __init__(self, accounts: Array, instants: int) -> None:
        self.accounts, self.flags = accounts, np.zeros((instants, len(accounts)), bool)

    def put(self, accounts: Array, first: int, flags: Array) -> None:
        """Take over the flags of some accounts from an instant on."""
        new = np.setdiff1d(accounts, self.accounts)
        if len(new):
            places = np.searchsorted(self.accounts, new)
            self.accounts = np.insert(self.accounts, places, new)
            self.flags = np.insert(self.flags, places, False, axis=1)
        self.flags[first:, np.searchsorted(self.accounts, accounts)] = flags


class Replay:
    """The journal followed tick by tick: accruals and decisions are made again, and the rows on record applied."""

    def __init__(self, run: Run, out: Findings, policies: dict[str, Policy]) -> None:
        self.run, self.out, self.venue, self.state = run, out, run.venue, State(run)
        self.guards = Guards(run, out)
        self.books = Books(run, self.guards)
        self.decisions = Decisions(run, out, self.books, self.state, policies)
        self.accruals = Accruals(run, out, self.state)
        self.delistings, self.due = Delistings(run, out, self.state), list[tuple[int, Fraction]]()
        self.steps = list[Step]()
        """The changes that come before the next tick."""
        self.sweep, self.fund, self.time = Sweep(self.state), run.opening_fund, -1
        self.near = Near(self.sweep)
        self.events = np.unique(np.concatenate([run.funding["time"], run.changes["time"]]))
        self.chunk: Part | None = None
        self.last: tuple[Part, int] | None = None
        """The last tick that was followed: a part of instants, and the row of it."""
        self.tick: Tick | None = None
        """The same with its open interest."""
        gap = run.venue.policy.get("largest_gap")
        self.longest = math.inf if gap is None else math.floor(gap * 10**9)
        self.edges = np.searchsorted(run.journal["tick"], np.arange(run.manifest["ticks"] + 1)).tolist()
        self.activity = Activity(run, out, self.decisions)
        self._act(0, self.edges[0], None)

    # -- prices

    def enter(self, stretch: Stretch) -> None:
        """Turn to a stretch of the run."""
        self.part, self.steps = stretch.part, stretch.steps
        if not self.venue.clock or self.last is None:
            self._change(self.steps)
            self.due, self.steps = delistings_of(self.steps), []
        self.instants, self.chunk = self._instants(self.venue), None
        if not self.venue.clock:
            self._check(self.part)

    def _instants(self, venue: Venue) -> Instants:
        return Instants(venue, self.run.manifest["seed"], self.events)

    def _change(self, steps: list[Step]) -> None:
        """Take over the venue after changes."""
        if steps:
            self.venue = steps[-1].venue
            self.state.take(self.venue)
            self.sweep = Sweep(self.state)
            self.near = Near(self.sweep)
            self.accruals.take(steps)
            self.decisions.take(steps[-1].source, self.venue)

    def _check(self, chunk: Part) -> None:
        """Turn to ticks of the part with their instants, and check their prices."""
        if not chunk.is_tick.all():
            chunk = self.guards.assets.complete(chunk)
        self.chunk = chunk
        self.guards.check(chunk)
        self.books.enter(chunk)

    def low_first(self) -> Array:
        """Whether the low comes before the high in the bars that follow, by market."""
        assert self.tick is not None
        return self.decisions.low_first(self.tick, self.sweep.requirements(self.tick))

    def unpriced(self, mark: Array, asset: Array, delisted: Sequence[int] = ()) -> bool:
        """Whether something that is held has no price among these; the markets that are delisted need no mark."""
        return self.sweep.unpriced(mark, asset, delisted)

    # -- a tick

    def follow(self, row: int, sample: float | None) -> None:
        """Check one tick of the part, a row of it, and its instants, and apply their rows."""
        number, since = self.part.first + row, self.time
        a, end_of_rows = self.edges[number : number + 2]
        active = self.run.phase[a:end_of_rows] == ACTIVITY
        b = a + int(np.argmax(active)) if active.any() else end_of_rows
        times, pieces = self._planned() if self.steps else self._expanded(row)
        spans = self._spans(number, a, b, times)
        # a multiplicative hash spreads the sampled ticks evenly, and the same ones every time
        is_looked_at = b > a or sample is None or number * 2654435761 % 2**32 < sample * 2**32
        done, before = 0, since
        for first, end, delistings in pieces:
            self._follow(first, end, before, spans[done : done + end - first + 1], delistings, is_looked_at)
            done, before = done + end - first, int(times[done + end - first - 1])
        time = int(times[-1])
        if time <= since:
            self.out.breach("rows", f"time {time} is not after {since}", number)
        elif number and time - since > self.longest:
            self.out.breach("rows", f"{time - since} nanoseconds after the tick before, more than largest_gap", number)
        assert self.chunk is not None
        self.time, self.last = time, (self.chunk, end - 1)
        if not is_looked_at:
            self._begin(end - 1)
        if time < self.activity.time:
            self.out.breach("rows", f"time {time} is before the last action, {self.activity.time}", number)
        self._act(b, end_of_rows, self.tick)

    def _act(self, first: int, end: int, tick: Tick | None) -> None:
        """Follow the rows of activity after a tick, or before the first."""
        is_active = self.run.phase[first:end] == ACTIVITY
        for row in (first + np.flatnonzero(~is_active)).tolist():
            self.out.breach("rows", "comes after activity", int(self.run.journal["tick"][row]), row)
        rows = first + np.flatnonzero(is_active & self.run.usable[first:end])
        if len(rows):
            self.activity.follow(rows, tick)
            self._pay_fund(rows)
            self.near.forget()

    def _expanded(self, row: int) -> tuple[Array, Iterable[_Piece]]:
        """Times of the instants of a tick, and their rows in the chunk."""
        number = self.part.first + row
        if self.chunk is None or self.chunk.number[-1] < number:
            before = None if self.last is None else Before.of(*self.last, self.guards)
            self._check(self.instants.expand(self.part, row, before, self))
        assert self.chunk is not None
        first, end = np.searchsorted(self.chunk.number, [number, number + 1]).tolist()
        delistings, self.due = self.due, []
        return self.chunk.time[first:end], [(first, end, delistings)]

    def _planned(self) -> tuple[Array, Iterable[_Piece]]:
        """Times of the instants of a tick before which the venue changes, and the chunks of each venue, one by one."""
        steps, self.steps = self.steps, []
        assert self.last is not None
        before = Before.of(*self.last, self.guards)
        later = [(step.time, self._instants(step.venue)) for step in steps]
        times, plan = self.instants.plan(self.part, before, later, self)
        if self.tick is not None:
            for step in steps:
                self.tick.count_for(step.venue, self.state)

        def pieces() -> Iterator[_Piece]:
            first = int(np.searchsorted(times, steps[0].time))
            stretches = [(steps[:0], 0, first)]
            if len(times) == 1:  # all happens at the tick
                stretches = [(steps, 0, 1)]
            else:
                edges = [int(np.searchsorted(times, step.time)) for step in steps] + [len(times)]
                stretches += [([step], *edge) for step, edge in zip(steps, pairwise(edges), strict=True)]
            for changes, start, stop in stretches:
                self._change(changes)
                if changes:
                    self.instants = self._instants(self.venue)
                if start < stop:
                    rows = np.arange(start, stop)
                    self._check(self.instants.piece(self.part, before.at(self.guards), times, plan, rows))
                    yield 0, stop - start, delistings_of(changes)

        return times, pieces()

    def _follow(
        self, first: int, end: int, since: int, spans: list[int], delistings: list[tuple[int, Fraction]],
        is_looked_at: bool,
    ) -> None:  # fmt: skip
        """Follow instants of a tick, rows of the chunk, and the rows between these edges."""
        assert self.chunk is not None
        number, times, (a, b) = int(self.chunk.number[first]), self.chunk.time[first:end], (spans[0], spans[-1])
        due = self.instants.is_due(times, since)
        phase = np.where(self.run.usable[a:b], self.run.phase[a:b], 0)
        self.delistings.follow(number, int(times[0]), a + np.flatnonzero(phase == DELISTING), delistings)
        if (phase == DELISTING).any():
            self.near.forget()
        between = np.flatnonzero((phase < 0) & (phase != GUARD) & (phase != DELISTING))
        pays = due.copy()
        pays[np.searchsorted(spans, a + between, side="right") - 1] = True
        edges = [0, *(np.flatnonzero(pays[1:]) + 1).tolist(), len(times)]
        for start, stop in pairwise(edges):
            if pays[start]:
                self.accruals.time = None if not number else int(times[start - 1]) if start else since
                if self.accruals.follow(Tick(self.chunk, first + start), spans[start], spans[start + 1]):
                    self.state.changed()
                    self.near.forget()
            stretch = slice(first + start, first + stop)
            self.accruals.note(self.chunk.mark[stretch], self.chunk.indexes[stretch])
            if is_looked_at:
                self._select(range(first + start, first + stop), spans[start : stop + 1], due[start:stop])

    def _spans(self, number: int, a: int, b: int, times: Array) -> list[int]:
        """Edges of the rows of each instant among those of a tick; rows of no instant belong to the next."""
        written = self.run.journal["time"][a:b]
        place = np.minimum(np.searchsorted(times, written), len(times) - 1)
        for row in np.flatnonzero(times[place] != written).tolist():
            self.out.breach("rows", f"time {written[row]} is not that of an instant of the tick", number, a + row)
        for row in np.flatnonzero(np.diff(written) < 0).tolist():
            self.out.breach("rows", "times must ascend", number, a + row + 1)
        place = np.maximum.accumulate(place)
        spans: list[int] = (a + np.searchsorted(place, np.arange(len(times) + 1))).tolist()
        return spans

    def _rows(self, a: int, b: int) -> Array:
        """Rows of the phases."""
        if a == b:
            return _NO_ROWS
        return np.asarray(a + np.flatnonzero(self.run.usable[a:b] & (self.run.phase[a:b] >= 0)))

    def _begin(self, row: int) -> Tick:
        """Turn to a tick, a row of the chunk."""
        assert self.chunk is not None
        tick = Tick(self.chunk, row)
        self.books.begin(tick, row)
        tick.count(self.state)
        self.tick = tick
        return tick

    # -- selection and phases

    def _select(self, rows: range, spans: list[int], due: Array) -> None:
        """Follow instants between which nothing falls due, rows of the chunk: who may be liquidating is decided."""
        assert self.chunk is not None
        chunk, part = self.chunk, slice(rows.start, rows.stop)
        is_asked = chunk.is_tick[part] | chunk.update[part] | due
        interest = [{} if self.tick is None else self.tick.open_quantity] * len(rows)
        if chunk.is_tick[rows[-1]]:
            now = Tick(chunk, rows[-1])
            now.count(self.state)
            interest[-1] = now.open_quantity
            if self.sweep.unpriced(now.mark, now.asset):
                self.out.breach("prices", "a held market or asset has no price", now.number)
        quotes = Quotes.of(self.venue, chunk.mark[part], chunk.asset[part], interest)
        self.out.checked["selection"] += len(self.state.open) * len(rows)
        watched = _Watched(self.near.candidates(quotes), len(rows))
        if len(watched.accounts):
            watched.flags = self.near.flags(watched.accounts, quotes)
        for place, row in enumerate(rows):
            if chunk.is_tick[row]:
                tick, before = self._begin(row), None
            else:
                tick, before = None, self.tick
            written = self._rows(spans[place], spans[place + 1])
            if not (is_asked[place] or self.books.consumed) and self.decisions.judge.leaves_out(int(chunk.time[row])):
                if len(written):
                    self.decisions.leave_out(Tick(chunk, row), written)
                    self._apply(written)
                continue
            candidates = watched.accounts[watched.flags[place]].tolist()
            if not candidates and not len(written):
                self.decisions.judge.pass_over(int(chunk.time[row]))
                continue
            if tick is None:
                tick = Tick(chunk, row)
                tick.open_quantity = interest[place]
            self.decisions.follow(tick, written, candidates, self.fund, before)
            if len(written):
                touched = self._apply(written)
                if place + 1 < len(rows):
                    watched.put(touched, place + 1, self.near.flags(touched, quotes.from_row(place + 1)))

    def _apply(self, rows: Array) -> Array:
        """Apply rows of the phases; return the accounts that they name, ascending."""
        journal = self.run.journal
        self.state.apply(rows, journal)
        named = np.unique(np.concatenate([journal["account"][rows], journal["counterparty"][rows]]))
        named = named[named >= 0]
        self.state.changed(named)
        self.near.touch(named)
        self._pay_fund(rows)
        return named

    def _pay_fund(self, rows: Array) -> None:
        """Add what rows bring the fund."""
        journal = self.run.journal
        asset, gained = journal["settle"][rows], journal["fund"][rows] + journal["fee"][rows]
        for k in np.unique(asset[asset >= 0]).tolist():
            self.fund[k] += sum(gained[asset == k].tolist())

    def finish(self) -> None:
        """Compare the state of the replay's parts with the last state."""
        self.accruals.finish()
        is_delisted = [market in self.venue.delisted for market in range(len(self.venue.markets))]
        recorded, tick, width = self.run.state["markets"], self.tick, len(self.venue.markets)
        self.out.equal("replay", "state markets.delisted", recorded["delisted"].tolist(), is_delisted)
        interest = np.full(width, np.nan) if tick is None else tick.given_interest
        agrees = np.array_equal(recorded["open_interest"], interest, equal_nan=True)
        self.out.equal("replay", "state markets.open_interest is that of the last tick", agrees, True)
        lots = [0] * width if tick is None else [tick.open_lots(market) for market in range(width)]
        self.out.equal("replay", "state markets.open_lots", recorded["open_lots"].tolist(), lots)
        self.guards.finish()
        self.decisions.finish(self.time)
