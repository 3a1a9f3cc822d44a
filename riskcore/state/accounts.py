"""The state: positions, balances and open orders of all accounts, in columns grouped by account."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from .._typing import Bool, Float, Int, Whole
from ..boundary import RiskDataError, counted, schemas, shown
from ..kernels.layouts import AccountColumns
from ..venue import Provider, Units, Venue, must_be_venue
from .fills import changed_rows
from .read import _ORDERS, _rows
from .rows import Orders, PositionRows, Rows, _key
from .sweep_view import SweepView
from .write import AccountFrames, to_frames


@dataclass(frozen=True, repr=False)
class Accounts:
    """All accounts in whole numbers: lots of positions, quanta of money.

    Accounts ascend by id, positions of an account by market, balances by asset; every account has a balance of the
    settle asset and every backstop provider a position row in every market, so a liquidation never adds a row.

    Attributes
    ----------
    ids : ndarray, shape (A,)
        The user's account ids, whole numbers or text.
    columns : AccountColumns
        The columns that the kernels read and write; shapes and dtypes there.
    orders : Orders
    leverage_limit : ndarray of float64, shape (A,)
        +inf without a limit.
    rounded : float
        Sum of the absolute amounts, in quanta, that rounding to whole quanta moved at the boundary.
    units : Units
        What the whole numbers stand for: those of the venue that the accounts were read with.

    Notes
    -----
    Nobody can write to the arrays, of a copy by the module copy or by pickle neither; `copy` has some of its own that
    one can.
    """

    ids: npt.NDArray[Any]
    columns: AccountColumns
    orders: Orders
    leverage_limit: Float
    rounded: float
    units: Units

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_frames(
        cls,
        venue: Venue,
        positions: pd.DataFrame,
        balances: pd.DataFrame,
        orders: pd.DataFrame | None = None,
        settings: pd.DataFrame | None = None,
    ) -> Accounts:
        """Read accounts from tables in natural units.

        Parameters
        ----------
        venue
            The venue whose markets and assets the tables name.
        positions
            account, market, quantity (signed, whole lots), entry_price, settle_price (optional: the mark at which PnL
            was last realised, the entry price where it never was).
        balances
            account, asset, quantity (negative is borrowed), lent (optional, counts as collateral).
        orders
            account, market, side (bid, ask), price (whole ticks), quantity (whole lots), reduce_only (optional).
        settings
            account, leverage_limit (optional), unsettled (optional, settle units).

        Raises
        ------
        RiskDataError
            A table breaks a rule; the message names table, column, row, value and rule.
        """
        must_be_venue(venue)
        frames = {
            "positions": positions, "balances": balances,
            "orders": pd.DataFrame(columns=_ORDERS) if orders is None else orders,
            "settings": pd.DataFrame(columns=["account"]) if settings is None else settings,
        }  # fmt: skip
        del positions, balances
        pyarrow.default_memory_pool().release_unused()  # Arrow keeps the memory that reading the tables took
        try:
            rows = _rows(venue, frames)
        except RiskDataError:
            for (
                name,
                frame,
            ) in frames.items():  # a duplicate key is reported before any other error; `_rows` finds it last
                schemas.checked(name, frame)
            raise
        del frames
        return cls.from_rows(venue, *rows).frozen()

    @classmethod
    def from_rows(
        cls,
        venue: Venue,
        ids: npt.NDArray[Any],
        positions: PositionRows,
        balances: Rows,
        orders: Orders,
        leverage_limit: Float,
        unsettled: Int,
        rounded: float = 0.0,
    ) -> Accounts:
        """Build the columns from whole-number rows in canonical order: account, market, lots, cost, entry and so on.

        They are a view of the rows, which remain the caller's.
        """
        count = len(ids)
        owner, market, lots, cost, entry = positions
        holder, asset, free, lent = balances
        sums = [np.zeros(len(lots), np.int64) for _ in range(2)]
        if len(orders.account):
            width = len(venue.markets.symbol)
            row = np.searchsorted(_key(owner, market, width), _key(orders.account, orders.market, width))
            for total, side in zip(sums, (1, -1), strict=True):
                chosen = ~orders.reduce_only & (orders.side == side)
                np.add.at(total, row[chosen], orders.lots[chosen])
        account_cost = np.zeros(count, np.int64)
        np.add.at(account_cost, owner, cost)
        columns = AccountColumns(
            position_offset=_offset(owner, count),
            market=market.astype(np.uint16),
            lots=lots,
            open_bid=sums[0],
            open_ask=sums[1],
            cost=cost,
            entry=entry,
            balance_offset=_offset(holder, count),
            asset=asset.astype(np.uint16),
            free=free,
            lent=lent,
            settle_row=np.flatnonzero(asset == venue.settle).astype(np.uint32),
            account_cost=account_cost,
            open_orders=_copied(np.bincount(orders.account[orders.lots > 0], minlength=count).astype(np.uint32)),
            unsettled=unsettled,
            leverage_fraction=_copied(1.0 / leverage_limit),
        )
        return cls(ids, columns, orders, leverage_limit, rounded, venue.units).view()

    def __repr__(self) -> str:
        """One line: accounts, positions, open orders, and what the balances of the settle asset add up to."""
        columns, settle = self.columns, self.units.assets.index(self.units.settle_asset)
        total = float(columns.free[columns.settle_row].sum()) * float(self.units.quanta[settle])
        positions, orders = (int(np.count_nonzero(lots)) for lots in (columns.lots, self.orders.lots))
        return (
            f"Accounts({counted(len(self), 'account')}, {counted(positions, 'position')}, "
            f"{counted(orders, 'open order')}, {total:,.2f} {shown(self.units.settle_asset)} in balances)"
        )

    def to_frames(self) -> AccountFrames:
        """Return the accounts as tables in natural units: those that `from_frames` reads as the same whole numbers.

        Positions and balances of nothing, and cancelled orders, have no row; every account has one of the settle
        asset. An entry or settle price is the average one paid: a whole number of ticks where that gives the same
        amount. float64 says whole numbers below 2**53, and an average price amounts below 2**50 quanta; what is
        larger may come back with other last digits.

        Returns
        -------
        AccountFrames
            positions, balances, orders, settings: ``Accounts.from_frames(venue, *frames)`` reads them.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> venue = rc.load_venue("backpack")
        >>> positions = pd.DataFrame({"account": [7], "market": ["SOL_USDC_PERP"], "quantity": [12.5]})
        >>> balances = pd.DataFrame({"account": [7], "asset": ["USDC"], "quantity": [150.0]})
        >>> accounts = rc.Accounts.from_frames(venue, positions.assign(entry_price=180.25), balances)
        >>> accounts
        Accounts(1 account, 1 position, 0 open orders, 150.00 USDC in balances)
        >>> frames = accounts.to_frames()
        >>> print(frames.positions.to_string(index=False))
         account        market  quantity  entry_price
               7 SOL_USDC_PERP      12.5       180.25
        >>> rc.Accounts.from_frames(venue, *frames)
        Accounts(1 account, 1 position, 0 open orders, 150.00 USDC in balances)
        """
        return to_frames(self)

    def with_fills(
        self, venue: Venue, fills: pd.DataFrame | None = None, transfers: pd.DataFrame | None = None
    ) -> Accounts:
        """Return other accounts: these after fills and transfers, exact in whole numbers.

        An account gets a row in each market and asset that it has none of.

        Parameters
        ----------
        venue
            The venue that the accounts were read with.
        fills : DataFrame
            account, market, quantity (signed: bought or sold, whole lots), price, fee (optional: settle units that the
            account pays). They are filled in the order of the rows.
        transfers : DataFrame
            account, asset, quantity (signed: paid in or out).

        Returns
        -------
        Accounts
            Nobody can write to its arrays; open orders, settings and ``unsettled`` are as before.

        Raises
        ------
        RiskDataError
            A row names an account, market or asset that is not there, breaks a rule of its table, or brings an account
            to 2**60 quanta or more.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> venue = rc.load_venue("backpack")
        >>> market = "SOL_USDC_PERP"
        >>> positions = pd.DataFrame({"account": [7], "market": [market], "quantity": [12.5], "entry_price": [180.0]})
        >>> balances = pd.DataFrame({"account": [7], "asset": ["USDC"], "quantity": [150.0]})
        >>> accounts = rc.Accounts.from_frames(venue, positions, balances)
        >>> fills = pd.DataFrame({"account": [7], "market": [market], "quantity": [-2.5], "price": [190.0]})
        >>> after = accounts.with_fills(venue, fills.assign(fee=0.5))
        >>> after
        Accounts(1 account, 1 position, 0 open orders, 174.50 USDC in balances)
        >>> print(after.to_frames().positions.to_string(index=False))
         account        market  quantity  entry_price
               7 SOL_USDC_PERP      10.0        180.0
        """
        must_fit(self, venue)
        unchanging = copy(self)  # an engine goes on changing its accounts
        positions, balances = changed_rows(unchanging, venue, fills, transfers)
        return Accounts.from_rows(
            venue, unchanging.ids, positions, balances, unchanging.orders, unchanging.leverage_limit,
            unchanging.columns.unsettled, unchanging.rounded,
        ).frozen()  # fmt: skip

    @property
    def markets(self) -> int:
        """Number of markets of the venue."""
        return len(self.units.markets)

    @property
    def assets(self) -> int:
        """Number of assets of the venue."""
        return len(self.units.assets)

    @property
    def sweep_view(self) -> SweepView:
        """What a sweep reads of the accounts: made once if nobody can write to the columns, else anew each time.

        Who keeps a view of columns that are written to underneath, as the engine does, refreshes it.
        """
        if self.columns.lots.flags.writeable:
            return SweepView.of(self.columns, self.markets, self.assets)
        return self._sweep_view_once

    @cached_property
    def _sweep_view_once(self) -> SweepView:
        return SweepView.of(self.columns, self.markets, self.assets)

    def must_have_rows_of(self, providers: Sequence[Provider]) -> None:
        """Refuse backstop providers without a row in every market and asset: those of another venue.

        Raises
        ------
        RiskDataError
        """
        for index, provider in enumerate(providers):
            with suppress(KeyError):
                row = self.row_of(provider.account)
                if len(self.positions_of(row)) == self.markets and len(self.balances_of(row)) == self.assets:
                    continue
            rule = "must be a backstop provider of the accounts' venue: read the accounts with this venue"
            raise RiskDataError("venue", f"backstop[{index}].account", rule, value=str(provider.account))

    @property
    def may_change(self) -> bool:
        """Whether somebody can write to the columns: to a copy, or, as an engine does, to what is looked at here."""
        return any(_owner(getattr(self.columns, name)).flags.writeable for name in _CHANGING)

    def view(self) -> Accounts:
        """Return the same accounts with read-only views of their arrays."""
        columns = AccountColumns(*(_locked(column) for column in self.columns))
        orders = Orders(**{f.name: _locked(getattr(self.orders, f.name)) for f in fields(Orders)})
        return replace(
            self, ids=_locked(self.ids), columns=columns, orders=orders, leverage_limit=_locked(self.leverage_limit)
        )

    def frozen(self) -> Accounts:
        """Make these arrays read-only, which nobody else may have, and return a view of them."""
        for array in (*self.columns, *vars(self.orders).values(), self.ids, self.leverage_limit):
            _owner(array).flags.writeable = False
        return self.view()

    def __copy__(self) -> Accounts:
        """Return accounts that stay as they are now."""
        if self.columns.lots.flags.writeable:
            return self.copy()
        return self.copy().frozen() if self.may_change else self

    def __deepcopy__(self, memo: object) -> Accounts:
        """As a copy: arrays that cannot change are shared."""
        return self.__copy__()

    def __getstate__(self) -> dict[str, object]:
        """Fields of a pickle: the cached sweep view is left out."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Set the fields from a pickle, and make the arrays read-only."""
        vars(self).update(state)
        vars(self).update(vars(self.frozen()))

    def copy(self) -> Accounts:
        """Return an independent copy of every column that a liquidation changes."""
        columns = self.columns._replace(**{name: _copied(getattr(self.columns, name)) for name in _CHANGING})
        orders = Orders(**{f.name: getattr(self.orders, f.name).copy() for f in fields(Orders)})
        return replace(self, columns=columns, orders=orders)

    def position_accounts(self) -> Int:
        """Account row of every position row, shape (P,)."""
        return _owners(self.columns.position_offset)

    def balance_accounts(self) -> Int:
        """Account row of every balance row, shape (B,)."""
        return _owners(self.columns.balance_offset)

    def positions_of(self, account: int) -> range:
        """Position rows of an account."""
        offset = self.columns.position_offset
        return range(int(offset[account]), int(offset[account + 1]))

    def balances_of(self, account: int) -> range:
        """Balance rows of an account."""
        offset = self.columns.balance_offset
        return range(int(offset[account]), int(offset[account + 1]))

    def in_debt(self, accounts: Int) -> Bool:
        """Whether each of the accounts has borrowed anything."""
        rows, counts = _rows_of(self.columns.balance_offset, accounts)
        owner = np.repeat(np.arange(len(accounts)), counts)
        return np.asarray(np.bincount(owner, self.columns.free[rows] < 0, len(accounts)) > 0)

    def position_rows(self, accounts: Int) -> tuple[Int, Int]:
        """Position rows of the accounts, one account after another, and the number of each."""
        return _rows_of(self.columns.position_offset, accounts)

    def position_row(self, account: int, market: int) -> int:
        """Position row of an account in a market that it has a row of."""
        rows = self.positions_of(account)
        return rows.start + int(np.searchsorted(self.columns.market[rows.start : rows.stop], market))

    def balance_row(self, account: int, asset: int) -> int:
        """Balance row of an account in an asset that it has a row of."""
        rows = self.balances_of(account)
        return rows.start + int(np.searchsorted(self.columns.asset[rows.start : rows.stop], asset))

    def row_of(self, account: int | str) -> int:
        """Account row of a user's id.

        Raises
        ------
        KeyError
            There is no such account.
        """
        if not isinstance(account, int | np.integer | str) or isinstance(account, bool):
            raise KeyError(account)
        try:
            row = bisect_left(self.ids, account)
        except TypeError:  # the id is text and the ids are whole numbers, or the other way round
            raise KeyError(account) from None
        if row == len(self) or self.ids[row] != account:
            raise KeyError(account)
        return row


def must_fit(accounts: object, venue: Venue) -> None:
    """Refuse values that are not Accounts and a Venue, and accounts that were read with a venue of other units.

    Raises
    ------
    RiskDataError
    """
    if not isinstance(accounts, Accounts):
        raise RiskDataError("accounts", None, f"must be Accounts, not {type(accounts).__name__}")
    must_be_venue(venue)
    accounts.units.must_fit(venue.units)


_CHANGING = (
    "lots", "open_bid", "open_ask", "cost", "entry", "free", "lent", "account_cost", "open_orders", "unsettled",
)  # fmt: skip


def _copied(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy a column; a column of mostly zeros takes no memory for their pages."""
    if 8 * np.count_nonzero(column) > len(column):
        return column.copy()
    copy, filled = np.zeros(column.shape, column.dtype), np.flatnonzero(column)
    copy[filled] = column[filled]
    return copy


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array that owns the memory of a view."""
    return array.base if isinstance(array.base, np.ndarray) else array


def _locked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _rows_of(offset: npt.NDArray[np.uint32], accounts: Int) -> tuple[Int, Int]:
    """Rows that some accounts own, one account after another, and the number of each."""
    first = offset[accounts].astype(np.int64)
    counts = offset[accounts + 1] - first
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(first, counts) + within, counts


def _offset(owner: Whole, accounts: int) -> npt.NDArray[np.uint32]:
    """First row of every account, and the end of the last one's, where rows ascend by account."""
    ends = np.flatnonzero(np.append(owner[1:] != owner[:-1], len(owner) > 0)) + 1
    offset = np.zeros(accounts + 1, np.uint32)
    offset[owner[ends - 1] + 1] = ends
    return np.maximum.accumulate(offset)


def _owners(offset: npt.NDArray[np.uint32]) -> Int:
    """Account row of every row that the offsets group."""
    return np.repeat(np.arange(len(offset) - 1), offset[1:] - offset[:-1])
