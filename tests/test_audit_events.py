"""Runs with guards of collateral, a funding table, venue changes and a delisting: what is altered of them is found."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import RunError, audit
from tests import money_venues as mv
from tests import test_events as events
from tests.small_run import finds, seal
from tests.test_audit import journal_of, put
from tests.wild_runs import wild_run

CLOCKS = {
    "clock": {"price_path": "linear", "liquidation_interval": 8},
    "ticks": {"liquidation_interval": None, "realize_interval": 13},
}


@pytest.fixture(scope="module", params=CLOCKS)
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / request.param
    wild_run(path, CLOCKS[request.param], seed=3, count=24, ticks=40, events=True)
    return path


@pytest.fixture
def altered(run, tmp_path):
    """A way to alter a table of a copy of the run, in the part where it has most rows; returns the path of the copy."""

    def alter(table, change, named=None):
        path = tmp_path / "run"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(run, path)
        pattern = f"state/*/{table[6:]}.parquet" if table.startswith("state/") else f"{table}/*.parquet"
        frames = {file: pd.read_parquet(file) for file in sorted(path.glob(pattern))}
        counts = {
            file: len(frame) if named is None else (frame["field"] == named).sum() for file, frame in frames.items()
        }
        file = max(counts, key=counts.get)
        change(frames[file]).to_parquet(file, index=False)
        return seal(path)

    return alter


def with_value(column, row, value):
    """A change of one value of a table, of a row by its number, or of the first one with a field."""

    def change(frame):
        at = frame.index[row] if isinstance(row, int) else frame.index[frame["field"] == row][0]
        frame = frame.astype({column: object})
        frame.loc[at, column] = value(frame.loc[at, column]) if callable(value) else value
        return frame.infer_objects()

    return change


def test_honest_runs_pass(run):
    report = audit(run, reference=run.name == "ticks")
    assert report.ok, report.breaches
    journal = journal_of(run)
    found = set(zip(journal["event"], journal["reason"], strict=True))
    assert {("delist", "settlement_price"), ("cancel", "delisted"), ("funding", "rate")} <= found
    of_assets = journal[(journal["event"] == "guard") & (journal["asset"] >= 0)]["reason"]
    assert {"index_clamp", "mean_clamp", "update_cap", "mark_held", "closed_book"} <= set(of_assets)


def test_open_interest_that_a_change_between_two_ticks_asks_for(tmp_path):
    engine = events.engine_of(events.clocked())
    engine.step(events.tick(0))
    result = engine.step(events.tick(60, venue_changes=events.by_open_interest(30.25)))
    assert events.seconds_of(result)[0] == 30.25
    engine.save(tmp_path / "run")
    report = audit(tmp_path / "run", reference=True)
    assert report.ok, report.breaches


def test_asset_that_has_no_price_between_a_delisting_and_the_tick(tmp_path):
    of = mv.venue(liquidation_interval=1)
    positions = pd.DataFrame(
        [(1, mv.ETH, 1.0, 4000.0), (1, mv.BTC, 0.1, 1e5)], columns=["account", "market", "quantity", "entry_price"]
    )
    balances = pd.DataFrame([(1, "USDC", 9e3), (1, "BTC", 0.1)], columns=["account", "asset", "quantity"])
    engine = rc.Engine(rc.Accounts.from_frames(of, positions, balances), of)
    marks = {mv.ETH: 4000.0, mv.BTC: 1e5}
    engine.step(rc.Tick(mv.START, marks, asset_prices=mv.ASSET_PRICES))
    time, rows = mv.START + 5 * 10**9, [{"time": mv.START + 10**9, "market": mv.BTC, "field": "delist", "value": 1e5}]
    prices = mv.ASSET_PRICES | {"BTC": 1e5}
    result = engine.step(rc.Tick(time, marks, asset_prices=prices, venue_changes=rows))
    assert result.rows["time"].tolist() == [time]
    engine.save(tmp_path / "run")
    report = audit(tmp_path / "run", reference=True)
    assert report.ok, report.breaches


@pytest.mark.parametrize(
    ("column", "row", "value", "rule"),
    [
        ("rate", 1, lambda x: x + 0.001, "accruals"),
        ("rate", 1, 2.0, "prices"),
        ("time", -1, lambda x: x + 10**12, "prices"),
        ("tick", 1, lambda x: x - 1, "prices"),
        ("market", 0, 9, "prices"),
    ],
)
def test_an_altered_entry_of_the_funding_table_is_found(altered, column, row, value, rule):
    assert finds(altered("funding", with_value(column, row, value)), rule)


def test_an_entry_left_out_or_told_twice_is_found(altered):
    assert finds(altered("funding", lambda frame: frame.drop(index=frame.index[2])), "accruals")
    assert finds(altered("funding", lambda frame: pd.concat([frame.iloc[:1], frame])), "prices")


@pytest.mark.parametrize(
    ("field", "column", "value", "rule"),
    [
        ("delist", "value", "176.4", "accruals"),
        ("delist", "tick", lambda x: x - 1, "prices"),
        ("delist", "time", lambda x: x + 10**12, "accruals"),
        ("mmfFunction", "value", json.dumps({"type": "linear", "base": "0.0201", "slope": 0}), "ratios"),
        ("filters.price.maxPriceUpdateMultiplier", "value", '"1.0001"', "guards"),
        ("fundingInterval", "value", "6000", "accruals"),
    ],
)
def test_an_altered_venue_change_is_found(altered, field, column, value, rule):
    path = altered("venue_changes", with_value(column, field, value), field)
    assert finds(path, rule, "selection", "order")


@pytest.mark.parametrize(
    ("field", "column", "value"),
    [
        ("state", "value", "{"),
        ("state", "value", '"shut"'),
        ("state", "field", "symbol"),
        ("state", "market", 77),
        ("delist", "value", '"low"'),
        ("filters.price.minMultiplier", "field", "filters.price.tickSize"),
        ("filters.price.minMultiplier", "field", "symbol.a"),
        ("mmfFunction", "value", json.dumps({"type": "linear", "base": "0.9", "slope": 0})),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(altered, field, column, value):
    with pytest.raises(RunError, match="venue_changes"):
        audit(altered("venue_changes", with_value(column, field, value), field))


def test_a_second_delisting_is_refused(altered):
    with pytest.raises(RunError, match="delisted already"):
        audit(altered("venue_changes", lambda frame: pd.concat([frame, frame[frame["field"] == "delist"]]), "delist"))


@pytest.mark.parametrize(
    ("table", "column", "row", "value"),
    [
        ("assets", "price", 4, lambda x: x * 1.001),
        ("assets", "given_price", 4, lambda x: x * 1.5),
        ("assets", "given_price", 4, np.nan),
        ("state/assets", "price", 1, lambda x: x + 1.0),
        ("state/assets", "time", 1, lambda x: x - 1),
        ("state/assets", "own", 1, lambda x: not x),
        ("state/asset_samples", "price", 0, lambda x: x + 1.0),
        ("state/asset_samples", "count", 0, lambda x: x + 1),
        ("state/markets", "delisted", 2, False),
        ("state/markets", "funding_scheduled", 0, False),
        ("state/markets", "mark", 2, 176.5),
    ],
)
def test_an_altered_price_or_memory_is_found(altered, table, column, row, value):
    assert finds(altered(table, with_value(column, row, value)), "guards", "replay", "prices")


@pytest.mark.parametrize("reason", ["index_clamp", "mean_clamp", "update_cap", "mark_held"])
def test_an_altered_guard_row_of_an_asset_is_found(run, tmp_path, reason):
    path = shutil.copytree(run, tmp_path / "run")
    journal = journal_of(path)
    row = int(np.flatnonzero((journal["reason"] == reason) & (journal["asset"] >= 0))[0])
    for spoiled in (
        journal.drop(index=row),
        journal.assign(price=journal["price"].where(journal.index != row, 1.0)),
        journal.assign(asset=journal["asset"].where(journal.index != row, (journal["asset"][row] + 1) % 4)),
    ):
        assert finds(put(path, spoiled), "guards")


def test_delistings_are_compared_in_their_order(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    journal = journal_of(path)
    rows = np.flatnonzero(journal["event"] == "delist")
    assert len(rows) > 1
    order = np.arange(len(journal))
    order[rows[:2]] = rows[1::-1]
    for spoiled in (
        journal.iloc[order],
        journal.drop(index=rows[0]),
        journal.assign(time=journal["time"] + (journal.index == rows[-1])),
    ):
        assert finds(put(path, spoiled.reset_index(drop=True)), "accruals")
