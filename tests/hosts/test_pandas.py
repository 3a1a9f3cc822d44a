"""The plain loop over pandas: its own cash and positions are those of the engine, whoever fills the slices."""

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.audit import audit
from riskcore.hosts.pandas_loop import ACCOUNT, backtest
from tests import pages

BTC, ETH = "BTC_USDC_PERP", "ETH_USDC_PERP"
POLICY = {"slice_probability": 1, "liquidation_interval": None, "realize_interval": 120}
BOOKS = {"depth": {BTC: 0.4, ETH: 12.0}, "half_spread": 0.0001, "fee_rate": 0.0005}


def venue(**policy):
    return rc.load_venue("backpack").replace(policy=POLICY | policy)


def crash(seed, bars=90, fall=0.06):
    """Both markets fall and come back, with noise."""
    rng = np.random.default_rng(seed)
    path = 1 - fall * np.sin(np.pi * np.arange(bars) / bars)
    noise = np.exp(rng.normal(0, 3e-4, (bars, 2)).cumsum(axis=0))
    time = pd.date_range("2026-01-01", periods=bars, freq="min", tz="UTC")
    return pd.DataFrame(np.array([100_000.0, 4_000.0]) * path[:, None] * noise, time, [BTC, ETH]).round(1)


def targets(close, *rows):
    return pd.DataFrame([row for _, row in rows], close.index[[at for at, _ in rows]], [BTC, ETH])


@pytest.mark.parametrize("book", ["engine", "host"])
@pytest.mark.parametrize("seed", range(3))
def test_the_books_of_loop_and_engine_agree(tmp_path, seed, book):
    """Trades before and after the liquidation; the run is kept and audited."""
    close = crash(seed)
    wanted = targets(close, (0, (0.4, 3.0)), (20, (0.5, 2.0)), (70, (0.1, 1.0)), (85, (0.0, 0.0)))
    found = backtest(venue(), close, wanted, 2_600.0, book=book, **BOOKS)
    fills = found.fills
    assert 0 < fills["liquidation"].sum() < len(fills)
    account = found.engine.account(ACCOUNT)
    assert found.equity.iloc[-1] == pytest.approx(account.equity, abs=1e-5 * len(fills))
    held = fills.groupby("market")["quantity"].sum()
    for market in (BTC, ETH):
        position = account.positions.get(market)
        assert held[market] == pytest.approx(position.quantity if position else 0.0, abs=1e-9)
    found.engine.save(tmp_path / "run")
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches
    events = rc.read_run(tmp_path / "run").events
    booked = events[events["event"].isin(["book", "market_close"])]
    assert set(booked["reason"] == "host") == {book == "host"}
    by_venue = fills[fills["liquidation"]]
    assert by_venue["quantity"].tolist() == pytest.approx(booked["quantity"].tolist())
    assert by_venue["fee"].tolist() == pytest.approx(booked["fee_amount"].tolist())


@pytest.mark.parametrize("book", ["engine", "host"])
def test_without_liquidation_the_curve_is_the_sum_of_the_trades(book):
    close = crash(0)
    wanted = targets(close, (0, (0.3, -2.0)), (40, (0.1, np.nan)))
    plain = backtest(venue(), close, wanted, 50_000.0, liquidation=False, **BOOKS)
    assert plain.engine is None
    assert plain.mmr.isna().all()
    assert len(plain.fills) == 3
    cash = 50_000.0 - (plain.fills["quantity"] * plain.fills["price"] + plain.fills["fee"]).sum()
    assert plain.equity.iloc[-1] == pytest.approx(cash + 0.1 * close[BTC].iloc[-1] - 2.0 * close[ETH].iloc[-1])
    rich = backtest(venue(), close, wanted, 50_000.0, book=book, **BOOKS)
    assert not rich.fills["liquidation"].any()
    np.testing.assert_allclose(rich.equity, plain.equity, atol=1e-4)


def test_the_curves_are_one_until_the_liquidation():
    close = crash(1)
    wanted = targets(close, (0, (0.4, -3.0)))
    plain, held = (backtest(venue(), close, wanted, 1_900.0, liquidation=on, **BOOKS) for on in (False, True))
    first = held.fills.loc[held.fills["liquidation"], "time"].iloc[0]
    before = close.index < first
    np.testing.assert_allclose(held.equity[before], plain.equity[before], atol=1e-4)
    assert (held.mmr[before] < 1).all()
    assert held.equity[first] < plain.equity[first]


@pytest.mark.parametrize("book", ["engine", "host"])
def test_a_loss_beyond_the_cash_ends_at_what_the_venue_says(book):
    """The price jumps past the equity: the last book takes the rest, and the shortfall is no loss of the loop."""
    close = pd.DataFrame({BTC: [100_000.0, 96_000.0, 96_000.0, 96_000.0]}, pd.date_range("2026", periods=4, tz="UTC"))
    rules = venue(largest_gap=None)
    found = backtest(rules, close, targets(close, (0, (0.5, np.nan)))[[BTC]], 1_800.0, book=book, half_spread=0.0001)
    plain = backtest(rules, close, targets(close, (0, (0.5, np.nan)))[[BTC]], 1_800.0, liquidation=False)
    assert plain.equity.iloc[-1] < 0
    account = found.engine.account(ACCOUNT)
    assert found.equity.iloc[-1] == pytest.approx(account.equity, abs=1e-4)
    assert not account.positions or account.positions[BTC].quantity == 0
    assert found.equity.iloc[-1] == pytest.approx(0.0, abs=1e-4)


def test_a_trade_that_the_margin_does_not_cover_is_refused_and_changes_nothing():
    close = crash(2, fall=0.0)
    wanted = targets(close, (0, (0.1, 0.0)), (5, (50.0, 0.0)), (9, (0.2, 0.0)))
    found = backtest(venue(), close, wanted, 5_000.0, **BOOKS)
    (refused,) = found.refused.to_dict("records")
    assert (refused["time"], refused["market"]) == (close.index[5], BTC)
    assert "initial margin ratio below 100 %" in refused["why"]
    assert found.fills["quantity"].tolist() == pytest.approx([0.1, 0.1])


def test_markets_that_the_loop_cannot_hold_are_refused():
    close = pd.DataFrame({"X": [1.0]}, pd.date_range("2026", periods=1, tz="UTC"))
    with pytest.raises(rc.RiskDataError, match=r"^close, value '?X'?: must have columns of markets of the venue"):
        backtest(venue(), close, close, 1.0)
    source = venue().source
    inverse = source["markets"][0] | {"symbol": "BTC_USD_IPERP", "marketType": "IPERP"}
    inverse |= {"multiplier": "100", "settle": "USDC"}
    rules = rc.load_venue(source | {"markets": [*source["markets"], inverse]})
    close.columns = ["BTC_USD_IPERP"]
    with pytest.raises(rc.RiskDataError, match=r"^close\.BTC_USD_IPERP: must be linear and settle in USDC"):
        backtest(rules, close, close, 1.0)


def test_the_page_prints_what_it_says(tmp_path):
    assert pages.run("docs/hosts/pandas.md", tmp_path) == pages.as_text("docs/hosts/pandas.md")
