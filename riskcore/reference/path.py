"""The path of prices between two ticks (Prices in between)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from .float64 import Float64
from .prices import Prices
from .state import State
from .throttle import draw, key_of
from .venue import Market, Venue

HALF = 2**63
DEVIATION = 1.7320508075688772  # of a sum of four uniform draws: it becomes 1
BRIDGE = 0.6266570686577501


@dataclass
class Point:
    """What the path gives at an instant: values by market or asset, and which of them are updates."""

    marks: dict = field(default_factory=dict)
    indexes: dict = field(default_factory=dict)
    assets: dict = field(default_factory=dict)
    new_marks: set = field(default_factory=set)
    new_indexes: set = field(default_factory=set)
    new_assets: set = field(default_factory=set)

    @property
    def is_update(self) -> bool:
        """Whether any price is an update."""
        return bool(self.new_marks or self.new_indexes or self.new_assets)

    def without(self, markets: frozenset) -> Point:
        """The point without some markets."""
        if not markets:
            return self
        marks, indexes = (
            {m: x for m, x in values.items() if m not in markets} for values in (self.marks, self.indexes)
        )
        updates = self.new_marks - markets, self.new_indexes - markets, self.new_assets
        return Point(marks, indexes, self.assets, *updates)


def path(venue: Venue, state: State, times: list[int], time_ns: int, given, bars, seed: int) -> list[Point]:
    """The points of the path at `times`, the instants in between; `bars` are (low, high) by market."""
    if not times:
        return []
    kind = venue.policy["price_path"]
    every, points = [state.time_ns, *times, time_ns], [Point() for _ in times]
    for number, (symbol, market) in enumerate(venue.markets.items()):
        memory, before = state.guard_states[symbol], state.prices
        if memory.mark is None:
            continue
        p0, p1 = memory.mark, given.marks.get(symbol)
        p1 = None if p1 is None else float(p1)
        route = Route(kind, market, number, every, p0, p1, bars.get(symbol), seed)
        if kind == "adverse":
            held = [account.positions.get(symbol, (0,))[0] for account in state.accounts.values()]
            route.low_first = longs_hold_more(venue, state.prices, symbol, held)
        marks = route.marks()
        put(points, marks, p0, symbol, "marks")
        i0 = float(before.indexes[symbol]) if before is not None and symbol in before.indexes else None
        i1 = given.indexes.get(symbol)
        put(points, route.indexes(marks, i0, None if i1 is None else float(i1)), i0, symbol, "indexes")
    for asset, price in (state.prices.asset_prices if state.prices is not None else {}).items():
        a0, a1 = float(price), given.asset_prices.get(asset)
        values = [a0] * len(times)
        if a1 is not None and kind != "hold":
            span = float(time_ns - state.time_ns)
            values = [a0 + (float(a1) - a0) * (float(time - state.time_ns) / span) for time in times]
        put(points, values, a0, asset, "assets")
    return points


def put(points: list[Point], values, before, symbol: str, name: str) -> None:
    """Write the values of a market or an asset into the points; one that differs from that before is an update."""
    for point, value in zip(points, values, strict=True):
        if value is not None:
            getattr(point, name)[symbol] = value
            if value != before:
                getattr(point, f"new_{name}").add(symbol)
        before = value


class Route:
    """The way of one market from the mark used last to the mark of the tick."""

    def __init__(self, kind: str, market: Market, number: int, times: list[int], p0: float, p1, bar, seed: int):
        self.kind = kind
        self.market, self.number, self.times, self.p0, self.p1, self.bar = market, number, times, p0, p1, bar
        self.count = len(times) - 2  # instants strictly between
        self.key = key_of(f"{seed}/path/{times[-1]}")
        self.low_first = self.draw(0) < HALF
        ends = [p0] if p1 is None else [p0, p1, *(() if bar is None else bar)]
        self.low, self.high = min(ends), max(ends)

    def draw(self, k: int) -> int:
        """`draw(k)` of the market."""
        return draw(self.key, self.number * 2**32 + k)

    def normal(self, k: int) -> float:
        """`z_k`: about normal, of mean 0 and deviation 1."""
        word = self.draw(k)
        total = sum(word >> shift & 0xFFFF for shift in (0, 16, 32, 48))
        return (total - 131070) / 65536 * DEVIATION

    def anchors(self) -> list[tuple[int, float]]:
        """Number of the instant, and price, of the anchors; the tick before is 0."""
        last = self.count + 1
        points = [(0, self.p0)]
        if self.bar is not None and self.count > 0:
            first, second = self.bar if self.low_first else self.bar[::-1]
            points.append((max(last // 3, 1), first))
            if self.count > 1:
                points.append((2 * last // 3, second))
        return [*points, (last, self.p1)]

    def marks(self) -> list[float]:
        """The marks of the instants in between."""
        if self.p1 is None:
            return [self.p0] * self.count
        values: list[float] = []
        anchors = self.anchors()
        for (i, x_i), (j, x_j) in pairwise(anchors):
            values += [*self.stretch(i, j, x_i, x_j), x_j]
        return values[:-1]

    def stretch(self, i: int, j: int, x_i: float, x_j: float) -> list[float]:
        """The marks between two anchors."""
        if self.kind == "hold":
            return [x_i] * (j - i - 1)
        span = float(self.times[j] - self.times[i])
        parts = [float(self.times[k] - self.times[i]) / span for k in range(i + 1, j)]
        lines = [x_i + (x_j - x_i) * w for w in parts]
        if self.kind == "bridge":
            sums = [0.0]
            for k in range(i + 1, j + 1):
                sums.append(sums[-1] + self.normal(k))
            scale = (self.high - self.low) * (BRIDGE / math.sqrt(self.count + 1))
            walk = zip(lines, sums[1:-1], parts, strict=True)
            lines = [line + scale * (at_k - sums[-1] * w) for line, at_k, w in walk]
        return [min(max(self.rounded(x), self.low), self.high) for x in lines]

    def rounded(self, x: float) -> float:
        """A price in thousandths of a tick."""
        tick = self.market.tick_size
        units = float(round(x / float(tick) * 1000.0))
        return units * float(tick.numerator) / float(tick.denominator * 1000)

    def indexes(self, marks: list[float], i0, i1) -> list:
        """The indexes of the instants in between, None where there are none."""
        if i0 is None:
            return [None] * self.count
        ratio = i0 / self.p0
        if self.p1 is None or self.kind == "hold":
            return [i0 if x == self.p0 else x * ratio for x in marks]
        if i1 is None:
            return [None] * self.count
        span, change = float(self.times[-1] - self.times[0]), i1 / self.p1 - ratio
        parts = [float(time - self.times[0]) / span for time in self.times[1:-1]]
        return [self.rounded(x * (ratio + change * w)) for x, w in zip(marks, parts, strict=True)]


def longs_hold_more(venue: Venue, prices: Prices, symbol: str, held: Iterable[int]) -> bool:
    """Whether the shorts of a market do not hold more maintenance margin than its longs, of lots held, at prices."""
    if symbol not in prices.marks:
        return True
    figures, sums = Float64(venue, prices), {True: 0, False: 0}
    for lots in held:
        sums[lots > 0] += round(figures.required[symbol](abs(lots) * figures.lot[symbol]))
    return not sums[False] > sums[True]
