"""Declares the columns of users' tables and checks them; an error names the first value that breaks a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd

from .._limits import LARGEST, SMALLEST
from .._typing import Int
from .errors import RiskDataError
from .escaping import as_text, is_unicode
from .frames import as_frame, missing, must_have
from .timestamps import _fit_int64, _times_if_given, expiries, moment, times

_MISSING = "must not be missing"


@dataclass(frozen=True)
class _Rule:
    text: str
    holds: Callable[[Any], Any]
    """Whether each value keeps the rule; False where there is none."""


@dataclass(frozen=True)
class _Column:
    type: Literal[
        "number",
        "text",
        "text or none",
        "flag",
        "flag or none",
        "id",
        "id if given",
        "id or none",
        "order id or none",
        "json",
        "time",
        "time if given",
        "expiry",
        "expiry if given",
    ]
    rules: tuple[_Rule, ...] = ()
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class _Table:
    columns: dict[str, _Column]
    unique: tuple[str, ...] = ()
    """Columns that are a row's key."""


_IS_FINITE = _Rule("must be a finite number", np.isfinite)
_IS_POSITIVE = _Rule("must be a finite number > 0", lambda x: np.isfinite(x) & (x > 0))
_IS_NOT_NEGATIVE = _Rule("must be a finite number >= 0", lambda x: np.isfinite(x) & (x >= 0))
_IS_WITHIN = _Rule(f"must be from {SMALLEST} to {LARGEST}", lambda x: (x >= SMALLEST) & (x <= LARGEST))
_IS_NOT_LARGER = _Rule(f"must be at most {LARGEST}", lambda x: x <= LARGEST)
_IS_RATE = _Rule("must be a number from -1 to 1", lambda x: np.abs(x) <= 1)
_IS_SHARE = _Rule("must be a number from 0 to 1", lambda x: (x >= 0) & (x <= 1))


def _number(*rules: _Rule, required: bool = True, nullable: bool = False) -> _Column:
    return _Column("number", rules, required, nullable)


def _finite(*, required: bool = True) -> _Column:
    return _number(_IS_FINITE, required=required)


def _positive(*, required: bool = True, nullable: bool = False) -> _Column:
    return _number(_IS_POSITIVE, required=required, nullable=nullable)


def _not_negative(*, required: bool = True) -> _Column:
    return _number(_IS_NOT_NEGATIVE, required=required)


def _price(*, required: bool = True, nullable: bool = False) -> _Column:
    return _number(_IS_POSITIVE, _IS_WITHIN, required=required, nullable=nullable)


_CONFIDENCE = _number(_IS_SHARE, required=False, nullable=True)
_ACCOUNT = _Column("id")
_TIME = _Column("time")
_EXPIRY = _Column("expiry")
_NAME = _Column("text")
_SIDE = _Column("text", (_Rule("must be 'bid' or 'ask'", lambda x: x.isin(["bid", "ask"])),))
_DIRECTION = _Column("text", (_Rule("must be 'long' or 'short'", lambda x: x.isin(["long", "short"])),))


ACTIONS = (
    "open", "fill", "place", "change", "cancel", "deposit", "withdraw", "transfer", "borrow", "repay", "lend", "redeem",
    "leverage", "confirm",
)  # fmt: skip
"""Actions of the table `activity`."""

KINDS = ("PERP", "IPERP", "DATED", "IDATED", "OPTION", "SPOT")
"""Kinds of the table `instruments`."""

_LEVERAGE_LIMIT = _number(
    _Rule("must be from 0.001 to 10**9", lambda x: (x >= 0.001) & (x <= 1e9)), required=False, nullable=True
)
_TABLES = {
    "positions": _Table(
        {
            "account": _ACCOUNT,
            "market": _NAME,
            "quantity": _finite(),
            "entry_price": _positive(),
            "settle_price": _positive(required=False, nullable=True),
        },
        unique=("account", "market"),
    ),
    "balances": _Table(
        {"account": _ACCOUNT, "asset": _NAME, "quantity": _finite(), "lent": _not_negative(required=False)},
        unique=("account", "asset"),
    ),
    "orders": _Table(
        {
            "account": _ACCOUNT,
            "market": _NAME,
            "side": _SIDE,
            "price": _positive(),
            "quantity": _positive(),
            "reduce_only": _Column(
                "flag", (_Rule("must be true or false", lambda x: x.isin([True, False])),), required=False
            ),
            "order": _Column("order id or none", required=False),
        }
    ),
    "settings": _Table(
        {
            "account": _ACCOUNT,
            "leverage_limit": _LEVERAGE_LIMIT,
            "unsettled": _finite(required=False),
            "owner": _Column("id if given", required=False),
        },
        unique=("account",),
    ),
    "fills": _Table(
        {
            "account": _ACCOUNT,
            "market": _NAME,
            "quantity": _finite(),
            "price": _positive(),
            "fee": _finite(required=False),
        }
    ),
    "activity": _Table(
        {
            "action": _Column("text", (_Rule(f"must be one of {', '.join(ACTIONS)}", lambda x: x.isin(ACTIONS)),)),
            "time": _Column("time if given", required=False),
            "account": _ACCOUNT,
            "market": _Column("text or none", required=False),
            "asset": _Column("text or none", required=False),
            "quantity": _number(_IS_FINITE, required=False, nullable=True),
            "price": _positive(required=False, nullable=True),
            "side": _Column("text or none", required=False),
            "order": _Column("order id or none", required=False),
            "reduce_only": _Column("flag or none", required=False),
            "fee": _number(_IS_FINITE, required=False, nullable=True),
            "to_account": _Column("id or none", required=False),
            "owner": _Column("id or none", required=False),
            "leverage_limit": _LEVERAGE_LIMIT,
        }
    ),
    "transfers": _Table({"account": _ACCOUNT, "asset": _NAME, "quantity": _finite()}),
    "marks": _Table(
        {
            "time": _TIME,
            "market": _NAME,
            "mark_price": _price(nullable=True),
            "index_price": _price(required=False, nullable=True),
            "last_price": _price(required=False, nullable=True),
            "low_price": _price(required=False, nullable=True),
            "high_price": _price(required=False, nullable=True),
            "open_interest": _number(_IS_NOT_NEGATIVE, _IS_NOT_LARGER, required=False, nullable=True),
            "funding_rate": _number(_IS_RATE, required=False, nullable=True),
        },
        unique=("time", "market"),
    ),
    "funding": _Table({"time": _TIME, "market": _NAME, "rate": _number(_IS_RATE)}, unique=("time", "market")),
    "venue_changes": _Table(
        {
            "time": _TIME,
            "market": _Column("text or none", required=False),
            "asset": _Column("text or none", required=False),
            "field": _NAME,
            "value": _Column("json"),
        },
        unique=("time", "market", "asset", "field"),
    ),
    "asset_prices": _Table({"time": _TIME, "asset": _NAME, "price": _price()}, unique=("time", "asset")),
    "books": _Table(
        {
            "time": _TIME,
            "market": _NAME,
            "side": _SIDE,
            "level": _not_negative(),
            "price": _positive(),
            "quantity": _positive(),
            "book_time": _Column("time if given", required=False),
        },
        unique=("time", "market", "side", "level"),
    ),
    "quotes": _Table(
        {
            "time": _TIME,
            "market": _NAME,
            "source": _NAME,
            "bid": _price(nullable=True),
            "ask": _price(nullable=True),
            "last": _price(nullable=True),
        },
        unique=("time", "market", "source"),
    ),
    "winners": _Table(
        {
            "account": _ACCOUNT,
            "market": _NAME,
            "side": _DIRECTION,
            "notional": _positive(),
            "pnl": _finite(),
            "equity": _finite(),
            "leverage": _not_negative(),
            "requirement": _not_negative(required=False),
            "maintenance": _not_negative(required=False),
        },
        unique=("account", "market", "side"),
    ),
    "requests": _Table(
        {
            "time": _TIME,
            "market": _NAME,
            "side": _DIRECTION,
            "notional": _positive(),
            "deficit": _not_negative(),
            "mark": _positive(),
        }
    ),
    "queue": _Table(
        {
            "time": _TIME,
            "market": _NAME,
            "account": _ACCOUNT,
            "side": _DIRECTION,
            "pnl_pct": _finite(),
            "leverage": _not_negative(),
            "notional": _positive(required=False),
            "sequence": _finite(required=False),
        }
    ),
    "instruments": _Table(
        {
            "market": _NAME,
            "kind": _Column("text", (_Rule(f"must be one of {', '.join(KINDS)}", lambda x: x.isin(KINDS)),)),
            "underlying": _Column("text or none", required=False),
            "expiry": _Column("expiry if given", required=False),
            "strike": _price(required=False, nullable=True),
            "right": _Column("text or none", required=False),
            "settles_in_coin": _Column("flag or none", required=False),
            "contract": _positive(required=False, nullable=True),
        },
        unique=("market",),
    ),
    "volatilities": _Table(
        {"time": _TIME, "market": _NAME, "volatility": _number(_IS_NOT_NEGATIVE, _IS_NOT_LARGER)},
        unique=("time", "market"),
    ),
    "terms": _Table(
        {
            "underlying": _NAME,
            "expiry": _EXPIRY,
            "forward": _price(required=False, nullable=True),
            "rate": _number(_IS_FINITE, required=False, nullable=True),
            "average": _price(required=False, nullable=True),
            "forward_confidence": _CONFIDENCE,
            "rate_confidence": _CONFIDENCE,
            "volatility_confidence": _CONFIDENCE,
        },
        unique=("underlying", "expiry"),
    ),
    "surface": _Table(
        {
            "underlying": _NAME,
            "expiry": _EXPIRY,
            "strike": _price(),
            "volatility": _number(_IS_NOT_NEGATIVE, _IS_NOT_LARGER),
        },
        unique=("underlying", "expiry", "strike"),
    ),
    "underlyings": _Table(
        {
            "underlying": _NAME,
            "index": _price(required=False, nullable=True),
            "confidence": _CONFIDENCE,
            "perpetual_confidence": _CONFIDENCE,
        },
        unique=("underlying",),
    ),
    "sizes": _Table({"account": _ACCOUNT, "market": _NAME, "size": _finite()}),
    "size_orders": _Table({"account": _ACCOUNT, "market": _NAME, "size": _finite(), "price": _positive()}),
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

    Examples
    --------
    >>> number("2.5"), number(10**400)
    (2.5, inf)
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
        raise RiskDataError(name, None, "must be a number", value=as_text(value)) from None


def checked(
    table: str, frame: pd.DataFrame, *, unique: bool = True, unit: str = "ns", own_clock: bool = False
) -> pd.DataFrame:
    """Return the table with its columns in their types, or raise for the first value that breaks a rule.

    Without ``unique`` duplicate keys are not looked for: the caller sorts the rows by key and finds them.
    ``unit`` and ``own_clock`` are those of `times`.

    Raises
    ------
    RiskDataError
        A column is missing or not one of the table's, a value is of the wrong type, missing or out of range, or a key
        stands twice.
    """
    frame = as_frame(table, frame)
    declared = _TABLES[table]
    labels = [label if isinstance(label, str) else as_text(label) for label in frame.columns]
    must_have(table, frame, [n for n, column in declared.columns.items() if column.required or n in labels])
    for name in labels:
        if name not in declared.columns:
            raise RiskDataError(
                table, name, f"is not a column of this table: {_suggestion(name, list(declared.columns))}"
            )
    typed = _typed(table, frame.reset_index(drop=True), unit, own_clock)
    frame = typed.copy(deep=False)  # columns are replaced, none is copied
    for name in labels:
        if declared.columns[name].type == "number" and typed[name].dtype != np.float64:
            frame[name] = typed[name].astype(np.float64)
    refusals = [_duplicate(table, frame, typed)] if unique and declared.unique else []
    refusals += [_breach(table, name, frame[name], typed[name]) for name in declared.columns if name in labels]
    first = min((refusal for refusal in refusals if refusal is not None), key=lambda refusal: refusal[0], default=None)
    if first is not None:
        raise first[1]
    return frame


def _suggestion(name: str, columns: list[str]) -> str:
    """Advice for an unknown column: the nearest known one, and the list of all."""
    matches = get_close_matches(name.lower(), columns, 1)
    return (f"did you mean {matches[0]}? " if matches else "") + f"Its columns are {', '.join(columns)}"


def _typed(table: str, frame: pd.DataFrame, unit: str, own_clock: bool) -> pd.DataFrame:
    """Convert each column to its type: ids of one kind, times in nanoseconds, text, flags, numbers of any width."""
    for name in frame.columns:
        kind = _TABLES[table].columns[name].type
        if kind == "time":
            frame[name] = times(table, frame[name], unit=unit, own_clock=own_clock)
        elif kind == "time if given":
            frame[name] = _times_if_given(table, frame[name], name, unit, own_clock)
        elif kind == "expiry":
            frame[name] = times(table, expiries(frame[name]), name, unit=unit, own_clock=own_clock)
        elif kind == "expiry if given":
            frame[name] = _times_if_given(table, expiries(frame[name]), name, unit, own_clock)
        elif kind == "id":
            frame[name] = _ids(table, name, frame[name])
        elif kind == "id if given":  # else that of the account
            frame[name] = _ids(table, name, _filled(frame[name], frame["account"]))
        elif kind == "id or none":
            given = ~pd.Series(missing(frame[name]), frame.index)
            ids = _ids(table, name, _whole(frame[name][given]))
            frame[name] = pd.Series(None, frame.index, object)
            frame.loc[given, name] = ids.astype(object)
        elif kind == "order id or none":
            frame[name] = _order_ids(table, name, frame[name])
        elif kind == "text":
            _must_be_text(table, name, frame[name])
        elif kind == "text or none":
            named = ~missing(frame[name])
            if named.all():
                _must_be_text(table, name, frame[name])
            else:
                texts = frame[name].astype(object)
                _must_be_text(table, name, texts.where(named, ""))
                frame[name] = texts.where(named, None)
        elif kind == "json":
            _must_be_there(table, name, frame[name])
        elif kind == "flag or none":
            frame[name] = pd.Series(_flags(table, name, frame[name]), frame.index, object)
        elif kind == "flag":
            if not pd.api.types.is_bool_dtype(frame[name].dtype):
                frame[name] = frame[name].map(_flag).astype(object)
        elif (numbers := _numbers(table, name, frame[name])) is not None:
            frame[name] = numbers
    return frame


def _numbers(table: str, column: str, values: pd.Series[Any]) -> pd.Series[Any] | None:
    """Convert a column of another type to numbers, missing values to NaN; None where it has numbers already."""
    dtype = values.dtype
    if pd.api.types.is_float_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
        return None
    numbers = np.empty(len(values))
    for row, value in enumerate(values.astype(object)):
        try:
            numbers[row] = np.nan if value is None or value is pd.NA or value is pd.NaT else number(value)
        except ValueError:
            raise RiskDataError(table, column, "must be a number", row=row, value=value) from None
    return pd.Series(numbers, values.index)


def _flags(table: str, column: str, values: pd.Series[Any]) -> list[bool | None]:
    """Flags, None where there is none."""
    flags: list[bool | None] = []
    for row, (value, none) in enumerate(zip(values.map(_flag).tolist(), missing(values).tolist(), strict=True)):
        if not none and value not in (True, False):
            raise RiskDataError(table, column, "must be true or false", row=row, value=as_text(values.iloc[row]))
        flags.append(None if none else bool(value))
    return flags


def _flag(value: object) -> object:
    """Read the text of a flag: a single other word in a CSV file turns the whole column into text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value if value is None or value is pd.NA or isinstance(value, int | float | np.number) else as_text(value)


def _filled(values: pd.Series[Any], others: pd.Series[Any]) -> pd.Series[Any]:
    """Values with those of another column where one is missing."""
    none = pd.Series(missing(values), values.index)
    return values if not none.any() else pd.concat([_whole(values[~none]), others[none]]).sort_index()


def _whole(values: pd.Series[Any]) -> pd.Series[Any]:
    """Ids as whole numbers where pandas made float64 of them for the sake of missing ones."""
    is_whole = pd.api.types.is_float_dtype(values.dtype) and (values % 1 == 0).all()
    return values.astype(np.int64) if is_whole else values


def _ids(table: str, column: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Ids as int64, or as the text that they are."""
    _must_be_there(table, column, values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(values, skipna=False)
    rule = "must be a whole number in every row or text in every row"
    if kind == "integer":
        fits = _fit_int64(values)
        if fits.all():
            return values.astype(np.int64)
        bad, rule = ~fits, "must fit 64 bits"
    elif kind in ("string", "empty") or not len(values):
        return values
    else:
        bad = pd.Series([type(value) is not type(values.iloc[0]) for value in values])
    row = int(np.flatnonzero(bad)[0]) if bad.any() else 0
    raise RiskDataError(table, column, rule, row=row, value=values.iloc[row])


def _order_ids(table: str, column: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Ids of orders as text, None where one is missing; whole numbers may have come as floats for the sake of those."""
    ids: list[str | None] = []
    for row, (value, none) in enumerate(zip(values.tolist(), missing(values), strict=True)):
        is_whole = isinstance(value, int | float | np.integer) and not isinstance(value, bool) and value % 1 == 0
        if not (none or is_whole or isinstance(value, str)):
            raise RiskDataError(table, column, "must be text or a whole number", row=row, value=value)
        ids.append(None if none else value if isinstance(value, str) else str(int(value)))
    must_be_unicode(table, column, [id_ or "" for id_ in ids])
    return pd.Series(ids, values.index, object)


def _must_be_text(table: str, column: str, values: pd.Series[Any]) -> None:
    _must_be_there(table, column, values)
    distinct = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    if pd.api.types.infer_dtype(distinct, skipna=False) not in ("string", "empty"):
        bad = np.flatnonzero([not isinstance(value, str) for value in values])
        if bad.size:
            raise RiskDataError(table, column, "must be text", row=int(bad[0]), value=values.iloc[bad[0]])


def must_be_unicode(table: str, column: str, values: Iterable[Any]) -> None:
    """Refuse text that no file can hold: with half of a surrogate pair.

    Raises
    ------
    RiskDataError
    """
    for row, value in enumerate(values):
        if not is_unicode(value):
            raise RiskDataError(table, column, "must be text without a lone surrogate", row=row, value=value)


def _must_be_there(table: str, column: str, values: pd.Series[Any]) -> None:
    none = np.flatnonzero(missing(values))
    if none.size:
        raise RiskDataError(table, column, _MISSING, row=int(none[0]), value=np.nan)


def _duplicate(table: str, frame: pd.DataFrame, original: pd.DataFrame) -> tuple[int, RiskDataError] | None:
    """First row whose key an earlier row has, and its error with the values of ``original``."""
    key = [name for name in _TABLES[table].unique if name in frame.columns]
    repeated = frame.duplicated(key).to_numpy()
    if not repeated.any():
        return None
    row = int(repeated.argmax())
    values = [(name, original[name].iloc[row]) for name in key]
    value = ", ".join(moment(v) if name in ("time", "expiry") else str(v) for name, v in values if v is not None)
    return row, RiskDataError(table, "+".join(key), "must not appear twice", row=row, value=value)


def _breach(
    table: str, name: str, values: pd.Series[Any], original: pd.Series[Any]
) -> tuple[int, RiskDataError] | None:
    """First row that breaks a rule of its column, and its error with the value of ``original``."""
    column = _TABLES[table].columns[name]
    tested: Any = values.to_numpy() if column.type == "number" else values
    first, text = len(values), ""
    for rule in column.rules:
        broken = ~np.asarray(rule.holds(tested))
        if column.nullable and broken.any():
            broken &= ~np.isnan(tested)
        if broken.any() and (row := int(broken.argmax())) < first:
            first, text = row, rule.text
    if not text:
        return None
    value = original.iloc[first]
    if pd.isna(values.iloc[first]):
        text, value = _MISSING, np.nan
    return first, RiskDataError(table, name, text, row=first, value=value)


def codes(table: str, column: str, values: pd.Series[Any], names: tuple[str, ...], what: str) -> Int:
    """Row number of each name among ``names``; an unknown name is an error."""
    code, distinct = values.factorize()
    row_of_code = np.asarray(pd.Index(names, dtype=object).get_indexer(pd.Index(distinct, dtype=object)), np.int64)
    rows: Int = row_of_code[code]
    if (row_of_code < 0).any():
        row = int(np.flatnonzero(rows < 0)[0])
        raise RiskDataError(table, column, f"must be {what} of the venue", row=row, value=as_text(values.iloc[row]))
    return rows
