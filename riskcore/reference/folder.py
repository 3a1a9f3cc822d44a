"""A run folder in the terms of the exact model: venue, state at the start, inputs and recorded rows of every tick."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .activity import ASKED
from .adl_policies import SCORES, WEIGHTS
from .journal import BOOK, FUND, POOL, SHORTFALL
from .numbers import INFINITY, number
from .state import Account, Order, State, start_state
from .venue import Venue

FORMAT = 6
LEDGERS = {-1: BOOK, -2: FUND, -3: SHORTFALL, -4: None, -5: POOL}  # counterparties that are no accounts
SIDES = {1: "bids", -1: "asks"}


class RunFolderError(ValueError):
    """The folder has no run that the exact model can read."""


class TickError(ValueError):
    """The exact model refuses the inputs of a tick, or its recorded rows cannot be applied.

    Attributes
    ----------
    tick : int
        Number of the tick.
    """

    def __init__(self, tick: int, problem: str):
        super().__init__(f"tick {tick}: {problem}")
        self.tick = tick


@dataclass(frozen=True)
class Inputs:
    """Inputs of a tick, as `step` takes them."""

    time_ns: int
    marks: dict
    books: dict
    indexes: dict
    asset_prices: dict
    open_interest: dict
    funding_rates: dict
    last_prices: dict
    book_times: dict
    lows: dict
    highs: dict
    funding: list
    venue_changes: list


@dataclass(frozen=True)
class Run:
    """A run folder: all that was read at its start, and the path from which its parts are read."""

    path: Path
    venue: Venue
    start: State
    seed: int
    ticks: int
    parts: int
    ids: list  # account ids by row

    def inputs(self) -> Iterator[tuple[Inputs | None, list[dict]]]:
        """Inputs and recorded journal rows of every tick, part after part; no inputs: rows of activity after a tick."""
        for part in range(self.parts):
            yield from self.part(part)

    def part(self, part: int) -> Iterator[tuple[Inputs | None, list[dict]]]:
        """Inputs and recorded journal rows of the ticks of a part, and the rows of activity after each, or before."""
        tables = {
            name: by_tick(read_table(self.path / name / f"{part:05d}.parquet"))
            for name in ("ticks", "assets", "books", "funding", "venue_changes", "journal")
        }
        for tick, journal in tables["journal"].items():
            if tick not in tables["ticks"]:  # its own rows are in the part before
                yield None, [self.recorded(row) for row in journal]
        for tick, rows in tables["ticks"].items():
            names = "assets", "books", "funding", "venue_changes", "journal"
            *inputs, journal = (tables[name].get(tick, []) for name in names)
            recorded = [self.recorded(row) for row in journal]
            end = next((place for place, row in enumerate(recorded) if row["reason"] in ASKED), len(recorded))
            yield self.inputs_of(rows, *inputs), recorded[:end]
            if recorded[end:]:
                yield None, recorded[end:]

    def inputs_of(
        self, rows: list[dict], priced: list[dict], levels: list[dict], entries: list[dict], changes: list[dict]
    ) -> Inputs:
        """Inputs of a tick from its rows in `ticks`, `assets`, `books`, `funding` and `venue_changes`."""
        markets, assets = list(self.venue.markets), list(self.venue.assets)
        books: dict = defaultdict(lambda: {"bids": [], "asks": []})
        times = {}
        tradables = [*self.venue.markets.values(), *self.venue.spots.values()]
        columns = {
            column: {markets[row["market"]]: row[column] for row in rows}
            for column in (
                "given_mark", "given_index", "open_interest", "funding_rate", "last_price", "given_low", "given_high",
            )
        }  # fmt: skip
        for row in levels:
            tradable = tradables[row["market"]]
            level = row["price"] * tradable.tick_size, row["lots"] * tradable.step_size
            books[tradable.symbol][SIDES[row["side"]]].append(level)
            times[tradable.symbol] = row["book_time"]
        prices = {assets[row["asset"]]: row["given_price"] for row in priced if row["given_price"] is not None}
        return Inputs(
            rows[0]["time"], columns["given_mark"], dict(books), columns["given_index"], prices,
            columns["open_interest"], columns["funding_rate"], columns["last_price"], times,
            columns["given_low"], columns["given_high"],
            [row | {"market": markets[row["market"]]} for row in entries],
            [self.change(row) for row in changes],
        )  # fmt: skip

    def change(self, row: dict) -> dict:
        """A venue change with symbols for row numbers, and its value, decimals as text."""
        places = {"market": [*self.venue.markets, *self.venue.spots], "asset": list(self.venue.assets)}
        named = {name: symbols[row[name]] if row[name] >= 0 else None for name, symbols in places.items()}
        return row | named | {"value": json.loads(row["value"], parse_float=str)}

    def recorded(self, row: dict) -> dict:
        """A row of the journal with ids and symbols for row numbers; a number that is none stays as it is."""
        named = {column: known.get(row[column], row[column]) for column, known in self.names.items()}
        return row | named | {"price": math.nan if row["price"] is None else row["price"]}

    @cached_property
    def names(self) -> dict[str, dict]:
        """Ids, symbols and ledgers by the row numbers of each column of the journal that has such numbers."""
        accounts, markets, assets = (
            dict(enumerate(names)) | {-1: None} for names in (self.ids, self.venue.markets, self.venue.assets)
        )
        return {
            "account": accounts, "counterparty": accounts | LEDGERS, "market": markets, "asset": assets,
            "settle": assets, "order": {-1: None},
        }  # fmt: skip


def read_run(path: str | Path) -> Run:
    """Read a run folder, all but the inputs and the journal of its parts.

    Raises `RunFolderError` where a file is missing or cannot be used.
    """
    path = Path(path)
    manifest, source = read_json(path / "run.json"), read_json(path / "venue.json")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunFolderError(f"{path}/run.json: format must be {FORMAT}")
    try:
        ids = [row["account"] for row in read_table(path / "start/accounts.parquet")]
        entries = source.get("backstop") or []
        for entry, row in zip(entries, manifest["providers"], strict=True):
            entry["account"] = ids[row]
        venue = Venue(source)
        policy = venue.policy["adl_policy"]
        if policy not in SCORES and policy not in WEIGHTS:
            raise RunFolderError(f"{path}/venue.json: adl_policy {policy} is not of docs/one_tick.md")
        if venue.policy["margin_model"] != "separable":
            raise RunFolderError(f"{path}/venue.json: margin_model must be 'separable'")
        start = read_start(path / "start", venue, ids)
        for part in range(manifest["parts"]):
            for row in read_table(path / f"opened/{part:05d}.parquet"):
                ids.append(row["account"])
                limit = None if row["leverage_limit"] == INFINITY else number(row["leverage_limit"])
                account = Account({}, {venue.settle: [0, 0]}, [], limit, dict.fromkeys(venue.money, 0), row["owner"])
                start.opening[row["account"]] = account
            for row in read_table(path / f"orders/{part:05d}.parquet"):
                order = read_order(venue, start.order_count + len(start.placing), row)
                start.placing[order.index] = order
        start.book_of_host = manifest["book"] == "host"
        return Run(path, venue, start, manifest["seed"], manifest["ticks"], manifest["parts"], ids)
    except (LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path}: cannot be used: {type(error).__name__}: {error}") from None


def read_start(path: Path, venue: Venue, ids: list) -> State:
    """The state at the start of a run."""
    markets, assets = list(venue.markets), list(venue.assets)
    accounts = [Account() for _ in ids]
    for account, row in zip(accounts, read_table(path / "accounts.parquet"), strict=True):
        limit = row["leverage_limit"]
        account.leverage_limit = None if limit == INFINITY else number(limit)
        account.owner = row["owner"]
    for row in read_table(path / "positions.parquet"):
        accounts[row["account"]].positions[markets[row["market"]]] = [row["lots"], row["cost"], row["entry"]]
    for row in read_table(path / "balances.parquet"):
        account, asset = accounts[row["account"]], assets[row["asset"]]
        account.balances[asset] = [row["quanta"], row["lent"]]
        if asset in venue.money:
            account.unsettled[asset] = row["unsettled"]
    for index, row in enumerate(read_table(path / "orders.parquet")):
        accounts[row["account"]].orders.append(read_order(venue, index, row))
    return start_state(venue, dict(zip(ids, accounts, strict=True)))


def read_order(venue: Venue, index: int, row: dict) -> Order:
    """An order from its row in a table of orders."""
    market = list(venue.markets.values())[row["market"]]
    side, price = "bid" if row["side"] > 0 else "ask", row["price"] * market.tick_size
    return Order(index, market.symbol, side, price, row["lots"], row["reduce_only"], row["id"])


def read_json(path: Path) -> Any:
    """Content of a JSON file, decimals as text."""
    try:
        return json.loads(path.read_bytes(), parse_float=str)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RunFolderError(f"{path}: is not JSON") from None


def read_table(path: Path) -> list[dict]:
    """Rows of a Parquet table."""
    try:
        rows: list[dict] = pq.ParquetFile(path).read().to_pylist()
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise RunFolderError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return rows


def by_tick(rows: list[dict]) -> dict[int, list[dict]]:
    """Rows of a table by their tick."""
    result: dict[int, list[dict]] = {}
    for row in rows:
        result.setdefault(row["tick"], []).append(row)
    return result
