"""Loading: from Parquet files to accounts, beside what pyarrow needs to read the same files, and the memory it takes.

Five million positions and two million balances by default; ``RISKCORE_BENCH_ACCOUNTS=2000000`` doubles them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import riskcore as rc
from riskcore.io import read_accounts

from . import ACCOUNTS, _Figures, interleaved_ratio, wide_tables, wide_venue

WAYS = ["number ids, sorted", "number ids, shuffled", "text ids, sorted", "text ids, shuffled"]
OVER, PEAK = "load / pyarrow read, {}", "peak of loading / bytes of the tables, {}"

PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks import wide_venue
from riskcore.io import read_accounts

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

venue = wide_venue()
read_accounts(venue, *sys.argv[2:4])  # compile, import
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
read_accounts(venue, *sys.argv[4:6])
print(memory("VmHWM") - before)
"""


class Ratios(_Figures):
    """Both use as many threads as pyarrow takes; the peak is what a process that has loaded a few accounts adds."""

    params = [figure.format(way) for figure in (OVER, PEAK) for way in WAYS]

    def setup_cache(self) -> dict[str, float | str]:
        venue = wide_venue()
        found: dict[str, float | str] = {}
        with tempfile.TemporaryDirectory() as folder:
            few = _files(Path(folder), 1_000, WAYS[-1])
            for way in WAYS:
                files = _files(Path(folder), ACCOUNTS, way)

                def load(files: list[Path] = files) -> rc.Accounts:
                    return read_accounts(venue, *files)

                def read(files: list[Path] = files) -> list[object]:
                    return [pq.read_table(file) for file in files]

                load()  # compile
                found[OVER.format(way)] = interleaved_ratio(load, read)
                if sys.platform == "linux":
                    command = [sys.executable, "-c", PROCESS, str(Path(__file__).parents[1]), *map(str, few + files)]
                    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                    found[PEAK.format(way)] = peak / sum(pq.read_table(file).nbytes for file in files)
                else:
                    found[PEAK.format(way)] = "Linux only"
        return found

    setup_cache.timeout = 1200  # type: ignore[attr-defined]


def _files(folder: Path, accounts: int, way: str) -> list[Path]:
    """Positions and balances as Parquet."""
    rng = np.random.default_rng(1)
    files = []
    for name, frame in zip(("positions", "balances"), wide_tables(wide_venue(), accounts)[:2], strict=True):
        if way.startswith("text"):
            frame["account"] = "u" + frame["account"].astype("str").str.zfill(9)
        if way.endswith("shuffled"):
            frame = frame.iloc[rng.permutation(len(frame))]
        files.append(folder / f"{name} {accounts} {way}.parquet")
        frame.to_parquet(files[-1], index=False)
    return files
