"""The prices of a tick."""

from __future__ import annotations

import copy
from fractions import Fraction

from .numbers import number
from .state import State
from .venue import Venue


def known(prices) -> dict:
    """Those of the prices that the tick has: not None, not NaN."""
    return {symbol: number(x) for symbol, x in (prices or {}).items() if x is not None and x == x}


class Prices:
    """What a tick knows: a mark per market, and perhaps more of a market, and a price per asset (Prices)."""

    def __init__(self, marks, indexes=None, asset_prices=None, open_interest=None, funding_rates=None):
        self.marks, self.indexes, self.asset_prices = known(marks), known(indexes), known(asset_prices)
        self.open_interest, self.funding_rates = known(open_interest), known(funding_rates)

    def at(self, venue: Venue, state: State) -> Prices:
        """These prices, with the open interest of the state where the tick gives none (Margin of an account)."""
        new = copy.copy(self)
        accounts = state.accounts.values()
        new.open_interest = {}
        for symbol, market in venue.markets.items():
            held = [account.positions[symbol][0] for account in accounts if symbol in account.positions]
            larger = max(sum(max(lots, 0) for lots in held), sum(max(-lots, 0) for lots in held))
            new.open_interest[symbol] = self.open_interest.get(symbol, larger * market.step_size)
        return new

    def in_float64(self) -> Prices:
        """These prices in float64."""
        new = copy.copy(self)
        for name in ("marks", "indexes", "asset_prices", "open_interest"):
            setattr(new, name, {symbol: float(x) for symbol, x in getattr(self, name).items()})
        return new

    def of_asset(self, venue: Venue, asset: str) -> Fraction:
        """1 for the settle asset, else the tick's price, else the index (or mark) of a market (Prices)."""
        price = self.if_known(venue, asset)
        if price is None:
            raise ValueError(f"no price of {asset}")
        return price

    def if_known(self, venue: Venue, asset: str) -> Fraction | None:
        """The price of an asset, None without any."""
        if asset == venue.settle:
            return Fraction(1)
        prices = {None: 1, venue.settle: 1, **self.asset_prices}  # None: quoted in the unit of account
        for market in venue.markets.values():
            if asset in prices:
                break
            if market.symbol in self.marks and market.quote in prices and market.base_symbol not in prices:
                price = self.indexes.get(market.symbol, self.marks[market.symbol])
                prices[market.base_symbol] = number(float(price) * float(prices[market.quote]))
        return prices.get(asset)

    def of_quantum(self, venue: Venue, asset: str, settle: str | None = None) -> Fraction:
        """`p * quantum_a / quantum_settle`: an asset's quantum in quanta of the settle asset, or another (2 Repay)."""
        settle = settle or venue.settle
        ratio = self.of_asset(venue, asset) / self.of_asset(venue, settle)
        return ratio * venue.assets[asset].quantum / venue.assets[settle].quantum

    def of_lot(self, venue: Venue, market: str) -> Fraction:
        """`v`: the notional of a lot in the unit of account (Margin of an account)."""
        return abs(self.value_of_lot(venue, market))

    def value_of_lot(self, venue: Venue, market: str) -> Fraction:
        """The signed value of a lot in the unit of account (Contracts)."""
        contract = venue.markets[market]
        return contract.lot_value(self.marks[market]) * self.of_asset(venue, contract.settle)

    def of_token(self, venue: Venue, market: str) -> Fraction:
        """The price that makes a token quantity of a notional: of the base, or of the coin (Margin functions)."""
        contract = venue.markets[market]
        price = self.of_asset(venue, contract.settle)
        return price if contract.is_inverse else self.marks[market] * price

    def of_open_interest(self, venue: Venue, market: str):
        """`OI` of a market, None as long as it is not known (Margin of an account)."""
        if market not in self.open_interest:
            return None
        return self.open_interest[market] / venue.markets[market].step_size * self.of_lot(venue, market)
