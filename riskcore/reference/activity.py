"""Between two ticks: accounts are opened, orders placed, accounts trade, and money is moved (Activity)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

from .journal import BOOK, POOL, add_rows
from .numbers import HOUR, INFINITY, number, rhe
from .prices import Prices
from .settlement import Settlement
from .state import Account, Order, State
from .venue import Market, Venue

MOST = 2**60  # where sums of amounts end
LEAST_LIMIT = Fraction(1, 1000)  # of the leverage
ALWAYS = ("action", "time", "account")
MONEY = ("deposit", "withdraw", "transfer", "borrow", "repay", "lend", "redeem")
NEEDS = {"fill": "market quantity price", "place": "market quantity price side", "change": "order", "cancel": "order"}
NEEDS |= {"confirm": "market quantity price", "open": "", "leverage": ""} | dict.fromkeys(MONEY, "asset quantity")
NEEDS["transfer"] += " to_account"
MAY_HAVE = {"fill": "fee order", "place": "order reduce_only", "change": "quantity price", "confirm": "fee"}
MAY_HAVE |= {"open": "owner leverage_limit", "leverage": "leverage_limit"}
ASKED = ("request", "host")  # reasons of the rows of what was asked for; others follow from them
LEDGERS = ("book_lots", "book_quanta", "pool", "fund")


class Refused(ValueError):
    """An action that is refused, and why."""


def require(holds: object, why: str) -> None:
    """Refuse an action unless something holds."""
    if not holds:
        raise Refused(why)


class Activity(Settlement):
    """Actions one after another on a state, which they change.

    An action is a mapping of action, account and time to what it asks for, in whole lots, quanta and numbers of orders:
    lots, price, order, fee, market, side, id, reduce_only; quanta, asset; other; limit; owner. None: not given.
    """

    def __init__(self, venue: Venue, state: State, prices: Prices | None):
        super().__init__(state.venue or venue, state, state.time_ns, prices or Prices({}), seed=0)
        self.number, self.has_prices = state.ticks - 1, prices is not None
        self.reason, self.is_checked = "request", True
        self.latest = max(state.acted, state.time_ns)  # of the last tick and the last action

    def carry_out(self, asked: Mapping, *, is_checked: bool) -> None:
        """Carry out an action; a refused one changes nothing.

        Of a row of the run the rules are checked as its reason says: `request` with the venue's checks, `host` without.
        """
        self.is_checked, self.reason = is_checked, "request" if is_checked else "host"
        undo = self.saved(asked)
        self.time_ns = self.latest if asked["time"] is None else asked["time"]
        try:
            require(self.time_ns >= self.latest, "before the last tick or the last action")
            if asked["action"] != "open":
                require(self.is_there(asked["account"]), "no such account")
            CARRIED_OUT[asked["action"]](self, asked)
            self.check_sums(asked)
        except Refused:
            self.put_back(*undo)
            raise
        self.state.acted = self.latest = self.time_ns
        self.state.is_quiet = False

    def saved(self, asked: Mapping) -> tuple:
        """What an action may change before it changes proposals and what is remembered of them."""
        ids = [one for one in (asked["account"], asked.get("other")) if self.is_there(one)]
        accounts = {one: copy.deepcopy(self.state.accounts[one]) for one in ids}
        ledgers = {name: dict(getattr(self.state, name)) for name in LEDGERS}
        return accounts, ledgers, self.state.order_count, len(self.rows), asked

    def put_back(self, accounts: dict, ledgers: dict, order_count: int, rows: int, asked: Mapping) -> None:
        """Put back what an action has changed."""
        self.state.order_count, self.rows[rows:] = order_count, []
        for name, before in ledgers.items():
            setattr(self.state, name, before)
        for account_id in {asked["account"], asked.get("other")} - accounts.keys():
            self.state.accounts.pop(account_id, None)
        self.state.accounts.update(accounts)
        self.known.clear()
        self.known_sums.clear()

    def check_sums(self, asked: Mapping) -> None:
        """The amounts of an account stay below 2^60."""
        account = self.state.accounts[asked["account"]]
        amounts = [x for held in (*account.positions.values(), *account.balances.values()) for x in held]
        amounts += [account.open_lots(order.market, order.side) for order in account.orders]
        require(all(abs(amount) < MOST for amount in amounts), "2^60 or more")
        for symbol in {order.market for order in account.orders} | account.positions.keys():
            market, lots = self.venue.markets[symbol], account.positions.get(symbol, (0,))[0]
            sizes = [account.worst_case(symbol, lots), *(o.lots for o in account.orders if o.market == symbol)]
            highest = market.tick_size if market.is_inverse else market.highest_price
            if highest is not None:
                worth = abs(market.lot_value(highest)) / self.quantum(symbol)
                require(max(sizes) * worth < MOST, "2^60 quanta or more at the highest price")

    # -- what an action names

    def is_there(self, account_id) -> bool:
        """Whether there is an account."""
        return account_id in self.state.accounts

    def can_open(self, account_id) -> bool:
        """Whether the settings of an account that is opened are known."""
        return account_id in self.state.opening

    def market_of(self, asked: Mapping) -> Market:
        """The market of an action, which must be listed."""
        require(asked["market"] in self.venue.markets, "no such market")
        require(asked["market"] not in self.state.delisted, "delisted")
        return self.venue.markets[asked["market"]]

    def order_of(self, asked: Mapping) -> Order:
        """The open order of an account that an action names."""
        orders = self.state.accounts[asked["account"]].orders
        found = [order for order in orders if order.index == asked["order"]]
        require(found, "no such order")
        return found[0]

    def balance_of(self, asked: Mapping) -> tuple:
        """Free and lent quanta of an account in the asset of an action."""
        require(asked["asset"] in self.venue.assets, "no such asset")
        require(asked["quanta"] > 0, "less than a quantum")
        free, lent = self.state.accounts[asked["account"]].balances.get(asked["asset"], (0, 0))
        return free, lent

    # -- checks of the venue

    def margin_now(self, account_id):
        """The margin of an account at the prices of the last tick, which must all be there."""
        require(self.has_prices, "no price: no tick yet")
        try:
            return self.look(account_id)
        except (LookupError, ValueError) as error:
            raise Refused(f"no price: {error}") from None

    def refuse_liquidating(self, account_id) -> None:
        """An account that is liquidating may not do it."""
        if self.is_checked and is_exposed(self.state.accounts[account_id]):
            require(not self.margin_now(account_id).liquidating, "liquidating")

    def require_initial_margin(self, account_id) -> None:
        """The IMR must be below 1, and the net equity not below 0, if there is exposure."""
        if self.is_checked and is_exposed(self.state.accounts[account_id]):
            look = self.margin_now(account_id)
            require(self.covers_initial(look), "IMR")

    def refuse_closed(self, market: Market) -> None:
        """A closed market takes no orders."""
        require(not (self.is_checked and market.row.get("orderBookState") == "Closed"), "closed market")

    def cut(self, asked: Mapping, symbol: str, side: str, lots: int) -> int:
        """What a reduce-only order can have of its lots."""
        most = opposite(self.state.accounts[asked["account"]], symbol, side)
        if not self.is_checked:
            return lots
        require(most > 0, "reduce_only without an opposite position")
        return min(lots, most)

    # -- the actions

    def open_account(self, asked: Mapping) -> None:
        """A new account; a run tells its settings beforehand."""
        account_id, known = asked["account"], self.state.accounts
        require(not self.is_there(account_id), "an account already")
        if "owner" in asked:
            owner = account_id if asked["owner"] is None else asked["owner"]
            require(owner not in known or known[owner].owner == owner, "the owner has an owner")
            is_owner = any(account.owner == account_id for account in known.values())
            require(owner == account_id or not is_owner, "an owner must be its own owner")
            limit = checked_limit(asked)
            balances, unsettled = {self.venue.settle: [0, 0]}, dict.fromkeys(self.venue.money, 0)
            self.state.opening[account_id] = Account({}, balances, [], limit, unsettled, owner)
        require(self.can_open(account_id), "not in the table of accounts that are opened")
        self.record("open", self.reason, account_id)

    def fill_position(self, asked: Mapping) -> None:
        """A trade with the market, of no order or of one."""
        account_id, market, change = asked["account"], self.market_of(asked), asked["lots"]
        account, symbol = self.state.accounts[account_id], market.symbol
        require(change != 0, "no lots")
        price, order, rest = checked_price(asked["price"]), None, account.orders
        if asked["order"] is not None:
            order = self.order_of(asked)
            fits = order.market == symbol and (order.side == "bid") == (change > 0) and abs(change) <= order.lots
            require(fits, "not of the order")
            beyond = price > order.price if change > 0 else price < order.price
            require(not (self.is_checked and beyond), "worse than the limit of the order")
            rest = with_lots(account.orders, order, order.lots - abs(change))
        else:
            self.refuse_closed(market)
        held = account.positions.get(symbol, (0,))[0]
        raises = worst_case(rest, symbol, held + change) > account.worst_case(symbol, held)
        if raises:
            self.refuse_liquidating(account_id)
        add_rows(self.state, account, symbol, market.settle)
        flow, fee = self.flow(market, change, price), asked["fee"] or 0
        names = {"price": price, "order": None if order is None else order.index}
        self.fill("fill", self.reason, account_id, BOOK, symbol, 0, change, flow, fee, fund=-fee, **names)
        self.shrink(account_id, symbol)
        if raises and order is None:
            self.require_initial_margin(account_id)

    def flow(self, market: Market, change: int, price: Fraction) -> int:
        """What so many lots bring at a price, in quanta of the asset that the market settles in."""
        return -rhe(change * market.lot_value(price) / self.quantum(market.symbol))

    def shrink(self, account_id, symbol: str) -> None:
        """The reduce-only orders of a market cannot be larger than what they reduce."""
        account = self.state.accounts[account_id]
        for order in list(account.orders):
            if order.market == symbol and order.reduce_only:
                most, names = opposite(account, symbol, order.side), {"market": symbol, "order": order.index}
                if most == 0:
                    self.record("cancel", "reduce_only", account_id, **names, requested=order.lots)
                elif order.lots > most:
                    self.record("change", "reduce_only", account_id, float(order.price), **names, requested=most)

    def place_order(self, asked: Mapping) -> None:
        """A new order."""
        account_id, market, lots, side = asked["account"], self.market_of(asked), asked["lots"], asked["side"]
        account, symbol = self.state.accounts[account_id], market.symbol
        index, price = self.state.order_count, checked_price(asked["price"], market)
        require(lots > 0 and side in ("bid", "ask"), "lots or side")
        text = str(index) if asked["id"] is None else asked["id"]
        require(all(order.id != text for order in account.orders), "a duplicate order id")
        self.refuse_closed(market)
        self.refuse_liquidating(account_id)
        if asked["reduce_only"]:
            lots = self.cut(asked, symbol, side, lots)
        self.state.placing[index] = Order(index, symbol, side, price, lots, bool(asked["reduce_only"]), text)
        self.ordered("place", account_id, self.state.placing[index])

    def change_order(self, asked: Mapping) -> None:
        """Other lots or another limit of an order."""
        order = self.order_of(asked)
        market = self.venue.markets[order.market]
        require(not asked["lots"] is asked["price"] is None, "nothing changes")
        lots = order.lots if asked["lots"] is None else asked["lots"]
        price = order.price if asked["price"] is None else checked_price(asked["price"], market)
        require(lots > 0, "lots")
        self.refuse_closed(market)
        self.refuse_liquidating(asked["account"])
        if order.reduce_only:
            lots = self.cut(asked, order.market, order.side, lots)
        changed = Order(order.index, order.market, order.side, price, lots, order.reduce_only, order.id)
        self.ordered("change", asked["account"], changed)

    def ordered(self, event: str, account_id, order: Order) -> None:
        """An order as it is now; the initial margin is needed where it raises the worst case of its market."""
        account, symbol = self.state.accounts[account_id], order.market
        lots = account.positions.get(symbol, (0,))[0]
        before = account.worst_case(symbol, lots)
        names = {"market": symbol, "order": order.index, "requested": order.lots}
        self.record(event, self.reason, account_id, float(order.price), **names)
        if account.worst_case(symbol, lots) > before:
            self.require_initial_margin(account_id)

    def cancel_order(self, asked: Mapping) -> None:
        """An order is taken back."""
        order = self.order_of(asked)
        names = {"market": order.market, "order": order.index, "requested": order.lots}
        self.record("cancel", self.reason, asked["account"], **names)

    def deposit(self, asked: Mapping) -> None:
        """Money comes from outside."""
        self.balance_of(asked)
        self.move("deposit", asked, asked["quanta"], counterparty=BOOK)

    def withdraw(self, asked: Mapping) -> None:
        """Money goes outside."""
        self.give("withdraw", asked, BOOK)

    def transfer(self, asked: Mapping) -> None:
        """Money goes to another account of the owner."""
        account_id, other = asked["account"], asked["other"]
        require(account_id != other and self.is_there(other), "no other account")
        owners = (self.state.accounts[one].owner for one in (account_id, other))
        require(next(owners) == next(owners), "of another owner")
        self.give("transfer", asked, other)

    def give(self, event: str, asked: Mapping, to) -> None:
        """Who gives has it, and keeps its initial margin."""
        require(self.balance_of(asked)[0] >= asked["quanta"], "more than the free balance")
        self.refuse_liquidating(asked["account"])
        self.move(event, asked, -asked["quanta"], counterparty=to)
        self.require_initial_margin(asked["account"])

    def borrow(self, asked: Mapping) -> None:
        """A new debt, with the interest of the running hour where its asset has a pool."""
        account_id, asset, quanta = asked["account"], asked["asset"], asked["quanta"]
        require(self.balance_of(asked)[0] <= 0, "nothing to borrow")
        self.refuse_liquidating(account_id)
        self.bounds = {pool: self.bound(pool) for pool in self.venue.pools}
        require(not self.is_checked or quanta <= self.borrowable(asset), "more than the pool has")
        self.move("borrow", asked, -quanta, counterparty=BOOK)
        if asset in self.venue.pools:
            rate, left = self.hourly_rates(asset)[0], HOUR - self.time_ns % HOUR
            fee = rhe(Fraction(quanta * rate * left, 10**15 * HOUR))
            if fee != 0:
                self.record("interest", self.reason, account_id, counterparty=POOL, asset=asset, quanta=-fee)
        self.require_initial_margin(account_id)

    def repay_debt(self, asked: Mapping) -> None:
        """Money from outside for a debt."""
        require(-self.balance_of(asked)[0] >= asked["quanta"], "more than the debt")
        self.move("repay", asked, asked["quanta"], counterparty=BOOK)

    def lend(self, asked: Mapping) -> None:
        """Free money is lent."""
        require(self.balance_of(asked)[0] >= asked["quanta"], "more than the free balance")
        self.refuse_liquidating(asked["account"])
        self.move("lend", asked, -asked["quanta"], lent=asked["quanta"])

    def redeem_lent(self, asked: Mapping) -> None:
        """Lent money is taken back."""
        require(self.balance_of(asked)[1] >= asked["quanta"], "more than is lent")
        most = self.not_lent_out(asked["asset"])
        require(not self.is_checked or asked["quanta"] <= most, "more than the pool has")
        self.move("redeem", asked, asked["quanta"], lent=-asked["quanta"])

    def move(self, event: str, asked: Mapping, quanta: int, **changes) -> None:
        """A row of money."""
        self.record(event, self.reason, asked["account"], asset=asked["asset"], quanta=quanta, **changes)

    def limit_leverage(self, asked: Mapping) -> None:
        """Another limit of the leverage, or none."""
        account_id, limit = asked["account"], checked_limit(asked)
        self.refuse_liquidating(account_id)
        self.record("leverage", self.reason, account_id, math.nan if limit is None else float(limit))
        self.require_initial_margin(account_id)

    def confirm_slice(self, asked: Mapping) -> None:
        """The host filled lots of a slice that was proposed to it (Host mode)."""
        account_id, market, change = asked["account"], self.market_of(asked), asked["lots"]
        symbol, price = market.symbol, checked_price(asked["price"])
        proposal = self.state.proposals.get((account_id, symbol))
        held = self.state.accounts[account_id].positions.get(symbol, (0,))[0]
        if proposal is None or change * proposal.lots <= 0:
            raise Refused("nothing is proposed")
        require(change * held < 0 and abs(change) <= min(abs(proposal.lots), abs(held)), "more than is open")
        limit = proposal.limit
        require(limit is None or (price <= limit if change > 0 else price >= limit), "worse than the limit")
        flow = self.flow(market, change, price)
        due = rhe(abs(flow) * proposal.rate)
        fee = due if asked["fee"] is None else asked["fee"]
        require(abs(fee - due) <= 1 and fee >= 0, "not the fee of the slice")
        self.reason = "host"
        size = abs(proposal.lots)
        self.fill(proposal.event, self.reason, account_id, BOOK, symbol, size, change, flow, fee, price=price)
        self.state.proposals[account_id, symbol] = replace(proposal, lots=proposal.lots - change)
        if proposal.event == "book":
            self.remember(account_id, symbol, abs(change))
        self.shrink(account_id, symbol)

    def remember(self, account_id, symbol: str, lots: int) -> None:
        """What cooldowns and caps of accounts remember of a slice (3 Book)."""
        if self.venue.policy["slice_cooldown"] is not None:
            self.state.last_slice[account_id, symbol] = self.time_ns
        if self.venue.policy["account_cap"] is not None:
            worth = math.ceil(self.quanta(self.prices.of_lot(self.venue, symbol)))
            self.state.sold[account_id] = self.state.sold.get(account_id, 0) + lots * worth


CARRIED_OUT = {
    "open": Activity.open_account, "fill": Activity.fill_position, "place": Activity.place_order,
    "change": Activity.change_order, "cancel": Activity.cancel_order, "deposit": Activity.deposit,
    "withdraw": Activity.withdraw, "transfer": Activity.transfer, "borrow": Activity.borrow,
    "repay": Activity.repay_debt, "lend": Activity.lend, "redeem": Activity.redeem_lent,
    "leverage": Activity.limit_leverage, "confirm": Activity.confirm_slice,
}  # fmt: skip


def checked_price(price, market: Market | None = None) -> Fraction:
    """A price above 0; of an order in whole ticks."""
    require(price is not None and 0 < price < INFINITY, "no price")
    exact = number(price)
    require(market is None or (exact / market.tick_size).denominator == 1, "a price between two ticks")
    return exact


def checked_limit(asked: Mapping) -> Fraction | None:
    """A limit of the leverage, None without one."""
    if asked["limit"] in (None, INFINITY):
        return None
    limit = number(asked["limit"])
    require(limit >= LEAST_LIMIT, "no leverage limit")
    return limit


def is_exposed(account: Account) -> bool:
    """Whether an account has a position, an order that counts, or a debt."""
    held = any(lots for lots, *_ in account.positions.values())
    return held or any(free < 0 for free, _ in account.balances.values()) or has_orders(account)


def has_orders(account: Account) -> bool:
    """Whether an account has an order that counts in its margin."""
    return any(not order.reduce_only for order in account.orders)


def opposite(account: Account, symbol: str, side: str) -> int:
    """The lots that an order on a side could reduce."""
    lots = account.positions.get(symbol, (0,))[0]
    return max(-lots if side == "bid" else lots, 0)


def worst_case(orders: list, symbol: str, lots: int) -> int:
    """The worst case of a market with other orders and lots."""
    return Account(orders=orders).worst_case(symbol, lots)


def with_lots(orders: list, filled: Order, lots: int) -> list:
    """Orders of which one has other lots, or is gone."""
    changed = [order if order is not filled else replace(order, lots=lots) for order in orders]
    return [order for order in changed if order.lots]


# -- actions as a run recorded them


def carried_out(venue: Venue, state: State, recorded: Iterable[Mapping], prices: Prices | None) -> tuple:
    """The state after recorded actions and their rows, by `prices`, those of the last tick; a refused one has no row.

    Of a recorded row only what was asked for is taken; what follows from it is made again.
    """
    activity = Activity(venue, copy.deepcopy(state), prices)
    for row in recorded:
        if row["reason"] in ASKED and row["event"] != "interest":
            with suppress(Refused):
                activity.carry_out(asked_of(activity.state, row), is_checked=row["reason"] == "request")
    return activity.state, activity.rows


def asked_of(state: State, row: Mapping) -> dict:
    """What a recorded row asked for."""
    event, names = row["event"], ("account", "time", "market", "asset", "order", "lots", "price")
    asked = {name: row[name] for name in names} | {"action": event, "quanta": abs(row["quanta"]), "fee": row["fee"]}
    asked |= {"other": row["counterparty"], "limit": None if row["price"] != row["price"] else row["price"]}
    if event in ("book", "market_close"):
        asked["action"] = "confirm"
    elif event == "change":
        asked["lots"] = row["requested"]
    elif event == "place":
        try:
            placed = state.placing[row["order"]]
        except LookupError:
            raise Refused("not in the table of orders that are placed") from None
        asked |= {name: getattr(placed, name) for name in ("market", "side", "price", "lots", "reduce_only", "id")}
    return asked


# -- actions as a user writes them


def apply(venue: Venue, state: State, activity: Iterable[Mapping], prices: Prices | None, check: str = "on") -> tuple:
    """The state after actions in natural units, and their rows; `Refused` of one is a refusal of all (Activity).

    `prices`: those of the last tick. The state given is not changed.
    """
    done = Activity(venue, copy.deepcopy(state), prices)
    for place, row in enumerate(activity):
        given = {name: x for name, x in row.items() if x is not None and x == x}
        try:
            done.carry_out(whole_units(done, given), is_checked=check == "on")
        except Refused as error:
            raise Refused(f"row {place}: {error}") from None
    return done.state, done.rows


def whole_units(done: Activity, given: Mapping) -> dict[str, Any]:
    """An action in whole lots, quanta and numbers of orders."""
    action, venue = str(given.get("action")), done.venue
    require(action in CARRIED_OUT, "no such action")
    needs = {*ALWAYS, *NEEDS[action].split()} - {"time"}
    require(needs <= given.keys() <= needs | {"time", *MAY_HAVE.get(action, "").split()}, "columns")
    asked = dict.fromkeys(("time", "market", "asset", "lots", "price", "order", "fee", "id", "reduce_only", "side"))
    asked |= {name: x for name, x in given.items() if name not in ("quantity", "fee", "order")}
    asked |= {"limit": given.get("leverage_limit"), "other": given.get("to_account"), "owner": given.get("owner")}
    symbol, text = asked["market"], None if "order" not in given else str(given["order"])
    if action == "place":
        asked["id"] = text
    elif text is not None:
        account = done.state.accounts.get(given["account"], Account())
        found = [order for order in account.orders if order.id == text]
        require(found, "no such order")
        asked["order"] = found[0].index
        symbol = symbol or found[0].market
    if action in MONEY:
        require(given["asset"] in venue.assets, "no such asset")
        require(0 < given["quantity"] < INFINITY, "no quantity")
        return asked | {"quanta": rhe(number(given["quantity"]) / venue.assets[given["asset"]].quantum)}
    if action in ("open", "cancel", "leverage"):
        return asked
    require(symbol in venue.markets, "no such market")
    market = venue.markets[symbol]
    if "quantity" in given:
        require(abs(given["quantity"]) < INFINITY, "no quantity")
        lots = number(given["quantity"]) / market.step_size
        require(lots.denominator == 1, "no whole number of lots")
        asked["lots"] = lots.numerator
    if "fee" in given:
        require(abs(given["fee"]) < INFINITY, "no fee")
        asked["fee"] = rhe(number(given["fee"]) / venue.assets[market.settle].quantum)
    return asked
