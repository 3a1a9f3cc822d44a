"""The documents: links and paths lead somewhere, words are in use, decisions have one form."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"`((?:riskcore|kernels|tests|docs|asv_benchmarks|\.ci)/[\w./-]*)`")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def as_text(page):
    return page.read_text(encoding="utf-8")


def rows_of(page, heading):
    """Cells of the table under a heading, without its head."""
    section = as_text(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def anchors_of(page):
    """Headings as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", as_text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page):
    for path, anchor in LINK.findall(as_text(page)):
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors_of(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_path_of_the_tree_exists(page):
    missing = [path for path in PATH.findall(as_text(page)) if not (ROOT / path).exists()]
    assert not missing


def test_every_name_of_the_map_is_in_the_file_beside_it():
    rows = rows_of(DOCS / "architecture.md", "Where to look")
    assert 12 <= len(rows) <= 24
    for question, answer in rows:
        files = PATH.findall(answer)
        assert files, question
        text = "".join(as_text(ROOT / path) for path in files)
        for name in re.findall(r"`(\w+)`", answer):
            assert re.search(rf"\b{name}\b", text), f"{question}: {name}"


def test_every_package_and_module_is_listed():
    rows = rows_of(DOCS / "architecture.md", "Packages")
    listed = {
        package: set(re.findall(r"`([\w/]+)`", row[1])) for row in rows for package in re.findall(r"`(\w+)`", row[0])
    }
    inside = {path.name: path for path in (ROOT / "riskcore").iterdir() if path.is_dir() and list(path.glob("*.py"))}
    single = {path.stem for path in (ROOT / "riskcore").glob("*.py")} - {"__init__", "__main__"}
    assert listed.keys() == inside.keys() | single
    for package, modules in listed.items():
        if modules:
            files = {path.stem for path in inside[package].glob("*.py")} - {"__init__"}
            folders = {f"{path.parent.name}/" for path in inside[package].glob("*/__init__.py")}
            assert modules == files | folders, package


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts(page):
    parts = ["Context", "Decision", "Consequences", "Revisit when"]
    heads = re.findall(r"^\*\*([\w ]+?)\.?\*\*", as_text(page), re.MULTILINE)
    assert [head for head in heads if head in parts] == parts
    assert re.match(rf"# {int(page.name[:4])}\. \S", as_text(page))


def test_the_glossary_has_25_to_45_words_that_are_in_use():
    lines = [line for line in as_text(DOCS / "glossary.md").splitlines() if line.startswith("| ")][1:]
    words = [line.split("|")[1].strip() for line in lines]
    assert 25 <= len(words) <= 45
    assert words == sorted(set(words), key=str.lower)
    assert all(line.count(" | ") + line.count("| |") >= 3 for line in lines)
    sources = [*(ROOT / "riskcore").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    sources += [page for page in PAGES if page.name != "glossary.md"]
    text = "\n".join(map(as_text, sources)).lower()
    unused = [word for word in words if not re.search(rf"\b{re.sub(r'[ -]', '[ _-]?', word.lower())}", text)]
    assert not unused
