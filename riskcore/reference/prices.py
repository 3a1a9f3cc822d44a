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

    def of_asset(self, venue: Venue, asset: str, derived=()) -> Fraction:
        """1 for the settle asset, else the tick's price, else the index (or mark) of its first market (Prices).

        The price of a market is one in its quote asset, of which the price is found likewise; `derived`: the assets
        whose prices need this one.
        """
        if asset == venue.settle:
            return Fraction(1)
        if asset in self.asset_prices:
            return self.asset_prices[asset]
        based = [m for m in venue.markets.values() if m.base_symbol == asset and m.symbol in self.marks]
        if not based or asset in derived:
            raise ValueError(f"no price of {asset}")
        price, quote = self.indexes.get(based[0].symbol, self.marks[based[0].symbol]), based[0].quote
        return price if quote is None else price * self.of_asset(venue, quote, (*derived, asset))

    def if_known(self, venue: Venue, asset: str) -> Fraction | None:
        """The price of an asset, None without any."""
        try:
            return self.of_asset(venue, asset)
        except ValueError:
            return None

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
