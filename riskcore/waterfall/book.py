"""Phase 3: slices of the positions into the order books, within the price band and the depth there."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from ..journal import BOOK, EVENT, REASON
from ..kernels import book as kernels
from ..kernels.columns import BookColumns, SliceRules
from ..kernels.margin import LIQUIDATING
from ..tables import exact
from ..tick import Books, Prices
from ..venue import Venue
from .tick_state import TickState

_REASON = {kernels.FULL: "full", kernels.BAND: "band", kernels.DEPTH: "depth", kernels.NO_BOOK: "no_book"}


def sell_slices(state: TickState) -> None:
    """Send slices of every selected account that is liquidating and not below auto-close."""
    status = state.statuses()
    chosen = status == LIQUIDATING
    accounts, status = state.selected[chosen], status[chosen]
    columns = state.accounts.columns
    held = np.diff(columns.position_offset.astype(np.int64))[accounts]
    room = int(held.sum()) * state.venue.policy.slices_per_tick
    if not room:
        return
    where, size = np.empty((room, 3), np.int64), np.empty((room, 2), np.int64)
    money, ratio = np.empty((room, 5), np.int64), np.empty((room, 2))
    count = np.zeros(1, np.int64)
    kernels.send_slices(
        accounts, status, columns, state.prices.columns, slice_rules(state.venue, state.prices),
        book_columns(state.venue, state.books), where, size, money, ratio, count,
    )  # fmt: skip
    _record(state, where[: count[0]], size[: count[0]], money[: count[0]], ratio[: count[0]])


def slice_rules(venue: Venue, prices: Prices) -> SliceRules:
    """Rules of the slices at a tick's prices, in whole numbers."""
    policy, markets = venue.policy, venue.markets
    floor_lots = [
        1 if np.isnan(mark) else ceil(policy.min_slice_notional / (exact(mark) * step))
        for mark, step in zip(prices.mark, markets.step, strict=True)
    ]
    return SliceRules(
        policy.slice_fraction.numerator, policy.slice_fraction.denominator,
        policy.liquidation_fee.numerator, policy.liquidation_fee.denominator,
        policy.slices_per_tick, np.minimum(np.array(floor_lots, object), 2**60).astype(np.int64), markets.min_lots,
        markets.value_num, markets.value_den,
    )  # fmt: skip


def book_columns(venue: Venue, books: Books) -> BookColumns:
    """Return the tick's books with their price bands, nothing taken yet."""
    band = np.empty(2 * len(venue.markets.symbol), np.int64)
    for m in range(len(venue.markets.symbol)):
        low, high = venue.markets.min_impact[m], venue.markets.max_impact[m]
        bid, ask = books.offset[2 * m], books.offset[2 * m + 1]
        end = books.offset[2 * m + 2]
        band[2 * m] = ceil(int(books.price[bid]) * low) if low is not None and bid < ask else 0
        band[2 * m + 1] = floor(int(books.price[ask]) * high) if high is not None and ask < end else 2**62
    return BookColumns(books.offset, books.price, books.lots, band, books.offset[:-1].copy(), np.zeros_like(band))


def _record(
    state: TickState,
    where: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    size: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    money: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    ratio: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> None:
    """Write the slices into the journal and the makers' side into the ledgers."""
    rows = state.journal.block(len(where))
    filled = size[:, 1] != 0
    rows["event"] = np.where(filled, EVENT["book"], EVENT["expire"])
    rows["reason"] = np.array([REASON[_REASON[code]] for code in sorted(_REASON)])[where[:, 2]]
    rows["account"], rows["market"] = where[:, 0], where[:, 1]
    rows["counterparty"][filled] = BOOK
    rows["requested"], rows["lots"] = size[:, 0], size[:, 1]
    rows["cost"], rows["cash"], rows["fee"] = money[:, 1], money[:, 2], money[:, 3]
    rows["entry"], rows["counter_cash"] = money[:, 4], -money[:, 0]
    rows["mmr_before"], rows["mmr_after"] = ratio[:, 0], ratio[:, 1]
    step = state.venue.markets.step_size[where[filled, 1]]
    rows["price"][filled] = -money[filled, 0] * float(state.venue.settle_quantum) / (size[filled, 1] * step)
    state.journal.extend(rows)
    np.subtract.at(state.ledger.book_lots, where[:, 1], size[:, 1])
    state.ledger.book_quanta[state.venue.settle] -= int(money[:, 0].sum())
    state.ledger.fund += int(money[:, 3].sum())
