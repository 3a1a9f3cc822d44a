"""Readers of the figures of a model: each takes a value of JSON and its path, and returns it parsed or refuses it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar, cast, get_origin, get_type_hints

import numpy as np

from ..boundary import RiskDataError, is_unicode

Reader: TypeAlias = Callable[[Any, str], Any]
T = TypeVar("T")

_DIGITS = 60
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?|[+-]?\d+/\d+", re.ASCII)


def wrong(path: str, rule: str, value: object = None) -> RiskDataError:
    """Return the error of a figure of a model."""
    return RiskDataError("scenario_model", path or None, rule, value=value)


def number(
    low: int | None = None, high: int | None = None, *, above: int | None = None, below: int | None = None
) -> Reader:
    """Read a decimal or a fraction, exactly; a float is its shortest decimal."""
    limits = [
        f"{word} {limit}"
        for word, limit in (("at least", low), ("more than", above), ("at most", high), ("less than", below))
        if limit is not None
    ]
    range_ = f"must be {' and '.join(limits)}"

    def read(value: Any, path: str) -> Fraction:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | Fraction):
            raise wrong(path, "must be a number or the text of one", value)
        text = str(value).strip()
        if len(text) > 2 * _DIGITS or not _NUMBER.fullmatch(text) or text.endswith("/0"):
            raise wrong(path, f"must be a decimal or a fraction of at most {_DIGITS} digits", value)
        try:
            parsed = Fraction(text)
        except ZeroDivisionError:
            raise wrong(path, "must have a denominator that is not 0", value) from None
        if max(abs(parsed.numerator), parsed.denominator) >= 10**_DIGITS:
            raise wrong(path, f"must be a decimal or a fraction of at most {_DIGITS} digits", value)
        if (
            (low is not None and parsed < low)
            or (above is not None and parsed <= above)
            or (high is not None and parsed > high)
            or (below is not None and parsed >= below)
        ):
            raise wrong(path, range_, value)
        return parsed

    return read


def whole(low: int, high: int) -> Reader:
    """Read a whole number."""
    figure = number(low, high)

    def read(value: Any, path: str) -> int:
        parsed: Fraction = figure(value, path)
        if parsed.denominator != 1:
            raise wrong(path, "must be a whole number", value)
        return int(parsed)

    return read


def word(*words: str) -> Reader:
    """Read one of some words."""
    listed = " or ".join(filter(None, (", ".join(map(repr, words[:-1])), repr(words[-1]))))

    def read(value: Any, path: str) -> str:
        if value not in words:
            raise wrong(path, f"must be {listed}", value)
        return cast("str", value)

    return read


def text(value: Any, path: str) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value.strip() or not is_unicode(value):
        raise wrong(path, "must be text that is not empty", value)
    return value


def flag(value: Any, path: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise wrong(path, "must be true or false", value)
    return value


def optional(reader: Reader) -> Reader:
    """Read null as None, everything else by a reader."""
    return lambda value, path: None if value is None else reader(value, path)


def either(is_first: Callable[[Any], bool], first: Reader, second: Reader) -> Reader:
    """Read by the first reader what the test accepts, everything else by the second."""
    return lambda value, path: (first if is_first(value) else second)(value, path)


def listed(reader: Reader, *, least: int = 0) -> Reader:
    """Read a list."""

    def read(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise wrong(path, "must be a list", value)
        if len(value) < least:
            raise wrong(path, f"must have at least {least} row{'s' * (least > 1)}", value)
        return tuple(reader(each, f"{path}[{index}]") for index, each in enumerate(value))

    return read


def symbols(value: Any, path: str) -> tuple[str, ...]:
    """Read a list of names, each once."""
    names: tuple[str, ...] = listed(text, least=1)(value, path)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise wrong(f"{path}[{index}]", "must not appear twice", name)
    return names


def by_name(reader: Reader) -> Reader:
    """Read an object whose keys are names of underlyings or assets."""

    def read(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(path, "must be an object with a row for each name", value)
        return {text(name, path): reader(each, f"{path}.{name}") for name, each in value.items()}

    return read


@cache
def readers(kind: type) -> dict[str, Reader]:
    """Return the reader of each field of a dataclass: the second part of its annotation."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def _default(each: dataclasses.Field[Any]) -> Any:
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return each.default


def record(kind: type[T]) -> Reader:
    """Read an object into a dataclass whose annotations have a reader for each field."""

    def read(value: Any, path: str) -> T:
        if not isinstance(value, dict):
            raise wrong(path, "must be an object", value)
        known = readers(cast("Any", kind))
        for name in value:
            if name not in known:
                raise _unknown(_below(path, name), name, known)
        for each in dataclasses.fields(cast("Any", kind)):
            if _default(each) is dataclasses.MISSING and each.name not in value:
                raise wrong(_below(path, each.name), "is missing")
        return kind(**{name: known[name](each, _below(path, name)) for name, each in value.items()})

    return read


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unknown(path: str, name: str, known: Iterable[str]) -> RiskDataError:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return wrong(path, f"is no key of a model; do you mean {near[0]!r}?" if near else "is no key of a model")


def one_of_kinds(kinds: dict[str, type]) -> Reader:
    """Read an object by the dataclass that its key ``kind`` names."""
    read_kind = word(*kinds)

    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong(path, "must be an object", value)
        if "kind" not in value:
            raise wrong(f"{path}.kind", "is missing")
        kind = kinds[read_kind(value["kind"], f"{path}.kind")]
        return record(kind)({name: each for name, each in value.items() if name != "kind"}, path)

    return read


def decimal_text(value: Fraction) -> str:
    """Return a number as the shortest text that reads back: a decimal if it has one, else a fraction.

    Parameters
    ----------
    value : Fraction
        The number.

    Returns
    -------
    str
        Its text.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario.figures import decimal_text
    >>> decimal_text(Fraction(9, 50)), decimal_text(Fraction(11, 6)), decimal_text(Fraction(-3))
    ('0.18', '11/6', '-3')
    """
    places, rest = 0, value.denominator
    for factor in (2, 5):
        count = 0
        while rest % factor == 0:
            rest //= factor
            count += 1
        places = max(places, count)
    if rest != 1:
        return str(value)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    whole_part, fraction = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' * (value < 0)}{whole_part}{'.' * bool(fraction)}{fraction}"


def plain(value: Any) -> Any:
    """Return a parsed value as JSON has it; fields at their defaults are left out."""
    if isinstance(value, Fraction):
        return decimal_text(value)
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if dataclasses.is_dataclass(value):
        content = {"kind": value.kind} if hasattr(value, "kind") and "kind" not in vars(value) else {}
        for each in dataclasses.fields(value):
            found, default = getattr(value, each.name), _default(each)
            if default is dataclasses.MISSING or found != default:
                content[each.name] = plain(found)
        return content
    return value
