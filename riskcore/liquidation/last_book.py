"""The last book: what no stage took goes back to the order book at any price, and what then stays open has a reason."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from ..kernels import books as kernels
from ..kernels.margin import SAFE
from ..margin.exact import ExactMargin
from ..record import BOOK, CHANGES_NOTHING, EVENT, EVENTS, REASON, REASONS, Rows
from .backstop import by_requirement
from .book import last_prices
from .tick_state import TickState

_ACTS = [EVENT[name] for name in EVENTS if name not in CHANGES_NOTHING]
_WAITS = [EVENT[name] for name in ("skip", "expire", "harm", "propose", "unfilled")]


def close_at_market(state: TickState, *, past_the_book: bool) -> None:
    """Send the positions of accounts that no stage took to the book, each as one order, limited by the bands alone."""
    book = state.book._replace(worst_average=last_prices(state.book))  # no slippage limit
    columns = state.accounts.columns
    for account, _ in state.to_close(past_the_book=past_the_book):
        margin = state.margin(account)
        for row in by_requirement(margin):
            if margin.status == SAFE:
                break
            market, size = int(columns.market[row]), abs(int(columns.lots[row]))
            side = 2 * market + (columns.lots[row] < 0)
            filled, value, reason = kernels.quote_book(side, size, size, kernels.FULL, book)
            if filled:
                margin = _fill(state, account, row, side, int(filled), int(value), kernels.REASONS[reason], margin)
            if filled < size:
                _leave_open(state, account, kernels.REASONS[reason], size - int(filled), margin.mmr, market=market)


def _fill(
    state: TickState, account: int, row: int, side: int, filled: int, value: int, reason: str, before: ExactMargin
) -> ExactMargin:
    """Fill lots of a position from the book, and return the margin; a fee takes no more than the equity left."""
    venue, columns, ledger = state.venue, state.accounts.columns, state.ledger
    market, lots = int(columns.market[row]), int(columns.lots[row])
    settle = int(venue.markets.settle[market])
    num, den = int(venue.markets.value_num[market]), int(venue.markets.value_den[market])
    inverse = bool(venue.markets.inverse[market])
    if inverse:
        amount = int(kernels.inverse_amount(side, filled, num, den, state.book))
    else:
        amount = round(Fraction(value * num, den))
    kernels.take_book(side, filled, state.book)
    flow = amount if (lots > 0) != inverse else -amount
    change = -filled if lots > 0 else filled
    cost, cash, entry = state.change_position(row, change, flow)
    margin, fee = state.margin(account), 0
    if before.equity > 0:
        left = floor(Fraction(margin.equity) / state.quantum_value(settle))
        fee = min(round(amount * venue.policy.liquidation_fee), max(left, 0))
    if fee:
        columns.free[columns.position_balance[row]] -= fee
        margin = state.margin(account)
    if state.fee_rates is not None:
        rate = venue.policy.liquidation_fee if before.equity > 0 else Fraction(0)
        state.fee_rates[account, market] = rate.numerator, rate.denominator
    ledger.book_lots[market] -= change
    ledger.book_quanta[settle] -= flow
    ledger.fund[settle] += fee
    price = float(state.prices_of(np.array([market]), np.array([filled]), np.array([amount]))[0])
    state.journal.add(
        "market_close", reason, account, before.mmr, margin.mmr, counterparty=BOOK, market=market,
        settle=settle, requested=abs(lots), lots=change, cost=cost, cash=cash, entry=entry, fee=fee,
        counter_cash=-flow, price=price,
    )  # fmt: skip
    return margin


def name_what_stays(state: TickState, *, past_the_book: bool) -> None:
    """Write why debts of accounts past the book stay open, and that of another account that has no row yet."""
    columns = state.accounts.columns
    liquidating = state.selected[state.statuses() != SAFE]
    liquidating = liquidating[state.accounts.in_debt(liquidating)].tolist()
    if not liquidating:
        return
    rows = state.journal.rows()
    begins = (rows["event"] == EVENT["trigger"]) & (rows["time"] == state.journal.time)
    rows = rows[int(np.argmax(begins)) :]
    stopped = _stopped_conversions(rows)
    told = set(rows["account"][np.isin(rows["event"], _ACTS + _WAITS)].tolist())
    to_close = {account for account, _ in state.to_close(past_the_book=past_the_book)}
    for account in liquidating:
        if account in told and account not in to_close:
            continue
        debts = [row for row in state.accounts.balances_of(account) if columns.free[row] < 0]
        if account not in to_close:
            value = {row: state.quantum_value(int(columns.asset[row])) * -int(columns.free[row]) for row in debts}
            debts = sorted(debts, key=lambda row: -value[row])[:1]
        for row in debts:
            asset, debt = int(columns.asset[row]), -int(columns.free[row])
            reason = stopped.get(account, "no_collateral")
            _leave_open(state, account, reason, debt, state.margin(account).mmr, asset=asset)


def _stopped_conversions(rows: Rows) -> dict[int, str]:
    """Reason of the last conversion of each account that was not made."""
    harmful = (rows["event"] == EVENT["harm"]) & np.isin(rows["reason"], [REASON["withheld"], REASON["to_backstop"]])
    stopped = rows[((rows["event"] == EVENT["expire"]) | harmful) & (rows["asset"] >= 0)]
    reasons = tuple(REASONS)
    return {account: reasons[reason] for account, reason in stopped[["account", "reason"]].tolist()}


def _leave_open(state: TickState, account: int, reason: str, requested: int, mmr: float, **item: int) -> None:
    """Write that the rest of a position or debt stays open."""
    state.journal.add("unfilled", reason, account, mmr, mmr, requested=requested, **item)
