"""Every selected account comes to an end or has a reason, and no conversion or fee makes an account worse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from riskcore import Engine, RiskDataError, reference
from tests.comparison import natural_rows
from tests.strategies import SETTLE, Scene, scenes
from tests.test_step_properties import DEEP, EAGER, GEM_SPOT, LONG, assert_equals_the_oracle, by_hand

STAGE_OF = dict.fromkeys(("book", "harm", "expire", "skip"), "book")
STAGE_OF |= {"backstop": "backstop", "adl": "adl", "market_close": "last book"}
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
    """The part of the waterfall that a row belongs to, None of those before it."""
    if row["reason"] == "close_out" or row["event"] in ("fund", "socialize", "shortfall"):
        return "close out"
    if row["reason"] == "full_utilization":
        return "lends"
    if row["event"] == "unfilled":
        return "last book" if row["market"] is not None else "what stays"
    if row["reason"] == "debt" or (row["event"] in ("harm", "expire", "skip") and row["asset"] is not None):
        return "repay"
    return STAGE_OF.get(row["event"])


def assert_stages_are_in_order(stages: list[str], steps: list[Step]) -> None:
    """Repayments come first, beside the book where it is the first stage; lends before ADL or the last book."""
    order = [*stages, "last book", "close out", "what stays"]
    order.insert(order.index("adl" if "adl" in stages else "last book"), "lends")
    place = {name: n for n, name in enumerate(order)}
    place["repay"] = 0 if order[0] == "book" else -1
    found = [stage for step in steps if (stage := stage_of(step.row)) is not None]
    assert [place[stage] for stage in found] == sorted(place[stage] for stage in found), found


def assert_every_account_has_an_end(scene: Scene) -> set[str]:
    """Ends, order of stages, and fees of the ticks of a scene; what happened."""
    happened = set()
    for venue, state, prices, steps in followed(scene):
        assert_stages_are_in_order(list(venue.policy["stages"]), steps)
        for step in steps:
            happened.add(f"{step.row['event']}: {step.row['reason']}")
            if step.row["event"] in FEES and step.row["fee"] > 0:
                assert step.after.net_equity >= 0, step.row
        named = {step.row["account"] for step in steps if step.row["event"] != "trigger"}
        escalated = {step.row["account"] for step in steps if step.row["reason"] == "to_backstop"}
        for account_id in {step.row["account"] for step in steps}:
            look = reference.margin(venue, state.accounts[account_id], prices)
            assert not look.liquidating or account_id in named
            past = "book" not in venue.policy["stages"] or look.below_auto_close or account_id in escalated
            if look.liquidating and past:  # the last book takes it: all that it still has is named
                mine = [step.row for step in steps if step.row["account"] == account_id]
                told = {row["market"] or row["asset"] for row in mine if row["event"] == "unfilled"}
                account = state.accounts[account_id]
                assert {market for market, held in account.positions.items() if held[0]} <= told
                assert {asset for asset, held in account.balances.items() if held[0] < 0} <= told
    return happened


@settings(max_examples=12)
@given(st.integers(1, 2).flatmap(lambda ticks: scenes(ticks=ticks, live=True)))
def test_every_account_has_an_end_or_a_reason(scene: Scene):
    for kind in assert_every_account_has_an_end(scene):
        event(kind)


@settings(max_examples=8)
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


@settings(max_examples=25)
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
            is_crossed = bool(book) and book["asks"][0] <= book["bids"][0]  # and rejected: at the index
            side = () if is_crossed else book.get("bids" if row["quanta"] < 0 else "asks", ())
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


# ---- Scenes by hand, beside the exact model

THIN = {"bids": [(99.99, 0.5), (99.0, 3.0), (97.0, 1000.0)], "asks": [(100.01, 0.5), (101.0, 1000.0)]}
WEIGHTLESS = [
    {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
    for symbol, weight in ((SETTLE, "1"), ("GEM", "1"), ("TOK", "1"))
]


def at_books(scene: Scene, *books: dict[str, Any], marks: tuple[dict[str, float], ...] = ()) -> Scene:
    """A tick a second with each of some books, and perhaps other marks."""
    first = scene.ticks[0]
    ticks = [
        replace(first, time=first.time + n * 10**9, books=book, marks=marks[n] if marks else first.marks)
        for n, book in enumerate(books)
    ]
    return replace(scene, ticks=ticks)


def two_positions(scene: Scene, **book: Any) -> Scene:
    """X and its twin Y, whose books are given."""
    market = scene.source["markets"][0]
    source = scene.source | {"markets": [market, market | {"symbol": "Y", "baseSymbol": "Y"}]}
    marks = {"X": 100.0, "Y": 100.0}
    return replace(scene, source=source, ticks=[replace(scene.ticks[0], marks=marks, books=book)])


@pytest.mark.parametrize(
    "case",
    {
        "ADL takes who the book would take": (
            at_books(
                by_hand(
                    [LONG, (2, "X", -10.0, 110.0)],
                    [(1, SETTLE, 45.0, 0.0), (2, SETTLE, 900.0, 0.0)],
                    policy={"stages": ["adl", "book"]},
                ),
                {"X": THIN},
            ),
            {"adl: backstop_exhausted"},
        ),
        "the backstop takes who the book would take": (
            at_books(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 45.0, 0.0), (9, SETTLE, 900.0, 0.0)],
                    backstop=[{"account": 9, "max_notional": "400"}],
                    policy=EAGER | {"stages": ["backstop", "book"]},
                ),
                {"X": THIN},
            ),
            {"backstop: mmr", "book: full"},
        ),
        # an empty fund switches ADL on whatever the levels are
        "an empty fund": (
            by_hand(
                [LONG, (9, "X", -20.0, 110.0)],
                [(1, SETTLE, 20.0, 0.0), (9, SETTLE, 900.0, 0.0)],
                policy={"adl_when": "fund_below"},
            ),
            {"adl: fund_below"},
        ),
        # 4 is not below 4: the last book takes it, and the 10 then in the fund switch nothing on
        "a fund at its level": (
            at_books(
                by_hand(
                    [LONG, (9, "X", -20.0, 110.0)],
                    [(1, SETTLE, 20.0, 0.0), (9, SETTLE, 900.0, 0.0)],
                    policy={"adl_when": "fund_below", "adl_fund_on": 4, "adl_fund_off": 4, "fund": 4},
                ),
                {"X": DEEP},
            ),
            {"market_close: full"},
        ),
        # without the stage book the last book takes it
        "no book among the stages": (
            at_books(by_hand([LONG], [(1, SETTLE, 45.0, 0.0)], policy={"stages": ["adl"]}), {"X": THIN}),
            {"market_close: full"},
        ),
        "no slippage limit in the last book": (
            at_books(
                by_hand([LONG], [(1, SETTLE, 20.0, 0.0)], policy={"slippage_limit": 1, "depth_share": "0.1"}),
                {"X": THIN},
            ),
            {"market_close: full", "shortfall: bankrupt"},
        ),
        # Y has the larger margin and goes first, which is enough
        "as long as it is liquidating": (
            two_positions(
                by_hand([(1, "X", 4.0, 100.0), (1, "Y", 6.0, 100.0)], [(1, SETTLE, 24.5, 0.0)]),
                X=THIN,
                Y={"bids": [(100.0, 2.0)]},
            ),
            {"market_close: depth", "unfilled: depth"},
        ),
        "a fill that is enough leaves its rest": (
            two_positions(
                by_hand([(1, "X", 1.0, 100.0), (1, "Y", 9.0, 100.0)], [(1, SETTLE, 24.5, 0.0)], policy={"fund": 0}),
                X=THIN,
                Y={"bids": [(100.0, 8.5)]},
            ),
            {"market_close: depth", "unfilled: depth"},
        ),
        # 2 of the 2.5 left after a loss of 1 at the fee of 10 %
        "a fee near the equity": (
            at_books(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 28.0, 0.0)],
                    policy={
                        "liquidation_fee": "0.1",
                        "harmful_slice": "send",
                        "slice_probability": 1,
                        "slice_fraction": "0.5",
                        "slices_per_tick": 2,
                        "min_slice_notional": 1,
                    },
                ),
                {"X": {"bids": [(97.0, 7.0), (96.9, 100.0)]}},
            ),
            {"harm: sent", "book: full"},
        ),
        # E = 2 pays less than the fee of 10 % of the last book
        "a fee of the last book near the equity": (
            at_books(by_hand([LONG], [(1, SETTLE, 12.0, 0.0)], policy={"liquidation_fee": "0.1"}), {"X": THIN}),
            {"market_close: full"},
        ),
        # 2 short: better bids make something of it, and no fee is taken
        "no fee without equity": (
            at_books(
                by_hand([LONG], [(1, SETTLE, -2.0, 0.0)], policy={"liquidation_fee": "0.1"}),
                {"X": {"bids": [(101.0, 10.0)]}},
            ),
            {"market_close: full"},
        ),
        # 2 pays 100 for the GEM that 1 has lent, which is not enough; then 9 takes the position
        "lends before ADL": (
            by_hand(
                [LONG, (9, "X", -20.0, 110.0)],
                [
                    *((1, SETTLE, -880.0, 0.0), (1, "GEM", 0.0, 10.0), (2, "GEM", -1.0, 0.0)),
                    *((n, SETTLE, 3000.0, 0.0) for n in (2, 9)),
                ],
                borrow_lend=[{"symbol": "GEM", "borrowedQuantity": "30"}],
            ),
            {"adl: full_utilization", "adl: backstop_exhausted"},
        ),
        "lends before the last book": (
            at_books(
                by_hand(
                    [LONG],
                    [(1, SETTLE, -880.0, 0.0), (1, "GEM", 0.0, 10.0), (2, "GEM", -1.0, 0.0), (2, SETTLE, 3000.0, 0.0)],
                    borrow_lend=[{"symbol": "GEM", "borrowedQuantity": "30"}],
                    policy={"stages": ["book"]},
                ),
                {"X": THIN},
            ),
            {"adl: full_utilization", "unfilled: full_utilization", "market_close: full"},
        ),
        # USDC that is all lent out, beside TOK that nobody owes, and GEM that is owed
        "lends of settle": (
            by_hand(
                balances=[(1, SETTLE, 0.0, 700.0), (1, "GEM", -10.0, 0.0), (1, "TOK", 0.0, 36.0), (2, "TOK", 0.0, 1.0)],
                borrow_lend=[
                    {"symbol": SETTLE, "borrowedQuantity": "800"},
                    {"symbol": "TOK", "borrowedQuantity": "900"},
                ],
            ),
            {"unfilled: full_utilization", "unfilled: no_collateral"},
        ),
        # two debts of an account above auto-close: one row, of the larger one
        "the largest debt": (
            by_hand(
                balances=[(1, "GEM", -3.0, 0.0), (1, "TOK", -31.0, 0.0), (1, SETTLE, 0.0, 670.0)],
                borrow_lend=[{"symbol": SETTLE, "borrowedQuantity": "0"}],
                policy={"slice_probability": 1},
            ),
            {"unfilled: no_collateral"},
        ),
        # without the stage book the last book takes the account: a row for each of its debts
        "the debts of an account above auto-close": (
            by_hand(
                balances=[(1, "GEM", -3.0, 0.0), (1, "TOK", -31.0, 0.0), (1, SETTLE, 0.0, 670.0)],
                borrow_lend=[{"symbol": SETTLE, "borrowedQuantity": "0"}],
                policy={"slice_probability": 1, "stages": ["adl"]},
            ),
            {"unfilled: no_collateral"},
        ),
        # the sale of GEM finds no price, that of TOK no room
        "the last conversion that was not made": (
            replace(
                by_hand(
                    balances=[(1, SETTLE, -1000.0, 0.0), (1, "GEM", 6.0, 0.0), (1, "TOK", 42.0, 0.0)],
                    collateral=WEIGHTLESS,
                    policy={"conversion_limit": 0, "slice_probability": 1},
                    markets=[by_hand().source["markets"][0], GEM_SPOT],
                ),
                ticks=[replace(by_hand().ticks[0], books={"GEM_USDC": {"bids": [(90.0, 9.0)]}})],
            ),
            {"expire: conversion", "expire: conversion_limit", "unfilled: conversion_limit"},
        ),
        # all of the 20 of TOK gain less than the 91 of GEM would, but more for each USDC
        "the loss of a unit counts": (
            by_hand(
                balances=[(1, SETTLE, -886.0, 0.0), (1, "GEM", 10.0, 0.0), (1, "TOK", 2.0, 0.0)],
                collateral=[
                    {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
                    for symbol, weight in ((SETTLE, "1"), ("GEM", "0.9"), ("TOK", "0.7"))
                ],
                policy=EAGER | {"target_mmr": "0.5"},
            ),
            {"convert: debt"},
        ),
        "sent on by a conversion": (
            replace(
                by_hand(
                    [(1, "X", 1.0, 100.0)],
                    [(1, SETTLE, -1000.0, 0.0), (1, "GEM", 10.4, 0.0), (9, SETTLE, 900.0, 0.0)],
                    collateral=WEIGHTLESS,
                    policy={"harmful_slice": "backstop", "slice_probability": 1, "conversion_slippage": "0.1"},
                    markets=[by_hand().source["markets"][0], GEM_SPOT],
                    backstop=[{"account": 9}],
                ),
                ticks=[replace(by_hand().ticks[0], books={"GEM_USDC": {"bids": [(93.0, 99.0)]}})],
            ),
            {"harm: to_backstop", "backstop: escalated", "unfilled: to_backstop"},
        ),
        # all of the gain as a fee, which would be more than the full one by what its own borrow requires
        "no more than the full fee": (
            by_hand(
                balances=[(1, SETTLE, -1000.0, 0.0), (1, "GEM", 10.45, 0.0)],
                collateral=WEIGHTLESS,
                policy=EAGER | {"waived_fee_share": 1, "liquidation_fee": "0.044"},
            ),
            {"harm: fee_waived", "convert: debt"},
        ),
        # TOK is owed and lent: the sale takes from the lend, the debt of TOK stays
        "a fee where the asset is owed and lent": (
            by_hand(
                balances=[(1, SETTLE, 452.396957, 0.0), (1, "GEM", -12.7692, 0.0), (1, "TOK", -4.891865, 90.459326)],
                policy={"harmful_slice": "send", "liquidation_fee": "0.05", "conversion_limit": 300},
            ),
            {"convert: debt"},
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_ends_by_hand(case):
    scene, expected = case[1]
    assert expected <= assert_equals_the_oracle(scene)
    assert_every_account_has_an_end(scene)


def test_the_fund_switches_adl_on_and_off():
    """On below 4, off from 10.874 on, which it has when the fourth tick begins.

    One account a tick is closed in the book, where the fund pays or earns.

    ADL takes 0.4 of a position in the ticks that begin with 3 and 6, not in those that begin with 6, 10, 16 and 4.
    """
    money = {1: 2.0, 2: 3.2, 3: 5.0, 4: 6.0, 5: 8.0, 6: 10.0, 9: 9000.0}
    positions = [(9, "X", -40.0, 110.0), *((n, "X", 10.0, 100.0) for n in range(1, 7))]
    policy = {"adl_when": "fund_below", "adl_fund_on": 4, "adl_fund_off": "10.874", "fund": 6, "adl_cap": "0.01"}
    bids = [(99.5, 10.0), (100.0, 9.6), (100.0, 9.604), (100.0, 10.0), (98.0, 10.0), (100.0, 10.0)]
    scene = by_hand(positions, [(n, SETTLE, cash, 0.0) for n, cash in money.items()], policy=policy)
    scene = at_books(scene, *({"X": {"bids": [bid]}} for bid in bids))
    assert "adl: fund_below" in assert_equals_the_oracle(scene)
    venue, accounts = scene.load()
    engine, seen = Engine(accounts, venue), []
    for inputs in scene.ticks:
        before = int(engine.ledger.fund[venue.settle]) // 10**6
        deleveraged = "adl" in set(engine.step(inputs.tick()).events["event"])
        seen.append((before, engine.ledger.adl_on, deleveraged))
    assert seen == [
        (6, False, False),
        (3, True, True),
        (6, True, True),
        (10, False, False),
        (16, False, False),
        (4, False, False),
    ]
