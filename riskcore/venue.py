"""The venue: its markets, collateral assets, liquidation policy and backstop providers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from math import ceil, floor, inf
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from . import payload
from .curves import Curves, MarginFunction, Sqrt, check, check_order
from .deleveraging import POLICIES
from .errors import RiskDataError
from .shown import text_of

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_Figure = str | int | float  # text may be a decimal or a fraction

_MOST_TICKS = 10**13
"""Of a price, whatever maxPrice a market has: what the guards sample, and sums of 300 seconds fit 64 bits."""
MOST_LOTS_IN_MARKET = 2**61 - 1
"""Of all positions, or of all orders, of all accounts in a market."""
_SMALLEST = Decimal("1e-18")
_LARGEST = 2**62
_MOST_ROWS = 2**16 - 2  # two bytes say which market or asset, or none


class _MarkBand(msgspec.Struct, rename="camel"):
    min_multiplier: Decimal | None = None
    max_multiplier: Decimal | None = None


class _PremiumBand(msgspec.Struct, rename="camel"):
    tolerance_pct: Decimal | None = None


class _Price(msgspec.Struct, rename="camel"):
    tick_size: Decimal
    max_price: Decimal | None = None
    min_impact_multiplier: Decimal | None = None
    max_impact_multiplier: Decimal | None = None
    min_multiplier: Decimal | None = None
    max_multiplier: Decimal | None = None
    mean_mark_price_band: _MarkBand | None = None
    mean_premium_band: _PremiumBand | None = None
    min_price_update_multiplier: Decimal | None = None
    max_price_update_multiplier: Decimal | None = None


class _Quantity(msgspec.Struct, rename="camel"):
    step_size: Decimal
    min_quantity: Decimal | None = None


class _Filters(msgspec.Struct):
    price: _Price
    quantity: _Quantity


class _Spot(msgspec.Struct, rename="camel"):
    symbol: str
    base_symbol: str
    filters: _Filters
    order_book_state: str | None = None


class _Market(_Spot, rename="camel"):
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None
    funding_interval: int | None = None
    funding_rate_upper_bound: Decimal | None = None
    funding_rate_lower_bound: Decimal | None = None


class _Listed(msgspec.Struct, rename="camel"):
    symbol: str
    market_type: str
    base_symbol: str | None = None
    quote_symbol: str | None = None


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
    backstop_below_zero: str = "mark"
    fund: _Figure = 0
    shortfall: str = "non_recourse"
    adl_policy: str = "pnl_leverage"
    adl_price: _Figure = 0
    adl_counterparties: str = "profitable"
    adl_cap: _Figure = 1
    zero_price_band: _Figure = 1
    counterparty_mmr: _Figure = 1
    slice_probability: _Figure = "0.5"
    slice_cooldown: _Figure | None = None
    target_mmr: _Figure = 1
    depth_share: _Figure = 1
    slippage_limit: _Figure | None = None
    market_cap: _Figure | None = None
    account_cap: _Figure | None = None
    account_cap_interval: int = 60
    account_order: str = "mmr"
    position_order: str = "relief"
    harmful_slice: str = "waive"
    waived_fee_share: _Figure = "0.5"
    conversion_slippage: _Figure = "0.01"
    conversion_limit: _Figure | None = None
    mark_index_threshold: _Figure = "0.05"
    stale_after: _Figure = 60
    refill_half_life: _Figure | None = None
    realize_interval: int | None = None
    largest_gap: _Figure | None = 86_400
    borrow_rate_base: _Figure = 0
    borrow_rate_slope: _Figure = "0.06"
    borrow_rate_jump: _Figure = 1


class _Provider(msgspec.Struct, forbid_unknown_fields=True):
    account: int | str
    capacity_per_min: Decimal | None = None
    capacity_per_hour: Decimal | None = None
    max_notional: Decimal | None = None
    markets: list[str] | None = None
    assets: list[str] | None = None


class _Venue(msgspec.Struct, forbid_unknown_fields=True):
    settle_asset: str
    markets: list[_Listed]
    collateral: list[_Collateral]
    borrow_lend: list[_Pool] = msgspec.field(default_factory=list)
    policy: _Policy = msgspec.field(default_factory=_Policy)
    backstop: list[_Provider] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """What is traded on a book, one row each.

    ``tick`` and ``step`` are exact; ``value_num / value_den`` is the worth of one lot at one tick in settle
    quanta; ``max_ticks`` those of maxPrice, and at most 10**13. Multipliers of the price-impact band and of the
    limit-price band are None where the venue has none. ``takes_orders`` is False where nobody can take from the book.
    """

    symbol: tuple[str, ...]
    tick: tuple[Fraction, ...]
    step: tuple[Fraction, ...]
    max_ticks: Int
    value_num: Int
    value_den: Int
    min_impact: tuple[Fraction | None, ...]
    max_impact: tuple[Fraction | None, ...]
    min_multiplier: tuple[Fraction | None, ...]
    max_multiplier: tuple[Fraction | None, ...]
    takes_orders: npt.NDArray[np.bool_]

    @cached_property
    def tick_size(self) -> Float:
        """Price of a tick, nearest float64, one per row."""
        return np.array([float(t) for t in self.tick])

    @cached_property
    def step_size(self) -> Float:
        """Quantity of a lot, nearest float64, one per row."""
        return np.array([float(s) for s in self.step])

    @cached_property
    def max_price(self) -> Float:
        """Highest price, nearest float64, one per row."""
        return np.asarray(self.max_ticks * self.tick_size)

    def too_high(self, row: int) -> str:
        """Rule that a price above the highest of a row breaks."""
        if self.max_ticks[row] < _MOST_TICKS:
            return "must be at most the market's maxPrice"
        highest = np.format_float_positional(self.max_price[row], trim="-")
        return f"must be at most {highest}, 10**13 ticks of the market's tickSize: it has no lower maxPrice"

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each symbol."""
        return {symbol: row for row, symbol in enumerate(self.symbol)}


@dataclass(frozen=True)
class Markets(Listing):
    """Perpetual futures of the venue, one row each, in the order in which the venue lists them (M rows).

    ``mean_mark_low`` and ``mean_mark_high`` are the multipliers of the mean-mark band and ``premium_tolerance`` that of
    the mean-premium band, None where there is none; ``min_update`` and ``max_update`` the most that a print may move by
    in a second, NaN where anything goes. ``funding_interval`` is in nanoseconds, 0 for a market without funding; its
    bounds are rates per interval, infinite where there are none.
    """

    base_asset: Int
    min_lots: Int
    mean_mark_low: tuple[Fraction | None, ...]
    mean_mark_high: tuple[Fraction | None, ...]
    premium_tolerance: tuple[Fraction | None, ...]
    min_update: Float
    max_update: Float
    funding_interval: Int
    funding_lower: Float
    funding_upper: Float

    @cached_property
    def most_lots(self) -> Int:
        """Most lots of a position in each market, shape (M,): worth less than 2**60 quanta at maxPrice."""
        rows = zip(self.max_ticks.tolist(), self.value_num.tolist(), self.value_den.tolist(), strict=True)
        most = (
            (2**60 * den - 1) // (ticks * num) if ticks < _MOST_TICKS else MOST_LOTS_IN_MARKET
            for ticks, num, den in rows
        )
        return np.array([min(lots, MOST_LOTS_IN_MARKET) for lots in most], np.int64)

    @cached_property
    def funding_periods(self) -> tuple[int, ...]:
        """Funding intervals that some market has."""
        return tuple(sorted(set(self.funding_interval.tolist()) - {0}))

    def quantity(self, lots: Int, market: npt.NDArray[np.integer[Any]]) -> Float:
        """Quantity of a number of lots of each market, nearest float64, so that it prints as the user wrote it."""
        over = np.array([float(step.numerator) for step in self.step])
        under = np.array([float(step.denominator) for step in self.step])
        found: Float = lots * over[market] / under[market]
        return found


@dataclass(frozen=True)
class Spots(Listing):
    """Spot markets of collateral assets against the settle asset, the first that the venue lists of each (S rows).

    ``asset`` is the row of what is traded; ``lot_quanta`` its quanta per lot.
    """

    asset: Int
    lot_quanta: Int


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

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each symbol."""
        return {symbol: row for row, symbol in enumerate(self.symbol)}


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
    backstop_below_zero: str
    fund: Fraction
    shortfall: str
    adl_policy: str
    adl_price: Fraction
    adl_counterparties: str
    adl_cap: Fraction
    zero_price_band: Fraction
    counterparty_mmr: Fraction
    slice_probability: Fraction
    slice_cooldown: Fraction | None
    target_mmr: Fraction
    depth_share: Fraction
    slippage_limit: Fraction | None
    market_cap: Fraction | None
    account_cap: Fraction | None
    account_cap_interval: int
    account_order: str
    position_order: str
    harmful_slice: str
    waived_fee_share: Fraction
    conversion_slippage: Fraction
    conversion_limit: Fraction | None
    mark_index_threshold: Fraction
    stale_after: Fraction
    refill_half_life: Fraction | None
    realize_interval: int | None
    largest_gap: Fraction | None
    borrow_rate_base: Fraction
    borrow_rate_slope: Fraction
    borrow_rate_jump: Fraction

    @cached_property
    def stale_nanoseconds(self) -> int:
        """Age past which a book, a basis and a mark used before are too old."""
        return floor(self.stale_after * 10**9)

    @cached_property
    def most_nanoseconds(self) -> float:
        """Longest time from a tick to the next, infinite where any is taken."""
        return inf if self.largest_gap is None else floor(self.largest_gap * 10**9)

    @cached_property
    def clamp(self) -> float:
        """``mark_index_threshold``, nearest float64."""
        return float(self.mark_index_threshold)


@dataclass(frozen=True)
class Provider:
    """A backstop provider: its account, its limits in settle units of notional (None: no limit), and what it takes."""

    account: int | str
    capacity_per_min: Fraction | None
    capacity_per_hour: Fraction | None
    max_notional: Fraction | None
    markets: frozenset[int]
    assets: frozenset[int]


@dataclass(frozen=True)
class Units:
    """What the whole numbers of accounts stand for: rows of markets and assets, lots, ticks and quanta.

    Whoever takes accounts and a venue holds one against the other by `Units.must_fit`; its margin functions, policy
    and pools are free to differ.
    """

    settle_asset: str
    markets: tuple[str, ...]
    steps: tuple[Fraction, ...]
    ticks: tuple[Fraction, ...]
    highest: tuple[int, ...]
    assets: tuple[str, ...]
    quanta: tuple[Fraction, ...]

    @classmethod
    def of(cls, settle_asset: str, markets: Listing, assets: Assets) -> Units:
        """Units of such markets and assets."""
        return cls(
            settle_asset, markets.symbol, markets.step, markets.tick, tuple(markets.max_ticks.tolist()),
            assets.symbol, assets.quantum,
        )  # fmt: skip

    @cached_property
    def digest(self) -> bytes:
        """What units that are the same have in common, quick to compare."""
        return sha256(repr([getattr(self, field.name) for field in fields(self)]).encode()).digest()

    def must_fit(self, venue: Units, what: str = "accounts") -> None:
        """Refuse the units of a venue that are not these, in which ``what`` was read.

        Raises
        ------
        RiskDataError
            The message names the first difference.
        """
        if self is venue or self.digest == venue.digest:
            return
        rule = f"must be as in the venue that the {what} were read with ({{}}): read them with this venue"
        if self.settle_asset != venue.settle_asset:
            raise _wrong("settle_asset", rule.format(self.settle_asset), venue.settle_asset)
        for name, mine, other in (("markets", self.markets, venue.markets), ("collateral", self.assets, venue.assets)):
            for at, (before, now) in enumerate(zip_longest(mine, other, fillvalue="none")):
                if before != now:
                    raise RiskDataError("venue", f"{name}.symbol", rule.format(before), row=at, value=now)
        units: tuple[tuple[str, tuple[str, ...], Sequence[Fraction | int], Sequence[Fraction | int]], ...] = (
            ("stepSize", self.markets, self.steps, venue.steps),
            ("tickSize", self.markets, self.ticks, venue.ticks),
            ("maxPrice in ticks", self.markets, self.highest, venue.highest),
            ("quantum", self.assets, self.quanta, venue.quanta),
        )
        for name, symbols, own, given in units:
            for symbol, unit, other_unit in zip(symbols, own, given, strict=True):
                if unit != other_unit:
                    raise RiskDataError("venue", name, rule.format(_plain(unit)), row=symbol, value=_plain(other_unit))


@dataclass(frozen=True)
class Venue:
    """The rules of a venue, frozen and columnar. Made by `load_venue`.

    ``curves`` holds the margin functions of the markets and then of the assets; ``pools`` the borrow-lend pool of each
    asset, None where an asset has none.
    """

    settle_asset: str
    settle: int
    markets: Markets
    spots: Spots
    assets: Assets
    curves: Curves
    pools: tuple[Pool | None, ...]
    policy: Policy
    backstop: tuple[Provider, ...]
    source: dict[str, Any]

    @cached_property
    def units(self) -> Units:
        """What whole numbers of accounts that are read with this venue stand for."""
        return Units.of(self.settle_asset, self.markets, self.assets)

    @cached_property
    def book_units(self) -> Units:
        """The same of order books, which spot markets have as well."""
        return Units.of(self.settle_asset, self.listing, self.assets)

    @property
    def settle_quantum(self) -> Fraction:
        """Settle units per quantum of the settle asset."""
        return self.assets.quantum[self.settle]

    @cached_property
    def listing(self) -> Listing:
        """Rows of everything that has a book: the markets, and then the spot markets (B = M + S rows)."""
        parts = (self.markets, self.spots)
        columns: dict[str, Any] = {}
        for column in fields(Listing):
            first, second = (getattr(part, column.name) for part in parts)
            columns[column.name] = first + second if isinstance(first, tuple) else np.concatenate([first, second])
        return Listing(**columns)

    @property
    def book_symbols(self) -> tuple[str, ...]:
        """Symbols of everything that has a book, by book row."""
        return self.listing.symbol

    @cached_property
    def folded_curves(self) -> tuple[Float, Float, Float, Float, Float] | None:
        """What `Curves.folded` gives at any prices; None if it depends on them."""
        if self.curves.by_quantity.any() or self.curves.open_interest_markets:
            return None
        price = np.ones(len(self.curves.base) // 2)
        return self.curves.folded(price, lambda market: Fraction(0), float(self.settle_quantum))

    @cached_property
    def tiers(self) -> tuple[Float, Float]:
        """Brackets of markets after the first, as `riskcore.kernels.columns.PriceRows` has them."""
        return self._tiers(0, len(self.markets.symbol))

    @cached_property
    def borrow_tiers(self) -> tuple[Float, Float]:
        """The same of borrows."""
        return self._tiers(len(self.markets.symbol), len(self.curves.base) // 2)

    def _tiers(self, first: int, last: int) -> tuple[Float, Float]:
        """Brackets after the first of initial and of maintenance margin, from +inf where there is none."""
        curves, unit = self.curves, float(self.settle_quantum)
        start = curves.bracket_offset[2 * first : 2 * last + 1]
        tables = np.zeros((2, max(int(np.diff(start).max(initial=1)) - 1, 0), last - first + 1, 4))
        tables[..., 0] = np.inf
        for c in np.flatnonzero(np.diff(start) > 1).tolist():
            rows = slice(start[c] + 1, start[c + 1])
            figures = curves.bracket_from[rows] / unit, curves.bracket_rate[rows], curves.bracket_deduction[rows] / unit
            tables[c % 2, : len(figures[0]), c // 2, :3] = np.transpose(figures)
        return tables[0], tables[1]

    @cached_property
    def settle_quanta(self) -> tuple[Float, Float]:
        """Settle quanta that a lot of each market, and a quantum of each asset, is worth at a price of 1."""
        exact = (self.markets.step, self.assets.quantum)
        lots, quanta = (np.array([float(unit / self.settle_quantum) for unit in units]) for units in exact)
        return lots, quanta


def must_be_venue(venue: object) -> None:
    """Refuse what is no venue.

    Raises
    ------
    RiskDataError
    """
    if not isinstance(venue, Venue):
        raise RiskDataError("venue", None, f"must be a Venue, not {type(venue).__name__}")


def load_venue(source: str | Path | dict[str, Any], *, any_adl_policy: bool = False) -> Venue:
    """Read a venue from a JSON file or a dict.

    Parameters
    ----------
    source
        ``{"settle_asset", "markets", "collateral", "borrow_lend", "policy", "backstop"}``; market, collateral and
        borrow-lend rows in the venue's public API shape, decimals as strings or numbers. Only rows with ``marketType``
        PERP become markets; a row SPOT of a collateral asset against the settle asset gives the book that it is
        converted on. docs/run_folder.md has every key.
    any_adl_policy
        Take an ``adl_policy`` that is not registered, as of a run that somebody else made; no engine runs on it.

    Raises
    ------
    RiskDataError
        Something is missing, of another type or out of range; the message holds its path.
    """
    content = payload.raw(source, "venue")
    spec = payload.read(content, _Venue, "venue")
    if spec.settle_asset not in {c.symbol for c in spec.collateral}:
        spec.collateral.append(_Collateral(spec.settle_asset, _Haircut(Decimal(1), _HaircutKind("identity"))))
    assets = _assets(spec)
    listed, listed_spots = _listed(content["markets"], spec)
    settle = assets.symbol.index(spec.settle_asset)
    policy = _policy(spec.policy)
    if not any_adl_policy:
        check_adl_policy(policy)
    _unique("markets", listed + listed_spots)
    for name, rows in (("markets", listed), ("collateral", spec.collateral)):
        if len(rows) > _MOST_ROWS:
            raise _wrong(name, f"must have at most {_MOST_ROWS} rows", len(rows))
    if policy.fund / assets.quantum[settle] >= _LARGEST:
        raise _wrong("policy.fund", "must be less than 2**62 quanta of the settle asset", policy.fund)
    markets = _markets(listed, assets, assets.quantum[settle])
    kept = {"settle_asset": spec.settle_asset, "borrow_lend": []} | {
        name: content[name] for name in ("markets", "collateral", "borrow_lend") if name in content
    }
    rest = json.loads(msgspec.json.encode({"policy": spec.policy, "backstop": spec.backstop}))
    return Venue(
        settle_asset=spec.settle_asset,
        settle=settle,
        markets=markets,
        spots=_spots(listed_spots, assets, assets.quantum[settle]),
        assets=assets,
        curves=_curves(listed, spec),
        pools=_pools(spec, assets),
        policy=policy,
        backstop=_backstop(spec, markets, assets),
        source=json.loads(msgspec.json.encode(kept | rest)),
    )


def _plain(value: Fraction | int) -> str:
    """Text of an exact figure, as a decimal."""
    return np.format_float_positional(float(value), trim="-")


def _wrong(path: str, rule: str, value: object) -> RiskDataError:
    return RiskDataError("venue", path, rule, value=text_of(value))


def _figure(
    path: str,
    value: _Figure,
    low: int,
    high: int | Fraction | None,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Fraction:
    """Read a policy figure that kernels use as a ratio of whole numbers."""
    figure = _amount(path, value)
    above = high is not None and (figure > high or (open_high and figure == high))
    if figure < low or (open_low and figure == low) or above:
        edge = f"{'>' if open_low else '>='} {low}"
        if high is not None:
            edge += f" and {'<' if open_high else '<='} {high}"
        raise _wrong(path, f"must be {edge}", value)
    if max(figure.numerator, figure.denominator) >= 10**9:
        raise _wrong(path, "must be a ratio of whole numbers below 10**9", value)
    return figure


_CHOICES = {
    "haircut_size_unit": ("notional", "quantity"),
    "backstop_below_zero": ("mark", "zero_price"),
    "shortfall": ("non_recourse", "unsettled", "equity", "open_interest"),
    "adl_counterparties": ("profitable", "opposing"),
    "account_order": ("mmr", "pro_rata", "random"),
    "position_order": ("relief", "largest", "pro_rata"),
    "harmful_slice": ("waive", "send", "backstop"),
}


def check_adl_policy(policy: Policy) -> None:
    """Refuse a policy whose ADL policy is not registered.

    Raises
    ------
    RiskDataError
    """
    _chosen("adl_policy", policy.adl_policy, tuple(POLICIES))


def _chosen(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        *most, last = (repr(word) for word in words)
        raise _wrong(f"policy.{name}", f"must be {', '.join(most)} or {last}", value)


def _policy(spec: _Policy) -> Policy:
    for name, words in _CHOICES.items():
        _chosen(name, getattr(spec, name), words)
    if not 1 <= spec.slices_per_tick <= 3600:
        raise _wrong("policy.slices_per_tick", "must be from 1 to 3600", spec.slices_per_tick)
    if spec.realize_interval is not None and not 1 <= spec.realize_interval <= 86_400:
        raise _wrong("policy.realize_interval", "must be from 1 to 86400 seconds, or null", spec.realize_interval)
    if not 1 <= spec.account_cap_interval <= 86_400:
        raise _wrong("policy.account_cap_interval", "must be from 1 to 86400 seconds", spec.account_cap_interval)

    def figure(
        name: str, low: int, high: int | Fraction | None, *, above: bool = False, below: bool = False
    ) -> Fraction:
        return _figure(f"policy.{name}", getattr(spec, name), low, high, open_low=above, open_high=below)

    def amount_if_given(name: str) -> Fraction | None:
        value = getattr(spec, name)
        return None if value is None else _amount(f"policy.{name}", value)

    return Policy(
        acmf_divisor=figure("acmf_divisor", 1, None),
        acmf_offset=figure("acmf_offset", 0, None),
        haircut_size_unit=spec.haircut_size_unit,
        slice_fraction=figure("slice_fraction", 0, 1, above=True),
        slices_per_tick=spec.slices_per_tick,
        min_slice_notional=figure("min_slice_notional", 0, None),
        liquidation_fee=figure("liquidation_fee", 0, Fraction(99, 100)),
        backstop_fund_share=figure("backstop_fund_share", 0, 1),
        backstop_below_zero=spec.backstop_below_zero,
        fund=_amount("policy.fund", spec.fund),
        shortfall=spec.shortfall,
        adl_policy=spec.adl_policy,
        adl_price=figure("adl_price", 0, 1),
        adl_counterparties=spec.adl_counterparties,
        adl_cap=figure("adl_cap", 0, 1, above=True),
        zero_price_band=figure("zero_price_band", 0, 1),
        counterparty_mmr=figure("counterparty_mmr", 0, 1, above=True),
        slice_probability=figure("slice_probability", 0, 1, above=True),
        slice_cooldown=None if spec.slice_cooldown is None else figure("slice_cooldown", 0, None, above=True),
        target_mmr=figure("target_mmr", 0, 1, above=True),
        depth_share=figure("depth_share", 0, 1, above=True),
        slippage_limit=None
        if spec.slippage_limit is None
        else figure("slippage_limit", 0, 10**4, above=True, below=True),
        market_cap=amount_if_given("market_cap"),
        account_cap=amount_if_given("account_cap"),
        account_cap_interval=spec.account_cap_interval,
        account_order=spec.account_order,
        position_order=spec.position_order,
        harmful_slice=spec.harmful_slice,
        waived_fee_share=figure("waived_fee_share", 0, 1),
        conversion_slippage=figure("conversion_slippage", 0, 1),
        conversion_limit=amount_if_given("conversion_limit"),
        mark_index_threshold=figure("mark_index_threshold", 0, 1, below=True),
        stale_after=figure("stale_after", 0, None),
        refill_half_life=None if spec.refill_half_life is None else figure("refill_half_life", 0, None, above=True),
        realize_interval=spec.realize_interval,
        largest_gap=None if spec.largest_gap is None else figure("largest_gap", 0, None, above=True),
        borrow_rate_base=figure("borrow_rate_base", 0, 100),
        borrow_rate_slope=figure("borrow_rate_slope", 0, 100),
        borrow_rate_jump=figure("borrow_rate_jump", 0, 100),
    )


def _amount(path: str, value: _Figure | Decimal) -> Fraction:
    """Read a figure that is a decimal or a fraction and not negative."""
    text = str(value)
    try:
        if "/" in text:
            amount = Fraction(text)
        else:
            decimal = Decimal(text)
            if not decimal.is_finite():
                raise ValueError
            if not decimal.is_zero() and decimal.adjusted() < -30:  # no digits are written out before the size is known
                raise _wrong(path, "must be 0 or at least 1e-30", value)
            amount = Fraction(-1 if decimal.adjusted() > 30 else decimal)
    except RiskDataError:
        raise
    except (ArithmeticError, ValueError):
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
    if not value.is_zero() and value < _SMALLEST:
        raise _wrong(path, f"must be 0 or at least {_SMALLEST}", value)
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
        check_order(path, *found[-2:])
    for at, row in enumerate(spec.collateral):
        default = Decimal("0.10") if row.symbol == spec.settle_asset else Decimal("0.20")
        imf, mmf = row.imf_function or Sqrt(default, Decimal(0)), row.mmf_function
        check(f"collateral[{at}].imfFunction", imf, initial=True, market=False)
        if mmf is None:
            if not isinstance(imf, Sqrt):
                rule = "must stand beside an imfFunction of tiers"
                raise RiskDataError("venue", f"collateral[{at}].mmfFunction", rule)
            mmf = Sqrt(imf.base * Decimal("0.5"), imf.factor * Decimal("0.6"), imf.unit)
        path = f"collateral[{at}].mmfFunction"
        found += [imf, check(path, mmf, initial=False, market=False)]
        check_order(path, imf, mmf)
    return Curves.of(found)


def _pools(spec: _Venue, assets: Assets) -> tuple[Pool | None, ...]:
    _unique("borrow_lend", list(enumerate(spec.borrow_lend)))
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


def _listed(rows: list[Any], spec: _Venue) -> tuple[list[tuple[int, _Market]], list[tuple[int, _Spot]]]:
    """PERP markets, and the first SPOT market of each collateral asset, each with its place in the venue's list.

    Of other rows nothing else is read.
    """
    markets: list[tuple[int, _Market]] = []
    spots: dict[str, tuple[int, _Spot]] = {}
    convertible = {c.symbol for c in spec.collateral} - {spec.settle_asset}
    for at, (row, market) in enumerate(zip(rows, spec.markets, strict=True)):
        base = market.base_symbol
        try:
            if market.market_type == "PERP":
                markets.append((at, msgspec.convert(row, _Market)))
            elif market.market_type == "SPOT" and market.quote_symbol == spec.settle_asset and base in convertible:
                spots.setdefault(base, (at, msgspec.convert(row, _Spot)))
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            raise RiskDataError("venue", None, f"{text} - at `$.markets[{at}]{path or '`'}") from None
    if not markets:
        raise RiskDataError("venue", "markets", "must hold at least one market of marketType PERP")
    return markets, list(spots.values())


def _unique(path: str, rows: list[tuple[int, Any]]) -> None:
    known = set()
    for at, row in sorted(rows, key=itemgetter(0)):
        if row.symbol in known:
            raise _wrong(f"{path}[{at}].symbol", "must not stand twice", row.symbol)
        known.add(row.symbol)


def _assets(spec: _Venue) -> Assets:
    _unique("collateral", list(enumerate(spec.collateral)))
    rows: list[tuple[float, ...]] = []
    quantum: list[Fraction] = []
    for at, row in enumerate(spec.collateral):
        path = f"collateral[{at}]"
        quantum.append(_positive(f"{path}.quantum", row.quantum))
        weight = row.haircut_function.weight
        _part(f"{path}.haircutFunction.weight", weight)
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


def _listing(listed: Sequence[tuple[int, _Spot]], settle_quantum: Fraction) -> dict[str, Any]:
    """Columns of a `Listing`."""
    tick: list[Fraction] = []
    step: list[Fraction] = []
    impact, limit, rows, takes_orders = [], [], [], []
    for at, market in listed:
        state = market.order_book_state or "Open"
        if state not in _BOOK_STATES:
            words = ", ".join(_BOOK_STATES)
            raise _wrong(f"markets[{at}].orderBookState", f"must be one of {words}", state)
        takes_orders.append(_BOOK_STATES[state])
        path = f"markets[{at}].filters"
        price = market.filters.price
        tick.append(_positive(f"{path}.price.tickSize", price.tick_size))
        step.append(_positive(f"{path}.quantity.stepSize", market.filters.quantity.step_size))
        max_ticks = _MOST_TICKS
        if price.max_price is not None:
            max_ticks = min(max_ticks, int(_positive(f"{path}.price.maxPrice", price.max_price) // tick[-1]))
        worth = tick[-1] * step[-1] / settle_quantum
        if max(worth.numerator, worth.denominator) >= _LARGEST:
            rule = "settle quanta that a lot is worth at one tick must be a ratio of whole numbers below 2**62"
            raise _wrong(path, rule, worth)
        if max_ticks < 1:
            raise _wrong(path, "maxPrice must be at least a tick", price.max_price)
        rows.append((max_ticks, worth.numerator, worth.denominator))
        impact.append(
            _band(f"{path}.price", "{}ImpactMultiplier", price.min_impact_multiplier, price.max_impact_multiplier)
        )
        limit.append(_band(f"{path}.price", "{}Multiplier", price.min_multiplier, price.max_multiplier))
    whole = np.array(rows, np.int64).reshape(-1, 3).T
    min_impact, max_impact = _columns(impact)
    min_multiplier, max_multiplier = _columns(limit)
    return {
        "symbol": tuple(market.symbol for _, market in listed), "tick": tuple(tick), "step": tuple(step),
        "max_ticks": whole[0].copy(), "value_num": whole[1].copy(), "value_den": whole[2].copy(),
        "min_impact": min_impact, "max_impact": max_impact,
        "min_multiplier": min_multiplier, "max_multiplier": max_multiplier,
        "takes_orders": np.array(takes_orders, bool),
    }  # fmt: skip


_BOOK_STATES = {"Open": True, "LimitOnly": True, "PostOnly": False, "CancelOnly": False, "Closed": False}
"""Of an order book, and whether an order that takes from it is filled: a liquidation's are limit orders."""

_Band: TypeAlias = tuple[Fraction | None, Fraction | None]


def _band(path: str, name: str, low: Decimal | None, high: Decimal | None) -> _Band:
    """Multipliers of a band, below and above; ``name`` has a place for min and max."""
    below, above = name.format("min"), name.format("max")
    lower = None if low is None else _positive(f"{path}.{below}", low)
    upper = None if high is None else _positive(f"{path}.{above}", high)
    if lower is not None and upper is not None and lower >= upper:
        raise _wrong(f"{path}.{below}", f"must be less than {above}", low)
    return lower, upper


def _columns(bands: list[_Band]) -> tuple[tuple[Fraction | None, ...], tuple[Fraction | None, ...]]:
    return tuple(low for low, _ in bands), tuple(high for _, high in bands)


def _spots(listed: list[tuple[int, _Spot]], assets: Assets, settle_quantum: Fraction) -> Spots:
    columns = _listing(listed, settle_quantum)
    asset = [assets.symbol.index(spot.base_symbol) for _, spot in listed]
    lots = [step / assets.quantum[k] for step, k in zip(columns["step"], asset, strict=True)]
    for (at, spot), lot in zip(listed, lots, strict=True):
        if lot.denominator != 1 or lot >= _LARGEST:
            path, step = f"markets[{at}].filters.quantity.stepSize", spot.filters.quantity.step_size
            raise _wrong(path, "must be a whole number of the asset's quanta, less than 2**62", step)
    return Spots(
        asset=np.array(asset, np.int64), lot_quanta=np.array([lot.numerator for lot in lots], np.int64), **columns
    )


def _markets(listed: list[tuple[int, _Market]], assets: Assets, settle_quantum: Fraction) -> Markets:
    columns = _listing(listed, settle_quantum)
    min_lots, mean_mark, tolerance, update, funding = [], [], [], [], []
    for (at, market), step in zip(listed, columns["step"], strict=True):
        path = f"markets[{at}]"
        price, least = market.filters.price, market.filters.quantity.min_quantity or Decimal(0)
        smallest = _not_negative(f"{path}.filters.quantity.minQuantity", least) / step
        if smallest >= _LARGEST:
            raise _wrong(f"{path}.filters.quantity.minQuantity", "must be less than 2**62 lots", least)
        min_lots.append(ceil(smallest))
        path += ".filters.price"
        band = price.mean_mark_price_band or _MarkBand()
        mean_mark.append(_band(f"{path}.meanMarkPriceBand", "{}Multiplier", band.min_multiplier, band.max_multiplier))
        width = (price.mean_premium_band or _PremiumBand()).tolerance_pct
        tolerance.append(None if width is None else _not_negative(f"{path}.meanPremiumBand.tolerancePct", width))
        update.append(_update_cap(path, price))
        funding.append(_funding(f"markets[{at}]", market))
    interval, lower, upper = zip(*funding, strict=True)
    slowest, fastest = zip(*update, strict=True)
    low, high = _columns(mean_mark)
    held = {symbol: row for row, symbol in enumerate(assets.symbol)}
    return Markets(
        base_asset=np.array([held.get(m.base_symbol, -1) for _, m in listed], np.int64),
        min_lots=np.array(min_lots, np.int64),
        mean_mark_low=low,
        mean_mark_high=high,
        premium_tolerance=tuple(tolerance),
        min_update=np.array(slowest, float),
        max_update=np.array(fastest, float),
        funding_interval=np.array(interval, np.int64),
        funding_lower=np.array(lower, float),
        funding_upper=np.array(upper, float),
        **columns,
    )


def _update_cap(path: str, price: _Price) -> tuple[float, float]:
    """Least and most that a print may become of the one before in a second; NaN: anything."""
    low, high = price.min_price_update_multiplier, price.max_price_update_multiplier
    if low is not None and _positive(f"{path}.minPriceUpdateMultiplier", low) > 1:
        raise _wrong(f"{path}.minPriceUpdateMultiplier", "must be at most 1", low)
    if high is not None and _positive(f"{path}.maxPriceUpdateMultiplier", high) < 1:
        raise _wrong(f"{path}.maxPriceUpdateMultiplier", "must be at least 1", high)
    return np.nan if low is None else float(low), np.nan if high is None else float(high)


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
        if bound is not None and not (bound.is_finite() and -10_000 <= bound <= 10_000):
            raise _wrong(f"{path}.{name}", "must be from -10000 to 10000 basis points", bound)
        bounds.append(none if bound is None else float(bound) / 10_000)
    if bounds[0] > bounds[1]:
        raise _wrong(f"{path}.fundingRateLowerBound", "must not be above fundingRateUpperBound", bounds[0])
    return (interval or 0) * 1_000_000, bounds[0], bounds[1]


def _backstop(spec: _Venue, markets: Markets, assets: Assets) -> tuple[Provider, ...]:
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
        minute, hour, total = limits
        taken = [
            _rows(f"{path}.{name}", symbols, of, rule)
            for name, symbols, of, rule in (
                ("markets", row.markets, markets.symbol, "must be a market of the venue"),
                ("assets", row.assets, assets.symbol, "must be a collateral asset of the venue"),
            )
        ]
        providers.append(Provider(row.account, minute, hour, total, *taken))
    return tuple(providers)


def _rows(path: str, symbols: list[str] | None, of: tuple[str, ...], rule: str) -> frozenset[int]:
    """Rows of symbols; all of them where none are named."""
    for symbol in symbols or ():
        if symbol not in of:
            raise _wrong(path, rule, symbol)
    return frozenset(range(len(of)) if symbols is None else map(of.index, symbols))
