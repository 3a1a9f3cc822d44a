"""Prices of a tick: mappings and Series alike, and one line for what is wrong with one."""

import numpy as np
import pandas as pd
import pytest

from riskcore import Engine, RiskDataError, Tick, sweep
from tests import small_run
from tests.small_run import BTC, ETH

MARKS = {BTC: 1e5, ETH: 4e3}
OTHERS = {
    "indexes": {BTC: 99_900.0},
    "asset_prices": {"XAU": 4e3},
    "open_interest": {BTC: 500.0},
    "funding_rates": {BTC: 0.0001},
}


@pytest.fixture(scope="module")
def state():
    venue, accounts, _ = small_run.read(small_run.tables())
    return accounts, venue


def test_series_are_taken_as_mappings_are(state):
    accounts, venue = state
    found = []
    for kind in (dict, pd.Series):
        engine = Engine(accounts, venue)
        for time in ("2026-01-01T00:59:00Z", "2026-01-01T01:00:00Z"):
            result = engine.step(Tick(time, kind(MARKS), **{name: kind(values) for name, values in OTHERS.items()}))
        kept = {name: kind(values) for name, values in OTHERS.items() if name != "funding_rates"}
        found.append((result.table.net_equity, sweep(accounts, venue, kind(MARKS), **kept).net_equity))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("name", "values", "line"),
    [
        ("indexes", {BTC: 0.0}, f"indexes.{BTC}, value 0.0: must be a finite number > 0"),
        ("open_interest", {BTC: -1.0}, f"open_interest.{BTC}, value -1.0: must be a finite number >= 0"),
        ("open_interest", {"DOGE": 1.0}, "open_interest.DOGE, value 1.0: must be a market of the venue"),
        ("funding_rates", {BTC: 1.5}, f"funding_rates.{BTC}, value 1.5: must be a number from -1 to 1"),
        ("funding_rates", {BTC: float("nan")}, f"funding_rates.{BTC}, value nan: must be a number from -1 to 1"),
        ("funding_rates", {BTC: "much"}, f"funding_rates.{BTC}, value 'much': must be a number"),
    ],
)
def test_a_wrong_figure_is_refused_and_nothing_changes(state, name, values, line):
    accounts, venue = state
    engine = Engine(accounts, venue)
    with pytest.raises(RiskDataError) as refusal:
        engine.step(Tick("2026-01-01T00:00:00Z", MARKS, **(OTHERS | {name: values})))
    assert str(refusal.value) == line
    assert engine.ticks == 0
    engine.step(Tick("2026-01-01T00:00:00Z", MARKS, **OTHERS))
