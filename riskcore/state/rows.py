"""Rows of positions, balances and orders in whole numbers, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Whole = npt.NDArray[np.integer[Any]]
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
    reduce_only: npt.NDArray[np.bool_]


def _key(owner: Whole, kind: Whole, width: int) -> Int:
    """One number of a row that sorts by owner, then by market or asset."""
    return owner.astype(np.int64) * width + kind
