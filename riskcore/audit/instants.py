"""The instants of a run: times, path values and guarded prices between two ticks, as rows beside those of the ticks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from .folder import Array, Part, all_prices
from .guards import Guards
from .price_updates import band, capped, clamped
from .venue import Market, Venue

_HOUR = 3600 * 10**9
_HALF = 2**63
_DEVIATION, _BRIDGE = 1.7320508075688772, 0.6266570686577501
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_NONE = np.zeros(0, np.int64)
_ROWS = 2000  # of a chunk


class Holdings(Protocol):
    """What the prices in between ask of the accounts before a tick."""

    def low_first(self) -> Array:
        """Whether the low comes before the high, by market: the shorts hold no more margin than the longs."""

    def unpriced(self, mark: Array, asset: Array, delisted: Sequence[int] = ()) -> bool:
        """Whether something that is held has no price among these; the markets that are delisted need no mark."""


class Before(NamedTuple):
    """What the instants after a tick go on from."""

    time: int
    mark: Array  # used last, of each market
    mark_time: Array
    last_index: Array
    index_time: Array
    used_index: Array  # used at the tick
    used_mark: Array
    own_asset: Array  # prices of their own, used at the tick
    open_interest: Array

    def at(self, guards: Guards) -> Before:
        """The same with what the guards remember by now."""
        mark, index = guards.mark, guards.index
        return self._replace(
            mark=mark.value.copy(), mark_time=mark.time.copy(), last_index=index.value.copy(),
            index_time=index.time.copy(),
        )  # fmt: skip

    @classmethod
    def of(cls, part: Part, row: int, guards: Guards) -> Before:
        """What a tick, the last row of a part that the guards have seen, leaves."""
        memory = guards.mark.value, guards.mark.time, guards.index.value, guards.index.time
        used = part.indexes[row], part.mark[row], part.own_asset[row], part.open_interest[row]
        return cls(int(part.time[row]), *memory, *used)

    def then(self, part: Part, row: int) -> Before:
        """What the next tick leaves, one whose marks are all given."""
        mark, index, time = part.mark[row], part.indexes[row], int(part.time[row])
        known, indexed = ~np.isnan(mark), ~np.isnan(index)
        return Before(
            time,
            np.where(known, mark, self.mark), np.where(known, time, self.mark_time),
            np.where(indexed, index, self.last_index), np.where(indexed, time, self.index_time),
            index, mark, part.own_asset[row], part.open_interest[row],
        )  # fmt: skip


class Instants:
    """The instants of ticks, and the prices that the venue uses at them."""

    def __init__(self, venue: Venue, seed: int, events: Array) -> None:
        self.venue, self.seed, self.events = venue, seed, events
        threshold = venue.policy.get("mark_index_threshold")
        self.threshold = math.nan if threshold is None else float(threshold)
        periods = {listed.funding.period for listed in venue.markets if listed.funding is not None}
        periods |= {_HOUR} if venue.pools else set()
        self.due = sorted(periods | {venue.realize} - {0})
        self.periods = sorted({venue.clock, *self.due}) if venue.clock else []

    def times(self, since: int, now: int) -> Array:
        """Times of the instants strictly between two ticks, ascending."""
        if not self.venue.clock:
            return _NONE
        periods = [period for period in self.periods if (now - 1) // period > since // period]
        times = [np.arange((since // period + 1) * period, now, period, dtype=np.int64) for period in periods]
        if len(self.events):
            a, b = np.searchsorted(self.events, [since + 1, now])
            times += [self.events[a:b]] if b > a else []
        return times[0] if len(times) == 1 else np.unique(np.concatenate(times)) if times else _NONE

    def is_due(self, times: Array, since: int) -> Array:
        """Whether something falls due at each of the times, of which the first follows `since`."""
        before, due = np.concatenate([[since], times[:-1]]), np.zeros(len(times), bool)
        for period in self.due:
            due |= times // period > before // period
        if len(self.events):
            due |= np.diff(np.searchsorted(self.events, np.append(before[:1], times), side="right")) > 0
        return due

    def plan(
        self, part: Part, before: Before, later: list[tuple[int, Instants]], accounts: Holdings
    ) -> tuple[Array, dict[str, Array]]:
        """The instants of the first tick of a part, before which the venue changes: their times, and their path.

        There is none but the tick if something that is held has no price in between.
        """
        now, stretches = int(part.time[0]), [(before.time, self), *later]
        edges = [*(time for time, _ in stretches), now]
        times = [of.times(first, last) for (_, of), (first, last) in zip(stretches, pairwise(edges), strict=True)]
        between = np.unique(np.concatenate([*times, np.array([time for time, _ in later if time < now], np.int64)]))
        low_first = accounts.low_first() if self.venue.path == "adverse" and len(between) else None
        given = self.given(before, part, 0, between, low_first)
        if self._lacks_a_price(before, between, given, stretches, accounts):
            between, given = between[:0], {name: values[:0] for name, values in given.items()}
        given["open_interest"] = np.tile(before.open_interest, (len(between), 1))
        every = np.append(between, now)
        rates = np.full((len(every), len(self.venue.markets)), np.nan)
        for market in np.flatnonzero(~np.isnan(part.funding_rate[0])).tolist():
            due = np.zeros(len(every), bool)
            for (time, of), (_, last) in zip(stretches, pairwise(edges), strict=True):
                funding, mine = of.venue.markets[market].funding, (every >= time) & (every < last + (last == now))
                if funding is not None and market not in of.venue.delisted:
                    due |= mine & (every // funding.period != np.append(before.time, every[:-1]) // funding.period)
            if due.any():
                rates[np.flatnonzero(due)[-1], market] = part.funding_rate[0, market]
        return every, given | {"funding_rate": rates}

    def _lacks_a_price(
        self, before: Before, between: Array, given: dict[str, Array], stretches: list[tuple[int, Instants]],
        accounts: Holdings,
    ) -> bool:  # fmt: skip
        """Whether something that is held has no price at the first instant of a stretch."""
        for time, of in stretches:
            at = int(np.searchsorted(between, time))
            first = of._listed({name: values[at : at + 1] for name, values in given.items()})
            if at < len(between):
                path = self.guarded(before, between[at : at + 1], first)
                if accounts.unpriced(path["mark"][0], path["asset"][0], list(of.venue.delisted)):
                    return True
        return False

    def _listed(self, given: dict[str, Array]) -> dict[str, Array]:
        """Prices of instants without those of the markets that are delisted."""
        given = {name: values.copy() for name, values in given.items()}
        for name in ("path_mark", "path_index", "given_mark", "given_index"):
            given[name][:, list(self.venue.delisted)] = np.nan
        return given

    def piece(self, part: Part, before: Before, times: Array, plan: dict[str, Array], rows: Array) -> Part:
        """The part of some rows of a plan, with the venue of these instants."""
        has_tick = bool(times[rows[-1]] == part.time[0])
        between = rows[: len(rows) - has_tick]
        given = self._listed({name: values[between] for name, values in plan.items()})
        path = self.guarded(before, times[between], given)
        names = (
            "mark", "indexes", "given_mark", "given_index", "given_asset", "own_asset", "asset", "open_interest",
        )  # fmt: skip
        columns: dict[str, Any] = {name: np.concatenate([path[name], getattr(part, name)[:has_tick]]) for name in names}
        columns["update"] = np.concatenate([path["update"], np.ones(int(has_tick), bool)])
        columns["funding_rate"] = plan["funding_rate"][rows]
        for name in ("last_price", "given_low", "given_high"):
            columns[name] = np.full((len(rows), len(self.venue.markets)), np.nan)
            columns[name][len(between) :] = getattr(part, name)[:has_tick]
        is_tick = np.arange(len(rows)) >= len(between)
        number = np.repeat(part.number[:1], len(rows))
        return part._replace(venue=self.venue, number=number, is_tick=is_tick, time=times[rows], **columns)

    def expand(self, part: Part, first: int, before: Before | None, accounts: Holdings) -> Part:
        """The instants of some ticks of a part from the row `first` on, each tick last among its own.

        Where the prices in between depend on the accounts before a tick, that tick is the first one.
        """
        rows, times, paths = list[int](), list[Array](), list[dict[str, Array]]()
        since = -1 if before is None else before.time
        for row in range(first, len(part.time)):
            between, path = _NONE if before is None else self.times(before.time, int(part.time[row])), None
            if before is not None and len(between):
                if row > first and self._needs_accounts(before, part, row):
                    break
                low_first = accounts.low_first() if self.venue.path == "adverse" and row == first else None
                path = self.path(before, part, row, between, low_first)
                priced = not (np.isnan(path["mark"][0]).any() or np.isnan(path["asset"][0]).any())
                if not priced and row > first:
                    break
                if not priced and accounts.unpriced(path["mark"][0], path["asset"][0]):
                    between, path = _NONE, None
            rows.append(len(between) + 1)
            times += [between, part.time[row : row + 1]]
            if before is not None and path is not None:
                path["funding_rate"] = np.full(path["mark"].shape, np.nan)
                path["open_interest"] = np.tile(before.open_interest, (len(between), 1))
                paths.append(path)
            if before is None or sum(rows) > _ROWS or self._leaves_doubt(before, part, row):
                break
            before = before.then(part, row)
        source = first + np.repeat(np.arange(len(rows)), rows)
        return self._chunk(part, source, np.concatenate(times), paths, since)

    @staticmethod
    def _leaves_doubt(before: Before, part: Part, row: int) -> bool:
        """Whether the guards must say what a tick leaves: a mark may be held, or the index be that of an instant."""
        no_index = np.isnan(part.given_index[row]) & ~np.isnan(before.used_index)
        return bool((np.isnan(part.given_mark[row]) | no_index).any())

    def _needs_accounts(self, before: Before, part: Part, row: int) -> bool:
        """Whether the order of the extremes of a tick's bars is that of the accounts' margins."""
        return self.venue.path == "adverse" and bool((~np.isnan(part.given_low[row]) & ~np.isnan(before.mark)).any())

    def _chunk(self, part: Part, source: Array, times: Array, paths: list[dict[str, Array]], since: int) -> Part:
        """A part of instants, of which each has the tick of a row of the part."""
        is_tick = np.append(source[1:] != source[:-1], True)
        names = (
            "mark", "indexes", "given_mark", "given_index", "given_asset", "own_asset", "asset", "open_interest",
            "funding_rate",
        )  # fmt: skip
        columns = {name: getattr(part, name)[source] for name in (*names, "last_price", "given_low", "given_high")}
        update = np.ones(len(source), bool)
        if paths:
            for name in names:
                columns[name][~is_tick] = np.concatenate([path[name] for path in paths])
            update[~is_tick] = np.concatenate([path["update"] for path in paths])
            for name in ("last_price", "given_low", "given_high"):
                columns[name][~is_tick] = np.nan
            self._move_rates(columns["funding_rate"], part.funding_rate[source], source, np.append(since, times))
        return part._replace(number=part.number[source], is_tick=is_tick, update=update, time=times, **columns)

    def _move_rates(self, rates: Array, of_tick: Array, source: Array, times: Array) -> None:
        """Give the rate of a tick to the last instant at which funding falls due since the tick before.

        The first of the times is that before the first instant.
        """
        ticks = np.flatnonzero(np.append(source[1:] != source[:-1], True))
        for number, market in enumerate(self.venue.markets):
            if market.funding is not None and not np.isnan(of_tick[:, number]).all():
                due = times[1:] // market.funding.period != times[:-1] // market.funding.period
                rows = np.maximum.accumulate(np.where(due, np.arange(len(due)), -1))[ticks]
                mine = (rows >= 0) & (source[rows] == source[ticks])
                rates[:, number] = np.nan
                rates[rows[mine], number] = of_tick[ticks[mine], number]

    def path(self, before: Before, part: Part, row: int, times: Array, low_first: Array | None) -> dict[str, Array]:
        """Prices at the times before a tick, a row of its part; ``low_first``: of `adverse`, by market."""
        return self.guarded(before, times, self.given(before, part, row, times, low_first))

    def given(self, before: Before, part: Part, row: int, times: Array, low_first: Array | None) -> dict[str, Array]:
        """The same before their guards: the values of the path, and which of them are updates."""
        shape = len(times), len(self.venue.markets)
        columns = {name: np.full(shape, np.nan) for name in ("path_mark", "path_index", "given_mark", "given_index")}
        every = np.concatenate([[before.time], times, [part.time[row]]])
        for number, market in enumerate(self.venue.markets):
            if not math.isnan(before.mark[number]):
                route = _Route(self, market, number, every, float(before.mark[number]), part, row)
                if low_first is not None:
                    route.low_first = bool(low_first[number])
                marks = route.marks()
                indexes = route.indexes(marks, float(before.used_index[number]), float(part.given_index[row, number]))
                new_mark = marks != np.concatenate([before.mark[number : number + 1], marks[:-1]])
                new_index = indexes != np.concatenate([before.used_index[number : number + 1], indexes[:-1]])
                new_index &= ~np.isnan(indexes)
                columns["path_mark"][:, number], columns["path_index"][:, number] = marks, indexes
                columns["given_mark"][:, number] = np.where(new_mark, marks, np.nan)
                columns["given_index"][:, number] = np.where(new_index, indexes, np.nan)
        own_asset, given_asset = self._assets(before, part, row, times)
        return columns | {"own_asset": own_asset, "given_asset": given_asset}

    def guarded(self, before: Before, times: Array, given: dict[str, Array]) -> dict[str, Array]:
        """The used marks and indexes that follow from the values of the path at some times."""
        columns = given | {name: given[f"path_{name}"].copy() for name in ("mark", "index")}
        for number in range(len(self.venue.markets)):
            new_mark, new_index = (~np.isnan(given[name][:, number]) for name in ("given_mark", "given_index"))
            marks, indexes = (given[name][:, number] for name in ("path_mark", "path_index"))
            memory = float(before.mark[number]), float(before.last_index[number])
            is_new = new_mark.any() or new_index.any() or (len(marks) and self._differs(memory, marks[0], indexes[0]))
            if is_new and not np.isnan(marks).all():
                used = self._guard(before, number, times, marks, indexes, new_mark, new_index)
                columns["mark"][:, number], columns["index"][:, number] = used
        updates = [columns[name] for name in ("given_mark", "given_index", "given_asset")]
        columns["update"] = np.logical_or.reduce([~np.isnan(prices).all(axis=1) for prices in updates])
        columns["indexes"] = columns["index"]
        columns["asset"] = all_prices(self.venue, columns["mark"], columns["indexes"], columns["own_asset"])
        return columns

    @staticmethod
    def _differs(memory: tuple[float, float], mark: float, index: float) -> bool:
        """Whether the prices used last are not those of the path."""
        return memory[0] != mark or (not math.isnan(index) and memory[1] != index)

    def _guard(
        self, before: Before, number: int, times: Array, marks: Array, indexes: Array, new_mark: Array, new_index: Array
    ) -> tuple[Array, Array]:
        """The guarded marks and indexes of a market that follow from its path."""
        index, capped = self._used(before.last_index, before.index_time, number, times, indexes, new_index)
        index = np.where(np.isnan(indexes), np.nan, index)
        limited, _ = clamped(marks, *band(index, self.threshold))
        mark, capped_too = self._used(before.mark, before.mark_time, number, times, limited, new_mark)
        if capped or capped_too:  # what follows a capped price depends on it
            mark, index = self._one_by_one(before, number, times, marks, indexes, new_mark, new_index)
        return mark, index

    def _used(
        self, value: Array, time: Array, number: int, times: Array, given: Array, new: Array
    ) -> tuple[Array, bool]:
        """Prices used if no update cap binds, and whether one does."""
        values = np.concatenate([value[number : number + 1], given])
        since = np.concatenate([time[number : number + 1], times])
        last = np.maximum.accumulate(np.where(np.concatenate([[True], new]), np.arange(len(values)), 0))
        used, previous = values[last[1:]], last[:-1]
        _, off = self._capped(number, given, values[previous], times, since[previous])
        return used, bool((new & off).any())

    def _capped(self, number: int, given: Array, previous: Array, times: Array, since: Array) -> tuple[Array, Array]:
        """Updates of a market within their caps, and which were not."""
        updates = [self.venue.markets[number].prices.update]
        within, off = capped(updates, given[:, None], previous[:, None], times, since[:, None])
        return within[:, 0], off[:, 0]

    def _one_by_one(
        self, before: Before, number: int, times: Array, marks: Array, indexes: Array, new_mark: Array, new_index: Array
    ) -> tuple[Array, Array]:
        """The same where an update cap binds, instant by instant."""
        mark, index = float(before.mark[number]), float(before.last_index[number])
        mark_time, index_time = int(before.mark_time[number]), int(before.index_time[number])
        used = []

        def one(given: float, previous: float, now: int, since: int) -> float:
            arrays = (np.array([value]) for value in (given, previous, now, since))
            return float(self._capped(number, *arrays)[0][0])

        for now, x, i, moved, indexed in zip(
            times.tolist(), marks.tolist(), indexes.tolist(), new_mark.tolist(), new_index.tolist(), strict=True
        ):
            reference = math.nan if math.isnan(i) else index
            if indexed:
                index, index_time, given = one(i, index, now, index_time), now, i
                reference = index if index == given else math.nan
            if moved:
                low, high = reference * (1 - self.threshold), reference * (1 + self.threshold)
                x = low if x < low else high if x > high else x
                mark, mark_time = one(x, mark, now, mark_time), now
            used.append((mark, math.nan if math.isnan(i) else index))
        found = np.array(used).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def _assets(self, before: Before, part: Part, row: int, times: Array) -> tuple[Array, Array]:
        """Prices of their own of assets at the times, and those of them that are updates."""
        was, given = before.own_asset, part.given_asset[row]
        if self.venue.path == "hold" or np.isnan(was).all():
            return np.tile(was, (len(times), 1)), np.full((len(times), len(was)), np.nan)
        part_of_time = (times - before.time).astype(np.float64) / float(part.time[row] - before.time)
        moved = was + (given - was) * part_of_time[:, None]
        prices = np.where(np.isnan(given), was, moved)
        is_new = prices != np.concatenate([was[None], prices[:-1]])
        return prices, np.where(is_new, prices, np.nan)


class _Route:
    """The way of a market from the mark used last to the mark of the tick."""

    def __init__(
        self, instants: Instants, market: Market, number: int, every: Array, start: float, part: Part, row: int
    ) -> None:
        self.kind, self.market, self.every, self.start = instants.venue.path, market, every, start
        self.end, self.low, self.high = (
            float(values[row, number]) for values in (part.given_mark, part.given_low, part.given_high)
        )
        self.last, self.has_bar = len(every) - 1, not math.isnan(self.low)
        self.low_first, self.number = True, number
        if self.kind == "bridge" or self.has_bar:
            text = f"{instants.seed}/path/{every[-1]}".encode()
            self.key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
            self.low_first = int(self.draws(np.zeros(1, np.uint64))[0]) < _HALF

    def draws(self, k: Array) -> Array:
        """Draws of instants."""
        number = np.uint64(self.number) << np.uint64(32)
        z = np.uint64(self.key) + (number + k + np.uint64(1)) * _GOLDEN
        z ^= z >> np.uint64(30)
        z *= _FACTORS[0]
        z ^= z >> np.uint64(27)
        z *= _FACTORS[1]
        return np.asarray(z ^ z >> np.uint64(31))

    def marks(self) -> Array:
        """Marks of the instants in between."""
        count = self.last - 1
        if math.isnan(self.end) or (self.kind == "hold" and not self.has_bar):
            return np.full(count, self.start)
        anchors = [(0, self.start)]
        if self.has_bar and count > 0:
            extremes = (self.low, self.high) if self.low_first else (self.high, self.low)
            anchors.append((max(self.last // 3, 1), extremes[0]))
            if count > 1:
                anchors.append((2 * self.last // 3, extremes[1]))
        anchors.append((self.last, self.end))
        values = np.full(self.last, math.nan)
        for (i, from_price), (j, to_price) in pairwise(anchors):
            values[i] = from_price
            if j - i > 1:
                values[i + 1 : j] = self._stretch(i, j, from_price, to_price)
        return values[1:]

    def _stretch(self, i: int, j: int, from_price: float, to_price: float) -> Array:
        """Marks between two anchors."""
        if self.kind == "hold":
            return np.full(j - i - 1, from_price)
        times = self.every[i + 1 : j] - self.every[i]
        part = times.astype(np.float64) / float(self.every[j] - self.every[i])
        line = from_price + (to_price - from_price) * part
        ends = [self.start, self.end, *((self.low, self.high) if self.has_bar else ())]
        lowest, highest = min(ends), max(ends)
        if self.kind == "bridge":
            walk = np.cumsum(self._normals(i + 1, j))
            scale = (highest - lowest) * (_BRIDGE / math.sqrt(self.last))
            line = line + scale * (walk[:-1] - walk[-1] * part)
        return np.asarray(np.minimum(np.maximum(self.rounded(line), lowest), highest))

    def _normals(self, first: int, last: int) -> Array:
        """The steps of the walk, from one instant to another."""
        words = self.draws(np.arange(first, last + 1, dtype=np.uint64)).view(np.uint16).reshape(-1, 4)
        return np.asarray((words.sum(axis=1, dtype=np.int64) - 131070) / 65536 * _DEVIATION)

    def rounded(self, prices: Array) -> Array:
        """Prices in thousandths of a tick."""
        size = self.market.prices.tick
        units = np.rint(prices / float(size) * 1000.0)
        return np.asarray(units * float(size.numerator) / float(size.denominator * 1000))

    def indexes(self, marks: Array, start: float, end: float) -> Array:
        """Indexes of the instants in between."""
        if math.isnan(start):
            return np.full(len(marks), np.nan)
        ratio = start / self.start
        if math.isnan(self.end) or self.kind == "hold":
            return np.where(marks == self.start, start, marks * ratio)
        if math.isnan(end):
            return np.full(len(marks), np.nan)
        part = (self.every[1:-1] - self.every[0]).astype(np.float64) / float(self.every[-1] - self.every[0])
        return self.rounded(marks * (ratio + (end / self.end - ratio) * part))
