"""The data of a tick that scenario margin needs, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import LARGEST, SMALLEST
from .._typing import Float, Int
from ..boundary import RiskDataError, as_text, schemas, timestamps
from ..options import Surface, check_surface
from .instruments import Instruments, Kind

Numbers = Mapping[str, Any] | npt.NDArray[Any] | None
"""Numbers by name, or an array in the order of the names."""

NANOSECONDS_PER_HOUR = 3_600 * 10**9
NANOSECONDS_PER_YEAR = 8_760 * NANOSECONDS_PER_HOUR
"""A year has 365 days."""


@dataclass(frozen=True)
class ScenarioMarket:
    """Prices, forwards, volatilities and confidences of a tick; NaN where the tick has none.

    Parameters
    ----------
    time : int
        Nanoseconds since the epoch, UTC.
    index : ndarray of float64, shape (U,)
        Index of each underlying, settle units.
    mark : ndarray of float64, shape (M,)
        Mark of each perpetual and future, settle units per base unit; price of the asset of a spot balance; mark of an
        option in settle units, in coin for one that is settled in coin.
    forward : ndarray of float64, shape (N,)
        Forward of each term, settle units.
    rate : ndarray of float64, shape (N,)
        Interest rate of each term, continuously compounded, of a year.
    average : ndarray of float64, shape (N,)
        Average of the index since the settlement window of the term began, settle units; NaN outside it.
    forward_confidence, rate_confidence, volatility_confidence : ndarray of float64, shape (N,)
        Confidence in the feeds of each term, 0 to 1.
    volatility : ndarray of float64, shape (M,)
        Volatility of each option, 0.6 is 60 % a year; NaN for other instruments.
    confidence, perpetual_confidence : ndarray of float64, shape (U,)
        Confidence in the index, and in the price of the perpetual, of each underlying, 0 to 1.
    own_confidence : ndarray of float64, shape (M,)
        Confidence in the price of the asset of a spot balance, 0 to 1; 1 for other instruments.
    funding : ndarray of float64, shape (M,)
        Next funding payment of a long perpetual, per unit of size, in the unit of the requirement.
    stable : float
        Price of the stable coin that accounts settle in, US dollars.
    surfaces : tuple of Surface or None
        Volatility surface of each underlying; empty if the tick gives none.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Prices and volatilities".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, ScenarioMarket
    >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
    >>> instruments = Instruments.from_frame(frame)
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_030.0})
    >>> market.mark
    array([60030.])
    """

    time: int
    index: Float
    mark: Float
    forward: Float
    rate: Float
    average: Float
    forward_confidence: Float
    rate_confidence: Float
    volatility_confidence: Float
    volatility: Float
    confidence: Float
    perpetual_confidence: Float
    own_confidence: Float
    funding: Float
    stable: float = 1.0
    surfaces: tuple[Surface | None, ...] = ()

    @classmethod
    def read(
        cls,
        instruments: Instruments,
        time: Any,
        *,
        index: Numbers = None,
        marks: Numbers = None,
        volatilities: Numbers = None,
        terms: pd.DataFrame | None = None,
        surface: pd.DataFrame | None = None,
        surface_check: str = "warn",
        underlyings: pd.DataFrame | None = None,
        asset_confidences: Numbers = None,
        funding: Numbers = None,
        stable_price: float = 1.0,
        unit: str = "ns",
    ) -> ScenarioMarket:
        """Read the data of a tick, check it, and fill in forwards.

        Parameters
        ----------
        instruments : Instruments
            The M instruments, on U underlyings and N terms.
        time : int, str, datetime or Timestamp
            Time of the tick, as of `riskcore.Tick`.
        index : mapping of str to float, or ndarray of shape (U,), optional
            Index of each underlying; ``underlyings`` may have it instead.
        marks : mapping of str to float, or ndarray of shape (M,), optional
            Marks by symbol; of a spot balance the price of its asset, by default the index of its underlying.
        volatilities : mapping of str to float, or ndarray of shape (M,), optional
            Volatilities of options by symbol.
        terms : DataFrame, optional
            The columns underlying, expiry, and any of forward, rate, average, forward_confidence, rate_confidence,
            volatility_confidence. Expiries that no instrument has serve to fill in forwards.
        surface : DataFrame, optional
            The columns underlying, expiry, strike, volatility: nodes of volatility surfaces, which give the options
            without a volatility of their own one (`riskcore.options.Surface`).
        surface_check : {"warn", "refuse", "off"}
            What to do about arbitrage in a surface, as of `riskcore.options.check_surface`.
        underlyings : DataFrame, optional
            The columns underlying, and any of index, confidence, perpetual_confidence.
        asset_confidences : mapping of str to float, or ndarray of shape (M,), optional
            Confidences of spot balances by symbol.
        funding : mapping of str to float, or ndarray of shape (M,), optional
            Next funding payment of a long by symbol of a perpetual.
        stable_price : float
            Price of the stable coin in US dollars, > 0.
        unit : {"ns", "us", "ms", "s"}
            Of whole numbers in ``time``, ``terms`` and ``surface``.

        Returns
        -------
        ScenarioMarket
            The data. A forward that is missing is the mark of the future of that expiry; else it is log-linear in time
            between the nearest expiries that have one; else NaN.

        Raises
        ------
        RiskDataError
            A number is out of range or of an unknown name, an expiry of a surface has no forward, or a surface that is
            to be refused has an arbitrage.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Prices and volatilities".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket
        >>> rows = [("C", "OPTION", "BTC", "2026-01-31", 65_000.0, "C")]
        >>> names = ["market", "kind", "underlying", "expiry", "strike", "right"]
        >>> instruments = Instruments.from_frame(pd.DataFrame(rows, columns=names))
        >>> near = {"underlying": "BTC", "expiry": "2026-01-01", "forward": 60_000.0}
        >>> far = {"underlying": "BTC", "expiry": "2026-03-02", "forward": 60_600.0}
        >>> market = ScenarioMarket.read(instruments, "2026-01-01", terms=pd.DataFrame([near, far]))
        >>> round(float(market.forward[0]), 2)
        60299.25
        """
        now = timestamps.instant("tick", time, unit)
        rows = {symbol: row for row, symbol in enumerate(instruments.symbol)}
        by_underlying = {name: row for row, name in enumerate(instruments.underlyings)}
        table = _by_rows("underlyings", underlyings, by_underlying, unit)
        levels = _numbers("index", index, by_underlying, SMALLEST)
        levels = np.where(np.isnan(levels), _column(table, "index", len(by_underlying)), levels)
        mark = _numbers("marks", marks, rows, SMALLEST)
        is_spot = (instruments.kind == Kind.SPOT) & (instruments.underlying >= 0)
        own_index = np.where(is_spot, np.append(levels, np.nan)[instruments.underlying], np.nan)
        mark = np.where(np.isnan(mark), own_index, mark)
        payments = _numbers("funding", funding, rows, -LARGEST)
        confidences = _numbers("asset_confidences", asset_confidences, rows, 0.0, 1.0)
        volatility = _numbers("volatilities", volatilities, rows, 0.0)
        volatility[instruments.kind != Kind.OPTION] = np.nan
        stable = schemas.figure("stable_price", stable_price)
        if not SMALLEST <= stable <= LARGEST:
            raise RiskDataError("stable_price", None, f"must be from {SMALLEST} to {LARGEST}", value=stable)

        count = len(instruments.term_expiry)
        given, others = _read_terms(instruments, terms, unit)
        forward = _column(given, "forward", count)
        future = (instruments.kind == Kind.FUTURE) & np.isfinite(mark)
        from_future = np.full(count, np.nan)
        from_future[instruments.term[future]] = mark[future]
        forward = _between(instruments, np.where(np.isnan(forward), from_future, forward), others)
        surfaces: list[Surface | None] = [None] * len(instruments.underlyings)
        node_table = _by_rows("surface", surface, by_underlying, unit)
        for u in np.unique(node_table.index.to_numpy(np.int64)):
            nodes = node_table.loc[[u]]
            known = (instruments.term_underlying == u) & np.isfinite(forward)
            expiry, level = _forwards_of(u, others)
            surfaces[u] = read = Surface.of(
                instruments.underlyings[u],
                now,
                float(levels[u]),
                np.append(instruments.term_expiry[known], expiry),
                np.append(forward[known], level),
                nodes["expiry"].to_numpy(np.int64),
                nodes["strike"].to_numpy(np.float64),
                nodes["volatility"].to_numpy(np.float64),
            )
            check_surface(read, surface_check)
            is_option = (instruments.kind == Kind.OPTION) & (instruments.underlying == u)
            lacking = np.flatnonzero(is_option & np.isnan(volatility))
            expiry = instruments.term_expiry[instruments.term[lacking]]
            volatility[lacking] = read.volatility(expiry, instruments.strike[lacking])
        return cls(
            time=now,
            index=levels,
            mark=mark,
            forward=forward,
            rate=_column(given, "rate", count, 0.0),
            average=_column(given, "average", count),
            forward_confidence=_column(given, "forward_confidence", count, 1.0),
            rate_confidence=_column(given, "rate_confidence", count, 1.0),
            volatility_confidence=_column(given, "volatility_confidence", count, 1.0),
            volatility=volatility,
            confidence=_column(table, "confidence", len(by_underlying), 1.0),
            perpetual_confidence=_column(table, "perpetual_confidence", len(by_underlying), 1.0),
            own_confidence=np.where(np.isnan(confidences), 1.0, confidences),
            funding=np.nan_to_num(payments),
            stable=stable,
            surfaces=tuple(surfaces),
        )

    def years(self, instruments: Instruments) -> Float:
        """Return the time to expiry of each term.

        Parameters
        ----------
        instruments : Instruments
            The instruments, of N terms.

        Returns
        -------
        ndarray of float64, shape (N,)
            Years of 365 days, >= 0.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket
        >>> frame = pd.DataFrame(
        ...     {"market": ["F"], "kind": ["DATED"], "underlying": ["BTC"], "expiry": ["2027-01-01T00:00Z"]}
        ... )
        >>> instruments = Instruments.from_frame(frame)
        >>> ScenarioMarket.read(instruments, "2026-01-01").years(instruments)
        array([1.])
        """
        left = np.maximum(instruments.term_expiry - self.time, 0)
        return left / NANOSECONDS_PER_YEAR


def _numbers(table: str, source: Numbers, rows: Mapping[str, int], low: float, high: float = LARGEST) -> Float:
    """Numbers in the order of the rows of their names, NaN where there is none."""
    column = np.full(len(rows), np.nan)
    if isinstance(source, np.ndarray):
        if source.shape != column.shape or source.dtype.kind not in "fiu":
            rule = f"must be {len(rows)} numbers, not {source.dtype} of shape {source.shape}"
            raise RiskDataError(table, None, rule)
        column[:] = source
    else:
        for key, value in (source or {}).items():
            name = as_text(key)
            if name not in rows:
                raise RiskDataError(table, name, "must be one of the instruments or underlyings", value=value)
            column[rows[name]] = schemas.figure(f"{table}.{name}", value)
    wrong = np.flatnonzero(~((low <= column) & (column <= high) | np.isnan(column)))
    if wrong.size:
        rule = f"must be from {low} to {high}"
        raise RiskDataError(table, list(rows)[wrong[0]], rule, value=float(column[wrong[0]]))
    return column


def _by_rows(table: str, frame: pd.DataFrame | None, rows: Mapping[str, int], unit: str) -> pd.DataFrame:
    """A table by underlying, with the number of the underlying as its index; others are left out."""
    if frame is None:
        return pd.DataFrame(index=pd.Index([], dtype=np.int64))
    checked = schemas.checked(table, frame, unit=unit, own_clock=True)
    known = checked[checked["underlying"].isin(list(rows))]
    return known.set_index(known["underlying"].map(dict(rows)).astype(np.int64))


def _column(table: pd.DataFrame, name: str, count: int, default: float = np.nan) -> Float:
    """A column of a table in the order of its index, with a default where there is no number."""
    column = np.full(count, default)
    if name in table:
        values = table[name].dropna()
        column[values.index.to_numpy(np.int64)] = values.to_numpy(np.float64)
    return column


def _read_terms(instruments: Instruments, frame: pd.DataFrame | None, unit: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the terms, with the number of the term as their index, and rows of expiries that no instrument has."""
    table = _by_rows("terms", frame, {name: row for row, name in enumerate(instruments.underlyings)}, unit)
    keys = zip(instruments.term_underlying.tolist(), instruments.term_expiry.tolist(), strict=True)
    numbers = {key: number for number, key in enumerate(keys)}
    expiries = table["expiry"].tolist() if len(table) else []
    number = np.array([numbers.get(key, -1) for key in zip(table.index.tolist(), expiries, strict=True)], np.int64)
    return table[number >= 0].set_index(number[number >= 0]), table[number < 0]


def _between(instruments: Instruments, forward: Float, others: pd.DataFrame) -> Float:
    """Forwards: where there was none, log-linear in time between the nearest expiries that have one."""
    result = forward.copy()
    of, expiry = instruments.term_underlying, instruments.term_expiry
    for u in np.unique(of[np.isnan(forward)]):
        known = (of == u) & np.isfinite(forward)
        extra = _forwards_of(u, others)
        time, level = np.append(expiry[known], extra[0]), np.append(forward[known], extra[1])
        missing = np.flatnonzero((of == u) & np.isnan(forward))
        if time.size:
            order = np.argsort(time)
            first = time[order[0]]
            inside = [float(t - first) for t in time[order]], np.log(level[order])
            at = (expiry[missing] - first).astype(np.float64)
            result[missing] = np.exp(np.interp(at, *inside, left=np.nan, right=np.nan))
    return result


def _forwards_of(underlying: int, others: pd.DataFrame) -> tuple[Int, Float]:
    """Expiries of an underlying that no instrument has but that have a forward, and the forwards."""
    if "forward" not in others:
        return np.empty(0, np.int64), np.empty(0)
    rows = others[(others.index == underlying) & others["forward"].notna()]
    return rows["expiry"].to_numpy(np.int64), rows["forward"].to_numpy(np.float64)
