"""Rows of positions, balances and orders in whole numbers, and their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import Bool, Int, Whole

Rows = tuple[Whole, Whole, Int, Int]
PositionRows = tuple[Whole, Whole, Int, Int, Int]


@dataclass(frozen=True)
class Orders:
    """Open orders (O rows) ascending by account, market, bids first, price. ``lots`` 0 means cancelled."""

    account: Int
    market: Int
    side: Int
    price: Int
    lots: Int
    reduce_only: Bool


def _key(owner: Whole, kind: Whole, width: int) -> Int:
    """Sort key of a row: by owner, then by market or asset."""
    return owner.astype(np.int64) * width + kind
