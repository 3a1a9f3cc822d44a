"""Payments between two ticks: interest, funding, realisation of profit and loss, and settlement.

The rules are in docs/one_tick.md, "Between the ticks".
"""

from __future__ import annotations

from ..context import TickContext
from ..record import Totals
from .funding import Funding, funding_due, note_premiums
from .interest import charge_interest, hours_due, max_growth
from .realize import realization_due, realize_pnl
from .settle import money_balances, settle_accounts

__all__ = ["accrue", "note_premiums"]


def accrue(work: TickContext, totals: Totals, before: int, now: int) -> None:
    """Apply all that is due after the tick at ``before`` and up to the one at ``now``, nanoseconds.

    ``totals`` are those of the state.

    Raises
    ------
    RiskDataError
        The funding or the interest due may be past the range of whole numbers; nothing has changed.
    """
    hours, realizing = hours_due(work, before, now), realization_due(work, before, now)
    if not (hours or realizing or funding_due(work, before, now)):
        return
    funding = Funding(work, totals.lots, before, now)
    totals.must_fit(work.prices, growth=max_growth(work.venue, hours), due=funding.total)
    before_accruals = money_balances(work)
    # interest first: what falls due on the hour has not been borrowed in the hour before
    charge_interest(work, hours)
    funding.pay()
    if realizing:
        realize_pnl(work, totals.lots)
    settle_accounts(work, before_accruals)
