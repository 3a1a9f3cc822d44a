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

from .._typing import Bool, Int
from ..kernels import pack
from ..kernels.layouts import LANES, AccountColumns, SweepColumns
from ..kernels.sweep import CHUNK
from ..venue import Units
from .rows import _rows_of

Widths = npt.NDArray[np.uint32]

_NEW_WIDTH = 4  # rows, at least, of a group of accounts that were opened later
_MANY = 256  # the view is packed anew when one account in so many has more rows than its group


@dataclass
class SweepView:
    """The columns that a sweep reads: accounts in groups of eight, in chunks of 4,096.

    Within a chunk accounts with as many extra rows, positions and balances stand together, and among these the large
    ones, whose margin functions take another branch.

    Attributes
    ----------
    columns : SweepColumns
        Shapes and dtypes there.
    slot : ndarray of uint16, shape (8G,)
        Slot of an account in its chunk; an account stays in the chunk that its row is in.
    inverse : ndarray of bool, shape (M,)
        Whether the contract of a market is inverse.
    extra : ndarray of bool, shape (K,)
        Whether an asset is an extra money asset: markets settle in it, and it is not the venue's settle asset.
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
    inverse: Bool
    extra: Bool
    edits: int = 0
    packings: int = 1
    _buffers: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    _outgrown: int = 0

    @classmethod
    def of(cls, state: AccountColumns, units: Units) -> SweepView:
        """Pack all accounts of a venue.

        Parameters
        ----------
        state : AccountColumns
            The columns of the accounts.
        units : Units
            The units that the accounts were read with.

        Returns
        -------
        SweepView
            The view.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import SweepView
        >>> venue, accounts = two_accounts()
        >>> SweepView.of(accounts.columns, accounts.units).differs(accounts.columns)
        False
        """
        count = len(state.settle_row)
        inverse, extra = np.array(units.inverse, bool), np.zeros(len(units.assets), bool)
        extra[list(units.settle)] = True
        extra[units.assets.index(units.settle_asset)] = False
        sweep_view = cls(*_packed(state, inverse, extra), inverse, extra)
        for first in range(0, count, 64 * CHUNK):
            sweep_view.refresh(state, np.arange(first, min(first + 64 * CHUNK, count)))
        return sweep_view

    @property
    def market_count(self) -> int:
        """Number of the venue's markets."""
        return len(self.inverse)

    @property
    def asset_count(self) -> int:
        """Number of the venue's assets."""
        return len(self.extra)

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
        >>> added = Growth(state, state.view(), venue).add(Opened.of([9], [np.inf], [9]), nothing, nothing)
        >>> view.grow(state.columns, np.array([2]))
        >>> view.slots(np.array([2])).tolist(), view.differs(state.columns)
        ([2], False)
        """
        count = len(state.settle_row)
        self._append(state, count)
        columns, slots = self.columns, self.slots(accounts)
        columns.account[slots] = accounts
        last = np.arange(len(columns.account) - LANES, len(columns.account))
        columns.account[self.slots(last[last >= count])] = count
        groups, outgrown = slots // LANES, np.zeros(len(accounts), bool)
        offsets = columns.position_group, columns.balance_group, columns.extra_group
        for offset, width in zip(offsets, _widths(state, self.extra, accounts), strict=True):
            outgrown |= width > offset[groups + 1] - offset[groups]
        self._outgrown += int(outgrown.sum())
        if _MANY * self._outgrown > count + _MANY * LANES:
            self.columns, self.slot = _packed(state, self.inverse, self.extra)
            self._outgrown, self._buffers = 0, {}
            self.refresh(state, np.arange(count))
            self.packings += 1
        else:
            self.refresh(state, accounts)

    def _append(self, state: AccountColumns, count: int) -> None:
        """Append groups for accounts that have no lane yet."""
        lanes = len(self.columns.account)
        if count <= lanes:
            return
        new = np.arange(lanes, -(-count // LANES) * LANES)
        rows = _widths(state, self.extra, new[: count - lanes])
        least = _NEW_WIDTH, _NEW_WIDTH, _NEW_WIDTH * bool(self.extra.any())
        rows = [
            np.maximum(np.append(row, np.zeros(-count % LANES, np.uint32)), n)
            for row, n in zip(rows, least, strict=True)
        ]
        account = np.minimum(new, count).astype(np.uint32)
        more = _columns(account, rows, self.market_count, self.asset_count)
        parts = more._asdict() | {"slot": (new % CHUNK).astype(np.uint16)}
        for name in ("position_group", "balance_group", "extra_group"):
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
        pack.pack_slots(self.slots(accounts), state, self.inverse, self.extra, self.columns)

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
        slots = np.flatnonzero(columns.account < len(state.settle_row))
        pack.pack_slots(slots, state, self.inverse, self.extra, fresh)
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
    filled = np.zeros(-len(slots) % LANES, np.uint32)
    offsets = columns.position_group, columns.balance_group, columns.extra_group
    widths = [np.append(np.diff(offset)[slots // LANES], filled) for offset in offsets]
    copy = _columns(np.zeros(len(widths[0]), np.uint32), widths, market_count, asset_count)
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


def _packed(state: AccountColumns, inverse: Bool, extra: Bool) -> tuple[SweepColumns, npt.NDArray[np.uint16]]:
    """Empty columns for all accounts, and their slots within the chunks."""
    count = len(state.settle_row)
    size = np.empty(count, np.uint16)
    pack.largest_costs(state, size)
    return _arranged(_widths(state, extra, np.arange(count)), size, len(inverse), len(extra))


def _widths(state: AccountColumns, extra: Bool, accounts: Int) -> list[Widths]:
    """Number of rows of positions, of balances, and of extra rows as of `SweepColumns`, of some accounts."""
    widths = [span[accounts, 1] - span[accounts, 0] for span in (state.position_span, state.balance_span)]
    extras = np.zeros(len(accounts), np.uint32)
    if extra.any():
        rows, counts = _rows_of(state.position_span, accounts)
        ends = np.append(0, np.cumsum(extra[state.asset[state.position_balance[rows]]]))
        extras = np.diff(ends[np.append(0, np.cumsum(counts))]).astype(np.uint32)
    return [*widths, extras]


def _arranged(
    widths: Sequence[Widths], size: npt.NDArray[np.uint16], market_count: int, asset_count: int
) -> tuple[SweepColumns, npt.NDArray[np.uint16]]:
    """Empty columns for accounts with these numbers of rows and sizes, and their slots within the chunks."""
    positions, balances, extras = widths
    count = len(positions)
    # NumPy sorts keys of two bytes by counting; counts past a byte share one key, which costs time, not correctness
    keys = [size, np.minimum(positions, 0xFE) << 8 | np.minimum(balances, 0xFF)]
    if extras.any():
        keys.append(np.minimum(extras, 0xFFFE))
    filled = np.full((-(-count // CHUNK), CHUNK), 0xFFFF, np.uint16)
    order = np.broadcast_to(np.arange(CHUNK, dtype=np.uint16), filled.shape)
    for key in keys:
        filled.ravel()[:count] = key
        by_key = np.argsort(np.take_along_axis(filled, order, axis=1), axis=1, kind="stable")
        order = np.take_along_axis(order, by_key, axis=1)
    slot = np.argsort(order, axis=1, kind="stable").astype(np.uint16).ravel()
    slots = -(-count // LANES) * LANES
    chunk = np.arange(slots, dtype=np.uint32) // CHUNK * CHUNK
    account = np.minimum(chunk + order.ravel()[:slots], np.uint32(count))
    nothing = np.uint32(0)
    rows = [np.append(width, nothing)[account] for width in widths]
    return _columns(account, rows, market_count, asset_count), slot[:slots].copy()


def _columns(
    account: npt.NDArray[np.uint32], widths: Sequence[Widths], market_count: int, asset_count: int
) -> SweepColumns:
    """Empty columns for slots with these numbers of rows of positions, of balances, and of extra rows."""
    offsets = []
    for rows in widths:
        width = rows.reshape(-1, LANES).max(axis=1, initial=0)
        offsets.append(np.append(0, np.cumsum(width, dtype=np.int64)).astype(np.uint32))
    groups = len(account) // LANES
    position_rows, balance_rows, extra_rows = (LANES * int(offset[-1]) for offset in offsets)
    bits = [np.zeros(groups, np.uint8) for _ in range(3)]
    return SweepColumns(
        account=account,
        position_group=offsets[0],
        market=np.full(position_rows, market_count, np.uint16),
        lots=np.zeros(position_rows, np.int32),
        balance_group=offsets[1],
        asset=_no_assets(balance_rows, asset_count),
        balance=np.zeros(balance_rows),
        cash_minus_cost=np.zeros(len(account)),
        extra_group=offsets[2],
        extra_market=np.full(extra_rows, market_count, np.uint16),
        extra_lots=np.zeros(extra_rows, np.int32),
        extra_asset=_no_assets(extra_rows, asset_count),
        extra_quanta=np.zeros(extra_rows),
        has_orders=bits[0],
        has_leverage_limit=bits[1],
        overflow=bits[2],
    )


def _no_assets(rows: int, asset_count: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Asset rows that stand for none, in as few bytes as asset rows take."""
    if asset_count < 256:
        return np.full(rows, asset_count, np.uint8)
    return np.full(rows, asset_count, np.uint16)
