"""The run folder: everything a run started from, saw, did and ended with; docs/run_folder.md has its format."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from .accounts import Accounts, Orders
from .disk import one_writer, sync_folder, write_synced
from .errors import RiskDataError
from .guards import SECONDS_OF_SAMPLES, Memory
from .journal import EVENT, EVENTS, NO_ACCOUNT, REASONS, ROW, Ledger, Rows, words
from .run_tables import ASKED, PARTS, START, STATE, Table, count_rows, decoded, encoded
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

    @property
    def nbytes(self) -> int:
        """Memory that it takes, about: the objects, a tick's prices of markets and assets, its books and rows."""
        markets, assets, books = 8 * self.prices.mark.nbytes, 2 * self.prices.given_asset.nbytes, self.books
        return 4_000 + markets + assets + 2 * books.price.nbytes + 2 * books.offset.nbytes + self.rows.nbytes


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
    digest: str  # of the run.json that it was read by


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
        raise _damaged(path, "run.json", "must be JSON") from None
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


def opened(path: Path) -> Reader:
    """Return the reader of a run folder, having held every file that it counts to its digest.

    Raises
    ------
    RiskDataError
        As of `manifest`, or a file is missing or not as it was written.
    """
    reader = Reader(path)
    for name in reader.known["files"]:
        _content(path, reader.known, name)
    return reader


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Be the only one who writes a run folder, and begin with no more in it than its run.json counts.

    Raises
    ------
    RiskDataError
        Another process writes it, or it holds what no run wrote.
    """
    _counted(path)  # nothing is written into a folder of something else
    if (run := holding(path.resolve())) is not None:
        raise RiskDataError("run", None, f"must not be in another run's folder, {run}", value=str(path))
    path.mkdir(parents=True, exist_ok=True)
    with one_writer(path, _LOCK):
        _tidy(path, _counted(path))
        yield


def holding(path: Path) -> Path | None:
    """Run folder in which a path lies, or None."""
    for folder in path.parents:
        run = os.path.exists(folder / "run.json") and os.path.exists(folder / "venue.json")
        if run or os.path.exists(folder / _LOCK):
            return folder
    return None


def _counted(path: Path) -> set[str]:
    """Files that the run of a folder counts: none of a new or empty one, or of a first save that was cut."""
    if (path / "run.json").exists():
        return set(manifest(path)["files"])
    if not path.exists() and not path.is_symlink():
        return set()
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        if names <= {_LOCK} or (_FRESH in names and all(_is_ours(path, file) for file in path.rglob("*"))):
            return set()
    raise RiskDataError("run", None, "must be a new or empty folder", value=str(path))


def _is_ours(path: Path, file: Path) -> bool:
    """Whether a first save may have written the file or folder."""
    return not file.is_symlink() and file.relative_to(path).as_posix() in _OF_FIRST_SAVE


def _tidy(path: Path, counted: set[str]) -> None:
    """Remove what a save that was cut left: tables that run.json does not count."""
    for file in sorted(path.glob("*/**/*.parquet")):
        name = file.relative_to(path).as_posix()
        if name not in counted and _TABLE_FILE.fullmatch(name):
            file.unlink()
    if counted:
        (path / _FRESH).unlink(missing_ok=True)
    for folder in (path / "state").glob("*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write_part(
    path: Path,
    venue: Venue,
    accounts: Accounts,
    ledger: Ledger,
    memory: Memory,
    recorded: Sequence[Recorded],
    *,
    start: Accounts | None,
    after: str | None,
    seed: int,
    ticks: int,
    complete: bool,
    inputs: Mapping[str, Mapping[str, str]] | None,
) -> str:
    """Append what happened since the last part; `run.json`, replaced last, makes it count.

    Parameters
    ----------
    start
        The accounts that the run started from, for the first part.
    after
        The digest of the last part's `run.json`, for the others.

    Returns
    -------
    str: the digest of this part's `run.json`.

    Raises
    ------
    RiskDataError
        The folder holds something else, another process writes it, or it has parts of which the caller does not know.
    """
    with writing(path):
        if start is None:
            known = manifest(path)
            if known["digest"] != after:
                rule = "the run has gone on since this engine was saved or resumed: resume it again"
                raise RiskDataError("run", None, rule, value=str(path))
            if inputs is not None:
                known["inputs"] = dict(inputs)
        else:
            if (path / "run.json").exists():
                raise RiskDataError("run", None, "must be a new or empty folder", value=str(path))
            known = {"format": FORMAT, "parts": 0, "events": 0, "files": {}, "inputs": dict(inputs or {})}
            known["providers"] = [accounts.row_of(p.account) for p in venue.backstop]
            write_synced(path / _FRESH, b"")  # the sign of a first save, until it becomes run.json
            sync_folder(path)
        files = _Files(path, known["parts"])
        if start is not None:
            _write_start(files, venue, start)
        _write_ticks(files, recorded)
        rows = np.concatenate([r.rows for r in recorded]) if recorded else np.empty(0, ROW)
        files.table("journal", _journal_frame(rows))
        _write_state(files, venue, accounts, ledger, memory)
        files.sync()
        known |= {
            "versions": {
                "riskcore": version("riskcore"), "numba": numba.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "seed": seed, "parts": known["parts"] + 1, "ticks": ticks, "events": known["events"] + len(rows),
            "complete": complete,
            "files": {n: d for n, d in known["files"].items() if not n.startswith("state/")} | files.digests,
        }  # fmt: skip
        known["digest"] = _digest_of(known)
        write_synced(path / _FRESH, json.dumps(known, indent=1).encode())
        os.replace(path / _FRESH, path / "run.json")
        sync_folder(path)
        _tidy(path, set(known["files"]))
        return str(known["digest"])


PAGES = ("report.html", "adl-study.html")
"""Files that commands put into a run folder beside the run."""

_LOCK, _FRESH = "run.lock", "run.json.new"


def _digest_of(known: Mapping[str, Any]) -> str:
    """Digest of everything else in ``run.json``."""
    rest = {name: value for name, value in known.items() if name != "digest"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_ALTERED = "is not the file that the run wrote: restore it or run again"


def _damaged(path: Path, name: str, rule: str) -> RiskDataError:
    return RiskDataError("run", name, rule, value=str(path))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_mapping(value: Any, test: Callable[[Any], bool]) -> bool:
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
    "inputs": lambda value: _is_mapping(value, lambda entry: _is_mapping(entry, _is_text) and "sha256" in dict(entry)),
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


_TABLES = (*START, *PARTS, *STATE, *ASKED)
_FIRST_TABLES = [PurePosixPath(file_of(table, 0)) for table in _TABLES]
_OF_FIRST_SAVE = {_LOCK, _FRESH, "venue.json"} | {str(of) for file in _FIRST_TABLES for of in (file, *file.parents)}
_TABLE_FILE = re.compile("|".join(re.escape(file_of(table, 0)).replace("00000", r"\d{5,}") for table in _TABLES))


class _Files:
    """Files of a part as they are written, and their digests by name."""

    def __init__(self, path: Path, part: int) -> None:
        self._path, self._part = path, part
        self.digests: dict[str, str] = {}

    def put(self, name: str, content: bytes | memoryview) -> None:
        """Write one file."""
        file = self._path / name
        if not file.parent.exists():
            file.parent.mkdir(parents=True)
        write_synced(file, content)
        self.digests[name] = sha256(content).hexdigest()

    def table(self, table: str, frame: pd.DataFrame) -> None:
        """Write a declared table."""
        self.put(file_of(table, self._part), encoded(table, frame))

    def sync(self) -> None:
        """Have the disk keep the names of the files."""
        for folder in {parent for name in self.digests for parent in PurePosixPath(name).parents}:
            sync_folder(self._path / folder)
        sync_folder(self._path.absolute().parent)


def _write_start(files: _Files, venue: Venue, start: Accounts) -> None:
    files.put("venue.json", _venue_content(venue))
    ids = pd.DataFrame({"account": start.ids, "leverage_limit": start.leverage_limit})
    files.table("start/accounts", ids.assign(unsettled=start.columns.unsettled))
    _write_columns(files, "start", start)
    files.table("start/orders", pd.DataFrame({f.name: getattr(start.orders, f.name) for f in fields(Orders)}))


def _venue_content(venue: Venue) -> bytes:
    return json.dumps(venue.source, indent=1).encode()


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
    files.table("books", pd.DataFrame(book_table(ticks, moments, [r.books for r in recorded])))


def book_table(ticks: npt.NDArray[np.int64], moments: npt.NDArray[np.int64], books: Sequence[Books]) -> Table:
    """Columns of the table of books: those of some ticks, of which the numbers and times are given."""
    columns: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in _BOOK_COLUMNS}
    for tick, moment, book in zip(ticks.tolist(), moments.tolist(), books, strict=True):
        side = np.repeat(np.arange(len(book.offset) - 1), np.diff(book.offset))
        seen = np.where(book.time > 0, book.time, moment)[side // 2]
        given = np.full(len(side), tick), side // 2, 1 - 2 * (side % 2), book.price, book.lots, seen
        for name, values in zip(_BOOK_COLUMNS, given, strict=True):
            columns[name].append(values)
    return {name: np.concatenate([np.empty(0, np.int64), *values]) for name, values in columns.items()}


_BOOK_COLUMNS = ("tick", "market", "side", "price", "lots", "book_time")


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
    entries = _ledger_entries(ledger, [accounts.row_of(provider.account) for provider in venue.backstop])
    files.table("state/ledger", pd.DataFrame(entries, columns=["ledger", "item", "value"]).astype({"value": np.int64}))


def _ledger_entries(ledger: Ledger, providers: list[int]) -> list[tuple[str, int, int]]:
    """Ledger, item and value of each row of the table: of the markets, the assets, the venue and the providers."""
    entries = [("book_lots", m, lots) for m, lots in enumerate(ledger.book_lots)]
    entries += [("book_quanta", k, quanta) for k, quanta in enumerate(ledger.book_quanta)]
    entries += [("pool", k, quanta) for k, quanta in enumerate(ledger.pool)]
    entries += [("fund", 0, ledger.fund), ("shortfall", 0, ledger.shortfall)]
    for provider, row in zip(providers, ledger.taken, strict=True):
        entries += [(f"provider_{name}", provider, taken) for name, taken in zip(_TAKEN, row, strict=True)]
    return entries


_TAKEN = ("minute", "hour", "total")


class Reader:
    """Tables of a run folder, held to their digests and to what is declared of them.

    Parameters
    ----------
    path
        A run folder.
    venue
        That of the folder, if it is known, or one of the same markets and assets.

    Attributes
    ----------
    known : dict
        What ``run.json`` holds.
    venue : Venue
    sizes : dict
        Number of ticks, markets, assets, books, accounts and orders.
    """

    def __init__(self, path: Path, venue: Venue | None = None) -> None:
        self.known, self._path = manifest(path), path
        self.venue = venue or self._venue()
        self.sizes = {
            "tick": self.known["ticks"], "market": len(self.venue.markets.symbol),
            "asset": len(self.venue.assets.symbol), "book": len(self.venue.book_symbols),
            "account": self._rows("start/accounts"), "order": self._rows("start/orders"),
        }  # fmt: skip
        self.last = self.known["parts"] - 1
        providers = self.known["providers"]
        fits = len(providers) == len(self.venue.backstop) and max(providers, default=-1) < self.sizes["account"]
        if not fits:
            raise _damaged(path, "run.json", "providers must be account rows of the venue's backstop")

    def _venue(self) -> Venue:
        try:
            source = json.loads(_content(self._path, self.known, "venue.json"), parse_float=str)
        except (ValueError, RecursionError):
            raise _damaged(self._path, "venue.json", "must be JSON") from None
        if not isinstance(source, dict):
            raise _damaged(self._path, "venue.json", "must hold an object")
        return load_venue(source, any_adl_policy=True)

    def has_venue(self, venue: Venue) -> bool:
        """Whether the run is of this venue."""
        return bool(self.known["files"]["venue.json"] == sha256(_venue_content(venue)).hexdigest())

    def table(self, table: str, part: int = 0) -> Table:
        """Columns of a table."""
        name = file_of(table, part)
        return decoded(table, name, _content(self._path, self.known, name), self.sizes)

    def _rows(self, table: str, part: int = 0) -> int:
        name = file_of(table, part)
        return count_rows(name, _content(self._path, self.known, name))

    def _must(self, holds: object, table: str, rule: str, part: int = 0) -> None:
        """Refuse a table that breaks a rule."""
        if not holds:
            raise _damaged(self._path, file_of(table, part), rule)

    def accounts(self, *, last: bool = False) -> Accounts:
        """Accounts that the run started from, or as they were at its end."""
        start = {table.removeprefix("start/"): self.table(table) for table in START}
        ids = start["accounts"]["account"]
        self._must(all(map(operator.lt, ids.tolist(), ids[1:].tolist())), "start/accounts", "accounts must ascend")
        key = {}
        for name, item in (("positions", "market"), ("balances", "asset")):
            key[name] = start[name]["account"] * self.sizes[item] + start[name][item]
            self._must((np.diff(key[name]) > 0).all(), f"start/{name}", f"must ascend by account and {item}")
        settle = start["balances"]["account"][start["balances"]["asset"] == self.venue.settle]
        rule = "every account must have a row of the settle asset, and a provider of everything"
        for name, item in (("positions", "market"), ("balances", "asset")):
            rows = np.bincount(start[name]["account"], minlength=len(ids))[self.known["providers"]]
            self._must((rows == self.sizes[item]).all() and len(settle) == len(ids), f"start/{name}", rule)
        orders = Orders(*(start["orders"][f.name] for f in fields(Orders)))
        of_positions = np.isin(orders.account * self.sizes["market"] + orders.market, key["positions"])
        self._must(of_positions.all(), "start/orders", "an order must have a row in positions")
        tables, unsettled = start, start["accounts"]["unsettled"]
        if last:
            tables = {name: self.table(f"state/{name}", self.last) for name in ("positions", "balances", "orders")}
            unsettled = self.table("state/accounts", self.last)["unsettled"]
            self._must(len(unsettled) == len(ids), "state/accounts", "must have a row for every account", self.last)
            for name, item in (("positions", "market"), ("balances", "asset")):
                same = all(np.array_equal(tables[name][of], start[name][of]) for of in ("account", item))
                self._must(same, f"state/{name}", "must have the rows of the start", self.last)
            still = tables["orders"].pop("order")
            begun = {name: values[still] for name, values in start["orders"].items()}
            same = all(np.array_equal(values, begun[name]) for name, values in tables["orders"].items())
            self._must(same and (np.diff(still) > 0).all(), "state/orders", "must be orders of the start", self.last)
            orders.lots[~np.isin(np.arange(len(orders.lots)), still)] = 0
        accounts = Accounts.from_rows(
            self.venue, ids, tuple(tables["positions"].values()), tuple(tables["balances"].values()),  # type: ignore[arg-type]
            orders, start["accounts"]["leverage_limit"], unsettled,
        ).frozen()  # fmt: skip
        with suppress(KeyError):
            if [accounts.row_of(p.account) for p in self.venue.backstop] == self.known["providers"]:
                return accounts
        raise _damaged(self._path, "run.json", "providers must be account rows of the venue's backstop")

    def ticks(self) -> Iterator[tuple[Table, Table, Table]]:
        """Ticks of each part, with a row for every tick and a column for every market; its assets and its books."""
        first, markets, before = 0, self.sizes["market"], -(2**63)
        for part in range(self.last + 1):
            ticks, assets, books = (self.table(table, part) for table in PARTS[:3])
            count = len(ticks["tick"]) // max(markets, 1)
            number = np.arange(first, first + count)
            stamp = ticks["time"][:: max(markets, 1)]
            fits = np.array_equal(ticks["tick"], np.repeat(number, markets))
            fits = fits and np.array_equal(ticks["market"], np.tile(np.arange(markets), count))
            fits = fits and np.array_equal(ticks["time"], np.repeat(stamp, markets))
            rule = f"must have a row for every tick from {first} on and every market, times ascending"
            later = count == 0 or (stamp[0] > before and np.all(np.diff(stamp) > 0))
            self._must(fits and later, "ticks", rule, part)
            for name, table, key in (
                ("assets", assets, assets["tick"] * self.sizes["asset"] + assets["asset"]),
                ("books", books, (books["tick"] * self.sizes["book"] + books["market"]) * 2 + (books["side"] < 0)),
            ):
                here = (table["tick"] >= first) & (table["tick"] < first + count)
                step = np.diff(key)
                worse = (np.diff(books["price"]) * books["side"][1:] < 0) if name == "books" else False
                ascends = np.all((step > 0) | ((step == 0) & worse))
                self._must(here.all() and ascends, name, "must be of the part's ticks, in order", part)
            if count:
                before = int(stamp[-1])
            first += count
            yield {name: values.reshape(count, markets) for name, values in ticks.items()}, assets, books
        self._must_count("ticks", first)

    def prices(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]:
        """Time, marks and prices of assets of every tick, as they were used: shapes (T,), (T, M) and (T, K)."""
        time, mark, asset = [], [], []
        for ticks, prices, _ in self.ticks():
            given = np.full((len(ticks["tick"]), self.sizes["asset"]), np.nan)
            given[np.searchsorted(ticks["tick"][:, 0], prices["tick"]), prices["asset"]] = prices["price"]
            time.append(ticks["time"][:, 0])
            mark.append(ticks["mark"])
            asset.append(asset_values(self.venue, ticks["mark"], ticks["index"], given))
        return np.concatenate(time), np.concatenate(mark), np.concatenate(asset)

    def _must_count(self, name: str, count: int) -> None:
        if self.known[name] != count:
            rule = f"{name} must be the {count} of the parts, not {self.known[name]}"
            raise _damaged(self._path, "run.json", rule)

    def journal(self) -> Rows:
        """All journal rows."""
        parts = [self.table("journal", part) for part in range(self.last + 1)]
        rows = np.empty(sum(len(part["tick"]) for part in parts), ROW)
        self._must_count("events", len(rows))
        end = 0
        for number, part in enumerate(parts):
            block = rows[end : end + len(part["tick"])]
            for name, values in part.items():
                block[name] = values
            end += len(block)
            no_account = (block["account"] == NO_ACCOUNT) != (block["event"] == EVENT["guard"])
            self._must(not no_account.any(), "journal", "a row must name an account unless it is a guard's", number)
            for events, columns in _NAMED.items():
                of = block[np.isin(block["event"], [EVENT[event] for event in events.split()])]
                named = np.any([of[column] >= 0 for column in columns.split()], axis=0)
                self._must(named.all(), "journal", f"a row of {events} must name its {columns}", number)
        return rows

    def _last_time(self) -> int | None:
        """Time of the last tick; the number of ticks is held to the parts."""
        markets = max(self.sizes["market"], 1)
        counts = [self._rows("ticks", part) // markets for part in range(self.last + 1)]
        self._must_count("ticks", sum(counts))
        filled = [part for part, count in enumerate(counts) if count]
        return int(self.table("ticks", filled[-1])["time"][-1]) if filled else None

    def state(self) -> Kept:
        """Return the last state."""
        venue, policy, last = self.venue, self.venue.policy, self.last
        time = self._last_time()
        self._must_count("events", sum(self._rows("journal", part) for part in range(last + 1)))
        accounts = self.accounts(last=True)
        frames = {name: pd.DataFrame(self.table(f"state/{name}", last)) for name in ("markets", "samples")}
        figures = (policy.slice_cooldown, policy.account_cap, policy.refill_half_life)
        for table, figure in zip(ASKED, figures, strict=True):
            asked = figure is not None
            if asked != (file_of(table, last) in self.known["files"]):
                raise _damaged(self._path, "run.json", f"{table} must be there if the policy asks for it, else not")
            if asked:
                frames[table.removeprefix("state/")] = pd.DataFrame(self.table(table, last))
        markets, samples = frames["markets"], frames["samples"]
        in_order = np.array_equal(markets["market"], np.arange(self.sizes["market"]))
        self._must(in_order, "state/markets", "must have a row for every market", last)
        second, count = samples["second"].diff(), samples["count"].diff()
        ascends = (second > 0) | ((second == 0) & (samples["market"].diff() > 0) & (count == 0))
        fits = ascends[1:].all() and (samples["count"] <= SECONDS_OF_SAMPLES).all()
        self._must(fits, "state/samples", "must ascend by second and market, each second with one count", last)
        if "books" in frames:
            books = frames["books"]
            side = 2 * books["market"] + (books["side"] < 0)
            fits = (side.diff()[1:] >= 0).all() and (books["gone"] <= books["lots"]).all()
            self._must(fits, "state/books", "must be in order, with no more gone than there was", last)
        ledger = self._ledger()
        ledger.premium_sum[:], ledger.premium_count[:] = markets["premium_sum"], markets["premium_count"]
        if "slices" in frames:
            ledger.last_slice = {(a, m): t for a, m, t in frames["slices"].to_numpy().tolist()}
        if "sold" in frames:
            ledger.sold = dict(frames["sold"].to_numpy().tolist())
        memory = Memory.from_frames(venue, frames)
        seed, ticks, digest = (self.known[name] for name in ("seed", "ticks", "digest"))
        return Kept(venue, accounts, ledger, memory, seed, ticks, time, digest)

    def _ledger(self) -> Ledger:
        table = self.table("state/ledger", self.last)
        ledger = Ledger.opening(self.venue)
        entries = _ledger_entries(ledger, self.known["providers"])
        same = [(name, item) for name, item, _ in entries] == list(
            zip(table["ledger"].tolist(), table["item"].tolist(), strict=True)
        )
        self._must(same, "state/ledger", "must have an entry for every ledger and item, in order", self.last)
        values = table["value"]
        start = 0
        for column in (ledger.book_lots, ledger.book_quanta, ledger.pool):
            column[:] = values[start : start + len(column)]
            start += len(column)
        ledger.fund, ledger.shortfall = values[start : start + 2].tolist()
        ledger.taken[:] = values[start + 2 :].reshape(-1, 3)
        return ledger


_NAMED = {
    "funding realize cancel harm book unfilled": "market",
    "interest redeem convert": "asset",
    "guard skip expire backstop adl": "market asset",
    "backstop adl socialize": "counterparty",
}
"""What rows of these events name: one of the columns."""


def read_accounts(path: Path, venue: Venue) -> Accounts:
    """Read the accounts that a run started from."""
    return Reader(path, venue).accounts()


def read_marks(path: Path, tick: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Marks and indexes of a tick, as they were guarded."""
    for ticks, _, _ in Reader(path).ticks():
        for row in np.flatnonzero(ticks["tick"][:, :1] == tick):
            return ticks["mark"][row], ticks["index"][row]
    raise RiskDataError("run", "tick", "must be a tick of the run", value=tick)


def read_journal(path: Path) -> Rows:
    """All journal rows of a run folder."""
    return Reader(path).journal()


def read_state(path: Path) -> Kept:
    """Read the last state of a run folder that is whole.

    While another process writes it, that is the state of its last save.
    """
    while True:
        before = manifest(path)["digest"]
        try:
            return opened(path).state()
        except RiskDataError:
            if manifest(path)["digest"] == before:
                raise
