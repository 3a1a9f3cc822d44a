"""`Engine.step` against the oracle, row by row, and what no tick may do."""

import copy
from dataclasses import replace

import pytest
from hypothesis import assume, event, given, reject, settings
from hypothesis import strategies as st

from riskcore import Engine, RiskDataError, reference
from tests.comparison import assert_same_journal, assert_same_state, totals, whole_state
from tests.strategies import SETTLE, START, Scene, TickInput, scenes


def assert_equals_the_oracle(scene: Scene) -> set[str]:
    """Step both through the scene's ticks; lots and quanta are conserved by equality. Returns what happened.

    A tick that the oracle refuses the engine refuses too, and neither is changed by it.
    """
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    engine = Engine(accounts, venue, scene.seed)
    assert_same_state(engine, oracle, state)
    everything, happened = totals(engine, venue), set()
    for inputs in scene.ticks:
        try:
            after, rows, seen = reference.step(oracle, state, *inputs.reference_arguments(), seed=scene.seed)
        except ValueError:
            with pytest.raises(RiskDataError):
                engine.step(inputs.tick())
            assert_same_state(engine, oracle, state)
            happened.add("refused")
            continue
        happened |= {f"{row['event']}: {row['reason']}" for row in rows}
        result = engine.step(inputs.tick())
        assert_same_journal(result, rows, oracle, state, seen.prices)
        assert_same_state(engine, oracle, after)
        assert totals(engine, venue) == everything
        state = after
    return happened


@settings(max_examples=60)
@given(st.integers(1, 3).flatmap(lambda ticks: scenes(ticks=ticks, live=True)))
def test_ticks_equal_the_oracle(scene: Scene):
    for kind in assert_equals_the_oracle(scene):
        event(kind)


@settings(max_examples=35)
@given(st.integers(1, 3).flatmap(lambda ticks: scenes(ticks=ticks, live=True, mixed=True)))
def test_ticks_of_several_assets_equal_the_oracle(scene: Scene):
    """Markets that settle in several assets, linear and inverse."""
    for kind in assert_equals_the_oracle(scene):
        event(kind)


# ---- Scenes by hand that chance would seldom find


def by_hand(positions=(), balances=(), orders=(), settings=(), mark=100.0, assets=("GEM", "TOK"), **others) -> Scene:
    """One perpetual X in lots of 0.00001, maintenance 5 %; GEM at 100 and TOK at 10 count for 0.9."""
    margin_function = {"type": "sqrt", "base": "0.05", "factor": "0"}
    market = {
        "symbol": "X",
        "baseSymbol": "X",
        "marketType": "PERP",
        "filters": {
            "price": {"tickSize": "0.01", "maxPrice": "1000000"},
            "quantity": {"stepSize": "0.00001", "minQuantity": "0.00001"},
        },
        "imfFunction": margin_function,
        "mmfFunction": margin_function,
    }
    weights = {SETTLE: "1"} | dict.fromkeys(assets, "0.9")
    collateral = [
        {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
        for symbol, weight in weights.items()
    ]
    names = (
        ("account", "market", "quantity", "entry_price"),
        ("account", "asset", "quantity", "lent"),
        ("account", "market", "side", "price", "quantity", "reduce_only"),
        ("account", "unsettled"),
    )
    tables = [
        [dict(zip(columns, row, strict=True)) for row in rows]
        for columns, rows in zip(names, (positions, balances, orders, settings), strict=True)
    ]
    source = {"settle_asset": SETTLE, "markets": [market], "collateral": collateral, **others}
    source["policy"] = {"liquidation_interval": None, **others.get("policy", {})}
    return Scene(source, *tables, [TickInput(START, {"X": mark}, {}, {"GEM": 100.0, "TOK": 10.0}, {})])


@pytest.mark.parametrize(
    "scene",
    {
        # exposure is there until the last order goes, and the ratio infinite
        "cancel": by_hand(
            balances=[(1, SETTLE, 0.0, 0.0)],
            orders=[(1, "X", "bid", 90.0, 1.0, False), (1, "X", "ask", 110.0, 1.0, False)],
        ),
        # selling TOK makes the account healthy; the purchase of GEM that it was sold for is made still
        "prepared purchase": by_hand(balances=[(1, SETTLE, 50.0, 0.0), (1, "GEM", -10.0, 0.0), (1, "TOK", 90.0, 20.0)]),
        # redeeming GEM that is also borrowed makes the account healthy before any is sold
        "redeem": by_hand(balances=[(1, SETTLE, -1000.0, 0.0), (1, "GEM", -10.0, 22.5)]),
        # account 2 has exactly what it paid: 459,985 lots at 9,436.94, which float64 makes more than that
        "no profit": by_hand(
            [(1, "X", -4.59985, 8493.25), (2, "X", 4.59985, 9436.94)],
            [(1, SETTLE, 2170.43, 0.0), (2, SETTLE, 43408.51, 0.0)],
            mark=9436.94,
        ),
        # the loss is more than the position is worth: the short is paid for taking its lots back
        "negative price": by_hand(
            [(1, "X", -1.0, 100.0), (2, "X", 1.0, 90.0)],
            [(1, SETTLE, 0.0, 0.0), (2, SETTLE, 1000.0, 0.0)],
            settings=[(1, -150.0)],
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_scenes_by_hand(scene):
    assert_equals_the_oracle(scene[1])


def with_second_tick(scene: Scene, seconds: int, market=(), **changes) -> Scene:
    """Another tick after the scene's, 400 s being the full hour; ``market`` adds to the market's row."""
    source = scene.source | {"markets": [scene.source["markets"][0] | dict(market)]}
    first = scene.ticks[0]
    return replace(scene, source=source, ticks=[first, replace(first, time=START + seconds * 10**9, **changes)])


EAGER = {"slice_probability": 1, "min_slice_notional": 1, "slices_per_tick": 2}
DEEP = {"bids": [(100.0, 1000.0)], "asks": [(100.01, 1000.0)]}


def two_markets(scene: Scene, mark=100.0) -> Scene:
    """X and its twin Y, at 100, both with a deep book."""
    market = scene.source["markets"][0]
    source = scene.source | {"markets": [market, market | {"symbol": "Y", "baseSymbol": "Y"}]}
    marks, books = {"X": mark, "Y": 100.0}, dict.fromkeys("XY", DEEP)
    return replace(scene, source=source, ticks=[replace(scene.ticks[0], marks=marks, books=books)])


def test_a_market_that_is_not_held_is_no_position_of_a_pass():
    """Account 1 has an order in X and a position in Y, account 2 both positions: Y of 1 goes in the first pass."""
    accounts = [(1, "Y", 10.0, 100.0), (2, "X", 5.0, 100.0), (2, "Y", 5.0, 100.0)]
    balances, orders = [(n, SETTLE, 45.0, 0.0) for n in (1, 2)], [(1, "X", "bid", 90.0, 1.0, False)]
    policy = EAGER | {"account_order": "pro_rata", "position_order": "pro_rata"}
    scene = two_markets(by_hand(accounts, balances, orders, policy=policy))
    assert "book: full" in assert_equals_the_oracle(scene)


def test_a_loss_in_the_book_is_borrowed_from_the_pool():
    """40 can be redeemed in the first round; 1 X is sold at a loss of 143 and nothing is left in the second."""
    scene = by_hand(
        [(1, "X", 10.0, 243.0)],
        [(1, SETTLE, -500.0, 2000.0)],
        borrow_lend=[{"symbol": SETTLE, "borrowedQuantity": "1460"}],
        policy=EAGER | {"harmful_slice": "send"},
    )
    scene = replace(scene, ticks=[replace(scene.ticks[0], books={"X": DEEP})])
    assert {"redeem: debt", "harm: sent", "book: full"} <= assert_equals_the_oracle(scene)


GEM_SPOT = {
    "symbol": "GEM_USDC",
    "baseSymbol": "GEM",
    "quoteSymbol": SETTLE,
    "marketType": "SPOT",
    "filters": {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.01"}},
}


@pytest.mark.parametrize(
    ("cash", "asks", "lots"),
    [
        (999.698, [(101.0, 20.0)], 980),  # a lot costs 1.0201 with the fee: the cash pays for 980 exactly
        (999.697999, [(101.0, 20.0)], 979),
        (1.0201, [(101.0, 20.0)], 1),
        (1.020099, [(101.0, 20.0)], 0),
        (999.698, [(100.2, 4.0), (100.8, 1.0), (101.0, 20.0)], 983),  # 404.808, 101.808 and 483 lots at 1.0201
        (999.698, [(98.0, 4.0), (101.0, 20.0)], 989),  # as many lots as the cash pays for at the index price
    ],
)
def test_a_purchase_of_debt_is_sized_to_the_cash(cash, asks, lots):
    """10 GEM are owed at an index price of 100: the most lots of 0.01 whose price and fee of 1 % the cash pays.

    TOK that nobody can redeem bring the net equity to 40: below auto-close, and not without a fee.
    """
    policy = {"liquidation_fee": "0.01", "conversion_slippage": "0.01", "min_slice_notional": 1, "target_mmr": "0.001"}
    balances = [(1, SETTLE, cash, 0.0), (1, "GEM", -10.0, 0.0), (1, "TOK", 0.0, round((1040 - cash) / 9, 6))]
    pools = [{"symbol": "TOK", "borrowedQuantity": "1000"}]
    scene = by_hand(balances=balances, policy=policy, borrow_lend=pools)
    source = scene.source | {"markets": [*scene.source["markets"], GEM_SPOT]}
    scene = replace(scene, source=source, ticks=[replace(scene.ticks[0], books={"GEM_USDC": {"asks": asks}})])
    assert_equals_the_oracle(scene)
    venue, accounts = scene.load()
    rows = Engine(accounts, venue).step(scene.ticks[0].tick()).raw_events
    bought = rows[(rows["event"] == "convert") & (rows["reason"] == "debt") & (rows["asset"] == "GEM")]
    assert bought["quanta"].tolist() == [lots * 10_000] * bool(lots)


LONG, FALL, EVERY_MINUTE = (1, "X", 10.0, 100.0), {"X": 98.0}, {"realize_interval": 60, "borrow_rate_base": 1}
PROVIDER, NO_CONVERSION = [{"account": 9}], {"conversion_limit": "0.00001"}
UNDER_WATER = (1, "X", 10.0, 102.0)  # at 95 E = -70: who takes it at the zero price loses 7 a unit, or 70
TWENTY = [LONG, (1, SETTLE, 20.0, 0.0)]
SHORTS = [(2, -4.0, 125.0, 900.0), (3, -3.0, 105.0, 35.0), (4, -5.0, 110.0, 350.0), (5, -2.0, 200.0, 3800.0)]
SHORTS += [(6, -6.0, 98.0, 212.0), (7, -1.0, 1e-8, 400.0), (8, -0.5, 1e-8, 400.0)]
LONGS = [(2, 1.0, 50.0, 1000.0), (3, 4.0, 1e-8, 10.0), (4, 3.0, 1e-8, 1000.0), (5, 5.0, 101.0, 1000.0)]


def with_rich(balances, *ids):
    """Balances and 10,000 of settle for others."""
    return [*balances, *((n, SETTLE, 10_000.0, 0.0) for n in ids)]


def beside(others, lots: float, **policy) -> Scene:
    """One position with E = 20, and those of others against it; 4 also has one in Y."""
    positions = [(1, "X", lots, 100.0), (4, "Y", 10.0, 98.0), *((n, "X", held, entry) for n, held, entry, _ in others)]
    balances = [TWENTY[1], *((n, SETTLE, money, 0.0) for n, _, _, money in others)]
    return two_markets(by_hand(positions, balances, policy=policy))


@pytest.mark.parametrize("counterparties", ["profitable", "opposing"])
@pytest.mark.parametrize("name", [*reference.SCORES, *reference.WEIGHTS])
def test_adl_policies_by_hand(name, counterparties):
    """Some have paid less than a quantum for their positions."""
    policy = {"adl_policy": name, "adl_counterparties": counterparties, "adl_cap": "0.9", "adl_price": "1/7"}
    for others, lots in ((SHORTS, 20.0), (LONGS, -10.0)):
        assert "adl: backstop_exhausted" in assert_equals_the_oracle(beside(others, lots, **policy))


@pytest.mark.parametrize(
    "case",
    {
        # 7 has room for 545 units by its margin, 8 for 500 and 9 for 100
        "a poor provider": (
            by_hand(
                [TWENTY[0]],
                with_rich([TWENTY[1], (7, SETTLE, 20.0, 0.0)], 8, 9),
                backstop=[{"account": n, "capacity_per_min": c} for n, c in ((7, 900), (8, 500), (9, 100))],
            ),
            {"backstop: below_auto_close"},
        ),
        "below zero": (
            by_hand(
                [UNDER_WATER],
                with_rich([(1, SETTLE, 0.0, 0.0)], 9),
                mark=95.0,
                backstop=PROVIDER,
                policy={"backstop_below_zero": "zero_price"},
            ),
            {"backstop: below_auto_close"},
        ),
        # 7 takes 2.9 of the 10 GEM owed, 8 none, 9 the 5 of its 500
        "a debt": (
            by_hand(
                balances=with_rich([(1, SETTLE, 1040.0, 0.0), (1, "GEM", -10.0, 0.0), (7, SETTLE, 50.0, 0.0)], 8, 9),
                backstop=[{"account": 7}, {"account": 8, "assets": ["TOK"]}, {"account": 9, "max_notional": 500}],
                policy=NO_CONVERSION,
            ),
            {"expire: conversion_limit", "backstop: below_auto_close"},
        ),
        # TOK is worth more; 9 takes 500 of it, and 8 only GEM
        "collateral": (
            by_hand(
                balances=with_rich([(1, SETTLE, -1000.0, 0.0), (1, "GEM", 4.0, 1.0), (1, "TOK", 63.0, 0.0)], 8, 9),
                backstop=[{"account": 8, "assets": ["GEM"]}, {"account": 9, "max_notional": 500}],
                policy=NO_CONVERSION,
            ),
            {"expire: conversion_limit", "backstop: below_auto_close"},
        ),
        "positions, debts, and collateral": (
            by_hand(
                [TWENTY[0]],
                with_rich([(1, SETTLE, -500.0, 0.0), (1, "GEM", -1.0, 0.0), (1, "TOK", 69.5, 0.0)], 9),
                backstop=PROVIDER,
                policy=NO_CONVERSION,
            ),
            {"backstop: below_auto_close"},
        ),
        # 6 is cut to 1.11111 of 10, and 5 takes the rest
        "cut": (
            two_markets(
                by_hand(
                    [UNDER_WATER, (6, "X", -10.0, 125.0), (6, "Y", 100.0, 100.0), (5, "X", -20.0, 97.0)],
                    [(1, SETTLE, 0.0, 0.0), (6, SETTLE, 250.0, 0.0), (5, SETTLE, 5000.0, 0.0)],
                ),
                95.0,
            ),
            {"adl: backstop_exhausted"},
        ),
        "cut and shared again": (
            two_markets(
                by_hand(
                    [UNDER_WATER, (6, "X", -10.0, 125.0), (6, "Y", 100.0, 100.0), (5, "X", -7.0, 97.0)],
                    [(1, SETTLE, 0.0, 0.0), (6, SETTLE, 250.0, 0.0), (5, SETTLE, 5000.0, 0.0)],
                    policy={"adl_policy": "pro_rata"},
                ),
                95.0,
            ),
            {"adl: backstop_exhausted", "market_close: full"},
        ),
        "passed over": (
            two_markets(
                by_hand(
                    [UNDER_WATER, (3, "X", -10.0, 125.0), (3, "Y", 100.0, 100.0), (5, "X", -5.0, 97.0)],
                    [(1, SETTLE, 0.0, 0.0), (3, SETTLE, 250.0, 0.0), (5, SETTLE, 90.0, 0.0)],
                    policy={"adl_policy": "bankruptcy_price"},
                ),
                95.0,
            ),
            {"adl: backstop_exhausted", "market_close: full"},
        ),
        # 8.8 of the 10 lent are wanted: 2 owes 5.5, 3 and 4 owe 2.25 each
        "full utilisation": (
            by_hand(
                balances=[
                    *((1, *held) for held in [(SETTLE, -880.0, 0.0), ("GEM", 0.0, 10.0)]),
                    *((n, "GEM", owed, 0.0) for n, owed in ((2, -5.5), (3, -2.25), (4, -2.25))),
                    *((n, SETTLE, 3000.0, 0.0) for n in (2, 3, 4)),
                ],
                borrow_lend=[{"symbol": "GEM"}],
            ),
            {"adl: full_utilization"},
        ),
        # what 2 pays is a debt at 5 %, the GEM that it owes is one at 2 %: at 6 its margin would be its 30
        "a borrower is cut": (
            by_hand(
                balances=[
                    (1, SETTLE, -880.0, 0.0),
                    (1, "GEM", 0.0, 10.0),
                    (2, "GEM", -6.0, 0.0),
                    (2, "TOK", 70.0, 0.0),
                ],
                collateral=[
                    {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}, **others}
                    for symbol, weight, others in (
                        (SETTLE, "1", {}),
                        ("GEM", "0.9", {"imfFunction": {"type": "sqrt", "base": "0.04", "factor": "0"}}),
                        ("TOK", "0.9", {}),
                    )
                ],
                borrow_lend=[{"symbol": "GEM", "borrowedQuantity": "4"}],
            ),
            {"adl: full_utilization"},
        ),
        # 3 is closed at the mark, has 53 and no exposure, and pays them of the 60
        "paid by one without exposure": (
            by_hand(
                [LONG, (3, "X", -10.0, 100.0)],
                [(1, SETTLE, 10.0, 0.0), (3, SETTLE, -17.0, 0.0)],
                mark=93.0,
                policy={"shortfall": "equity", "adl_price": 1},
            ),
            {"adl: backstop_exhausted", "socialize: equity", "shortfall: bankrupt"},
        ),
        # 3 can pay 1.999999 of its part and is asked for no more, 5 is liquidated itself
        "paid by equity": (
            by_hand(
                [(1, "X", 10.0, 100.0), (3, "X", -20.0, 95.0), (4, "X", -3.0, 95.0), (5, "X", -20.0, 95.0)],
                with_rich(
                    [TWENTY[1], *((n, SETTLE, money, 0.0) for n, money in ((3, 97.0), (4, 300.0), (5, 90.0)))], 9
                ),
                mark=95.0,
                backstop=PROVIDER,
                policy={"shortfall": "equity", "fund": 12},
            ),
            {"fund: bankrupt", "socialize: equity"},
        ),
        "paid by open interest": (
            by_hand(
                [(1, "X", 10.0, 100.0), (3, "X", -2.0, 95.0), (4, "X", 3.0, 95.0)],
                with_rich([TWENTY[1], (3, SETTLE, 20.0, 0.0), (4, SETTLE, 300.0, 0.0)], 9),
                mark=95.0,
                backstop=PROVIDER,
                policy={"shortfall": "open_interest"},
            ),
            {"socialize: open_interest"},
        ),
        "left unsettled": (
            with_second_tick(
                by_hand(
                    [TWENTY[0]],
                    with_rich([TWENTY[1]], 9),
                    mark=90.0,
                    backstop=PROVIDER,
                    policy={"shortfall": "unsettled"} | EVERY_MINUTE,
                ),
                60,
            ),
            {"shortfall: unsettled"},
        ),
        # 25 are to come and are taken first, then the fund's 2: 3 are left
        "left unsettled beside something": (
            by_hand(
                [LONG],
                with_rich([TWENTY[1]], 9),
                settings=[(1, 25.0)],
                mark=95.0,
                backstop=PROVIDER,
                policy={"shortfall": "unsettled", "fund": 2},
            ),
            {"unsettle: close_out", "fund: bankrupt", "shortfall: unsettled"},
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_from_the_backstop_on_by_hand(case):
    scene, expected = case[1]
    assert expected <= assert_equals_the_oracle(scene)


GIVEN_HOURLY = {"fundingInterval": 3_600_000}


@pytest.mark.parametrize(
    "case",
    {
        # healthy by 0.5 before, and what is due costs 1
        "liquidated by funding": (
            with_second_tick(by_hand([LONG], [(1, SETTLE, 50.5, 0.0)]), 400, GIVEN_HOURLY, funding_rates={"X": 0.001}),
            {"funding: interval", "trigger: mmr"},
        ),
        # 0.0000125 in shortest decimals makes F end in one half; its float64 is a little more
        "a rate is a decimal": (
            with_second_tick(
                replace(
                    by_hand([(1, "X", 20000.0, 97000.0)], [(1, SETTLE, 2e9, 0.0)], mark=97000.000004),
                    ticks=[TickInput(START, {"X": 97000.000004}, {"X": 97000.000004}, {}, {})],
                ),
                400,
                GIVEN_HOURLY,
                marks={"X": 97000.000004},
                indexes={},
            ),
            {"funding: interval"},
        ),
        # without a pool the hour is no instant: what is unsettled stays owed
        "no pool": (
            with_second_tick(by_hand([LONG], [(1, SETTLE, 500.0, 0.0)], settings=[(1, -50.0)]), 400),
            set(),
        ),
        "an idle pool": (
            with_second_tick(
                by_hand([LONG], [(1, SETTLE, 500.0, 0.0)], settings=[(1, -50.0)], borrow_lend=[{"symbol": "GEM"}]),
                400,
            ),
            {"unsettle: settlement"},
        ),
        # what it has is taken, and it has nothing to borrow on
        "owed by one that has nothing": (
            with_second_tick(
                by_hand(balances=[(1, SETTLE, 400.0, 0.0)], settings=[(1, -500.0)], policy=EVERY_MINUTE), 60
            ),
            {"unsettle: settlement"},
        ),
        # -500 unsettled and 800 lent, of which 720 can be redeemed
        "owed and redeemed": (
            with_second_tick(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 0.0, 800.0)],
                    settings=[(1, -500.0)],
                    borrow_lend=[{"symbol": SETTLE, "lentQuantity": "100", "borrowedQuantity": "180"}],
                ),
                400,
            ),
            {"interest: hour", "redeem: settlement", "unsettle: settlement"},
        ),
        # 100 are there, 80 are lent, 20 can be borrowed, and TOK 5 brings 50: 250 are owed still; GEM is all lent out
        "owed and partly covered": (
            with_second_tick(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 100.0, 80.0), (1, "TOK", 5.0, 0.0), (1, "GEM", 0.0, 10.0)],
                    settings=[(1, -500.0)],
                    borrow_lend=[
                        {
                            "symbol": SETTLE,
                            "lentQuantity": "720",
                            "borrowedQuantity": "500",
                            "maxUtilization": "0.8",
                            "openBorrowLendLimit": "520",
                        },
                        {"symbol": "GEM", "borrowedQuantity": "10"},
                    ],
                    policy=EVERY_MINUTE,
                ),
                60,
            ),
            {"redeem: settlement", "interest: entry", "convert: settlement", "unsettle: settlement"},
        ),
        # on the full hour 400 are borrowed, which pay the hour that begins
        "owed and borrowed": (
            with_second_tick(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 100.0, 0.0), (1, "GEM", 10.0, 0.0)],
                    settings=[(1, -500.0)],
                    borrow_lend=[{"symbol": SETTLE, "lentQuantity": "1000", "borrowedQuantity": "500"}],
                ),
                400,
            ),
            {"interest: entry", "unsettle: settlement"},
        ),
        # 1 loses 20 and owes 30, and 2 to 4 owe 30 each: the pool has 95 left; 5 has what it owes
        "owed by many": (
            with_second_tick(
                by_hand(
                    [LONG, (2, "X", -10.0, 98.0)],
                    [
                        *(
                            (n, SETTLE, *held)
                            for n, *held in [(1, 0, 0), (2, 0, 5), (3, -40, 0), (4, 10, 0), (5, 70, 0)]
                        ),
                        *((account, "GEM", 0.0, 2.0) for account in range(1, 6)),
                    ],
                    settings=[(account, -30.0) for account in range(1, 6)],
                    borrow_lend=[
                        {"symbol": SETTLE, "lentQuantity": "200", "borrowedQuantity": "65"},
                        {"symbol": "GEM", "borrowedQuantity": "10"},
                    ],
                    policy=EVERY_MINUTE,
                ),
                60,
                marks=FALL,
            ),
            {"redeem: settlement", "interest: entry", "unsettle: settlement"},
        ),
        # the hour's interest was charged before funding left a debt of 1
        "funding on the full hour": (
            with_second_tick(
                by_hand([LONG], [(1, SETTLE, 0.0, 800.0)], borrow_lend=[{"symbol": SETTLE}]),
                400,
                GIVEN_HOURLY,
                funding_rates={"X": 0.001},
            ),
            {"funding: interval", "redeem: settlement"},
        ),
        # 20 short, of which the limit lets 5 be borrowed; TOK is worth more, but only 0.5 of its 30 can be redeemed
        "limits": (
            with_second_tick(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 0.0, 0.0), (1, "GEM", 1.0, 0.0), (1, "TOK", 0.0, 30.0)],
                    borrow_lend=[
                        {
                            "symbol": SETTLE,
                            "lentQuantity": "1000",
                            "borrowedQuantity": "100",
                            "openBorrowLendLimit": "105",
                        },
                        {"symbol": "TOK", "borrowedQuantity": "29.5"},
                    ],
                    policy=EVERY_MINUTE,
                ),
                60,
                marks=FALL,
            ),
            {"realize: interval", "interest: entry", "redeem: settlement", "convert: settlement"},
        ),
        # the same without GEM: the rest of the 20 stays unsettled
        "unsettled": (
            with_second_tick(
                by_hand(
                    [LONG],
                    [(1, SETTLE, 0.0, 0.0), (1, "TOK", 0.0, 30.0)],
                    borrow_lend=[
                        {"symbol": SETTLE, "state": "Closed"},
                        {"symbol": "TOK", "borrowedQuantity": "29.5"},
                    ],
                    policy=EVERY_MINUTE,
                ),
                60,
                marks=FALL,
            ),
            {"realize: interval", "redeem: settlement", "convert: settlement", "unsettle: settlement"},
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_between_the_ticks_by_hand(case):
    scene, expected = case[1]
    happened = assert_equals_the_oracle(scene)
    assert expected <= happened
    assert expected or not happened


def rows_of(engine: Engine, inputs: TickInput) -> bytes | None:
    """The journal of a tick, None if it is refused."""
    try:
        return engine.step(inputs.tick()).rows.tobytes()
    except RiskDataError:
        return None


@settings(max_examples=40)
@given(scenes(ticks=2, live=True), st.integers(0, 2**32 - 1))
def test_order_of_listing_changes_nothing(scene: Scene, seed):
    """Orders of one price keep their place among each other: the order of listing is their rank."""
    venue, accounts = scene.load()
    frames = [frame.sample(frac=1, random_state=seed) for frame in scene.frames()]
    if frames[2].duplicated(["account", "market", "side", "price"]).any():
        frames[2] = scene.frames()[2]
    other = Engine(type(accounts).from_frames(venue, *frames), venue, scene.seed)
    engine = Engine(accounts, venue, scene.seed)
    for inputs in scene.ticks:
        assert rows_of(engine, inputs) == rows_of(other, inputs)
    assert whole_state(engine) == whole_state(other)


def without_any_print(t, _):
    """So late that no mark can be held."""
    return replace(t, time=t.time + 61 * 10**9, marks={}, indexes={}, books={}, last_prices={}, book_times={})


@pytest.mark.parametrize(
    "spoil",
    [
        without_any_print,
        lambda t, symbol: replace(t, marks=t.marks | {symbol: -1.0}),
        lambda t, symbol: replace(t, indexes={symbol: 0.0}),
        lambda t, symbol: replace(t, asset_prices={"nobody": 1.0}),
        lambda t, symbol: replace(t, open_interest={symbol: -1.0}),
        lambda t, symbol: replace(t, funding_rates={"nobody": 0.0001}),
        lambda t, symbol: replace(t, last_prices={symbol: -1.0}),
        lambda t, symbol: replace(t, books={symbol: {"bids": [(100.0, 1.0), (100.0, 1.0)]}}, book_times={}),
        lambda t, symbol: replace(t, time=t.time - 86_400 * 10**9),
    ],
    ids=["missing", "negative", "index", "unknown", "interest", "rate", "last", "unsorted", "earlier"],
)
@settings(max_examples=6)
@given(scene=scenes(ticks=2, live=True))
def test_a_rejected_tick_changes_nothing(spoil, scene: Scene):
    venue, accounts = scene.load()
    assume(scene.positions)
    symbol = scene.positions[0]["market"]
    engine, undisturbed = Engine(accounts, venue, scene.seed), Engine(accounts, venue, scene.seed)
    first, second = scene.ticks
    try:
        undisturbed.step(first.tick())
        assume(undisturbed.accounts.columns.lots.any())
        copy.deepcopy(undisturbed).step(second.tick())
    except RiskDataError:
        reject()
    engine.step(first.tick())
    before = whole_state(engine)
    with pytest.raises(RiskDataError):
        engine.step(spoil(second, symbol).tick())
    assert whole_state(engine) == before
    assert engine.step(second.tick()).rows.tobytes() == undisturbed.step(second.tick()).rows.tobytes()
    assert whole_state(engine) == whole_state(undisturbed)
