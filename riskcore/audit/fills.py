"""Fills and conversions, whatever was decided: their amounts, prices and levels, and what the run counts of them.

Of a venue that settles in several assets, or has inverse markets, the exact model judges the decisions (`exact_model`).
"""

from __future__ import annotations

from fractions import Fraction

from .backstop import Backstop
from .books import Books, Side
from .cursor import Cursor
from .folder import CLOSE_OUT, Row
from .slices import Slices


class Fills:
    """The rows of a tick after those that begin it, each applied and set against the books and the index."""

    def __init__(self, cursor: Cursor, books: Books, slices: Slices, backstop: Backstop) -> None:
        self.cursor, self.books, self.slices, self.backstop = cursor, books, slices, backstop
        self.venue, self.fee = cursor.venue, cursor.venue.policy["liquidation_fee"]
        self.together = self.venue.words["account_order"] == "pro_rata"
        self.spots = {spot.asset: row for row, spot in reversed(list(enumerate(self.venue.spots)))}

    def follow(self) -> None:
        """Follow all rows that are left."""
        checks = {"book": self._book, "harm": self._harm, "convert": self._convert}
        while (row := self.cursor.next(*range(CLOSE_OUT + 1))) is not None:
            if row.event in checks:
                checks[row.event](row)
            elif row.event in ("backstop", "adl"):
                self._handed(row)
            self.cursor.apply(row)

    def _handed(self, row: Row) -> None:
        """Check a takeover or a deal; of lots, cost and price."""
        cursor = self.cursor
        if row.market >= 0:
            cursor.trade(row)
        else:
            quantum = self.venue.assets[row.asset].quantum
            cursor.price(row, abs(row.cash), quantum * abs(row.quanta + row.lent))
        if row.event == "backstop":
            unit = ("lot", row.market) if row.market >= 0 else ("quantum", row.asset)
            self.backstop.count(row, Fraction(cursor.tick.unit_value(*unit)))

    def _levels(self, row: Row, side: Side, lots: int) -> list[tuple[int, int]]:
        """Levels of a side that lots fill, all of them inside its band."""
        levels = side.walk(lots)
        self.cursor.require("book", sum(size for _, size in levels) == lots, f"the book has not {lots} lots", row)
        self.cursor.require("bands", all(side.within(price) for price, _ in levels), "goes beyond its band", row)
        return levels

    def _harm(self, row: Row) -> None:
        """Check the price of a harmful slice that goes to the book by itself."""
        if not self.together:
            side = self.books.side(row.market, 1 if self.cursor.state.lots[row.position] > 0 else -1)
            levels = self._levels(row, side, row.requested)
            self.cursor.lots_price(row, self.venue.markets[row.market].money(levels), row.requested)

    def _book(self, row: Row) -> None:
        """Check a fill: its levels, amounts and fee; of fills that share a price, the levels alone."""
        cursor, sells, flow = self.cursor, row.lots < 0, row.cash - row.cost
        side = self.books.side(row.market, 1 if sells else -1)
        levels = self._levels(row, side, abs(row.lots))
        if not self.together:
            money = self.venue.markets[row.market].money(levels)
            cursor.equal("book", "money", row, flow, money if sells else -money)
        most = round(abs(flow) * self.fee)
        cursor.require("cost", row.fee <= most, f"fee is {row.fee}, of at most {most}", row)
        cursor.trade(row)
        side.take(levels)
        self.slices.count(row)

    def _convert(self, row: Row) -> None:
        """Check a conversion: in the spot book if a lot of it can be filled there, else at the index."""
        cursor, quanta, rate = self.cursor, abs(row.quanta), self.fee if row.reason == "debt" else Fraction(0)
        number = self.spots.get(row.asset, -1)
        spot = self.venue.spots[number] if number >= 0 and row.reason == "debt" else None
        side = self.books.side(len(self.venue.markets) + number, 1 if row.quanta < 0 else -1) if spot else None
        if spot and side and side.touch is not None and quanta >= spot.lot:
            levels = self._levels(row, side, quanta // spot.lot)
            cursor.require(
                "repay", quanta % spot.lot == 0, f"{quanta} quanta are no whole lots of the spot market", row
            )
            value = round(sum(price * lots for price, lots in levels) * spot.lot_tick_value)
            cursor.price(row, value, spot.step * (quanta // spot.lot))
            side.take(levels)
        else:
            value = round(quanta * Fraction(cursor.tick.unit_value("quantum", row.asset)) / self.venue.quantum)
            cursor.equal("rows", "price", row, row.price, float(cursor.tick.asset[row.asset]))
        recorded, expected = (row.cash, row.fee), (value if row.quanta < 0 else -value, round(value * rate))
        cursor.equal("repay" if row.reason == "debt" else "cost", "cash and fee", row, recorded, expected)
