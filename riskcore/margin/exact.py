"""Margin of a single account in exact arithmetic, for accounts so near an edge that rounding would decide.

Every float64 stands for the shortest decimal that reads back as it, but the value of an option that follows from other
data stands for itself. Sums and products of those are exact in the 60 digits used here; square roots and quotients are
right to 60 digits. The value of an inverse contract is a quotient: where a venue has more than plain money, 100 digits
are used and sums are rounded to 40 places, so that what is equal on paper stays equal. 100 digits are used for options
too, whose values may have more than 60.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Literal, NamedTuple

from ..kernels.margin import BELOW_AUTO_CLOSE, LIQUIDATING, SAFE
from ..market import Prices
from ..state import Accounts
from ..venue import IMF, MMF, Venue

_CONTEXT = Context(prec=60)
_WIDE = Context(prec=100)
_PLACES = Decimal("1e-40")
_PRODUCT = Context(prec=1000)  # digits of a product of two margins, and of one with a fraction


@dataclass(frozen=True)
class ExactMargin:
    """Net equity, exposure and maintenance margin of an account in settle units, and its status.

    ``requirement`` and ``value`` hold the part of each position row in the maintenance margin and its signed value,
    ``borrowed`` the part of each balance row that is a borrow. No part is negative; they add up to the whole.
    """

    equity: Decimal
    exposure: Decimal
    maintenance: Decimal
    requirement: dict[int, Decimal]
    value: dict[int, Decimal]
    borrowed: dict[int, Decimal]
    status: int

    @property
    def mmr(self) -> float:
        """Maintenance margin ratio."""
        if not self.exposure:
            return 0.0
        return float(self.maintenance / self.equity) if self.equity > 0 else float("inf")

    def stays_healthy(self, limit: Fraction) -> bool:
        """Whether the maintenance margin ratio is under a limit, and net equity not below 0."""
        return self.equity >= 0 and (not self.exposure or self.restores(limit))

    def restores(self, limit: Fraction) -> bool:
        """Whether the maintenance margin is less than a limit times net equity."""
        least = _PRODUCT.multiply(self.maintenance, Decimal(limit.denominator))
        return least < _PRODUCT.multiply(self.equity, Decimal(limit.numerator))

    def worsened_by(self, loss: Decimal, relief: Decimal) -> bool:
        """Whether a trade that costs net equity and releases maintenance margin does not lower the ratio."""
        return _PRODUCT.multiply(loss, self.maintenance) >= _PRODUCT.multiply(relief, self.equity)


class Holding(NamedTuple):
    """What an account has in a balance or position row: its contributions to equity and exposure, and its notional.

    ``value`` is signed, in settle units, and ``equity`` the value times the weight. ``exposure`` is the notional with
    open orders, ``notional`` without. ``kind`` cash is what is unsettled less the costs of the positions that settle in
    the row's asset.
    """

    kind: Literal["collateral", "borrow", "position", "cash"]
    row: int
    item: int
    quantity: Decimal
    price: Decimal
    weight: Decimal
    value: Decimal
    equity: Decimal
    notional: Decimal
    exposure: Decimal


class _Asset(NamedTuple):
    """Quantum, price and collateral weight of an asset; ``base`` is None for the identity haircut."""

    quantum: Decimal
    price: Decimal
    weight: Decimal
    base: Decimal | None
    penalty: Decimal


class _Market(NamedTuple):
    """Value of a lot at the mark in units of the market's settle asset and in settle units, mark and lot."""

    in_money: Decimal
    value: Decimal
    mark: Decimal
    step: Decimal


class _Figures:
    """Decimals of a venue's rules at a tick's prices, each made once for all accounts."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        policy = prices.venue.policy
        self.acmf_divisor, self.acmf_offset = decimal(policy.acmf_divisor), decimal(policy.acmf_offset)
        self._assets: dict[int, _Asset] = {}
        self._markets: dict[int, _Market] = {}

    def asset(self, k: int) -> _Asset:
        if k not in self._assets:
            assets = self._prices.venue.assets
            base = assets.haircut_base[k]
            self._assets[k] = _Asset(
                decimal(assets.quantum[k]), decimal(self._prices.asset[k]), decimal(assets.weight[k]),
                None if base == float("inf") else decimal(base), decimal(assets.haircut_penalty[k]),
            )  # fmt: skip
        return self._assets[k]

    def market(self, m: int) -> _Market:
        if m not in self._markets:
            venue = self._prices.venue
            in_money, settle = value_per_lot(self._prices, m), venue.markets.settle[m]
            value = in_money
            if settle != venue.settle:
                value = _context(venue).multiply(in_money, self.asset(int(settle)).price)
            self._markets[m] = _Market(in_money, value, _mark(self._prices, m), decimal(venue.markets.step[m]))
        return self._markets[m]


def decimal(value: float | Fraction) -> Decimal:
    """Return the shortest decimal of a float64, or a fraction to 60 digits."""
    if isinstance(value, Fraction):
        return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))
    return Decimal(repr(float(value)))


def difference(before: Decimal, after: Decimal) -> Decimal:
    """Return the difference of two amounts, without rounding."""
    return _PRODUCT.subtract(before, after)


def _context(venue: Venue) -> Context:
    return _CONTEXT if venue.plain_money and not venue.markets.has_options else _WIDE


def _rounded(amount: Decimal, venue: Venue) -> Decimal:
    return amount if venue.plain_money else amount.quantize(_PLACES, context=_WIDE)


def requirement(prices: Prices, margin_function: int, notional: Decimal, price: Decimal) -> Decimal:
    """Margin that a function requires of a notional at an item's price, the mark or an asset's, in settle units."""
    markets = prices.venue.markets
    if margin_function < 2 * len(markets.symbol) and not prices.venue.plain_money:  # `Prices.token_prices`
        market = margin_function // 2
        coin = decimal(prices.asset[markets.settle[market]])
        price = coin if markets.inverse[market] else price * coin
    return prices.venue.margin_functions.requirement(margin_function, notional, price, prices.open_notional)


def value_per_lot(prices: Prices, market: int) -> Decimal:
    """Signed value of a lot at the mark, in units of the market's settle asset."""
    markets, mark = prices.venue.markets, _mark(prices, market)
    size = decimal(markets.exact_lot_size[market])
    return _WIDE.divide(-size, mark) if markets.inverse[market] else _context(prices.venue).multiply(size, mark)


def _mark(prices: Prices, market: int) -> Decimal:
    """Mark of a market; the value of an option that follows from other data is the float64 itself."""
    venue, mark = prices.venue, float(prices.mark[market])
    model = venue.scenario_model
    by_model = venue.markets.is_option[market] and (model is None or model.price_source == "model")
    return Decimal(mark) if by_model else decimal(mark)


def price_per_lot(prices: Prices, market: int) -> Decimal:
    """Notional of a lot at the mark, in settle units."""
    settle = prices.venue.markets.settle[market]
    price = _WIDE.multiply(value_per_lot(prices, market).copy_abs(), decimal(prices.asset[settle]))
    return _rounded(price, prices.venue)


def collateral_weight(prices: Prices, asset: int, quantity: Decimal) -> Decimal:
    """Weight of a balance of an asset at its size."""
    figures = prices.folded(_Figures).asset(asset)
    if figures.base is None:
        return figures.weight
    size = quantity * figures.price if prices.venue.policy.haircut_size_unit == "notional" else quantity
    return min(figures.weight, figures.base / (1 + figures.penalty * size.sqrt()))


def holdings(accounts: Accounts, account: int, prices: Prices) -> list[Holding]:
    """Balances, borrows and positions of an account, by the rules of `riskcore.kernels.margin.account_margin`.

    In a money asset that is not the venue's settle asset, the weight of everything is that of the sum of balance,
    unsettled amount and profit and loss, and 1 where the sum is below zero.
    """
    venue, columns = prices.venue, accounts.columns
    figures = prices.folded(_Figures)
    rows: list[Holding] = []
    positions: list[tuple[int, int, int, int]] = []
    zero, one = Decimal(0), Decimal(1)
    with localcontext(_context(venue)):
        worth = dict.fromkeys(accounts.balances_of(account), zero)  # of the positions, in units of their settle asset
        for i in accounts.positions_of(account):
            m, lots = int(columns.market[i]), int(columns.lots[i])
            worst_case = abs(lots)
            if columns.open_orders[account]:
                worst_case = max(worst_case, abs(lots + int(columns.open_bid[i])), abs(lots - int(columns.open_ask[i])))
            if worst_case:
                positions.append((i, m, lots, worst_case))
                if not venue.plain_money:
                    worth[int(columns.position_balance[i])] += lots * figures.market(m).in_money
        weights = {}
        for j in accounts.balances_of(account):
            k = int(columns.asset[j])
            free, lent = int(columns.free[j]), int(columns.lent[j])
            cash_minus_cost = int(columns.unsettled[j]) - int(columns.balance_cost[j])
            weights[j] = one
            if not (free or lent or cash_minus_cost or worth[j]):
                continue
            quantum, price = figures.asset(k)[:2]
            if free < 0:
                owed = -free * quantum
                notional = owed * price
                rows.append(Holding("borrow", j, k, -owed, price, one, -notional, -notional, notional, notional))
            quantity, cash = (max(free, 0) + lent) * quantum, cash_minus_cost * quantum
            weight = one
            if k in venue.money[1:]:
                total = quantity + worth[j] + cash
                weight = weights[j] = one if total < 0 else collateral_weight(prices, k, total)
            elif quantity:
                weight = collateral_weight(prices, k, quantity)
            if quantity:
                value = quantity * price
                rows.append(Holding("collateral", j, k, quantity, price, weight, value, value * weight, zero, zero))
            if cash:
                value = cash * price
                rows.append(Holding("cash", j, k, cash, price, weights[j], value, value * weights[j], zero, zero))

        for i, m, lots, worst_case in positions:
            weight, market = weights[int(columns.position_balance[i])], figures.market(m)
            value, quantity = lots * market.value, lots * market.step
            rows.append(
                Holding(
                    "position", i, m, quantity, market.mark, weight, value, value * weight, abs(value),
                    worst_case * abs(market.value),
                )
            )  # fmt: skip
    return rows


def account_margin(accounts: Accounts, account: int, prices: Prices) -> ExactMargin:
    """Margin of one account."""
    venue = prices.venue
    markets = len(venue.markets.symbol)
    with localcontext(_context(venue)):
        equity = exposure = maintenance = Decimal(0)
        requirements, value, borrowed = {}, {}, {}
        for holding in holdings(accounts, account, prices):
            equity += holding.equity
            exposure += holding.exposure
            if not holding.notional:
                continue
            item = holding.item if holding.kind == "position" else markets + holding.item
            required = requirement(prices, 2 * item + MMF, holding.notional, holding.price)
            maintenance += required
            if holding.kind == "position":
                requirements[holding.row], value[holding.row] = (
                    _rounded(required, venue),
                    _rounded(holding.value, venue),
                )
            else:
                borrowed[holding.row] = _rounded(required, venue)
    status = status_of(prices, equity, exposure, maintenance)
    equity, exposure, maintenance = (_rounded(amount, venue) for amount in (equity, exposure, maintenance))
    return ExactMargin(equity, exposure, maintenance, requirements, value, borrowed, status)


def status_of(prices: Prices, equity: Decimal, exposure: Decimal, maintenance: Decimal) -> int:
    """Status of an account: SAFE, LIQUIDATING or BELOW_AUTO_CLOSE."""
    venue, figures = prices.venue, prices.folded(_Figures)
    with localcontext(_context(venue)):
        if not exposure or _rounded(maintenance - equity, venue) < 0:
            return SAFE
        auto_close = max(maintenance / figures.acmf_divisor, maintenance - figures.acmf_offset * exposure)
        is_above = _rounded(equity, venue) > 0 and _rounded(auto_close - equity, venue) <= 0
    return LIQUIDATING if is_above else BELOW_AUTO_CLOSE


def covers_initial_margin(accounts: Accounts, account: int, prices: Prices) -> bool:
    """Whether the initial margin ratio of an account is under 1, and its net equity not below 0."""
    limit, markets = float(accounts.leverage_limit[account]), len(prices.venue.markets.symbol)
    with localcontext(_context(prices.venue)):
        leverage_fraction = Decimal(0) if limit == float("inf") else 1 / decimal(limit)
        equity = exposure = initial = Decimal(0)
        for holding in holdings(accounts, account, prices):
            equity += holding.equity
            exposure += holding.exposure
            if holding.exposure:
                is_position = holding.kind == "position"
                margin_function = 2 * (holding.item if is_position else markets + holding.item) + IMF
                initial += max(
                    requirement(prices, margin_function, holding.exposure, holding.price),
                    holding.exposure * leverage_fraction * is_position,
                )
        room = _rounded(equity - max(initial, exposure * leverage_fraction), prices.venue)
        return room > 0 or (not exposure and room >= 0)


def equity_share(margin: ExactMargin, requirement: Decimal, equity: Decimal | Fraction) -> Fraction:
    """Part of ``equity`` that a position or borrow gives up at its zero price: that of its maintenance margin."""
    if not margin.maintenance:
        return Fraction(0)
    return Fraction(equity) * Fraction(requirement) / Fraction(margin.maintenance)


def zero_price_flow(margin: ExactMargin, row: int, equity: Decimal | Fraction, band: Fraction, unit: Fraction) -> int:
    """Quanta of the settle asset of its market that closing a position at its zero price brings the account.

    They are worth its value less its equity share; ``unit`` is the value of a quantum in settle units. With equity
    below zero the price lies beyond the mark, by at most ``band`` of it.
    """
    value = Fraction(margin.value[row])
    share = max(equity_share(margin, margin.requirement[row], equity), -band * abs(value))
    return round((value - share) / unit)
