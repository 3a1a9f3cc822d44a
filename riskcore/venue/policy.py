"""The liquidation policy: its figures, their ranges and its choices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from math import floor, inf

from ..boundary import RiskDataError, text_of
from .adl_policies import POLICIES
from .schema import _Figure, _Policy


@dataclass(frozen=True)
class Policy:
    """How the venue liquidates; figures are exact. Meanings and defaults: docs/run_folder.md."""

    acmf_divisor: Fraction
    acmf_offset: Fraction
    haircut_size_unit: str
    slice_fraction: Fraction
    slices_per_tick: int
    min_slice_notional: Fraction
    liquidation_fee: Fraction
    backstop_fund_share: Fraction
    backstop_below_zero: str
    fund: Fraction
    shortfall: str
    adl_policy: str
    adl_price: Fraction
    adl_counterparties: str
    adl_cap: Fraction
    zero_price_band: Fraction
    counterparty_mmr: Fraction
    slice_probability: Fraction
    slice_cooldown: Fraction | None
    target_mmr: Fraction
    depth_share: Fraction
    slippage_limit: Fraction | None
    market_cap: Fraction | None
    account_cap: Fraction | None
    account_cap_interval: int
    account_order: str
    position_order: str
    harmful_slice: str
    waived_fee_share: Fraction
    conversion_slippage: Fraction
    conversion_limit: Fraction | None
    mark_index_threshold: Fraction
    stale_after: Fraction
    refill_half_life: Fraction | None
    realize_interval: int | None
    largest_gap: Fraction | None
    borrow_rate_base: Fraction
    borrow_rate_slope: Fraction
    borrow_rate_jump: Fraction

    @cached_property
    def stale_nanoseconds(self) -> int:
        """Age past which a book, a basis and a mark used before are too old."""
        return floor(self.stale_after * 10**9)

    @cached_property
    def most_nanoseconds(self) -> float:
        """Longest time from a tick to the next, infinite where any is taken."""
        return inf if self.largest_gap is None else floor(self.largest_gap * 10**9)

    @cached_property
    def clamp(self) -> float:
        """``mark_index_threshold``, nearest float64."""
        return float(self.mark_index_threshold)


def _wrong(path: str, rule: str, value: object) -> RiskDataError:
    return RiskDataError("venue", path, rule, value=text_of(value))


def _figure(
    path: str,
    value: _Figure,
    low: int,
    high: int | Fraction | None,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Fraction:
    """Read a policy figure that kernels use as a ratio of whole numbers."""
    figure = _amount(path, value)
    above = high is not None and (figure > high or (open_high and figure == high))
    if figure < low or (open_low and figure == low) or above:
        edge = f"{'>' if open_low else '>='} {low}"
        if high is not None:
            edge += f" and {'<' if open_high else '<='} {high}"
        raise _wrong(path, f"must be {edge}", value)
    if max(figure.numerator, figure.denominator) >= 10**9:
        raise _wrong(path, "must be a ratio of whole numbers below 10**9", value)
    return figure


_CHOICES = {
    "haircut_size_unit": ("notional", "quantity"),
    "backstop_below_zero": ("mark", "zero_price"),
    "shortfall": ("non_recourse", "unsettled", "equity", "open_interest"),
    "adl_counterparties": ("profitable", "opposing"),
    "account_order": ("mmr", "pro_rata", "random"),
    "position_order": ("relief", "largest", "pro_rata"),
    "harmful_slice": ("waive", "send", "backstop"),
}


def check_adl_policy(policy: Policy) -> None:
    """Refuse a policy whose ADL policy is not registered.

    Raises
    ------
    RiskDataError
    """
    _chosen("adl_policy", policy.adl_policy, tuple(POLICIES))


def _chosen(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        *most, last = (repr(word) for word in words)
        raise _wrong(f"policy.{name}", f"must be {', '.join(most)} or {last}", value)


def _policy(spec: _Policy) -> Policy:
    for name, words in _CHOICES.items():
        _chosen(name, getattr(spec, name), words)
    if not 1 <= spec.slices_per_tick <= 3600:
        raise _wrong("policy.slices_per_tick", "must be from 1 to 3600", spec.slices_per_tick)
    if spec.realize_interval is not None and not 1 <= spec.realize_interval <= 86_400:
        raise _wrong("policy.realize_interval", "must be from 1 to 86400 seconds, or null", spec.realize_interval)
    if not 1 <= spec.account_cap_interval <= 86_400:
        raise _wrong("policy.account_cap_interval", "must be from 1 to 86400 seconds", spec.account_cap_interval)

    def figure(
        name: str, low: int, high: int | Fraction | None, *, above: bool = False, below: bool = False
    ) -> Fraction:
        return _figure(f"policy.{name}", getattr(spec, name), low, high, open_low=above, open_high=below)

    def amount_if_given(name: str) -> Fraction | None:
        value = getattr(spec, name)
        return None if value is None else _amount(f"policy.{name}", value)

    return Policy(
        acmf_divisor=figure("acmf_divisor", 1, None),
        acmf_offset=figure("acmf_offset", 0, None),
        haircut_size_unit=spec.haircut_size_unit,
        slice_fraction=figure("slice_fraction", 0, 1, above=True),
        slices_per_tick=spec.slices_per_tick,
        min_slice_notional=figure("min_slice_notional", 0, None),
        liquidation_fee=figure("liquidation_fee", 0, Fraction(99, 100)),
        backstop_fund_share=figure("backstop_fund_share", 0, 1),
        backstop_below_zero=spec.backstop_below_zero,
        fund=_amount("policy.fund", spec.fund),
        shortfall=spec.shortfall,
        adl_policy=spec.adl_policy,
        adl_price=figure("adl_price", 0, 1),
        adl_counterparties=spec.adl_counterparties,
        adl_cap=figure("adl_cap", 0, 1, above=True),
        zero_price_band=figure("zero_price_band", 0, 1),
        counterparty_mmr=figure("counterparty_mmr", 0, 1, above=True),
        slice_probability=figure("slice_probability", 0, 1, above=True),
        slice_cooldown=None if spec.slice_cooldown is None else figure("slice_cooldown", 0, None, above=True),
        target_mmr=figure("target_mmr", 0, 1, above=True),
        depth_share=figure("depth_share", 0, 1, above=True),
        slippage_limit=None
        if spec.slippage_limit is None
        else figure("slippage_limit", 0, 10**4, above=True, below=True),
        market_cap=amount_if_given("market_cap"),
        account_cap=amount_if_given("account_cap"),
        account_cap_interval=spec.account_cap_interval,
        account_order=spec.account_order,
        position_order=spec.position_order,
        harmful_slice=spec.harmful_slice,
        waived_fee_share=figure("waived_fee_share", 0, 1),
        conversion_slippage=figure("conversion_slippage", 0, 1),
        conversion_limit=amount_if_given("conversion_limit"),
        mark_index_threshold=figure("mark_index_threshold", 0, 1, below=True),
        stale_after=figure("stale_after", 0, None),
        refill_half_life=None if spec.refill_half_life is None else figure("refill_half_life", 0, None, above=True),
        realize_interval=spec.realize_interval,
        largest_gap=None if spec.largest_gap is None else figure("largest_gap", 0, None, above=True),
        borrow_rate_base=figure("borrow_rate_base", 0, 100),
        borrow_rate_slope=figure("borrow_rate_slope", 0, 100),
        borrow_rate_jump=figure("borrow_rate_jump", 0, 100),
    )


def _amount(path: str, value: _Figure | Decimal) -> Fraction:
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
