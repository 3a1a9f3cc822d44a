"""Checks of journal rows and of the accounts that they change: money is conserved, and no amount is near 64 bits."""

from ._jit import kernel


@kernel
def sum_rows(
    asset, cash, cost, counter_cash, counter_cost, entry, counter_entry, fee, fund, unsettled, quanta, lent, settle,
    limit, balance_moved, cost_moved, first_bad,
):  # fmt: skip
    """Add up the absolute amounts of rows, and find the first row that loses money or is over a limit.

    asset          int64    (N,)  row, -1: none
    cash           int64    (N,)  settle quanta
    cost           int64    (N,)  settle quanta
    counter_cash   int64    (N,)  settle quanta
    counter_cost   int64    (N,)  settle quanta
    entry          int64    (N,)  settle quanta
    counter_entry  int64    (N,)  settle quanta
    fee            int64    (N,)  settle quanta
    fund           int64    (N,)  settle quanta
    unsettled      int64    (N,)  settle quanta
    quanta         int64    (N,)  of the asset
    lent           int64    (N,)  of the asset
    settle         int64    ()    row of the settle asset
    limit          int64    ()    every amount is below it
    balance_moved  float64  (K,)  in/out, quanta of balances
    cost_moved     float64  (1,)  in/out, settle quanta of costs, entries and unsettled amounts
    first_bad      int64    (1,)  out, row, -1: none
    """
    first_bad[0] = -1
    for n in range(asset.size):
        imbalance = cash[n] - cost[n] + counter_cash[n] - counter_cost[n] + fund[n] + unsettled[n]
        cash_amount = abs(float(cash[n])) + abs(float(counter_cash[n])) + abs(float(fee[n])) + abs(float(fund[n]))
        cost_amount = abs(float(cost[n])) + abs(float(counter_cost[n])) + abs(float(unsettled[n]))
        cost_amount += abs(float(entry[n])) + abs(float(counter_entry[n]))
        quanta_moved = abs(float(quanta[n])) + abs(float(lent[n]))
        balance_moved[settle] += cash_amount
        cost_moved[0] += cost_amount
        if asset[n] >= 0:
            balance_moved[asset[n]] += 2.0 * quanta_moved
        if first_bad[0] < 0 and (imbalance != 0 or max(cash_amount, cost_amount, quanta_moved) >= 2.0 * limit):
            first_bad[0] = n


@kernel
def first_over_limit(accounts, state, limit):
    """Index of the first account with an amount over a limit, or whose costs do not add up to its total; -1: none.

    accounts  int64           (N,)  rows
    state     AccountColumns  ()    see layouts.py
    limit     int64           ()    every amount is below it
    """
    for n in range(accounts.size):
        a = accounts[n]
        total, gross, largest = 0, 0.0, abs(float(state.unsettled[a]))
        for i in range(state.position_offset[a], state.position_offset[a + 1]):
            total += state.cost[i]
            gross += abs(float(state.cost[i]))
            largest = max(largest, abs(float(state.entry[i])))
        for j in range(state.balance_offset[a], state.balance_offset[a + 1]):
            largest = max(largest, abs(float(state.free[j])), float(state.lent[j]))
        if not max(gross, largest) < limit or total != state.account_cost[a]:
            return n
    return -1
