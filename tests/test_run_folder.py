"""The run folder: parts add up to the run, a cut run goes on where it was, and no run is overwritten."""

import copy
import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from riskcore import Engine, RiskDataError, io, run_folder
from riskcore.journal import EVENTS
from tests import small_run

CUTS = [0, 9, 10, 17]


@pytest.fixture(scope="module")
def crash():
    return small_run.crash()


@pytest.fixture(scope="module")
def whole(crash, tmp_path_factory):
    """The run saved once."""
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for tick in ticks:
        engine.step(tick)
    path = tmp_path_factory.mktemp("whole") / "run"
    engine.save(path, inputs={"marks": {"path": "m", "sha256": "0"}})
    return path


def test_run_has_something_to_keep(whole):
    events = {"trigger", "cancel", "convert", "book", "backstop", "funding", "realize", "unsettle"}
    assert {EVENTS[code] for code in np.unique(run_folder.read_journal(whole)["event"])} >= events
    assert (whole / "journal/00000.parquet").exists()


def test_parts_add_up_to_the_run(crash, whole, tmp_path):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for tick in ticks:
        if engine.ticks in CUTS:
            engine.save(tmp_path / "run", complete=False, inputs={"marks": {"path": "m", "sha256": "0"}})
            assert not run_folder.manifest(tmp_path / "run")["complete"]
            assert run_folder.manifest(tmp_path / "run")["ticks"] == engine.ticks
        engine.step(tick)
    engine.save(tmp_path / "run")
    small_run.assert_same_run(tmp_path / "run", whole)
    assert run_folder.manifest(tmp_path / "run")["parts"] == len(CUTS) + 1
    assert [p.name for p in (tmp_path / "run/state").iterdir()] == [f"{len(CUTS):05d}"]


@pytest.mark.parametrize("cut", [0, 1, 10, 24])
def test_resumed_run_is_the_same(crash, whole, cut, tmp_path):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for tick in list(ticks)[:cut]:
        engine.step(tick)
    engine.save(tmp_path, complete=False, inputs={"marks": {"path": "m", "sha256": "0"}})
    engine = Engine.resume(tmp_path)
    assert (engine.ticks, engine.seed) == (cut, 3)
    for tick in ticks.starting_at(cut):
        engine.step(tick)
    engine.save(tmp_path)
    small_run.assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("fails_in", ["_write_state", "_write_ticks", "os.replace"])
def test_save_that_fails_half_way_does_not_count(crash, whole, fails_in, tmp_path, monkeypatch):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for tick in list(ticks)[:9]:
        engine.step(tick)
    engine.save(tmp_path, complete=False, inputs={"marks": {"path": "m", "sha256": "0"}})
    for tick in list(ticks)[9:12]:
        engine.step(tick)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"riskcore.run_folder.{fails_in}", fail)
        with pytest.raises(OSError, match="No space left"):
            engine.save(tmp_path, complete=False)
    assert Engine.resume(tmp_path).ticks == 9
    for going_on in (Engine.resume(tmp_path), engine):  # from the folder, and with what was in memory
        for tick in ticks.starting_at(going_on.ticks):
            going_on.step(tick)
    engine.save(tmp_path)
    small_run.assert_same_run(tmp_path, whole)


def test_saves_without_ticks_change_nothing(crash, whole, tmp_path):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for _ in range(2):
        engine.save(tmp_path, complete=False, inputs={"marks": {"path": "m", "sha256": "0"}})
    engine = Engine.resume(tmp_path)
    assert engine.time is None
    for tick in ticks:
        engine.step(tick)
        engine.save(tmp_path, complete=False)
        engine.save(tmp_path, complete=False)
    engine.save(tmp_path)
    small_run.assert_same_run(tmp_path, whole)


def test_run_stays_in_its_folder(crash, tmp_path):
    venue, accounts, _ = crash
    engine = Engine(accounts, venue)
    engine.save(tmp_path / "a", complete=False)
    for kept in (engine, Engine.resume(tmp_path / "a")):
        with pytest.raises(ValueError, match="already kept in"):
            kept.save(tmp_path / "b")
    assert not (tmp_path / "b").exists()
    engine.save(tmp_path / "a/../a")


def test_nothing_is_overwritten(crash, whole, tmp_path):
    venue, accounts, _ = crash
    (tmp_path / "folder").mkdir()
    for taken in (tmp_path / "file", tmp_path / "folder/notes.txt"):
        taken.write_text("mine")
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    for path in (tmp_path / "file", tmp_path / "folder", whole):
        with pytest.raises(RiskDataError) as refusal:
            Engine(accounts, venue).save(path)
        assert str(refusal.value) == f"run, value '{path}': must be a new or empty folder"
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"format": 1})])
def test_what_is_no_run_folder_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RiskDataError, match=r"^run[.:, ].*: must be"):
        Engine.resume(tmp_path)


def test_text_ids_come_back(tmp_path):
    frames = small_run.tables()
    for name in ("positions", "balances", "orders", "settings"):
        frames[name]["account"] = frames[name]["account"].map({1: "bob", 2: "alice", small_run.PROVIDER: "zoë"})
    venue, accounts, ticks = small_run.read(frames, provider="zoë")
    engine = Engine(accounts, venue)
    engine.step(ticks.tick(0))
    engine.save(tmp_path, complete=False)
    kept = Engine.resume(tmp_path)
    assert kept.accounts.ids.tolist() == ["alice", "bob", "zoë"]
    kept.step(ticks.tick(1))
    assert pd.isna(kept.accounts.leverage_limit).sum() == 0
    np.testing.assert_array_equal(kept.accounts.leverage_limit, accounts.leverage_limit)


@pytest.mark.parametrize("taken", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_a_copy_of_an_engine_goes_on_like_it(crash, taken):
    venue, accounts, ticks = crash
    engine, ticks = Engine(accounts, venue, check_screen=True), list(ticks)
    for tick in ticks[:4]:
        engine.step(tick)
    other = taken(engine)
    for tick in ticks[4:12]:
        assert engine.step(tick).rows.tobytes() == other.step(tick).rows.tobytes()
    np.testing.assert_array_equal(engine.accounts.columns.free, other.accounts.columns.free)


class TestMendedTicks:
    """A run that was cut goes on with tables whose ticks to come have changed, and with no others."""

    def cut(self, crash, path, change=None):
        """Run up to the tenth tick, which is refused, and go on with a change of the tick that is named."""
        venue, accounts, ticks = crash
        late = {time: time + 3 * 86_400 * 10**9 for time in ticks.time[10:].tolist()}
        time = np.array([late.get(time, time) for time in ticks.time.tolist()])
        refused = replace(ticks, time=time, books={late.get(time, time): book for time, book in ticks.books.items()})
        inputs = {name: {"path": name, "sha256": "0"} for name in ("venue", "marks", "books")}
        with pytest.raises(RiskDataError, match=r"row time 2025.*must not be 3 days .* the ticks before it are kept"):
            io.replay(venue, accounts, refused, path, seed=3, inputs=inputs)
        assert (run_folder.manifest(path)["ticks"], run_folder.manifest(path)["complete"]) == (10, False)
        mended = inputs | {name: {"path": name, "sha256": "1"} for name in ("marks", "books")}
        return io.replay(venue, accounts, change(ticks) if change else ticks, path, seed=3, inputs=mended)

    def test_to_come(self, crash, whole, tmp_path):
        self.cut(crash, tmp_path / "run")
        assert run_folder.manifest(tmp_path / "run")["inputs"]["marks"]["sha256"] == "1"
        assert run_folder.read_journal(tmp_path / "run").tobytes() == run_folder.read_journal(whole).tobytes()

    @pytest.mark.parametrize("name", ["mark", "index", "open_interest", "funding_rate", "last", "asset"])
    def test_done(self, crash, tmp_path, name):
        def change(ticks):
            values = getattr(ticks, name).copy()
            values[9, 1] = 0.5
            return replace(ticks, **{name: values})

        with pytest.raises(RiskDataError, match="was cut with other inputs"):
            self.cut(crash, tmp_path / "run", change)

    @pytest.mark.parametrize("name", ["time", "offset", "price", "lots", "none"])
    def test_a_book_that_is_done(self, crash, tmp_path, name):
        def change(ticks):
            time = int(ticks.time[9])
            book, books = ticks.books[time], dict(ticks.books)
            values = getattr(book, name, book.lots).copy()
            values[0 if name == "time" else 1] += -1 if name == "offset" else 1
            books[time] = replace(book, **({name: values} if name != "none" else {}))
            if name == "none":
                del books[time]
            return replace(ticks, books=books)

        with pytest.raises(RiskDataError, match="was cut with other inputs"):
            self.cut(crash, tmp_path / "run", change)

    def test_fewer_than_are_done(self, crash, tmp_path):
        def change(ticks):
            columns = {f.name: getattr(ticks, f.name)[:9] for f in fields(ticks) if f.name not in ("venue", "books")}
            return replace(ticks, **columns)

        with pytest.raises(RiskDataError, match="was cut with other inputs"):
            self.cut(crash, tmp_path / "run", change)
