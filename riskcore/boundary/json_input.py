"""Reads JSON that a venue sent into a declared shape; an error names the path of the value that does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np

from .errors import RiskDataError
from .escaping import is_unicode

Payload: TypeAlias = "str | Path | dict[str, Any] | list[Any]"
T = TypeVar("T")

_SURROGATE = "must hold text without a lone surrogate, which UTF-8 cannot encode"


class Row(msgspec.Struct):
    """Part of a reply; every decimal in it is finite and 0 or of a size from 1e-30 to 1e30.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from riskcore.boundary import Row
    >>> class Level(Row):
    ...     price: Decimal
    >>> Level(Decimal("NaN"))
    Traceback (most recent call last):
        ...
    ValueError: `price` must be 0 or a number from 1e-30 to 1e30, not NaN
    """

    def __post_init__(self) -> None:
        for name, sent in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value = getattr(self, name)
            if isinstance(value, Decimal) and not (
                value.is_finite() and (value.is_zero() or -30 <= value.adjusted() < 30)
            ):
                raise ValueError(f"`{sent}` must be 0 or a number from 1e-30 to 1e30, not {value}")


_MAX_DIGITS = 100
_MAX_DEPTH = 100
"""Levels of lists and objects within one another; replies of venues have less than ten."""


def raw(source: Payload, name: str) -> Any:
    """Return the JSON of a file, its decimals as text, or the parsed content, in plain types.

    Raises
    ------
    RiskDataError
        The file cannot be read, is not JSON, or has a value that JSON has no type for; the message holds its path.
    """
    if isinstance(source, dict | list):
        return _plain(source, name, "", 0)
    if not isinstance(source, str | Path):
        raise RiskDataError(name, None, f"must be a path, a dict or a list, not {type(source).__name__}")
    try:
        return _plain(json.loads(Path(source).read_text(), parse_float=str), name, "", 0)
    except OSError as error:
        raise RiskDataError(name, None, f"cannot be read: {error.strerror}", value=str(source)) from None
    except RiskDataError:
        raise
    except (ValueError, RecursionError) as error:
        raise RiskDataError(name, None, f"is not JSON: {error}", value=str(source)) from None


def _plain(value: Any, name: str, path: str, depth: int) -> Any:
    """Return a value of JSON in the types of JSON, and Decimal; keys of objects are text."""

    def wrong(rule: str, path: str = path, value: Any = None) -> RiskDataError:
        return RiskDataError(name, path.lstrip(".") or None, rule, value=value)

    if depth > _MAX_DEPTH:
        raise wrong(f"must not be nested deeper than {_MAX_DEPTH} levels", path[:100])
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            if not isinstance(key, str) or not is_unicode(key):
                raise wrong("must have text keys without a lone surrogate", value=key)
            items[str(key)] = _plain(item, name, f"{path}.{key}", depth + 1)
        return items
    if isinstance(value, list | tuple):
        return [_plain(item, name, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        if not is_unicode(value):
            raise wrong("must be text without a lone surrogate", value=value)
        return str(value)
    if isinstance(value, int):
        if abs(value) >= 10**_MAX_DIGITS:
            raise wrong(f"must be a number of at most {_MAX_DIGITS} digits", value=value)
        return int(value)
    if isinstance(value, Decimal) and not value.is_finite():
        raise wrong("must be a finite number", value=value)
    if isinstance(value, Decimal):
        return value
    raise wrong(f"must be text, a number, true, false, null, a list or an object, not {type(value).__name__}")


def read(source: Payload, shape: type[T], name: str) -> T:
    """Read JSON into a msgspec shape.

    Parameters
    ----------
    source
        A JSON file, or its content parsed.
    shape
        A msgspec Struct, or a list or dict of them. Fields of the type Decimal take text and numbers.
    name
        Name of the payload, for the error.

    Raises
    ------
    RiskDataError
        Something is missing or of another type; the message holds its path.
    """
    try:
        return msgspec.convert(raw(source, name), shape)
    except msgspec.ValidationError as error:
        raise RiskDataError(name, None, str(error)) from None
    except UnicodeEncodeError:
        raise RiskDataError(name, None, _SURROGATE) from None


def keyed(rows: Mapping[str, Any], shape: type[T], name: str, path: str) -> dict[str, T]:
    """Read rows by their key, as of `read`; the path of an error contains the key."""
    converted = {}
    for key, row in rows.items():
        try:
            converted[key] = msgspec.convert(row, shape)
        except msgspec.ValidationError as error:
            raise RiskDataError(name, f"{path}.{key}", str(error)) from None
        except UnicodeEncodeError:
            raise RiskDataError(name, path, _SURROGATE) from None
    return converted
