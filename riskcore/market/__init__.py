"""The market at an instant: prices, order books, and the guards that accept or reject them."""

from .books import Books
from .funding_rates import NO_FUNDING, FundingEntries
from .index import cross_venue_index
from .path import Path
from .price_table import PriceTable, is_table, read_prices
from .prices import Prices, UnitPrices, asset_values, open_lots, unit_prices_at
from .reading import PriceMap, Rule, by_symbol, first_bad_bar
from .scheduled import Scheduled, Segment, read_scheduled
from .tick import Tick
from .tick_table import TickTable

__all__ = [
    "NO_FUNDING",
    "Books",
    "FundingEntries",
    "Path",
    "PriceMap",
    "PriceTable",
    "Prices",
    "Rule",
    "Scheduled",
    "Segment",
    "Tick",
    "TickTable",
    "UnitPrices",
    "asset_values",
    "by_symbol",
    "cross_venue_index",
    "first_bad_bar",
    "is_table",
    "open_lots",
    "read_prices",
    "read_scheduled",
    "unit_prices_at",
]
