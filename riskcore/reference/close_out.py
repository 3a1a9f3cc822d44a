"""6 Close out: balances are sold, and the fund or the other accounts pay the shortfall."""

from __future__ import annotations

import math

from .adl import Deleveraging
from .journal import FUND, SHORTFALL
from .shares import integer_weights, largest_passing, payment_limit, water_fill


class CloseOut(Deleveraging):
    """6 Close out: balances are sold, and the fund or the other accounts pay the shortfall."""

    def close_out(self) -> None:
        """6 Close out."""
        for account_id in self.selected:
            positions = self.state.accounts[account_id].positions.values()
            if not any(lots for lots, *_ in positions) and self.look(account_id).net_equity <= 0:
                self.liquidate_balances(account_id)
                self.cover_shortfall(account_id)

    def liquidate_balances(self, account_id) -> None:
        """Redeem the lends, sell what is held, buy what is owed, without a fee (6 Close out)."""
        balances = self.state.accounts[account_id].balances
        held = [asset for asset in self.venue.assets if asset in balances]
        for asset in held:
            if balances[asset][1] > 0:
                self.redeem(account_id, asset, balances[asset][1], "close_out")
        for asset in self.venue.money[1:]:
            self.take_unsettled(account_id, asset)
        held.remove(self.venue.settle)
        sales = [asset for asset in held if balances[asset][0] > 0]
        purchases = [asset for asset in held if balances[asset][0] < 0]
        for asset in sales + purchases:
            self.convert(account_id, asset, -balances[asset][0], "close_out")

    def cover_shortfall(self, account_id) -> None:
        """The fund pays what it can, the rest goes by the policy (6 Close out)."""
        policy, settle = self.venue.policy["shortfall"], self.venue.settle
        self.take_unsettled(account_id, settle)
        for asset in self.venue.money:
            self.pay_from_fund(account_id, asset)
        rest = self.debt(account_id, settle)
        if policy in ("equity", "open_interest") and rest > 0:
            rest -= self.socialize(account_id, rest)
        if policy == "unsettled" and rest > 0:
            self.record("shortfall", "unsettled", account_id, settle=settle, cash=rest, unsettled=-rest)
        elif rest > 0:
            changes = {"settle": settle, "cash": rest, "counter_cash": -rest}
            self.record("shortfall", "bankrupt", account_id, counterparty=SHORTFALL, **changes)

    def take_unsettled(self, account_id, asset: str) -> None:
        """An unsettled amount goes to the balance, with the policy "unsettled" only a positive one (6 Close out)."""
        unsettled = self.state.accounts[account_id].unsettled[asset]
        if unsettled > 0 or (unsettled < 0 and self.venue.policy["shortfall"] != "unsettled"):
            self.record("unsettle", "close_out", account_id, settle=asset, cash=unsettled, unsettled=-unsettled)

    def pay_from_fund(self, account_id, asset: str) -> None:
        """The fund's part in an asset pays what it can; another asset than settle is sold for it (6 Close out)."""
        settle, fund = self.venue.settle, self.state.fund[asset]
        debt = self.debt(account_id, settle)
        if debt == 0 or fund == 0 or asset not in self.state.accounts[account_id].balances:
            return
        if self.prices.if_known(self.venue, asset) is None:
            return
        paid = min(fund, math.ceil(debt / self.prices.of_quantum(self.venue, asset)))
        self.record("fund", "bankrupt", account_id, counterparty=FUND, settle=asset, cash=paid, fund=-paid)
        if asset != settle:
            self.convert(account_id, asset, -paid, "close_out")

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
        by_equity, weights = self.venue.policy["shortfall"] == "equity", {}
        holders = [
            self.holders(symbol, are_long)
            for symbol, lots in positions.items()
            for are_long in (True, False)
            if not by_equity or are_long != (lots > 0)
        ]
        others = {one for side in holders for one in side if one not in self.keys and self.is_other(account_id, one)}
        for other in sorted(others):
            weight = self.swept_figures(other).equity if by_equity else self.notional_in(other, positions)
            if weight > 0:
                weights[other] = weight
        return integer_weights(weights)

    def notional_in(self, account_id, markets) -> float:
        """The notional of the positions that an account had in some markets at the sweep, in float64."""
        held, total = self.swept[account_id].positions, 0.0
        for symbol in self.venue.markets:
            if symbol in markets and symbol in held:
                total += abs(held[symbol][0]) * self.float64.lot[symbol] * self.float64.unit
        return total

    def pay(self, account_id, other, offered: int) -> int:
        """What one pays of a shortfall (6 Close out)."""
        paid = largest_passing(offered, lambda quanta: self.stays_healthy(self.after(other, 0, -quanta)))
        if paid > 0:
            changes = {"settle": self.venue.settle, "cash": paid, "counter_cash": -paid}
            self.record("socialize", self.venue.policy["shortfall"], account_id, counterparty=other, **changes)
        return paid
