"""The actions of the table `activity`: the columns of each, and the row of the journal that it writes."""

from __future__ import annotations

from typing import NamedTuple

from ..kernels import activity as kernels
from ..record import ACCOUNT, BOOK, NOBODY


class Action(NamedTuple):
    """Declaration of an action.

    Attributes
    ----------
    code : int
        Kind of the kernels.
    event : str
        Event of its row in the journal; of `confirm` that of the proposal.
    required, optional : str
        Columns of the table beside action, account and time.
    counterparty : int
        Of its row; `ACCOUNT` stands for the account that a transfer goes to.
    free, lent : int
        Signs with which the quantity changes the account's free and lent balance.
    """

    code: int
    event: str
    required: str = ""
    optional: str = ""
    counterparty: int = NOBODY
    free: int = 0
    lent: int = 0


_MONEY = "asset quantity"
ACTIONS = {
    "open": Action(kernels.OPEN, "open", "", "owner leverage_limit"),
    "fill": Action(kernels.FILL, "fill", "market quantity price", "order fee", BOOK),
    "place": Action(kernels.PLACE, "place", "market side quantity price", "order reduce_only"),
    "change": Action(kernels.CHANGE, "change", "order", "quantity price"),
    "cancel": Action(kernels.CANCEL, "cancel", "order"),
    "deposit": Action(kernels.DEPOSIT, "deposit", _MONEY, "", BOOK, free=1),
    "withdraw": Action(kernels.WITHDRAW, "withdraw", _MONEY, "", BOOK, free=-1),
    "transfer": Action(kernels.TRANSFER, "transfer", f"{_MONEY} to_account", "", ACCOUNT, free=-1),
    "borrow": Action(kernels.BORROW, "borrow", _MONEY, "", BOOK, free=-1),
    "repay": Action(kernels.REPAY, "repay", _MONEY, "", BOOK, free=1),
    "lend": Action(kernels.LEND, "lend", _MONEY, "", NOBODY, free=-1, lent=1),
    "redeem": Action(kernels.REDEEM, "redeem", _MONEY, "", NOBODY, free=1, lent=-1),
    "leverage": Action(kernels.LEVERAGE, "leverage", "", "leverage_limit"),
    "confirm": Action(kernels.CONFIRM, "book", "market quantity price", "fee", BOOK),
}
"""The actions by name, in the order of their codes."""

NAMES = tuple(ACTIONS)
COLUMNS = (
    "market", "asset", "quantity", "price", "side", "order", "reduce_only", "fee", "to_account", "owner",
    "leverage_limit",
)  # fmt: skip
"""Columns that some actions use and others do not."""

LARGE = "must be less than 2**60 quanta"
REFUSALS = {
    kernels.DELISTED: ("market", "must not be a market that is delisted"),
    kernels.TOO_MANY_LOTS: (
        "quantity",
        f"the position with its orders {LARGE} at the market's maxPrice (of an inverse contract: at one tick)",
    ),
    kernels.TOO_MUCH_COST: ("price", f"the resulting costs {LARGE}"),
    kernels.TOO_MUCH_MONEY: ("quantity", f"the resulting balance {LARGE}"),
    kernels.NO_ORDER: ("order", "must be an open order of the account"),
    kernels.OTHER_SIDE: ("quantity", "must be on the side of its order"),
    kernels.PAST_ORDER: ("quantity", "must be at most the open quantity of its order"),
    kernels.DUPLICATE: ("order", "must not be a duplicate order id: the account has an open order with it"),
    kernels.REDUCES_NOTHING: ("order", "must have an opposite position to reduce: the order is reduce-only"),
    kernels.NOT_FREE: ("quantity", "must be at most what the account has of the asset"),
    kernels.NOT_LENT: ("quantity", "must be at most what the account lends of the asset"),
    kernels.NOT_OWED: ("quantity", "must be at most what the account owes of the asset"),
    kernels.PAST_LIMIT: ("price", "must be no worse than the limit price of its order"),
    kernels.CLOSED: ("market", "must not be closed"),
    kernels.LIQUIDATING: ("account", "must not be liquidating: its maintenance margin ratio is 100 % or above"),
    kernels.NO_PRICE: (
        "account",
        "must have a price in the last tick of everything that it holds: step a tick first, or check='off'",
    ),
    kernels.NOT_COVERED: (
        "quantity",
        "must leave the account an initial margin ratio below 100 % and no net equity below 0",
    ),
}
"""Column and rule of a refusal by the status of the kernel; the column is one that the action has, or the account."""
