"""Owners of several accounts: their accounts are never each other's counterparties."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.liquidation.tick_state import TickState
from tests.test_one_tick import at, scene, source
from tests.wild_runs import wild_run

POOR = {"slice_probability": 0.5, "shortfall": "equity", "fund": 50}


def accounts_of(owners, ids=("a", "b", "c")):
    venue = rc.load_venue("backpack")
    balances = pd.DataFrame({"account": list(ids), "asset": "USDC", "quantity": 100.0})
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    return venue, rc.Accounts.from_frames(venue, positions, balances, settings=owners)


@pytest.mark.parametrize(
    ("ids", "owners", "codes"),
    [
        (("a", "b", "c"), {"b": "a"}, [0, 0, 2]),
        (("a", "b", "c"), {"a": "desk", "c": "desk"}, [0, 1, 0]),
        ((5, 7, 9), {9: 5, 7: None}, [0, 1, 0]),
        ((5, 7, 9), {5: 1, 7: 1, 9: 1}, [0, 0, 0]),
        ((5, 7, 9), {5: 5}, [0, 1, 2]),
    ],
)
def test_owners_are_read_and_written_back(ids, owners, codes):
    venue, accounts = accounts_of(pd.DataFrame({"account": list(owners), "owner": list(owners.values())}), ids)
    assert accounts.owner.tolist() == codes
    expected = [owners.get(account) or account for account in ids]
    for same in (accounts, accounts.copy(), pickle.loads(pickle.dumps(accounts))):
        assert same.owners.tolist() == expected
    again = rc.Accounts.from_frames(venue, *accounts.to_frames())
    assert again.owners.tolist() == expected
    assert ("owner" in accounts.to_frames().settings) == (codes != [0, 1, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"account": ["b"], "owner": [1]}, "settings.owner, row 0, value 1: must be of one kind with the account ids"),
        ({"account": ["a", "b"], "owner": ["x", "a"]}, "settings.owner, row 1, value 'a': must be its own owner"),
        ({"account": ["b"], "owner": [2.5]}, "settings.owner, row 0, value 2.5: must be a whole number in every row"),
        ({"account": ["b"], "owner": ["\ud800"]}, "settings.owner, row 0.*must be text without a lone surrogate"),
    ],
)
def test_wrong_owners_are_refused(settings, message):
    with pytest.raises(rc.RiskDataError, match=message):
        accounts_of(pd.DataFrame(settings, dtype=object))


def test_a_run_has_a_table_by_owner(tmp_path):
    accounts = {1: {"X": (10, 102), "USDC": 20}, 2: {"X": (-10, 110), "USDC": 5000}, 3: {"X": (-20, 98), "USDC": 5000}}
    owned = scene(source(), accounts)
    owned.settings[1]["owner"] = 1
    venue, start = owned.load()
    engine = rc.Engine(start, venue)
    result = engine.step(at(marks={"X": 95.0, "Y": 100.0}).tick())
    assert result.events.loc[result.events["account"] == 1, "owner"].tolist() == [1] * len(result.events)
    engine.save(tmp_path / "run")
    run = rc.read_run(tmp_path / "run")
    assert run.accounts.owners.tolist() == rc.Engine.resume(tmp_path / "run").accounts.owners.tolist() == [1, 1, 3]
    assert run.fills[["account", "owner", "counterparty"]].to_numpy().tolist() == [[1, 1, 3]]
    table = run.owners
    assert table[["owner", "accounts", "liquidated"]].to_numpy().tolist() == [[1, 2, 1], [3, 1, 0]]
    assert table["notional"].tolist() == [1000.0, 0.0]  # the bankruptcy price is 100
    np.testing.assert_allclose(table["equity_start"], [20 - 70 + 5000 + 150, 5000 + 60])
    np.testing.assert_allclose(table["equity_end"], [5000 + 150, 5000 + 60 - 50])
    assert "Owners of several accounts" in rc.run.page(tmp_path / "run")


@pytest.mark.parametrize("policy", ["pnl_leverage", "pro_rata"])
def test_an_engine_that_takes_an_owners_own_account_is_found(tmp_path, monkeypatch, policy):
    monkeypatch.setattr(TickState, "is_other", lambda self, account, accounts: np.ones(np.shape(accounts), bool))
    wild_run(tmp_path / "run", POOR | {"adl_policy": policy}, seed=3, poor=300.0)
    report = audit(tmp_path / "run", reference=True)
    breached = set(report.breaches["rule"])
    assert breached & {"touched", "stages"}, report
    assert "reference" in breached, report
