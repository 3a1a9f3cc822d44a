"""The context of a tick: the state that its phases share and change."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .boundary import units
from .margin import exact, model_of
from .market import Prices
from .record import Journal
from .state import Accounts, Ledger, Pools
from .venue import Venue


class _Values:
    """Values of quanta at the prices of a tick, each computed once."""

    def __init__(self, _prices: Prices) -> None:
        self.of_quantum: dict[int, Fraction] = {}
        self.of_conversion: dict[tuple[int, int], tuple[Fraction, float]] = {}


@dataclass(frozen=True)
class TickContext:
    """The state and prices that the phases of a tick share; ``pools`` limits redeeming and borrowing."""

    venue: Venue
    accounts: Accounts
    prices: Prices
    ledger: Ledger
    journal: Journal
    pools: Pools

    def quantum_value(self, asset: int) -> Fraction:
        """Value of a quantum of an asset at the tick's price, settle units, exactly."""
        values = self.prices.folded(_Values).of_quantum
        if asset not in values:
            values[asset] = units.exact(self.prices.asset[asset]) * self.venue.assets.quantum[asset]
        return values[asset]

    def conversion(self, asset: int, money: int) -> tuple[Fraction, float]:
        """Quanta of another asset that a quantum of an asset is worth at the tick's prices, exactly, and the price."""
        values = self.prices.folded(_Values).of_conversion
        if (asset, money) not in values:
            price = units.exact(self.prices.asset[asset]) / units.exact(self.prices.asset[money])
            values[asset, money] = (self.quantum_value(asset) / self.quantum_value(money), float(price))
        return values[asset, money]

    def margin(self, account: int) -> exact.ExactMargin:
        """Exact margin of an account in its current state; for one account this is faster than a kernel call."""
        return model_of(self.venue).account(self.accounts, account, self.prices)
