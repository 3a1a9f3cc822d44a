"""Requirement of a portfolio by scenarios: worst loss of each group of underlyings, and charges.

The order of operations is that of docs/scenario_margin.md, "The requirement", with the sums in the order of the
account's rows, so that the bits depend on neither threads, blocks nor padding.
"""

from math import inf

import numpy as np

from ._jit import inner_kernel, kernel
from .scenario_layouts import (
    ACCOUNT_MINIMUM,
    COLUMNS,
    GROUP_MINIMUM,
    INVERSE_IN_COIN,
    INVERSE_IN_MONEY,
    OPTION,
    PERPETUAL,
    SPOT,
    VALUE_AT_RISK,
    WORST,
    GroupRequirement,
    Requirement,
)

CHARGES, INITIAL_CHARGES, RAW, SHORT_CALLS, SHORT_PUTS, SHORTS, FLOOR, INITIAL_FLOOR, FUNDING, DECAY = range(10)
"""Columns of the result of a group."""

RESULTS = 10
NET, LEFT, RISK, SPREAD = range(4)
"""Columns of the spreads of an underlying: net delta, what spreads have left of it, price risk, charge less credit."""

SPREADS = 4
SAME_PROBABILITY = 1.0 + 1e-12
"""Probabilities that differ by less are equal: their sums are rounded."""


@inner_kernel
def find_runs(account, portfolios, arrays, scratch):
    """Number of underlyings of an account, and the end of its spot rows; the underlyings go to the work space.

    account     int64             ()  0 <= account < A
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    end = np.int64(portfolios.span[account + 1])
    p = np.int64(portfolios.span[account])
    runs = 0
    while p < end and arrays.kind[portfolios.instrument[p]] == SPOT:
        u = np.int64(arrays.underlying[portfolios.instrument[p]])
        if u >= 0 and portfolios.size[p] != 0.0 and run_of(u, runs, scratch) == runs:
            scratch.run_underlying[runs] = u
            scratch.run_first[runs] = scratch.run_end[runs] = 0
            runs += 1
        p += 1
    spots_end, of_spots = p, runs
    while p < end:
        u = np.int64(arrays.underlying[portfolios.instrument[p]])
        run = run_of(u, of_spots, scratch)
        if run == of_spots:
            run = runs
            scratch.run_underlying[run] = u
            runs += 1
        scratch.run_first[run] = p
        while p < end and arrays.underlying[portfolios.instrument[p]] == u:
            p += 1
        scratch.run_end[run] = p
    return runs, spots_end


@inner_kernel
def run_of(u, runs, scratch):
    """Which of the first underlyings of an account is one; their number if none is.

    u        int64            ()  row
    runs     int64            ()  how many are looked at
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    for run in range(runs):
        if scratch.run_underlying[run] == u:
            return run
    return runs


@inner_kernel
def add_row(size, i, first, end, arrays, changes):
    """Add the changes of a position to a sum.

    size     float64         ()    signed
    i        uint16          ()    instrument
    first    int64           ()    first column
    end      int64           ()    end of the columns
    arrays   ScenarioArrays  ()    see scenario_layouts.py
    changes  float64         (C,)  in/out
    """
    for s in range(first, end):
        changes[s] += size * arrays.row[i, s]


@inner_kernel
def fill_underlying(account, run, spots_end, first, end, portfolios, arrays, scratch):
    """Change of one underlying of an account in each scenario, without weights: steps 1 to 3.

    account     int64             ()  0 <= account < A
    run         int64             ()  which of the account's underlyings
    spots_end   int64             ()  end of the account's spot rows
    first       int64             ()  first column
    end         int64             ()  end of the columns
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    u = scratch.run_underlying[run]
    for s in range(first, end):
        scratch.underlying[s] = 0.0
    for p in range(np.int64(portfolios.span[account]), spots_end):
        i = portfolios.instrument[p]
        if arrays.underlying[i] == u and (arrays.moves_long[i] or portfolios.size[p] < 0.0):
            add_row(portfolios.size[p], i, first, end, arrays, scratch.underlying)
    p, rows_end = scratch.run_first[run], scratch.run_end[run]
    while p < rows_end and not (arrays.by_term and arrays.kind[portfolios.instrument[p]] == OPTION):
        add_row(portfolios.size[p], portfolios.instrument[p], first, end, arrays, scratch.underlying)
        p += 1
    while p < rows_end:
        term, value = arrays.term[portfolios.instrument[p]], 0.0
        for s in range(first, end):
            scratch.term[s] = 0.0
        while p < rows_end and arrays.term[portfolios.instrument[p]] == term:
            i = portfolios.instrument[p]
            add_row(portfolios.size[p], i, first, end, arrays, scratch.term)
            value += portfolios.size[p] * arrays.value[i]
            p += 1
        if arrays.is_discounted:
            gain, loss = arrays.discount[term, 0], arrays.discount[term, 1]
            for s in range(first, end):
                shocked = scratch.term[s]
                scratch.term[s] = shocked * (gain if shocked >= 0.0 else loss) - value
        for s in range(first, end):
            change = scratch.term[s]
            scratch.underlying[s] += -abs(change) if arrays.is_skew[s] else change


@inner_kernel
def add_orders(account, u, first, end, portfolios, arrays, scratch):
    """Add what the account's open orders in one underlying could lose by a fill, in each scenario.

    account     int64             ()  0 <= account < A
    u           int64             ()  underlying
    first       int64             ()  first column
    end         int64             ()  end of the columns
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    for o in range(np.int64(portfolios.order_span[account]), np.int64(portfolios.order_span[account + 1])):
        i = portfolios.order_instrument[o]
        if arrays.underlying[i] == u:
            size, limit = portfolios.order_size[o], portfolios.order_price[o]
            rule = arrays.order_rule[i]
            is_shocked = arrays.is_discounted and arrays.kind[i] == OPTION
            value = 0.0 if is_shocked else arrays.value[i]
            paid = -1.0 / limit if rule == INVERSE_IN_COIN else limit * arrays.order_scale[i]
            for s in range(first, end):
                gain = arrays.row[i, s] + value - paid
                if rule == INVERSE_IN_MONEY:  # coins at their shocked price
                    gain = arrays.row[i, s] + arrays.coin[u, s] * (1.0 / limit + value / arrays.price[u])
                gain *= size
                scratch.underlying[s] += gain if gain < 0.0 else 0.0


@inner_kernel
def counted_change(change, s, u, arrays):
    """What a change of an underlying counts for in a scenario: weight, dampener and offset, steps 4 to 6.

    change  float64         ()  numeraire
    s       int64           ()  column
    u       int64           ()  underlying
    arrays  ScenarioArrays  ()  see scenario_layouts.py
    """
    change *= arrays.weight[u, s]
    if arrays.has_dampener:
        size = abs(change) - arrays.dampener[u, s]
        size = size if size > 0.0 else 0.0
        change = size if change >= 0.0 else -size
    if arrays.has_offset and change > 0.0:
        change *= arrays.offset[u, 0]
        change = change if change < arrays.offset[u, 1] else arrays.offset[u, 1]
    return change


@inner_kernel
def fill_group(account, run, runs, spots_end, first, end, with_orders, portfolios, arrays, scratch):
    """Change of the group of one underlying of an account in each scenario, steps 1 to 7.

    account      int64             ()  0 <= account < A
    run          int64             ()  the first of the account's underlyings that is of the group
    runs         int64             ()  number of the account's underlyings
    spots_end    int64             ()  end of the account's spot rows
    first        int64             ()  first column
    end          int64             ()  end of the columns
    with_orders  bool              ()  whether open orders take part
    portfolios   PortfolioColumns  ()  see scenario_layouts.py
    arrays       ScenarioArrays    ()  see scenario_layouts.py
    scratch      ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    group = arrays.group[scratch.run_underlying[run]]
    for s in range(first, end):
        scratch.group[s] = 0.0
    last = runs if arrays.group_size[group] > 1 else run + 1
    for r in range(run, last):
        u = scratch.run_underlying[r]
        if arrays.group[u] == group:
            fill_underlying(account, r, spots_end, first, end, portfolios, arrays, scratch)
            if with_orders:
                add_orders(account, u, first, end, portfolios, arrays, scratch)
            if arrays.has_dampener or arrays.has_offset:
                for s in range(first, end):
                    scratch.group[s] += counted_change(scratch.underlying[s], s, u, arrays)
            else:
                for s in range(first, end):
                    scratch.group[s] += scratch.underlying[s] * arrays.weight[u, s]


@inner_kernel
def basis_loss(run, portfolios, arrays, scratch):
    """Change of the options of one underlying by the basis contingency, <= 0: step 8.

    run         int64             ()  which of the account's underlyings
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    p, end, total = scratch.run_first[run], scratch.run_end[run], 0.0
    while p < end and arrays.kind[portfolios.instrument[p]] != OPTION:
        p += 1
    while p < end:
        term, up, down = arrays.term[portfolios.instrument[p]], 0.0, 0.0
        while p < end and arrays.term[portfolios.instrument[p]] == term:
            i = portfolios.instrument[p]
            up += portfolios.size[p] * arrays.basis[i, 0]
            down += portfolios.size[p] * arrays.basis[i, 1]
            p += 1
        lower = up if up < down else down
        if lower < 0.0:
            total += lower * arrays.basis_weight[term]
    return total


@inner_kernel
def lowest_change(first, count, start, start_id, scratch):
    """Lowest change of a group and its scenario, from a start that a scenario must be below: step 9.

    first     int64            ()  first column
    count     int64            ()  number of columns, a multiple of COLUMNS
    start     float64          ()  numeraire, <= 0
    start_id  int64            ()  what stands for the start
    scratch   ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    lowest, changes = scratch.lowest, scratch.group
    for k in range(COLUMNS):
        lowest[k] = start
    for s in range(first, first + count, COLUMNS):
        for k in range(COLUMNS):
            lowest[k] = changes[s + k] if changes[s + k] < lowest[k] else lowest[k]
    value = start
    for k in range(COLUMNS):
        value = lowest[k] if lowest[k] < value else value
    if not value < start:
        return start, start_id
    s = first
    while changes[s] != value:
        s += 1
    return value, s - first


@inner_kernel
def tail_loss(first, count, is_stress, measure, arrays, scratch):
    """Value at risk or expected shortfall of a group over one set of scenarios, and the scenario at its edge.

    first      int64            ()  first column
    count      int64            ()  scenarios, without the padding
    is_stress  bool             ()  which set
    measure    int64            ()  VALUE_AT_RISK, EXPECTED_SHORTFALL
    arrays     ScenarioArrays   ()  see scenario_layouts.py
    scratch    ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    left, passed, total, change, row = arrays.tail[0], 0.0, 0.0, -inf, -1
    edge = arrays.tail[0] * SAME_PROBABILITY
    while passed <= edge if measure == VALUE_AT_RISK else left > edge - arrays.tail[0]:
        best, found = inf, -1
        for s in range(first, first + count):
            y = scratch.group[s]
            if arrays.is_stress[s] == is_stress and (y > change or (y == change and s > row)) and y < best:
                best, found = y, s
        if found < 0:
            break
        change, row = best, found
        share = arrays.probability[found]
        passed += share
        total -= change * (share if share < left else left)
        left -= share
    if row < 0:
        return 0.0, row
    if measure == VALUE_AT_RISK:
        return -change, row - first
    return total / arrays.tail[0], row - first


@inner_kernel
def group_loss(first, count, basis, arrays, scratch):
    """Loss of a group by the model's measure, >= 0, and the scenario that sets it.

    first    int64            ()  first column
    count    int64            ()  scenarios, without the padding
    basis    float64          ()  change by the basis contingency, <= 0
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    start_id = count if arrays.has_basis else -1
    if arrays.measure == WORST:
        padded = (count + COLUMNS - 1) // COLUMNS * COLUMNS
        change, worst = lowest_change(first, padded, basis, start_id, scratch)
        loss = 0.0 - change
    else:
        loss, worst = tail_loss(first, count, False, arrays.measure, arrays, scratch)
        share = arrays.tail[1]
        if share > 0.0:
            stressed, _ = tail_loss(first, count, True, arrays.measure, arrays, scratch)
            loss = (1.0 - share) * loss + share * stressed
        if not loss > 0.0 - basis:
            loss, worst = 0.0 - basis, start_id
    return loss * arrays.buffer, worst


@kernel
def rounded(amount, unit):
    """Amount to a number of decimals, half to even.

    amount  float64  ()  numeraire
    unit    float64  ()  10 to the number of decimals; 0 leaves the amount as it is
    """
    return np.rint(amount * unit) / unit if unit > 0.0 else amount


@inner_kernel
def add_unit_charges(first, end, u, holds_perpetual, result, portfolios, arrays, scratch):
    """Add the charges that grow with the size of each position, and the raw minimum; returns the scale of the rounding.

    first            int64             ()  first row
    end              int64             ()  end of the rows
    u                int64             ()  underlying, -1 for none; rows of another one are left out
    holds_perpetual  bool              ()  whether the account holds a perpetual of the underlying
    result           int64             ()  row of the results
    portfolios       PortfolioColumns  ()  see scenario_layouts.py
    arrays           ScenarioArrays    ()  see scenario_layouts.py
    scratch          ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    charges, initial, raw, calls, puts, funding, decay, reach = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(first, end):
        i = portfolios.instrument[p]
        if arrays.underlying[i] == u:
            q = portfolios.size[p]
            size, side = (q, 0) if q >= 0.0 else (-q, 1)
            charges += size * arrays.charge[i, side]
            initial += size * arrays.charge[i, 2 + side]
            if holds_perpetual:
                charges += size * arrays.perpetual_charge[i, 0]
                initial += size * arrays.perpetual_charge[i, 1]
            raw += size * arrays.minimum[i, side]
            if side == 1:
                if arrays.is_call[i]:
                    calls += size * arrays.short_minimum[i]
                else:
                    puts += size * arrays.short_minimum[i]
            funding += q * arrays.funding[i]
            decay += q * arrays.decay[i]
            reach += size * arrays.reach[i]
    scratch.result[result, CHARGES] += charges
    scratch.result[result, INITIAL_CHARGES] += initial
    scratch.result[result, RAW] += raw
    scratch.result[result, SHORT_CALLS] += calls
    scratch.result[result, SHORT_PUTS] += puts
    scratch.result[result, FUNDING] += funding
    scratch.result[result, DECAY] += decay
    return reach


@inner_kernel
def add_time_charges(result, arrays, scratch):
    """Add the funding that a group has to pay, and what its options lose as time passes.

    result   int64            ()  row of the results
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    results = scratch.result
    paid, lost = max(results[result, FUNDING], 0.0), max(0.0 - results[result, DECAY], 0.0)
    results[result, CHARGES] += paid * arrays.scaling[0, 0] + lost * arrays.scaling[1, 0]
    results[result, INITIAL_CHARGES] += paid * arrays.scaling[0, 1] + lost * arrays.scaling[1, 1]


@inner_kernel
def add_strike_charges(run, result, portfolios, arrays, scratch):
    """Add the charge on short options, net of the other options of the same strike and expiry.

    run         int64             ()  which of the account's underlyings
    result      int64             ()  row of the results
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    p, end = scratch.run_first[run], scratch.run_end[run]
    while p < end:
        i = portfolios.instrument[p]
        strike, net = arrays.strike[i], 0.0
        while p < end and arrays.strike[portfolios.instrument[p]] == strike:
            net += portfolios.size[p]
            p += 1
        if strike >= 0 and net < 0.0:
            scratch.result[result, CHARGES] -= net * arrays.strike_charge[i, 0]
            scratch.result[result, INITIAL_CHARGES] -= net * arrays.strike_charge[i, 1]


@inner_kernel
def add_order_charges(account, u, result, portfolios, arrays, scratch):
    """Add the charges on open orders in one underlying, which the initial requirement has.

    account     int64             ()  0 <= account < A
    u           int64             ()  underlying
    result      int64             ()  row of the results
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    for o in range(np.int64(portfolios.order_span[account]), np.int64(portfolios.order_span[account + 1])):
        i = portfolios.order_instrument[o]
        if arrays.underlying[i] == u:
            scratch.result[result, INITIAL_CHARGES] += abs(portfolios.order_size[o]) * arrays.order_charge[i]


@inner_kernel
def add_delta_charges(account, run, result, portfolios, arrays, scratch):
    """Add the charges on net deltas of terms, on deltas matched between terms, on a net delta; and the delta floors.

    account     int64             ()  0 <= account < A
    run         int64             ()  which of the account's underlyings
    result      int64             ()  row of the results
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    u, end = scratch.run_underlying[run], scratch.run_end[run]
    long, short, linear_end = 0.0, 0.0, scratch.run_first[run]
    for p in range(scratch.run_first[run], end):
        i = portfolios.instrument[p]
        if arrays.kind[i] != OPTION:
            linear_end = p + 1
            scratch.delta[arrays.term[i]] += portfolios.size[p] * arrays.delta[i]
    matched = matched_deltas(scratch.run_first[run], linear_end, portfolios, arrays, scratch)
    charges, initial = matched * arrays.spread[u, 0], matched * arrays.spread[u, 1]
    for p in range(scratch.run_first[run], end):
        i = portfolios.instrument[p]
        delta = portfolios.size[p] * arrays.delta[i]
        scratch.delta[arrays.term[i]] += delta
        long += delta if delta > 0.0 else 0.0
        short -= delta if delta < 0.0 else 0.0
    for p in range(scratch.run_first[run], end):
        if portfolios.size[p] != 0.0:  # the order of the sum is that of the terms held
            term = arrays.term[portfolios.instrument[p]]
            charges += abs(scratch.delta[term]) * arrays.roll[term, 0]
            initial += abs(scratch.delta[term]) * arrays.roll[term, 1]
            scratch.delta[term] = 0.0
    net = abs(long - short)
    excess = net - arrays.delta_shock[u, 2]
    if excess > 0.0:
        share = excess * arrays.delta_shock[u, 0]
        share = share if share < arrays.delta_shock[u, 1] else arrays.delta_shock[u, 1]
        charges += share * net * arrays.price[u] * arrays.scaling[2, 0]
        initial += share * net * arrays.price[u] * arrays.scaling[2, 1]
    scratch.result[result, CHARGES] += charges
    scratch.result[result, INITIAL_CHARGES] += initial
    if arrays.has_floor:
        scratch.result[result, FLOOR] += delta_floor(long, short, long, short, u, arrays)
        new_long, new_short = long, short
        for o in range(np.int64(portfolios.order_span[account]), np.int64(portfolios.order_span[account + 1])):
            i = portfolios.order_instrument[o]
            if arrays.underlying[i] == u:
                delta = portfolios.order_size[o] * arrays.delta[i]
                new_long += delta if delta > 0.0 else 0.0
                new_short -= delta if delta < 0.0 else 0.0
        scratch.result[result, INITIAL_FLOOR] += delta_floor(long, short, new_long, new_short, u, arrays)


@kernel
def delta_floor(long, short, new_long, new_short, u, arrays):
    """Least loss of an underlying by its deltas: a rate of what is not hedged, another of what is.

    long       float64         ()  base units, >= 0
    short      float64         ()  base units, >= 0
    new_long   float64         ()  with open orders
    new_short  float64         ()  with open orders
    u          int64           ()  underlying
    arrays     ScenarioArrays  ()  see scenario_layouts.py
    """
    unhedged = max(new_long - short, new_short - long, 0.0)
    hedged = max(max(new_long, new_short) - unhedged, 0.0)
    return (unhedged * arrays.floor[u, 0] + hedged * arrays.floor[u, 1]) * arrays.price[u]


@inner_kernel
def matched_deltas(first, end, portfolios, arrays, scratch):
    """Deltas of opposite signs in different terms, the earliest with the earliest, each times what it is charged for.

    first       int64             ()  first row of the linear instruments
    end         int64             ()  end of the rows
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    total, long, short = 0.0, first, first
    while long < end and short < end:
        above, below = arrays.term[portfolios.instrument[long]], arrays.term[portfolios.instrument[short]]
        if not scratch.delta[above] > 0.0:
            long += 1
        elif not scratch.delta[below] < 0.0:
            short += 1
        else:
            matched = min(scratch.delta[above], -scratch.delta[below])
            scratch.delta[above] -= matched
            scratch.delta[below] += matched
            time = abs(arrays.years[above] - arrays.years[below]) if arrays.annual_spread else 1.0
            total += matched * time
    for p in range(first, end):
        scratch.delta[arrays.term[portfolios.instrument[p]]] = 0.0
    return total


@inner_kernel
def add_short_minimum(result, arrays, scratch):
    """Add the minimum requirement of the short options of one underlying: calls and puts, or the larger of the two.

    result   int64            ()  row of the results
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    results = scratch.result
    calls, puts = results[result, SHORT_CALLS], results[result, SHORT_PUTS]
    results[result, SHORTS] += max(calls, puts) if arrays.larger_of else calls + puts
    results[result, SHORT_CALLS] = results[result, SHORT_PUTS] = 0.0


@inner_kernel
def scaled_minimum(raw, arrays):
    """Minimum requirement: a raw amount, each part of it times the multiplier of its bracket.

    raw     float64         ()  numeraire, >= 0
    arrays  ScenarioArrays  ()  see scenario_layouts.py
    """
    total, start = 0.0, 0.0
    for b in range(arrays.brackets.shape[0]):
        end = min(raw, arrays.brackets[b, 0])
        if end > start:
            total += (end - start) * arrays.brackets[b, 1]
            start = end
    return total


@inner_kernel
def group_requirement(account, run, runs, spots_end, result, portfolios, arrays, scratch):
    """Requirement of the group of one underlying of an account: step 10 for a group.

    account     int64             ()  0 <= account < A
    run         int64             ()  the first of the account's underlyings that is of the group
    runs        int64             ()  number of the account's underlyings
    spots_end   int64             ()  end of the account's spot rows
    result      int64             ()  row of the results
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    group, results = np.int64(arrays.group[scratch.run_underlying[run]]), scratch.result
    first = np.int64(portfolios.span[account])
    has_orders = portfolios.order_span[account + 1] > portfolios.order_span[account]
    basis, spread, scale = 0.0, 0.0, 0.0
    for column in range(RESULTS):
        results[result, column] = 0.0
    for r in range(run, runs if arrays.group_size[group] > 1 else run + 1):
        u = scratch.run_underlying[r]
        if arrays.group[u] == group:
            holds_perpetual = has_perpetual(r, portfolios, arrays, scratch)
            scale += add_unit_charges(first, spots_end, u, False, result, portfolios, arrays, scratch)
            scale += add_unit_charges(
                scratch.run_first[r], scratch.run_end[r], u, holds_perpetual, result, portfolios, arrays, scratch
            )
            add_short_minimum(result, arrays, scratch)
            if arrays.has_strikes:
                add_strike_charges(r, result, portfolios, arrays, scratch)
            if arrays.has_deltas:
                add_delta_charges(account, r, result, portfolios, arrays, scratch)
            if has_orders:
                add_order_charges(account, u, result, portfolios, arrays, scratch)
            if arrays.has_basis:
                basis += basis_loss(r, portfolios, arrays, scratch)
            if arrays.has_spreads:
                spread += scratch.spread[r, SPREAD]
    add_time_charges(result, arrays, scratch)
    scan, initial_loss, worst = 0.0, 0.0, np.int64(-1)
    has_both = has_orders or arrays.initial_first > 0
    for turn in range(0 if has_both else 1, 2):  # the work space ends with the changes of the maintenance requirement
        start, count = (arrays.initial_first, arrays.initial_scenarios) if turn == 0 else (0, arrays.scenarios)
        end = start + (count + COLUMNS - 1) // COLUMNS * COLUMNS
        fill_group(account, run, runs, spots_end, start, end, has_orders and turn == 0, portfolios, arrays, scratch)
        scan, worst = group_loss(start, count, basis, arrays, scratch)
        if turn == 0 or not has_both:
            initial_loss = scan
    loss = rounded(max(scan, results[result, FLOOR]), arrays.round_worst)
    initial_loss = rounded(max(initial_loss, results[result, INITIAL_FLOOR]), arrays.round_worst)
    charges, initial_charges = results[result, CHARGES], results[result, INITIAL_CHARGES]
    maintenance = arrays.mm_factor * loss + charges + spread
    initial = arrays.im_factor * initial_loss + initial_charges + spread
    least = results[result, SHORTS]
    if arrays.minimum_level == GROUP_MINIMUM:
        least = max(least, scaled_minimum(results[result, RAW], arrays))
    return GroupRequirement(
        max(maintenance, least),
        max(initial, least),
        scan,
        loss,
        initial_loss,
        worst,
        group,
        scale + charges + initial_charges + least,
        results[result, FLOOR] > scan,
        not maintenance < least,
    )


@inner_kernel
def price_risk(u, worst, arrays, scratch):
    """What a group loses by the price move of its worst scenario alone: less by volatility, and less by time.

    u        int64            ()  underlying
    worst    int64            ()  scenario
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    moved, moves, still, stills = 0.0, 0, 0.0, 0
    for s in range(arrays.scenarios):
        if arrays.price_move[u, s] == arrays.price_move[u, worst]:
            moved -= scratch.group[s]
            moves += 1
        if arrays.price_move[u, s] == 0:
            still -= scratch.group[s]
            stills += 1
    risk = moved / moves - (still / stills if stills > 0 else 0.0)
    return risk if risk > 0.0 else 0.0


@inner_kernel
def fill_risks(run, runs, arrays, scratch):
    """Price risk of each underlying of a group, whose changes are in the work space.

    run      int64            ()  the first of the account's underlyings that is of the group
    runs     int64            ()  number of the account's underlyings
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    group = arrays.group[scratch.run_underlying[run]]
    columns = (arrays.scenarios + COLUMNS - 1) // COLUMNS * COLUMNS
    _, worst = lowest_change(0, columns, 0.0, -1, scratch)
    for r in range(run, runs):
        u = scratch.run_underlying[r]
        if arrays.group[u] == group:
            scratch.spread[r, RISK] = price_risk(u, worst, arrays, scratch) if worst >= 0 else 0.0


@inner_kernel
def fill_spreads(runs, portfolios, arrays, scratch):
    """Spread charges less credits of each underlying of an account, from their price risks.

    runs        int64             ()  number of the account's underlyings
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    spread = scratch.spread
    for run in range(runs):
        spread[run, SPREAD] = tier_charges(run, portfolios, arrays, scratch)
        net = 0.0
        for p in range(scratch.run_first[run], scratch.run_end[run]):
            net += portfolios.size[p] * arrays.delta[portfolios.instrument[p]]
        spread[run, NET] = spread[run, LEFT] = net
    for k in range(arrays.inter_rate.size):
        first, end = arrays.inter_span[k], arrays.inter_span[k + 1]
        count, is_long = inf, False
        for leg in range(first, end):
            run = run_of(arrays.inter_underlying[leg], runs, scratch)
            left = spread[run, LEFT] if run < runs else 0.0
            along = (left > 0.0) == arrays.inter_side[leg]
            if left == 0.0 or (leg > first and along != is_long):
                count = 0.0
                break
            is_long = along
            count = min(count, abs(left) / arrays.inter_delta[leg])
        if count > 0.0:
            for leg in range(first, end):
                run = run_of(arrays.inter_underlying[leg], runs, scratch)
                taken = count * arrays.inter_delta[leg]
                spread[run, SPREAD] -= taken * spread[run, RISK] / abs(spread[run, NET]) * arrays.inter_rate[k]
                spread[run, LEFT] -= taken if spread[run, LEFT] > 0.0 else -taken


@inner_kernel
def tier_charges(run, portfolios, arrays, scratch):
    """Charges of the spreads between tiers of one underlying of an account.

    run         int64             ()  which of the account's underlyings
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    tiers, total = scratch.tier, 0.0
    for tier in range(tiers.size):
        tiers[tier] = 0.0
    for p in range(scratch.run_first[run], scratch.run_end[run]):
        i = portfolios.instrument[p]
        tiers[arrays.tier[arrays.term[i]]] += portfolios.size[p] * arrays.delta[i]
    for k in range(arrays.intra_charge.size):
        near, far = arrays.intra_tier[k, 0], arrays.intra_tier[k, 1]
        if arrays.intra_underlying[k] == scratch.run_underlying[run] and tiers[near] * tiers[far] < 0.0:
            count = min(abs(tiers[near]) / arrays.intra_delta[k, 0], abs(tiers[far]) / arrays.intra_delta[k, 1])
            total += count * arrays.intra_charge[k]
            for leg in range(2):
                tier, taken = arrays.intra_tier[k, leg], count * arrays.intra_delta[k, leg]
                tiers[tier] -= taken if tiers[tier] > 0.0 else -taken
    return total


@inner_kernel
def has_perpetual(run, portfolios, arrays, scratch):
    """Whether an account holds a perpetual of one of its underlyings.

    run         int64             ()  which of the account's underlyings
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    p, holds_perpetual = scratch.run_first[run], False
    while p < scratch.run_end[run] and arrays.kind[portfolios.instrument[p]] == PERPETUAL:
        holds_perpetual |= portfolios.size[p] != 0.0
        p += 1
    return holds_perpetual


@inner_kernel
def requirement_of(account, portfolios, arrays, scratch):
    """Requirement of one account: docs/scenario_margin.md, "The requirement".

    account     int64             ()  0 <= account < A
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    runs, spots_end = find_runs(account, portfolios, arrays, scratch)
    results = scratch.result
    for column in range(RESULTS):
        results[runs, column] = 0.0
    first = np.int64(portfolios.span[account])
    scale = add_unit_charges(first, spots_end, -1, False, runs, portfolios, arrays, scratch)
    others = results[runs, CHARGES], results[runs, INITIAL_CHARGES], results[runs, RAW], scale
    maintenance, initial, raw, scale = others
    loss, initial_loss, largest, group_loss, worst, worst_group = 0.0, 0.0, -inf, 0.0, np.int64(-1), np.int64(-1)
    for run in range(runs):
        scratch.spread[run, SPREAD] = 0.0
    for turn in range(2 if arrays.has_spreads else 1):  # credits between underlyings need the losses of all
        maintenance, initial, raw, scale = others
        loss, initial_loss, largest = 0.0, 0.0, -inf
        for run in range(runs):
            if not is_counted(run, arrays, scratch):
                one = group_requirement(account, run, runs, spots_end, run, portfolios, arrays, scratch)
                maintenance += one.maintenance
                initial += one.initial
                loss += one.loss
                initial_loss += one.initial_loss
                scale += one.scale
                raw += results[run, RAW]
                if one.maintenance > largest:
                    largest, group_loss, worst, worst_group = one.maintenance, one.loss, one.worst, one.group
                if turn == 0 and arrays.has_spreads:
                    fill_risks(run, runs, arrays, scratch)
        if turn == 0 and arrays.has_spreads:
            fill_spreads(runs, portfolios, arrays, scratch)
    if arrays.minimum_level == ACCOUNT_MINIMUM:
        least = scaled_minimum(raw, arrays)
        scale += least
        maintenance = max(maintenance, least)
        initial = max(initial, least)
    initial = rounded(initial * arrays.im_multiplier, arrays.round_initial)
    return Requirement(
        maintenance, max(initial, maintenance), loss, initial_loss, group_loss, worst, worst_group, scale
    )


@inner_kernel
def is_counted(run, arrays, scratch):
    """Whether an earlier underlying of the account is of the group of one.

    run      int64            ()  which of the account's underlyings
    arrays   ScenarioArrays   ()  see scenario_layouts.py
    scratch  ScenarioScratch  ()  work space, see scenario_layouts.py
    """
    group, found = arrays.group[scratch.run_underlying[run]], False
    if arrays.group_size[group] > 1:
        for r in range(run):
            found |= arrays.group[scratch.run_underlying[r]] == group
    return found


@kernel
def fill_requirements(
    first, last, portfolios, arrays, scratch, maintenance, initial, loss, initial_loss, group_loss, worst, group, scale
):
    """Requirements of some accounts.

    first         int64             ()    first account
    last          int64             ()    end of the accounts
    portfolios    PortfolioColumns  ()    see scenario_layouts.py
    arrays        ScenarioArrays    ()    see scenario_layouts.py
    scratch       ScenarioScratch   ()    work space, see scenario_layouts.py
    maintenance   float64           (A,)  out, numeraire
    initial       float64           (A,)  out, numeraire
    loss          float64           (A,)  out, numeraire, >= 0
    initial_loss  float64           (A,)  out, numeraire, >= 0
    group_loss    float64           (A,)  out, numeraire, of the group with the largest requirement
    worst         int64             (A,)  out, scenario of the group with the largest requirement
    group         int64             (A,)  out, that group; -1 for none
    scale         float64           (A,)  out, sum of all amounts
    """
    for account in range(first, last):
        one = requirement_of(account, portfolios, arrays, scratch)
        maintenance[account] = one.maintenance
        initial[account] = one.initial
        loss[account] = one.loss
        initial_loss[account] = one.initial_loss
        group_loss[account] = one.group_loss
        worst[account] = one.worst
        group[account] = one.group
        scale[account] = one.scale


@kernel
def fill_losses(first, last, portfolios, arrays, scratch, losses):
    """Change of each group of some accounts in each scenario, and by the basis contingency in one column more.

    first       int64             ()           first account
    last        int64             ()           end of the accounts
    portfolios  PortfolioColumns  ()           see scenario_layouts.py
    arrays      ScenarioArrays    ()           see scenario_layouts.py
    scratch     ScenarioScratch   ()           work space, see scenario_layouts.py
    losses      float64           (n, G, S+1)  out, numeraire, a loss is negative; S columns without a contingency
    """
    columns = (arrays.scenarios + COLUMNS - 1) // COLUMNS * COLUMNS
    for account in range(first, last):
        runs, spots_end = find_runs(account, portfolios, arrays, scratch)
        for g in range(losses.shape[1]):
            for s in range(losses.shape[2]):
                losses[account - first, g, s] = 0.0
        for run in range(runs):
            group = np.int64(arrays.group[scratch.run_underlying[run]])
            if arrays.has_basis:
                losses[account - first, group, arrays.scenarios] += basis_loss(run, portfolios, arrays, scratch)
            if not is_counted(run, arrays, scratch):
                fill_group(account, run, runs, spots_end, 0, columns, False, portfolios, arrays, scratch)
                for s in range(arrays.scenarios):
                    losses[account - first, group, s] = scratch.group[s]
