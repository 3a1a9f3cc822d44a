from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest

from riskcore.boundary import RiskDataError
from riskcore.io.venues import backpack

D = Decimal

# GET /api/v1/market of 2026-10, as captured
BTC = json.loads(
    '{"baseSymbol":"BTC","createdAt":"2025-01-21T06:34:54.691858","filters":{"price":{"borrowEntryFeeMaxMultiplier":null,'
    '"borrowEntryFeeMinMultiplier":null,"discoveryBoundBand":null,"maxImpactMultiplier":"1.01","maxMultiplier":"2",'
    '"maxPrice":"1000000","maxPriceUpdateMultiplier":"1.0025","meanMarkPriceBand":{"maxMultiplier":"1.04",'
    '"minMultiplier":"0.96"},"meanPremiumBand":{"tolerancePct":"0.05"},"minImpactMultiplier":"0.99",'
    '"minMultiplier":"0.25","minPrice":"0.1","minPriceUpdateMultiplier":"0.9975","tickSize":"0.1"},"quantity":'
    '{"maxQuantity":null,"minQuantity":"0.00001","stepSize":"0.00001"}},"fundingInterval":3600000,'
    '"fundingRateLowerBound":"-100","fundingRateUpperBound":"100","imfFunction":{"base":"0.01333333",'
    '"factor":"0.00002494","type":"sqrt"},"marketType":"PERP","mmfFunction":{"base":"0.00666667","factor":"0.00001496",'
    '"type":"sqrt"},"openInterestLimit":"4000","orderBookState":"Open","positionLimitWeight":"1","quoteSymbol":"USDC",'
    '"rwaMarketType":null,"symbol":"BTC_USDC_PERP","visible":true}'
)
SOL = deepcopy(BTC) | {
    "baseSymbol": "SOL",
    "symbol": "SOL_USDC_PERP",
    "imfFunction": {"type": "sqrt", "base": "0.02", "factor": "0.000075"},
    "mmfFunction": {"type": "sqrt", "base": "0.0135", "factor": "0.0000375"},
}
SOL["filters"]["price"] |= {"maxPrice": "1000", "minPrice": "0.01", "tickSize": "0.01"}
SOL["filters"]["quantity"] |= {"minQuantity": "0.01", "stepSize": "0.01"}
SPOT = {
    "symbol": "SOL_USDC",
    "baseSymbol": "SOL",
    "quoteSymbol": "USDC",
    "marketType": "SPOT",
    "imfFunction": None,
    "filters": SOL["filters"],
}
COLLATERAL = [
    {
        "symbol": "USDC",
        "imfFunction": {"type": "sqrt", "base": "0.1", "factor": "0"},
        "mmfFunction": {"type": "sqrt", "base": "0.05", "factor": "0"},
        "haircutFunction": {"weight": "1", "kind": {"type": "identity"}},
    },
    {
        "symbol": "SOL",
        "imfFunction": {"type": "sqrt", "base": "0.2", "factor": "0.0001"},
        "mmfFunction": {"type": "sqrt", "base": "0.1", "factor": "0.00006"},
        "haircutFunction": {
            "weight": "0.95",
            "kind": {"type": "inverseSqrt", "base": "1.1", "positiveCurvePenalty": "0.0004"},
        },
    },
    {
        "symbol": "ETH",
        "imfFunction": {"type": "sqrt", "base": "0.2", "factor": "0.003"},
        "mmfFunction": {"type": "sqrt", "base": "0.1", "factor": "0.0015"},
        "haircutFunction": {"weight": "0.9", "kind": {"type": "identity"}},
    },
]
POOL = {
    "state": "Open",
    "symbol": "USDC",
    "timestamp": "2026-07-30T00:00:00",
    "assetMarkPrice": "1",
    "borrowInterestRate": "0.0523",
    "lendInterestRate": "0.047",
    "borrowedQuantity": "3000000",
    "lentQuantity": "10000000",
    "utilization": "0.3",
    "fee": "0.001",
    "maxUtilization": "1",
    "openBorrowLendLimit": "10000000",
    "optimalUtilization": "0.9",
    "throttleUtilizationThreshold": "0.92",
    "throttleUtilizationBound": "0.95",
    "throttleUpdateFraction": "0.1",
    "stepSize": "0.01",
}


def venue() -> Any:
    return backpack.load_venue([BTC, SOL, SPOT], COLLATERAL)


class Account:
    """An account of every feature, and the replies that its figures by venue_rules.md 1.2 make."""

    def __init__(self) -> None:
        self.leverage_limit = D(20)
        self.unsettled = D("-12.345678")
        self.prices = {"USDC": D(1), "SOL": D("145.13579"), "ETH": D("3105.2468")}
        self.total = {"USDC": D("10652.404457"), "SOL": D("212.0699302874"), "ETH": D("1.00000001")}
        self.lend = {"USDC": D("10652.404457"), "SOL": D(0), "ETH": D("0.4")}
        self.debt = {"ETH": D("2.5000003")}
        self.marks = {"BTC_USDC_PERP": D("86781.45"), "SOL_USDC_PERP": D("144.9578481")}
        self.quantity = {"BTC_USDC_PERP": D("5.12345"), "SOL_USDC_PERP": D("-301.25")}
        self.entry = {"BTC_USDC_PERP": D("86011.123"), "SOL_USDC_PERP": D("151.2")}
        self.settled = {
            "BTC_USDC_PERP": D("86781.4"),
            "SOL_USDC_PERP": D("144.9601"),
        }  # the marks at the last realisation
        self.bids = {"BTC_USDC_PERP": D("0.2"), "SOL_USDC_PERP": D(0)}
        self.asks = {"BTC_USDC_PERP": D("0.1"), "SOL_USDC_PERP": D(50)}

    @staticmethod
    def fraction(function: dict[str, str], notional: D, at_least: D) -> D:
        return max(D(function["base"]), at_least, D(function["factor"]) * notional.sqrt())

    def margin(self, marks: dict[str, D]) -> dict[str, D]:
        functions = {m["symbol"]: m for m in (BTC, SOL)} | {c["symbol"]: c for c in COLLATERAL}
        weight = {"USDC": D(1), "ETH": D("0.9")}
        root = (self.total["SOL"] * self.prices["SOL"]).sqrt()
        weight["SOL"] = min(D("0.95"), D("1.1") / (1 + D("0.0004") * root))
        assets = sum(self.total[a] * self.prices[a] * weight[a] for a in self.total)
        pnl = {m: q * (marks[m] - self.settled[m]) for m, q in self.quantity.items()}
        debts = {a: b * self.prices[a] for a, b in self.debt.items()}
        worst = {m: max(abs(q + self.bids[m]), abs(q - self.asks[m])) for m, q in self.quantity.items()}
        exposed = {m: x * marks[m] for m, x in worst.items()} | debts
        held = {m: abs(q) * marks[m] for m, q in self.quantity.items()} | debts
        exposure = sum(exposed.values())
        user = {m: 1 / self.leverage_limit for m in self.quantity}
        initial = sum(n * self.fraction(functions[i]["imfFunction"], n, user.get(i, D(0))) for i, n in exposed.items())
        maintenance = sum(n * self.fraction(functions[i]["mmfFunction"], n, D(0)) for i, n in held.items())
        return {
            "weight": weight,
            "pnl": pnl,
            "exposed": exposed,
            "net_equity": assets + sum(pnl.values()) + self.unsettled - sum(debts.values()),
            "exposure": exposure,
            "initial_margin": max(initial, exposure / self.leverage_limit),
            "maintenance_margin": maintenance,
        }

    def liquidation_price(self, market: str) -> D:
        def excess_equity(price: D) -> D:
            found = self.margin(self.marks | {market: price})
            return found["net_equity"] - found["maintenance_margin"]

        alive, dead = self.marks[market], D(1) if self.quantity[market] > 0 else 10 * self.marks[market]
        assert excess_equity(alive) > 0 > excess_equity(dead)
        for _ in range(150):
            middle = (alive + dead) / 2
            alive, dead = (middle, dead) if excess_equity(middle) > 0 else (alive, middle)
        return alive

    def replies(self) -> dict[str, Any]:
        with localcontext(prec=50):
            found = self.margin(self.marks)
            collateral = [
                {
                    "symbol": a,
                    "assetMarkPrice": self.prices[a],
                    "totalQuantity": self.total[a],
                    "balanceNotional": self.total[a] * self.prices[a],
                    "collateralWeight": found["weight"][a],
                    "collateralValue": self.total[a] * self.prices[a] * found["weight"][a],
                    "openOrderQuantity": "0",
                    "lendQuantity": self.lend[a],
                    "availableQuantity": self.total[a] - self.lend[a],
                }
                for a in self.total
            ]
            capital = {
                "assetsValue": sum(row["collateralValue"] for row in collateral),
                "borrowLiability": self.debt["ETH"] * self.prices["ETH"],
                "collateral": collateral,
                "imf": found["initial_margin"] / found["exposure"],
                "mmf": found["maintenance_margin"] / found["exposure"],
                "unsettledEquity": self.unsettled,
                "liabilitiesValue": "0",
                "marginFraction": found["net_equity"] / found["exposure"],
                "netEquity": found["net_equity"],
                "netEquityAvailable": found["net_equity"] - found["initial_margin"],
                "netEquityLocked": found["initial_margin"],
                "netExposureFutures": found["exposure"],
                "pnlUnrealized": sum(found["pnl"].values()),
            }
            positions = [
                {
                    "breakEvenPrice": self.entry[m],
                    "entryPrice": self.entry[m],
                    "estLiquidationPrice": self.liquidation_price(m),
                    "imf": "0.05",
                    # what the venue makes of the market's base and the user's leverage limit
                    "imfFunction": BTC["imfFunction"] | {"base": "0.05"} if m == BTC["symbol"] else SOL["imfFunction"],
                    "markPrice": self.marks[m],
                    "mmf": "0.01",
                    "mmfFunction": (BTC if m == BTC["symbol"] else SOL)["mmfFunction"],
                    "netCost": q * self.entry[m],
                    "netQuantity": q,
                    "netExposureQuantity": abs(q),
                    "netExposureNotional": found["exposed"][m],
                    "pnlRealized": "0",
                    "pnlUnrealized": found["pnl"][m],
                    "cumulativeFundingPayment": "0",
                    "subaccountId": 2,
                    "symbol": m,
                    "userId": 101,
                    "positionId": "1",
                    "cumulativeInterest": "0",
                }
                for m, q in self.quantity.items()
            ]
            lent = [
                {"symbol": a, "netQuantity": x, "netExposureQuantity": "0", "netExposureNotional": "0"}
                for a, x in self.lend.items()
                if a not in self.debt
            ]
            owed = [
                {"symbol": a, "netQuantity": -x, "netExposureQuantity": x, "netExposureNotional": x * self.prices[a]}
                for a, x in self.debt.items()
            ]
            functions = {c["symbol"]: c for c in COLLATERAL}
            borrow_lend = [
                row
                | {
                    "id": "1",
                    "markPrice": self.prices[row["symbol"]],
                    "cumulativeInterest": "0",
                    "imf": "0",
                    "mmf": "0",
                }
                | {name: functions[row["symbol"]][name] for name in ("imfFunction", "mmfFunction")}
                for row in lent + owed
            ]
        common = {"id": "1", "orderType": "Limit", "status": "New", "timeInForce": "GTC", "executedQuantity": "0"}
        orders = [
            common
            | {"symbol": BTC["symbol"], "side": "Bid", "price": "86000.1", "quantity": "0.25", "reduceOnly": None}
            | {"executedQuantity": "0.05", "status": "PartiallyFilled"},
            common | {"symbol": BTC["symbol"], "side": "Ask", "price": "90000", "quantity": "0.1", "reduceOnly": False},
            common | {"symbol": BTC["symbol"], "side": "Ask", "price": "91000", "quantity": "5", "reduceOnly": True},
            common | {"symbol": SOL["symbol"], "side": "Ask", "price": "160.05", "quantity": "50"},
            common | {"symbol": SPOT["symbol"], "side": "Ask", "price": "160.05", "quantity": "50"},
            common
            | {"symbol": SOL["symbol"], "side": "Bid", "price": "170", "quantity": "0", "status": "TriggerPending"}
            | {"triggerPrice": "170", "triggerQuantity": "9"},
        ]
        summary = {"autoLend": True, "leverageLimit": str(self.leverage_limit), "liquidating": False}
        sent = {
            "capital": capital,
            "positions": positions,
            "borrow_lend": borrow_lend,
            "orders": orders,
            "summary": summary,
        }
        return json.loads(json.dumps(sent, default=str))


REPLIES = Account().replies()


def test_account_agrees_with_its_reported_figures():
    snapshot = backpack.load_account(venue(), **REPLIES)
    compared = snapshot.compare()
    assert list(compared["figure"]) == [
        "net_equity",
        "exposure",
        "initial_margin",
        "maintenance_margin",
        "liquidation_price",
        "liquidation_price",
    ]
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()


def test_account_that_holds_and_borrows_an_asset_has_it_as_debt_and_lent():
    snapshot = backpack.load_account(venue(), **REPLIES)
    assert _balances(snapshot)["ETH"] == (Fraction("-2.5000003"), Fraction("1.00000001"))


def _balances(snapshot: Any) -> dict[str, tuple[Fraction, Fraction]]:
    columns, assets = snapshot.accounts.columns, snapshot.venue.assets
    return {
        assets.symbol[k]: (int(free) * assets.quantum[k], int(lent) * assets.quantum[k])
        for k, free, lent in zip(columns.asset.tolist(), columns.free, columns.lent, strict=True)
    }


def test_decimals_may_be_numbers():
    numbers = {
        key: json.loads(json.dumps(reply), object_hook=_to_numbers) if key != "orders" else reply
        for key, reply in REPLIES.items()
    }
    compared = backpack.load_account(venue(), **numbers).compare()
    assert (compared["relative_difference"] <= 1e-8).all(), compared.to_string()


def _to_numbers(row: dict[str, Any]) -> dict[str, Any]:
    def number(value: Any) -> Any:
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return {key: value if key in ("id", "positionId") else number(value) for key, value in row.items()}


def test_files_load_as_their_content_does(tmp_path):
    def saved(name: str, content: Any) -> Any:
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path / f"{name}.json"

    of_files = backpack.load_venue(saved("markets", [BTC, SOL, SPOT]), saved("assets", COLLATERAL))
    account = backpack.load_account(of_files, **{name: saved(name, reply) for name, reply in REPLIES.items()})
    wanted = backpack.load_account(venue(), **REPLIES)
    assert account.compare().equals(wanted.compare())


def test_observed_payload_has_its_observed_equity():
    """venue_rules.md E3: a live account that lends all its USDC."""
    collateral = [
        {"symbol": "USDC", "assetMarkPrice": "1", "totalQuantity": "10.6524044577", "lendQuantity": "10.6524044577"},
        {"symbol": "SOL", "assetMarkPrice": "144.9578481", "totalQuantity": "0.0699302874", "lendQuantity": "0"},
    ]
    capital = {
        "collateral": collateral,
        "netEquity": "20.282501237292616743",
        "assetsValue": "20.282501237292616743",
        "unsettledEquity": "0",
        "imf": "0",
        "mmf": "0",
        "marginFraction": None,
    }
    weight = {"symbol": "SOL", "haircutFunction": {"weight": "0.95", "kind": {"type": "identity"}}}
    compared = backpack.load_account(backpack.load_venue(BTC, [weight]), capital=capital).compare()
    assert list(compared["figure"]) == ["net_equity"]
    assert compared.at[0, "relative_difference"] <= 1e-8


def test_plain_balances_need_prices_and_take_lends_from_the_borrow_lend_positions():
    plain = {
        "USDC": {"available": "100", "locked": "10", "staked": "0"},
        "SOL": {"available": "1", "locked": "0.5", "staked": "0.25"},
        "BONK": {"available": "1000", "locked": "0", "staked": "0"},
    }
    lends = [{"symbol": "USDC", "netQuantity": "40", "markPrice": "1"}]
    snapshot = backpack.load_account(venue(), capital=plain, borrow_lend=lends, asset_prices={"SOL": "100"})
    assert not len(snapshot.reported)
    assert _balances(snapshot) == {"USDC": (110, 40), "SOL": (Fraction("1.75"), 0)}


def test_borrow_brings_the_functions_that_the_venue_lacks():
    bare = [{"symbol": row["symbol"], "haircutFunction": row["haircutFunction"]} for row in COLLATERAL]
    snapshot = backpack.load_account(backpack.load_venue([BTC, SOL, SPOT], bare), **REPLIES)
    assert (snapshot.compare()["relative_difference"] <= 1e-8).all()


def test_functions_in_the_positions_are_in_force():
    stale = deepcopy([BTC, SOL, SPOT])
    for row in stale[:2]:
        row["imfFunction"]["base"] = row["mmfFunction"]["base"] = "0.9"
    snapshot = backpack.load_account(backpack.load_venue(stale, COLLATERAL), **REPLIES)
    assert (snapshot.compare()["relative_difference"] <= 1e-8).all()


def test_order_without_position_takes_its_mark_from_the_mark_prices():
    replies = deepcopy(REPLIES) | {"positions": [REPLIES["positions"][1]]}
    replies["capital"]["marginFraction"] = None
    with pytest.raises(RiskDataError, match=r"orders\.\$\[0\]\.symbol, value 'BTC_USDC_PERP': needs a mark price"):
        backpack.load_account(venue(), **replies)
    marks = [{"symbol": "BTC_USDC_PERP", "markPrice": "86781.45", "indexPrice": "86780", "fundingRate": "0"}]
    assert backpack.load_account(venue(), **replies, mark_prices=marks).marks["BTC_USDC_PERP"] == 86781.45


def test_contracts_that_expire_are_left_out():
    dated = BTC | {"symbol": "BTC_USDC_27MAR", "marketType": "DATED"}
    assert backpack.load_venue([dated, SOL], COLLATERAL).markets.symbol == ("SOL_USDC_PERP",)


def test_venue_takes_the_pools_of_its_assets():
    loaded = backpack.load_venue([BTC], COLLATERAL, borrow_lend=[POOL, POOL | {"symbol": "BONK"}])
    assert [pool is None for pool in loaded.pools] == [False, True, True]


def test_of_other_markets_nothing_is_read():
    odd = {"symbol": "RAIN_USDC_PREDICTION", "marketType": "PREDICTION", "filters": {"price": {"tickSize": None}}}
    assert backpack.load_venue([BTC, odd], COLLATERAL).markets.symbol == ("BTC_USDC_PERP",)


def test_backstop_providers_of_the_venue_are_left_out_of_a_snapshot():
    loaded = backpack.load_venue([BTC, SOL, SPOT], COLLATERAL, backstop=[{"account": "maker"}])
    assert not backpack.load_account(loaded, **REPLIES).venue.backstop


def test_preset_holds_parameters_with_source_and_date():
    preset = backpack.preset()
    assert set(preset) == {"markets", "collateral"}
    assert all(row["source"] and row["date"] for rows in preset.values() for row in rows)
    loaded = backpack.load_venue(**preset)
    assert loaded.markets.symbol == ("BTC_USDC_PERP", "ETH_USDC_PERP", "SOL_USDC_PERP", "ADA_USDC_PERP")


def _at(content: Any, path: list[Any]) -> Any:
    for step in path:
        content = content[step]
    return content


MISSING = [
    ("capital", ["netEquity"], r"`netEquity`"),
    ("capital", ["collateral", 1, "lendQuantity"], r"`lendQuantity` - at `\$\.collateral\[1\]`"),
    ("capital", ["collateral", 1, "assetMarkPrice"], r"`assetMarkPrice` - at `\$\.collateral\[1\]`"),
    ("positions", [1, "netQuantity"], r"`netQuantity` - at `\$\[1\]`"),
    ("positions", [0, "pnlUnrealized"], r"`pnlUnrealized` - at `\$\[0\]`"),
    ("positions", [0, "mmfFunction", "base"], r"`base` - at `\$\[0\]\.mmfFunction`"),
    ("borrow_lend", [2, "markPrice"], r"`markPrice` - at `\$\[2\]`"),
    ("orders", [3, "side"], r"`side` - at `\$\[3\]`"),
    ("orders", [3, "price"], r"orders\.\$\[3\]\.price: must not be missing"),
    ("summary", ["leverageLimit"], r"`leverageLimit`"),
]


@pytest.mark.parametrize(("reply", "path", "message"), MISSING)
def test_missing_field_is_named_by_its_path(reply, path, message):
    replies = deepcopy(REPLIES)
    del _at(replies[reply], path[:-1])[path[-1]]
    with pytest.raises(RiskDataError, match=message) as raised:
        backpack.load_account(venue(), **replies)
    assert raised.value.table == reply


WRONG = [
    ("capital", ["netEquity"], [], r"\$\.netEquity"),
    ("capital", ["collateral"], {"a": 1}, r"Expected `array`|capital"),
    ("capital", ["collateral", 0, "totalQuantity"], "much", r"\$\.collateral\[0\]\.totalQuantity"),
    (
        "capital",
        ["collateral", 0, "totalQuantity"],
        "1",
        r"\$\.collateral\[0\]\.lendQuantity.* from 0 to totalQuantity",
    ),
    ("capital", ["collateral", 1, "symbol"], "USDC", r"\$\.collateral\[1\]\.symbol.* must not appear twice"),
    ("capital", ["collateral", 1, "symbol"], "BONK", r"\$\.collateral\[1\]\.symbol.* must be a collateral asset"),
    ("capital", ["mmf"], "NaN", r"`mmf` must be 0 or a number"),
    ("positions", [0, "netQuantity"], True, r"\$\[0\]\.netQuantity"),
    ("positions", [0, "netQuantity"], "1e400000", r"`netQuantity` must be 0 or a number.*\$\[0\]"),
    ("positions", [0, "symbol"], "XRP_USDC_PERP", r"\$\[0\]\.symbol.* must be a perpetual market of the venue"),
    ("positions", [1, "mmfFunction", "type"], "cube", r"\$\[1\]\.mmfFunction\.type"),
    ("borrow_lend", [2, "symbol"], "BONK", r"\$\[2\]\.symbol.* must be a collateral asset of the venue"),
    ("borrow_lend", [1, "symbol"], "USDC", r"\$\[1\]\.symbol.* must not appear twice"),
    ("orders", [0, "side"], "Buy", r"\$\[0\]\.side"),
    ("orders", [0, "symbol"], "XRP_USDC_PERP", r"\$\[0\]\.symbol.* must be a perpetual market of the venue"),
    ("summary", ["leverageLimit"], None, r"\$\.leverageLimit"),
]


@pytest.mark.parametrize(("reply", "path", "value", "message"), WRONG)
def test_wrong_field_is_named_by_its_path(reply, path, value, message):
    replies = deepcopy(REPLIES)
    _at(replies[reply], path[:-1])[path[-1]] = value
    with pytest.raises(RiskDataError, match=message) as raised:
        backpack.load_account(venue(), **replies)
    assert raised.value.table == reply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markets": [BTC | {"imfFunction": {"type": "sqrt", "base": "0.1"}}]}, r"`factor` - at `\$\.markets\[0\]"),
        ({"markets": "nowhere.json"}, r"markets, value 'nowhere.json': cannot be read"),
        ({"markets": [SPOT]}, "at least one market of marketType PERP"),
        ({"collateral": [{"symbol": "SOL"}]}, r"`haircutFunction` - at `\$\.collateral\[0\]`"),
        ({"borrow_lend": [{"fee": "0"}]}, r"`symbol` - at `\$\[0\]`"),
        ({"borrow_lend": [POOL | {"fee": {}}]}, r"\$\.borrow_lend\[0\]\.fee"),
    ],
)
def test_wrong_venue_is_named_by_its_path(change, message):
    with pytest.raises(RiskDataError, match=message):
        backpack.load_venue(**({"markets": [BTC], "collateral": COLLATERAL} | change))


TOTALS = [
    ("netEquity", r"netEquity, value '.*': must be .*, assetsValue \+ pnlUnrealized"),
    ("assetsValue", r"assetsValue, value '.*': must be .*, the sum of collateralValue; an asset is missing"),
    ("unsettledEquity", r"netEquity, value '.*': must be "),
    ("netEquityAvailable", r"netEquityAvailable, value '.*': must be .*netEquity - netEquityLocked"),
    ("borrowLiability", r"netEquity, value|borrowLiability, value '.*': must be .*borrow_lend"),
]


@pytest.mark.parametrize(("field", "message"), TOTALS)
def test_totals_that_do_not_add_up_are_refused_with_both_figures(field, message):
    replies = deepcopy(REPLIES)
    replies["capital"][field] = str(D(replies["capital"][field]) + 5000)
    with pytest.raises(RiskDataError, match=message) as raised:
        backpack.load_account(venue(), **replies)
    assert raised.value.table == "capital"


@pytest.mark.parametrize("field", ["balanceNotional", "collateralValue"])
def test_values_of_an_asset_are_those_of_its_quantity(field):
    replies = deepcopy(REPLIES)
    replies["capital"]["collateral"][1][field] = "12"
    with pytest.raises(RiskDataError, match=rf"collateral\[1\]\.{field}, value '12': must be "):
        backpack.load_account(venue(), **replies)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["positions", "orders"], r"pnlUnrealized, value '.*': must be 0, .*that reply is missing"),
        (["borrow_lend"], r"borrowLiability, value '.*': must be 0, .*that reply is missing"),
    ],
)
def test_a_summary_that_says_what_no_other_reply_holds_is_refused(missing, message):
    replies = {name: reply for name, reply in REPLIES.items() if name not in missing}
    with pytest.raises(RiskDataError, match=message):
        backpack.load_account(venue(), **replies)
    capital = {key: sent for key, sent in REPLIES["capital"].items() if key not in ("pnlUnrealized", "borrowLiability")}
    if "positions" in missing:
        with pytest.raises(RiskDataError, match=r"marginFraction, value .*one of these replies is missing"):
            backpack.load_account(venue(), **replies | {"capital": capital})
