"""Activity and host mode in the exact model, computed by hand."""

from __future__ import annotations

import copy

import pytest

from riskcore import reference

from .test_reference import AT_100, brief, checked_step, load, make_venue

HOUR = 3600 * 10**9
NOON = 480_012 * HOUR
POOL = {"symbol": "GEM", "lentQuantity": "10", "borrowedQuantity": "5"}
GEM_AT_100 = {"GEM": 100}


def ticked(holdings, *, orders=(), marks=AT_100, settings=(), **venue):
    """A venue, a state after a tick at noon, and the prices of the tick."""
    venue = make_venue(**venue)
    state = load(venue, holdings, orders, settings)
    state, _, seen = reference.step(venue, state, NOON, marks, {}, asset_prices=GEM_AT_100)
    return venue, state, seen.prices


def act(scene, *actions, check="on"):
    """The state after actions of account 1 at noon, and their rows in brief; the rows add up."""
    venue, state, prices = scene
    untouched = copy.deepcopy(state)
    new, rows = reference.apply(venue, state, [{"account": 1} | action for action in actions], prices, check)
    assert state == untouched
    assert reference.journalled(reference.apply_rows(state_with(new, state), rows)) == reference.journalled(new)
    assert reference.total_lots(venue, new) == reference.total_lots(venue, state)
    assert reference.total_quanta(venue, new) == reference.total_quanta(venue, state)
    for row in rows:
        assert row["cash"] - row["cost"] + row["counter_cash"] + row["fund"] == 0
    return (venue, new, prices), rows


def state_with(new, state):
    """The state before, with what a run folder tells beforehand of orders and accounts."""
    known = copy.deepcopy(state)
    known.placing, known.opening = new.placing, new.opening
    return known


def refused(scene, *actions, check="on"):
    with pytest.raises(reference.Refused) as error:
        act(scene, *actions, check=check)
    return str(error.value)


def place(side="bid", price=90, quantity=1, **others):
    return {"action": "place", "market": "X", "side": side, "price": price, "quantity": quantity, **others}


def fill(quantity, price=100, **others):
    return {"action": "fill", "market": "X", "quantity": quantity, "price": price, **others}


def money(action, quantity, asset="USDC", **others):
    return {"action": action, "asset": asset, "quantity": quantity, **others}


def orders_of(scene, account=1):
    return [(o.index, o.id, o.side, float(o.price), o.lots) for o in scene[1].accounts[account].orders]


def test_orders_are_placed_changed_filled_and_cancelled():
    """500 lots of X at 100 need 50 of margin, so 10 of 100 USDC are left for 100 lots more."""
    scene = ticked({1: {"USDC": 100}, 2: {"USDC": 5}}, orders=[(2, "bid", 50, 1, "X")])
    scene, rows = act(scene, place(quantity=5, order="a"), place("ask", 110, 4), {"action": "cancel", "order": 2})
    assert brief(rows, "market", "order", "requested", "price") == [
        ("place", "request", "X", 1, 500, 90.0),
        ("place", "request", "X", 2, 400, 110.0),
        ("cancel", "request", "X", 2, 400, pytest.approx(float("nan"), nan_ok=True)),
    ]
    scene, rows = act(scene, {"action": "change", "order": "a", "quantity": 8, "price": 89.9, "time": NOON + 5})
    assert orders_of(scene) == [(1, "a", "bid", 89.9, 800)]
    assert rows[0]["time"] == scene[1].acted == NOON + 5
    assert refused(scene, {"action": "change", "order": "a", "quantity": 10}) == "row 0: IMR"
    assert refused(scene, place(quantity=1, time=NOON + 4)).endswith("the last action")
    scene, rows = act(scene, fill(3, 89.9, order="a", fee=0.5))
    assert brief(rows, "order", "lots", "cost", "cash", "fee", "fund") == [
        ("fill", "request", 1, 300, 269_700_000, 0, 500_000, -500_000)
    ]
    assert orders_of(scene) == [(1, "a", "bid", 89.9, 500)]
    scene, _ = act(scene, fill(5, 89.9, order="a"), check="off")
    assert orders_of(scene) == []
    assert scene[1].order_count == 3


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (place(price=90.05), "a price between two ticks"), (place(quantity=0.001), "no whole number of lots"),
        (place(quantity=-1), "lots or side"), (place(order="a"), "a duplicate order id"),
        (place() | {"market": "Z"}, "no such market"), (place(fee=1), "columns"),
        (place("ask", reduce_only=True, quantity=1) | {"market": "Y"}, "reduce_only without an opposite position"),
        ({"action": "cancel", "order": "b"}, "no such order"), ({"action": "change", "order": "a"}, "nothing changes"),
        (fill(-1, order="a"), "not of the order"), (fill(3, order="a"), "not of the order"),
        (fill(1, 90.1, order="a"), "worse than the limit of the order"), (fill(0), "no lots"), (fill(9), "IMR"),
        (fill(1, float("inf")), "no price"), (fill(1) | {"account": 9}, "no such account"),
        (money("withdraw", 51), "IMR"), (money("withdraw", 101), "more than the free balance"),
        (money("deposit", 1e-9), "less than a quantum"), (money("borrow", 1), "nothing to borrow"),
        (money("repay", 1), "more than the debt"), (money("redeem", 1), "more than is lent"),
        (money("transfer", 1, to_account=2), "of another owner"), (money("lend", 200), "more than the free balance"),
        ({"action": "open"}, "an account already"), ({"action": "leverage", "leverage_limit": 2}, "IMR"),
        (money("deposit", 1, "EUR"), "no such asset"),
        ({"action": "confirm", "market": "X", "quantity": -1, "price": 9}, "nothing is proposed"),
    ],
)  # fmt: skip
def test_what_is_refused(action, why):
    """Account 1 is long 300 lots of X and has an order of 200 more: worst case 500, initial margin 50 of 100."""
    scene = ticked({1: {"X": (3, 100), "USDC": 100}, 2: {"USDC": 5}})
    scene, _ = act(scene, place(quantity=2, order="a"))
    assert refused(scene, action) == f"row 0: {why}"


def test_a_batch_is_refused_whole_and_needs_prices():
    scene = ticked({1: {"USDC": 100}})
    assert refused(scene, money("deposit", 5), fill(1000)) == "row 1: IMR"
    venue, state, _ = scene
    before = venue, load(venue, {1: {"USDC": 100}}), None
    assert refused(before, fill(1)).startswith("row 0: no price")
    later, _ = act(before, fill(1), check="off")
    later, _ = act(later, fill(-1), money("withdraw", 100))
    assert later[1].accounts[1].balances["USDC"] == [0, 0]
    assert refused((venue, state, reference.Prices({"Y": 1})), fill(1)).startswith("row 0: no price")


def test_who_is_liquidating_may_only_reduce():
    """At a mark of 93 a long of 1,000 from 100 with 100 USDC has 30, and needs 46.5."""
    scene = ticked({1: {"X": (10, 100), "USDC": (80, 20)}}, orders=[(1, "ask", 120, 2, "X")])
    venue, state, _ = scene
    scene = venue, state, reference.Prices({"X": 93, "Y": 100}, None, GEM_AT_100)
    for action in (
        place("bid"), place("ask", reduce_only=True), {"action": "change", "order": "0", "quantity": 1},
        money("withdraw", 1), money("lend", 1), {"action": "leverage"}, money("borrow", 1, "GEM"), fill(1),
    ):  # fmt: skip
        assert refused(scene, action) == "row 0: liquidating", action
        if action["action"] != "place":
            act(scene, action, check="off")
    allowed = fill(-1), {"action": "cancel", "order": "0"}, money("deposit", 1), money("redeem", 5)
    act(scene, *allowed)


def test_reduce_only_orders_are_cut_and_shrink():
    """A long of 1,000: three orders of 1,000, 600 and 200 lots; 700 are sold, then the rest and 100 more."""
    scene = ticked({1: {"X": (10, 100), "USDC": 1000}}, orders=[(1, "bid", 80, 3, "X", True)])
    sells = [place("ask", 110, quantity, reduce_only=True) for quantity in (15, 6, 2)]
    scene, rows = act(scene, *sells)
    assert [row["requested"] for row in rows] == [1000, 600, 200]
    assert scene[1].placing[1].lots == 1000
    scene, rows = act(scene, fill(-7))
    assert brief(rows, "order", "requested", "price")[1:] == [
        ("cancel", "reduce_only", 0, 300, pytest.approx(float("nan"), nan_ok=True)),
        ("change", "reduce_only", 1, 300, 110.0),
        ("change", "reduce_only", 2, 300, 110.0),
    ]
    scene, rows = act(scene, {"action": "change", "order": "3", "quantity": 9})
    assert rows[0]["requested"] == 300
    assert refused(scene, {"action": "change", "order": "3", "quantity": -1}) == "row 0: lots"
    scene, rows = act(scene, fill(-2, 110, order="1"))
    assert orders_of(scene) == [(n, str(n), "ask", 110.0, 100) for n in (1, 2, 3)]
    scene, rows = act(scene, fill(-2))
    assert [row["event"] for row in rows] == ["fill", "cancel", "cancel", "cancel"]
    assert scene[1].accounts[1].orders == []


def test_borrow_and_repay():
    """5 of 12 GEM are borrowed, so 7 more can be: then 1.06 a year is due for half an hour, and no GEM is redeemed."""
    scene = ticked({1: {"USDC": 1000, "GEM": (0, 2)}}, pools=[POOL])
    assert refused(scene, money("borrow", 8, "GEM")) == "row 0: more than the pool has"
    scene, rows = act(scene, money("borrow", 7, "GEM", time=NOON + HOUR // 2))
    assert brief(rows, "counterparty", "asset", "quanta", "lent") == [
        ("borrow", "request", "book", "GEM", -7_000_000, 0),
        ("interest", "request", "pool", "GEM", -round(7_000_000 * 1.06 / 8760 / 2), 0),
    ]
    assert refused(scene, money("redeem", 2, "GEM")) == "row 0: more than the pool has"
    scene, rows = act(scene, money("redeem", 2, "GEM"), check="off")
    assert scene[1].accounts[1].balances["GEM"] == [2_000_000 - 7_000_424, 0]
    assert refused(scene, money("repay", 5.1, "GEM")) == "row 0: more than the debt"
    scene, rows = act(scene, money("repay", 5, "GEM"), money("lend", 100))
    assert brief(rows, "counterparty", "quanta", "lent") == [
        ("repay", "request", "book", 5_000_000, 0),
        ("lend", "request", None, -100_000_000, 100_000_000),
    ]
    assert scene[1].book_quanta["GEM"] == 2_000_000


def test_accounts_are_opened_and_money_moves_inside_an_owner():
    scene = ticked({1: {"USDC": 100}, 2: {"USDC": 5}}, settings=[{"account": 2, "owner": 1}])
    opened = {"action": "open", "account": 3, "owner": 1, "leverage_limit": 5}
    scene, rows = act(scene, opened, money("transfer", 60, to_account=3), money("deposit", 1, "GEM"))
    assert brief(rows, "account", "counterparty", "quanta") == [
        ("open", "request", 3, None, 0),
        ("transfer", "request", 1, 3, -60_000_000),
        ("deposit", "request", 1, "book", 1_000_000),
    ]
    assert scene[1].accounts[3].balances == {"USDC": [60_000_000, 0]}
    assert scene[1].accounts[3].leverage_limit == 5
    assert refused(scene, opened | {"account": 4, "owner": 3}) == "row 0: the owner has an owner"
    assert refused(scene, fill(3) | {"account": 3}) == "row 0: IMR"
    scene, rows = act(scene, fill(2.9) | {"account": 3})
    assert refused(scene, {"action": "leverage", "leverage_limit": 4.8, "account": 3}) == "row 0: IMR"
    scene, _ = act(scene, {"action": "leverage", "account": 3})
    assert scene[1].accounts[3].leverage_limit is None


def test_a_closed_market_takes_no_orders():
    scene = ticked({1: {"USDC": 1000}})
    scene, _ = act(scene, place(order="a"))
    venue, state, _ = scene
    changes = [{"time": NOON + 1, "market": "X", "asset": None, "field": "state", "value": "closed"}]
    state, _, seen = reference.step(venue, state, NOON + 1, AT_100, {}, asset_prices=GEM_AT_100, venue_changes=changes)
    scene = venue, state, seen.prices
    for action in (place(), {"action": "change", "order": "a", "quantity": 2}, fill(1)):
        assert refused(scene, action) == "row 0: closed market"
        act(scene, action, check="off")
    act(scene, fill(1, 90, order="a"), place() | {"market": "Y"})
    changes = [{"time": NOON + 2, "market": "X", "asset": None, "field": "delist", "value": 100}]
    state, _, seen = reference.step(
        venue, state, NOON + 2, {"Y": 1}, {}, asset_prices=GEM_AT_100, venue_changes=changes
    )
    assert refused((venue, state, seen.prices), fill(1), check="off") == "row 0: delisted"


def test_a_tick_comes_after_the_last_action():
    scene, _ = act(ticked({1: {"USDC": 100}}), money("deposit", 5, time=NOON + 9))
    venue, state, _ = scene
    with pytest.raises(ValueError, match="before the last action"):
        reference.step(venue, state, NOON + 8, AT_100, {}, asset_prices=GEM_AT_100)
    checked_step(venue, state, prices=GEM_AT_100, time_ns=NOON + 9)


# ---- Host mode


def proposed(holdings, bids=((99.9, 3), (99.8, 100)), mark=100, **policy):
    """A host's tick at noon: the scene, and the rows in brief."""
    venue = make_venue(slice_fraction=1, **policy)
    state = load(venue, holdings)
    state.book_of_host = True
    books = {"X": {"bids": list(bids), "asks": [(mark + 0.1, 50)]}}
    new, rows = checked_step(venue, state, {"X": mark, "Y": 100}, books, GEM_AT_100, NOON)
    prices = reference.Prices({"X": mark, "Y": 100}, None, GEM_AT_100)
    return (venue, new, prices), brief(rows, "account", "requested", "price")


def confirm(quantity, price, **others):
    return {"action": "confirm", "market": "X", "quantity": quantity, "price": price, **others}


def test_a_slice_is_proposed_and_confirmed():
    """A long of 1,000 from 100 with 40: half of the depth of the book may be sold, down to 1 % below its best bid."""
    scene, rows = proposed({1: {"X": (10, 100), "USDC": 40}, 2: {"USDC": 5}}, depth_share="0.05", slices_per_tick=3)
    assert rows == [("propose", "depth_share", 1, 515, 99.0)]
    assert scene[1].accounts[1].positions["X"] == [1000, 1_000_000_000, 1_000_000_000]
    assert scene[1].proposals[1, "X"].lots == -515
    for action, why in (
        (confirm(5.16, 99), "nothing is proposed"), (confirm(-5.16, 99), "more than is open"),
        (confirm(-5, 98.9), "worse than the limit"), (confirm(-5, 99, fee=4.949998), "not the fee of the slice"),
    ):  # fmt: skip
        assert refused(scene, action, check="off") == f"row 0: {why}"
    scene, rows = act(scene, confirm(-5, 99, fee=4.949999), confirm(-0.1, 99.05))
    assert brief(rows, "requested", "lots", "cost", "cash", "fee", "counter_cash", "price") == [
        ("book", "host", 515, -500, -500_000_000, -5_000_000, 4_949_999, -495_000_000, 99.0),
        ("book", "host", 15, -10, -10_000_000, -95_000, 99_050, -9_905_000, 99.05),
    ]
    assert refused(scene, confirm(-0.06, 99)) == "row 0: more than is open"
    venue, state, _ = scene
    assert state.fund["USDC"] == 5_049_049
    _, rows = checked_step(venue, state, prices=GEM_AT_100, time_ns=NOON + 10**9)
    assert [row for row in rows if row["event"] == "propose"] == []


def test_proposals_share_the_depth_and_leave_the_books():
    """Both longs want 1,000 lots, the book has 1,200; without a band there is no limit price."""
    held = {"X": (10, 100), "USDC": 40}
    row = make_venue().markets["X"].row
    row = row | {"filters": row["filters"] | {"price": {"tickSize": "0.1"}}}
    both = {1: held, 2: held}
    scene, rows = proposed(both, bids=[(99.9, 12)], markets=[row, make_venue().markets["Y"].row])
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert rows == [("propose", "full", 1, 1000, nan), ("propose", "depth", 2, 200, nan)]
    act(scene, confirm(-10, 0.1))


def test_the_last_book_proposes_what_no_stage_takes():
    """Below auto-close without providers and without equity: all 1,000 lots at once, 300 have no buyer, no fee."""
    held = {1: {"X": (10, 100), "USDC": 10}}
    scene, rows = proposed(held, bids=[(90, 7)], mark=98, adl_when="fund_below")
    assert rows[0] == ("propose", "depth", 1, 700, 89.1)
    assert rows[1][:4] == ("unfilled", "depth", 1, 300)
    assert scene[1].proposals[1, "X"].event == "market_close"
    scene, rows = act(scene, confirm(-7, 90))
    assert brief(rows, "requested", "lots", "fee") == [("market_close", "host", 700, -700, 0)]


def test_a_position_that_a_later_stage_made_smaller_is_not_filled_beyond_it():
    scene, _ = proposed({1: {"X": (10, 100), "USDC": 40}})
    venue, state, prices = scene
    state.accounts[1].positions["X"] = [100, 100_000_000, 100_000_000]
    assert refused(scene, confirm(-2, 99.9)) == "row 0: more than is open"
    act((venue, state, prices), confirm(-1, 99.9))
