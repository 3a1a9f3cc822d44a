"""The venue of a run folder: markets, assets, pools, providers and the policy, in exact figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy.typing as npt

from ..venue.policy import FIGURES, Figure

Bounds = tuple[Fraction | None, Fraction | None]
"""Figures that bound a price from below and from above; None: no such guard."""


class RunError(ValueError):
    """The folder holds no run that can be audited.

    Examples
    --------
    >>> from riskcore.audit import RunError, audit
    >>> try:
    ...     audit("no_such_folder")
    ... except RunError as error:
    ...     print(error)
    no_such_folder/run.json: cannot be read: No such file or directory
    """


def exact(value: object) -> Fraction:
    """Fraction that a number or text stands for; a float stands for its shortest decimal."""
    return Fraction(str(value))


class MarginFunction(NamedTuple):
    """A margin function.

    Kinds: `sqrt` and `quantity` (of the tokens) with base and factor, `linear` and `linear_quantity` with base, slope
    and minimum, `open_interest` with base, lower and upper, `tiers` with from, rate and deduction of each bracket,
    `steps` likewise without a deduction.
    """

    kind: str
    figures: tuple[tuple[Fraction, ...], ...]


_LINEAR = "linear", "linear_quantity"


class Funding(NamedTuple):
    """Funding of a market by an interval: its length, and the bounds of its rate."""

    period: int  # nanoseconds
    hours: float
    lower: float
    upper: float


class Prices(NamedTuple):
    """Price filter of a market, without its bands."""

    tick: Fraction
    max_ticks: int  # ticks of the highest price
    update: Bounds


class Market(NamedTuple):
    """A perpetual, linear or inverse."""

    symbol: str
    base: str
    quote: int  # row of the asset of its prices, -1: the unit of account
    settle: int  # row of the asset that profit and loss, fees and funding are paid in
    inverse: bool
    lot: Fraction  # base units of a lot, of an inverse market quote units
    step: Fraction
    margin_function: MarginFunction  # of the maintenance margin
    initial: MarginFunction
    prices: Prices
    funding: Funding | None
    takes_orders: bool  # from whoever takes from its book

    def lot_value(self, price: Fraction) -> Fraction:
        """Value of a lot at a price, in units of the settle asset."""
        return -self.lot / price if self.inverse else self.lot * price


class Spot(NamedTuple):
    """A spot market of an asset against the settle asset."""

    asset: int
    prices: Prices
    takes_orders: bool


class PriceGuard(NamedTuple):
    """Guards of an asset's price; None: there is no such guard."""

    update: Bounds = (None, None)
    index_threshold: float | None = None
    mean_threshold: float | None = None
    stale_after: int | None = None  # nanoseconds

    @property
    def limits(self) -> bool:
        """Whether a given price may be cut."""
        return self[:3] != PriceGuard()[:3]


class _Asset(NamedTuple):
    symbol: str
    quantum: Fraction
    haircut: tuple[Fraction, Fraction, Fraction]  # weight, base, penalty; the identity has no penalty
    margin_function: MarginFunction  # of the maintenance margin
    initial: MarginFunction
    guard: PriceGuard


class Pool(NamedTuple):
    """Borrow-lend pool of an asset: amounts outside the run in quanta, and the rules."""

    lent: int
    borrowed: int
    fee: Fraction
    optimal: Fraction
    max_utilization: Fraction
    threshold: Fraction
    throttle_update: Fraction
    limit: int | None  # quanta
    is_open: bool


class Venue(NamedTuple):
    """The venue's rules, markets and assets in the order of their rows."""

    markets: list[Market]
    spots: list[Spot]
    assets: list[_Asset]
    settle: int
    policy: dict[str, Fraction]  # without those that are null
    realize: int  # nanoseconds between realisations, 0 if there are none
    clock: int  # nanoseconds between the instants at which the venue acts, 0 if it acts at ticks alone
    path: str  # of the prices between two ticks
    by_quantity: bool
    providers: list[int]  # rows of the accounts in the backstop
    pools: dict[int, Pool]  # by asset, ascending
    stages: list[str]  # in the order of the policy
    money: tuple[int, ...]  # assets that profit and loss is paid in: the settle asset, and the others ascending
    delisted: tuple[int, ...] = ()  # rows of markets, ascending

    @property
    def plain(self) -> bool:
        """Whether all markets are linear and settled in the venue's settle asset."""
        return len(self.money) == 1 and not any(market.inverse for market in self.markets)

    def has_any(self, figures: str) -> bool:
        """Whether the policy gives one of some figures."""
        return any(figure in self.policy for figure in figures.split())

    @property
    def quantum(self) -> Fraction:
        """Quantum of the settle asset."""
        return self.assets[self.settle].quantum

    @property
    def books(self) -> int:
        """Number of markets that may have a book."""
        return len(self.markets) + len(self.spots)


_MAX_TICKS = 10**13
_SMALLEST, _LARGEST = Fraction(1, 10**18), Fraction(10**18)
_WIDE = 2**62
_MAX_ROWS = 2**16 - 2
_MISSING = object()


class _Object:
    """A JSON object, read member by member; an error names the path of the member."""

    def __init__(self, raw: object, path: str) -> None:
        if not isinstance(raw, dict):
            raise RunError(f"{path or 'it'} must be an object, not {_shown(raw)}")
        self.raw, self.path = raw, path

    def wrong(self, name: str, rule: str) -> RunError:
        """Error of a member that breaks a rule."""
        return RunError(f"{self._to(name)} {rule}, not {_shown(self.raw.get(name))}")

    def _to(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def only(self, names: set[str]) -> None:
        """Refuse other members than these."""
        if others := sorted(self.raw.keys() - names):
            raise RunError(f"{self._to(others[0])} is not known")

    def _member(self, name: str, missing: object, kinds: tuple[type, ...], rule: str) -> Any:
        value = self.raw.get(name, missing)
        if value is _MISSING:
            raise RunError(f"{self._to(name)} is missing")
        if value is missing or (value is None and missing is None):
            return missing
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(name, f"must be {rule}")
        return value

    def text(self, name: str, missing: Any = _MISSING, among: tuple[str, ...] = ()) -> Any:
        """Return a text, one of some if they are named."""
        value = self._member(name, missing, (str,), "text")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.wrong(name, "must be text without lone surrogates")
        if among and value not in among:
            raise self.wrong(name, f"must be one of {' '.join(among)}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false, false where it is missing."""
        return bool(self._member(name, False, (bool,), "true or false"))

    def whole(self, name: str, least: int, most: int, missing: Any = _MISSING) -> Any:
        """Return a whole number in a range."""
        value = self._member(name, missing, (int,), "a whole number")
        if value is not missing and not least <= value <= most:
            raise self.wrong(name, f"must be from {least} to {most}")
        return value

    def number(
        self, name: str, fits: Callable[[Fraction], bool], rule: str, missing: Any = _MISSING, *, ratio: bool = False
    ) -> Any:
        """Return an exact number that fits a rule: a decimal, or with ``ratio`` a fraction of whole numbers also."""
        value = self._member(name, missing, (str, int, float), "a number")
        if value is missing:
            return missing
        try:
            found = _bounded(str(value), ratio=ratio)
        except (ValueError, ZeroDivisionError, InvalidOperation):
            raise self.wrong(name, "must be a number") from None
        if not fits(found):
            raise self.wrong(name, f"must be {rule}")
        return found

    def positive(self, name: str, missing: Any = _MISSING) -> Any:
        """Return a number above 0 in the range of all figures."""
        return self.number(name, lambda x: _SMALLEST <= x <= _LARGEST, "from 1e-18 to 1e18", missing)

    def size(self, name: str, missing: Any = _MISSING) -> Any:
        """Return a number that may be 0 also."""
        return self.number(name, lambda x: x == 0 or _SMALLEST <= x <= _LARGEST, "0 or from 1e-18 to 1e18", missing)

    def share(self, name: str, missing: Any = _MISSING, *, above: bool = False) -> Any:
        """Return a number from 0 to 1, with ``above`` not 0."""
        least = _SMALLEST if above else 0
        return self.number(
            name,
            lambda x: least <= x <= 1 and (x == 0 or x >= _SMALLEST),
            f"{'more than' if above else 'from'} 0 to 1",
            missing,
        )

    def amount(self, name: str, missing: Any = _MISSING, *, ratio: bool = False) -> Any:
        """Return a number of settle units."""
        return self.number(name, lambda x: 0 <= x <= 10**12, "from 0 to 10**12", missing, ratio=ratio)

    def inner(self, name: str, *, optional: bool = False) -> _Object:
        """Return an object; one that may be missing is then without members."""
        value = self._member(name, None if optional else _MISSING, (dict,), "an object")
        return _Object({} if value is None else value, self._to(name))

    def words(self, name: str, among: tuple[str, ...]) -> list[str]:
        """Return a list of some words, each at most once."""
        found: list[str] = self._member(name, _MISSING, (list,), "a list")
        if not found or any(word not in among for word in found) or len(set(found)) < len(found):
            raise self.wrong(name, f"must be a list of {' '.join(among)}, each at most once, and not empty")
        return found

    def rows(self, name: str, missing: Any = _MISSING) -> list[_Object]:
        """Return a list of objects."""
        found = self._member(name, missing, (list,), "a list")
        return [_Object(row, f"{self._to(name)}[{at}]") for at, row in enumerate(found)]

    def check_symbols(self, name: str, known: list[str]) -> None:
        """Refuse symbols that are not among the known ones."""
        for symbol in self._member(name, None, (list,), "a list") or ():
            if symbol not in known:
                raise RunError(f"{self._to(name)}: {_shown(symbol)} is not of the venue")


def _shown(value: object) -> str:
    """Return the text of a value, cut where it is long."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    try:
        text = repr(value)
    except ValueError:  # of more digits than Python writes
        text = "a very large number"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bounded(text: str, *, ratio: bool) -> Fraction:
    """Return the fraction that a text stands for; one that is too long to compute with is no number."""
    if ratio and "/" in text:
        return Fraction(text)
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    if number.is_zero():
        return Fraction(0)
    if abs(number.adjusted()) > 1000:
        return Fraction(10 if number > 0 else -10) ** (1000 if number.adjusted() > 0 else -1000)  # out of every range
    return Fraction(number)


def read_venue(raw: object, ids: npt.NDArray[Any], providers: list[int]) -> Venue:
    """Read venue.json; `ids` are the users' ids of the accounts, `providers` the rows of those in the backstop.

    Raises
    ------
    RunError
        A member is missing, of another type or out of range.
    """
    top = _Object(raw, "")
    top.only({"settle_asset", "markets", "collateral", "borrow_lend", "policy", "backstop", "scenario_model"})
    settle = top.text("settle_asset")
    listed = top.rows("collateral")
    if settle not in [row.text("symbol") for row in listed]:
        row = {"symbol": settle, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}
        listed.append(_Object(row, f"collateral[{len(listed)}]"))
    _must_be_unique(listed)
    assets = [_read_asset(row, settle) for row in listed]
    symbols = [asset.symbol for asset in assets]
    settle_row = symbols.index(settle)
    quantum = assets[settle_row].quantum
    perpetuals, spots = _listed(top, symbols, settle)
    markets = [_read_market(row, assets, settle_row) for row in perpetuals]
    words, figures, stages = _read_policy(top.inner("policy"))
    return Venue(
        markets=markets,
        spots=[_read_spot(row, assets[asset], asset, quantum) for row, asset in spots],
        assets=assets,
        settle=settle_row,
        policy=figures,
        realize=10**9 * int(figures.get("realize_interval", 0)),
        clock=10**9 * int(figures.get("liquidation_interval", 0)),
        path=words["price_path"],
        by_quantity=words["haircut_size_unit"] == "quantity",
        providers=_check_providers(top, [market.symbol for market in markets], symbols, ids, providers),
        pools=_read_pools(top.rows("borrow_lend", []), assets),
        stages=stages,
        money=(settle_row, *sorted({market.settle for market in markets} - {settle_row})),
    )


def _must_be_unique(rows: list[_Object]) -> None:
    """Refuse a symbol that stands twice, and more rows than there may be."""
    known = set[str]()
    for row in rows:
        symbol = row.text("symbol")
        if symbol in known:
            raise row.wrong("symbol", "must not appear twice")
        known.add(symbol)
    if len(rows) > _MAX_ROWS:
        raise RunError(f"there must be at most {_MAX_ROWS} markets and as many assets")


def _listed(top: _Object, symbols: list[str], settle: str) -> tuple[list[_Object], list[tuple[_Object, int]]]:
    """Return the perpetuals, and the first spot market of each asset with the row of the asset."""
    perpetuals, spots, used = list[_Object](), dict[str, _Object](), list[_Object]()
    for row in top.rows("markets"):
        row.text("symbol")
        kind, base, quote = row.text("marketType"), row.text("baseSymbol", None), row.text("quoteSymbol", None)
        if kind in ("DATED", "IDATED", "OPTION"):
            raise row.wrong("marketType", "must be PERP, IPERP or SPOT: no run has options or dated futures")
        if kind in ("PERP", "IPERP"):
            perpetuals.append(row)
            used.append(row)
        elif kind == "SPOT" and quote == settle and base in symbols and base != settle and base not in spots:
            spots[base] = row
            used.append(row)
    if not perpetuals:
        raise RunError("markets must hold one of marketType PERP or IPERP")
    _must_be_unique(used)
    return perpetuals, [(row, symbols.index(base)) for base, row in spots.items()]


def _read_policy(policy: _Object) -> tuple[dict[str, str], dict[str, Fraction], list[str]]:
    """Return the choices of the policy, its figures without those that are null, and its stages."""
    policy.only(set(FIGURES))
    words, figures, stages = dict[str, str](), dict[str, Fraction](), list[str]()
    for name, declared in FIGURES.items():
        missing = None if declared.optional and name in policy.raw else _MISSING
        figure: Fraction | int | None
        if declared.kind in ("choice", "name"):
            among = ("separable",) if name == "margin_model" else declared.words  # the audit knows no other model
            words[name] = str(policy.text(name, among=among))
            continue
        if declared.kind == "words":
            stages = policy.words(name, declared.words)  # the only list
            continue
        if declared.kind == "count":
            figure = policy.whole(name, declared.low, int(declared.high or 0), missing)
        elif declared.kind == "amount":
            figure = policy.amount(name, missing, ratio=True)
        else:
            figure = policy.number(name, *_range(declared), missing, ratio=True)
            if figure is not None and max(figure.numerator, figure.denominator) >= 10**9:
                raise policy.wrong(name, "must be a ratio of whole numbers below 10**9")
        if figure is not None:
            figures[name] = Fraction(figure)
    if figures["adl_fund_off"] < figures["adl_fund_on"]:
        raise policy.wrong("adl_fund_off", "must be at least adl_fund_on")
    return words, figures, stages


def _range(ratio: Figure) -> tuple[Callable[[Fraction], bool], str]:
    """Return the test that the range of a ratio asks for, and its words."""
    low, high = ratio.low, 10**12 if ratio.high is None else ratio.high
    rule = f"{'more than' if ratio.above_low else 'from'} {low}"
    rule += ("" if ratio.high is None else f" to {high}") + (", without it" if ratio.below_high else "")

    def fits(figure: Fraction) -> bool:
        return (low < figure if ratio.above_low else low <= figure) and (
            figure < high if ratio.below_high else figure <= high
        )

    return fits, rule


def _check_providers(
    top: _Object, markets: list[str], assets: list[str], ids: npt.NDArray[Any], providers: list[int]
) -> list[int]:
    """Return the rows of the providers, whose entries must be those of the backstop."""
    limits, entries = ("capacity_per_min", "capacity_per_hour", "max_notional"), top.rows("backstop")
    users = dict(enumerate(ids.tolist()))
    if [users.get(row) for row in providers] != [entry.raw.get("account") for entry in entries]:
        raise RunError("its providers are not those of run.json")
    for row, entry in zip(providers, entries, strict=True):
        entry.only({"account", *limits, "markets", "assets"})
        if isinstance(entry.raw["account"], bool) or providers.count(row) > 1:
            raise entry.wrong("account", "must be an account's id, and not appear twice")
        for name in limits:
            entry.amount(name, None)
        entry.check_symbols("markets", markets)
        entry.check_symbols("assets", assets)
    return providers


def _check_bounds(row: _Object, low: str, high: str) -> None:
    """Refuse two multipliers of which the first is not less than the second."""
    one, two = row.positive(low, None), row.positive(high, None)
    if one is not None and two is not None and one >= two:
        raise row.wrong(low, f"must be less than {high}")


def _read_prices(
    row: _Object, quantum: Fraction, *, perpetual: bool, multiplier: Fraction = Fraction(1), inverse: bool = False
) -> tuple[Prices, Fraction]:
    """Return the price filter of a market and its step; a lot at one tick is worth quanta of the settle asset."""
    filters = row.inner("filters")
    price, quantity = filters.inner("price"), filters.inner("quantity")
    tick, step, highest = price.positive("tickSize"), quantity.positive("stepSize"), price.positive("maxPrice", None)
    most = _MAX_TICKS if highest is None else min(highest // tick, _MAX_TICKS)
    lot_tick_value = step * multiplier * (1 / tick if inverse else tick) / quantum
    if most < 1:
        raise price.wrong("maxPrice", "must be at least a tick")
    if max(lot_tick_value.numerator, lot_tick_value.denominator) >= _WIDE:
        raise price.wrong("tickSize", "must make a lot at one tick worth a ratio of whole numbers below 2**62 quanta")
    band, premium = price.inner("meanMarkPriceBand", optional=True), price.inner("meanPremiumBand", optional=True)
    for name in ("Impact", ""):
        _check_bounds(price, f"min{name}Multiplier", f"max{name}Multiplier")
    update: Bounds = None, None
    if perpetual:
        _check_bounds(band, "minMultiplier", "maxMultiplier")
        premium.size("tolerancePct", None)
        update = _read_update(price)
    return Prices(tick, most, update), step


def _read_update(row: _Object) -> Bounds:
    """Return the least and the largest factor of a price in a second."""
    low, high = row.positive("minPriceUpdateMultiplier", None), row.positive("maxPriceUpdateMultiplier", None)
    if (low is not None and low > 1) or (high is not None and high < 1):
        raise row.wrong("minPriceUpdateMultiplier", "must be at most 1, and maxPriceUpdateMultiplier at least 1")
    return low, high


def _read_price_guard(row: _Object) -> PriceGuard:
    update = _read_update(row)
    row.only({
        "minPriceUpdateMultiplier", "maxPriceUpdateMultiplier", "indexThreshold", "meanThreshold", "staleAfter",
    })  # fmt: skip
    index, mean = (
        row.number(name, lambda x: 0 < x < 1, "more than 0 and less than 1", None)
        for name in ("indexThreshold", "meanThreshold")
    )
    stale = row.size("staleAfter", None)
    return PriceGuard(
        update,
        None if index is None else float(index),
        None if mean is None else float(mean),
        None if stale is None else math.floor(stale * 10**9),
    )


def _read_market(row: _Object, assets: list[_Asset], venue_settle: int) -> Market:
    settle, inverse = _read_settle(row, [asset.symbol for asset in assets], venue_settle)
    multiplier = row.positive("multiplier", Fraction(1))
    quantum = assets[settle].quantum
    prices, step = _read_prices(row, quantum, perpetual=True, multiplier=multiplier, inverse=inverse)
    funding, period = None, row.whole("fundingInterval", 1, 31_536_000_000, None)
    bounds = [
        row.number(f"fundingRate{name}Bound", lambda x: abs(x) <= 10_000, "from -10000 to 10000", None)
        for name in ("Lower", "Upper")
    ]
    if None not in bounds and bounds[0] > bounds[1]:
        raise row.wrong("fundingRateLowerBound", "must not be above fundingRateUpperBound")
    if period is not None:
        low, high = (
            none if bound is None else float(bound) / 10_000
            for bound, none in zip(bounds, (-math.inf, math.inf), strict=True)
        )
        funding = Funding(period * 10**6, float(period) / 3_600_000, low, high)
    quantity = row.inner("filters").inner("quantity")
    if math.ceil((quantity.size("minQuantity", None) or 0) / step) >= _WIDE:
        raise quantity.wrong("minQuantity", "must be less than 2**62 lots")
    margin_functions = (
        _read_margin_function(row.inner("mmfFunction"), market=True),
        _read_margin_function(row.inner("imfFunction"), market=True, initial=True),
    )
    _must_not_exceed(row, *margin_functions)
    quote, symbols = row.text("quoteSymbol", None), [asset.symbol for asset in assets]
    return Market(
        symbol=row.text("symbol"),
        base=row.text("baseSymbol"),
        quote=settle if not inverse else symbols.index(quote) if quote in symbols else -1,
        settle=settle,
        inverse=inverse,
        lot=step * multiplier,
        step=step,
        margin_function=margin_functions[0],
        initial=margin_functions[1],
        prices=prices,
        funding=funding,
        takes_orders=_takes_orders(row),
    )


def _read_settle(row: _Object, symbols: list[str], venue_settle: int) -> tuple[int, bool]:
    """Return the row of the asset that a market is settled in, and whether the market is inverse."""
    inverse = row.raw["marketType"] == "IPERP"
    name = row.text("settle", None)
    if name is None:
        name = row.text("baseSymbol") if inverse else row.text("quoteSymbol", None)
        if not inverse and name in (None, "USD") and name not in symbols:
            return venue_settle, inverse
    if name not in symbols:
        raise RunError(f"{row.path}: its settle asset {_shown(name)} must be a collateral asset")
    return symbols.index(name), inverse


def in_ticks(venue: Venue, market: int, price: float) -> int:
    """Whole ticks that are nearest to a price of a market."""
    return round(exact(price) / venue.markets[market].prices.tick) if math.isfinite(price) else 0


def _takes_orders(row: _Object) -> bool:
    """Return whether a market's book is open to orders that take from it."""
    taking, not_taking = ("Open", "LimitOnly", None), ("PostOnly", "CancelOnly", "Closed")
    state = row.text("orderBookState", None)
    if state not in taking and state not in not_taking:
        raise row.wrong("orderBookState", "must be a state of a book")
    return state in taking


def _read_spot(row: _Object, asset: _Asset, number: int, quantum: Fraction) -> Spot:
    prices, step = _read_prices(row, quantum, perpetual=False)
    lot = step / asset.quantum
    if lot.denominator != 1 or lot >= _WIDE:
        raise RunError(f"{row.path}: stepSize must be a whole number of quanta, less than 2**62")
    return Spot(number, prices, _takes_orders(row))


def _read_asset(row: _Object, settle: str) -> _Asset:
    symbol, haircut = row.text("symbol"), row.inner("haircutFunction")
    kind, weight = haircut.inner("kind"), _float64(haircut.share("weight"))
    figures = (weight, weight, Fraction(0))
    if kind.text("type", among=("identity", "inverseSqrt")) == "inverseSqrt":
        figures = (weight, _float64(kind.positive("base")), _float64(kind.size("positiveCurvePenalty")))
    if row.raw.get("imfFunction") is None:
        base, factor = Fraction(1, 10 if symbol == settle else 5), Fraction(0)
        initial, plain = MarginFunction("sqrt", ((_float64(base), factor),)), True
    else:
        function = row.inner("imfFunction")
        initial, plain = _read_margin_function(function, initial=True), function.raw["type"] == "sqrt"
        base, factor = (function.size("base"), function.size("factor")) if plain else (Fraction(0), Fraction(0))
    if row.raw.get("mmfFunction") is not None:
        margin_function = _read_margin_function(row.inner("mmfFunction"))
    elif plain:
        margin_function = MarginFunction(initial.kind, ((_float64(base / 2), _float64(factor * 3 / 5)),))
    else:
        raise RunError(f"{row.path}.mmfFunction is required beside an imfFunction of another type than sqrt")
    _must_not_exceed(row, margin_function, initial)
    quantum = row.positive("quantum", Fraction(1, 10**6))
    guard = _read_price_guard(row.inner("priceGuard", optional=True))
    return _Asset(symbol, quantum, figures, margin_function, initial, guard)


def _must_not_exceed(row: _Object, maintenance: MarginFunction, initial: MarginFunction) -> None:
    """Refuse a maintenance margin above the initial one; of other measures, or above a flat one, the least ones."""
    sizes, measures = {1e-9}, {_measure(maintenance), _measure(initial)}
    if _measure(initial) not in ("any", "both") and (len(measures) == 1 or measures == {_measure(initial), "any"}):
        sizes |= {1e18, *_kinks(maintenance), *_kinks(initial)}
        for one, other in product(_formulas(maintenance), _formulas(initial)):
            sizes |= _sizes_of_equal_growth(one, other)
    for size in sorted(size for size in sizes if 1e-9 <= size <= 1e18):
        if _part_of(maintenance, size) > _part_of(initial, size) * (1 + 1e-12):
            raise row.wrong("mmfFunction", f"must not be above the initial margin, as it is at {size}")


def _measure(margin_function: MarginFunction) -> str:
    """Return the variable of a margin function; a flat one is compatible with any but open interest."""
    if margin_function.kind in ("sqrt", "quantity"):
        return (
            ("notional" if margin_function.kind == "sqrt" else "quantity") if margin_function.figures[0][1] else "any"
        )
    if margin_function.kind == "linear_quantity" and margin_function.figures[0][1]:
        return "both" if margin_function.figures[0][2] else "quantity"
    if margin_function.kind in _LINEAR:
        return "notional" if any(margin_function.figures[0][1:]) else "any"
    return "open_interest" if margin_function.kind == "open_interest" else "notional"


def _formulas(margin_function: MarginFunction) -> list[tuple[float, float, float]]:
    """Rate, slope and root of the formulas that a margin function follows, each somewhere."""
    figures = [tuple(map(float, row)) for row in margin_function.figures]
    if margin_function.kind in ("sqrt", "quantity"):
        return [(figures[0][0], 0.0, 0.0), (0.0, 0.0, figures[0][1])]
    if margin_function.kind in _LINEAR:
        return [(figures[0][0], figures[0][1], 0.0), (0.0, 0.0, 0.0)]
    return [(row[1], 0.0, 0.0) for row in figures if margin_function.kind in ("tiers", "steps")]


def _sizes_of_equal_growth(one: tuple[float, float, float], other: tuple[float, float, float]) -> set[float]:
    """Sizes at which two requirements grow alike, where their difference may be at its largest."""
    rate, slope, root = (a - b for a, b in zip(one, other, strict=True))
    # 2 slope x**2 + 1.5 root x + rate = 0 of x, the square root of the size
    if slope == 0.0:
        return {(rate / root / 1.5) ** 2} if root and rate * root < 0 else set()
    inside = (1.5 * root) ** 2 - 8 * slope * rate
    if inside < 0.0:
        return set()
    return {x * x for x in ((sign * math.sqrt(inside) - 1.5 * root) / (4 * slope) for sign in (1, -1)) if x > 0.0}


def _kinks(margin_function: MarginFunction) -> set[float]:
    """Sizes at which a margin function changes its form."""
    if margin_function.kind in ("sqrt", "quantity"):
        base, factor = margin_function.figures[0]
        return {float(base / factor) ** 2} if factor else set()
    if margin_function.kind == "open_interest":
        return {float(edge) for edge in margin_function.figures[0][1:]}
    if margin_function.kind in _LINEAR:
        rate, slope, minimum = map(float, margin_function.figures[0])
        # where the requirement outgrows its minimum: rate * x + slope * x * x
        return {2 * minimum / (rate + math.sqrt(rate * rate + 4 * slope * minimum))} if minimum else set()
    return {float(bracket[0]) for bracket in margin_function.figures[1:]}


def _part_of(margin_function: MarginFunction, size: float) -> float:
    """Return the margin of a size, or at an open interest, as a part of the notional."""
    if margin_function.kind in ("sqrt", "quantity"):
        base, factor = map(float, margin_function.figures[0])
        return max(base, factor * math.sqrt(size))
    if margin_function.kind == "open_interest":
        base, lower, upper = map(float, margin_function.figures[0])
        return base + (1 - base) * min(max((size - lower) / (upper - lower), 0.0), 1.0)
    if margin_function.kind in _LINEAR:
        rate, slope, minimum = map(float, margin_function.figures[0])
        return max(rate + slope * size, minimum / size)
    per_unit, deduction = next(row[1:] for row in reversed(margin_function.figures) if row[0] < size)
    return float(per_unit) - float(deduction) / size


def _read_margin_function(function: _Object, *, market: bool = False, initial: bool = False) -> MarginFunction:
    """Read a margin function: of a market or an asset, of the initial or the maintenance margin."""
    kinds = ("sqrt", "linear", "tiers", "open_interest") if market else ("sqrt", "linear", "tiers")
    kind = function.text("type", among=kinds)
    unit = function.text("unit", "notional", ("notional", "quantity")) if kind in ("sqrt", "linear") else None
    if kind == "linear":
        rates = _float64(function.share("base", above=True)), _float64(function.size("slope"))
        name = "linear_quantity" if unit == "quantity" else kind
        return MarginFunction(name, ((*rates, _float64(function.size("minimum", Fraction(0)))),))
    if kind == "sqrt":
        figures = _float64(function.positive("base")), _float64(function.size("factor"))
        return MarginFunction("quantity" if unit == "quantity" else kind, (figures,))
    if kind == "open_interest":
        base, lower = _float64(function.share("base", above=True)), _float64(_length(function, "lower"))
        upper = function.number("upper", lambda x: x <= _LARGEST and lower < _float64(x), "more than lower, to 1e18")
        return MarginFunction(kind, ((base, lower, _float64(upper)),))
    return _read_tiers(function, initial=initial)


def _length(row: _Object, name: str) -> Fraction:
    found: Fraction = row.number(name, lambda x: 0 <= x <= _LARGEST, "from 0 to 1e18")
    return found


def _read_tiers(function: _Object, *, initial: bool) -> MarginFunction:
    brackets, deduction, rows, whole = [], Fraction(0), function.rows("brackets"), function.flag("whole")
    if whole and not initial:
        raise function.wrong("whole", "must be false for a maintenance margin")
    given = [(_float64(_length(row, "from")), _float64(row.share("rate", above=True))) for row in rows]
    if not given or given[0][0] != 0 or any(a[0] >= b[0] or a[1] > b[1] for a, b in pairwise(given)):
        raise RunError(f"{function.path}.brackets must ascend from 0, and their rates not fall")
    last = Fraction(0)
    for start, rate in given:
        deduction += start * (rate - last)
        brackets.append((start, rate, Fraction(0) if whole else deduction))
        last = rate
    return MarginFunction("steps" if whole else "tiers", tuple(brackets))


def _read_pools(rows: list[_Object], assets: list[_Asset]) -> dict[int, Pool]:
    symbols, pools = [asset.symbol for asset in assets], {}
    _must_be_unique(rows)
    for row in rows:
        asset = symbols.index(row.text("symbol", among=tuple(symbols)))
        quantum = assets[asset].quantum
        lent, borrowed, limit = (
            None if (amount := row.size(name, missing)) is None else round(amount / quantum)
            for name, missing in (
                ("lentQuantity", Fraction(0)), ("borrowedQuantity", Fraction(0)), ("openBorrowLendLimit", None),
            )
        )  # fmt: skip
        if max(lent or 0, borrowed or 0, limit or 0) >= _WIDE:
            raise RunError(f"{row.path}: its quantities must be less than 2**62 quanta")
        pools[asset] = Pool(
            lent=lent or 0,
            borrowed=borrowed or 0,
            fee=row.share("fee", Fraction(0)),
            optimal=row.share("optimalUtilization", Fraction(9, 10), above=True),
            max_utilization=row.share("maxUtilization", Fraction(1), above=True),
            threshold=row.share("throttleUtilizationThreshold", Fraction(1), above=True),
            throttle_update=row.share("throttleUpdateFraction", Fraction(1, 10)),
            limit=limit,
            is_open=row.text("state", "Open", ("Open", "Closed", "RepayOnly")) == "Open",
        )
    return dict(sorted(pools.items()))


def _float64(value: Fraction) -> Fraction:
    """Fraction of the float64 nearest to a figure."""
    return exact(float(value))
