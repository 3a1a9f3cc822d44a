"""The oracle: the rules of docs/one_tick.md in plain Python, slow and literal.

Nothing here comes from riskcore, numpy or pandas, and every look at an account computes its margin from the beginning.
Docstrings name the section of one_tick.md that they follow.

Amounts are whole quanta, sizes whole lots, everything else a `Fraction`; only square roots are not always exact.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction

INFINITY = float("inf")
MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
MILLISECOND, SECOND, YEAR_HOURS = 10**6, 10**9, 8760
BOOK, FUND, SHORTFALL, POOL = "book", "fund", "shortfall", "pool"
ROOT_DIGITS, RANKING_DIGITS = Context(prec=60), Context(prec=50)
UNLIMITED = Fraction(10**12)  # the capacity of a provider without any limit

POLICY = {
    "acmf_divisor": 2,
    "acmf_offset": "0.06",
    "haircut_size_unit": "notional",
    "slice_fraction": "0.1",
    "slices_per_tick": 1,
    "min_slice_notional": 1000,
    "liquidation_fee": "0.01",
    "backstop_fund_share": "1/3",
    "fund": 0,
    "realize_interval": None,
    "borrow_rate_base": 0,
    "borrow_rate_slope": "0.06",
    "borrow_rate_jump": 1,
}


# ---- Numbers
def number(x) -> Fraction:
    """The exact number that a user means (Numbers): a float prints as the shortest decimal that reads back as it."""
    return Fraction(str(x))


def rhe(x) -> int:
    """The nearest whole number, halves to the even one (Numbers): so rounds Python a `Fraction`."""
    return round(x)


def whole(x: Fraction) -> int:
    """A number that must be whole (Numbers)."""
    if x.denominator != 1:
        raise ValueError(f"not a whole number: {x}")
    return x.numerator


def square_root(x: Fraction) -> Fraction:
    """The square root: exact where it is rational, so that ties of `max` are exact, else to 60 digits."""
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    if root**2 == x:
        return root
    return Fraction(ROOT_DIGITS.sqrt(ROOT_DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))))


def ranking_value(x) -> Decimal:
    """x to 50 digits: what is equal on paper stays equal although roots are cut at 60."""
    if x == INFINITY:
        return Decimal(INFINITY)
    return RANKING_DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))


def descending(items, value) -> list:
    """The items by value descending; equal ones stay in the order given, which is ascending everywhere here."""
    return sorted(items, key=lambda item: ranking_value(value(item)), reverse=True)


def change_of_cost(lots: int, cost: int, change: int, flow: int) -> int:
    """The change of a position's cost when its lots change by `change` for the signed money `flow` (Numbers)."""
    if lots == 0 or (lots > 0) == (change > 0):
        return -flow
    if abs(change) <= abs(lots):
        return -rhe(Fraction(cost * abs(change), abs(lots)))
    return -cost - rhe(Fraction(flow * (abs(change) - abs(lots)), abs(change)))


def part(amount: int, before: int, after: int, size: int) -> int:
    """What a fill carries that brings the lots handed over from `before` to `after` of `size` (4 Backstop)."""
    return rhe(Fraction(amount * after, size)) - rhe(Fraction(amount * before, size))


# ---- The venue (run_folder.md)
def margin_function(row):
    """`R(notional, price, open interest)` of a row of any kind, all in settle units (Margin of an account)."""
    return {"sqrt": square_root_function, "tiers": tier_function, "open_interest": open_interest_function}[
        row.get("type", "sqrt")
    ](row)


def square_root_function(row):
    """`R = N * max(base, factor * sqrt(s))` (Margin of an account)."""
    base, factor, by_quantity = number(row["base"]), number(row["factor"]), row.get("unit") == "quantity"

    def requirement(notional, price=1, interest=None):
        return notional * max(base, factor * square_root(notional / price if by_quantity else notional))

    return requirement


def tier_function(row):
    """`R = N * rate_i - deduction_i` (Margin of an account)."""
    brackets = [(number(bracket["from"]), number(bracket["rate"])) for bracket in row["brackets"]]
    deductions = [Fraction(0)]
    for (_, rate_before), (start, rate) in itertools.pairwise(brackets):
        deductions.append(deductions[-1] + start * (rate - rate_before))
    if row.get("whole"):
        deductions = [Fraction(0)] * len(brackets)

    def requirement(notional, price=1, interest=None):
        last = max(sum(start < notional for start, _ in brackets) - 1, 0)
        return notional * brackets[last][1] - deductions[last]

    return requirement


def open_interest_function(row):
    """`R = N * (base + (1 - base) * part)` (Margin of an account)."""
    base, lower, upper = number(row["base"]), number(row["lower"]), number(row["upper"])

    def requirement(notional, price, interest):
        return notional * (base + (1 - base) * min(max((interest - lower) / (upper - lower), 0), 1))

    return requirement


def margin_functions(row, default_base=None) -> tuple:
    """The initial and the maintenance function of a row, or their defaults."""
    initial = row.get("imfFunction") or {"base": default_base, "factor": 0}
    maintenance = row.get("mmfFunction")
    if maintenance is None:
        halves = {"base": number(initial["base"]) / 2, "factor": number(initial["factor"]) * 6 / 10}
        maintenance = initial | halves
    return margin_function(initial), margin_function(maintenance)


class Market:
    def __init__(self, row):
        price, quantity = row["filters"]["price"], row["filters"]["quantity"]
        lowest, highest = price.get("minImpactMultiplier"), price.get("maxImpactMultiplier")
        self.symbol, self.base_symbol = row["symbol"], row["baseSymbol"]
        self.tick_size, self.step_size = number(price["tickSize"]), number(quantity["stepSize"])
        self.minimum_lots = number(quantity["minQuantity"]) / self.step_size
        self.lowest_multiplier = 0 if lowest is None else number(lowest)
        self.highest_multiplier = INFINITY if highest is None else number(highest)
        self.initial, self.maintenance = margin_functions(row)
        lower, upper = row.get("fundingRateLowerBound"), row.get("fundingRateUpperBound")
        self.funding_interval = row.get("fundingInterval")  # milliseconds
        self.funding_lower = -INFINITY if lower is None else float(lower) / 10000
        self.funding_upper = INFINITY if upper is None else float(upper) / 10000


class Asset:
    def __init__(self, row, default_base):
        self.symbol, self.quantum = row["symbol"], number(row.get("quantum") or "0.000001")
        self.weight, self.kind = number(row["haircutFunction"]["weight"]), row["haircutFunction"]["kind"]
        self.initial, self.maintenance = margin_functions(row, default_base)

    def effective_weight(self, size: Fraction) -> Fraction:
        """`weight_eff` of a balance of notional or token quantity `size` (Margin of an account)."""
        if self.kind["type"] == "identity":
            return self.weight
        base, penalty = number(self.kind["base"]), number(self.kind["positiveCurvePenalty"])
        return min(self.weight, base / (1 + penalty * square_root(size)))


class Pool:
    """An asset's row in `borrow_lend`, quantities in quanta (run_folder.md)."""

    def __init__(self, row, quantum: Fraction):
        row = {name: figure for name, figure in row.items() if figure is not None}
        limit = row.get("openBorrowLendLimit")
        self.is_open = row.get("state", "Open") == "Open"
        self.lent, self.borrowed = (rhe(number(row.get(n, 0)) / quantum) for n in ("lentQuantity", "borrowedQuantity"))
        self.fee, self.optimum = number(row.get("fee", 0)), number(row.get("optimalUtilization", "0.9"))
        self.highest, self.threshold = (
            number(row.get(name, 1)) for name in ("maxUtilization", "throttleUtilizationThreshold")
        )
        self.update_fraction = number(row.get("throttleUpdateFraction", "0.1"))
        self.limit = INFINITY if limit is None else rhe(number(limit) / quantum)


class Venue:
    """The venue's PERP markets, collateral assets, pools, policy and backstop, by symbol and account id."""

    def __init__(self, venue):
        self.settle = venue.get("settle_asset", "USDC")
        self.markets = {row["symbol"]: Market(row) for row in venue["markets"] if row["marketType"] == "PERP"}
        collateral = {row["symbol"]: row for row in venue.get("collateral") or []}
        haircut = {"weight": 1, "kind": {"type": "identity"}}
        collateral.setdefault(self.settle, {"symbol": self.settle, "haircutFunction": haircut})
        self.assets = {
            symbol: Asset(row, "0.10" if symbol == self.settle else "0.20") for symbol, row in collateral.items()
        }
        self.settle_quantum = self.assets[self.settle].quantum
        policy = {**POLICY, **(venue.get("policy") or {})}
        self.haircut_size_unit = policy.pop("haircut_size_unit")
        self.realize_interval = policy.pop("realize_interval")
        self.policy = {name: number(figure) for name, figure in policy.items()}
        self.providers = {entry["account"]: entry for entry in venue.get("backstop") or []}
        rows = {row["symbol"]: row for row in venue.get("borrow_lend") or []}
        self.pools = {
            symbol: Pool(rows[symbol], asset.quantum) for symbol, asset in self.assets.items() if symbol in rows
        }


# ---- The state
@dataclass
class Order:
    index: int  # row in the table of all orders at the start
    market: str
    side: str
    price: Fraction
    lots: int
    reduce_only: bool


@dataclass
class Account:
    positions: dict = field(default_factory=dict)  # market: [lots, cost, entry]
    balances: dict = field(default_factory=dict)  # asset: [free, lent]
    orders: list = field(default_factory=list)
    leverage_limit: Fraction | None = None
    unsettled: int = 0

    def open_lots(self, market: str, side: str) -> int:
        """`B` or `A`: resting lots, reduce-only orders left out (Margin of an account)."""
        return sum(o.lots for o in self.orders if (o.market, o.side) == (market, side) and not o.reduce_only)


@dataclass
class State:
    accounts: dict  # account id: Account, ascending
    book_lots: dict
    book_quanta: dict
    pool: dict
    premiums: dict  # market: (float sum, count) since its last funding
    fund: int
    provider_minute: dict  # account id of the provider: quanta of mark notional taken in the last tick's clock minute
    provider_hour: dict
    provider_total: dict
    shortfall: int = 0
    time_ns: int = 0  # of the last tick
    ticks: int = 0


def load_state(venue: Venue, positions, balances, orders=(), settings=()) -> State:
    """The state at the start, from rows in natural units (run_folder.md, `start/`)."""
    ids = {row["account"] for table in (positions, balances, orders, settings) for row in table} | set(venue.providers)
    accounts = {account_id: Account() for account_id in sorted(ids)}
    for row in positions:
        quantity, step_size = number(row["quantity"]), venue.markets[row["market"]].step_size
        settled = row.get("settle_price")
        settled = row["entry_price"] if settled is None or settled != settled else settled
        cost, entry = (rhe(quantity * number(p) / venue.settle_quantum) for p in (settled, row["entry_price"]))
        accounts[row["account"]].positions[row["market"]] = [whole(quantity / step_size), cost, entry]
    for provider in venue.providers:
        accounts[provider].positions = {market: [0, 0, 0] for market in venue.markets} | accounts[provider].positions
    for row in balances:
        quantum = venue.assets[row["asset"]].quantum
        free, lent = rhe(number(row["quantity"]) / quantum), rhe(number(row.get("lent") or 0) / quantum)
        accounts[row["account"]].balances[row["asset"]] = [free, lent]
    for account in accounts.values():
        account.balances.setdefault(venue.settle, [0, 0])
    for row in settings:
        account, limit = accounts[row["account"]], row.get("leverage_limit")
        account.leverage_limit = None if limit in (None, INFINITY) else number(limit)
        account.unsettled = rhe(number(row.get("unsettled") or 0) / venue.settle_quantum)
    places = {market: place for place, market in enumerate(venue.markets)}

    def order_key(row):
        return row["account"], places[row["market"]], row["side"] == "ask", number(row["price"])

    for index, row in enumerate(sorted(orders, key=order_key)):
        lots, price = whole(number(row["quantity"]) / venue.markets[row["market"]].step_size), number(row["price"])
        order = Order(index, row["market"], row["side"], price, lots, bool(row.get("reduce_only")))
        accounts[row["account"]].orders.append(order)
    book_lots, book_quanta = dict.fromkeys(venue.markets, 0), dict.fromkeys(venue.assets, 0)
    pool, premiums = dict.fromkeys(venue.assets, 0), dict.fromkeys(venue.markets, (0.0, 0))
    fund = rhe(venue.policy["fund"] / venue.settle_quantum)
    taken = [dict.fromkeys(venue.providers, 0) for _ in range(3)]
    return State(accounts, book_lots, book_quanta, pool, premiums, fund, *taken)


# ---- Prices
def known(prices) -> dict:
    """Those of the prices that the tick has: not None, not NaN."""
    return {symbol: number(x) for symbol, x in (prices or {}).items() if x is not None and x == x}


class Prices:
    """What a tick knows: a mark per market, and perhaps more of a market, and a price per asset (Prices)."""

    def __init__(self, marks, indexes=None, asset_prices=None, open_interest=None, funding_rates=None):
        self.marks, self.indexes, self.asset_prices = known(marks), known(indexes), known(asset_prices)
        self.open_interest, self.funding_rates = known(open_interest), known(funding_rates)

    def at(self, venue: Venue, state: State) -> Prices:
        """These prices, with the open interest of the state where the tick gives none (Margin of an account)."""
        new = copy.copy(self)
        accounts = state.accounts.values()
        new.open_interest = {}
        for symbol, market in venue.markets.items():
            held = [account.positions[symbol][0] for account in accounts if symbol in account.positions]
            larger = max(sum(max(lots, 0) for lots in held), sum(max(-lots, 0) for lots in held))
            new.open_interest[symbol] = self.open_interest.get(symbol, larger * market.step_size)
        return new

    def of_asset(self, venue: Venue, asset: str) -> Fraction:
        """1 for the settle asset, else the tick's price, else the index (or mark) of its first market (Prices)."""
        if asset == venue.settle:
            return Fraction(1)
        if asset in self.asset_prices:
            return self.asset_prices[asset]
        based = [m.symbol for m in venue.markets.values() if m.base_symbol == asset and m.symbol in self.marks]
        return self.indexes.get(based[0], self.marks[based[0]])

    def of_quantum(self, venue: Venue, asset: str) -> Fraction:
        """`p * quantum_a / quantum_settle`: an asset's quantum in quanta of the settle asset (2 Repay)."""
        return self.of_asset(venue, asset) * venue.assets[asset].quantum / venue.settle_quantum

    def of_lot(self, venue: Venue, market: str) -> Fraction:
        """`v = mark * stepSize` (Margin of an account)."""
        return self.marks[market] * venue.markets[market].step_size

    def of_open_interest(self, market: str):
        """`O` of a market, None as long as it is not known (Margin of an account)."""
        return self.open_interest[market] * self.marks[market] if market in self.open_interest else None


# ---- Margin of an account
@dataclass(frozen=True)
class Margin:
    """Amounts in settle units; ratios are a `Fraction` or float infinity."""

    net_equity: Fraction
    exposure: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction
    imr: Fraction | float
    mmr: Fraction | float
    liquidating: bool
    below_auto_close: bool
    position_maintenance_margins: dict  # market: Fraction, of the markets with lots
    borrow_maintenance_margins: dict  # asset: Fraction, of the assets borrowed


def ratio(margin: Fraction, net_equity: Fraction, exposure: Fraction):
    """MMR or IMR (Margin of an account)."""
    if exposure == 0:
        return Fraction(0)
    return margin / net_equity if net_equity > 0 else INFINITY


def margin(venue: Venue, account: Account, prices: Prices) -> Margin:
    """The margin of one account (Margin of an account)."""
    net_equity = account.unsettled * venue.settle_quantum
    exposure = initial = Fraction(0)
    positions, borrows = {}, {}
    least_fraction = 0 if account.leverage_limit is None else 1 / account.leverage_limit

    for symbol, (free, lent) in account.balances.items():
        if free == lent == 0:
            continue
        asset, price = venue.assets[symbol], prices.of_asset(venue, symbol)
        quantity = (max(free, 0) + lent) * asset.quantum
        size = quantity * price if venue.haircut_size_unit == "notional" else quantity
        borrowed = max(-free, 0) * asset.quantum * price
        net_equity += quantity * price * asset.effective_weight(size) - borrowed
        exposure += borrowed
        initial += asset.initial(borrowed, price)
        if borrowed > 0:
            borrows[symbol] = asset.maintenance(borrowed, price)

    for symbol, market in venue.markets.items():
        lots, cost, _ = account.positions.get(symbol, (0, 0, 0))
        bids, asks = account.open_lots(symbol, "bid"), account.open_lots(symbol, "ask")
        lot_value, mark, interest = prices.of_lot(venue, symbol), prices.marks[symbol], prices.of_open_interest(symbol)
        notional = abs(lots) * lot_value
        worst_case = max(abs(lots + bids), abs(lots - asks), abs(lots)) * lot_value
        net_equity += lots * lot_value - cost * venue.settle_quantum
        exposure += worst_case
        initial += max(market.initial(worst_case, mark, interest), worst_case * least_fraction)
        if lots != 0:
            positions[symbol] = market.maintenance(notional, mark, interest)

    maintenance = sum(positions.values(), Fraction(0)) + sum(borrows.values(), Fraction(0))
    initial = max(initial, exposure * least_fraction)
    liquidating = exposure > 0 and not maintenance < net_equity
    divisor, offset = venue.policy["acmf_divisor"], venue.policy["acmf_offset"]
    auto_close = max(maintenance / divisor, maintenance - offset * exposure)
    below_auto_close = liquidating and (net_equity < auto_close or net_equity <= 0)
    imr, mmr = ratio(initial, net_equity, exposure), ratio(maintenance, net_equity, exposure)
    ratios_and_tests = imr, mmr, liquidating, below_auto_close
    return Margin(net_equity, exposure, initial, maintenance, *ratios_and_tests, positions, borrows)


def sweep(venue: Venue, state: State, prices: Prices) -> dict:
    """The margin of every account."""
    prices = prices.at(venue, state)
    return {account_id: margin(venue, account, prices) for account_id, account in state.accounts.items()}


# ---- Parts of the phases that stand on their own
@dataclass(frozen=True)
class BookFill:
    lots: int  # filled
    value: Fraction  # sum of lots * price over the levels taken
    taken: list  # lots taken of each level
    reason: str  # full, band or depth


def walk_book(levels, lots: int, band=(0, INFINITY)) -> BookFill:
    """Take `lots` from `levels` of (price, lots), best first, inside `band` (3 Book)."""
    taken, value, left, reason = [0] * len(levels), Fraction(0), lots, "depth"
    for row, (level_price, available) in enumerate(levels):
        price = number(level_price)
        if left > 0 and not band[0] <= price <= band[1]:
            reason = "band"
            break
        taken[row] = min(left, available)
        left -= taken[row]
        value += taken[row] * price
    return BookFill(lots - left, value, taken, "full" if left == 0 else reason)


def impact_band(market: Market, side: str, best: Fraction) -> tuple:
    """The lowest and the highest price of a sale into the bids, or of a purchase from the asks (3 Book)."""
    return (best * market.lowest_multiplier, INFINITY) if side == "bids" else (0, best * market.highest_multiplier)


def slice_lots(venue: Venue, market: Market, lots: int, lot_value: Fraction) -> int:
    """`s`: the lots of one slice of a position (3 Book)."""
    size, least = abs(lots), math.ceil(venue.policy["min_slice_notional"] / lot_value)
    lots_of_slice = min(max(math.floor(size * venue.policy["slice_fraction"]), least, 1), size)
    return size if size - lots_of_slice < market.minimum_lots else lots_of_slice


def equity_share(net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """`E * MM_i / maintenance margin` (4 Backstop, 5 ADL)."""
    if maintenance_margin == 0:
        return Fraction(0)
    return number(net_equity) * number(position_maintenance_margin) / number(maintenance_margin)


def zero_price(mark, quantity, net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """The price at which closing every position leaves nothing; `quantity` is signed (4 Backstop)."""
    share = equity_share(net_equity, position_maintenance_margin, maintenance_margin)
    return number(mark) - share / number(quantity)


def provider_split(lots: int, most: dict) -> dict:
    """How many of `lots` each provider takes, who can take `most` of them: account id: lots (4 Backstop)."""
    total = sum(most.values())
    if total <= lots:
        return dict(most)
    taken = {provider: lots * limit // total for provider, limit in most.items()}
    left_over = lots - sum(taken.values())
    for provider in sorted(most, key=lambda provider: (taken[provider] - most[provider], provider))[:left_over]:
        taken[provider] += 1
    return taken


def profit_fraction(position_value, entry) -> Fraction:
    """`pnl_pct` (5 ADL)."""
    return (number(position_value) - number(entry)) / abs(number(entry))


def deleveraging_score(profit, leverage) -> Fraction:
    """`score` (5 ADL); a tick ranks only the profitable, the published rule also those at a loss."""
    profit, leverage = number(profit), number(leverage)
    return profit * leverage if profit > 0 else profit / leverage


# ---- The phases

QUIET = dict.fromkeys(("counterparty", "market", "asset", "order")) | dict.fromkeys(
    ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled"), 0
)
QUIET |= dict.fromkeys(("counter_cost", "counter_cash", "counter_entry", "fund"), 0)


class _Tick:
    """One tick: accounts and ledgers of `state` change by the rows that are recorded alone; `start` stays."""

    def __init__(self, venue: Venue, start: State, time_ns: int, prices: Prices, books):
        self.venue, self.start, self.time_ns, self.prices = venue, start, time_ns, prices.at(venue, start)
        self.state = copy.deepcopy(start)
        self.rows: list[dict] = []
        self.start_margins = None  # of the tick's sweep, after what was due
        self.owed, self.short = {}, {}  # account id: what it owes and what it still lacks, in settlement
        self.levels = {}  # (market, side): [[price, lots left], ...]
        for symbol, market in venue.markets.items():
            for side in ("bids", "asks"):
                levels = books.get(symbol, {}).get(side, ())
                self.levels[symbol, side] = [[number(p), whole(number(q) / market.step_size)] for p, q in levels]

    def look(self, account_id) -> Margin:
        return margin(self.venue, self.state.accounts[account_id], self.prices)

    def record(self, event: str, reason: str, account_id, price=math.nan, **changes) -> None:
        """Make a change by its row (The journal)."""
        row = {"tick": self.start.ticks, "time": self.time_ns, "event": event, "reason": reason, "account": account_id}
        row |= QUIET | changes | {"price": price, "mmr_before": self.ratio(account_id)}
        apply_row(self.venue, self.state, row)
        row["mmr_after"] = self.ratio(account_id)
        self.rows.append(row)

    def ratio(self, account_id) -> float:
        """MMR, before the sweep not a number (Between the ticks)."""
        return math.nan if self.start_margins is None else float(self.look(account_id).mmr)

    def redeem(self, account_id, asset: str, quanta: int, reason: str) -> None:
        self.record("redeem", reason, account_id, asset=asset, quanta=quanta, lent=-quanta)

    def fill(self, event, reason, account_id, other, symbol, requested, change, flow, fee=0, fund=0) -> None:
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
        quantity = change * self.venue.markets[symbol].step_size
        price = float(-flow * self.venue.settle_quantum / quantity)
        self.record(event, reason, account_id, price, counterparty=other, market=symbol, **changes)

    def positions_by_margin(self, look: Margin) -> list:
        """The markets of an account's positions by MM descending, ties by market (3 Book)."""
        return descending(look.position_maintenance_margins, look.position_maintenance_margins.get)

    # -- Between the ticks

    def between_ticks(self) -> None:
        """Between the ticks."""
        debts = {account_id: self.settle_debt(account_id) for account_id in self.state.accounts}
        instants = [self.interest(), self.funding(), self.realisation()]
        if any(instants):
            self.settlement(debts)
        self.premiums()

    def instants(self, period: int) -> int:
        """How many multiples of a period are in `(t0, t1]`; none at the first tick (Between the ticks)."""
        return self.time_ns // period - self.start.time_ns // period if self.start.ticks > 0 else 0

    def settle_debt(self, account_id) -> int:
        return max(-self.state.accounts[account_id].balances[self.venue.settle][0], 0)

    def pool_totals(self, asset: str) -> tuple:
        """`L` and `B` of a pool; in settlement debts are with what is owed and without what is lacking (Settlement)."""
        lent, borrowed = self.venue.pools[asset].lent, self.venue.pools[asset].borrowed
        for account_id, account in self.state.accounts.items():
            free, account_lent = account.balances.get(asset, (0, 0))
            lent += account_lent
            if asset == self.venue.settle:
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
        """`I` and `J`, in 10^-15 (Interest)."""
        pool, policy, u = self.venue.pools[asset], self.venue.policy, self.utilisation(asset)
        rate = policy["borrow_rate_base"] + policy["borrow_rate_slope"] * min(u / pool.optimum, 1)
        if u > pool.optimum:
            rate += policy["borrow_rate_jump"] * (u - pool.optimum) / (1 - pool.optimum)
        hourly = rate / YEAR_HOURS * 10**15
        return rhe(hourly), rhe(hourly * u * (1 - pool.fee))

    def interest(self) -> int:
        """Interest; the hours that were due."""
        hours = self.instants(HOUR) if self.venue.pools else 0
        for _ in range(hours):
            for asset in self.venue.pools:
                borrow_rate, lend_rate = self.hourly_rates(asset)
                for account_id, account in self.state.accounts.items():
                    free, lent = account.balances.get(asset, (0, 0))
                    charged = rhe(Fraction(max(-free, 0) * borrow_rate, 10**15))
                    earned = rhe(Fraction(lent * lend_rate, 10**15))
                    if charged != 0 or earned != 0:
                        changes = {"counterparty": POOL, "asset": asset, "quanta": -charged, "lent": earned}
                        self.record("interest", "hour", account_id, **changes)
        return hours

    def funding(self) -> int:
        """Funding; the instants that were due."""
        due, per_lot = 0, {}
        for symbol, market in self.venue.markets.items():
            instants = self.instants(market.funding_interval * MILLISECOND) if market.funding_interval else 0
            if instants > 0:
                due += instants
                rate = self.funding_rate(symbol)
                if rate is not None:
                    lot_quanta = self.prices.of_lot(self.venue, symbol) / self.venue.settle_quantum
                    per_lot[symbol] = Fraction(rhe(rate * lot_quanta * 10**9) * instants, 10**9)
                self.state.premiums[symbol] = (0.0, 0)
        for account_id, account in self.state.accounts.items():
            for symbol in (symbol for symbol in per_lot if symbol in account.positions):
                cash = -rhe(account.positions[symbol][0] * per_lot[symbol])
                if cash != 0:
                    changes = {"counterparty": BOOK, "market": symbol, "cash": cash, "counter_cash": -cash}
                    self.record("funding", "interval", account_id, float(self.prices.marks[symbol]), **changes)
        return due

    def funding_rate(self, symbol: str) -> Fraction | None:
        """The rate of one interval: the tick's, or from the premiums in float64 (Funding)."""
        if symbol in self.prices.funding_rates:
            return self.prices.funding_rates[symbol]
        market, (total, count) = self.venue.markets[symbol], self.state.premiums[symbol]
        if count == 0:
            return None
        p, hours = total / count, market.funding_interval / 3600000
        rate = (p + min(max(0.0001 - p, -0.0005), 0.0005)) / 8 * hours
        return number(min(max(rate, market.funding_lower), market.funding_upper))

    def realisation(self) -> int:
        """Realisation; the instants that were due."""
        interval = self.venue.realize_interval
        instants = self.instants(whole(number(interval)) * SECOND) if interval is not None else 0
        if instants > 0:
            for account_id, account in self.state.accounts.items():
                for symbol in (symbol for symbol in self.venue.markets if symbol in account.positions):
                    lots, cost, _ = account.positions[symbol]
                    lot = rhe(self.prices.of_lot(self.venue, symbol) / self.venue.settle_quantum * 10**6)
                    profit = rhe(Fraction(lots * lot, 10**6)) - cost
                    if lots != 0 and profit != 0:
                        mark = float(self.prices.marks[symbol])
                        self.record("realize", "interval", account_id, mark, market=symbol, cost=profit, cash=profit)
        return instants

    def settlement(self, debts) -> None:
        """Settlement; `debts` are those before interest."""
        for account_id, account in self.state.accounts.items():
            owed, free = max(-account.unsettled, 0), account.balances[self.venue.settle][0]
            added = max(self.settle_debt(account_id) - debts[account_id], 0)
            self.owed[account_id], self.short[account_id] = owed, added + max(owed - max(free, 0), 0)
        self.bounds = {asset: self.bound(asset) for asset in self.venue.pools}
        for account_id in self.state.accounts:
            for cover in (self.settle_by_redeeming, self.settle_by_borrowing, self.settle_by_selling):
                if self.short[account_id] > 0:
                    cover(account_id)
            cash = self.short.pop(account_id) - self.owed.pop(account_id)
            if cash != 0:
                self.record("unsettle", "settlement", account_id, cash=cash, unsettled=-cash)

    def bound(self, asset: str) -> Fraction:
        """`bound` of a pool (Settlement)."""
        pool, u = self.venue.pools[asset], self.utilisation(asset)
        return min(pool.highest, max(pool.threshold, u + pool.update_fraction * (pool.highest - u)))

    def redeemable(self, asset: str):
        """What settlement can redeem of an asset (Settlement)."""
        if asset not in self.venue.pools:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        return max(0, math.floor(lent - borrowed / self.bounds[asset]))

    def borrowable(self, asset: str):
        """What settlement can borrow of an asset (Settlement)."""
        pool = self.venue.pools.get(asset)
        if pool is None:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        room = min(math.floor(self.bounds[asset] * lent - borrowed), pool.limit - borrowed)
        return max(0, room) if pool.is_open else 0

    def settle_by_redeeming(self, account_id) -> None:
        """Settle lends are redeemed (Settlement)."""
        settle = self.venue.settle
        lent = self.state.accounts[account_id].balances[settle][1]
        redeemed = min(self.short[account_id], lent, self.redeemable(settle))
        if redeemed > 0:
            self.redeem(account_id, settle, redeemed, "settlement")
            self.short[account_id] -= redeemed

    def settle_by_borrowing(self, account_id) -> None:
        """The debt is granted, and the rest of the running hour of it paid (Settlement)."""
        settle = self.venue.settle
        granted = min(self.short[account_id], self.borrowable(settle))
        self.short[account_id] -= granted
        if granted > 0 and settle in self.venue.pools:
            rate, left = self.hourly_rates(settle)[0], HOUR - self.time_ns % HOUR
            fee = rhe(Fraction(granted * rate * left, 10**15 * HOUR))
            if fee != 0:
                self.record("interest", "entry", account_id, counterparty=POOL, asset=settle, quanta=-fee)

    def settle_by_selling(self, account_id) -> None:
        """Collateral is sold without a fee (Settlement)."""
        balances = self.state.accounts[account_id].balances
        for asset in self.collateral(account_id, self.venue.settle):
            if self.short[account_id] <= 0:
                return
            free, lent = max(balances[asset][0], 0), balances[asset][1]
            have = free + min(lent, self.redeemable(asset))
            sold = min(have, math.ceil(self.short[account_id] / self.prices.of_quantum(self.venue, asset)))
            if sold > free:
                self.redeem(account_id, asset, sold - free, "settlement")
            if sold > 0:
                proceeds = self.convert(account_id, asset, -sold, Fraction(0), "settlement")
                self.short[account_id] = max(self.short[account_id] - proceeds, 0)

    def premiums(self) -> None:
        """Premiums."""
        for symbol in self.venue.markets:
            if symbol in self.prices.indexes:
                mark, index = float(self.prices.marks[symbol]), float(self.prices.indexes[symbol])
                total, count = self.state.premiums[symbol]
                self.state.premiums[symbol] = (total + (mark - index) / index, count + 1)

    # -- The phases

    def select(self) -> None:
        """Select."""
        self.start_margins = {account_id: self.look(account_id) for account_id in self.state.accounts}
        liquidating = [account_id for account_id, look in self.start_margins.items() if look.liquidating]
        self.selected = descending(liquidating, lambda account_id: self.start_margins[account_id].mmr)
        for account_id in self.selected:
            self.record("trigger", "mmr", account_id)

    def cancel(self) -> None:
        """1 Cancel."""
        for account_id in self.selected:
            for o in self.state.accounts[account_id].orders:
                self.record("cancel", "liquidation", account_id, market=o.market, order=o.index, requested=o.lots)

    def repay(self) -> None:
        """2 Repay."""
        for account_id in self.selected:
            balances = self.state.accounts[account_id].balances
            for asset in self.venue.assets:
                if balances.get(asset, (0, 0))[0] < 0 and self.look(account_id).liquidating:
                    self.repay_borrow(account_id, asset)

    def repay_target(self, account_id, asset: str) -> int:
        """The quanta of a debt to repay: all of it below auto-close, else a slice (2 Repay)."""
        policy, debt = self.venue.policy, -self.state.accounts[account_id].balances[asset][0]
        if self.look(account_id).below_auto_close:
            return debt
        price, quantum = self.prices.of_asset(self.venue, asset), self.venue.assets[asset].quantum
        least = math.ceil(policy["min_slice_notional"] / price / quantum)
        return min(debt, max(math.floor(debt * policy["slice_fraction"]), least, 1))

    def repay_borrow(self, account_id, asset: str) -> None:
        """Redeem first, then sell collateral for a debt of settle, or buy another debt (2 Repay)."""
        target = self.repay_target(account_id, asset)
        redeemed = min(self.state.accounts[account_id].balances[asset][1], target, self.not_lent_out(asset))
        if redeemed > 0:
            self.redeem(account_id, asset, redeemed, "debt")
        target -= redeemed
        if target == 0 or not self.look(account_id).liquidating:
            return
        if asset == self.venue.settle:
            self.sell_collateral(account_id, asset, target)
        else:
            self.buy_debt(account_id, asset, target)

    def not_lent_out(self, asset: str):
        """What this phase can redeem of an asset (2 Repay)."""
        if asset not in self.venue.pools:
            return INFINITY
        lent, borrowed = self.pool_totals(asset)
        return max(0, lent - borrowed)

    def collateral(self, account_id, debt_asset: str) -> list:
        """The assets that can be sold for a debt, in the order of their sale (2 Repay)."""
        balances, others = self.state.accounts[account_id].balances, (self.venue.settle, debt_asset)
        held = {asset: max(free, 0) + lent for asset, (free, lent) in balances.items() if free > 0 or lent > 0}
        for_sale = [asset for asset in self.venue.assets if asset in held and asset not in others]
        return descending(for_sale, lambda asset: held[asset] * self.prices.of_quantum(self.venue, asset))

    def sell_collateral(self, account_id, debt_asset: str, need: int) -> None:
        """Sales that raise `need` quanta of settle, while the account is liquidating (2 Repay)."""
        balances, fee_rate = self.state.accounts[account_id].balances, self.venue.policy["liquidation_fee"]
        for asset in self.collateral(account_id, debt_asset):
            free, lent = max(balances[asset][0], 0), balances[asset][1]
            worth = self.prices.of_quantum(self.venue, asset)
            sold = min(free + min(lent, self.not_lent_out(asset)), math.ceil(need / (worth * (1 - fee_rate))))
            if sold == 0:
                continue
            if sold > free:
                self.redeem(account_id, asset, sold - free, "debt")
                if not self.look(account_id).liquidating:
                    return
            need -= self.convert(account_id, asset, -sold, fee_rate, "debt")
            if need <= 0 or not self.look(account_id).liquidating:
                return

    def buy_debt(self, account_id, asset: str, target: int) -> None:
        """Buy `target` quanta of a debt, or as many as the settle balance pays for (2 Repay)."""
        settle = self.state.accounts[account_id].balances[self.venue.settle]
        worth, rate = self.prices.of_quantum(self.venue, asset), self.venue.policy["liquidation_fee"]
        value = rhe(target * worth)
        cost = value + rhe(value * rate)
        need = cost - max(settle[0], 0)
        if need > 0:
            self.sell_collateral(account_id, asset, need)
        if cost > settle[0]:
            target = min(target, math.floor(settle[0] / (worth * (1 + rate))))
        if target > 0:
            self.convert(account_id, asset, target, rate, "debt")

    def convert(self, account_id, asset: str, quanta: int, fee_rate: Fraction, reason: str) -> int:
        """Sell (quanta < 0) or buy an asset for settle, at the tick's price; returns the money less the fee."""
        value = rhe(abs(quanta) * self.prices.of_quantum(self.venue, asset))
        fee, cash = rhe(value * fee_rate), value if quanta < 0 else -value
        changes = {"asset": asset, "quanta": quanta, "cash": cash, "fee": fee, "counter_cash": -cash}
        price = float(self.prices.of_asset(self.venue, asset))
        self.record("convert", reason, account_id, price, counterparty=BOOK, **changes)
        return cash - fee

    def book(self) -> None:
        """3 Book."""
        for _ in range(whole(self.venue.policy["slices_per_tick"])):
            for account_id in self.selected:
                for market in self.positions_by_margin(self.look(account_id)):
                    look = self.look(account_id)
                    if look.liquidating and not look.below_auto_close:
                        self.book_slice(account_id, market)

    def book_slice(self, account_id, symbol: str) -> None:
        """One slice of a position into the book (3 Book)."""
        venue, market = self.venue, self.venue.markets[symbol]
        position = self.state.accounts[account_id].positions[symbol][0]
        requested = slice_lots(venue, market, position, self.prices.of_lot(venue, symbol))
        side, sign = ("bids", 1) if position > 0 else ("asks", -1)
        levels = self.levels[symbol, side]
        fill = BookFill(0, 0, [], "no_book")
        if levels:
            fill = walk_book(levels, requested, impact_band(market, side, levels[0][0]))
        if fill.lots == 0:
            self.record("expire", fill.reason, account_id, market=symbol, requested=requested)
            return
        for level, taken in zip(levels, fill.taken, strict=True):
            level[1] -= taken
        value = rhe(fill.value * market.step_size / venue.settle_quantum)
        fee = rhe(value * venue.policy["liquidation_fee"])
        self.fill("book", fill.reason, account_id, BOOK, symbol, requested, -sign * fill.lots, sign * value, fee)

    def close(self, hand_over_position) -> None:
        """4 Backstop and 5 ADL: accounts below auto-close, with the margin at the beginning of their turn."""
        for account_id in self.selected:
            look = self.look(account_id)
            if look.below_auto_close:
                for market in self.positions_by_margin(look):
                    hand_over_position(account_id, market, look)

    def capacity(self, provider) -> Fraction:
        """`c_p`: the mark notional that a provider can take now (4 Backstop)."""
        entry, state, quantum = self.venue.providers[provider], self.state, self.venue.settle_quantum
        counters = {"capacity_per_min": state.provider_minute, "capacity_per_hour": state.provider_hour}
        counters["max_notional"] = state.provider_total
        limits = [limit for limit in counters if entry.get(limit) is not None]
        left = [number(entry[limit]) - counters[limit][provider] * quantum for limit in limits]
        return max(min(left, default=UNLIMITED), Fraction(0))

    def hand_to_providers(self, account_id, symbol: str, look: Margin) -> None:
        """One position to the providers, at the zero price or, without equity, at the mark (4 Backstop)."""
        venue, lot_value = self.venue, self.prices.of_lot(self.venue, symbol)
        lots = self.state.accounts[account_id].positions[symbol][0]
        margins = look.position_maintenance_margins
        share = equity_share(max(look.net_equity, 0), margins[symbol], look.maintenance_margin)
        flow = rhe((lots * lot_value - share) / venue.settle_quantum)
        to_fund = rhe(share * venue.policy["backstop_fund_share"] / venue.settle_quantum)
        most = {
            provider: math.floor(self.capacity(provider) / lot_value)
            for provider, entry in venue.providers.items()
            if provider not in self.selected and (entry.get("markets") is None or symbol in entry["markets"])
        }
        fills = [(provider, taken) for provider, taken in sorted(provider_split(abs(lots), most).items()) if taken > 0]
        self.hand_over("backstop", "below_auto_close", account_id, symbol, fills, flow, to_fund)
        for provider, taken in fills:
            notional = rhe(taken * lot_value / venue.settle_quantum)
            for counter in (self.state.provider_minute, self.state.provider_hour, self.state.provider_total):
                counter[provider] += notional

    def hand_over(self, event, reason, account_id, symbol: str, fills, flow: int, to_fund: int) -> None:
        """Fills of (counterparty, lots): the account gets its part of `flow`, the fund of `to_fund` (4 Backstop)."""
        position = self.state.accounts[account_id].positions[symbol][0]
        size, done = abs(position), 0
        for other, lots in fills:
            money, fund = part(flow, done, done + lots, size), part(to_fund, done, done + lots, size)
            change = -lots if position > 0 else lots
            self.fill(event, reason, account_id, other, symbol, size, change, money, fund=fund)
            done += lots

    def score(self, account_id, symbol: str, opposite_of: int):
        """The rank of a counterparty by the figures at the tick's sweep, None if it is not one (5 ADL)."""
        look = self.start_margins[account_id]
        lots, _, entry = self.start.accounts[account_id].positions.get(symbol, (0, 0, 0))
        value, entry = lots * self.prices.of_lot(self.venue, symbol), entry * self.venue.settle_quantum
        if account_id in self.selected or lots * opposite_of >= 0 or look.net_equity <= 0 or value <= entry:
            return None
        if entry * lots <= 0:
            return INFINITY
        return deleveraging_score(profit_fraction(value, entry), look.exposure / look.net_equity)

    def hand_to_winners(self, account_id, symbol: str, look: Margin) -> None:
        """One position to the winners on the other side, at the zero price (5 ADL)."""
        lots = self.state.accounts[account_id].positions[symbol][0]
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        flow = rhe((lots * self.prices.of_lot(self.venue, symbol) - share) / self.venue.settle_quantum)
        scores = {other: self.score(other, symbol, lots) for other in self.state.accounts}
        left, fills = abs(lots), []
        for other in descending((other for other in scores if scores[other] is not None), scores.get):
            other_lots = self.state.accounts[other].positions[symbol][0]
            taken = min(left, abs(other_lots)) if other_lots * lots < 0 else 0  # it may have been used up since
            if taken > 0:
                fills.append((other, taken))
                left -= taken
        self.hand_over("adl", "backstop_exhausted", account_id, symbol, fills, flow, 0)
        if left > 0:
            self.record("unfilled", "no_counterparty", account_id, market=symbol, requested=left)

    def close_out(self) -> None:
        """6 Close out."""
        for account_id in self.selected:
            look = self.look(account_id)
            if not look.position_maintenance_margins and look.net_equity <= 0:
                self.liquidate_balances(account_id)
                self.cover_shortfall(account_id)

    def liquidate_balances(self, account_id) -> None:
        """Redeem the lends, sell what is held, buy what is owed, without a fee (6 Close out)."""
        balances = self.state.accounts[account_id].balances
        held = [asset for asset in self.venue.assets if asset in balances]
        for asset in held:
            if balances[asset][1] > 0:
                self.redeem(account_id, asset, balances[asset][1], "close_out")
        held.remove(self.venue.settle)
        sales = [asset for asset in held if balances[asset][0] > 0]
        purchases = [asset for asset in held if balances[asset][0] < 0]
        for asset in sales + purchases:
            self.convert(account_id, asset, -balances[asset][0], Fraction(0), "close_out")

    def cover_shortfall(self, account_id) -> None:
        """The fund pays what it can, the venue records the rest (6 Close out)."""
        shortfall = max(-self.state.accounts[account_id].balances[self.venue.settle][0], 0)
        paid = min(self.state.fund, shortfall)
        rest = shortfall - paid
        if paid > 0:
            self.record("fund", "bankrupt", account_id, counterparty=FUND, cash=paid, fund=-paid)
        if rest > 0:
            self.record("shortfall", "bankrupt", account_id, counterparty=SHORTFALL, cash=rest, counter_cash=-rest)


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
):
    """One tick: the state after it and the rows of its journal (The phases). The state given is not changed.

    books = {market: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units.
    """
    prices = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    tick = _Tick(venue, state, time_ns, prices, books)
    new = tick.state
    for taken, clock in ((new.provider_minute, MINUTE), (new.provider_hour, HOUR)):
        if state.time_ns // clock != time_ns // clock:
            taken.update(dict.fromkeys(taken, 0))
    new.time_ns, new.ticks = time_ns, state.ticks + 1
    tick.between_ticks()
    tick.select()
    tick.cancel()
    tick.repay()
    tick.book()
    tick.close(tick.hand_to_providers)
    tick.close(tick.hand_to_winners)
    tick.close_out()
    return new, tick.rows


# ---- The journal
def apply_row(venue: Venue, state: State, row) -> None:
    """Add a row's changes to the state (The journal)."""
    account, market, asset, other = state.accounts[row["account"]], row["market"], row["asset"], row["counterparty"]
    account.balances[venue.settle][0] += row["cash"] - row["fee"]
    account.unsettled += row["unsettled"]
    state.fund += row["fund"] + row["fee"]
    for place, column in enumerate(("lots", "cost", "entry")):
        if row[column] != 0:
            account.positions[market][place] += row[column]
    if asset is not None:
        account.balances[asset][0] += row["quanta"]
        account.balances[asset][1] += row["lent"]
    if row["event"] == "cancel":
        account.orders = [order for order in account.orders if order.index != row["order"]]
    if row["event"] == "book":
        state.book_lots[market] -= row["lots"]
    if row["event"] == "convert":
        state.book_quanta[asset] -= row["quanta"]
    if other == BOOK:
        state.book_quanta[venue.settle] += row["counter_cash"]
    elif other == SHORTFALL:
        state.shortfall += row["counter_cash"]
    elif other == POOL:
        state.pool[asset] -= row["quanta"] + row["lent"]
    elif row["event"] in ("backstop", "adl"):
        state.accounts[other].positions[market][0] -= row["lots"]
        state.accounts[other].positions[market][1] += row["counter_cost"]
        state.accounts[other].positions[market][2] += row["counter_entry"]
        state.accounts[other].balances[venue.settle][0] += row["counter_cash"]


def apply_rows(venue: Venue, state: State, rows) -> State:
    """The state after `rows`, by plain addition; the state given is not changed (The journal)."""
    new = copy.deepcopy(state)
    for row in rows:
        apply_row(venue, new, row)
    return new


def journalled(state: State) -> dict:
    """What the journal determines of a state: all but the clock, the premiums and what the providers took."""
    names = ("accounts", "book_lots", "book_quanta", "pool", "fund", "shortfall")
    return {name: getattr(state, name) for name in names}


def total_lots(venue: Venue, state: State) -> dict:
    """Signed lots of each market over all accounts and the book: no tick changes them."""
    accounts = state.accounts.values()
    return {m: state.book_lots[m] + sum(a.positions.get(m, (0,))[0] for a in accounts) for m in venue.markets}


def total_quanta(venue: Venue, state: State) -> dict:
    """Quanta of each asset over all accounts and ledgers, of settle the unsettled too and less the costs.

    No tick changes them.
    """
    accounts = state.accounts.values()
    totals = {
        a: state.book_quanta[a] + state.pool[a] + sum(sum(x.balances.get(a, (0, 0))) for x in accounts)
        for a in venue.assets
    }
    costs = sum(cost for account in accounts for _, cost, _ in account.positions.values())
    totals[venue.settle] += state.fund + state.shortfall + sum(account.unsettled for account in accounts) - costs
    return totals
