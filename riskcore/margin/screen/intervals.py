"""Price intervals, and the accounts whose status may change within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..._typing import Float, Int
from ...kernels import bounds, pack, sweep
from ...kernels.layouts import BoundLookup, SweepColumns
from ...market import Prices, PriceTable
from ...state import copied, joined

_LARGE = 32 * sweep.CHUNK  # with fewer accounts, building intervals in parts or from holders is not worth its overhead
_TICK, _REBUILD = 15_000, 50_000  # fixed time of a tick, and of making intervals, in accounts swept
_WIDEST, _NARROWEST = 0.25, 1e-4  # half-widths
_OPEN_INTEREST = 1.5  # upper end of its range, a multiple of the current one
_AT_ONCE = 16  # chunks between copies of watched accounts, while they are in the cache
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class PriceIntervals:
    """Ranges of marks, prices of assets and open interests, in one row, and the worst and best figures in them."""

    low: Float
    high: Float
    worst: BoundLookup
    best: BoundLookup
    spread: float  # smallest width of a mark's range, relative to its upper end

    @classmethod
    def around(cls, prices: Prices, low: Float, high: Float) -> PriceIntervals:
        """Make intervals with these bounds of `interval_values`."""
        markets, assets = len(prices.mark), len(prices.asset)
        asking = sorted(prices.venue.margin_functions.open_interest_markets)
        edges = []
        for edge in (low, high):
            interest = prices.open_interest.copy()
            interest[asking] = edge[markets + assets :]
            mark, asset = edge[:markets], edge[markets : markets + assets]
            edges.append(replace(prices, mark=mark, asset=asset, open_interest=interest).arrays)
        tables = []
        for near, far in (edges, edges[::-1]):
            market, above_kink = np.empty((2, markets + 1, 4))
            asset, weight, borrow = np.empty((3, assets + 1, 4))
            lookup = BoundLookup(
                market=market,
                above_kink=above_kink,
                tiers=prices.venue.tiers[1],
                asset=asset,
                weight=weight,
                borrow=borrow,
                borrow_tiers=prices.venue.borrow_tiers[1],
                acmf_divisor=near.acmf_divisor,
                acmf_offset=near.acmf_offset,
            )
            bounds.fill_bound_lookup(near, far, lookup)
            tables.append(lookup)
        lowest, highest = low[:markets], high[:markets]
        has_mark = highest > 0.0
        spread = float((1.0 - lowest[has_mark] / highest[has_mark]).min(initial=1.0))
        return cls(low, high, tables[0], tables[1], spread)

    def max_interval_distance(self, values: Float) -> float:
        """Largest distance of a value from the middle of its interval: 1 at an edge, +inf outside."""
        return float(bounds.max_interval_distance(values, self.low, self.high))

    def outside(self, values: Float) -> Int:
        """Indices of the values that are outside."""
        missing = np.isnan(values) & np.isnan(self.low)
        return np.flatnonzero(~((self.low <= values) & (values <= self.high) | missing))

    def tried(self, columns: SweepColumns, first: int, last: int) -> tuple[Watchlist, Int]:
        """Slots of some chunks in doubt, and slots at 100 % or above, while all values stay inside."""
        nothing = len(self.worst.market) - 1, len(self.worst.asset) - 1
        parts, confirmed = [Watchlist.of(columns, _NONE, *nothing)], [_NONE]
        for start in range(first, last, _AT_ONCE):
            end = min(start + _AT_ONCE, last)
            slots, certain = np.empty((2, (end - start) * sweep.CHUNK), np.int64)
            count = np.empty(2, np.int64)
            bounds.watch_chunks(start, end, columns, self.worst, self.best, self.spread, slots, certain, count)
            confirmed.append(certain[: count[1]])
            if count[0]:
                parts.append(Watchlist.of(columns, slots[: count[0]].copy(), *nothing))
        return Watchlist.joined(parts), np.concatenate(confirmed)


@dataclass
class Watchlist:
    """Watched slots, ascending, with a copy of their columns, and the slot of each in that copy."""

    slots: Int
    own_slots: Int
    columns: SweepColumns

    @classmethod
    def of(cls, columns: SweepColumns, slots: Int, markets: int, assets: int) -> Watchlist:
        """Copy some slots."""
        return cls(slots, np.arange(len(slots)), copied(columns, slots, markets, assets))

    @classmethod
    def joined(cls, parts: Sequence[Watchlist]) -> Watchlist:
        """Concatenate several watchlists, of ascending slots."""
        starts = np.cumsum([0, *(len(part.columns.account) for part in parts)])
        positions = [start + part.own_slots for start, part in zip(starts.tolist(), parts, strict=False)]
        slots = np.concatenate([part.slots for part in parts])
        return cls(slots, np.concatenate(positions), joined([part.columns for part in parts]))

    def update(self, columns: SweepColumns, slots: Int) -> Int:
        """Copy some slots again, after they changed; return those that are not on the list."""
        index = np.searchsorted(self.slots, slots)
        is_watched = np.append(self.slots, -1)[index] == slots
        pack.update_slots(slots[is_watched], self.own_slots[index[is_watched]], columns, self.columns)
        missing: Int = slots[~is_watched]
        return missing


def interval_values(prices: Prices | PriceTable) -> Float:
    """Marks, prices of assets, and the open interests that margin functions ask for; of one instant or many."""
    asking = sorted(prices.venue.margin_functions.open_interest_markets)
    if not asking:
        return np.concatenate([prices.mark, prices.asset], axis=-1)
    reported = prices.open_interest[..., asking]
    accounts_own = prices.open_lots[asking] * prices.venue.markets.step_size[asking]
    interest = np.where(np.isnan(reported), accounts_own, reported)
    return np.concatenate([prices.mark, prices.asset, interest], axis=-1)
