"""Audit of a run folder, written from docs/one_tick.md and sharing no code with the engine.

Two passes: whole-column checks of the journal, then a replay, tick by tick, in which every row is set against
the rules and every account against the selection test. State and amounts are Python integers, so that no altered
figure can wrap; ratios are float64, and decided with 60-digit decimals where float64 leaves doubt.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
Columns = dict[str, Array]

KEPT_BREACHES = 1000
TOLERANCE = 1e-9
"""Relative: how far two float64 ratios of the same figures may be apart, and where float64 leaves a test in doubt."""
NOISE = 1e-13
"""Rounding error of a float64 net equity, relative to the sum of the absolute amounts in it."""
MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
UNLIMITED = Fraction(10**12)
BOOK, FUND, SHORTFALL, NOBODY, ACCOUNT = -1, -2, -3, -4, 0

RULES = ("rows", "conservation", "replay", "prices", "selection", "touched", "cost", "book", "stages", "ratios")

_WHOLE = (
    "tick", "time", "account", "counterparty", "market", "asset", "order", "requested", "lots", "cost", "cash", "fee",
    "quanta", "counter_cost", "counter_cash", "fund",
)  # fmt: skip
_CHANGES = _WHOLE[7:]
_RATIOS = ("price", "mmr_before", "mmr_after")
# event: its reasons, its counterparty, the row number and the changes that it may set, whether it has a price
_EVENTS: dict[str, tuple[str, int, str, str, bool]] = {
    "trigger": ("mmr", NOBODY, "", "", False),
    "cancel": ("liquidation", NOBODY, "market order", "requested", False),
    "redeem": ("debt close_out", NOBODY, "asset", "quanta", False),
    "convert": ("debt close_out", BOOK, "asset", "cash fee quanta counter_cash", True),
    "book": ("full band depth", BOOK, "market", "requested lots cost cash fee counter_cash", True),
    "expire": ("band depth no_book", NOBODY, "market", "requested", False),
    "backstop": ("below_auto_close", ACCOUNT, "market",
                 "requested lots cost cash counter_cost counter_cash fund", True),
    "adl": ("backstop_exhausted", ACCOUNT, "market", "requested lots cost cash counter_cost counter_cash", True),
    "unfilled": ("no_counterparty", NOBODY, "market", "requested", False),
    "fund": ("bankrupt", FUND, "", "cash fund", False),
    "shortfall": ("bankrupt", SHORTFALL, "", "cash counter_cash", False),
}  # fmt: skip
_EVENT = tuple(_EVENTS)
_REASON = tuple(dict.fromkeys(reason for event in _EVENTS.values() for reason in event[0].split()))
_STAGE = {"trigger": 0, "cancel": 1, "book": 3, "expire": 3, "backstop": 4, "adl": 5, "unfilled": 5, "fund": 6,
          "shortfall": 6}  # fmt: skip


class RunError(ValueError):
    """The folder holds no run that can be audited."""


@dataclass(frozen=True)
class AuditReport:
    """What the audit found.

    Attributes
    ----------
    checks : DataFrame
        rule, checked (how many things), breaches (how many of them broke it).
    breaches : DataFrame
        rule, tick, row (of the journal, -1 if none), account (the user's id, None if none), what; the first 1000.
    """

    checks: pd.DataFrame
    breaches: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether every rule was kept."""
        return not bool(self.checks["breaches"].any())


@dataclass
class _Findings:
    """Counts by rule, and the first breaches in words."""

    ids: Array
    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    breached: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    kept: list[tuple[str, int, int, object, str]] = field(default_factory=list)

    def breach(self, rule: str, what: str, tick: int = -1, row: int = -1, account: int = -1) -> None:
        self.breached[rule] += 1
        if len(self.kept) < KEPT_BREACHES:
            user = self.ids[account] if 0 <= account < len(self.ids) else None
            self.kept.append((rule, tick, row, user, what))

    def equal(self, rule: str, what: str, left: object, right: object) -> None:
        self.checked[rule] += 1
        if left != right:
            self.breach(rule, f"{what}: {left}, not {right}")

    def report(self) -> AuditReport:
        checks = [(rule, self.checked[rule], self.breached[rule]) for rule in RULES]
        return AuditReport(
            pd.DataFrame(checks, columns=["rule", "checked", "breaches"]),
            pd.DataFrame(self.kept, columns=["rule", "tick", "row", "account", "what"]).astype({"account": object}),
        )


# ---- numbers


def _exact(value: object) -> Fraction:
    """Fraction that a number or text stands for; a float stands for its shortest decimal."""
    return Fraction(str(value))


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _rhe(numerator: int, denominator: int) -> int:
    """Nearest whole number of a ratio with a denominator above 0, halves to the even one."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def _cost_change(lots: int, cost: int, change: int, flow: int) -> int:
    """Change of a position's cost when its lots change for `flow` received."""
    if lots * change >= 0:
        return -flow
    if abs(change) <= abs(lots):
        return -_rhe(cost * abs(change), abs(lots))
    return -cost - _rhe(flow * (abs(change) - abs(lots)), abs(change))


# ---- the run folder


@dataclass(frozen=True)
class _Market:
    symbol: str
    base: str
    step: Fraction
    worth: Fraction  # settle quanta of a lot at one tick
    min_lots: int
    curve: tuple[float, float]
    bands: dict[int, Fraction | None]  # by the side of the book


@dataclass(frozen=True)
class _Asset:
    symbol: str
    quantum: Fraction
    weight: float
    haircut: tuple[float, float] | None
    curve: tuple[float, float]


@dataclass(frozen=True)
class _Provider:
    account: int
    limits: tuple[Fraction | None, ...]  # per minute, per hour, ever, in settle units
    markets: frozenset[int]


@dataclass(frozen=True)
class _Venue:
    markets: list[_Market]
    assets: list[_Asset]
    settle: int
    policy: dict[str, Fraction]
    by_quantity: bool
    providers: list[_Provider]

    @property
    def quantum(self) -> Fraction:
        return self.assets[self.settle].quantum


def _read_venue(raw: dict[str, Any], ids: Array, providers: list[int]) -> _Venue:
    settle = raw["settle_asset"]
    listed = list(raw["collateral"])
    if settle not in [row["symbol"] for row in listed]:
        listed.append({"symbol": settle, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})
    assets = [_read_asset(row, settle) for row in listed]
    symbols = [asset.symbol for asset in assets]
    quantum = assets[symbols.index(settle)].quantum
    markets = [_read_market(row, quantum) for row in raw["markets"] if row["marketType"] == "PERP"]
    rows = {market.symbol: row for row, market in enumerate(markets)}
    entries = raw["backstop"]
    if len(entries) != len(providers) or any(
        not 0 <= row < len(ids) or ids[row] != entry["account"] for row, entry in zip(providers, entries, strict=True)
    ):
        raise RunError("run.json: its providers are not those of venue.json")
    limits = ("capacity_per_min", "capacity_per_hour", "max_notional")
    return _Venue(
        markets,
        assets,
        symbols.index(settle),
        {name: _exact(value) for name, value in raw["policy"].items() if name != "haircut_size_unit"},
        raw["policy"]["haircut_size_unit"] == "quantity",
        [
            _Provider(
                row,
                tuple(None if entry.get(name) is None else _exact(entry[name]) for name in limits),
                frozenset(rows.values() if entry.get("markets") is None else (rows[s] for s in entry["markets"])),
            )
            for row, entry in zip(providers, entries, strict=True)
        ],
    )


def _read_market(row: dict[str, Any], quantum: Fraction) -> _Market:
    price, quantity = row["filters"]["price"], row["filters"]["quantity"]
    step = _exact(quantity["stepSize"])
    low, high = (price.get(name) for name in ("minImpactMultiplier", "maxImpactMultiplier"))
    return _Market(
        row["symbol"], row["baseSymbol"], step, _exact(price["tickSize"]) * step / quantum,
        math.ceil(_exact(quantity.get("minQuantity") or 0) / step), _read_curve(row["mmfFunction"]),
        {1: None if low is None else _exact(low), -1: None if high is None else _exact(high)},
    )  # fmt: skip


def _read_asset(row: dict[str, Any], settle: str) -> _Asset:
    initial = row.get("imfFunction") or {"base": "0.10" if row["symbol"] == settle else "0.20", "factor": "0"}
    default = {"base": _exact(initial["base"]) / 2, "factor": _exact(initial["factor"]) * 3 / 5}
    kind = row["haircutFunction"]["kind"]
    sized = kind["type"] == "inverseSqrt"
    return _Asset(
        row["symbol"], _exact(row.get("quantum") or "0.000001"), float(_exact(row["haircutFunction"]["weight"])),
        (float(_exact(kind["base"])), float(_exact(kind["positiveCurvePenalty"]))) if sized else None,
        _read_curve(row.get("mmfFunction") or default),
    )  # fmt: skip


def _read_curve(function: dict[str, Any]) -> tuple[float, float]:
    return float(_exact(function["base"])), float(_exact(function["factor"]))


_TABLES = {
    "accounts": "account leverage_limit unsettled",
    "positions": "account market lots cost",
    "balances": "account asset quanta lent",
    "orders": "account market side price lots reduce_only",
    "ticks": "tick time market mark index",
    "assets": "tick asset price",
    "books": "tick market side price lots",
    "journal": " ".join((*_WHOLE, *_RATIOS, "event", "reason")),
}
_REAL = {"mark", "index", "leverage_limit", *_RATIOS}


def _read_table(path: Path, columns: str, real: tuple[str, ...] = ()) -> Columns:
    """Columns of a Parquet table by name: whole numbers as int64, prices and ratios as float64, the rest as found."""
    if not path.is_file():
        raise RunError(f"{path}: is missing")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if set(frame.columns) != set(columns.split()):
        raise RunError(f"{path}: its columns must be {columns}, not {' '.join(map(str, frame.columns))}")
    found: Columns = {}
    for name in columns.split():
        values = frame[name]
        if name in _REAL or name in real:
            found[name] = values.to_numpy(np.float64)
        elif name in ("event", "reason"):
            words = _EVENT if name == "event" else _REASON
            found[name] = pd.Categorical(values.astype(object), categories=list(words)).codes.astype(np.int64)
            if (found[name] < 0).any():
                raise RunError(f"{path}: {name} must be one of {' '.join(words)}")
        elif name == "ledger" or (name == "account" and path.name == "accounts.parquet"):
            found[name] = values.to_numpy()
        elif name == "reduce_only" or pd.api.types.is_integer_dtype(values.dtype):
            found[name] = values.to_numpy(bool if name == "reduce_only" else np.int64)
        else:
            raise RunError(f"{path}: {name} must hold whole numbers")
    return found


@dataclass(frozen=True)
class _Run:
    """All of a run folder but its prices and books; the journal is completed by the start rows that it changes."""

    path: Path
    manifest: dict[str, Any]
    venue: _Venue
    ids: Array
    start: dict[str, Columns]
    journal: Columns
    state: dict[str, Columns]

    @cached_property
    def usable(self) -> Array:
        """Whether a row names only accounts, positions, balances and orders that there are."""
        j, accounts = self.journal, len(self.ids)
        fine = (j["account"] >= 0) & (j["account"] < accounts)
        fine &= (j["counterparty"] >= NOBODY) & (j["counterparty"] < accounts)
        fine &= j["order"] < len(self.start["orders"]["lots"])
        for events, name in (
            ("book expire backstop adl unfilled", "position"),
            ("backstop adl", "counter_position"),
            ("redeem convert", "balance"),
            ("cancel", "order"),
        ):
            fine &= ~_is(j, events) | (j[name] >= 0)
        return np.asarray(fine)

    @cached_property
    def settle_row(self) -> Array:
        """Balance row of the settle asset of every account."""
        return np.flatnonzero(self.start["balances"]["asset"] == self.venue.settle)

    @property
    def opening_fund(self) -> int:
        return round(self.venue.policy["fund"] / self.venue.quantum)


def _is(journal: Columns, events: str) -> Array:
    return np.isin(journal["event"], [_EVENT.index(name) for name in events.split()])


def _row_of(owners: Array, items: Array, owner: Array, item: Array) -> Array:
    """Row in which each pair stands in ascending columns, -1 where it does not."""
    if not len(owners):
        return np.full(len(owner), -1)
    width = int(items.max()) + 1
    wanted = np.where((owner >= 0) & (item >= 0) & (item < width) & (owner <= owners[-1]), owner * width + item, -1)
    keys = owners * width + items
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[row] == wanted, row, -1)


def _read_run(path: Path) -> _Run:
    try:
        manifest = json.loads((path / "run.json").read_text())
        raw = json.loads((path / "venue.json").read_text(), parse_float=str)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: must be a run folder with run.json and venue.json ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise RunError(f"{path}/run.json: format must be 1")
    if not {"parts", "ticks", "events", "providers"} <= set(manifest) or manifest["parts"] < 1:
        raise RunError(f"{path}/run.json: must have parts (at least 1), ticks, events and providers")
    start = {name: _read_table(path / f"start/{name}.parquet", _TABLES[name]) for name in list(_TABLES)[:4]}
    ids = start["accounts"]["account"]
    try:
        venue = _read_venue(raw, ids, manifest["providers"])
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, ValueError) as error:
        raise RunError(f"{path}/venue.json: {error if isinstance(error, RunError) else repr(error)}") from None
    for name, item, count in (("positions", "market", len(venue.markets)), ("balances", "asset", len(venue.assets))):
        table = start[name]
        key = table["account"] * count + table[item]
        fits = (table[item] >= 0) & (table[item] < count) & (table["account"] >= 0) & (table["account"] < len(ids))
        if not fits.all() or (np.diff(key) <= 0).any():
            raise RunError(f"{path}/start/{name}.parquet: must ascend by account and {item}, all of them known")
    if np.count_nonzero(start["balances"]["asset"] == venue.settle) != len(ids):
        raise RunError(f"{path}/start/balances.parquet: every account must have a row of the settle asset")
    if not all(one < two for one, two in pairwise(ids.tolist())):
        raise RunError(f"{path}/start/accounts.parquet: accounts must ascend")
    orders = start["orders"]
    rested = _row_of(start["positions"]["account"], start["positions"]["market"], orders["account"], orders["market"])
    if (rested < 0).any() or not np.isin(orders["side"], (1, -1)).all():
        raise RunError(f"{path}/start/orders.parquet: an order needs a position row, and side 1 or -1")
    rows = [_read_table(path / f"journal/{part:05d}.parquet", _TABLES["journal"]) for part in range(manifest["parts"])]
    journal = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    positions, balances = start["positions"], start["balances"]
    for name, other in (("position", "account"), ("counter_position", "counterparty")):
        journal[name] = _row_of(positions["account"], positions["market"], journal[other], journal["market"])
    journal["balance"] = _row_of(balances["account"], balances["asset"], journal["account"], journal["asset"])
    last = path / f"state/{manifest['parts'] - 1:05d}"
    tables = {"accounts": "unsettled", "ledger": "ledger item value", "orders": "order " + _TABLES["orders"]}
    tables |= {name: _TABLES[name] for name in ("positions", "balances")}
    state = {name: _read_table(last / f"{name}.parquet", columns) for name, columns in tables.items()}
    return _Run(path, manifest, venue, ids, start, journal, state)


# ---- whole-column checks


def _check_rows(run: _Run, out: _Findings) -> None:
    """Every row by itself, and the order of the rows."""
    j = run.journal
    tick, account, event = j["tick"], j["account"], j["event"]

    def never(mask: Array, what: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            out.breach("rows", f"{_EVENT[event[row]]}: {what}", int(tick[row]), row, int(account[row]))

    out.checked["rows"] += len(tick)
    out.equal("rows", "rows of the journal and events of run.json", len(tick), run.manifest["events"])
    never(~run.usable, "names an account, position, balance or order that there is not")
    large = np.zeros(len(tick), bool)
    for name in _CHANGES:
        large |= (j[name] > 2**60) | (j[name] < -(2**60))
    never(large, "a change past 2**60")
    never(j["cash"] - j["cost"] + j["counter_cash"] - j["counter_cost"] + j["fund"] != 0, "money does not add up to 0")
    for code, (name, (reasons, other, rows, changes, priced)) in enumerate(_EVENTS.items()):
        mine = event == code
        never(mine & ~np.isin(j["reason"], [_REASON.index(r) for r in reasons.split()]), "a reason of another event")
        held = j["counterparty"] >= 0 if other == ACCOUNT else j["counterparty"] == other
        never(mine & ~(held & (j["counterparty"] != account)), "a counterparty of another event")
        never(mine & (np.isnan(j["price"]) == priced), "must have a price" if priced else "must have no price")
        for column in ("market", "asset", "order"):
            named = j[column] >= 0 if column in rows.split() else j[column] == -1
            never(mine & ~named, f"{column} must {'be named' if column in rows.split() else 'be -1'}")
        for column in _CHANGES:
            if column not in changes.split():
                never(mine & (j[column] != 0), f"{column} must be 0")
        for column in {"requested", "lots", "quanta"} & set(changes.split()):
            never(mine & (j[column] == 0), f"{column} must not be 0")
        if name in ("fund", "shortfall", "redeem"):
            never(mine & (j["quanta" if name == "redeem" else "cash"] < 0), "must not take")
    never((j["fee"] < 0) | (j["requested"] < 0), "fee and requested must not be negative")
    never(_is(j, "convert") & (j["asset"] == run.venue.settle), "the settle asset is not sold for itself")
    for name in ("mmr_before", "mmr_after"):
        never(~(j[name] >= 0), f"{name} must be a number from 0")
    never((tick < 0) | (tick >= run.manifest["ticks"]) | (np.diff(tick, prepend=0) < 0), "ticks must ascend")
    stage = np.array([_STAGE.get(name, 2) for name in _EVENT])[event]
    stage[_is(j, "redeem convert") & (j["reason"] == _REASON.index("close_out"))] = 6
    together = np.diff(tick, prepend=-1) == 0
    never(together & (np.diff(stage, prepend=0) < 0), "comes after a later phase")
    together &= (np.diff(account, prepend=-1) == 0) & (stage == 6) & (np.diff(stage, prepend=0) == 0)
    step = np.where(_is(j, "redeem convert"), 0, event)
    never(together & (np.diff(step, prepend=0) < 0), "comes too late in the close out")


def _totals(items: Array, values: Array, count: int) -> list[int]:
    totals = [0] * count
    for item, value in zip(items.tolist(), values.tolist(), strict=True):
        totals[item] += value
    return totals


def _check_conservation(run: _Run, out: _Findings) -> None:
    """Lots per market and money per asset are the same at start and end, over all who can hold them."""
    venue, end = run.venue, run.state
    ledger = _ledger(run)
    for name, columns in (("market", "lots"), ("asset", "quanta lent")):
        start_table, end_table = (t["positions" if name == "market" else "balances"] for t in (run.start, end))
        listed: list[Any] = list(venue.markets if name == "market" else venue.assets)
        for row in range(len(listed)):
            before, after = (
                sum(sum(t[c][t[name] == row].tolist()) for c in columns.split()) for t in (start_table, end_table)
            )
            if name == "asset" and row == venue.settle:
                before += run.opening_fund - sum(run.start["positions"]["cost"].tolist())
                after += ledger["fund", 0] + ledger["shortfall", 0] - sum(end["positions"]["cost"].tolist())
            after += ledger["book_lots" if name == "market" else "book_quanta", row]
            out.equal("conservation", f"all {columns} of {listed[row].symbol}", after, before)


def _ledger(run: _Run) -> dict[tuple[str, int], int]:
    table = run.state["ledger"]
    entries = zip(table["ledger"].tolist(), table["item"].tolist(), table["value"].tolist(), strict=True)
    return defaultdict(int, {(name, item): value for name, item, value in entries})


def _check_replay(run: _Run, out: _Findings) -> None:
    """The start plus the journal's changes is the last state."""
    j = {name: column[run.usable] for name, column in run.journal.items()}
    free, lent = run.start["balances"]["quanta"].copy(), run.start["balances"]["lent"].copy()
    lots, cost = run.start["positions"]["lots"].copy(), run.start["positions"]["cost"].copy()
    traded, other, priced = j["position"] >= 0, j["counter_position"] >= 0, j["balance"] >= 0
    np.add.at(lots, j["position"][traded], j["lots"][traded])
    np.add.at(cost, j["position"][traded], j["cost"][traded])
    np.add.at(lots, j["counter_position"][other], -j["lots"][other])
    np.add.at(cost, j["counter_position"][other], j["counter_cost"][other])
    np.add.at(free, run.settle_row[j["account"]], j["cash"] - j["fee"])
    owner = j["counterparty"] >= 0
    np.add.at(free, run.settle_row[j["counterparty"][owner]], j["counter_cash"][owner])
    np.add.at(free, j["balance"][priced], j["quanta"][priced])
    redeemed = _is(j, "redeem")
    np.add.at(lent, j["balance"][redeemed], -j["quanta"][redeemed])
    found = {"positions": run.start["positions"] | {"lots": lots, "cost": cost}}
    found["balances"] = run.start["balances"] | {"quanta": free, "lent": lent}
    still = np.setdiff1d(np.flatnonzero(run.start["orders"]["lots"] > 0), j["order"][_is(j, "cancel")])
    found["orders"] = {"order": still} | {name: column[still] for name, column in run.start["orders"].items()}
    found["accounts"] = {"unsettled": run.start["accounts"]["unsettled"]}
    for table, columns in found.items():
        for name, column in columns.items():
            _compare(run, out, f"state {table}.{name}", column, run.state[table][name], columns)
    book, venue, ledger = j["counterparty"] == BOOK, run.venue, _ledger(run)
    for market, total in enumerate(_totals(j["market"][book & traded], j["lots"][book & traded], len(venue.markets))):
        out.equal("replay", f"ledger book_lots of {venue.markets[market].symbol}", ledger["book_lots", market], -total)
    money = [-total for total in _totals(j["asset"][book & priced], j["quanta"][book & priced], len(venue.assets))]
    money[venue.settle] += sum(j["counter_cash"][book].tolist())
    for asset, total in enumerate(money):
        out.equal("replay", f"ledger book_quanta of {venue.assets[asset].symbol}", ledger["book_quanta", asset], total)
    fund = run.opening_fund + sum(j["fund"].tolist()) + sum(j["fee"].tolist())
    out.equal("replay", "ledger fund", ledger["fund", 0], fund)
    short = sum(j["counter_cash"][j["counterparty"] == SHORTFALL].tolist())
    out.equal("replay", "ledger shortfall", ledger["shortfall", 0], short)


def _compare(run: _Run, out: _Findings, what: str, replayed: Array, kept: Array, columns: Columns) -> None:
    out.checked["replay"] += len(replayed)
    if len(kept) != len(replayed):
        out.breach("replay", f"{what}: {len(kept)} rows, not {len(replayed)}")
        return
    for row in np.flatnonzero(kept != replayed).tolist():
        account = int(columns["account"][row]) if "account" in columns else row
        out.breach("replay", f"{what}, row {row}: {kept[row]}, not {replayed[row]}", account=account)


# ---- the market at a tick


class _Side:
    """One side of a recorded book: its levels cumulated, how deep the price band reaches, what slices took so far."""

    def __init__(self, prices: list[int], lots: list[int], side: int, multiplier: Fraction | None) -> None:
        self.prices, self.depth = prices, list(accumulate(lots, initial=0))
        self.money = list(accumulate((p * n for p, n in zip(prices, lots, strict=True)), initial=0))
        within = len(prices)
        if multiplier is not None and prices:
            bound = prices[0] * multiplier
            within = sum(price >= bound if side > 0 else price <= bound for price in prices)
        self.in_band, self.taken = self.depth[within], 0

    def take(self, lots: int) -> int:
        """Lots times ticks of the next `lots` of the book."""
        before = self._money_of(self.taken)
        self.taken = min(self.taken + lots, self.depth[-1])
        return self._money_of(self.taken) - before

    def _money_of(self, lots: int) -> int:
        level = bisect_left(self.depth, lots)
        return self.money[level] - (self.depth[level] - lots) * self.prices[level - 1] if level else 0


class _Tick:
    """Prices and books of one tick; exact figures are made when asked for."""

    def __init__(self, part: _Part, at: int, venue: _Venue) -> None:
        self.number, self.time, self.venue = part.first + at, int(part.time[at]), venue
        self.mark, self.asset = part.mark[at], part.asset[at]
        self._part, self._sides = part, dict[tuple[int, int], _Side]()
        self._worth: dict[tuple[str, int, Any], Any] = {}

    def worth(self, kind: str, row: int, of: Callable[[Fraction], Any] = Fraction) -> Any:
        """Settle units of a `lot` of a market at the mark, or of a `quantum` of an asset, in the numbers of `of`."""
        found = self._worth.get((kind, row, of))
        if found is None:
            price = float(self.mark[row] if kind == "lot" else self.asset[row])
            unit = self.venue.markets[row].step if kind == "lot" else self.venue.assets[row].quantum
            found = self._worth[kind, row, of] = of((_exact(price) if math.isfinite(price) else Fraction(0)) * unit)
        return found

    def side(self, market: int, side: int) -> _Side:
        """Bids (1) or asks (-1) of a market."""
        if (market, side) not in self._sides:
            part, key = self._part, _side_key(self.number, market, side, len(self.venue.markets))
            a, b = np.searchsorted(part.side, [key, key + 1])
            levels = part.price[a:b].tolist(), part.lots[a:b].tolist()
            self._sides[market, side] = _Side(*levels, side, self.venue.markets[market].bands[side])
        return self._sides[market, side]


def _side_key(tick: Any, market: Any, side: Any, markets: int) -> Any:
    return (tick * markets + market) * 2 + (1 - side) // 2


@dataclass(frozen=True)
class _Part:
    """Prices and books of one part of a run: a row of `time`, `mark` and `asset` for every tick."""

    first: int
    time: Array
    mark: Array
    asset: Array
    side: Array
    price: Array
    lots: Array


def _read_parts(run: _Run, out: _Findings) -> Iterator[_Part]:
    markets, assets, first = len(run.venue.markets), len(run.venue.assets), 0
    for number in range(run.manifest["parts"]):
        name = f"{number:05d}.parquet"
        ticks, priced, books = (
            _read_table(run.path / table / name, _TABLES[table], ("price",) if table == "assets" else ())
            for table in ("ticks", "assets", "books")
        )
        count = len(ticks["tick"]) // markets
        moments = np.arange(first, first + count)
        if not (
            np.array_equal(ticks["tick"], np.repeat(moments, markets))
            and np.array_equal(ticks["market"], np.tile(np.arange(markets), count))
            and np.array_equal(ticks["time"], np.repeat(ticks["time"][::markets], markets))
        ):
            raise RunError(f"{run.path}/ticks/{name}: must hold a row for every tick from {first} and every market")
        for table, item, width in ((priced, "asset", assets), (books, "market", markets)):
            fits = (table["tick"] >= first) & (table["tick"] < first + count)
            if not (fits & (table[item] >= 0) & (table[item] < width)).all():
                raise RunError(f"{run.path}: assets and books of part {number} must be of its ticks and the venue")
        asset = np.full((count, assets), np.nan)
        asset[priced["tick"] - first, priced["asset"]] = priced["price"]
        side = _side_key(books["tick"], books["market"], books["side"], markets)
        worse = np.diff(side) > 0
        worse |= (np.diff(side) == 0) & (np.diff(books["price"]) * books["side"][1:] < 0)
        out.checked["prices"] += len(side)
        for at in np.flatnonzero(~worse).tolist():
            out.breach("prices", f"books: level {at + 1} of part {number} is not in order", int(books["tick"][at]))
        time = ticks["time"][::markets]
        mark, index = (ticks[column].reshape(count, markets) for column in ("mark", "index"))
        _check_prices(run.venue, out, first, mark, index, asset)
        yield _Part(first, time, mark, asset, side, books["price"], books["lots"])
        first += count
    if first != run.manifest["ticks"]:
        raise RunError(f"{run.path}: {first} ticks, not the {run.manifest['ticks']} of run.json")


def _check_prices(venue: _Venue, out: _Findings, first: int, mark: Array, index: Array, asset: Array) -> None:
    """The settle asset is worth 1, the base of a perpetual its index (its mark where there is no index)."""
    derived = np.where(np.isnan(index), mark, index)
    out.checked["prices"] += asset.size
    for row, listed in enumerate(venue.assets):
        if row == venue.settle:
            fine = asset[:, row] == 1
        else:
            same = [m for m, market in enumerate(venue.markets) if market.base == listed.symbol]
            known = np.isnan(derived[:, same]).all(axis=1)
            fine = known | (derived[:, same] == asset[:, [row]]).any(axis=1)
        for at in np.flatnonzero(~fine).tolist():
            what = "1, being the settle asset" if row == venue.settle else "the index of its market"
            out.breach("prices", f"{listed.symbol}: {asset[at, row]}, not {what}", first + at)


# ---- margin


class _Numbers(NamedTuple):
    """The venue's figures for margins, all float64 or all Decimal."""

    of: Callable[[Fraction], Any]
    root: Callable[[Any], Any]
    markets: list[tuple[Any, Any]]
    assets: list[tuple[Any, Any]]
    haircuts: list[tuple[Any, Any, Any]]  # weight, base, penalty; base None for the identity
    quantum: list[Any]


def _numbers(venue: _Venue, of: Callable[[Fraction], Any], root: Callable[[Any], Any]) -> _Numbers:
    def curve(listed: _Market | _Asset) -> tuple[Any, Any]:
        return of(_exact(listed.curve[0])), of(_exact(listed.curve[1]))

    haircuts = [
        (of(_exact(a.weight)), *((None, None) if a.haircut is None else (of(_exact(h)) for h in a.haircut)))
        for a in venue.assets
    ]
    markets, assets = ([curve(listed) for listed in table] for table in (venue.markets, venue.assets))
    return _Numbers(of, root, markets, assets, haircuts, [of(a.quantum) for a in venue.assets])


class _Margin(NamedTuple):
    """An account in settle units; `gross` is the sum of the absolute amounts in the equity."""

    equity: Any
    maintenance: Any
    exposure: Any
    gross: Any
    positions: dict[int, Any]  # maintenance margin of each position row with lots

    def agrees(self, ratio: float) -> bool:
        """Whether a float64 MMR can be this account's."""
        if not self.exposure or math.isinf(ratio):
            return ratio == 0 if not self.exposure else ratio > 0 and self.equity <= NOISE * self.gross
        slack = TOLERANCE * self.maintenance + ratio * NOISE * self.gross
        return ratio >= 0 and abs(self.maintenance - ratio * self.equity) <= slack

    def ratio(self) -> float:
        """MMR."""
        if not self.exposure:
            return 0.0
        return math.inf if self.equity <= 0 else float(self.maintenance / self.equity)


class _State:
    """Accounts as they stand at a row of the journal; float64 mirrors serve the sweep."""

    def __init__(self, run: _Run) -> None:
        venue, positions, balances, orders = run.venue, *(run.start[t] for t in ("positions", "balances", "orders"))
        self.venue, accounts = venue, np.arange(len(run.ids) + 1)
        self.position_offset = np.searchsorted(positions["account"], accounts).tolist()
        self.balance_offset = np.searchsorted(balances["account"], accounts).tolist()
        self.owner, self.market = positions["account"], positions["market"].tolist()
        self.holder, self.asset = balances["account"], balances["asset"].tolist()
        self.settle = run.settle_row.tolist()
        self.unsettled: list[int] = run.start["accounts"]["unsettled"].tolist()
        self.lots, self.cost = positions["lots"].tolist(), positions["cost"].tolist()
        self.free, self.lent = balances["quanta"].tolist(), balances["lent"].tolist()
        row = _row_of(positions["account"], positions["market"], orders["account"], orders["market"])
        resting = {1: np.zeros(len(self.lots), np.int64), -1: np.zeros(len(self.lots), np.int64)}
        for side, total in resting.items():
            counted = (orders["side"] == side) & ~orders["reduce_only"]
            np.add.at(total, row[counted], orders["lots"][counted])
        self.bid, self.ask = resting[1].tolist(), resting[-1].tolist()
        self.open: list[set[int]] = [set() for _ in run.ids]
        for order in np.flatnonzero(orders["lots"] > 0).tolist():
            self.open[int(orders["account"][order])].add(order)
        self.orders = [column.tolist() for column in (orders["side"], orders["lots"], orders["reduce_only"])]
        self.order_position = row.tolist()
        self.floats = _numbers(venue, float, math.sqrt)
        self.decimals = _numbers(venue, _decimal, Decimal.sqrt)
        # what the sweep reads
        resting_lots = resting[1] + resting[-1]
        self.columns = [np.array(c, np.float64) for c in (self.lots, self.cost, self.free, self.lent, resting_lots)]
        self.columns[1] *= float(venue.quantum)
        self.changed()

    def changed(self) -> None:
        """Look again at who has exposure, after rows were applied."""
        lots, _, free, _, resting = self.columns
        self.borrowed = np.flatnonzero(free < 0)
        self.exposed = np.zeros(len(self.open), bool)
        for owners in (self.owner[(lots != 0) | (resting != 0)], self.holder[self.borrowed]):
            self.exposed[owners] = True

    def margin(self, account: int, tick: _Tick, kind: _Numbers) -> _Margin:
        """Margin of an account as the page has it."""
        of, root = kind.of, kind.root
        settle_quantum = kind.quantum[self.venue.settle]
        equity = self.unsettled[account] * settle_quantum
        gross, maintenance, exposure, cost, parts = abs(equity), 0 * equity, 0 * equity, 0, {}
        for p in range(self.position_offset[account], self.position_offset[account + 1]):
            lots, market = self.lots[p], self.market[p]
            cost += self.cost[p]
            gross += abs(self.cost[p]) * settle_quantum
            if lots or self.bid[p] or self.ask[p]:
                worth = tick.worth("lot", market, of)
                notional, (base, factor) = abs(lots) * worth, kind.markets[market]
                exposure += max(abs(lots + self.bid[p]), abs(lots - self.ask[p]), abs(lots)) * worth
                if lots:
                    parts[p] = notional * max(base, factor * root(notional))
                    maintenance += parts[p]
                    equity += lots * worth
                    gross += notional
        equity -= cost * settle_quantum
        for b in range(self.balance_offset[account], self.balance_offset[account + 1]):
            free, asset = self.free[b], self.asset[b]
            tokens = max(free, 0) + self.lent[b]
            if tokens > 0:
                value = tokens * tick.worth("quantum", asset, of)
                weight, base, penalty = kind.haircuts[asset]
                if base is not None:
                    size = tokens * kind.quantum[asset] if self.venue.by_quantity else value
                    weight = min(weight, base / (1 + penalty * root(size)))
                equity += value * weight
                gross += value
            if free < 0:
                notional, (base, factor) = -free * tick.worth("quantum", asset, of), kind.assets[asset]
                maintenance += notional * max(base, factor * root(notional))
                exposure += notional
                equity -= notional
                gross += notional
        return _Margin(equity, maintenance, exposure, gross, parts)

    def apply(self, row: _Row) -> None:
        """Add the changes of a row."""
        mine, theirs = (row.position, row.lots, row.cost), (row.counter_position, -row.lots, row.counter_cost)
        for p, lots, cost in (mine, theirs):
            if p >= 0 and (lots or cost):
                self.lots[p] += lots
                self.cost[p] += cost
                self.columns[0][p] = self.lots[p]
                self.columns[1][p] = self.cost[p] * float(self.venue.quantum)
        changes = [(self.settle[row.account], row.cash - row.fee), (row.balance, row.quanta)]
        if row.counterparty >= 0:
            changes.append((self.settle[row.counterparty], row.counter_cash))
        if row.event == "redeem":
            self.lent[row.balance] -= row.quanta
            self.columns[3][row.balance] = self.lent[row.balance]
        for b, quanta in changes:
            if quanta and b >= 0:
                self.free[b] += quanta
                self.columns[2][b] = self.free[b]
        if row.event == "cancel" and row.order in self.open[row.account]:
            self.open[row.account].remove(row.order)
            side, lots, reduce_only = (column[row.order] for column in self.orders)
            if not reduce_only:
                p = self.order_position[row.order]
                (self.bid if side > 0 else self.ask)[p] -= lots
                self.columns[4][p] -= lots


class _Row(NamedTuple):
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


# ---- selection


class _Sweep:
    """Margins of all accounts at once, from the state's mirrors."""

    def __init__(self, state: _State) -> None:
        self.state, kind = state, state.floats
        market, asset = np.array(state.market, np.int64), np.array(state.asset, np.int64)
        self.market, self.asset = market, asset
        curves = np.array(kind.markets).reshape(-1, 2)
        self.base, self.factor = curves[market, 0], curves[market, 1]
        self.weight = np.array([h[0] for h in kind.haircuts])[asset]
        self.sized = np.flatnonzero([kind.haircuts[a][1] is not None for a in state.asset])
        self.haircut = np.array([kind.haircuts[state.asset[b]][1:] for b in self.sized], np.float64).reshape(-1, 2).T
        self.debt_curves = np.array(kind.assets)
        self.quantum = np.array(kind.quantum)
        self.step = np.array([float(m.step) for m in state.venue.markets])
        self.unsettled = np.array(state.unsettled, np.float64) * float(state.venue.quantum)

    def margins(self, tick: _Tick) -> tuple[Array, Array, Array]:
        """Net equity, maintenance margin and gross of all accounts."""
        state, count = self.state, len(self.unsettled)
        lots, cost, free, lent, _ = state.columns
        value = lots * (np.nan_to_num(tick.mark) * self.step)[self.market]
        notional = np.abs(value)
        margin = notional * np.maximum(self.base, self.factor * np.sqrt(notional))
        per_quantum = np.nan_to_num(tick.asset) * self.quantum
        tokens = np.maximum(free, 0)
        tokens += lent
        worth = tokens * per_quantum[self.asset]
        weighted = worth * self.weight
        if self.sized.size:
            of, base, penalty = self.sized, *self.haircut
            size = tokens[of] * self.quantum[self.asset[of]] if state.venue.by_quantity else worth[of]
            weighted[of] = worth[of] * np.minimum(self.weight[of], base / (1 + penalty * np.sqrt(size)))
        owner, holder = state.owner, state.holder
        equity = np.bincount(holder, weighted, count) + np.bincount(owner, value - cost, count) + self.unsettled
        gross = np.bincount(holder, worth, count) + np.bincount(owner, notional + np.abs(cost), count)
        maintenance = np.bincount(owner, margin, count)
        of = state.borrowed
        debt, (base, factor) = -free[of] * per_quantum[self.asset[of]], self.debt_curves[self.asset[of]].T
        equity -= np.bincount(holder[of], debt, count)
        maintenance += np.bincount(holder[of], debt * np.maximum(base, factor * np.sqrt(debt)), count)
        return equity, maintenance, gross + np.bincount(holder[of], debt, count) + np.abs(self.unsettled)

    def unpriced(self, tick: _Tick) -> bool:
        """Whether something that is held has no price."""
        lots, _, free, lent, _ = self.state.columns
        if np.isnan(tick.mark).any() and (lots[np.isnan(tick.mark)[self.market]] != 0).any():
            return True
        lacking = np.isnan(tick.asset)
        return bool(lacking.any() and ((free != 0) | (lent != 0))[lacking[self.asset]].any())

    def winners(self, tick: _Tick, selected: dict[int, int], equity: Array, gross: Array) -> _Winners:
        """Who ADL may close positions against in this tick."""
        lots, cost, free = (column.copy() for column in self.state.columns[:3])
        value = lots * (np.nan_to_num(tick.mark) * self.step)[self.market]
        bid, ask = np.array(self.state.bid), np.array(self.state.ask)
        worst = np.maximum(np.maximum(np.abs(lots + bid), np.abs(lots - ask)), np.abs(lots))
        exposure = np.bincount(
            self.state.owner, worst * (np.nan_to_num(tick.mark) * self.step)[self.market], len(equity)
        )
        debt = np.maximum(-free, 0) * (np.nan_to_num(tick.asset) * self.quantum)[self.asset]
        exposure += np.bincount(self.state.holder, debt, len(equity))
        owner = self.state.owner
        profit, solvent = value - cost, equity[owner]
        noise = NOISE * (np.abs(value) + np.abs(cost)), NOISE * gross[owner]
        may = (lots != 0) & (profit >= -noise[0]) & (solvent >= -noise[1]) & ~np.isin(owner, list(selected))
        sure = may & (profit > noise[0]) & (solvent > noise[1])
        score = profit / np.abs(cost) * exposure[owner] / solvent
        slack = np.nan_to_num(TOLERANCE + noise[0] / profit + noise[1] / solvent)
        score[(cost * lots <= 0) | np.isnan(score)] = np.inf
        slack[np.isinf(score)] = 0
        queues: dict[tuple[int, bool], list[int]] = defaultdict(list)
        rows = np.flatnonzero(may)
        for p in rows[np.lexsort((owner[rows], -score[rows]))].tolist():
            queues[self.state.market[p], bool(lots[p] > 0)].append(p)
        figures = np.stack([lots, cost, exposure[owner], solvent], axis=1)
        return _Winners(queues, sure, score * (1 - slack), score * (1 + slack), figures)


@dataclass
class _Winners:
    """ADL counterparties of a tick: position rows by market and side (long or not), best score first, ties by account.

    `low` and `high` hold the score of every position row, less and plus what float64 leaves in doubt; rows that are not
    `sure` may or may not be profitable and solvent. `figures` (lots, cost, exposure, net equity) tell true ties.
    """

    queues: dict[tuple[int, bool], list[int]]
    sure: Array
    low: Array
    high: Array
    figures: Array
    used: dict[tuple[int, bool], int] = field(default_factory=lambda: defaultdict(int))

    def fits(self, market: int, lots: int, position: int, now: list[int]) -> bool:
        """Whether `position` (-1: nobody) may be the next against `lots`; `now` holds the lots of all positions."""
        side, best, tied = (market, lots < 0), -math.inf, -1
        queue = self.queues.get(side, [])
        while self.used[side] < len(queue) and now[queue[self.used[side]]] * lots >= 0:
            self.used[side] += 1
        for at in range(self.used[side], len(queue)):
            p = queue[at]
            if now[p] * lots >= 0:
                continue
            if p == position:
                return bool(self.high[p] >= best) and (tied < 0 or (self.figures[tied] != self.figures[p]).any())
            if self.sure[p]:
                if position < 0:
                    return False
                best, tied = max(best, self.low[p]), p
        return position < 0


# ---- the replay


@dataclass
class _Handover:
    """A position that goes to others: its lots, the money of all of it, what fills carried so far."""

    lots: int
    flow: int
    to_fund: int
    fills: list[tuple[int, int]]  # of the backstop: account and lots
    done: int = 0


class _Replay:
    """The journal followed row by row, every row and tick set against the rules."""

    def __init__(self, run: _Run, out: _Findings) -> None:
        self.run, self.out, self.venue = run, out, run.venue
        self.state = _State(run)
        self.sweep = _Sweep(self.state)
        self.fund = run.opening_fund
        self.fee, self.time = run.venue.policy["liquidation_fee"], -1
        self.taken = {provider.account: [0, 0, 0] for provider in run.venue.providers}
        journal = run.journal
        self.columns = [journal[name] for name in _Row._fields[3:]]
        self.edges = np.searchsorted(journal["tick"], np.arange(run.manifest["ticks"] + 1)).tolist()
        self.check_row: dict[str, Callable[[_Row, _Margin], None]] = {
            "trigger": self._trigger, "cancel": self._cancel, "redeem": self._redeem, "convert": self._convert,
            "book": self._book, "expire": self._book, "backstop": self._handover, "adl": self._handover,
            "unfilled": self._unfilled, "fund": self._cover, "shortfall": self._cover,
        }  # fmt: skip

    # -- a tick

    def follow(self, tick: _Tick, sample: float | None) -> None:
        """Check one tick and apply its rows."""
        rows = self._rows(tick)
        # a multiplicative hash spreads the sampled ticks evenly, and the same ones every time
        if rows or sample is None or tick.number * 2654435761 % 2**32 < sample * 2**32:
            self._start(tick, rows)
        if self.time // MINUTE != tick.time // MINUTE:
            for taken in self.taken.values():
                taken[:2] = [0, taken[1] if self.time // HOUR == tick.time // HOUR else 0]
        if tick.time <= self.time:
            self.out.breach("rows", f"time {tick.time} is not after {self.time}", tick.number)
        self.time = tick.time
        for row in rows:
            self._follow_row(row)
        if rows:
            for account in self.order:
                self._finish(account)
            self.state.changed()

    def _rows(self, tick: _Tick) -> list[_Row]:
        a, b = self.edges[tick.number : tick.number + 2]
        if a == b:
            return []
        journal, usable = self.run.journal, self.run.usable[a:b].tolist()
        for at in np.flatnonzero(journal["time"][a:b] != tick.time).tolist():
            self.out.breach("rows", f"time is {journal['time'][a + at]}, not {tick.time}", tick.number, a + at)
        names = ([words[code] for code in journal[name][a:b].tolist()]
                 for name, words in (("event", _EVENT), ("reason", _REASON)))  # fmt: skip
        rows = zip(range(a, b), *names, *(column[a:b].tolist() for column in self.columns), strict=True)
        return [row for row, fine in zip(map(_Row._make, rows), usable, strict=True) if fine]

    def _start(self, tick: _Tick, rows: list[_Row]) -> None:
        """Select, and compare with the trigger rows."""
        self.tick, self.looks = tick, dict[int, _Margin]()
        self.order: dict[int, int] = {}  # the selected accounts, in order
        triggers = [row for row in rows if row.event == "trigger"]
        for row in triggers:
            if row.account in self.order:
                self._breach("selection", "selected twice", row)
            self.order.setdefault(row.account, len(self.order))
        if self.sweep.unpriced(tick):
            self.out.breach("prices", "something that is held has no price", tick.number)
        equity, maintenance, gross = self.sweep.margins(tick)
        exposed = self.state.exposed
        doubt = exposed & (np.abs(maintenance - equity) <= TOLERANCE * gross)
        expected = set(np.flatnonzero(exposed & ~doubt & ~(maintenance < equity)).tolist())
        for account in np.flatnonzero(doubt).tolist():
            exact = self.state.margin(account, tick, self.state.decimals)
            if not exact.maintenance < exact.equity:
                expected.add(account)
        self.out.checked["selection"] += len(equity)
        for account in sorted(expected ^ self.order.keys()):
            what = "not selected" if account in expected else "selected"
            figures = f"maintenance margin {maintenance[account]}, net equity {equity[account]}"
            self.out.breach("selection", f"{what}: {figures}", tick.number, account=account)
        for one, two in pairwise(triggers):
            if (-one.mmr_before, one.account) >= (-two.mmr_before, two.account):
                self._breach("selection", f"mmr {two.mmr_before} after {one.mmr_before}: out of order", two)
        self.followed = dict.fromkeys(self.order, 0)  # rows besides the trigger
        self.place, self.round = (0, -1), 0
        self.slices: dict[int, int] = defaultdict(int)
        self.handovers: dict[tuple[str, int], _Handover] = {}
        self.snapshots: dict[tuple[str, int], _Margin] = {}
        self.last: dict[tuple[str, int], Any] = {}
        self.settled: set[int] = set()
        self.unfilled: set[int] = set()
        if any(row.event in ("adl", "unfilled") for row in rows):
            self.winners = self.sweep.winners(tick, self.order, equity, gross)

    def _finish(self, account: int) -> None:
        """What must hold of a selected account after its last row."""
        state, look = self.state, self._look(account)
        rows, number, breach = self.followed[account], self.tick.number, self.out.breach
        self.out.checked["stages"] += 1
        if not rows and not self._stuck(account):
            breach("selection", "selected, and nothing was done", number, account=account)
        if state.open[account]:
            breach("stages", f"{len(state.open[account])} orders are still open", number, account=account)
        left = look.positions.keys() - self.unfilled
        if left and self._below(account):
            breach("stages", "below auto-close, and a position was not handed over", number, account=account)
        if rested := self._unsliced(account, look):
            breach("stages", f"liquidating, and positions {rested} had too few slices", number, account=account)
        balances = range(*state.balance_offset[account : account + 2])
        bankrupt = account in self.settled or (not look.positions and look.equity < -NOISE * look.gross)
        kept = [b for b in balances if state.asset[b] != self.venue.settle and (state.free[b] or state.lent[b])]
        if bankrupt and (kept or state.free[state.settle[account]] < 0):
            what = f"settle balance {state.free[state.settle[account]]}, {len(kept)} other balances"
            breach("stages", f"bankrupt, and not closed out: {what}", number, account=account)
        for market_row in range(*state.position_offset[account : account + 2]):
            handover = self.handovers.get(("backstop", market_row))
            if handover and handover.fills:
                breach("stages", f"providers {handover.fills} did not take their lots", number, account=account)

    def _unsliced(self, account: int, look: _Margin) -> list[int]:
        """Positions that the book phase left out, of an account that stayed liquidating and was not handed over."""
        handed = ("backstop", account) in self.snapshots or ("adl", account) in self.snapshots
        if handed or look.ratio() <= 1 + TOLERANCE or self._below(account):
            return []
        return [p for p in look.positions if self.slices[p] < self.venue.policy["slices_per_tick"]]

    def _stuck(self, account: int) -> bool:
        """Whether there is nothing to sell or redeem: a debt in a token, and no settle balance that buys any."""
        state, settle = self.state, self.venue.settle
        least = 0
        for b in range(*state.balance_offset[account : account + 2]):
            free, asset = state.free[b], state.asset[b]
            if asset != settle and (free > 0 or state.lent[b]):
                return False
            if asset == settle and free < 0 and state.lent[b]:
                return False
            if free < 0 and asset != settle:
                price = self.tick.worth("quantum", asset) / self.venue.quantum
                least = max(least, math.ceil(price * (1 + self.fee)))
        return not self._look(account).positions and state.free[state.settle[account]] < max(least, 1)

    # -- a row

    def _breach(self, rule: str, what: str, row: _Row) -> None:
        self.out.breach(rule, f"{row.event}: {what}", self.tick.number, row.at, row.account)

    def _equal(self, rule: str, what: str, row: _Row, found: object, expected: object) -> None:
        self.out.checked[rule] += 1
        if found != expected:
            self._breach(rule, f"{what} is {found}, not {expected}", row)

    def _require(self, rule: str, kept: bool, what: str, row: _Row) -> None:
        self.out.checked[rule] += 1
        if not kept:
            self._breach(rule, what, row)

    def _look(self, account: int) -> _Margin:
        found = self.looks.get(account)
        if found is None:
            found = self.looks[account] = self.state.margin(account, self.tick, self.state.floats)
        return found

    def _follow_row(self, row: _Row) -> None:
        self._require("touched", row.account in self.order, "the account was not selected in this tick", row)
        before = self._look(row.account)
        self._check_ratio("mmr_before", row.mmr_before, before, row)
        if row.event != "trigger":
            self.followed[row.account] = self.followed.get(row.account, 0) + 1
        self._sequence(row)
        self.check_row[row.event](row, before)
        self.state.apply(row)
        self.fund += row.fund + row.fee
        self._require("stages", self.fund >= 0, f"the fund is at {self.fund}", row)
        for account in (row.account, row.counterparty):
            self.looks.pop(account, None)
        self._check_ratio("mmr_after", row.mmr_after, self._look(row.account), row)

    def _check_ratio(self, name: str, recorded: float, look: _Margin, row: _Row) -> None:
        self.out.checked["ratios"] += 1
        if not look.agrees(recorded):
            self._breach("ratios", f"{name} is {recorded}, not {look.ratio()}", row)

    def _sequence(self, row: _Row) -> None:
        """Within a phase the accounts follow in the order of selection; the book phase has rounds."""
        stage = _STAGE.get(row.event, 2 if row.reason == "debt" else 6)
        place = (stage, self.order.get(row.account, 0))
        if place < self.place:
            self.round = self.round + 1 if stage == 3 else self.round
            rounds = int(self.venue.policy["slices_per_tick"])
            kept = stage == 3 and stage == self.place[0] and self.round < rounds
            self._require("selection", kept, "out of the order of selection", row)
        self.place = place
        if row.event not in ("trigger", "cancel"):
            self._require("stages", not self.state.open[row.account], "comes before all orders are cancelled", row)

    def _below(self, account: int) -> bool:
        """Whether the account is below auto-close; exact where float64 leaves doubt."""
        look = self._look(account)
        if min(abs(self._gap(look)), abs(look.equity)) <= TOLERANCE * look.gross:
            look = self.state.margin(account, self.tick, self.state.decimals)
        return bool(look.exposure > 0 and (self._gap(look) > 0 or look.equity <= 0))

    def _gap(self, look: _Margin) -> Any:
        """How far the net equity is below the auto-close requirement."""
        policy, of = self.venue.policy, float if isinstance(look.equity, float) else Fraction
        equity, maintenance, exposure = of(look.equity), of(look.maintenance), of(look.exposure)
        divided, lowered = maintenance / of(policy["acmf_divisor"]), maintenance - of(policy["acmf_offset"]) * exposure
        return max(divided, lowered) - equity

    def _trigger(self, row: _Row, before: _Margin) -> None:
        self._equal("ratios", "mmr_after", row, row.mmr_after, row.mmr_before)

    def _cancel(self, row: _Row, before: _Margin) -> None:
        orders, key = self.run.start["orders"], ("cancel", row.account)
        self._require("stages", row.order in self.state.open[row.account], f"order {row.order} is not open", row)
        self._require("stages", row.order > self.last.get(key, -1), f"order {row.order} is out of order", row)
        self.last[key] = row.order
        self._equal("rows", "requested", row, row.requested, int(orders["lots"][row.order]))
        self._equal("rows", "market", row, row.market, int(orders["market"][row.order]))

    def _liquidating(self, row: _Row) -> None:
        self._require("stages", row.mmr_before >= 1 - TOLERANCE, f"mmr_before {row.mmr_before} is healthy", row)

    def _close_out(self, row: _Row, before: _Margin) -> None:
        """Rows of the last phase: no position is left, and at the first of them no equity."""
        kept = not before.positions and (row.account in self.settled or before.equity <= NOISE * before.gross)
        self._require("stages", kept, f"net equity {before.equity}, {len(before.positions)} positions", row)
        self.settled.add(row.account)

    def _redeem(self, row: _Row, before: _Margin) -> None:
        self._close_out(row, before) if row.reason == "close_out" else self._liquidating(row)
        lent = self.state.lent[row.balance]
        self.last["redeem", row.balance] = (row.at, row.quanta)
        self._require("stages", row.quanta <= lent, f"{row.quanta} of {lent} quanta lent", row)

    def _convert(self, row: _Row, before: _Margin) -> None:
        if row.reason == "close_out":
            self._close_out(row, before)
        elif row.quanta < 0:
            self._liquidating(row)
        free, redeemed = self.state.free[row.balance], self.last.get(("redeem", row.balance), (0, 0))
        have = -free if row.quanta > 0 else free
        if row.quanta < 0 and redeemed[0] == row.at - 1:  # a lent quantity may be sold beside a debt in the same asset
            have = max(free - redeemed[1], 0) + redeemed[1]
        self._require("stages", abs(row.quanta) <= have, f"{row.quanta} of {free} quanta", row)
        rate = self.tick.worth("quantum", row.asset) / self.venue.quantum
        worth = _rhe(abs(row.quanta) * rate.numerator, rate.denominator)
        self._equal("cost", "cash", row, row.cash, worth if row.quanta < 0 else -worth)
        fee = _rhe(worth * self.fee.numerator, self.fee.denominator) if row.reason == "debt" else 0
        self._equal("cost", "fee", row, row.fee, fee)
        self._equal("rows", "price", row, row.price, float(self.tick.asset[row.asset]))

    # -- positions

    def _trade(self, row: _Row) -> None:
        """Cost of both sides, the price, and that the position only shrinks."""
        lots, cost = self.state.lots[row.position], self.state.cost[row.position]
        flow = row.cash - row.cost
        self._require("cost", lots * row.lots < 0 and abs(row.lots) <= abs(lots), f"{row.lots} of {lots} lots", row)
        self._equal("cost", "cost", row, row.cost, _cost_change(lots, cost, row.lots, flow))
        if row.counterparty >= 0:
            lots, cost = self.state.lots[row.counter_position], self.state.cost[row.counter_position]
            change = _cost_change(lots, cost, -row.lots, row.counter_cash - row.counter_cost)
            self._equal("cost", "counter_cost", row, row.counter_cost, change)
        per_lot = float(self.venue.quantum / self.venue.markets[row.market].step) / max(abs(row.lots), 1)
        price = abs(flow) * per_lot if flow * row.lots < 0 else -abs(flow) * per_lot
        near = abs(row.price - price) <= TOLERANCE * abs(price) + 0.51 * per_lot  # a flow is rounded to quanta
        self._require("rows", near, f"price is {row.price}, not {price}", row)

    def _slice(self, lots: int, market: int) -> int:
        policy, size = self.venue.policy, abs(lots)
        worth = self.tick.worth("lot", market)
        least = math.ceil(policy["min_slice_notional"] / worth) if worth else 1
        lots = min(max(math.floor(size * policy["slice_fraction"]), least, 1), size)
        return size if size - lots < self.venue.markets[market].min_lots else lots

    def _book(self, row: _Row, before: _Margin) -> None:
        """A slice walks the recorded book, level by level, as far as the band."""
        self._liquidating(row)
        clearly = self._gap(before) > TOLERANCE * before.gross or before.equity < -TOLERANCE * before.gross
        self._require("stages", not clearly, "the account is below auto-close", row)
        self.slices[row.position] += 1
        kept = self.slices[row.position] <= self.venue.policy["slices_per_tick"]
        self._require("book", kept, f"{self.slices[row.position]} slices in this tick", row)
        held = self.state.lots[row.position]
        self._equal("book", "requested", row, row.requested, self._slice(held, row.market))
        side = self.tick.side(row.market, 1 if held > 0 else -1)
        filled = min(row.requested, max(side.in_band - side.taken, 0))
        reason = "full" if filled == row.requested else "band" if side.in_band < side.depth[-1] else "depth"
        reason = reason if side.prices else "no_book"
        expected = "book" if filled else "expire", reason, -filled if held > 0 else filled
        self._equal("book", "event, reason and lots", row, (row.event, row.reason, row.lots), expected)
        if row.event == "book":
            self._trade(row)
            worth = self.venue.markets[row.market].worth
            money = _rhe(side.take(abs(row.lots)) * worth.numerator, worth.denominator)
            self._equal("book", "money", row, row.cash - row.cost, money if row.lots < 0 else -money)
            self._equal("cost", "fee", row, row.fee, _rhe(money * self.fee.numerator, self.fee.denominator))

    def _handed(self, row: _Row, event: str) -> _Handover:
        """Return the handover of a position, with its money fixed by the margin when the account's turn began."""
        found = self.handovers.get((event, row.position))
        if found is not None:
            return found
        key, state = (event, row.account), self.state
        if key not in self.snapshots:
            self._require("stages", self._below(row.account), "the account is not below auto-close", row)
            self.snapshots[key] = state.margin(row.account, self.tick, state.decimals)
        look, lots, quantum = self.snapshots[key], state.lots[row.position], self.venue.quantum
        part = look.positions.get(row.position, Decimal(0))
        first = part <= self.last.get(key, part) * (1 + Decimal(TOLERANCE))
        self._require("stages", first, "positions are not in the order of their maintenance margins", row)
        self.last[key] = part
        equity = Fraction(max(look.equity, Decimal(0)) if event == "backstop" else look.equity)
        share = equity * Fraction(part) / Fraction(look.maintenance) if look.maintenance else Fraction(0)
        worth = lots * self.tick.worth("lot", row.market)
        to_fund, fills = 0, list[tuple[int, int]]()
        if event == "backstop":
            to_fund = round(share * self.venue.policy["backstop_fund_share"] / quantum)
        if event == "backstop" or ("backstop", row.position) not in self.handovers:
            fills = self._allocation(row.market, abs(lots))
        if event == "adl":
            self._require("stages", not fills, f"providers could take {fills}", row)
        flow = round((worth - share) / quantum)
        return self.handovers.setdefault((event, row.position), _Handover(lots, flow, to_fund, fills))

    def _allocation(self, market: int, size: int) -> list[tuple[int, int]]:
        """Lots of each provider, in proportion to what it has room for."""
        most, lot = {}, self.tick.worth("lot", market)
        for provider in self.venue.providers:
            taken = self.taken[provider.account]
            rooms = [
                limit - used * self.venue.quantum
                for limit, used in zip(provider.limits, taken, strict=True)
                if limit is not None
            ]
            if market in provider.markets and provider.account not in self.order and lot:
                most[provider.account] = max(math.floor(min(rooms, default=UNLIMITED) / lot), 0)
        total = sum(most.values())
        if total > size:
            share = {account: size * lots // total for account, lots in most.items()}
            left = sorted(most, key=lambda account: (share[account] - most[account], account))
            for account in left[: size - sum(share.values())]:
                share[account] += 1
            most = share
        return [(account, lots) for account, lots in sorted(most.items()) if lots]

    def _handover(self, row: _Row, before: _Margin) -> None:
        """A fill of the backstop or of ADL."""
        handover, state = self._handed(row, row.event), self.state
        size, done = max(abs(handover.lots), 1), abs(row.lots)
        self._equal("stages", "requested", row, row.requested, abs(handover.lots))
        carried = [
            _rhe(money * (handover.done + done), size) - _rhe(money * handover.done, size)
            for money in (handover.flow, handover.to_fund)
        ]
        self._equal("stages", "money and the fund's", row, [row.cash - row.cost, row.fund], carried)
        handover.done += done
        self._require("touched", row.counterparty not in self.order, "the counterparty is selected", row)
        if row.event == "backstop":
            expected = handover.fills.pop(0) if handover.fills else (None, 0)
            self._equal("touched", "provider and lots", row, (row.counterparty, abs(row.lots)), expected)
            notional = abs(row.lots) * self.tick.worth("lot", row.market) / self.venue.quantum
            for at in range(3):
                self.taken.setdefault(row.counterparty, [0, 0, 0])[at] += round(notional)
        else:
            lots, theirs = state.lots[row.position], state.lots[row.counter_position]
            fits = self.winners.fits(row.market, lots, row.counter_position, state.lots)
            self._require("touched", fits, "the counterparty is not the next by score", row)
            self._equal("touched", "lots", row, abs(row.lots), min(abs(lots), max(-theirs * np.sign(lots), 0)))
        self._trade(row)

    def _unfilled(self, row: _Row, before: _Margin) -> None:
        self._handed(row, "adl")
        lots = self.state.lots[row.position]
        self._equal("stages", "requested", row, row.requested, abs(lots))
        self._require("stages", self.winners.fits(row.market, lots, -1, self.state.lots), "a counterparty is left", row)
        self.unfilled.add(row.position)

    def _cover(self, row: _Row, before: _Margin) -> None:
        """The fund, and after it the venue, pays what an account without positions owes."""
        self._close_out(row, before)
        owed = -self.state.free[self.state.settle[row.account]]
        self._equal("stages", "cash", row, row.cash, min(owed, self.fund) if row.event == "fund" else owed)
        if row.event == "shortfall":
            self._equal("stages", "the fund", row, self.fund, 0)

    def finish(self) -> None:
        """Compare the providers' ledgers, and that there is no other."""
        ledger = _ledger(self.run)
        markets, assets = len(self.venue.markets), len(self.venue.assets)
        entries = {("fund", 0), ("shortfall", 0), *(("book_lots", row) for row in range(markets))}
        entries |= {("book_quanta", row) for row in range(assets)}
        entries |= {(f"provider_{name}", row) for name in ("minute", "hour", "total") for row in self.taken}
        self.out.equal("replay", "entries of the ledger", sorted(ledger), sorted(entries))
        for account, taken in self.taken.items():
            for name, quanta in zip(("minute", "hour", "total"), taken, strict=True):
                name = f"provider_{name}"
                self.out.equal("replay", f"ledger {name} of row {account}", ledger[name, account], quanta)


def audit(
    path: str | Path, *, sample: float | None = None, progress: Callable[[int, int], None] | None = None
) -> AuditReport:
    """Check a run folder against the rules of docs/one_tick.md.

    Parameters
    ----------
    path
        The folder.
    sample
        Fraction, from 0 to 1, of the ticks without journal rows in which the selection is computed again; None: all.
    progress
        Called with the ticks done and all of them.

    Raises
    ------
    RunError
        The folder holds no run, or a file is missing or of another format.
    """
    # an altered figure may make a square root or a quotient meaningless: then the checks fail, not the arithmetic
    with localcontext(Context(prec=60)), np.errstate(all="ignore"):
        run = _read_run(Path(path))
        out = _Findings(run.ids)
        for check in (_check_rows, _check_conservation, _check_replay):
            check(run, out)
        replay, total = _Replay(run, out), run.manifest["ticks"]
        for part in _read_parts(run, out):
            for at in range(len(part.time)):
                replay.follow(_Tick(part, at, run.venue), sample)
                if progress is not None:
                    progress(part.first + at + 1, total)
        replay.finish()
        return out.report()
