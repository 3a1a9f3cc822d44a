"""Gradient of the requirement of a portfolio: what one unit more of each position adds to it, exact away from ties."""

from math import inf

import numpy as np

from ._jit import inner_kernel, kernel
from .scenario import (
    CHARGES,
    DECAY,
    FUNDING,
    RAW,
    RESULTS,
    SAME_PROBABILITY,
    SHORTS,
    add_unit_charges,
    find_runs,
    group_requirement,
    has_perpetual,
    is_counted,
    matched_deltas,
    scaled_minimum,
)
from .scenario_layouts import ACCOUNT_MINIMUM, OPTION, VALUE_AT_RISK, WORST

BUMP = 2.0**-20
"""Relative change of a delta that stays inside a linear piece of the charge on matched deltas, but at ties."""


@inner_kernel
def term_change(p, end, s, portfolios, arrays):
    """Change of the options of a term in one scenario as step 2 has it, and the end of their rows.

    p           int64             ()  first row of the term
    end         int64             ()  end of the rows of the underlying
    s           int64             ()  column
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    """
    term, shocked, value = arrays.term[portfolios.instrument[p]], 0.0, 0.0
    while p < end and arrays.term[portfolios.instrument[p]] == term:
        i = portfolios.instrument[p]
        shocked += portfolios.size[p] * arrays.row[i, s]
        value += portfolios.size[p] * arrays.value[i]
        p += 1
    if not arrays.is_discounted:
        return shocked, 1.0, p
    factor = arrays.discount[term, 0 if shocked >= 0.0 else 1]
    return shocked * factor - value, factor, p


@inner_kernel
def counted_slope(account, run, spots_end, s, portfolios, arrays, scratch):
    """How much of a change of an underlying counts in one scenario: weight, dampener and offset.

    account     int64             ()  0 <= account < A
    run         int64             ()  which of the account's underlyings
    spots_end   int64             ()  end of the account's spot rows
    s           int64             ()  column
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    u = scratch.run_underlying[run]
    weight = arrays.weight[u, s]
    if not arrays.has_dampener and not arrays.has_offset:
        return weight
    change = 0.0
    for p in range(np.int64(portfolios.span[account]), spots_end):
        i = portfolios.instrument[p]
        if arrays.underlying[i] == u and (arrays.moves_long[i] or portfolios.size[p] < 0.0):
            change += portfolios.size[p] * arrays.row[i, s]
    p, end = scratch.run_first[run], scratch.run_end[run]
    while p < end:
        i = portfolios.instrument[p]
        if arrays.by_term and arrays.kind[i] == OPTION:
            of_term, _, p = term_change(p, end, s, portfolios, arrays)
            change += -abs(of_term) if arrays.is_skew[s] else of_term
        else:
            change += portfolios.size[p] * arrays.row[i, s]
            p += 1
    change *= weight
    if arrays.has_dampener:
        if not abs(change) > arrays.dampener[u, s]:
            return 0.0
        change += -arrays.dampener[u, s] if change > 0.0 else arrays.dampener[u, s]
    if arrays.has_offset and change > 0.0:
        share = arrays.offset[u, 0]
        return weight * share if share * change < arrays.offset[u, 1] else 0.0
    return weight


@inner_kernel
def add_scenario_gradient(account, run, runs, spots_end, s, factor, portfolios, arrays, scratch, gradient):
    """Add the gradient of the change of a group in one scenario, times a factor.

    account     int64             ()    0 <= account < A
    run         int64             ()    the first of the account's underlyings that is of the group
    runs        int64             ()    number of the account's underlyings
    spots_end   int64             ()    end of the account's spot rows
    s           int64             ()    column
    factor      float64           ()    what the change is multiplied by
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    scratch     ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    group = arrays.group[scratch.run_underlying[run]]
    for r in range(run, runs if arrays.group_size[group] > 1 else run + 1):
        u = scratch.run_underlying[r]
        if arrays.group[u] == group:
            slope = factor * counted_slope(account, r, spots_end, s, portfolios, arrays, scratch)
            for p in range(np.int64(portfolios.span[account]), spots_end):
                i = portfolios.instrument[p]
                if arrays.underlying[i] == u and (arrays.moves_long[i] or portfolios.size[p] < 0.0):
                    gradient[p] += slope * arrays.row[i, s]
            p, end = scratch.run_first[r], scratch.run_end[r]
            while p < end:
                i = portfolios.instrument[p]
                if arrays.by_term and arrays.kind[i] == OPTION:
                    change, discount, term_end = term_change(p, end, s, portfolios, arrays)
                    sign = -1.0 if arrays.is_skew[s] and change > 0.0 else 1.0
                    while p < term_end:
                        i = portfolios.instrument[p]
                        value = arrays.value[i] if arrays.is_discounted else 0.0
                        gradient[p] += slope * sign * (arrays.row[i, s] * discount - value)
                        p += 1
                else:
                    gradient[p] += slope * arrays.row[i, s]
                    p += 1


@inner_kernel
def add_basis_gradient(account, run, runs, factor, portfolios, arrays, scratch, gradient):
    """Add the gradient of the basis contingency of a group, times a factor.

    account     int64             ()    0 <= account < A
    run         int64             ()    the first of the account's underlyings that is of the group
    runs        int64             ()    number of the account's underlyings
    factor      float64           ()    what the change is multiplied by
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    scratch     ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    group = arrays.group[scratch.run_underlying[run]]
    for r in range(run, runs if arrays.group_size[group] > 1 else run + 1):
        p, end = scratch.run_first[r], scratch.run_end[r]
        if arrays.group[scratch.run_underlying[r]] != group:
            end = p
        while p < end and arrays.kind[portfolios.instrument[p]] != OPTION:
            p += 1
        while p < end:
            term, up, down, first = arrays.term[portfolios.instrument[p]], 0.0, 0.0, p
            while p < end and arrays.term[portfolios.instrument[p]] == term:
                i = portfolios.instrument[p]
                up += portfolios.size[p] * arrays.basis[i, 0]
                down += portfolios.size[p] * arrays.basis[i, 1]
                p += 1
            if min(up, down) < 0.0:
                for q in range(first, p):
                    side = 0 if up < down else 1
                    change = arrays.basis[portfolios.instrument[q], side]
                    gradient[q] += factor * arrays.basis_weight[term] * change


@inner_kernel
def add_tail_gradient(account, run, runs, spots_end, is_stress, factor, portfolios, arrays, scratch, gradient):
    """Add the gradient of the value at risk or expected shortfall over one set of scenarios, times a factor.

    account     int64             ()    0 <= account < A
    run         int64             ()    the first of the account's underlyings that is of the group
    runs        int64             ()    number of the account's underlyings
    spots_end   int64             ()    end of the account's spot rows
    is_stress   bool              ()    which set
    factor      float64           ()    what the loss is multiplied by
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    scratch     ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    left, passed, change, row = arrays.tail[0], 0.0, -inf, -1
    is_edge = arrays.measure == VALUE_AT_RISK
    edge = arrays.tail[0] * SAME_PROBABILITY
    while passed <= edge if is_edge else left > edge - arrays.tail[0]:
        best, found = inf, -1
        for s in range(arrays.scenarios):
            y = scratch.group[s]
            if arrays.is_stress[s] == is_stress and (y > change or (y == change and s > row)) and y < best:
                best, found = y, s
        if found < 0:
            break
        change, row = best, found
        share = arrays.probability[found]
        passed += share
        part = -factor * min(share, left) / arrays.tail[0]
        left -= share
        if not is_edge:
            add_scenario_gradient(account, run, runs, spots_end, row, part, portfolios, arrays, scratch, gradient)
    if is_edge and row >= 0:
        add_scenario_gradient(account, run, runs, spots_end, row, -factor, portfolios, arrays, scratch, gradient)


@inner_kernel
def add_unit_gradient(first, end, u, holds_perpetual, paid, lost, portfolios, arrays, gradient):
    """Add the gradient of the charges that grow with the size of each position.

    first            int64             ()    first row
    end              int64             ()    end of the rows
    u                int64             ()    underlying, -1 for none; rows of another one are left out
    holds_perpetual  bool              ()    whether the account holds a perpetual of the underlying
    paid             float64           ()    factor of the funding payments
    lost             float64           ()    factor of the change as time passes
    portfolios       PortfolioColumns  ()    see scenario_layouts.py
    arrays           ScenarioArrays    ()    see scenario_layouts.py
    gradient         float64           (P,)  in/out, numeraire per unit of size
    """
    for p in range(first, end):
        i = portfolios.instrument[p]
        if arrays.underlying[i] == u:
            sign, side = (1.0, 0) if portfolios.size[p] >= 0.0 else (-1.0, 1)
            gradient[p] += sign * arrays.charge[i, side]
            if holds_perpetual:
                gradient[p] += sign * arrays.perpetual_charge[i, 0]
            gradient[p] += paid * arrays.funding[i] + lost * arrays.decay[i]


@inner_kernel
def add_strike_gradient(run, portfolios, arrays, scratch, gradient):
    """Add the gradient of the charge on short options.

    run         int64             ()    which of the account's underlyings
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    scratch     ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    p, end = scratch.run_first[run], scratch.run_end[run]
    while p < end:
        strike, net, first = arrays.strike[portfolios.instrument[p]], 0.0, p
        while p < end and arrays.strike[portfolios.instrument[p]] == strike:
            net += portfolios.size[p]
            p += 1
        if strike >= 0 and net < 0.0:
            for q in range(first, p):
                gradient[q] -= arrays.strike_charge[portfolios.instrument[q], 0]


@inner_kernel
def add_delta_gradient(run, floor_factor, portfolios, arrays, scratch, gradient):
    """Add the gradient of the charges on deltas, and of the delta floor times a factor.

    run           int64             ()    which of the account's underlyings
    floor_factor  float64           ()    0 where the scenarios lose more than the floor
    portfolios    PortfolioColumns  ()    see scenario_layouts.py
    arrays        ScenarioArrays    ()    see scenario_layouts.py
    scratch       ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient      float64           (P,)  in/out, numeraire per unit of size
    """
    u, first, end = scratch.run_underlying[run], scratch.run_first[run], scratch.run_end[run]
    long, short, linear_end = 0.0, 0.0, first
    for p in range(first, end):
        i = portfolios.instrument[p]
        delta = portfolios.size[p] * arrays.delta[i]
        scratch.delta[arrays.term[i]] += delta
        long += delta if delta > 0.0 else 0.0
        short -= delta if delta < 0.0 else 0.0
        linear_end = p + 1 if arrays.kind[i] != OPTION else linear_end
    for p in range(first, end):
        i = portfolios.instrument[p]
        net = scratch.delta[arrays.term[i]]
        gradient[p] += (1.0 if net >= 0.0 else -1.0) * arrays.delta[i] * arrays.roll[arrays.term[i], 0]
    for p in range(first, end):
        scratch.delta[arrays.term[portfolios.instrument[p]]] = 0.0
    net, excess = abs(long - short), abs(long - short) - arrays.delta_shock[u, 2]
    slope = 0.0
    if excess > 0.0:
        share, increment = excess * arrays.delta_shock[u, 0], arrays.delta_shock[u, 0]
        if not share < arrays.delta_shock[u, 1]:
            share, increment = arrays.delta_shock[u, 1], 0.0
        slope = (share + increment * net) * arrays.price[u] * arrays.scaling[2, 0]
        slope = slope if long >= short else -slope
    for p in range(first, end):
        delta = arrays.delta[portfolios.instrument[p]]
        gradient[p] += slope * delta
        if floor_factor != 0.0:
            gradient[p] += floor_factor * floor_slope(portfolios.size[p] * delta, long, short, u, arrays) * delta
    if arrays.spread[u, 0] > 0.0:
        base = matched_with(first, linear_end, first, 0.0, portfolios, arrays, scratch)
        for p in range(first, linear_end):
            i = portfolios.instrument[p]
            bump = BUMP * portfolios.size[p] * arrays.delta[i]
            if bump != 0.0:
                matched = matched_with(first, linear_end, p, bump, portfolios, arrays, scratch) - base
                gradient[p] += matched / bump * arrays.delta[i] * arrays.spread[u, 0]


@inner_kernel
def floor_slope(delta, long, short, u, arrays):
    """Change of the delta floor per base unit of a position's delta.

    delta   float64         ()  of the position, base units
    long    float64         ()  of the underlying, base units, >= 0
    short   float64         ()  of the underlying, base units, >= 0
    u       int64           ()  underlying
    arrays  ScenarioArrays  ()  see scenario_layouts.py
    """
    net = arrays.floor[u, 0] if long >= short else -arrays.floor[u, 0]
    hedged = 0.0
    if delta >= 0.0 and long < short:
        hedged = arrays.floor[u, 1]
    if delta < 0.0 and short <= long:
        hedged = -arrays.floor[u, 1]
    return (net + hedged) * arrays.price[u]


@inner_kernel
def matched_with(first, end, bumped, bump, portfolios, arrays, scratch):
    """Matched deltas of the linear instruments of an account, with the delta of one position changed.

    first       int64             ()  first row of the linear instruments
    end         int64             ()  end of the rows
    bumped      int64             ()  row
    bump        float64           ()  base units
    portfolios  PortfolioColumns  ()  see scenario_layouts.py
    arrays      ScenarioArrays    ()  see scenario_layouts.py
    scratch     ScenarioScratch   ()  work space, see scenario_layouts.py
    """
    for p in range(first, end):
        i = portfolios.instrument[p]
        scratch.delta[arrays.term[i]] += portfolios.size[p] * arrays.delta[i] + (bump if p == bumped else 0.0)
    return matched_deltas(first, end, portfolios, arrays, scratch)


@inner_kernel
def add_minimum_gradient(first, end, raw, portfolios, arrays, gradient):
    """Add the gradient of a minimum requirement.

    first       int64             ()    first row
    end         int64             ()    end of the rows
    raw         float64           ()    raw amount of all positions that it is of
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    multiplier, start = 0.0, 0.0
    for b in range(arrays.brackets.shape[0]):
        if raw > start:
            multiplier, start = arrays.brackets[b, 1], arrays.brackets[b, 0]
    for p in range(first, end):
        sign, side = (1.0, 0) if portfolios.size[p] >= 0.0 else (-1.0, 1)
        gradient[p] += sign * multiplier * arrays.minimum[portfolios.instrument[p], side]


@inner_kernel
def add_short_minimum_gradient(first, end, portfolios, arrays, gradient):
    """Add the gradient of the minimum requirement of the short options of one underlying.

    first       int64             ()    first row
    end         int64             ()    end of the rows
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    calls, puts = 0.0, 0.0
    for p in range(first, end):
        i = portfolios.instrument[p]
        short = max(-portfolios.size[p], 0.0) * arrays.short_minimum[i]
        calls += short if arrays.is_call[i] else 0.0
        puts += 0.0 if arrays.is_call[i] else short
    for p in range(first, end):
        i = portfolios.instrument[p]
        if portfolios.size[p] < 0.0 and (not arrays.larger_of or arrays.is_call[i] == (calls >= puts)):
            gradient[p] -= arrays.short_minimum[i]


@inner_kernel
def add_group_gradient(account, run, runs, spots_end, one, portfolios, arrays, scratch, gradient):
    """Add the gradient of the requirement of a group; the work space has the group's changes still.

    account     int64             ()    0 <= account < A
    run         int64             ()    the first of the account's underlyings that is of the group
    runs        int64             ()    number of the account's underlyings
    spots_end   int64             ()    end of the account's spot rows
    one         GroupRequirement  ()    of the group
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    scratch     ScenarioScratch   ()    work space, see scenario_layouts.py
    gradient    float64           (P,)  in/out, numeraire per unit of size
    """
    results, first, factor = scratch.result, np.int64(portfolios.span[account]), arrays.mm_factor
    if one.is_scanned and not one.by_floor and one.worst >= 0:
        share = factor * arrays.buffer
        if one.worst == arrays.scenarios:
            add_basis_gradient(account, run, runs, -share, portfolios, arrays, scratch, gradient)
        elif arrays.measure == WORST:
            add_scenario_gradient(
                account, run, runs, spots_end, one.worst, -share, portfolios, arrays, scratch, gradient
            )
        else:
            add_tail_gradient(
                account, run, runs, spots_end, False, share * (1.0 - arrays.tail[1]), portfolios, arrays, scratch,
                gradient,
            )  # fmt: skip
            if arrays.tail[1] > 0.0:
                add_tail_gradient(
                    account, run, runs, spots_end, True, share * arrays.tail[1], portfolios, arrays, scratch, gradient
                )
    group = arrays.group[scratch.run_underlying[run]]
    paid = arrays.scaling[0, 0] if results[run, FUNDING] > 0.0 else 0.0
    lost = -arrays.scaling[1, 0] if results[run, DECAY] < 0.0 else 0.0
    for r in range(run, runs if arrays.group_size[group] > 1 else run + 1):
        u = scratch.run_underlying[r]
        if arrays.group[u] == group:
            start, end = scratch.run_first[r], scratch.run_end[r]
            if one.is_scanned:
                holds_perpetual = has_perpetual(r, portfolios, arrays, scratch)
                add_unit_gradient(first, spots_end, u, False, paid, lost, portfolios, arrays, gradient)
                add_unit_gradient(start, end, u, holds_perpetual, paid, lost, portfolios, arrays, gradient)
                if arrays.has_strikes:
                    add_strike_gradient(r, portfolios, arrays, scratch, gradient)
                if arrays.has_deltas:
                    add_delta_gradient(r, factor if one.by_floor else 0.0, portfolios, arrays, scratch, gradient)
            elif not one.maintenance > results[run, SHORTS]:
                add_short_minimum_gradient(start, end, portfolios, arrays, gradient)
            else:
                add_minimum_gradient(start, end, results[run, RAW], portfolios, arrays, gradient)


@kernel
def fill_gradients(first, last, portfolios, arrays, scratch, maintenance, gradient):
    """Maintenance requirement of some accounts, and what one unit more of each position adds to it.

    first        int64             ()    first account
    last         int64             ()    end of the accounts
    portfolios   PortfolioColumns  ()    see scenario_layouts.py
    arrays       ScenarioArrays    ()    see scenario_layouts.py
    scratch      ScenarioScratch   ()    work space, see scenario_layouts.py
    maintenance  float64           (A,)  out, numeraire
    gradient     float64           (P,)  out, numeraire per unit of size
    """
    for account in range(first, last):
        start, end = np.int64(portfolios.span[account]), np.int64(portfolios.span[account + 1])
        for p in range(start, end):
            gradient[p] = 0.0
        runs, spots_end = find_runs(account, portfolios, arrays, scratch)
        for column in range(RESULTS):
            scratch.result[runs, column] = 0.0
        add_unit_charges(start, spots_end, -1, False, runs, portfolios, arrays, scratch)
        add_unit_gradient(start, spots_end, -1, False, 0.0, 0.0, portfolios, arrays, gradient)
        total, raw = scratch.result[runs, CHARGES], scratch.result[runs, RAW]
        for run in range(runs):
            if not is_counted(run, arrays, scratch):
                one = group_requirement(account, run, runs, spots_end, run, portfolios, arrays, scratch)
                add_group_gradient(account, run, runs, spots_end, one, portfolios, arrays, scratch, gradient)
                total += one.maintenance
                raw += scratch.result[run, RAW]
        least = scaled_minimum(raw, arrays) if arrays.minimum_level == ACCOUNT_MINIMUM else 0.0
        if least > total:
            total = least
            for p in range(start, end):
                gradient[p] = 0.0
            add_minimum_gradient(start, end, raw, portfolios, arrays, gradient)
        maintenance[account] = total
