"""Converts times of users to nanoseconds since the epoch; they must be of the years 2000 to 2200."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd

from .._limits import INT64_MAX, INT64_MIN
from .._typing import Int
from .errors import RiskDataError
from .escaping import as_text
from .frames import missing

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
"""Nanoseconds of each unit that whole-number times may be in."""

_UNIT_NAMES = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
_EARLIEST, _END = pd.Timestamp("2000-01-01", tz="UTC"), pd.Timestamp("2201-01-01", tz="UTC")
_REPRESENTABLE = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
_FIRST_NS, _END_NS = (stamp.value for stamp in (_EARLIEST, _END))


def _fit_int64(values: pd.Series[Any]) -> pd.Series[bool]:
    return (values >= INT64_MIN) & (values <= INT64_MAX)


def times(
    table: str,
    values: pd.Series[Any],
    column: str = "time",
    rows: Int | None = None,
    *,
    unit: str = "ns",
    own_clock: bool = False,
) -> Int:
    """Nanoseconds since the epoch, UTC: from timestamps, from ISO text, or from whole numbers in a unit.

    Parameters
    ----------
    table, column
        Where the values stand.
    values
        The times.
    rows
        Row numbers of the values, where they are not all of the column.
    unit
        Of whole numbers, one of `UNITS`.
    own_clock
        Take whole nanoseconds and timestamps that are outside the years 2000 to 2200: for what belongs to a tick whose
        own time is (`instant`).

    Raises
    ------
    RiskDataError
        A value is no time, or is outside the years 2000 to 2200; the message names the unit that would fit.
    """
    if not isinstance(unit, str) or unit not in UNITS:
        raise RiskDataError("unit", None, f"must be one of {', '.join(UNITS)}", value=as_text(unit))
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    original, kind = values, pd.api.types.infer_dtype(values, skipna=False)
    if kind == "integer":
        fits = _fit_int64(values) if own_clock else _within(values, unit)
        nanoseconds = values.to_numpy(np.int64) * UNITS[unit] if fits.all() else None
    else:
        if kind != "string" and not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.astype(object).map(lambda v: v if isinstance(v, str | date | np.datetime64) else pd.NaT)
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.mask(values.isin(["now", "today"]))  # pandas reads them as the time of the call
        stamps = pd.DatetimeIndex(pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce"))
        first, end = _REPRESENTABLE if own_clock else (_EARLIEST, _END)
        fits = (stamps >= first) & (stamps < end)
        nanoseconds = stamps.as_unit("ns").asi8 if fits.all() else None
    if nanoseconds is None:
        none = missing(original)
        row = int(np.flatnonzero(none if none.any() else ~np.asarray(fits))[0])
        row_number, value = row if rows is None else int(rows[row]), original.iloc[row]
        rule = "must not be missing" if none.any() else _no_time(value, unit)
        raise RiskDataError(table, column, rule, row=row_number, value=as_text(value))
    return nanoseconds


def _within(number: Any, unit: str) -> Any:
    """Whether a number, or each of a column, is a time of the years 2000 to 2200 in a unit."""
    return (number >= _FIRST_NS // UNITS[unit]) & (number < _END_NS // UNITS[unit])


def _unit_of(number: Any) -> str | None:
    """Unit in which a number is a time of the years 2000 to 2200."""
    return next((unit for unit in UNITS if _within(number, unit)), None)


def _no_time(value: object, unit: str) -> str:
    """Rule that a value breaks which is no time, and advice."""
    rule = f"must be a timestamp, ISO text or whole {_UNIT_NAMES[unit]} since the epoch, from 2000 to 2200"
    whole = isinstance(value, int | np.integer)
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.integer | np.floating):
        return rule
    try:
        number: object = value if whole else float(value)
    except ValueError:
        return rule
    if not whole:
        rule += f"; the value is {'text' if isinstance(value, str) else 'a float'}, not a whole number"
    fitting = _unit_of(number)
    if fitting not in (None, unit):
        rule += f'; looks like {_UNIT_NAMES[fitting]}: pass unit="{fitting}", on the command line --time-unit {fitting}'
    return rule


def instant(table: str, value: Any, unit: str = "ns", before: int | None = None) -> int:
    """Nanoseconds of one time, as of `times`, or of a clock that starts at 0, which `riskcore.Tick` explains.

    ``before`` is the time before it, None for the first.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and unit == "ns":
        number = int(value)
        if _within(number, "ns") or _on_own_clock(number, before):
            return number
    return int(times(table, pd.Series([value], dtype=object), unit=unit)[0])


def expiry(table: str, value: Any, unit: str = "ns") -> int:
    """Nanoseconds of one expiry of a contract, as of `instant`; a day without a time is `EXPIRY_TIME` of it."""
    return instant(table, _with_time(value), unit)


def expiries(values: pd.Series[Any]) -> pd.Series[Any]:
    """Expiries of contracts, days without a time at `EXPIRY_TIME`; other values are left as they are.

    Whole numbers beside a missing one, which pandas makes floats of, are whole numbers again if no digit is lost.
    """
    if values.dtype.kind not in "Of" and not pd.api.types.is_string_dtype(values.dtype):
        return values
    # not Series.map, which makes floats of whole numbers beside a missing one
    return pd.Series([_with_time(value) for value in values], values.index, dtype=object)


EXPIRY_TIME = "T08:00Z"
"""Time of the day, UTC, at which contracts expire if their expiry is a day alone."""


def _with_time(value: Any) -> Any:
    if isinstance(value, str):
        return value + EXPIRY_TIME if len(value) == len("2026-03-27") and "T" not in value else value
    if isinstance(value, float):  # whole seconds in nanoseconds are multiples of 2**9, so float64 has them exactly
        return int(value) if value.is_integer() and (abs(value) < 2**53 or value % 10**9 == 0) else value
    return f"{value}{EXPIRY_TIME}" if isinstance(value, date) and not isinstance(value, datetime) else value


def _on_own_clock(value: int, before: int | None) -> bool:
    """Whether whole nanoseconds outside the years 2000 to 2200 are of a clock that starts at 0."""
    if before is None:
        possible = 0 <= value < _FIRST_NS // UNITS["us"] and not _within(value, "ms")
    else:
        possible = has_own_clock(before) and before <= value < _FIRST_NS
    return possible and (value % UNITS["s"] == 0 or _unit_of(value) is None)


def has_own_clock(nanoseconds: int) -> bool:
    """Whether the time of a tick is of a clock that starts at 0, not at the epoch."""
    return nanoseconds < _FIRST_NS


def _times_if_given(table: str, values: pd.Series[Any], column: str, unit: str, own_clock: bool) -> Int:
    """Nanoseconds as of `times`, 0 where there is none."""
    rows = np.flatnonzero(~missing(values))
    nanoseconds = np.zeros(len(values), np.int64)
    nanoseconds[rows] = times(table, values.iloc[rows], column, rows, unit=unit, own_clock=own_clock)
    return nanoseconds


def moment(nanoseconds: int) -> str:
    """Return the text of a time, for messages.

    Parameters
    ----------
    nanoseconds : int
        Nanoseconds since the epoch.

    Returns
    -------
    str
        Date, time and offset, UTC.

    Examples
    --------
    >>> from riskcore.boundary import moment
    >>> moment(1_760_130_000_000_000_000)
    '2025-10-10 21:00:00+00:00'
    """
    return str(pd.Timestamp(nanoseconds, tz="UTC"))
