"""The packed view: the columns that a sweep reads, in few bytes and in the order that suits the processor.

It is derived from the accounts' columns and owned by `Accounts.sweep_view`. These columns are read-only, or the engine
writes to them and then calls `SweepView.refresh` (docs/decisions/0013-packed-sweep.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..kernels import pack
from ..kernels.layouts import LANES, AccountColumns, SweepColumns
from ..kernels.sweep import CHUNK

Widths = npt.NDArray[np.uint32]


@dataclass
class SweepView:
    """Accounts in groups of eight, sorted within chunks of 4,096 by their numbers of positions and balances.

    Among equal numbers they are sorted by size, because margin functions take another branch for large positions.

    Attributes
    ----------
    columns : SweepColumns
        Shapes and dtypes there.
    slot : ndarray of uint16, shape (8G,)
        Slot of an account in its chunk; an account stays in the chunk that its row is in.
    markets, assets : int
        How many the venue has.
    edits : int
        Number of calls of `refresh`.
    """

    columns: SweepColumns
    slot: npt.NDArray[np.uint16]
    markets: int
    assets: int
    edits: int = 0

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
        """Pack some accounts again, after their columns changed."""
        self.edits += 1
        pack.pack_slots(self.slots(accounts), state, self.columns)

    def differs(self, state: AccountColumns) -> bool:
        """Whether packing the accounts again gives another view."""
        columns = self.columns
        fresh = SweepColumns._make(column.copy() for column in columns)
        pack.pack_slots(np.flatnonzero(columns.account < len(state.account_cost)), state, fresh)
        return any(
            column.tobytes() != fresh_column.tobytes() for column, fresh_column in zip(columns, fresh, strict=True)
        )


def copied(columns: SweepColumns, slots: Int, markets: int, assets: int) -> SweepColumns:
    """Copy the columns of some slots."""
    copies = [np.diff(offset)[slots // LANES] for offset in (columns.position_group, columns.balance_group)]
    filled = np.zeros(-len(slots) % LANES, np.uint32)
    positions, balances = (np.append(widths, filled) for widths in copies)
    copy = _columns(np.zeros(len(positions), np.uint32), positions, balances, markets, assets)
    pack.update_slots(slots, np.arange(len(slots)), columns, copy)
    return copy


def joined(parts: Sequence[SweepColumns]) -> SweepColumns:
    """Concatenate the groups of several columns."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    for column, offset in enumerate(SweepColumns._fields):
        if offset.endswith("_group"):
            rows = np.concatenate([np.diff(getattr(part, offset)) for part in parts])
            columns[column] = np.append(0, np.cumsum(rows, dtype=np.int64)).astype(np.uint32)
    return SweepColumns._make(columns)


def chunk_count(columns: SweepColumns) -> int:
    """Number of chunks."""
    return -(-len(columns.account) // CHUNK)


def _arranged(
    positions: Widths, balances: Widths, size: npt.NDArray[np.uint16], markets: int, assets: int
) -> tuple[SweepColumns, npt.NDArray[np.uint16]]:
    """Empty columns for accounts with these numbers of rows and sizes, and their slots within the chunks."""
    count = len(positions)
    # NumPy sorts keys of two bytes by counting; counts past a byte share one key, which costs time, not correctness
    keys = np.full((2, -(-count // CHUNK), CHUNK), 0xFFFF, np.uint16)
    keys[0].ravel()[:count] = np.minimum(positions, 0xFE) << 8 | np.minimum(balances, 0xFF)
    keys[1].ravel()[:count] = size
    by_size = np.argsort(keys[1], axis=1, kind="stable").astype(np.uint16)
    widths = np.take_along_axis(keys[0], by_size, axis=1)
    order = np.take_along_axis(by_size, np.argsort(widths, axis=1, kind="stable"), axis=1)
    slot = np.argsort(order, axis=1, kind="stable").astype(np.uint16).ravel()
    slots = -(-count // LANES) * LANES
    chunk = np.arange(slots, dtype=np.uint32) // CHUNK * CHUNK
    account = np.minimum(chunk + order.ravel()[:slots], np.uint32(count))
    nothing = np.uint32(0)
    rows = [np.append(widths, nothing)[account] for widths in (positions, balances)]
    return _columns(account, rows[0], rows[1], markets, assets), slot[:slots].copy()


def _columns(
    account: npt.NDArray[np.uint32], positions: Widths, balances: Widths, markets: int, assets: int
) -> SweepColumns:
    """Empty columns for slots with these numbers of rows."""
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
