"""Parquet and CSV files of the tables that users hand in, and the ticks in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from .. import tables
from ..accounts import Accounts
from ..errors import RiskDataError
from ..tick import Books, Tick
from ..venue import Venue

Float = npt.NDArray[np.float64]


def read_table(path: str | Path, table: str) -> pd.DataFrame:
    """Read a table from a file, Parquet by its suffix, else CSV.

    Raises
    ------
    RiskDataError
        The file cannot be read, is not what its suffix says, or has no rows.
    """
    path = Path(path)
    parquet = path.suffix == ".parquet"
    try:
        frame = pd.read_parquet(path) if parquet else pd.read_csv(path)
    except OSError as error:
        # pyarrow reports a damaged file as an OSError without a number
        reason = error.strerror if error.errno else "it is not a Parquet file"
        raise RiskDataError(table, None, f"the file cannot be read: {reason}", value=str(path)) from None
    except (pyarrow.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise RiskDataError(table, None, f"must be a {'Parquet' if parquet else 'CSV'} file", value=str(path)) from None
    if not len(frame):
        raise RiskDataError(table, None, "must have at least one row", value=str(path))
    return frame


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table, Parquet by the suffix, else CSV; the file appears whole or not at all."""
    path = Path(path)
    fresh = path.with_name(f".{path.name}.new")
    try:
        if path.suffix == ".parquet":
            frame.to_parquet(fresh, index=False, compression="zstd")
        else:
            frame.to_csv(fresh, index=False)
        os.replace(fresh, path)
    except OSError as error:
        raise RiskDataError("out", None, f"cannot be written: {error.strerror}", value=str(path)) from None
    finally:
        fresh.unlink(missing_ok=True)


@dataclass(frozen=True)
class TickTable:
    """Ticks of a run in time order; T instants, M markets, K assets, NaN where a price is not given.

    Attributes
    ----------
    time : ndarray of int64, shape (T,)
    mark, index : ndarray of float64, shape (T, M)
    asset : ndarray of float64, shape (T, K)
    books : dict of int64 to Books
        By time; an instant without an entry has no depth.
    """

    venue: Venue
    time: npt.NDArray[np.int64]
    mark: Float
    index: Float
    asset: Float
    books: dict[int, Books]

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Tick]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[Tick]:
        """Ticks from number ``first`` on."""
        return (self.tick(t) for t in range(first, len(self)))

    def tick(self, t: int) -> Tick:
        """Tick number ``t``."""
        markets, assets = self.venue.markets.symbol, self.venue.assets.symbol
        time = int(self.time[t])
        return Tick(
            time, _known(self.mark[t], markets), self.books.get(time), _known(self.index[t], markets),
            _known(self.asset[t], assets),
        )  # fmt: skip


def _known(row: Float, names: tuple[str, ...]) -> dict[str, float]:
    return {name: price for name, price in zip(names, row.tolist(), strict=True) if price == price}


def read_ticks(
    venue: Venue,
    accounts: Accounts,
    marks: pd.DataFrame,
    books: pd.DataFrame | None = None,
    asset_prices: pd.DataFrame | None = None,
) -> TickTable:
    """Collect ticks from tables in natural units: one tick per time in ``marks``.

    Parameters
    ----------
    marks
        time, market, mark_price, index_price (optional): every held market at every time.
    books
        time, market, side, level, price, quantity; times of ``marks``.
    asset_prices
        time, asset, price; times of ``marks``.

    Raises
    ------
    RiskDataError
        A table breaks a rule, a held market lacks a mark at some time, or a time is unknown to ``marks``.
    """
    marks = tables.checked("marks", marks)
    stamp = tables.times("marks", marks["time"])
    time, row = np.unique(stamp, return_inverse=True)
    market = tables.codes("marks", "market", marks["market"], venue.markets.symbol, "a market")
    mark = np.full((len(time), len(venue.markets.symbol)), np.nan)
    index, asset = mark.copy(), np.full((len(time), len(venue.assets.symbol)), np.nan)
    mark[row, market] = marks["mark_price"].to_numpy()
    if "index_price" in marks.columns:
        index[row, market] = marks["index_price"].to_numpy()
    columns = accounts.columns
    for m in np.unique(columns.market[(columns.lots != 0) | (columns.open_bid != 0) | (columns.open_ask != 0)]):
        missing = np.flatnonzero(np.isnan(mark[:, m]))
        if missing.size:
            raise RiskDataError(
                "marks", "mark_price", "a market that an account holds must have a mark at every time",
                row=f"time {pd.Timestamp(time[missing[0]], tz='UTC')}", value=venue.markets.symbol[m],
            )  # fmt: skip
    if asset_prices is not None:
        asset_prices = tables.checked("asset_prices", asset_prices)
        kept = tables.codes("asset_prices", "asset", asset_prices["asset"], venue.assets.symbol, "a collateral asset")
        at = _row_of_time("asset_prices", time, asset_prices["time"])
        asset[at, kept] = asset_prices["price"].to_numpy()
    levels: dict[int, Books] = {}
    if books is not None:
        books = tables.checked("books", books)
        _row_of_time("books", time, books["time"])
        levels = dict(Books.split(venue, books))
    return TickTable(venue, time, mark, index, asset, levels)


def _row_of_time(table: str, time: npt.NDArray[np.int64], values: pd.Series[Any]) -> npt.NDArray[np.int64]:
    stamp = tables.times(table, values)
    row = np.minimum(np.searchsorted(time, stamp), len(time) - 1)
    bad = np.flatnonzero(time[row] != stamp)
    if bad.size:
        raise RiskDataError(
            table, "time", "must be a time of the marks table", row=int(bad[0]), value=str(values.iloc[bad[0]])
        )
    return row
