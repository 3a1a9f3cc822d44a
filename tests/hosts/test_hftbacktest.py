"""The contract with hftbacktest 2.4.4: what riskcore.hosts.hftbacktest uses of it, and what the two do together."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import hftbacktest
import numba
import numpy as np
import pandas as pd
import pytest
from hftbacktest import (
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTC,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
    binding,
    order,
    types,
)

import riskcore as rc
from riskcore.audit import audit
from riskcore.hosts import hftbacktest as host

from .. import pages

BOTH = EXCH_EVENT | LOCAL_EVENT
SECOND = 1_000_000_000
START = 1_767_225_900 * SECOND  # 2026-01-01 00:05 UTC


def snapshots(mids: np.ndarray, half: float, step: float, quantities: list[float]) -> np.ndarray:
    """Snapshots of an order book, one a second; the quantities are those of the levels of a side, best first."""
    rows: list[tuple[Any, ...]] = []
    for second, mid in enumerate(mids):
        time = START + second * SECOND
        rows.append((DEPTH_CLEAR_EVENT | BOTH, time, time, 0.0, 0.0, 0, 0, 0.0))
        for level, quantity in enumerate(quantities):
            for side, sign in ((BUY_EVENT, -1), (SELL_EVENT, 1)):
                price = mid + sign * (half + level * step)
                rows.append((DEPTH_EVENT | side | BOTH, time, time, price, quantity, 0, 0, 0.0))
    return np.array(rows, types.event_dtype)


def asset(events: np.ndarray, *, partial: bool = False, tick: float = 0.1, lot: float = 0.001) -> BacktestAsset:
    """An asset without latency whose fees are 2 and 5 basis points; it keeps no copy of the events."""
    made = (
        BacktestAsset().data(events).linear_asset(1.0).constant_order_latency(0, 0).power_prob_queue_model(2.0)
        .tick_size(tick).lot_size(lot).trading_value_fee_model(0.0002, 0.0005).last_trades_capacity(0)
    )  # fmt: skip
    return made.partial_fill_exchange() if partial else made.no_partial_fill_exchange()


# ---------------------------------------------------------------- what is used of the package


def test_the_version_is_the_one_that_the_extra_names():
    assert hftbacktest.__version__ == "2.4.4"


@pytest.mark.parametrize("kind", [binding.HashMapMarketDepthBacktest_, binding.ROIVectorMarketDepthBacktest_])
def test_the_methods_have_the_arguments_that_the_host_passes(kind):
    methods, properties = kind.class_type.jit_methods, kind.class_type.jit_props
    expected = {
        "submit_buy_order": ["asset_no", "order_id", "price", "qty", "time_in_force", "order_type", "wait"],
        "submit_sell_order": ["asset_no", "order_id", "price", "qty", "time_in_force", "order_type", "wait"],
        "cancel": ["asset_no", "order_id", "wait"],
        "wait_order_response": ["asset_no", "order_id", "timeout"],
        "clear_inactive_orders": ["asset_no"],
        "orders": ["asset_no"],
        "depth": ["asset_no"],
        "state_values": ["asset_no"],
        "elapse": ["duration"],
    }
    for name, arguments in expected.items():
        assert list(inspect.signature(methods[name].py_func).parameters) == ["self", *arguments]
    assert {"num_assets", "current_timestamp"} <= set(properties)


@pytest.mark.parametrize("kind", [binding.HashMapMarketDepth_, binding.ROIVectorMarketDepth_])
def test_the_depth_has_what_the_host_reads(kind):
    assert {"best_bid_tick", "best_ask_tick", "tick_size", "lot_size"} <= set(kind.class_type.jit_props)
    for name in ("bid_qty_at_tick", "ask_qty_at_tick"):
        method = kind.class_type.jit_methods[name]
        assert list(inspect.signature(method.py_func).parameters) == ["self", "price_tick"]


def test_the_state_and_the_orders_have_the_fields_that_the_host_reads():
    assert types.state_values_dtype.names == (
        "position", "balance", "fee", "num_trades", "trading_volume", "trading_value",
    )  # fmt: skip
    assert "arr" in dict(binding.StateValues_.class_type.struct)
    assert {"order_id", "cancellable", "req", "status", "exec_qty"} <= set(binding.Order_.class_type.jit_props)
    assert (order.NONE, order.NEW, order.FILLED, order.PARTIALLY_FILLED) == (0, 1, 3, 5)
    assert (LIMIT, GTC, order.FOK, order.IOC) == (0, 0, 2, 3)


@numba.njit
def sell_once(hbt, quantity, ticks_below, time_in_force, out):
    """Sell with a limit below the best bid; position, balance and fee of the state, lots left open, status."""
    hbt.elapse(SECOND)
    depth = hbt.depth(0)
    price = (depth.best_bid_tick - ticks_below) * depth.tick_size
    hbt.submit_sell_order(0, 1, price, quantity, time_in_force, LIMIT, True)
    values, sent = hbt.state_values(0), hbt.orders(0).get(1)
    out[:3] = values.position, values.balance, values.fee
    if sent is not None:
        out[3], out[4] = sent.leaves_qty, sent.status


def sold(quantity: float, ticks_below: int, time_in_force: int, *, partial: bool, kind: Any) -> np.ndarray:
    events, out = snapshots(np.full(4, 100.0), 0.1, 0.1, [1.0, 2.0, 3.0]), np.zeros(5)
    made = asset(events, partial=partial).roi_lb(50.0).roi_ub(150.0)
    hbt = kind([made])
    sell_once(hbt, quantity, ticks_below, time_in_force, out)
    assert hbt.close() == 0
    return out


KINDS = pytest.mark.parametrize("kind", [HashMapMarketDepthBacktest, ROIVectorMarketDepthBacktest])


@KINDS
def test_the_balance_is_what_sales_bring_and_has_no_fees(kind):
    position, balance, fee, *_ = sold(1.0, 0, order.IOC, partial=True, kind=kind)
    assert (position, balance, fee) == (-1.0, pytest.approx(99.9), pytest.approx(99.9 * 0.0005))


@KINDS
def test_without_partial_fills_an_order_fills_whole_at_the_best_price_whatever_its_size(kind):
    position, balance, *_ = sold(5.0, 0, order.IOC, partial=False, kind=kind)
    assert (position, balance) == (-5.0, pytest.approx(5 * 99.9))


@KINDS
def test_an_order_that_fills_in_parts_is_lost_from_the_state(kind):
    """Issues 299 and 316 of hftbacktest: this is why a slice takes at most the best level. It fails once repaired."""
    position, balance, _, left, status = sold(3.0, 1, order.IOC, partial=True, kind=kind)
    assert (position, balance, left, status) == (-2.0, pytest.approx(2 * 99.8), 0.0, order.FILLED)  # 1 of 3 is lost
    position, _, _, left, status = sold(4.0, 1, order.IOC, partial=True, kind=kind)
    assert (position, left, status) == (0.0, 1.0, order.EXPIRED)  # 3 of 3 are lost


@numba.njit
def write_state(hbt, out):
    hbt.elapse(SECOND)
    values = hbt.state_values(0)
    values.arr[0].position += 2.0
    values.arr[0].balance -= 200.0
    values.arr[0].fee += 0.5
    hbt.elapse(SECOND)
    out[:] = hbt.position(0), hbt.state_values(0).balance, hbt.state_values(0).fee


@KINDS
def test_the_state_is_memory_that_a_fill_can_be_written_to(kind):
    events, out = snapshots(np.full(4, 100.0), 0.1, 0.1, [1.0]), np.zeros(3)
    hbt = kind([asset(events).roi_lb(50.0).roi_ub(150.0)])
    write_state(hbt, out)
    assert out.tolist() == [2.0, -200.0, 0.5]


# ---------------------------------------------------------------- the two together

MARKETS = {"BTC_USDC_PERP": (100_000.0, 0.1, 0.00001, 5.0), "ETH_USDC_PERP": (4_000.0, 0.01, 0.0001, -100.0)}
"""First mark, tick, lot, and the position that the strategy opens."""
QUANTITIES = ([0.5] * 20, [10.0] * 20)
CASH = 40_000.0
POLICY = {"slice_probability": 1, "liquidation_interval": None}
EQUITY, MMR, ACTED = range(6, 9)
TURN = (
    np.r_[np.linspace(1, 0.92, 21), np.full(25, 0.92)],
    np.r_[np.linspace(1, 0.92, 21), np.linspace(0.924, 1.02, 25)],
)
GAP = (np.r_[1.0, 1.0, np.full(18, 0.88)], np.r_[1.0, 1.0, np.full(18, 1.04)])


@numba.njit
def hold(hbt, account, quantities, enforce, resting, rate, out):
    """Open positions, and hold them; a row a second: both states, equity, MMR, whether it liquidates, mids."""
    hbt.elapse(1)
    for n in range(2):
        if host.allows_order(hbt, account, n, quantities[n]):
            depth = hbt.depth(n)
            if quantities[n] > 0.0:
                hbt.submit_buy_order(n, 1, depth.best_ask, quantities[n], order.IOC, LIMIT, True)
            else:
                hbt.submit_sell_order(n, 1, depth.best_bid, -quantities[n], order.IOC, LIMIT, True)
    if resting > 0.0:
        hbt.submit_buy_order(0, 2, hbt.depth(0).best_bid / 2.0, resting, GTC, LIMIT, False)
    for row in range(len(out)):
        if rate != 0.0:
            host.pay_funding(hbt, account, 0, rate)
        if enforce:
            out[row, 8] = host.enforce_margin(hbt, account)
        host.follow(hbt, account)
        for n in range(2):
            values = hbt.state_values(n)
            out[row, 3 * n], out[row, 3 * n + 1], out[row, 3 * n + 2] = values.position, values.balance, values.fee
            out[row, 9 + n] = (hbt.depth(n).best_bid + hbt.depth(n).best_ask) / 2.0
        out[row, 6], out[row, 7] = host.equity(account), host.mmr(account)
        if hbt.elapse(SECOND) != 0:
            return row + 1
    return len(out)


def mids(path):
    return [np.round(first * part, 1) for (first, *_), part in zip(MARKETS.values(), path, strict=True)]


def backtest(path, *, partial=False, latency=0, contract=1.0, lot=None, tick=None):
    events, assets = [], []
    for (_, own_tick, own_lot, _), prices, quantities in zip(MARKETS.values(), mids(path), QUANTITIES, strict=True):
        events.append(snapshots(prices, own_tick, 10 * own_tick, quantities))
        made = asset(events[-1], partial=partial, tick=tick or own_tick, lot=lot or own_lot)
        assets.append(made.linear_asset(contract).constant_order_latency(latency, latency))
    return HashMapMarketDepthBacktest(assets), events


def venue(**policy):
    return rc.load_venue("backpack").replace(policy=POLICY | policy)


def run(path, *, fill_at_host, enforce=True, resting=0.0, rate=0.0, size=1.0, of=None, **options):
    """Run the strategy on a path; its records, the account, and the orders of asset 0 that stay open."""
    hbt, events = backtest(path, **options)
    marks = {symbol: first for symbol, (first, *_) in MARKETS.items()}
    account = host.open_account(hbt, of or venue(), list(MARKETS), marks, CASH, fill_at_host=fill_at_host)
    out, quantities = np.zeros((len(path[0]), 11)), np.array([size * row[3] for row in MARKETS.values()])
    rows = hold(hbt, account, quantities, enforce, resting, rate, out)
    left = hbt.orders(0).get(2)
    left = None if left is None else left.status
    hbt.close()
    del events  # hftbacktest read them in place
    return out[:rows], account, left


def equity_of_host(out):
    """Equity by the page's formula: cash + balance + position * price - fee."""
    return CASH + sum(out[:, 3 * n + 1] + out[:, 3 * n] * out[:, 9 + n] - out[:, 3 * n + 2] for n in range(2))


def ticks(path, levels):
    """The ticks of an engine that sees the same books, with so many levels."""
    for row, prices in enumerate(zip(*mids(path), strict=True)):
        marks, books = {}, {}
        for (symbol, (_, tick, *_)), mid, quantities in zip(MARKETS.items(), prices, QUANTITIES, strict=True):
            away = tick * (1 + 10 * np.arange(levels))
            marks[symbol] = float(mid)
            books[symbol] = {
                side: [(round(float(price), 2), q) for price, q in zip(mid + sign * away, quantities, strict=False)]
                for side, sign in (("bids", -1), ("asks", 1))
            }
        yield rc.Tick(START + row * SECOND, marks, books)


def engine(path, out, book):
    """An engine whose account has done the two trades of the strategy."""
    balances = pd.DataFrame({"account": ["ann"], "asset": ["USDC"], "quantity": [CASH]})
    positions = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    accounts = rc.Accounts.from_frames(venue(), positions, balances)
    made = rc.Engine(accounts, venue(), seed=1, book=book)
    account = made.account("ann")
    for _n, (symbol, (first, tick, _, quantity)) in enumerate(MARKETS.items()):
        price = round(first + tick, 2) if quantity > 0 else round(first - tick, 2)
        account.fill(symbol, quantity, price, fee=round(0.0005 * abs(quantity) * price, 6), check="off")
    return made, account


PATHS = pytest.mark.parametrize("path", [TURN, GAP], ids=["turn", "gap"])


@PATHS
def test_slices_that_fill_in_the_copy_are_those_of_an_engine(path, tmp_path):
    out, _account, _ = run(path, fill_at_host=False)
    assert out[:, ACTED].any()
    np.testing.assert_allclose(out[:, EQUITY], equity_of_host(out), atol=1e-5)
    made, ann = engine(path, out, "engine")
    for row, tick in zip(range(len(out)), ticks(path, 20), strict=False):
        made.step(tick)
        for n, symbol in enumerate(MARKETS):
            held = ann.positions.get(symbol)
            assert out[row, 3 * n] == pytest.approx(held.quantity if held else 0.0, abs=1e-9), (row, symbol)
        assert out[row, EQUITY] == pytest.approx(ann.equity, abs=2e-6), row
    made.save(tmp_path / "run")
    assert audit(tmp_path / "run").breaches.empty


@PATHS
def test_slices_that_the_host_fills_are_those_that_an_engine_proposes(path, tmp_path):
    out, account, _ = run(path, fill_at_host=True)
    assert out[:, ACTED].any()
    np.testing.assert_allclose(out[:, EQUITY], equity_of_host(out), atol=1e-5)
    made, ann = engine(path, out, "host")
    confirmed = 0
    for row, tick in zip(range(len(out)), ticks(path, 1), strict=False):
        slices = made.step(tick).slices.set_index("market")
        for n, symbol in enumerate(MARKETS):
            before = out[row - 1, 3 * n : 3 * n + 3] if row else out[0, 3 * n : 3 * n + 3]
            lots, money, fee = out[row, 3 * n : 3 * n + 3] - before
            assert lots == pytest.approx(slices["quantity"].get(symbol, 0.0), abs=1e-9), (row, symbol)
            if n == 0 and np.abs(out[row, [0, 3]]).max() < 1e-9:
                money -= account.totals[2] * 1e-6  # the venue's loss, which ends the account
            if abs(lots) > 1e-9:
                price = round(abs(money / lots), 2)
                assert fee == pytest.approx(abs(money) * slices["fee_rate"][symbol], abs=2e-6)
                ann.confirm(symbol, round(lots, 5), price)
                confirmed += 1
    assert confirmed
    for n, symbol in enumerate(MARKETS):
        held = ann.positions.get(symbol)
        assert out[-1, 3 * n] == pytest.approx(held.quantity if held else 0.0, abs=1e-9)
    assert out[-1, EQUITY] == pytest.approx(ann.equity, abs=1e-5)
    made.save(tmp_path / "run")
    assert audit(tmp_path / "run").breaches.empty


def test_a_liquidation_cancels_open_orders_and_a_safe_account_keeps_them():
    assert run(TURN, fill_at_host=True, resting=0.01)[2] == order.CANCELED
    assert run((TURN[0][:10], TURN[1][:10]), fill_at_host=True, resting=0.01)[2] == order.NEW


@pytest.mark.parametrize("fill_at_host", [True, False])
def test_a_loss_beyond_the_cash_is_the_venues(fill_at_host):
    out, account, _ = run(GAP, fill_at_host=fill_at_host)
    assert account.totals[2] > 0
    assert out[-1, EQUITY] == pytest.approx(0.0, abs=1e-6)
    assert out[-1, [0, 3]] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_orders_that_take_time_leave_the_equity_of_the_host():
    out, _, _ = run(TURN, fill_at_host=True, latency=20_000_000)
    assert out[:, ACTED].any()
    np.testing.assert_allclose(out[:, EQUITY], equity_of_host(out), atol=1e-5)


def test_an_order_beyond_the_initial_margin_is_not_allowed():
    out, _, _ = run(TURN, fill_at_host=True, size=2.0)
    assert out[0, [0, 3]].tolist() == [10.0, 0.0]  # bitcoin alone is within it, ether on top is not


def test_funding_changes_the_account_and_the_host():
    path = (TURN[0][:5], TURN[1][:5])
    free, paid = (run(path, fill_at_host=True, rate=rate)[0] for rate in (0.0, 0.0001))
    due = 5.0 * mids(path)[0] * 0.0001
    np.testing.assert_allclose(free[:, EQUITY] - paid[:, EQUITY], np.cumsum(due)[: len(free)], atol=1e-5)
    np.testing.assert_allclose(paid[:, EQUITY], equity_of_host(paid), atol=1e-5)


def test_other_sizes_and_contracts_are_refused():
    marks = {symbol: first for symbol, (first, *_) in MARKETS.items()}
    for options, message in (
        ({"lot": 0.001}, "hbt.asset 0, lot_size, value 0.001: must be 1e-05, that of BTC_USDC_PERP"),
        ({"tick": 0.5}, "hbt.asset 0, tick_size, value 0.5: must be 0.1, that of BTC_USDC_PERP"),
    ):
        hbt, events = backtest(GAP, **options)
        with pytest.raises(rc.RiskDataError) as refused:
            host.open_account(hbt, venue(), list(MARKETS), marks, CASH)
        assert message in str(refused.value)
        del events
    hbt, events = backtest(GAP)
    with pytest.raises(rc.RiskDataError, match="must be 2 different markets, one for each asset of the host"):
        host.open_account(hbt, venue(), ["BTC_USDC_PERP"] * 2, marks, CASH)
    with pytest.raises(rc.RiskDataError, match=r"policy\.account_cap: must be null"):
        host.open_account(hbt, venue(account_cap=1000), list(MARKETS), marks, CASH)
    del events
    with pytest.raises(ValueError, match="not of a linear asset with a contract size of 1"):
        run(GAP, fill_at_host=True, contract=10.0)


def test_the_page_prints_what_it_shows(tmp_path: Path):
    page = "docs/hosts/hftbacktest.md"
    assert pages.run(page, tmp_path) == pages.as_text(page)
