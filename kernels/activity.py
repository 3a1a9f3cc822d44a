"""Activity between ticks: actions of accounts carried out one after another, and what the venue checks of them.

Actions and the rows of the journal that they write are matrices of whole numbers: a call for a single action unpacks
two arrays instead of twenty.
"""

import numpy as np

from . import margin_model
from ._jit import inner_kernel, kernel
from .integer_math import cost_change
from .margin import DOUBT, DOUBT_BAND, SAFE, account_status, worst_case_lots

OPEN, FILL, PLACE, CHANGE, CANCEL, DEPOSIT, WITHDRAW, TRANSFER = 0, 1, 2, 3, 4, 5, 6, 7
BORROW, REPAY, LEND, REDEEM, LEVERAGE, CONFIRM = 8, 9, 10, 11, 12, 13
"""Kinds of actions."""
INTEREST = 14
"""Kind of the row that follows a borrow."""

KIND, ACCOUNT, ITEM, ROW, OTHER, ORDER, AMOUNT, FLOW, FEE, TICKS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
"""Columns of actions: the kind; row of the account, and of the market or asset; its position or balance row, out; the
balance row that a transfer goes to, out, or the order that has had the id of a new one, -1: none; number of the order,
-1: none, or the account that a transfer goes to; signed lots, lots of an order (0: unchanged) or quanta; quanta of the
settle asset that the account receives for a fill, and its fee; limit price of an order (0: unchanged), or the price of
its fill, rounded to its bad side."""
ACTION_WIDTH = 10

R_ACTION, R_KIND, R_ORDER, R_LOTS, R_COST, R_ENTRY, R_TICKS, R_LOTS_BEFORE, R_TICKS_BEFORE = 0, 1, 2, 3, 4, 5, 6, 7, 8
R_HELD, R_HELD_ENTRY = 9, 10
"""Columns of rows: number of the action; kind of the row; the order, -1: none; signed lots of a fill, lots of an order
(those cancelled), or interest; changes of cost and entry; limit price; lots and limit price of the order before, or
what was open of a slice that is confirmed and whether it is of the last book; lots and entry of the position after a
fill."""
ROW_WIDTH = 11

IS_DELISTED, IS_CLOSED, MAX_LOTS = 0, 1, 2
"""Rows of the rules of markets."""

WRITTEN, STOP, STATUS, FETCHED = 0, 1, 2, 3
"""Progress: number of rows written, the action that stops, why, and a sum that means nothing."""
PROGRESS_SIZE = 4

NOT_LIQUIDATING, COVERED = 1, 2
"""Bits of what the venue asks of an action: that the account is not liquidating before, and that its initial margin is
covered afterwards, if it has exposure then."""

_AHEAD = 64  # fills whose memory is fetched together

_LIMIT = 1 << 60  # POSITION_LIMIT of _limits.py

DONE, ROOM, NO_ROW, HANDED, STATUS_DOUBT, MARGIN_DOUBT = 0, 1, 2, 3, 4, 5
"""Why `carry_out` stops: it is through; more room for rows of the journal is needed; the account needs a row of the
market or asset; the action is not one for the kernel; float64 cannot decide whether the account is liquidating, or
whether its initial margin is covered after the action."""

DELISTED, TOO_MANY_LOTS, TOO_MUCH_COST, TOO_MUCH_MONEY, NO_ORDER, OTHER_SIDE, PAST_ORDER = 10, 11, 12, 13, 14, 15, 16
DUPLICATE, REDUCES_NOTHING, NOT_FREE, NOT_LENT, NOT_OWED = 17, 18, 19, 20, 21
PAST_LIMIT, CLOSED, LIQUIDATING, NO_PRICE, NOT_COVERED = 22, 23, 24, 25, 26
"""Why an action is refused; from `PAST_LIMIT` on by a check of the venue."""

UNPRICED = 10
"""In the place of a status: something of the account has no price."""


@inner_kernel
def _find(account, kind, span, kinds):
    """Row of an account in a market or asset, -1 if there is none.

    account  int64   ()      row
    kind     int64   ()      market or asset row
    span     uint32  (A, 2)  first row of an account, and the end of its rows
    kinds    uint16  (P,)    market or asset of each row, ascending within an account
    """
    low, end = np.int64(span[account, 0]), np.int64(span[account, 1])
    high = end
    while low < high:
        middle = (low + high) // 2
        if kinds[middle] < kind:
            low = middle + 1
        else:
            high = middle
    return low if low < end and kinds[low] == kind else np.int64(-1)


@kernel
def find_missing(actions, state, missing):
    """Find the actions that need a row which their account does not have yet.

    actions  int64           (N, 10)  columns above
    state    AccountColumns  ()       see layouts.py
    missing  bool            (N,)     out
    """
    accounts = state.position_span.shape[0]
    for n in range(actions.shape[0]):
        kind, a, item = actions[n, KIND], actions[n, ACCOUNT], actions[n, ITEM]
        if kind in (FILL, PLACE):
            missing[n] = a >= accounts or _find(a, item, state.position_span, state.market) < 0
        elif kind in (DEPOSIT, BORROW, TRANSFER):
            receiver = actions[n, ORDER] if kind == TRANSFER else a
            missing[n] = receiver >= accounts or _find(receiver, item, state.balance_span, state.asset) < 0
        else:
            missing[n] = False


@kernel
def lacks_price(account, state, prices):
    """Whether something of an account that counts in its margin has no price.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    prices   PriceArrays     ()  or the class of another model
    """
    for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
        if state.lots[i] != 0 or state.open_bid[i] != 0 or state.open_ask[i] != 0:
            settle = np.int64(state.asset[state.position_balance[i]])
            if not (prices.price_per_lot[state.market[i]] > 0.0 and prices.price_per_quantum[settle] > 0.0):
                return True
    for j in range(np.int64(state.balance_span[account, 0]), np.int64(state.balance_span[account, 1])):
        held = state.free[j] != 0 or state.lent[j] != 0 or state.unsettled[j] != 0 or state.balance_cost[j] != 0
        if held and not prices.price_per_quantum[state.asset[j]] > 0.0:
            return True
    return False


@kernel
def is_exposed(account, state):
    """Whether an account has a position, an order that counts, or a debt.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    """
    for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
        if state.lots[i] != 0 or state.open_bid[i] != 0 or state.open_ask[i] != 0:
            return True
    for j in range(np.int64(state.balance_span[account, 0]), np.int64(state.balance_span[account, 1])):
        if state.free[j] < 0:
            return True
    return False


@inner_kernel
def _liquidating(account, state, prices):
    """Why an account may not raise its risk before an action: DONE if it may, else a doubt or a refusal.

    account  int64             ()  0 <= account < A
    state    AccountColumns    ()  see layouts.py
    prices   PriceArrays|None  ()  or the class of another model; None: no check of the venue
    """
    if prices is None:
        return DONE
    if not is_exposed(account, state):
        return DONE
    if lacks_price(account, state, prices):
        return NO_PRICE
    sums = margin_model.account_margin(account, state, prices)
    status = account_status(
        sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
    )
    if status == SAFE:
        return DONE
    # one in doubt is LIQUIDATING, or below auto-close, or safe
    return STATUS_DOUBT if status == DOUBT and _may_be_safe(sums) else LIQUIDATING


@inner_kernel
def _may_be_safe(sums):
    """Whether rounding leaves open that an account is not liquidating.

    sums  MarginSums  ()  settle quanta
    """
    return sums.maintenance - sums.equity <= DOUBT_BAND * sums.gross


@inner_kernel
def _uncovered(account, state, prices):
    """Why the initial margin of an account is not covered after an action: DONE if it is, else a doubt or a refusal.

    account  int64             ()  0 <= account < A
    state    AccountColumns    ()  see layouts.py
    prices   PriceArrays|None  ()  or the class of another model; None: no check of the venue
    """
    if prices is None:
        return DONE
    if lacks_price(account, state, prices):
        return NO_PRICE
    sums = margin_model.account_margin(account, state, prices)
    room = sums.equity - sums.initial
    if abs(room) <= DOUBT_BAND * (sums.gross + sums.initial):
        return MARGIN_DOUBT
    return DONE if room > 0.0 else NOT_COVERED


@inner_kernel
def _set_order(o, lots, ticks, p, state, orders):
    """Set the open lots and the limit price of an order, and the sums of its account and position.

    o       int64           ()  number of the order
    lots    int64           ()  >= 0; 0: it is closed
    ticks   int64           ()  limit price
    p       int64           ()  position row of its account and market
    state   AccountColumns  ()  see layouts.py, in/out
    orders  OrderColumns    ()  see layouts.py, in/out
    """
    before = orders.lots[o]
    if not orders.reduce_only[o]:
        if orders.side[o] > 0:
            state.open_bid[p] += lots - before
        else:
            state.open_ask[p] += lots - before
    if before > 0 and lots == 0:
        state.open_orders[orders.account[o]] -= np.uint32(1)
    elif before == 0 and lots > 0:
        state.open_orders[orders.account[o]] += np.uint32(1)
    orders.lots[o] = lots
    orders.price[o] = ticks


@inner_kernel
def _write(n, kind, order, lots, rows, progress):
    """Write the names of a row of the journal; returns its number.

    n         int64  ()      action
    kind      int64  ()      of the row
    order     int64  ()      number, -1: none
    lots      int64  ()      of the row
    rows      int64  (R, 11) columns above, in/out
    progress  int64  (3,)    entries above, in/out
    """
    r = progress[WRITTEN]
    rows[r, R_ACTION], rows[r, R_KIND], rows[r, R_ORDER], rows[r, R_LOTS] = n, kind, order, lots
    progress[WRITTEN] = r + 1
    return r


@inner_kernel
def _write_order(n, kind, o, lots, ticks, p, state, orders, rows, progress):
    """Change an order and write its row.

    n         int64           ()      action
    kind      int64           ()      PLACE | CHANGE | CANCEL
    o         int64           ()      number of the order
    lots      int64           ()      >= 0, afterwards
    ticks     int64           ()      limit price afterwards
    p         int64           ()      position row
    state     AccountColumns  ()      see layouts.py, in/out
    orders    OrderColumns    ()      see layouts.py, in/out
    rows      int64           (R, 11) columns above, in/out
    progress  int64           (3,)    entries above, in/out
    """
    r = _write(n, kind, o, orders.lots[o] if kind == CANCEL else lots, rows, progress)
    rows[r, R_LOTS_BEFORE], rows[r, R_TICKS_BEFORE] = orders.lots[o], orders.price[o]
    rows[r, R_TICKS] = ticks
    _set_order(o, lots, ticks, p, state, orders)


@inner_kernel
def _reduce_only_range(account, market, reduce_only):
    """First reduce-only order of an account in a market, and the end of these.

    account      int64  ()      row
    market       int64  ()      row
    reduce_only  int64  (X, 2)  key and number, as of `carry_out`
    """
    key = account * 65536 + market
    size = reduce_only.shape[0]
    if size == 0 or key < reduce_only[0, 0] or key > reduce_only[size - 1, 0]:
        return 0, 0
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if reduce_only[middle, 0] < key:
            low = middle + 1
        else:
            high = middle
    end = low
    while end < size and reduce_only[end, 0] == key:
        end += 1
    return low, end


@inner_kernel
def _reducible(side, lots):
    """Lots by which an order of a side can reduce a position.

    side  int64  ()  1 of a bid, -1 of an ask
    lots  int64  ()  signed position
    """
    return max(-side * lots, 0)


@inner_kernel
def _gross_cost(account, state):
    """Sum of the absolute costs of the positions of an account.

    account  int64           ()  0 <= account < A
    state    AccountColumns  ()  see layouts.py
    """
    total = 0.0
    for i in range(np.int64(state.position_span[account, 0]), np.int64(state.position_span[account, 1])):
        total += abs(float(state.cost[i]))
    return total


@inner_kernel
def _order_after(n, actions, state, orders, is_checked):
    """Open lots of an order after it is placed or changed; 0 of a reduce-only order that has nothing to reduce.

    n           int64           ()       action
    actions     int64           (N, 10)  columns above
    state       AccountColumns  ()       see layouts.py
    orders      OrderColumns    ()       see layouts.py
    is_checked  bool            ()       whether the venue checks the action
    """
    o = actions[n, ORDER]
    lots = actions[n, AMOUNT] if actions[n, AMOUNT] > 0 else orders.lots[o]
    if orders.reduce_only[o] and is_checked:
        lots = min(lots, _reducible(orders.side[o], state.lots[actions[n, ROW]]))
    return lots


@inner_kernel
def _try_fill(n, is_found, actions, state, orders, rules, is_checked):
    """Test a fill by all rules but those of margin: why not, or DONE, what the venue asks, changes of cost and entry.

    n           int64           ()       action
    is_found    bool            ()       whether its position row is found already
    actions     int64           (N, 10)  columns above, in/out
    state       AccountColumns  ()       see layouts.py
    orders      OrderColumns    ()       see layouts.py
    rules       int64           (3, M)   rows above
    is_checked  bool            ()       whether the venue checks the action
    """
    a, m, o, change = actions[n, ACCOUNT], actions[n, ITEM], actions[n, ORDER], actions[n, AMOUNT]
    p = actions[n, ROW]
    if not is_found:
        p = actions[n, ROW] = _find(a, m, state.position_span, state.market)
    if p < 0:
        return NO_ROW, 0, 0, 0
    if rules[IS_DELISTED, m] != 0:
        return DELISTED, 0, 0, 0
    lots, bid, ask = state.lots[p], state.open_bid[p], state.open_ask[p]
    worst = worst_case_lots(lots, bid, ask)
    if o >= 0:
        if orders.lots[o] == 0:
            return NO_ORDER, 0, 0, 0
        if (orders.side[o] > 0) != (change > 0):
            return OTHER_SIDE, 0, 0, 0
        if abs(change) > orders.lots[o]:
            return PAST_ORDER, 0, 0, 0
        if not orders.reduce_only[o]:
            if change > 0:
                bid -= change
            else:
                ask += change
    if abs(lots + change) > rules[MAX_LOTS, m]:
        return TOO_MANY_LOTS, 0, 0, 0
    flow, j = actions[n, FLOW], np.int64(state.position_balance[p])
    cost, entry = cost_change(lots, state.cost[p], change, flow), cost_change(lots, state.entry[p], change, flow)
    if abs(state.cost[p] + cost) >= _LIMIT or abs(state.entry[p] + entry) >= _LIMIT:
        return TOO_MUCH_COST, 0, 0, 0
    if _gross_cost(a, state) - abs(float(state.cost[p])) + abs(float(state.cost[p] + cost)) >= _LIMIT:
        return TOO_MUCH_COST, 0, 0, 0
    if abs(state.free[j] + flow + cost - actions[n, FEE]) >= _LIMIT:
        return TOO_MUCH_MONEY, 0, 0, 0
    if is_checked:
        if o >= 0 and (actions[n, TICKS] - orders.price[o]) * orders.side[o] > 0:
            return PAST_LIMIT, 0, 0, 0
        if o < 0 and rules[IS_CLOSED, m] != 0:
            return CLOSED, 0, 0, 0
    if worst_case_lots(lots + change, bid, ask) <= worst:
        return DONE, 0, cost, entry
    return DONE, NOT_LIQUIDATING if o >= 0 else NOT_LIQUIDATING | COVERED, cost, entry


@inner_kernel
def _do_fill(n, cost, entry, actions, state, orders, reduce_only, rows, progress):
    """Carry out a fill or a confirmation, and reduce the reduce-only orders of the position.

    n            int64           ()       action
    cost         int64           ()       change of the position's cost, settle quanta
    entry        int64           ()       change of its entry, settle quanta
    actions      int64           (N, 10)  columns above
    state        AccountColumns  ()       see layouts.py, in/out
    orders       OrderColumns    ()       see layouts.py, in/out
    reduce_only  int64           (X, 2)   as of `carry_out`
    rows         int64           (R, 11)  columns above, in/out
    progress     int64           (4,)     entries above, in/out
    """
    a, m, p, o, change = actions[n, ACCOUNT], actions[n, ITEM], actions[n, ROW], actions[n, ORDER], actions[n, AMOUNT]
    flow, j = actions[n, FLOW], np.int64(state.position_balance[p])
    r = _write(n, actions[n, KIND], o, change, rows, progress)
    rows[r, R_COST], rows[r, R_ENTRY] = cost, entry
    if o >= 0:
        rows[r, R_LOTS_BEFORE], rows[r, R_TICKS_BEFORE] = orders.lots[o], orders.price[o]
        _set_order(o, orders.lots[o] - abs(change), orders.price[o], p, state, orders)
    state.lots[p] += change
    state.cost[p] += cost
    state.entry[p] += entry
    state.balance_cost[j] += cost
    state.free[j] += flow + cost - actions[n, FEE]
    rows[r, R_HELD], rows[r, R_HELD_ENTRY] = state.lots[p], state.entry[p]
    first, end = _reduce_only_range(a, m, reduce_only)
    for x in range(first, end):
        other = reduce_only[x, 1]
        kept = min(orders.lots[other], _reducible(orders.side[other], state.lots[p]))
        if kept < orders.lots[other]:
            kind = CHANGE if kept > 0 else CANCEL
            _write_order(n, kind, other, kept, orders.price[other], p, state, orders, rows, progress)


@inner_kernel
def _try_order(n, actions, state, orders, rules, is_checked):
    """Test an action with an order by all rules but those of margin: why not, or DONE, and what the venue asks.

    n           int64           ()       action
    actions     int64           (N, 10)  columns above, in/out
    state       AccountColumns  ()       see layouts.py
    orders      OrderColumns    ()       see layouts.py
    rules       int64           (3, M)   rows above
    is_checked  bool            ()       whether the venue checks the action
    """
    kind, a, m, o = actions[n, KIND], actions[n, ACCOUNT], actions[n, ITEM], actions[n, ORDER]
    p = actions[n, ROW] = _find(a, m, state.position_span, state.market)
    if p < 0:
        return NO_ROW, 0
    if kind == PLACE:
        if rules[IS_DELISTED, m] != 0:
            return DELISTED, 0
        if actions[n, OTHER] >= 0 and orders.lots[actions[n, OTHER]] > 0:
            return DUPLICATE, 0
    elif orders.lots[o] == 0:
        return NO_ORDER, 0
    if kind == CANCEL:
        return DONE, 0
    side, held, bid, ask = orders.side[o], state.lots[p], state.open_bid[p], state.open_ask[p]
    worst, lots = worst_case_lots(held, bid, ask), _order_after(n, actions, state, orders, is_checked)
    if lots == 0:
        return REDUCES_NOTHING, 0
    if not orders.reduce_only[o]:
        if side > 0:
            bid += lots - orders.lots[o]
        else:
            ask += lots - orders.lots[o]
    if max(lots, abs(held + bid), abs(held - ask)) > rules[MAX_LOTS, m]:
        return TOO_MANY_LOTS, 0
    if is_checked and rules[IS_CLOSED, m] != 0:
        return CLOSED, 0
    return DONE, NOT_LIQUIDATING | COVERED if worst_case_lots(held, bid, ask) > worst else NOT_LIQUIDATING


@inner_kernel
def _do_order(n, actions, state, orders, is_checked, rows, progress):
    """Place, change or cancel an order.

    n           int64           ()       action
    actions     int64           (N, 10)  columns above
    state       AccountColumns  ()       see layouts.py, in/out
    orders      OrderColumns    ()       see layouts.py, in/out
    is_checked  bool            ()       whether the venue checks the action
    rows        int64           (R, 11)  columns above, in/out
    progress    int64           (4,)     entries above, in/out
    """
    o, lots = actions[n, ORDER], np.int64(0)
    ticks = actions[n, TICKS] if actions[n, TICKS] > 0 else orders.price[o]
    if actions[n, KIND] != CANCEL:
        lots = _order_after(n, actions, state, orders, is_checked)
    _write_order(n, actions[n, KIND], o, lots, ticks, actions[n, ROW], state, orders, rows, progress)


@inner_kernel
def _try_money(n, actions, state, pooled):
    """Test an action with an asset by all rules but those of margin: why not, or DONE, and what the venue asks.

    n        int64           ()       action
    actions  int64           (N, 10)  columns above, in/out
    state    AccountColumns  ()       see layouts.py
    pooled   bool            (K,)     whether an asset has a pool
    """
    kind, a, k, quanta = actions[n, KIND], actions[n, ACCOUNT], actions[n, ITEM], actions[n, AMOUNT]
    j = actions[n, ROW] = _find(a, k, state.balance_span, state.asset)
    other = np.int64(-1)
    if kind == TRANSFER:
        other = actions[n, OTHER] = _find(actions[n, ORDER], k, state.balance_span, state.asset)
    if (kind in (DEPOSIT, BORROW) and j < 0) or (kind == TRANSFER and other < 0):
        return NO_ROW, 0
    free, lent = np.int64(0), np.int64(0)
    if j >= 0:
        free, lent = state.free[j], state.lent[j]
    gives = kind in (WITHDRAW, TRANSFER, LEND)
    if gives and free < quanta:
        return NOT_FREE, 0
    if kind == REDEEM and lent < quanta:
        return NOT_LENT, 0
    if kind == REPAY and -free < quanta:
        return NOT_OWED, 0
    if kind in (DEPOSIT, REDEEM) and free + quanta >= _LIMIT:
        return TOO_MUCH_MONEY, 0
    if (kind == TRANSFER and state.free[other] + quanta >= _LIMIT) or (kind == LEND and lent + quanta >= _LIMIT):
        return TOO_MUCH_MONEY, 0
    if kind == BORROW or (kind == REDEEM and pooled[k]):
        return HANDED, 0
    if not gives:
        return DONE, 0
    return DONE, NOT_LIQUIDATING if kind == LEND else NOT_LIQUIDATING | COVERED


@inner_kernel
def _move(kind, j, other, quanta, state):
    """Change balances by an action with an asset; with the opposite sign it is taken back.

    kind    int64           ()  of the action
    j       int64           ()  balance row
    other   int64           ()  balance row of the account that a transfer goes to
    quanta  int64           ()  of the asset
    state   AccountColumns  ()  see layouts.py, in/out
    """
    if kind in (DEPOSIT, REPAY):
        state.free[j] += quanta
    elif kind in (WITHDRAW, BORROW, INTEREST):
        state.free[j] -= quanta
    elif kind == TRANSFER:
        state.free[j] -= quanta
        state.free[other] += quanta
    elif kind == LEND:
        state.free[j] -= quanta
        state.lent[j] += quanta
    elif kind == REDEEM:
        state.free[j] += quanta
        state.lent[j] -= quanta


@inner_kernel
def _fetch(first, last, actions, state):
    """Read what the fills of a range need, so that the processor waits for all of it together; a sum of no meaning.

    first    int64           ()       action
    last     int64           ()       the one after the last
    actions  int64           (N, 10)  columns above, in/out
    state    AccountColumns  ()       see layouts.py
    """
    total = np.int64(0)
    for n in range(first, last):
        if actions[n, KIND] == FILL:
            actions[n, ROW] = _find(actions[n, ACCOUNT], actions[n, ITEM], state.position_span, state.market)
    for n in range(first, last):
        p = actions[n, ROW]
        if actions[n, KIND] == FILL and p >= 0:
            total += state.lots[p] + state.open_bid[p] + state.open_ask[p] + state.cost[p] + state.entry[p]
            j = np.int64(state.position_balance[p])
            total += state.free[j] + state.balance_cost[j]
    return total


@kernel
def carry_out(first, last, is_sure, actions, state, orders, rules, pooled, reduce_only, prices, rows, progress):
    """Carry out actions one after another, those of a range, until all are done or one stops them.

    An action that `MARGIN_DOUBT` or `NOT_COVERED` stops, or `NO_PRICE` afterwards, has been carried out and has its
    rows; no other that stops.

    first        int64             ()       action
    last         int64             ()       the one after the last
    is_sure      bool              ()       the account of the first is known not to be liquidating
    actions      int64             (N, 10)  columns above
    state        AccountColumns    ()       see layouts.py, in/out
    orders       OrderColumns      ()       see layouts.py, in/out
    rules        int64             (3, M)   rows above
    pooled       bool              (K,)     whether an asset has a pool
    reduce_only  int64             (X, 2)   of reduce-only orders: 65536 account + market, ascending; number
    prices       PriceArrays|None  ()       or the class of another model; None: no check of the venue
    rows         int64             (R, 11)  columns above, in/out
    progress     int64             (3,)     in/out, entries above
    """
    is_checked, is_found = prices is not None, last - first > 1
    for n in range(first, last):
        if is_found and (n - first) % _AHEAD == 0:
            progress[FETCHED] = _fetch(n, min(n + _AHEAD, last), actions, state)
        kind, a = actions[n, KIND], actions[n, ACCOUNT]
        status, asks, cost, entry = DONE, 0, 0, 0
        room = rows.shape[0] - progress[WRITTEN]
        if kind == FILL:
            status, asks, cost, entry = _try_fill(n, is_found, actions, state, orders, rules, is_checked)
            begin, end = _reduce_only_range(a, actions[n, ITEM], reduce_only)
            room -= end - begin
        elif kind in (PLACE, CHANGE, CANCEL):
            status, asks = _try_order(n, actions, state, orders, rules, is_checked)
        elif kind in (LEVERAGE, CONFIRM):
            status = HANDED
        elif kind != OPEN:
            status, asks = _try_money(n, actions, state, pooled)
        if status == DONE and room < 1:
            status = ROOM
        if status == DONE and asks & NOT_LIQUIDATING and not (is_sure and n == first):
            status = _liquidating(a, state, prices)
        if status != DONE:
            progress[STOP], progress[STATUS] = n, status
            return
        if kind == FILL:
            _do_fill(n, cost, entry, actions, state, orders, reduce_only, rows, progress)
        elif kind in (PLACE, CHANGE, CANCEL):
            _do_order(n, actions, state, orders, is_checked, rows, progress)
        else:
            _write(n, kind, -1, 0, rows, progress)
            _move(kind, actions[n, ROW], actions[n, OTHER], actions[n, AMOUNT], state)
        if asks & COVERED and is_exposed(a, state):
            status = _uncovered(a, state, prices)
        if status != DONE:
            progress[STOP], progress[STATUS] = n, status
            return
    progress[STOP], progress[STATUS] = last, DONE


@kernel
def confirm(n, actions, state, orders, reduce_only, rows, progress):
    """Carry out the fill of a proposed slice that has been tested, and reduce the reduce-only orders of the position.

    n            int64           ()       action, whose ROW is set
    actions      int64           (N, 10)  columns above
    state        AccountColumns  ()       see layouts.py, in/out
    orders       OrderColumns    ()       see layouts.py, in/out
    reduce_only  int64           (X, 2)   as of `carry_out`
    rows         int64           (R, 11)  columns above, in/out; with room for X + 1
    progress     int64           (3,)     entries above, in/out
    """
    p, change, flow = actions[n, ROW], actions[n, AMOUNT], actions[n, FLOW]
    cost = cost_change(state.lots[p], state.cost[p], change, flow)
    entry = cost_change(state.lots[p], state.entry[p], change, flow)
    _do_fill(n, cost, entry, actions, state, orders, reduce_only, rows, progress)


@kernel
def take_back(first, actions, state, orders, rows, progress):
    """Take back rows of actions from one on, the last one first.

    first     int64           ()       row
    actions   int64           (N, 10)  columns above
    state     AccountColumns  ()       see layouts.py, in/out
    orders    OrderColumns    ()       see layouts.py, in/out
    rows      int64           (R, 11)  columns above, in/out
    progress  int64           (4,)     entries above, in/out
    """
    for r in range(progress[WRITTEN] - 1, first - 1, -1):
        n, kind, o = rows[r, R_ACTION], rows[r, R_KIND], rows[r, R_ORDER]
        p = actions[n, ROW]
        if kind in (FILL, CONFIRM):
            j = np.int64(state.position_balance[p])
            state.lots[p] -= rows[r, R_LOTS]
            state.cost[p] -= rows[r, R_COST]
            state.entry[p] -= rows[r, R_ENTRY]
            state.balance_cost[j] -= rows[r, R_COST]
            state.free[j] -= actions[n, FLOW] + rows[r, R_COST] - actions[n, FEE]
        if kind in (PLACE, CHANGE, CANCEL) or (kind == FILL and o >= 0):
            _set_order(o, rows[r, R_LOTS_BEFORE], rows[r, R_TICKS_BEFORE], p, state, orders)
        elif kind == INTEREST:
            state.free[p] += rows[r, R_LOTS]
        elif kind >= DEPOSIT and kind != LEVERAGE and kind != CONFIRM:
            _move(kind, p, actions[n, OTHER], -actions[n, AMOUNT], state)
    progress[WRITTEN] = first


@kernel
def margin_of(account, state, prices, figures):
    """Margin of one account.

    account  int64           ()    0 <= account < A
    state    AccountColumns  ()    see layouts.py
    prices   PriceArrays     ()    or the class of another model
    figures  float64         (5,)  out, equity, exposure, initial and maintenance in settle units; status, or UNPRICED
    """
    if lacks_price(account, state, prices):
        figures[4] = UNPRICED
        return
    quanta_per_unit = 1.0 / prices.settle_quantum
    sums = margin_model.account_margin(account, state, prices)
    figures[0] = sums.equity / quanta_per_unit
    figures[1] = sums.exposure / quanta_per_unit
    figures[2] = sums.initial / quanta_per_unit
    figures[3] = sums.maintenance / quanta_per_unit
    figures[4] = account_status(
        sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
    )


ROW_COLUMNS = (
    "account", "counterparty", "market", "asset", "settle", "order", "requested", "lots", "cost", "cash", "entry",
    "fee", "quanta", "lent", "counter_cash", "fund",
)  # fmt: skip
"""Columns of the journal that `row_values` writes."""


@kernel
def row_values(actions, written, settle, party, free, lent, values):
    """Whole numbers of the rows of the journal that actions have written.

    actions  int64  (N, 10)  see above
    written  int64  (R, 11)  see above
    settle   int64  (M,)     asset row of each market's money
    party    int64  (C,)     counterparty of each kind of row; of a transfer the action says it
    free     int64  (C,)     sign with which the quantity of each kind changes the free balance
    lent     int64  (C,)     and the lent one
    values   int64  (16, R)  out, `ROW_COLUMNS`
    """
    for n in range(written.shape[0]):
        action, kind = written[n, R_ACTION], written[n, R_KIND]
        item, amount, flow, fee = (
            actions[action, ITEM],
            actions[action, AMOUNT],
            actions[action, FLOW],
            actions[action, FEE],
        )
        values[:, n] = 0
        values[0, n] = actions[action, ACCOUNT]
        values[1, n] = actions[action, ORDER] if kind == TRANSFER else party[kind]
        values[2:6, n] = -1
        if kind in (FILL, CONFIRM):
            values[2, n], values[4, n], values[5, n] = item, settle[item], written[n, R_ORDER]
            values[6, n] = written[n, R_LOTS_BEFORE] if kind == CONFIRM else 0
            values[7, n], values[8, n], values[10, n] = written[n, R_LOTS], written[n, R_COST], written[n, R_ENTRY]
            values[9, n], values[11, n] = flow + written[n, R_COST], fee
            # the fee of a fill goes to the market, that of a slice to the fund
            values[14, n] = -flow if kind == CONFIRM else fee - flow
            values[15, n] = 0 if kind == CONFIRM else -fee
        elif PLACE <= kind <= CANCEL:
            values[2, n], values[5, n], values[6, n] = item, written[n, R_ORDER], written[n, R_LOTS]
        elif kind == INTEREST:
            values[3, n], values[12, n] = item, -written[n, R_LOTS]
        elif DEPOSIT <= kind <= REDEEM:
            values[3, n], values[12, n], values[13, n] = item, free[kind] * amount, lent[kind] * amount
