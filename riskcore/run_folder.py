"""The run folder: everything a run started from, saw, did and ended with; docs/run_folder.md has its format."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from .accounts import Accounts, Orders
from .errors import RiskDataError
from .guards import Memory
from .journal import EVENTS, REASONS, ROW, Ledger, Rows, words
from .run_tables import ASKED, PARTS, START, STATE, encoded
from .tick import Books, Prices, asset_values
from .venue import Venue, load_venue

FORMAT = 3


@dataclass(frozen=True)
class Recorded:
    """One tick as the engine saw it, and what it did."""

    tick: int
    time: int
    prices: Prices
    books: Books
    rows: Rows


@dataclass(frozen=True)
class Kept:
    """The last state of a run folder."""

    venue: Venue
    accounts: Accounts
    ledger: Ledger
    memory: Memory
    seed: int
    ticks: int
    time: int | None


def manifest(path: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    RiskDataError
        The folder holds no run that this version can read, or ``run.json`` is not as it was written.
    """
    try:
        found = json.loads((path / "run.json").read_bytes())
    except OSError:
        raise RiskDataError("run", None, "must be a run folder with a run.json", value=str(path)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "run.json", "is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RiskDataError("run", "format", f"must be {FORMAT}: run again", value=str(path))
    if found.get("digest") != _digest_of(found):
        raise _damaged(path, "run.json", _ALTERED)
    for name, fits in _MANIFEST.items():
        if name not in found:
            raise _damaged(path, "run.json", f"{name} is missing")
        if not fits(found[name]):
            raise _damaged(path, "run.json", f"{name} is not what riskcore writes")
    parts = min(found["parts"], len(found["files"]))  # a part has files: no more names than that are made
    wanted = {file_of(table, part) for part in range(parts) for table in PARTS}
    wanted |= {"venue.json", *(file_of(table, found["parts"] - 1) for table in (*START, *STATE))}
    if set(found["files"]) - {file_of(table, found["parts"] - 1) for table in ASKED} != wanted:
        raise _damaged(path, "run.json", "files must be those of its parts")
    return found


def checked(path: Path) -> dict[str, Any]:
    """Read ``run.json`` and hold every file that it counts to its digest.

    Raises
    ------
    RiskDataError
        As of `manifest`, or a file is missing or not as it was written.
    """
    known = manifest(path)
    for name in known["files"]:
        _content(path, known, name)
    return known


def read_venue(path: Path) -> Venue:
    """Venue of a run folder, under whatever ADL policy."""
    content = _content(path, manifest(path), "venue.json")
    try:
        source = json.loads(content, parse_float=str)
    except (ValueError, RecursionError):
        raise _damaged(path, "venue.json", "is not JSON") from None
    if not isinstance(source, dict):
        raise _damaged(path, "venue.json", "must hold an object")
    return load_venue(source, any_adl_policy=True)


def write_part(
    path: Path,
    venue: Venue,
    accounts: Accounts,
    ledger: Ledger,
    memory: Memory,
    recorded: Sequence[Recorded],
    *,
    start: Accounts | None,
    seed: int,
    ticks: int,
    complete: bool,
    inputs: Mapping[str, Mapping[str, str]] | None,
) -> None:
    """Append what happened since the last part; `run.json`, replaced last, makes it count."""
    if start is not None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RiskDataError("run", None, "must be a new or empty folder", value=str(path))
        path.mkdir(parents=True, exist_ok=True)
        known: dict[str, Any] = {"format": FORMAT, "parts": 0, "events": 0, "files": {}, "inputs": dict(inputs or {})}
        known["providers"] = [accounts.row_of(p.account) for p in venue.backstop]
    else:
        known = manifest(path)
    part, files = known["parts"], _Files(path, known["parts"])
    if start is not None:
        files.put("venue.json", json.dumps(venue.source, indent=1).encode())
        ids = pd.DataFrame({"account": start.ids, "leverage_limit": start.leverage_limit})
        files.table("start/accounts", ids.assign(unsettled=start.columns.unsettled))
        _write_columns(files, "start", start)
        files.table("start/orders", pd.DataFrame({f.name: getattr(start.orders, f.name) for f in fields(Orders)}))
    _write_ticks(files, recorded)
    rows = np.concatenate([r.rows for r in recorded]) if recorded else np.empty(0, ROW)
    files.table("journal", _journal_frame(rows))
    _write_state(files, venue, accounts, ledger, memory)
    known |= {
        "versions": {
            "riskcore": version("riskcore"), "numba": numba.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seed": seed, "parts": part + 1, "ticks": ticks, "events": known["events"] + len(rows), "complete": complete,
        "files": {n: d for n, d in known["files"].items() if not n.startswith("state/")} | files.digests,
    }  # fmt: skip
    known["digest"] = _digest_of(known)
    fresh = path / "run.json.new"
    fresh.write_text(json.dumps(known, indent=1))
    os.replace(fresh, path / "run.json")
    for old in (path / "state").iterdir():
        if old.name != f"{part:05d}":
            shutil.rmtree(old)


def _digest_of(known: Mapping[str, Any]) -> str:
    """Digest of everything else in ``run.json``."""
    rest = {name: value for name, value in known.items() if name != "digest"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_ALTERED = "is not the file that the run wrote: restore it or run again"


def _damaged(path: Path, name: str, rule: str) -> RiskDataError:
    return RiskDataError("run", name, rule, value=str(path))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_mapping(value: object, test: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(test, value.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_MANIFEST: dict[str, Callable[[Any], bool]] = {
    "versions": lambda value: _is_mapping(value, _is_text),
    "seed": lambda value: type(value) is int,
    "parts": lambda value: _is_count(value) and value > 0,
    "ticks": _is_count,
    "events": _is_count,
    "complete": lambda value: isinstance(value, bool),
    "providers": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "inputs": lambda value: _is_mapping(value, lambda entry: _is_mapping(entry, _is_text) and "sha256" in entry),
    "files": lambda value: _is_mapping(value, _is_text),
}
"""What ``run.json`` must have beside its format and digest."""


def file_of(table: str, part: int) -> str:
    """File of a table, of a part if it has parts, in the run folder."""
    folder, _, name = table.partition("/")
    if folder == "start":
        return f"{table}.parquet"
    return f"{folder}/{part:05d}/{name}.parquet" if name else f"{folder}/{part:05d}.parquet"


def _content(path: Path, known: Mapping[str, Any], name: str) -> bytes:
    """Bytes of a file that a run counts, held to their digest."""
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise _damaged(path, name, f"cannot be read: {error.strerror}: restore it or run again") from None
    if sha256(content).hexdigest() != known["files"].get(name):
        raise _damaged(path, name, _ALTERED)
    return content


class _Files:
    """Files of a part as they are written, and their digests by name."""

    def __init__(self, path: Path, part: int) -> None:
        self._path, self._part = path, part
        self.digests: dict[str, str] = {}

    def put(self, name: str, content: bytes | memoryview) -> None:
        """Write one file."""
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.digests[name] = sha256(content).hexdigest()

    def table(self, table: str, frame: pd.DataFrame) -> None:
        """Write a declared table."""
        self.put(file_of(table, self._part), encoded(table, frame))


def _write_columns(files: _Files, folder: str, accounts: Accounts) -> None:
    columns = accounts.columns
    files.table(
        f"{folder}/positions",
        pd.DataFrame(
            {"account": accounts.position_accounts(), "market": columns.market.astype(np.int64), "lots": columns.lots,
             "cost": columns.cost, "entry": columns.entry}
        ),
    )  # fmt: skip
    files.table(
        f"{folder}/balances",
        pd.DataFrame(
            {"account": accounts.balance_accounts(), "asset": columns.asset.astype(np.int64), "quanta": columns.free,
             "lent": columns.lent}
        ),
    )  # fmt: skip


def _write_ticks(files: _Files, recorded: Sequence[Recorded]) -> None:
    ticks = np.array([r.tick for r in recorded], np.int64)
    moments = np.array([r.time for r in recorded], np.int64)
    markets = len(recorded[0].prices.mark) if recorded else 0
    assets = len(recorded[0].prices.given_asset) if recorded else 0

    def stacked(arrays: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
        return np.concatenate(arrays) if arrays else np.empty(0, dtype)

    files.table(
        "ticks",
        pd.DataFrame(
            {
                "tick": np.repeat(ticks, markets),
                "time": np.repeat(moments, markets),
                "market": np.tile(np.arange(markets), len(ticks)),
                "mark": stacked([r.prices.mark for r in recorded], float),
                "index": stacked([r.prices.index for r in recorded], float),
                "given_mark": stacked([r.prices.given_mark for r in recorded], float),
                "given_index": stacked([r.prices.given_index for r in recorded], float),
                "last_price": stacked([r.prices.last for r in recorded], float),
                "open_interest": stacked([r.prices.open_interest for r in recorded], float),
                "funding_rate": stacked([r.prices.funding_rate for r in recorded], float),
            }
        ),
    )
    prices = pd.DataFrame(
        {
            "tick": np.repeat(ticks, assets),
            "asset": np.tile(np.arange(assets), len(ticks)),
            "price": stacked([r.prices.given_asset for r in recorded], float),
        }
    )
    files.table("assets", prices.dropna())
    levels = [np.diff(r.books.offset) for r in recorded]
    side = [np.repeat(np.arange(len(n)), n) for n in levels]
    seen = [np.where(r.books.time > 0, r.books.time, r.time)[s // 2] for r, s in zip(recorded, side, strict=True)]
    files.table(
        "books",
        pd.DataFrame(
            {
                "tick": np.repeat(ticks, [int(n.sum()) for n in levels]),
                "market": stacked([s // 2 for s in side], np.int64),
                "side": stacked([1 - 2 * (s % 2) for s in side], np.int64),
                "price": stacked([r.books.price for r in recorded], np.int64),
                "lots": stacked([r.books.lots for r in recorded], np.int64),
                "book_time": stacked(seen, np.int64),
            }
        ),
    )


def _journal_frame(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame({name: rows[name] for name in ROW.names or ()})
    frame["event"], frame["reason"] = words(rows["event"], EVENTS), words(rows["reason"], REASONS)
    return frame


def _write_state(files: _Files, venue: Venue, accounts: Accounts, ledger: Ledger, memory: Memory) -> None:
    _write_columns(files, "state", accounts)
    files.table("state/accounts", pd.DataFrame({"unsettled": accounts.columns.unsettled}))
    orders = pd.DataFrame({f.name: getattr(accounts.orders, f.name) for f in fields(Orders)})
    orders.insert(0, "order", np.arange(len(orders)))
    files.table("state/orders", orders[orders["lots"] > 0])
    frames = memory.frames()
    remembered = {"premium_sum": ledger.premium_sum, "premium_count": ledger.premium_count}
    markets = pd.DataFrame({"market": np.arange(len(ledger.book_lots))} | remembered)
    frames["markets"] = markets.join(frames["markets"])
    policy = venue.policy
    if policy.slice_cooldown is not None:
        legs = sorted((account, market, time) for (account, market), time in ledger.last_slice.items())
        frames["slices"] = pd.DataFrame(legs, columns=["account", "market", "time"], dtype=np.int64)
    if policy.account_cap is not None:
        frames["sold"] = pd.DataFrame(sorted(ledger.sold.items()), columns=["account", "quanta"], dtype=np.int64)
    for name, frame in frames.items():
        files.table(f"state/{name}", frame)
    entries = [("book_lots", m, lots) for m, lots in enumerate(ledger.book_lots)]
    entries += [("book_quanta", k, quanta) for k, quanta in enumerate(ledger.book_quanta)]
    entries += [("pool", k, quanta) for k, quanta in enumerate(ledger.pool)]
    entries += [("fund", 0, ledger.fund), ("shortfall", 0, ledger.shortfall)]
    for at, provider in enumerate(venue.backstop):
        for name, taken in zip(("minute", "hour", "total"), ledger.taken[at], strict=True):
            entries.append((f"provider_{name}", accounts.row_of(provider.account), taken))
    files.table("state/ledger", pd.DataFrame(entries, columns=["ledger", "item", "value"]).astype({"value": np.int64}))


class _Reader:
    """Tables of a run folder, held to their digests and to what is declared of them."""

    def __init__(self, path: Path, venue: Venue) -> None:
        self.known, self._path = manifest(path), path
        self.sizes = {
            "market": len(venue.markets.symbol), "asset": len(venue.assets.symbol), "book": len(venue.book_symbols)
        }  # fmt: skip
        self._ids = self.table("start/accounts")["account"]
        self.sizes["account"] = len(self._ids)

    def table(self, table: str, part: int = 0) -> Table:
        """Columns of a table."""
        name = file_of(table, part)
        return decoded(table, name, _content(self._path, self.known, name), self.sizes)

    def has(self, table: str, part: int) -> bool:
        """Whether the run has a table that a figure of the policy asks for."""
        return file_of(table, part) in self.known["files"]

    def must(self, holds: object, table: str, rule: str, part: int = 0) -> None:
        """Refuse a table that breaks a rule."""
        if not holds:
            raise _damaged(self._path, file_of(table, part), rule)
