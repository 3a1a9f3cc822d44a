"""Contributions, gradients and what each position saves, of arrays alone."""

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
