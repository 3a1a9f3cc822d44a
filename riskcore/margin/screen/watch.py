"""Parts of the screen: inner and next intervals, the index of holders, and the estimate of volatility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._typing import Float, Int
from ...kernels import pack
from ...kernels.layouts import SweepColumns
from ...state import SweepView
from .intervals import _NARROWEST, _OPEN_INTEREST, _REBUILD, _TICK, _WIDEST, PriceIntervals, Watchlist

_COPY = 16  # accounts that are computed in the time of copying one
_FEW = 8  # watched accounts; narrower intervals might leave none, and then a tick costs nothing
_VOLATILITY, _PRIOR = 2e-4, 10  # prior standard deviation of a price from tick to tick, and its weight in ticks
_MAX_ADDED = 4096  # added accounts; each addition copies all of them


class InnerIntervals(NamedTuple):
    """Watched accounts that narrower intervals leave in doubt, and the rows of all confirmed at 100 % or above."""

    intervals: PriceIntervals | None
    watch: Watchlist
    confirmed: Int

    @property
    def columns(self) -> SweepColumns:
        """Columns of the watched accounts."""
        return self.watch.columns

    def max_interval_distance(self, values: Float) -> float:
        """As of `PriceIntervals`, +inf without intervals."""
        return np.inf if self.intervals is None else self.intervals.max_interval_distance(values)


@dataclass
class NextIntervals:
    """The next intervals: number of chunks decided, their watched and confirmed slots, and slots changed since."""

    intervals: PriceIntervals
    chunks: int
    watched: list[Watchlist]
    confirmed: list[Int]
    changed: list[Int]


@dataclass(frozen=True)
class HolderIndex:
    """Slots with a row of a market or asset, ascending: item i has ``slot[start[i]:end[i]]``; -1: too many slots."""

    start: Int
    end: Int
    slot: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, sweep_view: SweepView, max_slots: int) -> HolderIndex:
        """Index the markets, then the assets, of which at most ``max_slots`` accounts have a row."""
        columns = sweep_view.columns
        starts, ends, slots, before = [], [], [], 0
        for offset, index, count in (
            (columns.position_group, columns.market, sweep_view.market_count),
            (columns.balance_group, columns.asset, sweep_view.asset_count),
        ):
            holders = np.bincount(index, minlength=count + 1)
            left_out = holders > max_slots
            left_out[count] = True  # padding of groups
            end = np.cumsum(np.where(left_out, 0, holders))
            start = np.where(left_out, -1, end - holders)
            slots.append(np.empty(int(end[-1]), np.uint32))
            pack.list_holders(offset, index, start.copy(), slots[-1])
            starts.append(np.where(left_out, -1, before + start)[:count])
            ends.append(before + end[:count])
            before += int(end[-1])
        return cls(np.concatenate(starts), np.concatenate(ends), np.concatenate(slots))

    def slots(self, items: Int, max_slots: int) -> Int | None:
        """Slots of the holders of any of some items, ascending; None if there are too many, or it is no such item."""
        if items[-1] >= len(self.start) or (self.start[items] < 0).any():
            return None
        if (self.end[items] - self.start[items]).sum() > max_slots:
            return None
        per_item = [self.slot[self.start[i] : self.end[i]] for i in items.tolist()]
        return np.unique(np.concatenate(per_item)).astype(np.int64)


class VolatilityEstimate:
    """Estimates the volatility of each value, and from it the widths of intervals."""

    def __init__(self, values: int, open_interests: int, settle: int, scale: float) -> None:
        self.ticks = 0  # since the last intervals were made
        self.values: Float | None = None
        self.open_interests = open_interests  # index of the first
        self.settle = settle  # index of the settle asset's price, which is 1
        self.scale = scale  # half-width in standard deviations from tick to tick
        self.square = np.full(values, _PRIOR * _VOLATILITY**2)
        self.span = _PRIOR

    def ranges(self, values: Float) -> tuple[Float, Float]:
        """Bounds of intervals around some values, the last of which are open interests."""
        half = self.scale * np.sqrt(self.square / self.span)
        half = np.clip(half, max(_NARROWEST, 0.2 * float(np.median(half))), _WIDEST)
        half[self.settle] = 0.0
        low, high, first = values * (1 - half), values * (1 + half), self.open_interests
        low[first:], high[first:] = 0.0, _OPEN_INTEREST * values[first:]
        return low, high

    def learn(self, values: Float, accounts: int, watched: float) -> None:
        """Update the estimate from the moves since the last intervals, and the scale from their cost.

        Intervals half as wide are left four times as soon, and half as many accounts are watched in each tick. The sum
        of both costs is least where making intervals costs half as much as watching.
        """
        if self.values is not None:
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                move = np.log(values / self.values)
            self.square += np.square(np.where(np.isfinite(move), move, 0.0))
            self.span += self.ticks
            making = 2 * (1.3 * accounts + _REBUILD) / self.ticks
            watching = watched + 1 + _TICK * (0 < watched <= _FEW)
            self.scale *= min(max((making / watching) ** (1 / 3), 0.5), 2.0)
            self.scale = min(max(self.scale, 3.0), 400.0)
        self.values, self.ticks = values, 0
