"""Books that belong to a host: what the stages would fill in them is proposed, and nothing is filled (Host mode)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from .book import Book
from .journal import QUIET
from .last_book import LastBook
from .state import Proposal

COPIED = ("book_lots", "book_quanta", "fund", "last_slice", "sold")  # ledgers that a fill in a book changes
FORGOTTEN = ("filled", "known", "known_sums")  # what a tick remembers of its fills


class HostBook(Book, LastBook):
    """The stages that fill in a book: on a copy of the accounts and the books where these belong to a host."""

    def slices(self, round_: int) -> None:
        """3 Book; of a host's books only the first round."""
        if not self.state.book_of_host:
            self.book(round_)
        elif round_ == 0:
            self.propose(lambda: self.book(0))

    def rest(self) -> None:
        """Last book."""
        if self.state.book_of_host:
            self.propose(self.last_book)
        else:
            self.last_book()

    def propose(self, trade: Callable[[], None]) -> None:
        """Make the trades of a stage on a copy, and keep its rows: those of fills as proposals (Host mode)."""
        state, first, self.taken = self.state, len(self.rows), []
        remembered = {name: dict(getattr(self, name)) for name in FORGOTTEN}
        self.state = copy.copy(state)
        self.state.accounts = {one: copy.deepcopy(state.accounts[one]) for one in self.selected}
        for name in COPIED:
            setattr(self.state, name, dict(getattr(state, name)))
        trade()
        self.state = state
        for name, before in remembered.items():
            setattr(self, name, before)
        is_refilled = self.venue.policy["refill_half_life"] is not None
        for level, lots in self.taken:
            level[1] += lots
            level[2][2] -= lots if is_refilled else 0
        self.rows[first:] = [self.proposed(row) for row in self.rows[first:]]

    def proposed(self, row: dict) -> dict:
        """The row of a proposal for that of a fill; any other row as it is."""
        if row["event"] not in ("book", "market_close"):
            return row
        account_id, symbol, lots = row["account"], row["market"], row["lots"]
        ticks = self.limits[symbol, "asks" if lots > 0 else "bids"].price
        limit = None if ticks is None else ticks * self.venue.markets[symbol].tick_size
        rate = self.fill_rates[account_id, symbol]
        self.state.proposals[account_id, symbol] = Proposal(row["event"], lots, limit, rate)
        changes = {"event": "propose", "market": symbol, "requested": abs(lots)}
        return row | QUIET | changes | {"price": math.nan if limit is None else float(limit)}
