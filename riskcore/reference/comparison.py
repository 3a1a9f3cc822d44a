"""Replay of a run folder with the exact model, tick by tick, beside the rows that the run recorded."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .activity import carried_out
from .folder import Run, TickError, read_run
from .journal import apply_rows, journalled
from .state import State
from .tick import step

COMPARED = (
    "tick", "time", "event", "reason", "account", "counterparty", "market", "asset", "settle", "order", "requested",
    "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost", "counter_cash",
    "counter_entry", "fund",
)  # fmt: skip
"""Columns of the journal that are compared: all but the float64 ones."""
LIMITED = ("place", "change", "propose")
"""Events whose price is a limit, which is compared too."""


@dataclass(frozen=True)
class Difference:
    """The first row of a tick in which the run and the exact model differ.

    Attributes
    ----------
    row : int
        Number of the row among the rows of the tick.
    recorded, exact : dict or None
        The row of the run and that of the exact model; None: there is none.
    columns : tuple of str
        The columns that differ.
    rows : int
        Number of rows of the tick that differ.
    """

    row: int
    recorded: dict | None
    exact: dict | None
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class ReplayedTick:
    """A tick of a run, computed again.

    Attributes
    ----------
    tick : int
        Number of the tick.
    rows : list of dict
        The rows of the exact model: the columns of the journal, with ids and symbols for row numbers.
    recorded : list of dict
        The rows that the run recorded, likewise.
    """

    tick: int
    rows: list
    recorded: list

    @property
    def difference(self) -> Difference | None:
        """The first difference of the tick, None if all rows are equal."""
        longest = range(max(len(self.rows), len(self.recorded)))
        differing = [n for n in longest if columns_that_differ(row_at(self.recorded, n), row_at(self.rows, n))]
        if not differing:
            return None
        first = differing[0]
        recorded, exact = row_at(self.recorded, first), row_at(self.rows, first)
        return Difference(first, recorded, exact, columns_that_differ(recorded, exact), len(differing))


def replay(path: str | Path) -> Iterator[ReplayedTick]:
    """Compute every tick of a run folder with the exact model.

    Parameters
    ----------
    path : str or Path
        The folder.

    Yields
    ------
    ReplayedTick
        Rows of the exact model and of the run. After a tick that differs the replay goes on from the accounts and
        ledgers of the run, so that a difference counts in its own tick alone; prices, samples and what the throttle,
        the caps and the refill of books remember stay those of the exact model.

    Raises
    ------
    RunFolderError
        The folder has no run, a file cannot be read, or its ADL policy is not of the page.
    TickError
        The exact model refuses the inputs of a tick, or its recorded rows cannot be applied.

    Notes
    -----
    The rules: docs/one_tick.md. An instant that is not left out takes about 0.2 ms an account. For the selection the
    margin of an account is computed in float64, and exactly if its MMR may be above 0.99
    (`SweptMargins.is_liquidating`).

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.reference import replay
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> ticks = list(replay(folder))
    >>> any(tick.difference for tick in ticks)
    False
    """
    run = read_run(path)
    state, prices = run.start, None
    for inputs, recorded in run.inputs():
        tick = state.ticks if inputs is not None else state.ticks - 1
        try:
            if inputs is None:
                after, rows = carried_out(run.venue, state, recorded, prices)
            else:
                after, rows, seen = step(run.venue, state, **vars(inputs), seed=run.seed)
                prices = seen.prices
        except (ArithmeticError, LookupError, ValueError) as error:
            raise TickError(tick, f"the exact model cannot compute it: {type(error).__name__}: {error}") from None
        result = ReplayedTick(tick, rows, recorded)
        if result.difference is not None:
            after = with_recorded(run, state, after, recorded)
        state = after
        yield result


def with_recorded(run: Run, before: State, after: State, recorded: list) -> State:
    """The state after a tick with the accounts and ledgers that the recorded rows lead to."""
    try:
        accounts_and_ledgers = journalled(apply_rows(before, recorded))
    except (LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TickError(before.ticks, f"the recorded rows cannot be applied: {reason}") from None
    state = copy.copy(after)
    for name, value in accounts_and_ledgers.items():
        setattr(state, name, value)
    return state


def row_at(rows: list, number: int) -> dict | None:
    """A row by its number, None behind the end."""
    return rows[number] if number < len(rows) else None


def columns_that_differ(recorded: dict | None, exact: dict | None) -> tuple[str, ...]:
    """The compared columns in which two rows differ; all of them where one row is missing."""
    if recorded is None or exact is None:
        return COMPARED
    columns = (*COMPARED, "price") if exact["event"] in LIMITED else COMPARED
    return tuple(name for name in columns if recorded[name] != exact[name] and not is_nan(recorded[name], exact[name]))


def is_nan(*values) -> bool:
    """Whether values are all not a number."""
    return all(value != value for value in values)
