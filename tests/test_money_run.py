"""Runs with several money assets and inverse contracts: they equal the exact model, and conserve every asset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import reference, run
from riskcore.adl_study import study_run
from riskcore.liquidation import waterfall
from riskcore.record import EVENT, EVENTS, InvariantError, Totals
from riskcore.run import RecordedRun, report

from . import money_venues as mv
from .comparison import assert_same_journal, assert_same_state, totals
from .strategies import Scene, TickInput

USDC, _, USDT, BTC = range(4)
# policy beside the defaults, and what accounts and ticks are drawn with
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fall": ({"realize_interval": 90, "slices_per_tick": 2, "slice_fraction": "0.3"}, {"move": -0.2}),
    "slices": ({"fund": 100, "account_order": "pro_rata"}, {"move": 0.08, "seed": 6, "ticks": 8}),
    "deleveraged": ({"fund": 100, "adl_policy": "hyperliquid"}, {"move": -0.5, "seed": 3, "books": False}),
    "below": (
        {"fund": 50, "shortfall": "equity", "backstop_below_zero": "zero_price", "realize_interval": 60},
        {"move": 0.8, "seed": 4, "books": False, "capacity": "30000"},
    ),
    "unsettled": (
        {"fund": 20, "shortfall": "unsettled", "adl_policy": "binance", "realize_interval": 40},
        {"move": -0.6, "seed": 5, "books": False, "capacity": "5000", "pools": "Closed"},
    ),
}
HAPPENED = {
    "fall": {("backstop", USDT), ("backstop", BTC), ("realize", USDT), ("realize", BTC), ("convert", BTC)},
    "slices": {("book", USDC), ("book", USDT), ("book", BTC)},
    "deleveraged": {("adl", USDC), ("fund", USDC), ("fund", BTC), ("funding", USDT), ("funding", BTC)},
    "below": {("adl", USDT), ("adl", BTC), ("socialize", USDC), ("unsettle", USDT), ("unsettle", BTC)},
    "unsettled": {("adl", USDT), ("adl", BTC), ("unsettle", USDT), ("unsettle", BTC), ("convert", USDT)},
}
"""Events and settle assets that each run must have."""


def money_scene(policy, *, move, seed=0, books=True, capacity="2000000", pools="Open", count=24, ticks=10) -> Scene:
    """Funding every 100 s in every market, over a full hour."""
    source = mv.source(mv.PROVIDERS, **{"slice_probability": 1, **policy})
    for row in source["markets"][:3]:
        row["fundingInterval"] = 100_000
    for row in source["backstop"]:
        row["capacity_per_min"] = capacity
    for row in source["borrow_lend"]:
        row["state"] = pools
    tables = mv.frames(count, seed, mv.PROVIDERS)
    orders = tables["orders"].assign(reduce_only=False)
    drawn = [
        TickInput(tick.time, tick.marks, tick.indexes, tick.asset_prices, tick.books if books else {})
        for tick in mv.ticks(ticks, seed, move, depth=5e4, seconds=60)
    ]
    rows = [table.to_dict("records") for table in (tables["positions"], tables["balances"], orders)]
    settings = [
        {name: value for name, value in row.items() if value == value} for row in tables["settings"].to_dict("records")
    ]
    return Scene(source, *rows, settings, drawn, seed)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_equals_the_exact_model(name, tmp_path):
    """Every tick, also of an engine that was saved and resumed; no asset is made or lost."""
    policy, drawn = RUNS[name]
    scene = money_scene(policy, **drawn)
    oracle, state = scene.load_reference()
    venue, accounts = scene.load()
    engine, seen = rc.Engine(accounts, venue, scene.seed, check_screen=True), set()
    everything = totals(engine, venue)
    for number, inputs in enumerate(scene.ticks):
        after, rows, looked = reference.step(oracle, state, *inputs.reference_arguments(), seed=scene.seed)
        result = engine.step(inputs.tick())
        assert_same_journal(result, rows, oracle, state, looked.prices)
        assert_same_state(engine, oracle, after)
        assert totals(engine, venue) == everything
        state = after
        seen |= {(EVENTS[row["event"]], int(row["settle"])) for row in result.rows}
        if number in (3, 6):
            engine.save(tmp_path)
            engine = rc.Engine.resume(tmp_path, check_screen=True)
    assert seen >= HAPPENED[name], sorted(seen)


def stepped(name, path):
    """The engine after a run of `RUNS`, the results of its ticks, and its folder."""
    policy, drawn = RUNS[name]
    scene = money_scene(policy, **drawn)
    venue, accounts = scene.load()
    engine = rc.Engine(accounts, venue, scene.seed)
    results = [engine.step(inputs.tick()) for inputs in scene.ticks]
    engine.save(path)
    return engine, results, path


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A run in which the fund pays in USDC and in BTC."""
    return stepped("deleveraged", tmp_path_factory.mktemp("crash") / "run")


def test_tables_name_the_asset_of_their_amounts(crash):
    engine, results, path = crash
    kept, venue = rc.read_run(path), engine.venue
    events = kept.events
    symbols = np.array([*venue.assets.symbol, ""], object)
    assert events["settle_asset"].fillna("").tolist() == symbols[kept.rows["settle"]].tolist()
    quantum = np.array([*venue.assets.quantum_size, 0.0])[kept.rows["settle"]]
    np.testing.assert_allclose(events["cash_amount"], kept.rows["cash"] * quantum, rtol=1e-14)
    fills = kept.fills
    assert set(fills["settle_asset"]) == {"USDC", "USDT", "BTC"}
    inverse = fills["market"] == mv.IBTC
    per_unit = np.where(inverse, 100.0 / fills["price"], fills["price"])
    np.testing.assert_allclose(fills["notional"], fills["quantity"] * per_unit, rtol=1e-12)
    assert "BTC" in repr(next(result for result in results if (result.fills["settle_asset"] == "BTC").any()))


def test_the_summary_is_in_the_unit_of_account(crash):
    engine, _, path = crash
    kept, recorded = rc.read_run(path), RecordedRun.read(path)
    fills, summary = kept.fills, kept.summary
    closes = np.isin(kept.rows["event"], [EVENT["book"], EVENT["backstop"], EVENT["adl"]]) & (kept.rows["market"] >= 0)
    rows = kept.rows[closes]
    price = recorded.asset_price[rows["tick"], rows["settle"]]
    worth = (fills["notional"] * price).groupby(fills["stage"]).sum()
    split = summary.split.set_index("stage")["notional"]
    for stage, notional in worth.items():
        assert split[stage] == pytest.approx(notional)
    ledger, quantum = engine.ledger, engine.venue.assets.quantum_size
    symbols = engine.venue.assets.symbol
    assert summary.fund_assets == pytest.approx({symbols[k]: ledger.fund[k] * quantum[k] for k in (USDC, USDT, BTC)})
    assert summary.fund_end == pytest.approx((ledger.fund * quantum) @ recorded.asset_price[-1])
    line = report.timeline(recorded)
    assert line["fund"].iloc[-1] == pytest.approx(summary.fund_end)
    assert line[list(split.index)].iloc[-1].to_numpy() == pytest.approx(split.to_numpy())
    paid = kept.rows[kept.rows["event"] == EVENT["fund"]]
    worth = paid["cash"] * quantum[paid["settle"]] * recorded.asset_price[paid["tick"], paid["settle"]]
    assert summary.shortfall["paid_by_fund"] == pytest.approx(worth.sum())
    assert {USDC, BTC} <= set(paid["settle"].tolist())
    with pytest.raises(rc.RiskDataError, match=r"^report\.asset_price: must be given for a venue with several settle"):
        report.waterfall_split(kept.rows, kept.venue)


def test_the_profit_of_providers_follows_the_coin(crash):
    """What a provider paid in BTC is worth another amount at every later price of BTC."""
    engine, _, path = crash
    recorded = RecordedRun.read(path)
    pnl = report.provider_pnl(recorded)
    for provider, table in pnl.groupby("provider"):
        row = engine.accounts.row_of(provider)
        rows = recorded.rows
        rows = rows[(rows["event"] == EVENT["backstop"]) & (rows["counterparty"] == row)]
        expected = 0.0
        for taken in rows:
            expected += (taken["counter_cash"] - taken["counter_cost"]) * recorded.quantum_value[-1, taken["settle"]]
            if taken["lots"]:
                expected -= taken["lots"] * recorded.lot_value[-1, taken["market"]]
            if taken["quanta"]:
                expected -= taken["quanta"] * recorded.quantum_value[-1, taken["asset"]]
        assert table["pnl"].iloc[-1] == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_sentences_name_the_asset(crash):
    engine, results, path = crash
    rows = np.concatenate([result.rows for result in results])
    paid = rows[(rows["event"] == EVENT["fund"]) & (rows["settle"] == BTC)][0]
    told = run.explain(path, engine.accounts.ids[paid["account"]].item())
    assert told.settle_asset == "USDC"
    amount = paid["cash"] * 1e-8
    assert f"{amount:,.8g} BTC of shortfall paid by the fund" in told.events["what"].tolist()
    sold = told.events[(told.events["asset"] == "BTC") & (told.events["event"] == "convert")]
    assert sold["settle_asset"].tolist() == ["USDC"] * len(sold)
    funding = rows[(rows["event"] == EVENT["funding"]) & (rows["settle"] == USDT)][0]
    what = run.explain(path, engine.accounts.ids[funding["account"]].item()).events["what"]
    assert f"funding of {funding['cash'] * 1e-6:+,.8g} USDT for {mv.ETH}" in what.tolist()
    assert "Amounts in USDC; money in USDT, BTC counts at the prices of its ticks." in run.page(path)


def test_deleveraging_is_studied_in_the_unit_of_account(tmp_path):
    """Needed by hand from the journal: the mark's worth of what each winner lost, less what it got for it."""
    _, results, path = stepped("unsettled", tmp_path / "run")
    recorded, rows = RecordedRun.read(path), np.concatenate([result.rows for result in results])
    deals = rows[(rows["event"] == EVENT["adl"]) & (rows["market"] >= 0)]
    total = study_run(path, ["binance"]).total.iloc[0]
    assert total["fills"] == len(deals) > 0
    lot = recorded.lot_value[deals["tick"], deals["market"]]
    got = (deals["counter_cash"] - deals["counter_cost"]) * recorded.quantum_value[deals["tick"], deals["settle"]]
    assert total["closed"] == pytest.approx(np.abs(deals["lots"] * lot).sum())
    assert total["needed"] == pytest.approx(np.maximum(deals["lots"] * lot - got, 0).sum(), abs=1e-3)


@pytest.mark.parametrize(
    ("event", "settle", "column", "by", "equation"),
    [
        ("backstop", BTC, "settle", USDC - BTC, "a row's money is of another asset than its market's, or of none"),
        ("backstop", USDT, "settle", -USDT - 1, "a row's money is of another asset than its market's, or of none"),
        ("convert", USDC, "settle", USDT - USDC, "free quanta of USD|more than one amount of account"),
        ("fund", BTC, "settle", USDC - BTC, "more than one amount of account"),
        (
            "fund",
            BTC,
            "fund",
            1,
            r"cash - cost \+ counter_cash - counter_cost \+ fund \+ unsettled of a row is 1, not 0",
        ),
        ("backstop", BTC, "counter_entry", 3, r"entry in BTC_USD_IPERP of account \d+ is 3 less"),
    ],
)
def test_a_tampered_row_stops_the_engine(event, settle, column, by, equation, monkeypatch):
    policy, drawn = RUNS["deleveraged"]
    scene, tampered = money_scene(policy, **drawn), []
    venue, accounts = scene.load()
    engine = rc.Engine(accounts, venue, scene.seed)

    def tamper(state):
        rows = state.journal.rows()
        chosen = np.flatnonzero((rows["event"] == EVENT[event]) & (rows["settle"] == settle))
        if chosen.size and not tampered:
            rows[column][chosen[-1]] += by
            state.journal._blocks = [rows]
            tampered.append(engine.ticks)

    real = waterfall.phases
    monkeypatch.setattr(waterfall, "phases", lambda policy, **host: (*real(policy, **host), tamper))
    with pytest.raises(InvariantError, match=equation):
        all(engine.step(inputs.tick()) for inputs in scene.ticks)
    assert tampered == [engine.ticks]


@pytest.mark.parametrize("asset", [USDC, USDT, BTC])
@pytest.mark.parametrize("name", ["fund", "shortfall", "unsettled"])
def test_money_that_appears_stops_the_engine(name, asset, monkeypatch):
    policy, drawn = RUNS["deleveraged"]
    scene = money_scene(policy, **drawn)
    venue, accounts = scene.load()
    engine, held = rc.Engine(accounts, venue, scene.seed), []

    def make(state):
        if name != "unsettled":
            getattr(state.ledger, name)[asset] += 7
            return
        columns = state.accounts.columns
        account = int(state.selected[0])
        held.append(next(j for j in state.accounts.balances_of(account) if columns.asset[j] == asset))
        columns.unsettled[held[0]] += 7

    real = waterfall.phases
    monkeypatch.setattr(waterfall, "phases", lambda policy, **host: (*real(policy, **host), make))
    symbol = venue.assets.symbol[asset]
    with pytest.raises(InvariantError, match=f"^{name} (quanta )?of {symbol} .*is 7 more than before the tick"):
        all(engine.step(inputs.tick()) for inputs in scene.ticks)


@pytest.mark.parametrize("seed", range(3))
def test_long_crashes_conserve_every_asset(seed, tmp_path):
    """200 accounts fall and rise over 40 ticks, with crashes between saves, after which the engine resumes."""
    chance = np.random.default_rng(seed)
    policy = {"slice_probability": "0.5", "fund": 500, "realize_interval": 120, "slices_per_tick": 2}
    policy["shortfall"] = ("equity", "unsettled", "open_interest")[seed]
    venue, accounts = mv.accounts(200, 10 + seed, mv.PROVIDERS, **policy)
    engine = rc.Engine(accounts, venue, seed, check_screen=True)
    everything, rows = totals(engine, venue), []
    for number, tick in enumerate([*mv.ticks(20, seed, -0.3), *mv.ticks(20, seed + 50, 0.3)]):
        tick = rc.Tick(mv.START + number * 60 * 10**9, *list(vars(tick).values())[1:])
        rows.append(engine.step(tick).rows)
        assert totals(engine, venue) == everything
        assert (engine.ledger.fund >= 0).all()
        assert (engine.ledger.shortfall <= 0).all()
        if chance.random() < 0.2:
            engine.save(tmp_path)
            engine = rc.Engine.resume(tmp_path, check_screen=True)
    engine.save(tmp_path)
    assert rc.record.read_journal(tmp_path).tobytes() == np.concatenate(rows).tobytes()
    found = np.unique(np.concatenate(rows)[["event", "settle"]])
    assert {(EVENT["book"], USDC), (EVENT["book"], USDT), (EVENT["book"], BTC)} <= {
        tuple(pair) for pair in found.tolist()
    }


def test_values_in_a_coin_are_held_to_the_width():
    """Eight positions of 50,000,000 contracts of 100 USD are worth 8 * 10^18 quanta of BTC at a mark of 0.5."""
    venue = mv.venue()
    count = range(1, 9)
    positions = pd.DataFrame({"account": count, "market": mv.IBTC, "quantity": 5e7, "entry_price": 1e6})
    balances = pd.DataFrame({"account": count, "asset": "BTC", "quantity": 1.0})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    bounds = Totals(accounts, venue)
    marks = {mv.IBTC: 1e6}
    bounds.must_fit(rc.Prices.read(venue, accounts, marks, asset_prices={"BTC": 1e-6}))
    with pytest.raises(rc.RiskDataError, match=r"^positions\.money in BTC: the holdings, costs and values of all"):
        bounds.must_fit(rc.Prices.read(venue, accounts, marks | {mv.IBTC: 0.5}, asset_prices={"BTC": 1e-6}))
