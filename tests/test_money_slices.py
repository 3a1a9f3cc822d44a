"""Slices, liquidation prices and largest orders of several settle assets and of inverse contracts, by exact margins."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore.kernels._jit import kernel
from riskcore.kernels.margin import LIQUIDATING
from riskcore.kernels.margin_model import fill_effect
from riskcore.margin import exact
from riskcore.market import Prices
from tests import money_venues as mv
from tests.money_venues import BTC, ETH, IBTC

WEIGHTS = ["0", "0.5", "0.95", "1"]
PRICES = {**mv.ASSET_PRICES, "BTC": 100_000.0}


def surplus(venue, accounts, prices, account=0) -> Fraction:
    """Target times net equity less maintenance margin, settle quanta."""
    margin = exact.account_margin(accounts, account, prices)
    return (venue.policy.target_mmr * Fraction(margin.equity) - Fraction(margin.maintenance)) / venue.settle_quantum


def amount_of(venue, m: int, lots: int, levels) -> int:
    """Signed quanta of the settle asset that lots are worth at a book's levels."""
    markets, left, ticks, quanta = venue.markets, lots, 0, 0
    quantum = venue.assets.quantum[markets.settle[m]]
    for price, available in levels:
        taken = min(left, available)
        left, ticks = left - taken, ticks + taken * price
        if markets.inverse[m] and taken:
            quanta += round(taken * markets.lot_value(m, price * markets.tick[m]) / quantum)
    assert not left
    return quanta if markets.inverse[m] else round(ticks * markets.lot_value(m, markets.tick[m]) / quantum)


def booked(accounts, row: int, lots: int, value: int, rate: Fraction) -> rc.Accounts:
    """The accounts once lots of a position are closed for signed quanta of its settle asset, and their fee is paid."""
    after = accounts.copy()
    columns, side = after.columns, 1 if accounts.columns.lots[row] > 0 else -1
    balance = columns.position_balance[row]
    released = round(Fraction(int(columns.cost[row]) * lots, abs(int(columns.lots[row]))))
    columns.lots[row] -= side * lots
    columns.cost[row] -= released
    columns.balance_cost[balance] -= released
    columns.free[balance] += side * value - released - round(abs(value) * rate)
    return after


@kernel
def effect(account, p, lots, value, fee, state, prices, out):
    out[0], out[1] = fill_effect(account, p, lots, value, fee, state, prices)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(WEIGHTS), st.data())
def test_the_effect_of_a_fill_is_the_change_of_the_exact_margin(seed, weight, data):
    venue, accounts = mv.accounts(4, seed, weight=weight)
    prices = Prices.read(venue, accounts, mv.MARKS, asset_prices=PRICES)
    columns, owner = accounts.columns, accounts.position_accounts()
    row = data.draw(st.sampled_from(np.flatnonzero(columns.lots).tolist()))
    m, held, account = int(columns.market[row]), int(columns.lots[row]), int(owner[row])
    lots, rate = data.draw(st.integers(1, abs(held))), data.draw(st.sampled_from(["0", "0.001", "0.01"]))
    quantum = venue.assets.quantum[venue.markets.settle[m]]
    price = Fraction(mv.MARKS[venue.markets.symbol[m]]) * data.draw(st.integers(97, 103)) / 100
    value = round(lots * venue.markets.lot_value(m, price) / quantum)
    found = np.empty(2)
    effect(account, row, lots, float(abs(value)), float(rate), columns, prices.arrays, found)
    before = exact.account_margin(accounts, account, prices)
    after = exact.account_margin(booked(accounts, row, lots, value, Fraction(rate)), account, prices)
    event(venue.markets.symbol[m])
    unit = float(venue.settle_quantum)
    rounding = 3 * prices.arrays.price_per_quantum[venue.markets.settle[m]]  # cost and fee are booked in whole quanta
    scale = float(before.exposure) / unit * 1e-11 + rounding
    assert found[0] == pytest.approx(float(before.equity - after.equity) / unit, abs=scale)
    assert found[1] == pytest.approx(float(before.maintenance - after.maintenance) / unit, abs=scale)


# ---- Slices of the engine


@st.composite
def cases(draw):
    """A liquidating account without borrows, and a tick."""
    policy = {
        "slice_probability": 1, "min_slice_notional": 0, "harmful_slice": "send", "acmf_divisor": 100,
        "acmf_offset": "0.3", "mark_index_threshold": "0.9", "slice_fraction": draw(st.sampled_from(["0.3", 1])),
        "liquidation_fee": draw(st.sampled_from(["0", "0.001"])), "target_mmr": draw(st.sampled_from(["0.9", 1])),
        "position_order": draw(st.sampled_from(["relief", "largest"])),
    }  # fmt: skip
    venue = mv.venue(weight=draw(st.sampled_from(WEIGHTS[1:])), **policy)
    held = draw(st.lists(st.sampled_from([BTC, ETH, IBTC]), min_size=1, max_size=3, unique=True))
    positions, notional = [], 0.0
    for market in held:
        size = draw(st.floats(2_000, 60_000))
        quantity = round(size / {BTC: 100_000.0, ETH: 4_000.0, IBTC: 100.0}[market], {BTC: 3, ETH: 2, IBTC: 0}[market])
        entry = round(mv.MARKS[market] * draw(st.floats(0.999, 1.001)), 0)
        positions.append((1, market, draw(st.sampled_from([-1, 1])) * quantity, entry))
        notional += size
    others = {"USDT": draw(st.floats(0, 0.3)), "BTC": draw(st.floats(0, 0.3))}
    quantities = {a: round(part * notional * 0.01 / PRICES[a], 6) for a, part in others.items()}

    def accounts(cash: float) -> rc.Accounts:
        money = pd.DataFrame([(1, "USDC", cash), *((1, a, q) for a, q in quantities.items())])
        table = pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"])
        return rc.Accounts.from_frames(venue, table, money.set_axis(["account", "asset", "quantity"], axis=1))

    margin = exact.account_margin(accounts(0.0), 0, Prices.read(venue, accounts(0.0), mv.MARKS, asset_prices=PRICES))
    cash = float(margin.maintenance) / draw(st.floats(1.01, 1.6)) - float(margin.equity)
    assume(cash > 0)
    tick = mv.ticks(1, draw(st.integers(0, 2**32)), depth=draw(st.sampled_from([2e3, 2e5])))[0]
    tick = rc.Tick(mv.START, mv.MARKS, tick.books, None, PRICES)
    return venue, accounts(round(cash, 6)), tick


def levels_of(venue, tick, m: int, long: bool):
    side = tick.books[venue.markets.symbol[m]]["bids" if long else "asks"]
    tick_size, step = venue.markets.tick[m], venue.markets.step[m]
    return [(round(Fraction(str(p)) / tick_size), round(Fraction(str(q)) / step)) for p, q in side]


@settings(max_examples=50)
@given(cases())
def test_slices_in_the_settle_asset_of_their_market(case):
    """Each fill brings its book's money in its own asset; with one lot less the target would not have been restored."""
    venue, accounts, tick = case
    engine = rc.Engine(accounts, venue)
    prices, state, rate = Prices.of_tick(venue, accounts, tick), accounts.copy(), venue.policy.liquidation_fee
    rows = {int(m): row for row, m in enumerate(accounts.columns.market.tolist())}
    tolerance = Fraction(4 * float(max(prices.arrays.price_per_quantum)))  # costs and fees are booked in whole quanta
    result = engine.step(tick)
    for each in result.raw_events[result.raw_events["event"] == "book"].itertuples():
        m = venue.markets.row[each.market]
        row, lots, held = rows[m], abs(each.lots), int(state.columns.lots[rows[m]])
        levels, before = levels_of(venue, tick, m, held > 0), surplus(venue, state, prices)
        one_less = state
        if lots > 1:
            one_less = booked(state, row, lots - 1, amount_of(venue, m, lots - 1, levels), rate)
        state = booked(state, row, lots, amount_of(venue, m, lots, levels), rate)
        assert before <= tolerance
        assert surplus(venue, one_less, prices) <= tolerance, "the slice goes past what restores"
        if each.requested == lots < max(floor(abs(held) * venue.policy.slice_fraction), 1):
            assert surplus(venue, state, prices) > -tolerance, "the slice was cut and does not restore"
            event(f"restored by {each.market}")
        event(each.market)
    if result.raw_events["event"].isin(["trigger", "book", "expire", "harm"]).all():
        for name in ("lots", "cost", "free", "balance_cost"):
            assert getattr(state.columns, name).tolist() == getattr(engine.accounts.columns, name).tolist()


@pytest.mark.parametrize(
    ("bids", "rate", "paid", "fee"),
    [
        # 100 / 40,000 + 2 * 100 / 32,000 = 0.00875 BTC; the loss of 50 USD leaves no equity for a fee
        ([(40_000.0, 1.0), (32_000.0, 9.0)], "0.01", 875_000, 0),
        # 2 * 100 / 40,000 + 100 / 39,062.5 = 0.00756 BTC; the loss of 2.4 USD leaves 0.6 USD, 0.000015 BTC
        ([(40_000.0, 2.0), (39_062.5, 9.0)], "0.001", 756_000, 756),
        ([(40_000.0, 2.0), (39_062.5, 9.0)], "0.01", 756_000, 1_499),
    ],
    ids=["no equity", "whole fee", "cut fee"],
)
def test_a_slice_of_an_inverse_market_by_hand(bids, rate, paid, fee):
    """Long 3 contracts of 100 USD from 50,000, sold at two levels; the fee takes no more than the equity left."""
    venue = mv.venue(
        slice_probability=1, slice_fraction=1, min_slice_notional=0, liquidation_fee=rate, acmf_divisor=100,
        acmf_offset="0.3", target_mmr="0.01", harmful_slice="send", mark_index_threshold="0.9",
    )  # fmt: skip
    positions = pd.DataFrame({"account": [1], "market": [IBTC], "quantity": [3.0], "entry_price": [50_000.0]})
    balances = pd.DataFrame({"account": [1, 1], "asset": ["BTC", "USDC"], "quantity": [0.0015, 3.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    assert accounts.columns.cost.tolist() == [-600_000]  # 3 * 100 / 50,000 BTC, of 1e-8 BTC
    book = {"bids": bids, "asks": []}
    marks = {IBTC: 40_000.0}
    assets = {"BTC": 40_000.0, "USDT": 1.0, "SOL": 200.0}
    prices = Prices.read(venue, accounts, marks, asset_prices=assets)
    margin = exact.account_margin(accounts, 0, prices)
    # 0.0015 + 3 * 100 * (1 / 50,000 - 1 / 40,000) = 0 BTC, and 3 USDC; 1 % of 300 USD
    assert (float(margin.equity), float(margin.maintenance), margin.status) == (3.0, 3.0, LIQUIDATING)
    engine = rc.Engine(accounts, venue)
    row = engine.step(rc.Tick(0, marks, {IBTC: book}, None, assets)).raw_events.query("event == 'book'").iloc[0]
    # 0.006 of the BTC paid are the cost
    assert (row["lots"], row["cost"], row["cash"], row["fee"]) == (-3, 600_000, 600_000 - paid, fee)
    assert (row["settle"], row["counter_cash"]) == ("BTC", paid)


# ---- Liquidation prices and largest orders


def coin_venue(rate: str) -> rc.Venue:
    """A venue that settles in BTC, with one inverse market of 1 USD a contract."""
    row = rc.sample.market_row("BTC", "0.5", "1", (rate, "0"), (rate, "0"), impact=None)
    row |= {"symbol": IBTC, "quoteSymbol": "USD", "marketType": "IPERP"}
    coin = {"symbol": "BTC", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}, "quantum": "1e-8"}
    return rc.load_venue({"settle_asset": "BTC", "markets": [row], "collateral": [coin]})


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("leverage", "rate"), [(2, "0.005"), (10, "0.005"), (25, "0.01"), (1.5, "0.02")])
def test_the_closed_form_of_a_coin_margined_position(side, leverage, rate):
    """Equity `C + n c (1/e - 1/P)`, margin `r |n| c / P`: `P = n c (1 + r) / (C + n c / e)` of a long position.

    With `C = |n| c / (e L)` this is `e L (1 + r) / (L + 1)`: the bankruptcy price `e L / (L + 1)` that venues of
    inverse contracts publish, moved by the maintenance margin; of a short position `e L (1 - r) / (L - 1)`.
    """
    venue, contracts, entry = coin_venue(rate), 1_000_000, 50_000.0
    coins = contracts / entry / leverage
    positions = pd.DataFrame({"account": [1], "market": IBTC, "quantity": [side * contracts], "entry_price": entry})
    balances = pd.DataFrame({"account": [1], "asset": "BTC", "quantity": [round(coins, 8)]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    expected = entry * leverage * (1 + side * float(rate)) / (leverage + side)
    for mark in (50_000.0, 49_000.0, 51_000.0):
        found = rc.liquidation_prices(accounts, venue, {IBTC: mark}).liquidation_price
        assert found.item() == pytest.approx(expected, rel=1e-8)
    for part, safe in ((1 + side * 1e-6, True), (1 - side * 1e-6, False)):
        assert (rc.sweep(accounts, venue, {IBTC: expected * part}).status[0] == 0) == safe


def test_a_short_position_of_the_value_of_the_coins_has_no_liquidation_price():
    """Its value in USD is the same at every price."""
    venue = coin_venue("0.005")
    positions = pd.DataFrame({"account": [1], "market": IBTC, "quantity": [-50_000.0], "entry_price": 50_000.0})
    accounts = rc.Accounts.from_frames(
        venue, positions, pd.DataFrame({"account": [1], "asset": "BTC", "quantity": [1.0]})
    )
    assert np.isnan(rc.liquidation_prices(accounts, venue, {IBTC: 40_000.0}).liquidation_price.item())


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(WEIGHTS))
def test_liquidation_prices_are_roots_of_the_exact_margin(seed, weight):
    venue, accounts = mv.accounts(3, seed, weight=weight)
    prices = Prices.read(venue, accounts, mv.MARKS, asset_prices=PRICES)
    found = rc.liquidation_prices(accounts, venue, mv.MARKS, asset_prices=PRICES)
    rows = np.flatnonzero(accounts.columns.lots)

    def at(row: int, mark: float) -> tuple[Fraction, float]:
        marks = prices.mark.copy()
        marks[accounts.columns.market[row]] = mark
        moved = replace(prices, mark=marks)
        account = int(accounts.position_accounts()[row])
        margin = exact.account_margin(accounts, account, moved)
        missing = Fraction(margin.equity) - Fraction(margin.maintenance)
        return missing, float(margin.exposure) + abs(float(margin.equity))

    for row, market, price in zip(rows.tolist(), found.market, found.liquidation_price.tolist(), strict=True):
        if price == price and mv.MARKS[market] / 1e6 < price < mv.MARKS[market] * 1e6:
            missing, scale = at(row, price)
            event(f"{market} has a price")
            assert abs(float(missing)) <= 1e-9 * scale
        elif price != price:
            event(f"{market} has none")
            signs = {at(row, mv.MARKS[market] * part)[0] > 0 for part in (0.02, 0.3, 1.0, 3.0, 50.0)}
            assert len(signs) == 1


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(WEIGHTS), st.sampled_from([BTC, ETH, IBTC]))
def test_the_largest_order_is_the_last_that_the_exact_margin_allows(seed, weight, market):
    venue, accounts = mv.accounts(4, seed, weight=weight)
    prices = Prices.read(venue, accounts, mv.MARKS, asset_prices=PRICES)
    orders = rc.largest_orders(accounts, venue, mv.MARKS, market, asset_prices=PRICES)
    m, state = venue.markets.row[market], accounts.copy()
    columns = state.columns
    for account in range(len(accounts)):
        row = next((i for i in accounts.positions_of(account) if columns.market[i] == m), None)
        if row is None:
            continue
        for name, column in (("bid", columns.open_bid), ("ask", columns.open_ask)):
            lots, before = round(orders[name][account] / float(venue.markets.step[m])), int(column[row])
            many = int(columns.open_orders[account])
            for more, fits in ((lots, lots > 0), (lots + 1, False)):
                column[row], columns.open_orders[account] = before + more, max(many, 1)
                if fits or more > lots:
                    assert exact.covers_initial_margin(state, account, prices) == fits
            column[row], columns.open_orders[account] = before, many


@pytest.mark.parametrize("position_order", ["relief", "largest", "pro_rata"])
@pytest.mark.parametrize("account_order", ["mmr", "pro_rata"])
def test_many_accounts_share_the_books_of_every_contract(account_order, position_order):
    """The money of all fills of a side is what its book pays, level by level; the engine checks the rest itself."""
    policy = {"slice_probability": 1, "min_slice_notional": 0, "account_order": account_order, "realize_interval": 60}
    venue, accounts = mv.accounts(60, 5, mv.PROVIDERS, position_order=position_order, acmf_divisor=20, **policy)
    engine, filled = rc.Engine(accounts, venue, check_screen=True), set()
    for tick in mv.ticks(4, 5, -0.02, depth=2e4):
        rows = engine.step(tick).raw_events.query("event == 'book'")
        for (market, long), fills in rows.groupby(["market", rows["lots"] < 0]):
            m, lots = venue.markets.row[market], int(fills["lots"].abs().sum())
            paid = int((fills["cash"] - fills["cost"]).sum()) * (1 if long else -1)
            whole = amount_of(venue, m, lots, levels_of(venue, tick, m, bool(long)))
            # each fill alone is rounded by itself, and a level that two quotes share is rounded in parts
            assert abs(paid - whole) <= len(fills) + 8
            filled.add(market)
    assert filled == set(mv.MARKS)


def test_an_inverse_market_whose_values_could_overflow_is_refused():
    source = mv.source()
    source["markets"][2]["filters"]["price"] = {"tickSize": "1.000003"}
    with pytest.raises(rc.RiskDataError, match=r"must be below 2\*\*62"):
        rc.load_venue(source)
