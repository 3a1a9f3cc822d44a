"""The policies of auto-deleveraging, their weights, and who is closed of how much, against the page's words."""

from fractions import Fraction
from math import floor, inf, isnan, nan

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import sample
from riskcore.venue import (
    POLICIES,
    AdlPolicy,
    Counterparties,
    adl_policies,
    allocate,
    integer_weights,
    ranked,
    register,
)

QUEUES = ["pnl_leverage", "bitmex", "bybit", "hyperliquid", "binance", "size", "leverage", "bankruptcy_price"]
SHARED = ["pro_rata", "capped_pro_rata", "rap_linear", "rap_power", "rap_tail"]


def counterparties(**columns) -> Counterparties:
    """What is not given is as of one healthy account."""
    count = len(next(iter(columns.values())))
    lots = np.array(columns.pop("lots", [1] * count), np.int64)
    known = dict.fromkeys(("value", "entry", "requirement", "equity", "exposure", "maintenance", "profit"), [1] * count)
    return Counterparties(lots, **{name: np.array(column, float) for name, column in (known | columns).items()})


# ---- The policies, one counterparty at a time, in fractions


def by_profit(row, leverage):
    value, entry = row["value"], row["entry"]
    if value > entry and entry * value <= 0:
        return inf
    if entry == 0:
        return nan if leverage == inf else -inf
    pnl = (value - entry) / abs(entry)
    if leverage == inf:
        return inf if pnl > 0 else 0
    return pnl * leverage if pnl > 0 else pnl / leverage


def lev(row):
    return row["exposure"] / row["equity"]


def bitmex(row):
    share = row["equity"] * row["requirement"] / row["maintenance"] if row["maintenance"] else row["equity"]
    return by_profit(row, abs(row["value"]) / share if share else inf)


def hyperliquid(row):
    value, entry = row["value"], row["entry"]
    if value > entry and entry * value <= 0:
        return inf
    gain = value / entry if value > 0 else entry / value
    return gain * abs(value) / row["equity"]


def binance(row):
    wallet = max(row["equity"] - row["profit"], 1)
    return max(row["value"] - row["entry"], 0) / wallet * row["maintenance"] / row["equity"]


PAGE = {
    "pnl_leverage": lambda row: by_profit(row, lev(row)),
    "bitmex": bitmex,
    "bybit": lambda row: by_profit(row, lev(row)) if row["value"] > row["entry"] else -inf,
    "hyperliquid": hyperliquid,
    "binance": binance,
    "size": lambda row: abs(row["value"]),
    "leverage": lev,
    "bankruptcy_price": lambda row: 0,
    "pro_rata": lambda row: row["lots"],
    "capped_pro_rata": lambda row: row["equity"],
    "rap_linear": lambda row: row["lots"] * lev(row),
    "rap_power": lambda row: row["lots"] * lev(row) ** 2,
    "rap_tail": lambda row: row["lots"] * max(lev(row) - 5, 0),
}

AMOUNTS = st.sampled_from([1, 100, 10**6, 2**40]).flatmap(lambda high: st.integers(1, high))


@st.composite
def rows(draw):
    """A position of whole amounts, at a profit, at a loss or at neither, of any leverage; some ask for no margin."""
    value = draw(AMOUNTS) * draw(st.sampled_from([1, -1]))
    entry = draw(
        st.sampled_from([value, 0, value // 2, 2 * value, -value]) | st.integers(-2 * abs(value), 2 * abs(value))
    )
    own = draw(st.sampled_from([0, abs(value) // 20]))
    return {
        "lots": draw(AMOUNTS), "value": value, "entry": entry, "requirement": own,
        "equity": draw(st.sampled_from([1, abs(value), 10 * abs(value)]) | AMOUNTS),
        "exposure": abs(value) + draw(st.just(0) | AMOUNTS), "maintenance": own + draw(st.just(0) | AMOUNTS),
        "profit": value - entry + draw(st.integers(-100, 100)),
    }  # fmt: skip


def test_every_policy_is_on_the_page():
    assert list(POLICIES) == list(PAGE) == [*QUEUES, *SHARED]
    assert [name for name, policy in POLICIES.items() if policy.shared] == SHARED
    assert [name for name, policy in POLICIES.items() if policy.reach] == ["bankruptcy_price"]
    assert all(policy.name == name for name, policy in POLICIES.items())


@pytest.mark.parametrize("name", PAGE)
@settings(max_examples=100)
@given(st.lists(rows(), min_size=1, max_size=6))
def test_scores_and_weights(name, held):
    found = ranked(POLICIES[name], counterparties(**{column: [row[column] for row in held] for column in held[0]}))
    for score, row in zip(found.tolist(), held, strict=True):
        expected = PAGE[name]({column: Fraction(x) for column, x in row.items()})
        event("one side" if expected in (inf, -inf) else "profit" if row["value"] > row["entry"] else "no profit")
        slack = 1e-14 * row["lots"] * 5 if name == "rap_tail" else 0
        assert score == pytest.approx(float(expected), rel=1e-13, abs=slack, nan_ok=True)


def test_e7_the_loss_comes_last():
    """venue_rules.md section 5: shorts at a mark of 100 score .22727, .38462, .01667 and -.00153."""
    of = counterparties(
        lots=[10, 5, 8, 4], value=[-1000, -500, -800, -400], entry=[-1100, -520, -960, -392],
        equity=[400, 50, 8000, 30], exposure=[1000, 500, 800, 400],
    )  # fmt: skip
    policy = POLICIES["pnl_leverage"]
    assert ranked(policy, of) == pytest.approx([0.22727, 0.38462, 0.01667, -0.00153], abs=5e-6)
    assert adl_policies.top_of_queue(ranked(policy, of), of.lots, 27).tolist() == [1, 0, 2, 3]
    assert [allocate(policy, of, need, of.lots).tolist() for need in (3, 7, 16, 25)] == [
        [0, 3, 0, 0], [2, 5, 0, 0], [10, 5, 1, 0], [10, 5, 8, 2],
    ]  # fmt: skip


# ---- A user's own


@pytest.fixture
def registry():
    """The policies, as they were once the test is over."""
    before = dict(POLICIES)
    yield POLICIES
    POLICIES.clear()
    POLICIES.update(before)


def test_register(registry):
    register("smallest", lambda of: -np.abs(of.value))
    register("by_profit", lambda of: of.value - of.entry, shared=True)
    assert (registry["smallest"].shared, registry["by_profit"].shared) == (False, True)
    of = counterparties(lots=[4, 4, 4], value=[30, 10, 20], entry=[0, 0, 20])
    assert allocate(registry["smallest"], of, 6, of.lots).tolist() == [0, 4, 2]
    assert allocate(registry["by_profit"], of, 4, of.lots).tolist() == [3, 1, 0]
    with pytest.raises(ValueError, match="'by_profit' exists already"):
        register("by_profit", adl_policies.size)
    with pytest.raises(ValueError, match="'size' exists already"):
        register("size", adl_policies.size, shared=True)
    assert registry["size"] == AdlPolicy("size", adl_policies.size)


@pytest.mark.parametrize(
    ("rank", "what"),
    [
        (lambda of: of.value[:1], r"float64 of shape \(1,\), not a number for each of 2"),
        (lambda of: of.value[:, None], r"float64 of shape \(2, 1\)"),
        (lambda of: 1.0, r"float64 of shape \(\)"),
        (lambda of: None, "object of shape"),
    ],
    ids=["short", "square", "number", "nothing"],
)
def test_a_rank_of_another_shape_or_type_is_refused(rank, what):
    with pytest.raises(ValueError, match=f"ADL policy 'mine' gave {what}"):
        ranked(AdlPolicy("mine", rank), counterparties(value=[1, 2]))


@pytest.mark.parametrize(
    "rank", [lambda of: [1.0, 2.0], lambda of: of.lots, lambda of: of.value.astype(np.float32), lambda of: of.value > 0]
)
def test_numbers_of_any_kind_are_a_rank(rank):
    found = ranked(AdlPolicy("mine", rank), counterparties(lots=[1, 2], value=[1, 2]))
    assert found.dtype == np.float64
    assert found.tolist() in ([1, 2], [1, 1])


def test_a_function_is_tried_before_it_is_registered(registry):
    for wrong in (lambda of: of.value[:1], lambda of: 1 / 0):
        with pytest.raises((ValueError, ZeroDivisionError)):
            register("wrong", wrong)
    assert "wrong" not in registry
    register("mine", adl_policies.size)
    register("mine", adl_policies.leverage, replace=True)
    assert registry["mine"].rank is adl_policies.leverage


def test_a_venue_names_a_policy_that_is_registered(registry):
    source = sample.venue_source([]) | {"policy": {"adl_policy": "mine"}}
    with pytest.raises(rc.RiskDataError, match=r"policy\.adl_policy, value 'mine': must be 'pnl_leverage', .* or "):
        rc.load_venue(source)
    venue = rc.load_venue(source, any_adl_policy=True)
    accounts = rc.Accounts.from_frames(venue, *two_sides(100.0))
    with pytest.raises(rc.RiskDataError, match="value 'mine': must be"):
        rc.Engine(accounts, venue)


def two_sides(cash: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A long with some cash against a rich short, 1 BTC from 100,000."""
    positions = pd.DataFrame(
        {"account": [1, 2], "market": "BTC_USDC_PERP", "quantity": [1.0, -1.0], "entry_price": [1e5, 1.1e5]}
    )
    return positions, pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [cash, 1e6]})


def test_an_engine_whose_tick_failed_half_way_goes_nowhere(registry, tmp_path):
    calls = []

    def fails_later(of):
        calls.append(len(of))
        if len(calls) > 2:  # the first two try it
            raise ZeroDivisionError("mine")
        return of.value

    register("mine", fails_later)
    venue = rc.load_venue(sample.venue_source([]) | {"policy": {"adl_policy": "mine", "slice_probability": 1}})
    engine = rc.Engine(rc.Accounts.from_frames(venue, *two_sides(300.0)), venue)
    with pytest.raises(ZeroDivisionError):
        engine.step(rc.Tick("2026-01-01", {"BTC_USDC_PERP": 1e5}))
    for after in (
        lambda: engine.step(rc.Tick("2026-01-02", {"BTC_USDC_PERP": 1e5})),
        lambda: engine.save(tmp_path / "r"),
    ):
        with pytest.raises(RuntimeError, match="tick 0 failed half-way: ZeroDivisionError: mine"):
            after()
    assert not (tmp_path / "r").exists()


# ---- Weights and lots


def made_whole(weights) -> list[int]:
    """Rounded to 24 significant bits and scaled by a power of two, so that the largest has 38 bits."""

    def digits(x: Fraction) -> int:
        n = x.numerator.bit_length() - x.denominator.bit_length()
        return n if x >= Fraction(2) ** n else n - 1

    kept = []
    for weight in weights:
        weight = Fraction(0) if isnan(weight) or weight <= 0 else Fraction(min(weight, np.finfo(float).max))
        unit = Fraction(2) ** (digits(weight) - 23) if weight else Fraction(1)
        kept.append(round(weight / unit) * unit)
    if not any(kept):
        return [0] * len(kept)
    return [floor(weight * Fraction(2) ** (37 - digits(max(kept)))) for weight in kept]


WEIGHTS = st.floats(0, allow_subnormal=True) | st.floats(0.5, 8) | st.sampled_from([0.0, -0.0, -1.0, nan, inf, -inf])
HALVES = [1 + 2.0**-24, 1 + 3 * 2.0**-24, 2 - 2.0**-24, 2 - 2.0**-25]  # between two of 24 bits


@settings(max_examples=200)
@given(st.lists(WEIGHTS, max_size=6), st.integers(-100, 100))
@example(HALVES, 3)
@example([1.0, *HALVES[2:]], 0)
@example([5e-324, 2**-1022, 0.0], 0)
@example([5e-324, 1.5e-323], 0)
@example([inf, 1.0, 1e300], 0)
@example([nan, -1.0, 0.0], 0)
@example([2.0**37, 1.0, 0.5], 0)
def test_whole_weights(weights, shift):
    found = integer_weights(np.array(weights, float))
    assert found.tolist() == made_whole(weights)
    assert found.dtype == np.int64
    assert not found.any() or 2**37 <= found.max() < 2**38
    assume(all(1e-250 < weight < 1e250 for weight in weights))
    assert (integer_weights(np.ldexp(np.array(weights, float), shift)) == found).all()


def test_up_to_24_bits_are_kept():
    weights = np.array([2**24 - 1, 2**23 + 1, 12_345_678, 1.0])
    assert (integer_weights(weights) == weights * 2**14).all()


COLUMNS = ("lots", "value", "entry", "requirement", "equity", "exposure", "maintenance", "profit")


@st.composite
def sides(draw):
    """Counterparties whose scores are the policy's, rooms that may be 0, and a need."""
    held = draw(st.lists(rows(), max_size=8))
    held = [row | {"lots": draw(st.sampled_from([1, 7, 10**6, 2**55]))} for row in held]
    room = np.array([draw(st.sampled_from([0, 1, row["lots"]])) for row in held], np.int64)
    of = counterparties(**{column: [row[column] for row in held] for column in COLUMNS})
    return of, room, draw(st.integers(0, int(room.sum()) + 2) | st.just(1))


@pytest.mark.parametrize("name", PAGE)
@settings(max_examples=60)
@given(sides())
def test_allocate(name, side):
    """Never past a room, together the need or all there is; in a queue nobody before the one in front is full."""
    of, room, need = side
    policy = POLICIES[name]
    lots, rank = allocate(policy, of, need, room), ranked(policy, of)
    part = room if policy.shared else np.where(rank > -inf, room, 0)
    assert (lots >= 0).all()
    assert (lots <= part).all()
    assert lots.sum() == min(need, part.sum())
    if policy.shared:
        assert (lots == adl_policies.water_fill(need, integer_weights(rank), room)).all()
        return
    order = [n for n in np.argsort(-rank, kind="stable").tolist() if part[n]]
    full = [bool(lots[n] == room[n]) for n in order]
    assert full == sorted(full, reverse=True)
    assert not lots[order[sum(full) + 1 :]].any()
