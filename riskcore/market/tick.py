"""The market at an instant, as a user gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from .._typing import Float
from ..boundary import RiskDataError, as_text, frames, is_unicode, schemas, timestamps, units
from ..venue import Venue, VenueChange, read_changes
from .books import _ASCENDS, _NO_TIME, _SIDES, Books
from .funding_rates import NO_FUNDING, FundingEntries
from .reading import PriceVector


@dataclass(frozen=True)
class Tick:
    """The market at an instant.

    Parameters
    ----------
    time : int, str, datetime or Timestamp
        A timestamp, ISO text, or a whole number of ``unit`` since the epoch, UTC, of the years 2000 to 2200. Another
        time is refused, and the message names the unit that would fit. Small cases may count nanoseconds from a zero of
        their own instead: the first tick of an engine from 0 to less than ten days, and the next ones on from there.
        Such a number is a whole number of seconds, or is no time of these years in any unit; the first never looks like
        milliseconds.
    marks : mapping of str to float, Series or ndarray of shape (M,)
        Mark prices by market symbol; settle units, finite, > 0. The mark of a market that has none here follows from
        its index, book or last price. These and the prices below may also be an array with a number for each market
        of `Venue.markets` (each asset of `Venue.assets`), NaN for none.
    books : mapping, DataFrame or Books, optional
        Per market symbol ``{"bids": [(price, quantity), ...], "asks": [...]}``, best level first, as ccxt and
        ``read_book`` of the modules of `riskcore.io` have it; a side may be an array of shape (N, 2). A level may have
        a third number, of its orders, and what else stands beside the sides is left out. Or a frame with the columns
        market, side, level, price, quantity; or `Books`. A market without a book has no depth. Spot markets of
        collateral assets may have a book as well.
    indexes : mapping of str to float, Series or ndarray of shape (M,), optional
        Index prices by market symbol, settle units; an asset that is the base of a market takes that market's index,
        its mark if there is none.
    asset_prices : mapping of str to float, Series or ndarray of shape (K,), optional
        Prices of the other assets by symbol, settle units.
    open_interest : mapping of str to float, Series or ndarray of shape (M,), optional
        Open interest by market symbol, quantity; where a margin function needs it and there is none, the larger of the
        accounts' long and short positions.
    funding_rates : mapping of str to float, Series or ndarray of shape (M,), optional
        Rate of the last funding that is due by market symbol, a fraction of the notional; where there is none it
        follows from the premiums before. Not of a market that has an entry in ``funding``, or had one.
    last_prices : mapping of str to float, Series or ndarray of shape (M,), optional
        Price of the last trade by market symbol, settle units.
    lows, highs : mapping of str to float, Series or ndarray of shape (M,), optional
        Lowest and highest mark since the tick before by market symbol, settle units: both or neither of a market, and
        with its mark between them. They shape the prices between the two ticks.
    book_times : mapping, optional
        When a market's book was seen, by symbol, not later than the tick; a frame of books may have a column book_time
        instead. A book without is of the tick's time.
    unit : {"ns", "us", "ms", "s"}
        Of whole numbers in ``time``, ``book_times``, the frame of books, ``funding`` and ``venue_changes``.
    funding : DataFrame, list of mapping or FundingEntries, optional
        Funding rates with their own times since the tick before: time, market, rate.
    venue_changes : DataFrame, list of mapping or tuple of VenueChange, optional
        Changes of the venue with their own times since the tick before: time, market or asset, field, value. A field is
        a dotted key of the market's or asset's row in the venue file; or, of a market, ``state`` (open, post-only,
        closed) or ``delist`` (the settlement price).
    volatilities : mapping of str to float, Series or ndarray of shape (M,), optional
        Volatilities of options by market symbol: 0.6 is 60 % a year.
    terms : DataFrame or list of mapping, optional
        Data by underlying and expiry: underlying, expiry, and any of forward, rate (continuously compounded, a year;
        default 0), average (of the settlement window so far), forward_confidence, rate_confidence,
        volatility_confidence (0 to 1; default 1).
    surface : DataFrame or list of mapping, optional
        Nodes of volatility surfaces: underlying, expiry, strike, volatility. They serve options that have no volatility
        in ``volatilities``.
    underlyings : DataFrame or list of mapping, optional
        Data by underlying: underlying, and any of index (settle units), confidence, perpetual_confidence.
    settlement_prices : mapping of str to float, Series or ndarray of shape (M,), optional
        Settlement prices of contracts that expire, by market symbol.
    asset_confidences : mapping of str to float, Series or ndarray of shape (K,), optional
        Confidence in the price of each asset, 0 to 1; default 1.
    stable_price : float, optional
        Price of the stable coin that accounts settle in, US dollars; default 1.

    Notes
    -----
    How prices and books are used: docs/one_tick.md, "Guards"; events with their own times: "Funding",
    "Venue changes"; what options and scenario margin need: docs/scenario_margin.md, "Instruments and equity". A tick is
    checked when an engine or a batch function takes it.

    Examples
    --------
    >>> import riskcore as rc
    >>> book = {"bids": [(194.99, 1_000.0)], "asks": [(195.0, 1_000.0)]}
    >>> tick = rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}, {"SOL_USDC_PERP": book})
    >>> tick.nanoseconds()
    1760130000000000000
    """

    time: Any
    marks: PriceVector
    books: Mapping[str, Mapping[str, Any]] | pd.DataFrame | Books | None = None
    indexes: PriceVector | None = None
    asset_prices: PriceVector | None = None
    open_interest: PriceVector | None = None
    funding_rates: PriceVector | None = None
    last_prices: PriceVector | None = None
    lows: PriceVector | None = None
    highs: PriceVector | None = None
    book_times: Mapping[str, Any] | None = None
    unit: str = "ns"
    funding: pd.DataFrame | Sequence[Mapping[str, Any]] | FundingEntries | None = None
    venue_changes: pd.DataFrame | Sequence[Mapping[str, Any] | VenueChange] | None = None
    volatilities: PriceVector | None = None
    terms: pd.DataFrame | Sequence[Mapping[str, Any]] | None = None
    surface: pd.DataFrame | Sequence[Mapping[str, Any]] | None = None
    underlyings: pd.DataFrame | Sequence[Mapping[str, Any]] | None = None
    settlement_prices: PriceVector | None = None
    asset_confidences: PriceVector | None = None
    stable_price: float | None = None

    @property
    def has_scenario_data(self) -> bool:
        """Whether the tick has data that options or scenario margin alone need."""
        return not (
            self.volatilities is None
            and self.terms is None
            and self.surface is None
            and self.underlyings is None
            and self.settlement_prices is None
            and self.asset_confidences is None
            and self.stable_price is None
        )

    def nanoseconds(self, before: int | None = None) -> int:
        """Return the time of the tick in nanoseconds since the epoch, UTC.

        Parameters
        ----------
        before : int, optional
            Time of the tick before in nanoseconds, if there is one.

        Returns
        -------
        int
            Nanoseconds.

        Raises
        ------
        RiskDataError
            It is no time, or outside the years 2000 to 2200.

        Notes
        -----
        The rule: docs/one_tick.md, "Times".

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.Tick(1_760_130_000, {}, unit="s").nanoseconds()
        1760130000000000000
        """
        return timestamps.instant("tick", self.time, self.unit, before)

    def funding_entries(self, venue: Venue, time: int) -> FundingEntries:
        """Return the funding rates that have their own times.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        time : int
            Time of the tick, nanoseconds.

        Returns
        -------
        FundingEntries
            By time, then market.

        Raises
        ------
        RiskDataError
            A row breaks a rule of the table ``funding``.

        Examples
        --------
        >>> import riskcore as rc
        >>> rows = [{"time": 5, "market": "SOL_USDC_PERP", "rate": 0.0001}]
        >>> rc.Tick(9, {}, funding=rows).funding_entries(rc.load_venue("backpack"), 9).market.tolist()
        [2]
        """
        if self.funding is None:
            return NO_FUNDING
        if isinstance(self.funding, FundingEntries):
            return self.funding
        own_clock = timestamps.has_own_clock(time)
        return FundingEntries.read(venue, self.funding, unit=self.unit, own_clock=own_clock)

    def changes(self, venue: Venue, time: int) -> tuple[VenueChange, ...]:
        """Return the changes of the venue that have their own times.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        time : int
            Time of the tick, nanoseconds.

        Returns
        -------
        tuple of VenueChange
            By time, then in the order given.

        Raises
        ------
        RiskDataError
            A row breaks a rule of the table ``venue_changes``.

        Examples
        --------
        >>> import riskcore as rc
        >>> rows = [{"time": 5, "market": "SOL_USDC_PERP", "field": "state", "value": "closed"}]
        >>> rc.Tick(9, {}, venue_changes=rows).changes(rc.load_venue("backpack"), 9)[0].value
        'closed'
        """
        given: Any = self.venue_changes
        if given is None:
            return ()
        if isinstance(given, tuple) and all(isinstance(change, VenueChange) for change in given):
            return given
        return read_changes(venue, given, unit=self.unit, own_clock=timestamps.has_own_clock(time))

    def columnar_books(self, venue: Venue, time: int | None = None) -> Books:
        """Return the books in whole ticks and lots.

        Parameters
        ----------
        venue : Venue
            The venue of the markets.
        time : int, optional
            Time of the tick in nanoseconds, where it is known.

        Returns
        -------
        Books
            Books of all markets and spot markets.

        Raises
        ------
        RiskDataError
            A book is of another form, names no market of the venue, or breaks a rule of `Books.from_frame`.

        Examples
        --------
        >>> import riskcore as rc
        >>> book = {"bids": [(194.99, 1_000.0)], "asks": [(195.0, 1_000.0)]}
        >>> tick = rc.Tick("2025-10-10T21:00Z", {}, {"SOL_USDC_PERP": book})
        >>> tick.columnar_books(rc.load_venue("backpack")).price.tolist()
        [19499, 19500]
        """
        if self.book_times is not None and not isinstance(self.book_times, Mapping):
            raise RiskDataError("book_times", None, "must be a mapping by market", value=type(self.book_times).__name__)
        time = self.nanoseconds() if time is None else time
        if isinstance(self.books, Books):
            if self.book_times:
                raise RiskDataError("book_times", None, "needs books as a mapping or a frame")
            return self.books.checked(venue, time)
        if self.books is None:
            return Books.empty(venue)
        if (books := self._plain_books(venue, time)) is not None:
            return books
        frame = frames.as_frame("books", self.books) if frames.is_frame(self.books) else self._levels()
        if not len(frame):
            return Books.empty(venue)
        if self.book_times and "book_time" in frame.columns:
            raise RiskDataError("book_times", None, "must not be combined with a column book_time")
        if self.book_times and "market" in frame.columns:
            seen = self._book_times(venue, time)
            stamps = np.array([seen.get(market, _NO_TIME) for market in frame["market"]], np.int64)
            frame = frame.assign(book_time=stamps.view("datetime64[ns]"))
        return Books.from_frame(venue, frame, time, unit=self.unit)

    def _plain_books(self, venue: Venue, time: int) -> Books | None:
        """Books of a mapping, read by columns; None where they have an error or another form.

        `_levels` then reads them level by level, and its error names the level.
        """
        if not isinstance(self.books, Mapping):
            return None
        listing = venue.listing
        sides: dict[int, Float] = {}
        for market, book in self.books.items():
            row = listing.row.get(market) if isinstance(market, str) else None
            if row is None or not isinstance(book, Mapping):
                return None
            for name, entry in book.items():
                if name not in _SIDES:
                    if isinstance(entry, _LISTS) or not _SIDES.keys() <= book.keys():
                        return None
                    continue
                levels = _columns(entry)
                if levels is None:
                    return None
                if len(levels):
                    sides[2 * row + (name == "asks")] = levels
        if not sides:
            return Books.empty(venue)
        order = sorted(sides)
        counts = [len(sides[side]) for side in order]
        amounts = np.concatenate([sides[side] for side in order]).T
        if not ((amounts > 0) & (amounts < np.inf)).all():
            return None
        book_row = np.repeat(np.array(order) // 2, counts)
        unit = np.concatenate([listing.tick_size[book_row], listing.step_size[book_row]])
        offset = np.zeros(2 * len(listing.symbol) + 1, np.int64)
        offset[np.array(order) + 1] = counts
        book_time = np.zeros(len(listing.symbol), np.int64)
        try:
            for market, stamp in (self._book_times(venue, time) if self.book_times else {}).items():
                if listing.row[market] in book_row:  # a book without a level has no time
                    book_time[listing.row[market]] = stamp
            ticks, lots = units.whole_multiples("books", "price", amounts.ravel(), unit, "").reshape(2, -1)
            return Books(offset.cumsum(), ticks, lots, book_time, venue.book_units).checked(venue, time)
        except RiskDataError:
            return None

    def _levels(self) -> pd.DataFrame:
        rows: list[tuple[str, str, int, float, float]] = []
        if not isinstance(self.books, Mapping):
            raise RiskDataError(
                "books", None, "must be a mapping by market, a frame or Books", value=type(self.books).__name__
            )
        books: Mapping[Any, Any] = self.books
        for market, book in books.items():
            if not isinstance(market, str) or not is_unicode(market):
                raise RiskDataError("books", "market", "must be a market of the venue", value=as_text(market))
            if not isinstance(book, Mapping):
                rule = "must be a mapping with bids and asks"
                raise RiskDataError("books", market, rule, value=as_text(book))
            for name, levels in book.items():
                side = _SIDES.get(name) if isinstance(name, str) else None
                # other entries of ccxt and of the venues are no lists; a misspelt side is a list
                if side is None and "bids" in book and "asks" in book and not isinstance(levels, _LISTS):
                    continue
                try:
                    if side is None:
                        raise TypeError
                    for level, row in enumerate(levels):
                        if isinstance(row, str):
                            raise TypeError
                        figures = row[:2] if len(row) == 3 else row
                        try:
                            price, quantity = (x if type(x) is float else schemas.number(x) for x in figures)
                        except ValueError:
                            if len(figures) != 2:
                                raise
                            where, value = f"{name}[{level}]", as_text(list(figures))
                            raise RiskDataError("books", market, "must be numbers", row=where, value=value) from None
                        rows.append((market, side, level, price, quantity))
                        if level and side == "bid" and rows[-1][3] > rows[-2][3]:
                            raise RiskDataError("books", market, _ASCENDS, row=f"bids[{level}]", value=price)
                except RiskDataError:
                    raise
                except (TypeError, ValueError, OverflowError):
                    rule = "must be 'bids' or 'asks', each a list of (price, quantity), best level first"
                    raise RiskDataError("books", market, rule, value=as_text(name)) from None
        return pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])

    def _book_times(self, venue: Venue, time: int) -> dict[str, int]:
        assert self.book_times is not None
        times, own_clock = dict(self.book_times), timestamps.has_own_clock(time)
        for market, seen in times.items():
            if market not in venue.book_symbols:
                raise RiskDataError("book_times", as_text(market), "must be a market of the venue", value=as_text(seen))
            stamp = pd.Series([seen], dtype=object)
            times[market] = int(timestamps.times("book_times", stamp, market, unit=self.unit, own_clock=own_clock)[0])
            if times[market] > time:
                raise RiskDataError("book_times", market, "must not be later than the tick", value=as_text(seen))
        return times


_LISTS = (list, tuple, np.ndarray)
_NUMBERS = {float, int, str, Decimal, np.float64}


def _columns(levels: object) -> Float | None:
    """Price and quantity of the levels of a side, shape (N, 2); None unless all are numbers or their text."""
    if not isinstance(levels, _LISTS) or (isinstance(levels, np.ndarray) and not levels.ndim):
        return None
    if not len(levels):
        return np.empty((0, 2))
    if isinstance(levels, np.ndarray):
        fits = levels.ndim == 2 and levels.shape[1] in (2, 3) and levels.dtype.kind in "fiu"
        return levels[:, :2].astype(np.float64) if fits else None
    if not set(map(type, levels)) <= {list, tuple} or set(map(len, levels)) not in ({2}, {3}):
        return None
    price, quantity = list(zip(*levels, strict=True))[:2]
    if not set(map(type, price + quantity)) <= _NUMBERS:
        return None
    try:
        return np.array([list(map(float, price)), list(map(float, quantity))]).T
    except (ValueError, OverflowError):
        return None
