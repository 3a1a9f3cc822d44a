"""The oracle: the rules of docs/one_tick.md in plain Python, slow and literal.

Nothing here comes from riskcore, numpy or pandas, and every look at an account computes its margin from the beginning.
Docstrings name the section of one_tick.md that they follow.

Amounts are whole quanta, sizes whole lots, everything else a `Fraction`; only square roots are not always exact.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction

INFINITY = float("inf")
MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
BOOK, FUND, SHORTFALL = "book", "fund", "shortfall"
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
    """`f(N) = max(base, factor * sqrt(N))` (Margin of an account)."""
    base, factor = number(row["base"]), number(row["factor"])
    return lambda notional: max(base, factor * square_root(notional))


def margin_functions(row, default_base=None) -> tuple:
    """The initial and the maintenance function of a row, or their defaults."""
    initial = row.get("imfFunction") or {"base": default_base, "factor": 0}
    half = {"base": number(initial["base"]) / 2, "factor": number(initial["factor"]) * 6 / 10}
    return margin_function(initial), margin_function(row.get("mmfFunction") or half)


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


class Venue:
    """The venue's PERP markets, collateral assets, policy and backstop, by symbol and account id."""

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
        self.policy = {name: number(figure) for name, figure in policy.items()}
        self.providers = {entry["account"]: entry for entry in venue.get("backstop") or []}


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
    positions: dict = field(default_factory=dict)  # market: [lots, cost]
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
        cost = rhe(quantity * number(row["entry_price"]) / venue.settle_quantum)
        accounts[row["account"]].positions[row["market"]] = [whole(quantity / step_size), cost]
    for provider in venue.providers:
        accounts[provider].positions = {market: [0, 0] for market in venue.markets} | accounts[provider].positions
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
    taken = [dict.fromkeys(venue.providers, 0) for _ in range(3)]
    return State(accounts, book_lots, book_quanta, rhe(venue.policy["fund"] / venue.settle_quantum), *taken)


# ---- Prices
def known(prices) -> dict:
    """Those of the prices that the tick has: not None, not NaN."""
    return {symbol: number(x) for symbol, x in (prices or {}).items() if x is not None and x == x}


class Prices:
    """What a tick knows: a mark per market, and perhaps an index per market and a price per asset (Prices)."""

    def __init__(self, marks, indexes=None, asset_prices=None):
        self.marks, self.indexes, self.asset_prices = known(marks), known(indexes), known(asset_prices)

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
        initial += borrowed * asset.initial(borrowed)
        if borrowed > 0:
            borrows[symbol] = borrowed * asset.maintenance(borrowed)

    for symbol, market in venue.markets.items():
        lots, cost = account.positions.get(symbol, (0, 0))
        bids, asks = account.open_lots(symbol, "bid"), account.open_lots(symbol, "ask")
        lot_value = prices.of_lot(venue, symbol)
        notional = abs(lots) * lot_value
        worst_case = max(abs(lots + bids), abs(lots - asks), abs(lots)) * lot_value
        net_equity += lots * lot_value - cost * venue.settle_quantum
        exposure += worst_case
        initial += worst_case * max(market.initial(worst_case), least_fraction)
        if lots != 0:
            positions[symbol] = notional * market.maintenance(notional)

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


def profit_fraction(position_value, cost) -> Fraction:
    """`pnl_pct` (5 ADL)."""
    return (number(position_value) - number(cost)) / abs(number(cost))


def deleveraging_score(profit, leverage) -> Fraction:
    """`score` (5 ADL); a tick ranks only the profitable, the published rule also those at a loss."""
    profit, leverage = number(profit), number(leverage)
    return profit * leverage if profit > 0 else profit / leverage


# ---- The phases

QUIET = dict.fromkeys(("counterparty", "market", "asset", "order")) | dict.fromkeys(
    ("requested", "lots", "cost", "cash", "fee", "quanta", "counter_cost", "counter_cash", "fund"), 0
)


class _Tick:
    """One tick: `state` changes by the rows that are recorded and by nothing else; `start` stays."""

    def __init__(self, venue: Venue, start: State, time_ns: int, prices: Prices, books):
        self.venue, self.start, self.time_ns, self.prices = venue, start, time_ns, prices
        self.state = copy.deepcopy(start)
        self.rows: list[dict] = []
        self.start_margins = sweep(venue, start, prices)
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
        row |= QUIET | changes | {"price": price, "mmr_before": float(self.look(account_id).mmr)}
        apply_row(self.venue, self.state, row)
        row["mmr_after"] = float(self.look(account_id).mmr)
        self.rows.append(row)

    def fill(self, event, reason, account_id, other, symbol, requested, change, flow, fee=0, fund=0) -> None:
        """Trade `change` lots for the signed money `flow` with `other`, who also pays `fund` (Numbers)."""
        accounts, paid = self.state.accounts, -(flow + fund)
        cost = change_of_cost(*accounts[account_id].positions[symbol], change, flow)
        counter_cost = 0 if other == BOOK else change_of_cost(*accounts[other].positions[symbol], -change, paid)
        changes = {"requested": requested, "lots": change, "cost": cost, "cash": flow + cost, "fee": fee, "fund": fund}
        changes |= {"counter_cost": counter_cost, "counter_cash": paid + counter_cost}
        quantity = change * self.venue.markets[symbol].step_size
        price = float(-flow * self.venue.settle_quantum / quantity)
        self.record(event, reason, account_id, price, counterparty=other, market=symbol, **changes)

    def positions_by_margin(self, look: Margin) -> list:
        """The markets of an account's positions by MM descending, ties by market (3 Book)."""
        return descending(look.position_maintenance_margins, look.position_maintenance_margins.get)

    def select(self) -> None:
        """Select."""
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
        redeemed = min(self.state.accounts[account_id].balances[asset][1], target)
        if redeemed > 0:
            self.record("redeem", "debt", account_id, asset=asset, quanta=redeemed)
        target -= redeemed
        if target == 0 or not self.look(account_id).liquidating:
            return
        if asset == self.venue.settle:
            self.sell_collateral(account_id, asset, target)
        else:
            self.buy_debt(account_id, asset, target)

    def sell_collateral(self, account_id, debt_asset: str, need: int) -> None:
        """Sales that raise `need` quanta of settle, while the account is liquidating (2 Repay)."""
        venue, balances = self.venue, self.state.accounts[account_id].balances
        have = {asset: max(free, 0) + lent for asset, (free, lent) in balances.items() if free > 0 or lent > 0}
        worth = {asset: self.prices.of_quantum(venue, asset) for asset in have}
        for_sale = [asset for asset in venue.assets if asset in have and asset not in (venue.settle, debt_asset)]
        for asset in descending(for_sale, lambda asset: have[asset] * worth[asset]):
            sold = min(have[asset], math.ceil(need / (worth[asset] * (1 - venue.policy["liquidation_fee"]))))
            missing = sold - max(balances[asset][0], 0)
            if missing > 0:
                self.record("redeem", "debt", account_id, asset=asset, quanta=missing)
                if not self.look(account_id).liquidating:
                    return
            need -= self.convert(account_id, asset, -sold, venue.policy["liquidation_fee"], "debt")
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
        """The rank of a counterparty by the figures at the start of the tick, None if it is not one (5 ADL)."""
        look = self.start_margins[account_id]
        lots, cost = self.start.accounts[account_id].positions.get(symbol, (0, 0))
        value, cost = lots * self.prices.of_lot(self.venue, symbol), cost * self.venue.settle_quantum
        if account_id in self.selected or lots * opposite_of >= 0 or look.net_equity <= 0 or value <= cost:
            return None
        if cost * lots <= 0:
            return INFINITY
        return deleveraging_score(profit_fraction(value, cost), look.exposure / look.net_equity)

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
                self.record("redeem", "close_out", account_id, asset=asset, quanta=balances[asset][1])
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


def step(venue: Venue, state: State, time_ns: int, marks, books, indexes=None, asset_prices=None):
    """One tick: the state after it and the rows of its journal (The phases). The state given is not changed.

    books = {market: {"bids": [(price, quantity), ...], "asks": [...]}}, best level first, in natural units.
    """
    tick = _Tick(venue, state, time_ns, Prices(marks, indexes, asset_prices), books)
    new = tick.state
    for taken, clock in ((new.provider_minute, MINUTE), (new.provider_hour, HOUR)):
        if state.time_ns // clock != time_ns // clock:
            taken.update(dict.fromkeys(taken, 0))
    new.time_ns, new.ticks = time_ns, state.ticks + 1
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
    state.fund += row["fund"] + row["fee"]
    if row["lots"] != 0:
        account.positions[market][0] += row["lots"]
        account.positions[market][1] += row["cost"]
    if asset is not None:
        account.balances[asset][0] += row["quanta"]
    if row["event"] == "redeem":
        account.balances[asset][1] -= row["quanta"]
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
    elif row["event"] in ("backstop", "adl"):
        state.accounts[other].positions[market][0] -= row["lots"]
        state.accounts[other].positions[market][1] += row["counter_cost"]
        state.accounts[other].balances[venue.settle][0] += row["counter_cash"]


def apply_rows(venue: Venue, state: State, rows) -> State:
    """The state after `rows`, by plain addition; the state given is not changed (The journal)."""
    new = copy.deepcopy(state)
    for row in rows:
        apply_row(venue, new, row)
    return new


def journalled(state: State) -> dict:
    """What the journal determines of a state: all but the clock and what the providers took."""
    return {name: getattr(state, name) for name in ("accounts", "book_lots", "book_quanta", "fund", "shortfall")}


def total_lots(venue: Venue, state: State) -> dict:
    """Signed lots of each market over all accounts and the book: no tick changes them."""
    accounts = state.accounts.values()
    return {m: state.book_lots[m] + sum(a.positions.get(m, (0, 0))[0] for a in accounts) for m in venue.markets}


def total_quanta(venue: Venue, state: State) -> dict:
    """Quanta of each asset over all accounts and ledgers, those of settle less the costs: no tick changes them."""
    accounts = state.accounts.values()
    totals = {a: state.book_quanta[a] + sum(sum(x.balances.get(a, (0, 0))) for x in accounts) for a in venue.assets}
    costs = sum(cost for account in accounts for _, cost in account.positions.values())
    totals[venue.settle] += state.fund + state.shortfall - costs
    return totals
