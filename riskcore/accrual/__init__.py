"""What falls due between two ticks: funding, interest, realisation of PnL, and what settling it takes.

The rules are in docs/one_tick.md, "Between the ticks".
"""

from __future__ import annotations

from ..waterfall.tick_state import TickContext
from .funding import note_premiums, pay_funding
from .interest import charge_interest
from .realize import realize_pnl
from .settle import settle_accounts

__all__ = ["accrue", "note_premiums"]


def accrue(work: TickContext, before: int, now: int) -> None:
    """Apply all that is due after the tick at ``before`` and up to the one at ``now``, nanoseconds.

    Raises
    ------
    RiskDataError
        The funding due is past the range of whole numbers; nothing has changed.
    """
    columns = work.accounts.columns
    settle_before = columns.free[columns.settle_row]
    due = [step(work, before, now) for step in (pay_funding, charge_interest, realize_pnl)]
    if any(due):
        settle_accounts(work, settle_before)
