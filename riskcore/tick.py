"""What the market shows at an instant: marks, indexes, asset prices and order books."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import tables
from .accounts import Accounts
from .curves import OpenInterest
from .errors import RiskDataError
from .kernels.columns import PriceColumns
from .venue import Venue

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
PriceMap: TypeAlias = "Mapping[str, float] | pd.Series[float]"


@dataclass(frozen=True)
class Books:
    """Order books of one tick in whole ticks and lots; side 2m is the bids of market m, 2m + 1 its asks.

    Attributes
    ----------
    offset : ndarray of int64, shape (2M + 1,)
        Side s owns levels ``offset[s]:offset[s + 1]``, best first.
    price, lots : ndarray of int64, shape (L,)
        Price in ticks, lots > 0.
    """

    offset: Int
    price: Int
    lots: Int

    @classmethod
    def from_frame(cls, venue: Venue, frame: pd.DataFrame) -> Books:
        """Read the books of one tick: market, side, level (0 is the best), price, quantity.

        Raises
        ------
        RiskDataError
            A level is not whole in ticks or lots, a side is unsorted, a book is crossed.
        """
        table = tables.checked("books", frame if "time" in frame.columns else frame.assign(time=0))
        return cls.split(venue, table)[0][1]

    @classmethod
    def split(cls, venue: Venue, table: pd.DataFrame) -> list[tuple[int, Books]]:
        """Read a checked table of many ticks: a pair of time and books for each time, ascending."""
        markets = venue.markets
        market = tables.codes("books", "market", table["market"], markets.symbol, "a market")
        prices, quantities = table["price"].to_numpy(), table["quantity"].to_numpy()
        rule = "must be a whole number of {} of the market's {}"
        price = tables.whole("books", "price", prices, markets.tick_size[market], rule.format("ticks", "tickSize"))
        lots = tables.whole("books", "quantity", quantities, markets.step_size[market], rule.format("lots", "stepSize"))
        for column, given, fits, rule in (
            ("price", prices, price >= 1, "must be at least one tick"),
            ("price", prices, price <= markets.max_ticks[market], "must be at most the market's maxPrice"),
            ("quantity", quantities, lots >= 1, "must be at least one lot"),
            ("quantity", quantities, lots < 2**53, "must be less than 2**53 lots"),
        ):
            bad = np.flatnonzero(~fits)
            if bad.size:
                raise RiskDataError("books", column, rule, row=int(bad[0]), value=given[bad[0]])
        stamp = tables.times("books", table["time"])
        bid = table["side"].to_numpy(object) == "bid"
        side = 2 * market + np.where(bid, 0, 1)
        order = np.lexsort((table["level"].to_numpy(), side, stamp))
        stamp, side, price, lots, bid = stamp[order], side[order], price[order], lots[order], bid[order]

        same = (np.diff(side) == 0) & (np.diff(stamp) == 0)
        worse = np.where(bid[1:], np.diff(price) < 0, np.diff(price) > 0)
        bad = np.flatnonzero(same & ~worse)
        if bad.size:
            row = int(order[bad[0] + 1])
            raise RiskDataError(
                "books", "price", "must get worse from level to level (an unsorted book)", row=row, value=prices[row]
            )
        first = np.flatnonzero(np.r_[True, ~same]) if len(side) else np.empty(0, np.int64)
        facing = (np.diff(side[first]) == 1) & (side[first][1:] % 2 == 1) & (np.diff(stamp[first]) == 0)
        bad = np.flatnonzero(facing & (price[first][:-1] >= price[first][1:]))
        if bad.size:
            row = int(order[first[bad[0] + 1]])
            raise RiskDataError(
                "books", "price", "the best ask must be above the best bid (a crossed book)", row=row, value=prices[row]
            )

        moments, starts = np.unique(stamp, return_index=True)
        edges = np.append(starts, len(stamp))
        sides = np.arange(2 * len(markets.symbol) + 1)
        return [
            (int(time), cls(np.searchsorted(side[a:b], sides), price[a:b], lots[a:b]))
            for time, a, b in zip(moments, edges[:-1], edges[1:], strict=True)
        ]

    @classmethod
    def empty(cls, venue: Venue) -> Books:
        """No level in any market."""
        none = np.empty(0, np.int64)
        return cls(np.zeros(2 * len(venue.markets.symbol) + 1, np.int64), none, none)


@dataclass(frozen=True)
class Tick:
    """The market at an instant.

    Parameters
    ----------
    time
        A timestamp, or int64 nanoseconds since the epoch, UTC.
    marks
        Mark price of every market that some account holds, by symbol; settle units, finite, > 0.
    books
        Per market symbol ``{"bids": [(price, quantity), ...], "asks": [...]}``, best level first; or a frame with the
        columns market, side, level, price, quantity; or `Books`. A market without a book has no depth.
    indexes
        Index prices by market symbol; an asset that is the base of a market takes that market's index, its mark if
        there is none.
    asset_prices
        Prices of the other assets by symbol.
    open_interest
        Open interest by market symbol, quantity; where a margin function needs it and there is none, the larger of the
        accounts' long and short positions.
    funding_rates
        Rate of the funding that is due by market symbol; where there is none it follows from the premiums of the ticks
        before.
    """

    time: Any
    marks: PriceMap
    books: Mapping[str, Mapping[str, Any]] | pd.DataFrame | Books | None = None
    indexes: PriceMap | None = None
    asset_prices: PriceMap | None = None
    open_interest: PriceMap | None = None
    funding_rates: PriceMap | None = None

    def nanoseconds(self) -> int:
        """Time of the tick in nanoseconds since the epoch, UTC."""
        return int(tables.times("tick", pd.Series([self.time]))[0])

    def columnar_books(self, venue: Venue) -> Books:
        """Return the books in whole ticks and lots."""
        if isinstance(self.books, Books):
            return self.books
        if isinstance(self.books, pd.DataFrame):
            return Books.from_frame(venue, self.books) if len(self.books) else Books.empty(venue)
        rows: list[tuple[str, str, int, float, float]] = []
        for market, book in (self.books or {}).items():
            for name, levels in book.items():
                try:
                    side = {"bids": "bid", "asks": "ask"}[name]
                    rows += [(market, side, level, price, quantity) for level, (price, quantity) in enumerate(levels)]
                except (KeyError, TypeError, ValueError):
                    rule = "must be 'bids' or 'asks', each a list of (price, quantity), best level first"
                    raise RiskDataError("books", str(market), rule, value=str(name)) from None
        if not rows:
            return Books.empty(venue)
        return Books.from_frame(venue, pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"]))


@dataclass(frozen=True)
class Prices:
    """Prices of a tick, one per market and asset; NaN where the tick has none and no account needs it.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
    given : ndarray of float64, shape (K,)
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
    given: Float
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
        funding_rates: PriceMap | None = None,
    ) -> Prices:
        """Collect the prices that these accounts need.

        Keys of ``marks`` that are asset symbols count as asset prices.

        Raises
        ------
        RiskDataError
            A price is missing, not finite or not > 0, or of something the venue does not know.
        """
        markets, assets = venue.markets, venue.assets
        known = dict(_pairs("marks", marks))
        direct = {k: known.pop(k) for k in assets.symbol if k in known and k not in markets.symbol}
        mark = by_symbol("marks", known, markets.symbol, "a market")
        _must_not_pass_max_price(venue, mark)
        index = by_symbol("indexes", indexes, markets.symbol, "a market")
        direct |= dict(_pairs("asset_prices", asset_prices))
        given = by_symbol("asset_prices", direct, assets.symbol, "a collateral asset")
        interest = by_symbol("open_interest", open_interest, markets.symbol, "a market", _NOT_NEGATIVE)
        rate = by_symbol("funding_rates", funding_rates, markets.symbol, "a market", _RATE)
        value = asset_values(venue, mark, index, given)
        own = _open_lots(venue, accounts, interest)
        prices = cls(mark, index, given, value, interest, rate, own, venue)
        prices._cover(accounts)
        return prices

    @classmethod
    def of_tick(cls, venue: Venue, accounts: Accounts, tick: Tick) -> Prices:
        """Prices of a tick that these accounts need."""
        return cls.read(
            venue, accounts, tick.marks, tick.indexes, tick.asset_prices, tick.open_interest, tick.funding_rates
        )

    def moved(self, market: Float, asset: Float) -> Prices:
        """Prices times a factor per market (mark and index), and per asset.

        NaN is no factor of its own: such an asset moves with the market that it takes its price from, or not at all.
        """
        mark, index = self.mark * market, self.index * market
        _must_not_pass_max_price(self.venue, mark)
        value = np.where(np.isnan(asset), asset_values(self.venue, mark, index, self.given), self.asset * asset)
        value[self.venue.settle] = 1.0
        return replace(self, mark=mark, index=index, asset=value)

    def _cover(self, accounts: Accounts) -> None:
        """Refuse to go on where something that an account holds has no price."""
        mark, asset, venue = self.mark, self.asset, self.venue
        columns = accounts.columns
        if np.isnan(mark).any():
            held = (columns.lots != 0) | (columns.open_bid != 0) | (columns.open_ask != 0)
            for m in np.flatnonzero(np.isnan(mark)).tolist():
                if held[columns.market == m].any():
                    raise RiskDataError("marks", venue.markets.symbol[m], "an account holds it: a mark is needed")
        if np.isnan(asset).any():
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
        return (own if np.isnan(given) else tables.exact(given)) * tables.exact(mark)

    @cached_property
    def columns(self) -> PriceColumns:
        """Prices folded with lot and quantum once, beside the margin rules that they meet."""
        assets, policy, curves = self.venue.assets, self.venue.policy, self.venue.curves
        lots, quanta = self.venue.settle_quanta
        unit = float(self.venue.settle_quantum)
        mark, asset = np.nan_to_num(self.mark), np.nan_to_num(self.asset)
        base, factor, limit, bracket_from, deduction = curves.folded(
            np.concatenate([mark, asset]), self.open_notional, unit
        )
        return PriceColumns(
            price_per_lot=mark * lots,
            price_per_quantum=asset * quanta,
            curve_base=base,
            curve_limit=limit,
            curve_factor=factor,
            bracket_offset=curves.bracket_offset,
            bracket_from=bracket_from,
            bracket_rate=curves.bracket_rate,
            bracket_deduction=deduction,
            weight=assets.weight,
            haircut_base=assets.haircut_base,
            haircut_penalty=assets.haircut_penalty,
            haircut_size=assets.quantum_size * (asset if policy.haircut_size_unit == "notional" else 1.0),
            settle_quantum=unit,
            acmf_divisor=float(policy.acmf_divisor),
            acmf_offset=float(policy.acmf_offset),
        )


def asset_values(venue: Venue, mark: Float, index: Float, given: Float) -> Float:
    """Prices of all assets: those given, and those that follow from the markets, of one instant or many.

    mark and index have the shape (..., M), given and the result (..., K); NaN is no price.
    """
    asset = given.copy()
    for m, k in enumerate(venue.markets.base_asset.tolist()):
        if k >= 0:
            followed = np.where(np.isnan(index[..., m]), mark[..., m], index[..., m])
            asset[..., k] = np.where(np.isnan(asset[..., k]), followed, asset[..., k])
    asset[..., venue.settle] = 1.0
    return asset


def _must_not_pass_max_price(venue: Venue, mark: Float) -> None:
    for m in np.flatnonzero(mark > venue.markets.max_ticks * venue.markets.tick_size).tolist():
        symbol = venue.markets.symbol[m]
        raise RiskDataError("marks", symbol, "must be at most the market's maxPrice", value=mark[m])


def _pairs(table: str, prices: PriceMap | None) -> Iterable[tuple[str, Any]]:
    """Names and prices of a mapping or a Series."""
    if prices is None:
        return ()
    given: object = prices
    if not isinstance(given, Mapping | pd.Series):
        raise RiskDataError(table, None, f"must be a mapping or a Series by symbol, not {type(prices).__name__}")
    return ((str(name), price) for name, price in prices.items())


def _open_lots(venue: Venue, accounts: Accounts, given: Float) -> Int:
    """Larger of the accounts' long and short lots, of the markets whose margin function asks and has no better."""
    markets = len(venue.markets.symbol)
    asking = {c // 2 for c, function in enumerate(venue.curves.functions) if isinstance(function, OpenInterest)}
    found = np.zeros(markets, np.int64)
    for m in asking.intersection(np.flatnonzero(np.isnan(given)).tolist()):
        lots = accounts.columns.lots[accounts.columns.market == m]
        found[m] = max(int(lots[lots > 0].sum()), -int(lots[lots < 0].sum()))
    return found


Rule: TypeAlias = "tuple[Callable[[float], bool], str]"
_POSITIVE: Rule = (lambda value: value > 0, "must be a finite number > 0")
_NOT_NEGATIVE: Rule = (lambda value: value >= 0, "must be a finite number >= 0")
_RATE: Rule = (lambda value: abs(value) <= 1, "must be a number from -1 to 1")


def by_symbol(table: str, prices: PriceMap | None, names: tuple[str, ...], what: str, rule: Rule = _POSITIVE) -> Float:
    """Numbers of a mapping or a Series in the order of ``names``, NaN for those it has not.

    Raises
    ------
    RiskDataError
        It is neither, names something else, or a number breaks the rule.
    """
    column = np.full(len(names), np.nan)
    fits, text = rule
    for name, price in _pairs(table, prices):
        if name not in names:
            raise RiskDataError(table, name, f"must be {what} of the venue", value=price)
        try:
            value = float(price)
        except (TypeError, ValueError):
            raise RiskDataError(table, name, "must be a number", value=str(price)) from None
        if not (np.isfinite(value) and fits(value)):
            raise RiskDataError(table, name, text, value=value)
        column[names.index(name)] = value
    return column
