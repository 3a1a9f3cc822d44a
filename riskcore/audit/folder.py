"""Reading of a run folder: the tables of docs/run_folder.md and the words of the journal."""

from __future__ import annotations

import hashlib
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
import pyarrow as pa
import pyarrow.parquet as pq

from .findings import Findings
from .venue import RunError, Venue, read_venue

Array = npt.NDArray[Any]
Columns = dict[str, Array]

BOOK, FUND, SHORTFALL, NOBODY, POOL, ACCOUNT = -1, -2, -3, -4, -5, 0
DELISTING, GUARD, INTEREST, FUNDING, REALISATION, SETTLEMENT, REPAY, SLICES = -6, -5, -4, -3, -2, -1, 2, 3
BACKSTOP, ADL, LAST_BOOK, CLOSE_OUT, STAYS, ACTIVITY = 4, 5, 6, 7, 8, 9
"""Phases; those below 0 lie between the ticks."""


class Event(NamedTuple):
    """Declaration of an event: the values that its rows may have."""

    phase: int
    reasons: str
    other: int  # the counterparty
    rows: str  # the row numbers that it sets; of those joined by | exactly one, that with ? or not
    changes: str
    priced: bool | None  # None: some are


_ASKED = "request host"
_ENDS = "depth impact mean_mark mean_premium limit"
_STOPS = f"account_cap market_cap depth_share {_ENDS} slippage"
_FILL = "requested lots cost cash entry fee counter_cash"
_FILLS = "requested lots cost cash entry counter_cost counter_cash counter_entry"
BOOK_GUARDS = ("closed_book", "stale_book", "crossed_book")
GUARDS = (*BOOK_GUARDS, "index_update_cap", "mark_held", "index_clamp", "mean_clamp",
          "update_cap")  # fmt: skip
EVENTS = {
    "guard": Event(GUARD, " ".join(GUARDS), NOBODY, "market|asset", "", None),
    "delist": Event(DELISTING, "settlement_price", BOOK, "market", "lots cost cash entry counter_cash", True),
    "funding": Event(FUNDING, "interval rate", BOOK, "market", "cash counter_cash", True),
    "interest": Event(INTEREST, f"hour entry {_ASKED}", POOL, "asset", "quanta lent", False),
    "realize": Event(REALISATION, "interval", NOBODY, "market", "cost cash", True),
    "unsettle": Event(SETTLEMENT, "settlement close_out", NOBODY, "", "cash unsettled", False),
    "trigger": Event(0, "mmr", NOBODY, "", "", False),
    "cancel": Event(1, f"liquidation delisted {_ASKED} reduce_only", NOBODY, "market order", "requested", False),
    "skip": Event(SLICES, "throttle cooldown", NOBODY, "market|asset", "", False),
    "redeem": Event(REPAY, f"debt close_out settlement {_ASKED}", NOBODY, "asset", "quanta lent", False),
    "convert": Event(REPAY, "debt close_out settlement", BOOK, "asset", "cash fee quanta counter_cash", True),
    "harm": Event(SLICES, "fee_waived sent withheld to_backstop", NOBODY, "market|asset", "requested", True),
    "propose": Event(SLICES, f"full {_STOPS}", NOBODY, "market", "requested", None),
    "book": Event(SLICES, f"full {_STOPS} host", BOOK, "market", _FILL, True),
    "expire": Event(SLICES, f"{_STOPS} no_book conversion conversion_limit", NOBODY, "market|asset", "requested",
                    False),
    "backstop": Event(BACKSTOP, "below_auto_close escalated mmr", ACCOUNT, "market|asset", f"{_FILLS} fund quanta",
                      True),
    "adl": Event(ADL, "backstop_exhausted fund_below full_utilization", ACCOUNT, "market|asset", f"{_FILLS} lent",
                 True),
    "market_close": Event(LAST_BOOK, f"full {_ENDS} host", BOOK, "market", _FILL, True),
    "unfilled": Event(STAYS, f"no_book {_ENDS} slippage conversion conversion_limit withheld to_backstop"
                      " full_utilization no_collateral", NOBODY, "market|asset", "requested", False),
    "fund": Event(CLOSE_OUT, "bankrupt", FUND, "", "cash fund", False),
    "socialize": Event(CLOSE_OUT, "equity open_interest", ACCOUNT, "", "cash counter_cash", False),
    "open": Event(ACTIVITY, _ASKED, NOBODY, "", "", False),
    "transfer": Event(ACTIVITY, _ASKED, ACCOUNT, "asset", "quanta", False),
    "deposit": Event(ACTIVITY, _ASKED, BOOK, "asset", "quanta", False),
    "withdraw": Event(ACTIVITY, _ASKED, BOOK, "asset", "quanta", False),
    "fill": Event(ACTIVITY, _ASKED, BOOK, "market order?", "lots cost cash entry fee counter_cash fund", True),
    "place": Event(ACTIVITY, _ASKED, NOBODY, "market order", "requested", True),
    "change": Event(ACTIVITY, f"{_ASKED} reduce_only", NOBODY, "market order", "requested", True),
    "borrow": Event(ACTIVITY, _ASKED, BOOK, "asset", "quanta", False),
    "repay": Event(ACTIVITY, _ASKED, BOOK, "asset", "quanta", False),
    "lend": Event(ACTIVITY, _ASKED, NOBODY, "asset", "quanta lent", False),
    "leverage": Event(ACTIVITY, _ASKED, NOBODY, "", "", None),
    "shortfall": Event(CLOSE_OUT, "bankrupt unsettled", SHORTFALL, "", "cash counter_cash unsettled", False),
}  # fmt: skip
ACTIVE = ("request", "host", "reduce_only")
"""Reasons of rows of activity."""
# rows that belong to another phase than their event: events, reason, phase
_ELSEWHERE = (("redeem convert unsettle", "close_out", CLOSE_OUT), ("redeem convert", "settlement", SETTLEMENT),
              ("interest", "entry", SETTLEMENT), ("unfilled", "full_utilization", ADL),
              ("cancel", "delisted", DELISTING))  # fmt: skip
MONEY = ("cost", "cash", "entry", "fee", "unsettled", "counter_cost", "counter_cash", "counter_entry", "fund")
"""Changes in quanta of the row's settle asset; a row has one if its event may have one of them."""
CHANGES = ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost",
           "counter_cash", "counter_entry", "fund")  # fmt: skip
NAMED = ("account", "counterparty", "market", "asset", "settle", "order")
PAYING = np.array([bool(set(MONEY) & set(event.changes.split())) for event in EVENTS.values()])
"""By event, whether its rows have a settle asset."""
WORDS = {
    "event": tuple(EVENTS),
    "reason": tuple(dict.fromkeys(reason for event in EVENTS.values() for reason in event.reasons.split())),
}

FORMAT = 6
AMOUNT = 2**62
"""Where amounts, their changes and their sums end."""


class _Kind(NamedTuple):
    """Kind of a column; ``least`` and ``most`` bound whole numbers, and floats that must not be missing."""

    type: pa.DataType
    least: float = -(2**63)
    most: float = 2**63 - 1
    missing: bool = False


_WHOLE, _FLOAT = pa.int64(), pa.float64()
_KINDS = {
    "": _Kind(_WHOLE),
    "amount": _Kind(_WHOLE, -AMOUNT, AMOUNT),
    "natural": _Kind(_WHOLE, 0),
    "level": _Kind(_WHOLE, 1, AMOUNT),
    "size": _Kind(_WHOLE, 0, AMOUNT),
    "side": _Kind(_WHOLE, -1, 1),
    "number": _Kind(_FLOAT, missing=True),
    "limit": _Kind(_FLOAT, 0.001, float("inf")),
    "flag": _Kind(pa.bool_()),
    "text": _Kind(pa.string()),
    "id": _Kind(pa.string()),  # or whole numbers
    "word": _Kind(pa.string()),
}
# columns of each table with their kinds
_TABLES = {
    "accounts": "account:id leverage_limit:limit owner:id",
    "positions": "account market lots:amount cost:amount entry:amount",
    "balances": "account asset quanta:amount lent:size unsettled:amount",
    "orders": "account market side:side price:level lots:size reduce_only:flag id:text",
    "ticks": "tick time:natural market mark:number index:number given_mark:number given_index:number"
    " last_price:number given_low:number given_high:number open_interest:number funding_rate:number",
    "assets": "tick asset price:number given_price:number",
    "books": "tick market side:side price:level lots:level book_time:natural",
    "funding": "tick time:natural market rate:number",
    "venue_changes": "tick time:natural market asset field:text value:text",
    "journal": "tick time event:word reason:word account counterparty market asset settle order "
    + " ".join(CHANGES)
    + " price:number mmr_before:number mmr_after:number",
}
_STATE = {
    "positions": _TABLES["positions"],
    "balances": _TABLES["balances"],
    "orders": "order " + _TABLES["orders"],
    "limits": "account leverage_limit:limit",
    "proposals": "account market lots:amount price:natural fee_num:natural fee_den event:word",
    "ledger": "ledger:text item value",
    "markets": "market premium_sum:number premium_count mark:number mark_time index:number index_time basis:number"
    " basis_time sample_mark sample_premium open_interest:number open_lots funding_scheduled:flag delisted:flag",
    "assets": "asset price:number time own:flag",
    "asset_samples": "second count asset price:number",
    "samples": "second count market mark premium",
}
# tables of the last state that a figure of the policy asks for
_OPTIONAL = {
    "slices": ("slice_cooldown", "account market time"),
    "sold": ("account_cap", "account quanta"),
    "books": ("liquidation_interval refill_half_life", "market side price lots consumed_lots decay_time"),
}  # fmt: skip
_START = ("accounts", "positions", "balances", "orders")
_PARTS = ("ticks", "assets", "books", "opened", "orders", "funding", "venue_changes", "journal")


def is_event(journal: Columns, events: str) -> Array:
    """Rows of these events."""
    return np.isin(journal["event"], [WORDS["event"].index(name) for name in events.split()])


def is_activity(journal: Columns) -> Array:
    """Rows of what was asked for between two ticks, and of what followed from it."""
    return np.isin(journal["reason"], [WORDS["reason"].index(reason) for reason in ACTIVE])


@dataclass(frozen=True)
class Run:
    """All of a run folder but its prices and books.

    The journal is completed by the rows of `start` that it changes: position, counter_position, balance and
    counter_balance, and the balance rows of the settle asset of the row, money and counter_money.
    """

    path: Path
    manifest: dict[str, Any]
    venue: Venue
    ids: Array
    numbers: list[int]  # of the accounts in the folder, in the order of opening; rows here ascend by id
    start: dict[str, Columns]
    orders: Columns  # those of the start, and then those that were placed, by number
    order_position: Array  # position row of every order
    position_balance: Array  # balance row of the settle asset of every position's market
    journal: Columns
    state: dict[str, Columns]
    source: dict[str, Any]  # the venue's JSON
    funding: Columns  # entries of the funding table
    changes: Columns  # venue changes

    @cached_property
    def usable(self) -> Array:
        """Whether a row names only accounts, positions, balances and orders that there are, and no change wraps."""
        j, accounts = self.journal, len(self.ids)
        guards = is_event(j, "guard")
        fine = np.where(guards, j["account"] == -1, (j["account"] >= 0) & (j["account"] < accounts))
        fine &= (j["counterparty"] >= POOL) & (j["counterparty"] < accounts)
        known = (j["order"] >= 0) & (j["order"] < len(self.order_position))
        fine &= (j["order"] < 0) | (np.append(self.order_position, -1)[np.where(known, j["order"], -1)] >= 0)
        paying = PAYING[j["event"]]
        fine &= ~paying | (j["money"] >= 0)
        fine &= ~paying | (j["counterparty"] < 0) | (j["counter_money"] >= 0)
        for events, name in (
            ("funding realize book market_close fill delist place change propose", "position"),
            ("interest redeem convert transfer deposit withdraw borrow repay lend", "balance"),
            ("transfer", "counter_balance"),
            ("cancel place change", "order"),
        ):
            fine &= ~is_event(j, events) | (j[name] >= 0)
        handed, lots, quanta = is_event(j, "backstop adl"), j["market"] >= 0, j["asset"] >= 0
        fine &= ~handed | lots | quanta
        for name in ("position", "counter_position"):
            fine &= ~(handed & lots) | (j[name] >= 0)
        for name in ("balance", "counter_balance"):
            fine &= ~(handed & quanta) | (j[name] >= 0)
        fine &= ~is_event(j, "skip expire harm unfilled") | (j["position"] >= 0) | (j["balance"] >= 0)
        for name in CHANGES:
            fine &= (j[name] <= AMOUNT) & (j[name] >= -AMOUNT)
        return np.asarray(fine)

    @cached_property
    def phase(self) -> Array:
        """Phase that a row belongs to."""
        phase = np.array([event.phase for event in EVENTS.values()])[self.journal["event"]]
        phase[is_event(self.journal, "skip expire harm") & (self.journal["asset"] >= 0)] = REPAY
        phase[is_event(self.journal, "unfilled") & (self.journal["market"] >= 0)] = LAST_BOOK
        for events, reason, other in _ELSEWHERE:
            phase[is_event(self.journal, events) & (self.journal["reason"] == WORDS["reason"].index(reason))] = other
        phase[is_activity(self.journal)] = ACTIVITY
        return phase

    @cached_property
    def owner(self) -> Array:
        """Code of the owner of every account."""
        return pd.factorize(self.start["accounts"]["owner"])[0]

    @cached_property
    def settle_row(self) -> Array:
        """Balance row of the settle asset of every account."""
        return np.flatnonzero(self.start["balances"]["asset"] == self.venue.settle)

    @property
    def opening_fund(self) -> list[int]:
        """Quanta of every asset in the fund at the start."""
        fund = [0] * len(self.venue.assets)
        fund[self.venue.settle] = round(self.venue.policy["fund"] / self.venue.quantum)
        return fund

    @cached_property
    def ledger(self) -> Counter[tuple[str, int]]:
        """Entries of the last state's ledger, 0 where there is none."""
        names, items, values = (column.tolist() for column in self.state["ledger"].values())
        return Counter(dict(zip(zip(names, items, strict=True), values, strict=True)))


def read_run(path: Path, out: Findings) -> Run:
    """Read a run folder, all but its prices and books; a file that is not the one that was written is a breach.

    Raises
    ------
    RunError
        The folder holds no run, or a file cannot be read or used.
    """
    manifest = _read_manifest(path, out)
    raw = read_json(path / "venue.json")
    start = {name: _read_table(path / f"start/{name}.parquet", _TABLES[name]) for name in _START}
    ids, (positions, balances, orders) = start["accounts"]["account"], (start[name] for name in _START[1:])
    known = len(ids)
    if not all(one < two for one, two in pairwise(ids.tolist())):
        raise RunError(f"{path}/start/accounts.parquet: accounts must ascend")
    try:
        venue = read_venue(raw, ids, manifest["providers"])
    except RunError as error:
        raise RunError(f"{path}/venue.json: {error}") from None
    _check_files(path, manifest, venue, out)
    lengths = (_length(path / f"ticks/{part:05d}.parquet") for part in range(manifest["parts"]))
    if sum(lengths) != manifest["ticks"] * len(venue.markets):  # before anything is as long as run.json says
        raise RunError(f"{path}/run.json: ticks must be as many as there are in the tables of its parts")
    for name, item, count in (("positions", "market", len(venue.markets)), ("balances", "asset", len(venue.assets))):
        _check_start(path, name, start[name], item, count, len(ids))
        for provider in venue.providers:
            if np.count_nonzero(start[name]["account"] == provider) != count:
                raise RunError(f"{path}/start/{name}.parquet: a provider must have a row of every {item}")
    if balances["unsettled"][~np.isin(balances["asset"], venue.money)].any():
        raise RunError(f"{path}/start/balances.parquet: unsettled must be 0 of an asset that no market settles in")
    if np.count_nonzero(balances["asset"] == venue.settle) != len(ids):
        raise RunError(f"{path}/start/balances.parquet: every account must have a row of the settle asset")
    settles = np.array([market.settle for market in venue.markets])
    position_balance = _money_row(venue, balances, positions["account"], settles[positions["market"]])
    if (position_balance < 0).any():
        raise RunError(f"{path}/start/balances.parquet: a position needs a row of the settle asset of its market")
    order_position = _row_of(positions, "market", orders["account"], orders["market"])
    if (order_position < 0).any() or not orders["side"].all():
        raise RunError(f"{path}/start/orders.parquet: an order needs a position row, and side 1 or -1")
    placed = _read_joined(path, manifest, "orders")
    if not placed["side"].all():
        raise RunError(f"{path}/orders: an order needs side 1 or -1")
    every_order = {name: np.concatenate([column, placed[name]]) for name, column in orders.items()}
    if np.bincount(order_position, orders["lots"]).max(initial=0) > AMOUNT:
        raise RunError(f"{path}/start/orders.parquet: the orders of an account must be at most 2**62 lots")
    journal = _read_joined(path, manifest, "journal")
    last = path / f"state/{manifest['parts'] - 1:05d}"
    tables = _STATE | {name: columns for name, (figures, columns) in _OPTIONAL.items() if venue.has_any(figures)}
    state = {name: _read_table(last / f"{name}.parquet", columns) for name, columns in tables.items()}
    numbers, active, opens = np.arange(known), is_activity(journal), is_event(journal, "open")
    _read_opened(path, manifest, start["accounts"])
    opened = len(start["accounts"]["account"]) - known
    out.equal("rows", "rows of activity and activity of run.json", int(active.sum()), manifest["activity"])
    out.equal("rows", "rows open and accounts that were opened", int(opens.sum()), opened)
    places = int(is_event(journal, "place").sum())
    out.equal("rows", "rows place and orders that were placed", places, len(placed["lots"]))
    if opened or active.any():
        numbers = _extend(known, start, every_order, journal, state, settles, venue.settle, len(venue.assets))
        ids, (positions, balances) = start["accounts"]["account"], (start[name] for name in _START[1:3])
        manifest["providers"] = np.argsort(numbers)[manifest["providers"]].tolist()
        venue = read_venue(raw, ids, manifest["providers"])
        position_balance = _money_row(venue, balances, positions["account"], settles[positions["market"]])
        order_position = _row_of(positions, "market", every_order["account"], every_order["market"])
    journal["position"] = _row_of(positions, "market", journal["account"], journal["market"])
    journal["counter_position"] = _row_of(positions, "market", journal["counterparty"], journal["market"])
    journal["balance"] = _row_of(balances, "asset", journal["account"], journal["asset"])
    journal["counter_balance"] = _row_of(balances, "asset", journal["counterparty"], journal["asset"])
    for name, owner in (("money", "account"), ("counter_money", "counterparty")):
        journal[name] = _money_row(venue, balances, journal[owner], journal["settle"])
    funding, changes = (_read_joined(path, manifest, name) for name in ("funding", "venue_changes"))
    return Run(
        path, manifest, venue, ids, numbers.tolist(), start, every_order, order_position, position_balance, journal,
        state, raw, funding, changes,
    )  # fmt: skip


_MOVES = "transfer deposit withdraw borrow"


def _read_opened(path: Path, manifest: dict[str, Any], accounts: Columns) -> None:
    """Add the accounts that were opened, in the order of opening; an owner that is an account must be its own."""
    if accounts["owner"].dtype != accounts["account"].dtype:
        raise RunError(f"{path}/start/accounts.parquet: account and owner must be of one kind")
    owned = set(accounts["account"][accounts["owner"] != accounts["account"]].tolist())
    if owned and not owned.isdisjoint(accounts["owner"].tolist()):
        raise RunError(f"{path}/start/accounts.parquet: an owner that is an account must be its own owner")
    ids, parts = set(accounts["account"].tolist()), [accounts]
    for part in range(manifest["parts"]):
        name = f"{path}/opened/{part:05d}.parquet"
        opened = _read_table(Path(name), _TABLES["accounts"])
        if not len(opened["account"]):
            continue
        if any(values.dtype != accounts[column].dtype for column, values in opened.items()):
            raise RunError(f"{name}: account and owner must be of one kind with the start's")
        for account, owner in zip(opened["account"].tolist(), opened["owner"].tolist(), strict=True):
            if account in ids:
                raise RunError(f"{name}: an account must be opened once")
            if owner in owned:
                raise RunError(f"{name}: an owner that is an account must be its own owner")
            ids.add(account)
            owned |= {account} - {owner}
        parts.append(opened)
    accounts |= {name: np.concatenate([part[name] for part in parts]) for name in accounts}


def _extend(
    first: int, start: dict[str, Columns], orders: Columns, journal: Columns, state: dict[str, Columns],
    settles: Array, settle: int, assets: int,
) -> Array:  # fmt: skip
    """Add rows of nothing that activity named, and number accounts, of which the start had the `first`, by their ids.

    Return the number in the folder of each account.
    """
    accounts = start["accounts"]
    ids = accounts["account"].tolist()
    count, numbers = len(ids), np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    row = np.argsort(numbers)
    start["accounts"] = {name: values[numbers] for name, values in accounts.items()}
    tables = [orders, *(start[name] for name in _START[1:])] + [
        columns for name, columns in state.items() if "account" in columns and name != "accounts"
    ]
    for columns, name in [(one, "account") for one in (*tables, journal)] + [(journal, "counterparty")]:
        known = (columns[name] >= 0) & (columns[name] < count)
        columns[name] = np.where(known, row[np.where(known, columns[name], 0)], columns[name])
    of_provider = np.array([name.startswith("provider") for name in state["ledger"]["ledger"].tolist()], bool)
    items = state["ledger"]["item"]
    state["ledger"]["item"] = np.where(of_provider, row[np.where(of_provider, items, 0) % count], items)
    fills, moves = is_event(journal, "fill place") & (journal["market"] < len(settles)), is_event(journal, _MOVES)
    fills &= journal["market"] >= 0
    asked = [
        (journal["account"][fills], journal["market"][fills]),
        (journal["account"][fills], settles[journal["market"][fills]]),
        (journal["account"][moves], journal["asset"][moves]),
        (journal["counterparty"][moves], journal["asset"][moves]),
        (row[first:], np.full(count - first, settle)),
    ]
    for of, item, most, keys in (
        ("positions", "market", len(settles), asked[:1]),
        ("balances", "asset", assets, asked[1:]),
    ):
        owner, kind = (np.concatenate(parts) for parts in zip(*keys, strict=True))
        fits = (owner >= 0) & (owner < count) & (kind >= 0) & (kind < most)
        _insert(start[of], item, owner[fits], kind[fits])
        _insert(state[of], item, owner[:0], kind[:0])
    return numbers


def _insert(columns: Columns, item: str, owner: Array, kind: Array) -> None:
    """Add rows of nothing for pairs of an account and an item that have none, and order the rows by both."""
    width = 1 << 20
    known = columns["account"] * width + columns[item]
    key = np.union1d(known, owner * width + kind)
    place = np.searchsorted(key, known)
    for name, values in columns.items():
        columns[name] = np.zeros(len(key), values.dtype)
        columns[name][place] = values
    columns["account"], columns[item] = np.divmod(key, width)


def read_json(path: Path) -> Any:
    """Content of a JSON file, decimals as text."""
    try:
        return json.loads(path.read_bytes(), parse_float=str)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RunError(f"{path}: is not JSON") from None


def _read_manifest(path: Path, out: Findings) -> dict[str, Any]:
    """Read run.json, which keeps its own digest."""
    found = read_json(path / "run.json")

    def wrong(rule: str) -> RunError:
        return RunError(f"{path}/run.json: {rule}")

    if not isinstance(found, dict) or found.get("format") != FORMAT:
        written = found.get("format") if isinstance(found, dict) else None
        raise wrong(f"format must be {FORMAT}, not {written if type(written) is int else 'none'}")
    for name, kind, words in (
        ("parts", int, "a whole number"), ("ticks", int, "a whole number"), ("events", int, "a whole number"),
        ("activity", int, "a whole number"), ("seed", int, "a whole number"),
        ("complete", bool, "true or false"), ("book", str, "text"), ("providers", list, "a list"),
        ("files", dict, "an object"), ("inputs", dict, "an object"), ("versions", dict, "an object"),
        ("digest", str, "text"),
    ):  # fmt: skip
        if type(found.get(name)) is not kind:
            raise wrong(f"{name} must be {words}")
    for name, least in (("parts", 1), ("ticks", 0), ("events", 0), ("activity", 0)):
        if not least <= found[name] < AMOUNT:
            raise wrong(f"{name} must be at least {least}, and less than 2**62")
    if found["book"] not in ("engine", "host"):
        raise wrong("book must be engine or host")
    if not all(type(row) is int for row in found["providers"]):
        raise wrong("providers must be rows of accounts")
    if not all(isinstance(digest, str) for digest in found["files"].values()):
        raise wrong("every file must have a digest")
    rest = {name: value for name, value in found.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    out.equal("files", "run.json: digest", found["digest"], hashlib.sha256(text.encode()).hexdigest())
    return found


def _check_files(path: Path, manifest: dict[str, Any], venue: Venue, out: Findings) -> None:
    """Compare the files of the run with what run.json says of them."""
    listed, last = manifest["files"], manifest["parts"] - 1
    # a part has files: no more names are made than there can be files
    parts = range(min(manifest["parts"], len(listed) + 1))
    names = ["venue.json", *(f"start/{name}.parquet" for name in _START)]
    names += [f"{table}/{part:05d}.parquet" for part in parts for table in _PARTS]
    optional = [name for name, (figures, _) in _OPTIONAL.items() if venue.has_any(figures)]
    names += [f"state/{last:05d}/{name}.parquet" for name in (*_STATE, *optional)]
    for name in sorted(listed.keys() - set(names)):
        out.breach("files", f"{name!a} is no file of the run, but run.json lists it")
    for name in names:
        try:
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RunError(f"{path}/{name}: cannot be read: {error.strerror}") from None
        out.checked["files"] += 1
        if name not in listed:
            out.breach("files", f"{name} is not listed in run.json")
        elif listed[name] != digest:
            out.breach("files", f"{name} does not have the recorded digest")


def _length(path: Path) -> int:
    """Rows of a Parquet table."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _check_start(path: Path, name: str, table: Columns, item: str, count: int, accounts: int) -> None:
    """Refuse positions or balances that are not in order."""
    fits = (table[item] >= 0) & (table[item] < count) & (table["account"] >= 0) & (table["account"] < accounts)
    if not fits.all() or (np.diff(table["account"] * count + table[item]) <= 0).any():
        raise RunError(f"{path}/start/{name}.parquet: must ascend by account and {item}, all of them known")


def _read_joined(path: Path, manifest: dict[str, Any], table: str) -> Columns:
    """Rows of a table of all parts."""
    parts = range(manifest["parts"])
    rows = [_read_table(path / f"{table}/{part:05d}.parquet", _TABLES[table]) for part in parts]
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def _read_table(path: Path, columns: str) -> Columns:
    """Columns of a Parquet table by name; words become their numbers in `WORDS`."""
    kinds = {name: _KINDS[kind] for name, _, kind in (column.partition(":") for column in columns.split())}
    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if sorted(table.column_names) != sorted(kinds):
        found = " ".join(map(ascii, table.column_names))
        raise RunError(f"{path}: its columns must be {' '.join(kinds)}, not {found}")
    return {name: _values(path, name, kind, table.column(name)) for name, kind in kinds.items()}


def _values(path: Path, name: str, kind: _Kind, column: pa.ChunkedArray) -> Array:
    """Values of a column of a kind."""
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_large_string(found) or (pa.types.is_null(found) and not len(column)):
        found = pa.string()  # of no rows pandas does not tell that they are text
    if found != kind.type and not (kind is _KINDS["id"] and found == _WHOLE):
        raise RunError(f"{path}: {name} must hold {kind.type}, not {column.type}")
    if column.null_count and not kind.missing:
        raise RunError(f"{path}: {name} must not be missing")
    if kind is _KINDS["word"]:
        codes = pd.Categorical(column.to_pandas().astype(object), categories=list(WORDS[name])).codes.astype(np.int64)
        if (codes < 0).any():
            raise RunError(f"{path}: {name} must be one of {' '.join(WORDS[name])}")
        return codes
    values: Array = column.to_numpy()
    if found in (_WHOLE, _FLOAT) and not kind.missing and not ((values >= kind.least) & (values <= kind.most)).all():
        raise RunError(f"{path}: {name} must be from {kind.least} to {kind.most}")
    return values


def _row_of(table: Columns, item_name: str, owner: Array, item: Array) -> Array:
    """Row of a table in which each pair of an account and an item stands, -1 where it does not."""
    rows = pd.MultiIndex.from_arrays([table["account"], table[item_name]])
    return rows.get_indexer(pd.MultiIndex.from_arrays([owner, item]))


def _money_row(venue: Venue, balances: Columns, owner: Array, asset: Array) -> Array:
    """Balance row of each pair of an account and a settle asset, -1 where there is none."""
    of_venue = np.flatnonzero(balances["asset"] == venue.settle)  # every account has one: no search
    rows, usual = np.full(len(owner), -1), (asset == venue.settle) & (owner >= 0) & (owner < len(of_venue))
    rows[usual] = of_venue[owner[usual]]
    others = np.flatnonzero((asset >= 0) & (asset != venue.settle))
    if len(others):
        rows[others] = _row_of(balances, "asset", owner[others], asset[others])
    return rows


class Part(NamedTuple):
    """One part of a run: its tables, and the inputs, with a row for every tick and a column for every item.

    The rows may also be those of the instants of some of its ticks, each tick last among its own (`instants`).
    """

    venue: Venue
    first: int  # the tick with which the tables begin
    width: int  # markets that may have a book
    ticks: Columns
    given: Columns
    books: Columns
    book: Array  # number of the book, by tick, market and side, of each of its levels
    number: Array  # the tick of every row
    is_tick: Array
    update: Array  # whether a price in between is an update
    time: Array
    mark: Array
    indexes: Array
    given_mark: Array
    given_index: Array
    given_low: Array
    given_high: Array
    open_interest: Array
    funding_rate: Array
    last_price: Array
    given_asset: Array
    own_asset: Array  # the given prices after their guards, and those that are held
    asset: Array

    def cut(self, start: int, stop: int, venue: Venue) -> Part:
        """The ticks from one row to another, with a venue."""
        a, b = self.first + start, self.first + stop
        given, books = ((table["tick"] >= a) & (table["tick"] < b) for table in (self.given, self.books))
        markets = self.mark.shape[1]
        by_tick = {name: value[start:stop] for name, value in self._asdict().items() if name in _BY_TICK}
        return self._replace(
            venue=venue,
            first=a,
            ticks={name: values[start * markets : stop * markets] for name, values in self.ticks.items()},
            given={name: values[given] for name, values in self.given.items()},
            books={name: values[books] for name, values in self.books.items()},
            book=self.book[books],
            **by_tick,
        )

    def levels(self, tick: int, market: int, side: int) -> tuple[list[int], list[int]]:
        """Prices and lots of the bids (1) or asks (-1) of a market."""
        number = (tick * self.width + market) * 2 + (side < 0)
        a, b = np.searchsorted(self.book, [number, number + 1])
        return self.books["price"][a:b].tolist(), self.books["lots"][a:b].tolist()


_BY_TICK = {
    "number", "is_tick", "update", "time", "mark", "indexes", "given_mark", "given_index", "given_low", "given_high",
    "open_interest", "funding_rate", "last_price", "given_asset", "own_asset", "asset",
}  # fmt: skip


def read_whole_parts(run: Run) -> Iterator[Part]:
    """Read the prices and books of a run, one part after another."""
    first = 0
    for number in range(run.manifest["parts"]):
        part = _read_part(run, number, first)
        yield part
        first += len(part.time)


def _read_part(run: Run, number: int, first: int) -> Part:
    venue, name = run.venue, f"{number:05d}.parquet"
    markets, assets, width = len(venue.markets), len(venue.assets), venue.books
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
    for kind, table, item, items in (("assets", given, "asset", assets), ("books", books, "market", width)):
        fits = (table["tick"] >= first) & (table["tick"] < first + count)
        if not (fits & (table[item] >= 0) & (table[item] < items)).all():
            raise RunError(f"{run.path}/{kind}/{name}: must be of the ticks of its part and of the venue")
    if not books["side"].all():
        raise RunError(f"{run.path}/books/{name}: side must be 1 or -1")
    book = (books["tick"] * width + books["market"]) * 2 + (books["side"] < 0)
    given_asset, own_asset = np.full((2, count, assets), np.nan)
    for prices, name in ((given_asset, "given_price"), (own_asset, "price")):
        prices[given["tick"] - first, given["asset"]] = _usable(given[name], 0.0)
    shown = (
        _usable(ticks[name], least).reshape(count, markets)
        for name, least in (
            ("mark", 0.0), ("index", 0.0), ("open_interest", -1.0), ("funding_rate", -np.inf), ("last_price", 0.0),
            ("given_low", 0.0), ("given_high", 0.0),
        )
    )  # fmt: skip
    mark, index, interest, rate, last, low, high = shown
    return Part(
        venue=venue,
        first=first,
        width=width,
        ticks=ticks,
        given=given,
        books=books,
        book=book,
        number=np.arange(first, first + count),
        is_tick=np.ones(count, bool),
        update=np.ones(count, bool),
        time=ticks["time"][::markets],
        mark=mark,
        indexes=index,
        given_mark=ticks["given_mark"].reshape(count, markets),
        given_index=ticks["given_index"].reshape(count, markets),
        given_low=low,
        given_high=high,
        open_interest=interest,
        funding_rate=rate,
        last_price=last,
        given_asset=given_asset,
        own_asset=own_asset,
        asset=all_prices(venue, mark, index, own_asset),
    )


def _usable(values: Array, least: float) -> Array:
    """Values above the least that are finite; the others, which break the rule of prices, are left out."""
    return np.where(np.isfinite(values) & (values > least), values, np.nan)


def all_prices(venue: Venue, mark: Array, index: Array, given: Array) -> Array:
    """Price of every asset: 1, the given one, or that of the first market on it which has an index or a mark.

    A market's price counts in units of its quote asset, which must have a price by then.
    """
    asset, based = given.copy(), np.where(np.isnan(index), mark, index)
    asset[:, venue.settle] = 1
    rows = {listed.symbol: row for row, listed in enumerate(venue.assets)}
    for m, market in enumerate(venue.markets):
        if (row := rows.get(market.base)) is not None:
            price = based[:, m] if market.quote < 0 else based[:, m] * asset[:, market.quote]
            asset[:, row] = np.where(np.isnan(asset[:, row]), price, asset[:, row])
    return asset
