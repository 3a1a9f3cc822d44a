"""Events with a time of their own: changes of the venue, delistings, and the entries of the funding table."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from .journal import BOOK
from .numbers import change_of_cost, number, rhe
from .tick_state import TickState
from .venue import Venue

FIXED_OF_MARKET = (
    "symbol", "baseSymbol", "quoteSymbol", "marketType", "settle", "multiplier", "filters.price.tickSize",
    "filters.quantity.stepSize",
)  # fmt: skip
FIXED_OF_ASSET = ("symbol", "quantum")
BOOK_STATES = {"open": "Open", "post-only": "PostOnly", "closed": "Closed"}


def due(events: Iterable[Mapping] | None, after: int, until: int) -> list:
    """The events in `(after, until]`, by time, those of one time in their order."""
    return sorted((event for event in events or () if after < event["time"] <= until), key=lambda event: event["time"])


def check_entries(entries, state, time_ns: int, funding_rates) -> None:
    """Refuse entries of the funding table that are not of this tick or stand twice, and rates beside them."""
    named = [(entry["time"], entry["market"]) for entry in entries or ()]
    if len(set(named)) < len(named):
        raise ValueError("an entry of the funding table stands twice")
    if state.ticks > 0 and any(not state.time_ns < time <= time_ns for time, _ in named):
        raise ValueError("an entry of the funding table is not of this tick")
    scheduled = state.funding_scheduled | {market for _, market in named if state.ticks > 0}
    if both := scheduled & set(funding_rates):
        raise ValueError(f"a funding rate of {min(both)}, whose funding is scheduled")


def changed_venue(venue: Venue, changes) -> Venue:
    """The venue after changes, built anew (Venue changes)."""
    if not changes:
        return venue
    source = copy.deepcopy(venue.source)
    for change in changes:
        of_market = change.get("market") is not None
        table, symbol = ("markets", change["market"]) if of_market else ("collateral", change["asset"])
        row = next((one for one in source.get(table) or [] if one["symbol"] == symbol), None)
        if row is None:
            raise ValueError(f"{symbol} has no row in {table}")
        field, value = change["field"], change["value"]
        if field == "delist":
            continue
        if field == "state" and of_market:
            field, value = "orderBookState", BOOK_STATES[value]
        if field in (FIXED_OF_MARKET if of_market else FIXED_OF_ASSET):
            raise ValueError(f"{field} of {symbol} cannot change")
        *path, name = field.split(".")
        for key in path:
            row = row.setdefault(key, {})
        row[name] = value
    return Venue(source)


class Events(TickState):
    """What happens at an instant before everything else."""

    def delistings(self, changes) -> None:
        """Delist markets, in the order of their changes (Venue changes)."""
        for change in changes:
            if change["field"] == "delist":
                self.delist(change["market"], number(change["value"]))

    def delist(self, symbol: str, price) -> None:
        """Cancel the orders of a market, and settle its positions at a price."""
        if symbol in self.state.delisted:
            raise ValueError(f"{symbol} is delisted already")
        for account_id, account in self.state.accounts.items():
            for order in account.orders:
                if order.market == symbol:
                    names = {"market": symbol, "order": order.index}
                    self.record("cancel", "delisted", account_id, **names, requested=order.lots)
        market = self.venue.markets[symbol]
        for account_id, account in self.state.accounts.items():
            lots, *amounts = account.positions.get(symbol, (0, 0, 0))
            if lots == 0:
                continue
            flow = rhe(lots * market.lot_value(price) / self.quantum(symbol))
            cost, entry = (change_of_cost(lots, amount, -lots, flow) for amount in amounts)
            names = {"counterparty": BOOK, "market": symbol, "settle": market.settle}
            changes = {"lots": -lots, "cost": cost, "cash": flow + cost, "entry": entry, "counter_cash": -flow}
            self.record("delist", "settlement_price", account_id, float(price), **names, **changes)
        self.state.delisted |= {symbol}
        self.state.books.pop(symbol, None)
