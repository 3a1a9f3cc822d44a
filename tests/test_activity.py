"""Activity between ticks: accounts that are opened, transfers and fills, on a state that grows."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.reference import replay
from tests.small_run import seal
from tests.test_one_tick import source

MARKETS, ASSETS = ["X", "Y"], ["USDC", "GEM", "TOK"]
POLICY = {"fund": 5, "slice_probability": 0.6, "shortfall": "equity", "realize_interval": 10}
POOLS = [{"symbol": "GEM", "lent": 10, "borrowed": 5}]


def crowd(seed, count=60):
    """Tables of accounts with odd ids first: long X or short, with some GEM, and what each owes."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, 1 + count))
    positions, balances = [], []
    for id_ in ids.tolist():
        for market in rng.permutation(MARKETS)[: rng.integers(0, 3)].tolist():
            lots = int(rng.integers(100, 2000)) * int(rng.choice([-1, 1]))
            positions.append((id_, market, lots / 100, float(np.round(100 + rng.normal(0, 3), 1))))
        balances.append((id_, "USDC", float(np.round(rng.uniform(5, 400), 2))))
        others = rng.permutation(ASSETS[1:])[: rng.integers(0, 3)].tolist()
        balances += [(id_, asset, float(np.round(rng.uniform(0.1, 2), 3))) for asset in others]
    return (
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
    )


def ticks(count, seed):
    rng = np.random.default_rng(seed)
    for n in range(count):
        x, y = (100 * (1 - 0.2 * np.sin(np.pi * n / count)) + rng.normal(0, 1) for _ in MARKETS)
        marks = {"X": round(float(x), 1), "Y": round(float(y), 1)}
        books = {m: {"bids": [(p - 0.1, 3.0)], "asks": [(p + 0.1, 3.0)]} for m, p in marks.items()}
        yield rc.Tick(1_760_000_000 * 10**9 + 7 * n * 10**9, marks, books, asset_prices={"GEM": 100.0, "TOK": 10.0})


def by_id(table):
    return table.to_frame().sort_values("account", ignore_index=True)


def activity_of(positions, balances, known):
    """Tables of `Engine.apply` that bring accounts from nothing to these holdings."""
    ids = [id_ for id_ in balances["account"].unique().tolist() if id_ not in known]
    transfers = balances.rename(columns={"account": "to_account"}).assign(from_account=None)
    return {
        "accounts": pd.DataFrame({"account": ids}) if ids else None,
        "transfers": transfers,
        "fills": positions.rename(columns={"entry_price": "price"}),
    }


def engines(seed, adl_policy="pnl_leverage"):
    """An engine with all of a crowd, one with a part of it, and the tables of three times that bring the rest to it."""
    venue = rc.load_venue(source(backstop=[{"account": 1, "max_notional": 40}], **POLICY, adl_policy=adl_policy))
    positions, balances = crowd(seed)
    whole = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue, 5, check_screen=True)
    rng = np.random.default_rng(seed)
    stage = np.append([0, 0], rng.integers(0, 4, 59))  # by id; the provider is there from the start
    balance_stage = stage[balances["account"]]
    position_stage = np.maximum(stage[positions["account"]], rng.integers(0, 4, len(positions)))
    start = rc.Accounts.from_frames(venue, positions[position_stage == 0], balances[balance_stage == 0])
    known = set(start.ids.tolist())
    stages = []
    for n in (1, 2, 3):
        stages.append(activity_of(positions[position_stage == n], balances[balance_stage == n], known))
        known |= set(balances.loc[balance_stage == n, "account"].tolist())
    return whole, rc.Engine(start, venue, 5, check_screen=True), stages


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("adl_policy", ["pnl_leverage", "pro_rata"])
def test_a_state_that_grew_goes_on_as_one_that_had_the_rows_from_the_start(tmp_path, seed, adl_policy):
    whole, grown, stages = engines(seed, adl_policy)
    for stage in stages:
        grown.apply(**stage)
    pd.testing.assert_frame_equal(by_columns(whole.accounts), by_columns(grown.accounts))
    for n, tick in enumerate(ticks(12, seed)):
        one, other = (engine.step(tick, full_table=True) for engine in (whole, grown))
        pd.testing.assert_frame_equal(by_id(one.table), by_id(other.table))
        pd.testing.assert_frame_equal(one.raw_events, other.raw_events)
        if n == 5:
            grown.save(tmp_path / "run")
            grown = rc.Engine.resume(tmp_path / "run", check_screen=True)
    pd.testing.assert_frame_equal(by_columns(whole.accounts), by_columns(grown.accounts))
    events = set(one.raw_events["event"]) | set(rc.read_run(tmp_path / "run").raw_events["event"])
    assert {"adl", "book", "backstop", "open", "deposit", "fill"} <= events


def by_columns(accounts):
    """Holdings by id, from the columns."""
    frames = accounts.to_frames()
    positions, balances = frames.positions, frames.balances
    held = pd.concat([positions.rename(columns={"market": "item"}), balances.rename(columns={"asset": "item"})])
    return held.sort_values(["account", "item"], ignore_index=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with activity before the first tick, after the first save and at its end."""
    path = tmp_path_factory.mktemp("runs") / "active"
    _, engine, stages = engines(1)
    stages = dict(zip((0, 3, 6), stages, strict=True))
    for n, tick in enumerate(ticks(10, 1)):
        if n in stages:
            engine.apply(**stages[n])
        engine.step(tick)
        if n == 2:
            engine.save(path)
    moves = [(None, 2, 100.0), (None, 500, 7.0), (500, 2, 3.0), (500, None, 1.0)]
    transfers = pd.DataFrame(moves, columns=["from_account", "to_account", "quantity"]).assign(asset="USDC")
    engine.apply(accounts=pd.DataFrame({"account": [500], "owner": [2]}), transfers=transfers)
    engine.save(path)
    return path, engine


def test_a_run_with_activity_is_audited_and_computed_again(recorded):
    path, engine = recorded
    report = audit(path, reference=True)
    assert report.ok, report.breaches
    assert not [tick for tick in replay(path) if tick.difference]
    run = rc.read_run(path)
    assert {"open", "deposit", "withdraw", "transfer", "fill", "adl"} <= set(run.events["event"])
    pd.testing.assert_frame_equal(by_columns(run.accounts_at()), by_columns(engine.accounts))
    pd.testing.assert_frame_equal(by_columns(rc.Engine.resume(path).accounts), by_columns(engine.accounts))
    assert run.owners.set_index("owner").loc[2, "accounts"] == 2
    assert "Account" in rc.run.page(path)
    explained = rc.run.explain(path, "500")
    assert explained.events["event"].tolist() == ["open", "deposit", "transfer", "withdraw"]
    assert (explained.equity.start, explained.equity.activity, explained.equity.end) == (0.0, 3.0, 3.0)


ALTERED = [
    ("fill", {"cost": 1, "cash": 1}, "cost"),
    ("fill", {"entry": 1}, "cost"),
    ("fill", {"price": 0.1}, "cost"),
    ("fill", {"fee": 1}, "cost"),
    ("deposit", {"quanta": 1}, "replay"),
    ("deposit", {"account": 1}, "replay"),
    ("transfer", {"counterparty": -3}, "touched"),
    ("transfer", {"quanta": -(10**9)}, "stages"),
    ("withdraw", {"quanta": 2 * 10**6}, "stages"),
    ("open", {"account": -1}, "stages"),
]


@pytest.mark.parametrize(("event", "changes", "rule"), ALTERED)
def test_an_altered_row_of_activity_is_found(recorded, tmp_path, event, changes, rule):
    path = shutil.copytree(recorded[0], tmp_path / "run")
    file = max(path.glob("journal/*.parquet"))
    journal = pd.read_parquet(file)
    row = int(journal.index[journal["event"] == event][-1])
    for column, change in changes.items():
        journal.loc[row, column] += change
    journal.to_parquet(file)
    seal(path)
    report = audit(path)
    assert rule in set(report.breaches["rule"]), report.breaches
    if "account" not in changes:
        assert any(tick.difference for tick in replay(path)) or event == "deposit"


NEW = {"account": [9]}
MOVE = {"from_account": [1], "to_account": [2], "asset": ["USDC"], "quantity": [1.0]}
FILL = {"account": [1], "market": ["X"], "quantity": [1.0], "price": [100.0]}
REFUSED = [
    ({"accounts": {"account": [1]}}, "accounts.account, row 0, value '1': must not be an account of the state"),
    ({"accounts": {"account": ["x"]}}, "accounts.account, row 0, value 'x': must be of one kind"),
    ({"accounts": {"account": [8, 9], "owner": [2, 8]}}, "accounts.owner, row 1, value '8': must be its own owner"),
    ({"accounts": {"account": [9, 9]}}, "must not appear twice"),
    ({"transfers": MOVE}, "account_transfers.to_account, row 0, value 2: must be of the owner of from_account, 1, not"),
    ({"transfers": MOVE | {"to_account": [1]}}, "must be another account than from_account"),
    ({"transfers": MOVE | {"to_account": [7]}}, "to_account, row 0, value '7': must be an account of the state"),
    ({"transfers": MOVE | {"to_account": [3], "quantity": [1e-9]}}, "must be at least one quantum"),
    ({"transfers": MOVE | {"to_account": [3], "quantity": [-1.0]}}, "must be a finite number > 0"),
    ({"transfers": MOVE | {"to_account": [None], "asset": ["GEM"]}}, "must be at most what from_account has"),
    ({"transfers": MOVE | {"to_account": [3], "quantity": [95.0]}}, "must leave from_account an initial margin ratio"),
    ({"fills": FILL | {"account": [7]}}, "fills.account, row 0, value '7': must be an account of the state"),
    ({"fills": FILL | {"quantity": [0.001]}}, "must be a whole number of lots"),
    ({"accounts": NEW, "fills": FILL | {"market": ["Z"]}}, "must be a market of the venue"),
    ({"accounts": NEW, "fills": FILL | {"account": [9], "quantity": [2e10]}}, "must be less than 2\\*\\*60 quanta"),
]


@pytest.mark.parametrize(("tables", "message"), REFUSED)
def test_what_is_refused_changes_nothing(tmp_path, tables, message):
    venue = rc.load_venue(source())
    positions = pd.DataFrame({"account": [1], "market": ["X"], "quantity": [1.0], "entry_price": [100.0]})
    balances = pd.DataFrame({"account": [1, 2, 3], "asset": "USDC", "quantity": 100.0})
    settings = pd.DataFrame({"account": [3], "owner": [1]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances, settings=settings), venue)
    tick = rc.Tick(10**18, {"X": 100.0}, asset_prices={"GEM": 1.0, "TOK": 1.0})
    engine.step(tick)
    before, columns = by_columns(engine.accounts), engine.accounts.columns
    good = {"transfers": pd.DataFrame({"from_account": [None], "to_account": [2], "asset": "USDC", "quantity": 5.0})}
    with pytest.raises(rc.RiskDataError, match=message):
        engine.apply(**(good | {name: pd.DataFrame(table) for name, table in tables.items()}))
    assert engine.accounts.columns is columns
    pd.testing.assert_frame_equal(by_columns(engine.accounts), before)
    engine.save(tmp_path / "run")
    assert not len(rc.read_run(tmp_path / "run").rows)


def test_fills_of_an_engine_are_those_of_the_accounts():
    whole, _, _ = engines(3)
    rng = np.random.default_rng(0)
    count = 200
    fills = pd.DataFrame(
        {
            "account": rng.integers(1, 61, count), "market": rng.choice(MARKETS, count),
            "quantity": rng.integers(1, 900, count) / 100 * rng.choice([-1, 1], count),
            "price": rng.integers(900, 1100, count) / 10, "fee": rng.integers(-5, 50, count) / 100,
        }
    )  # fmt: skip
    after = whole.accounts.with_fills(whole.venue, fills)
    whole.apply(fills=fills[:70])
    whole.apply(fills=fills[70:])
    pd.testing.assert_frame_equal(by_columns(whole.accounts), by_columns(after))
    assert whole.ledger.book_lots.tolist() == [
        -round(100 * fills.loc[fills["market"] == market, "quantity"].sum()) for market in MARKETS
    ]


def test_many_accounts_and_rows_are_added_one_by_one():
    """The columns are laid out anew, and the sweep view packed anew, several times."""
    venue = rc.load_venue(source())
    balances = pd.DataFrame({"account": [10_000], "asset": "USDC", "quantity": 100.0})
    none = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    engine = rc.Engine(rc.Accounts.from_frames(venue, none, balances), venue, check_screen=True, record=False)
    rng = np.random.default_rng(0)
    expected = {10_000: 100.0}
    for n, id_ in enumerate(rng.permutation(9_000)[:300].tolist()):
        transfers = pd.DataFrame(
            {"from_account": [None], "to_account": [id_], "asset": ["USDC"], "quantity": [50.0 + n]}
        )
        fills = pd.DataFrame(
            {"account": rng.choice(list(expected), 2), "market": MARKETS, "quantity": 0.5, "price": 100.0}
        )
        engine.apply(accounts=pd.DataFrame({"account": [id_]}), transfers=transfers, fills=fills)
        expected[id_] = 50.0 + n
        if n % 100 == 99:
            engine.step(rc.Tick((n + 1) * 10**9, {"X": 100.0, "Y": 100.0}, asset_prices={"GEM": 1.0, "TOK": 1.0}))
    table = rc.sweep(engine.accounts, venue, {"X": 100.0, "Y": 100.0}, asset_prices={"GEM": 1.0, "TOK": 1.0}).to_frame()
    assert table.set_index("account")["net_equity"].to_dict() == expected
    assert engine.accounts.ids.tolist() == list(expected)
    assert [engine.accounts.row_of(id_) for id_ in expected] == list(range(len(expected)))
