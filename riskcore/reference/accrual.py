"""What falls due between the ticks: interest, funding, realised profit and the samples of premiums."""

from __future__ import annotations

from fractions import Fraction

from .clock import begins
from .journal import BOOK, POOL
from .numbers import HOUR, SECOND, number, rhe, whole
from .tick_state import TickState
from .venue import Market


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
            markets = self.interval_instants(symbol)  # as it was at each instant
            if markets:
                due += len(markets)
                rates = [self.premium_rate(market) for market in markets]
                rates[-1] = self.prices.funding_rates.get(symbol, rates[-1])
                per_lot[symbol] = sum(self.lot_funding(symbol, rate) for rate in rates)
                self.state.premiums[symbol] = (0.0, 0)
        self.pay_funding("interval", per_lot)
        return due + self.scheduled_funding()

    def interval_instants(self, symbol: str) -> list[Market]:
        """The market at each instant of its interval that is due: none from its first entry of the table on."""
        if self.since is None or self.scheduled is None or symbol in self.state.funding_scheduled:
            return []
        ends = [entry["time"] for entry in self.entries if entry["market"] == symbol]
        return self.scheduled.due_markets(symbol, self.since, min([self.time_ns, *(end - 1 for end in ends)]))

    def scheduled_funding(self) -> int:
        """The entries of the funding table that are due, time by time; their number (Funding table)."""
        entries = [] if self.since is None else self.entries
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

    def premium_rate(self, market: Market) -> Fraction | None:
        """The rate of one interval from the premiums, in float64 (Funding)."""
        total, count = self.state.premiums[market.symbol]
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
