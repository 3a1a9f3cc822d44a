"""4 Backstop: positions and debts go to the backstop providers."""

from __future__ import annotations

import math
from fractions import Fraction

from .account_margin import Margin
from .numbers import descending, number, part, rhe
from .shares import equity_share, largest_passing, water_fill
from .tick_state import Deal, TickState

UNLIMITED = Fraction(10**12)  # the capacity of a provider without any limit
HEAVIEST = 2**50  # the largest weight of a provider


class Backstop(TickState):
    """4 Backstop: positions and debts go to the backstop providers."""

    def backstop(self) -> None:
        """4 Backstop, with the margin at the beginning of an account's turn."""
        for account_id in self.selected:
            look = self.look(account_id)
            if self.takes(account_id, look):
                for market in self.positions_by_margin(look):
                    self.hand_to_providers(account_id, market, look)
            if look.below_auto_close:
                self.hand_over_borrows(account_id, look)

    def capacity(self, provider) -> Fraction:
        """`capacity`: the mark notional that a provider can take now (4 Backstop)."""
        entry, state, quantum = self.venue.providers[provider], self.state, self.venue.settle_quantum
        counters = {"capacity_per_min": state.provider_minute, "capacity_per_hour": state.provider_hour}
        counters["max_notional"] = state.provider_total
        limits = [limit for limit in counters if entry.get(limit) is not None]
        left = [number(entry[limit]) - counters[limit][provider] * quantum for limit in limits]
        return max(min(left, default=UNLIMITED), Fraction(0))

    def hand_to_providers(self, account_id, symbol: str, look: Margin) -> None:
        """One position at the zero price or, without equity, perhaps at the mark (4 Backstop)."""
        policy, lot_value = self.venue.policy, self.prices.of_lot(self.venue, symbol)
        lots, equity = self.lots(account_id, symbol), look.net_equity
        if policy["backstop_below_zero"] == "mark":
            equity = max(equity, Fraction(0))
        share = equity_share(equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        share = max(share, -policy["zero_price_band"] * abs(lots) * lot_value)
        value = lots * self.prices.value_of_lot(self.venue, symbol)
        flow = self.quanta_in(symbol, value - share)
        to_fund = self.quanta_in(symbol, share * policy["backstop_fund_share"])
        deal = Deal(account_id, -lots, rhe(flow), rhe(to_fund) if share > 0 else 0, market=symbol)
        reason = "escalated" if account_id in self.escalated else "mmr"
        self.share_out(deal, lot_value, "below_auto_close" if look.below_auto_close else reason)

    def hand_over_borrows(self, account_id, look: Margin) -> None:
        """Collateral for what the debts cost, then the debts other than settle (4 Backstop, Borrows)."""
        balances, settle = self.state.accounts[account_id].balances, self.venue.settle
        debts = {a: -balances[a][0] for a in self.venue.assets if a != settle and balances.get(a, (0,))[0] < 0}
        costs = {
            asset: self.quanta(debt * self.value_of_quantum(asset) + self.share_of_borrow(look, asset))
            for asset, debt in debts.items()
        }
        need = sum(math.ceil(cost) for cost in costs.values()) - balances[settle][0]
        self.sell_to_providers(account_id, look, need)
        for asset, debt in debts.items():
            if not self.look(account_id).liquidating:
                return
            at_hand, cost = balances[settle][0], costs[asset]
            taken = debt if cost <= at_hand else math.floor(debt * at_hand / cost)
            if taken > 0:
                part_of = Fraction(taken, debt)
                to_fund = self.quanta(self.share_of_borrow(look, asset) * self.venue.policy["backstop_fund_share"])
                deal = Deal(account_id, taken, -rhe(cost * part_of), rhe(to_fund * part_of), asset=asset)
                self.share_out(deal, self.value_of_quantum(asset), "below_auto_close")

    def sell_to_providers(self, account_id, look: Margin, need: int) -> None:
        """Collateral for settle (4 Backstop, Borrows)."""
        settle, balances = self.venue.settle, self.state.accounts[account_id].balances
        share = self.quanta(self.share_of_borrow(look, settle))
        discount = share / (need + share) if need > 0 else Fraction(0)
        held = [asset for asset in self.venue.assets if asset != settle and balances.get(asset, (0, 0))[0] > 0]
        for asset in descending(held, lambda asset: balances[asset][0] * self.value_of_quantum(asset)):
            if need <= 0 or not self.look(account_id).liquidating:
                return
            unit_value = self.prices.of_quantum(self.venue, asset)
            quanta = min(balances[asset][0], math.ceil(need / (unit_value * (1 - discount))))
            to_fund = rhe(quanta * unit_value * discount * self.venue.policy["backstop_fund_share"])
            deal = Deal(account_id, -quanta, rhe(quanta * unit_value * (1 - discount)), to_fund, asset=asset)
            self.share_out(deal, self.value_of_quantum(asset), "below_auto_close")
            need -= part(deal.flow, 0, deal.done, deal.size)

    def share_of_borrow(self, look: Margin, asset: str) -> Fraction:
        """`share` of a borrow (4 Backstop, Borrows)."""
        margin = look.borrow_maintenance_margins.get(asset, 0)
        return equity_share(max(look.net_equity, 0), margin, look.maintenance_margin)

    def share_out(self, deal: Deal, unit_value: Fraction, reason: str) -> None:
        """Lots or quanta of a value to the providers that can take them (4 Backstop)."""
        kind, symbol = ("markets", deal.market) if deal.asset is None else ("assets", deal.asset)
        weights, most, paid = {}, {}, -(deal.flow + deal.to_fund)
        for provider, entry in sorted(self.venue.providers.items()):
            if provider in self.keys or not (entry.get(kind) is None or symbol in entry[kind]):
                continue
            if not self.is_other(deal.account_id, provider):
                continue

            def passes(taken, provider=provider):
                if deal.market is not None:
                    held = self.lots(provider, deal.market)
                    if abs(held - deal.signed(taken)) <= abs(held):
                        return True
                money, where = rhe(Fraction(paid * taken, deal.size)), (deal.market, deal.asset)
                return self.covers_initial(self.after(provider, -deal.signed(taken), money, *where))

            weights[provider] = math.floor(self.capacity(provider) / unit_value)
            most[provider] = largest_passing(min(weights[provider], deal.size), passes)
        while max(weights.values(), default=0) >= HEAVIEST:
            weights = {provider: weight // 2 for provider, weight in weights.items()}
        for provider, taken in water_fill(deal.size, most, weights).items():
            if taken > 0:
                self.hand_over("backstop", reason, deal, provider, taken)
                notional = rhe(self.quanta(taken * unit_value))
                for counter in (self.state.provider_minute, self.state.provider_hour, self.state.provider_total):
                    counter[provider] += notional
