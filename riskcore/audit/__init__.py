"""Audit of a run folder, written from docs/one_tick.md and sharing no code with the engine.

Two passes: whole-column checks of the journal (`columns`), then a replay, part by part, tick by tick, and from instant
to instant between two ticks (`instants`). The replay guards the price updates again (`guards`), computes the accruals
for all accounts (`accruals`), bounds the margins of all accounts over the prices of a tick (`near`), and lets the exact
model decide every instant with an account that may be liquidating (`decisions`). Amounts are whole numbers that no
altered figure can wrap; ratios are float64, and decided with 60-digit decimals or fractions where float64 leaves doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, localcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .columns import check_conservation, check_prices, check_replay, check_rows
from .findings import Findings
from .folder import Run, read_run
from .replay import Replay
from .venue import RunError
from .venue_changes import read_stretches

__all__ = ["REFERENCE", "RULES", "AuditReport", "RunError", "audit"]

RULES = {
    "files": "every file has the digest that the run recorded",
    "rows": "every row of the journal is well formed, and the rows are in the order of ticks and phases",
    "conservation": "no lot and no quantum is created or lost between the start and the last state",
    "replay": "the start and the journal's changes give the last state and its ledgers",
    "prices": "prices are numbers above 0, every held market and asset has one, and books are in order",
    "accruals": "interest, funding, realised PnL, settlement and delistings are exactly the amounts that are due",
    "guards": "the used marks, indexes, asset prices and books follow from the input; every rejection has its row",
    "selection": "exactly the liquidating accounts are selected, in the order that the policy sets",
    "throttle": "exactly the legs that the seeded draw or the cooldown excludes are throttled",
    "repay": "debts are repaid in the amounts that the policy sets, in the recorded spot books or at the index",
    "book": "slices have the size that the policy sets, and fill at the levels of the recorded book",
    "bands": "no fill goes beyond its price band, and a fill that a band stops names the band",
    "order": "rounds, accounts and positions come in the order that the policy sets, none missing or repeated",
    "touched": "other accounts change only as providers, counterparties or payers, in their order and shares",
    "cost": "changes of cost, cash and fees follow from the prices, and a position only shrinks",
    "stages": "every account passes through the phases that its margin requires, and completes each of them",
    "ratios": "the recorded MMRs are those of the accounts",
}
"""The rules by name, each in a sentence."""

REFERENCE = {
    "reference": "every row is the one that the exact model writes (riskcore.reference)",
}
"""The rules that are checked on demand."""


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes
    ----------
    checks : DataFrame
        rule, checked (number of things checked), breaches (number of those that broke the rule).
    breaches : DataFrame
        rule, tick, row (of the journal, -1 if none), account (the user's id, None if none), what (in words); the first
        1000.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.audit import audit
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> report = audit(folder)
    >>> report.ok, len(report.checks), len(report.breaches)
    (True, 17, 0)
    """

    checks: pd.DataFrame
    breaches: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether every rule was kept."""
        return not bool(self.checks["breaches"].any())

    @property
    def verdict(self) -> str:
        """The result in one line: the number of checks, or the broken rules with their breaches."""
        broken = self.checks[self.checks["breaches"] > 0]
        if broken.empty:
            return f"every rule was kept in {self.checks['checked'].sum():,} checks"
        return "broken: " + ", ".join(f"{rule} ({count:,})" for rule, count in broken[["rule", "breaches"]].to_numpy())

    def __repr__(self) -> str:
        """One line: the verdict."""
        return f"AuditReport({self.verdict})"


def audit(
    path: str | Path,
    *,
    sample: float | None = None,
    adl_policies: Mapping[str, tuple[Callable[[SimpleNamespace], npt.NDArray[Any]], bool]] | None = None,
    reference: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Check a run folder against the rules of docs/one_tick.md.

    Parameters
    ----------
    path : str or Path
        The folder.
    sample : float, optional
        Fraction, from 0 to 1, of the ticks without journal rows in which the selection is computed again; None: all.
    adl_policies : mapping of str to tuple of callable and bool, optional
        ADL policies beside those of the page, by name: a function and whether positions are shared out by its weights
        (or go by its scores, the highest first). It is given the counterparties of a market and side as they were at
        the tick's sweep: arrays `lots` (above 0) and, in settle units, `value`, `entry`, `requirement` (of the
        position), `equity`, `exposure`, `maintenance` and `profit` (of the account).
    reference : bool
        Whether to compute every tick again with `riskcore.reference` too, and to compare the journal's rows with those
        of the exact model, all but price and MMRs: the rule "reference". A tick that differs is one breach, at its
        first differing row. It takes about 0.2 s for 1,000 accounts and an instant
        that is not left out.
    progress : callable, optional
        Called with the ticks done and all of them; with ``reference`` every tick counts twice.

    Returns
    -------
    AuditReport
        Checks and breaches of each rule.

    Raises
    ------
    RunError
        The folder holds no run, or a file is missing or cannot be read or used, or a policy of the page is given again,
        or ``reference`` is asked of a run with another ADL policy than those of the page.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.audit import audit
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> audit(folder).ok
    True
    """
    out, progress = Findings(), progress or (lambda done, ticks: None)
    # an altered figure may make a square root or a quotient meaningless: then the checks fail, not the arithmetic
    with localcontext(Context(prec=60)), np.errstate(all="ignore"):
        run = read_run(Path(path), out)
        ticks = run.manifest["ticks"] * (2 if reference else 1)
        replay = Replay(run, out, dict(adl_policies or {}))
        try:
            _check(run, out, replay, sample, lambda done: progress(done, ticks))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # what broke a rule may leave what follows without meaning; nothing else may
            if isinstance(error, RunError) or not any(out.breached.values()):
                raise
            out.breach("replay", f"cannot be followed to its end: {type(error).__name__}: {error}")
    if reference:
        from .exact_model import check_reference  # the exact model is loaded on demand

        check_reference(run, out, lambda done: progress(ticks // 2 + done, ticks))
    users = dict(enumerate(run.ids.tolist()))
    kept = [(rule, tick, row, users.get(account), what) for rule, tick, row, account, what in out.kept]
    checks = [(rule, out.checked[rule], out.breached[rule]) for rule in (RULES | REFERENCE if reference else RULES)]
    breaches = pd.DataFrame(kept, columns=["rule", "tick", "row", "account", "what"], dtype=object)
    return AuditReport(
        pd.DataFrame(checks, columns=["rule", "checked", "breaches"]),
        breaches.astype({"tick": np.int64, "row": np.int64}),
    )


def _check(run: Run, out: Findings, replay: Replay, sample: float | None, progress: Callable[[int], None]) -> None:
    """Make the checks of whole columns, and follow the run."""
    for check in (check_rows, check_conservation, check_replay):
        check(run, out)
    for stretch in read_stretches(run, out):
        part = stretch.part
        check_prices(part, out)
        if len(part.time):  # a run that has only begun has a part without ticks
            replay.enter(stretch)
        for row in range(len(part.time)):
            replay.follow(row, sample)
            progress(part.first + row + 1)
    replay.finish()
