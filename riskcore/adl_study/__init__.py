"""Deleveraging policies side by side on one event: what each did to the winners; docs/adl_study.md has the terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from .event import Event, run
from .order import order_agreement
from .result import Study, chosen, collect, gap_of
from .runs import study_run
from .sample import generated_event

__all__ = ["Study", "generated_event", "order_agreement", "study", "study_run"]


def study(
    winners: pd.DataFrame,
    requests: pd.DataFrame,
    policies: Sequence[str] | None = None,
    wave_gap: str | float = "5s",
    *,
    quantum: float = 1e-6,
    unit: str = "ns",
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Run the same requests under every policy, over the same winners.

    Parameters
    ----------
    winners
        account, notional (what can be closed, settle units at the mark), pnl (unrealised, of the position), equity and
        leverage (of the account: exposure over equity), and optionally market, side (long, short), requirement
        (maintenance margin of the position), maintenance (of the account).
    requests
        time, notional (to be closed), and optionally market and side (of the winners), deficit (what the price of the
        deal, beyond the mark, takes from the winners together), mark (price at that time).
    policies
        Names of `riskcore.venue.POLICIES`; all of them by default.
    wave_gap
        A longer pause between two requests begins a new wave: text like "5s", or seconds.
    quantum
        Smallest amount of the settle asset.
    unit
        Of times that are whole numbers since the epoch: "ns", "us", "ms" or "s".
    progress
        Called with the number of policies done and their total.

    Raises
    ------
    RiskDataError
        A table breaks a rule, or there is no such policy.
    """
    named, gap = chosen(policies), gap_of(wave_gap)
    event = Event.from_frames(winners, requests, quantum, unit=unit)
    results = []
    for done, policy in enumerate(named, 1):
        results.append(run(event, policy, gap))
        if progress is not None:
            progress(done, len(named))
    return collect(results)
