"""The tables that users hand in: their columns, and one line for the first thing wrong with them."""

from __future__ import annotations

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


_KEY = pa.Column(nullable=False)
_SIDE = pa.Column(checks=pa.Check.isin(["bid", "ask"], error="must be 'bid' or 'ask'"))

_TABLES = {
    "positions": pa.DataFrameSchema(
        {"account": _KEY, "market": _KEY, "quantity": _finite(), "entry_price": _positive()},
        unique=["account", "market"],
    ),
    "balances": pa.DataFrameSchema(
        {"account": _KEY, "asset": _KEY, "quantity": _finite(), "lent": _not_negative(required=False)},
        unique=["account", "asset"],
    ),
    "orders": pa.DataFrameSchema(
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
    "settings": pa.DataFrameSchema(
        {
            "account": _KEY,
            "leverage_limit": _positive(required=False, nullable=True),
            "unsettled": _finite(required=False),
        },
        unique=["account"],
    ),
    "marks": pa.DataFrameSchema(
        {
            "time": _KEY,
            "market": _KEY,
            "mark_price": _positive(),
            "index_price": _positive(required=False, nullable=True),
        },
        unique=["time", "market"],
    ),
    "asset_prices": pa.DataFrameSchema({"time": _KEY, "asset": _KEY, "price": _positive()}, unique=["time", "asset"]),
    "books": pa.DataFrameSchema(
        {
            "time": _KEY,
            "market": _KEY,
            "side": _SIDE,
            "level": _not_negative(),
            "price": _positive(),
            "quantity": _positive(),
        },
        unique=["time", "market", "side", "level"],
    ),
}


def columns(table: str) -> list[str]:
    """Names of a table's columns, the optional ones last as documented."""
    return list(_TABLES[table].columns)


def checked(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its columns in their types, or raise for the first value that breaks a rule.

    Raises
    ------
    RiskDataError
        A column is missing, a value is of the wrong type, missing, out of range, or a key stands twice.
    """
    if not isinstance(frame, pd.DataFrame):
        raise RiskDataError(table, None, f"must be a pandas DataFrame, not {type(frame).__name__}")
    frame = frame.reset_index(drop=True)
    schema = _TABLES[table]
    for name, column in schema.columns.items():
        if column.required and name not in frame.columns:
            raise RiskDataError(table, name, "the column is missing")
    try:
        return schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise _first_breach(table, frame, schema, error.failure_cases) from None


def _first_breach(table: str, frame: pd.DataFrame, schema: pa.DataFrameSchema, cases: pd.DataFrame) -> RiskDataError:
    """Name the first offending row in words of the table."""
    cases = cases.assign(row=pd.to_numeric(cases["index"], errors="coerce")).sort_values("row", kind="stable")
    case = cases.iloc[0]
    row = None if pd.isna(case["row"]) else int(case["row"])
    check = str(case["check"])
    if check == "multiple_fields_uniqueness":
        keys = list(schema.unique or [])
        assert row is not None
        key = ", ".join(str(frame[k].iloc[row]) for k in keys)
        return RiskDataError(table, "+".join(keys), "must not stand twice", row=row, value=key)
    column = str(case["column"])
    value = case["failure_case"] if row is None else frame[column].iloc[row]
    if check == "not_nullable":
        rule = "must not be missing"
    elif check.startswith(("coerce_dtype", "dtype")):
        rule = "must be a number"
    else:
        rule = check
    return RiskDataError(table, column, rule, row=row, value=value)


def codes(table: str, column: str, values: pd.Series[Any], names: tuple[str, ...], what: str) -> npt.NDArray[np.int64]:
    """Row number of each name among ``names``; an unknown name is an error."""
    found = pd.Index(names, dtype=object).get_indexer(pd.Index(values.astype(object)))
    bad = np.flatnonzero(found < 0)
    if bad.size:
        raise RiskDataError(
            table, column, f"must be {what} of the venue", row=int(bad[0]), value=str(values.iloc[bad[0]])
        )
    return found.astype(np.int64)


def times(table: str, values: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Nanoseconds since the epoch, UTC: from timestamps, from text, or from whole numbers as they are."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return values.to_numpy(np.int64)
    try:
        stamps = pd.to_datetime(values, utc=True)
    except (ValueError, TypeError):
        found = pd.to_datetime(values, utc=True, errors="coerce")
        row = int(np.flatnonzero(found.isna().to_numpy())[0]) if found.isna().any() else 0
        raise RiskDataError(
            table, "time", "must be a time or whole nanoseconds since the epoch", row=row, value=str(values.iloc[row])
        ) from None
    return stamps.to_numpy("datetime64[ns]").astype(np.int64)


def whole(
    table: str, column: str, values: npt.NDArray[np.float64], unit: npt.NDArray[np.float64], rule: str
) -> npt.NDArray[np.int64]:
    """``values / unit`` as whole numbers; more than a rounding away from one is an error."""
    ratio = values / unit
    count = np.rint(ratio)
    slack = np.maximum(1e-6, np.abs(count) * 4 * np.finfo(float).eps)
    bad = np.flatnonzero(~(np.abs(ratio - count) <= slack) | (np.abs(count) >= 2.0**62))
    if bad.size:
        row = int(bad[0])
        limit = "" if abs(ratio[row]) < 2.0**62 else " and less than 2**62 of them"
        raise RiskDataError(
            table,
            column,
            f"{rule} ({np.format_float_positional(unit[row], trim='-')}){limit}",
            row=row,
            value=values[row],
        )
    return count.astype(np.int64)


def exact(value: float) -> Fraction:
    """The shortest decimal that reads back as this float: what the user wrote."""
    return Fraction(repr(float(value)))


def half_even(
    table: str, column: str, factors: list[npt.NDArray[np.float64]], unit: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """``product(factors) / unit`` rounded half-even to whole numbers, as exact arithmetic would.

    Float64 decides where its error cannot matter; the few rows near a half are done in fractions.
    """
    ratio = 1.0 / unit
    for factor in factors:
        ratio = ratio * factor
    bad = np.flatnonzero(~(np.abs(ratio) < 2.0**62))
    if bad.size:
        raise RiskDataError(table, column, "must be less than 2**62 quanta", row=int(bad[0]), value=factors[0][bad[0]])
    count = np.rint(ratio)
    distance = np.abs(np.abs(ratio - np.floor(ratio)) - 0.5)
    result = count.astype(np.int64)
    for row in np.flatnonzero(distance <= np.abs(ratio) * 8 * np.finfo(float).eps + 1e-9):
        product = 1 / exact(unit[row])
        for factor in factors:
            product *= exact(factor[row])
        result[row] = round(product)
    return result
