"""Accounts, prices, ticks and engines of different venues: refused in one line where the units differ, else allowed."""

import copy

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.io import read_ticks, replay, write_sweep
from riskcore.margin import margin_table, margins_of
from riskcore.market import Prices, PriceTable, Tick
from riskcore.sample import venue_source

BTC, ETH, SOL = "BTC_USDC_PERP", "ETH_USDC_PERP", "SOL_USDC_PERP"
START = 1_760_000_400 * 10**9
MARKS = {BTC: 100_000.0, ETH: 4_000.0, SOL: 200.0}
SOURCE = venue_source([9])
POSITIONS = pd.DataFrame({"account": [1, 2], "market": [BTC, SOL], "quantity": [0.5, -30.0], "entry_price": 100.0})
BALANCES = pd.DataFrame({"account": [1, 2, 9], "asset": "USDC", "quantity": [60_000.0, 900.0, 1e6]})


def altered(change, source=SOURCE):
    source = copy.deepcopy(source)
    change(source)
    return rc.load_venue(source)


def market(at, part, name, value):
    def change(source):
        source["markets"][at]["filters"][part][name] = value

    return change


def with_settle(source):
    source["settle_asset"] = "BTC"
    del source["collateral"][1]["priceGuard"]  # its price is 1 then


def without_market(source):
    del source["markets"][1]


def reordered(source):
    source["markets"].reverse()


def another_asset(source):
    source["collateral"].append({"symbol": "XRP", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}})


def finer(source):
    source["collateral"][1]["quantum"] = "0.0000000001"


OTHERS = {
    "settle asset": (with_settle, r"^venue.settle_asset, value 'BTC': must be .* accounts were read with \(USDC\): "),
    "fewer markets": (without_market, r"^venue.markets.symbol, row 1, value 'SOL_USDC_PERP': .*\(ETH_USDC_PERP\)"),
    "other order": (reordered, r"^venue.markets.symbol, row 0, value 'SOL_USDC_PERP': .*\(BTC_USDC_PERP\)"),
    "more assets": (another_asset, r"^venue.collateral.symbol, row 4, value 'XRP': .*\(none\)"),
    "step": (market(2, "quantity", "stepSize", "0.1"), r"^venue.stepSize, row SOL_USDC_PERP, value '0.1': .*\(0.01\)"),
    "tick": (market(0, "price", "tickSize", "0.2"), r"^venue.tickSize, row BTC_USDC_PERP, value '0.2': .*\(0.1\)"),
    "bound": (market(1, "price", "maxPrice", "10"), r"^venue.maxPrice in ticks, row ETH_USDC_PERP, value '1000': "),
    "quantum": (finer, r"^venue.quantum, row BTC, value '0.0000000001': .*\(0.00000001\)"),
}


@pytest.fixture(scope="module")
def held():
    venue = rc.load_venue(SOURCE)
    return venue, rc.Accounts.from_frames(venue, POSITIONS, BALANCES)


def calls(venue, accounts, other, path):
    """Every way to bring accounts of one venue together with another one."""
    frame, fill = pd.DataFrame([MARKS]), pd.DataFrame([(1, SOL, 1.0, 200.0)], columns=[*"amqp"])
    fill.columns = ["account", "market", "quantity", "price"]
    marks = pd.DataFrame({"time": START, "market": list(other.markets.symbol), "mark_price": 5.0})
    mapping = dict.fromkeys(other.markets.symbol, 5.0)
    empty = rc.Accounts.from_frames(other, POSITIONS[:0], BALANCES.assign(quantity=0.0))
    prices, ticks = Prices.of_tick(other, empty, Tick(START, mapping)), read_ticks(other, empty, marks)
    return {
        "sweep": lambda: rc.sweep(accounts, other, MARKS),
        "sweep of a frame": lambda: rc.sweep(accounts, other, frame),
        "select": lambda: rc.select(accounts, other, MARKS),
        "select of a frame": lambda: rc.select(accounts, other, frame),
        "sweep_rows": lambda: rc.sweep_rows(accounts, other, frame),
        "Screen": lambda: rc.Screen(accounts, other),
        "Screen.rows": lambda: rc.Screen(accounts, venue).rows(prices),
        "Engine": lambda: rc.Engine(accounts, other),
        "liquidation_prices": lambda: rc.liquidation_prices(accounts, other, MARKS),
        "what_if": lambda: rc.what_if(accounts, other, MARKS, fills=fill),
        "what_if without fills": lambda: rc.what_if(accounts, other, MARKS, shocks=-0.1),
        "with_fills": lambda: accounts.with_fills(other, fill),
        "largest_orders": lambda: rc.largest_orders(accounts, other, MARKS, BTC),
        "explain_margin": lambda: rc.explain_margin(accounts, other, MARKS, 1),
        "write_sweep": lambda: write_sweep(path / "out.csv", accounts, other, frame),
        "write_sweep of ticks": lambda: write_sweep(path / "out.csv", accounts, other, ticks),
        "read_ticks": lambda: read_ticks(other, accounts, marks),
        "replay": lambda: replay(other, accounts, ticks, path / "run"),
        "margin_table": lambda: margin_table(accounts, prices),
        "margins_of": lambda: margins_of(accounts, np.array([0]), prices),
        "PriceTable": lambda: PriceTable.read(other, accounts, frame),
    }


@pytest.mark.parametrize("name", OTHERS)
def test_a_venue_of_other_units_is_refused_everywhere(held, name, tmp_path):
    change, message = OTHERS[name]
    other = altered(change)
    for made in calls(*held, other, tmp_path).values():
        with pytest.raises(rc.RiskDataError, match=message):
            made()
    assert not list(tmp_path.iterdir())


def test_ticks_of_a_venue_of_other_units_are_refused(held, tmp_path):
    venue, accounts = held
    other = altered(market(0, "price", "tickSize", "0.2"))
    marks = pd.DataFrame({"time": START, "market": list(MARKS), "mark_price": list(MARKS.values())})
    ticks = read_ticks(other, rc.Accounts.from_frames(other, POSITIONS, BALANCES), marks)
    for call in (
        lambda: replay(venue, accounts, ticks, tmp_path / "run"),
        lambda: write_sweep(tmp_path / "out.csv", accounts, venue, ticks),
    ):
        with pytest.raises(rc.RiskDataError, match=r"^venue.tickSize, .* the ticks were read with \(0.2\)"):
            call()


def test_a_venue_of_other_rules_but_the_same_units_is_allowed(held):
    venue, accounts = held

    def strict(source):
        source["policy"]["slice_fraction"] = "0.5"
        source["backstop"] = []
        for row in source["markets"]:
            row["mmfFunction"]["base"] = row["imfFunction"]["base"] = "0.4"
        source["borrow_lend"] = []
        source["markets"].append(
            {
                "symbol": "BTC_USDC", "marketType": "SPOT", "baseSymbol": "BTC", "quoteSymbol": "USDC",
                "filters": {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.001"}},
            }
        )  # fmt: skip

    other = altered(strict)
    own = rc.Accounts.from_frames(other, POSITIONS, BALANCES)
    table, same = rc.sweep(accounts, other, MARKS).to_frame(), rc.sweep(own, other, MARKS).to_frame()
    pd.testing.assert_frame_equal(table, same)
    assert table.maintenance_margin[0] == 20_000.0 != rc.sweep(accounts, venue, MARKS).to_frame().maintenance_margin[0]
    assert rc.Engine(accounts, other).step(Tick(START, MARKS)).selected.tolist() == [1]


@pytest.mark.parametrize("account", [1, 7, "9"])
def test_a_provider_that_the_accounts_were_not_read_with_is_refused(held, account):
    other = altered(lambda source: source["backstop"].append({"account": account}))
    rule = rf"^venue.backstop\[1\].account, value '{account}': must be a backstop provider of the accounts' venue: "
    with pytest.raises(rc.RiskDataError, match=rule):
        rc.Engine(held[1], other)


def function(base, factor="0", **more):
    return {"type": "sqrt", "base": base, "factor": factor, **more}


def tiers(*rates, whole=False):
    rows = [{"from": str(1000 * at), "rate": rate} for at, rate in enumerate(rates)]
    return {"type": "tiers", "brackets": rows} | ({"whole": True} if whole else {})


def growing(base, lower="1000", upper="5000"):
    return {"type": "open_interest", "base": base, "lower": lower, "upper": upper}


@pytest.mark.parametrize(
    ("initial", "maintenance", "told"),
    [
        (function("0.02"), function("0.021"), "value '0.021': must .* margin, 0.02, as it is at a size of 0.000000001"),
        (function("0.02", "0.0001"), function("0.01", "0.0002"), "value '0.04': .* 0.02, as it is at a size of 40000"),
        (tiers("0.02", "0.03"), tiers("0.01", "0.01", "0.09"), "value '0.09': .* 0.03, .* a size of 1000000000000000"),
        (
            tiers("0.02", "0.03"),
            tiers("0.025", "0.03"),
            "value '0.025': .* 0.02, as it is at a size of 0.0",
        ),
        (
            tiers("0.02", "0.5", whole=True),
            tiers("0.01", "0.6"),
            "value '0.6': .* 0.5, as it is at a size of 1000",
        ),
        (
            function("0.02", "0.001"),
            tiers("0.01", "0.01", "0.2"),
            "value '0.1.*': .* as it is at a size of 17777.7",
        ),
        (
            tiers("0.02", "0.03"),
            function("0.01", "0.001"),
            "value '0.03162.*': .* 0.02, as it is at a size of 1000",
        ),
        (
            growing("0.02"),
            growing("0.01", "500", "900"),
            "value '1': .* 0.02, as it is at an open interest of 900",
        ),
        (growing("0.02"), function("0.03"), "value '0.03': must not be above the initial margin, 0.02, as it is at"),
        (
            function("0.02", "0.01", unit="quantity"),
            tiers("0.03"),
            "value '0.03': must not be above the initial margin",
        ),
    ],
)
def test_a_maintenance_margin_above_the_initial_one_is_refused(initial, maintenance, told):
    for table, at in (("markets", 1), ("collateral", 2)):
        if table == "collateral" and initial["type"] == "open_interest":
            continue
        with pytest.raises(rc.RiskDataError, match=rf"^venue.{table}\[{at}\].mmfFunction, {told}"):
            altered(lambda s, t=table, n=at: s[t][n].update(imfFunction=initial, mmfFunction=maintenance))


@pytest.mark.parametrize(
    ("initial", "maintenance"),
    [
        (function("0.02", "0.0003"), function("0.02", "0.0001")),
        (function("0.02", "0.0003"), function("0.02", "0.0003")),
        (function("0.03", "0.00007"), function("0.01", "0.00007")),
        (function("0.02", "0.0003", unit="quantity"), function("0.01", "0.0009")),
        (tiers("0.02", "0.05"), tiers("0.02", "0.05")),
        (tiers("0.02", "0.05", whole=True), tiers("0.02", "0.05")),
        (function("0.1", "0.001"), tiers("0.05", "0.1")),
        (growing("0.02"), growing("0.01")),
        (growing("0.02"), function("0.02", "0.001")),
        (function("0.02"), function("0.01", "0.0001")),  # a flat initial margin says nothing of large sizes
    ],
)
def test_a_maintenance_margin_that_is_never_above_the_initial_one_is_taken(initial, maintenance):
    altered(lambda source: source["markets"][0].update(imfFunction=initial, mmfFunction=maintenance))
