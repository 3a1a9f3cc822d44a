"""Activity between ticks: accounts that are opened, money that moves, and trades with the market."""

from __future__ import annotations

from .cursor import Cursor, cost_change
from .folder import Row
from .margins import Tick
from .venue import exact


class Activity:
    """Rows of activity after a tick, or before the first, each computed again."""

    def __init__(self, cursor: Cursor, there: list[bool]) -> None:
        self.cursor, self.state, self.venue = cursor, cursor.state, cursor.venue
        self.opened = there
        """Whether an account is there, by its row."""

    def follow(self, rows: list[Row], tick: Tick | None) -> None:
        """Follow rows; ``tick`` is the one before them."""
        for row in rows:
            there = self.opened[row.account] != (row.event == "open")
            self.cursor.require("stages", there, "the account is opened once, before anything else of it", row)
            match row.event:
                case "open":
                    self.opened[row.account] = True
                case "fill":
                    self._fill(row)
                case _:
                    self._move(row, tick)
            self.state.apply(row)

    def _fill(self, row: Row) -> None:
        """Check cost, entry and money of a trade by its price."""
        cursor, p, market = self.cursor, row.position, self.venue.markets[row.market]
        price = exact(row.price)
        value = row.lots * market.lot_value(price) / self.venue.assets[market.settle].quantum if price > 0 else 0
        flow = -round(value)
        lots = self.state.lots[p]
        cursor.equal("cost", "cost", row, row.cost, cost_change(lots, self.state.cost[p], row.lots, flow))
        cursor.equal("cost", "entry", row, row.entry, cost_change(lots, self.state.entry[p], row.lots, flow))
        cursor.equal("cost", "cash", row, row.cash, flow + row.cost)
        cursor.equal("cost", "fund and counter_cash", row, (row.fund, row.counter_cash), (-row.fee, row.fee - flow))

    def _move(self, row: Row, tick: Tick | None) -> None:
        """Check that who gives has it, keeps its initial margin, and gives to accounts of its owner."""
        cursor, state, account = self.cursor, self.state, row.account
        cursor.require("stages", (row.quanta > 0) == (row.event == "deposit"), "moves the other way", row)
        if row.event == "deposit":
            return
        if row.event == "transfer":
            cursor.require("touched", not state.is_other(account, row.counterparty), "is of another owner", row)
            cursor.require("stages", self.opened[row.counterparty], "the other account is not opened yet", row)
        cursor.require("stages", state.free[row.balance] + row.quanta >= 0, "gives more than it has", row)
        positions = range(*state.position_offset[account : account + 2])
        balances = range(*state.balance_offset[account : account + 2])
        exposed = any(state.lots[p] or state.bid[p] or state.ask[p] for p in positions)
        if exposed or any(state.free[b] < 0 for b in balances):
            covered = tick is not None and cursor.can_absorb(
                account, balance=row.balance, quanta=row.quanta, initial=True
            )
            cursor.require("stages", covered, "raises the initial margin ratio to 100 %", row)
