"""Rows of the journal and the accounts that they change: nothing is lost, and nothing has wrapped."""

from ._jit import kernel


@kernel
def weigh_rows(
    asset, cash, cost, counter_cash, counter_cost, entry, counter_entry, fee, fund, unsettled, quanta, lent, settle,
    most, moved, paid, bad,
):  # fmt: skip
    """Add up what rows move, all amounts taken positive, and find the first that loses money or is past a limit.

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
    most           int64    ()    every amount is less than that
    moved          float64  (K,)  in/out, quanta of balances
    paid           float64  (1,)  in/out, settle quanta of costs, entries and what is unsettled
    bad            int64    (1,)  out, row, -1: there is none
    """
    bad[0] = -1
    for n in range(asset.size):
        left = cash[n] - cost[n] + counter_cash[n] - counter_cost[n] + fund[n] + unsettled[n]
        money = abs(float(cash[n])) + abs(float(counter_cash[n])) + abs(float(fee[n])) + abs(float(fund[n]))
        booked = abs(float(cost[n])) + abs(float(counter_cost[n])) + abs(float(unsettled[n]))
        booked += abs(float(entry[n])) + abs(float(counter_entry[n]))
        held = abs(float(quanta[n])) + abs(float(lent[n]))
        moved[settle] += money
        paid[0] += booked
        if asset[n] >= 0:
            moved[asset[n]] += 2.0 * held
        if bad[0] < 0 and (left != 0 or max(money, booked, held) >= 2.0 * most):
            bad[0] = n


@kernel
def first_past(accounts, state, most):
    """Place of the first account with an amount past a limit, or a sum of costs that is not theirs; -1: there is none.

    accounts  int64           (N,)  rows
    state     AccountColumns  ()    see layouts.py
    most      int64           ()    every amount is less than that
    """
    for n in range(accounts.size):
        a = accounts[n]
        total, gross, highest = 0, 0.0, abs(float(state.unsettled[a]))
        for i in range(state.position_offset[a], state.position_offset[a + 1]):
            total += state.cost[i]
            gross += abs(float(state.cost[i]))
            highest = max(highest, abs(float(state.entry[i])))
        for j in range(state.balance_offset[a], state.balance_offset[a + 1]):
            highest = max(highest, abs(float(state.free[j])), float(state.lent[j]))
        if not max(gross, highest) < most or total != state.account_cost[a]:
            return n
    return -1
