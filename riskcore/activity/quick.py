"""Single fills without the table: written one behind the other, and taken into the journal together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels import activity as kernels
from ..margin import folded
from ..state import NOBODY_OPENED
from ..venue import Venue
from .account import Fill
from .carry import CarriedOut, Hands
from .read import Actions, entry_price

_ACTIONS, _ROWS = 1024, 4096  # that are kept before they are handed on
_NEAR = 8 * float(np.finfo(float).eps)


class Start(NamedTuple):
    """What fills begin with: state and rules, number of the tick before, and their time."""

    hands: Hands
    tick: int
    time: int


class _Trade(NamedTuple):
    """Figures of a market: row, lot, size of a lot, whether it is inverse, and units of its settle asset."""

    market: int
    step: float
    size: float
    is_inverse: bool
    quantum: float
    unit: tuple[int, int]
    lot: tuple[int, int]


class QuickFills:
    """Fills of one account each, of plain numbers, that nothing is wrong with.

    Parameters
    ----------
    start : callable
        Returns what fills begin with, after `close`.
    done : callable
        Takes fills that were carried out.
    """

    def __init__(self, start: Callable[[], Start], done: Callable[[CarriedOut], None]) -> None:
        self._start, self._done = start, done
        self._begun: Start | None = None
        self._is_checked = False
        self._count = self._rows = 0
        self._matrix = np.empty((_ACTIONS, kernels.ACTION_WIDTH), np.int64)
        self._written = np.empty((_ROWS, kernels.ROW_WIDTH), np.int64)
        self._price = np.empty(_ACTIONS)
        self._progress = np.zeros(kernels.PROGRESS_SIZE, np.int64)
        self._arguments: tuple[Any, ...] = ()
        self._trades: dict[str, _Trade] = {}
        self._venue: Venue | None = None

    def fill(self, row: int, symbol: str, quantity: float, price: float, fee: float, is_checked: bool) -> Fill | None:
        """Carry out a fill of an account row; None, and nothing has changed, where the table has to decide."""
        if self._begun is None or is_checked is not self._is_checked or self._count == _ACTIONS:
            self._begin(is_checked)
        trade = self._trades.get(symbol)
        if trade is None or type(quantity) is not float or type(price) is not float or type(fee) is not float:
            return None
        market, step, size, is_inverse, quantum, unit, lot = trade
        ratio, charged = quantity / step, fee / quantum
        if not (-1e9 < ratio < 1e9 and 0.0 < price < 1e15 and -1e15 < charged < 1e15):
            return None
        lots, fee_quanta = round(ratio), round(charged)
        value = -lots * size / price / quantum if is_inverse else lots * size * price / quantum
        if lots == 0 or abs(ratio - lots) > 1e-6 or not -1e15 < value < 1e15:
            return None
        cost = round(value)
        # where rounding of float64 could decide, the table's reader does
        if 0.5 - abs(value - cost) <= abs(value) * _NEAR + 1e-9 or 0.5 - abs(charged - fee_quanta) <= (
            abs(charged) * _NEAR + 1e-9
        ):
            return None
        n, progress, written = self._count, self._progress, self._written
        self._matrix[n] = kernels.FILL, row, market, -1, -1, -1, lots, -cost, fee_quanta, 0
        columns, orders, rules, pooled, reduce_only, prices = self._arguments
        r = self._rows
        kernels.carry_out(
            n, n + 1, False, self._matrix, columns, orders, rules, pooled, reduce_only, prices, written, progress
        )
        if progress[kernels.STATUS] != kernels.DONE:
            kernels.take_back(r, self._matrix, columns, orders, written, progress)
            return None
        self._price[n] = price
        self._count, self._rows = n + 1, int(progress[kernels.WRITTEN])
        entry, _, _, _, held, held_entry = written[r, kernels.R_ENTRY :].tolist()
        assert self._venue is not None
        average = entry_price(self._venue, market, held_entry, held) if held else float("nan")
        return Fill((entry - cost) * unit[0] / unit[1], average, held * lot[0] / lot[1])

    def close(self) -> None:
        """Hand on what was carried out."""
        begun, count = self._begun, self._count
        if begun is None:
            return
        self._begun = None
        if count:
            matrix, price = self._matrix[:count].copy(), self._price[:count].copy()
            written = self._written[: self._rows].copy()
            time = np.full(count, begun.time)
            actions = Actions(matrix, time, price, None, NOBODY_OPENED, [], lambda row, column: None)
            accounts = matrix[:, kernels.ACCOUNT]
            reason = "request" if self._is_checked else "host"
            self._done(CarriedOut(actions, written, begun.tick, reason, accounts, False, begun.hands.venue))

    def _begin(self, is_checked: bool) -> None:
        self.close()
        self._begun = begun = self._start()
        hands, venue = begun.hands, begun.hands.venue
        self._is_checked, self._count, self._rows = is_checked, 0, 0
        if venue is not self._venue:
            self._venue, self._trades = venue, _trades(venue)
        state, prices = hands.state, folded(hands.checked_prices) if is_checked else None
        self._arguments = (
            state.columns, state.orders.columns, hands.rules, venue.pooled, hands.reduce_only.of(state), prices
        )  # fmt: skip
        self._progress[:] = 0


def _trades(venue: Venue) -> dict[str, _Trade]:
    """Figures of the markets by symbol."""
    markets, assets = venue.markets, venue.assets
    trades = {}
    for m, symbol in enumerate(markets.symbol):
        quantum, step = assets.quantum[markets.settle[m]], markets.step[m]
        trades[symbol] = _Trade(
            m, float(step), float(markets.lot_size[m]), bool(markets.inverse[m]), float(quantum),
            (quantum.numerator, quantum.denominator), (step.numerator, step.denominator),
        )  # fmt: skip
    return trades
