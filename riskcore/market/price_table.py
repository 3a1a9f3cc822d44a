"""Prices of many instants, checked before the first is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..boundary import RiskDataError, as_text, frames, timestamps
from ..scenario import ScenarioMarket
from ..state import Accounts, must_fit
from ..venue import Venue
from . import scenario_data
from .prices import (
    Prices,
    UnitPrices,
    asset_values,
    holds_lots,
    holds_quanta,
    must_need_no_time,
    must_stand_alone,
    open_lots,
    unit_prices_at,
)
from .reading import NOT_NEGATIVE, POSITIVE, PriceMap, Rule, by_symbol, by_time, no_prices, of_row
from .tick import Tick


@dataclass(frozen=True)
class PriceTable:
    """Complete prices of T instants; NaN where an instant has none and no account needs it.

    Attributes
    ----------
    time : pandas.Index, shape (T,)
        Labels of the instants, in any order.
    mark, index, open_interest : ndarray of float64, shape (T, M)
        As of `Prices`.
    given_asset, asset : ndarray of float64, shape (T, K)
        As of `Prices`.
    open_lots : ndarray of int64, shape (M,)
        Open interest in lots by the accounts' positions, where a margin function may ask for it.
    venue : Venue
        The venue of the markets and assets.
    scenarios : tuple of ScenarioMarket, length T, optional
        As of `Prices`, where the instants are those of ticks.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.market import PriceTable
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, 195.0]}))
    >>> len(prices), prices.mark[:, venue.markets.row[market]].tolist()
    (2, [200.0, 195.0])
    """

    time: pd.Index[Any]
    mark: Float
    index: Float
    open_interest: Float
    given_asset: Float
    asset: Float
    open_lots: Int
    venue: Venue
    scenarios: tuple[ScenarioMarket, ...] | None = None

    @classmethod
    def of(
        cls,
        venue: Venue,
        accounts: Accounts,
        time: pd.Index[Any],
        mark: Float,
        index: Float,
        open_interest: Float,
        asset: Float,
    ) -> PriceTable:
        """Complete prices that are each in their range.

        Parameters
        ----------
        venue : Venue
            The venue of M markets and K assets.
        accounts : Accounts
            The state.
        time : pandas.Index, shape (T,)
            Labels of the instants.
        mark, index, open_interest : ndarray of float64, shape (T, M)
            Settle units and quantities; NaN for none.
        asset : ndarray of float64, shape (T, K)
            Prices of assets, settle units; NaN for none.

        Returns
        -------
        PriceTable
            The prices, assets' prices that follow from the markets filled in.

        Raises
        ------
        RiskDataError
            A mark is above maxPrice, a position or balance of an account has no price, or the accounts were read with a
            venue of other units.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> mark, none = np.array([[np.nan, np.nan, 195.0, np.nan]]), np.full((1, 4), np.nan)
        >>> prices = PriceTable.of(venue, accounts, pd.Index(["21:00"]), mark, none, none, np.full((1, 2), np.nan))
        >>> prices.asset.tolist()
        [[1.0, 195.0]]
        """
        must_fit(accounts, venue)
        if not len(time):
            raise RiskDataError("marks", None, "must have at least one row")
        asset_complete, columns = asset_values(venue, mark, index, asset), accounts.columns
        is_wrong = ((mark > venue.markets.max_price) | (mark < venue.markets.min_price)).any(axis=1)
        for prices, item, holds in (
            (mark, columns.market, holds_lots(columns)),
            (asset_complete, columns.asset, holds_quanta(columns, venue)),
        ):
            missing = np.isnan(prices)
            if missing.any():
                needed = np.unique(item[holds])
                is_wrong |= missing[:, needed].any(axis=1)
        if is_wrong.any():  # the error of this instant alone
            t = int(is_wrong.argmax())
            with of_row(time[t]):
                Prices.of_tick(venue, accounts, Tick(0, mark[t], None, index[t], asset[t], open_interest[t]))
        lots = Prices.of_tick(venue, accounts, Tick(0, mark[0], None, index[0], asset[0])).open_lots
        return cls(time, mark, index, open_interest, asset, asset_complete, lots, venue)

    @classmethod
    def read(
        cls,
        venue: Venue,
        accounts: Accounts,
        marks: pd.DataFrame | Sequence[Tick],
        indexes: PriceMap | pd.DataFrame | None = None,
        asset_prices: PriceMap | pd.DataFrame | None = None,
        open_interest: PriceMap | pd.DataFrame | None = None,
    ) -> PriceTable:
        """Collect the prices of a frame with a column per market and a row per instant.

        Columns named by asset symbols count as asset prices.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        accounts : Accounts
            The state.
        marks : DataFrame or list of Tick
            Mark prices, settle units; the index has the labels of the instants. Or ticks, whose times are the labels.
        indexes, asset_prices, open_interest : mapping of str to float, Series or DataFrame, optional
            As of `Prices.read`, the same at every instant, or frames with the index of ``marks``; None beside ticks.

        Returns
        -------
        PriceTable
            Complete prices.

        Raises
        ------
        RiskDataError
            As `Prices.read`; the message names the row.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, -1.0]}, index=["20:00", "21:00"]))
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: marks.SOL_USDC_PERP, row 21:00, value -1.0: must be a finite number > 0
        """
        must_fit(accounts, venue)
        markets, assets = venue.markets.row, venue.assets.row
        if _are_ticks(marks):
            must_stand_alone({"indexes": indexes, "asset_prices": asset_prices, "open_interest": open_interest})
            return cls.of_ticks(venue, accounts, marks)
        marks = _wide("marks", marks)
        must_need_no_time(venue)

        def rows(table: str, source: Any, symbols: Mapping[str, int], what: str, rule: Rule = POSITIVE) -> Float:
            if frames.is_frame(source):
                source = _wide(table, source)
            else:
                return np.tile(by_symbol(table, source, symbols, what, rule), (len(marks), 1))
            if not source.index.equals(marks.index):
                raise RiskDataError(table, None, "must have the index of the marks")
            return by_time(table, source, symbols, what, rule)

        if not marks.columns.is_unique:
            twice = str(marks.columns[marks.columns.duplicated()][0])
            raise RiskDataError("marks", twice, "must have one column")
        direct = [str(name) in assets and str(name) not in markets for name in marks.columns]
        asset = rows("asset_prices", asset_prices, assets, "a collateral asset")
        if any(direct):
            from_marks = by_time("asset_prices", marks.loc[:, direct], assets, "a collateral asset")
            asset = np.where(np.isnan(asset), from_marks, asset)
        return cls.of(
            venue,
            accounts,
            marks.index,
            by_time("marks", marks.loc[:, np.logical_not(direct)], markets, "a market"),
            rows("indexes", indexes, markets, "a market"),
            rows("open_interest", open_interest, markets, "a market", NOT_NEGATIVE),
            asset,
        )

    @classmethod
    def of_ticks(cls, venue: Venue, accounts: Accounts, ticks: Sequence[Tick]) -> PriceTable:
        """Collect the prices of ticks, unguarded.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        accounts : Accounts
            The state.
        ticks : sequence of Tick
            T ticks; their times are the labels.

        Returns
        -------
        PriceTable
            Complete prices.

        Raises
        ------
        RiskDataError
            As `Prices.of_tick`; the message names the time.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> ticks = [rc.Tick(0, {"SOL_USDC_PERP": 195.0}), rc.Tick(1_000_000_000, {"SOL_USDC_PERP": 194.0})]
        >>> PriceTable.of_ticks(venue, accounts, ticks).mark[:, 2].tolist()
        [195.0, 194.0]
        """
        must_fit(accounts, venue)
        if not ticks:
            raise RiskDataError("marks", None, "must have at least one tick")
        rows = []
        for tick in ticks:
            with of_row(_label(tick)):
                rows.append(Prices.of_tick(venue, accounts, tick))
        return cls(
            time=pd.Index([tick.time for tick in ticks]),
            mark=np.array([row.mark for row in rows]),
            index=np.array([row.index for row in rows]),
            open_interest=np.array([row.open_interest for row in rows]),
            given_asset=np.array([row.own_asset for row in rows]),
            asset=np.array([row.asset for row in rows]),
            open_lots=open_lots(venue, accounts, no_prices(len(venue.markets.symbol))),
            venue=venue,
            scenarios=tuple(row.scenario for row in rows if row.scenario is not None) or None,
        )

    def __len__(self) -> int:
        return len(self.time)

    def row(self, t: int) -> Prices:
        """Return the prices of one instant.

        Parameters
        ----------
        t : int
            Number of the instant, from 0.

        Returns
        -------
        Prices
            Its prices.

        Raises
        ------
        IndexError
            There is no such instant.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, 195.0]}))
        >>> prices.row(1).mark[venue.markets.row[market]].item()
        195.0
        """
        none = no_prices(len(self.open_lots))
        return Prices(
            mark=self.mark[t],
            index=self.index[t],
            given_mark=self.mark[t],
            given_index=self.index[t],
            last=none,
            low=none,
            high=none,
            given_asset=self.given_asset[t],
            own_asset=self.given_asset[t],
            asset=self.asset[t],
            open_interest=self.open_interest[t],
            funding_rate=none,
            open_lots=np.where(np.isnan(self.open_interest[t]), self.open_lots, 0),
            venue=self.venue,
            scenario=self._scenario(t) if self.venue.has_scenarios else None,
        )

    def _scenario(self, t: int) -> ScenarioMarket:
        """Data of the instant for scenario margin; that of a frame follows from its prices."""
        if self.scenarios is not None:
            return self.scenarios[t]
        none = np.full(len(self.venue.instruments.underlyings), np.nan)
        return scenario_data.read(self.venue, Tick(0, {}), none, self.mark[t], self.index[t], self.asset[t])

    @cached_property
    def start(self) -> Prices:
        """Prices of the first instant."""
        return self.row(0)

    @cached_property
    def unit_prices(self) -> UnitPrices:
        """Prices of lots and quanta at each instant."""
        mark, asset = (np.where(np.isnan(prices), 0.0, prices) for prices in (self.mark, self.asset))
        return unit_prices_at(self.venue, mark, asset)

    def rows(self, first: int, last: int) -> PriceTable:
        """Return the prices of consecutive instants.

        Parameters
        ----------
        first, last : int
            Numbers of the first instant, and of the one after the last.

        Returns
        -------
        PriceTable
            ``last - first`` instants.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.market import PriceTable
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> prices = PriceTable.read(venue, accounts, pd.DataFrame({market: [200.0, 195.0, 190.0]}))
        >>> len(prices.rows(1, 3))
        2
        """
        columns = {f.name: getattr(self, f.name)[first:last] for f in fields(self) if f.name not in _OF_ALL}
        scenarios = None if self.scenarios is None else self.scenarios[first:last]
        return replace(self, **columns, scenarios=scenarios)


def _label(tick: Tick) -> Any:
    """Time of a tick for messages: whole numbers since the epoch as a moment."""
    if not isinstance(tick.time, int | np.integer) or timestamps.has_own_clock(nanoseconds := tick.nanoseconds()):
        return tick.time
    return pd.Timestamp(nanoseconds, tz="UTC")


def is_table(prices: object) -> bool:
    """Return whether prices are those of several instants: a frame, or a list of ticks.

    Parameters
    ----------
    prices : object
        Prices as `read_prices` takes them.

    Returns
    -------
    bool
        Whether `read_prices` makes a `PriceTable` of them.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market import is_table
    >>> is_table([rc.Tick(0, {})]), is_table(rc.Tick(0, {}))
    (True, False)
    """
    return frames.is_frame(prices) or _are_ticks(prices)


def _are_ticks(prices: object) -> TypeGuard[Sequence[Tick]]:
    return isinstance(prices, list | tuple) and all(isinstance(tick, Tick) for tick in prices)


def read_prices(
    venue: Venue,
    accounts: Accounts,
    prices: Any,
    indexes: Any = None,
    asset_prices: Any = None,
    open_interest: Any = None,
) -> Prices | PriceTable:
    """Read the prices of one instant or of many, as the batch functions take them.

    Parameters
    ----------
    venue : Venue
        The venue of the markets and assets.
    accounts : Accounts
        The state.
    prices : mapping of str to float, Series, Tick, DataFrame or list of Tick
        Marks as of `Prices.read` or `PriceTable.read`.
    indexes, asset_prices, open_interest
        As of these.

    Returns
    -------
    Prices or PriceTable
        Prices of a mapping, a Series or a tick; a table of a frame or a list of ticks.

    Raises
    ------
    RiskDataError
        As of these.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.market import read_prices
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> tick = rc.Tick(0, {"SOL_USDC_PERP": 195.0})
    >>> type(read_prices(venue, accounts, tick)).__name__, len(read_prices(venue, accounts, [tick, tick]))
    ('Prices', 2)
    """
    reader: Any = PriceTable if is_table(prices) else Prices
    read: Prices | PriceTable = reader.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    return read


def _wide(table: str, source: Any) -> pd.DataFrame:
    """Return a frame of prices with its index: of another library's table, which has none, the column time."""
    frame = frames.as_frame(table, source)
    frame = frame.set_axis([as_text(name) for name in frame.columns], axis="columns")
    if not isinstance(source, pd.DataFrame) and "time" in frame.columns:
        frame = frame.set_index("time")
    if {"market", "mark_price"} <= set(frame.columns):
        rule = "must have a column per market, this looks like the marks table: pivot it, "
        rule += "marks.pivot(index='time', columns='market', values='mark_price'), or read it by riskcore.io.read_ticks"
        raise RiskDataError(table, None, rule)
    return frame


_OF_ALL = "open_lots", "venue", "scenarios"
