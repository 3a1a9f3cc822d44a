"""The contract with vectorbt 1.2.0: what riskcore.hosts.vectorbt uses of it, and what the two do together."""

from __future__ import annotations

import inspect
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pytest
import vectorbt as vbt
from vectorbt.base.reshape_fns import flex_select_auto_nb
from vectorbt.portfolio.enums import FlexOrderContext, OrderSide, order_dt
from vectorbt.portfolio.nb import order_nb, order_nothing_nb

import riskcore as rc
from riskcore.audit import audit
from riskcore.hosts import vectorbt as host

from .. import pages

FIRST = {"BTC_USDC_PERP": 100_000.0, "ETH_USDC_PERP": 4_000.0}
TICKS = {"BTC_USDC_PERP": 0.1, "ETH_USDC_PERP": 0.01}
SIZES = np.array([5.0, -100.0])
DEPTH = np.array([[0.5, 10.0]])
CASH, CREDIT, FEES, HALF = 40_000.0, 2_000_000.0, 0.0005, 0.00002
POLICY = {"slice_probability": 1, "liquidation_interval": None, "slices_per_tick": 2}
PARTS = (
    np.r_[np.linspace(1, 0.92, 21), np.full(25, 0.92)],
    np.r_[np.linspace(1, 0.92, 21), np.linspace(0.924, 1.02, 25)],
)
GAP = np.r_[1.0, 1.0, np.full(18, 0.88)], np.r_[1.0, 1.0, np.full(18, 1.04)]


# ---------------------------------------------------------------- what is used of the package


def test_the_version_is_the_one_that_the_extra_names():
    assert vbt.__version__ == "1.2.0"


def test_the_context_the_records_and_the_functions_have_what_the_host_reads():
    used = {
        "i", "call_idx", "group", "group_len", "from_col", "cash_sharing", "close", "flex_2d", "last_cash",
        "last_oidx", "order_records",
    }  # fmt: skip
    assert used <= set(FlexOrderContext._fields)
    assert {"size", "price", "fees", "side"} <= set(order_dt.names)
    assert (OrderSide.Buy, OrderSide.Sell) == (0, 1)
    arguments = inspect.signature(order_nb.py_func).parameters
    assert {"size", "price", "slippage", "fees", "fixed_fees"} <= set(arguments)
    assert arguments["lock_cash"].default is False
    assert list(inspect.signature(flex_select_auto_nb.py_func).parameters) == ["a", "i", "col", "flex_2d"]
    portfolio = inspect.signature(vbt.Portfolio.from_order_func).parameters
    assert {"flexible", "init_cash", "cash_sharing", "group_by", "max_orders", "row_wise"} <= set(portfolio)


@numba.njit
def trade_once(c, size):
    if c.i == 0 and c.call_idx == 0:
        return 0, order_nb(size=size, price=100.0, fees=0.01)
    return -1, order_nothing_nb()


def traded(size, cash):
    close = pd.DataFrame({"a": [100.0, 110.0], "b": [1.0, 1.0]})
    return vbt.Portfolio.from_order_func(
        close, trade_once, size, flexible=True, group_by=True, cash_sharing=True, init_cash=cash, max_orders=4
    )


def test_a_purchase_pays_its_price_in_cash_and_a_short_sale_receives_it():
    assert traded(2.0, 1000.0).cash().tolist() == [798.0, 798.0]
    assert traded(-2.0, 1000.0).cash().tolist() == [1198.0, 1198.0]
    assert traded(-2.0, 1000.0).value().tolist() == [998.0, 978.0]


def test_a_purchase_beyond_the_cash_is_filled_in_part():
    assert traded(20.0, 1010.0).assets()["a"].tolist() == [10.0, 10.0]


# ---------------------------------------------------------------- the two together


@numba.njit
def hold(c, account, depth, sizes, enforce, out):
    """Open positions, and hold them; the account at the end of each bar, before the next one begins."""
    if enforce:
        column, order = host.liquidation_order_nb(c, account, depth, HALF)
        out[c.group, c.i] = host.equity_nb(account)
        if column != -1 or host.is_liquidating_nb(account):
            return column, order
    if c.i == 0 and c.call_idx < 2:
        size = sizes[c.call_idx]
        if not enforce or host.allows_order_nb(account, c.call_idx, size):
            return c.from_col + c.call_idx, order_nb(size=size, fees=FEES)
    return -1, order_nothing_nb()


def prices(parts, groups=1):
    columns = {symbol: np.round(first * part, 1) for (symbol, first), part in zip(FIRST.items(), parts, strict=True)}
    index = pd.date_range("2026-01-01 00:05", periods=len(parts[0]), freq="s", tz="UTC")
    one = pd.DataFrame(columns, index=index)
    return one if groups == 1 else pd.concat([one] * groups, axis=1, keys=range(groups))


def venue(**policy):
    return rc.load_venue("backpack").replace(policy=POLICY | policy)


def run(parts, *, fill_at_host, enforce=True, groups=1, credit=CREDIT, init=None, size=1.0, row_wise=False):
    close, sizes = prices(parts, groups), size * SIZES
    account = host.open_account(venue(), list(FIRST), FIRST, CASH, credit, fill_at_host=fill_at_host)
    out = np.full((groups, len(close)), np.nan)
    portfolio = vbt.Portfolio.from_order_func(
        close, hold, account, DEPTH if groups == 1 else np.tile(DEPTH, groups), sizes, enforce, out, flexible=True,
        group_by=np.repeat(np.arange(groups), 2), cash_sharing=True, init_cash=CASH + credit if init is None else init,
        max_orders=2_000, row_wise=row_wise,
    )  # fmt: skip
    return portfolio, account, out


def engine(book):
    empty = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    balances = pd.DataFrame({"account": ["ann"], "asset": ["USDC"], "quantity": [CASH]})
    made = rc.Engine(rc.Accounts.from_frames(venue(), empty, balances), venue(), seed=1, book=book)
    account = made.account("ann")
    for (symbol, price), size in zip(FIRST.items(), SIZES.tolist(), strict=True):
        account.fill(symbol, size, price, fee=FEES * abs(size) * price, check="off")
    return made, account


def ticks(close):
    """The ticks of an engine that sees the book of a level on each side."""
    for time, row in close.iterrows():
        books = {}
        for (symbol, mark), quantity in zip(row.items(), DEPTH[0].tolist(), strict=True):
            bid = np.floor(mark * (1 - HALF) / TICKS[symbol] + 1e-9) * TICKS[symbol]
            ask = np.ceil(mark * (1 + HALF) / TICKS[symbol] - 1e-9) * TICKS[symbol]
            books[symbol] = {"bids": [(round(bid, 2), quantity)], "asks": [(round(ask, 2), quantity)]}
        yield rc.Tick(time, row.to_dict(), books)


PATHS = pytest.mark.parametrize("parts", [PARTS, GAP], ids=["turn", "gap"])


@PATHS
def test_slices_that_riskcore_fills_are_those_of_an_engine(parts, tmp_path):
    close = prices(parts)
    portfolio, _, _ = run(parts, fill_at_host=False)
    value, held = portfolio.value() - CREDIT, portfolio.assets()
    made, ann = engine("engine")
    for row, tick in enumerate(ticks(close)):
        made.step(tick)
        for symbol in FIRST:
            position = ann.positions.get(symbol)
            assert held[symbol].iloc[row] == pytest.approx(position.quantity if position else 0.0, abs=1e-8), row
        assert value.iloc[row] == pytest.approx(ann.equity, abs=1e-4), row
    assert len(portfolio.orders.records) > 4
    made.save(tmp_path / "run")
    assert audit(tmp_path / "run").breaches.empty


@PATHS
def test_slices_that_vectorbt_fills_are_those_that_an_engine_proposes(parts, tmp_path):
    close = prices(parts)
    portfolio, _, _ = run(parts, fill_at_host=True)
    records = portfolio.orders.records.iloc[2:]
    made, ann = engine("host")
    for row, tick in enumerate(ticks(close)):
        slices = made.step(tick).slices
        orders = records[records["idx"] == row]
        sizes = orders["size"] * np.where(orders["side"] == OrderSide.Sell, -1, 1)
        sent = dict(zip(orders["col"].map(dict(enumerate(FIRST))), sizes, strict=True))
        assert sent == pytest.approx(dict(zip(slices["market"], slices["quantity"], strict=True)), abs=1e-9), row
        for symbol, size, price in zip(sent, sizes, orders["price"], strict=True):
            ann.confirm(symbol, round(size, 5), price)
    assert len(records) > 2
    assert portfolio.value().iloc[-1] - CREDIT == pytest.approx(ann.equity, abs=1e-3 if ann.positions else 0.1)
    made.save(tmp_path / "run")
    assert audit(tmp_path / "run").breaches.empty


@pytest.mark.parametrize("fill_at_host", [True, False])
def test_a_loss_beyond_the_cash_is_the_venues(fill_at_host):
    portfolio, account, _ = run(GAP, fill_at_host=fill_at_host)
    assert account.totals[2] > 0
    assert portfolio.value().iloc[-1] - CREDIT == pytest.approx(0.0, abs=0.1)
    assert portfolio.assets().iloc[-1].abs().max() < 1e-8
    assert run(GAP, fill_at_host=True, enforce=False)[0].value().iloc[-1] - CREDIT < -20_000.0


def test_every_group_is_an_account_that_starts_anew():
    one, _, alone = run(PARTS, fill_at_host=False)
    two, _, both = run(PARTS, fill_at_host=False, groups=2)
    np.testing.assert_array_equal(both[0], alone[0])
    np.testing.assert_array_equal(both[1], alone[0])
    np.testing.assert_allclose(two.value().to_numpy()[:, 1], one.value().to_numpy())


def test_an_order_beyond_the_initial_margin_is_not_allowed():
    held = run(PARTS, fill_at_host=True, size=2.0)[0].assets()
    assert held.iloc[0].tolist() == [10.0, 0.0]  # bitcoin alone is within it, ether on top is not


def test_another_cash_a_credit_that_is_too_small_and_rows_before_groups_are_refused():
    with pytest.raises(ValueError, match="init_cash must be its cash and credit"):
        run(PARTS, fill_at_host=True, init=CASH)
    with pytest.raises(ValueError, match="init_cash must be its cash and credit"):
        run(PARTS, fill_at_host=True, init=np.inf)
    with pytest.raises(ValueError, match="row_wise must be False"):
        run(PARTS, fill_at_host=True, groups=2, row_wise=True)
    for credit in (np.inf, -1.0):
        with pytest.raises(rc.RiskDataError, match="credit"):
            host.open_account(venue(), list(FIRST), FIRST, CASH, credit)
    with pytest.raises(rc.RiskDataError, match="must be 2 different markets"):
        host.open_account(venue(), ["BTC_USDC_PERP"] * 2, FIRST, CASH, CREDIT)
    with pytest.raises(rc.RiskDataError, match=r"policy\.account_cap: must be null"):
        host.open_account(venue(account_cap=1000), list(FIRST), FIRST, CASH, CREDIT)


def test_the_page_prints_what_it_shows(tmp_path: Path):
    page = "docs/hosts/vectorbt.md"
    assert pages.run(page, tmp_path) == pages.as_text(page)
