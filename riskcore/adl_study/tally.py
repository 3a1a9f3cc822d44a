"""Effect of a deleveraging on the winners, wave by wave and in total; docs/adl_study.md has every figure in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._typing import Float, Int

TOP = 10
"""How many accounts are the largest ones."""
TOP_SHARE = 0.01

_SUMS = ("closed", "unfilled", "last_book", "deficit", "needed", "fills")


@dataclass(frozen=True)
class Start:
    """The winners as the deleveraging begins: N positions of A accounts, money in quanta of the settle asset.

    Attributes
    ----------
    owner : ndarray of int64, shape (N,)
        Account of each position.
    lots : ndarray of int64, shape (N,)
        Signed size.
    price : ndarray of float64, shape (N,)
        Quanta per lot at the mark.
    profit : ndarray of float64, shape (A,)
        Unrealised profit of the account; those above 0 are the winners.
    """

    owner: Int
    lots: Int
    price: Float
    profit: Float

    def largest(self) -> dict[str, Int]:
        """Accounts of the largest winners by profit: ten of them, and one in a hundred."""
        winners = np.flatnonzero(self.profit > 0)
        winners = winners[np.argsort(-self.profit[winners], kind="stable")]
        return {"top10": winners[:TOP], "top1pct": winners[: int(np.ceil(TOP_SHARE * len(winners)))]}


class Tally:
    """Adds up the deals of one policy.

    `begin` a tick, tell it each request and the deals that it led to, `end` the tick; `finish` in the end. Money in
    quanta. ``again``: the unfilled notional is requested again in the next tick, so that only the last tick's counts.
    """

    def __init__(self, policy: str, start: Start, gap: int, quantum: float, *, again: bool = False) -> None:
        self.policy, self.gap, self.quantum, self.again = policy, gap, quantum, again
        self.owner, self.accounts = start.owner, len(start.profit)
        self.largest = start.largest()
        value = self._by_account(np.abs(start.lots) * start.price)
        self.start_value = {name: value[chosen].sum() for name, chosen in self.largest.items()}
        self.first_price = start.price
        self.waves: list[dict[str, Any]] = []
        self.path: list[dict[str, Any]] = []
        self.closed_at_first = np.zeros(self.accounts)  # closed so far, at the first marks
        self.closed, self.haircut = np.zeros(self.accounts), np.zeros(self.accounts)
        self.sums = dict.fromkeys(_SUMS, 0.0)
        self._open, self._last = False, 0

    def begin(self, time: int, price: Float, equity: Float, profit: Float) -> None:
        """Go on to a tick: quanta per lot of every position, and equity and profit of every account, before the deals.

        A tick more than the gap after the last one begins a wave.
        """
        if self._open and time - self._last > self.gap:
            self._close()
        if not self._open:
            self._wave = {"policy": self.policy, "wave": len(self.waves) + 1, "t_start": time}
            self._sums = dict.fromkeys(_SUMS, 0.0)
            self._equity, self._profit = equity, profit
            self._lots, self._value, self._haircut = (np.zeros(len(self.owner)) for _ in range(3))
            self._closed = np.zeros(self.accounts)
            if not self.waves:
                self.first_equity, self.first_profit = equity, profit
            self._open = True
        if self.again:
            self._sums["unfilled"] = self.sums["unfilled"] = 0.0
        self._last, self._price = time, price

    def request(self, unfilled: float, deficit: float) -> None:
        """Note the unfilled notional of a request, and the deficit that the deal's price takes from the winners."""
        self._sums["unfilled"] += unfilled
        self._sums["deficit"] += deficit

    def close_at_market(self, notional: float) -> None:
        """Note the notional that the last book closed as no winner took it; it is not requested again."""
        self._sums["last_book"] += notional

    def deal(self, rows: Int, lots: Int, haircut: Int) -> None:
        """Note deals: signed lots closed of each position, and its haircut, quanta received less than at the mark."""
        value = np.abs(lots) * self._price[rows]
        for total, part in ((self._lots, lots), (self._value, lots * self._price[rows]), (self._haircut, haircut)):
            np.add.at(total, rows, part)
        owner = self.owner[rows]
        self._closed += np.bincount(owner, value, self.accounts)
        self.closed_at_first += np.bincount(owner, np.abs(lots) * self.first_price[rows], self.accounts)
        self._sums["fills"] += np.count_nonzero(lots)
        self._sums["closed"] += value.sum()
        self._sums["needed"] += np.maximum(haircut, 0).sum()

    def end(self) -> None:
        """Note the rest of the largest winners' positions after the tick."""
        closed = float(self.closed_at_first.sum()) * self.quantum
        self.path.append({"policy": self.policy, "time": self._last, "closed": closed} | self.kept())

    def kept(self) -> dict[str, float]:
        """Share of their notional, at the first marks, that the largest winners were left by the deals so far."""
        return {
            f"kept_{name}": 1 - self.closed_at_first[chosen].sum() / self.start_value[name]
            if self.start_value[name]
            else np.nan
            for name, chosen in self.largest.items()
        }

    def finish(self) -> dict[str, Any]:
        """Close the last wave; the row of all waves together."""
        if self._open:
            self._close()
        total = {"policy": self.policy, "waves": len(self.waves)}
        if not self.waves:
            return total | self._row(self.sums, self.haircut, self.haircut, self.haircut, self.closed)
        total |= self._row(self.sums, self.haircut, self.first_equity, self.first_profit, self.closed)
        half = next(row for row in self.path if 2 * row["closed"] >= self.path[-1]["closed"])
        return total | {f"{name}_at_half": half[name] for name in self.kept()}

    def _close(self) -> None:
        # the haircuts, and the profit that the closed lots would have made from then to the end of the wave
        delta = np.maximum(self._by_account(self._haircut + self._lots * self._price - self._value), 0.0)
        row = self._row(self._sums, delta, self._equity, self._profit, self._closed)
        self.waves.append(self._wave | {"t_end": self._last} | row)
        self.sums = {name: value + self._sums[name] for name, value in self.sums.items()}
        self.closed += self._closed
        self.haircut += delta
        self._open = False

    def _row(
        self, sums: dict[str, float], haircut: Float, equity: Float, profit: Float, closed: Float
    ) -> dict[str, Any]:
        """Figures of a wave, or of all, from the haircut of each account and its equity and profit before."""
        unit, total, largest = self.quantum, float(haircut.sum()), float(haircut.max(initial=0.0))
        unfilled = sums["unfilled"] + sums["last_book"]
        share = np.sort(closed)[::-1] / closed.sum() if closed.any() else np.full(1, np.nan)
        return {
            "requested": (sums["closed"] + unfilled) * unit,
            "closed": sums["closed"] * unit,
            "unfilled": unfilled * unit,
            "deficit": sums["deficit"] * unit,
            "needed": sums["needed"] * unit,
            "haircut": total * unit,
            "overshoot": (total - sums["needed"]) * unit,
            "haircut_to_deficit": _share(total, sums["deficit"]),
            "largest_to_deficit": _share(largest, sums["deficit"]),
            "largest_to_equity": _largest(haircut, equity),
            "largest_to_pnl": _largest(haircut, profit),
            "past_equity": _past(haircut, equity),
            "past_pnl": _past(haircut, profit),
            "accounts": int(np.count_nonzero(closed)),
            "fills": int(sums["fills"]),
            "herfindahl": float((share * share).sum()),
            "top10_of_closed": float(share[:TOP].sum()),
        } | self.kept()

    def _by_account(self, values: npt.NDArray[Any]) -> Float:
        return np.bincount(self.owner, values, self.accounts).astype(np.float64)


def _largest(haircut: Float, base: Float) -> float:
    hit = (haircut > 0) & (base > 0)
    with np.errstate(over="ignore"):  # of a profit of next to nothing
        return float((haircut[hit] / base[hit]).max(initial=0.0))


def _past(haircut: Float, base: Float) -> int:
    """Accounts that gave up all that they had, or more."""
    return int(np.count_nonzero((haircut > 0) & (base > 0) & (haircut >= base)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else np.nan
