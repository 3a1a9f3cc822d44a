"""Margins of accounts by a scenario model: against the separable model, account by account, and in exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import RiskDataError
from riskcore.kernels import margin_model
from riskcore.kernels.margin import BELOW_AUTO_CLOSE, SAFE
from riskcore.margin import folded, model_of
from riskcore.market import Prices
from riskcore.sample import options_sample

TIME = "2026-03-01T00:00Z"
FIGURES = "net_equity", "exposure", "initial_margin", "maintenance_margin", "status"
UP, DOWN = {"move": "0.16", "vol": "same"}, {"move": "-0.16", "vol": "same"}
BOTH_WAYS = {"scenarios": [UP, DOWN]}


def market(symbol: str, kind: str = "PERP", **more: Any) -> dict[str, Any]:
    base = symbol[:3]
    return {
        "symbol": symbol, "baseSymbol": base, "quoteSymbol": "USDC", "marketType": kind,
        "filters": {
            "price": {"tickSize": "0.01", "maxPrice": "10000000"},
            "quantity": {"stepSize": "0.001", "minQuantity": "0.001"},
        },
    } | more  # fmt: skip


def asset(symbol: str, weight: str = "1", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}} | more


def option(base: str, strike: int, right: str, expiry: str = "2026-03-31T00:00Z", **more: Any) -> dict[str, Any]:
    symbol = f"{base}-{strike}-{right}"
    return market(symbol, "OPTION", underlying=base, expiry=expiry, strike=str(strike), right=right, **more)


def venue_of(markets: list[dict[str, Any]], model: Any, collateral: list[dict[str, Any]] | None = None) -> rc.Venue:
    source = {"settle_asset": "USDC", "markets": markets, "collateral": collateral or [], "scenario_model": model}
    return rc.load_venue(source | {"policy": {"margin_model": "scenario"}})


def accounts_of(venue: rc.Venue, positions: list[tuple], balances: list[tuple], orders: Any = None) -> rc.Accounts:
    held = pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"])
    return rc.Accounts.from_frames(
        venue, held, pd.DataFrame(balances, columns=["account", "asset", "quantity"]), orders
    )


def sample(model: Any, count: int = 300, seed: int = 1) -> tuple[rc.Venue, rc.Accounts, rc.Tick]:
    """Venue, accounts and tick of the sample under a model."""
    drawn = options_sample(count, seed)
    venue = rc.load_venue(drawn.source | {"scenario_model": model})
    return venue, rc.Accounts.from_frames(venue, drawn.positions, drawn.balances, drawn.orders), tick_of(drawn)


def tick_of(drawn: Any) -> rc.Tick:
    marks = drawn.marks.set_index("market")
    return rc.Tick(
        drawn.marks["time"][0], marks["mark_price"].to_dict(), indexes=marks["index_price"].to_dict(),
        volatilities=drawn.volatilities.set_index("market")["volatility"].to_dict(),
        terms=drawn.terms.drop(columns="time"), underlyings=drawn.underlyings.drop(columns="time"),
    )  # fmt: skip


# ---- Against the separable model


def one_underlying(rate: str) -> tuple[rc.Venue, rc.Venue]:
    """A venue of one perpetual by scenarios of plus and minus the rate, and by a margin function of the rate."""
    function = {"type": "sqrt", "base": rate, "factor": "0"}
    row = market("BTC_USDC_PERP") | {"imfFunction": function, "mmfFunction": function}
    collateral = [asset("USDC"), asset("ETH", "0.9")]
    source = {"settle_asset": "USDC", "markets": [row], "collateral": collateral}
    separable = rc.load_venue(source)
    moves = {"scenarios": [{"move": rate, "vol": "same"}, {"move": f"-{rate}", "vol": "same"}]}
    scenario = source | {"scenario_model": moves, "policy": {"margin_model": "scenario"}}
    return separable, rc.load_venue(scenario)


def test_one_linear_underlying_needs_the_rate_times_the_net_notional():
    separable, scenario = one_underlying("0.05")
    rng = np.random.default_rng(3)
    count, market_name = 400, "BTC_USDC_PERP"
    positions = [(n, market_name, round(float(q), 3), 60_000.0) for n, q in enumerate(rng.normal(0, 2, count), 1)]
    balances = [(n, "USDC", round(abs(float(b)), 2)) for n, b in enumerate(rng.normal(6_000, 6_000, count), 1)]
    balances += [(n, "ETH", round(float(b), 3)) for n, b in enumerate(rng.normal(0.3, 1, count), 1)]
    tables, prices, orders = [], [], []
    for venue in (separable, scenario):
        accounts = accounts_of(venue, positions, balances)
        marks = {market_name: 59_000.0, "ETH": 3_000.0}
        tables.append(rc.sweep(accounts, venue, marks))
        prices.append(rc.liquidation_prices(accounts, venue, marks))
        orders.append(rc.largest_orders(accounts, venue, marks, market_name))
    for name in FIGURES:
        np.testing.assert_allclose(getattr(tables[1], name), getattr(tables[0], name), rtol=1e-12)
    assert 20 < tables[0].liquidatable.sum() < 380
    np.testing.assert_allclose(prices[1].liquidation_price, prices[0].liquidation_price, rtol=1e-9)
    for side in ("bid", "ask"):
        np.testing.assert_allclose(orders[1][side], orders[0][side], rtol=1e-9, atol=0.0011)


# ---- The batch, account by account, exactly

SHOCK = {"up": "0.5", "down": "0.25", "min_vol": "0.3"}
GRID = {"grid": {"range": "0.16", "steps": 4, "vols": ["up", "same", "down"]}, "vol_shock": SHOCK}
MODELS = {
    "linear": BOTH_WAYS,
    "grid": GRID | {
        "mm_factor": "0.8", "collateral_in_scenarios": ["BTC"], "borrow_margin": "scenario",
        "contingencies": [{"kind": "notional", "rate": "0.01"}, {"kind": "option_short", "rate": "0.01"}],
    },
    "groups": GRID | {
        "groups": [{"underlyings": ["BTC", "ETH"], "rule": "groups", "alpha": "0.5"}],
        "contingencies": [{"kind": "roll", "rate": "0.01", "annual": "0.075"}], "im_factor": "1.3",
    },
    "derive": "derive",
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_is_account_by_account_and_exact(name):
    venue, accounts, tick = sample(MODELS[name])
    prices = Prices.of_tick(venue, accounts, tick)
    table = rc.sweep(accounts, venue, tick, threads=1)
    assert 0 < table.liquidatable.sum() < len(accounts) / 2
    columns, rows = accounts.columns, np.arange(len(accounts))
    figures, status = np.empty((4, len(rows))), np.empty(len(rows), np.uint8)
    margin_model.account_margins(rows, columns, folded(prices), *figures, status)
    for name, found in zip(FIGURES, (*figures, status), strict=True):
        same = found == getattr(table, name)
        if name == "initial_margin":  # the kernel of one account knows no limits of orders
            same |= (columns.open_orders > 0) & (found <= getattr(table, name))
        assert same.all(), name
    model = model_of(venue)
    for account in rows[:60].tolist():
        margin = model.account(accounts, account, prices)
        assert float(margin.equity) == pytest.approx(table.net_equity[account], rel=1e-12, abs=1e-6)
        assert float(margin.maintenance) == pytest.approx(table.maintenance_margin[account], rel=1e-11, abs=1e-9)
        assert float(margin.exposure) == pytest.approx(table.exposure[account], rel=1e-12)
        assert margin.status == table.status[account]
        parts = sum(margin.requirement.values()) + sum(margin.borrowed.values())
        assert float(parts) == pytest.approx(float(margin.maintenance), rel=1e-30)
        within = table.initial_margin[account] < table.net_equity[account]
        assert model.covers_initial_margin(accounts, account, prices) == within
    positions = np.arange(len(columns.lots))
    part = np.empty(len(positions))
    margin_model.position_requirements(accounts.position_accounts(), positions, columns, folded(prices), part)
    for account in rows[:60].tolist():
        for row, exact_part in model.account(accounts, account, prices).requirement.items():
            assert part[row] == pytest.approx(float(exact_part), rel=1e-11)


def test_threads_and_blocks_give_the_same_bits(monkeypatch):
    venue, accounts, tick = sample(MODELS["derive"], 9_000)
    known = rc.sweep(accounts, venue, tick, threads=1)
    prices = Prices.of_tick(venue, accounts, tick)
    for threads in (2, 4):
        found = rc.sweep(accounts, venue, tick, threads=threads)
        assert all(np.array_equal(getattr(found, name), getattr(known, name)) for name in FIGURES)
    rows = np.random.default_rng(0).permutation(len(accounts))[:500]
    for row in (rows, np.sort(rows), np.arange(4_000, 4_500), np.arange(7, 20)):
        found = rc.margin.margins_of(accounts, row, prices)
        assert all(np.array_equal(getattr(found, name), getattr(known, name)[row]) for name in FIGURES)
    changeable = accounts.copy()
    found = rc.margin.margin_table(changeable, prices)
    assert all(np.array_equal(getattr(found, name), getattr(known, name)) for name in FIGURES)


@pytest.mark.parametrize("name", MODELS)
def test_a_selection_is_that_of_the_sweep(name):
    venue, accounts, tick = sample(MODELS[name], 4_000, 2)
    ticks = [tick, tick_at(tick, 0.97), tick_at(tick, 1.04)]
    tables = rc.sweep(accounts, venue, ticks)
    for threads in (1, 2):
        for selection, table in zip(rc.select(accounts, venue, ticks, threads=threads), tables, strict=True):
            assert np.array_equal(selection.row, np.flatnonzero(table.liquidatable))
    assert np.array_equal(rc.select(accounts, venue, tick).row, np.flatnonzero(tables.rows[0].liquidatable))
    screen = rc.Screen(accounts, venue)
    for each, table in zip(ticks, tables, strict=True):
        assert np.array_equal(screen.select(each).row, np.flatnonzero(table.liquidatable))
    for one, other in zip(rc.sweep_rows(accounts, venue, ticks), tables, strict=True):
        assert np.array_equal(one.maintenance_margin, other.maintenance_margin)


def tick_at(tick: rc.Tick, factor: float) -> rc.Tick:
    """A tick at which every price is multiplied."""

    def times(prices: Any) -> dict[str, float]:
        return {name: price * factor for name, price in dict(prices).items()}

    terms = tick.terms.assign(forward=tick.terms["forward"] * factor)
    underlyings = tick.underlyings.assign(index=tick.underlyings["index"] * factor)
    return replace(tick, marks=times(tick.marks), indexes=times(tick.indexes), terms=terms, underlyings=underlyings)


# ---- Worked example of docs/scenario_margin.md


def test_the_example_of_the_document():
    model = {"scenarios": [UP | {"move": "0.18"}, DOWN | {"move": "-0.18"}], "mm_factor": "0.8"}
    model |= {"contingencies": [{"kind": "notional", "rate": "0.015"}]}
    venue = venue_of([market("BTC_USDC_PERP")], model)
    accounts = accounts_of(venue, [(1, "BTC_USDC_PERP", 0.4, 61_000.0)], [(1, "USDC", 5_000.0)])
    prices = {"BTC_USDC_PERP": 60_000.0}
    table = rc.sweep(accounts, venue, prices)
    assert table.net_equity[0] == 4_600.0
    assert table.maintenance_margin[0] == pytest.approx(3_816.0, rel=1e-14)
    assert table.initial_margin[0] == pytest.approx(4_680.0, rel=1e-14)
    assert table.exposure[0] == 24_000.0
    assert table.mmr[0] == pytest.approx(0.82956522, abs=5e-9)
    found = rc.liquidation_prices(accounts, venue, prices)
    assert found.liquidation_price[0] == pytest.approx(57_669.441141, abs=1e-6)
    assert found.liquidation_price_below[0] == found.liquidation_price[0]
    assert np.isnan(found.liquidation_price_above[0])
    lines = rc.explain_margin(accounts, venue, prices, 1).set_index("kind")
    assert float(lines.loc["scenario", "maintenance_margin"]) == pytest.approx(3_456.0, rel=1e-14)
    assert float(lines.loc["charge", "maintenance_margin"]) == pytest.approx(360.0, rel=1e-12)
    assert float(lines.loc["total", "maintenance_margin"]) == pytest.approx(3_816.0, rel=1e-12)


# ---- Coins, borrows, edges

INVERSE = market("BTC_USD", "IPERP", quoteSymbol="USD", multiplier="1", settle="BTC")
COIN = [asset("USDC"), asset("BTC", quantum="0.00000001")]


def coin_account(model: dict, contracts: float, entry: float, coins: float) -> tuple[rc.Accounts, rc.Venue]:
    row = INVERSE | {"filters": {**INVERSE["filters"], "quantity": {"stepSize": "1", "minQuantity": "1"}}}
    venue = venue_of([row], model, COIN)
    return accounts_of(venue, [(1, "BTC_USD", contracts, entry)], [(1, "BTC", coins)]), venue


@pytest.mark.parametrize(
    ("contracts", "in_coin", "in_money"), [(-60_000, 0.1379310345, 0.0), (60_000, 0.1904761905, 19_200.0)]
)
def test_an_inverse_contract_in_coin_and_in_money(contracts, in_coin, in_money):
    prices = {"BTC_USD": 60_000.0}
    accounts, venue = coin_account(BOTH_WAYS | {"numeraire": "BTC"}, contracts, 60_000.0, 1.0)
    assert rc.sweep(accounts, venue, prices).maintenance_margin[0] == pytest.approx(in_coin * 60_000, rel=1e-9)
    accounts, venue = coin_account(BOTH_WAYS | {"collateral_in_scenarios": True}, contracts, 60_000.0, 1.0)
    table = rc.sweep(accounts, venue, prices)
    assert table.maintenance_margin[0] == pytest.approx(in_money, abs=1e-9)
    assert table.net_equity[0] == pytest.approx(60_000.0)
    assert table.exposure[0] == pytest.approx(60_000.0)
    found = rc.liquidation_prices(accounts, venue, prices)
    assert np.isnan(found.liquidation_price[0]) == (contracts < 0), "a hedged coin has no liquidation price"


def test_profit_in_coin_moves_with_the_coin():
    accounts, venue = coin_account(BOTH_WAYS | {"collateral_in_scenarios": True}, 30_000.0, 50_000.0, 0.4)
    table = rc.sweep(accounts, venue, {"BTC_USD": 60_000.0})
    coins = 0.4 + 30_000 * (1 / 50_000 - 1 / 60_000)
    assert table.net_equity[0] == pytest.approx(coins * 60_000, rel=1e-7)
    assert table.maintenance_margin[0] == pytest.approx(0.16 * (30_000 + coins * 60_000), rel=1e-7)
    margin = model_of(venue).account(accounts, 0, Prices.read(venue, accounts, {"BTC_USD": 60_000.0}))
    assert float(margin.maintenance) == pytest.approx(table.maintenance_margin[0], rel=1e-12)


def test_a_borrow_has_a_function_or_moves():
    collateral = [asset("USDC"), asset("ETH", "0.9", mmfFunction={"type": "sqrt", "base": "0.1", "factor": "0"})]
    held = [(1, "BTC_USDC_PERP", 0.1, 60_000.0)], [(1, "USDC", 9_000.0), (1, "ETH", -2.0)]
    marks = {"BTC_USDC_PERP": 60_000.0, "ETH_USDC_PERP": 2_000.0}
    needed = []
    for how in ("function", "scenario"):
        markets = [market("BTC_USDC_PERP"), market("ETH_USDC_PERP")]
        venue = venue_of(markets, BOTH_WAYS | {"borrow_margin": how}, collateral)
        accounts = accounts_of(venue, *held)
        table = rc.sweep(accounts, venue, marks)
        assert table.exposure[0] == pytest.approx(10_000.0)
        needed.append(table.maintenance_margin[0])
        prices = Prices.read(venue, accounts, marks)
        margin = model_of(venue).account(accounts, 0, prices)
        assert float(margin.maintenance) == pytest.approx(needed[-1], rel=1e-12)
        assert float(sum(margin.requirement.values())) == pytest.approx(960.0, rel=1e-12)
        assert float(sum(margin.borrowed.values())) == pytest.approx(needed[-1] - 960.0, rel=1e-12)
    assert needed == pytest.approx([960.0 + 400.0, 960.0 + 640.0])


def test_negative_cash_needs_nothing_beside_equity():
    venue = venue_of([market("BTC_USDC_PERP")], BOTH_WAYS, [asset("USDC"), asset("BTC")])
    accounts = accounts_of(venue, [(1, "BTC_USDC_PERP", 0.1, 60_000.0)], [(1, "USDC", -50_000.0), (1, "BTC", 1.0)])
    table = rc.sweep(accounts, venue, {"BTC_USDC_PERP": 60_000.0})
    margin = model_of(venue).account(accounts, 0, Prices.read(venue, accounts, {"BTC_USDC_PERP": 60_000.0}))
    assert table.maintenance_margin[0] == float(margin.maintenance) == pytest.approx(960.0)
    assert table.exposure[0] == pytest.approx(56_000.0)
    assert table.net_equity[0] == pytest.approx(10_000.0)


def test_no_position_needs_nothing_and_no_equity_is_infinite():
    model = BOTH_WAYS | {"collateral_in_scenarios": True, "haircuts": {"BTC": {"mm": "0.1", "im": "0.2"}}}
    markets = [market("BTC_USDC_PERP"), option("BTC", 900_000, "C")]
    venue = venue_of(markets, model, COIN)
    positions = [
        (3, "BTC_USDC_PERP", 1.0, 60_000.0),
        (4, "BTC-900000-C", 1.0, 0.01),
        (5, "BTC_USDC_PERP", 0.1, 60_000.0),
    ]
    balances = [(1, "BTC", 1.0), (2, "USDC", 0.0), (3, "USDC", -5.0), (4, "USDC", -0.000001), (5, "BTC", 1.0)]
    accounts = accounts_of(venue, positions, balances)
    tick = rc.Tick(
        TIME, {"BTC_USDC_PERP": 60_000.0}, volatilities={"BTC-900000-C": 0.05}, asset_prices={"BTC": 60_000.0},
        terms=pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-03-31T00:00Z"], "forward": [60_000.0]}),
    )  # fmt: skip
    table = rc.sweep(accounts, venue, tick)
    assert table.maintenance_margin[:2].tolist() == [0.0, 0.0]
    assert table.mmr.tolist()[:4] == [0.0, 0.0, np.inf, np.inf]
    assert table.status.tolist() == [SAFE, SAFE, BELOW_AUTO_CLOSE, BELOW_AUTO_CLOSE, SAFE]
    assert table.exposure[3] > 0.0, "an option that is worth nothing is a position"
    assert table.maintenance_margin[4] == pytest.approx(0.16 * 66_000 + 0.1 * 60_000)
    model_ = model_of(venue)
    prices = Prices.of_tick(venue, accounts, tick)
    for account in range(5):
        margin = model_.account(accounts, account, prices)
        assert margin.status == table.status[account]
        assert float(margin.maintenance) == pytest.approx(table.maintenance_margin[account], rel=1e-12)


def test_exactly_at_the_requirement_is_liquidating():
    venue = venue_of([market("BTC_USDC_PERP")], BOTH_WAYS)
    rows = [(n, "BTC_USDC_PERP", 0.3, 60_000.1) for n in (1, 2, 3)]
    accounts = accounts_of(venue, rows, [(1, "USDC", 2880.03), (2, "USDC", 2880.030001), (3, "USDC", 2880.029999)])
    table = rc.sweep(accounts, venue, {"BTC_USDC_PERP": 60_000.0})
    assert table.liquidatable.tolist() == [True, False, True]
    assert rc.select(accounts, venue, {"BTC_USDC_PERP": 60_000.0}).account.tolist() == [1, 3]


def test_bad_input_is_refused_in_one_line():
    venue = venue_of([market("BTC_USDC_PERP"), option("BTC", 60_000, "C")], BOTH_WAYS)
    accounts = accounts_of(venue, [(1, "BTC-60000-C", 1.0, 2_000.0)], [(1, "USDC", 5_000.0)])
    terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-03-31T00:00Z"], "forward": [60_000.0]})
    marks, volatilities = {"BTC_USDC_PERP": 60_000.0}, {"BTC-60000-C": 0.5}
    whole = rc.Tick(TIME, marks, volatilities=volatilities, terms=terms)
    assert rc.sweep(accounts, venue, whole).maintenance_margin[0] > 0
    for tick, rule in (
        (rc.Tick(TIME, marks, terms=terms), r"BTC-60000-C.*a volatility"),
        (rc.Tick(TIME, marks, volatilities=volatilities), r"(?i)forward|terms"),
        (marks, r"Tick"),
    ):
        for function in (rc.sweep, rc.select, rc.liquidation_prices, rc.what_if):
            with pytest.raises(RiskDataError, match=rule) as error:
                function(accounts, venue, tick)
            assert "\n" not in str(error.value)
    without = {"settle_asset": "USDC", "markets": [market("BTC_USDC_PERP")], "collateral": []}
    with pytest.raises(RiskDataError, match="scenario_model"):
        rc.load_venue(without | {"policy": {"margin_model": "scenario"}})


# ---- Liquidation prices, orders, lines


def strangle() -> tuple[rc.Venue, rc.Accounts, rc.Tick]:
    """One account that is short a put and a call, another that has a spread."""
    markets = [market("BTC_USDC_PERP"), option("BTC", 50_000, "P"), option("BTC", 70_000, "C")]
    venue = venue_of(markets, GRID | {"mm_factor": "0.8"})
    rows = [(1, "BTC-50000-P", -1.0, 900.0), (1, "BTC-70000-C", -1.0, 900.0)]
    rows += [(2, "BTC-50000-P", 1.0, 900.0), (2, "BTC_USDC_PERP", 0.2, 60_000.0)]
    accounts = accounts_of(venue, rows, [(1, "USDC", 16_000.0), (2, "USDC", 3_000.0)])
    terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-03-31T00:00Z"], "forward": [60_300.0]})
    return venue, accounts, rc.Tick(
        TIME, {"BTC_USDC_PERP": 60_000.0}, indexes={"BTC_USDC_PERP": 60_010.0}, terms=terms,
        volatilities={"BTC-50000-P": 0.6, "BTC-70000-C": 0.55},
        underlyings=pd.DataFrame({"underlying": ["BTC"], "index": [60_010.0]}),
    )  # fmt: skip


def test_a_short_strangle_has_a_liquidation_price_on_either_side():
    venue, accounts, tick = strangle()
    frame = rc.liquidation_prices(accounts, venue, tick).to_frame()
    first = frame[frame["account"] == 1].iloc[0]
    assert first["mark_price"] == 60_300.0
    below, above = first["liquidation_price_below"] / 60_300.0, first["liquidation_price_above"] / 60_300.0
    assert 0.6 < below < 1.0 < above < 1.4
    nearer = below if 1 - below < above - 1 else above
    assert first["distance"] == pytest.approx(nearer - 1)
    for factor in (below, above):
        table = rc.sweep(accounts, venue, tick_at(tick, factor))
        assert table.mmr[0] == pytest.approx(1.0, abs=1e-9)
        sides = [rc.sweep(accounts, venue, tick_at(tick, factor * f)).liquidatable[0] for f in (1 - 1e-6, 1 + 1e-6)]
        assert sides == [factor < 1, factor > 1]


def test_the_largest_order_is_the_largest():
    venue, accounts, tick = strangle()
    for name in ("BTC_USDC_PERP", "BTC-70000-C"):
        largest = rc.largest_orders(accounts, venue, tick, name)
        mark = float(Prices.of_tick(venue, accounts, tick).mark[venue.markets.row[name]])
        frames = accounts.to_frames()
        for row in largest.itertuples():
            for side, quantity in (("bid", row.bid), ("ask", row.ask)):
                for more, fits in ((0.0, True), (0.001, False)):
                    if quantity + more == 0.0:
                        continue
                    price = round(mark, 2)
                    order = pd.DataFrame(
                        {
                            "account": [row.account],
                            "market": name,
                            "side": side,
                            "price": price,
                            "quantity": quantity + more,
                        }
                    )
                    placed = rc.Accounts.from_frames(venue, frames.positions, frames.balances, order)
                    table = rc.sweep(placed, venue, tick)
                    index = int(np.flatnonzero(table.account == row.account)[0])
                    near = abs(mark - price) > 0
                    assert near or (table.initial_margin[index] < table.net_equity[index]) == fits


@pytest.mark.parametrize("name", MODELS)
def test_the_lines_add_up_to_the_margins(name):
    venue, accounts, tick = sample(MODELS[name], 60, 5)
    table = rc.sweep(accounts, venue, tick)
    for row, account in enumerate(accounts.ids[:12].tolist()):
        lines = rc.explain_margin(accounts, venue, tick, account)
        total = lines.iloc[-1]
        for column in ("net_equity", "exposure", "initial_margin", "maintenance_margin"):
            assert sum(lines[column][:-1]) == total[column]
            assert float(total[column]) == pytest.approx(getattr(table, column)[row], rel=1e-9, abs=1e-6)
        assert float(total["standalone_margin"]) == pytest.approx(table.maintenance_margin[row], rel=1e-9, abs=1e-6)
        assert not (lines["kind"] == "rest").any(), lines.to_string()


def test_a_lone_position_saves_nothing_by_hedging():
    haircut = BOTH_WAYS | {"haircuts": {"BTC": {"mm": "0.1", "im": "0.2"}}}
    venue = venue_of([market("BTC_USDC_PERP")], haircut, COIN)
    accounts = accounts_of(venue, [(1, "BTC_USDC_PERP", 0.4, 60_000.0)], [(1, "BTC", 1.0)])
    lines = rc.explain_margin(accounts, venue, {"BTC_USDC_PERP": 60_000.0}, 1).set_index("kind")
    assert float(lines.loc["collateral", "standalone_margin"]) == pytest.approx(6_000.0)
    assert float(lines.loc["position", "standalone_margin"]) == pytest.approx(3_840.0)
    assert float(lines.loc["hedging", "standalone_margin"]) == pytest.approx(0.0, abs=1e-9)
    assert float(lines.loc["total", "initial_margin"]) == pytest.approx(3_840.0 + 18_000.0)


def test_a_shock_of_an_underlying_moves_all_of_it():
    venue, accounts, tick = strangle()
    moved = rc.what_if(accounts, venue, tick, shocks={"BTC": -0.05})
    known = rc.sweep(accounts, venue, tick_at(tick, 0.95))
    for name in FIGURES:
        np.testing.assert_allclose(getattr(moved, name), getattr(known, name), rtol=1e-12)


def test_coins_of_many_sizes_are_exact():
    """Weights that fall with size, profit in coin, options settled in coin, borrows: nothing is kept between prices."""
    haircut = {"weight": "0.95", "kind": {"type": "inverseSqrt", "base": "1.0", "positiveCurvePenalty": "0.001"}}
    collateral = [asset("USDC"), {"symbol": "BTC", "quantum": "0.00000001", "haircutFunction": haircut}]
    steps = {"filters": {**INVERSE["filters"], "quantity": {"stepSize": "1", "minQuantity": "1"}}}
    markets = [market("BTC_USDC_PERP"), INVERSE | steps, option("BTC", 62_000, "C", settle="BTC")]
    model = GRID | {"collateral_in_scenarios": True, "haircuts": {"BTC": {"mm": "0.05", "im": "0.1"}}}
    venue = venue_of(markets, model | {"borrow_margin": "scenario"}, collateral)
    rng, positions, balances = np.random.default_rng(7), [], []
    for n in range(1, 121):
        held = [round(float(rng.normal(0, size)), places) for size, places in ((1.5, 3), (60_000, 0), (1.5, 3))]
        entries = 61_000.0, 59_000.0, 0.03
        rows = zip(("BTC_USDC_PERP", "BTC_USD", "BTC-62000-C"), held, entries, strict=True)
        positions += [(n, name, float(q), entry) for name, q, entry in rows if rng.random() < 0.6]
        balances += [
            (n, "USDC", round(float(rng.normal(20_000, 40_000)), 2)),
            (n, "BTC", round(float(rng.normal(1, 2)), 8)),
        ]
    accounts = accounts_of(venue, positions, balances)
    terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-03-31T00:00Z"], "forward": [60_300.0]})
    tick = rc.Tick(
        TIME, {"BTC_USDC_PERP": 60_000.0, "BTC_USD": 60_020.0}, volatilities={"BTC-62000-C": 0.6}, terms=terms
    )
    prices = Prices.of_tick(venue, accounts, tick)
    table = rc.sweep(accounts, venue, tick)
    assert 10 < table.liquidatable.sum() < 110
    figures, status = np.empty((4, 120)), np.empty(120, np.uint8)
    margin_model.account_margins(np.arange(120), accounts.columns, folded(prices), *figures, status)
    assert all(
        np.array_equal(found, getattr(table, name)) for name, found in zip(FIGURES, (*figures, status), strict=True)
    )
    assert np.array_equal(rc.select(accounts, venue, tick).row, np.flatnonzero(table.liquidatable))
    for account in range(120):
        margin = model_of(venue).account(accounts, account, prices)
        assert float(margin.equity) == pytest.approx(table.net_equity[account], rel=1e-11, abs=1e-6)
        assert float(margin.maintenance) == pytest.approx(table.maintenance_margin[account], rel=1e-11, abs=1e-9)
        assert margin.status == table.status[account]
        assert float(sum(margin.requirement.values()) + sum(margin.borrowed.values())) == pytest.approx(
            float(margin.maintenance)
        )
