"""Tables in and out: files, saved replies of venues, real order books re-centred on a price path, runs over them."""

from ..run import replay
from .books import books_from_levels, marks_from_books, recentre_books
from .files import TABLES, output_file, read_accounts, read_table, read_ticks, write_table, write_text
from .scenario_losses import write_scenario_losses
from .sweeps import write_sweep
from .venues import Snapshot, backpack, binance, ccxt, dydx, hyperliquid

__all__ = [
    "TABLES", "Snapshot", "backpack", "binance", "books_from_levels", "ccxt", "dydx", "hyperliquid", "marks_from_books",
    "output_file", "read_accounts", "read_table", "read_ticks", "recentre_books", "replay",
    "write_scenario_losses", "write_sweep", "write_table", "write_text",
]  # fmt: skip
