"""Hyperliquid's saved replies: rules by its documents, made-up accounts worked out here in fractions."""

import copy
import json
from fractions import Fraction

import pytest

from riskcore import RiskDataError, liquidation_prices, sweep
from riskcore.io.venues import hyperliquid

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
    used = [Fraction(row["position"]["marginUsed"]) for row in rows]
    alone = sum(used[len(cross) :])
    value = {coin: abs(Fraction(size)) * Fraction(MARKS[coin]) for coin, size, _ in isolated}

    def summary(equity, notional, raw, used):
        figures = {"accountValue": equity, "totalNtlPos": notional, "totalRawUsd": raw, "totalMarginUsed": used}
        return {name: repr(float(figure)) for name, figure in figures.items()}

    owed = sum(Fraction(own) for _, _, own in isolated)
    return {
        "marginSummary": summary(
            equity + alone, sum(worth.values()) + sum(value.values()), Fraction(raw) + owed, sum(used)
        ),
        "crossMarginSummary": summary(equity, sum(worth.values()), Fraction(raw), sum(used) - alone),
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
    assert {"net_equity", "initial_margin", "maintenance_margin"} <= set(compared.index.get_level_values("figure"))
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
    assert compared["figure"].tolist() == ["net_equity", "exposure", "initial_margin"]
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
    assert initial["account"] == pytest.approx(float(Fraction("48500.25") / 3 + eth))
    figures = snapshot.compare()
    assert not {"initial_margin", "exposure"} & set(figures["figure"])  # of positions alone in the reply
    assert (figures["relative_difference"] <= 1e-8).all()
    with pytest.raises(RiskDataError, match=r"openOrders\.\$\[0\]\.coin.*NOPE"):
        hyperliquid.load_account(venue, state, orders=[order | {"coin": "NOPE"}])


def test_preset():
    content = hyperliquid.preset()
    assert {"source", "date"} <= set(content)
    venue = hyperliquid.load_venue(content)
    assert venue.markets.symbol == ("BTC", "ETH", "SOL")
    rates = [[b.rate for b in function.brackets] for function in venue.margin_functions.functions[1:6:2]]
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


def unified(state, total="9000.0", **sent):
    """Spot reply of a unified account with these replies of its dexes."""
    states = state if isinstance(state, list) else [state]
    used = sum(Fraction(one["crossMaintenanceMarginUsed"]) for one in states)
    alone = [row["position"] for one in states for row in one["assetPositions"]]
    used += sum(Fraction(p["marginUsed"]) for p in alone if p["leverage"]["type"] == "isolated")
    row = {"coin": "USDC", "token": 0, "total": total, "hold": "500.5", "entryNtl": "0.0"}
    other = {"coin": "HYPE", "token": 150, "total": "7.5", "hold": "0.0", "entryNtl": "250.0"}
    available = [[0, repr(float(Fraction(total) - used))]]
    return {"balances": [other, row], "tokenToAvailableAfterMaintenance": available} | sent


def unified_state(total="9000.0"):
    """State of a unified account: its liquidation prices are those of the balance in the spot reply."""
    state = reply([("ETH", "4"), ("DOGE", "-20000")], "-8000", [("HYPE", "20", "-500.25")])
    margin = Fraction(20) * Fraction(MARKS["HYPE"]) - Fraction("500.25")
    maintenance = Fraction(state["crossMaintenanceMarginUsed"])
    for row, size in zip(state["assetPositions"], (4, -20000), strict=False):
        price = liquidation_price(row["position"]["coin"], Fraction(size), Fraction(total) - margin, maintenance)
        row["position"]["liquidationPx"] = repr(float(price))
    return state


def test_a_unified_account_has_the_balance_of_its_spot_reply():
    state = unified_state()
    snapshot = hyperliquid.load_account(hyperliquid.load_venue(meta()), state, spot=unified(state))
    compared = snapshot.compare()
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()
    table = compared.set_index(["account", "figure"])["riskcore"]
    margin = 20 * float(MARKS["HYPE"]) - 500.25
    assert table["account", "net_equity"] == pytest.approx(9000 - margin)
    assert compared.loc[[account is None for account in compared["account"]], "riskcore"].tolist()[0] == pytest.approx(
        9000
    )
    assert (compared["figure"] == "liquidation_price").sum() == 3


@pytest.mark.parametrize("spot", [None, {"balances": [], "tokenToAvailableAfterMaintenance": None}])
def test_a_unified_account_without_its_balance_gets_no_liquidation_price(spot):
    with pytest.raises(RiskDataError, match=r"liquidationPx, value '\d.*: is that of an account with 87.* of equity"):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), unified_state(), spot=spot)
    state = reply([("BTC", "0.5")], "-44000.25")
    state["assetPositions"][0]["position"]["liquidationPx"] = None  # the venue sees none above 0
    with pytest.raises(RiskDataError, match=r"liquidationPx, value 'None'.*spotClearinghouseState \(spot=\)"):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), state, spot=spot)


def test_spot_balances_of_an_account_that_is_not_unified_are_apart():
    venue, state = hyperliquid.load_venue(meta()), reply(*ACCOUNTS["both"])
    spot = {"balances": [{"coin": "USDC", "token": 0, "total": "77.5", "hold": "0.0", "entryNtl": "0.0"}]}
    with_spot = hyperliquid.load_account(venue, state, spot=spot).compare()
    assert with_spot.equals(hyperliquid.load_account(venue, state).compare())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"portfolioMarginEnabled": True}, r"portfolioMarginEnabled: must not be true"),
        ({"balances": []}, r"balances, value 'USDC': must hold the settle asset"),
        (
            {"tokenToAvailableAfterMaintenance": [[0, "3000"]]},
            r"AfterMaintenance, value '3000': must be 8.*a dex is missing",
        ),
        ({"tokenToAvailableAfterMaintenance": [[0, "1e999999"]]}, r"must be 0 or a number"),
        (
            {"\ud800": 1},
            r"must have text keys without a lone surrogate",
        ),
        ({"balances": [{"coin": "USDC", "token": 0}]}, r"`total` - at `\$\.balances\[0\]`"),
    ],
)
def test_a_spot_reply_that_does_not_fit_is_refused(change, message):
    state = unified_state()
    with pytest.raises(RiskDataError, match=message):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), state, spot=unified(state) | change)


def test_leverage_chosen_below_the_maximum_is_in_the_initial_margin():
    state = reply([("ETH", "4"), ("DOGE", "90000")], "-20000")
    wanted = (4 * Fraction(MARKS["ETH"]) + 90000 * Fraction(MARKS["DOGE"])) / 3
    compared = hyperliquid.load_account(hyperliquid.load_venue(meta()), state).compare().set_index("figure")
    assert compared.at["initial_margin", "riskcore"] == pytest.approx(float(wanted))
    assert Fraction(state["crossMarginSummary"]["totalMarginUsed"]) == pytest.approx(wanted)


def of_dex(content, dex="xyz"):
    """The same reply of another dex: its coins have the dex in their names."""
    content = copy.deepcopy(content)
    for row in content.get("universe", []):
        row["name"] = f"{dex}:{row['name']}"
    for row in content.get("assetPositions", []):
        row["position"]["coin"] = f"{dex}:{row['position']['coin']}"
    return content


@pytest.mark.parametrize("shape", ["list", "pairs", "mapping", "wrapped"])
def test_several_dexes(shape, tmp_path):
    states = [reply(*ACCOUNTS["short"]), of_dex(reply(*ACCOUNTS["both"]))]
    pairs = [["", states[0]], ["xyz", states[1]]]
    sent = {"list": states, "pairs": pairs, "mapping": dict(pairs), "wrapped": {"clearinghouseStates": pairs}}[shape]
    other = of_dex(meta(), "abc") | {"collateralToken": 360}
    venue = hyperliquid.load_venue([meta(), of_dex(meta()), other])
    assert venue.markets.symbol == (*MARKETS, *(f"xyz:{coin}" for coin in MARKETS))
    order = {"coin": "xyz:HYPE", "side": "B", "limitPx": "30.0", "sz": "1.0"}
    saved = tmp_path / "state.json"
    saved.write_text(json.dumps(sent))
    marks = {f"xyz:{name}": mark for name, mark in MARKS.items()}
    snapshot = hyperliquid.load_account(venue, saved, account="me", orders=[order], mark_prices=marks)
    assert snapshot.accounts.ids.tolist() == ["me", "me:xyz", "me:xyz:BTC", "me:xyz:DOGE"]
    assert snapshot.accounts.ids[snapshot.accounts.orders.account].tolist() == ["me:xyz"]
    compared = hyperliquid.load_account(venue, sent).compare()
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()
    assert hyperliquid.venue_of_state(sent).markets.symbol == ("ETH", "xyz:ETH", "xyz:DOGE", "xyz:BTC")


def test_prices_of_several_dexes():
    both = {"": [meta(), contexts()], "xyz": [of_dex(meta()), contexts()]}
    assert len(hyperliquid.marks(both)) == 2 * len(MARKETS)
    with pytest.raises(RiskDataError, match=r"meta\['xyz'\]\.\$\[1\].*context for each market"):
        hyperliquid.marks(both | {"xyz": [of_dex(meta()), contexts()[1:]]})


def test_a_unified_account_over_several_dexes_is_one_account():
    total = Fraction(9000)
    states = [reply([("ETH", "4")], "-8000"), of_dex(reply([("DOGE", "-20000")], "5000"))]
    maintenance = sum(Fraction(one["crossMaintenanceMarginUsed"]) for one in states)
    for one, coin, size in ((states[0], "ETH", 4), (states[1], "DOGE", -20000)):
        price = liquidation_price(coin, Fraction(size), total, maintenance)
        one["assetPositions"][0]["position"]["liquidationPx"] = repr(float(price))
    venue = hyperliquid.load_venue([meta(), of_dex(meta())])
    snapshot = hyperliquid.load_account(venue, states, spot=unified(states))
    assert snapshot.accounts.ids.tolist() == ["account"]
    compared = snapshot.compare()
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()
    with pytest.raises(RiskDataError, match="a dex is missing"):
        hyperliquid.load_account(venue, states[:1], spot=unified(states))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([], "must hold at least one reply"),
        (
            [reply(*ACCOUNTS["long"]), reply(*ACCOUNTS["short"])],
            r"clearinghouseState\[1\]: must not be of the same dex",
        ),
        ({"xyz": reply(*ACCOUNTS["long"]), "": of_dex(reply(*ACCOUNTS["long"]))}, None),
        ({"abc": of_dex(reply(*ACCOUNTS["long"]))}, r"clearinghouseState\['abc'\].*coin.*must be of one dex, 'abc'"),
        ([{"time": 1}], r"clearinghouseState\[0\]: .*assetPositions"),
        (["x"], r"clearinghouseState\[0\]"),
    ],
)
def test_states_of_dexes_that_are_not_known_are_refused(states, message):
    venue = hyperliquid.load_venue([meta(), of_dex(meta())])
    if message is None:  # the coins say the dex
        assert len(hyperliquid.load_account(venue, states).accounts.ids) == 2
        return
    with pytest.raises(RiskDataError, match=message):
        hyperliquid.load_account(venue, states)


SUMS = [
    (["crossMarginSummary", "accountValue"], r"crossMarginSummary\.accountValue, value '1\.0': must be "),
    (["crossMarginSummary", "totalNtlPos"], r"crossMarginSummary\.totalNtlPos, value .*positions are missing"),
    (["crossMarginSummary", "totalRawUsd"], r"crossMarginSummary\.accountValue"),
    (["crossMarginSummary", "totalMarginUsed"], r"crossMarginSummary\.totalMarginUsed"),
    (["marginSummary", "accountValue"], r"\.marginSummary\.accountValue, value '1\.0': must be .*isolated"),
    (["marginSummary", "totalNtlPos"], r"\.marginSummary\.totalNtlPos"),
    (["marginSummary", "totalRawUsd"], r"\.marginSummary\.totalRawUsd"),
    (["marginSummary", "totalMarginUsed"], r"\.marginSummary\.totalMarginUsed"),
    (["crossMaintenanceMarginUsed"], r"crossMaintenanceMarginUsed, value '1\.0': must be .*margin tables"),
    (["assetPositions", 1, "position", "marginUsed"], r"assetPositions\[1\]\.position\.marginUsed.*rawUsd"),
]


@pytest.mark.parametrize(("keys", "message"), SUMS)
def test_totals_that_the_rows_do_not_make_are_refused(keys, message):
    with pytest.raises(RiskDataError, match=message):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), changed(reply(*ACCOUNTS["both"]), keys, "1.0"))


@pytest.mark.parametrize("at", [0, 1])
def test_totals_with_positions_that_are_not_in_the_reply_are_refused(at):
    state = changed(reply(*ACCOUNTS["both"]), ["assetPositions", at], None)
    with pytest.raises(RiskDataError, match=r"totalNtlPos.*positions are missing"):
        hyperliquid.load_account(hyperliquid.load_venue(meta()), state)


def user_fills(path, *, first=Fraction(0), entry=Fraction(0), same_time=()):
    """Reply of ``userFills``, the last first, of (signed quantity, price) in turn; closedPnl against the average."""
    position, cost, rows = first, first * entry, []
    for n, (quantity, price) in enumerate(path):
        quantity, price = Fraction(quantity), Fraction(price)
        closed = min(abs(position), abs(quantity)) if position * quantity < 0 else Fraction(0)
        pnl = closed * (price - cost / position) * (1 if position > 0 else -1) if closed else Fraction(0)
        rows.append(
            {
                "coin": "BTC", "px": str(float(price)), "sz": str(float(abs(quantity))), "time": 1_760_000_000_000 + n,
                "side": "B" if quantity > 0 else "A", "startPosition": str(float(position)), "dir": "",
                "closedPnl": str(round(float(pnl), 6)), "fee": "0.25", "feeToken": "USDC", "hash": "0x0", "oid": n,
                "tid": n, "crossed": True,
            }
        )  # fmt: skip
        if n in same_time:
            rows[-1]["time"] = rows[-2]["time"]
        cost = cost * (1 - closed / abs(position)) if closed else cost
        rest = quantity if not closed else quantity + closed * (1 if position > 0 else -1)
        position, cost = position + quantity, cost + rest * price
    return rows[::-1]


PATH = [
    ("0.5", "100000"),
    ("0.25", "101000.5"),
    ("-0.3", "102000"),
    ("-1", "99000"),
    ("0.2", "98000.5"),
    ("0.35", "97000"),
]


@pytest.mark.parametrize(("first", "entry"), [("0", "0"), ("0.4", "90000"), ("-2", "110000.5")])
def test_fills_have_the_profit_that_the_venue_reports(first, entry):
    """Opened, added to, reduced, reversed and closed, from nothing and from a position of before."""
    first, entry = Fraction(first), Fraction(entry)
    fills = hyperliquid.load_fills(
        hyperliquid.load_venue(meta()), user_fills(PATH, first=first, entry=entry), account="ann"
    )
    if first:
        assert fills.positions["quantity"].tolist() == [float(first)]
        assert fills.positions["entry_price"][0] == pytest.approx(float(entry), abs=1e-4)
    position, cost = first, first * entry
    for row, reported in zip(fills.activity.itertuples(), fills.reported.itertuples(), strict=True):
        assert float(position) == reported.start_position
        quantity, price = Fraction(str(row.quantity)), Fraction(str(row.price))
        closed = min(abs(position), abs(quantity)) if position * quantity < 0 else Fraction(0)
        sign = 1 if position > 0 else -1
        pnl = closed * sign * (price - cost / position) if closed else 0
        assert float(pnl) == pytest.approx(reported.closed_pnl, abs=1e-5)
        cost = (cost - closed * sign * cost / position if closed else cost) + (quantity + closed * sign) * price
        position += quantity


def test_fills_of_one_time_follow_from_position_to_position():
    """However the reply lists them: also where a position comes back to where it was."""
    path = [("1", "100000"), ("-1", "100500"), ("2", "100100"), ("-1.5", "100200"), ("1", "100300")]
    reply = user_fills(path, same_time=(1, 2, 3))
    expected = hyperliquid.load_fills(hyperliquid.load_venue(meta()), reply).activity
    assert expected["quantity"].tolist() == [1.0, -1.0, 2.0, -1.5, 1.0]
    shuffled = [reply[0], *reply[:0:-1]]
    found = hyperliquid.load_fills(hyperliquid.load_venue(meta()), shuffled)
    steps = found.reported["start_position"].diff()[1:].tolist()
    assert steps == found.activity["quantity"][:-1].tolist()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"coin": "XYZ"}, "coin"),
        ({"feeToken": "HYPE"}, "feeToken"),
        ({"startPosition": "7"}, "startPosition"),
        ({"px": None}, "px"),
        ({"side": "S"}, "side"),
    ],
)
def test_wrong_fills_are_refused_with_their_path(change, field):
    """One line that says where."""
    reply = user_fills(PATH)
    with pytest.raises(RiskDataError, match=rf"userFills.*\$\[0\]\.{field}"):
        hyperliquid.load_fills(hyperliquid.load_venue(meta()), [reply[0] | change, *reply[1:]])


def test_fills_of_spot_markets_are_left_out():
    """Their fees may be paid in another asset."""
    reply = [user_fills(PATH)[0] | {"coin": "@107", "feeToken": "UBTC"}, *user_fills(PATH)]
    assert len(hyperliquid.load_fills(hyperliquid.load_venue(meta()), reply).activity) == len(PATH)
