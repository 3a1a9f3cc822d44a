"""Makes the data of a tick that scenario margin needs: indexes of underlyings, volatilities, and option marks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .._typing import Float
from ..boundary import RiskDataError, frames, schemas
from ..scenario import ScenarioMarket, values_of_record
from ..state import Accounts
from ..venue import Venue
from .reading import _RATE, NOT_NEGATIVE, Rule, by_symbol

if TYPE_CHECKING:
    from .tick import Tick

_UNDERLYING = "an underlying"
_SHARE = Rule(0.0, 1.0, "must be a number from 0 to 1")


def given_indexes(venue: Venue, tick: Tick) -> Float:
    """Return the indexes that the tick gives by underlying.

    Parameters
    ----------
    venue : Venue
        The venue of U underlyings.
    tick : Tick
        The tick.

    Returns
    -------
    ndarray of float64, shape (U,)
        Indexes of ``underlyings``, NaN for none.

    Raises
    ------
    RiskDataError
        The table breaks a rule.
    """
    underlyings = venue.instruments.underlyings
    level, frame = np.full(len(underlyings), np.nan), _table("underlyings", tick.underlyings, underlyings)
    if frame is not None:
        frame = schemas.checked("underlyings", frame)
        if "index" in frame.columns:
            level[schemas.codes("underlyings", "underlying", frame["underlying"], underlyings, _UNDERLYING)] = frame[
                "index"
            ]
    return level


def asset_levels(venue: Venue, given: Float, asset: Float) -> Float:
    """Return prices of assets, where there is none the index that is given of the underlying of that name.

    Parameters
    ----------
    venue : Venue
        The venue of U underlyings and K assets.
    given : ndarray of float64, shape (U,)
        As of `given_indexes`.
    asset : ndarray of float64, shape (K,)
        Prices of assets as the tick has them, NaN for none.

    Returns
    -------
    ndarray of float64, shape (K,)
        Prices, NaN for none.
    """
    underlying = venue.instruments.underlying[-len(asset) :]
    return np.where(np.isnan(asset) & (underlying >= 0), np.append(given, np.nan)[underlying], asset)


def read(venue: Venue, tick: Tick, given: Float, mark: Float, index: Float, asset: Float) -> ScenarioMarket:
    """Read the data of a tick for the instruments of a venue.

    Parameters
    ----------
    venue : Venue
        The venue of M markets, K assets and U underlyings.
    tick : Tick
        The tick.
    given : ndarray of float64, shape (U,)
        As of `given_indexes`.
    mark, index : ndarray of float64, shape (M,)
        Marks and indexes as the tick has them, NaN for none.
    asset : ndarray of float64, shape (K,)
        Complete prices of assets, NaN for none.

    Returns
    -------
    ScenarioMarket
        The data. A missing index is that of the first perpetual, else of the first dated future, else the price of the
        asset of that name, else the mark of the first perpetual or future.

    Raises
    ------
    RiskDataError
        A number is out of range, or is of a name that the venue does not know or that has no such number.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Instruments and equity".
    """
    instruments, markets = venue.instruments, venue.markets
    of_markets, of_assets = np.full(len(mark), np.nan), np.full(len(asset), np.nan)
    volatility = by_symbol("volatilities", tick.volatilities, markets.row, "a market", NOT_NEGATIVE)
    _must_be("volatilities", venue, volatility, markets.is_option, "must be an option of the venue")
    settlement = by_symbol("settlement_prices", tick.settlement_prices, markets.row, "a market", NOT_NEGATIVE)
    _must_be("settlement_prices", venue, settlement, markets.expiry != 0, "must be a market that expires")
    confidence = by_symbol("asset_confidences", tick.asset_confidences, venue.assets.row, "a collateral asset", _SHARE)
    level = given.copy()
    for u in np.flatnonzero(np.isnan(level)).tolist():
        rows, of_asset = list(venue.linear_markets[u]), venue.assets.row.get(instruments.underlyings[u])
        known = [*index[rows], *([] if of_asset is None else [asset[of_asset]]), *mark[rows]]
        level[u] = next((price for price in known if price == price), np.nan)
    marks = np.append(mark, asset)
    scenario = ScenarioMarket.read(
        instruments,
        tick.time,
        index=level,
        marks=np.where(marks == 0.0, np.nan, marks),
        volatilities=np.append(volatility, of_assets),
        terms=_table("terms", tick.terms, instruments.underlyings),
        surface=_table("surface", tick.surface, instruments.underlyings),
        surface_check=venue.policy.surface_check,
        underlyings=_table("underlyings", tick.underlyings, instruments.underlyings),
        asset_confidences=np.append(of_markets, confidence),
        funding=np.append(_payments(venue, tick, mark), of_assets),
        stable_price=1.0 if tick.stable_price is None else tick.stable_price,
        unit=tick.unit,
    )
    return replace(scenario, mark=np.where(marks == 0.0, 0.0, scenario.mark))  # an option may be worth nothing


def with_values(venue: Venue, scenario: ScenarioMarket, mark: Float) -> Float:
    """Return marks in which each option has its value of record, in coin if it is settled in coin.

    Parameters
    ----------
    venue : Venue
        The venue of M markets.
    scenario : ScenarioMarket
        As of `read`.
    mark : ndarray of float64, shape (M,)
        Marks.

    Returns
    -------
    ndarray of float64, shape (M,)
        Marks; NaN of an option without a forward or volatility, or whose model prices it by a mark that is missing.
    """
    if not venue.markets.has_options:
        return mark
    values = values_of_record(venue.instruments, scenario, venue.scenario_model)
    return np.where(venue.markets.is_option, values[: len(mark)], mark)


def must_cover(venue: Venue, scenario: ScenarioMarket, accounts: Accounts) -> None:
    """Refuse accounts that hold what the margin model or the data of the tick does not know.

    Parameters
    ----------
    venue : Venue
        The venue.
    scenario : ScenarioMarket
        As of `read`.
    accounts : Accounts
        The state.

    Raises
    ------
    RiskDataError
        An account holds an option, and the margin model is the separable one; or a market whose underlying has no
        index.
    """
    separable, unknown = venue.policy.margin_model == "separable", np.isnan(scenario.index)
    if not separable and not unknown.any():
        return
    columns, instruments = accounts.columns, venue.instruments
    for m in np.unique(columns.market[(columns.lots != 0) | (columns.open_bid != 0) | (columns.open_ask != 0)]):
        symbol, underlying = instruments.symbol[m], int(instruments.underlying[m])
        if separable and venue.markets.is_option[m]:
            rule = f"must not be separable: an account holds the option {symbol}, for which it has no requirement"
            raise RiskDataError("venue", "policy.margin_model", rule, value="separable")
        if unknown[underlying]:
            rule = f"an account holds {symbol}: an index is needed"
            raise RiskDataError("underlyings", instruments.underlyings[underlying], rule)


def needed(venue: Venue) -> str:
    """Return what the value of an option needs, for messages.

    Parameters
    ----------
    venue : Venue
        The venue.

    Returns
    -------
    str
        A clause.
    """
    if venue.scenario_model is not None and venue.scenario_model.price_source == "mark":
        return "a mark is needed, by which the model prices options"
    return "a forward and a volatility are needed"


def _table(table: str, given: Any, underlyings: tuple[str, ...]) -> pd.DataFrame | None:
    """A table of the tick, in which every underlying is one of the venue."""
    frame = None if given is None else frames.rows_as_frame(table, given)
    if frame is None or not len(frame):
        return None
    if "underlying" in frame.columns:
        schemas.codes(table, "underlying", frame["underlying"], underlyings, _UNDERLYING)
    return frame


def _must_be(table: str, venue: Venue, numbers: Float, allowed: Any, rule: str) -> None:
    wrong = np.flatnonzero(~np.isnan(numbers) & ~allowed)
    if wrong.size:
        raise RiskDataError(table, venue.markets.symbol[wrong[0]], rule, value=float(numbers[wrong[0]]))


def _payments(venue: Venue, tick: Tick, mark: Float) -> Float:
    """Funding that a long perpetual pays next, per unit of size, in the unit of the requirement; NaN for none."""
    rate = by_symbol("funding_rates", tick.funding_rates, venue.markets.row, "a market", _RATE)
    in_coin = venue.scenario_model is not None and venue.scenario_model.numeraire != "settle"
    notional = np.where(venue.markets.inverse, 1.0 / mark if in_coin else 1.0, mark)
    return rate * notional


def with_prices(venue: Venue, scenario: ScenarioMarket, mark: Float, asset: Float) -> ScenarioMarket:
    """Return the data with other marks and prices of assets.

    Parameters
    ----------
    venue : Venue
        The venue of M markets and K assets.
    scenario : ScenarioMarket
        As of `read`.
    mark : ndarray of float64, shape (M,)
        Marks.
    asset : ndarray of float64, shape (K,)
        Prices of assets.

    Returns
    -------
    ScenarioMarket
        The data; the marks of options stay as the tick gives them.
    """
    linear = np.where(venue.markets.is_option, scenario.mark[: len(mark)], mark)
    return replace(scenario, mark=np.append(linear, asset))


class Factors(NamedTuple):
    """Factors of the prices of underlyings (U,), markets (M,) and assets (K,); NaN of an asset of no underlying."""

    underlying: Float
    market: Float
    asset: Float


def followed(venue: Venue, market: Float, asset: Float, underlying: Float) -> Factors:
    """Return the factors of all prices, where some are given.

    Parameters
    ----------
    venue : Venue
        The venue of M markets, K assets and U underlyings.
    market, asset, underlying : ndarray of float64, shapes (M,), (K,) and (U,)
        Factors, NaN where none is given.

    Returns
    -------
    Factors
        An underlying moves as its first perpetual that has a factor, else as its first dated future, else as the asset
        of that name, else not at all; markets and assets without a factor move as their underlying.
    """
    instruments, factor = venue.instruments, underlying.copy()
    for u in np.flatnonzero(np.isnan(factor)).tolist():
        of_asset = venue.assets.row.get(instruments.underlyings[u])
        given = [*market[list(venue.linear_markets[u])], *([] if of_asset is None else [asset[of_asset]])]
        factor[u] = next((each for each in given if each == each), 1.0)
    of_item = np.append(factor, np.nan)[instruments.underlying]
    return Factors(
        factor,
        np.where(np.isnan(market), of_item[: len(market)], market),
        np.where(np.isnan(asset), of_item[len(market) :], asset),
    )


def shocked(venue: Venue, scenario: ScenarioMarket, factor: Factors) -> ScenarioMarket:
    """Return the data with the indexes and forwards times the factor of their underlying.

    Parameters
    ----------
    venue : Venue
        The venue of U underlyings.
    scenario : ScenarioMarket
        As of `read`.
    factor : Factors
        As of `followed`.

    Returns
    -------
    ScenarioMarket
        The data; an average of the settlement window so far is known and stays. A mark by which the model prices an
        option changes as the option's value by the model does, and not below 0.
    """
    instruments, model = venue.instruments, venue.scenario_model
    after = replace(
        scenario,
        index=scenario.index * factor.underlying,
        forward=scenario.forward * factor.underlying[instruments.term_underlying],
    )
    if model is None or model.price_source != "mark" or not venue.markets.has_options:
        return after
    by_value = replace(model, price_source="model")
    before, then = (values_of_record(instruments, market, by_value) for market in (scenario, after))
    mark = np.maximum(scenario.mark + (then - before), 0.0)
    return replace(after, mark=np.where(np.isnan(before), scenario.mark, mark))
