"""A run over many ticks into a run folder, resumed where an earlier one was cut."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..boundary import RiskDataError, timestamps
from ..engine import Engine
from ..market import NO_FUNDING, Books, TickTable
from ..record import reader, run_folder
from ..state import Accounts
from ..venue import Venue, must_be_perpetual

_SAVE_SECONDS = 20.0


def replay(
    venue: Venue,
    accounts: Accounts,
    ticks: TickTable,
    path: str | Path,
    *,
    seed: int = 0,
    activity_check: str = "on",
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Engine:
    """Step an engine over all ticks, carry out the activity after each, and keep the run in a folder.

    Parameters
    ----------
    venue : Venue
        The rules.
    accounts : Accounts
        The state at the start.
    ticks : TickTable
        The ticks, as of `riskcore.io.read_ticks`, with their activity.
    path : str or Path
        A new folder; or one of the same inputs: a run that was cut is continued with the same result, and of a complete
        one the engine is returned as it ended. Nobody else may write to it meanwhile. Where a run was cut, the tables
        of the ticks and of activity may differ from then on: a tick or a row that is refused can be mended.
    seed : int
        As of `Engine`.
    activity_check : str
        The ``check`` of `Engine.apply`. Rows before the first tick, which has the first prices, need "off" where the
        venue's checks need a price.
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
        refused: the message has its time, and the ticks before it are kept. Or a row of activity is refused: the
        message has its row, and the ticks before it are kept, without the rows after the last of them.

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
    must_be_perpetual(venue, "a replay")
    ticks.venue.book_units.must_fit(venue.book_units, "ticks")
    path = Path(path)
    given = {name: dict(entry) for name, entry in (inputs or {}).items()}
    acting = _Acting(ticks, activity_check)
    with run_folder.writing(path):
        if not (path / "run.json").exists():
            engine = Engine(accounts, venue, seed)
            engine.save(path, complete=False, inputs=acting.recorded(given))
        else:
            run = reader.open_run(path)
            engine = Engine.resume(path)
            state = "is complete" if run.manifest["complete"] else "was cut"
            other = _other_inputs(run, acting.recorded(given))
            same = run.manifest["seed"] == seed and acting.has_same(run)
            if not same or not _has_same_inputs(run, venue, accounts, ticks, other, is_named=bool(given)):
                raise RiskDataError("run", None, f"{state} with other inputs: name a new folder", value=str(path))
            if run.manifest["complete"]:
                return engine
        saved = time.monotonic()

        def act() -> None:
            """Carry out the activity after the last tick."""
            try:
                acting.act(engine)
            except RiskDataError as error:
                engine.save(path, complete=False, inputs=acting.recorded(given))
                rule = f"{error.rule}; the ticks until then are kept: {_MEND}"
                raise RiskDataError(error.table, error.column, rule, row=error.row, value=error.value) from None

        act()
        for tick in ticks.starting_at(engine.ticks):
            try:
                engine.step(tick)
            except RiskDataError as error:
                engine.save(path, complete=False, inputs=acting.recorded(given))
                row = f"time {timestamps.moment(int(ticks.time[engine.ticks]))}"
                rule = f"{error.rule}; the ticks before this one are kept: {_MEND}"
                raise RiskDataError(error.table, error.column, rule, row=row, value=error.value) from None
            act()
            if progress is not None:
                progress(engine.ticks, len(ticks))
            if time.monotonic() - saved > _SAVE_SECONDS:
                engine.save(path, complete=False, inputs=acting.recorded(given))
                saved = time.monotonic()
        engine.save(path, inputs=acting.recorded(given))
    return engine


_MEND = "correct the input and run the same command"
_TICKS = {"marks", "books", "asset_prices", "funding", "venue_changes", "activity"}
"""Inputs that the ticks, and what happens after them, are made of."""


class _Acting:
    """Carries out the rows of activity that belong to the ticks of a run; knows how many are done."""

    def __init__(self, ticks: TickTable, check: str) -> None:
        self.ticks, self.check, self.done = ticks, check, 0

    def act(self, engine: Engine) -> None:
        """Carry out the rows after the last tick that are still to come; all of them or none."""
        end = self.ticks.actions_until(engine.ticks - 1)
        if end <= self.done:
            return
        assert self.ticks.activity is not None
        try:
            engine.apply(self.ticks.activity.iloc[self.done : end], check=self.check)
        except RiskDataError as error:
            row = error.row + self.done if isinstance(error.row, int) else error.row
            raise RiskDataError(error.table, error.column, error.rule, row=row, value=error.value) from None
        self.done = end

    def recorded(self, given: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Inputs for run.json: of the activity also the number of rows that were carried out, and their digest."""
        inputs = {name: dict(entry) for name, entry in given.items()}
        if self.ticks.activity is not None:
            whole = {"sha256": self._digest(len(self.ticks.activity))}
            of_rows = {"rows": str(self.done), "rows_sha256": self._digest(self.done), "check": self.check}
            inputs["activity"] = whole | inputs.get("activity", {}) | of_rows
        return inputs

    def has_same(self, run: reader.Reader) -> bool:
        """Whether the rows that a run carried out are those up to its last tick, or up to there; they are done then."""
        entry, done = run.manifest["inputs"].get("activity", {}), run.manifest["ticks"]
        self.done = int(entry.get("rows", 0))
        if 0 < done <= len(self.ticks) and self.ticks.actions_until(done - 2) > self.done:
            return False
        if not self.done:
            return True
        if self.ticks.activity is None or self.done > len(self.ticks.activity):
            return False
        return bool(entry["rows_sha256"] == self._digest(self.done) and entry["check"] == self.check)

    def _digest(self, rows: int) -> str:
        assert self.ticks.activity is not None
        table = self.ticks.activity.iloc[:rows].dropna(axis="columns", how="all").sort_index(axis="columns")
        return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def _has_same_inputs(
    run: reader.Reader,
    venue: Venue,
    accounts: Accounts,
    ticks: TickTable,
    other: set[str],
    *,
    is_named: bool,
) -> bool:
    """Whether a run goes on with these inputs: they are the same, but for ticks that are still to come."""
    if other - _TICKS or (other and run.manifest["complete"]):
        return False
    if not is_named and not (_has_same_start(run, accounts) and run.has_venue(venue)):
        return False
    return (is_named and not other) or _has_same_ticks(run, ticks)


def _other_inputs(run: reader.Reader, given: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Names of the inputs whose digests are not those on record."""
    recorded = run.manifest["inputs"]
    return {name for name in recorded.keys() | given.keys() if _digest(recorded, name) != _digest(given, name)}


def _digest(inputs: Mapping[str, Mapping[str, str]], name: str) -> str | None:
    return inputs[name]["sha256"] if name in inputs else None


def _has_same_start(run: reader.Reader, accounts: Accounts) -> bool:
    """Whether a run had these accounts at its start."""
    given = _holdings(accounts, len(accounts), len(accounts.orders.lots))
    return all(map(np.array_equal, given, _holdings(run.accounts(), len(accounts), len(accounts.orders.lots))))


def _holdings(accounts: Accounts, count: int, orders: int) -> list[npt.NDArray[Any]]:
    """What the first accounts hold, without the rows of nothing that activity needs later, and the first orders."""
    columns = accounts.columns
    found: list[npt.NDArray[Any]] = [accounts.ids[:count], accounts.owners[:count], columns.leverage_fraction[:count]]
    for owner, item, amounts in (
        (accounts.position_accounts(), columns.market, (columns.lots, columns.cost, columns.entry)),
        (accounts.balance_accounts(), columns.asset, (columns.free, columns.lent, columns.unsettled)),
    ):
        kept = (owner < count) & np.any([amount != 0 for amount in amounts], axis=0)
        found += [column[kept] for column in (owner, item, *amounts)]
    found.append(np.array(sorted((n, id_) for n, id_ in accounts.orders.ids.items() if n < orders), object))
    return found + [np.asarray(column)[:orders] for column in accounts.orders.columns]


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
