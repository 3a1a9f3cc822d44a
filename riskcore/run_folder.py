"""The run folder: everything a run started from, saw, did and ended with; docs/run_folder.md has its format."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
from .tick import Books, Prices, asset_values
from .venue import Venue, load_venue

FORMAT = 2


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
        The folder holds no run that this version can read.
    """
    try:
        found = json.loads((path / "run.json").read_text())
    except (OSError, ValueError):
        raise RiskDataError("run", None, "must be a run folder with a run.json", value=str(path)) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RiskDataError("run", "format", f"must be {FORMAT}", value=str(path))
    return found


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
        (path / "start").mkdir(parents=True, exist_ok=True)
        (path / "venue.json").write_text(json.dumps(venue.source, indent=1))
        ids = pd.DataFrame({"account": start.ids, "leverage_limit": start.leverage_limit})
        _write(path / "start/accounts", ids.assign(unsettled=start.columns.unsettled))
        _write_columns(path / "start", start)
        _write(path / "start/orders", pd.DataFrame({f.name: getattr(start.orders, f.name) for f in fields(Orders)}))
        known: dict[str, Any] = {"format": FORMAT, "parts": 0, "events": 0, "inputs": dict(inputs or {})}
        known["providers"] = [accounts.row_of(p.account) for p in venue.backstop]
    else:
        known = manifest(path)
    part = known["parts"]
    _write_ticks(path, f"{part:05d}", recorded)
    rows = np.concatenate([r.rows for r in recorded]) if recorded else np.empty(0, ROW)
    _write(path / f"journal/{part:05d}", _journal_frame(rows))
    _write_state(path / f"state/{part:05d}", venue, accounts, ledger, memory)
    known |= {
        "versions": {
            "riskcore": version("riskcore"), "numba": numba.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seed": seed, "parts": part + 1, "ticks": ticks, "events": known["events"] + len(rows), "complete": complete,
    }  # fmt: skip
    fresh = path / "run.json.new"
    fresh.write_text(json.dumps(known, indent=1))
    os.replace(fresh, path / "run.json")
    for old in (path / "state").iterdir():
        if old.name != f"{part:05d}":
            shutil.rmtree(old)


def _write(path: Path, frame: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path.with_name(path.name + ".parquet"), index=False, compression="zstd")


def _write_columns(path: Path, accounts: Accounts) -> None:
    columns = accounts.columns
    _write(
        path / "positions",
        pd.DataFrame(
            {"account": accounts.position_accounts(), "market": columns.market.astype(np.int64), "lots": columns.lots,
             "cost": columns.cost, "entry": columns.entry}
        ),
    )  # fmt: skip
    _write(
        path / "balances",
        pd.DataFrame(
            {"account": accounts.balance_accounts(), "asset": columns.asset.astype(np.int64), "quanta": columns.free,
             "lent": columns.lent}
        ),
    )  # fmt: skip


def _write_ticks(path: Path, part: str, recorded: Sequence[Recorded]) -> None:
    ticks = np.array([r.tick for r in recorded], np.int64)
    moments = np.array([r.time for r in recorded], np.int64)
    markets = len(recorded[0].prices.mark) if recorded else 0
    assets = len(recorded[0].prices.given_asset) if recorded else 0

    def stacked(arrays: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
        return np.concatenate(arrays) if arrays else np.empty(0, dtype)

    _write(
        path / f"ticks/{part}",
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
    _write(path / f"assets/{part}", prices.dropna())
    levels = [np.diff(r.books.offset) for r in recorded]
    side = [np.repeat(np.arange(len(n)), n) for n in levels]
    seen = [np.where(r.books.time > 0, r.books.time, r.time)[s // 2] for r, s in zip(recorded, side, strict=True)]
    _write(
        path / f"books/{part}",
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


def _write_state(path: Path, venue: Venue, accounts: Accounts, ledger: Ledger, memory: Memory) -> None:
    _write_columns(path, accounts)
    _write(path / "accounts", pd.DataFrame({"unsettled": accounts.columns.unsettled}))
    orders = pd.DataFrame({f.name: getattr(accounts.orders, f.name) for f in fields(Orders)})
    orders.insert(0, "order", np.arange(len(orders)))
    _write(path / "orders", orders[orders["lots"] > 0])
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
        _write(path / name, frame)
    entries = [("book_lots", m, lots) for m, lots in enumerate(ledger.book_lots)]
    entries += [("book_quanta", k, quanta) for k, quanta in enumerate(ledger.book_quanta)]
    entries += [("pool", k, quanta) for k, quanta in enumerate(ledger.pool)]
    entries += [("fund", 0, ledger.fund), ("shortfall", 0, ledger.shortfall)]
    for at, provider in enumerate(venue.backstop):
        for name, taken in zip(("minute", "hour", "total"), ledger.taken[at], strict=True):
            entries.append((f"provider_{name}", accounts.row_of(provider.account), taken))
    _write(path / "ledger", pd.DataFrame(entries, columns=["ledger", "item", "value"]).astype({"value": np.int64}))


def read_accounts(path: Path, venue: Venue, columns: Path | None = None) -> Accounts:
    """Read the accounts that a run started from, or with the positions, balances and orders of a later state."""
    start = path / "start"
    columns = columns or start
    accounts = pd.read_parquet(start / "accounts.parquet")
    positions, balances = (pd.read_parquet(columns / f"{name}.parquet") for name in ("positions", "balances"))
    table = pd.read_parquet(start / "orders.parquet")
    orders = Orders(*(table[f.name].to_numpy().copy() for f in fields(Orders)))
    unsettled = pd.read_parquet(columns / "accounts.parquet", columns=["unsettled"])["unsettled"]
    if columns != start:
        still = pd.read_parquet(columns / "orders.parquet")["order"].to_numpy()
        orders.lots[~np.isin(np.arange(len(table)), still)] = 0
    ids = accounts["account"]
    return Accounts.from_rows(
        venue,
        ids.to_numpy(np.int64 if pd.api.types.is_integer_dtype(ids.dtype) else object),
        tuple(positions[n].to_numpy().copy() for n in ("account", "market", "lots", "cost", "entry")),  # type: ignore[arg-type]
        tuple(balances[n].to_numpy().copy() for n in ("account", "asset", "quanta", "lent")),  # type: ignore[arg-type]
        orders,
        accounts["leverage_limit"].to_numpy(),
        unsettled.to_numpy().copy(),
    ).frozen()


def read_marks(path: Path, tick: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Marks and indexes of a tick, as they were guarded."""
    for part in range(manifest(path)["parts"]):
        where = [("tick", "==", tick)]
        found = pd.read_parquet(path / f"ticks/{part:05d}.parquet", columns=["mark", "index"], filters=where)
        if len(found):
            return found["mark"].to_numpy(), found["index"].to_numpy()
    raise RiskDataError("run", "tick", "must be a tick of the run", value=tick)


def read_prices(path: Path, venue: Venue) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]:
    """Time, marks and prices of assets of every tick, as they were used: shapes (T,), (T, M) and (T, K)."""
    time, mark, asset = [], [], []
    for part in range(manifest(path)["parts"]):
        ticks = pd.read_parquet(path / f"ticks/{part:05d}.parquet", columns=["tick", "time", "mark", "index"])
        table = {name: ticks[name].to_numpy().reshape(-1, len(venue.markets.symbol)) for name in ticks}
        given = np.full((len(table["tick"]), len(venue.assets.symbol)), np.nan)
        prices = pd.read_parquet(path / f"assets/{part:05d}.parquet")
        given[np.searchsorted(table["tick"][:, 0], prices["tick"]), prices["asset"]] = prices["price"]
        time.append(table["time"][:, 0])
        mark.append(table["mark"])
        asset.append(asset_values(venue, table["mark"], table["index"], given))
    return np.concatenate(time), np.concatenate(mark), np.concatenate(asset)


def read_journal(path: Path) -> Rows:
    """All journal rows of a run folder."""
    parts = [
        pd.read_parquet(path / f"journal/{part:05d}.parquet") for part in range(manifest(path)["parts"])
    ]  # fmt: skip
    rows = np.empty(sum(len(p) for p in parts), ROW)
    end = 0
    for frame in parts:
        block = rows[end : end + len(frame)]
        for name in ROW.names or ():
            names = {"event": EVENTS, "reason": REASONS}.get(name)
            block[name] = frame[name].astype(pd.CategoricalDtype(list(names))).cat.codes if names else frame[name]
        end += len(frame)
    return rows


def read_state(path: Path) -> Kept:
    """Read the last state of a run folder."""
    known = manifest(path)
    venue = load_venue(path / "venue.json", any_adl_policy=True)
    state = path / f"state/{known['parts'] - 1:05d}"
    accounts = read_accounts(path, venue, state)
    ledger = Ledger.opening(venue)
    table = pd.read_parquet(state / "ledger.parquet")
    column = {name: rows["value"].to_numpy() for name, rows in table.groupby("ledger", sort=False)}
    ledger.book_lots[:], ledger.book_quanta[:] = column["book_lots"], column["book_quanta"]
    ledger.pool[:] = column["pool"]
    names = ("markets", "samples", "books", "slices", "sold")
    frames = {n: pd.read_parquet(state / f"{n}.parquet") for n in names if (state / f"{n}.parquet").exists()}
    markets = frames["markets"]
    ledger.premium_sum[:], ledger.premium_count[:] = markets["premium_sum"], markets["premium_count"]
    if "slices" in frames:
        ledger.last_slice = {(a, m): t for a, m, t in frames["slices"].to_numpy().tolist()}
    if "sold" in frames:
        ledger.sold = dict(frames["sold"].to_numpy().tolist())
    ledger.fund, ledger.shortfall = int(column["fund"][0]), int(column["shortfall"][0])
    for at, name in enumerate(("minute", "hour", "total")):
        if venue.backstop:
            ledger.taken[:, at] = column[f"provider_{name}"]
    time = None
    for part in range(known["parts"] - 1, -1, -1):
        moments = pd.read_parquet(path / f"ticks/{part:05d}.parquet", columns=["time"])["time"]
        if len(moments):
            time = int(moments.iloc[-1])
            break
    memory = Memory.from_frames(venue, frames)
    return Kept(venue, accounts, ledger, memory, known["seed"], known["ticks"], time)
