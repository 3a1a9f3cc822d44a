"""Amounts and their sums fit 64 bits, or the table that would bring them further is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.kernels import whole

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
def test_positions_are_bounded_by_their_exact_worth(tick, step, highest, price, quantity) -> None:
    rules = venue(market(tick=tick, step=step, highest=highest))
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", quantity, price, 1e7))
    table = rc.sweep(accounts, rules, {"TOK_PERP": price})
    assert table.net_equity[0] == pytest.approx(1e7)
    assert table.exposure[0] == pytest.approx(quantity * price)


def test_a_market_without_max_price_has_a_stated_one() -> None:
    rules = venue(market(tick="0.0001"))
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", 1, 1.0, 10.0))
    rule = "must be at most 1000000000, 10\\*\\*13 ticks of the market's tickSize: it has no lower maxPrice"
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
def test_what_lots_are_worth_does_not_wrap(value, numerator, denominator) -> None:
    for signed in (value, -value):
        exact = divmod(signed * numerator, denominator)
        found = int(whole.scale(signed, numerator, denominator))
        assert abs(2 * (found * denominator - signed * numerator)) <= denominator
        assert found in (exact[0], exact[0] + 1)


def test_sums_of_tables_that_would_wrap_are_refused() -> None:
    pool = {"symbol": "ETH"}
    asset = {"symbol": "ETH", "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}}, "quantum": "1e-18"}
    rules = venue(collateral=[asset], borrow_lend=[pool])
    lenders = pd.DataFrame({"account": [1, 2, 3], "asset": "ETH", "quantity": 0.0, "lent": [1.0, 1.1, 1.0]})
    none = pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []})
    with pytest.raises(rc.RiskDataError, match=r"^balances.lent, row 1, value 1.1: all of an asset must be less than"):
        rc.Accounts.from_frames(rules, none, lenders)
    some = pd.DataFrame({"account": [1, 2], "asset": "ETH", "quantity": 0.0, "lent": [1.0, 1.1]})
    assert rc.Accounts.from_frames(rules, none, some).columns.lent.sum() == 21 * 10**17

    orders = pd.DataFrame({"account": 1, "market": "TOK_PERP", "side": "bid", "price": 1.0, "quantity": [1e18] * 3})
    balances = pd.DataFrame({"account": [1], "asset": [USDC], "quantity": [1.0]})
    with pytest.raises(rc.RiskDataError, match=r"^orders.quantity, row 0, .*: all orders in a market must be less"):
        rc.Accounts.from_frames(venue(), none, balances, orders)
    settings = pd.DataFrame({"account": [1, 2], "unsettled": [2e12, -2e12]})
    both = pd.DataFrame({"account": [1, 2], "asset": USDC, "quantity": 1.0})
    with pytest.raises(rc.RiskDataError, match=r"^settings.unsettled, row 0, .*: all accounts together must be less"):
        rc.Accounts.from_frames(venue(), none, both, None, settings)


def test_what_if_names_the_row_that_would_pass_the_width() -> None:
    rules = venue()
    accounts = rc.Accounts.from_frames(rules, *held("TOK_PERP", 1, 1.0, 10.0))
    fills = pd.DataFrame({"account": 1, "market": "TOK_PERP", "quantity": [1.0, 2e12], "price": 1.0})
    with pytest.raises(rc.RiskDataError, match=r"^fills.price, row 0, .*: what an account then holds or paid"):
        rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, fills=fills)
    moved = pd.DataFrame({"account": 1, "asset": USDC, "quantity": [1e12, 1e12]})
    with pytest.raises(rc.RiskDataError, match=r"^transfers.quantity, row 0, .*: what an account then holds or paid"):
        rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, transfers=moved)
    assert np.isfinite(rc.what_if(accounts, rules, {"TOK_PERP": 1.0}, fills=fills[:1]).net_equity).all()
