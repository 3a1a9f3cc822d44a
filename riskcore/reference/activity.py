"""Between two ticks: accounts are opened, money is moved, and accounts trade with the market (Activity)."""

from __future__ import annotations

import copy
import math

from .account_margin import margin
from .journal import BOOK, QUIET, apply_row
from .numbers import change_of_cost, number, rhe
from .prices import Prices
from .state import Account, State
from .venue import Venue

EVENTS = ("open", "transfer", "deposit", "withdraw", "fill")


def carried_out(venue: Venue, state: State, recorded, prices: Prices | None) -> tuple:
    """The state after recorded actions and their rows, by `prices`, those of the last tick; a refused one has no row.

    Of a recorded row only what was asked for is taken: the account, the other side, and a quantity; of a fill its price
    and its fee.
    """
    venue = state.venue or venue
    after, rows = copy.deepcopy(state), []
    for asked in recorded:
        changes = changes_of(venue, after, asked)
        if changes is not None and allowed(venue, after, asked, prices):
            names = {name: asked[name] for name in ("event", "account", "counterparty", "market", "asset")}
            row = {"tick": state.ticks - 1, "time": state.time_ns, "reason": "request"}
            row |= QUIET | names | {"price": math.nan, "mmr_before": math.nan, "mmr_after": math.nan} | changes
            apply_row(after, row)
            rows.append(row)
    after.is_quiet = after.is_quiet and not rows
    return after, rows


def changes_of(venue: Venue, state: State, asked) -> dict | None:
    """What an action changes; None of one that there cannot be."""
    event, account_id = asked["event"], asked["account"]
    if event == "open":
        return None if account_id in state.accounts or account_id not in state.opening else {}
    account = state.accounts[account_id]
    if event == "fill":
        market, change, fee = venue.markets[asked["market"]], asked["lots"], asked["fee"]
        flow = -rhe(change * market.lot_value(number(asked["price"])) / venue.assets[market.settle].quantum)
        lots, *amounts = account.positions.get(market.symbol, (0, 0, 0))
        cost, entry = (change_of_cost(lots, amount, change, flow) for amount in amounts)
        changes = {"settle": market.settle, "lots": change, "cost": cost, "cash": flow + cost, "entry": entry}
        changes |= {"counter_cash": fee - flow, "fee": fee, "fund": -fee, "price": asked["price"]}
        is_listed = market.symbol not in state.delisted
        return changes if is_listed and change != 0 and asked["counterparty"] == BOOK else None
    quanta = asked["quanta"]
    fits = quanta > 0 if event == "deposit" else quanta < 0
    inside = event == "transfer"
    return {"quanta": quanta} if fits and inside == (asked["counterparty"] in state.accounts) else None


def allowed(venue: Venue, state: State, asked, prices: Prices | None) -> bool:
    """Whether an account may give away what it does."""
    if asked["event"] not in ("transfer", "withdraw"):
        return True
    account, asset = state.accounts[asked["account"]], asked["asset"]
    if asked["event"] == "transfer" and account.owner != state.accounts[asked["counterparty"]].owner:
        return False
    after = copy.deepcopy(account)
    after.balances.setdefault(asset, [0, 0])[0] += asked["quanta"]
    return after.balances[asset][0] >= 0 and (not is_exposed(after) or covers(venue, after, prices))


def is_exposed(account: Account) -> bool:
    """Whether an account has a position, an order or a debt."""
    held = any(lots for lots, *_ in account.positions.values()) or any(
        free < 0 for free, _ in account.balances.values()
    )
    return held or any(not order.reduce_only for order in account.orders)


def covers(venue: Venue, account: Account, prices: Prices | None) -> bool:
    """Whether the IMR of an account is below 100 %."""
    if prices is None:
        return False
    look = margin(venue, account, prices)
    return look.imr < 1 and look.net_equity >= 0
