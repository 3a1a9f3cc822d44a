"""The sweep: the margin table of all accounts at the prices of one instant, or of many."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import exact
from .accounts import Accounts
from .errors import RiskDataError
from .kernels import margin as kernels
from .tick import PriceMap, Prices
from .venue import Venue

Float = npt.NDArray[np.float64]

_WORTH_A_THREAD = 50_000  # accounts


@dataclass(frozen=True)
class MarginTable:
    """Margin of every account in settle units; arrays of shape (A,), accounts ascending by id.

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
        """Accounts whose maintenance margin ratio is 1 or more."""
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

    def to_frame(self) -> pd.DataFrame:
        """Return the table in settle units, with both ratios and the column liquidatable."""
        return pd.DataFrame(
            {
                "account": self.account,
                "net_equity": self.net_equity,
                "exposure": self.exposure,
                "initial_margin": self.initial_margin,
                "maintenance_margin": self.maintenance_margin,
                "imr": self.imr,
                "mmr": self.mmr,
                "liquidatable": self.liquidatable,
            }
        )


@dataclass(frozen=True)
class MarginTables:
    """Margin tables of several price rows, in their order."""

    rows: tuple[MarginTable, ...]

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one table with the column time in front."""
        frames = [t.to_frame() for t in self.rows]
        for frame, table in zip(frames, self.rows, strict=True):
            frame.insert(0, "time", table.time)
        return pd.concat(frames, ignore_index=True)


def _ratio(margin: Float, equity: Float, exposure: Float) -> Float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(equity > 0, margin / equity, np.inf)
    return np.where(exposure == 0, 0.0, ratio)


def sweep(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap | pd.DataFrame,
    *,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
    threads: int | None = None,
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
        As of `Tick`.
    threads
        Number of threads; None takes every core when there are enough accounts to gain from it. The bits are the
        same for any number.

    Returns
    -------
    MarginTable, or MarginTables for a frame of prices.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0.
    """
    if not isinstance(prices, pd.DataFrame):
        read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
        return margin_table(accounts, read, threads=threads)
    if not len(prices):
        raise RiskDataError("marks", None, "must have at least one row")
    found = []
    for time, row in prices.iterrows():
        read = Prices.read(venue, accounts, row.dropna(), indexes, asset_prices, open_interest)
        found.append(margin_table(accounts, read, threads=threads, time=time))
    return MarginTables(tuple(found))


def margin_table(accounts: Accounts, prices: Prices, *, threads: int | None = None, time: Any = None) -> MarginTable:
    """Sweep all accounts at prices that are already complete."""
    count = len(accounts)
    equity, exposure, initial, maintenance = (np.empty(count) for _ in range(4))
    status = np.empty(count, np.uint8)

    def chunk(first: int, last: int) -> None:
        kernels.sweep_margins(
            first, last, accounts.columns, prices.columns, equity, exposure, initial, maintenance, status
        )

    in_chunks(chunk, count, threads)
    for account in np.flatnonzero(status == kernels.DOUBT).tolist():
        found = exact.account_margin(accounts, account, prices)
        equity[account], maintenance[account], status[account] = found.equity, found.maintenance, found.status
    return MarginTable(accounts.ids, equity, exposure, initial, maintenance, status, time)


def in_chunks(chunk: Callable[[int, int], None], count: int, threads: int | None) -> None:
    """Run a kernel over ``count`` accounts in chunks ``first:last``, one to a thread.

    None takes every core when there are enough accounts to gain from it. Chunks write disjoint rows, so the bits are
    the same for any number.
    """
    if threads is None:
        cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        threads = min(cores, count // _WORTH_A_THREAD + 1)
    if threads < 1:
        raise ValueError(f"threads must be >= 1, not {threads}")
    edges = [count * n // threads for n in range(threads + 1)]
    if threads == 1:
        chunk(0, count)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(chunk, edges[:-1], edges[1:]))
