"""What all phases of a tick share that change the state."""

from __future__ import annotations

from dataclasses import dataclass

from .margin import exact
from .market import Prices
from .record import Journal
from .state import Accounts, Ledger, Pools
from .venue import Venue


@dataclass(frozen=True)
class TickContext:
    """What everything shares that changes the state in a tick; ``pools`` says what can be redeemed and borrowed."""

    venue: Venue
    accounts: Accounts
    prices: Prices
    ledger: Ledger
    journal: Journal
    pools: Pools

    def margin(self, account: int) -> exact.ExactMargin:
        """Margin of an account as it is now, exactly; for one account that is also faster than a kernel call."""
        return exact.account_margin(self.accounts, account, self.prices)
