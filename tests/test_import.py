"""`import riskcore` loads no other package; a name loads its own at first use, and a command what it runs."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import riskcore as rc

SOURCE = Path(rc.__file__)


def run(code, **environment):
    command, environment = [sys.executable, "-c", code], os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_loads_no_dependency():
    code = "import sys, riskcore; riskcore.__version__; dir(riskcore); print(*sys.modules)"
    loaded = run(code)
    assert not {"numpy", "pandas", "numba", "pyarrow", "msgspec"} & set(loaded)
    assert [name for name in loaded if name.startswith("riskcore")] == ["riskcore"]


@pytest.mark.parametrize("arguments", ["", "--version", "--help", "sweep --help"])
def test_help_and_version_load_no_dependency(arguments):
    assert run_command(arguments) == ["riskcore", "riskcore.__main__", *CLI]


def test_completion_loads_no_dependency():
    words = {"_RISKCORE_COMPLETE": "complete_bash", "COMP_WORDS": "riskcore liq", "COMP_CWORD": "1"}
    assert run_command("", **words) == ["liquidation-prices", "riskcore", "riskcore.__main__", *CLI]


CLI = ["riskcore.cli", "riskcore.cli.commands", "riskcore.cli.render", "riskcore.cli.scenario_commands"]


def run_command(arguments, **environment):
    """Modules that the command loads; of a completion, the words that it prints before them."""
    code = f"""
import sys
sys.argv = ["riskcore", *{arguments!r}.split()]
from riskcore.__main__ import main
try:
    main()
except SystemExit:
    print()
loaded = [name for name in sys.modules if name.partition(".")[0] in {{"riskcore", "numpy", "pandas", "numba"}}]
print("loaded:", *sorted(loaded))
"""
    printed = run(code, **environment)
    start = printed.index("loaded:")
    return [*(printed[:start] if environment else []), *printed[start + 1 :]]


def test_star_import_gives_every_name():
    assert set(run("from riskcore import *; print(*globals())")) >= set(rc.__all__)


def test_types_and_table_name_the_same():
    """The imports that type checkers read, and the table that Python reads."""
    (block,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imports = {node.module: [name.name for name in node.names] for node in block.body if node.module}
    assert imports == rc._NAMES
    assert [name.name for node in block.body if not node.module for name in node.names] == rc._PACKAGES
    assert sorted(["__version__", *(name for names in imports.values() for name in names)]) == sorted(rc.__all__)


@pytest.mark.parametrize("name", rc.__all__)
def test_name_is_that_of_its_package(name):
    value = getattr(rc, name)
    assert value is getattr(rc, name)
    assert name in dir(rc)
    if callable(value):
        assert value.__name__ == name
        assert pickle.loads(pickle.dumps(value)) is value


def test_package_loads_as_an_attribute():
    code = "import sys, riskcore as rc; before = set(sys.modules); rc.sample.crash; print(*set(sys.modules) - before)"
    assert "riskcore.sample" in run(code)
    assert "sample" in dir(rc)


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'riskcore' has no attribute 'swep'$"):
        _ = rc.swep
    with pytest.raises(ImportError, match="cannot import name 'swep' from 'riskcore'"):
        exec("from riskcore import swep")
