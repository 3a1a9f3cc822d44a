"""Events with a time of their own: the funding table, venue changes and delistings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore.cli import app
from riskcore.io import read_ticks
from riskcore.record import EVENT, REASON, reader
from riskcore.run import RecordedRun, explain, replay
from riskcore.run.report import margin_bands
from tests import money_venues as mv
from tests.small_run import assert_same_run
from tests.test_one_tick import market, source

SECOND = 10**9
NOON = 1_760_004_000 * SECOND  # a full hour
X, Y = "X", "Y"
PRICES = {"GEM": 100.0, "TOK": 10.0}


def venue(*, interval: int | None = None, own: dict | None = None, **policy) -> rc.Venue:
    """The venue of docs/one_tick.md without a clock; X pays funding every ``interval`` milliseconds."""
    rows = [market(X), market(Y)]
    policy = {"liquidation_interval": None} | policy
    if interval is not None:
        rows[0]["fundingInterval"] = interval
    return rc.load_venue(source(rows, **policy) | (own or {}))


def accounts(of: rc.Venue, holdings: dict, orders: pd.DataFrame | None = None, **others) -> rc.Accounts:
    """Accounts {id: {market: (quantity, entry price), asset: quantity}}."""
    positions = [(a, s, *held) for a, row in holdings.items() for s, held in row.items() if isinstance(held, tuple)]
    balances = [(a, s, held) for a, row in holdings.items() for s, held in row.items() if not isinstance(held, tuple)]
    return rc.Accounts.from_frames(
        of,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
        orders,
    )


TWO = {1: {X: (10.0, 100.0), "USDC": 500.0}, 2: {X: (-10.0, 100.0), "USDC": 500.0}}


def tick(seconds: float, marks: dict | None = None, **events) -> rc.Tick:
    time = NOON + round(seconds * SECOND)
    marks = {X: 100.0, Y: 100.0} if marks is None else marks
    return rc.Tick(time, marks, asset_prices=PRICES, **events)


def at(seconds: float, **row) -> dict:
    """A row of a table of events."""
    return {"time": NOON + round(seconds * SECOND)} | row


def rate(seconds: float, value: float, symbol: str = X) -> dict:
    return at(seconds, market=symbol, rate=value)


def change(seconds: float, field: str, value, symbol: str = X, kind: str = "market") -> dict:
    return at(seconds, **{kind: symbol}, field=field, value=value)


def engine_of(of: rc.Venue, holdings: dict = TWO, orders: pd.DataFrame | None = None) -> rc.Engine:
    return rc.Engine(accounts(of, holdings, orders), of, check_screen=True)


def paid(result, account: int = 1) -> list[tuple[str, str, float]]:
    """Reason, market and money of the funding rows of an account."""
    events = result.events
    rows = events[(events["event"] == "funding") & (events["account"] == account)]
    return [tuple(row) for row in rows[["reason", "market", "cash_amount"]].to_numpy().tolist()]


def orders_of(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["account", "market", "side", "price", "quantity", "reduce_only"])


def whole(engine: rc.Engine) -> list[bytes]:
    """The state, the ledgers and the memory of an engine."""
    state = [column.tobytes() for column in engine.accounts.columns]
    ledger = [np.asarray(entry).tobytes() for entry in vars(engine.ledger).values() if not isinstance(entry, dict)]
    memory = [array.tobytes() for array in (engine.guard_state.price, engine.guard_state.time)]
    rules = json.dumps(engine.venue.source).encode()
    return [*state, *ledger, *memory, rules, str((engine.ticks, engine.time)).encode()]


# The funding table


@pytest.mark.parametrize("between", [(), (1800,), (600, 1200, 2400, 3601, 3602)])
def test_gap_in_the_ticks_neither_loses_nor_multiplies_a_rate(between):
    entries = [rate(600, 0.001), rate(3600, 0.002), rate(3601, -0.0005)]
    engine = engine_of(venue())
    engine.step(tick(0))
    total, before = 0.0, 0
    for end in (*between, 7200):
        due = [row for row in entries if before < (row["time"] - NOON) / SECOND <= end]
        total += sum(money for _, _, money in paid(engine.step(tick(end, funding=due))))
        before = end
    assert total == pytest.approx(-1000 * (0.001 + 0.002 - 0.0005))
    assert engine.ledger.funding_scheduled.tolist() == [True, False]


def test_irregular_entries_pay_one_row_each_and_reset_the_premiums():
    engine = engine_of(venue(interval=3_600_000))
    engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    assert engine.ledger.premium_count[0] == 1
    result = engine.step(tick(10, funding=[rate(3, 0.001), rate(7, 0.002), rate(7, 0.1, Y)]))
    assert paid(result) == [("rate", X, -1.0), ("rate", X, -2.0)]
    assert paid(result, 2) == [("rate", X, 1.0), ("rate", X, 2.0)]
    assert engine.ledger.premium_count[0] == 0
    # the interval of the market counts no more
    assert paid(engine.step(tick(2 * 3600))) == []
    with pytest.raises(rc.RiskDataError, match=r"^funding_rates\.X, value 0\.001: must be left out"):
        engine.step(tick(3 * 3600, funding_rates={X: 0.001}))


def test_first_entry_ends_the_interval():
    """Instants of the interval before the first entry are due by the premiums, those from it on are not."""
    engine = engine_of(venue(interval=3_600_000))
    engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    result = engine.step(tick(4 * 3600, funding=[rate(2.5 * 3600, 0.01)]))
    premium_rate = (0.003 - 0.0005) / 8
    assert [row[:2] for row in paid(result)] == [("interval", X), ("rate", X)]
    assert [row[2] for row in paid(result)] == pytest.approx([-1000 * premium_rate * 2, -10.0])


def test_rate_of_a_tick_counts_for_the_last_instant():
    engine = engine_of(venue(interval=3_600_000))
    engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    result = engine.step(tick(3 * 3600 + 5, funding_rates={X: 0.01}))
    assert sum(row[2] for row in paid(result)) == pytest.approx(-1000 * (2 * (0.003 - 0.0005) / 8 + 0.01))
    # without a premium the earlier instants pay nothing
    result = engine.step(tick(6 * 3600 + 5, funding_rates={X: 0.01}))
    assert sum(row[2] for row in paid(result)) == pytest.approx(-10.0)


def test_interval_that_changes_on_a_date():
    """Two hours by the hour, and from then on every half hour."""
    engine = engine_of(venue(interval=3_600_000))
    engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    changes = [change(2 * 3600 + 60, "fundingInterval", 1_800_000)]
    result = engine.step(tick(4 * 3600, venue_changes=changes))
    # 13:00, 14:00; 14:30, 15:00, 15:30, 16:00 by the rate of half an hour
    assert sum(row[2] for row in paid(result)) < 0
    assert engine.venue.markets.funding_interval.tolist() == [1_800_000 * 10**6, 0]
    engine.step(rc.Tick(NOON + 4 * 3600 * SECOND + 1, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    result = engine.step(tick(4 * 3600 + 1800))
    assert [row[2] for row in paid(result)] == pytest.approx([-1000 * (0.003 - 0.0005) / 16])


def test_entries_up_to_the_first_tick_are_not_used():
    engine = engine_of(venue())
    result = engine.step(tick(0, funding=[rate(-5, 0.01), rate(0, 0.01)]))
    assert len(result.rows) == 0
    assert not engine.ledger.funding_scheduled.any()


# Changes of the venue


def larger_margin(seconds: float) -> list[dict]:
    """The accounts of `TWO`, with an equity of 500 each, need 520 with these functions."""
    return [change(seconds, "imfFunction.base", "0.7"), change(seconds, "mmfFunction.base", "0.52")]


def test_margin_function_takes_effect_at_its_instant_and_not_before():
    engine = engine_of(venue())
    assert len(engine.step(tick(0)).selected) == 0
    assert len(engine.step(tick(10)).selected) == 0
    result = engine.step(tick(20, venue_changes=larger_margin(15)))
    assert len(result.selected) == 2
    assert result.events["time"].min() > pd.Timestamp(NOON + 10 * SECOND, unit="ns", tz="UTC")
    assert engine.venue.source["markets"][0]["mmfFunction"]["base"] == "0.52"


def test_every_kind_of_change_takes_effect():
    own = {"markets": [market(X, minPriceUpdateMultiplier="0.5", maxPriceUpdateMultiplier="2"), market(Y)]}
    engine = engine_of(venue(own=own))
    engine.step(tick(0))
    tiers = [{"from": 0, "rate": 0.2}, {"from": 500, "rate": "0.3"}]
    lower = [{"from": 0, "rate": 0.1}, {"from": 500, "rate": 0.2}]
    changes = [
        change(5, "filters.price.maxPriceUpdateMultiplier", "1.001"),
        change(5, "filters.price.minImpactMultiplier", 0.97),
        change(6, "imfFunction", {"type": "tiers", "brackets": tiers}),
        change(6, "mmfFunction", f'{{"type": "tiers", "brackets": {json.dumps(lower)}}}'),
        change(7, "haircutFunction.weight", "0.5", "GEM", "asset"),
        change(7, "haircutFunction.weight", 0.25, "USDC", "asset"),
        change(8, "state", "post-only", Y),
    ]  # fmt: skip
    result = engine.step(tick(10, {X: 150.0, Y: 100.0}, venue_changes=changes), full_table=True)
    changed = engine.venue
    assert changed.markets.max_update[0] == 1.001
    assert float(changed.markets.min_impact[0]) == 0.97
    assert changed.assets.weight.tolist() == [0.25, 0.5, 0.9]
    assert changed.markets.takes_orders.tolist() == [True, False]
    mark = 100 * 1.001**10  # the update cap of the changed venue holds the mark of the tick
    assert engine.guard_state.mark[0] == pytest.approx(mark)
    maintenance = 10 * mark * 0.2 - 50
    assert result.table.maintenance_margin.tolist() == pytest.approx([maintenance] * 2)


def test_closed_market_fills_nothing_until_it_opens_again():
    of = venue()
    engine = engine_of(of, {1: {X: (10.0, 100.0), "USDC": 40.0}})
    book = {X: {"bids": [(99.9, 100.0)], "asks": [(100.1, 100.0)]}}
    engine.step(tick(0, {X: 120.0, Y: 100.0}))
    closed = engine.step(tick(10, books=book, venue_changes=[change(4, "state", "closed")]))
    assert len(closed.selected) == 1
    assert closed.fills.empty
    assert closed.events["reason"].iloc[0] == "closed_book"
    opened = engine.step(tick(20, books=book, venue_changes=[change(14, "state", "open")]))
    assert "book" in set(opened.events["event"])


def test_changes_up_to_the_first_tick_are_applied_there():
    engine = engine_of(venue())
    assert len(engine.step(tick(0, venue_changes=larger_margin(-100))).selected) == 2


def test_changes_in_one_instant_are_validated_together_and_later_ones_follow():
    engine = engine_of(venue())
    engine.step(tick(0))
    rows = larger_margin(5)  # the maintenance function of these alone would be above the initial one
    engine.step(tick(10, venue_changes=rows[::-1]))
    initial, maintenance = ("imfFunction.base", "0.1"), ("mmfFunction.base", "0.05")
    with pytest.raises(rc.RiskDataError, match="must leave a valid venue"):
        engine.step(tick(20, venue_changes=[change(15, *initial), change(16, *maintenance)]))
    engine.step(tick(20, venue_changes=[change(15, *maintenance), change(16, *initial)]))
    assert engine.venue.source["markets"] == venue().source["markets"]


_DELISTED = "must not be about a market that is delisted"
_BAD = {
    "unknown market": ([change(5, "state", "open", "Z")], "venue_changes.market, row 0, value 'Z'"),
    "unknown asset": ([change(5, "weight", 1, "Z", "asset")], "venue_changes.asset, row 0, value 'Z'"),
    "both": ([change(5, "state", "open") | {"asset": "GEM"}], "venue_changes.market, row 0"),
    "neither": ([at(5, field="state", value="open")], "venue_changes.market, row 0"),
    "unknown field": ([change(5, "mmf", 1)], "venue_changes.field, row 0, value 'mmf': must be a key of the row of a"),
    "field of a market": ([change(5, "state", "open", "GEM", "asset")], "must be a key of the row of an asset"),
    "unit": ([change(5, "filters.price.tickSize", 1)], "venue_changes.field, row 0, value 'filters.price.tickSize'"),
    "multiplier": ([change(5, "multiplier", 2)], "must not change"),
    "quantum": ([change(5, "quantum", "0.1", "GEM", "asset")], "must not change"),
    "unit inside": (
        [change(5, "filters", {"price": {"tickSize": "1"}, "quantity": {"stepSize": "0.01"}})],
        "must not change the units",
    ),
    "state": ([change(5, "state", "shut")], "venue_changes.X.state, row 0, value 'shut': must be one of open"),
    "value": ([change(5, "mmfFunction.base", "a")], "must leave a valid venue"),
    "out of range": ([change(5, "haircutFunction.weight", 2, "GEM", "asset")], "must leave a valid venue"),
    "type": ([change(5, "mmfFunction", 1)], "must leave a valid venue"),
    "missing value": ([change(5, "state", None)], "venue_changes.value, row 0"),
    "not finite": ([change(5, "mmfFunction.base", float("inf"))], "venue_changes.value, row 0"),
    "price": ([change(5, "delist", 0)], "venue_changes.X.delist, row 0, value '0': must be a settlement price"),
    "price as text": ([change(5, "delist", "low")], "must be a settlement price"),
    "too early": ([change(0, "state", "closed")], "venue_changes.time, value"),
    "too late": ([change(11, "state", "closed")], "venue_changes.time, value"),
    "twice": ([change(5, "state", "closed"), change(5, "state", "open")], "venue_changes.time+market+field, row 1"),
    "delisted": ([change(5, "delist", 100), change(6, "state", "open")], _DELISTED),
    "delisted twice": ([change(5, "delist", 100), change(6, "delist", 90)], _DELISTED),
    "no rows": ({"time": 5}, "venue_changes: must be a pandas DataFrame"),
    "no mapping": ([5], "venue_changes, row 0, value 'int': must be a mapping by column"),
    "other column": ([change(5, "state", "open") | {"note": 1}], "venue_changes.note: is not a column"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_BAD))
def test_wrong_change_is_one_line_and_changes_nothing(name):
    rows, message = _BAD[name]
    engine = engine_of(venue())
    engine.step(tick(0))
    before = whole(engine)
    with pytest.raises(rc.RiskDataError) as error:
        engine.step(tick(10, {X: 90.0, Y: 100.0}, venue_changes=rows))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert whole(engine) == before
    engine.step(tick(10))


_BAD_FUNDING = {
    "unknown market": ([rate(5, 0.1, "Z")], "funding.market, row 0, value 'Z'"),
    "range": ([rate(5, 1.5)], "funding.rate, row 0, value 1.5: must be a number from -1 to 1"),
    "missing": ([at(5, market=X, rate=None)], "funding.rate, row 0"),
    "too early": ([rate(0, 0.1)], "funding.time"),
    "too late": ([rate(11, 0.1)], "funding.time"),
    "twice": ([rate(5, 0.1), rate(5, 0.1)], "funding.time+market, row 1"),
    "rate of the tick": ([rate(5, 0.1)], "funding_rates.X, value 0.1"),
}


@pytest.mark.parametrize("name", list(_BAD_FUNDING))
def test_wrong_entry_is_one_line_and_changes_nothing(name):
    rows, message = _BAD_FUNDING[name]
    engine = engine_of(venue())
    engine.step(tick(0))
    before = whole(engine)
    others = {"funding_rates": {X: 0.1}} if name == "rate of the tick" else {}
    with pytest.raises(rc.RiskDataError) as error:
        engine.step(tick(10, funding=rows, **others))
    assert message in str(error.value)
    assert whole(engine) == before


def test_refused_tick_with_a_delisting_changes_nothing():
    """A settlement price at which what accounts hold comes to 2**62 quanta refuses the tick."""
    engine = engine_of(venue(), {1: {X: (5e6, 100.0), "USDC": 6e8}, 2: {X: (-5e6, 100.0), "USDC": 6e8}})
    engine.step(tick(0))
    before = whole(engine)
    with pytest.raises(rc.RiskDataError, match="less than 2"):
        engine.step(tick(10, venue_changes=[change(5, "delist", 1e6)]))
    assert whole(engine) == before


# Delisting


CROWD = {
    1: {X: (10.0, 100.0), "USDC": 500.0},
    2: {X: (-6.0, 90.0), Y: (5.0, 100.0), "USDC": 500.0},
    3: {X: (-4.0, 100.0), "USDC": 5.0, "GEM": 1.0},
    4: {"USDC": 100.0},
}
ORDERS = orders_of(
    (1, X, "bid", 99.0, 1.0, False), (1, X, "ask", 120.0, 2.0, True), (4, X, "ask", 101.0, 3.0, False),
    (2, Y, "bid", 99.0, 1.0, False),
)  # fmt: skip


def test_delisting_of_a_linear_market():
    engine = engine_of(venue(), CROWD, ORDERS)
    engine.step(tick(0))
    result = engine.step(tick(10, {Y: 100.0}, venue_changes=[change(5, "delist", 95.5)]))
    events = result.events
    cancelled = events[events["event"] == "cancel"]
    assert cancelled[["account", "reason", "requested_quantity"]].to_numpy().tolist() == [
        [1, "delisted", 1.0], [1, "delisted", 2.0], [4, "delisted", 3.0],
    ]  # fmt: skip
    settled = events[events["event"] == "delist"]
    shown = ["account", "reason", "counterparty", "quantity", "price", "cash_amount", "fee_amount"]
    assert settled[shown].to_numpy().tolist() == [
        [1, "settlement_price", "book", -10.0, 95.5, -45.0, 0.0],
        [2, "settlement_price", "book", 6.0, 95.5, -33.0, 0.0],
        [3, "settlement_price", "book", 4.0, 95.5, 18.0, 0.0],
    ]
    assert events["event"].tolist() == ["cancel"] * 3 + ["delist"] * 3
    assert settled["mmr_before"].isna().all()
    assert cancelled["mmr_after"].isna().all()
    frames = engine.accounts.to_frames()
    assert frames.positions["market"].tolist() == [Y]
    assert frames.orders["market"].tolist() == [Y]
    columns = engine.accounts.columns
    of_x = columns.market == 0
    for column in (columns.lots, columns.cost, columns.entry, columns.open_bid, columns.open_ask):
        assert not column[of_x].any()
    assert not engine.ledger.book_lots.any()  # longs and shorts are as many
    assert not engine.ledger.book_quanta.any()
    assert engine.ledger.delisted.tolist() == [True, False]
    assert np.isnan(engine.guard_state.price[:, 0]).all()


def test_delisted_market_needs_no_mark_and_takes_none():
    engine = engine_of(venue(refill_half_life=10), CROWD, ORDERS)
    book = {X: {"bids": [(99.9, 1.0)], "asks": [(100.1, 1.0)]}, Y: {"bids": [(99.9, 1.0)], "asks": [(100.1, 1.0)]}}
    engine.step(tick(0, books=book))
    engine.step(tick(10, {Y: 100.0}, venue_changes=[change(5, "delist", 95.5)]))
    assert set(np.flatnonzero(np.diff(engine.guard_state.book_memory.books.offset))) == {2, 3}
    crossed = {X: {"bids": [(101.0, 1.0)], "asks": [(100.0, 1.0)]}}
    result = engine.step(tick(20, {X: 50.0, Y: 100.0}, books=crossed, indexes={X: 500.0}, last_prices={X: 1.0}))
    assert len(result.rows) == 0
    assert np.isnan(engine.guard_state.price[:, 0]).all()
    assert engine.ledger.premium_count[0] == 0
    assert len(engine.step(tick(3600, {Y: 100.0}, funding=[rate(1000, 0.1)])).rows) == 0  # an entry is not used
    with pytest.raises(rc.RiskDataError, match="must not be a market that is delisted"):
        engine.account(4).fill(X, 1.0, 100.0)
    before = whole(engine)
    with pytest.raises(rc.RiskDataError, match="must not be about a market that is delisted"):
        engine.step(tick(3700, {Y: 100.0}, venue_changes=[change(3650, "mmfFunction.base", "0.01")]))
    assert whole(engine) == before


def test_position_of_a_market_in_need_of_a_mark_is_refused_until_it_is_delisted():
    engine = engine_of(venue(stale_after=5), CROWD)
    engine.step(tick(0))
    with pytest.raises(rc.RiskDataError, match="a mark is needed"):
        engine.step(tick(10, {Y: 100.0}))
    engine.step(tick(10, {Y: 100.0}, venue_changes=[change(10, "delist", 100)]))
    assert len(engine.step(tick(20, {Y: 100.0})).rows) == 0


def test_liquidation_that_follows_from_a_delisting():
    """The short is bankrupt at the settlement price: what is left is sold, and the fund pays the rest."""
    engine = engine_of(venue(fund=1000), CROWD)
    engine.step(tick(0))
    result = engine.step(tick(10, {Y: 100.0}, venue_changes=[change(5, "delist", 150)]))
    events = result.events
    of_short = events[events["account"] == 3]["event"].tolist()
    assert of_short[:2] == ["delist", "trigger"]
    assert "fund" in of_short
    assert engine.accounts.to_frames().balances.set_index(["account", "asset"])["quantity"].get((3, "GEM"), 0.0) == 0.0


def test_providers_positions_are_settled_too():
    own = {"backstop": [{"account": 9, "capacity_per_min": 1_000_000}]}
    engine = engine_of(venue(own=own), CROWD | {9: {"USDC": 100_000.0}})
    engine.step(tick(0))
    engine.step(tick(10, {X: 45.0, Y: 100.0}))
    provider = engine.accounts.row_of(9)
    held = engine.accounts.columns.lots[engine.accounts.position_row(provider, 0)]
    assert held > 0
    result = engine.step(tick(20, {Y: 100.0}, venue_changes=[change(15, "delist", 46)]))
    assert result.events.query("event == 'delist'")["account"].tolist()[-1] == 9
    assert engine.accounts.columns.lots[engine.accounts.position_row(provider, 0)] == 0


def test_delisting_of_an_inverse_market():
    of = mv.venue(liquidation_interval=None)
    positions = pd.DataFrame(
        [(1, mv.IBTC, 50.0, 80_000.0), (2, mv.IBTC, -50.0, 90_000.0)],
        columns=["account", "market", "quantity", "entry_price"],
    )
    balances = pd.DataFrame([(1, "USDC", 9e3), (2, "USDC", 9e3)], columns=["account", "asset", "quantity"])
    engine = rc.Engine(rc.Accounts.from_frames(of, positions, balances), of, check_screen=True)
    first = rc.Tick(mv.START, mv.MARKS, asset_prices=mv.ASSET_PRICES)
    engine.step(first)
    left = {name: mark for name, mark in mv.MARKS.items() if name != mv.IBTC}
    rows = [{"time": mv.START + SECOND, "market": mv.IBTC, "field": "delist", "value": 100_000}]
    result = engine.step(rc.Tick(mv.START + 2 * SECOND, left, asset_prices=mv.ASSET_PRICES, venue_changes=rows))
    settled = result.events.query("event == 'delist'")
    # 50 contracts of 100 USD: 5,000 / entry - 5,000 / 100,000 BTC
    assert settled["settle_asset"].tolist() == ["BTC", "BTC"]
    assert settled["cash_amount"].tolist() == pytest.approx([5000 / 80_000 - 0.05, 0.05 - 5000 / 90_000], abs=1e-8)
    assert not engine.ledger.book_quanta.any()
    assert not engine.accounts.columns.lots.any()
    again = rc.Tick(mv.START + 3 * SECOND, left, asset_prices=mv.ASSET_PRICES)
    assert len(engine.step(again).rows) == 0


def test_delisting_of_the_market_that_prices_an_asset_needs_another_price():
    of = mv.venue(liquidation_interval=None)
    positions = pd.DataFrame([(1, mv.ETH, 1.0, 4000.0)], columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame([(1, "USDC", 9e3), (1, "BTC", 0.1)], columns=["account", "asset", "quantity"])
    engine = rc.Engine(rc.Accounts.from_frames(of, positions, balances), of)
    eth = {mv.ETH: 4000.0}
    engine.step(rc.Tick(mv.START, eth | {mv.BTC: 1e5}, asset_prices=mv.ASSET_PRICES))
    rows = [{"time": mv.START + SECOND, "market": mv.BTC, "field": "delist", "value": 100_000}]
    with pytest.raises(rc.RiskDataError, match=r"asset_prices\.BTC"):
        engine.step(rc.Tick(mv.START + 2 * SECOND, eth, asset_prices=mv.ASSET_PRICES, venue_changes=rows))
    prices = mv.ASSET_PRICES | {"BTC": 1e5}
    engine.step(rc.Tick(mv.START + 2 * SECOND, eth, asset_prices=prices, venue_changes=rows))
    assert engine.ledger.delisted[0]


def test_delisting_reaches_accounts_that_were_opened_later_by_their_ids():
    engine = engine_of(venue(), {5: {X: (10.0, 100.0), "USDC": 500.0}, 7: {X: (-10.0, 100.0), "USDC": 500.0}})
    engine.step(tick(0))
    for id_, quantity in ((6, 1.0), (1, -1.0)):
        account = engine.open(id_)
        account.deposit("USDC", 100.0)
        account.fill(X, quantity, 100.0)
    result = engine.step(tick(10, {Y: 100.0}, venue_changes=[change(5, "delist", 101)]))
    assert result.events["account"].tolist() == [1, 5, 6, 7]


# Instants between two ticks


def clocked(**policy) -> rc.Venue:
    return venue(liquidation_interval=1, **policy)


def seconds_of(result) -> list[float]:
    return ((result.rows["time"] - NOON) / SECOND).tolist()


def test_entries_are_due_at_their_instants_at_the_price_of_the_path():
    engine = engine_of(clocked())
    engine.step(tick(0))
    result = engine.step(
        tick(600, {X: 110.0, Y: 100.0}, funding=[rate(10.5, 0.001), rate(300, 0.002), rate(600, 0.001)])
    )
    assert seconds_of(result) == [10.5, 10.5, 300.0, 300.0, 600.0, 600.0]
    assert [money for _, _, money in paid(result)] == pytest.approx([-1.0, -2.0, -1.1])  # the last mark is held
    assert result.events["price"].tolist() == [100.0] * 4 + [110.0] * 2


@pytest.mark.parametrize("events", ["entries", "changes", "both"])
def test_instants_keep_their_nanoseconds(events):
    """Times past 2**53 ns, which float64 does not hold."""
    of, entry, state = clocked(), rate(0, 0.001), change(0, "delist", 100, Y)
    entry["time"] += SECOND + 1
    state["time"] += SECOND + 3
    holdings = {1: {X: (10.0, 100.0), Y: (1.0, 100.0), "USDC": 500.0}}
    engine = engine_of(of, holdings)
    engine.step(tick(0))
    given = {"funding": [entry]} if events != "changes" else {}
    given |= {"venue_changes": [state]} if events != "entries" else {}
    result = engine.step(tick(5, **given))
    expected = [row["time"] for row, name in ((entry, "changes"), (state, "entries")) if events != name]
    assert result.rows["time"].tolist() == expected


def test_interval_instants_end_at_the_first_entry_and_the_rate_of_the_tick_is_for_the_last():
    of = venue(interval=60_000, liquidation_interval=None)
    clock = venue(interval=60_000, liquidation_interval=7)
    ends = []
    for one in (of, clock):
        engine = engine_of(one)
        engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
        first = engine.step(tick(200, {X: 100.3, Y: 100.0}, funding_rates={X: 0.01}))
        second = engine.step(tick(400, {X: 100.3, Y: 100.0}, funding=[rate(305, 0.02)]))
        ends.append([sum(money for _, _, money in paid(result)) for result in (first, second)])
    # 60 and 120 by the premiums (the mean stays, as the index is held), 180 by the rate; 240 and 300, then 305
    assert seconds_of(first) == [60, 60, 120, 120, 180, 180]
    assert seconds_of(second)[-2:] == [305, 305]
    assert set(seconds_of(second)) <= {240, 300, 305}
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-3)


def test_interval_that_changes_on_a_date_is_exact_between_ticks():
    engine = engine_of(venue(interval=60_000, liquidation_interval=1))
    engine.step(rc.Tick(NOON, {X: 100.3, Y: 100.0}, indexes={X: 100.0}, asset_prices=PRICES))
    result = engine.step(
        tick(240, {X: 100.3, Y: 100.0}, venue_changes=[change(125, "fundingInterval", 20_000)], funding_rates={X: 0.01})
    )
    assert sorted(set(seconds_of(result))) == [60, 120, 140, 160, 180, 200, 220, 240]
    premium_rate = (0.003 - 0.0005) / 8
    of_minute, of_third = 1003 * premium_rate / 60, 1003 * premium_rate / 180
    amounts = [-of_minute, -of_minute, *[-of_third] * 5, -10.03]
    assert [money for _, _, money in paid(result)] == pytest.approx(amounts, rel=1e-3)


def test_liquidation_that_follows_from_a_change_happens_at_its_instant():
    book = {X: {"bids": [(99.9, 100.0)], "asks": [(100.1, 100.0)]}, Y: {"bids": [(99.9, 1.0)], "asks": [(100.1, 1.0)]}}
    engine = engine_of(clocked())
    engine.step(tick(0, books=book))
    result = engine.step(tick(60, books=book, venue_changes=larger_margin(30.25)))
    assert seconds_of(result)[0] == 30.25
    first = result.events[result.events["time"] == pd.Timestamp(NOON + 30_250_000_000, unit="ns", tz="UTC")]
    assert {"trigger", "book"} <= set(first["event"])
    assert result.selected.tolist() == [0, 1]


def test_settlement_does_not_run_at_an_interval_that_counts_no_more():
    of = venue(interval=60_000)
    table = pd.DataFrame([(1, "USDC", 0.0)], columns=["account", "asset", "quantity"])
    settings = pd.DataFrame([(1, -5.0)], columns=["account", "unsettled"])
    none = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    engine = rc.Engine(rc.Accounts.from_frames(of, none, table, None, settings), of)
    engine.step(tick(0))
    assert len(engine.step(tick(10, funding=[rate(5, 0.001)])).rows) == 0
    engine.apply([{"action": "deposit", "account": 1, "asset": "USDC", "quantity": 10.0}])
    assert len(engine.step(tick(70)).rows) == 0
    assert engine.step(tick(80, funding=[rate(75, 0.001)])).events["event"].tolist() == ["unsettle"]


def test_price_of_an_asset_is_held_after_instants():
    rows = source()["collateral"]
    rows[2]["priceGuard"] = {"staleAfter": 60}
    of = clocked(own={"collateral": rows})
    engine = engine_of(of, {1: {"TOK": 5.0}})
    engine.step(tick(0))
    time, marks = NOON + 3 * SECOND, {X: 100.0, Y: 100.0}
    events = engine.step(rc.Tick(time, marks, asset_prices={"GEM": 100.0})).events
    assert events[["event", "reason", "asset"]].to_numpy().tolist() == [["guard", "mark_held", "TOK"]]


def by_open_interest(seconds: float) -> list[dict]:
    """X has an open interest of 1,000: the accounts of `TWO`, with an equity of 500 each, need 510."""
    kind = {"type": "open_interest", "lower": "0", "upper": "2000"}
    rates = {"imfFunction": "0.03", "mmfFunction": "0.02"}
    return [change(seconds, field, kind | {"base": base}) for field, base in rates.items()]


@pytest.mark.parametrize(("reported", "second"), [(None, 30.25), (10.0, 30.25), (9.0, None)])
def test_margin_function_by_open_interest_that_comes_between_two_ticks_knows_the_open_interest(reported, second):
    engine = engine_of(clocked())
    engine.step(tick(0, open_interest=None if reported is None else {X: reported}))
    result = engine.step(tick(60, open_interest={X: 9.0}, venue_changes=by_open_interest(30.25)))
    assert seconds_of(result)[:1] == ([] if second is None else [second])


def test_open_interest_that_nothing_asked_for_is_that_of_the_accounts_before_the_next_tick():
    engine = engine_of(clocked())
    engine.step(tick(0))
    engine.apply(
        [{"action": "fill", "account": a, "market": X, "quantity": q, "price": 100.0} for a, q in ((1, -0.5), (2, 0.5))]
    )
    result = engine.step(tick(60, open_interest={X: 9.0}, venue_changes=by_open_interest(30.25)))
    assert not len(result.rows)  # an open interest of 950 requires 461.225 of each


@pytest.mark.parametrize("settlement", [100, 130])
def test_delisting_and_what_follows_from_it_happen_at_its_instant(settlement):
    engine = engine_of(clocked(fund=1000), CROWD, ORDERS)
    engine.step(tick(0))
    result = engine.step(
        tick(60, venue_changes=[change(30.5, "delist", settlement)], funding=[rate(10, 0.001), rate(50, 0.1)])
    )
    events = result.events.assign(second=seconds_of(result))
    assert events[events["event"] == "funding"]["second"].tolist() == [10.0] * 3
    of_market = events[events["event"].isin(["delist", "cancel"])]
    assert (of_market["second"] == 30.5).all()
    assert of_market["price"].dropna().tolist() == [settlement] * 3
    after = events[events["second"] >= 30.5]
    assert after["event"].tolist()[:6] == ["cancel"] * 3 + ["delist"] * 3
    assert ("trigger" in after[after["second"] == 30.5]["event"].tolist()) == (settlement == 130)
    assert np.isnan(engine.guard_state.mark[0])
    assert len(engine.step(tick(120, {Y: 100.0})).rows) == 0


def test_asset_that_has_no_price_between_a_delisting_and_the_tick_leaves_out_the_instants():
    of = mv.venue(liquidation_interval=1)
    positions = pd.DataFrame([(1, mv.ETH, 1.0, 4000.0)], columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame([(1, "USDC", 9e3), (1, "BTC", 0.1)], columns=["account", "asset", "quantity"])
    engine = rc.Engine(rc.Accounts.from_frames(of, positions, balances), of)
    marks = {mv.ETH: 4000.0, mv.BTC: 1e5}
    engine.step(rc.Tick(mv.START, marks, asset_prices=mv.ASSET_PRICES))
    rows = [{"time": mv.START + SECOND, "market": mv.BTC, "field": "delist", "value": 100_000}]
    entry = [{"time": mv.START + 2 * SECOND, "market": mv.ETH, "rate": 0.01}]
    prices = mv.ASSET_PRICES | {"BTC": 1e5}
    time = mv.START + 5 * SECOND
    result = engine.step(rc.Tick(time, marks, asset_prices=prices, venue_changes=rows, funding=entry))
    assert "funding" in result.events["event"].tolist()
    assert (result.rows["time"] == time).all()


# Tables, run folders


def run_tables(of: rc.Venue) -> dict:
    """A run of eight ticks with funding, changes and a delisting."""
    times = [NOON + 600 * n * SECOND for n in range(8)]
    rng = np.random.default_rng(3)
    marks = pd.DataFrame(
        [
            (time, name, round(float(100 + rng.normal(0, 2)), 1))
            for n, time in enumerate(times) for name in (X, Y) if name == Y or n < 6
        ],
        columns=["time", "market", "mark_price"],
    )  # fmt: skip
    prices = pd.DataFrame([(t, a, p) for t in times for a, p in PRICES.items()], columns=["time", "asset", "price"])
    funding = [(-1, 0.5), (300, 0.001), (1800, -0.002), (1801, 0.003), (9999, 0.9)]
    events = pd.DataFrame(
        [
            (900, X, None, "mmfFunction.base", "0.08"), (1500, None, "GEM", "haircutFunction.weight", "0.4"),
            (2000, Y, None, "state", "post-only"),
            (2000, X, None, "imfFunction", '{"type": "sqrt", "base": 0.5, "factor": 0}'),
            (3100, X, None, "delist", "97.5"), (3200, Y, None, "state", "open"), (9999, Y, None, "state", "closed"),
        ],
        columns=["time", "market", "asset", "field", "value"],
    )  # fmt: skip
    events["time"] = NOON + events["time"] * SECOND
    funding = pd.DataFrame(
        [(NOON + s * SECOND, m, r) for s, r in funding for m in (X, Y)], columns=["time", "market", "rate"]
    )
    return {"marks": marks, "asset_prices": prices, "funding": funding, "venue_changes": events}


def run_ticks(of: rc.Venue, state: rc.Accounts):
    return read_ticks(of, state, **run_tables(of))


CLOCKS = pytest.mark.parametrize("interval", [None, 30, 600])


@CLOCKS
def test_ticks_one_by_one_or_in_a_table_give_the_same_run(tmp_path, interval):
    of = venue(fund=100, liquidation_interval=interval)
    state = accounts(of, CROWD, ORDERS)
    table = run_ticks(of, state)
    replay(of, state, table, tmp_path / "table")
    tables = run_tables(of)
    engine = rc.Engine(state, of)
    before = -1
    for n, given in enumerate(table):
        rows = {
            name: tables[name][(tables[name]["time"] > before) & (tables[name]["time"] <= given.time)]
            for name in ("funding", "venue_changes")
        }
        mappings = rows["venue_changes"].replace({np.nan: None}).to_dict("records")
        engine.step(
            rc.Tick(given.time, given.marks, asset_prices=given.asset_prices, funding=rows["funding"],
                    venue_changes=mappings if n % 2 else rows["venue_changes"])
        )  # fmt: skip
        before = given.time
    engine.save(tmp_path / "steps")
    assert_same_run(tmp_path / "table", tmp_path / "steps")
    for name in ("funding", "venue_changes"):
        one, other = (
            pd.concat(
                [table for file in sorted((tmp_path / run / name).iterdir()) if len(table := pd.read_parquet(file))]
            )
            for run in ("table", "steps")
        )
        pd.testing.assert_frame_equal(one, other)
    assert engine.ledger.delisted.tolist() == [True, False]
    assert len(one) == 6


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("interval", [None, 60])
def test_resume_before_and_after_every_event_gives_the_same_run(tmp_path, cut, interval):
    of = venue(fund=100, liquidation_interval=interval)
    state = accounts(of, CROWD, ORDERS)
    table = run_ticks(of, state)
    replay(of, state, table, tmp_path / "whole")
    engine = rc.Engine(state, of)
    for given in (table.tick(n) for n in range(cut)):
        engine.step(given)
    engine.save(tmp_path / "cut", complete=False)
    resumed = rc.Engine.resume(tmp_path / "cut", check_screen=True)
    assert whole(resumed) == whole(engine)
    replay(of, state, table, tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_replay_compares_the_events_of_the_ticks_done(tmp_path):
    of = venue()
    state = accounts(of, CROWD)
    table = run_ticks(of, state)
    engine = rc.Engine(state, of)
    for n in range(4):
        engine.step(table.tick(n))
    engine.save(tmp_path / "run", complete=False)
    for name, row in (("funding", 2), ("venue_changes", 0)):
        tables = run_tables(of)
        tables[name] = tables[name].drop(index=row)
        with pytest.raises(rc.RiskDataError, match="was cut with other inputs"):
            replay(of, state, read_ticks(of, state, **tables), tmp_path / "run")
    tables = run_tables(of)  # those to come may differ
    tables["venue_changes"] = tables["venue_changes"][tables["venue_changes"]["field"] != "state"]
    tables["funding"] = tables["funding"][tables["funding"]["time"] < NOON + 9999 * SECOND]
    tables["venue_changes"].loc[tables["venue_changes"]["field"] == "delist", "value"] = "98"
    ticks = read_ticks(of, state, **tables)
    engine = replay(of, state, ticks, tmp_path / "run")
    assert engine.venue.markets.takes_orders.all()


def test_readers_use_the_venue_of_the_time(tmp_path):
    of = venue(fund=100)
    state = accounts(of, CROWD, ORDERS)
    table = run_ticks(of, state)
    engine = rc.Engine(state, of)
    results = [engine.step(given, full_table=True) for given in table]
    engine.save(tmp_path / "run")
    run = RecordedRun.read(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "venue.json").read_text()) == of.source
    venues = run.folder.venues()
    assert [first for first, _ in venues] == [0, 2, 3, 4, 6]
    assert venues[-1][1].source == engine.venue.source == rc.Engine.resume(tmp_path / "run").venue.source
    bands = margin_bands(run, 8)
    for result in results:
        if not len(result.rows):  # the state before and after the tick is one
            counted = rc.run.report.margin_distribution(result.table.mmr)["accounts"].tolist()
            time = pd.Timestamp(result.time, unit="ns", tz="UTC")
            assert bands[bands["time"] == time]["accounts"].tolist() == counted
    story = explain(tmp_path / "run", 1)
    equity = story.equity
    parts = [equity.price, equity.slippage, equity.fee, equity.backstop, equity.adl, equity.funding, equity.interest,
             equity.delisting, equity.shortfall, equity.activity]  # fmt: skip
    assert equity.start + sum(parts) == pytest.approx(equity.end)
    last = engine.guard_state  # the mark before the delisting is in the ticks
    mark = run.mark[5, 0]
    held = run.rows[(run.rows["event"] == EVENT["delist"]) & (run.rows["account"] == 0)]
    assert equity.delisting == pytest.approx(-float(held["lots"][0]) / 100 * (97.5 - mark))
    assert np.isnan(last.mark[0])
    assert "settled at 97.5" in " ".join(story.events["what"])
    rc.run.page(tmp_path / "run", None)
    assert rc.read_run(tmp_path / "run").accounts_at(7).to_frames().positions["market"].tolist() == [Y]


def test_adl_study_repeats_the_events(tmp_path):
    of = venue(fund=100)
    state = accounts(of, CROWD, ORDERS)
    engine = replay(of, state, run_ticks(of, state), tmp_path / "run")
    again = rc.Engine(state, of)
    from riskcore.adl_study.runs import read_ticks as ticks_of_run

    for given in ticks_of_run(tmp_path / "run", of):
        again.step(given)
    assert whole(again) == whole(engine)


def test_tables_that_contradict_each_other_are_refused():
    of = venue(interval=3_600_000)
    state = accounts(of, CROWD)
    tables = run_tables(of)
    tables["marks"]["funding_rate"] = 0.0001
    with pytest.raises(rc.RiskDataError, match=r"^marks\.funding_rate, row time .*X"):
        read_ticks(of, state, **tables)
    tables["marks"].loc[tables["marks"]["time"] > NOON, "funding_rate"] = np.nan
    read_ticks(of, state, **tables)
    tables["venue_changes"] = tables["venue_changes"][tables["venue_changes"]["field"] != "delist"]
    with pytest.raises(rc.RiskDataError, match=r"marks\.mark_price"):
        read_ticks(
            of, state, **{**tables, "marks": tables["marks"][tables["marks"]["time"] != NOON + 5 * 600 * SECOND]}
        )


def test_command_takes_the_tables(tmp_path):
    of = venue(fund=100)
    files = {"venue": tmp_path / "venue.json"}
    of.to_json(files["venue"])
    frames = accounts(of, CROWD).to_frames()
    for name, frame in ({"positions": frames.positions, "balances": frames.balances} | run_tables(of)).items():
        files[name] = tmp_path / f"{name}.csv"
        frame.to_csv(files[name], index=False)
    options = [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    done = CliRunner().invoke(app, ["replay", *options, "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    rows = reader.read_journal(tmp_path / "run")
    assert (rows["reason"] == REASON["rate"]).any()
    assert (rows["event"] == EVENT["delist"]).any()
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"funding", "venue_changes"} <= manifest["inputs"].keys()
    again = CliRunner().invoke(app, ["replay", *options, "--out", str(tmp_path / "run"), "--json"])
    assert again.exit_code == 0, again.output


def test_damaged_table_of_events_is_refused(tmp_path):
    from tests.small_run import seal

    of = venue()
    state = accounts(of, CROWD)
    replay(of, state, run_ticks(of, state), tmp_path / "run")
    for name, column, value in (
        ("venue_changes", "field", "symbol"), ("venue_changes", "value", '"x"'), ("venue_changes", "asset", 0),
        ("funding", "time", NOON - 10), ("funding", "rate", 2.0),
    ):  # fmt: skip
        file = tmp_path / "run" / name / "00000.parquet"
        content = file.read_bytes()
        table = pd.read_parquet(file)
        table.loc[len(table) - 1, column] = value
        table.to_parquet(file, index=False)
        seal(tmp_path / "run")
        with pytest.raises(rc.RiskDataError):
            list(reader.Reader(tmp_path / "run").venues())
        file.write_bytes(content)
        seal(tmp_path / "run")
    reader.Reader(tmp_path / "run").venues()
