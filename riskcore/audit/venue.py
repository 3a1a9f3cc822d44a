"""The venue of a run folder: markets, assets, pools, providers and the policy, in exact figures."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy.typing as npt

Bounds = tuple[Fraction | None, Fraction | None]
"""Figures that bound a price from below and from above; None: no such guard."""


class RunError(ValueError):
    """The folder holds no run that can be audited."""


def exact(value: object) -> Fraction:
    """Fraction that a number or text stands for; a float stands for its shortest decimal."""
    return Fraction(str(value))


class Curve(NamedTuple):
    """A margin function.

    Kinds: `sqrt` and `quantity` (of the tokens) with base and factor, `open_interest` with base, lower and upper,
    `tiers` with from, rate and deduction of each bracket, `steps` likewise without a deduction.
    """

    kind: str
    figures: tuple[tuple[Fraction, ...], ...]


class _Funding(NamedTuple):
    period: int  # nanoseconds
    hours: float
    lower: float
    upper: float


class Prices(NamedTuple):
    """What a market's price filter asks for."""

    tick: Fraction
    impact: Bounds
    limit: Bounds
    mean_mark: Bounds
    tolerance: Fraction | None
    update: Bounds


class Market(NamedTuple):
    """A perpetual."""

    symbol: str
    base: str
    step: Fraction
    worth: Fraction  # settle quanta of a lot at one tick
    min_lots: int
    curve: Curve  # of the maintenance margin
    initial: Curve
    prices: Prices
    funding: _Funding | None


class Spot(NamedTuple):
    """A spot market of an asset against the settle asset."""

    symbol: str
    asset: int
    step: Fraction
    lot: int  # quanta of the asset
    worth: Fraction  # settle quanta of a lot at one tick
    prices: Prices


class _Asset(NamedTuple):
    symbol: str
    quantum: Fraction
    haircut: tuple[Fraction, Fraction, Fraction]  # weight, base, penalty; the identity has no penalty
    curve: Curve  # of the maintenance margin
    initial: Curve


class Pool(NamedTuple):
    """What an asset is lent and borrowed in: amounts outside the run in quanta, and the rules."""

    lent: int
    borrowed: int
    fee: Fraction
    optimal: Fraction
    most: Fraction  # utilisation
    threshold: Fraction
    step: Fraction  # of the throttle
    limit: int | None  # quanta
    is_open: bool


class _Provider(NamedTuple):
    account: int
    limits: tuple[Fraction | float, ...]  # per minute, per hour, ever, in settle units
    markets: frozenset[int]
    assets: frozenset[int]


class Venue(NamedTuple):
    """The venue's rules, markets and assets in the order of their rows."""

    markets: list[Market]
    spots: list[Spot]
    assets: list[_Asset]
    settle: int
    policy: dict[str, Fraction]  # without those that are null
    words: dict[str, str]  # the policy's choices
    realize: int  # nanoseconds between realisations, 0 if there are none
    by_quantity: bool
    providers: list[_Provider]
    pools: dict[int, Pool]  # by asset, ascending
    steps: bool  # whether an initial margin jumps from bracket to bracket

    @property
    def quantum(self) -> Fraction:
        """Quantum of the settle asset."""
        return self.assets[self.settle].quantum

    @property
    def books(self) -> int:
        """Number of markets that may have a book."""
        return len(self.markets) + len(self.spots)

    def quanta(self, figure: str) -> int | None:
        """Whole quanta of a figure of the policy in settle units, None if the policy has none."""
        return math.floor(self.policy[figure] / self.quantum) if figure in self.policy else None


_WORDS = {
    "haircut_size_unit": ("notional", "quantity"),
    "backstop_below_zero": ("mark", "zero_price"),
    "shortfall": ("non_recourse", "unsettled", "equity", "open_interest"),
    "adl_counterparties": ("profitable", "opposing"),
    "account_order": ("mmr", "pro_rata", "random"),
    "position_order": ("relief", "largest", "pro_rata"),
    "harmful_slice": ("waive", "send", "backstop"),
}


def read_venue(raw: dict[str, Any], ids: npt.NDArray[Any], providers: list[int]) -> Venue:
    """Read venue.json; `ids` are the users' ids of the accounts, `providers` the rows of those in the backstop."""
    settle, policy = raw["settle_asset"], raw["policy"]
    listed = list(raw["collateral"])
    if settle not in [row["symbol"] for row in listed]:
        listed.append({"symbol": settle, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})
    assets = [_read_asset(row, settle) for row in listed]
    symbols = [asset.symbol for asset in assets]
    settle_row = symbols.index(settle)
    quantum = assets[settle_row].quantum
    markets = [_read_market(row, quantum) for row in raw["markets"] if row["marketType"] == "PERP"]
    rows = {market.symbol: row for row, market in enumerate(markets)}
    users = dict(enumerate(ids.tolist()))
    if [users.get(row) for row in providers] != [entry["account"] for entry in raw["backstop"]]:
        raise RunError("its providers are not those of run.json")
    if any(asset.curve.kind == "open_interest" for asset in assets):
        raise RunError("an asset has no open interest")
    for name, known in _WORDS.items():
        if policy[name] not in known:
            raise RunError(f"{name} must be one of {' '.join(known)}")
    words = {name: str(policy[name]) for name in (*_WORDS, "adl_policy")}
    figures = {name: exact(value) for name, value in policy.items() if name not in words and value is not None}
    for name in ("adl_price", "zero_price_band", "adl_cap", "counterparty_mmr"):
        if not 0 <= figures[name] <= 1 or (not figures[name] and name in ("adl_cap", "counterparty_mmr")):
            raise RunError(f"{name} must be from 0 to 1, and adl_cap and counterparty_mmr more than 0")
    limits = ("capacity_per_min", "capacity_per_hour", "max_notional")
    return Venue(
        markets,
        [
            _read_spot(row, assets[symbols.index(row["baseSymbol"])], symbols.index(row["baseSymbol"]), quantum)
            for row in raw["markets"]
            if row["marketType"] == "SPOT"
            and row["quoteSymbol"] == settle
            and row["baseSymbol"] in symbols
            and row["baseSymbol"] != settle
        ],
        assets,
        settle_row,
        figures,
        words,
        10**9 * int(figures.get("realize_interval", 0)),
        policy["haircut_size_unit"] == "quantity",
        [
            _Provider(
                row,
                tuple(math.inf if entry.get(name) is None else exact(entry[name]) for name in limits),
                frozenset(rows.values() if entry.get("markets") is None else (rows[s] for s in entry["markets"])),
                frozenset(range(len(assets)) if entry.get("assets") is None else map(symbols.index, entry["assets"])),
            )
            for row, entry in zip(providers, raw["backstop"], strict=True)
        ],
        _read_pools(raw.get("borrow_lend") or [], assets),
        any(curve.kind == "steps" for curve in [row.initial for row in markets] + [row.initial for row in assets]),
    )


def _read_prices(filters: dict[str, Any]) -> Prices:
    def bounds(row: dict[str, Any], low: str, high: str) -> Bounds:
        one, two = (None if row.get(name) is None else exact(row[name]) for name in (low, high))
        return one, two

    tolerance = (filters.get("meanPremiumBand") or {}).get("tolerancePct")
    return Prices(
        exact(filters["tickSize"]),
        bounds(filters, "minImpactMultiplier", "maxImpactMultiplier"),
        bounds(filters, "minMultiplier", "maxMultiplier"),
        bounds(filters.get("meanMarkPriceBand") or {}, "minMultiplier", "maxMultiplier"),
        None if tolerance is None else exact(tolerance),
        bounds(filters, "minPriceUpdateMultiplier", "maxPriceUpdateMultiplier"),
    )


def _read_market(row: dict[str, Any], quantum: Fraction) -> Market:
    prices, quantity = _read_prices(row["filters"]["price"]), row["filters"]["quantity"]
    step = exact(quantity["stepSize"])
    funding, period = None, row.get("fundingInterval")
    if period:
        low_rate, high_rate = (row.get(f"fundingRate{name}Bound") for name in ("Lower", "Upper"))
        funding = _Funding(
            int(exact(period) * 10**6), float(exact(period)) / 3_600_000,
            -math.inf if low_rate is None else float(exact(low_rate)) / 10_000,
            math.inf if high_rate is None else float(exact(high_rate)) / 10_000,
        )  # fmt: skip
    least = math.ceil(exact(quantity.get("minQuantity") or 0) / step)
    curves = _read_curve(row["mmfFunction"]), _read_curve(row["imfFunction"])
    return Market(row["symbol"], row["baseSymbol"], step, prices.tick * step / quantum, least, *curves, prices, funding)


def _read_spot(row: dict[str, Any], asset: _Asset, number: int, quantum: Fraction) -> Spot:
    prices, step = _read_prices(row["filters"]["price"]), exact(row["filters"]["quantity"]["stepSize"])
    if (step / asset.quantum).denominator != 1:
        raise RunError(f"{row['symbol']}: stepSize must be a whole number of quanta")
    return Spot(row["symbol"], number, step, int(step / asset.quantum), prices.tick * step / quantum, prices)


def _read_asset(row: dict[str, Any], settle: str) -> _Asset:
    function = row.get("mmfFunction")
    initial = row.get("imfFunction") or {"base": "0.10" if row["symbol"] == settle else "0.20", "factor": "0"}
    if not function:
        function = initial | {"base": exact(initial["base"]) / 2, "factor": exact(initial["factor"]) * 3 / 5}
    kind, weight = row["haircutFunction"]["kind"], _float64(row["haircutFunction"]["weight"])
    haircut = (weight, weight, Fraction(0))
    if kind["type"] == "inverseSqrt":
        haircut = (weight, _float64(kind["base"]), _float64(kind["positiveCurvePenalty"]))
    curves = _read_curve(function), _read_curve(initial)
    return _Asset(row["symbol"], exact(row.get("quantum") or "0.000001"), haircut, *curves)


def _read_curve(function: dict[str, Any]) -> Curve:
    kind = function.get("type") or "sqrt"
    if kind == "sqrt":
        kind = "quantity" if function.get("unit") == "quantity" else kind
        return Curve(kind, ((_float64(function["base"]), _float64(function["factor"])),))
    if kind == "open_interest":
        base, lower, upper = (_float64(function[name]) for name in ("base", "lower", "upper"))
        if not lower < upper:
            raise RunError("open_interest: lower must be less than upper")
        return Curve(kind, ((base, lower, upper),))
    if kind != "tiers":
        raise RunError(f"{kind} is no margin function")
    brackets, deduction, last = [], Fraction(0), None
    for bracket in function["brackets"]:
        start, rate = _float64(bracket["from"]), _float64(bracket["rate"])
        deduction += start * (rate - last) if last is not None else 0
        brackets.append((start, rate, deduction))
        last = rate
    if not brackets or any(one[0] >= two[0] for one, two in pairwise(brackets)):
        raise RunError("tiers: brackets must ascend")
    if function.get("whole"):
        return Curve("steps", tuple((start, rate, Fraction(0)) for start, rate, _ in brackets))
    return Curve(kind, tuple(brackets))


def _read_pools(rows: list[dict[str, Any]], assets: list[_Asset]) -> dict[int, Pool]:
    symbols, pools = [asset.symbol for asset in assets], {}
    for row in rows:
        asset = symbols.index(row["symbol"])

        def figure(name: str, missing: str = "0", row: dict[str, Any] = row) -> Fraction:
            return exact(missing if row.get(name) is None else row[name])

        quantum, limit = assets[asset].quantum, row.get("openBorrowLendLimit")
        pools[asset] = Pool(
            round(figure("lentQuantity") / quantum), round(figure("borrowedQuantity") / quantum),
            figure("fee"), figure("optimalUtilization", "0.9"), figure("maxUtilization", "1"),
            figure("throttleUtilizationThreshold", "1"), figure("throttleUpdateFraction", "0.1"),
            None if limit is None else round(exact(limit) / quantum), row.get("state", "Open") == "Open",
        )  # fmt: skip
    return dict(sorted(pools.items()))


def _float64(value: object) -> Fraction:
    """Fraction of the float64 nearest to a figure."""
    return exact(float(exact(value)))
