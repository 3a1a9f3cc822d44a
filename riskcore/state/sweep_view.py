"""The packed view: what a sweep reads of all accounts, in few bytes and in the order that suits the processor.

It says nothing that the accounts' own columns do not say, and has one owner, `Accounts.sweep_view`: of columns that
nobody can write to, or that the engine writes to, which then calls `SweepView.refresh`
(docs/decisions/0013-packed-sweep.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels import pack
from ..kernels.layouts import LANES, AccountColumns, SweepColumns
from ..kernels.sweep import CHUNK

Int = npt.NDArray[np.int64]
Widths = npt.NDArray[np.uint32]


class OutputBuffer:
    """An array that is taken again once nobody holds any of it: fresh pages would take as long as half a sweep."""

    def __init__(self) -> None:
        self._array: npt.NDArray[Any] = np.empty(0)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of any content."""
        array, references = self._looked_at()
        if references > _UNHELD or array.shape != shape or array.dtype != dtype:
            array = self._array = np.empty(shape, dtype)
        return array

    def _looked_at(self) -> tuple[npt.NDArray[Any], int]:
        """Return the array and the references to it; every view of it counts as one, and another thread's look."""
        array = self._array
        return array, sys.getrefcount(array)


_UNHELD = OutputBuffer()._looked_at()[1]  # how many the look itself takes differs between versions of Python


@dataclass
class SweepView:
    """Accounts in groups of eight; within chunks of 4,096 those with as many positions and balances stand together.

    Among these the large ones do, whose margin functions take another branch.

    Attributes
    ----------
    columns : SweepColumns
        Shapes and dtypes there.
    slot : ndarray of uint16, shape (8G,)
        Slot of an account in its chunk; an account stays in the chunk that its row is in.
    markets, assets : int
        How many the venue has.
    edits : int
        How often something was taken over.
    output_buffer : OutputBuffer
        Room for the figures of a table.
    """

    columns: SweepColumns
    slot: npt.NDArray[np.uint16]
    markets: int
    assets: int
    edits: int = 0
    output_buffer: OutputBuffer = field(default_factory=OutputBuffer)

    @classmethod
    def of(cls, state: AccountColumns, markets: int, assets: int) -> SweepView:
        """Pack all accounts of a venue with so many markets and assets."""
        count = len(state.account_cost)
        size = np.empty(count, np.uint16)
        pack.largest_costs(state, size)
        columns, slot = _arranged(np.diff(state.position_offset), np.diff(state.balance_offset), size, markets, assets)
        sweep_view = cls(columns, slot, markets, assets)
        for first in range(0, count, 64 * CHUNK):
            sweep_view.refresh(state, np.arange(first, min(first + 64 * CHUNK, count)))
        return sweep_view

    def slots(self, accounts: Int) -> Int:
        """Slots of some accounts."""
        return accounts // CHUNK * CHUNK + self.slot[accounts]

    def refresh(self, state: AccountColumns, accounts: Int) -> None:
        """Take over what changed of some accounts."""
        self.edits += 1
        pack.pack_slots(self.slots(accounts), state, self.columns)

    def differs(self, state: AccountColumns) -> bool:
        """Whether the view is not what packing the accounts anew gives."""
        columns = self.columns
        fresh = SweepColumns._make(column.copy() for column in columns)
        pack.pack_slots(np.flatnonzero(columns.account < len(state.account_cost)), state, fresh)
        return any(column.tobytes() != other.tobytes() for column, other in zip(columns, fresh, strict=True))


def copied(columns: SweepColumns, slots: Int, markets: int, assets: int) -> SweepColumns:
    """Columns of some slots alone, one after another."""
    copies = [np.diff(offset)[slots // LANES] for offset in (columns.position_group, columns.balance_group)]
    filled = np.zeros(-len(slots) % LANES, np.uint32)
    positions, balances = (np.append(widths, filled) for widths in copies)
    copy = _columns(np.zeros(len(positions), np.uint32), positions, balances, markets, assets)
    pack.update_slots(slots, np.arange(len(slots)), columns, copy)
    return copy


def joined(parts: Sequence[SweepColumns]) -> SweepColumns:
    """Put the groups of several columns one behind the other."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    for place, offset in enumerate(SweepColumns._fields):
        if offset.endswith("_group"):
            rows = np.concatenate([np.diff(getattr(part, offset)) for part in parts])
            columns[place] = np.append(0, np.cumsum(rows, dtype=np.int64)).astype(np.uint32)
    return SweepColumns._make(columns)


def chunk_count(columns: SweepColumns) -> int:
    """Number of chunks."""
    return -(-len(columns.account) // CHUNK)


def _arranged(
    positions: Widths, balances: Widths, size: npt.NDArray[np.uint16], markets: int, assets: int
) -> tuple[SweepColumns, npt.NDArray[np.uint16]]:
    """Columns for accounts of so many rows each and such a size, and the slots of these in their chunks."""
    count = len(positions)
    # keys of two bytes: NumPy sorts those by counting; what is wider than a byte says costs time alone
    keys = np.full((2, -(-count // CHUNK), CHUNK), 0xFFFF, np.uint16)
    keys[0].ravel()[:count] = np.minimum(positions, 0xFE) << 8 | np.minimum(balances, 0xFF)
    keys[1].ravel()[:count] = size
    by_size = np.argsort(keys[1], axis=1, kind="stable").astype(np.uint16)
    widths = np.take_along_axis(keys[0], by_size, axis=1)
    order = np.take_along_axis(by_size, np.argsort(widths, axis=1, kind="stable"), axis=1)
    places = np.argsort(order, axis=1, kind="stable").astype(np.uint16).ravel()
    slots = -(-count // LANES) * LANES
    chunk = np.arange(slots, dtype=np.uint32) // CHUNK * CHUNK
    account = np.minimum(chunk + order.ravel()[:slots], np.uint32(count))
    nothing = np.uint32(0)
    rows = [np.append(widths, nothing)[account] for widths in (positions, balances)]
    return _columns(account, rows[0], rows[1], markets, assets), places[:slots].copy()


def _columns(
    account: npt.NDArray[np.uint32], positions: Widths, balances: Widths, markets: int, assets: int
) -> SweepColumns:
    """Columns in which nothing is held, for slots with so many rows each."""
    offsets = []
    for rows in (positions, balances):
        width = rows.reshape(-1, LANES).max(axis=1, initial=0)
        offsets.append(np.append(0, np.cumsum(width, dtype=np.int64)).astype(np.uint32))
    groups = len(account) // LANES
    balance, owned = (LANES * int(offset[-1]) for offset in offsets)
    bits = [np.zeros(groups, np.uint8) for _ in range(3)]
    return SweepColumns(
        account=account,
        position_group=offsets[0],
        market=np.full(balance, markets, np.uint16),
        lots=np.zeros(balance, np.int32),
        balance_group=offsets[1],
        asset=np.full(owned, assets, np.uint8) if assets < 256 else np.full(owned, assets, np.uint16),
        balance=np.zeros(owned),
        cash_minus_cost=np.zeros(len(account)),
        has_orders=bits[0],
        has_leverage_limit=bits[1],
        overflow=bits[2],
    )
