"""Margins, and who is at 100 %, at one vector of prices or at each of many.

Vectors are taken in blocks, and positions are read from memory once for a block. Where only the accounts at 100 % are
asked for, a block has price intervals: one pass over all accounts tells who is below 100 %, or above it, at all prices
inside, and the block's rows compute the others alone (docs/decisions/0014-price-intervals.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, overload

import numpy as np
import pandas as pd

from .._typing import Int
from ..boundary import RiskDataError, frames
from ..kernels.layouts import SweepColumns
from ..market import PriceMap, Prices, PriceTable
from ..state import Accounts, chunk_count
from ..venue import Venue
from .screen import PriceIntervals, interval_values
from .sweep import (
    CHUNKS_WORTH_A_THREAD,
    COLUMNS,
    MarginTable,
    Selection,
    margin_table,
    margin_tables,
    selected,
    selection,
    thread_count,
)

T = TypeVar("T")
PriceMaps: TypeAlias = "PriceMap | pd.DataFrame"

_MARGINS = 1 << 22  # rows of all tables of a block together, unless a single table has more
_FEW = 1 << 14  # below so many accounts, computing all takes less time than making intervals
_FIRST, _SHORTEST, _LONGEST = 64, 8, 512  # rows of a block
_MAX_SELECTED = 1 << 22  # accounts that may be selected at the rows of a block, all rows together
_COPY = 16  # accounts that are computed in the time of copying one
_PARTS, _PART, _WORTH_PARTS = 8, 32, 4096  # parts of a block, least rows of a part, least accounts in doubt
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class MarginTables:
    """Margin tables of several price rows, in their order."""

    rows: tuple[MarginTable, ...]

    def __iter__(self) -> Iterator[MarginTable]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one table with the column time in front."""
        return joined(self.rows)


@dataclass(frozen=True)
class Selections:
    """Accounts at a maintenance margin ratio of 1 or more at each of several price rows, in their order.

    Attributes
    ----------
    row : tuple of ndarray of int64
        Account rows of each price row, ascending.
    accounts : Accounts
    prices : PriceTable
    """

    row: tuple[Int, ...]
    accounts: Accounts
    prices: PriceTable

    def __iter__(self) -> Iterator[Selection]:
        for t, row in enumerate(self.row):
            yield Selection(row, self.accounts, self.prices.row(t), self.prices.time[t])

    def __len__(self) -> int:
        return len(self.row)

    def to_frame(self) -> pd.DataFrame:
        """Return the margin of these accounts as of `MarginTables.to_frame`, computed when this is asked."""
        return joined([each.table() for each in self])


def joined(tables: tuple[MarginTable, ...] | list[MarginTable]) -> pd.DataFrame:
    """One frame of one table or more, with the column time in front."""
    time = pd.Index([table.time for table in tables]).repeat([len(table.account) for table in tables])
    return pd.DataFrame({"time": time} | {n: np.concatenate([getattr(t, n) for t in tables]) for n in COLUMNS})


@overload
def sweep(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame,
    *,
    indexes: PriceMaps | None = ...,
    asset_prices: PriceMaps | None = ...,
    open_interest: PriceMaps | None = ...,
    threads: int | None = ...,
) -> MarginTables: ...


@overload
def sweep(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap,
    *,
    indexes: PriceMap | None = ...,
    asset_prices: PriceMap | None = ...,
    open_interest: PriceMap | None = ...,
    threads: int | None = ...,
    out: MarginTable | None = ...,
) -> MarginTable: ...


def sweep(
    accounts: Accounts,
    venue: Venue,
    prices: Any,
    *,
    indexes: Any = None,
    asset_prices: Any = None,
    open_interest: Any = None,
    threads: int | None = None,
    out: MarginTable | None = None,
) -> MarginTable | MarginTables:
    """Margin of every account.

    Parameters
    ----------
    accounts, venue
        The state and its rules.
    prices
        Mark price by market symbol (a dict or a Series; asset symbols are taken as asset prices), or a frame with a
        column per market and a row per instant, NaN where a market that nobody holds has none.
    indexes, asset_prices, open_interest
        As of `Tick`; beside a frame of prices also a frame of the same index.
    threads
        Number of threads; None takes every core when there are enough accounts to gain from it. The bits are the
        same for any number.
    out
        A table of an earlier sweep of the same accounts, not with a frame of prices: its arrays take the new figures,
        and the table returned has them, so that a loop allocates no memory.

    Returns
    -------
    MarginTable, or MarginTables for a frame of prices: all of them, where `sweep_rows` gives one after another.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0, or ``out`` is no table of a sweep of these accounts.
    """
    if frames.is_frame(prices):
        if out is not None:
            raise RiskDataError("out", None, "must be None with a frame of prices: each row has a table of its own")
        others = indexes, asset_prices, open_interest
        return MarginTables(tuple(sweep_table(accounts, PriceTable.read(venue, accounts, prices, *others), threads)))
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    return margin_table(accounts, read, threads=threads, out=out)


@overload
def select(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame,
    *,
    indexes: PriceMaps | None = ...,
    asset_prices: PriceMaps | None = ...,
    open_interest: PriceMaps | None = ...,
    threads: int | None = ...,
) -> Selections: ...


@overload
def select(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap,
    *,
    indexes: PriceMap | None = ...,
    asset_prices: PriceMap | None = ...,
    open_interest: PriceMap | None = ...,
    threads: int | None = ...,
) -> Selection: ...


def select(
    accounts: Accounts,
    venue: Venue,
    prices: Any,
    *,
    indexes: Any = None,
    asset_prices: Any = None,
    open_interest: Any = None,
    threads: int | None = None,
) -> Selection | Selections:
    """Accounts at a maintenance margin ratio of 1 or more: a sweep that writes nothing else down.

    Of a frame of prices, only the accounts that its moves may bring to 100 % are looked at row by row.

    Parameters
    ----------
    accounts, venue, prices, indexes, asset_prices, open_interest, threads
        As of `sweep`.

    Returns
    -------
    Selection, or Selections for a frame of prices.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0.
    """
    if frames.is_frame(prices):
        table = PriceTable.read(venue, accounts, prices, indexes, asset_prices, open_interest)
        return Selections(tuple(select_table(accounts, table, threads, lambda each: each.row)), accounts, table)
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    return selection(accounts, read, threads=threads)


def sweep_rows(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame,
    *,
    indexes: PriceMaps | None = None,
    asset_prices: PriceMaps | None = None,
    open_interest: PriceMaps | None = None,
    threads: int | None = None,
) -> Iterator[MarginTable]:
    """Margin of every account at each row of a frame, one table after another: for those who cannot hold all of them.

    Arguments and errors as of `sweep`; prices are refused before the first table.
    """
    table = PriceTable.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    return sweep_table(accounts, table, threads)


def sweep_table(accounts: Accounts, prices: PriceTable, threads: int | None) -> Iterator[MarginTable]:
    """Margin tables at prices that are complete, computed a block of rows at a time."""
    block = max(1, _MARGINS // max(len(accounts), 1))
    for first in range(0, len(prices), block):
        rows = range(first, min(first + block, len(prices)))
        vectors, times = [prices.row(t) for t in rows], [prices.time[t] for t in rows]
        tables = margin_tables(accounts, vectors, times, threads=threads)
        while tables:
            yield tables.pop(0)


def select_table(
    accounts: Accounts, prices: PriceTable, threads: int | None, then: Callable[[Selection], T]
) -> Iterator[T]:
    """Results of ``then`` for the selection at each row of prices, in their order.

    Each block is the work of one thread. The lengths of blocks depend on timing, the selections do not.
    """
    chunks = chunk_count(accounts.sweep_view.columns)
    threads = thread_count(threads, chunks, CHUNKS_WORTH_A_THREAD)
    blocks, begun = _Blocks(accounts, prices, then), 0
    waiting: deque[tuple[int, int, Future[list[T] | None]]] = deque()
    pool = ThreadPoolExecutor(threads)

    def begin(first: int, last: int, with_intervals: bool) -> tuple[int, int, Future[list[T] | None]]:
        return first, last, pool.submit(blocks.take, first, last, with_intervals)

    try:
        while waiting or begun < len(prices):
            while len(waiting) <= threads and begun < len(prices):
                length, with_intervals = blocks.next()
                end = min(begun + min(length, -(-len(prices) // threads)), len(prices))
                waiting.append(begin(begun, end, with_intervals))
                begun = end
            first, last, block = waiting.popleft()
            results = block.result()
            if results is None:
                middle = (first + last) // 2
                waiting.extendleft(
                    begin(*part, middle - first >= _SHORTEST) for part in ((middle, last), (first, middle))
                )
            else:
                yield from results
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Blocks(Generic[T]):
    """Computes selections block by block, and chooses the length of the next block."""

    accounts: Accounts
    prices: PriceTable
    then: Callable[[Selection], T]
    length: int = _FIRST

    def next(self) -> tuple[int, bool]:
        """Rows of the next block, and whether it is worth a set of price intervals."""
        if self.length < _SHORTEST:
            self.length = _SHORTEST
            return _SHORTEST, False
        return self.length, len(self.accounts) >= _FEW

    def take(self, first: int, last: int, with_intervals: bool) -> list[T] | None:
        """Results of the rows ``first:last``; None if too many accounts may be selected to keep them in memory."""
        columns, count, length = self.accounts.sweep_view.columns, len(self.accounts), last - first
        if not with_intervals:
            return self._rows(columns, _NONE, first, last)
        columns, confirmed = self._in_doubt(columns, _NONE, first, last)
        in_doubt, max_rows = len(columns.account), _MAX_SELECTED // (len(confirmed) + len(columns.account) + 1)
        work = in_doubt * (_COPY + length)
        next_length = 2 * length if work < count else length if work <= 4 * count else length // 2
        self.length = min(next_length, _LONGEST, max_rows // 2)
        if length > max(max_rows, 1):
            return None
        part_length = max(_PART, -(-length // _PARTS))
        if in_doubt < _WORTH_PARTS or length < 2 * part_length:
            return self._rows(columns, confirmed, first, last)
        results = []
        for start in range(first, last, part_length):
            end = min(start + part_length, last)
            results += self._rows(*self._in_doubt(columns, confirmed, start, end), start, end)
        return results

    def _in_doubt(self, columns: SweepColumns, confirmed: Int, first: int, last: int) -> tuple[SweepColumns, Int]:
        """Columns of the accounts in doubt at these rows, and rows of the accounts above 100 % at all of them."""
        values = interval_values(self.prices.rows(first, last))
        intervals = PriceIntervals.around(self.prices.row(first), np.fmin.reduce(values), np.fmax.reduce(values))
        watch, confirmed_slots = intervals.tried(columns, 0, chunk_count(columns))
        return watch.columns, np.sort(np.concatenate([confirmed, columns.account[confirmed_slots].astype(np.int64)]))

    def _rows(self, columns: SweepColumns, confirmed: Int, first: int, last: int) -> list[T]:
        """Compute the accounts of some columns at each row; the ``confirmed`` ones are above 100 %."""
        results = []
        for t in range(first, last):
            prices = self.prices.row(t)
            row = selected(self.accounts, columns, prices, threads=1)
            row = np.sort(np.concatenate([confirmed, row]), kind="stable")  # merges: both are sorted
            results.append(self.then(Selection(row, self.accounts, prices, self.prices.time[t])))
        return results
