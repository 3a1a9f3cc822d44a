"""Phase 6: accounts without positions and without equity are closed, and others pay their debts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .cursor import Cursor
from .margins import TOLERANCE
from .shares import largest_passing, water_fill
from .winners import Swept


class CloseOut:
    """The close-out of bankrupt accounts, each row computed again."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor, self.state, self.venue = cursor, cursor.state, cursor.venue
        self.policy = self.venue.words["shortfall"]

    def follow(self, swept: Swept | None) -> None:
        """Follow the phase; `swept` are the accounts at the tick's sweep, None if no row is of this phase."""
        self.swept = swept
        for account in self.cursor.order:
            margin = self.cursor.margin(account)
            if abs(margin.equity) <= TOLERANCE * margin.gross:
                margin = self.cursor.exact_margin(account)
            if not margin.positions and margin.equity <= 0:
                self._close(account)

    def _close(self, account: int) -> None:
        state, settle = self.state, self.venue.settle
        balances = range(*state.balance_offset[account : account + 2])
        for b in balances:  # all at first, or each before its sale
            asset = int(state.asset[b])
            if state.lent[b] and self.cursor.is_next(account, "redeem", asset=asset):
                self._redeem(account, b)
        for b in balances:
            if state.lent[b]:
                self._redeem(account, b)
            if state.asset[b] != settle and state.free[b] > 0:
                self._convert(account, b)
        for b in balances:
            if state.asset[b] != settle and state.free[b] < 0:
                self._convert(account, b)
        self._cover(account)

    def _redeem(self, account: int, b: int) -> None:
        cursor = self.cursor
        row = cursor.expect("stages", account, "redeem", asset=int(self.state.asset[b]))
        cursor.equal("stages", "reason", row, row.reason, "close_out")
        cursor.equal("stages", "quanta", row, row.quanta, self.state.lent[b])
        cursor.apply(row)

    def _convert(self, account: int, b: int) -> None:
        """Follow the sale or the purchase of all of a balance, at the index and without a fee."""
        cursor, asset, free = self.cursor, int(self.state.asset[b]), self.state.free[b]
        row = cursor.expect("stages", account, "convert", asset=asset)
        value = round(free * Fraction(cursor.tick.unit_value("quantum", asset)) / self.venue.quantum)
        cursor.equal("stages", "reason", row, row.reason, "close_out")
        cursor.equal("stages", "quanta", row, row.quanta, -free)
        cursor.equal("cost", "cash and fee", row, (row.cash, row.fee), (value, 0))
        cursor.equal("rows", "price", row, row.price, float(cursor.tick.asset[asset]))
        cursor.apply(row)

    def _cover(self, account: int) -> None:
        """Follow the unsettled balance, the fund's payment of a debt, and the payers of the rest."""
        cursor = self.cursor
        unsettled = self.state.unsettled[self.state.settle[account]]
        if unsettled > 0 or (unsettled and self.policy != "unsettled"):
            row = cursor.expect("stages", account, "unsettle")
            cursor.equal("stages", "reason and cash", row, (row.reason, row.cash), ("close_out", unsettled))
            cursor.apply(row)
        owed = -self.state.free[self.state.settle[account]]
        if owed <= 0:
            return
        paid = max(min(owed, cursor.fund[self.venue.settle]), 0)
        if paid:
            self._pay(account, "fund", "bankrupt", paid)
        rest = owed - paid
        if rest and self.policy in ("equity", "open_interest"):
            rest -= self._socialize(account, rest)
        if rest:
            self._pay(account, "shortfall", "unsettled" if self.policy == "unsettled" else "bankrupt", rest)

    def _pay(self, account: int, event: str, reason: str, cash: int) -> None:
        row = self.cursor.expect("stages", account, event)
        self.cursor.equal("stages", "reason and cash", row, (row.reason, row.cash), (reason, cash))
        self.cursor.apply(row)

    def _socialize(self, account: int, rest: int) -> int:
        """Follow the payments of others for a shortfall; return their sum."""
        cursor, paid = self.cursor, 0
        if self.swept is None:
            return 0
        positions = [p for p in range(*self.state.position_offset[account : account + 2]) if self.swept.lots[p]]
        weigh = self.swept.by_equity if self.policy == "equity" else self.swept.by_interest
        choices = weigh(positions, self.state.is_other(account, np.arange(len(self.state.owners))))
        recorded = cursor.recorded_fills(account, "socialize", lambda row: (row.counterparty, row.cash))
        for payer, cash in water_fill(rest, choices, lambda _, count: 2**61 // count, self._cut, recorded):
            row = cursor.expect("stages", account, "socialize")
            cursor.equal("stages", "reason", row, row.reason, self.policy)
            cursor.equal("touched", "payer and cash", row, (row.counterparty, row.cash), (payer, cash))
            cursor.require("touched", row.counterparty not in cursor.order, "the payer is selected", row)
            cursor.apply(row)
            paid += cash
        return paid

    def _cut(self, account: int, offer: int, _: int) -> int:
        """Quanta that an account can pay and stay healthy."""
        return largest_passing(offer, lambda x: self.cursor.can_absorb(account, flow=-x))
