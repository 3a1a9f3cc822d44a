"""Phase 1: the open orders of selected accounts are cancelled."""

from __future__ import annotations

import numpy as np

from .tick_state import TickState


def cancel_orders(state: TickState) -> None:
    """Cancel every open order of the selected accounts; this frees locked equity."""
    columns, orders = state.accounts.columns, state.accounts.orders
    for account in state.selected[columns.open_orders[state.selected] > 0].tolist():
        before = state.margin(account).mmr
        first, last = np.searchsorted(orders.account, [account, account + 1])
        open_rows = [row for row in range(first, last) if orders.lots[row]]
        cancelled = {row: int(orders.lots[row]) for row in open_rows}
        orders.lots[first:last] = 0
        rows = state.accounts.positions_of(account)
        columns.open_bid[rows.start : rows.stop] = 0
        columns.open_ask[rows.start : rows.stop] = 0
        columns.open_orders[account] = 0
        after = state.margin(account).mmr
        for row, lots in cancelled.items():
            state.journal.add(
                "cancel", "liquidation", account, before, after, market=int(orders.market[row]), order=row,
                requested=lots,
            )  # fmt: skip
