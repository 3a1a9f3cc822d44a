"""2 Repay: debts are repaid from lends, collateral and spot books."""

from __future__ import annotations

import math
from fractions import Fraction

from .numbers import rhe
from .quotes import BookFill, quote_book
from .tick_state import TickState
from .venue import Spot


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
        balances, fee_rate = self.state.accounts[account_id].balances, self.venue.policy["liquidation_fee"]
        for asset in self.collateral(account_id, self.venue.settle, debt_asset):
            free, lent = max(balances[asset][0], 0), balances[asset][1]
            have = free + min(lent, self.not_lent_out(asset))
            unit_value = self.prices.of_quantum(self.venue, asset)
            sold, quote = min(have, math.ceil(need / (unit_value * (1 - fee_rate)))), None
            if sold == 0:
                continue
            spot = self.spot_with_level(asset, "bids", have)
            if spot is not None:
                lots = min(math.ceil(Fraction(sold, spot.lot)), have // spot.lot)
                quote = self.spot_quote(spot, "bids", lots)
                sold, reason = quote.lots * spot.lot, quote.reason
            else:
                sold, lots, reason = self.within_conversion_limit(asset, sold), 0, "conversion_limit"
            if sold <= 0:
                self.record("expire", reason, account_id, asset=asset, requested=lots)
                continue
            if sold > free:
                self.redeem(account_id, asset, sold - free, "debt")
                if not self.look(account_id).liquidating:
                    return
            need -= self.convert_somewhere(account_id, asset, -sold, spot, quote)
            if need <= 0 or not self.look(account_id).liquidating:
                return

    def buy_debt(self, account_id, asset: str, target: int) -> None:
        """Buy `target` quanta of a debt, or as many as the settle balance pays for (2 Repay)."""
        settle = self.state.accounts[account_id].balances[self.venue.settle]
        unit_value, rate = self.prices.of_quantum(self.venue, asset), self.venue.policy["liquidation_fee"]
        value = rhe(target * unit_value)
        cost = value + rhe(value * rate)
        need = cost - max(settle[0], 0)
        if need > 0:
            self.sell_collateral(account_id, asset, need)
        if cost > settle[0]:
            target = min(target, math.floor(settle[0] / (unit_value * (1 + rate))))
        if target <= 0:
            return
        spot, quote = self.spot_with_level(asset, "asks", target), None
        if spot is not None:
            lots = target // spot.lot
            quote = self.spot_quote(spot, "asks", lots)
            if quote.lots > 0:
                quote = self.affordable(spot, quote, settle[0])
                if quote is None:
                    return
            target, reason = quote.lots * spot.lot, quote.reason
        else:
            target, lots, reason = self.within_conversion_limit(asset, target), 0, "conversion_limit"
        if target <= 0:
            self.record("expire", reason, account_id, asset=asset, requested=lots)
        else:
            self.convert_somewhere(account_id, asset, target, spot, quote)

    def spot_with_level(self, asset: str, side: str, quanta: int) -> Spot | None:
        """The spot market where so many quanta of an asset are sold or bought, None at the index (2 Repay, Where)."""
        spot = self.venue.spot_of(asset)
        return spot if spot is not None and self.levels[spot.symbol, side] and quanta >= spot.lot else None

    def spot_quote(self, spot: Spot, side: str, lots: int) -> BookFill:
        """The quote of phase 3 with the band of the spot market, without room (2 Repay, Where)."""
        key = spot.symbol, side
        return quote_book(self.levels[key], lots, self.limits[key], (), self.worst_average[key])

    def spot_value(self, spot: Spot, quote: BookFill) -> int:
        """`value` of a quote in a spot market."""
        return rhe(quote.value * spot.lot_tick / self.venue.settle_quantum)

    def affordable(self, spot: Spot, quote: BookFill, money: int) -> BookFill | None:
        """The largest purchase of which price and fee are at most the money, None if there is none (2 Repay, Where)."""

        def fits(fill):
            value = self.spot_value(spot, fill)
            return value + rhe(value * self.venue.policy["liquidation_fee"]) <= money

        if fits(quote):
            return quote
        low, high = 0, quote.lots
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(self.spot_quote(spot, "asks", middle)) else (low, middle)
        return self.spot_quote(spot, "asks", low) if low > 0 else None

    def within_conversion_limit(self, asset: str, quanta: int) -> int:
        """How much of a conversion at the index the limit allows (2 Repay, Where)."""
        limit = self.venue.policy["conversion_limit"]
        if limit is None:
            return quanta
        left = limit / self.venue.settle_quantum - self.converted[asset]
        return min(quanta, math.floor(left / self.prices.of_quantum(self.venue, asset)))

    def convert_somewhere(self, account_id, asset: str, quanta: int, spot: Spot | None, quote: BookFill | None) -> int:
        """A conversion of phase 2, on the book of the spot market or at the index (2 Repay, Where)."""
        rate = self.venue.policy["liquidation_fee"]
        if spot is None or quote is None:
            self.converted[asset] += rhe(abs(quanta) * self.prices.of_quantum(self.venue, asset))
            return self.convert(account_id, asset, quanta, rate, "debt")
        self.take(spot.symbol, "bids" if quanta < 0 else "asks", quote)
        value = self.spot_value(spot, quote)
        price = float(value * self.venue.settle_quantum / (quote.lots * spot.step_size))
        return self.convert_for(account_id, asset, quanta, value, price, rate, "debt", self.venue.settle)
