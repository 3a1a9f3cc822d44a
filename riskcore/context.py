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
        return units.exact(self.prices.asset[asset]) * self.venue.assets.quantum[asset]

    def margin(self, account: int) -> exact.ExactMargin:
        """Exact margin of an account in its current state; for one account this is faster than a kernel call."""
        return model_of(self.venue).account(self.accounts, account, self.prices)
