"""What holds of slices whatever the policy: they help or say that they do not, and nobody's presence changes a draw."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from riskcore import Accounts, Engine, RiskDataError, Tick, load_venue
from riskcore.audit import audit
from riskcore.io import read_ticks
from riskcore.kernels.margin_function import RATE, ROOT
from riskcore.sample import market_row
from tests.comparison import whole_state

BTC, ETH = "BTC_USDC_PERP", "ETH_USDC_PERP"
MARKS = {BTC: 97_000.0, ETH: 4_000.0}


def make_venue(**policy):
    rows = [
        market_row(base, "0.1", "0.0001", imf, mmf, impact=("0.95", "1.05"))
        for base, imf, mmf in (
            ("BTC", ("0.01333333", "0.00002494"), ("0.00666667", "0.00001496")),
            ("ETH", ("0.02", "0.0000561"), ("0.0125", "0.00003366")),
        )
    ]
    collateral = [{"symbol": "BTC", "haircutFunction": {"weight": "0.95", "kind": {"type": "identity"}}}]
    return load_venue(
        {
            "settle_asset": "USDC",
            "markets": rows,
            "collateral": collateral,
            "policy": {"slice_probability": 1} | policy,
            "backstop": [],
        }
    )


def thin_books(size: float) -> dict:
    """A level each tenth of a percent: many slices walk it far down."""
    return {
        symbol: {
            "bids": [(round(mark * (1 - n / 1000), 1), size) for n in range(1, 40)],
            "asks": [(round(mark * (1 + n / 1000), 1), size) for n in range(1, 40)],
        }
        for symbol, mark in MARKS.items()
    }


def make_accounts(venue, count: int, *, first: int = 0) -> Accounts:
    """Accounts past the trigger: long and short, one position or two, some with BTC for collateral and a debt."""
    rng = np.random.default_rng(3)
    positions, balances = [], []
    for n in range(count):
        account, side = first + n, 1 if n % 2 else -1
        held = [(BTC, round(rng.uniform(0.1, 6), 4))] + ([(ETH, round(rng.uniform(1, 90), 4))] if n % 3 == 0 else [])
        needed = 0.0
        for symbol, quantity in held:
            notional = quantity * MARKS[symbol]
            m = venue.markets.symbol.index(symbol)
            maintenance = venue.margin_functions.first[2 * m + 1]
            needed += notional * max(maintenance[RATE], maintenance[ROOT] * notional**0.5)
            positions.append((account, symbol, side * quantity, MARKS[symbol]))
        equity = needed / rng.uniform(1.001, 1.4)
        if n % 4 == 0:
            kept = round(equity / MARKS[BTC], 6)
            balances += [(account, "BTC", kept), (account, "USDC", round(equity - 0.95 * kept * MARKS[BTC], 2))]
        else:
            balances.append((account, "USDC", round(equity, 2)))
    return Accounts.from_frames(
        venue,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
    )


@pytest.mark.parametrize("size", [0.05, 2.0])
@pytest.mark.parametrize("position_order", ["relief", "largest", "pro_rata"])
@pytest.mark.parametrize("account_order", ["mmr", "pro_rata", "random"])
def test_no_slice_makes_an_account_worse(tmp_path, account_order, position_order, size):
    venue = make_venue(account_order=account_order, position_order=position_order, slices_per_tick=3)
    engine = Engine(make_accounts(venue, 60), venue)
    events = engine.step(Tick(0, MARKS, thin_books(size))).events
    fills = events[events["event"] == "book"]
    assert len(fills)
    assert (fills["mmr_after"] < fills["mmr_before"]).all()
    engine.save(tmp_path / "run")
    found = audit(tmp_path / "run")
    assert found.ok, found.breaches


def test_waived_fee_is_what_the_policy_says():
    """Nothing of it, a half, all that does no harm: the fund gets more and more, and never more than the full fee."""
    taken = []
    for share in (0, "0.5", "0.99"):
        venue = make_venue(waived_fee_share=share)
        engine = Engine(make_accounts(venue, 60), venue)
        events = engine.step(Tick(0, MARKS, thin_books(5.0))).events
        fills = events[events["event"] == "book"]
        money = (fills["lots"].abs() * venue.markets.step_size[0] * fills["price"]).where(fills["market"] == BTC)
        assert (fills["fee"] / 1e6 <= 0.01 * money.fillna(np.inf) + 1e-6).all()
        taken.append(int(engine.ledger.fund[venue.settle]))
    assert taken == sorted(set(taken))


@pytest.mark.parametrize("account_order", ["mmr", "pro_rata", "random"])
def test_healthy_neighbours_change_nothing(account_order):
    """More accounts in the run, sorting before and after: the same rows for those that were there."""
    venue = make_venue(account_order=account_order, slice_probability="0.5", slices_per_tick=4)
    alone = make_accounts(venue, 40, first=100)
    others = pd.DataFrame({"account": [1, 2, 120_000], "asset": "USDC", "quantity": 1e6})
    columns = alone.columns
    positions = pd.DataFrame(
        {
            "account": alone.ids[alone.position_accounts()],
            "market": np.array(venue.markets.symbol, object)[columns.market],
            "quantity": venue.markets.quantity(columns.lots, columns.market),
            "entry_price": [MARKS[venue.markets.symbol[m]] for m in columns.market],
        }
    )
    balances = pd.DataFrame(
        {
            "account": alone.ids[alone.balance_accounts()],
            "asset": np.array(venue.assets.symbol, object)[columns.asset],
            "quantity": columns.free / 1e6,
        }
    )
    together = Accounts.from_frames(venue, positions, pd.concat([balances, others], ignore_index=True))
    found = [Engine(accounts, venue, 7).step(Tick(0, MARKS, thin_books(0.5))).events for accounts in (alone, together)]
    pd.testing.assert_frame_equal(*found)
    assert (found[0]["event"] == "skip").any()


def test_seed_and_tick_change_the_draws():
    venue = make_venue(slice_probability="0.5")
    resting = []
    for seed, ticks in itertools.product((0, 1), (1, 2)):
        engine = Engine(make_accounts(venue, 40), venue, seed)
        for n in range(ticks):
            events = engine.step(Tick(n * 10**9, MARKS, {})).events
        resting.append(tuple(events.loc[events["event"] == "skip", "account"]))
    assert len(set(resting)) == 4
    assert all(5 < len(r) < 60 for r in resting)


def test_cooldown_and_caps_count_over_ticks():
    venue = make_venue(slice_cooldown=10, account_cap=2_000, account_cap_interval=60, market_cap=50_000)
    engine = Engine(make_accounts(venue, 40), venue)
    sold: dict[int, float] = {}
    last: dict[tuple[int, str], int] = {}
    for second in range(0, 60, 4):
        events = engine.step(Tick(second * 10**9, MARKS, thin_books(5.0))).events
        fills = events[events["event"] == "book"]
        worth = fills["lots"].abs() * 0.0001 * fills["market"].map(MARKS).astype(float)
        assert (worth.groupby(fills["market"]).sum() <= 50_000).all()
        for account, market, amount in zip(fills["account"], fills["market"], worth, strict=True):
            assert second - last.get((account, market), -10) >= 10
            last[account, market] = second
            sold[account] = sold.get(account, 0.0) + amount
    assert sold
    assert max(sold.values()) <= 2_000


BOOKS = {BTC: {"bids": [(96_999.0, 1.0)]}}
FRAME = pd.DataFrame({"market": [BTC], "side": ["bid"], "level": [0], "price": [96_999.0], "quantity": [1.0]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"books": [1]}, "must be a mapping by market, a frame or Books"),
        ({"books": {BTC: None}}, "must be a mapping with bids and asks"),
        ({"books": BOOKS, "book_times": [BTC]}, "must be a mapping by market"),
        (
            {"books": FRAME.assign(book_time=pd.Timestamp(0, tz="UTC")), "book_times": {BTC: 0}},
            "must not be combined with a column book_time",
        ),
        (
            {"books": {BTC: {"bids": [(96_999.0, 9e11), (96_998.0, 9e11)]}}},
            "must be worth less than 2**61 quanta",
        ),
    ],
    ids=["books", "book", "book_times", "twice", "too much"],
)
def test_books_that_are_none_are_refused(given, message):
    venue = make_venue()
    engine = Engine(make_accounts(venue, 4), venue)
    before = whole_state(engine)
    with pytest.raises(RiskDataError) as error:
        engine.step(Tick(0, MARKS, **given))
    assert message in str(error.value)
    assert whole_state(engine) == before


def test_a_run_that_would_lack_a_mark_is_refused_before_it_begins():
    """A mark may be held for `stale_after` seconds; a crossed book gives none."""
    venue = make_venue(stale_after=60)
    accounts = make_accounts(venue, 4)
    times = pd.to_datetime(["2026-01-01 00:00", "2026-01-01 00:01", "2026-01-01 00:02"], utc=True)
    rows = [(time, symbol, mark) for time in times for symbol, mark in MARKS.items()]
    marks = pd.DataFrame(rows, columns=["time", "market", "mark_price"])
    late = marks["market"].eq(BTC) & marks["time"].gt(times[0])
    once = marks.assign(mark_price=marks["mark_price"].mask(marks["market"].eq(BTC) & marks["time"].eq(times[1])))
    assert len(read_ticks(venue, accounts, once)) == 3
    gone = marks.assign(mark_price=marks["mark_price"].mask(late))
    with pytest.raises(RiskDataError, match="00:02"):
        read_ticks(venue, accounts, gone)
    crossed = pd.concat([FRAME, FRAME.assign(side="ask", price=96_000.0)]).assign(time=times[2])
    with pytest.raises(RiskDataError, match="00:02"):
        read_ticks(venue, accounts, gone, crossed)
    whole = crossed.assign(price=[96_999.0, 97_001.0])
    assert len(read_ticks(venue, accounts, gone, whole)) == 3


def test_more_lots_than_can_be_counted_are_refused():
    """Each position alone is small enough; all of a market may meet on one side of a book."""
    row = market_row("X", "1", "1", ("0.1", "0"), ("0.05", "0"), impact=None)
    row["filters"]["price"]["maxPrice"] = "1"
    dollar = {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}, "quantum": "1"}
    venue = load_venue({"settle_asset": "USDC", "markets": [row], "collateral": [dollar]})
    positions = pd.DataFrame({"account": range(600), "market": "X_USDC_PERP", "quantity": 4e15, "entry_price": 1e-7})
    balances = pd.DataFrame({"account": range(600), "asset": "USDC", "quantity": 1.0})
    assert len(Accounts.from_frames(venue, positions[:500], balances)) == 600
    with pytest.raises(RiskDataError, match=r"positions.quantity.*less than 2\*\*61 lots"):
        Accounts.from_frames(venue, positions, balances)
