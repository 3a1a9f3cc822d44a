"""The tables of users: their columns, and one line for the first value that breaks a rule."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera
import pandera.pandas as pa

from .errors import RiskDataError
from .escaping import is_unicode, text_of
from .frames import as_frame, missing, must_have
from .timestamps import _fit_int64, _times_if_given, moment, times


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
