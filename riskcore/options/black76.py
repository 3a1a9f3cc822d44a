"""Prices, Greeks and implied volatilities of European options, over numbers, arrays and columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .._limits import LARGEST, SMALLEST
from .._typing import Bool, Float
from ..boundary import RiskDataError, schemas
from ..kernels.black76 import black76_greeks_of_all, black76_values, implied_volatilities

_LEAST = {
    "value": -LARGEST, "forward": 0.0, "strike": SMALLEST, "volatility": 0.0, "years": 0.0, "discount": SMALLEST,
}  # fmt: skip


class Greeks(NamedTuple):
    """Value and Greeks of one unit of options, forward and interest rate held.

    Parameters
    ----------
    value : float, ndarray or Series
        Settle units.
    delta : float, ndarray or Series
        Change of the value per 1 of the forward.
    gamma : float, ndarray or Series
        Change of the delta per 1 of the forward.
    vega : float, ndarray or Series
        Change of the value per 1.00 of volatility.
    theta : float, ndarray or Series
        Change of the value per day that passes.

    Examples
    --------
    >>> from riskcore.options import greeks
    >>> round(greeks(60_000, 65_000, 0.60, 30 / 365).delta, 6)
    0.352226
    """

    value: Any
    delta: Any
    gamma: Any
    vega: Any
    theta: Any


def black76(forward: Any, strike: Any, volatility: Any, years: Any, discount: Any = 1.0, right: Any = "C") -> Any:
    """Return the value of one unit of European options on a forward, by the formula of Black (1976).

    The arguments broadcast as those of a NumPy function do. A NaN gives a NaN.

    Parameters
    ----------
    forward : float, array-like or Series
        Forward of the expiry, settle units, >= 0.
    strike : float, array-like or Series
        Strike, settle units, > 0.
    volatility : float, array-like or Series
        Volatility of a year, >= 0; 0.6 is 60 %.
    years : float, array-like or Series
        Time to expiry in years of 365 days, >= 0.
    discount : float, array-like or Series
        Discount factor, > 0.
    right : {"C", "P"}, array-like or Series
        Call or put.

    Returns
    -------
    float, ndarray or Series
        Settle units: a float of numbers, a Series where an argument is one. Without time or without volatility it is
        the discounted intrinsic value. A value is within 1e-14 of the discounted larger one of forward and strike.

    Raises
    ------
    RiskDataError
        A number is out of range, a right is neither "C" nor "P", shapes do not broadcast, or indexes differ.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Prices and volatilities".

    Examples
    --------
    >>> from riskcore.options import black76
    >>> round(black76(60_000, 65_000, 0.60, 30 / 365), 6)
    2237.868155
    >>> black76(60_000, [55_000, 65_000], 0.60, 0.0, right="P")
    array([   0., 5000.])
    """
    read = _Arguments(right, forward=forward, strike=strike, volatility=volatility, years=years, discount=discount)
    value = np.empty(read.size)
    black76_values(*[*read.columns, value])
    return read.shaped(value)


def greeks(forward: Any, strike: Any, volatility: Any, years: Any, discount: Any = 1.0, right: Any = "C") -> Greeks:
    """Return the value and the Greeks of one unit of European options on a forward.

    The arguments broadcast as those of a NumPy function do. A NaN gives a NaN.

    Parameters
    ----------
    forward : float, array-like or Series
        Forward of the expiry, settle units, >= 0.
    strike : float, array-like or Series
        Strike, settle units, > 0.
    volatility : float, array-like or Series
        Volatility of a year, >= 0.
    years : float, array-like or Series
        Time to expiry in years of 365 days, >= 0.
    discount : float, array-like or Series
        Discount factor, > 0; delta, gamma, vega and theta hold it.
    right : {"C", "P"}, array-like or Series
        Call or put.

    Returns
    -------
    Greeks
        Value, delta, gamma, vega and theta, each as `black76` returns a value. Without time or without volatility the
        delta of a call is the discount factor times 1, 1/2 or 0 and the others are 0. An option whose price is paid in
        coin is hedged in coin by ``delta - value / forward``.

    Raises
    ------
    RiskDataError
        As of `black76`.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Prices and volatilities".

    Examples
    --------
    >>> from riskcore.options import greeks
    >>> value, delta, gamma, vega, theta = greeks(60_000, 65_000, 0.60, 30 / 365)
    >>> round(vega, 6), round(theta, 6)
    (6386.044859, -63.860449)
    """
    read = _Arguments(right, forward=forward, strike=strike, volatility=volatility, years=years, discount=discount)
    columns = [np.empty(read.size) for _ in Greeks._fields]
    black76_greeks_of_all(*read.columns, *columns)
    return Greeks(*(read.shaped(column) for column in columns))


def implied_volatility(value: Any, forward: Any, strike: Any, years: Any, discount: Any = 1.0, right: Any = "C") -> Any:
    """Return the volatility at which `black76` gives a value.

    The arguments broadcast as those of a NumPy function do. The root is bracketed and bisected down to neighbouring
    floats. In the money the value has the intrinsic value in it, so the volatility has the digits that remain.

    Parameters
    ----------
    value : float, array-like or Series
        Value of one unit, settle units.
    forward : float, array-like or Series
        Forward of the expiry, settle units, >= 0.
    strike : float, array-like or Series
        Strike, settle units, > 0.
    years : float, array-like or Series
        Time to expiry in years of 365 days, >= 0.
    discount : float, array-like or Series
        Discount factor, > 0.
    right : {"C", "P"}, array-like or Series
        Call or put.

    Returns
    -------
    float, ndarray or Series
        The least volatility of a year that gives the value; NaN where none does: the value is below the intrinsic
        value, at or above that of an infinite volatility, or there is no time.

    Raises
    ------
    RiskDataError
        As of `black76`.

    Examples
    --------
    >>> from riskcore.options import implied_volatility
    >>> round(implied_volatility(2_237.8681554, 60_000, 65_000, 30 / 365), 9)
    0.6
    """
    read = _Arguments(right, value=value, forward=forward, strike=strike, years=years, discount=discount)
    volatility = np.empty(read.size)
    implied_volatilities(*[*read.columns, volatility])
    return read.shaped(volatility)


class _Arguments:
    """Arguments of a function over arrays: checked, of one shape, and the form that the result has."""

    def __init__(self, right: Any, **numbers: Any) -> None:
        arrays: list[Any] = [_numbers(name, given) for name, given in numbers.items()]
        arrays.append(_is_call(right))
        try:
            arrays = list(np.broadcast_arrays(*arrays))
        except ValueError:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise RiskDataError("options", None, f"must have shapes that broadcast together, not {shapes}") from None
        self.shape: tuple[int, ...] = arrays[0].shape
        self.index = _index_of({**numbers, "right": right}, self.shape)
        self.columns = [array.ravel() for array in arrays]
        self.size = self.columns[0].size

    def shaped(self, result: Float) -> Any:
        """Return a result as a float, an array or a Series."""
        if self.index is not None:
            return pd.Series(result, self.index)
        return result.reshape(self.shape) if self.shape else float(result[0])


def _numbers(name: str, given: Any) -> Float:
    """Numbers of an argument; a NaN is one."""
    try:
        if isinstance(given, pd.Series) and given.dtype.kind in "fiu":
            array = given.to_numpy(np.float64, na_value=np.nan)
        else:
            plain = np.asarray(given)
            if plain.dtype.kind == "O":  # decimals, whole numbers past 64 bits
                plain = np.array([schemas.number(one) for one in plain.flat]).reshape(plain.shape)
            elif plain.dtype.kind not in "fiu":
                raise ValueError
            array = plain.astype(np.float64)
    except (TypeError, ValueError):
        raise RiskDataError("options", name, "must be numbers") from None
    outside = (array < _LEAST[name]) | (array > LARGEST)
    if outside.any():
        row = int(outside.argmax())
        rule = f"must be from {_LEAST[name]} to {LARGEST}"
        raise RiskDataError("options", name, rule, row=row if array.ndim else None, value=float(array.flat[row]))
    return array


def _is_call(right: Any) -> Bool:
    """Whether each right is a call."""
    rights = np.asarray(right, object)
    is_call = np.asarray(rights == "C", np.bool_)
    wrong = ~(is_call | np.asarray(rights == "P", np.bool_))
    if wrong.any():
        row = int(wrong.argmax())
        value = rights.flat[row]
        raise RiskDataError("options", "right", "must be C or P", row=row if rights.ndim else None, value=value)
    return is_call


def _index_of(arguments: dict[str, Any], shape: tuple[int, ...]) -> pd.Index[Any] | None:
    """Index that the Series among the arguments have, None without one."""
    series = {name: given for name, given in arguments.items() if isinstance(given, pd.Series)}
    if not series:
        return None
    first, *others = series.values()
    for name, other in zip(list(series)[1:], others, strict=True):
        if not other.index.equals(first.index):
            raise RiskDataError("options", name, f"must have the index of {next(iter(series))}")
    if shape != (len(first),):
        raise RiskDataError("options", None, f"must have one number or {len(first)} beside a Series, not {shape}")
    return first.index
