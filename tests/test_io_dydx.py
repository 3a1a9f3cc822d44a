"""dYdX v4's saved replies: rules of the chain and of the indexer, made-up subaccounts worked out here in fractions."""

import copy
import json
from fractions import Fraction

import pytest

from riskcore import RiskDataError, liquidation_prices, sweep
from riskcore.io.venues import dydx

ORACLE = {"BTC-USD": "93462.12345", "ETH-USD": "3103.01", "SOL-USD": "135.3"}
FRACTIONS = {"BTC-USD": ("0.02", "0.012"), "ETH-USD": ("0.02", "0.012"), "SOL-USD": ("0.05", "0.03")}
SIZES = {"BTC-USD": ("1", "0.0001"), "ETH-USD": ("0.1", "0.001"), "SOL-USD": ("0.01", "0.1")}


def indexer():
    caps = {"SOL-USD": ("40000000", "100000000")}
    return {
        "markets": {
            ticker: {
                "clobPairId": "0",
                "ticker": ticker,
                "status": "ACTIVE",
                "oraclePrice": price,
                "initialMarginFraction": FRACTIONS[ticker][0],
                "maintenanceMarginFraction": FRACTIONS[ticker][1],
                "openInterest": "500000.5",
                "atomicResolution": -10,
                "tickSize": SIZES[ticker][0],
                "stepSize": SIZES[ticker][1],
                "openInterestLowerCap": caps.get(ticker, ("0", "0"))[0],
                "openInterestUpperCap": caps.get(ticker, ("0", "0"))[1],
            }
            for ticker, price in ORACLE.items()
        }
    }


def chain():
    """Replies to perpetuals/liquidity_tiers, perpetuals/perpetual and clob/clob_pair: the same three markets."""
    tier = {"name": "", "impact_notional": "10000000000", "base_position_notional": "0"}
    tiers = [
        {"id": 0, "initial_margin_ppm": 20_000, "maintenance_fraction_ppm": 600_000} | tier,
        {
            "id": 4,
            "initial_margin_ppm": 50_000,
            "maintenance_fraction_ppm": 600_000,
            "open_interest_lower_cap": "40000000000000",
            "open_interest_upper_cap": "100000000000000",
        }
        | tier,
    ]
    markets = [("BTC-USD", 0, -10, 0, 100_000), ("ETH-USD", 1, -9, 0, 100_000), ("SOL-USD", 5, -7, 4, 1_000_000)]
    perpetuals = [
        {"params": {"ticker": t, "id": n, "market_id": n, "atomic_resolution": a, "liquidity_tier": tier}}
        for t, n, a, tier, _ in markets
    ]
    pairs = [
        {
            "id": 90 + n,
            "perpetual_clob_metadata": {"perpetual_id": n},
            "step_base_quantums": "1000000",
            "subticks_per_tick": subticks,
            "quantum_conversion_exponent": -9,
            "status": "STATUS_ACTIVE",
        }
        for _, n, _, _, subticks in markets
    ]
    return {"liquidity_tiers": tiers}, {"perpetual": perpetuals}, {"clob_pair": pairs}


def camel(content):
    if isinstance(content, list):
        return [camel(item) for item in content]
    if not isinstance(content, dict):
        return content
    words = {key: key.split("_") for key in content}
    return {words[k][0] + "".join(w.title() for w in words[k][1:]): camel(value) for k, value in content.items()}


def subaccount(quote, sizes):
    equity = Fraction(quote) + sum(Fraction(size) * Fraction(ORACLE[ticker]) for ticker, size in sizes.items())
    worth = {ticker: abs(Fraction(size)) * Fraction(ORACLE[ticker]) for ticker, size in sizes.items()}
    initial = sum(Fraction(FRACTIONS[ticker][0]) * notional for ticker, notional in worth.items())
    return {
        "subaccount": {
            "address": "dydx1made0up",
            "subaccountNumber": 0,
            "equity": repr(float(equity)),
            "freeCollateral": repr(float(equity - initial)),
            "openPerpetualPositions": {
                ticker: {
                    "market": ticker,
                    "status": "OPEN",
                    "side": "SHORT" if size.startswith("-") else "LONG",
                    "size": size,
                    "maxSize": size,
                    "entryPrice": str(float(Fraction(ORACLE[ticker]) / 2)),
                    "exitPrice": None,
                    "realizedPnl": "1.5",
                    "unrealizedPnl": repr(float(Fraction(size) * Fraction(ORACLE[ticker]) / 2)),
                    "netFunding": "-10.25",
                    "sumOpen": size,
                    "sumClose": "0",
                }
                for ticker, size in sizes.items()
            },
            "assetPositions": {
                "USDC": {
                    "symbol": "USDC",
                    "side": "SHORT" if quote.startswith("-") else "LONG",
                    "size": quote.lstrip("-"),
                    "assetId": "0",
                }
            },
            "marginEnabled": True,
        }
    }


ACCOUNTS = {
    "cash": ("45.201296", {}),
    "long": ("-44321.123456", {"BTC-USD": "0.5"}),
    "short": ("40000.000001", {"ETH-USD": "-12.345"}),
    "several": ("-30000.5", {"BTC-USD": "0.4321", "ETH-USD": "-3.001", "SOL-USD": "77.7"}),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_a_subaccount_has_the_figures_of_the_chain(case):
    quote, sizes = ACCOUNTS[case]
    snapshot = dydx.load_account(
        dydx.load_venue(None, indexer()), subaccount(quote, sizes), dydx.oracle_prices(indexer())
    )
    compared = snapshot.compare()
    figures = ["net_equity"] if "SOL-USD" in sizes else ["net_equity", "initial_margin"]  # SOL's has open interest
    assert compared["figure"].tolist() == figures
    assert compared["relative_difference"].tolist() == pytest.approx([0] * len(figures), abs=1e-12)
    worth = {ticker: abs(Fraction(size)) * Fraction(ORACLE[ticker]) for ticker, size in sizes.items()}
    equity = Fraction(quote) + sum(Fraction(size) * Fraction(ORACLE[ticker]) for ticker, size in sizes.items())
    rates = {ticker: Fraction(FRACTIONS[ticker][1]) for ticker in sizes}
    maintenance = sum(rates[ticker] * worth[ticker] for ticker in sizes)
    row = sweep(snapshot.accounts, snapshot.venue, snapshot.marks).to_frame().iloc[0]
    assert row["net_equity"] == pytest.approx(float(equity), rel=1e-12)
    assert row["exposure"] == pytest.approx(float(sum(worth.values())), rel=1e-12)
    assert row["maintenance_margin"] == pytest.approx(float(maintenance), rel=1e-12)
    assert (snapshot.accounts.columns.free >= 0).all()
    prices = liquidation_prices(snapshot.accounts, snapshot.venue, snapshot.marks).to_frame().set_index("market")
    for ticker, size in sizes.items():
        side = 1 if Fraction(size) > 0 else -1
        per_unit = abs(Fraction(size)) * (1 - side * rates[ticker])
        expected = Fraction(ORACLE[ticker]) - side * (equity - maintenance) / per_unit
        found = prices.loc[ticker, "liquidation_price"]
        assert found == pytest.approx(float(expected), rel=1e-10) if expected > 0 else found != found


def test_entry_prices_stay():
    snapshot = dydx.load_account(dydx.load_venue(None, indexer()), subaccount(*ACCOUNTS["long"]), ORACLE)
    entry = snapshot.accounts.columns.entry * float(snapshot.venue.settle_quantum)
    assert entry == pytest.approx([0.5 * 93462.12345 / 2])


def test_the_initial_margin_grows_with_the_open_interest():
    venue = dydx.load_venue(None, indexer())
    functions = [row["imfFunction"] for row in venue.source["markets"]]
    assert functions[0] == {"type": "sqrt", "base": "0.02", "factor": "0"}
    assert functions[2] == {"type": "open_interest", "base": "0.05", "lower": "40000000", "upper": "100000000"}
    snapshot = dydx.load_account(venue, subaccount("100000", {"SOL-USD": "100"}), ORACLE)
    held = dydx.open_interest(indexer())
    assert held["SOL-USD"] == 500_000.5
    interest = Fraction("500000.5") * Fraction("135.3")
    rate = Fraction("0.05") + Fraction("0.95") * (interest - 40_000_000) / 60_000_000
    row = sweep(snapshot.accounts, snapshot.venue, snapshot.marks, open_interest=held).to_frame().iloc[0]
    content = changed(subaccount("100000", {"SOL-USD": "100"}), ["subaccount", "freeCollateral"], "99000")
    known = dydx.load_account(venue, content, ORACLE, open_interest=held).compare().set_index("figure")
    assert known.at["initial_margin", "riskcore"] == row["initial_margin"]
    assert row["initial_margin"] == pytest.approx(float(13530 * rate), rel=1e-12)


@pytest.mark.parametrize("change", [lambda part: part, camel], ids=["snake", "camel"])
def test_chain_and_indexer_say_the_same(change):
    tiers, perpetuals, pairs = (change(part) for part in chain())
    ours = dydx.load_venue(tiers, perpetuals, clob_pairs=pairs)
    theirs = dydx.load_venue(None, indexer())
    for name in ("symbol", "tick", "step"):
        assert getattr(ours.markets, name) == getattr(theirs.markets, name)
    assert ours.margin_functions.functions == theirs.margin_functions.functions


def test_the_genesis(shared):
    venue = dydx.load_venue(shared / "data/params/dydx_v4_mainnet_genesis_risk.json")
    assert len(venue.markets.symbol) == 33
    rows = {row["symbol"]: row for row in venue.source["markets"]}
    bases = {t: tuple(Fraction(rows[t][f]["base"]) for f in ("imfFunction", "mmfFunction")) for t in rows}
    assert bases["BTC-USD"] == (Fraction(5, 100), Fraction(3, 100))
    assert bases["SOL-USD"] == (Fraction(10, 100), Fraction(5, 100))
    assert bases["COMP-USD"] == (Fraction(20, 100), Fraction(10, 100))
    step, tick = (
        dict(zip(venue.markets.symbol, sizes, strict=True)) for sizes in (venue.markets.step, venue.markets.tick)
    )
    assert (step["BTC-USD"], tick["BTC-USD"]) == (Fraction(1, 10_000), 1)
    assert (step["PEPE-USD"], tick["PEPE-USD"]) == (10_000_000, Fraction(1, 10**11))
    assert dydx.load_venue(dydx.preset()).source["markets"] == venue.source["markets"]
    assert {"source", "date"} <= set(dydx.preset())


def test_files_and_the_reply_without_its_wrapping(tmp_path):
    markets = tmp_path / "markets.json"
    markets.write_text(json.dumps(indexer()))
    state = tmp_path / "subaccount.json"
    state.write_text(json.dumps(subaccount(*ACCOUNTS["several"])["subaccount"]))
    snapshot = dydx.load_account(dydx.load_venue(None, markets), state, dydx.oracle_prices(markets), account=7)
    assert snapshot.accounts.ids.tolist() == [7]
    assert snapshot.compare()["relative_difference"].max() <= 1e-8


def changed(content, keys, value):
    content = copy.deepcopy(content)
    at = content
    for key in keys[:-1]:
        at = at[key]
    if value is None:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    return content


HELD = ["subaccount", "openPerpetualPositions"]


@pytest.mark.parametrize(
    ("keys", "value", "path"),
    [
        (["subaccount", "equity"], None, r"`equity` - at `\$\.subaccount`"),
        (["subaccount", "equity"], "rich", r"\$\.subaccount\.equity"),
        (["subaccount", "assetPositions"], None, r"`assetPositions` - at `\$\.subaccount`"),
        (["subaccount", "assetPositions", "USDC", "size"], None, r"\$\.subaccount\.assetPositions\.USDC: .*`size`"),
        (["subaccount", "assetPositions", "USDT"], {"side": "LONG", "size": "1"}, r"assetPositions\.USDT"),
        ([*HELD, "BTC-USD", "side"], "BUY", r"\$\.subaccount\.openPerpetualPositions\.BTC-USD: .*`\$\.side`"),
        (
            [*HELD, "BTC-USD", "size"],
            "NaN",
            r"\$\.subaccount\.openPerpetualPositions\.BTC-USD: `size` must be",
        ),
        ([*HELD, "BTC-USD"], "0.5", r"\$\.subaccount\.openPerpetualPositions\.BTC-USD: Expected `object`"),
        ([*HELD, "NOPE-USD"], {"side": "LONG", "size": "1"}, r"\$\.subaccount\.openPerpetualPositions\.NOPE-USD"),
    ],
)
def test_a_wrong_subaccount_is_named_by_its_path(keys, value, path):
    content = changed(subaccount(*ACCOUNTS["several"]), keys, value)
    with pytest.raises(RiskDataError, match=path):
        dydx.load_account(dydx.load_venue(None, indexer()), content, ORACLE)


def test_every_position_needs_an_oracle_price():
    with pytest.raises(RiskDataError, match=r"openPerpetualPositions\.ETH-USD.*oracle price"):
        dydx.load_account(
            dydx.load_venue(None, indexer()), subaccount(*ACCOUNTS["several"]), {"BTC-USD": ORACLE["BTC-USD"]}
        )


@pytest.mark.parametrize(
    ("part", "keys", "value", "path"),
    [
        (0, ["liquidity_tiers"], None, r"liquidity_tiers\.\$\.liquidity_tiers"),
        (0, ["liquidity_tiers", 1, "initial_margin_ppm"], None, r"`initial_margin_ppm` - at `\$\[1\]`"),
        (0, ["liquidity_tiers", 1, "open_interest_upper_cap"], "much", r"\$\[1\]\.open_interest_upper_cap"),
        (1, ["perpetual", 2, "params", "ticker"], None, r"`ticker` - at `\$\[2\]\.params`"),
        (1, ["perpetual", 2, "params", "liquidity_tier"], 9, r"\$\[2\]\.params\.liquidity_tier.*9"),
        (1, ["perpetual", 2, "params", "atomic_resolution"], -99, r"\$\[2\]\.params\.atomic_resolution"),
        (2, ["clob_pair", 0, "step_base_quantums"], "inf", r"`step_base_quantums` must be.* - at `\$\[0\]`"),
    ],
)
def test_wrong_rules_of_the_chain_are_named_by_their_path(part, keys, value, path):
    parts = list(chain())
    parts[part] = changed(parts[part], keys, value)
    with pytest.raises(RiskDataError, match=path):
        dydx.load_venue(parts[0], parts[1], clob_pairs=parts[2])


@pytest.mark.parametrize(
    ("keys", "value", "path"),
    [
        (["markets"], None, "markets"),
        (["markets", "ETH-USD", "tickSize"], None, r"\$\.markets\.ETH-USD: .*`tickSize`"),
        (["markets", "ETH-USD", "initialMarginFraction"], {}, r"\$\.markets\.ETH-USD: .*`\$\.initialMarginFraction`"),
    ],
)
def test_wrong_rules_of_the_indexer_are_named_by_their_path(keys, value, path):
    with pytest.raises(RiskDataError, match=path):
        dydx.load_venue(None, changed(indexer(), keys, value))


def test_equity_of_a_moment_later_than_the_oracle_prices():
    later = {ticker: str(1.01 * float(price)) for ticker, price in ORACLE.items()}
    content = subaccount(*ACCOUNTS["several"])
    snapshot = dydx.load_account(dydx.load_venue(None, indexer()), content, later)
    assert 0 < snapshot.compare().set_index("figure").at["net_equity", "relative_difference"] < 0.1
    far = {ticker: str(1.1 * float(price)) for ticker, price in ORACLE.items()}
    with pytest.raises(RiskDataError, match=r"subaccount\.\$\.subaccount\.equity, value '.*': must be .*positions"):
        dydx.load_account(dydx.load_venue(None, indexer()), content, far)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["subaccount", "equity"], "12000", r"equity, value '12000': must be 1\d+.*a position"),
        ([*HELD, "SOL-USD"], None, r"equity, value '.*': must be .*a position"),
        (["subaccount", "assetPositions", "USDC"], None, r"equity, value '.*': must be .*an asset"),
        (["subaccount", "freeCollateral"], "99999", r"freeCollateral, value '99999': must be at most the equity"),
    ],
)
def test_totals_that_the_rows_do_not_make_are_refused(keys, value, message):
    content = changed(subaccount(*ACCOUNTS["several"]), keys, value)
    with pytest.raises(RiskDataError, match=message):
        dydx.load_account(dydx.load_venue(None, indexer()), content, ORACLE)


def test_a_requirement_without_positions_is_refused():
    content = changed(subaccount(*ACCOUNTS["cash"]), ["subaccount", "freeCollateral"], "40")
    with pytest.raises(RiskDataError, match=r"freeCollateral, value '40': must be the equity, 45\.2"):
        dydx.load_account(dydx.load_venue(None, indexer()), content, ORACLE)
