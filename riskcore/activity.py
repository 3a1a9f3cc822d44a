"""What happens to accounts between ticks: accounts opened, transfers, fills; computed on a copy of those concerned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ._limits import POSITION_LIMIT
from ._typing import Bool, Int
from .boundary import RiskDataError, as_text, frames, schemas, units
from .margin import exact
from .market import Prices
from .record import BOOK, EVENT, NOBODY, REASON, Journal, Rows
from .state import NOBODY_OPENED, Accounts, Fills, Growth, Ledger, Opened, RowsOf, fill, read_fills
from .venue import Venue

_OUTSIDE = -1  # the account of money that comes from outside the run, or goes there


class Transfers(NamedTuple):
    """Transfers in whole numbers; T rows.

    Attributes
    ----------
    source, target : ndarray of int64, shape (T,)
        Account rows; -1: outside.
    asset, quanta : ndarray of int64, shape (T,)
        Asset row, and a quantity above 0.
    """

    source: Int
    target: Int
    asset: Int
    quanta: Int


class Actions(NamedTuple):
    """What is to happen between two ticks, in this order: accounts opened, transfers, fills.

    Attributes
    ----------
    opened : Opened
    transfers : Transfers
    fills : Fills
        Accounts by their rows; those that are opened come behind the others.
    tables : dict of str to DataFrame
        From which the others were read, for messages.
    """

    opened: Opened
    transfers: Transfers
    fills: Fills
    tables: dict[str, pd.DataFrame | None]


def read_actions(
    accounts: Accounts,
    venue: Venue,
    opened: pd.DataFrame | None,
    transfers: pd.DataFrame | None,
    fills: pd.DataFrame | None,
    delisted: Bool,
) -> Actions:
    """Read the tables of `Engine.apply`.

    Parameters
    ----------
    accounts, venue
        The state and its venue.
    opened, transfers, fills
        The tables.
    delisted
        Whether each market is delisted, shape (M,).

    Returns
    -------
    Actions
        In whole numbers.

    Raises
    ------
    RiskDataError
        A table breaks a rule, or names an account, market or asset that is not there, or a market that is delisted.
    """
    new = _read_opened(accounts, opened)
    row_of_new = {id_: len(accounts) + n for n, id_ in enumerate(new.ids.tolist())}

    def rows_of(table: str, column: str, ids: pd.Series[Any]) -> Int:
        if not row_of_new:
            return accounts.rows_of(table, column, ids)
        rows = np.array([row_of_new.get(id_, -1) for id_ in ids.tolist()], np.int64)
        known = rows < 0
        if known.any():
            rows[known] = accounts.rows_of(table, column, ids[known])
        return rows

    tables = {"account_transfers": transfers, "fills": fills}
    moved = _read_transfers(rows_of, venue, transfers)
    traded = read_fills(rows_of, venue, fills)
    if (gone := delisted[traded.market]).any():
        row = int(gone.argmax())
        symbol = venue.markets.symbol[traded.market[row]]
        raise RiskDataError("fills", "market", "must not be a market that is delisted", row=row, value=symbol)
    return Actions(new, moved, traded, tables)


def _read_opened(accounts: Accounts, opened: pd.DataFrame | None) -> Opened:
    if opened is None or not len(opened := frames.as_frame("accounts", opened)):
        return NOBODY_OPENED
    table = schemas.checked("accounts", opened)
    ids = table["account"]

    def refuse(column: str, row: int, rule: str) -> RiskDataError:
        return RiskDataError("accounts", column, rule, row=row, value=_text(table[column], row))

    if (ids.dtype == np.int64) != (accounts.ids.dtype == np.int64):
        raise refuse("account", 0, "must be of one kind with the account ids, whole number or text")
    owners = ids if "owner" not in table.columns else table["owner"]
    if (owners.dtype == np.int64) != (accounts.ids.dtype == np.int64):
        raise refuse("owner", 0, "must be of one kind with the account ids, whole number or text")
    own = dict(zip(ids.tolist(), owners.tolist(), strict=True))
    for row, (id_, owner) in enumerate(zip(ids.tolist(), owners.tolist(), strict=True)):
        if _owner_of(accounts, id_) is not None:
            raise refuse("account", row, "must not be an account of the state")
        if owner != id_ and own.get(owner, _owner_of(accounts, owner)) not in (None, owner):
            raise refuse("owner", row, "must be its own owner if it is an account")
    if accounts.ids.dtype == object:
        for column, values in (("account", ids), ("owner", owners)):
            schemas.must_be_unicode("accounts", column, values)
    limit = np.full(len(ids), np.inf)
    if "leverage_limit" in table.columns:
        limit = table["leverage_limit"].fillna(np.inf).to_numpy(float)
    return Opened.of(ids.tolist(), limit.tolist(), owners.tolist())


def _owner_of(accounts: Accounts, id_: int | str) -> int | str | None:
    """Id of the owner of an account, None if there is no such account."""
    try:
        owner: int | str = accounts.owners[accounts.row_of(id_)]
    except KeyError:
        return None
    return owner


def _read_transfers(rows_of: RowsOf, venue: Venue, transfers: pd.DataFrame | None) -> Transfers:
    if transfers is None or not len(transfers := frames.as_frame("account_transfers", transfers)):
        return Transfers(*(np.empty(0, np.int64),) * 4)
    name = "account_transfers"
    table = schemas.checked(name, transfers)
    sides = {}
    for column in ("from_account", "to_account"):
        ids = table[column]
        inside = ids.notna().to_numpy()
        sides[column] = np.full(len(ids), _OUTSIDE)
        if inside.any():
            sides[column][inside] = rows_of(name, column, ids[inside].infer_objects())
    source, target = sides.values()
    asset = schemas.codes(name, "asset", table["asset"], venue.assets.symbol, "a collateral asset")
    quantity, quantum = table["quantity"].to_numpy(), units.PerKind(venue.assets.quantum_size, asset)
    quanta = units.round_half_even(name, "quantity", [quantity], quantum)
    same = np.flatnonzero(source == target)
    if same.size:
        rule = "must be another account than from_account, and one of them must be given"
        raise RiskDataError(name, "to_account", rule, row=int(same[0]), value=_text(table["to_account"], int(same[0])))
    nothing = np.flatnonzero(quanta < 1)
    if nothing.size:
        rule = "must be at least one quantum of the asset"
        raise RiskDataError(name, "quantity", rule, row=int(nothing[0]), value=quantity[nothing[0]])
    return Transfers(source, target, asset, quanta)


def _text(values: pd.Series[Any], row: int) -> str:
    return as_text(values.iloc[row])


class CarriedOut(NamedTuple):
    """Actions that were carried out on a copy.

    Attributes
    ----------
    accounts : ndarray of int64, shape (n,)
        Account rows of those that changed, ascending.
    part : Accounts
        They alone, as they are afterwards.
    positions, balances : ndarray of int64, shape (m, 2)
        Account and market, or asset, of the rows that they need.
    rows : ndarray of `riskcore.record.ROW`
        Rows of the journal.
    """

    accounts: Int
    part: Accounts
    positions: Int
    balances: Int
    rows: Rows


def carry_out(
    accounts: Accounts, venue: Venue, actions: Actions, prices: Prices | None, journal: Journal
) -> CarriedOut:
    """Carry out actions on a copy of the accounts that they name.

    Parameters
    ----------
    accounts, venue
        The state, which does not change, and its venue.
    actions
        What is to happen.
    prices
        Those of the last tick; None before the first.
    journal
        To which the rows are added.

    Returns
    -------
    CarriedOut
        The copy, to be written back by `write_back`, and the rows.

    Raises
    ------
    RiskDataError
        An action is not allowed.
    """
    opened, moved, traded, tables = actions
    first, count = len(accounts), len(opened.ids)
    named = np.concatenate([moved.source, moved.target, traded.account, np.arange(first, first + count)])
    touched = np.unique(named[named >= 0])
    local = np.searchsorted(touched, traded.account)
    positions = np.stack([traded.account, traded.market], axis=1)
    balances = np.concatenate(
        [np.stack([side, moved.asset], axis=1)[side >= 0] for side in (moved.source, moved.target)]
    )
    part = accounts.part(touched[touched < first])
    of_part = (np.stack([np.searchsorted(touched, keys[:, 0]), keys[:, 1]], axis=1) for keys in (positions, balances))
    Growth(part, part.view(), venue).add(opened, *of_part)
    block = journal.block(count)
    block["event"], block["reason"], block["account"] = (
        EVENT["open"],
        REASON["request"],
        np.arange(first, first + count),
    )
    block["counterparty"] = NOBODY
    journal.extend(block)
    work = _Transferring(part, touched, prices, tables["account_transfers"])
    for row, transfer in enumerate(zip(*(column.tolist() for column in moved), strict=True)):
        work.move(row, *transfer)
    journal.extend(_transfer_rows(journal, moved))
    changes = fill(part, venue, traded._replace(account=local), tables["fills"])
    block = journal.block(len(traded.lots))
    block["event"], block["reason"], block["counterparty"] = EVENT["fill"], REASON["request"], BOOK
    block["account"], block["market"], block["settle"] = (
        traded.account,
        traded.market,
        venue.markets.settle[traded.market],
    )
    block["lots"], block["cost"], block["cash"], block["entry"] = traded.lots, changes.cost, changes.cash, changes.entry
    block["fee"], block["fund"], block["counter_cash"] = traded.fee, -traded.fee, traded.fee - traded.flow
    block["price"] = traded.price
    journal.extend(block)
    return CarriedOut(touched, part, positions, balances, journal.rows())


class _Transferring:
    """Transfers between accounts of a part of the state; ``accounts`` are the rows of the part in the state."""

    def __init__(self, part: Accounts, accounts: Int, prices: Prices | None, table: pd.DataFrame | None) -> None:
        self.part, self.prices, self.table = part, prices, table
        self.row = {account: n for n, account in enumerate(accounts.tolist())}

    def move(self, row: int, source: int, target: int, asset: int, quanta: int) -> None:
        """Move quanta of an asset; -1 is outside."""
        part, free = self.part, self.part.columns.free
        if source >= 0 and target >= 0:
            one, other = (part.owners[self.row[account]] for account in (source, target))
            if one != other:
                raise self._refusal(row, "to_account", f"must be of the owner of from_account, {one}, not of {other}")
        if target >= 0:
            balance = part.balance_row(self.row[target], asset)
            if abs(int(free[balance])) + quanta >= POSITION_LIMIT:
                raise self._refusal(row, "quantity", "the resulting balance must be less than 2**60 quanta")
            free[balance] += quanta
        if source >= 0:
            account = self.row[source]
            balance = part.balance_row(account, asset)
            if free[balance] < quanta:
                raise self._refusal(row, "quantity", "must be at most what from_account has of the asset")
            free[balance] -= quanta
            self._must_cover(row, account)

    def _must_cover(self, row: int, account: int) -> None:
        """Refuse that an account gives away what its initial margin needs."""
        part, columns = self.part, self.part.columns
        positions, balances = (slice(r.start, r.stop) for r in (part.positions_of(account), part.balances_of(account)))
        exposed = columns.lots[positions] | columns.open_bid[positions] | columns.open_ask[positions]
        markets = columns.market[positions][exposed != 0]
        if not markets.size and not (columns.free[balances] < 0).any():
            return
        assets = columns.asset[balances][(columns.free[balances] != 0) | (columns.lent[balances] != 0)]
        prices = self.prices
        if prices is None or np.isnan(prices.mark[markets]).any() or np.isnan(prices.asset[assets]).any():
            raise self._refusal(row, "from_account", "must have no position or debt without a price in the last tick")
        if not exact.covers_initial_margin(part, account, prices):
            raise self._refusal(row, "quantity", "must leave from_account an initial margin ratio below 100 %")

    def _refusal(self, row: int, column: str, rule: str) -> RiskDataError:
        assert self.table is not None
        value = frames.as_frame("account_transfers", self.table)[column].iloc[row]
        return RiskDataError("account_transfers", column, rule, row=row, value=value)


def _transfer_rows(journal: Journal, moved: Transfers) -> Rows:
    """Rows of transfers: of the source, or of the target where the source is outside."""
    block = journal.block(len(moved.quanta))
    is_deposit, is_withdrawal = moved.source < 0, moved.target < 0
    block["event"] = np.select([is_deposit, is_withdrawal], [EVENT["deposit"], EVENT["withdraw"]], EVENT["transfer"])
    block["reason"], block["asset"] = REASON["request"], moved.asset
    block["account"] = np.where(is_deposit, moved.target, moved.source)
    block["counterparty"] = np.where(is_deposit | is_withdrawal, BOOK, moved.target)
    block["quanta"] = np.where(is_deposit, moved.quanta, -moved.quanta)
    return block


def write_back(state: Accounts, growth: Growth, ledger: Ledger, actions: Actions, done: CarriedOut) -> bool:
    """Write the copy of `carry_out` back to a state, and the rows to its ledgers.

    Parameters
    ----------
    state, growth, ledger
        The state, the room behind its columns, and its ledgers.
    actions, done
        What was carried out.

    Returns
    -------
    bool
        Whether the state has other rows or accounts than before.
    """
    columns = state.columns
    growth.add(actions.opened, done.positions, done.balances)
    grew = state.columns is not columns
    everybody = np.arange(len(done.accounts))
    for rows, of_part, names in (
        (state.position_rows(done.accounts)[0], done.part.position_rows(everybody)[0], ("lots", "cost", "entry")),
        (state.balance_rows(done.accounts)[0], done.part.balance_rows(everybody)[0], ("free", "balance_cost")),
    ):
        for name in names:
            getattr(state.columns, name)[rows] = getattr(done.part.columns, name)[of_part]
    journal = done.rows
    book = journal["counterparty"] == BOOK
    for ledger_entry, kind, amount in (
        (ledger.book_lots, "market", -journal["lots"]), (ledger.book_quanta, "asset", -journal["quanta"]),
        (ledger.book_quanta, "settle", journal["counter_cash"]),
    ):  # fmt: skip
        named = book & (journal[kind] >= 0)
        np.add.at(ledger_entry, journal[kind][named], amount[named])
    return grew
