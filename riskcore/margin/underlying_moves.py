"""Moves of an underlying at which accounts reach 100 % under a margin model that revalues positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._typing import Float, Int
from ..boundary.threads import in_chunks
from ..market import Prices
from ..state import Accounts
from .model import model_of

_STEP, _HIGHEST = 0.01, 1_000.0  # step of the grid, and the largest factor of it
_WIDTH, _STEPS = 1e-13, 100  # relative width of a bracket that is narrow enough, and steps to get there
_ROUNDED = 1e-14  # part of a margin that a surplus may have by rounding
_PER_THREAD = 2_000  # accounts that are worth a thread


def nearest_moves(accounts: Accounts, prices: Prices, threads: int | None) -> tuple[Float, Float]:
    """Return the factors of its underlying, below and above 1, at which the account of each position reaches 100 %.

    Index, marks and forwards of one underlying, and the prices of assets that it is, are multiplied by the factor;
    options are valued again at their own volatilities; all else stays. Net equity less maintenance margin can have many
    roots: the first change of its sign on the grid is bisected. The grid goes down and up from 1 in steps of 0.01 to 2,
    from there in steps of one percent.

    Parameters
    ----------
    accounts : Accounts
        The state.
    prices : Prices
        Complete prices of one instant.
    threads : int or None
        As of `riskcore.sweep`.

    Returns
    -------
    below, above : ndarray of float64, shape (P,)
        Factors; NaN where there is none, and for rows without a position.
    """
    columns, instruments = accounts.columns, prices.venue.instruments
    below, above = np.full((2, len(columns.lots)), np.nan)
    owner, market = accounts.position_accounts(), columns.market
    of = np.where(columns.lots != 0, instruments.underlying[market], -1)
    for u in np.unique(of[of >= 0]).tolist():
        position = np.flatnonzero(of == u)
        account, place = np.unique(owner[position], return_inverse=True)
        search = _Search(accounts, prices, u, threads)
        lower, upper = search.nearest(account)
        below[position], above[position] = lower[place], upper[place]
    return below, above


class _Search:
    """The search for the moves of one underlying."""

    def __init__(self, accounts: Accounts, prices: Prices, underlying: int, threads: int | None) -> None:
        self.accounts, self.prices, self.underlying, self.threads = accounts, prices, underlying, threads
        self.model = model_of(prices.venue)
        venue = prices.venue
        self.factors = np.full(len(venue.instruments.underlyings), np.nan)
        own = [venue.instruments.underlyings[underlying] == symbol for symbol in venue.assets.symbol]
        self.is_asset = np.array(own, bool)
        markets = venue.instruments.underlying[: len(prices.mark)] == underlying
        room = (venue.markets.max_price / prices.mark)[markets & ~venue.markets.is_option]
        self.highest = float(np.nanmin(room, initial=_HIGHEST)) * (1.0 - _WIDTH)

    def figures(self, factor: float, account: Int) -> Float:
        """Margins of some accounts at a factor of the underlying, as of `MarginModel.estimate`."""
        prices, figures, status = self.moved(factor), np.empty((4, len(account))), np.empty(len(account), np.uint8)

        def part(first: int, last: int) -> None:
            chunk = slice(first, last)
            self.model.estimate(self.accounts, account[chunk], prices, figures[:, chunk], status[chunk])

        in_chunks(part, len(account), self.threads, _PER_THREAD)
        return figures

    def surplus(self, factor: float, account: Int) -> Float:
        """Net equity less maintenance margin of some accounts at a factor of the underlying."""
        equity, _, _, maintenance = self.figures(factor, account)
        return np.asarray(equity - maintenance)

    def moved(self, factor: float) -> Prices:
        """The prices at a factor of the underlying."""
        factors = self.factors.copy()
        factors[self.underlying] = factor
        assets = np.where(self.is_asset, factor, np.nan)
        return self.prices.moved(np.full(len(self.prices.mark), np.nan), assets, factors)

    def nearest(self, account: Int) -> tuple[Float, Float]:
        """Factors below and above 1 of some accounts; NaN for none."""
        now = self.surplus(1.0, account)
        found = np.full((2, len(account)), np.nan)
        for result, grid in zip(found, (_down(), _up(self.highest)), strict=True):
            left, before, last = np.arange(len(account)), now, 1.0
            for factor in grid:
                after = self.surplus(factor, account[left])
                crossed = (before > 0.0) != (after > 0.0)
                for n, start, end in zip(left[crossed], before[crossed], after[crossed], strict=True):
                    result[n] = self.root(account[n : n + 1], last, factor, float(start), float(end))
                left, before, last = left[~crossed], after[~crossed], factor
                if not len(left):
                    break
        return found[0], found[1]

    def root(self, account: Int, start: float, end: float, at_start: float, at_end: float) -> float:
        """Factor between two at which the surplus of an account changes its sign.

        By the Illinois rule of false position, with a bisection in every third step: the bracket always shrinks.
        """
        kept = 0
        for step in range(_STEPS):
            if abs(end - start) <= _WIDTH * end:
                break
            chord = end - at_end * (end - start) / (at_end - at_start)
            middle = (start + end) / 2.0 if step % 3 == 2 or not min(start, end) < chord < max(start, end) else chord
            equity, _, _, maintenance = self.figures(middle, account)[:, 0].tolist()
            value = equity - maintenance
            if abs(value) <= _ROUNDED * maintenance:
                return middle
            if (value > 0.0) == (at_end > 0.0):
                end, at_end = middle, value
                at_start /= 2.0 if kept == 1 else 1.0
                kept = 1
            else:
                start, at_start = middle, value
                at_end /= 2.0 if kept == 2 else 1.0
                kept = 2
        return end


def _down() -> Iterator[float]:
    for n in range(1, round(1.0 / _STEP)):
        yield 1.0 - n * _STEP


def _up(highest: float) -> Iterator[float]:
    factor, n = 1.0, 0
    while factor < highest:
        n += 1
        factor = min(1.0 + n * _STEP if n * _STEP <= 1.0 else factor * (1.0 + _STEP), highest)
        yield factor
