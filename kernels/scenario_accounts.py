"""Accounts as portfolios: their rows in the order of a scenario model, and their margin once the requirement is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import margin
from ._jit import inner_kernel, kernel
from ._lanes import WIDTH, gather4, store, store_rows
from .layouts import Float, Int
from .margin import (
    MarginSums,
    account_status,
    collateral_weight,
    counts_with_profit,
)
from .margin_function import margin_requirement
from .sweep import CHUNK, lane_flags, lane_margins

COLLATERAL, BORROWS = 1, 2
"""Bits of ``spot_counts``: collateral, or borrows, of the asset are rows of a portfolio."""

_TERMS = 4096  # rows of an account up to which the band of the doubt covers the rounding of its sums


class PortfolioLayout(NamedTuple):
    """How the columns of accounts become rows of portfolios; M markets, K assets, instrument M + k is asset k.

    ===========  =======  ======  =========================================================================
    rank         int64    (M+K,)  order of the instruments inside an account
    lot_size     float64  (M,)    size of a lot
    spot_counts  uint8    (K,)    COLLATERAL and BORROWS, one bit each: what of the asset is a row
    spot_size    float64  (K,)    units of a quantum of the asset
    ===========  =======  ======  =========================================================================
    """

    rank: Int
    lot_size: Float
    spot_counts: npt.NDArray[np.uint8]
    spot_size: Float


@inner_kernel
def insert_row(instrument, size, rank, start, end, instruments, sizes):
    """Insert a row into the rows ``start:end`` of an account, which ascend by rank; there is room for one more.

    instrument   int64    ()    number
    size         float64  ()    signed
    rank         int64    (N,)  of each instrument
    start        int64    ()    first row of the account
    end          int64    ()    end of its rows so far
    instruments  uint16   (R,)  in/out
    sizes        float64  (R,)  in/out
    """
    row, place = end, rank[instrument]
    while row > start and rank[np.int64(instruments[row - 1])] > place:
        instruments[row], sizes[row] = instruments[row - 1], sizes[row - 1]
        row -= 1
    instruments[row], sizes[row] = instrument, size


@inner_kernel
def is_spot_row(j, account, state, layout, money):
    """Whether a balance is a row of its account's portfolio.

    j        int64            ()    balance row of the account
    account  int64            ()    0 <= account < A
    state    AccountColumns   ()    see layouts.py
    layout   PortfolioLayout  ()    see there
    money    int64            (S,)  see `PriceArrays`
    """
    counts = layout.spot_counts[np.int64(state.asset[j])]
    if counts == 0:
        return False
    if counts & BORROWS and state.free[j] < 0:
        return True
    return (counts & COLLATERAL) != 0 and (
        state.free[j] > 0 or state.lent[j] != 0 or counts_with_profit(j, account, state, money)
    )


@inner_kernel
def spot_size(j, account, state, layout, prices):
    """Size of a balance in the scenarios: its weighted collateral less what is borrowed, units of the asset.

    In an extra money asset, profit and loss of the positions that settle in it are part of the collateral.

    j        int64            ()  balance row of the account
    account  int64            ()  0 <= account < A
    state    AccountColumns   ()  see layouts.py
    layout   PortfolioLayout  ()  see there
    prices   PriceArrays      ()  see layouts.py
    """
    k, quanta = np.int64(state.asset[j]), 0.0
    if layout.spot_counts[k] & COLLATERAL:
        amount = float(max(state.free[j], 0) + state.lent[j])
        if counts_with_profit(j, account, state, prices.money):
            value = 0.0
            for i in range(state.position_span[account, 0], state.position_span[account, 1]):
                if state.position_balance[i] == j:
                    value += state.lots[i] * prices.value_per_lot[state.market[i]]
            amount += value + float(state.unsettled[j] - state.balance_cost[j])
        if amount > 0.0:
            amount *= collateral_weight(
                amount * prices.haircut_size[k], prices.weight[k], prices.haircut_base[k], prices.haircut_penalty[k]
            )
        quanta += amount
    if layout.spot_counts[k] & BORROWS:
        quanta += min(float(state.free[j]), 0.0)
    return quanta * layout.spot_size[k]


@inner_kernel
def collect_rows(account, state, layout, prices, start, instruments, sizes):
    """Collect the rows of an account's portfolio, ascending by rank; returns the end of the rows.

    A position of nothing with open orders that are not reduce-only has a row of size 0.

    account      int64            ()    0 <= account < A
    state        AccountColumns   ()    see layouts.py
    layout       PortfolioLayout  ()    see there
    prices       PriceArrays      ()    see layouts.py
    start        int64            ()    first row
    instruments  uint16           (R,)  out
    sizes        float64          (R,)  out
    """
    end = start
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        if is_spot_row(j, account, state, layout, prices.money):
            number = layout.lot_size.size + np.int64(state.asset[j])
            insert_row(
                number, spot_size(j, account, state, layout, prices), layout.rank, start, end, instruments, sizes
            )
            end += 1
    for i in range(state.position_span[account, 0], state.position_span[account, 1]):
        if state.lots[i] != 0 or state.open_bid[i] != 0 or state.open_ask[i] != 0:
            m = np.int64(state.market[i])
            insert_row(m, state.lots[i] * layout.lot_size[m], layout.rank, start, end, instruments, sizes)
            end += 1
    return end


@kernel
def count_rows(accounts, state, layout, money, count):
    """Count the rows of the portfolio of each of the listed accounts.

    accounts  int64            (N,)  0 <= account < A
    state     AccountColumns   ()    see layouts.py
    layout    PortfolioLayout  ()    see there
    money     int64            (S,)  see `PriceArrays`
    count     int64            (N,)  out
    """
    for n in range(accounts.size):
        account, rows = accounts[n], 0
        for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
            rows += is_spot_row(j, account, state, layout, money)
        for i in range(state.position_span[account, 0], state.position_span[account, 1]):
            rows += state.lots[i] != 0 or state.open_bid[i] != 0 or state.open_ask[i] != 0
        count[n] = rows


@kernel
def fill_portfolios(first, last, accounts, state, layout, prices, span, instrument, size):
    """Fill the portfolios of the listed accounts ``first:last``.

    first       int64            ()      0 <= first
    last        int64            ()      first <= last <= N
    accounts    int64            (N,)    0 <= account < A
    state       AccountColumns   ()      see layouts.py
    layout      PortfolioLayout  ()      see there
    prices      PriceArrays      ()      see layouts.py
    span        uint32           (N+1,)  first row of each
    instrument  uint16           (R,)    out
    size        float64          (R,)    out
    """
    for n in range(first, last):
        collect_rows(accounts[n], state, layout, prices, np.int64(span[n]), instrument, size)


@kernel
def equity_chunks(first, last, sweep_state, slot_in_chunk, lookup, state, prices, scratch, equity, gross):
    """Compute the net equity of the accounts of the chunks ``first:last``.

    first          int64           ()         0 <= first
    last           int64           ()         first <= last <= W
    sweep_state    SweepColumns    ()         see layouts.py
    slot_in_chunk  uint16          (8G,)      slot of an account in its chunk
    lookup         SweepLookup     ()         see layouts.py
    state          AccountColumns  ()         see layouts.py, for accounts that do not fit the columns of the sweep
    prices         PriceArrays     ()         see layouts.py
    scratch        float64         (4096, 4)  out, working memory
    equity         float64         (N,)       out, settle quanta, by account from that of the first chunk on
    gross          float64         (N,)       out, settle quanta, the scale of the rounding error
    """
    for chunk in range(first, last):
        begin, end = chunk * CHUNK, min((chunk + 1) * CHUNK, sweep_state.account.size)
        for start in range(begin, end, WIDTH):
            slot = np.uint64(start)
            sums = lane_margins(slot, sweep_state, lookup)
            store_rows(scratch, np.uint64(start - begin), sums.equity, sums.gross, sums.exposure, sums.maintenance)
        for start in range(begin, end, WIDTH):
            net, whole, _, _ = gather4(scratch, slot_in_chunk, np.uint64(start))
            store(equity, np.uint64(start - first * CHUNK), net)
            store(gross, np.uint64(start - first * CHUNK), whole)
        for start in range(begin, end, WIDTH):
            bits = lane_flags(sweep_state.overflow, np.uint64(start))
            for lane in range(WIDTH):
                if bits >> np.uint64(lane) & np.uint64(1):
                    account = np.int64(sweep_state.account[start + lane])
                    sums = margin.account_margin(account, state, prices)
                    equity[account - first * CHUNK], gross[account - first * CHUNK] = sums.equity, sums.gross
