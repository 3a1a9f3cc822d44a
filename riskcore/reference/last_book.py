"""The last book: what no stage took goes back to the book, and what then remains has a row that names the reason."""

from __future__ import annotations

from .journal import BOOK
from .numbers import rhe
from .quotes import quote_book
from .tick_state import TickState

NOTHING = "no_collateral"
STAYED = ("withheld", "to_backstop")  # reasons of a `harm` row of a conversion that was not made


class LastBook(TickState):
    """The last book, and the rows of what remains."""

    def last_book(self) -> None:
        """Last book: positions, with the margin at the beginning of an account's turn."""
        for account_id in self.selected:
            look = self.look(account_id)
            if self.takes(account_id, look):
                for market in self.positions_by_margin(look):
                    if self.look(account_id).liquidating:
                        self.close_in_book(account_id, market)

    def close_in_book(self, account_id, symbol: str) -> None:
        """A whole position as one order, within levels and bands alone (Last book)."""
        market, lots, rate = self.venue.markets[symbol], self.lots(account_id, symbol), self.fee_rate(account_id)
        key, size = (symbol, "bids" if lots > 0 else "asks"), abs(lots)
        quote = quote_book(self.levels[key], size, self.limits[key], worth=market.worth(self.quantum(symbol)))
        if quote.lots > 0:
            self.take(*key, quote)
            value = rhe(quote.value * market.worth_unit(self.quantum(symbol)))
            change, flow = (-quote.lots, value) if lots > 0 else (quote.lots, -value)
            equity = self.after(account_id, change, flow, symbol).net_equity
            fee = self.payable(rhe(abs(value) * rate), equity, market.settle)
            self.fill("market_close", quote.reason, account_id, BOOK, symbol, size, change, flow, fee)
            self.fill_rates[account_id, symbol] = rate
        if quote.lots < size:
            self.record("unfilled", quote.reason, account_id, market=symbol, requested=size - quote.lots)

    def name_what_remains(self) -> None:
        """Every account that is still liquidating has a row that names a reason (What remains)."""
        for account_id in self.selected:
            look = self.look(account_id)
            if not look.liquidating:
                continue
            debts = [asset for asset in self.venue.assets if self.debt(account_id, asset) > 0]
            mine = [row for row in self.rows[self.first_row :] if row["account"] == account_id]
            if self.takes(account_id, look):
                reason = self.why_debts_remain(mine)
            elif all(row["event"] == "trigger" for row in mine):
                debts, reason = [self.largest_debt(account_id, debts)], NOTHING
            else:
                continue
            for asset in debts:
                self.record("unfilled", reason, account_id, asset=asset, requested=self.debt(account_id, asset))

    def largest_debt(self, account_id, debts: list) -> str:
        """The debt of the highest value, ties by asset (What remains)."""
        return max(debts, key=lambda asset: self.debt(account_id, asset) * self.value_of_quantum(asset))

    def why_debts_remain(self, rows: list) -> str:
        """The reason of the last conversion that was not made, of an account's rows (What remains)."""
        for row in reversed(rows):
            if row["asset"] is not None and (row["event"] == "expire" or row["reason"] in STAYED):
                return row["reason"]
        return NOTHING
