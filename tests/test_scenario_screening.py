"""Upper bounds of requirements: never below them, and the selected accounts are those of the full computation."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    load_scenario_model,
    preset_names,
    screening,
)

from .test_scenario_plain import portfolios_of, table_of, tick_of

BUCKETS = {
    "grid": {"range": "0.16", "steps": 4, "vols": ["up", "same", "down"]},
    "tails": [
        {"move": move, "vol": "up", "kappa": "1"} for move in ("-0.66", "-0.33", "0.5", "1", "2", "3", "4", "5")
    ],
    "vol_shock": {
        "up": "0.5", "down": "0.25", "p_short": "0.3", "p_long": "0.13", "dte_floor": "1", "min_vol": "0.5",
    },
}  # fmt: skip
DISCOUNT = {
    "base_long": "0.95", "rate_mult_long": "1", "rate_add_long": "0.08",
    "base_short": "1.04", "rate_mult_short": "0.5", "rate_add_short": "0.08",
}  # fmt: skip
SKEW = {"cbase": "-0.05", "cap": "0.15", "min_k": "0.01", "width": "4", "vol_static": "0.6", "vol_scale": "-0.1"}
CHARGES = [
    {"kind": "notional", "rate": "0.015", "enters": "mm", "of": ["perpetuals", "futures"]},
    {"kind": "option_short", "rate": "0.003", "enters": "mm"},
    {"kind": "roll", "rate": "0.01", "annual": "0.075", "enters": "mm"},
    {"kind": "spread_delta", "rate": "0.02", "annual": False, "enters": "mm"},
    {"kind": "delta_shock", "threshold": "100", "max": "0.1", "increment": "0.01", "enters": "mm"},
    {"kind": "basis", "up": "0.045", "down": "-0.045", "add": "0.5", "mult": "2"},
    {"kind": "theta", "hours": "24", "enters": "mm"},
    {"kind": "fee", "rate": "0.0005", "cap": "0.125", "enters": "mm"},
]
MODELS = {
    "plain": {},
    "joint with offset": {
        "groups": [{"underlyings": "all", "rule": "groups", "alpha": "0.6"}], "dampener": "3", "offset": {"cap": "20"},
    },
    "discounts": {"discount": DISCOUNT},
    "skew and discounts": {
        "discount": DISCOUNT,
        "skew": {"linear": SKEW, "abs": SKEW},
        "vol_shock": {"up": "0.5", "down": "0.25"},
        "scenarios": [
            {"move": "0.18", "vol": "up"}, {"move": "-0.18", "vol": "up"}, {"move": "0", "vol": "linear"},
            {"move": "0", "vol": "abs"},
        ],
    },
    "discounts the other way": {"discount": DISCOUNT | {"base_long": "1.05", "base_short": "0.95"}},
    "charges": {"contingencies": CHARGES},
    "delta floor": {
        "contingencies": [{"kind": "delta_floor", "hedged": "0.2", "unhedged": "0.3", "enters": "mm"}],
    },
    "minimum": {
        "minimum": {"rate": "8", "per": "contract", "level": "account", "brackets": [["40", "1"], [None, "2"]]},
    },
    "group minimum": {"minimum": {"rate": "12", "per": "contract", "level": "group"}},
    "rounded": {"round_worst": 0},
    "expected shortfall": {"measure": {"kind": "es", "alpha": "0.9", "buffer": "0.25"}},
}  # fmt: skip


@cache
def model_table(name):
    if "scenarios" in MODELS[name]:
        return ScenarioTable.of(load_scenario_model(MODELS[name]), *tick_of(3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scenario_model.discount")  # one of the models has them the other way round
        return table_of(27, **MODELS[name])


def checked(table, portfolios):
    """The requirements, once they are seen to be within the bounds."""
    found = table.requirements(portfolios, initial=False)
    required, (single, envelope) = found.maintenance, table.upper_bounds(portfolios)
    assert (required <= envelope).all()
    assert (required <= single).all()
    assert (envelope <= single + 1e-9 * found.scale).all()
    return required, envelope, single


@pytest.mark.parametrize("name", MODELS)
def test_bounds_hold(name):
    table = model_table(name)
    required, envelope, single = checked(table, portfolios_of(table, 400))
    assert (envelope < 0.99 * single).any() or name in ("joint with offset", "group minimum")
    one = np.arange(len(table.instruments), dtype=np.uint16)
    for side in (1.0, -1.0):  # what a single position needs is its bound
        alone = Portfolios(np.arange(len(one) + 1, dtype=np.uint32), one, np.full(len(one), side))
        required, _, single = checked(table, alone)
        if name in ("plain", "discounts", "group minimum"):
            np.testing.assert_allclose(single, required, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "histsim"])
def test_bounds_hold_under_the_presets(preset):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scenario_model.discount")
        model = load_scenario_model(preset)
    if preset.startswith("span"):
        model = model.replace(scan_range={"others": "15"})
    table = ScenarioTable.of(model, *tick_of(3))
    checked(table, portfolios_of(table, 300))


def test_figures_of_an_account():
    """E-S18: the account of two perpetuals and three short calls."""
    rows = [("P", "PERP", "BTC", None, None, None), ("C", "OPTION", "BTC", "2026-01-31T00:00Z", 66_000.0, "C")]
    frame = pd.DataFrame(rows, columns=["market", "kind", "underlying", "expiry", "strike", "right"])
    instruments = Instruments.from_frame(frame)
    terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-01-31T00:00Z"], "forward": [60_000.0]})
    market = ScenarioMarket.read(
        instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"P": 60_000.0}, terms=terms, volatilities={"C": 0.6}
    )
    held = pd.DataFrame({"account": "a", "market": ["P", "C"], "size": [2.0, -3.0]})
    portfolios, _ = Portfolios.from_frame(instruments, held)
    table = ScenarioTable.of(load_scenario_model(BUCKETS | {"mm_factor": "0.8"}), instruments, market)
    assert table.requirements(portfolios).maintenance[0] == pytest.approx(14_218.3847, abs=5e-5)
    single, envelope = table.upper_bounds(portfolios)
    assert single[0] == pytest.approx(37_788.5064, abs=1e-4)
    assert envelope[0] == pytest.approx(14_218.3847, abs=1e-4)
    edge = [{"move": "-0.16", "vol": vol} for vol in ("up", "same", "down")]
    model = load_scenario_model({"scenarios": edge, "vol_shock": BUCKETS["vol_shock"], "mm_factor": "0.8"})
    lower = ScenarioTable.of(model, instruments, market).requirements(portfolios).maintenance[0]
    assert lower == pytest.approx(13_364.8900, abs=5e-5)


@pytest.mark.parametrize("name", MODELS)
def test_selection_is_that_of_the_full_computation(name):
    table = model_table(name)
    portfolios = portfolios_of(table, 500, seed=1)
    required = table.requirements(portfolios, initial=False).maintenance
    equity = required * np.random.default_rng(2).uniform(0.5, 3.0, 500)
    equity[::7] = required[::7]  # the margin ratio is exactly 100 %
    held = np.diff(portfolios.span.astype(np.int64)) > 0
    expected = np.flatnonzero(held & ~(required < equity))
    for threads in (1, 2):
        accounts, found = table.select(portfolios, equity, threads=threads)
        np.testing.assert_array_equal(accounts, expected)
        np.testing.assert_array_equal(found.maintenance, required[expected])
    assert len(table.undecided(portfolios, equity)) < 0.9 * held.sum()


def test_the_chunks_of_threads_join(monkeypatch):
    monkeypatch.setattr(screening, "PER_THREAD", 10)
    table = table_of(27)
    portfolios = portfolios_of(table, 333)
    equity = np.linspace(0.0, 100.0, 333)
    one, many = (table.undecided(portfolios, equity, threads=threads) for threads in (1, 7))
    np.testing.assert_array_equal(one, many)
    assert 0 < len(one) < 333


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 59), st.floats(-1e6, 1e6)), min_size=1, max_size=15), st.sampled_from([*MODELS])
)
def test_bounds_hold_for_any_sizes(rows, name):
    table = model_table(name)
    by_rank = np.argsort(table.instruments.rank)
    sizes = dict(rows)
    rank = np.array(sorted(sizes))
    span = np.array([0, len(rank)], np.uint32)
    checked(table, Portfolios(span, by_rank[rank].astype(np.uint16), np.array([sizes[r] for r in rank])))
