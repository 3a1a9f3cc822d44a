"""Other margin models: one that is not separable runs through the whole waterfall, and the separable one by the way
that any model takes gives what its own kernels give."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import floor
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import Engine, RiskDataError, Screen
from riskcore.audit import audit
from riskcore.kernels import margin as kernels
from riskcore.kernels import margin_model
from riskcore.kernels._cache import folder_in_use
from riskcore.kernels.layouts import PriceArrays
from riskcore.kernels.margin import MarginSums
from riskcore.kernels.margin_function import margin_requirement
from riskcore.margin import MODELS, MarginModel, exact, folded, margins_of, model_of, register_model
from riskcore.market import Prices
from tests.comparison import totals
from tests.strategies import Scene, scenes
from tests.test_cascade import cascade, stage

LARGEST, NET, BORROWED, MAINTENANCE = 0.10, 0.05, 0.10, 0.5
PARTS = [Decimal(str(part)) for part in (LARGEST, NET, BORROWED, MAINTENANCE)]


class ConcentrationPrices(NamedTuple):
    """Prices of the concentration model: those of the separable one, for the equity."""

    separable: PriceArrays
    price_per_lot: Any
    value_per_lot: Any
    price_per_quantum: Any
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float


def concentration_margin(account, state, prices):
    """A tenth of the largest position, a twentieth of the net notional, and a tenth of each borrow."""
    largest, net, owed = 0.0, 0.0, 0.0
    largest_with_orders, net_with_orders = 0.0, 0.0
    for i in range(state.position_span[account, 0], state.position_span[account, 1]):
        price = prices.price_per_lot[state.market[i]]
        held, worst = state.lots[i], abs(state.lots[i])
        if state.open_orders[account] > 0:
            worst = kernels.worst_case_lots(held, state.open_bid[i], state.open_ask[i])
        largest, net = max(largest, abs(held) * price), net + held * price
        largest_with_orders = max(largest_with_orders, worst * price)
        net_with_orders += (worst - abs(held)) * price
    for j in range(state.balance_span[account, 0], state.balance_span[account, 1]):
        owed += max(-state.free[j], 0) * prices.price_per_quantum[state.asset[j]]
    sums = kernels.account_margin(account, state, prices.separable)
    return MarginSums(
        equity=sums.equity,
        exposure=sums.exposure,
        initial=LARGEST * largest_with_orders + NET * (abs(net) + net_with_orders) + BORROWED * owed,
        maintenance=MAINTENANCE * (LARGEST * largest + NET * abs(net) + BORROWED * owed),
        gross=sums.gross,
    )


def concentration_part(account, p, state, prices):
    """The largest position bears its tenth, and each its part of the net notional by its own."""
    first, end = state.position_span[account, 0], state.position_span[account, 1]
    largest, net, gross, own = first, 0.0, 0.0, 0.0
    for i in range(first, end):
        notional = abs(state.lots[i]) * prices.price_per_lot[state.market[i]]
        net, gross = net + state.lots[i] * prices.price_per_lot[state.market[i]], gross + notional
        if notional > abs(state.lots[largest]) * prices.price_per_lot[state.market[largest]]:
            largest = i
        if i == p:
            own = notional
    part = 0.0 if gross == 0.0 else NET * abs(net) * own / gross
    return MAINTENANCE * (part + (LARGEST * own if p == largest else 0.0))


class Concentration(MarginModel):
    """Requirement: 10 % of the largest position's notional, 5 % of the net notional, 10 % of borrows."""

    name = "concentration"
    folded = ConcentrationPrices

    def fold(self, prices):
        own = {name: getattr(prices.arrays, name) for name in ConcentrationPrices._fields[1:]}
        return ConcentrationPrices(separable=prices.arrays, **own)

    def account(self, accounts, account, prices):
        margin = exact.account_margin(accounts, account, prices)
        of_largest, of_net, of_borrow, scale = PARTS
        value, notional = margin.value, {row: abs(worth) for row, worth in margin.value.items()}
        net, gross = abs(sum(value.values())), sum(notional.values())
        largest = max(notional, key=lambda row: (notional[row], -row), default=None)
        requirement = {
            row: scale * (of_net * net * own / gross + of_largest * own * (row == largest))
            for row, own in notional.items()
        }
        prices_of = {row: exact.decimal(prices.asset[accounts.columns.asset[row]]) for row in margin.borrowed}
        borrowed = {
            row: scale * of_borrow * price * -int(accounts.columns.free[row])
            * exact.decimal(prices.venue.assets.quantum[accounts.columns.asset[row]])
            for row, price in prices_of.items()
        }  # fmt: skip
        whole = scale * (of_net * net + of_largest * max(notional.values(), default=0)) + sum(borrowed.values())
        status = exact.status_of(prices, margin.equity, margin.exposure, whole)
        return replace(margin, maintenance=whole, requirement=requirement, borrowed=borrowed, status=status)

    def covers_initial_margin(self, accounts, account, prices):
        margin = self.account(accounts, account, prices)
        return margin.maintenance / PARTS[-1] < margin.equity or (not margin.exposure and margin.equity >= 0)


class WholePrices(NamedTuple):
    """Prices of the separable model under another class."""

    separable: PriceArrays
    price_per_lot: Any
    value_per_lot: Any
    price_per_quantum: Any
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float


class BySingleAccounts(type(MODELS["separable"])):
    """The separable model without its packed sweep, its bounds and its own kernels but the first."""

    name, folded, packed, bound = "separable_by_account", WholePrices, False, None
    largest_orders = MarginModel.largest_orders

    def fold(self, prices):
        return WholePrices(prices.arrays, *(getattr(prices.arrays, name) for name in WholePrices._fields[1:]))


def whole_margin(account, state, prices):
    return kernels.account_margin(account, state, prices.separable)


def whole_part(account, p, state, prices):
    m = np.int64(state.market[p])
    functions = prices.separable.functions
    return margin_requirement(abs(state.lots[p]) * prices.price_per_lot[m], 2 * m + 1, functions)


if Concentration.name not in MODELS:
    register_model(Concentration(), account_margin=concentration_margin, position_requirement=concentration_part)
    register_model(BySingleAccounts(), account_margin=whole_margin, position_requirement=whole_part)


def with_model(scene: Scene, name: str = Concentration.name, **policy) -> Scene:
    return replace(scene, source=scene.source | {"policy": scene.source["policy"] | {"margin_model": name} | policy})


# ---- The whole waterfall


def run(scene: Scene) -> Counter:
    """Step through a cascade with the concentration model; gives how many rows of each stage there were."""
    venue, accounts = scene.load()
    engine, reached = Engine(accounts, venue, scene.seed, check_screen=True), Counter()
    everything = totals(engine, venue)
    for inputs in scene.ticks:
        result = engine.step(inputs.tick(), full_table=True)
        assert np.array_equal(np.sort(result.selected), np.flatnonzero(result.table.liquidatable))
        events = result.events
        reached.update(stage(row) for row in events.to_dict("records"))
        assert totals(engine, venue) == everything
        fills = events[(events["event"] == "book") & ~events["account"].isin(events[events["event"] == "harm"].account)]
        assert (fills["mmr_after"] < fills["mmr_before"]).all()
    return reached


def test_the_waterfall_reaches_every_stage():
    runs = [run(with_model(cascade(Random(seed)))) for seed in range(12)]
    for name in ("book", "backstop", "adl", "close out"):
        assert sum(reached[name] > 0 for reached in runs) >= 4, name


def test_the_audit_refuses_another_model(tmp_path):
    scene = with_model(cascade(Random(1)))
    venue, accounts = scene.load()
    engine = Engine(accounts, venue)
    engine.step(scene.ticks[0].tick())
    engine.save(tmp_path / "run")
    with pytest.raises(ValueError, match="margin_model"):
        audit(tmp_path / "run")


# ---- Slices

TOLERANCE = 4  # quanta: a trial books whole quanta of value, fee and cost


def surplus(venue, accounts, prices) -> Fraction:
    margin = model_of(venue).account(accounts, 0, prices)
    return (venue.policy.target_mmr * Fraction(margin.equity) - Fraction(margin.maintenance)) / venue.settle_quantum


def booked(venue, accounts, row: int, lots: int, levels: list[list[int]]):
    """The accounts once lots of a position row are closed at a book's levels, with the fee."""
    after = accounts.copy()
    columns, m = after.columns, int(accounts.columns.market[row])
    held, left, ticks = int(columns.lots[row]), lots, 0
    for price, available in levels:
        taken = min(left, available)
        left, ticks = left - taken, ticks + taken * price
    assert not left
    value = round(Fraction(ticks * int(venue.markets.value_num[m]), int(venue.markets.value_den[m])))
    fee = round(value * venue.policy.liquidation_fee)
    released = round(Fraction(int(columns.cost[row]) * lots, abs(held)))
    side = 1 if held > 0 else -1
    columns.lots[row] -= side * lots
    for column, change in ((columns.cost, -released), (columns.entry, 0)):
        column[row] += change
    balance = columns.position_balance[row]
    columns.balance_cost[balance] -= released
    columns.free[balance] += side * value - released - fee
    return after


def levels_of(venue, book, m: int, long: bool) -> list[list[int]]:
    side = book["bids" if long else "asks"]
    tick, step = venue.markets.tick[m], venue.markets.step[m]
    levels = [[round(Fraction(str(p)) / tick), round(Fraction(str(q)) / step)] for p, q in side]
    return sorted(levels, key=lambda level: -level[0] if long else level[0])


def small_case(rng: Random) -> tuple[rc.Venue, rc.Accounts, dict, dict]:
    """One liquidating account with positions in two or three markets, books of several levels."""
    marks = dict(list({"X_USDC_PERP": 100.0, "Y_USDC_PERP": 20.0, "Z_USDC_PERP": 45.0}.items())[: rng.randint(2, 3)])
    rows = [
        rc.sample.market_row(symbol[0], "0.01", "0.01", ("0.1", "0"), ("0.05", "0"), impact=None) for symbol in marks
    ]
    collateral = [{"symbol": "GEM", "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}}}]
    policy = {
        "slice_probability": 1, "min_slice_notional": 0, "slice_fraction": rng.choice(["0.3", 1]),
        "liquidation_fee": rng.choice(["0.001", "0.005"]), "harmful_slice": "send", "acmf_divisor": 100,
        "acmf_offset": "0.3", "target_mmr": rng.choice(["0.9", 1]), "margin_model": Concentration.name,
        "position_order": rng.choice(["relief", "largest", "pro_rata"]), "mark_index_threshold": "0.9",
    }  # fmt: skip
    venue = rc.load_venue({"settle_asset": "USDC", "markets": rows, "collateral": collateral, "policy": policy})
    held = [
        (1, symbol, rng.choice([-1, 1]) * round(rng.uniform(20, 900) / mark, 2), round(mark * rng.uniform(0.9, 1.1), 2))
        for symbol, mark in marks.items()
    ]
    positions = pd.DataFrame(held, columns=["account", "market", "quantity", "entry_price"])
    book = {
        symbol: {
            name: [(round(mark * (1 + sign * 0.001 * n), 2), round(rng.uniform(1, 120) / mark, 2)) for n in range(1, 9)]
            for name, sign in (("bids", -1), ("asks", 1))
        }
        for symbol, mark in marks.items()
    }
    gem = rng.choice([0.0, 0.0, round(rng.uniform(0.1, 2.0), 2), -round(rng.uniform(0.1, 2.0), 2)])

    def accounts(cash: float) -> rc.Accounts:
        money = pd.DataFrame({"account": [1, 1], "asset": ["USDC", "GEM"], "quantity": [cash, gem]})
        return rc.Accounts.from_frames(venue, positions, money)

    prices = {**marks, "GEM": 10.0}
    table = rc.sweep(accounts(0.0), venue, prices)
    cash = float(table.maintenance_margin[0] / rng.uniform(1.0, 1.6) - table.net_equity[0])
    return venue, accounts(round(cash, 4)), prices, book


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_no_slice_is_larger_than_what_restores(seed):
    """Each fill is tested against exact arithmetic: with one lot less the target would not have been restored."""
    venue, accounts, marks, book = small_case(Random(seed))
    asset = {"GEM": marks["GEM"]}
    tick = rc.Tick("2025-10-10T21:00Z", {k: v for k, v in marks.items() if k != "GEM"}, book, asset_prices=asset)
    engine = Engine(accounts, venue)
    prices, state = Prices.read(venue, accounts, marks), accounts.copy()
    by_row = {int(m): row for row, m in enumerate(accounts.columns.market.tolist())}
    share, part = venue.policy.slice_fraction, venue.policy.position_order == "pro_rata"
    for each in engine.step(tick).raw_events.itertuples():
        if each.event == "convert":  # a repayment
            columns, asset = state.columns, venue.assets.row[each.asset]
            columns.free[state.balance_row(0, asset)] += each.quanta
            columns.free[columns.settle_row[0]] += each.cash - each.fee
        elif each.event != "book":
            assert each.event in ("trigger", "expire", "harm", "cancel")
            continue
        else:
            m = venue.markets.row[each.market]
            row, lots, held = by_row[m], abs(each.lots), int(state.columns.lots[by_row[m]])
            before, levels = surplus(venue, state, prices), levels_of(venue, book[each.market], m, held > 0)
            one_less = booked(venue, state, row, lots - 1, levels) if lots > 1 else state
            state = booked(venue, state, row, lots, levels)
            assert before <= TOLERANCE
            if not part:
                assert surplus(venue, one_less, prices) <= TOLERANCE, "the slice goes past what restores"
            if not part and each.requested == lots < max(floor(abs(held) * share), 1):
                assert surplus(venue, state, prices) > -TOLERANCE, "the slice was cut and does not restore"
                event("restored")
    for name in ("lots", "cost", "free", "balance_cost"):
        assert getattr(state.columns, name).tolist() == getattr(engine.accounts.columns, name).tolist()


# ---- Margins


@pytest.mark.parametrize("seed", range(6))
def test_the_sweep_is_the_exact_margin(seed):
    scene = with_model(cascade(Random(100 + seed)))
    venue, accounts = scene.load()
    first = scene.ticks[-1]
    prices = Prices.of_tick(venue, accounts, first.tick())
    table = rc.margin.margin_table(accounts, prices, threads=1)
    for account in range(len(accounts)):
        margin = model_of(venue).account(accounts, account, prices)
        assert sum(margin.requirement.values()) + sum(margin.borrowed.values()) == pytest.approx(margin.maintenance)
        assert table.net_equity[account] == pytest.approx(float(margin.equity), rel=1e-12, abs=1e-6)
        assert table.maintenance_margin[account] == pytest.approx(float(margin.maintenance), rel=1e-12)
        assert table.status[account] == margin.status
    columns, rows = accounts.columns, np.arange(len(accounts.columns.market))
    found = np.empty(len(rows))
    margin_model.position_requirements(accounts.position_accounts(), rows, columns, folded(prices), found)
    for account in range(len(accounts)):
        for row, part in model_of(venue).account(accounts, account, prices).requirement.items():
            assert found[row] == pytest.approx(float(part), rel=1e-12)
    for threads in (2, 3):
        again = rc.margin.margin_table(accounts, prices, threads=threads, out=table)
        assert again.net_equity is not None
        assert again.mmr.tolist() == table.mmr.tolist()
    assert np.array_equal(Screen(accounts, venue).rows(prices), np.flatnonzero(table.liquidatable))
    lines = rc.explain_margin(accounts, venue, first.marks, accounts.ids[0], asset_prices=first.asset_prices)
    total = lines.iloc[-1]
    assert float(total["maintenance_margin"]) == pytest.approx(table.maintenance_margin[0])
    assert float(total["initial_margin"]) == pytest.approx(table.initial_margin[0])
    assert float(total["net_equity"]) == pytest.approx(table.net_equity[0])


@settings(max_examples=25)
@given(scenes(most=4))
def test_the_separable_model_without_its_own_kernels(scene):
    """Sweep bit for bit, status, liquidation prices by bisection, and largest orders."""
    other = with_model(scene, BySingleAccounts.name)
    (venue, accounts), (plain, _) = other.load(), scene.load()
    first = scene.ticks[0]
    more = {"indexes": first.indexes, "asset_prices": first.asset_prices, "open_interest": first.open_interest}
    given_, known = rc.sweep(accounts, venue, first.marks, **more), rc.sweep(accounts, plain, first.marks, **more)
    for name in ("net_equity", "exposure", "initial_margin", "maintenance_margin", "status"):
        assert np.array_equal(getattr(given_, name), getattr(known, name)), name
    by_bisection = rc.liquidation_prices(accounts, venue, first.marks, **more).liquidation_price
    by_newton = rc.liquidation_prices(accounts, plain, first.marks, **more).liquidation_price
    for one, two in zip(by_bisection, by_newton, strict=True):
        event("has a price" if two == two else "has none")
        near = one != one or two != two  # a double root, or one beyond the range of the bisection
        assert near or one == pytest.approx(two, rel=1e-9)
    market = next(iter(first.marks))
    orders = [rc.largest_orders(accounts, v, first.marks, market, **more) for v in (venue, plain)]
    for name in ("bid", "ask"):
        assert np.allclose(orders[0][name], orders[1][name], rtol=1e-9)


# ---- The registry


def test_a_model_that_is_not_registered_is_refused():
    venue = rc.load_venue("backpack").replace(policy={"margin_model": "none"})
    accounts = rc.sample.two_accounts()[1]
    rule = r"venue.policy.margin_model, value 'none': must be 'scenario'"
    for refused in (lambda: Engine(accounts, venue), lambda: rc.sweep(accounts, venue, {"SOL_USDC_PERP": 195.0})):
        with pytest.raises(RiskDataError, match=rule):
            refused()
    with pytest.raises(ValueError, match="is a registered margin model"):
        register_model(Concentration(), account_margin=whole_margin, position_requirement=whole_part)


def test_kernels_of_a_foreign_model_are_not_kept():
    """Their sources are not in the digest of the cache."""
    scene = with_model(cascade(Random(3)))
    venue, accounts = scene.load()
    folder = folder_in_use()
    before = set(folder.iterdir()) if folder else set()
    prices = Prices.of_tick(venue, accounts, scene.ticks[0].tick())
    assert type(folded(prices)).__module__ == __name__
    margins_of(accounts, np.arange(2), prices)
    margins_of(accounts, np.arange(2), replace(prices, venue=venue.replace(policy={"margin_model": "separable"})))
    now = folder_in_use()
    new = {path.name for path in (now.iterdir() if now else ()) if path not in before}
    assert len([name for name in new if name.startswith("margin_model.account_margins")]) <= 1
