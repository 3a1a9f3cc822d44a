"""Without ../shared, tests that read it are left out and named; with CI they fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_alone():
    pass

@pytest.fixture
def table(shared):
    return shared / "table"

def test_reads(table):
    assert table.read_text()

@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("case", [])
def test_case(case):
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Pytest on a checkout of two files, with this suite's conftest."""
    folder = tmp_path / "checkout" / "tests"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "conftest.py", folder)
    (folder / "test_it.py").write_text(TESTS)

    def run(*options, **variables):
        env = {name: value for name, value in os.environ.items() if name != "CI"} | variables
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "tests"]
        done = subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_left_out_and_named(run, tmp_path, options):
    code, output = run(*options)
    assert code == 0, output
    assert f"2 tests did not run: they read {tmp_path / 'shared'}, which is not there." in output
    assert "     2 tests/test_it.py" in output
    assert "1 passed" in output
    assert "skipped" not in output


def test_ci_fails(run, tmp_path):
    code, output = run(CI="true")
    assert code == 1, output
    assert f"this test reads real inputs from {tmp_path / 'shared'}, which is not there" in output
    assert "did not run" not in output


def test_everything_runs_with_the_folder(run, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "table").write_text("1")
    code, output = run()
    assert code == 0, output
    assert "2 passed" in output
    assert "did not run" not in output
