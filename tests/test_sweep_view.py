"""The packed sweep against the one that takes accounts one by one, and against exact arithmetic, bit for bit."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path
from threading import Barrier, current_thread

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from riskcore import Accounts, Screen, load_venue, sample, sweep
from riskcore.kernels import margin as scalar
from riskcore.kernels import margin_model
from riskcore.kernels import sweep as kernels
from riskcore.kernels.layouts import SweepLookup
from riskcore.margin import exact, margin_table, margins_of, selected
from riskcore.market import Prices
from riskcore.state import SweepView, chunk_count, copy_slots
from tests import money_venues
from tests.crowds import Market, crowd, markets
from tests.strategies import Scene, haircuts, scenes

COLUMNS = ("net_equity", "exposure", "initial_margin", "maintenance_margin", "status")
CHUNK = kernels.CHUNK


def bits(table) -> dict:
    return {name: getattr(table, name).tobytes() for name in COLUMNS}


def one_by_one(accounts, prices):
    return margins_of(accounts, np.arange(len(accounts)), prices)


def same(accounts: Accounts, prices: Prices, some=slice(None)) -> np.ndarray:
    """Hold the packed sweep to all that it must be equal to; give who is liquidatable."""
    known = one_by_one(accounts, prices)
    liquidatable = np.flatnonzero(known.liquidatable)
    for threads in (1, 2, 3, 4):
        table = margin_table(accounts, prices, threads=threads)
        for name in COLUMNS:
            left, right = getattr(table, name), getattr(known, name)
            assert left.tobytes() == right.tobytes(), (name, np.flatnonzero(left != right)[:9])
        found = selected(accounts, accounts.sweep_view.columns, prices, threads=threads)
        assert found.tolist() == liquidatable.tolist()
    for row in np.arange(len(accounts))[some].tolist():
        assert known.status[row] == exact.account_margin(accounts, row, prices).status
    return liquidatable


# ---- Bit for bit


@settings(max_examples=60)
@given(st.booleans().flatmap(lambda money: markets(money=money)), st.integers(1, 40), st.integers(0, 2**32))
def test_groups_of_eight_give_the_bits_of_one_by_one(market: Market, count, seed):
    accounts = crowd(market, count, seed)
    same(accounts, market.prices(accounts))


@settings(max_examples=15)
@given(scenes())
def test_scenes_give_the_bits_of_one_by_one(scene: Scene):
    venue, accounts = scene.load()
    first = scene.ticks[0]
    known = first.marks, first.indexes, first.asset_prices, first.open_interest
    same(accounts, Prices.read(venue, accounts, *known))


@cache
def every_kind(money: bool = False) -> Market:
    """Square roots by notional and by quantity, tiers and open interest; haircuts that bite, tiers of a borrow.

    ``money``: three money assets; an inverse market settles in the unit of account and another in an asset.
    """

    def sqrt(base, factor, **unit):
        return {"type": "sqrt", "base": base, "factor": factor} | unit

    def tiers(*brackets, **whole):
        return {"type": "tiers", "brackets": [{"from": start, "rate": rate} for start, rate in brackets]} | whole

    def interest(base):
        return {"type": "open_interest", "base": base, "lower": "1e6", "upper": "1e12"}

    functions = {
        "BTC": (sqrt("0.02", "0.0001"), sqrt("0.0125", "0.00007")),
        "ETH": (sqrt("0.05", "0.01", unit="quantity"), sqrt("0.03", "0.006", unit="quantity")),
        "SOL": (
            tiers(("0", "0.04"), ("5000", "0.1"), whole=True),
            tiers(("0", "0.02"), ("700", "0.03"), ("30000", "0.06")),
        ),
        "DOGE": (interest("0.1"), interest("0.05")),
    }
    steps = {"BTC": ("0.1", "0.00001"), "ETH": ("0.01", "0.001"), "SOL": ("0.05", "0.25"), "DOGE": ("0.00001", "1")}
    rows = [
        sample.market_row(base, *steps[base], ("0.1", "0"), ("0.1", "0"), impact=None)
        | {"imfFunction": initial, "mmfFunction": maintenance}
        for base, (initial, maintenance) in functions.items()
    ]
    if money:
        rows[1] |= {"marketType": "IPERP", "settle": "GEM", "multiplier": "10"}
        rows[2] |= {"settle": "BTC"}
        rows[3] |= {"marketType": "IPERP", "settle": "USDC"}
        rows.append(rows[0] | {"symbol": "BTC_GEM_PERP", "settle": "GEM"})
    inverse = {"type": "inverseSqrt", "base": "1.0", "positiveCurvePenalty": "0.0004"}
    collateral = [
        {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}},
        {"symbol": "BTC", "haircutFunction": {"weight": "0.95", "kind": inverse}, "quantum": "0.00000001"},
        {
            "symbol": "GEM",
            "haircutFunction": {"weight": "0.9", "kind": inverse | {"base": "0.9"}},
            "quantum": "0.001",
            "imfFunction": functions["SOL"][1],
            "mmfFunction": functions["SOL"][1],
        },
    ]
    source = {"settle_asset": "USDC", "markets": rows, "collateral": collateral, "policy": {}}
    mark = np.array([97_000.0, 3_500.0, 140.0 / 97_000.0 if money else 140.0, 0.16, 97_000.0 / 17.25])[: len(rows)]
    return Market(load_venue(source), mark, np.array([np.nan, np.nan, 17.25]))


@cache
def large(count: int, money: bool = False) -> tuple[Accounts, Prices]:
    market = every_kind(money)
    accounts = crowd(market, count, count)
    return accounts, market.prices(accounts)


EDGES = [1, 2, 7, 8, 9, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 8, 2 * CHUNK, 2 * CHUNK + 1]


@pytest.mark.parametrize(
    ("count", "money"), [*((n, False) for n in EDGES), *((n, True) for n in (1, 9, CHUNK, CHUNK + 1, 2 * CHUNK + 1))]
)
def test_no_account_at_an_edge_of_a_group_or_a_window_is_another(count, money):
    accounts, prices = large(count, money)
    liquidatable = same(accounts, prices, slice(None, None, 97))
    assert count < 8 or 0 < len(liquidatable) < count
    sweep_view = accounts.sweep_view
    rows = sweep_view.columns.account[sweep_view.slots(np.arange(count))]
    assert rows.tolist() == list(range(count))
    assert np.sort(sweep_view.columns.account).tolist() == [*range(count), *[count] * (-count % 8)]
    assert (sweep_view.slots(np.arange(count)) // CHUNK == np.arange(count) // CHUNK).all()


def test_the_large_crowd_is_of_every_kind():
    """So that what the tests above say, they say of all of it."""
    accounts, prices = large(2 * CHUNK + 1)
    columns, sweep_view, rows = accounts.columns, accounts.sweep_view.columns, prices.lookup
    for name in ("has_orders", "has_leverage_limit", "overflow"):
        assert np.unpackbits(getattr(sweep_view, name)).sum() > 50, name
    assert ((columns.free < 0) & (columns.lent > 0)).sum() > 50
    assert ((columns.free < 0) & (columns.lent == 0)).sum() > 50
    assert (columns.lots == 0).sum() > 50
    held = sweep_view.asset < 3
    value = np.abs(sweep_view.balance) * prices.arrays.price_per_quantum[np.where(held, sweep_view.asset, 0)] * held
    assert (sweep_view.balance > rows.asset[sweep_view.asset, 2])[held].sum() > 50  # the weight shrinks
    assert (
        (sweep_view.balance < 0) & (value > rows.asset[sweep_view.asset, 3])
    ).sum() > 50  # a borrow past its first tier
    notional = np.abs(sweep_view.lots) * rows.market[sweep_view.market, 0]
    for m in range(3):
        assert ((sweep_view.market == m) & (notional > rows.market[m, 1])).sum() > 50, m
    status = np.empty(len(accounts), np.uint8)
    margin_model.account_statuses(np.arange(len(accounts)), columns, prices.arrays, status)
    assert (status == scalar.DOUBT).sum() > 50
    flat = np.bincount(accounts.position_accounts(), np.abs(columns.lots), len(accounts)) == 0
    resting = (columns.open_orders > 0) & flat
    table = one_by_one(accounts, prices)
    assert (resting & (table.net_equity <= 0)).sum() > 5
    assert (resting & (table.net_equity <= 0) & (table.exposure > 0)).sum() > 5


def test_the_large_crowd_of_several_money_assets_is_of_every_kind():
    accounts, prices = large(2 * CHUNK + 1, True)
    columns, sweep_view, assets = accounts.columns, accounts.sweep_view.columns, accounts.asset_count
    last = sweep_view.extra_asset < assets
    rows = last.reshape(-1, 8)[: int(sweep_view.extra_group[-1])]
    assert (~rows & (sweep_view.extra_market < accounts.market_count).reshape(-1, 8)).sum() > 50  # two of an asset
    alone = np.isin(columns.asset, accounts.sweep_view.extra.nonzero()[0]) & (columns.free < 0)
    assert (alone & (columns.lent > 0) & (columns.balance_cost != 0)).sum() > 50
    worth = np.zeros(len(columns.asset))
    np.add.at(worth, columns.position_balance, columns.lots * prices.arrays.value_per_lot[columns.market])
    amount = np.maximum(columns.free, 0) + columns.lent + columns.unsettled - columns.balance_cost + worth
    extra = accounts.sweep_view.extra[columns.asset]
    assert (extra & (amount < 0)).sum() > 50
    assert (extra & (amount > prices.lookup.asset[columns.asset, 2]) & (worth != 0)).sum() > 50  # the weight shrinks


def test_ticks_of_a_venue_with_usdt_and_inverse_markets():
    """Accounts as tables give them, with orders, limits, loans and providers."""
    venue, accounts = money_venues.accounts(300, 5, money_venues.PROVIDERS)
    screen = Screen(accounts, venue)
    for tick in money_venues.ticks(6, 5, move=-0.15):
        prices = Prices.of_tick(venue, accounts, tick)
        liquidatable = same(accounts, prices, slice(None, None, 30))
        assert 0 < len(liquidatable) < len(accounts)
        assert screen.rows(prices).tolist() == liquidatable.tolist()


def test_more_assets_than_a_byte_tells_and_more_rows_than_the_order_sees():
    """300 assets and 300 markets, one account with something in all of them."""
    base = {"positiveCurvePenalty": "0.0004", "base": "1.0", "type": "inverseSqrt"}
    assets = [{"symbol": f"T{n}", "haircutFunction": {"weight": "0.9", "kind": base}} for n in range(299)]
    assets.insert(7, {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})
    rows = [
        sample.market_row(f"M{n}", "0.01", "0.001", ("0.05", "0.0001"), ("0.03", "0.00006"), impact=None)
        for n in range(300)
    ]
    source = {"settle_asset": "USDC", "markets": rows, "collateral": assets, "policy": {}}
    market = Market(load_venue(source), np.linspace(1, 900, 300), np.linspace(900, 1, 300))
    market.asset[7] = np.nan
    some = crowd(market, 120, 3)
    assert some.sweep_view.columns.asset.dtype == np.uint16
    assert np.diff(some.columns.position_span).max() > 255
    assert len(same(some, market.prices(some), slice(None, None, 40)))


def test_fewer_assets_are_told_by_a_byte():
    assert large(9)[0].sweep_view.columns.asset.dtype == np.uint8


haircut_figures = st.tuples(
    st.sampled_from([0.3, 0.77, 0.8, 0.9, 0.95, 1.0]), st.floats(-16, 1), st.floats(-18, 3), st.floats(-12, 2)
)


@settings(max_examples=200)
@given(haircut_figures, st.floats(-9, 1) | st.just(0.0), st.integers(-2, 2))
@example((0.9, -14.21, -12.39, -8.26), -9.0, 0)
@example((0.95, -16.0, -12.3, -7.35), -0.35, 0)
def test_up_to_the_quanta_laid_out_a_weight_is_whole(figures, below, off):
    """However little the base is above the weight: rounding has not shrunk it there."""
    weight, above, penalty, size = figures[0], *(10.0**figure for figure in figures[1:])
    prices = large(1)[1]
    columns = prices.arrays._replace(
        weight=np.array([1, weight, 1]), haircut_base=np.array([np.inf, weight + above, np.inf]),
        haircut_penalty=np.array([0, penalty, 0]), haircut_size=np.array([1, size, 1]),
    )  # fmt: skip
    rows = copied_lookup(prices.lookup)
    kernels.fill_sweep_lookup(columns, rows)
    quanta = rows.asset[1, 2]
    held = np.floor(min(quanta, 2.0**61) * max(1 - 10**below, 0)) + off
    assume(0 <= held <= quanta)
    assert scalar.collateral_weight(held * size, weight, weight + above, penalty) == weight


def copied_lookup(rows: SweepLookup) -> SweepLookup:
    """Tables of its own: one that nothing shares may be filled anew."""
    tables = {name: getattr(rows, name).copy() for name in ("market", "asset", "weight", "borrow")}
    above = {
        name: getattr(rows, name)._replace(roots=getattr(rows, name).roots.copy())
        for name in ("market_above", "borrow_above")
    }
    return rows._replace(extra=None if rows.extra is None else rows.extra.copy(), **tables, **above)


@given(haircuts())
def test_the_quanta_laid_out_are_nearly_all_of_those_with_a_whole_weight(haircut):
    """Or the root would be taken of everybody."""
    source = every_kind().venue.source
    collateral = [source["collateral"][0], source["collateral"][1] | {"haircutFunction": haircut}]
    market = Market(load_venue(source | {"collateral": collateral}), every_kind().mark, np.full(2, np.nan))
    prices = market.prices(crowd(market, 1, 0))
    columns, quanta = prices.arrays, prices.lookup.asset[1, 2]
    if np.isfinite(quanta) and quanta > 0:
        figures = columns.weight[1], columns.haircut_base[1], columns.haircut_penalty[1]
        assert scalar.collateral_weight(1.000001 * quanta * columns.haircut_size[1], *figures) < figures[0]


# ---- Threads


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_each_take_chunks_of_their_own(threads, monkeypatch):
    """Each waits until all have begun: with fewer threads than asked for the call would not end."""
    accounts, prices = large(6 * CHUNK + 1)
    alone, rows = bits(margin_table(accounts, prices, threads=1)), selected_rows(accounts, prices, 1)
    assert 0 < len(rows) < len(accounts)
    calls, barrier = [], Barrier(threads, timeout=30)

    def recorded(kernel):
        def call(first, last, *arguments):
            barrier.wait()
            calls.append((current_thread().name, first, last))
            kernel(first, last, *arguments)

        return call

    for name in ("sweep_chunks", "select_chunks"):
        monkeypatch.setattr(kernels, name, recorded(getattr(kernels, name)))
    for run, expected in (
        (lambda: bits(margin_table(accounts, prices, threads=threads)), alone),
        (lambda: selected_rows(accounts, prices, threads), rows),
    ):
        calls.clear()
        assert run() == expected
        assert len({name for name, _, _ in calls}) == threads
        edges = sorted((first, last) for _, first, last in calls)
        assert [first for first, _ in edges] == [0, *(last for _, last in edges[:-1])]
        assert edges[-1][1] == 7
        assert all(first < last for first, last in edges)


def selected_rows(accounts, prices, threads) -> list[int]:
    return selected(accounts, accounts.sweep_view.columns, prices, threads=threads).tolist()


def test_threads_follow_the_number_of_chunks(monkeypatch):
    """Without a number of threads: one for each so many chunks, and no more than there are cores."""
    module = importlib.import_module("riskcore.margin.sweep")  # the package has a function of that name
    accounts, prices = large(6 * CHUNK + 1)
    began, original = [], kernels.select_chunks

    def recorded(*arguments):
        began.append(arguments[:2])
        original(*arguments)

    monkeypatch.setattr(kernels, "select_chunks", recorded)
    monkeypatch.setattr(os, "process_cpu_count" if hasattr(os, "process_cpu_count") else "cpu_count", lambda: 4)
    for chunks, expected in ((8, 1), (7, 2), (3, 3), (1, 4)):
        began.clear()
        monkeypatch.setattr(module, "CHUNKS_PER_THREAD", chunks)
        selected_rows(accounts, prices, None)
        assert len(began) == expected


# ---- What is not a number


def listed(accounts: Accounts, columns, rows) -> tuple[dict, dict, np.ndarray]:
    """Who both kernels list, and why, and the net equities of the sweep."""
    state, chunks = columns, chunk_count(columns)
    answers = []
    figures = [np.empty(len(state.account)) for _ in range(4)]
    for whole in (False, True):
        found, counts = np.empty(len(state.account), np.int64), np.empty(chunks, np.int64)
        if whole:
            scratch = np.empty((CHUNK, 4))
            kernels.sweep_chunks(0, chunks, state, accounts.sweep_view.slot, rows, scratch, *figures, found, counts)
        else:
            kernels.select_chunks(0, chunks, state, rows, found, counts)
        told = [n for w in range(chunks) for n in found[w * CHUNK :][: counts[w]].tolist()]
        answers.append({n >> 2: n & 3 for n in told})
        assert len(answers[-1]) == len(told)
    return *answers, figures


@pytest.mark.parametrize("money", [False, True])
@pytest.mark.parametrize("what", ["market", "asset", "balance", "cash_minus_cost"])
def test_whoever_a_nan_touches_is_listed_and_nobody_else_changes(what, money):
    """Handed straight to the kernels, past all that would refuse it."""
    accounts, prices = large(CHUNK + 1, money)
    before = listed(accounts, accounts.sweep_view.columns, prices.lookup)
    columns = accounts.sweep_view.columns._replace(
        balance=accounts.sweep_view.columns.balance.copy(),
        cash_minus_cost=accounts.sweep_view.columns.cash_minus_cost.copy(),
    )
    given = prices.arrays._replace(
        price_per_lot=prices.arrays.price_per_lot.copy(),
        value_per_lot=prices.arrays.value_per_lot.copy(),
        price_per_quantum=prices.arrays.price_per_quantum.copy(),
    )
    state = accounts.columns
    owner, holder = accounts.position_accounts(), accounts.balance_accounts()
    fits = np.ones(len(accounts), bool)
    fits[columns.account[np.flatnonzero(np.unpackbits(columns.overflow, bitorder="little"))]] = False
    if what == "market":
        given.price_per_lot[1] = given.value_per_lot[1] = np.nan
        touched = np.unique(owner[state.market == 1])
    elif what == "asset":
        given.price_per_quantum[1] = np.nan
        touched = np.unique(holder[state.asset == 1])
    else:
        touched = np.arange(3, len(accounts), 5)
        slots = accounts.sweep_view.slots(touched)
        if what == "balance":
            columns.balance[8 * columns.balance_group[slots // 8].astype(np.int64) + slots % 8] = np.nan
        else:
            columns.cash_minus_cost[slots] = np.nan
    rows = copied_lookup(prices.lookup)
    kernels.fill_sweep_lookup(given, rows)
    after = listed(accounts, columns, rows)
    others = np.setdiff1d(np.arange(len(accounts)), touched)
    exposed = (one_by_one(accounts, prices).exposure > 0) | (what in ("market", "balance"))
    resting = np.zeros(len(accounts), bool)
    resting[state.open_orders > 0] = True
    assert len(touched) > 500
    assert len(others) > 500
    for found in after[:2]:
        assert {n for n in touched[exposed[touched]].tolist() if n not in found} == set()
        # sure to be at 100 % is nobody of whom it is not known
        assert {n for n in touched.tolist() if found.get(n) == kernels.DECIDED} == set()
    for n in others.tolist():
        assert (after[0].get(n), after[1].get(n)) == (before[0].get(n), before[1].get(n))
    for one, other in zip(before[2], after[2], strict=True):
        assert one[others].tobytes() == other[others].tobytes()
    sound = touched[fits[touched]]
    assert np.isnan(after[2][0][sound]).all()


@pytest.mark.parametrize("money", [False, True])
@pytest.mark.parametrize("what", ["market", "asset", "balance"])
def test_an_account_with_a_nan_is_neither_safe_nor_confirmed_in_an_interval(what, money):
    from riskcore.margin.screen import PriceIntervals, interval_values

    accounts, prices = large(CHUNK + 1, money)
    values = interval_values(prices)
    intervals = PriceIntervals.around(prices, values * 0.999, values * 1.001)
    columns = accounts.sweep_view.columns._replace(balance=accounts.sweep_view.columns.balance.copy())
    touched = np.arange(len(accounts))
    if what == "market":
        for table in (intervals.worst.market, intervals.best.market):
            table[1, :2] = np.nan
        touched = np.unique(accounts.position_accounts()[accounts.columns.market == 1])
    elif what == "asset":
        for table in (intervals.worst.asset, intervals.best.asset):
            table[1, :2] = np.nan
        touched = np.unique(accounts.balance_accounts()[accounts.columns.asset == 1])
    else:
        columns.balance[:] = np.nan
    watch, confirmed = intervals.decide(columns, 0, chunk_count(columns))
    watched, confirmed = (set(columns.account[slots].tolist()) for slots in (watch.slots, confirmed))
    exposed = one_by_one(accounts, prices).exposure > 0 if what == "asset" else np.ones(len(accounts), bool)
    assert {n for n in touched[exposed[touched]].tolist() if n not in watched} == set()
    assert confirmed.isdisjoint(touched.tolist())


# ---- One owner, and views of it


def arrays(accounts: Accounts):
    yield from accounts.columns._asdict().items()
    yield from ((f"orders.{name}", array) for name, array in accounts.orders.columns._asdict().items())
    yield from (("ids", accounts.ids), ("leverage_limit", accounts.leverage_limit))


def test_nobody_can_write_to_accounts():
    accounts, _ = large(40)
    for name, array in (*arrays(accounts), *arrays(accounts.view()), *arrays(accounts.copy().view())):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = array[:1]
        assert not array.flags.writeable, name


def test_a_copy_can_be_written_to_and_shares_nothing_that_changes():
    accounts, _ = large(40)
    before = {name: array.copy() for name, array in arrays(accounts)}
    state = accounts.copy()
    changing = (
        "lots",
        "open_bid",
        "open_ask",
        "cost",
        "entry",
        "free",
        "lent",
        "balance_cost",
        "open_orders",
        "unsettled",
    )
    for name in changing:
        getattr(state.columns, name)[:] += 1
    for field in state.orders.columns:
        field[:] = 1
    for name, array in arrays(accounts):
        assert array.tobytes() == before[name].tobytes(), name


def test_a_view_of_a_copy_shows_what_its_owner_writes():
    state = large(40)[0].copy()
    view = state.view()
    state.columns.lots[:] = 5
    state.columns.unsettled[3] = 77
    assert (view.columns.lots == 5).all()
    assert view.columns.unsettled[3] == 77


def test_accounts_are_packed_once():
    accounts, _ = large(40)
    assert accounts.sweep_view is accounts.sweep_view
    assert accounts.view().sweep_view is not accounts.sweep_view


def slice_of(rows: range) -> slice:
    return slice(rows.start, rows.stop)


def edit(state, rng, accounts) -> None:
    """Change something of every kind of some accounts, past the ends of int32 too."""
    columns = state.columns
    for account in accounts.tolist():
        for row in state.positions_of(account):
            columns.lots[row] = rng.choice([0, 5, -7, 2**31 - 1, 2**31, -(2**31), columns.lots[row]])
        for row in state.balances_of(account):
            columns.free[row] = rng.choice([0, 10**6, -(10**6), columns.free[row]])
            columns.lent[row] = rng.choice([0, 0, 10**5, columns.lent[row]])
        columns.open_orders[account] = rng.choice([0, 1])
        money = np.union1d(columns.settle_row[account], columns.position_balance[slice_of(state.positions_of(account))])
        columns.unsettled[money] += rng.integers(-(10**6), 10**6)
        columns.balance_cost[money] += rng.integers(-(10**6), 10**6)


@pytest.mark.parametrize("money", [False, True])
@pytest.mark.parametrize("count", [1, 8, 30, CHUNK + 1])
def test_what_is_refreshed_is_what_packing_anew_gives(count, money):
    accounts, prices = large(count, money)
    state, rng = accounts.copy(), np.random.default_rng(5)
    view = state.view()
    sweep_view = view.sweep_view
    for _ in range(4):
        rows = np.unique(rng.integers(0, count, 20))
        edit(state, rng, rows)
        sweep_view.refresh(state.columns, rows)
        fresh = SweepView.of(state.columns, state.units)
        for name, column in sweep_view.columns._asdict().items():
            assert column.dtype == getattr(fresh.columns, name).dtype
            assert column.tobytes() == getattr(fresh.columns, name).tobytes(), name
        assert sweep_view.slot.tobytes() == fresh.slot.tobytes()
        assert not sweep_view.differs(state.columns)
        same(view, prices, slice(0, None, 500))


STALE = {
    "lots": 1, "free": 1, "lent": 1, "balance_cost": 1, "unsettled": 1, "open_orders": None,
}  # fmt: skip


@settings(max_examples=60)
@given(st.sampled_from(sorted(STALE)), st.booleans(), st.integers(0, 2**32))
def test_a_view_that_was_not_told_of_a_change_is_known_to_be_stale(name, money, seed):
    accounts, _ = large(30, money)
    state, rng = accounts.copy(), np.random.default_rng(seed)
    sweep_view = state.view().sweep_view
    assert not sweep_view.differs(state.columns)
    column = getattr(state.columns, name)
    row = rng.integers(len(column))
    if name == "open_orders":
        column[row] = 0 if column[row] else 1
    else:
        if name in ("balance_cost", "unsettled"):
            row = rng.choice(np.union1d(state.columns.settle_row, state.columns.position_balance))
        account = (state.position_accounts() if name == "lots" else state.balance_accounts())[row]
        slot = sweep_view.slots(np.array([account]))[0]
        assume(not sweep_view.columns.overflow[slot // 8] >> slot % 8 & 1)
        assume(name != "lent" or state.columns.free[row] >= 0)
        assume(name != "lots" or column[row] < 2**31 - 1)
        assume(abs(int(column[row])) < 2**52)
        column[row] += STALE[name]
    assert sweep_view.differs(state.columns)


@settings(max_examples=40)
@given(st.integers(1, 300), st.booleans(), st.integers(0, 2**32))
def test_copied_slots_hold_what_the_slots_hold(count, money, seed):
    """Some alone, one after another, of groups as wide as they are: nothing of others comes along."""
    accounts, prices = large(300, money)
    sweep_view, rng = accounts.sweep_view, np.random.default_rng(seed)
    rows = np.sort(rng.choice(300, count, replace=False))
    slots = np.sort(sweep_view.slots(rows))
    copy = copy_slots(sweep_view.columns, slots, sweep_view.market_count, sweep_view.asset_count)
    of = sweep_view.columns.account[slots]
    assert copy.account[:count].tolist() == of.tolist()
    assert (copy.account[count:] == 0).all()
    found = selected(accounts, copy, prices)
    known = np.flatnonzero(one_by_one(accounts, prices).liquidatable)
    assert found.tolist() == np.intersect1d(known, rows).tolist()
    for name in ("has_orders", "has_leverage_limit", "overflow"):
        ours, theirs = (np.unpackbits(getattr(c, name), bitorder="little") for c in (copy, sweep_view.columns))
        assert ours[:count].tolist() == theirs[slots].tolist()
        assert not ours[count:].any()
    for n in range(count):
        for offset, index, amount, none in (
            ("position_group", "market", "lots", sweep_view.market_count),
            ("balance_group", "asset", "balance", sweep_view.asset_count),
            ("extra_group", "extra_market", "extra_lots", sweep_view.market_count),
            ("extra_group", "extra_asset", "extra_quanta", sweep_view.asset_count),
        ):  # fmt: skip
            ours, theirs = (
                [
                    (int(getattr(c, index)[8 * r + lane]), float(getattr(c, amount)[8 * r + lane]))
                    for r in range(int(getattr(c, offset)[group]), int(getattr(c, offset)[group + 1]))
                ]
                for c, group, lane in ((copy, *divmod(n, 8)), (sweep_view.columns, *divmod(int(slots[n]), 8)))
            )
            assert ours[: len(theirs)] == theirs
            assert set(ours[len(theirs) :]) <= {(none, 0.0)}


# ---- With the interpreter


def digest(counts=(9, 70)) -> str:
    """Hash of tables, selections and screened ticks of crowds."""
    from riskcore.margin.screen import Screen

    found = hashlib.sha256()
    for seed, (count, money) in enumerate(product(counts, (False, True)), 1):
        market = every_kind(money)
        accounts = crowd(market, count, seed)
        state = accounts.copy()
        view = state.view()
        screen, rng = Screen(view, market.venue, check=True), np.random.default_rng(seed)
        for step in range(8):
            prices = market.prices(
                view, market.mark * np.exp(rng.normal(0, 0.003 if step < 5 else 0.1, len(market.mark)))
            )
            table = margin_table(view, prices)
            for name in COLUMNS:
                found.update(getattr(table, name).tobytes())
            found.update(selected(view, view.sweep_view.columns, prices).tobytes())
            found.update(screen.rows(prices).tobytes())
            rows = np.unique(rng.integers(0, count, 3))
            edit(state, rng, rows)
            screen.changed(rows)
    return found.hexdigest()


def test_a_copy_that_was_written_to_is_swept_as_it_is():
    venue, tables = sample.crash(50, 2)
    copy = Accounts.from_frames(venue, tables.positions, tables.balances).copy()
    marks = dict.fromkeys(venue.markets.symbol, 1000.0)
    before = sweep(copy, venue, marks).net_equity
    copy.columns.free[copy.columns.settle_row] += 1_000_000
    np.testing.assert_allclose(sweep(copy, venue, marks).net_equity, before + 1.0, rtol=1e-12)


def test_a_table_that_somebody_holds_any_of_is_not_written_over():
    accounts, prices = large(CHUNK + 1)
    held = margin_table(accounts, prices).initial_margin[3:17]
    before = held.tobytes()
    moved = every_kind().prices(accounts, 1.5 * every_kind().mark)
    tables = [margin_table(accounts, p) for p in (moved, prices, moved)]
    assert held.tobytes() == before
    assert tables[0].to_frame().equals(tables[2].to_frame())
    assert not tables[0].to_frame().equals(tables[1].to_frame())


def python(*arguments: str, **environment: str) -> str:
    """Output of another process."""
    run = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_interpreter_and_compiler_give_the_same_bits():
    assert json.loads(python("-m", "tests.test_sweep_view", "9", "70", NUMBA_DISABLE_JIT="1")) == [
        kernels.WIDTH,
        digest(),
    ]


# ---- Without vectors


def test_plain_loops_give_the_bits_of_vectors():
    """Crowds of one group, of several, and of more than one chunk."""
    assert kernels.WIDTH == 8
    counts = 9, 70, CHUNK + 9
    plain = python("-m", "tests.test_sweep_view", *map(str, counts), RISKCORE_SIMD="0")
    assert json.loads(plain) == [1, digest(counts)]


def test_without_vectors_of_numba_the_sweep_runs_in_plain_loops():
    """As where a version of Numba lacks something that they are built with; it is reported once."""
    code = """
import sys, warnings
sys.modules["riskcore.kernels._simd"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from riskcore import Accounts, sample, sweep
    venue, tables = sample.crash(20, 2)
    accounts = Accounts.from_frames(venue, tables.positions, tables.balances)
    table = sweep(accounts, venue, dict.fromkeys(venue.markets.symbol, 1000.0))
from riskcore.kernels import sweep as kernels
print(kernels.WIDTH, len(table.account), [str(warning.message) for warning in caught])
"""
    width, accounts, message = python("-c", code).split(" ", 2)
    assert (width, int(accounts) >= 20) == ("1", True)
    assert message.startswith("['riskcore sweeps without vector instructions: ")
    assert message.count("riskcore") == 2  # the module that is missing is the second


if __name__ == "__main__":
    print(json.dumps([kernels.WIDTH, digest(tuple(map(int, sys.argv[1:])))]))
