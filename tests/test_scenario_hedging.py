"""Contributions, gradients and what each position saves, of arrays alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from riskcore.options_sample import options_sample
from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    hedging,
    load_scenario_model,
    saved_by_position,
)


@pytest.fixture(scope="module")
def sample():
    return options_sample(150, seed=3)


@pytest.fixture(scope="module")
def instruments(sample):
    return Instruments.from_frame(sample.instruments)


@pytest.fixture(scope="module")
def market(sample, instruments):
    return ScenarioMarket.read(
        instruments,
        sample.marks["time"].iloc[0],
        index=sample.underlyings.set_index("underlying")["index"].to_dict(),
        marks=sample.marks.set_index("market")["mark_price"].to_dict(),
        volatilities=sample.volatilities.set_index("market")["volatility"].to_dict(),
        terms=sample.terms.drop(columns="time"),
    )


@pytest.fixture(scope="module")
def portfolios(sample, instruments):
    return Portfolios.from_frame(instruments, sample.sizes)[0]


def table_of(model, instruments, market):
    return ScenarioTable.of(load_scenario_model(model), instruments, market)


def sums(portfolios, values):
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.span.astype(np.int64)))
    return np.bincount(owner, values, len(portfolios))


MODELS = ["derive", "buckets", "grid24", "unit"]


@pytest.mark.parametrize("model", MODELS)
def test_contributions_sum_to_the_requirement(model, instruments, market, portfolios):
    found = table_of(model, instruments, market).gradients(portfolios)
    assert np.abs(sums(portfolios, found.contribution) - found.maintenance).max() <= 1e-9 * found.maintenance.max()


def bumped(portfolios, row, change):
    size = portfolios.size.copy()
    size[row] += change
    return Portfolios(portfolios.span, portfolios.instrument, size)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_slopes_of_the_requirement(model, instruments, market, portfolios):
    """A central difference; left out are positions whose slopes on both sides differ, which stand at a tie."""
    table = table_of(model, instruments, market)
    gradient = table.gradients(portfolios).gradient
    compared = 0
    for offset in range(int(np.diff(portfolios.span.astype(np.int64)).max())):
        first = portfolios.span[:-1].astype(np.int64) + offset
        has = first < portfolios.span[1:]
        row = first[has]
        step = 1e-4 * np.abs(portfolios.size[row])
        here = table.requirements(portfolios).maintenance[has]
        more = table.requirements(bumped(portfolios, row, step)).maintenance[has]
        less = table.requirements(bumped(portfolios, row, -step)).maintenance[has]
        above, below = (more - here) / step, (here - less) / step
        scale = np.maximum(np.abs(gradient[row]), 1.0)
        smooth = np.abs(above - below) <= 1e-5 * scale
        assert np.abs((above + below) / 2 - gradient[row])[smooth].max() <= 1e-4 * scale.max()
        assert (np.abs((above + below) / 2 - gradient[row]) <= 1e-4 * scale)[smooth].all()
        compared += int(smooth.sum())
    assert compared > 0.8 * len(portfolios.size)


@pytest.mark.parametrize("model", ["derive", "buckets"])
def test_saved_is_the_requirement_without_the_position(model, instruments, market, portfolios, monkeypatch):
    table = table_of(model, instruments, market)
    maintenance = table.requirements(portfolios).maintenance
    saved = saved_by_position(table, portfolios, maintenance)
    for account in range(0, len(portfolios), 7):
        first, last = portfolios.span[account : account + 2].tolist()
        for row in range(first, last):
            left = np.delete(np.arange(first, last), row - first)
            span = np.array([0, len(left)], np.uint32)
            without = Portfolios(span, portfolios.instrument[left], portfolios.size[left])
            assert saved[row] == table.requirements(without).maintenance[0] - maintenance[account]
    monkeypatch.setattr(hedging, "_ROWS", 5)  # of a block
    assert (saved_by_position(table, portfolios, maintenance) == saved).all()


def test_a_hedge_saves_and_a_lone_position_costs(instruments, market):
    model = {"scenarios": [{"move": "0.1"}, {"move": "-0.1"}], "mm_factor": "0.8"}
    table = table_of(model, instruments, market)
    held = pd.DataFrame({"account": [1, 1, 2], "market": ["BTC_USDC_PERP", "BTC-27MAR26", "BTC_USDC_PERP"]})
    portfolios, _ = Portfolios.from_frame(instruments, held.assign(size=[1.0, -0.5, 2.0]))
    needed = table.requirements(portfolios).maintenance
    future = float(market.mark[instruments.symbol.index("BTC-27MAR26")])
    assert needed.tolist() == pytest.approx([0.08 * (60_000 - future / 2), 0.08 * 120_000])
    saved = saved_by_position(table, portfolios, needed)
    assert saved == pytest.approx([0.08 * (future - 60_000), 0.08 * future / 2, -0.08 * 120_000])
    assert (saved[:2] > 0).all()  # without the larger leg what is left needs more than both together


def test_the_example_of_the_page():
    """docs/scenario_margin.md, "Losses and attribution"."""
    rows = [("perpetual", "PERP", None, None, None), ("call", "OPTION", "2026-01-31", 66_000.0, "C")]
    frame = pd.DataFrame(rows, columns=["market", "kind", "expiry", "strike", "right"]).assign(underlying="BTC")
    instruments = Instruments.from_frame(frame)
    market = ScenarioMarket.read(
        instruments,
        "2026-01-01T08:00Z",
        index={"BTC": 60_000.0},
        marks={"perpetual": 60_000.0},
        volatilities={"call": 0.6},
        terms=pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31"], "forward": [60_000.0]}),
    )
    tails = ("-0.66", "-0.33", "0.5", "1", "2", "3", "4", "5")
    model = {
        "grid": {"range": "0.16", "steps": 4, "vols": ["up", "same", "down"]},
        "tails": [{"move": move, "vol": "up", "kappa": "1"} for move in tails],
        "vol_shock": {"up": "0.5", "down": "0.25", "min_vol": "0.5"},
        "mm_factor": "0.8",
    }
    table = table_of(model, instruments, market)
    held = pd.DataFrame({"account": 1, "market": ["perpetual", "call"], "size": [2.0, -3.0]})
    portfolios, _ = Portfolios.from_frame(instruments, held)
    needed, slopes = table.requirements(portfolios), table.gradients(portfolios)
    alone = abs(portfolios.size) * table.requirements(Portfolios(*ONE_EACH)).maintenance
    figures = [slopes.gradient, slopes.contribution, saved_by_position(table, portfolios, needed.maintenance), alone]
    page = (Path(__file__).resolve().parents[1] / "docs/scenario_margin.md").read_text(encoding="utf-8")
    for name, row in zip(("perpetual", "call"), np.array(figures).T, strict=True):
        assert f"| {name} | {' | '.join(f'{figure:,.6f}' for figure in row)} |" in page
    loss, hedged = needed.loss[0], alone.sum() - needed.maintenance[0]
    assert f"`R = 0.8 * {loss:,.6f}` = {needed.maintenance[0]:,.6f}" in page
    assert f"`{alone.sum():,.6f} - {needed.maintenance[0]:,.6f}` = {hedged:,.6f}" in page
    assert needed.worst.tolist() == [27]


ONE_EACH = np.array([0, 1, 2], np.uint32), np.array([0, 1], np.uint16), np.array([1.0, -1.0])
"""A long perpetual and a short call, each alone."""
