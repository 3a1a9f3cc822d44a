"""Price intervals, and the accounts that they leave in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...kernels import bounds, pack, sweep
from ...kernels.layouts import BoundLookup, SweepColumns
from ...market import Prices, PriceTable
from ...state import copied, joined

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_LARGE = 32 * sweep.CHUNK  # accounts from which on parts, and holders alone, are worth their overhead
_TICK, _REBUILD = 15_000, 50_000  # accounts that could be swept in the time that a tick, making intervals take besides
_WIDEST, _NARROWEST = 0.25, 1e-4  # half-widths
_OPEN_INTEREST = 1.5  # how far it may grow
_AT_ONCE = 16  # chunks that are tried before their watched are copied: they are in the cache then
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class PriceIntervals:
    """Ranges of marks, prices of assets and open interests, in one row, and the worst and best figures in them."""

    low: Float
    high: Float
    worst: BoundLookup
    best: BoundLookup
    spread: float  # least part of a mark that its range is wide

    @classmethod
    def around(cls, prices: Prices, low: Float, high: Float) -> PriceIntervals:
        """Take these ranges of what `interval_values` gives."""
        markets, assets = len(prices.mark), len(prices.asset)
        asking = sorted(prices.venue.margin_functions.open_interest_markets)
        edges = []
        for edge in (low, high):
            interest = prices.open_interest.copy()
            interest[asking] = edge[markets + assets :]
            mark, asset = edge[:markets], edge[markets : markets + assets]
            edges.append(replace(prices, mark=mark, asset=asset, open_interest=interest).arrays)
        tables = []
        for one, other in (edges, edges[::-1]):
            asset, weight, borrow = np.empty((3, assets + 1, 4))
            market_above, borrow_above = prices.venue.requirement_lookups()
            table = BoundLookup(
                market=np.empty((markets + 1, 4)),
                asset=asset,
                weight=weight,
                borrow=borrow,
                market_above=market_above,
                borrow_above=borrow_above,
                acmf_divisor=one.acmf_divisor,
                acmf_offset=one.acmf_offset,
            )
            tables.append(table)
            bounds.fill_bound_lookup(one, other, tables[-1])
        lowest, highest = low[:markets], high[:markets]
        there = highest > 0.0
        spread = float((1.0 - lowest[there] / highest[there]).min(initial=1.0))
        return cls(low, high, tables[0], tables[1], spread)

    def max_interval_distance(self, values: Float) -> float:
        """How far the farthest value is from the middle: 1 at an edge, +inf outside."""
        return float(bounds.max_interval_distance(values, self.low, self.high))

    def outside(self, values: Float) -> Int:
        """Places of the values that are outside."""
        missing = np.isnan(values) & np.isnan(self.low)
        return np.flatnonzero(~((self.low <= values) & (values <= self.high) | missing))

    def tried(self, columns: SweepColumns, first: int, last: int) -> tuple[Watchlist, Int]:
        """Slots of some chunks to be watched, and those known to be at 100 % or above, as long as all are inside."""
        nothing = len(self.worst.market) - 1, len(self.worst.asset) - 1
        parts, confirmed = [Watchlist.of(columns, _NONE, *nothing)], [_NONE]
        for start in range(first, last, _AT_ONCE):
            end = min(start + _AT_ONCE, last)
            slots, sure = np.empty((2, (end - start) * sweep.CHUNK), np.int64)
            count = np.empty(2, np.int64)
            bounds.watch_chunks(start, end, columns, self.worst, self.best, self.spread, slots, sure, count)
            confirmed.append(sure[: count[1]])
            if count[0]:
                parts.append(Watchlist.of(columns, slots[: count[0]].copy(), *nothing))
        return Watchlist.joined(parts), np.concatenate(confirmed)


@dataclass
class Watchlist:
    """Slots that are looked at, ascending, and where each is in columns of their own."""

    slots: Int
    places: Int
    columns: SweepColumns

    @classmethod
    def of(cls, columns: SweepColumns, slots: Int, markets: int, assets: int) -> Watchlist:
        """Copy some slots."""
        return cls(slots, np.arange(len(slots)), copied(columns, slots, markets, assets))

    @classmethod
    def joined(cls, parts: Sequence[Watchlist]) -> Watchlist:
        """Put several, of ascending slots, one behind the other."""
        starts = np.cumsum([0, *(len(part.columns.account) for part in parts)])
        places = [start + part.places for start, part in zip(starts.tolist(), parts, strict=False)]
        slots = np.concatenate([part.slots for part in parts])
        return cls(slots, np.concatenate(places), joined([part.columns for part in parts]))

    def update(self, columns: SweepColumns, slots: Int) -> Int:
        """Take over what changed of some slots; return those that are not here."""
        at = np.searchsorted(self.slots, slots)
        here = np.append(self.slots, -1)[at] == slots
        pack.update_slots(slots[here], self.places[at[here]], columns, self.columns)
        missing: Int = slots[~here]
        return missing


def interval_values(prices: Prices | PriceTable) -> Float:
    """Marks, prices of assets, and the open interests that margin functions ask for; of one instant or many."""
    asking = sorted(prices.venue.margin_functions.open_interest_markets)
    if not asking:
        return np.concatenate([prices.mark, prices.asset], axis=-1)
    given, own = prices.open_interest[..., asking], prices.open_lots[asking] * prices.venue.markets.step_size[asking]
    return np.concatenate([prices.mark, prices.asset, np.where(np.isnan(given), own, given)], axis=-1)
