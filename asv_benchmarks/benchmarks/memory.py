"""Peak memory of a process that loads a million accounts from Parquet and steps them, over what its tables hold."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from . import ACCOUNTS, wide_tables, wide_venue

PROCESS = """
import json, sys
from pathlib import Path
import pandas as pd
import riskcore as rc
sys.path.insert(0, sys.argv[2])
from benchmarks import wide_venue

folder = Path(sys.argv[1])
venue = wide_venue()
positions, balances = (pd.read_parquet(folder / f"{name}.parquet") for name in ("positions", "balances"))
held = sum(int(table.memory_usage(deep=True).sum()) for table in (positions, balances))
marks = json.loads((folder / "marks.json").read_text())
engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
result = engine.step(rc.Tick(0, marks))
assert not result.selected.size
status = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would be the parent's, if that is larger
peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps([held, peak]))
"""


class Peak:
    """Interpreter, libraries and compiled kernels are in it; the tick is one in which nobody is liquidated."""

    timeout, unit = 600, "ratio"

    def track_peak_over_input_tables(self) -> float:
        if sys.platform != "linux":
            raise NotImplementedError("Linux only")
        positions, balances, marks = wide_tables(wide_venue(), ACCOUNTS)
        balances.loc[balances["asset"] == "USDC", "quantity"] += 1e7
        with tempfile.TemporaryDirectory(prefix="riskcore-bench-") as folder:
            positions.to_parquet(Path(folder) / "positions.parquet")
            balances.to_parquet(Path(folder) / "balances.parquet")
            (Path(folder) / "marks.json").write_text(json.dumps(marks))
            command = [sys.executable, "-c", PROCESS, folder, str(Path(__file__).parents[1])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        held, peak = json.loads(done.stdout)
        return peak / held

    track_peak_over_input_tables.pretty_name = "peak memory of loading and stepping / bytes of the input tables"
