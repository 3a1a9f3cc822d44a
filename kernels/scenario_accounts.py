"""Accounts as portfolios of a scenario model: their rows in its order, and the margin model's kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import margin
from ._jit import implement, inner_kernel, kernel
from ._lanes import WIDTH, gather4, store, store_rows
from .layouts import Float, Int, PriceArrays
from .margin import DOUBT_BAND, MarginSums, account_status, collateral_weight, counts_with_profit
from .margin_function import margin_requirement
from .margin_model import (
    account_margin,
    effect_of_trial,
    fill_effect,
    position_requirement,
    restoring_lots,
    restoring_lots_by_bisection,
)
from .scenario import requirement_of
from .scenario_layouts import PortfolioColumns, ScenarioArrays, ScenarioScratch
from .sweep import CHUNK, lane_flags, lane_margins

COLLATERAL, BORROWS = 1, 2
"""Bits of ``spot_counts``: collateral, or borrows, of the asset are rows of a portfolio."""


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


class ScenarioPrices(NamedTuple):
    """Prices of a tick as a scenario model folds them; M markets, K assets, N = M + K instruments.

    The first six rows are those that `riskcore.kernels.margin_model` lists. The last two are working memory, which
    each thread needs of its own.

    =================  ===============  ======  ==================================================================
    price_per_lot      float64          (M,)    as of `PriceArrays`
    value_per_lot      float64          (M,)    as of `PriceArrays`
    price_per_quantum  float64          (K,)    as of `PriceArrays`
    settle_quantum     float64          ()      as of `PriceArrays`
    acmf_divisor       float64          ()      as of `PriceArrays`
    acmf_offset        float64          ()      as of `PriceArrays`
    separable          PriceArrays      ()      for the equity, and the margin functions of borrows
    layout             PortfolioLayout  ()      see there
    scenario           ScenarioArrays   ()      see scenario_layouts.py
    quanta             float64          ()      settle quanta of one of the numeraire
    notional           float64          (N,)    settle quanta of a unit's delta, unsigned
    alone              float64          (N, 2)  requirement of one unit alone, long and short, numeraire
    one                PortfolioColumns ()      out, rows of one account
    scratch            ScenarioScratch  ()      out, see scenario_layouts.py
    =================  ===============  ======  ==================================================================
    """

    price_per_lot: Float
    value_per_lot: Float
    price_per_quantum: Float
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float
    separable: PriceArrays
    layout: PortfolioLayout
    scenario: ScenarioArrays
    quanta: float
    notional: Float
    alone: Float
    one: PortfolioColumns
    scratch: ScenarioScratch


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
    instruments  uint16           (R,)  room for the rows
    sizes        float64          (R,)  room for the rows
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
def equity_of(accounts, state, prices, equity, gross):
    """Net equity of each of the listed accounts.

    accounts  int64           (N,)  0 <= account < A
    state     AccountColumns  ()    see layouts.py
    prices    PriceArrays     ()    see layouts.py
    equity    float64         (N,)  out, settle quanta
    gross     float64         (N,)  out, settle quanta, the scale of the rounding error
    """
    for n in range(accounts.size):
        sums = margin.account_margin(accounts[n], state, prices)
        equity[n], gross[n] = sums.equity, sums.gross


@kernel
def room_of(accounts, equity, gross, state, prices, room):
    """Equity above the margin functions of borrows and above what rounding may take, of each of the listed accounts.

    accounts  int64           (N,)  0 <= account < A
    equity    float64         (N,)  settle quanta
    gross     float64         (N,)  settle quanta, the scale of the rounding error
    state     AccountColumns  ()    see layouts.py
    prices    ScenarioPrices  ()    see there
    room      float64         (N,)  out, numeraire
    """
    for n in range(accounts.size):
        sums = sums_with(accounts[n], equity[n], gross[n], 0.0, 0.0, 0.0, 0.0, True, state, prices)
        room[n] = (sums.equity - sums.maintenance - 2.0 * DOUBT_BAND * sums.gross) / prices.quanta


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


@inner_kernel
def delta_notional(first, end, instrument, size, prices):
    """Gross delta notional of the rows of a portfolio, settle quanta, and whether it has a position.

    first       int64           ()    first row
    end         int64           ()    end of the rows
    instrument  uint16          (R,)  number
    size        float64         (R,)  signed
    prices      ScenarioPrices  ()    see there
    """
    notional, held = 0.0, False
    markets = prices.price_per_lot.size
    for row in range(first, end):
        i, amount = np.int64(instrument[row]), abs(size[row])
        notional += amount * prices.notional[i]
        held |= i < markets and amount > 0.0
    return notional, held


@inner_kernel
def has_function(k, prices):
    """Whether a borrow of an asset has a margin function: it is not the settle asset, and no row of a portfolio.

    k       int64           ()  asset row
    prices  ScenarioPrices  ()  see there
    """
    return k != prices.separable.money[0] and not prices.layout.spot_counts[k] & BORROWS


@inner_kernel
def sums_with(account, equity, gross, maintenance, initial, scale, exposure, held, state, prices):
    """Margin of an account, a `MarginSums`, from its equity and the requirement of its portfolio.

    account      int64           ()  0 <= account < A
    equity       float64         ()  settle quanta
    gross        float64         ()  settle quanta, the scale of the rounding error of the equity
    maintenance  float64         ()  numeraire, requirement of the portfolio
    initial      float64         ()  numeraire, initial requirement of the portfolio
    scale        float64         ()  numeraire, the scale of the rounding error of the requirement
    exposure     float64         ()  settle quanta, gross delta notional
    held         bool            ()  whether the account has a position
    state        AccountColumns  ()  see layouts.py
    prices       ScenarioPrices  ()  see there
    """
    markets = prices.price_per_lot.size
    required, initial_required, owed = 0.0, 0.0, 0.0
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        if state.free[j] < 0:
            k = np.int64(state.asset[j])
            notional = -state.free[j] * prices.price_per_quantum[k]
            owed += notional
            if has_function(k, prices):
                function = 2 * (markets + k)
                initial_required += margin_requirement(notional, function, prices.separable.functions)
                required += margin_requirement(notional, function + 1, prices.separable.functions)
    initial_required += initial * prices.quanta
    if held or owed > 0.0:
        required += maintenance * prices.quanta
    if held:  # deltas may be 0, and an account with a position has an exposure
        exposure = max(exposure, 1.0)
    return MarginSums(
        equity=equity,
        exposure=exposure + owed,
        initial=max(initial_required, required),
        maintenance=required,
        gross=gross + scale * prices.quanta,
    )


@kernel
def margins_with_requirements(
    accounts, portfolios, instrument, size, equity, gross, maintenance, initial, scale, state, prices,
    net_equity, exposure, initial_margin, maintenance_margin, status,
):  # fmt: skip
    """Margin of each of the listed accounts, from its equity and the requirement of its portfolio.

    accounts            int64           (N,)    0 <= account < A
    portfolios          uint32          (N+1,)  first row of the portfolio of each
    instrument          uint16          (R,)    number
    size                float64         (R,)    signed
    equity              float64         (N,)    settle quanta
    gross               float64         (N,)    settle quanta
    maintenance         float64         (N,)    numeraire
    initial             float64         (N,)    numeraire
    scale               float64         (N,)    numeraire
    state               AccountColumns  ()      see layouts.py
    prices              ScenarioPrices  ()      see there
    net_equity          float64         (N,)    out, settle units
    exposure            float64         (N,)    out, settle units
    initial_margin      float64         (N,)    out, settle units
    maintenance_margin  float64         (N,)    out, settle units
    status              uint8           (N,)    out, SAFE | LIQUIDATING | BELOW_AUTO_CLOSE | DOUBT
    """
    quanta_per_unit = 1.0 / prices.settle_quantum
    for n in range(accounts.size):
        notional, held = delta_notional(np.int64(portfolios[n]), np.int64(portfolios[n + 1]), instrument, size, prices)
        sums = sums_with(
            accounts[n], equity[n], gross[n], maintenance[n], initial[n], scale[n], notional, held, state, prices
        )
        status[n] = account_status(
            sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
        )
        net_equity[n] = sums.equity / quanta_per_unit
        exposure[n] = sums.exposure / quanta_per_unit
        initial_margin[n] = sums.initial / quanta_per_unit
        maintenance_margin[n] = sums.maintenance / quanta_per_unit


@inner_kernel
def scenario_margin(account, state, prices):
    """Margin of an account by a scenario model, a `MarginSums`; orders, whose limits are no columns, have no part.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   ScenarioPrices  ()  see there
    """
    one = prices.one
    one.span[1] = collect_rows(account, state, prices.layout, prices.separable, 0, one.instrument, one.size)
    needed = requirement_of(0, one, prices.scenario, prices.scratch)
    own = margin.account_margin(account, state, prices.separable)
    exposure, held = delta_notional(0, np.int64(one.span[1]), one.instrument, one.size, prices)
    return sums_with(
        account, own.equity, own.gross, needed.maintenance, needed.initial, needed.scale, exposure, held, state, prices
    )


@inner_kernel
def part_of(p, by_value, state, prices):
    """What a position counts in the split of a maintenance margin: its requirement alone, or its value; settle quanta.

    p         int64           ()  position row
    by_value  bool            ()  whether it is the value
    state     AccountColumns  ()  see layouts.py
    prices    ScenarioPrices  ()  see there
    """
    m = np.int64(state.market[p])
    if by_value:
        return abs(state.lots[p]) * prices.price_per_lot[m]
    size = state.lots[p] * prices.layout.lot_size[m]
    return abs(size) * prices.alone[m, 0 if size > 0.0 else 1] * prices.quanta


@inner_kernel
def borrow_part(j, state, prices):
    """What a balance counts in the split of a maintenance margin, settle quanta: the requirement of a borrow alone.

    j       int64           ()  balance row
    state   AccountColumns  ()  see layouts.py
    prices  ScenarioPrices  ()  see there
    """
    k, markets = np.int64(state.asset[j]), prices.price_per_lot.size
    if state.free[j] >= 0:
        return 0.0
    if prices.layout.spot_counts[k] & BORROWS:
        return -state.free[j] * prices.layout.spot_size[k] * prices.alone[markets + k, 1] * prices.quanta
    if not has_function(k, prices):
        return 0.0
    owed = -state.free[j] * prices.price_per_quantum[k]
    return margin_requirement(owed, 2 * (markets + k) + 1, prices.separable.functions)


@inner_kernel
def scenario_part(account, p, state, prices):
    """Part of a position in the maintenance margin of its account.

    The margin is split in proportion to the requirements of positions and borrows alone; if all of these are 0, in
    proportion to the values of positions.

    account  int64           ()  0 <= account < A
    p        int64           ()  position row of the account
    state    AccountColumns  ()  see layouts.py
    prices   ScenarioPrices  ()  see there
    """
    first, end = state.position_span[account, 0], state.position_span[account, 1]
    whole, by_value = 0.0, False
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        whole += borrow_part(j, state, prices)
    for i in range(first, end):
        whole += part_of(i, False, state, prices)
    if whole == 0.0:
        by_value = True
        for i in range(first, end):
            whole += part_of(i, True, state, prices)
    if whole == 0.0:
        return 0.0
    return scenario_margin(account, state, prices).maintenance * part_of(p, by_value, state, prices) / whole


implement(
    ScenarioPrices,
    {
        account_margin: scenario_margin,
        position_requirement: scenario_part,
        fill_effect: effect_of_trial,
        restoring_lots: restoring_lots_by_bisection,
    },
)
