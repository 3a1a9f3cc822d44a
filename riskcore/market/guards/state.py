"""The state of the guards from tick to tick: last prices, five minutes of samples, books that refill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..._typing import Bool, Float, Int
from ...kernels import guards as kernels
from ...kernels.guards import BASIS, INDEX, MARK, NO_SAMPLE
from ...venue import Venue
from ..books import Books

_SECOND = 1_000_000_000
SECONDS_OF_SAMPLES = 300
"""Length of the window of the means."""


class _Run(NamedTuple):
    """Samples of every market that hold for some seconds from ``second`` on; mark and premium in row 0 and 1.

    ``sums`` (shape (2, 2, M)) are running sums of the samples and of their number, up to the end of this run.
    """

    second: int
    seconds: int
    samples: Int
    sums: Int


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
    runs : list
        Samples of the last 300 seconds, oldest first.
    books : Books or None
        Books given last; only with a ``refill_half_life``.
    consumed_lots : ndarray of int64, shape (L,)
        Lots consumed of each of their levels.

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
    runs: list[_Run]
    books: Books | None
    consumed_lots: Int

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
        >>> GuardState.opening(rc.load_venue("backpack")).runs
        []
        """
        markets = len(venue.markets.symbol)
        return cls(
            price=np.full((3, markets), np.nan),
            time=np.zeros((3, markets), np.int64),
            sample=np.full((2, markets), NO_SAMPLE),
            runs=[],
            books=None if venue.policy.refill_half_life is None else Books.empty(venue),
            consumed_lots=np.empty(0, np.int64),
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

    @cached_property
    def _window(self) -> Int:
        if not self.runs:
            return np.zeros((2, *self.sample.shape), np.int64)
        first, last = self.runs[0], self.runs[-1]
        has_sample = first.samples != NO_SAMPLE
        # the part of the first run that is inside the window
        window: Int = (
            last.sums - first.sums + np.stack([np.where(has_sample, first.samples, 0), has_sample]) * first.seconds
        )
        return window

    def without(self, market: Bool) -> GuardState:
        """Return the state without what it remembers of some markets; samples of earlier seconds stay.

        Parameters
        ----------
        market : ndarray of bool, shape (M,)
            The markets.

        Returns
        -------
        GuardState
            Without their prices, current samples and books.

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
        books, consumed_lots = self.books, self.consumed_lots
        if books is not None:
            stays = ~np.isin(books.level_sides() // 2, np.flatnonzero(market))
            books, consumed_lots = books.chosen(stays), consumed_lots[stays]
        return GuardState(
            price=np.where(market, np.nan, self.price),
            time=np.where(market, 0, self.time),
            sample=np.where(market, NO_SAMPLE, self.sample),
            runs=self.runs,
            books=books,
            consumed_lots=consumed_lots,
        )

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the tables of the run folder's state.

        Returns
        -------
        dict of str to DataFrame
            markets (a row each, in order), samples, and books where these are kept; columns as of docs/run_folder.md.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market.guards import GuardState
        >>> {name: len(frame) for name, frame in GuardState.opening(rc.load_venue("backpack")).frames().items()}
        {'markets': 4, 'samples': 0}
        """
        market = np.arange(len(self.mark))
        seen = [np.flatnonzero(run.samples[0] != NO_SAMPLE) for run in self.runs]
        times = [len(rows) for rows in seen]
        tables = {
            "markets": pd.DataFrame(
                {name: getattr(self, attribute)[row] for name, (attribute, row) in _MARKET_COLUMNS.items()}
            ),
            "samples": pd.DataFrame(
                {
                    "second": np.repeat(np.array([run.second for run in self.runs], np.int64), times),
                    "count": np.repeat(np.array([run.seconds for run in self.runs], np.int64), times),
                    "market": _concatenated([market[rows] for rows in seen]),
                    "mark": _concatenated([run.samples[0, rows] for run, rows in zip(self.runs, seen, strict=True)]),
                    "premium": _concatenated([run.samples[1, rows] for run, rows in zip(self.runs, seen, strict=True)]),
                }
            ),
        }
        if self.books is not None:
            side = self.books.level_sides()
            tables["books"] = pd.DataFrame(
                {"market": side // 2, "side": 1 - 2 * (side % 2), "price": self.books.price, "lots": self.books.lots,
                 "consumed_lots": self.consumed_lots}
            )  # fmt: skip
        return tables

    @classmethod
    def from_frames(cls, venue: Venue, frames: Mapping[str, pd.DataFrame]) -> GuardState:
        """Read the tables of `frames`; they may have more columns.

        Parameters
        ----------
        venue : Venue
            The rules.
        frames : mapping of str to DataFrame
            Tables as of `frames`.

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
        >>> state = GuardState.from_frames(engine.venue, engine.guard_state.frames())
        >>> state.mark.tolist()
        [nan, nan, 194.0, nan]
        """
        guard_state, markets = cls.opening(venue), frames["markets"]
        for name, (attribute, row) in _MARKET_COLUMNS.items():
            getattr(guard_state, attribute)[row] = markets[name].to_numpy()
        table = frames["samples"]
        for _, rows in table.groupby("second"):
            samples = np.full(guard_state.sample.shape, NO_SAMPLE)
            samples[:, rows["market"].to_numpy()] = rows[["mark", "premium"]].to_numpy().T
            _add(guard_state.runs, int(rows["second"].iloc[0]), int(rows["count"].iloc[0]), samples)
        if guard_state.books is not None:
            kept = frames["books"]
            side = (2 * kept["market"] + (kept["side"] < 0)).to_numpy(np.int64)
            price, lots, consumed_lots = (kept[name].to_numpy().copy() for name in ("price", "lots", "consumed_lots"))
            guard_state.books = replace(
                guard_state.books, offset=_offset(side, guard_state.books), price=price, lots=lots
            )
            guard_state.consumed_lots = consumed_lots
        return guard_state

    def _sampled(self, before: int | None, time: int, sample: Int) -> list[_Run]:
        """Runs after a tick: seconds since the last tick repeat its samples, a tick on a whole second adds its own."""
        now = time // _SECOND
        oldest = now - SECONDS_OF_SAMPLES + 1
        runs = self.runs.copy()
        while runs and runs[0].second < oldest:
            run = runs.pop(0)
            seconds_left = run.second + run.seconds - oldest
            if seconds_left > 0:
                runs.insert(0, run._replace(second=oldest, seconds=seconds_left))
        on_second = time % _SECOND == 0
        if before is not None:
            first = max(before // _SECOND + 1, oldest)
            past = now - on_second - first + 1
            if past > 0:
                _add(runs, first, past, self.sample)
        if on_second:
            _add(runs, now, 1, sample)
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
"""Columns of the run folder's state, each with its attribute and row."""


def _add(runs: list[_Run], second: int, seconds: int, samples: Int) -> None:
    """Append samples that hold for some seconds."""
    sums = np.empty((2, *samples.shape), np.int64)
    kernels.add_samples(samples, seconds, runs[-1].sums if runs else np.zeros_like(sums), sums)
    runs.append(_Run(second, seconds, samples, sums))


def _concatenated(parts: list[Int]) -> Int:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _offset(side: Int, books: Books) -> Int:
    return np.searchsorted(side, np.arange(len(books.offset)))
