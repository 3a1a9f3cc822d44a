from __future__ import annotations

import json
from collections import defaultdict
from copy import deepcopy
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from riskcore import Accounts, sweep
from riskcore.boundary import RiskDataError
from riskcore.io.venues import binance

D = Decimal


def info_of(
    *symbols: tuple[str, str, str], step: str = "0.001", tick: str = "0.10", highest: str = "4529764"
) -> dict[str, Any]:
    """GET /fapi/v1/exchangeInfo with perpetuals (symbol, base, margin asset) and a dated future."""
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": highest, "tickSize": tick},
        {"filterType": "LOT_SIZE", "stepSize": step, "maxQty": "1000", "minQty": step},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": step, "maxQty": "120", "minQty": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
    ]
    rows = [
        {"symbol": s, "pair": s, "contractType": "PERPETUAL", "status": "TRADING", "baseAsset": b, "quoteAsset": m}
        | {"marginAsset": m, "pricePrecision": 2, "filters": filters, "maintMarginPercent": "2.5000"}
        for s, b, m in symbols
    ]
    dated = rows[0] | {"symbol": rows[0]["symbol"] + "_261225", "contractType": "CURRENT_QUARTER"}
    return {"timezone": "UTC", "serverTime": 1, "assets": [], "symbols": [*rows, dated]}


def api(symbol: str, *rows: tuple[Any, ...]) -> dict[str, Any]:
    """One symbol of GET /fapi/v1/leverageBracket: (floor, cap, ratio, leverage, cum)."""
    names = ("notionalFloor", "notionalCap", "maintMarginRatio", "initialLeverage", "cum")
    return {
        "symbol": symbol,
        "notionalCoef": 1.5,
        "brackets": [{"bracket": at} | dict(zip(names, row, strict=True)) for at, row in enumerate(rows, 1)],
    }


BTC = api("BTCUSDT", (0, 50000, 0.004, 125, 0.0), (50000, 600000, 0.005, 100, 50.0), (600000, 3e6, 0.01, 75, 3050.0))
ETH = api("ETHUSDT", (0, 10000, 0.0065, 75, 0), (10000, 100000, 0.01, 50, 35), (100000, 500000, 0.02, 3, 1035))
SOL = api("SOLUSDT", (0, 10000, 0.01, 75, 0), (10000, 100000, 0.015, 50, 50), (100000, 500000, 0.02, 40, 550))
INFO = info_of(
    ("BTCUSDT", "BTC", "USDT"), ("ETHUSDT", "ETH", "USDT"), ("SOLUSDT", "SOL", "USDT"), ("BTCUSDC", "BTC", "USDC")
)


def ccxt(row: dict[str, Any], unified: str) -> dict[str, Any]:
    """What ccxt makes of an entry of the API: numbers are float, ``info`` is text."""
    return {
        unified: [
            {
                "tier": float(b["bracket"]),
                "symbol": unified,
                "currency": "USDT",
                "minNotional": float(b["notionalFloor"]),
                "maxNotional": float(b["notionalCap"]),
                "maintenanceMarginRate": float(b["maintMarginRatio"]),
                "maxLeverage": float(b["initialLeverage"]),
                "info": {key: str(value) for key, value in b.items()},
            }
            for b in row["brackets"]
        ]
    }


def test_brackets_of_all_shapes_give_the_same_functions():
    listed = binance.leverage_brackets([BTC, ETH])
    assert binance.leverage_brackets(BTC) == {"BTCUSDT": listed["BTCUSDT"]}
    of_ccxt = binance.leverage_brackets(ccxt(BTC, "BTC/USDT:USDT") | ccxt(ETH, "ETH/USDT:USDT"))
    assert of_ccxt == {"BTC/USDT:USDT": listed["BTCUSDT"], "ETH/USDT:USDT": listed["ETHUSDT"]}
    text = json.loads(json.dumps([BTC, ETH]), parse_float=str, parse_int=str)
    assert binance.leverage_brackets(text) == listed
    assert listed["ETHUSDT"] == {
        "imfFunction": {
            "type": "tiers",
            "brackets": [
                {"from": "0", "rate": "0.01333333333333333333333333333"},
                {"from": "10000", "rate": "0.02"},
                {"from": "100000", "rate": "0.3333333333333333333333333333"},
            ],
            "whole": True,
        },
        "mmfFunction": {
            "type": "tiers",
            "brackets": [
                {"from": "0", "rate": "0.0065"},
                {"from": "10000", "rate": "0.01"},
                {"from": "100000", "rate": "0.02"},
            ],
        },
    }


def test_brackets_in_any_order_and_with_a_ratio_that_stays():
    rows = (0, 10, 0.01, 50, 0), (10, 20, 0.01, 25, 0), (20, 30, 0.02, 25, 0.2)
    functions = binance.leverage_brackets(api("X", *reversed(rows)))["X"]
    assert [b["from"] for b in functions["mmfFunction"]["brackets"]] == ["0", "20"]
    assert [b["from"] for b in functions["imfFunction"]["brackets"]] == ["0", "10"]


def test_brackets_without_cum():
    bare = deepcopy(ETH)
    for bracket in bare["brackets"]:
        del bracket["cum"]
    assert binance.leverage_brackets([bare]) == binance.leverage_brackets([ETH])


WRONG_BRACKETS = [
    (0, {"notionalFloor": 5}, r"\$\[1\]\.brackets\[0\]\.notionalFloor, value '5': must be .* 0"),
    (1, {"notionalFloor": 10001}, r"\$\[1\]\.brackets\[1\]\.notionalFloor, value '10001': must be where .* 10000"),
    (1, {"maintMarginRatio": 0.001}, r"\$\[1\]\.brackets\[1\]\.maintMarginRatio.* at least 0\.0065"),
    (1, {"initialLeverage": 80}, r"\$\[1\]\.brackets\[1\]\.initialLeverage.* at most 75"),
    (1, {"initialLeverage": 0}, r"\$\[1\]\.brackets\[1\]\.initialLeverage.* at least 1"),
    (2, {"cum": 1036}, r"\$\[1\]\.brackets\[2\]\.cum, value '1036': must be 1035"),
    (2, {"cum": "much"}, r"\$\[1\]\.brackets\[2\]\.cum"),
    (2, {"maintMarginRatio": None}, r"\$\[1\]\.brackets\[2\]\.maintMarginRatio"),
    (2, {"maintMarginRatio": "Infinity"}, r"`maintMarginRatio` must be 0 or a number"),
]


@pytest.mark.parametrize(("at", "change", "message"), WRONG_BRACKETS)
def test_wrong_bracket_is_named_by_its_path(at, change, message):
    wrong = deepcopy(ETH)
    wrong["brackets"][at] |= change
    with pytest.raises(RiskDataError, match=message):
        binance.leverage_brackets([BTC, wrong])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([BTC, BTC], r"\$\[1\]\.symbol, value 'BTCUSDT': must not appear twice"),
        ([{"symbol": "X"}], r"`brackets` - at `\$\[0\]`"),
        (api("X"), r"\$\.brackets.* at least one bracket"),
        ({"A/B:B": [{"minNotional": 0.0}]}, r"\$\.A/B:B: .*`maxNotional` - at `\$\[0\]`"),
        ({"A/B:B": ccxt(api("X", (0, 9, 0.1, 5, 0), (10, 20, 0.2, 4, 1)), "X")["X"]}, r"\['A/B:B'\]\[1\]\.minNotional"),
        ({"A/B:B": ccxt(api("X", (0, 9, 0.1, 5, 0), (9, 20, 0.2, 4, 1)), "X")["X"]}, r"\['A/B:B'\]\[1\]\.info\.cum"),
        ("nowhere.json", "cannot be read"),
    ],
)
def test_wrong_brackets_are_named_by_their_path(source, message):
    with pytest.raises(RiskDataError, match=message) as raised:
        binance.leverage_brackets(source)
    assert raised.value.table == "leverage_brackets"


@pytest.fixture(scope="module")
def published(shared) -> pd.DataFrame:
    """10,081 leverage brackets, of two dates."""
    return pd.read_parquet(shared / "data/params/binance_leverage_tiers.parquet")


def _as_ccxt(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in table.itertuples():
        found[row.symbol].append(
            {
                "tier": float(row.tier),
                "symbol": row.symbol,
                "currency": row.currency,
                "minNotional": row.min_notional,
                "maxNotional": row.max_notional,
                "maintenanceMarginRate": row.mmr,
                "maxLeverage": row.max_leverage,
                "info": {"bracket": str(row.tier), "cum": str(row.cum)},
            }
        )
    return dict(found)


def test_every_published_bracket_loads_and_the_requirement_has_no_step(published):
    loaded = 0
    for _, table in published.groupby("vintage"):
        functions = binance.leverage_brackets(_as_ccxt(table))
        cum = {symbol: group["cum"].tolist() for symbol, group in table.groupby("symbol")}
        leverage = {symbol: group["max_leverage"].tolist() for symbol, group in table.groupby("symbol")}
        assert set(functions) == set(cum)
        for symbol, pair in functions.items():
            brackets = pair["mmfFunction"]["brackets"]
            rate = before = deduction = Fraction(0)
            for bracket, amount in zip(brackets, cum[symbol], strict=True):
                lower, rate = Fraction(bracket["from"]), Fraction(bracket["rate"])
                assert lower * rate - Fraction(repr(amount)) == lower * before - deduction
                before, deduction = rate, Fraction(repr(amount))
            whole = [float(Fraction(b["rate"])) for b in pair["imfFunction"]["brackets"]]
            assert whole == [1 / x for x in leverage[symbol]]
            loaded += len(brackets)
    assert loaded == len(published) == 10_081


def test_sweep_requires_at_every_boundary_what_the_venue_publishes(published):
    compared = 0
    for (_, settle), table in published.groupby(["vintage", "currency"]):
        native = table["symbol"].str.partition(":")[0].str.replace("/", "")
        table = table.assign(market=native.where(~table["symbol"].str.contains("-"), table["symbol"]))  # dated futures
        names = [(m, m.removesuffix(settle), settle) for m in table["market"].unique()]
        venue = binance.load_venue(
            _as_ccxt(table), info_of(*names, step="1", tick="1", highest="1"), settle_asset=settle
        )
        assert venue.markets.symbol == tuple(m for m, _, _ in names)
        edges = table[table["min_notional"] > 0].reset_index(drop=True)
        frame = pd.DataFrame({"account": edges.index, "market": edges["market"], "quantity": edges["min_notional"]})
        money = pd.DataFrame({"account": edges.index, "asset": settle, "quantity": 1.0})
        accounts = Accounts.from_frames(venue, frame.assign(entry_price=1.0), money)
        margin = sweep(accounts, venue, dict.fromkeys(venue.markets.symbol, 1.0)).maintenance_margin
        below = (table["min_notional"].shift(-1) * table["mmr"] - table["cum"])[table["tier"].shift(-1) > 1]
        above = edges["min_notional"] * edges["mmr"] - edges["cum"]
        np.testing.assert_allclose(margin, above, rtol=1e-12)
        np.testing.assert_allclose(margin, below, rtol=1e-12)
        compared += len(edges) + table["symbol"].nunique()
    assert compared == 10_081


def test_venue_has_the_perpetuals_of_its_margin_asset():
    both = [BTC, ETH, api("BTCUSDC", (0, 9, 0.1, 5, 0)), api("GONEUSDT", (0, 9, 0.1, 5, 0))]
    venue = binance.load_venue(both, INFO)
    assert (venue.settle_asset, venue.markets.symbol) == ("USDT", ("BTCUSDT", "ETHUSDT"))
    assert (venue.markets.tick[0], venue.markets.step[0]) == (Fraction(1, 10), Fraction(1, 1000))
    assert binance.load_venue(both, INFO, settle_asset="USDC").markets.symbol == ("BTCUSDC",)
    named = ccxt(BTC, "BTC/USDT:USDT") | ccxt(ETH, "BTC/USDT:USDT-261225")
    assert binance.load_venue(named, INFO).markets.symbol == ("BTCUSDT",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": None}, r"\$\.symbols"),
        ({"symbols": []}, r"\$\.symbols.* perpetual margined in USDT"),
        ({"symbols": [INFO["symbols"][0] | {"filters": []}]}, r"\$\.symbols\[0\]\.filters: must hold a PRICE_FILTER"),
        ({"symbols": [INFO["symbols"][0] | {"filters": INFO["symbols"][0]["filters"][:1]}]}, r"must hold a LOT_SIZE"),
        ({"symbols": [{"symbol": "BTCUSDT"}]}, r"`baseAsset` - at `\$\.symbols\[0\]`"),
    ],
)
def test_wrong_exchange_info_is_named_by_its_path(change, message):
    with pytest.raises(RiskDataError, match=message) as raised:
        binance.load_venue([BTC], INFO | change)
    assert raised.value.table == "exchange_info"


class User:
    """A user with two cross positions and an isolated one, and the replies that the venue's formulas make of it."""

    cross, isolated = D("10000.12345678"), D("350.5")
    positions = (  # symbol, isolated, quantity, entry, mark, leverage
        ("BTCUSDT", False, D("3.25"), D("64000.5"), D("65123.47"), 20),
        ("ETHUSDT", False, D("-40.5"), D("3400.12"), D("3391.7612345"), 2),
    )
    alone = ("SOLUSDT", True, D("25.5"), D("151.1"), D("144.9578481"), 10)

    @staticmethod
    def maintenance(symbol: str, notional: D) -> D:
        rows = {market["symbol"]: market["brackets"] for market in (BTC, ETH, SOL)}
        row = [b for b in rows[symbol] if notional > b["notionalFloor"]][-1]
        return notional * D(str(row["maintMarginRatio"])) - D(str(row["cum"]))

    def liquidation_price(self, wallet: D, group: tuple[Any, ...], at: int) -> D:
        def excess_equity(price: D) -> D:
            marks = [price if i == at else row[4] for i, row in enumerate(group)]
            return wallet + sum(
                q * (p - entry) - self.maintenance(symbol, abs(q) * p)
                for (symbol, _, q, entry, _, _), p in zip(group, marks, strict=True)
            )

        alive, dead = group[at][4], D("0.01") if group[at][2] > 0 else 100 * group[at][4]
        assert excess_equity(alive) > 0 > excess_equity(dead)
        for _ in range(150):
            middle = (alive + dead) / 2
            alive, dead = (middle, dead) if excess_equity(middle) > 0 else (alive, middle)
        return alive

    def replies(self, version: int, *, hedged: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        account, risk = [], []
        with localcontext(prec=40):
            for group, wallet in ((self.positions, self.cross), ((self.alone,), self.isolated)):
                for at, (symbol, isolated, q, entry, mark, leverage) in enumerate(group):
                    profit, notional = q * (mark - entry), q * mark
                    own = wallet if isolated else D(0)
                    side = "BOTH" if not hedged else "LONG" if q > 0 else "SHORT"
                    both = {"symbol": symbol, "positionSide": side, "positionAmt": q, "notional": notional}
                    both |= {"isolatedWallet": own, "updateTime": 1}
                    margin = {
                        "initialMargin": abs(notional) / leverage,
                        "maintMargin": self.maintenance(symbol, abs(notional)),
                    }
                    first = {"leverage": str(leverage), "isolated": isolated, "entryPrice": entry, "maxNotional": "1"}
                    first |= {"positionInitialMargin": abs(notional) / leverage, "openOrderInitialMargin": "0"}
                    account.append(both | margin | {"unrealizedProfit": profit} | (first if version == 2 else {}))
                    price = self.liquidation_price(wallet, group, at)
                    row = both | {"entryPrice": entry, "breakEvenPrice": entry, "markPrice": mark, "adl": 2}
                    row |= {"unRealizedProfit": profit, "liquidationPrice": price, "isolatedMargin": own + profit}
                    kind = {"marginType": "isolated" if isolated else "cross", "leverage": str(leverage)}
                    risk.append(row | (kind if version == 2 else margin | {"marginAsset": "USDT"}))
            flat = {"symbol": "XRPUSDT", "positionSide": "BOTH", "positionAmt": "0.0", "notional": "0"}
            account.append(flat | {"unrealizedProfit": "0", "maintMargin": "0", "isolatedWallet": "0"})
            other = {"symbol": "BTCUSDC", "positionAmt": "1", "unrealizedProfit": "0", "maintMargin": "0"}
            account.append(account[0] | other)
            unrealized = sum(q * (mark - entry) for _, _, q, entry, mark, _ in self.positions)
            alone = sum(q * (mark - entry) for _, _, q, entry, mark, _ in (self.alone,))
            usdt = {"asset": "USDT", "availableBalance": "0"} | {
                "walletBalance": self.cross + self.isolated,
                "unrealizedProfit": unrealized + alone,
                "marginBalance": self.cross + self.isolated + unrealized + alone,
                "crossWalletBalance": self.cross,
                "crossUnPnl": unrealized,
                "maintMargin": sum(D(row["maintMargin"]) for row in account[:3]),
                "initialMargin": sum(D(row["initialMargin"]) for row in account[:3]),
                "positionInitialMargin": sum(D(row["initialMargin"]) for row in account[:3]),
                "openOrderInitialMargin": D(0),
            }
            totals = {f"total{key[0].upper()}{key[1:]}": value for key, value in usdt.items() if isinstance(value, D)}
        bnb = {"asset": "BNB", "walletBalance": "1", "crossWalletBalance": "1", "crossUnPnl": "0"}
        first = {"feeTier": 0, "multiAssetsMargin": False} if version == 2 else {}
        content = first | totals | {"assets": [usdt, bnb], "positions": account}
        return json.loads(json.dumps((content, risk), default=str))


def venue() -> Any:
    return binance.load_venue([BTC, ETH, SOL], INFO)


@pytest.mark.parametrize("version", [2, 3])
def test_account_agrees_with_its_reported_figures(version):
    account, risk = User().replies(version)
    compared = binance.load_account(venue(), account, position_risk=risk, name="u").compare()
    found = compared.groupby("account")["figure"].value_counts().unstack(fill_value=0)
    assert found.loc["u", "liquidation_price"] == 2
    assert found.loc["u:SOLUSDT", ["net_equity", "maintenance_margin", "liquidation_price"]].tolist() == [1, 1, 1]
    assert found.loc["u", "initial_margin"] == 1
    whole = compared.loc[[account is None for account in compared["account"]], "figure"]
    assert sorted(whole) == ["initial_margin", "maintenance_margin", "net_equity"]
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()


@pytest.mark.parametrize("version", [2, 3])
def test_account_without_position_risk_has_the_marks_that_its_notionals_imply(version):
    account, _ = User().replies(version)
    snapshot = binance.load_account(venue(), account)
    assert snapshot.marks["BTCUSDT"] == pytest.approx(65123.47, rel=1e-15)
    compared = snapshot.compare()
    assert set(compared["figure"]) >= {"net_equity", "maintenance_margin"}
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()


def bare(account: dict[str, Any], wallet: str, profit: str) -> dict[str, Any]:
    """The account with no total but the cross wallet of USDT and its profit."""
    usdt = {"asset": "USDT", "crossWalletBalance": wallet, "crossUnPnl": profit}
    return {"multiAssetsMargin": False, "assets": [usdt], "positions": account["positions"]}


def test_both_sides_of_hedge_mode_are_accounts_of_their_own_where_they_are_isolated():
    account, risk = User().replies(2, hedged=True)
    for rows in (account["positions"], risk):
        rows.append(rows[2] | {"positionSide": "SHORT", "positionAmt": "-7"})
    account = bare(account, "10000.12345678", account["assets"][0]["crossUnPnl"])
    snapshot = binance.load_account(venue(), account, position_risk=risk)
    assert snapshot.accounts.ids.tolist() == ["account", "account:SOLUSDT:LONG", "account:SOLUSDT:SHORT"]
    for row in account["positions"]:
        row["isolated"] = False
    profit = sum(D(row["unrealizedProfit"]) for row in account["positions"] if row["symbol"].endswith("USDT"))
    account = bare(account, "10000.12345678", str(profit))
    with pytest.raises(RiskDataError, match=r"\$\.positions\[5\]\.positionSide.* both directions"):
        binance.load_account(venue(), account, position_risk=risk)


def test_negative_wallet_is_no_borrow():
    account, _ = User().replies(2)
    account = bare(account, "-500.5", account["assets"][0]["crossUnPnl"])
    compared = binance.load_account(venue(), account).compare().set_index(["account", "figure"])
    assert compared.at[("account", "net_equity"), "relative_difference"] <= 1e-8
    assert compared.at[("account", "maintenance_margin"), "relative_difference"] <= 1e-8


def _change(content: Any, path: list[Any], value: Any) -> Any:
    content = deepcopy(content)
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("reply", "path", "value", "message"),
    [
        ("account", ["assets"], ..., r"account: .*`assets`"),
        ("account", ["assets", 0, "crossUnPnl"], ..., r"`crossUnPnl` - at `\$\.assets\[0\]`"),
        ("account", ["positions", 1, "positionAmt"], "much", r"\$\.positions\[1\]\.positionAmt"),
        ("account", ["positions", 1, "maintMargin"], ..., r"`maintMargin` - at `\$\.positions\[1\]`"),
        ("account", ["positions", 1, "symbol"], "ETHUSDT_261225", r"\$\.positions\[1\]\.symbol.* perpetual market"),
        ("account", ["positions", 0, "positionAmt"], "3.5", r"\$\.positions\[0\]\.positionAmt.* different moments"),
        ("account", ["positions", 2, "isolated"], False, r"assets\[0\]\.crossUnPnl.* must be 38.*isolated"),
        ("position_risk", [1, "markPrice"], ..., r"position_risk: .*`markPrice` - at `\$\[1\]`"),
        ("position_risk", [1, "liquidationPrice"], [], r"\$\[1\]\.liquidationPrice"),
    ],
)
def test_wrong_field_is_named_by_its_path(reply, path, value, message):
    account, risk = User().replies(2)
    sent = {"account": account, "position_risk": risk}
    sent[reply] = _change(sent[reply], path, value)
    with pytest.raises(RiskDataError, match=message):
        binance.load_account(venue(), **sent)


def test_isolated_position_needs_its_wallet_and_every_position_a_price():
    account, _ = User().replies(2)
    del account["positions"][2]["isolatedWallet"]
    with pytest.raises(RiskDataError, match=r"\$\.positions\[2\]\.isolatedWallet"):
        binance.load_account(venue(), account)
    account, _ = User().replies(3)
    del account["positions"][0]["notional"]
    with pytest.raises(RiskDataError, match=r"\$\.positions\[0\]\.notional"):
        binance.load_account(venue(), account)


def several_assets(**sent: Any) -> dict[str, Any]:
    """Version 3 in multi-assets mode: -2 ETH at 3,000, 100 USDT, 4,000 USDC and 0.05 BTC that counts 4,750."""

    def asset(name: str, wallet: str, profit: str = "0", initial: str = "0", maintenance: str = "0") -> dict[str, Any]:
        total = str(D(wallet) + D(profit))
        both = {"walletBalance": wallet, "crossWalletBalance": wallet, "marginBalance": total}
        both |= {"unrealizedProfit": profit, "crossUnPnl": profit, "openOrderInitialMargin": "0"}
        both |= {"initialMargin": initial, "positionInitialMargin": initial, "maintMargin": maintenance}
        return {"asset": name} | both

    eth = {"symbol": "ETHUSDT", "positionSide": "BOTH", "positionAmt": "-2.000", "unrealizedProfit": "-310.5"}
    eth |= {"notional": "-6000", "isolatedWallet": "0", "initialMargin": "1200", "maintMargin": "39"}
    totals = asset("total", "8850", "-310.5", "1200", "39")
    content = {f"total{key[0].upper()}{key[1:]}": value for key, value in totals.items() if key != "asset"}
    assets = [asset("USDT", "100", "-310.5", "1200", "39"), asset("USDC", "4000"), asset("BTC", "0.05")]
    return content | {"assets": assets, "positions": [eth]} | sent


@pytest.mark.parametrize(
    ("sent", "told"), [({}, None), ({}, True), ({"multiAssetsMargin": True}, None)], ids=["totals", "told", "sent"]
)
def test_multi_assets_mode_has_the_margin_of_the_whole_account(sent, told):
    snapshot = binance.load_account(venue(), several_assets(**sent), multi_assets=told)
    compared = snapshot.compare()
    own = compared[compared["account"] == "account"].set_index("figure")["riskcore"]
    wanted = {"net_equity": 8539.5, "maintenance_margin": 39.0, "initial_margin": 1200.0}
    assert own.to_dict() == pytest.approx(wanted, rel=1e-12)
    assert (compared["relative_difference"] <= 1e-12).all()
    assert list(compared["account"]).count(None) == 3  # totals of the reply


def test_multi_assets_mode_with_positions_of_two_margin_assets():
    usdc = api("BTCUSDC", (0, 50000, 0.004, 125, 0), (50000, 600000, 0.005, 100, 50))
    content = several_assets()
    btc = {
        "symbol": "BTCUSDC",
        "positionAmt": "0.01",
        "unrealizedProfit": "10",
        "notional": "900",
        "isolatedWallet": "0",
    }
    content["positions"].append(btc | {"initialMargin": "45", "maintMargin": "3.6"})
    content["assets"][1] |= {"unrealizedProfit": "10", "crossUnPnl": "10", "marginBalance": "4010"}
    content["assets"][1] |= {"initialMargin": "45", "positionInitialMargin": "45", "maintMargin": "3.6"}
    content |= {"totalUnrealizedProfit": "-300.5", "totalCrossUnPnl": "-300.5", "totalMarginBalance": "8549.5"}
    content |= {"totalInitialMargin": "1245", "totalPositionInitialMargin": "1245", "totalMaintMargin": "42.6"}
    with pytest.raises(RiskDataError, match=r"positions\[1\]\.symbol.*BTCUSDC.*pass margin_assets to load_venue"):
        binance.load_account(venue(), content)
    both = binance.load_venue([BTC, ETH, SOL, usdc], INFO, margin_assets=["USDC"])
    compared = binance.load_account(both, content).compare()
    assert (compared["relative_difference"] <= 1e-12).all()
    assert compared.loc[compared["account"] == "account", "riskcore"].tolist() == pytest.approx([8549.5, 42.6, 1245.0])


def test_single_asset_mode_counts_usdt_alone():
    content = several_assets()
    usdt = content["assets"][0] | {"walletBalance": "900", "crossWalletBalance": "900", "marginBalance": "589.5"}
    content["assets"][0] = usdt
    content |= {f"total{key[0].upper()}{key[1:]}": value for key, value in usdt.items() if key != "asset"}
    for told in (None, False):
        compared = binance.load_account(venue(), content, multi_assets=told).compare().set_index("figure")
        assert compared.at["net_equity", "riskcore"] == pytest.approx(589.5)


TOTALS = [
    ({"totalCrossWalletBalance": "50"}, None, r"totalCrossWalletBalance 50 must be at least 3894"),
    ({"totalCrossWalletBalance": "8000"}, None, r"totalCrossWalletBalance, value '8000': must be 8850, .*isolated"),
    ({"totalMarginBalance": "100"}, None, r"totalMarginBalance, value '100': must be 8539\.5, totalWalletBalance"),
    ({"totalInitialMargin": "100"}, None, r"totalInitialMargin, value '100': must be 1200"),
    ({"totalMaintMargin": "90"}, None, r"value '8850': must be 100.*totalMaintMargin 90 must be from 37.* to 40"),
    ({}, False, r"totalWalletBalance, value '8850': must be 100, USDT alone, in single-asset mode"),
    ({"multiAssetsMargin": False}, None, r"totalWalletBalance, value '8850': must be 100, USDT alone"),
    ({"multiAssetsMargin": True}, False, r"multiAssetsMargin.* must agree with the argument"),
    ({"positions": []}, None, r"assets\[0\]\.crossUnPnl, value '-310\.5': must be 0, .*positions are missing"),
    ({"assets": several_assets()["assets"][:2]}, None, r"totalWalletBalance, value '8850'.*an asset is missing"),
]


@pytest.mark.parametrize(("sent", "told", "message"), TOTALS)
def test_totals_that_do_not_add_up_are_refused_with_both_figures(sent, told, message):
    with pytest.raises(RiskDataError, match=message):
        binance.load_account(venue(), several_assets(**sent), multi_assets=told)


def test_a_reply_without_totals_and_mode_is_refused_where_it_matters():
    content = several_assets()
    bare_content = {"assets": content["assets"], "positions": content["positions"]}
    with pytest.raises(RiskDataError, match="holds USDC: pass multi_assets"):
        binance.load_account(venue(), bare_content)
    bare_content["assets"] = content["assets"][:1]
    binance.load_account(venue(), bare_content)


@pytest.mark.parametrize("field", ["walletBalance", "unrealizedProfit", "marginBalance", "crossUnPnl", "maintMargin"])
def test_totals_of_an_asset_are_held_against_its_positions(field):
    account, risk = User().replies(3)
    account["assets"][0][field] = str(D(account["assets"][0][field]) + 7)
    with pytest.raises(RiskDataError, match=r"account\.\$\.assets\[0\]\..*must be .*"):
        binance.load_account(venue(), account, position_risk=risk)


def test_position_risk_of_another_user_is_refused():
    account, risk = User().replies(3)
    account["positions"] = [row for row in account["positions"] if row["symbol"] != "SOLUSDT"]
    account = bare(account, "10000.12345678", account["assets"][0]["crossUnPnl"])
    with pytest.raises(RiskDataError, match=r"position_risk\.\$\[2\]\.symbol.*SOLUSDT.*different moments"):
        binance.load_account(venue(), account, position_risk=risk)
