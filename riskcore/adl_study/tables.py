"""The tables of a deleveraging: possible counterparties, requests to close, and rows of a real queue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..boundary import RiskDataError, frames, schemas, units

_ASSUMED: dict[str, dict[str, str | float]] = {
    "winners": {"market": "all", "side": "short"},
    "requests": {"market": "all", "side": "short", "deficit": 0.0, "mark": 1.0},
    "queue": {"market": "all"},
}


def checked(table: str, frame: pd.DataFrame, *, unit: str = "ns") -> pd.DataFrame:
    """Return a table with its columns in their types, those that may be left out filled in.

    ``unit`` is of times that are whole numbers, as of `riskcore.boundary.times`.

    Raises
    ------
    RiskDataError
        A value breaks a rule.
    """
    frame = frames.as_frame(table, frame)
    names = [name for name in frame.columns if isinstance(name, str)]
    frame = frame.assign(**{k: v for k, v in _ASSUMED[table].items() if k not in names})
    return schemas.checked(table, frame, unit=unit)


def checked_pair(
    winners: pd.DataFrame, requests: pd.DataFrame, *, unit: str = "ns"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check both tables of an event, and that they go together; winners by account, requests by time.

    Raises
    ------
    RiskDataError
        A value breaks a rule, one table alone names markets or sides, or rows of an account differ in its own figures.
    """
    winners, requests = frames.as_frame("winners", winners), frames.as_frame("requests", requests)
    columns = [list(frame.columns) for frame in (winners, requests)]
    winners, requests = checked("winners", winners), checked("requests", requests, unit=unit)
    for column in ("market", "side"):
        if (column in columns[0]) != (column in columns[1]):
            name = "requests" if column in columns[0] else "winners"
            raise RiskDataError(name, column, "the column is missing, but the other table has it")
    for name, frame in (("winners", winners), ("requests", requests)):
        if not len(frame):
            raise RiskDataError(name, None, "must have at least one row")
    first = winners.groupby("account", sort=False)
    for column in winners.columns.intersection(["equity", "leverage", "maintenance"]):
        odd = np.flatnonzero(winners[column] != first[column].transform("first"))
        if odd.size:
            rule = "must be the same in every row of the account"
            raise RiskDataError("winners", column, rule, row=int(odd[0]), value=winners[column].iloc[odd[0]])
    winners = winners.sort_values(["account", "market", "side"], kind="stable", ignore_index=True)
    return winners, requests.sort_values("time", kind="stable", ignore_index=True)


def quanta(table: str, values: pd.Series[float], quantum: float) -> npt.NDArray[np.int64]:
    """Whole quanta of a column, rounded half-even."""
    numbers = values.to_numpy().astype(np.float64)
    return units.round_half_even(table, str(values.name), [numbers], np.full(len(values), quantum))
