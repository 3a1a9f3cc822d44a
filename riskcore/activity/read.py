"""Reads the table `activity`: names, sizes and times of actions, in whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from .._limits import AMOUNT_LIMIT
from .._typing import AnyInt, Bool, Float, Int
from ..boundary import RiskDataError, as_text, exact, frames, is_unicode, moment, schemas, timestamps, units
from ..kernels import activity as kernels
from ..state import NOBODY_OPENED, Accounts, Opened, Orders, costs
from ..venue import Venue
from .actions import ACTIONS, COLUMNS, NAMES

TABLE = "activity"
_REQUIRED = np.array([[name in action.required.split() for name in COLUMNS] for action in ACTIONS.values()])
_ALLOWED = _REQUIRED | np.array([[name in action.optional.split() for name in COLUMNS] for action in ACTIONS.values()])
_TRADES = kernels.FILL, kernels.CONFIRM
_OF_ORDERS = kernels.PLACE, kernels.CHANGE, kernels.CANCEL
_MONEY = np.isin(np.arange(len(NAMES)), range(kernels.DEPOSIT, kernels.LEVERAGE))
_LOTS = "must be a whole number of lots of the market's stepSize"
_TICKS = "must be a whole number of ticks of the market's tickSize"


class Placed(NamedTuple):
    """An order that an action places, in whole numbers."""

    account: int
    market: int
    side: int
    ticks: int
    lots: int
    reduce_only: bool
    id_: str | None


@dataclass(frozen=True)
class Actions:
    """Actions in whole numbers; N rows.

    Attributes
    ----------
    matrix : ndarray of int64, shape (N, 10)
        Columns of `riskcore.kernels.activity`.
    time : ndarray of int64, shape (N,)
        Nanoseconds since the epoch.
    price : ndarray of float64, shape (N,)
        Of a fill; or the leverage limit of `leverage`, +inf for none.
    fee_given : ndarray of bool, shape (N,), or None
        Whether an action has a fee; None: nobody asks.
    opened : Opened
        Accounts that are opened, in the order of their actions.
    placed : list of Placed
        Orders that are placed, in the order of their actions.
    value : callable
        Value of a row and column of the table, for messages.
    """

    matrix: Int
    time: Int
    price: Float
    fee_given: Bool | None
    opened: Opened
    placed: list[Placed]
    value: Callable[[int, str], object]

    def refusal(self, row: int, column: str, rule: str) -> RiskDataError:
        """Return the error of an action that breaks a rule."""
        column = column if column == "account" or self.value(row, column) is not None else "account"
        return RiskDataError(TABLE, column, rule, row=row, value=_shown(self.value(row, column)))


class Reader:
    """Reads activity for the accounts of an engine as they are.

    Parameters
    ----------
    accounts : Accounts
        The state.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._rows: dict[int | str, int] = {}

    def read(self, source: Any, venue: Venue, earliest: int | None) -> Actions:
        """Read a table, or one action.

        Parameters
        ----------
        source
            A frame, a mapping of columns, a list of mappings, or one mapping.
        venue
            The rules as they are.
        earliest
            Time of the last action or tick, None before the first.

        Raises
        ------
        RiskDataError
            A value breaks a rule.
        """
        if isinstance(source, Mapping):
            if not any(_is_column(value) for value in source.values()):
                one = self.one(source, venue, earliest)
                return self._table(pd.DataFrame([dict(source)], dtype=object), venue, earliest) if one is None else one
            try:
                source = pd.DataFrame(dict(source))
            except ValueError as error:
                raise RiskDataError(TABLE, None, f"must have columns of one length: {error}") from None
        return self._table(frames.rows_as_frame(TABLE, source), venue, earliest)

    def row_of(self, account: int | str) -> int:
        """Row of an account; a row is looked up once.

        Raises
        ------
        KeyError
            There is no such account.
        """
        if type(account) not in (int, str):  # 1.0 and True would be found as 1
            return self.accounts.row_of(account)
        row = self._rows.get(account)
        if row is None:
            row = self.accounts.row_of(account)
            if len(self._rows) < _KEPT_ROWS:
                self._rows[account] = row
        return row

    def forget(self) -> None:
        """Forget rows, after accounts were taken back."""
        self._rows.clear()

    def one(self, values: Mapping[str, Any], venue: Venue, earliest: int | None) -> Actions | None:
        """Read one action of plain values; None where a value is not plain, or wrong: the table's reader decides."""
        try:
            return self._one(values, venue, earliest)
        except _UNUSUAL:
            return None

    def _one(self, values: Mapping[str, Any], venue: Venue, earliest: int | None) -> Actions | None:
        given = {name: value for name, value in values.items() if value is not None}
        action = ACTIONS.get(given.get("action", ""))
        if action is None:
            return None
        names, code = _PLAIN[action.code], action.code
        if names is None or not names[0] <= given.keys() or not given.keys() <= names[1]:
            return None
        account = self.row_of(given["account"])
        time = given.get("time")
        time = _start(earliest) if time is None else _plain_time(time, earliest)
        market = item = -1
        other = order = -1
        amount = flow = fee = ticks = 0
        price, placed = 0.0, []
        accounts = self.accounts
        orders = accounts.orders
        if code in _OF_ORDERS or "order" in given:
            id_ = given.get("order")
            if id_ is not None and type(id_) is not str:
                id_ = str(_whole(id_))
            elif id_ is not None and not is_unicode(id_):
                return None
            if code == kernels.PLACE:
                order = len(orders.lots)
                other = _number_or_none(orders, account, str(order) if id_ is None else id_)
            else:
                order = orders.number_of(account, str(id_))
                market = int(orders.market[order])
        if "market" in given:
            item = venue.markets.row[given["market"]]
            if market not in (-1, item):
                return None
            market = item
        if market >= 0:
            item = market
            if "quantity" in given:
                amount = _multiple(_number(given["quantity"]), float(venue.markets.step_size[market]))
                if amount == 0 or (amount < 0 and code != kernels.FILL):
                    return None
            if "price" in given:
                price = _number(given["price"])
                if not 0.0 < price < np.inf:
                    return None
                if code == kernels.FILL:
                    flow = -_cost(venue, market, price, amount)
                    if order >= 0:
                        ticks = _bad_side(venue, market, price, amount)
                else:
                    ticks = _multiple(price, float(venue.markets.tick_size[market]))
                    if ticks < 1:
                        return None
            if "fee" in given:
                quantum = venue.assets.quantum_size[venue.markets.settle[market]]
                fee = _rounded(_number(given["fee"]), float(quantum))
            if code == kernels.PLACE:
                side = {"bid": 1, "ask": -1}[given["side"]]
                reduce_only = given.get("reduce_only", False)
                if type(reduce_only) is not bool:
                    return None
                placed.append(Placed(account, market, side, ticks, amount, reduce_only, id_))
            elif code == kernels.CHANGE and not (amount or ticks):
                return None
        else:
            item = venue.assets.row[given["asset"]]
            amount = _rounded(_number(given["quantity"]), float(venue.assets.quantum_size[item]))
            if amount < 1:
                return None
            if code == kernels.TRANSFER:
                order = self.row_of(given["to_account"])
                if order == account or accounts.owners[order] != accounts.owners[account]:
                    return None
        matrix = np.array([(code, account, item, -1, other, order, amount, flow, fee, ticks)], np.int64)
        return Actions(
            matrix, np.array([time], np.int64), np.array([price]), None, NOBODY_OPENED, placed,
            lambda row, column: values.get(column),
        )  # fmt: skip

    def _table(self, source: pd.DataFrame, venue: Venue, earliest: int | None) -> Actions:
        """Read a table of any size, and find what is wrong with it."""
        if not len(source):
            return Actions(
                np.empty((0, kernels.ACTION_WIDTH), np.int64), np.empty(0, np.int64), np.empty(0), None,
                NOBODY_OPENED, [], lambda row, column: None,
            )  # fmt: skip
        own_clock = earliest is None or timestamps.has_own_clock(earliest)
        table = schemas.checked(TABLE, source, own_clock=own_clock)
        return _Table(self.accounts, venue, source, table).actions(earliest)


class _Table:
    """A table whose columns have their types; rows of accounts, markets, orders and amounts are found in turn."""

    def __init__(self, accounts: Accounts, venue: Venue, source: pd.DataFrame, table: pd.DataFrame) -> None:
        self.accounts, self.venue, self.source, self.table = accounts, venue, source, table
        self.kind = schemas.codes(TABLE, "action", table["action"], NAMES, "an action")
        self.given = {
            name: ~frames.missing(table[name]) if name in table.columns else np.zeros(len(table), bool)
            for name in COLUMNS
        }
        self.matrix = np.zeros((kernels.ACTION_WIDTH, len(table)), np.int64)  # by column: they are filled in turn
        self.price = np.zeros(len(table))

    def actions(self, earliest: int | None) -> Actions:
        """Whole numbers of all rows."""
        self._use()
        time = self._times(earliest)
        matrix = self.matrix
        matrix[kernels.KIND] = self.kind
        for column in (kernels.ITEM, kernels.ROW, kernels.OTHER, kernels.ORDER):
            matrix[column] = -1
        opened = self._accounts()
        for name, rows, what in (
            ("market", self.venue.markets.symbol, "a market"), ("asset", self.venue.assets.symbol, "a collateral asset")
        ):  # fmt: skip
            if (chosen := np.flatnonzero(self.given[name])).size:
                with _rows(chosen):
                    matrix[kernels.ITEM, chosen] = schemas.codes(TABLE, name, self._of(name, chosen), rows, what)
        placing = self._orders()
        self._trades()
        self._limits(placing)
        self._money()
        limits = np.isin(self.kind, [kernels.LEVERAGE])
        if limits.any():
            self.price[limits] = self._numbers("leverage_limit", np.inf)[limits]
        return Actions(_by_row(matrix), time, self.price, self.given["fee"], opened, placing, self._value)

    def _value(self, row: int, column: str) -> object:
        if column not in self.source.columns:
            return None
        value = self.source[column].iloc[row]
        return None if frames.missing(pd.Series([value]))[0] else value

    def _refusal(self, row: int, column: str, rule: str) -> RiskDataError:
        return RiskDataError(TABLE, column, rule, row=row, value=_shown(self.source[column].iloc[row]))

    def _refuse(self, bad: Bool, column: str, rule: str) -> None:
        if bad.any():
            raise self._refusal(int(bad.argmax()), column, rule)

    def _of(self, column: str, rows: Int) -> pd.Series[Any]:
        """Values of a column in some rows, or all."""
        return self.table[column] if len(rows) == len(self.table) else self.table[column].iloc[rows]

    def _numbers(self, column: str, otherwise: float) -> Float:
        if column not in self.table.columns:
            return np.full(len(self.table), otherwise)
        values = self.table[column].to_numpy(float)
        return np.where(np.isnan(values), otherwise, values)

    def _use(self) -> None:
        """Refuse values in columns that an action does not use, and missing ones in those that it needs."""
        kinds = np.flatnonzero(np.bincount(self.kind, minlength=len(NAMES)))
        for number, name in enumerate(COLUMNS):
            given = self.given[name]
            if _ALLOWED[kinds, number].all() if given.all() else not (given.any() or _REQUIRED[kinds, number].any()):
                continue
            if (bad := given & ~_ALLOWED[self.kind, number]).any():
                row = int(bad.argmax())
                raise self._refusal(row, name, f"must be missing: {NAMES[self.kind[row]]} does not use it")
            if (bad := ~given & _REQUIRED[self.kind, number]).any():
                row = int(bad.argmax())
                rule = f"must not be missing: {NAMES[self.kind[row]]} needs it"
                raise RiskDataError(TABLE, name, rule, row=row, value=np.nan)
        nothing = (self.kind == kernels.CHANGE) & ~self.given["quantity"] & ~self.given["price"]
        if nothing.any():
            rule = "must not be missing together with price: a change needs one of them"
            raise RiskDataError(TABLE, "quantity", rule, row=int(nothing.argmax()), value=np.nan)

    def _times(self, earliest: int | None) -> Int:
        """Times of the rows; a missing one is that of the row before."""
        start = _start(earliest)
        if "time" not in self.table.columns:
            return np.full(len(self.table), start)
        given = ~frames.missing(self.source["time"])
        read = self.table["time"].to_numpy(np.int64)
        time = np.maximum(np.maximum.accumulate(np.where(given, read, start)), start)
        early = given & (read < time)
        if early.any():
            row = int(early.argmax())
            raise self._refusal(row, "time", f"must not be before the last tick or action, {moment(int(time[row]))}")
        return time

    def _accounts(self) -> Opened:
        """Rows of the accounts; those that are opened come behind the others."""
        opens = np.flatnonzero(self.kind == kernels.OPEN)
        opened = _opened(self, opens) if opens.size else NOBODY_OPENED
        first, ids = len(self.accounts), opened.ids.tolist()
        new = {id_: first + n for n, id_ in enumerate(ids)}
        for column, place in (("account", kernels.ACCOUNT), ("to_account", kernels.ORDER)):
            if column == "to_account" and not (chosen := np.flatnonzero(self.given["to_account"])).size:
                continue
            chosen = np.arange(len(self.table)) if column == "account" else chosen
            named = self._of(column, chosen)
            if new:
                rows = np.array([new.get(id_, -1) for id_ in named.tolist()], np.int64)
                early = (rows >= first) & (chosen < opens[np.maximum(rows - first, 0)])
                if early.any():
                    raise self._refusal(int(chosen[early.argmax()]), column, "must be an account that is open already")
                known = np.flatnonzero(rows < 0)
                if known.size:
                    with _rows(chosen[known]):
                        rows[known] = self.accounts.rows_of(TABLE, column, named.iloc[known].infer_objects())
            else:
                with _rows(chosen):
                    rows = self.accounts.rows_of(TABLE, column, named.infer_objects())
            self.matrix[place, chosen] = rows
        if (chosen := np.flatnonzero(self.given["to_account"])).size:
            owners = np.concatenate([self.accounts.owners, opened.owner_ids]) if ids else self.accounts.owners
            source, target = self.matrix[kernels.ACCOUNT, chosen], self.matrix[kernels.ORDER, chosen]
            if (same := source == target).any():
                raise self._refusal(int(chosen[same.argmax()]), "to_account", "must be another account")
            if (others := owners[source] != owners[target]).any():
                n = int(others.argmax())
                rule = f"must be of the owner of the account, {owners[source[n]]}, not of {owners[target[n]]}"
                raise self._refusal(int(chosen[n]), "to_account", rule)
        return opened

    def _orders(self) -> list[Placed]:
        """Numbers of the orders that actions place or name, and the markets of these."""
        orders, matrix = self.accounts.orders, self.matrix
        named = self.given["order"] | (self.kind == kernels.PLACE)
        if not named.any():
            return []
        texts = self.table["order"].tolist() if "order" in self.table.columns else [None] * len(self.table)
        reduce_only = self.table["reduce_only"].tolist() if "reduce_only" in self.table.columns else None
        sides = self.table["side"].tolist() if "side" in self.table.columns else []
        placed: list[Placed] = []
        latest: dict[tuple[int, str], int] = {}
        first = len(orders.lots)
        for row in np.flatnonzero(named).tolist():
            account, id_ = int(matrix[kernels.ACCOUNT, row]), texts[row] if self.given["order"][row] else None
            if self.kind[row] == kernels.PLACE:
                number = first + len(placed)
                if sides[row] not in ("bid", "ask"):
                    raise self._refusal(row, "side", "must be 'bid' or 'ask'")
                key = account, str(number) if id_ is None else id_
                earlier = latest.get(key, -1)
                matrix[kernels.OTHER, row] = _number_or_none(orders, *key) if earlier < 0 else earlier
                matrix[kernels.ORDER, row] = latest[key] = number
                only = reduce_only is not None and reduce_only[row] is True
                market = int(matrix[kernels.ITEM, row])
                placed.append(Placed(account, market, 1 if sides[row] == "bid" else -1, 0, 0, only, id_))
                continue
            key = account, str(id_)
            known = latest.get(key, -1)
            number = _number_or_none(orders, *key) if known < 0 else known
            if number < 0:
                raise self._refusal(row, "order", "must be an open order of the account")
            market = placed[number - first].market if number >= first else int(orders.market[number])
            if self.kind[row] == kernels.FILL and market != matrix[kernels.ITEM, row]:
                raise self._refusal(row, "order", f"must be an order in {self.table['market'].iloc[row]}")
            matrix[kernels.ORDER, row], matrix[kernels.ITEM, row] = number, market
        return placed

    def _whole_lots(self, rows: Int, least: int | None) -> Int:
        """Quantities of rows with a market in lots; at least ``least``, or not 0."""
        market = self.matrix[kernels.ITEM, rows]
        with _rows(rows):
            step = units.PerKind(self.venue.markets.step_size, market)
            lots = units.whole_multiples(TABLE, "quantity", self.table["quantity"].to_numpy(float)[rows], step, _LOTS)
        bad = lots == 0 if least is None else lots < least
        if bad.any():
            rule = "must not be 0" if least is None else "must be at least one lot"
            raise self._refusal(int(rows[bad.argmax()]), "quantity", rule)
        return lots

    def _trades(self) -> None:
        """Lots, flow, fee and price of fills."""
        rows = np.flatnonzero(np.isin(self.kind, _TRADES))
        if not rows.size:
            return
        everything = rows.size == len(self.table)
        chosen: Any = slice(None) if everything else rows
        matrix, venue = self.matrix, self.venue
        market, price = matrix[kernels.ITEM, chosen], self.table["price"].to_numpy(float)[chosen]
        lots = self._whole_lots(rows, None)
        with _rows(rows):
            matrix[kernels.FLOW, chosen] = -costs(TABLE, "price", price, lots, market, venue.units)
            if self.given["fee"].any():
                quantum = units.PerKind(venue.assets.quantum_size[venue.markets.settle], market)
                fee = self._numbers("fee", 0.0)[chosen]
                matrix[kernels.FEE, chosen] = units.round_half_even(TABLE, "fee", [fee], quantum)
        matrix[kernels.AMOUNT, chosen] = lots
        self.price[chosen] = price
        for row in rows[matrix[kernels.ORDER, rows] >= 0].tolist() if self.given["order"].any() else ():
            size = int(matrix[kernels.AMOUNT, row])
            matrix[kernels.TICKS, row] = _bad_side(venue, int(matrix[kernels.ITEM, row]), self.price[row], size)

    def _limits(self, placed: list[Placed]) -> None:
        """Lots and limit prices of orders."""
        matrix, markets = self.matrix, self.venue.markets
        of_orders = np.isin(self.kind, (kernels.PLACE, kernels.CHANGE))
        if not of_orders.any():
            return
        sized = np.flatnonzero(of_orders & self.given["quantity"])
        if sized.size:
            matrix[kernels.AMOUNT, sized] = self._whole_lots(sized, 1)
        priced = np.flatnonzero(of_orders & self.given["price"])
        if priced.size:
            tick = markets.tick_size[matrix[kernels.ITEM, priced]]
            with _rows(priced):
                prices = self.table["price"].to_numpy(float)[priced]
                ticks = units.whole_multiples(TABLE, "price", prices, tick, _TICKS)
            if (bad := ticks < 1).any():
                raise self._refusal(int(priced[bad.argmax()]), "price", "must be at least one tick")
            matrix[kernels.TICKS, priced] = ticks
        for n, row in enumerate(np.flatnonzero(self.kind == kernels.PLACE).tolist()):
            ticks, lots = matrix[(kernels.TICKS, kernels.AMOUNT), row].tolist()
            placed[n] = placed[n]._replace(ticks=ticks, lots=lots)

    def _money(self) -> None:
        """Quanta of the actions with an asset."""
        rows = np.flatnonzero(_MONEY[self.kind])
        if not rows.size:
            return
        quantity = self.table["quantity"].to_numpy(float)[rows]
        if (bad := ~(quantity > 0)).any():
            raise self._refusal(int(rows[bad.argmax()]), "quantity", "must be a finite number > 0")
        quantum = units.PerKind(self.venue.assets.quantum_size, self.matrix[kernels.ITEM, rows])
        with _rows(rows):
            quanta = units.round_half_even(TABLE, "quantity", [quantity], quantum)
        if (bad := quanta < 1).any():
            raise self._refusal(int(rows[bad.argmax()]), "quantity", "must be at least one quantum of the asset")
        self.matrix[kernels.AMOUNT, rows] = quanta


def _by_row(columns: Int) -> Int:
    """Rows of a matrix of columns, written block by block."""
    matrix = np.empty(columns.shape[::-1], np.int64)
    for rows in units.blocks(len(matrix)):
        matrix[rows] = columns[:, rows].T
    return matrix


def _opened(table: _Table, opens: Int) -> Opened:
    """Accounts that the rows ``opens`` open."""
    accounts = table.accounts
    ids = table.table["account"].iloc[opens].tolist()
    owners = list(ids)
    if table.given["owner"].any():
        named = zip(ids, table.table["owner"].iloc[opens].tolist(), table.given["owner"][opens].tolist(), strict=True)
        owners = [owner if given else id_ for id_, owner, given in named]
    kind = int if accounts.ids.dtype == np.int64 else str
    own: dict[int | str, int | str] = {}
    for row, id_, owner in zip(opens.tolist(), ids, owners, strict=True):
        for column, value in (("account", id_), ("owner", owner)):
            if not isinstance(value, kind):
                raise table._refusal(row, column, "must be of one kind with the account ids, whole number or text")
        if id_ in own or _owner_of(accounts, id_) is not None:
            raise table._refusal(row, "account", "must not be an account of the state")
        if owner != id_ and own.get(owner, _owner_of(accounts, owner)) not in (None, owner):
            raise table._refusal(row, "owner", "must be its own owner if it is an account")
        own[id_] = owner
    if kind is str:
        for column, values in (("account", ids), ("owner", owners)):
            schemas.must_be_unicode(TABLE, column, pd.Series(values, dtype=object))
    limit = table._numbers("leverage_limit", np.inf)[opens]
    return Opened.of(ids, limit.tolist(), owners)


def _owner_of(accounts: Accounts, id_: int | str) -> int | str | None:
    """Id of the owner of an account, None if there is no such account."""
    try:
        owner: int | str = accounts.owners[accounts.row_of(id_)]
    except KeyError:
        return None
    return owner


@contextmanager
def _rows(rows: AnyInt) -> Iterator[None]:
    """Name the rows of the table in the errors of functions that were given some rows alone."""
    try:
        yield
    except RiskDataError as error:
        row = rows[cast(int, error.row)].item()
        raise RiskDataError(error.table, error.column, error.rule, row=row, value=error.value) from None


def _shown(value: object) -> object:
    """Value of a message: a number as it is, else its text."""
    return value if isinstance(value, int | float | np.number) else as_text(value)


def _number_or_none(orders: Orders, account: int, id_: str) -> int:
    """Number of the open order of an account that has an id, -1 if there is none."""
    try:
        return int(orders.number_of(account, id_))
    except KeyError:
        return -1


def _is_column(value: object) -> bool:
    """Whether a value of a mapping is a column."""
    return isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Index)


def _start(earliest: int | None) -> int:
    """Time of an action that has none."""
    return 0 if earliest is None else earliest


_UNUSUAL = KeyError, TypeError, ValueError, OverflowError
"""Errors of plain reading; `RiskDataError` is one of them."""
_KEPT_ROWS = 1 << 20
_ALWAYS = {"action", "account", "time"}
_PLAIN = [
    None
    if action.code in (kernels.OPEN, kernels.LEVERAGE, kernels.CONFIRM)
    else (
        {"action", "account", *action.required.split()},
        {*_ALWAYS, *action.required.split(), *action.optional.split()},
    )
    for action in ACTIONS.values()
]
"""Columns that a plain action must have, and those that it may have; None: it is read as a table."""


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError
    return int(value)


def _plain_time(value: Any, earliest: int | None) -> int:
    time = timestamps.instant(TABLE, value, before=earliest)
    if time < _start(earliest):
        raise ValueError
    return time


def _multiple(value: float, unit: float) -> int:
    """Whole number of units, as of `units.whole_multiples`; 0 where it is none."""
    ratio = value / unit
    count = round(ratio)
    slack = max(1e-6, abs(count) * 4 * _EPSILON)
    return count if abs(ratio - count) <= slack and abs(count) < AMOUNT_LIMIT else 0


def _rounded(value: float, unit: float) -> int:
    """``value / unit`` rounded half-even, as of `units.round_half_even`."""
    ratio = value / unit
    if not abs(ratio) < AMOUNT_LIMIT:
        raise ValueError
    return round(exact(value) / exact(unit)) if _near_half(ratio) else round(ratio)


def _near_half(ratio: float) -> bool:
    """Whether rounding of float64 could decide to which whole number a ratio is rounded."""
    return abs(abs(ratio - ratio // 1) - 0.5) <= abs(ratio) * 8 * _EPSILON + 1e-9


def _cost(venue: Venue, market: int, price: float, lots: int) -> int:
    """Quanta that lots cost at a price, as of `riskcore.state.costs`."""
    markets = venue.markets
    quantum = float(venue.assets.quantum_size[markets.settle[market]])
    size = float(markets.lot_size[market])
    value = (-lots * size / price if markets.inverse[market] else lots * size * price) / quantum
    if not abs(value) < AMOUNT_LIMIT:
        raise ValueError
    if not _near_half(value):
        return round(value)
    cost: int = round(lots * markets.lot_value(market, exact(price)) / venue.assets.quantum[markets.settle[market]])
    return cost


def entry_price(venue: Venue, market: int, paid: int, lots: int) -> float:
    """Average price of a position, as of `riskcore.state.average_prices`."""
    markets = venue.markets
    value = abs(lots) * float(markets.lot_size[market]) / float(venue.assets.quantum_size[markets.settle[market]])
    amount = abs(paid) or 0.25
    price = value / amount if markets.inverse[market] else amount / value
    tick = markets.tick[market]
    on_tick = max(round(price / float(markets.tick_size[market])), 1) * tick.numerator / tick.denominator
    return on_tick if _cost(venue, market, on_tick, lots) == paid else price


def _bad_side(venue: Venue, market: int, price: float, lots: int) -> int:
    """Whole ticks of a price, rounded up for a purchase and down for a sale."""
    ratio: Fraction = exact(price) / venue.markets.tick[market]
    return -(-ratio.numerator // ratio.denominator) if lots > 0 else ratio.numerator // ratio.denominator


_EPSILON = float(np.finfo(float).eps)
