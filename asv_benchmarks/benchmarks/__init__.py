"""The workload of the suites, and how two things are compared: generated, seeded, the same on every machine.

Milliseconds of a shared machine say little (its speed drifts within minutes), so suites give ratios of calls made in
turn in one process, or exact counts. ``RISKCORE_BENCH_ACCOUNTS`` sets the number of accounts: 1,000,000 unless a smoke
run wants fewer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from riskcore import Accounts, Venue, load_venue
from riskcore.sample import market_row

ACCOUNTS = int(os.environ.get("RISKCORE_BENCH_ACCOUNTS", "1000000"))
MARKETS, ASSETS = 150, 20


def wide_venue(*, mixed: bool = False, money: bool = False) -> Venue:
    """150 markets and 20 collateral assets; ``mixed``: the markets take the three kinds of margin function in turn.

    ``money``: of each asset there is a second market that settles in USDT, and an inverse one.
    """
    imf, mmf = ("0.02", "0.00005"), ("0.0125", "0.00003")
    markets = [market_row(f"A{n}", "0.01", "0.001", imf, mmf, impact=None) for n in range(1, MARKETS + 1)]
    twins = [
        row | {"symbol": f"{row['baseSymbol']}_{quote}_PERP", "quoteSymbol": quote, "marketType": kind}
        for quote, kind in (("USDT", "PERP"), ("USD", "IPERP"))
        for row in markets[: ASSETS - 1]
    ]
    if mixed:
        for row in markets[1::3]:
            row["imfFunction"] = {"type": "tiers", "whole": True, "brackets": brackets(0.02)}
            row["mmfFunction"] = {"type": "tiers", "brackets": brackets(0.01)}
        for row in markets[2::3]:
            row["imfFunction"] = {"type": "open_interest", "base": "0.02", "lower": "1000000", "upper": "1e9"}
    kind = {"type": "identity"}
    names = ["USDC", *(f"A{n}" for n in range(1, ASSETS))]
    if money:
        markets, names = [*markets, *twins], [*names, "USDT"]
    return load_venue(
        {
            "settle_asset": "USDC",
            "markets": markets,
            "collateral": [{"symbol": n, "haircutFunction": {"weight": "0.95", "kind": kind}} for n in names],
        }
    )


def brackets(rate: float) -> list[dict[str, str]]:
    """Ten brackets of the proportions that a large venue publishes."""
    edges = [0, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 5e6]
    return [{"from": str(edge), "rate": str(round(rate * (1 + n), 6))} for n, edge in enumerate(edges)]


def wide_tables(venue: Venue, accounts: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Positions, balances and marks, as Parquet files of them would be read; rows by account, then market or asset.

    An account has 3 to 10 positions (4.95 in the mean) in Zipf-popular markets and 1 to 4 balances (2.0), the first in
    USDC; 6 % of the others are borrows. 1.1 % of the positions stand above the kink of the square root, 0.5 % of the
    accounts at a maintenance margin ratio of 1 or more. Whatever is paid is a whole number of quanta.
    """
    rng = np.random.default_rng(7)
    price = np.exp(rng.uniform(0, 6, MARKETS)).round(2)
    popular = 1 / np.arange(1, MARKETS + 1)
    account, market, _ = _drawn(rng, popular, np.minimum(3 + rng.poisson(1.946, accounts), 10))
    notional = np.minimum(rng.lognormal(7.4, 2.0, len(market)), 1e6)
    lots = np.maximum(np.rint(notional / (price[market] * 0.001)), 1) * np.where(rng.random(len(market)) < 0.5, 1, -1)
    entry = np.maximum((price[market] * (1 + rng.normal(0, 0.01, len(market)))).round(2), 0.01)
    positions = pd.DataFrame(
        {
            "account": account,
            "market": _names(venue.markets.symbol, market),
            "quantity": lots / 1000,
            "entry_price": entry,
        }
    )
    value = lots / 1000 * price[market]
    gross = np.bincount(account, np.abs(value), accounts)
    profit = np.bincount(account, value - lots / 1000 * entry, accounts)

    extra = np.minimum(rng.poisson(1.02, accounts), 3)
    holder, other, drawn = _drawn(rng, np.ones(ASSETS - 1), extra)
    # the margin that an account has left: in one of two hundred less than the requirement of 1.25 %, and a box of
    # prices of 100 or 200 basis points leaves 0.7 or 1.6 % more in doubt
    margin = np.maximum(gross * rng.uniform(0.0, 2.4, accounts) - profit, 0.0)
    settle, others = margin / (1 + extra) / 0.95, (margin / (1 + extra) / 0.95)[holder] / price[other]
    borrowed = drawn < 0.06
    others[borrowed] *= -0.2
    rows = np.arange(accounts) + np.r_[0, extra.cumsum()[:-1]]
    first = np.zeros(accounts + len(other), bool)
    first[rows] = True
    asset, quantity = np.zeros(len(first), np.int64), np.empty(len(first))
    asset[~first], quantity[~first], quantity[first] = other + 1, others.round(6), settle.round(6)
    balances = pd.DataFrame(
        {
            "account": np.repeat(np.arange(accounts), 1 + extra),
            "asset": _names(venue.assets.symbol, asset),
            "quantity": quantity,
        }
    )
    return positions, balances, dict(zip(venue.markets.symbol, price.tolist(), strict=True))


def _drawn(
    rng: np.random.Generator, popular: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner and item of every row: ``count`` distinct items per owner, ascending; and a uniform number for each."""
    most = int(count.max())
    # the smallest weighted keys are a draw without replacement; a pool of such draws serves all owners
    key = rng.exponential(size=(1 << 16, len(popular))) / popular
    pool = np.argpartition(key, most, axis=1)[:, :most]
    pool = np.take_along_axis(pool, np.take_along_axis(key, pool, 1).argsort(axis=1), 1).astype(np.uint8)
    item = pool[rng.integers(0, len(pool), len(count))]
    item[np.arange(most) >= count[:, None]] = 255
    item.sort(axis=1)
    kept = item != 255
    return np.repeat(np.arange(len(count)), count), item[kept].astype(np.int64), rng.random(int(count.sum()))


def _names(symbols: tuple[str, ...], rows: np.ndarray) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(rows, symbols)).astype("str")


def with_twins(positions: pd.DataFrame, marks: dict[str, float]) -> tuple[pd.DataFrame, dict[str, float]]:
    """Positions and prices, where a third of the accounts trades the USDT and the inverse markets of `wide_venue` too.

    Two in three of the positions that such an account has in markets with twins move to one of them, with about the
    same notional: a contract of an inverse market is worth 1 USD.
    """
    price, twins = np.array(list(marks.values())), ASSETS - 1
    symbols = (*marks, *(f"A{n}_{quote}_PERP" for quote in ("USDT", "USD") for n in range(1, ASSETS)))
    market = pd.Categorical(positions["market"], symbols).codes.astype(np.int64)
    account, quantity = positions["account"].to_numpy(), positions["quantity"].to_numpy()
    twin = np.where((account % 3 == 0) & (market < twins), (account // 3 + market) % 3, 0)
    contracts = np.rint(quantity * price[market]) + np.where(quantity < 0, -1, 1)
    moved = _names(symbols, np.where(twin > 0, MARKETS + (twin - 1) * twins + market, market))
    positions = positions.assign(market=moved, quantity=np.where(twin == 2, contracts, quantity))
    prices = [*price, *price[:twins], *price[:twins]]
    return positions, dict(zip(symbols, prices, strict=True)) | {"USDT": 0.9997}


@cache
def wide_accounts(
    accounts: int, *, mixed: bool = False, money: bool = False
) -> tuple[Venue, Accounts, dict[str, float]]:
    """The tables loaded; ``money`` as of `wide_venue` and `with_twins`."""
    venue = wide_venue(mixed=mixed, money=money)
    positions, balances, marks = wide_tables(wide_venue(), accounts)
    if money:
        positions, marks = with_twins(positions, marks)
    return venue, Accounts.from_frames(venue, positions, balances), marks


def interleaved_ratio(slow: Callable[[], object], fast: Callable[[], object], rounds: int = 5) -> float:
    """Time of ``slow`` over that of ``fast``, the two run in turn in this process: the median of the rounds' ratios."""
    ratios = []
    for _ in range(rounds):
        times = [seconds(slow), seconds(fast)]
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class _Figures:
    """A suite whose figures are measured together, in one process; the underscore hides it from asv.

    A suite has ``params``, the names of the figures, and ``setup_cache``, which gives for each a number, or a text that
    says why this machine has none: asv skips it then, and shows the text.
    """

    param_names = ("figure",)
    timeout = 3600
    unit = "ratio"

    def setup(self, found: dict[str, float | str], figure: str) -> None:
        if isinstance(found[figure], str):
            raise NotImplementedError(found[figure])

    def track_figure(self, found: dict[str, float | str], figure: str) -> float:
        return float(found[figure])

    track_figure.pretty_name = "{figure}"
