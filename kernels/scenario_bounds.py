"""Upper bounds of the maintenance requirement, by which accounts are passed over: docs/scenario_margin.md, "Screening".

There is no branch on the sign of a size, which cannot be foreseen. In an envelope row 2 i is a long unit of instrument
i, row 2 i + 1 a short one.
"""

import numpy as np

from ._columns import lowest, no_sums, plus_product
from ._jit import inner_kernel, kernel
from ._lanes import WIDTH
from .scenario_layouts import COLUMNS

NARROW, WIDE = COLUMNS, 2 * COLUMNS
"""Columns that an envelope may have."""

NARROW_VECTORS, WIDE_VECTORS = NARROW // WIDTH, WIDE // WIDTH


@inner_kernel
def sum_of_units(account, portfolios, unit, tilt, slack):
    """Bound of an account by the requirement of each of its positions alone.

    account     uint64            ()    0 <= account < A
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    unit        float64           (M,)  mean of the bounds of a long and of a short unit, numeraire
    tilt        float64           (M,)  half of what that of a long unit is more
    slack       float64           ()    more for each row, numeraire
    """
    total, p, end = 0.0, np.uint64(portfolios.span[account]), np.uint64(portfolios.span[account + np.uint64(1)])
    rows = end - p
    while p < end:
        size, i = portfolios.size[p], np.uint64(portfolios.instrument[p])
        total += size * tilt[i] + abs(size) * unit[i]
        p += np.uint64(1)
    return total + np.float64(rows) * slack


@inner_kernel
def envelope_of(blank, account, portfolios, group, envelope, charge, slack):
    """Bound of an account by blocks of scenarios.

    blank       float64           (W,)     block of zeros
    account     int64             ()       0 <= account < A
    portfolios  PortfolioColumns  ()       see scenario_layouts.py
    group       int32             (M,)     group of each instrument
    envelope    float64           (2M, W)  lowest change of a unit in each block, with all factors, numeraire
    charge      float64           (2M,)    what adds up whatever the block, numeraire
    slack       float64           ()       more for each row, numeraire
    """
    total, p, end = 0.0, np.int64(portfolios.span[account]), np.int64(portfolios.span[account + 1])
    while p < end:
        g, sums = group[portfolios.instrument[p]], blank
        while p < end:
            i = np.int64(portfolios.instrument[p])
            if group[i] != g:
                break
            size = portfolios.size[p]
            row, size = 2 * i + np.int64(size < 0.0), abs(size)
            sums = plus_product(sums, envelope, row, 0, size)
            total += size * charge[row] + slack
            p += 1
        low = lowest(sums)
        total -= low if low < 0.0 else 0.0
    return total


@kernel
def list_above_sum(first, last, portfolios, unit, tilt, slack, equity, listed, count):
    """List the accounts whose bound by single positions is not below their equity.

    first       int64             ()    first account
    last        int64             ()    end of the accounts
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    unit        float64           (M,)  see sum_of_units
    tilt        float64           (M,)  see sum_of_units
    slack       float64           ()    see sum_of_units
    equity      float64           (A,)  numeraire
    listed      int64             (A,)  out, accounts from row first on
    count       int64             (1,)  out, how many
    """
    end = np.uint64(first)
    for account in range(np.uint64(first), np.uint64(last)):
        listed[end] = account
        end += np.uint64(not sum_of_units(account, portfolios, unit, tilt, slack) < equity[account])
    count[0] = np.int64(end) - first


@inner_kernel
def keep_above(blank, first, portfolios, group, envelope, charge, slack, equity, listed, count):
    """Keep the listed accounts whose envelope is not below their equity.

    blank       float64           (W,)     block of zeros
    first       int64             ()       first row of the list
    portfolios  PortfolioColumns  ()       see scenario_layouts.py
    group       int32             (M,)     see envelope_of
    envelope    float64           (2M, W)  see envelope_of
    charge      float64           (2M,)    see envelope_of
    slack       float64           ()       see envelope_of
    equity      float64           (A,)     numeraire
    listed      int64             (A,)     in/out, accounts
    count       int64             (1,)     in/out, how many
    """
    end = first
    for n in range(first, first + count[0]):
        account = listed[n]
        listed[end] = account
        bound = envelope_of(blank, account, portfolios, group, envelope, charge, slack)
        end += not bound < equity[account]
    count[0] = end - first


@kernel
def keep_above_envelope(first, portfolios, group, envelope, charge, slack, equity, listed, count):
    """Keep the listed accounts whose envelope is not below their equity.

    first       int64             ()       first row of the list
    portfolios  PortfolioColumns  ()       see scenario_layouts.py
    group       int32             (M,)     see envelope_of
    envelope    float64           (2M, W)  see envelope_of; NARROW or WIDE columns
    charge      float64           (2M,)    see envelope_of
    slack       float64           ()       see envelope_of
    equity      float64           (A,)     numeraire
    listed      int64             (A,)     in/out, accounts
    count       int64             (1,)     in/out, how many
    """
    if envelope.shape[1] == NARROW:
        blank = no_sums(NARROW_VECTORS)
        keep_above(blank, first, portfolios, group, envelope, charge, slack, equity, listed, count)
    else:
        wide = no_sums(WIDE_VECTORS)
        keep_above(wide, first, portfolios, group, envelope, charge, slack, equity, listed, count)


@kernel
def fill_bounds(first, last, portfolios, unit, tilt, group, envelope, charge, slack, single, bound):
    """Both bounds of some accounts.

    first       int64             ()       first account
    last        int64             ()       end of the accounts
    portfolios  PortfolioColumns  ()       see scenario_layouts.py
    unit        float64           (M,)     see sum_of_units
    tilt        float64           (M,)     see sum_of_units
    group       int32             (M,)     see envelope_of
    envelope    float64           (2M, W)  see envelope_of; NARROW or WIDE columns
    charge      float64           (2M,)    see envelope_of
    slack       float64           ()       see envelope_of
    single      float64           (A,)     out, by single positions, numeraire
    bound       float64           (A,)     out, by blocks of scenarios, numeraire
    """
    for account in range(first, last):
        single[account] = sum_of_units(np.uint64(account), portfolios, unit, tilt, slack)
        if envelope.shape[1] == NARROW:
            blank = no_sums(NARROW_VECTORS)
            bound[account] = envelope_of(blank, account, portfolios, group, envelope, charge, slack)
        else:
            wide = no_sums(WIDE_VECTORS)
            bound[account] = envelope_of(wide, account, portfolios, group, envelope, charge, slack)


@kernel
def copy_rows(accounts, portfolios, instrument, size):
    """Copy the rows of some accounts one after another.

    accounts    int64             (n,)  their numbers
    portfolios  PortfolioColumns  ()    see scenario_layouts.py
    instrument  uint16            (Q,)  out
    size        float64           (Q,)  out
    """
    to = np.uint64(0)
    for account in accounts:
        for p in range(np.uint64(portfolios.span[account]), np.uint64(portfolios.span[account + 1])):
            instrument[to], size[to] = portfolios.instrument[p], portfolios.size[p]
            to += np.uint64(1)
