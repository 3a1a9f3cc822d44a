"""5 ADL: positions and lends go to counterparties."""

from __future__ import annotations

import math
from fractions import Fraction

from .account_margin import Margin
from .adl_policies import SCORES, WEIGHTS, Figures
from .numbers import descending, rhe
from .shares import equity_share, integer_weights, largest_passing, water_fill
from .tick_state import Deal, TickState


class Deleveraging(TickState):
    """5 ADL: positions and lends go to counterparties."""

    def deleverage(self) -> None:
        """5 ADL: positions, with the margin at the beginning of an account's turn."""
        if not self.selected or not self.adl_is_on():
            return
        for account_id in self.selected:
            look = self.look(account_id)
            if self.takes(account_id, look):
                for market in self.positions_by_margin(look):
                    if self.look(account_id).liquidating:
                        self.hand_to_counterparties(account_id, market, look)

    def adl_is_on(self) -> bool:
        """Whether ADL acts: with `fund_below` the fund switches it on and off (Stages)."""
        policy, fund = self.venue.policy, self.state.fund[self.venue.settle] * self.venue.settle_quantum
        if policy["adl_when"] != "fund_below":
            return True
        if self.state.adl_on:
            self.state.adl_on = fund == 0 or fund < policy["adl_fund_off"]
        else:
            self.state.adl_on = fund == 0 or fund < policy["adl_fund_on"]
        return self.state.adl_on

    def lends(self) -> None:
        """5 ADL: Lends."""
        for account_id in self.selected:
            if self.look(account_id).liquidating:
                self.settle_lends(account_id)

    def figures(self, account_id, symbol: str) -> Figures:
        """Of a position at the sweep, in float64 (5 ADL)."""
        of, positions, float64 = self.swept_figures(account_id), self.swept[account_id].positions, self.float64
        profit = 0.0
        for market in self.venue.markets:
            if market in positions:
                lots, _, entry = positions[market]
                profit += float64.value(market, lots) - float64.paid(market, entry)
        lots, _, entry = positions[symbol]
        margins = of.maintenance, float64.required[symbol](abs(lots) * float64.lot[symbol]) / float64.per_unit
        amounts = float64.value(symbol, lots), float64.paid(symbol, entry), profit
        return Figures(lots, *amounts, of.equity, of.exposure, *margins)

    def is_profitable(self, account_id, symbol: str) -> bool:
        """Whether the value of a position at the sweep is above its entry (5 ADL, Counterparties)."""
        lots, _, entry = self.swept[account_id].positions[symbol]
        return lots * self.prices.value_of_lot(self.venue, symbol) > self.paid(symbol, entry)

    def paid(self, symbol: str, entry: int) -> Fraction:
        """`paid` of an entry, in the unit of account (5 ADL)."""
        return entry * self.value_of_quantum(self.venue.markets[symbol].settle)

    def holders(self, symbol: str, are_long: bool) -> list:
        """The accounts with a position on a side of a market at the sweep, ascending by id."""
        held = {account_id: account.positions.get(symbol, (0,))[0] for account_id, account in self.swept.items()}
        return [account_id for account_id, lots in held.items() if (lots > 0 if are_long else lots < 0)]

    def counterparties(self, symbol: str, are_long: bool) -> dict:
        """Account id: score, or weight made whole, of those who take part, ascending by id (5 ADL, Counterparties)."""
        if (symbol, are_long) not in self.sides:
            profitable, side = self.venue.policy["adl_counterparties"] == "profitable", {}
            for account_id in self.holders(symbol, are_long):
                if account_id in self.keys or (profitable and not self.is_profitable(account_id, symbol)):
                    continue
                of = self.figures(account_id, symbol)
                if of.equity > 0:
                    side[account_id] = of
            self.sides[symbol, are_long] = self.ranked(side)
        return self.sides[symbol, are_long]

    def ranked(self, side: dict) -> dict:
        """The scores of those who take part, or their weights made whole, by their figures (5 ADL, Policies)."""
        name = self.venue.policy["adl_policy"]
        rank = SCORES.get(name) or WEIGHTS[name]
        ranks = {account_id: rank(of) for account_id, of in side.items()}
        ranks = {account_id: rank for account_id, rank in ranks.items() if rank is not None}
        return ranks if name in SCORES else integer_weights(ranks)

    def room(self, account_id, symbol: str) -> int:
        """The lots that a counterparty can still give (5 ADL)."""
        lots, swept = self.lots(account_id, symbol), self.swept[account_id].positions[symbol][0]
        if lots * swept <= 0:  # it has nothing left, or was turned round since
            return 0
        cap = math.ceil(self.venue.policy["adl_cap"] * abs(swept)) - self.deleveraged.get((account_id, symbol), 0)
        return min(abs(lots), cap)

    def hand_to_counterparties(self, account_id, symbol: str, look: Margin) -> None:
        """One position to those on the other side (5 ADL)."""
        policy, lots = self.venue.policy, self.lots(account_id, symbol)
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        value = lots * self.prices.value_of_lot(self.venue, symbol)
        share = max((1 - policy["adl_price"]) * share, -policy["zero_price_band"] * abs(value))
        flow = rhe(self.quanta_in(symbol, value - share))
        deal, ranks = Deal(account_id, -lots, flow, market=symbol), self.counterparties(symbol, lots < 0)
        ranks = {other: rank for other, rank in ranks.items() if self.is_other(account_id, other)}
        self.close_deal(deal, ranks)

    def is_shared(self) -> bool:
        """Whether the policy shares positions out by weights (5 ADL, Policies)."""
        return self.venue.policy["adl_policy"] in WEIGHTS

    def close_deal(self, deal: Deal, ranks: dict) -> None:
        """Close a position against its counterparties (5 ADL, Offers)."""
        if self.is_shared():
            self.offer_shares(deal, ranks)
            return
        by_reach = self.venue.policy["adl_policy"] == "bankruptcy_price"
        for other in sorted(ranks, key=ranks.__getitem__, reverse=True):
            if deal.left == 0:
                return
            offered = min(deal.left, self.room(other, deal.market))
            if offered > 0 and (not by_reach or self.reaches(other, deal)):
                self.offer(deal, other, offered)

    def offer_shares(self, deal: Deal, weights: dict) -> None:
        """Offers by weight, until nothing is left or nobody has room (5 ADL)."""
        remaining = [other for other in weights if self.room(other, deal.market) > 0]
        while deal.left > 0 and remaining:
            shares = water_fill(deal.left, {other: self.room(other, deal.market) for other in remaining}, weights)
            taken = {other: self.offer(deal, other, offered) for other, offered in shares.items()}
            remaining = [
                other for other in remaining if taken[other] == shares[other] and self.room(other, deal.market) > 0
            ]

    def offer(self, deal: Deal, other, offered: int) -> int:
        """What a counterparty takes of an offer: as long as it stays sound (5 ADL)."""

        def passes(taken):
            money, _ = deal.instalment(taken)
            return self.stays_healthy(self.after(other, -deal.signed(taken), -money, deal.market))

        taken = largest_passing(offered, passes)
        if taken > 0:
            self.hand_over("adl", self.venue.policy["adl_when"], deal, other, taken)
            done = self.deleveraged.get((other, deal.market), 0)
            self.deleveraged[other, deal.market] = done + taken
        return taken

    def reaches(self, other, deal: Deal) -> bool:
        """Whether a counterparty's own zero price does, with what the deal gives it (5 ADL, `bankruptcy_price`)."""
        look, symbol = self.look(other), deal.market
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        value = -deal.change * self.prices.value_of_lot(self.venue, symbol)
        gives = (value - self.paid(symbol, deal.flow)) / deal.size
        return share + gives * abs(self.lots(other, symbol)) >= 0

    def settle_lends(self, account_id) -> None:
        """Lends that cannot be redeemed are settled with the borrowers, those of settle with nobody (5 ADL, Lends)."""
        balances = self.state.accounts[account_id].balances
        debts = {asset: -free for asset, (free, _) in balances.items() if free < 0}
        need = sum(rhe(debt * self.prices.of_quantum(self.venue, asset)) for asset, debt in debts.items())
        lends = [asset for asset in self.venue.pools if balances.get(asset, (0, 0))[1] > 0]
        for asset in descending(lends, lambda asset: balances[asset][1] * self.value_of_quantum(asset)):
            lent, unit_value = balances[asset][1], self.prices.of_quantum(self.venue, asset)
            stuck = lent - min(lent, self.not_lent_out(asset))
            if stuck > 0 and need > 0:
                deal = Deal(account_id, -min(stuck, math.ceil(need / unit_value)), 0, asset=asset)
                if asset != self.venue.settle:
                    need -= self.settle_with_borrowers(deal, unit_value)
                if deal.left > 0 and self.look(account_id).liquidating:
                    self.record("unfilled", "full_utilization", account_id, asset=asset, requested=deal.left)

    def borrowers(self, asset: str) -> dict:
        """The debts of the accounts that owe an asset now, ascending by id."""
        debts = {other: -account.balances.get(asset, (0, 0))[0] for other, account in self.state.accounts.items()}
        return {other: debt for other, debt in debts.items() if debt > 0}

    def settle_with_borrowers(self, deal: Deal, unit_value: Fraction) -> int:
        """Borrowers buy what they owe of the lender, at `p`; gives what they pay (5 ADL, Lends)."""
        asset, proceeds = deal.asset, 0
        debts = {other: debt for other, debt in self.borrowers(asset).items() if other not in self.keys}
        for other in sorted(debts, key=lambda other: -debts[other]):
            if not self.look(deal.account_id).liquidating:
                break
            if not self.is_other(deal.account_id, other):
                continue

            def passes(taken, other=other):
                return self.stays_healthy(self.after(other, taken, -rhe(taken * unit_value), asset=asset))

            taken = largest_passing(min(deal.left, debts[other]), passes)
            if taken > 0:
                money = rhe(taken * unit_value)
                changes = {"requested": deal.size, "lent": -taken, "cash": money, "counter_cash": -money}
                self.swap("adl", "full_utilization", deal, other, changes, -taken)
                deal.done += taken
                proceeds += money
        return proceeds
