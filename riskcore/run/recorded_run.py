"""A run folder read once, for the tables, the report and the explanations of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..record import EVENT, Rows, reader
from ..state import Accounts
from ..venue import Venue


class RecordedRun(NamedTuple):
    """Journal, accounts and prices of a run folder.

    Attributes
    ----------
    folder : Reader
        For the other tables, read when they are asked for.
    start, end : Accounts
        As the run started from them, and as they were at its end.
    rows : ndarray of `riskcore.record.ROW`, shape (R,)
        The journal; activity before the first tick belongs to that tick.
    time : ndarray of int64, shape (T,)
        Times of the ticks, ns.
    mark : ndarray of float64, shape (T, M)
        Marks as they were guarded; NaN where a tick has none.
    asset_price : ndarray of float64, shape (T, K)
        Prices of the assets, settle units; the last one known where a tick has none.
    lot_value, quantum_value : ndarray of float64, shapes (T, M) and (T, K)
        Settle units, signed, per lot of each market and per quantum of each asset; the last one known where a tick has
        no price.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import RecordedRun
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = RecordedRun.read(folder)
    >>> len(run.time), len(run.start), run.venue.settle_asset
    (2, 2, 'USDC')
    """

    folder: reader.Reader
    start: Accounts
    end: Accounts
    rows: Rows
    time: npt.NDArray[np.int64]
    mark: npt.NDArray[np.float64]
    asset_price: npt.NDArray[np.float64]
    lot_value: npt.NDArray[np.float64]
    quantum_value: npt.NDArray[np.float64]

    @classmethod
    def read(cls, path: str | Path) -> RecordedRun:
        """Read a run folder.

        Parameters
        ----------
        path : str or Path
            The folder.

        Returns
        -------
        RecordedRun
            Its journal, accounts and prices.

        Raises
        ------
        RiskDataError
            The folder holds no run, or one that is damaged.

        Examples
        --------
        >>> import tempfile
        >>> from riskcore.run import RecordedRun
        >>> from riskcore.sample import small_run
        >>> folder = tempfile.mkdtemp()
        >>> small_run(folder)
        >>> RecordedRun.read(folder).mark[:, 2].tolist()
        [195.0, 194.0]
        """
        folder = reader.open_run(Path(path))
        venue, (time, mark, _, asset) = folder.venue, folder.prices()
        accounts, rows = (folder.accounts(), folder.accounts(last=True)), folder.journal()
        last_mark, last_asset = (pd.DataFrame(prices).ffill().to_numpy() for prices in (mark, asset))
        last_mark = last_mark.copy()
        settled = rows[rows["event"] == EVENT["delist"]]
        for market, price in dict(zip(settled["market"].tolist(), settled["price"].tolist(), strict=True)).items():
            last_mark[np.isnan(last_mark[:, market]), market] = price  # delisted before its first mark
        lot_value, quantum_value = venue.markets.lot_values(last_mark), last_asset * venue.assets.quantum_size
        if not venue.plain_money:
            lot_value = lot_value * last_asset[:, venue.markets.settle]
        rows["tick"] = np.maximum(rows["tick"], 0)
        return cls(folder, *accounts, rows, time, mark, last_asset, lot_value, quantum_value)

    def value_after_ticks(self, rows: Rows, quanta: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return what money that journal rows moved so far is worth after each tick.

        Parameters
        ----------
        rows : ndarray of `riskcore.record.ROW`, shape (R,)
            Journal rows.
        quanta : ndarray of int64, shape (R,)
            Quanta of each row's settle asset.

        Returns
        -------
        ndarray of float64, shape (T,)
            Settle units, at the prices of that tick.

        Examples
        --------
        >>> import tempfile
        >>> from riskcore.run import RecordedRun
        >>> from riskcore.sample import small_run
        >>> folder = tempfile.mkdtemp()
        >>> small_run(folder)
        >>> run = RecordedRun.read(folder)
        >>> run.value_after_ticks(run.rows, run.rows["fee"]).tolist()
        [0.0, 10.009884]
        """
        own = rows["settle"] == self.venue.settle
        money = quanta[own] * float(self.venue.settle_quantum)
        value = np.bincount(rows["tick"][own], money, len(self.time)).cumsum()
        for asset in self.venue.money[1:]:
            paid = rows["settle"] == asset
            amount = np.bincount(rows["tick"][paid], quanta[paid], len(self.time)).cumsum()
            value += np.where(amount != 0, amount * self.quantum_value[:, asset], 0.0)
        return value

    @property
    def venue(self) -> Venue:
        """The venue of the run."""
        return self.folder.venue
