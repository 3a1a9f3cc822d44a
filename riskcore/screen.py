"""The screen: who is at 100 % at each of many ticks, without looking at everybody at each of them.

Every price has a box. An account that is below 100 % wherever in its box each price is, is safe while all prices stay
inside, and is not looked at; the others are watched: recomputed at each tick. The selected are those of a full sweep,
tick by tick (docs/decisions/0014-price-boxes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .accounts import Accounts, must_fit
from .kernels import packed as kernels
from .kernels.columns import BoxRows, PackedColumns
from .margin import Selection, margins_of, selected
from .packed import Packed, copied, joined, window_count
from .price_table import PriceTable
from .tick import PriceMap, Prices
from .venue import Venue

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_PARTS = 16
"""Ticks over which the next boxes are tried on all accounts while those of now still hold."""
_DRIFTED = 0.7  # of a half-width: from there on the next boxes are made
_LARGE = 32 * kernels.WINDOW  # accounts from which on parts, and holders alone, are worth their overhead
_COPY = 16  # sweeping so many accounts takes the time of copying one from somewhere
_TICK, _REBUILD = 15_000, 50_000  # accounts that could be swept in the time that a tick, making boxes take besides
_FEW = 8  # watched accounts: with narrower boxes there might be none, and nothing to do in a tick
_VOLATILITY, _PRIOR = 2e-4, 10  # of a price from tick to tick, and for how many ticks that is believed
_WIDEST, _NARROWEST = 0.25, 1e-4  # half-widths
_OPEN_INTEREST = 1.5  # how far it may grow
_SCALE, _NARROW_SCALE = 100.0, 12.0  # of half-widths, in standard deviations from tick to tick
_WORTH_NARROWING = 2048  # accounts watched
_AT_ONCE = 16  # windows that are tried before their watched are copied: they are in the cache then
_NONE = np.empty(0, np.int64)
_MOST_MORE = 4096  # accounts that are copied again whenever one joins them


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
            kernels.lay_out_box(one, other, tables[-1])
        lowest, highest = low[:markets], high[:markets]
        there = highest > 0.0
        spread = float((1.0 - lowest[there] / highest[there]).min(initial=1.0))
        return cls(low, high, tables[0], tables[1], spread)

    def farthest(self, values: Float) -> float:
        """How far the farthest value is from the middle: 1 at an edge, +inf outside."""
        return float(kernels.farthest(values, self.low, self.high))

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
            slots, sure = np.empty((2, (end - start) * kernels.WINDOW), np.int64)
            count = np.empty(2, np.int64)
            kernels.watch_windows(start, end, columns, self.worst, self.best, self.spread, slots, sure, count)
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
        kernels.update_slots(slots[here], self.places[at[here]], columns, self.columns)
        missing: Int = slots[~here]
        return missing


class _Narrow(NamedTuple):
    """Watched accounts that narrower boxes leave in doubt, and the rows of all those known to be at 100 % or above."""

    box: Box | None
    columns: PackedColumns
    known: Int

    def farthest(self, values: Float) -> float:
        """As of the box."""
        return np.inf if self.box is None else self.box.farthest(values)


@dataclass
class _Next:
    """Boxes to come: how many windows were tried, what was to be watched or known, and the slots that changed since."""

    box: Box
    windows: int
    watched: list[_Watch]
    known: list[Int]
    changed: list[Int]


class Screen:
    """Accounts at a maintenance margin ratio of 1 or more, tick by tick.

    Parameters
    ----------
    accounts
        Who writes to their columns (only the owner of a copy can) says so by `changed`.
    venue
        The rules.
    check
        Recompute everything at every tick and hold the screen to it: slow, to be sure.

    Attributes
    ----------
    looked_at : int
        Accounts that the last tick looked at: those recomputed at its prices, and those tried on new boxes.
    """

    def __init__(self, accounts: Accounts, venue: Venue, *, check: bool = False) -> None:
        must_fit(accounts, venue)
        self.accounts, self.venue, self.check = accounts, venue, check
        self.looked_at = 0
        self._spent = 0  # accounts watched since the boxes were made
        self._packed = accounts.packed
        self._edits = self._packed.edits
        self._large = len(accounts) >= _LARGE
        self._holders = _Holders.of(self._packed, len(accounts) // _COPY) if self._large else None
        self._box: Box | None = None
        self._next: _Next | None = None
        self._watch = self._more = self._watching(_NONE)
        self._known = _NONE
        self._narrow: _Narrow | None = None
        self._touched = False  # the watched are others than in the tick before, or hold something else
        self._moves: tuple[_Moves, ...] | None = None

    def select(
        self,
        prices: PriceMap,
        *,
        indexes: PriceMap | None = None,
        asset_prices: PriceMap | None = None,
        open_interest: PriceMap | None = None,
    ) -> Selection:
        """Accounts at a ratio of 1 or more, arguments as of `sweep`: those that a sweep at these prices selects.

        Raises
        ------
        RiskDataError
            A price is missing, not finite or not > 0.
        """
        read = Prices.read(self.venue, self.accounts, prices, indexes, asset_prices, open_interest)
        return Selection(self.rows(read), self.accounts, read)

    def rows(self, prices: Prices) -> Int:
        """Rows of these accounts, ascending, at prices that are complete."""
        self.accounts.units.must_fit(prices.venue.units)
        values = box_values(prices)
        self._notice_others()
        if self._moves is None:
            places = len(prices.mark) + len(prices.asset), len(prices.mark) + self.venue.settle
            self._moves = tuple(_Moves(len(values), *places, scale) for scale in (_SCALE, _NARROW_SCALE))
        moves, narrow_moves = self._moves
        moves.ticks += 1
        self.looked_at = 0
        distance = np.inf if self._box is None else self._box.farthest(values)
        if distance == np.inf:
            self._leave_box(prices, values, moves)
        elif self._next is not None:
            self._try_next(self._next, values, moves)
        elif distance > _DRIFTED and self._large:
            self._next = _Next(Box.around(prices, *moves.ranges(values)), 0, [], [], [])
        narrow = self._narrowed(prices, values, narrow_moves)
        rows = narrow.known.copy()
        for columns in (narrow.columns, self._more.columns):
            if len(columns.account):
                self.looked_at += len(columns.account)
                self._spent += len(columns.account)
                found = selected(self.accounts, columns, prices, threads=1)
                rows = np.sort(np.concatenate([rows, found]), kind="stable")  # two runs: that merges them
        if self.check:
            self._hold_to(rows, prices)
        return rows

    def _notice_others(self) -> None:
        """Begin anew if somebody else, the engine whose accounts these are, has changed something."""
        if self._edits != self._packed.edits:
            self._box, self._next, self._edits = None, None, self._packed.edits

    def _narrowed(self, prices: Prices, values: Float, moves: _Moves) -> _Narrow:
        """Watched accounts without those that narrower boxes prove safe, or above."""
        columns, moves.ticks = self._watch.columns, moves.ticks + 1
        if self._narrow is not None and self._narrow.farthest(values) < np.inf:
            return self._narrow
        if self._touched or len(columns.account) < _WORTH_NARROWING:
            self._touched = False
            return _Narrow(None, columns, self._rows_of(self._known))
        box = Box.around(prices, *moves.ranges(values))
        self.looked_at += len(columns.account)
        self._spent += len(columns.account)
        watch, known = box.tried(columns, 0, window_count(columns))
        moves.learn(values, len(columns.account), len(watch.slots))
        rows = np.concatenate([self._rows_of(self._known), columns.account[known]])
        self._narrow = _Narrow(box, watch.columns, np.sort(rows))
        return self._narrow

    def changed(self, accounts: npt.ArrayLike) -> None:
        """Take over what changed of some accounts.

        Parameters
        ----------
        accounts
            Their rows.

        Raises
        ------
        IndexError
            There is no such row.
        """
        accounts = np.asarray(accounts, np.int64)
        if not accounts.size:
            return
        accounts = np.unique(accounts)
        if accounts[0] < 0 or accounts[-1] >= len(self.accounts):
            raise IndexError(f"account rows must be from 0 to {len(self.accounts) - 1}")
        self._notice_others()
        self._packed.refresh(self.accounts.columns, accounts)
        self._edits = self._packed.edits
        if self._box is None:
            return
        if self._large and _COPY * len(accounts) > len(self.accounts):
            self._box = self._next = None
            return
        self._narrow, self._touched = None, True
        slots = np.sort(self._packed.slots(accounts))
        if self._next is not None:
            self._next.changed.append(slots)
        columns = self._packed.columns
        self._try(self._more.update(columns, self._watch.update(columns, slots)), self._box)

    def _leave_box(self, prices: Prices, values: Float, moves: _Moves) -> None:
        """Make boxes that hold the values: of those alone that are outside, if few accounts hold them, or of all."""
        low, high = moves.ranges(values)
        if self._box is not None and self._holders is not None:
            outside = self._box.outside(values)
            slots = self._holders.slots(outside, len(self.accounts) // _COPY)
            if slots is not None:
                edges = self._box.low.copy(), self._box.high.copy()
                edges[0][outside], edges[1][outside] = low[outside], high[outside]
                self._box = Box.around(prices, *edges)
                for watch in (self._watch, self._more):
                    slots = np.setdiff1d(slots, watch.slots, assume_unique=True)
                self._try(slots, self._box)
                return
        box, columns = Box.around(prices, low, high), self._packed.columns
        self.looked_at += len(self.accounts)
        self._begin(box, *box.tried(columns, 0, window_count(columns)), values, moves)

    def _try_next(self, coming: _Next, values: Float, moves: _Moves) -> None:
        """Try the boxes to come on some more windows; once all are through, let them take the place of those of now."""
        if coming.box.farthest(values) == np.inf:
            self._next = None
            return
        columns, first = self._packed.columns, coming.windows
        windows = window_count(columns)
        coming.windows = min(windows, first + -(-windows // _PARTS))
        self.looked_at += (coming.windows - first) * kernels.WINDOW
        watched, known = coming.box.tried(columns, first, coming.windows)
        coming.watched.append(watched)
        coming.known.append(known)
        if coming.windows == windows:
            changed = np.unique(np.concatenate([_NONE, *coming.changed]))
            known = np.setdiff1d(np.concatenate(coming.known), changed, assume_unique=True)
            self._begin(coming.box, _Watch.joined(coming.watched), known, values, moves)
            # what changed since it was tried is tried again, unless it is watched anyway
            self._try(self._watch.update(columns, changed), coming.box)

    def _begin(self, box: Box, watch: _Watch, known: Int, values: Float, moves: _Moves) -> None:
        """Take new boxes of everything."""
        moves.learn(values, len(self.accounts), self._spent / max(moves.ticks, 1))
        self._spent = 0
        self._box, self._next, self._narrow = box, None, None
        self._watch, self._more = watch, self._watching(_NONE)
        self._known = known

    def _watching(self, slots: Int) -> _Watch:
        return _Watch.of(self._packed.columns, slots, self._packed.markets, self._packed.assets)

    def _rows_of(self, slots: Int) -> Int:
        """Account rows of some slots, ascending."""
        return np.sort(self._packed.columns.account[slots].astype(np.int64))

    def _try(self, slots: Int, box: Box) -> None:
        """Try some slots, not watched so far, on the boxes of now."""
        if not len(slots):
            return
        self.looked_at += len(slots)
        part = self._watching(slots).columns
        watched, known = box.tried(part, 0, window_count(part))
        known = slots[known]
        if len(known) or np.isin(slots, self._known, assume_unique=True).any():
            self._known, self._narrow = np.union1d(np.setdiff1d(self._known, slots, assume_unique=True), known), None
        if len(watched.slots):
            more = np.sort(np.concatenate([self._more.slots, slots[watched.slots]]))
            if len(more) > _MOST_MORE:
                self._watch = self._watching(np.sort(np.concatenate([self._watch.slots, more])))
                self._narrow, more = None, _NONE
            self._more = self._watching(more)

    def _hold_to(self, rows: Int, prices: Prices) -> None:
        """Raise an error unless the packed view is that of the accounts, and the rows are those of a full sweep."""
        if self._packed.differs(self.accounts.columns):
            raise RuntimeError("the packed view is stale")
        known = np.flatnonzero(margins_of(self.accounts, np.arange(len(self.accounts)), prices).liquidatable)
        if not np.array_equal(rows, known):
            missed, more = np.setdiff1d(known, rows), np.setdiff1d(rows, known)
            raise RuntimeError(f"the screen missed the account rows {missed.tolist()}, and selected {more.tolist()}")


@dataclass(frozen=True)
class _Holders:
    """Slots with a row of a market or asset, ascending: item i has ``slot[start[i]:end[i]]``; -1: too many hold it."""

    start: Int
    end: Int
    slot: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, packed: Packed, most: int) -> _Holders:
        """List those of the markets, then of the assets, that no more than so many accounts have."""
        columns = packed.columns
        starts, ends, slots, before = [], [], [], 0
        for offset, index, count in (
            (columns.position_group, columns.market, packed.markets),
            (columns.balance_group, columns.asset, packed.assets),
        ):
            held = np.bincount(index, minlength=count + 1)
            left_out = held > most
            left_out[count] = True  # what fills groups up
            end = np.cumsum(np.where(left_out, 0, held))
            start = np.where(left_out, -1, end - held)
            slots.append(np.empty(int(end[-1]), np.uint32))
            kernels.list_holders(offset, index, start.copy(), slots[-1])
            starts.append(np.where(left_out, -1, before + start)[:count])
            ends.append(before + end[:count])
            before += int(end[-1])
        return cls(np.concatenate(starts), np.concatenate(ends), np.concatenate(slots))

    def slots(self, items: Int, most: int) -> Int | None:
        """Slots of the holders of any of some items, ascending; None if there are too many, or it is no such item."""
        if items[-1] >= len(self.start) or (self.start[items] < 0).any():
            return None
        if (self.end[items] - self.start[items]).sum() > most:
            return None
        held = [self.slot[self.start[i] : self.end[i]] for i in items.tolist()]
        return np.unique(np.concatenate(held)).astype(np.int64)


class _Moves:
    """What was seen of the values' moves, and the widths of the boxes that follow."""

    def __init__(self, values: int, open_interests: int, settle: int, scale: float) -> None:
        self.ticks = 0  # since there are boxes around these
        self.values: Float | None = None
        self.open_interests = open_interests  # place of the first
        self.settle = settle  # place of the price that does not move
        self.scale = scale  # half-width in standard deviations from tick to tick
        self.square = np.full(values, _PRIOR * _VOLATILITY**2)
        self.span = _PRIOR

    def ranges(self, values: Float) -> tuple[Float, Float]:
        """Lowest and highest of each box around some values, the last of which are open interests."""
        half = self.scale * np.sqrt(self.square / self.span)
        half = np.clip(half, max(_NARROWEST, 0.2 * float(np.median(half))), _WIDEST)
        half[self.settle] = 0.0
        low, high, first = values * (1 - half), values * (1 + half), self.open_interests
        low[first:], high[first:] = 0.0, _OPEN_INTEREST * values[first:]
        return low, high

    def learn(self, values: Float, accounts: int, watched: float) -> None:
        """Take note how far values went since there were boxes, and what boxes of these widths cost.

        Half as wide boxes are left four times as soon, and half as many accounts are watched in each tick: the sum of
        both costs is least where making boxes, of so many accounts, costs half of what watching does.
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


def box_values(prices: Prices | PriceTable) -> Float:
    """Marks, prices of assets, and the open interests that margin functions ask for; of one instant or many."""
    asking = sorted(prices.venue.curves.open_interest_markets)
    if not asking:
        return np.concatenate([prices.mark, prices.asset], axis=-1)
    given, own = prices.open_interest[..., asking], prices.open_lots[asking] * prices.venue.markets.step_size[asking]
    return np.concatenate([prices.mark, prices.asset, np.where(np.isnan(given), own, given)], axis=-1)
