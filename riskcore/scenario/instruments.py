"""What a portfolio can hold: perpetuals, futures, options and spot balances, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import MAX_ROWS
from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, schemas


class Kind(IntEnum):
    """Kind of an instrument.

    Attributes
    ----------
    PERPETUAL, FUTURE, OPTION
        Perpetual future, dated future, European option.
    SPOT
        Balance of an asset as collateral, or a borrow of it, which is negative.

    Examples
    --------
    >>> from riskcore.scenario import Kind
    >>> Kind(2).name
    'OPTION'
    """

    PERPETUAL = 0
    FUTURE = 1
    OPTION = 2
    SPOT = 3


_FUTURES = (Kind.PERPETUAL, False), (Kind.PERPETUAL, True), (Kind.FUTURE, False), (Kind.FUTURE, True)
_KINDS = dict(zip(schemas.KINDS, (*_FUTURES, (Kind.OPTION, False), (Kind.SPOT, False)), strict=True))


@dataclass(frozen=True)
class Instruments:
    """The M instruments of a venue, on U underlyings, in any order.

    Parameters
    ----------
    symbol : tuple of str, length M
        Names.
    kind : ndarray of uint8, shape (M,)
        `Kind`.
    inverse : ndarray of bool, shape (M,)
        Of a perpetual or future: its contract is an amount of the quote unit, and profit and loss are in coin. Of an
        option: it is settled and priced in coin.
    underlying : ndarray of int64, shape (M,)
        Row of ``underlyings``; -1 for a spot balance of an asset that is no underlying.
    underlyings : tuple of str, length U
        Names of the underlyings.
    expiry : ndarray of int64, shape (M,)
        Nanoseconds since the epoch, UTC; 0 if the instrument never expires.
    strike : ndarray of float64, shape (M,)
        Settle units per base unit; NaN if the instrument is no option.
    is_call : ndarray of bool, shape (M,)
        Whether an option is a call.
    contract : ndarray of float64, shape (M,)
        Size of one contract: base units, quote units of an inverse perpetual or future.

    Raises
    ------
    RiskDataError
        There are more than 65,534 instruments, which is what two bytes number.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Instruments and equity".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments
    >>> rows = [("BTC-PERP", "PERP", "BTC", None, None, None)]
    >>> rows += [("BTC-60000-P", "OPTION", "BTC", "2026-03-27T08:00Z", 60_000.0, "P")]
    >>> names = ["market", "kind", "underlying", "expiry", "strike", "right"]
    >>> instruments = Instruments.from_frame(pd.DataFrame(rows, columns=names))
    >>> instruments.kind.tolist(), instruments.term.tolist()
    ([0, 2], [-1, 0])
    """

    symbol: tuple[str, ...]
    kind: npt.NDArray[np.uint8]
    inverse: Bool
    underlying: Int
    underlyings: tuple[str, ...]
    expiry: Int
    strike: Float
    is_call: Bool
    contract: Float

    def __post_init__(self) -> None:
        if len(self.symbol) > MAX_ROWS:
            raise RiskDataError("instruments", None, f"must be at most {MAX_ROWS}", value=len(self.symbol))

    def __len__(self) -> int:
        return len(self.symbol)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, underlyings: Sequence[str] = ()) -> Instruments:
        """Read instruments from a table.

        Parameters
        ----------
        frame : DataFrame
            The columns market and kind (PERP, IPERP, DATED, IDATED, OPTION or SPOT), and where the kind has them
            underlying (of SPOT the market's own name by default, if that is an underlying), expiry, strike, right (C or
            P), settles_in_coin (of an option, default false) and contract (default 1).
        underlyings : sequence of str
            Underlyings that come first, whether or not a row is of them.

        Returns
        -------
        Instruments
            The instruments, in the order of the rows.

        Raises
        ------
        RiskDataError
            A value is missing, of another kind, or out of range.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Instruments and equity".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments
        >>> Instruments.from_frame(pd.DataFrame({"market": ["BTC-C"], "kind": ["OPTION"], "underlying": ["BTC"]}))
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: instruments.expiry, row 0: must be given for OPTION
        """
        table = schemas.checked("instruments", frame, own_clock=True)
        count = len(table)

        def column(name: str, default: Any) -> Any:
            return table[name] if name in table else pd.Series([default] * count)

        kinds = table["kind"].tolist()
        given = [None if pd.isna(name) else str(name) for name in column("underlying", None)]
        expiry, strike = column("expiry", 0).to_numpy(np.int64), column("strike", np.nan).to_numpy(np.float64)
        right, in_coin = column("right", None).tolist(), column("settles_in_coin", None).tolist()
        for row, kind in enumerate(kinds):
            is_option, expires = kind == "OPTION", kind in ("DATED", "IDATED", "OPTION")
            _must_match("underlying", given[row] is not None, kind != "SPOT", kind, row, optional=kind == "SPOT")
            _must_match("expiry", bool(expiry[row]), expires, kind, row)
            _must_match("strike", not np.isnan(strike[row]), is_option, kind, row)
            _must_match("right", not pd.isna(right[row]), is_option, kind, row)
            if is_option and right[row] not in ("C", "P"):
                raise RiskDataError("instruments", "right", "must be C or P", row=row, value=right[row])
            if in_coin[row] is True and not is_option:
                rule = f"must be given for OPTION alone, not for {kind}"
                raise RiskDataError("instruments", "settles_in_coin", rule, row=row)
        symbols = tuple(table["market"].tolist())
        names = tuple(dict.fromkeys([*underlyings, *(name for name in given if name is not None)]))
        rows = {name: row for row, name in enumerate(names)}
        contract = column("contract", 1.0).to_numpy(np.float64)
        return cls(
            symbol=symbols,
            kind=np.array([_KINDS[kind][0] for kind in kinds], np.uint8),
            inverse=np.array([_KINDS[k][1] or coin is True for k, coin in zip(kinds, in_coin, strict=True)], bool),
            underlying=np.array(
                [rows.get(symbol if name is None else name, -1) for symbol, name in zip(symbols, given, strict=True)],
                np.int64,
            ),
            underlyings=names,
            expiry=expiry,
            strike=strike,
            is_call=np.array([each == "C" for each in right], bool),
            contract=np.where(np.isnan(contract), 1.0, contract),
        )

    @cached_property
    def _terms(self) -> tuple[Int, Int, Int]:
        """Term of each instrument, and underlying and expiry of each term."""
        dated = np.flatnonzero(self.expiry != 0)
        keys = np.stack([self.underlying[dated], self.expiry[dated]], axis=1)
        terms, number = np.unique(keys, axis=0, return_inverse=True)
        term = np.full(len(self), -1, np.int64)
        term[dated] = number.reshape(-1)
        return term, np.ascontiguousarray(terms[:, 0]), np.ascontiguousarray(terms[:, 1])

    @property
    def term(self) -> Int:
        """Term of each instrument: an expiry of an underlying; -1 for none; int64, shape (M,).

        Examples
        --------
        >>> from riskcore.scenario import Instruments
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> Instruments.from_frame(frame).term
        array([-1])
        """
        return self._terms[0]

    @property
    def term_underlying(self) -> Int:
        """Underlying of each of the N terms, by underlying, then by expiry; int64, shape (N,).

        Examples
        --------
        >>> from riskcore.scenario import Instruments
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"market": ["F"], "kind": ["DATED"], "underlying": ["BTC"], "expiry": ["2026-03-27"]})
        >>> Instruments.from_frame(frame).term_underlying
        array([0])
        """
        return self._terms[1]

    @property
    def term_expiry(self) -> Int:
        """Expiry of each of the N terms, nanoseconds; int64, shape (N,).

        Examples
        --------
        >>> from riskcore.scenario import Instruments
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"market": ["F"], "kind": ["DATED"], "underlying": ["BTC"], "expiry": ["2026-03-27"]})
        >>> Instruments.from_frame(frame).term_expiry
        array([1774598400000000000])
        """
        return self._terms[2]

    @cached_property
    def rank(self) -> Int:
        """Place of each instrument in the order of an account's rows; int64, shape (M,).

        Spot balances come first. Then by underlying: perpetuals, futures by expiry, options by expiry and strike, a put
        before the call. Instruments that are alike stand in the order of their rows.

        Examples
        --------
        >>> from riskcore.scenario import Instruments
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"market": ["BTC-PERP", "BTC"], "kind": ["PERP", "SPOT"], "underlying": ["BTC", None]})
        >>> Instruments.from_frame(frame).rank
        array([1, 0])
        """
        class_rank = np.where(self.kind == Kind.SPOT, -1, self.kind)
        strike = np.nan_to_num(self.strike)
        order = np.lexsort((self.is_call, strike, self.expiry, class_rank, self.underlying, self.kind != Kind.SPOT))
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self))
        return rank


def _must_match(column: str, given: bool, needed: bool, kind: str, row: int, *, optional: bool = False) -> None:
    """Refuse a value that a kind of instrument needs and has not, or has and does not need."""
    if given != needed and not optional:
        rule = f"must be given for {kind}" if needed else f"must not be given for {kind}"
        raise RiskDataError("instruments", column, rule, row=row)
