"""Events with a time of their own: changes of the venue, delistings, and the entries of the funding table."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import pairwise

from .clock import begins, instants_between
from .journal import BOOK
from .numbers import MILLISECOND, change_of_cost, number, rhe
from .state import GuardState, State, in_order
from .tick_state import TickState
from .venue import Market, Venue

FIXED_OF_MARKET = (
    "symbol", "baseSymbol", "quoteSymbol", "marketType", "settle", "multiplier", "filters.price.tickSize",
    "filters.quantity.stepSize",
)  # fmt: skip
FIXED_OF_ASSET = ("symbol", "quantum")
BOOK_STATES = {"open": "Open", "post-only": "PostOnly", "closed": "Closed"}


def due(events: Iterable[Mapping] | None, after: int, until: int) -> list:
    """The events in `(after, until]`, by time, those of one time in their order."""
    return sorted((event for event in events or () if after < event["time"] <= until), key=lambda event: event["time"])


class Scheduled:
    """The entries of the funding table and the venue changes of a tick, with the venue at each of its instants."""

    def __init__(self, venue: Venue, state: State, time_ns: int, funding, venue_changes, funding_rates):
        self.gone = state.delisted
        self.state, self.since, self.time_ns = state, state.time_ns if state.ticks > 0 else -1, time_ns
        self.entries = due(funding, -1, time_ns)
        self.check(funding or (), funding_rates)
        self.changes = due(venue_changes, self.since, time_ns)
        self.venues = [(self.since, venue)]  # by time; the first before the tick
        gone = state.delisted
        for time in dict.fromkeys(change["time"] for change in self.changes):
            changes = [change for change in self.changes if change["time"] == time]
            venue, gone = changed_venue(venue, gone, changes)
            self.venues.append((time, venue))

    def check(self, funding, funding_rates) -> None:
        """Refuse entries that are not of this tick or stand twice, and rates beside them."""
        named = [(entry["time"], entry["market"]) for entry in funding]
        if len(set(named)) < len(named):
            raise ValueError("an entry of the funding table stands twice")
        if self.state.ticks > 0 and any(not self.since < time <= self.time_ns for time, _ in named):
            raise ValueError("an entry of the funding table is not of this tick")
        scheduled = self.state.funding_scheduled | {market for _, market in named if self.state.ticks > 0}
        if both := scheduled & set(funding_rates):
            raise ValueError(f"a funding rate of {min(both)}, whose funding is scheduled")

    @property
    def last_venue(self) -> Venue:
        """The venue at the tick."""
        return self.venues[-1][1]

    def venue_at(self, time_ns: int) -> Venue:
        """The venue at an instant, after its changes."""
        return [venue for time, venue in self.venues if time <= time_ns][-1]

    def delisted_at(self, symbol: str) -> int | None:
        """When a market is delisted, -1 before this tick; None if it is listed at the tick."""
        times = [one["time"] for one in self.changes if one["field"] == "delist" and one["market"] == symbol]
        return -1 if symbol in self.gone else times[0] if times else None

    def delisted_by(self, time_ns: int) -> frozenset:
        """The markets that are delisted at an instant."""
        return self.gone | {
            one["market"] for one in self.changes if one["field"] == "delist" and one["time"] <= time_ns
        }

    def due_markets(self, symbol: str, after: int, until: int) -> list[Market]:
        """A market as it was at each instant of its interval in `(after, until]`, before its delisting."""
        found, end = [], self.delisted_at(symbol)
        until = until if end is None else min(until, end - 1)
        edges = [(time - 1, venue) for time, venue in self.venues] + [(self.time_ns, self.last_venue)]
        for (first, venue), (last, _) in pairwise(edges):
            market, (low, high) = venue.markets[symbol], (max(first, after), min(last, until))
            if market.funding_interval and low < high:
                found += [market] * begins(market.funding_interval * MILLISECOND, low, high)
        return found

    def entries_due(self, after: int, until: int) -> list:
        """The entries in `(after, until]` of markets that are listed then, by time."""
        ends = {symbol: self.delisted_at(symbol) for symbol in self.last_venue.markets}
        entries = due(self.entries, after, until)
        return [one for one in entries if ends[one["market"]] is None or one["time"] < ends[one["market"]]]

    def rates_due(self, rates: dict, times: list[int]) -> dict:
        """The rates of the tick by the instant at which each counts: the last one at which its market's funding is due.

        `times` are the instants in between that the tick has.
        """
        found: dict = {}
        for symbol, rate in rates.items() if self.state.ticks > 0 else ():
            spans = pairwise([self.since, *times, self.time_ns])
            if dues := [time for since, time in spans if self.due_markets(symbol, since, time)]:
                found.setdefault(dues[-1], {})[symbol] = rate
        return found

    def instants_between(self) -> list[int]:
        """The instants between the tick before and this tick (Instants)."""
        if self.last_venue.policy["liquidation_interval"] is None or self.state.book_of_host:
            return []
        times = {event["time"] for event in (*self.entries, *self.changes)}
        edges = [time for time, _ in self.venues] + [self.time_ns]
        for (_, venue), (first, last) in zip(self.venues, pairwise(edges), strict=True):
            times.update(instants_between(venue, first, last))
        return sorted(time for time in times if self.since < time < self.time_ns)


def changed_venue(venue: Venue, delisted: frozenset, changes) -> tuple:
    """The venue after changes, built anew, and the markets that are delisted then (Venue changes)."""
    source = copy.deepcopy(venue.source)
    for change in changes:
        of_market = change.get("market") is not None
        table, symbol = ("markets", change["market"]) if of_market else ("collateral", change["asset"])
        row = next((one for one in source.get(table) or [] if one["symbol"] == symbol), None)
        field, value = change["field"], change["value"]
        if row is None or symbol in delisted or (field == "delist" and symbol not in venue.markets):
            raise ValueError(f"{symbol} is not in {table}, or cannot be delisted, or is delisted already")
        if field == "delist":
            delisted |= {symbol}
            continue
        if field == "state" and of_market:
            field, value = "orderBookState", BOOK_STATES[value]
        if field in (FIXED_OF_MARKET if of_market else FIXED_OF_ASSET):
            raise ValueError(f"{field} of {symbol} cannot change")
        *path, name = field.split(".")
        for key in path:
            row = row.setdefault(key, {})
        row[name] = value
    return Venue(source), delisted


class Events(TickState):
    """What happens at an instant before everything else."""

    def happen(self, scheduled: Scheduled) -> None:
        """The venue changes, markets are delisted in the order of their changes, and entries fall due."""
        since = -1 if self.since is None else self.since
        changes = due(scheduled.changes, since, self.time_ns)
        self.scheduled, self.entries = scheduled, scheduled.entries_due(since, self.time_ns)
        self.state.venue = self.venue
        self.has_events = bool(changes or due(scheduled.entries, since, self.time_ns))
        for change in changes:
            if change["field"] == "delist":
                self.delist(change["market"], number(change["value"]))

    def delist(self, symbol: str, price) -> None:
        """Cancel the orders of a market, settle its positions at a price, and forget what the guards remember of it."""
        for account_id, account in self.state.accounts.items():
            for order in in_order(account.orders, list(self.venue.markets)):
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
        used = self.state.guard_states[symbol].used
        self.state.guard_states[symbol] = GuardState(used=[*used, (self.state.time_ns + 1, None, None)] if used else [])
