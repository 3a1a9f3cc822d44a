"""Guards: marks, indexes and books as they may be used, whole columns of a part at once.

A mark is checked against the marks that the run recorded before it: if each follows from those, all do. Only the EWMA
of the basis is followed step by step. The figures are float64 in the order of docs/one_tick.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .asset_guards import AssetGuards
from .findings import Findings
from .folder import BOOK_GUARDS, GUARDS, WORDS, Array, Part, Run, is_event
from .price_updates import SECOND, WINDOW, Last, Refusals, band, capped, clamped, same
from .venue import Bounds, Venue

_NONE = -(2**63)
_EVER = 2**63 - 1  # nanoseconds: no price update is that old


class Guards:
    """The price updates of a run, part after part, and the state of the guards."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run, self.out, venue = run, out, run.venue
        self.count, self.width = len(venue.markets), venue.books
        self.tick_size = np.array([float(market.prices.tick) for market in venue.markets])
        self.delisted: list[int] = []
        self._take(venue)
        threshold, stale = venue.policy.get("mark_index_threshold"), venue.policy.get("stale_after")
        self.threshold = None if threshold is None else float(threshold)
        self.stale_after = _EVER if stale is None else math.floor(stale * SECOND)
        self.mark, self.index, self.basis = Last(self.count), Last(self.count), Last(self.count)
        self.assets = AssetGuards(run, out)
        self.time = np.zeros(0, np.int64)
        """Times of the ticks whose samples count, with those samples: of marks and premiums."""
        self.marks = self.premiums = np.zeros((0, self.count), np.int64)
        self.refused: Array = np.zeros((0, self.width), bool)
        """The books of the part that may not be used, by tick and market."""
        self.given: Array = self.refused
        """The books of the part that the ticks give, by tick and market."""
        self.compared = -1
        """Time up to which the rows of a tick are compared whose instants come in several parts."""
        self.rows = np.flatnonzero(is_event(run.journal, "guard"))
        self.row_ticks = run.journal["tick"][self.rows]

    def _take(self, venue: Venue) -> None:
        """Take over the figures of a venue."""
        open_to_takers = [market.takes_orders for market in venue.markets]
        self.closed = ~np.array(open_to_takers + [spot.takes_orders for spot in venue.spots])
        self.updates: list[Bounds] = [market.prices.update for market in venue.markets]

    def check(self, part: Part) -> None:
        """Check the used prices of a part and its rows; in between, what is no update is used as remembered."""
        self._take(part.venue)
        self._delist(list(part.venue.delisted))
        refusals = Refusals()
        bid, ask, last = self._books(part, refusals)
        given_mark, given_index = (self._shown(values) for values in (part.given_mark, part.given_index))
        between = ~part.is_tick[:, None]
        updated = np.where(np.isnan(given_index), np.nan, part.indexes)
        previous, since, *_ = self.index.before(updated, part.time)
        index, index_capped = capped(self.updates, given_index, previous, part.time, since)
        refusals["index_update_cap"] = index_capped, given_index
        index = np.where(between & np.isnan(given_index), part.indexes, index)
        # from here on the index on record counts: if it is not the one that follows, that is a breach by itself
        mid = (bid + ask) / 2
        basis, changed = self._basis(mid - part.indexes, part.time)
        candidate, known = self._candidate(part, given_mark, bid, ask, mid, last, basis, changed)
        previous, since, *_ = self.mark.before(np.where(known, part.mark, np.nan), part.time)
        kept_mark = ~known & ~np.isnan(previous) & ~between & (part.time[:, None] - since <= self.stale_after)
        kept_mark[:, self.delisted] = False
        refusals["mark_held"] = kept_mark, None
        mark = np.where(known, candidate, np.where(kept_mark, previous, np.where(between, part.mark, np.nan)))
        if self.threshold is not None:
            within, off = clamped(mark, *band(part.indexes, self.threshold))
            off &= known & ~index_capped  # an index that was itself refused clamps nothing
            refusals["index_clamp"] = off, mark
            mark = np.where(off, within, mark)
        capped_mark, off = capped(self.updates, mark, previous, part.time, since)
        refusals["update_cap"] = off & known, mark
        mark = np.where(known, capped_mark, mark)
        for name, expected, used in (("mark", mark, part.mark), ("index", index, part.indexes)):
            self.out.checked["guards"] += used.size
            for tick, market in np.argwhere(~((expected == used) | (np.isnan(expected) & np.isnan(used)))).tolist():
                symbol = self.run.venue.markets[market].symbol
                what = f"{name} of {symbol} is {used[tick, market]}, not {expected[tick, market]}"
                self.out.breach("guards", what, int(part.number[tick]))
        self._compare(part, refusals, self.assets.check(part, index_capped))
        self._sample(part)

    def _delist(self, delisted: list[int]) -> None:
        """Forget markets: from the last tick on there is no sample of them."""
        for last in (self.mark, self.index, self.basis):
            last.value[delisted], last.time[delisted] = np.nan, 0
        if delisted != self.delisted and len(self.time):
            self.time = np.append(self.time, self.time[-1] + 1)
            for name in ("marks", "premiums"):
                values = getattr(self, name)
                setattr(self, name, np.concatenate([values, values[-1:]]))
                getattr(self, name)[-1, delisted] = _NONE
        self.delisted = delisted

    def _shown(self, values: Array) -> Array:
        """Values by row and market without those of the markets that are delisted."""
        if self.delisted:
            values = values.copy()
            values[:, self.delisted] = np.nan
        return values

    def _books(self, part: Part, refusals: Refusals) -> tuple[Array, Array, Array]:
        """Refuse books; return the touch of the others, and the last price, of every perpetual."""
        count, books, ticks = len(part.time), part.books, np.flatnonzero(part.is_tick)
        if not len(ticks):
            self.given = self.refused = np.zeros((count, self.width), bool)
            nothing = np.full((count, self.count), np.nan)
            return nothing, nothing, nothing
        first_tick, sides = int(part.number[0]), self.width * 2
        a, b = np.searchsorted(part.book, [first_tick * sides, (int(part.number[-1]) + 1) * sides])
        first = a + np.flatnonzero(np.diff(part.book[a:b], prepend=-1) != 0)
        tick_number, side = np.divmod(part.book[first], sides)
        side_number = ticks[np.clip(tick_number - first_tick, 0, len(ticks) - 1)] * sides + side
        touch, when = np.zeros(count * self.width * 2, np.int64), np.full((count * self.width, 2), _EVER)
        touch[side_number] = books["price"][first]
        when.reshape(-1)[side_number] = books["book_time"][first]
        best: Array = touch.reshape(count, self.width, 2)
        has_level = np.asarray(best > 0)
        has_level[:, self.delisted] = False
        self.given = np.asarray(has_level.any(axis=2))
        age = part.time[:, None] - when.min(axis=1).reshape(count, self.width)
        for tick in np.flatnonzero((self.given & (age < 0)).any(axis=1)).tolist():
            self.out.breach("prices", "a book is later than the tick", int(part.number[tick]))
        closed = self.given & self.closed
        stale = self.given & (age > self.stale_after) & ~closed
        crossed = has_level.all(axis=2) & (best[:, :, 1] <= best[:, :, 0]) & ~stale & ~closed
        refusals |= {"closed_book": (closed, None), "stale_book": (stale, None), "crossed_book": (crossed, None)}
        self.refused = closed | stale | crossed
        shown = np.where(has_level & ~self.refused[:, :, None], best, np.nan)[:, : self.count]
        prices = self.tick_size[:, None] * shown
        return prices[:, :, 0], prices[:, :, 1], self._shown(part.last_price)

    def _basis(self, distance: Array, time: Array) -> tuple[Array, Array]:
        """Return the EWMA of mid less index with every tick, and when it changed last."""
        averages, weights = np.full(distance.shape, np.nan), dict[int, float]()
        for market in range(self.count):
            rows = np.flatnonzero(~np.isnan(distance[:, market]))
            average, last = float(self.basis.value[market]), int(self.basis.time[market])
            averages_of_rows = []
            for now, x in zip(time[rows].tolist(), distance[rows, market].tolist(), strict=True):
                if average != average:  # not a number: nothing came before
                    average = x
                else:
                    if (gap := now - last) not in weights:
                        weights[gap] = 1 - math.exp(-(max(gap, 0) / SECOND) / 60)
                    average = average + weights[gap] * (x - average)
                averages_of_rows.append(average)
                last = now
            averages[rows, market] = averages_of_rows
        _, _, average_now, changed = self.basis.before(averages, time)
        return average_now, changed

    def _candidate(
        self, part: Part, given: Array, bid: Array, ask: Array, mid: Array, last: Array, basis: Array, changed: Array
    ) -> tuple[Array, Array]:
        """Return the first known candidate of the mark, the mark before excepted, and whether there is one."""
        fresh = part.time[:, None] - changed <= self.stale_after
        middle = np.maximum(np.minimum(bid, ask), np.minimum(np.maximum(bid, ask), last))
        candidate, derived = given, part.is_tick[:, None] & np.isnan(given)
        for other in (np.where(fresh, part.indexes + basis, np.nan), part.indexes, middle, mid, last):
            candidate = np.where(derived & np.isnan(candidate), other, candidate)
        return candidate, ~np.isnan(candidate)

    # -- rows

    def _compare(self, part: Part, of_markets: Refusals, of_assets: Refusals) -> None:
        """Compare the guard rows of a part with the refusals; assets are numbered after the books."""
        due: list[tuple[int, int, int, int, float]] = []
        for first, refusals in ((0, of_markets), (self.width, of_assets)):
            for reason, (mask, prices) in refusals.items():
                for row, item in np.argwhere(mask).tolist() if mask.any() else ():
                    price, place = math.nan if prices is None else float(prices[row, item]), first + item
                    due.append((int(part.number[row]), int(part.time[row]), place, GUARDS.index(reason), price))
        due.sort(key=lambda row: row[:4])
        j, (a, b) = self.run.journal, np.searchsorted(self.row_ticks, [part.number[0], part.number[-1] + 1])
        rows, last = self.rows[a:b], int(part.time[-1])
        if self.compared >= 0:
            rows = rows[j["time"][rows] > self.compared]
        if not part.is_tick[-1]:
            rows = rows[j["time"][rows] <= last]
        self.compared = -1 if part.is_tick[-1] else last
        if not due and not len(rows):
            return
        reasons = {WORDS["reason"].index(reason): number for number, reason in enumerate(GUARDS)}
        spots = {spot.asset: self.count + row for row, spot in reversed(list(enumerate(self.run.venue.spots)))}
        recorded = []
        for tick, time, market, asset, code, price in zip(
            *(j[name][rows].tolist() for name in ("tick", "time", "market", "asset", "reason", "price")), strict=True
        ):
            number = reasons.get(code, -1)
            of_asset = spots.get(asset, -1) if GUARDS[number] in BOOK_GUARDS else self.width + asset
            recorded.append((tick, time, market if market >= 0 else of_asset, number, price))
        self.out.checked["guards"] += max(len(due), len(recorded))
        self._match(due, recorded, rows)

    def _match(self, due: list[Any], recorded: list[Any], rows: Array) -> None:
        """Compare two lists of rows in their order."""
        price_of = {row[:4]: row[4] for row in due}
        keys, before = {row[:4] for row in recorded}, (-1, -1, -1, -1)
        for row, (*key_parts, price) in zip(rows.tolist(), recorded, strict=True):
            key = (tick, _, item, number) = tuple(key_parts)
            what = f"guard: {GUARDS[number]} of {self._name(item)}"
            if key not in price_of:
                self.out.breach("guards", f"{what} is not due", tick, row)
            elif not same(price, price_of[key]):
                self.out.breach("guards", f"{what}: price is {price}, not {price_of[key]}", tick, row)
            if before >= key:
                self.out.breach("guards", f"{what} is out of order", tick, row)
            before = key
        for tick, time, item, number, _ in due:
            if (tick, time, item, number) not in keys:
                self.out.breach("guards", f"guard: {GUARDS[number]} of {self._name(item)} is missing", tick)

    def _name(self, item: int) -> str:
        """A market, a spot market or an asset in words."""
        return f"market {item}" if item < self.width else f"asset {item - self.width}"

    # -- samples

    def _sample(self, part: Part) -> None:
        """Keep the samples of the part's marks, and of earlier ones as far as the windows to come reach."""
        tick = self.tick_size
        has_mark = ~np.isnan(part.mark)
        mark = _whole(np.rint(part.mark / tick * 1e3), has_mark)
        premium = _whole(np.rint((part.mark - part.indexes) / part.indexes * 1e12), ~np.isnan(part.indexes) & has_mark)
        # where a tick has no mark, the one used last goes on
        rows = np.maximum.accumulate(np.where(has_mark, np.arange(1, len(has_mark) + 1)[:, None], 0), axis=0)
        first_row = max(int(np.searchsorted(self.time, part.time[0] - (WINDOW + 1) * SECOND)) - 1, 0)
        self.time = np.concatenate([self.time[first_row:], part.time])
        for name, values in (("marks", mark), ("premiums", premium)):
            earlier = getattr(self, name)[first_row:]
            carried = earlier[-1:] if len(earlier) else np.full((1, self.count), _NONE)
            values = np.take_along_axis(np.concatenate([carried, values]), rows, axis=0)
            setattr(self, name, np.concatenate([earlier, values]))

    def _seconds(self, row: int) -> tuple[slice, Array, int]:
        """Return the samples' rows that count at a row: which, how many seconds of each, and the first second."""
        time = int(self.time[row])
        end = time // SECOND + 1
        start = end - WINDOW
        first = max(int(np.searchsorted(self.time[: row + 1], (start - 1) * SECOND, side="right")) - 1, 0)
        edges = np.append(-(-self.time[first : row + 1] // SECOND), end)
        edges = np.clip(edges, start, end)  # times that do not ascend reach no further
        return slice(first, row + 1), np.diff(edges), int(edges[0])

    def mean(self, time: int, market: int, kind: str) -> tuple[int, int] | None:
        """Sum and number of the samples of the `marks` or `premiums` in the five minutes up to a tick.

        Without any, those of the tick itself; None if it has none either.
        """
        row = min(int(np.searchsorted(self.time, time)), len(self.time) - 1)
        rows, seconds, _ = self._seconds(row)
        values = getattr(self, kind)[rows, market]
        seconds = np.where(values == _NONE, 0, seconds)
        if count := int(seconds.sum()):
            return int((np.where(values == _NONE, 0, values) * seconds).sum()), count
        of_tick = int(values[-1])
        return None if of_tick == _NONE else (of_tick, 1)

    def finish(self) -> None:
        """Compare the state of the guards with the last state."""
        self.assets.finish()
        state_table, equal = self.run.state["markets"], self.out.equal
        for name, expected in (
            ("mark", self.mark.value), ("mark_time", self.mark.time), ("index", self.index.value),
            ("index_time", self.index.time), ("basis", self.basis.value), ("basis_time", self.basis.time),
            *(
                (f"sample_{name}", samples[-1] if len(samples) else np.full(self.count, _NONE))
                for name, samples in (("mark", self.marks), ("premium", self.premiums))
            ),
        ):  # fmt: skip
            equals: Callable[[Any, Any], bool] = same
            sent = state_table[name].tolist()
            fits = len(sent) == len(expected) and all(map(equals, sent, expected.tolist()))
            equal("guards", f"state markets.{name}", sent if not fits else None, None if fits else expected.tolist())
        rows, seconds, second = self._seconds(len(self.time) - 1) if len(self.time) else (slice(0, 0), self.time, 0)
        expected_samples = {}
        for row, count in zip(range(rows.start, rows.stop), seconds.tolist(), strict=True):
            for second_number in range(second, second + count):
                for market in range(self.count):
                    if (mark := int(self.marks[row, market])) != _NONE:
                        expected_samples[second_number, market] = mark, int(self.premiums[row, market])
            second += count
        found_samples, twice = {}, False
        columns = (
            self.run.state["samples"][name].tolist() for name in ("second", "count", "market", "mark", "premium")
        )
        for start, count, market, mark, premium in zip(*columns, strict=True):
            for second_number in range(max(start, second - WINDOW), min(start + count, second)):
                if mark != _NONE:
                    twice |= (second_number, market) in found_samples
                    found_samples[second_number, market] = mark, premium
            twice |= count < 1 or start + count > second
        equal("guards", "state samples", found_samples == expected_samples and not twice, True)


def _whole(values: Array, known: Array) -> Array:
    """Whole numbers, or none."""
    return np.where(known & (np.abs(values) < 2.0**62), np.nan_to_num(values), _NONE).astype(np.int64)
