"""Lends: at full utilisation a lend cannot be redeemed; borrowers of the asset settle it directly."""

from __future__ import annotations

from functools import partial
from math import ceil

import numpy as np

from ..kernels.margin import SAFE
from ..state import limited
from .convert import settle_per_quantum
from .tick_state import TickState, largest_passing


def settle_lends(state: TickState) -> None:
    """Settle lends of liquidating lenders with borrowers, at the index: no account's equity changes."""
    pooled, columns = state.venue.pooled, state.accounts.columns
    held, _ = state.accounts.balance_rows(state.selected)
    if not (pooled[columns.asset[held]] & (columns.lent[held] > 0)).any():
        return
    for account in state.selected[state.statuses() != SAFE].tolist():
        rows = state.accounts.balances_of(account)
        debts = [(settle_per_quantum(state, row), -int(columns.free[row])) for row in rows if columns.free[row] < 0]
        need = sum(round(unit_value * debt) for unit_value, debt in debts)
        lends = [row for row in rows if columns.lent[row] and pooled[columns.asset[row]]]
        for row in sorted(lends, key=lambda row: (-settle_per_quantum(state, row) * int(columns.lent[row]), row)):
            state.pools.refresh()
            unit_value = settle_per_quantum(state, row)
            lent = int(columns.lent[row])
            stuck = lent - limited(lent, state.pools.redeemable(int(columns.asset[row])))
            if stuck and need > 0:
                wanted = min(stuck, ceil(need / unit_value))
                settled, received = _settle(state, account, row, wanted)
                need -= received
                if settled < wanted and not state.healthy(account):
                    mmr, asset = state.margin(account).mmr, int(columns.asset[row])
                    state.journal.add(
                        "unfilled", "full_utilization", account, mmr, mmr, asset=asset, requested=wanted - settled
                    )


def _settle(state: TickState, lender: int, row: int, quanta: int) -> tuple[int, int]:
    """Settle quanta of a lend with the largest borrowers; return those settled, and the settle quanta received.

    A lend of settle is none that settle could be paid for.
    """
    columns, unit_value = state.accounts.columns, settle_per_quantum(state, row)
    if columns.asset[row] == state.venue.settle:
        return 0, 0
    debts = np.flatnonzero((columns.asset == columns.asset[row]) & (columns.free < 0))
    owner = state.accounts.balance_accounts()[debts]
    by_id = state.accounts.by_id(owner)
    debts, owner = debts[by_id], owner[by_id]
    open_to = ~np.isin(owner, state.selected) & state.is_other(lender, owner)
    debts, owner = debts[open_to], owner[open_to]
    order = np.argsort(columns.free[debts], kind="stable")
    remaining, received = quanta, 0

    def can_absorb(borrower: int, debt: int, taken: int) -> bool:
        return state.after_exchange(debt, borrower, taken, -round(unit_value * taken), state.stays_healthy)

    for borrower, debt in zip(owner[order].tolist(), debts[order].tolist(), strict=True):
        if not remaining or state.healthy(lender):
            break
        taken = largest_passing(min(remaining, -int(columns.free[debt])), partial(can_absorb, borrower, debt))
        if taken:
            cash = round(unit_value * taken)
            state.exchange("adl", "full_utilization", lender, row, borrower, quanta, lent=-taken, cash=cash)
            remaining, received = remaining - taken, received + cash
    return quanta - remaining, received
