"""The journal: one row per thing that happened."""

from __future__ import annotations

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
REASONS = (
    "mmr", "liquidation", "debt", "close_out", "full", "depth", "no_book", "slippage", "account_cap", "market_cap",
    "depth_share", "impact", "mean_mark", "mean_premium", "limit", "conversion", "conversion_limit", "throttle",
    "cooldown", "fee_waived", "sent", "withheld", "to_backstop", "below_auto_close", "escalated", "backstop_exhausted",
    "no_counterparty", "bankrupt", "interval", "hour", "entry", "settlement", "stale_book", "crossed_book",
    "index_update_cap", "mark_held", "index_clamp", "update_cap", "full_utilization", "unsettled", "equity",
    "open_interest", "closed_book",
)  # fmt: skip
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


def words(codes: npt.NDArray[np.uint8], names: tuple[str, ...]) -> pd.Categorical:
    """Codes of events or reasons as text."""
    return pd.Categorical(np.array(names, object)[codes], categories=list(names))


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
