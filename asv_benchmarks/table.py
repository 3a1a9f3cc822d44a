"""Print what asv measured last on this machine as one Markdown table: every figure that has a name for it.

``make bench`` runs the suites, which store their results with asv, and then this. Nothing is measured here.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from asv.config import Config
from asv.results import Results
from asv.util import load_json

HERE = Path(__file__).parent
LIBRARIES = ("numba", "numpy", "pandas", "polars", "duckdb", "scipy", "jax")
ORDER = ("sweep", "screen", "small", "step", "slices", "adl", "load", "memory", "start")


def main() -> int:
    """Print the table of the newest results."""
    results = HERE / Config.load(str(HERE / "asv.conf.json")).results_dir
    files = [file for file in results.glob("*/*.json") if file.name != "machine.json"]
    if not files:
        print("no results yet: make bench", file=sys.stderr)
        return 1
    file = max(files, key=lambda file: file.stat().st_mtime)
    newest = Results.load(str(file), machine_name=file.parent.name)
    benchmarks = load_json(str(results / "benchmarks.json"), api_version=2)
    rows = []
    for name in sorted(newest.get_all_result_keys(), key=place):
        benchmark = benchmarks.get(name, {})
        if not benchmark.get("pretty_name"):
            continue
        params = newest.get_result_params(name)
        values = newest.get_result_value(name, params)
        for at, value in zip(combinations(params), values, strict=True):
            named = dict(zip(benchmark["param_names"], (text.strip("'") for text in at), strict=True))
            rows.append(f"| {benchmark['pretty_name'].format(**named)} | {figure(value, benchmark['unit'])} |")
    print("\n".join(machine()), "", "| what | figure |", "|---|---|", *rows, sep="\n")
    return 0 if rows else 1


def place(name: str) -> tuple[int, str]:
    """By suite, in the order of docs/performance.md."""
    suite = name.split(".")[0]
    return ORDER.index(suite) if suite in ORDER else len(ORDER), name


def combinations(params: list[list[str]]) -> list[tuple[str, ...]]:
    """Every combination of the parameters, in asv's order."""
    found: list[tuple[str, ...]] = [()]
    for values in params:
        found = [(*before, value) for before in found for value in values]
    return found


def figure(value: float | None, unit: str) -> str:
    """Three digits and the unit; a benchmark that was skipped or failed says so."""
    if value is None:
        return "failed"
    if value != value:  # asv's NaN
        return "skipped on this machine"
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return {"ratio": f"{shown} x", "seconds": f"{shown} s"}.get(unit, f"{shown} {unit}")


def machine() -> list[str]:
    """Command, processor, versions and commit."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{models[0]}, {len(models)} cores" if models else platform.processor()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE)
    known = [f"Python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            known.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            known.append(f"no {library}")
    return [
        f"`make bench` at {commit.stdout.strip()}: {processor}, {platform.system()} {platform.machine()}; "
        f"{', '.join(known)}. `a / b` is the time of a over that of b, run in turn in one process.",
    ]


if __name__ == "__main__":
    sys.exit(main())
