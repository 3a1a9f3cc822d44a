"""What the figures of a model must satisfy together, and the warning about discounts."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import pairwise
from typing import Any

from .figures import decimal_text, wrong
from .model import Charge, Discount, Measure, Minimum, Scenario, ScenarioModel, ScenarioRow, Spreads, Vol

MAX_SCENARIOS = 4096


def check(model: ScenarioModel) -> None:
    """Refuse a model whose figures do not fit together; warn where its discounts break convexity.

    Parameters
    ----------
    model : ScenarioModel
        The model.

    Raises
    ------
    RiskDataError
        Something does not fit; the message holds the path and the value.

    Warns
    -----
    UserWarning
        A discount of long options can be larger than that of short options.
    """
    _check_grid(model)
    for name, given in (
        ("scenarios", model.scenarios), ("tails", model.tails), ("im_scenarios", model.im_scenarios or ())
    ):  # fmt: skip
        for index, row in enumerate(given):
            _check_row(f"{name}[{index}]", row, model, is_tail=name == "tails")
    count = len(model.rows) + len(model.initial_rows or ())
    if not model.rows:
        raise wrong("scenarios", "must have at least one scenario, or the model a grid")
    if count > MAX_SCENARIOS:
        raise wrong("scenarios", f"must be at most {MAX_SCENARIOS} rows as expanded", count)
    _check_vols(model)
    _check_groups(model)
    _check_charges(model)
    if model.minimum is not None:
        _check_minimum(model.minimum)
    if model.spreads is not None:
        _check_spreads(model.spreads)
    _check_measure(model)
    if model.discount is not None and not discounts_in_order(model.discount, model.rates):
        warnings.warn(
            "scenario_model.discount: the discount of a positive value can exceed that of a negative one (d- < d+), so "
            "the requirement is not convex, and positions together can need more than they need alone",
            UserWarning,
            stacklevel=4,
        )


def discounts_in_order(discount: Discount, rates: str) -> bool:
    """Whether ``d- >= d+`` for every time to expiry and every rate of at least 0, by the figures alone.

    Each of the conditions is enough, none is needed: where they fail the order is not known, and False is returned.

    Parameters
    ----------
    discount : Discount
        Figures of the discounts.
    rates : str
        The model's ``rates``: with "zero" prices are not discounted (D = 1).

    Returns
    -------
    bool
        Whether the order is certain.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario.checks import discounts_in_order
    >>> from riskcore.scenario.model import Discount
    >>> discounts_in_order(Discount(base_long=Fraction(95, 100)), "zero")
    True
    >>> discounts_in_order(Discount(base_long=Fraction(105, 100)), "zero")
    False
    """
    # d+ <= base_long exp(-tau (r a + b)) is compared with 1 / D = exp(tau r) (1 where prices are not discounted)
    # and with base_short exp(tau (r c + d)): the base at tau = 0, then the growth with r = 0 and with large r.
    growth = 0 if rates == "zero" else 1
    limits = [(Fraction(1), Fraction(growth), Fraction(0))]
    if discount.base_short is not None:
        limits.append((discount.base_short, discount.rate_mult_short, discount.rate_add_short))
    elif growth:
        limits = [(Fraction(1), Fraction(0), Fraction(0))]
    return all(
        base >= discount.base_long and by_rate + discount.rate_mult_long >= 0 and by_time + discount.rate_add_long >= 0
        for base, by_rate, by_time in limits
    )


def _check_grid(model: ScenarioModel) -> None:
    grid = model.grid
    if grid is None:
        return
    by_steps, by_points = (grid.range, grid.steps), (grid.low, grid.high, grid.points)
    given = [sum(value is not None for value in each) for each in (by_steps, by_points)]
    if given not in ([2, 0], [0, 3]):
        raise wrong("grid", "must have range and steps, or low, high and points")
    if grid.low is not None and grid.high is not None and grid.low >= grid.high:
        raise wrong("grid.low", "must be less than high", decimal_text(grid.low))
    if grid.range is not None and grid.range > 1:
        raise wrong("grid.range", "must be at most 1: a price falls to 0 at the lowest", decimal_text(grid.range))


def _check_row(path: str, row: ScenarioRow, model: ScenarioModel, *, is_tail: bool) -> None:
    named = isinstance(row.move, dict)
    if named and not row.move:
        raise wrong(f"{path}.move", "must have a move of at least one underlying")
    if row.ranges is not None and (named or row.move):
        raise wrong(f"{path}.ranges", "must not stand beside a move", decimal_text(row.ranges))
    if row.kappa is not None:
        if row.weight is not None:
            raise wrong(f"{path}.kappa", "must not stand beside a weight", decimal_text(row.kappa))
        if named or not row.move:
            raise wrong(
                f"{path}.kappa", "must stand beside a move that is one number and not 0", decimal_text(row.kappa)
            )
        if model.edge is None:
            raise wrong(
                f"{path}.kappa", "needs a range: the key range of the model or of its grid", decimal_text(row.kappa)
            )
    if row.coin_tail and not (is_tail or row.kappa is not None):
        raise wrong(f"{path}.coin_tail", "must be of a tail: a row of tails, or one with a kappa", row.coin_tail)
    if row.vol_change and row.vol not in ("relative", "absolute"):
        raise wrong(f"{path}.vol_change", "must stand beside the vol 'relative' or 'absolute'", row.vol)
    if not (named or is_tail or row.kappa is not None):
        for name, factor in model.moves.items():
            if row.move * factor < -1:
                raise wrong(f"moves.{name}", f"must not make the move of {path} less than -1", decimal_text(factor))


_NEEDS = {
    Vol.UP: "vol_shock.up",
    Vol.DOWN: "vol_shock.down",
    Vol.POINTS_UP: "vol_shock.points",
    Vol.POINTS_DOWN: "vol_shock.points",
    Vol.PERCENT_UP: "vol_shock.percent",
    Vol.PERCENT_DOWN: "vol_shock.percent",
    Vol.LINEAR: "skew.linear",
    Vol.ABS: "skew.abs",
}


def _check_vols(model: ScenarioModel) -> None:
    for name in ("points", "percent"):
        table = getattr(model.vol_shock, name)
        for index, pair in enumerate(table):
            if len(pair) != 2:
                raise wrong(
                    f"vol_shock.{name}[{index}]", "must be a pair of days and change", [decimal_text(x) for x in pair]
                )
            if pair[0] < 0 or (index and pair[0] <= table[index - 1][0]):
                raise wrong(
                    f"vol_shock.{name}[{index}]", "must have more days than the row before", decimal_text(pair[0])
                )
    for scenario in (*model.rows, *(model.initial_rows or ())):
        need = _NEEDS.get(scenario.vol)
        if need is not None:
            part, key = need.split(".")
            if getattr(getattr(model, part), key) in (None, ()):
                raise wrong(need, f"is missing: the scenario {scenario.name!r} needs it")


def _check_groups(model: ScenarioModel) -> None:
    seen: dict[str, int] = {}
    for index, group in enumerate(model.groups):
        path = f"groups[{index}]"
        if (group.alpha is not None) != (group.rule == "groups"):
            rule = (
                "must be given for the rule 'groups'" if group.alpha is None else "must stand beside the rule 'groups'"
            )
            raise wrong(f"{path}.alpha", rule, None if group.alpha is None else decimal_text(group.alpha))
        for name in ("all",) if group.underlyings == "all" else group.underlyings:
            if name in seen:
                raise wrong(f"{path}.underlyings", f"must not be in groups[{seen[name]}] too", name)
            seen[name] = index


def _check_charges(model: ScenarioModel) -> None:
    for index, charge in enumerate(model.contingencies):
        path = f"contingencies[{index}]"
        if charge.underlyings is not None and charge.except_for:
            raise wrong(f"{path}.except_for", "must not stand beside underlyings", list(charge.except_for))
        if charge.kind in ("basis", "delta_floor"):
            if charge.enters != "mm" or charge.scaled:
                raise wrong(path, f"a charge {charge.kind!r} is part of the worst loss: it has no enters and no scaled")
            for before, other in enumerate(model.contingencies[:index]):
                if other.kind == charge.kind and _overlap(charge, other):
                    raise wrong(path, f"must not concern an underlying that contingencies[{before}] concerns too")
        if charge.kind == "basis" and charge is not model.charges("basis")[0]:
            raise wrong(path, "must be the only charge 'basis' of the model")
        if charge.kind == "depeg" and (charge.underlyings is not None or charge.except_for):
            raise wrong(path, "a charge 'depeg' concerns the whole account: it has no underlyings and no except_for")


def _overlap(one: Charge, other: Charge) -> bool:
    if one.underlyings is None and other.underlyings is None:
        return True
    return any(
        one.concerns(name) and other.concerns(name) for name in (*(one.underlyings or ()), *(other.underlyings or ()))
    )


def _check_minimum(minimum: Minimum) -> None:
    for index, bracket in enumerate(minimum.brackets):
        path, is_last = f"minimum.brackets[{index}]", index == len(minimum.brackets) - 1
        if len(bracket) != 2 or bracket[1] is None:
            raise wrong(path, "must be a pair of a top, or null, and a multiplier")
        if (bracket[0] is None) != is_last:
            raise wrong(path, "must have the top null in the last bracket, and only there")
    tops = [top for top, _ in minimum.brackets[:-1]]
    for index, (low, high) in enumerate(pairwise([Fraction(0), *(top or Fraction(0) for top in tops)])):
        if high <= low:
            raise wrong(f"minimum.brackets[{index}]", "must have a top above the one before", decimal_text(high))


def _check_spreads(spreads: Spreads) -> None:
    for index, (low, high) in enumerate(pairwise(spreads.tiers)):
        if high <= low:
            raise wrong(f"spreads.tiers[{index + 1}]", "must be more than the tier before", decimal_text(high))
    for index, charge in enumerate(spreads.intra):
        path = f"spreads.intra[{index}].legs"
        tiers: list[Any] = [leg.tier for leg in charge.legs]
        if len(tiers) != 2 or None in tiers or tiers[0] == tiers[1]:
            raise wrong(path, "must be two legs of two tiers", tiers)
        if max(tiers) > len(spreads.tiers):
            raise wrong(
                path, f"must have tiers from 0 to {len(spreads.tiers)}, the number of spreads.tiers", max(tiers)
            )
        if any(leg.underlying not in (None, charge.underlying) for leg in charge.legs):
            raise wrong(path, "must be legs of the underlying of the charge")
    for index, credit in enumerate(spreads.inter):
        path = f"spreads.inter[{index}].legs"
        names = [leg.underlying for leg in credit.legs]
        if None in names or len(set(names)) < len(names):
            raise wrong(path, "must have an underlying each, none twice", names)
        if {leg.side for leg in credit.legs} != {"A", "B"}:
            raise wrong(path, "must have a leg of side 'A' and one of side 'B'")
        if any(leg.tier is not None for leg in credit.legs):
            raise wrong(path, "must have no tier: a credit is on the net delta of an underlying")


def _check_measure(model: ScenarioModel) -> None:
    measure = model.measure
    if (measure.alpha is None) != (measure.kind == "worst"):
        rule = "must stand beside the kind 'var' or 'es'" if measure.kind == "worst" else "is missing"
        raise wrong("measure.alpha", rule, None if measure.alpha is None else decimal_text(measure.alpha))
    if measure.kind == "worst" and measure.stressed_share:
        raise wrong(
            "measure.stressed_share", "must stand beside the kind 'var' or 'es'", decimal_text(measure.stressed_share)
        )
    if measure.kind == "worst":
        return
    _check_sets("scenarios", (*model.scenarios, *model.tails), model.rows, measure)
    if model.im_scenarios is not None and model.initial_rows is not None:
        _check_sets("im_scenarios", model.im_scenarios, model.initial_rows, measure)


def _check_sets(path: str, given: tuple[ScenarioRow, ...], rows: tuple[Scenario, ...], measure: Measure) -> None:
    """Refuse scenarios of a measure that lack a set or a probability."""
    stressed = sum(scenario.stress for scenario in rows)
    if bool(stressed) != bool(measure.stressed_share):
        raise wrong(path, "must have rows of the set 'stress' for measure.stressed_share, and only then", stressed)
    if stressed == len(rows):
        raise wrong(path, "must have a row of the set 'window'")
    for name in ("window", "stress"):
        weights = [row.probability for row in given if row.set == name]
        if any(weight is not None for weight in weights) and not any(weights):
            raise wrong(path, f"must have a row of the set {name!r} with a probability of more than 0")
        of_set = [(place, row) for place, row in enumerate(rows) if row.stress == (name == "stress")]
        missing = [place for place, row in of_set if row.probability is None]
        if missing and len(missing) < len(of_set):
            rule = f"has no probability, but other scenarios of the set {name!r} have one"
            raise wrong(path, f"the scenario {rows[missing[0]].name!r} {rule}")
