"""Phase 6: an account without positions and equity is closed out; its shortfall goes to the fund, then by policy."""

from __future__ import annotations

from functools import partial
from math import ceil

import numpy as np

from .._typing import Int
from ..record import FUND, NOBODY, SHORTFALL
from ..venue import integer_weights, water_fill
from .convert import Converter
from .tick_state import TickState, largest_passing


def close_out(state: TickState) -> None:
    """Convert all balances of bankrupt accounts to the settle asset, and cover a settle balance below zero."""
    columns, settle = state.accounts.columns, state.venue.settle
    rows, counts = state.accounts.position_rows(state.selected)
    owner = np.repeat(np.arange(len(state.selected)), counts)
    has_position = np.bincount(owner, columns.lots[rows] != 0, len(state.selected)) > 0
    for account in state.selected[~has_position].tolist():
        if state.margin(account).equity > 0:
            continue
        own = int(columns.settle_row[account])
        _to_settle(state, account)
        _take_unsettled(state, account, own)
        paid = min(int(state.ledger.fund[settle]), -int(columns.free[own]))
        if paid > 0:
            _cover(state, account, "fund", "bankrupt", own, paid, counterparty=FUND, fund=-paid)
        if columns.free[own] < 0:
            _pay_from_other_funds(state, account)
        rest = max(-int(columns.free[own]), 0)
        match state.venue.policy.shortfall:
            case "unsettled" if rest:
                _cover(state, account, "shortfall", "unsettled", own, rest, counterparty=NOBODY, unsettled=-rest)
                rest = 0
            case "equity" | "open_interest" if rest:
                rest = _socialize(state, account, rest)
        if rest:
            _cover(state, account, "shortfall", "bankrupt", own, rest, counterparty=SHORTFALL, counter_cash=-rest)
            state.ledger.shortfall[settle] -= rest


def _to_settle(state: TickState, account: int) -> None:
    convert = Converter(state, account, "close_out")
    balances = state.accounts.balances_of(account)
    free, lent = convert.columns.free, convert.columns.lent
    for row in balances:
        if lent[row]:
            convert.redeem(row, int(lent[row]))
    for row in _money_rows(state, account):
        _take_unsettled(state, account, row)
    for wanted in (1, -1):
        for row in balances:
            if row != convert.settle and free[row] * wanted > 0:
                convert.exchange(convert.at_index(row, -int(free[row])))


def _money_rows(state: TickState, account: int) -> list[int]:
    """Balance rows of the money assets of an account other than the venue's settle asset."""
    assets = state.accounts.columns.asset
    return [row for row in state.accounts.balances_of(account) if int(assets[row]) in state.venue.money[1:]]


def _take_unsettled(state: TickState, account: int, row: int) -> None:
    """Move the unsettled part of a balance to the free part; a debt that the policy leaves with the account stays."""
    unsettled = int(state.accounts.columns.unsettled[row])
    if unsettled > 0 or (unsettled and state.venue.policy.shortfall != "unsettled"):
        _cover(state, account, "unsettle", "close_out", row, unsettled, counterparty=NOBODY, unsettled=-unsettled)


def _pay_from_other_funds(state: TickState, account: int) -> None:
    """Pay a shortfall from the funds of other assets: into the account's balance of each, then converted."""
    convert, columns = Converter(state, account, "close_out"), state.accounts.columns
    for row in _money_rows(state, account):
        asset, rest = int(columns.asset[row]), -int(columns.free[convert.settle])
        if rest <= 0 or not state.ledger.fund[asset] or np.isnan(state.prices.asset[asset]):
            continue
        paid = min(int(state.ledger.fund[asset]), ceil(rest / convert.unit_value(row)))
        _cover(state, account, "fund", "bankrupt", row, paid, counterparty=FUND, fund=-paid)
        convert.exchange(convert.at_index(row, -paid))


def _cover(
    state: TickState, account: int, event: str, reason: str, row: int, quanta: int, *, fund: int = 0,
    unsettled: int = 0, **sides: int,
) -> None:  # fmt: skip
    """Pay into a balance of a bankrupt account from others, the fund or its unsettled balance; write the row."""
    before, columns = state.margin(account).mmr, state.accounts.columns
    settle = int(columns.asset[row])
    columns.free[row] += quanta
    columns.unsettled[row] += unsettled
    state.ledger.fund[settle] += fund
    sides |= {"settle": settle, "fund": fund, "unsettled": unsettled}
    state.journal.add(event, reason, account, before, state.margin(account).mmr, cash=quanta, **sides)


def _socialize(state: TickState, account: int, remaining: int) -> int:
    """Let others in the account's markets pay the rest of a shortfall; return the amount that nobody could pay."""
    payers, weights = _payers(state, account)
    settle_row = state.accounts.columns.settle_row

    def can_absorb(payer: int, quanta: int) -> bool:
        return state.after_exchange(int(settle_row[payer]), payer, 0, -quanta, state.stays_healthy)

    able = np.ones(len(payers), bool)
    while remaining:
        parts = water_fill(remaining, weights, np.where(able, min(remaining, 2**61 // max(len(able), 1)), 0))
        asked_payers = np.flatnonzero(parts)
        for n in asked_payers.tolist():
            payer = int(payers[n])
            paid = largest_passing(int(parts[n]), partial(can_absorb, payer))
            able[n] = paid == parts[n]
            if paid:
                state.before.remember(payer)
                state.add_cash(payer, -paid)
                reason = state.venue.policy.shortfall
                own = int(settle_row[account])
                _cover(state, account, "socialize", reason, own, paid, counterparty=payer, counter_cash=-paid)
                remaining -= paid
        if able[asked_payers].all():
            break
    return remaining


def _payers(state: TickState, account: int) -> tuple[Int, Int]:
    """Account rows of the payers for an account by the policy, each once, and their weights; as at the sweep."""
    columns, equity = state.accounts.columns, state.before.table.net_equity
    own = state.accounts.positions_of(account)
    positions = slice(own.start, own.stop)
    side = np.zeros(len(state.venue.markets.symbol), np.int64)
    side[columns.market[positions]] = np.sign(state.before.lots[positions])
    by_equity = state.venue.policy.shortfall == "equity"
    against = side[columns.market]
    rows = np.flatnonzero((state.before.lots * against < 0) if by_equity else (against != 0) & (state.before.lots != 0))
    holders = state.accounts.position_accounts()[rows]
    notional = np.abs(state.before.lots[rows]) * state.prices.arrays.price_per_lot[columns.market[rows]]
    notional = notional * float(state.venue.settle_quantum)
    weight = equity if by_equity else np.bincount(holders, notional, len(equity)).astype(float)
    payers = np.setdiff1d(holders, state.selected)
    payers = payers[state.is_other(account, payers)]
    payers = payers[state.accounts.by_id(payers)]
    payers = payers[equity[payers] > 0] if by_equity else payers
    return payers, integer_weights(weight[payers])
