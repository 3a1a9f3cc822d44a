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
        for symbol, market in self.venue.markets.items():
            instants = self.instants(market.funding_interval * MILLISECOND) if market.funding_interval else 0
            if instants > 0:
                due += instants
                rate = self.funding_rate(symbol)
                if rate is not None and symbol in self.prices.marks:
                    lot_quanta = abs(self.lot_quanta_in(symbol))
                    per_lot[symbol] = Fraction(rhe(rate * lot_quanta * 10**9) * instants, 10**9)
                self.state.premiums[symbol] = (0.0, 0)
        for account_id, account in self.state.accounts.items():
            for symbol in (symbol for symbol in per_lot if symbol in account.positions):
                cash = -rhe(account.positions[symbol][0] * per_lot[symbol])
                if cash != 0:
                    names = {"counterparty": BOOK, "market": symbol, "settle": self.venue.markets[symbol].settle}
                    changes = names | {"cash": cash, "counter_cash": -cash}
                    self.record("funding", "interval", account_id, float(self.prices.marks[symbol]), **changes)
        return due

    def lot_quanta_in(self, symbol: str) -> Fraction:
        """The signed value of a lot at the mark, in quanta of the asset that its market settles in."""
        return self.venue.markets[symbol].lot_value(self.prices.marks[symbol]) / self.quantum(symbol)

    def funding_rate(self, symbol: str) -> Fraction | None:
        """The rate of one interval: the tick's, or from the premiums in float64 (Funding)."""
        if symbol in self.prices.funding_rates:
            return self.prices.funding_rates[symbol]
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
