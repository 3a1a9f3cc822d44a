"""2 Repay: debts are repaid from lends, collateral and spot books."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .account_margin import Margin
from .numbers import INFINITY, ranking_value, rhe
from .quotes import BookFill, quote_book
from .shares import largest_passing
from .tick_state import TickState
from .venue import Spot

POINTS_EDGE = Fraction(1, 10**6)  # of a basis point


@dataclass(frozen=True)
class Conversion:
    """A sale or a purchase of an asset, on the book of its spot market or at the index (2 Repay, Where)."""

    asset: str
    side: str  # of the book: a sale goes into the bids
    quanta: int  # of the asset, without sign
    value: int  # in quanta of settle
    spot: Spot | None = None  # None at the index
    fill: BookFill | None = None
    expired: tuple = ()  # the reason and the lots of a conversion of nothing

    @property
    def size(self) -> int:
        """Lots of the book, or quanta at the index."""
        return self.quanta if self.fill is None else self.fill.lots

    @property
    def change(self) -> int:
        """What the account gains of the asset."""
        return -self.quanta if self.side == "bids" else self.quanta

    @property
    def cash(self) -> int:
        """What the account gains of settle, the fee not counted."""
        return self.value if self.side == "bids" else -self.value


class Repay(TickState):
    """2 Repay: debts are repaid from lends, collateral and spot books."""

    def repay(self, round_: int) -> None:
        """2 Repay."""
        for account_id in self.selected:
            balances = self.state.accounts[account_id].balances
            for asset in self.venue.assets:
                look = self.look(account_id)
                acts = balances.get(asset, (0, 0))[0] < 0 and look.liquidating
                if acts and (look.below_auto_close or not self.throttled(account_id, round_, asset=asset)):
                    self.repay_borrow(account_id, asset)

    def repay_target(self, account_id, asset: str) -> int:
        """The quanta of a debt to repay: all of it below auto-close, else a slice (2 Repay)."""
        policy, debt = self.venue.policy, -self.state.accounts[account_id].balances[asset][0]
        if self.look(account_id).below_auto_close:
            return debt
        price, quantum = self.prices.of_asset(self.venue, asset), self.venue.assets[asset].quantum
        least = math.ceil(policy["min_slice_notional"] / price / quantum)
        return min(debt, max(math.floor(debt * policy["slice_fraction"]), least, 1))

    def repay_borrow(self, account_id, asset: str) -> None:
        """Redeem first, then sell collateral for a debt of settle, or buy another debt (2 Repay)."""
        target = self.repay_target(account_id, asset)
        redeemed = min(self.state.accounts[account_id].balances[asset][1], target, self.not_lent_out(asset))
        if redeemed > 0:
            self.redeem(account_id, asset, redeemed, "debt")
        target -= redeemed
        if target == 0 or not self.look(account_id).liquidating:
            return
        if asset == self.venue.settle:
            self.sell_collateral(account_id, asset, target)
        else:
            self.buy_debt(account_id, asset, target)

    def sell_collateral(self, account_id, debt_asset: str, need: int) -> None:
        """Sales that raise `need` quanta of settle, while the account is liquidating (2 Repay)."""
        balances = self.state.accounts[account_id].balances
        for asset in self.in_order_of_loss(account_id, debt_asset, need):
            rate = self.fee_rate(account_id)
            largest = self.sale(account_id, asset, need, rate)
            judged = largest and self.judged(account_id, largest, rate)
            if not judged:
                continue
            deal, fee = judged
            free = max(balances[asset][0], 0)
            if deal.quanta > free:
                self.redeem(account_id, asset, deal.quanta - free, "debt")
                if not self.look(account_id).liquidating:
                    return
            need -= self.make(account_id, deal, fee)
            if need <= 0 or not self.look(account_id).liquidating:
                return

    def in_order_of_loss(self, account_id, debt_asset: str, need: int) -> list:
        """The assets that can be sold, by what a quantum of settle costs at the full fee (2 Repay, Order)."""
        assets, rate = self.collateral(account_id, self.venue.settle, debt_asset), self.fee_rate(account_id)
        scores = dict.fromkeys(assets, ranking_value(INFINITY))
        for asset in assets if len(assets) > 1 else ():
            deal = self.sale(account_id, asset, need, rate)
            if deal is not None and deal.quanta > 0:
                loss, _ = self.loss_and_relief(account_id, deal, rate)
                scores[asset] = ranking_value(loss / max(deal.value - rhe(deal.value * rate), 1))
        return sorted(assets, key=scores.__getitem__)

    def buy_debt(self, account_id, asset: str, target: int) -> None:
        """Buy what restores of `target` quanta of a debt, or as much as the settle balance pays for (2 Repay)."""
        settle = self.state.accounts[account_id].balances[self.venue.settle]
        rate = self.fee_rate(account_id)
        enough = self.restoring(account_id, self.at_index(asset, "asks", target), rate)
        need = enough.value + rhe(enough.value * rate) - max(settle[0], 0)
        if need > 0:
            self.sell_collateral(account_id, asset, need)
            if not self.look(account_id).liquidating:
                return
            rate = self.fee_rate(account_id)
        unit_value = self.prices.of_quantum(self.venue, asset)
        value = rhe(target * unit_value)
        if value + rhe(value * rate) > settle[0]:
            target = min(target, math.floor(settle[0] / (unit_value * (1 + rate))))
        largest = self.purchase(asset, target, settle[0], rate) if target > 0 else None
        judged = largest and self.judged(account_id, largest, rate)
        if judged:
            self.make(account_id, *judged)

    def sale(self, account_id, asset: str, need: int, rate: Fraction) -> Conversion | None:
        """The largest sale for a need, None if there is nothing to be sold (2 Repay, Selling collateral; Where)."""
        free, lent = self.state.accounts[account_id].balances[asset]
        have = max(free, 0) + min(lent, self.not_lent_out(asset))
        sold = min(have, math.ceil(need / (self.prices.of_quantum(self.venue, asset) * (1 - rate))))
        if sold == 0:
            return None
        spot = self.spot_with_level(asset, "bids", have)
        if spot is None:
            return self.at_index_within_limit(asset, "bids", sold)
        return self.in_book(asset, "bids", spot, min(math.ceil(Fraction(sold, spot.lot)), have // spot.lot))

    def purchase(self, asset: str, quanta: int, money: int, rate: Fraction) -> Conversion | None:
        """The largest purchase for the money, None if it pays for no lot (2 Repay, Where)."""
        spot = self.spot_with_level(asset, "asks", quanta)
        if spot is None:
            return self.at_index_within_limit(asset, "asks", quanta)
        deal = self.in_book(asset, "asks", spot, quanta // spot.lot)

        def fits(lots: int) -> bool:
            value = self.in_book(asset, "asks", spot, lots).value
            return value + rhe(value * rate) <= money

        lots = largest_passing(deal.size, fits)
        if lots == deal.size:
            return deal
        return self.in_book(asset, "asks", spot, lots) if lots > 0 else None

    def at_index(self, asset: str, side: str, quanta: int) -> Conversion:
        """A conversion at the index (2 Repay, Where)."""
        return Conversion(asset, side, quanta, rhe(quanta * self.prices.of_quantum(self.venue, asset)))

    def at_index_within_limit(self, asset: str, side: str, quanta: int) -> Conversion:
        """The same, as far as the limit of the tick allows it (2 Repay, Where)."""
        quanta = self.within_conversion_limit(asset, quanta)
        if quanta > 0:
            return self.at_index(asset, side, quanta)
        return Conversion(asset, side, 0, 0, expired=("conversion_limit", 0))

    def in_book(self, asset: str, side: str, spot: Spot, lots: int) -> Conversion:
        """A conversion on the book of a spot market (2 Repay, Where)."""
        fill = self.spot_quote(spot, side, lots)
        value = rhe(fill.value * spot.lot_tick / self.venue.settle_quantum)
        return Conversion(asset, side, fill.lots * spot.lot, value, spot, fill, (fill.reason, lots))

    def of_size(self, deal: Conversion, size: int) -> Conversion:
        """The first lots or quanta of a conversion."""
        if deal.spot is None:
            return self.at_index(deal.asset, deal.side, size)
        return self.in_book(deal.asset, deal.side, deal.spot, size)

    def judged(self, account_id, largest: Conversion, rate: Fraction) -> tuple[Conversion, int] | None:
        """The conversion that is made and its fee, None if there is none (2 Repay, Do no harm; Size; Fees)."""
        if largest.quanta == 0:
            reason, lots = largest.expired
            self.record("expire", reason, account_id, asset=largest.asset, requested=lots)
            return None
        allowed = self.rate_without_harm(account_id, largest, rate)
        if allowed is None:
            return None
        deal = self.restoring(account_id, largest, allowed)
        equity = self.converted(account_id, deal, 0).net_equity
        return deal, self.payable(rhe(deal.value * allowed), equity, self.venue.settle)

    def converted(self, account_id, deal: Conversion, fee: int) -> Margin:
        """The margin after a conversion and the redemption that a sale needs (2 Repay, Loss and relief)."""
        account = self.changed(account_id, deal.change, deal.cash - fee, asset=deal.asset)
        if deal.side == "bids":
            free = max(self.state.accounts[account_id].balances[deal.asset][0], 0)
            redeemed = max(deal.quanta - free, 0)
            account.balances[deal.asset][0] += redeemed
            account.balances[deal.asset][1] -= redeemed
        return self.margin_of(account)

    def loss_and_relief(self, account_id, deal: Conversion, rate: Fraction) -> tuple[Fraction, Fraction]:
        """`loss` and `relief` of a conversion at a fee rate (2 Repay, Loss and relief)."""
        before, after = self.look(account_id), self.converted(account_id, deal, rhe(deal.value * rate))
        return before.net_equity - after.net_equity, before.maintenance_margin - after.maintenance_margin

    def rate_without_harm(self, account_id, deal: Conversion, rate: Fraction) -> Fraction | None:
        """The fee rate `c` of a conversion, None if it is not made (2 Repay, Do no harm)."""
        policy, look = self.venue.policy, self.look(account_id)
        equity, margin = look.net_equity, look.maintenance_margin
        if equity <= 0:
            return rate
        loss, relief = self.loss_and_relief(account_id, deal, rate)
        if loss * margin < relief * equity:
            return rate
        how, reason = policy["harmful_slice"], "sent"
        allowed: Fraction | None = rate
        if how == "backstop":
            self.escalated.add(account_id)
            reason, allowed = "to_backstop", None
        elif how == "waive":
            loss, relief = self.loss_and_relief(account_id, deal, Fraction(0))
            gain = relief * equity / margin - loss
            reason, allowed = "withheld", None
            if gain > 0:
                value = max(deal.value, 1) * self.venue.settle_quantum
                points = math.floor(10**4 * policy["waived_fee_share"] * gain / value + POINTS_EDGE)
                reason, allowed = "fee_waived", min(rate, Fraction(points, 10**4))
        self.record("harm", reason, account_id, self.price_of_conversion(deal), asset=deal.asset, requested=deal.quanta)
        return allowed

    def restoring(self, account_id, deal: Conversion, rate: Fraction) -> Conversion:
        """A conversion of no more than restores the target, or all of it (2 Repay, Size)."""
        policy = self.venue.policy

        def falls_short(size: int) -> bool:
            part = self.of_size(deal, size)
            look = self.converted(account_id, part, rhe(part.value * rate))
            return not look.maintenance_margin - policy["target_mmr"] * look.net_equity < 0

        least = math.ceil(policy["min_slice_notional"] / self.value_of_quantum(deal.asset))
        if deal.spot is not None:
            least = math.ceil(Fraction(least, deal.spot.lot))
        size = max(largest_passing(deal.size, falls_short) + 1, least)
        return deal if size >= deal.size else self.of_size(deal, size)

    def spot_with_level(self, asset: str, side: str, quanta: int) -> Spot | None:
        """The spot market where so many quanta of an asset are sold or bought, None at the index (2 Repay, Where)."""
        spot = self.venue.spot_of(asset)
        return spot if spot is not None and self.levels[spot.symbol, side] and quanta >= spot.lot else None

    def spot_quote(self, spot: Spot, side: str, lots: int) -> BookFill:
        """The quote of phase 3 with the band of the spot market, without room (2 Repay, Where)."""
        key = spot.symbol, side
        return quote_book(self.levels[key], lots, self.limits[key], (), self.worst_average[key])

    def within_conversion_limit(self, asset: str, quanta: int) -> int:
        """How much of a conversion at the index the limit allows (2 Repay, Where)."""
        limit = self.venue.policy["conversion_limit"]
        if limit is None:
            return quanta
        left = limit / self.venue.settle_quantum - self.converted_at_index[asset]
        return min(quanta, math.floor(left / self.prices.of_quantum(self.venue, asset)))

    def price_of_conversion(self, deal: Conversion) -> float:
        """The price of a row of a conversion (2 Repay, Where)."""
        if deal.spot is None:
            return float(self.prices.of_asset(self.venue, deal.asset))
        return float(deal.value * self.venue.settle_quantum / (deal.size * deal.spot.step_size))

    def make(self, account_id, deal: Conversion, fee: int) -> int:
        """A conversion of phase 2; gives the money less the fee (2 Repay, Where)."""
        settle = self.venue.settle
        if deal.spot is None or deal.fill is None:
            self.converted_at_index[deal.asset] += deal.value
        else:
            self.take(deal.spot.symbol, deal.side, deal.fill)
        price = self.price_of_conversion(deal)
        return self.convert_for(account_id, deal.asset, deal.change, deal.value, price, fee, "debt", settle)
