"""Guards: marks, indexes and books as they may be used, whole columns of a part at once.

A mark is checked against the marks that the run recorded before it: if each follows from those, all do. Only the EWMA
of the basis is followed step by step. The figures are float64 in the order of docs/one_tick.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .findings import Findings
from .folder import GUARDS, WORDS, Array, Part, Run, is_event
from .venue import Bounds

_SECOND = 10**9
_WINDOW = 300  # seconds
_NONE = -(2**63)
_EVER = 2**63 - 1  # nanoseconds: no print is that old


class _Last:
    """What was had last in every column of what is read row by row, and when."""

    def __init__(self, count: int) -> None:
        self.value, self.time = np.full(count, np.nan), np.zeros(count, np.int64)

    def before(self, values: Array, time: Array) -> tuple[Array, Array, Array, Array]:
        """Return the last value that is a number, and its time, before each row; and with it."""
        rows = np.arange(len(values))[:, None]
        at = np.maximum.accumulate(np.where(np.isnan(values), -1, rows), axis=0)
        value = np.where(at >= 0, np.take_along_axis(values, np.maximum(at, 0), axis=0), self.value)
        when = np.where(at >= 0, time[np.maximum(at, 0)], self.time)
        earlier = np.concatenate([self.value[None], value[:-1]]), np.concatenate([self.time[None], when[:-1]])
        self.value, self.time = value[-1].copy(), when[-1].copy()
        return *earlier, value, when


def _powers(base: float, exponents: Array) -> Array:
    """Return Python's powers of a number, with whole exponents."""
    distinct, place = np.unique(exponents, return_inverse=True)

    def power(exponent: int) -> float:
        try:
            return float(base**exponent)
        except OverflowError:
            return math.inf

    return np.array([power(exponent) for exponent in distinct.tolist()])[place].reshape(exponents.shape)


def _clamped(values: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the values within the bounds that are numbers, and which of them were not."""
    found = np.where(values < low, low, np.where(values > high, high, values))
    return found, (values < low) | (values > high)


class Guards:
    """The prints of a run, part after part, and what the guards remember of them."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run, self.out, venue = run, out, run.venue
        self.count, self.width = len(venue.markets), venue.books
        self.tick_size = np.array([float(market.prices.tick) for market in venue.markets])
        open_to_takers = [market.takes_orders for market in venue.markets]
        self.closed = ~np.array(open_to_takers + [spot.takes_orders for spot in venue.spots])
        self.updates: list[Bounds] = [market.prices.update for market in venue.markets]
        threshold, stale = venue.policy.get("mark_index_threshold"), venue.policy.get("stale_after")
        self.threshold = None if threshold is None else float(threshold)
        self.stale_after = _EVER if stale is None else math.floor(stale * _SECOND)
        self.mark, self.index, self.basis = _Last(self.count), _Last(self.count), _Last(self.count)
        self.time = np.zeros(0, np.int64)
        """Times of the ticks whose samples count, with those samples: of marks and premiums."""
        self.marks = self.premiums = np.zeros((0, self.count), np.int64)
        self.refused: Array = np.zeros((0, self.width), bool)
        """The books of the part that may not be used, by tick and market."""
        self.given: Array = self.refused
        """The books of the part that the ticks give, by tick and market."""

    def check(self, part: Part) -> None:
        """Check the used prints of a part and its rows."""
        refusals: dict[str, tuple[Array, Array | None]] = {}
        bid, ask, last = self._books(part, refusals)
        shape = part.mark.shape
        given_mark, given_index = (part.ticks[name].reshape(shape) for name in ("given_mark", "given_index"))
        previous, since, *_ = self.index.before(part.indexes, part.time)
        index, capped = self._capped(given_index, previous, part.time, since)
        refusals["index_update_cap"] = capped, given_index
        # from here on the index on record counts: if it is not the one that follows, that is a breach by itself
        mid = (bid + ask) / 2
        basis, changed = self._basis(mid - part.indexes, part.time)
        candidate, known = self._candidate(part, given_mark, bid, ask, mid, last, basis, changed)
        previous, since, *_ = self.mark.before(np.where(known, part.mark, np.nan), part.time)
        held = ~known & ~np.isnan(previous) & (part.time[:, None] - since <= self.stale_after)
        refusals["mark_held"] = held, None
        mark = np.where(known, candidate, np.where(held, previous, np.nan))
        if self.threshold is not None:
            low, high = part.indexes * (1 - self.threshold), part.indexes * (1 + self.threshold)
            clamped, off = _clamped(mark, low, high)
            off &= known & ~capped  # an index that was itself refused clamps nothing
            refusals["index_clamp"] = off, mark
            mark = np.where(off, clamped, mark)
        capped_mark, off = self._capped(mark, previous, part.time, since)
        refusals["update_cap"] = off & known, mark
        mark = np.where(known, capped_mark, mark)
        for name, expected, found in (("mark", mark, part.mark), ("index", index, part.indexes)):
            self.out.checked["guards"] += found.size
            for at, market in np.argwhere(~((expected == found) | (np.isnan(expected) & np.isnan(found)))).tolist():
                symbol = self.run.venue.markets[market].symbol
                what = f"{name} of {symbol} is {found[at, market]}, not {expected[at, market]}"
                self.out.breach("guards", what, part.first + at)
        self._compare(part, refusals)
        self._sample(part)

    def _books(self, part: Part, refusals: dict[str, tuple[Array, Array | None]]) -> tuple[Array, Array, Array]:
        """Refuse books; return the touch of the others, and the last price, of every perpetual."""
        count, books = len(part.time), part.books
        first = np.flatnonzero(np.diff(part.book, prepend=-1) != 0)
        place = np.clip(part.book[first] - part.first * self.width * 2, 0, count * self.width * 2 - 1)
        touch, when = np.zeros(count * self.width * 2, np.int64), np.full((count * self.width, 2), _EVER)
        touch[place] = books["price"][first]
        when.reshape(-1)[place] = books["book_time"][first]
        best: Array = touch.reshape(count, self.width, 2)
        there = np.asarray(best > 0)
        self.given = np.asarray(there.any(axis=2))
        age = part.time[:, None] - when.min(axis=1).reshape(count, self.width)
        for at in np.flatnonzero((self.given & (age < 0)).any(axis=1)).tolist():
            self.out.breach("prices", "a book is later than the tick", part.first + at)
        closed = self.given & self.closed
        stale = self.given & (age > self.stale_after) & ~closed
        crossed = there.all(axis=2) & (best[:, :, 1] <= best[:, :, 0]) & ~stale & ~closed
        refusals |= {"closed_book": (closed, None), "stale_book": (stale, None), "crossed_book": (crossed, None)}
        self.refused = closed | stale | crossed
        shown = np.where(there & ~self.refused[:, :, None], best, np.nan)[:, : self.count]
        prices = self.tick_size[:, None] * shown
        return prices[:, :, 0], prices[:, :, 1], part.ticks["last_price"].reshape(count, self.count)

    def _capped(self, values: Array, previous: Array, time: Array, since: Array) -> tuple[Array, Array]:
        """Values as far from the previous ones as the update caps of the markets let them, and which are changed."""
        low, high = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
        for market, bounds in enumerate(self.updates):
            if bounds != (None, None):
                known = ~np.isnan(previous[:, market])
                seconds = np.maximum((time[known] - since[known, market]) // _SECOND, 1)
                for bound, figure in zip((low, high), bounds, strict=True):
                    if figure is not None:
                        bound[known, market] = previous[known, market] * _powers(float(figure), seconds)
        return _clamped(values, low, high)

    def _basis(self, distance: Array, time: Array) -> tuple[Array, Array]:
        """Return the EWMA of mid less index with every tick, and when it changed last."""
        averages, weights = np.full(distance.shape, np.nan), dict[int, float]()
        for market in range(self.count):
            rows = np.flatnonzero(~np.isnan(distance[:, market]))
            average, last = float(self.basis.value[market]), int(self.basis.time[market])
            found = []
            for now, x in zip(time[rows].tolist(), distance[rows, market].tolist(), strict=True):
                if average != average:  # not a number: nothing came before
                    average = x
                else:
                    if (gap := now - last) not in weights:
                        weights[gap] = 1 - math.exp(-(max(gap, 0) / _SECOND) / 60)
                    average = average + weights[gap] * (x - average)
                found.append(average)
                last = now
            averages[rows, market] = found
        _, _, average_now, changed = self.basis.before(averages, time)
        return average_now, changed

    def _candidate(
        self, part: Part, given: Array, bid: Array, ask: Array, mid: Array, last: Array, basis: Array, changed: Array
    ) -> tuple[Array, Array]:
        """Return the first mark that is known but for the one before, and whether there is one."""
        fresh = part.time[:, None] - changed <= self.stale_after
        middle = np.maximum(np.minimum(bid, ask), np.minimum(np.maximum(bid, ask), last))
        found = given
        for other in (np.where(fresh, part.indexes + basis, np.nan), part.indexes, middle, mid, last):
            found = np.where(np.isnan(found), other, found)
        return found, ~np.isnan(found)

    # -- rows

    def _compare(self, part: Part, refusals: dict[str, tuple[Array, Array | None]]) -> None:
        """Set the guard rows of a part against the refusals."""
        due: list[tuple[int, int, int, float]] = []
        for number, reason in enumerate(GUARDS):
            if reason in refusals:
                mask, prices = refusals[reason]
                for at, market in np.argwhere(mask).tolist() if mask.any() else ():
                    price = math.nan if prices is None else float(prices[at, market])
                    due.append((part.first + at, market, number, price))
        due.sort(key=lambda row: row[:3])
        j = self.run.journal
        mine = is_event(j, "guard") & (j["tick"] >= part.first) & (j["tick"] < part.first + len(part.time))
        rows = np.flatnonzero(mine)
        reasons = {WORDS["reason"].index(reason): number for number, reason in enumerate(GUARDS)}
        spots = {spot.asset: self.count + row for row, spot in reversed(list(enumerate(self.run.venue.spots)))}
        found = [
            (tick, market if market >= 0 else spots.get(asset, -1), reasons.get(reason, -1), price)
            for tick, market, asset, reason, price in zip(
                *(j[name][rows].tolist() for name in ("tick", "market", "asset", "reason", "price")), strict=True
            )
        ]
        self.out.checked["guards"] += max(len(due), len(found))
        self._match(due, found, rows)

    def _match(self, due: list[Any], found: list[Any], rows: Array) -> None:
        """Compare two lists of rows in their order."""
        known = {row[:3]: row[3] for row in due}
        keys, before = {row[:3] for row in found}, (-1, -1, -1)
        for row, (*place, price) in zip(rows.tolist(), found, strict=True):
            key = (tick, market, number) = tuple(place)
            what = f"guard: {GUARDS[number]} of market {market}"
            if key not in known:
                self.out.breach("guards", f"{what} is not due", tick, row)
            elif not _same(price, known[key]):
                self.out.breach("guards", f"{what}: price is {price}, not {known[key]}", tick, row)
            if before >= key:
                self.out.breach("guards", f"{what} is out of order", tick, row)
            before = key
        for tick, market, number, _ in due:
            if (tick, market, number) not in keys:
                self.out.breach("guards", f"guard: {GUARDS[number]} of market {market} is missing", tick)

    # -- samples

    def _sample(self, part: Part) -> None:
        """Keep the samples of the part's marks, and of earlier ones as far as the windows to come reach."""
        tick = self.tick_size
        there = ~np.isnan(part.mark)
        mark = _whole(np.rint(part.mark / tick * 1e3), there)
        premium = _whole(np.rint((part.mark - part.indexes) / part.indexes * 1e12), ~np.isnan(part.indexes) & there)
        # where a tick has no mark, the one used last goes on
        rows = np.maximum.accumulate(np.where(there, np.arange(1, len(there) + 1)[:, None], 0), axis=0)
        kept = max(int(np.searchsorted(self.time, part.time[0] - (_WINDOW + 1) * _SECOND)) - 1, 0)
        self.time = np.concatenate([self.time[kept:], part.time])
        for name, values in (("marks", mark), ("premiums", premium)):
            earlier = getattr(self, name)[kept:]
            carried = earlier[-1:] if len(earlier) else np.full((1, self.count), _NONE)
            values = np.take_along_axis(np.concatenate([carried, values]), rows, axis=0)
            setattr(self, name, np.concatenate([earlier, values]))

    def _seconds(self, at: int) -> tuple[slice, Array, int]:
        """Return the samples' rows that count at a row: which, how many seconds of each, and the first second."""
        time = int(self.time[at])
        end = time // _SECOND + 1
        start = end - _WINDOW
        first = max(int(np.searchsorted(self.time[: at + 1], (start - 1) * _SECOND, side="right")) - 1, 0)
        edges = np.append(-(-self.time[first : at + 1] // _SECOND), end)
        edges = np.clip(edges, start, end)  # times that do not ascend reach no further
        return slice(first, at + 1), np.diff(edges), int(edges[0])

    def mean(self, time: int, market: int, kind: str) -> tuple[int, int] | None:
        """Sum and number of the samples of the `marks` or `premiums` in the five minutes up to a tick.

        Without any, those of the tick itself; None if it has none either.
        """
        at = min(int(np.searchsorted(self.time, time)), len(self.time) - 1)
        rows, seconds, _ = self._seconds(at)
        values = getattr(self, kind)[rows, market]
        seconds = np.where(values == _NONE, 0, seconds)
        if count := int(seconds.sum()):
            return int((np.where(values == _NONE, 0, values) * seconds).sum()), count
        own = int(values[-1])
        return None if own == _NONE else (own, 1)

    def finish(self) -> None:
        """Compare what the guards remember with the last state."""
        kept, equal = self.run.state["markets"], self.out.equal
        for name, expected in (
            ("mark", self.mark.value), ("mark_time", self.mark.time), ("index", self.index.value),
            ("index_time", self.index.time), ("basis", self.basis.value), ("basis_time", self.basis.time),
            *(
                (f"sample_{name}", samples[-1] if len(samples) else np.full(self.count, _NONE))
                for name, samples in (("mark", self.marks), ("premium", self.premiums))
            ),
        ):  # fmt: skip
            same: Callable[[Any, Any], bool] = _same
            found = kept[name].tolist()
            fits = len(found) == len(expected) and all(map(same, found, expected.tolist()))
            equal("guards", f"state markets.{name}", found if not fits else None, None if fits else expected.tolist())
        rows, seconds, second = self._seconds(len(self.time) - 1) if len(self.time) else (slice(0, 0), self.time, 0)
        expected_samples = {}
        for row, count in zip(range(rows.start, rows.stop), seconds.tolist(), strict=True):
            for at in range(second, second + count):
                for market in range(self.count):
                    if (mark := int(self.marks[row, market])) != _NONE:
                        expected_samples[at, market] = mark, int(self.premiums[row, market])
            second += count
        found_samples, twice = {}, False
        columns = (
            self.run.state["samples"][name].tolist() for name in ("second", "count", "market", "mark", "premium")
        )
        for start, count, market, mark, premium in zip(*columns, strict=True):
            for at in range(max(start, second - _WINDOW), min(start + count, second)):
                if mark != _NONE:
                    twice |= (at, market) in found_samples
                    found_samples[at, market] = mark, premium
            twice |= count < 1 or start + count > second
        equal("guards", "state samples", found_samples == expected_samples and not twice, True)


def _same(one: float, two: float) -> bool:
    """Whether two floats are the same, or both no numbers."""
    return one == two or (one != one and two != two)


def _whole(values: Array, there: Array) -> Array:
    """Whole numbers, or none."""
    return np.where(there & (np.abs(values) < 2.0**62), np.nan_to_num(values), _NONE).astype(np.int64)
