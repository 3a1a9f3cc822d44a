"""Deleveraging policies side by side on one event: their effect on the winners; docs/adl_study.md has the terms."""

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
    winners : DataFrame
        account, notional (what can be closed, settle units at the mark), pnl (unrealised, of the position), equity and
        leverage (of the account: exposure over equity), and optionally market, side (long, short), requirement
        (maintenance margin of the position), maintenance (of the account).
    requests : DataFrame
        time, notional (to be closed, settle units), and optionally market and side (of the winners), deficit (settle
        units that the price of the deal, beyond the mark, takes from the winners together), mark (price at that time).
    policies : sequence of str, optional
        Names of `riskcore.venue.POLICIES`; all of them by default.
    wave_gap : str or float
        A longer pause between two requests begins a new wave: text like "5s", or seconds.
    quantum : float
        Smallest amount of the settle asset, settle units.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.
    progress : callable, optional
        Called with the number of policies done and their total.

    Returns
    -------
    Study
        Figures of each policy.

    Raises
    ------
    RiskDataError
        A table breaks a rule, or there is no such policy.

    Notes
    -----
    The figures: docs/adl_study.md.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.adl_study import study
    >>> winners = pd.DataFrame({"account": [1, 2], "notional": [1_000.0, 3_000.0], "pnl": [100.0, 50.0]})
    >>> winners = winners.assign(equity=[200.0, 1_000.0], leverage=[5.0, 3.0])
    >>> requests = pd.DataFrame({"time": ["2025-10-10T21:00Z"], "notional": [1_000.0]})
    >>> result = study(winners, requests, ["pnl_leverage", "pro_rata"])
    >>> result.total[["policy", "accounts"]].to_dict("records")
    [{'policy': 'pnl_leverage', 'accounts': 1}, {'policy': 'pro_rata', 'accounts': 2}]
    """
    named, gap = chosen(policies), gap_of(wave_gap)
    event = Event.from_frames(winners, requests, quantum, unit=unit)
    results = []
    for done, policy in enumerate(named, 1):
        results.append(run(event, policy, gap))
        if progress is not None:
            progress(done, len(named))
    return collect(results)
