"""A run over many ticks into a run folder, resumed where an earlier one was cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import run_folder
from ..accounts import Accounts
from ..engine import Engine
from ..errors import RiskDataError
from ..venue import Venue
from .files import TickTable

_SAVE_SECONDS = 20.0


def replay(
    venue: Venue,
    accounts: Accounts,
    ticks: TickTable,
    path: str | Path,
    *,
    seed: int = 0,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Engine:
    """Step an engine over all ticks and keep the run in a folder.

    Parameters
    ----------
    venue, accounts, ticks, seed
        What to run.
    path
        A new folder; or one of the same inputs that was cut, which is then continued with the same result.
    inputs
        Path and sha256 of each input table; a folder of other inputs is refused.
    progress
        Called with the number of ticks done and their total.

    Raises
    ------
    RiskDataError
        The folder holds another run, or one that is complete.
    """
    ticks.venue.book_units.must_fit(venue.book_units, "ticks")
    path = Path(path)
    given = {name: dict(entry) for name, entry in (inputs or {}).items()}
    if (path / "run.json").exists():
        known = run_folder.manifest(path)
        if known["complete"]:
            raise RiskDataError("run", None, "this run is complete: name a new folder", value=str(path))
        if _digests(known["inputs"]) != _digests(given) or known["seed"] != seed:
            raise RiskDataError("run", None, "was cut with other inputs: name a new folder", value=str(path))
        engine = Engine.resume(path)
    else:
        engine = Engine(accounts, venue, seed)
        engine.save(path, complete=False, inputs=given)
    saved = time.monotonic()
    for tick in ticks.starting_at(engine.ticks):
        engine.step(tick)
        if progress is not None:
            progress(engine.ticks, len(ticks))
        if time.monotonic() - saved > _SAVE_SECONDS:
            engine.save(path, complete=False)
            saved = time.monotonic()
    engine.save(path)
    return engine


def _digests(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in inputs.items()}
