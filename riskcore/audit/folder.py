"""Reading of a run folder: the venue, the tables of docs/run_folder.md and the words of the journal."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
Columns = dict[str, Array]

BOOK, FUND, SHORTFALL, NOBODY, ACCOUNT = -1, -2, -3, -4, 0
# event: its phase (of a close_out 6), reasons and counterparty, the row number and the changes that it may set, a price
EVENTS: dict[str, tuple[int, str, int, str, str, bool]] = {
    "trigger": (0, "mmr", NOBODY, "", "", False),
    "cancel": (1, "liquidation", NOBODY, "market order", "requested", False),
    "redeem": (2, "debt close_out", NOBODY, "asset", "quanta", False),
    "convert": (2, "debt close_out", BOOK, "asset", "cash fee quanta counter_cash", True),
    "book": (3, "full band depth", BOOK, "market", "requested lots cost cash fee counter_cash", True),
    "expire": (3, "band depth no_book", NOBODY, "market", "requested", False),
    "backstop": (4, "below_auto_close", ACCOUNT, "market",
                 "requested lots cost cash counter_cost counter_cash fund", True),
    "adl": (5, "backstop_exhausted", ACCOUNT, "market", "requested lots cost cash counter_cost counter_cash", True),
    "unfilled": (5, "no_counterparty", NOBODY, "market", "requested", False),
    "fund": (6, "bankrupt", FUND, "", "cash fund", False),
    "shortfall": (6, "bankrupt", SHORTFALL, "", "cash counter_cash", False),
}  # fmt: skip
WORDS = {
    "event": tuple(EVENTS),
    "reason": tuple(dict.fromkeys(reason for event in EVENTS.values() for reason in event[1].split())),
}

# columns of each table, whole numbers where nothing else is said
_TABLES = {
    "accounts": "account:any leverage_limit:float64 unsettled",
    "positions": "account market lots cost",
    "balances": "account asset quanta lent",
    "orders": "account market side price lots reduce_only:bool",
    "ticks": "tick time market mark:float64 index:float64",
    "assets": "tick asset price:float64",
    "books": "tick market side price lots",
    "journal": "tick time event:word reason:word account counterparty market asset order requested lots cost cash fee "
               "quanta counter_cost counter_cash fund price:float64 mmr_before:float64 mmr_after:float64",
    "ledger": "ledger:any item value",
}  # fmt: skip
_KINDS = {"int64": "iu", "float64": "iuf", "bool": "b"}


class RunError(ValueError):
    """The folder holds no run that can be audited."""


def exact(value: object) -> Fraction:
    """Fraction that a number or text stands for; a float stands for its shortest decimal."""
    return Fraction(str(value))


def is_event(journal: Columns, events: str) -> Array:
    """Rows of these events."""
    return np.isin(journal["event"], [WORDS["event"].index(name) for name in events.split()])


# ---- the venue


class _Market(NamedTuple):
    symbol: str
    base: str
    step: Fraction
    worth: Fraction  # settle quanta of a lot at one tick
    min_lots: int
    curve: tuple[Fraction, Fraction]
    bands: dict[int, Fraction]  # by the side of the book


class _Asset(NamedTuple):
    symbol: str
    quantum: Fraction
    haircut: tuple[Fraction, Fraction, Fraction]  # weight, base, penalty; the identity has no penalty
    curve: tuple[Fraction, Fraction]


class _Provider(NamedTuple):
    account: int
    limits: tuple[Fraction | float, ...]  # per minute, per hour, ever, in settle units
    markets: frozenset[int]


class Venue(NamedTuple):
    """The venue's rules, markets and assets in the order of their rows."""

    markets: list[_Market]
    assets: list[_Asset]
    settle: int
    policy: dict[str, Fraction]
    by_quantity: bool
    providers: list[_Provider]

    @property
    def quantum(self) -> Fraction:
        """Quantum of the settle asset."""
        return self.assets[self.settle].quantum


def _read_venue(raw: dict[str, Any], ids: Array, providers: list[int]) -> Venue:
    settle = raw["settle_asset"]
    listed = list(raw["collateral"])
    if settle not in [row["symbol"] for row in listed]:
        listed.append({"symbol": settle, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})
    assets = [_read_asset(row, settle) for row in listed]
    settle_row = [asset.symbol for asset in assets].index(settle)
    quantum = assets[settle_row].quantum
    markets = [_read_market(row, quantum) for row in raw["markets"] if row["marketType"] == "PERP"]
    rows = {market.symbol: row for row, market in enumerate(markets)}
    users = dict(enumerate(ids.tolist()))
    if [users.get(row) for row in providers] != [entry["account"] for entry in raw["backstop"]]:
        raise RunError("its providers are not those of run.json")
    limits = ("capacity_per_min", "capacity_per_hour", "max_notional")
    return Venue(
        markets,
        assets,
        settle_row,
        {name: exact(value) for name, value in raw["policy"].items() if name != "haircut_size_unit"},
        raw["policy"]["haircut_size_unit"] == "quantity",
        [
            _Provider(
                row,
                tuple(math.inf if entry.get(name) is None else exact(entry[name]) for name in limits),
                frozenset(rows.values() if entry.get("markets") is None else (rows[s] for s in entry["markets"])),
            )
            for row, entry in zip(providers, raw["backstop"], strict=True)
        ],
    )


def _read_market(row: dict[str, Any], quantum: Fraction) -> _Market:
    price, quantity = row["filters"]["price"], row["filters"]["quantity"]
    step = exact(quantity["stepSize"])
    low, high = (price.get(name) for name in ("minImpactMultiplier", "maxImpactMultiplier"))
    return _Market(
        row["symbol"], row["baseSymbol"], step, exact(price["tickSize"]) * step / quantum,
        math.ceil(exact(quantity.get("minQuantity") or 0) / step), _read_curve(row["mmfFunction"]),
        {1: exact(low or 0), -1: exact(2**63 if high is None else high)},
    )  # fmt: skip


def _read_asset(row: dict[str, Any], settle: str) -> _Asset:
    initial = row.get("imfFunction") or {"base": "0.10" if row["symbol"] == settle else "0.20", "factor": "0"}
    default = {"base": exact(initial["base"]) / 2, "factor": exact(initial["factor"]) * 3 / 5}
    kind, weight = row["haircutFunction"]["kind"], _float64(row["haircutFunction"]["weight"])
    haircut = (weight, weight, Fraction(0))
    if kind["type"] == "inverseSqrt":
        haircut = (weight, _float64(kind["base"]), _float64(kind["positiveCurvePenalty"]))
    quantum = exact(row.get("quantum") or "0.000001")
    return _Asset(row["symbol"], quantum, haircut, _read_curve(row.get("mmfFunction") or default))


def _read_curve(function: dict[str, Any]) -> tuple[Fraction, Fraction]:
    return _float64(function["base"]), _float64(function["factor"])


def _float64(value: object) -> Fraction:
    """Fraction of the float64 nearest to a figure."""
    return exact(float(exact(value)))


# ---- the run


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
    fee: int
    quanta: int
    counter_cost: int
    counter_cash: int
    fund: int
    price: float
    mmr_before: float
    mmr_after: float
    position: int
    counter_position: int
    balance: int


@dataclass(frozen=True)
class Run:
    """All of a run folder but its prices and books.

    The journal is completed by the rows of `start` that it changes: position, counter_position, balance.
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
        """Whether a row names only accounts, positions, balances and orders that there are."""
        j, accounts = self.journal, len(self.ids)
        fine = (j["account"] >= 0) & (j["account"] < accounts)
        fine &= (j["counterparty"] >= NOBODY) & (j["counterparty"] < accounts)
        fine &= j["order"] < len(self.order_position)
        for events, name in (
            ("book expire backstop adl unfilled", "position"),
            ("backstop adl", "counter_position"),
            ("redeem convert", "balance"),
            ("cancel", "order"),
        ):
            fine &= ~is_event(j, events) | (j[name] >= 0)
        return np.asarray(fine)

    def rows(self, first: int, end: int) -> list[Row]:
        """Usable rows of the journal from `first` to before `end`."""
        words = ([WORDS[name][code] for code in self.journal[name][first:end].tolist()] for name in WORDS)
        columns = (self.journal[name][first:end].tolist() for name in Row._fields[3:])
        rows = map(Row._make, zip(range(first, end), *words, *columns, strict=True))
        return [row for row, fine in zip(rows, self.usable[first:end].tolist(), strict=True) if fine]

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
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise RunError(f"{path}/run.json: format must be 1")
    if not {"parts", "ticks", "events", "providers"} <= set(manifest) or manifest["parts"] < 1:
        raise RunError(f"{path}/run.json: must have parts (at least 1), ticks, events and providers")
    names = "accounts", "positions", "balances", "orders"
    start = {name: _read_table(path / f"start/{name}.parquet", _TABLES[name]) for name in names}
    ids, (positions, balances, orders) = start["accounts"]["account"], (start[name] for name in names[1:])
    try:
        venue = _read_venue(raw, ids, manifest["providers"])
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
    last = path / f"state/{manifest['parts'] - 1:05d}"
    tables = {name: _TABLES[name] for name in ("positions", "balances", "ledger")}
    tables |= {"accounts": "unsettled", "orders": "order " + _TABLES["orders"]}
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
    """One part of a run: its tables, and `time`, `mark` and the price of each `asset` with a row for every tick."""

    first: int
    ticks: Columns
    given: Columns
    books: Columns
    book: Array  # number of the book, by tick, market and side, of each of its levels
    time: Array
    mark: Array
    asset: Array

    def levels(self, tick: int, market: int, side: int) -> tuple[list[int], list[int]]:
        """Prices and lots of the bids (1) or asks (-1) of a market."""
        number = (tick * self.mark.shape[1] + market) * 2 + (side < 0)
        a, b = np.searchsorted(self.book, [number, number + 1])
        return self.books["price"][a:b].tolist(), self.books["lots"][a:b].tolist()


def read_parts(run: Run) -> Iterator[Part]:
    """Read the prices and books of a run, one part after another."""
    venue, first = run.venue, 0
    markets, assets = len(venue.markets), len(venue.assets)
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
        for table, item, width in ((given, "asset", assets), (books, "market", markets)):
            fits = (table["tick"] >= first) & (table["tick"] < first + count)
            if not (fits & (table[item] >= 0) & (table[item] < width)).all():
                raise RunError(f"{run.path}: assets and books of part {number} must be of its ticks and the venue")
        if not np.isin(books["side"], (1, -1)).all():
            raise RunError(f"{run.path}/books/{name}: side must be 1 or -1")
        book = (books["tick"] * markets + books["market"]) * 2 + (books["side"] < 0)
        asset = np.full((count, assets), np.nan)
        asset[given["tick"] - first, given["asset"]] = given["price"]
        mark, index = (ticks[column].reshape(count, markets) for column in ("mark", "index"))
        asset = _all_prices(venue, mark, index, asset)
        yield Part(first, ticks, given, books, book, ticks["time"][::markets], mark, asset)
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
