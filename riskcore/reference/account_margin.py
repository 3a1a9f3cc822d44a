"""The margin of an account: equity, exposure, requirements and ratios."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .numbers import INFINITY, ROUNDING
from .prices import Prices
from .state import Account, State
from .venue import Venue

SURELY_HEALTHY = 0.99  # MMR in float64 up to which the exact margin is not computed for the selection


@dataclass(frozen=True)
class Margin:
    """Amounts in the unit of account; ratios are a `Fraction` or float infinity."""

    net_equity: Fraction
    exposure: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction
    imr: Fraction | float
    mmr: Fraction | float
    liquidating: bool
    below_auto_close: bool
    position_maintenance_margins: dict  # market: Fraction, of the markets with lots
    borrow_maintenance_margins: dict  # asset: Fraction, of the assets borrowed


def ratio(margin: Fraction, net_equity: Fraction, exposure: Fraction):
    """MMR or IMR (Margin of an account)."""
    if exposure == 0:
        return Fraction(0)
    return margin / net_equity if net_equity > 0 else INFINITY


def margin(venue: Venue, account: Account, prices: Prices) -> Margin:
    """The margin of one account (Margin of an account)."""
    exposure = initial = Fraction(0)
    positions, borrows = {}, {}
    least_fraction = 0 if account.leverage_limit is None else 1 / account.leverage_limit
    profits = profits_and_unsettled(venue, account, prices)
    net_equity = profits.pop(venue.settle)

    for symbol, (free, lent) in account.balances.items():
        profit = profits.get(symbol, 0)
        if free == lent == profit == 0:
            continue
        asset, price = venue.assets[symbol], prices.of_asset(venue, symbol)
        quantity = (max(free, 0) + lent) * asset.quantum + profit
        size = quantity * price if venue.haircut_size_unit == "notional" else quantity
        borrowed = max(-free, 0) * asset.quantum * price
        weight = asset.effective_weight(size) if quantity >= 0 else 1
        net_equity += quantity * price * weight - borrowed
        exposure += borrowed
        initial += asset.initial(borrowed, price)
        if borrowed > 0:
            borrows[symbol] = asset.maintenance(borrowed, price)

    for symbol, market in venue.markets.items():
        lots, cost, _ = account.positions.get(symbol, (0, 0, 0))
        bids, asks = account.open_lots(symbol, "bid"), account.open_lots(symbol, "ask")
        if lots == cost == bids == asks == 0:
            continue
        lot_value, token = prices.of_lot(venue, symbol), prices.of_token(venue, symbol)
        interest = prices.of_open_interest(venue, symbol)
        notional = abs(lots) * lot_value
        worst_case = max(abs(lots + bids), abs(lots - asks), abs(lots)) * lot_value
        exposure += worst_case
        initial += max(market.initial(worst_case, token, interest), worst_case * least_fraction)
        if lots != 0:
            positions[symbol] = market.maintenance(notional, token, interest)

    maintenance = sum(positions.values(), Fraction(0)) + sum(borrows.values(), Fraction(0))
    initial = max(initial, exposure * least_fraction)
    liquidating = exposure > 0 and not maintenance < net_equity
    divisor, offset = venue.policy["acmf_divisor"], venue.policy["acmf_offset"]
    auto_close = max(maintenance / divisor, maintenance - offset * exposure)
    below_auto_close = liquidating and (net_equity < auto_close or net_equity <= 0)
    imr, mmr = ratio(initial, net_equity, exposure), ratio(maintenance, net_equity, exposure)
    ratios_and_tests = imr, mmr, liquidating, below_auto_close
    return Margin(net_equity, exposure, initial, maintenance, *ratios_and_tests, positions, borrows)


def profits_and_unsettled(venue: Venue, account: Account, prices: Prices) -> dict:
    """Profit of the positions that settle in an asset and what is unsettled, in its units (Net equity)."""
    amounts = {symbol: account.unsettled[symbol] * venue.assets[symbol].quantum for symbol in venue.money}
    for symbol, (lots, cost, _) in account.positions.items():
        if lots or cost:
            market = venue.markets[symbol]
            value = lots * market.lot_value(prices.marks[symbol])
            amounts[market.settle] += value - cost * venue.assets[market.settle].quantum
    return amounts


def gross(venue: Venue, account: Account, prices: Prices) -> Fraction:
    """Sum of the absolute amounts that an account's net equity is the small difference of."""
    total = Fraction(0)
    for symbol, (free, lent) in account.balances.items():
        quanta = abs(free) + lent + abs(account.unsettled.get(symbol, 0))
        if quanta:
            total += quanta * venue.assets[symbol].quantum * prices.of_asset(venue, symbol)
    for symbol, (lots, cost, _) in account.positions.items():
        if lots or cost:
            settle = venue.markets[symbol].settle
            price = prices.of_asset(venue, settle) * venue.assets[settle].quantum
            total += abs(lots) * prices.of_lot(venue, symbol) + abs(cost) * price
    return total


class SweptMargins(dict):
    """The margin of each account at the sweep, computed when it is asked for."""

    def __init__(self, venue: Venue, accounts: dict, prices: Prices):
        super().__init__()
        self.venue, self.accounts, self.prices = venue, accounts, prices
        self.prices_in_float64 = prices.in_float64()

    def __missing__(self, account_id) -> Margin:
        self[account_id] = margin(self.venue, self.accounts[account_id], self.prices)
        return self[account_id]

    def is_liquidating(self, account_id) -> bool:
        """Whether an account is liquidating: exact, unless float64 leaves no doubt that it is far from that.

        Far is a maintenance margin below 99 % of a net equity that is lowered by 1e-9 of its gross amounts: a thousand
        times what float64 can be wrong by.
        """
        account, venue, prices = self.accounts[account_id], self.venue.in_float64, self.prices_in_float64
        look = margin(venue, account, prices)
        net_equity = look.net_equity - 1000 * ROUNDING * gross(venue, account, prices)
        return not look.maintenance_margin < SURELY_HEALTHY * net_equity and self[account_id].liquidating


def sweep(venue: Venue, state: State, prices: Prices) -> dict:
    """The margin of every account."""
    prices = prices.at(venue, state)
    return {account_id: margin(venue, account, prices) for account_id, account in state.accounts.items()}
