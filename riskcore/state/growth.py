"""Adds rows and accounts to a state that one engine owns (docs/decisions/0018-rows-that-grow.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..kernels.layouts import AccountColumns
from ..venue import Venue
from .rows import Opened, _key, _locked, _rows_of

if TYPE_CHECKING:
    from .accounts import Accounts

AXES = {
    "position": ("market", "lots", "open_bid", "open_ask", "cost", "entry", "position_balance"),
    "balance": ("asset", "free", "lent", "balance_cost", "unsettled"),
    "account": ("position_span", "balance_span", "settle_row", "open_orders", "leverage_fraction"),
}
"""Columns of `AccountColumns` by what their rows are."""
_OF_ACCOUNTS = ("ids", "leverage_limit", "owner_ids")
_FIXED = ("position_span", "market", "position_balance", "balance_span", "asset", "settle_row")  # by this module alone
_KIND = {"position": "market", "balance": "asset"}
_FEW = 16  # a batch that adds rows to one account in 16 lays all rows out anew
_WIDTH = 1 << 16  # of a key: markets and assets are numbers of 16 bits


class Growth:
    """Room behind the columns of a state, for more rows and accounts.

    A state that has grown keeps the numbers of its accounts; its rows need no longer ascend by account. The state and
    its view get their columns anew by every call of `add`; arrays that were taken from them before may be of rows that
    moved.

    Parameters
    ----------
    state : Accounts
        Whose columns one can write to; its owner alone has them.
    view : Accounts
        The same accounts, read-only.
    venue : Venue
        Their venue.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import Growth, Opened
    >>> venue, accounts = two_accounts()
    >>> state = accounts.copy()
    >>> growth = Growth(state, state.view(), venue)
    >>> added = growth.add(Opened.of([9], [np.inf], [9]), np.empty((0, 2), np.int64), np.array([[0, 1], [2, 0]]))
    >>> len(state), state.row_of(9), [len(state.balances_of(row)) for row in range(3)]
    (3, 2, [2, 1, 1])
    """

    def __init__(self, state: Accounts, view: Accounts, venue: Venue) -> None:
        self._state, self._view, self._venue = state, view, venue
        self._buffers: dict[str, npt.NDArray[Any]] = {}
        self._used = {"position": len(state.columns.lots), "balance": len(state.columns.free), "account": len(state)}
        self._reserved: dict[tuple[str, int], int] = {}  # end of the rows that are kept for an account

    def add(self, opened: Opened, positions: Int, balances: Int) -> tuple[int, Int, Int]:
        """Add accounts, and rows of nothing where accounts have none yet.

        Parameters
        ----------
        opened : Opened
            New accounts; each gets a balance row of the venue's settle asset.
        positions : ndarray of int64, shape (n, 2)
            Account and market of position rows; each account gets a balance row of the market's settle asset too.
        balances : ndarray of int64, shape (n, 2)
            Account and asset of balance rows.

        Returns
        -------
        opened : int
            Number of accounts that were added.
        positions, balances : ndarray of int64, shape (m, 2)
            Account and market, or asset, of the rows that were added.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import NOBODY_OPENED, Growth
        >>> venue, accounts = two_accounts()
        >>> state, nothing = accounts.copy(), np.empty((0, 2), np.int64)
        >>> growth = Growth(state, state.view(), venue)
        >>> added = growth.add(NOBODY_OPENED, np.array([[0, 0]]), nothing)
        >>> len(state.positions_of(0)), state.packed
        (2, False)
        """
        first = self._used["account"]
        of_opened = np.stack([np.arange(first, first + len(opened.ids)), np.full(len(opened.ids), self._venue.settle)])
        of_markets = np.stack([positions[:, 0], self._venue.markets.settle[positions[:, 1]]])
        missing = {
            "balance": self._missing("balance", np.concatenate([balances, of_opened.T, of_markets.T])),
            "position": self._missing("position", positions),
        }
        added = len(opened.ids), missing["position"], missing["balance"]
        if not len(opened.ids) and not any(map(len, missing.values())):
            return added
        if not self._buffers:
            self._lay_out({})
        if len(opened.ids):
            self._open(opened)
        if _FEW * sum(map(len, missing.values())) > self._used["account"] + 1024:
            self._lay_out({}, missing)
        else:
            for axis, keys in missing.items():  # balances first: a position row names its balance row
                for account in np.unique(keys[:, 0]).tolist():
                    self._insert(axis, account, keys[keys[:, 0] == account, 1])
        self._publish()
        return added

    def remove(self, opened: int, positions: Int, balances: Int) -> None:
        """Remove what the last call of `add` has added, which holds nothing.

        Parameters
        ----------
        opened : int
            Number of accounts.
        positions, balances : ndarray of int64, shape (m, 2)
            Account and market, or asset, of rows.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import NOBODY_OPENED, Growth
        >>> venue, accounts = two_accounts()
        >>> state, nothing = accounts.copy(), np.empty((0, 2), np.int64)
        >>> growth = Growth(state, state.view(), venue)
        >>> growth.remove(*growth.add(NOBODY_OPENED, np.array([[0, 0]]), nothing))
        >>> len(state.positions_of(0)), state.packed
        (1, True)
        """
        if not opened and not len(positions) and not len(balances):
            return
        for axis, keys in (("position", positions), ("balance", balances)):
            for account, kind in keys.tolist():
                self._delete(axis, account, kind)
        self._used["account"] -= opened
        for account in np.unique(np.concatenate([positions[:, 0], balances[:, 0]])).tolist():
            if account < self._used["account"]:
                self._name_balances(account)
        self._lay_out({})
        self._publish()

    def _delete(self, axis: str, account: int, kind: int) -> None:
        """Remove a row of nothing from an account."""
        buffers = self._buffers
        span, kinds = buffers[f"{axis}_span"], buffers[_KIND[axis]]
        first, end = span[account].tolist()
        row = first + int(np.searchsorted(kinds[first:end], kind))
        for name in AXES[axis]:
            buffers[name][row : end - 1] = buffers[name][row + 1 : end].copy()
            buffers[name][end - 1] = 0
        span[account, 1] = end - 1

    def pack(self) -> None:
        """Lay all rows out in the order of the accounts, without rows that nobody has.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import NOBODY_OPENED, Growth
        >>> venue, accounts = two_accounts()
        >>> state, nothing = accounts.copy(), np.empty((0, 2), np.int64)
        >>> growth = Growth(state, state.view(), venue)
        >>> added = growth.add(NOBODY_OPENED, np.array([[0, 0]]), nothing)
        >>> len(state.positions_of(0)), state.packed
        (2, False)
        >>> growth.pack()
        >>> state.packed
        True
        """
        if self._buffers:
            self._lay_out({})
            self._publish()

    def _missing(self, axis: str, keys: Int) -> Int:
        """Return those of the keys (account and kind) that no row has, each once, ascending."""
        if not len(keys):
            return keys
        keys = np.unique(keys, axis=0)
        known = keys[:, 0] < self._used["account"]
        columns = self._state.columns
        span = getattr(columns, f"{axis}_span")
        rows, counts = _rows_of(span, np.unique(keys[known, 0]))
        held = _key(np.repeat(np.unique(keys[known, 0]), counts), getattr(columns, _KIND[axis])[rows], _WIDTH)
        return np.asarray(keys[~np.isin(_key(keys[:, 0], keys[:, 1], _WIDTH), held)])

    def _open(self, opened: Opened) -> None:
        """Append accounts without rows."""
        first, count = self._used["account"], len(opened.ids)
        if self._state.owner_ids is None and (opened.owner_ids != opened.ids).any():
            self._buffers["owner_ids"] = self._buffers["ids"].copy()
        self._reserve("account", count)
        end = first + count
        for name in ("position", "balance"):
            self._buffers[f"{name}_span"][first:end] = self._used[name]
        self._buffers["settle_row"][first:end] = self._buffers["open_orders"][first:end] = 0
        self._buffers["leverage_fraction"][first:end] = 1.0 / opened.leverage_limit
        for name in _OF_ACCOUNTS:
            if name in self._buffers:
                self._buffers[name][first:end] = getattr(opened, name)
        self._used["account"] = end

    def _reserve(self, axis: str, count: int) -> int:
        """First of ``count`` rows behind those in use; all rows are laid out anew where there is no room for them."""
        if self._used[axis] + count > len(self._buffers[AXES[axis][0]]):
            self._lay_out({axis: count})
        return self._used[axis]

    def _insert(self, axis: str, account: int, kinds: Int) -> None:
        """Add rows of nothing to one account, whose rows move behind the others unless room was kept for it."""
        buffers, span = self._buffers, f"{axis}_span"
        first, end = buffers[span][account].tolist()
        size = end - first + len(kinds)
        if first + size > self._reserved.get((axis, account), end):
            new = self._reserve(axis, 2 * size)  # which may move the rows
            self._used[axis] = self._reserved[axis, account] = new + 2 * size
            first, end = self._buffers[span][account].tolist()
        else:
            new = first
        buffers = self._buffers
        all_kinds = np.concatenate([buffers[_KIND[axis]][first:end], kinds])
        order = np.argsort(all_kinds, kind="stable")
        for name in AXES[axis]:
            buffer = buffers[name]
            values = np.concatenate([buffer[first:end], np.zeros(len(kinds), buffer.dtype)])[order]
            buffer[first:end] = 0
            buffer[new : new + size] = values
        buffers[_KIND[axis]][new : new + size] = all_kinds[order]
        buffers[span][account] = new, new + size
        self._name_balances(account)

    def _name_balances(self, account: int) -> None:
        """Set the balance rows that an account and its positions name."""
        buffers, settle = self._buffers, self._venue.markets.settle
        first, end = buffers["balance_span"][account].tolist()
        assets = buffers["asset"][first:end]
        buffers["settle_row"][account] = first + int(np.searchsorted(assets, self._venue.settle))
        rows = slice(*buffers["position_span"][account].tolist())
        buffers["position_balance"][rows] = first + np.searchsorted(assets, settle[buffers["market"][rows]])

    def _lay_out(self, more: dict[str, int], added: dict[str, Int] | None = None) -> None:
        """Copy all rows to new buffers in the order of the accounts, rows of nothing for the keys ``added`` among them.

        Behind them is room for an eighth more, and for the rows ``more``.
        """
        old, accounts = self._buffers or self._columns(), np.arange(self._used["account"])
        new: dict[str, npt.NDArray[Any]] = {}
        keys, source = {}, {"account": accounts}
        for axis, kind in _KIND.items():
            rows, counts = _rows_of(old[f"{axis}_span"], accounts)
            keys[axis] = _key(np.repeat(accounts, counts), old[kind][rows], _WIDTH)
            if added is not None:
                keys[axis] = np.concatenate([keys[axis], _key(added[axis][:, 0], added[axis][:, 1], _WIDTH)])
                order = np.argsort(keys[axis], kind="stable")
                rows = np.concatenate([rows, np.full(len(added[axis]), -1)])[order]
                keys[axis] = keys[axis][order]
            source[axis] = rows
        for axis, rows in source.items():
            used = len(rows)
            size = used + used // 8 + 1024 + more.get(axis, 0)
            for name in (*AXES[axis], *(_OF_ACCOUNTS if axis == "account" else ())):
                if name in old:
                    new[name] = np.zeros((size, *old[name].shape[1:]), old[name].dtype)
                    new[name][:used] = old[name][rows] if len(old[name]) else 0
                    new[name][:used][rows < 0] = 0
            self._used[axis] = used
        for axis, kind in _KIND.items():
            new[kind][: len(keys[axis])] = keys[axis] % _WIDTH
            edges = np.searchsorted(keys[axis], np.arange(len(accounts) + 1) * _WIDTH)
            new[f"{axis}_span"][: len(accounts)] = np.stack([edges[:-1], edges[1:]], axis=1)
        settle = np.full(len(accounts), self._venue.settle)
        new["settle_row"][: len(accounts)] = np.searchsorted(keys["balance"], _key(accounts, settle, _WIDTH))
        holder, market = np.divmod(keys["position"], _WIDTH)
        wanted = _key(holder, self._venue.markets.settle[market], _WIDTH)
        new["position_balance"][: len(wanted)] = np.searchsorted(keys["balance"], wanted)
        self._buffers = new
        self._reserved.clear()

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        """The state's own columns by name."""
        state = self._state
        columns = state.columns._asdict() | {"ids": state.ids, "leverage_limit": state.leverage_limit}
        return columns if state.owner_ids is None else columns | {"owner_ids": state.owner_ids}

    def _publish(self) -> None:
        """Give the state and its view the columns as they are now."""
        used = {name: self._used[axis] for axis, names in AXES.items() for name in names}
        columns = AccountColumns(*(self._buffers[name][: used[name]] for name in AccountColumns._fields))
        fixed = columns._replace(**{name: _locked(getattr(columns, name)) for name in _FIXED})
        count, packed = self._used["account"], not self._reserved
        of_accounts = {name: self._buffers[name][:count] for name in _OF_ACCOUNTS if name in self._buffers}
        for accounts in (self._state, self._view):
            opened = accounts.opened + count - len(accounts)
            fields = {"columns": fixed, "packed": packed, "opened": opened, **of_accounts}
            if accounts is self._view:
                fields |= {name: _locked(array) for name, array in of_accounts.items()}
                fields["columns"] = AccountColumns(*(_locked(column) for column in columns))
            accounts._replace_fields(fields)
