"""A generated deleveraging: heavy-tailed winners, requests that come in waves. Nothing here is market data."""

from __future__ import annotations

import numpy as np
import pandas as pd


def generated_event(count: int = 2_000, *, seed: int = 0, share: float = 0.4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw winners and requests; a crash in which shorts win.

    Parameters
    ----------
    count : int
        Number of winners, each with one short position.
    seed : int
        Seed of the draws, >= 0.
    share : float
        Notional requested together, a fraction of the winners' notional.

    Returns
    -------
    winners, requests : DataFrame
        Columns as of `study`.

    Examples
    --------
    >>> from riskcore.adl_study import generated_event
    >>> winners, requests = generated_event(20)
    >>> len(winners), list(requests.columns)
    (20, ['time', 'notional', 'deficit', 'mark'])
    """
    rng = np.random.default_rng(seed)
    notional = np.minimum(np.exp(rng.normal(6.5, 2.0, count)) + 10, 3e7)
    leverage = np.exp(rng.uniform(np.log(0.1), np.log(20), count))
    gain = np.clip(rng.gamma(2.0, 0.2, count), 0.01, None)  # of the notional at the mark
    equity = notional / leverage
    winners = pd.DataFrame(
        {
            "account": np.arange(1, count + 1),
            "notional": np.round(notional, 2),
            "pnl": np.round(np.minimum(gain * notional, 0.95 * equity), 2),
            "equity": np.round(equity, 2),
            "leverage": leverage,
        }
    )
    start = pd.Timestamp("2026-01-01 12:00:00", tz="UTC")
    waves = rng.integers(0, 8, 30), rng.integers(20, 40, 60), rng.integers(60, 64, 10)
    second = np.sort(np.concatenate(waves))
    weight = rng.pareto(1.2, len(second)) + 0.1
    requested = np.maximum(weight / weight.sum() * share * notional.sum(), 1)
    requests = pd.DataFrame(
        {
            "time": start + pd.to_timedelta(second, unit="s"),
            "notional": np.round(requested, 2),
            "deficit": np.round(requested * rng.uniform(0.0, 0.03, len(second)), 2),
            "mark": 100 * (1 - 0.004 * np.sqrt(second)) * np.exp(rng.normal(0, 1e-3, second.max() + 1)[second]),
        }
    )
    return winners, requests
