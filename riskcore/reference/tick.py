"""One tick: selection, and the phases in their order."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

from .account_margin import SweptMargins, gross
from .accrual import Accrual
from .adl import Deleveraging
from .backstop import Backstop
from .book import Book
from .close_out import CloseOut
from .guards import Guards
from .numbers import INFINITY, ROUNDING, descending, whole
from .prices import Prices
from .repay import Repay
from .settlement import Settlement
from .state import State
from .throttle import account_key, mix
from .venue import Venue


class Tick(Guards, Accrual, Settlement, Repay, Book, Backstop, Deleveraging, CloseOut):
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

    def select(self, recorded_order=None) -> None:
        """Select; `recorded_order` decides where the float64 of the rule leaves the order of accounts open."""
        self.swept = copy.deepcopy(self.state.accounts)
        self.start_margins = SweptMargins(self.venue, self.swept, self.prices)
        liquidating = [account_id for account_id in self.swept if self.start_margins.is_liquidating(account_id)]
        self.keys = {account_id: account_key(self.seed, self.start.ticks, account_id) for account_id in liquidating}
        if self.venue.policy["account_order"] == "random":
            self.selected = sorted(liquidating, key=lambda account_id: mix(self.keys[account_id]))
        else:
            self.selected = descending(liquidating, lambda account_id: self.start_margins[account_id].mmr)
            pairs = self.pairs_in_doubt()
            self.doubts += ["order of the accounts"] * len(pairs)
            if recorded_order is not None:
                self.take_order(recorded_order, pairs)
        for account_id in self.selected:
            self.record("trigger", "mmr", account_id)

    def pairs_in_doubt(self) -> set:
        """Pairs of selected accounts that the sweep's float64 could order otherwise; equal holdings give equal bits."""
        looks = {account_id: self.start_margins[account_id] for account_id in self.selected}
        looks = {account_id: look for account_id, look in looks.items() if look.mmr != INFINITY}
        amounts = {account_id: gross(self.venue, self.swept[account_id], self.prices) for account_id in looks}
        pairs = set()
        for one, other in itertools.combinations(looks, 2):
            if self.swept[one] != self.swept[other]:
                width = max(amounts[one], amounts[other]) / min(looks[one].net_equity, looks[other].net_equity)
                larger, smaller = looks[one].mmr, looks[other].mmr
                if larger - smaller <= ROUNDING * width * larger:
                    pairs.add(frozenset((one, other)))
        return pairs

    def take_order(self, recorded_order, pairs) -> None:
        """Take the recorded order of the accounts if it differs in pairs alone that float64 could order otherwise."""
        if recorded_order == self.selected or set(recorded_order) != set(self.selected):
            return
        ranks = {account_id: rank for rank, account_id in enumerate(self.selected)}
        inverted = (pair for pair in itertools.combinations(recorded_order, 2) if ranks[pair[0]] > ranks[pair[1]])
        if len(recorded_order) == len(self.selected) and all(frozenset(pair) in pairs for pair in inverted):
            self.selected, self.took_order = recorded_order, True

    def cancel(self) -> None:
        """1 Cancel."""
        for account_id in self.selected:
            for o in self.state.accounts[account_id].orders:
                self.record("cancel", "liquidation", account_id, market=o.market, order=o.index, requested=o.lots)

    def repay_and_book(self) -> None:
        """2 Repay and 3 Book, in rounds."""
        for round_ in range(whole(self.venue.policy["slices_per_tick"])):
            self.repay(round_)
            self.book(round_)


@dataclass(frozen=True)
class Seen:
    """What a tick saw besides its rows."""

    prices: Prices  # guarded
    doubts: list  # where float64 could decide otherwise than the exact model
    took_order: bool  # whether the order of the accounts is the recorded one, another than that of the exact MMRs


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
    recorded_order=None,
):
    """One tick: the state after it, the rows of its journal, and what it saw. The state given is not changed.

    books = {symbol: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units;
    book_times = {symbol: ns}; recorded_order: the selected accounts as a run ordered them by float64, which is taken
    where it differs only in MMRs that float64 cannot tell apart (Select). A tick that is refused is a ValueError.
    """
    prices = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    tick = Tick(venue, state, time_ns, prices, seed)
    tick.clocks()
    tick.guards(books or {}, last_prices, book_times)
    tick.state.time_ns, tick.state.ticks = time_ns, state.ticks + 1
    tick.between_ticks()
    tick.select(recorded_order)
    tick.cancel()
    tick.repay_and_book()
    tick.backstop()
    tick.deleverage()
    tick.close_out()
    return tick.state, tick.rows, Seen(tick.prices, tick.doubts, tick.took_order)
