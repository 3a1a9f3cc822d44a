"""Ids, symbols, paths and names from outside are shown as text: on the terminal, in pages and in spreadsheets."""

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from riskcore import RiskDataError, adl_study, io
from riskcore.boundary import as_html, describe_value, escaped
from riskcore.cli import app
from riskcore.venue import adl_policies
from tests import small_run

MARKUP = "[/red]x\x1b[31m\u202e<script>alert(1)</script>\x9b&"
LINES = "[bold]\r\n'<b>mm"
FORMULA = "=1+1"
FOLDER = "<img src=x onerror=alert(1)>\x1b[2J"
IDS = {1: MARKUP, 2: FORMULA, small_run.PROVIDER: LINES}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Zoë [/] :smile:", "Zoë [/] :smile:"),
        ("a\x1b[31mb\x07\r\x9b", r"a\x1b[31mb\x07\r\x9b"),
        ("two\nlines\u2028", r"two\nlines\u2028"),
        ("\u202eabc\u2066\u200b", r"\u202eabc\u2066\u200b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_does_not_print_is_escaped(text, said):
    assert escaped(text) == said
    assert escaped(said) == said


def test_pages_escape_html_too():
    assert as_html('<a href="x">\x1b') == r"&lt;a href=&quot;x&quot;&gt;\x1b"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a  b\n", r"'a  b\n'"),
        (["\x1b"], r"['\x1b']"),
        (10**5000, "of type int, which cannot be written out"),
        ("x" * 1000, "'" + "x" * 499 + "..."),
    ],
    ids=["text", "list", "number", "long"],
)
def test_values_in_messages(value, said):
    assert describe_value(value) == said
    error = RiskDataError("a\nb", "c\x1b", "must\nbe\n  short", row="\u202e", value=value)
    assert str(error) == rf"a\nb.c\x1b, row \u202e, value {said}: must be short"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose folder and customers have hostile names, and the files that it was made from."""
    path = tmp_path_factory.mktemp("hostile")
    frames = small_run.tables()
    for name in ("positions", "balances", "orders", "settings"):
        frames[name]["account"] = frames[name]["account"].map(IDS)
    files = small_run.write(path, small_run.venue_source(LINES), frames, "parquet")
    call(*small_run.arguments("replay", files, path / FOLDER))
    return path / FOLDER, files


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.exception
    assert not set("\x1b\x07\r\x9b\u202e") & set(result.output)
    return result.stderr if code else result.stdout


def joined(text):
    """What was printed, without the line breaks that the width of the terminal made."""
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("account", IDS.values())
def test_accounts_are_shown_as_text(run, account):
    said = joined(call("explain", run[0], "--account", account))
    assert said.startswith(joined(f"Account {escaped(account)}: equity"))
    assert joined(f"Nothing happened to account {escaped(account)}: it was") in said
    assert json.loads(call("explain", run[0], "--account", account, "--json"))["account"] == account


@pytest.mark.parametrize(("command", "more"), [("liquidation-prices", []), ("what-if", ["--shock", "all=-30%"])])
def test_accounts_of_a_table_are_shown_as_text(run, command, more):
    words = small_run.arguments(command, run[1], "")[:-2]
    assert escaped(MARKUP)[:11] in call(*words, *more)  # a narrow column goes on below


@pytest.mark.parametrize("account", ["[/]", "\x1b[2J", "\udcff", ":smile:"])
def test_unknown_accounts_are_one_line(run, account):
    said = call("explain", run[0], "--account", account, code=2)
    assert said == f"riskcore: accounts.account, value '{escaped(account)}': must be an account of the run\n"


def test_folders_are_shown_as_text(run, tmp_path):
    assert joined(escaped(FOLDER)) in joined(call("report", run[0]))
    nowhere = tmp_path / "[/]\n\x1b"
    assert call("adl-study", nowhere, code=2) == (
        f"riskcore: run, value '{escaped(str(nowhere))}': must be a run folder with a run.json\n"
    )


def test_what_was_typed_is_shown_as_text():
    assert r"No such command '\x1b[2J'" in call("\x1b[2J", code=2)
    assert r"No such option: --\x1bx" in call("audit", "--\x1bx", code=2)


def test_the_page_runs_no_script_of_a_name(run):
    call("report", run[0])
    page = (run[0] / "report.html").read_text()
    assert f"<h1>{as_html(FOLDER)}</h1>" in page
    assert f"<td>{as_html(LINES)}</td>" in page
    for name in (FOLDER, LINES, "<b>mm"):
        assert name not in page


def test_the_picture_runs_no_script_of_a_policy(monkeypatch):
    name = '</script><b>"x'
    monkeypatch.setitem(adl_policies.POLICIES, name, adl_policies.POLICIES["size"]._replace(name=name))
    drawn = adl_study.study(*adl_study.generated_event(50), [name]).picture()
    labels = [label for trace in drawn.data for label in (trace.name, *(trace.text or ()))]
    assert as_html(name) in labels
    assert name not in labels
    assert drawn.data[-1].x[0] == as_html(name)


class TestFormulas:
    """A text that a spreadsheet would run has a single quote in front, in a CSV file alone."""

    TEXTS = ("=1+1", "+1", "-1", "@sum", "\tx", "'=x", "x=1", "'x", "")

    @pytest.mark.parametrize("kind", ["str", "object", "category"])
    def test_texts_are_guarded_and_read_back(self, tmp_path, kind):
        frame = pd.DataFrame({"account": pd.Series(self.TEXTS[:-1], dtype=kind), "quantity": -1.5})
        before = frame.copy(deep=True)
        io.write_table(frame, tmp_path / "table.csv")
        pd.testing.assert_frame_equal(frame, before)
        written = (tmp_path / "table.csv").read_text().splitlines()
        guarded = ["'=1+1", "'+1", "'-1", "'@sum", "'\tx", "''=x", "x=1", "'x"]
        assert written == ["account,quantity", *(f"{text},-1.5" for text in guarded)]
        assert io.read_table(tmp_path / "table.csv", "positions")["account"].tolist() == list(self.TEXTS[:-1])

    def test_text_among_other_things(self, tmp_path):
        frame = pd.DataFrame({"=a": [-1, "-1", None, "=x"]}, dtype=object)
        io.write_table(frame, tmp_path / "table.csv")
        assert (tmp_path / "table.csv").read_text().splitlines() == ["'=a", "-1", "'-1", '""', "'=x"]

    def test_parquet_keeps_them(self, tmp_path):
        io.write_table(pd.DataFrame({"account": self.TEXTS}), tmp_path / "table.parquet")
        assert io.read_table(tmp_path / "table.parquet", "positions")["account"].tolist() == list(self.TEXTS)

    def test_margin_tables(self, run, tmp_path):
        path = tmp_path / "out.csv"
        call(*small_run.arguments("sweep", run[1], path))
        assert {line.split(",")[1] for line in path.read_text().splitlines() if "=" in line} == {f"'{FORMULA}"}
        found = io.read_table(path, "positions")
        assert set(found["account"]) >= {FORMULA, MARKUP}
