"""Margins: the market at a tick, the accounts as they stand, one account's margin and the sweep over all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .folder import Array, Part, Row, Run, Venue, exact

TOLERANCE = 1e-9
"""Relative: how far two float64 ratios of the same figures may be apart, and where float64 leaves a test in doubt."""
NOISE = 1e-13
"""Rounding error of a float64 net equity, relative to the sum of the absolute amounts in it."""


class _Side:
    """One side of a recorded book: what slices left of it, and of it in the price band."""

    def __init__(self, prices: list[int], lots: list[int], side: int, multiplier: Fraction) -> None:
        self.levels = list(zip(prices, lots, strict=True))[::-1]
        self.in_band = sum(size for price, size in self.levels if (price - prices[0] * multiplier) * side >= 0)
        self.short = "no_book" if not prices else "band" if self.in_band < sum(lots) else "depth"

    def take(self, lots: int) -> int:
        """Lots times ticks of the next `lots` of the book."""
        money, self.in_band = 0, self.in_band - lots
        while lots > 0 and self.levels:
            price, size = self.levels.pop()
            taken = min(size, lots)
            money, lots = money + taken * price, lots - taken
            if taken < size:
                self.levels.append((price, size - taken))
        return money


class Tick:
    """Prices and books of one tick; exact figures are made when asked for."""

    def __init__(self, part: Part, at: int, venue: Venue) -> None:
        self.number, self.time, self.venue = part.first + at, int(part.time[at]), venue
        self.mark, self.asset = part.mark[at], part.asset[at]
        self._part, self._sides = part, dict[tuple[int, int], _Side]()
        self._worth: dict[tuple[str, int, Any], Any] = {}

    def worth(self, kind: str, row: int, of: Callable[[Fraction], Any] = Fraction) -> Any:
        """Settle units of a `lot` of a market at the mark, or of a `quantum` of an asset, in the numbers of `of`."""
        if (kind, row, of) not in self._worth:
            price = float(self.mark[row] if kind == "lot" else self.asset[row])
            unit = self.venue.markets[row].step if kind == "lot" else self.venue.assets[row].quantum
            self._worth[kind, row, of] = of((exact(price) if math.isfinite(price) else Fraction(0)) * unit)
        return self._worth[kind, row, of]

    def side(self, market: int, side: int) -> _Side:
        """Bids (1) or asks (-1) of a market."""
        if (market, side) not in self._sides:
            levels = self._part.levels(self.number, market, side)
            self._sides[market, side] = _Side(*levels, side, self.venue.markets[market].bands[side])
        return self._sides[market, side]


class _Numbers:
    """The venue's figures for margins, all float64 or all Decimal."""

    def __init__(self, venue: Venue, of: Callable[[Fraction], Any], root: Callable[[Any], Any]) -> None:
        self.of, self.root = of, root
        self.markets = [list(map(of, market.curve)) for market in venue.markets]
        self.assets = [list(map(of, asset.curve)) for asset in venue.assets]
        self.haircuts = [list(map(of, asset.haircut)) for asset in venue.assets]
        self.quantum = [of(asset.quantum) for asset in venue.assets]


class Margin(NamedTuple):
    """An account in settle units; `gross` is the sum of the absolute amounts in the equity."""

    equity: Any
    maintenance: Any
    exposure: Any
    gross: Any
    positions: dict[int, Any]  # maintenance margin of each position row with lots

    def agrees(self, ratio: float) -> bool:
        """Whether a float64 MMR can be this account's."""
        if not self.exposure or math.isinf(ratio):
            return ratio == 0 if not self.exposure else ratio > 0 and self.equity <= NOISE * self.gross
        slack = TOLERANCE * self.maintenance + ratio * NOISE * self.gross
        return ratio >= 0 and abs(self.maintenance - ratio * self.equity) <= slack

    def ratio(self) -> float:
        """MMR."""
        if not self.exposure:
            return 0.0
        return math.inf if self.equity <= 0 else float(self.maintenance / self.equity)


class State:
    """Accounts as they stand at a row of the journal; the float64 mirrors in `columns` serve the sweep."""

    def __init__(self, run: Run) -> None:
        positions, balances, orders = (run.start[table] for table in ("positions", "balances", "orders"))
        self.venue, accounts = run.venue, np.arange(len(run.ids) + 1)
        self.position_offset = np.searchsorted(positions["account"], accounts).tolist()
        self.balance_offset = np.searchsorted(balances["account"], accounts).tolist()
        self.owner, self.market = positions["account"], positions["market"].tolist()
        self.holder, self.asset = balances["account"], balances["asset"].tolist()
        self.settle = run.settle_row.tolist()
        self.unsettled: list[int] = run.start["accounts"]["unsettled"].tolist()
        self.lots, self.cost = positions["lots"].tolist(), positions["cost"].tolist()
        self.free, self.lent = balances["quanta"].tolist(), balances["lent"].tolist()
        resting = np.zeros((2, len(self.lots)), np.int64)
        counted = ~orders["reduce_only"]
        np.add.at(resting, ((orders["side"] < 0)[counted] * 1, run.order_position[counted]), orders["lots"][counted])
        self.bid, self.ask = resting.tolist()
        self.open: list[set[int]] = [set() for _ in run.ids]
        for order in np.flatnonzero(orders["lots"] > 0).tolist():
            self.open[int(orders["account"][order])].add(order)
        self.orders, self.order_position = orders, run.order_position.tolist()
        self.floats = _Numbers(run.venue, float, math.sqrt)
        self.decimals = _Numbers(run.venue, lambda value: Decimal(value.numerator) / value.denominator, Decimal.sqrt)
        mirrored = {"lots": self.lots, "cost": self.cost, "free": self.free, "lent": self.lent, "resting": sum(resting)}
        self.columns = {name: np.array(values, np.float64) for name, values in mirrored.items()}
        self.columns["cost"] *= float(run.venue.quantum)
        self.changed()

    def changed(self) -> None:
        """Look again at who has exposure, after rows were applied."""
        self.borrowed = np.flatnonzero(self.columns["free"] < 0)
        at_risk = (self.columns["lots"] != 0) | (self.columns["resting"] != 0)
        self.exposed = np.zeros(len(self.open), bool)
        self.exposed[np.append(self.owner[at_risk], self.holder[self.borrowed])] = True

    def margin(self, account: int, tick: Tick, kind: _Numbers) -> Margin:
        """Margin of an account as the page has it."""
        of, root = kind.of, kind.root
        settle_quantum = kind.quantum[self.venue.settle]
        equity = self.unsettled[account] * settle_quantum
        gross, maintenance, exposure, cost, parts = abs(equity), 0 * equity, 0 * equity, 0, {}
        for p in range(self.position_offset[account], self.position_offset[account + 1]):
            lots, market = self.lots[p], self.market[p]
            cost += self.cost[p]
            gross += abs(self.cost[p]) * settle_quantum
            if lots or self.bid[p] or self.ask[p]:
                worth = tick.worth("lot", market, of)
                notional, (base, factor) = abs(lots) * worth, kind.markets[market]
                exposure += max(abs(lots + self.bid[p]), abs(lots - self.ask[p]), abs(lots)) * worth
                if lots:
                    parts[p] = notional * max(base, factor * root(notional))
                    maintenance += parts[p]
                    equity += lots * worth
                    gross += notional
        equity -= cost * settle_quantum
        for b in range(self.balance_offset[account], self.balance_offset[account + 1]):
            free, asset = self.free[b], self.asset[b]
            tokens = max(free, 0) + self.lent[b]
            if tokens > 0:
                value = tokens * tick.worth("quantum", asset, of)
                weight, base, penalty = kind.haircuts[asset]
                size = tokens * kind.quantum[asset] if self.venue.by_quantity else value
                equity += value * min(weight, base / (1 + penalty * root(size)))
                gross += value
            if free < 0:
                notional, (base, factor) = -free * tick.worth("quantum", asset, of), kind.assets[asset]
                maintenance += notional * max(base, factor * root(notional))
                exposure += notional
                equity -= notional
                gross += notional
        return Margin(equity, maintenance, exposure, gross, parts)

    def apply(self, row: Row) -> None:
        """Add the changes of a row."""
        for p, lots, cost in (row.position, row.lots, row.cost), (row.counter_position, -row.lots, row.counter_cost):
            if p >= 0 and (lots or cost):
                self.lots[p] += lots
                self.cost[p] += cost
                self.columns["lots"][p] = self.lots[p]
                self.columns["cost"][p] = self.cost[p] * float(self.venue.quantum)
        changes = [(self.settle[row.account], row.cash - row.fee), (row.balance, row.quanta)]
        if row.counterparty >= 0:
            changes.append((self.settle[row.counterparty], row.counter_cash))
        if row.event == "redeem":
            self.lent[row.balance] -= row.quanta
            self.columns["lent"][row.balance] = self.lent[row.balance]
        for b, quanta in changes:
            if quanta and b >= 0:
                self.free[b] += quanta
                self.columns["free"][b] = self.free[b]
        if row.event == "cancel" and row.order in self.open[row.account]:
            self.open[row.account].remove(row.order)
            if not self.orders["reduce_only"][row.order]:
                p, lots = self.order_position[row.order], int(self.orders["lots"][row.order])
                (self.bid if self.orders["side"][row.order] > 0 else self.ask)[p] -= lots
                self.columns["resting"][p] -= lots


class Sweep:
    """Margins of all accounts at once, from the state's mirrors."""

    def __init__(self, state: State) -> None:
        self.state, kind = state, state.floats
        self.market, self.asset = np.array(state.market, np.int64), np.array(state.asset, np.int64)
        self.base, self.factor = np.array(kind.markets).reshape(-1, 2)[self.market].T
        self.weight, self.haircut_base, self.penalty = np.array(kind.haircuts)[self.asset].T
        self.debt_base, self.debt_factor = np.array(kind.assets)[self.asset].T
        self.quantum = np.array(kind.quantum)
        self.step = np.array([float(market.step) for market in state.venue.markets])
        self.unsettled = np.array(state.unsettled, np.float64) * float(state.venue.quantum)

    def _worths(self, tick: Tick) -> tuple[Array, Array]:
        """Settle units of a lot of every position row, and of a quantum of every balance row."""
        lot, quantum = np.nan_to_num(tick.mark) * self.step, np.nan_to_num(tick.asset) * self.quantum
        return lot[self.market], quantum[self.asset]

    def margins(self, tick: Tick) -> tuple[Array, Array, Array]:
        """Net equity, maintenance margin and gross of all accounts."""
        state, count = self.state, len(self.unsettled)
        (lots, cost, free, lent, _), (per_lot, per_quantum) = state.columns.values(), self._worths(tick)
        owner, holder = state.owner, state.holder
        value = lots * per_lot
        notional = np.abs(value)
        margin = notional * np.maximum(self.base, self.factor * np.sqrt(notional))
        tokens = np.maximum(free, 0) + lent
        worth = tokens * per_quantum
        size = tokens * self.quantum[self.asset] if state.venue.by_quantity else worth
        weighted = worth * np.minimum(self.weight, self.haircut_base / (1 + self.penalty * np.sqrt(size)))
        equity = np.bincount(holder, weighted, count) + np.bincount(owner, value - cost, count) + self.unsettled
        gross = np.bincount(holder, worth, count) + np.bincount(owner, notional + np.abs(cost), count)
        maintenance, of = np.bincount(owner, margin, count), state.borrowed
        debt = -free[of] * per_quantum[of]
        margin = debt * np.maximum(self.debt_base[of], self.debt_factor[of] * np.sqrt(debt))
        owed = np.bincount(holder[of], debt, count)
        maintenance += np.bincount(holder[of], margin, count)
        return equity - owed, maintenance, gross + owed + np.abs(self.unsettled)

    def unpriced(self, tick: Tick) -> bool:
        """Whether something that is held has no price."""
        lots, _, free, lent, resting = self.state.columns.values()
        no_mark, no_price = np.isnan(tick.mark)[self.market], np.isnan(tick.asset)[self.asset]
        return bool(((lots != 0) | (resting != 0))[no_mark].any() or ((free != 0) | (lent != 0))[no_price].any())

    def winners(self, tick: Tick, selected: dict[int, int], equity: Array, gross: Array) -> _Winners:
        """Who ADL may close positions against in this tick."""
        (lots, cost, free, *_), (per_lot, per_quantum) = self.state.columns.values(), self._worths(tick)
        owner, value = self.state.owner, lots * per_lot
        bid, ask = np.array(self.state.bid), np.array(self.state.ask)
        worst = np.maximum(np.maximum(np.abs(lots + bid), np.abs(lots - ask)), np.abs(lots)) * per_lot
        exposure = np.bincount(owner, worst, len(equity))
        exposure += np.bincount(self.state.holder, np.maximum(-free, 0) * per_quantum, len(equity))
        profit, solvent = value - cost, equity[owner]
        noise = NOISE * (np.abs(value) + np.abs(cost)), NOISE * gross[owner]
        may = (lots != 0) & (profit >= -noise[0]) & (solvent >= -noise[1]) & ~np.isin(owner, list(selected))
        sure = may & (profit > noise[0]) & (solvent > noise[1])
        score = profit / np.abs(cost) * exposure[owner] / solvent
        slack = np.nan_to_num(TOLERANCE + noise[0] / profit + noise[1] / solvent)
        score[(cost * lots <= 0) | np.isnan(score)] = np.inf
        slack[np.isinf(score)] = 0
        queues: dict[tuple[int, bool], list[int]] = defaultdict(list)
        rows = np.flatnonzero(may)
        for p in rows[np.lexsort((owner[rows], -score[rows]))].tolist():
            queues[self.state.market[p], bool(lots[p] > 0)].append(p)
        figures = np.stack([lots, cost, exposure[owner], solvent], axis=1)
        return _Winners(queues, sure, score * (1 - slack), score * (1 + slack), figures)


@dataclass
class _Winners:
    """ADL counterparties of a tick: position rows by market and side (long or not), best score first, ties by account.

    `low` and `high` hold the score of every position row, less and plus what float64 leaves in doubt; rows that are not
    `sure` may or may not be profitable and solvent. `figures` (lots, cost, exposure, net equity) tell true ties.
    """

    queues: dict[tuple[int, bool], list[int]]
    sure: Array
    low: Array
    high: Array
    figures: Array
    used: dict[tuple[int, bool], int] = field(default_factory=lambda: defaultdict(int))

    def fits(self, market: int, lots: int, position: int, now: list[int]) -> bool:
        """Whether `position` (-1: nobody) may be the next against `lots`; `now` holds the lots of all positions."""
        side, best, tied = (market, lots < 0), -math.inf, -1
        queue = self.queues.get(side, [])
        while self.used[side] < len(queue) and now[queue[self.used[side]]] * lots >= 0:
            self.used[side] += 1
        for p in queue[self.used[side] :]:
            if now[p] * lots >= 0:
                continue
            if p == position:
                return bool(self.high[p] >= best) and (tied < 0 or (self.figures[tied] != self.figures[p]).any())
            if self.sure[p]:
                if position < 0:
                    return False
                best, tied = max(best, self.low[p]), p
        return position < 0
