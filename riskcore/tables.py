"""The tables that users hand in: their columns, and one line for the first thing wrong with them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow

from .errors import RiskDataError
from .shown import is_unicode, text_of


def _number(rule: str, test: Any, *, required: bool = True, nullable: bool = False) -> pa.Column:
    return pa.Column(float, pa.Check(test, error=rule), coerce=True, required=required, nullable=nullable)


def _finite(*, required: bool = True) -> pa.Column:
    return _number("must be a finite number", np.isfinite, required=required)


def _positive(*, required: bool = True, nullable: bool = False) -> pa.Column:
    return _number(
        "must be a finite number > 0", lambda x: np.isfinite(x) & (x > 0), required=required, nullable=nullable
    )


def _not_negative(*, required: bool = True, nullable: bool = False) -> pa.Column:
    return _number(
        "must be a finite number >= 0", lambda x: np.isfinite(x) & (x >= 0), required=required, nullable=nullable
    )


SMALLEST, LARGEST = 1e-30, 1e30
"""Of the prices and open interests that are read: what is worked out from them stays far inside float64."""
_WITHIN = f"must be from {SMALLEST} to {LARGEST}"


def _price(*, required: bool = True, nullable: bool = False) -> pa.Column:
    column = _positive(required=required, nullable=nullable)
    column.checks.append(pa.Check(lambda x: (x >= SMALLEST) & (x <= LARGEST), error=_WITHIN))
    return column


def _open_interest() -> pa.Column:
    column = _not_negative(required=False, nullable=True)
    column.checks.append(pa.Check(lambda x: x <= LARGEST, error=f"must be at most {LARGEST}"))
    return column


_KEY = pa.Column()  # `_keys` has checked it
_SIDE = pa.Column(checks=pa.Check.isin(["bid", "ask"], error="must be 'bid' or 'ask'"))
_DIRECTION = pa.Column(checks=pa.Check.isin(["long", "short"], error="must be 'long' or 'short'"))

_BLOCK = 1 << 15
"""Rows that are worked on at a time: what a step leaves for the next is then still in the cache."""

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
"""Nanoseconds of each unit that whole-number times may be in."""

_UNIT_NAMES = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
_EARLIEST, _END = pd.Timestamp("2000-01-01", tz="UTC"), pd.Timestamp("2201-01-01", tz="UTC")
_REPRESENTABLE = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
_FIRST, _PAST = (stamp.value for stamp in (_EARLIEST, _END))  # the same in nanoseconds


def _table(columns: dict[str, pa.Column], unique: list[str] | None = None) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, unique=unique, report_duplicates="exclude_first")


_TABLES = {
    "positions": _table(
        {
            "account": _KEY,
            "market": _KEY,
            "quantity": _finite(),
            "entry_price": _positive(),
            "settle_price": _positive(required=False, nullable=True),
        },
        unique=["account", "market"],
    ),
    "balances": _table(
        {"account": _KEY, "asset": _KEY, "quantity": _finite(), "lent": _not_negative(required=False)},
        unique=["account", "asset"],
    ),
    "orders": _table(
        {
            "account": _KEY,
            "market": _KEY,
            "side": _SIDE,
            "price": _positive(),
            "quantity": _positive(),
            "reduce_only": pa.Column(
                checks=pa.Check(lambda x: x.isin([True, False]), error="must be true or false"), required=False
            ),
        }
    ),
    "settings": _table(
        {
            "account": _KEY,
            "leverage_limit": _number(
                "must be from 0.001 to 10**9", lambda x: (x >= 0.001) & (x <= 1e9), required=False, nullable=True
            ),
            "unsettled": _finite(required=False),
        },
        unique=["account"],
    ),
    "fills": _table({"account": _KEY, "market": _KEY, "quantity": _finite(), "price": _positive()}),
    "transfers": _table({"account": _KEY, "asset": _KEY, "quantity": _finite()}),
    "marks": _table(
        {
            "time": _KEY,
            "market": _KEY,
            "mark_price": _price(nullable=True),
            "index_price": _price(required=False, nullable=True),
            "last_price": _price(required=False, nullable=True),
            "open_interest": _open_interest(),
            "funding_rate": _number(
                "must be a number from -1 to 1", lambda x: np.abs(x) <= 1, required=False, nullable=True
            ),
        },
        unique=["time", "market"],
    ),
    "asset_prices": _table({"time": _KEY, "asset": _KEY, "price": _price()}, unique=["time", "asset"]),
    "books": _table(
        {
            "time": _KEY,
            "market": _KEY,
            "side": _SIDE,
            "level": _not_negative(),
            "price": _positive(),
            "quantity": _positive(),
            "book_time": pa.Column(required=False),
        },
        unique=["time", "market", "side", "level"],
    ),
    "quotes": _table(
        {
            "time": _KEY,
            "market": _KEY,
            "source": _KEY,
            "bid": _price(nullable=True),
            "ask": _price(nullable=True),
            "last": _price(nullable=True),
        },
        unique=["time", "market", "source"],
    ),
    "winners": _table(
        {
            "account": _KEY,
            "market": _KEY,
            "side": _DIRECTION,
            "notional": _positive(),
            "pnl": _finite(),
            "equity": _finite(),
            "leverage": _not_negative(),
            "requirement": _not_negative(required=False),
            "maintenance": _not_negative(required=False),
        },
        unique=["account", "market", "side"],
    ),
    "requests": _table(
        {
            "time": _KEY,
            "market": _KEY,
            "side": _DIRECTION,
            "notional": _positive(),
            "deficit": _not_negative(),
            "mark": _positive(),
        }
    ),
    "queue": _table(
        {
            "time": _KEY,
            "market": _KEY,
            "account": _KEY,
            "side": _DIRECTION,
            "pnl_pct": _finite(),
            "leverage": _not_negative(),
            "notional": _positive(required=False),
            "sequence": _finite(required=False),
        }
    ),
}


def columns(table: str) -> list[str]:
    """Names of a table's columns, the optional ones last as documented; of a table that is none of these, none."""
    return list(_TABLES[table].columns) if table in _TABLES else []


_FOREIGN = "tables of other libraries are taken as well, by the Arrow interface (Polars, pyarrow, DuckDB)"


def as_frame(table: str, given: Any) -> pd.DataFrame:
    """Return a frame of pandas: the one given, or what another library's table (Polars, pyarrow, DuckDB) holds.

    Raises
    ------
    RiskDataError
        It is no table.
    """
    if isinstance(given, pd.DataFrame):
        return given
    kind = type(given).__name__
    if is_frame(given):
        try:
            found: pd.DataFrame = pyarrow.table(given).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise RiskDataError(table, None, f"must be a table: {error}", value=kind) from None
        return found
    rule = "pandas.DataFrame(...) makes one of it" if isinstance(given, dict | list) else _FOREIGN
    raise RiskDataError(table, None, f"must be a pandas DataFrame, not {kind}: {rule}")


def is_frame(given: object) -> bool:
    """Whether it is a table, of whatever library, and not a column of one."""
    return isinstance(given, pd.DataFrame) or (
        hasattr(given, "__arrow_c_stream__") and not isinstance(given, pd.Series | type)
    )


def must_have(table: str, frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a frame without one of some columns, or with one of them twice.

    Raises
    ------
    RiskDataError
    """
    labels = [label if isinstance(label, str) else None for label in frame.columns]
    for name in names:
        if name not in labels:
            there = [label for label in labels if label is not None]
            rule = f"the column is missing; there are {', '.join(there) or 'none'}"
            near = get_close_matches(name, [label for label in there if label not in names], 1)
            raise RiskDataError(table, name, f"{rule}: is it {near[0]!r}?" if near else rule)
        if labels.count(name) > 1:
            raise RiskDataError(table, name, "the column stands twice")


def number(value: Any) -> float:
    """Return a float of one number, or of text that says one; infinite where it is past the range.

    Raises
    ------
    ValueError
        It is something else: a flag, a complex number, bytes, several numbers.
    """
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    plain: Any = value
    if isinstance(value, bool) or not isinstance(value, Real | Decimal | str):
        raise ValueError
    try:
        return float(plain)
    except OverflowError:  # of a whole number or a fraction
        return math.inf if plain > 0 else -math.inf


def figure(name: str, value: object) -> float:
    """Return the number that an argument must be.

    Raises
    ------
    RiskDataError
    """
    try:
        return number(value)
    except ValueError:
        raise RiskDataError(name, None, "must be a number", value=text_of(value)) from None


def checked(
    table: str, frame: pd.DataFrame, *, unique: bool = True, unit: str = "ns", own_clock: bool = False
) -> pd.DataFrame:
    """Return the table with its columns in their types, or raise for the first value that breaks a rule.

    Without ``unique`` a key may stand twice: for callers that sort the rows by it and see that themselves.
    ``unit`` and ``own_clock`` are those of `times`.

    Raises
    ------
    RiskDataError
        A column is missing or not one of the table's, a value is of the wrong type, missing or out of range, or a key
        stands twice.
    """
    frame = as_frame(table, frame)
    schema = _TABLES[table]
    labels = [label if isinstance(label, str) else text_of(label) for label in frame.columns]
    must_have(table, frame, [n for n, column in schema.columns.items() if column.required or n in labels])
    for name in labels:
        if name not in schema.columns:
            raise RiskDataError(table, name, f"is no column of this table: {_meant(name, list(schema.columns))}")
    frame = _keys(table, frame.reset_index(drop=True), unit, own_clock)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # older pandas warns of how pandera gathers the failures
            rules = schema if unique else pa.DataFrameSchema(schema.columns)
            return rules.validate(frame.copy(deep=False), lazy=True, inplace=True)  # columns replaced, none copied
    except pandera.errors.SchemaErrors as error:
        raise _first_breach(table, frame, error.failure_cases) from None


def _meant(name: str, known: list[str]) -> str:
    """Name the known column that is nearest to one that is not known, and all of them."""
    near = get_close_matches(name.lower(), known, 1)
    return (f"leave it out, or is it {near[0]}? " if near else "leave it out. ") + f"Its columns are {', '.join(known)}"


def _keys(table: str, frame: pd.DataFrame, unit: str, own_clock: bool) -> pd.DataFrame:
    """Bring the columns that hold no numbers into their types: ids of one kind, times in nanoseconds, text, flags."""
    for name in frame.columns.intersection(list(_TABLES[table].columns)):
        if name == "time":
            frame[name] = times(table, frame[name], unit=unit, own_clock=own_clock)
        elif name == "book_time":
            frame[name] = _times_if_given(table, frame[name], name, unit, own_clock)
        elif name == "account":
            frame[name] = _ids(table, frame[name])
        elif name in ("market", "asset", "side", "source"):
            _must_be_text(table, name, frame[name])
        elif name == "reduce_only" and not pd.api.types.is_bool_dtype(frame[name].dtype):
            frame[name] = frame[name].map(_flag).astype(object)
        elif name != "reduce_only" and (numbers := _numbers(table, name, frame[name])) is not None:
            frame[name] = numbers
    return frame


def _numbers(table: str, column: str, values: pd.Series[Any]) -> pd.Series[Any] | None:
    """Numbers of a column that is of another type, one by one, what is missing stays so; None where it has numbers."""
    dtype = values.dtype
    if pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
        return None
    found = np.empty(len(values))
    for row, value in enumerate(values.astype(object)):
        try:
            found[row] = np.nan if value is None or value is pd.NA or value is pd.NaT else number(value)
        except ValueError:
            raise RiskDataError(table, column, "must be a number", row=row, value=value) from None
    return pd.Series(found, values.index)


def _flag(value: object) -> object:
    """Read the text of a flag: one odd word in a CSV file makes text of the whole column."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value if value is None or value is pd.NA or isinstance(value, int | float | np.number) else text_of(value)


def _ids(table: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Account ids as int64, or as the text that they are."""
    _must_be_there(table, "account", values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(values, skipna=False)
    rule = "must be a whole number in every row or text in every row"
    if kind == "integer":
        fits = _fit_int64(values)
        if fits.all():
            return values.astype(np.int64)
        odd, rule = ~fits, "must fit 64 bits"
    elif kind in ("string", "empty") or not len(values):
        return values
    else:
        odd = pd.Series([type(value) is not type(values.iloc[0]) for value in values])
    row = int(np.flatnonzero(odd)[0]) if odd.any() else 0
    raise RiskDataError(table, "account", rule, row=row, value=values.iloc[row])


def _fit_int64(values: pd.Series[Any]) -> pd.Series[bool]:
    return (values >= -(2**63)) & (values <= 2**63 - 1)


def _must_be_text(table: str, column: str, values: pd.Series[Any]) -> None:
    _must_be_there(table, column, values)
    of = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    if pd.api.types.infer_dtype(of, skipna=False) not in ("string", "empty"):
        odd = np.flatnonzero([not isinstance(value, str) for value in values])
        if odd.size:
            raise RiskDataError(table, column, "must be text", row=int(odd[0]), value=values.iloc[odd[0]])


def must_be_unicode(table: str, column: str, values: pd.Series[Any]) -> None:
    """Refuse text that no file can hold: with half of a surrogate pair.

    Raises
    ------
    RiskDataError
    """
    for row, value in enumerate(values):
        if not is_unicode(value):
            raise RiskDataError(table, column, "must be text without half of a surrogate pair", row=row, value=value)


def missing(values: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """Where there is no value."""
    try:
        return values.isna().to_numpy()
    except ArithmeticError:  # a Decimal that signals when it is compared
        return np.array([v.is_qnan() if isinstance(v, Decimal) else pd.isna(v) is True for v in values], bool)


def _must_be_there(table: str, column: str, values: pd.Series[Any]) -> None:
    none = np.flatnonzero(missing(values))
    if none.size:
        raise RiskDataError(table, column, "must not be missing", row=int(none[0]), value=np.nan)


def _first_breach(table: str, frame: pd.DataFrame, cases: pd.DataFrame) -> RiskDataError:
    """Name the first offending row in words of the table."""
    cases = cases.assign(row=pd.to_numeric(cases["index"], errors="coerce")).sort_values("row", kind="stable")
    case = cases.iloc[0]
    row = None if pd.isna(case["row"]) else int(case["row"])
    column, check = str(case["column"]), str(case["check"])
    if check == "multiple_fields_uniqueness":
        keys = list(_TABLES[table].unique or [])
        assert row is not None
        again = frame[keys].iloc[row]
        key = ", ".join(moment(again[k]) if k == "time" else str(again[k]) for k in keys)
        return RiskDataError(table, "+".join(keys), "must not stand twice", row=row, value=key)
    value = case["failure_case"] if row is None else frame[column].iloc[row]
    if check == "not_nullable":
        rule, value = "must not be missing", np.nan
    elif check.startswith(("coerce_dtype", "dtype")):
        rule = "must be a number"
    else:
        rule = check
    return RiskDataError(table, column, rule, row=row, value=value)


def codes(table: str, column: str, values: pd.Series[Any], names: tuple[str, ...], what: str) -> npt.NDArray[np.int64]:
    """Row number of each name among ``names``; an unknown name is an error."""
    code, distinct = values.factorize()
    place = np.asarray(pd.Index(names, dtype=object).get_indexer(pd.Index(distinct, dtype=object)), np.int64)
    found: npt.NDArray[np.int64] = place[code]
    if (place < 0).any():
        row = int(np.flatnonzero(found < 0)[0])
        raise RiskDataError(table, column, f"must be {what} of the venue", row=row, value=text_of(values.iloc[row]))
    return found


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
    """Text of a time, for messages."""
    return str(pd.Timestamp(nanoseconds, tz="UTC"))


@dataclass(frozen=True)
class PerKind:
    """A number of each row that depends on its kind alone, as the step size on the market: not written out by rows."""

    values: npt.NDArray[np.float64]
    kind: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: slice | int) -> Any:
        """Return the numbers of some rows."""
        return self.values[self.kind[rows]]


Int = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64] | Int | PerKind


def blocks(count: int) -> Iterator[slice]:
    """Rows in pieces whose intermediate results stay in the cache, and small."""
    return (slice(first, min(first + _BLOCK, count)) for first in range(0, count, _BLOCK))


def whole(table: str, column: str, values: npt.NDArray[np.float64], unit: Numbers, rule: str) -> npt.NDArray[np.int64]:
    """``values / unit`` as whole numbers; more than a rounding away from one is an error."""
    result = np.empty(len(values), np.int64)
    for rows in blocks(len(values)):
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = values[rows] / unit[rows]
            count = np.rint(ratio)
            slack = np.maximum(1e-6, np.abs(count) * 4 * np.finfo(float).eps)
            bad = np.flatnonzero(~(np.abs(ratio - count) <= slack) | (np.abs(count) >= 2.0**62))
        if bad.size:
            row = rows.start + int(bad[0])
            limit = "" if abs(ratio[bad[0]]) < 2.0**62 else " and less than 2**62 of them"
            rule = f"{rule} ({np.format_float_positional(unit[row], trim='-')}){limit}"
            raise RiskDataError(table, column, rule, row=row, value=values[row])
        result[rows] = count
    return result


def exact(value: float) -> Fraction:
    """The shortest decimal that reads back as this float: what the user wrote."""
    return Fraction(repr(float(value)))


def half_even(table: str, column: str, factors: Sequence[Numbers], unit: Numbers) -> npt.NDArray[np.int64]:
    """``product(factors) / unit`` rounded half-even to whole numbers, as exact arithmetic would.

    Float64 decides where its error cannot matter; rows near a half are done in whole numbers.
    """
    result = np.empty(len(factors[0]), np.int64)
    for rows in blocks(len(result)):
        ratio = 1.0 / unit[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            for factor in factors:
                ratio = ratio * factor[rows]
        bad = np.flatnonzero(~(np.abs(ratio) < 2.0**62))
        if bad.size:
            row = rows.start + int(bad[0])
            raise RiskDataError(table, column, "must be less than 2**62 quanta", row=row, value=factors[0][row])
        result[rows] = np.rint(ratio)
        distance = np.abs(np.abs(ratio - np.floor(ratio)) - 0.5)
        near = np.flatnonzero(distance <= np.abs(ratio) * 8 * np.finfo(float).eps + 1e-9)
        if near.size:
            result[rows.start + near] = _half_even(factors, unit, rows.start + near, ratio[near])
    return result


def _half_even(factors: Sequence[Numbers], unit: Numbers, rows: Int, ratio: npt.NDArray[np.float64]) -> Int:
    """``product(factors) / unit`` of some rows rounded half-even, exactly; ``ratio`` is the same in float64.

    With decimals for the numbers the ratio is that of two whole numbers. What float64 leaves of it is short, so that
    arithmetic that wraps has it right. What has too many digits for that is done in fractions.
    """
    result = np.floor(ratio).astype(np.int64)
    off = np.abs(ratio) * 8 * np.finfo(float).eps + 2  # the result may be, and the remainder that many divisors
    divisor, exponent, known = _decimals_of(unit, rows)
    dividend, exponent = np.ones(len(rows), np.int64), -exponent
    for factor in factors:
        digits, places, fits = _decimals_of(factor, rows)
        dividend, exponent, known = dividend * digits, exponent + places, known & fits
    known &= np.abs(exponent) < len(_TENS)
    power = _TENS[np.where(known, np.abs(exponent), 0)]
    over, under = np.where(exponent < 0, 1, power), np.where(exponent < 0, power, 1)
    known &= divisor.astype(float) * under * off < 2.0**61
    dividend, divisor = dividend * over, np.where(known, divisor * under, 1)
    more, rest = np.divmod(dividend - result * divisor, divisor)
    result += more
    other = divisor - rest
    result += (rest > other) | ((rest == other) & (result % 2 != 0))
    for at in np.flatnonzero(~known).tolist():
        product = 1 / exact(unit[rows[at]])
        for factor in factors:
            product *= exact(factor[rows[at]])
        result[at] = round(product)
    return result


def _decimals_of(numbers: Numbers, rows: Int) -> list[Any]:
    """What `_decimals` finds of some rows; once for what many rows share."""
    values: npt.NDArray[Any]
    if isinstance(numbers, PerKind):
        values, place = numbers.values, numbers.kind[rows]
    elif numbers.strides == (0,):
        values, place = numbers[:1], np.zeros(len(rows), np.int64)
    else:
        return list(_decimals(numbers[rows]))
    digits, exponent, known = _decimals(values)
    for zeros in (8, 4, 2, 1):  # the fewer digits, the more room for those of the other numbers
        fewer, rest = np.divmod(digits, _TENS[zeros])
        digits, exponent = np.where(rest == 0, fewer, digits), exponent + zeros * (rest == 0)
    return [column[place] for column in (digits, exponent, known)]


_TENS = 10 ** np.arange(19, dtype=np.int64)
_MOST_PLACES = 22  # the largest exact power of ten in float64
_UNSURE = 1e-6  # of a unit of the last digit: float64 tells the shortest decimal by more than that


def _decimals(values: npt.NDArray[Any]) -> tuple[Int, Int, npt.NDArray[np.bool_]]:
    """Digits and power of ten of each number's shortest decimal, and whether they are known."""
    if values.dtype == np.int64:
        return values, np.zeros_like(values), np.abs(values) <= 2**53
    places = 15 - np.ceil(np.frexp(values)[1] * np.log10(2.0))
    first = np.clip(places, 0, _MOST_PLACES)
    power = 10.0**first
    found = np.rint(values * power)
    # no two decimals of 15 digits are the same float64, and no two whole numbers up to 2**53
    known = (np.abs(found) <= np.where(first > 0, 1e15, 2.0**53)) & (found / power == values)
    digits, exponent = np.where(known, found, 0).astype(np.int64), -first.astype(np.int64)
    longer = np.flatnonzero(~known & (places >= 0) & (places + 2 <= _MOST_PLACES))
    for more in (2, 1) if longer.size else ():  # 17 digits always read back; 16 are shorter if they do
        nearest, reads_back = _nearest(values[longer], 10.0 ** (places[longer] + more))
        sure = longer[reads_back > 0]
        digits[sure], exponent[sure] = nearest[reads_back > 0], -(places[sure] + more).astype(np.int64)
        known[longer] = (known[longer] | (reads_back > 0)) & ~np.isnan(reads_back)
    return digits, exponent, known


def _nearest(values: npt.NDArray[Any], power: npt.NDArray[Any]) -> tuple[Int, npt.NDArray[Any]]:
    """Nearest whole numbers of ``values * power``, and whether they read back as the values: NaN if unsure."""
    product = values * power
    high, low = _halves(values), _halves(power)
    # what rounding took from the product, exactly (Dekker)
    error = ((high[0] * low[0] - product) + high[0] * low[1] + high[1] * low[0]) + high[1] * low[1]
    whole = np.rint(product)
    off = (product - whole) + error
    step = np.rint(off)
    off = np.abs(off - step)
    room = np.spacing(np.abs(values)) / 2 * power
    unsure = (np.abs(off - room) < _UNSURE) | (off > 0.5 - _UNSURE) | (np.abs(np.frexp(values)[0]) == 0.5)
    return whole.astype(np.int64) + step.astype(np.int64), np.where(unsure, np.nan, off < room)


def _halves(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Upper and lower half of the bits of each number."""
    large = values * (2.0**27 + 1)
    high = large - (large - values)
    return high, values - high
