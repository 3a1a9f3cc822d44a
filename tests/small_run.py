"""A venue and tables small enough to spoil one value at a time, and their files for the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from riskcore import Accounts, Venue, audit, io, load_venue, sample
from riskcore.audit.findings import Findings
from riskcore.record import reader, run_folder

BTC, ETH = "BTC_USDC_PERP", "ETH_USDC_PERP"
TIMES = ("2025-10-10T21:00:00Z", "2025-10-10T21:00:01Z")
PROVIDER = 9


def venue_source(provider: int | str = PROVIDER) -> dict:
    """Three markets, and an asset XAU that no market gives a price."""
    source = sample.venue_source([provider])
    gold = {"symbol": "XAU", "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}}}
    return source | {"collateral": [*source["collateral"], gold]}


def tables() -> dict[str, pd.DataFrame]:
    """Every table with every column, none of it wrong."""

    def frame(names, *rows):
        return pd.DataFrame(rows, columns=names.split())

    levels = [("bid", 0, 99_990.0), ("bid", 1, 99_980.0), ("ask", 0, 100_010.0), ("ask", 1, 100_020.0)]
    return {
        "positions": frame("account market quantity entry_price", (1, BTC, 0.5, 100_000.0), (2, ETH, -1.0, 4_000.5)),
        "balances": frame(
            "account asset quantity lent",
            (1, "USDC", 9_000.0, 0.0), (2, "XAU", 0.5, 0.5), (PROVIDER, "USDC", 5e7, 0.0),
        ),
        "orders": frame(
            "account market side price quantity reduce_only",
            (1, BTC, "bid", 99_000.0, 0.1, False), (2, ETH, "ask", 4_100.0, 1.0, True),
        ),
        "settings": frame("account leverage_limit unsettled", (1, 10.0, 0.0), (2, 20.0, -0.5)),
        "marks": frame(
            "time market mark_price index_price",
            *((time, market, mark, mark) for time in TIMES for market, mark in ((BTC, 1e5), (ETH, 4e3))),
        ),
        "asset_prices": frame("time asset price", *((time, "XAU", 4_000.0) for time in TIMES)),
        "books": frame(
            "time market side level price quantity",
            *((time, BTC, side, level, price, 0.5) for time in TIMES for side, level, price in levels),
        ),
    }  # fmt: skip


def read(frames: dict[str, pd.DataFrame], provider: int | str = PROVIDER) -> tuple[Venue, Accounts, io.TickTable]:
    """Read the tables as the commands do."""
    venue = load_venue(venue_source(provider))
    accounts = Accounts.from_frames(venue, *(frames[name] for name in ("positions", "balances", "orders", "settings")))
    return venue, accounts, io.read_ticks(venue, accounts, frames["marks"], frames["books"], frames["asset_prices"])


def write(folder: Path, venue: dict, frames: dict[str, pd.DataFrame], suffix: str = "csv") -> dict[str, Path]:
    """Write the inputs of a run to files; return their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"venue": folder / "venue.json"}
    files["venue"].write_text(json.dumps(venue))
    for name, frame in frames.items():
        files[name] = folder / f"{name}.{suffix}"
        if suffix == "csv":
            frame.to_csv(files[name], index=False)
        else:
            frame.to_parquet(files[name], index=False)
    return files


def arguments(command: str, files: dict[str, Path], out: Path) -> list[str]:
    """Return the command line that runs ``command`` on the files."""
    used = [name for name in files if command == "replay" or name != "books"]
    return [command, *(a for n in used for a in (f"--{n.replace('_', '-')}", str(files[n]))), "--out", str(out)]


def crash() -> tuple[Venue, Accounts, io.TickTable]:
    """A generated crash of 25 ticks in which every stage but ADL has something to do, and funding and PnL fall due."""
    venue, made = sample.crash(120, 25)
    venue = load_venue(accruing(venue.source))
    accounts = Accounts.from_frames(venue, made.positions, made.balances, made.orders)
    marks = made.marks.assign(index_price=made.marks["mark_price"] * 0.999)
    return venue, accounts, io.read_ticks(venue, accounts, marks, made.books)


def accruing(source: dict) -> dict:
    """Give a venue funding every five seconds, realisation every three, and a pool that lends nobody anything.

    Prices may move by a tenth in a second.
    """
    markets = [row | {"fundingInterval": 5_000} for row in source["markets"]]
    for row in markets:
        price = row["filters"]["price"] | {"minPriceUpdateMultiplier": "0.9", "maxPriceUpdateMultiplier": "1.1"}
        row["filters"] = row["filters"] | {"price": price}
    policy = source["policy"] | {"realize_interval": 3}
    return source | {"markets": markets, "policy": policy, "borrow_lend": [{"symbol": "USDC", "state": "Closed"}]}


def seal(path: Path) -> Path:
    """Give the files of a run, and run.json, the digests that they have now: who alters a run can do so too."""
    known = json.loads((path / "run.json").read_text())
    for name in known["files"]:
        if (path / name).is_file():
            known["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    del known["digest"]
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    known["digest"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "run.json").write_text(json.dumps(known))
    return path


class _FoundError(Exception):
    """A breach that was looked for."""


def finds(path: Path, *rules: str, at: int | None = None, **given) -> bool:
    """Whether the audit of a run finds a breach: of one of some rules, and of a row of the journal, where given.

    The audit ends with this breach.
    """

    class UntilFound(Findings):
        def breach(self, rule, what, tick=-1, row=-1, account=-1):
            super().breach(rule, what, tick, row, account)
            if (not rules or rule in rules) and at in (None, row):
                raise _FoundError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "Findings", UntilFound)
        try:
            audit.audit(path, **given)
        except _FoundError:
            return True
    return False


def assert_same_run(one: Path, other: Path) -> None:
    """Journal, ticks, books and last state of two run folders must be the same bits, however they were saved."""
    ends = [run_folder.read_manifest(path) for path in (one, other)]
    for key in ("seed", "ticks", "events", "complete", "providers", "inputs"):
        assert ends[0][key] == ends[1][key], key
    assert reader.read_journal(one).tobytes() == reader.read_journal(other).tobytes()
    for folder in ("start", "ticks", "books", "assets", "state"):
        tables = [_joined(path / folder, known["parts"]) for path, known in zip((one, other), ends, strict=True)]
        assert tables[0].keys() == tables[1].keys()
        for name, table in tables[0].items():
            pd.testing.assert_frame_equal(table, tables[1][name], check_exact=True)


def _joined(folder: Path, parts: int) -> dict[str, pd.DataFrame]:
    if folder.name in ("start", "state"):
        folder = folder / f"{parts - 1:05d}" if folder.name == "state" else folder
        return {path.name: pd.read_parquet(path) for path in sorted(folder.iterdir())}
    rows = [pd.read_parquet(folder / f"{part:05d}.parquet") for part in range(parts)]
    return {folder.name: pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True)}
