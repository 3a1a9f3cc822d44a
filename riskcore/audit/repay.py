"""Phase 2: debts are repaid, from what was lent, from the recorded spot books, or at the index."""

from __future__ import annotations

import math
from fractions import Fraction

from .books import Books, Quote
from .folder import Row
from .throttle import Throttle
from .venue import Spot
from .watch import Watch


class Repay:
    """The debts of the selected accounts, round after round, each row computed again."""

    def __init__(self, watch: Watch, books: Books, throttle: Throttle) -> None:
        self.watch, self.books, self.throttle = watch, books, throttle
        self.state, self.venue = watch.state, watch.venue
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
        for account in self.watch.order:
            if self.watch.liquidating(account):
                self._follow_account(account, round_number)

    def _follow_account(self, account: int, round_number: int) -> None:
        state, watch = self.state, self.watch
        for b in range(*state.balance_offset[account : account + 2]):
            if state.free[b] >= 0:
                continue
            if not watch.liquidating(account):
                return
            asset, debt = int(state.asset[b]), -state.free[b]
            target = debt
            if not watch.below(account):
                if self.throttle.leaves_out(account, round_number, len(self.venue.markets) + asset):
                    row = watch.expect("throttle", account, "skip", asset=asset)
                    watch.equal("throttle", "reason", row, row.reason, "throttle")
                    watch.apply(row)
                    continue
                price = self._worth(asset) * self.venue.quantum
                least = math.ceil(self.least / price) if price else 1
                target = min(debt, max(math.floor(debt * self.part), least, 1))
            self._repay(account, b, target)

    def _worth(self, asset: int) -> Fraction:
        """Settle quanta of a quantum of an asset at the index."""
        return Fraction(self.watch.tick.worth("quantum", asset)) / self.venue.quantum

    def _lent(self, b: int) -> int:
        """Quanta of a lent balance that can be redeemed."""
        asset = int(self.state.asset[b])
        return min(self.state.lent[b], self.watch.pool_room(asset)) if asset in self.venue.pools else self.state.lent[b]

    def _repay(self, account: int, b: int, target: int) -> None:
        state, watch, asset = self.state, self.watch, int(self.state.asset[b])
        if redeemed := min(target, self._lent(b)):
            self._redeem(account, asset, redeemed)
            if not watch.liquidating(account):
                return
            target -= redeemed
        if target <= 0:
            return
        if asset == self.venue.settle:
            self._raise(account, target, asset)
            return
        cost = self._cost(round(target * self._worth(asset)))
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
                collateral.append((-quanta * self._worth(asset), asset, b))
        for _, asset, b in sorted(collateral):
            need -= self._sell(account, asset, b, need)
            if need <= 0 or not self.watch.liquidating(account):
                return

    def _sell(self, account: int, asset: int, b: int, need: int) -> int:
        """Follow the sale of one asset; return the proceeds."""
        free, unit_value = max(self.state.free[b], 0), self._worth(asset)
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
            sold, value = quote.lots * spot.lot, round(quote.value * spot.worth)
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
        unit_value = self._worth(asset)
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
            quanta, value = quote.lots * spot.lot, round(quote.value * spot.worth)
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
        row = self.watch.expect("repay", account, "expire", asset=asset)
        rule = "bands" if {reason, row.reason} & {"impact", "limit", "conversion"} else "repay"
        self.watch.equal(rule, "reason", row, row.reason, reason)
        self.watch.equal("repay", "requested", row, row.requested, requested)
        self.watch.apply(row)

    def _affordable(self, quote: Quote, spot: Spot, available: int) -> Quote | None:
        """Cut a purchase to the lots whose price and fee are available; None if there are none."""
        lots, value, fills = 0, 0, list[tuple[int, int]]()
        for price, size in quote.fills:
            low, high = 0, size + 1  # the most lots of this level, by halves
            while high - low > 1:
                middle = (low + high) // 2
                fits = self._cost(round((value + middle * price) * spot.worth)) <= available
                low, high = (middle, high) if fits else (low, middle)
            if not low:
                break
            fills.append((price, low))
            lots, value = lots + low, value + low * price
            if low < size:
                break
        return (
            Quote(lots, value, quote.reason, fills)
            if lots and self._cost(round(value * spot.worth)) <= available
            else None
        )

    def _room(self, account: int, asset: int, quanta: int) -> int:
        """Quanta that may still be converted at the index in this tick; if there are none, a row must record it."""
        if self.limit is None:
            return quanta
        unit_value = self._worth(asset)
        remaining = self.limit / self.venue.quantum - self.used.get(asset, 0)
        room = math.floor(remaining / unit_value) if unit_value else quanta
        if room <= 0:
            self._nothing(account, asset, 0, "conversion_limit")
        return room

    # -- rows

    def _redeem(self, account: int, asset: int, quanta: int) -> None:
        row = self.watch.expect("repay", account, "redeem", asset=asset)
        self._is_debt(row)
        self.watch.equal("repay", "quanta", row, row.quanta, quanta)
        self.watch.apply(row)

    def _convert(
        self, account: int, asset: int, quanta: int, cash: int, fee: int, market: int, quote: Quote | None
    ) -> None:
        row, watch = self.watch.expect("repay", account, "convert", asset=asset), self.watch
        self._is_debt(row)
        recorded = row.quanta, row.cash, row.fee
        watch.equal("repay", "quanta, cash and fee", row, recorded, (quanta, cash, fee))
        if quote is None:
            watch.equal("rows", "price", row, row.price, float(watch.tick.asset[asset]))
        else:
            side = self.books.side(market, 1 if quanta < 0 else -1)
            step = self.venue.spots[market - len(self.venue.markets)].step
            within = all(side.within(price) for price, _ in quote.fills) and abs(row.quanta) <= abs(quanta)
            watch.require("bands", within, "the conversion goes beyond its band", row)
            watch.price(row, abs(cash), step * quote.lots)
            side.take(quote.fills)
        watch.apply(row)

    def _is_debt(self, row: Row) -> None:
        self.watch.equal("rows", "reason", row, row.reason, "debt")
