"""Amounts and their sums fit 64 bits, or the table that would bring them further is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.kernels import integer_math
from riskcore.liquidation import waterfall
from riskcore.record import InvariantError

USDC = "USDC"


def market(symbol: str = "TOK", *, tick: str = "0.0001", step: str = "1", highest: str | None = None) -> dict[str, Any]:
    price = {"tickSize": tick} | ({} if highest is None else {"maxPrice": highest})
    return {
        "symbol": f"{symbol}_PERP", "marketType": "PERP", "baseSymbol": symbol, "quoteSymbol": USDC,
        "filters": {"price": price, "quantity": {"stepSize": step}},
        "imfFunction": {"type": "sqrt", "base": "0.1", "factor": "0"},
        "mmfFunction": {"type": "sqrt", "base": "0.05", "factor": "0"},
    }  # fmt: skip


def venue(*markets: dict[str, Any], **more: Any) -> rc.Venue:
    return rc.load_venue({"settle_asset": USDC, "markets": list(markets or [market()]), "collateral": []} | more)


def held(market: str, quantity: float, price: float, cash: float, account: int = 1) -> tuple[Any, Any]:
    positions = {"account": [account], "market": [market], "quantity": [quantity], "entry_price": [price]}
    return pd.DataFrame(positions), pd.DataFrame({"account": [account], "asset": [USDC], "quantity": [cash]})


@pytest.mark.parametrize(
    ("tick", "step", "highest", "price", "quantity"),
    [
        ("0.0000001", "1", "200", 0.012, 500_000_000),  # six million USDC of a thousand PEPE
        ("0.0001", "0.00001", None, 97_000.0, 188.0),
        ("0.0001", "0.00001", "1000000", 97_000.0, 188.0),
        ("0.000001", "1", "1000", 0.0045, 1_000_000_000),
        ("1", "0.0001", None, 97_000.0, 5_000.0),
        ("0.0001", "0.001", None, 640_000.0, 50.0),  # more than 2**31 ticks
    ],
)
def test_positions_are_bounded_by_their_exact_value(tick, step, highest, price, quantity) -> None:
    rules = venue(market(tick=tick, step=step, highest=highest))
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", quantity, price, 1e7))
    table = rc.sweep(accounts, rules, {"TOK_PERP": price})
    assert table.net_equity[0] == pytest.approx(1e7)
    assert table.exposure[0] == pytest.approx(quantity * price)


def test_a_market_without_max_price_has_a_stated_one() -> None:
    rules = venue(market(tick="0.0001"))
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", 1, 1.0, 10.0))
    rule = "must be at most 1000000000, 10\\*\\*13 ticks of the market's tickSize: the market has no lower maxPrice"
    with pytest.raises(rc.RiskDataError, match=rule):
        rc.sweep(accounts, rules, {"TOK_PERP": 1.1e9})
    book = {"TOK_PERP": {"asks": [(1.1e9, 1)]}}
    with pytest.raises(rc.RiskDataError, match=rf"^books.price, row 0, value 1100000000.0: {rule}$"):
        rc.Engine(accounts, rules).step(rc.Tick(10**18, {"TOK_PERP": 1.0}, book))
    assert rc.sweep(accounts, rules, {"TOK_PERP": 1e9}).exposure[0] == 1e9


@pytest.mark.parametrize(
    ("value", "numerator", "denominator"),
    [(2**60, 3, 2), (2**60, 2**61 - 1, 2**61), (2**61 - 1, 1, 10**12), (10**12, 10**6, 1), (7, 1, 2), (5, 5, 10)],
)
def test_the_value_of_lots_does_not_wrap(value, numerator, denominator) -> None:
    for signed in (value, -value):
        exact = divmod(signed * numerator, denominator)
        found = int(integer_math.scale(signed, numerator, denominator))
        assert abs(2 * (found * denominator - signed * numerator)) <= denominator
        assert found in (exact[0], exact[0] + 1)


def test_sums_of_tables_that_would_wrap_are_refused() -> None:
    pool = {"symbol": "ETH"}
    asset = {"symbol": "ETH", "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}}, "quantum": "1e-18"}
    rules = venue(collateral=[asset], borrow_lend=[pool])
    lenders = pd.DataFrame({"account": [1, 2, 3], "asset": "ETH", "quantity": 0.0, "lent": [2.0, 2.2, 2.0]})
    none = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    with pytest.raises(rc.RiskDataError, match=r"^balances.lent, row 1, value 2.2: the total of an asset must be less"):
        rc.Accounts.from_frames(rules, none, lenders)
    some = pd.DataFrame({"account": [1, 2], "asset": "ETH", "quantity": 0.0, "lent": [2.0, 2.2]})
    assert rc.Accounts.from_frames(rules, none, some).columns.lent.sum() == 42 * 10**17

    orders = pd.DataFrame({"account": 1, "market": "TOK_PERP", "side": "bid", "price": 1.0, "quantity": [1e18] * 3})
    balances = pd.DataFrame({"account": [1], "asset": [USDC], "quantity": [1.0]})
    with pytest.raises(rc.RiskDataError, match=r"^orders.quantity, row 0, .*: the total of orders in a market must"):
        rc.Accounts.from_frames(venue(), none, balances, orders)
    settings = pd.DataFrame({"account": [1, 2], "unsettled": [2e12, -2e12]})
    both = pd.DataFrame({"account": [1, 2], "asset": USDC, "quantity": 1.0})
    with pytest.raises(rc.RiskDataError, match=r"^settings.unsettled, row 0, .*: the total of all accounts must"):
        rc.Accounts.from_frames(venue(), none, both, None, settings)


def test_what_if_names_the_row_that_would_pass_the_width() -> None:
    rules = venue()
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", 1, 1.0, 10.0))
    fills = pd.DataFrame({"account": 1, "market": "TOK_PERP", "quantity": [1.0, 2e12], "price": 1.0})
    with pytest.raises(rc.RiskDataError, match=r"^fills.price, row 0, .*: the resulting holdings and costs"):
        rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, fills=fills)
    moved = pd.DataFrame({"account": 1, "asset": USDC, "quantity": [1e12, 1e12]})
    with pytest.raises(rc.RiskDataError, match=r"^transfers.quantity, row 0, .*: the resulting holdings and costs"):
        rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, transfers=moved)
    assert np.isfinite(rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, fills=fills[:1]).net_equity).all()


HOUR = 3_600_000_000_000


def test_realising_at_a_high_mark_is_refused_before_it_wraps() -> None:
    markets = [market(f"M{n}", tick="0.01") for n in range(40)]
    fine = {"symbol": USDC, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}, "quantum": "1e-12"}
    rules = venue(*markets, collateral=[fine], policy={"realize_interval": 10})
    names = [f"M{n}_PERP" for n in range(40)]
    positions = pd.DataFrame({"account": 1, "market": names, "quantity": 11_529.0, "entry_price": 1.0})
    balances = pd.DataFrame({"account": [1], "asset": [USDC], "quantity": [500_000.0]})
    engine = rc.Engine(rc.Accounts.from_frames(rules, positions, balances), rules)
    engine.step(rc.Tick(10**18, dict.fromkeys(names, 1.0)))
    before = [column.copy() for column in engine.accounts.columns]
    high = rc.Tick(10**18 + 10**10, dict.fromkeys(names, 100.0))
    with pytest.raises(
        rc.RiskDataError, match=r"^marks.M0_PERP, value 100.0: the holdings and costs of all accounts together must"
    ):
        engine.step(high)
    assert all(np.array_equal(a, b) for a, b in zip(before, engine.accounts.columns, strict=True))
    engine.step(rc.Tick(10**18 + 10**10, dict.fromkeys(names, 5.0)))  # the engine goes on
    columns = engine.accounts.columns
    assert columns.balance_cost.sum() == columns.cost.sum() == 40 * 11_529 * 5 * 10**12
    assert columns.free[0] == (500_000 + 40 * 11_529 * 4) * 10**12


@pytest.mark.parametrize("hours", [1, 24])
def test_compound_interest_is_exact_or_refused(hours: int) -> None:
    asset = {"symbol": "ETH", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}, "quantum": "1e-18"}
    policy = {"borrow_rate_base": 100, "borrow_rate_slope": 100, "borrow_rate_jump": 100}
    rules = venue(collateral=[asset], borrow_lend=[{"symbol": "ETH", "optimalUtilization": "0.8"}], policy=policy)
    held = {"asset": ["ETH"] * 3 + [USDC], "quantity": [-2.2, 0.0, 0.0, 1e6], "lent": [0, 1, 1.2, 0]}
    table = pd.DataFrame({"account": [1, 2, 3, 1]} | held)
    none = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    engine = rc.Engine(rc.Accounts.from_frames(rules, none, table), rules)
    engine.step(rc.Tick(400_000 * HOUR, {"TOK_PERP": 1.0}, asset_prices={"ETH": 1.0}))
    later = rc.Tick((400_000 + hours) * HOUR, {"TOK_PERP": 1.0}, asset_prices={"ETH": 1.0})
    if hours > 1:
        with pytest.raises(rc.RiskDataError, match=r"^tick.interest of ETH: the amount due may reach 2\*\*62 quanta"):
            engine.step(later)
        return
    engine.step(later)
    columns, before = engine.accounts.columns, 22 * 10**17
    interest = round(Fraction(before * round(Fraction(300 * 10**15, 8760)), 10**15))  # everything lent is borrowed
    assert columns.free.min() == -before - interest
    assert abs(int(columns.lent.sum()) - before - interest) <= 2
    assert engine.ledger.pool.sum() == before + interest - columns.lent.sum()


def test_a_row_that_loses_money_breaks_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = venue(market(tick="0.01"))
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", 100, 10.0, 20.0))
    engine = rc.Engine(accounts, rules)
    book = {"TOK_PERP": {"bids": [(9.8, 1000)]}}
    real = waterfall.phases

    def forger(state: Any) -> None:
        state.accounts.columns.free[0] += 5
        state.journal.add("unsettle", "settlement", 0, 0.0, 0.0, settle=rules.settle, cash=5)

    monkeypatch.setattr(waterfall, "phases", lambda policy, **host: (*real(policy, **host), forger))
    with pytest.raises(InvariantError, match=r"fund \+ unsettled of a row is 5, not 0; row \d+: {.*'cash': 5"):
        engine.step(rc.Tick(10**18, {"TOK_PERP": 9.8}, book))
    with pytest.raises(RuntimeError, match="failed half-way"):
        engine.step(rc.Tick(10**18 + 1, {"TOK_PERP": 9.8}, book))


def test_an_account_past_the_width_breaks_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = venue(market(tick="0.01"))
    engine = rc.Engine(rc.Accounts.from_frames(rules, *held("TOK_PERP", 100, 10.0, 20.0)), rules)
    real = waterfall.phases

    def forger(state: Any) -> None:
        state.accounts.columns.free[0] += 2**62
        state.accounts.columns.unsettled[0] -= 2**62
        money = {"settle": rules.settle, "cash": 2**62, "unsettled": -(2**62)}
        state.journal.add("unsettle", "settlement", 0, 0.0, 0.0, **money)

    monkeypatch.setattr(waterfall, "phases", lambda policy, **host: (*real(policy, **host), forger))
    with pytest.raises(RuntimeError, match="the holdings and costs of account 1 exceed"):
        engine.step(rc.Tick(10**18, {"TOK_PERP": 9.8}, {"TOK_PERP": {"bids": [(9.8, 1000)]}}))


@pytest.mark.parametrize("name", ["marks", "indexes", "asset_prices", "open_interest", "funding_rates", "last_prices"])
@pytest.mark.parametrize("value", [1.8e308, 1.7e308, 1e300, 1e31, 1e29, 1e13, 5e-324, 1e-300, 1e-29, -1.0, 0.5])
def test_extreme_numbers_of_a_tick_are_right_or_refused(name: str, value: float) -> None:
    growing = {"type": "open_interest", "base": "0.1", "lower": "1000", "upper": "100000"}
    row = market() | {"imfFunction": growing, "mmfFunction": growing | {"base": "0.05"}, "fundingInterval": 1000}
    asset = {"symbol": "TOK", "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}}}
    rules = venue(row, collateral=[asset], borrow_lend=[{"symbol": "TOK"}], policy={"realize_interval": 1})
    positions, _ = held("TOK_PERP", 100, 1.0, 0.0)
    balances = pd.DataFrame({"account": [1, 1, 2], "asset": [USDC, "TOK", "TOK"], "quantity": [50.0, -3.0, 1.0]})
    accounts = rc.Accounts.from_frames(rules, positions, balances)
    engine = rc.Engine(accounts, rules)
    usual = {"marks": {"TOK_PERP": 1.0}, "indexes": {"TOK_PERP": 1.0}, "asset_prices": {"TOK": 1.0}}
    engine.step(rc.Tick(10**18, **usual))
    key = "TOK" if name == "asset_prices" else "TOK_PERP"
    odd = usual | {name: {key: value}}
    calls: list[Any] = [
        lambda: engine.step(rc.Tick(10**18 + 10**10, **odd)),
        lambda: engine.step(rc.Tick(10**18 + 2 * 10**10, **usual)),
    ]
    plain = {n: odd.get(n) for n in ("indexes", "asset_prices", "open_interest")}
    if name not in ("funding_rates", "last_prices"):
        calls += [
            lambda: rc.sweep(accounts, rules, odd["marks"], **plain),
            lambda: rc.liquidation_prices(accounts, rules, odd["marks"], **plain),
            lambda: rc.largest_orders(accounts, rules, odd["marks"], "TOK_PERP", **plain),
            lambda: rc.what_if(accounts, rules, odd["marks"], shocks=0.5, **plain),
        ]
    for call in calls:
        try:
            found = call()
        except rc.RiskDataError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        if isinstance(found, rc.MarginTable):
            assert not np.isnan(found.to_frame().drop(columns="account").to_numpy(float)).any()
            assert np.isfinite(found.net_equity).all()
    held_now = engine.accounts.columns
    assert max(int(np.abs(column).max()) for column in (held_now.free, held_now.cost, held_now.balance_cost)) < 2**62
