"""Phase 6: an account without positions and equity is closed out; its shortfall goes to the fund, then on record."""

from __future__ import annotations

from fractions import Fraction

from ..journal import FUND, SHORTFALL
from .convert import Converter
from .tick_state import TickState


def close_out(state: TickState) -> None:
    """Turn what bankrupt accounts hold and owe into settle, and take over what is then below zero."""
    columns = state.accounts.columns
    for account in state.selected.tolist():
        rows = state.accounts.positions_of(account)
        if columns.lots[rows.start : rows.stop].any() or state.margin(account).equity > 0:
            continue
        _to_settle(state, account)
        shortfall = max(-int(columns.free[columns.settle_row[account]]), 0)
        paid = min(state.ledger.fund, shortfall)
        if paid:
            _cover(state, account, "fund", paid)
        if shortfall > paid:
            _cover(state, account, "shortfall", shortfall - paid)


def _to_settle(state: TickState, account: int) -> None:
    convert = Converter(state, account, "close_out", Fraction(0))
    balances = state.accounts.balances_of(account)
    free, lent = convert.columns.free, convert.columns.lent
    for row in balances:
        if lent[row]:
            convert.redeem(row, int(lent[row]))
    for wanted in (1, -1):
        for row in balances:
            if row != convert.settle and free[row] * wanted > 0:
                convert.exchange(convert.at_index(row, -int(free[row])))


def _cover(state: TickState, account: int, ledger: str, quanta: int) -> None:
    before = state.margin(account).mmr
    state.add_cash(account, quanta)
    if ledger == "fund":
        state.ledger.fund -= quanta
        sides = {"counterparty": FUND, "fund": -quanta}
    else:
        state.ledger.shortfall -= quanta
        sides = {"counterparty": SHORTFALL, "counter_cash": -quanta}
    state.journal.add(ledger, "bankrupt", account, before, state.margin(account).mmr, cash=quanta, **sides)
