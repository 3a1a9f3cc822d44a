"""What the phases of one tick share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .. import exact
from ..accounts import Accounts
from ..journal import Journal, Ledger
from ..kernels import margin as kernels
from ..kernels.whole import cost_change
from ..margin import MarginTable
from ..pools import Pools
from ..tick import Books, Prices
from ..venue import Venue


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


@dataclass(frozen=True)
class TickState(TickContext):
    """The state that a tick's liquidation works on, and what it was when its accounts were selected.

    ``selected`` holds the liquidating accounts in the order of treatment; ``table`` is the sweep that selected them,
    ``lots`` and ``entry`` the position columns at that moment.
    """

    books: Books
    table: MarginTable
    selected: npt.NDArray[np.int64]
    lots: npt.NDArray[np.int64]
    entry: npt.NDArray[np.int64]

    def statuses(self) -> npt.NDArray[np.uint8]:
        """Where each selected account stands now."""
        status = np.empty(len(self.selected), np.uint8)
        kernels.account_statuses(self.selected, self.accounts.columns, self.prices.columns, status)
        for n in np.flatnonzero(status == kernels.DOUBT):
            status[n] = self.margin(int(self.selected[n])).status
        return status

    def below_auto_close(self) -> Iterator[int]:
        """Selected accounts that are now below the auto-close fraction and hold a position, in order."""
        for n in np.flatnonzero(self.statuses() == kernels.BELOW_AUTO_CLOSE):
            account = int(self.selected[n])
            rows = self.accounts.positions_of(account)
            if self.accounts.columns.lots[rows.start : rows.stop].any():
                yield account

    def add_cash(self, account: int, quanta: int) -> None:
        """Add to the free settle balance of an account."""
        columns = self.accounts.columns
        columns.free[columns.settle_row[account]] += quanta

    def change_position(self, row: int, account: int, change: int, flow: int) -> tuple[int, int, int]:
        """Change a position by lots against money received; return the changes of cost, cash and entry."""
        columns = self.accounts.columns
        lots = int(columns.lots[row])
        cost = int(cost_change(lots, int(columns.cost[row]), change, flow))
        entry = int(cost_change(lots, int(columns.entry[row]), change, flow))
        columns.lots[row] += change
        columns.cost[row] += cost
        columns.entry[row] += entry
        columns.account_cost[account] += cost
        self.add_cash(account, flow + cost)
        return cost, flow + cost, entry

    def transfer(
        self, event: str, reason: str, account: int, row: int, counterparty: int, lots: int, size: int, flow: int,
        to_fund: int = 0,
    ) -> None:  # fmt: skip
        """Move ``lots`` of a position row to a counterparty account, off the book, and write the row.

        ``flow`` is the money the account receives, ``to_fund`` what the counterparty pays on top; ``size`` is the
        position that was to be handed over.
        """
        market = int(self.accounts.columns.market[row])
        before = self.margin(account).mmr
        cost, cash, entry = self.change_position(row, account, -lots, flow)
        other = self.accounts.position_row(counterparty, market)
        counter_cost, counter_cash, counter_entry = self.change_position(other, counterparty, lots, -flow - to_fund)
        self.ledger.fund += to_fund
        price = flow * float(self.venue.settle_quantum) / (lots * float(self.venue.markets.step_size[market]))
        self.journal.add(
            event, reason, account, before, self.margin(account).mmr, counterparty=counterparty, market=market,
            requested=size, lots=-lots, cost=cost, cash=cash, entry=entry, counter_cost=counter_cost,
            counter_cash=counter_cash, counter_entry=counter_entry, fund=to_fund, price=price,
        )  # fmt: skip


class Instalments:
    """Splits a whole amount over a whole number of lots so that the parts add up to it exactly."""

    def __init__(self, amount: int, lots: int) -> None:
        self.amount, self.lots, self._done, self._paid = amount, lots, 0, 0

    def next(self, lots: int) -> int:
        """Part of the amount that goes with the next ``lots``."""
        self._done += lots
        due = round(Fraction(self.amount * self._done, self.lots))
        part, self._paid = due - self._paid, due
        return part
