"""One tick in progress: the state, the rows recorded so far, and the trades that several phases make."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from .account_margin import Margin, margin
from .float64 import Float64, Sums, Swept
from .journal import BOOK, QUIET, apply_row
from .numbers import INFINITY, SECOND, YEAR_HOURS, change_of_cost, descending, part, rhe
from .prices import Prices
from .quotes import BookFill
from .state import Account, State
from .throttle import WORD, draw
from .venue import Venue

UNCHANGING = ("trigger", "skip", "harm", "expire", "unfilled", "propose")  # events that change no account


@dataclass
class Slice:
    """A slice that an account sends (3 Book)."""

    account_id: object
    symbol: str
    side: str  # of the book
    lots: int  # `s`
    rate: Fraction  # `c`
    offer: int  # `o`


@dataclass
class Deal:
    """What is handed over of an account: lots of a market, or quanta of an asset (4 Backstop, 5 ADL)."""

    account_id: object
    change: int  # of the account, signed
    flow: int  # what it gets for all of it, signed
    to_fund: int = 0
    market: Any = None
    asset: Any = None
    done: int = 0

    @property
    def size(self) -> int:
        """Lots or quanta of all of it."""
        return abs(self.change)

    @property
    def left(self) -> int:
        """Lots or quanta that nobody took yet."""
        return self.size - self.done

    def signed(self, taken: int) -> int:
        """The change of the account for so many of them."""
        return taken if self.change > 0 else -taken

    def instalment(self, taken: int) -> tuple:
        """What the account and the fund get for the next ones."""
        done = self.done, self.done + taken
        return part(self.flow, *done, self.size), part(self.to_fund, *done, self.size)


class TickState:
    """One tick in progress: the state, which it changes, the rows recorded so far, and trades of several phases."""

    def __init__(self, venue: Venue, state: State, time_ns: int, prices: Prices, seed: int):
        self.venue, self.state, self.time_ns, self.prices, self.seed = venue, state, time_ns, prices, seed
        self.number = state.ticks
        self.since = state.time_ns if state.ticks > 0 else None  # the instant before, None at the first tick
        self.rows: list[dict] = []
        self.scheduled: Any = None  # what of the tick has a time of its own
        self.entries: list = []  # of the funding table that are due, by time
        self.has_events = False  # whether an entry is due or the venue changes
        # in settlement: its asset, and by account id the debt, what of it is not covered yet, what interest added to it
        self.settling: str | None = None
        self.owed: dict = {}
        self.short: dict = {}
        self.added: dict = {}
        # the sweep, after what was due: None before it
        self.swept: Any = None  # account id: Account
        self.start_margins: Any = None  # account id: Margin
        self.selected: list = []
        self.first_row = 0  # of the selection
        self.keys: dict = {}  # account id: key of its draws
        self.levels: dict = {}  # (symbol, side): [[ticks, lots left, what is remembered of the level], ...]
        self.bands: dict = {}  # (symbol, side): Band
        self.limits: dict = {}  # (symbol, side): the same with its price in ticks
        self.worst_average: dict = {}  # (symbol, side): ticks or None
        self.slicing: set = set()  # accounts that take part in phase 3 of this round
        self.known: dict = {}  # account id: its margin as it is now
        self.known_sums: dict = {}  # account id: the same in float64
        self.filled = dict.fromkeys(venue.markets, 0)  # lots filled by slices in this tick
        self.converted_at_index = dict.fromkeys(venue.assets, 0)  # quanta of conversions at the index
        self.escalated: set = set()
        self.taken: list = []  # (level, lots taken of it) of the stage in progress
        self.fill_rates: dict = {}  # (account id, symbol): fee rate of its last fill in the book
        self.after_book = False  # whether the stage `book` has come already
        self.sides: dict = {}  # (symbol, whether they are long): {counterparty: score or weight}
        self.deleveraged: dict = {}  # (account id, symbol): lots closed by ADL in this tick

    def takes(self, account_id, look: Margin) -> bool:
        """Whether a stage takes an account: after the stage `book` only what is not the book's (Stages)."""
        return look.liquidating and (not self.after_book or look.below_auto_close or account_id in self.escalated)

    def ago(self, time_ns: int, figure: str) -> bool:
        """Whether a time is more than a figure of the policy, in seconds, before the tick."""
        longest = self.venue.policy[figure]
        return longest is not None and self.time_ns - time_ns > longest * SECOND

    def look(self, account_id) -> Margin:
        """The margin of an account as it is now."""
        if account_id not in self.known:
            self.known[account_id] = margin(self.venue, self.state.accounts[account_id], self.prices)
        return self.known[account_id]

    def sums(self, account_id) -> Sums:
        """The margin of an account as it is now, in float64."""
        if account_id not in self.known_sums:
            self.known_sums[account_id] = self.float64.sums(self.state.accounts[account_id])
        return self.known_sums[account_id]

    @cached_property
    def float64(self) -> Float64:
        """The figures of the tick in float64, once its prices are guarded."""
        return Float64(self.venue, self.prices)

    def record(self, event: str, reason: str, account_id, price=math.nan, **changes) -> None:
        """Make a change by its row (The journal)."""
        row = {"tick": self.number, "time": self.time_ns, "event": event, "reason": reason, "account": account_id}
        row |= QUIET | changes | {"price": price, "mmr_before": self.ratio(account_id)}
        apply_row(self.state, row)
        if event not in UNCHANGING:
            for changed in (account_id, row["counterparty"]):
                self.known.pop(changed, None)
                self.known_sums.pop(changed, None)
        row["mmr_after"] = self.ratio(account_id)
        self.rows.append(row)

    def ratio(self, account_id) -> float:
        """MMR, before the sweep not a number (Between the ticks)."""
        return math.nan if self.start_margins is None else float(self.look(account_id).mmr)

    def swept_figures(self, account_id) -> Swept:
        """The figures of an account at the sweep, in float64 (Select; 5 ADL, Counterparties)."""
        sums = self.float64.sums(self.swept[account_id])
        return self.float64.swept(sums, self.start_margins[account_id])

    def quanta(self, amount) -> Fraction:
        """An amount in quanta of the settle asset, not rounded."""
        return amount / self.venue.settle_quantum

    def value_of_quantum(self, asset: str) -> Fraction:
        """`p * quantum_a`, in settle units (4 Backstop, Borrows)."""
        return self.prices.of_asset(self.venue, asset) * self.venue.assets[asset].quantum

    def quanta_in(self, symbol: str, amount) -> Fraction:
        """An amount in the unit of account in quanta of the asset that a market settles in, not rounded."""
        return amount / self.value_of_quantum(self.venue.markets[symbol].settle)

    def quantum(self, symbol: str) -> Fraction:
        """The quantum of the asset that a market settles in."""
        return self.venue.assets[self.venue.markets[symbol].settle].quantum

    def price_of(self, symbol: str, lots: int, flow: int) -> float:
        """The price of a row, at which a change by `lots` brings `flow` quanta (Contracts)."""
        return self.venue.markets[symbol].price_of(lots, flow * self.quantum(symbol), self.prices.marks[symbol])

    def lots(self, account_id, symbol: str) -> int:
        """Signed lots of a position as they are now."""
        return self.state.accounts[account_id].positions[symbol][0]

    def redeem(self, account_id, asset: str, quanta: int, reason: str) -> None:
        """Move quanta from the lends to the free balance."""
        self.record("redeem", reason, account_id, asset=asset, quanta=quanta, lent=-quanta)

    def fill(
        self, event, reason, account_id, other, symbol, requested, change, flow, fee=0, fund=0, price=None, order=None
    ) -> None:
        """Trade `change` lots for the signed money `flow` with `other`, who also pays `fund` (Numbers)."""
        accounts, paid = self.state.accounts, -(flow + fund)
        lots, *amounts = accounts[account_id].positions[symbol]
        cost, entry = (change_of_cost(lots, amount, change, flow) for amount in amounts)
        counter_cost = counter_entry = 0
        if other != BOOK:
            lots, *amounts = accounts[other].positions[symbol]
            counter_cost, counter_entry = (change_of_cost(lots, amount, -change, paid) for amount in amounts)
        changes = {"requested": requested, "lots": change, "cost": cost, "cash": flow + cost, "fee": fee, "fund": fund}
        changes |= {"counter_cost": counter_cost, "counter_cash": paid + counter_cost}
        changes |= {"entry": entry, "counter_entry": counter_entry}
        names = {"counterparty": other, "market": symbol, "settle": self.venue.markets[symbol].settle, "order": order}
        price = self.price_of(symbol, change, flow) if price is None else float(price)
        self.record(event, reason, account_id, price, **names, **changes)

    def convert(self, account_id, asset: str, quanta: int, reason: str, settle=None) -> int:
        """Sell (quanta < 0) or buy an asset for settle, or another asset, at the tick's price; gives the proceeds."""
        settle = settle or self.venue.settle
        value = rhe(abs(quanta) * self.prices.of_quantum(self.venue, asset, settle))
        price = float(self.prices.of_asset(self.venue, asset) / self.prices.of_asset(self.venue, settle))
        return self.convert_for(account_id, asset, quanta, value, price, 0, reason, settle)

    def convert_for(self, account_id, asset, quanta: int, value: int, price: float, fee: int, reason, settle) -> int:
        """Sell (quanta < 0) or buy an asset for `value` quanta of another; returns the money less the fee."""
        cash = value if quanta < 0 else -value
        changes = {"asset": asset, "settle": settle, "quanta": quanta, "cash": cash, "fee": fee, "counter_cash": -cash}
        self.record("convert", reason, account_id, price, counterparty=BOOK, **changes)
        return cash - fee

    def after(self, account_id, change: int, money: int, market=None, asset=None) -> Margin:
        """The margin of an account had it `change` more lots or quanta, or neither, and got `money`."""
        return self.margin_of(self.changed(account_id, change, money, market, asset))

    def changed(self, account_id, change: int, money: int, market=None, asset=None) -> Account:
        """An account with `change` more lots or quanta, or neither, and `money`.

        The money of lots is in the asset that their market settles in.
        """
        account, settle = copy.copy(self.state.accounts[account_id]), self.venue.settle
        account.balances = {asset: list(held) for asset, held in account.balances.items()}
        if market is not None:
            lots, cost, entry = account.positions[market]
            changed = change_of_cost(lots, cost, change, money)
            account.positions = account.positions | {market: [lots + change, cost + changed, entry]}
            money, settle = money + changed, self.venue.markets[market].settle
        elif asset is not None:
            account.balances[asset][0] += change
        account.balances[settle][0] += money
        return account

    def margin_of(self, account: Account) -> Margin:
        """The margin of an account that is tried."""
        return margin(self.venue, account, self.prices)

    def fee_rate(self, account_id) -> Fraction:
        """The rate of the liquidation fee, 0 of an account without equity (Fees)."""
        return self.venue.policy["liquidation_fee"] if self.look(account_id).net_equity > 0 else Fraction(0)

    def payable(self, fee: int, equity: Fraction, asset: str) -> int:
        """A fee in quanta of an asset: no more than the net equity that is left without it (Fees)."""
        return min(fee, max(0, math.floor(equity / self.value_of_quantum(asset))))

    def is_other(self, account_id, other) -> bool:
        """Whether two accounts have different owners: only such accounts are counterparties (Owners)."""
        return self.state.accounts[account_id].owner != self.state.accounts[other].owner

    def stays_healthy(self, look: Margin) -> bool:
        """Whether an account is healthy as a counterparty must stay (Healthy accounts)."""
        has_margin = look.maintenance_margin < self.venue.policy["counterparty_mmr"] * look.net_equity
        return look.net_equity >= 0 and (look.exposure == 0 or has_margin)

    def covers_initial(self, look: Margin) -> bool:
        """Whether the IMR of an account is below 1 and its net equity not below 0 (4 Backstop, Providers)."""
        return look.imr < 1 and look.net_equity >= 0

    def debt(self, account_id, asset: str) -> int:
        """The debt of an account in an asset."""
        return max(-self.state.accounts[account_id].balances.get(asset, (0, 0))[0], 0)

    def pool_totals(self, asset: str) -> tuple:
        """`pool_lent` and `pool_borrowed`; in settlement debts count `owed` and leave `lack` out (Settlement)."""
        lent, borrowed = self.venue.pools[asset].lent, self.venue.pools[asset].borrowed
        for account_id, account in self.state.accounts.items():
            free, account_lent = account.balances.get(asset, (0, 0))
            lent += account_lent
            if asset == self.settling:
                free += self.short.get(account_id, 0) - self.owed.get(account_id, 0)
            borrowed += max(-free, 0)
        return lent, borrowed

    def utilisation(self, asset: str) -> Fraction:
        """`U` (Interest)."""
        lent, borrowed = self.pool_totals(asset)
        if lent == 0:
            return Fraction(1 if borrowed > 0 else 0)
        return min(Fraction(borrowed, lent), Fraction(1))

    def hourly_rates(self, asset: str) -> tuple:
        """`hour_paid` and `hour_earned`, in 10^-15 (Interest)."""
        pool, policy, u = self.venue.pools[asset], self.venue.policy, self.utilisation(asset)
        rate = policy["borrow_rate_base"] + policy["borrow_rate_slope"] * min(u / pool.optimum, 1)
        if u > pool.optimum:
            rate += policy["borrow_rate_jump"] * (u - pool.optimum) / (1 - pool.optimum)
        hourly = rate / YEAR_HOURS * 10**15
        return rhe(hourly), rhe(hourly * u * (1 - pool.fee))

    def not_lent_out(self, asset: str):
        """What this phase can redeem of an asset (2 Repay)."""
        if asset not in self.venue.pools:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        return max(0, lent - borrowed)

    def collateral(self, account_id, *others: str) -> list:
        """The assets but `others` that can be sold for a debt, in the order of their sale (2 Repay)."""
        balances = self.state.accounts[account_id].balances
        held = {asset: max(free, 0) + lent for asset, (free, lent) in balances.items() if free > 0 or lent > 0}
        for_sale = [asset for asset in self.venue.assets if asset in held and asset not in others]
        return descending(for_sale, lambda asset: held[asset] * self.prices.of_quantum(self.venue, asset))

    def positions_by_margin(self, look: Margin) -> list:
        """The markets of an account's positions by MM descending, ties by market (4 Backstop, 5 ADL)."""
        return descending(look.position_maintenance_margins, look.position_maintenance_margins.get)

    def throttled(self, account_id, round_: int, market=None, asset=None) -> bool:
        """Whether a leg rests by the throttle (Throttle)."""
        legs = self.venue.legs
        drawn = draw(self.keys[account_id], round_ * len(legs) + legs[market, asset])
        if drawn < math.floor(self.venue.policy["slice_probability"] * WORD):
            return False
        self.record("skip", "throttle", account_id, market=market, asset=asset)
        return True

    def take(self, symbol: str, side: str, fill: BookFill) -> None:
        """Take a fill from the levels of this tick."""
        is_refilled = self.venue.policy["refill_half_life"] is not None
        for level, taken in zip(self.levels[symbol, side], fill.taken, strict=False):
            level[1] -= taken
            level[2][2] += taken if is_refilled else 0
            self.taken.append((level, taken))

    def hand_over(self, event: str, reason: str, deal: Deal, other, taken: int) -> None:
        """A fill: the account gets its part of `flow`, the fund of `to_fund` (4 Backstop, 5 ADL)."""
        (money, fund), change = deal.instalment(taken), deal.signed(taken)
        deal.done += taken
        if deal.asset is None:
            self.fill(event, reason, deal.account_id, other, deal.market, deal.size, change, money, fund=fund)
        else:
            changes = {"requested": deal.size, "quanta": change, "cash": money, "fund": fund}
            self.swap(event, reason, deal, other, changes | {"counter_cash": -(money + fund)}, change)

    def swap(self, event: str, reason: str, deal: Deal, other, changes, change: int) -> None:
        """A row that gives quanta of an asset for settle; its price is the settle over the quantity."""
        paid = -changes["cash"] * self.venue.settle_quantum
        price = float(paid / (change * self.venue.assets[deal.asset].quantum))
        names = {"counterparty": other, "asset": deal.asset, "settle": self.venue.settle}
        self.record(event, reason, deal.account_id, price, **names, **changes)

    def refuse(self, reason: str, price=math.nan, **where) -> None:
        """A `guard` row (Guards)."""
        row = {"tick": self.number, "time": self.time_ns, "event": "guard", "reason": reason, "account": None}
        self.rows.append(row | QUIET | where | {"price": price, "mmr_before": math.nan, "mmr_after": math.nan})
