"""Crowds: accounts of every odd kind, drawn by a seed all at once, at a venue of every odd rule.

Where `tests.strategies` draws a few accounts row by row, these come by the thousand: enough for groups, chunks and
price intervals. Each account's equity is brought to a multiple of its maintenance margin, often exactly to an edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from riskcore import Accounts, Tick, Venue, load_venue
from riskcore.kernels.layouts import OrderColumns
from riskcore.margin import margins_of
from riskcore.market import Prices
from riskcore.state import Orders
from tests.strategies import BASES, OTHERS, SETTLE, asset_rows, market_rows

OUT_OF_RANGE = np.array([2**31 - 1, 2**31, -(2**31) + 1, -(2**31), 2**33])  # lots about the end of int32
TARGETS = [-1, 0, 0, 0.25, 0.5, 0.5, 0.9, 1, 1, 1, 0.999, 1.001, 1.01, 1.03, 1.1, 1.3, 2, 6]


@dataclass(frozen=True)
class Market:
    """A venue, and where its prices are; ``idle`` markets, the last ones, are held by nobody."""

    venue: Venue
    mark: np.ndarray
    asset: np.ndarray
    idle: int = 0

    def asset_prices(self) -> np.ndarray:
        """Prices of assets, from a market's mark where none is given."""
        price = np.where(np.isnan(self.asset), 1.0, self.asset)
        for m, k in enumerate(self.venue.markets.base_asset.tolist()):
            if k >= 0 and np.isnan(self.asset[k]):
                price[k] = self.mark[m]
        return price

    def prices(self, accounts: Accounts, mark=None, asset=None, interest=None) -> Prices:
        given = [self.mark if mark is None else mark, self.asset if asset is None else asset]
        return Prices.of_tick(self.venue, accounts, Tick(0, given[0], None, None, given[1], interest))


@st.composite
def haircuts(draw):
    """Weights that shrink early, late, at once or never: the base may be at or below the weight, or a bit above."""
    weight = draw(st.sampled_from(["0", "0.3", "0.8", "0.95", "1"]))
    if draw(st.integers(0, 3)) == 0:
        return {"weight": weight, "kind": {"type": "identity"}}
    above = draw(st.sampled_from(["-0.2", "0", "0.0000000000001", "0.0000001", "0.01", "0.2", "1"]))
    base = max(float(weight) + float(above), 1e-6)
    penalty = draw(st.sampled_from(["0", "1e-13", "1e-18", "0.00005", "0.0004", "0.02", "3", "1e18"]))
    return {"weight": weight, "kind": {"type": "inverseSqrt", "base": repr(base), "positiveCurvePenalty": penalty}}


@st.composite
def markets(draw, idle=0, money=False):
    """A venue of up to four markets and as many assets, with every kind of margin function and haircut.

    ``money``: inverse contracts too, and markets that settle in any asset.
    """
    rows = [draw(market_rows(base)) for base in BASES[: draw(st.integers(1 + idle, 4))]]
    bases = BASES[: len(rows) - idle]  # what nobody holds may have no price
    symbols = draw(st.lists(st.sampled_from((*bases, *OTHERS)), max_size=3, unique=True))
    symbols.insert(draw(st.integers(0, len(symbols))), SETTLE)
    if money:
        for row in rows:
            row["marketType"] = draw(st.sampled_from(["PERP", "IPERP"]))
            row["settle"] = draw(st.sampled_from(symbols))
            row["multiplier"] = draw(st.sampled_from(["1", "1", "0.001", "100"]))
    collateral = []
    for symbol in symbols:
        row = draw(asset_rows(symbol))
        if symbol != SETTLE or draw(st.integers(0, 5)) == 0:
            row["haircutFunction"] = draw(haircuts())
        collateral.append(row)
    source = {
        "settle_asset": SETTLE,
        "markets": rows,
        "collateral": collateral,
        "policy": {
            "acmf_divisor": draw(st.sampled_from([2, 2, "2.5", "7/3", 1])),
            "acmf_offset": draw(st.sampled_from(["0.06", "0.06", "0.3", "0.01", 0])),
            "haircut_size_unit": draw(st.sampled_from(["notional", "quantity"])),
        },
    }
    mark = np.array([float(row["price"]) for row in rows])
    asset = np.full(len(symbols), np.nan)
    for k, symbol in enumerate(symbols):
        if symbol in OTHERS:
            asset[k] = draw(st.sampled_from([17.25, 1.0, 4_321.5]))
        elif symbol != SETTLE and (money or draw(st.booleans())):
            asset[k] = mark[BASES.index(symbol)] * draw(st.sampled_from([0.98, 1.0, 1.01]))
    return Market(load_venue(source), mark, asset, idle)


def crowd(market: Market, count: int, seed: int, targets: Any = TARGETS) -> Accounts:
    """Draw so many accounts, and bring each to an equity that is a multiple of its maintenance margin."""
    rng, venue = np.random.default_rng(seed), market.venue
    positions, orders = _positions(rng, market, count)
    balances = _balances(rng, market, count, positions)
    limit = np.where(rng.random(count) < 0.1, rng.choice([1.0, 3.0, 12.5], count), np.inf)
    settle = np.flatnonzero(balances[1] == venue.settle)
    unsettled = np.zeros(len(balances[0]), np.int64)
    unsettled[settle] = np.where(rng.random(count) < 0.2, rng.normal(0, 1e9, count), 0)
    for money in venue.money[1:]:
        rows = np.flatnonzero(balances[1] == money)
        unit = market.asset_prices()[money] * venue.assets.quantum_size[money]
        unsettled[rows] = np.where(rng.random(len(rows)) < 0.2, rng.normal(0, 1e3, len(rows)) / unit, 0)

    def built() -> Accounts:
        return Accounts.from_rows(venue, np.arange(count) * 3 + 1, positions, (*balances, unsettled), orders, limit)

    accounts = built()
    prices = market.prices(accounts)
    look = margins_of(accounts, np.arange(count), prices)
    required = look.maintenance_margin
    divisor, offset = float(venue.policy.acmf_divisor), float(venue.policy.acmf_offset)
    wanted = required * rng.choice(targets, count)
    at_edge = rng.random(count) < 0.1
    wanted[at_edge] = np.maximum(required / divisor, required - offset * look.exposure)[at_edge]
    missing = (
        np.rint((wanted - look.net_equity) / float(venue.settle_quantum)).clip(-(2.0**57), 2.0**57).astype(np.int64)
    )
    missing += rng.choice([-1, 0, 0, 0, 1], count)
    how = rng.random(count)
    balances[2][settle] += np.where(how < 0.3, missing, 0)
    balances[3][settle] += np.where((how >= 0.3) & (how < 0.35) & (missing > 0), missing, 0)
    unsettled[settle] += np.where(how >= 0.35, missing, 0)
    return built()


def _positions(rng, market: Market, count: int):
    """Rows of positions, some of nothing and some past int32, and of orders at some of them."""
    markets = market.venue.markets
    value = markets.lot_values(market.mark)
    per_lot = np.abs(value) * market.asset_prices()[markets.settle]
    held = len(per_lot) - market.idle
    number = np.minimum(*rng.integers(0, held + 1, (2, count)))
    place = rng.random((count, held)).argsort(axis=1).argsort(axis=1)
    owner, kind = (n.astype(np.int64) for n in np.nonzero(place < number[:, None]))
    rows = len(owner)
    notional = 10 ** np.where(rng.random(rows) < 0.1, rng.uniform(6, 9, rows), rng.uniform(1, 5.5, rows))
    lots = np.rint(notional / per_lot[kind]).clip(1, 2.0**40).astype(np.int64) * rng.choice([1, -1], rows)
    lots[rng.random(rows) < 0.12] = 0
    wide = rng.random(rows) < 0.01
    lots[wide] = rng.choice(OUT_OF_RANGE, wide.sum())
    unit = market.venue.assets.quantum_size[markets.settle]
    cost = lots * value[kind] / unit[kind] * rng.normal(1, 0.02, rows)
    cost = np.rint(cost).clip(-(2.0**57), 2.0**57).astype(np.int64)
    chosen = np.flatnonzero(rng.random(rows) < 0.12)
    size = np.maximum(np.rint(10 ** rng.uniform(1, 6, len(chosen)) / per_lot[kind[chosen]]), 1).astype(np.int64)
    size[rng.random(len(chosen)) < 0.1] = 0
    side, reduce_only = rng.choice([1, -1], len(chosen)), rng.random(len(chosen)) < 0.25
    orders = Orders(OrderColumns(owner[chosen], kind[chosen], side, np.ones_like(size), size, reduce_only))
    return (owner, kind, lots, cost, cost.copy()), orders


def _balances(rng, market: Market, count: int, positions):
    """Rows of balances: free, lent, borrowed, lent and borrowed at once, nothing, and about where a weight shrinks."""
    assets = market.venue.assets
    settle = market.venue.settle
    held = rng.random((count, len(assets.symbol))) < 0.4
    held[:, settle] = True
    held[positions[0], market.venue.markets.settle[positions[1]]] = True
    owner, kind = (n.astype(np.int64) for n in np.nonzero(held))
    rows = len(owner)
    price = market.asset_prices()
    worth = 10 ** rng.uniform(0, 6, rows)
    quanta = np.rint(worth / (price * assets.quantum_size)[kind]).clip(1, 2.0**58)
    by_notional = market.venue.policy.haircut_size_unit == "notional"
    per_quantum = assets.quantum_size * (price if by_notional else 1.0)
    with np.errstate(all="ignore"):
        bend = np.square((assets.haircut_base / assets.weight - 1) / assets.haircut_penalty) / per_quantum
    near = bend[kind] * (1 + rng.choice([-1e-6, -1e-9, -1e-12, 0, 1e-9, 1e-3], rows)) + rng.integers(-1, 2, rows)
    at_bend = (
        (rng.random(rows) < 0.3) & np.isfinite(near) & (near >= 1) & (near * (price * assets.quantum_size)[kind] < 1e9)
    )
    quanta = np.where(at_bend, np.where(np.isfinite(near), near, 0).clip(0, 2.0**58), quanta).astype(np.int64)
    what = rng.random(rows)
    free = np.select([what < 0.5, what < 0.6, what < 0.7, what < 0.85], [quanta, 0, quanta // 2, -quanta], -quanta // 4)
    lent = np.select([what < 0.5, what < 0.6, what < 0.7, what < 0.85], [0, quanta, quanta // 2, 0], quanta // 3)
    nothing = rng.random(rows) < 0.1
    free[nothing], lent[nothing] = 0, 0
    free[kind == settle] = np.where(rng.random(count) < 0.7, 0, free[kind == settle])
    lent[kind == settle] = np.where(rng.random(count) < 0.9, 0, lent[kind == settle])
    return owner, kind, free, lent


def moved(prices: Prices, mark=None, asset=None, interest=None) -> Prices:
    """The same with other prices, as they are: nothing follows."""
    return replace(
        prices,
        mark=prices.mark if mark is None else mark,
        asset=prices.asset if asset is None else asset,
        open_interest=prices.open_interest if interest is None else interest,
    )
