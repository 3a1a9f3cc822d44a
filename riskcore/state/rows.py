"""Rows of positions, balances and orders in whole numbers, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._typing import AnyInt, Bool, Float, Int
from ..boundary import units
from ..venue import Units

Rows = tuple[AnyInt, AnyInt, Int, Int, Int]
PositionRows = tuple[AnyInt, AnyInt, Int, Int, Int]


@dataclass(frozen=True)
class Orders:
    """Open orders (O rows) ascending by account, market, bids first, price.

    Attributes
    ----------
    account, market : ndarray of int64, shape (O,)
        Account row and market row.
    side : ndarray of int64, shape (O,)
        1 of a bid, -1 of an ask.
    price : ndarray of int64, shape (O,)
        Ticks.
    lots : ndarray of int64, shape (O,)
        Lots; 0 of a cancelled order.
    reduce_only : ndarray of bool, shape (O,)
        Whether the order can only reduce a position.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue, market = rc.load_venue("backpack"), "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": [1], "market": market, "quantity": [10.0], "entry_price": 200.0})
    >>> balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [80.0]})
    >>> orders = pd.DataFrame({"account": [1], "market": market, "side": "ask", "price": [210.0], "quantity": 2.0})
    >>> orders = rc.Accounts.from_frames(venue, positions, balances, orders).orders
    >>> orders.side.tolist(), orders.price.tolist(), orders.lots.tolist()
    ([-1], [21000], [200])
    """

    account: Int
    market: Int
    side: Int
    price: Int
    lots: Int
    reduce_only: Bool


def costs(table: str, column: str, price: Float, lots: Int, market: AnyInt, venue_units: Units) -> Int:
    """Values of positions at prices in whole quanta of their markets' settle assets, halves to even: what they cost."""
    step, multiplier, quantum = (units.PerKind(size, market) for size in venue_units.market_sizes)
    factors: list[units.Numbers] = [price, lots, step]
    if (multiplier.values != 1.0).any():
        factors.append(multiplier)
    if not any(venue_units.inverse):
        return units.round_half_even(table, column, factors, quantum)
    is_inverse = np.array(venue_units.inverse)[market]
    factors[0] = np.where(is_inverse, 1.0, price)
    value = units.round_half_even(table, column, factors, quantum, np.where(is_inverse, price, 1.0))
    return np.where(is_inverse, -value, value)


class Opened(NamedTuple):
    """Accounts that are opened.

    Attributes
    ----------
    ids : ndarray, shape (N,)
        Their ids, in the order of opening; none is that of another account.
    leverage_limit : ndarray of float64, shape (N,)
        +inf without a limit.
    owner_ids : ndarray, shape (N,)
        Ids of their owners.

    Examples
    --------
    >>> from riskcore.state import Opened
    >>> len(Opened.of([9], [5.0], [9]).ids)
    1
    """

    ids: npt.NDArray[Any]
    leverage_limit: Float
    owner_ids: npt.NDArray[Any]

    @classmethod
    def of(cls, ids: Sequence[int | str], leverage_limit: Sequence[float], owner_ids: Sequence[int | str]) -> Opened:
        """Return accounts of ids of one kind.

        Parameters
        ----------
        ids, leverage_limit, owner_ids : sequence
            As the attributes.

        Returns
        -------
        Opened
            The accounts.

        Examples
        --------
        >>> from riskcore.state import Opened
        >>> Opened.of(["ann"], [5.0], ["ann"]).owner_ids.tolist()
        ['ann']
        """
        kind = np.int64 if ids and isinstance(ids[0], int) else object
        return cls(np.array(ids, kind), np.array(leverage_limit, np.float64), np.array(owner_ids, kind))


NOBODY_OPENED = Opened.of([], [], [])


def _rows_of(span: npt.NDArray[np.uint32], accounts: Int) -> tuple[Int, Int]:
    """Rows that some accounts own, one account after another, and the number of each."""
    first, end = span[accounts].astype(np.int64).T
    counts = end - first
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(first, counts) + within, counts


def _key(owner: AnyInt, kind: AnyInt, width: int) -> Int:
    """Sort key of a row: by owner, then by market or asset."""
    return owner.astype(np.int64) * width + kind
