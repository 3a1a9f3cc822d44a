"""The audit of a venue with several money assets and inverse contracts: honest runs pass, altered ones do not."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.audit.folder import EVENTS

from . import money_venues
from .small_run import finds, seal
from .test_audit import broken, journal_of, put

USDC, SOL, USDT, BTC = range(4)
LINEAR, IN_USDT, INVERSE = range(3)
# policy beside the defaults, weight of USDT, what accounts and ticks are drawn with
RUNS = {
    "fall": ({"slices_per_tick": 2, "slice_fraction": "0.3", "realize_interval": 90}, {"move": -0.2}),
    "rise": (
        {"realize_interval": 60, "refill_half_life": 30, "fund": 1000, "slice_cooldown": 60, "account_cap": 9000},
        {"move": 0.25, "seed": 1, "depth": 3e4, "delisted": (money_venues.ETH, 4_900.0)},
    ),
    "passes": (
        {"account_order": "pro_rata", "slices_per_tick": 2, "slice_fraction": "0.2"},
        {"seed": 2, "trades": (0.01, -1.0, 10.0)},
    ),
    "gap": (
        {"fund": 500, "slices_per_tick": 1, "adl_policy": "bitmex", "adl_counterparties": "opposing"},
        {"move": -0.6, "seed": 3, "depth": 5e3, "capacity": "20000", "count": 40},
    ),
    "socialised": (
        {"fund": 100, "shortfall": "equity", "backstop_below_zero": "zero_price", "realize_interval": 120},
        {"move": 0.8, "seed": 4, "depth": 5e3, "capacity": "20000", "count": 40},
    ),
    "unsettled": (
        {"fund": 100, "shortfall": "unsettled", "adl_policy": "rap_linear", "realize_interval": 40},
        {"move": -0.5, "seed": 5, "depth": 5e3, "capacity": "5000", "count": 40},
    ),
}  # fmt: skip


def mixed_run(
    path, policy, *, move=-0.2, seed=0, depth=1e5, capacity="2000000", count=60, ticks=16, trades=(), delisted=None
):
    """Write a run with funding in every market, over a full hour, in two parts; ``trades`` end it.

    ``delisted``: a market and the price at which it is settled with the last tick.
    """
    source = money_venues.source(money_venues.PROVIDERS, **policy)
    for row in source["markets"][:3]:
        row |= {"fundingInterval": 100_000}
    for row in source["backstop"]:
        row["capacity_per_min"] = capacity
    venue = rc.load_venue(source)
    accounts = rc.Accounts.from_frames(venue, **money_venues.frames(count, seed, money_venues.PROVIDERS))
    engine = rc.Engine(accounts, venue, seed)
    for number, tick in enumerate(money_venues.ticks(ticks, seed, move, depth=depth)):
        if delisted is not None and number == ticks - 1:
            change = {"market": delisted[0], "asset": None, "field": "delist", "value": delisted[1]}
            tick = replace(tick, venue_changes=[{"time": tick.nanoseconds(), **change}])
        engine.step(tick)
        if number == ticks // 2:
            engine.save(path, complete=False)
    for (market, price), quantity in zip(money_venues.MARKS.items(), trades, strict=False):
        engine.account(1).fill(market, quantity, price, 0.01, check="off")
    engine.save(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("money")
    for name, (policy, drawn) in RUNS.items():
        mixed_run(folder / name, policy, **drawn)
    return {name: folder / name for name in RUNS}


@pytest.fixture(scope="module")
def journals(runs):
    return {name: journal_of(path) for name, path in runs.items()}


@pytest.fixture
def altered(runs, tmp_path):
    """A way to put another journal in a copy of a run; returns the path of the copy."""

    def with_journal(name, journal):
        if not (tmp_path / name).exists():
            shutil.copytree(runs[name], tmp_path / name)
        return put(tmp_path / name, journal)

    return with_journal


def of(journal, event, **columns):
    """Numbers of the rows of an event that have these values."""
    mine = journal["event"] == event
    for column, value in columns.items():
        mine &= journal[column] == value
    return np.flatnonzero(mine)


def find(journals, event, **columns):
    """The shortest run with such rows, its journal, and the number of the middle one."""
    found = {name: of(journal, event, **columns) for name, journal in journals.items()}
    name = min((name for name in found if len(found[name])), key=lambda name: len(journals[name]))
    return name, journals[name].copy(), int(found[name][len(found[name]) // 2])


@pytest.mark.parametrize("name", RUNS)
def test_an_honest_run_passes(runs, name):
    report = audit(runs[name])
    assert report.ok, report.breaches.to_string()


def test_a_run_of_a_venue_with_required_keys_alone_passes(tmp_path):
    def market(symbol, kind, base):
        filters = {"price": {"tickSize": "0.5"}, "quantity": {"stepSize": "0.001" if kind == "PERP" else "1"}}
        function = {"type": "sqrt", "base": "0.02", "factor": "0"}
        kinds = {"symbol": symbol, "marketType": kind, "baseSymbol": base}
        return kinds | {"filters": filters, "imfFunction": function, "mmfFunction": function}

    haircut = {"weight": "0.9", "kind": {"type": "identity"}}
    markets = [market("BTC_PERP", "PERP", "BTC"), market("BTC_IPERP", "IPERP", "BTC")]
    collateral = [{"symbol": "BTC", "quantum": "0.00000001", "haircutFunction": haircut}]
    venue = rc.load_venue({"settle_asset": "USDC", "markets": markets, "collateral": collateral})
    columns = ["account", "market", "quantity", "entry_price"]
    positions = pd.DataFrame(
        [["a", "BTC_PERP", 0.5, 60_000.0], ["b", "BTC_IPERP", 45_000.0, 60_000.0]], columns=columns
    )
    balances = pd.DataFrame({"account": ["a", "b"], "asset": ["USDC", "BTC"], "quantity": [2_000.0, 0.05]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    for second, mark in enumerate([58_000.0] + 9 * [57_000.0]):
        book = {"bids": [(mark - 10, 50_000.0)], "asks": [(mark + 10, 50_000.0)]}
        marks, books = dict.fromkeys(venue.markets.symbol, mark), dict.fromkeys(venue.markets.symbol, book)
        engine.step(rc.Tick(1_767_225_600_000_000_000 + second * 10**9, marks, books))
    engine.save(tmp_path / "run")
    assert {"a", "b"} <= set(rc.read_run(tmp_path / "run").fills["account"])
    assert audit(tmp_path / "run", reference=True).breaches.empty


def test_every_asset_and_contract_takes_part(journals):
    """Money of every kind of row is paid in every asset that it can be paid in."""
    rows = pd.concat(journals.values())
    for event in ("funding", "realize", "book", "backstop", "adl"):
        assert set(rows.loc[(rows["event"] == event) & (rows["market"] >= 0), "settle"]) == {USDC, USDT, BTC}, event
    settled = rows[rows["reason"].isin(["settlement", "close_out"])]
    assert set(settled.loc[settled["event"] == "unsettle", "settle"]) >= {USDC, USDT}
    assert len(rows[(rows["event"] == "convert") & (rows["reason"] == "settlement") & (rows["settle"] != USDC)])
    assert set(rows.loc[rows["event"] == "fund", "settle"]) >= {USDC, USDT}
    assert len(rows[(rows["event"] == "book") & (rows["settle"] == BTC) & (rows["fee"] > 0)])


@pytest.mark.parametrize("event", [name for name, kind in EVENTS.items() if "cash" in kind.changes.split()])
def test_money_of_another_asset_is_found(altered, journals, event):
    """The settle column of a row of each event, and every amount of it."""
    if not any(len(of(journal, event)) for journal in journals.values()):
        pytest.fail(f"no run has a row {event}")
    name, journal, row = find(journals, event)
    for asset in [-1, SOL, *({USDC, USDT, BTC} - {journal.loc[row, "settle"]})][::2]:
        spoiled = journal.copy()
        spoiled.loc[row, "settle"] = asset
        assert finds(altered(name, spoiled)), asset
    for column in ["asset", *EVENTS[event].changes.split()]:
        spoiled = journal.copy()
        spoiled.loc[row, column] += 1
        assert finds(altered(name, spoiled)), column


@pytest.mark.parametrize("market", [LINEAR, IN_USDT, INVERSE])
@pytest.mark.parametrize(
    ("event", "changes", "rule"),
    [
        ("book", {"cash": 1, "counter_cash": -1}, "book"),
        ("book", {"fee": 1}, "cost"),
        ("funding", {"cash": 1, "counter_cash": -1}, "accruals"),
        ("realize", {"cash": 1, "cost": 1}, "accruals"),
        ("backstop", {"cash": 1, "counter_cash": -1}, "stages"),
        ("backstop", {"cost": 1, "cash": 1}, "cost"),
    ],
)
def test_an_amount_that_is_a_quantum_off_is_found_by_its_rule(altered, journals, market, event, changes, rule):
    """The row is well formed; of an inverse market the levels of a fill are rounded one by one."""
    name, journal, row = find(journals, event, market=market)
    for column, change in changes.items():
        journal.loc[row, column] += change
    assert finds(altered(name, journal), rule, at=row)


@pytest.mark.parametrize("market", [LINEAR, IN_USDT, INVERSE])
def test_funding_with_the_wrong_sign_is_found(altered, journals, market):
    journal = journals["fall"].copy()
    rows = of(journal, "funding", market=market)
    journal.loc[rows, ["cash", "counter_cash"]] *= -1
    report = audit(altered("fall", journal))
    assert len(report.breaches[report.breaches["rule"] == "accruals"]) >= len(rows)


@pytest.mark.parametrize("reason", ["settlement", "close_out"])
def test_an_unsettled_amount_in_another_asset_is_found(altered, journals, reason):
    name, journal, row = find(journals, "unsettle", reason=reason, settle=USDT)
    journal.loc[row, "settle"] = USDC
    rule = "stages" if reason == "close_out" else "accruals"
    assert {"replay", rule} <= broken(audit(altered(name, journal)))


def state_table(path, name):
    """Path of a table of the last state."""
    return max((path / "state").iterdir()) / f"{name}.parquet"


def test_a_fee_that_is_given_back_everywhere_is_found(runs, journals, tmp_path):
    """Row, balance and fund agree: only the rule of the fee tells."""
    path, (name, journal, row) = tmp_path / "run", find(journals, "book", market=IN_USDT)
    shutil.copytree(runs[name], path)
    fee, account = journal.loc[row, ["fee", "account"]]
    journal.loc[row, "fee"] = 0
    put(path, journal)
    balances, ledger = (pd.read_parquet(state_table(path, table)) for table in ("balances", "ledger"))
    balances.loc[(balances["account"] == account) & (balances["asset"] == USDT), "quanta"] += fee
    ledger.loc[(ledger["ledger"] == "fund") & (ledger["item"] == USDT), "value"] -= fee
    balances.to_parquet(state_table(path, "balances"), index=False)
    ledger.to_parquet(state_table(path, "ledger"), index=False)
    report = audit(seal(path))
    first = report.breaches[report.breaches["row"] >= 0].iloc[0]
    assert (first["rule"], first["row"]) == ("cost", row)
    assert "conservation" not in broken(report)


@pytest.mark.parametrize(("name", "run"), [("fund", "passes"), ("shortfall", "gap")])
def test_a_ledger_of_another_asset_is_found(runs, tmp_path, name, run):
    path = shutil.copytree(runs[run], tmp_path / "run")
    ledger = pd.read_parquet(state_table(path, "ledger"))
    rows = np.flatnonzero(ledger["ledger"] == name)
    assert ledger.loc[rows, "value"].any()
    ledger.loc[rows, "value"] = np.roll(ledger.loc[rows, "value"], 1)
    ledger.to_parquet(state_table(path, "ledger"), index=False)
    assert {"replay", "conservation"} <= broken(audit(seal(path)))


def test_an_altered_state_is_found(runs, tmp_path):
    path = shutil.copytree(runs["unsettled"], tmp_path / "run")
    for table in ("balances", "positions", "ledger"):
        file = state_table(path, table)
        kept = pd.read_parquet(file)
        for column in kept.columns[2:]:
            for row in range(len(kept))[:: max(len(kept) // 2, 1)]:
                spoiled = kept.copy()
                spoiled.loc[row, column] += 1
                spoiled.to_parquet(file, index=False)
                assert finds(seal(path)), (table, column, row)
        kept.to_parquet(file, index=False)


def changed(path, change):
    """Change the venue file of a run."""
    source = json.loads((path / "venue.json").read_text())
    change(source)
    (path / "venue.json").write_text(json.dumps(source))


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda venue: venue["collateral"][USDT]["haircutFunction"].update(weight="1"), {"selection"}),
        (lambda venue: venue["collateral"][BTC]["haircutFunction"].update(weight="1"), {"selection"}),
        (lambda venue: venue["markets"][INVERSE].update(multiplier="101"), {"selection", "accruals"}),
        (lambda venue: venue["markets"][INVERSE].update(marketType="PERP", settle="BTC"), {"selection", "accruals"}),
        (lambda venue: venue["markets"][INVERSE].update(settle="USDT"), {"rows"}),
        (lambda venue: venue["markets"][IN_USDT].update(settle="USDC"), {"rows"}),
        (lambda venue: venue["markets"][LINEAR].update(multiplier="1.01"), {"selection", "accruals"}),
        (lambda venue: venue["policy"].update(liquidation_fee="0.009"), {"cost"}),
    ],
)  # fmt: skip
def test_a_run_by_other_figures_is_found(runs, tmp_path, change, rules):
    """The journal is all of a piece: only the rules tell."""
    path = shutil.copytree(runs["fall"], tmp_path / "run")
    changed(path, change)
    assert rules <= broken(audit(seal(path)))


def test_another_price_of_a_settle_asset_is_found(runs, tmp_path):
    """USDT counted as one unit of account."""
    path = shutil.copytree(runs["fall"], tmp_path / "run")
    for file in sorted((path / "assets").iterdir()):
        prices = pd.read_parquet(file)
        prices.loc[prices["asset"] == USDT, "price"] = 1.0
        prices.to_parquet(file, index=False)
    assert {"ratios", "accruals"} <= broken(audit(seal(path)))
