"""Activity in a replay: after which tick a row is carried out, what is resumed, what is refused, and files of it."""

import json
import re
from importlib import import_module

import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore import Engine, RiskDataError, sample
from riskcore.audit import audit
from riskcore.cli import app
from riskcore.io import read_table, read_ticks, replay
from riskcore.record import reader, run_folder
from tests import small_run

MARKET = "SOL_USDC_PERP"
TIMES = [f"2025-10-10T21:0{minute}:00Z" for minute in range(4)]


def marks(prices=(199.0, 198.0, 197.5, 198.5)):
    return pd.DataFrame({"time": TIMES[: len(prices)], "market": MARKET, "mark_price": prices})


def row(time, action, account=1, **more):
    return {"time": f"2025-10-10T{time}Z", "action": action, "account": account} | more


def deposit(time, account=1, quantity=5.0):
    return row(time, "deposit", account, asset="USDC", quantity=quantity)


def fill(time, account=2, quantity=1.0, price=198.0, **more):
    return row(time, "fill", account, market=MARKET, quantity=quantity, price=price, **more)


ROWS = [
    deposit("20:59:59"),
    deposit("21:00:00", 2),
    fill("21:00:30"),
    row("21:00:59.999999999", "open", 7, owner=1),
    row("21:01:00", "transfer", 1, asset="USDC", quantity=20.0, to_account=7),
    row("21:02:30", "place", 7, market=MARKET, side="bid", quantity=0.5, price=150.0, order="a"),
    row("21:03:00", "cancel", 7, order="a"),
    deposit("21:03:00.000000001"),
]
TICK_OF_ROW = [-1, 0, 0, 0, 1, 2, 3]
"""After which tick each row is carried out; the last row comes after the last tick."""


@pytest.fixture
def parts():
    venue, accounts = sample.two_accounts()
    return venue, accounts, read_ticks(venue, accounts, marks(), activity=pd.DataFrame(ROWS))


def journal_of(path):
    events = rc.read_run(path).events
    return list(zip(events["tick"], events["event"], strict=True))


def test_rows_are_carried_out_after_their_tick(parts, tmp_path):
    venue, accounts, ticks = parts
    engine = replay(*parts, tmp_path / "run")
    expected = list(zip(TICK_OF_ROW, (action["action"] for action in ROWS), strict=False))
    assert journal_of(tmp_path / "run") == expected
    one = Engine(accounts, venue)
    one.apply(ROWS[:1])
    for number, tick in enumerate(ticks):
        one.step(tick)
        for action, after in zip(ROWS, TICK_OF_ROW, strict=False):
            if after == number:
                one.apply(action)
    one.save(tmp_path / "one by one")
    assert one.accounts.columns.free.tolist() == engine.accounts.columns.free.tolist()
    journals = [reader.read_journal(tmp_path / name) for name in ("run", "one by one")]
    assert journals[0].tobytes() == journals[1].tobytes()
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches
    assert replay(*parts, tmp_path / "run").ticks == 4  # complete


@pytest.mark.parametrize("end", range(5))
def test_a_run_that_was_cut_after_any_tick_goes_on(parts, tmp_path, monkeypatch, end):
    replay(*parts, tmp_path / "whole")
    step = Engine.step

    def interrupted(engine, tick):
        if engine.ticks == end:
            raise KeyboardInterrupt
        return step(engine, tick)

    with monkeypatch.context() as patched:
        patched.setattr(import_module("riskcore.run.replay"), "_SAVE_SECONDS", -1.0)
        patched.setattr(Engine, "step", interrupted)
        if end < 4:
            with pytest.raises(KeyboardInterrupt):
                replay(*parts, tmp_path / "run")
    replay(*parts, tmp_path / "run")
    small_run.assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    "other",
    [
        [ROWS[0], ROWS[1] | {"quantity": 6.0}, *ROWS[2:]],
        [ROWS[0], ROWS[1] | {"account": 1}, *ROWS[2:]],
        ROWS[1:],
        ROWS[:3],
        [*ROWS[:4], deposit("21:00:59.999999999"), *ROWS[4:]],
    ],
    ids=["another quantity", "another account", "a row less at the start", "a row less", "a row more"],
)
def test_a_run_does_not_go_on_with_other_rows_where_it_has_been(tmp_path, other):
    venue, accounts = sample.two_accounts()
    bad = [*ROWS[:4], row("21:01:10", "cancel", order="none")]
    with pytest.raises(RiskDataError, match=r"^activity\.order, row 4, value 'none': must be an open order"):
        replay(venue, accounts, read_ticks(venue, accounts, marks(), activity=pd.DataFrame(bad)), tmp_path / "run")
    ticks = read_ticks(venue, accounts, marks(), activity=pd.DataFrame(other))
    with pytest.raises(RiskDataError, match="other inputs"):
        replay(venue, accounts, ticks, tmp_path / "run")
    good = read_ticks(venue, accounts, marks(), activity=pd.DataFrame(ROWS))
    with pytest.raises(RiskDataError, match="other inputs"):
        replay(venue, accounts, good, tmp_path / "run", activity_check="off")
    replay(venue, accounts, good, tmp_path / "run")
    replay(venue, accounts, good, tmp_path / "whole")
    small_run.assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{"action": "cancel", "account": 1, "order": "a"}], "activity.time, row 0"),
        (
            [deposit("21:00:30"), deposit("21:00:29")],
            r"activity.time, row 1, value '2025-10-10 21:00:29\+00:00': must not",
        ),
        ([row("21:00:30", "sell")], "activity.action, row 0, value 'sell': must be one of open, fill"),
        ([deposit("21:00:30") | {"color": 1}], "activity.color: is not a column of this table"),
    ],
)
def test_what_no_account_may_do_is_refused_before_the_run(rows, line):
    venue, accounts = sample.two_accounts()
    with pytest.raises(RiskDataError, match=f"^{line}"):
        read_ticks(venue, accounts, marks(), activity=pd.DataFrame(rows))


# ---- The command


def files_of(tmp_path, rows, **tables):
    """Files of the two accounts, and a delisting of ETH with the second tick."""
    balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [80.0, 400.0]})
    positions = pd.DataFrame({"account": [1, 2], "market": MARKET, "quantity": [10.0, -5.0], "entry_price": 200.0})
    changes = pd.DataFrame(
        [{"time": TIMES[1], "market": "ETH_USDC_PERP", "asset": None, "field": "delist", "value": 4000.0}]
    )
    given = {
        "positions": positions, "balances": balances, "marks": marks(), "venue_changes": changes,
        "activity": pd.DataFrame(rows),
    }  # fmt: skip
    venue = sample.two_accounts()[0]
    return small_run.write(tmp_path / "inputs", venue.source, given | tables)


def call(files, out, *more):
    return CliRunner().invoke(app, [*small_run.arguments("replay", files, out), *more])


BAD = {
    "unknown account": (deposit("21:01:30", 3), "account, row 1, value '3': must be an account"),
    "unknown market": (fill("21:01:30") | {"market": "SOL"}, "market, row 1, value 'SOL': must be a market of"),
    "unknown asset": (deposit("21:01:30") | {"asset": "USD"}, "asset, row 1, value 'USD': must be a collateral asset"),
    "part of a lot": (
        fill("21:01:30", quantity=0.0001), "quantity, row 1, value 0.0001: must be a whole number of lots",
    ),
    "part of a tick": (
        row("21:01:30", "place", market=MARKET, side="bid", quantity=1.0, price=100.0001),
        "price, row 1, value 100.0001: must be a whole number of ticks",
    ),
    "delisted": (
        fill("21:01:30") | {"market": "ETH_USDC_PERP", "price": 4000.0},
        "market, row 1, value 'ETH_USDC_PERP': must not be a market that is delisted",
    ),
    "more than there is": (
        row("21:01:30", "withdraw", asset="USDC", quantity=1e6),
        "quantity, row 1, value 1000000.0: must be at most what the account has of the asset",
    ),
    "without margin": (
        fill("21:01:30", 1, 1000.0), "quantity, row 1, value 1000.0: must leave the account an initial margin ratio",
    ),
    "closed order": (row("21:01:30", "cancel", order="a"), "order, row 1, value 'a': must be an open order"),
    "a column too many": (
        deposit("21:01:30") | {"price": 3.0}, "price, row 1, value 3.0: must be missing: deposit does not use it",
    ),
}  # fmt: skip
KEPT = "; the ticks until then are kept: correct the input and run the same command"


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_refused_is_one_line(tmp_path, name):
    bad, line = BAD[name]
    files = files_of(tmp_path, [deposit("21:00:10", 2), bad])
    result = call(files, tmp_path / "run")
    assert result.exit_code == 2
    without_books, last = result.stderr.splitlines()
    assert "no --books" in without_books
    assert re.fullmatch(f"riskcore: activity.{re.escape(line)}.*{KEPT}", last), last
    assert run_folder.read_manifest(tmp_path / "run")["ticks"] == 2
    assert journal_of(tmp_path / "run")[0] == (0, "deposit")
    pd.DataFrame([deposit("21:00:10", 2), deposit("21:01:30")]).to_csv(files["activity"], index=False)
    assert call(files, tmp_path / "run").exit_code == 0
    assert [pair for pair in journal_of(tmp_path / "run") if pair[1] == "deposit"] == [(0, "deposit"), (1, "deposit")]


def test_a_duplicate_order_id_is_refused(tmp_path):
    order = row("21:00:10", "place", 2, market=MARKET, side="bid", quantity=1.0, price=100.0, order=5)
    files = files_of(tmp_path, [order, order])
    result = call(files, tmp_path / "run")
    assert result.exit_code == 2
    assert "activity.order, row 1, value '5'" in result.stderr
    assert "duplicate order id" in result.stderr
    assert journal_of(tmp_path / "run") == []


def test_rows_before_the_first_tick_need_no_check(tmp_path):
    files = files_of(tmp_path, [fill("20:00:00", 2, -1.0)])
    result = call(files, tmp_path / "refused")
    assert result.exit_code == 2
    assert "must have a price in the last tick" in result.stderr
    result = call(files, tmp_path / "run", "--activity-check", "off")
    assert result.exit_code == 0, result.stderr
    assert (-1, "fill") in journal_of(tmp_path / "run")


def test_rows_after_the_last_tick_are_counted(tmp_path):
    files = files_of(tmp_path, [deposit("21:03:00"), deposit("21:03:01"), deposit("22:00:00")])
    result = call(files, tmp_path / "run")
    assert "riskcore: 2 rows of --activity after the last tick are not used\n" in result.stderr
    assert [pair for pair in journal_of(tmp_path / "run") if pair[1] == "deposit"] == [(3, "deposit")]


def test_inputs_on_record_have_the_rows(tmp_path):
    files = files_of(tmp_path, [deposit("21:00:10"), deposit("22:00:00")])
    assert call(files, tmp_path / "run").exit_code == 0
    entry = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]["activity"]
    assert entry["rows"] == "1"
    assert entry["path"] == str(files["activity"])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("text", [False, True])
def test_ids_of_a_file_are_those_of_the_accounts(tmp_path, text, suffix):
    """Whole numbers of 64 bits with empty cells among them, text that looks like a number, and text that is `NA`."""
    ids = ["007", "8", "NA"] if text else [2**60 + 1, 2**60 + 3, 9]
    table = pd.DataFrame(
        dtype=object,
        data=[
            {"time": TIMES[0], "action": "open", "account": ids[2], "owner": ids[0]},
            {"time": TIMES[0], "action": "transfer", "account": ids[0], "asset": "USDC", "quantity": 1.0,
             "to_account": ids[2]},
            {"time": TIMES[0], "action": "place", "account": ids[1], "market": MARKET, "side": "bid", "quantity": 0.1,
             "price": 100.0, "order": "01"},
        ],
    ).astype({"quantity": float, "price": float})  # fmt: skip
    path = tmp_path / f"activity.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path, index=False)
    venue = sample.two_accounts()[0]
    none = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": ids[:2], "asset": "USDC", "quantity": 100.0})
    accounts = rc.Accounts.from_frames(venue, none, balances)
    ticks = read_ticks(venue, accounts, marks(), activity=read_table(path, "activity", accounts))
    engine = replay(venue, accounts, ticks, tmp_path / "run")
    assert engine.accounts.ids.tolist() == ids
    assert engine.accounts.owners.tolist()[2] == ids[0]
    assert list(engine.account(ids[1]).orders) == ["01"]


def test_the_demo_writes_activity_that_runs(tmp_path):
    venue, tables = sample.crash(100, 40)
    files = sample.write_inputs(venue, tables, tmp_path / "inputs")
    result = call(files, tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    events = rc.read_run(tmp_path / "run").events
    mine = events[events["account"] == 104]
    written = pd.read_csv(files["activity"])
    assert mine.loc[mine["reason"] == "request", "event"].tolist() == written["action"].tolist()
    assert mine.loc[mine["event"] == "fill", "quantity"].sum() == pytest.approx(0)
    assert audit(tmp_path / "run").ok
