"""Margin tables at many prices, written while they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..boundary import RiskDataError
from ..margin import MarginTable, PriceMaps, Selection, join_tables, margins_of, select_table, sweep_table
from ..market import PriceTable, Tick, TickTable
from ..state import Accounts
from ..venue import Venue
from .files import TABLES, escape_formulas, output_file, write_atomically

_LINES, _PER_ROW = 1 << 20, 256  # rows written at once; rows that a price row counts in addition to its accounts


def write_sweep(
    path: str | Path,
    accounts: Accounts,
    venue: Venue,
    prices: pd.DataFrame | TickTable | Sequence[Tick],
    *,
    indexes: PriceMaps | None = None,
    asset_prices: PriceMaps | None = None,
    open_interest: PriceMaps | None = None,
    select_only: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[int]:
    """Write the margin of every account at every price row, Parquet or CSV by the suffix.

    Rows are written while the next rows are computed, and not kept: memory does not grow with the number of rows.
    The file appears whole or not at all. Its columns are those of `MarginTables.to_frame`; texts in a CSV file are
    written as of `write_table`.

    Parameters
    ----------
    path : str or Path
        The file to write, or to replace.
    accounts, venue
        As of `riskcore.sweep`.
    prices : DataFrame, TickTable or list of Tick
        As of `riskcore.sweep`; of a `TickTable` the prices, unguarded, and nothing beside it.
    indexes, asset_prices, open_interest
        As of `riskcore.sweep`.
    select_only : bool
        Whether to write the accounts at a maintenance margin ratio of 1 or more alone.
    threads : int, optional
        As of `riskcore.sweep`.
    progress : callable, optional
        Called with the number of rows done, and of all.

    Returns
    -------
    list of int
        Number of accounts at a ratio of 1 or more, by price row.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from riskcore.io import write_sweep
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> path = Path(tempfile.mkdtemp()) / "margins.parquet"
    >>> write_sweep(path, accounts, venue, pd.DataFrame({market: [195.0, 190.0]}, index=["21:00", "22:00"]))
    [0, 1]
    >>> pd.read_parquet(path)["net_equity"].tolist()
    [30.0, 425.0, -20.0, 450.0]
    """
    if isinstance(prices, TickTable):
        prices.venue.units.must_fit(venue.units, "ticks")
        time = pd.to_datetime(prices.time, unit="ns", utc=True)
        if venue.has_scenarios:
            price_rows = replace(PriceTable.of_ticks(venue, accounts, list(prices)), time=time)
        else:
            rows = prices.mark, prices.index, prices.open_interest, prices.asset
            price_rows = PriceTable.of(venue, accounts, time, *rows)
    else:
        price_rows = PriceTable.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    parquet = output_file(path, TABLES).suffix.lower() == ".parquet"
    if not parquet and isinstance(price_rows.time, pd.DatetimeIndex):
        # as text at once: the fraction of one second makes that of all others seen
        price_rows = replace(price_rows, time=price_rows.time.astype(str))
    counts: list[int] = []

    def tables() -> Iterator[MarginTable]:
        tables_of_rows = (
            select_table(accounts, price_rows, threads, Selection.table)
            if select_only
            else sweep_table(accounts, price_rows, threads)
        )
        for done, table in enumerate(tables_of_rows, 1):
            counts.append(int(table.liquidatable.sum()))
            yield table
            if progress is not None:
                progress(done, len(price_rows))

    def fill(file: BinaryIO) -> None:
        some = margins_of(accounts, np.arange(len(accounts))[:1], price_rows.row(0), time=price_rows.time[0])
        like = join_tables([some])
        with (
            parquet_writer(file, like, ["time"]) if parquet else csv_writer(file) as write,
            ThreadPoolExecutor(1) as pool,
        ):
            writing = None
            for frame in _frames(tables()):
                if writing is not None:
                    writing.result()
                writing = pool.submit(write, frame)
            if writing is not None:
                writing.result()

    write_atomically(path, fill, TABLES)
    return counts


def _frames(tables: Iterator[MarginTable]) -> Iterator[pd.DataFrame]:
    """Tables joined to no more lines than are written at once, or a single one."""
    group: list[MarginTable] = []
    lines = 0
    for table in tables:
        more = len(table.account) + _PER_ROW
        if group and lines + more > _LINES:
            yield join_tables(group)
            group, lines = [], 0
        group.append(table)
        lines += more
    if group:
        yield join_tables(group)


@contextmanager
def parquet_writer(
    file: BinaryIO, like: pd.DataFrame, repeating: list[str]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write frames of one kind to a Parquet file; columns that hardly repeat need no dictionary."""
    schema = pa.Schema.from_pandas(like, preserve_index=False)
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeating) as writer:

        def write(frame: pd.DataFrame) -> None:
            try:
                table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            except pa.ArrowException:
                raise RiskDataError("marks", "time", "must be labels of one kind") from None
            writer.write_table(table)

        yield write


@contextmanager
def csv_writer(file: BinaryIO) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write frames to a CSV file, the header once."""
    yield lambda frame: escape_formulas(frame).to_csv(file, index=False, header=not file.tell())
