"""Ways to liquidate the same accounts on real order books: dumped at once, in tenths, and by the engine.

``python -m tests.slice_study [FOLDER ...]`` (``make study``). A folder holds ``NAME_l2_1s_50.parquet`` (t_ms, level,
bid_px, bid_sz, ask_px, ask_sz: 50 levels, second by second), optionally ``NAME_fulldepth_60s.parquet`` (t_ms, side,
level, px, sz: every level, once a minute) and ``meta.json``; by default those of ../shared. Accounts are as large as
the books are deep: where 50 levels are all that is known of BTC they are so small that the full fee closes every one
of them, in tenths as in a dump.

All accounts stand at or past the trigger in the first second. Every way has the same books, fee and backstop; the ways
differ in the policy alone. Two looks at the same day: its books second by second, as if what was taken was back a
second later; and one book a minute that refills with a half-life of 20 seconds. Slippage and displacement are measured
from the mid of the book that was filled in, which in the second look is up to a minute older than the mark.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from riskcore import Accounts, Engine, Tick, Venue, io, load_venue
from riskcore.kernels.margin_function import RATE, ROOT
from riskcore.record import EVENT
from riskcore.venue import MMF
from tests.real_inputs import SHARED, venue_source

FOLDER = SHARED / "data/l2_binance_perp"
ACCOUNTS, PROVIDER = 300, 10_000
TAIL = 0.02  # of the mid: how far a book is filled up from the minute's full depth
HALF_LIFE = 20

_NO_BAND = {"minImpactMultiplier": None, "maxImpactMultiplier": None}
_NEVER = "0.000001"  # a target that no slice restores
WAYS: dict[str, dict[str, Any]] = {
    "dump": {"slice_fraction": 1, "target_mmr": _NEVER, "slice_probability": 1, "harmful_slice": "send"},
    "tenths": {"target_mmr": _NEVER, "slice_probability": 1, "harmful_slice": "send"},
    "engine": {},
    "engine, full fee": {"harmful_slice": "send"},
}
"""Policies, beside the defaults. A dump has no price band either: it takes what the book has."""


@dataclass(frozen=True)
class Day:
    """Books of one market in natural units, and what one contract is."""

    name: str
    levels: pd.DataFrame  # time, level, bid_price, bid_quantity, ask_price, ask_quantity
    full: pd.DataFrame | None  # time, side, level, price, quantity

    @property
    def symbol(self) -> str:
        """Market whose parameters the venue takes."""
        return "ETH_USDC_PERP" if self.name.startswith("eth") else "BTC_USDC_PERP"


def days(folder: Path) -> Iterator[Day]:
    """Every day that a folder holds, by name."""
    known = {}
    if (folder / "meta.json").exists():
        known = {row["name"]: row for row in json.loads((folder / "meta.json").read_text())}
    for path in sorted(folder.glob("*_l2_1s_50.parquet")):
        name = path.name.removesuffix("_l2_1s_50.parquet")
        meta = known.get(name, {})
        levels = pd.read_parquet(path).rename(
            columns={"bid_px": "bid_price", "bid_sz": "bid_quantity", "ask_px": "ask_price", "ask_sz": "ask_quantity"}
        )
        levels["time"] = pd.to_datetime(levels.pop("t_ms"), unit="ms", utc=True)
        inverse = meta.get("kind", "inverse" if "coinm" in name else "linear") == "inverse"
        worth = float(meta.get("contract_mult", 100 if name.startswith("btc") else 10))
        for side in ("bid", "ask"):
            if inverse:  # contracts of so many dollars
                levels[f"{side}_quantity"] *= worth / levels[f"{side}_price"]
        full, deep = None, folder / f"{name}_fulldepth_60s.parquet"
        if deep.exists():
            full = pd.read_parquet(deep).rename(columns={"px": "price", "sz": "quantity"})
            full["time"] = pd.to_datetime(full.pop("t_ms"), unit="ms", utc=True)
            if inverse:
                full["quantity"] *= worth / full["price"]
        yield Day(name, levels, full)


def books_of(day: Day, step: float) -> dict[pd.Timestamp, pd.DataFrame]:
    """Books by second: the 50 levels, and behind them what the last full book had there."""
    table = io.books_from_levels(day.levels, day.symbol)
    full = {} if day.full is None else dict(tuple(day.full.groupby("time")))
    found, tail = {}, None
    for time, book in table.groupby("time"):
        tail = full.get(time, tail)
        parts = [book[["market", "side", "price", "quantity"]]]
        if tail is not None:
            for side, sign in (("bid", 1), ("ask", -1)):
                edge = book.loc[book["side"] == side, "price"]
                edge = edge.min() if sign > 0 else edge.max()
                behind = (tail["side"] == side) & (sign * tail["price"] < sign * edge)
                behind &= sign * tail["price"] > sign * edge * (1 - sign * TAIL)
                parts.append(tail.loc[behind, ["side", "price", "quantity"]].assign(market=day.symbol))
        whole = pd.concat(parts, ignore_index=True)
        whole["quantity"] = np.round(np.floor(np.round(whole["quantity"] / step, 6)) * step, 10)
        whole = whole[whole["quantity"] > 0]
        rank = np.where(whole["side"] == "bid", -whole["price"], whole["price"])
        whole = whole.assign(rank=rank).sort_values(["side", "rank"])
        found[time] = whole.assign(level=whole.groupby("side").cumcount()).drop(columns="rank")
    return found


def venue_of(day: Day, policy: dict[str, Any], *, bands: bool) -> Venue:
    """The venue's published parameters of the market, and a backstop without limits."""
    source = venue_source([day.symbol])
    if not bands:
        source["markets"][0]["filters"]["price"].update(_NO_BAND)
    backstop = [{"account": PROVIDER}]
    return load_venue(source | {"policy": policy | {"fund": 10_000_000}, "backstop": backstop, "borrow_lend": []})


def draw_accounts(venue: Venue, symbol: str, mark: float, depth: float, seed: int) -> dict[str, pd.DataFrame]:
    """Accounts at 100 to 130 % of their maintenance margin, together worth twice the depth within 20 basis points.

    Half of them, by number, are short.
    """
    rng = np.random.default_rng(seed)
    notional = rng.lognormal(0, 1.5, ACCOUNTS)
    side = np.where(np.arange(ACCOUNTS) % 2 == 0, 1, -1)
    for sign in (1, -1):
        notional[side == sign] *= 2 * depth / notional[side == sign].sum()
    step = float(venue.markets.step[0])
    quantity = np.maximum(np.rint(notional / mark / step), 1) * step
    notional = quantity * mark
    first = venue.margin_functions.first[MMF]
    mmf = np.maximum(first[RATE], first[ROOT] * np.sqrt(notional))
    equity = notional * mmf / rng.uniform(1.0, 1.3, ACCOUNTS)
    account = np.arange(ACCOUNTS)
    positions = pd.DataFrame(
        {"account": account, "market": symbol, "quantity": np.round(side * quantity, 10), "entry_price": mark}
    )
    balances = pd.DataFrame({"account": account, "asset": "USDC", "quantity": np.round(equity, 6)})
    provider = pd.DataFrame({"account": [PROVIDER], "asset": ["USDC"], "quantity": [1e9]})
    return {"positions": positions, "balances": pd.concat([balances, provider], ignore_index=True)}


def liquidate(day: Day, books: dict[pd.Timestamp, pd.DataFrame], way: str, *, refill: bool, seed: int) -> dict:
    """Run one way through a day; figures of what it cost and who is left."""
    policy = WAYS[way] | ({"refill_half_life": HALF_LIFE} if refill else {})
    venue = venue_of(day, policy, bands=way != "dump")
    times = list(books)
    if refill:
        kept = {times[0]: books[times[0]]}
        for time in times:
            if (time - max(kept)).total_seconds() >= 60:
                kept[time] = books[time]
        given = kept
    else:
        given = books
    mids = {time: (_best(book, "bid") + _best(book, "ask")) / 2 for time, book in books.items()}
    first, mid = books[times[0]], mids[times[0]]
    near = first[np.abs(first["price"] / mid - 1) <= 0.002]
    depth = float((near["price"] * near["quantity"]).groupby(near["side"]).sum().min())
    accounts = Accounts.from_frames(venue, **draw_accounts(venue, day.symbol, mid, depth, seed))
    engine = Engine(accounts, venue, seed)
    sold = lost = fees = past = 0.0
    reach: list[float] = []
    weight: list[float] = []
    step, unit = float(venue.markets.step[0]), float(venue.settle_quantum)
    for time in times:
        book = given.get(time)
        if book is not None:
            filled_in = mids[time]  # of the book that fills are in until the next one comes
        result = engine.step(Tick(time, {day.symbol: mids[time]}, book), full_table=True)
        rows = result.rows
        fills = rows[rows["event"] == EVENT["book"]]
        size = np.abs(fills["lots"]) * step
        sold += float((size * filled_in).sum())
        lost += float((np.sign(-fills["lots"]) * size * (filled_in - fills["price"])).sum())
        fees += float(fills["fee"].sum()) * unit
        gone = rows[np.isin(rows["event"], [EVENT["backstop"], EVENT["adl"]])]
        past += float((np.abs(gone["lots"]) * step * mids[time]).sum())
        for sign in (1, -1):
            own = np.sign(-fills["lots"]) == sign
            if own.any():
                reach.append(1e4 * float(np.abs(fills["price"][own] / filled_in - 1).max()))
                weight.append(float(size[own].sum()))
    columns = engine.accounts.columns
    table = result.table
    held = np.bincount(accounts.position_accounts(), np.abs(columns.lots), len(accounts)) > 0
    survive = (held & (table.mmr < 1))[:ACCOUNTS]
    equity = float(table.net_equity[:ACCOUNTS].sum())
    start = float((accounts.columns.free * unit)[columns.settle_row[:ACCOUNTS]].sum())
    total = sold + past
    return {
        "day": day.name, "books": "a minute, refilled" if refill else "a second", "way": way,
        "slippage_bp": 1e4 * lost / sold if sold else 0.0, "fee_bp": 1e4 * fees / sold if sold else 0.0,
        "displaced_bp": float(np.average(reach, weights=weight)) if reach else 0.0,
        "displaced_most_bp": max(reach, default=0.0),
        "survivors": float(survive.mean()), "equity_lost": 1 - equity / start, "sold": sold,
        "past_the_book": past / total if total else 0.0,
    }  # fmt: skip


def _best(book: pd.DataFrame, side: str) -> float:
    prices = book.loc[book["side"] == side, "price"]
    return float(prices.max() if side == "bid" else prices.min())


def study(folder: Path, *, seed: int = 0) -> pd.DataFrame:
    """All ways on all days of a folder, both looks."""
    rows = []
    for day in days(folder):
        step = float(venue_of(day, {}, bands=True).markets.step[0])
        books = books_of(day, step)
        for refill in (False, True):
            rows += [liquidate(day, books, way, refill=refill, seed=seed) for way in WAYS]
    return pd.DataFrame(rows)


def main(folders: list[str]) -> None:
    """Print the tables."""
    for folder in [Path(f) for f in folders] or [FOLDER]:
        table = study(folder)
        shown = {"survivors": "{:.1%}", "equity_lost": "{:.1%}", "past_the_book": "{:.1%}", "sold": "{:,.0f}"}
        shown |= {name: "{:.2f}" for name in table if re.search("_bp$", str(name))}
        print(table.to_string(index=False, formatters={n: f.format for n, f in shown.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
