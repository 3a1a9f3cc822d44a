"""Reads a venue file into the tables of a `Venue`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from .._limits import AMOUNT_LIMIT, MAX_ROWS
from ..boundary import RiskDataError, json_input, moment, timestamps
from ..scenario import load_scenario_model
from .margin_functions import MarginFunction, MarginFunctions, Sqrt, check, check_order
from .policy import Policy, _amount, _wrong, check_adl_policy, read_policy
from .presets import venue_path
from .schema import (
    _Collateral,
    _Haircut,
    _HaircutKind,
    _MarkBand,
    _Market,
    _PremiumBand,
    _Price,
    _PriceGuard,
    _Spot,
    _Venue,
)
from .tables import _MAX_TICKS, INVERSE, KINDS, OPTION, PERPETUALS, Assets, Markets, Pool, Provider, Spots, Venue

_SMALLEST = Decimal("1e-18")
_NO_MARGIN = Sqrt(Decimal(0), Decimal(0))
"""Of a market whose margin the separable model does not compute."""


def load_venue(source: str | Path | dict[str, Any], *, any_adl_policy: bool = False) -> Venue:
    """Read a venue from a JSON file, a dict, or by the name of a preset.

    Parameters
    ----------
    source : str, Path or dict
        The name of a preset ("backpack", "dydx", "hyperliquid": published margin parameters of the venue, the default
        policy, no backstop), the path of a venue file, or its content. Text without a suffix and without a separator
        is the name of a preset; a file of such a name is ``"./name"``.
        A venue file is ``{"settle_asset", "markets", "collateral", "borrow_lend", "policy", "backstop",
        "scenario_model"}``; market, collateral and borrow-lend rows in the venue's public API shape, decimals as
        strings or numbers; a scenario model as of `riskcore.load_scenario_model`. Only rows with
        ``marketType`` PERP, IPERP, DATED, IDATED or OPTION become markets; a row SPOT of a collateral asset against the
        settle asset gives the book that it is converted on. docs/venue_file.md has every key, docs/policy.md every
        figure of the policy.
    any_adl_policy : bool
        Take an ``adl_policy`` that is not registered, as of a run that somebody else made; no engine runs on it.

    Returns
    -------
    Venue
        The venue.

    Raises
    ------
    RiskDataError
        Something is missing, of another type or out of range; the message holds its path. Or no preset has this name.

    Examples
    --------
    >>> from riskcore import load_venue
    >>> load_venue("backpack")
    Venue(4 markets: BTC_USDC_PERP, ETH_USDC_PERP, SOL_USDC_PERP, ...; 2 assets, settles in USDC, fund 0)
    """
    content = json_input.raw(venue_path(source) if isinstance(source, str) else source, "venue")
    spec = json_input.read(content, _Venue, "venue")
    if spec.settle_asset not in {c.symbol for c in spec.collateral}:
        spec.collateral.append(_Collateral(spec.settle_asset, _Haircut(Decimal(1), _HaircutKind("identity"))))
    assets = _assets(spec)
    listed, listed_spots = _listed(content["markets"], spec)
    settle = assets.symbol.index(spec.settle_asset)
    policy = read_policy(spec.policy)
    if not any_adl_policy:
        check_adl_policy(policy)
    _unique("markets", listed + listed_spots)
    for name, rows in (("markets", listed), ("collateral", spec.collateral)):
        if len(rows) > MAX_ROWS:
            raise _wrong(name, f"must have at most {MAX_ROWS} rows", len(rows))
    if policy.fund / assets.quantum[settle] >= AMOUNT_LIMIT:
        raise _wrong("policy.fund", "must be less than 2**62 quanta of the settle asset", policy.fund)
    markets = _markets(listed, assets, settle)
    kept = {"settle_asset": spec.settle_asset, "borrow_lend": []} | {
        name: content[name] for name in ("markets", "collateral", "borrow_lend") if name in content
    }
    rest = json.loads(msgspec.json.encode({"policy": spec.policy, "backstop": spec.backstop}))
    model = None if spec.scenario_model is None else load_scenario_model(spec.scenario_model)
    if model is not None:
        rest["scenario_model"] = model.to_dict()
    elif policy.margin_model == "scenario":
        raise RiskDataError("venue", "scenario_model", "must be given: policy.margin_model is 'scenario'")
    return Venue(
        settle_asset=spec.settle_asset,
        settle=settle,
        markets=markets,
        spots=_spots(listed_spots, assets, settle),
        assets=assets,
        margin_functions=_margin_functions(listed, spec, policy),
        pools=_pools(spec, assets),
        policy=policy,
        backstop=_backstop(spec, markets, assets),
        scenario_model=model,
        source=json.loads(msgspec.json.encode(kept | rest)),
    )


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


def _margin_functions(listed: list[tuple[int, _Market]], spec: _Venue, policy: Policy) -> MarginFunctions:
    """Margin functions of the markets and then the assets, the initial one before the maintenance one."""
    functions: list[MarginFunction] = []
    for index, market in listed:
        may_lack = market.market_type == OPTION or policy.margin_model == "scenario"
        for name, function in (("imfFunction", market.imf_function), ("mmfFunction", market.mmf_function)):
            path = f"markets[{index}].{name}"
            if function is not None:
                functions.append(check(path, function, initial=name == "imfFunction", market=True))
            elif may_lack:
                functions.append(_NO_MARGIN)
            else:
                raise RiskDataError("venue", path, f"a {market.market_type} market needs it")
        check_order(path, *functions[-2:])
    for index, row in enumerate(spec.collateral):
        default = Decimal("0.10") if row.symbol == spec.settle_asset else Decimal("0.20")
        imf, mmf = row.imf_function or Sqrt(default, Decimal(0)), row.mmf_function
        check(f"collateral[{index}].imfFunction", imf, initial=True, market=False)
        if mmf is None:
            if not isinstance(imf, Sqrt):
                rule = "is required beside an imfFunction of another type than sqrt"
                raise RiskDataError("venue", f"collateral[{index}].mmfFunction", rule)
            mmf = Sqrt(imf.base * Decimal("0.5"), imf.factor * Decimal("0.6"), imf.unit)
        path = f"collateral[{index}].mmfFunction"
        functions += [imf, check(path, mmf, initial=False, market=False)]
        check_order(path, imf, mmf)
    return MarginFunctions.of(functions)


def _pools(spec: _Venue, assets: Assets) -> tuple[Pool | None, ...]:
    _unique("borrow_lend", list(enumerate(spec.borrow_lend)))
    pools: list[Pool | None] = [None] * len(assets.symbol)
    for index, row in enumerate(spec.borrow_lend):
        path = f"borrow_lend[{index}]"
        if row.symbol not in assets.symbol:
            raise _wrong(f"{path}.symbol", "must be a collateral asset of the venue", row.symbol)
        if row.state not in ("Open", "Closed", "RepayOnly"):
            raise _wrong(f"{path}.state", "must be 'Open', 'Closed' or 'RepayOnly'", row.state)
        k = assets.symbol.index(row.symbol)

        def quanta(name: str, amount: Decimal, path: str = path, quantum: Fraction = assets.quantum[k]) -> int:
            whole = round(_not_negative(f"{path}.{name}", amount) / quantum)
            if whole >= AMOUNT_LIMIT:
                raise _wrong(f"{path}.{name}", "must be less than 2**62 quanta", amount)
            return whole

        limit = row.open_borrow_lend_limit
        pools[k] = Pool(
            is_open=row.state == "Open",
            lent=quanta("lentQuantity", row.lent_quantity),
            borrowed=quanta("borrowedQuantity", row.borrowed_quantity),
            fee=_part(f"{path}.fee", row.fee),
            optimal_utilization=_part(f"{path}.optimalUtilization", row.optimal_utilization, open_low=True),
            max_utilization=_part(f"{path}.maxUtilization", row.max_utilization, open_low=True),
            throttle_threshold=_part(
                f"{path}.throttleUtilizationThreshold", row.throttle_utilization_threshold, open_low=True
            ),
            throttle_update=_part(f"{path}.throttleUpdateFraction", row.throttle_update_fraction),
            borrow_limit=None if limit is None else quanta("openBorrowLendLimit", limit),
        )
    return tuple(pools)


def _listed(rows: list[Any], spec: _Venue) -> tuple[list[tuple[int, _Market]], list[tuple[int, _Spot]]]:
    """Contracts, and the first SPOT market of each collateral asset, each with its index in the venue's list.

    Other rows are not read.
    """
    markets: list[tuple[int, _Market]] = []
    spots: dict[str, tuple[int, _Spot]] = {}
    convertible = {c.symbol for c in spec.collateral} - {spec.settle_asset}
    for index, (row, market) in enumerate(zip(rows, spec.markets, strict=True)):
        base = market.base_symbol
        try:
            if market.market_type in KINDS:
                markets.append((index, msgspec.convert(row, _Market)))
            elif market.market_type == "SPOT" and market.quote_symbol == spec.settle_asset and base in convertible:
                spots.setdefault(base, (index, msgspec.convert(row, _Spot)))
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            raise RiskDataError("venue", None, f"{text} - at `$.markets[{index}]{path or '`'}") from None
    if not markets:
        raise RiskDataError("venue", "markets", f"must hold at least one market of marketType {', '.join(KINDS)}")
    return markets, list(spots.values())


def _unique(path: str, rows: list[tuple[int, Any]]) -> None:
    symbols = set()
    for index, row in sorted(rows, key=itemgetter(0)):
        if row.symbol in symbols:
            raise _wrong(f"{path}[{index}].symbol", "must not appear twice", row.symbol)
        symbols.add(row.symbol)


def _assets(spec: _Venue) -> Assets:
    _unique("collateral", list(enumerate(spec.collateral)))
    rows: list[tuple[float, ...]] = []
    quantum: list[Fraction] = []
    for index, row in enumerate(spec.collateral):
        path = f"collateral[{index}]"
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
    weights, bases, penalties = (np.array(c) for c in zip(*rows, strict=True))
    guards = [_price_guard(f"collateral[{n}].priceGuard", row, spec) for n, row in enumerate(spec.collateral)]
    return Assets(
        symbol=tuple(c.symbol for c in spec.collateral),
        quantum=tuple(quantum),
        weight=weights,
        haircut_base=bases,
        haircut_penalty=penalties,
        guards=np.array([figures for figures, _ in guards]).T.copy(),
        stale_after=np.array([stale for _, stale in guards], np.int64),
    )


def _price_guard(path: str, row: _Collateral, spec: _Venue) -> tuple[tuple[float, ...], int]:
    """Guards of an asset's price as of `Assets`, and the nanoseconds for which the price is held."""
    guard = row.price_guard
    if guard is None:
        return (np.nan,) * 4, -1
    if row.symbol == spec.settle_asset:
        raise RiskDataError("venue", path, "must be missing: the price of the settle asset is 1")
    thresholds = []
    for name, threshold in (("indexThreshold", guard.index_threshold), ("meanThreshold", guard.mean_threshold)):
        if threshold is not None and not (threshold.is_finite() and _SMALLEST <= threshold < 1):
            raise _wrong(f"{path}.{name}", f"must be at least {_SMALLEST} and less than 1", threshold)
        thresholds.append(np.nan if threshold is None else float(threshold))
    stale = -1
    if guard.stale_after is not None:
        if not (guard.stale_after.is_finite() and 0 < guard.stale_after <= 10**9):
            raise _wrong(f"{path}.staleAfter", "must be more than 0 and at most 10**9 seconds", guard.stale_after)
        stale = int(guard.stale_after * 10**9)
    return (*_update_cap(path, guard), *thresholds), stale


def _listing(
    listed: Sequence[tuple[int, _Spot]], settle: list[int], multiplier: list[Fraction], assets: Assets
) -> dict[str, Any]:
    """Columns of a `Listing`, given the rows of the settle assets and the multipliers."""
    tick: list[Fraction] = []
    step: list[Fraction] = []
    impact, limit, rows, takes_orders, is_closed = [], [], [], [], []
    for (index, market), k, per in zip(listed, settle, multiplier, strict=True):
        state = market.order_book_state or "Open"
        if state not in _BOOK_STATES:
            words = ", ".join(_BOOK_STATES)
            raise _wrong(f"markets[{index}].orderBookState", f"must be one of {words}", state)
        takes_orders.append(_BOOK_STATES[state])
        is_closed.append(state == "Closed")
        path = f"markets[{index}].filters"
        price = market.filters.price
        tick.append(_positive(f"{path}.price.tickSize", price.tick_size))
        step.append(_positive(f"{path}.quantity.stepSize", market.filters.quantity.step_size))
        max_ticks = _MAX_TICKS
        if price.max_price is not None:
            max_ticks = min(max_ticks, int(_positive(f"{path}.price.maxPrice", price.max_price) // tick[-1]))
        size = step[-1] * per / assets.quantum[k]
        inverse = market.market_type in INVERSE
        lot_value = size / tick[-1] if inverse else size * tick[-1]
        if max(lot_value.numerator, lot_value.denominator) >= AMOUNT_LIMIT:
            rule = "the value of a lot at one tick, in settle quanta, must be a ratio of whole numbers below 2**62"
            raise _wrong(path, rule, lot_value)
        if max_ticks < 1:
            raise _wrong(path, "maxPrice must be at least a tick", price.max_price)
        if inverse and lot_value.denominator * max_ticks >= AMOUNT_LIMIT:
            rule = "the denominator of the value of a lot at one tick, times the ticks of maxPrice, must be below 2**62"
            raise _wrong(path, rule, lot_value)
        rows.append((max_ticks, lot_value.numerator, lot_value.denominator))
        impact.append(
            _band(f"{path}.price", "{}ImpactMultiplier", price.min_impact_multiplier, price.max_impact_multiplier)
        )
        limit.append(_band(f"{path}.price", "{}Multiplier", price.min_multiplier, price.max_multiplier))
    integers = np.array(rows, np.int64).reshape(-1, 3).T
    min_impact, max_impact = _columns(impact)
    min_multiplier, max_multiplier = _columns(limit)
    return {
        "symbol": tuple(market.symbol for _, market in listed),
        "type": tuple(market.market_type for _, market in listed), "tick": tuple(tick), "step": tuple(step),
        "multiplier": tuple(multiplier), "settle": np.array(settle, np.int64),
        "inverse": np.array([market.market_type in INVERSE for _, market in listed], bool),
        "max_ticks": integers[0].copy(), "value_num": integers[1].copy(), "value_den": integers[2].copy(),
        "min_impact": min_impact, "max_impact": max_impact,
        "min_multiplier": min_multiplier, "max_multiplier": max_multiplier,
        "takes_orders": np.array(takes_orders, bool), "is_closed": np.array(is_closed, bool),
    }  # fmt: skip


def _settle_row(path: str, market: _Market, assets: Assets, settle: int) -> int:
    """Row of the asset that a market settles in: the one it names, else the coin or the quote asset."""
    rows = assets.symbol
    if market.settle is not None:
        if market.settle not in rows:
            raise _wrong(f"{path}.settle", "must be a collateral asset of the venue", market.settle)
        return rows.index(market.settle)
    if market.market_type in INVERSE:
        if market.base_symbol not in rows:
            rule = "must be a collateral asset of the venue, as an inverse market settles in it: add it, or set settle"
            raise _wrong(f"{path}.baseSymbol", rule, market.base_symbol)
        return rows.index(market.base_symbol)
    if market.quote_symbol is None or (market.quote_symbol == "USD" and "USD" not in rows):
        return settle
    if market.quote_symbol not in rows:
        rule = "must be a collateral asset of the venue, as the market settles in it: add it, or set settle"
        raise _wrong(f"{path}.quoteSymbol", rule, market.quote_symbol)
    return rows.index(market.quote_symbol)


_BOOK_STATES = {"Open": True, "LimitOnly": True, "PostOnly": False, "CancelOnly": False, "Closed": False}
"""States of an order book, and whether it fills a limit order, as those of liquidations are."""

_Band: TypeAlias = tuple[Fraction | None, Fraction | None]


def _band(path: str, name: str, low: Decimal | None, high: Decimal | None) -> _Band:
    """Multipliers of a band, below and above; ``name`` is formatted with min and max."""
    below, above = name.format("min"), name.format("max")
    lower = None if low is None else _positive(f"{path}.{below}", low)
    upper = None if high is None else _positive(f"{path}.{above}", high)
    if lower is not None and upper is not None and lower >= upper:
        raise _wrong(f"{path}.{below}", f"must be less than {above}", low)
    return lower, upper


def _columns(bands: list[_Band]) -> tuple[tuple[Fraction | None, ...], tuple[Fraction | None, ...]]:
    return tuple(low for low, _ in bands), tuple(high for _, high in bands)


def _spots(listed: list[tuple[int, _Spot]], assets: Assets, settle: int) -> Spots:
    columns = _listing(listed, [settle] * len(listed), [Fraction(1)] * len(listed), assets)
    asset = [assets.symbol.index(spot.base_symbol) for _, spot in listed]
    lots = [step / assets.quantum[k] for step, k in zip(columns["step"], asset, strict=True)]
    for (index, spot), lot in zip(listed, lots, strict=True):
        if lot.denominator != 1 or lot >= AMOUNT_LIMIT:
            path, step = f"markets[{index}].filters.quantity.stepSize", spot.filters.quantity.step_size
            raise _wrong(path, "must be a whole number of the asset's quanta, less than 2**62", step)
    return Spots(
        terms=("",) * len(listed),
        asset=np.array(asset, np.int64),
        lot_quanta=np.array([lot.numerator for lot in lots], np.int64),
        **columns,
    )


def _markets(listed: list[tuple[int, _Market]], assets: Assets, settle: int) -> Markets:
    settle_rows = [_settle_row(f"markets[{index}]", market, assets, settle) for index, market in listed]
    multiplier = [_positive(f"markets[{index}].multiplier", market.multiplier) for index, market in listed]
    columns = _listing(listed, settle_rows, multiplier, assets)
    min_lots, mean_mark, tolerance, update, funding = [], [], [], [], []
    for (index, market), step in zip(listed, columns["step"], strict=True):
        path = f"markets[{index}]"
        price, least = market.filters.price, market.filters.quantity.min_quantity or Decimal(0)
        smallest = _not_negative(f"{path}.filters.quantity.minQuantity", least) / step
        if smallest >= AMOUNT_LIMIT:
            raise _wrong(f"{path}.filters.quantity.minQuantity", "must be less than 2**62 lots", least)
        min_lots.append(ceil(smallest))
        path += ".filters.price"
        band = price.mean_mark_price_band or _MarkBand()
        mean_mark.append(_band(f"{path}.meanMarkPriceBand", "{}Multiplier", band.min_multiplier, band.max_multiplier))
        width = (price.mean_premium_band or _PremiumBand()).tolerance_pct
        tolerance.append(None if width is None else _not_negative(f"{path}.meanPremiumBand.tolerancePct", width))
        update.append(_update_cap(path, price))
        funding.append(_funding(f"markets[{index}]", market))
    interval, lower, upper = zip(*funding, strict=True)
    slowest, fastest = zip(*update, strict=True)
    low, high = _columns(mean_mark)
    quote = [
        assets.row.get(market.quote_symbol or "", settle) if market.market_type in INVERSE else k
        for (_, market), k in zip(listed, settle_rows, strict=True)
    ]
    contracts = [_contract(f"markets[{index}]", market) for index, market in listed]
    perpetual = {market.base_symbol for _, market in listed if market.market_type in PERPETUALS}
    tells = [
        m.market_type in PERPETUALS or (m.market_type != OPTION and m.base_symbol not in perpetual) for _, m in listed
    ]
    return Markets(
        terms=tuple(contract.terms for contract in contracts),
        underlying=tuple(contract.underlying for contract in contracts),
        expiry=np.array([contract.expiry for contract in contracts], np.int64),
        strike=np.array([contract.strike for contract in contracts], float),
        is_call=np.array([contract.is_call for contract in contracts], bool),
        settles_in_coin=np.array(
            [
                m.market_type == OPTION and assets.symbol[k] == m.base_symbol
                for (_, m), k in zip(listed, settle_rows, strict=True)
            ],
            bool,
        ),
        base_asset=np.array(
            [assets.row.get(m.base_symbol, -1) if told else -1 for (_, m), told in zip(listed, tells, strict=True)],
            np.int64,
        ),
        quote_asset=np.array(quote, np.int64),
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


class _Contract(NamedTuple):
    """What a market is about, and when and how it ends."""

    underlying: str
    expiry: int
    strike: float
    is_call: bool
    terms: str


def _contract(path: str, market: _Market) -> _Contract:
    """Read the underlying of a market, and the expiry, strike and right that its type has."""
    kind, given = market.market_type, {"expiry": market.expiry, "strike": market.strike, "right": market.right}
    needed = () if kind in PERPETUALS else ("expiry", "strike", "right") if kind == OPTION else ("expiry",)
    for name, value in given.items():
        if name in needed and value is None:
            raise RiskDataError("venue", f"{path}.{name}", f"a market of marketType {kind} needs it")
        if name not in needed and value is not None:
            raise _wrong(f"{path}.{name}", f"must be missing: a market of marketType {kind} has none", value)
    if needed and market.funding_interval:
        raise _wrong(
            f"{path}.fundingInterval", "must be missing: only perpetuals have funding", market.funding_interval
        )
    underlying = market.underlying or market.base_symbol
    if not needed:
        return _Contract(underlying, 0, np.nan, False, "")
    try:
        expiry = timestamps.expiry("venue", market.expiry)
    except RiskDataError as error:
        raise RiskDataError("venue", f"{path}.expiry", error.rule, value=error.value) from None
    terms = f"{underlying} {moment(expiry)}"
    if market.strike is None:
        return _Contract(underlying, expiry, np.nan, False, terms)
    if market.right not in ("C", "P"):
        raise _wrong(f"{path}.right", "must be 'C' (a call) or 'P' (a put)", market.right)
    strike = float(_positive(f"{path}.strike", market.strike))
    return _Contract(underlying, expiry, strike, market.right == "C", f"{terms} {strike!r} {market.right}")


def _update_cap(path: str, price: _Price | _PriceGuard) -> tuple[float, float]:
    """Smallest and largest factor between price updates a second apart; NaN: no limit."""
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
    for index, row in enumerate(spec.backstop):
        path = f"backstop[{index}]"
        if row.account in [p.account for p in providers]:
            raise _wrong(f"{path}.account", "must not appear twice", row.account)

        def limit(name: str, notional: Decimal | None, path: str = path) -> Fraction | None:
            return None if notional is None else _amount(f"{path}.{name}", notional)

        providers.append(
            Provider(
                account=row.account,
                capacity_per_min=limit("capacity_per_min", row.capacity_per_min),
                capacity_per_hour=limit("capacity_per_hour", row.capacity_per_hour),
                max_notional=limit("max_notional", row.max_notional),
                markets=_rows(f"{path}.markets", row.markets, markets.symbol, "must be a market of the venue"),
                assets=_rows(f"{path}.assets", row.assets, assets.symbol, "must be a collateral asset of the venue"),
            )
        )
    return tuple(providers)


def _rows(path: str, symbols: list[str] | None, known: tuple[str, ...], rule: str) -> frozenset[int]:
    """Rows of symbols; all of them where none are named."""
    for symbol in symbols or ():
        if symbol not in known:
            raise _wrong(path, rule, symbol)
    return frozenset(range(len(known)) if symbols is None else map(known.index, symbols))
