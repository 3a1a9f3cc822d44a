"""Payments between two instants: interest, funding, realisation of profit and loss, and settlement.

The rules are in docs/one_tick.md, "Between the ticks".
"""

from __future__ import annotations

from ..context import TickContext
from ..market import Scheduled
from ..record import Totals
from .funding import Funding, note_premiums
from .interest import charge_interest, hours_due, max_growth
from .realize import realization_due, realize_pnl
from .settle import money_balances, settle_accounts

__all__ = ["Accruals", "note_premiums"]


class Accruals:
    """All that is due after one instant and up to another; it is checked on construction, before anything has changed.

    Parameters
    ----------
    work
        The state, at the prices of the later instant.
    totals
        Those of the state.
    scheduled
        The funding and the venues of the tick.
    after, until
        The instants, nanoseconds.

    Raises
    ------
    RiskDataError
        The funding or the interest due may be past the range of whole numbers.
    """

    def __init__(self, work: TickContext, totals: Totals, scheduled: Scheduled, after: int, until: int) -> None:
        self._work, self._totals = work, totals
        self._hours, self._realizing = hours_due(work, after, until), realization_due(work, after, until)
        self._funding = Funding(work, totals.lots, scheduled, after, until)
        if self._are_due():
            totals.must_fit(work.prices, growth=max_growth(work.venue, self._hours), due=self._funding.total)

    def _are_due(self) -> bool:
        return bool(self._hours or self._realizing or len(self._funding.due))

    def apply(self) -> None:
        """Make the payments, and write the journal rows."""
        if not self._are_due():
            return
        work = self._work
        before_accruals = money_balances(work)
        # interest first: what falls due on the hour has not been borrowed in the hour before
        charge_interest(work, self._hours)
        self._funding.pay()
        if self._realizing:
            realize_pnl(work, self._totals.lots)
        settle_accounts(work, before_accruals)
