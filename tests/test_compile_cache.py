"""Compiled kernels on disk: never stale, never damaged, never anybody else's; without a cache everything still works.

Most tests run a copy of the kernels with two small ones of their own, one of which calls the other across files.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba.core.event import trigger_event
from typer.testing import CliRunner

from riskcore.cli import app
from riskcore.cli.compiling import compiling_noticed

ROOT = Path(__file__).resolve().parents[1]

CALLEE = """
from ._jit import inner_kernel

FACTOR = 2.0


@inner_kernel
def callee(x):
    return FACTOR * x + 1.0
"""
ENTRY = """
from ._jit import kernel
from .callee import callee


@kernel
def entry(x):
    return callee(x) * 10.0
"""
BEFORE = """
import os, pathlib, resource, time
import numba
from riskcore.kernels import callee
from riskcore.kernels.entry import entry
"""
CALL = "print(entry(3.0), 'read' if sum(entry.stats.cache_hits.values()) else 'compiled')\n"
COMPILED, READ = "70.0 compiled", "70.0 read"
"""2 * 3 + 1, times 10."""


@pytest.fixture
def tree(tmp_path):
    package = tmp_path / "tree" / "riskcore"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "callee.py").write_text(CALLEE)
    (package / "kernels" / "entry.py").write_text(ENTRY)
    return tmp_path


def start(tree, code=CALL, **others):
    """Run code in a new process that has the kernels of the tree and a cache beside it."""
    left_out = {"RISKCORE_CACHE", "NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "PYTHONDONTWRITEBYTECODE"}
    own = {"PYTHONPATH": str(tree / "tree"), "RISKCORE_CACHE_DIR": str(tree / "cache")}
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", BEFORE + code],
        env={name: value for name, value in os.environ.items() if name not in left_out} | own | others,
        cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    """Last line that the process printed, and its warnings."""
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed.rpartition("\n")[0].rpartition("\n")[2], [line for line in errors.splitlines() if "Warning" in line]


def run(tree, code=CALL, **others):
    return finish(start(tree, code, **others))


def kept(tree):
    return sorted(path for path in (tree / "cache").glob("*/*") if path.is_file())


def test_next_process_reads_what_one_compiled(tree):
    assert run(tree) == (COMPILED, [])
    (path,) = kept(tree)
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert run(tree) == (READ, [])
    assert kept(tree) == [path]


def test_edited_callee_is_compiled_and_the_old_text_found_again(tree):
    source = tree / "tree/riskcore/kernels/callee.py"
    run(tree)
    source.write_text(CALLEE.replace("+ 1.0", "- 1.00"))  # another size: Python looks at it and at whole seconds
    assert run(tree) == ("50.0 compiled", [])
    assert run(tree) == ("50.0 read", [])
    source.write_text(CALLEE)
    assert run(tree) == (READ, [])


def test_bytecode_that_python_itself_has_stale_is_kept_for_nobody_else(tree):
    """Two edits of one size within a second: Python runs the first one's bytecode until the file is touched."""
    source = tree / "tree/riskcore/kernels/callee.py"
    os.utime(source, (1e9, 1e9))
    run(tree, "")
    source.write_text(CALLEE.replace("+ 1.0", "- 1.0"))
    os.utime(source, (1e9, 1e9))
    assert run(tree) == (COMPILED, [])
    source.touch()
    assert run(tree) == ("50.0 compiled", [])


def test_process_whose_source_was_edited_meanwhile_keeps_nothing(tree):
    edit = f"pathlib.Path(callee.__file__).write_text({CALLEE.replace('+ 1.0', '- 1.00')!r})\n"
    assert run(tree, edit + CALL) == (COMPILED, [])
    assert not kept(tree)
    assert run(tree) == ("50.0 compiled", [])


def test_patched_constant_is_nobody_elses(tree):
    assert run(tree, "callee.FACTOR = 3.0\n" + CALL) == ("100.0 compiled", [])
    assert run(tree) == (COMPILED, [])
    assert run(tree, "callee.FACTOR = 3.0\n" + CALL) == ("100.0 read", [])
    late = "entry(3)\ncallee.FACTOR = 4.0\ncallee.callee.recompile()\n" + CALL
    assert run(tree, late) == (READ, [])


def test_many_processes_at_once_on_an_empty_cache(tree):
    wait = f"time.sleep(max({time.time() + 4} - time.time(), 0))\n"
    processes = [start(tree, wait + CALL) for _ in range(8)]
    found = [finish(process) for process in processes]
    assert [warnings for _, warnings in found] == [[]] * 8
    printed = [line for line, _ in found]
    assert set(printed) <= {COMPILED, READ}
    assert COMPILED in printed
    assert len(kept(tree)) == 1
    assert run(tree) == (READ, [])


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_damaged_file_is_compiled_anew_and_mended(tree):
    run(tree)
    (path,) = kept(tree)
    for damage in (cut, flip, lambda content: b"", lambda content: b"\x80\x05garbage" * 1000):
        path.write_bytes(damage(path.read_bytes()))
        printed, (warning,) = run(tree)
        assert printed == COMPILED
        assert f"RuntimeWarning: riskcore compiles a kernel again, because {path} cannot be read" in warning
    assert run(tree) == (READ, [])


def test_file_of_another_signature_is_not_taken(tree):
    run(tree, "entry(3), entry(3.0)\n")
    one, other = kept(tree)
    for path in (one, other):
        path.write_bytes(one.read_bytes())
    found = [run(tree, code) for code in (CALL, CALL.replace("3.0", "3"))]
    assert sorted((printed, len(warnings)) for printed, warnings in found) == [(COMPILED, 1), (READ, 0)]


def test_full_disk(tree):
    """A limit on the size of files fails a write as a full disk does."""
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
    printed, (warning,) = run(tree, full + "entry(3)\n" + CALL)
    assert printed == COMPILED
    assert "RuntimeWarning: riskcore does not keep its compiled kernels: [Errno 27]" in warning
    assert "RISKCORE_CACHE_DIR names another folder, RISKCORE_CACHE=0 switches the cache off" in warning
    assert not kept(tree)


def test_place_that_takes_no_folder(tree):
    (tree / "file").touch()
    printed, (warning,) = run(tree, "entry(3)\n" + CALL, RISKCORE_CACHE_DIR=str(tree / "file" / "cache"))
    assert printed == COMPILED
    assert "RuntimeWarning: riskcore does not keep its compiled kernels: [Errno 20]" in warning


def test_folder_that_others_may_write_into_is_not_used(tree):
    run(tree)
    (path,) = kept(tree)
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o777)
        printed, (warning,) = run(tree)
        assert printed == COMPILED
        assert f"others may write into {folder} (chmod go-w {folder})" in warning
        folder.chmod(0o755)
    assert run(tree) == (READ, [])


def test_folder_of_another_user_is_not_used(tree):
    run(tree)
    printed, (warning,) = run(tree, "own = os.geteuid()\nos.geteuid = lambda: own + 1\n" + CALL)
    assert printed == COMPILED
    assert "belongs to another user" in warning


def test_cache_switched_off(tree):
    assert run(tree, RISKCORE_CACHE="0") == (COMPILED, [])
    assert not (tree / "cache").exists()


def test_jit_off(tree):
    code = CALL.partition(",")[0] + ")"
    assert run(tree, code, NUMBA_DISABLE_JIT="1") == ("70.0", [])
    assert not (tree / "cache").exists()


def test_bounds_checks_are_another_version(tree):
    run(tree)
    assert run(tree, NUMBA_BOUNDSCHECK="1") == (COMPILED, [])
    assert run(tree) == (READ, [])
    assert run(tree, NUMBA_BOUNDSCHECK="1") == (READ, [])


def test_function_of_a_user_calls_a_kernel_that_was_read(tree):
    own = "@numba.njit\ndef own(x):\n    return entry(x) + 1\n\n\nassert own(3.0) == 71.0\n"
    run(tree)
    assert run(tree, own + CALL) == (READ, [])
    assert len(kept(tree)) == 1


def test_function_outside_the_kernels_is_kept_by_its_own_code(tree):
    path, text = tree / "tree/riskcore/outer.py", ENTRY.replace("from ._jit", "from riskcore.kernels._jit")
    text = text.replace("from .callee", "from riskcore.kernels.callee").replace("entry", "outer")
    call = CALL.replace("entry", "outer")
    path.write_text(text)
    for found in (COMPILED, READ):
        assert run(tree, "from riskcore.outer import outer\n" + call) == (found, [])
    path.write_text(text.replace("10.0", "100.0"))
    for found in ("700.0 compiled", "700.0 read"):
        assert run(tree, "from riskcore.outer import outer\n" + call) == (found, [])


def test_folders_of_old_versions_are_removed(tree):
    cache = tree / "cache"
    cache.mkdir(mode=0o700)
    now = time.time()
    for day in range(40):
        folder = cache / f"{day:064x}"
        folder.mkdir()
        (folder / "file").touch()
        os.utime(folder, (now - day * 86_400,) * 2)
    (cache / "photographs").mkdir()
    os.utime(cache / "photographs", (0, 0))
    run(tree)
    new = {path.parent.name for path in kept(tree)} - {f"{day:064x}" for day in range(40)}
    assert len(new) == 1
    assert {path.name for path in cache.iterdir()} == {f"{day:064x}" for day in range(15)} | {"photographs"} | new


def test_use_keeps_a_version_young(tree):
    run(tree)
    (path,) = kept(tree)
    os.utime(path.parent, (0, 0))
    run(tree)
    assert path.parent.stat().st_mtime > time.time() - 3600


FIRST_CALLS = """
import json
from dataclasses import replace
import pandas as pd
import riskcore as rc
from numba.core.event import install_recorder
from riskcore import sample
from riskcore.io import read_ticks
with install_recorder("numba:compile") as found:
    venue, tables = sample.crash(500, 40, seed=3, interval=5)
    accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    marks = {str(k): float(v) for k, v in tables.marks.groupby("market")["mark_price"].first().items()}
    for some in (accounts, accounts.copy()):
        for prices in (marks, pd.DataFrame([marks])):
            rc.sweep(some, venue, prices)
            rc.select(some, venue, prices)
        rc.Screen(some, venue).select(marks)
        rc.liquidation_prices(some, venue, marks)
        rc.largest_orders(some, venue, marks, next(iter(marks)))
        rc.what_if(some, venue, marks, shocks=-0.1)
    *others, last = venue.source["markets"]
    settled = rc.load_venue(venue.source | {"markets": [*others, last | {"settle": "BTC"}]})
    money = rc.Accounts.from_frames(settled, tables.positions, tables.balances)
    rc.sweep(money, settled, marks)
    rc.select(money, settled, marks)
    rc.Screen(money, settled).select(marks)
    frames = [frame.drop(columns="time") for _, frame in tables.books.groupby("time")]
    ticks = list(read_ticks(venue, accounts, tables.marks, tables.books))
    events = []
    for given in (ticks, [replace(tick, books=books) for tick, books in zip(ticks, frames)]):
        engine = rc.Engine(accounts, venue)
        events.append(sum(len(engine.step(tick).events) for tick in given))
names = [event.data["dispatcher"].py_func.__qualname__ for _, event in found.buffer if event.is_start]
print(json.dumps([events, names]))
"""


def riskcore(*arguments, code=0):
    """Run Python in the checkout, with the cache of whoever runs the tests."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_warm_compiles_whatever_a_process_calls():
    riskcore("-m", "riskcore", "warm")
    events, compiled = json.loads(riskcore("-c", FIRST_CALLS).stdout)
    assert events[0] == events[1] > 0
    assert not compiled, compiled


def test_warm_without_a_cache_is_refused(monkeypatch):
    monkeypatch.setattr("riskcore.cli.warm.warm", lambda: None)
    result = CliRunner().invoke(app, ["warm"])
    assert result.exit_code == 2
    assert result.stderr.startswith("riskcore: warm: kept no compiled kernels")


def test_compiling_is_noticed_once_it_takes_a_second_together():
    def compile_for(seconds):
        with trigger_event("numba:compile"), trigger_event("numba:compile"):
            time.sleep(seconds)

    said = []
    with compiling_noticed(said.append):
        compile_for(0.2)
        time.sleep(1)
        assert not said
        compile_for(1.5)
        (line,) = said
        compile_for(1.1)
    assert said == [line]
    assert line.startswith("compiling kernels")


def test_command_notices_compiling():
    code = (
        "import time, riskcore.venue; from numba.core.event import trigger_event; from riskcore import __main__\n"
        "def compile(name):\n"
        "    with trigger_event('numba:compile'): time.sleep(1.5)\n"
        "    raise riskcore.RiskDataError('venue', None, 'is wrong')\n"
        "riskcore.venue.venue_path = compile\n"
        "__main__.main()"
    )
    options = [part for name in ("venue", "positions", "balances", "marks", "out") for part in (f"--{name}", "t.csv")]
    lines = riskcore("-c", code, "sweep", *options, code=2).stderr.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["riskcore: compiling kernels", "riskcore: venue: is wrong"]


def test_command_warns_in_one_line():
    code = (
        "import warnings; from riskcore import cli, __main__\n"
        "cli.app = lambda: warnings.warn('what is wrong', RuntimeWarning)\n__main__.main()"
    )
    assert riskcore("-c", code).stderr == "riskcore: what is wrong\n"
