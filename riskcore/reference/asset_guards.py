"""Guards of the prices of collateral: clamps to the index and to a moving average, the update cap, and staleness."""

from __future__ import annotations

import copy
from fractions import Fraction

from .numbers import SECOND, number
from .price_updates import WINDOW, capped
from .state import AssetState
from .tick_state import TickState
from .venue import Asset


class AssetGuards(TickState):
    """Guards of the prices of collateral, asset by asset, after those of the markets."""

    kept: frozenset | None = None
    """Assets with a price of their own that is used again without a row; None: what is not given may be held."""

    def guard_assets(self) -> None:
        """The prices that the tick gives become those that it uses, and those that are held come to them."""
        given = self.prices.asset_prices
        used: dict = {}
        self.prices.asset_prices = used
        waiting = {asset for asset in given if asset in self.venue.assets and asset != self.venue.settle}
        for symbol, asset in self.venue.assets.items():
            if symbol == self.venue.settle:
                continue
            memory = self.state.asset_states[symbol]
            if symbol in given:
                price = self.guarded_price(asset, float(given[symbol]), memory, waiting)
                memory.price, memory.time = price, self.time_ns
                memory.used.append((self.time_ns, price))
                waiting.discard(symbol)
                used[symbol] = number(price)
            elif self.kept is not None:
                if symbol in self.kept:
                    used[symbol] = number(memory.price)
            elif self.is_fresh(asset, memory):
                used[symbol] = number(memory.price)
                self.refuse("mark_held", asset=symbol)

    def is_fresh(self, asset: Asset, memory: AssetState) -> bool:
        """Whether the price used last may be used again."""
        longest = asset.guard.stale_after
        return memory.price is not None and longest is not None and self.time_ns - memory.time <= longest * SECOND

    def guarded_price(self, asset: Asset, price: float, memory: AssetState, waiting: set) -> float:
        """A given price after the clamps and the cap, with a row for each that changes it."""
        guard = asset.guard
        for reason, middle, threshold in (
            ("index_clamp", self.index_of(asset.symbol, waiting), guard.index_threshold),
            ("mean_clamp", mean_price(memory.used, self.time_ns), guard.mean_threshold),
        ):
            if middle is not None and threshold is not None:
                before, share = price, float(threshold)
                price = min(max(price, middle * (1 - share)), middle * (1 + share))
                if price != before:
                    self.refuse(reason, before, asset=asset.symbol)
        before, price = price, capped(guard, price, memory.price, self.time_ns - memory.time)
        if price != before:
            self.refuse("update_cap", before, asset=asset.symbol)
        return price

    def index_of(self, base: str, waiting: set) -> float | None:
        """The index of the first perpetual of an asset that has one, in settle units.

        There is none if that index was itself rejected in this tick, or if its quote has no price yet.
        """
        markets = self.venue.markets.values()
        market = next((one for one in markets if one.base_symbol == base and one.symbol in self.prices.indexes), None)
        if market is None or market.symbol in self.rejected_indexes():
            return None
        if market.quote is None:
            return float(self.prices.indexes[market.symbol])
        so_far = copy.copy(self.prices)
        so_far.marks = {
            symbol: mark
            for symbol, mark in self.prices.marks.items()
            if self.venue.markets[symbol].base_symbol not in waiting
        }
        quote: Fraction | None = so_far.if_known(self.venue, market.quote)
        return None if quote is None else float(self.prices.indexes[market.symbol]) * float(quote)

    def rejected_indexes(self) -> set:
        """The markets whose index was rejected in this tick."""
        return {row["market"] for row in self.rows if row["reason"] == "index_update_cap"}


def mean_price(used: list, time_ns: int) -> float | None:
    """The mean of the prices at the whole seconds in `(t - 300 s, t)`, None without any."""
    runs: list[list] = []  # price, seconds
    for second in range(-(-(time_ns - WINDOW * SECOND + 1) // SECOND), -(-time_ns // SECOND)):
        before = [price for time, price in used if time <= second * SECOND]
        if before and runs and runs[-1][0] == before[-1]:
            runs[-1][1] += 1
        elif before:
            runs.append([before[-1], 1])
    if not runs:
        return None
    total = 0.0
    for price, seconds in runs:
        total += price * seconds
    return total / sum(seconds for _, seconds in runs)
