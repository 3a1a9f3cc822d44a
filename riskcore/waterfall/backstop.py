"""Phase 4: what the book cannot take goes to the backstop providers, at the zero price."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .. import exact
from .tick_state import Instalments, TickState

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_NO_LIMIT = Decimal(10) ** 12  # settle units: what a provider without any limit counts for


def hand_over(state: TickState) -> None:
    """Close the positions of accounts below auto-close, or sent on, against the providers' remaining capacity."""
    if not state.venue.backstop:
        return
    selected = set(state.selected.tolist())
    providers = sorted(
        (account, p)
        for p, provider in enumerate(state.venue.backstop)
        if (account := state.accounts.row_of(provider.account)) not in selected
    )
    for account, below in state.past_the_book(state.sent_on):
        margin, reason = state.margin(account), "below_auto_close" if below else "sent_on"
        for row in by_requirement(margin):
            _hand_over_position(state, account, row, margin, reason, providers)


def by_requirement(margin: exact.ExactMargin) -> list[int]:
    """Position rows by maintenance margin, the largest first, ties by market."""
    return sorted(margin.requirement, key=lambda row: (-margin.requirement[row], row))


def _hand_over_position(
    state: TickState, account: int, row: int, margin: exact.ExactMargin, reason: str, providers: list[tuple[int, int]]
) -> None:
    venue, columns = state.venue, state.accounts.columns
    market, lots = int(columns.market[row]), int(columns.lots[row])
    size, side = abs(lots), 1 if lots > 0 else -1
    per_lot = exact.price_per_lot(state.prices, market)
    open_to = [(a, p) for a, p in providers if market in venue.backstop[p].markets]
    room = [int(_remaining(state, p) // per_lot) for _, p in open_to]
    # without equity left the price is the mark: no provider pays for another account's loss
    equity = max(margin.equity, Decimal(0))
    flow = Instalments(exact.zero_price_flow(margin, row, equity, venue.settle_quantum), size)
    share = exact.equity_share(margin, row, equity) * venue.policy.backstop_fund_share
    to_fund = Instalments(round(share / venue.settle_quantum), size)
    for (provider, p), taken in zip(open_to, allocate(size, room), strict=True):
        if taken:
            notional = round(Fraction(per_lot) * taken / venue.settle_quantum)
            state.transfer(
                "backstop", reason, account, row, provider, side * taken, size, flow.next(taken),
                to_fund.next(taken),
            )  # fmt: skip
            state.ledger.taken[p] += notional


def _remaining(state: TickState, provider: int) -> Decimal:
    """Capacity a provider has left, in settle units of notional."""
    rules = state.venue.backstop[provider]
    quantum = exact.decimal(state.venue.settle_quantum)
    left = [
        exact.decimal(limit) - int(used) * quantum
        for limit, used in zip(
            (rules.capacity_per_min, rules.capacity_per_hour, rules.max_notional), state.ledger.taken[provider],
            strict=True,
        )
        if limit is not None
    ]  # fmt: skip
    return max(min(left, default=_NO_LIMIT), Decimal(0))


def allocate(size: int, room: list[int]) -> list[int]:
    """Split ``size`` lots in proportion to each one's room, whole lots, never past it.

    What rounding down leaves goes, one lot each, to those with the most room left, the earlier first on a tie.
    """
    total = sum(room)
    if total <= size:
        return room
    taken = [size * r // total for r in room]
    order = sorted(range(len(room)), key=lambda n: (taken[n] - room[n], n))
    for n in order[: size - sum(taken)]:
        taken[n] += 1
    return taken


def roll_capacity(taken: npt.NDArray[np.int64], before: int, now: int) -> None:
    """Forget what providers took in a clock minute or hour that has passed."""
    for column, span in ((0, _MINUTE), (1, _HOUR)):
        if now // span != before // span:
            taken[:, column] = 0
