"""Phase 6: accounts without positions and without equity are closed, and what they owe is paid by others."""

from __future__ import annotations

from fractions import Fraction

from .margins import TOLERANCE
from .watch import Watch


class CloseOut:
    """What is left of bankrupt accounts, each row computed again."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.state, self.venue = watch, watch.state, watch.venue

    def follow(self) -> None:
        """Follow the phase."""
        for account in self.watch.order:
            look = self.watch.look(account)
            if abs(look.equity) <= TOLERANCE * look.gross:
                look = self.watch.exact(account)
            if not look.positions and look.equity <= 0:
                self._close(account)

    def _close(self, account: int) -> None:
        state, settle = self.state, self.venue.settle
        balances = range(*state.balance_offset[account : account + 2])
        for b in balances:  # all at first, or each before its sale
            asset = int(state.asset[b])
            if state.lent[b] and self.watch.comes(account, "redeem", asset=asset):
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
        watch = self.watch
        row = watch.expect("stages", account, "redeem", asset=int(self.state.asset[b]))
        watch.equal("stages", "reason", row, row.reason, "close_out")
        watch.equal("stages", "quanta", row, row.quanta, self.state.lent[b])
        watch.apply(row)

    def _convert(self, account: int, b: int) -> None:
        """Follow the sale or the purchase of all of a balance, at the index and without a fee."""
        watch, asset, free = self.watch, int(self.state.asset[b]), self.state.free[b]
        row = watch.expect("stages", account, "convert", asset=asset)
        worth = round(free * Fraction(watch.tick.worth("quantum", asset)) / self.venue.quantum)
        watch.equal("stages", "reason", row, row.reason, "close_out")
        watch.equal("stages", "quanta", row, row.quanta, -free)
        watch.equal("cost", "cash and fee", row, (row.cash, row.fee), (worth, 0))
        watch.equal("rows", "price", row, row.price, float(watch.tick.asset[asset]))
        watch.apply(row)

    def _cover(self, account: int) -> None:
        """Follow what the fund pays of a debt, and what is left of it."""
        watch, settle = self.watch, self.state.settle[account]
        for event in ("fund", "shortfall"):
            owed = -self.state.free[settle]
            paid = min(owed, watch.fund) if event == "fund" else owed
            if owed > 0 and paid > 0:
                row = watch.expect("stages", account, event)
                watch.equal("stages", "cash", row, row.cash, paid)
                watch.apply(row)
