"""Phase 1: the open orders of selected accounts are cancelled."""

from __future__ import annotations

from .tick_state import TickState


def cancel_orders(state: TickState) -> None:
    """Cancel every open order of the selected accounts; this frees locked equity."""
    accounts, orders = state.accounts, state.accounts.orders
    for account in state.selected[accounts.columns.open_orders[state.selected] > 0].tolist():
        for number in orders.open_of(account).tolist():
            lots, before = int(orders.lots[number]), state.margin(account).mmr
            accounts.change_order(number, 0)
            state.journal.add(
                "cancel", "liquidation", account, before, state.margin(account).mmr, market=int(orders.market[number]),
                order=number, requested=lots,
            )  # fmt: skip
