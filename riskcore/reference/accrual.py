"""What falls due between the ticks: interest, funding, realised profit and the samples of premiums."""

from __future__ import annotations

from fractions import Fraction

from .clock import begins
from .journal import BOOK, POOL
from .numbers import HOUR, MILLISECOND, SECOND, number, rhe, whole
from .tick_state import TickState


class Accrual(TickState):
    """What falls due between the ticks: interest, funding, realised profit and the samples of premiums."""

    def instants(self, period: int) -> int:
        """How many multiples of a period are due; none at the first tick (Between the ticks)."""
        return 0 if self.since is None else begins(period, self.since, self.time_ns)

    def interest(self) -> int:
        """Interest; the hours that were due."""
        hours = self.instants(HOUR) if self.venue.pools else 0
        for _ in range(hours):
            for asset in self.venue.pools:
                borrow_rate, lend_rate = self.hourly_rates(asset)
                for account_id, account in self.state.accounts.items():
                    free, lent = account.balances.get(asset, (0, 0))
                    charged = rhe(Fraction(max(-free, 0) * borrow_rate, 10**15))
                    earned = rhe(Fraction(lent * lend_rate, 10**15))
                    if charged != 0 or earned != 0:
                        changes = {"counterparty": POOL, "asset": asset, "quanta": -charged, "lent": earned}
                        self.record("interest", "hour", account_id, **changes)
        return hours

    def funding(self) -> int:
        """Funding; the instants that were due."""
        due, per_lot = 0, {}
        for symbol in self.venue.markets:
            instants = self.interval_instants(symbol)
            if instants > 0:
                due += instants
                of_tick, of_premiums = self.prices.funding_rates.get(symbol), self.premium_rate(symbol)
                rates = [of_premiums] * (instants - 1) + [of_premiums if of_tick is None else of_tick]
                per_lot[symbol] = sum(self.lot_funding(symbol, rate) for rate in rates)
                self.state.premiums[symbol] = (0.0, 0)
        self.pay_funding("interval", per_lot)
        return due + self.scheduled_funding()

    def interval_instants(self, symbol: str) -> int:
        """The instants of a market's interval that are due: none from its first entry of the funding table on."""
        interval, state = self.venue.markets[symbol].funding_interval, self.state
        if not interval or symbol in state.delisted | state.funding_scheduled:
            return 0
        first = next((entry["time"] for entry in self.entries if entry["market"] == symbol), None)
        if first is None or self.since is None:
            return self.instants(interval * MILLISECOND)
        return begins(interval * MILLISECOND, self.since, first - 1)

    def scheduled_funding(self) -> int:
        """The entries of the funding table that are due, time by time; their number (Funding table)."""
        entries = [entry for entry in self.entries if entry["market"] not in self.state.delisted]
        entries = [] if self.since is None else entries
        for time in dict.fromkeys(entry["time"] for entry in entries):
            rates = {entry["market"]: number(entry["rate"]) for entry in entries if entry["time"] == time}
            ordered = [symbol for symbol in self.venue.markets if symbol in rates]
            self.pay_funding("rate", {symbol: self.lot_funding(symbol, rates[symbol]) for symbol in ordered})
            self.state.premiums |= dict.fromkeys(rates, (0.0, 0))
            self.state.funding_scheduled |= set(rates)
        return len(entries)

    def lot_funding(self, symbol: str, rate) -> Fraction:
        """What a lot pays for one instant at a rate, in quanta; nothing without a rate or a mark (Funding)."""
        if rate is None or symbol not in self.prices.marks:
            return Fraction(0)
        return Fraction(rhe(rate * abs(self.lot_quanta_in(symbol)) * 10**9), 10**9)

    def pay_funding(self, reason: str, per_lot) -> None:
        """The funding of all positions, by account, then market."""
        for account_id, account in self.state.accounts.items():
            for symbol in (symbol for symbol in per_lot if symbol in account.positions):
                cash = -rhe(account.positions[symbol][0] * per_lot[symbol])
                if cash != 0:
                    names = {"counterparty": BOOK, "market": symbol, "settle": self.venue.markets[symbol].settle}
                    changes = names | {"cash": cash, "counter_cash": -cash}
                    self.record("funding", reason, account_id, float(self.prices.marks[symbol]), **changes)

    def lot_quanta_in(self, symbol: str) -> Fraction:
        """The signed value of a lot at the mark, in quanta of the asset that its market settles in."""
        return self.venue.markets[symbol].lot_value(self.prices.marks[symbol]) / self.quantum(symbol)

    def premium_rate(self, symbol: str) -> Fraction | None:
        """The rate of one interval from the premiums, in float64 (Funding)."""
        market, (total, count) = self.venue.markets[symbol], self.state.premiums[symbol]
        if count == 0:
            return None
        p, hours = total / count, market.funding_interval / 3600000
        rate = (p + min(max(0.0001 - p, -0.0005), 0.0005)) / 8 * hours
        return number(min(max(rate, market.funding_lower), market.funding_upper))

    def realisation(self) -> int:
        """Realisation; the instants that were due."""
        interval = self.venue.policy["realize_interval"]
        instants = self.instants(whole(interval) * SECOND) if interval is not None else 0
        if instants > 0:
            for account_id, account in self.state.accounts.items():
                for symbol in (symbol for symbol in self.venue.markets if symbol in account.positions):
                    lots, cost, _ = account.positions[symbol]
                    if lots == 0:
                        continue
                    lot = rhe(self.lot_quanta_in(symbol) * 10**6)
                    profit = rhe(Fraction(lots * lot, 10**6)) - cost
                    if profit != 0:
                        mark, settle = float(self.prices.marks[symbol]), self.venue.markets[symbol].settle
                        changes = {"market": symbol, "settle": settle, "cost": profit, "cash": profit}
                        self.record("realize", "interval", account_id, mark, **changes)
        return instants

    def premiums(self) -> None:
        """Premiums."""
        for symbol in self.venue.markets:
            if symbol in self.prices.indexes:
                mark, index = float(self.prices.marks[symbol]), float(self.prices.indexes[symbol])
                total, count = self.state.premiums[symbol]
                self.state.premiums[symbol] = (total + (mark - index) / index, count + 1)
