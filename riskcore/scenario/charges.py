"""Charges of a model as coefficients of instruments, terms and underlyings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Bool, Float
from ..boundary import RiskDataError
from .instruments import Instruments, Kind
from .model import Charge, ScenarioModel
from .scenario_market import NANOSECONDS_PER_HOUR, ScenarioMarket

FUNDING, DECAY, DELTA_SHOCK = range(3)
"""Rows of `Charges.scaling`."""

LINEAR_KINDS = {"perpetuals": Kind.PERPETUAL, "futures": Kind.FUTURE, "spot": Kind.SPOT}
"""Kinds that a charge on notionals can be of."""


@dataclass(frozen=True)
class Figures:
    """What the charges of M instruments, N terms and U underlyings are computed from.

    Attributes
    ----------
    underlying : ndarray of int64, shape (M,)
        Underlying that the charges of an instrument are of; -1 for none.
    value : ndarray of float64, shape (M,)
        Value of record, in the numeraire.
    units : ndarray of float64, shape (M,)
        Base units of a unit of size.
    price : ndarray of float64, shape (U,)
        Numeraire of a base unit at the index.
    years : ndarray of float64, shape (N,)
        Time to expiry.
    im_factor : float
        Factor of the initial requirement, with the depeg.
    in_coin : bool
        Whether the numeraire is a coin.
    """

    underlying: Any
    value: Float
    units: Float
    price: Float
    years: Float
    im_factor: float
    in_coin: bool


@dataclass(frozen=True)
class Charges:
    """Coefficients of the charges; see `riskcore.kernels.scenario_layouts.ScenarioArrays`."""

    charge: Float
    perpetual_charge: Float
    strike_charge: Float
    order_charge: Float
    roll: Float
    spread: Float
    floor: Float
    delta_shock: Float
    scaling: Float
    funding: Float
    theta: Bool
    annual_spread: bool


def depeg_of(model: ScenarioModel, market: ScenarioMarket) -> float:
    """What the price of the stable coin adds to the initial factor."""
    return sum(max(0.0, float(row.threshold) - market.stable) * float(row.factor) for row in model.charges("depeg"))


def charges_of(model: ScenarioModel, instruments: Instruments, market: ScenarioMarket, figures: Figures) -> Charges:
    """Fold the charges of a model into coefficients."""
    count, terms, underlyings = len(instruments), len(figures.years), len(figures.price)
    charge, order_charge = np.zeros((count, 2, 2)), np.zeros(count)  # maintenance and initial, long and short
    with_perpetual, strike = np.zeros((count, 2)), np.zeros((count, 2))
    roll, spread = np.zeros((terms + underlyings, 2)), np.zeros((underlyings, 2))
    floor = np.zeros((underlyings, 2))
    shock = np.tile([0.0, 0.0, np.inf], (underlyings, 1))
    scaling, funding, theta = np.zeros((3, 2)), np.zeros(count), np.zeros(count, bool)
    kind, annual_spread = instruments.kind, False
    is_option, is_spot = kind == Kind.OPTION, kind == Kind.SPOT
    price = np.append(figures.price, np.nan)[figures.underlying]
    unit_price = np.where(is_spot, np.abs(figures.value), figures.units * price)
    own_price = np.where(instruments.inverse & ~is_option & ~figures.in_coin, 1.0, np.abs(figures.value))

    for row in model.contingencies:
        pair = _pair(row, model, figures)
        at = _underlyings(row, instruments)
        mine = np.append(at, row.underlyings is None)[figures.underlying]
        if row.kind == "notional":
            of = mine & np.isin(kind, [LINEAR_KINDS[name] for name in row.of])
            amount = own_price if row.at == "mark" else unit_price
            charge[of] += float(row.rate) * amount[of, None, None] * pair[:, None]
        elif row.kind in ("option_short", "gamma"):
            of = mine & is_option
            if row.kind == "gamma":
                of &= instruments.expiry - market.time < row.hours * NANOSECONDS_PER_HOUR
            strike[of] += float(row.rate) * price[of, None] * pair
        elif row.kind == "confidence":
            _add_confidence(row, pair, mine, price, instruments, market, figures, charge, with_perpetual)
        elif row.kind == "roll":
            rate = roll_rates(row, figures.years)
            of_terms = instruments.term_underlying
            roll[:terms] += (rate * figures.price[of_terms] * at[of_terms])[:, None] * pair
            roll[terms:] += (float(row.rate) * figures.price * at)[:, None] * pair
        elif row.kind == "spread_delta":
            spread[at] += float(row.rate) * figures.price[at, None] * pair
            annual_spread = row.annual
        elif row.kind == "delta_shock":
            _require_one(row, shock[:, 2] < np.inf, at)
            shock[at] = np.stack(
                [
                    np.full(underlyings, float(row.increment)),
                    np.full(underlyings, float(row.max)),
                    float(row.threshold) / market.index,
                ],
                axis=1,
            )[at]
            scaling[DELTA_SHOCK] = pair
        elif row.kind == "delta_floor":
            _require_one(row, floor.any(axis=1), at)
            floor[at] = float(row.unhedged), float(row.hedged)
        elif row.kind == "theta":
            theta |= mine & is_option
            scaling[DECAY] = pair
        elif row.kind == "funding":
            funding = np.where(mine & (kind == Kind.PERPETUAL), market.funding, funding)
            scaling[FUNDING] = pair
        elif row.kind == "fee":
            fee = float(row.rate) * np.where(is_option, price, own_price)
            fee = np.where(is_option, np.minimum(fee, float(row.cap) * figures.value), fee)
            of = mine & ~is_spot
            charge[of] += fee[of, None, None] * pair[:, None]
            order_charge[of] += fee[of] * pair[1]
    for name, figure in (("theta", "hours"), ("spread_delta", "annual")):
        if len({getattr(each, figure) for each in model.charges(name)}) > 1:
            raise RiskDataError("scenario_model", "contingencies", f"must have one {figure!r} for all rows {name!r}")
    for asset, haircut in model.haircuts.items():
        of = is_spot & (np.array(instruments.symbol) == asset)
        charge[of, 0, 0] += float(haircut.mm) * np.abs(figures.value[of])
        charge[of, 1, 0] += float(haircut.mm + haircut.im) * np.abs(figures.value[of])
    return Charges(
        charge.reshape(count, 4), with_perpetual, strike, order_charge, roll, spread, floor, shock, scaling, funding,
        theta, annual_spread,
    )  # fmt: skip


def roll_rates(row: Any, years: Float) -> Float:
    """Rate of the charge on the net delta of each term with a time to expiry."""
    rates: Float = np.maximum(float(row.rate), np.exp(float(row.annual) * years) - 1.0)
    return rates


def _pair(row: Charge, model: ScenarioModel, figures: Figures) -> Float:
    """What an amount of a charge counts in the maintenance and in the initial requirement."""
    maintenance, initial = (float(model.mm_factor), figures.im_factor) if row.scaled else (1.0, 1.0)
    return np.array([maintenance if row.enters == "mm" else 0.0, initial])


def _underlyings(row: Charge, instruments: Instruments) -> Bool:
    """Whether a charge concerns each underlying."""
    return np.array([row.concerns(name) for name in instruments.underlyings], bool)


def _require_one(row: Charge, taken: Any, at: Bool) -> None:
    """Refuse a second charge of a kind of which an underlying has one."""
    if (taken & at).any():
        raise RiskDataError("scenario_model", "contingencies", f"must have one {row.kind!r} for an underlying")


def _add_confidence(
    row: Any,
    pair: Float,
    mine: Bool,
    price: Float,
    instruments: Instruments,
    market: ScenarioMarket,
    figures: Figures,
    charge: Float,
    with_perpetual: Float,
) -> None:
    """Add the charge on amounts whose feeds have a low confidence."""
    threshold, factor = float(row.threshold), float(row.factor)

    def rate(confidence: Float) -> Float:
        return np.where(confidence < threshold, (1.0 - confidence) * factor, 0.0)

    u, kind = figures.underlying, instruments.kind
    spot = np.append(market.confidence, 1.0)[u]
    perpetual = np.append(market.perpetual_confidence, 1.0)[u]
    feeds = np.minimum(np.minimum(market.forward_confidence, market.rate_confidence), market.volatility_confidence)
    feed = np.minimum(spot, np.append(feeds, 1.0)[instruments.term])
    of = mine & (kind == Kind.PERPETUAL)
    amount = figures.units * price
    charge[of] += (rate(np.minimum(spot, perpetual)) * amount)[of, None, None] * pair[:, None]
    of = mine & (kind == Kind.OPTION)
    alone, together = rate(feed), rate(np.minimum(feed, perpetual))
    charge[of] += (alone * price)[of, None, None] * pair[:, None]
    with_perpetual[of] += ((together - alone) * price)[of, None] * pair
    of = mine & (kind == Kind.SPOT)
    held = rate(np.minimum(market.own_confidence, spot)) * np.abs(figures.value)
    charge[of] += held[of, None, None] * pair[:, None]
