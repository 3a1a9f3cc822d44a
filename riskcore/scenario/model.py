"""A scenario model: every figure of a portfolio margin system as data, and the scenarios that its figures give."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from .figures import (
    by_name,
    decimal_text,
    either,
    flag,
    listed,
    number,
    one_of_kinds,
    optional,
    plain,
    record,
    symbols,
    text,
    whole,
    word,
    wrong,
)

if TYPE_CHECKING:
    import pandas as pd

    from .traits import Traits

OTHERS = "others"
"""Key of a figure by underlying that stands for every underlying without a row."""
_ZERO, _ONE = Fraction(0), Fraction(1)


class Vol(IntEnum):
    """Rule by which a scenario changes the volatility of an option.

    Attributes
    ----------
    SAME, UP, DOWN
        None; the shares ``up`` and ``down``, which depend on the time to expiry.
    POINTS_UP, POINTS_DOWN, PERCENT_UP, PERCENT_DOWN
        Points, and shares of the volatility, by days to expiry.
    LINEAR, ABS
        Rotations of the skew.
    RELATIVE, ABSOLUTE
        The change that the row itself gives: a share of the volatility, or points.

    Examples
    --------
    >>> from riskcore.scenario import Vol
    >>> Vol.POINTS_UP.name, int(Vol.SAME)
    ('POINTS_UP', 0)
    """

    SAME = 0
    UP = 1
    DOWN = 2
    POINTS_UP = 3
    POINTS_DOWN = 4
    PERCENT_UP = 5
    PERCENT_DOWN = 6
    LINEAR = 7
    ABS = 8
    RELATIVE = 9
    ABSOLUTE = 10


_LARGER = {"larger_up": (Vol.POINTS_UP, Vol.PERCENT_UP), "larger_down": (Vol.POINTS_DOWN, Vol.PERCENT_DOWN)}
_VOLS = {vol.name.lower(): (vol,) for vol in Vol} | _LARGER
SKEWS = (Vol.LINEAR, Vol.ABS)
_SETS = ("window", "stress")


def _by_underlying(reader: Any) -> Any:
    return either(lambda value: isinstance(value, dict), by_name(reader), reader)


# ---- What a file has


@dataclass(frozen=True, kw_only=True)
class ScenarioRow:
    """A row of ``scenarios`` or ``tails`` as a file has it.

    Attributes
    ----------
    move : Fraction or dict
        Relative move of the price, or one for each underlying.
    ranges : Fraction or None
        Instead of ``move``: multiple of the price scan range of an underlying, an amount.
    vol : str
        Rule of the volatility: the name of a `Vol` in lower case, or "larger_up", "larger_down" for both rules.
    vol_change : Fraction or dict
        Change of the volatility of a row "relative" (0.1 is a tenth more) or "absolute" (0.1 is ten points).
    weight, kappa : Fraction or None
        Weight of the change of value; with ``kappa`` it is ``kappa * range / |move|``.
    hours : Fraction
        Hours that pass.
    dampener : Fraction or None
        Amount that is taken off a profit or loss; without it the model's one.
    coin_tail : bool
        Whether the change of inverse contracts in coin is damped in the quote unit.
    probability : Fraction or None
        Weight of the row in a measure other than "worst", in proportion to the sum over its set.
    set : str
        "window", or "stress" for the stressed set of a measure.
    name : str or None
        Name of the scenario.
    """

    move: Annotated[Any, _by_underlying(number(-1))] = _ZERO
    ranges: Annotated[Fraction | None, optional(number())] = None
    vol: Annotated[str, word(*_VOLS)] = "same"
    vol_change: Annotated[Any, _by_underlying(number())] = _ZERO
    weight: Annotated[Fraction | None, optional(number(0))] = None
    kappa: Annotated[Fraction | None, optional(number(0))] = None
    hours: Annotated[Fraction, number(0)] = _ZERO
    dampener: Annotated[Fraction | None, optional(number(0))] = None
    coin_tail: Annotated[bool, flag] = False
    probability: Annotated[Fraction | None, optional(number(0))] = None
    set: Annotated[str, word(*_SETS)] = "window"
    name: Annotated[str | None, optional(text)] = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Equally spaced moves from low to high, each with the rules of ``vols`` in their order.

    Attributes
    ----------
    range, steps : Fraction, int
        Moves ``range * j / steps`` for ``j = -steps..steps``.
    low, high, points : Fraction, Fraction, int
        Instead: ``points`` equidistant moves from ``low`` to ``high``.
    vols : tuple of str
        Rules of the volatility.
    """

    range: Annotated[Fraction | None, optional(number(above=0))] = None
    steps: Annotated[int | None, optional(whole(1, 1000))] = None
    low: Annotated[Fraction | None, optional(number(-1))] = None
    high: Annotated[Fraction | None, optional(number(-1))] = None
    points: Annotated[int | None, optional(whole(2, 2001))] = None
    vols: Annotated[tuple[str, ...], listed(word(*_VOLS), least=1)] = ("same",)

    @property
    def moves(self) -> list[Fraction]:
        """The moves from low to high."""
        if self.range is not None and self.steps is not None:
            return [self.range * j / self.steps for j in range(-self.steps, self.steps + 1)]
        assert self.low is not None
        assert self.high is not None
        assert self.points is not None
        return [self.low + (self.high - self.low) * k / (self.points - 1) for k in range(self.points)]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Underlyings whose changes are added in every scenario.

    Attributes
    ----------
    underlyings : tuple of str or "all"
        The underlyings; "all" those of no other group.
    rule : str
        "joint": gains and losses add; "groups": gains count by ``alpha``; "separate": each has a group of its own.
    alpha : Fraction or None
        Share of a gain that counts, for "groups".
    """

    underlyings: Annotated[Any, either(lambda value: isinstance(value, str), word("all"), symbols)]
    rule: Annotated[str, word("joint", "groups", "separate")] = "joint"
    alpha: Annotated[Fraction | None, optional(number(0, 1))] = None


_POINTS = listed(listed(number()))


@dataclass(frozen=True, kw_only=True)
class VolShock:
    """Figures of the volatility rules.

    Attributes
    ----------
    up, down : Fraction
        Share of the volatility, times ``(30 / max(days, dte_floor)) ** p``.
    p_short, p_long : Fraction
        The power to 30 days and after.
    dte_floor : Fraction
        Least number of days in that formula.
    min_vol : Fraction
        Least volatility after "up".
    floor_down : bool
        Whether the volatility after "down" is at least 0.
    points, percent : tuple of (Fraction, Fraction)
        Days to expiry and the change, in points (0.3 is thirty) or as a share; linear between, flat outside.
    """

    up: Annotated[Fraction | None, optional(number(0))] = None
    down: Annotated[Fraction | None, optional(number(0))] = None
    p_short: Annotated[Fraction, number(0, 10)] = Fraction(3, 10)
    p_long: Annotated[Fraction, number(0, 10)] = Fraction(13, 100)
    dte_floor: Annotated[Fraction, number(above=0)] = _ONE
    min_vol: Annotated[Fraction, number(0)] = _ZERO
    floor_down: Annotated[bool, flag] = True
    points: Annotated[tuple[tuple[Fraction, Fraction], ...], _POINTS] = ()
    percent: Annotated[tuple[tuple[Fraction, Fraction], ...], _POINTS] = ()


@dataclass(frozen=True, kw_only=True)
class SkewShock:
    """Figures of a skew scenario: the rotation of the volatility by log-moneyness (docs/scenario_margin.md).

    Attributes
    ----------
    cbase, cap : Fraction
        ``cap + cbase * sqrt(tau)`` is the largest relative change.
    min_k, width, vol_static, vol_scale : Fraction
        It is reached at ``max(min_k, sqrt(tau) * width * (vol_static + sqrt(tau) * vol_scale))``.
    """

    cbase: Annotated[Fraction, number()]
    cap: Annotated[Fraction, number()]
    min_k: Annotated[Fraction, number(0)]
    width: Annotated[Fraction, number(0)]
    vol_static: Annotated[Fraction, number()]
    vol_scale: Annotated[Fraction, number()] = _ZERO


@dataclass(frozen=True, kw_only=True)
class Skew:
    """Figures of the two skew scenarios.

    Attributes
    ----------
    linear, abs : SkewShock or None
        Figures of the rules "linear" and "abs".
    """

    linear: Annotated[SkewShock | None, optional(record(SkewShock))] = None
    abs: Annotated[SkewShock | None, optional(record(SkewShock))] = None


@dataclass(frozen=True, kw_only=True)
class Discount:
    """Factors of the shocked value of an expiry's options, by its sign.

    Attributes
    ----------
    base_long, rate_mult_long, rate_add_long : Fraction
        ``d+ = base_long * exp(-tau * (rate * rate_mult_long + rate_add_long))``.
    base_short, rate_mult_short, rate_add_short : Fraction or None, Fraction, Fraction
        ``d- = min(1 / D, base_short * exp(tau * (rate * rate_mult_short + rate_add_short)))``, or 1 without a base.
    """

    base_long: Annotated[Fraction, number(0)] = _ONE
    rate_mult_long: Annotated[Fraction, number()] = _ZERO
    rate_add_long: Annotated[Fraction, number()] = _ZERO
    base_short: Annotated[Fraction | None, optional(number(0))] = None
    rate_mult_short: Annotated[Fraction, number()] = _ZERO
    rate_add_short: Annotated[Fraction, number()] = _ZERO


@dataclass(frozen=True, kw_only=True)
class Offset:
    """How much of a gain of an underlying counts.

    Attributes
    ----------
    alpha : Fraction
        Share of the gain.
    cap : Fraction or None
        Largest amount, in the quote unit.
    """

    alpha: Annotated[Fraction, number(0, 1)] = _ONE
    cap: Annotated[Fraction | None, optional(number(0))] = None


@dataclass(frozen=True, kw_only=True)
class Haircut:
    """Rates of the charge on the value of a collateral asset.

    Attributes
    ----------
    mm, im : Fraction
        Rate in both requirements, and rate that only the initial one adds.
    """

    mm: Annotated[Fraction, number(0, 1)] = _ZERO
    im: Annotated[Fraction, number(0, 1)] = _ZERO


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The least requirement.

    Attributes
    ----------
    rate : Fraction
        Amount for each contract, in the numeraire.
    per : str
        "contract": every contract of positions; "short_option": short options alone.
    level : str
        "group": the least requirement of each group; "account": of the account.
    brackets : tuple of (Fraction or None, Fraction)
        Top of a bracket of the raw amount (null: no top) and the multiplier inside it.
    """

    rate: Annotated[Fraction, number(0)]
    per: Annotated[str, word("contract", "short_option")] = "contract"
    level: Annotated[str, word("group", "account")] = "group"
    brackets: Annotated[tuple[tuple[Fraction | None, Fraction], ...], listed(listed(optional(number(0))))] = ()


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What the losses of the scenarios are made one number by.

    Attributes
    ----------
    kind : str
        "worst", "var" (value at risk) or "es" (expected shortfall).
    alpha : Fraction or None
        Confidence of "var" and "es".
    stressed_share : Fraction
        Weight of the measure of the stressed set.
    buffer : Fraction
        Share that is added to the measure.
    """

    kind: Annotated[str, word("worst", "var", "es")] = "worst"
    alpha: Annotated[Fraction | None, optional(number(above=0, below=1))] = None
    stressed_share: Annotated[Fraction, number(0, 1)] = _ZERO
    buffer: Annotated[Fraction, number(0)] = _ZERO


@dataclass(frozen=True, kw_only=True)
class SpreadLeg:
    """A leg of a spread.

    Attributes
    ----------
    underlying : str or None
        The underlying, for a spread between underlyings.
    tier : int or None
        Number of the tier of expiries, from 0, for a spread inside an underlying.
    side : str
        "A" or "B": legs of unlike sides have deltas of unlike signs.
    delta : Fraction
        Deltas of one spread.
    """

    underlying: Annotated[str | None, optional(text)] = None
    tier: Annotated[int | None, optional(whole(0, 1000))] = None
    side: Annotated[str, word("A", "B")] = "A"
    delta: Annotated[Fraction, number(above=0)] = _ONE


@dataclass(frozen=True, kw_only=True)
class IntraSpread:
    """A charge on offsetting deltas of two tiers of an underlying.

    Attributes
    ----------
    underlying : str
        The underlying.
    legs : tuple of SpreadLeg
        Two tiers; the sides take no part.
    charge : Fraction
        Amount for each spread.
    """

    underlying: Annotated[str, text]
    legs: Annotated[tuple[SpreadLeg, ...], listed(record(SpreadLeg), least=2)]
    charge: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class InterSpread:
    """A credit on offsetting deltas of several underlyings.

    Attributes
    ----------
    legs : tuple of SpreadLeg
        Underlyings with their sides and deltas.
    rate : Fraction
        Share of the price risk that each leg gets back.
    """

    legs: Annotated[tuple[SpreadLeg, ...], listed(record(SpreadLeg), least=2)]
    rate: Annotated[Fraction, number(0, 1)]


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """Charges and credits of spreads, in the order of priority.

    Attributes
    ----------
    tiers : tuple of Fraction
        Largest days to expiry of each tier but the last, ascending.
    intra : tuple of IntraSpread
        Charges between tiers.
    inter : tuple of InterSpread
        Credits between underlyings.
    short_option_minimum : Fraction
        Amount for each short option.
    som_count : str
        "larger" of short calls and short puts, or their "sum".
    """

    tiers: Annotated[tuple[Fraction, ...], listed(number(0))] = ()
    intra: Annotated[tuple[IntraSpread, ...], listed(record(IntraSpread))] = ()
    inter: Annotated[tuple[InterSpread, ...], listed(record(InterSpread))] = ()
    short_option_minimum: Annotated[Fraction, number(0)] = _ZERO
    som_count: Annotated[str, word("larger", "sum")] = "larger"


# ---- Charges


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A row of ``contingencies``; what it charges depends on its kind (docs/scenario_margin.md).

    Attributes
    ----------
    enters : str
        "mm": both requirements; "im": the initial one alone.
    scaled : bool
        Whether the factor of the worst loss multiplies the charge too.
    underlyings : tuple of str or None
        Underlyings that the row concerns; None: all.
    except_for : tuple of str
        Underlyings that it does not concern.
    """

    kind: ClassVar[str] = ""
    enters: Annotated[str, word("mm", "im")] = "mm"
    scaled: Annotated[bool, flag] = False
    underlyings: Annotated[tuple[str, ...] | None, optional(symbols)] = None
    except_for: Annotated[tuple[str, ...], symbols] = ()

    def concerns(self, underlying: str) -> bool:
        """Whether the row concerns an underlying.

        Parameters
        ----------
        underlying : str
            Symbol of the underlying.

        Returns
        -------
        bool
            Whether it does.

        Examples
        --------
        >>> from riskcore.scenario.model import Funding
        >>> Funding(underlyings=("BTC",)).concerns("ETH"), Funding(except_for=("BTC",)).concerns("ETH")
        (False, True)
        """
        return underlying not in self.except_for and (self.underlyings is None or underlying in self.underlyings)


_LINEAR_KINDS = ("perpetuals", "futures", "spot")


@dataclass(frozen=True, kw_only=True)
class Notional(Charge):
    """Rate of the notional of positions that are no options."""

    kind: ClassVar[str] = "notional"
    rate: Annotated[Fraction, number(0)]
    of: Annotated[tuple[str, ...], listed(word(*_LINEAR_KINDS), least=1)] = ("perpetuals",)
    at: Annotated[str, word("index", "mark")] = "index"


@dataclass(frozen=True, kw_only=True)
class OptionShort(Charge):
    """Rate of the index for each net short option, calls and puts of a strike and expiry netted."""

    kind: ClassVar[str] = "option_short"
    rate: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class Gamma(Charge):
    """Rate of the index for each net short option that expires within some hours."""

    kind: ClassVar[str] = "gamma"
    rate: Annotated[Fraction, number(0)]
    hours: Annotated[Fraction, number(above=0)] = Fraction(48)


@dataclass(frozen=True, kw_only=True)
class Confidence(Charge):
    """Share of an amount whose price feed has a confidence below a threshold."""

    kind: ClassVar[str] = "confidence"
    threshold: Annotated[Fraction, number(0, 1)]
    factor: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class Depeg(Charge):
    """Addition to the initial factor while the stablecoin is below a threshold."""

    kind: ClassVar[str] = "depeg"
    enters: Annotated[str, word("im")] = "im"
    threshold: Annotated[Fraction, number(0)]
    factor: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class Basis(Charge):
    """Basis contingency: the worse of two moves of each expiry, times ``add + mult * tau``; competes with scenarios."""

    kind: ClassVar[str] = "basis"
    up: Annotated[Fraction, number(0)]
    down: Annotated[Fraction, number(-1, 0)]
    add: Annotated[Fraction, number(0)]
    mult: Annotated[Fraction, number(0)] = _ZERO


@dataclass(frozen=True, kw_only=True)
class Roll(Charge):
    """Rate of the net delta of each expiry: ``max(rate, exp(annual * tau) - 1)``, ``rate`` for perpetuals."""

    kind: ClassVar[str] = "roll"
    rate: Annotated[Fraction, number(0)]
    annual: Annotated[Fraction, number(0)] = _ZERO


@dataclass(frozen=True, kw_only=True)
class SpreadDelta(Charge):
    """Rate of the deltas of futures that offset across expiries; ``annual``: times the years between them."""

    kind: ClassVar[str] = "spread_delta"
    rate: Annotated[Fraction, number(0)]
    annual: Annotated[bool, flag] = False


@dataclass(frozen=True, kw_only=True)
class DeltaShock(Charge):
    """Share ``min(max, increment * units over the threshold)`` of the net delta; the threshold is a notional."""

    kind: ClassVar[str] = "delta_shock"
    threshold: Annotated[Fraction, number(0)]
    max: Annotated[Fraction, number(0)]
    increment: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class DeltaFloor(Charge):
    """Least worst loss: rates of the hedged and of the unhedged delta."""

    kind: ClassVar[str] = "delta_floor"
    hedged: Annotated[Fraction, number(0)]
    unhedged: Annotated[Fraction, number(0)]


@dataclass(frozen=True, kw_only=True)
class Theta(Charge):
    """Loss of the time value of some hours, everything else unchanged."""

    kind: ClassVar[str] = "theta"
    hours: Annotated[Fraction, number(above=0)]


@dataclass(frozen=True, kw_only=True)
class Funding(Charge):
    """The next funding payment of all perpetuals, if it is to be paid."""

    kind: ClassVar[str] = "funding"


@dataclass(frozen=True, kw_only=True)
class Fee(Charge):
    """Cost of closing: a rate of the notional; of an option of the index, at most ``cap`` of its value."""

    kind: ClassVar[str] = "fee"
    rate: Annotated[Fraction, number(0)]
    cap: Annotated[Fraction, number(0)] = Fraction(1, 8)


_CHARGES: dict[str, type] = {
    kind.kind: kind
    for kind in (
        Notional, OptionShort, Gamma, Confidence, Depeg, Basis, Roll, SpreadDelta, DeltaShock, DeltaFloor, Theta,
        Funding, Fee,
    )
}  # fmt: skip


# ---- The scenarios as expanded


@dataclass(frozen=True)
class Scenario:
    """One scenario of a model, expanded.

    Attributes
    ----------
    name : str
        Its name, which no other scenario of the model has.
    moves : dict of str to Fraction
        Relative move by underlying; the key "others" has that of every other underlying.
    shifts : dict of str to Fraction
        Absolute move by underlying, likewise.
    vol : Vol
        Rule of the volatility.
    vol_change : dict of str to Fraction
        Change of the volatility under ``Vol.RELATIVE`` and ``Vol.ABSOLUTE``, by underlying.
    weight : Fraction
        Weight of the change of value.
    hours : Fraction
        Hours that pass.
    dampener : Fraction
        Amount that is taken off a profit or loss, in the quote unit.
    edge : Fraction
        Edge of the range on the side of a tail; 0 for a scenario inside the range.
    coin_tail : bool
        Whether the change of inverse contracts in coin is damped in the quote unit.
    probability : Fraction or None
        Probability in its set; None: each row has the same.
    stress : bool
        Whether it belongs to the stressed set.

    Examples
    --------
    >>> import riskcore as rc
    >>> tail = rc.load_scenario_model("derive").rows[23]
    >>> tail.name, str(tail.weight), str(tail.edge)
    ('-66 % up', '3/55', '-9/50')
    """

    name: str
    moves: Mapping[str, Fraction]
    shifts: Mapping[str, Fraction]
    vol: Vol
    vol_change: Mapping[str, Fraction]
    weight: Fraction
    hours: Fraction
    dampener: Fraction
    edge: Fraction
    coin_tail: bool
    probability: Fraction | None
    stress: bool

    def move_of(self, underlying: str) -> Fraction | None:
        """Return the relative move of an underlying.

        Parameters
        ----------
        underlying : str
            Its symbol.

        Returns
        -------
        Fraction or None
            The move; None if the scenario has none for the underlying.

        Examples
        --------
        >>> import riskcore as rc
        >>> model = rc.ScenarioModel.read({"scenarios": [{"move": "0.1"}], "moves": {"ETH": "1.125"}})
        >>> model.rows[0].move_of("ETH"), model.rows[0].move_of("BTC")
        (Fraction(9, 80), Fraction(1, 10))
        """
        return self.moves.get(underlying, self.moves.get(OTHERS))

    def shift_of(self, underlying: str) -> Fraction | None:
        """Return the absolute move of an underlying, which is added to the relative one.

        Parameters
        ----------
        underlying : str
            Its symbol.

        Returns
        -------
        Fraction or None
            The amount; None if the underlying has no price scan range.

        Examples
        --------
        >>> import riskcore as rc
        >>> model = rc.ScenarioModel.read({"scenarios": [{"ranges": "1/3"}], "scan_range": {"BTC": "9000"}})
        >>> model.rows[0].shift_of("BTC"), model.rows[0].shift_of("ETH")
        (Fraction(3000, 1), None)
        """
        return self.shifts.get(underlying, self.shifts.get(OTHERS))

    def vol_change_of(self, underlying: str) -> Fraction:
        """Return the change of the volatility that the scenario itself gives.

        Parameters
        ----------
        underlying : str
            Symbol of the underlying.

        Returns
        -------
        Fraction
            The change; 0 where it gives none.

        Examples
        --------
        >>> import riskcore as rc
        >>> row = {"move": "-0.1", "vol": "absolute", "vol_change": {"BTC": "0.2"}}
        >>> rc.ScenarioModel.read({"scenarios": [row]}).rows[0].vol_change_of("BTC")
        Fraction(1, 5)
        """
        return self.vol_change.get(underlying, self.vol_change.get(OTHERS, _ZERO))


@dataclass(frozen=True)
class GroupOf:
    """A group of some underlyings, as `ScenarioModel.groups_of` gives it.

    Attributes
    ----------
    members : tuple of int
        Places of the underlyings in the list asked about.
    alpha : Fraction
        Share of a gain of one underlying that counts.
    cap : Fraction or None
        Largest amount of such a gain that counts, in the quote unit.
    """

    members: tuple[int, ...]
    alpha: Fraction
    cap: Fraction | None


# ---- The model

_SCENARIOS = listed(record(ScenarioRow))


@dataclass(frozen=True, kw_only=True)
class ScenarioModel:
    """A portfolio margin model as data; `load_scenario_model` and `ScenarioModel.from_returns` make it.

    Every number is exact: a decimal or a fraction as written. docs/scenario_margin.md ("Models as data") has the rules
    that the figures enter, docs/scenario_models.md the presets.

    Notes
    -----
    The fields are the keys of a file; a part of a model is an object with fields of its own.

    numeraire : str
        Unit of the requirement: "settle", or a coin.
    groups : tuple of Group
        Underlyings that share a scenario; the others are separate.
    scenarios, grid, tails : tuple of ScenarioRow, Grid or None, tuple of ScenarioRow
        Rows of ``scenarios``, then the grid, then ``tails``: the scenarios in the order of their ids.
    range : Fraction or None
        Edge of the range that a ``kappa`` refers to; that of the grid by default.
    moves : dict of str to Fraction
        Factor of a move that is one number, by underlying; tails and rows with a ``kappa`` keep their move.
    scan_range : dict of str to Fraction
        Price scan range by underlying, an amount.
    vol_shock, skew, discount, offset, dampener
        Figures of the changes of value.
    mm_factor, im_factor, im_multiplier : Fraction
        Factors of the worst loss, and of the whole initial requirement.
    im_scenarios : tuple of ScenarioRow or None
        Scenarios of the initial requirement, where they are others.
    round_worst, round_initial : int or None
        Decimals to which the worst loss and the initial requirement are rounded.
    inverse_base, price_source, forward_source, window, window_seconds, vol_sticky, rates
        Where prices come from.
    collateral_in_scenarios : bool or tuple of str
        Whether balances move in the scenarios; or the assets that do.
    collateral_underlying : dict of str to str
        Underlying that an asset moves with; its own by default.
    haircuts : dict of str to Haircut
        Charges on collateral.
    borrow_margin : str
        "function": borrows keep their margin function; "scenario": they are negative balances.
    contingencies : tuple of Charge
        Charges, in their order.
    spreads, minimum, measure
        Spread charges and credits, the least requirement, and the measure of the losses.

    Examples
    --------
    >>> import riskcore as rc
    >>> model = rc.ScenarioModel.read({"grid": {"range": "0.16", "steps": 4}, "mm_factor": "0.8"})
    >>> model
    ScenarioModel(9 scenarios, 0 charges, mm 0.8, im 1)
    >>> model.rows[0].name, model.traits.convex
    ('-16 % same', True)
    """

    numeraire: Annotated[str, text] = "settle"
    groups: Annotated[tuple[Group, ...], listed(record(Group))] = ()
    scenarios: Annotated[tuple[ScenarioRow, ...], _SCENARIOS] = ()
    grid: Annotated[Grid | None, optional(record(Grid))] = None
    tails: Annotated[tuple[ScenarioRow, ...], _SCENARIOS] = ()
    range: Annotated[Fraction | None, optional(number(above=0))] = None
    moves: Annotated[dict[str, Fraction], by_name(number(0))] = field(default_factory=dict)
    scan_range: Annotated[dict[str, Fraction], by_name(number(above=0))] = field(default_factory=dict)
    vol_shock: Annotated[VolShock, record(VolShock)] = VolShock()
    skew: Annotated[Skew, record(Skew)] = Skew()
    discount: Annotated[Discount | None, optional(record(Discount))] = None
    offset: Annotated[Offset, record(Offset)] = Offset()
    dampener: Annotated[Fraction, number(0)] = _ZERO
    mm_factor: Annotated[Fraction, number(above=0)] = _ONE
    im_factor: Annotated[Fraction, number(above=0)] = _ONE
    im_multiplier: Annotated[Fraction, number(1)] = _ONE
    im_scenarios: Annotated[tuple[ScenarioRow, ...] | None, optional(listed(record(ScenarioRow), least=1))] = None
    round_worst: Annotated[int | None, optional(whole(0, 18))] = None
    round_initial: Annotated[int | None, optional(whole(0, 18))] = None
    inverse_base: Annotated[str, word("mark", "index")] = "mark"
    price_source: Annotated[str, word("model", "mark")] = "model"
    forward_source: Annotated[str, word("forward", "spot")] = "forward"
    window: Annotated[str, word("average", "scale", "none")] = "average"
    window_seconds: Annotated[Fraction, number(above=0)] = Fraction(1800)
    vol_sticky: Annotated[str, word("strike", "moneyness")] = "strike"
    rates: Annotated[str, word("given", "zero", "not_negative")] = "given"
    collateral_in_scenarios: Annotated[
        Any, either(lambda value: isinstance(value, list | tuple), listed(text), flag)
    ] = False
    collateral_underlying: Annotated[dict[str, str], by_name(text)] = field(default_factory=dict)
    haircuts: Annotated[dict[str, Haircut], by_name(record(Haircut))] = field(default_factory=dict)
    borrow_margin: Annotated[str, word("function", "scenario")] = "function"
    contingencies: Annotated[tuple[Any, ...], listed(one_of_kinds(_CHARGES))] = ()
    spreads: Annotated[Spreads | None, optional(record(Spreads))] = None
    minimum: Annotated[Minimum | None, optional(record(Minimum))] = None
    measure: Annotated[Measure, record(Measure)] = Measure()

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> ScenarioModel:
        """Read a model from the content of a JSON file, and check it.

        Parameters
        ----------
        content : mapping
            Keys of docs/scenario_margin.md ("Models as data").

        Returns
        -------
        ScenarioModel
            The model.

        Raises
        ------
        RiskDataError
            A key is unknown, missing, of another type or out of range; one line with its path and its value.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.ScenarioModel.read({"grid": {"range": "0.16", "steps": 4}, "mm_factor": "0"})
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: scenario_model.mm_factor, value '0': must be more than 0
        """
        from .checks import check

        model: ScenarioModel = record(cls)(dict(content), "")
        check(model)
        return model

    @classmethod
    def from_returns(
        cls,
        frame: Any,
        *,
        prices: bool = True,
        horizon: int | None = None,
        rows: int | None = None,
        weights: str | float | None = None,
        volatility_changes: Any = None,
        volatility_rule: str = "relative",
        filtered: Any = None,
        missing: str = "refuse",
        stressed: Any = None,
        measure: Mapping[str, Any] | None = None,
        preset: str | None = None,
        **figures: Any,
    ) -> ScenarioModel:
        """Make a model whose scenarios are the joint moves of a history.

        Parameters
        ----------
        frame : DataFrame
            A column per underlying, a row per date, the latest last; of pandas, or any table with the Arrow interface.
            A column ``time`` has the labels, else the index.
        prices : bool
            The frame has prices; False: simple returns of one row each.
        horizon : int, optional
            Rows of a window; windows overlap. 1 by default.
        rows : int, optional
            Number of the latest windows that are used; all by default.
        weights : "equal" or float, optional
            Probabilities of the windows: equal, or a decay: ``decay ** age / sum``. Equal by default.
        volatility_changes : DataFrame, optional
            Change of the volatility by underlying in each window, with the labels of the windows' ends.
        volatility_rule : str
            The changes are shares of the volatility ("relative") or points ("absolute").
        filtered : float or DataFrame, optional
            Each move times the latest volatility over that of its time: the decay of an exponentially weighted
            average of squared moves of one row, taken at the beginning of the window; or the volatilities themselves,
            a row per label.
        missing : str
            "refuse" a frame with a gap, or "drop" each window that has one.
        stressed : DataFrame, str or ScenarioModel, optional
            The stressed set: a frame like the first, or a model whose scenarios are its rows.
        measure : mapping, optional
            Key ``measure`` of a model: {"kind": "es", "alpha": "0.975"}; by default the worst loss.
        preset : str, optional
            A preset that gives what is not given here (docs/scenario_models.md).
        **figures
            Other keys of a model. By default all underlyings are one joint group.

        Returns
        -------
        ScenarioModel
            The model, a scenario per window in the order of the frame, then the stressed set.

        Raises
        ------
        RiskDataError
            A cell or a parameter is wrong.

        Examples
        --------
        >>> import pandas as pd
        >>> import riskcore as rc
        >>> days = pd.date_range("2026-01-01", periods=4)
        >>> frame = pd.DataFrame({"BTC": [100.0, 80.0, 100.0, 90.0], "ETH": [10.0, 7.5, 9.0, 9.0]}, index=days)
        >>> model = rc.ScenarioModel.from_returns(frame, weights=0.5, measure={"kind": "es", "alpha": "0.9"})
        >>> model.describe()[["name", "move", "weight"]]
                 name  move  weight
        0  2026-01-02 -0.20     1.0
        1  2026-01-03  0.25     1.0
        2  2026-01-04 -0.10     1.0
        >>> [str(scenario.probability) for scenario in model.rows]
        ['1/7', '2/7', '4/7']
        """
        from .history import content_of_history

        how = {
            "prices": prices,
            "horizon": horizon,
            "rows": rows,
            "weights": weights,
            "volatility_changes": volatility_changes,
            "volatility_rule": volatility_rule,
            "filtered": filtered,
            "missing": missing,
            "stressed": stressed,
        }
        return cls.read(content_of_history(frame, preset, how, {**figures, "measure": measure}))

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON has it: `ScenarioModel.read` of it is an equal model.

        Returns
        -------
        dict
            Keys that differ from their defaults, numbers as text.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.ScenarioModel.read({"scenarios": [{"move": 0.18}], "mm_factor": 0.8}).to_dict()
        {'scenarios': [{'move': '0.18'}], 'mm_factor': '0.8'}
        """
        content: dict[str, Any] = plain(self)
        return content

    def replace(self, **keys: Any) -> ScenarioModel:
        """Return the model with other figures.

        Parameters
        ----------
        **keys
            Keys of a model and their new values, as JSON has them; None removes a key.

        Returns
        -------
        ScenarioModel
            The new model, checked.

        Raises
        ------
        RiskDataError
            A key or value is wrong.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.load_scenario_model("derive").replace(mm_factor="1").mm_factor
        Fraction(1, 1)
        """
        content = self.to_dict() | keys
        return ScenarioModel.read({name: each for name, each in content.items() if each is not None})

    @cached_property
    def rows(self) -> tuple[Scenario, ...]:
        """The scenarios in the order of their ids."""
        return tuple(self._expanded([*self.scenarios, *self._grid_rows(), *self.tails], len(self.tails)))

    @cached_property
    def initial_rows(self) -> tuple[Scenario, ...] | None:
        """The scenarios of the initial requirement; None: the same."""
        return None if self.im_scenarios is None else tuple(self._expanded(self.im_scenarios, 0))

    @cached_property
    def traits(self) -> Traits:
        """What holds for the requirement of every portfolio under the model."""
        from .traits import traits_of

        return traits_of(self)

    @property
    def edge(self) -> Fraction | None:
        """Edge of the range: the key ``range``, else that of the grid."""
        if self.range is None and self.grid is not None:
            return self.grid.range
        return self.range

    def charges(self, kind: str) -> list[Any]:
        """Return the charges of a kind.

        Parameters
        ----------
        kind : str
            Name of the kind.

        Returns
        -------
        list of Charge
            The rows in the order of the model.

        Examples
        --------
        >>> import riskcore as rc
        >>> [charge.rate for charge in rc.load_scenario_model("derive").charges("option_short")]
        [Fraction(3, 1000), Fraction(1, 500)]
        """
        return [charge for charge in self.contingencies if charge.kind == kind]

    def groups_of(self, underlyings: Sequence[str]) -> tuple[GroupOf, ...]:
        """Divide underlyings into the groups of the model.

        Parameters
        ----------
        underlyings : sequence of str
            Symbols, each once.

        Returns
        -------
        tuple of GroupOf
            Groups of the model in its order, those without a member left out, then each other underlying alone.

        Examples
        --------
        >>> import riskcore as rc
        >>> groups = [{"underlyings": ["ETH", "BTC"]}]
        >>> model = rc.ScenarioModel.read({"scenarios": [{"move": "0.1"}], "groups": groups})
        >>> [group.members for group in model.groups_of(["BTC", "SOL", "ETH"])]
        [(0, 2), (1,)]
        """
        named = {name for group in self.groups if group.underlyings != "all" for name in group.underlyings}
        found, left = [], dict.fromkeys(range(len(underlyings)))
        for group in self.groups:
            names = group.underlyings
            members = tuple(
                u for u in left if (underlyings[u] not in named if names == "all" else underlyings[u] in names)
            )
            if group.rule != "separate" and members:
                left = {u: None for u in left if u not in members}
                alpha = self.offset.alpha if group.alpha is None else group.alpha
                found.append(GroupOf(members, alpha, self.offset.cap))
        return (*found, *(GroupOf((u,), self.offset.alpha, self.offset.cap) for u in left))

    def must_cover(self, underlyings: Iterable[str]) -> None:
        """Refuse the model where a scenario has no move for one of some underlyings.

        Parameters
        ----------
        underlyings : iterable of str
            Symbols of the underlyings of a venue.

        Raises
        ------
        RiskDataError
            A scenario has no move, or there is no price scan range.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.load_scenario_model("span16").must_cover(["GOLD"])
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: scenario_model.scan_range: must have an amount for 'GOLD' or 'others'
        """
        for underlying in underlyings:
            for scenario in (*self.rows, *(self.initial_rows or ())):
                if scenario.move_of(underlying) is None:
                    raise wrong("scenarios", f"{scenario.name!r} must have a move of {underlying!r} or 'others'")
                if scenario.shift_of(underlying) is None:
                    raise wrong("scan_range", f"must have an amount for {underlying!r} or 'others'")

    def describe(self) -> pd.DataFrame:
        """Return the scenarios as a table.

        Returns
        -------
        DataFrame
            A row per scenario: ``scenario`` (its id), ``name``, ``move`` (of the first underlying where the moves
            differ, NaN for an amount), ``vol``, ``weight``, ``hours``.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.load_scenario_model("derive").describe().tail(3)
            scenario       name  move     vol  weight  hours
        28        28  +300 % up   3.0      up   0.012    0.0
        29        29     linear   0.0  linear   1.000    0.0
        30        30        abs   0.0     abs   1.000    0.0
        """
        import pandas as pd

        found = self.rows
        moves = [next(iter(s.moves.values())) if s.shifts == {OTHERS: 0} else math.nan for s in found]
        return pd.DataFrame(
            {
                "scenario": range(len(found)),
                "name": [s.name for s in found],
                "move": [float(move) for move in moves],
                "vol": [s.vol.name.lower() for s in found],
                "weight": [float(s.weight) for s in found],
                "hours": [float(s.hours) for s in found],
            }
        )

    @cached_property
    def _hash(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        counted = f"{len(self.rows)} scenarios, {len(self.contingencies)} charges"
        return f"ScenarioModel({counted}, mm {decimal_text(self.mm_factor)}, im {decimal_text(self.im_factor)})"

    def _grid_rows(self) -> Iterator[ScenarioRow]:
        if self.grid is not None:
            for move in self.grid.moves:
                for vol in self.grid.vols:
                    yield ScenarioRow(move=move, vol=vol)

    def _expanded(self, given: Sequence[ScenarioRow], tails: int) -> Iterator[Scenario]:
        """Expand rows into scenarios; the last ``tails`` of them are tails."""
        taken: set[str] = set()
        total = dict.fromkeys(_SETS, _ZERO)
        for row in given:
            total[row.set] += (row.probability or 0) * len(_VOLS[row.vol])
        for place, row in enumerate(given):
            is_tail = row.kappa is not None or place >= len(given) - tails
            for vol in _VOLS[row.vol]:
                name = label = row.name or _name(row, vol)
                number_ = 1
                while label in taken:
                    number_ += 1
                    label = f"{name} ({number_})"
                taken.add(label)
                yield self._scenario(row, vol, is_tail, label, total[row.set])

    def _scenario(self, row: ScenarioRow, vol: Vol, is_tail: bool, name: str, total: Fraction) -> Scenario:
        if isinstance(row.move, dict):
            moves, largest = row.move, max(map(abs, row.move.values()), default=_ZERO)
        else:
            factors = {OTHERS: _ONE} | ({} if is_tail else self.moves)
            moves, largest = {name: row.move * factor for name, factor in factors.items()}, abs(row.move)
        ranges = row.ranges or _ZERO
        shifts = {u: ranges * amount for u, amount in self.scan_range.items()} if ranges else {OTHERS: _ZERO}
        edge, weight = _ZERO, _ONE if row.weight is None else row.weight
        if self.edge is not None and is_tail and not isinstance(row.move, dict) and largest > self.edge:
            edge = self.edge if row.move > 0 else -self.edge
        if row.kappa is not None and self.edge is not None:
            weight = row.kappa * self.edge / largest
        dampener = row.dampener
        if dampener is None:
            dampener = (largest / abs(edge) - 1) * self.dampener if edge else _ZERO
        change = row.vol_change if isinstance(row.vol_change, dict) else {OTHERS: row.vol_change}
        return Scenario(
            name=name,
            moves=moves,
            shifts=shifts,
            vol=vol,
            vol_change=change,
            weight=weight,
            hours=row.hours,
            dampener=dampener,
            edge=edge,
            coin_tail=row.coin_tail and edge != 0,
            probability=row.probability / total if row.probability is not None and total else None,
            stress=row.set == "stress",
        )


def _percent(value: Fraction) -> str:
    share = float(100 * value)
    return f"{share:+.6g} %" if value else "0 %"


def _name(row: ScenarioRow, vol: Vol) -> str:
    """Name of a scenario by its figures, as "-18 % up"."""
    words = []
    if isinstance(row.move, dict):
        moves = [f"{name} {_percent(move)}" for name, move in row.move.items()]
        words.append(", ".join(moves[:3]) + ", ..." * (len(moves) > 3))
    elif row.ranges is not None:
        words.append(f"{'+' * (row.ranges > 0)}{row.ranges} ranges" if row.ranges else "0 ranges")
    elif row.move or vol not in SKEWS:
        words.append(_percent(row.move))
    words.append(vol.name.lower().replace("_", " "))
    if row.hours:
        words.append(f"after {float(row.hours):g} hours")
    return " ".join(words)
