"""What falls due between two ticks: interest, funding, realisation of PnL, and what settling it takes.

The rules are in docs/one_tick.md, "Between the ticks".
"""

from __future__ import annotations

from ..waterfall.tick_state import TickContext
from .funding import Funding, note_premiums
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
    funding = Funding(work, before, now)
    # interest first: what falls due on the hour has not been borrowed in the hour before
    due = [charge_interest(work, before, now), funding.pay(), realize_pnl(work, before, now)]
    if any(due):
        settle_accounts(work, settle_before)
