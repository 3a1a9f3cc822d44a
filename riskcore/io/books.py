"""Order books from elsewhere: side-by-side levels, and a real depth profile re-centred on any price path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from .._limits import INT64_MAX
from ..boundary import RiskDataError, frames, is_unicode, schemas, timestamps
from ..venue import Venue, must_be_venue

BASIS_POINTS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100)
"""Distances from the mid at which `recentre_books` gathers depth."""


def books_from_levels(levels: pd.DataFrame, market: str, *, unit: str = "ns") -> pd.DataFrame:
    """Turn one row per level with both sides into the books table; times stay as they are given.

    Parameters
    ----------
    levels : DataFrame
        time, level (0 is the touch), bid_price, bid_quantity, ask_price, ask_quantity; a level that a side does not
        have is NaN.
    market : str
        Symbol of the market.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.

    Returns
    -------
    DataFrame
        time, level, market, side (bid, ask), price, quantity.

    Raises
    ------
    RiskDataError
        It is no table, a column is missing, or a time is outside the years 2000 to 2200.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.io import books_from_levels
    >>> bid, ask = {"bid_price": [99.9], "bid_quantity": [1.0]}, {"ask_price": [100.1], "ask_quantity": [3.0]}
    >>> levels = pd.DataFrame({"time": ["2025-10-10T21:00Z"], "level": [0]} | bid | ask)
    >>> books_from_levels(levels, "SOL_USDC_PERP")[["side", "price", "quantity"]].to_dict("records")
    [{'side': 'bid', 'price': 99.9, 'quantity': 1.0}, {'side': 'ask', 'price': 100.1, 'quantity': 3.0}]
    """
    levels = frames.as_frame("levels", levels)
    quantities = [f"{side}_{figure}" for side in ("bid", "ask") for figure in ("price", "quantity")]
    frames.must_have("levels", levels, ["time", "level", *quantities])
    if not isinstance(market, str) or not is_unicode(market):
        raise RiskDataError("levels", "market", "must be text", value=market)
    timestamps.times("levels", levels["time"], unit=unit)
    sides = [
        levels[["time", "level"]].assign(
            market=market, side=side, price=levels[f"{side}_price"], quantity=levels[f"{side}_quantity"]
        )
        for side in ("bid", "ask")
    ]
    rows = pd.concat(sides, ignore_index=True)
    return rows.dropna(subset=["price", "quantity"], how="all", ignore_index=True)


def marks_from_books(books: pd.DataFrame, *, unit: str = "ns") -> pd.DataFrame:
    """Return a marks table with the mid of each book that has both sides: for data without marks.

    Parameters
    ----------
    books : DataFrame
        time, market, side, level, price, quantity.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch; they stay as they are.

    Returns
    -------
    DataFrame
        time, market, mark_price (settle units).

    Raises
    ------
    RiskDataError
        The table breaks a rule.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.io import marks_from_books
    >>> books = pd.DataFrame({"side": ["bid", "ask"], "price": [99.75, 100.25], "quantity": 1.0, "level": 0})
    >>> marks_from_books(books.assign(time="2025-10-10T21:00Z", market="SOL_USDC_PERP")).to_dict("records")
    [{'time': '2025-10-10T21:00Z', 'market': 'SOL_USDC_PERP', 'mark_price': 100.0}]
    """
    books = frames.as_frame("books", books)
    schemas.checked("books", books, unit=unit)
    touch = books[books["level"] == 0].pivot(index=["time", "market"], columns="side", values="price")
    touch = touch.reindex(columns=["bid", "ask"]).dropna()
    touch["mark_price"] = (touch["bid"] + touch["ask"]) / 2
    return touch["mark_price"].reset_index().rename_axis(columns=None)


def recentre_books(
    venue: Venue,
    books: pd.DataFrame,
    marks: pd.DataFrame,
    market: str,
    *,
    basis_points: Sequence[float] = BASIS_POINTS,
    unit: str = "ns",
) -> pd.DataFrame:
    """Lay real depth profiles around a price path.

    Each book with both sides becomes a profile: the quantity resting within each distance of its mid, gathered at
    the far edge of the distance, so that a walk pays no less than in the book. Tick ``t`` of the path gets profile
    ``t`` modulo their number, around its mark; bids are rounded down and asks up to whole ticks.

    Parameters
    ----------
    venue : Venue
        Gives tick and step of the market.
    books : DataFrame
        Books table of one market: one or several instants, any price level.
    marks : DataFrame
        Marks table that holds the path of ``market``.
    market : str
        Symbol of the market the books are made for.
    basis_points : sequence of float
        Ascending distances from the mid, basis points.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.

    Returns
    -------
    DataFrame
        Books table for the times of the path, as the marks table has them: time, market, side, level, price (settle
        units), quantity (base units).

    Raises
    ------
    RiskDataError
        A table breaks a rule, or there is no such market, path or book.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.io import recentre_books
    >>> book = pd.DataFrame({"side": ["bid", "ask"], "price": [99.75, 100.25], "quantity": 1.0, "level": 0})
    >>> book = book.assign(time="2025-10-10T21:00Z", market="another")
    >>> marks = pd.DataFrame({"time": ["2025-10-11T00:00Z"], "market": "SOL_USDC_PERP", "mark_price": [200.0]})
    >>> books = recentre_books(rc.load_venue("backpack"), book, marks, "SOL_USDC_PERP", basis_points=[50])
    >>> books[["side", "price", "quantity"]].to_dict("records")
    [{'side': 'ask', 'price': 201.0, 'quantity': 1.0}, {'side': 'bid', 'price': 199.0, 'quantity': 1.0}]
    """
    must_be_venue(venue)
    if not isinstance(market, str) or market not in venue.markets.symbol:
        raise RiskDataError("venue", "markets", "must hold the market", value=market)
    marks = frames.as_frame("marks", marks)
    m = venue.markets.symbol.index(market)
    tick, step = float(venue.markets.tick[m]), float(venue.markets.step[m])
    try:
        edges = np.asarray(basis_points, float) / 1e4
    except (TypeError, ValueError, OverflowError):
        edges = np.empty(0)
    if not (edges.ndim == 1 and len(edges) and edges[0] > 0 and (np.diff(edges) > 0).all() and edges[-1] < np.inf):
        raise RiskDataError("basis_points", None, "basis_points must be > 0 and ascend", value=basis_points)
    path = schemas.checked("marks", marks, unit=unit)
    path = path[path["market"] == market].sort_values("time")
    if not len(path):
        raise RiskDataError("marks", "market", "must hold the market", value=market)
    time, mark = path["time"].to_numpy(), path["mark_price"].to_numpy()
    books = schemas.checked("books", books, unit=unit)
    if books["market"].nunique() > 1:
        raise RiskDataError("books", "market", "must be the same in every row")
    profiles = [_profile(book, edges, step) for _, book in books.groupby("time") if book["side"].nunique() == 2]
    if not profiles:
        raise RiskDataError("books", "side", "must hold both sides at some time")
    used = np.arange(len(path)) % len(profiles)
    parts = []
    for side, sign, away in (("bid", -1, np.floor), ("ask", 1, np.ceil)):
        lots = np.array([p[side] for p in profiles])[used]
        # the slack keeps a price that is a whole number of ticks already where it is
        ticks = away(np.round(mark[:, None] * (1 + sign * edges) / tick, 6))
        parts.append(
            pd.DataFrame(
                {
                    "time": np.repeat(time, len(edges)),
                    "side": side,
                    "ticks": ticks.ravel().astype(np.int64),
                    "lots": lots.ravel(),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table = table[(table["lots"] > 0) & (table["ticks"] > 0)]
    table = table.groupby(["time", "side", "ticks"], sort=True, as_index=False)[["lots"]].sum()
    rank = np.where(table["side"] == "bid", -table["ticks"], table["ticks"])
    table = table.assign(rank=rank).sort_values(["time", "side", "rank"], kind="stable")
    return pd.DataFrame(
        {
            "time": marks["time"].iloc[path.index[np.searchsorted(time, table["time"])]].array,  # as the user has it
            "market": market,
            "side": table["side"].to_numpy(),
            "level": table.groupby(["time", "side"]).cumcount().to_numpy(),
            "price": np.round(table["ticks"].to_numpy() * tick, 12),
            "quantity": np.round(table["lots"].to_numpy() * step, 12),
        }
    )


def book_of(
    table: str, sides: Mapping[str, Sequence[Sequence[Any]]], time: int | None, *, ascending_bids: bool = False
) -> dict[str, Any]:
    """Order book that a venue sent, as `riskcore.Tick` takes that of a market.

    Parameters
    ----------
    table
        Name of the reply, for the error.
    sides
        Path and levels (price, quantity; numbers or text) of the bids, and then of the asks. A level of quantity 0 is
        left out.
    time
        When the book was seen, nanoseconds since the epoch.
    ascending_bids
        The best bid comes last.

    Raises
    ------
    RiskDataError
        A price or a quantity is no number, or not in range, or a side is not sorted; the message holds the path.
    """
    book: dict[str, Any] = {}
    for side, (path, rows) in zip(("bids", "asks"), sides.items(), strict=True):
        grows = side == "asks" or ascending_bids
        levels: list[tuple[float, float]] = []
        before = None
        for level, row in enumerate(rows):
            price, quantity = (_number(table, f"{path}[{level}]", value) for value in row)
            if not price:
                raise RiskDataError(table, f"{path}[{level}]", "must have a price > 0", value=str(price))
            if before is not None and (price <= before if grows else price >= before):
                rule = f"must be {'above' if grows else 'below'} the price of the level before, {before}"
                raise RiskDataError(table, f"{path}[{level}]", f"{rule}: the side is not sorted", value=str(price))
            before = price
            if quantity:
                levels.append((float(price), float(quantity)))
        book[side] = levels[::-1] if side == "bids" and ascending_bids else levels
    if time is not None and not 0 <= time <= INT64_MAX:
        raise RiskDataError(table, "time", "must be nanoseconds since the epoch below 2**63", value=time)
    return book | {"time": time}


def _number(table: str, path: str, value: object) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise ValueError
        number = Decimal(str(value))
        if not number.is_finite() or (number and not -30 <= number.adjusted() < 30):
            raise ValueError
    except (ValueError, ArithmeticError):
        raise RiskDataError(table, path, "must be 0 or a number from 1e-30 to 1e30", value=str(value)) from None
    if number < 0:
        raise RiskDataError(table, path, "must be >= 0", value=str(value))
    return number


def _profile(book: pd.DataFrame, edges: np.ndarray[tuple[int], np.dtype[np.float64]], step: float) -> dict[str, object]:
    """Whole lots that rest between one distance from the mid and the next, per side."""
    bids, asks = book[book["side"] == "bid"], book[book["side"] == "ask"]
    mid = (bids["price"].max() + asks["price"].min()) / 2
    profile: dict[str, object] = {}
    halves: list[tuple[str, pd.DataFrame]] = [("bid", bids), ("ask", asks)]
    for side, half in halves:
        distance = np.abs(half["price"].to_numpy() / mid - 1)
        within = np.searchsorted(edges, distance - 1e-12)
        quantity = np.bincount(within, half["quantity"].to_numpy(), len(edges) + 1)[:-1]
        profile[side] = np.floor(np.round(quantity / step, 6)).astype(np.int64)
    return profile
