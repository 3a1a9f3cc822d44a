"""ccxt: order books of its ``fetch_order_book``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ...boundary import Payload, Row, json_input
from ..books import book_of

_BOOK = "order_book"


class _Book(Row):
    bids: list[Annotated[list[Any], msgspec.Meta(min_length=2, max_length=3)]]
    asks: list[Annotated[list[Any], msgspec.Meta(min_length=2, max_length=3)]]
    timestamp: int | None = None


def read_book(source: Payload) -> dict[str, Any]:
    """Read an order book of any venue.

    `riskcore.Tick` takes the result of ``fetch_order_book`` as it is too; this adds its time.

    Parameters
    ----------
    source : str, Path or dict
        Of ``fetch_order_book``, a file or its content: levels of price, amount and perhaps number of orders. Amounts
        must be quantities of the base: where a venue counts contracts, multiply them by ``contractSize`` first.

    Returns
    -------
    dict
        bids and asks, (price, quantity) with the best level first, as `riskcore.Tick` takes the book of a market; and
        time, nanoseconds since the epoch, for its ``book_times``, None where it is not known.

    Raises
    ------
    RiskDataError
        It cannot be read, something is missing or of another type, or a side is not sorted; the message holds the path.

    Examples
    --------
    >>> from riskcore.io import ccxt
    >>> ccxt.read_book({"bids": [[99.9, 1.0]], "asks": [[100.1, 3.0]], "timestamp": 1_760_130_000_000})
    {'bids': [(99.9, 1.0)], 'asks': [(100.1, 3.0)], 'time': 1760130000000000000}
    """
    book = json_input.read(source, _Book, _BOOK)
    time = None if book.timestamp is None else book.timestamp * 1_000_000
    return book_of(_BOOK, {"$.bids": [row[:2] for row in book.bids], "$.asks": [row[:2] for row in book.asks]}, time)
