"""One tick: selection, and the phases in their order."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from .account_margin import SweptMargins
from .accrual import Accrual
from .backstop import Backstop
from .book import Book
from .close_out import CloseOut
from .guards import Guards
from .last_book import LastBook
from .numbers import whole
from .prices import Prices
from .repay import Repay
from .settlement import Settlement
from .state import State
from .throttle import account_key, mix
from .venue import Venue


class Tick(Guards, Accrual, Settlement, Repay, Book, Backstop, LastBook, CloseOut):
    """One tick: selection, and the phases in their order."""

    def between_ticks(self) -> None:
        """Between the ticks."""
        accounts, money = self.state.accounts, self.venue.money
        debts = {asset: {account_id: self.debt(account_id, asset) for account_id in accounts} for asset in money}
        instants = [self.interest(), self.funding(), self.realisation()]
        if any(instants):
            for asset in money:
                self.settlement(asset, debts[asset])
        self.premiums()

    def select(self) -> None:
        """Select."""
        self.swept = copy.deepcopy(self.state.accounts)
        self.start_margins = SweptMargins(self.venue, self.swept, self.prices)
        liquidating = [account_id for account_id in self.swept if self.start_margins.is_liquidating(account_id)]
        self.keys = {account_id: account_key(self.seed, self.start.ticks, account_id) for account_id in liquidating}
        self.put_in_order()

    def put_in_order(self) -> None:
        """The order of the selected accounts, and their rows (Select)."""
        if self.venue.policy["account_order"] == "random":
            self.selected = sorted(self.keys, key=lambda account_id: mix(self.keys[account_id]))
        else:
            self.selected = sorted(self.keys, key=lambda account_id: self.swept_figures(account_id).mmr, reverse=True)
        self.first_row = len(self.rows)
        for account_id in self.selected:
            self.record("trigger", "mmr", account_id)

    def cancel(self) -> None:
        """1 Cancel."""
        for account_id in self.selected:
            for o in self.state.accounts[account_id].orders:
                self.record("cancel", "liquidation", account_id, market=o.market, order=o.index, requested=o.lots)

    def phases(self) -> None:
        """The phases: 2 Repay with the slices if `book` is the first stage, else before all stages (Stages)."""
        stages, rounds = self.venue.policy["stages"], range(whole(self.venue.policy["slices_per_tick"]))
        self.cancel()
        for round_ in rounds:
            self.repay(round_)
            if stages[0] == "book":
                self.book(round_)
        self.after_book = stages[0] == "book"
        for place, stage in enumerate(stages):
            if stage == "book" and place > 0:
                for round_ in rounds:
                    self.book(round_)
                self.after_book = True
            elif stage == "backstop":
                self.backstop()
            elif stage == "adl":
                self.lends()
                self.deleverage()
        if "adl" not in stages:
            self.lends()
        self.last_book()
        self.close_out()
        self.name_what_remains()


@dataclass(frozen=True)
class Seen:
    """What a tick saw besides its rows."""

    prices: Prices  # guarded


def guarded(
    venue: Venue,
    state: State,
    time_ns: int,
    marks,
    books,
    indexes=None,
    asset_prices=None,
    open_interest=None,
    funding_rates=None,
    last_prices=None,
    book_times=None,
) -> Prices:
    """The prices that a tick would use; the state given is not changed (Guards)."""
    tick = Tick(venue, state, time_ns, Prices(marks, indexes, asset_prices, open_interest, funding_rates), seed=0)
    tick.guards(books or {}, last_prices, book_times)
    return tick.prices


def step(
    venue: Venue,
    state: State,
    time_ns: int,
    marks,
    books,
    indexes=None,
    asset_prices=None,
    open_interest=None,
    funding_rates=None,
    last_prices=None,
    book_times=None,
    seed=0,
):
    """One tick: the state after it, the rows of its journal, and what it saw. The state given is not changed.

    books = {symbol: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units;
    book_times = {symbol: ns}. A tick that is refused is a ValueError.
    """
    prices = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    tick = Tick(venue, state, time_ns, prices, seed)
    tick.clocks()
    tick.guards(books or {}, last_prices, book_times)
    tick.state.time_ns, tick.state.ticks = time_ns, state.ticks + 1
    tick.between_ticks()
    tick.select()
    tick.phases()
    return tick.state, tick.rows, Seen(tick.prices)
