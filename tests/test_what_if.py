"""Questions to a state that stays as it is, against the oracle: fills, transfers, shocks, and the largest orders."""

import copy
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import reference, sample
from tests.comparison import ROUNDING, gross, holdings
from tests.strategies import SETTLE, Scene, decimals, scenes
from tests.test_margin_properties import bits

BTC, ETH, SOL = "BTC_USDC_PERP", "ETH_USDC_PERP", "SOL_USDC_PERP"
MARKS = {BTC: 100_000.0, ETH: 4_000.0, SOL: 200.0}
FILL, TRANSFER = ["account", "market", "quantity", "price"], ["account", "asset", "quantity"]


def others(scene: Scene) -> dict:
    first = scene.ticks[0]
    return {"indexes": first.indexes, "asset_prices": first.asset_prices, "open_interest": first.open_interest}


@st.composite
def changes(draw, scene: Scene):
    """Fills of old and new positions, often several of one, closing and turning them; transfers, also of new assets."""
    ids = sorted({row["account"] for row in scene.balances})
    steps = {m["symbol"]: Decimal(m["filters"]["quantity"]["stepSize"]) for m in scene.source["markets"]}
    held = {(row["account"], row["market"]): row["quantity"] for row in scene.positions}
    fills, transfers = [], []
    for _ in range(draw(st.integers(0, 6))):
        fresh = draw(st.tuples(st.sampled_from(ids), st.sampled_from(list(steps))))
        key = draw(st.sampled_from([*held, fresh]))
        step = steps[key[1]]
        size = Decimal(str(held.get(key, 0))) / step or draw(st.sampled_from([1, 1_000]))
        lots = int(size * draw(st.sampled_from([-1, -1, -2, Decimal("-0.3"), Decimal("-1.7"), 1, Decimal("0.5")])))
        price = scene.ticks[0].marks[key[1]] * float(draw(decimals(90, 110, 2)))
        fee = draw(st.sampled_from([0.0, 1.25, -0.1, 300.0]))
        fills.append((*key, float((lots or 1) * step), price, fee))
        held[key] = float(Decimal(str(held.get(key, 0))) + (lots or 1) * step)
    for _ in range(draw(st.integers(0, 4))):
        asset = draw(st.sampled_from(scene.source["collateral"]))
        worth = draw(st.sampled_from([0, 0.5, 700, 20_000])) * draw(st.sampled_from([-1, 1]))
        price = scene.ticks[0].marks.get(f"{asset['symbol']}_PERP", 1.0)
        transfers.append((draw(st.sampled_from(ids)), asset["symbol"], worth / price))
    columns = [*FILL, "fee"]
    if not draw(st.booleans()):
        fills, columns = [row[:-1] for row in fills], FILL
    return pd.DataFrame(fills, columns=columns), pd.DataFrame(transfers, columns=TRANSFER)


def changed_reference(venue: reference.Venue, state: reference.State, fills, transfers) -> reference.State:
    """The state after fills and transfers, by the rules of Numbers."""
    state = copy.deepcopy(state)
    for account_id, market, quantity, price, *fee in fills.itertuples(index=False):
        account, quantity = state.accounts[account_id], reference.number(quantity)
        change = reference.whole(quantity / venue.markets[market].step_size)
        flow = -reference.rhe(quantity * reference.number(price) / venue.settle_quantum)
        lots, cost, entry = account.positions.get(market, [0, 0, 0])
        paid, paid_entry = (reference.change_of_cost(lots, x, change, flow) for x in (cost, entry))
        account.positions[market] = [lots + change, cost + paid, entry + paid_entry]
        paid_fee = sum(reference.rhe(reference.number(each) / venue.settle_quantum) for each in fee)
        account.balances[venue.settle][0] += flow + paid - paid_fee
    for account_id, asset, quantity in transfers.itertuples(index=False):
        balance = state.accounts[account_id].balances.setdefault(asset, [0, 0])
        balance[0] += reference.rhe(reference.number(quantity) / venue.assets[asset].quantum)
    return state


def assert_same_accounts(accounts: rc.Accounts, venue: reference.Venue, state: reference.State) -> None:
    columns, markets, assets = accounts.columns, list(venue.markets), list(venue.assets)
    assert accounts.ids.tolist() == list(state.accounts)
    unsettled = [account.unsettled["USDC"] for account in state.accounts.values()]
    assert columns.unsettled[columns.settle_row].tolist() == unsettled
    for row, account in enumerate(state.accounts.values()):
        positions = {
            markets[columns.market[i]]: [int(column[i]) for column in (columns.lots, columns.cost, columns.entry)]
            for i in accounts.positions_of(row)
        }
        balances = {
            assets[columns.asset[j]]: [int(columns.free[j]), int(columns.lent[j])] for j in accounts.balances_of(row)
        }
        for i in accounts.positions_of(row):
            resting = [account.open_lots(markets[columns.market[i]], side) for side in ("bid", "ask")]
            assert [int(columns.open_bid[i]), int(columns.open_ask[i])] == resting
        ordered = {order.market for order in account.orders}
        assert set(positions) == set(account.positions) | ordered
        assert positions == {market: [0, 0, 0] for market in ordered} | account.positions
        assert balances == account.balances
        assert int(columns.balance_cost[columns.settle_row[row]]) == sum(cost for _, cost, _ in positions.values())
        assert int(columns.open_orders[row]) == len(account.orders)


def frames_of(venue: reference.Venue, state: reference.State) -> list[pd.DataFrame]:
    """Tables in natural units from which the whole numbers are read back."""
    positions, balances = [], []
    for account_id, account in state.accounts.items():
        for market, (lots, cost, entry) in account.positions.items():
            if lots:
                quantity = lots * venue.markets[market].step_size
                paid = (float(x * venue.settle_quantum / quantity) for x in (entry, cost))
                positions.append((account_id, market, float(quantity), *paid))
        for asset, quanta in account.balances.items():
            balances.append((account_id, asset, *(float(n * venue.assets[asset].quantum) for n in quanta)))
    return [
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price", "settle_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity", "lent"]),
    ]


scenes_and_changes = scenes().flatmap(lambda scene: st.tuples(st.just(scene), changes(scene)))


@settings(max_examples=30)
@given(scenes_and_changes)
def test_fills_and_transfers_equal_the_oracle(drawn):
    """The whole numbers of the oracle, in canonical order; the margins of accounts read anew; nothing is changed."""
    scene, (fills, transfers) = drawn
    venue, accounts = scene.load()
    marks, before = scene.ticks[0].marks, holdings(accounts)
    given_rows = fills.copy(), transfers.copy()
    changed = accounts.with_fills(venue, fills, transfers)
    found = rc.what_if(accounts, venue, marks, fills=fills, transfers=transfers, **others(scene))
    assert holdings(accounts) == before
    assert fills.equals(given_rows[0])
    assert transfers.equals(given_rows[1])

    oracle, state = scene.load_reference()
    state = changed_reference(oracle, state, fills, transfers)
    assert_same_accounts(changed, oracle, state)
    for owner, item in (
        (changed.position_accounts(), changed.columns.market),
        (changed.balance_accounts(), changed.columns.asset),
    ):
        assert (np.diff(owner * 1_000 + item) > 0).all()
    rebuilt = rc.Accounts.from_frames(venue, *frames_of(oracle, state), *scene.frames()[2:])
    assert found.account.tolist() == rebuilt.ids.tolist()
    assert bits(found) == bits(rc.sweep(rebuilt, venue, marks, **others(scene)))


@settings(max_examples=30)
@given(scenes_and_changes)
def test_fills_against_one_another_conserve_lots_and_money(drawn):
    """Of fills in pairs, one buying what the other sells, only the fees leave the accounts."""
    scene, (fills, _) = drawn
    venue, accounts = scene.load()
    oracle = scene.load_reference()[0]
    last = accounts.ids[-1]
    changed = accounts.with_fills(venue, pd.concat([fills, fills.assign(account=last, quantity=-fills["quantity"])]))
    fee = fills["fee"].tolist() if "fee" in fills.columns else []
    paid = 2 * sum(reference.rhe(reference.number(each) / oracle.settle_quantum) for each in fee)
    sums = []
    for state in (accounts, changed):
        columns = state.columns
        lots = np.zeros(len(venue.markets.symbol), np.int64)
        np.add.at(lots, columns.market, columns.lots)
        money = columns.free[columns.settle_row].sum() - columns.balance_cost.sum()
        sums.append((lots.tolist(), int(money)))
    assert sums[1] == (sums[0][0], sums[0][1] - paid)


def test_nothing_changes_nothing():
    venue, accounts = crowd()
    expected = bits(rc.sweep(accounts, venue, MARKS))
    assert bits(rc.what_if(accounts, venue, MARKS)) == expected
    none = {"fills": pd.DataFrame(columns=FILL), "transfers": pd.DataFrame(columns=TRANSFER), "shocks": {}}
    assert bits(rc.what_if(accounts, venue, MARKS, **none)) == expected
    assert bits(rc.what_if(accounts, venue, MARKS, shocks=0.0, threads=2)) == expected
    assert holdings(accounts.with_fills(venue)) == holdings(accounts)


@settings(max_examples=20)
@given(scenes(), decimals(-90, 50, 2).map(float))
def test_a_shock_to_everything_is_a_sweep_at_moved_prices(scene: Scene, shock):
    venue, accounts = scene.load()
    first, factor = scene.ticks[0], 1.0 + shock
    moved = [
        {symbol: price * factor for symbol, price in prices.items()}
        for prices in (first.marks, first.indexes, first.asset_prices)
    ]
    expected = rc.sweep(
        accounts, venue, moved[0], indexes=moved[1], asset_prices=moved[2], open_interest=first.open_interest
    )
    assert bits(rc.what_if(accounts, venue, first.marks, shocks=shock, **others(scene))) == bits(expected)


@settings(max_examples=20)
@given(scenes(), st.data())
def test_a_shock_by_name_is_a_sweep_at_moved_prices(scene: Scene, data):
    """A market takes its index and what follows from it along; an asset with a shock of its own goes its own way."""
    venue, accounts = scene.load()
    first, oracle = scene.ticks[0], scene.load_reference()[0]
    assets = [symbol for symbol in oracle.assets if symbol != SETTLE]
    names = data.draw(st.lists(st.sampled_from([*first.marks, *assets]), unique=True))
    shocks = {name: float(data.draw(decimals(-90, 50, 2).filter(bool))) for name in names}
    marks, indexes = (
        {symbol: price * (1.0 + shocks.get(symbol, 0.0)) for symbol, price in prices.items()}
        for prices in (first.marks, first.indexes)
    )
    own = {
        symbol: float(first.prices().of_asset(oracle, symbol)) * (1.0 + shocks[symbol])
        for symbol in assets
        if symbol in shocks
    }
    expected = rc.sweep(
        accounts, venue, marks, indexes=indexes, asset_prices=first.asset_prices | own,
        open_interest=first.open_interest,
    )  # fmt: skip
    assert bits(rc.what_if(accounts, venue, first.marks, shocks=shocks, **others(scene))) == bits(expected)


def test_shocks_apply_after_fills_and_transfers():
    """One bitcoin bought at 100,000 with 2,000 paid in; after a fall of 10 % the equity is lower by 10,000."""
    venue, accounts = crowd()
    fills = pd.DataFrame([(2, BTC, 1.0, 100_000.0)], columns=FILL)
    transfers = pd.DataFrame([(2, "USDC", 2_000.0)], columns=TRANSFER)
    found = rc.what_if(accounts, venue, MARKS, fills=fills, transfers=transfers, shocks={BTC: -0.1})
    assert found.net_equity.tolist() == [
        rc.sweep(accounts, venue, MARKS | {BTC: 90_000.0}).net_equity[0], 5_000.0 + 2_000.0 - 10_000.0
    ]  # fmt: skip
    assert found.exposure[1] == 90_000.0


def test_a_changed_state_is_its_own():
    """A run on it leaves the first one as it was."""
    venue, accounts = crowd()
    before = holdings(accounts)
    changed = accounts.with_fills(venue, pd.DataFrame([(1, BTC, 9.0, 100_000.0)], columns=FILL))
    events = rc.Engine(changed, venue).step(rc.Tick(0, {symbol: mark * 0.8 for symbol, mark in MARKS.items()})).events
    assert "cancel" in set(events["event"])
    assert holdings(accounts) == before


# ---- The largest orders


def with_order(account: reference.Account, market: str, side: str, lots: int) -> reference.Account:
    order = reference.Order(-1, market, side, Fraction(1), lots, False)
    return replace(account, orders=[*account.orders, order])


@settings(max_examples=40)
@given(scenes(), st.data())
def test_the_largest_order_is_the_largest(scene: Scene, data):
    """With it IMR is under 1, with a lot more it is not, in exact arithmetic; none where IMR is 1 already."""
    venue, accounts = scene.load()
    first = scene.ticks[0]
    oracle, state = scene.load_reference()
    prices = first.prices().at(oracle, state)
    symbol = data.draw(st.sampled_from(list(first.marks)))
    chosen = data.draw(st.none() | st.permutations(list(state.accounts)))
    before = holdings(accounts)
    found = rc.largest_orders(accounts, venue, first.marks, symbol, account=chosen, **others(scene))
    assert holdings(accounts) == before
    assert found["account"].tolist() == (chosen or list(state.accounts))
    assert set(found["market"]) == {symbol}
    step = oracle.markets[symbol].step_size
    for row in found.to_dict("records"):
        account = state.accounts[row["account"]]
        for side in ("bid", "ask"):
            lots = round(reference.number(row[side]) / step)
            assert row[side] == pytest.approx(float(lots * step), rel=1e-15)

            def room(lots, account=account, side=side):
                """Equity less initial margin with such an order, 0 where float64 cannot tell."""
                other = with_order(account, symbol, side, lots) if lots else account
                look = reference.margin(oracle, other, prices)
                left = look.net_equity - look.initial_margin
                assert (left > 0) == (look.imr < 1) or look.exposure == 0
                return left if abs(left) > ROUNDING * (gross(oracle, account, prices) + look.exposure) else 0

            if reference.margin(oracle, account, prices).imr >= 1:
                assert lots == 0 or room(0) == 0
                event("no room")
            elif lots:
                assert room(lots) >= 0
                event("an order")
            assert room(lots + 1) <= 0


def test_the_largest_orders_by_hand():
    """Equity 5,000, IMF 2 %: 250,000 of exposure, and an order that closes a position needs nothing of it."""
    source = sample.venue_source([9])
    for row in source["markets"]:
        row["imfFunction"] = {"type": "sqrt", "base": "0.02", "factor": "0"}
    venue = rc.load_venue(source)
    positions = pd.DataFrame(
        [(2, ETH, 10.0, 4_000.0), (3, ETH, -10.0, 4_000.0), (4, ETH, 70.0, 4_000.0)],
        columns=["account", "market", "quantity", "entry_price"],
    )
    cash = [5_000.0] * 4 + [-4_000.0, 0.0]
    balances = pd.DataFrame({"account": [1, 2, 3, 4, 5, 9], "asset": "USDC", "quantity": cash})
    orders = pd.DataFrame([(3, ETH, "bid", 4_000.0, 15.0)], columns=["account", "market", "side", "price", "quantity"])
    limits = pd.DataFrame({"account": [1, 5], "leverage_limit": [8.0, 4.0], "unsettled": [0.0, 9_000.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances, orders, limits)
    found = rc.largest_orders(accounts, venue, MARKS, ETH)
    assert found.to_dict("list") == {
        "account": [1, 2, 3, 4, 5, 9],
        "market": [ETH] * 6,
        # under 40,000 with a leverage of 8, under 20,000 with one of 4 and a debt of 4,000 among it; else under 62.5
        # coins to either side of zero
        "bid": pytest.approx([9.9999, 52.4999, 57.4999, 0.0, 3.9999, 0.0]),
        "ask": pytest.approx([9.9999, 72.4999, 52.4999, 0.0, 3.9999, 0.0]),
    }
    again = rc.largest_orders(accounts, venue, MARKS, ETH, account=[3, 1])
    assert again.equals(found.iloc[[2, 0]].reset_index(drop=True))


def test_open_interest_asks_more():
    """20,000 of the way from 0 to 100,000: a fifth of the way from 2 % to 100 %."""
    source = sample.venue_source([])
    source["markets"][1]["imfFunction"] = {"type": "open_interest", "base": "0.02", "lower": "0", "upper": "100000"}
    venue = rc.load_venue(source)
    positions = pd.DataFrame({"account": [2], "market": [ETH], "quantity": [5.0], "entry_price": [4_000.0]})
    balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [5_000.0, 20_000.0]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    asked = rc.largest_orders(accounts, venue, MARKS, ETH, account=[1])
    assert asked["bid"].item() == math.floor(5_000 / (0.02 + 0.98 / 5) / 4_000 * 1e4) / 1e4
    asked = rc.largest_orders(accounts, venue, MARKS, ETH, account=[1], open_interest={ETH: 0.0})
    assert asked["bid"].item() == pytest.approx(62.4999)


def test_whole_tiers_step_up():
    """2 % up to 50,000, above it 10 % of the whole: with 4,000 of equity the order ends at the bracket."""
    source = sample.venue_source([])
    brackets = [{"from": "0", "rate": "0.02"}, {"from": "50000", "rate": "0.1"}]
    source["markets"][1]["imfFunction"] = {"type": "tiers", "brackets": brackets, "whole": True}
    source["markets"][1]["mmfFunction"]["factor"] = "0"
    venue = rc.load_venue(source)
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [1, 2], "asset": "USDC", "quantity": [4_000.0, 6_000.0]})
    found = rc.largest_orders(rc.Accounts.from_frames(venue, positions, balances), venue, MARKS, ETH)
    assert found["bid"].tolist() == pytest.approx([12.5, 14.9999])


# ---- Errors


def crowd():
    """Two accounts: one with positions, collateral and an order, one with 5,000 USDC."""
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame(
        {"account": [1, 1], "market": [BTC, SOL], "quantity": [1.0, -30.0], "entry_price": [99_000.0, 201.0]}
    )
    balances = pd.DataFrame(
        {"account": [1, 1, 2], "asset": ["USDC", "SOL", "USDC"], "quantity": [8_000.0, 40.0, 5_000.0]}
    )
    orders = pd.DataFrame({"account": [1], "market": [ETH], "side": ["ask"], "price": [4_100.0], "quantity": [2.0]})
    return venue, rc.Accounts.from_frames(venue, positions, balances, orders)


def beginner():
    """One account with one USDC."""
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [2], "asset": ["USDC"], "quantity": [1.0]})
    return venue, rc.Accounts.from_frames(venue, positions, balances)


GOOD_FILL, GOOD_TRANSFER = (1, BTC, 0.5, 100_000.0), (2, "SOL", 3.0)
LOT = "must be a whole number of lots of the market's stepSize (0.00001)"


@pytest.mark.parametrize(
    ("fill", "error"),
    [
        ((7, BTC, 1.0, 1e5), "fills.account, row 1, value '7': must be an account of the state"),
        ((1, "BTC", 1.0, 1e5), "fills.market, row 1, value 'BTC': must be a market of the venue"),
        ((1, BTC, 0.0, 1e5), "fills.quantity, row 1, value 0.0: must not be 0"),
        ((1, BTC, 0.000015, 1e5), f"fills.quantity, row 1, value 1.5e-05: {LOT}"),
        ((1, BTC, np.inf, 1e5), "fills.quantity, row 1, value inf: must be a finite number"),
        ((1, BTC, 1.0, 0.0), "fills.price, row 1, value 0.0: must be a finite number > 0"),
        ((1, BTC, 1.0, 1e5, np.inf), "fills.fee, row 1, value inf: must be a finite number"),
        ((1, BTC, 1.0, 1e5, np.nan), "fills.fee, row 1, value nan: must not be missing"),
        ((1, BTC, 1.0, 1e5, 1e16), "fills.fee, row 1, value 1e+16: must be less than 2**62 quanta"),
    ],
)
def test_bad_fills(fill, error):
    venue, accounts = crowd()
    fills = pd.DataFrame([(*GOOD_FILL, 0.5)[: len(fill)], fill], columns=[*FILL, "fee"][: len(fill)])
    for ask in (rc.Accounts.with_fills, lambda *state: rc.what_if(*state[:2], MARKS, fills=state[2])):
        with pytest.raises(rc.RiskDataError) as caught:
            ask(accounts, venue, fills)
        assert str(caught.value) == error


@pytest.mark.parametrize(
    ("transfer", "error"),
    [
        ((7, "SOL", 1.0), "transfers.account, row 1, value '7': must be an account of the state"),
        ((1, "DOGE", 1.0), "transfers.asset, row 1, value 'DOGE': must be a collateral asset of the venue"),
        ((1, "SOL", np.nan), "transfers.quantity, row 1, value nan: must not be missing"),
    ],
)
def test_bad_transfers(transfer, error):
    venue, accounts = crowd()
    transfers = pd.DataFrame([GOOD_TRANSFER, transfer], columns=TRANSFER)
    with pytest.raises(rc.RiskDataError) as caught:
        rc.what_if(accounts, venue, MARKS, transfers=transfers)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("shocks", "error"),
    [
        ({"DOGE": 0.1}, "shocks.DOGE, value 0.1: must be a market or a collateral asset of the venue"),
        ({"USDC": 0.1}, "shocks.USDC: must not be the settle asset: it is worth 1"),
        ({BTC: "much"}, "shocks.BTC_USDC_PERP, value 'much': must be a number"),
        ([0.1], "shocks: must be a mapping or a Series by symbol, not list"),
        (100.0, "marks.BTC_USDC_PERP, value 10100000.0: must be at most the market's maxPrice"),
        ({BTC: -1.0}, "shocks.BTC_USDC_PERP, value -1.0: must be a finite number > -1"),
        ({"SOL": np.nan}, "shocks.SOL, value nan: must be a finite number > -1"),
        (-2.5, "shocks.BTC_USDC_PERP, value -2.5: must be a finite number > -1"),
        (np.inf, "shocks.BTC_USDC_PERP, value inf: must be a finite number > -1"),
    ],
)
def test_bad_shocks(shocks, error):
    venue, accounts = crowd()
    with pytest.raises(rc.RiskDataError) as caught:
        rc.what_if(accounts, venue, MARKS, shocks=shocks)
    assert str(caught.value) == error


def test_what_is_new_needs_a_price():
    venue, accounts = beginner()
    fills = pd.DataFrame([(2, ETH, 1.0, 4_000.0)], columns=FILL)
    assert rc.what_if(accounts, venue, {}).exposure[0] == 0
    with pytest.raises(rc.RiskDataError) as caught:
        rc.what_if(accounts, venue, {}, fills=fills)
    assert str(caught.value) == "marks.ETH_USDC_PERP: an account holds it: a mark is needed"


@pytest.mark.parametrize(
    ("market", "account", "marks", "error"),
    [
        ("DOGE_USDC_PERP", None, MARKS, "largest_orders.market, value 'DOGE_USDC_PERP': must be a market of the venue"),
        (ETH, [2], {BTC: 1e5, SOL: 200.0}, "marks.ETH_USDC_PERP: the order needs a mark"),
        (ETH, [2, 7], MARKS, "largest_orders.account, row 1, value '7': must be an account of the state"),
    ],
)
def test_bad_questions_for_an_order(market, account, marks, error):
    venue, accounts = beginner()
    with pytest.raises(rc.RiskDataError) as caught:
        rc.largest_orders(accounts, venue, marks, market, account=account)
    assert str(caught.value) == error


def test_a_shock_of_zero_keeps_an_asset_where_it_is():
    """An asset moves with the market that it takes its price from, unless it has a shock of its own."""
    venue, accounts = beginner()
    coins = pd.DataFrame([(2, "SOL", 3.0)], columns=["account", "asset", "quantity"])
    accounts = accounts.with_fills(venue, transfers=coins)
    fall, prices = {SOL: -0.5}, {"SOL": 200.0}
    held = rc.what_if(accounts, venue, MARKS, shocks=fall | {"SOL": 0.0})
    np.testing.assert_array_equal(
        held.net_equity, rc.sweep(accounts, venue, MARKS | {SOL: 100.0}, asset_prices=prices).net_equity
    )
    moved = rc.what_if(accounts, venue, MARKS, shocks=pd.Series(fall))
    np.testing.assert_array_equal(moved.net_equity, rc.sweep(accounts, venue, MARKS | {SOL: 100.0}).net_equity)
    assert (held.net_equity != moved.net_equity).any()


@pytest.mark.parametrize(
    "asked",
    [
        {"fills": pd.DataFrame([(2, BTC, -4e7, 1e5)] * 3, columns=["account", "market", "quantity", "price"])},
        {"fills": pd.DataFrame([(2, BTC, -1.0, 1e12)] * 3, columns=["account", "market", "quantity", "price"])},
        {"fills": pd.DataFrame([(2, BTC, -1.0, 1e5, 4e11)] * 3, columns=[*FILL, "fee"])},
        {"transfers": pd.DataFrame([(2, "USDC", 4e11)] * 3, columns=["account", "asset", "quantity"])},
    ],
)
def test_amounts_past_64_bits_are_refused(asked):
    venue, accounts = beginner()
    rule = r"^(fills|transfers)\.(price|quantity|fee), row 0, value .*: the resulting holdings and costs must be less"
    with pytest.raises(rc.RiskDataError, match=rule):
        rc.what_if(accounts, venue, MARKS, **asked)
