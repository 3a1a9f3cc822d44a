"""Writes the run folder: start, inputs, journal and last state of a run; docs/run_folder.md."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import AMOUNT_LIMIT
from ..boundary import RiskDataError
from ..market import NO_FUNDING, Books, FundingEntries, Prices
from ..market.guards import GuardState
from ..state import Accounts, Ledger, Opened, Orders
from ..venue import Venue, VenueChange, table_of_changes
from .disk import one_writer, sync_folder, write_synced
from .events import EVENT, EVENTS, REASONS, ROW, Rows
from .journal import words
from .run_schema import OPTIONAL_STATE, PARTS, START, STATE, Table, encoded

FORMAT = 6


@dataclass
class Recorded:
    """Prices, books and journal rows of one tick, to be written to a run folder.

    Attributes
    ----------
    tick, time : int
        Number of the tick, and nanoseconds since the epoch.
    prices : Prices
        Prices of the tick, guarded.
    books : Books
        Books of the tick, as they were given.
    rows : ndarray of `riskcore.record.ROW`
        Journal rows of the tick.
    funding : FundingEntries
        Funding rates with their own times, as they were given.
    venue_changes : tuple of VenueChange
        Changes of the venue, as they were given.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.record import Journal, Recorded
    >>> venue = rc.load_venue("backpack")
    >>> prices = rc.Prices.incomplete(venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
    >>> Recorded(0, 0, prices, rc.Books.empty(venue), Journal(0, 0).rows()).nbytes > 4_000
    True
    """

    tick: int
    time: int
    prices: Prices
    books: Books
    rows: Rows
    funding: FundingEntries = NO_FUNDING
    venue_changes: tuple[VenueChange, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory that the tick takes, bytes, about: the objects, prices of markets and assets, books and rows."""
        markets, assets, books = 10 * self.prices.mark.nbytes, 2 * self.prices.given_asset.nbytes, self.books
        return 4_000 + markets + assets + 2 * books.price.nbytes + 2 * books.offset.nbytes + self.rows.nbytes


@dataclass(frozen=True)
class RecordedActivity:
    """Journal rows of what happened between two ticks, and the accounts that were opened, to be written.

    Attributes
    ----------
    rows : ndarray of `riskcore.record.ROW`
        Journal rows.
    opened : Opened
        The accounts.

    Examples
    --------
    >>> from riskcore.record import Journal, RecordedActivity
    >>> from riskcore.state import NOBODY_OPENED
    >>> RecordedActivity(Journal(0, 0).rows(), NOBODY_OPENED).nbytes
    1000
    """

    rows: Rows
    opened: Opened

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes, about."""
        return 1_000 + self.rows.nbytes + 200 * len(self.opened.ids)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    RiskDataError
        The folder holds no run that this version can read, or ``run.json`` is not as it was written.
    """
    try:
        content = json.loads((path / "run.json").read_bytes())
    except OSError:
        raise RiskDataError("run", None, "must be a run folder with a run.json", value=str(path)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "run.json", "must be JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        written = content.get("format") if isinstance(content, dict) else None
        rule = f"must be {FORMAT}, not {written if type(written) is int else 'none'}: run again with this version"
        raise RiskDataError("run", "format", rule, value=str(path))
    if content.get("digest") != _digest_of(content):
        raise _damaged(path, "run.json", _ALTERED)
    for name, fits in _MANIFEST.items():
        if name not in content:
            raise _damaged(path, "run.json", f"{name} is missing")
        if not fits(content[name]):
            raise _damaged(path, "run.json", f"{name} must have the form that riskcore writes")
    parts = min(content["parts"], len(content["files"]))  # a part has files: no more names than that are made
    wanted = {file_of(table, part) for part in range(parts) for table in PARTS}
    wanted |= {"venue.json", *(file_of(table, content["parts"] - 1) for table in (*START, *STATE))}
    if set(content["files"]) - {file_of(table, content["parts"] - 1) for table in OPTIONAL_STATE} != wanted:
        raise _damaged(path, "run.json", "files must be those of its parts")
    return content


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
        return set(read_manifest(path)["files"])
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
    """Remove the remains of a save that was cut: tables that run.json does not list."""
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
    guard_state: GuardState,
    prices: Prices | None,
    recorded: Sequence[Recorded | RecordedActivity],
    *,
    start: Accounts | None,
    after: str | None,
    seed: int,
    book: str,
    ticks: int,
    complete: bool,
    inputs: Mapping[str, Mapping[str, str]] | None,
) -> str:
    """Append the ticks since the last part; they count once `run.json`, which is replaced last, lists them.

    Parameters
    ----------
    prices
        Those of the last tick.
    start
        The accounts that the run started from, for the first part.
    after
        The digest of the last part's `run.json`, for the others.
    book
        Whose the order books are: "engine" or "host".

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
            manifest = read_manifest(path)
            if manifest["digest"] != after:
                rule = "the run has gone on since this engine was saved or resumed: resume it again"
                raise RiskDataError("run", None, rule, value=str(path))
            if inputs is not None:
                manifest["inputs"] = dict(inputs)
        else:
            if (path / "run.json").exists():
                raise RiskDataError("run", None, "must be a new or empty folder", value=str(path))
            manifest = {
                "format": FORMAT,
                "parts": 0,
                "events": 0,
                "activity": 0,
                "files": {},
                "inputs": dict(inputs or {}),
            }
            manifest["providers"] = [accounts.row_of(p.account) for p in venue.backstop]
            write_synced(path / _FRESH, b"")  # the sign of a first save, until it becomes run.json
            sync_folder(path)
        files = _Files(path, manifest["parts"])
        if start is not None:
            _write_start(files, venue, start)
        _write_ticks(files, [r for r in recorded if isinstance(r, Recorded)])
        activity = [r for r in recorded if isinstance(r, RecordedActivity)]
        _write_opened(files, [r.opened for r in activity], accounts.ids.dtype)
        rows = np.concatenate([r.rows for r in recorded]) if recorded else np.empty(0, ROW)
        _write_orders(files, accounts.orders, rows, venue)
        files.table("journal", _journal_frame(rows))
        _write_state(files, venue, accounts, ledger, guard_state, prices)
        files.sync()
        manifest |= {
            "versions": {
                "riskcore": version("riskcore"), "numba": numba.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "seed": seed, "book": book, "parts": manifest["parts"] + 1, "ticks": ticks,
            "events": manifest["events"] + len(rows),
            "activity": manifest["activity"] + sum(len(r.rows) for r in activity),
            "complete": complete,
            "files": {n: d for n, d in manifest["files"].items() if not n.startswith("state/")} | files.digests,
        }  # fmt: skip
        manifest["digest"] = _digest_of(manifest)
        write_synced(path / _FRESH, json.dumps(manifest, indent=1).encode())
        os.replace(path / _FRESH, path / "run.json")
        sync_folder(path)
        _tidy(path, set(manifest["files"]))
        return str(manifest["digest"])


BOOKS = ("engine", "host")
"""Whose the order books of a run are."""

PAGES = ("report.html", "adl-study.html")
"""Files that commands put into a run folder beside the run."""

_LOCK, _FRESH = "run.lock", "run.json.new"


def _digest_of(manifest: Mapping[str, Any]) -> str:
    """Digest of everything else in ``run.json``."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_ALTERED = "is not the file that the run wrote: restore it or run again"


def _damaged(path: Path, name: str, rule: str) -> RiskDataError:
    return RiskDataError("run", name, rule, value=str(path))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < AMOUNT_LIMIT


def _is_mapping(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(test, value.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_MANIFEST: dict[str, Callable[[Any], bool]] = {
    "versions": lambda value: _is_mapping(value, _is_text),
    "seed": lambda value: type(value) is int,
    "book": lambda value: value in BOOKS,
    "parts": lambda value: _is_count(value) and value > 0,
    "ticks": _is_count,
    "events": _is_count,
    "activity": _is_count,
    "complete": lambda value: isinstance(value, bool),
    "providers": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "inputs": lambda value: _is_mapping(value, lambda entry: _is_mapping(entry, _is_text) and "sha256" in dict(entry)),
    "files": lambda value: _is_mapping(value, _is_text),
}
"""Members of ``run.json`` beside its format and digest, and their checks."""


def file_of(table: str, part: int) -> str:
    """File of a table, of a part if it has parts, in the run folder."""
    folder, _, name = table.partition("/")
    if folder == "start":
        return f"{table}.parquet"
    return f"{folder}/{part:05d}/{name}.parquet" if name else f"{folder}/{part:05d}.parquet"


def _content(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """Bytes of a file that a run counts, held to their digest."""
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise _damaged(path, name, f"cannot be read: {error.strerror}: restore it or run again") from None
    if sha256(content).hexdigest() != manifest["files"].get(name):
        raise _damaged(path, name, _ALTERED)
    return content


_TABLES = (*START, *PARTS, *STATE, *OPTIONAL_STATE)
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
    files.table("start/accounts", ids.assign(owner=start.owners))
    _write_columns(files, "start", start)
    files.table("start/orders", _orders_frame(start.orders, np.arange(len(start.orders))))


def _venue_content(venue: Venue) -> bytes:
    return json.dumps(venue.source, indent=1).encode()


def _write_opened(files: _Files, opened: Sequence[Opened], kind: Any) -> None:
    columns = zip(*opened, strict=True) if opened else ([],) * 3
    ids, limit, owners = (np.concatenate([np.empty(0, kind), *column]) for column in columns)
    frame = pd.DataFrame({"account": ids, "leverage_limit": limit.astype(np.float64), "owner": owners})
    files.table("opened", frame.astype({"account": kind, "owner": kind}))


def _orders_frame(orders: Orders, number: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Columns and ids of some orders."""
    frame = {name: column[number] for name, column in orders.columns._asdict().items()}
    return pd.DataFrame(frame | {"id": np.array(list(map(orders.id_of, number.tolist())), object)})


def _write_orders(files: _Files, orders: Orders, rows: Rows, venue: Venue) -> None:
    """Write the orders that journal rows placed, as they were placed."""
    placed = rows[rows["event"] == EVENT["place"]]
    frame = _orders_frame(orders, placed["order"])
    price = np.rint(placed["price"] / venue.markets.tick_size[placed["market"]]).astype(np.int64)
    files.table("orders", frame.assign(price=price, lots=placed["requested"]))


def _write_columns(files: _Files, folder: str, accounts: Accounts) -> None:
    columns, everybody = accounts.columns, np.arange(len(accounts))
    rows, counts = accounts.position_rows(everybody)
    positions = {"account": np.repeat(everybody, counts), "market": columns.market[rows].astype(np.int64)}
    amounts = {"lots": columns.lots, "cost": columns.cost, "entry": columns.entry}
    files.table(f"{folder}/positions", pd.DataFrame(positions | {name: of[rows] for name, of in amounts.items()}))
    rows, counts = accounts.balance_rows(everybody)
    balances = {"account": np.repeat(everybody, counts), "asset": columns.asset[rows].astype(np.int64)}
    amounts = {"quanta": columns.free, "lent": columns.lent, "unsettled": columns.unsettled}
    files.table(f"{folder}/balances", pd.DataFrame(balances | {name: of[rows] for name, of in amounts.items()}))


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
                "given_low": stacked([r.prices.low for r in recorded], float),
                "given_high": stacked([r.prices.high for r in recorded], float),
                "open_interest": stacked([r.prices.open_interest for r in recorded], float),
                "funding_rate": stacked([r.prices.funding_rate for r in recorded], float),
            }
        ),
    )
    prices = pd.DataFrame(
        {
            "tick": np.repeat(ticks, assets),
            "asset": np.tile(np.arange(assets), len(ticks)),
            "price": stacked([r.prices.own_asset for r in recorded], float),
            "given_price": stacked([r.prices.given_asset for r in recorded], float),
        }
    )
    files.table("assets", prices.dropna(subset="price"))
    files.table("books", pd.DataFrame(book_table(ticks, moments, [r.books for r in recorded])))
    files.table("funding", pd.DataFrame(funding_table(ticks, [r.funding for r in recorded])))
    files.table("venue_changes", pd.DataFrame(changes_table(ticks, [r.venue_changes for r in recorded])))


def funding_table(ticks: npt.NDArray[np.int64], funding: Sequence[FundingEntries]) -> Table:
    """Columns of the table of funding rates: those of some ticks, of which the numbers are given."""
    columns = zip(NO_FUNDING, *funding, strict=True)
    joined = dict(zip(FundingEntries._fields, map(np.concatenate, columns), strict=True))
    return {"tick": np.repeat(ticks, [len(entries.time) for entries in funding])} | joined


def changes_table(ticks: npt.NDArray[np.int64], changes: Sequence[tuple[VenueChange, ...]]) -> Table:
    """Columns of the table of venue changes: those of some ticks, of which the numbers are given."""
    columns = table_of_changes(change for of_tick in changes for change in of_tick)
    return {"tick": np.repeat(ticks, [len(of_tick) for of_tick in changes])} | columns


def book_table(ticks: npt.NDArray[np.int64], moments: npt.NDArray[np.int64], books: Sequence[Books]) -> Table:
    """Columns of the table of books: those of some ticks, of which the numbers and times are given."""
    columns: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in _BOOK_COLUMNS}
    for tick, moment, book in zip(ticks.tolist(), moments.tolist(), books, strict=True):
        side = book.level_sides()
        seen = np.where(book.time > 0, book.time, moment)[side // 2]
        columns_of_tick = np.full(len(side), tick), side // 2, 1 - 2 * (side % 2), book.price, book.lots, seen
        for name, values in zip(_BOOK_COLUMNS, columns_of_tick, strict=True):
            columns[name].append(values)
    return {name: np.concatenate([np.empty(0, np.int64), *values]) for name, values in columns.items()}


_BOOK_COLUMNS = ("tick", "market", "side", "price", "lots", "book_time")


def _journal_frame(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame({name: rows[name] for name in ROW.names or ()})
    frame["event"], frame["reason"] = words(rows["event"], EVENTS), words(rows["reason"], REASONS)
    return frame


def _write_state(
    files: _Files, venue: Venue, accounts: Accounts, ledger: Ledger, guard_state: GuardState, prices: Prices | None
) -> None:
    _write_columns(files, "state", accounts)
    number = np.flatnonzero(accounts.orders.lots)
    frame = _orders_frame(accounts.orders, number)
    frame.insert(0, "order", number)
    files.table("state/orders", frame)
    limited = np.flatnonzero(np.isfinite(accounts.leverage_limit))
    limits = {"account": limited, "leverage_limit": accounts.leverage_limit[limited]}
    files.table("state/limits", pd.DataFrame(limits))
    files.table("state/proposals", _proposals_frame(ledger))
    frames = guard_state.frames()
    remembered = {"premium_sum": ledger.premium_sum, "premium_count": ledger.premium_count}
    markets = pd.DataFrame({"market": np.arange(len(ledger.book_lots))} | remembered)
    frames["markets"] = markets.join(frames["markets"]).assign(
        open_interest=np.nan if prices is None else prices.open_interest,
        open_lots=0 if prices is None else prices.open_lots,
        funding_scheduled=ledger.funding_scheduled,
        delisted=ledger.delisted,
    )
    policy = venue.policy
    if policy.slice_cooldown is not None:
        legs = sorted((account, market, time) for (account, market), time in ledger.last_slice.items())
        frames["slices"] = pd.DataFrame(legs, columns=["account", "market", "time"], dtype=np.int64)
    if policy.account_cap is not None:
        frames["sold"] = pd.DataFrame(sorted(ledger.sold.items()), columns=["account", "quanta"], dtype=np.int64)
    if not (policy.refill_half_life or policy.liquidation_interval):
        del frames["books"]
    for name, frame in frames.items():
        files.table(f"state/{name}", frame)
    entries = _ledger_entries(ledger, [accounts.row_of(provider.account) for provider in venue.backstop])
    files.table("state/ledger", pd.DataFrame(entries, columns=["ledger", "item", "value"]).astype({"value": np.int64}))


def _proposals_frame(ledger: Ledger) -> pd.DataFrame:
    rows = [(*key, p.lots, p.limit or 0, p.fee_num, p.fee_den, p.event) for key, p in sorted(ledger.proposals.items())]
    frame = pd.DataFrame(rows, columns=["account", "market", "lots", "price", "fee_num", "fee_den", "event"])
    return frame.astype(dict.fromkeys(frame.columns[:-1], np.int64))


def _ledger_entries(ledger: Ledger, providers: list[int]) -> list[tuple[str, int, int]]:
    """Ledger, item and value of each row of the table: of the markets, the assets, ADL and the providers."""
    entries = [(name, item, value) for name in LEDGERS for item, value in enumerate(getattr(ledger, name))]
    entries.append(("adl_on", 0, int(ledger.adl_on)))
    for provider, row in zip(providers, ledger.taken, strict=True):
        entries += [(f"provider_{name}", provider, taken) for name, taken in zip(_TAKEN, row, strict=True)]
    return entries


LEDGERS = ("book_lots", "book_quanta", "pool", "fund", "shortfall")
"""Ledgers of the markets and of the assets in the table."""

_TAKEN = ("minute", "hour", "total")
