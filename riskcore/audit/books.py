"""The order books of a tick: the levels that may be taken, and what is consumed of them until it comes back."""

from __future__ import annotations

import math

import numpy as np

from .folder import Array, Columns, Part, Run
from .guards import Guards
from .margins import Tick

Levels = tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]
"""Prices and lots of the bids and of the asks."""


class Books:
    """The books as the guards let them through and, with a refill, as the instants before left them."""

    def __init__(self, run: Run, guards: Guards) -> None:
        self.venue, self.guards = run.venue, guards
        half_life = run.venue.policy.get("refill_half_life")
        self.half_life = None if half_life is None else float(half_life)
        self.decayed = 0
        """Time at which the consumed lots decayed last."""
        self.remembered = dict[int, tuple[Part, int]]()
        """By market, the part and the tick that have its levels."""
        self.consumed = dict[int, tuple[list[int], list[int]]]()
        """By market, the consumed lots of the remembered levels: only where there are any."""

    def enter(self, part: Part) -> None:
        """Turn to a part, after the guards have checked it."""
        self.part, self.given, self.refused = part, self.guards.given, self.guards.refused
        for market in part.venue.delisted:
            self.remembered.pop(market, None)
            self.consumed.pop(market, None)

    def begin(self, tick: Tick, row: int) -> None:
        """Turn to a tick, a row of the part."""
        self.decay(tick.time)
        given, refused = self.given[row], self.refused[row]
        for market in np.flatnonzero(given & ~refused).tolist():
            before = self._levels(market) if market in self.consumed else None
            self.remembered[market] = self.part, tick.number
            if before is not None and before != self._levels(market):
                del self.consumed[market]
        gone: Array = refused if self.half_life is not None else ~given | refused
        for market in self.remembered.keys() & np.flatnonzero(gone).tolist():
            del self.remembered[market]
            self.consumed.pop(market, None)

    def decay(self, time: int) -> None:
        """Let consumed lots come back, by half in each half-life."""
        seconds, self.decayed = max(time - self.decayed, 0) / 10**9, time
        if self.consumed:
            factor = 0.5 ** (seconds / (self.half_life or 1.0))
            left = {
                market: tuple([math.floor(lots * factor) for lots in side] for side in sides)
                for market, sides in self.consumed.items()
            }
            self.consumed = {market: (sides[0], sides[1]) for market, sides in left.items() if any(map(any, sides))}

    def take(self, consumed: dict[int, tuple[list[int], list[int]]]) -> None:
        """Keep what an instant consumed of the levels of some markets."""
        if self.half_life is not None:
            self.consumed |= {market: sides for market, sides in consumed.items() if any(map(any, sides))}

    def _levels(self, market: int) -> Levels:
        """The remembered levels of a market."""
        if market not in self.remembered:
            return ([], []), ([], [])
        part, number = self.remembered[market]
        return part.levels(number, market, 1), part.levels(number, market, -1)

    def levels(self, market: int) -> list[tuple[list[int], list[int], list[int]]]:
        """Prices, lots and consumed lots of both sides of a perpetual, or of a spot market (numbered on)."""
        if self.guards.closed[market]:
            return [([], [], []), ([], [], [])]
        levels = self._levels(market)
        consumed = self.consumed.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
        return [(prices, lots, less) for (prices, lots), less in zip(levels, consumed, strict=True)]

    def state(self) -> Columns:
        """Return the table of the last state: the levels that count after the last tick, and their consumed lots."""
        rows = []
        for market in range(self.venue.books):
            levels = self._levels(market)
            consumed = self.consumed.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
            for side, (prices, lots), less in zip((1, -1), levels, consumed, strict=True):
                rows += [(market, side, *level, self.decayed) for level in zip(prices, lots, less, strict=True)]
        table = np.array(rows, np.int64).reshape(-1, 6).T
        return dict(zip(("market", "side", "price", "lots", "consumed_lots", "decay_time"), table, strict=True))
