"""Guards of collateral, the funding table, venue changes and delistings in the exact model, computed by hand."""

from __future__ import annotations

import math

import pytest

import riskcore.reference as reference

from .test_reference import AT_100, GEM_SPOT, X, Y, asset_row, brief, checked_step, load, make_venue

SECOND = 10**9
HOUR = 3600 * SECOND
NOON = 12 * HOUR
HOLDER = {1: {"GEM": 10}}


def guarded_venue(**guard):
    gem = {**X, "symbol": "GEM_PERP", "baseSymbol": "GEM"}
    return make_venue([gem, Y], [asset_row("GEM", "0.9", priceGuard=guard), ("TOK", "0.9")])


def asset_ticks(venue, ticks, first_mark=100):
    """The price used and the guard rows of each tick: (seconds, price, index)."""
    state, found = load(venue, HOLDER), []
    for seconds, price, index in ticks:
        prices = {} if price is None else {"GEM": price}
        marks = {"Y": 100, "GEM_PERP": first_mark}
        indexes = {} if index is None else {"GEM_PERP": index}
        arguments = NOON + int(seconds * SECOND), marks, {}, indexes, prices
        state, rows, seen = reference.step(venue, state, *arguments)
        used = seen.prices.if_known(venue, "GEM")
        found.append((float(used), brief(rows, "asset", "price")))
    return found


def test_update_cap_of_an_asset():
    """100 may rise to 101 in a second and in 1.9 seconds, and to 102.01 in the two seconds after that: no more."""
    venue = guarded_venue(minPriceUpdateMultiplier="0.98", maxPriceUpdateMultiplier="1.01")
    found = asset_ticks(venue, [(0, 100, None), (1.9, 150, None), (3.9, 50, None)])
    assert found[0] == (100.0, [])
    assert found[1] == (101.0, [("guard", "update_cap", "GEM", 150.0)])
    assert found[2] == (101 * 0.98**2.0, [("guard", "update_cap", "GEM", 50.0)])


def test_clamp_of_an_asset_to_its_index():
    """Within 2 % of the index 100 a price of 103 is 102; without an index there is no clamp."""
    venue = guarded_venue(indexThreshold="0.02")
    assert asset_ticks(venue, [(0, 103, 100), (1, 97, 100), (2, 103, None), (3, 101, 100)]) == [
        (102.0, [("guard", "index_clamp", "GEM", 103.0)]),
        (98.0, [("guard", "index_clamp", "GEM", 97.0)]),
        (103.0, []),
        (101.0, []),
    ]


def test_an_index_that_was_rejected_clamps_no_asset():
    venue = guarded_venue(indexThreshold="0.02")
    venue.markets["GEM_PERP"].update = reference.number("0.99"), reference.number("1.01")
    _, (price, rows) = asset_ticks(venue, [(0, 100, 100), (1, 110, 200)])
    assert (price, [row[1] for row in rows]) == (110.0, ["index_update_cap"])


def test_clamp_of_an_asset_to_its_mean():
    """Samples at 12:00:00 to 12:00:03 of 100, at 12:00:04 of 110: the mean before 12:00:05 is 102, 10 % above 112.2."""
    venue = guarded_venue(meanThreshold="0.1")
    found = asset_ticks(venue, [(0, 100, None), (3.5, 110, None), (5, 150, None)])
    assert found[1] == (110.0, [])
    price, rows = found[2]
    assert price == (100.0 * 4 + 110.0 * 1) / 5 * (1 + 0.1) == pytest.approx(112.2)
    assert rows == [("guard", "mean_clamp", "GEM", 150.0)]


def test_no_sample_no_clamp():
    """Half a second after the first price there is no whole second yet; 301 seconds later the price still counts."""
    venue = guarded_venue(meanThreshold="0.1")
    state = load(venue, HOLDER)
    times = NOON + SECOND // 4, NOON + SECOND // 2, NOON + 400 * SECOND
    used = []
    for time, price in zip(times, (100, 200, 1000), strict=True):
        state, _, seen = reference.step(venue, state, time, {"Y": 1}, {}, asset_prices={"GEM": price})
        used.append(float(seen.prices.asset_prices["GEM"]))
    assert used == [100.0, 200.0, 200 * (1 + 0.1)]


def test_the_guards_of_an_asset_come_in_their_order():
    venue = guarded_venue(
        indexThreshold="0.5", meanThreshold="0.2", minPriceUpdateMultiplier=1, maxPriceUpdateMultiplier="1.1"
    )
    _, (price, rows) = asset_ticks(venue, [(0, 100, 100), (1, 200, 100)])
    assert [row[1:] for row in rows] == [
        ("index_clamp", "GEM", 200.0), ("mean_clamp", "GEM", 150.0), ("update_cap", "GEM", 120.0),
    ]  # fmt: skip
    assert price == 100 * 1.1


def test_an_asset_is_held_until_it_is_stale():
    """60 seconds old the price is used again, 61 seconds old no more: GEM then follows its perpetual."""
    venue = guarded_venue(staleAfter=60)
    held = [("guard", "mark_held", "GEM")]
    found = asset_ticks(venue, [(0, 50, None), (30, None, None), (60, None, None), (61, None, None)])
    assert [(price, [row[:3] for row in rows]) for price, rows in found] == [
        (50.0, []), (50.0, held), (50.0, held), (100.0, []),
    ]  # fmt: skip
    assert all(math.isnan(row[3]) for _, rows in found for row in rows)


def test_an_asset_is_clamped_in_the_order_of_assets():
    """GEM is quoted in TOK, which comes after it and is given: it has no price yet, and GEM is not clamped."""
    gem = {**X, "symbol": "GEM_TOK", "baseSymbol": "GEM", "quoteSymbol": "TOK"}
    guard = {"priceGuard": {"indexThreshold": "0.02"}}
    for order, price in ((("GEM", "TOK"), 60.0), (("TOK", "GEM"), 51.0)):
        rows = [asset_row(symbol, "0.9", **(guard if symbol == "GEM" else {})) for symbol in order]
        venue = make_venue([gem], rows)
        arguments = NOON, {"GEM_TOK": 100}, {}, {"GEM_TOK": 100}, {"GEM": 60, "TOK": 0.5}
        _, _, seen = reference.step(venue, load(venue, HOLDER), *arguments)
        assert float(seen.prices.asset_prices["GEM"]) == price


# ---- Funding table

TRADERS = {1: {"X": (10, 100), "USDC": 1000}, 2: {"X": (-4, 100), "Y": (1, 100), "USDC": 1000}}


def funding_ticks(market, ticks):
    """The funding rows of each tick: (seconds, arguments)."""
    venue = make_venue([{**X, **market}, Y])
    state, found = load(venue, TRADERS), []
    for seconds, arguments in ticks:
        state, rows = checked_step(venue, state, time_ns=NOON + seconds * SECOND, **arguments)
        found.append(brief(rows, "account", "market", "cash"))
    return found, state


def entry(seconds, rate, market="X"):
    return {"time": NOON + seconds * SECOND, "market": market, "rate": rate}


def test_entries_are_paid_one_by_one():
    """0.0001 and 0.0002 of a long of 1,000 are 0.1 and 0.2, of a short of 400 are 0.04 and 0.08 to it.

    Before, 19 seconds of the interval pay 0.0001 / 8 / 3600 each: 0.003472 quanta a lot.
    """
    table = [entry(50, 0.0002), entry(20, 0.0001), entry(20, -0.001, "Y")]
    found, state = funding_ticks({"fundingInterval": 1000}, [(0, {"indexes": AT_100}), (60, {"funding": table})])
    assert found[1] == [
        ("funding", "interval", 1, "X", -66), ("funding", "interval", 2, "X", 26),
        ("funding", "rate", 1, "X", -100000), ("funding", "rate", 2, "X", 40000),
        ("funding", "rate", 2, "Y", 100000),
        ("funding", "rate", 1, "X", -200000), ("funding", "rate", 2, "X", 80000),
    ]  # fmt: skip
    assert state.premiums["X"] == (0.0, 0)
    assert state.funding_scheduled == {"X", "Y"}


def test_a_scheduled_market_has_no_interval():
    """After its first entry no instant of the interval counts, and a rate of the tick is refused."""
    found, state = funding_ticks(
        {"fundingInterval": 1000},
        [(0, {"indexes": AT_100}), (1, {"funding": [entry(1, 0)], "indexes": AT_100}), (5, {"indexes": AT_100})],
    )
    assert found == [[], [], []]
    assert state.premiums["X"] == (0.0, 2)
    with pytest.raises(ValueError, match="scheduled"):
        checked_step(make_venue(), state, time_ns=NOON + 9 * SECOND, funding_rates={"X": 0.1})


def test_entries_up_to_the_first_tick_are_not_used():
    found, state = funding_ticks({}, [(0, {"funding": [entry(-5, 0.1), entry(0, 0.1)]})])
    assert (found, state.funding_scheduled) == ([[]], frozenset())


@pytest.mark.parametrize("seconds", [0, 61])
def test_entries_of_another_tick_are_refused(seconds):
    with pytest.raises(ValueError, match="not of this tick"):
        funding_ticks({}, [(0, {}), (60, {"funding": [entry(seconds, 0.1)]})])


def test_the_rate_of_a_tick_counts_for_the_last_instant():
    """Of three instants the first two pay the rate of the premiums, 0.0000125, and the last one 0.0001."""
    ticks = [(0, {"indexes": AT_100}), (3 * 3600, {"funding_rates": {"X": 0.0001}})]
    found, _ = funding_ticks({"fundingInterval": 3_600_000}, ticks)
    assert found[1][0] == ("funding", "interval", 1, "X", -(2 * 12500 + 100000))


# ---- Venue changes


def change(seconds, field, value, market=None, asset=None):
    return {"time": NOON + seconds * SECOND, "market": market, "asset": asset, "field": field, "value": value}


def test_a_change_counts_from_its_tick_on():
    """The update cap of X rises from 1.01 to 1.5 a second, and the weight of GEM falls."""
    price = X["filters"]["price"] | {"maxPriceUpdateMultiplier": "1.01"}
    venue = make_venue([{**X, "filters": {**X["filters"], "price": price}}, Y])
    state = load(venue, HOLDER | {2: {"X": (1, 100), "USDC": 100}})
    state, _ = checked_step(venue, state, time_ns=NOON, prices={"GEM": 10})
    changes = [
        change(1, "filters.price.maxPriceUpdateMultiplier", "1.5", market="X"),
        change(2, "haircutFunction.weight", 0.5, asset="GEM"),
    ]
    after, rows = checked_step(
        venue, state, {"X": 140, "Y": 100}, time_ns=NOON + SECOND, prices={"GEM": 10}, venue_changes=changes
    )
    assert rows == []
    assert after.venue.assets["GEM"].weight == reference.number("0.9")  # the second change is not due yet
    after, _ = checked_step(venue, after, time_ns=NOON + 2 * SECOND, prices={"GEM": 10}, venue_changes=changes)
    assert after.venue.assets["GEM"].weight == reference.number("0.5")
    assert venue.assets["GEM"].weight == reference.number("0.9")


def test_a_book_is_closed_and_opened():
    venue = make_venue([X, Y], collateral=(("GEM", "0.9"),))
    state = load(venue, {1: {"USDC": 1}})
    book = {"X": {"bids": [(99.9, 1)], "asks": [(100.1, 1)]}}
    found = []
    for seconds, value in enumerate(("open", "closed", "post-only", "open")):
        changes = [change(seconds, "state", value, market="X")]
        state, rows = checked_step(venue, state, books=book, time_ns=NOON + seconds * SECOND, venue_changes=changes)
        found.append(brief(rows, "market"))
    assert found == [[], [("guard", "closed_book", "X")], [("guard", "closed_book", "X")], []]


@pytest.mark.parametrize(
    ("field", "place", "why"),
    [
        ("symbol", {"market": "X"}, "cannot change"), ("quantum", {"asset": "GEM"}, "cannot change"),
        ("maxPrice", {"market": "Z"}, "is not in"), ("imfFunction", {"asset": "Z"}, "is not in"),
    ],
)  # fmt: skip
def test_what_cannot_change(field, place, why):
    venue = make_venue()
    with pytest.raises(ValueError, match=why):
        checked_step(venue, load(venue, HOLDER), venue_changes=[change(-43200, field, "1", **place)])


def test_delisting():
    """At 90 a long of 10 from 100 loses 100 and a short of 4 gains 40; orders of both sides are cancelled."""
    venue = make_venue([X, Y], [("GEM", "0.9")], refill_half_life=10)
    orders = [(1, "ask", 120, 2, "X"), (1, "bid", 80, 1, "X"), (2, "bid", 70, 1, "Y")]
    state = load(venue, TRADERS, orders)
    book = {"X": {"bids": [(99.9, 1)], "asks": [(100.1, 1)]}}
    state, _ = checked_step(venue, state, books=book, time_ns=NOON)
    crossed = {"X": {"bids": [(100, 1)], "asks": [(99, 1)]}}
    arguments = {"books": crossed, "venue_changes": [change(1, "delist", 90, market="X")]}
    new, rows = checked_step(venue, state, time_ns=NOON + SECOND, **arguments)
    columns = ("account", "counterparty", "market", "order", "requested", "lots", "cost", "cash", "entry")
    assert brief(rows, *columns, "counter_cash", "price")[2:] == [
        ("delist", "settlement_price", 1, "book", "X", None, 0, -1000, -10**9, -10**8, -10**9, -9 * 10**8, 90.0),
        ("delist", "settlement_price", 2, "book", "X", None, 0, 400, 4 * 10**8, 4 * 10**7, 4 * 10**8, 36 * 10**7, 90.0),
    ]  # fmt: skip
    assert brief(rows[:2], *columns[:5]) == [
        ("cancel", "delisted", 1, None, "X", 0, 100),
        ("cancel", "delisted", 1, None, "X", 1, 200),
    ]
    assert (new.delisted, "X" in new.books) == ({"X"}, False)
    assert (new.guard_states["X"].mark, new.guard_states["X"].mark_time) == (None, 0)
    newer, rows = checked_step(venue, new, {"Y": 100}, time_ns=NOON + 2 * SECOND, books=crossed)
    assert rows == []
    fill = {"action": "fill", "account": 1, "market": "X", "quantity": 1, "price": 90}
    with pytest.raises(reference.Refused, match="delisted"):
        reference.apply(venue, newer, [fill], None, "off")
    with pytest.raises(ValueError, match="is delisted already"):
        checked_step(venue, new, {"Y": 100}, time_ns=NOON + 2 * SECOND,
                     venue_changes=[change(2, "delist", 90, market="X")])  # fmt: skip


def test_the_price_of_an_asset_whose_market_is_delisted():
    """GEM follows its second perpetual once the first is delisted; its spot book stays."""
    first, second = ({**X, "symbol": symbol, "baseSymbol": "GEM"} for symbol in ("A", "B"))
    venue = make_venue([first, second, GEM_SPOT], [("GEM", "0.9")])
    state = load(venue, HOLDER)
    book = {"GEM_USDC": {"bids": [(49.9, 1)], "asks": [(50.1, 1)]}}
    for seconds, price in ((0, 10.0), (1, 50.0)):
        _, _, seen = reference.step(
            venue, state, NOON + seconds * SECOND, {"A": 10, "B": 50}, book,
            venue_changes=[change(1, "delist", 10, market="A")],
        )  # fmt: skip
        assert float(seen.prices.of_asset(venue, "GEM")) == price
