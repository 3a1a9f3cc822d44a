"""Calls from several Python threads at once: no abort, no lock needed, the bits of a call alone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import riskcore as rc
from riskcore import sample
from riskcore.io import read_ticks

CALLERS = 6


@pytest.fixture(scope="module")
def crash():
    return sample.crash(400, 6)


def fresh(crash):
    venue, tables = crash
    accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    first = tables.marks[tables.marks["time"] == tables.marks["time"].iloc[0]]
    return venue, accounts, dict(zip(first["market"], first["mark_price"], strict=True))


def at_once(call):
    """Results of a call made from several threads at the same moment."""
    barrier = Barrier(CALLERS)

    def started(_):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(started, range(CALLERS)))


def test_sweeps_of_the_same_accounts_at_once(crash):
    venue, accounts, marks = fresh(crash)  # nobody has packed them yet: all callers meet there

    def call():
        table = rc.sweep(accounts, venue, marks, threads=3)
        chosen = rc.select(accounts, venue, marks, threads=2)
        prices = rc.liquidation_prices(accounts, venue, marks, threads=2)
        return table.to_frame(), chosen.row, prices.to_frame()

    found = at_once(call)
    alone = call()
    for table, rows, prices in found:
        assert table.equals(alone[0])
        np.testing.assert_array_equal(rows, alone[1])
        assert prices.equals(alone[2])


def test_an_engine_to_each_thread(crash):
    venue, accounts, _ = fresh(crash)
    ticks = list(read_ticks(venue, accounts, crash[1].marks, crash[1].books))

    def call():
        engine = rc.Engine(accounts, venue)
        return b"".join(engine.step(tick).rows.tobytes() for tick in ticks)

    assert set(at_once(call)) == {call()}


def test_a_screen_to_each_thread(crash):
    venue, accounts, marks = fresh(crash)

    def call():
        screen = rc.Screen(accounts, venue)
        return [screen.select({m: p * (1 - 0.004 * n) for m, p in marks.items()}).row.tolist() for n in range(30)]

    found = at_once(call)
    assert any(found[0])
    assert all(rows == found[0] for rows in found)
