"""The clock in the engine against the exact model, row by row, and in the audit of recorded runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import Engine, RiskDataError, reference
from riskcore.audit import audit
from tests.comparison import assert_same_journal, assert_same_state, totals
from tests.small_run import seal
from tests.strategies import START, Scene, TickInput, decimals, rounded, scenes
from tests.wild_runs import wild_accounts, wild_run, wild_ticks, wild_venue

SECOND = 10**9
PATHS = ("hold", "linear", "bridge", "adverse")


# ---- Random scenes


@st.composite
def bars(draw, source, inputs: TickInput) -> TickInput:
    """The tick with bars of some of its marks, from no width to 8 %."""
    lows, highs = {}, {}
    for market in (row for row in source["markets"] if row["symbol"] in inputs.marks):
        if draw(st.booleans()):
            symbol, tick = market["symbol"], Decimal(market["filters"]["price"]["tickSize"])
            mark = inputs.marks[symbol]
            low, high = (draw(decimals(*part, 3)) for part in ((920, 1000), (1000, 1080)))
            lows[symbol] = max(min(rounded(Decimal(str(mark)) * low, tick), mark), float(tick))
            highs[symbol] = max(rounded(Decimal(str(mark)) * high, tick), mark)
    return replace(inputs, lows=lows, highs=highs)


@st.composite
def clocked_scenes(draw, ticks=3, mixed=False) -> Scene:
    """A scene with a clock, whose ticks have bars and at most some 100 instants between them."""
    scene = draw(scenes(ticks=ticks, live=True, mixed=mixed))
    interval = draw(st.sampled_from([1, 1, 2, 7, 30]))
    policy = {"liquidation_interval": interval, "price_path": draw(st.sampled_from(PATHS))}
    gaps = [Decimal("0.25"), interval, 2 * interval, Decimal("3.5") * interval, 12 * interval, 40 * interval]
    inputs, time = [], START
    for drawn in scene.ticks:
        late = {symbol: drawn.time - time for symbol, time in drawn.book_times.items()}
        moved = replace(drawn, time=time, book_times={symbol: time - age for symbol, age in late.items()})
        inputs.append(draw(bars(scene.source, moved)))
        time += int(draw(st.sampled_from(gaps)) * SECOND)
    source = scene.source | {"policy": scene.source["policy"] | policy}
    return replace(scene, source=source, ticks=inputs)


def assert_equals_the_model(scene: Scene) -> set[str]:
    """Step both through the scene; what one refuses the other refuses too. Returns what happened in between."""
    venue, accounts = scene.load()
    model, state = scene.load_reference()
    engine = Engine(accounts, venue, scene.seed)
    everything, happened = totals(engine, venue), set()
    for inputs in scene.ticks:
        arguments, both = inputs.reference_arguments(), {"lows": inputs.lows, "highs": inputs.highs}
        try:
            after, rows, seen = reference.step(model, state, *arguments, **both, seed=scene.seed)
        except ValueError:
            with pytest.raises(RiskDataError):
                engine.step(inputs.tick())
            assert_same_state(engine, model, state)
            happened.add("refused")
            continue
        happened |= {f"{row['event']}: {row['reason']}" for row in rows if row["time"] != inputs.time}
        result = engine.step(inputs.tick())
        assert_same_journal(result, rows, model, state, seen.prices, seen)
        assert_same_state(engine, model, after)
        assert totals(engine, venue) == everything
        state = after
    return happened


@settings(max_examples=12)
@given(clocked_scenes())
def test_instants_equal_the_model(scene: Scene):
    for kind in assert_equals_the_model(scene):
        event(kind)


@settings(max_examples=8)
@given(clocked_scenes(mixed=True))
def test_instants_of_several_assets_equal_the_model(scene: Scene):
    for kind in assert_equals_the_model(scene):
        event(kind)


# ---- Paths by hand


def model(**policy) -> tuple[reference.Venue, reference.State]:
    """A market X with a tick of 0.1; account 1 is long 10 from 100, account 2 short as much."""
    row = rc.sample.market_row("X", "0.1", "0.01", ("0.1", "0"), ("0.05", "0"), impact=None) | {"symbol": "X"}
    venue = reference.Venue({"markets": [row], "policy": {"slice_probability": 1, "min_slice_notional": 1, **policy}})
    positions = [
        {"account": n, "market": "X", "quantity": quantity, "entry_price": 100.0} for n, quantity in ((1, 10), (2, -10))
    ]
    balances = [{"account": n, "asset": "USDC", "quantity": 5000.0} for n in (1, 2)]
    return venue, reference.load_state(venue, positions, balances)


def marks_between(low: float | None = None, high: float | None = None, index=(None, None), **policy):
    """The marks and indexes of the instants of a minute in which X goes from 100 to 98."""
    venue, state = model(liquidation_interval=10, **policy)
    first, last = ({"X": x} if x is not None else {} for x in index)
    state, _, _ = reference.step(venue, state, 0, {"X": 100}, {}, first)
    both = {} if low is None else {"lows": {"X": low}, "highs": {"X": high}}
    _, _, seen = reference.step(venue, state, 60 * SECOND, {"X": 98}, {}, last, **both, seed=1)
    prices = [seen.by_time[second * SECOND] for second in range(10, 70, 10)]
    return [float(p.marks["X"]) for p in prices], [float(p.indexes["X"]) if p.indexes else None for p in prices]


def test_paths():
    """Five instants lie in between: with a bar the second and the fourth are its extremes."""
    assert marks_between()[0] == [100, 100, 100, 100, 100, 98]
    assert marks_between(price_path="linear")[0] == pytest.approx([99.6667, 99.3333, 99, 98.6667, 98.3333, 98])
    hold = marks_between(97, 101)[0]
    assert hold in ([100, 97, 97, 101, 101, 98], [100, 101, 101, 97, 97, 98])
    linear = marks_between(97, 101, price_path="linear")[0]
    assert linear in ([98.5, 97, 99, 101, 99.5, 98], [100.5, 101, 99, 97, 97.5, 98])
    assert marks_between(97, 101, price_path="adverse")[0] == [98.5, 97, 99, 101, 99.5, 98]
    bridge = marks_between(97, 101, price_path="bridge")[0]
    assert (bridge[1], bridge[3]) == (linear[1], linear[3])
    assert min(bridge) >= 97
    assert max(bridge) <= 101
    assert {*bridge} - {*linear}


def test_the_index_keeps_its_ratio_to_the_mark():
    assert marks_between(index=(99, 97))[1] == [99, 99, 99, 99, 99, 97]
    assert marks_between(index=(99, None), price_path="linear")[1] == [None] * 6
    found = marks_between(index=(50, 49), price_path="linear", mark_index_threshold=None)[1]
    assert found == pytest.approx([49.8333, 49.6667, 49.5, 49.3333, 49.1667, 49], abs=2e-4)


@pytest.mark.parametrize(("low", "high"), [(98.1, 101), (97, 97.9), (101, 97)])
def test_a_bar_holds_its_mark(low, high):
    with pytest.raises(ValueError, match="X: low, mark and high"):
        marks_between(low, high)


def test_an_account_that_is_liquidated_within_the_bar_alone_is_found():
    venue, state = model(liquidation_interval=1)
    state.accounts[1].balances["USDC"][0] = 60 * 10**6
    book = {"X": {"bids": [(100 - n / 10, 100.0) for n in range(1, 60)], "asks": []}}
    state, rows, _ = reference.step(venue, state, 0, {"X": 100}, book)
    assert not rows
    state, rows, _ = reference.step(venue, state, 3 * SECOND, {"X": 100}, book, lows={"X": 98}, highs={"X": 100})
    assert [(row["event"], row["time"] // SECOND) for row in rows[:2]] in ([("trigger", 1), ("book", 1)],
                                                                           [("trigger", 2), ("book", 2)])  # fmt: skip
    moved = (float(rows[1]["price"]) - 99.9) / 0.1  # the book moves with the mark
    assert moved == pytest.approx(-20)


def test_instants_at_which_nothing_can_happen_are_left_out():
    """Nobody buys: the account is tried again at the next tick and when a clock minute begins, not every second."""
    venue, state = model(liquidation_interval=1)
    state.accounts[1].balances["USDC"][0] = 40 * 10**6
    state, rows, _ = reference.step(venue, state, 30 * SECOND, {"X": 100}, {})
    assert rows
    _, rows, _ = reference.step(venue, state, 90 * SECOND, {"X": 100}, {})
    assert sorted({row["time"] // SECOND for row in rows}) == [60, 90]


@pytest.mark.parametrize(("path", "fewest"), [("hold", 1), ("linear", 50)])
def test_an_account_that_nobody_takes_is_tried_again_with_each_update_and_minute(path, fewest):
    """Nothing changes and nobody is skipped: on `hold` only the instant at which a minute begins is not left out."""
    row = rc.sample.market_row("X", "0.1", "0.01", ("0.1", "0"), ("0.05", "0"), impact=None) | {"symbol": "X"}
    policy = {"liquidation_interval": 1, "price_path": path, "slice_probability": 1, "account_cap_interval": 3600}
    scene = Scene(
        {"settle_asset": "USDC", "markets": [row], "collateral": [], "policy": policy},
        [{"account": 1, "market": "X", "quantity": 10.0, "entry_price": 100.0}],
        [{"account": 1, "asset": "USDC", "quantity": 40.0, "lent": 0.0}],
        ticks=[TickInput((30 + 60 * n) * SECOND, {"X": 100.0 - n}, {}, {}, {}) for n in range(2)],
    )
    model, state = scene.load_reference()
    for inputs in scene.ticks:
        state, rows, _ = reference.step(model, state, *inputs.reference_arguments())
    found = {row["time"] // SECOND for row in rows}
    assert found >= {60, 90}
    assert fewest <= len(found - {90}) <= max(fewest * 2, 1)
    assert_equals_the_model(scene)


# ---- Recorded runs


def clocked_run(path, policy, *, seed, resume=False, count=40, ticks=16, **drawn):
    """A wild run with bars, of which a process ends in the middle if it is resumed."""
    rng, bar = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    venue = wild_venue(count, {"liquidation_interval": 1} | policy, mixed=drawn.pop("mixed", False))
    engine = Engine(wild_accounts(venue, count, seed), venue, seed)
    prices = {"USDT": 0.998} if "USDT" in venue.assets.symbol else None
    for number, tick in enumerate(wild_ticks(ticks, drawn.get("depth", 6e3), rng, drawn.get("fall", 0.12), prices)):
        lows, highs = ({m: round(x * (1 + sign * abs(bar.normal(0, 0.004))), 4) for m, x in tick.marks.items()}
                       for sign in (-1, 1))  # fmt: skip
        try:
            engine.step(replace(tick, lows=lows, highs=highs))
        except RiskDataError:  # a market that is held has no mark: then nothing has changed
            continue
        if resume and number == ticks // 2:
            engine.save(path)
            engine = Engine.resume(path)
    engine.save(path)


RUNS = {
    "hold": ({"refill_half_life": 3, "slice_cooldown": 2}, {"seed": 1}),
    "linear": (
        {"slice_probability": 1, "realize_interval": 10, "account_cap": 3000, "account_cap_interval": 5},
        {"seed": 2, "mixed": True},
    ),
    "bridge": ({"refill_half_life": 20, "market_cap": 20_000, "account_order": "pro_rata"}, {"seed": 3, "depth": 1e5}),
    "adverse": ({"liquidation_interval": 2, "shortfall": "equity"}, {"seed": 4, "mixed": True, "depth": 1500}),
}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    """A run on the path `bridge`."""
    path = tmp_path_factory.mktemp("clock") / "bridge"
    policy, drawn = RUNS["bridge"]
    clocked_run(path, policy | {"price_path": "bridge"}, **drawn)
    return path


@pytest.mark.parametrize("path", PATHS)
def test_the_instants_of_a_run_are_those_of_the_model_and_keep_every_rule(path, tmp_path):
    policy, drawn = RUNS[path]
    clocked_run(tmp_path / "run", policy | {"price_path": path}, resume=True, **drawn)
    report = audit(tmp_path / "run", reference=True)
    assert report.ok, report.breaches.head(9).to_string()
    journal, ticks = (read(tmp_path / "run", table) for table in ("journal", "ticks"))
    between = journal[~journal["time"].isin(ticks["time"])]
    assert {"trigger", "book", "funding"} <= set(between["event"])
    assert journal["time"].is_monotonic_increasing


def test_a_run_without_bars_with_interest_and_poor_providers_is_that_of_the_model(tmp_path):
    policy = {"price_path": "linear", "liquidation_interval": 3, "harmful_slice": "backstop"}
    wild_run(tmp_path / "run", policy, seed=6, count=40, ticks=14, fall=0.3, depth=1500, poor=4000)
    assert [tick.difference for tick in reference.replay(tmp_path / "run")] == [None] * 14
    assert audit(tmp_path / "run", sample=0.5).ok


def read(path, table):
    return pd.concat([pd.read_parquet(file) for file in sorted((path / table).glob("*.parquet"))], ignore_index=True)


def altered(path, tmp_path, table, change):
    """The audit of a copy of a run with a table changed."""
    copy = shutil.copytree(path, tmp_path / "altered")
    file = copy / table / "00000.parquet"
    rows = pd.read_parquet(file)
    if table == "journal":
        rows = rows.astype({"event": object, "reason": object})
    rows = change(rows)
    rows.to_parquet(file, index=False)
    seal(copy)
    return audit(copy)


def between(rows, event, ticks):
    """Row numbers of an event at instants between the ticks."""
    return rows.index[(rows["event"] == event) & ~rows["time"].isin(ticks["time"])]


def rules(report):
    return set(report.breaches["rule"])


def test_altered_instants_are_found(bridge, tmp_path):
    ticks = read(bridge, "ticks")

    def without_trigger(rows):
        return rows.drop(between(rows, "trigger", ticks)[0])

    def later(rows):
        rows.loc[between(rows, "trigger", ticks)[0], "time"] += SECOND
        return rows

    def at_no_instant(rows):
        rows.loc[between(rows, "trigger", ticks)[-1] :, "time"] += 1
        return rows

    def other_price(rows):
        fills = rows.index[rows["event"].isin(["book", "backstop"]) & ~rows["time"].isin(ticks["time"])]
        rows.loc[fills[0], ["cash", "counter_cash"]] += np.array([1000, -1000])
        return rows

    for number, (change, rule) in enumerate(
        ((without_trigger, "selection"), (later, "selection"), (at_no_instant, "rows"), (other_price, "replay"))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert rule in rules(altered(bridge, folder, "journal", change)), change.__name__


@pytest.mark.parametrize(("column", "factor"), [("given_low", 0.98), ("given_high", 1.02), ("given_mark", 1.001)])
def test_altered_path_prices_are_found(bridge, tmp_path, column, factor):
    def change(rows):
        rows[column] = (rows[column] * factor).round(4)
        return rows

    assert not altered(bridge, tmp_path, "ticks", change).ok


def test_a_selection_that_is_missing_between_two_ticks_is_found(bridge, tmp_path):
    """All that an account did between two ticks is taken out: nothing else tells that it was liquidating."""
    ticks, journal = read(bridge, "ticks"), read(bridge, "journal")
    row = journal.loc[between(journal, "trigger", ticks)[-1]]

    def change(rows):
        return rows[(rows["time"] != row["time"]) | rows["event"].isin(["guard", "funding", "interest", "realize"])]

    report = altered(bridge, tmp_path, "journal", change)
    assert "selection" in rules(report)
    assert row["tick"] in set(report.breaches.loc[report.breaches["rule"] == "selection", "tick"])
