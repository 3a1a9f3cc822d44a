"""Phase 6: an account without positions and equity is closed out; its shortfall goes to the fund, then by policy."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

from .. import exact
from ..deleveraging import share_out, whole_weights
from ..journal import FUND, NOBODY, SHORTFALL
from .convert import Converter
from .tick_state import TickState, most

Int = npt.NDArray[np.int64]


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
            _cover(state, account, "fund", "bankrupt", paid, counterparty=FUND, fund=-paid)
        rest = shortfall - paid
        match state.venue.policy.shortfall:
            case "unsettled" if rest:
                _cover(state, account, "shortfall", "unsettled", rest, counterparty=NOBODY, unsettled=-rest)
                rest = 0
            case "equity" | "open_interest" if rest:
                rest = _socialize(state, account, rest)
        if rest:
            _cover(state, account, "shortfall", "bankrupt", rest, counterparty=SHORTFALL, counter_cash=-rest)
            state.ledger.shortfall -= rest


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


def _cover(
    state: TickState, account: int, event: str, reason: str, quanta: int, *, fund: int = 0, unsettled: int = 0,
    **sides: int,
) -> None:  # fmt: skip
    """Add to a bankrupt account's settle balance what others, the fund or its own unsettled give; write the row."""
    before = state.margin(account).mmr
    state.add_cash(account, quanta)
    state.accounts.columns.unsettled[account] += unsettled
    state.ledger.fund += fund
    sides |= {"fund": fund, "unsettled": unsettled}
    state.journal.add(event, reason, account, before, state.margin(account).mmr, cash=quanta, **sides)


def _socialize(state: TickState, account: int, rest: int) -> int:
    """Let others in the account's markets pay what the fund could not; return what nobody could pay."""
    rows = np.array([row for row in state.accounts.positions_of(account) if state.lots[row]], np.int64)
    markets = state.accounts.columns.market[rows].astype(np.int64)
    worth = [Fraction(exact.price_per_lot(state.prices, m)) / state.venue.settle_quantum for m in markets.tolist()]
    weight = [int(abs(lots) * w) for lots, w in zip(state.lots[rows].tolist(), worth, strict=True)]
    parts = share_out(rest, np.array(weight, np.int64), _caps(rest, np.ones(len(rows), bool)))
    for row, market, part in zip(rows.tolist(), markets.tolist(), parts.tolist(), strict=True):
        payers, weights = _payers(state, market, int(state.lots[row]))
        rest -= part - _collect(state, account, market, payers, weights, part)
    return rest


def _payers(state: TickState, market: int, lots: int) -> tuple[Int, Int]:
    """Account rows of those who pay for a position that an account had in a market, and their weights."""
    columns, equity = state.accounts.columns, state.table.net_equity
    by_equity = state.venue.policy.shortfall == "equity"
    rows = np.flatnonzero(
        (columns.market == market) & ((state.lots * np.sign(lots) < 0) if by_equity else (state.lots != 0))
    )
    payers = np.searchsorted(columns.position_offset, rows, side="right") - 1
    keep = ~np.isin(payers, state.selected)
    if by_equity:
        keep &= equity[payers] > 0
    rows, payers = rows[keep], payers[keep]
    return payers, whole_weights(equity[payers]) if by_equity else np.abs(state.lots[rows])


def _collect(state: TickState, account: int, market: int, payers: Int, weights: Int, left: int) -> int:
    """Let each pay its part, and no more than leaves it healthy; return what is left."""

    def solvent(payer: int) -> bool:
        return state.healthy(payer) and state.margin(payer).equity >= 0

    def bears(payer: int, quanta: int) -> bool:
        return state.after_exchange(int(state.accounts.columns.settle_row[payer]), payer, 0, -quanta, solvent)

    able = np.ones(len(payers), bool)
    while left:
        parts = share_out(left, weights, _caps(left, able))
        asked = np.flatnonzero(parts)
        for n in asked.tolist():
            payer = int(payers[n])
            paid = most(int(parts[n]), partial(bears, payer))
            able[n] = paid == parts[n]
            if paid:
                state.add_cash(payer, -paid)
                reason = state.venue.policy.shortfall
                _cover(state, account, "socialize", reason, paid, counterparty=payer, market=market, counter_cash=-paid)
                left -= paid
        if able[asked].all():
            break
    return left


def _caps(left: int, able: npt.NDArray[np.bool_]) -> Int:
    """Return what each of many may be asked for: all that is left, and so little that the sum fits 64 bits."""
    return np.where(able, min(left, 2**61 // max(len(able), 1)), 0)
