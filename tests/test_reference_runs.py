"""Recorded runs against the exact model: equal where the engine wrote them, and what was altered is found."""

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore import reference, sample
from riskcore.audit import REFERENCE, RULES, RunError, audit
from riskcore.cli import app
from riskcore.io import read_ticks

from .small_run import seal
from .test_audit_damage import full_run
from .wild_runs import wild_run


def run_crash(path, count, *, seed=0, ticks=60):
    """The first ticks of a crash of 60."""
    venue, tables = sample.crash(count, 60, seed=seed)
    accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances, tables.orders)
    inputs = read_ticks(venue, accounts, tables.marks, tables.books)
    engine = rc.Engine(accounts, venue, seed)
    for number in range(ticks):
        engine.step(inputs.tick(number))
    engine.save(path)


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """200 accounts in a crash of 60 ticks."""
    path = tmp_path_factory.mktemp("reference") / "crash"
    run_crash(path, 200)
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Accounts with text ids, spot markets, pools, caps, cooldown and refill of books, in two parts."""
    path = tmp_path_factory.mktemp("reference") / "full"
    full_run(path, 5, text=True)
    return path


@pytest.fixture
def copied(full, tmp_path):
    return shutil.copytree(full, tmp_path / "run")


def journal_of(path):
    return pd.read_parquet(path / "journal/00000.parquet").astype({"event": object, "reason": object})


def put(path, journal):
    journal.to_parquet(path / "journal/00000.parquet", index=False)
    seal(path)


def differences(path):
    return [(tick.tick, tick.difference) for tick in reference.replay(path) if tick.difference is not None]


def found(report):
    """Breaches of the rule."""
    return report.breaches[report.breaches["rule"] == "reference"].to_dict("records")


def test_a_crash_is_the_one_of_the_exact_model(crash):
    report = audit(crash, reference=True)
    assert report.ok
    assert report.checks["rule"].tolist() == [*RULES, *REFERENCE]
    rows = json.loads((crash / "run.json").read_text())["events"]
    assert report.checks["checked"].iloc[-1] == rows > 500
    assert {"trigger", "book", "backstop", "guard"} <= set(journal_of(crash)["event"])


def test_a_run_with_everything_is_the_one_of_the_exact_model(full):
    ticks = list(reference.replay(full))
    assert [tick.tick for tick in ticks] == list(range(9))
    assert all(tick.difference is None for tick in ticks)
    assert {row["account"] for tick in ticks for row in tick.rows if row["event"] != "guard"} > {"a01", "a05"}
    assert [row for tick in ticks for row in tick.recorded if row["counterparty"] == reference.BOOK]


MONEY_RUNS = {  # policy, how the run is drawn, and what happens in another asset than settle
    "passes": (
        {"account_order": "pro_rata", "realize_interval": 60},
        {"seed": 5, "count": 60, "ticks": 30},
        {"book", "backstop", "funding", "realize", "convert", "fund"},
    ),
    "poor": (
        {
            **{"slices_per_tick": 2, "refill_half_life": 20, "account_cap": 3000, "slice_cooldown": 5},
            **{"shortfall": "open_interest", "adl_policy": "rap_linear", "realize_interval": 60},
        },
        {"seed": 6, "count": 60, "ticks": 30, "fall": 0.3, "depth": 1500, "poor": 4000},
        {"book", "backstop", "funding", "realize", "convert", "fund", "unsettle"},
    ),
    "opposing": (
        {
            **{"harmful_slice": "backstop", "shortfall": "unsettled", "adl_counterparties": "opposing"},
            **{"position_order": "pro_rata", "market_cap": 20_000},
        },
        {"seed": 7, "count": 60, "ticks": 30, "fall": 0.3, "depth": 1500, "poor": 4000},
        {"backstop", "adl", "funding", "convert", "fund"},
    ),
}


@pytest.mark.parametrize(("policy", "drawn", "events"), MONEY_RUNS.values(), ids=MONEY_RUNS)
def test_a_run_of_several_assets_is_the_one_of_the_exact_model(policy, drawn, events, tmp_path):
    """ETH settles in USDT, and SOL is an inverse market."""
    wild_run(tmp_path / "run", policy, mixed=True, **drawn)
    ticks = list(reference.replay(tmp_path / "run"))
    assert [tick.difference for tick in ticks] == [None] * len(ticks)
    rows = [row for tick in ticks for row in tick.rows]
    assert events <= {row["event"] for row in rows if row["settle"] not in (None, "USDC")}


def test_an_altered_settle_asset_is_found(tmp_path):
    """Funding that is said to be paid in USDC, and not in the USDT of the market."""
    wild_run(tmp_path / "run", MONEY_RUNS["passes"][0], mixed=True, **MONEY_RUNS["passes"][1])
    journal = journal_of(tmp_path / "run")
    row = int(journal.index[(journal["event"] == "funding") & (journal["market"] == 1)][0])
    journal.loc[row, "settle"] = 0
    put(tmp_path / "run", journal)
    tick, difference = differences(tmp_path / "run")[0]
    assert (tick, difference.columns) == (journal.loc[row, "tick"], ("settle",))


@pytest.mark.parametrize("column", ["requested", "lots", "cash", "fee", "entry", "cost"])
def test_an_altered_amount_is_found_in_its_row(copied, column):
    """In the tick alone in which it is: the replay goes on from what the run recorded."""
    journal = journal_of(copied)
    row = int(journal.index[journal["event"] == "book"][0])
    value = int(journal.loc[row, column])
    journal.loc[row, column] = value + 1
    put(copied, journal)
    breach, *others = found(audit(copied, reference=True))
    assert (breach["tick"], breach["row"]) == (journal.loc[row, "tick"], row)
    assert f"{column} {value + 1}, not {value}" in breach["what"]
    assert breach["account"] == pd.read_parquet(copied / "start/accounts.parquet")["account"][journal["account"][row]]
    assert (column == "requested") == (not others)


@pytest.mark.parametrize(("column", "value"), [("event", "skip"), ("reason", "depth"), ("market", 0), ("account", 3)])
def test_an_altered_name_is_found(copied, column, value):
    journal = journal_of(copied)
    row = int(journal.index[(journal["event"] == "book") & (journal["market"] == 1)][0])
    journal[column] = journal[column].astype(object)
    assert journal.loc[row, column] != value
    journal.loc[row, column] = value
    put(copied, journal)
    tick, difference = differences(copied)[0]
    assert (tick, difference.columns) == (journal.loc[row, "tick"], (column,))


def test_a_row_too_few_or_too_many_is_found(copied):
    journal = journal_of(copied)
    last = int(journal.index[journal["event"] == "skip"][-1])
    put(copied, journal.drop(index=last))
    tick, difference = differences(copied)[0]
    assert tick == journal.loc[last, "tick"]
    first = int(journal.index[journal["tick"] == tick][0])
    assert difference.row == last - first
    more = pd.concat([journal.loc[:last], journal.loc[[last]], journal.loc[last + 1 :]])
    put(copied, more)
    (tick, difference) = differences(copied)[0]
    assert (tick, difference.row) == (journal.loc[last, "tick"], last - first + 1)


def test_the_order_of_rows_counts(crash, tmp_path):
    path = shutil.copytree(crash, tmp_path / "run")
    journal = journal_of(path)
    triggers = journal.index[journal["event"] == "trigger"]
    one = next(int(row) for row in triggers if row + 1 in triggers and journal["tick"][row] == journal["tick"][row + 1])
    journal.loc[[one, one + 1]] = journal.loc[[one + 1, one]].to_numpy()
    put(path, journal)
    ((tick, difference),) = differences(path)
    assert (tick, difference.columns, difference.rows) == (journal["tick"][one], ("account",), 2)


def test_an_order_that_float64_decides_is_reproduced(tmp_path):
    """Two accounts have equal MMRs on paper, which the bits of float64 order the other way in two ticks."""
    run_crash(tmp_path, 150, seed=2, ticks=15)
    assert differences(tmp_path) == []


def test_a_tick_that_cannot_be_followed_ends_the_comparison(copied):
    journal = journal_of(copied)
    row = int(journal.index[journal["event"] == "book"][0])
    journal.loc[row, "account"] = 99
    put(copied, journal)
    with pytest.raises(
        reference.TickError, match=r"^tick \d: the recorded rows cannot be applied: KeyError: 99$"
    ) as error:
        differences(copied)
    assert error.value.tick == journal.loc[row, "tick"]
    ticks = pd.read_parquet(copied / "ticks/00000.parquet")
    ticks[["given_mark", "given_index", "last_price"]] = None
    ticks.astype({"given_mark": float, "given_index": float, "last_price": float}).to_parquet(
        copied / "ticks/00000.parquet", index=False
    )
    books = pd.read_parquet(copied / "books/00000.parquet")
    books[:0].to_parquet(copied / "books/00000.parquet", index=False)
    with pytest.raises(reference.TickError, match=r"^tick 0: the exact model cannot compute it: ValueError: no mark"):
        differences(copied)


def test_folders_without_a_run_are_refused(copied, tmp_path):
    with pytest.raises(reference.RunFolderError, match=r"run\.json: cannot be read: No such file"):
        next(reference.replay(tmp_path / "nothing"))
    source = json.loads((copied / "venue.json").read_text())
    source["policy"]["adl_policy"] = "mine"
    (copied / "venue.json").write_text(json.dumps(source))
    with pytest.raises(reference.RunFolderError, match=r"adl_policy mine is not of docs/one_tick\.md$"):
        next(reference.replay(copied))
    seal(copied)
    with pytest.raises(RunError, match="adl_policy mine"):
        audit(copied, adl_policies={"mine": (lambda of: of.value, False)}, reference=True)
    source["policy"]["adl_policy"] = "size"
    (copied / "venue.json").write_text(json.dumps(source))
    (copied / "start/orders.parquet").write_bytes(b"no table")
    with pytest.raises(reference.RunFolderError, match=r"orders\.parquet: cannot be read"):
        next(reference.replay(copied))
    (copied / "run.json").write_text("{")
    with pytest.raises(reference.RunFolderError, match=r"run\.json: is not JSON$"):
        next(reference.replay(copied))


def test_the_option_of_the_command(copied):
    def call(*arguments):
        return CliRunner().invoke(app, ["audit", str(copied), *arguments])

    honest = call("--reference", "--json")
    assert honest.exit_code == 0
    assert json.loads(honest.stdout)["checks"][-1] == {"rule": "reference", "checked": 146, "breaches": 0}
    assert "reference" not in call().stdout
    journal = journal_of(copied)
    journal.loc[journal.index[journal["event"] == "skip"][0], "reason"] = "cooldown"
    put(copied, journal)
    spoiled = call("--reference")
    assert spoiled.exit_code == 1
    assert "reference: skip (cooldown): reason cooldown, not throttle" in " ".join(spoiled.stdout.split())
