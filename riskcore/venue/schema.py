"""The shape of a venue file: markets, collateral and pools in the venue's public API shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from .margin_functions import MarginFunction
from .policy import PolicyFields


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
    market_type: str
    filters: _Filters
    order_book_state: str | None = None


class _Market(_Spot, rename="camel"):
    quote_symbol: str | None = None
    settle: str | None = None
    multiplier: Decimal = Decimal(1)
    underlying: str | None = None
    expiry: str | int | None = None
    strike: Decimal | None = None
    right: str | None = None
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


class _PriceGuard(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    min_price_update_multiplier: Decimal | None = None
    max_price_update_multiplier: Decimal | None = None
    index_threshold: Decimal | None = None
    mean_threshold: Decimal | None = None
    stale_after: Decimal | None = None


class _Collateral(msgspec.Struct, rename="camel"):
    symbol: str
    haircut_function: _Haircut
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None
    quantum: Decimal = Decimal("0.000001")
    price_guard: _PriceGuard | None = None


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
    policy: PolicyFields = msgspec.field(default_factory=PolicyFields)  # type: ignore[valid-type]
    backstop: list[_Provider] = msgspec.field(default_factory=list)
    scenario_model: str | dict[str, Any] | None = None
