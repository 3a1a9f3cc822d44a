"""The run folder: parts add up to the run, a cut run goes on where it was, and no run is overwritten."""

import copy
import hashlib
import json
import pickle
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from riskcore import Engine, RiskDataError, adl_study, io
from riskcore.record import EVENTS, reader, run_folder
from riskcore.run import RecordedRun, explain, report
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
    assert {EVENTS[code] for code in np.unique(reader.read_journal(whole)["event"])} >= events
    assert (whole / "journal/00000.parquet").exists()


def test_parts_add_up_to_the_run(crash, whole, tmp_path):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    for tick in ticks:
        if engine.ticks in CUTS:
            engine.save(tmp_path / "run", complete=False, inputs={"marks": {"path": "m", "sha256": "0"}})
            assert not run_folder.read_manifest(tmp_path / "run")["complete"]
            assert run_folder.read_manifest(tmp_path / "run")["ticks"] == engine.ticks
        engine.step(tick)
    engine.save(tmp_path / "run")
    small_run.assert_same_run(tmp_path / "run", whole)
    assert run_folder.read_manifest(tmp_path / "run")["parts"] == len(CUTS) + 1
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
        patched.setattr(f"riskcore.record.run_folder.{fails_in}", fail)
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
        with pytest.raises(ValueError, match="already saved in"):
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


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"format": 4})])
def test_what_is_no_run_folder_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RiskDataError, match=r"^run[.:, ].*: must be") as refusal:
        Engine.resume(tmp_path)
    if text and "3" in text:
        assert str(refusal.value).startswith(f"run.format, value '{tmp_path}': must be 5, not 4: run again")


READERS = {
    "resume": Engine.resume,
    "explain": lambda path: explain(path, 1),
    "report": lambda path: report.provider_pnl(RecordedRun.read(path)),
    "adl-study": lambda path: adl_study.study_run(path, ["pnl_leverage"]),
}


@pytest.fixture
def copied(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def sealed(path, **manifest):
    """Give an altered folder the digests that it would have been written with."""
    known = json.loads((path / "run.json").read_text())
    known["files"] = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in known["files"]}
    known = {name: value for name, value in (known | manifest).items() if name != "digest" and value is not ...}
    plain = json.dumps(known, sort_keys=True, separators=(",", ":")).encode()
    (path / "run.json").write_text(json.dumps(known | {"digest": hashlib.sha256(plain).hexdigest()}))


@pytest.mark.parametrize("reader", READERS)
def test_every_file_is_held_to_its_digest(copied, reader):
    known = run_folder.read_manifest(copied)
    assert {p.relative_to(copied).as_posix() for p in copied.rglob("*") if p.is_file()} == {
        *known["files"], "run.json", "run.lock"
    }  # fmt: skip
    for name in known["files"]:
        content = (copied / name).read_bytes()
        (copied / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(RiskDataError) as refusal:
            READERS[reader](copied)
        rule = "is not the file that the run wrote: restore it or run again"
        assert str(refusal.value) == f"run.{name}, value '{copied}': {rule}"
        (copied / name).unlink()
        with pytest.raises(RiskDataError, match=f"run.{name}, .* cannot be read: No such file or directory"):
            READERS[reader](copied)
        (copied / name).write_bytes(content)
    text = (copied / "run.json").read_text()
    (copied / "run.json").write_text(text.replace('"events": ', '"events": 1'))
    with pytest.raises(RiskDataError, match=r"run\.run\.json, .*: is not the file that the run wrote"):
        READERS[reader](copied)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, ...) for name in ("versions", "seed", "parts", "ticks", "events", "complete", "providers", "inputs")),
        *(("parts", value) for value in (0, -1, 2, 10**9, "1", 1.0, True, None, [])),
        *(("ticks", value) for value in (24, 26, -1, "25", None)),
        *(("events", value) for value in (0, -1, 10**7, [1])),
        *(("providers", value) for value in ([], [10**6], [-1], [0, 0, 0], ["a"], {}, None)),
        *(("files", value) for value in ({}, [], {"run.json": "0"}, None)),
        ("inputs", []), ("inputs", {"marks": "0"}), ("inputs", {"marks": {"path": "m"}}),
        ("seed", None), ("complete", 1), ("versions", []),
    ],
)  # fmt: skip
def test_run_json_agrees_with_the_parts(copied, name, value):
    sealed(copied, **{name: value})
    with pytest.raises(RiskDataError, match=r"^run\.run\.json, value '.*': ") as refusal:
        Engine.resume(copied)
    assert "is not the file" not in str(refusal.value)


def column(name, change):
    return lambda frame: frame.assign(**{name: change(frame[name].to_numpy())})


def first(value):
    """Put a value into the first row."""
    return lambda values: np.where(np.arange(len(values)) == 0, value, values)


DAMAGES = [
    ("start/accounts", column("account", lambda values: values[::-1]), "accounts must ascend"),
    ("start/accounts", column("leverage_limit", first(np.nan)), "leverage_limit must be 0.001 or more"),
    ("start/positions", lambda frame: frame.drop(columns="cost"), "its columns must be account, market, lots, cost"),
    ("start/positions", column("lots", lambda values: values.astype(float)), "lots must hold int64, not double"),
    ("start/positions", column("market", first(99)), "row 0, value 99: market must be a row number from 0 to 2"),
    ("start/positions", column("account", first(-1)), "row 0, value -1: account must be a row number from 0 to"),
    ("start/positions", lambda frame: frame.iloc[::-1], "must ascend by account and market"),
    ("start/balances", lambda frame: frame.iloc[1:], "every account must have a row of the settle asset"),
    ("start/orders", column("market", lambda values: 2 - values), "an order must have a row in positions"),
    ("start/orders", column("side", first(0)), "row 0, value 0: side must be 1 or -1"),
    ("ticks", column("mark", first(-1.0)), "row 0, value -1.0: mark must be a finite number > 0"),
    ("ticks", column("tick", first(3)), "must have a row for every tick from 0 on and every market"),
    ("ticks", lambda frame: frame.iloc[:-3], "must be of the part's ticks, in order"),
    ("books", column("price", lambda values: np.full(len(values), 9)), "must be of the part's ticks, in order"),
    ("journal", lambda frame: frame.iloc[1:], "events must be the"),
    ("journal", column("event", lambda values: np.full(len(values), "x")), "row 0, value 'x': event must be one of"),
    ("journal", column("counterparty", first(-6)), "counterparty must be a row number from -5 to"),
    ("journal", column("account", first(10**6)), "row 0, value 1000000: account must be a row number from -1 to"),
    ("state/positions", lambda frame: frame.iloc[1:], "must have the rows of the start"),
    ("state/orders", column("lots", lambda values: values + 1), "must be orders of the start"),
    ("state/balances", column("unsettled", lambda values: values + 1), "unsettled must be 0 of an asset that no"),
    ("state/markets", lambda frame: frame.iloc[1:], "must have a row for every market"),
    ("state/samples", column("count", first(301)), "each second with one count"),
    ("state/ledger", column("ledger", first("pool")), "must have an entry for every ledger and item"),
    ("state/ledger", lambda frame: frame.astype({"value": "Int64"}).replace(0, pd.NA), "must not be missing"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "change", "rule"), DAMAGES)
def test_damaged_tables_are_refused(copied, table, change, rule):
    name = run_folder.file_of(table, 0)
    change(pd.read_parquet(copied / name)).to_parquet(copied / name, index=False)
    sealed(copied)
    of_run = table.partition("/")[0]
    if of_run in ("start", "state"):
        readers = [Engine.resume]
    else:
        readers = [{"ticks": RecordedRun.read, "books": READERS["adl-study"], "journal": READERS["explain"]}[of_run]]
    for read in readers:
        with pytest.raises(RiskDataError) as refusal:
            read(copied)
        assert rule in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 50, b"account,market"])
def test_what_is_no_table_is_refused(copied, content):
    (copied / "start/positions.parquet").write_bytes(content)
    sealed(copied)
    for read in READERS.values():
        with pytest.raises(RiskDataError, match=r"^run\.start/positions\.parquet: must be a Parquet file$"):
            read(copied)


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


def test_marks_without_an_index_come_back(tmp_path):
    venue, accounts, ticks = small_run.read(small_run.tables())
    engine, kept = Engine(accounts, venue), []
    for number in range(2):
        tick = replace(ticks.tick(number), indexes=None)
        engine.step(tick)
        engine.save(tmp_path, complete=False)
        kept.append(Engine.resume(tmp_path))
    kept[0].step(tick)
    for resumed in kept:
        np.testing.assert_array_equal(resumed.guard_state.sample, engine.guard_state.sample)
        np.testing.assert_array_equal(resumed.guard_state.total, engine.guard_state.total)


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
        with pytest.raises(
            RiskDataError, match=r"row time 2025.*must not be 3 days .* the ticks before this one are kept"
        ):
            io.replay(venue, accounts, refused, path, seed=3, inputs=inputs)
        assert (run_folder.read_manifest(path)["ticks"], run_folder.read_manifest(path)["complete"]) == (10, False)
        mended = inputs | {name: {"path": name, "sha256": "1"} for name in ("marks", "books")}
        return io.replay(venue, accounts, change(ticks) if change else ticks, path, seed=3, inputs=mended)

    def test_to_come(self, crash, whole, tmp_path):
        self.cut(crash, tmp_path / "run")
        assert run_folder.read_manifest(tmp_path / "run")["inputs"]["marks"]["sha256"] == "1"
        assert reader.read_journal(tmp_path / "run").tobytes() == reader.read_journal(whole).tobytes()

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
            columns = {f.name: getattr(ticks, f.name) for f in fields(ticks)}
            return replace(ticks, **{n: column[:9] for n, column in columns.items() if isinstance(column, np.ndarray)})

        with pytest.raises(RiskDataError, match="was cut with other inputs"):
            self.cut(crash, tmp_path / "run", change)
