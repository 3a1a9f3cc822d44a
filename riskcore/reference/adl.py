"""5 ADL: positions and lends go to counterparties."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

from .account_margin import Margin, gross
from .adl_policies import SCORES, WEIGHTS, Figures
from .numbers import CLOSE, CLOSER, INFINITY, ROUNDING, descending, float32, rhe
from .shares import equity_share, integer_weights, largest_passing, water_fill
from .state import Account
from .tick_state import Deal, TickState


class Deleveraging(TickState):
    """5 ADL: positions and lends go to counterparties."""

    def deleverage(self) -> None:
        """5 ADL: Lends, then positions with the margin at the beginning of an account's turn."""
        for account_id in self.selected:
            if self.look(account_id).liquidating:
                self.settle_lends(account_id)
        for account_id in self.selected:
            look = self.look(account_id)
            if look.below_auto_close:
                for market in self.positions_by_margin(look):
                    if self.look(account_id).liquidating:
                        self.hand_to_counterparties(account_id, market, look)

    def figures(self, account_id, symbol: str) -> Figures:
        """Of a position at the sweep (5 ADL)."""
        look, positions = self.start_margins[account_id], self.swept[account_id].positions
        values = {market: held[0] * self.prices.of_lot(self.venue, market) for market, held in positions.items()}
        entries = {market: held[2] * self.venue.settle_quantum for market, held in positions.items()}
        lots, value, entry = positions[symbol][0], values[symbol], entries[symbol]
        profits = sum(values.values()) - sum(entries.values())
        margins = look.maintenance_margin, look.position_maintenance_margins[symbol]
        return Figures(lots, value, entry, value - entry, profits, look.net_equity, look.exposure, *margins)

    def counterparties(self, symbol: str, are_long: bool) -> dict:
        """Account id: score, or weight made whole, of those who take part, ascending by id (5 ADL, Counterparties)."""
        if (symbol, are_long) not in self.sides:
            policy, side = self.venue.policy, {}
            for account_id, account in self.swept.items():
                lots = account.positions.get(symbol, (0,))[0]
                if account_id not in self.selected and (lots > 0 if are_long else lots < 0):
                    of = self.figures(account_id, symbol)
                    if of.equity > 0 and (policy["adl_counterparties"] == "opposing" or of.profit > 0):
                        side[account_id] = of
            name, shared = policy["adl_policy"], policy["adl_policy"] in WEIGHTS
            self.doubt_ranks(symbol, side, (WEIGHTS if shared else SCORES)[name])
            ranks = {account_id: (WEIGHTS if shared else SCORES)[name](of) for account_id, of in side.items()}
            ranks = {account_id: rank for account_id, rank in ranks.items() if rank is not None}
            self.sides[symbol, are_long] = integer_weights(ranks) if shared else ranks
        return self.sides[symbol, are_long]

    def doubt_ranks(self, symbol: str, side: dict, rank) -> None:
        """Note where float64 could find another order or weight (5 ADL)."""
        name, ends = self.venue.policy["adl_policy"], {}
        for account_id, of in side.items():
            account = self.swept[account_id]
            possible = (
                [rank(figures) for figures in self.nearly(account, of)] if name not in ("size", "pro_rata") else []
            )
            possible.append(rank(of))
            if None in possible and possible != [None] * len(possible):
                self.doubts.append("takes part")
            possible = [x for x in possible if x is not None]
            if possible:
                spread = [0 if x == INFINITY else CLOSE * abs(x) for x in (min(possible), max(possible))]
                ends[account_id] = min(possible) - spread[0], max(possible) + spread[1]
        if name in WEIGHTS:
            if any(float32(low) != float32(high) for low, high in ends.values()) and name != "pro_rata":
                self.doubts.append("weight")
            return
        for one, other in itertools.combinations(ends, 2):
            (low, high), (other_low, other_high) = ends[one], ends[other]
            ordered = low > other_high or other_low > high
            if not ordered and not low == high == other_low == other_high and not self.twins(one, other, symbol):
                self.doubts.append("score")

    def nearly(self, account: Account, of: Figures):
        """Figures that float64 could find: of differences, which are what it can lose bits in (5 ADL)."""
        held = account.positions.items()
        values = [(abs(lots) * self.prices.of_lot(self.venue, m), abs(entry)) for m, (lots, _, entry) in held]
        all_of_them = sum(value + entry * self.venue.settle_quantum for value, entry in values)
        errors = {
            "equity": ROUNDING * gross(self.venue, account, self.prices),
            "profit": CLOSER * (abs(of.value) + abs(of.entry)),
            "profits": CLOSER * all_of_them,
        }
        for signs in itertools.product((-1, 1), repeat=len(errors)):
            moved = {name: getattr(of, name) + sign * errors[name] for sign, name in zip(signs, errors, strict=True)}
            if moved["equity"] <= 0:
                self.doubts.append("equity of a counterparty")
                return
            yield replace(of, **moved)

    def twins(self, one, other, symbol: str) -> bool:
        """Whether float64 finds the same of both: equal holdings give equal bits."""
        if self.venue.policy["adl_policy"] == "size":
            return abs(self.swept[one].positions[symbol][0]) == abs(self.swept[other].positions[symbol][0])
        return self.swept[one] == self.swept[other]

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
        value = lots * self.prices.of_lot(self.venue, symbol)
        share = max((1 - policy["adl_price"]) * share, -policy["zero_price_band"] * abs(value))
        flow = rhe(self.quanta(value - share))
        deal, ranks = Deal(account_id, -lots, flow, market=symbol), self.counterparties(symbol, lots < 0)
        ranks = {other: rank for other, rank in ranks.items() if self.is_other(account_id, other)}
        if policy["adl_policy"] in WEIGHTS:
            self.offer_shares(deal, ranks)
        else:
            for other in descending(ranks, ranks.get):
                offered = min(deal.left, self.room(other, symbol))
                if offered > 0 and (policy["adl_policy"] != "bankruptcy_price" or self.reaches(other, deal)):
                    self.offer(deal, other, offered)
        if deal.left > 0:
            self.record("unfilled", "no_counterparty", account_id, market=symbol, requested=deal.left)

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
            self.hand_over("adl", "backstop_exhausted", deal, other, taken)
            done = self.deleveraged.get((other, deal.market), 0)
            self.deleveraged[other, deal.market] = done + taken
        return taken

    def reaches(self, other, deal: Deal) -> bool:
        """Whether a counterparty's own zero price does, with what the deal gives it (5 ADL, `bankruptcy_price`)."""
        look, symbol = self.look(other), deal.market
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        value = -deal.change * self.prices.of_lot(self.venue, symbol)
        gives = (value - deal.flow * self.venue.settle_quantum) / deal.size
        return share + gives * abs(self.lots(other, symbol)) >= 0

    def settle_lends(self, account_id) -> None:
        """Lends that cannot be redeemed are settled with the borrowers (5 ADL, Lends)."""
        balances, settle = self.state.accounts[account_id].balances, self.venue.settle
        debts = {asset: -free for asset, (free, _) in balances.items() if free < 0}
        need = sum(rhe(debt * self.prices.of_quantum(self.venue, asset)) for asset, debt in debts.items())
        lends = [asset for asset in self.venue.pools if asset != settle and balances.get(asset, (0, 0))[1] > 0]
        for asset in descending(lends, lambda asset: balances[asset][1] * self.value_of_quantum(asset)):
            lent, unit_value = balances[asset][1], self.prices.of_quantum(self.venue, asset)
            stuck = lent - min(lent, self.not_lent_out(asset))
            if stuck > 0 and need > 0:
                deal = Deal(account_id, -min(stuck, math.ceil(need / unit_value)), 0, asset=asset)
                need -= self.settle_with_borrowers(deal, unit_value)

    def settle_with_borrowers(self, deal: Deal, unit_value: Fraction) -> int:
        """Borrowers buy what they owe of the lender, at `p`; gives what they pay (5 ADL, Lends)."""
        asset, proceeds = deal.asset, 0
        debts = {other: -account.balances.get(asset, (0, 0))[0] for other, account in self.state.accounts.items()}
        borrowers = [other for other, debt in debts.items() if debt > 0 and other not in self.selected]
        for other in sorted(borrowers, key=lambda other: -debts[other]):
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
