"""Comparison of the journal with the rows of the exact model, tick by tick."""

from __future__ import annotations

from collections.abc import Callable

from ..reference import ReplayedTick, RunFolderError, TickError, replay
from .findings import Findings
from .folder import Run
from .venue import RunError


def check_reference(run: Run, out: Findings, progress: Callable[[int], None]) -> None:
    """Compare every row with the exact model; a tick with differences is one breach, at its first differing row.

    Raises
    ------
    RunError
        The exact model cannot read the folder, or does not know its ADL policy.
    """
    accounts, first = {account: row for row, account in enumerate(run.ids.tolist())}, 0
    try:
        for tick in replay(run.path):
            out.checked["reference"] += len(tick.recorded)
            _report(tick, first, accounts, out)
            first += len(tick.recorded)
            progress(tick.tick + 1)
    except RunFolderError as error:
        raise RunError(str(error)) from None
    except TickError as error:
        out.breach("reference", str(error), error.tick, first)


def _report(tick: ReplayedTick, first: int, accounts: dict[object, int], out: Findings) -> None:
    """Report the difference of a tick, if there is one."""
    found = tick.difference
    if found is None:
        return
    recorded, exact = found.recorded, found.exact
    if recorded is None:
        what = f"no row, where the exact model has {_named(exact)}"
    elif exact is None:
        what = f"{_named(recorded)}, where the exact model has no row"
    else:
        pairs = (f"{column} {recorded[column]}, not {exact[column]}" for column in found.columns)
        what = f"{_named(recorded)}: {'; '.join(pairs)}"
    if found.rows > 1:
        what += f"; {found.rows} rows of the tick differ"
    account = accounts.get((recorded or exact or {}).get("account"), -1)
    out.breach("reference", what, tick.tick, first + found.row, account)


def _named(row: dict[str, object] | None) -> str:
    """Event and reason of a row."""
    return "" if row is None else f"{row['event']} ({row['reason']})"
