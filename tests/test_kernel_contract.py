"""The form that CONTRIBUTING.md asks of every kernel, read from the source without importing it."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "kernels"
TREES = {path.name: ast.parse(path.read_text(), path.name) for path in sorted(FOLDER.glob("*.py"))}
RULED = {name: tree for name, tree in TREES.items() if not name.startswith("_")}

DTYPES = {"bool", "float32", "float64"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
COLUMNS = {
    node.name
    for tree in RULED.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("NamedTuple") for base in node.bases)
}
ROW = re.compile(r"(?P<name>\w+) +(?P<dtype>[\w|]+) +(?P<shape>\([^)]*\)) +(?P<text>\S.*)")
BATCH = re.compile(r"(in/)?out\b")


class Row(NamedTuple):
    name: str
    dtype: str
    shape: str
    text: str


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]


FUNCTIONS = [
    pytest.param(node, id=f"{name[:-3]}.{getattr(node, 'name', 'lambda')}")
    for name, tree in RULED.items()
    for node in functions(tree)
]
MODULES = [pytest.param(tree, id=name) for name, tree in RULED.items()]


def parameters(function):
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]


def rows(function):
    """The rows are the docstring's last paragraph; what has not their form is not one, and will be missed below."""
    docstring = inspect.cleandoc(ast.get_docstring(function, clean=False) or "")
    found = [ROW.fullmatch(line) for line in docstring.rpartition("\n\n")[2].splitlines()]
    return [Row(**match.groupdict()) for match in found if match]


def test_there_are_kernels():
    assert FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_kernels_have_the_decorator_of_the_house(function):
    assert isinstance(function, ast.FunctionDef), "a kernel is a plain function"
    allocates = any(
        isinstance(node, ast.Attribute) and node.attr in ("empty", "zeros", "argsort") for node in ast.walk(function)
    )
    allowed = ["allocating_kernel"] if allocates else ["kernel", "inner_kernel", "model_kernel"]
    (decorator,) = function.decorator_list
    assert ast.unparse(decorator) in allowed


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments_are_positional_and_given(function):
    arguments = function.args
    assert [arguments.vararg, arguments.kwarg, arguments.kwonlyargs, arguments.defaults] == [None, None, [], []]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_docstring_opens_with_a_sentence(function):
    docstring = inspect.cleandoc(ast.get_docstring(function, clean=False) or "")
    assert docstring.partition("\n\n")[0].endswith(".")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_docstring_rows_are_the_parameters(function):
    assert [row.name for row in rows(function)] == parameters(function), "rows are 'name dtype (shape) text'"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_docstring_types_are_known(function):
    for row in rows(function):
        if row.dtype.removesuffix("|None") in COLUMNS:
            assert row.shape == "()", f"{row.name}: columns travel as one argument, of shape ()"
        else:
            types = set(row.dtype.split("|"))  # None: an array that some calls do without
            assert types - {"None"} <= DTYPES, f"{row.name}: {row.dtype} is neither a dtype nor a NamedTuple"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_scalars_are_not_indexed(function):
    scalars = {row.name for row in rows(function) if row.shape == "()"}
    indexed = {ast.unparse(node.value) for node in ast.walk(function) if isinstance(node, ast.Subscript)}
    assert not scalars & indexed, "the docstring says shape (), the code takes an index"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_outputs_come_last(function):
    is_out = [re.match(r"out\b", row.text) is not None for row in rows(function)]
    assert is_out == sorted(is_out)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_batch_kernel_returns_nothing(function):
    if any(BATCH.match(row.text) for row in rows(function)):  # the others are scalar rules, which give their value
        assert not [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]


@pytest.mark.parametrize("tree", MODULES)
def test_nothing_forbidden_is_written(tree):
    found = []
    for node in ast.walk(tree):
        match node:
            case (
                ast.Raise()
                | ast.Assert()
                | ast.Try()
                | ast.Name(id="print" | "fastmath" | "parallel")
                | ast.Attribute(attr="random" | "fastmath" | "parallel")
                | ast.keyword(arg="fastmath" | "parallel")
            ):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize(("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in TREES.items()])
def test_imports_are_numba_numpy_and_the_standard_library(name, tree):
    allowed = {"numba", "numpy", "riskcore.kernels"}
    if name in {"_cache.py", "_columns.py", "_simd.py"}:
        allowed.add("llvmlite")  # the vectors are LLVM's, and its version is part of the cache's key
    strange = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One dot is this folder; two would reach the API.
            names = [] if node.level == 1 else [f"{'.' * node.level}{node.module or ''}"]
        else:
            continue
        for module in names:
            top = module.partition(".")[0]
            inside = any(module == home or module.startswith(f"{home}.") for home in allowed)
            if not inside and (top not in sys.stdlib_module_names or top == "random"):
                strange.add(module)
    assert not strange
