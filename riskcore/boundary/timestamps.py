"""Times of users in nanoseconds since the epoch, held to the years 2000 to 2200 and to a unit that is told."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .errors import RiskDataError
from .escaping import text_of
from .frames import missing

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
"""Nanoseconds of each unit that whole-number times may be in."""

_UNIT_NAMES = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
_EARLIEST, _END = pd.Timestamp("2000-01-01", tz="UTC"), pd.Timestamp("2201-01-01", tz="UTC")
_REPRESENTABLE = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
_FIRST, _PAST = (stamp.value for stamp in (_EARLIEST, _END))  # the same in nanoseconds


def _fit_int64(values: pd.Series[Any]) -> pd.Series[bool]:
    return (values >= -(2**63)) & (values <= 2**63 - 1)


def times(
    table: str,
    values: pd.Series[Any],
    column: str = "time",
    rows: npt.NDArray[np.int64] | None = None,
    *,
    unit: str = "ns",
    own_clock: bool = False,
) -> npt.NDArray[np.int64]:
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
        raise RiskDataError("unit", None, f"must be one of {', '.join(UNITS)}", value=text_of(unit))
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    given, kind = values, pd.api.types.infer_dtype(values, skipna=False)
    if kind == "integer":
        fits = _fit_int64(values) if own_clock else _within(values, unit)
        found = values.to_numpy(np.int64) * UNITS[unit] if fits.all() else None
    else:
        if kind != "string" and not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.astype(object).map(lambda v: v if isinstance(v, str | date | np.datetime64) else pd.NaT)
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.mask(values.isin(["now", "today"]))  # pandas reads them as the time of the call
        stamps = pd.DatetimeIndex(pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce"))
        first, end = _REPRESENTABLE if own_clock else (_EARLIEST, _END)
        fits = (stamps >= first) & (stamps < end)
        found = stamps.as_unit("ns").asi8 if fits.all() else None
    if found is None:
        none = missing(given)
        row = int(np.flatnonzero(none if none.any() else ~np.asarray(fits))[0])
        at, value = row if rows is None else int(rows[row]), given.iloc[row]
        rule = "must not be missing" if none.any() else _no_time(value, unit)
        raise RiskDataError(table, column, rule, row=at, value=text_of(value))
    return found


def _within(number: Any, unit: str) -> Any:
    """Whether a number, or each of a column, is a time of the years 2000 to 2200 in a unit."""
    return (number >= _FIRST // UNITS[unit]) & (number < _PAST // UNITS[unit])


def _unit_of(number: Any) -> str | None:
    """Unit in which a number is a time of the years 2000 to 2200."""
    return next((unit for unit in UNITS if _within(number, unit)), None)


def _no_time(value: object, unit: str) -> str:
    """What is wrong with a value that is no time, and what to do."""
    rule = f"must be a timestamp, ISO text or whole {_UNIT_NAMES[unit]} since the epoch, from 2000 to 2200"
    whole = isinstance(value, int | np.integer)
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.integer | np.floating):
        return rule
    try:
        number: object = value if whole else float(value)
    except ValueError:
        return rule
    if not whole:
        rule += f"; it is {'text' if isinstance(value, str) else 'a float'}: make it a whole number"
    fitting = _unit_of(number)
    if fitting not in (None, unit):
        rule += f'; looks like {_UNIT_NAMES[fitting]}: pass unit="{fitting}", on the command line --time-unit {fitting}'
    return rule


def instant(table: str, value: Any, unit: str = "ns", before: int | None = None) -> int:
    """Nanoseconds since the epoch of one time, as of `times`; or of a clock of its own, which `riskcore.Tick` explains.

    ``before`` is the time before it, None for the first.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and unit == "ns":
        number = int(value)
        if _within(number, "ns") or _on_own_clock(number, before):
            return number
    return int(times(table, pd.Series([value], dtype=object), unit=unit)[0])


def _on_own_clock(value: int, before: int | None) -> bool:
    """Whether whole nanoseconds outside the years 2000 to 2200 count from a zero of their own."""
    if before is None:
        possible = 0 <= value < _FIRST // UNITS["us"] and not _within(value, "ms")
    else:
        possible = has_own_clock(before) and before <= value < _FIRST
    return possible and (value % UNITS["s"] == 0 or _unit_of(value) is None)


def has_own_clock(nanoseconds: int) -> bool:
    """Whether the time of a tick counts from a zero of its own, not from the epoch."""
    return nanoseconds < _FIRST


def _times_if_given(
    table: str, values: pd.Series[Any], column: str, unit: str, own_clock: bool
) -> npt.NDArray[np.int64]:
    """Nanoseconds as of `times`, 0 where there is none."""
    given = np.flatnonzero(~missing(values))
    found = np.zeros(len(values), np.int64)
    found[given] = times(table, values.iloc[given], column, given, unit=unit, own_clock=own_clock)
    return found


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
