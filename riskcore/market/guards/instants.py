"""The guarded prices of all instants of a tick: those on the path to it, and the tick's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._typing import Bool, Float, Int
from ...boundary import RiskDataError, moment, units
from ...kernels import guards as tick_kernels
from ...kernels import path as kernels
from ...kernels.guards import (
    BASIS,
    INDEX,
    INDEX_CAPPED,
    INDEX_UPDATE,
    MARK,
    MARK_CAPPED,
    MARK_CLAMPED,
    MARK_UPDATE,
    MAX_PREMIUM,
    MAX_TICKS,
    REFUSED,
    TOO_LARGE,
    UPDATED,
    has_price,
)
from ...kernels.path import (
    ASSET_BY_MEAN,
    ASSET_CAPPED,
    ASSET_CLAMPED,
    ASSET_HELD,
    FITS,
    HOLD,
    NO_PREMIUM_SAMPLE,
    TOO_HIGH,
    TOO_LOW,
    AssetSamples,
)
from ...venue import Venue
from ..books import Books
from ..path import Path
from ..prices import Prices, asset_values
from .books import _SECOND, _accepted, _touch
from .state import SECONDS_OF_SAMPLES, GuardState, Instants, sampled

REASONS = (
    "closed_book", "stale_book", "crossed_book", "index_update_cap", "mark_held", "index_clamp", "mean_clamp",
    "update_cap",
)  # fmt: skip
_OF_TICK = tuple(REASONS.index(name) for name in ("index_update_cap", "mark_held", "index_clamp", "update_cap"))
"""Reason of each column of the updates that the tick's kernel rejects."""
_INDEX_CAP, _HELD, _CLAMP, _BY_MEAN, _CAP = (
    REASONS.index(name) for name in ("index_update_cap", "mark_held", "index_clamp", "mean_clamp", "update_cap")
)
_REFUSED_MARKET = INDEX_CAPPED | MARK_CLAMPED | MARK_CAPPED
_REFUSED_ASSET = ASSET_CLAMPED | ASSET_BY_MEAN | ASSET_CAPPED | ASSET_HELD


class Refusal(NamedTuple):
    """A rejected book or price update.

    Attributes
    ----------
    reason : str
        One of `REASONS`.
    book : int
        Book row (market m, or M + spot row), -1 for the price of an asset.
    price : float
        The rejected price, NaN for a book and for a price that is held.
    asset : int
        Row of the asset whose price it is, else -1.

    Examples
    --------
    >>> from riskcore.market.guards import Refusal
    >>> Refusal("update_cap", 0, 120.0).asset
    -1
    """

    reason: str
    book: int
    price: float
    asset: int = -1


@dataclass
class Guarded:
    """Prices and books of an instant that count.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
        Settle units; NaN where there is none.
    asset : ndarray of float64, shape (K,)
        Prices of the assets that have one of their own, settle units; NaN for the others.
    books : Books
        Levels that count: without those of refused books, with lots that were refilled.
    refusals : list of Refusal
        By book row, then in the order of `REASONS`; those of assets last.
    guard_state : GuardState
        State after this instant.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState, guard
    >>> venue = rc.load_venue("backpack")
    >>> crossed = {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": crossed})
    >>> books, time = tick.columnar_books(venue), tick.nanoseconds()
    >>> guarded = guard(venue, GuardState.opening(venue), None, time, rc.Prices.incomplete(venue, tick), books)
    >>> [refusal.reason for refusal in guarded.refusals], len(guarded.books.price), guarded.mark.tolist()
    (['crossed_book'], 0, [nan, nan, 195.0, nan])
    """

    mark: Float
    index: Float
    asset: Float
    books: Books
    refusals: list[Refusal]
    guard_state: GuardState


class GuardedPath:
    """Guarded prices of instants in a row, of which the last may be a tick. Made by `guard_path`.

    Parameters
    ----------
    venue, guard_state, path, first, end, delisted
        As of `guard_path`.

    Attributes
    ----------
    time : ndarray of int64, shape (R,)
        Nanoseconds.
    mark, index : ndarray of float64, shape (R, M)
        Prices that count, settle units; NaN where there is none.
    own_asset : ndarray of float64, shape (R, K)
        Prices of the assets that have one of their own, settle units; NaN for the others.
    events : ndarray of uint8, shape (R,)
        `riskcore.kernels.guards.UPDATED`, a mark, an index or a price of an asset was updated, as in every tick; and
        ``REFUSED``, a book or a price update was rejected, or a price is held.

    Notes
    -----
    The rules: docs/one_tick.md, "Guards" and "Path between two ticks".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import Path
    >>> from riskcore.market.guards import GuardState, guard_path
    >>> venue, book = rc.load_venue("backpack"), {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
    >>> tick = rc.Tick(5 * 10**9, {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
    >>> given, time = rc.Prices.incomplete(venue, tick), np.array([5 * 10**9])
    >>> path = Path.of_tick(given, tick.columnar_books(venue), None, time)
    >>> guarded = guard_path(venue, GuardState.opening(venue), path)
    >>> guarded.mark[:, 2].tolist(), guarded.updates.tolist()
    ([195.0], [True])
    """

    def __init__(
        self, venue: Venue, guard_state: GuardState, path: Path, first: int, end: int, delisted: Bool | None
    ) -> None:
        self._delisted = delisted
        if delisted is not None:
            guard_state, path = guard_state.without(delisted), path.without(delisted)
        self._venue, self._state, self._path, self._first = venue, guard_state, path, first
        self.time = path.time[first:end]
        self._before = path.before if first == 0 else int(path.time[first - 1])
        self._has_tick = end == len(path.time)
        rows, inner, markets = end - first, end - first - self._has_tick, len(path.mark)
        # remembered: before, and then after the last instant
        self._price, self._stamp = guard_state.price.copy(), guard_state.time.copy()
        self._sample = guard_state.sample.copy()
        mark, index = np.empty((rows + 1, markets)), np.empty((rows + 1, markets))  # row 0: the instant before
        self.mark, self.index = mark[1:], index[1:]
        self._happened, self.events = np.empty((rows, markets), np.uint8), np.empty(rows, np.uint8)
        if inner:
            self._guard_between(inner, mark, index)
        self._books = path.books
        self._of_tick: list[tuple[int, int, float]] = []
        if self._has_tick:
            self._guard_tick()
        self._happened_asset: npt.NDArray[np.uint8] | None = None  # where an asset may have a price of its own
        self._asset: Float | None = None
        self._guard_assets()
        self._stamps, self._stamps_of = guard_state.time, 0  # and the rows that these have seen
        self._after: GuardState | None = None  # that of the tick

    @property
    def columns(self) -> tuple[Float, Float, Float, npt.NDArray[np.uint8]]:
        """Marks, indexes, own prices of assets, and events."""
        return self.mark, self.index, self.own_asset, self.events

    @property
    def updates(self) -> Bool:
        """Whether a mark, an index or a price of an asset was updated, shape (R,); True of a tick."""
        return np.asarray((self.events & UPDATED) != 0)

    @property
    def asset(self) -> Float:
        """Prices of assets, settle units, NaN where there is none, shape (R, K)."""
        if self._asset is None:
            self._asset = asset_values(self._venue, self.mark, self.index, self.own_asset)
        return self._asset

    @property
    def refused(self) -> Bool:
        """Whether a book or a price update was rejected, or a price is held, shape (R,)."""
        return np.asarray((self.events & REFUSED) != 0)

    def _guard_between(self, count: int, mark: Float, index: Float) -> None:
        """Guard the instants between the ticks."""
        venue, markets = self._venue, self._venue.markets
        mark, index, error = mark[: count + 1], index[: count + 1], np.empty(3, np.int64)
        self._path.fill(venue, self._first, mark, index)
        kernels.guard_path(
            self.time[:count], venue.policy.clamp, markets.update_cap, markets.price_bounds, markets.tick_size,
            self._price, self._stamp, self._sample, mark, index, self._happened, self.events, error,
        )  # fmt: skip
        if error[2] != FITS:
            row, market, rule = error.tolist()
            value = float((index if rule == NO_PREMIUM_SAMPLE else mark)[row + 1, market])
            raise _wrong_price(venue, market, rule, value, int(self.time[row]))

    def _guard_tick(self) -> None:
        """Guard the tick."""
        venue, path, time = self._venue, self._path, int(self.time[-1])
        markets, policy, given = venue.markets, venue.policy, path.given
        self._books, self._books_refused, self._of_tick = _accepted(venue, path.books, time)
        if self._delisted is not None:
            self._books_refused = self._books_refused | self._is_delisted
        bid, ask = _touch(venue, self._books)
        count = len(markets.symbol)
        rejected, update = np.empty((count, 4), bool), np.empty((count, 4))
        tick_kernels.guard_updates(
            time, policy.stale_nanoseconds, policy.clamp, markets.update_cap, markets.tick_size, given.given_mark,
            given.given_index, given.last, bid, ask, self._price, self._stamp, self._sample, self.mark, self.index,
            self._happened, self.events, rejected, update,
        )  # fmt: skip
        event = self.events[-1]
        if event & TOO_LARGE:
            raise _not_a_sample(venue, self.mark[-1], self.index[-1])
        if event & REFUSED:
            rows, kinds = np.nonzero(rejected)
            found = zip(rows.tolist(), kinds.tolist(), update[rows, kinds].tolist(), strict=True)
            self._of_tick += [(row, _OF_TICK[kind], price) for row, kind, price in found]
        elif self._of_tick:
            self.events[-1] |= REFUSED

    def _guard_assets(self) -> None:
        """Guard the prices of assets at all instants, and complete them."""
        venue, path, state = self._venue, self._path, self._state
        self._asset_price, self._asset_time = state.asset_price, state.asset_time
        rows, assets, given = len(self.events), len(state.asset_price), path.given.given_asset
        if not (venue.assets.holds or has_price(given) or has_price(path.own)):
            self.own_asset = _no_own_prices(rows, assets)
            return
        self.own_asset, asset = np.empty((2, rows, assets))
        self._happened_asset = np.empty((rows, assets), np.uint8)
        self._asset_price, self._asset_time = state.asset_price.copy(), state.asset_time.copy()
        has_guards, has_means = venue.assets.guarded
        self._rejected = np.empty((rows if has_guards else 1, assets, 3))
        kernels.guard_assets(
            venue.asset_rules, path.kind == HOLD, path.before or 0, int(path.time[-1]), np.array([path.own, given]),
            self._has_tick, self.time, self._before or 0, self.index, self._happened, self.mark, state.asset_price,
            self._asset_price, self._asset_time, _asset_samples(state, has_means), self.events, self.own_asset, asset,
            self._happened_asset, self._rejected,
        )  # fmt: skip
        self._asset = asset  # needs not be computed again

    def refusals(self, k: int) -> list[Refusal]:
        """Return the refusals of an instant.

        Parameters
        ----------
        k : int
            Row of the instant.

        Returns
        -------
        list of Refusal
            By book row, then in the order of `REASONS`; those of assets last.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.market.guards import GuardState, guard_path
        >>> venue, book = rc.load_venue("backpack"), {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
        >>> tick = rc.Tick(5 * 10**9, {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
        >>> given, time = rc.Prices.incomplete(venue, tick), np.array([5 * 10**9])
        >>> path = Path.of_tick(given, tick.columnar_books(venue), None, time)
        >>> guarded = guard_path(venue, GuardState.opening(venue), path)
        >>> [refusal.reason for refusal in guarded.refusals(-1)]
        ['crossed_book']
        """
        k = k % len(self.time)
        if not self.events[k] & REFUSED:
            return []
        found = sorted(self._of_tick) if self._is_tick(k) else self._refused_between(k)
        return [Refusal(REASONS[kind], row, price) for row, kind, price in found] + self._refused_assets(k)

    def _is_tick(self, k: int) -> bool:
        """Whether a row is the tick itself."""
        return self._has_tick and k == len(self.time) - 1

    def _refused_between(self, k: int) -> list[tuple[int, int, float]]:
        """Refusals of an instant between the ticks: market, reason and price."""
        refused = []
        rows = np.flatnonzero(self._happened[k] & _REFUSED_MARKET).tolist()
        if rows:
            mark, index = (
                prices[0] for prices in self._path.values(self._venue, self._first + k + 1, self._first + k + 1)
            )
        clamp = self._venue.policy.clamp
        for m in rows:
            happened, clamped = int(self._happened[k, m]), float(mark[m])
            if happened & INDEX_CAPPED:
                refused.append((m, _INDEX_CAP, float(index[m])))
            if happened & MARK_CLAMPED:
                refused.append((m, _CLAMP, clamped))
                used = float(self.index[k, m])
                clamped = min(max(clamped, used * (1.0 - clamp)), used * (1.0 + clamp))
            if happened & MARK_CAPPED:
                refused.append((m, _CAP, clamped))
        return refused

    def _refused_assets(self, k: int) -> list[Refusal]:
        refused = list[Refusal]()
        if self._happened_asset is None:
            return refused
        for asset in np.flatnonzero(self._happened_asset[k] & _REFUSED_ASSET).tolist():
            happened = self._happened_asset[k, asset]
            if happened & ASSET_HELD:
                refused.append(Refusal("mark_held", -1, np.nan, asset))
            flags = (ASSET_CLAMPED, _CLAMP), (ASSET_BY_MEAN, _BY_MEAN), (ASSET_CAPPED, _CAP)
            refused += [
                Refusal(REASONS[kind], -1, float(self._rejected[k, asset, place]), asset)
                for place, (flag, kind) in enumerate(flags)
                if happened & flag
            ]
        return refused

    @property
    def _is_delisted(self) -> Bool:
        """Whether the market of each book is delisted, shape (B,)."""
        assert self._delisted is not None
        return np.append(self._delisted, np.zeros(len(self._venue.spots.asset), bool))

    def at(self, k: int) -> Guarded:
        """Return prices, books and refusals of an instant, and the state after it; in the order of the instants.

        The lots consumed of the books decay up to this instant.

        Parameters
        ----------
        k : int
            Row of the instant.

        Returns
        -------
        Guarded
            Of the instant.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.market.guards import GuardState, guard_path
        >>> venue, book = rc.load_venue("backpack"), {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
        >>> tick = rc.Tick(5 * 10**9, {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
        >>> given, time = rc.Prices.incomplete(venue, tick), np.array([5 * 10**9])
        >>> path = Path.of_tick(given, tick.columnar_books(venue), None, time)
        >>> guarded = guard_path(venue, GuardState.opening(venue), path)
        >>> guarded.at(-1).books.price.tolist()  # the crossed book does not count
        []
        """
        k = k % len(self.time)
        state = self.state_at(k)
        memory, seen, shift, is_open = state.book_memory, None, None, self._venue.listing.takes_orders
        if self._delisted is not None:
            is_open = is_open & ~self._is_delisted
        if self._is_tick(k):
            seen = self._books.time
        else:
            memory.decay(int(self.time[k]))
            shift = self._shift(k, memory.books)
        books = memory.offered(is_open, shift, seen)
        return Guarded(self.mark[k], self.index[k], self.own_asset[k], books, self.refusals(k), state)

    def _shift(self, k: int, books: Books) -> Int:
        """Ticks by which the levels of each book have moved with the mark since the tick before."""
        shift, tick = np.zeros(len(books.time), np.int64), self._venue.markets.tick
        with_levels = np.diff(books.offset).reshape(-1, 2).sum(axis=1)[: len(tick)] > 0
        now, before = self.mark[k], self._path.mark if self._path.last is None else self._path.last.mark
        for m in np.flatnonzero(with_levels & (now != before) & ~np.isnan(now) & ~np.isnan(before)).tolist():
            shift[m] = round((units.exact(float(now[m])) - units.exact(float(before[m]))) / tick[m])
        return shift

    def state_at(self, k: int) -> GuardState:
        """Return the state of the guards after an instant; asked for in the order of the instants.

        Parameters
        ----------
        k : int
            Row of the instant; -1 is the last one.

        Returns
        -------
        GuardState
            The state; its books are those of the tick before until the tick.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import Path
        >>> from riskcore.market.guards import GuardState, guard_path
        >>> venue, book = rc.load_venue("backpack"), {"bids": [(196.0, 1.0)], "asks": [(195.0, 1.0)]}
        >>> tick = rc.Tick(5 * 10**9, {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
        >>> given, time = rc.Prices.incomplete(venue, tick), np.array([5 * 10**9])
        >>> path = Path.of_tick(given, tick.columnar_books(venue), None, time)
        >>> guarded = guard_path(venue, GuardState.opening(venue), path)
        >>> guarded.state_at(-1).mark.tolist()
        [nan, nan, 195.0, nan]
        """
        k, state = k % len(self.time), self._state
        if (at_tick := self._is_tick(k)) and self._after is not None:
            return self._after
        time = int(self.time[k])
        history = state.followed_by(self._instants(k), time // _SECOND)
        if at_tick:
            price, stamp, sample = self._price, self._stamp, self._sample
            asset_price, asset_time = self._asset_price, self._asset_time
            memory = state.book_memory.followed_by(self._books, self._books_refused, time)
        else:
            price = np.array([self.mark[k], self.index[k], state.price[BASIS]])
            np.copyto(price, state.price, where=np.isnan(price))
            stamp, asset_time, memory = self._stamps_at(k), self._asset_times_at(k), state.book_memory
            runs = sampled([self._instants(k)])
            sample, asset_price = runs.market[-1], runs.asset[-1]
        own = (
            np.isfinite(self.own_asset[k])
            if self._happened_asset is not None
            else np.zeros(self.own_asset.shape[1], bool)
        )
        after = GuardState(price, stamp, sample, asset_price, asset_time, own, time // _SECOND, history, memory)
        if at_tick:
            self._after = after
        return after

    def _instants(self, k: int) -> Instants:
        """Instants up to one, of a long path those of the last minutes."""
        first = k - SECONDS_OF_SAMPLES if k >= _MANY else 0
        before = int(self.time[first]) if first or self._before is None else self._before
        part, state = slice(first, k + 1), self._state
        mark, index, own = self.mark[part], self.index[part], self.own_asset[part]
        tick_size = self._venue.markets.tick_size
        return Instants(before, self.time[part], mark, index, own, state.sample, state.asset_price, tick_size)

    def _stamps_at(self, k: int) -> Int:
        """Time of the last updates of marks and indexes up to an instant between the ticks."""
        if k < self._stamps_of - 1:
            self._stamps, self._stamps_of = self._state.time, 0
        self._stamps = self._stamps.copy()
        happened, time = self._happened[self._stamps_of : k + 1][::-1], self.time[self._stamps_of : k + 1][::-1]
        for which, flag in ((MARK, MARK_UPDATE), (INDEX, INDEX_UPDATE)) if len(time) else ():
            updated = (happened & flag) != 0
            np.copyto(self._stamps[which], time[updated.argmax(axis=0)], where=updated.any(axis=0))
        self._stamps_of = k + 1
        return self._stamps

    def _asset_times_at(self, k: int) -> Int:
        if self._happened_asset is None:
            return self._state.asset_time
        updated = (self._happened_asset[: k + 1] & kernels.ASSET_UPDATE) != 0
        if not updated.any():
            return self._state.asset_time
        last = np.where(updated, np.arange(k + 1)[:, None], -1).max(axis=0)
        return np.where(last >= 0, self.time[last], self._state.asset_time)


_MANY = 1_000
"""Instants of a path of which the samples are made of the last minutes alone."""


def _asset_samples(state: GuardState, has_means: bool) -> AssetSamples:
    """Samples of assets, where a guard needs them."""
    if not (has_means and state.samples):
        return _no_asset_samples(len(state.asset_price))
    return AssetSamples(
        second=np.concatenate([block.second for block in state.samples]),
        seconds=np.concatenate([block.seconds for block in state.samples]),
        price=np.concatenate([block.asset for block in state.samples]),
    )


@lru_cache(maxsize=16)
def _no_own_prices(rows: int, assets: int) -> Float:
    """NaN at every instant, shared: nobody writes to the prices that count."""
    return np.full((rows, assets), np.nan)


@lru_cache(maxsize=16)
def _no_asset_samples(assets: int) -> AssetSamples:
    none = np.empty(0, np.int64)
    return AssetSamples(none, none, np.empty((0, assets)))


def _wrong_price(venue: Venue, market: int, rule: int, value: float, time: int) -> RiskDataError:
    """Error of the first price of an instant between two ticks that is out of range."""
    text = {
        TOO_HIGH: venue.markets.too_high(market), TOO_LOW: venue.markets.too_low, NO_PREMIUM_SAMPLE: _PREMIUM_RULE
    }.get(rule, "must be > 0 and less than 10**13 ticks")  # fmt: skip
    table = "indexes" if rule == NO_PREMIUM_SAMPLE else "marks"
    where = f"on the path at {moment(time)}"
    return RiskDataError(table, venue.markets.symbol[market], text, row=where, value=value)


def _not_a_sample(venue: Venue, mark: Float, index: Float) -> RiskDataError:
    """Error of the first mark of a tick, or else the first premium, that is too large for a sample."""
    ticks, symbol = mark / venue.markets.tick_size, venue.markets.symbol
    wrong = np.flatnonzero((ticks <= 0.0) | (ticks >= MAX_TICKS))
    if wrong.size:
        m, rule = wrong[0], "must be less than 10**13 ticks"
        if mark[m] <= 0.0:
            rule = "must be > 0, and the index plus the basis is not"
        return RiskDataError("marks", symbol[m], rule, value=float(mark[m]))
    m = np.flatnonzero((mark - index) / index >= MAX_PREMIUM)[0]
    return RiskDataError("indexes", symbol[m], _PREMIUM_RULE, value=float(index[m]))


_PREMIUM_RULE = "must be more than 1/10**4 of the mark"


def guard_path(
    venue: Venue,
    guard_state: GuardState,
    path: Path,
    first: int = 0,
    end: int | None = None,
    delisted: Bool | None = None,
) -> GuardedPath:
    """Guard the price updates of the instants of a path, and the books of its tick.

    Parameters
    ----------
    venue : Venue
        The rules.
    guard_state : GuardState
        State after the instant before the first one; it stays as it is.
    path : Path
        The path to a tick.
    first, end : int
        Rows of the first instant of ``path.time`` and of the one after the last; by default all, the tick included.
    delisted : ndarray of bool, shape (M,), optional
        Whether each market is delisted: it has no price, no sample and no book.

    Returns
    -------
    GuardedPath
        Prices that count, the refusals, and the states.

    Raises
    ------
    RiskDataError
        A mark is 10**13 ticks or more or above maxPrice, or 10**4 times its index.

    Notes
    -----
    The rules: docs/one_tick.md, "Guards" and "Path between two ticks".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import Path
    >>> from riskcore.market.guards import GuardState, guard, guard_path
    >>> venue, market = rc.load_venue("backpack"), "SOL_USDC_PERP"
    >>> before, given = (rc.Prices.incomplete(venue, rc.Tick(0, {market: mark})) for mark in (195.0, 190.0))
    >>> books, times = rc.Books.empty(venue), np.arange(1, 4) * 10**9
    >>> state = guard(venue, GuardState.opening(venue), None, 0, before, books).guard_state
    >>> path = Path.between(venue, None, state.mark, before, given, books, 0, times, seed=0)
    >>> guard_path(venue, state, path).mark[:, 2].tolist()
    [195.0, 195.0, 190.0]
    """
    return GuardedPath(venue, guard_state, path, first, len(path.time) if end is None else end, delisted)


def guard(
    venue: Venue, guard_state: GuardState, before: int | None, time: int, prices: Prices, books: Books
) -> Guarded:
    """Guard the price updates and books of a tick, without instants before it.

    Parameters
    ----------
    venue : Venue
        The rules.
    guard_state : GuardState
        State after the tick before; it stays as it is.
    before : int or None
        Time of that tick, nanoseconds; None at the first one.
    time : int
        Time of this tick, nanoseconds.
    prices, books : Prices, Books
        Prices and books as the tick has them.

    Returns
    -------
    Guarded
        Prices and books that count, the refusals, and the state after the tick.

    Raises
    ------
    RiskDataError
        A mark is 10**13 ticks or more, or 10**4 times its index.

    Notes
    -----
    The rules: docs/one_tick.md, "Guards" and "Path between two ticks".

    Examples
    --------
    A mark more than 5 % above its index is clamped to that distance.

    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState, guard
    >>> venue = rc.load_venue("backpack")
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 220.0}, indexes={"SOL_USDC_PERP": 200.0})
    >>> given, none = rc.Prices.incomplete(venue, tick), rc.Books.empty(venue)
    >>> guarded = guard(venue, GuardState.opening(venue), None, tick.nanoseconds(), given, none)
    >>> guarded.mark.round(6).tolist(), [refusal.reason for refusal in guarded.refusals]
    ([nan, nan, 210.0, nan], ['index_clamp'])
    """
    path = Path.of_tick(prices, books, before, np.array([time]))
    return guard_path(venue, guard_state, path).at(0)
