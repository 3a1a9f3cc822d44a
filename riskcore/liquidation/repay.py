"""Phase 2: borrows are repaid, from lends and from collateral sold, on the spot books or at the index."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np

from ..kernels import books as kernels
from ..kernels.margin import BELOW_AUTO_CLOSE, SAFE
from .convert import Converter, Deal
from .tick_state import TickState


def repay_borrows(state: TickState, round_number: int) -> None:
    """Repay each borrow by a slice, or whole when the account is below the auto-close fraction: one round."""
    columns = state.accounts.columns
    state.pools.refresh()  # slices of the round before have changed debts in settle
    for n in np.flatnonzero((state.statuses() != SAFE) & state.accounts.in_debt(state.selected)).tolist():
        repayment = _Repayment(state, int(state.selected[n]))
        for row in state.accounts.balances_of(repayment.account):
            if columns.free[row] < 0 and not (repayment.is_throttled(n, row, round_number) or repayment.repay(row)):
                break


class _Repayment(Converter):
    """The repayment of one account's borrows."""

    def __init__(self, state: TickState, account: int) -> None:
        super().__init__(state, account, "debt", state.venue.policy.liquidation_fee)
        self.state: TickState = state

    def enough(self) -> bool:
        return self.state.margin(self.account).status == SAFE

    def is_throttled(self, n: int, row: int, round_number: int) -> bool:
        """Whether the throttle leaves a borrow out of this round."""
        venue, asset = self.state.venue, int(self.columns.asset[row])
        markets = len(venue.markets.symbol)
        number = round_number * (markets + len(venue.assets.symbol)) + markets + asset
        if self.state.participates(np.array([n]), np.array([number]))[0]:
            return False
        margin = self.state.margin(self.account)
        if margin.status == BELOW_AUTO_CLOSE:
            return False
        self.state.journal.add("skip", "throttle", self.account, margin.mmr, margin.mmr, asset=asset)
        return True

    def repay(self, row: int) -> bool:
        """Repay one borrow by its target; return whether the account is still liquidating."""
        columns = self.columns
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
            return not self.enough()
        unit_value = self.unit_value(row)
        value = round(unit_value * target)
        due = value + round(value * self.fee)
        missing = due - max(int(columns.free[self.settle]), 0)
        if missing > 0:
            self.raise_settle(missing, row)
        available = int(columns.free[self.settle])
        if due > available:
            target = min(target, floor(available / (unit_value * (1 + self.fee))))
        deal = self.purchase(row, target, available) if target > 0 else None
        if deal is not None:
            self.exchange(deal)
        return not self.enough()

    def target(self, row: int) -> int:
        """Quanta of the debt to repay in this round."""
        debt = -int(self.columns.free[row])
        if self.state.margin(self.account).status == BELOW_AUTO_CLOSE:
            return debt
        policy, venue = self.state.venue.policy, self.state.venue
        smallest = ceil(policy.min_slice_notional / venue.settle_quantum / self.unit_value(row))
        return min(debt, max(floor(debt * policy.slice_fraction), smallest, 1))

    def sale(self, row: int, quanta: int, have: int) -> Deal | None:
        side, lot = self._side(row, buying=False)
        if side < 0 or have < lot:
            return self._within_limit(row, -quanta)
        return self._on_book(row, side, lot, min(-(-quanta // lot), have // lot))

    def purchase(self, row: int, quanta: int, cash: int) -> Deal | None:
        """Deal of buying at most ``quanta`` for at most ``cash``, the fee included."""
        side, lot = self._side(row, buying=True)
        if side < 0 or quanta < lot:
            return self._within_limit(row, quanta)
        return self._on_book(row, side, lot, quanta // lot, cash)

    def exchange(self, deal: Deal) -> int:
        if deal.lots:
            kernels.take_book(deal.side, deal.lots, self.state.book)
        else:
            asset = int(self.columns.asset[deal.row])
            self.state.converted[asset] = self.state.converted.get(asset, 0) + deal.value
        return super().exchange(deal)

    def _side(self, row: int, *, buying: bool) -> tuple[int, int]:
        """Side of the asset's spot book, -1 if it has no level, and the quanta of a lot there."""
        spots = self.state.venue.spots
        for spot in np.flatnonzero(spots.asset == self.columns.asset[row]).tolist():
            side = 2 * (len(self.state.venue.markets.symbol) + spot) + buying
            if self.state.book.offset[side] < self.state.book.offset[side + 1]:
                return side, int(spots.lot_quanta[spot])
        return -1, 0

    def _on_book(self, row: int, side: int, lot: int, lots: int, cash: int | None = None) -> Deal | None:
        """Deal of at most ``lots`` on a side, as many as ``cash`` pays for; None, on record, if nothing is filled."""
        filled, value, reason = self._quote(side, lots)
        if not filled:
            self._expire(row, lots, kernels.REASONS[reason])
            return None
        if cash is not None and value + round(value * self.fee) > cash:
            low, high = 0, filled
            while high - low > 1:
                middle = (low + high) // 2
                _, value, _ = self._quote(side, middle)
                low, high = (middle, high) if value + round(value * self.fee) <= cash else (low, middle)
            if not low:
                return None
            filled, value, _ = self._quote(side, low)
        venue, spot = self.state.venue, side // 2 - len(self.state.venue.markets.symbol)
        price = value * float(venue.settle_quantum) / (filled * float(venue.spots.step[spot]))
        return Deal(row, filled * lot if side % 2 else -filled * lot, value, price, side, filled)

    def _quote(self, side: int, lots: int) -> tuple[int, int, int]:
        """Lots that a side fills, their value in settle quanta, and the kernel's reason."""
        spots, spot = self.state.venue.spots, side // 2 - len(self.state.venue.markets.symbol)
        filled, value, reason = kernels.quote_book(side, lots, lots, kernels.FULL, self.state.book)
        settle_quanta = Fraction(int(value) * int(spots.value_num[spot]), int(spots.value_den[spot]))
        return int(filled), round(settle_quanta), int(reason)

    def _within_limit(self, row: int, quanta: int) -> Deal | None:
        """Deal at the index, cut to the rest of the tick's conversion limit."""
        venue, asset = self.state.venue, int(self.columns.asset[row])
        limit = venue.policy.conversion_limit
        if limit is not None:
            remaining = limit / venue.settle_quantum - self.state.converted.get(asset, 0)
            most = floor(remaining / self.unit_value(row))
            if most <= 0:
                self._expire(row, 0, "conversion_limit")
                return None
            quanta = min(quanta, most) if quanta > 0 else max(quanta, -most)
        return self.at_index(row, quanta)

    def _expire(self, row: int, lots: int, reason: str) -> None:
        """Write a row that nothing was filled."""
        mmr, asset = self.mmr(), int(self.columns.asset[row])
        self.state.journal.add("expire", reason, self.account, mmr, mmr, asset=asset, requested=lots)
