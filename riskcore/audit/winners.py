"""Counterparties of ADL: accounts at a tick's sweep, and the policies that rank or weigh them.

The engine's scores and weights are float64. Each input is moved by its own rounding error to bound the difference that
another order of the same operations makes; within that bound the recorded rows decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from .cursor import DOUBT
from .folder import Array
from .margins import NOISE, Sweep, Tick, sums
from .shares import integer_weights, short_weights

Function = Callable[[SimpleNamespace], Array]
"""A policy: scores or weights by the figures of the counterparties of a market and side."""

_OPEN = 8
"""How many weights that float64 leaves open are tried both ways."""


class Policy(NamedTuple):
    """A score (queues) or a weight (shared)."""

    function: Function
    shared: bool


def _pnl(f: SimpleNamespace) -> Array:
    return np.asarray((f.value - f.entry) / np.abs(f.entry))


def _lev(f: SimpleNamespace) -> Array:
    return np.asarray(f.exposure / f.equity)


def _or_first(f: SimpleNamespace, score: Array) -> Array:
    """Put profits without an entry cost first."""
    free = (f.value > f.entry) & (f.entry * np.sign(f.value) <= 0)
    return np.where(free, np.inf, score)


def _levered(f: SimpleNamespace, lev: Array) -> Array:
    pnl = _pnl(f)
    return _or_first(f, np.where(pnl > 0, pnl * lev, pnl / lev))


def _pnl_leverage(f: SimpleNamespace) -> Array:
    return _levered(f, _lev(f))


def _bitmex(f: SimpleNamespace) -> Array:
    share = np.where(f.maintenance == 0, f.equity, f.equity * f.requirement / f.maintenance)
    return _levered(f, np.abs(f.value) / share)


def _bybit(f: SimpleNamespace) -> Array:
    pnl = _pnl(f)
    return _or_first(f, np.where(pnl > 0, pnl * _lev(f), -np.inf))


def _hyperliquid(f: SimpleNamespace) -> Array:
    gain = np.where(f.value > 0, f.value / f.entry, f.entry / f.value)
    return _or_first(f, gain * np.abs(f.value) / f.equity)


def _binance(f: SimpleNamespace) -> Array:
    gain = np.maximum(f.value - f.entry, 0.0)
    return np.asarray(gain / np.maximum(f.equity - f.profit, 1.0) * f.maintenance / f.equity)


POLICIES = {
    "pnl_leverage": Policy(_pnl_leverage, False),
    "bitmex": Policy(_bitmex, False),
    "bybit": Policy(_bybit, False),
    "hyperliquid": Policy(_hyperliquid, False),
    "binance": Policy(_binance, False),
    "size": Policy(lambda f: np.abs(f.value), False),
    "leverage": Policy(_lev, False),
    "bankruptcy_price": Policy(lambda f: np.zeros(len(f.value)), False),
    "pro_rata": Policy(lambda f: f.lots * 1.0, True),
    "capped_pro_rata": Policy(lambda f: f.equity, True),
    "rap_linear": Policy(lambda f: f.lots * _lev(f), True),
    "rap_power": Policy(lambda f: f.lots * _lev(f) * _lev(f), True),
    "rap_tail": Policy(lambda f: f.lots * np.maximum(_lev(f) - 5.0, 0.0), True),
}


@dataclass
class Side:
    """The counterparties of a market and side: position rows, best score first and ties by account.

    `low` and `high` hold the key of each, less and plus what float64 leaves in doubt; those that are not `sure` may or
    may not take part. Where all `figures` of two are the same, so are their keys.
    """

    rows: list[int]
    index: dict[int, int]
    sure: Array
    low: Array
    high: Array
    figures: Array
    first: int = 0
    """Index before which nobody has room left in this tick."""

    def tied(self, one: int, two: int) -> bool:
        """Whether two indices have the same key for certain."""
        certain = self.low[one] == self.high[one] == self.low[two] == self.high[two]
        return bool(certain or (self.figures[one] == self.figures[two]).all())


class Swept:
    """All accounts at a tick's sweep, in settle units.

    By position row: `lots`, `market`, `owner`, `value`, `entry`, `requirement`; by account the others.
    """

    def __init__(self, positions: dict[str, Array], accounts: dict[str, Array], selected: list[int]) -> None:
        self.lots, self.market, self.owner = (positions[name] for name in ("lots", "market", "owner"))
        self.value, self.entry = positions["value"], positions["entry"]
        self.positions, self.accounts = positions, accounts
        self.not_selected = np.ones(len(accounts["equity"]), bool)
        self.not_selected[selected] = False
        self._sides = dict[tuple[int, bool, bool], Side]()
        self._choices = dict[tuple[int, bool], list[dict[int, int]]]()

    def members(self, market: int, long: bool, profitable: bool) -> tuple[Array, Array]:
        """Position rows of the counterparties of a market and side, and whether they are that for certain."""
        of_side = (self.market == market) & self.not_selected[self.owner] & (self.lots > 0 if long else self.lots < 0)
        rows = np.flatnonzero(of_side)
        equity, off = self.accounts["equity"][self.owner[rows]], NOISE * self.accounts["gross"][self.owner[rows]]
        may, sure = equity >= -off, equity > off
        if profitable:
            value, entry = self.value[rows], self.entry[rows]
            off = NOISE * (np.abs(value) + np.abs(entry))
            may, sure = may & (value - entry >= -off), sure & (value - entry > off)
        return rows[may], sure[may]

    def figures(self, rows: Array) -> tuple[SimpleNamespace, dict[str, Array]]:
        """Figures that a policy is given, and the error of each."""
        owner, accounts = self.owner[rows], self.accounts
        inputs = {
            "lots": np.abs(self.lots[rows]), "value": self.value[rows], "entry": self.entry[rows],
            "requirement": self.positions["requirement"][rows],
            **{name: accounts[name][owner] for name in ("equity", "exposure", "maintenance", "profit")},
        }  # fmt: skip
        off = {name: NOISE * np.abs(inputs[name]) for name in ("entry", "requirement", "exposure", "maintenance")}
        off["value"] = NOISE * (np.abs(inputs["value"]) + np.abs(inputs["entry"]))
        off["equity"], off["profit"] = NOISE * accounts["gross"][owner], NOISE * accounts["profit_gross"][owner]
        return SimpleNamespace(**inputs), off

    def judge(self, rows: Array, function: Function) -> tuple[Array, Array, Array, list[Array]]:
        """Return the keys, their least and their most, and the figures that change them."""
        inputs, off = self.figures(rows)

        def keys(figures: SimpleNamespace) -> Array:
            score = np.array(function(figures), np.float64)  # a copy: it may be one of the figures
            return np.where(np.isnan(score), -np.inf, score)

        key, matter = keys(inputs), list[Array]()
        slack = np.zeros(len(key))
        for name, error in off.items():
            worst = np.zeros(len(key))
            for sign in (1, -1):
                other = keys(SimpleNamespace(**(vars(inputs) | {name: getattr(inputs, name) + sign * error})))
                worst = np.maximum(worst, np.where(other == key, 0.0, np.abs(other - key)))
            if worst.any():
                matter.append(getattr(inputs, name))
                slack += worst
        if matter:
            slack += DOUBT * np.where(np.isinf(key), 0.0, np.abs(key))
        low, high = (np.where(slack == 0, key, key + sign * slack) for sign in (-1, 1))
        low[np.isnan(low)], high[np.isnan(high)] = -np.inf, np.inf
        return key, low, high, matter

    def queue(self, market: int, long: bool, profitable: bool, function: Function) -> Side:
        """Return the counterparties of a market and side in a queue."""
        if (market, long, profitable) not in self._sides:
            rows, sure = self.members(market, long, profitable)
            key, low, high, matter = self.judge(rows, function)
            part = np.flatnonzero(high > -np.inf)
            order = part[np.lexsort((rows[part], -key[part]))]
            figures = np.stack([*matter, key], axis=1)[order]
            ranked = rows[order].tolist()
            position_of = {p: n for n, p in enumerate(ranked)}
            sure = sure[order] & (low[order] > -np.inf)
            self._sides[market, long, profitable] = Side(ranked, position_of, sure, low[order], high[order], figures)
        return self._sides[market, long, profitable]

    def shared(self, market: int, long: bool, profitable: bool, function: Function) -> list[dict[int, int]]:
        """Return the weights of the counterparties of a market and side; every possible weighting if in doubt."""
        key = market, long
        if key not in self._choices:
            rows, sure = self.members(market, long, profitable)
            nominal, low, high, _ = self.judge(rows, function)
            self._choices[key] = choices(
                rows.tolist(), sure, short_weights(nominal), short_weights(low), short_weights(high)
            )
        return self._choices[key]

    def by_equity(self, positions: list[int], others: Array) -> list[dict[int, int]]:
        """Return the weights of ``others`` that hold a position opposite to one of these: their net equity."""
        holds_opposite = np.zeros(len(self.not_selected), bool)
        for p in positions:
            opposite = (self.market == self.market[p]) & (self.lots < 0 if self.lots[p] > 0 else self.lots > 0)
            holds_opposite[self.owner[opposite]] = True
        equity, off = self.accounts["equity"], NOISE * self.accounts["gross"]
        who = np.flatnonzero(holds_opposite & self.not_selected & others & (equity >= -off))
        return _weighed(who, equity[who], off[who], equity[who] > off[who])

    def by_interest(self, positions: list[int], others: Array) -> list[dict[int, int]]:
        """Return the weights of ``others`` with a position in the markets of these: their notional there."""
        rows = np.flatnonzero(
            np.isin(self.market, self.market[positions]) & self.not_selected[self.owner] & (self.lots != 0)
        )
        notional = sums(self.owner[rows], np.abs(self.value[rows]), len(self.not_selected))
        who = np.flatnonzero((notional != 0) & others)
        return _weighed(who, notional[who], NOISE * notional[who], np.ones(len(who), bool))


def swept_accounts(sweep: Sweep, tick: Tick, selected: list[int], margins: tuple[Array, Array, Array]) -> Swept:
    """Return the accounts at the sweep of a tick, of which these are the margins."""
    state, (per_lot, per_quantum) = sweep.state, sweep.unit_values(tick)
    (lots, _, entry, free, _, _, bid, ask), owner, count = state.columns.values(), state.owner, len(margins[0])
    value, paid = lots * per_lot, entry * float(state.venue.quantum)
    worst = np.maximum(np.maximum(np.abs(lots + bid), np.abs(lots - ask)), np.abs(lots)) * per_lot
    debt = np.maximum(-free, 0) * per_quantum
    positions = {
        "lots": lots.copy(), "market": state.market, "owner": owner, "value": value, "entry": paid,
        "requirement": sweep.required.of(np.abs(lots), np.abs(value), tick),
    }  # fmt: skip
    accounts = dict(zip(("equity", "maintenance", "gross"), margins, strict=True)) | {
        "exposure": sums(owner, worst, count) + sums(state.holder, debt, count),
        "profit": sums(owner, value - paid, count),
        "profit_gross": sums(owner, np.abs(value) + np.abs(paid), count),
    }  # fmt: skip
    return Swept(positions, accounts, selected)


def choices(rows: list[int], sure: Array, nominal: Array, low: Array, high: Array) -> list[dict[int, int]]:
    """Return the whole weights, and all others that the doubt allows."""
    doubtful = np.flatnonzero((low != high) | ~sure).tolist()[:_OPEN]
    ways = [
        [float(nominal[n]), *sorted({float(low[n]), float(high[n])} - {float(nominal[n])})]
        + [-1.0] * (not sure[n]) for n in doubtful
    ]  # fmt: skip
    weightings = []
    for way in product(*ways):
        weights = nominal.copy()
        weights[doubtful] = way
        takes_part = weights >= 0
        members = [row for row, is_in in zip(rows, takes_part.tolist(), strict=True) if is_in]
        weighed = dict(zip(members, integer_weights(weights[takes_part]), strict=True))
        if weighed not in weightings:
            weightings.append(weighed)
    return weightings


def _weighed(who: Array, weight: Array, off: Array, sure: Array) -> list[dict[int, int]]:
    """Return the whole weights of accounts, and all others that they may be when each may be off by so much."""
    return choices(who.tolist(), sure, *(short_weights(weight + change) for change in (0 * off, -off, off)))
