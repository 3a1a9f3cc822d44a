"""Scenario models as data: presets, the reader and its refusals, what the figures say about a requirement."""

import dataclasses
import json
import re
import warnings
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import riskcore as rc
from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    Vol,
    preset_names,
    scenario_models_page,
    scenario_preset,
)
from riskcore.scenario.checks import discounts_in_order
from riskcore.scenario.figures import decimal_text
from riskcore.scenario.model import Charge, Discount
from tests import scenario_vectors as vectors

PAGE = Path(__file__).parents[1] / "docs" / "scenario_models.md"
FIXED = [name for name in preset_names() if "history" not in scenario_preset(name)]
ONE = [{"move": "0.1"}]


def preset(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return rc.load_scenario_model(name)


def listed(model):
    """Move, volatility rule and weight of each scenario."""
    return [(row.move_of("BTC"), row.vol.name.lower(), row.weight) for row in model.rows]


def grid(moves, vols):
    return [(F(move), vol, F(1)) for move in moves for vol in vols]


def tails(weights):
    return [(F(move), "up", F(weight)) for move, weight in weights.items()]


# ---- Presets

REGULAR = ["0.135", "0.09", "0.045", "0", "-0.045", "-0.09", "-0.135"]
SKEWS = [(F(0), "linear", F(1)), (F(0), "abs", F(1))]
EXTENDED = ["-0.66", "-0.33", "0.5", "1", "2", "3", "4", "5"]
TESTED = tails({move: F("0.036") / abs(F(move)) for move in EXTENDED[:6]})
MAINNET = tails(
    dict(zip(EXTENDED, ["0.21", "0.42", "0.2772", "0.1386", "0.0693", "0.0462", "0.03465", "0.02772"], strict=True))
)


def ends(move, inner, vols):
    return [(F(move), "up", F(1)), *grid(inner, vols), (-F(move), "up", F(1))]


def buckets(range_):
    moves = [F(range_) * j / 4 for j in range(-4, 5)]
    return grid(moves, ["up", "same", "down"]) + tails({m: F(range_) / abs(F(m)) for m in EXTENDED})


def points(low, high):
    return grid([F(low) + (F(high) - F(low)) * k / 9 for k in range(10)], ["same"])


def test_the_scenarios_of_the_presets_are_those_published():
    expected = {
        "derive": ends("0.18", REGULAR, ["down", "same", "up"]) + TESTED + SKEWS,
        "derive_mainnet_tails": ends("0.18", REGULAR, ["down", "same", "up"]) + MAINNET + SKEWS,
        "derive_mainnet": ends("0.18", REGULAR, ["up", "same", "down"]) + MAINNET + SKEWS,
        "pmrm1": grid(["0.15", "0.1", "0.05", "0", "-0.05", "-0.1", "-0.15"], ["up", "same", "down"]),
        "pmrm1_mainnet": ends("0.2", ["0.15", "0.1", "0.05", "0", "-0.05", "-0.1", "-0.15"], ["up", "same", "down"]),
        "buckets": buckets("0.16"),
        "buckets_eth_2026": buckets("0.18"),
        "buckets_btc_2026": buckets("0.14"),
        "grid24": ends("0.16", ["0.12", "0.08", "0.04", "0", "-0.04", "-0.08", "-0.12"], ["up", "down"])
        + tails(dict(zip(EXTENDED, ["0.18", "0.36", "0.24", "0.12", "0.06", "0.04", "0.03", "0.024"], strict=True))),
        "tims10": points("-0.15", "0.15"),
        "tims10_broad": points("-0.1", "0.1"),
        "tims10_high_cap": points("-0.08", "0.06"),
    }
    for name, scenarios in expected.items():
        assert listed(preset(name)) == scenarios, name
    assert points("-0.15", "0.15")[1][0] == F(-7, 60)  # E-S12: the second point is -11.666667 %
    assert set(FIXED) - set(expected) == {"oct10", "span16", "span16_extreme_3", "unit", "unit_brackets_2025"}


def test_a_scan_range_is_an_amount():
    for name, extreme, share in (("span16", 2, "0.35"), ("span16_extreme_3", 3, "0.33")):
        model = preset(name).replace(scan_range={"X": "300"})
        shifts = [row.shift_of("X") for row in model.rows]
        assert shifts == [
            0,
            0,
            100,
            100,
            -100,
            -100,
            200,
            200,
            -200,
            -200,
            300,
            300,
            -300,
            -300,
            300 * extreme,
            -300 * extreme,
        ]
        assert [row.move_of("X") for row in model.rows] == [0] * 16
        assert [row.weight for row in model.rows] == [1] * 14 + [F(share)] * 2
        assert [row.vol for row in model.rows] == [Vol.UP, Vol.DOWN] * 7 + [Vol.SAME] * 2
        with pytest.raises(rc.RiskDataError, match=r"scan_range: must have an amount for 'Y' or 'others'"):
            model.must_cover(["X", "Y"])


def test_a_risk_unit_has_the_moves_of_its_class():
    model = preset("unit")
    rules = ["points_up", "percent_up", "same", "points_down", "percent_down"]
    for underlying, steps, far in (
        ("BTC", ["-0.12", "-0.08", "-0.04", "0", "0.04", "0.08", "0.12"], "0.24"),
        ("DOGE", ["-0.18", "-0.12", "-0.06", "0", "0.06", "0.12", "0.18"], "0.36"),
        ("FARTCOIN", ["-0.25", "-0.16", "-0.08", "0", "0.08", "0.16", "0.25"], "0.5"),
    ):
        found = [(row.move_of(underlying), row.vol.name.lower(), row.weight, row.hours) for row in model.rows]
        expected = [(F(move), rule, 1, 0) for move in steps for rule in rules] + [(0, "same", 1, 24)]
        assert found == [*expected, (-F(far), "same", F(1, 2), 0), (F(far), "same", F(1, 2), 0)]
        (charge,) = [charge for charge in model.contingencies if charge.concerns(underlying)]
        assert charge.rate == {"BTC": F("0.05"), "DOGE": F("0.15"), "FARTCOIN": F("0.3")}[underlying]
    assert model.minimum.brackets[-1] == (None, F(12))


def test_the_day_of_october_is_the_low_over_the_high(shared):
    (row,) = preset("oct10").rows
    assert row.name == "10 October 2025"
    data = shared / "data" / "oct10_cross_section" / "binance_spot_daily_drop.parquet"
    markets = pd.read_parquet(data).set_index("market")
    for name, move in row.moves.items():
        if name == "others":
            usdt = markets[markets.quote == "usdt"]
            assert float(move) == pytest.approx(-(1 - usdt.day_low / usdt.day_high).median(), abs=1e-4)
        else:
            day = markets.loc[f"{name.lower()}_usdt"]
            assert float(move) == pytest.approx(day.day_low / day.day_high - 1, abs=1e-6)


@pytest.mark.parametrize("name", preset_names())
def test_every_figure_of_a_preset_has_a_source(name):
    content = scenario_preset(name)
    sources = {path: source for path, source in content["sources"].items() if source is not None}
    assert {source["status"] for source in sources.values()} <= {"published", "inferred", "unknown"}
    assert all(source["source"] and re.match(r"\d{4}", source["date"]) for source in sources.values())
    named = {re.split(r"[.\[]", path)[0] for path in sources} - {"history"}
    assert named == set(content["model"])
    rows = len(content["model"].get("contingencies", []))
    given = {path for path in sources if path.startswith("contingencies[")}
    assert not given or given == {f"contingencies[{row}]" for row in range(rows)}


@pytest.mark.parametrize("name", FIXED)
def test_a_preset_is_read_again_from_what_it_writes(name, tmp_path):
    model = preset(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = rc.load_scenario_model(json.dumps(model.to_dict()))
        (tmp_path / "model.json").write_text(json.dumps(model.to_dict()))
        from_file = rc.load_scenario_model(str(tmp_path / "model.json"))
    assert again == model == from_file
    assert hash(again) == hash(model)
    assert again.rows == model.rows
    assert rc.load_scenario_model(model) is model
    names = [row.name for row in model.rows]
    assert len(set(names)) == len(names)
    assert list(model.describe().name) == names


def test_the_page_is_current():
    write = (
        "from riskcore.scenario import scenario_models_page as page; open('docs/scenario_models.md', 'w').write(page())"
    )
    assert PAGE.read_text(encoding="utf-8") == scenario_models_page(), f'python -c "{write}"'


# ---- The language


def test_numbers_are_exact_however_they_are_written():
    for text in ("0.1", 0.1, " +.1", "1/10", "1e-1", np.float64(0.1), F(1, 10)):
        assert rc.ScenarioModel.read({"scenarios": [{"move": text}]}).rows[0].move_of("BTC") == F(1, 10)


@given(st.fractions(max_denominator=10**9).filter(lambda x: abs(x) < 10**15))
def test_the_text_of_a_number_reads_back(number):
    assert F(decimal_text(number)) == number
    assert "e" not in decimal_text(number)


def test_tails_keep_their_moves_and_have_exact_weights():
    model = rc.ScenarioModel.read(
        {
            "grid": {"range": "0.18", "steps": 1},
            "tails": [{"move": "-0.66", "kappa": "0.2", "coin_tail": True}, {"move": "0.5", "dampener": "3"}],
            "moves": {"HYPE": "11/6"},
            "dampener": "900",
        }
    )
    inside, tail, other = model.rows[0], *model.rows[3:]
    assert (inside.move_of("BTC"), inside.move_of("HYPE")) == (F("-0.18"), F("-0.33"))
    assert (inside.edge, inside.dampener, inside.coin_tail) == (0, 0, False)
    assert (tail.move_of("HYPE"), tail.weight) == (F("-0.66"), F("0.036") / F("0.66"))
    assert (tail.edge, tail.dampener, tail.coin_tail) == (F("-0.18"), (F("0.66") / F("0.18") - 1) * 900, True)
    assert (other.edge, other.dampener, other.weight) == (F("0.18"), 3, 1)


def test_underlyings_are_divided_into_groups():
    groups = [{"underlyings": ["ETH", "SOL"], "rule": "groups", "alpha": "0.9"}, {"underlyings": "all"}]
    model = rc.ScenarioModel.read({"scenarios": ONE, "groups": groups, "offset": {"alpha": "0.5", "cap": "7"}})
    found = [(group.members, group.alpha, group.cap) for group in model.groups_of(["BTC", "SOL", "DOGE", "ETH"])]
    assert found == [((1, 3), F(9, 10), 7), ((0, 2), F(1, 2), 7)]
    separate = model.replace(groups=[{"underlyings": ["ETH", "SOL"], "rule": "separate"}, {"underlyings": "all"}])
    assert [group.members for group in separate.groups_of(["BTC", "SOL", "DOGE", "ETH"])] == [(0, 2), (1,), (3,)]
    assert [group.members for group in model.replace(groups=None).groups_of(["A", "B"])] == [(0,), (1,)]


def test_a_row_that_names_underlyings_has_no_move_for_others():
    model = rc.ScenarioModel.read({"scenarios": [{"move": {"BTC": "-0.04", "ETH": "-0.045"}, "vol": "same"}]})
    assert model.rows[0].name == "BTC -4 %, ETH -4.5 % same"
    model.must_cover(["ETH", "BTC"])
    with pytest.raises(rc.RiskDataError, match="must have a move of 'SOL' or 'others'"):
        model.must_cover(["BTC", "SOL"])


def test_scenarios_of_one_name_are_numbered():
    rows = [{"name": "+10 % same (2)"}, {"move": "0.1"}, {"move": "0.1", "weight": "2"}, {"name": "x"}]
    model = rc.ScenarioModel.read({"scenarios": rows})
    assert [row.name for row in model.rows] == ["+10 % same (2)", "+10 % same", "+10 % same (3)", "x"]


def test_probabilities_are_in_proportion_to_the_sum_of_their_set():
    rows = [
        {"vol": "larger_up", "probability": "1"},
        {"move": "0.1", "probability": "2"},
        {"move": "-0.5", "set": "stress"},
    ]
    shock = {"points": [["0", "0.3"]], "percent": [["0", "0.5"]]}
    measure = {"kind": "es", "alpha": "0.9", "stressed_share": "0.25"}
    model = rc.ScenarioModel.read({"scenarios": rows, "vol_shock": shock, "measure": measure})
    assert [row.probability for row in model.rows] == [F(1, 4), F(1, 4), F(1, 2), None]


def test_the_initial_requirement_can_have_scenarios_of_its_own():
    model = rc.ScenarioModel.read({"scenarios": ONE, "im_scenarios": [{"move": "0.2"}, {"move": "-0.2"}]})
    assert [row.move_of("BTC") for row in model.initial_rows] == [F("0.2"), F("-0.2")]
    assert rc.ScenarioModel.read({"scenarios": ONE}).initial_rows is None


def test_a_model_is_changed_by_keys():
    model = preset("derive")
    changed = model.replace(mm_factor="1", discount=None, minimum={"rate": 5})
    assert (changed.mm_factor, changed.discount, changed.minimum.rate) == (1, None, 5)
    assert changed != model
    assert model.mm_factor == F("0.8")


POINTS = {"points": [["0", "0.3"], ["30", "0.2"]]}
SHOCKS = {"up": "0.5", "down": "0.2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "scenario_model.scenarios: must have at least one scenario, or the model a grid"),
        ({"scenarios": [{"weight": "-1"}]}, "scenario_model.scenarios[0].weight, value '-1': must be at least 0"),
        ({"scenarios": ONE, "mm_factor": 0}, "scenario_model.mm_factor, value 0: must be more than 0"),
        ({"scenarios": ONE, "im_factor": "nan"}, "im_factor, value 'nan': must be a decimal or a fraction of at most"),
        ({"scenarios": ONE, "im_factor": "\u0661"}, "must be a decimal or a fraction of at most 60 digits"),
        ({"scenarios": ONE, "im_factor": True}, "im_factor, value True: must be a number or the text of one"),
        ({"scenarios": ONE, "im_factor": "1/0"}, "im_factor, value '1/0': must be a decimal or a fraction"),
        ({"scenarios": ONE, "im_factor": "1e99"}, "im_factor, value '1e99': must be a decimal or a fraction"),
        ({"scenarios": ONE, "im_multiplier": "0.9"}, "im_multiplier, value '0.9': must be at least 1"),
        ({"scenarios": ONE, "offset": {"alpha": "1.1"}}, "offset.alpha, value '1.1': must be at least 0 and at most 1"),
        ({"scenarios": [{"move": "-1.01"}]}, "scenarios[0].move, value '-1.01': must be at least -1"),
        ({"scenarios": {"move": "1"}}, "scenario_model.scenarios, value {'move': '1'}: must be a list"),
        ({"scenarios": ["up"]}, "scenario_model.scenarios[0], value 'up': must be an object"),
        ({"scenarios": [{"move": "0.6"}, {"move": "-0.6"}], "moves": {"A": "2"}}, "moves.A, value '2': must not make"),
        ({"scenarios": [{"vol": "upp"}]}, "scenarios[0].vol, value 'upp': must be 'same'"),
        ({"scenarios": [{"vol": "up"}]}, "vol_shock.up: is missing: the scenario '0 % up' needs it"),
        ({"scenarios": [{"vol": "larger_up"}], "vol_shock": POINTS}, "vol_shock.percent: is missing"),
        ({"scenarios": [{"vol": "abs"}]}, "skew.abs: is missing: the scenario 'abs' needs it"),
        ({"scenarios": ONE, "vol_shock": {"points": [["30", "1"], ["0", "1"]]}}, "vol_shock.points[1], value '0'"),
        ({"scenarios": ONE, "vol_shock": {"points": [["30"]]}}, "vol_shock.points[0], value ['30']: must be a pair"),
        ({"scenarios": ONE, "skew": {"abs": {"cap": "1"}}}, "skew.abs.cbase: is missing"),
        ({"scenarios": [{"move": "1", "kappa": "1"}]}, "scenarios[0].kappa, value '1': needs a range"),
        ({"scenarios": [{"move": "1", "kappa": "1", "weight": "1"}], "range": 1}, "must not stand beside a weight"),
        ({"scenarios": [{"kappa": "1"}], "range": 1}, "scenarios[0].kappa, value '1': must stand beside a move"),
        ({"scenarios": [{"move": "1", "ranges": "1"}]}, "scenarios[0].ranges, value '1': must not stand beside a move"),
        ({"scenarios": [{"move": {}}]}, "scenarios[0].move: must have a move of at least one underlying"),
        ({"scenarios": [{"move": {"": 0}}]}, "must be text that is not empty"),
        ({"scenarios": [{"vol_change": "0.1"}]}, "scenarios[0].vol_change, value 'same': must stand beside the vol"),
        ({"scenarios": [{"coin_tail": True}]}, "scenarios[0].coin_tail, value True: must be of a tail"),
        ({"grid": {"range": "0.1"}}, "scenario_model.grid: must have range and steps, or low, high and points"),
        ({"grid": {"low": "1", "high": "0", "points": 3}}, "grid.low, value '1': must be less than high"),
        ({"grid": {"range": "1.5", "steps": 2}}, "grid.range, value '1.5': must be at most 1"),
        ({"grid": {"range": "1", "steps": 1.5}}, "grid.steps, value 1.5: must be a whole number"),
        ({"grid": {"range": "1", "steps": 900, "vols": ["up", "same", "down"]}, "vol_shock": SHOCKS}, "value 5403"),
        ({"scenarios": ONE, "groups": [{"underlyings": ["A"], "rule": "groups"}]}, "groups[0].alpha: must be given"),
        ({"scenarios": ONE, "groups": [{"underlyings": ["A"], "alpha": 1}]}, "must stand beside the rule 'groups'"),
        ({"scenarios": ONE, "groups": [{"underlyings": ["A"]}, {"underlyings": ["A"]}]}, "must not be in groups[0]"),
        (
            {"scenarios": ONE, "groups": [{"underlyings": ["A", "A"]}]},
            "underlyings[1], value 'A': must not appear twice",
        ),
        ({"scenarios": ONE, "groups": [{}]}, "groups[0].underlyings: is missing"),
        ({"scenarios": ONE, "contingencies": [{"rate": "1"}]}, "contingencies[0].kind: is missing"),
        (
            {"scenarios": ONE, "contingencies": [{"kind": "tax"}]},
            "contingencies[0].kind, value 'tax': must be 'notional'",
        ),
        ({"scenarios": ONE, "contingencies": [{"kind": "roll"}]}, "contingencies[0].rate: is missing"),
        ({"scenarios": ONE, "contingencies": [{"kind": "funding", "rate": 1}]}, "contingencies[0].rate: is no key"),
        (
            {"scenarios": ONE, "contingencies": [{"kind": "delta_floor", "hedged": 1, "unhedged": 1, "enters": "im"}]},
            "contingencies[0]: a charge 'delta_floor' is part of the worst loss",
        ),
        (
            {"scenarios": ONE, "contingencies": [{"kind": "basis", "up": 1, "down": 0, "add": 1}] * 2},
            "contingencies[1]: must not concern an underlying that contingencies[0] concerns too",
        ),
        (
            {"scenarios": ONE, "contingencies": [{"kind": "funding", "underlyings": ["A"], "except_for": ["B"]}]},
            "contingencies[0].except_for, value ['B']: must not stand beside underlyings",
        ),
        (
            {"scenarios": ONE, "minimum": {"rate": 1, "brackets": [["1", "1"]]}},
            "minimum.brackets[0]: must have the top",
        ),
        (
            {"scenarios": ONE, "minimum": {"rate": 1, "brackets": [["2", 1], ["1", 2], [None, 3]]}},
            "minimum.brackets[1], value '1': must have a top above the one before",
        ),
        ({"scenarios": ONE, "measure": {"kind": "es"}}, "measure.alpha: is missing"),
        ({"scenarios": ONE, "measure": {"alpha": "0.9"}}, "measure.alpha, value '0.9': must stand beside the kind"),
        (
            {"scenarios": ONE, "measure": {"kind": "es", "alpha": "1"}},
            "measure.alpha, value '1': must be more than 0 and",
        ),
        (
            {"scenarios": ONE, "measure": {"kind": "es", "alpha": "0.9", "stressed_share": "0.25"}},
            "scenarios, value 0: must have rows of the set 'stress'",
        ),
        (
            {"scenarios": [*ONE, {"probability": "1"}], "measure": {"kind": "var", "alpha": "0.9"}},
            "scenarios: the scenario '+10 % same' has no probability, but other scenarios of the set 'window' have one",
        ),
        (
            {
                "scenarios": [*ONE, {"set": "stress"}],
                "im_scenarios": ONE,
                "measure": {"kind": "es", "alpha": "0.9", "stressed_share": "0.25"},
            },
            "im_scenarios, value 0: must have rows of the set 'stress' for measure.stressed_share",
        ),
        (
            {
                "scenarios": [{"set": "stress"}],
                "measure": {"kind": "es", "alpha": "0.9", "stressed_share": "0.25"},
            },
            "scenarios: must have a row of the set 'window'",
        ),
        (
            {"scenarios": [{"probability": "0"}], "measure": {"kind": "var", "alpha": "0.9"}},
            "scenarios: must have a row of the set 'window' with a probability of more than 0",
        ),
        (
            {"scenarios": ONE, "spreads": {"intra": [{"underlying": "A", "legs": [{}, {}], "charge": 1}]}},
            "spreads.intra[0].legs, value [None, None]: must be two legs of two tiers",
        ),
        (
            {
                "scenarios": ONE,
                "spreads": {"inter": [{"legs": [{"underlying": "A"}, {"underlying": "B"}], "rate": "0.6"}]},
            },
            "spreads.inter[0].legs: must have a leg of side 'A' and one of side 'B'",
        ),
        (
            {"scenarios": ONE, "mm_facter": "1"},
            "scenario_model.mm_facter: is no key of a model; do you mean 'mm_factor'?",
        ),
        ({"scenarios": ONE, "collateral_in_scenarios": "yes"}, "collateral_in_scenarios, value 'yes': must be true or"),
        ({"scenarios": ONE, "numeraire": ""}, "scenario_model.numeraire, value '': must be text that is not empty"),
        ({"scenarios": ONE, "round_worst": 99}, "round_worst, value 99: must be at least 0 and at most 18"),
    ],
)
def test_wrong_figures_are_refused_in_a_line(content, message):
    with pytest.raises(rc.RiskDataError) as caught:
        rc.load_scenario_model(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody", "scenario_model, value 'nobody': must be a preset (buckets, "),
        ("none.json", "scenario_model, value 'none.json': cannot be read: No such file or directory"),
        ("{", "scenario_model: is not JSON: "),
        ([], "scenario_model: must be an object"),
        ("histsim", "ScenarioModel.from_returns(frame, preset='histsim')"),
    ],
)
def test_what_is_no_model_is_refused(source, message):
    with pytest.raises(rc.RiskDataError) as caught:
        rc.load_scenario_model(source)
    assert message in str(caught.value)


# ---- The page


def test_the_example_of_the_page_is_what_the_model_gives():
    page = (PAGE.parent / "scenario_margin.md").read_text(encoding="utf-8")
    section = page.partition("## Models as data")[2].partition("\n## ")[0]
    model = rc.load_scenario_model(section.partition("```json\n")[2].partition("```")[0])
    rows = [
        f"| {number} | {row.name} | {decimal_text(row.move_of('BTC'))} | {decimal_text(row.move_of('ETH'))} "
        f"| {decimal_text(row.weight)} | {decimal_text(row.dampener)} |"
        for number, row in enumerate(model.rows)
    ]
    assert "\n".join(rows) in section
    keys = {key for line in section.splitlines() if line.startswith("| `") for key in re.findall("`([a-z_]+)`", line)}
    assert {field.name for field in dataclasses.fields(rc.ScenarioModel)} <= keys


def test_the_page_has_the_figures_of_each_charge():
    page = (PAGE.parent / "scenario_margin.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.partition("## Models as data")[2].splitlines() if line.startswith("| ")]
    listed_ = {row[0].strip("| "): re.findall("`([a-z_]+)`", row[1]) for row in rows if len(row) > 1}
    shared_ = {field.name for field in dataclasses.fields(Charge)}
    kinds = {kind.kind: kind for kind in Charge.__subclasses__()}
    assert len(kinds) == 13
    for name, kind in kinds.items():
        assert listed_[name] == [field.name for field in dataclasses.fields(kind) if field.name not in shared_], name


# ---- What the figures say

BOOK = {"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]}
SKEW = {"cbase": "-0.05", "cap": "0.15", "min_k": "0.01", "width": "4", "vol_static": "0.6"}


@pytest.mark.parametrize(
    ("figures", "broken"),
    [
        ({}, ""),
        ({"offset": {"alpha": "0"}}, ""),
        ({"offset": {"cap": "5"}}, "homogeneous subadditive"),
        ({"scenarios": [{"move": "0.1", "dampener": "1"}], "offset": {"alpha": "0"}}, "homogeneous subadditive"),
        ({"scenarios": [{"move": "0.1", "dampener": "1"}]}, "homogeneous convex subadditive"),
        ({"minimum": {"rate": "37.5"}}, ""),
        ({"minimum": {"rate": "1", "brackets": [["9", "1"], [None, "2"]]}}, "homogeneous subadditive"),
        ({"minimum": {"rate": "1", "brackets": [["9", "2"], [None, "1"]]}}, "homogeneous convex subadditive"),
        ({"round_worst": 9}, "homogeneous convex subadditive screenable"),
        ({"discount": {"base_long": "0.95"}}, ""),
        (
            {"discount": {"base_long": "0.95"}, "scenarios": [{"vol": "abs"}], "skew": {"abs": SKEW}},
            "convex subadditive screenable",
        ),
        ({"scenarios": [{"vol": "abs"}], "skew": {"abs": SKEW}}, ""),
        ({"measure": {"kind": "var", "alpha": "0.9"}}, "convex subadditive screenable"),
        ({"measure": {"kind": "es", "alpha": "0.9", "buffer": "0.25"}}, ""),
        ({"contingencies": [{"kind": "spread_delta", "rate": "0.01"}]}, "convex subadditive screenable"),
        ({"contingencies": [{"kind": "spread_delta", "rate": "0.01", "enters": "im"}]}, ""),
        (
            {"contingencies": [{"kind": "delta_shock", "threshold": 1, "max": "0.1", "increment": "0.001"}]},
            "homogeneous convex subadditive screenable",
        ),
        ({"contingencies": [{"kind": "delta_floor", "hedged": "0.02", "unhedged": "0.01"}]}, ""),
        (
            {"contingencies": [{"kind": "delta_floor", "hedged": "0.03", "unhedged": "0.01"}]},
            "convex subadditive screenable",
        ),
        (
            {"contingencies": [{"kind": "confidence", "threshold": "0.5", "factor": "1"}]},
            "convex subadditive screenable",
        ),
    ],
)
def test_traits_follow_the_figures(figures, broken):
    traits = rc.ScenarioModel.read(BOOK | figures).traits
    names = ("homogeneous", "convex", "subadditive", "screenable")
    assert " ".join(name for name in names if not getattr(traits, name)) == broken
    assert bool(traits.reasons) == bool(broken)


def test_spread_credits_alone_leave_a_bound():
    legs = [{"underlying": "A", "side": "A"}, {"underlying": "B", "side": "B"}]
    credit = rc.ScenarioModel.read(BOOK | {"spreads": {"inter": [{"legs": legs, "rate": "0.6"}]}}).traits
    assert (credit.convex, credit.screenable) == (False, True)
    tiers = [{"tier": 0}, {"tier": 1}]
    spreads = {"tiers": ["30"], "intra": [{"underlying": "A", "legs": tiers, "charge": "9"}]}
    charge = rc.ScenarioModel.read(BOOK | {"spreads": spreads}).traits
    assert (charge.convex, charge.screenable) == (False, False)


def test_a_discount_that_favours_long_options_warns():
    with pytest.warns(UserWarning, match=r"scenario_model.discount: .* \(d- < d\+\)") as caught:
        model = rc.load_scenario_model("derive_mainnet")
    assert caught[0].filename == __file__
    assert (model.traits.convex, model.traits.screenable) == (False, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in set(FIXED) - {"derive_mainnet"}:
            rc.load_scenario_model(name)


figures = st.fractions(min_value=0, max_value=2, max_denominator=8)
signed = st.fractions(min_value=-2, max_value=2, max_denominator=8)


@given(
    st.builds(
        Discount,
        base_long=figures,
        rate_mult_long=signed,
        rate_add_long=signed,
        base_short=st.none() | figures,
        rate_mult_short=signed,
        rate_add_short=signed,
    ),
    st.sampled_from(["zero", "not_negative", "given"]),
    st.fractions(min_value=0, max_value=10),
    st.fractions(min_value=0, max_value=2),
)
def test_discounts_said_to_be_in_order_are(discount, rates, years, rate):
    """Logarithms are compared exactly but for those of the bases, which at 0 years decide alone."""
    if not discounts_in_order(discount, rates):
        return
    long = discount.base_long, -years * (rate * discount.rate_mult_long + discount.rate_add_long)
    shorts = [(F(1), years * rate * (rates != "zero"))]
    if discount.base_short is None:
        shorts = [(F(1), F(0))]
    else:
        shorts.append((discount.base_short, years * (rate * discount.rate_mult_short + discount.rate_add_short)))
    assert all(base >= long[0] and power >= long[1] for base, power in shorts)


# ---- Presets against other systems


def figures_of(model):
    """All figures but the rows and what a preset has beside the figures of an account."""
    content = model.to_dict()
    beside = ["scenarios", "grid", "tails", "range", "moves"]
    beside += ["haircuts", "collateral_underlying", "collateral_in_scenarios", "borrow_margin"]
    return {name: value for name, value in content.items() if name not in beside}


def test_presets_have_the_figures_of_the_vectors(shared):
    base = vectors.read_vectors(shared / "vectors", "derive.json")["parameters_base"]
    base["OtherContingency"]["IM_PERP_PERCENT"] = round(base["OtherContingency"]["IM_PERP_PERCENT"], 12)
    for name, content in (
        ("derive", vectors.derive_model(base)),
        ("pmrm1", vectors.first_derive_model()),
        ("grid24", vectors.grid_model(0)),
    ):
        shipped, given_ = preset(name), rc.ScenarioModel.read(content)
        assert figures_of(shipped) == figures_of(given_)
        assert [row.vol for row in shipped.rows] == [row.vol for row in given_.rows]
        for mine, other in zip(shipped.rows, given_.rows, strict=True):
            assert float(mine.move_of("BTC")) == pytest.approx(float(other.move_of("BTC")), abs=1e-12)
            assert float(mine.weight) == pytest.approx(float(other.weight), abs=1e-12)


def test_a_preset_in_coin_gives_a_printed_reply(shared):
    cases = vectors.read_vectors(shared / "vectors", "scenario_docs.json")["cases"]
    case = vectors.buckets_case("reply", next(c for c in cases if c["id"] == "deribit-pme-doc-margin")["inputs"])
    instruments = Instruments.from_frame(case.frame())
    market = ScenarioMarket.read(instruments, case.time, index=case.index, marks=case.marks)
    sizes = pd.DataFrame({"account": "a", "market": list(case.sizes), "size": list(case.sizes.values())})
    table = ScenarioTable.of(preset("buckets").replace(numeraire="BTC"), instruments, market)
    found = table.requirements(Portfolios.from_frame(instruments, sizes)[0])
    assert found.maintenance[0] == pytest.approx(0.050274504784, abs=2e-12)
    assert found.initial[0] == pytest.approx(0.062843131, abs=1e-12)  # without orders, to 9 decimals
    assert found.worst[0] == 0


def option_book():
    """Perpetuals, a future, options of three strikes and a balance of coins, and the data of a tick."""
    now, day = 1_767_225_600 * 10**9, 86_400 * 10**9
    rows = [("BTC-P", "PERP", "BTC", None), ("ETH-P", "PERP", "ETH", None), ("BTC-F", "DATED", "BTC", None)]
    rows += [(f"{strike}{right}", "OPTION", "BTC", strike) for strike in (55_000, 60_000, 65_000) for right in "CP"]
    frame = pd.DataFrame([*rows, ("BTC", "SPOT", "BTC", None)], columns=["market", "kind", "underlying", "strike"])
    frame["expiry"] = pd.array([None, None, now + 90 * day, *[now + 30 * day] * 6, None], dtype="Int64")
    frame["right"] = [None] * 3 + list("CPCPCP") + [None]
    instruments = Instruments.from_frame(frame)
    options = [name for name, kind, *_ in rows if kind == "OPTION"]
    marks = {"BTC-P": 60_000.0, "ETH-P": 3_000.0, "BTC-F": 60_600.0, "BTC": 60_000.0} | dict.fromkeys(options, 2_500.0)
    terms = pd.DataFrame(
        {"underlying": "BTC", "expiry": [now + 30 * day, now + 90 * day], "forward": [60_300.0, 60_600.0], "rate": 0.05}
    )
    market = ScenarioMarket.read(
        instruments,
        now,
        index={"BTC": 60_000.0, "ETH": 3_000.0},
        marks=marks,
        volatilities=dict.fromkeys(options, 0.6),
        terms=terms,
    )
    return instruments, market


@pytest.fixture(scope="module")
def book():
    return option_book()


@pytest.mark.parametrize("name", FIXED)
def test_a_book_of_options_has_a_requirement_with_the_traits_of_the_preset(name, book):
    instruments, market = book
    model = preset(name)
    if any(row.shift_of("BTC") is None for row in model.rows):
        model = model.replace(scan_range={"BTC": "9000", "ETH": "400"})
    rng, count = np.random.default_rng(5), 40
    one, other = rng.normal(0, 2, (2, count, len(instruments))) * (rng.random((2, count, len(instruments))) < 0.4)
    one[:, -1], other[:, -1] = abs(one[:, -1]), abs(other[:, -1])  # the balance of coins
    sizes = np.concatenate([one, other, (one + other) / 2, one + other, 3 * one])
    accounts, rows = np.nonzero(sizes)
    frame = pd.DataFrame(
        {"account": accounts, "market": np.array(instruments.symbol)[rows], "size": sizes[accounts, rows]}
    )
    portfolios, ids = Portfolios.from_frame(instruments, frame)
    table = ScenarioTable.of(model, instruments, market)
    found = table.requirements(portfolios)
    maintenance, initial = np.zeros((2, len(sizes)))
    maintenance[np.asarray(ids, int)], initial[np.asarray(ids, int)] = found.maintenance, found.initial
    a, b, middle, total, triple = maintenance.reshape(5, count)
    assert (maintenance >= 0).all()
    assert (maintenance > 0).sum() > len(sizes) / 4
    assert (initial >= maintenance).all()
    slack = 1e-9 * (1 + a + b)
    if model.traits.homogeneous:
        assert (abs(triple - 3 * a) <= slack).all()
    if model.traits.convex:
        assert (middle <= (a + b) / 2 + slack).all()
    if model.traits.screenable and model.minimum is None:
        plus, minus = table.standalone()
        alone = np.maximum(sizes, 0) @ plus - np.minimum(sizes, 0) @ minus
        assert (maintenance <= alone * (1 + 1e-12)).all()
    if model.traits.subadditive:
        assert (total <= a + b + slack).all()
