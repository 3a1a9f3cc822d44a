"""The stage `book`: slices of the positions into the order books, sized to restore the margin within their depth."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

from .._limits import AMOUNT_LIMIT
from .._typing import Bool, Int
from ..boundary import exact
from ..kernels import slice_rounds, slice_size
from ..kernels.books import FIRST_BAND
from ..kernels.layouts import BookColumns, SliceQueue, SliceRows, SliceRules
from ..kernels.margin import LIQUIDATING
from ..margin import folded
from ..market import Books, Prices
from ..market.guards import price_bands, state
from ..record import BOOK, EVENT, REASON
from ..state import Accounts, Ledger
from ..venue import Policy, Venue
from .tick_state import TickState

_UNLIMITED = AMOUNT_LIMIT
_EVENT = np.array([EVENT[name] for name in slice_rounds.EVENTS])
_REASON = np.array([REASON[name] for name in slice_rounds.ROW_REASONS])
_POSITION_ORDER = {"relief": slice_size.RELIEF, "largest": slice_size.LARGEST, "pro_rata": slice_size.PRO_RATA}
_ON_HARM = {"waive": slice_size.WAIVE, "send": slice_size.SEND, "backstop": slice_size.BACKSTOP}


def sell_slices(state: TickState, round_number: int) -> None:
    """Send a slice of each position of the accounts that are liquidating and not below auto-close: one round."""
    status = state.statuses()
    chosen = np.flatnonzero((status == LIQUIDATING) & ~np.isin(state.selected, list(state.escalated)))
    accounts, status = state.selected[chosen], status[chosen]
    rows, counts = state.accounts.position_rows(accounts)
    if not rows.size:
        return
    venue, account_count, position_count = state.venue, len(accounts), len(rows)
    room = np.full(account_count, _UNLIMITED)
    if venue.policy.account_cap is not None:
        cap = cap_quanta(venue.policy.account_cap, venue)
        room[:] = [max(cap - state.ledger.sold.get(a, 0), 0) for a in accounts.tolist()]
    queue = SliceQueue(
        account=accounts,
        start=np.append(0, counts.cumsum()),
        status=status,
        room=room,
        equity=np.empty(account_count),
        maintenance=np.empty(account_count),
        ratio=np.empty(account_count),
        throttled=_skip_reasons(state, round_number, np.repeat(chosen, counts), rows),
        order=np.empty(position_count, np.int64),
        surplus=np.empty(position_count),
        score=np.empty(position_count, np.float32),
    )
    done = slice_rows(2 * position_count)
    columns = state.accounts.columns
    if venue.policy.account_order == "pro_rata":
        slice_rounds.send_shared(queue, columns, folded(state.prices), state.rules, state.book, done)
    else:
        slice_rounds.send_slices(queue, columns, folded(state.prices), state.rules, state.book, done)
    state.escalated.update(accounts[status == slice_size.ESCALATED].tolist())
    _record(state, done)


def _skip_reasons(state: TickState, round_number: int, owner: Int, rows: Int) -> npt.NDArray[np.uint8]:
    """Reason that leaves each position row out of this round, 0: none; ``owner`` indexes the selected accounts."""
    venue, market = state.venue, state.accounts.columns.market[rows].astype(np.int64)
    number = round_number * (len(venue.markets.symbol) + len(venue.assets.symbol)) + market
    reason = np.zeros(len(rows), np.uint8)
    reason[~state.participates(owner, number)] = slice_size.THROTTLE
    cooldown = venue.policy.slice_cooldown
    if cooldown is not None:
        since, last = floor(state.journal.time - cooldown * 10**9), state.ledger.last_slice
        legs = zip(state.selected[owner].tolist(), market.tolist(), strict=True)
        reason[(reason == 0) & [last.get(leg, since) > since for leg in legs]] = slice_size.COOLDOWN
    return reason


def used_books(accounts: Accounts, selected: Int, venue: Venue) -> Bool:
    """Books of the markets in which accounts have positions and of the assets that they have, shape (B,)."""
    columns, markets = accounts.columns, len(venue.markets.symbol)
    positions, balances = accounts.position_rows(selected)[0], accounts.balance_rows(selected)[0]
    used = np.zeros(len(venue.listing.symbol), bool)
    used[columns.market[positions[columns.lots[positions] != 0]]] = True
    held = columns.asset[balances[(columns.free[balances] != 0) | (columns.lent[balances] != 0)]]
    used[markets:] = np.isin(venue.spots.asset, held)
    return used


def slice_rules(venue: Venue, prices: Prices, used: Bool) -> SliceRules:
    """Rules of the slices at a tick's prices, in whole numbers; of the markets whose books are used."""
    policy, markets = venue.policy, venue.markets
    lot_value = [
        None if np.isnan(mark + prices.asset[settle]) or not used[m] else _lot_value(venue, prices, m)
        for m, (mark, settle) in enumerate(zip(prices.mark, markets.settle, strict=True))
    ]
    floor_lots = [1 if w is None else min(ceil(policy.min_slice_notional / w), _UNLIMITED) for w in lot_value]
    lot_quanta = np.array([1 if w is None else _lot_quanta(venue, w) for w in lot_value], np.int64)
    return SliceRules(
        fraction_num=policy.slice_fraction.numerator,
        fraction_den=policy.slice_fraction.denominator,
        fee_num=policy.liquidation_fee.numerator,
        fee_den=policy.liquidation_fee.denominator,
        share_num=policy.depth_share.numerator,
        share_den=policy.depth_share.denominator,
        target=float(policy.target_mmr),
        on_harm=_ON_HARM[policy.harmful_slice],
        waived_share=float(policy.waived_fee_share),
        position_order=_POSITION_ORDER[policy.position_order],
        floor_lots=np.array(floor_lots, np.int64),
        min_lots=markets.min_lots,
        value_num=markets.value_num,
        value_den=markets.value_den,
        value_unit=markets.value_num / markets.value_den,
        lot_quanta=lot_quanta,
        market_room=cap_quanta(policy.market_cap, venue) // lot_quanta,
    )


def cap_quanta(cap: Fraction | None, venue: Venue) -> int:
    """Quanta of the venue's settle asset of a cap, rounded down; without a cap more than there can be."""
    return _UNLIMITED if cap is None else min(floor(cap / venue.settle_quantum), _UNLIMITED)


def slice_rows(count: int) -> SliceRows:
    """Room for rows that rounds of slices write, none written yet."""
    columns: dict[str, Any] = {name: np.empty(count, np.int64) for name in SliceRows._fields}
    columns |= {name: np.empty(count) for name in ("before", "after")}
    return SliceRows(**columns | {"written": np.zeros(1, np.int64)})


def book_columns(venue: Venue, guard_state: state.GuardState, prices: Prices, books: Books, used: Bool) -> BookColumns:
    """Return the tick's books with the price bands of those that are used, nothing taken yet."""
    band, reason = price_bands.bands(venue, guard_state, prices, books, used)
    levels = np.diff(books.offset)
    side = books.level_sides()
    buying = side % 2 == 1
    within = np.where(buying, books.price <= band[side], books.price >= band[side])
    inside = np.zeros(len(band), np.int64)
    np.add.at(inside, side[within], books.lots[within])
    worst = last_prices(books)
    limit = venue.policy.slippage_limit
    if limit is not None:
        for s in np.flatnonzero(levels).tolist():
            touch = int(books.price[books.offset[s]])
            worst[s] = floor(touch * (1 + limit / 10_000)) if s % 2 else ceil(touch * (1 - limit / 10_000))
    return BookColumns(
        offset=books.offset,
        price=books.price,
        lots=books.lots,
        band=band,
        band_reason=reason + FIRST_BAND,
        worst_average=worst,
        inside=inside,
        cursor=books.offset[:-1].copy(),
        taken=np.zeros_like(band),
    )


def last_prices(books: Books | BookColumns) -> Int:
    """Price of the last level of each side, 0 without levels: no average of its fills is worse."""
    worst = np.zeros(len(books.offset) - 1, np.int64)
    some = np.flatnonzero(np.diff(books.offset))
    worst[some] = books.price[books.offset[some + 1] - 1]
    return worst


def forget_slices(ledger: Ledger, policy: Policy, before: int, now: int) -> None:
    """Forget the slices of a clock interval that has passed, and slices past their cooldown."""
    span = policy.account_cap_interval * 10**9
    if now // span != before // span:
        ledger.sold.clear()
    if policy.slice_cooldown is not None and ledger.last_slice:
        since = floor(now - policy.slice_cooldown * 10**9)
        ledger.last_slice = {leg: time for leg, time in ledger.last_slice.items() if time > since}


def lots_left(book: BookColumns) -> Int:
    """Lots that are left at each level."""
    left = book.lots.copy()
    for s in np.flatnonzero((book.cursor > book.offset[:-1]) | (book.taken > 0)).tolist():
        left[book.offset[s] : book.cursor[s]] = 0
        if book.taken[s]:
            left[book.cursor[s]] -= book.taken[s]
    return left


def _record(state: TickState, done: SliceRows) -> None:
    """Write the rows of a round into the journal, and the makers' side into the ledgers."""
    written, ledger = int(done.written[0]), state.ledger
    done = SliceRows._make(column[:written] for column in done)
    rows = state.journal.block(written)
    filled = done.event == slice_rounds.BOOK
    flow = np.where(filled, done.flow, 0)
    rows["event"], rows["reason"] = _EVENT[done.event], _REASON[done.reason]
    rows["account"], rows["market"] = done.account, done.market
    settle = state.venue.markets.settle[done.market]
    rows["counterparty"][filled], rows["settle"][filled] = BOOK, settle[filled]
    rows["requested"], rows["lots"], rows["fee"] = done.requested, done.lots, done.fee
    rows["cost"], rows["cash"], rows["entry"] = done.cost, flow + done.cost, done.entry
    rows["counter_cash"] = -flow
    rows["mmr_before"], rows["mmr_after"] = done.before, done.after
    priced = filled | (done.event == slice_rounds.HARM)
    lots = np.where(filled, np.abs(done.lots), done.requested)[priced]
    rows["price"][priced] = state.prices_of(done.market[priced], lots, np.abs(done.flow[priced]))
    state.journal.extend(rows)
    np.subtract.at(ledger.book_lots, done.market, done.lots)
    np.subtract.at(ledger.book_quanta, settle, flow)
    np.add.at(ledger.fund, settle, done.fee)
    account, market, lots = (column[filled] for column in (done.account, done.market, np.abs(done.lots)))
    legs = list(zip(account.tolist(), market.tolist(), strict=True))
    _remember(state.venue.policy, ledger, state.journal.time, legs, (lots * state.rules.lot_quanta[market]).tolist())
    if state.fee_rates is not None:
        rates = zip(done.fee_num[filled].tolist(), done.fee_den[filled].tolist(), strict=True)
        state.fee_rates.update(zip(legs, rates, strict=True))


def remember_fill(
    ledger: Ledger, venue: Venue, prices: Prices, account: int, market: int, lots: int, time: int
) -> None:
    """Keep of a slice that the host has filled what the cooldown and the caps of accounts need later.

    Parameters
    ----------
    ledger
        The ledger, which changes.
    venue, prices
        The venue, and the prices of the last tick.
    account, market
        Rows.
    lots
        Lots filled, above 0.
    time
        Of the fill, nanoseconds.
    """
    _remember(
        venue.policy, ledger, time, [(account, market)], [lots * _lot_quanta(venue, _lot_value(venue, prices, market))]
    )


def _remember(
    policy: Policy, ledger: Ledger, time: int, legs: Sequence[tuple[int, int]], quanta: Sequence[int]
) -> None:
    """Keep the times and amounts of fills that the cooldown and the caps of accounts need later."""
    if policy.slice_cooldown is not None:
        ledger.last_slice.update(dict.fromkeys(legs, time))
    if policy.account_cap is not None:
        for (account, _), sold in zip(legs, quanta, strict=True):
            ledger.sold[account] = ledger.sold.get(account, 0) + sold


def _lot_value(venue: Venue, prices: Prices, market: int) -> Fraction:
    """Value of a lot at the mark, units of the venue's settle asset."""
    settle, mark = int(venue.markets.settle[market]), exact(prices.mark[market])
    return abs(venue.markets.lot_value(market, mark)) * exact(prices.asset[settle])


def _lot_quanta(venue: Venue, value: Fraction) -> int:
    """Quanta of the venue's settle asset of a lot's value, rounded up."""
    return min(ceil(value / venue.settle_quantum), _UNLIMITED)
