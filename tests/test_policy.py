"""The declared figures of the policy: the venue's reader, the audit's reader and docs/policy.md follow them."""

import dataclasses
import json
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import riskcore as rc
from riskcore import sample
from riskcore.audit.venue import RunError, read_venue
from riskcore.venue import FIGURES, Policy, policy_page

PAGE = Path(__file__).parents[1] / "docs" / "policy.md"
SOURCE = json.loads(json.dumps(rc.load_venue(sample.venue_source([])).source))
SMALL = Fraction(1, 10**8)


def both_take(name, value, **others):
    """Whether the venue's reader and the audit's reader take a value; they must agree."""
    source, errors = SOURCE | {"policy": SOURCE["policy"] | {name: value} | others}, []
    for read, refusal in (
        (lambda: rc.load_venue(source, any_adl_policy=True), rc.RiskDataError),
        (lambda: read_venue(source, np.array([1]), []), RunError),
    ):
        try:
            read()
            errors.append(None)
        except refusal as error:
            errors.append(str(error))
    assert errors == [None, None] or all(error and f"policy.{name}" in error for error in errors), (value, errors)
    return errors[0] is None


def of_kind(*kinds):
    return pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.kind in kinds])


def test_the_page_is_current():
    write = "from riskcore.venue import policy_page; open('docs/policy.md', 'w').write(policy_page())"
    assert PAGE.read_text(encoding="utf-8") == policy_page(), f'python -c "{write}"'


def test_the_page_has_a_row_of_whole_cells_per_figure():
    rows = [line for line in policy_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in dataclasses.fields(Policy)]
    assert all(row.count(" | ") == 5 for row in rows)
    assert all(figure.meaning.endswith(".") and figure.source for figure in FIGURES.values())


def test_a_venue_without_figures_has_the_defaults():
    policy = rc.load_venue({name: SOURCE[name] for name in ("settle_asset", "markets", "collateral")}).policy
    for name, figure in FIGURES.items():
        exact = figure.kind in ("ratio", "amount") and figure.default is not None
        assert getattr(policy, name) == (Fraction(figure.default) if exact else figure.default)


@of_kind("ratio", "count")
def test_a_figure_is_taken_up_to_its_bounds(name):
    figure = FIGURES[name]
    step = SMALL if figure.kind == "ratio" else 1

    def shown(value):
        return str(value) if figure.kind == "ratio" else int(value)

    assert both_take(name, shown(figure.low)) != figure.above_low
    assert both_take(name, shown(figure.low + step))
    assert not both_take(name, shown(figure.low - step))
    if figure.high is None:
        assert both_take(name, 10**9 - 1)
    else:
        assert both_take(name, shown(figure.high)) != figure.below_high
        assert not both_take(name, shown(figure.high + (1 if figure.high > 1 else step)))
    assert not both_take(name, 10**9)


@of_kind("amount")
def test_an_amount_is_taken_up_to_its_bounds(name):
    assert both_take(name, 0)
    assert both_take(name, 10**12, **({"adl_fund_off": 10**12} if name == "adl_fund_on" else {}))
    assert not both_take(name, 10**12 + 1)
    assert not both_take(name, -1)


def test_adl_is_not_switched_off_below_the_level_that_switches_it_on():
    assert both_take("adl_fund_off", 5, adl_fund_on=5)
    assert not both_take("adl_fund_off", "4.99", adl_fund_on=5)


@of_kind("words")
def test_a_list_has_some_of_its_words_each_once(name):
    words = FIGURES[name].words
    assert all(both_take(name, list(some)) for n in range(1, len(words) + 1) for some in permutations(words, n))
    for wrong in ([], [words[0], words[0]], [*words, "other"], [None], [[]], words[0], {}):
        assert not both_take(name, wrong), wrong


@of_kind("choice")
def test_a_choice_is_one_of_its_words(name):
    assert all(both_take(name, word) for word in FIGURES[name].words)
    assert not both_take(name, "other")


@pytest.mark.parametrize("name", FIGURES)
def test_null_is_taken_where_the_declaration_says_so(name):
    assert both_take(name, None) == FIGURES[name].optional
