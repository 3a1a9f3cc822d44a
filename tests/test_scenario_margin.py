"""Margins of accounts by a scenario model: against the separable model, account by account, and in exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.kernels import margin_model
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
    balances = [(n, "USDC", round(float(b), 2)) for n, b in enumerate(rng.normal(6_000, 6_000, count), 1)]
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
    for one, other in zip(rc.sweep_rows(accounts, venue, ticks), tables, strict=True):
        assert np.array_equal(one.maintenance_margin, other.maintenance_margin)


def tick_at(tick: rc.Tick, factor: float) -> rc.Tick:
    """A tick at which every price is multiplied."""

    def times(prices: Any) -> dict[str, float]:
        return {name: price * factor for name, price in dict(prices).items()}

    terms = tick.terms.assign(forward=tick.terms["forward"] * factor)
    underlyings = tick.underlyings.assign(index=tick.underlyings["index"] * factor)
    return replace(tick, marks=times(tick.marks), indexes=times(tick.indexes), terms=terms, underlyings=underlyings)
