"""The simulator passes honest runs, and names the seed of a run that is not."""

import re

import pytest

from riskcore.audit import audit
from tests import simulate

LINE = r"seed {}: \d+ ticks, \d+ events, {} \d+; same bytes, \d+ checks \([\d.]+ s\)"
# seeds of few accounts that draw one ending each, all three
ENDINGS = {222: "killed after tick", 223: "killed in file operation", 224: "disk full at file operation"}


def test_runs_that_are_cut_end_as_they_would_have(capsys):
    assert simulate.main(["--seed", "222", "--runs", "3"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    for line, (seed, ending) in zip(lines, ENDINGS.items(), strict=True):
        assert re.fullmatch(LINE.format(seed, ending), line)
    assert re.fullmatch(r"3 seeds, 0 failed; [\d,]+ \w+.*", last)


def test_a_seed_draws_the_same_again():
    one, other = (simulate.Scene.of(5) for _ in range(2))
    assert one.venue.source == other.venue.source
    assert one.ticks == other.ticks
    assert one.accounts.columns.free.tobytes() == other.accounts.columns.free.tobytes()
    assert simulate.endings(one, 200) == simulate.endings(other, 200)


@pytest.fixture
def uncut(monkeypatch):
    """Without processes that are cut: the run is made twice."""
    monkeypatch.setattr(simulate, "endings", lambda scene, operations: [])


def test_a_run_that_differs_is_told_with_its_seed(uncut, monkeypatch, capsys, tmp_path):
    run = simulate.Scene.run

    def differ(scene, path, **options):
        scene.seed += path.name == "cut"
        run(scene, path, **options)

    monkeypatch.setattr(simulate.Scene, "run", differ)
    monkeypatch.setattr(simulate.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    assert simulate.main(["--seed", "118", "--runs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"seed 118: FAILED: the run that was cut \(\) has other bytes in .*run\.json.*", lines[0])
    assert lines[1:3] == [f"kept in {tmp_path}", "reproduce with python -m tests.simulate --seed 118 --runs 1"]
    assert lines[3] == "1 seeds, 1 failed; no events"
    assert (tmp_path / "cut/run.json").exists()


def test_a_breach_and_an_error_are_told_with_their_seed(uncut, monkeypatch, capsys, tmp_path):
    def spoilt(path):
        report = audit(path)
        report.checks.loc[0, "breaches"] = 1
        return report

    monkeypatch.setattr(simulate, "audit", spoilt)
    monkeypatch.setattr(simulate.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    assert simulate.main(["--seed", "118", "--runs", "1"]) == 1
    assert "seed 118: FAILED: the audit found" in capsys.readouterr().out
    monkeypatch.setattr(simulate.Scene, "of", lambda seed: 1 / 0)
    assert simulate.main(["--seed", "7", "--runs", "1"]) == 1
    written = capsys.readouterr().out
    assert "ZeroDivisionError" in written
    assert "reproduce with python -m tests.simulate --seed 7 --runs 1" in written


def test_no_seed_is_begun_after_the_minutes(capsys):
    assert simulate.main(["--minutes", "0"]) == 0
    assert capsys.readouterr().out == "0 seeds, 0 failed; no events\n"
