"""Guards of the prices of collateral: the rules, the venue file, and their rows in a run."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import RiskDataError
from riskcore.market import Path
from riskcore.market.guards import GuardState, guard, guard_path
from riskcore.sample import market_row

SECOND = 10**9
START = 1_760_130_000 * SECOND
GEM, TOK = "GEM", "TOK"
NAMES = {
    "low": "minPriceUpdateMultiplier", "high": "maxPriceUpdateMultiplier", "index": "indexThreshold",
    "mean": "meanThreshold", "stale": "staleAfter",
}  # fmt: skip


def make_venue(gem=None, tok=None, markets=(), **policy):
    """USDC, GEM and TOK as collateral; GEM has a market, and others are given by base and quote."""
    haircut = {"weight": "1", "kind": {"type": "identity"}}
    rows = [{"symbol": "USDC", "haircutFunction": haircut}]
    for symbol, figures in ((GEM, gem), (TOK, tok)):
        guards = {NAMES[name]: str(value) for name, value in (figures or {}).items()}
        rows.append({"symbol": symbol, "haircutFunction": haircut} | ({"priceGuard": guards} if guards else {}))
    listed = [market_row(GEM, "0.1", "0.01", ("0.1", "0"), ("0.05", "0"), impact=None)]
    for base, quote in markets:
        row = market_row(base, "0.1", "0.01", ("0.1", "0"), ("0.05", "0"), impact=None)
        listed.append(row | {"symbol": f"{base}_{quote}", "quoteSymbol": quote})
    policy = {"liquidation_interval": None, "mark_index_threshold": "0.9"} | policy
    return rc.load_venue({"settle_asset": "USDC", "markets": listed, "collateral": rows, "policy": policy})


def run(venue, *ticks):
    """Own prices, and reasons with assets and prices, of each tick: (seconds, marks, indexes, asset prices)."""
    memory, before, found = GuardState.opening(venue), None, []
    for seconds, marks, indexes, assets in ticks:
        time = START + round(seconds * SECOND)
        tick = rc.Tick(time, marks, indexes=indexes, asset_prices=assets)
        done = guard(venue, memory, before, time, rc.Prices.incomplete(venue, tick), rc.Books.empty(venue))
        refused = [(r.reason, venue.assets.symbol[r.asset], r.price) for r in done.refusals if r.asset >= 0]
        found.append((done.asset[1:].tolist(), refused))
        memory, before = done.guard_state, time
    return found


def test_an_update_cap_counts_seconds():
    venue = make_venue({"low": "0.9", "high": "1.1"})
    ticks = [(0, {}, {}, {GEM: 100.0}), (2.9, {}, {}, {GEM: 200.0}), (2.95, {}, {}, {GEM: 10.0})]
    found = run(venue, *ticks)
    assert found[1] == ([pytest.approx(121.0), pytest.approx(math.nan, nan_ok=True)], [("update_cap", GEM, 200.0)])
    assert found[2][0][0] == found[1][0][0] * 0.9  # within a second: the cap of one


def test_a_clamp_to_the_index_of_the_first_market():
    venue = make_venue({"index": "0.1"}, markets=[(GEM, TOK), (TOK, "USDC")])
    marks = {"GEM_USDC_PERP": 100.0, "GEM_TOK": 50.0}
    found = run(
        venue,
        (0, marks, {"GEM_USDC_PERP": 100.0}, {GEM: 130.0, TOK: 2.0}),
        (1, marks, {"GEM_TOK": 40.0}, {GEM: 130.0}),  # TOK follows nothing: its price is not known
        (2, marks, {"GEM_TOK": 40.0}, {GEM: 130.0, TOK: 2.0}),  # TOK is guarded after GEM
        (3, marks | {"TOK_USDC": 2.0}, {"GEM_TOK": 40.0}, {GEM: 130.0}),  # TOK follows its market
        (4, marks, {}, {GEM: 130.0}),
    )
    assert [row[1] for row in found] == [
        [("index_clamp", GEM, 130.0)], [], [], [("index_clamp", GEM, 130.0)], [],
    ]  # fmt: skip
    assert [row[0][0] for row in found] == [100.0 * (1 + 0.1), 130.0, 130.0, 40.0 * 2.0 * (1 + 0.1), 130.0]


def test_a_rejected_index_does_not_clamp():
    source = make_venue({"index": "0.1"}).source
    source["markets"][0]["filters"]["price"] |= {"maxPriceUpdateMultiplier": "1.01"}
    venue, marks = rc.load_venue(source), {"GEM_USDC_PERP": 100.0}
    found = run(
        venue, (0, marks, {"GEM_USDC_PERP": 100.0}, {GEM: 100.0}), (1, marks, {"GEM_USDC_PERP": 150.0}, {GEM: 150.0})
    )
    assert found[1] == ([150.0, pytest.approx(math.nan, nan_ok=True)], [])


def test_a_price_is_held_and_then_follows_its_market():
    venue = make_venue({"stale": "5"})
    marks = {"GEM_USDC_PERP": 90.0}
    found = run(
        venue, (0, marks, {}, {GEM: 100.0}), (4, marks, {}, {}), (5, marks, {}, {}), (5.5, marks, {}, {}),
        (6, marks, {}, {GEM: 95.0}),
    )  # fmt: skip
    assert [row[0][0] for row in found[:3]] == [100.0] * 3
    assert [[r[:2] for r in row[1]] for row in found] == [[], [("mark_held", GEM)], [("mark_held", GEM)], [], []]
    assert math.isnan(found[3][0][0])
    assert found[4][0][0] == 95.0


PRICE = st.floats(50, 200)
STEPS = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 1, 1, 1, 2, 7.5, 60, 250, 301]), st.none() | PRICE | st.just(100.0)),
    min_size=1, max_size=25,
)  # fmt: skip


@given(STEPS, st.booleans(), st.sampled_from(["0.02", "0.2"]), st.none() | st.sampled_from([3, 100]))
@settings(max_examples=150, deadline=None)
def test_guards_against_plain_python(steps, capped, threshold, stale):
    """The rules of docs/one_tick.md, "Guards of collateral", with every sample written out."""
    figures = {"mean": threshold} | ({"low": "0.999", "high": "1.001"} if capped else {})
    venue = make_venue(figures | ({} if stale is None else {"stale": stale}))
    time, ticks, expected = 0.0, [], []
    last = last_time = None
    samples: dict[int, float] = {}  # by second
    for step, price in steps:
        before, time = time, time + step
        if last is not None:
            for second in range(math.floor(before) + 1, math.ceil(time)):
                samples[second] = last
        ticks.append((time, {}, {}, {} if price is None else {GEM: price}))
        if price is None:
            held = last is not None and stale is not None and time - last_time <= stale
            expected.append((last if held else math.nan, ["mark_held"] if held else []))
        else:
            refused, value = [], price
            window = [p for second, p in samples.items() if second > time - 300]
            if window:
                total, count, runs = 0.0, 0, []
                for sample in window:
                    if runs and runs[-1][0] == sample:
                        runs[-1][1] += 1
                    else:
                        runs.append([sample, 1])
                for sample, seconds in runs:
                    total, count = total + sample * seconds, count + seconds
                mean, width = total / count, float(threshold)
                value = min(max(value, mean * (1 - width)), mean * (1 + width))
                refused += ["mean_clamp"] if value != price else []
            if capped and last is not None:
                seconds = float(max(math.floor(time - last_time), 1))
                kept = min(max(value, last * 0.999**seconds), last * 1.001**seconds)
                refused += ["update_cap"] if kept != value else []
                value = kept
            last, last_time = value, time
            expected.append((value, refused))
        if last is not None and time == math.floor(time):
            samples[int(time)] = last
    found = run(venue, *ticks)
    assert repr([(own[0], [reason for reason, *_ in refused]) for own, refused in found]) == repr(expected)


def test_prices_of_assets_on_a_path():
    """A line between two prices of their own; each instant passes the guards; a price that is held is none."""
    venue = make_venue({"low": "0.999", "high": "1.001", "mean": "0.5"}, price_path="linear")
    first = rc.Prices.incomplete(venue, rc.Tick(START, {"GEM_USDC_PERP": 100.0}, asset_prices={GEM: 100.0, TOK: 2.0}))
    memory = guard(venue, GuardState.opening(venue), None, START, first, rc.Books.empty(venue)).guard_state
    now = rc.Prices.incomplete(venue, rc.Tick(START, {"GEM_USDC_PERP": 100.0}, asset_prices={GEM: 90.0}))
    times = START + np.arange(1, 11) * SECOND
    path = Path.between(venue, None, memory.mark, first, now, rc.Books.empty(venue), START, times, 0)
    guarded = guard_path(venue, memory, path)
    expected = [100.0]
    for _ in range(9):
        expected.append(expected[-1] * 0.999)
    np.testing.assert_array_equal(guarded.own_asset[:9, 1], expected[1:])
    assert guarded.own_asset[:, 2].tolist() == [2.0] * 9 + [pytest.approx(math.nan, nan_ok=True)]
    assert guarded.updates.all()
    rows = [guarded.refusals(k) for k in range(10)]
    assert [[(r.reason, r.asset) for r in row] for row in rows] == [[("update_cap", 1)]] * 10
    assert [row[0].price for row in rows] == [100.0 - 10.0 * (k / 10) for k in range(1, 10)] + [90.0]
    state = guarded.state_at(4)
    assert (state.asset_price[1], state.asset_time[1]) == (expected[5], START + 5 * SECOND)
    assert state.asset_time[2] == START
    samples = state.frames()["asset_samples"].query("asset == 1")
    assert samples["price"].tolist() == expected[:6]


def test_one_second_does_not_close_a_position_in_a_calm_market():
    """An account whose collateral has a wrong price for a second: with a guard nothing happens to it."""
    positions = pd.DataFrame({"account": [1], "market": ["GEM_USDC_PERP"], "quantity": [10.0], "entry_price": [100.0]})
    balances = pd.DataFrame({"account": [1], "asset": ["TOK"], "quantity": [100.0]})
    book = {"GEM_USDC_PERP": {"bids": [(99.9, 100.0)], "asks": [(100.1, 100.0)]}}
    steps = [2.0] * 60 + [0.4] + [2.0] * 60
    for figures, selected in (
        ({}, True), ({"low": "0.99", "high": "1.01"}, False), ({"mean": "0.1"}, False),
    ):  # fmt: skip
        venue = make_venue(tok=figures, slice_probability=1)
        engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
        seen = []
        for second, price in enumerate(steps):
            tick = rc.Tick(START + second * SECOND, {"GEM_USDC_PERP": 100.0}, book, asset_prices={TOK: price})
            result = engine.step(tick)
            seen += result.selected.tolist()
        assert bool(seen) == selected
        assert (engine.accounts.columns.lots[0] == 1000) != selected
        if figures:
            assert engine.guard_state.asset_price[2] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("asset", "figures", "message"),
    [
        ("GEM", {"minPriceUpdateMultiplier": "1.1"}, "minPriceUpdateMultiplier, value '1.1': must be at most 1"),
        ("GEM", {"maxPriceUpdateMultiplier": 0.5}, "maxPriceUpdateMultiplier, value '0.5': must be at least 1"),
        ("GEM", {"indexThreshold": 0}, "indexThreshold, value '0': must be at least 1E-18 and less than 1"),
        ("GEM", {"meanThreshold": 1}, "meanThreshold, value '1': must be at least 1E-18 and less than 1"),
        ("GEM", {"staleAfter": 0}, "staleAfter, value '0': must be more than 0 and at most 10**9 seconds"),
        ("GEM", {"staleAfter": "NaN"}, "staleAfter, value 'NaN': must be more than 0 and at most 10**9 seconds"),
        ("USDC", {}, "priceGuard: must be missing: the price of the settle asset is 1"),
    ],
)
def test_wrong_guards(asset, figures, message):
    source = make_venue().source
    row = next(row for row in source["collateral"] if row["symbol"] == asset)
    row["priceGuard"] = figures
    with pytest.raises(RiskDataError) as refusal:
        rc.load_venue(source)
    number = source["collateral"].index(row)
    where = f"venue.collateral[{number}].priceGuard"
    assert str(refusal.value).startswith(where)
    assert str(refusal.value).endswith(message)


def test_an_unknown_guard_is_refused():
    source = make_venue().source
    source["collateral"][1]["priceGuard"] = {"staleafter": 5}
    with pytest.raises(RiskDataError, match="unknown field `staleafter`"):
        rc.load_venue(source)
