"""The state: positions, balances and open orders of all accounts in whole numbers, pools and ledgers."""

from .accounts import Accounts, must_fit
from .fills import Fills, RowsOf, fill, read_fills
from .growth import Growth
from .ids import did_you_mean
from .ledger import Ledger
from .pools import HOUR, HOURS_A_YEAR, RATE_UNIT, Pools, limited
from .proposals import Proposal, Proposals
from .rows import NOBODY_OPENED, Opened, Orders, costs
from .sweep_view import SweepView, chunk_count, copy_slots, join_columns
from .write import AccountFrames, average_prices

__all__ = [
    "HOUR",
    "HOURS_A_YEAR",
    "NOBODY_OPENED",
    "RATE_UNIT",
    "AccountFrames",
    "Accounts",
    "Fills",
    "Growth",
    "Ledger",
    "Opened",
    "Orders",
    "Pools",
    "Proposal",
    "Proposals",
    "RowsOf",
    "SweepView",
    "average_prices",
    "chunk_count",
    "copy_slots",
    "costs",
    "did_you_mean",
    "fill",
    "join_columns",
    "limited",
    "must_fit",
    "read_fills",
]
