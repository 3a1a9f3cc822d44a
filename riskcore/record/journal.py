"""The journal: one row per event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float, Int
from ..boundary import natural
from ..state import Accounts
from ..venue import Venue
from .events import (
    BOOK,
    CHANGES_NOTHING,
    COLUMNS,
    EVENT,
    EVENT_KINDS,
    EVENTS,
    FUND,
    NO_ACCOUNT,
    NOBODY,
    POOL,
    REASON,
    REASONS,
    ROW,
    SHORTFALL,
    STAGE_OF,
    Rows,
    closes_positions,
    is_activity,
)

_DEFAULTS: dict[str, Any] = {name: column.default for name, column in COLUMNS.items()}
_CHANGES = np.array([name not in CHANGES_NOTHING for name in EVENTS])
_ACTS = np.array([name not in ("trigger", "harm", "expire", "propose", "unfilled") for name in EVENTS])
_NO_ROWS = np.empty(0, ROW)
_DEFAULT_ROW = np.array([tuple(_DEFAULTS.values())], ROW)


@dataclass
class Journal:
    """Rows of one tick, in the order in which the events happened.

    Attributes
    ----------
    tick, time : int
        Number of the tick, and nanoseconds since the epoch.

    Examples
    --------
    >>> from riskcore.record import EVENTS, Journal
    >>> journal = Journal(0, 1_760_130_000_000_000_000)
    >>> journal.add("trigger", "mmr", account=3, mmr_before=1.2, mmr_after=1.2)
    >>> [(EVENTS[row["event"]], int(row["account"])) for row in journal.rows()]
    [('trigger', 3)]
    """

    tick: int
    time: int
    _blocks: list[Rows] = field(default_factory=list)
    _pending: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, event: str, reason: str, account: int, mmr_before: float, mmr_after: float, **values: Any) -> None:
        """Append one row.

        Parameters
        ----------
        event, reason : str
            Names out of `EVENTS` and `REASONS`.
        account : int
            Account row, or `NO_ACCOUNT`.
        mmr_before, mmr_after : float
            Maintenance margin ratios of the account; NaN where the row has none.
        **values : int or float
            Other columns of `ROW`; columns not named are 0, or -1 where they name a row of another table.

        Raises
        ------
        KeyError
            There is no such event or reason.

        Examples
        --------
        >>> from riskcore.record import Journal
        >>> journal = Journal(0, 1_760_130_000_000_000_000)
        >>> journal.add("book", "full", 3, 1.2, 1.1, market=2, lots=-516, fee=10_009_884)
        >>> journal.rows()["lots"].tolist()
        [-516]
        """
        row = _DEFAULTS.copy()
        row["tick"], row["time"], row["event"], row["reason"] = self.tick, self.time, EVENT[event], REASON[reason]
        row["account"], row["mmr_before"], row["mmr_after"] = account, mmr_before, mmr_after
        row.update(values)
        self._pending.append(tuple(row.values()))

    def block(self, size: int) -> Rows:
        """Return rows with every column at its default, to be filled and given to `extend`.

        Parameters
        ----------
        size : int
            Number of rows.

        Returns
        -------
        ndarray of `ROW`, shape (size,)
            The rows, with tick and time of the journal.

        Examples
        --------
        >>> from riskcore.record import Journal
        >>> Journal(7, 1_760_130_000_000_000_000).block(2)["tick"].tolist()
        [7, 7]
        """
        rows = _DEFAULT_ROW.repeat(size)
        rows["tick"], rows["time"] = self.tick, self.time
        return rows

    def extend(self, rows: Rows) -> None:
        """Append a block of rows.

        Parameters
        ----------
        rows : ndarray of `ROW`
            Rows of this tick.

        Examples
        --------
        >>> from riskcore.record import Journal
        >>> journal = Journal(0, 1_760_130_000_000_000_000)
        >>> journal.extend(journal.block(3))
        >>> len(journal.rows())
        3
        """
        self._flush()
        self._blocks.append(rows)

    def _flush(self) -> None:
        if self._pending:
            self._blocks.append(np.array(self._pending, ROW))
            self._pending = []

    def rows(self) -> Rows:
        """Return all rows so far.

        Returns
        -------
        ndarray of `ROW`
            The rows, in order.

        Examples
        --------
        >>> from riskcore.record import Journal
        >>> len(Journal(0, 1_760_130_000_000_000_000).rows())
        0
        """
        self._flush()
        if len(self._blocks) > 1:
            self._blocks[:] = [np.concatenate(self._blocks)]
        return self._blocks[0] if self._blocks else _NO_ROWS

    def __len__(self) -> int:
        """Return the number of rows so far."""
        return sum(map(len, self._blocks)) + len(self._pending)


def touched(rows: Rows) -> npt.NDArray[np.int64]:
    """Return rows of the accounts that the events may have changed, each once.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Journal rows.

    Returns
    -------
    ndarray of int64
        Account rows, ascending.

    Examples
    --------
    >>> from riskcore.record import Journal, touched
    >>> journal = Journal(0, 1_760_130_000_000_000_000)
    >>> journal.add("trigger", "mmr", account=3, mmr_before=1.2, mmr_after=1.2)
    >>> journal.add("adl", "bankrupt", account=5, mmr_before=1.2, mmr_after=0.0, counterparty=4, market=2, lots=-516)
    >>> touched(journal.rows()).tolist()
    [4, 5]
    """
    if not len(rows):
        return np.empty(0, np.int64)
    changing = _CHANGES[rows["event"]]
    accounts = np.concatenate([rows["account"][changing], rows["counterparty"][changing]])
    return np.unique(accounts[accounts >= 0])


def has_acted(rows: Rows) -> bool:
    """Return whether the phases of an instant, or activity after it, changed an account or threw draws.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Rows of the instant, and of activity after it.

    Returns
    -------
    bool
        False if the same instant once more would write the same rows.

    Notes
    -----
    The rule: docs/one_tick.md, "Instants that are left out".

    Examples
    --------
    >>> from riskcore.record import Journal, has_acted
    >>> journal = Journal(0, 0)
    >>> journal.add("trigger", "mmr", 0, 1.2, 1.2)
    >>> journal.add("expire", "no_book", 0, 1.2, 1.2, market=2)
    >>> has_acted(journal.rows())
    False
    """
    if not len(rows):
        return False
    events = rows["event"]
    triggers = events == EVENT["trigger"]
    first = int(triggers.argmax()) if triggers.any() else len(events)
    return bool(_ACTS[events[first:]].any() or is_activity(rows).any())


def follow_orders(lots: Int, price: Int, rows: Rows, tick_size: Float) -> None:
    """Change the sizes and limit prices of orders as journal rows say.

    Parameters
    ----------
    lots, price : ndarray of int64, shape (O,)
        Lots and limit price (ticks) of each order by its number, before the rows; changed.
    rows : ndarray of `ROW`
        Journal rows.
    tick_size : ndarray of float64, shape (M,)
        Tick size of each market.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.record import Journal, follow_orders
    >>> journal = Journal(0, 0)
    >>> journal.add("place", "request", 3, np.nan, np.nan, market=0, order=0, requested=5, price=1.5)
    >>> journal.add("fill", "request", 3, np.nan, np.nan, market=0, order=0, lots=-2, price=1.5)
    >>> lots, price = np.zeros(1, np.int64), np.zeros(1, np.int64)
    >>> follow_orders(lots, price, journal.rows(), np.array([0.5]))
    >>> lots.tolist(), price.tolist()
    ([3], [3])
    """
    rows = rows[rows["order"] >= 0]
    number, order, event = np.arange(len(rows)), rows["order"], rows["event"]
    sets, fills = np.isin(event, _SETS), event == EVENT["fill"]
    last = np.full(len(lots), -1)
    np.maximum.at(last, order[sets], number[sets])
    final = sets & (last[order] == number)
    lots[order[final]] = np.where(event[final] == EVENT["cancel"], 0, rows["requested"][final])
    filled = fills & (number > last[order])
    np.subtract.at(lots, order[filled], np.abs(rows["lots"][filled]))
    priced = sets & (event != EVENT["cancel"])
    # of several rows of an order the last one counts: NumPy assigns them in their order
    price[order[priced]] = np.rint(rows["price"][priced] / tick_size[rows["market"][priced]])


_SETS = [EVENT[name] for name in ("place", "change", "cancel")]


def words(codes: npt.NDArray[np.uint8], names: Iterable[str]) -> pd.Categorical:
    """Codes of events or reasons as text."""
    categories = list(names)
    return pd.Categorical(np.array(categories, object)[codes], categories=categories)


def to_frame(rows: Rows, venue: Venue, accounts: Accounts) -> pd.DataFrame:
    """Return journal rows with ids and symbols for row numbers, and time as a timestamp.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    accounts : Accounts
        The accounts of the run.

    Returns
    -------
    DataFrame
        The columns of `ROW`, amounts in whole numbers (lots, quanta), and owner (of the account).

    Notes
    -----
    The columns: docs/one_tick.md, "The journal".

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.record import to_frame
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> to_frame(run.rows, run.venue, run.accounts)[["account", "event", "lots", "fee"]].to_dict("records")[1]
    {'account': 1, 'event': 'book', 'lots': -516, 'fee': 10009884}
    """
    others = {BOOK: "book", FUND: "fund", SHORTFALL: "shortfall", NOBODY: None, POOL: "pool"}
    frame = pd.DataFrame({name: rows[name] for name in ROW.names or ()})
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    frame["event"], frame["reason"] = words(rows["event"], EVENTS), words(rows["reason"], REASONS)
    for name, ids in (("account", accounts.ids), ("owner", accounts.owners)):
        frame[name] = ids[rows["account"]]
        if (rows["account"] == NO_ACCOUNT).any():
            frame[name] = frame[name].astype(object).where(rows["account"] != NO_ACCOUNT, None)
    other = [others[c] if c < 0 else accounts.ids[c] for c in rows["counterparty"].tolist()]
    frame["counterparty"] = pd.Series(other, dtype=object)  # not float64 where ids are whole numbers
    assets = venue.assets.symbol
    for name, symbols in (("market", venue.markets.symbol), ("asset", assets), ("settle", assets)):
        frame[name] = [symbols[c] if c >= 0 else None for c in rows[name].tolist()]
    return frame


EVENT_COLUMNS = (
    "time", "tick", "account", "owner", "event", "reason", "counterparty", "market", "asset", "quantity",
    "requested_quantity", "price", "amount", "lent_amount", "settle_asset", "cash_amount", "fee_amount",
    "unsettled_amount", "fund_amount", "mmr_before", "mmr_after",
)  # fmt: skip
"""Of `natural_frame`."""


def natural_frame(rows: Rows, venue: Venue, accounts: Accounts) -> pd.DataFrame:
    """Return journal rows in natural units, with the user's account ids and symbols.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    accounts : Accounts
        The accounts of the run.

    Returns
    -------
    DataFrame
        The columns `EVENT_COLUMNS`. ``quantity`` is the change of the account's position in ``market``;
        ``amount`` and ``lent_amount`` those of its free and its lent balance of ``asset``; ``cash_amount`` that of its
        free balance of ``settle_asset`` without the fee, ``fee_amount``; ``unsettled_amount`` that of its unsettled
        balance and ``fund_amount`` that of the fund, the fee not counted, all in units of ``settle_asset``: a symbol,
        None where the event moves no such money. ``requested_quantity`` is of the market, or of the asset. NaN where a
        row has no market or no asset.

    Notes
    -----
    The events: docs/one_tick.md, "The journal".

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.record import natural_frame
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> natural_frame(run.rows, run.venue, run.accounts)[["event", "quantity", "fee_amount"]].to_dict("records")[1]
    {'event': 'book', 'quantity': -5.16, 'fee_amount': 10.009884}
    """
    frame, market, asset = to_frame(rows, venue, accounts), rows["market"], rows["asset"]
    spot = list(venue.assets.quantum)
    for k, step in zip(venue.spots.asset.tolist(), venue.spots.step, strict=True):
        spot[k] = step
    in_spot_lots = [EVENT[name] for name, kind in EVENT_KINDS.items() if kind.requested == "spot_lots"]
    requested = _of(rows["requested"], venue.assets.quantum, asset)
    requested = np.where(np.isin(rows["event"], in_spot_lots), _of(rows["requested"], spot, asset), requested)
    frame["quantity"] = _of(rows["lots"], venue.markets.step, market)
    frame["requested_quantity"] = np.where(market >= 0, _of(rows["requested"], venue.markets.step, market), requested)
    frame["amount"], frame["lent_amount"] = (_of(rows[n], venue.assets.quantum, asset) for n in ("quanta", "lent"))
    frame["settle_asset"] = frame["settle"]
    for name in ("cash", "fee", "unsettled", "fund"):
        frame[f"{name}_amount"] = settle_amounts(rows, name, venue)
    return frame[list(EVENT_COLUMNS)]


def events_frame(rows: Rows, venue: Venue, accounts: Accounts) -> pd.DataFrame:
    """Return events in natural units, and the whole numbers that they stand for.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    accounts : Accounts
        The accounts of the run.

    Returns
    -------
    DataFrame
        The columns of `natural_frame`, and then those of `to_frame` that it does not have.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.record import Journal, events_frame
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> journal = Journal(0, 0)
    >>> journal.add("trigger", "mmr", 0, 1.2, 1.2)
    >>> events_frame(journal.rows(), venue, accounts)[["account", "event"]].to_dict("records")
    [{'account': 1, 'event': 'trigger'}]
    """
    frame = natural_frame(rows, venue, accounts)
    return frame.join(to_frame(rows, venue, accounts).drop(columns=frame.columns, errors="ignore"))


def settle_amounts(rows: Rows, name: str, venue: Venue) -> npt.NDArray[Any]:
    """Return an amount of journal rows in units of their settle assets.

    Parameters
    ----------
    rows : ndarray of `ROW`, shape (R,)
        Journal rows.
    name : str
        A column of `riskcore.record.events.MONEY`.
    venue : Venue
        The venue of the run.

    Returns
    -------
    ndarray of float64, shape (R,)
        The amounts; 0 where a row has no settle asset.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.record import Journal, settle_amounts
    >>> venue, journal = rc.load_venue("backpack"), Journal(0, 0)
    >>> journal.add("fund", "bankrupt", 0, 1.0, 1.0, settle=venue.settle, cash=5_000_000, fund=-5_000_000)
    >>> settle_amounts(journal.rows(), "cash", venue).tolist()
    [5.0]
    """
    return natural(rows[name], venue.assets.quantum, np.maximum(rows["settle"], 0))


def _of(amounts: npt.NDArray[np.int64], unit: Sequence[Fraction], row: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Amounts in natural units, NaN where there is no row that they are of."""
    return np.where(row >= 0, natural(amounts, unit, np.maximum(row, 0)), np.nan)


def fills(rows: Rows, venue: Venue, accounts: Accounts) -> pd.DataFrame:
    """Return fills that closed positions of liquidated accounts, in natural units.

    Parameters
    ----------
    rows : ndarray of `ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    accounts : Accounts
        The accounts of the run.

    Returns
    -------
    DataFrame
        time, account, market, side (of the account: buy, sell), quantity (> 0), price, notional (of that quantity at
        that price) and fee, both in units of settle_asset (a symbol), stage (order book, backstop, ADL), reason,
        counterparty (an account, or "book"), owner (of the account).

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.record import fills
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> fills(run.rows, run.venue, run.accounts)[["account", "quantity", "stage", "counterparty"]].to_dict("records")
    [{'account': 1, 'quantity': 5.16, 'stage': 'order book', 'counterparty': 'book'}]
    """
    rows = rows[closes_positions(rows)]
    frame = natural_frame(rows, venue, accounts)
    quantity = frame["quantity"].abs().to_numpy()
    notional = quantity * rows["price"]
    if not venue.plain_money:
        notional = np.abs(rows["lots"] * venue.markets.lot_values(rows["price"], rows["market"]))
    return pd.DataFrame(
        {
            "time": frame["time"], "account": frame["account"], "market": frame["market"],
            "side": np.where(rows["lots"] < 0, "sell", "buy"), "quantity": quantity,
            "price": frame["price"], "notional": notional, "fee": frame["fee_amount"],
            "settle_asset": frame["settle_asset"],
            "stage": [STAGE_OF[EVENTS[event]] for event in rows["event"].tolist()],
            "reason": frame["reason"], "counterparty": frame["counterparty"], "owner": frame["owner"],
        }
    )  # fmt: skip
