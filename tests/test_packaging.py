"""What is built, and what importing it gives: riskcore with its kernels inside, and no top-level ``kernels``."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNELS = sorted(path.name for path in (ROOT / "kernels").glob("*.py"))


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel made from it, of a copy: a build folder left in the checkout plays no part."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("riskcore", "kernels"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("dist")
    done = run("-m", "build", "--no-isolation", "--outdir", out, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_installs_riskcore_and_nothing_else(names, wheel):
    info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.partition("/")[0] for name in names} == {"riskcore", info}


def test_wheel_holds_every_kernel(names):
    assert sorted(name for name in names if name.startswith("riskcore/kernels/")) == [
        f"riskcore/kernels/{name}" for name in KERNELS
    ]


def test_wheel_holds_every_module(names):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "riskcore").rglob("*.py")}
    assert modules <= set(names)


def test_wheel_holds_every_preset(names):
    presets = {path.relative_to(ROOT).as_posix() for path in (ROOT / "riskcore/presets").rglob("*.json")}
    assert presets
    assert presets <= set(names)


def test_wheel_is_marked_as_typed(names):
    assert "riskcore/py.typed" in names


def test_sdist_holds_kernels_as_files(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert all(members[f"riskcore/kernels/{name}"].isfile() for name in KERNELS)


def test_installed_wheel_imports(wheel, tmp_path):
    target = tmp_path / "site"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = run(*install, "--target", target, wheel, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("-c", "import riskcore.kernels as k; print(k.__file__)", cwd=tmp_path, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == target / "riskcore" / "kernels" / "__init__.py"


def test_kernels_refuse_their_other_name():
    done = run("-c", "import kernels", cwd=ROOT)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError")
    assert "riskcore.kernels" in last


def test_command_without_its_extra_says_what_to_install(tmp_path):
    """None in sys.modules is an import that fails as a missing module does."""
    code = "import sys; sys.modules['typer'] = None; from riskcore.__main__ import main; main()"
    done = run("-c", code, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.strip() == 'riskcore: the command line needs typer: pip install "riskcore[cli]"'


def test_lowest_versions_are_those_that_are_promised():
    """What make test-lowest installs; typer's own dependency click is held there as well."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [
        re.split(r"\s*>=\s*", need) for need in project["dependencies"] + project["optional-dependencies"]["cli"]
    ]
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    held = dict(re.split(r"==|\s+#", line)[:2] for line in lines if not line.startswith("#"))
    assert held.keys() == {name for name, _ in promised} | {"click"}
    for name, lowest in promised:
        assert f"{held[name]}.".startswith(f"{lowest}."), name
