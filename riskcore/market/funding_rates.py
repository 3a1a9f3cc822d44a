"""Funding rates with a time of their own, read from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .._typing import Bool, Float, Int
from ..boundary import frames, schemas
from ..venue import Venue

_TABLE = "funding"


class FundingEntries(NamedTuple):
    """Funding rates of markets at instants; E entries, by time and then market.

    Attributes
    ----------
    time : ndarray of int64, shape (E,)
        Nanoseconds since the epoch.
    market : ndarray of int64, shape (E,)
        Row of the market.
    rate : ndarray of float64, shape (E,)
        Fraction of the notional, which longs pay; of the whole payment at that instant.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market import FundingEntries
    >>> venue = rc.load_venue("backpack")
    >>> rows = [{"time": "2025-10-10T21:00Z", "market": "SOL_USDC_PERP", "rate": 0.0001}]
    >>> FundingEntries.read(venue, rows).rate.tolist()
    [0.0001]
    """

    time: Int
    market: Int
    rate: Float

    @classmethod
    def read(
        cls,
        venue: Venue,
        table: pd.DataFrame | Iterable[Mapping[str, Any]],
        *,
        unit: str = "ns",
        own_clock: bool = False,
    ) -> FundingEntries:
        """Read a table of rates.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        table : DataFrame or list of mapping
            time, market, rate (from -1 to 1).
        unit : {"ns", "us", "ms", "s"}
            Of times that are whole numbers since the epoch.
        own_clock : bool
            Whether times may be of a clock of their own, as the tick's is.

        Returns
        -------
        FundingEntries
            The entries.

        Raises
        ------
        RiskDataError
            A row breaks a rule of the table, names no market of the venue, or stands twice.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market import FundingEntries
        >>> rows = [{"time": "2025-10-10T21:00Z", "market": "SOL_USDC_PERP", "rate": 2}]
        >>> FundingEntries.read(rc.load_venue("backpack"), rows)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: funding.rate, row 0, value 2.0: must be a number from -1 to 1
        """
        frame = frames.rows_as_frame(_TABLE, table)
        if not len(frame):
            return NO_FUNDING
        frame = schemas.checked(_TABLE, frame, unit=unit, own_clock=own_clock)
        market = schemas.codes(_TABLE, "market", frame["market"], venue.markets.symbol, "a market")
        time = frame["time"].to_numpy(np.int64)
        order = np.lexsort((market, time))
        return cls(time[order], market[order], frame["rate"].to_numpy(np.float64)[order])

    def chosen(self, rows: Bool | slice) -> FundingEntries:
        """Return some of the entries.

        Parameters
        ----------
        rows : ndarray of bool, shape (E,), or slice
            The entries to keep.

        Returns
        -------
        FundingEntries
            Those.

        Examples
        --------
        >>> from riskcore.market import NO_FUNDING
        >>> len(NO_FUNDING.chosen(slice(0)).time)
        0
        """
        return FundingEntries(self.time[rows], self.market[rows], self.rate[rows])


NO_FUNDING = FundingEntries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
"""No entries."""
