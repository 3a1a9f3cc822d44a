"""Activity between ticks: accounts that are opened, transfers and fills, on a state that grows."""

from __future__ import annotations

import copy
import re
import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
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
    """Activity that brings accounts from nothing to these holdings."""
    ids = [id_ for id_ in balances["account"].unique().tolist() if id_ not in known]
    return pd.concat(
        [
            pd.DataFrame({"account": ids}).assign(action="open"),
            balances.assign(action="deposit"),
            positions.rename(columns={"entry_price": "price"}).assign(action="fill"),
        ],
        ignore_index=True,
    )


def engines(seed, adl_policy="pnl_leverage"):
    """An engine with all of a crowd, one with a part of it, and three tables of activity that bring the rest to it."""
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
        grown.apply(stage, check="off")
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
            engine.apply(stages[n], check="off")
        engine.step(tick)
        if n == 2:
            engine.save(path)
    engine.apply(
        [
            {"action": "open", "account": 500, "owner": 2},
            {"action": "deposit", "account": 2, "asset": "USDC", "quantity": 100.0},
            {"action": "deposit", "account": 500, "asset": "USDC", "quantity": 7.0},
            {"action": "transfer", "account": 500, "to_account": 2, "asset": "USDC", "quantity": 3.0},
            {"action": "withdraw", "account": 500, "asset": "USDC", "quantity": 1.0},
        ]
    )
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


def deposit(quantity=5.0, account=2, asset="USDC"):
    return {"action": "deposit", "account": account, "asset": asset, "quantity": quantity}


def move(quantity=1.0, account=1, to=3, asset="USDC"):
    return {"action": "transfer", "account": account, "to_account": to, "asset": asset, "quantity": quantity}


def fill(quantity=1.0, account=1, market="X", price=100.0, **values):
    return {"action": "fill", "account": account, "market": market, "quantity": quantity, "price": price, **values}


def place(quantity=1.0, price=90.0, side="bid", account=1, market="X", **values):
    order = {"action": "place", "account": account, "market": market, "side": side}
    return {**order, "quantity": quantity, "price": price, **values}


def action(name, account=1, **values):
    return {"action": name, "account": account, **values}


def small_engine(policy=None, step=True, orders=None, mark=100.0, **changes):
    """Account 1 is long 1 X from 100 with 100 USDC, 2 and 3 have 100 USDC; 3 is another account of 1."""
    venue = rc.load_venue(source(pools=POOLS_OF_TOK, **(policy or {}))).replace(**changes)
    positions = pd.DataFrame({"account": [1], "market": ["X"], "quantity": [1.0], "entry_price": [100.0]})
    balances = pd.DataFrame({"account": [1, 2, 3], "asset": "USDC", "quantity": 100.0})
    settings = pd.DataFrame({"account": [3], "owner": [1]})
    accounts = rc.Accounts.from_frames(venue, positions, balances, orders, settings)
    engine = rc.Engine(accounts, venue, check_screen=True)
    if step:
        engine.step(tick_at(0, mark))
    return engine


POOLS_OF_TOK = [{"symbol": "TOK", "lentQuantity": 10, "borrowedQuantity": 5}]


def tick_at(second, x=100.0, **changes):
    prices = {"GEM": 1.0, "TOK": 2.0}
    return rc.Tick(10**18 + second * 10**9, {"X": x, "Y": 100.0}, asset_prices=prices, **changes)


REFUSED = [
    (action("open"), "activity.account, row 1, value '1': must not be an account of the state"),
    (action("open", "x"), "activity.account, row 1, value 'x': must be a whole number in every row or text"),
    (action("open", 9, owner=3), "activity.owner, row 1, value '3': must be its own owner if it is an account"),
    (action("dance"), "activity.action, row 1, value 'dance': must be one of open, fill, place"),
    (action("open", 9, quantity=1.0), "activity.quantity, row 1, value '1.0': must be missing: open does not use it"),
    ({**deposit(), "asset": None}, "activity.asset, row 1, value nan: must not be missing: deposit needs it"),
    (deposit(1e-9), "activity.quantity, row 1, value '1e-09': must be at least one quantum"),
    (deposit(-1.0), "activity.quantity, row 1, value '-1.0': must be a finite number > 0"),
    (deposit(2e12), "the resulting balance must be less than 2\\*\\*60 quanta"),
    (deposit(asset="NO"), "activity.asset, row 1, value 'NO': must be a collateral asset of the venue"),
    (deposit(account=7), "activity.account, row 1, value '7': must be an account of the state"),
    (move(to=2), "activity.to_account, row 1, value '2': must be of the owner of the account, 1, not of 2"),
    (move(to=1), "activity.to_account, row 1, value '1': must be another account"),
    (move(to=7), "activity.to_account, row 1, value '7': must be an account of the state"),
    (move(asset="GEM"), "activity.quantity, row 1, value '1.0': must be at most what the account has of the asset"),
    (move(95.0), "activity.quantity, row 1, value '95.0': must leave the account an initial margin ratio below 100 %"),
    (action("withdraw", asset="USDC", quantity=95.0), "must leave the account an initial margin ratio below 100 %"),
    (action("repay", asset="USDC", quantity=1.0), "must be at most what the account owes of the asset"),
    (action("redeem", asset="USDC", quantity=1.0), "must be at most what the account lends of the asset"),
    (action("lend", asset="USDC", quantity=100.1), "must be at most what the account has of the asset"),
    (action("borrow", asset="USDC", quantity=1.0), "must be borrowed by an account that has nothing free of the asset"),
    (action("borrow", asset="TOK", quantity=5.1), "must be at most what the pool lends now"),
    (action("borrow", asset="GEM", quantity=999.0), "must leave the account an initial margin ratio below 100 %"),
    (fill(0.001), "activity.quantity, row 1, value 0.001: must be a whole number of lots"),
    (fill(0.0), "activity.quantity, row 1, value '0.0': must not be 0"),
    (fill(market="Z"), "activity.market, row 1, value 'Z': must be a market of the venue"),
    (fill(price=-1.0), "activity.price, row 1, value -1.0: must be a finite number > 0"),
    (fill(30.0), "activity.quantity, row 1, value '30.0': must leave the account an initial margin ratio below 100 %"),
    (fill(2e10, 2), "activity.price, row 1, value '100.0': the resulting costs must be less than 2\\*\\*60 quanta"),
    (fill(order="no"), "activity.order, row 1, value 'no': must be an open order of the account"),
    (place(side="buy"), "activity.side, row 1, value 'buy': must be 'bid' or 'ask'"),
    (place(price=90.05), "activity.price, row 1, value 90.05: must be a whole number of ticks"),
    (place(-1.0), "activity.quantity, row 1, value '-1.0': must be at least one lot"),
    (place(30.0), "must leave the account an initial margin ratio below 100 %"),
    (place(reduce_only=True), "activity.account, row 1, value '1': must have an opposite position to reduce"),
    (place(reduce_only="maybe"), "activity.reduce_only, row 1, value 'maybe': must be true or false"),
    (action("cancel", order="no"), "activity.order, row 1, value 'no': must be an open order of the account"),
    (action("change", order="no", quantity=1.0), "activity.order, row 1, value 'no': must be an open order"),
    (action("leverage", leverage_limit=0.1), "must leave the account an initial margin ratio below 100 %"),
    ({**fill(), "time": 10**18 - 1}, "activity.time, row 1, .*: must not be before the last tick or action"),
    ({**fill(), "tmie": 1}, "activity.tmie: is not a column of this table: did you mean time"),
    (
        action("confirm", market="X", quantity=-1.0, price=90.0),
        "must be one in which the last tick proposed a slice of the account",
    ),
]


def everything(engine, tmp_path, name):
    """Bytes of the run folder of a copy of an engine."""
    copied = copy.deepcopy(engine)
    copied.save(tmp_path / name)
    return folder_bytes(tmp_path / name)


def folder_bytes(path):
    files = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: content for name, content in files.items() if name not in ("run.json", "run.lock")}


@pytest.mark.parametrize(("refused", "message"), REFUSED)
def test_what_is_refused_changes_nothing(tmp_path, refused, message):
    engine = small_engine()
    before, columns = everything(engine, tmp_path, "before"), engine.accounts.columns
    first = [deposit(), place(0.5, order="mine", account=2), fill(0.01), action("open", 8), deposit(account=8)]
    for good in ([deposit()], first):
        row = len(good)
        shown = re.sub(r"value '([\d.e-]+)'", r"value '?\1'?", message.replace("row 1", f"row {row}"))
        with pytest.raises(rc.RiskDataError, match=shown):
            engine.apply([*good, refused])
        assert everything(engine, tmp_path, f"after{row}") == before
    assert engine.accounts.columns.lots.tolist() == columns.lots.tolist()
    assert len(engine.accounts.orders.lots) == 0
    with pytest.raises(rc.RiskDataError):
        engine.apply(refused)
    engine.step(tick_at(1))


def test_a_refusal_of_one_mapping_is_that_of_the_table():
    engine = small_engine()
    for refused, _ in REFUSED:
        messages = []
        for table in (refused, [refused], pd.DataFrame([refused])):
            with pytest.raises(rc.RiskDataError) as raised:
                engine.apply(table)
            messages.append(str(raised.value).partition(": ")[2])
        assert len(set(messages)) == 1


FORMS = {
    "frame": pd.DataFrame,
    "list": list,
    "arrow": lambda rows: pa.table(columns_of(rows)),
    "columns": lambda rows: columns_of(rows),
}


def columns_of(rows):
    names = {name: None for row in rows for name in row}
    return {name: [row.get(name) for row in rows] for name in names}


@pytest.mark.parametrize("form", FORMS)
def test_the_table_comes_in_many_forms(form):
    rows = [
        action("open", 9, owner=2, leverage_limit=5.0), deposit(50.0, 9), fill(0.5, 9, fee=0.01), place(account=9),
        place(0.2, 120.0, "ask", 9, order="exit", reduce_only=True), action("cancel", 9, order="exit"),
    ]  # fmt: skip
    engine, other = small_engine(), small_engine()
    result = engine.apply(FORMS[form](rows))
    expected = [other.apply(row).events for row in rows]
    for one, row in zip(result.events.to_dict("records"), pd.concat(expected).to_dict("records"), strict=True):
        assert {name: value for name, value in one.items() if pd.notna(value)} == {
            name: value for name, value in row.items() if pd.notna(value)
        }


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
    activity = fills.assign(action="fill")
    whole.apply(activity[:70], check="off")
    whole.apply(activity[70:], check="off")
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
        fills = [
            fill(0.5, account, market) for account, market in zip(rng.choice(list(expected), 2), MARKETS, strict=True)
        ]
        engine.apply([action("open", id_), deposit(50.0 + n, id_), *fills], check="off")
        expected[id_] = 50.0 + n
        if n % 100 == 99:
            engine.step(rc.Tick((n + 1) * 10**9, {"X": 100.0, "Y": 100.0}, asset_prices={"GEM": 1.0, "TOK": 1.0}))
    table = rc.sweep(engine.accounts, venue, {"X": 100.0, "Y": 100.0}, asset_prices={"GEM": 1.0, "TOK": 1.0}).to_frame()
    assert table.set_index("account")["net_equity"].to_dict() == expected
    assert engine.accounts.ids.tolist() == list(expected)
    assert [engine.accounts.row_of(id_) for id_ in expected] == list(range(len(expected)))


def day_of_activity(seed, count=60):
    """Fills, orders and money of three accounts, of which nothing is refused."""
    rng = np.random.default_rng(seed)
    rows = [deposit(50_000.0, account) for account in (1, 2, 3)]
    for n in range(count):
        account, market = int(rng.integers(1, 4)), str(rng.choice(MARKETS))
        side, lots = str(rng.choice(["bid", "ask"])), int(rng.integers(1, 500))
        signed, price = lots / 100 * (1 if side == "bid" else -1), int(rng.integers(950, 1050)) / 10
        match n % 6:
            case 0 | 1 | 2:
                rows.append(fill(signed, account, market, price, fee=float(rng.integers(-5, 50)) / 100))
            case 3:
                order = f"o{seed}-{n}" if n % 4 else None
                rows.append(place(lots / 100, price, side, account, market, order=f"a{n}"))
                rows.append(fill(signed, account, market, price, order=f"a{n}"))
                rows.append(place(lots / 100, price, side, account, market, order=order))
            case 4:
                rows.append(place(lots / 100, price, side, account, market, order=1000 + n))
                rows.append(action("change", account, order=str(1000 + n), quantity=lots / 50))
                rows.append(action("cancel", account, order=1000 + n))
            case 5:
                rows.append(action(str(rng.choice(["lend", "deposit"])), account, asset="USDC", quantity=lots / 7))
    return rows


def act(engine, row):
    """Carry out one action by the method of its account."""
    values = {name: value for name, value in row.items() if name not in ("action", "account")}
    getattr(engine.account(row["account"]), row["action"])(**values, check="off")


@pytest.mark.parametrize("seed", range(3))
def test_one_by_one_in_batches_and_as_a_table_give_the_same_bytes(tmp_path, seed):
    folders = []
    for name in ("methods", "one", "batches", "table"):
        engine = small_engine()
        for part in range(2):
            rows = day_of_activity(10 * seed + part)
            if name == "methods":
                for row in rows:
                    act(engine, row)
            elif name == "table":
                engine.apply(pd.DataFrame(rows), check="off")
            else:
                size = 1 if name == "one" else 7
                for first in range(0, len(rows), size):
                    engine.apply(rows[first : first + size], check="off")
            engine.step(tick_at(part + 1, 101.0))
        engine.save(tmp_path / name)
        folders.append(folder_bytes(tmp_path / name))
    assert folders[0] == folders[1] == folders[2] == folders[3]
    report = audit(tmp_path / "methods", reference=True)
    assert report.ok, report.breaches


@pytest.mark.parametrize("check", ["on", "off"])
def test_a_fill_of_an_account_is_that_of_the_table(check):
    """Prices near half a quantum, whole numbers, new markets and refusals go the way of the table."""
    quick, table = small_engine(), small_engine()
    rng, refused = np.random.default_rng(5), 0
    for n in range(400):
        quantity = round(float(rng.choice([0.01, 0.03, 0.5, 1.0])) * int(rng.choice([-1, 1])), 2)
        price = float(rng.choice([100.0, 99.9, 100.00005, 33.33335, 1e-5])) if n % 7 else 100
        fee = float(rng.choice([0.0, 1e-7, 5e-7, 0.25, -0.01]))
        row = fill(quantity, int(rng.integers(1, 4)), str(rng.choice(MARKETS)), price, fee=fee)
        done = []
        for engine, by in ((quick, act_checked), (table, table_checked)):
            try:
                done.append(by(engine, row, check))
            except rc.RiskDataError as error:
                done.append(str(error))
        assert done[0] == done[1] or np.array_equal(done[0], done[1], equal_nan=True)
        refused += isinstance(done[0], str)
    assert (refused > 0) == (check == "on")
    pd.testing.assert_frame_equal(by_columns(quick.accounts), by_columns(table.accounts))
    assert quick.ledger.book_quanta.tolist() == table.ledger.book_quanta.tolist()


def act_checked(engine, row, check):
    account = engine.account(row["account"])
    return account.fill(row["market"], row["quantity"], row["price"], row["fee"], check=check)


def table_checked(engine, row, check):
    done = engine.apply([row], check=check).fills.iloc[0]
    return done["realized_pnl"], done["entry_price"], done["position"]


def test_realised_profit_is_against_the_average_entry_without_the_fee():
    """As Hyperliquid states closedPnl of a stream of fills: of what a fill closes, a flip also opens the rest."""
    engine = small_engine(step=False)
    account, rng = engine.account(2), np.random.default_rng(8)
    size = average = Fraction(0)
    kinds = set()
    for _ in range(500):
        lots, price = int(rng.integers(1, 300)) * int(rng.choice([-1, 1])), int(rng.integers(900, 1100))
        quantity, paid = Fraction(lots, 100), Fraction(price, 10)
        done = account.fill("X", lots / 100, price / 10, 0.25, check="off")
        closed = min(abs(size), abs(quantity)) if size * quantity < 0 else Fraction(0)
        profit = closed * (paid - average) * (1 if size > 0 else -1)
        kinds.add("close" if closed else "open")
        if not closed:
            average = (abs(size) * average + abs(quantity) * paid) / (abs(size) + abs(quantity))
        elif abs(quantity) > abs(size):
            average = paid
            kinds.add("flip")
        size += quantity
        assert done.realized_pnl == pytest.approx(float(profit), abs=3e-6)
        assert done.quantity == float(size)
        assert np.isnan(done.entry_price) if not size else done.entry_price == pytest.approx(float(average), abs=1e-4)
    assert kinds == {"open", "close", "flip"}


def test_an_account_shows_what_it_has():
    engine = small_engine()
    account = engine.open(9, owner=2, leverage_limit=8.0)
    assert (account.id, account.owner, account.leverage_limit, account.status) == (9, 2, 8.0, "safe")
    account.deposit("USDC", 200.0)
    account.deposit("TOK", 10.0)
    account.lend("TOK", 4.0)
    account.fill("X", 2.0, 99.0, 0.5)
    order = account.place("Y", "ask", 1.5, 120.0)
    assert account.balances == {"USDC": (199.5, 0.0), "TOK": (6.0, 4.0)}
    assert account.positions == {"X": (2.0, 99.0, 100.0, 2.0)}
    assert account.orders == {order: ("Y", "ask", 120.0, 1.5, False)}
    table = rc.sweep(engine.accounts, engine.venue, {"X": 100.0, "Y": 100.0}, asset_prices={"GEM": 1.0, "TOK": 2.0})
    row = table.to_frame().set_index("account").loc[9]
    assert account.margin[:4] == (
        row["net_equity"], row["exposure"], row["initial_margin"], row["maintenance_margin"],
    )  # fmt: skip
    assert (account.imr, account.mmr) == (row["imr"], row["mmr"])
    account.set_leverage_limit(None)
    assert account.leverage_limit is None
    with pytest.raises(rc.RiskDataError, match="account, value 'ann': must be an account of the state"):
        engine.account("ann")


def test_who_is_liquidating_may_only_reduce():
    engine = small_engine({"slice_probability": "0.000001"})
    engine.account(1).fill("X", 8.0, 100.0)
    engine.step(tick_at(1, 93.0))
    account = engine.account(1)
    assert account.status == "liquidating"
    rule = "must not be liquidating"
    for act in (
        lambda: account.place("X", "ask", 1.0, 96.0),
        lambda: account.fill("X", 0.01, 93.0),
        lambda: account.withdraw("USDC", 0.01),
        lambda: account.transfer(3, "USDC", 0.01),
        lambda: account.lend("USDC", 0.01),
        lambda: account.borrow("TOK", 0.01),
        lambda: account.set_leverage_limit(50.0),
    ):
        with pytest.raises(rc.RiskDataError, match=rule):
            act()
    account.deposit("USDC", 0.01)
    account.fill("X", -0.01, 93.0)


def test_a_resumed_engine_takes_no_action_before_the_last_one(tmp_path):
    engine = small_engine()
    engine.apply(deposit() | {"time": 10**18 + 5 * 10**9})
    engine.save(tmp_path / "run")
    for one in (engine, rc.Engine.resume(tmp_path / "run")):
        with pytest.raises(rc.RiskDataError, match=r"row 0, .*must not be before the last tick or action"):
            one.apply(deposit() | {"time": 10**18 + 4 * 10**9})
        with pytest.raises(rc.RiskDataError, match=r"tick\.time, .*must not be before the last action"):
            one.step(tick_at(4))
        one.step(tick_at(5))


def test_a_sweep_of_the_accounts_knows_of_activity():
    """Also of a view that was taken before it, and of accounts that were opened since."""
    engine = small_engine()
    accounts = engine.accounts
    before = rc.sweep(accounts, engine.venue, {"X": 100.0, "Y": 100.0}).net_equity.tolist()
    engine.account(2).deposit("USDC", 7.0)
    engine.open(9).deposit("USDC", 3.0)
    after = rc.sweep(accounts, engine.venue, {"X": 100.0, "Y": 100.0}).net_equity.tolist()
    assert after == [before[0], before[1] + 7.0, before[2], 3.0]
    screen = rc.Screen(engine.accounts, engine.venue)
    assert len(screen.select({"X": 100.0, "Y": 100.0})) == 0


def test_exact_arithmetic_decides_at_one_hundred_percent():
    """An initial margin ratio of exactly 1 is refused, a maintenance margin ratio of exactly 1 is liquidating."""
    engine = small_engine({"slice_probability": "0.000001"})
    account = engine.account(2)
    for check in (lambda: account.fill("X", 10.0, 100.0), lambda: account.place("X", "bid", 10.0, 100.0)):
        with pytest.raises(rc.RiskDataError, match="initial margin ratio below 100 %"):
            check()
    account.deposit("USDC", 0.000001)
    account.fill("X", 10.0, 100.0)
    account.withdraw("USDC", 2.500001, check="off")
    engine.step(tick_at(1, 95.0))
    assert (account.equity, account.maintenance_margin, account.status) == (47.5, 47.5, "liquidating")
    with pytest.raises(rc.RiskDataError, match="must not be liquidating"):
        account.fill("X", 0.01, 95.0)
    account.deposit("USDC", 0.000001)
    assert account.status == "safe"
    with pytest.raises(rc.RiskDataError, match="initial margin ratio below 100 %"):
        account.fill("X", 0.01, 95.0)


def test_an_id_is_taken_as_it_is():
    engine = small_engine()
    for wrong in (1.0, True, "1", None):
        with pytest.raises(rc.RiskDataError):
            engine.account(wrong)
        with pytest.raises(rc.RiskDataError):
            engine.apply(deposit(account=wrong))


def test_orders_live_across_saves(tmp_path):
    engine = small_engine(
        orders=pd.DataFrame([{"account": 1, "market": "X", "side": "ask", "price": 120.0, "quantity": 1.0}])
    )
    one = engine.account(1)
    assert list(one.orders) == ["0"]
    assert one.place("X", "bid", 0.5, 80.0) == "1"
    one.place("X", "ask", 2.0, 130.0, reduce_only=True, order="exit")
    engine.save(tmp_path / "run")
    engine = rc.Engine.resume(tmp_path / "run", check_screen=True)
    one = engine.account(1)
    assert {id_: (o.side, o.quantity, o.reduce_only) for id_, o in one.orders.items()} == {
        "0": ("ask", 1.0, False), "1": ("bid", 0.5, False), "exit": ("ask", 1.0, True),
    }  # fmt: skip
    one.fill("X", -0.4, 120.0, order="0")
    assert (one.orders["0"].quantity, one.orders["exit"].quantity) == (0.6, 0.6)
    with pytest.raises(rc.RiskDataError, match="must be no worse than the limit price of its order"):
        one.fill("X", 0.1, 80.1, order="1")
    one.change("1", price=81.0)
    one.fill("X", 0.1, 80.1, order="1")
    one.fill("X", -0.7, 101.0)
    assert list(one.orders) == ["0", "1"]
    engine.step(tick_at(1))
    engine.save(tmp_path / "run")
    report = audit(tmp_path / "run", reference=True)
    assert report.ok, report.breaches
    events = rc.read_run(tmp_path / "run").events
    assert events.loc[events["reason"] == "reduce_only", "event"].tolist() == ["change", "cancel"]


def test_a_closed_market_takes_no_new_orders():
    engine = small_engine()
    account = engine.account(2)
    order = account.place("X", "bid", 0.5, 90.0)
    closed = {"time": 10**18 + 10**9, "market": "X", "field": "state", "value": "closed"}
    engine.step(tick_at(1, venue_changes=[closed]))
    for wrong in (
        lambda: account.place("X", "bid", 0.5, 90.0),
        lambda: account.change(order, quantity=0.1),
        lambda: account.fill("X", 0.1, 100.0),
    ):
        with pytest.raises(rc.RiskDataError, match="must not be closed"):
            wrong()
    account.fill("X", 0.1, 90.0, order=order)
    account.cancel(order)
    account.fill("X", 0.1, 100.0, check="off")
    account.fill("Y", 0.1, 100.0)


def test_a_pool_limits_borrows_and_redemptions_and_charges_for_the_running_hour():
    engine = small_engine()
    one, two = engine.account(1), engine.account(2)
    two.deposit("TOK", 3.0)
    two.lend("TOK", 3.0)
    assert engine.ledger.pool.tolist() == [0, 0, 0]
    one.borrow("TOK", 5.0, check="off")  # 10 of 13 are borrowed then
    interest = engine.ledger.pool[2]
    assert 0 < interest < 10_000
    assert one.balances["TOK"].quantity == -(5_000_000 + interest) / 1e6
    with pytest.raises(rc.RiskDataError, match="must be at most what the pool has: the rest is borrowed"):
        two.redeem("TOK", 3.0)
    two.redeem("TOK", 2.5)
    one.repay("TOK", 5.0)
    with pytest.raises(rc.RiskDataError, match="must be at most what the account owes"):
        one.repay("TOK", 1.0)
    engine.step(tick_at(1))
