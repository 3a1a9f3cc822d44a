"""The sweep: the margin table of all accounts at prices that are complete, and who is at 100 %."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import exact
from .accounts import Accounts
from .errors import RiskDataError
from .kernels import margin as kernels
from .kernels import packed as packed_kernels
from .kernels.columns import PackedColumns
from .packed import Packed, window_count
from .tick import Prices

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_WORTH_A_THREAD = 50_000  # accounts, one by one
_NOTHING, _NOBODY = np.empty(0), np.empty(0, np.uint8)
WINDOWS_WORTH_A_THREAD = 50  # eight accounts abreast
_CACHED = 4  # windows that stay in the cache while they meet many vectors of prices


@dataclass(frozen=True)
class MarginTable:
    """Margin of accounts in settle units; arrays of shape (N,), accounts ascending by id.

    Attributes
    ----------
    account : ndarray
        The user's account ids.
    net_equity, exposure, initial_margin, maintenance_margin : ndarray of float64
    status : ndarray of uint8
        SAFE, LIQUIDATING or BELOW_AUTO_CLOSE (`riskcore.kernels.margin`), decided exactly.
    time : object
        Label of the price row, None for a single price vector.
    """

    account: npt.NDArray[Any]
    net_equity: Float
    exposure: Float
    initial_margin: Float
    maintenance_margin: Float
    status: npt.NDArray[np.uint8]
    time: Any = None

    @property
    def liquidatable(self) -> npt.NDArray[np.bool_]:
        """Whether the maintenance margin ratio is 1 or more."""
        return np.not_equal(self.status, kernels.SAFE)

    @property
    def imr(self) -> Float:
        """Initial margin over net equity; +inf with exposure and no equity, 0 without exposure."""
        return _ratio(self.initial_margin, self.net_equity, self.exposure)

    @property
    def mmr(self) -> Float:
        """Maintenance margin over net equity; at exactly 1 an account is liquidatable."""
        ratio = _ratio(self.maintenance_margin, self.net_equity, self.exposure)
        # where float64 could not decide, exact arithmetic did: the ratio says the same
        above = self.liquidatable
        return np.where(above, np.maximum(ratio, 1.0), np.minimum(ratio, np.nextafter(1.0, 0.0)))

    def rows(self, row: Int) -> MarginTable:
        """Return some rows alone."""
        return replace(self, **{f.name: getattr(self, f.name)[row] for f in fields(self) if f.name != "time"})

    def put(self, row: Int, other: MarginTable) -> None:
        """Write the figures of another table into some rows."""
        for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin", "status"):
            getattr(self, name)[row] = getattr(other, name)

    def to_frame(self) -> pd.DataFrame:
        """Return the table in settle units, with both ratios and the column liquidatable."""
        return pd.DataFrame({name: getattr(self, name) for name in COLUMNS})


COLUMNS = "account", "net_equity", "exposure", "initial_margin", "maintenance_margin", "imr", "mmr", "liquidatable"
"""Of a margin table as a frame."""


@dataclass(frozen=True)
class Selection:
    """Accounts at a maintenance margin ratio of 1 or more.

    Attributes
    ----------
    row : ndarray of int64
        Account rows, ascending.
    accounts : Accounts
    prices : Prices
    time : object
        Label of the price row, None for a single price vector.
    """

    row: Int
    accounts: Accounts
    prices: Prices
    time: Any = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def account(self) -> npt.NDArray[Any]:
        """The user's account ids, ascending."""
        return self.accounts.ids[self.row]

    def table(self) -> MarginTable:
        """Return the margin of these accounts, by the state as it is when this is asked."""
        return margins_of(self.accounts, self.row, self.prices, time=self.time)


def _ratio(margin: Float, equity: Float, exposure: Float) -> Float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(equity > 0, margin / equity, np.inf)
    return np.where(exposure == 0, 0.0, ratio)


def selection(accounts: Accounts, prices: Prices, *, threads: int | None = None) -> Selection:
    """Accounts at a ratio of 1 or more, at prices that are already complete."""
    return Selection(selected(accounts, accounts.packed.columns, prices, threads=threads), accounts, prices)


def margin_table(accounts: Accounts, prices: Prices, *, threads: int | None = None, time: Any = None) -> MarginTable:
    """Sweep all accounts at prices that are already complete."""
    return margin_tables(accounts, [prices], [time], threads=threads)[0]


def margin_tables(
    accounts: Accounts, prices: Sequence[Prices], times: Sequence[Any], *, threads: int | None = None
) -> list[MarginTable]:
    """Sweep all accounts at several vectors of prices, all of them before the next accounts are read from memory."""
    columns = accounts.packed.columns
    sweeps = [_Sweep.of(accounts, vector) for vector in prices]

    def chunk(first: int, last: int) -> None:
        step = _CACHED if len(sweeps) > 1 else last - first
        for start in range(first, last, step):
            for sweep in sweeps:
                sweep.windows(start, min(start + step, last))

    in_chunks(chunk, window_count(columns), threads, WINDOWS_WORTH_A_THREAD)
    return [sweep.table(time) for sweep, time in zip(sweeps, times, strict=True)]


@dataclass(frozen=True)
class _Listed:
    """What a kernel over windows lists: 4 * account + why, those of window w from 4096 w on, and how many those are."""

    found: Int
    counts: Int

    @classmethod
    def room(cls, columns: PackedColumns) -> _Listed:
        return cls(np.empty(len(columns.account), np.int64), np.empty(window_count(columns), np.int64))

    def accounts(self) -> tuple[Int, Int]:
        """Rows of the accounts, and why they are listed."""
        starts = range(0, len(self.found), packed_kernels.WINDOW)
        parts = [self.found[start : start + n] for start, n in zip(starts, self.counts.tolist(), strict=True)]
        listed = np.concatenate(parts) if parts else self.found
        return listed >> 2, listed & 3


@dataclass(frozen=True)
class _Sweep:
    """A margin table that is filled windows by windows."""

    accounts: Accounts
    packed: Packed
    prices: Prices
    figures: tuple[Float, Float, Float, Float]
    listed: _Listed

    @classmethod
    def of(cls, accounts: Accounts, prices: Prices) -> _Sweep:
        accounts.units.must_fit(prices.venue.units)
        packed = accounts.packed
        equity, exposure, initial, maintenance = packed.spare.take((4, len(packed.columns.account)), np.float64)
        return cls(accounts, packed, prices, (equity, exposure, initial, maintenance), _Listed.room(packed.columns))

    def windows(self, first: int, last: int) -> None:
        """Fill some windows."""
        packed, prices = self.packed, self.prices
        packed_kernels.sweep_windows(
            first, last, packed.columns, packed.slot, prices.rows,
            np.empty((packed_kernels.WINDOW, 4)), *self.figures, self.listed.found, self.listed.counts,
        )  # fmt: skip

    def table(self, time: Any) -> MarginTable:
        """The table, once all windows are filled."""
        count, (row, why) = len(self.accounts), self.listed.accounts()
        equity, exposure, initial, maintenance = (figure[:count] for figure in self.figures)
        sure, row = row[why == packed_kernels.SURE], row[why != packed_kernels.SURE]
        status, policy = np.zeros(count, np.uint8), self.prices.rows
        auto_close = np.maximum(
            maintenance[sure] / policy.acmf_divisor, maintenance[sure] - policy.acmf_offset * exposure[sure]
        )
        above = (equity[sure] > 0.0) & (auto_close <= equity[sure])
        status[sure] = np.where(above, kernels.LIQUIDATING, kernels.BELOW_AUTO_CLOSE)
        table = MarginTable(self.accounts.ids, equity, exposure, initial, maintenance, status, time)
        if row.size:
            table.put(row, margins_of(self.accounts, row, self.prices))
        return table


def selected(
    accounts: Accounts, columns: PackedColumns, prices: Prices, *, threads: int | None = None
) -> npt.NDArray[np.int64]:
    """Rows of the accounts at a maintenance margin ratio of 1 or more, ascending, of those that some columns hold."""
    accounts.units.must_fit(prices.venue.units)
    listed = _Listed.room(columns)

    def chunk(first: int, last: int) -> None:
        packed_kernels.select_windows(
            first, last, columns, prices.rows, listed.found, listed.counts
        )  # fmt: skip

    in_chunks(chunk, window_count(columns), threads, WINDOWS_WORTH_A_THREAD)
    row, why = listed.accounts()
    if why.any():
        look = np.sort(row[why != packed_kernels.SURE])
        look = look[margins_of(accounts, look, prices).liquidatable]
        row = np.concatenate([row[why == packed_kernels.SURE], look])
    return np.sort(row)


def margins_of(accounts: Accounts, row: Int, prices: Prices, *, time: Any = None) -> MarginTable:
    """Margin of some accounts, from their own columns, and exactly where float64 cannot decide."""
    accounts.units.must_fit(prices.venue.units)
    if not len(row):  # most ticks select nobody
        return MarginTable(accounts.ids[:0], _NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOBODY, time)
    equity, exposure, initial, maintenance = (np.empty(len(row)) for _ in range(4))
    status = np.empty(len(row), np.uint8)
    kernels.account_margins(row, accounts.columns, prices.columns, equity, exposure, initial, maintenance, status)
    for n in np.flatnonzero(status == kernels.DOUBT).tolist():
        found = exact.account_margin(accounts, int(row[n]), prices)
        equity[n], maintenance[n], status[n] = found.equity, found.maintenance, found.status
    return MarginTable(accounts.ids[row], equity, exposure, initial, maintenance, status, time)


def in_chunks(
    chunk: Callable[[int, int], None], count: int, threads: int | None, worth_a_thread: int = _WORTH_A_THREAD
) -> None:
    """Run a kernel over ``count`` accounts or windows in chunks ``first:last``, one to a thread.

    Chunks write disjoint rows, so the bits are the same for any number.
    """
    threads = thread_count(threads, count, worth_a_thread)
    edges = [count * n // threads for n in range(threads + 1)]
    if threads == 1:
        chunk(0, count)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(chunk, edges[:-1], edges[1:]))


def thread_count(threads: int | None, count: int, worth_a_thread: int) -> int:
    """Threads to take: None is every core, when there are enough accounts or windows to gain from it."""
    if threads is None:
        cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        threads = min(cores, count // worth_a_thread + 1)
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool):
        raise RiskDataError("threads", None, "must be a whole number >= 1, or None", value=threads)
    if threads < 1:
        raise ValueError(f"threads must be >= 1, not {threads}")
    return min(int(threads), max(count, 1))
