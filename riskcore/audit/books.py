"""The order books of a tick: the levels that may be taken, and what is consumed of them until it comes back."""

from __future__ import annotations

import math

import numpy as np

from .folder import Columns, Part, Run
from .guards import Guards
from .margins import Tick

Levels = tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]
"""Prices and lots of the bids and of the asks."""


class Books:
    """The books of a tick, as the guards let them through and, with a refill, as the ticks before left them."""

    def __init__(self, run: Run, guards: Guards) -> None:
        self.run, self.venue, self.guards = run, run.venue, guards
        half_life = run.venue.policy.get("refill_half_life")
        self.half_life = None if half_life is None else float(half_life)
        self.time: int | None = None
        self.carried = dict[int, Levels]()
        """By market, the levels given last in the parts before."""
        self.consumed = dict[int, tuple[list[int], list[int]]]()
        """By market, the consumed lots of the levels given last: only where there are any."""
        self._last = np.zeros((0, 0), np.int64)

    def enter(self, part: Part) -> None:
        """Turn to a part, after the guards have checked it."""
        if len(self._last):
            self.carried = {
                market: self._last_levels(len(self._last) - 1, market) for market in range(self.venue.books)
            }
        self.part, self.accepted, self.refused = part, self.guards.given & ~self.guards.refused, self.guards.refused
        rows = np.arange(len(part.time))[:, None]
        self._last = np.maximum.accumulate(np.where(self.guards.given, rows, -1), axis=0)

    def begin(self, tick: Tick, row: int) -> None:
        """Turn to a tick, a row of the part."""
        before, self.row, self.time = self.time, row, tick.time
        if not self.consumed:
            return
        factor = 0.5 ** (max(tick.time - (before or 0), 0) / 10**9 / (self.half_life or 1.0))
        for market in list(self.consumed):
            is_repeated = self._last_levels(row, market) == self._last_levels(row - 1, market)
            consumed = [[math.floor(lots * factor) for lots in side] for side in self.consumed.pop(market)]
            if is_repeated and not self.refused[row, market] and any(map(any, consumed)):
                self.consumed[market] = consumed[0], consumed[1]

    def take(self, consumed: dict[int, tuple[list[int], list[int]]]) -> None:
        """Keep what a tick consumed of the levels of some markets."""
        if self.half_life is not None:
            self.consumed |= {market: sides for market, sides in consumed.items() if any(map(any, sides))}

    def _last_levels(self, row: int, market: int) -> Levels:
        """Levels of a market that were given last up to a row of the part, none where those were refused."""
        last_row = int(self._last[row, market]) if row >= 0 else -1
        if last_row < 0:
            return self.carried.get(market, (([], []), ([], [])))
        if self.refused[last_row, market]:
            return ([], []), ([], [])
        bids, asks = (self.part.levels(self.part.first + last_row, market, side) for side in (1, -1))
        return bids, asks

    def levels(self, market: int) -> list[tuple[list[int], list[int], list[int]]]:
        """Prices, lots and consumed lots of both sides of a perpetual, or of a spot market (numbered on)."""
        levels: Levels = ([], []), ([], [])
        if self.half_life is not None or self.accepted[self.row, market]:
            levels = self._last_levels(self.row, market)
        consumed = self.consumed.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
        return [(prices, lots, less) for (prices, lots), less in zip(levels, consumed, strict=True)]

    def state(self) -> Columns:
        """Return the table of the last state: the levels given last, and their consumed lots."""
        rows = []
        for market in range(self.venue.books):
            levels = self._last_levels(len(self._last) - 1, market)
            if self.half_life is None and len(self._last) and not self.accepted[-1, market]:
                levels = ([], []), ([], [])
            consumed = self.consumed.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
            for side, (prices, lots), less in zip((1, -1), levels, consumed, strict=True):
                rows += [(market, side, *level, self.time) for level in zip(prices, lots, less, strict=True)]
        table = np.array(rows, np.int64).reshape(-1, 6).T
        return dict(zip(("market", "side", "price", "lots", "consumed_lots", "decay_time"), table, strict=True))
