"""Docstrings of what users can call: numpydoc sections that say what the code does, and an example of each."""

import importlib
import inspect
import re
import types
from enum import EnumType
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    "adl_study", "audit", "boundary", "hosts.pandas_loop", "io", "io.venues", "margin", "margin.screen",
    "market", "market.guards", "options", "options_sample", "record", "run", "run.report", "sample", "scalar",
    "scenario", "state", "venue",
]  # fmt: skip
VENUES = ["backpack", "binance", "ccxt", "dydx", "hyperliquid"]
FACES = ["riskcore", *(f"riskcore.{name}" for name in (*PACKAGES, *(f"io.venues.{venue}" for venue in VENUES)))]
FIELDS = "__dataclass_fields__", "_fields", "__struct_fields__"  # of a class whose parameters are its attributes
HEADER = re.compile(r"^(?P<name>[A-Z]\w+(?: \w+)?)\n(?P<line>-+)$", re.MULTILINE)
ORDER = ["Parameters", "Attributes", "Returns", "Yields", "Raises", "See Also", "Notes", "References", "Examples"]


def sections(docstring):
    """Text of each section by its name, the text before the first as ""."""
    found = {}
    pieces = HEADER.split(inspect.cleandoc(docstring))
    found[""] = pieces[0].strip()
    for name, line, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        assert len(line) == len(name), f"section {name}"
        assert name not in found, f"section {name}"
        found[name] = text.strip("\n")
    return found


def entries(text):
    """Names of a section's entries: the lines without indentation, without their types."""
    lines = [line for line in text.splitlines() if line and not line.startswith(" ")]
    return [name.strip().lstrip("*`").rstrip("`") for line in lines for name in line.partition(" : ")[0].split(",")]


def names_of(face):
    module = importlib.import_module(face)
    if hasattr(module, "__all__"):
        return module.__all__
    return [name for name, value in vars(module).items() if name[0] != "_" and getattr(value, "__module__", 0) == face]


def public():
    """Functions, classes, and their methods and properties, each once by the name that it is defined under."""
    found = {}
    for face in FACES:
        module = importlib.import_module(face)
        for name in names_of(face):
            value = getattr(module, name)
            value = getattr(value, "py_func", value)  # of a function that Numba compiles
            is_code = isinstance(value, type | types.FunctionType) and value.__module__.startswith("riskcore")
            if is_code and not value.__module__.startswith("riskcore.kernels."):  # whose docstrings have rows
                found[f"{value.__module__}.{value.__qualname__}"] = value
    for path, value in list(found.items()):
        for name, member in inspect.getmembers_static(value) if isinstance(value, type) else ():
            defined = next(base for base in value.__mro__ if name in vars(base)) if name[0] != "_" else object
            if defined.__module__.startswith("riskcore"):
                member = getattr(member, "__func__", member)
                if isinstance(member, types.FunctionType | property) or hasattr(member, "func"):
                    found[f"{path}.{name}"] = member
    return found


def refuses(function):
    """Whether a function, or one of riskcore that it calls by name, has a raise statement."""
    names = function.__code__.co_names
    called = [function.__globals__.get(name) for name in names]
    called += [getattr(owner, name, None) for owner in called for name in names if isinstance(owner, type)]
    called = [getattr(value, "__func__", value) for value in called]
    ours = [value for value in called if (getattr(value, "__module__", None) or "").startswith("riskcore")]
    functions = [value for value in (function, *ours) if isinstance(value, types.FunctionType)]
    return any("raise " in inspect.getsource(one).replace(one.__doc__ or "", "") for one in functions)


def violations(value):
    """What the docstring of a function, class or property lacks."""
    docstring = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    if not docstring:
        yield "has no docstring"
        return
    found = sections(docstring)
    if list(found) != ["", *(name for name in ORDER if name in found)]:
        yield f"has the sections {', '.join(list(found)[1:])}; known, in this order, are {', '.join(ORDER)}"
    if not found[""].partition("\n")[0].endswith("."):
        yield "has a first line that is no sentence"
    if not isinstance(value, type | types.FunctionType):  # a property
        return
    try:
        signature = inspect.signature(value)
    except ValueError:  # a class without a constructor of its own
        signature = inspect.Signature()
    declared = "Annotated["  # a figure of the policy, whose annotation describes it
    expected = [n for n, p in signature.parameters.items() if not str(p.annotation).startswith(declared)]
    expected = [name for name in expected if name not in ("self", "cls") and not name.startswith("_")]
    described = found.get("Parameters", "")
    if isinstance(value, EnumType):
        expected = list(value.__members__)
    if isinstance(value, EnumType) or (isinstance(value, type) and any(hasattr(value, mark) for mark in FIELDS)):
        described += "\n" + found.get("Attributes", "")
    if entries(described) != expected:
        yield f"describes {', '.join(entries(described)) or 'nothing'} where it takes {', '.join(expected)}"
    if isinstance(value, types.FunctionType):
        returns = signature.return_annotation not in (None, "None", inspect.Signature.empty)
        if returns != ("Returns" in found or "Yields" in found):
            yield "has no Returns" if returns else "has Returns and gives None"
        if expected and refuses(value) and "Raises" not in found:
            yield "has no Raises"
    if ">>>" not in found.get("Examples", ""):
        yield "has no example"
    for name in ("Returns", "Yields", "Raises"):
        if name in found and not any(line.startswith("    ") for line in found[name].splitlines()):
            yield f"says nothing under {name}"


def test_public_docstrings():
    wrong = [f"{path} {what}" for path, value in sorted(public().items()) for what in violations(value)]
    assert not wrong, f"{len(wrong)} violations:\n" + "\n".join(wrong)


def test_documents_that_the_code_names_are_there():
    rules = set(re.findall(r"^#+ (.*)", (ROOT / "docs/one_tick.md").read_text(), re.MULTILINE))
    missing = []
    for path in sorted((ROOT / "riskcore").rglob("*.py")):
        text = path.read_text()
        missing += [(path.name, page) for page in re.findall(r"docs/[\w/-]+\.md", text) if not (ROOT / page).is_file()]
        named = re.findall(r'docs/one_tick\.md,((?:(?: and)?\s+"[^"]+"[,;.]?)+)', text)
        missing += [
            (path.name, rule) for names in named for rule in re.findall(r'"([^"]+)"', names) if rule not in rules
        ]
    assert not missing


def test_the_check_finds_what_is_missing():
    def documented(price, size=1):
        """Notional.

        Parameters
        ----------
        price, size : float
            Settle units, lots.

        Returns
        -------
        float
            Settle units.

        Examples
        --------
        >>> documented(2.0)
        2.0
        """

    def annotated(price, size=1) -> float:
        if price < 0:
            raise ValueError(price)
        return price * size

    annotated.__doc__ = documented.__doc__
    assert list(violations(annotated)) == ["has no Raises"]
    annotated.__doc__ = documented.__doc__.replace("price, size", "price")
    assert "describes price where it takes price, size" in list(violations(annotated))
    annotated.__doc__ = documented.__doc__.replace("Returns\n        -------", "Yields\n        ------")
    assert list(violations(annotated)) == ["has no Raises"]
    annotated.__doc__ = "Notional.\n\n    Examples\n    --------\n    none\n"
    assert {"has no example", "has no Returns"} <= set(violations(annotated))
    assert list(violations(documented)) == ["has Returns and gives None"]


def test_public_names_are_found():
    names = {"margin.batch.sweep", "engine.Engine.step", "engine.StepResult.fills", "io.venues.ccxt.read_book"}
    assert {f"riskcore.{name}" for name in names} <= set(public())
