"""A run over many ticks into a run folder, resumed where an earlier one was cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

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
        A new folder; or one of the same inputs: a run that was cut is continued with the same result, and of a complete
        one the engine is returned as it ended. Nobody else may write to it meanwhile.
    inputs
        Path and sha256 of each input table; a folder of other inputs is refused. Without them the inputs are compared
        with what the folder says that the run was given.
    progress
        Called with the number of ticks done and their total.

    Raises
    ------
    RiskDataError
        The folder holds a run of other inputs, or something else, or another process is writing it.
    """
    ticks.venue.book_units.must_fit(venue.book_units, "ticks")
    path = Path(path)
    given = {name: dict(entry) for name, entry in (inputs or {}).items()}
    with run_folder.writing(path):
        if not (path / "run.json").exists():
            engine = Engine(accounts, venue, seed)
            engine.save(path, complete=False, inputs=given)
        else:
            run = run_folder.opened(path)
            engine = Engine.resume(path)
            state = "is complete" if run.known["complete"] else "was cut"
            if _digests(run.known["inputs"]) != _digests(given) or run.known["seed"] != seed:
                raise RiskDataError("run", None, f"{state} with other inputs: name a new folder", value=str(path))
            if not given and not _began_with(run, venue, accounts, ticks):
                raise RiskDataError("run", None, f"{state} with other inputs: name a new folder", value=str(path))
            if run.known["complete"]:
                return engine
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


def _began_with(run: run_folder.Reader, venue: Venue, accounts: Accounts, ticks: TickTable) -> bool:
    """Whether a run had these inputs, as far as it went; a complete one went to the last tick."""
    start, done = run.accounts(), run.known["ticks"]
    columns = zip((start.ids, *start.columns, *vars(start.orders).values()),
                  (accounts.ids, *accounts.columns, *vars(accounts.orders).values()), strict=True)  # fmt: skip
    goes_on = done == len(ticks) if run.known["complete"] else done <= len(ticks)
    same = goes_on and run.has_venue(venue) and all(np.array_equal(one, other) for one, other in columns)
    first = 0
    for shown, assets, books in run.ticks() if same else ():
        here = slice(first, first := first + len(shown["tick"]))
        for name, given in (
            ("time", np.broadcast_to(ticks.time[here, None], shown["time"].shape)), ("given_mark", ticks.mark[here]),
            ("given_index", ticks.index[here]), ("last_price", ticks.last[here]),
            ("open_interest", ticks.open_interest[here]), ("funding_rate", ticks.funding_rate[here]),
        ):  # fmt: skip
            same = same and np.array_equal(shown[name], given, equal_nan=True)
        prices = ticks.asset[here]
        same = same and np.array_equal(assets["price"], prices[~np.isnan(prices)])
        levels = [ticks.books[time] for time in ticks.time[here].tolist() if time in ticks.books]
        for name in ("price", "lots"):
            same = same and np.array_equal(books[name], np.concatenate([[], *(getattr(of, name) for of in levels)]))
    return same
