"""A run folder read once, for the tables, the report and the explanations of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..record import Rows, reader
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
        The journal.
    time : ndarray of int64, shape (T,)
        Times of the ticks, ns.
    mark : ndarray of float64, shape (T, M)
        Marks as they were guarded; NaN where a tick has none.
    lot_value, quantum_value : ndarray of float64, shapes (T, M) and (T, K)
        Settle units per lot of each market and per quantum of each asset; the last one known where a tick has no price.

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
        venue, (time, mark, asset) = folder.venue, folder.prices()
        last_mark, last_asset = (pd.DataFrame(prices).ffill().to_numpy() for prices in (mark, asset))
        lot_value, quantum_value = last_mark * venue.markets.step_size, last_asset * venue.assets.quantum_size
        accounts = folder.accounts(), folder.accounts(last=True)
        return cls(folder, *accounts, folder.journal(), time, mark, lot_value, quantum_value)

    @property
    def venue(self) -> Venue:
        """The venue of the run."""
        return self.folder.venue
