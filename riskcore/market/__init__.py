"""The market at an instant: prices, order books, and the guards that accept or reject them."""

from .books import Books
from .index import cross_venue_index
from .path import Path
from .price_table import PriceTable
from .prices import Prices, asset_values
from .reading import PriceMap, Rule, by_symbol, first_bad_bar
from .tick import Tick
from .tick_table import TickTable

__all__ = [
    "Books",
    "Path",
    "PriceMap",
    "PriceTable",
    "Prices",
    "Rule",
    "Tick",
    "TickTable",
    "asset_values",
    "by_symbol",
    "cross_venue_index",
    "first_bad_bar",
]
