"""The state of the guards from tick to tick: last prices, five minutes of samples, books that refill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..._typing import Bool, Float, Int
from ...kernels import guards as kernels
from ...kernels import path as path_kernels
from ...kernels.guards import BASIS, INDEX, MARK, NO_SAMPLE
from ...venue import Venue
from .books import _SECOND, BookMemory, _offset

SECONDS_OF_SAMPLES = 300
"""Length of the window of the means."""


class Samples(NamedTuple):
    """Samples of all markets and assets, n runs of seconds, oldest first; a run's samples hold in each of its seconds.

    Attributes
    ----------
    second, seconds : ndarray of int64, shape (n,)
        First second of each run since the epoch, and the number of its seconds.
    market : ndarray of int64, shape (n, 2, M)
        Mark and premium as of `GuardState.sample`.
    asset : ndarray of float64, shape (n, K)
        Price of each asset with a price of its own, settle units; NaN if none.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.market.guards import Samples
    >>> Samples(np.array([7]), np.array([2]), np.zeros((1, 2, 1), np.int64), np.ones((1, 1))).seconds.tolist()
    [2]
    """

    second: Int
    seconds: Int
    market: Int
    asset: Float

    @property
    def end(self) -> int:
        """Second after the last run."""
        return int(self.second[-1]) + int(self.seconds[-1])


@dataclass
class Instants:
    """Prices that counted at R instants of a tick, of which samples are made when they are needed (`sampled`).

    Attributes
    ----------
    before : int
        Time from which on the samples before them hold, nanoseconds.
    time : ndarray of int64, shape (R,)
        Nanoseconds.
    mark, index : ndarray of float64, shape (R, M)
    own_asset : ndarray of float64, shape (R, K)
        As of `GuardedPath`.
    sample, asset_price : ndarray of int64, shape (2, M), and of float64, shape (K,)
        As of `GuardState`, before them.
    tick_size : ndarray of float64, shape (M,)
        Price of a tick.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.market.guards.state import Instants
    >>> prices, sample, none = np.ones((1, 1)), np.zeros((2, 1), np.int64), np.empty(0)
    >>> Instants(0, np.array([7 * 10**9]), prices, prices, prices[:, :0], sample, none, np.ones(1)).end
    8
    """

    before: int
    time: Int
    mark: Float
    index: Float
    own_asset: Float
    sample: Int
    asset_price: Float
    tick_size: Float

    @property
    def end(self) -> int:
        """Second after the last that has samples of them, or of what was before."""
        return int(self.time[-1]) // _SECOND + 1


def sampled(instants: list[Instants]) -> Samples:
    """Return the samples of the instants of consecutive ticks, and of the seconds before those of each tick.

    Parameters
    ----------
    instants : list of Instants
        The instants, tick by tick.

    Returns
    -------
    Samples
        A run for each instant, and one before the first of each tick.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.market.guards.state import Instants, sampled
    >>> prices, sample, none = np.ones((1, 1)), np.zeros((2, 1), np.int64), np.empty(0)
    >>> two = Instants(5 * 10**9, np.array([7 * 10**9]), prices, prices, prices[:, :0], sample, none, np.ones(1))
    >>> samples = sampled([two])
    >>> samples.second.tolist(), samples.seconds.tolist(), samples.market[:, 0, 0].tolist()
    ([6, 7], [1, 1], [0, 1000])
    """

    def column(name: str) -> list[Any]:
        return [getattr(part, name) for part in instants]

    end, sample, price = np.cumsum(list(map(len, column("time")))), np.array(column("sample")), column("asset_price")
    time, mark, index, own = (np.concatenate(column(name)) for name in ("time", "mark", "index", "own_asset"))
    count = len(time) + len(instants)
    second, seconds = np.empty(count, np.int64), np.empty(count, np.int64)
    market, asset = np.empty((count, *sample.shape[1:]), np.int64), np.empty((count, own.shape[1]))
    path_kernels.sample_runs(
        end, np.array(column("before")), time, instants[0].tick_size, mark, index, own, sample, np.array(price), second,
        seconds, market, asset,
    )  # fmt: skip
    return Samples(second, seconds, market, asset)


@dataclass
class GuardState:
    """State of the guards from tick to tick: last prices, samples of five minutes, and books that refill.

    Attributes
    ----------
    price : ndarray of float64, shape (3, M)
        Mark and index used last, and the one-minute EWMA of mid - index (``basis``), settle units; NaN if never.
    time : ndarray of int64, shape (3, M)
        Time of the last update of each, nanoseconds; 0 if never. A mark that is carried forward is no update.
    sample : ndarray of int64, shape (2, M)
        The mark used last in thousandths of a tick, and its premium in units of 1e-12; -2**63 if none.
    asset_price : ndarray of float64, shape (K,)
        Price of its own used last of each asset, settle units; NaN if never.
    asset_time : ndarray of int64, shape (K,)
        Time of its last update, nanoseconds; 0 if never.
    asset_own : ndarray of bool, shape (K,)
        Whether the asset had a price of its own at the last tick.
    second : int
        The last whole second since the epoch that may have a sample.
    history : list of Samples or Instants
        Samples of the last 300 seconds and perhaps older ones, oldest first, or the instants that they are of.
    book_memory : BookMemory
        The books that the clock goes on with; the states of the instants up to the next tick share it.

    Notes
    -----
    The rules: docs/one_tick.md, "Samples" and "Refill".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.guards import GuardState
    >>> GuardState.opening(rc.load_venue("backpack")).mark.tolist()
    [nan, nan, nan, nan]
    """

    price: Float
    time: Int
    sample: Int
    asset_price: Float
    asset_time: Int
    asset_own: Bool
    second: int
    history: list[Samples | Instants]
    book_memory: BookMemory

    @classmethod
    def opening(cls, venue: Venue) -> GuardState:
        """Return the state before the first tick.

        Parameters
        ----------
        venue : Venue
            The rules.

        Returns
        -------
        GuardState
            Without prices, samples and levels.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState
        >>> GuardState.opening(rc.load_venue("backpack")).samples
        []
        """
        markets, assets = len(venue.markets.symbol), len(venue.assets.symbol)
        return cls(
            price=np.full((3, markets), np.nan),
            time=np.zeros((3, markets), np.int64),
            sample=np.full((2, markets), NO_SAMPLE),
            asset_price=np.full(assets, np.nan),
            asset_time=np.zeros(assets, np.int64),
            asset_own=np.zeros(assets, bool),
            second=0,
            history=[],
            book_memory=BookMemory.opening(venue),
        )

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

    @property
    def samples(self) -> list[Samples]:
        """Samples of the last 300 seconds and perhaps older ones, oldest first."""
        made = [part for part in self.history if isinstance(part, Samples)]
        if instants := [part for part in self.history if isinstance(part, Instants)]:  # which come after them
            made.append(sampled(instants))
            self.history = [*made]
        return made

    @cached_property
    def _window(self) -> Int:
        window = np.zeros((2, *self.sample.shape), np.int64)
        for block in self.samples:
            kernels.add_samples(block.second, block.seconds, block.market, self.second - SECONDS_OF_SAMPLES, window)
        return window

    def without(self, market: Bool) -> GuardState:
        """Return the state without what it remembers of the prices of some markets; earlier samples stay.

        Parameters
        ----------
        market : ndarray of bool, shape (M,)
            The markets.

        Returns
        -------
        GuardState
            Without their prices and current samples.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> import riskcore as rc
        >>> venue, accounts = two_accounts()
        >>> engine = rc.Engine(accounts, venue)
        >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
        >>> engine.guard_state.without(np.array([False, False, True, False])).mark.tolist()
        [nan, nan, nan, nan]
        """
        if not market.any():
            return self
        return replace(
            self,
            price=np.where(market, np.nan, self.price),
            time=np.where(market, 0, self.time),
            sample=np.where(market, NO_SAMPLE, self.sample),
        )

    def used(self, stale_after: int, time: int) -> tuple[Float, Float, Float]:
        """Return the prices that counted at the last tick.

        Parameters
        ----------
        stale_after : int
            Age past which a mark does not count, nanoseconds.
        time : int
            Time of the last tick, nanoseconds.

        Returns
        -------
        mark, index : ndarray of float64, shape (M,)
            Settle units; NaN where there was none.
        asset : ndarray of float64, shape (K,)
            Prices of the assets that had one of their own, settle units; NaN for the others.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> engine = rc.Engine(accounts, venue)
        >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
        >>> [prices.tolist() for prices in engine.guard_state.used(60 * 10**9, engine.time)[:2]]
        [[nan, nan, 195.0, nan], [nan, nan, nan, nan]]
        """
        mark = np.where(time - self.time[MARK] <= stale_after, self.mark, np.nan)
        index = np.where(self.time[INDEX] == time, self.index, np.nan)
        return mark, index, np.where(self.asset_own, self.asset_price, np.nan)

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the tables of the run folder's state.

        Returns
        -------
        dict of str to DataFrame
            markets and assets (a row each, in order), samples, asset_samples and books; columns as of
            docs/run_folder.md.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState
        >>> {name: len(frame) for name, frame in GuardState.opening(rc.load_venue("backpack")).frames().items()}
        {'markets': 4, 'assets': 2, 'samples': 0, 'asset_samples': 0, 'books': 0}
        """
        tables = {
            "markets": pd.DataFrame(
                {name: getattr(self, attribute)[row] for name, (attribute, row) in _MARKET_COLUMNS.items()}
            ),
            "assets": pd.DataFrame(
                {"asset": np.arange(len(self.asset_price)), "price": self.asset_price, "time": self.asset_time,
                 "own": self.asset_own}
            ),
        }  # fmt: skip
        none = _no_samples(self.sample.shape[1], len(self.asset_price))
        samples = _joined([none, *self.samples], self.second - SECONDS_OF_SAMPLES + 1)
        end = samples.second + samples.seconds
        second = np.maximum(samples.second, self.second - SECONDS_OF_SAMPLES + 1)
        seconds = end - second
        run, market = np.nonzero((samples.market[:, 0] != NO_SAMPLE) & (seconds > 0)[:, None])
        tables["samples"] = pd.DataFrame(
            {"second": second[run], "count": seconds[run], "market": market, "mark": samples.market[run, 0, market],
             "premium": samples.market[run, 1, market]}
        )  # fmt: skip
        run, asset = np.nonzero(~np.isnan(samples.asset) & (seconds > 0)[:, None])
        tables["asset_samples"] = pd.DataFrame(
            {"second": second[run], "count": seconds[run], "asset": asset, "price": samples.asset[run, asset]}
        )
        memory = self.book_memory
        side = memory.books.level_sides()
        tables["books"] = pd.DataFrame(
            {"market": side // 2, "side": 1 - 2 * (side % 2), "price": memory.books.price, "lots": memory.books.lots,
             "consumed_lots": memory.consumed_lots, "decay_time": memory.decay_time}
        )  # fmt: skip
        return tables

    @classmethod
    def from_frames(cls, venue: Venue, frames: Mapping[str, pd.DataFrame], time: int) -> GuardState:
        """Read the tables of `frames`; they may have more columns.

        Parameters
        ----------
        venue : Venue
            The rules.
        frames : mapping of str to DataFrame
            Tables as of `frames`.
        time : int
            Time of the last tick, nanoseconds; 0 before the first.

        Returns
        -------
        GuardState
            The state.

        Examples
        --------
        >>> import tempfile
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState
        >>> from riskcore.sample import small_run
        >>> folder = tempfile.mkdtemp()
        >>> small_run(folder)
        >>> engine = rc.Engine.resume(folder)
        >>> state = GuardState.from_frames(engine.venue, engine.guard_state.frames(), engine.time)
        >>> state.mark.tolist()
        [nan, nan, 194.0, nan]
        """
        guard_state, markets = cls.opening(venue), frames["markets"]
        for name, (attribute, row) in _MARKET_COLUMNS.items():
            getattr(guard_state, attribute)[row] = markets[name].to_numpy()
        assets = frames["assets"]
        for name in ("price", "time", "own"):
            getattr(guard_state, f"asset_{name}")[:] = assets[name].to_numpy()
        tables = [frames["samples"], frames["asset_samples"]]
        runs = pd.concat([table[["second", "count"]] for table in tables]).drop_duplicates().sort_values("second")
        second = runs["second"].to_numpy(np.int64)
        samples = Samples(
            second,
            runs["count"].to_numpy(np.int64),
            np.full((len(second), *guard_state.sample.shape), NO_SAMPLE),
            np.full((len(second), len(guard_state.asset_price)), np.nan),
        )
        of_market, of_asset = ((np.searchsorted(second, table["second"]), table) for table in tables)
        for kind, name in enumerate(("mark", "premium")):
            samples.market[of_market[0], kind, of_market[1]["market"]] = of_market[1][name]
        samples.asset[of_asset[0], of_asset[1]["asset"]] = of_asset[1]["price"]
        guard_state.history = [samples] if len(second) else []
        guard_state.second = time // _SECOND
        if "books" in frames:
            kept, memory = frames["books"], guard_state.book_memory
            side = (2 * kept["market"] + (kept["side"] < 0)).to_numpy(np.int64)
            price, lots, consumed_lots = (kept[name].to_numpy().copy() for name in ("price", "lots", "consumed_lots"))
            memory.books = replace(memory.books, offset=_offset(side, memory.books), price=price, lots=lots)
            memory.consumed_lots = consumed_lots
            memory.is_offered = np.ones(len(lots), bool)
            memory.decay_time = int(kept["decay_time"].iloc[0]) if len(kept) else time
        return guard_state

    def followed_by(self, new: Instants, second: int) -> list[Samples | Instants]:
        """Return the history with new instants.

        Parameters
        ----------
        new : Instants
            Later instants.
        second : int
            The last whole second since the epoch that may have a sample.

        Returns
        -------
        list of Samples or Instants
            Those of the 300 seconds up to ``second`` and perhaps older ones.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState
        >>> from riskcore.market.guards.state import Instants
        >>> venue = rc.load_venue("backpack")
        >>> state, prices = GuardState.opening(venue), np.full((1, 4), 195.0)
        >>> sizes = state.sample, state.asset_price, venue.markets.tick_size
        >>> new = Instants(0, np.array([7 * 10**9]), prices, prices, prices[:, :2], *sizes)
        >>> len(state.followed_by(new, 7))
        1
        """
        oldest = second - SECONDS_OF_SAMPLES + 1
        first = 0
        while first < len(self.history) and self.history[first].end <= oldest:
            first += 1
        if len(self.history) - first < _PARTS:
            return [*self.history[first:], new]
        return [_joined(self.samples, oldest), new]

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
"""Columns of the run folder's state, each with its attribute and row."""


_PARTS = 32
"""Parts of the history that are joined to one."""


def _joined(blocks: list[Samples], oldest: int) -> Samples:
    """Samples of blocks, but for runs before a second."""
    joined = Samples(
        second=np.concatenate([block.second for block in blocks]),
        seconds=np.concatenate([block.seconds for block in blocks]),
        market=np.concatenate([block.market for block in blocks]),
        asset=np.concatenate([block.asset for block in blocks]),
    )
    first = int(np.count_nonzero(joined.second + joined.seconds <= oldest))
    return Samples(joined.second[first:], joined.seconds[first:], joined.market[first:], joined.asset[first:])


def _no_samples(markets: int, assets: int) -> Samples:
    none = np.empty(0, np.int64)
    return Samples(none, none, np.empty((0, 2, markets), np.int64), np.empty((0, assets)))
