"""Rejection and correction of prices and books, refill of books, and price bands."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from .asset_guards import AssetGuards
from .clock import begins
from .numbers import HOUR, MINUTE, SECOND, median, number, times, whole
from .path import Point
from .price_updates import capped, mark_sample, mean_of, premium_sample, samples, tightest
from .prices import known
from .venue import Market, Spot, Tradable


class Guards(AssetGuards):
    """Rejection and correction of prices and books, refill of books, and price bands."""

    def clocks(self) -> None:
        """What was taken in a clock interval is forgotten with it (3 Book, Room; 4 Backstop)."""
        taken = [(self.state.provider_minute, MINUTE), (self.state.provider_hour, HOUR)]
        for counters, clock in taken:
            if begins(clock, self.state.time_ns, self.time_ns):
                counters.update(dict.fromkeys(counters, 0))
        if begins(whole(self.venue.policy["account_cap_interval"]) * SECOND, self.state.time_ns, self.time_ns):
            self.state.sold = {}

        rest = self.venue.policy["slice_cooldown"]
        if rest is not None:
            slices = self.state.last_slice.items()
            self.state.last_slice = {leg: time for leg, time in slices if self.time_ns - time < rest * SECOND}

    def guards(self, books, last_prices, book_times, held=None) -> None:
        """Guards, Refill and the bands of a tick, market by market; errors refuse the tick.

        `held` are the accounts before its instants, where there are any.
        """
        marks: dict = {}
        indexes: dict = {}
        last_prices, given = known(last_prices), self.prices.open_interest.keys()
        self.refill_consumed()
        for symbol, market in self.venue.markets.items():
            if symbol in self.state.delisted:
                continue
            book = self.guarded_book(market, books, book_times, market=symbol)
            self.guard_prices(market, book, last_prices.get(symbol), marks, indexes)
            self.refill(market, book)
        for spot in self.venue.spots.values():
            self.refill(spot, self.guarded_book(spot, books, book_times, asset=spot.base_symbol))
        self.use(marks, indexes)
        self.check_held(self.state.accounts)
        self.check_held(held or {}, self.state.delisted)
        self.state.prices = self.prices
        self.state.open_interest = {
            symbol: quantity
            for symbol, quantity in self.prices.open_interest.items()
            if symbol in given or self.venue.markets[symbol].asks_open_interest
        }
        self.open_books(last_prices)

    def guards_between(self, point: Point) -> None:
        """The same of an instant between two ticks: updates of the path are guarded (Prices in between)."""
        marks: dict = {}
        indexes: dict = {}
        for symbol, market in self.venue.markets.items():
            if symbol in point.marks:
                memory, mark = self.state.guard_states[symbol], point.marks[symbol]
                index, refused = memory.index if symbol in point.indexes else None, False
                if symbol in point.new_indexes:
                    index = self.guarded_index(market, point.indexes[symbol])
                    refused = index != point.indexes[symbol]
                if symbol in point.new_marks:
                    memory.mark = self.clamped(market, mark, None if refused else index)
                    memory.mark_time = self.time_ns
                self.use_prices(market, memory.mark, index, marks, indexes)
        self.kept = frozenset(point.assets.keys() - point.new_assets)
        self.prices.asset_prices = {asset: number(point.assets[asset]) for asset in point.new_assets}
        self.use(marks, indexes)

    def use(self, marks, indexes) -> None:
        """Use guarded prices of markets."""
        self.prices.marks, self.prices.indexes = marks, indexes
        self.guard_assets()
        self.prices = self.prices.at(self.venue, self.state)

    def check_held(self, accounts, gone: frozenset = frozenset()) -> None:
        """A market or asset that is held and has no price refuses the tick (Mark); those `gone` need no mark."""
        for account in accounts.values():
            held = [market for market, (lots, *_) in account.positions.items() if lots != 0]
            for symbol in (*held, *(order.market for order in account.orders)):
                if symbol not in self.prices.marks and symbol not in gone:
                    raise ValueError(f"no mark of {symbol}, which is held")
                self.prices.of_asset(self.venue, self.venue.markets[symbol].settle)
            for asset, held in account.balances.items():
                if any(held) or account.unsettled.get(asset, 0) != 0:
                    self.prices.of_asset(self.venue, asset)

    def open_books(self, last_prices=None, moved=None) -> None:
        """The levels that can be taken, moved by so many ticks in between, and the bands (Refill, Bands)."""
        moved, last_prices = moved or {}, last_prices or {}
        for symbol, tradable in (self.venue.markets | self.venue.spots).items():
            book = {} if tradable.closed else self.state.books.get(symbol, {})
            shift = moved.get(symbol, 0)
            for side in ("bids", "asks"):
                left = [
                    [whole(price / tradable.tick_size) + shift, lots - consumed, level]
                    for level in book.get(side, ()) for price, lots, consumed in [level]
                ]  # fmt: skip
                self.levels[symbol, side] = [level for level in left if level[0] >= 1 and level[1] > 0]
        for symbol, market in self.venue.markets.items():
            self.set_bands(market, last_prices.get(symbol))
        for spot in self.venue.spots.values():
            self.set_spot_bands(spot)

    def guarded_book(self, tradable: Tradable, books, book_times, **where) -> dict:
        """{side: [(price, lots), ...]}, without any level if there is no book or it is refused (Book)."""
        sides = books.get(tradable.symbol) or {}
        book = {
            side: [
                (number(price), whole(number(quantity) / tradable.step_size)) for price, quantity in sides.get(side, ())
            ]
            for side in ("bids", "asks")
        }
        if any(book.values()) and tradable.closed:
            self.refuse("closed_book", **where)
        elif any(book.values()) and self.ago((book_times or {}).get(tradable.symbol, self.time_ns), "stale_after"):
            self.refuse("stale_book", **where)
        elif book["bids"] and book["asks"] and book["asks"][0][0] <= book["bids"][0][0]:
            self.refuse("crossed_book", **where)
        else:
            return book
        self.state.books.pop(tradable.symbol, None)
        return {"bids": [], "asks": []}

    def guard_prices(self, market: Market, book, last, marks, indexes) -> None:
        """Index, e, Mark, Clamp to the index, Update cap and Samples of a market, in float64."""
        symbol, memory, prices, now = market.symbol, self.state.guard_states[market.symbol], self.prices, self.time_ns
        index = mark = prices_index = None
        if symbol in prices.indexes:
            prices_index = float(prices.indexes[symbol])
            index = self.guarded_index(market, prices_index)

        touches = [
            float(market.tick_size) * whole(book[side][0][0] / market.tick_size) if book[side] else None
            for side in ("bids", "asks")
        ]
        bid, ask = touches
        mid = None if bid is None or ask is None else (bid + ask) / 2
        if mid is not None and index is not None:
            if memory.basis is None:
                memory.basis = mid - index
            else:
                elapsed = (now - memory.basis_time) / SECOND
                memory.basis += (1 - math.exp(-elapsed / 60)) * ((mid - index) - memory.basis)
            memory.basis_time = now

        last, is_held = None if last is None else float(last), False
        if symbol in prices.marks:
            mark = float(prices.marks[symbol])
        elif index is not None and memory.basis is not None and not self.ago(memory.basis_time, "stale_after"):
            mark = index + memory.basis
        elif index is not None:
            mark = index
        elif None not in (*touches, last):
            mark = median(*touches, last)
        elif mid is not None:
            mark = mid
        elif last is not None:
            mark = last
        elif memory.mark is not None and not self.ago(memory.mark_time, "stale_after"):
            mark, is_held = memory.mark, True
            self.refuse("mark_held", market=symbol)
        if mark is None:
            return
        if not is_held:
            mark = self.clamped(market, mark, index if index == prices_index else None)
            memory.mark, memory.mark_time = mark, now
        self.use_prices(market, mark, index, marks, indexes)

    def guarded_index(self, market: Market, given: float) -> float:
        """Update cap of an index (Index)."""
        memory = self.state.guard_states[market.symbol]
        index = capped(market, given, memory.index, self.time_ns - memory.index_time)
        if index != given:
            self.refuse("index_update_cap", given, market=market.symbol)
        memory.index, memory.index_time = index, self.time_ns
        return index

    def use_prices(self, market: Market, mark: float, index: float | None, marks, indexes) -> None:
        """Ranges and Samples of the used prices of a market."""
        symbol = market.symbol
        if market.highest_price is not None and number(mark) > market.highest_price:
            raise ValueError(f"{symbol}: {mark} is above maxPrice")
        if market.is_inverse and number(mark) < market.tick_size:
            raise ValueError(f"{symbol}: {mark} is below one tick")
        marks[symbol] = number(mark)
        if index is not None:
            indexes[symbol] = number(index)
        used = self.time_ns, mark_sample(market, mark), premium_sample(mark, index)
        self.state.guard_states[symbol].used.append(used)

    def clamped(self, market: Market, mark: float, index: float | None) -> float:
        """Clamp to the index, then the update cap."""
        memory, threshold = self.state.guard_states[market.symbol], self.venue.policy["mark_index_threshold"]
        before = mark
        if index is not None and threshold is not None:
            mark = min(max(mark, index * (1 - float(threshold))), index * (1 + float(threshold)))
        if mark != before:
            self.refuse("index_clamp", before, market=market.symbol)
        before = mark
        mark = capped(market, mark, memory.mark, self.time_ns - memory.mark_time)
        if mark != before:
            self.refuse("update_cap", before, market=market.symbol)
        return mark

    def refill_consumed(self) -> None:
        """What is consumed comes back, by half in each half-life (Refill)."""
        if self.venue.policy["refill_half_life"] is not None:
            elapsed = (self.time_ns - self.state.decayed) / SECOND
            part_left = 0.5 ** (elapsed / float(self.venue.policy["refill_half_life"]))
            for level in self.consumed_levels():
                level[2] = math.floor(level[2] * part_left)
        self.state.decayed = self.time_ns

    def consumed_levels(self) -> list:
        """The levels of which something is consumed."""
        books = self.state.books.values()
        return [level for book in books for side in book.values() for level in side if level[2] > 0]

    def refill(self, market: Tradable, book) -> None:
        """Remember the levels given of a market; with a refill those given last may stay, and what is consumed."""
        symbol, books = market.symbol, self.state.books
        if self.venue.policy["refill_half_life"] is not None:
            remembered = books.get(symbol, {"bids": [], "asks": []})
            before = {side: [tuple(level[:2]) for level in remembered[side]] for side in remembered}
            if not any(book.values()) or book == before:
                return
        books[symbol] = {side: [[*level, 0] for level in book[side]] for side in book}

    def touch(self, symbol: str, side: str) -> Fraction | None:
        """The best price of a side of the tick's book before anything is taken (Guards)."""
        levels = self.levels[symbol, side]
        return levels[0][0] * (self.venue.markets | self.venue.spots)[symbol].tick_size if levels else None

    def active(self, symbol: str, last=None) -> Fraction | None:
        """`active` (Bands)."""
        prices = [self.touch(symbol, "bids"), self.touch(symbol, "asks"), last]
        prices = [price for price in prices if price is not None]
        return median(*prices) if prices else None

    def set_bands(self, market: Market, last) -> None:
        """The bands of a perpetual (Guards)."""
        symbol = market.symbol
        if symbol not in self.prices.marks:
            return
        mean_mark = mean_premium = None
        index = self.prices.indexes.get(symbol)
        if market.mean_mark != (None, None) or market.tolerance is not None:
            mean_mark, mean_premium = self.means(market)
        if index is None or market.tolerance is None:
            mean_premium = None
        for place, (side, sign) in enumerate((("bids", -1), ("asks", 1))):
            bounds = {
                "impact": times(self.touch(symbol, side), market.impact[place]),
                "mean_mark": times(mean_mark, market.mean_mark[place]),
                "mean_premium": None if mean_premium is None else index * (1 + mean_premium + sign * market.tolerance),
                "limit": times(self.active(symbol, last), market.limit[place]),
            }
            self.bind(market, side, bounds)

    def means(self, market: Market) -> tuple:
        """The means of the samples of marks and of premiums (Samples)."""
        used = self.state.guard_states[market.symbol].used
        window = samples(used, self.time_ns).values()
        mean_mark = mean_of([mark for mark, _ in window], used[-1][1]) / Fraction(1000) * market.tick_size
        mean_premium = mean_of([premium for _, premium in window], used[-1][2])
        return mean_mark, None if mean_premium is None else mean_premium / Fraction(10**12)

    def set_spot_bands(self, spot: Spot) -> None:
        """The bands of a spot market (2 Repay, Where)."""
        slippage, price = self.venue.policy["conversion_slippage"], self.prices.if_known(self.venue, spot.base_symbol)
        for place, (side, sign) in enumerate((("bids", -1), ("asks", 1))):
            bounds = {
                "impact": times(self.touch(spot.symbol, side), spot.impact[place]),
                "limit": times(self.active(spot.symbol), spot.limit[place]),
                "conversion": times(price, 1 + sign * slippage),
            }
            self.bind(spot, side, bounds)

    def bind(self, market: Tradable, side: str, bounds) -> None:
        """The band of a side, and the worst average price of a quote (3 Book, Quote)."""
        band = tightest(side, market.tick_size, bounds)
        self.bands[market.symbol, side] = band
        self.limits[market.symbol, side] = (
            band if band.price is None else replace(band, price=whole(band.price / market.tick_size))
        )
        best, points, tick = self.touch(market.symbol, side), self.venue.policy["slippage_limit"], market.tick_size
        self.worst_average[market.symbol, side] = None
        if best is not None and points is not None:
            share = points / 10**4
            average = math.ceil(best * (1 - share) / tick) if side == "bids" else math.floor(best * (1 + share) / tick)
            self.worst_average[market.symbol, side] = average
