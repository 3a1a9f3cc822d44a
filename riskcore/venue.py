"""The venue: its markets, collateral assets, liquidation policy and backstop providers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from . import payload
from .curves import Curves, MarginFunction, Sqrt, check
from .errors import RiskDataError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_Figure = str | int | float  # text may be a decimal or a fraction

_UNBOUNDED_TICKS = 2**31
_SMALLEST = Decimal("1e-18")
_LARGEST = 2**62


class _Price(msgspec.Struct, rename="camel"):
    tick_size: Decimal
    max_price: Decimal | None = None
    max_impact_multiplier: Decimal | None = None
    min_impact_multiplier: Decimal | None = None


class _Quantity(msgspec.Struct, rename="camel"):
    step_size: Decimal
    min_quantity: Decimal | None = None


class _Filters(msgspec.Struct):
    price: _Price
    quantity: _Quantity


class _Market(msgspec.Struct, rename="camel"):
    symbol: str
    base_symbol: str
    market_type: str
    filters: _Filters
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None
    funding_interval: int | None = None
    funding_rate_upper_bound: Decimal | None = None
    funding_rate_lower_bound: Decimal | None = None


class _Listed(msgspec.Struct, rename="camel"):
    symbol: str
    market_type: str


class _HaircutKind(msgspec.Struct, rename="camel"):
    type: str
    base: Decimal | None = None
    positive_curve_penalty: Decimal | None = None


class _Haircut(msgspec.Struct):
    weight: Decimal
    kind: _HaircutKind


class _Collateral(msgspec.Struct, rename="camel"):
    symbol: str
    haircut_function: _Haircut
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None
    quantum: Decimal = Decimal("0.000001")


class _Pool(msgspec.Struct, rename="camel"):
    symbol: str
    state: str = "Open"
    lent_quantity: Decimal = Decimal(0)
    borrowed_quantity: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    optimal_utilization: Decimal = Decimal("0.9")
    max_utilization: Decimal = Decimal(1)
    throttle_utilization_threshold: Decimal = Decimal(1)
    throttle_update_fraction: Decimal = Decimal("0.1")
    open_borrow_lend_limit: Decimal | None = None


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    acmf_divisor: _Figure = 2
    acmf_offset: _Figure = "0.06"
    haircut_size_unit: str = "notional"
    slice_fraction: _Figure = "0.1"
    slices_per_tick: int = 1
    min_slice_notional: _Figure = 1000
    liquidation_fee: _Figure = "0.01"
    backstop_fund_share: _Figure = "1/3"
    fund: _Figure = 0
    realize_interval: int | None = None
    borrow_rate_base: _Figure = 0
    borrow_rate_slope: _Figure = "0.06"
    borrow_rate_jump: _Figure = 1


class _Provider(msgspec.Struct, forbid_unknown_fields=True):
    account: int | str
    capacity_per_min: Decimal | None = None
    capacity_per_hour: Decimal | None = None
    max_notional: Decimal | None = None
    markets: list[str] | None = None


class _Venue(msgspec.Struct, forbid_unknown_fields=True):
    settle_asset: str
    markets: list[_Listed]
    collateral: list[_Collateral]
    borrow_lend: list[_Pool] = msgspec.field(default_factory=list)
    policy: _Policy = msgspec.field(default_factory=_Policy)
    backstop: list[_Provider] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class Markets:
    """Perpetual futures of the venue, one row each, in the order in which the venue lists them (M rows).

    ``tick`` and ``step`` are exact; ``value_num / value_den`` is the worth of one lot at one tick in settle
    quanta. Impact multipliers are None where the venue has no price-impact band. ``funding_interval`` is in
    nanoseconds, 0 for a market without funding; its bounds are rates per interval, infinite where there are none.
    """

    symbol: tuple[str, ...]
    base_asset: Int
    tick: tuple[Fraction, ...]
    step: tuple[Fraction, ...]
    max_ticks: Int
    min_lots: Int
    value_num: Int
    value_den: Int
    min_impact: tuple[Fraction | None, ...]
    max_impact: tuple[Fraction | None, ...]
    funding_interval: Int
    funding_lower: Float
    funding_upper: Float

    @cached_property
    def tick_size(self) -> Float:
        """Price of a tick, nearest float64, shape (M,)."""
        return np.array([float(t) for t in self.tick])

    @cached_property
    def step_size(self) -> Float:
        """Quantity of a lot, nearest float64, shape (M,)."""
        return np.array([float(s) for s in self.step])

    def quantity(self, lots: Int, market: npt.NDArray[np.integer[Any]]) -> Float:
        """Quantity of a number of lots of each market, nearest float64, so that it prints as the user wrote it."""
        over = np.array([float(step.numerator) for step in self.step])
        under = np.array([float(step.denominator) for step in self.step])
        found: Float = lots * over[market] / under[market]
        return found


@dataclass(frozen=True)
class Assets:
    """Collateral assets, one row each (K rows). ``haircut_base`` is +inf for the identity haircut."""

    symbol: tuple[str, ...]
    quantum: tuple[Fraction, ...]
    weight: Float
    haircut_base: Float
    haircut_penalty: Float

    @cached_property
    def quantum_size(self) -> Float:
        """Quantity of a quantum, nearest float64, shape (K,)."""
        return np.array([float(q) for q in self.quantum])


@dataclass(frozen=True)
class Pool:
    """Borrow-lend pool of an asset: rate curve, limits, and what those outside the run lend and borrow (quanta)."""

    is_open: bool
    lent: int
    borrowed: int
    fee: Fraction
    optimal: Fraction
    highest: Fraction
    threshold: Fraction
    update: Fraction
    limit: int | None


@dataclass(frozen=True)
class Policy:
    """How the venue liquidates; figures are exact. Meanings and defaults: docs/run_folder.md."""

    acmf_divisor: Fraction
    acmf_offset: Fraction
    haircut_size_unit: str
    slice_fraction: Fraction
    slices_per_tick: int
    min_slice_notional: Fraction
    liquidation_fee: Fraction
    backstop_fund_share: Fraction
    fund: Fraction
    realize_interval: int | None
    borrow_rate_base: Fraction
    borrow_rate_slope: Fraction
    borrow_rate_jump: Fraction


@dataclass(frozen=True)
class Provider:
    """A backstop provider: its account and its limits in settle units of notional (None: no limit)."""

    account: int | str
    capacity_per_min: Fraction | None
    capacity_per_hour: Fraction | None
    max_notional: Fraction | None
    markets: frozenset[int]


@dataclass(frozen=True)
class Venue:
    """The rules of a venue, frozen and columnar. Made by `load_venue`.

    ``curves`` holds the margin functions of the markets and then of the assets; ``pools`` the borrow-lend pool of each
    asset, None where an asset has none.
    """

    settle_asset: str
    settle: int
    markets: Markets
    assets: Assets
    curves: Curves
    pools: tuple[Pool | None, ...]
    policy: Policy
    backstop: tuple[Provider, ...]
    source: dict[str, Any]

    @property
    def settle_quantum(self) -> Fraction:
        """Settle units per quantum of the settle asset."""
        return self.assets.quantum[self.settle]

    @cached_property
    def settle_quanta(self) -> tuple[Float, Float]:
        """Settle quanta that a lot of each market, and a quantum of each asset, is worth at a price of 1."""
        exact = (self.markets.step, self.assets.quantum)
        lots, quanta = (np.array([float(unit / self.settle_quantum) for unit in units]) for units in exact)
        return lots, quanta


def load_venue(source: str | Path | dict[str, Any]) -> Venue:
    """Read a venue from a JSON file or a dict.

    Parameters
    ----------
    source
        ``{"settle_asset", "markets", "collateral", "borrow_lend", "policy", "backstop"}``; market, collateral and
        borrow-lend rows in the venue's public API shape, decimals as strings or numbers. Only rows with ``marketType``
        PERP become markets. docs/run_folder.md has every key.

    Raises
    ------
    RiskDataError
        Something is missing, of another type or out of range; the message holds its path.
    """
    content = payload.raw(source, "venue")
    spec = payload.read(content, _Venue, "venue")
    if spec.settle_asset not in {c.symbol for c in spec.collateral}:
        spec.collateral.append(_Collateral(spec.settle_asset, _Haircut(Decimal(1), _HaircutKind("identity"))))
    listed = _perpetuals(content["markets"], spec.markets)
    assets = _assets(spec)
    settle = assets.symbol.index(spec.settle_asset)
    policy = _policy(spec.policy)
    markets = _markets(listed, assets, assets.quantum[settle])
    kept = {"settle_asset": spec.settle_asset, "borrow_lend": []} | {
        name: content[name] for name in ("markets", "collateral", "borrow_lend") if name in content
    }
    rest = json.loads(msgspec.json.encode({"policy": spec.policy, "backstop": spec.backstop}))
    return Venue(
        settle_asset=spec.settle_asset,
        settle=settle,
        markets=markets,
        assets=assets,
        curves=_curves(listed, spec),
        pools=_pools(spec, assets),
        policy=policy,
        backstop=_backstop(spec, markets),
        source=json.loads(msgspec.json.encode(kept | rest)),
    )


def _wrong(path: str, rule: str, value: object) -> RiskDataError:
    return RiskDataError("venue", path, rule, value=str(value))


def _figure(path: str, value: _Figure, low: int, high: int | Fraction | None, *, open_low: bool = False) -> Fraction:
    """Read a policy figure that kernels use as a ratio of whole numbers."""
    figure = _amount(path, value)
    if figure < low or (open_low and figure == low) or (high is not None and figure > high):
        edge = f"{'>' if open_low else '>='} {low}" + ("" if high is None else f" and <= {high}")
        raise _wrong(path, f"must be {edge}", value)
    if max(figure.numerator, figure.denominator) >= 10**9:
        raise _wrong(path, "must be a ratio of whole numbers below 10**9", value)
    return figure


def _policy(spec: _Policy) -> Policy:
    if spec.haircut_size_unit not in ("notional", "quantity"):
        raise _wrong("policy.haircut_size_unit", "must be 'notional' or 'quantity'", spec.haircut_size_unit)
    if spec.slices_per_tick < 1:
        raise _wrong("policy.slices_per_tick", "must be >= 1", spec.slices_per_tick)
    if spec.realize_interval is not None and not 1 <= spec.realize_interval <= 86_400:
        raise _wrong("policy.realize_interval", "must be from 1 to 86400 seconds, or null", spec.realize_interval)
    return Policy(
        acmf_divisor=_figure("policy.acmf_divisor", spec.acmf_divisor, 1, None),
        acmf_offset=_figure("policy.acmf_offset", spec.acmf_offset, 0, None),
        haircut_size_unit=spec.haircut_size_unit,
        slice_fraction=_figure("policy.slice_fraction", spec.slice_fraction, 0, 1, open_low=True),
        slices_per_tick=spec.slices_per_tick,
        min_slice_notional=_figure("policy.min_slice_notional", spec.min_slice_notional, 0, None),
        liquidation_fee=_figure("policy.liquidation_fee", spec.liquidation_fee, 0, Fraction(99, 100)),
        backstop_fund_share=_figure("policy.backstop_fund_share", spec.backstop_fund_share, 0, 1),
        fund=_amount("policy.fund", spec.fund),
        realize_interval=spec.realize_interval,
        borrow_rate_base=_figure("policy.borrow_rate_base", spec.borrow_rate_base, 0, 100),
        borrow_rate_slope=_figure("policy.borrow_rate_slope", spec.borrow_rate_slope, 0, 100),
        borrow_rate_jump=_figure("policy.borrow_rate_jump", spec.borrow_rate_jump, 0, 100),
    )


def _amount(path: str, value: _Figure | Decimal) -> Fraction:
    """Read a figure that is a decimal or a fraction and not negative."""
    try:
        amount = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise _wrong(path, "must be a decimal or a fraction", value) from None
    if not 0 <= amount <= 10**12:
        raise _wrong(path, "must be from 0 to 10**12", value)
    return amount


def _positive(path: str, value: Decimal) -> Fraction:
    if not (value.is_finite() and _SMALLEST <= value <= 1 / _SMALLEST):
        raise _wrong(path, f"must be a number from {_SMALLEST} to {1 / _SMALLEST}", value)
    return Fraction(value)


def _not_negative(path: str, value: Decimal) -> Fraction:
    return Fraction(0) if value.is_zero() else _positive(path, value)


def _part(path: str, value: Decimal, *, open_low: bool = False) -> Fraction:
    """Read a figure from 0 to 1; ``open_low``: not 0."""
    if not (value.is_finite() and (_SMALLEST if open_low else 0) <= value <= 1):
        raise _wrong(path, "must be more than 0 and at most 1" if open_low else "must be from 0 to 1", value)
    return Fraction(value)


def _curves(listed: list[tuple[int, _Market]], spec: _Venue) -> Curves:
    """Margin functions of the PERP markets and then the assets, the initial one before the maintenance one."""
    found: list[MarginFunction] = []
    for at, market in listed:
        for name, function in (("imfFunction", market.imf_function), ("mmfFunction", market.mmf_function)):
            path = f"markets[{at}].{name}"
            if function is None:
                raise RiskDataError("venue", path, "a PERP market must have it")
            found.append(check(path, function, initial=name == "imfFunction", market=True))
    for at, row in enumerate(spec.collateral):
        default = Decimal("0.10") if row.symbol == spec.settle_asset else Decimal("0.20")
        imf, mmf = row.imf_function or Sqrt(default, Decimal(0)), row.mmf_function
        check(f"collateral[{at}].imfFunction", imf, initial=True, market=False)
        if mmf is None:
            if not isinstance(imf, Sqrt):
                rule = "must stand beside an imfFunction of tiers"
                raise RiskDataError("venue", f"collateral[{at}].mmfFunction", rule)
            mmf = Sqrt(imf.base * Decimal("0.5"), imf.factor * Decimal("0.6"), imf.unit)
        found += [imf, check(f"collateral[{at}].mmfFunction", mmf, initial=False, market=False)]
    return Curves.of(found)


def _pools(spec: _Venue, assets: Assets) -> tuple[Pool | None, ...]:
    _unique("borrow_lend", [p.symbol for p in spec.borrow_lend])
    pools: list[Pool | None] = [None] * len(assets.symbol)
    for at, row in enumerate(spec.borrow_lend):
        path = f"borrow_lend[{at}]"
        if row.symbol not in assets.symbol:
            raise _wrong(f"{path}.symbol", "must be a collateral asset of the venue", row.symbol)
        if row.state not in ("Open", "Closed", "RepayOnly"):
            raise _wrong(f"{path}.state", "must be 'Open', 'Closed' or 'RepayOnly'", row.state)
        k = assets.symbol.index(row.symbol)

        def quanta(name: str, amount: Decimal, path: str = path, quantum: Fraction = assets.quantum[k]) -> int:
            found = round(_not_negative(f"{path}.{name}", amount) / quantum)
            if found >= _LARGEST:
                raise _wrong(f"{path}.{name}", "must be less than 2**62 quanta", amount)
            return found

        limit = row.open_borrow_lend_limit
        pools[k] = Pool(
            row.state == "Open",
            quanta("lentQuantity", row.lent_quantity),
            quanta("borrowedQuantity", row.borrowed_quantity),
            _part(f"{path}.fee", row.fee),
            _part(f"{path}.optimalUtilization", row.optimal_utilization, open_low=True),
            _part(f"{path}.maxUtilization", row.max_utilization, open_low=True),
            _part(f"{path}.throttleUtilizationThreshold", row.throttle_utilization_threshold, open_low=True),
            _part(f"{path}.throttleUpdateFraction", row.throttle_update_fraction),
            None if limit is None else quanta("openBorrowLendLimit", limit),
        )
    return tuple(pools)


def _perpetuals(rows: list[Any], listed: list[_Listed]) -> list[tuple[int, _Market]]:
    """PERP markets, each with its place in the venue's list; of other rows nothing else is read."""
    found = []
    for at, (row, market) in enumerate(zip(rows, listed, strict=True)):
        if market.market_type == "PERP":
            try:
                found.append((at, msgspec.convert(row, _Market)))
            except msgspec.ValidationError as error:
                text, _, path = str(error).partition(" - at `$")
                raise RiskDataError("venue", None, f"{text} - at `$.markets[{at}]{path or '`'}") from None
    return found


def _unique(path: str, symbols: list[str]) -> None:
    for row, symbol in enumerate(symbols):
        if symbol in symbols[:row]:
            raise _wrong(f"{path}[{row}].symbol", "must not stand twice", symbol)


def _assets(spec: _Venue) -> Assets:
    _unique("collateral", [c.symbol for c in spec.collateral])
    rows: list[tuple[float, ...]] = []
    quantum: list[Fraction] = []
    for at, row in enumerate(spec.collateral):
        path = f"collateral[{at}]"
        quantum.append(_positive(f"{path}.quantum", row.quantum))
        weight = row.haircut_function.weight
        if not (weight.is_finite() and 0 <= weight <= 1):
            raise _wrong(f"{path}.haircutFunction.weight", "must be from 0 to 1", weight)
        kind = row.haircut_function.kind
        base, penalty = np.inf, 0.0
        if kind.type == "inverseSqrt":
            if kind.base is None or kind.positive_curve_penalty is None:
                raise _wrong(f"{path}.haircutFunction.kind", "needs base and positiveCurvePenalty", kind.type)
            base = float(_positive(f"{path}.haircutFunction.kind.base", kind.base))
            penalty = float(
                _not_negative(f"{path}.haircutFunction.kind.positiveCurvePenalty", kind.positive_curve_penalty)
            )
        elif kind.type != "identity":
            raise _wrong(f"{path}.haircutFunction.kind.type", "must be 'identity' or 'inverseSqrt'", kind.type)
        rows.append((float(weight), base, penalty))
    column = [np.array(c) for c in zip(*rows, strict=True)]
    return Assets(tuple(c.symbol for c in spec.collateral), tuple(quantum), *column)


def _markets(listed: list[tuple[int, _Market]], assets: Assets, settle_quantum: Fraction) -> Markets:
    if not listed:
        raise RiskDataError("venue", "markets", "must hold at least one market of marketType PERP")
    _unique("markets", [m.symbol for _, m in listed])
    tick: list[Fraction] = []
    step: list[Fraction] = []
    low: list[Fraction | None] = []
    high: list[Fraction | None] = []
    rows, funding = [], []
    for at, market in listed:
        path = f"markets[{at}]"
        price, quantity = market.filters.price, market.filters.quantity
        tick.append(_positive(f"{path}.filters.price.tickSize", price.tick_size))
        step.append(_positive(f"{path}.filters.quantity.stepSize", quantity.step_size))
        max_ticks = _UNBOUNDED_TICKS
        if price.max_price is not None:
            max_ticks = int(_positive(f"{path}.filters.price.maxPrice", price.max_price) // tick[-1])
        worth = tick[-1] * step[-1] / settle_quantum
        if max(worth.numerator, worth.denominator) * max_ticks >= _LARGEST:
            raise _wrong(f"{path}.filters", "a lot at the highest price must be worth less than 2**62 quanta", worth)
        smallest = _not_negative(f"{path}.filters.quantity.minQuantity", quantity.min_quantity or Decimal(0)) / step[-1]
        if max_ticks < 1 or smallest >= _LARGEST:
            raise _wrong(
                f"{path}.filters", "maxPrice must be at least a tick, minQuantity less than 2**62 lots", smallest
            )
        rows.append((max_ticks, -int(-smallest // 1), worth.numerator, worth.denominator))
        for name, multiplier, into in (
            ("minImpactMultiplier", price.min_impact_multiplier, low),
            ("maxImpactMultiplier", price.max_impact_multiplier, high),
        ):
            into.append(None if multiplier is None else _positive(f"{path}.filters.price.{name}", multiplier))
        funding.append(_funding(path, market))
    whole = np.array(rows, np.int64).T
    interval, lower, upper = zip(*funding, strict=True)
    held = {symbol: row for row, symbol in enumerate(assets.symbol)}
    return Markets(
        symbol=tuple(m.symbol for _, m in listed),
        base_asset=np.array([held.get(m.base_symbol, -1) for _, m in listed], np.int64),
        tick=tuple(tick),
        step=tuple(step),
        max_ticks=whole[0],
        min_lots=whole[1],
        value_num=whole[2],
        value_den=whole[3],
        min_impact=tuple(low),
        max_impact=tuple(high),
        funding_interval=np.array(interval, np.int64),
        funding_lower=np.array(lower, float),
        funding_upper=np.array(upper, float),
    )


def _funding(path: str, market: _Market) -> tuple[int, float, float]:
    """Funding interval in nanoseconds (0 without funding), and the lowest and the highest rate."""
    interval = market.funding_interval
    if interval is not None and not 1 <= interval <= 31_536_000_000:
        raise _wrong(f"{path}.fundingInterval", "must be from 1 millisecond to a year", interval)
    bounds = []
    for name, bound, none in (
        ("fundingRateLowerBound", market.funding_rate_lower_bound, -np.inf),
        ("fundingRateUpperBound", market.funding_rate_upper_bound, np.inf),
    ):
        if bound is not None and not (bound.is_finite() and abs(bound) <= 10_000):
            raise _wrong(f"{path}.{name}", "must be from -10000 to 10000 basis points", bound)
        bounds.append(none if bound is None else float(bound) / 10_000)
    if bounds[0] > bounds[1]:
        raise _wrong(f"{path}.fundingRateLowerBound", "must not be above fundingRateUpperBound", bounds[0])
    return (interval or 0) * 1_000_000, bounds[0], bounds[1]


def _backstop(spec: _Venue, markets: Markets) -> tuple[Provider, ...]:
    providers: list[Provider] = []
    for at, row in enumerate(spec.backstop):
        path = f"backstop[{at}]"
        if row.account in [p.account for p in providers]:
            raise _wrong(f"{path}.account", "must not stand twice", row.account)
        limits = (
            None if limit is None else _amount(f"{path}.{name}", limit)
            for name, limit in (
                ("capacity_per_min", row.capacity_per_min),
                ("capacity_per_hour", row.capacity_per_hour),
                ("max_notional", row.max_notional),
            )
        )
        for symbol in row.markets or ():
            if symbol not in markets.symbol:
                raise _wrong(f"{path}.markets", "must be a market of the venue", symbol)
        taken = markets.symbol if row.markets is None else row.markets
        minute, hour, total = limits
        rows = frozenset(markets.symbol.index(s) for s in taken)
        providers.append(Provider(row.account, minute, hour, total, rows))
    return tuple(providers)
