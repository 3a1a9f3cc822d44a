"""The state: positions, balances and open orders of all accounts in whole numbers, pools and ledgers."""

from .accounts import Accounts, must_fit
from .ids import nearest
from .ledger import Ledger
from .pools import HOUR, HOURS_A_YEAR, RATE_UNIT, Pools, limited
from .rows import Orders
from .sweep_view import SweepView, chunk_count, copied, joined
from .write import AccountFrames

__all__ = [
    "HOUR",
    "HOURS_A_YEAR",
    "RATE_UNIT",
    "AccountFrames",
    "Accounts",
    "Ledger",
    "Orders",
    "Pools",
    "SweepView",
    "chunk_count",
    "copied",
    "joined",
    "limited",
    "must_fit",
    "nearest",
]
