"""The state: positions, balances and open orders of all accounts, in columns grouped by account."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from . import tables
from .errors import RiskDataError
from .ids import likenesses, nearest, ranked_numbers, ranked_texts
from .ids import order as order_of
from .kernels.columns import AccountColumns
from .packed import Packed
from .venue import Provider, Units, Venue, must_be_venue

Int = npt.NDArray[np.int64]
Whole = npt.NDArray[np.integer[Any]]
Rows = tuple[Whole, Whole, Int, Int]
PositionRows = tuple[Whole, Whole, Int, Int, Int]


@dataclass(frozen=True)
class Orders:
    """Open orders (O rows) ascending by account, market, bids first, price. ``lots`` 0 means cancelled."""

    account: Int
    market: Int
    side: Int
    price: Int
    lots: Int
    reduce_only: npt.NDArray[np.bool_]


@dataclass(frozen=True)
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
    leverage_limit: npt.NDArray[np.float64]
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
        pyarrow.default_memory_pool().release_unused()  # it keeps what reading took, and NumPy cannot use that
        try:
            rows = _rows(venue, frames)
        except RiskDataError:
            for name, frame in frames.items():  # a key that stands twice is said first: reading meets it last
                tables.checked(name, frame)
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
        leverage_limit: npt.NDArray[np.float64],
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

    @property
    def markets(self) -> int:
        """How many the venue has."""
        return len(self.units.markets)

    @property
    def assets(self) -> int:
        """How many the venue has."""
        return len(self.units.assets)

    @property
    def packed(self) -> Packed:
        """What a sweep reads of the accounts: made once if nobody can write to the columns, else anew each time.

        Who keeps a view of columns that are written to underneath, as the engine does, refreshes it.
        """
        if self.columns.lots.flags.writeable:
            return Packed.of(self.columns, self.markets, self.assets)
        return self._packed_once

    @cached_property
    def _packed_once(self) -> Packed:
        return Packed.of(self.columns, self.markets, self.assets)

    def must_have_rows_of(self, providers: Sequence[Provider]) -> None:
        """Refuse backstop providers without a row in every market and asset: those of another venue.

        Raises
        ------
        RiskDataError
        """
        for at, provider in enumerate(providers):
            with suppress(KeyError):
                row = self.row_of(provider.account)
                if len(self.positions_of(row)) == self.markets and len(self.balances_of(row)) == self.assets:
                    continue
            rule = "must be a backstop provider of the venue that the accounts were read with: read them with this one"
            raise RiskDataError("venue", f"backstop[{at}].account", rule, value=str(provider.account))

    @property
    def may_change(self) -> bool:
        """Whether somebody can write to the columns: to a copy, or, as an engine does, to what is looked at here."""
        return any(_owner(getattr(self.columns, name)).flags.writeable for name in _CHANGING)

    def view(self) -> Accounts:
        """Return the same accounts, to look at alone: arrays that nobody can write to."""
        columns = AccountColumns(*(_locked(column) for column in self.columns))
        orders = Orders(**{f.name: _locked(getattr(self.orders, f.name)) for f in fields(Orders)})
        return replace(
            self, ids=_locked(self.ids), columns=columns, orders=orders, leverage_limit=_locked(self.leverage_limit)
        )

    def frozen(self) -> Accounts:
        """Return a view of arrays that nobody else has, and that nobody can write to from now on."""
        for array in (*self.columns, *vars(self.orders).values(), self.ids, self.leverage_limit):
            _owner(array).flags.writeable = False
        return self.view()

    def __copy__(self) -> Accounts:
        """Return accounts that stay as they are now."""
        if self.columns.lots.flags.writeable:
            return self.copy()
        return self.copy().frozen() if self.may_change else self

    def __deepcopy__(self, memo: object) -> Accounts:
        """As of a copy: of what cannot change one is enough."""
        return self.__copy__()

    def __getstate__(self) -> dict[str, object]:
        """What a pickle holds: nothing that follows from the rest."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take over what came out of a pickle; nobody else has it."""
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

    def in_debt(self, accounts: Int) -> npt.NDArray[np.bool_]:
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
        except TypeError:  # text among whole numbers, or the other way round
            raise KeyError(account) from None
        if row == len(self) or self.ids[row] != account:
            raise KeyError(account)
        return row


def must_fit(accounts: object, venue: Venue) -> None:
    """Refuse what are no accounts or no venue, and accounts that were read with a venue of other units.

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
    """Copy a column; one of hardly anything but zeros takes no memory for them."""
    if 8 * np.count_nonzero(column) > len(column):
        return column.copy()
    copy, filled = np.zeros(column.shape, column.dtype), np.flatnonzero(column)
    copy[filled] = column[filled]
    return copy


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array whose memory it is."""
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


def _key(owner: Whole, kind: Whole, width: int) -> Int:
    """One number of a row that sorts by owner, then by market or asset."""
    return owner.astype(np.int64) * width + kind


def _offset(owner: Whole, accounts: int) -> npt.NDArray[np.uint32]:
    """First row of every account, and the end of the last one's, where rows ascend by account."""
    ends = np.flatnonzero(np.append(owner[1:] != owner[:-1], len(owner) > 0)) + 1
    offset = np.zeros(accounts + 1, np.uint32)
    offset[owner[ends - 1] + 1] = ends
    return np.maximum.accumulate(offset)


def _canonical(table: str, rows: list[Any], width: int, also: Int) -> None:
    """Sort rows by owner, then by market or asset, the first two columns; add zeros for keys that ``also`` must be."""
    owner, kind = rows[:2]
    if not ((owner[1:] > owner[:-1]) | ((owner[1:] == owner[:-1]) & (kind[1:] > kind[:-1]))).all():
        order = order_of(_key(owner, kind, width))
        del owner, kind
        for at in range(len(rows)):  # one after another, so that each of the old ones is freed
            rows[at] = rows[at].take(order)
        owner, kind = rows[:2]
        if ((owner[1:] == owner[:-1]) & (kind[1:] == kind[:-1])).any():
            raise RiskDataError(table, "account", "must not stand twice")
    if len(also):
        key, also = _key(owner, kind, width), np.unique(also)
        place = np.searchsorted(key, also)
        fresh = place == np.searchsorted(key, also, side="right")
        owners, kinds = np.divmod(also[fresh], width)
        zeros = [0] * (len(rows) - 2)
        rows[:] = [np.insert(c, place[fresh], new) for c, new in zip(rows, [owners, kinds, *zeros], strict=True)]


def _owners(offset: npt.NDArray[np.uint32]) -> Int:
    """Account row of every row that the offsets group."""
    return np.repeat(np.arange(len(offset) - 1), offset[1:] - offset[:-1])


_ORDERS = ["account", "market", "side", "price", "quantity"]


def _rows(
    venue: Venue, frames: dict[str, pd.DataFrame]
) -> tuple[npt.NDArray[Any], PositionRows, Rows, Orders, npt.NDArray[np.float64], Int, float]:
    """What `Accounts.from_rows` takes, from tables in natural units."""
    named = {n: tables.checked(n, f, unique=n not in ("positions", "balances")) for n, f in frames.items()}
    ids, owner = _account_rows(venue, named)
    book = _orders(venue, named["orders"], owner["orders"].astype(np.int64))
    quanta, rounded = _balances(venue, named["balances"], owner["balances"], len(ids), owner["backstop"])
    leverage_limit, unsettled = _settings(venue, named["settings"], owner["settings"], len(ids))
    lots = _positions(venue, named["positions"], owner["positions"], book, owner["backstop"])
    return ids, lots, quanta, book, leverage_limit, unsettled, rounded


def _account_rows(venue: Venue, named: dict[str, pd.DataFrame]) -> tuple[npt.NDArray[Any], dict[str, Whole]]:
    """All account ids, ascending; and the account row of each row of each table, and of each backstop provider."""
    filled = {name: table["account"] for name, table in named.items() if len(table)}
    if not filled:
        raise RiskDataError("balances", None, "must have at least one row")
    kinds = {name: account.dtype == np.int64 for name, account in filled.items()}
    for name, kind in kinds.items():
        if kind != next(iter(kinds.values())):
            rule = "must be of one kind, whole number or text, in all tables"
            raise RiskDataError(name, "account", rule, row=0, value=filled[name].iloc[0])
    given = list(filled.values())
    try:
        ids, rows = ranked_numbers([g.to_numpy() for g in given]) if kinds[next(iter(kinds))] else ranked_texts(given)
    except UnicodeEncodeError:
        for name, account in filled.items():
            tables.must_be_unicode(name, "account", account)
        raise
    owner: dict[str, Whole] = {name: np.empty(0, np.int32) for name in named}
    owner.update(zip(filled, rows, strict=True))
    _must_stand_right(named, ids, owner)
    backstop = []
    for at, provider in enumerate(venue.backstop):
        found = np.flatnonzero(ids == provider.account)
        if not found.size:
            rule = f"must have a row in balances or positions{nearest(provider.account, ids)}"
            raise RiskDataError("venue", f"backstop[{at}].account", rule, value=str(provider.account))
        backstop.append(int(found[0]))
    return ids, owner | {"backstop": np.array(backstop, np.int64)}


def _must_stand_right(named: dict[str, pd.DataFrame], ids: npt.NDArray[Any], owner: dict[str, Whole]) -> None:
    """Refuse ids that part an account from its money.

    Two writings of an id that do not stand in the same tables; ids that differ by case alone, of which one has
    positions without balances and the other balances; orders and settings of an account that has neither.
    """
    stands = {name: np.zeros(len(ids), bool) for name in ("positions", "balances", "orders", "settings")}
    for name, there in stands.items():
        there[owner[name]] = True
    used = stands["positions"] | stands["orders"] | stands["settings"]
    moneyless = np.flatnonzero(used & ~stands["balances"])
    if ids.dtype == object:
        one, other = likenesses(ids)
        apart = np.any([there[one] != there[other] for there in stands.values()], axis=0)
        one, other = one[apart], other[apart]
        if not one.size and moneyless.size and stands["balances"].any():
            rich = np.flatnonzero(stands["balances"])
            lower = {text.lower(): row for row, text in zip(rich.tolist(), ids[rich].tolist(), strict=True)}
            pairs = [(row, lower.get(ids[row].lower(), -1)) for row in moneyless.tolist()]
            one, other = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
            one, other = one[other >= 0], other[other >= 0]
        if one.size:
            first, second = int(one[0]), int(other[0])
            # where an id stands that the other does not is where it is said
            name = next(n for n, there in stands.items() if there[first] != there[second])
            row, twin = (first, second) if stands[name][first] else (second, first)
            places = ", ".join(n for n, there in stands.items() if there[twin])
            rule = f"must be written as in {places} ({str(ids[twin])!r}), if it is the same account"
            at = int(np.flatnonzero(owner[name] == row)[0])
            raise RiskDataError(name, "account", rule, row=at, value=str(ids[row]))
    for name in ("orders", "settings"):
        lost = ~(stands["positions"] | stands["balances"])[owner[name]]
        if lost.any():
            at = int(lost.argmax())
            rule = "must have a row in positions or balances"
            raise RiskDataError(name, "account", rule, row=at, value=str(named[name]["account"].iloc[at]))


def _lots(venue: Venue, name: str, table: pd.DataFrame, market: Whole) -> Int:
    """Quantities in whole lots; each, and all in a market, small enough to fit 64 bits with room to spare."""
    quantity = table["quantity"].to_numpy(float)
    rule = "must be a whole number of lots of the market's stepSize"
    lots = tables.whole(name, "quantity", quantity, tables.PerKind(venue.markets.step_size, market), rule)
    for rows in tables.blocks(len(lots)):
        bad = np.flatnonzero(np.abs(lots[rows]) > venue.markets.most_lots[market[rows]])
        if bad.size:
            row = rows.start + int(bad[0])
            rule = "must be worth less than 2**60 settle quanta at the market's maxPrice"
            raise RiskDataError(name, "quantity", rule, row=row, value=quantity[row])
    rule = f"all {name} in a market must be less than 2**61 lots"
    _must_not_pass(name, "quantity", quantity, lots, market, 2.0**61, rule)
    return lots


def _must_not_pass(
    table: str, column: str, given: npt.NDArray[Any], amounts: Int, group: Whole, limit: float, rule: str
) -> None:
    """Refuse amounts that, all taken positive, come to the limit or more in a group: their sums might wrap."""
    if sum(float(np.abs(amounts[rows]).sum(dtype=float)) for rows in tables.blocks(len(amounts))) < limit / 2:
        return
    bad = np.flatnonzero((np.bincount(group, np.abs(amounts.astype(float))) >= limit)[group])
    if bad.size:
        largest = int(bad[np.abs(amounts[bad].astype(float)).argmax()])
        raise RiskDataError(table, column, rule, row=largest, value=given[largest])


def _positions(venue: Venue, table: pd.DataFrame, owner: Whole, orders: Orders, providers: Whole) -> PositionRows:
    """Position rows; also for a market in which the account has only an order, and of a provider for every market."""
    market = tables.codes("positions", "market", table["market"], venue.markets.symbol, "a market").astype(np.uint16)
    lots = _lots(venue, "positions", table, market)
    paid = {"entry_price": table["entry_price"].to_numpy()}
    if "settle_price" in table.columns:
        paid["settle_price"] = table["settle_price"].fillna(table["entry_price"]).to_numpy()
    step, quantum = tables.PerKind(venue.markets.step_size, market), float(venue.settle_quantum)
    quanta = []
    for name, price in paid.items():
        unit = np.broadcast_to(quantum, len(lots))
        quanta.append(tables.half_even("positions", name, [price, lots, step], unit))
        rule = "what the account paid for its positions must be less than 2**60 settle quanta"
        _must_not_pass("positions", name, price, quanta[-1], owner, 2.0**60, rule)
    width = len(venue.markets.symbol)
    everywhere = (providers[:, None] * width + np.arange(width)).ravel()
    also = np.concatenate([_key(orders.account, orders.market, width), everywhere])
    rows: list[Any] = [owner, market, lots, *quanta]
    del owner, market, lots, step, quanta
    _canonical("positions", rows, width, also)
    return rows[0], rows[1], rows[2], rows[-1], rows[3]  # never realised: cost and entry are one array


def _balances(venue: Venue, table: pd.DataFrame, owner: Whole, accounts: int, providers: Whole) -> tuple[Rows, float]:
    """Balance rows, with one of settle for every account and of all for a provider; and what rounding moved, quanta."""
    names = venue.assets.symbol
    asset = tables.codes("balances", "asset", table["asset"], names, "a collateral asset").astype(np.uint16)
    quantum = tables.PerKind(venue.assets.quantum_size, asset)
    columns, rounded = [], 0.0
    for name in ("quantity", "lent"):
        columns.append(np.zeros(len(table), np.int64))
        if name in table.columns:
            amount = table[name].to_numpy()
            columns[-1] = tables.half_even("balances", name, [amount], quantum)
            moved = np.empty(len(table))
            for at in tables.blocks(len(table)):
                moved[at] = np.abs(amount[at] / quantum[at] - columns[-1][at])
            rounded += float(moved.sum())
            rule = "all of an asset must be less than 2**62 quanta: give the asset a larger quantum in the venue"
            _must_not_pass("balances", name, amount, columns[-1], asset, 2.0**62, rule)
    width = len(names)
    without = np.ones(accounts, bool)
    without[owner[asset == venue.settle]] = False
    everything = (providers[:, None] * width + np.arange(width)).ravel()
    also = np.concatenate([np.flatnonzero(without) * width + venue.settle, everything])
    rows: list[Any] = [owner, asset, *columns]
    del owner, asset, quantum, columns
    _canonical("balances", rows, width, also)
    return (rows[0], rows[1], rows[2], rows[3]), rounded


def _settings(venue: Venue, table: pd.DataFrame, owner: Whole, accounts: int) -> tuple[npt.NDArray[np.float64], Int]:
    """Leverage limit (+inf without one) and unsettled quanta of every account."""
    leverage_limit, unsettled = np.full(accounts, np.inf), np.zeros(accounts, np.int64)
    if "leverage_limit" in table.columns:
        leverage_limit[owner] = table["leverage_limit"].fillna(np.inf).to_numpy()
    if "unsettled" in table.columns:
        quantum = np.broadcast_to(float(venue.settle_quantum), len(table))
        given = table["unsettled"].to_numpy()
        unsettled[owner] = tables.half_even("settings", "unsettled", [given], quantum)
        rule = "all accounts together must be less than 2**61 quanta: give the settle asset a larger quantum"
        _must_not_pass("settings", "unsettled", given, unsettled[owner], np.zeros(len(table), np.uint8), 2.0**61, rule)
    return leverage_limit, unsettled


def _orders(venue: Venue, table: pd.DataFrame, account: Int) -> Orders:
    """Open orders in canonical order."""
    market = tables.codes("orders", "market", table["market"], venue.markets.symbol, "a market")
    lots = _lots(venue, "orders", table, market)
    rule = "must be a whole number of ticks of the market's tickSize"
    price = tables.whole("orders", "price", table["price"].to_numpy(float), venue.markets.tick_size[market], rule)
    for column, unit, values in (("price", "tick", price), ("quantity", "lot", lots)):
        bad = np.flatnonzero(values < 1)
        if bad.size:
            row = int(bad[0])
            raise RiskDataError(
                "orders", column, f"must be at least one {unit}", row=row, value=table[column].iloc[row]
            )
    side = np.where(table["side"].to_numpy(object) == "bid", 1, -1).astype(np.int64)
    reduce_only = np.zeros(len(table), bool)
    if "reduce_only" in table.columns:
        reduce_only = table["reduce_only"].to_numpy(bool)
    order = np.lexsort((price, -side, market, account))
    return Orders(account[order], market[order], side[order], price[order], lots[order], reduce_only[order])
