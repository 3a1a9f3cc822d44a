"""The journal: one row per thing that happened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..state import Accounts
from ..venue import Venue

BOOK, FUND, SHORTFALL, NOBODY, POOL = -1, -2, -3, -4, -5
"""Counterparties that are no accounts."""
NO_ACCOUNT = -1
"""The account of a `guard` row: a market was refused something."""

EVENTS = (
    "trigger", "cancel", "redeem", "convert", "book", "expire", "backstop", "adl", "unfilled", "fund", "shortfall",
    "funding", "interest", "realize", "unsettle", "guard", "skip", "harm", "socialize",
)  # fmt: skip
REASONS = {
    "mmr": "the maintenance margin ratio is 100 % or above",
    "liquidation": "open orders are cancelled when a liquidation begins",
    "debt": "borrows are repaid while the account is liquidating",
    "close_out": "the account has no position and no equity left",
    "full": "the slice was filled in full",
    "depth": "the book ended before the slice was filled",
    "no_book": "the book has no order on that side",
    "slippage": "the average price would exceed the slippage limit",
    "account_cap": "the account's cap of the interval is used up",
    "market_cap": "the market's cap of the tick is used up",
    "depth_share": "one slice takes no more than its share of the depth",
    "impact": "the price impact band stopped the slice",
    "mean_mark": "the band around the five-minute mean mark stopped the slice",
    "mean_premium": "the band around the five-minute mean premium stopped the slice",
    "limit": "the limit price band stopped the slice",
    "conversion": "the slippage limit of conversions stopped the conversion",
    "conversion_limit": "the limit on conversions at the index is used up",
    "throttle": "the random draw left the position or borrow out of this round",
    "cooldown": "the cooldown after the position's last slice has not passed",
    "fee_waived": "the slice would raise the margin ratio at the full fee: the fee is cut",
    "sent": "the slice raises the margin ratio, and the policy sends the slice all the same",
    "withheld": "the slice would raise the margin ratio even without a fee: the slice is not sent",
    "to_backstop": "the slice would raise the margin ratio: the account goes to the backstop",
    "below_auto_close": "the margin fraction is below the auto-close margin fraction",
    "escalated": "a slice in the book would have raised the margin ratio",
    "backstop_exhausted": "the backstop had no capacity left",
    "no_counterparty": "no counterparty was left that the policy allows",
    "bankrupt": "net equity is below zero",
    "interval": "the payment is due at every interval",
    "hour": "interest is due at every hour",
    "entry": "a new borrow pays the interest of the running hour",
    "settlement": "the payments due exceeded the settle balance",
    "stale_book": "the book was too old",
    "crossed_book": "the best bid was not below the best ask",
    "index_update_cap": "the index moved further than an update may",
    "mark_held": "no new mark was known: the mark used before stays",
    "index_clamp": "the mark was further from the index than the threshold",
    "update_cap": "the mark moved further than an update may",
    "full_utilization": "the lend could not be redeemed: the whole pool is borrowed",
    "unsettled": "the fund could not pay: the account owes the rest",
    "equity": "the fund could not pay: accounts with opposite positions pay by their equity",
    "open_interest": "the fund could not pay: all accounts with positions in the market pay by their notional",
    "closed_book": "the market's book takes no orders",
}
"""Reasons of rows in the order of their codes, each with the sentence of `explain`."""
EVENT = {name: code for code, name in enumerate(EVENTS)}
REASON = {name: code for code, name in enumerate(REASONS)}

_UNCHANGING = [EVENT[name] for name in ("trigger", "expire", "unfilled", "guard", "skip", "harm")]

ROW = np.dtype(
    [
        ("tick", np.int64), ("time", np.int64), ("event", np.uint8), ("reason", np.uint8), ("account", np.int64),
        ("counterparty", np.int64), ("market", np.int64), ("asset", np.int64), ("order", np.int64),
        ("requested", np.int64), ("lots", np.int64), ("cost", np.int64), ("cash", np.int64), ("entry", np.int64),
        ("fee", np.int64), ("quanta", np.int64), ("lent", np.int64), ("unsettled", np.int64),
        ("counter_cost", np.int64), ("counter_cash", np.int64), ("counter_entry", np.int64), ("fund", np.int64),
        ("price", np.float64), ("mmr_before", np.float64), ("mmr_after", np.float64),
    ]
)  # fmt: skip
"""Columns of the journal; docs/one_tick.md has their meaning."""

_DEFAULTS: dict[str, Any] = {name: 0 for name in ROW.names or ()} | {
    "counterparty": NOBODY, "market": -1, "asset": -1, "order": -1, "price": np.nan,
}  # fmt: skip

Rows = npt.NDArray[np.void]
_NO_ROWS = np.empty(0, ROW)


@dataclass
class Journal:
    """Rows of one tick, in the order in which things happened."""

    tick: int
    time: int
    _blocks: list[Rows] = field(default_factory=list)
    _pending: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, event: str, reason: str, account: int, mmr_before: float, mmr_after: float, **values: Any) -> None:
        """Append one row; columns not named are 0, or -1 where they name a row of another table."""
        known = dict(
            tick=self.tick, time=self.time, event=EVENT[event], reason=REASON[reason], account=account,
            mmr_before=mmr_before, mmr_after=mmr_after,
        )  # fmt: skip
        self._pending.append(tuple((_DEFAULTS | known | values).values()))

    def block(self, size: int) -> Rows:
        """Rows with every column at its default, to be filled and given to `extend`."""
        rows = np.empty(size, ROW)
        for name, value in (_DEFAULTS | {"tick": self.tick, "time": self.time}).items():
            rows[name] = value
        return rows

    def extend(self, rows: Rows) -> None:
        """Append a block of rows."""
        self._flush()
        self._blocks.append(rows)

    def _flush(self) -> None:
        if self._pending:
            self._blocks.append(np.array(self._pending, ROW))
            self._pending = []

    def rows(self) -> Rows:
        """All rows so far."""
        self._flush()
        return np.concatenate(self._blocks) if self._blocks else _NO_ROWS


def touched(rows: Rows) -> npt.NDArray[np.int64]:
    """Rows of the accounts that the events may have changed, each once."""
    if not len(rows):
        return np.empty(0, np.int64)
    changing = rows[~np.isin(rows["event"], _UNCHANGING)]
    known = np.concatenate([changing["account"], changing["counterparty"]])
    return np.unique(known[known >= 0])


def words(codes: npt.NDArray[np.uint8], names: Iterable[str]) -> pd.Categorical:
    """Codes of events or reasons as text."""
    categories = list(names)
    return pd.Categorical(np.array(categories, object)[codes], categories=categories)


def to_frame(rows: Rows, venue: Venue, accounts: Accounts) -> pd.DataFrame:
    """Journal rows for people: ids and symbols for row numbers, time as a timestamp."""
    others = {BOOK: "book", FUND: "fund", SHORTFALL: "shortfall", NOBODY: None, POOL: "pool"}
    frame = pd.DataFrame({name: rows[name] for name in ROW.names or ()})
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    frame["event"], frame["reason"] = words(rows["event"], EVENTS), words(rows["reason"], REASONS)
    frame["account"] = accounts.ids[rows["account"]]
    if (rows["account"] == NO_ACCOUNT).any():
        frame["account"] = frame["account"].astype(object).where(rows["account"] != NO_ACCOUNT, None)
    frame["counterparty"] = [others[c] if c < 0 else accounts.ids[c] for c in rows["counterparty"].tolist()]
    for name, symbols in (("market", venue.markets.symbol), ("asset", venue.assets.symbol)):
        frame[name] = [symbols[c] if c >= 0 else None for c in rows[name].tolist()]
    return frame
