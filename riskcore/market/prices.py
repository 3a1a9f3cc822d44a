"""Prices of a tick, complete and folded with the units and the margin functions of the venue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, counted, units
from ..kernels.guards import (
    OUT_OF_RANGE,
    UNPRICED,
    any_lots,
    complete_prices,
    first_above,
    first_missing,
    first_unpriced,
    follow_instants,
    follow_markets,
)
from ..kernels.layouts import AccountColumns, PriceArrays, SweepLookup
from ..kernels.sweep import fill_sweep_lookup
from ..scenario import ScenarioMarket
from ..state import Accounts, must_fit
from ..venue import Venue, values_at
from . import scenario_data
from .reading import _RATE, NOT_NEGATIVE, POSITIVE, PriceMap, _pairs, by_symbol, first_bad_bar, no_lots, no_prices
from .tick import Tick

T = TypeVar("T")


@dataclass
class Prices:
    """Prices of a tick, one per market and asset; NaN where the tick has none and no account needs it.

    Attributes
    ----------
    mark, index : ndarray of float64, shape (M,)
        Marks and indexes that count, units of the market's quote: guarded, in a run.
    given_mark, given_index, last, low, high : ndarray of float64, shape (M,)
        Mark, index, price of the last trade, and ends of the bar as the tick has them, units of the market's quote.
    given_asset, own_asset : ndarray of float64, shape (K,)
        Prices of assets as the tick has them, and those that count of them; settle units.
    asset : ndarray of float64, shape (K,)
        Those, and prices that follow for the others from the markets.
    open_interest, funding_rate : ndarray of float64, shape (M,)
        Quantity, and rate (a fraction of the notional), as the tick has them.
    open_lots : ndarray of int64, shape (M,)
        Open interest in lots by the accounts' positions; 0 where no margin function asks for it.
    venue : Venue
        The venue of the markets and assets.
    scenario : ScenarioMarket or None
        Data of the tick for `Venue.instruments`; None of a venue without options and without a scenario model.

    Notes
    -----
    The mark of an option is its value of record, in its settle asset. The rules: docs/one_tick.md, "Prices", and
    docs/scenario_margin.md, "Instruments and equity".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
    >>> prices.mark[venue.markets.row[market]].item(), prices.asset[venue.settle].item()
    (195.0, 1.0)
    """

    mark: Float
    index: Float
    given_mark: Float
    given_index: Float
    last: Float
    low: Float
    high: Float
    given_asset: Float
    own_asset: Float
    asset: Float
    open_interest: Float
    funding_rate: Float
    open_lots: Int
    venue: Venue
    scenario: ScenarioMarket | None = None

    def __repr__(self) -> str:
        """One line: markets and assets that have a price."""
        markets, assets = ((~np.isnan(prices)).sum() for prices in (self.mark, self.asset))
        return f"Prices({counted(markets, 'market')}, {counted(assets, 'asset')})"

    @classmethod
    def read(
        cls,
        venue: Venue,
        accounts: Accounts,
        marks: PriceMap | Tick,
        indexes: PriceMap | None = None,
        asset_prices: PriceMap | None = None,
        open_interest: PriceMap | None = None,
    ) -> Prices:
        """Collect the prices that these accounts need, and use them unguarded.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        accounts : Accounts
            The state.
        marks : mapping of str to float, Series or Tick
            Marks as of `Tick`, where keys that are asset symbols count as asset prices; or a tick with all prices.
        indexes, asset_prices, open_interest
            As of `Tick`; None beside a tick.

        Returns
        -------
        Prices
            Complete prices.

        Raises
        ------
        RiskDataError
            A price is missing, not finite or not > 0, or of something the venue does not know, or the accounts were
            read with a venue of other units.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Prices.read(venue, accounts, {})
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: marks.SOL_USDC_PERP: an account holds it: a mark is needed
        """
        must_fit(accounts, venue)
        if isinstance(marks, Tick):
            must_stand_alone({"indexes": indexes, "asset_prices": asset_prices, "open_interest": open_interest})
            return cls.of_tick(venue, accounts, marks)
        must_need_no_time(venue)
        markets, assets = venue.markets, venue.assets
        by_name = dict(_pairs("marks", marks))
        direct = {k: by_name.pop(k) for k in assets.symbol if k in by_name and k not in markets.symbol}
        direct |= dict(_pairs("asset_prices", asset_prices))
        unchecked = cls.incomplete(venue, Tick(0, by_name, None, indexes, direct, open_interest))
        return unchecked._used(accounts, unchecked.mark, unchecked.index, unchecked.asset, "a mark is needed")

    @classmethod
    def of_tick(cls, venue: Venue, accounts: Accounts, tick: Tick) -> Prices:
        """Collect the prices of a tick that these accounts need, and use them unguarded.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        accounts : Accounts
            The state; its units are those of the venue.
        tick : Tick
            The tick.

        Returns
        -------
        Prices
            Complete prices.

        Raises
        ------
        RiskDataError
            As of `read`.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.of_tick(venue, accounts, rc.Tick("2025-10-10T21:00Z", {market: 195.0}))
        >>> prices.mark[venue.markets.row[market]].item()
        195.0
        """
        prices = cls.incomplete(venue, tick)
        return prices._used(accounts, prices.mark, prices.index, prices.asset, "a mark is needed")

    @classmethod
    def incomplete(cls, venue: Venue, tick: Tick) -> Prices:
        """Collect the prices of a tick as they are; any may be missing, and assets have only the prices of the tick.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        tick : Tick
            The tick.

        Returns
        -------
        Prices
            Prices, NaN where the tick has none.

        Raises
        ------
        RiskDataError
            A price is not finite or not > 0, or of something the venue does not know; or a bar lacks an end or a mark,
            or its mark is outside of it.

        Examples
        --------
        >>> import riskcore as rc
        >>> prices = rc.Prices.incomplete(
        ...     rc.load_venue("backpack"), rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0})
        ... )
        >>> prices.mark.tolist()
        [nan, nan, 195.0, nan]
        """
        markets = venue.markets.row
        none = no_prices(len(markets))
        mark, index, low, high, last, open_interest, funding_rate = [
            none if (given := getattr(tick, table)) is None else by_symbol(table, given, markets, "a market", rule)
            for table, rule in (_OF_OPTIONS if venue.markets.has_options else _OF_MARKETS)
        ]
        if venue.markets.has_options and (zero := np.flatnonzero((mark == 0.0) & ~venue.markets.is_option)).size:
            raise RiskDataError("marks", venue.markets.symbol[zero[0]], POSITIVE.text, value=0.0)
        if (bad := first_bad_bar(mark, low, high)) is not None:
            m, of_high, rule = bad
            table, value = ("highs", high[m]) if of_high else ("lows", low[m])
            raise RiskDataError(table, venue.markets.symbol[m], rule, value=value)
        asset = by_symbol("asset_prices", tick.asset_prices, venue.assets.row, "a collateral asset")
        prices = cls(
            mark, index, mark, index, last, low, high, asset, asset, asset, open_interest, funding_rate,
            no_lots(len(markets)), venue,
        )  # fmt: skip
        return prices._with_scenario(tick) if venue.has_scenarios or tick.has_scenario_data else prices

    def _with_scenario(self, tick: Tick) -> Prices:
        """Add the data of the tick that options and scenario margin need, and the values of options."""
        venue = self.venue
        given = scenario_data.given_indexes(venue, tick)
        own = scenario_data.asset_levels(venue, given, self.own_asset)
        asset = asset_values(venue, self.mark, self.index, own)
        scenario = scenario_data.read(venue, tick, given, self.mark, self.index, asset)
        if not venue.has_scenarios:
            return self
        mark = scenario_data.with_values(venue, scenario, self.mark)
        return replace(self, mark=mark, own_asset=own, asset=own, scenario=scenario)

    @classmethod
    def used(
        cls, venue: Venue, mark: Float, index: Float, open_interest: Float, asset: Float, open_lots: Int
    ) -> Prices:
        """Return prices that counted at an instant, as far as these are known.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        mark, index, open_interest : ndarray of float64, shape (M,)
            Settle units, and quantity; NaN for none.
        asset : ndarray of float64, shape (K,)
            Prices of the assets that have one of their own, settle units; NaN for the others.
        open_lots : ndarray of int64, shape (M,)
            Open interest in lots by the accounts' positions, where a margin function may ask for it.

        Returns
        -------
        Prices
            The prices, assets' prices that follow from the markets filled in.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> venue, none = rc.load_venue("backpack"), np.full(4, np.nan)
        >>> own, lots = np.full(2, np.nan), np.zeros(4, np.int64)
        >>> rc.Prices.used(venue, np.full(4, 195.0), none, none, own, lots).asset.tolist()
        [1.0, 195.0]
        """
        none = no_prices(len(mark))
        return cls(
            mark=mark,
            index=index,
            given_mark=none,
            given_index=none,
            last=none,
            low=none,
            high=none,
            given_asset=no_prices(len(asset)),
            own_asset=asset,
            asset=asset_values(venue, mark, index, asset),
            open_interest=open_interest,
            funding_rate=none,
            open_lots=open_lots,
            venue=venue,
        )

    def without(self, market: Bool) -> Prices:
        """Return the prices as if the tick had given none of some markets.

        Parameters
        ----------
        market : ndarray of bool, shape (M,)
            The markets.

        Returns
        -------
        Prices
            NaN for the mark, the index, the last price and the bar of these markets.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> prices = rc.Prices.incomplete(rc.load_venue("backpack"), rc.Tick(0, {"SOL_USDC_PERP": 195.0}))
        >>> prices.without(np.array([False, False, True, False])).given_mark.tolist()
        [nan, nan, nan, nan]
        """
        if not market.any():
            return self
        names = ("mark", "index", "given_mark", "given_index", "last", "low", "high")
        left: dict[str, Any] = {name: np.where(market, np.nan, getattr(self, name)) for name in names}
        return replace(self, **left)

    def guarded(
        self, accounts: Accounts, mark: Float, index: Float, asset: Float, delisted: Bool | None = None
    ) -> Prices:
        """Put the guarded marks, indexes and prices of assets in the place of those of the tick.

        Parameters
        ----------
        accounts : Accounts
            The state.
        mark, index : ndarray of float64, shape (M,)
            Guarded prices, settle units; NaN for none.
        asset : ndarray of float64, shape (K,)
            Guarded prices of the assets that have one of their own, settle units; NaN for the others.
        delisted : ndarray of bool, shape (M,), optional
            Markets that need no mark, as their positions are settled before anything else; none by default.

        Returns
        -------
        Prices
            Complete prices.

        Raises
        ------
        RiskDataError
            A mark is above maxPrice, or a position or balance of an account has no price.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> given = rc.Prices.incomplete(venue, rc.Tick("2025-10-10T21:00Z", {market: 195.0}))
        >>> prices = given.guarded(accounts, given.mark - 1.0, given.index, given.asset)
        >>> prices.mark[venue.markets.row[market]].item(), prices.given_mark[venue.markets.row[market]].item()
        (194.0, 195.0)
        """
        rule = "a mark is needed: the tick has neither a mark nor an index, a book or a last price"
        return self._used(accounts, mark, index, asset, rule, delisted)

    def _used(
        self, accounts: Accounts, mark: Float, index: Float, asset: Float, rule: str, delisted: Bool | None = None
    ) -> Prices:
        venue, own, asset, found = self.venue, asset, np.empty(len(asset)), np.empty(1, np.int64)
        accounts.units.must_fit(venue.units)
        markets = venue.markets
        if self.scenario is not None:
            scenario_data.must_cover(venue, self.scenario, accounts)
        complete_prices(
            mark, index, own, markets.price_bounds, markets.base_asset, markets.quote_asset, venue.settle, asset, found
        )
        if found[0] & OUT_OF_RANGE:
            _must_be_in_range(venue, mark)
        lots = open_lots(venue, accounts, self.open_interest)
        prices = Prices(
            mark, index, self.given_mark, self.given_index, self.last, self.low, self.high, self.given_asset, own,
            asset, self.open_interest, self.funding_rate, lots, venue, self.scenario,
        )  # fmt: skip
        if found[0] & UNPRICED:
            prices.must_cover(accounts, f"an account holds it: {rule}", delisted)
        return prices

    def at(self, mark: Float, asset: Float) -> Prices:
        """Return the prices with other marks and prices of assets.

        Parameters
        ----------
        mark : ndarray of float64, shape (M,)
            Marks, settle units.
        asset : ndarray of float64, shape (K,)
            Prices of assets, settle units.

        Returns
        -------
        Prices
            Other prices.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> prices.at(prices.mark * 2.0, prices.asset).mark.tolist()
        [nan, nan, 390.0, nan]
        """
        scenario = self.scenario
        if scenario is not None:
            scenario = scenario_data.with_prices(self.venue, scenario, mark, asset)
        return Prices(
            mark, self.index, self.given_mark, self.given_index, self.last, self.low, self.high, self.given_asset,
            self.own_asset, asset, self.open_interest, self.funding_rate, self.open_lots, self.venue, scenario,
        )  # fmt: skip

    def moved(self, market: Float, asset: Float, underlying: Float | None = None) -> Prices:
        """Return the prices times a factor per market (mark and index), and per asset.

        Parameters
        ----------
        market : ndarray of float64, shape (M,)
            Factors, > 0; NaN: the market does not move, or, where the prices have data of underlyings, with its own.
            An option has its value at the prices moved, and no factor.
        asset : ndarray of float64, shape (K,)
            Factors, > 0; NaN: the asset moves with the market that it takes its price from, or not at all.
        underlying : ndarray of float64, shape (U,), optional
            Factors of the underlyings of `Venue.instruments`, > 0, for their indexes and forwards; NaN: the underlying
            moves as its first perpetual or dated future that has a factor, as the asset of its name, or not at all.

        Returns
        -------
        Prices
            Other prices; the settle asset stays at 1.

        Raises
        ------
        RiskDataError
            A mark is above maxPrice.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
        >>> prices.moved(np.full(4, 0.5), np.full(2, np.nan)).mark[venue.markets.row[market]].item()
        97.5
        """
        venue, scenario = self.venue, self.scenario
        if scenario is not None:
            none = np.full(len(scenario.index), np.nan)
            factor = scenario_data.followed(venue, market, asset, none if underlying is None else underlying)
            market, asset = factor.market, factor.asset
        market = np.where(np.isnan(market), 1.0, market)
        mark, index = self.mark * market, self.index * market
        _must_be_in_range(venue, mark)
        value = np.where(np.isnan(asset), asset_values(venue, mark, index, self.own_asset), self.asset * asset)
        value[venue.settle] = 1.0
        if scenario is not None:
            scenario = scenario_data.shocked(venue, scenario_data.with_prices(venue, scenario, mark, value), factor)
            mark = scenario_data.with_values(venue, scenario, mark)
        return replace(self, mark=mark, index=index, asset=value, scenario=scenario)

    def must_cover(
        self, accounts: Accounts, rule: str = "an account holds it: a price is needed", delisted: Bool | None = None
    ) -> None:
        """Refuse prices that are missing for a position, order or balance of an account.

        Parameters
        ----------
        accounts : Accounts
            The state.
        rule : str
            Text of the message for a market.
        delisted : ndarray of bool, shape (M,), optional
            Markets that need no mark; none by default.

        Raises
        ------
        RiskDataError
            A position or balance of an account has no price.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Prices.incomplete(venue, rc.Tick(0, {})).must_cover(accounts)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: marks.SOL_USDC_PERP: an account holds it: a price is needed
        """
        market, asset = self.missing(accounts, delisted)
        if market is not None:
            if self.venue.markets.is_option[market]:
                rule = f"an account holds it: {scenario_data.needed(self.venue)}"
            raise RiskDataError("marks", self.venue.markets.symbol[market], rule)
        if asset is not None:
            symbol = self.venue.assets.symbol[asset]
            raise RiskDataError("asset_prices", symbol, "an account holds it: a price is needed")

    def missing(self, accounts: Accounts, delisted: Bool | None = None) -> tuple[int | None, int | None]:
        """Return the first market and the first asset without a price that an account holds.

        Parameters
        ----------
        accounts : Accounts
            The state.
        delisted : ndarray of bool, shape (M,), optional
            Markets that need no mark; none by default.

        Returns
        -------
        market, asset : int or None
            Rows; None if there is none.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Prices.incomplete(venue, rc.Tick(0, {})).missing(accounts)
        (2, 0)
        """
        columns, market, asset = accounts.columns, -1, -1
        if first_missing(self.mark) >= 0:
            mark = self.mark if delisted is None else np.where(delisted, 1.0, self.mark)
            market = first_unpriced(mark, columns.market, holds_lots(columns))
        if first_missing(self.asset) >= 0:
            asset = first_unpriced(self.asset, columns.asset, holds_quanta(columns, self.venue))
        return None if market < 0 else market, None if asset < 0 else asset

    def open_lots_under(self, venue: Venue, accounts: Accounts) -> Int:
        """Return the open interest by the accounts' positions for the instants after this tick.

        Parameters
        ----------
        venue : Venue
            The venue of these instants, with the units of this one.
        accounts : Accounts
            The state before the next tick.

        Returns
        -------
        ndarray of int64, shape (M,)
            ``open_lots``, and those of ``accounts`` where only a margin function of ``venue`` asks for them.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> prices.open_lots_under(venue, accounts).tolist()
        [0, 0, 0, 0]
        """
        new = venue.margin_functions.open_interest_markets - self.venue.margin_functions.open_interest_markets
        if not new:
            return self.open_lots
        lots, rows = self.open_lots.copy(), sorted(new)
        lots[rows] = open_lots(venue, accounts, self.open_interest)[rows]
        return lots

    @property
    def is_complete(self) -> bool:
        """Whether every market and asset has a price."""
        return bool(first_missing(self.mark) < 0 and first_missing(self.asset) < 0)

    def open_notional(self, market: int) -> Fraction:
        """Return the open interest of a market in settle units, exactly.

        Parameters
        ----------
        market : int
            Row of the market.

        Returns
        -------
        Fraction
            Open interest at the mark; 0 without a mark, or a price of the market's settle asset.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0}, open_interest={market: 1_000.0})
        >>> prices.open_notional(venue.markets.row[market])
        Fraction(195000, 1)
        """
        markets, reported = self.venue.markets, float(self.open_interest[market])
        mark, price = float(self.mark[market]), float(self.asset[markets.settle[market]])
        if np.isnan(mark) or np.isnan(price):
            return Fraction(0)
        lots = int(self.open_lots[market]) if np.isnan(reported) else units.exact(reported) / markets.step[market]
        return lots * abs(markets.lot_value(market, units.exact(mark))) * units.exact(price)

    def token_prices(self, mark: Float, asset: Float) -> Float:
        """Return the prices that make token quantities of the notionals of positions.

        Parameters
        ----------
        mark : ndarray of float64, shape (M,)
            Marks.
        asset : ndarray of float64, shape (K,)
            Prices of assets, settle units.

        Returns
        -------
        ndarray of float64, shape (M,)
            Settle units per unit of the base asset, of an inverse market per unit of its settle asset.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> prices.token_prices(prices.mark, prices.asset).tolist()
        [nan, nan, 195.0, nan]
        """
        if self.venue.plain_money:
            return mark
        markets = self.venue.markets
        return np.asarray(asset[markets.settle] * np.where(markets.inverse, 1.0, mark))

    @cached_property
    def arrays(self) -> PriceArrays:
        """Prices per lot and per quantum, computed once, in settle quanta, beside the margin functions."""
        assets, policy, margin_functions = self.venue.assets, self.venue.policy, self.venue.margin_functions
        unit = float(self.venue.settle_quantum)
        mark, asset = (v if first_missing(v) < 0 else np.where(np.isnan(v), 0.0, v) for v in (self.mark, self.asset))
        folded = self.venue.folded_margin_functions or margin_functions.folded(
            np.concatenate([self.token_prices(mark, asset), asset]), self.open_notional, unit
        )
        unit_prices = unit_prices_at(self.venue, mark, asset)
        return PriceArrays(
            price_per_lot=unit_prices.price_per_lot,
            value_per_lot=unit_prices.value_per_lot,
            market_settle=self.venue.markets.settle,
            money=self.venue.money_rows,
            price_per_quantum=unit_prices.price_per_quantum,
            functions=folded,
            weight=assets.weight,
            haircut_base=assets.haircut_base,
            haircut_penalty=assets.haircut_penalty,
            haircut_size=unit_prices.haircut_size,
            settle_quantum=unit,
            acmf_divisor=float(policy.acmf_divisor),
            acmf_offset=float(policy.acmf_offset),
        )

    def forget(self) -> None:
        """Free the arrays that follow from the prices; they are computed again when they are asked for.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = rc.Prices.read(venue, accounts, {market: 195.0})
        >>> prices.arrays.price_per_lot[venue.markets.row[market]].item()
        1950000.0
        >>> prices.forget()
        """
        for name in ("arrays", "lookup", "_folded"):
            vars(self).pop(name, None)

    def folded(self, fold: Callable[[Prices], T]) -> T:
        """Return what a function makes of these prices, computed at its first call.

        Parameters
        ----------
        fold : callable
            The function, called with these prices: that of the venue's margin model, say.

        Returns
        -------
        object
            The result of ``fold``; `forget` frees it.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> prices.folded(lambda prices: prices.arrays) is prices.arrays
        True
        """
        made = vars(self).setdefault("_folded", {})
        if fold not in made:
            made[fold] = fold(self)
        folded: T = made[fold]
        return folded

    @cached_property
    def lookup(self) -> SweepLookup:
        """The figures of ``arrays``, laid out as a sweep looks them up (settle quanta)."""
        arrays = self.arrays
        market = np.empty((len(self.mark) + 1, 4))
        asset, weight, borrow = np.empty((3, len(self.asset) + 1, 4))
        market_above, borrow_above = self.venue.requirement_lookups()
        lookup = SweepLookup(
            market=market,
            extra=np.empty_like(market) if len(arrays.money) > 1 else None,
            asset=asset,
            weight=weight,
            borrow=borrow,
            market_above=market_above,
            borrow_above=borrow_above,
            settle_quantum=arrays.settle_quantum,
            acmf_divisor=arrays.acmf_divisor,
            acmf_offset=arrays.acmf_offset,
        )
        fill_sweep_lookup(arrays, lookup)
        return lookup


class UnitPrices(NamedTuple):
    """Prices of lots and quanta at one instant or many, as of `PriceArrays`; 0 where there is no price.

    Attributes
    ----------
    price_per_lot, value_per_lot : ndarray of float64, shape (..., M)
    price_per_quantum, haircut_size : ndarray of float64, shape (..., K)

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import unit_prices_at
    >>> unit_prices_at(rc.load_venue("backpack"), np.full(4, 195.0), np.ones(2)).price_per_quantum.shape
    (2,)
    """

    price_per_lot: Float
    value_per_lot: Float
    price_per_quantum: Float
    haircut_size: Float


def unit_prices_at(venue: Venue, mark: Float, asset: Float) -> UnitPrices:
    """Return the prices of lots and quanta at one instant or many.

    Parameters
    ----------
    venue : Venue
        The venue of M markets and K assets.
    mark : ndarray of float64, shape (..., M)
        Marks, units of the market's quote; 0 for none.
    asset : ndarray of float64, shape (..., K)
        Prices of assets, settle units; 0 for none.

    Returns
    -------
    UnitPrices
        Settle quanta, and for ``value_per_lot`` quanta of the market's settle asset.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import unit_prices_at
    >>> venue = rc.load_venue("backpack")
    >>> unit_prices_at(venue, np.full(4, 195.0), np.ones(2)).price_per_lot.tolist()[2]
    1950000.0
    """
    markets, (lots, quanta) = venue.markets, venue.settle_quanta
    price_per_quantum = asset * quanta
    if venue.plain_money:
        value_per_lot = price_per_lot = mark * lots
    else:
        value_per_lot = values_at(mark, lots, markets.inverse)
        price_per_lot = np.abs(value_per_lot) * price_per_quantum[..., markets.settle]
    by_notional = venue.policy.haircut_size_unit == "notional"
    haircut_size = venue.assets.quantum_size * (asset if by_notional else np.ones_like(asset))
    return UnitPrices(price_per_lot, value_per_lot, price_per_quantum, haircut_size)


def asset_values(venue: Venue, mark: Float, index: Float, asset_prices: Float) -> Float:
    """Return the prices of all assets at one instant or many: those given, and those that follow from the markets.

    Parameters
    ----------
    venue : Venue
        The venue of M markets and K assets.
    mark, index : ndarray of float64, shape (..., M)
        Settle units; NaN for none.
    asset_prices : ndarray of float64, shape (..., K)
        Prices of assets, settle units; NaN for none.

    Returns
    -------
    ndarray of float64, shape (..., K)
        Settle units; NaN for none.

    Notes
    -----
    The rule: docs/one_tick.md, "Prices".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import asset_values
    >>> venue = rc.load_venue("backpack")
    >>> venue.assets.symbol, asset_values(venue, np.full(4, 195.0), np.full(4, np.nan), np.full(2, np.nan)).tolist()
    (('USDC', 'SOL'), [1.0, 195.0])
    """
    asset, kinds = asset_prices.copy(), (venue.markets.base_asset, venue.markets.quote_asset, venue.settle)
    if mark.ndim == 1:
        follow_markets(mark, index, *kinds, asset)
    else:
        marks, indexes, assets = (prices.reshape(-1, prices.shape[-1]) for prices in (mark, index, asset))
        follow_instants(marks, indexes, *kinds, assets)
    return asset


_OF_MARKETS = (
    ("marks", POSITIVE), ("indexes", POSITIVE), ("lows", POSITIVE), ("highs", POSITIVE), ("last_prices", POSITIVE),
    ("open_interest", NOT_NEGATIVE), ("funding_rates", _RATE),
)  # fmt: skip
"""Numbers of a tick by market, and their ranges."""

_OF_OPTIONS = (("marks", NOT_NEGATIVE), *_OF_MARKETS[1:])
"""The same where a market is an option: its price may be 0."""


def must_need_no_time(venue: Venue) -> None:
    """Refuse prices without a time where contracts expire and what they need depends on how much time is left.

    Parameters
    ----------
    venue : Venue
        The venue.

    Raises
    ------
    RiskDataError
        It has options, or a scenario model and dated futures.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market.prices import must_need_no_time
    >>> must_need_no_time(rc.load_venue("backpack"))
    """
    if venue.has_scenarios and venue.markets.expiry.any():
        rule = "must be a Tick or a list of ticks: the venue has contracts that expire, and other prices have no time"
        raise RiskDataError("marks", None, rule)


def must_stand_alone(beside: Mapping[str, object]) -> None:
    """Refuse prices that are given beside a tick, which has its own.

    Parameters
    ----------
    beside : mapping of str to object
        The arguments by name, None where one is missing.

    Raises
    ------
    RiskDataError
        One of them is given.

    Examples
    --------
    >>> from riskcore.market.prices import must_stand_alone
    >>> must_stand_alone({"indexes": {"BTC_USDC_PERP": 60_000.0}})
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: indexes: must be None beside a Tick, which has its own
    """
    for name, given in beside.items():
        if given is not None:
            raise RiskDataError(name, None, "must be None beside a Tick, which has its own")


def _must_be_in_range(venue: Venue, mark: Float) -> None:
    markets = venue.markets
    m = first_above(mark, markets.max_price)
    if m >= 0:
        raise RiskDataError("marks", markets.symbol[m], markets.too_high(m), value=mark[m])
    m = first_above(markets.min_price, mark)
    if m >= 0:
        raise RiskDataError("marks", markets.symbol[m], markets.too_low, value=mark[m])


def holds_lots(columns: AccountColumns) -> Bool:
    """Return whether a position row has a position or an open order, shape (P,): its market needs a mark."""
    holds = np.empty(len(columns.lots), bool)
    any_lots(columns.lots, columns.open_bid, columns.open_ask, holds)
    return holds


def holds_quanta(columns: AccountColumns, venue: Venue) -> Bool:
    """Return whether a balance row has money, or positions that settle in its asset, shape (B,): it needs a price."""
    holds = (columns.free != 0) | (columns.lent != 0)
    if not venue.plain_money:  # the venue's own settle asset always has a price
        holds |= (columns.unsettled != 0) | (columns.balance_cost != 0)
        holds[columns.position_balance[holds_lots(columns)]] = True
    return np.asarray(holds)


def open_lots(venue: Venue, accounts: Accounts, reported: Float) -> Int:
    """Return the larger of the accounts' long and short lots, for markets whose margin function needs an open interest.

    Parameters
    ----------
    venue : Venue
        The venue of M markets.
    accounts : Accounts
        The state.
    reported : ndarray of float64, shape (M,)
        Open interest that was given, NaN for none.

    Returns
    -------
    ndarray of int64, shape (M,)
        Lots; 0 where no margin function asks for them, or an open interest was given.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.market import open_lots
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> open_lots(venue, accounts, np.full(4, np.nan)).tolist()
    [0, 0, 0, 0]
    """
    lots = no_lots(len(reported))
    if asking := venue.margin_functions.open_interest_markets:
        lots = lots.copy()
        for m in asking.intersection(np.flatnonzero(np.isnan(reported)).tolist()):
            held = accounts.columns.lots[accounts.columns.market == m]
            lots[m] = max(int(held[held > 0].sum()), -int(held[held < 0].sum()))
    return lots
