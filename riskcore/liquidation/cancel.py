"""Phase 1: the open orders of selected accounts are cancelled."""

from __future__ import annotations

import numpy as np

from .tick_state import TickState


def cancel_orders(state: TickState) -> None:
    """Cancel every open order of the selected accounts; this frees locked equity."""
    columns, orders = state.accounts.columns, state.accounts.orders
    for account in state.selected[columns.open_orders[state.selected] > 0].tolist():
        first, last = np.searchsorted(orders.account, [account, account + 1])
        for row in range(first, last):
            lots = int(orders.lots[row])
            if not lots:
                continue
            before = state.margin(account).mmr
            orders.lots[row] = 0
            columns.open_orders[account] -= 1
            if not orders.reduce_only[row]:
                where = state.accounts.position_row(account, int(orders.market[row]))
                (columns.open_bid if orders.side[row] > 0 else columns.open_ask)[where] -= lots
            state.journal.add(
                "cancel", "liquidation", account, before, state.margin(account).mmr, market=int(orders.market[row]),
                order=row, requested=lots,
            )  # fmt: skip
