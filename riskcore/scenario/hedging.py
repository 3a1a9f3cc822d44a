"""What each position of a portfolio saves by hedging the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._typing import Float, Int
from .portfolios import Portfolios
from .table import ScenarioTable

_ROWS = 1 << 20  # of the portfolios that are computed together


def saved_by_position(
    table: ScenarioTable, portfolios: Portfolios, maintenance: Float, *, threads: int | None = None
) -> Float:
    """Return what the requirement of a portfolio would be more without each of its positions.

    Memory does not grow with the number of accounts, but for the result.

    Parameters
    ----------
    table : ScenarioTable
        The table of record.
    portfolios : Portfolios
        A portfolios of P positions in all.
    maintenance : ndarray of float64, shape (A,)
        Their maintenance requirements.
    threads : int, optional
        Number of threads, >= 1; None takes every core when there are enough accounts to gain from it.

    Returns
    -------
    ndarray of float64, shape (P,)
        Requirement without the position less that with it, in the numeraire: positive if the position is a hedge.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, saved_by_position
    >>> frame = pd.DataFrame({"market": ["P", "Q"], "kind": "PERP", "underlying": "BTC"})
    >>> instruments = Instruments.from_frame(frame)
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 100.0}, marks={"P": 100.0, "Q": 100.0})
    >>> model = rc.load_scenario_model({"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]})
    >>> table = ScenarioTable.of(model, instruments, market)
    >>> held = pd.DataFrame({"account": 1, "market": ["P", "Q"], "size": [3.0, -2.0]})
    >>> portfolios, _ = Portfolios.from_frame(instruments, held)
    >>> saved_by_position(table, portfolios, table.requirements(portfolios).maintenance).tolist()
    [10.0, 20.0]
    """
    saved = np.zeros(len(portfolios.size))
    for first, last in _blocks(portfolios):
        start = portfolios.span.astype(np.int64)
        owner = np.repeat(np.arange(first, last), np.diff(start[first : last + 1]))
        row = np.arange(start[first], start[last])
        without = table.requirements(_without_each(portfolios, owner, row), threads=threads)
        saved[row] = without.maintenance - maintenance[owner]
    return saved


def _without_each(portfolios: Portfolios, owner: Int, row: Int) -> Portfolios:
    """A portfolio per row: that of its owner with a size of 0 in the row, without orders."""
    start = portfolios.span.astype(np.int64)
    count = (start[1:] - start[:-1])[owner]
    span = np.zeros(len(row) + 1, np.uint32)
    np.cumsum(count, out=span[1:])
    first = span[:-1].astype(np.int64)
    taken = np.arange(span[-1]) - np.repeat(first - start[owner], count)
    size = portfolios.size[taken]
    size[first + row - start[owner]] = 0.0
    return Portfolios(span, portfolios.instrument[taken], size)


def _blocks(portfolios: Portfolios) -> Iterator[tuple[int, int]]:
    """Accounts ``first:last`` whose portfolios without each position have few rows together."""
    total = np.cumsum(np.square(np.diff(portfolios.span.astype(np.int64))))
    first = 0
    while first < len(total):
        before = total[first - 1] if first else 0
        last = max(int(np.searchsorted(total, before + _ROWS, side="right")), first + 1)
        yield first, last
        first = last
