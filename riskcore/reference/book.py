"""3 Book: slices of positions are sent to the books, in turns or in passes."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction

from .account_margin import Margin, gross, margin
from .journal import BOOK
from .numbers import CLOSE, CLOSER, ROUNDING, SECOND, float32, part, rhe
from .quotes import BookFill, least_lots, no_small_rest, quote_book, slice_lots, walk_book
from .shares import water_fill
from .tick_state import Slice, TickState


class Book(TickState):
    """3 Book: slices of positions are sent to the books, in turns or in passes."""

    def cooling(self, account_id, market: str) -> bool:
        """Whether a position rests after a slice (Throttle)."""
        rest, last = self.venue.policy["slice_cooldown"], self.state.last_slice.get((account_id, market))
        if rest is None or last is None or self.time_ns - last >= rest * SECOND:
            return False
        self.record("skip", "cooldown", account_id, market=market)
        return True

    def book(self, round_: int) -> None:
        """3 Book: turns, or passes."""
        if self.venue.policy["account_order"] == "pro_rata":
            self.passes(round_)
            return
        for account_id in self.selected:
            if self.in_book(account_id):
                for symbol, gap in self.positions_in_order(account_id):
                    if self.in_book(account_id):
                        sent = self.sized(account_id, symbol, gap, round_)
                        if sent is not None:
                            self.book_slice(sent)

    def passes(self, round_: int) -> None:
        """3 Book with `account_order` "pro_rata"."""
        orders = {one: self.positions_in_order(one) for one in self.selected if self.in_book(one)}
        for index in range(max(map(len, orders.values()), default=0)):
            acting = []
            for account_id, order in orders.items():
                if index < len(order) and self.in_book(account_id):
                    symbol, gap = order[index]
                    if not (self.throttled(account_id, round_, market=symbol) or self.cooling(account_id, symbol)):
                        acting.append((account_id, symbol, gap))
            sides = {(account_id, symbol): self.side(account_id, symbol) for account_id, symbol, _ in acting}
            for symbol in self.venue.markets:
                for side in ("bids", "asks"):
                    senders = [
                        (one, gap) for one, market, gap in acting if market == symbol and sides[one, market] == side
                    ]
                    if senders:
                        self.fill_together(symbol, side, senders)

    def in_book(self, account_id) -> bool:
        """Whether an account has a slice now: by float64, between the slices (3 Book)."""
        if account_id in self.escalated:
            return False
        look, account = self.look(account_id), self.state.accounts[account_id]
        divisor, offset = self.venue.policy["acmf_divisor"], self.venue.policy["acmf_offset"]
        auto_close = max(look.maintenance_margin / divisor, look.maintenance_margin - offset * look.exposure)
        for edge in (0, auto_close, look.maintenance_margin):
            self.doubt("status", look.net_equity - edge, ROUNDING * gross(self.venue, account, self.prices))
        return look.liquidating and not look.below_auto_close

    def positions_in_order(self, account_id) -> list:
        """The markets of an account's positions by `position_order`, and their parts of the gap (3 Book)."""
        look, by = self.look(account_id), self.venue.policy["position_order"]
        markets = list(look.position_maintenance_margins)
        if by == "pro_rata":
            values = {m: abs(self.lots(account_id, m)) * self.prices.of_lot(self.venue, m) for m in markets}
            return [(market, self.gap(look) * values[market] / sum(values.values())) for market in markets]
        ranks = {market: self.rank(account_id, market, look, by) for market in markets}
        for one, other in itertools.combinations(ranks.values(), 2):
            ordered = one[0] > other[1] or other[0] > one[1]
            if not ordered and not one[0] == one[1] == other[0] == other[1]:
                self.doubts.append("order of the positions")
        return [(market, None) for market in sorted(markets, key=lambda market: ranks[market][2], reverse=True)]

    def rank(self, account_id, symbol: str, look: Margin, by: str) -> tuple:
        """What orders a position, in 24 bits: the least and the most that float64 could find, and what is exact."""
        gained, paid, paid_error = look.position_maintenance_margins[symbol], Fraction(1), Fraction(0)
        if by == "relief":
            quote = self.quote(account_id, symbol, self.policy_size(account_id, symbol))
            if quote.lots == 0:
                return (Fraction(-(10**30)),) * 3
            value = self.quote_value(symbol, quote)
            fee = self.venue.policy["liquidation_fee"]
            error = CLOSER * self.quanta(gained)
            paid, gained = self.effect(account_id, symbol, quote.lots, value, fee)
            free, _ = self.state.accounts[account_id].balances[self.venue.markets[symbol].settle]
            paid_error = CLOSER * (2 * self.settle_quanta(symbol, value) + self.settle_quanta(symbol, free))
        else:
            error = CLOSER * gained
        scores = (gained - error, paid + paid_error), (gained + error, paid - paid_error), (gained, paid)
        return tuple(float32(gain / max(cost, 1)) for gain, cost in scores)

    def gap(self, look: Margin) -> Fraction:
        """The deficit to target with its sign changed, in quanta (3 Book: restoring size)."""
        return self.quanta(self.venue.policy["target_mmr"] * look.net_equity - look.maintenance_margin)

    def policy_size(self, account_id, symbol: str) -> int:
        """`s0` of a position (3 Book, Policy size)."""
        lot_value = self.prices.of_lot(self.venue, symbol)
        return slice_lots(self.venue, self.venue.markets[symbol], self.lots(account_id, symbol), lot_value)

    def side(self, account_id, symbol: str) -> str:
        """The side of the book that a slice goes to: a long sells into the bids (3 Book, Room)."""
        return "bids" if self.lots(account_id, symbol) > 0 else "asks"

    def lot_quanta(self, symbol: str) -> int:
        """`w` (3 Book, Room)."""
        return math.ceil(self.quanta(self.prices.of_lot(self.venue, symbol)))

    def account_room(self, account_id, symbol: str) -> list:
        """The room that the account's cap leaves (3 Book, Room)."""
        cap = self.venue.policy["account_cap"]
        if cap is None:
            return []
        left = math.floor(self.quanta(cap)) - self.state.sold.get(account_id, 0)
        return [("account_cap", max(0, left) // self.lot_quanta(symbol))]

    def market_room(self, symbol: str) -> list:
        """The room that the market's cap leaves (3 Book, Room)."""
        cap = self.venue.policy["market_cap"]
        if cap is None:
            return []
        lots = math.floor(self.quanta(cap)) // self.lot_quanta(symbol)
        return [("market_cap", max(0, lots - self.filled[symbol]))]

    def depth_room(self, symbol: str, side: str) -> list:
        """The share of what is left inside the band (3 Book, Room)."""
        share, band = self.venue.policy["depth_share"], self.bands[symbol, side]
        inside = sum(lots for price, lots, _ in self.levels[symbol, side] if band.holds(price))
        return [] if share == 1 else [("depth_share", math.floor(share * inside))]

    def quote_together(self, symbol: str, side: str, lots: int, rooms=()) -> BookFill:
        """The quote of so many lots of no account or of one with the rooms that it has (3 Book, Quote)."""
        rooms, key = [*rooms, *self.market_room(symbol), *self.depth_room(symbol, side)], (symbol, side)
        return quote_book(self.levels[key], lots, self.bands[key], rooms, self.worst_average[key])

    def quote(self, account_id, symbol: str, lots: int) -> BookFill:
        """The quote of so many lots of an account's position (3 Book, Quote)."""
        rooms = self.account_room(account_id, symbol)
        return self.quote_together(symbol, self.side(account_id, symbol), lots, rooms)

    def quote_value(self, symbol: str, quote: BookFill) -> Fraction:
        """`W`, in quanta of the asset that the market settles in; of an inverse market below 0 (3 Book, Quote)."""
        market = self.venue.markets[symbol]
        quantum, levels = self.venue.assets[market.settle].quantum, zip(quote.taken, quote.prices, strict=True)
        values = [lots * market.lot_value(price) / quantum for lots, price in levels]
        return sum(map(rhe, values) if market.is_inverse else values, Fraction(0))

    def settle_quanta(self, symbol: str, value) -> Fraction:
        """The size of a value in quanta of the asset that a market settles in, in quanta of the venue's (3 Book)."""
        return abs(value) * self.unit_value_in(symbol)

    def effect(self, account_id, symbol: str, lots: int, value: Fraction, rate) -> tuple:
        """`loss` and `relief` of lots that are worth `value` quanta at a fee rate, by the margin of a copy (3 Book)."""
        account, before = self.state.accounts[account_id], self.look(account_id)
        held, cost, entry = account.positions[symbol]
        closed, sign = Fraction(lots, abs(held)), 1 if held > 0 else -1
        settle = self.venue.markets[symbol].settle
        free, lent = account.balances[settle]
        after = copy.copy(account)
        after.positions = account.positions | {symbol: [held - sign * lots, cost - cost * closed, entry]}
        balance = free + sign * value - rate * abs(value) - cost * closed
        after.balances = account.balances | {settle: [balance, lent]}
        left = margin(self.venue, after, self.prices)
        lost, set_free = before.net_equity - left.net_equity, before.maintenance_margin - left.maintenance_margin
        return self.quanta(lost), self.quanta(set_free)

    def sized(self, account_id, symbol: str, gap, round_: int) -> Slice | None:
        """The slice that an account sends, None if the position rests or nothing is sent (3 Book)."""
        if self.throttled(account_id, round_, market=symbol) or self.cooling(account_id, symbol):
            return None
        wanted = self.policy_size(account_id, symbol)
        quote = self.quote(account_id, symbol, wanted)
        if quote.lots == 0:
            self.record("expire", quote.reason, account_id, market=symbol, requested=wanted)
            return None
        rate = self.rate(
            account_id, symbol, quote.lots, self.quote_value(symbol, quote), rhe(self.quote_value(symbol, quote))
        )
        if rate is None:
            return None
        levels = self.levels[symbol, self.side(account_id, symbol)]
        level_ends = [end for end in itertools.accumulate(quote.taken) if end > 0]

        def value(lots: int) -> Fraction:
            return self.quote_value(symbol, walk_book(levels, lots))

        size = self.restored(account_id, symbol, wanted, level_ends, value, rate, gap)
        return Slice(account_id, symbol, self.side(account_id, symbol), size, rate, size)

    def restored(self, account_id, symbol: str, wanted: int, level_ends, value, rate: Fraction, gap) -> int:
        """`s`: the policy size, or what restores the target if that is less (3 Book, Restoring size)."""
        restoring = self.restoring_lots(account_id, symbol, level_ends, value, rate, gap)
        if restoring is None:
            return wanted
        lots = min(wanted, max(restoring, least_lots(self.venue, self.prices.of_lot(self.venue, symbol))))
        return no_small_rest(self.venue.markets[symbol], abs(self.lots(account_id, symbol)), lots)

    def rate(self, account_id, symbol: str, lots: int, value: Fraction, money: int) -> Fraction | None:
        """The fee rate `c` of lots that bring `value`, None if they are not sent (3 Book, Do no harm)."""
        policy, look = self.venue.policy, self.look(account_id)
        equity, margin = self.quanta(look.net_equity), self.quanta(look.maintenance_margin)
        cost, relief = self.effect(account_id, symbol, lots, value, policy["liquidation_fee"])

        equity_error = CLOSE * self.quanta(gross(self.venue, self.state.accounts[account_id], self.prices))
        size = self.settle_quanta(symbol, value)
        cost_error = CLOSE * 2 * size
        relief_error = CLOSE * self.quanta(look.position_maintenance_margins[symbol])
        error = cost_error * margin + CLOSE * abs(cost) * margin + relief_error * equity + relief * equity_error
        self.doubt("harm", cost * margin - relief * equity, error)
        if cost * margin < relief * equity:
            return policy["liquidation_fee"]

        how, reason, rate = policy["harmful_slice"], "sent", policy["liquidation_fee"]
        if how == "backstop":
            self.escalated.add(account_id)
            reason, rate = "to_backstop", None
        elif how == "waive":
            loss, relief = self.effect(account_id, symbol, lots, value, 0)
            gain = relief * equity / margin - loss
            error = relief_error * equity / margin + relief * equity_error / margin
            error += CLOSE * relief * equity / margin + cost_error
            self.doubt("kept back", gain, error)
            reason, rate = "withheld", None
            if gain > 0:
                points = [
                    math.floor(10**4 * policy["waived_fee_share"] * (gain + off) / size + Fraction(1, 10**6))
                    for off in (-error, 0, error)
                ]
                if points[0] != points[2]:
                    self.doubts.append("basis points")
                reason, rate = "fee_waived", Fraction(points[1], 10**4)
        market = self.venue.markets[symbol]
        average = market.price_of(lots, -money * self.venue.assets[market.settle].quantum)
        self.record("harm", reason, account_id, average, market=symbol, requested=lots)
        return rate

    def restoring_lots(self, account_id, symbol: str, level_ends, value, rate: Fraction, gap) -> int | None:
        """`restoring`: the fewest lots that end the deficit, found from the `level_ends`; None if none do (3 Book)."""
        look, target = self.look(account_id), self.venue.policy["target_mmr"]
        gap = self.gap(look) if gap is None else gap
        error = gross(self.venue, self.state.accounts[account_id], self.prices) + look.maintenance_margin
        error = CLOSE * (self.quanta(error) + 4 * self.settle_quanta(symbol, value(max(level_ends))))

        def gain(lots: int) -> Fraction:
            """`deficit` with its sign changed."""
            loss, relief = self.effect(account_id, symbol, lots, value(lots), rate)
            return gap - target * loss + relief

        before = 0
        for end in level_ends:
            self.doubt("restoring size", gain(end), error)
            if gain(end) > 0:
                low, high = before, end
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if gain(middle) > 0 else (middle, high)
                self.doubt("restoring size", gain(low), error)
                self.doubt("restoring size", gain(high), error)
                return high
            before = end
        return None

    def book_slice(self, sent: Slice) -> None:
        """The quote of `s` is taken (3 Book)."""
        quote = self.quote(sent.account_id, sent.symbol, sent.lots)
        self.take(sent.symbol, sent.side, quote)
        self.book_fill(sent, quote.lots, rhe(self.quote_value(sent.symbol, quote)), quote.reason)

    def book_fill(self, sent: Slice, lots: int, value: int, reason: str) -> None:
        """A `book` row of so many lots for `value` quanta (3 Book)."""
        account_id, symbol = sent.account_id, sent.symbol
        sign = 1 if sent.side == "bids" else -1
        fee = rhe(abs(value) * sent.rate)
        self.fill("book", reason, account_id, BOOK, symbol, sent.lots, -sign * lots, sign * value, fee)
        self.filled[symbol] += lots
        if self.venue.policy["slice_cooldown"] is not None:
            self.state.last_slice[account_id, symbol] = self.time_ns
        if self.venue.policy["account_cap"] is not None:
            sold = self.state.sold
            sold[account_id] = sold.get(account_id, 0) + lots * self.lot_quanta(symbol)

    def fill_together(self, symbol: str, side: str, senders: list) -> None:
        """The offers of a pass on one side of a book, at one price (3 Book, passes)."""
        wanted = [self.policy_size(account_id, symbol) for account_id, _ in senders]
        first = [self.offered(account_id, symbol, lots) for (account_id, _), lots in zip(senders, wanted, strict=True)]
        quote = self.quote_together(symbol, side, sum(first))
        taken, offers = water_fill(quote.lots, dict(enumerate(first))), []
        for index, (account_id, gap) in enumerate(senders):
            lots = taken[index]
            if lots == 0:
                reason = "account_cap" if first[index] == 0 else quote.reason
                self.record("expire", reason, account_id, market=symbol, requested=wanted[index])
                continue
            price = self.quote_value(symbol, quote) / quote.lots
            money = rhe(Fraction(rhe(self.quote_value(symbol, quote)) * lots, quote.lots))
            rate = self.rate(account_id, symbol, lots, lots * price, money)
            if rate is None:
                continue
            size = self.restored(account_id, symbol, wanted[index], [lots], lambda n, price=price: n * price, rate, gap)
            offers.append(Slice(account_id, symbol, side, size, rate, self.offered(account_id, symbol, size)))

        quote = self.quote_together(symbol, side, sum(offer.offer for offer in offers))
        self.take(symbol, side, quote)
        value, done = rhe(self.quote_value(symbol, quote)), 0
        taken = water_fill(quote.lots, {index: offer.offer for index, offer in enumerate(offers)})
        for index, offer in enumerate(offers):
            lots, reason = taken[index], quote.reason
            if lots == offer.offer:
                reason = "full" if lots == offer.lots else "account_cap"
            if lots == 0:
                changes = {"market": symbol, "requested": offer.lots}
                self.record("expire", quote.reason, offer.account_id, **changes)
                continue
            self.book_fill(offer, lots, part(value, done, done + lots, quote.lots), reason)
            done += lots

    def offered(self, account_id, symbol: str, lots: int) -> int:
        """`o` of `s`, or `o0` of `s0` (3 Book, passes)."""
        return min([lots] + [room for _, room in self.account_room(account_id, symbol)])
