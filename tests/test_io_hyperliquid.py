"""Hyperliquid's saved replies: rules by its documents, made-up accounts worked out here in fractions."""

import copy
import json
from fractions import Fraction

import pytest

from riskcore import RiskDataError, liquidation_prices, sweep
from riskcore.io import hyperliquid

TABLES = {
    51: [(0, 10), (3_000_000, 5)],
    56: [(0, 40), (150_000_000, 20)],
    60: [(0, 20), (20_000, 10), (100_000, 3)],
}
MARKETS = {"BTC": (5, 40, 56), "ETH": (4, 25, 55), "DOGE": (0, 20, 60), "HYPE": (2, 10, 51), "kPEPE": (0, 3, 3)}
MARKS = {"BTC": "97000.5", "ETH": "3104.25", "DOGE": "0.21345", "HYPE": "37.826", "kPEPE": "0.009731"}


def meta():
    return {
        "universe": [
            {"name": name, "szDecimals": decimals, "maxLeverage": top, "marginTableId": table}
            for name, (decimals, top, table) in MARKETS.items()
        ],
        "marginTables": [
            [number, {"description": "", "marginTiers": [{"lowerBound": f"{b}.0", "maxLeverage": x} for b, x in tiers]}]
            for number, tiers in TABLES.items()
        ],
        "collateralToken": 0,
    }


def contexts():
    return [{"markPx": MARKS[name], "openInterest": "1.5", "funding": "0.0000125", "midPx": None} for name in MARKETS]


def tiers(coin):
    """(from, rate, deduction) of each tier, as the page on margin tiers has it."""
    _, top, table = MARKETS[coin]
    rows, deduction, before = [], Fraction(0), Fraction(0)
    for lower, leverage in TABLES.get(table, [(0, top)]):
        rate = Fraction(1, 2 * leverage)
        deduction += lower * (rate - before)
        rows.append((lower, rate, deduction))
        before = rate
    return rows


def requirement(coin, notional):
    return max(rate * notional - deduction for _, rate, deduction in tiers(coin))


def liquidation_price(coin, size, equity, maintenance):
    """By the page on liquidations, with the tier that holds at the liquidation price."""
    mark, side = Fraction(MARKS[coin]), 1 if size > 0 else -1
    other = maintenance - requirement(coin, abs(size) * mark)
    for lower, rate, deduction in reversed(tiers(coin)):
        available = equity - other - (rate * abs(size) * mark - deduction)
        price = mark - side * available / abs(size) / (1 - rate * side)
        if abs(size) * price > lower:
            return price if price > 0 else None
    return None


def position(coin, size, leverage, price):
    worth = abs(Fraction(size)) * Fraction(MARKS[coin])
    mode = {"type": "cross", "value": 3} if leverage is None else {"type": "isolated", "value": 3, "rawUsd": leverage}
    margin = worth / 3 if leverage is None else Fraction(leverage) + Fraction(size) * Fraction(MARKS[coin])
    return {
        "type": "oneWay",
        "position": {
            "coin": coin,
            "szi": size,
            "leverage": mode,
            "entryPx": str(float(Fraction(MARKS[coin]) / 2)),
            "positionValue": str(float(worth)),
            "unrealizedPnl": "0.0",
            "returnOnEquity": "0.0",
            "liquidationPx": None if price is None else repr(float(price)),
            "marginUsed": str(float(margin)),
            "maxLeverage": MARKETS[coin][1],
            "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
        },
    }


def reply(cross, raw, isolated=()):
    """Reply of an account with these cross (coin, size) and isolated (coin, size, rawUsd) positions."""
    sizes = {coin: Fraction(size) for coin, size in cross}
    worth = {coin: abs(size) * Fraction(MARKS[coin]) for coin, size in sizes.items()}
    equity = Fraction(raw) + sum(size * Fraction(MARKS[coin]) for coin, size in sizes.items())
    maintenance = sum(requirement(coin, notional) for coin, notional in worth.items())
    rows = [
        position(coin, size, None, liquidation_price(coin, sizes[coin], equity, maintenance)) for coin, size in cross
    ]
    for coin, size, own in isolated:
        q, mark = Fraction(size), Fraction(MARKS[coin])
        price = liquidation_price(coin, q, Fraction(own) + q * mark, requirement(coin, abs(q) * mark))
        rows.append(position(coin, size, own, price))
    summary = {
        "accountValue": repr(float(equity)),
        "totalNtlPos": repr(float(sum(worth.values()))),
        "totalRawUsd": raw,
        "totalMarginUsed": "0.0",
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        "crossMaintenanceMarginUsed": repr(float(maintenance)),
        "withdrawable": "0.0",
        "assetPositions": rows,
        "time": 1760130000000,
    }


ACCOUNTS = {
    "long": ([("BTC", "0.5")], "-44000.25"),
    "short": ([("ETH", "-12.3456")], "45000"),
    "short, past two tiers": ([("DOGE", "-600000")], "180000.123456"),
    "short, liquidated a tier higher": ([("DOGE", "-400000")], "125000"),
    "long, liquidated a tier lower": ([("DOGE", "480000")], "-70000.5"),
    "several": ([("BTC", "0.12345"), ("ETH", "-3.5"), ("DOGE", "90000"), ("kPEPE", "-4000000")], "37000.000001"),
    "beyond the big tier": ([("BTC", "2000")], "-185000000"),
    "isolated": ([], "75.781884", [("HYPE", "2.0", "-68.126246"), ("kPEPE", "-1000", "12.5")]),
    "both": ([("ETH", "0.3839")], "-940.1", [("DOGE", "150000", "-26000.25"), ("BTC", "-0.00785", "900.125")]),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_an_account_has_the_figures_that_the_documents_give(case):
    snapshot = hyperliquid.load_account(hyperliquid.load_venue(meta()), reply(*ACCOUNTS[case]))
    compared = snapshot.compare().set_index(["account", "market", "figure"])
    same = (compared["riskcore"] - compared["value"]).abs() <= 1e-8 * compared["value"].abs()
    assert same.all(), compared[~same].to_string()
    assert "net_equity" in compared.index.get_level_values("figure")
    held = [row["position"] for row in reply(*ACCOUNTS[case])["assetPositions"]]
    prices = liquidation_prices(snapshot.accounts, snapshot.venue, snapshot.marks).to_frame()
    without = {row["coin"] for row in held if row["liquidationPx"] is None}
    assert set(prices.loc[prices["liquidation_price"].isna(), "market"]) == without


def test_isolated_positions_stand_alone():
    snapshot = hyperliquid.load_account(hyperliquid.load_venue(meta()), reply(*ACCOUNTS["both"]), account="me")
    assert snapshot.accounts.ids.tolist() == ["me", "me:BTC", "me:DOGE"]
    equity = sweep(snapshot.accounts, snapshot.venue, snapshot.marks).to_frame().set_index("account")["net_equity"]
    assert equity["me:BTC"] == pytest.approx(float(Fraction("900.125") - Fraction("0.00785") * Fraction("97000.5")))
    columns, quantum = snapshot.accounts.columns, float(snapshot.venue.settle_quantum)
    assert (columns.free >= 0).all()  # the profit of the long positions was drawn out
    halves = [0.3839 * 3104.25 / 2, -0.00785 * 97000.5 / 2, 150_000 * 0.21345 / 2]
    assert columns.entry * quantum == pytest.approx(halves)


def test_rules_of_the_markets():
    venue = hyperliquid.load_venue([meta(), contexts()])
    rows = {row["symbol"]: row for row in venue.source["markets"]}
    assert (rows["BTC"]["filters"]["price"]["tickSize"], rows["BTC"]["filters"]["quantity"]["stepSize"]) == (
        "1e-1",
        "1e-5",
    )
    for coin in MARKETS:
        brackets = rows[coin]["mmfFunction"]["brackets"]
        assert [float(b["rate"]) for b in brackets] == [float(rate) for _, rate, _ in tiers(coin)]
        assert [Fraction(b["from"]) for b in brackets] == [lower for lower, _, _ in tiers(coin)]
        initial = rows[coin]["imfFunction"]
        assert initial["whole"]
        assert float(initial["brackets"][-1]["rate"]) == float(2 * tiers(coin)[-1][1])
    # the deduction leaves no step: 20,000 at 2.5 %, 80,000 at 5 %, the rest at a sixth
    state = reply([("DOGE", "600000")], "-100000")
    table = hyperliquid.load_account(venue, state).compare().set_index("figure")["riskcore"]
    notional = 600_000 * Fraction("0.21345")
    assert table["maintenance_margin"] == pytest.approx(float(500 + 4000 + (notional - 100_000) / 6), rel=1e-12)


def test_marks_and_files(tmp_path):
    both = tmp_path / "meta.json"
    both.write_text(json.dumps([meta(), contexts()]))
    assert hyperliquid.marks(both) == {name: float(mark) for name, mark in MARKS.items()}
    state = tmp_path / "state.json"
    state.write_text(json.dumps(reply(*ACCOUNTS["several"])))
    assert len(hyperliquid.load_account(hyperliquid.load_venue(both), state).marks) == 4
    with pytest.raises(RiskDataError, match=r"\$\[1\].*context for each market"):
        hyperliquid.marks([meta(), contexts()[1:]])


def test_a_venue_of_nothing_but_the_account():
    state = reply(*ACCOUNTS["isolated"])
    venue = hyperliquid.venue_of_state(state)
    assert venue.markets.symbol == ("HYPE", "kPEPE")
    compared = hyperliquid.load_account(venue, state).compare()
    assert (compared["riskcore"] - compared["value"]).abs().le(1e-8 * compared["value"].abs()).all()
    del state["assetPositions"][1]["position"]["maxLeverage"]
    with pytest.raises(RiskDataError, match=r"\$\.assetPositions\[1\]\.position\.maxLeverage"):
        hyperliquid.venue_of_state(state)


def test_a_reply_of_2023_has_no_maintenance_margin_and_another_liquidation_price():
    state = reply(*ACCOUNTS["several"])
    del state["crossMaintenanceMarginUsed"], state["marginSummary"], state["time"]
    for row in state["assetPositions"]:
        del row["position"]["maxLeverage"], row["position"]["cumFunding"]
    compared = hyperliquid.load_account(hyperliquid.load_venue(meta()), state).compare()
    assert compared["figure"].tolist() == ["net_equity", "exposure"]
    assert compared["relative_difference"].max() <= 1e-8


def test_flat_positions_are_left_out():
    state = reply(*ACCOUNTS["long"])
    state["assetPositions"].append(position("ETH", "0.0", None, None))
    assert list(hyperliquid.load_account(hyperliquid.load_venue(meta()), state).marks) == ["BTC"]


def test_a_large_position_in_a_cheap_coin_fits():
    state = reply([("kPEPE", "9000000000")], "-10000000")
    compared = hyperliquid.load_account(hyperliquid.load_venue(meta()), state).compare()
    assert compared["relative_difference"].max() <= 1e-8


def test_orders():
    order = {"coin": "ETH", "side": "B", "limitPx": "3000.25", "sz": "1.5", "oid": 1, "timestamp": 1, "origSz": "2.0"}
    orders = [
        order,
        order | {"coin": "DOGE", "side": "A", "limitPx": "0.3", "sz": "10", "reduceOnly": True},
        order | {"coin": "DOGE", "side": "B", "limitPx": "0.1", "sz": "7", "reduceOnly": False},
        order | {"isTrigger": True, "limitPx": "0.0"},
        order | {"coin": "HYPE", "sz": "0.0"},
        order | {"coin": "@107"},  # spot
        order | {"coin": "PURR/USDC"},
    ]
    venue, state = hyperliquid.load_venue(meta()), reply([("BTC", "0.5")], "-44000", [("DOGE", "150000", "-26000")])
    snapshot = hyperliquid.load_account(venue, state, orders=orders, mark_prices=MARKS)
    book = snapshot.accounts.orders
    assert snapshot.accounts.ids[book.account].tolist() == ["account", "account:DOGE", "account:DOGE"]
    assert (book.side.tolist(), book.lots.tolist()) == ([1, 1, -1], [15_000, 7, 10])
    assert book.reduce_only.tolist() == [False, False, True]
    initial = sweep(snapshot.accounts, snapshot.venue, snapshot.marks).to_frame().set_index("account")["initial_margin"]
    eth = Fraction("1.5") * Fraction(MARKS["ETH"]) / 25
    assert initial["account"] == pytest.approx(float(Fraction("48500.25") / 40 + eth))
    with pytest.raises(RiskDataError, match=r"openOrders\.\$\[0\]\.coin.*NOPE"):
        hyperliquid.load_account(venue, state, orders=[order | {"coin": "NOPE"}])


def test_preset():
    content = hyperliquid.preset()
    assert {"source", "date"} <= set(content)
    venue = hyperliquid.load_venue(content)
    assert venue.markets.symbol == ("BTC", "ETH", "SOL")
    rates = [[b.rate for b in function.brackets] for function in venue.curves.functions[1:6:2]]
    assert [[float(r) for r in row] for row in rates] == [[1 / 80, 1 / 40], [1 / 50, 1 / 30], [1 / 40, 1 / 20]]


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


POSITION = ["assetPositions", 1, "position"]


@pytest.mark.parametrize(
    ("keys", "value", "path"),
    [
        (["crossMarginSummary"], None, "crossMarginSummary"),
        (["crossMarginSummary", "totalRawUsd"], None, r"`totalRawUsd` - at `\$\.crossMarginSummary`"),
        (["crossMarginSummary", "accountValue"], "a lot", r"\$\.crossMarginSummary\.accountValue"),
        (["crossMarginSummary", "accountValue"], "NaN", r"`accountValue` must be.* - at `\$\.crossMarginSummary`"),
        (["assetPositions"], None, "assetPositions"),
        (["assetPositions"], {}, r"\$\.assetPositions"),
        ([*POSITION, "szi"], None, r"`szi` - at `\$\.assetPositions\[1\]\.position`"),
        ([*POSITION, "szi"], "Infinity", r"`szi` must be.* - at `\$\.assetPositions\[1\]\.position`"),
        ([*POSITION, "szi"], [], r"\$\.assetPositions\[1\]\.position\.szi"),
        ([*POSITION, "positionValue"], "0.0", r"\$\.assetPositions\[1\]\.position\.positionValue"),
        ([*POSITION, "maxLeverage"], 0, r"\$\.assetPositions\[1\]\.position\.maxLeverage"),
        ([*POSITION, "leverage", "type"], "shared", r"\$\.assetPositions\[1\]\.position\.leverage\.type"),
        ([*POSITION, "leverage"], {"type": "isolated"}, r"`rawUsd` - at `\$\.assetPositions\[1\]\.position\.leverage`"),
        ([*POSITION, "coin"], "NOPE", r"\$\.assetPositions\[1\]\.position\.coin.*NOPE"),
        ([*POSITION, "coin"], "BTC", r"\$\.assetPositions\[1\]\.position\.coin.*twice"),
    ],
)
def test_a_wrong_account_is_named_by_its_path(keys, value, path):
    state = changed(reply(*ACCOUNTS["several"]), keys, value)
    with pytest.raises(RiskDataError, match=path):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), state)


@pytest.mark.parametrize(
    ("keys", "value", "path"),
    [
        (["universe"], None, "universe"),
        (["universe", 2, "name"], None, r"`name` - at `\$\.universe\[2\]`"),
        (["universe", 2, "szDecimals"], "5", r"\$\.universe\[2\]\.szDecimals"),
        (["universe", 2, "maxLeverage"], 0, r"\$\.universe\[2\]\.maxLeverage"),
        (["marginTables", 1], [56], r"\$\.marginTables\[1\]"),
        (["marginTables", 1, 1, "marginTiers"], None, r"`marginTiers` - at `\$\.marginTables\[1\]\[1\]`"),
        (["marginTables", 1, 1, "marginTiers", 0, "lowerBound"], {}, r"marginTiers\[0\]\.lowerBound"),
    ],
)
def test_a_wrong_meta_is_named_by_its_path(keys, value, path):
    with pytest.raises(RiskDataError, match=path):
        hyperliquid.load_venue(changed(meta(), keys, value))
