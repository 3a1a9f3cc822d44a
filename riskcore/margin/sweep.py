"""The sweep: the margin table of all accounts at complete prices, and the selection of those at 100 %."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, as_html, as_text, counted, escaped, frame_as_html
from ..boundary.threads import in_chunks
from ..kernels import margin as kernels
from ..kernels import sweep
from ..kernels.layouts import SweepColumns
from ..market import Prices, PriceTable
from ..state import Accounts, SweepView, chunk_count
from .model import model_of

ACCOUNTS_PER_THREAD = 50_000  # of accounts that are computed one by one
CHUNKS_PER_THREAD = 50  # of chunks of the packed sweep
_CACHED = 4  # chunks that stay in the cache while they meet many vectors of prices


@dataclass(frozen=True, repr=False)
class MarginTable:
    """Margin of accounts in settle units; arrays of shape (N,), accounts ascending by id.

    Attributes
    ----------
    account : ndarray
        The user's account ids, int64 or text.
    net_equity, exposure, initial_margin, maintenance_margin : ndarray of float64
        Settle units.
    status : ndarray of uint8
        SAFE, LIQUIDATING or BELOW_AUTO_CLOSE (`riskcore.kernels.margin`), decided exactly.
    time : object
        Label of the price row, None for a single price vector.

    Notes
    -----
    The rule: docs/one_tick.md, "Net equity, margins and status".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> table = rc.sweep(accounts, venue, {market: 195.0})
    >>> table.mmr.round(4).tolist(), table.imr.round(4).tolist(), table.liquidatable.tolist()
    ([0.8775, 0.031], [1.3, 0.0459], [False, False])
    """

    account: npt.NDArray[Any]
    net_equity: Float
    exposure: Float
    initial_margin: Float
    maintenance_margin: Float
    status: npt.NDArray[np.uint8]
    time: Any = None

    def __repr__(self) -> str:
        """One line: accounts, those at 100 % or above, and the highest ratio."""
        counts = f"{counted(len(self.account), 'account')}, {np.count_nonzero(self.liquidatable):,} at 100 % or above"
        highest = f", highest MMR {self.mmr.max():,.2%}".replace("inf%", "infinite") if len(self.account) else ""
        return f"MarginTable({counts}{highest}{_at(self.time)})"

    def _repr_html_(self) -> str:
        worst = np.argsort(-self.mmr, kind="stable")
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.rows(worst).to_frame(), _SHOWN)}"

    @property
    def liquidatable(self) -> Bool:
        """Whether the maintenance margin ratio is 1 or more: ndarray of bool, shape (N,)."""
        return np.not_equal(self.status, kernels.SAFE)

    @property
    def imr(self) -> Float:
        """Initial margin over net equity, a ratio; +inf with exposure and no equity, 0 without exposure."""
        return _ratio(self.initial_margin, self.net_equity, self.exposure)

    @property
    def mmr(self) -> Float:
        """Maintenance margin over net equity, a ratio; at exactly 1 an account is liquidatable."""
        ratio = _ratio(self.maintenance_margin, self.net_equity, self.exposure)
        # exact arithmetic decided the status where float64 could not: the ratio follows it
        above = self.liquidatable
        return np.where(above, np.maximum(ratio, 1.0), np.minimum(ratio, np.nextafter(1.0, 0.0)))

    def rows(self, row: Int) -> MarginTable:
        """Return some rows alone.

        Parameters
        ----------
        row : ndarray of int64
            Row numbers, in any order.

        Returns
        -------
        MarginTable
            These rows, in this order.

        Raises
        ------
        IndexError
            There is no such row.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> table = rc.sweep(accounts, venue, {market: 195.0})
        >>> table.rows([1]).account.tolist()
        [2]
        """
        return replace(self, **{f.name: getattr(self, f.name)[row] for f in fields(self) if f.name != "time"})

    @classmethod
    def joined(cls, tables: Sequence[MarginTable]) -> MarginTable:
        """Return the rows of several tables, one table behind the other.

        Parameters
        ----------
        tables : sequence of MarginTable
            At least one; the first gives the label of the time.

        Returns
        -------
        MarginTable
            All rows.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin import MarginTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> table = rc.sweep(accounts, venue, {"SOL_USDC_PERP": 195.0})
        >>> MarginTable.joined([table, table]).account.tolist()
        [1, 2, 1, 2]
        """
        if len(tables) == 1:
            return tables[0]
        names = [f.name for f in fields(cls) if f.name != "time"]
        columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
        return cls(**columns, time=tables[0].time)

    def put(self, row: Int, other: MarginTable) -> None:
        """Write the figures of another table into some rows.

        Parameters
        ----------
        row : ndarray of int64, shape (n,)
            Rows of this table to write to.
        other : MarginTable
            A table of n rows.

        Raises
        ------
        IndexError
            There is no such row.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> table, later = (rc.sweep(accounts, venue, {market: mark}) for mark in (200.0, 195.0))
        >>> table.put([0], later.rows([0]))
        >>> table.net_equity.tolist()
        [30.0, 400.0]
        """
        for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin", "status"):
            getattr(self, name)[row] = getattr(other, name)

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a frame, with both ratios and the column liquidatable.

        Returns
        -------
        DataFrame
            account, net_equity, exposure, initial_margin, maintenance_margin (settle units), imr, mmr (ratios),
            liquidatable.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> frame = rc.sweep(accounts, venue, {market: 195.0}).to_frame()
        >>> frame[["account", "net_equity", "maintenance_margin"]].to_dict("records")[0]
        {'account': 1, 'net_equity': 30.0, 'maintenance_margin': 26.325}
        """
        return pd.DataFrame({name: getattr(self, name) for name in COLUMNS})


COLUMNS = "account", "net_equity", "exposure", "initial_margin", "maintenance_margin", "imr", "mmr", "liquidatable"
"""Of a margin table as a frame."""


@dataclass(frozen=True, repr=False)
class Selection:
    """Accounts at a maintenance margin ratio of 1 or more.

    Attributes
    ----------
    row : ndarray of int64
        Account rows, ascending.
    accounts : Accounts
        The accounts that the rows are rows of.
    prices : Prices
        The prices.
    time : object
        Label of the price row, None for a single price vector.

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
    >>> len(selection), selection.account.tolist(), selection.table().net_equity.tolist()
    (1, [1], [-20.0])
    """

    row: Int
    accounts: Accounts
    prices: Prices
    time: Any = None

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        """One line: the accounts selected, of how many."""
        return f"Selection({len(self):,} of {counted(len(self.accounts), 'account')} at 100 % or above{_at(self.time)})"

    def _repr_html_(self) -> str:
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.table().to_frame(), _SHOWN)}"

    @property
    def account(self) -> npt.NDArray[Any]:
        """The user's account ids, ascending."""
        return self.accounts.ids[self.row]

    def table(self) -> MarginTable:
        """Return the margin of these accounts, by the state at the time of this call.

        Returns
        -------
        MarginTable
            A row per selected account, settle units.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> rc.select(accounts, venue, {market: 190.0}).table()
        MarginTable(1 account, 1 at 100 % or above, highest MMR infinite)
        """
        return margins_of(self.accounts, self.row, self.prices, time=self.time)


_SHOWN = 10  # rows of a table in a notebook


def _at(time: Any) -> str:
    """Label of a price row at the end of a line of text."""
    return "" if time is None else f", time {escaped(as_text(time))}"


def _ratio(margin: Float, equity: Float, exposure: Float) -> Float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(equity > 0, margin / equity, np.inf)
    return np.where(exposure == 0, 0.0, ratio)


def selection(accounts: Accounts, prices: Prices, *, threads: int | None = None) -> Selection:
    """Select the accounts at a maintenance margin ratio of 1 or more, at complete prices.

    Parameters
    ----------
    accounts : Accounts
        The state.
    prices : Prices
        Complete prices of one instant.
    threads : int, optional
        As of `riskcore.sweep`.

    Returns
    -------
    Selection
        The accounts, ascending.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import selection
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> selection(accounts, rc.Prices.read(venue, accounts, {market: 190.0}))
    Selection(1 of 2 accounts at 100 % or above)
    """
    return Selection(selected(accounts, accounts.sweep_view.columns, prices, threads=threads), accounts, prices)


def margin_table(
    accounts: Accounts,
    prices: Prices,
    *,
    threads: int | None = None,
    time: Any = None,
    out: MarginTable | None = None,
) -> MarginTable:
    """Compute the margin of every account at complete prices.

    Parameters
    ----------
    accounts : Accounts
        The state.
    prices : Prices
        Complete prices of one instant.
    threads : int, optional
        As of `riskcore.sweep`.
    time : object, optional
        Label of the table.
    out : MarginTable, optional
        As of `riskcore.sweep`.

    Returns
    -------
    MarginTable
        A row per account.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units, or ``out`` is no table of a sweep of these accounts.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import margin_table
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> margin_table(accounts, rc.Prices.read(venue, accounts, {market: 195.0}), time="21:00")
    MarginTable(2 accounts, 0 at 100 % or above, highest MMR 87.75%, time 21:00)
    """
    return margin_tables(accounts, [prices], [time], threads=threads, out=None if out is None else [out])[0]


def margin_tables(
    accounts: Accounts,
    prices: Sequence[Prices],
    times: Sequence[Any],
    *,
    threads: int | None = None,
    out: Sequence[MarginTable] | None = None,
) -> list[MarginTable]:
    """Sweep all accounts at several vectors of prices, all of them before the next accounts are read from memory."""
    columns = accounts.sweep_view.columns
    outs: Sequence[MarginTable | None] = out or [None] * len(prices)
    if not all(model_of(vector.venue).packed for vector in prices):
        return [_table_by_account(accounts, *each, threads) for each in zip(prices, times, outs, strict=True)]
    sweeps = [_Sweep.of(accounts, vector, table) for vector, table in zip(prices, outs, strict=True)]

    def chunk(first: int, last: int) -> None:
        step = _CACHED if len(sweeps) > 1 else last - first
        for start in range(first, last, step):
            for each in sweeps:
                each.chunks(start, min(start + step, last))

    in_chunks(chunk, chunk_count(columns), threads, CHUNKS_PER_THREAD)
    return [sweep.table(time) for sweep, time in zip(sweeps, times, strict=True)]


def _table_by_account(
    accounts: Accounts, prices: Prices, time: Any, out: MarginTable | None, threads: int | None
) -> MarginTable:
    """Compute the margin of every account by a model that the packed sweep does not compute."""
    accounts.units.must_fit(prices.venue.units)
    model, count, row = model_of(prices.venue), len(accounts), np.arange(len(accounts))
    if out is None:
        figures, status = np.empty((4, len(accounts.sweep_view.columns.account))), np.empty(count, np.uint8)
    else:
        figures, status = _figures_of(out, accounts), out.status
    figures[:, count:] = 0.0

    def chunk(first: int, last: int) -> None:
        model.fill(accounts, row[first:last], prices, figures[:, first:last], status[first:last])

    in_chunks(chunk, count, threads, ACCOUNTS_PER_THREAD)
    equity, exposure, initial, maintenance = (figure[:count] for figure in figures)
    return MarginTable(accounts.ids, equity, exposure, initial, maintenance, status, time)


@dataclass(frozen=True)
class _Listed:
    """Accounts that a kernel lists: 4 * account + reason, those of chunk w from 4096 w on, and counts by chunk."""

    entries: Int
    counts: Int

    @classmethod
    def room(cls, columns: SweepColumns) -> _Listed:
        return cls(np.empty(len(columns.account), np.int64), np.empty(chunk_count(columns), np.int64))

    def accounts(self) -> tuple[Int, Int]:
        """Rows of the accounts, and the reason of each."""
        starts = range(0, len(self.entries), sweep.CHUNK)
        parts = [self.entries[start : start + n] for start, n in zip(starts, self.counts.tolist(), strict=True)]
        listed = np.concatenate(parts) if parts else self.entries
        return listed >> 2, listed & 3


def _figures_of(table: MarginTable, accounts: Accounts) -> Float:
    """Figures of a table that a sweep of these accounts returned, with the room that fills up the last group."""
    if not isinstance(table, MarginTable):
        raise RiskDataError("out", None, f"must be a MarginTable, not {type(table).__name__}")
    if table.account is not accounts.ids and not np.array_equal(table.account, accounts.ids):
        raise RiskDataError("out", "account", "must be a table of the same accounts")
    columns = table.net_equity, table.exposure, table.initial_margin, table.maintenance_margin
    figures, status, count = table.net_equity.base, table.status, len(accounts)
    if (
        not isinstance(figures, np.ndarray)
        or figures.shape != (4, len(accounts.sweep_view.columns.account))
        or any(c.__array_interface__ != f[:count].__array_interface__ for c, f in zip(columns, figures, strict=True))
        or not (status.dtype == np.uint8 and status.shape == (count,) and status.flags.writeable)
    ):
        raise RiskDataError("out", None, "must have the arrays that a sweep gave it, whole and writable")
    return figures


@dataclass(frozen=True)
class _Sweep:
    """A margin table that is filled chunks by chunks."""

    accounts: Accounts
    sweep_view: SweepView
    prices: Prices
    figures: Float
    status: npt.NDArray[np.uint8]
    listed: _Listed

    @classmethod
    def of(cls, accounts: Accounts, prices: Prices, out: MarginTable | None) -> _Sweep:
        accounts.units.must_fit(prices.venue.units)
        sweep_view = accounts.sweep_view
        if out is None:
            figures = np.empty((4, len(sweep_view.columns.account)))
            status = np.empty(len(accounts), np.uint8)
        else:
            figures, status = _figures_of(out, accounts), out.status
        return cls(accounts, sweep_view, prices, figures, status, _Listed.room(sweep_view.columns))

    def chunks(self, first: int, last: int) -> None:
        """Fill some chunks."""
        sweep_view, (equity, exposure, initial, maintenance) = self.sweep_view, self.figures
        sweep.sweep_chunks(
            first, last, sweep_view.columns, sweep_view.slot, self.prices.lookup, np.empty((sweep.CHUNK, 4)),
            equity, exposure, initial, maintenance, self.listed.entries, self.listed.counts,
        )  # fmt: skip

    def table(self, time: Any) -> MarginTable:
        """The table, once all chunks are filled."""
        count, (row, reason) = len(self.accounts), self.listed.accounts()
        equity, exposure, initial, maintenance = (figure[:count] for figure in self.figures)
        decided, row = row[reason == sweep.DECIDED], row[reason != sweep.DECIDED]
        status, policy = self.status, self.prices.lookup
        status[:] = kernels.SAFE
        auto_close = np.maximum(
            maintenance[decided] / policy.acmf_divisor, maintenance[decided] - policy.acmf_offset * exposure[decided]
        )
        above = (equity[decided] > 0.0) & (auto_close <= equity[decided])
        status[decided] = np.where(above, kernels.LIQUIDATING, kernels.BELOW_AUTO_CLOSE)
        table = MarginTable(self.accounts.ids, equity, exposure, initial, maintenance, status, time)
        if row.size:
            table.put(row, margins_of(self.accounts, row, self.prices))
        return table


def selected(accounts: Accounts, columns: SweepColumns, prices: Prices, *, threads: int | None = None) -> Int:
    """Return the rows of the accounts at a maintenance margin ratio of 1 or more, among the accounts of some columns.

    Parameters
    ----------
    accounts : Accounts
        The state.
    columns : SweepColumns
        Columns of all accounts or of some, as of `Accounts.sweep_view`.
    prices : Prices
        Complete prices of one instant.
    threads : int, optional
        As of `riskcore.sweep`.

    Returns
    -------
    ndarray of int64
        Account rows, ascending.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import selected
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> selected(accounts, accounts.sweep_view.columns, rc.Prices.read(venue, accounts, {market: 190.0})).tolist()
    [0]
    """
    accounts.units.must_fit(prices.venue.units)
    if not (model := model_of(prices.venue)).packed:
        row = np.sort(columns.account[columns.account < len(accounts)].astype(np.int64))
        parts: dict[int, Int] = {}

        def part(first: int, last: int) -> None:
            parts[first] = row[first:last][model.liquidatable(accounts, row[first:last], prices)]

        in_chunks(part, len(row), threads, ACCOUNTS_PER_THREAD)
        return np.concatenate([parts[first] for first in sorted(parts)])
    listed = _Listed.room(columns)

    def chunk(first: int, last: int) -> None:
        sweep.select_chunks(first, last, columns, prices.lookup, listed.entries, listed.counts)

    in_chunks(chunk, chunk_count(columns), threads, CHUNKS_PER_THREAD)
    row, reason = listed.accounts()
    if reason.any():
        recheck = np.sort(row[reason != sweep.DECIDED])
        recheck = recheck[margins_of(accounts, recheck, prices).liquidatable]
        row = np.concatenate([row[reason == sweep.DECIDED], recheck])
    return np.sort(row)


def first_unsafe(columns: SweepColumns, prices: PriceTable, first: int, last: int) -> int:
    """Return the first of some instants at which an account of some columns is at 100 % or above, or may be.

    Parameters
    ----------
    columns : SweepColumns
        Columns of all accounts or of some, as of `Accounts.sweep_view`.
    prices : PriceTable
        Complete prices of a venue whose margin model is packed, and whose folded margin functions depend on no price.
    first, last : int
        Numbers of the first instant, and of the one after the last.

    Returns
    -------
    int
        Number of an instant; ``last`` if there is none.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.margin.sweep import first_unsafe
    >>> from riskcore.market import PriceTable
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({"SOL_USDC_PERP": [196.0, 195.0, 190.0]}))
    >>> first_unsafe(accounts.sweep_view.columns, prices, 0, 3)
    2
    """
    start, found = prices.start, np.empty(1, np.int64)
    sweep.first_unsafe(first, last, columns, start.arrays, *prices.unit_prices, start.lookup, found)
    return int(found[0])


def margins_of(accounts: Accounts, row: Int, prices: Prices, *, time: Any = None) -> MarginTable:
    """Compute the margin of some accounts from the account columns, exactly where float64 cannot decide.

    Parameters
    ----------
    accounts : Accounts
        The state.
    row : ndarray of int64, shape (n,)
        Account rows, in any order.
    prices : Prices
        Complete prices of one instant.
    time : object, optional
        Label of the table.

    Returns
    -------
    MarginTable
        n rows, in the order of ``row``.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.margin import margins_of
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> import numpy as np
    >>> margins_of(accounts, np.array([1, 0]), rc.Prices.read(venue, accounts, {market: 195.0})).net_equity.tolist()
    [425.0, 30.0]
    """
    accounts.units.must_fit(prices.venue.units)
    if not len(row):  # most ticks select nobody
        return (
            replace(_of_nobody(accounts.ids.dtype), time=time) if time is not None else _of_nobody(accounts.ids.dtype)
        )
    figures, status = np.empty((4, len(row))), np.empty(len(row), np.uint8)
    model_of(prices.venue).fill(accounts, row, prices, figures, status)
    equity, exposure, initial, maintenance = figures
    return MarginTable(accounts.ids[row], equity, exposure, initial, maintenance, status, time)


@lru_cache(maxsize=16)
def _of_nobody(ids: np.dtype[Any]) -> MarginTable:
    nothing = np.empty(0)
    return MarginTable(np.empty(0, ids), nothing, nothing, nothing, nothing, np.empty(0, np.uint8))
