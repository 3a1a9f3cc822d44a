"""Hypothesis strategies for whole scenes: a venue, its accounts, and ticks, drawn as decimals.

Accounts are not drawn blindly. Holdings come first; the settle balance then follows from the net equity that the
account shall have, as a multiple of its maintenance margin at the first tick. Thus every phase is reached often.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pandas as pd
from hypothesis import strategies as st

from riskcore import Accounts, RiskDataError, Tick, Venue, load_venue, reference
from riskcore.venue import MarginFunction, check_order

SETTLE = "USDC"
BASES = ("BTC", "ETH", "SOL", "DOGE")
OTHERS = ("GEM", "TOK")
ORDER_COLUMNS = ["account", "market", "side", "price", "quantity", "reduce_only"]
START = 1_760_000_000 * 10**9  # ns, 40 s before a full minute and 400 s before a full hour
GAPS = ("0.25", 1, 1, 5, 20, 40, 70, 400, 1800, 3600, 10_800)  # s from one tick to the next

# net equity over maintenance margin at the first tick
DISTRESS = {
    "bankrupt": (-300, -2),
    "exactly": (100, 100),
    "edge": (95, 105),
    "tight": (101, 115),
    "safe": (120, 600),
    "auto_close": (2, 49),
    "liquidating": (55, 99),
}
OFTEN = (*["liquidating"] * 5, *DISTRESS, "auto_close", "auto_close", "bankrupt", "bankrupt")
SAFE = ("winner", "debtor")  # they take positions over, and what others have lent
KINDS = ("trader", "trader", "winner", "winner", "winner", "mixed", "mixed", "borrower", "borrower", "lender", "debtor")
HELD = [(1, 0), (1, 0), (1, 1), (0, 1)]  # free and lent parts
OWED = [(-1, 0), (-1, 0), (-1, Decimal("0.3"))]
PARTS = {
    "mixed": HELD,
    "borrower": HELD + OWED,
    "debtor": HELD + OWED + OWED,
    "lender": [(0, 1), (0, 1), (0, 1), (1, 1)],
}


@dataclass(frozen=True)
class TickInput:
    """What both sides see of a tick, in natural units."""

    time: int
    marks: dict[str, float]
    indexes: dict[str, float]
    asset_prices: dict[str, float]
    books: dict[str, dict[str, list[tuple[float, float]]]]
    open_interest: dict[str, float] = field(default_factory=dict)
    funding_rates: dict[str, float] = field(default_factory=dict)
    last_prices: dict[str, float] = field(default_factory=dict)
    book_times: dict[str, int] = field(default_factory=dict)  # ns
    path: dict[str, float] = field(default_factory=dict)  # where the market is, whatever is printed
    lows: dict[str, float] = field(default_factory=dict)
    highs: dict[str, float] = field(default_factory=dict)

    def tick(self) -> Tick:
        bars = {"lows": self.lows, "highs": self.highs}
        return Tick(*self.reference_arguments()[:-1], book_times=self.book_times, **bars)

    def prices(self) -> reference.Prices:
        return reference.Prices(self.marks, self.indexes, self.asset_prices, self.open_interest, self.funding_rates)

    def reference_arguments(self) -> tuple[Any, ...]:
        known = (self.marks, self.books, self.indexes, self.asset_prices, self.open_interest, self.funding_rates)
        return self.time, *known, self.last_prices, self.book_times


@dataclass(frozen=True)
class Scene:
    """A venue, the rows of its accounts, and ticks."""

    source: dict[str, Any]
    positions: list[dict[str, Any]] = field(default_factory=list)
    balances: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)
    ticks: list[TickInput] = field(default_factory=list)
    seed: int = 0

    def frames(self) -> list[pd.DataFrame]:
        """Tables as `Accounts.from_frames` takes them."""
        settled = ["settle_price"] if any("settle_price" in row for row in self.positions) else []
        owner = ["owner"] if any("owner" in row for row in self.settings) else []
        names = (
            ["account", "market", "quantity", "entry_price", *settled],
            ["account", "asset", "quantity", "lent"],
            ORDER_COLUMNS,
            ["account", "leverage_limit", "unsettled", *owner],
        )
        tables = (self.positions, self.balances, self.orders, self.settings)
        return [pd.DataFrame(rows, columns=columns) for rows, columns in zip(tables, names, strict=True)]

    def load(self) -> tuple[Venue, Accounts]:
        venue = load_venue(self.source)
        return venue, Accounts.from_frames(venue, *self.frames())

    def load_reference(self) -> tuple[reference.Venue, reference.State]:
        venue = reference.Venue(self.source)
        return venue, reference.load_state(venue, self.positions, self.balances, self.orders, self.settings)


def decimals(low: int, high: int, places: int) -> st.SearchStrategy[Decimal]:
    """Decimals from low to high in units of the last place."""
    return st.integers(low, high).map(lambda n: Decimal(n).scaleb(-places))


def rounded(amount: Fraction | Decimal, unit: Decimal) -> float:
    """The nearest multiple of the unit, as the float that a user would write."""
    return float(round(Fraction(amount) / Fraction(unit)) * unit)


# ---- The venue


@st.composite
def margin_functions(draw, low=5, high=100, kinds=("sqrt", "sqrt", "linear", "tiers", "open_interest")):
    """Initial and maintenance function from one base, mostly of one kind."""
    base, part = draw(decimals(low, high, 3)), draw(st.sampled_from([Decimal("0.5"), Decimal("0.6")]))
    kind = draw(st.sampled_from(kinds))
    shape = draw(SHAPES[kind]())
    if draw(st.integers(0, 5)):
        return FUNCTIONS[kind](base, Decimal(1), True, shape), FUNCTIONS[kind](base, part, False, shape)
    other = draw(st.sampled_from(kinds))
    pair = FUNCTIONS[kind](base, Decimal(1), True, shape), FUNCTIONS[other](base, part, False, draw(SHAPES[other]()))
    try:
        check_order("", *(msgspec.convert(row, MarginFunction) for row in pair))
    except RiskDataError:  # the maintenance margin is above the initial one somewhere
        return pair[0], FUNCTIONS[kind](base, part, False, shape)
    return pair


def sqrt_shapes():
    """Half of them with a kink between notionals, or quantities, of 100 and 1,000,000."""
    return st.tuples(st.sampled_from([None, 10, 100, 1000]), st.sampled_from(["notional", "notional", "quantity"]))


def sqrt_function(base, part, _, shape):
    kink, unit = shape
    factor = Decimal(0) if kink is None else base / kink
    row = {"type": "sqrt", "base": str(base * part), "factor": str(factor * part)}
    return row if unit == "notional" else row | {"unit": unit}


def tier_shapes():
    """Where the brackets begin and what their rates are as multiples of the base; and `whole`."""
    brackets = st.lists(st.sampled_from([0.5, 700, 5_000, 30_000, 150_000]), max_size=3, unique=True).map(sorted)
    return st.tuples(brackets, decimals(11, 16, 1), st.booleans())


def tier_function(base, part, initial, shape):
    starts, growth, whole = shape
    brackets = [
        {"from": str(start), "rate": str(base * part * growth**place)} for place, start in enumerate((0, *starts))
    ]
    return {"type": "tiers", "brackets": brackets} | ({"whole": True} if whole and initial else {})


def open_interest_shapes():
    return st.tuples(st.sampled_from([0, 500, 20_000, 300_000]), st.sampled_from([2_000, 100_000, 10_000_000]))


def open_interest_function(base, part, _, shape):
    lower, width = shape
    return {"type": "open_interest", "base": str(base * part), "lower": str(lower), "upper": str(lower + width)}


def linear_shapes():
    """The size at which the rate has doubled, if it grows, and a minimum that some positions are below."""
    doubled = st.sampled_from([None, 1_000, 50_000, 1_000_000])
    return st.tuples(doubled, st.sampled_from(["0", "0.5", "20"]), st.sampled_from(["notional", "quantity"]))


def linear_function(base, part, _, shape):
    doubled, minimum, unit = shape
    slope = Decimal(0) if doubled is None else base / doubled
    figures = {"base": base, "slope": slope, "minimum": Decimal(minimum)}
    return {"type": "linear", "unit": unit} | {name: str(figure * part) for name, figure in figures.items()}


SHAPES = {"sqrt": sqrt_shapes, "linear": linear_shapes, "tiers": tier_shapes, "open_interest": open_interest_shapes}
FUNCTIONS = {
    "sqrt": sqrt_function,
    "linear": linear_function,
    "tiers": tier_function,
    "open_interest": open_interest_function,
}


def multipliers(lower, upper, *pairs):
    """A lower and an upper multiplier, or none of both."""
    pairs = st.sampled_from([(None, None), (None, None), *pairs])
    return pairs.map(lambda pair: dict(zip((lower, upper), pair, strict=True)))


def merged(*parts):
    return st.tuples(*parts).map(lambda found: {name: x for part in found for name, x in part.items()})


impacts = multipliers(
    "minImpactMultiplier", "maxImpactMultiplier", ("0.99", "1.01"), ("0.998", "1.003"), ("0.95", None)
)
price_limits = multipliers("minMultiplier", "maxMultiplier", ("0.9", "1.1"), ("0.995", "1.004"), (None, "1.001"))
price_filters = merged(
    impacts,
    price_limits,
    multipliers("minMultiplier", "maxMultiplier", ("0.97", "1.02"), ("0.998", "1.003"), ("0.9995", None)).map(
        lambda band: {"meanMarkPriceBand": band if any(band.values()) else None}
    ),
    st.sampled_from([None, None, "0.05", "0.004", "0.0007"]).map(
        lambda tolerance: {"meanPremiumBand": tolerance and {"tolerancePct": tolerance}}
    ),
    multipliers(
        "minPriceUpdateMultiplier", "maxPriceUpdateMultiplier", ("0.9", "1.1"), ("0.98", "1.01"), ("0.999", None)
    ),
)


@st.composite
def market_rows(draw, base):
    """A market of any price level; ``price`` is where its first mark will be."""
    tick, step, price = draw(
        st.sampled_from(
            [
                ("0.1", "0.00001", 97000),
                ("0.01", "0.001", 3500),
                ("0.05", "0.25", 140),
                ("0.01", "0.01", 100),
                ("0.00001", "1", Decimal("0.16")),
            ]
        )
    )
    initial, maintenance = draw(margin_functions())
    minimum = Decimal(step) * draw(st.sampled_from([1, 1, 7, 50]))
    funding = {}
    if draw(st.booleans()):
        funding["fundingInterval"] = draw(st.sampled_from([60_000, 600_000, 3_600_000]))
        bounds = draw(st.sampled_from([None, ("-100", "100"), ("-1", "0.5"), ("0", "1.5")]))
        if bounds is not None:
            funding["fundingRateLowerBound"], funding["fundingRateUpperBound"] = bounds
    return {
        "symbol": f"{base}_PERP",
        "baseSymbol": base,
        "marketType": "PERP",
        "filters": {
            "price": {"tickSize": tick, "maxPrice": str(price * 10), **draw(price_filters)},
            "quantity": {"stepSize": step, "minQuantity": str(minimum)},
        },
        "imfFunction": initial,
        "mmfFunction": maintenance,
        "price": Decimal(price),
        **funding,
    }


@st.composite
def contracts(draw, row):
    """The same market settled in GEM or TOK, inverse, or as it is; a lot is worth about as much."""
    kind = draw(st.sampled_from(["inverse", "inverse", "other", "linear"]))
    if kind == "inverse":  # not worth too much at one tick
        filters = row["filters"] | {"price": row["filters"]["price"] | {"tickSize": str(row["price"] / 1000)}}
        return row | {"marketType": "IPERP", "quoteSymbol": "USD", "multiplier": str(row["price"]), "filters": filters}
    return row | {"quoteSymbol": draw(st.sampled_from(OTHERS)), "multiplier": "0.02"} if kind == "other" else row


def settle_of(row):
    """The asset that a drawn market settles in."""
    return row["baseSymbol"] if row["marketType"] == "IPERP" else row.get("quoteSymbol", SETTLE)


@st.composite
def spot_rows(draw, asset, price):
    """A spot market of an asset near a price: a lot is worth one to a thousand settle units, or is one quantum."""
    step = Decimal(asset["quantum"])
    while step * Decimal(price) < draw(st.sampled_from([1, 1, 100])):
        step *= 10
    tick = Decimal(1).scaleb(Decimal(price).adjusted() - draw(st.integers(3, 4)))
    return {
        "symbol": f"{asset['symbol']}_{SETTLE}",
        "baseSymbol": asset["symbol"],
        "quoteSymbol": SETTLE,
        "marketType": "SPOT",
        "filters": {
            "price": {"tickSize": f"{tick:f}", **draw(impacts), **draw(price_limits)},
            "quantity": {"stepSize": f"{step:f}", "minQuantity": f"{step:f}"},
        },
        "price": Decimal(price),
    }


@st.composite
def haircuts(draw):
    weight = str(draw(decimals(80, 100, 2)))
    if draw(st.booleans()):
        return {"weight": weight, "kind": {"type": "identity"}}
    penalty = str(draw(decimals(1, 50, 4)))
    return {"weight": weight, "kind": {"type": "inverseSqrt", "base": "1.0", "positiveCurvePenalty": penalty}}


@st.composite
def asset_rows(draw, symbol):
    settle = symbol == SETTLE
    row = {
        "symbol": symbol,
        "haircutFunction": {"weight": "1", "kind": {"type": "identity"}} if settle else draw(haircuts()),
        "quantum": draw(
            st.sampled_from(["0.000001", "0.01", "0.0001"] if settle else ["0.00000001", "0.000001", "0.001"])
        ),
    }
    if draw(st.booleans()):
        row["imfFunction"], maintenance = draw(margin_functions(50, 200, ("sqrt", "sqrt", "linear", "tiers")))
        if row["imfFunction"]["type"] != "sqrt" or draw(st.booleans()):
            row["mmfFunction"] = maintenance
    return row


@st.composite
def pool_rows(draw, asset, price):
    """A pool of any size and utilisation; some are full, closed or at their limit."""
    unit, lent = Decimal(asset["quantum"]), draw(st.sampled_from([0, 1_000, 20_000, 20_000, 10_000_000]))
    used = draw(st.sampled_from(["0", "0.3", "0.85", "0.92", "0.9999", "1", "1.05", "5", "5", "5"]))
    quantities = [Fraction(lent) / Fraction(price), Fraction(lent) * Fraction(used) / Fraction(price)]
    row = {
        "symbol": asset["symbol"],
        "lentQuantity": str(round(quantities[0] / Fraction(unit)) * unit),
        "borrowedQuantity": str(round(quantities[1] / Fraction(unit)) * unit),
        "state": draw(st.sampled_from(["Open", "Open", "Open", "Open", "Closed", "RepayOnly"])),
        "fee": draw(st.sampled_from(["0", "0.001", "0.1"])),
        "optimalUtilization": draw(st.sampled_from(["0.9", "0.7", "0.5"])),
        "maxUtilization": draw(st.sampled_from(["1", "1", "0.95"])),
        "throttleUtilizationThreshold": draw(st.sampled_from(["1", "0.92", "0.6"])),
        "throttleUpdateFraction": draw(st.sampled_from(["0", "0.1", "1"])),
    }
    if draw(st.integers(0, 3)) == 0:
        row["openBorrowLendLimit"] = draw(st.sampled_from(["0", "100", "10000"]))
    optional = [name for name in row if name not in ("symbol", "lentQuantity", "borrowedQuantity")]
    missing = draw(st.lists(st.sampled_from(optional), max_size=2))
    return {name: figure for name, figure in row.items() if name not in missing}


STAGES = (
    *[["book", "backstop", "adl"]] * 6,
    ["book"],
    ["book", "adl"],
    ["book", "adl", "backstop"],
    ["backstop"],
    ["backstop", "book", "adl"],
    ["backstop", "adl", "book"],
    ["adl", "book"],
    ["adl", "backstop"],
)
ADL_SWITCHES = [{}, {}, {}, {"adl_when": "fund_below"}] + [
    {"adl_when": "fund_below", "adl_fund_on": on, "adl_fund_off": off}
    for on, off in ((1, "1.5"), (30, 60), (400, 400), (500, 2_000_000))
]

POLICIES = st.fixed_dictionaries(
    {
        "acmf_divisor": st.sampled_from([2, 2, 2, "2.5", "7/3", 1]),
        "acmf_offset": st.sampled_from(["0.06", "0.06", "0.06", "0.3", "0.01", 0]),
        "haircut_size_unit": st.sampled_from(["notional", "quantity"]),
        "slice_fraction": st.sampled_from(["0.1", "0.25", "1/3", "0.6", 1]),
        "slices_per_tick": st.integers(1, 3),
        "min_slice_notional": st.sampled_from([0, 10, 1000, "2500.5"]),
        "liquidation_fee": st.sampled_from(["0.01", "0.01", "0.03", "0.07", "1/300", 0]),
        "backstop_fund_share": st.sampled_from(["1/3", "0.25", 0, 1]),
        "backstop_below_zero": st.sampled_from(["mark", "mark", "zero_price"]),
        "fund": st.sampled_from([0, 0, 25, 400, 1_000_000]),
        "shortfall": st.sampled_from(["non_recourse", "unsettled", "equity", "equity", "open_interest"]),
        "adl_policy": st.sampled_from([*reference.SCORES, *reference.WEIGHTS]),
        "adl_price": st.sampled_from([0, 0, "0.5", "1/3", 1, 1]),
        "adl_counterparties": st.sampled_from(["profitable", "opposing", "opposing"]),
        "adl_cap": st.sampled_from([1, 1, 1, "0.5", "0.3", "0.01"]),
        "zero_price_band": st.sampled_from([1, 1, "0.5", "0.02", 0]),
        "counterparty_mmr": st.sampled_from([1, 1, 1, "0.8", "0.3"]),
        "realize_interval": st.sampled_from([None, None, 1, 10, 60]),
        "borrow_rate_base": st.sampled_from([0, "0.1"]),
        "borrow_rate_slope": st.sampled_from(["0.06", "0.06", "2"]),
        "borrow_rate_jump": st.sampled_from([1, "1/3", 60]),
        "slice_probability": st.sampled_from([1, 1, 1, "0.5", "1/3", "0.9"]),
        "slice_cooldown": st.sampled_from([None, None, None, 1, 30]),
        "target_mmr": st.sampled_from([1, 1, 1, "0.9", "0.5", "2/3"]),
        "depth_share": st.sampled_from([1, 1, "0.5", "1/3", "0.01"]),
        "slippage_limit": st.sampled_from([None, None, 1, 20, "150.5"]),
        "market_cap": st.sampled_from([None, None, None, 300, 4_000, "25000.5"]),
        "account_cap": st.sampled_from([None, None, None, 100, 3_000, "12000.25"]),
        "account_cap_interval": st.sampled_from([60, 60, 1, 7]),
        "account_order": st.sampled_from(["pro_rata", "mmr", "pro_rata", "mmr", "random"]),
        "position_order": st.sampled_from(["relief", "relief", "largest", "pro_rata"]),
        "harmful_slice": st.sampled_from(["waive", "waive", "send", "backstop"]),
        "waived_fee_share": st.sampled_from(["0.5", "0.5", 1, "1/3", 0]),
        "conversion_slippage": st.sampled_from(["0.01", "0.01", "0.0005", "0.1"]),
        "conversion_limit": st.sampled_from([None, None, 20, "700.5"]),
        "mark_index_threshold": st.sampled_from(["0.05", "0.05", "0.001"]),
        "stale_after": st.sampled_from([60, 60, 60, 5]),
        "refill_half_life": st.sampled_from([None, None, 3, "0.5", 600]),
        "liquidation_interval": st.none(),  # the clock is tested in other scenes
        "stages": st.sampled_from(STAGES),
    }
)
policies = merged(POLICIES, st.sampled_from(ADL_SWITCHES))

limits = st.one_of(st.none(), st.sampled_from([0, 50, 400, "2000.5", 20_000, 500_000]))


@st.composite
def provider_rows(draw, account, symbols, assets):
    """With limits, some of them small, and perhaps for some markets or assets only."""
    row = {"account": account}
    for name in ("capacity_per_min", "capacity_per_hour", "max_notional"):
        limit = draw(limits)
        if limit is not None:
            row[name] = limit
    if draw(st.integers(0, 3)) == 0:
        row["markets"] = draw(st.lists(st.sampled_from(symbols), min_size=1, unique=True))
    if draw(st.integers(0, 3)) == 0:
        row["assets"] = draw(st.lists(st.sampled_from(assets), unique=True))
    return row


# ---- Ticks


@st.composite
def book_sides(draw, market, mark, bid):
    """Levels from a tick off the mark outwards: no level, thin ones, deep ones, some beyond any band."""
    tick, step = Decimal(market["filters"]["price"]["tickSize"]), Decimal(market["filters"]["quantity"]["stepSize"])
    depth = draw(st.sampled_from([1_000, 200_000, 100, 5_000, 30_000, 200_000, None]))  # notional of a level
    if depth is None:
        return []
    sign = -1 if bid else 1
    away = int(Decimal(str(mark)) // tick) + (0 if bid else 1)
    levels = []
    for distance in draw(st.sampled_from([(0,), (0.03,), (0, 0.0004), (0, 0.002, 0.03), (0.001, 0.004, 0.03, 0.06)])):
        away += sign * max(int(mark / float(tick) * distance), 1)
        lots = max(int(Decimal(depth) / (Decimal(str(mark)) * step)) * draw(st.integers(1, 40)) // 20, 1)
        levels.append((float(away * tick), float(lots * step)))
    return levels


MOVES = st.one_of(st.just(Decimal(1)), decimals(9970, 10030, 4), decimals(920, 1080, 3))


@st.composite
def tick_inputs(draw, source, time, before=None):
    """The first tick is near the markets' prices, a later one up to 8 % from the one before."""
    marks, indexes, books, path = {}, {}, {}, {}
    for market in (m for m in source["markets"] if m["marketType"] != "SPOT"):
        symbol, tick = market["symbol"], Decimal(market["filters"]["price"]["tickSize"])
        start = market["price"] if before is None else Decimal(str(before.path[symbol]))
        move = Decimal(1) if before is None else draw(MOVES)
        path[symbol] = marks[symbol] = rounded(start * move + draw(st.integers(0, 99)) * tick / 10, tick / 10)
        if draw(st.booleans()):
            indexes[symbol] = rounded(Decimal(str(marks[symbol])) * draw(decimals(998, 1002, 3)), tick / 10)
        books[symbol] = {
            "bids": draw(book_sides(market, marks[symbol], True)),
            "asks": draw(book_sides(market, marks[symbol], False)),
        }
    asset_prices = {}
    for symbol in (row["symbol"] for row in source["collateral"]):
        if symbol in OTHERS:
            asset_prices[symbol] = (
                float(draw(decimals(1000, 9999, 2))) if before is None else before.asset_prices[symbol]
            )
        elif symbol != SETTLE and draw(st.integers(0, 3)) == 0:
            mark = Decimal(str(marks[f"{symbol}_PERP"]))
            asset_prices[symbol] = float(mark * draw(decimals(98, 102, 2)))
    for market in (m for m in source["markets"] if m["marketType"] == "SPOT"):
        asset = market["baseSymbol"]
        price = asset_prices[asset] if asset in OTHERS else path[f"{asset}_PERP"]
        books[market["symbol"]] = {
            "bids": draw(book_sides(market, price, True)),
            "asks": draw(book_sides(market, price, False)),
        }
    held, rates = {}, {}
    for market in (m for m in source["markets"] if m["marketType"] != "SPOT"):
        symbol, step = market["symbol"], Decimal(market["filters"]["quantity"]["stepSize"])
        if draw(st.integers(0, 3)) == 0:
            notional = draw(st.sampled_from([0, 10_000, 400_000, 20_000_000]))
            held[symbol] = float(int(notional / (Decimal(str(marks[symbol])) * step)) * step)
        if draw(st.integers(0, 3)) == 0:
            rates[symbol] = draw(st.sampled_from([0.0, 0.0000125, -0.0003, 0.005, -0.004]))
    return TickInput(time, marks, indexes, asset_prices, books, held, rates, path=path)


@st.composite
def live_ticks(draw, source, inputs, before=None):
    """The tick as a feed might give it: with last prices and book times, and with prints that are wrong or missing."""
    marks, indexes, books = dict(inputs.marks), dict(inputs.indexes), dict(inputs.books)
    last_prices, book_times = {}, {}
    for market in source["markets"]:
        symbol, tick = market["symbol"], Decimal(market["filters"]["price"]["tickSize"])
        what = draw(st.sampled_from(["as it is"] * 8 + ["again"] * 4 + ["crossed", "none"]))
        if what == "crossed":
            books[symbol] = {"bids": books[symbol]["asks"][::-1], "asks": books[symbol]["bids"][::-1]}
        elif what == "none":
            books[symbol] = {}
        elif what == "again" and before is not None:
            books[symbol] = before.books[symbol]
        if draw(st.integers(0, 2)) == 0:
            book_times[symbol] = inputs.time - draw(st.sampled_from([0, 1, 5, 5, 5, 60, 61])) * 10**9
        if market["marketType"] == "SPOT":
            continue
        price = Decimal(str(inputs.path[symbol]))
        if draw(st.integers(0, 2)) == 0:
            last_prices[symbol] = rounded(price * draw(decimals(990, 1010, 3)), tick)
        if draw(st.integers(0, 7)) == 0:
            indexes[symbol] = rounded(price * draw(st.sampled_from([Decimal("0.94"), Decimal("1.07")])), tick)
        if draw(st.integers(0, 4)) == 0:
            known = symbol in indexes or symbol in last_prices
            if before is not None or known:
                del marks[symbol]
    return replace(inputs, marks=marks, indexes=indexes, books=books, last_prices=last_prices, book_times=book_times)


# ---- Accounts


@st.composite
def position_rows(draw, account, market, mark, winning):
    """A position at a loss, or at a profit up to 12 % of its entry; perhaps some of it was realised before."""
    tick, step = Decimal(market["filters"]["price"]["tickSize"]), Decimal(market["filters"]["quantity"]["stepSize"])
    notional = draw(st.sampled_from([40, 1_000, 5_000, 30_000, 150_000])) * draw(decimals(50, 150, 2))
    lots = max(int(notional / (Decimal(str(mark)) * step)), 1)
    side = draw(st.sampled_from([1, -1]))
    profit = draw(decimals(0, 120, 3)) * (1 if winning else -1)
    entry = rounded(Decimal(str(mark)) * (1 - side * profit), tick)
    row = {"account": account, "market": market["symbol"], "quantity": float(side * lots * step), "entry_price": entry}
    if draw(st.integers(0, 3)) == 0:
        row["settle_price"] = rounded(Decimal(str(mark)) * draw(decimals(95, 105, 2)), tick)
    return row


@st.composite
def order_rows(draw, account, market, mark):
    tick, step = Decimal(market["filters"]["price"]["tickSize"]), Decimal(market["filters"]["quantity"]["stepSize"])
    lots = max(int(draw(st.sampled_from([500, 20_000])) / (Decimal(str(mark)) * step)), 1)
    return {
        "account": account,
        "market": market["symbol"],
        "side": draw(st.sampled_from(["bid", "ask"])),
        "price": rounded(Decimal(str(mark)) * draw(decimals(90, 110, 2)), tick),
        "quantity": float(lots * step),
        "reduce_only": draw(st.integers(0, 3)) == 0,
    }


@st.composite
def balance_rows(draw, account, asset, price, kind):
    """Collateral, free or lent; or a borrow, perhaps beside a lend of the same asset."""
    worth = draw(st.sampled_from([30, 200, 1_000] if kind == "mixed" else [30, 1_000, 8_000])) * draw(
        decimals(50, 150, 2)
    )
    quantity, lent = draw(st.sampled_from(PARTS[kind]))
    unit = Decimal(asset["quantum"])
    amounts = [rounded(Fraction(part * worth) / Fraction(str(price)), unit) for part in (quantity, lent)]
    return {"account": account, "asset": asset["symbol"], "quantity": amounts[0], "lent": amounts[1]}


@st.composite
def account_tables(draw, scene, account, kind):
    """Add an account of a kind to the scene; gives what its settle balance will be chosen for."""
    first = scene.ticks[0]
    markets = [m for m in scene.source["markets"] if m["marketType"] != "SPOT"]
    assets = [a for a in scene.source["collateral"] if a["symbol"] != SETTLE]
    winner = kind == "winner"
    distress = draw(st.sampled_from(["safe", "tight"])) if kind in SAFE else draw(st.sampled_from(OFTEN))
    own = Scene(scene.source)
    if kind not in ("borrower", "lender", "debtor") or draw(st.booleans()):
        held = draw(st.lists(st.sampled_from(range(len(markets))), min_size=1, max_size=3, unique=True))
        for market in (markets[m] for m in held):
            own.positions.append(draw(position_rows(account, market, first.path[market["symbol"]], winner)))
    if kind in PARTS:
        prices, venue = reference.Prices(first.path, first.indexes, first.asset_prices), reference.Venue(scene.source)
        for asset in (
            draw(st.lists(st.sampled_from(assets), max_size=3, unique_by=lambda a: a["symbol"])) if assets else ()
        ):
            price = prices.of_asset(venue, asset["symbol"])
            own.balances.append(draw(balance_rows(account, asset, price, kind)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        market = draw(st.sampled_from(markets))
        own.orders.append(draw(order_rows(account, market, first.path[market["symbol"]])))
    if draw(st.integers(0, 3)) == 0:
        limit, most = draw(st.sampled_from([None, 1.0, 3.0, 12.5])), draw(st.sampled_from([5000, 5000, -300_000]))
        unsettled = float(draw(decimals(-abs(most), max(most, -1), 2)))
        own.settings.append({"account": account, "leverage_limit": limit, "unsettled": unsettled})
    lent = draw(st.sampled_from([0.0, 0.0, 0.0, 0.0, 250.25, 250.25, 4000.75]))
    own.balances.append({"account": account, "asset": SETTLE, "quantity": 0.0, "lent": lent})
    for name in ("positions", "balances", "orders", "settings"):
        getattr(scene, name).extend(getattr(own, name))
    return own, account, Fraction(draw(st.integers(*DISTRESS[distress])), 100)


def _settle(own: Scene, prices: reference.Prices, account: Any, target: Fraction) -> None:
    """Choose the settle balance that brings net equity to ``target`` maintenance margins, a borrow's own included."""
    row = own.balances[-1]
    quantum = next(Decimal(a["quantum"]) for a in own.source["collateral"] if a["symbol"] == SETTLE)
    for _ in range(2):
        venue, state = Scene(
            own.source | {"backstop": []}, own.positions, own.balances, (), own.settings
        ).load_reference()
        look = reference.margin(venue, state.accounts[account], prices)
        missing = target * look.maintenance_margin - look.net_equity
        row["quantity"] = rounded(Fraction(str(row["quantity"])) + missing, quantum)


def draw_owners(draw, scene: Scene, ids) -> None:
    """Give some accounts of a scene to an owner: to another account, or to somebody who is none."""
    if not draw(st.booleans()):
        return
    stranger = "somebody" if isinstance(ids[0], str) else 0
    owned = draw(st.lists(st.sampled_from(ids[1:]), max_size=len(ids) - 1, unique=True))
    for account in owned:
        row = next((row for row in scene.settings if row["account"] == account), None)
        if row is None:
            row = {"account": account, "leverage_limit": None, "unsettled": 0.0}
            scene.settings.append(row)
        row["owner"] = draw(st.sampled_from([ids[0], stranger]))


@st.composite
def scenes(draw, ticks=1, most=8, live=False, mixed=False):
    """A whole scene: 4 to ``most`` accounts, up to 3 providers, and ticks a moment to three hours apart.

    ``live``: with spot markets, and ticks as `live_ticks` draws them; ``mixed``: with markets that settle in several
    assets, and inverse ones.
    """
    perpetuals = [draw(market_rows(base)) for base in BASES[: draw(st.sampled_from([1, 2, 2, 3, 4]))]]
    symbols = draw(st.lists(st.sampled_from((*BASES[: len(perpetuals)], *OTHERS)), max_size=3, unique=True))
    if mixed:
        perpetuals = [draw(contracts(row)) for row in perpetuals]
        symbols += [symbol for symbol in {settle_of(row): 1 for row in perpetuals} if symbol not in (*symbols, SETTLE)]
    place = draw(st.integers(0, len(symbols)))
    symbols.insert(place, SETTLE)
    providers, count = draw(st.integers(0, 3)), draw(st.integers(4, most))
    ids = draw(st.permutations(range(1, 1 + providers + count)))
    if draw(st.booleans()):
        ids = [f"user {n}" for n in ids]
    collateral = [draw(asset_rows(symbol)) for symbol in symbols]
    worth = dict.fromkeys(OTHERS, 50) | {market["baseSymbol"]: market["price"] for market in perpetuals} | {SETTLE: 1}
    others = [row for row in collateral if row["symbol"] != SETTLE] if live else []
    spots = [draw(spot_rows(row, worth[row["symbol"]])) for row in others if draw(st.integers(0, 3))]
    source = {
        "settle_asset": SETTLE,
        "markets": draw(st.permutations([*perpetuals, *spots])) if spots else perpetuals,
        "collateral": collateral,
        "borrow_lend": [draw(pool_rows(row, worth[row["symbol"]])) for row in collateral if draw(st.booleans())],
        "policy": draw(policies),
        "backstop": [draw(provider_rows(n, [m["symbol"] for m in perpetuals], symbols)) for n in ids[:providers]],
    }
    time, inputs = START, []
    for _ in range(ticks):
        before = inputs[-1] if inputs else None
        drawn = draw(tick_inputs(source, time, before))
        inputs.append(draw(live_ticks(source, drawn, before)) if live else drawn)
        time += int(Decimal(draw(st.sampled_from(GAPS))) * 10**9)
    scene, targets = Scene(source, ticks=inputs, seed=draw(st.integers(0, 2**31))), []
    for n, account in enumerate(ids):
        if n < providers and draw(st.integers(0, 4)):
            money = draw(st.sampled_from([1e6, 1e6, 30_000.0, 30_000.0, 2_000.0, 300.0]))
            scene.balances.append({"account": account, "asset": SETTLE, "quantity": money, "lent": 0.0})
        else:
            kind = draw(st.sampled_from(KINDS))
            targets.append(draw(account_tables(scene, account, kind)))
    draw_owners(draw, scene, ids)
    venue, state = scene.load_reference()
    prices = (
        reference.guarded(venue, state, *inputs[0].reference_arguments())
        if live
        else inputs[0].prices().at(venue, state)
    )
    for target in targets:
        _settle(target[0], prices, *target[1:])
    return scene
