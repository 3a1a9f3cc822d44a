"""Requirements under plain models have the bits of the general kernel, whatever the blocks of columns are."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest

from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    load_scenario_model,
    plain,
    requirement,
)

EXPIRIES = ["2026-01-30T08:00Z", "2026-03-27T08:00Z"]
FIELDS = ("maintenance", "initial", "loss", "initial_loss", "group_loss", "worst", "group", "scale")


@cache
def tick_of(underlyings):
    """A perpetual, a future and 18 options of each underlying, and their prices."""
    names = [f"U{n}" for n in range(underlyings)]
    rows = [(f"{u}-PERP", "PERP", u, None, None, None) for u in names]
    rows += [(f"{u}-F", "DATED", u, EXPIRIES[0], None, None) for u in names]
    for u in names:
        for expiry in EXPIRIES:
            for strike in np.linspace(60.0, 140.0, 9):
                right = "C" if strike >= 100.0 else "P"
                rows.append((f"{u}-{expiry}-{strike}", "OPTION", u, expiry, strike, right))
    frame = pd.DataFrame(rows, columns=["market", "kind", "underlying", "expiry", "strike", "right"])
    instruments = Instruments.from_frame(frame)
    terms = pd.DataFrame([(u, e, 101.0) for u in names for e in EXPIRIES], columns=["underlying", "expiry", "forward"])
    options = frame["kind"] == "OPTION"
    market = ScenarioMarket.read(
        instruments, "2026-01-01", index=dict.fromkeys(names, 100.0),
        marks=dict(zip(frame["market"], np.where(options, 5.0, 100.5), strict=True)), terms=terms,
        volatilities=dict.fromkeys(frame["market"][options], 0.6),
    )  # fmt: skip
    return instruments, market


def table_of(scenarios, underlyings=3, rule="separate", **model):
    """Table of record under a model with so many scenarios."""
    instruments, market = tick_of(underlyings)
    moves = np.linspace(-0.3, 0.3, scenarios) if scenarios > 1 else [-0.1]
    source = {
        "scenarios": [
            {"move": f"{move:.6f}", "vol": ("up", "same", "down")[n % 3], "weight": ("1", "0.7")[n % 5 == 4]}
            for n, move in enumerate(moves)
        ],
        "vol_shock": {"up": "0.5", "down": "0.25"},
        "mm_factor": "0.8",
    }
    if rule == "joint":
        source["groups"] = [{"underlyings": "all", "rule": "joint"}]
    return ScenarioTable.of(load_scenario_model(source | model), instruments, market)


def portfolios_of(table, accounts, seed=0, most=12):
    """Accounts with up to so many positions, some without any."""
    rng = np.random.default_rng(seed)
    by_rank = np.argsort(table.instruments.rank)
    count = rng.integers(0, most, accounts)
    rank = np.concatenate([np.sort(rng.choice(len(by_rank), n, replace=False)) for n in count])
    span = np.r_[0, count.cumsum()].astype(np.uint32)
    return Portfolios(span, by_rank[rank].astype(np.uint16), rng.normal(size=len(rank)).round(3))


def general(portfolios, arrays, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(requirement, "is_plain", lambda *_: False)
        return requirement.requirements(portfolios, arrays, 1)


@pytest.mark.parametrize("rule", ["one", "separate", "joint"])
@pytest.mark.parametrize("scenarios", [1, 16, 27, 64, 100, 208, 300])
def test_plain_requirements_have_the_bits_of_the_general_ones(scenarios, rule, monkeypatch):
    table = table_of(scenarios, 1 if rule == "one" else 3, rule)
    portfolios = portfolios_of(table, 200)
    assert plain.is_plain(portfolios, table.arrays)
    expected = general(portfolios, table.arrays, monkeypatch)
    assert expected.worst.max() < scenarios
    assert (expected.loss > 0.0).sum() > 50
    for found in (table.requirements(portfolios, threads=1), table.requirements(portfolios, threads=2)):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


@pytest.mark.parametrize("rule", ["one", "separate", "joint"])
def test_plain_gradients_have_the_bits_of_the_general_ones(rule, monkeypatch):
    table = table_of(64, 1 if rule == "one" else 3, rule)
    portfolios = portfolios_of(table, 200)
    found = table.gradients(portfolios, threads=1)
    monkeypatch.setattr(requirement, "is_plain", lambda *_: False)
    expected = table.gradients(portfolios, threads=1)
    for field in ("maintenance", "gradient", "contribution"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


def test_the_worst_scenario_is_computed_when_it_is_read(monkeypatch):
    table = table_of(27)
    found, passes = table.requirements(portfolios_of(table, 50)), []
    fill = requirement.fill_plain

    def counted(*arguments, **asked):
        passes.append(asked)
        return fill(*arguments, **asked)

    monkeypatch.setattr(requirement, "fill_plain", counted)
    monkeypatch.setattr(requirement, "is_plain", lambda *_: False)
    expected = table.requirements(portfolios_of(table, 50))
    assert not passes
    for field in ("group_loss", "worst", "group"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    assert passes == [{"with_worst": True}]


def test_the_worst_scenario_can_be_found_in_the_same_pass(monkeypatch):
    table = table_of(27)
    later, at_once = (table.requirements(portfolios_of(table, 50), worst=worst) for worst in (False, True))
    fields = "maintenance", "initial", "loss", "scale", "group_loss", "worst", "group"
    expected = [getattr(later, field) for field in fields]
    monkeypatch.delattr(requirement, "fill_plain")  # a second pass would fail
    for field, values in zip(fields, expected, strict=True):
        np.testing.assert_array_equal(getattr(at_once, field), values)


@pytest.mark.parametrize(
    "model",
    [
        {"offset": {"alpha": "0.6"}},
        {"contingencies": [{"kind": "notional", "rate": "0.01", "enters": "mm"}]},
        {"minimum": {"rate": "1", "per": "contract", "level": "account"}},
        {"round_worst": 4},
        {"im_scenarios": [{"move": "0.5"}]},
    ],
)
def test_other_models_are_not_plain(model):
    table = table_of(16, **model)
    assert not plain.is_plain(portfolios_of(table, 5), table.arrays)


def outputs_of(rule):
    table = table_of(40, 3, rule)
    found = table.requirements(portfolios_of(table, 12), threads=1)
    return [found.maintenance.tobytes().hex(), found.worst.tolist(), found.scale.tobytes().hex()]


@pytest.mark.parametrize("setting", ["RISKCORE_SIMD=0", "NUMBA_DISABLE_JIT=1"])
def test_bits_are_the_same_without_vectors_and_without_the_jit(setting):
    code = "from tests.test_scenario_plain import outputs_of; print([outputs_of(r) for r in ('separate', 'joint')])"
    name, value = setting.split("=")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {name: value}
    )
    assert done.stdout.strip() == str([outputs_of(rule) for rule in ("separate", "joint")])
