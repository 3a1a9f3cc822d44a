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

BOOK, FUND, SHORTFALL, NOBODY, POOL, ACCOUNT = -1, -2, -3, -4, -5, 0
INTEREST, FUNDING, REALISATION, SETTLEMENT, CLOSE_OUT = -4, -3, -2, -1, 6
"""Phases; those below 0 lie between the ticks."""
# event: its phase, reasons and counterparty, the row number and the changes that it may set, a price
EVENTS: dict[str, tuple[int, str, int, str, str, bool]] = {
    "funding": (FUNDING, "interval", BOOK, "market", "cash counter_cash", True),
    "interest": (INTEREST, "hour entry", POOL, "asset", "quanta lent", False),
    "realize": (REALISATION, "interval", NOBODY, "market", "cost cash", True),
    "unsettle": (SETTLEMENT, "settlement", NOBODY, "", "cash unsettled", False),
    "trigger": (0, "mmr", NOBODY, "", "", False),
    "cancel": (1, "liquidation", NOBODY, "market order", "requested", False),
    "redeem": (2, "debt close_out settlement", NOBODY, "asset", "quanta lent", False),
    "convert": (2, "debt close_out settlement", BOOK, "asset", "cash fee quanta counter_cash", True),
    "book": (3, "full band depth", BOOK, "market", "requested lots cost cash entry fee counter_cash", True),
    "expire": (3, "band depth no_book", NOBODY, "market", "requested", False),
    "backstop": (4, "below_auto_close", ACCOUNT, "market",
                 "requested lots cost cash entry counter_cost counter_cash counter_entry fund", True),
    "adl": (5, "backstop_exhausted", ACCOUNT, "market",
            "requested lots cost cash entry counter_cost counter_cash counter_entry", True),
    "unfilled": (5, "no_counterparty", NOBODY, "market", "requested", False),
    "fund": (6, "bankrupt", FUND, "", "cash fund", False),
    "shortfall": (6, "bankrupt", SHORTFALL, "", "cash counter_cash", False),
}  # fmt: skip
# rows that belong to another phase than their event: events, reason, phase
_ELSEWHERE = (("redeem convert", "close_out", CLOSE_OUT), ("redeem convert", "settlement", SETTLEMENT),
              ("interest", "entry", SETTLEMENT))  # fmt: skip
CHANGES = ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost",
           "counter_cash", "counter_entry", "fund")  # fmt: skip
WORDS = {
    "event": tuple(EVENTS),
    "reason": tuple(dict.fromkeys(reason for event in EVENTS.values() for reason in event[1].split())),
}

# columns of each table, whole numbers where nothing else is said
_TABLES = {
    "accounts": "account:any leverage_limit:float64 unsettled",
    "positions": "account market lots cost entry",
    "balances": "account asset quanta lent",
    "orders": "account market side price lots reduce_only:bool",
    "ticks": "tick time market mark:float64 index:float64 open_interest:float64 funding_rate:float64",
    "assets": "tick asset price:float64",
    "books": "tick market side price lots",
    "journal": "tick time event:word reason:word account counterparty market asset order " + " ".join(CHANGES)
               + " price:float64 mmr_before:float64 mmr_after:float64",
    "ledger": "ledger:any item value",
    "markets": "market premium_sum:float64 premium_count",
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


class Curve(NamedTuple):
    """A margin function.

    Kinds: `sqrt` and `quantity` (of the tokens) with base and factor, `open_interest` with base, lower and upper,
    `tiers` with from, rate and deduction of each bracket.
    """

    kind: str
    figures: tuple[tuple[Fraction, ...], ...]


class _Funding(NamedTuple):
    period: int  # nanoseconds
    hours: float
    lower: float
    upper: float


class _Market(NamedTuple):
    symbol: str
    base: str
    step: Fraction
    worth: Fraction  # settle quanta of a lot at one tick
    min_lots: int
    curve: Curve
    bands: dict[int, Fraction]  # by the side of the book
    funding: _Funding | None


class _Asset(NamedTuple):
    symbol: str
    quantum: Fraction
    haircut: tuple[Fraction, Fraction, Fraction]  # weight, base, penalty; the identity has no penalty
    curve: Curve


class Pool(NamedTuple):
    """What an asset is lent and borrowed in: amounts outside the run in quanta, and the rules."""

    lent: int
    borrowed: int
    fee: Fraction
    optimal: Fraction
    most: Fraction  # utilisation
    threshold: Fraction
    step: Fraction  # of the throttle
    limit: int | None  # quanta
    is_open: bool


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
    realize: int  # nanoseconds between realisations, 0 if there are none
    by_quantity: bool
    providers: list[_Provider]
    pools: dict[int, Pool]  # by asset, ascending

    @property
    def quantum(self) -> Fraction:
        """Quantum of the settle asset."""
        return self.assets[self.settle].quantum


_NO_FIGURES = ("haircut_size_unit", "realize_interval")


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
    if any(asset.curve.kind == "open_interest" for asset in assets):
        raise RunError("an asset has no open interest")
    limits = ("capacity_per_min", "capacity_per_hour", "max_notional")
    return Venue(
        markets,
        assets,
        settle_row,
        {name: exact(value) for name, value in raw["policy"].items() if name not in _NO_FIGURES},
        10**9 * int(exact(raw["policy"]["realize_interval"] or 0)),
        raw["policy"]["haircut_size_unit"] == "quantity",
        [
            _Provider(
                row,
                tuple(math.inf if entry.get(name) is None else exact(entry[name]) for name in limits),
                frozenset(rows.values() if entry.get("markets") is None else (rows[s] for s in entry["markets"])),
            )
            for row, entry in zip(providers, raw["backstop"], strict=True)
        ],
        _read_pools(raw.get("borrow_lend") or [], assets),
    )


def _read_market(row: dict[str, Any], quantum: Fraction) -> _Market:
    price, quantity = row["filters"]["price"], row["filters"]["quantity"]
    step = exact(quantity["stepSize"])
    low, high = (price.get(name) for name in ("minImpactMultiplier", "maxImpactMultiplier"))
    funding, period = None, row.get("fundingInterval")
    if period:
        low_rate, high_rate = (row.get(f"fundingRate{name}Bound") for name in ("Lower", "Upper"))
        funding = _Funding(
            int(exact(period) * 10**6), float(exact(period)) / 3_600_000,
            -math.inf if low_rate is None else float(exact(low_rate)) / 10_000,
            math.inf if high_rate is None else float(exact(high_rate)) / 10_000,
        )  # fmt: skip
    return _Market(
        row["symbol"], row["baseSymbol"], step, exact(price["tickSize"]) * step / quantum,
        math.ceil(exact(quantity.get("minQuantity") or 0) / step), _read_curve(row["mmfFunction"]),
        {1: exact(low or 0), -1: exact(2**63 if high is None else high)}, funding,
    )  # fmt: skip


def _read_asset(row: dict[str, Any], settle: str) -> _Asset:
    function = row.get("mmfFunction")
    if not function:
        initial = row.get("imfFunction") or {"base": "0.10" if row["symbol"] == settle else "0.20", "factor": "0"}
        function = initial | {"base": exact(initial["base"]) / 2, "factor": exact(initial["factor"]) * 3 / 5}
    kind, weight = row["haircutFunction"]["kind"], _float64(row["haircutFunction"]["weight"])
    haircut = (weight, weight, Fraction(0))
    if kind["type"] == "inverseSqrt":
        haircut = (weight, _float64(kind["base"]), _float64(kind["positiveCurvePenalty"]))
    return _Asset(row["symbol"], exact(row.get("quantum") or "0.000001"), haircut, _read_curve(function))


def _read_curve(function: dict[str, Any]) -> Curve:
    kind = function.get("type") or "sqrt"
    if kind == "sqrt":
        kind = "quantity" if function.get("unit") == "quantity" else kind
        return Curve(kind, ((_float64(function["base"]), _float64(function["factor"])),))
    if kind == "open_interest":
        base, lower, upper = (_float64(function[name]) for name in ("base", "lower", "upper"))
        if not lower < upper:
            raise RunError("open_interest: lower must be less than upper")
        return Curve(kind, ((base, lower, upper),))
    if kind != "tiers":
        raise RunError(f"{kind} is no margin function")
    brackets, deduction, last = [], Fraction(0), None
    for bracket in function["brackets"]:
        start, rate = _float64(bracket["from"]), _float64(bracket["rate"])
        deduction += start * (rate - last) if last is not None else 0
        brackets.append((start, rate, deduction))
        last = rate
    if not brackets or any(one[0] >= two[0] for one, two in pairwise(brackets)):
        raise RunError("tiers: brackets must ascend")
    return Curve(kind, tuple(brackets))


def _read_pools(rows: list[dict[str, Any]], assets: list[_Asset]) -> dict[int, Pool]:
    symbols, pools = [asset.symbol for asset in assets], {}
    for row in rows:
        asset = symbols.index(row["symbol"])

        def figure(name: str, missing: str = "0", row: dict[str, Any] = row) -> Fraction:
            return exact(missing if row.get(name) is None else row[name])

        quantum, limit = assets[asset].quantum, row.get("openBorrowLendLimit")
        pools[asset] = Pool(
            round(figure("lentQuantity") / quantum), round(figure("borrowedQuantity") / quantum),
            figure("fee"), figure("optimalUtilization", "0.9"), figure("maxUtilization", "1"),
            figure("throttleUtilizationThreshold", "1"), figure("throttleUpdateFraction", "0.1"),
            None if limit is None else round(exact(limit) / quantum), row.get("state", "Open") == "Open",
        )  # fmt: skip
    return dict(sorted(pools.items()))


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
        """Whether a row names only accounts, positions, balances and orders that there are, and no change wraps."""
        j, accounts = self.journal, len(self.ids)
        fine = (j["account"] >= 0) & (j["account"] < accounts)
        fine &= (j["counterparty"] >= POOL) & (j["counterparty"] < accounts)
        fine &= j["order"] < len(self.order_position)
        for events, name in (
            ("funding realize book expire backstop adl unfilled", "position"),
            ("backstop adl", "counter_position"),
            ("interest redeem convert", "balance"),
            ("cancel", "order"),
        ):
            fine &= ~is_event(j, events) | (j[name] >= 0)
        for name in CHANGES:
            fine &= (j[name] <= 2**60) & (j[name] >= -(2**60))
        return np.asarray(fine)

    @cached_property
    def phase(self) -> Array:
        """Phase that a row belongs to."""
        phase = np.array([phase for phase, *_ in EVENTS.values()])[self.journal["event"]]
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
    tables = {name: _TABLES[name] for name in ("positions", "balances", "ledger", "markets")}
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
    """One part of a run: its tables, and what a tick gives, with a row for every tick and a column for every item."""

    first: int
    ticks: Columns
    given: Columns
    books: Columns
    book: Array  # number of the book, by tick, market and side, of each of its levels
    time: Array
    mark: Array
    indexes: Array
    open_interest: Array
    funding_rate: Array
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
        mark, index, interest, rate = (
            ticks[name].reshape(count, markets) for name in ("mark", "index", "open_interest", "funding_rate")
        )
        asset = _all_prices(venue, mark, index, asset)
        yield Part(first, ticks, given, books, book, ticks["time"][::markets], mark, index, interest, rate, asset)
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
