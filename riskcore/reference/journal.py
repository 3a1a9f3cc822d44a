"""Rows of the journal: what a row changes, and the totals that no row changes."""

from __future__ import annotations

import copy
from dataclasses import replace

from .numbers import number
from .state import Account, Asked, State
from .venue import Venue

BOOK = "book"
FUND = "fund"
SHORTFALL = "shortfall"
POOL = "pool"
QUIET = dict.fromkeys(("counterparty", "market", "asset", "settle", "order")) | dict.fromkeys(
    ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled"), 0
)
QUIET |= dict.fromkeys(("counter_cost", "counter_cash", "counter_entry", "fund"), 0)


def apply_row(state: State, row) -> None:
    """Add a row's changes to the state (The journal)."""
    if row["event"] == "guard":
        return
    if row["event"] == "open":
        state.accounts[row["account"]] = copy.deepcopy(state.opening[row["account"]])
        if not isinstance(state.accounts, Asked):
            state.accounts = dict(sorted(state.accounts.items()))
        return
    account, market, asset, other = state.accounts[row["account"]], row["market"], row["asset"], row["counterparty"]
    settle = row["settle"]
    if row["event"] in ("fill", "place", "deposit", "transfer", "borrow"):
        taker = account if row["event"] != "transfer" else state.accounts[other]
        add_rows(state, taker, market, asset or state.settles[market])
    if settle is not None:
        account.balances[settle][0] += row["cash"] - row["fee"]
        account.unsettled[settle] += row["unsettled"]
        state.fund[settle] += row["fund"] + row["fee"]
    for part, column in enumerate(("lots", "cost", "entry")):
        if row[column] != 0:
            account.positions[market][part] += row[column]
    if asset is not None:
        account.balances[asset][0] += row["quanta"]
        account.balances[asset][1] += row["lent"]
    if row["order"] is not None:
        account.orders = list(orders_after(state, account, row))
    if row["event"] == "place":
        state.order_count += 1
    elif row["event"] == "leverage":
        account.leverage_limit = None if row["price"] != row["price"] else number(row["price"])
    if row["event"] in ("book", "market_close", "fill", "delist"):
        state.book_lots[market] -= row["lots"]
    if row["event"] in ("convert", "deposit", "withdraw", "borrow", "repay"):
        state.book_quanta[asset] -= row["quanta"]
    if other == BOOK and settle is not None:
        state.book_quanta[settle] += row["counter_cash"]
    elif other == SHORTFALL:
        state.shortfall[settle] += row["counter_cash"]
    elif other == POOL:
        state.pool[asset] -= row["quanta"] + row["lent"]
    elif row["event"] in ("backstop", "adl", "socialize", "transfer"):
        if settle is not None:
            state.accounts[other].balances[settle][0] += row["counter_cash"]
        if asset is not None:
            state.accounts[other].balances[asset][0] -= row["quanta"] + row["lent"]
        elif row["lots"] != 0:
            for part, column in enumerate(("lots", "counter_cost", "counter_entry")):
                state.accounts[other].positions[market][part] += -row["lots"] if column == "lots" else row[column]


def orders_after(state: State, account: Account, row):
    """The orders of an account after a row that names one: placed, changed, cancelled, or filled by so many lots."""
    for order in account.orders:
        if order.index != row["order"]:
            yield order
        elif row["event"] == "change":
            yield replace(order, lots=row["requested"], price=number(row["price"]))
        elif row["event"] == "fill" and order.lots > abs(row["lots"]):
            yield replace(order, lots=order.lots - abs(row["lots"]))
    if row["event"] == "place":
        yield state.placing[row["order"]]


def add_rows(state: State, account: Account, market, asset) -> None:
    """Give an account a position in a market and a balance of an asset, of nothing, where it has none (Activity)."""
    if market is not None and market not in account.positions:
        held = account.positions | {market: [0, 0, 0]}
        account.positions = {symbol: held[symbol] for symbol in state.book_lots if symbol in held}
    if asset not in account.balances:
        owned = account.balances | {asset: [0, 0]}
        account.balances = {symbol: owned[symbol] for symbol in state.book_quanta if symbol in owned}


def apply_rows(state: State, rows) -> State:
    """The state after `rows`, by plain addition; the state given is not changed (The journal)."""
    new = copy.deepcopy(state)
    for row in rows:
        apply_row(new, row)
    return new


def journalled(state: State) -> dict:
    """What the journal determines of a state: all but the clock, and what is remembered besides the holdings."""
    names = ("accounts", "order_count", "book_lots", "book_quanta", "pool", "fund", "shortfall")
    return {name: getattr(state, name) for name in names}


def total_lots(venue: Venue, state: State) -> dict:
    """Signed lots of each market over all accounts and the book: no tick changes them."""
    accounts = state.accounts.values()
    return {m: state.book_lots[m] + sum(a.positions.get(m, (0,))[0] for a in accounts) for m in venue.markets}


def total_quanta(venue: Venue, state: State) -> dict:
    """Quanta of each asset over all accounts and ledgers, the unsettled too, less the costs of what settles in it.

    No tick changes them.
    """
    accounts, ledgers = state.accounts.values(), (state.book_quanta, state.pool, state.fund, state.shortfall)
    totals = {asset: sum(ledger[asset] for ledger in ledgers) for asset in venue.assets}
    for account in accounts:
        for asset, held in account.balances.items():
            totals[asset] += sum(held) + account.unsettled.get(asset, 0)
        for market, (_, cost, _) in account.positions.items():
            totals[venue.markets[market].settle] -= cost
    return totals
