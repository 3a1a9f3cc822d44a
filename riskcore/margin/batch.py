"""Margins, and the accounts at 100 %, at one vector of prices or at each of many.

Vectors are taken in blocks, and positions are read from memory once for a block. Where only the accounts at 100 % are
asked for, a block has price intervals: one pass over all accounts tells who is below 100 %, or above it, at all prices
inside, and the block's rows compute the others alone (docs/decisions/0014-price-intervals.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, overload

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..boundary import RiskDataError, counted
from ..boundary.threads import thread_count
from ..kernels.layouts import SweepColumns
from ..market import PriceMap, Prices, PriceTable, Tick, read_prices
from ..state import Accounts, chunk_count
from ..venue import Venue
from .model import model_of
from .screen import PriceIntervals, interval_values
from .sweep import (
    CHUNKS_PER_THREAD,
    COLUMNS,
    MarginTable,
    Selection,
    margin_table,
    margin_tables,
    selected,
    selection,
)

T = TypeVar("T")
PriceMaps: TypeAlias = "PriceMap | pd.DataFrame"

_MAX_MARGINS = 1 << 22  # rows of all tables of a block together, unless a single table has more
_MIN_ACCOUNTS = 1 << 14  # below so many accounts, computing all takes less time than making intervals
_FIRST, _SHORTEST, _LONGEST = 64, 8, 512  # rows of a block
_MAX_SELECTED = 1 << 22  # accounts that may be selected at the rows of a block, all rows together
_COPY = 16  # accounts that are computed in the time of copying one
_PARTS, _PART, _MIN_IN_DOUBT = 8, 32, 4096  # parts of a block, least rows of a part, least accounts in doubt
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class MarginTables:
    """Margin tables of several price rows, in their order; iterating gives one after another.

    Attributes
    ----------
    rows : tuple of MarginTable
        A table per price row; its ``time`` is the row's label.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> path = pd.DataFrame({market: [200.0, 195.0, 190.0]}, index=["20:00", "21:00", "22:00"])
    >>> [(table.time, int(table.liquidatable.sum())) for table in rc.sweep(accounts, venue, path)]
    [('20:00', 0), ('21:00', 0), ('22:00', 1)]
    """

    rows: tuple[MarginTable, ...]

    def __iter__(self) -> Iterator[MarginTable]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """One line: price rows, and the last table."""
        return f"MarginTables({counted(len(self), 'price row')}{f', the last {self.rows[-1]}' if self.rows else ''})"

    def to_frame(self) -> pd.DataFrame:
        """Return one table with the column time in front.

        Returns
        -------
        DataFrame
            time (label of the price row) and the columns of `MarginTable.to_frame`; a row per price row and account.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> path = pd.DataFrame({market: [200.0, 195.0]}, index=["20:00", "21:00"])
        >>> frame = rc.sweep(accounts, venue, path).to_frame()
        >>> frame.loc[frame["account"] == 1, "net_equity"].tolist()
        [80.0, 30.0]
        """
        return join_tables(self.rows)


@dataclass(frozen=True)
class Selections:
    """Accounts at a maintenance margin ratio of 1 or more at each of several price rows, in their order.

    Iterating gives a `Selection` per price row.

    Attributes
    ----------
    row : tuple of ndarray of int64
        Account rows of each price row, ascending.
    accounts : Accounts
        The accounts that the rows are rows of.
    prices : PriceTable
        The prices, T rows.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> path = pd.DataFrame({market: [200.0, 195.0, 190.0]}, index=["20:00", "21:00", "22:00"])
    >>> selections = rc.select(accounts, venue, path)
    >>> selections
    Selections(3 price rows, 1 of 2 accounts at 100 % or above)
    >>> [(selection.time, selection.account.tolist()) for selection in selections]
    [('20:00', []), ('21:00', []), ('22:00', [1])]
    """

    row: tuple[Int, ...]
    accounts: Accounts
    prices: PriceTable

    def __iter__(self) -> Iterator[Selection]:
        for t, row in enumerate(self.row):
            yield Selection(row, self.accounts, self.prices.row(t), self.prices.time[t])

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        """One line: price rows, and the accounts selected in any of them, of how many."""
        chosen = len(np.unique(np.concatenate((np.empty(0, np.int64), *self.row))))
        sizes = f"{counted(len(self), 'price row')}, {chosen:,} of {counted(len(self.accounts), 'account')}"
        return f"Selections({sizes} at 100 % or above)"

    def to_frame(self) -> pd.DataFrame:
        """Return the margin of these accounts; it is computed by this call.

        Returns
        -------
        DataFrame
            As of `MarginTables.to_frame`, with the rows of the selected accounts only.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> path = pd.DataFrame({market: [195.0, 190.0]}, index=["21:00", "22:00"])
        >>> rc.select(accounts, venue, path).to_frame()[["time", "account", "net_equity"]].to_dict("records")
        [{'time': '22:00', 'account': 1, 'net_equity': -20.0}]
        """
        return join_tables([each.table() for each in self])


def join_tables(tables: tuple[MarginTable, ...] | list[MarginTable]) -> pd.DataFrame:
    """Join one margin table or more in one frame, with the column time in front.

    Parameters
    ----------
    tables : sequence of MarginTable
        At least one table.

    Returns
    -------
    DataFrame
        time (label of the price row) and the columns of `MarginTable.to_frame`.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import join_tables
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> tables = [rc.sweep(accounts, venue, {market: mark}) for mark in (200.0, 195.0)]
    >>> join_tables(tables)["net_equity"].tolist()
    [80.0, 400.0, 30.0, 425.0]
    """
    time = pd.Index([table.time for table in tables]).repeat([len(table.account) for table in tables])
    return pd.DataFrame({"time": time} | {n: np.concatenate([getattr(t, n) for t in tables]) for n in COLUMNS})


@overload
def sweep(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame | Sequence[Tick],
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
    prices: PriceMap | Tick,
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
    """Compute the margin of every account.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue whose markets and margin functions apply; the accounts were read with one of the same units.
    prices : mapping of str to float, Series, Tick, DataFrame or list of Tick
        Mark price by market symbol, settle units (asset symbols are taken as asset prices), or a tick; or many of them:
        a frame with a column per market and a row per instant, NaN where a market without positions has no price, or a
        list of ticks. A venue with options needs ticks.
    indexes, asset_prices, open_interest : mapping of str to float, Series or DataFrame, optional
        As of `Tick`; beside a frame of prices also a frame of the same index. None beside a tick, which has its own.
    threads : int, optional
        Number of threads, >= 1; None takes every core when there are enough accounts to gain from it. The bits are the
        same for any number.
    out : MarginTable, optional
        A table of an earlier sweep of the same accounts, not with a frame of prices: its arrays take the new figures,
        and the table returned has them, so that a loop allocates no memory.

    Returns
    -------
    MarginTable or MarginTables
        MarginTables for a frame of prices or a list of ticks, all at once; `sweep_rows` gives one after another.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0, names nothing of the venue, the accounts were read with a venue of
        other units, or ``out`` is no table of a sweep of these accounts.

    Notes
    -----
    The rule: docs/one_tick.md, "Margin of an account".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> market = "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": [1, 2], "market": market, "quantity": [10.0, -5.0], "entry_price": 200.0})
    >>> balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [80.0, 400.0]})
    >>> accounts = rc.Accounts.from_frames(venue, positions, balances)
    >>> table = rc.sweep(accounts, venue, {market: 195.0})
    >>> table
    MarginTable(2 accounts, 0 at 100 % or above, highest MMR 87.75%)
    >>> table.net_equity.tolist()
    [30.0, 425.0]
    """
    read = read_prices(venue, accounts, prices, indexes, asset_prices, open_interest)
    if isinstance(read, Prices):
        return margin_table(accounts, read, threads=threads, out=out)
    if out is not None:
        raise RiskDataError("out", None, "must be None with a frame of prices: each row has a table of its own")
    return MarginTables(tuple(sweep_table(accounts, read, threads)))


@overload
def select(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame | Sequence[Tick],
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
    prices: PriceMap | Tick,
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
    """Select the accounts at a maintenance margin ratio of 1 or more; no table of the others is made.

    Of a frame of prices, only the accounts that its moves may bring to 100 % are computed row by row.

    Parameters
    ----------
    accounts, venue, prices, indexes, asset_prices, open_interest, threads
        As of `sweep`.

    Returns
    -------
    Selection or Selections
        Selections for a frame of prices.

    Raises
    ------
    RiskDataError
        As of `sweep`.

    Notes
    -----
    The rule: docs/one_tick.md, "Select".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> selection = rc.select(accounts, venue, {market: 190.0})
    >>> selection
    Selection(1 of 2 accounts at 100 % or above)
    >>> selection.account.tolist()
    [1]
    """
    read = read_prices(venue, accounts, prices, indexes, asset_prices, open_interest)
    if isinstance(read, Prices):
        return selection(accounts, read, threads=threads)
    return Selections(tuple(select_table(accounts, read, threads, lambda each: each.row)), accounts, read)


def sweep_rows(
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame | Sequence[Tick],
    *,
    indexes: PriceMaps | None = None,
    asset_prices: PriceMaps | None = None,
    open_interest: PriceMaps | None = None,
    threads: int | None = None,
) -> Iterator[MarginTable]:
    """Compute the margin of every account at each row of a frame, one table after another.

    It needs the memory of a few tables at a time, where `sweep` needs that of all.

    Parameters
    ----------
    accounts, venue
        As of `sweep`.
    prices : DataFrame or list of Tick
        Mark prices, settle units: a column per market and a row per instant. Or ticks.
    indexes, asset_prices, open_interest, threads
        As of `sweep`.

    Returns
    -------
    iterator of MarginTable
        A table per row of ``prices``, in their order.

    Raises
    ------
    RiskDataError
        As of `sweep`, for any row, before the first table is computed.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> path = pd.DataFrame({market: [200.0, 195.0, 190.0]}, index=["20:00", "21:00", "22:00"])
    >>> [round(float(table.mmr.max()), 4) for table in rc.sweep_rows(accounts, venue, path)]
    [0.3375, 0.8775, inf]
    """
    table = PriceTable.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    return sweep_table(accounts, table, threads)


def sweep_table(accounts: Accounts, prices: PriceTable, threads: int | None) -> Iterator[MarginTable]:
    """Compute the margin tables at complete prices, a block of rows at a time.

    Parameters
    ----------
    accounts : Accounts
        The state.
    prices : PriceTable
        Complete prices of T instants.
    threads : int or None
        As of `sweep`.

    Returns
    -------
    iterator of MarginTable
        T tables, in the order of the rows.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.margin import sweep_table
    >>> from riskcore.market import PriceTable
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, 195.0]}))
    >>> [table.net_equity.tolist() for table in sweep_table(accounts, prices, 1)]
    [[80.0, 400.0], [30.0, 425.0]]
    """
    block = max(1, _MAX_MARGINS // max(len(accounts), 1))
    for first in range(0, len(prices), block):
        rows = range(first, min(first + block, len(prices)))
        vectors, times = [prices.row(t) for t in rows], [prices.time[t] for t in rows]
        tables = margin_tables(accounts, vectors, times, threads=threads)
        while tables:
            yield tables.pop(0)


def select_table(
    accounts: Accounts, prices: PriceTable, threads: int | None, function: Callable[[Selection], T]
) -> Iterator[T]:
    """Select the accounts at each row of complete prices, and yield a function's result for each selection.

    A thread computes a block of rows. The order in which blocks are done decides their length, not their selections.

    Parameters
    ----------
    accounts : Accounts
        The state.
    prices : PriceTable
        Complete prices of T instants.
    threads : int or None
        As of `sweep`.
    function : callable
        Called with the `Selection` of each row, by any of the threads.

    Returns
    -------
    iterator
        T results of ``function``, in the order of the rows.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Notes
    -----
    How the blocks are screened: docs/decisions/0014-price-intervals.md.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.margin import select_table
    >>> from riskcore.market import PriceTable
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, 190.0]}))
    >>> list(select_table(accounts, prices, 1, len))
    [0, 1]
    """
    chunks = chunk_count(accounts.sweep_view.columns)
    threads = thread_count(threads, chunks, CHUNKS_PER_THREAD)
    blocks, begun = _Blocks(accounts, prices, function, model_of(prices.venue).bound), 0
    waiting: deque[tuple[int, int, Future[list[T] | None]]] = deque()
    pool = ThreadPoolExecutor(threads)

    def begin(first: int, last: int, with_intervals: bool) -> tuple[int, int, Future[list[T] | None]]:
        return first, last, pool.submit(blocks.compute, first, last, with_intervals)

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
    function: Callable[[Selection], T]
    bound: Callable[[Prices, Float, Float], PriceIntervals] | None
    length: int = _FIRST

    def next(self) -> tuple[int, bool]:
        """Rows of the next block, and whether it is worth a set of price intervals."""
        if self.length < _SHORTEST:
            self.length = _SHORTEST
            return _SHORTEST, False
        return self.length, self.bound is not None and len(self.accounts) >= _MIN_ACCOUNTS

    def compute(self, first: int, last: int, with_intervals: bool) -> list[T] | None:
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
        if in_doubt < _MIN_IN_DOUBT or length < 2 * part_length:
            return self._rows(columns, confirmed, first, last)
        results = []
        for start in range(first, last, part_length):
            end = min(start + part_length, last)
            results += self._rows(*self._in_doubt(columns, confirmed, start, end), start, end)
        return results

    def _in_doubt(self, columns: SweepColumns, confirmed: Int, first: int, last: int) -> tuple[SweepColumns, Int]:
        """Columns of the accounts in doubt at these rows, and rows of the accounts above 100 % at all of them."""
        values = interval_values(self.prices.rows(first, last))
        assert self.bound is not None
        intervals = self.bound(self.prices.row(first), np.fmin.reduce(values), np.fmax.reduce(values))
        watch, confirmed_slots = intervals.decide(columns, 0, chunk_count(columns))
        return watch.columns, np.sort(np.concatenate([confirmed, columns.account[confirmed_slots].astype(np.int64)]))

    def _rows(self, columns: SweepColumns, confirmed: Int, first: int, last: int) -> list[T]:
        """Compute the accounts of some columns at each row; the ``confirmed`` ones are above 100 %."""
        results = []
        for t in range(first, last):
            prices = self.prices.row(t)
            row = selected(self.accounts, columns, prices, threads=1)
            row = np.sort(np.concatenate([confirmed, row]), kind="stable")  # merges: both are sorted
            results.append(self.function(Selection(row, self.accounts, prices, self.prices.time[t])))
        return results
