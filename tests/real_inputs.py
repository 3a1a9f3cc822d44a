"""The two real inputs as files of the public tables, and the long replay of the second.

``python -m tests.real_inputs month runs/month`` (``make month``) prepares, replays and audits the whole month.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd

from riskcore import io, load_venue, sample

SHARED = Path(__file__).resolve().parents[2] / "shared"
ACCOUNTS = 100_000
PROVIDERS = [ACCOUNTS + 1, ACCOUNTS + 2, ACCOUNTS + 3]

# the impact band of BTC is missing in backpack_markets.json; venue_rules.md section 1.3 has it
_BTC_IMPACT = {"minImpactMultiplier": 0.99, "maxImpactMultiplier": 1.01}


def venue_source(symbols: list[str]) -> dict:
    """The venue of the recorded market rows, the newest of each symbol, and of the policy's defaults."""
    recorded = json.loads((SHARED / "data/params/backpack_markets.json").read_text())["markets"]
    markets = []
    for symbol in symbols:
        row = next(r for r in reversed(recorded) if r["symbol"] == symbol)
        price = _BTC_IMPACT | row["price"]
        fractions = [(str(row[f]["base"]), str(row[f]["factor"])) for f in ("imf", "mmf")]
        band = (str(price["minImpactMultiplier"]), str(price["maxImpactMultiplier"]))
        base = symbol.partition("_")[0]
        tick, step = (format(x, "f").rstrip("0") for x in (price["tick"], row["qty"]["step"]))
        markets.append(sample.market_row(base, tick, step, *fractions, impact=band))
    source = sample.venue_source(PROVIDERS)
    return source | {"markets": markets}


def _write(
    out: Path, source: dict, marks: pd.DataFrame, books: pd.DataFrame, accounts: int = ACCOUNTS
) -> dict[str, Path]:
    out.mkdir(parents=True, exist_ok=True)
    venue = load_venue(source)
    first = marks.sort_values("time").groupby("market")["mark_price"].first().to_dict()
    positions, balances, orders = sample.generate_accounts(venue, first, accounts, seed=1)
    tables = {"positions": positions, "balances": balances, "orders": orders, "marks": marks, "books": books}
    files = {"venue": out / "venue.json"}
    files["venue"].write_text(json.dumps(source))
    for name, table in tables.items():
        files[name] = out / f"{name}.parquet"
        table.to_parquet(files[name], index=False)
    return files


def binance_day(out: Path) -> dict[str, Path]:
    """BTC and ETH books of 2024-08-08, second by second; the mark is the mid."""
    parts = []
    for coin in ("btc", "eth"):
        levels = pd.read_parquet(SHARED / f"data/l2_binance_perp/{coin}usdt_perp_20240808_l2_1s_50.parquet")
        levels["time"] = pd.to_datetime(levels.pop("t_ms"), unit="ms", utc=True)
        names = {"bid_px": "bid_price", "bid_sz": "bid_quantity", "ask_px": "ask_price", "ask_sz": "ask_quantity"}
        parts.append(io.books_from_levels(levels.rename(columns=names), f"{coin.upper()}_USDC_PERP"))
    books = pd.concat(parts, ignore_index=True)
    marks = io.marks_from_books(books)
    return _write(out, venue_source(["BTC_USDC_PERP", "ETH_USDC_PERP"]), marks, books)


def january(worst_hours: int | None = None, **policy: object) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """BTC minute by minute in January 2022: venue, marks with the bars of the minutes, and books.

    The prices in between are drawn (`bridge`), unless ``policy`` says otherwise. The books are the depth profiles of
    2024-08-08 re-centred on the price. ``worst_hours`` keeps the window of that many hours with the largest fall.
    """
    bars = pd.read_parquet(SHARED / "data/ftx_btcperp_1m_202201/btc_perp_1m.parquet")
    if worst_hours is not None:
        length = worst_hours * 60
        fall = bars["close"] / bars["close"].shift(length - 1)
        end = int(fall.idxmin())
        bars = bars.iloc[end - length + 1 : end + 1]
    symbol = "BTC_USDC_PERP"
    prices = {"mark_price": bars["close"], "low_price": bars["low"], "high_price": bars["high"]}
    time = pd.to_datetime(bars["timestamp"], utc=True)
    marks = pd.DataFrame({"time": time, "market": symbol, **prices}).reset_index(drop=True)
    levels = pd.read_parquet(SHARED / "data/l2_binance_perp/btcusdt_perp_20240808_fulldepth_60s.parquet")
    levels["time"] = pd.to_datetime(levels.pop("t_ms"), unit="ms", utc=True)
    levels = levels.rename(columns={"px": "price", "sz": "quantity"}).assign(market=symbol)
    source = venue_source([symbol])
    source["policy"] |= {"price_path": "bridge"} | policy
    return source, marks, io.recentre_books(load_venue(source), levels, marks, symbol)


def ftx_month(out: Path, *, worst_days: int | None = None, accounts: int = ACCOUNTS) -> dict[str, Path]:
    """The tables of `january`, or of its worst days."""
    source, marks, books = january(None if worst_days is None else 24 * worst_days)
    return _write(out, source, marks, books, accounts)


def arguments(files: dict[str, Path]) -> list[str]:
    """Command-line options that name the files."""
    return [word for name, path in files.items() for word in (f"--{name}", str(path))]


def main(which: str, out: str) -> None:
    from riskcore.cli import app

    started = time.monotonic()
    folder = Path(out)
    files = {"month": ftx_month, "day": binance_day}[which](folder / "inputs")
    print(f"inputs prepared in {time.monotonic() - started:.0f} s")
    for command in (["replay", *arguments(files), "--out", str(folder / "run")], ["audit", str(folder / "run")]):
        started = time.monotonic()
        app(command, standalone_mode=False)
        print(f"{command[0]} took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
