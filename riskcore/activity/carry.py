"""Carries actions out on a state, as a whole or not at all, and writes their rows of the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._limits import POSITION_LIMIT
from .._typing import Int
from ..accrual import entry_interest
from ..boundary import RiskDataError, exact, natural
from ..kernels import activity as kernels
from ..kernels import journal
from ..kernels.integer_math import cost_change
from ..kernels.layouts import LedgerArrays
from ..kernels.margin import SAFE
from ..liquidation import remember_fill
from ..margin import folded, model_of
from ..market import Prices, Tick
from ..record import EVENT, POOL, REASON, ROW, Journal, Rows
from ..state import Accounts, Growth, Ledger, Pools, Proposals
from ..venue import Venue
from .actions import ACTIONS, REFUSALS
from .read import Actions

_EVENT = np.array([EVENT[action.event] for action in ACTIONS.values()] + [EVENT["interest"]], np.uint8)
_PARTY = np.array([action.counterparty for action in ACTIONS.values()] + [POOL])
_FREE = np.array([action.free for action in ACTIONS.values()] + [0])
_LENT = np.array([action.lent for action in ACTIONS.values()] + [0])
_HAS_PRICE = np.array([name in ("fill", "confirm", "leverage") for name in ACTIONS] + [False])
_CHECKS = ("on", "off")
_BLOCK = 1024  # rows of the journal that are written while they are in the cache


@dataclass(frozen=True)
class CarriedOut:
    """Actions that were carried out.

    Attributes
    ----------
    actions : Actions
        The actions.
    written : ndarray of int64, shape (R, 11)
        Their rows, columns of `riskcore.kernels.activity`.
    tick : int
        Number of the tick before.
    reason : str
        Of their rows.
    accounts : ndarray of int64
        Account rows that they name, some more than once.
    has_grown : bool
        Whether accounts or rows were added.
    venue : Venue
        The rules.
    """

    actions: Actions
    written: Int
    tick: int
    reason: str
    accounts: Int
    has_grown: bool
    venue: Venue

    @cached_property
    def rows(self) -> Rows:
        """Rows of the journal."""
        blocks = [self._rows_of(self.written[n : n + _BLOCK]) for n in range(0, len(self.written), _BLOCK)]
        return np.concatenate([np.empty(0, ROW), *blocks]) if len(blocks) != 1 else blocks[0]

    def _rows_of(self, written: Int) -> Rows:
        """Rows of the journal for some of the rows."""
        actions, markets = self.actions, self.venue.markets
        action, kind = written[:, kernels.R_ACTION], written[:, kernels.R_KIND]
        values = np.empty((len(kernels.ROW_COLUMNS), len(written)), np.int64)
        kernels.row_values(actions.matrix, written, markets.settle, _PARTY, _FREE, _LENT, values)
        rows = Journal(self.tick, 0).block(len(written))
        for name, column in zip(kernels.ROW_COLUMNS, values, strict=True):
            rows[name] = column
        of_action = (actions.matrix[action, kernels.KIND] == kind) | (kind == kernels.INTEREST)
        rows["time"], rows["event"] = actions.time[action], _EVENT[kind]
        rows["reason"] = np.where(of_action, REASON[self.reason], REASON["reduce_only"])
        has_price = _HAS_PRICE[kind]
        rows["price"][has_price] = actions.price[action[has_price]]
        if (kind != kernels.FILL).any():
            self._write_others(rows, written)
        return rows

    def _write_others(self, rows: Rows, written: Int) -> None:
        """Write what fills do not have."""
        kind = written[:, kernels.R_KIND]
        no_limit = (kind == kernels.LEVERAGE) & np.isinf(rows["price"])
        rows["price"][no_limit] = np.nan
        priced = (kind == kernels.PLACE) | (kind == kernels.CHANGE)
        ticks, market = written[priced, kernels.R_TICKS], rows["market"][priced]
        rows["price"][priced] = natural(ticks, self.venue.markets.tick, market)
        confirmed = kind == kernels.CONFIRM
        is_last = written[confirmed, kernels.R_TICKS_BEFORE] > 0
        rows["event"][confirmed] = np.where(is_last, EVENT["market_close"], EVENT["book"])
        rows["reason"][confirmed] = REASON["host"]


def add_to_ledger(ledger: Ledger, rows: Rows) -> None:
    """Add to the ledgers what rows of activity change of them."""
    arrays = LedgerArrays(*(getattr(ledger, name) for name in LedgerArrays._fields))
    journal.add_activity(np.array([rows[name] for name in journal.ACTIVITY_COLUMNS]), arrays)


def have_prices(rows: Rows, prices: Prices | None) -> bool:
    """Whether everything that rows of activity name has a price."""
    if prices is None or prices.is_complete:
        return prices is not None
    for kind, price in (("market", prices.mark), ("asset", prices.asset), ("settle", prices.asset)):
        named = rows[kind][rows[kind] >= 0]
        if np.isnan(price[named]).any():
            return False
    return True


class Hands(NamedTuple):
    """State, room behind it, ledger, rules and prices that actions are carried out with.

    Of the ledger only what it remembers of slices changes: `add_to_ledger` adds the rows. ``prices`` are those of the
    last tick, None before the first; ``rules`` as of the kernels.
    """

    state: Accounts
    growth: Growth
    ledger: Ledger
    venue: Venue
    prices: Prices | None
    rules: Int
    reduce_only: ReduceOnly

    @property
    def checked_prices(self) -> Prices:
        """Prices that the venue checks with: before the first tick none is known."""
        return self.prices or Prices.incomplete(self.venue, Tick(0, {}))


@dataclass
class ReduceOnly:
    """Index of the reduce-only orders by account and market: all that are open, and perhaps others.

    Attributes
    ----------
    index : ndarray of int64, shape (X, 2)
        As of `riskcore.kernels.activity.carry_out`.
    seen : int
        Number of orders that were looked at.
    """

    index: Int = field(default_factory=lambda: np.empty((0, 2), np.int64))
    seen: int = 0

    def of(self, accounts: Accounts) -> Int:
        """Return the index, with the orders that were placed since."""
        columns = accounts.orders.columns
        if self.seen < len(columns.lots):
            new = np.flatnonzero(columns.reduce_only[self.seen :]) + self.seen
            if new.size:
                key = columns.account[new] * 65536 + columns.market[new]
                index = np.concatenate([self.index, np.stack([key, new], axis=1)])
                self.index = np.ascontiguousarray(index[np.lexsort((index[:, 1], index[:, 0]))])
            self.seen = len(columns.lots)
        return self.index

    def forget(self, count: int) -> None:
        """Forget the orders from a number on, which are taken back."""
        self.index = np.ascontiguousarray(self.index[self.index[:, 1] < count])
        self.seen = min(self.seen, count)


def rules_of(venue: Venue, delisted: Any) -> Int:
    """Return the rules of markets as of `riskcore.kernels.activity`."""
    markets = venue.markets
    return np.array([delisted, markets.is_closed, np.minimum(markets.max_lots, POSITION_LIMIT - 1)], np.int64)


def must_be_check(check: object) -> None:
    """Refuse a check that is none."""
    if check not in _CHECKS:
        raise RiskDataError("check", None, f"must be one of {', '.join(_CHECKS)}", value=check)


def carry_out(hands: Hands, actions: Actions, check: str, tick: int) -> CarriedOut:
    """Carry actions out on a state, one after another.

    Parameters
    ----------
    hands
        State, rules and prices.
    actions
        The actions.
    check
        "on", or "off": the venue checks nothing.
    tick
        Number of the tick before.

    Returns
    -------
    CarriedOut
        The actions with what they changed.

    Raises
    ------
    RiskDataError
        An action is refused: the state is as it was.
    """
    return _Carrying(hands, actions, check == "on", tick).run()


class _Carrying:
    """Actions that are being carried out."""

    def __init__(self, hands: Hands, actions: Actions, is_checked: bool, tick: int) -> None:
        self.hands, self.actions, self.tick = hands, actions, tick
        self.state, self.venue = hands.state, hands.venue
        self.prices = hands.checked_prices if is_checked else None
        self.folded = None if self.prices is None else folded(self.prices)
        self.written = np.empty((len(actions.matrix) + 1 + len(actions.matrix) // 8, kernels.ROW_WIDTH), np.int64)
        self.progress = np.zeros(kernels.PROGRESS_SIZE, np.int64)
        self.orders_before = len(self.state.orders.lots)
        self.limits_before: list[tuple[int, float, float]] = []
        self.added: tuple[int, Int, Int] | None = None
        self.proposals_before: Proposals | None = None

    def run(self) -> CarriedOut:
        try:
            if len(self.actions.opened.ids):
                self._grow()
            self._append_orders()
            self._carry_out()
        except BaseException:
            self._take_back()
            raise
        matrix = self.actions.matrix
        accounts = matrix[:, kernels.ACCOUNT]
        if (moved := matrix[:, kernels.KIND] == kernels.TRANSFER).any():
            accounts = np.concatenate([accounts, matrix[moved, kernels.ORDER]])
        written = self.written[: self.progress[kernels.WRITTEN]]
        reason = "host" if self.prices is None else "request"
        grown = self.added is not None
        if self.proposals_before is not None:
            self._remember_slices(written)
        return CarriedOut(self.actions, written, self.tick, reason, accounts, grown, self.venue)

    def _append_orders(self) -> None:
        orders = self.state.orders
        for account, market, side, ticks, lots, reduce_only, id_ in self.actions.placed:
            orders.append(account, market, side, ticks, lots, reduce_only=reduce_only, id_=id_)
        orders.columns.lots[self.orders_before :] = 0  # until they are placed

    def _carry_out(self) -> None:
        """Run the kernel from stop to stop."""
        state, hands, actions = self.state, self.hands, self.actions
        matrix, progress, n, is_sure = actions.matrix, self.progress, 0, False
        reduce_only = hands.reduce_only.of(state)
        while n < len(matrix):
            kernels.carry_out(
                n, len(matrix), is_sure, matrix, state.columns, state.orders.columns, hands.rules, self.venue.pooled,
                reduce_only, self.folded, self.written, progress,
            )  # fmt: skip
            _, n, status, _ = progress.tolist()
            is_sure = False
            if status == kernels.DONE:
                return
            if status == kernels.ROOM:
                self._make_room(len(reduce_only) + 1)
            elif status == kernels.NO_ROW:
                self._undo_rows()
                self._grow()
                n = 0
            elif status == kernels.HANDED:
                self._handed(n)
                n += 1
            elif status == kernels.STATUS_DOUBT:
                if self._is_liquidating(int(matrix[n, kernels.ACCOUNT])):
                    raise self._refusal(n, kernels.LIQUIDATING)
                is_sure = True
            elif status == kernels.MARGIN_DOUBT:
                self._must_cover(n)
                n += 1
            else:
                raise self._refusal(n, status)

    def _grow(self) -> None:
        """Add accounts, and the rows that actions need."""
        actions, state = self.actions, self.state
        matrix = actions.matrix
        missing = np.empty(len(matrix), bool)
        kernels.find_missing(matrix, state.columns, missing)
        rows = matrix[missing]
        trades = (rows[:, kernels.KIND] == kernels.FILL) | (rows[:, kernels.KIND] == kernels.PLACE)
        positions = rows[trades][:, (kernels.ACCOUNT, kernels.ITEM)]
        rows = rows[~trades]
        receiver = np.where(rows[:, kernels.KIND] == kernels.TRANSFER, rows[:, kernels.ORDER], rows[:, kernels.ACCOUNT])
        balances = np.stack([receiver, rows[:, kernels.ITEM]], axis=1)
        self.added = self.hands.growth.add(actions.opened, positions, balances)

    def _take_back(self) -> None:
        self._undo_rows()
        self.state.orders.truncate(self.orders_before)
        self.hands.reduce_only.forget(self.orders_before)
        if self.added is not None:
            self.hands.growth.remove(*self.added)

    def _undo_rows(self) -> None:
        state = self.state
        kernels.take_back(0, self.actions.matrix, state.columns, state.orders.columns, self.written, self.progress)
        for account, limit, fraction in reversed(self.limits_before):
            state.leverage_limit[account], state.columns.leverage_fraction[account] = limit, fraction
        self.limits_before.clear()
        if self.proposals_before is not None:
            self.hands.ledger.proposals, self.proposals_before = self.proposals_before, None

    def _refusal(self, n: int, status: int) -> RiskDataError:
        column, rule = REFUSALS[status]
        return self.actions.refusal(n, column, rule)

    def _is_liquidating(self, account: int) -> bool:
        prices = self.prices
        assert prices is not None
        return model_of(self.venue).account(self.state, account, prices).status != SAFE

    def _needs_margin(self, n: int) -> bool:
        """Whether the account of an action has exposure; what it holds must have prices then."""
        account, columns = int(self.actions.matrix[n, kernels.ACCOUNT]), self.state.columns
        if not kernels.is_exposed(account, columns):
            return False
        if kernels.lacks_price(account, columns, self.folded):
            raise self._refusal(n, kernels.NO_PRICE)
        return True

    def _must_not_be_liquidating(self, n: int) -> None:
        if self._needs_margin(n) and self._is_liquidating(int(self.actions.matrix[n, kernels.ACCOUNT])):
            raise self._refusal(n, kernels.LIQUIDATING)

    def _must_cover(self, n: int) -> None:
        account, prices = int(self.actions.matrix[n, kernels.ACCOUNT]), self.prices
        assert prices is not None
        if self._needs_margin(n) and not model_of(self.venue).covers_initial_margin(self.state, account, prices):
            raise self._refusal(n, kernels.NOT_COVERED)

    def _write(self, n: int, kind: int, lots: int = 0) -> None:
        """Write a row that names no order."""
        self._make_room(1)
        row = self.written[self.progress[kernels.WRITTEN]]
        row[:] = 0
        row[kernels.R_ACTION], row[kernels.R_KIND], row[kernels.R_ORDER], row[kernels.R_LOTS] = n, kind, -1, lots
        self.progress[kernels.WRITTEN] += 1

    def _make_room(self, count: int) -> None:
        """Have room for more rows."""
        if self.progress[kernels.WRITTEN] + count > len(self.written):
            more = np.empty((len(self.written) + count + 64, kernels.ROW_WIDTH), np.int64)
            self.written = np.concatenate([self.written, more])

    def _handed(self, n: int) -> None:
        """Carry out an action that is not one for the kernel."""
        kind = int(self.actions.matrix[n, kernels.KIND])
        if kind == kernels.LEVERAGE:
            self._set_leverage_limit(n)
        elif kind == kernels.BORROW:
            self._borrow(n)
        elif kind == kernels.REDEEM:
            self._redeem(n)
        else:
            self._confirm(n)

    def _confirm(self, n: int) -> None:
        """Fill what the host has filled of a slice that was proposed to it."""
        state, ledger, market_ticks = self.state, self.hands.ledger, self.venue.markets.tick
        row = self.actions.matrix[n]
        account, market, lots, flow = row[[kernels.ACCOUNT, kernels.ITEM, kernels.AMOUNT, kernels.FLOW]].tolist()
        position, held, proposal = -1, 0, ledger.proposals.get((account, market))
        if proposal is not None:
            position = state.position_row(account, market)
            held = int(state.columns.lots[position])
        price = exact(float(self.actions.price[n])) / market_ticks[market]
        if refusal := ledger.proposals.refusal(account, market, lots, held, price):
            raise self.actions.refusal(n, *refusal)
        assert proposal is not None
        fee, fee_given = ledger.proposals.fee(account, market, flow), self.actions.fee_given
        if fee_given is None or not fee_given[n]:
            row[kernels.FEE] = fee
        elif row[kernels.FEE] < 0 or abs(int(row[kernels.FEE]) - fee) > 1:
            asset = int(self.venue.markets.settle[market])
            due = float(fee * self.venue.assets.quantum[asset])
            raise self.actions.refusal(n, "fee", f"must be the fee of the proposed slice, {due:.12g}, to one quantum")
        balance = int(state.columns.position_balance[position])
        cost = int(cost_change(held, int(state.columns.cost[position]), lots, flow))
        if abs(int(state.columns.free[balance]) + flow + cost - int(row[kernels.FEE])) >= POSITION_LIMIT:
            raise self._refusal(n, kernels.TOO_MUCH_MONEY)
        if self.proposals_before is None:
            self.proposals_before = Proposals(ledger.proposals)
        ledger.proposals.take(account, market, lots)
        row[kernels.ROW] = position
        reduce_only, first = self.hands.reduce_only.of(state), int(self.progress[kernels.WRITTEN])
        self._make_room(len(reduce_only) + 1)
        orders = state.orders.columns
        kernels.confirm(n, self.actions.matrix, state.columns, orders, reduce_only, self.written, self.progress)
        self.written[first, kernels.R_LOTS_BEFORE] = abs(proposal.lots)
        self.written[first, kernels.R_TICKS_BEFORE] = proposal.event == "market_close"

    def _remember_slices(self, written: Int) -> None:
        """Keep what the cooldown and the caps of accounts need of the slices of the stage `book`."""
        of_stage = (written[:, kernels.R_KIND] == kernels.CONFIRM) & (written[:, kernels.R_TICKS_BEFORE] == 0)
        assert self.hands.prices is not None
        for n in written[of_stage, kernels.R_ACTION].tolist():
            account, market, lots = self.actions.matrix[n, [kernels.ACCOUNT, kernels.ITEM, kernels.AMOUNT]].tolist()
            time = int(self.actions.time[n])
            remember_fill(self.hands.ledger, self.venue, self.hands.prices, account, market, abs(lots), time)

    def _set_leverage_limit(self, n: int) -> None:
        account, state, limit = int(self.actions.matrix[n, kernels.ACCOUNT]), self.state, float(self.actions.price[n])
        fraction = state.columns.leverage_fraction
        if self.prices is not None:
            self._must_not_be_liquidating(n)
        self.limits_before.append((account, float(state.leverage_limit[account]), float(fraction[account])))
        state.leverage_limit[account], fraction[account] = limit, 1.0 / limit
        self._write(n, kernels.LEVERAGE)
        if self.prices is not None:
            self._must_cover(n)

    def _redeem(self, n: int) -> None:
        columns, quanta = self.state.columns, int(self.actions.matrix[n, kernels.AMOUNT])
        asset, row = self.actions.matrix[n, (kernels.ITEM, kernels.ROW)].tolist()
        if self.prices is not None:
            room = Pools(self.venue, self.state).redeemable(asset)
            if room is not None and quanta > room:
                raise self.actions.refusal(n, "quantity", "must be at most what the pool has: the rest is borrowed")
        columns.free[row] += quanta
        columns.lent[row] -= quanta
        self._write(n, kernels.REDEEM)

    def _borrow(self, n: int) -> None:
        columns, quanta = self.state.columns, int(self.actions.matrix[n, kernels.AMOUNT])
        asset, row = self.actions.matrix[n, (kernels.ITEM, kernels.ROW)].tolist()
        free = int(columns.free[row])
        if free > 0:
            rule = "must be borrowed by an account that has nothing free of the asset: withdraw takes what it has"
            raise self.actions.refusal(n, "quantity", rule)
        if quanta - free >= POSITION_LIMIT:
            raise self._refusal(n, kernels.TOO_MUCH_MONEY)
        pools = Pools(self.venue, self.state)
        if self.prices is not None:
            self._must_not_be_liquidating(n)
            pools.throttle(asset, 0)
            room = pools.borrowable(asset)
            if room is not None and quanta > room:
                raise self.actions.refusal(n, "quantity", "must be at most what the pool lends now")
        columns.free[row] -= quanta
        self._write(n, kernels.BORROW)
        if self.venue.pooled[asset]:
            pools.refresh()
            interest = entry_interest(pools, asset, quanta, int(self.actions.time[n]))
            if interest:
                columns.free[row] -= interest
                self._write(n, kernels.INTEREST, interest)
        if self.prices is not None:
            self._must_cover(n)
