"""3 Book: slices of positions are sent to the books, in turns or in passes."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from .float64 import DOUBT
from .journal import BOOK
from .numbers import SECOND, part, rhe
from .quotes import BookFill, least_lots, no_small_rest, quote_book, slice_lots
from .shares import water_fill
from .tick_state import Slice, TickState

NEWTON_STEPS = 4
POINTS_EDGE = 1e-6  # of a basis point


class Book(TickState):
    """3 Book: slices of positions are sent to the books, in turns or in passes.

    Equity, margins and prices are compared in float64, in the order of operations of the page (3 Book: float64).
    """

    def cooling(self, account_id, market: str) -> bool:
        """Whether a position rests after a slice (Throttle)."""
        rest, last = self.venue.policy["slice_cooldown"], self.state.last_slice.get((account_id, market))
        if rest is None or last is None or self.time_ns - last >= rest * SECOND:
            return False
        self.record("skip", "cooldown", account_id, market=market)
        return True

    def book(self, round_: int) -> None:
        """3 Book: turns, or passes."""
        looks = {account_id: self.look(account_id) for account_id in self.selected if account_id not in self.escalated}
        self.slicing = {one for one, look in looks.items() if look.liquidating and not look.below_auto_close}
        if self.venue.policy["account_order"] == "pro_rata":
            self.passes(round_)
            return
        for account_id in self.selected:
            if account_id in self.slicing:
                for symbol, gap in self.positions_in_order(account_id):
                    if account_id in self.slicing:
                        sent = self.sized(account_id, symbol, gap, round_)
                        if sent is not None:
                            self.book_slice(sent)

    def passes(self, round_: int) -> None:
        """3 Book with `account_order` "pro_rata"."""
        orders = {one: self.positions_in_order(one) for one in self.selected if one in self.slicing}
        for index in range(max(map(len, orders.values()), default=0)):
            acting = []
            for account_id, order in orders.items():
                if index < len(order) and account_id in self.slicing:
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

    def positions_in_order(self, account_id) -> list:
        """The markets of an account's positions by `position_order`, and their parts of the gap (3 Book)."""
        held, by = self.state.accounts[account_id].positions, self.venue.policy["position_order"]
        markets = [symbol for symbol in self.venue.markets if held.get(symbol, (0,))[0] != 0]
        if by == "pro_rata":
            values, total, gap = {}, 0.0, self.gap(account_id)
            for symbol in markets:
                values[symbol] = abs(held[symbol][0]) * self.float64.lot[symbol]
                total += values[symbol]
            return [(symbol, gap * (values[symbol] / total)) for symbol in markets]
        if len(markets) > 1:
            ranks = {symbol: float32(self.rank(account_id, symbol, by)) for symbol in markets}
            markets.sort(key=ranks.__getitem__, reverse=True)
        return [(symbol, None) for symbol in markets]

    def rank(self, account_id, symbol: str, by: str) -> float:
        """What orders a position (3 Book)."""
        if by == "largest":
            size = abs(self.lots(account_id, symbol))
            return self.float64.required[symbol](size * self.float64.lot[symbol])
        quote = self.quote(account_id, symbol, self.policy_size(account_id, symbol))
        if quote.lots == 0:
            return -1e30
        value = quote.value * self.float64.ticks[symbol]
        loss, relief = self.effect(account_id, symbol, quote.lots, value, self.fee)
        return relief / max(loss, 1.0)

    def gap(self, account_id) -> float:
        """The deficit to target with its sign changed, in quanta (3 Book: restoring size)."""
        sums = self.sums(account_id)
        return self.float64.target * sums.equity - sums.maintenance

    @property
    def fee(self) -> float:
        """The liquidation fee."""
        rate = self.venue.policy["liquidation_fee"]
        return rate.numerator / rate.denominator

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
        share, band = self.venue.policy["depth_share"], self.limits[symbol, side]
        if share == 1:
            return []
        inside = sum(lots for ticks, lots, _ in self.levels[symbol, side] if band.holds(ticks))
        return [("depth_share", math.floor(share * inside))]

    def quote_together(self, symbol: str, side: str, lots: int, rooms=()) -> BookFill:
        """The quote of so many lots of no account or of one with the rooms that it has (3 Book, Quote)."""
        rooms, key = [*rooms, *self.market_room(symbol), *self.depth_room(symbol, side)], (symbol, side)
        worth = self.venue.markets[symbol].worth(self.quantum(symbol))
        return quote_book(self.levels[key], lots, self.limits[key], rooms, self.worst_average[key], worth)

    def quote(self, account_id, symbol: str, lots: int) -> BookFill:
        """The quote of so many lots of an account's position (3 Book, Quote)."""
        rooms = self.account_room(account_id, symbol)
        return self.quote_together(symbol, self.side(account_id, symbol), lots, rooms)

    def quote_value(self, symbol: str, quote: BookFill) -> Fraction:
        """`W`, in quanta of the asset that the market settles in; of an inverse market below 0 (3 Book, Quote)."""
        return quote.value * self.venue.markets[symbol].worth_unit(self.quantum(symbol))

    def effect(self, account_id, symbol: str, lots: int, value: float, fee: float) -> tuple:
        """`loss` and `relief` of lots that bring `value` quanta at a fee rate, in quanta (3 Book, Loss and relief).

        The value is in quanta of the asset that the market settles in.
        """
        if not self.venue.is_plain(symbol):
            return self.float64.effect(self.state.accounts[account_id], symbol, lots, value, fee)
        account, price, required = (
            self.state.accounts[account_id],
            self.float64.lot[symbol],
            self.float64.required[symbol],
        )
        held, cost, _ = account.positions[symbol]
        balance, lent = account.balances[self.venue.settle]
        size, sells = abs(held), held > 0
        loss = (lots * price - value if sells else value - lots * price) + fee * value
        relief = required(size * price) - required((size - lots) * price)
        after = balance + ((value if sells else -value) - fee * value - cost * (lots / size))
        if not (self.float64.settle.is_plain and balance >= 0 and after >= 0.0):
            equity, margin = self.float64.of_settle(float(balance), lent)
            equity_after, margin_after = self.float64.of_settle(after, lent)
            loss += (after - balance) - (equity_after - equity)
            relief -= margin_after - margin
        return loss, relief

    def is_plain(self, account_id, symbol: str, lots: int, value: float, fee: float) -> bool:
        """Whether the settle balance counts in full before and after so many lots (3 Book, Restoring size)."""
        account = self.state.accounts[account_id]
        (held, cost, _), balance = account.positions[symbol], account.balances[self.venue.settle][0]
        after = balance + ((value if held > 0 else -value) - fee * value - cost * (lots / abs(held)))
        counts = self.venue.is_plain(symbol) and self.float64.settle.is_plain
        return counts and balance >= 0 and after >= 0.0

    def sized(self, account_id, symbol: str, gap, round_: int) -> Slice | None:
        """The slice that an account sends, None if the position rests or nothing is sent (3 Book)."""
        if self.throttled(account_id, round_, market=symbol) or self.cooling(account_id, symbol):
            return None
        wanted = self.policy_size(account_id, symbol)
        quote = self.quote(account_id, symbol, wanted)
        if quote.lots == 0:
            self.record("expire", quote.reason, account_id, market=symbol, requested=wanted)
            return None
        value = quote.value * self.float64.ticks[symbol]
        rate = self.rate(account_id, symbol, quote.lots, value, rhe(self.quote_value(symbol, quote)))
        if rate is None:
            return None
        gap, fee = self.gap(account_id) if gap is None else gap, rate.numerator / rate.denominator
        levels, side = [], self.side(account_id, symbol)
        for (ticks, *_), taken in zip(self.levels[symbol, side], quote.taken, strict=False):
            if taken > 0:
                levels.append((ticks, taken))
        if self.is_plain(account_id, symbol, quote.lots, value, self.fee):
            restoring = self.restoring_lots(account_id, symbol, levels, gap, fee)
        else:
            restoring = self.restoring_lots_and_balance(account_id, symbol, levels, gap, fee)
        size = self.restored(account_id, symbol, wanted, restoring)
        return Slice(account_id, symbol, side, size, rate, size)

    def restored(self, account_id, symbol: str, wanted: int, restoring: int) -> int:
        """`s`: the policy size, or what restores the target if that is less (3 Book, Restoring size)."""
        if restoring == 0:
            return wanted
        least = least_lots(self.venue, self.prices.of_lot(self.venue, symbol))
        lots, size = max(restoring, least), abs(self.lots(account_id, symbol))
        return min(wanted, no_small_rest(self.venue.markets[symbol], size, min(lots, size)))

    def rate(self, account_id, symbol: str, lots: int, value: float, money: int) -> Fraction | None:
        """The fee rate `c` of lots that bring `value`, None if they are not sent (3 Book, Do no harm)."""
        policy, (equity, _, margin, _) = self.venue.policy, self.sums(account_id)
        loss, relief = self.effect(account_id, symbol, lots, value, self.fee)
        if loss * margin < relief * equity:
            return policy["liquidation_fee"]
        how, reason, rate = policy["harmful_slice"], "sent", policy["liquidation_fee"]
        if how == "backstop":
            self.escalated.add(account_id)
            self.slicing.discard(account_id)
            reason, rate = "to_backstop", None
        elif how == "waive":
            loss, relief = self.effect(account_id, symbol, lots, value, 0.0)
            gain = relief * equity / margin - loss
            reason, rate = "withheld", None
            if gain > 0.0:
                size = abs(value) * self.float64.of_asset(self.venue.markets[symbol].settle).price
                points = int(10_000 * float(policy["waived_fee_share"]) * gain / size + POINTS_EDGE)
                reason, rate = "fee_waived", Fraction(points, 10**4)
        average = self.price_of(symbol, lots, -money)
        self.record("harm", reason, account_id, average, market=symbol, requested=lots)
        return rate

    def restoring_lots(self, account_id, symbol: str, levels: list, surplus: float, fee: float) -> int:
        """`restoring` where the settle balance counts in full: by Newton's method; 0 if no size is enough (3 Book)."""
        price, tick, target = self.float64.lot[symbol], self.float64.ticks[symbol], self.float64.target
        held, required = self.lots(account_id, symbol), self.float64.required[symbol]
        size, limit = abs(held), sum(lots for _, lots in levels)
        per_lot, per_value = -target * price, target * (1.0 - fee)
        if held < 0:
            per_lot, per_value = target * price, -target * (1.0 + fee)
        base = surplus + required(size * price)

        def gain(lots: int, value: int) -> float:
            """`deficit` with its sign changed."""
            return base + per_lot * lots + per_value * (value * tick) - required((size - lots) * price)

        def slope(lots: int, ticks: int) -> float:
            """What one more lot adds to the gain."""
            return per_lot + per_value * ticks * tick + required.of_one_more((size - lots) * price) * price

        if not surplus + limit * slope(0, levels[0][0]) > 0.0:
            return 0
        low, value, gain_low = 0, 0, surplus
        for ticks, lots in levels:
            high, after = low + lots, gain(low + lots, value + lots * ticks)
            if after > 0.0:
                return nearest_gain(gain, slope, low, high, ticks, value, gain_low)
            low, value, gain_low = high, value + lots * ticks, after
        return 0

    def restoring_lots_and_balance(self, account_id, symbol: str, levels: list, surplus: float, fee: float) -> int:
        """`restoring` where the settle balance is a borrow, or does not count in full: by halves (3 Book)."""
        tick, target, low, value = self.float64.ticks[symbol], self.float64.target, 0, 0
        worth = self.venue.markets[symbol].worth(self.quantum(symbol))

        def restores(lots: int, lots_value: float) -> bool:
            loss, relief = self.effect(account_id, symbol, lots, lots_value, fee)
            return surplus - target * loss + relief > 0.0

        for ticks, lots in levels:
            high = low + lots
            if restores(high, (value + worth(lots, ticks)) * tick):
                start, before = low, value
                while high - low > 1:
                    middle = low + (high - low) // 2
                    if restores(middle, (before + worth(middle - start, ticks)) * tick):
                        high = middle
                    else:
                        low = middle
                return high
            low, value = high, value + worth(lots, ticks)
        return 0

    def restoring_at(self, account_id, symbol: str, lots: int, price: float, surplus: float, fee: float) -> int:
        """`restoring` of lots at one price, by halves (3 Book, passes)."""

        def restores(size: int) -> bool:
            loss, relief = self.effect(account_id, symbol, size, size * price, fee)
            return surplus - self.float64.target * loss + relief > 0.0

        if not restores(lots):
            return 0
        low, high = 0, lots
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if restores(middle) else (middle, high)
        return high

    def book_slice(self, sent: Slice) -> None:
        """The quote of `s` is taken (3 Book)."""
        quote = self.quote(sent.account_id, sent.symbol, sent.lots)
        self.take(sent.symbol, sent.side, quote)
        self.book_fill(sent, quote.lots, rhe(self.quote_value(sent.symbol, quote)), quote.reason)

    def book_fill(self, sent: Slice, lots: int, value: int, reason: str) -> None:
        """A `book` row of so many lots for `value` quanta (3 Book)."""
        account_id, symbol = sent.account_id, sent.symbol
        sign = 1 if sent.side == "bids" else -1
        fee = self.fee_of_fill(account_id, symbol, -sign * lots, sign * value, rhe(abs(value) * sent.rate))
        self.fill("book", reason, account_id, BOOK, symbol, sent.lots, -sign * lots, sign * value, fee)
        self.fill_rates[account_id, symbol] = sent.rate
        self.filled[symbol] += lots
        if not self.float64.in_book(self.sums(account_id)):
            self.slicing.discard(account_id)
        if self.venue.policy["slice_cooldown"] is not None:
            self.state.last_slice[account_id, symbol] = self.time_ns
        if self.venue.policy["account_cap"] is not None:
            sold = self.state.sold
            sold[account_id] = sold.get(account_id, 0) + lots * self.lot_quanta(symbol)

    def fee_of_fill(self, account_id, symbol: str, change: int, flow: int, fee: int) -> int:
        """A fee that takes no more than the net equity that float64 leaves for certain (3 Book, Fill)."""
        settle = self.venue.markets[symbol].settle
        account = self.changed(account_id, change, flow, symbol)
        account.balances[settle][0] -= fee
        sums = self.float64.sums(account)
        if sums.equity > DOUBT * sums.exposure:
            return fee
        account.balances[settle][0] += fee
        sums = self.float64.sums(account)
        left = (sums.equity - DOUBT * sums.exposure) / self.float64.of_asset(settle).price
        return min(fee, max(0, math.floor(left)))

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
            price = quote.value * self.float64.ticks[symbol] / quote.lots
            money = rhe(Fraction(rhe(self.quote_value(symbol, quote)) * lots, quote.lots))
            rate = self.rate(account_id, symbol, lots, lots * price, money)
            if rate is None:
                continue
            gap, fee = self.gap(account_id) if gap is None else gap, rate.numerator / rate.denominator
            restoring = self.restoring_at(account_id, symbol, lots, price, gap, fee)
            size = self.restored(account_id, symbol, wanted[index], restoring)
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


def float32(x: float) -> float:
    """Round x to float32 (3 Book)."""
    return struct.unpack("f", struct.pack("f", x))[0]


def nearest_gain(gain, slope, low: int, high: int, ticks: int, value: int, gain_low: float) -> int:
    """The fewest lots of a level with a gain: `low` has none, `high` has one (3 Book, Restoring size)."""
    steps = 0
    while high - low > 1:
        step = (high - low) // 2
        if steps < NEWTON_STEPS:
            steps, tangent = steps + 1, slope(low, ticks)
            if tangent > 0.0 and -gain_low < tangent * (high - low):
                step = min(max(int(-gain_low / tangent), 1), high - low - 1)
        for _ in range(2):  # one more lot decides where Newton's method ends next to the root
            after = gain(low + step, value + step * ticks)
            if after > 0.0:
                high = low + step
                break
            low, value, gain_low, step = low + step, value + step * ticks, after, 1
            if high - low <= 1:
                break
    return high
