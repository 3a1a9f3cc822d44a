"""What holds for the requirement of every portfolio under a model, by its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .checks import discounts_in_order
from .model import SKEWS

if TYPE_CHECKING:
    from .model import ScenarioModel


@dataclass(frozen=True)
class Traits:
    """What holds for the maintenance requirement ``R`` as a function of the positions.

    Each is decided by the figures of the model alone; where they do not decide, the answer is False. A model with
    discounts is judged for rates of at least 0.

    Attributes
    ----------
    homogeneous : bool
        ``R(a q) = a R(q)`` for every ``a > 0``.
    convex : bool
        ``R`` is convex.
    subadditive : bool
        ``R(p + q) <= R(p) + R(q)``.
    screenable : bool
        ``R`` is at most the sum of the requirements of its positions alone, minimum and dampener apart. Screening is
        valid under every model: where this is False, it takes wider bounds of a position.
    reasons : tuple of str
        Why something does not hold, in words.

    Examples
    --------
    >>> import riskcore as rc
    >>> rc.load_scenario_model("span16").traits.convex
    True
    """

    homogeneous: bool
    convex: bool
    subadditive: bool
    screenable: bool
    reasons: tuple[str, ...]


def traits_of(model: ScenarioModel) -> Traits:
    """Decide what holds under a model."""
    found = list(_breaks(model))
    broken = {trait for traits, _ in found for trait in traits}
    return Traits(
        homogeneous="homogeneous" not in broken,
        convex="convex" not in broken,
        subadditive="subadditive" not in broken,
        screenable="screenable" not in broken,
        reasons=tuple(reason for _, reason in found),
    )


_ALL = ("homogeneous", "convex", "subadditive", "screenable")
_NOT_HOMOGENEOUS = ("homogeneous", "subadditive")
_NOT_CONVEX = ("convex", "subadditive")


def _breaks(model: ScenarioModel) -> Iterator[tuple[tuple[str, ...], str]]:
    """What breaks which traits, and why."""
    if model.offset.cap is not None:
        reason = "offset.cap: gains beyond an amount do not count, so a sum can need more than its parts"
        yield _NOT_HOMOGENEOUS, reason
    if any(scenario.dampener for scenario in model.rows):
        yield _NOT_HOMOGENEOUS, "dampener: an amount is taken off each loss, whatever the size of the account"
        if model.offset.alpha or any(group.alpha for group in model.groups):
            yield (
                _NOT_CONVEX,
                "dampener: small gains count less than large ones, and gains count (alpha is more than 0)",
            )
    if model.minimum is not None and model.minimum.rate and len(model.minimum.brackets) > 1:
        yield _NOT_HOMOGENEOUS, "minimum.brackets: each bracket of the minimum has its own multiplier"
        if any(low[1] > high[1] for low, high in pairwise(model.minimum.brackets)):
            yield _NOT_CONVEX, "minimum.brackets: a multiplier is less than the one before"
    if model.round_worst is not None:
        yield _ALL, "round_worst: the worst loss is rounded"
    if model.discount is not None:
        if not discounts_in_order(model.discount, model.rates):
            reason = "discount: the figures allow a discount of a positive value above that of a negative one (d- < d+)"
            yield _ALL[1:], reason
        elif any(scenario.vol in SKEWS for scenario in model.rows):
            reason = (
                "skew: a gain counts as a loss, and a discount makes the gain of a sum less than the sum of the gains"
            )
            yield _ALL[1:], reason
    if model.measure.kind == "var":
        yield _ALL[1:], "measure: value at risk does not see losses beyond it"
    if model.spreads is not None and (model.spreads.intra or model.spreads.inter):
        yield _NOT_CONVEX, "spreads: charges and credits are on the part of a delta that another one offsets"
        if model.spreads.intra:
            yield _ALL[3:], "spreads.intra: positions that need nothing alone are charged together"
    for index, charge in enumerate(model.contingencies):
        path = f"contingencies[{index}]"
        if charge.enters == "im":
            continue
        if charge.kind == "spread_delta":
            reason = f"{path}: a spread charge is on the part of a delta that another one offsets"
            yield _ALL[1:], reason
        if charge.kind == "delta_shock":
            yield _ALL, f"{path}: the share of a delta shock grows with the net delta, and then stays"
        if charge.kind == "delta_floor" and charge.unhedged < charge.hedged / 2:
            yield _ALL[1:], f"{path}: the rate of the unhedged delta is less than half that of the hedged one"
        if charge.kind == "confidence":
            reason = (
                f"{path}: the confidence of a perpetual counts for options as soon as one is held, whatever its size"
            )
            yield _ALL[1:], reason
