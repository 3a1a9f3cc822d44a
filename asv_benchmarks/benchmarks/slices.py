"""Slices of many accounts into shared books: walking alone, sizing and walking, and a search from scratch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from riskcore.kernels import separable as _separable  # noqa: F401, which implements the model's kernels
from riskcore.kernels._jit import kernel
from riskcore.kernels.books import FULL, quote_book, take_book, walk_books
from riskcore.kernels.layouts import AccountColumns, BookColumns, MarginFunctionArrays, PriceArrays, SliceRules
from riskcore.kernels.slice_size import RELIEF, WAIVE, size_slice

from . import ACCOUNTS, MARKETS, _Figures, interleaved_ratio

Int = npt.NDArray[np.int64]
MARK, UNLIMITED = 10_000, 2**62
SLICES = min(100_000, ACCOUNTS)
LEVELS = (50, 200, 1000)


@kernel
def last_at_most(sums, first, last, most):
    """Last of ``first:last`` whose sum is at most ``most``, by binary search."""
    low, high = first, last - 1
    while low < high:
        middle = (low + high + 1) // 2
        if sums[middle] <= most:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def search_prefix_sums(side, want, offset, price, lots_before, value_before, inside, done, lots, value):
    """Fill each order by searches of prefix sums that were made once for the tick."""
    for n in range(side.size):
        s = side[n]
        begin, end = done[s], min(done[s] + want[n], inside[s])
        start = last_at_most(lots_before, offset[s], offset[s + 1], begin)
        stop = last_at_most(lots_before, offset[s], offset[s + 1], max(end - 1, 0))
        lots[n] = end - begin
        value[n] = value_before[stop] + (end - lots_before[stop]) * price[stop]
        value[n] -= value_before[start] + (begin - lots_before[start]) * price[start]
        done[s] = end


@kernel
def search_from_scratch(side, want, offset, price, left, lots_before, value_before, lots, value):
    """Fill each order from the prefix sums, made anew, of what the ones before left, and a search of them."""
    for n in range(side.size):
        first, last = offset[side[n]], offset[side[n] + 1]
        sum_lots, sum_value = 0, 0
        for level in range(first, last):
            lots_before[level], value_before[level] = sum_lots, sum_value
            sum_lots += left[level]
            sum_value += left[level] * price[level]
        lots[n] = min(want[n], sum_lots)
        stop = last_at_most(lots_before, first, last, max(lots[n] - 1, 0))
        value[n] = value_before[stop] + (lots[n] - lots_before[stop]) * price[stop]
        left[first:stop] = 0
        left[stop] -= lots[n] - lots_before[stop]


@kernel
def size_and_walk(side, equity, maintenance, state, rules, prices, book, lots, value, reason):
    """Size each slice as the engine does, with margins at hand, and take it."""
    for n in range(side.size):
        surplus = rules.target * equity[n] - maintenance[n]
        sized = size_slice(n, n, equity[n], maintenance[n], surplus, UNLIMITED, state, rules, prices, book)
        lots[n], value[n], reason[n] = sized.filled, sized.value, sized.reason
        if lots[n] > 0:
            take_book(side[n], lots[n], book)


@kernel
def quote_and_take(side, want, book, lots, value):
    """Walk the sizes that sizing came to: the work that sizing and walking have in common."""
    for n in range(side.size):
        if want[n] > 0:
            lots[n], value[n], _ = quote_book(side[n], want[n], want[n], FULL, book)
            take_book(side[n], lots[n], book)


class Workload:
    """Liquidations in 150 Zipf-popular markets, in the order of treatment; the books take all but the last of them."""

    def __init__(self, levels: int, slices: int) -> None:
        rng = np.random.default_rng(11)
        popular = 1 / np.arange(1, MARKETS + 1)
        market = rng.choice(MARKETS, slices, p=popular / popular.sum())
        self.side = 2 * market + rng.integers(0, 2, slices)
        self.size = np.maximum(rng.lognormal(6, 1.2, slices), 10).astype(np.int64)
        wanted = np.bincount(self.side, self.size / 10, 2 * MARKETS) + 1
        away = rng.integers(1, 4, (2 * MARKETS, levels)).cumsum(axis=1)
        buying = np.arange(2 * MARKETS) % 2 == 1
        price = np.where(buying[:, None], MARK + away, MARK - away)
        lots = np.maximum(rng.lognormal(0, 1, (2 * MARKETS, levels)) * 1.6 * wanted[:, None] / levels, 1)
        self.offset = np.arange(0, 2 * MARKETS * levels + 1, levels)
        self.price, self.lots = price.ravel(), lots.astype(np.int64).ravel()
        self.band = np.where(buying, 2 * MARK, 0)
        self.inside = np.add.reduceat(self.lots, self.offset[:-1])
        self.want = np.maximum(self.size // 10, 1)
        # accounts at and past the trigger, a part of which a slice restores
        self.maintenance = self.size * MARK * 0.0125
        self.equity = self.maintenance / rng.uniform(1.0, 1.05, slices)
        self.out = tuple(np.zeros(slices, np.int64) for _ in range(3))
        ones, margin_functions = np.ones(MARKETS, np.int64), 2 * (MARKETS + 1)
        self.rules = SliceRules(
            fraction_num=1, fraction_den=10, fee_num=5, fee_den=10_000, share_num=1, share_den=1, target=1.0,
            on_harm=WAIVE, waived_share=0.5, position_order=RELIEF, floor_lots=ones,
            min_lots=ones, value_num=ones, value_den=ones, value_unit=np.ones(MARKETS),
            lot_quanta=np.full(MARKETS, MARK), market_room=np.full(MARKETS, UNLIMITED),
        )  # fmt: skip
        # accounts of one position each
        span, row, none = (
            np.stack([np.arange(slices), np.arange(1, slices + 1)], axis=1).astype(np.uint32),
            np.arange(slices, dtype=np.uint32),
            np.zeros(slices, np.int64),
        )
        held = np.where(self.side % 2 == 0, self.size, -self.size)
        self.state = AccountColumns(
            position_span=span, market=market.astype(np.uint16), lots=held, open_bid=none, open_ask=none,
            cost=held * MARK, entry=held * MARK, position_balance=row, balance_span=span,
            asset=none.astype(np.uint16), free=self.size * MARK // 50, lent=none, balance_cost=held * MARK,
            unsettled=none, settle_row=row, open_orders=none.astype(np.uint32), leverage_fraction=none.astype(float),
        )  # fmt: skip
        one = np.ones(1)
        functions = MarginFunctionArrays(
            flat_notional=np.full(margin_functions, 4e6),
            flat_rate=np.full(margin_functions, 0.0125),
            minimum=np.zeros(margin_functions),
            offset=np.arange(margin_functions + 1),
            segments=np.tile([0.0, 0.0125, 0.0, 6.25e-6, 0.0], (margin_functions, 1)),
        )
        self.prices = PriceArrays(
            price_per_lot=np.full(MARKETS, float(MARK)),
            value_per_lot=np.full(MARKETS, float(MARK)),
            market_settle=np.zeros(MARKETS, np.int64),
            money=np.zeros(1, np.int64),
            price_per_quantum=one,
            functions=functions,
            weight=one,
            haircut_base=np.full(1, np.inf),
            haircut_penalty=np.zeros(1),
            haircut_size=one,
            settle_quantum=1e-6,
            acmf_divisor=2.0,
            acmf_offset=0.06,
        )

    def book(self) -> BookColumns:
        """Books with nothing taken yet."""
        worst = self.price[self.offset[1:] - 1]
        reason = np.full(len(self.band), 7)
        return BookColumns(
            offset=self.offset, price=self.price, lots=self.lots, band=self.band, band_reason=reason,
            worst_average=worst, inside=self.inside.copy(), cursor=self.offset[:-1].copy(),
            taken=np.zeros_like(self.band),
        )  # fmt: skip

    def walk(self) -> tuple[Int, ...]:
        """Walk slices of a tenth."""
        walk_books(self.side, self.want, self.book(), *self.out)
        return self.out

    def search(self) -> tuple[Int, ...]:
        """Prefix sums once, and searches of them for each slice of a tenth."""
        shape = (2 * MARKETS, -1)
        sums = []
        for column in (self.lots, self.lots * self.price):
            before = column.reshape(shape).cumsum(axis=1) - column.reshape(shape)
            sums.append(before.ravel())
        done = np.zeros_like(self.band)
        search_prefix_sums(
            self.side, self.want, self.offset, self.price, *sums, self.inside, done, self.out[0], self.out[1]
        )
        return self.out[:2]

    def search_anew(self) -> tuple[Int, ...]:
        """Prefix sums and a search of them, from scratch for each slice of a tenth."""
        sums = (np.empty_like(self.lots) for _ in range(2))
        search_from_scratch(
            self.side, self.want, self.offset, self.price, self.lots.copy(), *sums, self.out[0], self.out[1]
        )
        return self.out[:2]

    def size_and_walk(self) -> tuple[Int, ...]:
        """Size and walk."""
        size_and_walk(
            self.side, self.equity, self.maintenance, self.state, self.rules, self.prices, self.book(), *self.out
        )
        return self.out

    def walk_sized(self, want: Int) -> None:
        """Walk sizes that are known."""
        quote_and_take(self.side, want, self.book(), *self.out[:2])


class Ratios(_Figures):
    """Of times, interleaved in one process, after a check that all ways fill the same."""

    params = [
        f"{figure}, {levels} levels"
        for levels in LEVELS
        for figure in (
            "prefix sums from scratch / walk of slices", "searches of prefix sums / walk of slices",
            "size and walk / walk of slices", "size and walk / walk of the same lots",
        )
    ]  # fmt: skip

    def setup_cache(self) -> dict[str, float | str]:
        ratios = [ratio for levels in LEVELS for ratio in compared(Workload(levels, SLICES))]
        return dict(zip(self.params, ratios, strict=True))

    setup_cache.timeout = 600


def compared(work: Workload) -> list[float]:
    """Ratio of each way of filling the slices to the walk."""
    walked, *others = ([column.copy() for column in way()[:2]] for way in (work.walk, work.search, work.search_anew))
    assert all(np.array_equal(walked, found) for found in others)
    sized = work.size_and_walk()[0].copy()
    work.walk_sized(sized)
    return [
        interleaved_ratio(work.search_anew, work.walk, 9),
        interleaved_ratio(work.search, work.walk, 9),
        interleaved_ratio(work.size_and_walk, work.walk, 9),
        interleaved_ratio(work.size_and_walk, lambda: work.walk_sized(sized), 9),
    ]


class Slices:
    """Milliseconds for as many slices as there are liquidations in a bad tick."""

    timeout = 300

    def setup(self) -> None:
        self.work = Workload(200, SLICES)
        self.work.size_and_walk()  # compile
        self.work.walk()

    def time_walk(self) -> None:
        self.work.walk()

    def time_size_and_walk(self) -> None:
        self.work.size_and_walk()

    time_walk.pretty_name = "walk of 100,000 slices, 200 levels"
    time_size_and_walk.pretty_name = "size and walk of 100,000 slices, 200 levels"
