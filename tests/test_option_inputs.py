"""Options and dated futures in the venue file, the tick, prices, accounts and files."""

import json
import math
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import riskcore as rc
from riskcore.audit import audit
from riskcore.cli import app
from riskcore.margin import exact
from riskcore.market import PriceTable
from riskcore.sample import two_accounts
from riskcore.scenario import Instruments
from riskcore.venue import changed_venue, read_changes

PERP, FUTURE, CALL, PUT, COIN = "BTC-PERP", "BTC-FUT", "BTC-60-C", "BTC-60-P", "BTC-60-C-BTC"
TIME, EXPIRY = "2026-03-13T08:00Z", "2026-03-27T08:00Z"  # 14 days
FILTERS = {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.001"}}
IDENTITY = {"weight": "1", "kind": {"type": "identity"}}
MARGIN = {
    name: {"type": "sqrt", "base": base, "factor": "0"}
    for name, base in (("imfFunction", "0.02"), ("mmfFunction", "0.01"))
}
PERP_ROW = {"symbol": PERP, "baseSymbol": "BTC", "quoteSymbol": "USDC", "marketType": "PERP", "filters": FILTERS}
FUTURE_ROW = PERP_ROW | {"symbol": FUTURE, "marketType": "DATED", "expiry": "2026-03-27"}
CALL_ROW = FUTURE_ROW | {"symbol": CALL, "marketType": "OPTION", "strike": "60000", "right": "C"}
PUT_ROW = CALL_ROW | {"symbol": PUT, "right": "P"}
COIN_ROW = CALL_ROW | {"symbol": COIN, "settle": "BTC"}
ROWS = [COIN_ROW, CALL_ROW, PUT_ROW, FUTURE_ROW, PERP_ROW]
MODEL = {"scenarios": [{"move": "-0.1", "vol": "same"}, {"move": "0.1", "vol": "same"}]}
VOLATILITIES = {CALL: 0.55, PUT: 0.55, COIN: 0.55}


def black_76(forward, strike, volatility, years, rate, is_call):
    """Price of an option, in the words of the textbook."""
    width = volatility * math.sqrt(years)
    upper = math.log(forward / strike) / width + width / 2
    side = 1 if is_call else -1
    normal = [math.erfc(-side * x / math.sqrt(2)) / 2 for x in (upper, upper - width)]
    return math.exp(-rate * years) * side * (forward * normal[0] - strike * normal[1])


def source(rows=ROWS, **other):
    collateral = [{"symbol": "USDC", "haircutFunction": IDENTITY},
                  {"symbol": "BTC", "haircutFunction": IDENTITY, "quantum": "0.00000001"}]  # fmt: skip
    return {"settle_asset": "USDC", "markets": list(rows), "collateral": collateral, "scenario_model": MODEL,
            "policy": {"margin_model": "scenario"}} | other  # fmt: skip


@pytest.fixture(scope="module")
def venue():
    return rc.load_venue(source())


def accounts_of(venue, positions, usdc=15_000.0, btc=0.0, **columns):
    positions = pd.DataFrame(positions, columns=["market", "quantity", "entry_price"]).assign(account=1, **columns)
    balances = pd.DataFrame({"account": 1, "asset": ["USDC", "BTC"], "quantity": [usdc, btc]})
    return rc.Accounts.from_frames(venue, positions, balances)


def tick(marks=None, **other):
    given = {"volatilities": VOLATILITIES, "terms": [{"underlying": "BTC", "expiry": EXPIRY, "rate": 0.05}]} | other
    return rc.Tick(TIME, {PERP: 60_000.0, FUTURE: 60_300.0} if marks is None else marks, **given)


def nobody(venue):
    return accounts_of(venue, [])


# The venue file


def test_a_venue_lists_the_contracts_with_their_terms(venue):
    markets = venue.markets
    assert markets.symbol == (COIN, CALL, PUT, FUTURE, PERP)
    assert markets.type == ("OPTION", "OPTION", "OPTION", "DATED", "PERP")
    assert markets.kind.tolist() == [2, 2, 2, 1, 0]
    expiry = pd.Timestamp(EXPIRY).value
    assert markets.expiry.tolist() == [expiry] * 4 + [0]
    assert markets.strike[:3].tolist() == [60_000.0] * 3
    assert np.isnan(markets.strike[3:]).all()
    assert markets.is_call.tolist() == [True, True, False, False, False]
    assert markets.settles_in_coin.tolist() == [True, False, False, False, False]
    assert [venue.assets.symbol[k] for k in markets.settle] == ["BTC", "USDC", "USDC", "USDC", "USDC"]
    assert markets.underlying == ("BTC",) * 5
    assert venue.linear_markets == ((4, 3),)
    assert rc.load_venue(venue.source).units == venue.units
    assert rc.load_venue(venue.source).source == venue.source


def test_the_instruments_are_the_markets_and_then_a_balance_of_each_asset(venue):
    instruments = venue.instruments
    assert instruments.symbol == (COIN, CALL, PUT, FUTURE, PERP, "USDC", "BTC")
    assert instruments.kind.tolist() == [2, 2, 2, 1, 0, 3, 3]
    assert instruments.inverse.tolist() == [True] + [False] * 6
    assert instruments.underlyings == ("BTC",)
    assert instruments.underlying.tolist() == [0, 0, 0, 0, 0, -1, 0]
    assert instruments.term.tolist() == [0, 0, 0, 0, -1, -1, -1]


def test_an_inverse_future_counts_in_quote_units():
    inverse = FUTURE_ROW | {"symbol": "I", "marketType": "IDATED", "quoteSymbol": "USD", "multiplier": "100"}
    venue = rc.load_venue(source([inverse]))
    assert venue.markets.inverse.tolist() == [True]
    assert venue.assets.symbol[venue.markets.settle[0]] == "BTC"
    assert venue.instruments.contract[0] == 100.0
    assert venue.instruments.inverse[0]


def test_a_market_and_an_asset_may_have_one_name():
    venue = rc.load_venue(source([PERP_ROW | {"symbol": "BTC"}]))
    assert venue.instruments.symbol == ("BTC", "USDC", "BTC balance")


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (FUTURE_ROW | {"expiry": None}, "venue.markets[0].expiry: a market of marketType DATED needs it"),
        (CALL_ROW | {"strike": None}, "venue.markets[0].strike: a market of marketType OPTION needs it"),
        (CALL_ROW | {"right": None}, "venue.markets[0].right: a market of marketType OPTION needs it"),
        (CALL_ROW | {"right": "call"}, "venue.markets[0].right, value 'call': must be 'C' (a call) or 'P' (a put)"),
        (CALL_ROW | {"strike": "0"}, "venue.markets[0].strike, value '0': must be a number from 1E-18 to 1E+18"),
        (
            PERP_ROW | {"expiry": "2026-03-27"},
            "venue.markets[0].expiry, value '2026-03-27': must be missing: a market of marketType PERP has none",
        ),
        (
            FUTURE_ROW | {"strike": "1"},
            "venue.markets[0].strike, value '1': must be missing: a market of marketType DATED has none",
        ),
        (
            FUTURE_ROW | {"fundingInterval": 3_600_000},
            "venue.markets[0].fundingInterval, value '3600000': must be missing: only perpetuals have funding",
        ),
        (
            FUTURE_ROW | {"expiry": "March"},
            "venue.markets[0].expiry, value 'March': must be a timestamp, ISO text or whole nanoseconds since the "
            "epoch, from 2000 to 2200",
        ),
    ],
)
def test_terms_of_a_contract_are_refused(row, line):
    with pytest.raises(rc.RiskDataError) as error:
        rc.load_venue(source([row]))
    assert str(error.value) == line


def test_an_expiry_is_a_time_or_a_day():
    at = [rc.load_venue(source([FUTURE_ROW | {"expiry": e}])).markets.expiry[0] for e in (
        "2026-03-27", EXPIRY, pd.Timestamp(EXPIRY).value)]  # fmt: skip
    assert len(set(at)) == 1


def test_whole_numbers_beside_a_missing_one_are_expiries_if_no_digit_is_lost():
    expiry = pd.Timestamp(EXPIRY).value
    frame = {"market": ["P", "F"], "kind": ["PERP", "DATED"], "underlying": "BTC", "expiry": [None, expiry]}
    assert pd.DataFrame(frame).expiry.dtype == float
    assert Instruments.from_frame(pd.DataFrame(frame)).expiry.tolist() == [0, expiry]
    with pytest.raises(rc.RiskDataError, match="the value is a float, not a whole number"):
        Instruments.from_frame(pd.DataFrame(frame | {"expiry": [None, expiry + 256]}))


@pytest.mark.parametrize("field", ["underlying", "expiry", "strike", "right"])
def test_terms_are_units_and_do_not_change(venue, field):
    rows = [{"time": TIME, "market": CALL, "field": field, "value": "x"}]
    with pytest.raises(rc.RiskDataError, match="must not change: accounts and books are counted in it"):
        read_changes(venue, rows)


def test_other_keys_of_an_option_change(venue):
    rows = [{"time": TIME, "market": CALL, "field": "state", "value": "closed"}]
    assert changed_venue(venue, read_changes(venue, rows)).markets.is_closed.tolist() == [False, True] + [False] * 3


def test_accounts_of_another_strike_do_not_fit(venue):
    other = rc.load_venue(source([COIN_ROW, CALL_ROW | {"strike": "61000"}, PUT_ROW, FUTURE_ROW, PERP_ROW]))
    with pytest.raises(rc.RiskDataError, match=r"^venue.terms, row BTC-60-C, value '.* 61000.0 C'"):
        rc.Prices.read(other, nobody(venue), tick())


def test_a_scenario_venue_needs_a_model_and_no_margin_functions():
    with pytest.raises(rc.RiskDataError, match=r"^venue.scenario_model: must be given: policy.margin_model is"):
        rc.load_venue(source(scenario_model=None))
    with pytest.raises(rc.RiskDataError, match=r"^venue.markets\[0\].imfFunction: a PERP market needs it"):
        rc.load_venue(source([PERP_ROW], policy={}))
    separable = rc.load_venue(source([CALL_ROW, PERP_ROW | MARGIN], policy={}))
    assert separable.scenario_model is not None
    assert rc.load_venue(source([CALL_ROW, PERP_ROW | MARGIN], policy={}, scenario_model=None)).has_scenarios


def test_replace_puts_another_model():
    venue = rc.load_venue(source([PERP_ROW | MARGIN], policy={}, scenario_model=None))
    assert not venue.has_scenarios
    other = venue.replace(scenario_model=MODEL, policy={"margin_model": "scenario"})
    assert other.has_scenarios
    assert other.replace(scenario_model=other.scenario_model).source == other.source


# The tick and its prices


def test_the_mark_of_an_option_is_its_value_of_record(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0), (PUT, -1.0, 2_000.0), (COIN, 2.0, 0.05)])
    prices = rc.Prices.read(venue, accounts, tick())
    call, put = (black_76(60_300.0, 60_000.0, 0.55, 14 / 365, 0.05, is_call) for is_call in (True, False))
    assert prices.mark[:3] == pytest.approx([call / 60_300.0, call, put], rel=1e-13)
    assert np.isnan(prices.given_mark[:3]).all()
    assert prices.scenario.time == pd.Timestamp(TIME).value
    assert prices.scenario.volatility[:3].tolist() == [0.55] * 3


def test_a_run_of_the_separable_model_may_have_a_scenario_model_beside_it(tmp_path):
    venue, accounts = two_accounts()
    engine = rc.Engine(accounts, venue.replace(scenario_model="tims10"))
    assert len(engine.step(rc.Tick("2026-01-01", {"SOL_USDC_PERP": 190.0})).selected)
    engine.save(tmp_path / "run")
    assert audit(tmp_path / "run").ok


def test_a_venue_of_perpetuals_has_no_scenario_data():
    venue = rc.load_venue("backpack")
    accounts = rc.Accounts.from_frames(
        venue, pd.DataFrame(columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame({"account": [1], "asset": "USDC", "quantity": 1.0}),
    )  # fmt: skip
    assert rc.Prices.read(venue, accounts, {}).scenario is None


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ({"underlyings": [{"underlying": "BTC", "index": 60_010.0}], "indexes": {PERP: 60_020.0}}, 60_010.0),
        ({"indexes": {PERP: 60_020.0, FUTURE: 60_040.0}, "asset_prices": {"BTC": 60_030.0}}, 60_020.0),
        ({"indexes": {FUTURE: 60_040.0}, "asset_prices": {"BTC": 60_030.0}}, 60_040.0),
        ({"asset_prices": {"BTC": 60_030.0}}, 60_030.0),
        ({}, 60_000.0),
        ({"marks": {FUTURE: 60_300.0}}, 60_300.0),
    ],
)
def test_the_index_of_an_underlying(venue, given, index):
    prices = rc.Prices.read(venue, nobody(venue), tick(**given))
    assert prices.scenario.index.tolist() == [index]


def test_the_index_of_an_underlying_prices_its_asset(venue):
    underlyings = [{"underlying": "BTC", "index": 59_000.0}]
    prices = rc.Prices.read(venue, accounts_of(venue, [], btc=1.0), tick(underlyings=underlyings))
    assert prices.asset.tolist() == [1.0, 59_000.0]
    assert prices.scenario.mark[-2:].tolist() == [1.0, 59_000.0]
    given = rc.Prices.read(venue, nobody(venue), tick(underlyings=underlyings, asset_prices={"BTC": 58_000.0}))
    assert given.asset.tolist() == [1.0, 58_000.0]
    assert given.scenario.index.tolist() == [59_000.0]


def test_an_option_prices_no_asset():
    venue = rc.load_venue(source([CALL_ROW, FUTURE_ROW | MARGIN, PERP_ROW | MARGIN]))
    assert venue.markets.base_asset.tolist() == [-1, -1, 1]  # the future is beside a perpetual
    assert rc.load_venue(source([CALL_ROW, FUTURE_ROW])).markets.base_asset.tolist() == [-1, 1]


def test_a_held_option_without_a_price_is_refused(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0)])
    line = "^marks.BTC-60-C: an account holds it: a forward and a volatility are needed"
    with pytest.raises(rc.RiskDataError, match=line):
        rc.Prices.read(venue, accounts, tick(volatilities={PUT: 0.5}))
    with pytest.raises(rc.RiskDataError, match=line):
        rc.Prices.read(venue, accounts, tick(marks={PERP: 60_000.0}))
    rc.Prices.read(venue, accounts_of(venue, [(PUT, 1.0, 3_000.0)]), tick(volatilities={PUT: 0.5}))


def test_a_forward_follows_from_its_neighbours(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0)])
    terms = [{"underlying": "BTC", "expiry": "2026-03-20", "forward": 60_000.0},
             {"underlying": "BTC", "expiry": "2026-04-03", "forward": 60_600.0}]  # fmt: skip
    prices = rc.Prices.read(venue, accounts, tick(marks={PERP: 60_000.0}, terms=terms))
    assert prices.scenario.forward[0] == pytest.approx(math.sqrt(60_000.0 * 60_600.0), rel=1e-14)


def test_a_held_contract_needs_an_index(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0)])
    terms = [{"underlying": "BTC", "expiry": EXPIRY, "forward": 60_000.0}]
    with pytest.raises(rc.RiskDataError, match=r"^underlyings.BTC: an account holds BTC-60-C: an index is needed"):
        rc.Prices.read(venue, accounts, tick(marks={}, terms=terms))


def test_a_model_may_price_options_by_their_marks():
    venue = rc.load_venue(source(scenario_model=MODEL | {"price_source": "mark"}))
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0), (COIN, 1.0, 0.04)])
    marks = {PERP: 60_000.0, FUTURE: 60_300.0, CALL: 0.0, COIN: 0.0431}
    prices = rc.Prices.read(venue, accounts, tick(marks))
    assert prices.mark[:2].tolist() == [0.0431, 0.0]
    with pytest.raises(rc.RiskDataError, match=r"^marks.BTC-60-C-BTC: an account holds it: a mark is needed, by which"):
        rc.Prices.read(venue, accounts, tick())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"volatilities": {CALL: -0.1}}, "volatilities.BTC-60-C, value -0.1: must be a finite number >= 0"),
        ({"volatilities": {PERP: 0.1}}, "volatilities.BTC-PERP, value 0.1: must be an option of the venue"),
        ({"volatilities": {"X": 0.1}}, "volatilities.X, value 0.1: must be a market of the venue"),
        ({"settlement_prices": {PERP: 1.0}}, "settlement_prices.BTC-PERP, value 1.0: must be a market that expires"),
        ({"asset_confidences": {"BTC": 1.5}}, "asset_confidences.BTC, value 1.5: must be a number from 0 to 1"),
        ({"marks": {PERP: 0.0}}, "marks.BTC-PERP, value 0.0: must be a finite number > 0"),
        ({"marks": {CALL: -1.0}}, "marks.BTC-60-C, value -1.0: must be a finite number >= 0"),
        (
            {"terms": [{"underlying": "ETH", "expiry": EXPIRY}]},
            "terms.underlying, row 0, value 'ETH': must be an underlying of the venue",
        ),
        (
            {"terms": [{"underlying": "BTC", "expiry": EXPIRY, "forward": 0.0}]},
            "terms.forward, row 0, value 0.0: must be a finite number > 0",
        ),
        (
            {"terms": [{"underlying": "BTC"}]},
            "terms.expiry: ",
        ),
        (
            {"underlyings": [{"underlying": "BTC", "confidence": 2.0}]},
            "underlyings.confidence, row 0, value 2.0: must be a number from 0 to 1",
        ),
        ({"stable_price": 0.0}, "stable_price, value 0.0: must be from 1e-30 to"),
        ({"terms": 5}, "terms: must be a pandas DataFrame, not int"),
    ],
)
def test_data_of_a_tick_is_refused(venue, given, line):
    with pytest.raises(rc.RiskDataError) as error:
        rc.Prices.read(venue, nobody(venue), tick(**given))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_venue_of_perpetuals_checks_what_it_does_not_use():
    venue = rc.load_venue(source([PERP_ROW | MARGIN], policy={}, scenario_model=None))
    with pytest.raises(rc.RiskDataError, match=r"^volatilities.X, value 0.1: must be a market of the venue"):
        rc.Prices.read(venue, nobody(venue), tick({PERP: 60_000.0}, volatilities={"X": 0.1}))


def test_prices_without_a_time_are_refused_where_contracts_expire(venue):
    line = "^marks: must be a Tick or a list of ticks: the venue has contracts that expire"
    for prices in ({PERP: 60_000.0}, pd.DataFrame({PERP: [60_000.0]})):
        with pytest.raises(rc.RiskDataError, match=line):
            rc.market.read_prices(venue, nobody(venue), prices)


def test_rows_of_a_single_tick_are_refused(venue):
    with pytest.raises(rc.RiskDataError, match=r"^marks: must be a pandas DataFrame, not Tick"):
        rc.sweep_rows(nobody(venue), venue, tick())


def test_prices_of_perpetuals_need_no_time():
    venue = rc.load_venue(source([PERP_ROW]))
    accounts = accounts_of(venue, [(PERP, 1.0, 60_000.0)])
    prices = rc.Prices.read(venue, accounts, {PERP: 60_000.0}, asset_prices={"BTC": 60_010.0})
    assert prices.scenario.index.tolist() == [60_010.0]
    table = PriceTable.read(venue, accounts, pd.DataFrame({PERP: [60_000.0, 61_000.0]}))
    assert [table.row(t).scenario.index.tolist() for t in range(2)] == [[60_000.0], [61_000.0]]
    assert [table.row(t).scenario.mark.tolist() for t in range(2)] == [
        [60_000.0, 1.0, 60_000.0],
        [61_000.0, 1.0, 61_000.0],
    ]


def test_a_list_of_ticks_has_the_prices_of_each(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0)])
    ticks = [tick(), tick({PERP: 61_000.0, FUTURE: 61_300.0})]
    table = PriceTable.read(venue, accounts, ticks)
    for t, each in enumerate(ticks):
        alone, row = rc.Prices.read(venue, accounts, each), table.row(t)
        assert np.array_equal(row.mark, alone.mark, equal_nan=True)
        assert np.array_equal(row.scenario.mark, alone.scenario.mark, equal_nan=True)
    assert table.rows(1, 2).row(0).scenario.index.tolist() == [61_000.0]
    with pytest.raises(rc.RiskDataError, match=f"^marks.{CALL}, row {TIME}: an account holds it"):
        PriceTable.read(venue, accounts, [ticks[0], tick(volatilities={})])
    with pytest.raises(rc.RiskDataError, match=r"^marks: must have at least one tick"):
        PriceTable.read(venue, accounts, [])


def test_ticks_stand_where_mappings_and_frames_do():
    venue, accounts = rc.sample.two_accounts()
    marks = [{"SOL_USDC_PERP": mark} for mark in (195.0, 190.0)]
    ticks = [rc.Tick(second * 10**9, each) for second, each in enumerate(marks)]
    frame = pd.DataFrame(marks)
    assert rc.sweep(accounts, venue, ticks[1]).mmr.tolist() == rc.sweep(accounts, venue, marks[1]).mmr.tolist()
    assert rc.select(accounts, venue, ticks[1]).account.tolist() == [1]
    assert [s.account.tolist() for s in rc.select(accounts, venue, ticks)] == [[], [1]]
    assert rc.sweep(accounts, venue, ticks).to_frame()["mmr"].tolist() == (
        rc.sweep(accounts, venue, frame).to_frame()["mmr"].tolist()
    )
    assert [table.time for table in rc.sweep_rows(accounts, venue, ticks)] == [0, 10**9]
    assert rc.what_if(accounts, venue, ticks[0], shocks=-0.05).mmr.tolist() == (
        rc.what_if(accounts, venue, marks[0], shocks=-0.05).mmr.tolist()
    )
    for function, more in ((rc.largest_orders, ("SOL_USDC_PERP",)), (rc.explain_margin, (1,))):
        assert function(accounts, venue, ticks[0], *more).equals(function(accounts, venue, marks[0], *more))
    given = [rc.liquidation_prices(accounts, venue, each).liquidation_price.tolist() for each in (ticks[0], marks[0])]
    assert given[0] == given[1]
    with pytest.raises(rc.RiskDataError, match=r"^asset_prices: must be None beside a Tick, which has its own"):
        rc.sweep(accounts, venue, ticks, asset_prices={"SOL": 1.0})
    with pytest.raises(rc.RiskDataError, match="must be a mapping or a Series by symbol, not list"):
        rc.sweep(accounts, venue, [ticks[0], marks[0]])


def test_a_shock_moves_an_underlying_with_all_that_is_on_it(venue):
    accounts = accounts_of(venue, [(CALL, 1.0, 3_000.0), (FUTURE, 1.0, 60_000.0)], btc=1.0)
    prices = rc.Prices.read(venue, accounts, tick())
    none = np.full(5, np.nan), np.full(2, np.nan)
    moved = prices.moved(*none, np.array([0.9]))
    assert moved.scenario.index.tolist() == [54_000.0]
    assert moved.scenario.forward.tolist() == [60_300.0 * 0.9]
    assert moved.mark[3:].tolist() == [60_300.0 * 0.9, 54_000.0]
    assert moved.asset.tolist() == [1.0, 54_000.0]
    assert moved.mark[1] == pytest.approx(black_76(54_270.0, 60_000.0, 0.55, 14 / 365, 0.05, True), rel=1e-12)
    market = none[0].copy()
    market[4] = 1.1
    by_perpetual = prices.moved(market, none[1])
    assert by_perpetual.scenario.index[0] == pytest.approx(66_000.0)
    assert by_perpetual.mark[3] == pytest.approx(66_330.0)
    with pytest.raises(rc.RiskDataError, match=r"^shocks.BTC-60-C: must not be an option"):
        rc.what_if(accounts, venue, tick(), shocks={CALL: 0.1})


def test_a_mark_that_prices_an_option_moves_with_its_value():
    venue = rc.load_venue(source(scenario_model=MODEL | {"price_source": "mark"}))
    marks = {PERP: 60_000.0, FUTURE: 60_300.0, CALL: 2_800.0, COIN: 0.05, PUT: 100.0}
    prices = rc.Prices.read(venue, accounts_of(venue, [(CALL, 1.0, 3_000.0)]), tick(marks))
    none = np.full(5, np.nan), np.full(2, np.nan)
    assert np.array_equal(prices.moved(*none, np.array([1.0])).mark, prices.mark)
    before, after = (black_76(forward, 6e4, 0.55, 14 / 365, 0.05, True) for forward in (60_300.0, 66_330.0))
    moved = prices.moved(*none, np.array([1.1]))
    assert moved.mark[0] == pytest.approx(0.05 + after / 66_330.0 - before / 60_300.0, rel=1e-12)
    assert moved.mark[1] == pytest.approx(2_800.0 + after - before, rel=1e-12)
    assert moved.mark[2] == 0.0  # the put loses more than its mark
    assert moved.scenario.mark[:3].tolist() == moved.mark[:3].tolist()


def test_other_marks_go_into_the_scenario_data(venue):
    prices = rc.Prices.read(venue, nobody(venue), tick())
    other = prices.at(prices.mark * 1.01, prices.asset)
    assert other.scenario.mark[3:5].tolist() == other.mark[3:].tolist()
    assert np.isnan(other.scenario.mark[:3]).all()


# Accounts


def test_an_option_has_no_cost_and_keeps_its_entry(venue):
    accounts = accounts_of(venue, [(CALL, 2.0, 3_000.0), (PUT, -1.0, 2_000.0), (PERP, 0.5, 59_000.0)])
    by_market = dict(zip(accounts.columns.market.tolist(), accounts.columns.cost.tolist(), strict=True))
    assert by_market[1] == by_market[2] == 0
    assert by_market[4] == 29_500_000_000
    frames = accounts.to_frames()
    entry = frames.positions.set_index("market")["entry_price"].to_dict()
    assert entry == {CALL: 3_000.0, PUT: 2_000.0, PERP: 59_000.0}
    assert "settle_price" not in frames.positions
    again = rc.Accounts.from_frames(venue, *frames)
    for name in ("market", "lots", "cost", "entry"):
        assert getattr(accounts.columns, name).tolist() == getattr(again.columns, name).tolist()


def test_a_premium_is_cash_at_once(venue):
    accounts = accounts_of(venue, [(CALL, 2.0, 3_000.0)], usdc=10_000.0)
    fills = pd.DataFrame(
        {"account": 1, "market": [CALL, CALL, PUT, COIN], "quantity": [1.0, -2.5, -1.0, 2.0],
         "price": [3_300.0, 3_200.0, 2_000.0, 0.05], "fee": [0.0, 1.0, 0.0, 0.0]}
    )  # fmt: skip
    after = accounts.with_fills(venue, fills).to_frames()
    balances = after.balances.set_index("asset")["quantity"]
    assert balances["USDC"] == 10_000.0 - 3_300.0 + 2.5 * 3_200.0 - 1.0 + 2_000.0
    assert balances["BTC"] == -0.1
    positions = after.positions.set_index("market")
    assert positions["quantity"].to_dict() == {COIN: 2.0, CALL: 0.5, PUT: -1.0}
    assert positions["entry_price"].to_dict() == {COIN: 0.05, CALL: 3_100.0, PUT: 2_000.0}
    assert not accounts.with_fills(venue, fills).columns.cost.any()


def test_a_future_has_a_cost_beside_an_option(venue):
    accounts = accounts_of(venue, [])
    fills = pd.DataFrame({"account": 1, "market": [FUTURE, CALL], "quantity": 1.0, "price": [60_000.0, 3_000.0]})
    after = accounts.with_fills(venue, fills)
    assert after.to_frames().balances.set_index("asset")["quantity"]["USDC"] == 12_000.0
    assert after.columns.cost.sum() == 60_000_000_000


def test_the_settle_price_of_an_option_is_refused(venue):
    line = "^positions.settle_price, row 1, value 5.0: must be missing: no profit and loss of an option is realised"
    with pytest.raises(rc.RiskDataError, match=line):
        accounts_of(venue, [(PERP, 1.0, 60_000.0), (CALL, 1.0, 3_000.0)], settle_price=[np.nan, 5.0])


def test_separable_margin_refuses_held_options():
    venue = rc.load_venue(source([CALL_ROW, PERP_ROW | MARGIN], policy={}))
    perpetuals = accounts_of(venue, [(PERP, 0.1, 60_000.0)])
    assert rc.sweep(perpetuals, venue, tick({PERP: 60_000.0}, volatilities={})).maintenance_margin.tolist() == [60.0]
    line = "^venue.policy.margin_model, value 'separable': must not be separable: an account holds the option BTC-60-C"
    for function in (rc.sweep, rc.select, rc.liquidation_prices):
        with pytest.raises(rc.RiskDataError, match=line):
            function(accounts_of(venue, [(CALL, 1.0, 3_000.0)]), venue, tick({PERP: 60_000.0}, volatilities={}))


def test_dated_futures_have_separable_margin():
    venue = rc.load_venue(source([FUTURE_ROW | MARGIN], policy={}, scenario_model=None))
    accounts = accounts_of(venue, [(FUTURE, 0.1, 60_000.0)])
    table = rc.sweep(accounts, venue, {FUTURE: 61_000.0})
    assert (table.net_equity.tolist(), table.maintenance_margin.tolist()) == ([15_100.0], [61.0])


@pytest.mark.parametrize("rows", [ROWS, [FUTURE_ROW], [PERP_ROW]])
def test_an_engine_and_a_small_account_refuse_the_venue(rows):
    venue = rc.load_venue(source(rows))
    line = "venue.policy.margin_model, value 'scenario': must not be scenario: {} has no such margin model"
    if rows != [PERP_ROW]:
        line = (
            "venue.markets.{1}.marketType, value '{2}': must be a perpetual: {0} knows no options and no dated futures"
        )
    for what, function in (
        ("an engine", lambda: rc.Engine(nobody(venue), venue)),
        ("a small account", lambda: rc.scalar.small_account(venue, {row["symbol"]: 100.0 for row in rows})),
    ):
        with pytest.raises(rc.RiskDataError) as error:
            function()
        assert str(error.value) == line.format(what, rows[0]["symbol"], rows[0]["marketType"])


@given(
    quantities=st.lists(st.integers(-5_000, 5_000), min_size=6, max_size=6),
    cash=st.integers(-50_000, 50_000),
    coins=st.integers(0, 300),
    weight=st.sampled_from(["1", "0.9"]),
)
@settings(max_examples=30)
def test_equity_is_that_of_the_rules(quantities, cash, coins, weight):
    inverse = PERP_ROW | {"symbol": "BTC-INV", "marketType": "IPERP", "quoteSymbol": "USD", "multiplier": "10"}
    content = source([*ROWS, inverse])
    content["collateral"][1]["haircutFunction"] = IDENTITY | {"weight": weight}
    venue = rc.load_venue(content)
    entries = {COIN: 0.05, CALL: 3_000.0, PUT: 2_000.0, FUTURE: 61_000.0, PERP: 59_000.0, "BTC-INV": 50_000.0}
    sizes = dict(zip(entries, (n / 1_000 for n in quantities), strict=True))
    positions = [(market, size, entries[market]) for market, size in sizes.items() if size]
    accounts = accounts_of(venue, positions, float(cash), coins / 100)
    underlyings = [{"underlying": "BTC", "index": 60_000.0}]
    prices = rc.Prices.read(venue, accounts, tick({PERP: 60_000.0, FUTURE: 60_300.0, "BTC-INV": 60_100.0},
                                                  underlyings=underlyings))  # fmt: skip
    value = dict(zip(venue.markets.symbol, map(Fraction, prices.mark.tolist()), strict=True))
    in_quote = sum(Fraction(sizes[m]) * value[m] for m in (CALL, PUT))
    in_quote += sum(Fraction(sizes[m]) * (value[m] - Fraction(entries[m])) for m in (FUTURE, PERP))
    in_coin = Fraction(sizes[COIN]) * value[COIN]
    in_coin += Fraction(sizes["BTC-INV"]) * 10 * (1 / Fraction(50_000) - 1 / value["BTC-INV"])
    in_coin += Fraction(coins, 100)
    expected = cash + in_quote + in_coin * 60_000 * (Fraction(weight) if in_coin > 0 else 1)
    assert float(exact.account_margin(accounts, 0, prices).equity) == pytest.approx(float(expected), abs=2e-3)


def test_exact_equity_takes_the_value_of_an_option_as_it_is(venue):
    accounts, lots = accounts_of(venue, [(CALL, -1.234, 3_000.0), (PUT, 4.321, 2_000.0)]), {CALL: -1_234, PUT: 4_321}
    for source_, kind in (("model", Fraction), ("mark", lambda mark: Fraction(repr(mark)))):
        other = rc.load_venue(source(scenario_model=MODEL | {"price_source": source_}))
        given = {CALL: 0.1, PUT: 1e-9} if source_ == "mark" else {}
        prices = rc.Prices.read(other, accounts, tick({PERP: 60_000.0, FUTURE: 60_300.0} | given))
        marks = dict(zip(other.markets.symbol, prices.mark.tolist(), strict=True))
        expected = 15_000 + sum(kind(marks[m]) * n / 1_000 for m, n in lots.items())
        assert abs(Fraction(exact.account_margin(accounts, 0, prices).equity) - expected) <= Fraction(1, 10**39)


# The worked example of docs/scenario_margin.md, "Instruments and equity"


def test_the_example_of_the_page(venue):
    positions = [(CALL, -1.0, 2_900.0), (PUT, -1.0, 2_500.0), (COIN, 0.5, 0.05), (PERP, 0.4, 61_000.0)]
    accounts = accounts_of(venue, positions)
    prices = rc.Prices.read(venue, accounts, tick(underlyings=[{"underlying": "BTC", "index": 60_000.0}]))
    value = dict(zip(venue.markets.symbol, prices.mark.tolist(), strict=True))
    assert (round(value[CALL], 6), round(value[PUT], 6), round(value[COIN], 8)) == (
        2_731.068756,
        2_431.643547,
        0.04529136,
    )
    equity = exact.account_margin(accounts, 0, prices).equity
    assert round(float(equity), 6) == 10_796.028372


# Files


def ticks_of(venue, **tables):
    times = [TIME, "2026-03-14T08:00Z"]
    marks = pd.DataFrame(
        [{"time": t, "market": m, "mark_price": p} for t in times for m, p in ((PERP, 6e4), (FUTURE, 6.03e4))]
    )
    return rc.io.read_ticks(venue, nobody(venue), marks, **{name: pd.DataFrame(rows) for name, rows in tables.items()})


def test_ticks_have_the_tables_of_their_time(venue):
    first, second = TIME, "2026-03-14T08:00Z"
    ticks = ticks_of(
        venue,
        volatilities=[
            {"time": first, "market": CALL, "volatility": 0.5},
            {"time": second, "market": PUT, "volatility": 0.6},
        ],
        terms=[{"underlying": "BTC", "expiry": "2026-03-27", "rate": 0.05}],
        underlyings=[{"time": second, "underlying": "BTC", "index": 61_000.0}],
    )
    assert [tick.volatilities for tick in ticks] == [{CALL: 0.5}, {PUT: 0.6}]
    assert [tick.terms["rate"].tolist() for tick in ticks] == [[0.05], [0.05]]
    assert [tick.surface for tick in ticks] == [None, None]
    assert [None if tick.underlyings is None else tick.underlyings["index"].tolist() for tick in ticks] == [
        None,
        [61_000.0],
    ]
    table = PriceTable.read(venue, nobody(venue), list(ticks))
    assert [table.row(t).scenario.index.tolist() for t in range(2)] == [[60_000.0], [61_000.0]]
    assert [np.isnan(table.mark[t, 1:3]).tolist() for t in range(2)] == [[False, True], [True, False]]


def test_an_option_alone_may_have_a_mark_of_zero(venue):
    marks = pd.DataFrame({"time": TIME, "market": [CALL, FUTURE], "mark_price": [0.0, 60_000.0]})
    assert next(iter(rc.io.read_ticks(venue, nobody(venue), marks))).marks == {CALL: 0.0, FUTURE: 60_000.0}
    with pytest.raises(rc.RiskDataError, match=r"^marks.mark_price, row 1, value 0.0: must be a finite number > 0"):
        rc.io.read_ticks(venue, nobody(venue), marks.assign(mark_price=[0.0, 0.0]))


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (
            {"volatilities": [{"time": "2026-03-15", "market": CALL, "volatility": 0.5}]},
            "volatilities.time, row 0, value '2026-03-15 00:00:00+00:00': must be a time of the marks table",
        ),
        (
            {"volatilities": [{"time": TIME, "market": CALL, "volatility": np.nan}]},
            "volatilities.volatility, row 0, value nan: must not be missing",
        ),
        (
            {"terms": [{"time": "2026-03-15", "underlying": "BTC", "expiry": EXPIRY}]},
            "terms.time, row 0, value '2026-03-15 00:00:00+00:00': must be a time of the marks table",
        ),
    ],
)
def test_tables_of_other_times_are_refused(venue, tables, line):
    with pytest.raises(rc.RiskDataError) as error:
        ticks_of(venue, **tables)
    assert str(error.value) == line


# The surface


NODES = [(50_000.0, 0.66), (55_000.0, 0.60), (60_000.0, 0.56), (65_000.0, 0.57), (75_000.0, 0.64)]


def surface(nodes=NODES):
    return [{"underlying": "BTC", "expiry": EXPIRY, "strike": k, "volatility": v} for k, v in nodes]


def test_a_surface_serves_options_without_a_volatility(venue):
    prices = rc.Prices.read(venue, nobody(venue), tick(volatilities={CALL: 0.7}, surface=surface()))
    assert prices.scenario.volatility[:3].tolist() == [pytest.approx(0.56), 0.7, pytest.approx(0.56)]
    put = black_76(60_300.0, 60_000.0, prices.scenario.volatility[2], 14 / 365, 0.05, False)
    assert prices.mark[2] == pytest.approx(put, rel=1e-12)


def test_the_policy_says_what_becomes_of_a_surface_with_arbitrage():
    steep = surface([(60_000.0, 0.2), (60_500.0, 3.0)])
    for mode, check in (("warn", pytest.warns(UserWarning, match="BTC")), ("refuse", pytest.raises(rc.RiskDataError)),
                        ("off", nullcontext())):  # fmt: skip
        venue = rc.load_venue(source(policy={"margin_model": "scenario", "surface_check": mode}))
        with check:
            rc.Prices.read(venue, nobody(venue), tick(volatilities={}, surface=steep))


# The commands


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write the input files of a command into a folder, and run it there."""
    monkeypatch.chdir(tmp_path)
    tables = {
        "positions": [{"account": 1, "market": CALL, "quantity": -1, "entry_price": 2_900}],
        "balances": [{"account": 1, "asset": "USDC", "quantity": 9_000}],
        "marks": [{"time": TIME, "market": PERP, "mark_price": 60_000}],
        "volatilities": [{"time": TIME, "market": CALL, "volatility": 0.55}],
        "terms": [{"underlying": "BTC", "expiry": "2026-03-27", "forward": 60_300, "rate": 0.05}],
    }
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(f"{name}.csv", index=False)
    (tmp_path / "venue.json").write_text(json.dumps(source([CALL_ROW, PERP_ROW])))
    paths = [text for name in ("positions", "balances", "marks") for text in (f"--{name}", f"{name}.csv")]

    def run(command, *arguments):
        return CliRunner().invoke(app, [command, "--venue", "venue.json", *paths, *arguments])

    return run


OPTION_TABLES = ("--volatilities", "volatilities.csv", "--terms", "terms.csv")


def test_sweep_reads_the_tables_of_options(files):
    result = files("sweep", *OPTION_TABLES, "--out", "margins.csv", "--json")
    assert result.exit_code == 0, result.output
    table, venue = pd.read_csv("margins.csv"), rc.load_venue("venue.json")
    accounts = rc.io.read_accounts(venue, "positions.csv", "balances.csv")
    terms = [{"underlying": "BTC", "expiry": EXPIRY, "forward": 60_300.0, "rate": 0.05}]
    margins = rc.sweep(accounts, venue, rc.Tick(TIME, {PERP: 60_000.0}, volatilities={CALL: 0.55}, terms=terms))
    assert table["maintenance_margin"].tolist() == margins.maintenance_margin.tolist()
    assert table["net_equity"].tolist() == pytest.approx([9_000 - 2_731.068756])
    assert table["maintenance_margin"][0] == pytest.approx(
        black_76(66_330.0, 6e4, 0.55, 14 / 365, 0.05, True) - black_76(60_300.0, 6e4, 0.55, 14 / 365, 0.05, True)
    )


def test_sweep_takes_another_margin_model(files):
    model = json.dumps({"scenarios": [{"move": "0.2", "vol": "same"}]})
    Path("model.json").write_text(model)
    for margin_model in ("model.json", model):
        result = files("sweep", *OPTION_TABLES, "--margin-model", margin_model, "--out", "margins.csv")
        assert result.exit_code == 0, result.output
        assert pd.read_csv("margins.csv")["maintenance_margin"][0] == pytest.approx(
            black_76(72_360.0, 6e4, 0.55, 14 / 365, 0.05, True) - black_76(60_300.0, 6e4, 0.55, 14 / 365, 0.05, True)
        )


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        ("sweep", (), f"marks.{CALL}, row time 2026-03-13 08:00:00+00:00: an account holds it: a forward"),
        ("sweep", (*OPTION_TABLES, "--margin-model", "none"), "scenario_model, value 'none': must be"),
        ("sweep", (*OPTION_TABLES, "--margin-model", "separable"), "venue.markets[1].imfFunction: a PERP market"),
        ("sweep", ("--volatilities", "terms.csv"), "volatilities.time: the column is missing"),
        ("replay", (), f"venue.markets.{CALL}.marketType, value 'OPTION': must be a perpetual: a replay knows no"),
    ],
)
def test_a_command_refuses_in_one_line(files, command, arguments, line):
    result = files(command, *arguments, "--out", "out.csv")
    assert result.exit_code == 2
    assert result.output.strip().splitlines()[-1].startswith(f"riskcore: {line}"), result.output
    assert not Path("out.csv").exists()


def test_an_input_is_not_written_over(files):
    result = files("sweep", *OPTION_TABLES, "--out", "terms.csv")
    assert result.output.strip().endswith("out, value 'terms.csv': must not be an input of the same command")


def test_other_commands_read_the_tables_of_options(files):
    result = files("liquidation-prices", *OPTION_TABLES, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["positions"] == 1
    result = files("what-if", *OPTION_TABLES, "--shock", "all=-10%", "--json")
    assert result.exit_code == 0, result.output
