"""What a new process pays: the import, and the first call of each kind, with and without compiled kernels."""

from __future__ import annotations

from riskcore.cli.warm import warm

DATA = """
import riskcore as rc
from riskcore import sample
from riskcore.io import read_ticks
venue, tables = sample.crash(1_000, 30)
accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
marks = {str(k): float(v) for k, v in tables.marks.groupby("market")["mark_price"].first().items()}
ticks = list(read_ticks(venue, accounts, tables.marks, tables.books))
"""


def timeraw_import() -> str:
    return "import riskcore"


def timeraw_load() -> str:
    return "import riskcore\nfor name in riskcore.__all__: getattr(riskcore, name)"


def timeraw_first_sweep() -> tuple[str, str]:
    return "rc.sweep(accounts, venue, marks)", DATA


def timeraw_first_select() -> tuple[str, str]:
    return "rc.select(accounts, venue, marks)", DATA


def timeraw_first_liquidations() -> tuple[str, str]:
    return "engine = rc.Engine(accounts, venue)\nfor tick in ticks: engine.step(tick)", DATA


def timeraw_compile_liquidations() -> tuple[str, str]:
    call, data = timeraw_first_liquidations()
    return call, "import os\nos.environ['RISKCORE_CACHE'] = '0'" + data


for raw in (timeraw_first_sweep, timeraw_first_select, timeraw_first_liquidations):
    raw.setup = warm
for raw in (timeraw_import, timeraw_load, timeraw_first_sweep, timeraw_first_select, timeraw_first_liquidations):
    raw.number, raw.repeat = 1, 3
timeraw_compile_liquidations.number = timeraw_compile_liquidations.repeat = 1
timeraw_import.pretty_name = "import riskcore"
timeraw_load.pretty_name = "import riskcore, and the first use of every name"
timeraw_first_sweep.pretty_name = "first sweep of a process"
timeraw_first_select.pretty_name = "first select of a process"
timeraw_first_liquidations.pretty_name = "first crash of a process, 30 ticks"
timeraw_compile_liquidations.pretty_name = "the same without the cache (compiles)"
