"""A finished or running run as tables in natural units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, counted, escaped
from ..record import EVENT, Rows, fills, natural_frame, reader, to_frame
from ..state import Accounts
from ..venue import Venue
from .holdings import Holdings
from .recorded_run import RecordedRun
from .report import left_open, left_open_totals, owner_table, shortfalls, waterfall_split


class Summary(NamedTuple):
    """The result of a run in figures.

    Attributes
    ----------
    accounts, liquidated : int
        Accounts of the run, and those that were at 100 % at some tick.
    split : DataFrame
        A row per stage: stage, notional (settle units at the fill prices), notional_share, fills, fill_share, accounts.
        Notional in another settle asset counts at that asset's price in the tick.
    shortfall : dict of str to float
        Equity below zero, settle units: paid_by_fund, paid_by_others, left_on_record.
    left_open : dict of str to float
        Accounts at 100 % or above at the end of the run: accounts (their number), notional (settle units).
    fund_start, fund_end : float
        The insurance fund at the start and after the last tick, at the prices then, settle units.
    fund_assets : dict of str to float
        The insurance fund after the last tick by settle asset, units of the asset.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> summary = rc.read_run(folder).summary
    >>> summary.liquidated, summary.fund_start, summary.fund_end
    (1, 1000.0, 1010.009884)
    """

    accounts: int
    liquidated: int
    split: pd.DataFrame
    shortfall: dict[str, float]
    left_open: dict[str, float]
    fund_start: float
    fund_end: float
    fund_assets: dict[str, float]


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder as tables in natural units. Made by `read_run`.

    Attributes
    ----------
    path : Path
        The run folder.
    venue : Venue
        The rules.
    accounts : Accounts
        The accounts at the start of the run.
    rows : ndarray of `riskcore.record.ROW`
        The journal in whole numbers.
    seed, ticks : int
        Seed of the draws, and number of ticks.
    complete : bool
        False of a run that was cut or goes on.

    Notes
    -----
    The files: docs/run_folder.md.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> run.ticks, run.events["event"].tolist(), run.marks["mark_price"].tolist()
    (2, ['trigger', 'book'], [195.0, 194.0])
    """

    path: Path
    venue: Venue
    accounts: Accounts
    rows: Rows
    seed: int
    ticks: int
    complete: bool
    _time: Any
    _mark: Any
    _index: Any
    _asset: Any

    def __repr__(self) -> str:
        """One line: ticks, accounts, those liquidated, and the notional of each stage."""
        total = self.summary
        closed = "".join(
            f", {stage} {notional:,.2f}"
            for stage, notional in total.split[["stage", "notional"]].to_numpy()
            if notional
        )
        counts = f"{counted(self.ticks, 'tick')}, {counted(total.accounts, 'account')}, {total.liquidated:,} liquidated"
        return f"Run({escaped(self.path.name)}: {counts}{closed}{'' if self.complete else ', not complete'})"

    @cached_property
    def events(self) -> pd.DataFrame:
        """Events in order, in natural units; columns as of `riskcore.record.natural_frame`."""
        return natural_frame(self.rows, self.venue, self.accounts)

    @cached_property
    def raw_events(self) -> pd.DataFrame:
        """The journal in whole numbers, with the user's account ids and symbols."""
        return to_frame(self.rows, self.venue, self.accounts)

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Fills that closed positions, in natural units; columns as of `riskcore.StepResult.fills`."""
        return fills(self.rows, self.venue, self.accounts)

    @cached_property
    def marks(self) -> pd.DataFrame:
        """Marks and indexes that counted, guarded, settle units: time, market, mark_price, index_price (NaN: none)."""
        ticks, markets = self._mark.shape
        table = pd.DataFrame(
            {
                "time": pd.to_datetime(np.repeat(self._time, markets), utc=True),
                "market": np.tile(np.array(self.venue.markets.symbol, object), ticks),
                "mark_price": self._mark.ravel(),
                "index_price": self._index.ravel(),
            }
        )
        return table.dropna(subset=["mark_price", "index_price"], how="all", ignore_index=True)

    @cached_property
    def summary(self) -> Summary:
        """The run in figures: accounts liquidated, the share of each stage, and who paid, settle units."""
        rows, venue, start = self.rows, self.venue, float(self.venue.policy.fund)
        liquidated = len(np.unique(rows["account"][rows["event"] == EVENT["trigger"]]))
        prices = pd.DataFrame(self._asset).ffill().to_numpy()
        split, lost = waterfall_split(rows, venue, prices), shortfalls(rows, venue, prices)
        end, by_asset = start, {}
        for asset in venue.money:
            mine = rows[rows["settle"] == asset]
            paid = int((mine["fund"] + mine["fee"]).sum()) * float(venue.assets.quantum[asset])
            end += paid * float(prices[-1, asset]) if paid else 0.0
            by_asset[venue.assets.symbol[asset]] = start + paid if asset == venue.settle else paid
        still = left_open_totals(left_open(RecordedRun.read(self.path)))
        return Summary(len(self.accounts), liquidated, split, lost, still, start, end, by_asset)

    @cached_property
    def owners(self) -> pd.DataFrame:
        """Accounts, liquidations and equity of each owner; columns as of `riskcore.run.report.owner_table`."""
        return owner_table(RecordedRun.read(self.path))

    def accounts_at(self, tick: int | None = None) -> Accounts:
        """Return the accounts after a tick, by the journal: ``.to_frames()`` gives their tables.

        Parameters
        ----------
        tick : int, optional
            Number of the tick, from 0; None is the last one.

        Returns
        -------
        Accounts
            The accounts.

        Raises
        ------
        RiskDataError
            The run has no such tick.

        Examples
        --------
        >>> import tempfile
        >>> import riskcore as rc
        >>> from riskcore.sample import small_run
        >>> folder = tempfile.mkdtemp()
        >>> small_run(folder)
        >>> run = rc.read_run(folder)
        >>> [run.accounts_at(tick).to_frames().positions["quantity"].tolist() for tick in (0, 1)]
        [[10.0, -5.0], [4.84, -5.0]]
        """
        if tick is None:
            tick = self.ticks - 1
        elif not isinstance(tick, int | np.integer) or isinstance(tick, bool) or not 0 <= tick < self.ticks:
            raise RiskDataError("run", "tick", f"must be a tick of the run, from 0 to {self.ticks - 1}", value=tick)
        holdings = Holdings.of(self.accounts, self.venue)
        holdings.apply(self.rows[self.rows["tick"] <= tick])
        return holdings.accounts()


def read_run(path: str | Path) -> Run:
    """Read a run folder into tables in natural units.

    Parameters
    ----------
    path : str or Path
        A run folder, as `Engine.save`, `riskcore.io.replay` or a command wrote it.

    Returns
    -------
    Run
        Its tables: ``events``, ``fills``, ``marks``, ``summary``, ``owners``, ``accounts_at(tick)``.

    Raises
    ------
    RiskDataError
        The folder holds no run, or one that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack").replace(policy={"slice_probability": 1, "fund": 1000})
    >>> market = "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": ["ann"], "market": market, "quantity": [50.0], "entry_price": 200.0})
    >>> balances = pd.DataFrame({"account": ["ann"], "asset": "USDC", "quantity": [500.0]})
    >>> accounts = rc.Accounts.from_frames(venue, positions, balances)
    >>> book = {"bids": [(191.9, 1000.0)], "asks": [(192.0, 1000.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {market: 191.95}, {market: book})
    >>> engine = rc.Engine(accounts, venue)
    >>> result = engine.step(tick)
    >>> folder = tempfile.mkdtemp()
    >>> engine.save(folder)
    >>> run = rc.read_run(folder)
    >>> print(run.fills[["account", "side", "quantity", "price", "stage", "reason"]].to_string(index=False))
    account side  quantity  price      stage reason
        ann sell      5.21  191.9 order book   full
    >>> run.accounts_at(0).to_frames().positions["quantity"].tolist()
    [44.79]
    """
    folder = reader.open_run(Path(path))
    manifest, (time, mark, index, asset) = folder.manifest, folder.prices()
    return Run(
        path=Path(path),
        venue=folder.venue,
        accounts=folder.accounts(),
        rows=folder.journal(),
        seed=manifest["seed"],
        ticks=manifest["ticks"],
        complete=manifest["complete"],
        _time=time,
        _mark=mark,
        _index=index,
        _asset=asset,
    )
