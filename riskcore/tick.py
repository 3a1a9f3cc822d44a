"""What the market shows at an instant: marks, indexes, asset prices and order books."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import tables
from .accounts import Accounts, must_fit
from .errors import RiskDataError
from .kernels.columns import PriceColumns, PriceRows
from .kernels.packed import lay_out_prices
from .kernels.prints import (
    LEVEL_FINE,
    LEVEL_HIGH,
    LEVEL_LOTS,
    LEVEL_LOW,
    LEVEL_OFFSET,
    LEVEL_ORDER,
    LEVEL_WORTH,
    first_above,
    first_missing,
    first_wrong_level,
    follow_markets,
)
from .shown import is_unicode, text_of
from .venue import Units, Venue

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
PriceMap: TypeAlias = "Mapping[str, float] | pd.Series[float]"
PriceVector: TypeAlias = "PriceMap | Float"

_NO_TIME = -(2**63)
"""NaT as a whole number."""


@dataclass(frozen=True)
class Books:
    """Order books of one tick in whole ticks and lots; side 2b is the bids of book row b, 2b + 1 its asks.

    Book rows are those of `Venue.listing`: the markets, and then the spot markets (B rows).

    Attributes
    ----------
    offset : ndarray of int64, shape (2B + 1,)
        Side s owns levels ``offset[s]:offset[s + 1]``, best first.
    price, lots : ndarray of int64, shape (L,)
        Price in ticks, lots > 0.
    time : ndarray of int64, shape (B,)
        When a book was seen, nanoseconds; 0 for one that was given without a time of its own, or not given.
    units : Units or None
        What the whole numbers stand for, where the books were read with a venue.
    """

    offset: Int
    price: Int
    lots: Int
    time: Int
    units: Units | None = None

    def checked(self, venue: Venue, time: int) -> Books:
        """Return these books, of whole numbers that nobody else writes to, or refuse them as a frame is refused.

        Raises
        ------
        RiskDataError
            They are of a venue of other units, an array is not of its shape, or a level breaks a rule of `from_frame`.
        """
        if self.units is not None:
            self.units.must_fit(venue.book_units, "books")
        listing = venue.listing
        offset, price, lots, seen = (_copied_whole(n, getattr(self, n)) for n in ("offset", "price", "lots", "time"))
        books = Books(offset, price, lots, seen, venue.book_units)
        for name, array, size in (
            ("offset", books.offset, 2 * len(listing.symbol) + 1),
            ("lots", books.lots, len(books.price)),
            ("time", books.time, len(listing.symbol)),
        ):
            if len(array) != size:
                raise RiskDataError("books", name, f"must be {size} whole numbers, not {len(array)}")
        worth = np.maximum(listing.value_num / listing.value_den, 1.0)
        side, level, wrong = first_wrong_level(books.offset, books.price, books.lots, listing.max_ticks, worth)
        if wrong != LEVEL_FINE:
            column, rule = _LEVEL_RULES[wrong]
            if wrong == LEVEL_HIGH:
                rule = listing.too_high(side // 2)
            where = f"{listing.symbol[side // 2]} {'ask' if side % 2 else 'bid'}"
            if wrong != LEVEL_OFFSET:
                where += f" {level - int(books.offset[side])}"
            value = books.offset[side + 1] if wrong == LEVEL_OFFSET else getattr(books, column)[level]
            raise RiskDataError("books", column, rule, row=where, value=int(value))
        late = np.flatnonzero(books.time > time)
        if late.size:
            book, rule = late[0], "must not be later than the tick"
            value = tables.moment(int(books.time[book]))
            raise RiskDataError("books", "time", rule, row=listing.symbol[book], value=value)
        return books

    @classmethod
    def from_frame(cls, venue: Venue, frame: pd.DataFrame, time: int, *, unit: str = "ns") -> Books:
        """Read the books of one tick: market, side, level (0 is the best), price, quantity, and perhaps book_time.

        ``time`` is that of the tick, nanoseconds, and ``unit`` is of whole numbers in the frame.

        Raises
        ------
        RiskDataError
            A level is not whole in ticks or lots, a side is unsorted, a book has two times or one after ``time``.
        """
        own_clock = tables.has_own_clock(time)
        timed = frame if "time" in frame.columns else frame.assign(time=pd.Timestamp(time, tz="UTC"))
        table = tables.checked("books", timed, unit=unit, own_clock=own_clock)
        return cls.split(venue, table)[0][1]

    @classmethod
    def split(cls, venue: Venue, table: pd.DataFrame) -> list[tuple[int, Books]]:
        """Read a checked table of many ticks: a pair of time and books for each time, ascending."""
        listing = venue.listing
        market = tables.codes("books", "market", table["market"], listing.symbol, "a market")
        prices, quantities = table["price"].to_numpy(), table["quantity"].to_numpy()
        rule = "must be a whole number of {} of the market's {}"
        price = tables.whole("books", "price", prices, listing.tick_size[market], rule.format("ticks", "tickSize"))
        lots = tables.whole("books", "quantity", quantities, listing.step_size[market], rule.format("lots", "stepSize"))
        for column, given, fits, rule in (
            ("price", prices, price >= 1, "must be at least one tick"),
            ("quantity", quantities, lots >= 1, "must be at least one lot"),
            ("quantity", quantities, lots < 2**53, "must be less than 2**53 lots"),
        ):
            bad = np.flatnonzero(~fits)
            if bad.size:
                raise RiskDataError("books", column, rule, row=int(bad[0]), value=given[bad[0]])
        bad = np.flatnonzero(price > listing.max_ticks[market])
        if bad.size:
            row = int(bad[0])
            raise RiskDataError("books", "price", listing.too_high(market[row]), row=row, value=prices[row])
        stamp = table["time"].to_numpy(np.int64)
        seen = table["book_time"].to_numpy(np.int64) if "book_time" in table.columns else np.zeros_like(stamp)
        bid = table["side"].to_numpy(object) == "bid"
        side = 2 * market + np.where(bid, 0, 1)
        order = np.lexsort((table["level"].to_numpy(), side, stamp))
        stamp, side, price, lots, bid, seen = (column[order] for column in (stamp, side, price, lots, bid, seen))

        together = np.diff(stamp) == 0
        worse = np.where(bid[1:], np.diff(price) < 0, np.diff(price) > 0)
        bad = np.flatnonzero(together & (np.diff(side) == 0) & ~worse)
        if bad.size:
            row = int(order[bad[0] + 1])
            raise RiskDataError(
                "books", "price", "must get worse from level to level (an unsorted book)", row=row, value=prices[row]
            )
        first = np.flatnonzero(np.r_[True, ~(together & (np.diff(side) == 0))]) if len(side) else np.empty(0, np.int64)
        if first.size:
            deepest = np.add.reduceat(lots.astype(float), first) * np.maximum.reduceat(price, first)
            unit = np.maximum(listing.value_num / listing.value_den, 1.0)
            bad = np.flatnonzero(deepest * unit[side[first] // 2] >= 2.0**61)
            if bad.size:
                row = int(order[first[bad[0]]])
                rule = "all of a side at its highest price must be worth less than 2**61 quanta, and than 2**61 ticks"
                raise RiskDataError("books", "quantity", rule, row=row, value=quantities[row])
        for bad, rule in (
            (np.flatnonzero(seen > stamp), "must not be later than the tick"),
            (
                1 + np.flatnonzero(together & (np.diff(side // 2) == 0) & (np.diff(seen) != 0)),
                "must be one of all levels of a book",
            ),
        ):
            if bad.size:
                value = tables.moment(int(seen[bad[0]])) if seen[bad[0]] else "none"
                raise RiskDataError("books", "book_time", rule, row=int(order[bad[0]]), value=value)

        moments, starts = np.unique(stamp, return_index=True)
        edges = np.append(starts, len(stamp))
        sides = np.arange(2 * len(listing.symbol) + 1)
        found = []
        for moment, start, end in zip(moments, edges[:-1], edges[1:], strict=True):
            time = np.zeros(len(listing.symbol), np.int64)
            time[side[start:end] // 2] = seen[start:end]
            offset = np.searchsorted(side[start:end], sides)
            found.append((int(moment), cls(offset, price[start:end], lots[start:end], time, venue.book_units)))
        return found

    @classmethod
    def empty(cls, venue: Venue) -> Books:
        """No level in any market."""
        return _no_books(len(venue.book_symbols))


_SIDES = {"bids": "bid", "asks": "ask"}
_ASCENDS = (
    "must get worse from level to level (an unsorted book): the best comes first, and where a venue sends bids that"
    " ascend, riskcore.io.backpack.read_book turns them round"
)

_LEVEL_RULES = {
    LEVEL_OFFSET: ("offset", "must begin with 0, not descend, and end with the number of levels"),
    LEVEL_LOW: ("price", "must be at least one tick"),
    LEVEL_HIGH: ("price", ""),  # `Listing.too_high` says the market's own bound
    LEVEL_LOTS: ("lots", "must be at least one lot and less than 2**53"),
    LEVEL_ORDER: ("price", "must get worse from level to level (an unsorted book)"),
    LEVEL_WORTH: ("lots", "all of a side at its highest price must be worth less than 2**61 quanta"),
}


def _copied_whole(name: str, given: object) -> Int:
    """Whole numbers of a user's array, copied: they are kept for longer than the call."""
    if not (isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "iu"):
        kind = f"{given.dtype} of shape {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        raise RiskDataError("books", name, "must be a one-dimensional array of whole numbers", value=kind)
    if given.dtype == np.uint64 and (given > 2**63 - 1).any():
        raise RiskDataError("books", name, "must fit 64 bits", value=int(given.max()))
    return given.astype(np.int64)


@lru_cache(maxsize=16)
def _no_books(rows: int) -> Books:
    """No level of any book; shared, nobody writes to books."""
    none = np.empty(0, np.int64)
    return Books(np.zeros(2 * rows + 1, np.int64), none, none, np.zeros(rows, np.int64))


@lru_cache(maxsize=16)
def no_prices(rows: int) -> Float:
    """NaN for every row; shared, nobody writes to the prices of a tick."""
    return np.full(rows, np.nan)


@dataclass(frozen=True)
class Tick:
    """The market at an instant.

    Parameters
    ----------
    time
        A timestamp, ISO text, or a whole number of ``unit`` since the epoch, UTC, of the years 2000 to 2200. Another
        time is refused, and the message names the unit that would fit. Small cases may count nanoseconds from a zero of
        their own instead: the first tick of an engine from 0 to less than ten days, and the next ones on from there.
        Such a number is a whole number of seconds, or is no time of these years in any unit; the first never looks like
        milliseconds.
    marks
        Mark prices by market symbol; settle units, finite, > 0. The mark of a market that has none here follows from
        its index, book or last price. These and the prices below may also be an array with a number for each market
        of `Venue.markets` (each asset of `Venue.assets`), NaN for none.
    books
        Per market symbol ``{"bids": [(price, quantity), ...], "asks": [...]}``, best level first, as ccxt and
        ``read_book`` of the modules of `riskcore.io` have it: a level may have a third number, of its orders, and what
        else stands beside the sides is left out. Or a frame with the columns market, side, level, price, quantity; or
        `Books`. A market without a book has no depth. Spot markets of collateral assets may have a book as well.
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
    last_prices
        Price of the last trade by market symbol.
    book_times
        When a market's book was seen, by symbol, not later than the tick; a frame of books may have a column book_time
        instead. A book without is of the tick's time.
    unit
        Of whole numbers in ``time``, ``book_times`` and the frame of books: "ns", "us", "ms" or "s".
    """

    time: Any
    marks: PriceVector
    books: Mapping[str, Mapping[str, Any]] | pd.DataFrame | Books | None = None
    indexes: PriceVector | None = None
    asset_prices: PriceVector | None = None
    open_interest: PriceVector | None = None
    funding_rates: PriceVector | None = None
    last_prices: PriceVector | None = None
    book_times: Mapping[str, Any] | None = None
    unit: str = "ns"

    def nanoseconds(self, before: int | None = None) -> int:
        """Time of the tick in nanoseconds since the epoch, UTC; ``before`` is that of the tick before, if there is one.

        Raises
        ------
        RiskDataError
            It is no time, or outside the years 2000 to 2200.
        """
        return tables.instant("tick", self.time, self.unit, before)

    def columnar_books(self, venue: Venue, time: int | None = None) -> Books:
        """Return the books in whole ticks and lots; ``time`` is that of the tick, nanoseconds, where it is known."""
        if self.book_times is not None and not isinstance(self.book_times, Mapping):
            raise RiskDataError("book_times", None, "must be a mapping by market", value=type(self.book_times).__name__)
        time = self.nanoseconds() if time is None else time
        if isinstance(self.books, Books):
            if self.book_times:
                raise RiskDataError("book_times", None, "must stand beside a mapping or a frame of books")
            return self.books.checked(venue, time)
        if self.books is None:
            return Books.empty(venue)
        frame = tables.as_frame("books", self.books) if tables.is_frame(self.books) else self._levels()
        if not len(frame):
            return Books.empty(venue)
        if self.book_times and "book_time" in frame.columns:
            raise RiskDataError("book_times", None, "must not stand beside a column book_time")
        if self.book_times and "market" in frame.columns:
            seen = self._book_times(venue, time)
            stamps = np.array([seen.get(market, _NO_TIME) for market in frame["market"]], np.int64)
            frame = frame.assign(book_time=stamps.view("datetime64[ns]"))
        return Books.from_frame(venue, frame, time, unit=self.unit)

    def _levels(self) -> pd.DataFrame:
        rows: list[tuple[str, str, int, float, float]] = []
        if not isinstance(self.books, Mapping):
            raise RiskDataError(
                "books", None, "must be a mapping by market, a frame or Books", value=type(self.books).__name__
            )
        books: Mapping[Any, Any] = self.books
        for market, book in books.items():
            if not isinstance(market, str) or not is_unicode(market):
                raise RiskDataError("books", "market", "must be a market of the venue", value=text_of(market))
            if not isinstance(book, Mapping):
                rule = "must be a mapping with bids and asks"
                raise RiskDataError("books", market, rule, value=text_of(book))
            for name, levels in book.items():
                side = _SIDES.get(name) if isinstance(name, str) else None
                # what ccxt and the venues have beside the sides is no list; a misspelt side is
                if side is None and "bids" in book and "asks" in book and not isinstance(levels, list | tuple):
                    continue
                try:
                    if side is None:
                        raise TypeError
                    for level, row in enumerate(levels):
                        if isinstance(row, str):
                            raise TypeError
                        figures = row[:2] if len(row) == 3 else row
                        try:
                            price, quantity = (x if type(x) is float else tables.number(x) for x in figures)
                        except ValueError:
                            if len(figures) != 2:
                                raise
                            at, value = f"{name}[{level}]", text_of(list(figures))
                            raise RiskDataError("books", market, "must be numbers", row=at, value=value) from None
                        rows.append((market, side, level, price, quantity))
                        if level and side == "bid" and rows[-1][3] > rows[-2][3]:
                            raise RiskDataError("books", market, _ASCENDS, row=f"bids[{level}]", value=price)
                except RiskDataError:
                    raise
                except (TypeError, ValueError, OverflowError):
                    rule = "must be 'bids' or 'asks', each a list of (price, quantity), best level first"
                    raise RiskDataError("books", market, rule, value=text_of(name)) from None
        return pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])

    def _book_times(self, venue: Venue, time: int) -> dict[str, int]:
        assert self.book_times is not None
        given, own_clock = dict(self.book_times), tables.has_own_clock(time)
        for market, seen in given.items():
            if market not in venue.book_symbols:
                raise RiskDataError("book_times", text_of(market), "must be a market of the venue", value=text_of(seen))
            one = pd.Series([seen], dtype=object)
            given[market] = int(tables.times("book_times", one, market, unit=self.unit, own_clock=own_clock)[0])
            if given[market] > time:
                raise RiskDataError("book_times", market, "must not be later than the tick", value=text_of(seen))
        return given


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
        return (own if np.isnan(given) else tables.exact(given)) * tables.exact(mark)

    @cached_property
    def columns(self) -> PriceColumns:
        """Prices folded with lot and quantum once, beside the margin rules that they meet."""
        assets, policy, curves = self.venue.assets, self.venue.policy, self.venue.curves
        lots, quanta = self.venue.settle_quanta
        unit = float(self.venue.settle_quantum)
        mark, asset = (np.nan_to_num(v) if first_missing(v) >= 0 else v for v in (self.mark, self.asset))
        folded = self.venue.folded_curves or curves.folded(np.concatenate([mark, asset]), self.open_notional, unit)
        base, factor, limit, bracket_from, deduction = folded
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

    def forget(self) -> None:
        """Free what was worked out from the prices; it is worked out again if asked for."""
        for name in ("columns", "rows"):
            vars(self).pop(name, None)

    @cached_property
    def rows(self) -> PriceRows:
        """The same, laid out as a sweep looks it up."""
        market, tail = np.empty((2, len(self.mark) + 1, 4))
        asset, weight, borrow, borrow_tail = np.empty((4, len(self.asset) + 1, 4))
        columns, venue = self.columns, self.venue
        rows = PriceRows(
            market, tail, *venue.tiers, asset, weight, borrow, borrow_tail, *venue.borrow_tiers,
            columns.settle_quantum, columns.acmf_divisor, columns.acmf_offset,
        )  # fmt: skip
        lay_out_prices(columns, rows)
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


def _pairs(table: str, prices: PriceMap | None) -> Iterable[tuple[Any, Any]]:
    """Names and prices of a mapping or a Series."""
    if prices is None:
        return ()
    if isinstance(prices, pd.Series):
        return zip(prices.index.tolist(), prices.tolist(), strict=True)
    given: object = prices
    if not isinstance(given, Mapping):
        raise RiskDataError(table, None, f"must be a mapping or a Series by symbol, not {type(prices).__name__}")
    return given.items()


def _open_lots(venue: Venue, accounts: Accounts, given: Float) -> Int:
    """Larger of the accounts' long and short lots, of the markets whose margin function asks and has no better."""
    found = np.zeros(len(given), np.int64)
    if asking := venue.curves.open_interest_markets:
        for m in asking.intersection(np.flatnonzero(np.isnan(given)).tolist()):
            lots = accounts.columns.lots[accounts.columns.market == m]
            found[m] = max(int(lots[lots > 0].sum()), -int(lots[lots < 0].sum()))
    return found


class Rule(NamedTuple):
    """Range of a number, both ends included, and its words."""

    lowest: float
    highest: float
    text: str

    def broken_by(self, value: float) -> str:
        """Words of the rule that a number breaks."""
        if LARGEST < value < math.inf and self.highest == LARGEST:
            return f"must be at most {LARGEST}"
        return f"must be at least {self.lowest}" if 0.0 < value < self.lowest else self.text


SMALLEST, LARGEST = tables.SMALLEST, tables.LARGEST
POSITIVE = Rule(SMALLEST, LARGEST, "must be a finite number > 0")
NOT_NEGATIVE = Rule(0.0, LARGEST, "must be a finite number >= 0")
_RATE = Rule(-1.0, 1.0, "must be a number from -1 to 1")


def by_symbol(
    table: str, prices: PriceVector | None, rows: Mapping[str, int], what: str, rule: Rule = POSITIVE
) -> Float:
    """Numbers of a mapping or a Series by the rows of their names, or a column of numbers; NaN where there is none.

    Raises
    ------
    RiskDataError
        It is none of these, names something else, or a number breaks the rule.
    """
    if isinstance(prices, np.ndarray):
        return _column(table, prices, rows, rule)
    column = no_prices(len(rows))
    if prices is None:
        return column
    column = column.copy()
    for key, price in _pairs(table, prices):
        name = text_of(key)
        row = rows.get(name)
        if row is None:
            raise RiskDataError(table, name, f"must be {what} of the venue", value=price)
        try:
            value = price if type(price) is float else tables.number(price)
        except ValueError:
            raise RiskDataError(table, name, "must be a number", value=text_of(price)) from None
        if not rule.lowest <= value <= rule.highest:
            raise RiskDataError(table, name, rule.broken_by(value), value=value)
        column[row] = value
    return column


def _column(table: str, given: npt.NDArray[Any], rows: Mapping[str, int], rule: Rule) -> Float:
    """Numbers that stand in the order of the rows already, NaN for none."""
    if given.shape != (len(rows),) or given.dtype.kind not in "fiu":
        text = f"must be {len(rows)} numbers, in the order of the venue, not {given.dtype} of shape {given.shape}"
        raise RiskDataError(table, None, text)
    column = given.astype(np.float64)
    wrong = ~((rule.lowest <= column) & (column <= rule.highest) | np.isnan(column))
    if np.count_nonzero(wrong):
        row = int(wrong.argmax())
        value = float(column[row])
        raise RiskDataError(table, list(rows)[row], rule.broken_by(value), value=value)
    return column


def by_time(table: str, frame: pd.DataFrame, rows: Mapping[str, int], what: str, rule: Rule = POSITIVE) -> Float:
    """Numbers of a frame with a column per name and a row per instant, as of `by_symbol`; NaN where there is none.

    Raises
    ------
    RiskDataError
        As `by_symbol`, and which row it is.
    """
    at = [rows.get(text_of(name), -1) for name in frame.columns]
    found = np.full((len(frame), len(rows)), np.nan)
    numbers = (pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype) for dtype in frame.dtypes)
    given = frame.to_numpy(np.float64, na_value=np.nan) if all(numbers) else found[:, :0]
    fits = (rule.lowest <= given) & (given <= rule.highest) | np.isnan(given)
    if given.shape[1] == len(set(at)) and -1 not in at and np.all(fits):
        found[:, at] = given
    else:  # something is wrong, or unusual: row by row, as it would be alone
        for n, (time, values) in enumerate(zip(frame.index, frame.to_numpy(object), strict=True)):
            row = pd.Series(values, frame.columns, dtype=object)
            with of_row(time):
                found[n] = by_symbol(table, row[~tables.missing(row)], rows, what, rule)
    return found


@contextmanager
def of_row(time: Any) -> Iterator[None]:
    """Say at which instant of many something is wrong."""
    try:
        yield
    except RiskDataError as error:
        row = f"time {time}" if isinstance(time, pd.Timestamp) else time
        raise RiskDataError(error.table, error.column, error.rule, row=row, value=error.value) from None
