"""Tables in and out: files, real order books re-centred on a price path, and runs over them."""

from .books import books_from_levels, marks_from_books, recentre_books
from .files import TickTable, read_accounts, read_table, read_ticks, write_table, write_text
from .replay import replay
from .sweeps import write_sweep

__all__ = [
    "TickTable", "books_from_levels", "marks_from_books", "read_accounts", "read_table", "read_ticks", "recentre_books",
    "replay", "write_sweep", "write_table", "write_text",
]  # fmt: skip
