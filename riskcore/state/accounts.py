"""The state: positions, balances and open orders of all accounts, in columns grouped by account."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from .._typing import AnyInt, Bool, Float, Int
from ..boundary import RiskDataError, as_text, counted, escaped, schemas
from ..kernels.layouts import AccountColumns
from ..venue import Provider, Units, Venue, must_be_venue
from .fills import change
from .ids import did_you_mean
from .read import _ORDERS, _rows
from .rows import Orders, PositionRows, Rows, _key, _locked, _rows_of
from .sweep_view import SweepView
from .write import AccountFrames, to_frames


@dataclass(frozen=True, repr=False)
class Accounts:
    """All accounts in whole numbers: lots of positions, quanta of money. Made by `from_frames`.

    Accounts ascend by id, positions of an account by market, balances by asset; every account has a balance of the
    venue's settle asset and of the settle asset of each of its positions, and every backstop provider a position row in
    every market, so a liquidation never adds a row.

    Attributes
    ----------
    ids : ndarray, shape (A,)
        The user's account ids, whole numbers or text.
    columns : AccountColumns
        The columns that the kernels read and write; shapes and dtypes there.
    orders : Orders
        Open orders, whole numbers.
    leverage_limit : ndarray of float64, shape (A,)
        Largest exposure over net equity that an account allows itself; +inf without a limit.
    rounded : float
        Sum of the absolute amounts, in quanta, by which rounding to whole quanta changed the tables.
    units : Units
        Units of the whole numbers: those of the venue that the accounts were read with.
    owner_ids : ndarray, shape (A,), or None
        Id of the owner of each account; None where every account is its own owner.
    opened : int
        Number of accounts that were opened after the start: the last ones, in the order of opening. The ids of the
        others ascend.
    packed : bool
        Whether the rows of positions and balances ascend by account, and each is of one.

    Notes
    -----
    Nobody can write to the arrays, nor to those of a copy by the module copy or by pickle; `copy` has arrays that one
    can write to. Whole numbers: docs/one_tick.md, "Decimals and whole units".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> positions = pd.DataFrame({"account": [7], "market": ["SOL_USDC_PERP"], "quantity": [12.5]})
    >>> balances = pd.DataFrame({"account": [7], "asset": ["USDC"], "quantity": [150.0]})
    >>> accounts = rc.Accounts.from_frames(venue, positions.assign(entry_price=180.25), balances)
    >>> accounts.columns.lots.tolist(), accounts.columns.free.tolist()
    ([1250], [150000000])
    """

    ids: npt.NDArray[Any]
    columns: AccountColumns
    orders: Orders
    leverage_limit: Float
    rounded: float
    units: Units
    owner_ids: npt.NDArray[Any] | None = None
    opened: int = 0
    packed: bool = True

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
        venue : Venue
            The venue whose markets and assets the tables name.
        positions : DataFrame
            account, market, quantity (signed, whole lots), entry_price, settle_price (optional: the mark at which PnL
            was last realised, the entry price where it never was).
        balances : DataFrame
            account, asset, quantity (negative is borrowed), lent (optional, counts as collateral).
        orders : DataFrame, optional
            account, market, side (bid, ask), price (whole ticks), quantity (whole lots), reduce_only (optional), order
            (optional: the id of the order, text or a whole number; by default its number).
        settings : DataFrame, optional
            account, leverage_limit (optional), unsettled (optional, units of the venue's settle asset), owner
            (optional: an id; the account itself where it is missing). The accounts of one owner are never each other's
            counterparties: an isolated position is an account of its owner with that one position.

        Returns
        -------
        Accounts
            The accounts; nobody can write to their arrays.

        Raises
        ------
        RiskDataError
            A table breaks a rule; the message names table, column, row, value and rule.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> venue = rc.load_venue("backpack")
        >>> positions = pd.DataFrame({"account": ["ann"], "market": ["SOL_USDC_PERP"], "quantity": [10.0]})
        >>> balances = pd.DataFrame({"account": ["ann", "bob"], "asset": ["USDC", "USDC"], "quantity": [80.0, 400.0]})
        >>> rc.Accounts.from_frames(venue, positions.assign(entry_price=200.0), balances)
        Accounts(2 accounts, 1 position, 0 open orders, 480.00 USDC in balances)
        >>> rc.Accounts.from_frames(venue, positions.assign(entry_price=-1.0), balances)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: positions.entry_price, row 0, value -1.0: must be a finite number > 0
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
            for name, frame in frames.items():  # reports a duplicate key, which `_rows` finds last, before other errors
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
        rounded: float = 0.0,
        owner_ids: npt.NDArray[Any] | None = None,
        opened: int = 0,
    ) -> Accounts:
        """Build the columns from whole-number rows in canonical order.

        The columns are a view of the rows, which remain the caller's.

        Parameters
        ----------
        venue : Venue
            The venue whose markets and assets the rows are of.
        ids : ndarray, shape (A,)
            The user's account ids, ascending.
        positions : tuple of ndarray
            Account row, market row, lots, cost and entry (quanta), by account and market.
        balances : tuple of ndarray
            Account row, asset row, free, lent and unsettled quanta, by account and asset; each account has the venue's
            settle asset and the settle assets of its positions.
        orders : Orders
            Orders, in any order.
        leverage_limit : ndarray of float64, shape (A,)
            +inf without a limit.
        rounded : float
            Quanta by which rounding changed the tables.
        owner_ids : ndarray, shape (A,), optional
            Ids of the owners; by default every account is its own.
        opened : int
            Number of accounts at the end that were opened later: the ids of the others ascend.

        Returns
        -------
        Accounts
            The accounts.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> columns = accounts.columns
        >>> positions = accounts.position_accounts(), columns.market, columns.lots, columns.cost, columns.entry
        >>> balances = accounts.balance_accounts(), columns.asset, columns.free, columns.lent
        >>> rest = accounts.orders, accounts.leverage_limit
        >>> rc.Accounts.from_rows(venue, accounts.ids, positions, (*balances, columns.unsettled), *rest)
        Accounts(2 accounts, 2 positions, 0 open orders, 480.00 USDC in balances)
        """
        count = len(ids)
        owner, market, lots, cost, entry = positions
        holder, asset, free, lent, unsettled = balances
        sums = [np.zeros(len(lots), np.int64) for _ in range(2)]
        if len(orders.account):
            width = len(venue.markets.symbol)
            row = np.searchsorted(_key(owner, market, width), _key(orders.account, orders.market, width))
            for total, side in zip(sums, (1, -1), strict=True):
                chosen = ~orders.reduce_only & (orders.side == side)
                np.add.at(total, row[chosen], orders.lots[chosen])
        balance_row, position_balance = np.zeros(count, np.uint32), np.zeros(len(market), np.uint32)
        for money in reversed(venue.money):  # the venue's settle asset last: `balance_row` is then its `settle_row`
            rows = np.flatnonzero(asset == money)
            balance_row[holder[rows]] = rows
            settled = ... if venue.plain_money else np.flatnonzero(venue.markets.settle[market] == money)
            position_balance[settled] = balance_row[owner[settled]]
        balance_cost = np.zeros(len(asset), np.int64)
        np.add.at(balance_cost, position_balance, cost)
        columns = AccountColumns(
            position_span=_span(owner, count),
            market=market.astype(np.uint16),
            lots=lots,
            open_bid=sums[0],
            open_ask=sums[1],
            cost=cost,
            entry=entry,
            position_balance=position_balance,
            balance_span=_span(holder, count),
            asset=asset.astype(np.uint16),
            free=free,
            lent=lent,
            balance_cost=balance_cost,
            unsettled=unsettled,
            settle_row=balance_row,
            open_orders=_copied(np.bincount(orders.account[orders.lots > 0], minlength=count).astype(np.uint32)),
            leverage_fraction=_copied(1.0 / leverage_limit),
        )
        if owner_ids is not None and (owner_ids == ids).all():
            owner_ids = None
        return cls(ids, columns, orders, leverage_limit, rounded, venue.units, owner_ids, opened).view()

    def __repr__(self) -> str:
        """One line: accounts, positions, open orders, and the sum of the balances of the settle asset."""
        columns, settle = self.columns, self.units.assets.index(self.units.settle_asset)
        total = float(columns.free[columns.settle_row].sum()) * float(self.units.quanta[settle])
        positions, orders = (int(np.count_nonzero(lots)) for lots in (columns.lots, self.orders.lots))
        return (
            f"Accounts({counted(len(self), 'account')}, {counted(positions, 'position')}, "
            f"{counted(orders, 'open order')}, {total:,.2f} {escaped(self.units.settle_asset)} in balances)"
        )

    def to_frames(self) -> AccountFrames:
        """Return the accounts as tables in natural units: those that `from_frames` reads as the same whole numbers.

        Positions and balances of nothing, and cancelled orders, have no row; every account has one of the settle
        asset. An entry or settle price is the average one paid: a whole number of ticks where that gives the same
        amount; of an inverse contract the harmonic mean. float64 represents whole numbers below 2**53, and an average
        price amounts below 2**50 quanta; what is larger may come back with other last digits.

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
            account, market, quantity (signed: bought or sold, whole lots), price, fee (optional: units of the market's
            settle asset that the account pays). They are filled in the order of the rows.
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
        changed = unchanging.copy()
        change(changed, venue, fills, transfers)
        return changed.frozen()

    @property
    def market_count(self) -> int:
        """Number of the venue's markets."""
        return len(self.units.markets)

    @property
    def asset_count(self) -> int:
        """Number of the venue's assets."""
        return len(self.units.assets)

    @property
    def owners(self) -> npt.NDArray[Any]:
        """Id of the owner of each account."""
        return self.ids if self.owner_ids is None else self.owner_ids

    @cached_property
    def owner(self) -> Int:
        """Code of the owner of each account, int64: the row of the owner's first account."""
        if self.owner_ids is None:
            return np.arange(len(self))
        codes = pd.factorize(self.owner_ids)[0]
        return np.unique(codes, return_index=True)[1][codes]

    def by_id(self, accounts: Int) -> Int | slice:
        """Return the order of the rows of some accounts by account id, the rows of one account as they stand.

        Parameters
        ----------
        accounts : ndarray of int64, shape (n,)
            Account row of each; they ascend where the accounts are packed.

        Returns
        -------
        ndarray of int64, or slice
            An index of the n rows: the slice of all where they are in that order.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.by_id(np.array([0, 1]))
        slice(None, None, None)
        """
        if self.packed and not self.opened:
            return slice(None)
        return np.argsort(self.ids[accounts] if self.opened else accounts, kind="stable")

    @cached_property
    def _rows_opened(self) -> dict[int | str, int]:
        """Row of each account that was opened later, by its id."""
        first = len(self) - self.opened
        return {id_: first + n for n, id_ in enumerate(self.ids[first:].tolist())}

    def _replace_fields(self, fields: dict[str, Any]) -> None:
        """Set fields after the accounts have grown, by whoever owns the state."""
        known = len(self)
        vars(self).update(fields)
        vars(self).pop("owner", None)
        if len(self) < known:
            vars(self).pop("_rows_opened", None)
        elif (rows := vars(self).get("_rows_opened")) is not None:
            rows |= {id_: known + n for n, id_ in enumerate(self.ids[known:].tolist())}

    @property
    def sweep_view(self) -> SweepView:
        """The columns that a sweep reads: made once if nobody can write to the accounts' columns, else anew each time.

        Who keeps a view of columns that are written to, as the engine does, refreshes it, at the latest when it is
        asked for (`before_sweep`).
        """
        if (refresh := vars(self).get("_before_sweep")) is not None:
            refresh()
        if self.columns.lots.flags.writeable:
            return SweepView.of(self.columns, self.units)
        return self._sweep_view_once

    def before_sweep(self, refresh: Callable[[], None]) -> None:
        """Have a function called whenever the sweep view is asked for.

        Parameters
        ----------
        refresh : callable
            Of the owner of the state: refreshes the view if columns have changed.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> view = accounts.view()
        >>> view.before_sweep(lambda: print("refreshed"))
        >>> len(view.sweep_view.columns.account)
        refreshed
        8
        """
        vars(self)["_before_sweep"] = refresh

    @cached_property
    def _sweep_view_once(self) -> SweepView:
        return SweepView.of(self.columns, self.units)

    def must_have_rows_of(self, providers: Sequence[Provider]) -> None:
        """Refuse backstop providers without a row in every market and asset: those of another venue.

        Parameters
        ----------
        providers : sequence of Provider
            The providers of a venue.

        Raises
        ------
        RiskDataError
            A provider is no account, or has no row in some market or asset.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.must_have_rows_of(venue.replace(backstop=[{"account": 2}]).backstop)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: venue.backstop[0].account, value '2': must be a backstop provider...
        """
        for index, provider in enumerate(providers):
            with suppress(KeyError):
                row = self.row_of(provider.account)
                if len(self.positions_of(row)) == self.market_count and len(self.balances_of(row)) == self.asset_count:
                    continue
            rule = "must be a backstop provider of the accounts' venue: read the accounts with this venue"
            raise RiskDataError("venue", f"backstop[{index}].account", rule, value=str(provider.account))

    @property
    def may_change(self) -> bool:
        """Whether somebody can write to the columns: to a copy, or, as an engine does, to the arrays of a view."""
        return any(_owner(getattr(self.columns, name)).flags.writeable for name in _CHANGING)

    def view(self) -> Accounts:
        """Return the same accounts in arrays that nobody can write to by this view.

        Returns
        -------
        Accounts
            A view; changes by the owner show in it.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> view = accounts.copy().view()
        >>> view.columns.free.flags.writeable, view.may_change
        (False, True)
        """
        columns = AccountColumns(*(_locked(column) for column in self.columns))
        return replace(
            self, ids=_locked(self.ids), columns=columns, orders=self.orders.view(),
            leverage_limit=_locked(self.leverage_limit),
            owner_ids=None if self.owner_ids is None else _locked(self.owner_ids),
        )  # fmt: skip

    def frozen(self) -> Accounts:
        """Return a view of arrays that nobody else has, and that nobody can write to from now on.

        Returns
        -------
        Accounts
            A view of accounts that stay as they are.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.copy().frozen().may_change
        False
        """
        for array in (*self.columns, *self.orders.columns, self.ids, self.leverage_limit, self.owners):
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
        """Return a copy with own arrays of every column that a liquidation or an account's own action changes.

        Returns
        -------
        Accounts
            Accounts whose columns can be written to.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> state = accounts.copy()
        >>> state.columns.free[:] += 1_000_000  # quanta: 1 USDC for each account
        >>> state.to_frames().balances["quantity"].tolist(), accounts.to_frames().balances["quantity"].tolist()
        ([81.0, 401.0], [80.0, 400.0])
        """
        columns = AccountColumns(
            **{name: (_copied if name in _CHANGING else _locked)(of) for name, of in self.columns._asdict().items()}
        )
        return replace(self, columns=columns, orders=self.orders.copy(), leverage_limit=self.leverage_limit.copy())

    def place_order(
        self, account: int, market: int, side: int, price: int, lots: int, *, reduce_only: bool, id_: str | None = None
    ) -> int:
        """Place an order of an account that has a position row in the market.

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

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> state, market = accounts.copy(), venue.markets.row["SOL_USDC_PERP"]
        >>> number = state.place_order(0, market, -1, 21_000, 200, reduce_only=False)
        >>> state.columns.open_ask.tolist(), state.columns.open_orders.tolist()
        ([200, 0], [1, 0])
        """
        number = self.orders.append(account, market, side, price, lots, reduce_only=reduce_only, id_=id_)
        self.columns.open_orders[account] += 1
        self._count_open(number, lots)
        return number

    def change_order(self, number: int, lots: int, price: int | None = None) -> None:
        """Give an order another size, and another limit price.

        Parameters
        ----------
        number : int
            Number of the order.
        lots : int
            Its lots from now on; 0 closes it.
        price : int, optional
            Its limit price from now on, ticks; by default as before.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> state, market = accounts.copy(), venue.markets.row["SOL_USDC_PERP"]
        >>> number = state.place_order(0, market, -1, 21_000, 200, reduce_only=False)
        >>> state.change_order(number, 50)
        >>> state.columns.open_ask.tolist(), state.columns.open_orders.tolist()
        ([50, 0], [1, 0])
        >>> state.change_order(number, 0)
        >>> state.columns.open_ask.tolist(), state.columns.open_orders.tolist()
        ([0, 0], [0, 0])
        """
        orders = self.orders.columns
        before = int(orders.lots[number])
        if (lots > 0) != (before > 0):
            account = orders.account[number]
            self.columns.open_orders[account] = int(self.columns.open_orders[account]) + (1 if lots else -1)
        self._count_open(number, lots - before)
        orders.lots[number] = lots
        if price is not None:
            orders.price[number] = price

    def _count_open(self, number: int, lots: int) -> None:
        """Add lots of an order to the sums of its side."""
        orders = self.orders.columns
        if not orders.reduce_only[number]:
            row = self.position_row(int(orders.account[number]), int(orders.market[number]))
            (self.columns.open_bid if orders.side[number] > 0 else self.columns.open_ask)[row] += lots

    def position_accounts(self) -> Int:
        """Return the account row of every position row.

        Returns
        -------
        ndarray of int64, shape (P,)
            Account rows, ascending.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.position_accounts().tolist()
        [0, 1]
        """
        return _owners(self.columns.position_span, len(self.columns.lots))

    def balance_accounts(self) -> Int:
        """Return the account row of every balance row.

        Returns
        -------
        ndarray of int64, shape (B,)
            Account rows, ascending.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.balance_accounts().tolist()
        [0, 1]
        """
        return _owners(self.columns.balance_span, len(self.columns.free))

    def positions_of(self, account: int) -> range:
        """Return the position rows of an account.

        Parameters
        ----------
        account : int
            Account row.

        Returns
        -------
        range
            Position rows.

        Raises
        ------
        IndexError
            There is no such account row.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.positions_of(1)
        range(1, 2)
        """
        first, end = self.columns.position_span[account].tolist()
        return range(first, end)

    def balances_of(self, account: int) -> range:
        """Return the balance rows of an account.

        Parameters
        ----------
        account : int
            Account row.

        Returns
        -------
        range
            Balance rows.

        Raises
        ------
        IndexError
            There is no such account row.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.balances_of(1)
        range(1, 2)
        """
        first, end = self.columns.balance_span[account].tolist()
        return range(first, end)

    def rows_with(self, of: Literal["position", "balance"], accounts: Int, kinds: Int) -> Int:
        """Return the rows of accounts in markets or assets in which they have one.

        Parameters
        ----------
        of : str
            "position" or "balance".
        accounts, kinds : ndarray of int64, shape (n,)
            Account row, and market or asset row, of each.

        Returns
        -------
        ndarray of int64, shape (n,)
            Position or balance rows.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = venue.markets.row["SOL_USDC_PERP"]
        >>> accounts.rows_with("position", np.array([1, 0]), np.array([market, market])).tolist()
        [1, 0]
        """
        columns = self.columns
        span, kind = (
            (columns.position_span, columns.market) if of == "position" else (columns.balance_span, columns.asset)
        )
        distinct = np.unique(accounts)
        rows, counts = _rows_of(span, distinct)
        key = _key(np.repeat(distinct, counts), kind[rows], 1 << 16)
        return np.asarray(rows[np.searchsorted(key, _key(accounts, kinds, 1 << 16))])

    def in_debt(self, accounts: Int) -> Bool:
        """Return whether each of some accounts has borrowed anything.

        Parameters
        ----------
        accounts : ndarray of int64, shape (n,)
            Account rows.

        Returns
        -------
        ndarray of bool, shape (n,)
            True with a negative balance.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> state = accounts.copy()
        >>> state.columns.free[1] = -1
        >>> state.in_debt(np.array([0, 1])).tolist()
        [False, True]
        """
        rows, counts = _rows_of(self.columns.balance_span, accounts)
        owner = np.repeat(np.arange(len(accounts)), counts)
        return np.asarray(np.bincount(owner, self.columns.free[rows] < 0, len(accounts)) > 0)

    def position_rows(self, accounts: Int) -> tuple[Int, Int]:
        """Return the position rows of some accounts, one account after another, and the number of each.

        Parameters
        ----------
        accounts : ndarray of int64, shape (n,)
            Account rows.

        Returns
        -------
        rows : ndarray of int64
            Position rows.
        counts : ndarray of int64, shape (n,)
            Number of position rows of each account.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rows, counts = accounts.position_rows(np.array([1, 0]))
        >>> rows.tolist(), counts.tolist()
        ([1, 0], [1, 1])
        """
        return _rows_of(self.columns.position_span, accounts)

    def balance_rows(self, accounts: Int) -> tuple[Int, Int]:
        """Return the balance rows of some accounts, one account after another, and the number of each.

        Parameters
        ----------
        accounts : ndarray of int64, shape (n,)
            Account rows.

        Returns
        -------
        rows : ndarray of int64
            Balance rows.
        counts : ndarray of int64, shape (n,)
            Number of balance rows of each account.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.balance_rows(np.array([1, 0]))[0].tolist()
        [1, 0]
        """
        return _rows_of(self.columns.balance_span, accounts)

    def position_row(self, account: int, market: int) -> int:
        """Return the position row of an account in a market.

        Parameters
        ----------
        account : int
            Account row.
        market : int
            Market row, of which the account has a position row.

        Returns
        -------
        int
            Position row.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> accounts.position_row(1, venue.markets.row[market])
        1
        """
        rows = self.positions_of(account)
        return rows.start + int(np.searchsorted(self.columns.market[rows.start : rows.stop], market))

    def balance_row(self, account: int, asset: int) -> int:
        """Return the balance row of an account in an asset.

        Parameters
        ----------
        account : int
            Account row.
        asset : int
            Asset row, of which the account has a balance row.

        Returns
        -------
        int
            Balance row.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.balance_row(1, venue.settle)
        1
        """
        rows = self.balances_of(account)
        return rows.start + int(np.searchsorted(self.columns.asset[rows.start : rows.stop], asset))

    def rows_of(self, table: str, column: str, ids: pd.Series[Any]) -> Int:
        """Return the account rows of a column of ids.

        Parameters
        ----------
        table, column : str
            Their names, for messages.
        ids : Series
            The user's account ids, of one kind.

        Returns
        -------
        ndarray of int64
            Account rows.

        Raises
        ------
        RiskDataError
            An id is that of no account.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.rows_of("fills", "account", pd.Series([2, 1, 2])).tolist()
        [1, 0, 1]
        """
        if ids.dtype == np.int64 and self.ids.dtype == np.int64 and len(self) > self.opened:
            rows = ids.to_numpy() - self.ids[0]  # ids that follow one another need no search
            inside = (rows >= 0) & (rows < len(self) - self.opened)
            if inside.all() and (self.ids[rows] == ids.to_numpy()).all():
                return np.asarray(rows)
        codes, distinct = pd.factorize(ids)
        rows = np.full(len(distinct), -1)
        if _FEW * len(distinct) > len(self):
            rows = np.asarray(pd.Index(self.ids).get_indexer(pd.Index(distinct)), np.int64)
        else:
            for n, id_ in enumerate(list(distinct)):
                with suppress(KeyError):
                    rows[n] = self.row_of(id_)
        missing = np.flatnonzero(rows[codes] < 0)
        if missing.size:
            id_ = ids.iloc[missing[0]]
            rule = f"must be an account of the state{did_you_mean(id_, self.ids)}"
            raise RiskDataError(table, column, rule, row=int(missing[0]), value=as_text(id_))
        return np.asarray(rows[codes])

    def row_of(self, account: int | str) -> int:
        """Return the account row of a user's id.

        Parameters
        ----------
        account : int or str
            The user's account id.

        Returns
        -------
        int
            Account row.

        Raises
        ------
        KeyError
            There is no such account.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.row_of(2)
        1
        """
        if not isinstance(account, int | np.integer | str) or isinstance(account, bool):
            raise KeyError(account)
        first = len(self) - self.opened
        try:
            row = bisect_left(self.ids, account, 0, first)
        except TypeError:  # the id is text and the ids are whole numbers, or the other way round
            raise KeyError(account) from None
        if row == first or self.ids[row] != account:
            return self._rows_opened[account]
        return row


def must_fit(accounts: object, venue: Venue) -> None:
    """Refuse arguments that are no accounts or no venue, and accounts that were read with a venue of other units.

    Parameters
    ----------
    accounts, venue : object
        The arguments.

    Raises
    ------
    RiskDataError
        They are of another type, or their units differ; the message names the first difference.

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import must_fit
    >>> venue, accounts = two_accounts()
    >>> must_fit(accounts, venue)
    """
    if not isinstance(accounts, Accounts):
        raise RiskDataError("accounts", None, f"must be Accounts, not {type(accounts).__name__}")
    must_be_venue(venue)
    accounts.units.must_fit(venue.units)


_FEW = 16  # accounts among which one is looked up in the time that indexing one takes
_CHANGING = (
    "lots", "open_bid", "open_ask", "cost", "entry", "free", "lent", "balance_cost", "unsettled", "open_orders",
    "leverage_fraction",
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


def _span(owner: AnyInt, accounts: int) -> npt.NDArray[np.uint32]:
    """First row of every account and the end of its rows, where rows ascend by account."""
    ends = np.flatnonzero(np.append(owner[1:] != owner[:-1], len(owner) > 0)) + 1
    offset = np.zeros(accounts + 1, np.uint32)
    offset[owner[ends - 1] + 1] = ends
    offset = np.maximum.accumulate(offset)
    return np.stack([offset[:-1], offset[1:]], axis=1)


def _owners(span: npt.NDArray[np.uint32], rows: int) -> Int:
    """Account row of every row; 0 of a row that no account has, which holds nothing."""
    accounts, first = np.arange(len(span)), span[:, 0]
    counts = (span[:, 1] - first).astype(np.int64)
    if counts.sum() == rows and (first[1:] >= first[:-1]).all():
        return np.repeat(accounts, counts)
    owners = np.zeros(rows, np.int64)
    owners[_rows_of(span, accounts)[0]] = np.repeat(accounts, counts)
    return owners
