"""Converts the tables of users to rows of accounts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import AMOUNT_LIMIT, POSITION_LIMIT, TOTAL_LIMIT
from .._typing import AnyInt, Float, Int
from ..boundary import RiskDataError, schemas, units
from ..kernels.layouts import OrderColumns
from ..venue import Venue
from .ids import did_you_mean, lookalikes, ranked_numbers, ranked_texts
from .ids import order as order_of
from .rows import Orders, PositionRows, Rows, _key, costs


def _canonical(table: str, rows: list[Any], width: int, also: Int) -> None:
    """Sort rows by owner, then by market or asset, the first two columns; add rows of zeros for the keys ``also``."""
    owner, kind = rows[:2]
    if not ((owner[1:] > owner[:-1]) | ((owner[1:] == owner[:-1]) & (kind[1:] > kind[:-1]))).all():
        order = order_of(_key(owner, kind, width))
        del owner, kind
        for n in range(len(rows)):  # column by column, so that each old one is freed before the next is copied
            rows[n] = rows[n].take(order)
        owner, kind = rows[:2]
        if ((owner[1:] == owner[:-1]) & (kind[1:] == kind[:-1])).any():
            raise RiskDataError(table, "account", "must not appear twice")
    if len(also):
        key, also = _key(owner, kind, width), np.unique(also)
        position = np.searchsorted(key, also)
        is_new = position == np.searchsorted(key, also, side="right")
        owners, kinds = np.divmod(also[is_new], width)
        zeros = [0] * (len(rows) - 2)
        rows[:] = [np.insert(c, position[is_new], new) for c, new in zip(rows, [owners, kinds, *zeros], strict=True)]


_ORDERS = ["account", "market", "side", "price", "quantity"]


def _rows(
    venue: Venue, frames: dict[str, pd.DataFrame]
) -> tuple[npt.NDArray[Any], PositionRows, Rows, Orders, Float, float, npt.NDArray[Any] | None]:
    """Arguments of `Accounts.from_rows`, from tables in natural units."""
    named = {n: schemas.checked(n, f, unique=n not in ("positions", "balances")) for n, f in frames.items()}
    ids, owner = _account_rows(venue, named)
    book = _orders(venue, named["orders"], owner["orders"].astype(np.int64))
    balances, rounded = _balances(venue, named["balances"], owner["balances"], len(ids), owner["backstop"])
    leverage_limit, unsettled = _settings(venue, named["settings"], owner["settings"], len(ids))
    lots = _positions(venue, named["positions"], owner["positions"], book, owner["backstop"])
    owners = _owners(named["settings"], owner["settings"], ids)
    if not venue.plain_money:
        width, settle = len(venue.assets.symbol), venue.markets.settle[lots[1]]
        _canonical("balances", balances, width, _key(lots[0], settle, width)[settle != venue.settle])
    quanta = np.zeros(len(balances[0]), np.int64)
    quanta[balances[1] == venue.settle] = unsettled
    return ids, lots, (*balances[:4], quanta), book, leverage_limit, rounded, owners


def _account_rows(venue: Venue, named: dict[str, pd.DataFrame]) -> tuple[npt.NDArray[Any], dict[str, AnyInt]]:
    """All account ids, ascending; and the account row of each row of each table, and of each backstop provider."""
    filled = {name: table["account"] for name, table in named.items() if len(table)}
    if not filled:
        raise RiskDataError("balances", None, "must have at least one row")
    kinds = {name: account.dtype == np.int64 for name, account in filled.items()}
    for name, kind in kinds.items():
        if kind != next(iter(kinds.values())):
            rule = "must be of one kind, whole number or text, in all tables"
            raise RiskDataError(name, "account", rule, row=0, value=filled[name].iloc[0])
    columns = list(filled.values())
    try:
        ids, rows = (
            ranked_numbers([g.to_numpy() for g in columns]) if kinds[next(iter(kinds))] else ranked_texts(columns)
        )
    except UnicodeEncodeError:
        for name, account in filled.items():
            schemas.must_be_unicode(name, "account", account)
        raise
    owner: dict[str, AnyInt] = {name: np.empty(0, np.int32) for name in named}
    owner.update(zip(filled, rows, strict=True))
    _must_be_consistent(named, ids, owner)
    backstop = []
    for index, provider in enumerate(venue.backstop):
        rows_of_id = np.flatnonzero(ids == provider.account)
        if not rows_of_id.size:
            rule = f"must have a row in balances or positions{did_you_mean(provider.account, ids)}"
            raise RiskDataError("venue", f"backstop[{index}].account", rule, value=str(provider.account))
        backstop.append(int(rows_of_id[0]))
    return ids, owner | {"backstop": np.array(backstop, np.int64)}


def _must_be_consistent(named: dict[str, pd.DataFrame], ids: npt.NDArray[Any], owner: dict[str, AnyInt]) -> None:
    """Refuse ids that separate an account from its money.

    These are two writings of an id that are not in the same tables; ids that differ in case alone, of which one has
    positions without balances and the other has balances; ids of orders and settings that have neither.
    """
    in_table = {name: np.zeros(len(ids), bool) for name in ("positions", "balances", "orders", "settings")}
    for name, mask in in_table.items():
        mask[owner[name]] = True
    used = in_table["positions"] | in_table["orders"] | in_table["settings"]
    without_balance = np.flatnonzero(used & ~in_table["balances"])
    if ids.dtype == object:
        one, other = lookalikes(ids)
        separated = np.any([mask[one] != mask[other] for mask in in_table.values()], axis=0)
        one, other = one[separated], other[separated]
        if not one.size and without_balance.size and in_table["balances"].any():
            with_balance = np.flatnonzero(in_table["balances"])
            lower = {
                text.lower(): row for row, text in zip(with_balance.tolist(), ids[with_balance].tolist(), strict=True)
            }
            pairs = [(row, lower.get(ids[row].lower(), -1)) for row in without_balance.tolist()]
            one, other = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
            one, other = one[other >= 0], other[other >= 0]
        if one.size:
            first, second = int(one[0]), int(other[0])
            # the error names a table that has one of the two ids alone
            name = next(n for n, mask in in_table.items() if mask[first] != mask[second])
            row, other_row = (first, second) if in_table[name][first] else (second, first)
            tables = ", ".join(n for n, mask in in_table.items() if mask[other_row])
            rule = f"must be written as in {tables} ({str(ids[other_row])!r}), if it is the same account"
            table_row = int(np.flatnonzero(owner[name] == row)[0])
            raise RiskDataError(name, "account", rule, row=table_row, value=str(ids[row]))
    for name in ("orders", "settings"):
        orphaned = ~(in_table["positions"] | in_table["balances"])[owner[name]]
        if orphaned.any():
            table_row = int(orphaned.argmax())
            rule = "must have a row in positions or balances"
            raise RiskDataError(name, "account", rule, row=table_row, value=str(named[name]["account"].iloc[table_row]))


def _lots(venue: Venue, name: str, table: pd.DataFrame, market: AnyInt) -> Int:
    """Quantities in whole lots; a lot too large, or too many in a market for 64 bits, are refused."""
    quantity = table["quantity"].to_numpy(float)
    rule = "must be a whole number of lots of the market's stepSize"
    lots = units.whole_multiples(name, "quantity", quantity, units.PerKind(venue.markets.step_size, market), rule)
    for rows in units.blocks(len(lots)):
        bad = np.flatnonzero(np.abs(lots[rows]) > venue.markets.max_lots[market[rows]])
        if bad.size:
            row = rows.start + int(bad[0])
            at = "one tick" if venue.markets.inverse[market[row]] else "the market's maxPrice"
            rule = f"must be worth less than 2**60 settle quanta at {at}"
            raise RiskDataError(name, "quantity", rule, row=row, value=quantity[row])
    rule = f"the total of {name} in a market must be less than 2**61 lots"
    _must_not_pass(name, "quantity", quantity, lots, market, TOTAL_LIMIT, rule)
    return lots


def _must_not_pass(
    table: str, column: str, values: npt.NDArray[Any], amounts: Int, group: AnyInt, limit: int, rule: str
) -> None:
    """Refuse amounts whose absolute values sum to the limit or more in a group: their sums might wrap."""
    if sum(float(np.abs(amounts[rows]).sum(dtype=float)) for rows in units.blocks(len(amounts))) < limit / 2:
        return
    bad = np.flatnonzero((np.bincount(group, np.abs(amounts.astype(float))) >= limit)[group])
    if bad.size:
        largest = int(bad[np.abs(amounts[bad].astype(float)).argmax()])
        raise RiskDataError(table, column, rule, row=largest, value=values[largest])


def _positions(venue: Venue, table: pd.DataFrame, owner: AnyInt, orders: Orders, providers: AnyInt) -> PositionRows:
    """Position rows, also for markets in which an account only has an order; a provider has one for every market."""
    market = schemas.codes("positions", "market", table["market"], venue.markets.symbol, "a market").astype(np.uint16)
    lots = _lots(venue, "positions", table, market)
    paid = {"entry_price": table["entry_price"].to_numpy()}
    if "settle_price" in table.columns:
        paid["settle_price"] = table["settle_price"].fillna(table["entry_price"]).to_numpy()
    quanta = []
    for name, price in paid.items():
        quanta.append(costs("positions", name, price, lots, market, venue.units))
        rule = "the cost of the account's positions must be less than 2**60 settle quanta"
        _must_not_pass("positions", name, price, quanta[-1], owner, POSITION_LIMIT, rule)
    if venue.markets.has_options:
        quanta = [quanta[0], _costs_less_options(venue, table, market, quanta[-1])]
    width = len(venue.markets.symbol)
    everywhere = (providers[:, None] * width + np.arange(width)).ravel()
    also = np.concatenate([_key(orders.account, orders.market, width), everywhere])
    rows: list[Any] = [owner, market, lots, *quanta]
    del owner, market, lots, quanta
    _canonical("positions", rows, width, also)
    return rows[0], rows[1], rows[2], rows[-1], rows[3]  # never realised: cost and entry are one array


def _costs_less_options(venue: Venue, table: pd.DataFrame, market: AnyInt, cost: Int) -> Int:
    """Costs with 0 for each option, whose premium was cash at once."""
    is_option = venue.markets.is_option[market]
    if "settle_price" in table.columns and (given := is_option & table["settle_price"].notna().to_numpy()).any():
        row, rule = int(given.argmax()), "must be missing: no profit and loss of an option is realised"
        raise RiskDataError("positions", "settle_price", rule, row=row, value=table["settle_price"].iloc[row])
    return np.where(is_option, 0, cost)


def _balances(
    venue: Venue, table: pd.DataFrame, owner: AnyInt, accounts: int, providers: AnyInt
) -> tuple[list[Any], float]:
    """Account, asset, free and lent quanta of the balance rows, and the sum of rounding in quanta.

    Accounts have a row of the venue's settle asset, providers one per asset.
    """
    names = venue.assets.symbol
    asset = schemas.codes("balances", "asset", table["asset"], names, "a collateral asset").astype(np.uint16)
    quantum = units.PerKind(venue.assets.quantum_size, asset)
    columns, rounded = [], 0.0
    for name in ("quantity", "lent"):
        columns.append(np.zeros(len(table), np.int64))
        if name in table.columns:
            amount = table[name].to_numpy()
            columns[-1] = units.round_half_even("balances", name, [amount], quantum)
            moved = np.empty(len(table))
            for block in units.blocks(len(table)):
                moved[block] = np.abs(amount[block] / quantum[block] - columns[-1][block])
            rounded += float(moved.sum())
            rule = "the total of an asset must be less than 2**62 quanta: set a larger quantum in the venue"
            _must_not_pass("balances", name, amount, columns[-1], asset, AMOUNT_LIMIT, rule)
    width = len(names)
    without = np.ones(accounts, bool)
    without[owner[asset == venue.settle]] = False
    everything = (providers[:, None] * width + np.arange(width)).ravel()
    also = np.concatenate([np.flatnonzero(without) * width + venue.settle, everything])
    rows: list[Any] = [owner, asset, *columns]
    del owner, asset, quantum, columns
    _canonical("balances", rows, width, also)
    return rows, rounded


def _settings(venue: Venue, table: pd.DataFrame, owner: AnyInt, accounts: int) -> tuple[Float, Int]:
    """Leverage limit (+inf without one) and unsettled quanta of every account."""
    leverage_limit, unsettled = np.full(accounts, np.inf), np.zeros(accounts, np.int64)
    if "leverage_limit" in table.columns:
        leverage_limit[owner] = table["leverage_limit"].fillna(np.inf).to_numpy()
    if "unsettled" in table.columns:
        quantum = np.broadcast_to(float(venue.settle_quantum), len(table))
        amount = table["unsettled"].to_numpy()
        unsettled[owner] = units.round_half_even("settings", "unsettled", [amount], quantum)
        rule = "the total of all accounts must be less than 2**61 quanta: set a larger quantum for the settle asset"
        _must_not_pass(
            "settings", "unsettled", amount, unsettled[owner], np.zeros(len(table), np.uint8), TOTAL_LIMIT, rule
        )
    return leverage_limit, unsettled


def _owners(table: pd.DataFrame, account: AnyInt, ids: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Id of the owner of every account; None where every account is its own."""
    if "owner" not in table.columns or not len(table):
        return None
    given = table["owner"]
    if (given.dtype == np.int64) != (ids.dtype == np.int64):
        rule = "must be of one kind with the account ids, whole number or text"
        raise RiskDataError("settings", "owner", rule, row=0, value=given.iloc[0])
    if ids.dtype == object:
        schemas.must_be_unicode("settings", "owner", given)
    owners = ids.copy()
    owners[account] = given.to_numpy()
    row = pd.Index(ids).get_indexer(pd.Index(given))
    bad = np.flatnonzero((row >= 0) & (owners[row] != ids[row]))
    if bad.size:
        rule = f"must be its own owner if it is an account, and account {ids[row[bad[0]]]} has another"
        raise RiskDataError("settings", "owner", rule, row=int(bad[0]), value=given.iloc[bad[0]])
    return owners


def _orders(venue: Venue, table: pd.DataFrame, account: Int) -> Orders:
    """Open orders in canonical order."""
    market = schemas.codes("orders", "market", table["market"], venue.markets.symbol, "a market")
    lots = _lots(venue, "orders", table, market)
    rule = "must be a whole number of ticks of the market's tickSize"
    price = units.whole_multiples(
        "orders", "price", table["price"].to_numpy(float), venue.markets.tick_size[market], rule
    )
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
    columns = OrderColumns._make(column[order] for column in (account, market, side, price, lots, reduce_only))
    return Orders(columns, _order_ids(table, account, order) if "order" in table.columns else None)


def _order_ids(table: pd.DataFrame, account: Int, order: Int) -> dict[int, str]:
    """Ids of the orders that were given one, by number; ``order`` has the row of each number in the table."""
    given = table["order"].tolist()
    ids = {number: given[row] for number, row in enumerate(order.tolist()) if given[row] is not None}
    seen = set()
    for number, (row, owner) in enumerate(zip(order.tolist(), account[order].tolist(), strict=True)):
        if (key := (owner, ids.get(number, str(number)))) in seen:
            rule = "must not be the id of another open order of the account"
            raise RiskDataError("orders", "order", rule, row=row, value=key[1])
        seen.add(key)
    return {number: id_ for number, id_ in ids.items() if id_ != str(number)}
