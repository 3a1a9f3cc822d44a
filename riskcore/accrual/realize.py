"""Continuous realisation: unrealised PnL becomes balance, the position stays (venue_rules.md 1.7)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..boundary import exact
from ..context import TickContext
from ..record import EVENT, REASON
from ..venue import Venue
from .amounts import instants, scaled

_PARTS = 10**6  # of a settle quantum in the value of a lot
_SECOND = 1_000_000_000


def realization_due(venue: Venue, before: int, now: int) -> bool:
    """Return whether an instant of realisation is due."""
    period = venue.policy.realize_interval
    return period is not None and instants(before, now, period * _SECOND) > 0


def realize_pnl(work: TickContext, open_lots: npt.NDArray[np.float64]) -> None:
    """Realise the PnL of every position; ``open_lots`` are lots of each market, 0 where there are none."""
    venue, markets, prices, columns = work.venue, work.venue.markets, work.prices, work.accounts.columns
    lot_value = [
        round(markets.lot_value(m, exact(mark)) / venue.assets.quantum[settle] * _PARTS)
        if lots and not np.isnan(mark) else 0
        for m, (mark, settle, lots) in enumerate(zip(prices.mark, markets.settle, open_lots, strict=True))
    ]  # fmt: skip
    change = np.where(columns.lots != 0, scaled(columns.lots, columns.market, lot_value, _PARTS) - columns.cost, 0)
    changed = np.flatnonzero(change)
    owner = work.accounts.position_accounts()[changed]
    by_id = work.accounts.by_id(owner)
    changed, owner = changed[by_id], owner[by_id]
    change, market = change[changed], columns.market[changed]
    columns.cost[changed] += change
    for column in (columns.balance_cost, columns.free):
        np.add.at(column, columns.position_balance[changed], change)
    rows = work.journal.block(len(changed))
    rows["event"], rows["reason"] = EVENT["realize"], REASON["interval"]
    rows["account"], rows["market"], rows["price"] = owner, market, prices.mark[market]
    rows["settle"], rows["cost"], rows["cash"] = markets.settle[market], change, change
    work.journal.extend(rows)
