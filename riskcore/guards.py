"""Price protection: which prints of a tick count, what they leave behind, and how far a taker may go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import tables
from .errors import RiskDataError
from .kernels import prints as kernels
from .kernels.prints import BASIS, INDEX, MARK, MARK_UNIT, NO_SAMPLE, PREMIUM_UNIT
from .tick import Books, Prices, no_prices
from .venue import Venue

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

REASONS = ("closed_book", "stale_book", "crossed_book", "index_update_cap", "mark_held", "index_clamp", "update_cap")
_OF_PRINTS = REASONS.index("index_update_cap")  # the reasons from there on are the kernel's
BAND_NAMES = ("impact", "mean_mark", "mean_premium", "limit", "conversion")
NO_BAND = 2**62

_SECOND = 1_000_000_000
SECONDS_OF_SAMPLES = 300
"""Seconds that the means are of."""


class Refusal(NamedTuple):
    """What does not count: why, of which book row (market m, or M + spot row), and the print (NaN: there is none)."""

    reason: str
    book: int
    price: float


class _Run(NamedTuple):
    """Samples of every market that hold for some seconds from ``second`` on; mark and premium in row 0 and 1.

    ``sums`` (shape (2, 2, M)) are running sums of the samples and of their number, up to the end of this run.
    """

    second: int
    seconds: int
    samples: Int
    sums: Int


@dataclass
class Memory:
    """What the guards remember from tick to tick.

    Attributes
    ----------
    price : ndarray of float64, shape (3, M)
        Mark and index used last, and the one-minute EWMA of mid - index (``basis``); NaN if never.
    time : ndarray of int64, shape (3, M)
        When each was last had; 0 if never. Holding a mark is not having one.
    sample : ndarray of int64, shape (2, M)
        The mark used last in thousandths of a tick, and its premium in units of 1e-12; -2**63 if none.
    runs : list
        Samples of the last 300 seconds, oldest first.
    books : Books or None
        Books given last; only with a ``refill_half_life``.
    gone : ndarray of int64, shape (L,)
        Lots gone from each of their levels.
    """

    price: Float
    time: Int
    sample: Int
    runs: list[_Run]
    books: Books | None
    gone: Int

    @classmethod
    def opening(cls, venue: Venue) -> Memory:
        """Nothing seen yet."""
        markets = len(venue.markets.symbol)
        return cls(
            np.full((3, markets), np.nan), np.zeros((3, markets), np.int64), np.full((2, markets), NO_SAMPLE), [],
            None if venue.policy.refill_half_life is None else Books.empty(venue), np.empty(0, np.int64),
        )  # fmt: skip

    @property
    def mark(self) -> Float:
        """Mark used last, shape (M,)."""
        return np.asarray(self.price[MARK])

    @property
    def index(self) -> Float:
        """Index used last, shape (M,)."""
        return np.asarray(self.price[INDEX])

    @property
    def total(self) -> Int:
        """Sum of the samples of the last 300 seconds, shape (2, M)."""
        return np.asarray(self._window[0])

    @property
    def count(self) -> Int:
        """Number of these samples, shape (2, M)."""
        return np.asarray(self._window[1])

    @cached_property
    def _window(self) -> Int:
        if not self.runs:
            return np.zeros((2, *self.sample.shape), np.int64)
        first, last = self.runs[0], self.runs[-1]
        there = first.samples != NO_SAMPLE
        # of the first run as much as is left of it
        window: Int = last.sums - first.sums + np.stack([np.where(there, first.samples, 0), there]) * first.seconds
        return window

    def frames(self) -> dict[str, pd.DataFrame]:
        """Tables of the run folder's state: markets (a row each, in order), samples, and books where these are kept."""
        market = np.arange(len(self.mark))
        seen = [np.flatnonzero(run.samples[0] != NO_SAMPLE) for run in self.runs]
        times = [len(rows) for rows in seen]
        found = {
            "markets": pd.DataFrame({name: getattr(self, of)[row] for name, (of, row) in _MARKET_COLUMNS.items()}),
            "samples": pd.DataFrame(
                {
                    "second": np.repeat(np.array([run.second for run in self.runs], np.int64), times),
                    "count": np.repeat(np.array([run.seconds for run in self.runs], np.int64), times),
                    "market": _joined([market[rows] for rows in seen]),
                    "mark": _joined([run.samples[0, rows] for run, rows in zip(self.runs, seen, strict=True)]),
                    "premium": _joined([run.samples[1, rows] for run, rows in zip(self.runs, seen, strict=True)]),
                }
            ),
        }
        if self.books is not None:
            side = _sides(self.books)
            found["books"] = pd.DataFrame(
                {"market": side // 2, "side": 1 - 2 * (side % 2), "price": self.books.price, "lots": self.books.lots,
                 "gone": self.gone}
            )  # fmt: skip
        return found

    @classmethod
    def from_frames(cls, venue: Venue, frames: Mapping[str, pd.DataFrame]) -> Memory:
        """Read what `frames` gave; more columns may stand beside."""
        memory, markets = cls.opening(venue), frames["markets"]
        for name, (of, row) in _MARKET_COLUMNS.items():
            getattr(memory, of)[row] = markets[name].to_numpy()
        table = frames["samples"]
        for _, rows in table.groupby("second"):
            samples = np.full(memory.sample.shape, NO_SAMPLE)
            samples[:, rows["market"].to_numpy()] = rows[["mark", "premium"]].to_numpy().T
            _add(memory.runs, int(rows["second"].iloc[0]), int(rows["count"].iloc[0]), samples)
        if memory.books is not None:
            kept = frames["books"]
            side = (2 * kept["market"] + (kept["side"] < 0)).to_numpy(np.int64)
            price, lots, gone = (kept[name].to_numpy().copy() for name in ("price", "lots", "gone"))
            memory.books = replace(memory.books, offset=_offset(side, memory.books), price=price, lots=lots)
            memory.gone = gone
        return memory

    def _sampled(self, before: int | None, time: int, fresh: Int) -> list[_Run]:
        """Go on to a tick: seconds since the one before had the samples of then, a tick on a second has fresh ones."""
        now = time // _SECOND
        oldest = now - SECONDS_OF_SAMPLES + 1
        runs = self.runs.copy()
        while runs and runs[0].second < oldest:
            run = runs.pop(0)
            kept = run.second + run.seconds - oldest
            if kept > 0:
                runs.insert(0, run._replace(second=oldest, seconds=kept))
        on_second = time % _SECOND == 0
        if before is not None:
            first = max(before // _SECOND + 1, oldest)
            past = now - on_second - first + 1
            if past > 0:
                _add(runs, first, past, self.sample)
        if on_second:
            _add(runs, now, 1, fresh)
        return runs

    def _mean(self, which: int, market: int) -> Fraction | None:
        """Mean of a market's samples, or where there are none its last one, in units of the samples."""
        if count := int(self.count[which, market]):
            return Fraction(int(self.total[which, market]), count)
        last = int(self.sample[which, market])
        return None if last == NO_SAMPLE else Fraction(last)


_MARKET_COLUMNS = {
    "mark": ("price", MARK), "mark_time": ("time", MARK), "index": ("price", INDEX), "index_time": ("time", INDEX),
    "basis": ("price", BASIS), "basis_time": ("time", BASIS), "sample_mark": ("sample", 0),
    "sample_premium": ("sample", 1),
}  # fmt: skip
"""Columns of the run folder's state, and where they are."""


def _add(runs: list[_Run], second: int, seconds: int, samples: Int) -> None:
    """Append samples that hold for some seconds."""
    sums = np.empty((2, *samples.shape), np.int64)
    kernels.add_samples(samples, seconds, runs[-1].sums if runs else np.zeros_like(sums), sums)
    runs.append(_Run(second, seconds, samples, sums))


def _joined(parts: list[Int]) -> Int:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _sides(books: Books) -> Int:
    """Side of each level."""
    return np.repeat(np.arange(len(books.offset) - 1), np.diff(books.offset))


def _offset(side: Int, like: Books) -> Int:
    return np.searchsorted(side, np.arange(len(like.offset)))


def _chosen(books: Books, level: Bool) -> Books:
    """The chosen levels alone."""
    if level.all():
        return books
    offset = np.concatenate([[0], np.cumsum(level)])[books.offset]
    return replace(books, offset=offset, price=books.price[level], lots=books.lots[level])


@dataclass
class Guarded:
    """A tick's prints as they count.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
        NaN where there is none.
    books : Books
        Levels that are there: those of refused books are not, what is refilled is.
    refusals : list of Refusal
        By book row, then in the order of `REASONS`.
    memory : Memory
        What the guards remember after this tick.
    """

    mark: Float
    index: Float
    books: Books
    refusals: list[Refusal]
    memory: Memory


def guard(venue: Venue, memory: Memory, before: int | None, time: int, given: Prices, books: Books) -> Guarded:
    """Guard the prints of a tick; docs/one_tick.md has the rules. ``memory`` stays as it is.

    Parameters
    ----------
    memory
        What the guards remembered after the tick before.
    before
        Time of that tick, nanoseconds; None at the first one.
    time
        Time of this tick, nanoseconds.
    given, books
        Prices and books as the tick has them.

    Raises
    ------
    RiskDataError
        A mark is 10**13 ticks or more, or 10**4 times its index.
    """
    markets, policy = venue.markets, venue.policy
    books, bad, refusals = _accepted(venue, books, time)
    bid, ask = _touch(venue, books)
    count = len(markets.symbol)
    used, price = np.empty((2, count)), np.empty((3, count))
    stamp, sample = np.empty((3, count), np.int64), np.empty((2, count), np.int64)
    refused, prints, too_large = np.empty((count, 4), bool), np.empty((count, 4)), np.empty((2, count), bool)
    kernels.guard_prints(
        time, policy.stale_nanoseconds, policy.clamp, markets.min_update, markets.max_update, given.given_mark,
        given.given_index, given.last, bid, ask, memory.price, memory.time, used, price, stamp, refused, prints,
    )  # fmt: skip
    kernels.sample_prints(markets.tick_size, used, memory.sample, sample, too_large)
    if np.count_nonzero(too_large):
        raise _not_a_sample(venue, used, too_large)
    if np.count_nonzero(refused):
        rows, kinds = np.nonzero(refused)
        of_prints = zip(rows.tolist(), kinds.tolist(), prints[rows, kinds].tolist(), strict=True)
        refusals += [(row, _OF_PRINTS + kind, print_) for row, kind, print_ in of_prints]
    after = Memory(price, stamp, sample, memory._sampled(before, time, sample), memory.books, memory.gone)
    if memory.books is not None:
        books = _refilled(venue, memory, after, before, time, books, bad)
    found = [Refusal(REASONS[kind], row, print_) for row, kind, print_ in sorted(refusals)]
    return Guarded(used[MARK], used[INDEX], books, found, after)


def _not_a_sample(venue: Venue, used: Float, too_large: Bool) -> RiskDataError:
    """Of the first mark that is too large for a sample, or else the first premium."""
    which, m = (int(at[0]) for at in np.nonzero(too_large))
    if used[MARK, m] <= 0.0:
        rule = "must be > 0: it follows from an index that is below the book by more than itself"
        return RiskDataError("marks", venue.markets.symbol[m], rule, value=float(used[MARK, m]))
    table, rule = (
        ("marks", "must be less than 10**13 ticks"), ("indexes", "must be more than a 10**4th of the mark")
    )[which]  # fmt: skip
    return RiskDataError(table, venue.markets.symbol[m], rule, value=float(used[which, m]))


_Refused: TypeAlias = list[tuple[int, int, float]]  # book row, kind (an index into `REASONS`), print


def _accepted(venue: Venue, books: Books, time: int) -> tuple[Books, Bool, _Refused]:
    """Books without those that are closed, too old or crossed, which these are, and why."""
    if not books.price.size:
        return books, np.zeros(len(books.time), bool), []
    levels = np.diff(books.offset).reshape(-1, 2)
    closed = ~venue.listing.takes_orders & levels.any(axis=1)
    age = time - books.time
    stale = (books.time != 0) & (age > venue.policy.stale_nanoseconds) & levels.any(axis=1) & ~closed
    bid, ask = _best(books)
    crossed = levels.all(axis=1) & (ask <= bid) & ~stale & ~closed
    kinds = enumerate((closed, stale, crossed))
    refused = [(b, kind, math.nan) for kind, rows in kinds for b in np.flatnonzero(rows).tolist()]
    bad = closed | stale | crossed
    return (_chosen(books, ~bad[_sides(books) // 2]) if refused else books), bad, refused


def two_sided(venue: Venue, books: Books, time: int) -> Bool:
    """Whether each market has a book with both sides in a tick, and one that is not refused; shape (M,)."""
    accepted = _accepted(venue, books, time)[0]
    sides: Bool = np.diff(accepted.offset).reshape(-1, 2)[: len(venue.markets.symbol)] > 0
    return np.asarray(sides.all(axis=1))


def _best(books: Books) -> tuple[Int, Int]:
    """Best price of the bids and of the asks of each book row in ticks, 0 where there is none."""
    empty = np.diff(books.offset) == 0
    best = np.where(empty, 0, np.append(books.price, 0)[books.offset[:-1]])
    return best[0::2], best[1::2]


def _touch(venue: Venue, books: Books) -> tuple[Float, Float]:
    """Best bid and ask of each market, NaN where there is none."""
    size = venue.markets.tick_size
    if not books.price.size:
        return no_prices(len(size)), no_prices(len(size))
    bid, ask = (np.where(best == 0, np.nan, size * best) for best in (side[: len(size)] for side in _best(books)))
    return bid, ask


def _refilled(
    venue: Venue, memory: Memory, after: Memory, before: int | None, time: int, books: Books, refused: Bool
) -> Books:
    """Levels that are there of the books given last; ``after`` remembers them and what is gone.

    Of a book that was refused nothing is remembered.
    """
    assert memory.books is not None
    assert venue.policy.refill_half_life is not None
    kept, gone = memory.books, memory.gone.copy()  # `note_taken` writes into it
    if before is not None and gone.any():
        left = 0.5 ** ((time - before) / _SECOND / float(venue.policy.refill_half_life))
        gone = np.floor(gone * left).astype(np.int64)
    if refused.any():
        there = ~refused[_sides(kept) // 2]
        kept, gone = _chosen(kept, there), gone[there]
    if books.price.size:
        again = _repeated(kept, books) | ~np.diff(books.offset).reshape(-1, 2).any(axis=1)
        old, new = _sides(kept), _sides(books)
        goes_on, begins = again[old // 2], ~again[new // 2]
        side = np.concatenate([old[goes_on], new[begins]])
        order = np.argsort(side, kind="stable")

        def merged(ours: Int, theirs: Int) -> Int:
            return np.concatenate([ours[goes_on], theirs[begins]])[order]

        gone = merged(gone, np.zeros_like(books.lots))
        price, lots = merged(kept.price, books.price), merged(kept.lots, books.lots)
        kept = Books(_offset(side[order], kept), price, lots, np.zeros_like(kept.time))
    after.books, after.gone = kept, gone
    effective = _chosen(kept, gone < kept.lots)
    return replace(effective, lots=(kept.lots - gone)[gone < kept.lots], time=books.time)


def _repeated(kept: Books, books: Books) -> Bool:
    """Books of which both sides have exactly the levels that were given last."""
    same: Bool = (np.diff(kept.offset) == np.diff(books.offset)).reshape(-1, 2).all(axis=1)
    side = _sides(kept)
    ours, theirs = same[side // 2], same[_sides(books) // 2]
    differs = (kept.price[ours] != books.price[theirs]) | (kept.lots[ours] != books.lots[theirs])
    same[side[ours][differs] // 2] = False
    return same


def note_taken(memory: Memory, books: Books, left: Int) -> None:
    """Note, once a tick, what takers left of each level of its books; ``memory`` is that of the tick, and changes.

    Nothing is remembered of books that do not refill.
    """
    if memory.books is not None:
        memory.gone[memory.gone < memory.books.lots] += books.lots - left


def bands(venue: Venue, memory: Memory, prices: Prices, books: Books) -> tuple[Int, Int]:
    """Bounds of a taker's price on each side of each book.

    Parameters
    ----------
    memory
        What the guards remember after this tick.
    prices, books
        Those of the tick, guarded.

    Returns
    -------
    bound : ndarray of int64, shape (2B,)
        Worst price in ticks that may still be taken; 0 (bids) or 2**62 (asks) where there is no band, and on a side
        without a level.
    code : ndarray of int64, shape (2B,)
        The band that binds, an index into `BAND_NAMES`; 0 where there is none.
    """
    listing, markets = venue.listing, len(venue.markets.symbol)
    bound = np.tile(np.array([0, NO_BAND]), len(listing.symbol))
    code = np.zeros_like(bound)
    bid, ask = (best.tolist() for best in _best(books))
    for b in np.flatnonzero(np.diff(books.offset).reshape(-1, 2).any(axis=1)).tolist():
        best = bid[b], ask[b]
        if b < markets:
            last = _exact(prices.last[b], listing.tick[b])
            others = _mean_bands(venue, memory, prices, b)
        else:
            last, others = None, _conversion_band(venue, prices, b - markets)
        active = _median([price for price in (*best, last) if price])
        impact = listing.min_impact[b], listing.max_impact[b]
        limit = listing.min_multiplier[b], listing.max_multiplier[b]
        for at in (0, 1):
            if best[at]:
                mean_mark, mean_premium, conversion = others[at]
                edges = [
                    _product(best[at], impact[at]), mean_mark, mean_premium, _product(active, limit[at]), conversion
                ]  # fmt: skip
                inside = math.floor if at else math.ceil
                ticks = {kind: inside(edge) for kind, edge in enumerate(edges) if edge is not None}
                if ticks:
                    tightest = (min if at else max)(ticks, key=ticks.__getitem__)  # the first of them
                    bound[2 * b + at] = min(max(ticks[tightest], 0), NO_BAND)
                    code[2 * b + at] = tightest
    return bound, code


_Edges: TypeAlias = tuple[Fraction | None, Fraction | None, Fraction | None]


def _mean_bands(venue: Venue, memory: Memory, prices: Prices, m: int) -> tuple[_Edges, _Edges]:
    """Edges of a perpetual's bands around the means, below and above, in ticks."""
    markets = venue.markets
    mark = memory._mean(0, m) if memory.count[0, m] or not np.isnan(prices.mark[m]) else None
    if mark is not None:
        mark /= MARK_UNIT
    index, tolerance = _exact(prices.index[m], markets.tick[m]), markets.premium_tolerance[m]
    premium = memory._mean(1, m)
    below = above = None
    if index is not None and premium is not None and tolerance is not None:
        mean = 1 + premium / PREMIUM_UNIT
        below, above = index * (mean - tolerance), index * (mean + tolerance)
    low, high = _product(mark, markets.mean_mark_low[m]), _product(mark, markets.mean_mark_high[m])
    return (low, below, None), (high, above, None)


def _conversion_band(venue: Venue, prices: Prices, row: int) -> tuple[_Edges, _Edges]:
    """Edges of a spot market's band around the price of its asset, below and above, in ticks."""
    price = _exact(prices.asset[venue.spots.asset[row]], venue.spots.tick[row])
    slip = venue.policy.conversion_slippage
    return (None, None, _product(price, 1 - slip)), (None, None, _product(price, 1 + slip))


def _exact(price: np.float64, tick: Fraction) -> Fraction | None:
    """Return the price that the user wrote, in ticks; None for NaN."""
    return None if np.isnan(price) else tables.exact(float(price)) / tick


def _product(price: Fraction | int | None, multiplier: Fraction | None) -> Fraction | None:
    return None if price is None or multiplier is None else price * multiplier


def _median(values: Sequence[Fraction | int]) -> Fraction:
    ordered = sorted(values)
    middle, even = divmod(len(ordered), 2)
    return Fraction(ordered[middle] if even else (ordered[middle - 1] + ordered[middle]) / Fraction(2))


def _weight(given: object) -> float:
    try:
        return tables.number(given)
    except ValueError:
        return math.nan


def cross_venue_index(
    quotes: pd.DataFrame,
    weights: Mapping[str, float] | None = None,
    *,
    max_deviation: float = 100.0,
    unit: str = "ns",
) -> pd.DataFrame:
    """Index prices from quotes of several venues.

    The price of a source is the median of its bid, its ask and its last trade. Each is brought to within
    ``max_deviation`` of the median over the sources; the index is their weighted mean.

    Parameters
    ----------
    quotes
        time, market, source, bid, ask, last: what the sources show at each time. NaN is not known; a source of which
        nothing is known is left out.
    weights
        Weight of each source, > 0; without, all weigh the same.
    max_deviation
        Basis points.
    unit
        Of times that are whole numbers since the epoch: "ns", "us", "ms" or "s".

    Returns
    -------
    DataFrame
        time (nanoseconds), market, index_price; ascending by time and market.

    Raises
    ------
    RiskDataError
        A column is missing, a value out of range, a source stands twice or has no weight.
    """
    if not 0 <= tables.figure("max_deviation", max_deviation) < math.inf:
        raise RiskDataError("max_deviation", None, "must be a number of basis points >= 0", value=max_deviation)
    quotes = tables.checked("quotes", quotes, unit=unit)
    weight = pd.Series(1.0, quotes.index)
    if weights is not None:
        if not isinstance(weights, Mapping):
            raise RiskDataError("weights", None, "must be a mapping by source", value=type(weights).__name__)
        weight = pd.Series([_weight(weights.get(source)) for source in quotes["source"]], quotes.index)
        bad = np.flatnonzero(~(np.isfinite(weight) & (weight > 0)))
        if bad.size:
            row = int(bad[0])
            raise RiskDataError("quotes", "source", "must have a weight > 0", row=row, value=quotes["source"].iloc[row])
    price = quotes[["bid", "ask", "last"]].median(axis=1)
    known = price.notna().to_numpy()
    keys = [quotes.loc[known, "time"], quotes.loc[known, "market"]]
    price, weight = price[known], weight[known]
    middle = price.groupby(keys).transform("median")
    off = max_deviation / 10_000
    parts = pd.DataFrame({"price": price.clip(middle * (1 - off), middle * (1 + off)) * weight, "weight": weight})
    sums = parts.groupby(keys).sum()
    return (sums["price"] / sums["weight"]).rename("index_price").reset_index()
