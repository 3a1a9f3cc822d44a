"""Seeded runs that are cut, resumed and audited, one after another: ``python -m tests.simulate`` (``make simulate``).

Of each seed a venue, its policy, accounts and ticks are drawn. One engine runs through them undisturbed, the screen
held to a full sweep at every tick. The same run is made by processes that are killed after a tick or in the middle of
a write, or meet a full disk, and are taken up by the next. Both folders must have the same bytes, and the audit must
find nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from signal import SIGKILL

import numpy as np
import pytest

from riskcore import Accounts, Engine, RiskDataError, Tick, Venue
from riskcore.audit import audit
from riskcore.record import EVENTS, read_journal, run_folder
from tests.cuts import cut_at, kill, raising, tree
from tests.wild_runs import wild_accounts, wild_ticks, wild_venue

ROOT = Path(__file__).resolve().parents[1]
# each figure keeps its default half of the time
POLICY = {
    "fund": (0, 50_000), "slices_per_tick": (2, 3), "slice_fraction": ("0.1", "0.3", "0.5"),
    "slice_probability": (1, "0.8"), "slice_cooldown": ("0.5", 2), "account_order": ("random", "pro_rata"),
    "position_order": ("largest", "pro_rata"), "harmful_slice": ("send", "backstop"), "account_cap": (1500, 3000),
    "account_cap_interval": (5,), "market_cap": (2500, 20_000), "depth_share": ("0.3", "0.7"),
    "slippage_limit": (5, "7.5"), "refill_half_life": (2, 4), "target_mmr": ("0.9",),
    "liquidation_fee": ("0.004", 0), "conversion_limit": (900,), "conversion_slippage": ("0.004",),
    "realize_interval": (9, 29), "backstop_below_zero": ("zero_price",), "zero_price_band": ("0.02",),
    "adl_policy": ("binance", "rap_linear", "capped_pro_rata"), "adl_price": ("0.5", "1/3"),
    "adl_counterparties": ("opposing", "profitable"), "adl_cap": ("0.5", "0.2"), "counterparty_mmr": ("0.5",),
    "shortfall": ("unsettled", "equity", "open_interest"), "stale_after": (5,),
}  # fmt: skip
CLOSED = ("Closed", "CancelOnly", "PostOnly")
DEPTHS = (700, 6e3, 20e3, 1e5, 5e5)  # mean notional of a level
CUT_BY_FULL_DISK = 75  # exit code of a process that met one


@dataclass
class Scene:
    """What a seed draws: a run, the ticks before which it is saved, and how its processes end."""

    venue: Venue
    accounts: Accounts
    ticks: list[Tick]
    saves: set[int]
    seed: int

    @classmethod
    def of(cls, seed: int) -> Scene:
        rng = np.random.default_rng([seed, 1])
        policy = {figure: values[rng.integers(len(values))] for figure, values in POLICY.items() if rng.random() < 0.5}
        hard = rng.random() < 0.3  # few buy, and the providers soon have no margin left
        count, poor = int(rng.integers(30, 110)), 4000 if hard else None
        closed = {m: str(rng.choice(CLOSED)) for m in ("ETH_USDC_PERP", "SOL_USDC") if rng.random() < 0.1}
        venue = wild_venue(count, policy, full=hard, closed=closed)
        depth, fall = (1500.0, 0.3) if hard else (float(rng.choice(DEPTHS)), rng.uniform(0.03, 0.15))
        ticks = list(wild_ticks(int(rng.integers(12, 40)), depth, rng, fall))
        saves = set(rng.choice(len(ticks), int(rng.integers(0, 5)), replace=False).tolist())
        return cls(venue, wild_accounts(venue, count, seed, poor), ticks, saves, seed)

    def run(self, path: Path, *, check_screen: bool = False, after_tick: Callable[[int], None] | None = None) -> None:
        """Make the run, or go on with what a folder has of it; a tick that is refused is left out."""
        with run_folder.writing(path):
            if (path / "run.json").exists():
                engine = Engine.resume(path, check_screen=check_screen)
            else:
                engine = Engine(self.accounts, self.venue, self.seed, check_screen=check_screen)
                engine.save(path, complete=False)
            known = run_folder.read_manifest(path)
            if known["complete"]:
                return
            saved = known["ticks"]
            for number, tick in enumerate(self.ticks):
                if engine.time is not None and tick.nanoseconds(engine.time) <= engine.time:
                    continue
                if number in self.saves and engine.ticks > saved:
                    engine.save(path, complete=False)
                    saved = engine.ticks
                with suppress(RiskDataError):  # a market that is held has no mark: then nothing has changed
                    engine.step(tick)
                if after_tick is not None:
                    after_tick(number)
            engine.save(path)


@dataclass(frozen=True)
class Ending:
    """How a process ends: killed after a tick, or at a file operation killed or told that the disk is full."""

    kind: str  # tick, write or disk
    number: int

    def __str__(self) -> str:
        what = {"tick": "killed after tick", "write": "killed in file operation", "disk": "disk full at file operation"}
        return f"{what[self.kind]} {self.number}"


def endings(scene: Scene, operations: int) -> list[Ending]:
    """Draw how the processes of a scene end; ``operations`` are those on files of a whole run."""
    rng = np.random.default_rng([scene.seed, 2])
    kinds = rng.choice(["tick", "write", "disk"], int(rng.integers(1, 3)))
    return [Ending(k, int(rng.integers(len(scene.ticks) if k == "tick" else operations))) for k in kinds]


def run_until(seed: int, path: Path, ending: Ending) -> None:
    """Make the run of a seed, and end as told; what a child process does."""
    with pytest.MonkeyPatch.context() as patched:
        without_waiting(patched)
        if ending.kind == "tick":
            Scene.of(seed).run(path, after_tick=lambda number: kill() if number == ending.number else None)
            return
        fail = kill if ending.kind == "write" else raising(OSError(ENOSPC, "No space left on device"))
        cut_at(patched, ending.number, fail)
        try:
            Scene.of(seed).run(path)
        except OSError as error:
            sys.exit(CUT_BY_FULL_DISK if error.errno == ENOSPC else repr(error))


def without_waiting(patched: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: a process that is killed loses nothing that it gave to the system."""
    patched.setattr("os.fsync", lambda descriptor: None)


class Failure(Exception):
    """A simulated run is not what it must be."""


def simulate(seed: int, folder: Path) -> tuple[str, Counter[str]]:
    """Make the run of a seed undisturbed and cut, compare and audit; return what happened and the events.

    Raises
    ------
    Failure
        The two differ, the audit has found a breach, or a process ended in another way.
    """
    scene, whole, cut = Scene.of(seed), folder / "whole", folder / "cut"
    with pytest.MonkeyPatch.context() as patched:
        without_waiting(patched)
        counted = cut_at(patched, -1, kill)
        scene.run(whole, check_screen=True)
    done = []
    for ending in endings(scene, counted.begun):
        command = [sys.executable, "-m", "tests.simulate", "--seed", str(seed)]
        command += ["--until", ending.kind, str(ending.number), str(cut)]
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        expected = CUT_BY_FULL_DISK if ending.kind == "disk" else -SIGKILL
        if child.returncode not in (0, expected):  # 0: the process before it came further than that
            raise Failure(f"a process ended with code {child.returncode}: {child.stderr}")
        done.append(str(ending) if child.returncode else "not cut again")
    with pytest.MonkeyPatch.context() as patched:
        without_waiting(patched)
        scene.run(cut)
    one, other = tree(whole), tree(cut)
    different = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if different:
        raise Failure(f"the run that was cut ({', '.join(done)}) has other bytes in {', '.join(different)}")
    report = audit(cut)
    if not report.ok:
        raise Failure(f"the audit found {len(report.breaches)} breaches:\n{report.breaches.head(9).to_string()}")
    events = Counter(EVENTS[code] for code in read_journal(cut)["event"].tolist())
    ticks, checks = run_folder.read_manifest(cut)["ticks"], int(report.checks["checked"].sum())
    return f"{ticks} ticks, {events.total()} events, {', '.join(done)}; same bytes, {checks} checks", events


def main(arguments: list[str] | None = None) -> int:
    """Simulate one seed after another; return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--runs", type=int, help="number of seeds (20, or without end with --minutes)")
    parser.add_argument("--minutes", type=float, help="begin no new seed after that time")
    parser.add_argument("--until", nargs=3, metavar=("KIND", "NUMBER", "FOLDER"), help=argparse.SUPPRESS)
    known = parser.parse_args(arguments)
    if known.until:
        kind, number, path = known.until
        run_until(known.seed, Path(path), Ending(kind, int(number)))
        return 0
    runs = known.runs if known.runs is not None else 20 if known.minutes is None else sys.maxsize
    end = time.monotonic() + 60 * (known.minutes if known.minutes is not None else np.inf)
    seed, failed, events = known.seed, 0, Counter()
    while seed < known.seed + runs and time.monotonic() < end:
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=f"simulate-{seed}-"))
        try:
            happened, new = simulate(seed, folder)
        except Exception as error:
            failed += 1
            what = str(error) if isinstance(error, Failure) else traceback.format_exc()
            print(f"seed {seed}: FAILED: {what}\nkept in {folder}")
            print(f"reproduce with python -m tests.simulate --seed {seed} --runs 1", flush=True)
        else:
            events += new
            shutil.rmtree(folder)
            print(f"seed {seed}: {happened} ({time.monotonic() - began:.1f} s)", flush=True)
        seed += 1
    kinds = ", ".join(f"{count:,} {name}" for name, count in events.most_common())
    print(f"{seed - known.seed} seeds, {failed} failed; {kinds or 'no events'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
