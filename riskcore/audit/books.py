"""The order books of a tick: the lots left, the price bands of a taker, quotes, and the refill."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from statistics import median
from typing import NamedTuple

import numpy as np

from .folder import Columns, Part, Run
from .guards import Guards
from .margins import Tick
from .venue import exact

Levels = tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]
"""Prices and lots of the bids and of the asks."""


class Quote(NamedTuple):
    """Fill of an order by a side: lots, lots times ticks, the reason why it ended, and the lots of each level."""

    lots: int
    value: int
    reason: str
    fills: list[tuple[int, int]]  # price and lots


class Side:
    """One side of a book (1 the bids, -1 the asks): the lots left in a tick, and the band of its fills."""

    def __init__(self, side: int, levels: tuple[list[int], list[int]], consumed: list[int] | None = None) -> None:
        self.side, (self.prices, self.lots) = side, levels
        self.left = self.lots[:] if consumed is None else [a - b for a, b in zip(self.lots, consumed, strict=True)]
        self.first = 0
        self._advance()
        self.touch = self.prices[self.first] if self.first < len(self.prices) else None
        self.bound: int | None = None
        self.band = ""
        self.worst: int | None = None  # average price that a quote may have

    def _advance(self) -> None:
        while self.first < len(self.left) and self.left[self.first] <= 0:
            self.first += 1

    def bind(self, bounds: Iterable[tuple[str, Fraction]], slippage: Fraction | None) -> None:
        """Set the band: the tightest bound, the first of those that come to the same tick."""
        rounded = [(name, math.ceil(price) if self.side > 0 else math.floor(price)) for name, price in bounds]
        for name, price in rounded:
            if self.bound is None or (price - self.bound) * self.side > 0:
                self.band, self.bound = name, price
        if slippage is not None and self.touch is not None:
            worst = self.touch * (1 - self.side * slippage / 10**4)
            self.worst = math.ceil(worst) if self.side > 0 else math.floor(worst)

    def within(self, price: int) -> bool:
        """Whether a price lies inside the band."""
        return self.bound is None or (price - self.bound) * self.side >= 0

    def depth(self) -> int:
        """Lots that are left inside the band."""
        levels = zip(self.prices[self.first :], self.left[self.first :], strict=True)
        return sum(lots for price, lots in levels if self.within(price))

    def quote(self, wanted: int, room: int | None = None, cap: str = "") -> Quote:
        """Fill as much of the wanted lots as the room, the levels, the band and the slippage let."""
        if self.touch is None:
            return Quote(0, 0, "no_book", [])
        most = wanted if room is None else min(wanted, room)
        filled, value, level, fills = 0, 0, self.first, list[tuple[int, int]]()
        while filled < most:
            if level == len(self.prices):
                return Quote(filled, value, "depth", fills)
            price, size = self.prices[level], min(self.left[level], most - filled)
            level += 1
            if size <= 0:
                continue
            if not self.within(price):
                return Quote(filled, value, self.band, fills)
            slips = False
            if self.worst is not None and (worse := (self.worst - price) * self.side) > 0:
                fit = (value - self.worst * filled) * self.side // worse
                size, slips = min(size, fit), fit < size
            if size:
                fills.append((price, size))
                filled, value = filled + size, value + size * price
            if slips:
                return Quote(filled, value, "slippage", fills)
        return Quote(filled, value, "full" if filled == wanted else cap, fills)

    def walk(self, wanted: int) -> list[tuple[int, int]]:
        """Prices and lots of the levels that are left, the best first, up to the wanted lots."""
        fills = list[tuple[int, int]]()
        for price, left in zip(self.prices[self.first :], self.left[self.first :], strict=True):
            if wanted <= 0:
                break
            if left > 0:
                fills.append((price, min(left, wanted)))
                wanted -= left
        return fills

    def take(self, fills: list[tuple[int, int]]) -> None:
        """Take the lots of a quote away."""
        level = self.first
        for price, lots in fills:
            while self.prices[level] != price:
                level += 1
            self.left[level] -= lots
        self._advance()


class Books:
    """The books of a tick, as the guards let them through and, with a refill, as the ticks before left them."""

    def __init__(self, run: Run, guards: Guards) -> None:
        self.run, self.venue, self.guards = run, run.venue, guards
        policy = run.venue.policy
        half_life = policy.get("refill_half_life")
        self.half_life = None if half_life is None else float(half_life)
        self.slippage, self.conversion = policy.get("slippage_limit"), policy.get("conversion_slippage")
        self.sides = dict[int, tuple[Side, Side]]()
        self.time: int | None = None
        self.carried = dict[int, Levels]()
        """By market, the levels given last in the parts before."""
        self.consumed = dict[int, tuple[list[int], list[int]]]()
        """By market, the consumed lots of the levels given last: only where there are any."""
        self._last = np.zeros((0, 0), np.int64)

    def enter(self, part: Part) -> None:
        """Turn to a part, after the guards have checked it."""
        if self.half_life is not None and len(self._last):
            self.carried = {
                market: self._last_levels(len(self._last) - 1, market) for market in range(self.venue.books)
            }
        self.part, self.accepted, self.refused = part, self.guards.given & ~self.guards.refused, self.guards.refused
        rows = np.arange(len(part.time))[:, None]
        self._last = np.maximum.accumulate(np.where(self.guards.given, rows, -1), axis=0)

    def begin(self, tick: Tick, row: int) -> None:
        """Turn to a tick, a row of the part."""
        self.keep()
        before, self.tick, self.row, self.time = self.time, tick, row, tick.time
        if not self.consumed:
            return
        factor = 0.5 ** (max(tick.time - (before or 0), 0) / 10**9 / (self.half_life or 1.0))
        for market in list(self.consumed):
            is_repeated = self._last_levels(row, market) == self._last_levels(row - 1, market)
            consumed = [[math.floor(lots * factor) for lots in side] for side in self.consumed.pop(market)]
            if is_repeated and not self.refused[row, market] and any(map(any, consumed)):
                self.consumed[market] = consumed[0], consumed[1]

    def keep(self) -> None:
        """Keep the consumed lots of the tick, and drop its books."""
        if self.half_life is not None:
            for market, sides in self.sides.items():
                consumed = [[lots - left for lots, left in zip(side.lots, side.left, strict=True)] for side in sides]
                if any(map(any, consumed)):
                    self.consumed[market] = consumed[0], consumed[1]
        self.sides = {}

    def _last_levels(self, row: int, market: int) -> Levels:
        """Levels of a market that were given last up to a row of the part, none where those were refused."""
        last_row = int(self._last[row, market]) if row >= 0 else -1
        if last_row < 0:
            return self.carried.get(market, (([], []), ([], [])))
        if self.refused[last_row, market]:
            return ([], []), ([], [])
        bids, asks = (self.part.levels(self.part.first + last_row, market, side) for side in (1, -1))
        return bids, asks

    def side(self, market: int, side: int) -> Side:
        """Bids (1) or asks (-1) of a perpetual, or of a spot market (numbered on)."""
        if market not in self.sides:
            levels: Levels = ([], []), ([], [])
            if self.half_life is not None or self.accepted[self.row, market]:
                levels = self._last_levels(self.row, market)
            consumed = self.consumed.get(market, (None, None))
            bids, asks = Side(1, levels[0], consumed[0]), Side(-1, levels[1], consumed[1])
            self.sides[market] = bids, asks
            bounds = self._perpetual if market < len(self.venue.markets) else self._spot
            for one in (bids, asks):
                one.bind(bounds(market, one, bids.touch, asks.touch), self.slippage)
        return self.sides[market][side < 0]

    def _perpetual(self, market: int, side: Side, bid: int | None, ask: int | None) -> list[tuple[str, Fraction]]:
        """Bounds of a slice in ticks, in the order of their names."""
        prices, far, bounds = self.venue.markets[market].prices, side.side < 0, list[tuple[str, Fraction]]()
        if side.touch is not None and (impact := prices.impact[far]) is not None:
            bounds.append(("impact", side.touch * impact))
        if (figure := prices.mean_mark[far]) is not None:
            mean = self.guards.mean(self.tick.time, market, "marks")
            if mean is not None:
                bounds.append(("mean_mark", Fraction(mean[0], mean[1] * 1000) * figure))
        index = float(self.tick.index[market])
        if prices.tolerance is not None and math.isfinite(index):
            mean = self.guards.mean(self.tick.time, market, "premiums")
            if mean is not None:
                reach = 1 + Fraction(mean[0], mean[1] * 10**12) - side.side * prices.tolerance
                bounds.append(("mean_premium", exact(index) * reach / prices.tick))
        last = float(self.tick.last[market])
        reference_prices = [bid, ask, exact(last) / prices.tick if math.isfinite(last) else None]
        return bounds + _limit(prices.limit[far], reference_prices)

    def _spot(self, market: int, side: Side, bid: int | None, ask: int | None) -> list[tuple[str, Fraction]]:
        """Bounds of a conversion in ticks, in the order of their names."""
        spot, far, bounds = self.venue.spots[market - len(self.venue.markets)], side.side < 0, []
        if side.touch is not None and (impact := spot.prices.impact[far]) is not None:
            bounds.append(("impact", side.touch * impact))
        bounds += _limit(spot.prices.limit[far], [bid, ask])
        price = float(self.tick.asset[spot.asset])
        if self.conversion is not None and math.isfinite(price):
            bounds.append(("conversion", exact(price) * (1 - side.side * self.conversion) / spot.prices.tick))
        return bounds

    def state(self) -> Columns:
        """Return the table of the last state: the levels given last, and their consumed lots."""
        self.keep()
        rows = []
        for market in range(self.venue.books):
            levels = self._last_levels(len(self._last) - 1, market)
            consumed = self.consumed.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
            for side, (prices, lots), less in zip((1, -1), levels, consumed, strict=True):
                rows += [(market, side, *level) for level in zip(prices, lots, less, strict=True)]
        table = np.array(rows, np.int64).reshape(-1, 5).T
        return dict(zip(("market", "side", "price", "lots", "consumed_lots"), table, strict=True))


def _limit(
    figure: Fraction | None, reference_prices: list[int | None] | list[int | Fraction | None]
) -> list[tuple[str, Fraction]]:
    """Bound by the median of the prices that are known."""
    prices = [Fraction(price) for price in reference_prices if price is not None]
    return [] if figure is None or not prices else [("limit", median(prices) * figure)]
