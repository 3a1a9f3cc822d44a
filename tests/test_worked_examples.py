"""The worked examples E1 to E7 of venue_rules.md, and dYdX's bankruptcy prices, on the engine itself."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import sample
from riskcore.margin import exact
from riskcore.market import Prices
from riskcore.venue import Counterparties, pnl_leverage

BTC = sample.market_row(
    "BTC", "0.1", "0.00001", ("0.01333333", "0.00002494"), ("0.00666667", "0.00001496"), impact=("0.99", "1.01")
)
SOL = sample.market_row("SOL", "0.01", "0.01", ("0.02", "0.000075"), ("0.0135", "0.0000375"), impact=None)
IDENTITY = {"type": "identity"}
SOL_ASSET = {"symbol": "SOL", "haircutFunction": {"weight": "0.95", "kind": IDENTITY}, "quantum": "0.0000000001"}


def make_venue(*markets, **policy):
    backstop = policy.pop("backstop", [])
    return rc.load_venue(
        {
            "settle_asset": "USDC",
            "markets": list(markets),
            "collateral": [SOL_ASSET],
            "policy": policy,
            "backstop": backstop,
        }
    )


def make_accounts(venue, positions, balances, orders=(), unsettled=0.0):
    return rc.Accounts.from_frames(
        venue,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
        pd.DataFrame(orders, columns=["account", "market", "side", "price", "quantity"]),
        pd.DataFrame({"account": [1], "unsettled": [unsettled]}),
    )


@pytest.fixture(scope="module")
def e1():
    venue = make_venue(BTC)
    return venue, make_accounts(venue, [(1, "BTC_USDC_PERP", 5.0, 100_000.0)], [(1, "USDC", 20_000.0)])


@pytest.mark.parametrize(
    ("mark", "equity", "mmr", "imr"),
    [
        (100_000, 20_000, 0.264458, 0.440881),
        (98_000, 10_000, 0.513128, 0.855442),
        (97_500, 7_500, 0.678941, 1.131871),
        (97_000, 5_000, 1.010588, 1.684764),
        (96_500, 2_500, 2.005569, 3.343508),
        (96_000, 0, math.inf, math.inf),
    ],
)
def test_e1_one_btc_long(e1, mark, equity, mmr, imr):
    venue, accounts = e1
    table = rc.sweep(accounts, venue, {"BTC_USDC_PERP": float(mark)})
    assert table.net_equity[0] == equity
    assert table.mmr[0] == pytest.approx(mmr, abs=5e-7)
    assert table.imr[0] == pytest.approx(imr, abs=5e-7)
    assert table.liquidatable[0] == (mmr >= 1)


@pytest.mark.parametrize(("threshold", "status"), [(97_010.756239, 1), (96_501.403132, 2)])
def test_e1_thresholds_to_the_printed_digits(e1, threshold, status):
    """Liquidation begins at 97,010.756239 and auto-close at 96,501.403132."""
    venue, accounts = e1
    above, below = (
        rc.sweep(accounts, venue, {"BTC_USDC_PERP": threshold + shift}).status[0] for shift in (1e-6, -1e-6)
    )
    assert (above, below) == (status - 1, status)


def test_e2_mixed_account():
    venue = make_venue(BTC, SOL)
    accounts = make_accounts(
        venue,
        [(1, "BTC_USDC_PERP", 0.5, 86_000.0), (1, "SOL_USDC_PERP", -300.0, 150.0)],
        [(1, "SOL", 200.0), (1, "USDC", -12_000.0)],
        [(1, "BTC_USDC_PERP", "bid", 86_000.0, 0.2), (1, "SOL_USDC_PERP", "ask", 150.0, 50.0)],
    )
    table = rc.sweep(accounts, venue, {"BTC_USDC_PERP": 86_700.0, "SOL_USDC_PERP": 145.0})
    assert table.net_equity[0] == pytest.approx(17_400, rel=1e-14)
    assert table.exposure[0] == pytest.approx(123_440, rel=1e-14)
    assert table.maintenance_margin[0] == pytest.approx(1_476.2501, abs=5e-5)
    assert table.initial_margin[0] == pytest.approx(3_024.1998, abs=5e-5)
    assert table.mmr[0] == pytest.approx(0.084842, abs=5e-7)
    assert table.imr[0] == pytest.approx(0.173805, abs=5e-7)


def test_e3_collateral_of_the_observed_payload():
    venue = make_venue(SOL)
    accounts = make_accounts(venue, [], [(1, "SOL", 0.0699302874), (1, "USDC", 10.6524044577)])
    table = rc.sweep(accounts, venue, {"SOL": 144.9578481})
    assert table.net_equity[0] == pytest.approx(20.2825012373, abs=1e-6)  # USDC counts whole millionths
    assert table.mmr[0] == 0


BIDS = [(86781.4, 2.20229), (86779.8, 0.00115), (86779.7, 0.23172), (86779.6, 0.16803), (86777.7, 0.03571)]


@pytest.mark.parametrize(
    ("position", "equity", "filled", "price", "fee", "reason"),
    [(10, 10_000, 1.0, 86_781.4, 867.814, "full"), (50, 100_000, 2.6389, 86_781.0853, 2_290.0661, "depth")],
)
def test_e4_slice_on_the_observed_book(position, equity, filled, price, fee, reason):
    venue = make_venue(BTC, slice_probability=1)
    accounts = make_accounts(venue, [(1, "BTC_USDC_PERP", position, 86_700.0)], [(1, "USDC", equity)])
    book = {"BTC_USDC_PERP": {"bids": BIDS, "asks": [(86_781.5, 5.54115)]}}
    events = rc.Engine(accounts, venue).step(rc.Tick(0, {"BTC_USDC_PERP": 86_700.0}, book)).events
    row = events[events["event"] == "book"].iloc[0]
    assert row["lots"] == -round(filled * 1e5)
    assert row["requested"] == round(0.1 * position * 1e5)
    assert row["price"] == pytest.approx(price, abs=5e-5)
    assert row["fee"] / 1e6 == pytest.approx(fee, abs=5e-5)
    assert row["reason"] == reason


@pytest.mark.parametrize(
    ("market", "notional", "slippage", "after"),
    [
        (BTC, 50_000, 0, 1.0588), (BTC, 50_000, 0.001, 1.0778), (BTC, 300_000, 0, 0.9725), (BTC, 500_000, 0, 0.9430),
        (BTC, 1_000_000, 0, 0.9150), (BTC, 5_000_000, 0, 0.8801), (SOL, 50_000, 0, 0.9720), (SOL, 1_000_000, 0, 0.8772),
    ],
)  # fmt: skip
def test_fee_drift_of_one_tenth(market, notional, slippage, after):
    """Section 2.4: what one slice of a tenth with a fee of 1 % makes of an account at 100 %."""
    symbol, mark = market["symbol"], 100.0
    free = market | {"filters": market["filters"] | {"price": {"tickSize": "0.1", "maxPrice": "1000"}}}
    venue = make_venue(free, slice_probability=1, harmful_slice="send", target_mmr="0.000001")
    base, factor = float(market["mmfFunction"]["base"]), float(market["mmfFunction"]["factor"])
    equity = notional * max(base, factor * math.sqrt(notional))
    accounts = make_accounts(venue, [(1, symbol, notional / mark, mark)], [(1, "USDC", math.floor(equity * 1e6) / 1e6)])
    book = {symbol: {"bids": [(mark * (1 - slippage), notional)]}}
    events = rc.Engine(accounts, venue).step(rc.Tick(0, {symbol: mark}, book)).events
    row = events[events["event"] == "book"].iloc[0]
    assert row["mmr_before"] == pytest.approx(1, abs=1e-6)
    # the document takes the fee of the notional at the mark, not of what it was sold for
    assert row["mmr_after"] == pytest.approx(after, abs=2e-4 if slippage else 6e-5)
    assert (events["event"] == "harm").sum() == (after > 1)


def test_e5_backstop_price_and_fund_share():
    market = sample.market_row("BTC", "0.1", "0.00001", ("0.1", "0"), ("0.04", "0"), impact=None)
    venue = make_venue(market, backstop=[{"account": 2}])
    accounts = make_accounts(
        venue, [(1, "BTC_USDC_PERP", 2.0, 10_000.0)], [(1, "USDC", 1_000.0), (2, "USDC", 1_000_000.0)]
    )
    result = rc.Engine(accounts, venue).step(rc.Tick(0, {"BTC_USDC_PERP": 9_646.0}))
    row = result.events.iloc[-1]
    assert (row["event"], row["price"]) == ("backstop", 9_500.0)
    assert row["fund"] / 1e6 == pytest.approx(97.3333, abs=5e-5)
    assert row["counter_cost"] / 1e6 / 2 == pytest.approx(9_548.6667, abs=5e-5)
    assert result.accounts.columns.free[0] == 0


def test_e6_two_positions_share_the_equity_by_maintenance_margin():
    one = sample.market_row("BTC", "0.1", "0.00001", ("0.1", "0"), ("0.01", "0"), impact=None)
    two = sample.market_row("SOL", "0.01", "0.01", ("0.1", "0"), ("0.03", "0"), impact=None)
    venue = make_venue(one, two)
    accounts = make_accounts(
        venue, [(1, "BTC_USDC_PERP", 1.0, 100_000.0), (1, "SOL_USDC_PERP", 500.0, 100.0)], [(1, "USDC", 1_800.0)]
    )
    prices = Prices.read(venue, accounts, {"BTC_USDC_PERP": 100_000.0, "SOL_USDC_PERP": 100.0})
    margin = exact.account_margin(accounts, 0, prices)
    assert margin.mmr == pytest.approx(1.3889, abs=5e-5)
    assert [exact.equity_share(margin, margin.requirement[row], margin.equity) for row in (0, 1)] == [720, 1_080]


def test_e7_deleveraging_scores():
    entry, leverage = np.array([110.0, 104.0, 120.0, 98.0]), np.array([2.5, 10.0, 0.1, 40 / 3])
    one = np.ones(4)
    shorts = Counterparties(np.ones(4, np.int64), -100 * one, -entry, one, one, leverage, one, 100 - entry)
    score = pnl_leverage(shorts)
    assert score == pytest.approx([0.22727, 0.38462, 0.01667, -0.00153], abs=5e-6)
    assert np.argsort(-score).tolist() == [1, 0, 2, 3]


def test_dydx_bankruptcy_prices(shared):
    """Their price of a partial close is the change of notional and a share of the equity, by maintenance margin.

    dYdX rounds the signed share down to its quote quantum; the zero price here rounds half-even, so the cases are
    compared with the share before rounding.
    """
    cases = json.loads((shared / "vectors/dydx.json").read_text())["cases"]
    cases = [case for case in cases if case["id"].startswith("dydx-bk-")]
    assert cases
    price, step = {"BTC": 50_000.0, "ETH": 3_000.0}, {"BTC": "0.00000001", "ETH": "0.000000001"}
    for case in cases:
        given = case["inputs"]
        maintenance = (str(given["maint"]), "0")
        rows = [sample.market_row(b, "1", step[b], ("0.2", "0"), maintenance, impact=None) for b in price]
        venue = make_venue(*rows)
        positions = [(1, f"{b}_USDC_PERP", q * float(step[b]), price[b]) for b, q in given["positions"].items()]
        # their quote balance holds what was paid for the positions, and no margin is asked for a negative one
        paid = sum(quantity * entry for _, _, quantity, entry in positions)
        accounts = make_accounts(venue, positions, [], unsettled=given["quote_usd"] + paid)
        prices = Prices.read(venue, accounts, {f"{b}_USDC_PERP": p for b, p in price.items()})
        margin = exact.account_margin(accounts, 0, prices)
        closed = venue.markets.symbol.index(f"{given['close']}_USDC_PERP")
        row = next(r for r in margin.value if accounts.columns.market[r] == closed)
        part = abs(given["delta_quantums"]) / exact.Fraction(abs(int(accounts.columns.lots[row])))
        notional = exact.Fraction(margin.value[row]) * part * 10**6
        share = exact.equity_share(margin, margin.requirement[row], margin.equity) * part * 10**6
        assert notional - math.floor(share) == case["expected"]["bankruptcy_quote"], case["id"]
