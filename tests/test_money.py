"""Several settle assets and inverse contracts: an oracle in fractions, written from the rules, against the engine.

The oracle reads the venue file and the tables in natural units and shares no code with riskcore.
"""

from __future__ import annotations

import copy
import json
from decimal import Decimal, localcontext
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore.kernels.margin import DOUBT, DOUBT_BAND, LIQUIDATING, SAFE
from riskcore.kernels.margin_model import account_statuses
from riskcore.margin import exact, margins_of
from riskcore.market import Prices, asset_values
from tests import money_venues as mv
from tests.money_venues import BTC, ETH, IBTC

# ----------------------------------------------------------------------------------------------------------- the oracle


def number(value: Any) -> Fraction:
    return Fraction(str(value))


def root(value: Fraction) -> Fraction:
    with localcontext() as context:
        context.prec = 50
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


class Oracle:
    """A venue file, by symbol."""

    def __init__(self, source: dict[str, Any]) -> None:
        self.settle = source["settle_asset"]
        self.by_notional = source["policy"].get("haircut_size_unit", "notional") == "notional"
        self.assets = {row["symbol"]: row for row in source["collateral"]}
        self.markets = {row["symbol"]: row for row in source["markets"] if row["marketType"] in ("PERP", "IPERP")}

    def settle_of(self, market: str) -> str:
        row = self.markets[market]
        return row["baseSymbol"] if row["marketType"] == "IPERP" else row["quoteSymbol"]

    def quantum(self, asset: str) -> Fraction:
        return number(self.assets[asset]["quantum"])

    def value(self, market: str, lots: int, price: Fraction) -> Fraction:
        """Units of the market's settle asset."""
        row = self.markets[market]
        size = lots * number(row["filters"]["quantity"]["stepSize"]) * number(row.get("multiplier", 1))
        return -size / price if row["marketType"] == "IPERP" else size * price

    def quanta(self, market: str, lots: int, price: Fraction) -> int:
        """Quanta that lots cost: rounded once, half to even."""
        return round(self.value(market, lots, price) / self.quantum(self.settle_of(market)))

    def lots(self, market: str, quantity: Any) -> int:
        lots = number(quantity) / number(self.markets[market]["filters"]["quantity"]["stepSize"])
        assert lots.denominator == 1
        return int(lots)

    def weight(self, asset: str, quantity: Fraction, price: Fraction) -> Fraction:
        function = self.assets[asset]["haircutFunction"]
        if function["kind"]["type"] == "identity":
            return number(function["weight"])
        size = quantity * price if self.by_notional else quantity
        kind = function["kind"]
        part = number(kind["base"]) / (1 + number(kind["positiveCurvePenalty"]) * root(size))
        return min(number(function["weight"]), part)

    def margin(self, which: str, item: str, notional: Fraction, token: Fraction = Fraction(1)) -> Fraction:
        """Requirement of a notional, whose token quantity is worth ``token`` a unit."""
        if not notional:
            return Fraction(0)
        if item in self.markets:
            function = self.markets[item][f"{which}Function"]
            size = notional / token if function.get("unit") == "quantity" else notional
            return notional * max(number(function["base"]), number(function["factor"]) * root(size))
        base = Fraction(1, 10) if item == self.settle else Fraction(1, 5)
        return notional * (base if which == "imf" else base / 2)


class State:
    """Positions {market: [lots, cost, entry]}, balances {asset: [free, lent, unsettled]}, orders of one account."""

    def __init__(self, oracle: Oracle, tables: dict[str, pd.DataFrame], account: int) -> None:
        self.oracle = oracle
        own = {name: frame[frame["account"] == account].to_dict("records") for name, frame in tables.items()}
        self.positions, self.orders = {}, own["orders"]
        for row in own["positions"]:
            lots = oracle.lots(row["market"], row["quantity"])
            cost = oracle.quanta(row["market"], lots, number(row["entry_price"]))
            self.positions[row["market"]] = [lots, cost, cost]
        self.balances = {oracle.settle: [0, 0, 0]}
        for row in own["balances"]:
            quanta = [round(number(row[name]) / oracle.quantum(row["asset"])) for name in ("quantity", "lent")]
            self.balances[row["asset"]] = [*quanta, 0]
        self.limit = inf
        for row in own["settings"]:
            self.limit = row["leverage_limit"] if row["leverage_limit"] == row["leverage_limit"] else inf
            self.balances[oracle.settle][2] = round(number(row["unsettled"]) / oracle.quantum(oracle.settle))

    def fill(self, market: str, quantity: Any, price: Any, fee: Any) -> None:
        oracle, change = self.oracle, self.oracle.lots(market, quantity)
        settle = oracle.settle_of(market)
        position = self.positions.setdefault(market, [0, 0, 0])
        balance = self.balances.setdefault(settle, [0, 0, 0])
        lots, paid = position[0], oracle.quanta(market, change, number(price))
        after = lots + change
        for n in (1, 2):
            before = position[n]
            if lots * change >= 0:
                position[n] = before + paid
            elif lots * after >= 0:
                position[n] = before - round(Fraction(before * abs(change), abs(lots)))
            else:
                position[n] = round(Fraction(paid * abs(after), abs(change)))
            if n == 1:
                balance[0] += position[n] - before - paid
        position[0] = after
        balance[0] -= round(number(fee) / oracle.quantum(settle))

    def transfer(self, asset: str, quantity: Any) -> None:
        self.balances.setdefault(asset, [0, 0, 0])[0] += round(number(quantity) / self.oracle.quantum(asset))

    def margin(self, marks: dict[str, Fraction], prices: dict[str, Fraction]) -> dict[str, Fraction]:
        """Net equity, exposure and both margins at marks and prices of assets."""
        oracle, total = (
            self.oracle,
            dict.fromkeys(("equity", "exposure", "initial", "maintenance", "gross"), Fraction(0)),
        )
        profit = dict.fromkeys(self.balances, Fraction(0))
        fraction = 0 if self.limit == inf else 1 / number(self.limit)
        for market, (lots, cost, _) in self.positions.items():
            settle = oracle.settle_of(market)
            profit[settle] = profit.get(settle, Fraction(0)) + oracle.value(market, lots, marks[market])
            profit[settle] -= cost * oracle.quantum(settle)
            sides = {
                side: sum(
                    oracle.lots(market, row["quantity"])
                    for row in self.orders
                    if (row["market"], row["side"]) == (market, side)
                )
                for side in ("bid", "ask")
            }
            per_lot = abs(oracle.value(market, 1, marks[market])) * prices[settle]
            token = prices[settle] * (1 if oracle.markets[market]["marketType"] == "IPERP" else marks[market])
            worst = max(abs(lots), abs(lots + sides["bid"]), abs(lots - sides["ask"])) * per_lot
            total["exposure"] += worst
            total["initial"] += max(oracle.margin("imf", market, worst, token), worst * fraction)
            total["maintenance"] += oracle.margin("mmf", market, abs(lots) * per_lot, token)
            total["gross"] += abs(lots) * per_lot + abs(cost) * oracle.quantum(settle) * prices[settle]
        money = {oracle.settle} | {oracle.settle_of(market) for market in oracle.markets}
        for asset in self.balances.keys() | profit.keys():
            free, lent, unsettled = self.balances.get(asset, (0, 0, 0))
            quantum, price = oracle.quantum(asset), prices[asset]
            owed = max(-free, 0) * quantum * price
            total["equity"] -= owed
            total["exposure"] += owed
            total["initial"] += oracle.margin("imf", asset, owed)
            total["maintenance"] += oracle.margin("mmf", asset, owed)
            held = (max(free, 0) + lent) * quantum
            other = profit.get(asset, 0) + unsettled * quantum
            total["gross"] += owed + held * price + abs(unsettled) * quantum * price
            if asset in money and asset != oracle.settle:
                held += other
                other = Fraction(0)
            weight = oracle.weight(asset, held, price) if held > 0 else 1
            total["equity"] += (held * weight + other) * price
        total["initial"] = max(total["initial"], total["exposure"] * fraction)
        return total


# ----------------------------------------------------------------------------------------------------- margins, exactly


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, pd.DataFrame], dict[str, float], dict[str, float]]:
    """A venue file, the tables of six accounts, marks and prices of assets, often far from where they were drawn."""
    policy = {"haircut_size_unit": draw(st.sampled_from(["notional", "quantity"]))}
    source = mv.source(weight=draw(st.sampled_from(["0", "0.5", "0.95", "1"])), **policy)
    if draw(st.booleans()):  # margin fractions that grow with the quantity, not the notional
        for market in source["markets"][:3]:
            for name in ("imfFunction", "mmfFunction"):
                market[name] |= {"unit": "quantity", "factor": "0.004" if name == "imfFunction" else "0.002"}
    tables = mv.frames(6, draw(st.integers(0, 2**32)))
    move = st.integers(50, 200)
    marks = {market: round(price * draw(move) / 100, 2) for market, price in mv.MARKS.items()}
    prices = {"USDT": draw(st.sampled_from([0.9995, 0.5, 1.0, 1.25])), "SOL": float(draw(move))}
    if draw(st.booleans()):
        prices["BTC"] = marks[IBTC]
    return source, tables, marks, prices


def complete(marks: dict[str, float], prices: dict[str, float]) -> dict[str, Fraction]:
    """Prices of all assets: that of BTC follows from the first market, which is quoted in USDC."""
    return {name: number(price) for name, price in ({"USDC": 1.0, "BTC": marks[BTC]} | prices).items()}


@settings(max_examples=60)
@given(scenes())
def test_margins_of_several_money_assets(scene):
    """The exact margin to 1e-30 of the gross amounts, the kernel to a part of the band in which it says DOUBT."""
    source, tables, marks, prices = scene
    venue, oracle = rc.load_venue(source), Oracle(source)
    accounts = rc.Accounts.from_frames(venue, **tables)
    read = Prices.read(venue, accounts, marks, asset_prices=prices)
    table, status = margins_of(accounts, np.arange(len(accounts)), read), np.empty(len(accounts), np.uint8)
    account_statuses(np.arange(len(accounts)), accounts.columns, read.arrays, status)
    for row, account in enumerate(accounts.ids.tolist()):
        expected = State(oracle, tables, account).margin(
            {market: number(mark) for market, mark in marks.items()}, complete(marks, prices)
        )
        scale, found = expected["gross"] + 1, exact.account_margin(accounts, row, read)
        for name, column, value in (
            ("equity", table.net_equity, found.equity),
            ("exposure", table.exposure, found.exposure),
            ("maintenance", table.maintenance_margin, found.maintenance),
        ):
            assert abs(Fraction(float(column[row])) - expected[name]) <= Fraction(DOUBT_BAND) / 100 * scale, name
            assert abs(Fraction(value) - expected[name]) <= Fraction(1, 10**30) * scale, name
        assert status[row] in (found.status, DOUBT)
        assert abs(Fraction(float(table.initial_margin[row])) - expected["initial"]) <= Fraction(DOUBT_BAND) * scale
        difference = expected["initial"] - expected["equity"]
        if abs(difference) > Fraction(1, 10**30):
            assert exact.covers_initial_margin(accounts, row, read) == (
                difference < 0 or (not expected["exposure"] and expected["equity"] >= 0)
            )


@settings(max_examples=40)
@given(scenes())
def test_lines_of_the_explanation_add_up(scene):
    """Every line has its share of the equity, and profit and loss in units of its settle asset."""
    source, tables, marks, prices = scene
    venue, oracle = rc.load_venue(source), Oracle(source)
    accounts = rc.Accounts.from_frames(venue, **tables)
    exact_marks = {market: number(mark) for market, mark in marks.items()}
    for account in accounts.ids.tolist()[:3]:
        lines = rc.explain_margin(accounts, venue, marks, account, asset_prices=prices)
        own = State(oracle, tables, account)
        expected, total = own.margin(exact_marks, complete(marks, prices)), lines.iloc[-1]
        assert abs(Fraction(total["net_equity"]) - expected["equity"]) <= Fraction(len(lines), 10**15)
        assert abs(Fraction(total["maintenance_margin"]) - expected["maintenance"]) <= Fraction(len(lines), 10**15)
        for line in lines[lines["kind"] == "position"].to_dict("records"):
            lots, cost, _ = own.positions[line["item"]]
            settle = oracle.settle_of(line["item"])
            profit = oracle.value(line["item"], lots, exact_marks[line["item"]]) - cost * oracle.quantum(settle)
            assert line["settle_asset"] == settle
            assert abs(Fraction(line["pnl"]) - profit) <= Fraction(1, 10**15)
            counted = (
                profit * complete(marks, prices)[settle] * (1 if line["weight"] is None else Fraction(line["weight"]))
            )
            assert abs(Fraction(line["net_equity"]) - counted) <= Fraction(1, 10**14) * (1 + abs(counted))


def one(balances: dict[str, float], positions: Any = (), **settings_: float) -> tuple[rc.Venue, rc.Accounts]:
    """Account 1 of the venue: positions (market, quantity, entry price)."""
    venue = mv.venue()
    rows = [{"account": 1, "market": m, "quantity": q, "entry_price": p} for m, q, p in positions]
    return venue, rc.Accounts.from_frames(
        venue,
        pd.DataFrame(rows, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame([{"account": 1, "asset": asset, "quantity": quantity} for asset, quantity in balances.items()]),
        settings=pd.DataFrame([{"account": 1} | settings_]),
    )


@pytest.mark.parametrize(
    ("balance", "entry", "equity"),
    [
        # 1 ETH at 4000: a profit of 100 USDT, or a loss; USDT at 0.9995 with weight 0.95
        (1000.0, 3900.0, "1044.4775"),  # 1100 * 0.9995 * 0.95
        (1000.0, 4100.0, "854.5725"),  # 900 * 0.9995 * 0.95
        (40.0, 4100.0, "-59.97"),  # 40 - 100 = -60, in full
        (-50.0, 3900.0, "44.9775"),  # 100 * 0.9995 * 0.95 - 50 * 0.9995: a debt stays beside a profit
    ],
)
def test_profit_counts_as_a_balance_of_its_asset(balance, entry, equity):
    venue, accounts = one({"USDC": 0.0, "USDT": balance}, [(ETH, 1.0, entry)])
    prices = Prices.read(venue, accounts, mv.MARKS, asset_prices=mv.ASSET_PRICES)
    assert exact.account_margin(accounts, 0, prices).equity == Decimal(equity)
    assert margins_of(accounts, np.arange(1), prices).net_equity[0] == pytest.approx(float(equity), abs=1e-9)


@pytest.mark.parametrize("mark", [63_000.0, 62_300.0])
@pytest.mark.parametrize(("more", "status"), [(-1, LIQUIDATING), (0, LIQUIDATING), (1, SAFE)])
def test_the_edge_is_exact_though_a_value_is_a_quotient(mark, more, status):
    """The value of 700 USD is 1 / 90 or 1 / 89 BTC, which no decimal is, and BTC is at the mark: 700 USD again.

    They need 7 USD. A profit in BTC counts for nine tenths, a loss in full.
    """
    cost = round(Fraction(700, 62_500) * 10**8)
    profit = cost * number(mark) / 10**8 - 700
    cash = 7 - profit * (Fraction(9, 10) if profit > 0 else 1)
    assert cash == Fraction(round(cash * 10**6), 10**6) > 0
    venue, accounts = one({"USDC": float(cash + Fraction(more, 10**6))}, [(IBTC, 7.0, 62_500.0)])
    prices = Prices.read(venue, accounts, {IBTC: mark}, asset_prices={"BTC": mark})
    assert exact.account_margin(accounts, 0, prices).status == status
    state = np.empty(1, np.uint8)
    account_statuses(np.arange(1), accounts.columns, prices.arrays, state)
    assert state[0] == (DOUBT if not more else status)


def test_a_debt_needs_a_margin_though_the_profit_is_larger():
    """Below zero a free balance is a borrow, as of any asset: exposure and requirement, whatever is unrealised."""
    venue, accounts = one({"USDC": 0.0, "USDT": -50.0}, [(ETH, 1.0, 3900.0)])
    prices = Prices.read(venue, accounts, mv.MARKS, asset_prices=mv.ASSET_PRICES)
    margin = exact.account_margin(accounts, 0, prices)
    row = accounts.balance_row(0, venue.assets.row["USDT"])
    assert margin.borrowed[row] == Decimal("49.975") / 10
    assert margin.exposure == Decimal("3998") + Decimal("49.975")


# ------------------------------------------------------------------------------------------ fills, transfers and tables


def assert_same_state(accounts: rc.Accounts, venue: rc.Venue, states: dict[int, State]) -> None:
    columns, markets, assets = accounts.columns, venue.markets.symbol, venue.assets.symbol
    for row, own in enumerate(states.values()):
        positions = {markets[columns.market[i]]: i for i in accounts.positions_of(row)}
        for market, i in positions.items():
            held = [int(column[i]) for column in (columns.lots, columns.cost, columns.entry)]
            assert held == own.positions.get(market, [0, 0, 0])
            assert assets[columns.asset[columns.position_balance[i]]] == own.oracle.settle_of(market)
            assert columns.position_balance[i] in accounts.balances_of(row)
        assert {market for market, held in own.positions.items() if any(held)} <= set(positions)
        balances = {assets[columns.asset[j]]: j for j in accounts.balances_of(row)}
        assert {own.oracle.settle} | {own.oracle.settle_of(market) for market in positions} <= set(balances)
        for asset, j in balances.items():
            held = [int(column[j]) for column in (columns.free, columns.lent, columns.unsettled)]
            assert held == own.balances.get(asset, [0, 0, 0])
            cost = sum(cost for m, (_, cost, _) in own.positions.items() if own.oracle.settle_of(m) == asset)
            assert columns.balance_cost[j] == cost
        assert {asset for asset, held in own.balances.items() if any(held)} <= set(balances)
        assert assets[columns.asset[columns.settle_row[row]]] == own.oracle.settle


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.data())
def test_fills_and_transfers_in_the_markets_settle_asset(seed, data):
    """Fills open, add to, reduce and reverse positions; cost, cash and fee are quanta of the market's settle asset."""
    source, tables = mv.source(), mv.frames(5, seed)
    venue, oracle = rc.load_venue(source), Oracle(source)
    accounts = rc.Accounts.from_frames(venue, **tables)
    states = {account: State(oracle, tables, account) for account in accounts.ids.tolist()}
    assert_same_state(accounts, venue, states)
    fills, transfers = [], []
    for _ in range(data.draw(st.integers(1, 6))):
        market, account = data.draw(st.sampled_from([BTC, ETH, IBTC])), data.draw(st.integers(1, 5))
        step = float(oracle.markets[market]["filters"]["quantity"]["stepSize"])
        lots = data.draw(st.integers(-1000, 1000).filter(bool))
        price = round(
            mv.MARKS[market] * data.draw(st.integers(900, 1100)) / 1000 + data.draw(st.integers(0, 99)) / 100, 2
        )
        row = {"account": account, "market": market, "quantity": round(lots * step, 6), "price": price}
        fills.append(row | {"fee": data.draw(st.integers(0, 10**6)) / 10**8})
        states[account].fill(market, fills[-1]["quantity"], price, f"{fills[-1]['fee']:.8f}")
        asset, quantity = data.draw(st.sampled_from(["USDC", "USDT", "BTC"])), data.draw(st.integers(-999, 999)) / 100
        transfers.append({"account": account, "asset": asset, "quantity": quantity})
        states[account].transfer(asset, quantity)
    after = accounts.with_fills(venue, pd.DataFrame(fills), pd.DataFrame(transfers))
    assert_same_state(after, venue, states)
    # and the tables that it is written to are read as the same whole numbers
    assert_same_state(rc.Accounts.from_frames(venue, *after.to_frames()), venue, {
        account: state for account, state in states.items()
    })  # fmt: skip


def test_what_if_after_fills_and_shocks():
    """A fall of a tenth moves marks, and the price of BTC that follows from them, together; USDT stays."""
    source, tables = mv.source(), mv.frames(20, 3)
    venue, oracle = rc.load_venue(source), Oracle(source)
    accounts = rc.Accounts.from_frames(venue, **tables)
    fills = pd.DataFrame(
        {"account": [1, 2], "market": [IBTC, ETH], "quantity": [50.0, -1.5], "price": [100_000.0, 4_000.0]}
    )
    states = {account: State(oracle, tables, account) for account in accounts.ids.tolist()}
    for row in fills.to_dict("records"):
        states[row["account"]].fill(row["market"], row["quantity"], row["price"], 0)
    shocks = dict.fromkeys(mv.MARKS, -0.1)
    table = rc.what_if(accounts, venue, mv.MARKS, fills=fills, shocks=shocks, asset_prices=mv.ASSET_PRICES)
    marks = {market: number(round(mark * 0.9, 6)) for market, mark in mv.MARKS.items()}
    prices = {"USDC": Fraction(1), "BTC": marks[BTC], "USDT": number(0.9995), "SOL": Fraction(200)}
    for row, own in enumerate(states.values()):
        expected = own.margin(marks, prices)
        assert table.net_equity[row] == pytest.approx(
            float(expected["equity"]), abs=1e-9 * float(expected["gross"] + 1)
        )


# ------------------------------------------------------------------------------------------ published numbers of venues


@pytest.mark.parametrize(
    ("contracts", "entry", "price", "coins"),
    [
        (10_000, 8_000, 12_500, "0.45"),  # Bybit, help pages on inverse contracts: 1.25 - 0.8
        (10_000, 23_000, 25_000, "0.0347826087"),  # Bybit: 0.435 - 0.4 to three places
        (100_000, 10_000, 10_500, "0.4761904762"),  # BitMEX, guide to inverse futures: 100,000 (1/10,000 - 1/10,500)
        (-10_000, 8_000, 12_500, "-0.45"),
        (50_000, 10_000, 9_000, "-0.5555555556"),
    ],
)
def test_profit_in_coin_as_venues_print_it(contracts, entry, price, coins):
    """A contract is 1 USD: profit of a long is ``contracts * (1 / entry - 1 / price)`` coins."""
    source = mv.source()
    source["markets"][2]["multiplier"] = "1"
    venue = rc.load_venue(source)
    positions = pd.DataFrame(
        {"account": [1], "market": IBTC, "quantity": float(contracts), "entry_price": float(entry)}
    )
    balances = pd.DataFrame({"account": [1], "asset": "BTC", "quantity": 5.0})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    lines = rc.explain_margin(accounts, venue, {IBTC: float(price)}, 1, asset_prices={"BTC": float(price)})
    line = lines[lines["kind"] == "position"].iloc[0]
    assert abs(line["pnl"] - Decimal(coins)) < Decimal("1e-8")
    assert line["settle_asset"] == "BTC"
    assert abs(line["exposure"] - abs(contracts)) < Decimal("1e-9")  # a notional of 1 USD a contract, at any price
    fills = pd.DataFrame({"account": [1], "market": IBTC, "quantity": -float(contracts), "price": float(price)})
    closed = accounts.with_fills(venue, fills).to_frames().balances.set_index("asset")["quantity"]
    assert closed["BTC"] == pytest.approx(5 + float(coins), abs=2e-8)


def test_deribits_inverse_perpetual_over_its_moves(shared):
    """Coin profit at every move of the price in Deribit's printed reply, which values the position at the index."""
    cases = json.loads((shared / "vectors" / "scenario_docs.json").read_text())["cases"]
    case = next(case for case in cases if case["id"] == "deribit-pme-doc-vectors")
    given_, index = case["inputs"], Fraction(str(case["inputs"]["index"]))
    vectors = case["expected"]["initial_standard"]["BTC-PERPETUAL"][:: given_["vol_scenarios"]]
    base = Fraction(str(given_["position_base"]["BTC-PERPETUAL"]))
    venue = mv.venue()
    step, buckets = Fraction(str(given_["price_range"])) / given_["buckets"], given_["buckets"]
    market = venue.markets.row[IBTC]
    contracts = base * index / 100
    for n, expected in enumerate(vectors):
        price = index * (1 + (n - buckets) * step)
        profit = contracts * (venue.markets.lot_value(market, price) - venue.markets.lot_value(market, index))
        assert float(profit) == pytest.approx(expected, rel=1e-12, abs=1e-15)


# ---------------------------------------------------------------------------------------------------- values and prices


def test_values_of_a_lot():
    venue = mv.venue()
    markets = venue.markets
    assert (markets.settle.tolist(), venue.money, venue.plain_money) == ([0, 2, 3], (0, 2, 3), False)
    assert markets.inverse.tolist() == [False, False, True]
    exact_values = [markets.lot_value(m, Fraction(50_000)) for m in range(3)]
    assert exact_values == [50, 500, Fraction(-1, 500)]
    assert markets.lot_values(np.full(3, 50_000.0)).tolist() == [50.0, 500.0, -0.002]
    assert markets.lot_values(np.array([50_000.0]), np.array([2])).tolist() == [-0.002]
    lots, money = np.array([3, -2, 7]), np.array([150.0, -1000.0, -0.014])
    assert markets.prices_of(np.arange(3), lots, money).tolist() == pytest.approx([50_000.0] * 3)
    # 100 USD a contract: 1,000 quanta of 1e-8 BTC at 10**8 USD, which are 2 * 10**8 ticks
    assert (markets.value_num[2], markets.value_den[2]) == (2 * 10**10, 1)
    assert rc.load_venue("backpack").plain_money


@pytest.mark.parametrize(
    ("index", "given_", "expected"),
    [
        ([np.nan] * 3, {}, [1.0, np.nan, np.nan, 100_000.0]),
        ([99_000.0, np.nan, np.nan], {"USDT": 0.9995}, [1.0, np.nan, 0.9995, 99_000.0]),
        ([99_000.0, np.nan, np.nan], {"BTC": 5.0, "USDC": 7.0}, [1.0, np.nan, np.nan, 5.0]),
    ],
)
def test_prices_that_follow_from_markets(index, given_, expected):
    venue = mv.venue()
    asset = np.array([given_.get(symbol, np.nan) for symbol in venue.assets.symbol])
    found = asset_values(venue, np.array(list(mv.MARKS.values())), np.array(index), asset)
    assert np.array_equal(found, expected, equal_nan=True)


def test_a_price_follows_through_the_quotes_price():
    """ETH as collateral: its market is quoted in USDT, so its price needs that of USDT."""
    source = mv.source()
    source["collateral"].append({"symbol": "ETH", "haircutFunction": source["collateral"][0]["haircutFunction"]})
    venue = rc.load_venue(source)
    marks, none = np.array(list(mv.MARKS.values())), np.full(3, np.nan)
    prices = asset_values(venue, marks, none, np.array([np.nan, np.nan, 0.9995, np.nan, np.nan]))
    assert prices[4] == 4_000.0 * 0.9995
    assert np.isnan(asset_values(venue, marks, none, np.full(5, np.nan))[4])
    # an inverse market tells the price of its coin, in USD, which is the unit of account
    source["markets"] = source["markets"][2:3]
    coin = rc.load_venue(source)
    assert asset_values(coin, np.array([70_000.0]), np.full(1, np.nan), np.full(5, np.nan))[3] == 70_000.0


def test_a_position_needs_the_price_of_its_settle_asset():
    venue, accounts = one({"USDC": 10_000.0}, [(ETH, 1.0, 4_000.0)])
    with pytest.raises(rc.RiskDataError) as caught:
        Prices.read(venue, accounts, mv.MARKS)
    assert str(caught.value) == "asset_prices.USDT: an account holds it: a price is needed"
    with pytest.raises(rc.RiskDataError, match=r"^asset_prices.USDT, row 5: an account holds it"):
        rc.sweep(accounts, venue, pd.DataFrame(mv.MARKS, index=[5]))
    orders = pd.DataFrame({"account": [1], "market": ETH, "side": "bid", "price": 4_000.0, "quantity": 1.0})
    none = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [1], "asset": "USDC", "quantity": [1.0]})
    with pytest.raises(rc.RiskDataError, match=r"^asset_prices.USDT: an account holds it"):
        Prices.read(venue, rc.Accounts.from_frames(venue, none, balances, orders), mv.MARKS)


def test_an_inverse_contract_has_no_price_below_a_tick():
    venue, accounts = one({"BTC": 1.0}, [(IBTC, 1.0, 100_000.0)])
    for prices in ({IBTC: 0.4}, pd.DataFrame({IBTC: [0.4]})):
        with pytest.raises(
            rc.RiskDataError, match=r"BTC_USD_IPERP.*0\.4: must be at least a tick .*: the contract is inv"
        ):
            rc.sweep(accounts, venue, prices, asset_prices={"BTC": 100_000.0})


# ------------------------------------------------------------------------------------------------------------ bad input


def refused(change: Any) -> str:
    source = copy.deepcopy(mv.source())
    change(source["markets"], source)
    with pytest.raises(rc.RiskDataError) as caught:
        rc.load_venue(source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("market", "changed", "message"),
    [
        (1, {"quoteSymbol": "EUR"}, "markets[1].quoteSymbol, value 'EUR': must be a collateral asset of the venue, as"
         " the market settles in it: add it, or set settle"),
        (2, {"baseSymbol": "ETH"}, "markets[2].baseSymbol, value 'ETH': must be a collateral asset of the venue, as an"
         " inverse market settles in it: add it, or set settle"),
        (1, {"settle": "EUR"}, "markets[1].settle, value 'EUR': must be a collateral asset of the venue"),
        (2, {"multiplier": "0"}, "markets[2].multiplier, value '0': must be a number from 1E-18 to 1E+18"),
        (2, {"multiplier": "-1"}, "markets[2].multiplier, value '-1': must be a number from 1E-18 to 1E+18"),
        (2, {"multiplier": "1e15"}, "markets[2].filters, value '200000000000000000000000': the value of a lot at one"
         " tick, in settle quanta, must be a ratio of whole numbers below 2**62"),
    ],
)  # fmt: skip
def test_contracts_are_refused(market, changed, message):
    def change(markets, _source):
        markets[market] |= changed

    assert refused(change) == f"venue.{message}"


@pytest.mark.parametrize(("market", "quote", "settle"), [(0, "USD", "USDC"), (0, None, "USDC"), (1, "EUR", "USDT")])
def test_settle_assets_by_default_and_by_name(market, quote, settle):
    source = mv.source()
    source["markets"][market] |= {"quoteSymbol": quote, "settle": settle} if quote == "EUR" else {"quoteSymbol": quote}
    venue = rc.load_venue(source)
    assert venue.assets.symbol[venue.markets.settle[market]] == settle


def test_accounts_of_other_contracts_are_refused():
    _, accounts = one({"BTC": 1.0}, [(IBTC, 1.0, 100_000.0)])
    for changed, name, value, own in (
        ({"multiplier": "10"}, "multiplier", "10", "100"),
        ({"marketType": "PERP", "settle": "BTC"}, "marketType", "PERP", "IPERP"),
        ({"settle": "USDC"}, "settle", "USDC", "BTC"),
    ):
        source = mv.source()
        source["markets"][2] |= changed
        rule = rf"^venue\.{name}, row BTC_USD_IPERP, value '{value}': must be as in .* with \({own}\)"
        with pytest.raises(rc.RiskDataError, match=rule):
            rc.sweep(accounts, rc.load_venue(source), mv.MARKS)


def test_limits_of_inverse_positions_are_those_at_one_tick():
    most = int(mv.venue().markets.max_lots[2])  # 2 * 10**10 quanta a lot at one tick, less than 2**60
    assert most == (2**60 - 1) // (2 * 10**10)
    one({"BTC": 1.0}, [(IBTC, float(most), 100_000.0)])
    with pytest.raises(rc.RiskDataError) as caught:
        one({"BTC": 1.0}, [(IBTC, float(most + 1), 100_000.0)])
    assert str(caught.value) == (
        f"positions.quantity, row 0, value {float(most + 1)}: must be worth less than 2**60 settle quanta at one tick"
    )
    with pytest.raises(rc.RiskDataError, match=r"^positions\.entry_price.*less than 2\*\*6"):
        one({"BTC": 1.0}, [(IBTC, float(most), 0.0001)])
    venue, accounts = one({"BTC": 1.0}, [(IBTC, float(most), 100_000.0)])
    fill = pd.DataFrame({"account": [1], "market": IBTC, "quantity": [1.0], "price": [100_000.0]})
    with pytest.raises(rc.RiskDataError, match=r"^fills\.quantity, row 0, value 1\.0: the resulting holdings"):
        accounts.with_fills(venue, fill)


def test_sides_of_books_of_inverse_contracts_are_limited_at_one_tick():
    venue = mv.venue()
    most = 2**61 // (2 * 10**10)

    def book(lots: int) -> dict[str, Any]:
        return {IBTC: {"bids": [(99_000.0, float(lots))], "asks": []}}

    assert rc.Tick(mv.START, {}, book(most)).columnar_books(venue).lots.tolist() == [most]
    with pytest.raises(
        rc.RiskDataError, match=r"of an inverse contract: at one tick\) must be worth less than 2\*\*61"
    ):
        rc.Tick(mv.START, {}, book(most + 1)).columnar_books(venue)
    frame = pd.DataFrame({"time": mv.START, "market": IBTC, "side": "bid", "level": 0, "price": 99_000.0,
                          "quantity": [float(most + 1)]})  # fmt: skip
    with pytest.raises(
        rc.RiskDataError, match=r"of an inverse contract: at one tick\) must be worth less than 2\*\*61"
    ):
        rc.Books.from_frame(venue, frame, mv.START, unit="ns")
