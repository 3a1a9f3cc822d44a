"""Who closes what in a fall: order book, backstop and auto-deleveraging over limits, depth, clock and throttle.

``python -m tests.storm`` (``make storm``) replays one day of BTC, by default 21 January 2022, the worst of its month
(-10.3 % from open to close, -13.9 % from high to low), and prints the table of docs/studies.md; it needs ../shared.
``--day``, ``--hours``, ``--accounts`` and the lists ``--leverage``, ``--depth``, ``--clock`` and ``--probability``
choose another window or grid, ``--half-life``, ``--fraction`` and ``--seed`` test how much the answer depends on them.

A tick is a minute bar with its low and high; the clock goes through it on a seeded bridge. Books are the recorded full
books of BTC, re-centred minute by minute as in `tests.real_inputs`, times ``depth``; what is taken comes back with a
half-life of 20 seconds. In the recorded seconds of three calm sessions a loss of three tenths of the depth within 5 or
10 basis points is half made up after 2 to 5 seconds in the median; in a storm makers are slower.

Accounts are drawn once per leverage limit by `riskcore.sample.generate_accounts`, at the first close of the window:
notional log-normal around 2,000 USDC, six in ten long, leverage log-uniform from 1.5 to the limit, which is also the
base of the venue's initial margin; at least 1.1 times the initial margin; one in ten has since lost a part of what it
had above its maintenance margin. Nobody joins, adds margin or closes by hand during the day.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from riskcore import Accounts, Engine, Venue, io, load_venue, sample, sweep
from riskcore.record import EVENT, STAGES, closes_positions
from tests.real_inputs import SHARED, venue_source

SYMBOL = "BTC_USDC_PERP"
MEASURES = ("notional", "fills", "accounts")


@dataclass(frozen=True)
class Storm:
    """One run: the window, the accounts, and the four figures of the grid.

    ``leverage`` is the highest at which accounts open positions, ``depth`` a multiple of the recorded books, ``clock``
    the seconds of ``liquidation_interval``, ``probability`` that of a slice; ``fraction`` is ``slice_fraction``.
    """

    leverage: int = 75
    depth: float = 1.0
    clock: int = 1
    probability: str = "0.5"
    day: str = "2022-01-21"
    hours: int = 24
    accounts: int = 20_000
    half_life: int = 20
    fraction: str = "0.1"
    seed: int = 1

    def venue(self) -> Venue:
        """The recorded market with an initial margin of this leverage, and the clock."""
        source = venue_source([SYMBOL])
        source["markets"][0]["imfFunction"]["base"] = repr(1 / self.leverage)
        source["policy"] |= {
            "liquidation_interval": self.clock, "price_path": "bridge", "slice_probability": self.probability,
            "refill_half_life": self.half_life, "slice_fraction": self.fraction,
        }  # fmt: skip
        return load_venue(source)


@cache
def marks_of(day: str, hours: int) -> pd.DataFrame:
    """Bars of the window as a table of marks, each at the end of its minute."""
    bars = pd.read_parquet(SHARED / "data/ftx_btcperp_1m_202201/btc_perp_1m.parquet")
    time = pd.to_datetime(bars["timestamp"], utc=True) + pd.Timedelta(minutes=1)
    start = pd.Timestamp(day, tz="UTC")
    inside = (time > start) & (time <= start + pd.Timedelta(hours=hours))
    marks = pd.DataFrame(
        {"time": time, "market": SYMBOL, "mark_price": bars["close"], "low_price": bars["low"],
         "high_price": bars["high"]}
    )  # fmt: skip
    if not inside.any():
        raise SystemExit(f"no bars in the {hours} hours from {day}")
    return marks[inside].reset_index(drop=True)


@cache
def books_of(day: str, hours: int, depth: float) -> pd.DataFrame:
    """Recorded full books around the closes of the window, with a multiple of their quantities."""
    levels = pd.read_parquet(SHARED / "data/l2_binance_perp/btcusdt_perp_20240808_fulldepth_60s.parquet")
    levels["time"] = pd.to_datetime(levels.pop("t_ms"), unit="ms", utc=True)
    levels = levels.rename(columns={"px": "price", "sz": "quantity"}).assign(market=SYMBOL)
    venue = Storm().venue()
    books = io.recentre_books(venue, levels, marks_of(day, hours), SYMBOL)
    step = float(venue.markets.step[0])
    lots = np.floor(np.round(books["quantity"] * depth / step, 6))
    return books.assign(quantity=np.round(lots * step, 10))[lots > 0]


def accounts_of(storm: Storm, venue: Venue) -> Accounts:
    """The drawn accounts at the first close of the window."""
    first = {SYMBOL: float(marks_of(storm.day, storm.hours)["mark_price"].iloc[0])}
    tables = sample.generate_accounts(venue, first, storm.accounts, seed=storm.seed, max_leverage=storm.leverage)
    return Accounts.from_frames(venue, *tables)


def run(storm: Storm) -> dict[str, Any]:
    """Shares of the stages by notional, by fills and by accounts, and what is left at the end.

    An account counts for the last stage that it needed: a part of its positions may have gone to an earlier one.
    """
    venue, marks, books = storm.venue(), marks_of(storm.day, storm.hours), books_of(storm.day, storm.hours, storm.depth)
    accounts = accounts_of(storm, venue)
    engine = Engine(accounts, venue, storm.seed, record=False)
    step, last_book = float(venue.markets.step[0]), 0.0
    notional, fills, last = np.zeros(3), np.zeros(3), np.full(len(accounts), -1)
    for tick in io.read_ticks(venue, accounts, marks, books):
        rows = engine.step(tick).rows
        value = np.abs(rows["lots"]) * step * rows["price"]
        for n, stage in enumerate(STAGES):
            closing = closes_positions(rows, stage)
            notional[n] += value[closing].sum()
            fills[n] += closing.sum()
            np.maximum.at(last, rows["account"][closing], n)
        last_book += value[rows["event"] == EVENT["market_close"]].sum()
    first, last_mark = marks["mark_price"].iloc[[0, -1]]
    end, quantum = sweep(engine.accounts, venue, {SYMBOL: last_mark}).to_frame(), float(venue.settle_quantum)
    found: dict[str, Any] = {name: getattr(storm, name) for name in ("leverage", "depth", "clock", "probability")}
    for measure, counts in zip(MEASURES, (notional, fills, np.bincount(last[last >= 0], minlength=3)), strict=True):
        found |= {f"{measure}, {name}": n / max(counts.sum(), 1) for name, n in zip(STAGES, counts, strict=True)}
    return found | {
        "open interest": np.abs(accounts.columns.lots).sum() * step * first,
        "liquidated": notional.sum(),
        "last book": last_book / max(notional.sum(), 1),
        "liquidated accounts": int((last >= 0).sum()),
        "fund": engine.ledger.fund[venue.settle] * quantum,
        "shortfall": engine.ledger.shortfall[venue.settle] * quantum,
        "left open": end.loc[end["liquidatable"], "exposure"].sum(),
    }


def grid(
    base: Storm, leverage: Sequence[int], depth: Sequence[float], clock: Sequence[int], probability: Sequence[str]
) -> Iterator[Storm]:
    """Yield every combination, the other figures as in ``base``."""
    for limit, times, seconds, chance in product(leverage, depth, clock, probability):
        yield replace(base, leverage=limit, depth=times, clock=seconds, probability=chance)


def study(storms: Sequence[Storm], processes: int | None = None) -> pd.DataFrame:
    """Run them, one per process at a time."""
    count = processes or os.cpu_count() or 1
    if count == 1:
        return pd.DataFrame(map(run, storms))
    with ProcessPoolExecutor(count) as pool:
        return pd.DataFrame(pool.map(run, storms))


def page(table: pd.DataFrame) -> str:
    """The table as Markdown: a row per leverage limit, depth, clock and probability, shares in per cent."""
    measures = [f"{measure}, {stage}" for measure in MEASURES for stage in STAGES]
    head = ["leverage", "depth", "clock", "probability", *measures, "liquidated"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in table.to_dict("records"):
        cells = [f"{row['leverage']}x", f"{row['depth']:g}", f"{row['clock']} s", f"{float(row['probability']):g}"]
        cells += [f"{row[name]:.2%}" for name in measures]
        cells.append(f"{row['liquidated'] / row['open interest']:.1%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the grid and print its table; with ``--out`` write all figures as CSV."""
    storm = Storm()
    parser = argparse.ArgumentParser(prog="python -m tests.storm")
    parser.add_argument("--day", default=storm.day, help="first day of the window, UTC")
    for name in ("hours", "accounts", "half-life", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(storm, name.replace("-", "_")))
    parser.add_argument("--leverage", type=int, nargs="+", default=[75, 20, 10])
    parser.add_argument("--depth", type=float, nargs="+", default=[0.1, 1.0, 10.0])
    parser.add_argument("--clock", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--probability", nargs="+", default=["0.5", "1"])
    parser.add_argument("--fraction", default=storm.fraction, help="slice_fraction")
    parser.add_argument("--out", help="CSV file for all figures")
    given = parser.parse_args()
    base = replace(
        storm, day=given.day, hours=given.hours, accounts=given.accounts, half_life=given.half_life,
        fraction=given.fraction, seed=given.seed,
    )  # fmt: skip
    table = study(list(grid(base, given.leverage, given.depth, given.clock, given.probability)))
    if given.out:
        table.to_csv(given.out, index=False)
    print(page(table))


if __name__ == "__main__":
    main()
