"""Margin functions as data: what a notional requires. The kinds are mixed freely in one venue.

A kind says its figures and their ranges, and its segments: the kernels, exact arithmetic and the comparison of initial
with maintenance margin read the segments alone. A new kind is a class here and a name in `MarginFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, as_text
from ..kernels.layouts import MarginFunctionArrays
from ..kernels.margin_function import DEDUCTION, FROM, RATE, ROOT, SLOPE

Unit: TypeAlias = Literal["notional", "quantity"]

_ZERO = Decimal(0)
_LOW, _HIGH = Decimal("1e-18"), Decimal("1e18")

_EDGE = 1.0 + 1e-12
"""A whole-notional rate steps up where float64 cannot tell the bracket's edge from a rounding above it."""


class Segment(NamedTuple):
    """Rule above a notional: ``notional * max(rate + slope * size, root * sqrt(size)) - deduction``, settle units.

    Only the first segment of a function has a slope or a root.
    """

    lower: Decimal = _ZERO
    rate: Decimal = _ZERO
    slope: Decimal = _ZERO
    root: Decimal = _ZERO
    deduction: Decimal = _ZERO


class _Kind(msgspec.Struct, frozen=True, tag_field="type"):
    """Properties of a kind of margin function, those of a kind that does without them."""

    of_assets: ClassVar[bool] = True

    @property
    def _by_quantity(self) -> bool:
        """Whether the size in the segments is the token quantity, not the notional."""
        return False

    @property
    def _least(self) -> Decimal:
        """Least requirement of a notional above 0, settle units."""
        return _ZERO

    @property
    def _steps(self) -> bool:
        """Whether the requirement steps up where a segment begins."""
        return False

    def _segments(self) -> list[Segment]:
        """Segments, ascending, the first from 0; every figure the shortest decimal of its float64."""
        raise NotImplementedError

    def _check(self, figures: _Figures, initial: bool) -> None:
        """Refuse figures that are out of range."""
        raise NotImplementedError


class Sqrt(_Kind, frozen=True, tag="sqrt"):
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
    unit: Unit = "notional"

    @property
    def _by_quantity(self) -> bool:
        return self.unit == "quantity"

    def _segments(self) -> list[Segment]:
        return [Segment(rate=_shortest(self.base), root=_shortest(self.factor))]

    def _check(self, figures: _Figures, initial: bool) -> None:
        figures.positive("base", self.base)
        if self.factor != 0:
            figures.positive("factor", self.factor)


class Linear(_Kind, frozen=True, tag="linear"):
    """A margin function whose rate grows with the size: ``notional * (base + slope * size)``, a minimum at least.

    Attributes
    ----------
    base : Decimal
        Fraction of the notional at size 0, > 0 and at most 1.
    slope : Decimal
        Growth of the fraction per unit of the size, >= 0.
    minimum : Decimal
        Least requirement of a notional above 0, settle units.
    unit : {"notional", "quantity"}
        The size: the notional in settle units, or the quantity in base units.
    """

    base: Decimal
    slope: Decimal
    minimum: Decimal = _ZERO
    unit: Unit = "notional"

    @property
    def _by_quantity(self) -> bool:
        return self.unit == "quantity"

    @property
    def _least(self) -> Decimal:
        return _shortest(self.minimum)

    def _segments(self) -> list[Segment]:
        return [Segment(rate=_shortest(self.base), slope=_shortest(self.slope))]

    def _check(self, figures: _Figures, initial: bool) -> None:
        figures.fraction("base", self.base)
        for name, value in (("slope", self.slope), ("minimum", self.minimum)):
            if value != 0:
                figures.positive(name, value)


class Bracket(msgspec.Struct, frozen=True, rename={"lower": "from"}):
    """A notional from which a rate counts."""

    lower: Decimal
    rate: Decimal


class Tiers(_Kind, frozen=True, tag="tiers"):
    """Each bracket's rate on the notional inside it; ``whole``: the last bracket's rate on the whole notional."""

    brackets: list[Bracket]
    whole: bool = False

    @property
    def _steps(self) -> bool:
        return self.whole

    def _segments(self) -> list[Segment]:
        """With its deduction the requirement of a bracket begins where that of the bracket before ends."""
        segments: list[Segment] = []
        deduction = before = _ZERO
        for bracket in self.brackets:
            lower, rate = _shortest(bracket.lower), _shortest(bracket.rate)
            deduction += lower * (rate - before)
            before = rate
            segments.append(Segment(lower, rate, deduction=_ZERO if self.whole else deduction))
        return segments

    def _check(self, figures: _Figures, initial: bool) -> None:
        if not self.brackets:
            raise figures.wrong("brackets", "must hold at least one bracket", self.brackets)
        if self.whole and not initial:
            raise figures.wrong("whole", "must be false for a maintenance margin, which may have no step", self.whole)
        for row, bracket in enumerate(self.brackets):
            path = f"brackets[{row}]"
            figures.fraction(f"{path}.rate", bracket.rate)
            figures.number(f"{path}.from", bracket.lower, _ZERO)
            if row == 0 and bracket.lower != 0:
                raise figures.wrong(f"{path}.from", "must be 0", bracket.lower)
            if row and bracket.lower <= self.brackets[row - 1].lower:
                raise figures.wrong(f"{path}.from", "must be above the bracket before", bracket.lower)
            if row and bracket.rate < self.brackets[row - 1].rate:
                raise figures.wrong(f"{path}.rate", "must not be below the bracket before", bracket.rate)


class OpenInterest(_Kind, frozen=True, tag="open_interest"):
    """A rate that grows from ``base`` to 1 while the market's open interest goes from ``lower`` to ``upper``."""

    of_assets: ClassVar[bool] = False

    base: Decimal
    lower: Decimal
    upper: Decimal

    def _segments(self) -> list[Segment]:
        return [Segment(rate=_shortest(self.base))]

    def _check(self, figures: _Figures, initial: bool) -> None:
        figures.fraction("base", self.base)
        figures.number("lower", self.lower, _ZERO)
        if not (self.upper.is_finite() and self.lower < self.upper <= _HIGH):
            raise figures.wrong("upper", "must be more than lower", self.upper)

    def rate_at(self, open_interest: Fraction) -> Fraction:
        """Rate at an open interest in settle units, exactly."""
        base, lower, upper = (Fraction(_shortest(figure)) for figure in (self.base, self.lower, self.upper))
        return base + (1 - base) * min(max((open_interest - lower) / (upper - lower), Fraction(0)), Fraction(1))


MarginFunction: TypeAlias = Sqrt | Linear | Tiers | OpenInterest

IMF, MMF = 0, 1
"""Position of a function among the two of a market or asset: item ``n`` has ``2 n + IMF`` and ``2 n + MMF``."""


@dataclass(frozen=True)
class MarginFunctions:
    """Margin functions in columns, two for each market and then two for each asset (N = 2 (M + K), T segments).

    Attributes
    ----------
    functions : tuple of MarginFunction
        As the venue file has them.
    by_quantity : ndarray of bool, shape (N,)
        Their rate depends on the token quantity, not on the notional.
    minimum : ndarray of float64, shape (N,)
        Least requirement of a notional above 0, settle units.
    offset : ndarray of int64, shape (N + 1,)
        Function f owns segments ``offset[f]:offset[f + 1]``.
    segments : ndarray of float64, shape (T, 5)
        Fields of `Segment`, settle units.
    """

    functions: tuple[MarginFunction, ...]
    by_quantity: Bool
    minimum: Float
    offset: Int
    segments: Float

    @classmethod
    def of(cls, functions: Sequence[MarginFunction]) -> MarginFunctions:
        """Bring functions that `check` has passed into columns."""
        rows = [[float(figure) for figure in segment] for function in functions for segment in function._segments()]
        counts = [len(function._segments()) for function in functions]
        segments = np.array(rows).reshape(-1, len(Segment._fields))
        segments[np.repeat([function._steps for function in functions], counts), FROM] *= _EDGE
        return cls(
            functions=tuple(functions),
            by_quantity=np.array([function._by_quantity for function in functions]),
            minimum=np.array([float(function._least) for function in functions]),
            offset=np.cumsum([0, *counts]),
            segments=segments,
        )

    @cached_property
    def first(self) -> Float:
        """First segment of each function, shape (N, 5)."""
        return self.segments[self.offset[:-1]]

    @cached_property
    def by_open_interest(self) -> dict[int, OpenInterest]:
        """Those whose rate follows from the open interest of their market, by row."""
        return {f: function for f, function in enumerate(self.functions) if isinstance(function, OpenInterest)}

    @cached_property
    def open_interest_markets(self) -> frozenset[int]:
        """Rows of the markets that have a margin function by open interest."""
        return frozenset(f // 2 for f in self.by_open_interest)

    @cached_property
    def _exact(self) -> tuple[list[Segment], ...]:
        edge = _shortest(Decimal(_EDGE))
        return tuple(
            [row._replace(lower=row.lower * edge) if function._steps else row for row in function._segments()]
            for function in self.functions
        )

    def requirement(
        self, f: int, notional: Decimal, price: Decimal, open_interest: Callable[[int], Fraction]
    ) -> Decimal:
        """Requirement of function ``f`` in exact arithmetic, in the decimal context that is set.

        Parameters
        ----------
        f
            Row of the function.
        notional, price
            Settle units, > 0, and settle units per token.
        open_interest
            Open interest of a market, by its row, in settle units.

        Returns
        -------
        Decimal
            Settle units.
        """
        function, segment = self.functions[f], self._exact[f][0]
        for later in self._exact[f][1:]:
            if notional > later.lower:
                segment = later
        size = notional / price if function._by_quantity else notional
        rate = segment.rate + segment.slope * size if segment.slope else segment.rate
        if segment.root:
            rate = max(rate, segment.root * size.sqrt())
        if f in self.by_open_interest:
            grown = self.by_open_interest[f].rate_at(open_interest(f // 2))
            rate = Decimal(grown.numerator) / grown.denominator
        required = notional * rate - segment.deduction
        return max(required, function._least) if notional else required

    @cached_property
    def grows(self) -> bool:
        """Whether a function has a slope or a minimum."""
        return bool(self.minimum.any() or self.first[:, SLOPE].any())

    def tiers(self, first: int, last: int, unit: float) -> tuple[Float, Float]:
        """Segments after the first, as `riskcore.kernels.layouts.RequirementLookup` has them.

        Parameters
        ----------
        first, last
            Items from the first on, before the last: markets, and after them assets (R of them).
        unit
            Settle units per settle quantum.

        Returns
        -------
        tiers, deductions : ndarray of float64, shape (T, R + 1, 4)
        """
        start = self.offset[2 * first : 2 * last + 1]
        later = max(int(np.diff(start).max(initial=1)) - 1, 0)
        tiers, deductions = np.zeros((2, later, last - first + 1, 4))
        tiers[..., :2] = np.inf
        for f in np.flatnonzero(np.diff(start) > 1).tolist():
            segments = self.segments[start[f] + 1 : start[f + 1]]
            tiers[: len(segments), f // 2, f % 2] = segments[:, FROM] / unit
            tiers[: len(segments), f // 2, 2 + f % 2] = segments[:, RATE]
            deductions[: len(segments), f // 2, f % 2] = segments[:, DEDUCTION] / unit
        return tiers, deductions

    def folded(self, price: Float, open_interest: Callable[[int], Fraction], unit: float) -> MarginFunctionArrays:
        """Fold the functions with a tick's prices.

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
        MarginFunctionArrays
            For notionals in settle quanta.
        """
        segments, counts = self.segments.copy(), np.diff(self.offset)
        for f, function in self.by_open_interest.items():
            segments[self.offset[f], RATE] = float(function.rate_at(open_interest(f // 2)))
        with np.errstate(divide="ignore", invalid="ignore"):
            size = unit / np.where(self.by_quantity, np.repeat(price, 2), 1.0)  # per quantum of notional
            segments[:, SLOPE] *= np.repeat(size, counts)
            segments[:, ROOT] *= np.repeat(np.sqrt(size), counts)
            np.nan_to_num(segments, copy=False, posinf=0.0)  # no price: nobody has it
            segments[:, [FROM, DEDUCTION]] /= unit
            first = segments[self.offset[:-1]]
            flat = np.where(first[:, ROOT] > 0.0, np.square(first[:, RATE] / first[:, ROOT]), np.inf)
        flat[(first[:, SLOPE] > 0.0) | (self.minimum > 0.0)] = 0.0
        several = np.flatnonzero(counts > 1)
        flat[several] = segments[self.offset[several] + 1, FROM]
        return MarginFunctionArrays(
            flat_notional=flat,
            flat_rate=np.ascontiguousarray(first[:, RATE]),
            minimum=self.minimum / unit,
            offset=self.offset,
            segments=segments,
        )


@dataclass(frozen=True)
class _Figures:
    """The figures of a margin function at a path of the venue file, and the ranges that they must keep."""

    path: str

    def wrong(self, name: str, rule: str, value: object) -> RiskDataError:
        return RiskDataError("venue", f"{self.path}.{name}", rule, value=as_text(value))

    def number(self, name: str, value: Decimal, low: Decimal) -> None:
        if not value.is_finite() or not low <= value <= _HIGH:
            raise self.wrong(name, f"must be a number from {low} to {_HIGH}", value)

    def positive(self, name: str, value: Decimal) -> None:
        self.number(name, value, _LOW)

    def fraction(self, name: str, value: Decimal) -> None:
        self.positive(name, value)
        if value > 1:
            raise self.wrong(name, "must be at most 1", value)


def check(path: str, function: MarginFunction, *, initial: bool, market: bool) -> MarginFunction:
    """Return a margin function whose figures are in range.

    Raises
    ------
    RiskDataError
        A figure is out of range, or an asset cannot have the kind; the message holds the path.
    """
    figures = _Figures(path)
    if not market and not function.of_assets:
        kinds = [kind for kind in MarginFunction.__args__ if kind.of_assets]
        names = [repr(kind.__struct_config__.tag) for kind in kinds]
        rule = f"must be {', '.join(names[:-1])} or {names[-1]} for an asset"
        raise figures.wrong("type", rule, function.__struct_config__.tag)
    function._check(figures, initial)
    return function


def check_order(path: str, initial: MarginFunction, maintenance: MarginFunction) -> None:
    """Refuse a maintenance margin that is above the initial margin at some size, or at some open interest.

    Where the two follow from different things (notional, quantity, open interest), or the initial one is flat, as in
    studies of the maintenance margin alone, their least fractions are compared.

    Parameters
    ----------
    path : str
        Path of the maintenance margin in the venue file, for the message.
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
    >>> check_order("markets[0].mmfFunction", low, high)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue.markets[0].mmfFunction, value '0.05': must not be above ...
    """
    for size in _decisive_sizes(initial, maintenance):
        most, least = _fraction(maintenance, size), _fraction(initial, size)
        if most > least * _ROUNDING:
            of = "an open interest" if isinstance(maintenance, OpenInterest) else "a size"
            rule = f"must not be above the initial margin, {_text(least)}, as it is at {of} of {_text(size)}"
            raise RiskDataError("venue", path, rule, value=_text(most))


_TINY, _HUGE, _ROUNDING = Decimal("1e-9"), Decimal("1e18"), 1 + Decimal("1e-12")
_CONTEXT = Context(prec=40)


def _text(value: Decimal) -> str:
    return f"{Context(prec=10).plus(value).normalize():f}"


def _depends_on(function: MarginFunction) -> set[str]:
    """What the fraction of a margin function follows from."""
    if isinstance(function, OpenInterest):
        return {"open_interest"}
    segments, sizes = function._segments(), set()
    if any(segment.slope or segment.root for segment in segments):
        sizes.add("quantity" if function._by_quantity else "notional")
    if len(segments) > 1 or function._least:
        sizes.add("notional")
    return sizes


def _decisive_sizes(initial: MarginFunction, maintenance: MarginFunction) -> list[Decimal]:
    """Sizes at one of which a maintenance margin is above the initial one if it is at any."""
    if len(_depends_on(initial) | _depends_on(maintenance)) > 1 or not _depends_on(initial):
        return [_TINY]
    sizes = {_TINY, _HUGE}
    for function in (initial, maintenance):
        if isinstance(function, OpenInterest):
            sizes.update((function.lower, function.upper))
            continue
        for segment in function._segments():
            sizes.add(segment.lower)
            # where the root takes over, and where the requirement outgrows the minimum
            sizes.update(_roots(segment.slope, -segment.root, segment.rate))
            if function._least:
                sizes.update(size.sqrt(_CONTEXT) for size in _roots(segment.slope, segment.rate, -function._least))
                sizes.add(_CONTEXT.divide(function._least, segment.rate))
    # the difference of two requirements is largest where one of them has a kink, or where both grow alike
    branches = [list(_branches(function)) for function in (maintenance, initial)]
    for (rate, slope, root), (other_rate, other_slope, other_root) in product(*branches):
        if slope != other_slope or root != other_root:
            growth = 2 * (slope - other_slope), (root - other_root) * Decimal("1.5"), rate - other_rate
            sizes.update(_roots(*growth))
    return sorted(size for size in sizes if _TINY <= size <= _HUGE)


def _branches(function: MarginFunction) -> Iterator[tuple[Decimal, Decimal, Decimal]]:
    """Rate, slope and root of each formula that a margin function follows somewhere; all 0: its minimum."""
    if function._least:
        yield _ZERO, _ZERO, _ZERO
    for segment in function._segments():
        yield segment.rate, segment.slope, _ZERO
        if segment.root:
            yield _ZERO, _ZERO, segment.root


def _roots(square: Decimal, linear: Decimal, constant: Decimal) -> list[Decimal]:
    """Sizes x * x of which a x * x + b x + c is 0, for x > 0."""
    c = _CONTEXT
    if not square:
        roots = [c.divide(-constant, linear)] if linear else []
    else:
        inside = c.subtract(c.multiply(linear, linear), c.multiply(4 * square, constant))
        signs = (1, -1) if inside >= 0 else ()
        roots = [c.divide(c.subtract(sign * c.sqrt(inside), linear), 2 * square) for sign in signs]
    return [c.multiply(x, x) for x in roots if x > 0]


def _fraction(function: MarginFunction, size: Decimal) -> Decimal:
    """Requirement of a size as a part of the size; of an open interest where it follows from that."""
    if isinstance(function, OpenInterest):
        grown = function.rate_at(Fraction(size))
        return _CONTEXT.divide(Decimal(grown.numerator), Decimal(grown.denominator))
    c = _CONTEXT
    segment = [row for row in function._segments() if row.lower < size][-1]
    rate = c.add(segment.rate, c.multiply(segment.slope, size))
    if segment.root:
        rate = max(rate, c.multiply(segment.root, c.sqrt(size)))
    return max(c.subtract(rate, c.divide(segment.deduction, size)), c.divide(function._least, size))


def _shortest(value: Decimal) -> Decimal:
    return Decimal(repr(float(value)))
