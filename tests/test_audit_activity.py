"""The audit of activity and of a host's books: what was altered in one small recorded run is found."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.audit.activity import COMPARED as AUDITED

from .small_run import seal
from .test_one_tick import NOON, SECOND, at, market, scene, source

WHOLE = [name for name in AUDITED if name not in ("time", "event", "reason", "price")]
BANDS = {"minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01"}


def order(action, **columns):
    return {"action": action, "account": 2, **columns}


def trade(account, quantity, price=100, **columns):
    return {"action": "fill", "account": account, "market": "X", "quantity": quantity, "price": price, **columns}


def place(quantity, price, side="bid", account=2, **columns):
    columns = {"market": "X", "side": side, "price": price, "quantity": quantity, **columns}
    return order("place", **columns) | {"account": account}


def money(action, quantity, asset="USDC", account=2, **columns):
    return {"action": action, "account": account, "asset": asset, "quantity": quantity, **columns}


BEFORE = [money("deposit", 7), {"action": "open", "account": 5, "owner": 2, "leverage_limit": 8}]
ASKED = [
    place(5, 88.5, order="a"), order("change", order="a", price=90), order("change", order="a", quantity=4),
    trade(2, 3, fee=0.25), place(9, 110, "ask", reduce_only=True), place(2, 111, "ask", reduce_only=True),
    trade(2, -2), trade(2, 2, 90, order="a"), place(1, 89, order="c"), order("cancel", order="c"),
    money("withdraw", 10), money("transfer", 30, to_account=5), money("lend", 20), money("redeem", 5),
    money("borrow", 0.5, "GEM"), money("repay", 0.2, "GEM"), {"action": "leverage", "account": 2, "leverage_limit": 7},
    {"action": "confirm", "account": 1, "market": "X", "quantity": -2, "price": 99.9},
]  # fmt: skip
DECIDED = [
    trade(3, 4), place(50, 95, account=3, order="big"), money("borrow", 1, "TOK", account=3), place(3, 94, account=5),
]  # fmt: skip
LATER = [{"action": "confirm", "account": 1, "market": "X", "quantity": -0.2, "price": 99.8, "fee": 0.1996}]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two ticks of a host: account 1 is liquidated slice by slice, and 3 has too much; activity before and after."""
    path = tmp_path_factory.mktemp("audit") / "run"
    row = market("X")
    markets = [row | {"filters": row["filters"] | {"price": row["filters"]["price"] | BANDS}}, market("Y")]
    venue = source(
        markets, pools=[{"symbol": "GEM", "lentQuantity": "10", "borrowedQuantity": "5"}], slice_fraction="0.5"
    )
    holdings = {1: {"X": (10, 100), "USDC": 40}, 2: {"USDC": 1000}, 3: {"USDC": 30}, 4: {"GEM": (1, 2)}}
    venue, accounts = scene(venue, holdings, [(4, "X", "bid", 80, 0.5, False)]).load()
    engine = rc.Engine(accounts, venue, 3, book="host")
    books = {"X": {"bids": [(99.9, 20)], "asks": [(100.1, 20)]}}
    engine.apply(BEFORE)
    for second, actions in enumerate((ASKED, LATER)):
        engine.step(at(second, books=books).tick())
        engine.apply(actions)
        if second == 0:
            engine.save(path, complete=False)
            engine.apply([{"time": NOON + SECOND // 2, **row} for row in DECIDED], check="off")
    engine.save(path)
    return path


def test_the_run_is_honest_and_full(recorded):
    report = audit(recorded, reference=True)
    assert report.ok, report.breaches.to_dict("records")
    events = set(rc.read_run(recorded).events[["event", "reason"]].itertuples(index=False, name=None))
    asked = "open deposit withdraw transfer fill place change cancel borrow repay lend redeem leverage interest"
    assert events >= {(event, "request") for event in asked.split()}
    assert events >= {("fill", "host"), ("place", "host"), ("borrow", "host"), ("book", "host")}
    assert events >= {("change", "reduce_only"), ("propose", "full")}


def row_of(journal, event, reason=None, nth=0):
    rows = journal["event"] == event
    return journal.index[rows & (journal["reason"] == reason) if reason else rows][nth]


def shifted(event, reason="request", nth=0, **changes):
    """Add to columns of a row of the journal."""

    def damage(tables):
        row = row_of(tables["journal"], event, reason, nth)
        for column, change in changes.items():
            tables["journal"].loc[row, column] += change

    return damage


def put(event, of_reason, nth=0, **values):
    """Put values into a row of the journal."""

    def damage(tables):
        row = row_of(tables["journal"], event, of_reason, nth)
        for column, value in values.items():
            tables["journal"].loc[row, column] = value

    return damage


def dropped(event, reason):
    """Take a row out of the journal."""

    def damage(tables):
        tables["journal"] = tables["journal"].drop(row_of(tables["journal"], event, reason))

    return damage


def placed(number, **values):
    """Put values into the table of orders that were placed."""

    def damage(tables):
        for column, value in values.items():
            tables["orders"].loc[number, column] = value

    return damage


ALTERED = {
    "lots of an order": (shifted("place", requested=1), "stages"),
    "limit of an order": (shifted("place", price=0.1), "stages"),
    "number of an order": (shifted("place", order=1), "stages"),
    "lots of a change": (shifted("change", nth=1, requested=100), "replay"),
    "lots of a cancel": (shifted("cancel", requested=1), "stages"),
    "a cancel of another order": (shifted("cancel", order=-1), "replay"),
    "lots of a shrink": (shifted("change", "reduce_only", requested=1), "stages"),
    "a missing shrink": (dropped("change", "reduce_only"), "stages"),
    "cost of a fill": (shifted("fill", cost=1, cash=1), "cost"),
    "price of a fill": (shifted("fill", price=0.1), "cost"),
    "fee of a fill": (shifted("fill", fee=1), "cost"),
    "a fill of another order": (put("fill", "request", nth=2, order=2), "cost"),
    "a fill beyond its order": (shifted("fill", nth=2, lots=400), "cost"),
    "a fill without its order": (put("fill", "request", nth=2, order=-1), "replay"),
    "a fill at a worse price than the limit": (put("fill", "request", nth=2, price=90.1), "cost"),
    "a deposit": (shifted("deposit", quanta=1), "replay"),
    "a withdrawal of too much": (shifted("withdraw", quanta=-(10**10)), "stages"),
    "a transfer to another owner": (shifted("transfer", counterparty=-1), "touched"),
    "a lend": (shifted("lend", quanta=-1), "rows"),
    "a redemption": (shifted("redeem", lent=1), "rows"),
    "a borrow": (shifted("borrow", quanta=1), "replay"),
    "interest of a borrow": (shifted("interest", quanta=1), "stages"),
    "missing interest of a borrow": (dropped("interest", "request"), "stages"),
    "a repayment of too much": (shifted("repay", quanta=10**6), "stages"),
    "a leverage limit": (put("leverage", "request", price=6.0), "replay"),
    "a leverage limit that needs too much margin": (put("leverage", "request", price=0.01), "stages"),
    "a time before the tick": (put("place", "request", time=NOON - 1), "stages"),
    "a time before the last action": (put("fill", "host", time=NOON + SECOND), "stages"),
    "a fill of a host that the checks refuse": (put("fill", "host", reason="request"), "cost"),
    "an order of a host that the checks refuse": (put("place", "host", reason="request"), "stages"),
    "an open of an account that is there": (put("open", "request", account=0), "stages"),
    "a proposal": (shifted("propose", "full", requested=1), "book"),
    "the limit of a proposal": (shifted("propose", "full", price=0.1), "bands"),
    "a confirm beyond its proposal": (shifted("book", "host", lots=-(10**4)), "cost"),
    "a confirm at a worse price than the limit": (put("book", "host", price=98.8), "cost"),
    "the fee of a confirm": (shifted("book", "host", fee=3), "cost"),
    "what was open of a proposal": (shifted("book", "host", requested=1), "cost"),
    "a placed order of another size": (placed(0, lots=400), "stages"),
    "a placed order of another price": (placed(0, price=880), "stages"),
    "a placed order of the other side": (placed(0, side=-1), "cost"),
    "a placed order with another id": (placed(0, id="z"), "replay"),
    "a placed order with the id of another": (placed(3, id="a"), "stages"),
}  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_altered_is_found(recorded, tmp_path, what):
    damage, rule = ALTERED[what]
    path = shutil.copytree(recorded, tmp_path / "run")
    tables = {name: read(path, name) for name in ("journal", "orders")}
    lengths = {name: [len(table) for table in parts] for name, parts in tables.items()}
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    damage(whole)
    for name, counts in lengths.items():
        edges = np.cumsum([0, *counts])
        for part, (start, end) in enumerate(pairwise(edges)):
            kept = whole[name].loc[whole[name].index[(whole[name].index >= start) & (whole[name].index < end)]]
            kept.to_parquet(path / f"{name}/{part:05d}.parquet", index=False)
    manifest = json.loads((path / "run.json").read_text())
    gone = sum(map(sum, lengths.values())) - sum(map(len, whole.values()))
    manifest |= {name: manifest[name] - gone for name in ("events", "activity")}
    (path / "run.json").write_text(json.dumps(manifest))
    seal(path)
    report = audit(path, reference=True)
    expected = {rule} if rule == "replay" else {rule, "reference"}
    assert expected <= set(report.breaches["rule"]), report.breaches.to_dict("records")


def test_no_figure_of_a_row_can_be_off(recorded, tmp_path):
    """A row of each kind, each with other columns: the next ones of those that are compared."""
    path = shutil.copytree(recorded, tmp_path / "run")
    file = min(path.glob("journal/*.parquet"))
    journal = read(path, "journal")[0]
    kinds = journal.groupby(["event", "reason"], observed=True).head(1).index.tolist()
    assert len(kinds) > 15
    for place, row in enumerate(2 * kinds):
        column, spoiled = WHOLE[place % len(WHOLE)], journal.copy()
        spoiled.loc[row, column] += 1
        spoiled.to_parquet(file, index=False)
        assert not sealed(path).ok, (journal.loc[row, "event"], column)


def sealed(path):
    """The audit of a run whose files have the digests that run.json says."""
    seal(path)
    return audit(path)


def read(path, name):
    files = sorted(path.glob(f"{name}/*.parquet"))
    return [pd.read_parquet(file).astype({"reason": object} if name == "journal" else {}) for file in files]
