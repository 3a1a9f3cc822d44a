import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: the first example of a kernel compiles it.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

SHARED = Path(__file__).resolve().parents[2] / "shared"
LEFT_OUT = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs and of other systems' test vectors, beside the checkout."""
    if not SHARED.is_dir():
        pytest.fail(f"this test reads real inputs from {SHARED}, which is not there", pytrace=False)
    return SHARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what reads ../shared where that folder is not; CI must have it."""
    if SHARED.is_dir() or os.environ.get("CI"):
        return
    left_out = [item for item in items if "shared" in getattr(item, "fixturenames", ())]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = dict(Counter(item.nodeid.partition("::")[0] for item in left_out))


# A process of pytest-xdist tells the one that prints the summary; every process leaves out the same tests.
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    if hasattr(node, "workeroutput"):  # not of a process that crashed
        node.config.stash[LEFT_OUT] = node.workeroutput["left_out"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, {}):
        terminalreporter.section("left out")
        count = sum(left_out.values())
        terminalreporter.line(f"{count} tests did not run: they read {SHARED}, which is not there.")
        terminalreporter.line("A test that runs once for every case of a file there counts once:")
        for file, tests in sorted(left_out.items()):
            terminalreporter.line(f"{tests:6} {file}")
        terminalreporter.line("CONTRIBUTING.md says under 'Real inputs' where that data comes from.")
