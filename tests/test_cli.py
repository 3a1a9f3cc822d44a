"""The command line from files to files; what it says of bad input is in test_bad_input.py."""

import importlib
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from riskcore import Engine, __version__, adl_study, liquidation_prices, load_venue, sample, sweep, what_if
from riskcore.cli import app, commands, render
from riskcore.io import read_table
from riskcore.record import EVENT, reader, run_folder
from tests import small_run

COMMANDS = [
    "demo", "sweep", "liquidation-prices", "what-if", "replay", "audit", "explain", "report", "adl-study", "warm",
    "scenario-losses", "compare-models",
]  # fmt: skip
replay_module = importlib.import_module("riskcore.run.replay")  # the package has a function of that name


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def as_json(*arguments, code=0):
    def fail(word):
        raise AssertionError(f"{word} is no JSON")

    result = call(*arguments, "--json", code=code)
    assert result.stderr == ""
    return json.loads(result.stdout, parse_constant=fail)


def refused(*arguments):
    result = call(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("riskcore: ").removesuffix("\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The inputs of a generated crash."""
    venue, made = sample.crash(120, 25)
    return small_run.write(tmp_path_factory.mktemp("inputs"), venue.source, vars(made), "parquet")


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    """An uninterrupted run of them."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    call(*small_run.arguments("replay", files, path))
    return path


@pytest.fixture
def cut(files, tmp_path, monkeypatch):
    """A run that was interrupted in the tick number 11, and saved after every tick before it."""
    step = Engine.step

    def interrupted(engine, tick):
        if engine.ticks == 11:
            raise KeyboardInterrupt
        return step(engine, tick)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", interrupted)
        patched.setattr(replay_module, "_SAVE_SECONDS", -1.0)
        result = CliRunner().invoke(app, small_run.arguments("replay", files, tmp_path / "run"))
    assert result.exit_code not in (0, 2)
    return tmp_path / "run"


class TestDemo:
    @pytest.mark.parametrize("seed", [0, 7])
    def test_run_of_the_written_inputs_is_the_demo(self, seed, tmp_path):
        options = ("--accounts", 100, "--seed", seed)
        call("demo", *options, "--out", tmp_path / "demo")
        made = as_json("demo", *options, "--inputs", tmp_path / "inputs", "--out", tmp_path / "again")
        assert {*made["inputs"].values()} == {str(path) for path in (tmp_path / "inputs").iterdir()}
        call(*made["command"][1:])
        demo, again = (
            {p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "run.json"}
            for run in (tmp_path / "demo", tmp_path / "again")
        )
        assert demo == again  # the activity is not among the options
        assert len(reader.read_journal(tmp_path / "demo")) > 100

    def test_printed_command_is_one_line_of_a_shell(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        line = call("demo", "--accounts", 100, "--inputs", "a crash").stdout
        assert line.count("\n") == 1
        words = shlex.split(line)
        assert words[:4] == ["riskcore", "replay", "--venue", "a crash/venue.json"]
        assert words[-2:] == ["--out", "runs/a crash"]
        call(*words[1:])
        assert run_folder.read_manifest(tmp_path / "runs" / "a crash")["ticks"] == 240

    def test_inputs_replace_nothing(self, tmp_path):
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "marks.csv").write_text("mine")
        for folder in (tmp_path / "old", tmp_path / "old" / "marks.csv"):
            line = refused("demo", "--accounts", 100, "--inputs", folder)
            assert line == f"inputs, value '{folder}': must be a new or an empty folder"
        assert (tmp_path / "old" / "marks.csv").read_text() == "mine"

    def test_table_without_rows_gets_no_file(self, tmp_path):
        venue, tables = sample.crash(100, 2)
        files = sample.write_inputs(venue, replace(tables, orders=tables.orders.iloc[:0]), tmp_path)
        assert "orders" not in files
        assert not (tmp_path / "orders.csv").exists()


class TestSweep:
    @pytest.mark.parametrize("source", ["csv", "parquet"])
    @pytest.mark.parametrize("target", ["csv", "parquet"])
    def test_table_of_every_time_is_that_of_the_library(self, source, target, tmp_path):
        frames = small_run.tables()
        files = small_run.write(tmp_path, small_run.venue_source(), frames, source)
        out = tmp_path / f"table.{target}"
        call(*small_run.arguments("sweep", files, out))
        found = read_table(out, "out")
        venue, accounts, ticks = small_run.read(frames)
        wanted = pd.concat(
            [sweep(accounts, venue, t.marks, indexes=t.indexes, asset_prices=t.asset_prices).to_frame() for t in ticks],
            ignore_index=True,
        )
        pd.testing.assert_frame_equal(found.drop(columns="time"), wanted, check_exact=True)
        assert pd.to_datetime(found["time"]).tolist() == [pd.Timestamp(t) for t in small_run.TIMES for _ in range(3)]

    def test_json(self, files, tmp_path):
        found = as_json(*small_run.arguments("sweep", files, tmp_path / "t.parquet"))
        table = pd.read_parquet(tmp_path / "t.parquet")
        assert (found["accounts"], found["times"]) == (123, 25)
        assert found["liquidatable"] == table.groupby("time")["liquidatable"].sum().tolist()
        assert max(found["liquidatable"]) > 0
        assert len(table) == 123 * 25

    def test_select_only(self, files, tmp_path):
        whole = as_json(*small_run.arguments("sweep", files, tmp_path / "all.parquet"))
        found = as_json(*small_run.arguments("sweep", files, tmp_path / "some.parquet"), "--select-only")
        assert found | {"out": None} == whole | {"out": None}
        wanted = pd.read_parquet(tmp_path / "all.parquet").query("liquidatable").reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "some.parquet"), wanted, check_exact=True)
        shown = call(*small_run.arguments("sweep", files, tmp_path / "some.parquet"), "--select-only").stdout
        assert f"123 accounts, {found['liquidatable'][-1]} at 100 % or above" in shown

    def test_tables_that_may_be_left_out(self, tmp_path):
        frames = small_run.tables()
        frames["balances"] = frames["balances"].drop(index=1).drop(columns="lent")
        frames["marks"] = frames["marks"].drop(columns="index_price")
        files = small_run.write(
            tmp_path, small_run.venue_source(), {name: frames[name] for name in ("positions", "balances", "marks")}
        )
        assert "3 accounts" in call(*small_run.arguments("sweep", files, tmp_path / "out.csv")).stdout

    def test_out_is_replaced_whole(self, files, tmp_path):
        (tmp_path / "t.csv").write_text("old")
        call(*small_run.arguments("sweep", files, tmp_path / "t.csv"))
        assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
        assert len(pd.read_csv(tmp_path / "t.csv")) == 123 * 25

    @pytest.mark.parametrize("name", ["venue", "positions", "marks"])
    def test_out_is_no_input(self, name, files, tmp_path):
        inputs = {n: tmp_path / path.name for n, path in files.items()}
        for n, path in inputs.items():
            path.write_bytes(files[n].read_bytes())
        (tmp_path / "link.csv").symlink_to(inputs[name])
        (tmp_path / "hard.csv").hardlink_to(inputs[name])
        outs = [tmp_path / "link.csv", tmp_path / "hard.csv", *([inputs[name]] if name != "venue" else [])]
        for out in outs:
            line = refused(*small_run.arguments("sweep", inputs, out))
            assert line == f"out, value '{out}': must not be an input of the same command"
        line = refused(*small_run.arguments("replay", inputs, tmp_path))
        assert line == f"out, value '{tmp_path}': must not hold an input of the same command"
        assert all(path.read_bytes() == files[n].read_bytes() for n, path in inputs.items())

    def test_table_of_many_times_names_the_one_that_it_shows(self, files, tmp_path):
        shown = call(*small_run.arguments("sweep", files, tmp_path / "t.csv")).stdout
        last = pd.read_parquet(files["marks"])["time"].max()
        assert str(last) in shown
        assert "at the last of 25 times" in shown
        marks = tmp_path / "marks.parquet"
        pd.read_parquet(files["marks"]).query("time == @last").to_parquet(marks)
        shown = call(*small_run.arguments("sweep", files | {"marks": marks}, tmp_path / "t.csv")).stdout
        assert str(last) not in shown
        assert "at the last of" not in shown

    def test_threads(self, files, tmp_path):
        for count in (1, 3):
            call(*small_run.arguments("sweep", files, tmp_path / f"{count}.csv"), "--threads", count)
        assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()
        line = call(*small_run.arguments("sweep", files, tmp_path / "t.csv"), "--threads", 0, code=2).stderr
        assert "--threads" in line

    def test_reading_is_shown_on_a_terminal(self, files, tmp_path, monkeypatch):
        said = io.StringIO()
        monkeypatch.setattr(commands, "err", Console(file=said, force_terminal=True))
        call(*small_run.arguments("sweep", files, tmp_path / "t.csv"))
        assert all(text in said.getvalue() for text in ("reading accounts", "reading marks", "collecting ticks"))
        said.truncate(0)
        call(*small_run.arguments("sweep", files, tmp_path / "t.csv"), "--json")
        assert said.getvalue() == ""

    def test_nothing_is_left_of_what_is_terminated(self, tmp_path):
        files = small_run.write(tmp_path / "in", small_run.venue_source(), small_run.tables())
        (tmp_path / "out").mkdir()
        command = [sys.executable, "-c", STALLED, *small_run.arguments("sweep", files, tmp_path / "out/table.csv")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "one row\n"
            assert len(list((tmp_path / "out").iterdir())) == 1
            process.terminate()
            assert process.wait(60) == 128 + signal.SIGTERM
        assert not list((tmp_path / "out").iterdir())


STALLED = """
import sys, time
from riskcore import cli
from riskcore.io import sweeps

def stalled(*arguments, tables=sweeps.sweep_table):
    for table in tables(*arguments):
        yield table
        print("one row", flush=True)
        time.sleep(60)

sweeps.sweep_table = stalled
cli.app(sys.argv[1:])
"""


def inputs(command, files, *more):
    """Return the command line on the files, without --out."""
    return [*small_run.arguments(command, files, "")[:-2], *more]


def last_prices(frames):
    """Venue, accounts and the last tick of the tables, as the functions of the library take them."""
    venue, accounts, ticks = small_run.read(frames)
    tick = ticks.tick(len(ticks) - 1)
    return accounts, venue, tick.marks, {"indexes": tick.indexes, "asset_prices": tick.asset_prices}


class TestLiquidationPrices:
    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_table_is_that_of_the_library_at_the_last_time(self, suffix, tmp_path):
        frames = small_run.tables()
        frames["marks"].loc[2:, "mark_price"] *= 0.99
        files = small_run.write(tmp_path, small_run.venue_source(), frames, suffix)
        out = tmp_path / f"prices.{suffix}"
        found = as_json(*inputs("liquidation-prices", files, "--out", out))
        accounts, venue, marks, more = last_prices(frames)
        wanted = liquidation_prices(accounts, venue, marks, **more).to_frame()
        pd.testing.assert_frame_equal(read_table(out, "out"), wanted, check_exact=True, check_dtype=False)
        assert wanted["mark_price"].tolist() == [99_000.0, 3_960.0]
        assert found["time"] == str(pd.Timestamp(small_run.TIMES[1]))
        assert (found["positions"], found["out"]) == (2, str(out))
        assert found["nearest"] == wanted.sort_values("distance", key=abs).to_dict("records")

    def test_nearest_are_shown(self, files):
        found = as_json(*inputs("liquidation-prices", files))
        assert found["with_liquidation_price"] > len(found["nearest"]) == 20
        distance = [abs(row["distance"]) for row in found["nearest"]]
        assert distance == sorted(distance)
        assert found["out"] is None
        shown = call(*inputs("liquidation-prices", files)).stdout
        assert f"{found['positions']} positions, {found['with_liquidation_price']} with a liquidation price" in shown
        assert f"Nearest to liquidation at {found['time']}" in shown

    def test_a_narrow_console_shows_a_long_id_whole(self, monkeypatch, capsys):
        row = (account := "account" * 10, "BTC_USDC_PERP", -500.0, 1e5, 1.1e5, 0.1)
        columns = ["account", "market", "quantity", "mark_price", "liquidation_price", "distance"]
        monkeypatch.setattr(render, "out", Console(width=80))
        render._print_liquidation_prices(pd.DataFrame([row], columns=columns), "now")
        lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        assert ["".join(line[n].strip() for line in lines) for n in (1, 2, 3)] == [account, "BTC_USDC_PERP", "-500"]

    def test_out_is_no_input(self, files):
        line = refused(*inputs("liquidation-prices", files, "--out", files["marks"]))
        assert line == f"out, value '{files['marks']}': must not be an input of the same command"


class TestWhatIf:
    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_table_is_that_of_the_library(self, suffix, tmp_path):
        frames = small_run.tables()
        fills = pd.DataFrame({"account": [1], "market": [small_run.BTC], "quantity": [-0.25], "price": [99_000.0]})
        transfers = pd.DataFrame({"account": [2], "asset": ["XAU"], "quantity": [-0.25]})
        files = small_run.write(tmp_path, small_run.venue_source(), frames, suffix)
        more = small_run.write(
            tmp_path / "more", small_run.venue_source(), {"fills": fills, "transfers": transfers}, suffix
        )
        out = tmp_path / f"table.{suffix}"
        words = ("--fills", more["fills"], "--transfers", more["transfers"], "--shock", f"{small_run.BTC}=-12.5%")
        found = as_json(*inputs("what-if", files, *words, "--shock", "XAU=0.05", "--out", out))
        table = read_table(out, "out")
        accounts, venue, marks, given = last_prices(frames)
        before = what_if(accounts, venue, marks, **given)
        shocks = {small_run.BTC: -0.125, "XAU": 0.05}
        after = what_if(accounts, venue, marks, fills=fills, transfers=transfers, shocks=shocks, **given)
        for when, wanted in (("before", before), ("after", after)):
            for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin", "imr", "mmr"):
                assert table[f"{name}_{when}"].tolist() == getattr(wanted, name).tolist()
        assert found["accounts"] == 3
        assert found["liquidatable"] == {"before": before.liquidatable.sum(), "after": after.liquidatable.sum()}

    def test_accounts_whose_status_changes(self, files):
        found = as_json(*inputs("what-if", files, "--shock", "all=-10%"))
        assert found["changed"]
        for row in found["changed"]:
            assert row["status_before"] != row["status_after"]
            assert {row["status_before"], row["status_after"]} <= {"safe", "liquidating", "below_auto_close"}
        crossed = [[row[f"status_{when}"] != "safe" for when in ("before", "after")] for row in found["changed"]]
        before, after = (found["liquidatable"][when] for when in ("before", "after"))
        assert sum(now - was for was, now in crossed) == after - before
        shown = call(*inputs("what-if", files, "--shock", "all=-10%")).stdout
        assert f"Accounts whose status changes: {len(found['changed'])}" in shown
        shown = call(*inputs("what-if", files, "--shock", "all=0")).stdout
        assert "No account changes its status." in shown

    def test_a_move_of_its_own_comes_before_that_of_all(self, tmp_path):
        frames = small_run.tables()
        files = small_run.write(tmp_path, small_run.venue_source(), frames)
        call(*inputs("what-if", files, "--shock", "all=-10%", "--shock", "XAU=0", "--out", tmp_path / "t.csv"))
        accounts, venue, marks, given = last_prices(frames)
        names = {*venue.markets.symbol, *venue.assets.symbol} - {"USDC"}
        wanted = what_if(accounts, venue, marks, shocks=dict.fromkeys(names, -0.1) | {"XAU": 0.0}, **given)
        table = read_table(tmp_path / "t.csv", "out")
        assert table["net_equity_after"].tolist() == wanted.net_equity.tolist()

    def test_ids_that_are_texts(self, tmp_path):
        frames = small_run.tables()
        for name in ("positions", "balances", "orders", "settings"):
            frames[name]["account"] = frames[name]["account"].map({1: "1", 2: "bob", small_run.PROVIDER: "b"})
        transfers = pd.DataFrame({"account": ["1"], "asset": ["USDC"], "quantity": [-1_000.0]})
        files = small_run.write(tmp_path, small_run.venue_source("b"), frames)
        transfers.to_csv(tmp_path / "transfers.csv", index=False)
        out = tmp_path / "out.csv"
        call(*inputs("what-if", files, "--transfers", tmp_path / "transfers.csv", "--out", out))
        table = pd.read_csv(out).set_index("account")
        paid = table["net_equity_before"] - table["net_equity_after"]
        assert paid.to_dict() == {"1": 1_000.0, "b": 0.0, "bob": 0.0}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "what-if: needs --shock, --fills or --transfers"),
            (["--shock", "-10%"], "shock, value '-10%': must be SYMBOL=MOVE, as all=-10% or BTC_USDC_PERP=-0.1"),
            (["--shock", "all=ten"], "shock, value 'all=ten': must be SYMBOL=MOVE, as all=-10% or BTC_USDC_PERP=-0.1"),
            (["--shock", "all=nan"], "shock, value 'all=nan': must be SYMBOL=MOVE, as all=-10% or BTC_USDC_PERP=-0.1"),
            (["--shock", "all=1%", "--shock", "all=2%"], "shock.all, value 'all=2%': must not be repeated"),
            (["--shock", "X=1%"], "shocks.X, value 0.01: must be a market or a collateral asset of the venue"),
            (["--shock", "USDC=1%"], "shocks.USDC: must not be the settle asset: it is worth 1"),
            (["--shock", "BTC=-100%"], "shocks.BTC, value -1.0: must be a finite number > -1"),
            (["--shock", "BTC=1e999"], "shocks.BTC, value inf: must be a finite number > -1"),
        ],
    )
    def test_bad_input_is_refused(self, words, said, files):
        assert refused(*inputs("what-if", files, *words)) == said


class TestReplay:
    def test_without_books(self, files, tmp_path):
        files = {name: path for name, path in files.items() if name != "books"}
        result = call(*small_run.arguments("replay", files, tmp_path / "run"))
        assert result.stderr == (
            "riskcore: no --books: without depth no slice is filled, and liquidated positions go to the backstop and "
            "ADL\n"
        )
        rows = reader.read_journal(tmp_path / "run")
        assert EVENT["book"] not in rows["event"]
        assert EVENT["backstop"] in rows["event"]
        assert "books" not in run_folder.read_manifest(tmp_path / "run")["inputs"]
        call("audit", tmp_path / "run")
        call(*small_run.arguments("replay", files, tmp_path / "run"))  # shows the complete run

    def test_run_folder_names_its_inputs(self, files, run):
        known = run_folder.read_manifest(run)
        assert known["complete"]
        assert known["ticks"] == 25
        assert known["events"] == len(reader.read_journal(run)) > 0
        assert {name: entry["path"] for name, entry in known["inputs"].items()} == {n: str(p) for n, p in files.items()}

    def test_json(self, files, run, tmp_path):
        found = as_json(*small_run.arguments("replay", files, tmp_path / "run"), "--seed", 0)
        assert (found["accounts"], found["ticks"]) == (123, 25)
        assert found["events"] == run_folder.read_manifest(run)["events"]
        assert {row["stage"] for row in found["split"]} == {"order book", "backstop", "ADL"}
        assert sum(row["notional_share"] for row in found["split"]) == pytest.approx(1)
        small_run.assert_same_run(tmp_path / "run", run)

    def test_csv_gives_the_same_bits(self, files, run, tmp_path):
        frames = {name: pd.read_parquet(path) for name, path in files.items() if name != "venue"}
        source = json.loads(files["venue"].read_text())
        call(*small_run.arguments("replay", small_run.write(tmp_path, source, frames), tmp_path / "run"))
        found, wanted = reader.read_journal(tmp_path / "run"), reader.read_journal(run)
        assert found.tobytes() == wanted.tobytes()

    def test_cut_run_is_continued(self, files, run, cut):
        known = run_folder.read_manifest(cut)
        assert (known["complete"], known["ticks"]) == (False, 11)
        found = as_json(*small_run.arguments("replay", files, cut))
        assert found["events"] == run_folder.read_manifest(run)["events"]
        small_run.assert_same_run(cut, run)

    def test_complete_run_is_shown_again(self, files, run, tmp_path):
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        found = as_json(*small_run.arguments("replay", files, run))
        assert found == as_json(*small_run.arguments("replay", files, tmp_path / "run")) | {"run": str(run)}
        line = refused(*small_run.arguments("replay", files, run), "--seed", 1)
        assert line == f"run, value '{run}': is complete with other inputs: name a new folder"
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before

    @pytest.mark.parametrize("other", ["marks", "orders", "seed"])
    def test_cut_run_of_other_inputs_is_left_alone(self, other, files, cut, tmp_path):
        more = ["--seed", 1] if other == "seed" else []
        if other == "marks":
            changed = tmp_path / "marks.parquet"
            pd.read_parquet(files["marks"]).assign(index_price=np.nan).to_parquet(changed)
            files = files | {"marks": changed}
        elif other == "orders":
            files = {name: path for name, path in files.items() if name != "orders"}
        before = {p: p.read_bytes() for p in cut.rglob("*") if p.is_file()}
        line = refused(*small_run.arguments("replay", files, cut), *more)
        assert line == f"run, value '{cut}': was cut with other inputs: name a new folder"
        assert {p: p.read_bytes() for p in cut.rglob("*") if p.is_file()} == before

    def test_a_refused_tick_is_mended(self, files, run, tmp_path):
        """What was done is kept, and the same command goes on once the table is mended, to the same end."""
        tables = {name: pd.read_parquet(files[name]) for name in ("marks", "books")}
        late = sorted(tables["marks"]["time"].unique())[15:]
        faulty = {name: tmp_path / path.name for name, path in files.items()}
        for name, path in files.items():
            table = tables.get(name)
            if table is None:
                faulty[name].write_bytes(path.read_bytes())
            else:
                table["time"] = table["time"].mask(table["time"].isin(late), table["time"] + pd.Timedelta("2D"))
                table.to_parquet(faulty[name])
        words, kept = small_run.arguments("replay", faulty, tmp_path / "run"), tmp_path / "run"
        line = refused(*words)
        time = late[0] + pd.Timedelta("2D")
        assert line.startswith(
            f"tick.time, row time {time}, value '{time}': must not be 2 days 00:00:01 after the tick"
        )
        assert line.endswith("; the ticks before this one are kept: correct the input and run the same command")
        assert run_folder.read_manifest(kept)["ticks"] == 15
        assert refused(*words) == line
        for name in tables:
            faulty[name].write_bytes(files[name].read_bytes())
        assert as_json(*words)["ticks"] == 25
        assert reader.read_journal(kept).tobytes() == reader.read_journal(run).tobytes()

    def test_same_inputs_at_another_place_are_the_same(self, files, run, cut, tmp_path):
        moved = {name: (tmp_path / path.name) for name, path in files.items()}
        for name, path in moved.items():
            path.write_bytes(files[name].read_bytes())
        call(*small_run.arguments("replay", moved, cut))
        assert reader.read_journal(cut).tobytes() == reader.read_journal(run).tobytes()

    def test_folder_of_something_else_is_left_alone(self, files, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        line = refused(*small_run.arguments("replay", files, tmp_path))
        assert line == f"run, value '{tmp_path}': must be a new or empty folder"
        assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


class TestAudit:
    def test_run_keeps_every_rule(self, run):
        assert "Every rule was kept." in call("audit", run).stdout

    def test_continued_run_keeps_every_rule(self, files, cut):
        call(*small_run.arguments("replay", files, cut))
        call("audit", cut)

    def test_json(self, run):
        found = as_json("audit", run)
        assert found["ok"] is True
        assert found["breaches"] == []
        assert all(row["breaches"] == 0 for row in found["checks"])

    def test_breaches_are_exit_code_1(self, run, tmp_path):
        bad = tmp_path / "bad"
        shutil.copytree(run, bad)
        path = bad / "journal/00001.parquet"  # part 0 is the start
        rows = pd.read_parquet(path)
        rows.loc[rows["event"] == "book", "cash"] += 1
        rows.to_parquet(path, index=False)
        found = as_json("audit", bad, code=1)
        assert found["ok"] is False
        assert found["breaches"]
        assert "Breaches: " in call("audit", bad, code=1).stdout

    def test_no_run_is_refused(self, tmp_path):
        assert str(tmp_path) in refused("audit", tmp_path)


class TestExplain:
    def test_liquidated_account(self, run):
        rows = reader.read_journal(run)
        row = int(rows["account"][rows["event"] == EVENT["book"]][0])
        account = int(pd.read_parquet(run / "start/accounts.parquet")["account"].iloc[row])
        found = as_json("explain", run, "--account", account)
        own = (rows["account"] == row) | (rows["counterparty"] == row)
        assert found["account"] == str(account)
        assert found["settle_asset"] == "USDC"
        assert len(found["events"]) == np.count_nonzero(own)
        assert found["events"][0]["event"] == "trigger"
        equity = found["equity"]
        end = equity.pop("end")
        assert sum(equity.values()) == pytest.approx(end, abs=1e-9)
        assert (equity["price"] < 0) & (equity["fee"] < 0)

    def test_json_has_numbers(self, run):
        events = as_json("explain", run, "--account", 121)["events"]
        numbers = {"quantity", "requested", "price", "cash", "fee", "mmr_before", "mmr_after"}
        words = {"time", "event", "reason", "market", "asset", "counterparty", "settle_asset"}
        assert set(events[0]) == words | numbers
        assert not any(isinstance(event[name], str) for event in events for name in numbers)
        taken = [event for event in events if event["event"] == "backstop" and event["market"]]
        rows = reader.read_journal(run)
        rows = rows[(rows["event"] == EVENT["backstop"]) & (rows["counterparty"] == 120) & (rows["market"] >= 0)]
        assert [event["counterparty"] for event in taken] == (rows["account"] + 1).tolist()
        step = load_venue(run / "venue.json").markets.step_size[rows["market"]]
        assert [event["quantity"] for event in taken] == pytest.approx((-rows["lots"] * step).tolist())
        assert [event["price"] for event in taken] == rows["price"].tolist()
        assert [event["cash"] for event in taken] == pytest.approx((rows["counter_cash"] / 1e6).tolist())

    def test_a_row_is_a_line(self, run, monkeypatch):
        monkeypatch.setattr(render, "out", Console(width=100))
        rows = reader.read_journal(run)
        for row in np.unique(rows["account"][rows["event"] == EVENT["book"]]).tolist():
            lines = call("explain", run, "--account", row + 1).stdout.splitlines()
            assert lines[0].startswith(f"Account {row + 1}: equity ")
            assert lines[1].startswith("Changed by price ")
            assert max(map(len, lines)) <= 100
            count = np.count_nonzero((rows["account"] == row) | (rows["counterparty"] == row))
            times = [line for line in lines if line.startswith("20:5") or line.startswith("21:")]
            assert len(times) == count

    @pytest.mark.parametrize("width", [40, 50, 60, 70, 80])
    def test_a_cause_and_its_amount_are_on_one_line(self, width, run, monkeypatch):
        monkeypatch.setattr(render, "out", Console(width=width))
        rows = reader.read_journal(run)
        account = rows["account"][rows["event"] == EVENT["book"]][0] + 1
        shown = call("explain", run, "--account", account).stdout
        changed = shown[shown.index("Changed by ") :].split("\n20")[0].splitlines()
        assert len(changed) > 1 or width == 80
        for line in changed:
            assert re.fullmatch(r"(Changed by )?([A-Za-z ]+ [+-][0-9.,]+[0-9](, |,?$))+", line)

    def test_untouched_account(self, run):
        rows = reader.read_journal(run)
        touched = set(rows["account"].tolist()) | set(rows["counterparty"].tolist())
        account = next(a + 1 for a in range(120) if a not in touched)
        assert f"Nothing happened to account {account}" in " ".join(
            call("explain", run, "--account", account).stdout.split()
        )
        assert as_json("explain", run, "--account", account)["events"] == []

    @pytest.mark.parametrize("account", ["999999", "alice", "-1", "²", "1.0", "", "9" * 30])
    def test_unknown_account(self, account, run):
        line = refused("explain", run, f"--account={account}")
        assert line == f"accounts.account, value '{account}': must be an account of the run"

    def test_no_run_is_refused(self, tmp_path):
        line = refused("explain", tmp_path, "--account", 1)
        assert line == f"run, value '{tmp_path}': must be a run folder with a run.json"

    @pytest.mark.parametrize("name", ["start/accounts.parquet", "journal/00001.parquet"])
    @pytest.mark.parametrize("content", [None, b"no Parquet"])
    def test_damaged_run_is_refused(self, name, content, run, tmp_path):
        shutil.copytree(run, tmp_path / "run")
        damaged = tmp_path / "run" / name
        damaged.unlink() if content is None else damaged.write_bytes(content)
        assert refused("explain", tmp_path / "run", "--account", 1)


class TestAdlStudy:
    @pytest.fixture
    def event(self, tmp_path):
        """A small event in files, and the arguments that name them."""
        names = ("winners", "requests")
        for name, frame in zip(names, adl_study.generated_event(200), strict=True):
            frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return [a for name in names for a in (f"--{name}", tmp_path / f"{name}.csv")]

    def test_generated_event(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("riskcore.cli.commands.out", Console(width=200))
        shown = call("adl-study", "--policy", "pro_rata", "--policy", "pnl_leverage").stdout
        assert "Deleveraging: 3,259,131.52 in 3 waves, deficit 48,617.56" in shown
        rows = [line.split() for line in shown.splitlines() if line.startswith("p")][1:]
        assert [(row[0], len(row)) for row in rows] == [("pro_rata", 14), ("pnl_leverage", 14)]
        monkeypatch.setattr("riskcore.cli.commands.out", Console(width=80))
        shown = call("adl-study").stdout
        assert "…" not in shown
        assert "Picture: adl-study.html" in shown
        assert (tmp_path / "adl-study.html").stat().st_size > 1e6  # plotly is in it

    def test_tables(self, event, tmp_path):
        page = tmp_path / "study.html"
        found = as_json("adl-study", *event, "--policy", "pro_rata", "--wave-gap", 100, "--out", page)
        wanted = adl_study.study(*adl_study.generated_event(200), ["pro_rata"], 100)
        assert found["total"] == wanted.total.to_dict("records")
        assert (found["waves"][0]["t_start"], len(found["waves"])) == ("2026-01-01T12:00:00+00:00", 1)
        assert found["split"] == []
        assert "plotly" in page.read_text()

    def test_run(self, run):
        found = as_json("adl-study", run, "--policy", "size", "--policy", "pro_rata")
        assert [row["waves"] for row in found["total"]] == [0, 0]
        assert [row["stage"] for row in found["split"]] == ["order book", "backstop", "ADL"] * 2
        assert call("adl-study", run, "--policy", "size").stdout == "Nothing was deleveraged.\n"

    def test_queue(self, tmp_path):
        rows = pd.DataFrame({"time": "2025-10-10T21:16:04Z", "market": "BTC", "account": range(5), "leverage": 2.0})
        rows["side"] = "long"
        rows.assign(pnl_pct=[50.0, 40.0, 30.0, 20.0, 10.0]).to_parquet(tmp_path / "queue.parquet")
        found = as_json("adl-study", "--queue", tmp_path / "queue.parquet")["agreement"]
        assert {row["policy"]: row["spearman"] for row in found} == pytest.approx(
            {"pnl_leverage": 1, "bybit": 1, "hyperliquid": 1, "pnl_pct": 1, "leverage": 0}
        )
        shown = call("adl-study", "--queue", tmp_path / "queue.parquet").stdout
        assert "5 rows in 1 burst of a time, a market and a side" in shown

    def test_what_does_not_go_together_is_refused(self, event, run):
        rule = "adl-study: needs a run folder, --winners with --requests, --queue alone, or no input at all"
        assert refused("adl-study", *event[:2]) == rule
        assert refused("adl-study", run, *event) == rule
        assert refused("adl-study", "--queue", event[1], "--out", "x.html") == rule

    def test_bad_input_is_refused(self, event, tmp_path):
        assert refused("adl-study", "--policy", "best").startswith("policy, value 'best': must be one of pnl_leverage")
        assert refused("adl-study", tmp_path) == f"run, value '{tmp_path}': must be a run folder with a run.json"
        frame = pd.read_csv(event[1])
        frame.assign(equity=frame["equity"].where(frame.index != 3)).to_csv(event[1], index=False)
        assert refused("adl-study", *event) == "winners.equity, row 3, value nan: must not be missing"

    def test_picture_that_cannot_be_written_is_refused(self, event, tmp_path):
        line = refused("adl-study", *event, "--policy", "size", "--out", tmp_path / "nowhere/study.html")
        assert line.startswith(f"out, value '{tmp_path}/nowhere/study.html': cannot be written")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_ids_from_end_to_end(suffix, files, run, tmp_path):
    ids = pd.read_parquet(run / "start/accounts.parquet")["account"]
    accounts = reader.read_journal(run)["account"]
    first = int(ids.iloc[accounts[accounts >= 0][0]])

    def named(account):
        return "alice" if account == first else f"trader {account}"

    source = json.loads(files["venue"].read_text())
    for provider in source["backstop"]:
        provider["account"] = named(provider["account"])
    frames = {name: pd.read_parquet(path) for name, path in files.items() if name != "venue"}
    for name in ("positions", "balances", "orders"):
        frames[name]["account"] = frames[name]["account"].map(named)
    path = tmp_path / "run"
    call(*small_run.arguments("replay", small_run.write(tmp_path / "in", source, frames, suffix), path))
    call("audit", path)
    events = as_json("explain", path, "--account", "alice")["events"]
    # the draws go by the id: what happens later may differ from the run of numbers
    assert events[0] == as_json("explain", run, "--account", first)["events"][0]
    assert "accounts.account, value '1'" in refused("explain", path, "--account", "1")


def test_help_names_every_command():
    text = call("--help").stdout
    assert [name for name in COMMANDS if name not in text] == []
    assert sorted(command.name or command.callback.__name__ for command in app.registered_commands) == sorted(COMMANDS)


def test_version():
    assert call("--version").stdout == f"riskcore {__version__}\n"


def test_shell_completion():
    words = {"_RISKCORE_COMPLETE": "complete_bash", "COMP_WORDS": "riskcore li", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="riskcore", env=words)
    assert result.stdout.split() == ["liquidation-prices"]


def test_module_runs():
    result = subprocess.run([sys.executable, "-m", "riskcore", "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == ""
    assert all(name in result.stdout for name in COMMANDS)


def test_a_debt_without_exposure_is_in_the_summary(tmp_path):
    """Account 1 owes 90 and has 60; no tick selects it, and the summary says so."""
    venue = sample.venue_source([]) | {"backstop": []}
    (tmp_path / "venue.json").write_text(json.dumps(venue))
    tables = {
        "positions": {"account": [2], "market": ["BTC_USDC_PERP"], "quantity": [0.1], "entry_price": [97_000.0]},
        "balances": {"account": [1, 2], "asset": ["USDC", "USDC"], "quantity": [60.0, 5_000.0]},
        "settings": {"account": [1], "unsettled": [-90.0]},
        "marks": {"time": ["2026-01-01T00:00:00"], "market": ["BTC_USDC_PERP"], "mark_price": [97_000.0]},
    }
    given = ["--venue", tmp_path / "venue.json"]
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(tmp_path / f"{name}.csv", index=False)
        given += [f"--{name}", tmp_path / f"{name}.csv"]
    found = json.loads(call("replay", *given, "--out", tmp_path / "run", "--json").stdout)
    assert found["insolvent"] == {"accounts": 1, "amount": 30.0}
    shown = call("replay", *given, "--out", tmp_path / "again").stdout
    assert "Uncovered debt of 1 account without exposure: 30.00 USDC" in shown
    assert "2 accounts, 1 tick, 0 journal rows" in shown


def test_what_nobody_took_is_in_the_summary(tmp_path):
    """Account 1 is long with next to nothing, and there is no book, no provider and no counterparty."""
    (tmp_path / "venue.json").write_text(json.dumps(sample.venue_source([]) | {"backstop": []}))
    tables = {
        "positions": {"account": [1], "market": ["BTC_USDC_PERP"], "quantity": [0.1], "entry_price": [97_000.0]},
        "balances": {"account": [1], "asset": ["USDC"], "quantity": [10.0]},
        "marks": {"time": ["2026-01-01T00:00:00"], "market": ["BTC_USDC_PERP"], "mark_price": [97_000.0]},
    }
    given = ["--venue", tmp_path / "venue.json"]
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(tmp_path / f"{name}.csv", index=False)
        given += [f"--{name}", tmp_path / f"{name}.csv"]
    found = json.loads(call("replay", *given, "--out", tmp_path / "run", "--json").stdout)
    assert found["left_open"] == {"accounts": 1, "notional": 9_700.0}
    shown = call("replay", *given, "--out", tmp_path / "again").stdout
    assert "Left open at the end: 1 account at 100 % or above, notional 9,700.00 USDC" in shown
    told = call("explain", tmp_path / "run", "--account", 1).stdout
    assert "Left open: at 100 % or above at the end, notional 9,700.00 USDC" in told
    assert "0.1 BTC_USDC_PERP stays open" in told
    assert json.loads(call("explain", tmp_path / "run", "--account", 1, "--json").stdout)["left_open"] == 9_700.0
