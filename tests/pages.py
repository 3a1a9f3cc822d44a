"""Run the fenced blocks of a page of the documents as a reader does: in order, in one folder and one namespace.

| fence | what is done with the block |
|---|---|
| `python` | executed |
| `sh` | `riskcore` commands are run; of `make` and `pip install` the target or the extra must exist |
| `text` | must be what the block before it prints, white space aside; `...` stands for any text |
| `json NAME`, `csv NAME` | saved as a file of that name |

``python -m tests.pages`` puts the present output into every `text` block that shows another one.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import tempfile
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from riskcore.cli import app
from riskcore.venue import POLICIES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("guide", "liquidation", "performance", "studies", "tables", "venue_file")),
]

_BLOCK = re.compile(r"^```(\S*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def as_text(page: str) -> str:
    """Text of a page of the checkout."""
    return (ROOT / page).read_text(encoding="utf-8")


def run(page: str, folder: Path) -> str:
    """Run the blocks of a page in a folder; return the page with the output that they have now."""
    printed: str | None = None  # by the block before
    namespace, policies = {"__name__": "__main__"}, dict(POLICIES)

    def replaced(block: re.Match) -> str:
        nonlocal printed
        kind, rest, content = block.groups()
        if kind == "text" and printed is not None:
            same = doctest.OutputChecker().check_output(content, printed, _LOOSE)
            output = "\n".join(line.rstrip() for line in printed.splitlines())
            printed = None
            return block[0] if same else f"```text\n{output}\n```"
        printed = None
        if kind == "python":
            line = block.string.count("\n", 0, block.start()) + 1
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\n" * line + content, page, "exec"), namespace)
            printed = out.getvalue()
        elif kind == "sh":
            printed = "".join(map(command, content.replace("\\\n", " ").splitlines()))
        elif kind in ("json", "csv") and rest:
            (folder / rest).write_text(content, encoding="utf-8")
        else:
            raise ValueError(f"{page}: a block of an unknown kind: {block[0]}")
        return block[0]

    try:
        with contextlib.chdir(folder):
            return _BLOCK.sub(replaced, as_text(page))
    finally:  # a page may register a policy
        POLICIES.clear()
        POLICIES.update(policies)


def command(line: str) -> str:
    """Run a line of a shell; return what it prints."""
    match shlex.split(line, comments=True):
        case ["riskcore", *arguments]:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (line, result.output, result.exception)
            return result.stdout
        case ["make", target]:
            assert re.search(f"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        case ["pip", "install", what]:
            name, _, extra = what.removesuffix("]").partition("[")
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert name == ".", line
            assert not extra or extra in project["optional-dependencies"], line
        case words:
            raise ValueError(f"a command that cannot be run: {words}")
    return ""


def main() -> None:
    """Bring the output blocks of every page up to date."""
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            (ROOT / page).write_text(run(page, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
