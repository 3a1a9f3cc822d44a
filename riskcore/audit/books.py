"""The order books of a tick: what is left of them, the band of a taker, quotes, and their refill."""

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
    """What a side gives for a number of lots: lots, their lots times ticks, what stopped it, and what of each level."""

    lots: int
    value: int
    reason: str
    fills: list[tuple[int, int]]  # price and lots


class Side:
    """One side of a book (1 the bids, -1 the asks): what is left of it in a tick, and how far it may be taken."""

    def __init__(self, side: int, levels: tuple[list[int], list[int]], gone: list[int] | None = None) -> None:
        self.side, (self.prices, self.lots) = side, levels
        self.left = self.lots[:] if gone is None else [a - b for a, b in zip(self.lots, gone, strict=True)]
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
        got, value, at, fills = 0, 0, self.first, list[tuple[int, int]]()
        while got < most:
            if at == len(self.prices):
                return Quote(got, value, "depth", fills)
            price, size = self.prices[at], min(self.left[at], most - got)
            at += 1
            if size <= 0:
                continue
            if not self.within(price):
                return Quote(got, value, self.band, fills)
            slips = False
            if self.worst is not None and (worse := (self.worst - price) * self.side) > 0:
                fit = (value - self.worst * got) * self.side // worse
                size, slips = min(size, fit), fit < size
            if size:
                fills.append((price, size))
                got, value = got + size, value + size * price
            if slips:
                return Quote(got, value, "slippage", fills)
        return Quote(got, value, "full" if got == wanted else cap, fills)

    def take(self, fills: list[tuple[int, int]]) -> None:
        """Take away what a quote gave."""
        at = self.first
        for price, lots in fills:
            while self.prices[at] != price:
                at += 1
            self.left[at] -= lots
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
        self.gone = dict[int, tuple[list[int], list[int]]]()
        """By market, what is gone of the levels given last: only where anything is."""
        self._last = np.zeros((0, 0), np.int64)

    def enter(self, part: Part) -> None:
        """Turn to a part, when the guards have looked at it."""
        if self.half_life is not None and len(self._last):
            self.carried = {market: self._given(len(self._last) - 1, market) for market in range(self.venue.books)}
        self.part, self.shown, self.refused = part, self.guards.given & ~self.guards.refused, self.guards.refused
        rows = np.arange(len(part.time))[:, None]
        self._last = np.maximum.accumulate(np.where(self.guards.given, rows, -1), axis=0)

    def begin(self, tick: Tick, at: int) -> None:
        """Turn to a tick, the row `at` of the part."""
        self.keep()
        before, self.tick, self.at, self.time = self.time, tick, at, tick.time
        if not self.gone:
            return
        factor = 0.5 ** (max(tick.time - (before or 0), 0) / 10**9 / (self.half_life or 1.0))
        for market in list(self.gone):
            again = not self.refused[at, market] and self._given(at, market) == self._given(at - 1, market)
            gone = [[math.floor(lots * factor) for lots in side] for side in self.gone.pop(market)]
            if again and any(map(any, gone)):
                self.gone[market] = gone[0], gone[1]

    def keep(self) -> None:
        """Remember what was taken in the tick, and forget its books."""
        if self.half_life is not None:
            for market, sides in self.sides.items():
                gone = [[lots - left for lots, left in zip(side.lots, side.left, strict=True)] for side in sides]
                if any(map(any, gone)):
                    self.gone[market] = gone[0], gone[1]
        self.sides = {}

    def _given(self, at: int, market: int) -> Levels:
        """Levels of a market that were given last up to a row of the part, none where those were refused."""
        given = int(self._last[at, market]) if at >= 0 else -1
        if given < 0:
            return self.carried.get(market, (([], []), ([], [])))
        if self.refused[given, market]:
            return ([], []), ([], [])
        bids, asks = (self.part.levels(self.part.first + given, market, side) for side in (1, -1))
        return bids, asks

    def side(self, market: int, side: int) -> Side:
        """Bids (1) or asks (-1) of a perpetual, or of a spot market (numbered on)."""
        if market not in self.sides:
            levels: Levels = ([], []), ([], [])
            if self.half_life is not None or self.shown[self.at, market]:
                levels = self._given(self.at, market)
            gone = self.gone.get(market, (None, None))
            bids, asks = Side(1, levels[0], gone[0]), Side(-1, levels[1], gone[1])
            self.sides[market] = bids, asks
            bounds = self._perpetual if market < len(self.venue.markets) else self._spot
            for one in (bids, asks):
                one.bind(bounds(market, one, bids.touch, asks.touch), self.slippage)
        return self.sides[market][side < 0]

    def _perpetual(self, market: int, side: Side, bid: int | None, ask: int | None) -> list[tuple[str, Fraction]]:
        """Bounds of a slice in ticks, in the order of their names."""
        prices, far, found = self.venue.markets[market].prices, side.side < 0, list[tuple[str, Fraction]]()
        if side.touch is not None and (impact := prices.impact[far]) is not None:
            found.append(("impact", side.touch * impact))
        if (figure := prices.mean_mark[far]) is not None:
            mean = self.guards.mean(self.tick.time, market, "marks")
            if mean is not None:
                found.append(("mean_mark", Fraction(mean[0], mean[1] * 1000) * figure))
        index = float(self.tick.index[market])
        if prices.tolerance is not None and math.isfinite(index):
            mean = self.guards.mean(self.tick.time, market, "premiums")
            if mean is not None:
                reach = 1 + Fraction(mean[0], mean[1] * 10**12) - side.side * prices.tolerance
                found.append(("mean_premium", exact(index) * reach / prices.tick))
        last = float(self.tick.last[market])
        known = [bid, ask, exact(last) / prices.tick if math.isfinite(last) else None]
        return found + _limit(prices.limit[far], known)

    def _spot(self, market: int, side: Side, bid: int | None, ask: int | None) -> list[tuple[str, Fraction]]:
        """Bounds of a conversion in ticks, in the order of their names."""
        spot, far, found = self.venue.spots[market - len(self.venue.markets)], side.side < 0, []
        if side.touch is not None and (impact := spot.prices.impact[far]) is not None:
            found.append(("impact", side.touch * impact))
        found += _limit(spot.prices.limit[far], [bid, ask])
        price = float(self.tick.asset[spot.asset])
        if self.conversion is not None and math.isfinite(price):
            found.append(("conversion", exact(price) * (1 - side.side * self.conversion) / spot.prices.tick))
        return found

    def state(self) -> Columns:
        """Return what the last state must hold: the levels given last, and what is gone of them."""
        self.keep()
        rows = []
        for market in range(self.venue.books):
            levels = self._given(len(self._last) - 1, market)
            gone = self.gone.get(market, ([0] * len(levels[0][0]), [0] * len(levels[1][0])))
            for side, (prices, lots), less in zip((1, -1), levels, gone, strict=True):
                rows += [(market, side, *level) for level in zip(prices, lots, less, strict=True)]
        table = np.array(rows, np.int64).reshape(-1, 5).T
        return dict(zip(("market", "side", "price", "lots", "consumed_lots"), table, strict=True))


def _limit(
    figure: Fraction | None, known: list[int | None] | list[int | Fraction | None]
) -> list[tuple[str, Fraction]]:
    """Bound by the median of the prices that are known."""
    prices = [Fraction(price) for price in known if price is not None]
    return [] if figure is None or not prices else [("limit", median(prices) * figure)]
