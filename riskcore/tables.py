"""The tables that users hand in: their columns, and one line for the first thing wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.errors
import pandera.pandas as pa

from .errors import RiskDataError


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


_KEY = pa.Column()  # `_keys` has checked it
_SIDE = pa.Column(checks=pa.Check.isin(["bid", "ask"], error="must be 'bid' or 'ask'"))
_DIRECTION = pa.Column(checks=pa.Check.isin(["long", "short"], error="must be 'long' or 'short'"))

_BLOCK = 1 << 15
"""Rows that are worked on at a time: what a step leaves for the next is then still in the cache."""

_EARLIEST, _LATEST = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")


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
            "mark_price": _positive(nullable=True),
            "index_price": _positive(required=False, nullable=True),
            "last_price": _positive(required=False, nullable=True),
            "open_interest": _not_negative(required=False, nullable=True),
            "funding_rate": _number(
                "must be a number from -1 to 1", lambda x: np.abs(x) <= 1, required=False, nullable=True
            ),
        },
        unique=["time", "market"],
    ),
    "asset_prices": _table({"time": _KEY, "asset": _KEY, "price": _positive()}, unique=["time", "asset"]),
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
            "bid": _positive(nullable=True),
            "ask": _positive(nullable=True),
            "last": _positive(nullable=True),
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
            "pnl_pct": _finite(),
            "leverage": _not_negative(),
            "notional": _positive(required=False),
            "sequence": _finite(required=False),
        }
    ),
}


def columns(table: str) -> list[str]:
    """Names of a table's columns, the optional ones last as documented."""
    return list(_TABLES[table].columns)


def checked(table: str, frame: pd.DataFrame, *, unique: bool = True) -> pd.DataFrame:
    """Return the table with its columns in their types, or raise for the first value that breaks a rule.

    Without ``unique`` a key may stand twice: for callers that sort the rows by it and see that themselves.

    Raises
    ------
    RiskDataError
        A column is missing or not one of the table's, a value is of the wrong type, missing or out of range, or a key
        stands twice.
    """
    if not isinstance(frame, pd.DataFrame):
        raise RiskDataError(table, None, f"must be a pandas DataFrame, not {type(frame).__name__}")
    schema = _TABLES[table]
    for name, column in schema.columns.items():
        found = int((frame.columns == name).sum())
        if found > 1:
            raise RiskDataError(table, name, "the column stands twice")
        if column.required and not found:
            raise RiskDataError(table, name, "the column is missing")
    for name in frame.columns.difference(list(schema.columns), sort=False):
        raise RiskDataError(table, str(name), f"is no column of this table: {_meant(str(name), list(schema.columns))}")
    frame = _keys(table, frame.reset_index(drop=True))
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


def _keys(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Bring the columns that hold no numbers into their types: ids of one kind, times in nanoseconds, text, flags."""
    for name in frame.columns.intersection(list(_TABLES[table].columns)):
        if name == "time":
            frame[name] = times(table, frame[name])
        elif name == "book_time":
            frame[name] = _times_if_given(table, frame[name], name)
        elif name == "account":
            frame[name] = _ids(table, frame[name])
        elif name in ("market", "asset", "side", "source"):
            _must_be_text(table, name, frame[name])
        elif name == "reduce_only" and not pd.api.types.is_bool_dtype(frame[name].dtype):
            frame[name] = frame[name].map(_flag).astype(object)
    return frame


def _flag(value: object) -> object:
    """Read the text of a flag: one odd word in a CSV file makes text of the whole column."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


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
    elif kind in ("string", "empty"):
        return values
    else:
        kinds = values.astype(object).map(type)
        odd = kinds != kinds.iloc[0]
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


def _must_be_there(table: str, column: str, values: pd.Series[Any]) -> None:
    missing = np.flatnonzero(values.isna())
    if missing.size:
        raise RiskDataError(table, column, "must not be missing", row=int(missing[0]), value=np.nan)


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
        raise RiskDataError(table, column, f"must be {what} of the venue", row=row, value=str(values.iloc[row]))
    return found


def times(
    table: str, values: pd.Series[Any], column: str = "time", rows: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Nanoseconds since the epoch, UTC: from timestamps, from ISO text, or from whole numbers as they are.

    ``rows`` are the row numbers of the values, where they are not all of the column.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(values, skipna=False)
    if kind == "integer" and _fit_int64(values).all():
        return values.to_numpy(np.int64)
    given = values
    if kind == "string":
        values = values.mask(values.isin(["now", "today"]))  # pandas reads them as the time of the call
    elif not pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = values.astype(object).map(lambda value: value if isinstance(value, date | np.datetime64) else pd.NaT)
    stamps = pd.DatetimeIndex(pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce"))
    bad = np.flatnonzero(~((stamps >= _EARLIEST) & (stamps <= _LATEST)))
    if bad.size:
        row = int(bad[0])
        raise RiskDataError(
            table,
            column,
            "must be a timestamp, ISO text or whole nanoseconds since the epoch, from 1678 to 2261",
            row=row if rows is None else int(rows[row]),
            value=str(given.iloc[row]),
        )
    return stamps.as_unit("ns").asi8


def instant(table: str, value: Any) -> int:
    """Nanoseconds since the epoch of one time, as of `times`."""
    if type(value) in (int, np.int64) and -(2**63) <= value < 2**63:
        return int(value)
    return int(times(table, pd.Series([value]))[0])


def _times_if_given(table: str, values: pd.Series[Any], column: str) -> npt.NDArray[np.int64]:
    """Nanoseconds as of `times`, 0 where there is none."""
    given = np.flatnonzero(values.notna())
    found = np.zeros(len(values), np.int64)
    found[given] = times(table, values.iloc[given], column, given)
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


Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64] | PerKind


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

    Float64 decides where its error cannot matter; the few rows near a half are done in fractions.
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
        for row in rows.start + np.flatnonzero(distance <= np.abs(ratio) * 8 * np.finfo(float).eps + 1e-9):
            product = 1 / exact(unit[row])
            for factor in factors:
                product *= exact(factor[row])
            result[row] = round(product)
    return result
