"""Phase 2: debts are repaid, from lends, from the recorded spot books, or at the index."""

from __future__ import annotations

import math
from fractions import Fraction

from .books import Books, Quote
from .cursor import Cursor
from .folder import Row
from .throttle import Throttle
from .venue import Spot


class Repay:
    """The debts of the selected accounts, round after round, each row computed again."""

    def __init__(self, cursor: Cursor, books: Books, throttle: Throttle) -> None:
        self.cursor, self.books, self.throttle = cursor, books, throttle
        self.state, self.venue = cursor.state, cursor.venue
        policy = self.venue.policy
        self.fee, self.part, self.least = (
            policy[name] for name in ("liquidation_fee", "slice_fraction", "min_slice_notional")
        )
        self.limit = policy.get("conversion_limit")
        self.spots: dict[int, tuple[int, Spot]] = {}
        for row, spot in enumerate(self.venue.spots):
            self.spots.setdefault(spot.asset, (len(self.venue.markets) + row, spot))
        self.begin()

    def begin(self) -> None:
        """Turn to another tick."""
        self.used = dict[int, int]()
        """By asset, the settle quanta that were converted at the index."""

    def round(self, round_number: int) -> None:
        """Follow the phase through one round."""
        for account in self.cursor.order:
            if self.cursor.liquidating(account):
                self._follow_account(account, round_number)

    def _follow_account(self, account: int, round_number: int) -> None:
        state, cursor = self.state, self.cursor
        for b in range(*state.balance_offset[account : account + 2]):
            if state.free[b] >= 0:
                continue
            if not cursor.liquidating(account):
                return
            asset, debt = int(state.asset[b]), -state.free[b]
            target = debt
            if not cursor.below(account):
                if self.throttle.leaves_out(account, round_number, len(self.venue.markets) + asset):
                    row = cursor.expect("throttle", account, "skip", asset=asset)
                    cursor.equal("throttle", "reason", row, row.reason, "throttle")
                    cursor.apply(row)
                    continue
                price = self._quantum_value(asset) * self.venue.quantum
                least = math.ceil(self.least / price) if price else 1
                target = min(debt, max(math.floor(debt * self.part), least, 1))
            self._repay(account, b, target)

    def _quantum_value(self, asset: int) -> Fraction:
        """Settle quanta of a quantum of an asset at the index."""
        return Fraction(self.cursor.tick.unit_value("quantum", asset)) / self.venue.quantum

    def _lent(self, b: int) -> int:
        """Quanta of a lent balance that can be redeemed."""
        asset = int(self.state.asset[b])
        return (
            min(self.state.lent[b], self.cursor.pool_room(asset)) if asset in self.venue.pools else self.state.lent[b]
        )

    def _repay(self, account: int, b: int, target: int) -> None:
        state, cursor, asset = self.state, self.cursor, int(self.state.asset[b])
        if redeemed := min(target, self._lent(b)):
            self._redeem(account, asset, redeemed)
            if not cursor.liquidating(account):
                return
            target -= redeemed
        if target <= 0:
            return
        if asset == self.venue.settle:
            self._raise(account, target, asset)
            return
        cost = self._cost(round(target * self._quantum_value(asset)))
        if (need := cost - max(state.free[state.settle[account]], 0)) > 0:
            self._raise(account, need, asset)
        self._buy(account, asset, target, max(state.free[state.settle[account]], 0))

    def _cost(self, value: int) -> int:
        """Settle quanta that a purchase costs, with its fee."""
        return value + round(value * self.fee)

    def _raise(self, account: int, need: int, debt: int) -> None:
        """Follow the sale of collateral for settle, for a debt in an asset."""
        state, collateral = self.state, []
        for b in range(*state.balance_offset[account : account + 2]):
            asset, quanta = int(state.asset[b]), max(state.free[b], 0) + state.lent[b]
            if quanta > 0 and asset not in (self.venue.settle, debt):
                collateral.append((-quanta * self._quantum_value(asset), asset, b))
        for _, asset, b in sorted(collateral):
            need -= self._sell(account, asset, b, need)
            if need <= 0 or not self.cursor.liquidating(account):
                return

    def _sell(self, account: int, asset: int, b: int, need: int) -> int:
        """Follow the sale of one asset; return the proceeds."""
        free, unit_value = max(self.state.free[b], 0), self._quantum_value(asset)
        available, net = free + self._lent(b), unit_value * (1 - self.fee)
        sold = min(available, math.ceil(need / net)) if net > 0 else available
        if sold <= 0:
            return 0
        market, spot = self.spots.get(asset, (-1, None))
        quote = None
        if spot and available >= spot.lot and self.books.side(market, 1).touch is not None:
            quote = self._quote(account, market, 1, min(-(-sold // spot.lot), available // spot.lot))
            if quote is None:
                return 0
            sold, value = quote.lots * spot.lot, round(quote.value * spot.lot_tick_value)
        else:
            sold = min(sold, self._room(account, asset, sold))
            if sold <= 0:
                return 0
            value = round(sold * unit_value)
            self.used[asset] = self.used.get(asset, 0) + value
        if sold > free:
            self._redeem(account, asset, sold - free)
        fee = round(value * self.fee)
        self._convert(account, asset, -sold, value, fee, market, quote)
        return value - fee

    def _buy(self, account: int, asset: int, quanta: int, available: int) -> None:
        """Follow the purchase of debt."""
        unit_value = self._quantum_value(asset)
        if self._cost(round(quanta * unit_value)) > available:
            quanta = min(quanta, math.floor(available / (unit_value * (1 + self.fee))))
        if quanta <= 0:
            return
        market, spot = self.spots.get(asset, (-1, None))
        quote = None
        if spot and quanta >= spot.lot and self.books.side(market, -1).touch is not None:
            quote = self._quote(account, market, -1, quanta // spot.lot)
            quote = quote and self._affordable(quote, spot, available)
            if quote is None:
                return
            quanta, value = quote.lots * spot.lot, round(quote.value * spot.lot_tick_value)
        else:
            quanta = min(quanta, self._room(account, asset, quanta))
            if quanta <= 0:
                return
            value = round(quanta * unit_value)
            self.used[asset] = self.used.get(asset, 0) + value
        self._convert(account, asset, quanta, -value, round(value * self.fee), market, quote)

    def _quote(self, account: int, market: int, side: int, lots: int) -> Quote | None:
        """Return the quote of the spot book; None if it fills nothing, which a row must record."""
        quote = self.books.side(market, side).quote(lots)
        if quote.lots:
            return quote
        self._nothing(account, self.venue.spots[market - len(self.venue.markets)].asset, lots, quote.reason)
        return None

    def _nothing(self, account: int, asset: int, requested: int, reason: str) -> None:
        """Follow the row of a conversion that was not filled."""
        row = self.cursor.expect("repay", account, "expire", asset=asset)
        rule = "bands" if {reason, row.reason} & {"impact", "limit", "conversion"} else "repay"
        self.cursor.equal(rule, "reason", row, row.reason, reason)
        self.cursor.equal("repay", "requested", row, row.requested, requested)
        self.cursor.apply(row)

    def _affordable(self, quote: Quote, spot: Spot, available: int) -> Quote | None:
        """Cut a purchase to the lots whose price and fee are available; None if there are none."""
        lots, value, fills = 0, 0, list[tuple[int, int]]()
        for price, size in quote.fills:
            low, high = 0, size + 1  # the most lots of this level, by halves
            while high - low > 1:
                middle = (low + high) // 2
                fits = self._cost(round((value + middle * price) * spot.lot_tick_value)) <= available
                low, high = (middle, high) if fits else (low, middle)
            if not low:
                break
            fills.append((price, low))
            lots, value = lots + low, value + low * price
            if low < size:
                break
        return (
            Quote(lots, value, quote.reason, fills)
            if lots and self._cost(round(value * spot.lot_tick_value)) <= available
            else None
        )

    def _room(self, account: int, asset: int, quanta: int) -> int:
        """Quanta that may still be converted at the index in this tick; if there are none, a row must record it."""
        if self.limit is None:
            return quanta
        unit_value = self._quantum_value(asset)
        remaining = self.limit / self.venue.quantum - self.used.get(asset, 0)
        room = math.floor(remaining / unit_value) if unit_value else quanta
        if room <= 0:
            self._nothing(account, asset, 0, "conversion_limit")
        return room

    # -- rows

    def _redeem(self, account: int, asset: int, quanta: int) -> None:
        row = self.cursor.expect("repay", account, "redeem", asset=asset)
        self._is_debt(row)
        self.cursor.equal("repay", "quanta", row, row.quanta, quanta)
        self.cursor.apply(row)

    def _convert(
        self, account: int, asset: int, quanta: int, cash: int, fee: int, market: int, quote: Quote | None
    ) -> None:
        row, cursor = self.cursor.expect("repay", account, "convert", asset=asset), self.cursor
        self._is_debt(row)
        recorded = row.quanta, row.cash, row.fee
        cursor.equal("repay", "quanta, cash and fee", row, recorded, (quanta, cash, fee))
        if quote is None:
            cursor.equal("rows", "price", row, row.price, float(cursor.tick.asset[asset]))
        else:
            side = self.books.side(market, 1 if quanta < 0 else -1)
            step = self.venue.spots[market - len(self.venue.markets)].step
            within = all(side.within(price) for price, _ in quote.fills) and abs(row.quanta) <= abs(quanta)
            cursor.require("bands", within, "the conversion goes beyond its band", row)
            cursor.price(row, abs(cash), step * quote.lots)
            side.take(quote.fills)
        cursor.apply(row)

    def _is_debt(self, row: Row) -> None:
        self.cursor.equal("rows", "reason", row, row.reason, "debt")
