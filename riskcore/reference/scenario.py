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
    the discounts `(d+, d-)`, the factor of the basis contingency and the rate of a roll charge.
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
    """A scenario, its numbers exact; `move` a number, or numbers by underlying; `ranges` instead: price scan ranges."""

    move: Any
    ranges: Fraction | None
    vol: str
    weight: Fraction
    time: int
    dampener: Fraction | None
    coin_tail: bool
    probability: Fraction | None
    stress: bool


def scenarios(model) -> list[Scenario]:
    """The scenarios of a model in the order of their ids: those listed or the grid, then the tails."""
    rows = list(model.get("scenarios", []))
    grid = model.get("grid")
    if grid:
        size, steps = number(grid["range"]), int(grid["steps"])
        for j in range(-steps, steps + 1):
            rows += [{"move": size * j / steps, "vol": vol} for vol in grid["vols"]]
    found = []
    for row in rows + list(model.get("tails", [])):
        vols = [row.get("vol", "same")]
        if vols[0].startswith("larger_"):
            vols = [vols[0].replace("larger", "points"), vols[0].replace("larger", "percent")]
        move: Any = row.get("move", "0")
        move = {u: number(x) for u, x in move.items()} if isinstance(move, dict) else number(move)
        weight = number(row.get("weight", 1))
        if "kappa" in row:
            weight = number(row["kappa"]) * number(grid["range"]) / abs(move)
        found += [
            Scenario(
                move=move,
                ranges=number(row["ranges"]) if "ranges" in row else None,
                vol=vol,
                weight=weight,
                time=int(number(row.get("hours", 0)) * HOUR),
                dampener=number(row["dampener"]) if "dampener" in row else None,
                coin_tail=bool(row.get("coin_tail", False)),
                probability=number(row["probability"]) if "probability" in row else None,
                stress=row.get("set") == "stress",
            )
            for vol in vols
        ]
    return found


def initial_model(model):
    """The model with the scenarios of the initial requirement, if it has a set of their own."""
    return {**model, "scenarios": model["im_scenarios"], "grid": None, "tails": []}


def move_of(model, scenario: Scenario, underlying) -> Fraction:
    """Relative move of an underlying in a scenario."""
    if isinstance(scenario.move, dict):
        return scenario.move[underlying]
    return scenario.move * number(model.get("moves", {}).get(underlying, 1))


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


def charges(model, kind: str) -> list[dict]:
    """The charges of one kind."""
    return [row for row in model.get("contingencies", []) if row["kind"] == kind]


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


def shocked_volatility(model, vol: str, sigma: float, tau: float, log_strike: float) -> float:
    """Volatility of an option in a scenario."""
    if vol == "same":
        return sigma
    if vol in ("linear", "abs"):
        return sigma * skew_multiplier(model["skew"], log_strike if vol == "linear" else abs(log_strike), tau, vol)
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


def option_value(
    model, tick: Tick, option: Instrument, move=ZERO, vol: str = "same", later: int = 0, ranges=None
) -> float:
    """Value of one unit of an option after a move of the price, a shock of the volatility, and some time."""
    fixed, variable = parts_of_forward(model, tick, option.underlying, option.expiry)
    forward = max(0.0, fixed + variable * float(1 + move))
    if ranges is not None:
        forward = max(0.0, fixed + variable + float(ranges))
    tau = float(years(tick, option.expiry))
    log_strike = math.log(option.strike / (fixed + variable))
    sigma = shocked_volatility(model, vol, float(tick.volatility[option.symbol]), tau, log_strike)
    left = float(Fraction(max(0, option.expiry - tick.time - later), YEAR))
    discount = discount_factor(model, rate_of(model, tick, option.underlying, option.expiry), left)
    value = black76(option.right, forward, float(option.strike), sigma, left, discount)
    return value / forward if in_coin(model) and forward else value


def linear_change(model, tick: Tick, instrument: Instrument, scenario: Scenario) -> Fraction:
    """Change of the value of one unit of an instrument that is no option, in a scenario."""
    underlying = underlying_of(model, instrument)
    if instrument.kind == "SPOT" and (underlying is None or not shocked_by(model, instrument.symbol)):
        return ZERO
    price = number(tick.mark[instrument.symbol])
    if scenario.ranges is not None:
        index = number(tick.index[underlying])
        move = (
            scenario.ranges * number(model["scan_range"][underlying]) / (price if instrument.kind in LINEAR else index)
        )
    else:
        move = move_of(model, scenario, underlying)
    return linear_move(model, tick, instrument, move)


def linear_move(model, tick: Tick, instrument: Instrument, move: Fraction) -> Fraction:
    """Change of the value of one unit of an instrument that is no option, at a move of its underlying."""
    price, index = number(tick.mark[instrument.symbol]), number(tick.index.get(underlying_of(model, instrument), 0))
    if instrument.kind not in INVERSE:
        return price * move
    base = index if model.get("inverse_base", "mark") == "index" else price
    return move / (1 + move) / base if in_coin(model) else index * move / base


def value_of(model, tick: Tick, instrument: Instrument):
    """Value of record of one unit: an option's is a float64, the others' are exact."""
    if instrument.kind == "OPTION":
        if model.get("price_source", "model") == "mark":
            return float(tick.mark[instrument.symbol])
        return option_value(model, tick, instrument)
    price = number(tick.mark[instrument.symbol])
    if instrument.kind not in INVERSE:
        return price
    return -1 / price if in_coin(model) else -number(tick.index[instrument.underlying]) / price


def delta_of(model, tick: Tick, instrument: Instrument):
    """Base units that one unit of an instrument stands for."""
    if instrument.kind in INVERSE:
        base = "index" if model.get("inverse_base", "mark") == "index" else "mark"
        return 1 / number(tick.index[instrument.underlying] if base == "index" else tick.mark[instrument.symbol])
    if instrument.kind != "OPTION":
        return ONE
    underlying, expiry = instrument.underlying, instrument.expiry
    tau = float(years(tick, expiry))
    discount = discount_factor(model, rate_of(model, tick, underlying, expiry), tau)
    forward = float(sum(parts_of_forward(model, tick, underlying, expiry)))
    sigma = float(tick.volatility[instrument.symbol])
    return delta76(instrument.right, forward, float(instrument.strike), sigma, tau, discount)


def option_change(model, tick: Tick, option: Instrument, scenario: Scenario) -> float:
    """Change of the value of one unit of an option in a scenario; a skew scenario leaves the price where it is."""
    skewed = scenario.vol in ("linear", "abs")
    ranges = None
    if scenario.ranges is not None:
        ranges, move = scenario.ranges * number(model["scan_range"][option.underlying]), ZERO
    else:
        move = ZERO if skewed else move_of(model, scenario, option.underlying)
    change = option_value(model, tick, option, move, scenario.vol, scenario.time, ranges) - value_of(
        model, tick, option
    )
    if model.get("window", "average") == "scale":
        window = int(number(model.get("window_seconds", 1800)) * 10**9)
        change *= min(1.0, max(0, option.expiry - tick.time) / window)
    return change


def record(model, instruments: list[Instrument], tick: Tick) -> Record:
    """The table of record of a tick: options in float64, the others exact."""
    found = Record({}, {}, {}, {}, {}, {}, {}, {}, {})
    rows, wide = scenarios(model), scenarios(initial_model(model)) if model.get("im_scenarios") else []
    for each in instruments:
        name, option = each.symbol, each.kind == "OPTION"
        found.value[name] = value = value_of(model, tick, each)
        found.delta[name] = delta_of(model, tick, each)
        change = option_change if option else linear_change
        found.change[name] = [change(model, tick, each, scenario) for scenario in rows]
        found.initial_change[name] = [change(model, tick, each, scenario) for scenario in wide]
        if not option:
            continue
        for charge in charges(model, "basis"):
            moves = (number(charge["up"]), number(charge["down"]))
            factor = number(model.get("moves", {}).get(each.underlying, 1))
            found.basis[name] = tuple(option_value(model, tick, each, move * factor) - value for move in moves)
        for charge in charges(model, "theta"):
            later = int(number(charge["hours"]) * HOUR)
            found.theta[name] = option_value(model, tick, each, later=later) - value
    for underlying, expiry in {(each.underlying, each.expiry) for each in instruments if each.expiry}:
        tau = years(tick, expiry)
        if model.get("discount") and (underlying, expiry) in tick.terms:
            found.discount[underlying, expiry] = discounts(model, rate_of(model, tick, underlying, expiry), float(tau))
        for charge in charges(model, "basis"):
            found.basis_factor[underlying, expiry] = number(charge["add"]) + number(charge["mult"]) * tau
        for charge in charges(model, "roll"):
            growth = math.exp(float(number(charge.get("annual", 0))) * float(tau)) - 1
            found.roll_rate[underlying, expiry] = max(float(number(charge["rate"])), growth)
    return found


# ---- The requirement


class Group(NamedTuple):
    """A group of underlyings of an account: losses `y` by scenario, worst loss, charges, requirements."""

    underlyings: tuple
    y: list
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
    left = list(underlyings)
    for row in model.get("groups", []):
        members = list(left) if row["underlyings"] == "all" else [u for u in left if u in row["underlyings"]]
        share = number(row.get("alpha", 1)) if row.get("rule") == "groups" else None
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
                paid = limit if each.kind not in INVERSE else limit_value(book, each, limit)
                price = Fraction(book.record.value[each.symbol]) + Fraction(change[each.symbol][s])
                total += min(ZERO, size * (price - paid))
    if scenario.coin_tail:
        move, edge = move_of(model, scenario, underlying), number(model["grid"]["range"])
        total *= (1 + move) / (1 + (edge if move > 0 else -edge))
    return total * scenario.weight


def limit_value(book: Book, instrument: Instrument, limit: Fraction) -> Fraction:
    """Value of one unit of an inverse contract at a limit."""
    return -1 / limit if in_coin(book.model) else -number(book.tick.index[instrument.underlying]) / limit


def damped(book: Book, scenario: Scenario, underlying: str, x: Fraction) -> Fraction:
    """Step 5: the dampener of a tail."""
    amount = scenario.dampener
    if amount is None:
        amount, grid = ZERO, book.model.get("grid")
        if grid and number(book.model.get("dampener", 0)):
            edge, move = number(grid["range"]), move_of(book.model, scenario, underlying)
            if abs(move) > edge:
                amount = (abs(move) / edge - 1) * number(book.model["dampener"])
                if in_coin(book.model):
                    amount /= (1 + (edge if move > 0 else -edge)) * number(book.tick.index[underlying])
    size = max(ZERO, abs(x) - amount)
    return size if x > 0 else -size


def counted(model, share, x: Fraction) -> Fraction:
    """Step 6: the part of a gain that counts."""
    offset = model.get("offset") or {}
    share = number(offset.get("alpha", 1)) if share is None else share
    if x < 0:
        return x
    cap = offset.get("cap")
    return share * x if cap is None else min(share * x, number(cap))


def group_changes(book: Book, rows, change, members, share, with_orders: bool) -> list[Fraction]:
    """Steps 1 to 7: `y` of a group by scenario."""
    totals = []
    for s, scenario in enumerate(rows):
        total = ZERO
        for underlying in members:
            x = change_of_underlying(book, rows, change, s, underlying, with_orders)
            total += counted(book.model, share, damped(book, scenario, underlying, x))
        totals.append(total)
    return totals


def basis_candidate(book: Book, members) -> Fraction | None:
    """Step 8: the basis contingency of a group."""
    if not charges(book.model, "basis"):
        return None
    total = ZERO
    for underlying in members:
        options = book.of(underlying, "OPTION")
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
        if loss <= 0:
            loss, worst = ZERO, -1
    return loss * (1 + number(measure.get("buffer", 0))), worst


# ---- Charges


def concerns(charge, underlying) -> bool:
    """Whether a charge is made for an underlying."""
    return charge.get("underlyings") is None or underlying in charge["underlyings"]


def notional_charge(book: Book, charge, underlying) -> Fraction:
    """A rate of the notional of perpetuals, of other kinds too if the charge names them."""
    amount = ZERO
    for each in book.of(underlying, *charge_kinds(charge)):
        at_mark = charge.get("at") == "mark" or each.kind == "SPOT"
        at_index = book.base_units(each) * book.index(underlying)
        amount += abs(book.size[each.symbol] * notional_of_one(book, each) if at_mark else at_index)
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

    spot = tick.confidence.get(underlying, 1)
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
        rate = Fraction(book.record.roll_rate[underlying, expiry]) if expiry else number(charge["rate"])
        total += abs(delta) * rate
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


def theta_charge(book: Book, charge, underlying) -> Fraction:
    """What the time value loses in some hours."""
    options = book.of(underlying, "OPTION")
    gain = sum((book.size[each.symbol] * Fraction(book.record.theta[each.symbol]) for each in options), ZERO)
    return max(ZERO, -gain)


def funding_charge(book: Book, charge, underlying) -> Fraction:
    """The next funding payment of all perpetuals, if it is to be paid."""
    paid = ZERO
    for each in book.of(underlying, *PERPETUAL):
        paid += book.size[each.symbol] * number(book.tick.funding.get(each.symbol, 0))
    return max(ZERO, paid)


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
    "theta": theta_charge,
    "funding": funding_charge,
    "fee": fee_charge,
    "gamma": gamma_charge,
}


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


# ---- All of it


def haircuts(book: Book, members, level: str) -> Fraction:
    """The haircuts of balances whose underlying is among some."""
    total = ZERO
    for each in book.held:
        rates = book.model.get("haircuts", {}).get(each.symbol)
        if each.kind == "SPOT" and rates and underlying_of(book.model, each) in members:
            total += number(rates.get(level, 0)) * book.value(each)
    return total


def group_charges(book: Book, members, level: str, scaled: bool) -> Fraction:
    """The charges of a group that enter the maintenance or only the initial requirement."""
    total = ZERO
    for charge in book.model.get("contingencies", []):
        if charge["kind"] in CHARGES and charge.get("enters", "mm") == level and bool(charge.get("scaled")) == scaled:
            for underlying in members:
                if concerns(charge, underlying):
                    total += CHARGES[charge["kind"]](book, charge, underlying)
    return total if scaled else total + haircuts(book, members, level)


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
    for members, share in groups_of(model, [name for name in names if name is not None]):
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
        more += sum((fee_of_orders(book, row, u) for row in charges(model, "fee") for u in members), ZERO)
        initial = im_factor * (initial_loss + multiplied + only_initial) + plain + more
        if model.get("minimum") and model["minimum"].get("level", "group") == "group":
            amount, initial = (max(x, least(book, members)) for x in (amount, initial))
        groups.append(
            Group(members, y, loss, worst, initial_loss, plain + multiplied, more + only_initial, amount, initial)
        )
    amount = sum((each.requirement for each in groups), ZERO) + haircuts(book, {None}, "mm")
    initial = sum((each.initial for each in groups), ZERO)
    initial += haircuts(book, {None}, "mm") + haircuts(book, {None}, "im")
    if model.get("minimum") and model["minimum"].get("level", "group") == "account":
        amount, initial = (max(x, least(book, set(names))) for x in (amount, initial))
    initial = rounded(number(model.get("im_multiplier", 1)) * initial, model.get("round_initial"))
    group = max(range(len(groups)), key=lambda g: groups[g].requirement, default=-1)
    return Requirement(amount, max(amount, initial), groups[group].worst if groups else -1, group, groups)
