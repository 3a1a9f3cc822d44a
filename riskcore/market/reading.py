"""Reads numbers by symbol or by time, each checked against its range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import LARGEST, SMALLEST
from .._typing import Float, Int
from ..boundary import RiskDataError, as_text, frames, schemas

PriceMap: TypeAlias = "Mapping[str, float] | pd.Series[float]"
PriceVector: TypeAlias = "PriceMap | Float"


@lru_cache(maxsize=16)
def no_prices(rows: int) -> Float:
    """NaN for every row, shared: nobody writes to the prices of a tick."""
    return np.full(rows, np.nan)


@lru_cache(maxsize=16)
def no_lots(rows: int) -> Int:
    """0 for every row, shared as `no_prices`."""
    return np.zeros(rows, np.int64)


def _pairs(table: str, prices: PriceMap | None) -> Iterable[tuple[Any, Any]]:
    """Names and prices of a mapping or a Series."""
    if prices is None:
        return ()
    if isinstance(prices, pd.Series):
        return zip(prices.index.tolist(), prices.tolist(), strict=True)
    mapping: object = prices
    if not isinstance(mapping, Mapping):
        raise RiskDataError(table, None, f"must be a mapping or a Series by symbol, not {type(prices).__name__}")
    return mapping.items()


class Rule(NamedTuple):
    """Range of a number, both ends included, and the text of the rule.

    Attributes
    ----------
    lowest, highest : float
        The range.
    text : str
        Text of a message, as it stands after the name of the number.

    Examples
    --------
    >>> from riskcore.market import Rule
    >>> Rule(0.0, 1.0, "must be from 0 to 1").text
    'must be from 0 to 1'
    """

    lowest: float
    highest: float
    text: str

    def broken_by(self, value: float) -> str:
        """Return the text of the rule that a number breaks.

        Parameters
        ----------
        value : float
            A number outside the range.

        Returns
        -------
        str
            ``text``, or the bound that the number is beyond where it is of the right kind.

        Examples
        --------
        >>> from riskcore.market import Rule
        >>> Rule(1e-9, 1.0, "must be a number > 0 and at most 1").broken_by(1e-12)
        'must be at least 1e-09'
        """
        if LARGEST < value < math.inf and self.highest == LARGEST:
            return f"must be at most {LARGEST}"
        return f"must be at least {self.lowest}" if 0.0 < value < self.lowest else self.text


POSITIVE = Rule(SMALLEST, LARGEST, "must be a finite number > 0")
NOT_NEGATIVE = Rule(0.0, LARGEST, "must be a finite number >= 0")
_RATE = Rule(-1.0, 1.0, "must be a number from -1 to 1")


def by_symbol(
    table: str, prices: PriceVector | None, rows: Mapping[str, int], what: str, rule: Rule = POSITIVE
) -> Float:
    """Return numbers of a mapping or a Series in the order of the rows of their names; NaN where there is none.

    Parameters
    ----------
    table : str
        Name of the numbers, for the message.
    prices : mapping of str to float, Series, ndarray or None
        Numbers by name, or an array of N numbers, which stand in the order of the rows already.
    rows : mapping of str to int
        Row of each of N names.
    what : str
        Kind of the names, for the message.
    rule : Rule
        Range of the numbers.

    Returns
    -------
    ndarray of float64, shape (N,)
        The numbers.

    Raises
    ------
    RiskDataError
        It is none of these, names something else, or a number breaks the rule.

    Examples
    --------
    >>> from riskcore.market import by_symbol
    >>> by_symbol("marks", {"SOL": 195.0}, {"BTC": 0, "SOL": 1}, "a market").tolist()
    [nan, 195.0]
    >>> by_symbol("marks", {"SOL": -1.0}, {"BTC": 0, "SOL": 1}, "a market")
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: marks.SOL, value -1.0: must be a finite number > 0
    """
    if isinstance(prices, np.ndarray):
        return _column(table, prices, rows, rule)
    column = no_prices(len(rows))
    if prices is None or (isinstance(prices, dict) and not prices):
        return column
    column = column.copy()
    for key, price in prices.items() if type(prices) is dict else _pairs(table, prices):
        name = key if type(key) is str else as_text(key)
        row = rows.get(name)
        if row is None:
            raise RiskDataError(table, as_text(name), f"must be {what} of the venue", value=price)
        try:
            value = price if type(price) is float else schemas.number(price)
        except ValueError:
            raise RiskDataError(table, name, "must be a number", value=as_text(price)) from None
        if not rule.lowest <= value <= rule.highest:
            raise RiskDataError(table, name, rule.broken_by(value), value=value)
        column[row] = value
    return column


def _column(table: str, values: npt.NDArray[Any], rows: Mapping[str, int], rule: Rule) -> Float:
    """Check an array of numbers in the order of the rows, NaN for none."""
    if values.shape != (len(rows),) or values.dtype.kind not in "fiu":
        text = f"must be {len(rows)} numbers, in the order of the venue, not {values.dtype} of shape {values.shape}"
        raise RiskDataError(table, None, text)
    column = values.astype(np.float64)
    is_wrong = ~((rule.lowest <= column) & (column <= rule.highest) | np.isnan(column))
    if np.count_nonzero(is_wrong):
        row = int(is_wrong.argmax())
        value = float(column[row])
        raise RiskDataError(table, list(rows)[row], rule.broken_by(value), value=value)
    return column


def first_bad_bar(mark: Float, low: Float, high: Float) -> tuple[int, bool, str] | None:
    """Return the first bar that breaks a rule.

    Parameters
    ----------
    mark, low, high : ndarray of float64, shape (N,)
        Marks and the ends of their bars, NaN where there is none.

    Returns
    -------
    tuple of int, bool and str, or None
        Its row, whether its high breaks the rule, and the rule; None if no bar does.

    Notes
    -----
    The rule: docs/one_tick.md, "Mark".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.market import first_bad_bar
    >>> first_bad_bar(np.array([100.0]), np.array([99.0]), np.array([99.5]))
    (0, True, 'must not be below the mark')
    """
    if low is high:  # no market has a bar
        return None
    has_low, has_high = ~np.isnan(low), ~np.isnan(high)
    for bad, of_high, rule in (
        (has_low & ~has_high, False, "needs a high: a bar has both ends"),
        (has_high & ~has_low, True, "needs a low: a bar has both ends"),
        (has_low & np.isnan(mark), False, "needs a mark: a bar is that of the time up to the mark"),
        (low > mark, False, "must not be above the mark"),
        (high < mark, True, "must not be below the mark"),
    ):
        if bad.any():
            return int(bad.argmax()), of_high, rule
    return None


def by_time(table: str, frame: pd.DataFrame, rows: Mapping[str, int], what: str, rule: Rule = POSITIVE) -> Float:
    """Numbers of a frame with a column per name and a row per instant, as of `by_symbol`; NaN where there is none.

    Raises
    ------
    RiskDataError
        As `by_symbol`, and which row it is.
    """
    target = [rows.get(as_text(name), -1) for name in frame.columns]
    result = np.full((len(frame), len(rows)), np.nan)
    are_numbers = (pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype) for dtype in frame.dtypes)
    numbers = frame.to_numpy(np.float64, na_value=np.nan) if all(are_numbers) else result[:, :0]
    fits = (rule.lowest <= numbers) & (numbers <= rule.highest) | np.isnan(numbers)
    if numbers.shape[1] == len(set(target)) and -1 not in target and np.all(fits):
        result[:, target] = numbers
    else:  # an error, or another type of column: row by row, which finds the error's row
        for n, (time, values) in enumerate(zip(frame.index, frame.to_numpy(object), strict=True)):
            row = pd.Series(values, frame.columns, dtype=object)
            with of_row(time):
                result[n] = by_symbol(table, row[~frames.missing(row)], rows, what, rule)
    return result


@contextmanager
def of_row(time: Any) -> Iterator[None]:
    """Add the row of the instant to an error."""
    try:
        yield
    except RiskDataError as error:
        row = f"time {time}" if isinstance(time, pd.Timestamp) else time
        raise RiskDataError(error.table, error.column, error.rule, row=row, value=error.value) from None
