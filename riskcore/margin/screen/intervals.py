"""Price intervals, and the accounts that they leave in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...kernels import bounds, pack, sweep
from ...kernels.layouts import BoxRows, PackedColumns
from ...market import Prices, PriceTable
from ...state import copied, joined

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_LARGE = 32 * sweep.WINDOW  # accounts from which on parts, and holders alone, are worth their overhead
_TICK, _REBUILD = 15_000, 50_000  # accounts that could be swept in the time that a tick, making boxes take besides
_WIDEST, _NARROWEST = 0.25, 1e-4  # half-widths
_OPEN_INTEREST = 1.5  # how far it may grow
_AT_ONCE = 16  # windows that are tried before their watched are copied: they are in the cache then
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Box:
    """Ranges of marks, prices of assets and open interests, in one row, and the worst and best figures in them."""

    low: Float
    high: Float
    worst: BoxRows
    best: BoxRows
    spread: float  # least part of a mark that its range is wide

    @classmethod
    def around(cls, prices: Prices, low: Float, high: Float) -> Box:
        """Take these ranges of what `box_values` gives."""
        markets, assets = len(prices.mark), len(prices.asset)
        asking = sorted(prices.venue.curves.open_interest_markets)
        edges = []
        for edge in (low, high):
            interest = prices.open_interest.copy()
            interest[asking] = edge[markets + assets :]
            mark, asset = edge[:markets], edge[markets : markets + assets]
            edges.append(replace(prices, mark=mark, asset=asset, open_interest=interest).columns)
        tables = []
        for one, other in (edges, edges[::-1]):
            market, tail = np.empty((2, markets + 1, 4))
            asset, weight, borrow = np.empty((3, assets + 1, 4))
            tiers, borrow_tiers = prices.venue.tiers[1], prices.venue.borrow_tiers[1]
            auto_close = one.acmf_divisor, one.acmf_offset
            tables.append(BoxRows(market, tail, tiers, asset, weight, borrow, borrow_tiers, *auto_close))
            bounds.lay_out_box(one, other, tables[-1])
        lowest, highest = low[:markets], high[:markets]
        there = highest > 0.0
        spread = float((1.0 - lowest[there] / highest[there]).min(initial=1.0))
        return cls(low, high, tables[0], tables[1], spread)

    def farthest(self, values: Float) -> float:
        """How far the farthest value is from the middle: 1 at an edge, +inf outside."""
        return float(bounds.farthest(values, self.low, self.high))

    def outside(self, values: Float) -> Int:
        """Places of the values that are outside."""
        missing = np.isnan(values) & np.isnan(self.low)
        return np.flatnonzero(~((self.low <= values) & (values <= self.high) | missing))

    def tried(self, columns: PackedColumns, first: int, last: int) -> tuple[_Watch, Int]:
        """Slots of some windows to be watched, and those known to be at 100 % or above, as long as all are inside."""
        nothing = len(self.worst.market) - 1, len(self.worst.asset) - 1
        parts, known = [_Watch.of(columns, _NONE, *nothing)], [_NONE]
        for start in range(first, last, _AT_ONCE):
            end = min(start + _AT_ONCE, last)
            slots, sure = np.empty((2, (end - start) * sweep.WINDOW), np.int64)
            count = np.empty(2, np.int64)
            bounds.watch_windows(start, end, columns, self.worst, self.best, self.spread, slots, sure, count)
            known.append(sure[: count[1]])
            if count[0]:
                parts.append(_Watch.of(columns, slots[: count[0]].copy(), *nothing))
        return _Watch.joined(parts), np.concatenate(known)


@dataclass
class _Watch:
    """Slots that are looked at, ascending, and where each is in columns of their own."""

    slots: Int
    places: Int
    columns: PackedColumns

    @classmethod
    def of(cls, columns: PackedColumns, slots: Int, markets: int, assets: int) -> _Watch:
        """Copy some slots."""
        return cls(slots, np.arange(len(slots)), copied(columns, slots, markets, assets))

    @classmethod
    def joined(cls, parts: Sequence[_Watch]) -> _Watch:
        """Put several, of ascending slots, one behind the other."""
        starts = np.cumsum([0, *(len(part.columns.account) for part in parts)])
        places = [start + part.places for start, part in zip(starts.tolist(), parts, strict=False)]
        slots = np.concatenate([part.slots for part in parts])
        return cls(slots, np.concatenate(places), joined([part.columns for part in parts]))

    def update(self, columns: PackedColumns, slots: Int) -> Int:
        """Take over what changed of some slots; return those that are not here."""
        at = np.searchsorted(self.slots, slots)
        here = np.append(self.slots, -1)[at] == slots
        pack.update_slots(slots[here], self.places[at[here]], columns, self.columns)
        missing: Int = slots[~here]
        return missing


def box_values(prices: Prices | PriceTable) -> Float:
    """Marks, prices of assets, and the open interests that margin functions ask for; of one instant or many."""
    asking = sorted(prices.venue.curves.open_interest_markets)
    if not asking:
        return np.concatenate([prices.mark, prices.asset], axis=-1)
    given, own = prices.open_interest[..., asking], prices.open_lots[asking] * prices.venue.markets.step_size[asking]
    return np.concatenate([prices.mark, prices.asset, np.where(np.isnan(given), own, given)], axis=-1)
