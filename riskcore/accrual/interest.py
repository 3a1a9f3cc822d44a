"""Interest of borrows and lends, every hour on the hour, at the pool's utilisation (venue_rules.md section 6)."""

from __future__ import annotations

import math

import numpy as np

from ..journal import EVENT, POOL, REASON
from ..pools import HOUR, HOURS_A_YEAR, RATE_UNIT
from ..venue import Venue
from ..waterfall.tick_state import TickContext
from .amounts import instants, scaled, unrated


def hours_due(work: TickContext, before: int, now: int) -> int:
    """Hours that are due; none without a pool."""
    return instants(before, now, HOUR) if any(work.venue.pools) else 0


def most_growth(venue: Venue, hours: int) -> float:
    """Return the most that a debt or a lend can become of itself in some hours, at full utilisation."""
    policy = venue.policy
    rate = float(policy.borrow_rate_base + policy.borrow_rate_slope + policy.borrow_rate_jump) / HOURS_A_YEAR
    return math.exp(min(hours * math.log1p(rate), 100.0))


def charge_interest(work: TickContext, hours: int) -> None:
    """Charge the interest of some hours, one after another."""
    for _ in range(hours):
        work.pools.refresh()
        for asset, pool in enumerate(work.venue.pools):
            if pool is not None:
                _charge(work, asset)


def _charge(work: TickContext, asset: int) -> None:
    columns = work.accounts.columns
    paid_by_borrowers, received_by_lenders = work.pools.hourly(asset)
    rows = np.flatnonzero(columns.asset == asset)
    first = np.zeros(len(rows), np.uint16)
    quanta = -scaled(np.maximum(-columns.free[rows], 0), first, [paid_by_borrowers], RATE_UNIT)
    lent = scaled(columns.lent[rows], first, [received_by_lenders], RATE_UNIT)
    touched = (quanta != 0) | (lent != 0)
    rows, quanta, lent = rows[touched], quanta[touched], lent[touched]
    columns.free[rows] += quanta
    columns.lent[rows] += lent
    work.ledger.pool[asset] -= quanta.sum() + lent.sum()
    block = unrated(work.journal.block(len(rows)))
    block["event"], block["reason"] = EVENT["interest"], REASON["hour"]
    block["account"], block["counterparty"] = work.accounts.balance_accounts()[rows], POOL
    block["asset"], block["quanta"], block["lent"] = asset, quanta, lent
    work.journal.extend(block)
