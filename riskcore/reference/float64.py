"""The figures that float64 decides, in the order of operations that the page gives (Float64)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from .account_margin import Margin
from .margin_functions import initial_row, maintenance_row
from .numbers import INFINITY, number
from .prices import Prices
from .state import Account
from .venue import Venue

DOUBT = 1e-12  # of the gross amounts: within it exact figures take the place of float64's


class Sums(NamedTuple):
    """Margin of an account in quanta of settle; `gross` is the sum of the absolute amounts."""

    equity: float
    exposure: float
    maintenance: float
    gross: float

    @property
    def ratio(self) -> float:
        """MMR."""
        if self.exposure == 0.0:
            return 0.0
        return self.maintenance / self.equity if self.equity > 0.0 else INFINITY


class Swept(NamedTuple):
    """Figures of an account at the sweep, in settle units: exact ones, rounded, where float64 is in doubt."""

    equity: float
    exposure: float
    maintenance: float
    mmr: float


@dataclass(frozen=True)
class Requirement:
    """A margin function of notionals in quanta of settle, at the prices of a tick."""

    segments: list  # (from, rate, slope, root, deduction), the first from 0
    minimum: float
    flat: float  # notional up to which the first rate alone counts

    @classmethod
    def of(cls, row: dict, unit: float, price: float, interest) -> Requirement:
        """The function of a row; `interest` is the open interest in settle units, None if it is not known."""
        brackets = [(number(b["from"]), number(b["rate"])) for b in row.get("brackets", ())]
        base, slope, root, minimum = (number(row.get(x, 0)) for x in ("base", "slope", "factor", "minimum"))
        if row.get("type") == "open_interest" and interest is not None:
            lower, upper = number(row["lower"]), number(row["upper"])
            base += (1 - base) * min(max((interest - lower) / (upper - lower), 0), 1)
        size = unit / price if row.get("unit") == "quantity" and price else unit
        segments, deduction, before = [], Fraction(0), Fraction(0)
        for start, rate in brackets or [(Fraction(0), base)]:
            deduction, before = deduction + start * (rate - before), rate
            figures = float(slope) * size, float(root) * math.sqrt(size), float(deduction) / unit
            segments.append((float(start) / unit, float(rate), *figures))
        flat = INFINITY
        if root > 0:
            flat = segments[0][1] / segments[0][3] * (segments[0][1] / segments[0][3])
        if slope > 0 or minimum > 0:
            flat = 0.0
        return cls(segments, float(minimum) / unit, segments[1][0] if len(segments) > 1 else flat)

    def segment(self, notional: float) -> tuple:
        """The last segment that begins below a notional, the first one of 0."""
        return next((one for one in self.segments[:0:-1] if one[0] < notional), self.segments[0])

    def unbounded(self, notional: float) -> float:
        """The requirement without the minimum."""
        _, rate, slope, root, deduction = self.segment(notional)
        if slope > 0.0:
            rate += slope * notional
        if root > 0.0:
            rate = max(rate, root * math.sqrt(notional))
        return notional * rate - deduction

    def __call__(self, notional: float) -> float:
        """The requirement of a notional."""
        if notional <= self.flat:
            return notional * self.segments[0][1]
        return max(self.unbounded(notional), self.minimum)

    def of_one_more(self, notional: float) -> float:
        """The requirement of one more quantum of notional."""
        if notional <= self.flat:
            return self.segments[0][1]
        if self.unbounded(notional) < self.minimum:
            return 0.0
        _, rate, slope, root, _ = self.segment(notional)
        if slope > 0.0:
            rate += 2.0 * slope * notional
        return max(rate, 1.5 * root * math.sqrt(notional)) if root > 0.0 else rate


class Float64:
    """The float64 figures of accounts at the prices of a tick, in quanta of settle unless it says otherwise."""

    def __init__(self, venue: Venue, prices: Prices):
        self.venue, self.prices, self.policy = venue, prices, venue.policy
        self.unit = float(venue.settle_quantum)
        self.per_unit = 1.0 / self.unit
        self.divisor, self.offset = float(self.policy["acmf_divisor"]), float(self.policy["acmf_offset"])
        self.target = float(self.policy["target_mmr"])
        self.by_notional = venue.haircut_size_unit == "notional"

    @property
    def settle(self) -> AssetFigures:
        """The figures of the settle asset."""
        return self.of_asset(self.venue.settle)

    def of_settle(self, balance: float, lent: int) -> tuple:
        """Net equity and maintenance margin of a settle balance (3 Book, Loss and relief)."""
        quanta = max(balance, 0.0) + lent
        equity = quanta * self.settle.counted(quanta)
        if balance >= 0.0:
            return equity, 0.0
        return equity + balance, self.settle.required(-balance)

    @cached_property
    def lot(self) -> dict:
        """`v` of each market with a mark."""
        if self.venue.is_plain_money:
            return self.lot_value
        prices = {symbol: self.of_asset(market.settle).price for symbol, market in self.markets()}
        return {symbol: abs(self.lot_value[symbol]) * price for symbol, price in prices.items()}

    @cached_property
    def lot_value(self) -> dict:
        """The signed value of a lot of each market with a mark, in quanta of the asset that it settles in."""
        values = {}
        for symbol, market in self.markets():
            mark = float(self.prices.marks[symbol])
            size = float(market.step_size * market.multiplier / self.venue.assets[market.settle].quantum)
            values[symbol] = -size / mark if market.is_inverse else mark * size
        return values

    def value(self, symbol: str, lots: int) -> float:
        """The signed value of lots, in settle units; 0 of none, which may have no mark."""
        if not lots:
            return 0.0
        return lots * self.lot_value[symbol] * self.quantum(symbol)

    def paid(self, symbol: str, entry: int) -> float:
        """`paid` of an entry, in settle units."""
        return entry * self.quantum(symbol) if entry else 0.0

    def quantum(self, symbol: str) -> float:
        """A quantum of the asset that a market settles in, in settle units."""
        return self.of_asset(self.venue.markets[symbol].settle).price * self.unit

    @cached_property
    def has_steps(self) -> bool:
        """Whether an initial margin steps up where a bracket begins."""
        rows = [market.row for market in self.venue.markets.values()] + [a.row for a in self.venue.assets.values()]
        return any((row.get("imfFunction") or {}).get("whole") for row in rows)

    def markets(self):
        """The markets that have a mark, and whose settle asset has a price."""
        for symbol, market in self.venue.markets.items():
            if symbol in self.prices.marks and self.prices.if_known(self.venue, market.settle) is not None:
                yield symbol, market

    def token(self, symbol: str) -> float:
        """The price that makes a token quantity of a notional (Margin functions)."""
        market = self.venue.markets[symbol]
        price = float(self.prices.of_asset(self.venue, market.settle))
        return price if market.is_inverse else float(self.prices.marks[symbol]) * price

    @cached_property
    def required(self) -> dict:
        """The maintenance function of each market with a mark."""
        return self.functions(maintenance_row)

    @cached_property
    def initially_required(self) -> dict:
        """The initial function of each market with a mark."""
        return self.functions(initial_row)

    def functions(self, row_of) -> dict:
        """A margin function of each market with a mark."""
        interest = self.prices.of_open_interest
        return {
            symbol: Requirement.of(row_of(market.row), self.unit, self.token(symbol), interest(self.venue, symbol))
            for symbol, market in self.markets()
        }

    @cached_property
    def ticks(self) -> dict:
        """Value of a lot at one tick, of each market; 1 of an inverse one, of which the levels are worth quanta."""
        exact = {
            symbol: market.worth_unit(self.venue.assets[market.settle].quantum)
            for symbol, market in self.venue.markets.items()
        }
        return {symbol: value.numerator / value.denominator for symbol, value in exact.items()}

    def of_asset(self, symbol: str) -> AssetFigures:
        """The figures of an asset at its price."""
        if symbol not in self.assets:
            self.assets[symbol] = AssetFigures.of(self.venue, symbol, self.prices, self.unit)
        return self.assets[symbol]

    @cached_property
    def assets(self) -> dict:
        """The figures of the assets that were asked for."""
        return {}

    def sums(self, account: Account) -> Sums:
        """The margin of an account, asset by asset and market by market in the order of the venue."""
        equity = gross = exposure = maintenance = 0.0
        for symbol, (free, lent) in account.balances.items():
            if free == lent == 0:
                continue
            asset, quanta = self.of_asset(symbol), lent
            if free < 0:
                notional = -free * asset.price
                equity -= notional
                gross += notional
                exposure += notional
                maintenance += asset.required(notional)
            else:
                quanta += free
            if symbol in self.venue.money[1:]:
                continue
            value = quanta * asset.price
            gross += value
            equity += value * asset.counted(quanta)
        position_value, own = 0.0, self.venue.settle
        for symbol, (lots, _, _) in account.positions.items():
            worst = account.worst_case(symbol, lots)
            if worst == 0:
                continue
            price = self.lot[symbol]
            if self.venue.markets[symbol].settle == own:
                position_value += lots * self.lot_value[symbol]
            notional = abs(lots) * price
            gross += notional
            maintenance += self.required[symbol](notional)
            exposure += worst * price
        cash = self.cash(account, own)
        equity, gross = equity + (position_value + cash), gross + abs(cash)
        for symbol in self.venue.money[1:]:
            if symbol not in account.balances:
                continue
            free, lent = account.balances[symbol]
            balance, profit, cash = float(lent + max(free, 0)), self.profit(account, symbol), self.cash(account, symbol)
            if balance or profit or cash:
                gross += (balance + abs(cash)) * self.of_asset(symbol).price
                equity += self.of_money(symbol, balance + profit)
        return Sums(equity, exposure, maintenance, gross)

    def cash(self, account: Account, symbol: str) -> float:
        """What is unsettled in an asset less the costs of the positions that settle in it."""
        markets = self.venue.markets
        costs = sum(cost for market, (_, cost, _) in account.positions.items() if markets[market].settle == symbol)
        return float(account.unsettled[symbol] - costs)

    def profit(self, account: Account, symbol: str) -> float:
        """The profit of the positions that settle in an asset and what is unsettled in it, in its quanta."""
        value = 0.0
        for market, contract in self.venue.markets.items():
            lots = account.positions.get(market, (0,))[0]
            if lots and contract.settle == symbol:
                value += lots * self.lot_value[market]
        return value + self.cash(account, symbol)

    def of_money(self, symbol: str, quanta: float) -> float:
        """What balance and profit in another asset than settle count for (Net equity)."""
        value = quanta * self.of_asset(symbol).price
        return value * self.of_asset(symbol).counted(quanta) if quanta > 0.0 else value

    def effect(self, account: Account, symbol: str, lots: int, value: float, fee: float) -> tuple:
        """`loss` and `relief` of lots of an inverse market, or of one that settles in another asset (3 Book)."""
        settle, price, required = self.venue.markets[symbol].settle, self.lot[symbol], self.required[symbol]
        (held, cost, _), (free, lent) = account.positions[symbol], account.balances[settle]
        size, released, gone = abs(held), cost * (lots / abs(held)), lots * self.lot_value[symbol]
        flow, gone = (value, gone) if held > 0 else (-value, -gone)
        after = free + (flow - fee * abs(value) - released)
        relief = required(size * price) - required((size - lots) * price)
        if settle == self.venue.settle:
            equity, margin = self.of_settle(float(free), lent)
            equity_after, margin_after = self.of_settle(after, lent)
            return equity - equity_after + (gone - released), relief - (margin_after - margin)
        asset, profit = self.of_asset(settle), self.profit(account, settle)
        equities, margins = [], []
        for balance, gain in ((float(free), profit), (after, profit - (gone - released))):
            owed = max(-balance, 0.0) * asset.price
            equities.append(self.of_money(settle, max(balance, 0.0) + lent + gain) - owed)
            margins.append(asset.required(owed) if owed else 0.0)
        return equities[0] - equities[1], relief - (margins[1] - margins[0])

    def initial(self, account: Account) -> float:
        """The initial margin of an account."""
        limit, total, exposure = account.leverage_limit, 0.0, 0.0
        fraction = 0.0 if limit is None else float(1 / limit)
        for symbol, (free, _) in account.balances.items():
            if free < 0:
                asset = self.of_asset(symbol)
                notional = -free * asset.price
                total += asset.initially_required(notional)
                exposure += notional
        for symbol, (lots, _, _) in account.positions.items():
            worst = account.worst_case(symbol, lots)
            if worst != 0:
                notional = worst * self.lot[symbol]
                total += max(self.initially_required[symbol](notional), notional * fraction)
                exposure += notional
        return max(total, exposure * fraction)

    def in_book(self, sums: Sums) -> bool:
        """Whether an account is liquidating and not below auto-close, by float64 alone."""
        equity, exposure, maintenance, _ = sums
        if exposure == 0.0 or maintenance < equity:
            return False
        return equity > 0.0 and max(maintenance / self.divisor, maintenance - self.offset * exposure) <= equity

    def swept(self, sums: Sums, exact: Margin) -> Swept:
        """The figures of an account at the sweep."""
        equity, exposure, maintenance, gross = sums
        band, healthy = DOUBT * gross, exposure == 0.0 or maintenance < equity
        doubt = exposure > 0.0 and abs(maintenance - equity) <= band
        if not healthy:
            auto_close = max(maintenance / self.divisor, maintenance - self.offset * exposure)
            doubt = doubt or abs(auto_close - equity) <= band or abs(equity) <= band
        equity, exposure, maintenance = (amount / self.per_unit for amount in (equity, exposure, maintenance))
        if doubt:
            equity, maintenance = float(exact.net_equity), float(exact.maintenance_margin)
        mmr = Sums(equity, exposure, maintenance, gross).ratio
        mmr = max(mmr, 1.0) if exact.liquidating else min(mmr, math.nextafter(1.0, 0.0))
        return Swept(equity, exposure, maintenance, mmr)


@dataclass(frozen=True)
class AssetFigures:
    """Figures of an asset at its price."""

    price: float  # of a quantum, in quanta of settle
    size: float  # what a quantum adds to the size that the haircut goes by
    weight: float
    base: float
    penalty: float
    required: Requirement  # of a borrow
    initially_required: Requirement

    @classmethod
    def of(cls, venue: Venue, symbol: str, prices: Prices, unit: float) -> AssetFigures:
        """The figures of an asset."""
        asset, price = venue.assets[symbol], float(prices.of_asset(venue, symbol))
        size = float(asset.quantum) * (price if venue.haircut_size_unit == "notional" else 1.0)
        base, penalty = (INFINITY, 0.0) if asset.is_identity else (float(asset.base), float(asset.penalty))
        rows = maintenance_row(asset.row, asset.default_base), initial_row(asset.row, asset.default_base)
        required = (Requirement.of(row, unit, price, None) for row in rows)
        value = price * float(asset.quantum / venue.settle_quantum)
        return cls(value, size, float(asset.weight), base, penalty, *required)

    def counted(self, quanta: float) -> float:
        """The weight of collateral."""
        if self.penalty == 0.0 and self.base == INFINITY:
            return self.weight
        return min(self.weight, self.base / (1.0 + self.penalty * math.sqrt(quanta * self.size)))

    @property
    def is_plain(self) -> bool:
        """Whether collateral counts in full whatever its size."""
        return self.weight == 1.0 and self.penalty == 0.0 and self.base >= 1.0
