"""Accounts and rows that are added to an engine between ticks, against building all columns and the view anew."""

from __future__ import annotations

import numpy as np

import riskcore as rc
from riskcore.state import NOBODY_OPENED, Growth, Opened

from . import ACCOUNTS, _Figures, seconds, wide_tables, wide_venue

ADDED = 2_000
NOTHING = np.empty((0, 2), np.int64)


class Ratios(_Figures):
    """Adding one account or position row, screen included, in parts of a million of building all anew.

    An addition pays its part of laying all rows out anew, which is done once for every eighth more.
    """

    params = ["adding an account / building anew, millionths", "adding a position row / building anew, millionths"]

    def setup_cache(self) -> dict[str, float | str]:
        venue = wide_venue()
        positions, balances, marks = wide_tables(venue, ACCOUNTS)
        start = rc.Accounts.from_frames(venue, positions, balances)
        del positions, balances
        figures, rng = [], np.random.default_rng(0)
        for of_account in (True, False):
            state = start.copy()
            view = state.view()
            screen, growth = rc.Screen(view, venue), Growth(state, view, venue)
            screen.select(marks)

            def add(count: int, of_account: bool = of_account, state=state, screen=screen, growth=growth) -> None:
                for _ in range(count):
                    account = len(state) if of_account else int(rng.integers(len(state)))
                    if of_account:
                        growth.add(Opened.of([10**9 + account], [np.inf], [10**9 + account]), NOTHING, NOTHING)
                    else:
                        market = rng.integers(len(venue.markets.symbol))
                        growth.add(NOBODY_OPENED, np.array([[account, market]]), NOTHING)
                    screen.grown(np.array([account]))

            add(2)  # lays all rows out, and compiles
            added = seconds(lambda: add(ADDED)) / ADDED
            room = (len(state) if of_account else len(state.columns.lots) // 20) / 8  # a row reserves others
            layout = seconds(growth.pack)
            anew = layout + seconds(lambda state=state: rc.Screen(state.copy().frozen(), venue).select(marks))
            figures.append(1e6 * (added + layout / room) / anew)
            print(f"{1e6 * added:.0f} us each, {layout:.3f} s to lay out, {anew:.3f} s anew")
        return dict(zip(self.params, figures, strict=True))
