"""Rows of the journal: what a row changes, and the totals that no row changes."""

from __future__ import annotations

import copy

from .state import State
from .venue import Venue

BOOK = "book"
FUND = "fund"
SHORTFALL = "shortfall"
POOL = "pool"
QUIET = dict.fromkeys(("counterparty", "market", "asset", "order")) | dict.fromkeys(
    ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled"), 0
)
QUIET |= dict.fromkeys(("counter_cost", "counter_cash", "counter_entry", "fund"), 0)


def apply_row(venue: Venue, state: State, row) -> None:
    """Add a row's changes to the state (The journal)."""
    if row["event"] == "guard":
        return
    account, market, asset, other = state.accounts[row["account"]], row["market"], row["asset"], row["counterparty"]
    account.balances[venue.settle][0] += row["cash"] - row["fee"]
    account.unsettled += row["unsettled"]
    state.fund += row["fund"] + row["fee"]
    for part, column in enumerate(("lots", "cost", "entry")):
        if row[column] != 0:
            account.positions[market][part] += row[column]
    if asset is not None:
        account.balances[asset][0] += row["quanta"]
        account.balances[asset][1] += row["lent"]
    if row["event"] == "cancel":
        account.orders = [order for order in account.orders if order.index != row["order"]]
    if row["event"] == "book":
        state.book_lots[market] -= row["lots"]
    if row["event"] == "convert":
        state.book_quanta[asset] -= row["quanta"]
    if other == BOOK:
        state.book_quanta[venue.settle] += row["counter_cash"]
    elif other == SHORTFALL:
        state.shortfall += row["counter_cash"]
    elif other == POOL:
        state.pool[asset] -= row["quanta"] + row["lent"]
    elif row["event"] in ("backstop", "adl", "socialize"):
        state.accounts[other].balances[venue.settle][0] += row["counter_cash"]
        if asset is not None:
            state.accounts[other].balances[asset][0] -= row["quanta"] + row["lent"]
        elif row["lots"] != 0:
            for part, column in enumerate(("lots", "counter_cost", "counter_entry")):
                state.accounts[other].positions[market][part] += -row["lots"] if column == "lots" else row[column]


def apply_rows(venue: Venue, state: State, rows) -> State:
    """The state after `rows`, by plain addition; the state given is not changed (The journal)."""
    new = copy.deepcopy(state)
    for row in rows:
        apply_row(venue, new, row)
    return new


def journalled(state: State) -> dict:
    """What the journal determines of a state: all but the clock, and what is remembered besides the holdings."""
    names = ("accounts", "book_lots", "book_quanta", "pool", "fund", "shortfall")
    return {name: getattr(state, name) for name in names}


def total_lots(venue: Venue, state: State) -> dict:
    """Signed lots of each market over all accounts and the book: no tick changes them."""
    accounts = state.accounts.values()
    return {m: state.book_lots[m] + sum(a.positions.get(m, (0,))[0] for a in accounts) for m in venue.markets}


def total_quanta(venue: Venue, state: State) -> dict:
    """Quanta of each asset over all accounts and ledgers, of settle the unsettled too and less the costs.

    No tick changes them.
    """
    accounts = state.accounts.values()
    totals = {
        a: state.book_quanta[a] + state.pool[a] + sum(sum(x.balances.get(a, (0, 0))) for x in accounts)
        for a in venue.assets
    }
    costs = sum(cost for account in accounts for _, cost, _ in account.positions.values())
    totals[venue.settle] += state.fund + state.shortfall + sum(account.unsettled for account in accounts) - costs
    return totals
