"""Phase 5: auto-deleveraging, the last resort: closing against profitable opposing accounts by score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import exact
from .backstop import by_requirement
from .tick_state import Instalments, TickState

Int = npt.NDArray[np.int64]


def deleverage(state: TickState) -> None:
    """Close what the backstop left against the winners, at the zero price."""
    queues: dict[tuple[int, int], _Queue] = {}
    for account, _ in state.past_the_book():
        margin = state.margin(account)
        for row in by_requirement(margin):
            market, lots = int(state.accounts.columns.market[row]), int(state.accounts.columns.lots[row])
            side = 1 if lots > 0 else -1
            if (market, side) not in queues:
                queues[market, side] = _Queue(rank(state, market, -side))
            _deleverage_position(state, account, row, margin, queues[market, side])


class _Queue:
    """Position rows of the winners of one side, the first to go in front; those closed are passed for good."""

    def __init__(self, rows: Int) -> None:
        self.rows, self.front = rows, 0


def _deleverage_position(state: TickState, account: int, row: int, margin: exact.ExactMargin, queue: _Queue) -> None:
    columns = state.accounts.columns
    market, lots = int(columns.market[row]), int(columns.lots[row])
    size, side = abs(lots), 1 if lots > 0 else -1
    flow = Instalments(exact.zero_price_flow(margin, row, margin.equity, state.venue.settle_quantum), size)
    left = size
    while left and queue.front < len(queue.rows):
        winner = int(queue.rows[queue.front])
        taken = min(left, -side * int(columns.lots[winner]))
        if taken > 0:
            counterparty = int(np.searchsorted(columns.position_offset, winner, side="right")) - 1
            state.transfer(
                "adl", "backstop_exhausted", account, row, counterparty, side * taken, size, flow.next(taken)
            )
            left -= taken
        if left:
            queue.front += 1
    if left:
        mmr = state.margin(account).mmr
        state.journal.add("unfilled", "no_counterparty", account, mmr, mmr, market=market, requested=left)


def rank(state: TickState, market: int, side: int) -> Int:
    """Position rows of the profitable holders of one side, by score descending, ties by account id.

    The score is PnL % times leverage, at the tick's start; accounts selected in this tick stay out.
    """
    columns = state.accounts.columns
    rows = np.flatnonzero((columns.market == market) & (state.lots * side > 0))
    account = np.searchsorted(columns.position_offset, rows, side="right") - 1
    keep = ~np.isin(account, state.selected) & (state.table.net_equity[account] > 0)
    rows, account = rows[keep], account[keep]
    value, cost = state.lots[rows] * state.prices.columns.price_per_lot[market], state.entry[rows].astype(float)
    score = liquidation_score(value, cost, state.table.exposure[account], state.table.net_equity[account])
    # no profit by the last bit of float64
    per_lot = exact.price_per_lot(state.prices, market)
    quantum = exact.decimal(state.venue.settle_quantum)
    for n in np.flatnonzero(np.abs(value - cost) <= 1e-12 * np.abs(cost)).tolist():
        if int(state.lots[rows[n]]) * per_lot <= int(state.entry[rows[n]]) * quantum:
            score[n] = -1.0
    order = np.argsort(-score, kind="stable")
    return rows[order[score[order] > 0]]


def liquidation_score(
    value: npt.NDArray[np.float64],
    cost: npt.NDArray[np.float64],
    exposure: npt.NDArray[np.float64],
    equity: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Rank of a position in the deleveraging queue: PnL % times leverage, PnL % over leverage where that is negative.

    Parameters
    ----------
    value, cost
        Signed worth of the position at the mark, and what was paid for it; in one unit, shape (N,).
    exposure, equity
        Of the account; in one unit, equity > 0, shape (N,).

    Returns
    -------
    ndarray of float64, shape (N,). A profitable position without cost of its own sign scores +inf.

    Notes
    -----
    venue_rules.md section 5, worked example E7.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        pnl = (value - cost) / np.abs(cost)
        leverage = exposure / equity
        score = np.where(pnl > 0, pnl * leverage, pnl / leverage)
    return np.where((value > cost) & (np.sign(cost) != np.sign(value)), np.inf, score)
