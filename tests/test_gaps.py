"""A long time between two ticks: refused past `largest_gap`, and charged by the hour where it is not."""

import numpy as np
import pandas as pd
import pytest

from riskcore import Accounts, Engine, RiskDataError, Tick, load_venue
from riskcore.accrual import interest
from riskcore.audit import audit
from tests import small_run
from tests.comparison import whole_state

SECOND, HOUR, DAY = 10**9, 3_600 * 10**9, 86_400 * 10**9
START = 1_760_130_000 * SECOND
PRICES = {small_run.BTC: 1e5, small_run.ETH: 4e3}


def tick(time):
    return Tick(time, PRICES, asset_prices={"XAU": 4_000.0})


def engine_of(**policy):
    source, tables = small_run.venue_source(), small_run.tables()
    pools = [{"symbol": "XAU", "lentQuantity": "1", "borrowedQuantity": "0.5"}]
    policy = {"liquidation_interval": None} | policy
    venue = load_venue(source | {"policy": source["policy"] | policy, "borrow_lend": pools})
    engine = Engine(Accounts.from_frames(venue, tables["positions"], tables["balances"]), venue)
    engine.step(tick(START))
    return engine


@pytest.mark.parametrize(
    ("policy", "most"),
    [({}, DAY), ({"largest_gap": "0.5"}, SECOND // 2), ({"largest_gap": 172_800}, 2 * DAY)],
)
def test_the_longest_gap(policy, most):
    engine = engine_of(**policy)
    before = whole_state(engine)
    with pytest.raises(RiskDataError) as refusal:
        engine.step(tick(START + most + 1))
    late, first = (str(pd.Timestamp(time, tz="UTC")) for time in (START + most + 1, START))
    assert str(refusal.value) == (
        f"tick.time, value '{late}': must not be {pd.Timedelta(most + 1)} after the tick before, {first}: "
        f"the policy's largest_gap is {engine.venue.policy.largest_gap} seconds; "
        "add the ticks between, or set a larger largest_gap"
    )
    assert whole_state(engine) == before
    engine.step(tick(START + most))
    engine.step(tick(START + 2 * most))


def test_without_a_limit():
    engine = engine_of(largest_gap=None)
    assert engine.step(tick(START + 3_000 * DAY)).time == START + 3_000 * DAY


def test_a_gap_of_too_many_instants():
    engine = engine_of(largest_gap=None, liquidation_interval=1)
    before = whole_state(engine)
    with pytest.raises(RiskDataError, match="must have at most 50,000,000 prices of its instants") as refusal:
        engine.step(tick(START + 3_000 * DAY))
    assert "liquidation_interval" in str(refusal.value)
    assert whole_state(engine) == before
    assert engine.step(tick(START + DAY)).time == START + DAY


def test_the_audit_knows_the_limit(tmp_path):
    engine = engine_of(largest_gap=3_600)
    engine.step(tick(START + HOUR))
    engine.save(tmp_path / "kept")
    assert audit(tmp_path / "kept").ok
    engine = engine_of(largest_gap=3_601)
    engine.step(tick(START + HOUR + SECOND))
    engine.save(tmp_path / "longer")
    path = tmp_path / "longer" / "venue.json"
    path.write_text(path.read_text().replace('"largest_gap": 3601', '"largest_gap": 3600'))
    found = audit(path.parent).breaches
    assert found["rule"].tolist() == ["files", "rows"]
    assert found["what"].tolist()[1:] == ["3601000000000 nanoseconds after the tick before, more than largest_gap"]


def test_an_hour_costs_what_is_lent(monkeypatch):
    engine, seen, hours = engine_of(largest_gap=None, borrow_rate_base=50), [], 30

    def counted(amount, *rest):
        seen.append(len(amount))
        return scaled(amount, *rest)

    scaled = interest.scaled
    monkeypatch.setattr(interest, "scaled", counted)
    engine.step(tick(START + hours * HOUR))
    assert seen == [1, 1] * hours  # one row of XAU is lent
    assert np.count_nonzero(engine.accounts.columns.asset == engine.venue.assets.row["XAU"]) == 2


def test_hours_that_change_nothing():
    """Interest that rounds to nothing leaves every later hour as it is."""
    engine = engine_of(largest_gap=None, borrow_rate_slope=0, borrow_rate_jump=0)
    assert not len(engine.step(tick(START + 20_000 * DAY)).rows)
