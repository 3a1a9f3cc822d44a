"""A run over many ticks into a run folder, resumed where an earlier one was cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..boundary import RiskDataError, timestamps
from ..engine import Engine
from ..market import NO_FUNDING, Books, TickTable
from ..record import reader, run_folder
from ..state import Accounts
from ..venue import Venue

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
    venue : Venue
        The rules.
    accounts : Accounts
        The state at the start.
    ticks : TickTable
        The ticks, as of `riskcore.io.read_ticks`.
    path : str or Path
        A new folder; or one of the same inputs: a run that was cut is continued with the same result, and of a complete
        one the engine is returned as it ended. Nobody else may write to it meanwhile. Where a run was cut, the tables
        of the ticks may differ from then on: a tick that is refused can be mended.
    seed : int
        As of `Engine`.
    inputs : mapping of str to mapping, optional
        Path and sha256 of each input table; a folder of other inputs is refused. Without them the inputs are compared
        with the inputs on record in the folder.
    progress : callable, optional
        Called with the number of ticks done and their total.

    Returns
    -------
    Engine
        The engine after the last tick.

    Raises
    ------
    RiskDataError
        The folder holds a run of other inputs, or something else, or another process is writing it. Or a tick is
        refused: the message has its time, and the ticks before it are kept.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from riskcore.io import read_ticks, replay
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> time = ["2025-10-10T21:00Z", "2025-10-10T21:01Z"]
    >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 194.0]})
    >>> replay(venue, accounts, read_ticks(venue, accounts, marks), tempfile.mkdtemp())
    Engine(2 accounts, 2 ticks, last at 2025-10-10 21:01:00+00:00, fund 1,000.00 USDC)
    """
    accounts.units.must_fit(venue.units)
    ticks.venue.book_units.must_fit(venue.book_units, "ticks")
    path = Path(path)
    given = {name: dict(entry) for name, entry in (inputs or {}).items()}
    with run_folder.writing(path):
        if not (path / "run.json").exists():
            engine = Engine(accounts, venue, seed)
            engine.save(path, complete=False, inputs=given)
        else:
            run = reader.open_run(path)
            engine = Engine.resume(path)
            state = "is complete" if run.manifest["complete"] else "was cut"
            if not _has_same_inputs(run, venue, accounts, ticks, given) or run.manifest["seed"] != seed:
                raise RiskDataError("run", None, f"{state} with other inputs: name a new folder", value=str(path))
            if run.manifest["complete"]:
                return engine
        saved = time.monotonic()
        for tick in ticks.starting_at(engine.ticks):
            try:
                engine.step(tick)
            except RiskDataError as error:
                engine.save(path, complete=False, inputs=given)
                rule = f"{error.rule}; the ticks before this one are kept: correct the input and run the same command"
                row = f"time {timestamps.moment(int(ticks.time[engine.ticks]))}"
                raise RiskDataError(error.table, error.column, rule, row=row, value=error.value) from None
            if progress is not None:
                progress(engine.ticks, len(ticks))
            if time.monotonic() - saved > _SAVE_SECONDS:
                engine.save(path, complete=False, inputs=given)
                saved = time.monotonic()
        engine.save(path, inputs=given)
    return engine


_TICKS = {"marks", "books", "asset_prices", "funding", "venue_changes"}
"""Inputs that the ticks are made of."""


def _has_same_inputs(
    run: reader.Reader,
    venue: Venue,
    accounts: Accounts,
    ticks: TickTable,
    given: Mapping[str, Mapping[str, str]],
) -> bool:
    """Whether a run goes on with these inputs: they are the same, but for ticks that are still to come."""
    recorded = run.manifest["inputs"]
    other = {name for name in recorded.keys() | given.keys() if _digest(recorded, name) != _digest(given, name)}
    if other - _TICKS or (other and run.manifest["complete"]):
        return False
    if not given and not (_has_same_start(run, accounts) and run.has_venue(venue)):
        return False
    return (bool(given) and not other) or _has_same_ticks(run, ticks)


def _digest(inputs: Mapping[str, Mapping[str, str]], name: str) -> str | None:
    return inputs[name]["sha256"] if name in inputs else None


def _has_same_start(run: reader.Reader, accounts: Accounts) -> bool:
    """Whether a run had these accounts at its start."""
    start = run.accounts()
    one, other = ([of.ids, *of.columns, *map(np.asarray, of.orders.columns)] for of in (start, accounts))
    return all(map(np.array_equal, one, other)) and start.orders.ids == accounts.orders.ids


def _has_same_ticks(run: reader.Reader, ticks: TickTable) -> bool:
    """Whether these are the ticks of a run, as far as it went; a complete one went to the last tick."""
    done, first = run.manifest["ticks"], 0
    same = bool(done == len(ticks) if run.manifest["complete"] else done <= len(ticks))
    none = Books.empty(ticks.venue)
    for recorded, assets, books in run.ticks() if same else ():
        here = slice(first, first + len(recorded["tick"]))
        time, numbers = ticks.time[here], np.arange(here.start, here.stop)
        for name, given in (
            ("time", np.broadcast_to(time[:, None], recorded["time"].shape)), ("given_mark", ticks.mark[here]),
            ("given_index", ticks.index[here]), ("last_price", ticks.last[here]),
            ("given_low", ticks.low[here]), ("given_high", ticks.high[here]),
            ("open_interest", ticks.open_interest[here]), ("funding_rate", ticks.funding_rate[here]),
        ):  # fmt: skip
            same = same and np.array_equal(recorded[name], given, equal_nan=True)
        row, asset = np.nonzero(~np.isnan(ticks.asset[here]))
        was_given = ~np.isnan(assets["given_price"])
        for name, given in (("tick", first + row), ("asset", asset), ("given_price", ticks.asset[here][row, asset])):
            same = same and np.array_equal(assets[name][was_given], given)
        table = run_folder.book_table(numbers, time, [ticks.books.get(t, none) for t in time.tolist()])
        same = same and all(np.array_equal(books[name], column) for name, column in table.items())
        first = here.stop
    return same and (done > len(ticks) or _has_same_events(run, ticks, done))


def _has_same_events(run: reader.Reader, ticks: TickTable, done: int) -> bool:
    """Whether the funding rates and venue changes of a run's ticks are those of these ticks."""
    recorded = {tick: of_tick for tick, *of_tick in run.events()}
    for tick in range(done):
        given = ticks.funding_of(tick), ticks.changes_of(tick)
        funding, changes = recorded.get(tick, (NO_FUNDING, ()))
        same = all(map(np.array_equal, funding, given[0]))
        if not same or [change[:-1] for change in changes] != [change[:-1] for change in given[1]]:
            return False
    return True
