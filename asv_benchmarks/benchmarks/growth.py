"""Accounts and rows that are added to an engine between ticks, against building all columns and the view anew."""

from __future__ import annotations

import time

import numpy as np

import riskcore as rc
from riskcore.state import NOBODY_OPENED, Growth, Opened

from . import ACCOUNTS, _Figures, wide_tables, wide_venue

ADDED = ACCOUNTS // 8 + 2048  # so many use up the room that one layout keeps: each pays its part of a layout
NOTHING = np.empty((0, 2), np.int64)


class Ratios(_Figures):
    """Adding accounts or position rows one by one, with the screen, in parts of a million of building all anew."""

    params = ["adding an account / building anew, millionths", "adding a position row / building anew, millionths"]

    def setup_cache(self) -> dict[str, float | str]:
        venue = wide_venue()
        positions, balances, marks = wide_tables(venue, ACCOUNTS)
        start = rc.Accounts.from_frames(venue, positions, balances)
        del positions, balances
        figures = []
        for kind in self.params:
            state = start.copy()
            view = state.view()
            screen, growth = rc.Screen(view, venue), Growth(state, view, venue)
            screen.select(marks)
            rng = np.random.default_rng(0)
            begin = time.perf_counter()
            for n in range(ADDED):
                if "account" in kind:
                    growth.add(Opened.of([10**9 + n], [np.inf], [10**9 + n]), NOTHING, NOTHING)
                    screen.grown(np.array([len(state) - 1]))
                else:
                    account = int(rng.integers(len(state)))
                    growth.add(NOBODY_OPENED, np.array([[account, rng.integers(len(venue.markets.symbol))]]), NOTHING)
                    screen.grown(np.array([account]))
            added = (time.perf_counter() - begin) / ADDED
            begin = time.perf_counter()
            growth.pack()
            rc.Screen(state.copy().frozen(), venue).select(marks)
            figures.append(1e6 * added / (time.perf_counter() - begin))
        return dict(zip(self.params, figures, strict=True))
