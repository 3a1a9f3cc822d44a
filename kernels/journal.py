"""Checks of journal rows and of the accounts that they change: money is conserved, and no amount is near 64 bits."""

import numpy as np

from ._jit import inner_kernel, kernel

BOOK, FUND, SHORTFALL, NOBODY, POOL = -1, -2, -3, -4, -5
"""Counterparties that are no accounts."""

SOUND, UNKNOWN_ROW, OTHER_MONEY, ONE_SIDED, UNBALANCED, NO_PRICE, NO_RATIO = 0, 1, 2, 3, 4, 5, 6
"""What is wrong with a row of the journal by itself; in this order, the first counts."""

OTHER_ACCOUNT, OTHER_COUNTERPARTY = 7, 8
"""The account or the counterparty of a row is not what it was before plus the rows."""

USES_PRICE, USES_MONEY = 1, 2
"""Bits of an event: its rows have a price, and an asset of their money."""


@kernel
def sum_rows(
    asset, settle, cash, cost, counter_cash, counter_cost, entry, counter_entry, fee, fund, unsettled, quanta, lent,
    limit, balance_moved, cost_moved, first_bad,
):  # fmt: skip
    """Add up the absolute amounts of rows, and find the first row that is over a limit.

    asset          int64    (N,)  row, -1: none
    settle         int64    (N,)  asset row of the settle quanta, -1: there are none
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
    limit          int64    ()    every amount is below it
    balance_moved  float64  (K,)  in/out, quanta of balances
    cost_moved     float64  (K,)  in/out, quanta of costs, entries and unsettled amounts
    first_bad      int64    (1,)  out, row, -1: none
    """
    first_bad[0] = -1
    for n in range(asset.size):
        cash_amount = abs(float(cash[n])) + abs(float(counter_cash[n])) + abs(float(fee[n])) + abs(float(fund[n]))
        cost_amount = abs(float(cost[n])) + abs(float(counter_cost[n])) + abs(float(unsettled[n]))
        cost_amount += abs(float(entry[n])) + abs(float(counter_entry[n]))
        quanta_moved = abs(float(quanta[n])) + abs(float(lent[n]))
        if settle[n] >= 0:
            balance_moved[settle[n]] += cash_amount
            cost_moved[settle[n]] += cost_amount
        if asset[n] >= 0:
            balance_moved[asset[n]] += 2.0 * quanta_moved
        if first_bad[0] < 0 and max(cash_amount, cost_amount, quanta_moved) >= 2.0 * limit:
            first_bad[0] = n


@kernel
def first_over_limit(accounts, state, limit):
    """Index of the first account with an amount over a limit, or whose costs do not add up to its totals; -1: none.

    accounts  int64           (N,)  rows
    state     AccountColumns  ()    see layouts.py
    limit     int64           ()    every amount is below it
    """
    for n in range(accounts.size):
        a = accounts[n]
        gross, largest = 0.0, 0.0
        for i in range(state.position_span[a, 0], state.position_span[a, 1]):
            gross += abs(float(state.cost[i]))
            largest = max(largest, abs(float(state.entry[i])))
        for j in range(state.balance_span[a, 0], state.balance_span[a, 1]):
            largest = max(largest, abs(float(state.free[j])), float(state.lent[j]), abs(float(state.unsettled[j])))
            total = state.balance_cost[j]
            for i in range(state.position_span[a, 0], state.position_span[a, 1]):
                if state.position_balance[i] == j:
                    total -= state.cost[i]
            if total != 0:
                return n
        if not max(gross, largest) < limit:
            return n
    return -1


@kernel
def money_left(n, rows):
    """Settle quanta that a row of the journal makes, negative those that it loses; 0 in a sound row.

    n     int64           ()  row
    rows  JournalColumns  ()  see layouts.py
    """
    given = rows.cash[n] + rows.counter_cash[n] + rows.fund[n] + rows.unsettled[n]
    return given - rows.cost[n] - rows.counter_cost[n]


@inner_kernel
def _row_status(n, rows, uses, unrated, market_settle, accounts, assets):
    """Status of one row of the journal by itself: SOUND, or the first thing that is wrong with it.

    n              int64           ()    row
    rows           JournalColumns  ()    see layouts.py
    uses           uint8           (E,)  of each event: USES_PRICE | USES_MONEY
    unrated        bool            (R,)  of each reason: whether its rows have no ratios
    market_settle  int64           (M,)  asset row of each market's money
    accounts       int64           ()    number
    assets         int64           ()    number
    """
    account, other, market, asset = rows.account[n], rows.counterparty[n], rows.market[n], rows.asset[n]
    used, settle = uses[rows.event[n]], rows.settle[n]
    if not (-1 <= account < accounts and POOL <= other < accounts and -1 <= market < market_settle.size):
        return UNKNOWN_ROW
    if not (-1 <= asset < assets and -1 <= settle < assets):
        return UNKNOWN_ROW
    if (settle >= 0) != (used & USES_MONEY != 0) or (settle >= 0 and market >= 0 and settle != market_settle[market]):
        return OTHER_MONEY
    trade = rows.lots[n] != 0
    position = trade or rows.cost[n] != 0 or rows.entry[n] != 0
    other_position = rows.counter_cost[n] != 0 or rows.counter_entry[n] != 0
    exchange = rows.quanta[n] + rows.lent[n] != 0
    balance = rows.quanta[n] != 0 or rows.lent[n] != 0
    money = rows.cash[n] != 0 or rows.fee[n] != 0 or rows.unsettled[n] != 0
    if account < 0 and (position or balance or money):
        return ONE_SIDED
    if ((position or other_position) and market < 0) or (balance and asset < 0):
        return ONE_SIDED
    if other < 0:
        if other_position or (trade and other != BOOK) or (exchange and other != BOOK and other != POOL):
            return ONE_SIDED
        if rows.counter_cash[n] != 0 and other != BOOK and other != SHORTFALL:
            return ONE_SIDED
    if money_left(n, rows) != 0:
        return UNBALANCED
    if used & USES_PRICE and not np.isfinite(rows.price[n]):
        return NO_PRICE
    known = rows.mmr_before[n] >= 0.0 and rows.mmr_after[n] >= 0.0
    if not unrated[rows.reason[n]] and not known:
        return NO_RATIO
    return SOUND


@inner_kernel
def _fingerprint(account, state, position_factor, balance_factor):
    """Fingerprint of an account as it is now; `apply_rows` says what that is.

    account          int64           ()      row
    state            AccountColumns  ()      see layouts.py
    position_factor  int64           (3, M)  odd, of lots, cost and entry
    balance_factor   int64           (3, K)  odd, of free, lent and unsettled
    """
    total = 0
    for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
        m = state.market[i]
        total += state.lots[i] * position_factor[0, m]
        total += state.cost[i] * position_factor[1, m] + state.entry[i] * position_factor[2, m]
    for j in range(np.int64(state.balance_span[account, 0]), np.int64(state.balance_span[account, 1])):
        k = state.asset[j]
        total += state.free[j] * balance_factor[0, k] + state.lent[j] * balance_factor[1, k]
        total += state.unsettled[j] * balance_factor[2, k]
    return total


@kernel
def apply_rows(
    rows, uses, unrated, market_settle, position_factor, balance_factor, state, ledger, fingerprint, bad
):  # fmt: skip
    """Check rows one by one, apply them to the ledgers and to the accounts' fingerprints, and compare the latter.

    A fingerprint is the sum of an account's amounts, each times the factor of its column and of its market or asset,
    modulo 2**64: what a row changes of it follows from the row alone. The factors are odd, so that one wrong amount
    always shows.

    rows             JournalColumns  ()      see layouts.py
    uses             uint8           (E,)    of each event: USES_PRICE | USES_MONEY
    unrated          bool            (R,)    of each reason: whether its rows have no ratios
    market_settle    int64           (M,)    asset row of each market's money
    position_factor  int64           (3, M)  odd, of lots, cost and entry
    balance_factor   int64           (3, K)  odd, of free, lent and unsettled
    state            AccountColumns  ()      see layouts.py; after the rows
    ledger           LedgerArrays    ()      see layouts.py, in/out
    fingerprint      int64           (A,)    in/out
    bad              int64           (2,)    out, the first wrong row and its status; -1 and SOUND: there is none
    """
    bad[0], bad[1] = -1, SOUND
    accounts, assets = fingerprint.size, balance_factor.shape[1]
    for n in range(rows.account.size):
        status = _row_status(n, rows, uses, unrated, market_settle, accounts, assets)
        if status != SOUND:
            bad[0], bad[1] = n, status
            return
        account, other, market, asset = rows.account[n], rows.counterparty[n], rows.market[n], rows.asset[n]
        settle = rows.settle[n]
        if settle >= 0:
            ledger.fund[settle] += rows.fund[n] + rows.fee[n]
            if account >= 0:
                fingerprint[account] += (rows.cash[n] - rows.fee[n]) * balance_factor[0, settle]
                fingerprint[account] += rows.unsettled[n] * balance_factor[2, settle]
            if other >= 0:
                fingerprint[other] += rows.counter_cash[n] * balance_factor[0, settle]
            elif other == BOOK:
                ledger.book_quanta[settle] += rows.counter_cash[n]
            elif other == SHORTFALL:
                ledger.shortfall[settle] += rows.counter_cash[n]
        if market >= 0:
            lots, cost, entry = position_factor[0, market], position_factor[1, market], position_factor[2, market]
            if account >= 0:
                fingerprint[account] += rows.lots[n] * lots + rows.cost[n] * cost + rows.entry[n] * entry
            if other >= 0:
                fingerprint[other] += rows.counter_cost[n] * cost + rows.counter_entry[n] * entry - rows.lots[n] * lots
            elif other == BOOK:
                ledger.book_lots[market] -= rows.lots[n]
        if asset >= 0:
            moved = rows.quanta[n] + rows.lent[n]
            if account >= 0:
                free, lent = balance_factor[0, asset], balance_factor[1, asset]
                fingerprint[account] += rows.quanta[n] * free + rows.lent[n] * lent
            if other >= 0:
                fingerprint[other] -= moved * balance_factor[0, asset]
            elif other == BOOK:
                ledger.book_quanta[asset] -= moved
            elif other == POOL:
                ledger.pool[asset] -= moved
    for n in range(rows.account.size):
        for status, a in ((OTHER_ACCOUNT, rows.account[n]), (OTHER_COUNTERPARTY, rows.counterparty[n])):
            if a >= 0 and _fingerprint(a, state, position_factor, balance_factor) != fingerprint[a]:
                bad[0], bad[1] = n, status
                return


@kernel
def fingerprints(accounts, state, position_factor, balance_factor, fingerprint):
    """Fingerprints of some accounts as they are now; `apply_rows` says what that is.

    accounts         int64           (N,)    rows
    state            AccountColumns  ()      see layouts.py
    position_factor  int64           (3, M)  odd, of lots, cost and entry
    balance_factor   int64           (3, K)  odd, of free, lent and unsettled
    fingerprint      int64           (N,)    out
    """
    for n in range(accounts.size):
        fingerprint[n] = _fingerprint(accounts[n], state, position_factor, balance_factor)


ACTIVITY_COLUMNS = (
    "counterparty", "market", "asset", "settle", "lots", "quanta", "lent", "counter_cash", "fund", "fee",
)  # fmt: skip
"""Columns of the journal that `add_activity` reads."""


@kernel
def add_activity(rows, ledger):
    """Add to the ledgers what rows of activity change of them.

    rows    int64         (10, N)  `ACTIVITY_COLUMNS`
    ledger  LedgerArrays  ()       see layouts.py, in/out
    """
    for n in range(rows.shape[1]):
        other, market, asset, settle = rows[0, n], rows[1, n], rows[2, n], rows[3, n]
        lots, moved = rows[4, n], rows[5, n] + rows[6, n]
        if settle >= 0:
            ledger.fund[settle] += rows[8, n] + rows[9, n]
        if other == BOOK:
            if market >= 0:
                ledger.book_lots[market] -= lots
            if asset >= 0:
                ledger.book_quanta[asset] -= moved
            if settle >= 0:
                ledger.book_quanta[settle] += rows[7, n]
        elif other == POOL and asset >= 0:
            ledger.pool[asset] -= moved
