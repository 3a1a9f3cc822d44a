"""History as scenarios: the joint moves of a frame of prices, and exact measures of losses with probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, frames
from .figures import decimal_text, number
from .presets import scenario_preset

# ---- Measures


def value_at_risk(losses: Sequence[Fraction], probabilities: Sequence[Fraction], alpha: Fraction) -> Fraction:
    """Return the loss ``l`` with ``P(loss > l) <= 1 - alpha < P(loss >= l)``, exactly.

    Parameters
    ----------
    losses : sequence of Fraction
        Loss of each scenario; a gain is negative.
    probabilities : sequence of Fraction
        Their probabilities, whose sum is 1.
    alpha : Fraction
        Confidence, from 0 to less than 1.

    Returns
    -------
    Fraction
        The loss.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Models as data".

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario import value_at_risk
    >>> tenth = [Fraction(1, 10)] * 10
    >>> int(
    ...     value_at_risk(
    ...         [Fraction(x) for x in (120, -40, 300, 15, -75, 210, 60, -10, 95, 180)], tenth, Fraction(9, 10)
    ...     )
    ... )
    210
    """
    return losses[_worst_rows(losses, probabilities, alpha)[-1][0]]


def expected_shortfall(losses: Sequence[Fraction], probabilities: Sequence[Fraction], alpha: Fraction) -> Fraction:
    """Return the mean of the worst ``1 - alpha`` of probability, the row at its edge counted in part, exactly.

    Parameters
    ----------
    losses : sequence of Fraction
        Loss of each scenario; a gain is negative.
    probabilities : sequence of Fraction
        Their probabilities, whose sum is 1.
    alpha : Fraction
        Confidence, from 0 to less than 1.

    Returns
    -------
    Fraction
        The mean loss.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Models as data".

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario import expected_shortfall
    >>> losses = [Fraction(x) for x in (120, -40, 300, 15, -75, 210, 60, -10, 95, 180)]
    >>> int(expected_shortfall(losses, [Fraction(1, 10)] * 10, Fraction(85, 100)))
    270
    """
    counted = _worst_rows(losses, probabilities, alpha)
    return sum((losses[row] * part for row, part in counted), Fraction(0)) / (1 - alpha)


def _worst_rows(
    losses: Sequence[Fraction], probabilities: Sequence[Fraction], alpha: Fraction
) -> list[tuple[int, Fraction]]:
    """Rows of the worst ``1 - alpha`` of probability from the largest loss on, and the part of it that each has.

    The last row is the first whose loss or a larger one has more than that probability; its part may be 0.
    """
    left, counted = 1 - alpha, []
    for row in sorted(range(len(losses)), key=lambda row: (-losses[row], row)):
        part = min(left, probabilities[row])
        counted.append((row, part))
        if probabilities[row] > left:
            break
        left -= part
    return counted


# ---- A frame as rows of a model


@dataclass(frozen=True)
class _History:
    """Moves of a frame: labels of the windows' ends, underlyings, and a row of moves for each label."""

    labels: list[Any]
    underlyings: list[str]
    moves: np.ndarray[Any, Any]


def rows_of_history(
    frame: Any,
    *,
    prices: bool,
    horizon: int,
    rows: int | None,
    weights: str | float,
    volatility_changes: Any,
    volatility_rule: str,
    filtered: Any,
    missing: str,
    stressed: Any,
) -> list[dict[str, Any]]:
    """Return rows of ``scenarios`` as `ScenarioModel.read` takes them; the parameters are those of `from_returns`."""
    horizon = _whole("horizon", horizon, 1, 10_000)
    if volatility_rule not in ("relative", "absolute"):
        raise RiskDataError("volatility_rule", None, "must be 'relative' or 'absolute'", value=volatility_rule)
    history = _moves("frame", frame, prices=prices, horizon=horizon, missing=missing)
    if filtered is not None:
        history = _filtered(history, frame, filtered, prices=prices, horizon=horizon)
    if rows is not None:
        first = max(0, len(history.labels) - _whole("rows", rows, 1, 4096))
        history = _History(history.labels[first:], history.underlyings, history.moves[first:])
    changes = _volatility_changes(history, volatility_changes)
    found = [
        {
            "name": _label(label),
            "move": dict(zip(history.underlyings, _decimals(moves), strict=True)),
            **({"vol": volatility_rule, "vol_change": change} if change else {}),
        }
        for label, moves, change in zip(history.labels, history.moves, changes, strict=True)
    ]
    if weights != "equal":
        decay = number(above=0, high=1)(weights, "weights")
        with localcontext() as context:
            context.prec = 25
            factor = Decimal(decay.numerator) / Decimal(decay.denominator)
            for age, row in enumerate(reversed(found)):
                row["probability"] = format(factor**age, "f")[:60]
    return found + _stressed(stressed, history.underlyings, prices=prices, horizon=horizon, missing=missing)


def _stressed(stressed: Any, underlyings: list[str], **how: Any) -> list[dict[str, Any]]:
    """Rows of the stressed set: of a frame, or of the rows of another model by its name or as it is."""
    if stressed is None:
        return []
    if frames.is_frame(stressed):
        history = _moves("stressed", stressed, **how)
        if history.underlyings != underlyings:
            raise RiskDataError("stressed", None, f"must have the columns of the frame: {', '.join(underlyings)}")
        rows = [dict(zip(underlyings, _decimals(moves), strict=True)) for moves in history.moves]
        names = [_label(label) for label in history.labels]
    else:
        from .load import load_scenario_model

        model = load_scenario_model(stressed)
        model.must_cover(underlyings)
        rows = [
            {name: decimal_text(scenario.move_of(name) or Fraction(0)) for name in underlyings}
            for scenario in model.rows
        ]
        names = [scenario.name for scenario in model.rows]
    return [{"name": f"stress {name}", "move": row, "set": "stress"} for name, row in zip(names, rows, strict=True)]


def _moves(table: str, source: Any, *, prices: bool, horizon: int, missing: str) -> _History:
    """Simple returns over overlapping windows of ``horizon`` rows."""
    if missing not in ("refuse", "drop"):
        raise RiskDataError("missing", None, "must be 'refuse' or 'drop'", value=missing)
    frame, values = _table(table, source)
    gaps = np.isnan(values)
    if gaps.any() and missing == "refuse":
        row, column = np.argwhere(gaps)[0]
        rule = "must have a value: missing='drop' leaves out each window that has a gap"
        raise RiskDataError(table, frame.columns[column], rule, row=_label(frame.index[row]))
    low, rule = (0.0, "must be more than 0: a price") if prices else (-1.0, "must be more than -1: a return")
    bad = np.argwhere((values <= low) | np.isinf(values))
    if bad.size:
        row, column = bad[0]
        value = float(values[row, column])
        raise RiskDataError(table, frame.columns[column], rule, row=_label(frame.index[row]), value=value)
    if len(values) < horizon + prices:
        raise RiskDataError(table, None, f"must have more rows for a horizon of {horizon}", value=len(values))
    if prices:
        moves = values[horizon:] / values[:-horizon] - 1.0
    else:
        windows = np.lib.stride_tricks.sliding_window_view(1.0 + values, horizon, axis=0)
        moves = values if horizon == 1 else windows.prod(axis=-1) - 1.0
    labels = list(frame.index[len(values) - len(moves) :])
    kept = ~np.isnan(moves).any(axis=1)
    if not kept.any():
        raise RiskDataError(table, None, "must have a window without a gap")
    return _History([label for label, keep in zip(labels, kept, strict=True) if keep], list(frame.columns), moves[kept])


def _table(table: str, source: Any) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """A frame with a column per underlying and rows in the order of time, and its values."""
    frame = frames.as_frame(table, source)
    if "time" in frame.columns:
        frame = frame.set_index("time")
    if not len(frame.columns) or not len(frame):
        raise RiskDataError(table, None, "must have a column for each underlying, and rows")
    for name in frame.columns:
        if not isinstance(name, str):
            raise RiskDataError(table, None, "must have the names of underlyings as columns", value=name)
        frames.must_have(table, frame, [name])
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise RiskDataError(table, None, "must have each label once", row=_label(twice))
    if not frame.index.is_monotonic_increasing:
        raise RiskDataError(table, None, "must have its rows in the order of time, the latest last")
    columns = []
    for name in frame.columns:
        try:
            columns.append(frame[name].to_numpy(dtype=float, na_value=np.nan))
        except (TypeError, ValueError):
            raise RiskDataError(table, name, "must hold numbers") from None
    return frame, np.column_stack(columns)


def _filtered(history: _History, source: Any, by: Any, *, prices: bool, horizon: int) -> _History:
    """Moves times the latest volatility over that of their time: of columns given, or averaged with a decay.

    A decay gives the volatility at the beginning of each window, from the moves of one row before it.
    """
    labels, moves = history.labels, history.moves
    if frames.is_frame(by):
        given, values = _table("filtered", by)
        for name in history.underlyings:
            frames.must_have("filtered", given, [name])
        columns = [list(given.columns).index(name) for name in history.underlyings]
        place = {label: row for row, label in enumerate(given.index)}
        for label in labels:
            if label not in place:
                raise RiskDataError("filtered", None, "must have a row for each row of the frame", row=_label(label))
        then, now = values[np.ix_([place[label] for label in labels], columns)], values[-1, columns]
    else:
        decay = float(number(above=0, below=1)(by, "filtered"))
        single = _moves("frame", source, prices=prices, horizon=1, missing="drop")
        averaged = pd.DataFrame(single.moves**2).ewm(alpha=1.0 - decay).mean().to_numpy() ** 0.5
        place = {label: row for row, label in enumerate(single.labels)}
        start = np.array([place.get(label, -1) - horizon for label in labels])
        labels, moves = [label for label, row in zip(labels, start, strict=True) if row >= 0], moves[start >= 0]
        then, now = averaged[start[start >= 0]], averaged[-1]
        if not labels:
            raise RiskDataError("frame", None, "must have more rows: a window needs a volatility before it")
    bad = np.argwhere(~((then > 0) & np.isfinite(then) & (now > 0) & np.isfinite(now)))
    if bad.size:
        row, column = bad[0]
        rule = "must have a volatility of more than 0 then and now"
        raise RiskDataError("filtered", history.underlyings[column], rule, row=_label(labels[row]))
    scaled = moves * now / then
    bad = np.argwhere(scaled <= -1)
    if bad.size:
        row, column = bad[0]
        rule = "must leave a move of more than -1 by the latest volatility"
        name = history.underlyings[column]
        raise RiskDataError("filtered", name, rule, row=_label(labels[row]), value=float(scaled[row, column]))
    return _History(labels, history.underlyings, scaled)


def _volatility_changes(history: _History, source: Any) -> list[dict[str, str]]:
    """Change of the volatility of each row by underlying; empty without columns."""
    if source is None:
        return [{} for _ in history.labels]
    frame, values = _table("volatility_changes", source)
    for name in frame.columns:
        if name not in history.underlyings:
            raise RiskDataError("volatility_changes", name, "must be a column of the frame too")
    place = {label: row for row, label in enumerate(frame.index)}
    found = []
    for label in history.labels:
        if label not in place or np.isnan(values[place[label]]).any():
            raise RiskDataError("volatility_changes", None, "must have a value for each row used", row=_label(label))
        found.append(dict(zip(frame.columns, _decimals(values[place[label]]), strict=True)))
    return found


def _decimals(values: np.ndarray[Any, Any]) -> list[str]:
    """Shortest decimals of floats, without an exponent."""
    return [np.format_float_positional(value, trim="-") for value in values]


def _label(label: Any) -> str:
    if isinstance(label, pd.Timestamp):
        return label.date().isoformat() if label == label.normalize() else label.isoformat()
    return str(label)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise RiskDataError(name, None, f"must be a whole number from {low} to {high}", value=value)
    return int(value)


def content_of_history(
    frame: Any, preset: str | None, how: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of a model of a frame.

    ``how`` has the parameters of `rows_of_history`; where one is None a preset decides, then the default.
    """
    content: dict[str, Any] = {"groups": [{"underlyings": "all"}]}
    defaults: dict[str, Any] = {"horizon": 1, "weights": "equal"}
    if preset is not None:
        found = scenario_preset(preset)
        if "history" not in found:
            raise RiskDataError("preset", None, "must be a preset that is made from a history", value=preset)
        defaults |= found["history"]
        content |= found["model"]
    how = {name: defaults.get(name) if each is None else each for name, each in how.items()}
    content |= {name: each for name, each in figures.items() if each is not None}
    return content | {"scenarios": rows_of_history(frame, **how)}
