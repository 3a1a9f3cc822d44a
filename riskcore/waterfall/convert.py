"""Collateral into settle and settle into debt, at the tick's prices: what repaying and closing out share."""

from __future__ import annotations

from fractions import Fraction

from ..journal import BOOK
from ..tables import exact
from .tick_state import TickState


class Converter:
    """Conversions of one account for one reason; ``fee`` is a part of the value converted."""

    def __init__(self, state: TickState, account: int, reason: str, fee: Fraction) -> None:
        self.state, self.account, self.reason, self.fee = state, account, reason, fee
        self.columns = state.accounts.columns
        self.settle = int(self.columns.settle_row[account])

    def worth(self, row: int) -> Fraction:
        """Settle quanta per quantum of a balance row's asset, exactly."""
        venue = self.state.venue
        asset = int(self.columns.asset[row])
        return exact(self.state.prices.asset[asset]) * venue.assets.quantum[asset] / venue.settle_quantum

    def redeem(self, row: int, quanta: int) -> None:
        """Turn lent into free."""
        before = self.state.margin(self.account).mmr
        self.columns.lent[row] -= quanta
        self.columns.free[row] += quanta
        self.state.journal.add(
            "redeem", self.reason, self.account, before, self.state.margin(self.account).mmr,
            asset=int(self.columns.asset[row]), quanta=quanta,
        )  # fmt: skip

    def exchange(self, row: int, quanta: int) -> int:
        """Change a balance by ``quanta`` against settle; return the settle received less the fee."""
        state = self.state
        before = state.margin(self.account).mmr
        value = round(self.worth(row) * abs(quanta))
        fee = round(value * self.fee)
        cash = -value if quanta > 0 else value
        asset = int(self.columns.asset[row])
        self.columns.free[row] += quanta
        self.columns.free[self.settle] += cash - fee
        state.ledger.book_quanta[asset] -= quanta
        state.ledger.book_quanta[state.venue.settle] -= cash
        state.ledger.fund += fee
        state.journal.add(
            "convert", self.reason, self.account, before, state.margin(self.account).mmr, counterparty=BOOK,
            asset=asset, quanta=quanta, cash=cash, fee=fee, counter_cash=-cash, price=float(state.prices.asset[asset]),
        )  # fmt: skip
        return cash - fee
