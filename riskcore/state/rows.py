"""Rows of positions, balances and orders in whole numbers, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._typing import AnyInt, Bool, Float, Int
from ..boundary import units
from ..kernels.layouts import OrderColumns
from ..venue import Units

Rows = tuple[AnyInt, AnyInt, Int, Int, Int]
PositionRows = tuple[AnyInt, AnyInt, Int, Int, Int]


class Orders:
    """Orders in columns, in which an order keeps its number: those of the start, then those that were appended.

    Parameters
    ----------
    columns : OrderColumns
        The first ones ascend by account, market, bids first, price.
    ids : dict of int to str, optional
        Ids of the orders that were given one, by number; of the others the number is the id.
    first : int, optional
        Number of the first ones, those of the start; by default all.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue, market = rc.load_venue("backpack"), "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": [1], "market": market, "quantity": [10.0], "entry_price": 200.0})
    >>> balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [80.0]})
    >>> orders = pd.DataFrame({"account": [1], "market": market, "side": "ask", "price": [210.0], "quantity": 2.0})
    >>> orders = rc.Accounts.from_frames(venue, positions, balances, orders.assign(order="exit")).orders
    >>> orders.side.tolist(), orders.price.tolist(), orders.lots.tolist(), orders.number_of(0, "exit")
    ([-1], [21000], [200], 0)
    """

    def __init__(self, columns: OrderColumns, ids: dict[int, str] | None = None, first: int | None = None) -> None:
        self._columns = self._buffers = columns
        self.ids = {} if ids is None else ids
        self.first = len(columns.lots) if first is None else first
        self._source: Orders | None = None  # of a read-only view
        self._shown: OrderColumns | None = None  # columns of the source that the view has
        self._appended: dict[int, list[int]] | None = None  # numbers of appended orders by account
        self._number_of: dict[tuple[int, str], int] | None = None  # last order of an account with a given id

    def __len__(self) -> int:
        return len(self.lots)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the orders alone, without the room behind them."""
        return Orders, (self.columns, dict(self.ids), self.first)

    @property
    def columns(self) -> OrderColumns:
        """The columns as they are now; those of a view are read-only."""
        if self._source is not None and self._shown is not self._source.columns:
            self._shown = self._source.columns
            self._columns = OrderColumns._make(map(_locked, self._shown))
        return self._columns

    @property
    def account(self) -> Int:
        """Account row of each order."""
        return self.columns.account

    @property
    def market(self) -> Int:
        """Market row of each order."""
        return self.columns.market

    @property
    def side(self) -> Int:
        """1 of a bid, -1 of an ask."""
        return self.columns.side

    @property
    def price(self) -> Int:
        """Limit price of each order, ticks."""
        return self.columns.price

    @property
    def lots(self) -> Int:
        """Lots of each order; 0 of one that is not open any more."""
        return self.columns.lots

    @property
    def reduce_only(self) -> Bool:
        """Whether each order can only reduce a position."""
        return self.columns.reduce_only

    def view(self) -> Orders:
        """Return the same orders in arrays that nobody can write to; orders appended later show in them.

        Returns
        -------
        Orders
            A view.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> view = orders.view()
        >>> orders.append(0, 2, 1, 19_000, 100, reduce_only=False, id_="dip"), view.lots.tolist(), view.id_of(0)
        (0, [100], 'dip')
        """
        source = self if self._source is None else self._source
        view = Orders(OrderColumns._make(map(_locked, source.columns)), source.ids, source.first)
        view._source, view._shown = source, source.columns
        return view

    def copy(self) -> Orders:
        """Return orders in arrays of their own.

        Returns
        -------
        Orders
            A copy that one can write to.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.orders.copy().lots.flags.writeable
        True
        """
        return Orders(OrderColumns._make(map(np.copy, self.columns)), dict(self.ids), self.first)

    def id_of(self, number: int) -> str:
        """Return the id of an order: the one that it was given, or else its number.

        Parameters
        ----------
        number : int
            Number of the order.

        Returns
        -------
        str
            The id.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.orders.id_of(7)
        '7'
        """
        return self.ids.get(number, str(number))

    def number_of(self, account: int, id_: str) -> int:
        """Return the number of the open order of an account that has an id.

        Parameters
        ----------
        account : int
            Account row.
        id_ : str
            Id of the order.

        Returns
        -------
        int
            Number of the order.

        Raises
        ------
        KeyError
            The account has no open order with this id.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> orders.append(0, 2, 1, 19_000, 100, reduce_only=False, id_="dip"), orders.number_of(0, "dip")
        (0, 0)
        """
        numbers, columns = self._numbers(), self.columns
        number = numbers.get((account, id_))
        if number is not None and columns.lots[number]:
            return number
        if id_.isascii() and id_.isdecimal() and len(id_) < _LONGEST_NUMBER and int(id_) < len(columns.lots):
            number = int(id_)
            if columns.lots[number] and columns.account[number] == account and self.id_of(number) == id_:
                return number
        raise KeyError(id_)

    def open_of(self, account: int) -> Int:
        """Return the open orders of an account.

        Parameters
        ----------
        account : int
            Account row.

        Returns
        -------
        ndarray of int64
            Their numbers, by market, bids first, price and number.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> numbers = [orders.append(0, 2, 1, ticks, 100, reduce_only=False) for ticks in (19_000, 18_000)]
        >>> orders.open_of(0).tolist()
        [1, 0]
        """
        columns = self.columns
        start, end = np.searchsorted(columns.account[: self.first], [account, account + 1])
        appended = self._by_account().get(account, ())
        numbers = np.append(np.arange(start, end), np.array(appended, np.int64))
        numbers = numbers[columns.lots[numbers] > 0]
        return self.in_order(numbers) if len(numbers) > 1 else numbers

    def in_order(self, numbers: Int) -> Int:
        """Return orders by account, market, bids first, price and number.

        Parameters
        ----------
        numbers : ndarray of int64, shape (n,)
            Numbers of orders.

        Returns
        -------
        ndarray of int64, shape (n,)
            The same numbers in that order.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> numbers = [orders.append(0, 2, side, 19_000, 100, reduce_only=False) for side in (-1, 1)]
        >>> orders.in_order(np.array(numbers)).tolist()
        [1, 0]
        """
        columns = self.columns
        side = -columns.side[numbers]
        keys = numbers, columns.price[numbers], side, columns.market[numbers], columns.account[numbers]
        return np.asarray(numbers[np.lexsort(keys)])

    def append(
        self, account: int, market: int, side: int, price: int, lots: int, *, reduce_only: bool, id_: str | None = None
    ) -> int:
        """Append an order.

        Parameters
        ----------
        account, market : int
            Rows.
        side : int
            1 of a bid, -1 of an ask.
        price, lots : int
            Ticks and lots.
        reduce_only : bool
            Whether the order can only reduce a position.
        id_ : str, optional
            Its id; by default its number.

        Returns
        -------
        int
            The number of the order.

        Raises
        ------
        ValueError
            The orders are those of a view, or of accounts that nobody can write to.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> orders.append(0, 2, 1, 19_000, 100, reduce_only=False)
        0
        """
        number = len(self._columns.lots)
        if not self._columns.lots.flags.writeable:
            raise ValueError("these orders are read-only")
        appended, numbers = self._by_account().setdefault(account, []), self._numbers()
        if number == len(self._buffers.lots):
            more = number + number // 2 + 1024
            self._buffers = OrderColumns._make(_lengthened(column, more) for column in self._columns)
        for column, value in zip(self._buffers, (account, market, side, price, lots, reduce_only), strict=True):
            column[number] = value
        self._columns = OrderColumns._make(column[: number + 1] for column in self._buffers)
        if len(appended) % _KEPT == _KEPT - 1:
            appended[:] = [other for other in appended if self._columns.lots[other]]
        appended.append(number)
        if id_ is not None and id_ != str(number):
            self.ids[number], numbers[account, id_] = id_, number
        return number

    def truncate(self, count: int) -> None:
        """Take appended orders back.

        Parameters
        ----------
        count : int
            Number of orders that remain.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> orders = accounts.copy().orders
        >>> number = orders.append(0, 2, 1, 19_000, 100, reduce_only=False)
        >>> orders.truncate(number)
        >>> len(orders)
        0
        """
        for number in range(count, len(self._columns.lots)):
            self.ids.pop(number, None)
        self._columns = OrderColumns._make(column[:count] for column in self._buffers)
        self._appended = self._number_of = None

    def _by_account(self) -> dict[int, list[int]]:
        """Numbers of the appended orders by account; some may not be open any more."""
        if self._source is not None:
            return self._source._by_account()
        if self._appended is None:
            self._appended = {}
            for number, owner in enumerate(self._columns.account[self.first :].tolist(), self.first):
                self._appended.setdefault(owner, []).append(number)
        return self._appended

    def _numbers(self) -> dict[tuple[int, str], int]:
        """Number of the last order of an account that was given an id."""
        if self._source is not None:
            return self._source._numbers()
        if self._number_of is None:
            account = self._columns.account
            self._number_of = {(int(account[number]), id_): number for number, id_ in sorted(self.ids.items())}
        return self._number_of


_LONGEST_NUMBER = 19  # digits of a number of 64 bits
_KEPT = 64  # appended orders of an account after which those that are not open any more are forgotten


def _lengthened(column: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    longer = np.zeros(size, column.dtype)
    longer[: len(column)] = column
    return longer


def _locked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def costs(table: str, column: str, price: Float, lots: Int, market: AnyInt, venue_units: Units) -> Int:
    """Return what positions cost: their values at prices, in whole quanta of the settle assets, halves to even.

    Parameters
    ----------
    table, column : str
        Of the prices, for messages.
    price : ndarray of float64, shape (n,)
        Quote units.
    lots : ndarray of int64, shape (n,)
        Signed.
    market : ndarray of int, shape (n,)
        Market rows.
    venue_units : Units
        Of the venue.

    Returns
    -------
    ndarray of int64, shape (n,)
        Quanta, signed.

    Raises
    ------
    RiskDataError
        A value does not fit 64 bits.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.state import costs
    >>> venue = rc.load_venue("backpack")
    >>> market = np.array([venue.markets.row["SOL_USDC_PERP"]])
    >>> costs("positions", "entry_price", np.array([200.0]), np.array([1_000]), market, venue.units).tolist()
    [2000000000]
    """
    step, multiplier, quantum = (units.PerKind(size, market) for size in venue_units.market_sizes)
    factors: list[units.Numbers] = [price, lots, step]
    if (multiplier.values != 1.0).any():
        factors.append(multiplier)
    if not any(venue_units.inverse):
        return units.round_half_even(table, column, factors, quantum)
    is_inverse = np.array(venue_units.inverse)[market]
    factors[0] = np.where(is_inverse, 1.0, price)
    value = units.round_half_even(table, column, factors, quantum, np.where(is_inverse, price, 1.0))
    return np.where(is_inverse, -value, value)


class Opened(NamedTuple):
    """Accounts that are opened.

    Attributes
    ----------
    ids : ndarray, shape (N,)
        Their ids, in the order of opening; none is that of another account.
    leverage_limit : ndarray of float64, shape (N,)
        +inf without a limit.
    owner_ids : ndarray, shape (N,)
        Ids of their owners.

    Examples
    --------
    >>> from riskcore.state import Opened
    >>> len(Opened.of([9], [5.0], [9]).ids)
    1
    """

    ids: npt.NDArray[Any]
    leverage_limit: Float
    owner_ids: npt.NDArray[Any]

    @classmethod
    def of(cls, ids: Sequence[int | str], leverage_limit: Sequence[float], owner_ids: Sequence[int | str]) -> Opened:
        """Return accounts of ids of one kind.

        Parameters
        ----------
        ids, leverage_limit, owner_ids : sequence
            As the attributes.

        Returns
        -------
        Opened
            The accounts.

        Examples
        --------
        >>> from riskcore.state import Opened
        >>> Opened.of(["ann"], [5.0], ["ann"]).owner_ids.tolist()
        ['ann']
        """
        kind = np.int64 if ids and isinstance(ids[0], int) else object
        return cls(np.array(ids, kind), np.array(leverage_limit, np.float64), np.array(owner_ids, kind))

    @classmethod
    def joined(cls, parts: Sequence[Opened]) -> Opened:
        """Return accounts that were opened one part after another.

        Parameters
        ----------
        parts : sequence of Opened
            The parts, with ids of one kind.

        Returns
        -------
        Opened
            All accounts.

        Examples
        --------
        >>> from riskcore.state import Opened
        >>> Opened.joined([Opened.of([9], [5.0], [9]), Opened.of([7], [5.0], [9])]).ids.tolist()
        [9, 7]
        """
        if not parts:
            return NOBODY_OPENED
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


NOBODY_OPENED = Opened.of([], [], [])


def _rows_of(span: npt.NDArray[np.uint32], accounts: Int) -> tuple[Int, Int]:
    """Rows that some accounts own, one account after another, and the number of each."""
    first, end = span[accounts].astype(np.int64).T
    counts = end - first
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(first, counts) + within, counts


def _key(owner: AnyInt, kind: AnyInt, width: int) -> Int:
    """Sort key of a row: by owner, then by market or asset."""
    return owner.astype(np.int64) * width + kind
