"""The waterfall of one tick: its phases in their order, and their only entry."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..context import TickContext
from ..margin import MarginTable
from ..market.guards import Guarded
from ..record import EVENT, REASON, Journal
from ..state import Accounts, Ledger
from ..venue import Policy
from . import adl, backstop, book, cancel, close_out, lends, repay
from .throttle import keys, mix
from .tick_state import Before, TickState


def start_tick(ledger: Ledger, policy: Policy, before: int, now: int) -> None:
    """Give providers the capacity of a new minute or hour, and forget slices that no cooldown or cap counts any more.

    Parameters
    ----------
    before, now
        Times of the tick before and of this one, nanoseconds.
    """
    backstop.roll_capacity(ledger.taken, before, now)
    book.forget_slices(ledger, policy, before, now)


def liquidate(
    context: TickContext, view: Accounts, selected: Int, margins: MarginTable, guarded: Guarded, seed: int
) -> tuple[Int, MarginTable]:
    """Put the selected accounts in order and through the phases.

    Parameters
    ----------
    context
        The state, which changes, and the journal, which gets the rows.
    view
        The same accounts, read-only; their sweep view stays that of this moment until the tick is over.
    selected, margins
        Account rows whose maintenance margin ratio is 1 or more, and their margins.
    guarded
        The tick's accepted books and the state of the guards, which records the fills.
    seed
        Of the throttle's draws and of a random order of accounts.

    Returns
    -------
    selected, margins
        In the order of treatment.
    """
    venue, prices = context.venue, context.prices
    by_id = np.arange(len(selected))[view.by_id(selected)]
    selected, margins = selected[by_id], margins.rows(by_id)
    key = keys(seed, context.journal.time, view.ids[selected])
    shuffled = venue.policy.account_order == "random"
    order = np.argsort(mix(key) if shuffled else -margins.mmr, kind="stable")
    selected, margins = selected[order], margins.rows(order)
    _write_triggers(context.journal, selected, margins.mmr)
    state = TickState(
        **vars(context),
        before=Before(view, prices, selected, margins),
        selected=selected,
        keys=key[order],
        book=book.book_columns(venue, guarded.guard_state, prices, guarded.books),
        rules=book.slice_rules(venue, prices),
    )
    for phase in PHASES:
        phase(state)
    guarded.guard_state.book_memory.record(book.lots_left(state.book))
    return selected, margins


def _repay_and_sell(state: TickState) -> None:
    """Repay borrows and sell positions side by side, slice by slice."""
    for number in range(state.venue.policy.slices_per_tick):
        repay.repay_borrows(state, number)
        book.sell_slices(state, number)


PHASES = (
    cancel.cancel_orders, _repay_and_sell, backstop.hand_over, lends.settle_lends, adl.deleverage, close_out.close_out,
)  # fmt: skip


def _write_triggers(journal: Journal, selected: Int, mmr: npt.NDArray[np.float64]) -> None:
    rows = journal.block(len(selected))
    rows["event"], rows["reason"] = EVENT["trigger"], REASON["mmr"]
    rows["account"] = selected
    rows["mmr_before"] = rows["mmr_after"] = mmr
    journal.extend(rows)
