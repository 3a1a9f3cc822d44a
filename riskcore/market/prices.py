"""Prices of a tick, complete and folded with the units and the margin functions of the venue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from ..boundary import RiskDataError, units
from ..kernels.guards import first_above, first_missing, follow_markets
from ..kernels.layouts import PriceArrays, SweepLookup
from ..kernels.sweep import fill_sweep_lookup
from ..state import Accounts, must_fit
from ..venue import Venue
from .reading import _RATE, NOT_NEGATIVE, Float, Int, PriceMap, _pairs, by_symbol
from .tick import Tick


@dataclass
class Prices:
    """Prices of a tick, one per market and asset; NaN where the tick has none and no account needs it.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
        Those that count: guarded, in a run.
    given_mark, given_index, last : ndarray of float64, shape (M,)
        Mark, index and price of the last trade as the tick has them.
    given_asset : ndarray of float64, shape (K,)
        Prices of assets as the tick has them.
    asset : ndarray of float64, shape (K,)
        Those, and what follows for the others from the markets.
    open_interest, funding_rate : ndarray of float64, shape (M,)
        Quantity, and rate, as the tick has them.
    open_lots : ndarray of int64, shape (M,)
        Open interest by the accounts' own positions; 0 where no margin function asks for it.
    venue : Venue
    """

    mark: Float
    index: Float
    given_mark: Float
    given_index: Float
    last: Float
    given_asset: Float
    asset: Float
    open_interest: Float
    funding_rate: Float
    open_lots: Int
    venue: Venue

    @classmethod
    def read(
        cls,
        venue: Venue,
        accounts: Accounts,
        marks: PriceMap,
        indexes: PriceMap | None = None,
        asset_prices: PriceMap | None = None,
        open_interest: PriceMap | None = None,
    ) -> Prices:
        """Collect the prices that these accounts need, and use them as they are.

        Keys of ``marks`` that are asset symbols count as asset prices.

        Raises
        ------
        RiskDataError
            A price is missing, not finite or not > 0, or of something the venue does not know, or the accounts were
            read with a venue of other units.
        """
        must_fit(accounts, venue)
        markets, assets = venue.markets, venue.assets
        known = dict(_pairs("marks", marks))
        direct = {k: known.pop(k) for k in assets.symbol if k in known and k not in markets.symbol}
        direct |= dict(_pairs("asset_prices", asset_prices))
        given = cls.given(venue, Tick(0, known, None, indexes, direct, open_interest))
        return given._used(accounts, given.mark, given.index, "a mark is needed")

    @classmethod
    def of_tick(cls, venue: Venue, accounts: Accounts, tick: Tick) -> Prices:
        """Prices of a tick that these accounts need, used as they are."""
        given = cls.given(venue, tick)
        return given._used(accounts, given.mark, given.index, "a mark is needed")

    @classmethod
    def given(cls, venue: Venue, tick: Tick) -> Prices:
        """Collect what a tick has; nothing need be there, and assets have no price but those given.

        Raises
        ------
        RiskDataError
            A price is not finite or not > 0, or of something the venue does not know.
        """
        markets, assets = venue.markets.row, venue.assets.row
        mark = by_symbol("marks", tick.marks, markets, "a market")
        index = by_symbol("indexes", tick.indexes, markets, "a market")
        asset = by_symbol("asset_prices", tick.asset_prices, assets, "a collateral asset")
        return cls(
            mark=mark,
            index=index,
            given_mark=mark,
            given_index=index,
            last=by_symbol("last_prices", tick.last_prices, markets, "a market"),
            given_asset=asset,
            asset=asset,
            open_interest=by_symbol("open_interest", tick.open_interest, markets, "a market", NOT_NEGATIVE),
            funding_rate=by_symbol("funding_rates", tick.funding_rates, markets, "a market", _RATE),
            open_lots=np.zeros(len(markets), np.int64),
            venue=venue,
        )

    def guarded(self, accounts: Accounts, mark: Float, index: Float) -> Prices:
        """Put the guarded marks and indexes in the place of those that the tick gave.

        Raises
        ------
        RiskDataError
            A mark is above maxPrice, or something that an account holds has no price.
        """
        rule = "a mark is needed: neither given nor to be had from index, book or last price"
        return self._used(accounts, mark, index, rule)

    def _used(self, accounts: Accounts, mark: Float, index: Float, rule: str) -> Prices:
        accounts.units.must_fit(self.venue.units)
        _must_not_pass_max_price(self.venue, mark)
        prices = Prices(
            mark=mark,
            index=index,
            given_mark=self.given_mark,
            given_index=self.given_index,
            last=self.last,
            given_asset=self.given_asset,
            asset=asset_values(self.venue, mark, index, self.given_asset),
            open_interest=self.open_interest,
            funding_rate=self.funding_rate,
            open_lots=_open_lots(self.venue, accounts, self.open_interest),
            venue=self.venue,
        )
        prices._cover(accounts, f"an account holds it: {rule}")
        return prices

    def moved(self, market: Float, asset: Float) -> Prices:
        """Prices times a factor per market (mark and index), and per asset.

        NaN is no factor of its own: such an asset moves with the market that it takes its price from, or not at all.
        """
        mark, index = self.mark * market, self.index * market
        _must_not_pass_max_price(self.venue, mark)
        value = np.where(np.isnan(asset), asset_values(self.venue, mark, index, self.given_asset), self.asset * asset)
        value[self.venue.settle] = 1.0
        return replace(self, mark=mark, index=index, asset=value)

    def _cover(self, accounts: Accounts, rule: str) -> None:
        """Refuse to go on where something that an account holds has no price."""
        mark, asset, venue = self.mark, self.asset, self.venue
        columns = accounts.columns
        if first_missing(mark) >= 0:
            held = (columns.lots != 0) | (columns.open_bid != 0) | (columns.open_ask != 0)
            for m in np.flatnonzero(np.isnan(mark)).tolist():
                if held[columns.market == m].any():
                    raise RiskDataError("marks", venue.markets.symbol[m], rule)
        if first_missing(asset) >= 0:
            kept = (columns.free != 0) | (columns.lent != 0)
            for k in np.flatnonzero(np.isnan(asset)).tolist():
                if kept[columns.asset == k].any():
                    raise RiskDataError(
                        "asset_prices", venue.assets.symbol[k], "an account holds it: a price is needed"
                    )

    def open_notional(self, market: int) -> Fraction:
        """Open interest of a market in settle units, exactly; 0 without a mark."""
        mark, given = float(self.mark[market]), float(self.open_interest[market])
        if np.isnan(mark):
            return Fraction(0)
        own = int(self.open_lots[market]) * self.venue.markets.step[market]
        return (own if np.isnan(given) else units.exact(given)) * units.exact(mark)

    @cached_property
    def arrays(self) -> PriceArrays:
        """Prices folded with lot and quantum once, beside the margin rules that they meet."""
        assets, policy, margin_functions = self.venue.assets, self.venue.policy, self.venue.margin_functions
        lots, quanta = self.venue.settle_quanta
        unit = float(self.venue.settle_quantum)
        mark, asset = (np.nan_to_num(v) if first_missing(v) >= 0 else v for v in (self.mark, self.asset))
        folded = self.venue.folded_margin_functions or margin_functions.folded(
            np.concatenate([mark, asset]), self.open_notional, unit
        )
        return PriceArrays(
            price_per_lot=mark * lots,
            price_per_quantum=asset * quanta,
            functions=folded,
            weight=assets.weight,
            haircut_base=assets.haircut_base,
            haircut_penalty=assets.haircut_penalty,
            haircut_size=assets.quantum_size * (asset if policy.haircut_size_unit == "notional" else 1.0),
            settle_quantum=unit,
            acmf_divisor=float(policy.acmf_divisor),
            acmf_offset=float(policy.acmf_offset),
        )

    def forget(self) -> None:
        """Free what was worked out from the prices; it is worked out again if asked for."""
        for name in ("arrays", "lookup"):
            vars(self).pop(name, None)

    @cached_property
    def lookup(self) -> SweepLookup:
        """The same, laid out as a sweep looks it up."""
        market, columns = np.empty((len(self.mark) + 1, 4)), self.arrays
        asset, weight, borrow = np.empty((3, len(self.asset) + 1, 4))
        market_above, borrow_above = self.venue.requirement_lookups()
        rows = SweepLookup(
            market=market,
            asset=asset,
            weight=weight,
            borrow=borrow,
            market_above=market_above,
            borrow_above=borrow_above,
            settle_quantum=columns.settle_quantum,
            acmf_divisor=columns.acmf_divisor,
            acmf_offset=columns.acmf_offset,
        )
        fill_sweep_lookup(columns, rows)
        return rows


def asset_values(venue: Venue, mark: Float, index: Float, given: Float) -> Float:
    """Prices of all assets: those given, and those that follow from the markets, of one instant or many.

    mark and index have the shape (..., M), given and the result (..., K); NaN is no price.
    """
    asset, base = given.copy(), venue.markets.base_asset
    if mark.ndim == 1:
        follow_markets(mark, index, base, venue.settle, asset)
    else:
        for at in np.ndindex(mark.shape[:-1]):
            follow_markets(mark[at], index[at], base, venue.settle, asset[at])
    return asset


def _must_not_pass_max_price(venue: Venue, mark: Float) -> None:
    m = first_above(mark, venue.markets.max_price)
    if m >= 0:
        symbol = venue.markets.symbol[m]
        raise RiskDataError("marks", symbol, venue.markets.too_high(m), value=mark[m])


def _open_lots(venue: Venue, accounts: Accounts, given: Float) -> Int:
    """Larger of the accounts' long and short lots, of the markets whose margin function asks and has no better."""
    found = np.zeros(len(given), np.int64)
    if asking := venue.margin_functions.open_interest_markets:
        for m in asking.intersection(np.flatnonzero(np.isnan(given)).tolist()):
            lots = accounts.columns.lots[accounts.columns.market == m]
            found[m] = max(int(lots[lots > 0].sum()), -int(lots[lots < 0].sum()))
    return found
