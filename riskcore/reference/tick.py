"""One tick: selection, and the phases in their order."""

from __future__ import annotations

import copy
import operator
from bisect import bisect_right
from dataclasses import dataclass

from .account_margin import SweptMargins
from .accrual import Accrual
from .backstop import Backstop
from .clock import due_periods, new_intervals
from .close_out import CloseOut
from .events import Events, Scheduled
from .guards import Guards
from .host_book import HostBook
from .numbers import INFINITY, SECOND, rhe, whole
from .path import Point, path
from .price_updates import WINDOW
from .prices import Prices, known
from .repay import Repay
from .settlement import Settlement
from .state import State, in_order
from .throttle import account_key, mix
from .tick_state import UNCHANGING
from .venue import Venue


class Tick(Events, Guards, Accrual, Settlement, Repay, HostBook, Backstop, CloseOut):
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
        self.start_margins = SweptMargins(self.venue, self.state.accounts, self.prices)
        liquidating = [one for one in self.state.accounts if self.start_margins.is_liquidating(one)]
        self.keys = {account_id: account_key(self.seed, self.time_ns, account_id) for account_id in liquidating}
        if liquidating:
            self.swept = self.start_margins.accounts = copy.deepcopy(self.state.accounts)

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
            for o in in_order(self.state.accounts[account_id].orders, list(self.venue.markets)):
                self.record("cancel", "liquidation", account_id, market=o.market, order=o.index, requested=o.lots)

    def waterfall(self) -> None:
        """The phases: 2 Repay with the slices if `book` is the first stage, else before all stages (Stages)."""
        stages, rounds = self.venue.policy["stages"], range(whole(self.venue.policy["slices_per_tick"]))
        self.cancel()
        for round_ in rounds:
            self.repay(round_)
            if stages[0] == "book":
                self.slices(round_)
        self.after_book = stages[0] == "book"
        for place, stage in enumerate(stages):
            if stage == "book" and place > 0:
                for round_ in rounds:
                    self.slices(round_)
                self.after_book = True
            elif stage == "backstop":
                self.backstop()
            elif stage == "adl":
                self.lends()
                self.deleverage()
        if "adl" not in stages:
            self.lends()
        self.rest()
        self.close_out()
        self.name_what_remains()

    def phases(self) -> None:
        """The phases, and what the next instants remember of them (The phases; Instants that are left out)."""
        self.state.proposals = {}
        self.put_in_order()
        self.waterfall()
        self.state.decided = self.time_ns
        self.state.is_quiet = not any(
            row["event"] not in UNCHANGING or row["event"] == "skip" for row in self.rows[self.first_row :]
        )

    def decide_tick(self, books, last_prices, book_times, held) -> None:
        """The whole tick at its own time."""
        self.clocks()
        self.guards(books, last_prices, book_times, held)
        self.between_ticks()
        self.select()
        self.phases()
        self.state.time_ns, self.state.ticks = self.time_ns, self.number + 1

    def decide_between(self, point: Point) -> None:
        """An instant in between (The clock)."""
        self.clocks()
        self.guards_between(point)
        if self.is_left_out(point):
            self.premiums()
        else:
            self.between_ticks()
            self.select()
            if self.keys:
                self.refill_consumed()
                self.open_books(moved=self.moves())
            self.phases()
        self.state.time_ns = self.time_ns

    def is_left_out(self, point: Point) -> bool:
        """Whether nothing can happen at an instant in between (Instants that are left out)."""
        state = self.state
        changes = point.is_update or self.has_events or any(self.instants(period) for period in due_periods(self.venue))
        begun = new_intervals(self.venue, state.decided, self.time_ns)
        refills = self.venue.policy["refill_half_life"] is not None and bool(self.consumed_levels())
        return not changes and state.is_quiet and not refills and not begun

    def moves(self) -> dict:
        """Ticks by which the levels of the perpetuals have moved since the tick before (Books in between)."""
        before, marks = self.state.prices.marks, self.prices.marks
        return {
            symbol: rhe((mark - before[symbol]) / self.venue.markets[symbol].tick_size)
            for symbol, mark in marks.items()
            if symbol in before
        }


@dataclass(frozen=True)
class Seen:
    """What a tick saw besides its rows."""

    prices: Prices  # guarded, of the tick
    by_time: dict  # the same of every instant
    venues: dict  # the venue at every instant


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
    """The prices that a tick would use, without instants before it; the state given is not changed (Guards)."""
    prices = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    tick = Tick(state.venue or venue, copy.deepcopy(state), time_ns, prices, seed=0)
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
    lows=None,
    highs=None,
    seed=0,
    funding=(),
    venue_changes=(),
):
    """One tick: the state after it, the rows of its journal, and what it saw. The state given is not changed.

    books = {symbol: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units;
    book_times = {symbol: ns}; lows and highs: the bars by symbol; funding = [{"time", "market", "rate"}, ...];
    venue_changes = [{"time", "market" or "asset", "field", "value"}, ...]. A tick that is refused is a ValueError.
    """
    if time_ns < state.acted:
        raise ValueError("the tick is before the last action")
    before, state, rows, seen, venues, venue = state.accounts, copy.deepcopy(state), [], {}, {}, state.venue or venue
    given = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    bars = checked_bars(known(lows), known(highs), given.marks)
    scheduled = Scheduled(venue, state, time_ns, funding, venue_changes, given.funding_rates)
    times = scheduled.instants_between() if state.ticks > 0 else []
    points = path(venue, state, times, time_ns, given, bars, seed)
    if not have_prices(scheduled, state, times, points):
        points = []
    held = Prices({}, open_interest=state.open_interest).at(venue, state).open_interest
    rates = scheduled.rates_due(given.funding_rates, times[: len(points)])
    for time, point in zip(times, points, strict=False):
        prices = Prices({}, {}, None, held, rates.get(time))
        instant = Tick(scheduled.venue_at(time), state, time, prices, seed)
        instant.happen(scheduled)
        instant.decide_between(point.without(state.delisted))
        rows += instant.rows
        seen[time] = instant.prices
        venues[time] = instant.venue
    given.funding_rates = rates.get(time_ns, {})
    tick = Tick(scheduled.last_venue, state, time_ns, given, seed)
    tick.happen(scheduled)
    tick.decide_tick(books or {}, last_prices, book_times, before)
    forget_samples(state)
    return state, rows + tick.rows, Seen(tick.prices, seen | {time_ns: tick.prices}, venues | {time_ns: tick.venue})


def checked_bars(lows: dict, highs: dict, marks: dict) -> dict:
    """Low and high of the markets that have a bar; it must hold the mark (Prices in between)."""
    for symbol in lows.keys() | highs.keys():
        if symbol not in marks or not lows.get(symbol, INFINITY) <= marks[symbol] <= highs.get(symbol, -INFINITY):
            raise ValueError(f"{symbol}: low, mark and high must be given, in this order")
    return {symbol: (float(low), float(highs[symbol])) for symbol, low in lows.items()}


def have_prices(scheduled: Scheduled, state: State, times: list[int], points: list[Point]) -> bool:
    """Whether all that is held before the tick has a price at every instant in between (Instants)."""
    checked = None
    for time, point in zip(times, points, strict=True):
        gone = scheduled.delisted_by(time)
        if gone != checked:  # nothing else takes a price away
            listed = point.without(gone)
            prices = Prices(listed.marks, listed.indexes, listed.assets)
            try:
                Tick(scheduled.venue_at(time), state, state.time_ns, prices, seed=0).check_held(state.accounts, gone)
            except ValueError:
                return False
        checked = gone
    return True


def forget_samples(state: State) -> None:
    """Forget the used prices that no later window of samples can contain (Samples)."""
    for memory in (*state.guard_states.values(), *state.asset_states.values()):
        used, first = memory.used, state.time_ns - WINDOW * SECOND
        old = bisect_right(used, first, key=operator.itemgetter(0))
        del used[: max(old - 1, 0)]
