"""An account without exposure whose debt is more than its collateral: it is selected and closed out, on record."""

import pandas as pd
import pytest

from riskcore import Accounts, Engine, Screen, Tick, load_venue, select, sweep
from riskcore.audit import audit
from riskcore.sample import market_row

START = 1_767_225_600_000_000_000
SECOND = 10**9


def source(**policy):
    identity = {"weight": "1", "kind": {"type": "identity"}}
    return {
        "settle_asset": "USDC",
        "markets": [market_row("BTC", "0.1", "0.00001", ("0.02", "0"), ("0.01", "0"), impact=None)],
        "collateral": [{"symbol": name, "haircutFunction": identity} for name in ("USDC", "ETH")],
        "policy": policy,
    }


def accounts(venue):
    """One owes 90 and holds an ETH, two owes nothing, three owes 5 of 5 USDC."""
    balances = pd.DataFrame(
        {"account": [1, 2, 3], "asset": ["ETH", "ETH", "USDC"], "quantity": [1.0, 1.0, 5.0]},
    )
    positions = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []}).astype(
        {"account": int, "market": str, "quantity": float, "entry_price": float}
    )
    settings = pd.DataFrame({"account": [1, 3], "unsettled": [-90.0, -5.0]})
    return Accounts.from_frames(venue, positions, balances, settings=settings)


def at(second, price):
    return Tick(START + second * SECOND, {}, asset_prices={"ETH": price})


def test_a_sweep_names_it():
    venue = load_venue(source())
    state = accounts(venue)
    table = sweep(state, venue, {}, asset_prices={"ETH": 60.0}).to_frame()
    assert table["net_equity"].tolist() == [-30.0, 60.0, 0.0]
    assert table["mmr"].tolist() == [float("inf"), 0.0, 0.0]
    assert table["liquidatable"].tolist() == [True, False, False]
    assert select(state, venue, {}, asset_prices={"ETH": 60.0}).account.tolist() == [1]
    screen = Screen(state, venue, check=True)
    for price, expected in ((100.0, []), (95.0, []), (90.0, []), (89.9999, [1]), (60.0, [1]), (90.1, [])):
        assert screen.select({}, asset_prices={"ETH": price}).account.tolist() == expected


@pytest.mark.parametrize(
    ("policy", "left"),
    [({}, ("shortfall", "bankrupt", 30.0)), ({"fund": 100}, ("fund", "bankrupt", 30.0))],
    ids=["on record", "paid by the fund"],
)
def test_its_shortfall_is_on_record(tmp_path, policy, left):
    venue = load_venue(source(**policy))
    engine = Engine(accounts(venue), venue, check_screen=True)
    assert not len(engine.step(at(0, 100.0)).events)
    rows = engine.step(at(1, 60.0)).events
    assert rows["event"].tolist() == ["trigger", "convert", "unsettle", left[0]]
    assert rows["account"].tolist() == [1] * 4
    assert rows["reason"].tolist()[-1] == left[1]
    assert rows["cash"].tolist()[-1] == left[2] * 10**6
    assert rows["mmr_before"].tolist()[0] == float("inf")
    assert rows["mmr_after"].tolist()[-1] == 0.0
    assert not len(engine.step(at(2, 60.0)).events)
    engine.save(tmp_path / "run")
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches


def test_an_unsettled_debt_stays_with_it(tmp_path):
    """The policy leaves the debt with the account, which is then selected, and says so, at every tick."""
    venue = load_venue(source(shortfall="unsettled"))
    engine = Engine(accounts(venue), venue)
    engine.step(at(0, 100.0))
    assert engine.step(at(1, 60.0)).events["event"].tolist() == ["trigger", "convert"]
    assert engine.step(at(2, 60.0)).events["event"].tolist() == ["trigger"]
    assert sweep(engine.accounts, venue, {}, asset_prices={"ETH": 60.0}).to_frame()["net_equity"][0] == -30.0
    engine.save(tmp_path / "run")
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches
