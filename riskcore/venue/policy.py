"""The liquidation policy of a venue: every figure declared once, with its unit, range, default, meaning and source.

The fields of `Policy` are that declaration. It gives the schema of ``policy`` in a venue file (`PolicyFields`), its
reader (`read_policy`), the page docs/policy.md (`policy_page`), and the audit's check (`FIGURES`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from math import floor, inf
from types import NoneType
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

import msgspec

from ..boundary import RiskDataError, as_text
from .adl_policies import POLICIES

Value: TypeAlias = str | int | float  # text may be a decimal or a fraction
Stage: TypeAlias = Literal["book", "backstop", "adl"]
Kind: TypeAlias = Literal["ratio", "amount", "count", "choice", "words", "name"]

_CHOICE = "a choice of this engine"


@dataclass(frozen=True)
class Figure:
    """The declaration of one figure of the policy.

    Attributes
    ----------
    kind : str
        ``ratio``: a fraction whose numerator and denominator are below 10**9; ``amount``: settle units from 0 to
        10**12; ``count``: a whole number; ``choice``: one of `words`; ``words``: a list of some of them, each once;
        ``name``: a registered name.
    default : str, int, tuple of str or None
        Value of a venue file without the figure; None: null.
    meaning, source : str
        Texts of docs/policy.md; the sections are those of venue_rules.md.
    unit : str
        Empty for a pure number.
    low, high : int or Fraction
        Range of a ratio or a count; ``high`` None: no upper bound.
    above_low, below_high : bool
        Whether the bound itself is outside the range.
    words : tuple of str
        Of a choice or a list.
    name : str
        Name in the venue file, that of the field of `Policy`.
    optional : bool
        Whether null is allowed, as the type of the field of `Policy` says.

    Examples
    --------
    >>> FIGURES["slippage_limit"].range, FIGURES["slippage_limit"].unit
    ('> 0 and < 10000', 'basis points')
    """

    kind: Kind
    default: Value | tuple[str, ...] | None
    meaning: str
    source: str
    unit: str = ""
    low: int = 0
    high: int | Fraction | None = None
    above_low: bool = False
    below_high: bool = False
    words: tuple[str, ...] = ()
    name: str = ""
    optional: bool = False

    @property
    def range(self) -> str:
        """Allowed values other than null, as they stand after "must be"."""
        if self.kind == "choice":
            return _one_of(self.words)
        if self.kind == "words":
            return f"a list of {_one_of(self.words)}, each at most once, and not empty"
        if self.kind == "name":
            return "a registered name"
        if self.kind == "amount":
            return "from 0 to 10**12"
        if self.kind == "count":
            return f"from {self.low} to {self.high}"
        high = "" if self.high is None else f" and {'<' if self.below_high else '<='} {self.high}"
        return f"{'>' if self.above_low else '>='} {self.low}{high}"


def _ratio(default: Value | None, meaning: str, source: str = _CHOICE, **more: Any) -> Figure:
    return Figure("ratio", default, meaning, source, **more)


def _settle_units(default: Value | None, meaning: str, source: str = _CHOICE) -> Figure:
    return Figure("amount", default, meaning, source, "settle units")


def _count(default: int | None, high: int, meaning: str, source: str = _CHOICE, unit: str = "") -> Figure:
    return Figure("count", default, meaning, source, unit, 1, high)


def _choice(meaning: str, source: str = _CHOICE) -> Figure:
    """Declare a choice; the type of the field lists its words, the default first."""
    return Figure("choice", None, meaning, source)


@dataclass(frozen=True)
class Policy:
    """The liquidation policy of a venue; ratios and amounts are exact.

    docs/policy.md shows every figure with its unit, range, default, meaning and source; `FIGURES` has them by name.

    Examples
    --------
    >>> import riskcore as rc
    >>> policy = rc.load_venue("backpack").policy
    >>> policy.slice_fraction, policy.adl_policy
    (Fraction(1, 10), 'pnl_leverage')
    """

    margin_model: Annotated[
        str,
        Figure(
            "name",
            "separable",
            "Margin model: `separable`, in which each position has a margin function, `scenario`, which revalues "
            "portfolios by the venue's `scenario_model`, or a registered one.",
            "the venue, section 1.3",
        ),
    ]
    acmf_divisor: Annotated[
        Fraction,
        _ratio(
            2,
            "Divisor of the auto-close margin fraction `max(MMF / acmf_divisor, MMF - acmf_offset)`.",
            "FTX, section 4",
            low=1,
        ),
    ]
    acmf_offset: Annotated[Fraction, _ratio("0.06", "Offset of the auto-close margin fraction.", "FTX, section 4")]
    haircut_size_unit: Annotated[
        Literal["notional", "quantity"],
        _choice(
            "Size of a balance in an `inverseSqrt` haircut.",
            "a choice of this engine, section 1.4",
        ),
    ]
    stages: Annotated[
        tuple[Stage, ...],
        Figure(
            "words",
            None,
            "Stages that close positions, in their order; what they leave goes back to the book.",
            "the venue, sections 2.1, 4 and 5",
        ),
    ]
    slice_fraction: Annotated[
        Fraction,
        _ratio(
            "0.1",
            "Part of a position, or of a debt, that one slice or repayment closes.",
            "third-party notes on the venue, section 2.1",
            above_low=True,
            high=1,
        ),
    ]
    slices_per_tick: Annotated[int, _count(1, 3600, "Rounds of repayments and slices in a tick.")]
    liquidation_interval: Annotated[
        int | None,
        _count(
            1,
            86_400,
            "Interval of the clock by which accounts are liquidated between two ticks; null: at ticks alone.",
            unit="seconds",
        ),
    ]
    price_path: Annotated[
        Literal["hold", "linear", "bridge", "adverse"],
        _choice("Prices between two ticks: held, on a line, on a drawn path, or by the worse end of the bar first."),
    ]
    min_slice_notional: Annotated[
        Fraction,
        _ratio(
            1000,
            "Smallest notional of a slice or repayment; a smaller position or debt is closed whole.",
            "FTX, section 2.2",
            unit="settle units",
        ),
    ]
    liquidation_fee: Annotated[
        Fraction,
        _ratio(
            "0.01",
            "Fee on the value of each fill of a slice or a conversion, paid to the fund.",
            "the venue, section 2.1",
            high=Fraction(99, 100),
        ),
    ]
    backstop_fund_share: Annotated[
        Fraction,
        _ratio(
            "1/3",
            "Part of the remaining equity that the fund gets in the backstop; the provider gets the rest.",
            "FTX, section 4",
            high=1,
        ),
    ]
    backstop_below_zero: Annotated[
        Literal["mark", "zero_price"],
        _choice(
            "Price at which the backstop closes an account without equity; `zero_price` is the bankruptcy price.",
        ),
    ]
    fund: Annotated[Fraction, _settle_units(0, "Money of the fund at the start.")]
    shortfall: Annotated[
        Literal["non_recourse", "unsettled", "equity", "open_interest"],
        _choice(
            "Payer of a shortfall beyond the fund: the venue, the account later, or others by equity or open interest.",
            "the venue, section 5",
        ),
    ]
    adl_when: Annotated[
        Literal["backstop_exhausted", "fund_below"],
        _choice(
            "When ADL closes positions: whenever its stage has some to close, or only while the fund is low.",
            "the venue, section 5",
        ),
    ]
    adl_fund_on: Annotated[
        Fraction, _settle_units(0, "Fund below which `fund_below` switches ADL on; a fund of 0 does too.")
    ]
    adl_fund_off: Annotated[
        Fraction, _settle_units(0, "Fund from which `fund_below` switches ADL off again; at least `adl_fund_on`.")
    ]
    adl_policy: Annotated[
        str,
        Figure(
            "name",
            "pnl_leverage",
            "Policy by which ADL chooses counterparties: one of one_tick.md, or a registered one.",
            "a choice of this engine, section 5",
        ),
    ]
    adl_price: Annotated[
        Fraction,
        _ratio(
            0,
            "Price of ADL, from the bankruptcy price (0) to the mark (1).",
            "a choice of this engine, section 5",
            high=1,
        ),
    ]
    adl_counterparties: Annotated[
        Literal["profitable", "opposing"],
        _choice(
            "Which accounts with an opposing position ADL may choose.",
            "unofficial notes on the venue, section 5",
        ),
    ]
    adl_cap: Annotated[
        Fraction,
        _ratio(1, "Largest part of a counterparty's position that ADL closes in a tick.", above_low=True, high=1),
    ]
    zero_price_band: Annotated[
        Fraction,
        _ratio(1, "Largest distance of a price of ADL or backstop beyond the mark, as a part of the mark.", high=1),
    ]
    counterparty_mmr: Annotated[
        Fraction,
        _ratio(
            1,
            "MMR that a counterparty of ADL, or a payer of a shortfall, must stay under.",
            "a choice of this engine, section 4",
            above_low=True,
            high=1,
        ),
    ]
    slice_probability: Annotated[
        Fraction,
        _ratio(
            "0.5",
            "Probability that a position or a borrow takes part in a round.",
            "unofficial notes on the venue, section 2.1",
            above_low=True,
            high=1,
        ),
    ]
    slice_cooldown: Annotated[
        Fraction | None,
        _ratio(
            None,
            "Shortest time from the last fill of a position's slice to its next slice.",
            unit="seconds",
            above_low=True,
        ),
    ]
    target_mmr: Annotated[
        Fraction,
        _ratio(
            1,
            "MMR that a slice is sized to restore; slices stop as soon as the account is not liquidating.",
            "the venue, section 2.1",
            above_low=True,
            high=1,
        ),
    ]
    depth_share: Annotated[
        Fraction,
        _ratio(
            1,
            "Largest part of the depth inside the price bands that one slice takes.",
            "a choice of this engine, section 2.3",
            above_low=True,
            high=1,
        ),
    ]
    slippage_limit: Annotated[
        Fraction | None,
        _ratio(
            None,
            "Largest distance of a slice's average price from the best price.",
            unit="basis points",
            high=10**4,
            above_low=True,
            below_high=True,
        ),
    ]
    market_cap: Annotated[
        Fraction | None,
        _settle_units(
            None, "Largest notional that slices close in a market in a tick.", "FTX has one by volume, section 2.2"
        ),
    ]
    account_cap: Annotated[
        Fraction | None, _settle_units(None, "Largest notional that slices of an account close in an interval.")
    ]
    account_cap_interval: Annotated[
        int, _count(60, 86_400, "Length of the clock interval of `account_cap`.", unit="seconds")
    ]
    account_order: Annotated[
        Literal["mmr", "pro_rata", "random"],
        _choice(
            "Order in which accounts are liquidated.",
            "a choice of this engine, section 2.5",
        ),
    ]
    position_order: Annotated[
        Literal["relief", "largest", "pro_rata"],
        _choice(
            "Order in which the positions of an account are closed.",
            "a choice of this engine, section 2.5",
        ),
    ]
    harmful_slice: Annotated[
        Literal["waive", "send", "backstop"],
        _choice(
            "Treatment of a slice that would not lower the MMR: cut its fee, send it, or close by the backstop.",
            "a choice of this engine, section 2.4",
        ),
    ]
    waived_fee_share: Annotated[
        Fraction,
        _ratio(
            "0.5",
            "Fee that `waive` leaves, as a part of the fee at which the MMR would not change.",
            "a choice of this engine, section 2.4",
            high=1,
        ),
    ]
    conversion_slippage: Annotated[
        Fraction,
        _ratio(
            "0.01",
            "Largest distance of a conversion's price in a book from the price of the asset, as a part of it.",
            "unofficial notes on the venue, section 2.1",
            high=1,
        ),
    ]
    conversion_limit: Annotated[
        Fraction | None, _settle_units(None, "Largest value of an asset that is converted at its price in a tick.")
    ]
    mark_index_threshold: Annotated[
        Fraction,
        _ratio(
            "0.05",
            "Largest distance of the mark from the index, as a part of the index.",
            "an example of the venue, section 3.2",
            high=1,
            below_high=True,
        ),
    ]
    stale_after: Annotated[
        Fraction,
        _ratio(
            60,
            "Largest age of a book, of the basis and of the last mark.",
            "a choice of this engine, section 3.2",
            unit="seconds",
        ),
    ]
    refill_half_life: Annotated[
        Fraction | None,
        _ratio(None, "Time in which half of the depth taken from a book comes back.", unit="seconds", above_low=True),
    ]
    realize_interval: Annotated[
        int | None,
        _count(
            None,
            86_400,
            "Time from a realisation of PnL to the next; null: PnL stays in a position until it is closed.",
            "a choice of this engine; the venue has 10, section 1.7",
            unit="seconds",
        ),
    ]
    largest_gap: Annotated[
        Fraction | None,
        _ratio(
            86_400, "Longest time from a tick to the next; a later tick is refused.", unit="seconds", above_low=True
        ),
    ]
    borrow_rate_base: Annotated[
        Fraction, _ratio(0, "Yearly borrow rate of an unused pool.", "a choice of this engine, section 6", high=100)
    ]
    borrow_rate_slope: Annotated[
        Fraction,
        _ratio(
            "0.06",
            "Rise of the yearly borrow rate from no utilisation to the optimal one.",
            "a choice of this engine, section 6",
            high=100,
        ),
    ]
    borrow_rate_jump: Annotated[
        Fraction,
        _ratio(
            1,
            "Rise of the yearly borrow rate from the optimal utilisation to full utilisation.",
            "a choice of this engine, section 6",
            high=100,
        ),
    ]
    surface_check: Annotated[
        Literal["warn", "refuse", "off"],
        _choice("What becomes of a tick whose volatility surface allows arbitrage: a warning, a refusal, or nothing."),
    ]

    @cached_property
    def stale_nanoseconds(self) -> int:
        """Age past which a book, a basis and a mark used before are too old, nanoseconds."""
        return floor(self.stale_after * 10**9)

    @cached_property
    def max_gap_nanoseconds(self) -> float:
        """Longest time from a tick to the next, nanoseconds; infinite without a limit."""
        return inf if self.largest_gap is None else floor(self.largest_gap * 10**9)

    @cached_property
    def clamp(self) -> float:
        """The figure ``mark_index_threshold``, a part of the index, nearest float64."""
        return float(self.mark_index_threshold)


def _declared() -> dict[str, Figure]:
    figures = {}
    for name, hint in get_type_hints(Policy, include_extras=True).items():
        exact, figure = get_args(hint)
        words: tuple[str, ...] = ()
        default = figure.default
        if figure.kind == "choice":
            words = get_args(exact)
            default = words[0]
        elif figure.kind == "words":
            default = words = get_args(get_args(exact)[0])
        figures[name] = replace(figure, name=name, default=default, words=words, optional=NoneType in get_args(exact))
    return figures


FIGURES: dict[str, Figure] = _declared()
"""The figures of the policy by name, in the order of docs/policy.md."""

_TYPES: dict[Kind, Any] = {
    "ratio": Value, "amount": Value, "count": int, "choice": str, "words": tuple[str, ...], "name": str,
}  # fmt: skip

PolicyFields = msgspec.defstruct(
    "PolicyFields",
    [(name, _TYPES[f.kind] | None if f.optional else _TYPES[f.kind], f.default) for name, f in FIGURES.items()],
    module=__name__,
    forbid_unknown_fields=True,
)
"""``policy`` of a venue file: names, JSON types and defaults, ranges not checked."""


def read_policy(source: msgspec.Struct) -> Policy:
    """Check the figures of a `PolicyFields`, and make them exact.

    Parameters
    ----------
    source : PolicyFields
        Content of ``policy`` in a venue file.

    Returns
    -------
    Policy
        The names in it need not be registered (`check_adl_policy`, `riskcore.margin.model_of`).

    Raises
    ------
    RiskDataError
        A figure is out of its range, or ``adl_fund_off`` is below ``adl_fund_on``.

    Examples
    --------
    >>> policy = read_policy(PolicyFields(fund="2.5", slice_cooldown=30))
    >>> policy.fund, policy.slice_cooldown, policy.account_cap
    (Fraction(5, 2), Fraction(30, 1), None)
    """
    policy = Policy(**{name: _read(figure, getattr(source, name)) for name, figure in FIGURES.items()})
    if policy.adl_fund_off < policy.adl_fund_on:
        raise _wrong("policy.adl_fund_off", "must be at least adl_fund_on", policy.adl_fund_off)
    return policy


def _read(figure: Figure, value: Any) -> Any:
    path = f"policy.{figure.name}"
    if value is None or figure.kind == "name":
        return value
    if figure.kind == "choice":
        _must_be_one_of(path, value, figure.words)
        return value
    if figure.kind == "words":
        if not value or len(set(value)) < len(value) or not set(value) <= set(figure.words):
            raise _wrong(path, f"must be {figure.range}", list(value))
        return value
    if figure.kind == "amount":
        return _amount(path, value)
    if figure.kind == "ratio":
        return _read_ratio(path, figure, value)
    if figure.high is not None and not figure.low <= value <= figure.high:
        unit = f" {figure.unit}" if figure.unit else ""
        raise _wrong(path, f"must be {figure.range}{unit}{', or null' if figure.optional else ''}", value)
    return value


def _read_ratio(path: str, figure: Figure, value: Value) -> Fraction:
    """Read a figure that kernels use as a ratio of whole numbers."""
    ratio = _amount(path, value)
    below = ratio < figure.low or (figure.above_low and ratio == figure.low)
    above = figure.high is not None and (ratio > figure.high or (figure.below_high and ratio == figure.high))
    if below or above:
        raise _wrong(path, f"must be {figure.range}", value)
    if max(ratio.numerator, ratio.denominator) >= 10**9:
        raise _wrong(path, "must be a ratio of whole numbers below 10**9", value)
    return ratio


def _amount(path: str, value: Value | Decimal) -> Fraction:
    """Read a figure that is a decimal or a fraction and not negative."""
    text = str(value)
    try:
        if "/" in text:
            amount = Fraction(text)
        else:
            decimal = Decimal(text)
            if not decimal.is_finite():
                raise ValueError
            if not decimal.is_zero() and decimal.adjusted() < -30:  # no digits are written out before the size is known
                raise _wrong(path, "must be 0 or at least 1e-30", value)
            amount = Fraction(-1 if decimal.adjusted() > 30 else decimal)
    except RiskDataError:
        raise
    except (ArithmeticError, ValueError):
        raise _wrong(path, "must be a decimal or a fraction", value) from None
    if not 0 <= amount <= 10**12:
        raise _wrong(path, "must be from 0 to 10**12", value)
    return amount


def _wrong(path: str, rule: str, value: object) -> RiskDataError:
    return RiskDataError("venue", path, rule, value=as_text(value))


def check_adl_policy(policy: Policy) -> None:
    """Refuse a policy whose ADL policy is not registered.

    Parameters
    ----------
    policy : Policy
        The policy.

    Raises
    ------
    RiskDataError
        No policy of this name is registered.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import check_adl_policy
    >>> check_adl_policy(rc.load_venue("backpack").policy)
    """
    must_be_registered(policy, "adl_policy", POLICIES)


def must_be_registered(policy: Policy, figure: str, registered: Iterable[str]) -> None:
    """Refuse a policy in which a figure is no registered name.

    Parameters
    ----------
    policy : Policy
        The policy.
    figure : str
        Name of a figure of the kind ``name``.
    registered : iterable of str
        The registered names.

    Raises
    ------
    RiskDataError
        The figure is none of them.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import must_be_registered
    >>> must_be_registered(rc.load_venue("backpack").policy, "margin_model", ["portfolio"])
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue.policy.margin_model, value 'separable': must be 'portfolio'
    """
    _must_be_one_of(f"policy.{figure}", getattr(policy, figure), tuple(registered))


def _must_be_one_of(path: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise _wrong(path, f"must be {_one_of(words)}", value)


def _one_of(words: tuple[str, ...]) -> str:
    *others, last = (repr(word) for word in words)
    return f"{', '.join(others)} or {last}" if others else last


def policy_page() -> str:
    """Write docs/policy.md.

    Returns
    -------
    str
        Markdown: an introduction, and a table with a row per figure.

    Examples
    --------
    >>> print(policy_page().splitlines()[0])
    # The liquidation policy
    """
    rows = ["| name | unit | range | default | meaning | source |", "|---|---|---|---|---|---|"]
    for name, figure in FIGURES.items():
        default = "null" if figure.default is None else f"`{_in_file(figure.default)}`"
        allowed = figure.range.replace("'", "`") + (", or null" if figure.optional else "")
        rows.append(f"| `{name}` | {figure.unit} | {allowed} | {default} | {figure.meaning} | {figure.source} |")
    return f"{_INTRODUCTION}\n{chr(10).join(rows)}\n"


def _in_file(default: Value | tuple[str, ...]) -> str:
    """Return a default as a venue file has it, a text without its quotes."""
    return msgspec.json.encode(default).decode() if isinstance(default, tuple) else str(default)


_INTRODUCTION = """\
# The liquidation policy

Figures of `policy` in a venue file. A missing figure has its default; an unknown name is refused.
A ratio or an amount is a number or a text, a decimal or a fraction: `0.1`, `"0.1"` or `"1/3"`.
A ratio, whose range has `<` or `>`, has a numerator and a denominator below 10**9. A figure without a unit is a pure
number. Null switches a rule off. [one_tick.md](one_tick.md) has the exact rules.

MMF and MMR are the maintenance margin fraction and ratio of an account, ADL is auto-deleveraging, PnL is profit and
loss. The last column names the source of the rule or of its default. Sections are those of venue_rules.md, the
collected public documents of the modelled venue; a figure that neither these nor FTX's published rules contain is a
choice of this engine.

This page is written by `riskcore.venue.policy_page` from `riskcore/venue/policy.py`.
"""
