"""Phase 2: borrows are repaid, from lends and from collateral sold, on the spot books or at the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from math import floor

import numpy as np

from ..kernels import books as kernels
from ..kernels.margin import BELOW_AUTO_CLOSE, SAFE
from ..margin import exact
from .convert import Converter, Deal, half_even
from .tick_state import TickState, largest_passing

_EDGE = Fraction(1, 10**6)  # basis points: a fee of whole basis points is not cut by another one


def repay_borrows(state: TickState, round_number: int) -> None:
    """Repay each borrow by a slice, or whole when the account is below the auto-close fraction: one round."""
    accounts, columns = state.accounts, state.accounts.columns
    state.pools.refresh()  # slices of the round before have changed debts in settle
    chosen = np.flatnonzero((state.statuses() != SAFE) & accounts.in_debt(state.selected))
    rows, counts = accounts.balance_rows(state.selected[chosen])
    markets, assets = len(state.venue.markets.symbol), len(state.venue.assets.symbol)
    number = round_number * (markets + assets) + markets + columns.asset[rows].astype(np.int64)
    participates = dict(zip(rows.tolist(), state.participates(np.repeat(chosen, counts), number).tolist(), strict=True))
    for account in state.selected[chosen].tolist():
        repayment = _Repayment(state, account)
        for row in accounts.balances_of(account):
            if columns.free[row] < 0 and not repayment.repay(row, participates=participates[row]):
                break


@dataclass(frozen=True)
class _Offer:
    """Conversions that can be made: ``deal`` of 1 to ``size`` units, each of ``unit`` quanta.

    The units are lots of a spot book, or quanta at the index. Of size 0 nothing is converted for ``reason``, and
    ``requested`` are the lots that the book was asked for.
    """

    size: int
    unit: int
    deal: Callable[[int], Deal]
    requested: int = 0
    reason: str = ""


class _Repayment(Converter):
    """The repayment of one account's borrows; nothing else changes the account in the meantime."""

    def __init__(self, state: TickState, account: int) -> None:
        super().__init__(state, account, "debt")
        self.state: TickState = state
        balances = state.accounts.balances_of(account)
        self._balances = slice(balances.start, balances.stop)
        self._margins: dict[bytes, exact.ExactMargin] = {}

    def margin(self) -> exact.ExactMargin:
        """Exact margin of the account with its balances of now; those of balances that were tried before are kept."""
        columns = self.columns
        key = columns.free[self._balances].tobytes() + columns.lent[self._balances].tobytes()
        if key not in self._margins:
            self._margins[key] = self.state.margin(self.account)
        return self._margins[key]

    def mmr(self) -> float:
        return self.margin().mmr

    def enough(self) -> bool:
        return self.margin().status == SAFE

    def fee_rate(self) -> Fraction:
        return self.state.venue.policy.liquidation_fee if self.margin().equity > 0 else Fraction(0)

    def repay(self, row: int, *, participates: bool) -> bool:
        """Repay one borrow by its target, or leave it out of this round; return whether to go on with the next one."""
        margin = self.margin()
        if not participates and margin.status != BELOW_AUTO_CLOSE:
            asset = int(self.columns.asset[row])
            self.state.journal.add("skip", "throttle", self.account, margin.mmr, margin.mmr, asset=asset)
            return True
        target = self.target(row)
        redeemed = min(self.redeemable(row), target)
        if redeemed:
            self.redeem(row, redeemed)
            if self.enough():
                return False
            target -= redeemed
        if not target:
            return True
        if row == self.settle:
            self.raise_settle(target, row)
        else:
            self._buy(row, target)
        return not self.enough()

    def target(self, row: int) -> int:
        """Quanta of the debt to repay in this round."""
        debt = -int(self.columns.free[row])
        if self.margin().status == BELOW_AUTO_CLOSE:
            return debt
        fraction = self.state.venue.policy.slice_fraction
        return min(debt, max(debt * fraction.numerator // fraction.denominator, self._smallest(row), 1))

    def in_order(self, collateral: list[int], need: int) -> list[int]:
        """Return balance rows of collateral by what their sale costs for what it brings, those without a sale last."""
        if len(collateral) < 2:
            return collateral
        costs: dict[int, Fraction | None] = {}
        for row in collateral:
            sold, have = self.most_sold(row, need)
            if sold:
                offer = self._offer(row, -sold, have)
                costs[row] = self._cost(offer.deal(offer.size)) if offer.size else None
        some = [row for row in costs if costs[row] is not None]
        return sorted(some, key=lambda row: costs[row] or 0) + [row for row in costs if costs[row] is None]

    def sale(self, row: int, quanta: int, have: int) -> Deal | None:
        return self._sized(row, self._offer(row, -quanta, have))

    def exchange(self, deal: Deal) -> int:
        if deal.lots:
            kernels.take_book(deal.side, deal.lots, self.state.book)
        else:
            asset = int(self.columns.asset[deal.row])
            self.state.converted[asset] = self.state.converted.get(asset, 0) + deal.value
        return super().exchange(deal)

    def _buy(self, row: int, target: int) -> None:
        """Buy a debt in another asset than settle, by collateral sold where the settle balance does not pay for it."""
        free = self.columns.free
        at_index = _Offer(target, 1, partial(self.at_index, row))
        deal = self._with_fee(at_index.deal(self._restoring(row, at_index, self.fee_rate())), self.fee_rate())
        missing = deal.value + deal.fee - max(int(free[self.settle]), 0)
        if missing > 0:
            self.raise_settle(missing, row)
            if self.enough():
                return
        available, rate = int(free[self.settle]), self.fee_rate()
        deal = self._with_fee(self.at_index(row, target), rate)
        if deal.value + deal.fee > available:
            target = min(target, floor(available / (self.unit_value(row) * (1 + rate))))
        if target <= 0:
            return
        offer = self._offer(row, target, target)
        if offer.size and offer.requested:

            def is_paid(lots: int) -> bool:
                deal = self._with_fee(offer.deal(lots), rate)
                return deal.value + deal.fee <= available

            lots = largest_passing(offer.size, is_paid)
            if not lots:
                return
            offer = replace(offer, size=lots)
        bought = self._sized(row, offer)
        if bought is not None:
            self.exchange(bought)

    def _smallest(self, row: int) -> int:
        """Quanta of an asset that the smallest slice is worth."""
        venue, unit_value = self.state.venue, self.unit_value(row)
        smallest, quantum = venue.policy.min_slice_notional, venue.settle_quantum
        whole = smallest.numerator * quantum.denominator * unit_value.denominator
        return -(-whole // (smallest.denominator * quantum.numerator * unit_value.numerator))

    def _sized(self, row: int, offer: _Offer) -> Deal | None:
        """Deal of an offer that does no harm and restores the target; None, on record, if nothing is converted."""
        if not offer.size:
            self._expire(row, offer.requested, offer.reason)
            return None
        rate: Fraction | None = self.fee_rate()
        if self.margin().equity > 0:
            rate = self._harmless_rate(offer.deal(offer.size))
        if rate is None:
            return None
        deal = self._with_fee(offer.deal(self._restoring(row, offer, rate)), rate)
        if self._equity(deal) < deal.fee:  # else there is as much without the fee, too
            deal = deal._replace(fee=min(deal.fee, max(self._equity(deal._replace(fee=0)), 0)))
        return deal

    def _equity(self, deal: Deal) -> int:
        """Whole settle quanta of net equity after a deal."""
        return floor(Fraction(self._after(deal).equity) / self.state.venue.settle_quantum)

    def _harmless_rate(self, deal: Deal) -> Fraction | None:
        """Fee rate of a deal: less than the full one if that would not lower the MMR; None if it is not made."""
        policy, before = self.state.venue.policy, self.margin()
        full = policy.liquidation_fee
        if not before.worsened_by(*self._effect(self._with_fee(deal, full))):
            return full
        rate: Fraction | None = full
        match policy.harmful_slice:
            case "send":
                reason = "sent"
            case "backstop":
                reason, rate = "to_backstop", None
                self.state.escalated.add(self.account)
            case "waive":
                loss, relief = map(Fraction, self._effect(deal))
                gain = relief * Fraction(before.equity) / Fraction(before.maintenance) - loss
                reason, rate = "withheld", None
                if gain > 0:
                    part = policy.waived_fee_share * gain / self.state.venue.settle_quantum / max(deal.value, 1)
                    reason, rate = "fee_waived", min(full, Fraction(floor(10_000 * part + _EDGE), 10_000))
        asset = int(self.columns.asset[deal.row])
        self.state.journal.add(
            "harm", reason, self.account, before.mmr, before.mmr, asset=asset, requested=abs(deal.quanta),
            price=deal.price,
        )  # fmt: skip
        return rate

    def _restoring(self, row: int, offer: _Offer, rate: Fraction) -> int:
        """Fewest units of an offer that restore the target at a fee rate, at least the smallest slice; else all."""
        target = self.state.venue.policy.target_mmr

        def falls_short(units: int) -> bool:
            return not self._after(self._with_fee(offer.deal(units), rate)).restores(target)

        restoring = largest_passing(offer.size, falls_short) + 1
        return min(offer.size, max(restoring, -(-self._smallest(row) // offer.unit)))

    def _with_fee(self, deal: Deal, rate: Fraction) -> Deal:
        return deal._replace(fee=half_even(deal.value * rate.numerator, rate.denominator))

    def _cost(self, deal: Deal) -> Fraction:
        """Net equity that a sale at the full fee costs for a quantum of money received."""
        deal = self._with_fee(deal, self.fee_rate())
        return Fraction(self._effect(deal)[0]) / max(deal.value - deal.fee, 1)

    def _effect(self, deal: Deal) -> tuple[Decimal, Decimal]:
        """Net equity that a deal costs, and maintenance margin that it releases, settle units."""
        before, after = self.margin(), self._after(deal)
        return exact.difference(before.equity, after.equity), exact.difference(before.maintenance, after.maintenance)

    def _after(self, deal: Deal) -> exact.ExactMargin:
        """Margin of the account after a deal, and what is redeemed for it; they are not made."""
        free, lent, redeemed = self.columns.free, self.columns.lent, self.redeemed_for(deal)
        before = int(free[deal.row]), int(lent[deal.row]), int(free[self.settle])
        free[deal.row] += deal.quanta + redeemed
        lent[deal.row] -= redeemed
        free[self.settle] += deal.cash - deal.fee
        margin = self.margin()
        free[deal.row], lent[deal.row], free[self.settle] = before
        return margin

    def _offer(self, row: int, quanta: int, most: int) -> _Offer:
        """Offer of a sale (quanta < 0) or a purchase; ``most`` are the quanta that whole lots of a book may come to."""
        side, lot = self._side(row, buying=quanta > 0)
        if side < 0 or most < lot:
            return self._within_limit(row, quanta)
        lots = min(-(-abs(quanta) // lot), most // lot)
        filled, _, reason = self._quote(side, lots)
        return _Offer(filled, lot, partial(self._on_book, row, side, lot), lots, kernels.REASONS[reason])

    def _side(self, row: int, *, buying: bool) -> tuple[int, int]:
        """Side of the asset's spot book, -1 if it has no level, and the quanta of a lot there."""
        spots = self.state.venue.spots
        for spot in np.flatnonzero(spots.asset == self.columns.asset[row]).tolist():
            side = 2 * (len(self.state.venue.markets.symbol) + spot) + buying
            if self.state.book.offset[side] < self.state.book.offset[side + 1]:
                return side, int(spots.lot_quanta[spot])
        return -1, 0

    def _on_book(self, row: int, side: int, lot: int, lots: int) -> Deal:
        """Deal of lots that a side fills."""
        _, value, _ = self._quote(side, lots)
        venue, spot = self.state.venue, side // 2 - len(self.state.venue.markets.symbol)
        price = value * float(venue.settle_quantum) / (lots * float(venue.spots.step[spot]))
        return Deal(row, lots * lot if side % 2 else -lots * lot, value, price, side=side, lots=lots)

    def _quote(self, side: int, lots: int) -> tuple[int, int, int]:
        """Lots that a side fills, their value in settle quanta, and the kernel's reason."""
        spots, spot = self.state.venue.spots, side // 2 - len(self.state.venue.markets.symbol)
        filled, value, reason = kernels.quote_book(side, lots, lots, kernels.FULL, self.state.book)
        settle_quanta = Fraction(int(value) * int(spots.value_num[spot]), int(spots.value_den[spot]))
        return int(filled), round(settle_quanta), int(reason)

    def _within_limit(self, row: int, quanta: int) -> _Offer:
        """Offer at the index, cut to the rest of the tick's conversion limit."""
        venue, asset, size = self.state.venue, int(self.columns.asset[row]), abs(quanta)
        limit = venue.policy.conversion_limit
        if limit is not None:
            remaining = limit / venue.settle_quantum - self.state.converted.get(asset, 0)
            size = max(min(size, floor(remaining / self.unit_value(row))), 0)
        sign = 1 if quanta > 0 else -1
        return _Offer(size, 1, lambda units: self.at_index(row, sign * units), reason="conversion_limit")

    def _expire(self, row: int, lots: int, reason: str) -> None:
        """Write a row that nothing was filled."""
        mmr, asset = self.mmr(), int(self.columns.asset[row])
        self.state.journal.add("expire", reason, self.account, mmr, mmr, asset=asset, requested=lots)
