"""A tick of a small account in a user's njit loop, against the arithmetic of one position written by hand."""

from __future__ import annotations

from math import sqrt

import numba
import numpy as np

import riskcore as rc
from riskcore import scalar

from . import _Figures, interleaved_ratio, seconds

TICKS = 1_000_000
MARKET, LOTS, ENTRY = "BTC_USDC_PERP", 100_000, 100_000.0


@numba.njit(nogil=True)
def by_rules(account: scalar.SmallAccount, market: int, marks: np.ndarray) -> int:
    """Ticks at which the account is not safe."""
    unsafe = 0
    for mark in marks:
        scalar.set_mark(account, market, mark)
        unsafe += scalar.account_status(account) != scalar.SAFE
    return unsafe


@numba.njit(nogil=True)
def by_hand(cash: float, quantity: float, entry: float, base: float, factor: float, marks: np.ndarray) -> int:
    """The same of one position whose margin function is a square root: no doubt of float64 is looked for."""
    unsafe = 0
    for mark in marks:
        notional = quantity * mark
        required = notional * max(base, factor * sqrt(notional))
        unsafe += required >= cash + notional - quantity * entry
    return unsafe


class Ratios(_Figures):
    """A mark and the status of an account with one position, a million ticks."""

    params = ["mark and status of a small account / the arithmetic by hand"]

    def setup_cache(self) -> dict[str, float | str]:
        venue = rc.load_venue("backpack")
        market = venue.markets.row[MARKET]
        account = scalar.small_account(venue, {MARKET: ENTRY}, markets=[MARKET], cash=20_000.0)
        scalar.fill_position(account, market, LOTS, ENTRY, 0)
        marks = np.round(ENTRY * np.exp(np.random.default_rng(0).normal(0, 1e-4, TICKS).cumsum()), 1)
        function = next(row for row in venue.source["markets"] if row["symbol"] == MARKET)["mmfFunction"]
        figures = 20_000.0, LOTS * 1e-5, ENTRY, float(function["base"]), float(function["factor"])
        assert by_rules(account, market, marks) == by_hand(*figures, marks)  # and compile
        rules, hand = (lambda: by_rules(account, market, marks)), (lambda: by_hand(*figures, marks))
        print(f"{min(seconds(rules) for _ in range(5)) / TICKS * 1e9:.1f} ns a tick")
        return {self.params[0]: interleaved_ratio(rules, hand, 9)}
