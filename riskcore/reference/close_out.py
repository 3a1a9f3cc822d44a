"""6 Close out: balances are sold, and the fund or the other accounts pay the shortfall."""

from __future__ import annotations

from fractions import Fraction

from .account_margin import gross
from .journal import FUND, SHORTFALL
from .numbers import CLOSE, ROUNDING, float32
from .shares import integer_weights, largest_passing, payment_limit, water_fill
from .tick_state import TickState


class CloseOut(TickState):
    """6 Close out: balances are sold, and the fund or the other accounts pay the shortfall."""

    def close_out(self) -> None:
        """6 Close out."""
        for account_id in self.selected:
            look = self.look(account_id)
            if not look.position_maintenance_margins and look.net_equity <= 0:
                self.liquidate_balances(account_id)
                self.cover_shortfall(account_id)

    def liquidate_balances(self, account_id) -> None:
        """Redeem the lends, sell what is held, buy what is owed, without a fee (6 Close out)."""
        balances = self.state.accounts[account_id].balances
        held = [asset for asset in self.venue.assets if asset in balances]
        for asset in held:
            if balances[asset][1] > 0:
                self.redeem(account_id, asset, balances[asset][1], "close_out")
        held.remove(self.venue.settle)
        sales = [asset for asset in held if balances[asset][0] > 0]
        purchases = [asset for asset in held if balances[asset][0] < 0]
        for asset in sales + purchases:
            self.convert(account_id, asset, -balances[asset][0], Fraction(0), "close_out")

    def cover_shortfall(self, account_id) -> None:
        """The fund pays what it can, the rest goes by the policy (6 Close out)."""
        unsettled, policy = self.state.accounts[account_id].unsettled, self.venue.policy["shortfall"]
        if unsettled > 0 or (unsettled < 0 and policy != "unsettled"):
            self.record("unsettle", "close_out", account_id, cash=unsettled, unsettled=-unsettled)
        shortfall = self.settle_debt(account_id)
        paid = min(self.state.fund, shortfall)
        rest = shortfall - paid
        if paid > 0:
            self.record("fund", "bankrupt", account_id, counterparty=FUND, cash=paid, fund=-paid)
        if policy in ("equity", "open_interest") and rest > 0:
            rest -= self.socialize(account_id, rest)
        if policy == "unsettled" and rest > 0:
            self.record("shortfall", "unsettled", account_id, cash=rest, unsettled=-rest)
        elif rest > 0:
            self.record("shortfall", "bankrupt", account_id, counterparty=SHORTFALL, cash=rest, counter_cash=-rest)

    def socialize(self, account_id, rest: int) -> int:
        """Others pay; what they paid (6 Close out)."""
        payers, left = self.payers(account_id), rest
        remaining = list(payers)
        while left > 0 and remaining:
            shares = water_fill(left, dict.fromkeys(remaining, payment_limit(left, len(payers))), payers)
            taken = {other: self.pay(account_id, other, offered) for other, offered in shares.items()}
            left -= sum(taken.values())
            remaining = [other for other in remaining if taken[other] == shares[other]]
        return rest - left

    def payers(self, account_id) -> dict:
        """Who pays for an account, and their weights, by what all held at the sweep (6 Close out)."""
        positions = {m: lots for m, (lots, *_) in self.swept[account_id].positions.items() if lots != 0}
        weights = {}
        for other, account in self.swept.items():
            if other in self.selected or not self.is_other(account_id, other):
                continue
            held = {m: lots for m, (lots, *_) in account.positions.items() if lots != 0 and m in positions}
            if self.venue.policy["shortfall"] == "open_interest":
                values = [abs(lots) * self.prices.of_lot(self.venue, market) for market, lots in held.items()]
                weight, error = sum(values), CLOSE * sum(values)
            else:
                opposite = any(lots * positions[market] < 0 for market, lots in held.items())
                weight = self.start_margins[other].net_equity if opposite else 0
                error = ROUNDING * gross(self.venue, account, self.prices)
            if weight > 0:
                weights[other] = weight
                if float32(weight - error) != float32(weight + error) and weight != float32(weight):
                    self.doubts.append("weight")
        return integer_weights(weights)

    def pay(self, account_id, other, offered: int) -> int:
        """What one pays of a shortfall (6 Close out)."""
        paid = largest_passing(offered, lambda quanta: self.stays_healthy(self.after(other, 0, -quanta)))
        if paid > 0:
            changes = {"cash": paid, "counter_cash": -paid}
            self.record("socialize", self.venue.policy["shortfall"], account_id, counterparty=other, **changes)
        return paid
