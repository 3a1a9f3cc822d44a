"""Margin functions as data: what a notional requires, by one of three kinds, freely mixed in one venue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, text_of


class Sqrt(msgspec.Struct, frozen=True, tag_field="type", tag="sqrt"):
    """A margin function that grows with the square root of the size: ``notional * max(base, factor * sqrt(size))``.

    Attributes
    ----------
    base : Decimal
        Smallest fraction of the notional, > 0.
    factor : Decimal
        Growth of the fraction per square root of the size's unit, >= 0.
    unit : {"notional", "quantity"}
        The size under the root: the notional in settle units, or the quantity in base units.

    Notes
    -----
    The rule: docs/one_tick.md, "Margin functions".

    Examples
    --------
    >>> from decimal import Decimal
    >>> from riskcore.venue import Sqrt
    >>> Sqrt(Decimal("0.02"), Decimal("0.0000561")).unit
    'notional'
    """

    base: Decimal
    factor: Decimal
    unit: Literal["notional", "quantity"] = "notional"


class Bracket(msgspec.Struct, frozen=True, rename={"lower": "from"}):
    """A notional from which a rate counts."""

    lower: Decimal
    rate: Decimal


class Tiers(msgspec.Struct, frozen=True, tag_field="type", tag="tiers"):
    """Each bracket's rate on the notional inside it; ``whole``: the last bracket's rate on the whole notional."""

    brackets: list[Bracket]
    whole: bool = False


class OpenInterest(msgspec.Struct, frozen=True, tag_field="type", tag="open_interest"):
    """A fraction of the notional that grows from ``base`` to 1 with the market's open interest.

    Attributes
    ----------
    base : Decimal
        Fraction at an open interest up to ``lower``, > 0 and at most 1.
    lower, upper : Decimal
        Open interest, settle units, from which the fraction grows, and at which it is 1.

    Notes
    -----
    The rule: docs/one_tick.md, "Margin functions"; dYdX documents it as its open-interest-scaled initial margin.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from riskcore.venue import OpenInterest
    >>> OpenInterest(Decimal("0.05"), Decimal(20_000_000), Decimal(50_000_000)).base
    Decimal('0.05')
    """

    base: Decimal
    lower: Decimal
    upper: Decimal


MarginFunction: TypeAlias = Sqrt | Tiers | OpenInterest

IMF, MMF = 0, 1
"""Position of a function among the two of a market or asset: item ``n`` has ``2 n + IMF`` and ``2 n + MMF``."""

_EDGE = 1.0 + 1e-12
"""A whole-notional rate steps up where float64 cannot tell the bracket's edge from a rounding above it."""

_LOW, _HIGH = Decimal("1e-18"), Decimal("1e18")


@dataclass(frozen=True)
class MarginFunctions:
    """Margin functions in columns, two for each market and then two for each asset (N = 2 (M + K), T brackets).

    Attributes
    ----------
    functions : tuple of MarginFunction
        As the venue gave them.
    base, factor : ndarray of float64, shape (N,)
        Of sqrt; of the others the lowest rate, and 0.
    by_quantity : ndarray of bool, shape (N,)
        The size under the root is the token quantity.
    bracket_offset : ndarray of int64, shape (N + 1,)
        Function c owns brackets ``bracket_offset[c]:bracket_offset[c + 1]``; only tiers have any.
    bracket_from, bracket_rate, bracket_deduction : ndarray of float64, shape (T,)
        The requirement above ``bracket_from`` is ``notional * rate - deduction``, settle units.
    """

    functions: tuple[MarginFunction, ...]
    base: Float
    factor: Float
    by_quantity: Bool
    bracket_offset: Int
    bracket_from: Float
    bracket_rate: Float
    bracket_deduction: Float

    @classmethod
    def of(cls, functions: Sequence[MarginFunction]) -> MarginFunctions:
        """Bring functions that `check` has passed into columns."""
        rows: list[tuple[float, float, bool]] = []
        brackets: list[tuple[float, float, float]] = []
        offset = [0]
        for function in functions:
            match function:
                case Sqrt(base, factor, unit):
                    rows.append((float(base), float(factor), unit == "quantity"))
                case OpenInterest(base):
                    rows.append((float(base), 0.0, False))
                case Tiers():
                    parts = deducted(function)
                    rows.append((float(parts[0][1]), 0.0, False))
                    edge = _EDGE if function.whole else 1.0
                    brackets += [(float(low) * edge, float(rate), float(cut)) for low, rate, cut in parts]
            offset.append(len(brackets))
        bases, factors, by_quantity = (np.array(c) for c in zip(*rows, strict=True))
        table = np.array(brackets, float).reshape(-1, 3)
        starts, rates, deductions = (np.ascontiguousarray(table[:, c]) for c in range(3))
        return cls(tuple(functions), bases, factors, by_quantity, np.array(offset), starts, rates, deductions)

    @cached_property
    def open_interest_markets(self) -> frozenset[int]:
        """Rows of the markets that have a margin function by open interest."""
        return frozenset(c // 2 for c, function in enumerate(self.functions) if isinstance(function, OpenInterest))

    @cached_property
    def exact(self) -> tuple[Sqrt | tuple[tuple[Decimal, Decimal, Decimal], ...] | OpenInterest, ...]:
        """The functions for exact arithmetic: every figure is the shortest decimal of its float64."""
        functions: list[Sqrt | tuple[tuple[Decimal, Decimal, Decimal], ...] | OpenInterest] = []
        for function in self.functions:
            match function:
                case Sqrt(base, factor, unit):
                    functions.append(Sqrt(_shortest(base), _shortest(factor), unit))
                case OpenInterest(base, lower, upper):
                    functions.append(OpenInterest(_shortest(base), _shortest(lower), _shortest(upper)))
                case Tiers(whole=whole):
                    edge = _shortest(Decimal(_EDGE)) if whole else Decimal(1)
                    functions.append(tuple((low * edge, rate, cut) for low, rate, cut in deducted(function)))
        return tuple(functions)

    def folded(
        self, price: Float, open_interest: Callable[[int], Fraction], unit: float
    ) -> tuple[Float, Float, Float, Float, Float]:
        """Coefficients of the margin functions at a tick's prices, for notionals in settle quanta.

        Parameters
        ----------
        price
            Price of each market and then each asset, shape (N / 2,).
        open_interest
            Open interest of a market, by its row, in settle units.
        unit
            Settle units per settle quantum.

        Returns
        -------
        base, factor (per square root of a quantum) and limit (quanta up to which ``base`` is the whole rule) of each
        margin function; from and deduction (quanta) of each bracket.
        """
        price, base = np.repeat(price, 2), self.base.copy()
        for c, function in enumerate(self.functions):
            if isinstance(function, OpenInterest):
                base[c] = float(grown_fraction(function, open_interest(c // 2)))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = self.factor * np.sqrt(unit / np.where(self.by_quantity, price, 1.0))
            limit = np.where(self.factor > 0.0, np.square(base / factor), np.inf)
        limit[np.isnan(limit)] = np.inf  # no price: no account has a position
        for c in np.flatnonzero(np.diff(self.bracket_offset) > 1).tolist():
            limit[c] = self.bracket_from[self.bracket_offset[c] + 1] / unit
        return base, np.nan_to_num(factor, posinf=0.0), limit, self.bracket_from / unit, self.bracket_deduction / unit


def grown_fraction(function: OpenInterest, open_interest: Fraction) -> Fraction:
    """Return the margin fraction at an open interest, exactly.

    Parameters
    ----------
    function : OpenInterest
        The margin function; its figures count as the shortest decimals of their float64.
    open_interest : Fraction
        Settle units, >= 0.

    Returns
    -------
    Fraction
        Part of the notional, from ``function.base`` to 1.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from fractions import Fraction
    >>> from riskcore.venue import OpenInterest, grown_fraction
    >>> grown_fraction(OpenInterest(Decimal("0.5"), Decimal(100), Decimal(200)), Fraction(150))
    Fraction(3, 4)
    """
    base, lower, upper = (Fraction(_shortest(f)) for f in (function.base, function.lower, function.upper))
    return base + (1 - base) * min(max((open_interest - lower) / (upper - lower), Fraction(0)), Fraction(1))


def deducted(function: Tiers) -> list[tuple[Decimal, Decimal, Decimal]]:
    """From, rate and cumulative deduction of each bracket; with it the requirement has no step."""
    rows: list[tuple[Decimal, Decimal, Decimal]] = []
    deduction = before = Decimal(0)
    for bracket in function.brackets:
        lower, rate = _shortest(bracket.lower), _shortest(bracket.rate)
        deduction += lower * (rate - before)
        before = rate
        rows.append((lower, rate, Decimal(0) if function.whole else deduction))
    return rows


def check(path: str, function: MarginFunction, *, initial: bool, market: bool) -> MarginFunction:
    """Return a margin function whose figures are in range.

    Raises
    ------
    RiskDataError
        A figure is out of range, or the kind is not for this place; the message holds the path.
    """

    def wrong(name: str, rule: str, value: object) -> RiskDataError:
        return RiskDataError("venue", f"{path}.{name}", rule, value=text_of(value))

    def figure(name: str, value: Decimal, low: Decimal) -> None:
        if not value.is_finite() or not low <= value <= _HIGH:
            raise wrong(name, f"must be a number from {low} to {_HIGH}", value)

    def positive(name: str, value: Decimal) -> None:
        figure(name, value, _LOW)

    def fraction(name: str, value: Decimal) -> None:
        positive(name, value)
        if value > 1:
            raise wrong(name, "must be at most 1", value)

    match function:
        case Sqrt(base, factor):
            positive("base", base)
            if factor != 0:
                positive("factor", factor)
        case OpenInterest(base, lower, upper):
            if not market:
                raise wrong("type", "must be 'sqrt' or 'tiers' for an asset", "open_interest")
            fraction("base", base)
            figure("lower", lower, Decimal(0))
            if not (upper.is_finite() and lower < upper <= _HIGH):
                raise wrong("upper", "must be more than lower", upper)
        case Tiers(brackets, whole):
            if not brackets:
                raise wrong("brackets", "must hold at least one bracket", brackets)
            if whole and not initial:
                raise wrong("whole", "must be false for a maintenance margin, which may have no step", whole)
            for index, bracket in enumerate(brackets):
                fraction(f"brackets[{index}].rate", bracket.rate)
                figure(f"brackets[{index}].from", bracket.lower, Decimal(0))
                if index == 0 and bracket.lower != 0:
                    raise wrong("brackets[0].from", "must be 0", bracket.lower)
                if index and bracket.lower <= brackets[index - 1].lower:
                    raise wrong(f"brackets[{index}].from", "must be above the bracket before", bracket.lower)
                if index and bracket.rate < brackets[index - 1].rate:
                    raise wrong(f"brackets[{index}].rate", "must not be below the bracket before", bracket.rate)
    return function


def check_order(path: str, initial: MarginFunction, maintenance: MarginFunction) -> None:
    """Refuse a maintenance margin that is above the initial margin at some size, or at some open interest.

    Where the two follow from different things (notional, quantity, open interest), or the initial one is flat, as in
    studies of the maintenance margin alone, their least fractions are compared.

    Parameters
    ----------
    path : str
        Place of the maintenance margin in the venue file, for the message.
    initial, maintenance : MarginFunction
        The two margin functions of a market or asset.

    Raises
    ------
    RiskDataError
        The message names the first size at which it is above, and both fractions.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from riskcore.venue import Sqrt, check_order
    >>> low, high = (Sqrt(Decimal(base), Decimal(0)) for base in ("0.02", "0.05"))
    >>> check_order("markets[0].mmfFunction", high, low)
    >>> check_order("markets[0].mmfFunction", low, high)
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue.markets[0].mmfFunction, value '0.05': must not be above ...
    """
    for size in _telling_sizes(initial, maintenance):
        required, allowed = _fraction(maintenance, size), _fraction(initial, size)
        if required > allowed * _ROUNDING:
            noun = "an open interest" if isinstance(maintenance, OpenInterest) else "a size"
            rule = f"must not be above the initial margin, {_text(allowed)}, as it is at {noun} of {_text(size)}"
            raise RiskDataError("venue", path, rule, value=_text(required))


_TINY, _HUGE, _ROUNDING = Decimal("1e-9"), Decimal("1e18"), 1 + Decimal("1e-12")
_CONTEXT = Context(prec=40)


def _text(value: Decimal) -> str:
    return f"{Context(prec=10).plus(value).normalize():f}"


def _telling_sizes(initial: MarginFunction, maintenance: MarginFunction) -> list[Decimal]:
    """Sizes at one of which a maintenance margin is above the initial one if it is at any."""
    functions = initial, maintenance
    kinds = [type(function) for function in functions]
    if OpenInterest in kinds and kinds != [OpenInterest, OpenInterest]:
        return [_TINY]
    if isinstance(initial, Sqrt) and not initial.factor:
        return [_TINY]
    roots = [function for function in functions if isinstance(function, Sqrt) and function.factor]
    if len({function.unit for function in roots}) == 2 or (
        len(roots) == 1 and Tiers in kinds and roots[0].unit == "quantity"
    ):
        return [_TINY]
    sizes = {_TINY, _HUGE}
    for function in functions:
        match function:
            case Sqrt(base, factor) if factor:
                sizes.add(_CONTEXT.power(_CONTEXT.divide(base, factor), 2))
            case Tiers(brackets):
                sizes.update(bracket.lower for bracket in brackets[1:])
            case OpenInterest(_, lower, upper):
                sizes.update((lower, upper))
    if isinstance(maintenance, Tiers) and roots:
        # above its kink a root meets each bracket where 1.5 times its fraction is the bracket's rate
        for bracket in maintenance.brackets:
            sizes.add(_CONTEXT.power(_CONTEXT.divide(bracket.rate, roots[0].factor * Decimal("1.5")), 2))
    return sorted(size for size in sizes if size >= _TINY)


def _fraction(function: MarginFunction, size: Decimal) -> Decimal:
    """Margin fraction at a size, or at an open interest where the function is of that kind."""
    match function:
        case Sqrt(base, factor):
            return max(base, _CONTEXT.multiply(factor, _CONTEXT.sqrt(size)))
        case OpenInterest(base, lower, upper):
            grown = _CONTEXT.divide(size - lower, upper - lower)
            return base + (1 - base) * min(max(grown, Decimal(0)), Decimal(1))
        case Tiers():
            _, rate, deduction = [row for row in deducted(function) if row[0] < size][-1]
            return _CONTEXT.subtract(rate, _CONTEXT.divide(deduction, size))


def _shortest(value: Decimal) -> Decimal:
    return Decimal(repr(float(value)))
