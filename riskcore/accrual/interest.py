"""Interest of borrows and lends, every hour on the hour, at the pool's utilisation (venue_rules.md section 6)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .._typing import Int
from ..context import TickContext
from ..record import EVENT, POOL, REASON
from ..state import HOUR, HOURS_A_YEAR, RATE_UNIT, Pools
from ..venue import Venue
from .amounts import instants, scaled


def hours_due(venue: Venue, before: int, now: int) -> int:
    """Hours that are due; none without a pool."""
    return instants(before, now, HOUR) if any(venue.pools) else 0


def max_growth(venue: Venue, hours: int) -> float:
    """Return the largest factor by which interest can grow a debt or a lend in some hours, at full utilisation."""
    policy = venue.policy
    rate = float(policy.borrow_rate_base + policy.borrow_rate_slope + policy.borrow_rate_jump) / HOURS_A_YEAR
    return math.exp(min(hours * math.log1p(rate), 100.0))


def entry_interest(pools: Pools, asset: int, quanta: int, time: int) -> int:
    """Quanta that a new borrow pays for the rest of the running hour, at the rate of its pool now."""
    rate, _ = pools.hourly(asset)
    return round(Fraction(quanta * rate * (HOUR - time % HOUR), RATE_UNIT * HOUR))


def charge_interest(work: TickContext, hours: int) -> None:
    """Charge the interest of some hours, one after another; an hour costs what borrows and lends cost, not accounts."""
    if not hours:
        return
    columns, pools = work.accounts.columns, work.pools
    pools.refresh()
    bears = (columns.free < 0) | (columns.lent != 0)  # in a later hour nobody else does: interest makes no new borrow
    due = []
    for asset, pool in enumerate(work.venue.pools):
        rows = np.empty(0, np.int64) if pool is None else np.flatnonzero(bears & (columns.asset == asset))
        if rows.size:
            owner = work.accounts.balance_accounts()[rows]
            by_id = work.accounts.by_id(owner)
            due.append((asset, rows[by_id], owner[by_id]))
    for _ in range(hours):
        if not any([_charge(work, *pool) for pool in due]):
            break  # nothing changed: nor do the hours to come


def _charge(work: TickContext, asset: int, balance_rows: Int, owner: Int) -> bool:
    """Charge an hour's interest to the balance rows of an asset that borrow or lend; whether there was any."""
    columns = work.accounts.columns
    paid_by_borrowers, received_by_lenders = work.pools.hourly(asset)
    first = np.zeros(len(balance_rows), np.uint16)
    quanta = -scaled(np.maximum(-columns.free[balance_rows], 0), first, [paid_by_borrowers], RATE_UNIT)
    lent = scaled(columns.lent[balance_rows], first, [received_by_lenders], RATE_UNIT)
    due = (quanta != 0) | (lent != 0)
    rows, quanta, lent = balance_rows[due], quanta[due], lent[due]
    paid, received = -int(quanta.sum()), int(lent.sum())
    columns.free[rows] += quanta
    columns.lent[rows] += lent
    work.pools.accrued(asset, paid, received)
    work.ledger.pool[asset] += paid - received
    block = work.journal.block(len(rows))
    block["event"], block["reason"] = EVENT["interest"], REASON["hour"]
    block["account"], block["counterparty"] = owner[due], POOL
    block["asset"], block["quanta"], block["lent"] = asset, quanta, lent
    work.journal.extend(block)
    return bool(len(rows))
