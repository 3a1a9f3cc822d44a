"""Positions and open orders of accounts, as arrays for scenario margin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import EXACT_LIMIT
from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, schemas
from .instruments import Instruments

Span = npt.NDArray[np.uint32]
Number = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class PortfolioOrders:
    """Open orders of A accounts that are not reduce-only.

    Parameters
    ----------
    span : ndarray of uint32, shape (A + 1,)
        First order of each account, and the number of orders.
    instrument : ndarray of uint16, shape (O,)
        Instrument of each order; the orders of an account ascend by `Instruments.rank`.
    size : ndarray of float64, shape (O,)
        Signed size: a sale is negative.
    price : ndarray of float64, shape (O,)
        Limit, in the unit of the instrument's mark.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.scenario import PortfolioOrders
    >>> span, instrument = np.array([0, 1], np.uint32), np.array([0], np.uint16)
    >>> PortfolioOrders(span, instrument, np.array([-1.0]), np.array([61_000.0])).size
    array([-1.])
    """

    span: Span
    instrument: Number
    size: Float
    price: Float


@dataclass(frozen=True)
class Portfolios:
    """Positions of A accounts, P in all.

    Parameters
    ----------
    span : ndarray of uint32, shape (A + 1,)
        First position of each account, and the number of positions.
    instrument : ndarray of uint16, shape (P,)
        Instrument of each position. An account has an instrument once; its positions ascend by `Instruments.rank`. An
        instrument with open orders has a row too, of size 0 if there is no position.
    size : ndarray of float64, shape (P,)
        Signed size: base units; quote units of an inverse contract; of a spot balance its units times the weight that
        they have as collateral.
    orders : PortfolioOrders, optional
        Open orders.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Instruments and equity".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, Portfolios
    >>> rows = [("BTC-PERP", "PERP", "BTC"), ("BTC", "SPOT", None)]
    >>> instruments = Instruments.from_frame(pd.DataFrame(rows, columns=["market", "kind", "underlying"]))
    >>> rows = [("ann", "BTC-PERP", -1.0), ("ann", "BTC", 1.0), ("bob", "BTC-PERP", 2.0)]
    >>> portfolios, ids = Portfolios.from_frame(instruments, pd.DataFrame(rows, columns=["account", "market", "size"]))
    >>> ids.tolist(), portfolios.span.tolist(), portfolios.size.tolist()
    (['ann', 'bob'], [0, 2, 3], [1.0, -1.0, 2.0])
    """

    span: Span
    instrument: Number
    size: Float
    orders: PortfolioOrders | None = None

    def __len__(self) -> int:
        return len(self.span) - 1

    @cached_property
    def held(self) -> Bool:
        """Whether each instrument, up to the last one that is held, has a position or order.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.scenario import Portfolios
        >>> Portfolios(np.array([0, 1], np.uint32), np.array([2], np.uint16), np.array([1.0])).held
        array([False, False,  True])
        """
        return np.bincount(self.instrument) > 0

    @classmethod
    def from_frame(
        cls, instruments: Instruments, positions: pd.DataFrame, orders: pd.DataFrame | None = None
    ) -> tuple[Portfolios, npt.NDArray[Any]]:
        """Read positions and orders from tables.

        Parameters
        ----------
        instruments : Instruments
            The instruments.
        positions : DataFrame
            The columns account, market, size (signed). Several rows of one account and market are added.
        orders : DataFrame, optional
            The columns account, market, size (signed), price.

        Returns
        -------
        tuple of Portfolios and ndarray of shape (A,)
            The portfolios, and the ids of the accounts in the order in which they first appear.

        Raises
        ------
        RiskDataError
            A value is missing or out of range, or a market is none of the instruments.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Instruments and equity".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> rows = pd.DataFrame(
        ...     [("ann", "BTC-PERP", 1.0), ("ann", "BTC-PERP", 0.5)], columns=["account", "market", "size"]
        ... )
        >>> Portfolios.from_frame(Instruments.from_frame(frame), rows)[0].size
        array([1.5])
        """
        held = schemas.checked("sizes", positions)
        placed = None if orders is None else schemas.checked("size_orders", orders)
        account = held["account"] if placed is None else pd.concat([held["account"], placed["account"]])
        numbers, ids = account.factorize()
        rank, by_rank = instruments.rank, np.argsort(instruments.rank)

        def ranks(table: str, frame: pd.DataFrame) -> Int:
            return rank[schemas.codes(table, "market", frame["market"], instruments.symbol, "an instrument")]

        rows = pd.DataFrame({"account": numbers[: len(held)], "rank": ranks("sizes", held), "size": held["size"]})
        listed = None
        if placed is not None:
            numbers = numbers[len(held) :]
            listed = pd.DataFrame({"account": numbers, "rank": ranks("size_orders", placed)})
            listed = listed.assign(size=placed["size"].to_numpy(), price=placed["price"].to_numpy())
            listed = listed.sort_values(["account", "rank"], kind="stable")
            rows = pd.concat([rows, listed[["account", "rank"]].assign(size=0.0)])
        sums = rows.groupby(["account", "rank"], sort=True)["size"].sum().reset_index()
        _require_small("sizes", sums["size"].to_numpy())

        def spans(frame: pd.DataFrame) -> Span:
            return np.searchsorted(frame["account"].to_numpy(), np.arange(len(ids) + 1)).astype(np.uint32)

        def instrument(frame: pd.DataFrame) -> Number:
            numbers: Number = by_rank[frame["rank"].to_numpy()].astype(np.uint16)
            return numbers

        portfolio_orders = None
        if listed is not None:
            _require_small("size_orders", listed["size"].to_numpy())
            portfolio_orders = PortfolioOrders(
                spans(listed), instrument(listed), listed["size"].to_numpy(), listed["price"].to_numpy()
            )
        sizes = sums["size"].to_numpy(np.float64)
        return cls(spans(sums), instrument(sums), sizes, portfolio_orders), np.asarray(ids)


def _require_small(table: str, size: Float) -> None:
    """Refuse sizes of 2**53 or more."""
    large = np.flatnonzero(~(np.abs(size) < EXACT_LIMIT))
    if large.size:
        raise RiskDataError(table, "size", "must be less than 2**53", value=float(size[large[0]]))
