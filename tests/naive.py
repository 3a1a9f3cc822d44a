"""The oracle: the rules of docs/one_tick.md in plain Python, slow and literal.

Nothing here comes from riskcore, numpy or pandas, and every look at an account computes its margin from the beginning.
Docstrings name the section of one_tick.md that they follow.

Amounts are whole quanta, sizes whole lots, everything else a `Fraction`; only square roots are not always exact, and
what the guards do is float64 (Guards). Where the engine decides by float64 and the exact figures are too close to an
edge to tell what it will find, a tick notes it in `doubts`.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from fractions import Fraction

INFINITY = float("inf")
MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
MILLISECOND, SECOND, YEAR_HOURS = 10**6, 10**9, 8760
BOOK, FUND, SHORTFALL, POOL = "book", "fund", "shortfall", "pool"
WORD = 2**64
WINDOW = 300  # seconds of samples
ROUNDING = Fraction(1, 10**12)  # of the gross amounts: the error that the sweep's float64 may make
CLOSE, CLOSER = 10 * ROUNDING, ROUNDING / 10  # the same of several steps, and of one
ROOT_DIGITS, RANKING_DIGITS = Context(prec=60), Context(prec=50)
UNLIMITED = Fraction(10**12)  # the capacity of a provider without any limit
HEAVIEST, LARGEST = 2**50, 2**61  # weight of a provider, and sum of what can be shared of a shortfall

POLICY = {
    "acmf_divisor": 2,
    "acmf_offset": "0.06",
    "haircut_size_unit": "notional",
    "slice_fraction": "0.1",
    "slices_per_tick": 1,
    "min_slice_notional": 1000,
    "liquidation_fee": "0.01",
    "backstop_fund_share": "1/3",
    "backstop_below_zero": "mark",
    "fund": 0,
    "shortfall": "non_recourse",
    "adl_policy": "pnl_leverage",
    "adl_price": 0,
    "adl_counterparties": "profitable",
    "adl_cap": 1,
    "zero_price_band": 1,
    "counterparty_mmr": 1,
    "slice_probability": "0.5",
    "slice_cooldown": None,
    "target_mmr": 1,
    "depth_share": 1,
    "slippage_limit": None,
    "market_cap": None,
    "account_cap": None,
    "account_cap_interval": 60,
    "account_order": "mmr",
    "position_order": "relief",
    "harmful_slice": "waive",
    "waived_fee_share": "0.5",
    "conversion_slippage": "0.01",
    "conversion_limit": None,
    "mark_index_threshold": "0.05",
    "stale_after": 60,
    "refill_half_life": None,
    "realize_interval": None,
    "borrow_rate_base": 0,
    "borrow_rate_slope": "0.06",
    "borrow_rate_jump": 1,
}
WORDS = ("haircut_size_unit", "account_order", "position_order", "harmful_slice")
WORDS += ("backstop_below_zero", "shortfall", "adl_policy", "adl_counterparties")


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


def figure(x) -> Fraction | None:
    """A figure that may be missing."""
    return None if x is None else number(x)


def exponent(x: Fraction) -> int:
    """`k` with `2^(k - 1) <= |x| < 2^k` (Integer weights)."""
    least = x.numerator.bit_length() - x.denominator.bit_length()
    return least + 1 if abs(x) >= Fraction(2) ** least else least


def float32(x) -> Fraction:
    """x rounded to 24 bits, halves to the even one (3 Book, 5 ADL)."""
    x = number(x)
    if x == 0:
        return x
    unit = Fraction(2) ** (exponent(x) - 24)
    return round(x / unit) * unit


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
    """What a fill carries that brings the lots handed over from `before` to `after` of `size` (Cumulative rounding)."""
    return rhe(Fraction(amount * after, size)) - rhe(Fraction(amount * before, size))


# ---- The venue (run_folder.md)
def margin_function(row):
    """`R(notional, price, open interest)` of a row of any kind, all in settle units (Margin of an account)."""
    kinds = {
        "sqrt": square_root_function,
        "linear": linear_function,
        "tiers": tier_function,
        "open_interest": open_interest_function,
    }
    return kinds[row.get("type", "sqrt")](row)


def square_root_function(row):
    """`R = N * max(base, factor * sqrt(s))` (Margin of an account)."""
    base, factor, by_quantity = number(row["base"]), number(row["factor"]), row.get("unit") == "quantity"

    def requirement(notional, price=1, interest=None):
        return notional * max(base, factor * square_root(notional / price if by_quantity else notional))

    return requirement


def linear_function(row):
    """`R = max(minimum, N * (base + slope * s))` of N > 0 (Margin of an account)."""
    base, slope, minimum = number(row["base"]), number(row["slope"]), number(row.get("minimum", 0))
    by_quantity = row.get("unit") == "quantity"

    def requirement(notional, price=1, interest=None):
        if not notional:
            return Fraction(0)
        return max(minimum, notional * (base + slope * (notional / price if by_quantity else notional)))

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


class Tradable:
    """What perpetuals and spot markets have in common: sizes, and the figures of guards and bands (run_folder.md)."""

    def __init__(self, row):
        price, quantity = row["filters"]["price"], row["filters"]["quantity"]
        self.symbol, self.base_symbol = row["symbol"], row["baseSymbol"]
        self.tick_size, self.step_size = number(price["tickSize"]), number(quantity["stepSize"])
        self.impact = figure(price.get("minImpactMultiplier")), figure(price.get("maxImpactMultiplier"))
        self.limit = figure(price.get("minMultiplier")), figure(price.get("maxMultiplier"))
        self.closed = row.get("orderBookState") in ("Closed", "CancelOnly", "PostOnly")


class Spot(Tradable):
    """A spot market of a collateral asset against the settle asset."""

    def __init__(self, row, quantum: Fraction):
        super().__init__(row)
        self.lot = whole(self.step_size / quantum)  # in quanta of the asset


class Market(Tradable):
    def __init__(self, row):
        super().__init__(row)
        price, quantity = row["filters"]["price"], row["filters"]["quantity"]
        mean_mark, mean_premium = price.get("meanMarkPriceBand") or {}, price.get("meanPremiumBand") or {}
        self.mean_mark = figure(mean_mark.get("minMultiplier")), figure(mean_mark.get("maxMultiplier"))
        self.tolerance = figure(mean_premium.get("tolerancePct"))
        self.update = figure(price.get("minPriceUpdateMultiplier")), figure(price.get("maxPriceUpdateMultiplier"))
        self.highest_price = figure(price.get("maxPrice"))
        self.minimum_lots = number(quantity["minQuantity"]) / self.step_size
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
        self.policy = {name: x if name in WORDS else figure(x) for name, x in policy.items()}
        self.haircut_size_unit = self.policy["haircut_size_unit"]
        self.providers = {entry["account"]: entry for entry in venue.get("backstop") or []}
        rows = {row["symbol"]: row for row in venue.get("borrow_lend") or []}
        self.pools = {
            symbol: Pool(rows[symbol], asset.quantum) for symbol, asset in self.assets.items() if symbol in rows
        }
        self.spots = {  # symbol: the spot market of a collateral asset against the settle asset
            row["symbol"]: Spot(row, self.assets[row["baseSymbol"]].quantum)
            for row in venue["markets"]
            if row["marketType"] == "SPOT"
            and row.get("baseSymbol") in self.assets
            and row.get("quoteSymbol") == self.settle
        }

    def spot_of(self, asset: str) -> Spot | None:
        """The spot market of an asset (2 Repay, Where)."""
        return next((spot for spot in self.spots.values() if spot.base_symbol == asset), None)


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
        """`bids` or `asks`: resting lots, reduce-only orders left out (Margin of an account)."""
        return sum(o.lots for o in self.orders if (o.market, o.side) == (market, side) and not o.reduce_only)


@dataclass
class Memory:
    """What the guards remember of a market; times in ns (Guards)."""

    mark: float | None = None
    mark_time: int = 0
    index: float | None = None
    index_time: int = 0
    basis: float | None = None
    basis_time: int = 0
    used: list = field(default_factory=list)  # (time, sample of the mark, sample of the premium or None) of each tick


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
    memory: dict  # market: Memory
    books: dict = field(default_factory=dict)  # symbol: {side: [[price, lots, gone], ...]}, given last (Refill)
    last_slice: dict = field(default_factory=dict)  # (account id, market): time of its last fill by a slice
    sold: dict = field(default_factory=dict)  # account id: quanta of its slices in the running interval
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
        accounts[provider].balances = {asset: [0, 0] for asset in venue.assets}
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
    memory = {market: Memory() for market in venue.markets}
    return State(accounts, book_lots, book_quanta, pool, premiums, fund, *taken, memory)


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
        if not based:
            raise ValueError(f"no price of {asset}")
        return self.indexes.get(based[0], self.marks[based[0]])

    def of_quantum(self, venue: Venue, asset: str) -> Fraction:
        """`p * quantum_a / quantum_settle`: an asset's quantum in quanta of the settle asset (2 Repay)."""
        return self.of_asset(venue, asset) * venue.assets[asset].quantum / venue.settle_quantum

    def of_lot(self, venue: Venue, market: str) -> Fraction:
        """`v = mark * stepSize` (Margin of an account)."""
        return self.marks[market] * venue.markets[market].step_size

    def of_open_interest(self, market: str):
        """`OI` of a market, None as long as it is not known (Margin of an account)."""
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
        if lots == cost == bids == asks == 0:
            continue
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


def gross(venue: Venue, account: Account, prices: Prices) -> Fraction:
    """Sum of the absolute amounts that an account's net equity is the small difference of."""
    total = abs(account.unsettled) * venue.settle_quantum
    for symbol, (free, lent) in account.balances.items():
        if free or lent:
            total += (abs(free) + lent) * venue.assets[symbol].quantum * prices.of_asset(venue, symbol)
    for symbol, (lots, cost, _) in account.positions.items():
        if lots or cost:
            total += abs(lots) * prices.of_lot(venue, symbol) + abs(cost) * venue.settle_quantum
    return total


def sweep(venue: Venue, state: State, prices: Prices) -> dict:
    """The margin of every account."""
    prices = prices.at(venue, state)
    return {account_id: margin(venue, account, prices) for account_id, account in state.accounts.items()}


# ---- Guards
def power(multiplier: Fraction, exponent: int) -> float:
    """`multiplier ** n` in float64 (Guards)."""
    try:
        return float(multiplier) ** float(exponent)
    except OverflowError:
        return INFINITY


def capped(market: Market, print_: float, previous: float | None, elapsed: int) -> float:
    """A print within the update cap of the one before it, `elapsed` ns ago (Guards)."""
    if previous is not None:
        lowest, highest = market.update
        seconds = max(1, elapsed // SECOND)
        if lowest is not None:
            print_ = max(print_, previous * power(lowest, seconds))
        if highest is not None:
            print_ = min(print_, previous * power(highest, seconds))
    return print_


def median(*x):
    """The middle one, of two their mean (Guards)."""
    x = sorted(x)
    return (x[(len(x) - 1) // 2] + x[len(x) // 2]) / 2 if len(x) % 2 == 0 else x[len(x) // 2]


def mark_sample(market: Market, mark: float) -> int:
    """The sample of a mark, in thousandths of a tick (Samples)."""
    ticks = mark / float(market.tick_size)
    if ticks >= 10**13:
        raise ValueError(f"{market.symbol}: a mark of {ticks} ticks")
    return round(ticks * 10.0**3)


def premium_sample(mark: float, index: float | None) -> int | None:
    """The sample of a premium, in 10^-12 (Samples)."""
    if index is None:
        return None
    premium = (mark - index) / index
    if premium >= 10**4:
        raise ValueError(f"a premium of {premium}")
    return round(premium * 10.0**12)


def samples(used, time_ns: int) -> dict:
    """The samples of a market in `(t - 300 s, t]`: second: (mark, premium or None) (Samples)."""
    found, last = {}, time_ns // SECOND
    for second in range(last - WINDOW + 1, last + 1):
        before = [(mark, premium) for time, mark, premium in used if time <= second * SECOND]
        if second * SECOND > time_ns - WINDOW * SECOND and before:
            found[second] = before[-1]
    return found


def mean_of(found, own):
    """The mean of samples, of the tick's own one without any (Samples)."""
    found = [sample for sample in found if sample is not None]
    return Fraction(sum(found), len(found)) if found else own


@dataclass(frozen=True)
class Band:
    """The worst price of a sale into the bids, or of a purchase from the asks, and why (Guards)."""

    side: str
    price: Fraction | None = None
    reason: str = ""

    def holds(self, price) -> bool:
        if self.price is None:
            return True
        return price >= self.price if self.side == "bids" else price <= self.price


def tightest(side: str, tick_size: Fraction, bounds) -> Band:
    """The band of bounds {reason: price or None}, in whole ticks inside them (Guards)."""
    band = Band(side)
    for reason, bound in bounds.items():
        if bound is not None:
            inside = (math.ceil if side == "bids" else math.floor)(bound / tick_size) * tick_size
            if band.price is None or (inside > band.price if side == "bids" else inside < band.price):
                band = Band(side, inside, reason)
    return band


def times(x, multiplier):
    """`x * multiplier`, unknown if one of them is."""
    return None if x is None or multiplier is None else x * multiplier


# ---- Throttle
def mix(z: int) -> int:
    """`mix(z)` (Throttle)."""
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 % WORD
    z ^= z >> 27
    z = z * 0x94D049BB133111EB % WORD
    return z ^ z >> 31


def account_key(seed: int, tick: int, account_id) -> int:
    """`key` (Throttle)."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{tick}/{account_id}".encode(), digest_size=8).digest(), "little")


def draw(key: int, n: int) -> int:
    """`draw` of a leg (Throttle)."""
    return mix((key + (n + 1) * 0x9E3779B97F4A7C15) % WORD)


# ---- Parts of the phases that stand on their own
@dataclass(frozen=True)
class BookFill:
    lots: int  # filled
    value: Fraction  # sum of lots * price over the levels taken
    taken: list  # lots taken of each level
    reason: str


def walk_book(levels, lots: int, reason="full") -> BookFill:
    """Take `lots` from `levels` of (price, lots), best first (3 Book)."""
    taken = []
    for _, available, *_ in levels:
        taken.append(min(available, lots - sum(taken)))
    value = sum((count * number(level[0]) for count, level in zip(taken, levels, strict=True)), Fraction(0))
    return BookFill(sum(taken), value, taken, reason)


def no_worse_than(levels, side: str, average) -> int:
    """The most lots whose average price is no worse than `average` (3 Book, Quote)."""
    lots, surplus = 0, Fraction(0)
    for price, available, *_ in levels:
        better = number(price) - average if side == "bids" else average - number(price)
        possible = available if better >= 0 else min(available, math.floor(surplus / -better))
        lots, surplus = lots + possible, surplus + possible * better
        if possible < available:
            break
    return lots


def quote_book(levels, lots: int, band: Band, rooms=(), average=None) -> BookFill:
    """The quote of `lots`: rooms of (reason, lots), and the worst average price (3 Book, Quote)."""
    if not levels:
        return BookFill(0, Fraction(0), [], "no_book")
    depth = sum(available for _, available, *_ in levels)
    inside = sum(available for price, available, *_ in levels if band.holds(number(price)))
    slipping = depth if average is None else no_worse_than(levels, band.side, average)
    filled = min(lots, depth, inside, slipping, *(room for _, room in rooms))
    stops = [("full", lots), *rooms, ("depth", depth), (band.reason, inside), ("slippage", slipping)]
    return walk_book(levels, filled, next(reason for reason, most in stops if most == filled))


def slice_lots(venue: Venue, market: Market, lots: int, lot_value: Fraction) -> int:
    """`s0`: the lots of one slice of a position (3 Book, Policy size)."""
    size = abs(lots)
    wanted = max(math.floor(size * venue.policy["slice_fraction"]), least_lots(venue, lot_value))
    return no_small_rest(market, size, min(wanted, size))


def no_small_rest(market: Market, size: int, lots_of_slice: int) -> int:
    """The slice, or the whole position if less than `minQuantity` would be left (3 Book)."""
    return size if size - lots_of_slice < market.minimum_lots else lots_of_slice


def least_lots(venue: Venue, lot_value: Fraction) -> int:
    """The lots of the smallest slice (3 Book)."""
    return max(math.ceil(venue.policy["min_slice_notional"] / lot_value), 1)


def equity_share(net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """`E * MM_i / maintenance margin` (4 Backstop, 5 ADL)."""
    if maintenance_margin == 0:
        return Fraction(0)
    return number(net_equity) * number(position_maintenance_margin) / number(maintenance_margin)


def zero_price(mark, quantity, net_equity, position_maintenance_margin, maintenance_margin) -> Fraction:
    """The price at which closing every position leaves nothing; `quantity` is signed (4 Backstop)."""
    share = equity_share(net_equity, position_maintenance_margin, maintenance_margin)
    return number(mark) - share / number(quantity)


def split(lots: int, most: dict, weights: dict | None = None) -> dict:
    """`water_fill`: how many of `lots` each one takes, ties in the order given (Water-filling).

    Without weights they are what each can take (3 Book, passes).
    """
    if lots >= sum(most.values()):
        return dict(most)
    taken, weights = dict.fromkeys(most, 0), most if weights is None else weights
    still = [one for one in most if most[one] > 0]
    while True:
        if sum(weights[one] for one in still) == 0:
            weights = most
        total = sum(weights[one] for one in still)
        shares = {one: lots * weights[one] // total for one in still}
        full = [one for one in still if shares[one] >= most[one]]
        if not full:
            break
        for one in full:
            taken[one] = most[one]
            lots -= most[one]
            still.remove(one)
    left_over = lots - sum(shares.values())
    weighted = [one for one in still if weights[one] > 0]
    for one in sorted(weighted, key=lambda one: shares[one] - most[one])[:left_over]:
        shares[one] += 1
    return taken | shares


def at_most(rest: int, payers: int) -> int:
    """What each of so many payers of a shortfall takes at most (6 Close out: shortfall)."""
    return min(rest, LARGEST // max(payers, 1))


def most_that_pass(n: int, passes) -> int:
    """`largest_passing(n)` (Largest passing number)."""
    if n == 0 or passes(n):
        return n
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def integer_weights(weights: dict) -> dict:
    """Weights in 24 bits, made whole by the largest of them (Integer weights)."""
    weights = {one: float32(max(weight, 0)) for one, weight in weights.items()}
    largest = max(weights.values(), default=0)
    if largest == 0:
        return dict.fromkeys(weights, 0)
    unit = Fraction(2) ** (exponent(largest) - 38)
    return {one: math.floor(weight / unit) for one, weight in weights.items()}


def profit_fraction(position_value, entry) -> Fraction:
    """`pnl` (5 ADL)."""
    return (number(position_value) - number(entry)) / abs(number(entry))


def deleveraging_score(profit, leverage) -> Fraction:
    """The score of `pnl_leverage` (5 ADL)."""
    profit, leverage = number(profit), number(leverage)
    return profit * leverage if profit > 0 else profit / leverage


# ---- ADL: scores and weights (5 ADL)
@dataclass(frozen=True)
class Figures:
    """A counterparty's position and account at the tick's sweep, in settle units."""

    lots: int
    value: Fraction  # `q * v`
    entry: Fraction
    profit: Fraction  # `q * v - entry`
    profits: Fraction  # `P`
    equity: Fraction
    exposure: Fraction
    margin: Fraction
    position_margin: Fraction

    @property
    def leverage(self) -> Fraction:
        return self.exposure / self.equity

    @property
    def is_free(self) -> bool:
        """A profit with entry 0 or of the wrong sign."""
        return self.profit > 0 and self.entry * self.lots <= 0


def score_by_leverage(of: Figures, leverage: Fraction):
    """`pnl_leverage` and `bitmex`."""
    if of.is_free:
        return INFINITY
    return None if of.entry == 0 else deleveraging_score(of.profit / abs(of.entry), leverage)


def score_bitmex(of: Figures):
    share = of.equity if of.margin == 0 else equity_share(of.equity, of.position_margin, of.margin)
    return score_by_leverage(of, abs(of.value) / share)


def score_bybit(of: Figures):
    return score_by_leverage(of, of.leverage) if of.profit > 0 else None


def score_hyperliquid(of: Figures):
    if of.is_free:
        return INFINITY
    change = of.value / of.entry if of.lots > 0 else of.entry / of.value
    return change * abs(of.value) / of.equity


def score_binance(of: Figures):
    return Fraction(max(of.profit, 0)) / max(of.equity - of.profits, 1) * of.margin / of.equity


SCORES = {  # None: takes no part
    "pnl_leverage": lambda of: score_by_leverage(of, of.leverage),
    "bitmex": score_bitmex,
    "bybit": score_bybit,
    "hyperliquid": score_hyperliquid,
    "binance": score_binance,
    "size": lambda of: abs(of.value),
    "leverage": lambda of: of.leverage,
    "bankruptcy_price": lambda of: Fraction(0),
}
WEIGHTS = {
    "pro_rata": lambda of: abs(of.lots),
    "capped_pro_rata": lambda of: of.equity,
    "rap_linear": lambda of: abs(of.lots) * of.leverage,
    "rap_power": lambda of: abs(of.lots) * of.leverage**2,
    "rap_tail": lambda of: abs(of.lots) * max(of.leverage - 5, 0),
}


# ---- The phases

QUIET = dict.fromkeys(("counterparty", "market", "asset", "order")) | dict.fromkeys(
    ("requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled"), 0
)
QUIET |= dict.fromkeys(("counter_cost", "counter_cash", "counter_entry", "fund"), 0)


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
    market: str | None = None
    asset: str | None = None
    done: int = 0

    @property
    def size(self) -> int:
        return abs(self.change)

    @property
    def left(self) -> int:
        return self.size - self.done

    def signed(self, taken: int) -> int:
        """The change of the account for so many of them."""
        return taken if self.change > 0 else -taken

    def instalment(self, taken: int) -> tuple:
        """What the account and the fund get for the next ones."""
        done = self.done, self.done + taken
        return part(self.flow, *done, self.size), part(self.to_fund, *done, self.size)


class _Tick:
    """One tick: accounts and ledgers of `state` change by the rows that are recorded alone; `start` stays."""

    def __init__(self, venue: Venue, start: State, time_ns: int, prices: Prices, seed: int):
        self.venue, self.start, self.time_ns, self.prices, self.seed = venue, start, time_ns, prices, seed
        self.state = copy.deepcopy(start)
        self.rows: list[dict] = []
        self.doubts: list[str] = []  # where float64 could decide otherwise
        self.start_margins = None  # of the tick's sweep, after what was due
        # account id: what it owes, what it still lacks and what was added to its debt, in settlement
        self.owed, self.short, self.added = {}, {}, {}
        self.levels = {}  # (symbol, side): [[price, lots left, what is remembered of the level], ...]
        self.bands = {}  # (symbol, side): Band
        self.worst_average = {}  # (symbol, side): price or None
        self.filled = dict.fromkeys(venue.markets, 0)  # lots filled by slices in this tick
        self.converted = dict.fromkeys(venue.assets, 0)  # `used`: quanta of conversions at the index
        self.escalated = set()
        self.sides = {}  # (symbol, whether they are long): {counterparty: score or weight}
        self.deleveraged = {}  # (account id, symbol): lots closed by ADL in this tick

    def clocks(self) -> None:
        """What was taken in a clock interval is forgotten with it (3 Book, Room; 4 Backstop)."""
        taken = [(self.state.provider_minute, MINUTE), (self.state.provider_hour, HOUR)]
        for counters, clock in taken:
            if self.start.time_ns // clock != self.time_ns // clock:
                counters.update(dict.fromkeys(counters, 0))
        clock = self.venue.policy["account_cap_interval"] * SECOND
        if self.start.time_ns // clock != self.time_ns // clock:
            self.state.sold = {}

        # -- Guards
        rest = self.venue.policy["slice_cooldown"]
        if rest is not None:
            slices = self.state.last_slice.items()
            self.state.last_slice = {leg: time for leg, time in slices if self.time_ns - time < rest * SECOND}

    def ago(self, time_ns: int, figure: str) -> bool:
        """Whether a time is more than a figure of the policy, in seconds, before the tick."""
        longest = self.venue.policy[figure]
        return longest is not None and self.time_ns - time_ns > longest * SECOND

    def refuse(self, reason: str, price=math.nan, **where) -> None:
        """A `guard` row (Guards)."""
        row = {"tick": self.start.ticks, "time": self.time_ns, "event": "guard", "reason": reason, "account": None}
        self.rows.append(row | QUIET | where | {"price": price, "mmr_before": math.nan, "mmr_after": math.nan})

    def guards(self, books, last_prices, book_times) -> None:
        """Guards, Refill and the bands, market by market; errors refuse the tick."""
        last_prices, marks, indexes = known(last_prices), {}, {}
        self.refill_gone()
        for symbol, market in self.venue.markets.items():
            book = self.guarded_book(market, books, book_times, market=symbol)
            self.guard_prices(market, book, last_prices.get(symbol), marks, indexes)
            self.refill(market, book)
        for spot in self.venue.spots.values():
            self.refill(spot, self.guarded_book(spot, books, book_times, asset=spot.base_symbol))
        self.prices.marks, self.prices.indexes = marks, indexes
        for account in self.state.accounts.values():
            held = [market for market, (lots, *_) in account.positions.items() if lots != 0]
            for symbol in (*held, *(order.market for order in account.orders)):
                if symbol not in marks:
                    raise ValueError(f"no mark of {symbol}, which is held")
            for asset in (asset for asset, held in account.balances.items() if any(held)):
                self.prices.of_asset(self.venue, asset)
        self.prices = self.prices.at(self.venue, self.start)
        for symbol, market in self.venue.markets.items():
            self.set_bands(market, last_prices.get(symbol))
        for spot in self.venue.spots.values():
            self.set_spot_bands(spot)

    def guarded_book(self, tradable: Tradable, books, book_times, **where) -> dict:
        """{side: [(price, lots), ...]}, without any level if it is refused or was not given (Book)."""
        given = books.get(tradable.symbol) or {}
        book = {
            side: [
                (number(price), whole(number(quantity) / tradable.step_size)) for price, quantity in given.get(side, ())
            ]
            for side in ("bids", "asks")
        }
        if any(book.values()) and tradable.closed:
            self.refuse("closed_book", **where)
        elif any(book.values()) and self.ago((book_times or {}).get(tradable.symbol, self.time_ns), "stale_after"):
            self.refuse("stale_book", **where)
        elif book["bids"] and book["asks"] and book["asks"][0][0] <= book["bids"][0][0]:
            self.refuse("crossed_book", **where)
        else:
            return book
        if self.state.books:
            self.state.books.pop(tradable.symbol, None)
        return {"bids": [], "asks": []}

    def guard_prices(self, market: Market, book, last, marks, indexes) -> None:
        """Index, e, Mark, Clamp to the index, Update cap and Samples of a market, in float64."""
        symbol, memory, prices, now = market.symbol, self.state.memory[market.symbol], self.prices, self.time_ns
        index = mark = prices_index = None
        if symbol in prices.indexes:
            prices_index = given = float(prices.indexes[symbol])
            index = capped(market, given, memory.index, now - memory.index_time)
            if index != given:
                self.refuse("index_update_cap", given, market=symbol)
            memory.index, memory.index_time = index, now

        touches = [
            float(market.tick_size) * whole(book[side][0][0] / market.tick_size) if book[side] else None
            for side in ("bids", "asks")
        ]
        mid = None if None in touches else (touches[0] + touches[1]) / 2
        if mid is not None and index is not None:
            if memory.basis is None:
                memory.basis = mid - index
            else:
                elapsed = (now - memory.basis_time) / SECOND
                memory.basis += (1 - math.exp(-elapsed / 60)) * ((mid - index) - memory.basis)
            memory.basis_time = now

        last, is_held = None if last is None else float(last), False
        if symbol in prices.marks:
            mark = float(prices.marks[symbol])
        elif index is not None and memory.basis is not None and not self.ago(memory.basis_time, "stale_after"):
            mark = index + memory.basis
        elif index is not None:
            mark = index
        elif None not in (*touches, last):
            mark = median(*touches, last)
        elif mid is not None:
            mark = mid
        elif last is not None:
            mark = last
        elif memory.mark is not None and not self.ago(memory.mark_time, "stale_after"):
            mark, is_held = memory.mark, True
            self.refuse("mark_held", market=symbol)
        if mark is None:
            return
        if not is_held:
            mark = self.clamped(market, mark, index if index == prices_index else None)
            memory.mark, memory.mark_time = mark, now
        if market.highest_price is not None and number(mark) > market.highest_price:
            raise ValueError(f"{symbol}: {mark} is above maxPrice")
        marks[symbol] = number(mark)
        if index is not None:
            indexes[symbol] = number(index)
        memory.used.append((now, mark_sample(market, mark), premium_sample(mark, index)))

    def clamped(self, market: Market, mark: float, index: float | None) -> float:
        """Clamp to the index, then the update cap."""
        memory, threshold = self.state.memory[market.symbol], self.venue.policy["mark_index_threshold"]
        given = mark
        if index is not None and threshold is not None:
            mark = min(max(mark, index * (1 - float(threshold))), index * (1 + float(threshold)))
        if mark != given:
            self.refuse("index_clamp", given, market=market.symbol)
        given = mark
        mark = capped(market, mark, memory.mark, self.time_ns - memory.mark_time)
        if mark != given:
            self.refuse("update_cap", given, market=market.symbol)
        return mark

    def refill_gone(self) -> None:
        """What is gone comes back, by half in each half-life (Refill)."""
        if self.state.books:
            elapsed = (self.time_ns - self.start.time_ns) / SECOND
            part_left = 0.5 ** (elapsed / float(self.venue.policy["refill_half_life"]))
            for book in self.state.books.values():
                for level in (level for side in book.values() for level in side):
                    level[2] = math.floor(level[2] * part_left)

    def refill(self, market: Tradable, book) -> None:
        """The levels of a market in this tick: those given, or those given last, less what is gone (Refill)."""
        symbol, books = market.symbol, self.state.books
        levels = {side: [[*level, 0] for level in book[side]] for side in book}
        if self.venue.policy["refill_half_life"] is not None:
            remembered = books.get(symbol, {"bids": [], "asks": []})
            before = {side: [tuple(level[:2]) for level in remembered[side]] for side in remembered}
            if not any(book.values()) or book == before:
                levels = remembered
            else:
                books[symbol] = levels
        for side in levels:
            left = [[price, lots - gone, level] for level in levels[side] for price, lots, gone in [level]]
            self.levels[symbol, side] = [level for level in left if level[1] > 0]

    def take(self, symbol: str, side: str, fill: BookFill) -> None:
        """Take a fill from the levels of this tick."""
        for level, taken in zip(self.levels[symbol, side], fill.taken, strict=True):
            level[1] -= taken
            level[2][2] += taken

    def touch(self, symbol: str, side: str) -> Fraction | None:
        """The best price of a side of the tick's book before anything is taken (Guards)."""
        levels = self.levels[symbol, side]
        return levels[0][0] if levels else None

    def active(self, symbol: str, last=None) -> Fraction | None:
        """`active` (Bands)."""
        prices = (self.touch(symbol, "bids"), self.touch(symbol, "asks"), last)
        prices = [price for price in prices if price is not None]
        return median(*prices) if prices else None

    def set_bands(self, market: Market, last) -> None:
        """The bands of a perpetual (Guards)."""
        symbol, used = market.symbol, self.state.memory[market.symbol].used
        if symbol not in self.prices.marks:
            return
        found, index = samples(used, self.time_ns).values(), self.prices.indexes.get(symbol)
        mean_mark = mean_of([mark for mark, _ in found], used[-1][1]) / Fraction(1000) * market.tick_size
        mean_premium = None
        if index is not None and market.tolerance is not None:
            mean_premium = mean_of([premium for _, premium in found], used[-1][2]) / Fraction(10**12)
        for place, (side, sign) in enumerate((("bids", -1), ("asks", 1))):
            bounds = {
                "impact": times(self.touch(symbol, side), market.impact[place]),
                "mean_mark": times(mean_mark, market.mean_mark[place]),
                "mean_premium": None if mean_premium is None else index * (1 + mean_premium + sign * market.tolerance),
                "limit": times(self.active(symbol, last), market.limit[place]),
            }
            self.bands[symbol, side] = tightest(side, market.tick_size, bounds)
            self.set_worst_average(market, side)

    def set_spot_bands(self, spot: Spot) -> None:
        """The bands of a spot market (2 Repay, Where)."""
        slippage, price = self.venue.policy["conversion_slippage"], self.price_if_known(spot.base_symbol)
        for place, (side, sign) in enumerate((("bids", -1), ("asks", 1))):
            bounds = {
                "impact": times(self.touch(spot.symbol, side), spot.impact[place]),
                "limit": times(self.active(spot.symbol), spot.limit[place]),
                "conversion": times(price, 1 + sign * slippage),
            }
            self.bands[spot.symbol, side] = tightest(side, spot.tick_size, bounds)
            self.set_worst_average(spot, side)

    def price_if_known(self, asset: str) -> Fraction | None:
        try:
            return self.prices.of_asset(self.venue, asset)
        except ValueError:
            return None

    def set_worst_average(self, market: Tradable, side: str) -> None:
        """The worst average price of a quote (3 Book, Quote)."""
        best, points, tick = self.touch(market.symbol, side), self.venue.policy["slippage_limit"], market.tick_size
        self.worst_average[market.symbol, side] = None
        if best is not None and points is not None:
            share = points / 10**4
            average = math.ceil(best * (1 - share) / tick) if side == "bids" else math.floor(best * (1 + share) / tick)
            self.worst_average[market.symbol, side] = average * tick

    def look(self, account_id) -> Margin:
        return margin(self.venue, self.state.accounts[account_id], self.prices)

    def doubt(self, what: str, distance, error) -> None:
        """Note that float64 could decide otherwise: what is decided by the sign of `distance` is within `error`."""
        if abs(distance) <= error:
            self.doubts.append(what)

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
        """The markets of an account's positions by MM descending, ties by market (4 Backstop, 5 ADL)."""
        margins = look.position_maintenance_margins.values()
        for one, other in itertools.combinations(margins, 2):
            self.doubt("order of the positions", one - other, CLOSER * (one + other))
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
        """`pool_lent` and `pool_borrowed`; in settlement debts count `owed` and leave `lack` out (Settlement)."""
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
        """`hour_paid` and `hour_earned`, in 10^-15 (Interest)."""
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
                if rate is not None and symbol in self.prices.marks:
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
        interval = self.venue.policy["realize_interval"]
        instants = self.instants(whole(interval) * SECOND) if interval is not None else 0
        if instants > 0:
            for account_id, account in self.state.accounts.items():
                for symbol in (symbol for symbol in self.venue.markets if symbol in account.positions):
                    lots, cost, _ = account.positions[symbol]
                    if lots == 0:
                        continue
                    lot = rhe(self.prices.of_lot(self.venue, symbol) / self.venue.settle_quantum * 10**6)
                    profit = rhe(Fraction(lots * lot, 10**6)) - cost
                    if profit != 0:
                        mark = float(self.prices.marks[symbol])
                        self.record("realize", "interval", account_id, mark, market=symbol, cost=profit, cash=profit)
        return instants

    def settlement(self, debts) -> None:
        """Settlement; `debts` are those before interest."""
        for account_id, account in self.state.accounts.items():
            owed, free = max(-account.unsettled, 0), account.balances[self.venue.settle][0]
            self.added[account_id] = max(self.settle_debt(account_id) - debts[account_id], 0)
            lacking = max(owed - max(free, 0), 0)
            self.owed[account_id], self.short[account_id] = owed, self.added[account_id] + lacking
        self.bounds = {asset: self.bound(asset) for asset in self.venue.pools}
        for account_id in list(self.short):
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
        if self.look(account_id).net_equity <= 0:
            granted = min(granted, self.added[account_id])
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
        self.swept = copy.deepcopy(self.state.accounts)
        self.start_margins = {account_id: self.look(account_id) for account_id in self.state.accounts}
        liquidating = [account_id for account_id, look in self.start_margins.items() if look.liquidating]
        self.keys = {account_id: account_key(self.seed, self.start.ticks, account_id) for account_id in liquidating}
        if self.venue.policy["account_order"] == "random":
            self.selected = sorted(liquidating, key=lambda account_id: mix(self.keys[account_id]))
        else:
            self.selected = descending(liquidating, lambda account_id: self.start_margins[account_id].mmr)
        for account_id in self.selected:
            self.record("trigger", "mmr", account_id)

    def cancel(self) -> None:
        """1 Cancel."""
        for account_id in self.selected:
            for o in self.state.accounts[account_id].orders:
                self.record("cancel", "liquidation", account_id, market=o.market, order=o.index, requested=o.lots)

    def repay_and_book(self) -> None:
        """2 Repay and 3 Book, in rounds."""
        for round_ in range(whole(self.venue.policy["slices_per_tick"])):
            self.repay(round_)
            self.book(round_)

    def throttled(self, account_id, round_: int, market=None, asset=None) -> bool:
        """Whether a leg rests by the throttle (Throttle)."""
        markets, assets = list(self.venue.markets), list(self.venue.assets)
        place = len(markets) + assets.index(asset) if market is None else markets.index(market)
        drawn = draw(self.keys[account_id], round_ * (len(markets) + len(assets)) + place)
        if drawn < math.floor(self.venue.policy["slice_probability"] * WORD):
            return False
        self.record("skip", "throttle", account_id, market=market, asset=asset)
        return True

    def cooling(self, account_id, market: str) -> bool:
        """Whether a position rests after a slice (Throttle)."""
        rest, last = self.venue.policy["slice_cooldown"], self.state.last_slice.get((account_id, market))
        if rest is None or last is None or self.time_ns - last >= rest * SECOND:
            return False
        self.record("skip", "cooldown", account_id, market=market)
        return True

    def repay(self, round_: int) -> None:
        """2 Repay."""
        for account_id in self.selected:
            balances = self.state.accounts[account_id].balances
            for asset in self.venue.assets:
                look = self.look(account_id)
                acts = balances.get(asset, (0, 0))[0] < 0 and look.liquidating
                if acts and (look.below_auto_close or not self.throttled(account_id, round_, asset=asset)):
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
            have = free + min(lent, self.not_lent_out(asset))
            worth = self.prices.of_quantum(self.venue, asset)
            sold, quote = min(have, math.ceil(need / (worth * (1 - fee_rate)))), None
            if sold == 0:
                continue
            spot = self.spot_with_level(asset, "bids", have)
            if spot is not None:
                lots = min(math.ceil(Fraction(sold, spot.lot)), have // spot.lot)
                quote = self.spot_quote(spot, "bids", lots)
                sold, reason = quote.lots * spot.lot, quote.reason
            else:
                sold, lots, reason = self.within_conversion_limit(asset, sold), 0, "conversion_limit"
            if sold <= 0:
                self.record("expire", reason, account_id, asset=asset, requested=lots)
                continue
            if sold > free:
                self.redeem(account_id, asset, sold - free, "debt")
                if not self.look(account_id).liquidating:
                    return
            need -= self.convert_somewhere(account_id, asset, -sold, spot, quote)
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
        if target <= 0:
            return
        spot, quote = self.spot_with_level(asset, "asks", target), None
        if spot is not None:
            lots = target // spot.lot
            quote = self.spot_quote(spot, "asks", lots)
            if quote.lots > 0:
                quote = self.affordable(spot, quote, settle[0])
                if quote is None:
                    return
            target, reason = quote.lots * spot.lot, quote.reason
        else:
            target, lots, reason = self.within_conversion_limit(asset, target), 0, "conversion_limit"
        if target <= 0:
            self.record("expire", reason, account_id, asset=asset, requested=lots)
        else:
            self.convert_somewhere(account_id, asset, target, spot, quote)

    def spot_with_level(self, asset: str, side: str, quanta: int) -> Spot | None:
        """The spot market where so many quanta of an asset are sold or bought, None at the index (2 Repay, Where)."""
        spot = self.venue.spot_of(asset)
        return spot if spot is not None and self.levels[spot.symbol, side] and quanta >= spot.lot else None

    def spot_quote(self, spot: Spot, side: str, lots: int) -> BookFill:
        """The quote of phase 3 with the band of the spot market, without room (2 Repay, Where)."""
        place = spot.symbol, side
        return quote_book(self.levels[place], lots, self.bands[place], (), self.worst_average[place])

    def spot_value(self, spot: Spot, quote: BookFill) -> int:
        """`value` of a quote in a spot market."""
        return rhe(quote.value * spot.step_size / self.venue.settle_quantum)

    def affordable(self, spot: Spot, quote: BookFill, money: int) -> BookFill | None:
        """The largest purchase of which price and fee are at most the money, None if there is none (2 Repay, Where)."""

        def fits(fill):
            value = self.spot_value(spot, fill)
            return value + rhe(value * self.venue.policy["liquidation_fee"]) <= money

        if fits(quote):
            return quote
        low, high = 0, quote.lots
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(self.spot_quote(spot, "asks", middle)) else (low, middle)
        return self.spot_quote(spot, "asks", low) if low > 0 else None

    def within_conversion_limit(self, asset: str, quanta: int) -> int:
        """How much of a conversion at the index the limit allows (2 Repay, Where)."""
        limit = self.venue.policy["conversion_limit"]
        if limit is None:
            return quanta
        left = limit / self.venue.settle_quantum - self.converted[asset]
        return min(quanta, math.floor(left / self.prices.of_quantum(self.venue, asset)))

    def convert_somewhere(self, account_id, asset: str, quanta: int, spot: Spot | None, quote: BookFill | None) -> int:
        """A conversion of phase 2, on the book of the spot market or at the index (2 Repay, Where)."""
        rate = self.venue.policy["liquidation_fee"]
        if spot is None:
            self.converted[asset] += rhe(abs(quanta) * self.prices.of_quantum(self.venue, asset))
            return self.convert(account_id, asset, quanta, rate, "debt")
        self.take(spot.symbol, "bids" if quanta < 0 else "asks", quote)
        value = self.spot_value(spot, quote)
        price = float(value * self.venue.settle_quantum / (quote.lots * spot.step_size))
        return self.convert_for(account_id, asset, quanta, value, price, rate, "debt")

    def convert(self, account_id, asset: str, quanta: int, fee_rate: Fraction, reason: str) -> int:
        """Sell (quanta < 0) or buy an asset for settle, at the tick's price; returns the money less the fee."""
        value = rhe(abs(quanta) * self.prices.of_quantum(self.venue, asset))
        price = float(self.prices.of_asset(self.venue, asset))
        return self.convert_for(account_id, asset, quanta, value, price, fee_rate, reason)

    def convert_for(self, account_id, asset, quanta: int, value: int, price: float, fee_rate, reason) -> int:
        """Sell (quanta < 0) or buy an asset for `value` quanta of settle; returns the money less the fee."""
        fee, cash = rhe(value * fee_rate), value if quanta < 0 else -value
        changes = {"asset": asset, "quanta": quanta, "cash": cash, "fee": fee, "counter_cash": -cash}
        self.record("convert", reason, account_id, price, counterparty=BOOK, **changes)
        return cash - fee

    # -- 3 Book

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
        for place in range(max(map(len, orders.values()), default=0)):
            acting = []
            for account_id, order in orders.items():
                if place < len(order) and self.in_book(account_id):
                    symbol, gap = order[place]
                    if not (self.throttled(account_id, round_, market=symbol) or self.cooling(account_id, symbol)):
                        acting.append((account_id, symbol, gap))
            sides = {(account_id, symbol): self.side(account_id, symbol) for account_id, symbol, _ in acting}
            for symbol in self.venue.markets:
                for side in ("bids", "asks"):
                    own = [(one, gap) for one, market, gap in acting if market == symbol and sides[one, market] == side]
                    if own:
                        self.fill_together(symbol, side, own)

    def lots(self, account_id, symbol: str) -> int:
        return self.state.accounts[account_id].positions[symbol][0]

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
        error, gained, paid, paid_error = 0, look.position_maintenance_margins[symbol], 1, 0
        if by == "relief":
            quote = self.quote(account_id, symbol, self.policy_size(account_id, symbol))
            if quote.lots == 0:
                return (Fraction(-(10**30)),) * 3
            value = self.worth(symbol, quote)
            fee = self.venue.policy["liquidation_fee"]
            error = CLOSER * self.quanta(gained)
            paid, gained = self.effect(account_id, symbol, quote.lots, value, fee)
            paid_error = CLOSER * (2 * value + abs(self.state.accounts[account_id].balances[self.venue.settle][0]))
        else:
            error = CLOSER * gained
        scores = (gained - error, paid + paid_error), (gained + error, paid - paid_error), (gained, paid)
        return tuple(float32(gain / max(cost, 1)) for gain, cost in scores)

    def quanta(self, amount) -> Fraction:
        """An amount in quanta of the settle asset, not rounded."""
        return amount / self.venue.settle_quantum

    def gap(self, look: Margin) -> Fraction:
        """The deficit to target with its sign changed, in quanta (3 Book: restoring size)."""
        return self.quanta(self.venue.policy["target_mmr"] * look.net_equity - look.maintenance_margin)

    def policy_size(self, account_id, symbol: str) -> int:
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
        rooms, place = [*rooms, *self.market_room(symbol), *self.depth_room(symbol, side)], (symbol, side)
        return quote_book(self.levels[place], lots, self.bands[place], rooms, self.worst_average[place])

    def quote(self, account_id, symbol: str, lots: int) -> BookFill:
        """The quote of so many lots of an account's position (3 Book, Quote)."""
        rooms = self.account_room(account_id, symbol)
        return self.quote_together(symbol, self.side(account_id, symbol), lots, rooms)

    def worth(self, symbol: str, quote: BookFill) -> Fraction:
        """`W`, in quanta (3 Book, Quote)."""
        return self.quanta(quote.value * self.venue.markets[symbol].step_size)

    def effect(self, account_id, symbol: str, lots: int, value: Fraction, rate) -> tuple:
        """`loss` and `relief` of lots that bring `value` quanta at a fee rate, by the margin of a copy (3 Book)."""
        account, before = self.state.accounts[account_id], self.look(account_id)
        held, cost, entry = account.positions[symbol]
        closed, sign = Fraction(lots, abs(held)), 1 if held > 0 else -1
        free, lent = account.balances[self.venue.settle]
        after = copy.copy(account)
        after.positions = account.positions | {symbol: [held - sign * lots, cost - cost * closed, entry]}
        balance = free + sign * value - rate * value - cost * closed
        after.balances = account.balances | {self.venue.settle: [balance, lent]}
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
        rate = self.rate(account_id, symbol, quote.lots, self.worth(symbol, quote), rhe(self.worth(symbol, quote)))
        if rate is None:
            return None
        levels = self.levels[symbol, self.side(account_id, symbol)]
        places = [place for place in itertools.accumulate(quote.taken) if place > 0]

        def value(lots: int) -> Fraction:
            return self.worth(symbol, walk_book(levels, lots))

        size = self.restored(account_id, symbol, wanted, places, value, rate, gap)
        return Slice(account_id, symbol, self.side(account_id, symbol), size, rate, size)

    def restored(self, account_id, symbol: str, wanted: int, places, value, rate: Fraction, gap) -> int:
        """`s`: the policy size, or what restores the target if that is less (3 Book, Restoring size)."""
        restoring = self.restoring_lots(account_id, symbol, places, value, rate, gap)
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
        cost_error = CLOSE * 2 * value
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
                    math.floor(10**4 * policy["waived_fee_share"] * (gain + off) / value + Fraction(1, 10**6))
                    for off in (-error, 0, error)
                ]
                if points[0] != points[2]:
                    self.doubts.append("basis points")
                reason, rate = "fee_waived", Fraction(points[1], 10**4)
        average = float(money * self.venue.settle_quantum / (lots * self.venue.markets[symbol].step_size))
        self.record("harm", reason, account_id, average, market=symbol, requested=lots)
        return rate

    def restoring_lots(self, account_id, symbol: str, places, value, rate: Fraction, gap) -> int | None:
        """`restoring`: the fewest lots that end the deficit, looked at `places` lots; None if none do (3 Book)."""
        look, target = self.look(account_id), self.venue.policy["target_mmr"]
        gap = self.gap(look) if gap is None else gap
        error = gross(self.venue, self.state.accounts[account_id], self.prices) + look.maintenance_margin
        error = CLOSE * (self.quanta(error) + 4 * value(max(places)))

        def gain(lots: int) -> Fraction:
            """`deficit` with its sign changed."""
            loss, relief = self.effect(account_id, symbol, lots, value(lots), rate)
            return gap - target * loss + relief

        before = 0
        for place in places:
            self.doubt("restoring size", gain(place), error)
            if gain(place) > 0:
                low, high = before, place
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if gain(middle) > 0 else (middle, high)
                self.doubt("restoring size", gain(low), error)
                self.doubt("restoring size", gain(high), error)
                return high
            before = place
        return None

    def book_slice(self, sent: Slice) -> None:
        """The quote of `s` is taken (3 Book)."""
        quote = self.quote(sent.account_id, sent.symbol, sent.lots)
        self.take(sent.symbol, sent.side, quote)
        self.book_fill(sent, quote.lots, rhe(self.worth(sent.symbol, quote)), quote.reason)

    def book_fill(self, sent: Slice, lots: int, value: int, reason: str) -> None:
        """A `book` row of so many lots for `value` quanta (3 Book)."""
        account_id, symbol = sent.account_id, sent.symbol
        sign = 1 if sent.side == "bids" else -1
        fee = rhe(value * sent.rate)
        self.fill("book", reason, account_id, BOOK, symbol, sent.lots, -sign * lots, sign * value, fee)
        self.filled[symbol] += lots
        if self.venue.policy["slice_cooldown"] is not None:
            self.state.last_slice[account_id, symbol] = self.time_ns
        if self.venue.policy["account_cap"] is not None:
            sold = self.state.sold
            sold[account_id] = sold.get(account_id, 0) + lots * self.lot_quanta(symbol)

    def fill_together(self, symbol: str, side: str, own: list) -> None:
        """The offers of a pass on one side of a book, at one price (3 Book, passes)."""
        wanted = [self.policy_size(account_id, symbol) for account_id, _ in own]
        first = [self.offered(account_id, symbol, lots) for (account_id, _), lots in zip(own, wanted, strict=True)]
        quote = self.quote_together(symbol, side, sum(first))
        taken, offers = split(quote.lots, dict(enumerate(first))), []
        for place, (account_id, gap) in enumerate(own):
            lots = taken[place]
            if lots == 0:
                reason = "account_cap" if first[place] == 0 else quote.reason
                self.record("expire", reason, account_id, market=symbol, requested=wanted[place])
                continue
            price = self.worth(symbol, quote) / quote.lots
            money = rhe(Fraction(rhe(self.worth(symbol, quote)) * lots, quote.lots))
            rate = self.rate(account_id, symbol, lots, lots * price, money)
            if rate is None:
                continue
            size = self.restored(account_id, symbol, wanted[place], [lots], lambda n, price=price: n * price, rate, gap)
            offers.append(Slice(account_id, symbol, side, size, rate, self.offered(account_id, symbol, size)))

        quote = self.quote_together(symbol, side, sum(offer.offer for offer in offers))
        self.take(symbol, side, quote)
        value, done = rhe(self.worth(symbol, quote)), 0
        taken = split(quote.lots, {place: offer.offer for place, offer in enumerate(offers)})
        for place, offer in enumerate(offers):
            lots, reason = taken[place], quote.reason
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

    # -- 4 Backstop

    def after(self, account_id, change: int, money: int, market=None, asset=None) -> Margin:
        """The margin of an account had it `change` more lots or quanta, or neither, and got `money`."""
        account, settle = copy.copy(self.state.accounts[account_id]), self.venue.settle
        account.balances = {asset: list(held) for asset, held in account.balances.items()}
        if market is not None:
            lots, cost, entry = account.positions[market]
            changed = change_of_cost(lots, cost, change, money)
            account.positions = account.positions | {market: [lots + change, cost + changed, entry]}
            money += changed
        elif asset is not None:
            account.balances[asset][0] += change
        account.balances[settle][0] += money
        return margin(self.venue, account, self.prices)

    def backstop(self) -> None:
        """4 Backstop, with the margin at the beginning of an account's turn."""
        for account_id in self.selected:
            look = self.look(account_id)
            if look.below_auto_close or (look.liquidating and account_id in self.escalated):
                for market in self.positions_by_margin(look):
                    self.hand_to_providers(account_id, market, look)
            if look.below_auto_close:
                self.hand_over_borrows(account_id, look)

    def capacity(self, provider) -> Fraction:
        """`capacity`: the mark notional that a provider can take now (4 Backstop)."""
        entry, state, quantum = self.venue.providers[provider], self.state, self.venue.settle_quantum
        counters = {"capacity_per_min": state.provider_minute, "capacity_per_hour": state.provider_hour}
        counters["max_notional"] = state.provider_total
        limits = [limit for limit in counters if entry.get(limit) is not None]
        left = [number(entry[limit]) - counters[limit][provider] * quantum for limit in limits]
        return max(min(left, default=UNLIMITED), Fraction(0))

    def hand_to_providers(self, account_id, symbol: str, look: Margin) -> None:
        """One position at the zero price or, without equity, perhaps at the mark (4 Backstop)."""
        policy, lot_value = self.venue.policy, self.prices.of_lot(self.venue, symbol)
        lots, equity = self.lots(account_id, symbol), look.net_equity
        if policy["backstop_below_zero"] == "mark":
            equity = max(equity, 0)
        share = equity_share(equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        share = max(share, -policy["zero_price_band"] * abs(lots) * lot_value)
        flow, to_fund = self.quanta(lots * lot_value - share), self.quanta(share * policy["backstop_fund_share"])
        deal = Deal(account_id, -lots, rhe(flow), rhe(to_fund) if share > 0 else 0, market=symbol)
        self.share_out(deal, lot_value, "below_auto_close" if look.below_auto_close else "escalated")

    def hand_over_borrows(self, account_id, look: Margin) -> None:
        """Collateral for what the debts cost, then the debts other than settle (4 Backstop, Borrows)."""
        balances, settle = self.state.accounts[account_id].balances, self.venue.settle
        debts = {a: -balances[a][0] for a in self.venue.assets if a != settle and balances.get(a, (0,))[0] < 0}
        costs = {
            asset: self.quanta(debt * self.value_of_quantum(asset) + self.share_of_borrow(look, asset))
            for asset, debt in debts.items()
        }
        need = sum(math.ceil(cost) for cost in costs.values()) - balances[settle][0]
        self.sell_to_providers(account_id, look, need)
        for asset, debt in debts.items():
            if not self.look(account_id).liquidating:
                return
            at_hand, cost = balances[settle][0], costs[asset]
            taken = debt if cost <= at_hand else math.floor(debt * at_hand / cost)
            if taken > 0:
                part_of = Fraction(taken, debt)
                to_fund = self.quanta(self.share_of_borrow(look, asset) * self.venue.policy["backstop_fund_share"])
                deal = Deal(account_id, taken, -rhe(cost * part_of), rhe(to_fund * part_of), asset=asset)
                self.share_out(deal, self.value_of_quantum(asset), "below_auto_close")

    def sell_to_providers(self, account_id, look: Margin, need: int) -> None:
        """Collateral for settle (4 Backstop, Borrows)."""
        settle, balances = self.venue.settle, self.state.accounts[account_id].balances
        share = self.quanta(self.share_of_borrow(look, settle))
        discount = share / (need + share) if need > 0 else Fraction(0)
        held = [asset for asset in self.venue.assets if asset != settle and balances.get(asset, (0, 0))[0] > 0]
        for asset in descending(held, lambda asset: balances[asset][0] * self.value_of_quantum(asset)):
            if need <= 0 or not self.look(account_id).liquidating:
                return
            worth = self.prices.of_quantum(self.venue, asset)
            quanta = min(balances[asset][0], math.ceil(need / (worth * (1 - discount))))
            to_fund = rhe(quanta * worth * discount * self.venue.policy["backstop_fund_share"])
            deal = Deal(account_id, -quanta, rhe(quanta * worth * (1 - discount)), to_fund, asset=asset)
            self.share_out(deal, self.value_of_quantum(asset), "below_auto_close")
            need -= part(deal.flow, 0, deal.done, deal.size)

    def value_of_quantum(self, asset: str) -> Fraction:
        """`p * quantum_a`, in settle units (4 Backstop, Borrows)."""
        return self.prices.of_asset(self.venue, asset) * self.venue.assets[asset].quantum

    def share_of_borrow(self, look: Margin, asset: str) -> Fraction:
        """`share` of a borrow (4 Backstop, Borrows)."""
        margin = look.borrow_maintenance_margins.get(asset, 0)
        return equity_share(max(look.net_equity, 0), margin, look.maintenance_margin)

    def share_out(self, deal: Deal, unit_value: Fraction, reason: str) -> None:
        """Lots or quanta of a value to the providers that can take them (4 Backstop)."""
        kind, symbol = ("markets", deal.market) if deal.asset is None else ("assets", deal.asset)
        weights, most, paid = {}, {}, -(deal.flow + deal.to_fund)
        for provider, entry in sorted(self.venue.providers.items()):
            if provider in self.selected or not (entry.get(kind) is None or symbol in entry[kind]):
                continue

            def passes(taken, provider=provider):
                if deal.market is not None:
                    held = self.lots(provider, deal.market)
                    if abs(held - deal.signed(taken)) <= abs(held):
                        return True
                money, where = rhe(Fraction(paid * taken, deal.size)), (deal.market, deal.asset)
                look = self.after(provider, -deal.signed(taken), money, *where)
                return look.imr < 1 and look.net_equity >= 0

            weights[provider] = math.floor(self.capacity(provider) / unit_value)
            most[provider] = most_that_pass(min(weights[provider], deal.size), passes)
        while max(weights.values(), default=0) >= HEAVIEST:
            weights = {provider: weight // 2 for provider, weight in weights.items()}
        for provider, taken in split(deal.size, most, weights).items():
            if taken > 0:
                self.hand_over("backstop", reason, deal, provider, taken)
                notional = rhe(self.quanta(taken * unit_value))
                for counter in (self.state.provider_minute, self.state.provider_hour, self.state.provider_total):
                    counter[provider] += notional

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
        self.record(event, reason, deal.account_id, price, counterparty=other, asset=deal.asset, **changes)

    # -- 5 ADL

    def deleverage(self) -> None:
        """5 ADL: Lends, then positions with the margin at the beginning of an account's turn."""
        for account_id in self.selected:
            if self.look(account_id).liquidating:
                self.settle_lends(account_id)
        for account_id in self.selected:
            look = self.look(account_id)
            if look.below_auto_close:
                for market in self.positions_by_margin(look):
                    if self.look(account_id).liquidating:
                        self.hand_to_counterparties(account_id, market, look)

    def stays_healthy(self, look: Margin) -> bool:
        """Whether an account is healthy as a counterparty must stay (Healthy accounts)."""
        has_margin = look.maintenance_margin < self.venue.policy["counterparty_mmr"] * look.net_equity
        return look.net_equity >= 0 and (look.exposure == 0 or has_margin)

    def figures(self, account_id, symbol: str) -> Figures:
        """Of a position at the sweep (5 ADL)."""
        look, positions = self.start_margins[account_id], self.swept[account_id].positions
        values = {market: held[0] * self.prices.of_lot(self.venue, market) for market, held in positions.items()}
        entries = {market: held[2] * self.venue.settle_quantum for market, held in positions.items()}
        lots, value, entry = positions[symbol][0], values[symbol], entries[symbol]
        profits = sum(values.values()) - sum(entries.values())
        margins = look.maintenance_margin, look.position_maintenance_margins[symbol]
        return Figures(lots, value, entry, value - entry, profits, look.net_equity, look.exposure, *margins)

    def counterparties(self, symbol: str, are_long: bool) -> dict:
        """Account id: score, or weight made whole, of those who take part, ascending by id (5 ADL, Counterparties)."""
        if (symbol, are_long) not in self.sides:
            policy, side = self.venue.policy, {}
            for account_id, account in self.swept.items():
                lots = account.positions.get(symbol, (0,))[0]
                if account_id not in self.selected and (lots > 0 if are_long else lots < 0):
                    of = self.figures(account_id, symbol)
                    if of.equity > 0 and (policy["adl_counterparties"] == "opposing" or of.profit > 0):
                        side[account_id] = of
            name, shared = policy["adl_policy"], policy["adl_policy"] in WEIGHTS
            self.doubt_ranks(symbol, side, (WEIGHTS if shared else SCORES)[name])
            found = {account_id: (WEIGHTS if shared else SCORES)[name](of) for account_id, of in side.items()}
            found = {account_id: rank for account_id, rank in found.items() if rank is not None}
            self.sides[symbol, are_long] = integer_weights(found) if shared else found
        return self.sides[symbol, are_long]

    def doubt_ranks(self, symbol: str, side: dict, rank) -> None:
        """Note where float64 could find another order or weight (5 ADL)."""
        name, ends = self.venue.policy["adl_policy"], {}
        for account_id, of in side.items():
            account = self.swept[account_id]
            found = [rank(figures) for figures in self.nearly(account, of)] if name not in ("size", "pro_rata") else []
            found.append(rank(of))
            if None in found and found != [None] * len(found):
                self.doubts.append("takes part")
            found = [x for x in found if x is not None]
            if found:
                spread = [0 if x == INFINITY else CLOSE * abs(x) for x in (min(found), max(found))]
                ends[account_id] = min(found) - spread[0], max(found) + spread[1]
        if name in WEIGHTS:
            if any(float32(low) != float32(high) for low, high in ends.values()) and name != "pro_rata":
                self.doubts.append("weight")
            return
        for one, other in itertools.combinations(ends, 2):
            (low, high), (other_low, other_high) = ends[one], ends[other]
            ordered = low > other_high or other_low > high
            if not ordered and not low == high == other_low == other_high and not self.twins(one, other, symbol):
                self.doubts.append("score")

    def nearly(self, account: Account, of: Figures):
        """Figures that float64 could find: of differences, which are what it can lose bits in (5 ADL)."""
        held = account.positions.items()
        values = [(abs(lots) * self.prices.of_lot(self.venue, m), abs(entry)) for m, (lots, _, entry) in held]
        all_of_them = sum(value + entry * self.venue.settle_quantum for value, entry in values)
        errors = {
            "equity": ROUNDING * gross(self.venue, account, self.prices),
            "profit": CLOSER * (abs(of.value) + abs(of.entry)),
            "profits": CLOSER * all_of_them,
        }
        for signs in itertools.product((-1, 1), repeat=len(errors)):
            moved = {name: getattr(of, name) + sign * errors[name] for sign, name in zip(signs, errors, strict=True)}
            if moved["equity"] <= 0:
                self.doubts.append("equity of a counterparty")
                return
            yield replace(of, **moved)

    def twins(self, one, other, symbol: str) -> bool:
        """Whether float64 finds the same of both: equal holdings give equal bits."""
        if self.venue.policy["adl_policy"] == "size":
            return abs(self.swept[one].positions[symbol][0]) == abs(self.swept[other].positions[symbol][0])
        return self.swept[one] == self.swept[other]

    def room(self, account_id, symbol: str) -> int:
        """The lots that a counterparty can still give (5 ADL)."""
        lots, swept = self.lots(account_id, symbol), self.swept[account_id].positions[symbol][0]
        if lots * swept <= 0:  # it has nothing left, or was turned round since
            return 0
        cap = math.ceil(self.venue.policy["adl_cap"] * abs(swept)) - self.deleveraged.get((account_id, symbol), 0)
        return min(abs(lots), cap)

    def hand_to_counterparties(self, account_id, symbol: str, look: Margin) -> None:
        """One position to those on the other side (5 ADL)."""
        policy, lots = self.venue.policy, self.lots(account_id, symbol)
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        value = lots * self.prices.of_lot(self.venue, symbol)
        share = max((1 - policy["adl_price"]) * share, -policy["zero_price_band"] * abs(value))
        flow = rhe(self.quanta(value - share))
        deal, ranks = Deal(account_id, -lots, flow, market=symbol), self.counterparties(symbol, lots < 0)
        if policy["adl_policy"] in WEIGHTS:
            self.offer_shares(deal, ranks)
        else:
            for other in descending(ranks, ranks.get):
                offered = min(deal.left, self.room(other, symbol))
                if offered > 0 and (policy["adl_policy"] != "bankruptcy_price" or self.reaches(other, deal)):
                    self.offer(deal, other, offered)
        if deal.left > 0:
            self.record("unfilled", "no_counterparty", account_id, market=symbol, requested=deal.left)

    def offer_shares(self, deal: Deal, weights: dict) -> None:
        """Offers by weight, until nothing is left or nobody has room (5 ADL)."""
        still = [other for other in weights if self.room(other, deal.market) > 0]
        while deal.left > 0 and still:
            shares = split(deal.left, {other: self.room(other, deal.market) for other in still}, weights)
            taken = {other: self.offer(deal, other, offered) for other, offered in shares.items()}
            still = [other for other in still if taken[other] == shares[other] and self.room(other, deal.market) > 0]

    def offer(self, deal: Deal, other, offered: int) -> int:
        """What a counterparty takes of an offer: as long as it stays sound (5 ADL)."""

        def passes(taken):
            money, _ = deal.instalment(taken)
            return self.stays_healthy(self.after(other, -deal.signed(taken), -money, deal.market))

        taken = most_that_pass(offered, passes)
        if taken > 0:
            self.hand_over("adl", "backstop_exhausted", deal, other, taken)
            done = self.deleveraged.get((other, deal.market), 0)
            self.deleveraged[other, deal.market] = done + taken
        return taken

    def reaches(self, other, deal: Deal) -> bool:
        """Whether a counterparty's own zero price does, with what the deal gives it (5 ADL, `bankruptcy_price`)."""
        look, symbol = self.look(other), deal.market
        share = equity_share(look.net_equity, look.position_maintenance_margins[symbol], look.maintenance_margin)
        value = -deal.change * self.prices.of_lot(self.venue, symbol)
        gives = (value - deal.flow * self.venue.settle_quantum) / deal.size
        return share + gives * abs(self.lots(other, symbol)) >= 0

    def settle_lends(self, account_id) -> None:
        """Lends that cannot be redeemed are settled with the borrowers (5 ADL, Lends)."""
        balances, settle = self.state.accounts[account_id].balances, self.venue.settle
        debts = {asset: -free for asset, (free, _) in balances.items() if free < 0}
        need = sum(rhe(debt * self.prices.of_quantum(self.venue, asset)) for asset, debt in debts.items())
        lends = [asset for asset in self.venue.pools if asset != settle and balances.get(asset, (0, 0))[1] > 0]
        for asset in descending(lends, lambda asset: balances[asset][1] * self.value_of_quantum(asset)):
            lent, worth = balances[asset][1], self.prices.of_quantum(self.venue, asset)
            stuck = lent - min(lent, self.not_lent_out(asset))
            if stuck > 0 and need > 0:
                deal = Deal(account_id, -min(stuck, math.ceil(need / worth)), 0, asset=asset)
                need -= self.settle_with_borrowers(deal, worth)

    def settle_with_borrowers(self, deal: Deal, worth: Fraction) -> int:
        """Borrowers buy what they owe of the lender, at `p`; gives what they pay (5 ADL, Lends)."""
        asset, proceeds = deal.asset, 0
        debts = {other: -account.balances.get(asset, (0, 0))[0] for other, account in self.state.accounts.items()}
        borrowers = [other for other, debt in debts.items() if debt > 0 and other not in self.selected]
        for other in sorted(borrowers, key=lambda other: -debts[other]):
            if not self.look(deal.account_id).liquidating:
                break

            def passes(taken, other=other):
                return self.stays_healthy(self.after(other, taken, -rhe(taken * worth), asset=asset))

            taken = most_that_pass(min(deal.left, debts[other]), passes)
            if taken > 0:
                money = rhe(taken * worth)
                changes = {"requested": deal.size, "lent": -taken, "cash": money, "counter_cash": -money}
                self.swap("adl", "full_utilization", deal, other, changes, -taken)
                deal.done += taken
                proceeds += money
        return proceeds

    # -- 6 Close out

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
        """The fund pays what it can, the rest goes by the policy (6 Close out)."""
        unsettled, policy = self.state.accounts[account_id].unsettled, self.venue.policy["shortfall"]
        if unsettled > 0 or (unsettled < 0 and policy != "unsettled"):
            self.record("unsettle", "close_out", account_id, cash=unsettled, unsettled=-unsettled)
        shortfall = self.settle_debt(account_id)
        paid = min(self.state.fund, shortfall)
        rest = shortfall - paid
        if paid > 0:
            self.record("fund", "bankrupt", account_id, counterparty=FUND, cash=paid, fund=-paid)
        if policy in ("equity", "open_interest") and rest > 0:
            rest -= self.socialize(account_id, rest)
        if policy == "unsettled" and rest > 0:
            self.record("shortfall", "unsettled", account_id, cash=rest, unsettled=-rest)
        elif rest > 0:
            self.record("shortfall", "bankrupt", account_id, counterparty=SHORTFALL, cash=rest, counter_cash=-rest)

    def socialize(self, account_id, rest: int) -> int:
        """Others pay; what they paid (6 Close out)."""
        payers, left = self.payers(account_id), rest
        still = list(payers)
        while left > 0 and still:
            shares = split(left, dict.fromkeys(still, at_most(left, len(payers))), payers)
            taken = {other: self.pay(account_id, other, offered) for other, offered in shares.items()}
            left -= sum(taken.values())
            still = [other for other in still if taken[other] == shares[other]]
        return rest - left

    def payers(self, account_id) -> dict:
        """Who pays for an account, and their weights, by what all held at the sweep (6 Close out)."""
        own = {m: lots for m, (lots, *_) in self.swept[account_id].positions.items() if lots != 0}
        weights = {}
        for other, account in self.swept.items():
            if other in self.selected:
                continue
            held = {m: lots for m, (lots, *_) in account.positions.items() if lots != 0 and m in own}
            if self.venue.policy["shortfall"] == "open_interest":
                values = [abs(lots) * self.prices.of_lot(self.venue, market) for market, lots in held.items()]
                weight, error = sum(values), CLOSE * sum(values)
            else:
                opposite = any(lots * own[market] < 0 for market, lots in held.items())
                weight = self.start_margins[other].net_equity if opposite else 0
                error = ROUNDING * gross(self.venue, account, self.prices)
            if weight > 0:
                weights[other] = weight
                if float32(weight - error) != float32(weight + error) and weight != float32(weight):
                    self.doubts.append("weight")
        return integer_weights(weights)

    def pay(self, account_id, other, offered: int) -> int:
        """What one pays of a shortfall (6 Close out)."""
        paid = most_that_pass(offered, lambda quanta: self.stays_healthy(self.after(other, 0, -quanta)))
        if paid > 0:
            changes = {"cash": paid, "counter_cash": -paid}
            self.record("socialize", self.venue.policy["shortfall"], account_id, counterparty=other, **changes)
        return paid


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
    """The prices that a tick would use; the state given is not changed (Guards)."""
    tick = _Tick(venue, state, time_ns, Prices(marks, indexes, asset_prices, open_interest, funding_rates), seed=0)
    tick.guards(books or {}, last_prices, book_times)
    return tick.prices


@dataclass(frozen=True)
class Seen:
    """What a tick saw besides its rows."""

    prices: Prices  # guarded
    doubts: list  # where float64 could decide otherwise than this file


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
    seed=0,
):
    """One tick: the state after it, the rows of its journal, and what it saw. The state given is not changed.

    books = {symbol: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units;
    book_times = {symbol: ns}. A tick that is refused is a ValueError.
    """
    prices = Prices(marks, indexes, asset_prices, open_interest, funding_rates)
    tick = _Tick(venue, state, time_ns, prices, seed)
    tick.clocks()
    tick.guards(books or {}, last_prices, book_times)
    tick.state.time_ns, tick.state.ticks = time_ns, state.ticks + 1
    tick.between_ticks()
    tick.select()
    tick.cancel()
    tick.repay_and_book()
    tick.backstop()
    tick.deleverage()
    tick.close_out()
    return tick.state, tick.rows, Seen(tick.prices, tick.doubts)


# ---- The journal
def apply_row(venue: Venue, state: State, row) -> None:
    """Add a row's changes to the state (The journal)."""
    if row["event"] == "guard":
        return
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
    elif row["event"] in ("backstop", "adl", "socialize"):
        state.accounts[other].balances[venue.settle][0] += row["counter_cash"]
        if asset is not None:
            state.accounts[other].balances[asset][0] -= row["quanta"] + row["lent"]
        elif row["lots"] != 0:
            for place, column in enumerate(("lots", "counter_cost", "counter_entry")):
                state.accounts[other].positions[market][place] += -row["lots"] if column == "lots" else row[column]


def apply_rows(venue: Venue, state: State, rows) -> State:
    """The state after `rows`, by plain addition; the state given is not changed (The journal)."""
    new = copy.deepcopy(state)
    for row in rows:
        apply_row(venue, new, row)
    return new


def journalled(state: State) -> dict:
    """What the journal determines of a state: all but the clock, and what is remembered besides the holdings."""
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
