"""Every selected account comes to an end or has a reason, and no conversion or fee makes an account worse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from riskcore import Engine, RiskDataError, reference
from tests.comparison import natural_rows
from tests.strategies import SETTLE, Scene, scenes
from tests.test_step_properties import EAGER, by_hand

STAGE_OF = {"book": "book", "backstop": "backstop", "market_close": "last book"}
FEES = ("book", "market_close", "convert")


@dataclass(frozen=True)
class Step:
    """A row of the engine, and the account's exact margin before and after it."""

    row: dict[str, Any]
    before: reference.Margin
    after: reference.Margin


def followed(scene: Scene) -> Iterator[tuple[reference.Venue, reference.State, reference.Prices, list[Step]]]:
    """The engine's rows of each tick from the selection on; the exact model gives the prices and what is due."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    engine = Engine(accounts, venue, scene.seed)
    for inputs in scene.ticks:
        try:
            after, _, seen = reference.step(oracle, state, *inputs.reference_arguments(), seed=scene.seed)
        except ValueError:
            with pytest.raises(RiskDataError):
                engine.step(inputs.tick())
            continue
        prices, steps = seen.prices.at(oracle, state), []
        rows = natural_rows(engine.step(inputs.tick()))
        first = next((n for n, row in enumerate(rows) if row["event"] == "trigger"), len(rows))
        state = reference.apply_rows(state, rows[:first])
        for row in rows[first:]:
            before = reference.margin(oracle, state.accounts[row["account"]], prices)
            reference.apply_row(state, row)
            steps.append(Step(row, before, reference.margin(oracle, state.accounts[row["account"]], prices)))
        yield oracle, state, prices, steps
        state = after


def stage_of(row: dict[str, Any]) -> str | None:
    """The stage that a row belongs to, None of the others."""
    if row["event"] == "adl":
        return None if row["reason"] == "full_utilization" else "adl"
    if row["event"] in ("harm", "expire", "skip") and row["market"] is not None:
        return "book"
    return STAGE_OF.get(row["event"])


def assert_every_account_has_an_end(scene: Scene) -> set[str]:
    """Ends, order of stages, and fees of the ticks of a scene; what happened."""
    happened = set()
    for venue, state, prices, steps in followed(scene):
        order = [*venue.policy["stages"], "last book"]
        places = [order.index(stage) for step in steps if (stage := stage_of(step.row)) is not None]
        assert places == sorted(places)
        for step in steps:
            happened.add(f"{step.row['event']}: {step.row['reason']}")
            if step.row["event"] in FEES and step.row["fee"] > 0:
                assert step.after.net_equity >= 0, step.row
        named = {step.row["account"] for step in steps if step.row["event"] != "trigger"}
        for account_id in {step.row["account"] for step in steps}:
            look = reference.margin(venue, state.accounts[account_id], prices)
            assert not look.liquidating or account_id in named
            if look.below_auto_close:
                mine = {step.row["market"] or step.row["asset"] for step in steps if step.row["event"] == "unfilled"}
                account = state.accounts[account_id]
                assert {market for market, held in account.positions.items() if held[0]} <= mine
                assert {asset for asset, held in account.balances.items() if held[0] < 0} <= mine
    return happened


@settings(max_examples=25)
@given(st.integers(1, 2).flatmap(lambda ticks: scenes(ticks=ticks, live=True)))
def test_every_account_has_an_end_or_a_reason(scene: Scene):
    for kind in assert_every_account_has_an_end(scene):
        event(kind)


@settings(max_examples=15)
@given(scenes(ticks=2, live=True, mixed=True))
def test_accounts_in_several_assets_have_an_end_or_a_reason(scene: Scene):
    for kind in assert_every_account_has_an_end(scene):
        event(kind)


# ---- Conversions of accounts whose every size can be tried


@st.composite
def small_debts(draw) -> Scene:
    """One account that owes settle or GEM, with other collateral in cents, at the index or at spot books near it."""
    owes_gem = draw(st.booleans())
    weights = {asset: draw(st.sampled_from(["0.7", "0.9", "1"])) for asset in ("GEM", "TOK")}
    collateral = [
        {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}, "quantum": "0.01"}
        for symbol, weight in weights.items()
    ]
    collateral.append({"symbol": SETTLE, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})
    held = {"TOK": draw(st.integers(50, 900)) / 10, "GEM": draw(st.integers(0, 60)) / 10}
    if owes_gem:
        held["GEM"] = -draw(st.integers(10, 90)) / 10
    prices = {"GEM": 100.0, "TOK": draw(st.sampled_from([10.0, 9.97]))}
    worth = sum(
        Fraction(str(quantity)) * Fraction(str(prices[asset])) * (Fraction(weights[asset]) if quantity > 0 else 1)
        for asset, quantity in held.items()
    )
    owed = abs(min(held["GEM"], 0)) * 100
    margin = Fraction(str(owed)) / 10 if owes_gem else worth / 20
    money = round(float(margin * draw(st.integers(20, 99)) / 100 - worth), 2)
    assume(owes_gem or money < 0)
    books = {}
    for asset in draw(st.sampled_from([(), ("GEM",), ("TOK",), ("GEM", "TOK")])):
        off = draw(st.sampled_from([0.0, 0.001, 0.02, 0.09]))
        levels = [round(prices[asset] * (1 - off), 2), round(prices[asset] * (1 + off), 2)]
        books[f"{asset}_USDC"] = {
            "bids": [(levels[0], 2.0), (round(levels[0] - 0.05, 2), 100.0)],
            "asks": [(levels[1], 2.0), (round(levels[1] + 0.05, 2), 100.0)],
        }
    policy = {
        "slice_probability": 1,
        "min_slice_notional": draw(st.sampled_from([1, 40])),
        "slice_fraction": draw(st.sampled_from(["0.1", "0.5", 1])),
        "liquidation_fee": draw(st.sampled_from(["0.01", "0.03", 0])),
        "target_mmr": draw(st.sampled_from([1, "0.8"])),
        "conversion_slippage": "0.1",
        "harmful_slice": draw(st.sampled_from(["waive", "waive", "send", "backstop"])),
    }
    balances = [(1, SETTLE, money, 0.0), *((1, asset, quantity, 0.0) for asset, quantity in held.items())]
    scene = by_hand(balances=balances, policy=policy, collateral=collateral)
    spots = [
        {
            "symbol": f"{asset}_USDC",
            "baseSymbol": asset,
            "quoteSymbol": SETTLE,
            "marketType": "SPOT",
            "filters": {"price": {"tickSize": "0.01"}, "quantity": {"stepSize": "0.02"}},
        }
        for asset in ("GEM", "TOK")
    ]
    source = scene.source | {"markets": [*scene.source["markets"], *spots]}
    first = scene.ticks[0]
    tick = type(first)(first.time, first.marks, {}, prices, books)
    return Scene(source, scene.positions, scene.balances, ticks=[tick])


def converted(venue, account, prices, row, quanta: int, bids) -> reference.Margin:
    """The margin after so many quanta of a row's conversion, at the index or at levels of (price, quanta)."""
    after = reference.Account(
        balances={asset: list(held) for asset, held in account.balances.items()}, unsettled=dict(account.unsettled)
    )
    value, left = Fraction(0), quanta
    for price, size in bids or [(prices.of_asset(venue, row["asset"]), quanta)]:
        value += min(left, size) * price * 10_000  # hundredths in quanta of settle
        left -= min(left, size)
    money = round(value)
    sign = 1 if row["quanta"] > 0 else -1
    after.balances[row["asset"]][0] += sign * quanta
    after.balances[SETTLE][0] -= sign * money + round(money * venue.policy["liquidation_fee"])
    return reference.margin(venue, after, prices)


@settings(max_examples=60)
@given(small_debts())
def test_conversions_restore_with_the_least_and_do_not_harm(scene: Scene):
    """Of conversions at the full fee: no smaller size, the smallest slice apart, would restore the target."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    rows = natural_rows(Engine(accounts, venue).step(scene.ticks[0].tick()))
    prices, judged = scene.ticks[0].prices(), {}
    for row in rows:
        account = state.accounts[1]
        before = reference.margin(oracle, account, prices)
        if row["event"] == "harm":
            judged[row["asset"]] = row["reason"]
        if row["event"] == "convert" and row["reason"] == "debt" and before.net_equity > 0:
            event(f"converted, harm {judged.get(row['asset'])}")
            book = scene.ticks[0].books.get(f"{row['asset']}_USDC", {})
            side = book.get("bids" if row["quanta"] < 0 else "asks", ())
            levels = [(Fraction(str(price)), round(size * 100)) for price, size in side]
            step = 2 if levels else 1
            least = math.ceil(oracle.policy["min_slice_notional"] * 100 / prices.of_asset(oracle, row["asset"]))
            if row["asset"] not in judged:
                taken = abs(row["quanta"])
                for quanta in range(math.ceil(least / step) * step, taken, step):
                    look = converted(oracle, account, prices, row, quanta, levels)
                    assert not look.maintenance_margin < oracle.policy["target_mmr"] * look.net_equity, quanta
                after = converted(oracle, account, prices, row, taken, levels)
                assert after.exposure == 0 or after.mmr < before.mmr
        if row["event"] == "convert":
            judged.pop(row["asset"], None)
        reference.apply_row(state, row)


def test_the_least_loss_is_sold_first():
    """Of GEM at 0.9 and TOK at 0.7 each unit sold adds 0.09 and 0.29 to the equity: TOK goes first, though less."""
    weights = {SETTLE: "1", "GEM": "0.9", "TOK": "0.7"}
    collateral = [
        {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
        for symbol, weight in weights.items()
    ]
    balances = [(1, SETTLE, -1000.0, 0.0), (1, "GEM", 10.0, 0.0), (1, "TOK", 20.0, 0.0)]
    scene = by_hand(balances=balances, policy=EAGER, collateral=collateral)
    venue, accounts = scene.load()
    rows = Engine(accounts, venue).step(scene.ticks[0].tick()).events
    sold = rows[rows["event"] == "convert"]
    # 50 - 0.05 * 0.99 x < 40 + 0.29 x: 29.455 of 200
    assert sold["asset"].tolist() == ["TOK"]
    assert sold["quanta"].tolist() == [-2945509]
