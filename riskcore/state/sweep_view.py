"""The packed view: the columns that a sweep reads, in few bytes and in the order that suits the processor.

It is derived from the accounts' columns and owned by `Accounts.sweep_view`. These columns are read-only, or the engine
writes to them and then calls `SweepView.refresh` (docs/decisions/0013-packed-sweep.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..kernels import pack
from ..kernels.layouts import LANES, AccountColumns, SweepColumns
from ..kernels.sweep import CHUNK

Widths = npt.NDArray[np.uint32]

_NEW_WIDTH = 4  # rows, at least, of a group of accounts that were opened later
_MANY = 256  # the view is packed anew when one account in so many has more rows than its group


@dataclass
class SweepView:
    """The columns that a sweep reads: accounts in groups of eight, in chunks of 4,096.

    Within a chunk accounts with as many positions and balances stand together, and among these the large ones, whose
    margin functions take another branch.

    Attributes
    ----------
    columns : SweepColumns
        Shapes and dtypes there.
    slot : ndarray of uint16, shape (8G,)
        Slot of an account in its chunk; an account stays in the chunk that its row is in.
    market_count, asset_count : int
        Numbers of the venue's markets and assets.
    edits : int
        Number of updates.
    packings : int
        Number of times that all accounts were packed.

    Notes
    -----
    docs/decisions/0013-packed-sweep.md.

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> view = accounts.sweep_view
    >>> view.market_count, view.edits, sorted(view.columns.account[:2].tolist())
    (4, 1, [0, 1])
    """

    columns: SweepColumns
    slot: npt.NDArray[np.uint16]
    market_count: int
    asset_count: int
    edits: int = 0
    packings: int = 1
    _buffers: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    _outgrown: int = 0

    @classmethod
    def of(cls, state: AccountColumns, market_count: int, asset_count: int) -> SweepView:
        """Pack all accounts of a venue.

        Parameters
        ----------
        state : AccountColumns
            The columns of the accounts.
        market_count, asset_count : int
            Numbers of the venue's markets and assets.

        Returns
        -------
        SweepView
            The view.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import SweepView
        >>> venue, accounts = two_accounts()
        >>> SweepView.of(accounts.columns, 4, 2).differs(accounts.columns)
        False
        """
        count = len(state.settle_row)
        size = np.empty(count, np.uint16)
        pack.largest_costs(state, size)
        positions, balances = (span[:, 1] - span[:, 0] for span in (state.position_span, state.balance_span))
        columns, slot = _arranged(positions, balances, size, market_count, asset_count)
        sweep_view = cls(columns, slot, market_count, asset_count)
        for first in range(0, count, 64 * CHUNK):
            sweep_view.refresh(state, np.arange(first, min(first + 64 * CHUNK, count)))
        return sweep_view

    def grow(self, state: AccountColumns, accounts: Int) -> None:
        """Take in accounts that were opened, and others that got more rows.

        Parameters
        ----------
        state : AccountColumns
            The columns of all accounts, to which new ones were added at the end.
        accounts : ndarray of int64
            Account rows of those with more rows, and of the new ones.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Growth, Opened
        >>> venue, accounts = two_accounts()
        >>> state = accounts.copy()
        >>> view = state.sweep_view
        >>> nothing = np.empty((0, 2), np.int64)
        >>> Growth(state, state.view(), venue).add(Opened.of([9], [np.inf], [9]), nothing, nothing)
        >>> view.grow(state.columns, np.array([2]))
        >>> view.slots(np.array([2])).tolist(), view.differs(state.columns)
        ([2], False)
        """
        count, spans = len(state.settle_row), (state.position_span, state.balance_span)
        self._append(count, spans)
        columns, slots = self.columns, self.slots(accounts)
        columns.account[slots] = accounts
        last = np.arange(len(columns.account) - LANES, len(columns.account))
        columns.account[self.slots(last[last >= count])] = count
        groups, outgrown = slots // LANES, np.zeros(len(accounts), bool)
        for offset, span in zip((columns.position_group, columns.balance_group), spans, strict=True):
            outgrown |= span[accounts, 1] - span[accounts, 0] > offset[groups + 1] - offset[groups]
        self._outgrown += int(outgrown.sum())
        if _MANY * self._outgrown > count + _MANY * LANES:
            fresh = SweepView.of(state, self.market_count, self.asset_count)
            self.columns, self.slot, self._outgrown, self._buffers = fresh.columns, fresh.slot, 0, {}
            self.edits, self.packings = self.edits + 1, self.packings + 1
        else:
            self.refresh(state, accounts)

    def _append(self, count: int, spans: Sequence[Widths]) -> None:
        """Append groups for accounts that have no lane yet."""
        lanes = len(self.columns.account)
        if count <= lanes:
            return
        new = np.arange(lanes, -(-count // LANES) * LANES)
        rows = [np.full(len(new), _NEW_WIDTH, np.uint32) for _ in spans]
        for row, span in zip(rows, spans, strict=True):
            row[: count - lanes] = np.maximum(span[lanes:count, 1] - span[lanes:count, 0], _NEW_WIDTH)
        account = np.minimum(new, count).astype(np.uint32)
        more = _columns(account, rows[0], rows[1], self.market_count, self.asset_count)
        parts = more._asdict() | {"slot": (new % CHUNK).astype(np.uint16)}
        for name in ("position_group", "balance_group"):
            parts[name] = getattr(self.columns, name)[-1] + parts[name][1:]
        known = self.columns._asdict() | {"slot": self.slot}
        grown = {name: self._appended(name, known[name], part) for name, part in parts.items()}
        self.slot = grown.pop("slot")
        self.columns = SweepColumns(**grown)

    def _appended(self, name: str, known: npt.NDArray[Any], more: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Column with more values behind it, in a buffer with room for an eighth more."""
        used, size = len(known), len(known) + len(more)
        buffer = self._buffers.get(name, known)
        if size > len(buffer):
            buffer = np.empty(size + size // 8 + 64, known.dtype)
            buffer[:used] = known
            self._buffers[name] = buffer
        buffer[used:size] = more
        return buffer[:size]

    def slots(self, accounts: Int) -> Int:
        """Return slots of some accounts.

        Parameters
        ----------
        accounts : ndarray of int64
            Account rows.

        Returns
        -------
        ndarray of int64
            Positions in ``columns.account``.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> view = accounts.sweep_view
        >>> view.columns.account[view.slots(np.array([1, 0]))].tolist()
        [1, 0]
        """
        return accounts // CHUNK * CHUNK + self.slot[accounts]

    def refresh(self, state: AccountColumns, accounts: Int) -> None:
        """Read again some accounts whose columns have changed.

        Parameters
        ----------
        state : AccountColumns
            The columns of the accounts.
        accounts : ndarray of int64
            Account rows.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> state = accounts.copy()
        >>> view = state.sweep_view
        >>> state.columns.free[0] += 1
        >>> before = view.differs(state.columns)
        >>> view.refresh(state.columns, np.array([0]))
        >>> before, view.differs(state.columns)
        (True, False)
        """
        self.edits += 1
        pack.pack_slots(self.slots(accounts), state, self.columns)

    def differs(self, state: AccountColumns) -> bool:
        """Return whether the view is another than packing the accounts anew gives.

        Parameters
        ----------
        state : AccountColumns
            The columns of the accounts.

        Returns
        -------
        bool
            False of a view that is up to date.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> accounts.sweep_view.differs(accounts.columns)
        False
        """
        columns = self.columns
        fresh = SweepColumns._make(column.copy() for column in columns)
        pack.pack_slots(np.flatnonzero(columns.account < len(state.settle_row)), state, fresh)
        return any(
            column.tobytes() != fresh_column.tobytes() for column, fresh_column in zip(columns, fresh, strict=True)
        )


def copy_slots(columns: SweepColumns, slots: Int, market_count: int, asset_count: int) -> SweepColumns:
    """Return columns of some slots alone, one after another.

    Parameters
    ----------
    columns : SweepColumns
        Columns of all accounts or of some.
    slots : ndarray of int64, shape (n,)
        Slots.
    market_count, asset_count : int
        Numbers of the venue's markets and assets.

    Returns
    -------
    SweepColumns
        Columns of n slots, filled up to a group of eight.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import copy_slots
    >>> venue, accounts = two_accounts()
    >>> view = accounts.sweep_view
    >>> copy_slots(view.columns, view.slots(np.array([1])), 4, 2).account[:1].tolist()
    [1]
    """
    copies = [np.diff(offset)[slots // LANES] for offset in (columns.position_group, columns.balance_group)]
    filled = np.zeros(-len(slots) % LANES, np.uint32)
    positions, balances = (np.append(widths, filled) for widths in copies)
    copy = _columns(np.zeros(len(positions), np.uint32), positions, balances, market_count, asset_count)
    pack.update_slots(slots, np.arange(len(slots)), columns, copy)
    return copy


def join_columns(parts: Sequence[SweepColumns]) -> SweepColumns:
    """Join the groups of several columns, one behind the other.

    Parameters
    ----------
    parts : sequence of SweepColumns
        At least one.

    Returns
    -------
    SweepColumns
        All groups.

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import join_columns
    >>> venue, accounts = two_accounts()
    >>> columns = accounts.sweep_view.columns
    >>> len(join_columns([columns, columns]).account) == 2 * len(columns.account)
    True
    """
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    for column, offset in enumerate(SweepColumns._fields):
        if offset.endswith("_group"):
            rows = np.concatenate([np.diff(getattr(part, offset)) for part in parts])
            columns[column] = np.append(0, np.cumsum(rows, dtype=np.int64)).astype(np.uint32)
    return SweepColumns._make(columns)


def chunk_count(columns: SweepColumns) -> int:
    """Return the number of chunks.

    Parameters
    ----------
    columns : SweepColumns
        Columns of all accounts or of some.

    Returns
    -------
    int
        Chunks of 4,096 slots, the last one perhaps of fewer.

    Examples
    --------
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import chunk_count
    >>> venue, accounts = two_accounts()
    >>> chunk_count(accounts.sweep_view.columns)
    1
    """
    return -(-len(columns.account) // CHUNK)


def _arranged(
    positions: Widths, balances: Widths, size: npt.NDArray[np.uint16], market_count: int, asset_count: int
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
    return _columns(account, rows[0], rows[1], market_count, asset_count), slot[:slots].copy()


def _columns(
    account: npt.NDArray[np.uint32], positions: Widths, balances: Widths, market_count: int, asset_count: int
) -> SweepColumns:
    """Empty columns for slots with these numbers of rows."""
    offsets = []
    for rows in (positions, balances):
        width = rows.reshape(-1, LANES).max(axis=1, initial=0)
        offsets.append(np.append(0, np.cumsum(width, dtype=np.int64)).astype(np.uint32))
    groups = len(account) // LANES
    position_rows, balance_rows = (LANES * int(offset[-1]) for offset in offsets)
    bits = [np.zeros(groups, np.uint8) for _ in range(3)]
    few = asset_count < 256
    asset = np.full(balance_rows, asset_count, np.uint8) if few else np.full(balance_rows, asset_count, np.uint16)
    return SweepColumns(
        account=account,
        position_group=offsets[0],
        market=np.full(position_rows, market_count, np.uint16),
        lots=np.zeros(position_rows, np.int32),
        balance_group=offsets[1],
        asset=asset,
        balance=np.zeros(balance_rows),
        cash_minus_cost=np.zeros(len(account)),
        has_orders=bits[0],
        has_leverage_limit=bits[1],
        overflow=bits[2],
    )
