"""Reading of a run folder: the tables of docs/run_folder.md and the words of the journal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .venue import RunError, Venue, read_venue

Array = npt.NDArray[Any]
Columns = dict[str, Array]

BOOK, FUND, SHORTFALL, NOBODY, POOL, ACCOUNT = -1, -2, -3, -4, -5, 0
GUARD, INTEREST, FUNDING, REALISATION, SETTLEMENT, REPAY, SLICES, CLOSE_OUT = -5, -4, -3, -2, -1, 2, 3, 6
"""Phases; those below 0 lie between the ticks."""


class Event(NamedTuple):
    """What a row of an event may be."""

    phase: int
    reasons: str
    other: int  # the counterparty
    rows: str  # the row numbers that it sets; of those joined by | exactly one
    changes: str
    priced: bool | None  # None: some are


_STOPS = "account_cap market_cap depth_share depth impact mean_mark mean_premium limit slippage"
_FILL = "requested lots cost cash entry fee counter_cash"
_FILLS = "requested lots cost cash entry counter_cost counter_cash counter_entry"
GUARDS = ("stale_book", "crossed_book", "index_update_cap", "mark_held", "index_clamp", "update_cap")
EVENTS = {
    "guard": Event(GUARD, " ".join(GUARDS), NOBODY, "market|asset", "", None),
    "funding": Event(FUNDING, "interval", BOOK, "market", "cash counter_cash", True),
    "interest": Event(INTEREST, "hour entry", POOL, "asset", "quanta lent", False),
    "realize": Event(REALISATION, "interval", NOBODY, "market", "cost cash", True),
    "unsettle": Event(SETTLEMENT, "settlement close_out", NOBODY, "", "cash unsettled", False),
    "trigger": Event(0, "mmr", NOBODY, "", "", False),
    "cancel": Event(1, "liquidation", NOBODY, "market order", "requested", False),
    "skip": Event(SLICES, "throttle cooldown", NOBODY, "market|asset", "", False),
    "redeem": Event(REPAY, "debt close_out settlement", NOBODY, "asset", "quanta lent", False),
    "convert": Event(REPAY, "debt close_out settlement", BOOK, "asset", "cash fee quanta counter_cash", True),
    "harm": Event(SLICES, "fee_waived sent kept_back to_backstop", NOBODY, "market", "requested", True),
    "book": Event(SLICES, f"full {_STOPS}", BOOK, "market", _FILL, True),
    "expire": Event(SLICES, f"{_STOPS} no_book conversion conversion_limit", NOBODY, "market|asset", "requested",
                    False),
    "backstop": Event(4, "below_auto_close sent_on", ACCOUNT, "market|asset", f"{_FILLS} fund quanta", True),
    "adl": Event(5, "backstop_exhausted full_utilization", ACCOUNT, "market|asset", f"{_FILLS} lent", True),
    "unfilled": Event(5, "no_counterparty", NOBODY, "market", "requested", False),
    "fund": Event(CLOSE_OUT, "bankrupt", FUND, "", "cash fund", False),
    "socialize": Event(CLOSE_OUT, "equity open_interest", ACCOUNT, "", "cash counter_cash", False),
    "shortfall": Event(CLOSE_OUT, "bankrupt unsettled", SHORTFALL, "", "cash counter_cash unsettled", False),
}  # fmt: skip
# rows that belong to another phase than their event: events, reason, phase
_ELSEWHERE = (("redeem convert unsettle", "close_out", CLOSE_OUT), ("redeem convert", "settlement", SETTLEMENT),
              ("interest", "entry", SETTLEMENT))  # fmt: skip
CHANGES = ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost",
           "counter_cash", "counter_entry", "fund")  # fmt: skip
WORDS = {
    "event": tuple(EVENTS),
    "reason": tuple(dict.fromkeys(reason for event in EVENTS.values() for reason in event.reasons.split())),
}

# columns of each table, whole numbers where nothing else is said
_TABLES = {
    "accounts": "account:any leverage_limit:float64 unsettled",
    "positions": "account market lots cost entry",
    "balances": "account asset quanta lent",
    "orders": "account market side price lots reduce_only:bool",
    "ticks": "tick time market mark:float64 index:float64 given_mark:float64 given_index:float64 last_price:float64"
    " open_interest:float64 funding_rate:float64",
    "assets": "tick asset price:float64",
    "books": "tick market side price lots book_time",
    "journal": "tick time event:word reason:word account counterparty market asset order "
    + " ".join(CHANGES)
    + " price:float64 mmr_before:float64 mmr_after:float64",
}
_STATE = {
    "positions": _TABLES["positions"],
    "balances": _TABLES["balances"],
    "orders": "order " + _TABLES["orders"],
    "accounts": "unsettled",
    "ledger": "ledger:any item value",
    "markets": "market premium_sum:float64 premium_count mark:float64 mark_time index:float64 index_time basis:float64"
    " basis_time sample_mark sample_premium",
    "samples": "second count market mark premium",
}
# tables of the last state that a figure of the policy asks for
_ASKED = {
    "slices": ("slice_cooldown", "account market time"),
    "sold": ("account_cap", "account quanta"),
    "books": ("refill_half_life", "market side price lots gone"),
}  # fmt: skip
_KINDS = {"int64": "iu", "float64": "iuf", "bool": "b"}


def is_event(journal: Columns, events: str) -> Array:
    """Rows of these events."""
    return np.isin(journal["event"], [WORDS["event"].index(name) for name in events.split()])


class Row(NamedTuple):
    """One row of the journal, with its number and the rows of the start tables that it changes."""

    at: int
    event: str
    reason: str
    account: int
    counterparty: int
    market: int
    order: int
    asset: int
    requested: int
    lots: int
    cost: int
    cash: int
    entry: int
    fee: int
    quanta: int
    lent: int
    unsettled: int
    counter_cost: int
    counter_cash: int
    counter_entry: int
    fund: int
    price: float
    mmr_before: float
    mmr_after: float
    position: int
    counter_position: int
    balance: int
    counter_balance: int


@dataclass(frozen=True)
class Run:
    """All of a run folder but its prices and books.

    The journal is completed by the rows of `start` that it changes: position, counter_position, balance and
    counter_balance.
    """

    path: Path
    manifest: dict[str, Any]
    venue: Venue
    ids: Array
    start: dict[str, Columns]
    order_position: Array  # position row of every order
    journal: Columns
    state: dict[str, Columns]

    @cached_property
    def usable(self) -> Array:
        """Whether a row names only accounts, positions, balances and orders that there are, and no change wraps."""
        j, accounts = self.journal, len(self.ids)
        guards = is_event(j, "guard")
        fine = np.where(guards, j["account"] == -1, (j["account"] >= 0) & (j["account"] < accounts))
        fine &= (j["counterparty"] >= POOL) & (j["counterparty"] < accounts)
        fine &= j["order"] < len(self.order_position)
        for events, name in (
            ("funding realize harm book unfilled", "position"),
            ("interest redeem convert", "balance"),
            ("cancel", "order"),
        ):
            fine &= ~is_event(j, events) | (j[name] >= 0)
        handed, lots, quanta = is_event(j, "backstop adl"), j["market"] >= 0, j["asset"] >= 0
        fine &= ~handed | lots | quanta
        for name in ("position", "counter_position"):
            fine &= ~(handed & lots) | (j[name] >= 0)
        for name in ("balance", "counter_balance"):
            fine &= ~(handed & quanta) | (j[name] >= 0)
        fine &= ~is_event(j, "skip expire") | (j["position"] >= 0) | (j["balance"] >= 0)
        for name in CHANGES:
            fine &= (j[name] <= 2**60) & (j[name] >= -(2**60))
        return np.asarray(fine)

    @cached_property
    def phase(self) -> Array:
        """Phase that a row belongs to."""
        phase = np.array([event.phase for event in EVENTS.values()])[self.journal["event"]]
        phase[is_event(self.journal, "skip expire") & (self.journal["asset"] >= 0)] = REPAY
        for events, reason, other in _ELSEWHERE:
            phase[is_event(self.journal, events) & (self.journal["reason"] == WORDS["reason"].index(reason))] = other
        return phase

    def rows(self, at: Array) -> list[Row]:
        """Rows of the journal by their numbers."""
        words = ([WORDS[name][code] for code in self.journal[name][at].tolist()] for name in WORDS)
        columns = (self.journal[name][at].tolist() for name in Row._fields[3:])
        return list(map(Row._make, zip(at.tolist(), *words, *columns, strict=True)))

    @cached_property
    def settle_row(self) -> Array:
        """Balance row of the settle asset of every account."""
        return np.flatnonzero(self.start["balances"]["asset"] == self.venue.settle)

    @property
    def opening_fund(self) -> int:
        """Quanta in the fund at the start."""
        return round(self.venue.policy["fund"] / self.venue.quantum)

    @cached_property
    def ledger(self) -> Counter[tuple[str, int]]:
        """Entries of the last state's ledger, 0 where there is none."""
        names, items, values = (column.tolist() for column in self.state["ledger"].values())
        return Counter(dict(zip(zip(names, items, strict=True), values, strict=True)))


def read_run(path: Path) -> Run:
    """Read a run folder, all but its prices and books."""
    try:
        manifest = json.loads((path / "run.json").read_text())
        raw = json.loads((path / "venue.json").read_text(), parse_float=str)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: must be a run folder with run.json and venue.json ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != 2:
        raise RunError(f"{path}/run.json: format must be 2")
    if not {"parts", "ticks", "events", "providers", "seed"} <= set(manifest) or manifest["parts"] < 1:
        raise RunError(f"{path}/run.json: must have parts (at least 1), ticks, events, providers and a seed")
    names = "accounts", "positions", "balances", "orders"
    start = {name: _read_table(path / f"start/{name}.parquet", _TABLES[name]) for name in names}
    ids, (positions, balances, orders) = start["accounts"]["account"], (start[name] for name in names[1:])
    try:
        venue = read_venue(raw, ids, manifest["providers"])
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, ValueError) as error:
        raise RunError(f"{path}/venue.json: {type(error).__name__}: {error}") from None
    for name, item, count in (("positions", "market", len(venue.markets)), ("balances", "asset", len(venue.assets))):
        table = start[name]
        key = table["account"] * count + table[item]
        fits = (table[item] >= 0) & (table[item] < count) & (table["account"] >= 0) & (table["account"] < len(ids))
        if not fits.all() or (np.diff(key) <= 0).any():
            raise RunError(f"{path}/start/{name}.parquet: must ascend by account and {item}, all of them known")
    if np.count_nonzero(balances["asset"] == venue.settle) != len(ids):
        raise RunError(f"{path}/start/balances.parquet: every account must have a row of the settle asset")
    if not all(one < two for one, two in pairwise(ids.tolist())):
        raise RunError(f"{path}/start/accounts.parquet: accounts must ascend")
    order_position = _row_of(positions, "market", orders["account"], orders["market"])
    if (order_position < 0).any() or not np.isin(orders["side"], (1, -1)).all():
        raise RunError(f"{path}/start/orders.parquet: an order needs a position row, and side 1 or -1")
    rows = [_read_table(path / f"journal/{part:05d}.parquet", _TABLES["journal"]) for part in range(manifest["parts"])]
    journal = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    journal["position"] = _row_of(positions, "market", journal["account"], journal["market"])
    journal["counter_position"] = _row_of(positions, "market", journal["counterparty"], journal["market"])
    journal["balance"] = _row_of(balances, "asset", journal["account"], journal["asset"])
    journal["counter_balance"] = _row_of(balances, "asset", journal["counterparty"], journal["asset"])
    last = path / f"state/{manifest['parts'] - 1:05d}"
    tables = _STATE | {name: columns for name, (figure, columns) in _ASKED.items() if figure in venue.policy}
    state = {name: _read_table(last / f"{name}.parquet", columns) for name, columns in tables.items()}
    return Run(path, manifest, venue, ids, start, order_position, journal, state)


def _read_table(path: Path, columns: str) -> Columns:
    """Columns of a Parquet table by name; words become their numbers in `WORDS`."""
    kinds = {name: kind or "int64" for name, _, kind in (column.partition(":") for column in columns.split())}
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if set(frame.columns) != set(kinds):
        raise RunError(f"{path}: its columns must be {' '.join(kinds)}, not {' '.join(map(str, frame.columns))}")
    found: Columns = {}
    for name, kind in kinds.items():
        values = frame[name]
        if kind == "word":
            codes = pd.Categorical(values.astype(object), categories=list(WORDS[name])).codes.astype(np.int64)
            if (codes < 0).any():
                raise RunError(f"{path}: {name} must be one of {' '.join(WORDS[name])}")
            found[name] = codes
        elif values.dtype.kind not in _KINDS.get(kind, values.dtype.kind):
            raise RunError(f"{path}: {name} must hold {kind}, not {values.dtype}")
        else:
            found[name] = values.to_numpy() if kind == "any" else values.to_numpy(kind)
    return found


def _row_of(table: Columns, item_name: str, owner: Array, item: Array) -> Array:
    """Row of a table in which each pair of an account and an item stands, -1 where it does not."""
    rows = pd.MultiIndex.from_arrays([table["account"], table[item_name]])
    return rows.get_indexer(pd.MultiIndex.from_arrays([owner, item]))


class Part(NamedTuple):
    """One part of a run: its tables, and what a tick gives, with a row for every tick and a column for every item."""

    first: int
    width: int  # markets that may have a book
    ticks: Columns
    given: Columns
    books: Columns
    book: Array  # number of the book, by tick, market and side, of each of its levels
    time: Array
    mark: Array
    indexes: Array
    open_interest: Array
    funding_rate: Array
    last_price: Array
    asset: Array

    def levels(self, tick: int, market: int, side: int) -> tuple[list[int], list[int]]:
        """Prices and lots of the bids (1) or asks (-1) of a market."""
        number = (tick * self.width + market) * 2 + (side < 0)
        a, b = np.searchsorted(self.book, [number, number + 1])
        return self.books["price"][a:b].tolist(), self.books["lots"][a:b].tolist()


def read_parts(run: Run) -> Iterator[Part]:
    """Read the prices and books of a run, one part after another."""
    venue, first = run.venue, 0
    markets, assets, width = len(venue.markets), len(venue.assets), venue.books
    for number in range(run.manifest["parts"]):
        name = f"{number:05d}.parquet"
        ticks, given, books = (
            _read_table(run.path / table / name, _TABLES[table]) for table in ("ticks", "assets", "books")
        )
        count = len(ticks["tick"]) // markets
        if not (
            np.array_equal(ticks["tick"], np.repeat(np.arange(first, first + count), markets))
            and np.array_equal(ticks["market"], np.tile(np.arange(markets), count))
            and np.array_equal(ticks["time"], np.repeat(ticks["time"][::markets], markets))
        ):
            raise RunError(f"{run.path}/ticks/{name}: must hold a row for every tick from {first} and every market")
        for table, item, items in ((given, "asset", assets), (books, "market", width)):
            fits = (table["tick"] >= first) & (table["tick"] < first + count)
            if not (fits & (table[item] >= 0) & (table[item] < items)).all():
                raise RunError(f"{run.path}: assets and books of part {number} must be of its ticks and the venue")
        if not np.isin(books["side"], (1, -1)).all():
            raise RunError(f"{run.path}/books/{name}: side must be 1 or -1")
        book = (books["tick"] * width + books["market"]) * 2 + (books["side"] < 0)
        asset = np.full((count, assets), np.nan)
        asset[given["tick"] - first, given["asset"]] = given["price"]
        shown = (
            ticks[name].reshape(count, markets)
            for name in ("mark", "index", "open_interest", "funding_rate", "last_price")
        )
        mark, index, interest, rate, last = shown
        asset = _all_prices(venue, mark, index, asset)
        yield Part(
            first, width, ticks, given, books, book, ticks["time"][::markets], mark, index, interest, rate, last, asset
        )
        first += count
    if first != run.manifest["ticks"]:
        raise RunError(f"{run.path}: {first} ticks, not the {run.manifest['ticks']} of run.json")


def _all_prices(venue: Venue, mark: Array, index: Array, given: Array) -> Array:
    """Price of every asset: 1, the given one, or that of the first market on it which has an index or a mark."""
    asset, based = given.copy(), np.where(np.isnan(index), mark, index)
    for row, listed in enumerate(venue.assets):
        for market in [m for m, one in enumerate(venue.markets) if one.base == listed.symbol]:
            asset[:, row] = np.where(np.isnan(asset[:, row]), based[:, market], asset[:, row])
    asset[:, venue.settle] = 1
    return asset
