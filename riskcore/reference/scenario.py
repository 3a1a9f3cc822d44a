"""Scenario margin by the rules of docs/scenario_margin.md, as literally as they are written.

`record` prices a tick in float64 with the functions of `math`; `requirement` computes everything after it in exact
arithmetic, account by account and scenario by scenario, with no sum kept from one step to the next.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from .numbers import number

YEAR = 31_536_000 * 10**9
DAY = 86_400 * 10**9
HOUR = 3600 * 10**9
ZERO, ONE = Fraction(0), Fraction(1)
LINEAR, INVERSE = ("PERP", "DATED"), ("IPERP", "IDATED")
PERPETUAL = ("PERP", "IPERP")


# ---- What is held, and what a tick gives


class Instrument(NamedTuple):
    """A row of the table of instruments; `coin`: an option that is settled in the coin."""

    symbol: str
    kind: str
    underlying: Any
    expiry: int = 0
    strike: Any = None
    right: str = ""
    coin: bool = False
    contract: float = 1.0


class Term(NamedTuple):
    """What a tick gives of an expiry of an underlying; `average`: that of the settlement window so far."""

    forward: float
    rate: float = 0.0
    average: float | None = None
    forward_confidence: float = 1.0
    rate_confidence: float = 1.0
    volatility_confidence: float = 1.0


@dataclass(frozen=True)
class Tick:
    """What a tick gives; terms by underlying and expiry, volatilities, marks and prices of assets by symbol."""

    time: int
    index: dict
    mark: dict = field(default_factory=dict)
    terms: dict = field(default_factory=dict)
    volatility: dict = field(default_factory=dict)
    confidence: dict = field(default_factory=dict)
    perpetual_confidence: dict = field(default_factory=dict)
    own_confidence: dict = field(default_factory=dict)
    funding: dict = field(default_factory=dict)
    stable: float = 1.0


@dataclass
class Record:
    """The table of record: what `requirement` takes as given.

    By symbol: value `V`, change `T` by scenario, shocked value (options), delta, the changes at the moves of a basis
    contingency, the loss of a theta charge, and the price that an order's limit is compared with, by scenario. By term:
    the discounts `(d+, d-)`, the factor of the basis contingency. By figures of a roll charge and expiry: its rate.
    """

    value: dict
    change: dict
    initial_change: dict
    delta: dict
    basis: dict
    theta: dict
    discount: dict
    basis_factor: dict
    roll_rate: dict


# ---- The model


class Scenario(NamedTuple):
    """A scenario, its numbers exact; `moves`, `shifts` and `changes` by underlying, "others" being the rest.

    `edge` is the edge of the range on the side of a tail, 0 inside the range.
    """

    moves: dict
    shifts: dict
    vol: str
    changes: dict
    weight: Fraction
    time: int
    dampener: Fraction
    edge: Fraction
    coin_tail: bool
    probability: Fraction | None
    stress: bool


def scenarios(model, own=None) -> list[Scenario]:
    """The scenarios of a model in the order of their ids: those listed, the grid, the tails; or a list of its `own`."""
    if own is not None:
        return [scenario for row in own for scenario in expanded(model, row, "kappa" in row)]
    grid = model.get("grid")
    inner = list(model.get("scenarios", []))
    for move in grid_moves(grid) if grid else []:
        inner += [{"move": move, "vol": vol} for vol in grid.get("vols", ["same"])]
    found = [scenario for row in inner for scenario in expanded(model, row, "kappa" in row)]
    return found + [scenario for row in model.get("tails", []) for scenario in expanded(model, row, True)]


def grid_moves(grid) -> list[Fraction]:
    """The moves of a grid, from low to high."""
    if "points" in grid:
        low, high, last = number(grid["low"]), number(grid["high"]), int(grid["points"]) - 1
        return [low + (high - low) * k / last for k in range(last + 1)]
    size, steps = number(grid["range"]), int(grid["steps"])
    return [size * j / steps for j in range(-steps, steps + 1)]


def expanded(model, row, is_tail: bool) -> list[Scenario]:
    """The scenarios of a row: "larger" is one of points and one of percent; a tail keeps its move everywhere."""
    vols, move = [row.get("vol", "same")], row.get("move", "0")
    if vols[0].startswith("larger_"):
        vols = [vols[0].replace("larger", "points"), vols[0].replace("larger", "percent")]
    edge, size = ZERO, model.get("range", (model.get("grid") or {}).get("range"))
    weight = number(row.get("weight", 1))
    if isinstance(move, dict):
        moves = {u: number(x) for u, x in move.items()}
    else:
        factors = {"others": 1} | ({} if is_tail else model.get("moves", {}))
        moves = {u: number(move) * number(factor) for u, factor in factors.items()}
        if is_tail and size is not None and abs(number(move)) > number(size):
            edge = number(size) if number(move) > 0 else -number(size)
        if "kappa" in row:
            weight = number(row["kappa"]) * number(size) / abs(number(move))
    dampener = (abs(number(move)) / abs(edge) - 1) * number(model.get("dampener", 0)) if edge else ZERO
    shifts = {u: number(row.get("ranges", 0)) * number(x) for u, x in model.get("scan_range", {}).items()}
    change = row.get("vol_change", "0")
    return [
        Scenario(
            moves=moves,
            shifts=shifts,
            vol=vol,
            changes={u: number(x) for u, x in (change if isinstance(change, dict) else {"others": change}).items()},
            weight=weight,
            time=int(number(row.get("hours", 0)) * HOUR),
            dampener=number(row["dampener"]) if "dampener" in row else dampener,
            edge=edge,
            coin_tail=bool(row.get("coin_tail")) and edge != 0,
            probability=number(row["probability"]) if "probability" in row else None,
            stress=row.get("set") == "stress",
        )
        for vol in vols
    ]


def of_underlying(figures: dict, underlying) -> Fraction:
    """A figure of an underlying: its own, or that of the others."""
    return figures[underlying] if underlying in figures else figures.get("others", ZERO)


def in_coin(model) -> bool:
    """Whether the requirement is an amount of a coin."""
    return model.get("numeraire", "settle") != "settle"


def shocked_by(model, asset: str) -> bool:
    """Whether a balance of an asset moves in the scenarios."""
    listed = model.get("collateral_in_scenarios", False)
    return listed if isinstance(listed, bool) else asset in listed


def underlying_of(model, instrument: Instrument):
    """Underlying of an instrument; of a balance of an asset the one that the model says, or its own."""
    return model.get("collateral_underlying", {}).get(instrument.symbol, instrument.underlying)


def charges(model, kind: str, *underlying) -> list[dict]:
    """The charges of one kind, or those of them that concern an underlying."""
    rows = [row for row in model.get("contingencies", []) if row["kind"] == kind]
    return [row for row in rows if not underlying or concerns(row, *underlying)]


# ---- Prices and volatilities


def normal(z: float) -> float:
    """The distribution function of the standard normal distribution."""
    return math.erfc(-z / math.sqrt(2)) / 2


def black76(right: str, forward: float, strike: float, sigma: float, tau: float, discount: float = 1.0) -> float:
    """Price of a European option on a forward: the out-of-the-money one by the formula, the other by parity."""
    spread = sigma * math.sqrt(tau)
    otm = 0.0
    if spread > 0 and forward > 0:
        d1 = math.log(forward / strike) / spread + spread / 2
        d2 = d1 - spread
        call_side = forward * normal(d1) - strike * normal(d2)
        put_side = strike * normal(-d2) - forward * normal(-d1)
        otm = max(call_side if strike >= forward else put_side, 0.0)
    if right == "C":
        return discount * (otm if strike >= forward else otm + (forward - strike))
    return discount * (otm if strike < forward else otm + (strike - forward))


def delta76(right: str, forward: float, strike: float, sigma: float, tau: float, discount: float = 1.0) -> float:
    """Change of the price per 1 of forward."""
    spread = sigma * math.sqrt(tau)
    if spread > 0 and forward > 0:
        share = normal(math.log(forward / strike) / spread + spread / 2)
    else:
        share = 1.0 if forward > strike else 0.5 if forward == strike else 0.0
    return discount * (share if right == "C" else share - 1.0)


def table_at(days: float, points) -> float:
    """A figure by days to expiry: linear between the days given, flat outside."""
    points = [(float(number(x)), float(number(y))) for x, y in points]
    if days <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if days <= x1:
            return y0 + (y1 - y0) * (days - x0) / (x1 - x0)
    return points[-1][1]


def shocked_volatility(model, vol: str, sigma: float, tau: float, log_strike: float, change: float = 0.0) -> float:
    """Volatility of an option in a scenario."""
    if vol == "same":
        return sigma
    if vol in ("linear", "abs"):
        return sigma * skew_multiplier(model["skew"], log_strike if vol == "linear" else abs(log_strike), tau, vol)
    if vol in ("relative", "absolute"):
        return max(0.0, sigma * (1 + change) if vol == "relative" else sigma + change)
    shock, days = model["vol_shock"], 365 * tau
    if vol.startswith("points"):
        points = table_at(days, shock["points"])
        return max(0.0, sigma + (points if vol == "points_up" else -points))
    if vol.startswith("percent"):
        share = table_at(days, shock["percent"])
        return max(0.0, sigma * (1 + (share if vol == "percent_up" else -share)))
    floor = float(number(shock.get("dte_floor", 1)))
    power = float(number(shock.get("p_short", "0.3") if days <= 30 else shock.get("p_long", "0.13")))
    times = (30 / max(days, floor)) ** power
    if vol == "up":
        return max(float(number(shock.get("min_vol", 0))), sigma * (1 + float(number(shock["up"])) * times))
    down = sigma * (1 - float(number(shock["down"])) * times)
    return max(0.0, down) if shock.get("floor_down", True) else down


def skew_multiplier(skew, log_strike: float, tau: float, vol: str) -> float:
    """What the volatility is multiplied by in a skew scenario."""
    figures = {
        name: float(number(value))
        for name, value in {**skew, **skew.get(vol, {})}.items()
        if name not in ("linear", "abs")
    }
    root = math.sqrt(tau)
    cap = figures["cbase"] * root + figures["cap"]
    width = max(figures["min_k"], root * figures["width"] * (figures["vol_static"] + root * figures["vol_scale"]))
    slope = log_strike * cap / width
    return max(0.0, 1 + (min(cap, slope) if log_strike >= 0 else max(-cap, slope)))


def years(tick: Tick, expiry: int) -> Fraction:
    """Time to expiry in years of 365 days."""
    return Fraction(max(0, expiry - tick.time), YEAR)


def parts_of_forward(model, tick: Tick, underlying: str, expiry: int) -> tuple[float, float]:
    """What is already fixed of the price that an expiry settles at, and what still moves with the market."""
    term = tick.terms[underlying, expiry]
    forward = float(tick.index[underlying] if model.get("forward_source") == "spot" else term.forward)
    window, left = int(number(model.get("window_seconds", 1800)) * 10**9), max(0, expiry - tick.time)
    if model.get("window", "average") != "average" or left >= window:
        return 0.0, forward
    average = forward if term.average is None or math.isnan(term.average) else float(term.average)
    return average * ((window - left) / window), forward * (left / window)


def rate_of(model, tick: Tick, underlying: str, expiry: int) -> float:
    """Interest rate of an expiry as the model takes it."""
    rate = float(tick.terms[underlying, expiry].rate)
    return max(0.0, rate) if model.get("rates", "given") == "not_negative" else rate


def discount_factor(model, rate: float, tau: float) -> float:
    """Discount factor of a payment at an expiry."""
    return 1.0 if model.get("rates", "given") == "zero" else math.exp(-rate * tau)


def discounts(model, rate: float, tau: float) -> tuple[float, float]:
    """What the shocked value of an expiry is multiplied by: `d+` if it is an asset, `d-` if it is a debt."""
    figures = {name: float(number(value)) for name, value in model["discount"].items()}
    above = figures["base_long"] * math.exp(-tau * (rate * figures["rate_mult_long"] + figures["rate_add_long"]))
    if "base_short" not in figures:
        return above, 1.0
    below = figures["base_short"] / math.exp(-tau * (rate * figures["rate_mult_short"] + figures["rate_add_short"]))
    return above, min(1 / discount_factor(model, rate, tau), below)


class Shock(NamedTuple):
    """What changes in a scenario for an option: price, volatility, time."""

    move: Fraction = ZERO
    shift: Fraction = ZERO
    vol: str = "same"
    change: Fraction = ZERO
    later: int = 0


def option_value(model, tick: Tick, option: Instrument, shock: Shock) -> float:
    """Value of one unit of an option after a shock."""
    fixed, variable = parts_of_forward(model, tick, option.underlying, option.expiry)
    forward = max(0.0, fixed + variable * float(1 + shock.move) + float(shock.shift))
    tau = float(years(tick, option.expiry))
    log_strike = math.log(option.strike / (fixed + variable))
    sigma = float(tick.volatility[option.symbol])
    sigma = shocked_volatility(model, shock.vol, sigma, tau, log_strike, float(shock.change))
    left = float(Fraction(max(0, option.expiry - tick.time - shock.later), YEAR))
    discount = discount_factor(model, rate_of(model, tick, option.underlying, option.expiry), tau)
    value = black76(option.right, forward, float(option.strike), sigma, left, discount)
    return value / forward if in_coin(model) and forward else value


def linear_change(model, tick: Tick, instrument: Instrument, scenario: Scenario) -> Fraction:
    """Change of the value of one unit of an instrument that is no option, in a scenario."""
    underlying = underlying_of(model, instrument)
    if instrument.kind == "SPOT" and (underlying is None or not shocked_by(model, instrument.symbol)):
        return ZERO
    base = number(tick.index[underlying] if instrument.kind == "SPOT" else tick.mark[instrument.symbol])
    base = base_of(model, tick, instrument) if instrument.kind in INVERSE else base
    move = of_underlying(scenario.moves, underlying) + of_underlying(scenario.shifts, underlying) / base
    return linear_move(model, tick, instrument, move)


def base_of(model, tick: Tick, instrument: Instrument) -> Fraction:
    """The price at which quote units of an inverse contract are counted in base units."""
    at_index = model.get("inverse_base", "mark") == "index"
    return number(tick.index[instrument.underlying] if at_index else tick.mark[instrument.symbol])


def linear_move(model, tick: Tick, instrument: Instrument, move: Fraction) -> Fraction:
    """Change of the value of one unit of an instrument that is no option, at a move of its underlying."""
    price, index = number(tick.mark[instrument.symbol]), number(tick.index.get(underlying_of(model, instrument), 0))
    if instrument.kind not in INVERSE:
        return price * move
    base = base_of(model, tick, instrument)
    return move / (1 + move) / base if in_coin(model) else index * move / base


def value_of(model, tick: Tick, instrument: Instrument):
    """Value of record of one unit: an option's is a float64, the others' are exact."""
    if instrument.kind == "OPTION":
        if model.get("price_source", "model") == "mark":
            return float(tick.mark[instrument.symbol])
        return option_value(model, tick, instrument, Shock())
    price = number(tick.mark[instrument.symbol])
    if instrument.kind not in INVERSE:
        return price
    return -1 / price if in_coin(model) else -number(tick.index[instrument.underlying]) / price


def delta_of(model, tick: Tick, instrument: Instrument):
    """Base units that one unit of an instrument stands for."""
    if instrument.kind in INVERSE:
        return 1 / base_of(model, tick, instrument)
    if instrument.kind != "OPTION":
        of_spot = model.get("forward_source") == "spot" and instrument.kind in LINEAR
        return number(tick.mark[instrument.symbol]) / number(tick.index[instrument.underlying]) if of_spot else ONE
    underlying, expiry = instrument.underlying, instrument.expiry
    tau = float(years(tick, expiry))
    discount = discount_factor(model, rate_of(model, tick, underlying, expiry), tau)
    forward = float(sum(parts_of_forward(model, tick, underlying, expiry)))
    sigma = float(tick.volatility[instrument.symbol])
    delta = delta76(instrument.right, forward, float(instrument.strike), sigma, tau, discount)
    return delta - option_value(model, tick, instrument, Shock()) if in_coin(model) else delta


def option_change(model, tick: Tick, option: Instrument, scenario: Scenario) -> float:
    """Change of the value of one unit of an option in a scenario; a skew scenario leaves the price where it is."""
    u, skewed = option.underlying, scenario.vol in ("linear", "abs")
    shock = Shock(
        move=ZERO if skewed else of_underlying(scenario.moves, u),
        shift=ZERO if skewed else of_underlying(scenario.shifts, u),
        vol=scenario.vol,
        change=of_underlying(scenario.changes, u),
        later=scenario.time,
    )
    change = option_value(model, tick, option, shock) - value_of(model, tick, option)
    if model.get("window", "average") == "scale":
        window = int(number(model.get("window_seconds", 1800)) * 10**9)
        change *= min(1.0, max(0, option.expiry - tick.time) / window)
    return change


def record(model, instruments: list[Instrument], tick: Tick) -> Record:
    """The table of record of a tick: options in float64, the others exact."""
    found = Record({}, {}, {}, {}, {}, {}, {}, {}, {})
    rows, wide = scenarios(model), scenarios(model, model.get("im_scenarios") or [])
    for each in instruments:
        name, option = each.symbol, each.kind == "OPTION"
        found.value[name] = value = value_of(model, tick, each)
        found.delta[name] = delta_of(model, tick, each)
        change = option_change if option else linear_change
        found.change[name] = [change(model, tick, each, scenario) for scenario in rows]
        found.initial_change[name] = [change(model, tick, each, scenario) for scenario in wide]
        if not option:
            continue
        value = option_value(model, tick, each, Shock())
        for charge in charges(model, "basis", each.underlying):
            factor = number(model.get("moves", {}).get(each.underlying, 1))
            moves = (number(charge["up"]) * factor, number(charge["down"]) * factor)
            found.basis[name] = tuple(option_value(model, tick, each, Shock(move)) - value for move in moves)
        for charge in charges(model, "theta"):
            later = int(number(charge["hours"]) * HOUR)
            found.theta[name] = option_value(model, tick, each, Shock(later=later)) - value
    for underlying, expiry in {(each.underlying, each.expiry) for each in instruments if each.expiry}:
        tau = years(tick, expiry)
        if model.get("discount") and (underlying, expiry) in tick.terms:
            found.discount[underlying, expiry] = discounts(model, rate_of(model, tick, underlying, expiry), float(tau))
        for charge in charges(model, "basis", underlying):
            found.basis_factor[underlying, expiry] = number(charge["add"]) + number(charge["mult"]) * tau
        for charge in charges(model, "roll"):
            least, annual = number(charge["rate"]), number(charge.get("annual", 0))
            found.roll_rate[least, annual, expiry] = max(float(least), math.exp(float(annual) * float(tau)) - 1)
    return found


# ---- The requirement


class Group(NamedTuple):
    """A group of underlyings: changes `y` by scenario, basis candidate, worst loss, charges, requirements."""

    underlyings: tuple
    y: list
    basis: Fraction | None
    loss: Fraction
    worst: int
    initial_loss: Fraction
    charge: Fraction
    initial_charge: Fraction
    requirement: Fraction
    initial: Fraction


class Requirement(NamedTuple):
    """Requirement of an account; `group` has the largest requirement, `worst` is its binding scenario."""

    maintenance: Fraction
    initial: Fraction
    worst: int
    group: int
    groups: list


class Account(NamedTuple):
    """What an account holds: exact sizes by symbol, and orders `(symbol, size, limit)`."""

    sizes: dict
    orders: list


def groups_of(model, underlyings: list[str]) -> list[tuple[tuple, Fraction | None]]:
    """The groups of underlyings in order, those in no group last, each with the share of gains that it counts."""
    found: list[tuple[tuple, Fraction | None]] = []
    left, rows = list(underlyings), model.get("groups", [])
    named = [u for row in rows if row["underlyings"] != "all" for u in row["underlyings"]]
    for row in rows:
        members = [u for u in left if (u not in named if row["underlyings"] == "all" else u in row["underlyings"])]
        if row.get("rule") == "separate" or not members:
            continue
        share = number(row["alpha"]) if "alpha" in row else None
        found.append((tuple(members), share))
        left = [u for u in left if u not in members]
    return found + [((u,), None) for u in left]


class Book:
    """The instruments, the tick, the table of record and the positions of one account."""

    def __init__(self, model, instruments, tick: Tick, found: Record, account: Account):
        self.model, self.tick, self.record = model, tick, found
        self.held = [each for each in instruments if account.sizes.get(each.symbol)]
        self.size = account.sizes
        by_symbol = {each.symbol: each for each in instruments}
        self.orders = [(by_symbol[symbol], number(size), number(limit)) for symbol, size, limit in account.orders]

    def of(self, underlying, *kinds) -> list[Instrument]:
        """The instruments held of an underlying, of the kinds given or of any."""
        return [
            each
            for each in self.held
            if underlying_of(self.model, each) == underlying and (not kinds or each.kind in kinds)
        ]

    def index(self, underlying) -> Fraction:
        """What one base unit counts as in charges: its index, or 1 in coin."""
        return ONE if in_coin(self.model) else number(self.tick.index[underlying])

    def base_units(self, instrument: Instrument) -> Fraction:
        """Signed base units of a position in an instrument that is no option."""
        if instrument.kind not in INVERSE:
            return self.size[instrument.symbol]
        return self.size[instrument.symbol] * Fraction(delta_of(self.model, self.tick, instrument))

    def delta(self, instrument: Instrument) -> Fraction:
        """Signed delta of a position."""
        return self.size[instrument.symbol] * Fraction(self.record.delta[instrument.symbol])

    def value(self, instrument: Instrument) -> Fraction:
        """Value of a balance."""
        return self.size[instrument.symbol] * Fraction(self.record.value[instrument.symbol])


def change_of_underlying(book: Book, rows, change, s: int, underlying: str, with_orders: bool) -> Fraction:
    """Steps 1 to 4: change of the value of what is held of an underlying in a scenario, weighted."""
    model, scenario = book.model, rows[s]
    total = ZERO
    for each in book.of(underlying, *LINEAR, *INVERSE, "SPOT"):
        total += book.size[each.symbol] * Fraction(change[each.symbol][s])
    for expiry in sorted({each.expiry for each in book.of(underlying, "OPTION")}):
        before = after = ZERO
        for each in book.of(underlying, "OPTION"):
            if each.expiry == expiry:
                value = Fraction(book.record.value[each.symbol])
                before += book.size[each.symbol] * value
                after += book.size[each.symbol] * (value + Fraction(change[each.symbol][s]))
        if model.get("discount"):
            above, below = book.record.discount[underlying, expiry]
            after *= Fraction(above) if after >= 0 else Fraction(below)
        moved = after - before
        total += -abs(moved) if scenario.vol in ("linear", "abs") else moved
    if with_orders:
        for each, size, limit in book.orders:
            if underlying_of(model, each) == underlying:
                price = Fraction(book.record.value[each.symbol]) + Fraction(change[each.symbol][s])
                total += min(ZERO, size * (price - paid_at(book, each, limit, scenario)))
    if scenario.coin_tail and in_coin(model):
        total *= (1 + of_underlying(scenario.moves, underlying)) / (1 + scenario.edge)
    return total * scenario.weight


def paid_at(book: Book, instrument: Instrument, limit: Fraction, scenario: Scenario) -> Fraction:
    """What one unit costs at a limit; the coin that an inverse contract gains or loses has its shocked price."""
    if instrument.kind == "OPTION":
        return limit * number(book.tick.index[instrument.underlying]) if in_dollars(book, instrument) else limit
    if instrument.kind not in INVERSE:
        return limit
    if in_coin(book.model):
        return -1 / limit
    underlying = underlying_of(book.model, instrument)
    coin = number(book.tick.index[underlying]) * (1 + of_underlying(scenario.moves, underlying))
    coin += of_underlying(scenario.shifts, underlying)
    price = number(book.tick.mark[instrument.symbol])
    return Fraction(book.record.value[instrument.symbol]) - coin * (1 / limit - 1 / price)


def in_dollars(book: Book, option: Instrument) -> bool:
    """Whether an option is priced in the coin and the requirement is not."""
    return option.coin and not in_coin(book.model)


def damped(book: Book, scenario: Scenario, underlying, x: Fraction) -> Fraction:
    """Step 5: the dampener of a tail, an amount of the quote unit."""
    amount = scenario.dampener
    if in_coin(book.model):
        amount /= (1 + scenario.edge) * number(book.tick.index[underlying])
    size = max(ZERO, abs(x) - amount)
    return size if x > 0 else -size


def counted(book: Book, share, underlying, x: Fraction) -> Fraction:
    """Step 6: the part of a gain that counts; the cap is an amount of the quote unit."""
    offset = book.model.get("offset") or {}
    share = number(offset.get("alpha", 1)) if share is None else share
    if x < 0:
        return x
    cap = offset.get("cap")
    price = number(book.tick.index[underlying]) if in_coin(book.model) else 1
    return share * x if cap is None else min(share * x, number(cap) / price)


def group_changes(book: Book, rows, change, members, share, with_orders: bool) -> list[Fraction]:
    """Steps 1 to 7: `y` of a group by scenario."""
    totals = []
    for s, scenario in enumerate(rows):
        total = ZERO
        for underlying in members:
            x = change_of_underlying(book, rows, change, s, underlying, with_orders)
            total += counted(book, share, underlying, damped(book, scenario, underlying, x))
        totals.append(total)
    return totals


def basis_candidate(book: Book, members) -> Fraction | None:
    """Step 8: the basis contingency of a group."""
    if not charges(book.model, "basis"):
        return None
    total = ZERO
    for underlying in members:
        options = book.of(underlying, "OPTION") if charges(book.model, "basis", underlying) else []
        for expiry in {each.expiry for each in options}:
            sums = [ZERO, ZERO]
            for each in options:
                if each.expiry == expiry:
                    for side in (0, 1):
                        sums[side] += book.size[each.symbol] * Fraction(book.record.basis[each.symbol][side])
            total += min(*sums, ZERO) * Fraction(book.record.basis_factor[underlying, expiry])
    return total


def worst_of(y: list, basis: Fraction | None) -> tuple[Fraction, int]:
    """Step 9: the worst loss and the id of its scenario."""
    lowest, worst = (ZERO, -1) if basis is None else (basis, len(y))
    for s, each in enumerate(y):
        if each < lowest:
            lowest, worst = each, s
    return -lowest, worst


def value_at_risk(losses: list, weights: list, alpha: Fraction) -> tuple[Fraction, int]:
    """The loss `l` with `P(loss > l) <= 1 - alpha < P(loss >= l)`, and its row."""
    total, above = sum(weights), ZERO
    for s in sorted(range(len(losses)), key=lambda s: (-losses[s], s)):
        above += weights[s] / total
        if above > 1 - alpha:
            return losses[s], s
    raise ValueError("the probabilities add to nothing")


def expected_shortfall(losses: list, weights: list, alpha: Fraction) -> tuple[Fraction, int]:
    """Mean of the worst `1 - alpha` of probability, and the row at its edge."""
    total, left, mean = sum(weights), 1 - alpha, ZERO
    for s in sorted(range(len(losses)), key=lambda s: (-losses[s], s)):
        taken = min(left, weights[s] / total)
        mean += taken * losses[s]
        left -= taken
        if left <= 0:
            return mean / (1 - alpha), s
    raise ValueError("the probabilities add to nothing")


def measured(model, rows, y: list, basis: Fraction | None) -> tuple[Fraction, int]:
    """Worst loss of a group by the measure of the model."""
    measure = model.get("measure") or {"kind": "worst"}
    usual = [s for s, row in enumerate(rows) if not row.stress]
    stress = [s for s, row in enumerate(rows) if row.stress]
    if measure["kind"] == "worst":
        loss, worst = worst_of(y, basis)
    else:
        rule = value_at_risk if measure["kind"] == "var" else expected_shortfall
        found = []
        for ids in (usual, stress):
            if ids:
                weights = [ONE if rows[s].probability is None else rows[s].probability for s in ids]
                amount, place = rule([-y[s] for s in ids], weights, number(measure["alpha"]))
                found.append((amount, ids[place]))
        loss, worst = found[0]
        if stress and number(measure.get("stressed_share", 0)):
            share = number(measure["stressed_share"])
            loss = (1 - share) * loss + share * found[1][0]
        if basis is not None and -basis >= loss:
            loss, worst = -basis, len(y)
        elif loss <= 0:
            loss, worst = ZERO, -1
    return loss * (1 + number(measure.get("buffer", 0))), worst


# ---- Charges


def concerns(charge, underlying) -> bool:
    """Whether a charge is made for an underlying."""
    listed = charge.get("underlyings")
    return underlying not in charge.get("except_for", ()) and (listed is None or underlying in listed)


def notional_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of the notional of perpetuals, of other kinds too if the charge names them."""
    amount = ZERO
    for each in book.of(underlying, *charge_kinds(charge)):
        at_mark = charge.get("at") == "mark" or each.kind == "SPOT"
        if at_mark:
            amount += abs(book.size[each.symbol] * notional_of_one(book, each))
        else:
            amount += abs(book.base_units(each)) * book.index(underlying)
    return number(charge["rate"]) * amount


def charge_kinds(charge) -> tuple:
    """The kinds of instruments that a `notional` charge counts."""
    kinds = {"perpetuals": PERPETUAL, "futures": ("DATED", "IDATED"), "spot": ("SPOT",)}
    return tuple(kind for name in charge.get("of", ["perpetuals"]) for kind in kinds[name])


def notional_of_one(book: Book, instrument: Instrument) -> Fraction:
    """One unit of an instrument that is no option at its own price."""
    price = number(book.tick.mark[instrument.symbol])
    if instrument.kind not in INVERSE:
        return price
    return 1 / price if in_coin(book.model) else ONE


def net_shorts(book: Book, underlying, before: int | None = None) -> Fraction:
    """Short options of an underlying, calls and puts of a strike netted; those that expire before an instant."""
    strikes: dict[tuple, Fraction] = {}
    for each in book.of(underlying, "OPTION"):
        if before is None or each.expiry < before:
            key = each.expiry, each.strike
            strikes[key] = strikes.get(key, ZERO) + book.size[each.symbol]
    return sum((max(ZERO, -size) for size in strikes.values()), ZERO)


def option_short_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of the index for each net short option."""
    return number(charge["rate"]) * book.index(underlying) * net_shorts(book, underlying)


def gamma_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of the index for each net short option that expires soon."""
    soon = book.tick.time + int(number(charge["hours"]) * HOUR)
    return number(charge["rate"]) * book.index(underlying) * net_shorts(book, underlying, soon)


def confidence_charge(book: Book, charge, underlying) -> Fraction:
    """What is added because a feed is not sure of its price."""
    tick = book.tick

    def missing(*confidences) -> Fraction:
        least = min(number(each) for each in confidences)
        return (1 - least) * number(charge["factor"]) if least < number(charge["threshold"]) else ZERO

    spot = tick.confidence.get(underlying, 1)  # of a balance that has no underlying only its own confidence counts
    perpetual = tick.perpetual_confidence.get(underlying, 1)
    perpetuals, total = book.of(underlying, *PERPETUAL), ZERO
    for each in perpetuals:
        total += missing(spot, perpetual) * abs(book.base_units(each)) * book.index(underlying)
    options = book.of(underlying, "OPTION")
    for expiry in {each.expiry for each in options}:
        term = tick.terms[underlying, expiry]
        feeds = [spot, term.forward_confidence, term.rate_confidence, term.volatility_confidence]
        size = sum(abs(book.size[each.symbol]) for each in options if each.expiry == expiry)
        total += missing(*feeds, *([perpetual] if perpetuals else [])) * size * book.index(underlying)
    for each in book.of(underlying, "SPOT"):
        total += missing(spot, tick.own_confidence.get(each.symbol, 1)) * abs(book.value(each))
    return total


def deltas_by_expiry(book: Book, underlying, *kinds) -> dict[int, Fraction]:
    """Net delta of each expiry of an underlying, of perpetuals under 0; balances of the asset have none here."""
    found: dict[int, Fraction] = {}
    for each in book.of(underlying, *(kinds or (*LINEAR, *INVERSE, "OPTION"))):
        found[each.expiry] = found.get(each.expiry, ZERO) + book.delta(each)
    return found


def roll_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of the net delta of each expiry, which grows with the time to it."""
    total = ZERO
    for expiry, delta in deltas_by_expiry(book, underlying).items():
        least, annual = number(charge["rate"]), number(charge.get("annual", 0))
        total += abs(delta) * (Fraction(book.record.roll_rate[least, annual, expiry]) if expiry else least)
    return total * book.index(underlying)


def spread_delta_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of what offsets between the expiries of futures, earliest with earliest; of a year if `annual`."""
    left = deltas_by_expiry(book, underlying, *LINEAR, *INVERSE)
    total, now = ZERO, book.tick.time
    while True:
        long = min((expiry for expiry, delta in left.items() if delta > 0), default=None)
        short = min((expiry for expiry, delta in left.items() if delta < 0), default=None)
        if long is None or short is None:
            break
        matched = min(left[long], -left[short])
        apart = abs(max(long, now) - max(short, now)) if charge.get("annual") else YEAR
        total += matched * Fraction(apart, YEAR)
        left[long], left[short] = left[long] - matched, left[short] + matched
    return number(charge["rate"]) * total * book.index(underlying)


def net_delta(book: Book, underlying) -> tuple[Fraction, Fraction]:
    """Net and gross delta of an underlying."""
    deltas = [book.delta(each) for each in book.of(underlying, *LINEAR, *INVERSE, "OPTION")]
    return sum(deltas, ZERO), sum((abs(each) for each in deltas), ZERO)


def delta_shock_charge(book: Book, charge, underlying) -> Fraction:
    """A loss on a large net delta: a share of it that grows with every unit over a threshold."""
    net = abs(net_delta(book, underlying)[0])
    excess = max(ZERO, net - number(charge["threshold"]) / number(book.tick.index[underlying]))
    share = min(number(charge["max"]), number(charge["increment"]) * excess)
    return share * net * book.index(underlying)


def theta_charge(book: Book, members) -> Fraction:
    """What the time value of the options of a group loses in some hours."""
    options = [each for underlying in members for each in book.of(underlying, "OPTION")]
    gain = sum((book.size[each.symbol] * Fraction(book.record.theta[each.symbol]) for each in options), ZERO)
    return max(ZERO, -gain)


def funding_charge(book: Book, members) -> Fraction:
    """The next funding payment of all perpetuals of a group, if it is to be paid."""
    held = [each for underlying in members for each in book.of(underlying, *PERPETUAL)]
    paid = (book.size[each.symbol] * number(book.tick.funding.get(each.symbol, 0)) for each in held)
    return max(ZERO, sum(paid, ZERO))


def fee_charge(book: Book, charge, underlying) -> Fraction:
    """The fees of closing every position."""
    held = book.of(underlying, *LINEAR, *INVERSE, "OPTION")
    return sum((closing_fee(book, charge, each, book.size[each.symbol]) for each in held), ZERO)


def fee_of_orders(book: Book, charge, underlying) -> Fraction:
    """The fees of open orders, at the price of record; they enter the initial requirement alone."""
    placed = [order for order in book.orders if underlying_of(book.model, order[0]) == underlying]
    return sum((closing_fee(book, charge, each, size) for each, size, _ in placed), ZERO)


def closing_fee(book: Book, charge, instrument: Instrument, size: Fraction) -> Fraction:
    """The fee of trading a size of an instrument at its price of record; an option's fee has a cap."""
    rate = number(charge["rate"])
    if instrument.kind == "OPTION":
        value = Fraction(book.record.value[instrument.symbol])
        cap = number(charge.get("cap", "0.125")) * value
        return min(rate * book.index(instrument.underlying), cap) * abs(size)
    return rate * abs(size * notional_of_one(book, instrument))


CHARGES = {
    "notional": notional_charge,
    "option_short": option_short_charge,
    "confidence": confidence_charge,
    "roll": roll_charge,
    "spread_delta": spread_delta_charge,
    "delta_shock": delta_shock_charge,
    "fee": fee_charge,
    "gamma": gamma_charge,
}
CHARGES_OF_GROUPS = {"theta": theta_charge, "funding": funding_charge}


def delta_floor(book: Book, members, with_orders: bool) -> Fraction:
    """The least loss of a group: a rate of its net delta, and one of what is hedged."""
    total = ZERO
    for charge in charges(book.model, "delta_floor"):
        for underlying in members:
            if not concerns(charge, underlying):
                continue
            long = short = ZERO
            for each in book.of(underlying, *LINEAR, *INVERSE, "OPTION"):
                long, short = long + max(ZERO, book.delta(each)), short + max(ZERO, -book.delta(each))
            most_long, most_short = long, short
            if with_orders:
                for each, size, _ in book.orders:
                    if underlying_of(book.model, each) == underlying:
                        delta = size * Fraction(book.record.delta[each.symbol])
                        most_long, most_short = most_long + max(ZERO, delta), most_short + max(ZERO, -delta)
            unhedged = max(ZERO, most_long - short, most_short - long)
            hedged = max(ZERO, max(most_long, most_short) - unhedged)
            if not with_orders:
                hedged = (long + short - abs(long - short)) / 2
            rate = number(charge["unhedged"]) * unhedged + number(charge["hedged"]) * hedged
            total += rate * book.index(underlying)
    return total


def depeg(model, tick: Tick) -> Fraction:
    """What is added to the factor of the initial requirement while the stable coin is below its threshold."""
    total = ZERO
    for charge in charges(model, "depeg"):
        total += max(ZERO, number(charge["threshold"]) - number(tick.stable)) * number(charge["factor"])
    return total


def tiered(amount: Fraction, brackets) -> Fraction:
    """An amount scaled bracket by bracket."""
    total = start = ZERO
    for top, times in brackets:
        end = amount if top is None else min(amount, number(top))
        total += max(ZERO, end - start) * number(times)
        start = max(start, end)
    return total


def least(book: Book, members) -> Fraction:
    """The minimum of the contracts held of some underlyings."""
    rule = book.model.get("minimum")
    if not rule:
        return ZERO
    held = [each for each in book.held if each.kind != "SPOT" and each.underlying in members]
    if rule.get("per", "contract") == "short_option":
        held = [each for each in held if each.kind == "OPTION" and book.size[each.symbol] < 0]
    contracts = sum((abs(book.size[each.symbol]) / number(each.contract) for each in held), ZERO)
    raw = number(rule["rate"]) * contracts
    return tiered(raw, rule["brackets"]) if rule.get("brackets") else raw


# ---- Spreads


def tier_of(model, tick: Tick, expiry: int) -> int:
    """The tier of an expiry by its days; a perpetual's is the first."""
    days = Fraction(max(0, expiry - tick.time), DAY)
    return sum(days > number(last) for last in model["spreads"].get("tiers", []))


def intra_charge(book: Book, underlying) -> Fraction:
    """Charges on offsetting deltas of two tiers, in the order of the rows."""
    deltas: dict[int, Fraction] = {}
    for expiry, delta in deltas_by_expiry(book, underlying).items():
        tier = tier_of(book.model, book.tick, expiry)
        deltas[tier] = deltas.get(tier, ZERO) + delta
    total = ZERO
    for row in book.model["spreads"].get("intra", []):
        legs = [(leg["tier"], number(leg.get("delta", 1))) for leg in row["legs"]]
        held = [deltas.get(tier, ZERO) for tier, _ in legs]
        if row["underlying"] == underlying and min(held) < 0 < max(held):
            count = min(abs(deltas[tier]) / each for tier, each in legs)
            total += count * number(row["charge"])
            for tier, each in legs:
                deltas[tier] -= count * each if deltas[tier] > 0 else -count * each
    return total


def price_risk(rows, y: list, worst: int, underlying) -> Fraction:
    """What a worst loss is without its volatility and its time: means over the scenarios of one price move."""

    def mean(move, shift) -> Fraction:
        alike = [
            -y[s]
            for s, row in enumerate(rows)
            if (of_underlying(row.moves, underlying), of_underlying(row.shifts, underlying)) == (move, shift)
        ]
        return sum(alike, ZERO) / len(alike) if alike else ZERO

    if worst < 0:
        return ZERO
    active = rows[worst]
    moved = mean(of_underlying(active.moves, underlying), of_underlying(active.shifts, underlying))
    return moved - mean(ZERO, ZERO)


def inter_credits(book: Book, risks: dict) -> dict:
    """Credits by underlying for offsetting net deltas of several, in the order of the rows; `risks`: price risk."""
    net = {u: net_delta(book, u)[0] for u in risks}
    left, credits = dict(net), dict.fromkeys(risks, ZERO)
    for row in book.model["spreads"].get("inter", []):
        legs = [(leg["underlying"], leg.get("side", "A"), number(leg.get("delta", 1))) for leg in row["legs"]]
        signs = {(side == "A") == (left.get(u, ZERO) > 0) for u, side, _ in legs}
        if len(signs) > 1 or not all(left.get(u) for u, _, _ in legs):
            continue
        count = min(abs(left[u]) / each for u, _, each in legs)
        for u, _, each in legs:
            credits[u] += count * each * risks[u] / abs(net[u]) * number(row["rate"])
            left[u] -= count * each if left[u] > 0 else -count * each
    return credits


def short_minimum(book: Book, underlying) -> Fraction:
    """The least requirement of short options."""
    shorts = [
        sum((max(ZERO, -book.size[each.symbol]) for each in book.of(underlying, "OPTION") if each.right == right), ZERO)
        for right in "CP"
    ]
    counted_ = sum(shorts) if book.model["spreads"].get("som_count", "larger") == "sum" else max(shorts)
    return number(book.model["spreads"].get("short_option_minimum", 0)) * counted_


# ---- All of it


def haircuts(book: Book, members, level: str) -> Fraction:
    """The haircuts of balances whose underlying is among some."""
    total = ZERO
    for each in book.held:
        rates = book.model.get("haircuts", {}).get(each.symbol)
        if each.kind == "SPOT" and rates and underlying_of(book.model, each) in members:
            total += number(rates.get(level, 0)) * max(ZERO, book.value(each))
    return total


def group_charges(book: Book, members, level: str, scaled: bool) -> Fraction:
    """The charges of a group that enter the maintenance or only the initial requirement."""
    total = ZERO
    for charge in book.model.get("contingencies", []):
        if charge.get("enters", "mm") == level and bool(charge.get("scaled")) == scaled:
            concerned = [underlying for underlying in members if concerns(charge, underlying)]
            if charge["kind"] in CHARGES_OF_GROUPS:
                total += CHARGES_OF_GROUPS[charge["kind"]](book, concerned)
            elif charge["kind"] in CHARGES:
                total += sum((CHARGES[charge["kind"]](book, charge, u) for u in concerned), ZERO)
    return total if scaled else total + haircuts(book, members, level)


def asset_charges(book: Book, level: str, scaled: bool) -> Fraction:
    """The charges of balances that have no underlying: they belong to the account."""
    total = ZERO if scaled else haircuts(book, {None}, level)
    for charge in charges(book.model, "notional") + charges(book.model, "confidence"):
        entered = charge.get("enters", "mm") == level and bool(charge.get("scaled")) == scaled
        if entered and charge.get("underlyings") is None:
            total += CHARGES[charge["kind"]](book, charge, None)
    return total


def rounded(amount: Fraction, decimals) -> Fraction:
    """An amount rounded to decimals, half to even, if a number of them is given."""
    return amount if decimals is None else round(amount * 10 ** int(decimals)) / Fraction(10 ** int(decimals))


def requirement(model, instruments: list[Instrument], tick: Tick, found: Record, sizes, orders=()) -> Requirement:
    """The requirement of an account: `sizes` by symbol, `orders` as `(symbol, size, limit)`, all exact numbers."""
    account = Account({symbol: number(size) for symbol, size in sizes.items()}, list(orders))
    book = Book(model, instruments, tick, found, account)
    rows = scenarios(model)
    own_rows = bool(model.get("im_scenarios"))
    initial_rows = (
        scenarios({**model, "scenarios": model["im_scenarios"], "grid": None, "tails": []}) if own_rows else rows
    )
    names = list(dict.fromkeys(underlying_of(model, each) for each in instruments))
    mm_factor = number(model.get("mm_factor", 1))
    im_factor = number(model.get("im_factor", 1)) + depeg(model, tick)
    decimals, groups = model.get("round_worst"), []
    listed = groups_of(model, [name for name in names if name is not None])
    credits: dict = {}
    if model.get("spreads"):
        risks: dict = {}
        for members, share in listed:
            y = group_changes(book, rows, found.change, members, share, False)
            risks |= {u: max(ZERO, price_risk(rows, y, worst_of(y, None)[1], u)) for u in members}
        credits = inter_credits(book, risks)
    for members, share in listed:
        basis = basis_candidate(book, members)
        y = group_changes(book, rows, found.change, members, share, False)
        loss, worst = measured(model, rows, y, basis)
        loss = rounded(max(loss, delta_floor(book, members, False)), decimals)
        change = found.initial_change if own_rows else found.change
        wide = group_changes(book, initial_rows, change, members, share, True)
        initial_loss = rounded(
            max(measured(model, initial_rows, wide, basis)[0], delta_floor(book, members, True)), decimals
        )
        multiplied, plain = (group_charges(book, members, "mm", scaled) for scaled in (True, False))
        only_initial, more = (group_charges(book, members, "im", scaled) for scaled in (True, False))
        amount = mm_factor * (loss + multiplied) + plain
        for row in charges(model, "fee"):
            fees = sum((fee_of_orders(book, row, u) for u in members if concerns(row, u)), ZERO)
            only_initial, more = (only_initial + fees, more) if row.get("scaled") else (only_initial, more + fees)
        initial = im_factor * (initial_loss + multiplied + only_initial) + plain + more
        if model.get("spreads"):
            spread = sum((intra_charge(book, u) - credits[u] for u in members), ZERO)
            short = sum((short_minimum(book, u) for u in members), ZERO)
            amount, initial = (max(x + spread, short, ZERO) for x in (amount, initial))
        if model.get("minimum") and model["minimum"].get("level", "group") == "group":
            amount, initial = (max(x, least(book, members)) for x in (amount, initial))
        groups.append(
            Group(
                members, y, basis, loss, worst, initial_loss, plain + multiplied, more + only_initial, amount, initial
            )
        )
    amount = sum((each.requirement for each in groups), ZERO)
    initial = sum((each.initial for each in groups), ZERO)
    for level in ("mm", "im"):
        scaled, plain = asset_charges(book, level, True), asset_charges(book, level, False)
        amount += mm_factor * scaled + plain if level == "mm" else ZERO
        initial += im_factor * scaled + plain
    if model.get("minimum") and model["minimum"].get("level", "group") == "account":
        amount, initial = (max(x, least(book, set(names))) for x in (amount, initial))
    initial = rounded(number(model.get("im_multiplier", 1)) * initial, model.get("round_initial"))
    group = max(range(len(groups)), key=lambda g: groups[g].requirement, default=-1)
    return Requirement(amount, max(amount, initial), groups[group].worst if groups else -1, group, groups)
