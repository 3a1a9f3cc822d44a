"""The state of a run: accounts, ledgers, and what guards and throttle remember from one tick to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .numbers import INFINITY, number, rhe, whole
from .venue import Venue


class Asked(dict):
    """Values by key, each made when it is asked for."""

    def __init__(self, make: Callable[[Any], Any]):
        super().__init__()
        self.make = make

    def __missing__(self, key):
        self[key] = self.make(key)
        return self[key]


@dataclass(frozen=True)
class Order:
    """A resting order."""

    index: int  # number: of the orders at the start its row, of a placed one how many there were before it
    market: str
    side: str
    price: Fraction
    lots: int
    reduce_only: bool
    id: str = ""  # the user's, by default the number


@dataclass
class Account:
    """Positions, balances and orders of one account, in whole lots and quanta."""

    positions: dict = field(default_factory=dict)  # market: [lots, cost, entry]
    balances: dict = field(default_factory=dict)  # asset: [free, lent]
    orders: list = field(default_factory=list)
    leverage_limit: Fraction | None = None
    unsettled: dict = field(default_factory=dict)  # money asset: quanta
    owner: object = field(default=None, compare=False)  # id of the owner, by default the account's

    def __deepcopy__(self, memo) -> Account:
        positions = {market: list(held) for market, held in self.positions.items()}
        balances = {asset: list(held) for asset, held in self.balances.items()}
        unsettled = dict(self.unsettled)
        return Account(positions, balances, list(self.orders), self.leverage_limit, unsettled, self.owner)

    def worst_case(self, market: str, lots: int) -> int:
        """Size of a position if the worse side of its resting orders were filled (Margin of an account)."""
        if not self.orders:
            return abs(lots)
        return max(abs(lots), abs(lots + self.open_lots(market, "bid")), abs(lots - self.open_lots(market, "ask")))

    def open_lots(self, market: str, side: str) -> int:
        """`bids` or `asks`: resting lots, reduce-only orders left out (Margin of an account)."""
        return sum(o.lots for o in self.orders if (o.market, o.side) == (market, side) and not o.reduce_only)


def in_order(orders: list[Order], places: list) -> list[Order]:
    """Orders by market, of `places`, bids first, then price and number."""
    return sorted(orders, key=lambda one: (places.index(one.market), one.side == "ask", one.price, one.index))


@dataclass(frozen=True)
class Proposal:
    """A slice that a tick proposed to the host whose books they are, as far as it was not filled (Host mode)."""

    event: str  # of the row that a fill of it gets
    lots: int  # what the account is to gain, signed
    limit: Fraction | None  # the worst price, None: any
    rate: Fraction  # of the fee


@dataclass
class GuardState:
    """What the guards remember of a market; times in ns (Guards)."""

    mark: float | None = None
    mark_time: int = 0
    index: float | None = None
    index_time: int = 0
    basis: float | None = None
    basis_time: int = 0
    used: list = field(default_factory=list)  # (time, sample of the mark, sample of the premium or None) of each tick


@dataclass
class AssetState:
    """What the guards remember of an asset: its last given price as it was used, and when (Guards of collateral)."""

    price: float | None = None
    time: int = 0
    used: list = field(default_factory=list)  # (time, price) of each given price


@dataclass
class State:
    """What a tick changes: accounts, ledgers, and the memory of guards and throttle."""

    accounts: dict  # account id: Account, ascending
    book_lots: dict
    book_quanta: dict
    pool: dict
    premiums: dict  # market: (float sum, count) since its last funding
    fund: dict  # asset: quanta
    shortfall: dict
    provider_minute: dict  # account id of the provider: quanta of mark notional taken in the last tick's clock minute
    provider_hour: dict
    provider_total: dict
    guard_states: dict  # market: GuardState
    asset_states: dict  # asset: AssetState
    books: dict = field(default_factory=dict)  # symbol: {side: [[price, lots, consumed], ...]}, given last (Refill)
    decayed: int = 0  # when `consumed` decayed last (Refill)
    last_slice: dict = field(default_factory=dict)  # (account id, market): time of its last fill by a slice
    sold: dict = field(default_factory=dict)  # account id: quanta of its slices in the running interval
    opening: dict = field(default_factory=dict)  # account id: Account, of those that are opened at some time
    placing: dict = field(default_factory=dict)  # number: Order as it is placed, of those that are placed at some time
    order_count: int = 0  # orders until now, those of the start included
    settles: dict = field(default_factory=dict)  # market: asset that it settles in
    book_of_host: bool = False  # whether the order books are the host's (Host mode)
    proposals: dict = field(default_factory=dict)  # (account id, market): Proposal of the last tick
    acted: int = 0  # time of the last action
    adl_on: bool = False  # whether the fund has switched ADL on (Stages)
    venue: Venue | None = None  # after its changes; None: it had none
    delisted: frozenset = frozenset()  # markets
    funding_scheduled: frozenset = frozenset()  # markets that had an entry of the funding table
    prices: Any = field(default=None, compare=False)  # Prices of the last tick, None before the first
    open_interest: dict = field(default_factory=dict)  # of the last tick, given or asked for by a margin function
    decided: int = 0  # the last instant that was not left out (Instants that are left out)
    is_quiet: bool = False  # whether its phases changed nothing and skipped nobody, and no activity came since
    time_ns: int = 0  # of the last tick, or of an instant
    ticks: int = 0


def load_state(venue: Venue, positions, balances, orders=(), settings=()) -> State:
    """The state at the start, from rows in natural units (run_folder.md, `start/`)."""
    ids = {row["account"] for table in (positions, balances, orders, settings) for row in table} | set(venue.providers)
    accounts = {account_id: Account(owner=account_id) for account_id in sorted(ids)}
    for row in positions:
        market, settled = venue.markets[row["market"]], row.get("settle_price")
        lots, quantum = number(row["quantity"]) / market.step_size, venue.assets[market.settle].quantum
        settled = row["entry_price"] if settled is None or settled != settled else settled
        cost, entry = (rhe(lots * market.lot_value(number(p)) / quantum) for p in (settled, row["entry_price"]))
        accounts[row["account"]].positions[row["market"]] = [whole(lots), cost, entry]
    for provider in venue.providers:
        accounts[provider].positions = {market: [0, 0, 0] for market in venue.markets} | accounts[provider].positions
        accounts[provider].balances = {asset: [0, 0] for asset in venue.assets}
    for row in balances:
        quantum = venue.assets[row["asset"]].quantum
        free, lent = rhe(number(row["quantity"]) / quantum), rhe(number(row.get("lent") or 0) / quantum)
        accounts[row["account"]].balances[row["asset"]] = [free, lent]
    for row in settings:
        account, limit = accounts[row["account"]], row.get("leverage_limit")
        account.leverage_limit = None if limit in (None, INFINITY) else number(limit)
        account.unsettled[venue.settle] = rhe(number(row.get("unsettled") or 0) / venue.settle_quantum)
        account.owner = row.get("owner", account.owner)
    places = {market: place for place, market in enumerate(venue.markets)}

    def order_key(row):
        return row["account"], places[row["market"]], row["side"] == "ask", number(row["price"])

    for index, row in enumerate(sorted(orders, key=order_key)):
        lots, price = whole(number(row["quantity"]) / venue.markets[row["market"]].step_size), number(row["price"])
        text = str(index) if row.get("order") is None else str(row["order"])
        order = Order(index, row["market"], row["side"], price, lots, bool(row.get("reduce_only")), text)
        accounts[row["account"]].orders.append(order)
    return start_state(venue, accounts)


def start_state(venue: Venue, accounts: dict) -> State:
    """The state of these accounts before the first tick.

    They get a position in every market of their orders, a balance of every asset that their markets settle in, and the
    order in which their amounts are added up.
    """
    for account in accounts.values():
        account.positions = {order.market: [0, 0, 0] for order in account.orders} | account.positions
        settles = (venue.settle, *(venue.markets[market].settle for market in account.positions))
        account.balances = {asset: [0, 0] for asset in settles} | account.balances
        account.unsettled = dict.fromkeys(venue.money, 0) | account.unsettled
        for name, known in (("positions", venue.markets), ("balances", venue.assets)):
            held = getattr(account, name)
            setattr(account, name, {symbol: held[symbol] for symbol in known if symbol in held})
    book_lots, book_quanta = dict.fromkeys(venue.markets, 0), dict.fromkeys(venue.assets, 0)
    pool, premiums = dict.fromkeys(venue.assets, 0), dict.fromkeys(venue.markets, (0.0, 0))
    fund, shortfall = dict.fromkeys(venue.assets, 0), dict.fromkeys(venue.assets, 0)
    fund[venue.settle] = rhe(venue.policy["fund"] / venue.settle_quantum)
    minute, hour, total = (dict.fromkeys(venue.providers, 0) for _ in range(3))
    guard_states = {market: GuardState() for market in venue.markets}
    asset_states = {asset: AssetState() for asset in venue.assets}
    ledgers = book_lots, book_quanta, pool, premiums, fund, shortfall
    state = State(accounts, *ledgers, minute, hour, total, guard_states, asset_states)
    state.settles = {symbol: market.settle for symbol, market in venue.markets.items()}
    state.order_count = sum(len(account.orders) for account in accounts.values())
    return state
