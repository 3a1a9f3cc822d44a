"""The ticks of a whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from .._limits import INT64_MIN
from .._typing import Float, Int
from ..boundary import counted, moment
from ..venue import Venue, VenueChange
from .books import Books
from .funding_rates import NO_FUNDING, FundingEntries
from .tick import Tick


@dataclass(frozen=True)
class TickTable:
    """Ticks of a run in time order; T instants, M markets, K assets, NaN where a price is not given.

    Iterating gives a `Tick` per instant.

    Attributes
    ----------
    venue : Venue
        The venue of the markets and assets.
    time : ndarray of int64, shape (T,)
        Nanoseconds since the epoch, ascending.
    mark, index, open_interest, funding_rate, last, low, high : ndarray of float64, shape (T, M)
        As of `Tick`.
    asset : ndarray of float64, shape (T, K)
        Prices of assets, settle units.
    books : dict of int64 to Books
        By time; an instant without an entry has no depth.
    funding : FundingEntries
        Funding rates with their own times.
    venue_changes : tuple of VenueChange
        Changes of the venue, by time.
    activity : DataFrame, optional
        Actions of accounts, by time (whole nanoseconds), as `riskcore.Engine.apply` takes them.
    volatility : ndarray of float64, shape (T, M), optional
        Volatilities of options.
    scenario_tables : dict of str to dict of int64 to DataFrame
        The tables terms, surface and underlyings of `Tick` by time, as far as they are given.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.io import read_ticks
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> time = ["2025-10-10T21:00Z", "2025-10-10T21:01Z"]
    >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 194.0]})
    >>> [tick.marks for tick in read_ticks(venue, accounts, marks)]
    [{'SOL_USDC_PERP': 195.0}, {'SOL_USDC_PERP': 194.0}]
    """

    venue: Venue
    time: Int
    mark: Float
    index: Float
    open_interest: Float
    funding_rate: Float
    last: Float
    low: Float
    high: Float
    asset: Float
    books: dict[int, Books]
    funding: FundingEntries = NO_FUNDING
    venue_changes: tuple[VenueChange, ...] = ()
    activity: pd.DataFrame | None = None
    volatility: Float | None = None
    scenario_tables: dict[str, dict[int, pd.DataFrame]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: ticks, the first and the last time, markets, and the ticks that have books."""
        times = f" from {moment(self.time[0])} to {moment(self.time[-1])}" if len(self) else ""
        markets = counted(len(self.venue.markets.symbol), "market")
        return f"TickTable({counted(len(self), 'tick')}{times}, {markets}, books in {counted(len(self.books), 'tick')})"

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Tick]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[Tick]:
        """Give the ticks from a number on.

        Parameters
        ----------
        first : int
            Number of the first tick, from 0.

        Returns
        -------
        iterator of Tick
            The ticks.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.io import read_ticks
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> time = ["2025-10-10T21:00Z", "2025-10-10T21:01Z"]
        >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 194.0]})
        >>> [tick.marks for tick in read_ticks(venue, accounts, marks).starting_at(1)]
        [{'SOL_USDC_PERP': 194.0}]
        """
        return (self.tick(t) for t in range(first, len(self)))

    def tick(self, t: int) -> Tick:
        """Return one tick.

        Parameters
        ----------
        t : int
            Number of the tick, from 0.

        Returns
        -------
        Tick
            The tick, with the books of its time.

        Raises
        ------
        IndexError
            There is no such tick.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.io import read_ticks
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> marks = pd.DataFrame({"time": ["2025-10-10T21:00Z"], "market": market, "mark_price": [195.0]})
        >>> read_ticks(venue, accounts, marks).tick(0).time
        1760130000000000000
        """
        markets, assets = self.venue.markets.symbol, self.venue.assets.symbol
        time = int(self.time[t])
        return Tick(
            time,
            marks=_by_symbol(self.mark[t], markets),
            books=self.books.get(time),
            indexes=_by_symbol(self.index[t], markets),
            asset_prices=_by_symbol(self.asset[t], assets),
            open_interest=_by_symbol(self.open_interest[t], markets),
            funding_rates=_by_symbol(self.funding_rate[t], markets),
            last_prices=_by_symbol(self.last[t], markets),
            lows=_by_symbol(self.low[t], markets),
            highs=_by_symbol(self.high[t], markets),
            funding=self.funding_of(t),
            venue_changes=self.changes_of(t),
            volatilities=None if self.volatility is None else _by_symbol(self.volatility[t], markets),
            terms=self._scenario_table("terms", time),
            surface=self._scenario_table("surface", time),
            underlyings=self._scenario_table("underlyings", time),
        )

    def _scenario_table(self, name: str, time: int) -> pd.DataFrame | None:
        return self.scenario_tables[name].get(time) if name in self.scenario_tables else None

    def funding_of(self, t: int) -> FundingEntries:
        """Return the funding rates whose times are after the tick before, and not after a tick.

        Parameters
        ----------
        t : int
            Number of the tick, from 0.

        Returns
        -------
        FundingEntries
            The rates; of the first tick all up to its time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.io import read_ticks
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> times, market = ["2025-10-10T21:00Z", "2025-10-10T23:00Z"], "SOL_USDC_PERP"
        >>> marks = pd.DataFrame({"time": times, "market": market, "mark_price": [195.0, 194.0]})
        >>> funding = pd.DataFrame({"time": ["2025-10-10T22:00Z"], "market": market, "rate": [0.0001]})
        >>> ticks = read_ticks(venue, accounts, marks, funding=funding)
        >>> [ticks.funding_of(t).rate.tolist() for t in (0, 1)]
        [[], [0.0001]]
        """
        first, end = np.searchsorted(self.funding.time, [self._before(t), self.time[t]], side="right")
        return self.funding.chosen(slice(first, end))

    def changes_of(self, t: int) -> tuple[VenueChange, ...]:
        """Return the changes of the venue whose times are after the tick before, and not after a tick.

        Parameters
        ----------
        t : int
            Number of the tick, from 0.

        Returns
        -------
        tuple of VenueChange
            The changes; of the first tick all up to its time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.io import read_ticks
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> marks = pd.DataFrame({"time": ["2025-10-10T21:00Z"], "market": market, "mark_price": [195.0]})
        >>> change = {"time": ["2025-10-10T20:00Z"], "market": market, "field": "state", "value": "post-only"}
        >>> ticks = read_ticks(venue, accounts, marks, venue_changes=pd.DataFrame(change))
        >>> ticks.changes_of(0)[0].value
        'post-only'
        """
        if not self.venue_changes:
            return ()
        before, time = self._before(t), int(self.time[t])
        return tuple(change for change in self.venue_changes if before < change.time <= time)

    def actions_until(self, t: int) -> int:
        """Return the number of rows of activity that are carried out before the tick after a tick.

        Parameters
        ----------
        t : int
            Number of the tick; -1: those before the first tick.

        Returns
        -------
        int
            The rows whose times are before the next tick; of the last tick, those up to its own time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.io import read_ticks
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> time, market = ["2025-10-10T21:00Z", "2025-10-10T21:01Z"], "SOL_USDC_PERP"
        >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 194.0]})
        >>> deposit = {"action": "deposit", "account": 1, "asset": "USDC", "quantity": 5.0}
        >>> activity = pd.DataFrame([deposit | {"time": f"2025-10-10T{at}Z"} for at in ("20:59", "21:00:30", "22:00")])
        >>> ticks = read_ticks(venue, accounts, marks, activity=activity)
        >>> [ticks.actions_until(t) for t in (-1, 0, 1)]
        [1, 2, 2]
        """
        if self.activity is None:
            return 0
        time = self.activity["time"].to_numpy(np.int64)
        is_last = t == len(self) - 1
        return int(np.searchsorted(time, self.time[t if is_last else t + 1], side="right" if is_last else "left"))

    def _before(self, t: int) -> int:
        """Time of the tick before."""
        return int(self.time[t - 1]) if t else INT64_MIN


def _by_symbol(row: Float, names: tuple[str, ...]) -> dict[str, float]:
    return {name: price for name, price in zip(names, row.tolist(), strict=True) if price == price}
