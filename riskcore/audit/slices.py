"""Phase 3: slices of positions go to the recorded books, in the sizes and the order that the policy sets.

Between slices float64 alone decides in the engine. Where a figure lies so near to the edge that another way to add up
the same amounts may fall on the other side, the row on record tells which side was taken.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .books import Books, Quote, Side
from .cursor import DOUBT, Cursor
from .folder import SLICES, Row
from .margins import Margin
from .shares import split
from .throttle import Throttle

_BANDS = {"impact", "mean_mark", "mean_premium", "limit"}
_EVENTS = "skip harm book expire"


class _Unit(NamedTuple):
    """A lot of a market at the mark of a tick."""

    quanta: Fraction
    value: float  # settle units
    capped: int  # whole quanta, as the caps count it
    least: int  # lots of the smallest slice


class _Slice(NamedTuple):
    """The slice of policy size of a position."""

    account: int
    position: int
    market: int
    size: int  # lots of the position
    side: Side
    wanted: int


class _Plan(NamedTuple):
    """Fill that a slice of policy size would get, by itself or in a pass, and its effect on the account."""

    slice: _Slice
    lots: int
    levels: Sequence[tuple[float, int]]  # price in ticks and lots
    value: float  # quanta
    loss: float  # with the full fee
    relief: float
    gross: float  # amounts that loss and relief are small differences of

    def slack(self) -> tuple[float, float]:
        """Errors of loss and relief."""
        return DOUBT * (self.value + self.gross), DOUBT * self.gross


class _Rank(NamedTuple):
    """Key of a position in the order, as its least and its most, and the market."""

    low: float
    high: float
    market: int
    position: int


@dataclass
class _PositionQueue:
    """The positions of an account that are not sliced yet in a round, and the deficit to the target that they share."""

    ranks: list[_Rank]
    deficit: float = 0.0
    shares: dict[int, float] = field(default_factory=dict)


class _Offer(NamedTuple):
    """A slice as it was sized: the sizes and the fee rates that it may have."""

    slice: _Slice
    choices: list[tuple[Fraction, int, int]]  # fee rate, with the least and the most lots


class Slices:
    """The positions of the selected accounts, round after round, each row computed again."""

    def __init__(self, cursor: Cursor, books: Books, throttle: Throttle) -> None:
        self.cursor, self.books, self.throttle = cursor, books, throttle
        self.state, self.venue = cursor.state, cursor.venue
        policy, words = self.venue.policy, self.venue.words
        self.fee, self.part, self.least, self.share = (
            policy[name] for name in ("liquidation_fee", "slice_fraction", "min_slice_notional", "depth_share")
        )
        self.target, self.waived = float(policy["target_mmr"]), float(policy["waived_fee_share"])
        self.market_cap, self.account_cap = self.venue.quanta("market_cap"), self.venue.quanta("account_cap")
        self.interval = max(math.floor(policy["account_cap_interval"] * 10**9), 1)
        self.account_order, self.position_order = words["account_order"], words["position_order"]
        self.harmful = words["harmful_slice"]
        self.sold, self.clock = defaultdict[int, int](int), -1
        """By account, quanta of its cap that its slices used in the running interval."""
        self._quantum = float(self.venue.quantum)
        self.begin()

    def begin(self) -> None:
        """Turn to another tick."""
        self.filled = defaultdict[int, int](int)  # lots by market
        self._units = dict[int, _Unit]()

    def advance(self, time: int) -> None:
        """Begin the account caps anew with every interval."""
        if time // self.interval != self.clock:
            self.clock = time // self.interval
            self.sold.clear()

    def round(self, round_number: int) -> None:
        """Follow the phase through one round."""
        if self.account_order == "pro_rata":
            self._passes(round_number)
            return
        for account in self.cursor.order:
            if self._participates(account):
                queue = self._begin(account)
                while (rank := self._pick(queue, account)) is not None and self._participates(account, rank.market):
                    if not self._is_left_out(account, rank.position, round_number):
                        self._send(account, rank.position, queue)

    def _participates(self, account: int, market: int | None = None) -> bool:
        """Whether the account may slice now; where float64 leaves doubt, whether it did on record."""
        if account in self.cursor.escalated:
            return False
        participates = self.cursor.slicing(account)
        if participates is None:
            row = self.cursor.next(SLICES)
            participates = row is not None and row.account == account and market in (None, row.market)
        return participates

    # -- the order of positions

    def _begin(self, account: int) -> _PositionQueue:
        """Put the positions of an account in order, and split its deficit to the target."""
        margin, queue = self.cursor.margin(account), _PositionQueue([])
        for p in margin.positions:
            queue.ranks.append(self._rank(account, p, margin))
        if self.position_order == "pro_rata":
            notional = {
                p: abs(self.state.lots[p]) * self._unit(int(self.state.market[p])).value for p in margin.positions
            }
            total = sum(notional.values())
            queue.deficit = (self.target * margin.equity - margin.maintenance) / self._quantum
            queue.shares = {p: value / total if total else 0.0 for p, value in notional.items()}
        return queue

    def _rank(self, account: int, p: int, margin: Margin) -> _Rank:
        market = int(self.state.market[p])
        if self.position_order == "pro_rata":
            return _Rank(0.0, 0.0, market, p)
        if self.position_order == "largest":
            return _Rank(*_single(margin.positions[p], DOUBT), market, p)
        plan = self._plan(*self._alone(account, p))
        if not plan.lots:
            return _Rank(-math.inf, -math.inf, market, p)
        cost, (off_cost, off_relief) = max(plan.loss, 1.0), plan.slack()
        key = plan.relief / cost
        slack = off_cost / cost + (off_relief / abs(plan.relief) if plan.relief else 0.0)
        return _Rank(*_single(key, slack), market, p)

    def _pick(self, queue: _PositionQueue, account: int) -> _Rank | None:
        """Return the next position, where more than one may be next that of the account's next row."""
        if not queue.ranks:
            return None
        bar = max(rank.low for rank in queue.ranks)
        first = [rank for rank in queue.ranks if rank.high >= bar] or queue.ranks[:]
        # ties are by market where the rounded figures are certain
        first.sort(key=lambda rank: rank.market)
        chosen = first[0]
        if any(rank.low != rank.high for rank in first):
            later = self.cursor.rows[self.cursor.index :]
            recorded_market = next((row.market for row in later if row.account == account and row.event in _EVENTS), -1)
            chosen = next((rank for rank in first if rank.market == recorded_market), chosen)
        queue.ranks.remove(chosen)
        return chosen

    # -- the size of a slice

    def _unit(self, market: int) -> _Unit:
        if market not in self._units:
            lot_value = Fraction(self.cursor.tick.unit_value("lot", market))
            quanta = lot_value / self.venue.quantum
            least = math.ceil(self.least / lot_value) if lot_value else 1
            self._units[market] = _Unit(quanta, float(lot_value), max(math.ceil(quanta), 1), max(least, 1))
        return self._units[market]

    def _whole(self, lots: int, size: int, market: int) -> int:
        """Lots of a slice, or the whole position where the rest would be too small."""
        lots = min(lots, size)
        return size if size - lots < self.venue.markets[market].min_lots else lots

    def _rooms(self, account: int | None, market: int, side: Side) -> tuple[int | None, str]:
        """Return the smallest room and its name; without an account, of all but its cap."""
        rooms = list[tuple[int, str]]()
        unit = self._unit(market)
        if account is not None and self.account_cap is not None:
            rooms.append((max(0, self.account_cap - self.sold[account]) // unit.capped, "account_cap"))
        if self.market_cap is not None:
            rooms.append((max(0, self.market_cap // unit.capped - self.filled[market]), "market_cap"))
        if self.share != 1:
            rooms.append((math.floor(self.share * side.depth()), "depth_share"))
        return min(rooms, key=lambda room: room[0]) if rooms else (None, "")

    def _slice(self, account: int, p: int) -> _Slice:
        """Return the slice of policy size of a position as it stands."""
        lots, market = self.state.lots[p], int(self.state.market[p])
        side, size = self.books.side(market, 1 if lots > 0 else -1), abs(lots)
        wanted = self._whole(max(math.floor(size * self.part), self._unit(market).least), size, market)
        return _Slice(account, p, market, size, side, wanted)

    def _alone(self, account: int, p: int) -> tuple[_Slice, Quote]:
        """Return the slice of policy size of a position, and its quote by itself."""
        cut = self._slice(account, p)
        return cut, cut.side.quote(cut.wanted, *self._rooms(account, cut.market, cut.side))

    def _plan(self, cut: _Slice, quote: Quote, lots: int | None = None) -> _Plan:
        """Plan a slice that gets a quote, or a number of its lots at the average price."""
        levels: Sequence[tuple[float, int]] = quote.fills
        share = Fraction(1)
        if lots is not None:
            levels, share = [(quote.value / quote.lots, lots)], Fraction(lots, quote.lots)
        lots = quote.lots if lots is None else lots
        account, _, market, size, *_ = cut
        value = float(quote.value * share * self.venue.markets[market].lot_tick_value)
        balance = abs(self.state.free[self.state.settle[account]])
        gross = self._required(market, size) + value + balance + abs(self.state.cost[cut.position])
        loss, relief = self._effect(account, cut.position, lots, value, float(self.fee))
        return _Plan(cut, lots, levels, value, loss, relief, gross)

    def _effect(self, account: int, p: int, lots: int, value: float, rate: float) -> tuple[float, float]:
        """Net equity that a fill costs the account and maintenance margin that it releases, in quanta."""
        state, tick, market = self.state, self.cursor.tick, int(self.state.market[p])
        lots_held, settle_row = state.lots[p], state.settle[account]
        size, sign = abs(lots_held), 1 if lots_held > 0 else -1
        released = state.cost[p] * (lots / size)
        free, lent = state.free[settle_row], state.lent[settle_row]
        after = free + (sign * value - rate * value - released)
        one, other = (
            state.counted(self.venue.settle, balance, lent, tick, state.floats)[:2] for balance in (free, after)
        )
        gained = (other[0] - one[0]) / self._quantum - sign * lots * float(self._unit(market).quanta) + released
        freed = self._required(market, size) - self._required(market, size - lots)
        return -gained, freed - (other[1] - one[1]) / self._quantum

    def _required(self, market: int, lots: int) -> float:
        """Maintenance margin of lots, in quanta."""
        notional, kind = lots * self._unit(market).value, self.state.floats
        tick = self.cursor.tick
        tokens, interest = lots * tick.unit_value("tokens", market, float), tick.interest(market, float)
        return float(kind.markets[market](notional, tokens, interest)) / self._quantum

    def _is_left_out(self, account: int, p: int, round_number: int) -> bool:
        """Whether a position is left out of a round; its row is followed."""
        cursor, market = self.cursor, int(self.state.market[p])
        reason = "throttle" if self.throttle.leaves_out(account, round_number, market) else ""
        if not reason and not self.throttle.cools(p):
            return False
        row = cursor.expect("throttle", account, "skip", market)
        cursor.equal("throttle", "reason", row, row.reason, reason or "cooldown")
        cursor.apply(row)
        return True

    def _send(self, account: int, p: int, queue: _PositionQueue) -> None:
        """Follow a slice that goes to the book by itself."""
        cut, quote = self._alone(account, p)
        if not quote.lots:
            self._expire(cut, cut.wanted, quote.reason)
        elif (offer := self._size(self._plan(cut, quote), queue)) is not None:
            self._fill(offer)

    def _size(self, plan: _Plan, queue: _PositionQueue) -> _Offer | None:
        """Judge and size a slice, with the row of a harmful one; None if it is not sent."""
        account = plan.slice.account
        rates = self._rates(plan)
        if not rates:
            return None
        margin = self.cursor.margin(account)
        start = (self.target * margin.equity - margin.maintenance) / self._quantum
        if self.position_order == "pro_rata":
            start = queue.deficit * queue.shares[plan.slice.position]
        slack = DOUBT * (1 + self.target) * margin.gross / self._quantum
        choices = []
        for rate in rates:
            sizes = [self._restoring(plan, start + off, float(rate)) for off in (slack, -slack)]
            choices.append((rate, min(sizes), max(sizes)))
        return _Offer(plan.slice, choices)

    def _rates(self, plan: _Plan) -> list[Fraction]:
        """Return the fee rates that a slice may pay, none if it is not sent, and follow its row if it is harmful."""
        cursor, (account, position, market, *_) = self.cursor, plan.slice
        margin = cursor.margin(account)
        equity, maintenance = margin.equity / self._quantum, margin.maintenance / self._quantum
        (off_cost, off_relief), gross = plan.slack(), DOUBT * margin.gross / self._quantum
        harm = plan.loss * maintenance - plan.relief * equity
        slack = off_cost * maintenance + off_relief * abs(equity) + (abs(plan.loss) + abs(plan.relief)) * gross
        recorded = cursor.is_next(account, "harm", market)
        if not (recorded if abs(harm) <= slack else harm > 0):
            return [self.fee]
        row = cursor.expect("book", account, "harm", market)
        cursor.equal("book", "requested", row, row.requested, plan.lots)
        cursor.price(row, plan.value, self.venue.markets[market].lot * plan.lots)
        rates, reasons = [self.fee], ["sent"]
        if self.harmful == "backstop":
            rates, reasons = [], ["to_backstop"]
            cursor.escalated.add(account)
        elif self.harmful == "waive":
            loss, relief = self._effect(account, position, plan.lots, plan.value, 0.0)
            gain = relief * equity / maintenance - loss if maintenance else 0.0
            off = slack / maintenance + off_cost if maintenance else 0.0
            reasons = ["withheld"] * (gain <= off) + ["fee_waived"] * (gain > -off)
            rates = []
            if row.reason == "fee_waived" and plan.value:
                points, off = 1e4 * self.waived * gain / plan.value + 1e-6, 1e4 * self.waived * off / plan.value
                least, most = (max(math.floor(points + change), 0) for change in (-off - 1e-12, off + 1e-12))
                rates = [Fraction(point, 10**4) for point in range(least, min(most, least + 1) + 1)]
        cursor.require("book", row.reason in reasons, f"reason is {row.reason}, not {' or '.join(reasons)}", row)
        cursor.apply(row)
        return rates

    def _restoring(self, plan: _Plan, start: float, rate: float) -> int:
        """Lots of a slice that is no larger than what brings the account to its target."""
        account, position, market, size_held, _, wanted = plan.slice
        tick_value = float(self.venue.markets[market].lot_tick_value)

        def gain(lots: int, value: float) -> float:
            loss, relief = self._effect(account, position, lots, value * tick_value, rate)
            return start - self.target * loss + relief

        lots = 0
        value: float = 0
        for price, size in plan.levels:
            if gain(lots + size, value + size * price) > 0:
                low, high = 0, size
                while high - low > 1:
                    middle = (low + high) // 2
                    above = gain(lots + middle, value + middle * price) > 0
                    low, high = (low, middle) if above else (middle, high)
                least = max(lots + high, self._unit(market).least)
                return self._whole(min(wanted, least), size_held, market)
            lots, value = lots + size, value + size * price
        return wanted

    # -- rows

    def _expire(self, cut: _Slice, requested: int, reason: str) -> None:
        row = self.cursor.expect("book", cut.account, "expire", cut.market)
        self._reason(row, reason)
        self.cursor.equal("book", "requested", row, row.requested, requested)
        self.cursor.apply(row)

    def _reason(self, row: Row, reason: str) -> None:
        rule = "bands" if {reason, row.reason} & _BANDS else "book"
        self.cursor.equal(rule, "reason", row, row.reason, reason)

    def _sized(self, offer: _Offer, row: Row) -> list[Fraction]:
        """Return the fee rates at which the slice has the size on record."""
        rates = [rate for rate, least, most in offer.choices if least <= row.requested <= most]
        what = f"requested is {row.requested}, not {' or '.join(f'{a} to {b}' for _, a, b in offer.choices)}"
        self.cursor.require("book", bool(rates), what, row)
        return rates or [rate for rate, *_ in offer.choices]

    def _fill(self, offer: _Offer) -> None:
        """Follow a slice into the book."""
        cut = offer.slice
        row = self.cursor.expect("book", cut.account, "book", cut.market)
        rates = self._sized(offer, row)
        quote = cut.side.quote(row.requested, *self._rooms(cut.account, cut.market, cut.side))
        self._reason(row, quote.reason)
        self._filled(row, cut, quote.lots, round(quote.value * self.venue.markets[cut.market].lot_tick_value), rates)
        cut.side.take(quote.fills)

    def _filled(self, row: Row, cut: _Slice, lots: int, money: int, rates: list[Fraction]) -> None:
        """Check lots, money and fee of a fill, and apply it."""
        cursor = self.cursor
        cursor.require("bands", abs(row.lots) <= cut.side.depth(), "fills more lots than the band contains", row)
        cursor.equal("book", "lots", row, row.lots, -lots * cut.side.side)
        cursor.equal("book", "money", row, row.cash - row.cost, money * cut.side.side)
        fees = sorted({round(money * rate) for rate in rates})
        cursor.require("cost", row.fee in fees, f"fee is {row.fee}, not {' or '.join(map(str, fees))}", row)
        cursor.trade(row)
        cursor.apply(row)
        self.count(row)

    def count(self, row: Row) -> None:
        """Count a fill under the caps, and begin the cooldown of the position."""
        self.sold[row.account] += abs(row.lots) * self._unit(row.market).capped
        self.filled[row.market] += abs(row.lots)
        self.throttle.filled[row.position] = self.cursor.tick.time

    # -- passes

    def _passes(self, number: int) -> None:
        """Follow a round in which the slices of all accounts on a side are judged and filled together."""
        queues = {account: self._begin(account) for account in self.cursor.order if self._participates_in_pass(account)}
        while any(queue.ranks for queue in queues.values()):
            sides = defaultdict[tuple[int, bool], list[_Slice]](list)
            for account, queue in queues.items():
                if not self._participates_in_pass(account):
                    queue.ranks.clear()
                elif (rank := self._pick(queue, account)) is not None and not self._is_left_out(
                    account, rank.position, number
                ):
                    cut = self._slice(account, rank.position)
                    sides[cut.market, cut.side.side < 0].append(cut)
            for key in sorted(sides):
                self._share(sides[key], queues)

    def _participates_in_pass(self, account: int) -> bool:
        """Whether the account takes part in a pass; where float64 leaves doubt, whether it has a row."""
        if account in self.cursor.escalated:
            return False
        participates = self.cursor.slicing(account)
        if participates is None:
            later = self.cursor.rows[self.cursor.index :]
            participates = any(row.account == account and row.event in _EVENTS and row.market >= 0 for row in later)
        return participates

    def _share(self, cuts: list[_Slice], queues: dict[int, _PositionQueue]) -> None:
        """Follow the slices on a side: their common quote, and then the fill of those that are sent."""
        offered = [self._capped(cut, cut.wanted) for cut in cuts]
        quote, shares = self._common(cuts[0], offered)
        offers = list[_Offer]()
        for cut, most, lots in zip(cuts, offered, shares, strict=True):
            if not lots:
                self._expire(cut, cut.wanted, quote.reason if most else "account_cap")
            elif (offer := self._size(self._plan(cut, quote, lots), queues[cut.account])) is not None:
                offers.append(offer)
        if offers:
            self._fill_all(offers)

    def _fill_all(self, offers: list[_Offer]) -> None:
        """Follow the fill of all offers on a side at one price."""
        market, side = offers[0].slice.market, offers[0].slice.side
        sizes = [self._size_on_record(offer) for offer in offers]
        offered = [self._capped(offer.slice, size) for offer, size in zip(offers, sizes, strict=True)]
        quote, shares = self._common(offers[0].slice, offered)
        money, done = round(quote.value * self.venue.markets[market].lot_tick_value), 0
        for offer, size, most, lots in zip(offers, sizes, offered, shares, strict=True):
            reason = "full" if lots == size else "account_cap" if lots == most else quote.reason
            if not lots:
                self._expire(offer.slice, size, reason)
                continue
            row = self.cursor.expect("book", offer.slice.account, "book", market)
            rates = self._sized(offer, row)
            self._reason(row, reason)
            part = [round(Fraction(money * n, quote.lots)) for n in (done, done + lots)]
            self._filled(row, offer.slice, lots, part[1] - part[0], rates)
            done += lots
        side.take(quote.fills)

    def _capped(self, cut: _Slice, lots: int) -> int:
        """Lots of a slice that its account's cap has room for."""
        if self.account_cap is None:
            return lots
        return min(lots, max(0, self.account_cap - self.sold[cut.account]) // self._unit(cut.market).capped)

    def _common(self, cut: _Slice, offered: list[int]) -> tuple[Quote, list[int]]:
        """Return the quote of all lots offered on the side of a slice, and the part of each offer."""
        total = sum(offered)
        quote = cut.side.quote(total, *self._rooms(None, cut.market, cut.side))
        return quote, split(quote.lots, offered, offered)

    def _size_on_record(self, offer: _Offer) -> int:
        """Size of a slice: where float64 leaves doubt, that on record."""
        _, least, most = offer.choices[0]
        if len(offer.choices) == 1 and least == most:
            return least
        key = offer.slice.account, offer.slice.market
        for row in self.cursor.rows[self.cursor.index :]:
            if row.event in ("book", "expire") and (row.account, row.market) == key:
                return row.requested if any(a <= row.requested <= b for _, a, b in offer.choices) else least
        return least


def _single(key: float, slack: float) -> tuple[float, float]:
    """Return the float32 figures that a key may round to."""
    reach = abs(key) * (slack + DOUBT)
    return float(np.float32(key - reach)), float(np.float32(key + reach))
