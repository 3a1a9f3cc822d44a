"""Venue changes: the venue of every stretch of a run, and the rows of markets that are delisted."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from .findings import Findings
from .folder import BOOK, CHANGES, NAMED, NOBODY, WORDS, Array, Columns, Part, Run, read_whole_parts
from .margins import State
from .price_updates import same
from .venue import RunError, Venue, exact, read_venue

_FIXED_OF_MARKET = {"symbol", "baseSymbol", "quoteSymbol", "marketType", "settle", "multiplier"}
_FIXED_OF_ASSET = {"symbol", "quantum"}
_STATES = {"open": "Open", "post-only": "PostOnly", "closed": "Closed"}


class _Change(NamedTuple):
    tick: int
    time: int
    place: tuple[str, int]  # list of the venue's JSON, row of it
    market: int  # row of the perpetual, -1 of another row
    field: str
    value: Any


class Step(NamedTuple):
    """Changes of one time: the venue after them, and the markets that they delist, with their prices."""

    time: int
    source: dict[str, Any]  # the JSON of the venue
    venue: Venue
    delistings: list[tuple[int, Fraction]]


class Stretch(NamedTuple):
    """Ticks of a part with one venue, and the changes that led to it, since the tick before them."""

    part: Part
    steps: list[Step]


def delistings_of(steps: list[Step]) -> list[tuple[int, Fraction]]:
    """The markets that some changes delist, with their prices."""
    return [one for step in steps for one in step.delistings]


def read_stretches(run: Run, out: Findings) -> Iterator[Stretch]:
    """Read the prices and books of a run, in stretches that neither a part ends nor a venue change.

    Raises
    ------
    RunError
        A file cannot be read or used, or a change cannot be made.
    """
    changes, place = _read_changes(run), 0
    step = Step(-1, run.source, run.venue, [])
    _check_order(run.changes, out)
    for whole in read_whole_parts(run):
        start, steps = 0, list[Step]()
        while place < len(changes):
            row = int(np.searchsorted(whole.time, changes[place].time))
            if row >= len(whole.time):
                break
            if row > start:
                yield Stretch(whole.cut(start, row, step.venue), steps)
                start, steps = row, []
            first, time, number = place, changes[place].time, whole.first + row
            while place < len(changes) and changes[place].time == time:
                place += 1
            due = changes[first:place]
            out.checked["prices"] += len(due)
            for change in due:
                if change.tick != number:
                    out.breach("prices", f"a venue change of tick {change.tick} is due in tick {number}", number)
            step = _changed(run, step, time, due)
            steps.append(step)
        yield Stretch(whole.cut(start, len(whole.time), step.venue), steps)
    for change in changes[place:]:
        out.breach("prices", "a venue change is later than the last tick", change.tick)


def _read_changes(run: Run) -> list[_Change]:
    """The venue changes of a run by time, as far as they name a row of the venue and hold JSON."""
    of_markets, of_assets = _rows(run)
    changes = []
    for tick, time, market, asset, field, text in zip(
        *(column.tolist() for column in run.changes.values()), strict=True
    ):
        try:
            value = json.loads(text, parse_float=str)
        except (ValueError, RecursionError):
            raise RunError(f"{run.path}/venue_changes: value must be JSON, not {ascii(text)[:60]}") from None
        if 0 <= market < len(of_markets) and asset == -1:
            place = "markets", of_markets[market]
        elif 0 <= asset < len(of_assets) and market == -1 and of_assets[asset] >= 0:
            place = "collateral", of_assets[asset]
        else:
            raise RunError(f"{run.path}/venue_changes: must name a market or an asset of the venue")
        changes.append(_Change(tick, time, place, market if market < len(run.venue.markets) else -1, field, value))
    return sorted(changes, key=lambda change: change.time)


def _rows(run: Run) -> tuple[list[int], list[int]]:
    """Rows in the JSON of the venue of the markets and spot markets, and of the assets, -1 of one without a row."""
    listed, venue = run.source["markets"], run.venue
    rows = [number for number, row in enumerate(listed) if row["marketType"] in ("PERP", "IPERP")]
    for spot in venue.spots:
        pair = "SPOT", venue.assets[spot.asset].symbol, venue.assets[venue.settle].symbol
        kinds = [(row["marketType"], row.get("baseSymbol"), row.get("quoteSymbol")) for row in listed]
        rows.append(kinds.index(pair))
    symbols = [row["symbol"] for row in run.source["collateral"]]
    return rows, [symbols.index(asset.symbol) if asset.symbol in symbols else -1 for asset in venue.assets]


def _check_order(columns: Columns, out: Findings) -> None:
    """Venue changes are recorded in the order of their times."""
    out.checked["prices"] += len(columns["time"])
    for name in ("tick", "time"):
        for row in np.flatnonzero(np.diff(columns[name]) < 0).tolist():
            out.breach("prices", "venue changes are not in order", int(columns["tick"][row + 1]))


def _changed(run: Run, before: Step, time: int, changes: list[_Change]) -> Step:
    """The venue after the changes of a time."""
    source, venue = copy.deepcopy(before.source), before.venue
    delistings, gone = list[tuple[int, Fraction]](), set(venue.delisted)
    for change in changes:
        if change.market in gone:
            raise RunError(f"{run.path}/venue_changes: market {change.market} is delisted already")
        if change.field == "delist" and change.market >= 0:
            price = _settlement_price(run, change.value)
            delistings.append((change.market, price))
            gone.add(change.market)
        else:
            _set(run, source, change)
    try:
        new = read_venue(source, run.ids, venue.providers)
    except RunError as error:
        raise RunError(f"{run.path}/venue_changes: {error}") from None
    for table, fixed in (("markets", lambda one: (one.symbol, one.base, one.quote, one.settle, one.inverse, one.lot,
                                                  one.step, one.prices.tick)),
                         ("spots", lambda one: (one.asset, one.prices.tick)),
                         ("assets", lambda one: (one.symbol, one.quantum))):  # fmt: skip
        if [fixed(one) for one in getattr(new, table)] != [fixed(one) for one in getattr(venue, table)]:
            raise RunError(f"{run.path}/venue_changes: {table} cannot change their symbols, units and sizes")
    return Step(time, source, new._replace(delisted=tuple(sorted(gone))), delistings)


def _settlement_price(run: Run, value: Any) -> Fraction:
    """The price of a delisting."""
    try:
        price = exact(value)
    except (ValueError, ZeroDivisionError):
        price = Fraction(0)
    if isinstance(value, bool) or not 0 < price <= 10**30:
        raise RunError(f"{run.path}/venue_changes: a settlement price must be a number above 0, not {value!r:.60}")
    return price


def _set(run: Run, source: dict[str, Any], change: _Change) -> None:
    """Set a field of a row of the venue's JSON."""
    table, number = change.place
    row, field, value = source[table][number], change.field, change.value
    if field == "state" and table == "markets":
        if value not in _STATES:
            raise RunError(f"{run.path}/venue_changes: state must be one of {' '.join(_STATES)}")
        field, value = "orderBookState", _STATES[value]
    *path, name = field.split(".")
    if not path and name in (_FIXED_OF_MARKET if table == "markets" else _FIXED_OF_ASSET):
        raise RunError(f"{run.path}/venue_changes: {field} cannot change")
    for key in path:
        if row.get(key) is None:
            row[key] = {}
        row = row[key]
        if not isinstance(row, dict):
            raise RunError(f"{run.path}/venue_changes: {field} is not a field of its row")
    row[name] = value


class _Row(NamedTuple):
    figures: tuple[int, ...]
    """Event, reason, numbers and changes."""
    price: float


class Delistings:
    """The rows of markets that are delisted, compared one by one with those that are due."""

    def __init__(self, run: Run, out: Findings, state: State) -> None:
        self.run, self.out, self.state = run, out, state

    def follow(self, tick: int, time: int, rows: Array, delistings: list[tuple[int, Fraction]]) -> None:
        """Compare rows of an instant of a tick with those due, and apply them."""
        journal = self.run.journal
        due = [row for market, price in delistings for row in (*self._cancels(market), *self._settled(market, price))]
        columns = (journal[name][rows].tolist() for name in ("event", "reason", *NAMED, *CHANGES))
        recorded = list(map(_Row, zip(*columns, strict=True), journal["price"][rows].tolist()))
        self.out.checked["accruals"] += max(len(due), len(recorded))
        for row in rows[journal["time"][rows] != time].tolist():
            self.out.breach("accruals", f"delisting: time is not {time}", tick, row, int(journal["account"][row]))
        for place, (one, other) in enumerate(zip_longest(due, recorded)):
            if one is None or other is None or one.figures != other.figures or not same(one.price, other.price):
                number = int(rows[place]) if other else -1
                what = "a row that is due is missing" if other is None else "is not the row that is due"
                account = (other or one).figures[2]
                self.out.breach("accruals", f"delisting: {what}", tick, number, account)
                break
        if len(rows):
            self.state.apply(rows, journal)
            self.state.changed()

    def _cancels(self, market: int) -> Iterator[_Row]:
        """The rows of the orders of a market, by account, bids first, then by price and number."""
        orders, prices = self.state.orders, self.state.order_price
        for account, open_orders in enumerate(self.state.open):
            for order in sorted(open_orders, key=lambda one: (-orders["side"][one], prices[one], one)):
                if orders["market"][order] == market:
                    yield _row("cancel", "delisted", account, market, order, requested=self.state.order_lots[order])

    def _settled(self, market: int, price: Fraction) -> Iterator[_Row]:
        """The rows of the positions of a market, by account."""
        listed, columns = self.run.venue.markets[market], self.state.columns
        value = listed.lot_value(price) / self.run.venue.assets[listed.settle].quantum
        for row in np.flatnonzero((self.state.market == market) & (columns["lots"] != 0)).tolist():
            lots, cost, entry = (int(columns[name][row]) for name in ("lots", "cost", "entry"))
            flow = round(lots * value)
            yield _row(
                "delist", "settlement_price", int(self.state.owner[row]), market, -1, BOOK, listed.settle, float(price),
                lots=-lots, cost=-cost, entry=-entry, cash=flow - cost, counter_cash=-flow,
            )  # fmt: skip


def _row(
    event: str, reason: str, account: int, market: int, order: int, counterparty: int = NOBODY, settle: int = -1,
    price: float = math.nan, **changes: int,
) -> _Row:  # fmt: skip
    """A row as it is due."""
    codes = WORDS["event"].index(event), WORDS["reason"].index(reason)
    named = account, counterparty, market, -1, settle, order
    return _Row((*codes, *named, *(changes.get(name, 0) for name in CHANGES)), price)
