"""Requirements of portfolios where the model is plain: rows of the table times sizes, weights, and the lowest sum.

The sums are those of `scenario.requirement_of`, in the same order, so the bits are the same; blocks of columns stay in
vector registers. A model is plain if it has neither charges nor anything else between the sums of an underlying and the
lowest sum of its group, and there are neither orders nor spot balances.
"""

from math import inf

import numpy as np

from ._columns import columns, first_equal, lowest, no_sums, plus_product, plus_weighted
from ._jit import inner_kernel, kernel

ONE, SEPARATE, JOINT = 0, 1, 2
"""Groups: there is one underlying, every underlying is a group of its own, or a group can have several."""

BLOCKS = (26, 8, 2), (26, 8, 2), (13, 8, 2)
"""Vectors that a block may have, by the kind of groups: the sums leave 6 of the 32 registers of AVX-512."""


@inner_kernel
def separate_group(blank, has_one, finds_worst, p, end, portfolios, arrays):
    """Lowest change of an underlying that is a group of its own, its scenario, the end of its rows, its scale.

    blank        float64           (W,)  block of zeros
    has_one      bool              ()    whether there is one underlying
    finds_worst  bool              ()    whether the scenario is asked for
    p            int64             ()    first row of the underlying
    end          int64             ()    end of the account's rows
    portfolios   PortfolioColumns  ()    see scenario_layouts.py
    arrays       ScenarioArrays    ()    see scenario_layouts.py
    """
    u = np.int64(arrays.underlying[portfolios.instrument[p]])
    if not has_one and arrays.underlying[portfolios.instrument[end - 1]] != u:
        end = p + 1
        while arrays.underlying[portfolios.instrument[end]] == u:
            end += 1
    change, worst, reach, column = 0.0, np.int64(-1), 0.0, 0
    width, all_columns = columns(blank), arrays.row.shape[1]
    while True:
        sums, reach = blank, 0.0
        for row in range(p, end):
            i, size = np.int64(portfolios.instrument[row]), portfolios.size[row]
            sums = plus_product(sums, arrays.row, i, column, size)
            reach += abs(size) * arrays.reach[i]
        sums = plus_weighted(blank, sums, arrays.weight, u, column)
        low = lowest(sums)
        if low < change:
            change = low
            if finds_worst:
                worst = column + first_equal(sums, low)
        if column + width == all_columns:
            return change, worst, end, reach
        column = min(column + width, all_columns - width)  # the last block may overlap the one before


@inner_kernel
def joint_group(blank, finds_worst, p, end, portfolios, arrays):
    """Lowest change of a group of several underlyings, its scenario, the end of its rows, its scale.

    blank        float64           (W,)  block of zeros
    finds_worst  bool              ()    whether the scenario is asked for
    p            int64             ()    first row of the group
    end          int64             ()    end of the account's rows
    portfolios   PortfolioColumns  ()    see scenario_layouts.py
    arrays       ScenarioArrays    ()    see scenario_layouts.py
    """
    group = arrays.group[arrays.underlying[portfolios.instrument[p]]]
    change, worst, scale, column, start = 0.0, np.int64(-1), 0.0, 0, p
    width, all_columns = columns(blank), arrays.row.shape[1]
    while True:
        total, scale, p = blank, 0.0, start
        while p < end:
            u = np.int64(arrays.underlying[portfolios.instrument[p]])
            if arrays.group[u] != group:
                break
            sums, reach = blank, 0.0
            while p < end:
                i = np.int64(portfolios.instrument[p])
                if arrays.underlying[i] != u:
                    break
                size = portfolios.size[p]
                sums = plus_product(sums, arrays.row, i, column, size)
                reach += abs(size) * arrays.reach[i]
                p += 1
            total = plus_weighted(total, sums, arrays.weight, u, column)
            scale += reach
        low = lowest(total)
        if low < change:
            change = low
            if finds_worst:
                worst = column + first_equal(total, low)
        if column + width == all_columns:
            return change, worst, p, scale
        column = min(column + width, all_columns - width)


@inner_kernel
def fill_gradient(first, end, scenario, portfolios, arrays, gradient):
    """What a unit more of the positions of a group adds to the requirement.

    first       int64             ()    first row of the group
    end         int64             ()    end of its rows
    scenario    int64             ()    the one that sets the loss; -1 for no loss
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    gradient    float64           (P,)  out, numeraire per unit of size
    """
    for p in range(first, end):
        i = portfolios.instrument[p]
        if scenario < 0:
            gradient[p] = 0.0
        else:
            slope = (0.0 - arrays.mm_factor) * arrays.weight[arrays.underlying[i], scenario]
            gradient[p] = slope * arrays.row[i, scenario]


@inner_kernel
def fill_contribution(account, required, portfolios, gradient, contribution):
    """Size times gradient of the positions of an account, which add up to the requirement but for rounding.

    account       int64             ()    0 <= account < A
    required      float64           ()    maintenance requirement, numeraire
    portfolios    PortfolioColumns  ()    see scenario_layouts.py
    gradient      float64           (P,)  numeraire per unit of size
    contribution  float64           (P,)  out, numeraire
    """
    first, end, total, size = portfolios.span[account], portfolios.span[account + 1], 0.0, 0.0
    for p in range(first, end):
        contribution[p] = portfolios.size[p] * gradient[p]
        total += contribution[p]
        size += abs(contribution[p])
    missing = (required - total) / size if size > 0.0 else 0.0
    for p in range(first, end):
        contribution[p] += missing * abs(contribution[p])


@inner_kernel
def fill_in_blocks(blank, groups, first, last, portfolios, arrays, result):
    """Requirements of some accounts, by blocks of one width.

    blank       float64            (W,)  block of zeros
    groups      int64              ()    ONE, SEPARATE, JOINT
    first       int64              ()    first account
    last        int64              ()    end of the accounts
    portfolios  PortfolioColumns   ()    see scenario_layouts.py
    arrays      ScenarioArrays     ()    see scenario_layouts.py
    result      PlainRequirements  ()    see scenario_layouts.py; filled
    """
    finds_worst, has_gradient = result.worst.size > 0, result.gradient.size > 0
    for account in range(first, last):
        p, end = np.int64(portfolios.span[account]), np.int64(portfolios.span[account + 1])
        required, required_first, lost, amounts = 0.0, 0.0, 0.0, 0.0
        largest, largest_loss, largest_worst, largest_group = -inf, 0.0, np.int64(-1), np.int64(-1)
        while p < end:
            first_row = p
            if groups == JOINT:
                change, scenario, p, reach = joint_group(blank, finds_worst or has_gradient, p, end, portfolios, arrays)
            else:
                change, scenario, p, reach = separate_group(
                    blank, groups == ONE, finds_worst or has_gradient, p, end, portfolios, arrays
                )
            if has_gradient:
                fill_gradient(first_row, p, scenario, portfolios, arrays, result.gradient)
            one = 0.0 - change
            lost += one
            amounts += reach
            required_first += arrays.im_factor * one
            required += arrays.mm_factor * one
            if finds_worst and arrays.mm_factor * one > largest:
                largest, largest_loss, largest_worst = arrays.mm_factor * one, one, scenario
                largest_group = np.int64(arrays.group[arrays.underlying[portfolios.instrument[first_row]]])
        result.maintenance[account] = required
        result.initial[account] = max(required_first * arrays.im_multiplier, required)
        result.loss[account], result.scale[account] = lost, amounts
        if has_gradient:
            fill_contribution(account, required, portfolios, result.gradient, result.contribution)
        if finds_worst:
            result.group_loss[account], result.worst[account] = largest_loss, largest_worst
            result.group[account] = largest_group


@kernel
def fill_plain_requirements(vectors, groups, first, last, portfolios, arrays, result):
    """Requirements of some accounts under a plain model; the width of a block and the groups are compiled in.

    vectors     int64              ()  of a block, one of BLOCKS
    groups      int64              ()  ONE, SEPARATE, JOINT
    first       int64              ()  first account
    last        int64              ()  end of the accounts
    portfolios  PortfolioColumns   ()  see scenario_layouts.py
    arrays      ScenarioArrays     ()  see scenario_layouts.py
    result      PlainRequirements  ()  see scenario_layouts.py; filled
    """
    if groups == ONE and vectors == 26:
        fill_in_blocks(no_sums(26), ONE, first, last, portfolios, arrays, result)
    elif groups == ONE and vectors == 8:
        fill_in_blocks(no_sums(8), ONE, first, last, portfolios, arrays, result)
    elif groups == ONE and vectors == 2:
        fill_in_blocks(no_sums(2), ONE, first, last, portfolios, arrays, result)
    elif groups == SEPARATE and vectors == 26:
        fill_in_blocks(no_sums(26), SEPARATE, first, last, portfolios, arrays, result)
    elif groups == SEPARATE and vectors == 8:
        fill_in_blocks(no_sums(8), SEPARATE, first, last, portfolios, arrays, result)
    elif groups == SEPARATE and vectors == 2:
        fill_in_blocks(no_sums(2), SEPARATE, first, last, portfolios, arrays, result)
    elif groups == JOINT and vectors == 13:
        fill_in_blocks(no_sums(13), JOINT, first, last, portfolios, arrays, result)
    elif groups == JOINT and vectors == 8:
        fill_in_blocks(no_sums(8), JOINT, first, last, portfolios, arrays, result)
    elif groups == JOINT and vectors == 2:
        fill_in_blocks(no_sums(2), JOINT, first, last, portfolios, arrays, result)
