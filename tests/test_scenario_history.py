"""History as scenarios: windows, weights, filters, volatilities, stressed sets; and exact measures of losses."""

import math
from fractions import Fraction as F

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    Vol,
    expected_shortfall,
    value_at_risk,
)

RNG = np.random.default_rng(17)
DAYS = pd.date_range("2026-01-01", periods=60)
PRICES = pd.DataFrame(
    np.exp(np.cumsum(RNG.normal(0, 0.03, (60, 2)), axis=0)) * [60_000, 3_000], columns=["BTC", "ETH"], index=DAYS
)
LOSSES = [120, -40, 300, 15, -75, 210, 60, -10, 95, 180]  # the latest first


def moves(model, underlying="BTC"):
    return [float(row.move_of(underlying)) for row in model.rows]


def requirement(model, price=1000.0, size=1.0):
    """Requirement of an account with one perpetual of BTC."""
    instruments = Instruments.from_frame(pd.DataFrame({"market": ["P"], "kind": ["PERP"], "underlying": ["BTC"]}))
    market = ScenarioMarket.read(instruments, 0, index={"BTC": price}, marks={"P": price})
    sizes = pd.DataFrame({"account": ["a"], "market": ["P"], "size": [size]})
    found = ScenarioTable.of(model, instruments, market).requirements(Portfolios.from_frame(instruments, sizes)[0])
    return found.maintenance[0]


def of_losses(losses, **keys):
    """A model in which a long perpetual at 1,000 has losses, the first the latest."""
    frame = pd.DataFrame({"BTC": [-loss / 1000 for loss in reversed(losses)]})
    return rc.ScenarioModel.from_returns(frame, prices=False, **keys)


# ---- Windows


@pytest.mark.parametrize("horizon", [1, 2, 7])
def test_windows_overlap(horizon):
    model = rc.ScenarioModel.from_returns(PRICES, horizon=horizon)
    assert moves(model, "ETH") == list(PRICES.ETH.pct_change(horizon).iloc[horizon:])
    assert [row.name for row in model.rows] == [day.date().isoformat() for day in DAYS[horizon:]]
    assert len(model.groups_of(["BTC", "ETH"])) == 1


def test_returns_are_compounded_over_the_horizon():
    returns = PRICES.pct_change().iloc[1:]
    assert moves(rc.ScenarioModel.from_returns(returns, prices=False)) == list(returns.BTC)
    compounded = rc.ScenarioModel.from_returns(returns, prices=False, horizon=5)
    assert moves(compounded) == pytest.approx(list(PRICES.BTC.pct_change(5).iloc[5:]), abs=1e-12)


def test_the_latest_windows_are_kept():
    whole = rc.ScenarioModel.from_returns(PRICES, horizon=3)
    assert moves(rc.ScenarioModel.from_returns(PRICES, horizon=3, rows=10)) == moves(whole)[-10:]
    assert moves(rc.ScenarioModel.from_returns(PRICES, horizon=3, rows=1000)) == moves(whole)


def test_tables_of_other_libraries_have_a_column_of_times():
    table = pyarrow.Table.from_pandas(PRICES.rename_axis("time").reset_index())
    assert rc.ScenarioModel.from_returns(table) == rc.ScenarioModel.from_returns(PRICES)


def test_a_gap_is_refused_or_its_windows_are_dropped():
    gapped = PRICES.copy()
    gapped.loc[DAYS[7], "ETH"] = np.nan
    with pytest.raises(rc.RiskDataError, match=r"frame.ETH, row 2026-01-08: must have a value: missing='drop'"):
        rc.ScenarioModel.from_returns(gapped)
    model = rc.ScenarioModel.from_returns(gapped, horizon=2, missing="drop")
    expected = PRICES.BTC.pct_change(2).iloc[2:].drop([DAYS[7], DAYS[9]])
    assert moves(model) == list(expected)


# ---- Weights, filters, volatilities, stress


def test_weights_decay_with_the_age_of_the_row():
    model = rc.ScenarioModel.from_returns(PRICES, weights="0.9", measure={"kind": "es", "alpha": "0.9"})
    found = [row.probability for row in model.rows]
    total = sum(F(9, 10) ** age for age in range(59))
    for age, probability in enumerate(reversed(found)):
        assert math.isclose(probability, F(9, 10) ** age / total, rel_tol=1e-20)
    assert sum(found) == 1
    assert all(row.probability is None for row in rc.ScenarioModel.from_returns(PRICES, weights="equal").rows)


@pytest.mark.parametrize("horizon", [1, 4])
def test_a_filter_scales_moves_to_the_latest_volatility(horizon):
    decay = 0.94
    returns, model = (
        PRICES.BTC.pct_change().to_numpy(),
        rc.ScenarioModel.from_returns(PRICES, horizon=horizon, filtered=decay),
    )
    volatility = {}
    for row in range(1, 60):
        weights = decay ** np.arange(row - 1, -1, -1)
        volatility[row] = np.sqrt((weights * returns[1 : row + 1] ** 2).sum() / weights.sum())
    expected = [
        (PRICES.BTC.iloc[row] / PRICES.BTC.iloc[row - horizon] - 1) * volatility[59] / volatility[row - horizon]
        for row in range(horizon + 1, 60)
    ]
    assert moves(model) == pytest.approx(expected, rel=1e-12)
    assert model.rows[0].name == DAYS[horizon + 1].date().isoformat()


def test_a_filter_can_be_a_frame_of_volatilities():
    volatilities = pd.DataFrame({"ETH": np.linspace(0.4, 0.8, 60), "BTC": np.linspace(0.3, 0.6, 60)}, index=DAYS)
    model = rc.ScenarioModel.from_returns(PRICES, filtered=volatilities)
    expected = PRICES.BTC.pct_change().iloc[1:] * 0.6 / volatilities.BTC.iloc[1:]
    assert moves(model) == pytest.approx(list(expected), rel=1e-12)


def test_rows_can_change_volatilities():
    changes = pd.DataFrame({"BTC": RNG.normal(0, 0.1, 59)}, index=DAYS[1:])
    model = rc.ScenarioModel.from_returns(PRICES, volatility_changes=changes, volatility_rule="absolute")
    assert {row.vol for row in model.rows} == {Vol.ABSOLUTE}
    assert [float(row.vol_change_of("BTC")) for row in model.rows] == list(changes.BTC)
    assert all(row.vol_change_of("ETH") == 0 for row in model.rows)


def test_a_stressed_set_stands_behind_the_window():
    measure = {"kind": "es", "alpha": "0.9", "stressed_share": "0.25"}
    by_preset = rc.ScenarioModel.from_returns(PRICES, measure=measure, stressed="oct10")
    last = by_preset.rows[-1]
    assert (last.name, last.stress, float(last.move_of("ETH"))) == ("stress 10 October 2025", True, -0.218186)
    assert not any(row.stress for row in by_preset.rows[:-1])
    by_frame = rc.ScenarioModel.from_returns(PRICES.iloc[20:], measure=measure, stressed=PRICES.iloc[:20])
    assert [row.stress for row in by_frame.rows] == [False] * 39 + [True] * 19
    assert moves(by_frame)[39:] == list(PRICES.BTC.pct_change().iloc[1:20])


def test_a_preset_gives_what_is_not_given():
    model = rc.ScenarioModel.from_returns(PRICES, preset="histsim")
    assert (model.measure.kind, model.measure.alpha, model.measure.stressed_share) == ("es", F("0.975"), F("0.25"))
    assert model.rows[-1].stress
    assert math.isclose(model.rows[0].probability / model.rows[1].probability, 0.97)
    assert len(rc.ScenarioModel.from_returns(PRICES, preset="histsim", rows=10).rows) == 11
    changed = rc.ScenarioModel.from_returns(
        PRICES,
        preset="histsim",
        weights="equal",
        mm_factor="0.8",
        measure={"kind": "var", "alpha": "0.9", "stressed_share": "0.1"},
    )
    assert (changed.mm_factor, changed.measure.kind, changed.rows[0].probability) == (F("0.8"), "var", None)


@pytest.mark.parametrize(
    ("frame", "keys", "message"),
    [
        ([1.0], {}, "frame: must be a pandas DataFrame, not list"),
        (PRICES.iloc[::-1], {}, "frame: must have its rows in the order of time, the latest last"),
        (pd.concat([PRICES, PRICES]).sort_index(), {}, "frame, row 2026-01-01: must have each label once"),
        (PRICES.iloc[:0], {}, "frame: must have a column for each underlying, and rows"),
        (PRICES.iloc[:3], {"horizon": 3}, "frame, value 3: must have more rows for a horizon of 3"),
        (PRICES * 0, {}, "frame.BTC, row 2026-01-01, value 0.0: must be more than 0: a price"),
        (PRICES - 60_002, {"prices": False}, "must be more than -1: a return"),
        (PRICES.astype(str) + "x", {}, "frame.BTC: must hold numbers"),
        (PRICES.rename(columns={"BTC": 5}), {}, "frame, value 5: must have the names of underlyings as columns"),
        (PRICES, {"horizon": 0}, "horizon, value 0: must be a whole number from 1 to 10000"),
        (PRICES, {"rows": 1.5}, "rows, value 1.5: must be a whole number from 1 to 4096"),
        (PRICES, {"weights": "often"}, "scenario_model.weights, value 'often': must be a decimal or a fraction"),
        (PRICES, {"weights": 1.1}, "scenario_model.weights, value 1.1: must be more than 0 and at most 1"),
        (PRICES, {"filtered": 1.0}, "scenario_model.filtered, value 1.0: must be more than 0 and less than 1"),
        (PRICES, {"filtered": PRICES[["BTC"]]}, "filtered.ETH: the column is missing"),
        (PRICES, {"filtered": PRICES.iloc[5:]}, "filtered, row 2026-01-02: must have a row for each row of the frame"),
        (PRICES, {"filtered": PRICES * 0}, "filtered.BTC, row 2026-01-02: must have a volatility of more than 0"),
        (PRICES, {"missing": "fill"}, "missing, value 'fill': must be 'refuse' or 'drop'"),
        (
            PRICES,
            {"volatility_changes": PRICES.rename(columns={"ETH": "SOL"})},
            "volatility_changes.SOL: must be a column",
        ),
        (PRICES, {"volatility_changes": PRICES.iloc[:5]}, "volatility_changes, row 2026-01-06: must have a value for"),
        (
            PRICES,
            {"volatility_changes": PRICES, "volatility_rule": "up"},
            "volatility_rule, value 'up': must be 'relative'",
        ),
        (PRICES, {"stressed": PRICES[["ETH"]]}, "stressed: must have the columns of the frame: BTC, ETH"),
        (PRICES, {"stressed": "nobody"}, "scenario_model, value 'nobody': must be a preset"),
        (PRICES, {"preset": "derive"}, "preset, value 'derive': must be a preset that is made from a history"),
        (PRICES, {"mm_factr": 1}, "scenario_model.mm_factr: is no key of a model; do you mean 'mm_factor'?"),
        (PRICES, {"measure": {"kind": "es"}}, "scenario_model.measure.alpha: is missing"),
    ],
)
def test_wrong_histories_are_refused_in_a_line(frame, keys, message):
    with pytest.raises(rc.RiskDataError) as caught:
        rc.ScenarioModel.from_returns(frame, **keys)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- Measures

TENTHS = [F(1, 10)] * 10
DECAYING = [F(9, 10) ** age / sum(F(9, 10) ** k for k in range(10)) for age in range(10)]


def test_measures_of_ten_losses():
    losses = [F(loss) for loss in LOSSES]
    assert value_at_risk(losses, TENTHS, F("0.9")) == 210
    assert expected_shortfall(losses, TENTHS, F("0.9")) == 300
    assert value_at_risk(losses, TENTHS, F("0.85")) == 210
    assert expected_shortfall(losses, TENTHS, F("0.85")) == 270
    assert value_at_risk(losses, DECAYING, F("0.85")) == 210
    assert round(float(expected_shortfall(losses, DECAYING, F("0.85"))), 4) == 284.6175


@pytest.mark.parametrize(
    ("measure", "weights", "expected"),
    [
        ({"kind": "worst"}, "equal", 300),
        ({"kind": "var", "alpha": "0.9"}, "equal", 210),
        ({"kind": "es", "alpha": "0.9"}, "equal", 300),
        ({"kind": "var", "alpha": "0.85"}, "equal", 210),
        ({"kind": "es", "alpha": "0.85"}, "equal", 270),
        ({"kind": "es", "alpha": "0.85", "buffer": "0.25"}, "equal", 337.5),
        ({"kind": "var", "alpha": "0.85"}, "0.9", 210),
        ({"kind": "es", "alpha": "0.85"}, "0.9", 284.6175),
    ],
)
def test_the_requirement_is_the_measure_of_the_losses(measure, weights, expected):
    assert requirement(of_losses(LOSSES, measure=measure, weights=weights)) == pytest.approx(expected, abs=5e-5)


def test_a_stressed_set_has_its_share():
    measure = {"kind": "es", "alpha": "0.85", "stressed_share": "0.25"}
    stressed = pd.DataFrame({"BTC": [-0.5, 0.1]})
    assert requirement(of_losses(LOSSES, measure=measure, stressed=stressed)) == pytest.approx(0.75 * 270 + 0.25 * 500)


weighted = st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 9)), min_size=1, max_size=12)


@given(weighted.filter(lambda rows: sum(weight for _, weight in rows)), st.fractions(F(1, 20), F(19, 20)))
def test_measures_follow_their_definitions(rows, alpha):
    losses, total = [F(loss) for loss, _ in rows], sum(weight for _, weight in rows)
    probabilities = [F(weight, total) for _, weight in rows]
    at_risk, shortfall = value_at_risk(losses, probabilities, alpha), expected_shortfall(losses, probabilities, alpha)
    more = sum((p for loss, p in zip(losses, probabilities, strict=True) if loss > at_risk), F(0))
    no_less = sum(p for loss, p in zip(losses, probabilities, strict=True) if loss >= at_risk)
    assert more <= 1 - alpha < no_less
    excess = sum(p * max(loss - at_risk, 0) for loss, p in zip(losses, probabilities, strict=True))
    assert shortfall == at_risk + excess / (1 - alpha)  # Rockafellar and Uryasev
    assert at_risk <= shortfall <= max(losses)


@settings(max_examples=25)
@given(st.lists(st.integers(-500, 500), min_size=2, max_size=12), st.integers(1, 19), st.sampled_from(["var", "es"]))
def test_the_kernel_agrees_with_the_exact_measures(losses, alpha, kind):
    exact = {"var": value_at_risk, "es": expected_shortfall}[kind]
    expected = exact([F(loss) for loss in losses], [F(1, len(losses))] * len(losses), F(alpha, 20))
    model = of_losses(losses, measure={"kind": kind, "alpha": f"{alpha}/20"})
    assert requirement(model) == pytest.approx(max(0.0, float(expected)), abs=1e-9)
