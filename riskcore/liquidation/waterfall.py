"""The waterfall of one tick: its phases in their order, and their only entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..context import TickContext
from ..margin import MarginTable
from ..market.guards import Guarded
from ..record import EVENT, REASON, Journal
from ..state import Accounts, Ledger
from ..venue import Policy
from . import adl, backstop, book, cancel, close_out, last_book, lends, propose, repay
from .throttle import keys, mix
from .tick_state import Before, TickState

Phase: TypeAlias = Callable[[TickState], None]


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
    context: TickContext, view: Accounts, selected: Int, margins: MarginTable, guarded: Guarded, seed: int,
    *, of_host: bool = False,
) -> tuple[Int, MarginTable]:  # fmt: skip
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
    of_host
        Whether the books of the markets belong to the host: slices are proposed to it, not filled.

    Returns
    -------
    selected, margins
        In the order of treatment.
    """
    venue, prices = context.venue, context.prices
    by_id = np.arange(len(selected))[view.by_id(selected)]
    selected, margins = selected[by_id], margins.rows(by_id)
    shuffled = venue.policy.account_order == "random"
    is_drawn = shuffled or venue.policy.slice_probability < 1
    key = keys(seed, context.journal.time, view.ids[selected]) if is_drawn else np.zeros(len(selected), np.uint64)
    order = np.argsort(mix(key) if shuffled else -margins.mmr, kind="stable")
    selected, margins = selected[order], margins.rows(order)
    _write_triggers(context.journal, selected, margins.mmr)
    used = book.used_books(view, selected, venue)
    state = TickState(
        **vars(context),
        before=Before(view, prices, selected, margins),
        selected=selected,
        keys=key[order],
        book=book.book_columns(venue, guarded.guard_state, prices, guarded.books, used),
        rules=book.slice_rules(venue, prices, used),
    )
    for phase in phases(venue.policy, of_host=of_host):
        phase(state)
    guarded.guard_state.book_memory.record(book.lots_left(state.book))
    return selected, margins


def phases(policy: Policy, *, of_host: bool = False) -> Iterator[Phase]:
    """Yield the phases of an instant in their order, by the stages of the policy; in host mode slices are proposed.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.liquidation import phases
    >>> len(list(phases(rc.load_venue("backpack").policy)))
    8
    """
    yield cancel.cancel_orders
    slices = [repay.repay_borrows, propose.propose_slices if of_host else book.sell_slices]
    if policy.stages[0] != "book":
        yield partial(_rounds, [slices.pop(0)])
    past_the_book = False
    for stage in policy.stages:
        match stage:
            case "book":
                yield partial(_rounds, slices)
                past_the_book = True
            case "backstop":
                yield partial(backstop.hand_over, past_the_book=past_the_book)
            case "adl":
                yield lends.settle_lends
                yield partial(adl.deleverage, past_the_book=past_the_book)
    if "adl" not in policy.stages:
        yield lends.settle_lends
    last = propose.propose_rest if of_host else last_book.close_at_market
    yield partial(last, past_the_book=past_the_book)
    yield close_out.close_out
    yield partial(last_book.name_what_stays, past_the_book=past_the_book)


def _rounds(acts: Iterable[Callable[[TickState, int], None]], state: TickState) -> None:
    """Repay borrows or sell positions, or both side by side, slice by slice."""
    for number in range(state.venue.policy.slices_per_tick):
        for act in acts:
            act(state, number)


def _write_triggers(journal: Journal, selected: Int, mmr: npt.NDArray[np.float64]) -> None:
    rows = journal.block(len(selected))
    rows["event"], rows["reason"] = EVENT["trigger"], REASON["mmr"]
    rows["account"] = selected
    rows["mmr_before"] = rows["mmr_after"] = mmr
    journal.extend(rows)
