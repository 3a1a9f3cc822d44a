"""Conversions of collateral to a money asset and of a money asset to debts."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from ..context import TickContext
from ..record import BOOK
from ..state import limited


class Deal(NamedTuple):
    """A sale (quanta < 0) or purchase of an asset for quanta of money; at the index, or as lots of a book's side."""

    row: int
    quanta: int
    value: int
    price: float
    fee: int = 0
    side: int = -1
    lots: int = 0

    @property
    def cash(self) -> int:
        """Change of the balance of the money, the fee not counted."""
        return -self.value if self.quanta > 0 else self.value


def half_even(numerator: int, denominator: int) -> int:
    """Round a quotient to the nearest whole number, halves to the even one; sooner than `round` of a Fraction."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def settle_per_quantum(state: TickContext, row: int) -> Fraction:
    """Quanta of the venue's settle asset per quantum of a balance row's asset at the tick's price, exactly."""
    return state.quantum_value(int(state.accounts.columns.asset[row])) / state.venue.settle_quantum


class Converter:
    """Conversions of one account for one reason, without a fee.

    ``settle`` is the balance row of the asset ``money`` that is received and paid: the venue's settle asset unless a
    row is given. ``short`` is the part of a debt in that asset that no pool has granted; 0 but in settlement.
    """

    def __init__(self, state: TickContext, account: int, reason: str, settle: int | None = None) -> None:
        self.state, self.account, self.reason = state, account, reason
        self.columns = state.accounts.columns
        self.settle = int(self.columns.settle_row[account]) if settle is None else settle
        self.money = int(self.columns.asset[self.settle])
        self.short = 0

    def mmr(self) -> float:
        """Maintenance margin ratio of the account now."""
        return self.state.margin(self.account).mmr

    def fee_rate(self) -> Fraction:
        """Return the part of the value of a conversion that is its fee."""
        return Fraction(0)

    def enough(self) -> bool:
        """Return whether nothing more needs to be sold."""
        return False

    def unit_value(self, row: int) -> Fraction:
        """Quanta of the money per quantum of a balance row's asset, exactly."""
        return self.state.conversion(int(self.columns.asset[row]), self.money)[0]

    def redeemable(self, row: int) -> int:
        """Quanta of a row's lends that can be redeemed now."""
        lent = int(self.columns.lent[row])
        return limited(lent, self.state.pools.redeemable(int(self.columns.asset[row]))) if lent else 0

    def redeem(self, row: int, quanta: int) -> None:
        """Turn lent into free."""
        mmr, granted = self.mmr(), self._granted(row)
        self.columns.lent[row] -= quanta
        self.columns.free[row] += quanta
        if row == self.settle:
            self.short = max(0, self.short - quanta)
        asset = int(self.columns.asset[row])
        self.state.pools.changed(asset, granted, self._granted(row), -quanta)
        self.state.journal.add(
            "redeem", self.reason, self.account, mmr, self.mmr(), asset=asset, quanta=quanta, lent=-quanta
        )

    def sale(self, row: int, quanta: int, have: int) -> Deal | None:
        """Deal of a sale at the index; ``have`` is the most that could be sold. None if there is no deal."""
        return self.at_index(row, -quanta)

    def at_index(self, row: int, quanta: int) -> Deal:
        """Return the deal of a sale (quanta < 0) or a purchase at the index."""
        unit_value, price = self.state.conversion(int(self.columns.asset[row]), self.money)
        return Deal(row, quanta, half_even(unit_value.numerator * abs(quanta), unit_value.denominator), price)

    def exchange(self, deal: Deal) -> int:
        """Change a balance and that of the money by a deal; return the money received less the fee."""
        state, rows = self.state, (deal.row, self.settle)
        mmr, granted = self.mmr(), [self._granted(r) for r in rows]
        quanta, cash, fee = deal.quanta, deal.cash, deal.fee
        asset = int(self.columns.asset[deal.row])
        self.columns.free[deal.row] += quanta
        self.columns.free[self.settle] += cash - fee
        if self.short:
            self.short = max(0, self.short - cash + fee)
        for r, before in zip(rows, granted, strict=True):
            state.pools.changed(int(self.columns.asset[r]), before, self._granted(r), 0)
        state.ledger.book_quanta[asset] -= quanta
        state.ledger.book_quanta[self.money] -= cash
        state.ledger.fund[self.money] += fee
        state.journal.add(
            "convert", self.reason, self.account, mmr, self.mmr(), counterparty=BOOK, asset=asset, settle=self.money,
            quanta=quanta, cash=cash, fee=fee, counter_cash=-cash, price=deal.price,
        )  # fmt: skip
        return cash - fee

    def raise_settle(self, need: int, debt: int) -> None:
        """Sell collateral in its order until ``need`` quanta are raised or it is enough.

        ``debt`` is the balance row that they are raised for; it and the balance of the money are not sold.
        """
        for row in self.in_order(self._collateral(debt), need):
            sold, available = self.most_sold(row, need)
            deal = self.sale(row, sold, available) if sold else None
            if deal is None:
                continue
            redeemed = self.redeemed_for(deal)
            if redeemed:
                self.redeem(row, redeemed)
                if self.enough():
                    return
            need -= self.exchange(deal)
            if need <= 0 or self.enough():
                return

    def in_order(self, collateral: list[int], need: int) -> list[int]:
        """Return balance rows of collateral, the most valuable first, in the order in which they are sold."""
        return collateral

    def most_sold(self, row: int, need: int) -> tuple[int, int]:
        """Most quanta of a balance row that are sold for a need, and the quanta that could be sold."""
        available = max(int(self.columns.free[row]), 0) + self.redeemable(row)
        unit_value, rate = self.unit_value(row), self.fee_rate()
        whole = need * unit_value.denominator * rate.denominator
        return min(available, -(-whole // (unit_value.numerator * (rate.denominator - rate.numerator)))), available

    def redeemed_for(self, deal: Deal) -> int:
        """Quanta of lends that a sale needs besides the free balance; 0 of a purchase."""
        return max(-deal.quanta - max(int(self.columns.free[deal.row]), 0), 0)

    def _collateral(self, debt: int) -> list[int]:
        """Balance rows that can be sold, the most valuable first."""
        columns = self.columns
        collateral: list[tuple[Fraction, int]] = []
        for row in self.state.accounts.balances_of(self.account):
            available = max(int(columns.free[row]), 0) + int(columns.lent[row])
            if available and row not in (self.settle, debt):
                collateral.append((-available * self.unit_value(row), row))
        return [row for _, row in sorted(collateral)]

    def _granted(self, row: int) -> int:
        """Free balance of a row, what no pool has granted left out."""
        return int(self.columns.free[row]) + (self.short if row == self.settle else 0)
