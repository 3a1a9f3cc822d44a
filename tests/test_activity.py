"""Activity between ticks: accounts that are opened, transfers and fills, on a state that grows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from tests.test_one_tick import source

MARKETS, ASSETS = ["X", "Y"], ["USDC", "GEM", "TOK"]
POLICY = {"fund": 5, "slice_probability": 0.6, "shortfall": "equity", "realize_interval": 10}
POOLS = [{"symbol": "GEM", "lent": 10, "borrowed": 5}]


def crowd(seed, count=60):
    """Tables of accounts with odd ids first: long X or short, with some GEM, and what each owes."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, 1 + count))
    positions, balances = [], []
    for id_ in ids.tolist():
        for market in rng.permutation(MARKETS)[: rng.integers(0, 3)].tolist():
            lots = int(rng.integers(100, 2000)) * int(rng.choice([-1, 1]))
            positions.append((id_, market, lots / 100, float(np.round(100 + rng.normal(0, 3), 1))))
        balances.append((id_, "USDC", float(np.round(rng.uniform(5, 400), 2))))
        others = rng.permutation(ASSETS[1:])[: rng.integers(0, 3)].tolist()
        balances += [(id_, asset, float(np.round(rng.uniform(0.1, 2), 3))) for asset in others]
    return (
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
    )


def ticks(count, seed):
    rng = np.random.default_rng(seed)
    for n in range(count):
        x, y = (100 * (1 - 0.2 * np.sin(np.pi * n / count)) + rng.normal(0, 1) for _ in MARKETS)
        marks = {"X": round(float(x), 1), "Y": round(float(y), 1)}
        books = {m: {"bids": [(p - 0.1, 3.0)], "asks": [(p + 0.1, 3.0)]} for m, p in marks.items()}
        yield rc.Tick(1_760_000_000 * 10**9 + 7 * n * 10**9, marks, books, asset_prices={"GEM": 100.0, "TOK": 10.0})


def by_id(table):
    return table.to_frame().sort_values("account", ignore_index=True)


def activity_of(positions, balances, known):
    """Tables of `Engine.apply` that bring accounts from nothing to these holdings."""
    ids = [id_ for id_ in balances["account"].unique().tolist() if id_ not in known]
    transfers = balances.rename(columns={"account": "to_account"}).assign(from_account=None)
    return {
        "accounts": pd.DataFrame({"account": ids}) if ids else None,
        "transfers": transfers,
        "fills": positions.rename(columns={"entry_price": "price"}),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("adl_policy", ["pnl_leverage", "pro_rata"])
def test_a_state_that_grew_goes_on_as_one_that_had_the_rows_from_the_start(tmp_path, seed, adl_policy):
    venue = rc.load_venue(source(backstop=[{"account": 1, "max_notional": 40}], **POLICY, adl_policy=adl_policy))
    positions, balances = crowd(seed)
    whole = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue, 5, check_screen=True)
    rng = np.random.default_rng(seed)
    stage = np.append([0, 0], rng.integers(0, 4, 59))  # by id; the provider is there from the start
    balance_stage = stage[balances["account"]]
    position_stage = np.maximum(stage[positions["account"]], rng.integers(0, 4, len(positions)))
    start = rc.Accounts.from_frames(venue, positions[position_stage == 0], balances[balance_stage == 0])
    grown = rc.Engine(start, venue, 5, check_screen=True)
    for n in (1, 2, 3):
        of_stage = positions[position_stage == n], balances[balance_stage == n]
        grown.apply(**activity_of(*of_stage, set(grown.accounts.ids.tolist())))
    pd.testing.assert_frame_equal(by_columns(whole.accounts), by_columns(grown.accounts))
    for n, tick in enumerate(ticks(12, seed)):
        one, other = (engine.step(tick, full_table=True) for engine in (whole, grown))
        pd.testing.assert_frame_equal(by_id(one.table), by_id(other.table))
        pd.testing.assert_frame_equal(one.raw_events, other.raw_events)
        if n == 5:
            grown.save(tmp_path / "run")
            grown = rc.Engine.resume(tmp_path / "run", check_screen=True)
    pd.testing.assert_frame_equal(by_columns(whole.accounts), by_columns(grown.accounts))
    events = set(one.raw_events["event"]) | set(rc.read_run(tmp_path / "run").raw_events["event"])
    assert {"adl", "book", "backstop", "open", "deposit", "fill"} <= events


def by_columns(accounts):
    """Holdings by id, from the columns."""
    frames = accounts.to_frames()
    positions, balances = frames.positions, frames.balances
    held = pd.concat([positions.rename(columns={"market": "item"}), balances.rename(columns={"asset": "item"})])
    return held.sort_values(["account", "item"], ignore_index=True)
