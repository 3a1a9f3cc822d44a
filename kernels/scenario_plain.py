"""Requirements of portfolios where the model is plain: rows of the table times sizes, weights, and the lowest sum.

The sums are those of `scenario.requirement_of`, in the same order, so the bits are the same; blocks of columns stay in
vector registers. A model is plain if it has neither charges nor anything else between the sums of an underlying and the
lowest sum of its group, and there are neither orders nor spot balances.
"""

from math import inf

import numpy as np

from ._columns import columns, first_equal, lowest, no_sums, plus_product, plus_weighted
from ._jit import inner_kernel, kernel

SEPARATE, JOINT = (26, 14, 8, 4, 2), (13, 8, 4, 2)
"""Vectors that a block may have: sums of one underlying leave 6 of the 32 registers of AVX-512, and so do the sums of
one underlying beside those of its group."""


@inner_kernel
def separate_group(blank, p, end, portfolios, arrays):
    """Lowest change of an underlying that is a group of its own, its scenario, the end of its rows, its scale.

    blank       float64           (W,)  block of zeros
    p           int64             ()    first row of the underlying
    end         int64             ()    end of the account's rows
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
    """
    u = np.int64(arrays.underlying[portfolios.instrument[p]])
    if arrays.price.size > 1 and arrays.underlying[portfolios.instrument[end - 1]] != u:
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
            change, worst = low, column + first_equal(sums, low)
        if column + width == all_columns:
            return change, worst, end, reach
        column = min(column + width, all_columns - width)  # the last block may overlap the one before


@inner_kernel
def joint_group(blank, p, end, portfolios, arrays):
    """Lowest change of a group of several underlyings, its scenario, the end of its rows, its scale.

    blank       float64           (W,)  block of zeros
    p           int64             ()    first row of the group
    end         int64             ()    end of the account's rows
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    arrays      ScenarioArrays    ()    see scenario_layouts.py
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
            change, worst = low, column + first_equal(total, low)
        if column + width == all_columns:
            return change, worst, p, scale
        column = min(column + width, all_columns - width)


@inner_kernel
def fill_in_blocks(
    blank, is_joint, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group, scale
):
    """Requirements of some accounts, by blocks of one width.

    blank         float64           (W,)  block of zeros
    is_joint      bool              ()    whether a group can have several underlyings
    first         int64             ()    first account
    last          int64             ()    end of the accounts
    portfolios    PortfolioColumns  ()    see scenario_layouts.py
    arrays        ScenarioArrays    ()    see scenario_layouts.py
    maintenance   float64           (A,)  out, numeraire
    initial       float64           (A,)  out, numeraire
    loss          float64           (A,)  out, numeraire, >= 0
    initial_loss  float64           (A,)  out, numeraire, >= 0
    worst         int64             (A,)  out, scenario of the group with the largest requirement
    group         int64             (A,)  out, that group; -1 for none
    scale         float64           (A,)  out, sum of all amounts
    """
    for account in range(first, last):
        p, end = np.int64(portfolios.span[account]), np.int64(portfolios.span[account + 1])
        required, required_first, lost, amounts = 0.0, 0.0, 0.0, 0.0
        largest, largest_worst, largest_group = -inf, np.int64(-1), np.int64(-1)
        while p < end:
            g = np.int64(arrays.group[arrays.underlying[portfolios.instrument[p]]])
            if is_joint:
                change, scenario, p, reach = joint_group(blank, p, end, portfolios, arrays)
            else:
                change, scenario, p, reach = separate_group(blank, p, end, portfolios, arrays)
            one = 0.0 - change
            lost += one
            amounts += reach
            required_first += arrays.im_factor * one
            one *= arrays.mm_factor
            required += one
            if one > largest:
                largest, largest_worst, largest_group = one, scenario, g
        maintenance[account] = required
        initial[account] = max(required_first * arrays.im_multiplier, required)
        loss[account] = initial_loss[account] = lost
        worst[account], group[account] = largest_worst, largest_group
        scale[account] = amounts


@kernel
def fill_plain_requirements(
    vectors, is_joint, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group, scale
):
    """Requirements of some accounts under a plain model.

    vectors       int64             ()    of a block: one of SEPARATE, of JOINT if a group can have several underlyings
    is_joint      bool              ()    whether a group can have several underlyings
    first         int64             ()    first account
    last          int64             ()    end of the accounts
    portfolios    PortfolioColumns  ()    see scenario_layouts.py
    arrays        ScenarioArrays    ()    see scenario_layouts.py
    maintenance   float64           (A,)  out, numeraire
    initial       float64           (A,)  out, numeraire
    loss          float64           (A,)  out, numeraire, >= 0
    initial_loss  float64           (A,)  out, numeraire, >= 0
    worst         int64             (A,)  out, scenario of the group with the largest requirement
    group         int64             (A,)  out, that group; -1 for none
    scale         float64           (A,)  out, sum of all amounts
    """
    if vectors == 26 and not is_joint:
        fill_in_blocks(
            no_sums(26), False, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 14 and not is_joint:
        fill_in_blocks(
            no_sums(14), False, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 8 and not is_joint:
        fill_in_blocks(
            no_sums(8), False, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 4 and not is_joint:
        fill_in_blocks(
            no_sums(4), False, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 2 and not is_joint:
        fill_in_blocks(
            no_sums(2), False, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 13 and is_joint:
        fill_in_blocks(
            no_sums(13), True, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 8 and is_joint:
        fill_in_blocks(
            no_sums(8), True, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 4 and is_joint:
        fill_in_blocks(
            no_sums(4), True, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
    elif vectors == 2 and is_joint:
        fill_in_blocks(
            no_sums(2), True, first, last, portfolios, arrays, maintenance, initial, loss, initial_loss, worst, group,
            scale,
        )  # fmt: skip
