"""Scores and weights of the ADL policies."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .numbers import INFINITY, figure_of
from .shares import equity_share


def profit_fraction(position_value, entry) -> Fraction:
    """`pnl` (5 ADL)."""
    return (figure_of(position_value) - figure_of(entry)) / abs(figure_of(entry))


def deleveraging_score(profit, leverage) -> Fraction:
    """The score of `pnl_leverage` (5 ADL)."""
    profit, leverage = figure_of(profit), figure_of(leverage)
    return profit * leverage if profit > 0 else profit / leverage


@dataclass(frozen=True)
class Figures:
    """A counterparty's position and account at the tick's sweep, in the unit of account."""

    lots: int
    value: Any  # `q * v`, of an inverse contract with the other sign
    entry: Any
    profits: Any  # `P`
    equity: Any
    exposure: Any
    margin: Any
    position_margin: Any

    @property
    def profit(self):
        """`q * v - entry`."""
        return self.value - self.entry

    @property
    def leverage(self):
        """Exposure over equity of the account."""
        return self.exposure / self.equity

    @property
    def is_free(self) -> bool:
        """A profit with entry 0 or of the wrong sign."""
        return self.profit > 0 and self.entry * self.value <= 0


def score_by_leverage(of: Figures, leverage):
    """`pnl_leverage` and `bitmex`."""
    if of.is_free:
        return INFINITY
    return None if of.entry == 0 else deleveraging_score(profit_fraction(of.value, of.entry), leverage)


def score_bitmex(of: Figures):
    """`bitmex`: profit, and leverage against the bankruptcy price."""
    share = of.equity if of.margin == 0 else equity_share(of.equity, of.position_margin, of.margin)
    return score_by_leverage(of, abs(of.value) / share)


def score_bybit(of: Figures):
    """`bybit`: profits alone."""
    return score_by_leverage(of, of.leverage) if of.profit > 0 else None


def score_hyperliquid(of: Figures):
    """`hyperliquid`: the price change since entry, and the position's own leverage."""
    if of.is_free:
        return INFINITY
    change = of.value / of.entry if of.value > 0 else of.entry / of.value
    return change * abs(of.value) / of.equity


def score_binance(of: Figures):
    """`binance`: profit over the wallet balance, and the margin ratio."""
    return max(of.profit, 0) / max(of.equity - of.profits, 1) * of.margin / of.equity


SCORES = {  # None: takes no part
    "pnl_leverage": lambda of: score_by_leverage(of, of.leverage),
    "bitmex": score_bitmex,
    "bybit": score_bybit,
    "hyperliquid": score_hyperliquid,
    "binance": score_binance,
    "size": lambda of: abs(of.value),
    "leverage": lambda of: of.leverage,
    "bankruptcy_price": lambda of: 0,
}
WEIGHTS = {
    "pro_rata": lambda of: 1.0 * abs(of.lots),
    "capped_pro_rata": lambda of: of.equity,
    "rap_linear": lambda of: abs(of.lots) * of.leverage,
    "rap_power": lambda of: abs(of.lots) * of.leverage * of.leverage,
    "rap_tail": lambda of: abs(of.lots) * max(of.leverage - 5, 0),
}
