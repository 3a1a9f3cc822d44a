"""Writing of a run folder: whatever cuts it, the same command goes on, and nobody else writes meanwhile."""

import itertools
import os
import shutil
import subprocess
import sys

import pytest

from riskcore import Engine, RecordingWarning, RiskDataError, engine, io
from riskcore.record import run_folder
from tests import small_run
from tests.cuts import Killed, cut_at, raising, tree


@pytest.fixture(scope="module")
def small():
    frames = small_run.tables()
    return small_run.read(frames)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run(small, path):
    venue, accounts, ticks = small
    return io.replay(venue, accounts, ticks, path)


@pytest.fixture
def whole(small, tmp_path):
    run(small, tmp_path / "whole")
    return tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "every"), [(Killed(), 1), (OSError(28, "No space left on device"), 4)], ids=["kill", "disk full"]
)
def test_run_that_is_cut_anywhere_is_taken_up(small, whole, error, every, tmp_path, monkeypatch):
    for operation in itertools.count(step=every):
        path = tmp_path / f"{operation}"
        with monkeypatch.context() as patched:
            cut = cut_at(patched, operation, raising(error))
            try:
                run(small, path)
            except type(error):
                pass
            if not cut.met:
                break
        if (path / "run.json").exists():
            Engine.resume(path)
        run(small, path)
        assert tree(path) == whole, operation
        shutil.rmtree(path)
    assert operation > 70


def test_cut_first_save_beside_other_files_is_refused(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        cut_at(patched, 30, raising(Killed()))
        with pytest.raises(Killed):
            run(small, tmp_path)
    for mine in ("notes.txt", "start/mine.parquet", "ticks/00001.parquet", "state/link"):
        (tmp_path / mine).parent.mkdir(exist_ok=True)
        if mine.endswith("link"):
            (tmp_path / mine).symlink_to(tmp_path)
        else:
            (tmp_path / mine).write_text("mine")
        before = tree(tmp_path)
        with pytest.raises(RiskDataError, match="must be a new or empty folder"):
            run(small, tmp_path)
        assert tree(tmp_path) == before
        (tmp_path / mine).unlink()
    run(small, tmp_path)


def test_run_without_its_manifest_is_not_cleared(small, tmp_path):
    run(small, tmp_path)
    (tmp_path / "run.json").unlink()
    before = tree(tmp_path)
    with pytest.raises(RiskDataError, match="must be a new or empty folder"):
        run(small, tmp_path)
    assert tree(tmp_path) == before


HOLD = """
import sys
from pathlib import Path
from riskcore.record import run_folder
with run_folder.writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_until_the_first_is_gone(small, tmp_path):
    venue, accounts, _ = small
    saved = Engine(accounts, venue)
    saved.save(tmp_path / "run", complete=False)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        for write in (lambda: run(small, tmp_path / "run"), lambda: saved.save(tmp_path / "run")):
            with pytest.raises(RiskDataError) as refusal:
                write()
            rule = "another process is writing to it: wait until it ends, or name another folder"
            assert str(refusal.value) == f"run, value '{tmp_path / 'run'}': {rule}"
        assert Engine.resume(tmp_path / "run").ticks == 0
        other.kill()
    assert run(small, tmp_path / "run").ticks == 2


def test_engine_does_not_append_to_a_run_that_went_on_without_it(small, tmp_path):
    venue, accounts, ticks = small
    first = Engine(accounts, venue)
    first.save(tmp_path, complete=False)
    second = Engine.resume(tmp_path)
    second.step(ticks.tick(0))
    second.save(tmp_path)
    before = tree(tmp_path)
    first.step(ticks.tick(0))
    with pytest.raises(RiskDataError, match="has gone on since this engine was saved or resumed: resume it again"):
        first.save(tmp_path)
    assert tree(tmp_path) == before


class TestCompleteRun:
    def test_same_inputs_give_it_again(self, small, whole, tmp_path):
        assert run(small, tmp_path / "whole").ticks == 2
        assert tree(tmp_path / "whole") == whole

    @pytest.mark.parametrize("other", ["accounts", "venue", "marks", "asset_prices", "books", "fewer", "seed"])
    def test_other_inputs_are_refused(self, small, whole, other, tmp_path):
        venue, accounts, ticks = small
        frames = small_run.tables()
        if other == "accounts":
            frames["balances"].loc[0, "quantity"] += 1
        elif other == "venue":
            provider = small_run.venue_source() | {"backstop": []}
            venue = small_run.load_venue(provider)
        elif other == "marks":
            frames["marks"].loc[3, "index_price"] += 1
        elif other == "asset_prices":
            frames["asset_prices"].loc[1, "price"] += 1
        elif other == "books":
            frames["books"].loc[7, "quantity"] += 1
        elif other == "fewer":
            for name in ("marks", "asset_prices", "books"):
                frames[name] = frames[name][frames[name]["time"] == small_run.TIMES[0]]
        if other != "venue":
            venue, accounts, ticks = small_run.read(frames)
        with pytest.raises(RiskDataError, match="is complete with other inputs: name a new folder"):
            io.replay(venue, accounts, ticks, tmp_path / "whole", seed=int(other == "seed"))
        assert tree(tmp_path / "whole") == whole


class TestRecording:
    def test_engine_without_a_record_holds_nothing(self, small, tmp_path):
        venue, accounts, ticks = small
        kept = Engine(accounts, venue, record=False)
        for tick in ticks:
            kept.step(tick)
        assert not kept._recorded
        with pytest.raises(RiskDataError, match="record=False keeps no ticks to save: create it with record=True"):
            kept.save(tmp_path / "run")
        assert not (tmp_path / "run").exists()
        run(small, tmp_path / "run")
        with pytest.raises(RiskDataError, match="record=False"):
            Engine.resume(tmp_path / "run", record=False).save(tmp_path / "run")

    def test_what_is_recorded_goes_to_the_folder(self, small, tmp_path, monkeypatch):
        venue, accounts, ticks = small
        monkeypatch.setattr(engine, "_MAX_RECORDED_BYTES", 0)
        kept = Engine(accounts, venue)
        kept.save(tmp_path / "run", complete=False)
        for tick in ticks:
            kept.step(tick)
            assert len(kept._recorded) == 1
        known = run_folder.read_manifest(tmp_path / "run")
        assert (known["parts"], known["ticks"], known["complete"]) == (2, 1, False)
        kept.save(tmp_path / "run")
        run(small, tmp_path / "at once")
        small_run.assert_same_run(tmp_path / "run", tmp_path / "at once")

    def test_full_disk_stops_the_step_before_it_changes_anything(self, small, tmp_path, monkeypatch):
        venue, accounts, ticks = small
        monkeypatch.setattr(engine, "_MAX_RECORDED_BYTES", 0)
        kept = Engine(accounts, venue)
        kept.save(tmp_path, complete=False)
        kept.step(ticks.tick(0))
        with monkeypatch.context() as patched:
            cut_at(patched, 20, raising(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space left"):
                kept.step(ticks.tick(1))
        assert kept.ticks == 1
        kept.step(ticks.tick(1))
        kept.save(tmp_path)
        assert Engine.resume(tmp_path).ticks == 2

    def test_user_is_told_once_of_memory_that_grows(self, small, monkeypatch, recwarn):
        venue, accounts, ticks = small
        monkeypatch.setattr(engine, "_MAX_RECORDED_BYTES", 0)
        kept = Engine(accounts, venue)
        kept.step(ticks.tick(0))
        held = kept._recorded_bytes
        with pytest.warns(RecordingWarning, match=f"1 ticks, {held} bytes, .* save .* record=False"):
            kept.step(ticks.tick(1))
        kept._write_or_warn()
        assert not len(recwarn)
