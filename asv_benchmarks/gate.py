"""Refuse a change that makes a hot path slower: this tree against a commit before it, in turn on one machine.

Two processes, one per version, run the same call one after the other (old, new, old, new, ...) on the same generated
workload, and the ratios of each pair are compared: what slows both does not count. A call is refused if the median of
its ratios is above 1.25, their lower quartile above 1.1, the ratio of the fastest times above 1.1 as well, and all that
again when measured again. Seconds are those of the calling thread alone.

What a new process pays, `import riskcore` and a first sweep with kept kernels, is compared in the same way, by two new
processes each time; seconds are then those of all their threads, from the start of Python on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
MEDIAN, QUARTILE, FASTEST = 1.25, 1.1, 1.1
LONG_ENOUGH = 0.02  # seconds; calls that take less are repeated
STARTS = 11  # rounds of two new processes, at most


def main() -> int:
    """Compare, print a table, return 1 if a call is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="", help="commit to compare with: HEAD, or the one before it in a clean tree")
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--again", type=int, default=2, help="how often a call that is refused may be measured again")
    parser.add_argument("--serve", metavar="TREE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve), asked.accounts)
        return 0
    base = commit(asked.base or ("HEAD" if git("status", "--porcelain", "--untracked-files=no") else "HEAD~1"))
    if base is None:
        print("gate: there is no commit to compare with here (the first one, or a shallow clone): passed")
        return 0
    start = importlib.import_module("benchmarks.start")
    first_sweep, data = start.timeraw_first_sweep()
    starts = {"import": start.timeraw_import(), "first sweep": f"{data}\n{first_sweep}"}
    with ExitStack() as open_:
        old_tree = open_.enter_context(checked_out(base))
        old, new = (open_.enter_context(Version(tree, asked.accounts)) for tree in (old_tree, HERE.parent))
        print(
            f"gate: this tree over {base[:10]}, {asked.accounts:,} accounts, {asked.rounds} rounds in turn", flush=True
        )
        refused = [name for name in CALLS if not passes(name, old, new, asked.rounds, asked.again)]
        for name, code in starts.items():
            fresh = (open_.enter_context(NewProcess(tree, code)) for tree in (old_tree, HERE.parent))
            if not passes(name, *fresh, min(asked.rounds, STARTS), asked.again):
                refused.append(name)
    print(f"gate: slower than {base[:10]}: {', '.join(refused)}" if refused else "gate: passed")
    return 1 if refused else 0


def passes(name: str, old: Version | NewProcess, new: Version | NewProcess, rounds: int, again: int) -> bool:
    """Measure one call of both versions, once more if it seems slower."""
    new_error, old_error = new.prepare(name), old.prepare(name)
    if new_error:
        print(f"  {name:12} fails: {new_error}")
        return False
    if old_error:
        print(f"  {name:12} not in the base ({old_error})")
        return True
    for _ in range(1 + again):
        ratios, best = [], {old: float("inf"), new: float("inf")}
        for n in range(rounds):
            first, second = (old, new) if n % 2 else (new, old)  # none is always the one after the pause
            times = {version: version.run() for version in (first, second)}
            ratios.append(times[new] / times[old])
            best = {version: min(best[version], times[version]) for version in best}
        ratios.sort()
        low, median, high = ratios[rounds // 4], ratios[rounds // 2], ratios[rounds - 1 - rounds // 4]
        fastest = best[new] / best[old]
        fine = median <= MEDIAN or low <= QUARTILE or fastest <= FASTEST
        found = f"{median:.3f}, quartiles {low:.3f} to {high:.3f}, fastest {fastest:.3f}"
        print(f"  {name:12} new / old {found}{'' if fine else '  SLOWER'}", flush=True)
        if fine:
            return True
    return False


class Version:
    """A process that has one version of riskcore loaded and runs its calls when told to."""

    def __init__(self, tree: Path, accounts: int) -> None:
        command = [sys.executable, str(HERE / "gate.py"), "--serve", str(tree), "--accounts", str(accounts)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=tree
        )

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def prepare(self, name: str) -> str:
        """Set a call up and compile it; return what went wrong."""
        return str(self._ask(name))

    def run(self) -> float:
        """Seconds of the call that was set up."""
        return float(self._ask("run"))

    def _ask(self, line: str) -> str | float:
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


class NewProcess:
    """One version of riskcore, whose call each time starts a process; bytecode and compiled kernels are kept."""

    def __init__(self, tree: Path, code: str) -> None:
        self.tree = tree
        self.code = f"{code}\nimport riskcore, time\nprint(riskcore.__file__, time.process_time(), sep='\\n')"
        self.kept = tempfile.TemporaryDirectory(prefix="riskcore-gate-")

    def __enter__(self) -> NewProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kept.cleanup()

    def prepare(self, _: str) -> str:
        """Fill the caches; return what went wrong."""
        done = self._started()
        if done.returncode:
            return done.stderr.strip().rpartition("\n")[2] or f"exit {done.returncode}"
        file = done.stdout.split("\n")[-3]
        assert Path(file).is_relative_to(self.tree.resolve()), file
        return ""

    def run(self) -> float:
        """Seconds of one process."""
        done = self._started()
        done.check_returncode()
        return float(done.stdout.split("\n")[-2])

    def _started(self) -> subprocess.CompletedProcess[str]:
        folders = {"PYTHONPYCACHEPREFIX": "bytecode", "RISKCORE_CACHE_DIR": "kernels"}
        env = environment(**{name: f"{self.kept.name}/{folder}" for name, folder in folders.items()})
        return subprocess.run(
            [sys.executable, "-c", self.code], capture_output=True, text=True, env=env, cwd=self.tree, check=False
        )


def environment(**others: str) -> dict[str, str]:
    """Variables of a process of one version: nothing that hides its tree or keeps the other's kernels."""
    names = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "NUMBA_CACHE_DIR", "RISKCORE_CACHE")
    return {name: value for name, value in os.environ.items() if name not in names} | others


def serve(tree: Path, accounts: int) -> None:
    """Answer the questions of `Version` on standard input."""
    os.environ["RISKCORE_BENCH_ACCOUNTS"] = str(accounts)
    sys.path[:0] = [str(tree), str(HERE)]
    riskcore = importlib.import_module("riskcore")
    assert Path(riskcore.__file__).is_relative_to(tree), riskcore.__file__
    answers, sys.stdout = sys.stdout, sys.stderr
    call: Callable[[], object] = int
    repeat = 1
    for line in sys.stdin:
        answer: str | float = ""
        if line.strip() == "run":
            answer = seconds(call, repeat)
        else:
            try:
                call = CALLS[line.strip()]()
                call()  # compile
                repeat = max(1, round(LONG_ENOUGH / max(seconds(call, 1), 1e-6)))
            except (ImportError, AttributeError, TypeError) as error:
                answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers, flush=True)


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Seconds of this thread per call."""
    start = time.thread_time()
    for _ in range(repeat):
        call()
    return (time.thread_time() - start) / repeat


def full_sweep() -> Callable[[], object]:
    accounts, prices = workload()
    margin = importlib.import_module("riskcore.margin")
    return lambda: margin.margin_table(accounts, prices, threads=1)


def select() -> Callable[[], object]:
    accounts, prices = workload()
    margin = importlib.import_module("riskcore.margin")
    return lambda: margin.selection(accounts, prices, threads=1)


def screen() -> Callable[[], object]:
    """A hundred ticks on boxes that hold."""
    accounts, prices = workload()
    suite = importlib.import_module("benchmarks.screen")
    ticks = [tick for tick, _ in zip(suite.path(prices, 1e-4, 0.0), range(100), strict=False)]
    screen = importlib.import_module("riskcore").Screen(accounts, prices.venue)
    return lambda: [screen.rows(tick) for tick in ticks]


def step() -> Callable[[], object]:
    """A tick of the engine in which nobody is liquidated."""
    riskcore, sample = (importlib.import_module(name) for name in ("riskcore", "riskcore.sample"))
    venue, tables = sample.crash(int(os.environ["RISKCORE_BENCH_ACCOUNTS"]) // 10, 2)
    accounts = riskcore.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    ticks = importlib.import_module("riskcore.io").read_ticks(venue, accounts, tables.marks, tables.books)
    tick, engine = next(iter(ticks)), riskcore.Engine(accounts, venue)
    hour = iter(range(1, 10**6))

    def next_second() -> None:
        engine.step(riskcore.Tick(tick.nanoseconds() + 10**9 * next(hour), tick.marks, tick.books, tick.indexes))

    return next_second


def quiet() -> Callable[[], object]:
    """A hundred ticks of two accounts, a minute apart, in which nobody is liquidated."""
    riskcore = importlib.import_module("riskcore")
    venue, accounts = importlib.import_module("benchmarks.step").two_markets()
    engine, minute = riskcore.Engine(accounts, venue, record=False), iter(range(10**7))

    def next_minutes() -> None:
        for number in range(100):
            time = (1_760_000_100 + 60 * next(minute)) * 10**9
            engine.step(riskcore.Tick(time, dict.fromkeys(venue.markets.symbol, 100.0 + number / 1000)))

    return next_minutes


def slices() -> Callable[[], object]:
    return importlib.import_module("benchmarks.slices").Workload(200, 50_000).size_and_walk


def queue() -> Callable[[], object]:
    return importlib.import_module("benchmarks.adl").Queue(0.01).head


CALLS = {
    "sweep": full_sweep,
    "select": select,
    "screen": screen,
    "step": step,
    "quiet": quiet,
    "slices": slices,
    "queue": queue,
}


def workload() -> tuple:
    """Accounts and prices of the suites' workload."""
    venue, accounts, marks = importlib.import_module("benchmarks").wide_accounts(
        int(os.environ["RISKCORE_BENCH_ACCOUNTS"])
    )
    return accounts, importlib.import_module("riskcore.market").Prices.read(venue, accounts, marks)


def git(*arguments: str) -> str:
    """What a git command prints, nothing if it fails."""
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit(name: str) -> str | None:
    """Hash of a commit that this clone has."""
    return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") or None


@contextmanager
def checked_out(base: str) -> Iterator[Path]:
    """Files of a commit in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="riskcore-gate-") as folder:
        tree, archive = Path(folder).resolve() / "tree", Path(folder) / "tree.tar"
        subprocess.run(["git", "archive", "--output", archive, base], cwd=HERE.parent, check=True)
        with tarfile.open(archive) as files:
            files.extractall(tree, filter="data")
        yield tree


if __name__ == "__main__":
    sys.exit(main())
