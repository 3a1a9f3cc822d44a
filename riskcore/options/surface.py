"""Volatility surfaces: nodes by expiry and strike, what lies between them, and checks against arbitrage."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .._limits import LARGEST, SMALLEST
from .._typing import Float, Int
from ..boundary import RiskDataError, as_text, counted, moment, schemas, timestamps
from .black76 import black76

NANOSECONDS_PER_YEAR = 31_536_000 * 10**9
"""A year has 365 days."""

CHECKS = ("warn", "refuse", "off")
"""What `check_surface` does about violations."""

_COLUMNS = ["rule", "expiry", "strike", "log_moneyness", "excess"]
_ACCURACY = 1e-14
"""Relative accuracy of prices and of total variances: a smaller excess is no violation."""


class _Slice(NamedTuple):
    """The nodes of one expiry, by strike."""

    expiry: int
    years: float
    forward: float
    strike: Float
    volatility: Float
    log_moneyness: Float
    variance: Float
    """Total variance: volatility squared times years."""

    def at(self, log_moneyness: Float) -> Float:
        """Total variance: linear between the nodes, flat outside them."""
        return np.interp(log_moneyness, self.log_moneyness, self.variance)


@dataclass(frozen=True)
class Surface:
    """Volatilities of an underlying at a time, given at nodes.

    With ``w`` the volatility squared times the years, and ``k`` the logarithm of strike over forward: ``w`` is linear
    in ``k`` between the nodes of an expiry and flat outside them; between two expiries it is linear in time at constant
    ``k``; before the first expiry and after the last one, the volatility at constant ``k`` is that of the nearest.

    Parameters
    ----------
    underlying : str
        Name of the underlying.
    time : int
        Nanoseconds since the epoch.
    index : float
        Index of the underlying, settle units; NaN if not given.
    forward_expiry : ndarray of int64, shape (T,)
        Expiries with a forward, ascending, nanoseconds since the epoch.
    forward : ndarray of float64, shape (T,)
        Their forwards, settle units.
    node_expiry : ndarray of int64, shape (N,)
        Expiry of each node, ascending, after ``time``; each has a forward.
    node_strike : ndarray of float64, shape (N,)
        Strike of each node, settle units, ascending within an expiry.
    node_volatility : ndarray of float64, shape (N,)
        Volatility of a year at each node, >= 0.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Prices and volatilities".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.options import Surface
    >>> nodes = pd.DataFrame({"underlying": "BTC", "expiry": "2026-01-31", "strike": [55_000, 65_000]})
    >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "forward": [60_300]})
    >>> surface = Surface.read(nodes.assign(volatility=[0.60, 0.57]), "2026-01-01", terms)
    >>> surface.volatility("2026-01-31", [55_000, 60_000, 80_000]).round(4)
    array([0.6   , 0.5846, 0.57  ])
    """

    underlying: str
    time: int
    index: float
    forward_expiry: Int
    forward: Float
    node_expiry: Int
    node_strike: Float
    node_volatility: Float

    @classmethod
    def read(
        cls,
        nodes: pd.DataFrame,
        time: Any,
        terms: pd.DataFrame,
        *,
        index: Any = None,
        underlying: str | None = None,
        unit: str = "ns",
    ) -> Surface:
        """Read the surface of one underlying from tables.

        Parameters
        ----------
        nodes : DataFrame
            The columns underlying, expiry, strike, volatility. Nodes that have expired are left out.
        time : int, str, datetime or Timestamp
            Time of the tick, as of `riskcore.Tick`.
        terms : DataFrame
            The columns underlying, expiry, forward; others are not used. An expiry without nodes helps to find the
            forwards between expiries.
        index : float, optional
            Index of the underlying, settle units: its forward without any time left.
        underlying : str, optional
            Name of the underlying, by default that of the first node; other rows are left out.
        unit : {"ns", "us", "ms", "s"}
            Of whole numbers in ``time`` and in the tables.

        Returns
        -------
        Surface
            The surface.

        Raises
        ------
        RiskDataError
            A number is out of range, a node stands twice, or the expiry of a node has no forward.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Prices and volatilities".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.options import Surface
        >>> nodes = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "strike": [60_000]})
        >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "forward": [60_300]})
        >>> Surface.read(nodes.assign(volatility=[0.60]), "2026-01-01", terms).node_volatility
        array([0.6])
        """
        now = timestamps.instant("tick", time, unit)
        nodes = schemas.checked("surface", nodes, unit=unit, own_clock=True)
        terms = schemas.checked("terms", terms, unit=unit, own_clock=True)
        if underlying is None and len(nodes):
            underlying = nodes["underlying"].iloc[0]
        name = "" if underlying is None else as_text(underlying)
        level = np.nan if index is None else schemas.figure("index", index)
        if not (SMALLEST <= level <= LARGEST or np.isnan(level)):
            raise RiskDataError("index", name, f"must be from {SMALLEST} to {LARGEST}", value=level)
        nodes, terms = nodes[nodes["underlying"] == name], terms[terms["underlying"] == name]
        given = terms[terms["forward"].notna()] if "forward" in terms else terms.assign(forward=0.0).iloc[:0]
        return cls.of(
            name,
            now,
            level,
            given["expiry"].to_numpy(np.int64),
            given["forward"].to_numpy(np.float64),
            nodes["expiry"].to_numpy(np.int64),
            nodes["strike"].to_numpy(np.float64),
            nodes["volatility"].to_numpy(np.float64),
        )

    @classmethod
    def of(
        cls,
        underlying: str,
        time: int,
        index: float,
        forward_expiry: Int,
        forward: Float,
        node_expiry: Int,
        node_strike: Float,
        node_volatility: Float,
    ) -> Surface:
        """Return the surface of arrays in any order, whose numbers are in range and whose nodes are distinct.

        Parameters
        ----------
        underlying : str
            Name of the underlying.
        time : int
            Nanoseconds since the epoch.
        index : float
            Index of the underlying, settle units; NaN if not given.
        forward_expiry : ndarray of int64, shape (T,)
            Distinct expiries with a forward, nanoseconds since the epoch.
        forward : ndarray of float64, shape (T,)
            Their forwards, settle units.
        node_expiry : ndarray of int64, shape (N,)
            Expiry of each node. Nodes that have expired are left out.
        node_strike : ndarray of float64, shape (N,)
            Strike of each node, settle units.
        node_volatility : ndarray of float64, shape (N,)
            Volatility of a year at each node.

        Returns
        -------
        Surface
            The surface.

        Raises
        ------
        RiskDataError
            The expiry of a node has no forward.

        Examples
        --------
        >>> import numpy as np
        >>> from riskcore.options import Surface
        >>> month = 30 * 86_400 * 10**9
        >>> expiry, forward = np.array([month]), np.array([60_300.0])
        >>> surface = Surface.of("BTC", 0, 60_000.0, expiry, forward, expiry, np.array([60_000.0]), np.array([0.6]))
        >>> round(surface.volatility(month // 2, 70_000.0), 4)
        0.6
        """
        alive = node_expiry > time
        node_expiry, node_strike, node_volatility = node_expiry[alive], node_strike[alive], node_volatility[alive]
        without = node_expiry[~np.isin(node_expiry, forward_expiry)]
        if without.size:
            rule = f"must have a forward for {moment(int(without[0]))}, an expiry of the surface"
            raise RiskDataError("terms", "forward", rule, row=underlying)
        known, order = np.argsort(forward_expiry), np.lexsort((node_strike, node_expiry))
        return cls(
            underlying,
            time,
            index,
            forward_expiry[known],
            forward[known],
            node_expiry[order],
            node_strike[order],
            node_volatility[order],
        )

    def forward_at(self, expiry: Any) -> Any:
        """Return the forwards of expiries: log-linear in time, from the index at no time left; flat after the last.

        Parameters
        ----------
        expiry : int, str, datetime, Timestamp or array-like
            Expiries; whole numbers are nanoseconds since the epoch.

        Returns
        -------
        float or ndarray of float64
            Settle units; NaN of a surface without forwards.

        Raises
        ------
        RiskDataError
            An expiry is no time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.options import Surface
        >>> nodes = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "strike": [60_000]})
        >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "forward": [60_600]})
        >>> surface = Surface.read(nodes.assign(volatility=[0.60]), "2026-01-01T08:00", terms, index=60_000)
        >>> round(surface.forward_at("2026-01-16"), 2)
        60299.25
        """
        wanted = _nanoseconds(expiry)
        return _plain(self._forwards(np.atleast_1d(wanted)).reshape(wanted.shape))

    def total_variance(self, expiry: Any, log_moneyness: Any) -> Any:
        """Return volatility squared times years at logarithms of strike over forward; 0 without time left.

        Parameters
        ----------
        expiry : int, str, datetime, Timestamp or array-like
            Expiries; whole numbers are nanoseconds since the epoch.
        log_moneyness : float or array-like
            Logarithm of strike over forward; it broadcasts with ``expiry``.

        Returns
        -------
        float or ndarray of float64
            Total variances; NaN of a surface without nodes.

        Raises
        ------
        RiskDataError
            An expiry is no time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.options import Surface
        >>> nodes = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2027-01-01"], "strike": [60_000]})
        >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2027-01-01"], "forward": [60_600]})
        >>> surface = Surface.read(nodes.assign(volatility=[0.5]), "2026-01-01T08:00", terms)
        >>> surface.total_variance("2027-01-01", 0.0)
        0.25
        """
        expiries, moneyness = np.broadcast_arrays(_nanoseconds(expiry), np.asarray(log_moneyness, np.float64))
        return _plain(self._variance(expiries.ravel(), moneyness.ravel()).reshape(expiries.shape))

    def volatility(self, expiry: Any, strike: Any) -> Any:
        """Return the volatilities at expiries and strikes.

        Parameters
        ----------
        expiry : int, str, datetime, Timestamp or array-like
            Expiries; whole numbers are nanoseconds since the epoch.
        strike : float or array-like
            Strikes, settle units, > 0; they broadcast with ``expiry``.

        Returns
        -------
        float or ndarray of float64
            Volatilities of a year; 0 without time left, NaN of a surface without nodes.

        Raises
        ------
        RiskDataError
            An expiry is no time.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.options import Surface
        >>> nodes = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2027-01-01"], "strike": [60_000]})
        >>> terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2027-01-01"], "forward": [60_600]})
        >>> surface = Surface.read(nodes.assign(volatility=[0.5]), "2026-01-01", terms)
        >>> surface.volatility(["2027-01-01", "2027-06-01"], 70_000)
        array([0.5, 0.5])
        """
        expiries, strikes = np.broadcast_arrays(_nanoseconds(expiry), np.asarray(strike, np.float64))
        flat = expiries.ravel()
        variance = self._variance(flat, np.log(strikes.ravel() / self._forwards(flat)))
        years = self._years(flat)
        result = np.sqrt(np.divide(variance, years, out=np.zeros(flat.size), where=years > 0.0))
        return _plain(result.reshape(expiries.shape))

    def check(self) -> pd.DataFrame:
        """Return the nodes where the surface allows arbitrage.

        A calendar spread is checked at every node of two neighbouring expiries, which is exact, since total variance is
        linear between nodes and flat outside. Slopes and butterflies are checked at the strikes of an expiry alone.

        Returns
        -------
        DataFrame
            A row per violation: ``rule``, ``expiry`` (nanoseconds; the earlier one of a calendar spread), ``strike``
            and ``log_moneyness``, and the ``excess``.

            ========= =========================================================================================
            rule      excess
            ========= =========================================================================================
            calendar  total variance above that of the next expiry
            slope     undiscounted call price above that of the next lower strike, or below it by more than the
                      difference of the strikes: settle units
            butterfly undiscounted call price above the line between those of the neighbouring strikes
            ========= =========================================================================================

        Notes
        -----
        The rule: docs/scenario_margin.md, "Prices and volatilities".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.options import Surface
        >>> nodes = pd.DataFrame({"underlying": "BTC", "expiry": ["2026-02-01", "2026-03-01"], "strike": 60_000})
        >>> terms = pd.DataFrame({"underlying": "BTC", "expiry": ["2026-02-01", "2026-03-01"], "forward": 60_000})
        >>> Surface.read(nodes.assign(volatility=[0.9, 0.5]), "2026-01-01", terms).check()["rule"].tolist()
        ['calendar']
        """
        found = [row for pair in zip(self._slices, self._slices[1:], strict=False) for row in _crossings(*pair)]
        found += [row for nodes in self._slices for row in _price_violations(nodes)]
        return pd.DataFrame(found, columns=_COLUMNS).astype({"expiry": np.int64})

    @cached_property
    def _slices(self) -> tuple[_Slice, ...]:
        expiries, first = np.unique(self.node_expiry, return_index=True)
        slices = []
        for expiry, nodes in zip(expiries, np.split(np.arange(len(self.node_expiry)), first)[1:], strict=True):
            years = float(self._years(expiry))
            forward = float(self.forward[np.searchsorted(self.forward_expiry, expiry)])
            strike, volatility = self.node_strike[nodes], self.node_volatility[nodes]
            moneyness, variance = np.log(strike / forward), volatility**2 * years
            slices.append(_Slice(int(expiry), years, forward, strike, volatility, moneyness, variance))
        return tuple(slices)

    def _years(self, expiry: Int) -> Float:
        return np.maximum(expiry - self.time, 0) / NANOSECONDS_PER_YEAR

    def _forwards(self, expiry: Int) -> Float:
        later = self.forward_expiry > self.time
        known, forward = self.forward_expiry[later], self.forward[later]
        if not np.isnan(self.index):
            known, forward = np.append(self.time, known), np.append(self.index, forward)
        if not known.size:
            return np.full(expiry.shape, np.nan)
        between = np.exp(np.interp(expiry - self.time, known - self.time, np.log(forward)))
        nearest = np.minimum(np.searchsorted(known, expiry), known.size - 1)
        return np.where((nearest > 0) & (expiry < known[nearest]), between, forward[nearest])

    def _variance(self, expiry: Int, moneyness: Float) -> Float:
        """Total variance; both arguments have one dimension and one size."""
        slices, result = self._slices, np.full(expiry.size, np.nan)
        if not slices:
            return np.where(expiry <= self.time, 0.0, result)
        listed = np.array([nodes.expiry for nodes in slices])
        distinct, number = np.unique(expiry, return_inverse=True)
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(np.bincount(number, minlength=distinct.size))
        for one, rows in zip(distinct, np.split(order, ends)[:-1], strict=True):
            k, after = moneyness[rows], int(np.searchsorted(listed, one))
            if after == listed.size or (after == 0 and one != listed[0]):
                nodes = slices[min(after, listed.size - 1)]
                result[rows] = nodes.at(k) * (self._years(one) / nodes.years)
            elif one == listed[after]:
                result[rows] = slices[after].at(k)
            else:
                before, nodes = slices[after - 1], slices[after]
                share = (one - before.expiry) / (nodes.expiry - before.expiry)
                low = before.at(k)
                result[rows] = low + (nodes.at(k) - low) * share
        return result


def check_surface(surface: Surface, mode: str = "warn") -> None:
    """Warn of arbitrage in a surface, or refuse the surface.

    Parameters
    ----------
    surface : Surface
        The surface.
    mode : {"warn", "refuse", "off"}
        Whether a violation is a UserWarning, an error or nothing.

    Raises
    ------
    RiskDataError
        The mode is unknown, or it is "refuse" and `Surface.check` finds a violation.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.options import Surface, check_surface
    >>> nodes = pd.DataFrame({"underlying": "BTC", "expiry": ["2026-02-01", "2026-03-01"], "strike": 60_000})
    >>> terms = pd.DataFrame({"underlying": "BTC", "expiry": ["2026-02-01", "2026-03-01"], "forward": 60_000})
    >>> surface = Surface.read(nodes.assign(volatility=[0.9, 0.5]), "2026-01-01", terms)
    >>> check_surface(surface, "refuse")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    riskcore.boundary.errors.RiskDataError: surface.BTC: must have no arbitrage: 1 violation, ...
    """
    if mode not in CHECKS:
        raise RiskDataError("surface_check", None, f"must be one of {', '.join(CHECKS)}", value=as_text(mode))
    if mode == "off":
        return
    violations = surface.check()
    if violations.empty:
        return
    first = violations.iloc[0]
    rule = (
        f"must have no arbitrage: {counted(len(violations), 'violation')}, the first: {first['rule']} by "
        f"{first['excess']:.6g} at {moment(first['expiry'])}, strike {first['strike']:.10g}"
    )
    error = RiskDataError("surface", surface.underlying, rule)
    if mode == "refuse":
        raise error
    warnings.warn(str(error), stacklevel=2)


def _crossings(near: _Slice, far: _Slice) -> list[tuple[str, int, float, float, float]]:
    """Nodes at which the total variance of an expiry is above that of the next."""
    k = np.union1d(near.log_moneyness, far.log_moneyness)
    low, high = near.at(k), far.at(k)
    return [
        ("calendar", near.expiry, float(near.forward * np.exp(k[n])), float(k[n]), float(low[n] - high[n]))
        for n in np.flatnonzero(low > high * (1.0 + _ACCURACY))
    ]


def _price_violations(nodes: _Slice) -> list[tuple[str, int, float, float, float]]:
    """Nodes at which call prices rise with the strike, fall faster than it, or are not convex."""
    strike, doubt = nodes.strike, _ACCURACY * np.maximum(nodes.forward, nodes.strike)
    price = black76(nodes.forward, strike, nodes.volatility, nodes.years)
    step, change = np.diff(strike), np.diff(price)
    beyond = np.maximum(change, -change - step)
    line = price[:-2] + (price[2:] - price[:-2]) * (step[:-1] / (step[:-1] + step[1:]))
    above = price[1:-1] - line
    found = [("slope", n + 1, beyond[n]) for n in np.flatnonzero(beyond > doubt[1:])]
    found += [("butterfly", n + 1, above[n]) for n in np.flatnonzero(above > doubt[2:])]
    return [
        (rule, nodes.expiry, float(strike[n]), float(nodes.log_moneyness[n]), float(excess))
        for rule, n, excess in found
    ]


def _nanoseconds(expiry: Any) -> Int:
    """Expiries as whole nanoseconds, in the shape they have."""
    given = np.asarray(expiry)
    if given.dtype.kind in "iu":
        return given.astype(np.int64)
    flat = timestamps.expiries(pd.Series(np.asarray(expiry, object).ravel(), dtype=object))
    return timestamps.times("surface", flat, "expiry").reshape(given.shape)


def _plain(result: Float) -> Any:
    return result if result.shape else float(result)
