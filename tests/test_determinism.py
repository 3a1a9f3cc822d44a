"""The same bits whatever runs them: the interpreter, the compiler, in one go or resumed.

A tick runs on one thread; those of a sweep are in test_sweep_view.py and test_margin_properties.py.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from riskcore import Accounts, Engine, Tick, load_venue, sample
from riskcore.record import EVENTS, ROW, read_journal
from tests import small_run
from tests.comparison import whole_state

ACCOUNTS, SECONDS, TICKS = 250, 60, 12


def crash() -> tuple[Engine, list[Tick]]:
    """A small generated crash in 12 ticks: providers soon full, and one market without a book, so that ADL comes."""
    venue, tables = sample.crash(ACCOUNTS, SECONDS, seed=3)
    small = [row | {"capacity_per_min": "9000"} for row in venue.source["backstop"]]
    venue, ticks = load_venue(small_run.accruing(venue.source) | {"backstop": small}), []
    for time, marks in list(tables.marks.groupby("time"))[:: SECONDS // TICKS]:
        books = tables.books[(tables.books["time"] == time) & (tables.books["market"] != "ETH_USDC_PERP")]
        mark = marks.set_index("market")["mark_price"]
        ticks.append(Tick(time, mark, books.drop(columns="time"), indexes=mark * 0.999))
    return Engine(Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders), venue), ticks


def digest() -> str:
    """Run the crash: number of rows, events that occurred, and a hash of every journal column and of the end state."""
    engine, ticks = crash()
    rows = [engine.step(tick).rows for tick in ticks]
    found = hashlib.sha256()
    for name in ROW.names:
        for block in rows:
            found.update(block[name].tobytes())
    found.update(repr(whole_state(engine)).encode())
    events = sorted({EVENTS[code] for block in rows for code in block["event"]})
    return f"{sum(map(len, rows))} {','.join(events)} {found.hexdigest()}"


@pytest.fixture(scope="module")
def compiled() -> str:
    return digest()


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_interpreter_and_compiler_give_the_same_bits(compiled, setting):
    run = subprocess.run(
        [sys.executable, "-m", "tests.test_determinism"],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {setting: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == compiled
    assert {"trigger", "cancel", "book", "expire", "backstop", "adl", "convert"} <= set(compiled.split()[1].split(","))


@pytest.mark.parametrize("cut", [0, 1, 5, TICKS])
def test_a_resumed_run_is_the_run(tmp_path, cut):
    engine, ticks = crash()
    for tick in ticks:
        engine.step(tick)
    engine.save(tmp_path / "whole")
    first, _ = crash()
    for tick in ticks[:cut]:
        first.step(tick)
    first.save(tmp_path / "parts", complete=False)
    second = Engine.resume(tmp_path / "parts")
    assert whole_state(second) == whole_state(first)
    for tick in ticks[cut:]:
        second.step(tick)
    second.save(tmp_path / "parts")
    assert whole_state(second) == whole_state(engine)
    assert read_journal(tmp_path / "parts").tobytes() == read_journal(tmp_path / "whole").tobytes()
    for name in ("start", "state"):
        for whole in sorted((tmp_path / "whole" / name).rglob("*.parquet")):
            part = tmp_path / "parts" / str(whole.relative_to(tmp_path / "whole")).replace("00000", "00001")
            pd.testing.assert_frame_equal(pd.read_parquet(part), pd.read_parquet(whole))


if __name__ == "__main__":
    print(digest())
