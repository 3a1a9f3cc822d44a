"""What `explain`, the report and the tables of a run say of activity and of slices that a host fills."""

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import Engine, run, sample
from riskcore.audit import audit
from riskcore.run import RecordedRun, report

SOL, ETH = "SOL_USDC_PERP", "ETH_USDC_PERP"


def venue():
    source = sample.venue_source([])
    source["borrow_lend"] = [{"symbol": asset, "lentQuantity": "1000000"} for asset in ("USDC", "SOL")]
    source["policy"] = {"liquidation_interval": None}
    return rc.load_venue(source)


ACTIONS = [
    ({"action": "open", "account": 3, "owner": 1, "leverage_limit": 20.0}, "account opened"),
    ({"action": "deposit", "asset": "USDC", "quantity": 500.0}, "500 USDC paid in"),
    ({"action": "fill", "market": SOL, "quantity": 2.0, "price": 199.0, "fee": 0.5},
     "2 SOL_USDC_PERP bought at 199, fee 0.50"),
    ({"action": "place", "market": SOL, "side": "ask", "quantity": 1.0, "price": 202.0, "reduce_only": True,
      "order": "a"}, "order of 1 SOL_USDC_PERP placed at 202"),
    ({"action": "change", "order": "a", "quantity": 1.5}, "order changed to 1.5 SOL_USDC_PERP at 202"),
    ({"action": "fill", "market": SOL, "quantity": -1.0, "price": 202.0, "order": "a"},
     "1 SOL_USDC_PERP sold at 202, fee 0.00"),
    ({"action": "cancel", "order": "a"}, "order of 0.5 SOL_USDC_PERP cancelled"),
    ({"action": "transfer", "asset": "USDC", "quantity": 20.0, "to_account": 1}, "20 USDC moved to account 1"),
    ({"action": "withdraw", "asset": "USDC", "quantity": 30.0}, "30 USDC paid out"),
    ({"action": "lend", "asset": "USDC", "quantity": 40.0}, "40 USDC lent"),
    ({"action": "redeem", "asset": "USDC", "quantity": 40.0}, "40 USDC of lends redeemed"),
    ({"action": "borrow", "asset": "SOL", "quantity": 0.5}, "0.5 SOL borrowed"),
    ({"action": "repay", "asset": "SOL", "quantity": 0.5}, "0.5 SOL of borrows repaid"),
    ({"action": "leverage", "leverage_limit": 5.0}, "leverage limit set to 5"),
    ({"action": "leverage"}, "leverage limit removed"),
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Account 3 does everything after the first tick; its deposit before the first one is in no tick's prices."""
    rules = venue()
    positions = pd.DataFrame({"account": [1, 2], "market": SOL, "quantity": [1.0, -1.0], "entry_price": 200.0})
    balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": 1000.0})
    engine = Engine(rc.Accounts.from_frames(rules, positions, balances), rules)
    engine.apply({"action": "deposit", "account": 1, "asset": "SOL", "quantity": 1.0})
    engine.step(rc.Tick("2025-10-10T21:00Z", {SOL: 200.0}))
    for action, _ in ACTIONS:
        engine.apply({"account": 3} | action)
    engine.step(rc.Tick("2025-10-10T21:01Z", {SOL: 198.0}))
    folder = tmp_path_factory.mktemp("explained") / "run"
    engine.save(folder)
    assert audit(folder).ok
    return folder


def test_every_action_has_a_sentence(path):
    told = run.explain(path, 3)
    own = told.events[told.events["reason"] == "request"]
    said = [what for what in own["what"] if not what.startswith("interest")]
    assert said == [what for _, what in ACTIONS]
    assert set(own["why"]) == {rc.record.REASONS["request"]}


def test_the_causes_are_those_of_the_actions(path):
    """Account 3 pays in 500, pays out and moves 50, gains on two fills against the mark of 200, and pays a fee."""
    equity = run.explain(path, 3).equity
    assert (equity.start, equity.slippage, equity.adl) == (0.0, 0.0, 0.0)
    assert equity.activity == pytest.approx(500 - 50 + 2 * 1.0 + 1 * 2.0)
    assert equity.fee == pytest.approx(-0.5)
    assert equity.price == pytest.approx(-2.0)
    total = equity.price + equity.fee + equity.activity + equity.interest
    assert equity.end == pytest.approx(total)


def test_activity_before_the_first_tick_counts_at_its_prices(path):
    equity = run.explain(path, 1).equity
    assert equity.start == pytest.approx(1000.0)
    assert equity.activity == pytest.approx(200.0 + 20.0)
    assert equity.price == pytest.approx(-2.0 - 2.0)


def test_the_report_takes_activity_for_no_liquidation(path):
    recorded = RecordedRun.read(path)
    assert report.waterfall_split(recorded.rows, recorded.venue, recorded.asset_price)["notional"].sum() == 0
    page = run.page(path)
    assert "</html>" in page
    kept = rc.read_run(path)
    assert set(kept.events["event"]) >= {action["action"] for action, _ in ACTIONS}
    assert np.isclose(kept.accounts_at(1).columns.free.sum(), kept.accounts_at(0).columns.free.sum())


@pytest.fixture(scope="module")
def host_path(tmp_path_factory):
    """A host fills half of a proposed slice."""
    rules, accounts = sample.two_accounts()
    engine = Engine(accounts, rules, book="host")
    book = {"bids": [(193.99, 1000.0)], "asks": [(194.01, 1000.0)]}
    result = engine.step(rc.Tick("2025-10-10T21:00Z", {SOL: 193.8}, {SOL: book}))
    (slice_,) = result.slices.to_dict("records")
    quantity = round(slice_["quantity"] / 2, 2)
    engine.apply({"action": "confirm", "account": 1, "market": SOL, "quantity": quantity, "price": 193.99})
    engine.step(rc.Tick("2025-10-10T21:01Z", {SOL: 193.8}, {SOL: book}))
    folder = tmp_path_factory.mktemp("explained") / "host"
    engine.save(folder)
    return folder, -quantity


def test_a_slice_of_a_host_is_proposed_and_then_sold(host_path):
    path, quantity = host_path
    told = run.explain(path, 1)
    first = told.events["what"].tolist()
    (proposed,) = [what for what in first[:3] if "proposed to the host at the limit" in what]
    assert proposed.startswith("slice of ")
    (sold,) = told.events[told.events["event"] == "book"].to_dict("records")
    assert sold["reason"] == "host"
    assert f"{quantity:g} of " in sold["what"]
    assert "sold at 193.99" in sold["what"]
    assert told.equity.slippage == pytest.approx(quantity * (193.99 - 193.8))
    assert told.equity.fee == pytest.approx(-sold["fee"])
    split = report.waterfall_split(RecordedRun.read(path).rows, RecordedRun.read(path).venue)
    assert split.set_index("stage").loc["order book", "notional"] == pytest.approx(quantity * 193.99)
