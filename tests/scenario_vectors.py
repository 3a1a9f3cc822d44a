"""Other systems' portfolios of scenario margin in the terms of riskcore.scenario: instruments, data of a tick, model.

The vectors are `derive.json` and `scenario_docs.json` of the folder of vectors; their notes give units and conventions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import riskcore as rc
from riskcore.reference import scenario as rules
from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model

NOW = 1_767_225_600 * 10**9  # 2026-01-01: the vectors count seconds to expiry
DERIVE_UNDERLYING = "INDEX"  # the vectors name none, and collateral of many names moves with it
VOLATILITY = {"Up": "up", "Down": "down", "None": "same", "LINEAR": "linear", "ABS": "abs"}


@dataclass
class Case:
    """One account: instruments, tick, model, sizes by symbol, orders, and `cash` in settle units."""

    name: str
    model: dict
    instruments: list = field(default_factory=list)
    time: int = NOW
    index: dict = field(default_factory=dict)
    marks: dict = field(default_factory=dict)
    volatilities: dict = field(default_factory=dict)
    terms: list = field(default_factory=list)
    underlyings: list = field(default_factory=list)
    asset_confidences: dict = field(default_factory=dict)
    funding: dict = field(default_factory=dict)
    stable_price: float = 1.0
    sizes: dict = field(default_factory=dict)
    orders: list = field(default_factory=list)
    cash: float = 0.0

    def hold(self, symbol: str, kind: str, size: float, underlying: str | None = None, **columns) -> None:
        """List an instrument and hold it."""
        self.instruments.append({"market": symbol, "kind": kind, "underlying": underlying, **columns})
        self.sizes[symbol] = size

    def frame(self) -> pd.DataFrame:
        """The table of instruments."""
        frame = pd.DataFrame(self.instruments)
        if "expiry" in frame:
            frame["expiry"] = [pd.NaT if pd.isna(x) else pd.Timestamp(x, tz="UTC") for x in frame["expiry"].tolist()]
        return frame

    def rules_instruments(self) -> list[rules.Instrument]:
        """The instruments as the oracle takes them."""
        return [
            rules.Instrument(
                row["market"],
                row["kind"],
                row["underlying"],
                row.get("expiry") or 0,
                row.get("strike"),
                row.get("right") or "",
                bool(row.get("settles_in_coin")),
                row.get("contract") or 1.0,
            )
            for row in self.instruments
        ]

    def rules_tick(self) -> rules.Tick:
        """The data of the tick as the oracle takes them."""
        terms = {}
        for row in self.terms:
            columns = {name: value for name, value in row.items() if name not in ("underlying", "expiry")}
            terms[row["underlying"], row["expiry"]] = rules.Term(**columns)

        def column(name):
            return {row["underlying"]: row[name] for row in self.underlyings if name in row}

        return rules.Tick(
            self.time,
            self.index,
            self.marks,
            terms,
            self.volatilities,
            column("confidence"),
            column("perpetual_confidence"),
            self.asset_confidences,
            self.funding,
            self.stable_price,
        )

    def by_the_rules(self) -> tuple[rules.Requirement, rules.Record]:
        """Requirement and table of record of the account, by the oracle."""
        instruments, tick = self.rules_instruments(), self.rules_tick()
        found = rules.record(self.model, instruments, tick)
        return rules.requirement(self.model, instruments, tick, found, self.sizes, self.orders), found

    def equity(self, value) -> float:
        """Net equity: cash, balances and options at their values of record (`value` by symbol)."""
        kinds = {row["market"]: row["kind"] for row in self.instruments}
        counted = [Fraction(self.cash)]
        counted += [
            Fraction(size) * Fraction(value[symbol])
            for symbol, size in self.sizes.items()
            if kinds[symbol] in ("OPTION", "SPOT")
        ]
        return float(sum(counted))


def decimal(x) -> str:
    """A number as a decimal string."""
    return str(x)


def less_one(x) -> str:
    """`x - 1` as a decimal string: the vectors give shocked prices as multiples."""
    return str(Decimal(str(x)) - 1)


def read_vectors(folder: Path, file: str) -> dict:
    """A file of vectors."""
    return json.loads((folder / file).read_text(encoding="utf-8"))


# ---- Derive, PMRM_2


def derive_model(parameters) -> dict:
    """The model of a set of parameters of PMRM_2."""
    margin, other = parameters["Margin"], parameters["OtherContingency"]
    shock, skew, basis = parameters["VolShock"], parameters["SkewShock"], parameters["BasisContingency"]

    def skewed(kind):
        return {
            "cbase": decimal(skew[f"{kind}_CBASE"]),
            "cap": decimal(skew[f"{kind}_SCALE_CAP"]),
            "min_k": decimal(skew["MIN_K_STAR"]),
            "width": decimal(skew["MIN_WIDTH_SCALE"]),
            "vol_static": decimal(skew["VOL_PARAM_STATIC"]),
            "vol_scale": decimal(skew["VOL_PARAM_SCALE"]),
        }

    return {
        "scenarios": [
            {
                "move": less_one(row["SpotShock"]),
                "vol": VOLATILITY[row["VolShockDirection"]],
                "weight": decimal(row["DampeningFactor"]),
            }
            for row in parameters["Scenarios"]
        ],
        "vol_shock": {
            "up": decimal(shock["VOLRANGEUP"]),
            "down": decimal(shock["VOLRANGEDOWN"]),
            "p_short": decimal(shock["SHORTTERMPOWER"]),
            "p_long": decimal(shock["LONGTERMPOWER"]),
            "dte_floor": decimal(shock["DTE_FLOOR"]),
            "min_vol": decimal(shock["MIN_VOL_EVAL_SHOCKED"]),
        },
        "skew": {"linear": skewed("LINEAR"), "abs": skewed("ABS")},
        "discount": {
            "base_long": decimal(margin["BASE_STATIC_DISCOUNT"]),
            "base_short": decimal(margin["BASE_STATIC_DISCOUNT_NEG"]),
            "rate_mult_long": decimal(margin["LONG_RATE_MULTSCALE"]),
            "rate_add_long": decimal(margin["LONG_RATE_ADDSCALE"]),
            "rate_mult_short": decimal(margin["SHORT_RATE_MULTSCALE"]),
            "rate_add_short": decimal(margin["SHORT_RATE_ADDSCALE"]),
        },
        "mm_factor": decimal(margin["MM_LOSS_FACTOR"]),
        "im_factor": decimal(margin["IM_LOSS_FACTOR"]),
        "rates": "not_negative",
        "contingencies": [
            {
                "kind": "basis",
                "up": less_one(basis["SCENARIO_SPOT_UP"]),
                "down": less_one(basis["SCENARIO_SPOT_DOWN"]),
                "add": decimal(basis["BASIS_CONT_ADD_FACTOR"]),
                "mult": decimal(basis["BASIS_CONT_MULT_FACTOR"]),
            },
            {"kind": "notional", "rate": decimal(other["MM_PERP_PERCENT"]), "enters": "mm"},
            {"kind": "notional", "rate": decimal(other["IM_PERP_PERCENT"]), "enters": "im"},
            {"kind": "option_short", "rate": decimal(other["MM_OPTION_PERCENT"]), "enters": "mm"},
            {"kind": "option_short", "rate": decimal(other["IM_OPTION_PERCENT"]), "enters": "im"},
            {
                "kind": "confidence",
                "threshold": decimal(other["CONF_THRESHOLD"]),
                "factor": decimal(other["CONF_MARGIN"]),
                "enters": "im",
            },
            {
                "kind": "depeg",
                "threshold": decimal(other["PEG_LOSS_THRESHOLD"]),
                "factor": decimal(other["PEG_LOSS_FACTOR"]),
                "enters": "im",
            },
        ],
    }


def derive_cases(folder: Path) -> list[tuple[Case, dict]]:
    """The portfolios of PMRM_2, with what upstream asserts of them."""
    vectors = read_vectors(folder, "derive.json")
    found = []
    for each in vectors["cases"]:
        parameters = json.loads(json.dumps(vectors["parameters_base"]))
        for path, value in each["inputs"]["parameters_diff"]:
            *folders, last = path
            place = parameters
            for name in folders:
                place = place[name]
            place[last] = value
        found.append((derive_case(each["id"], each["inputs"]["scenario"], derive_model(parameters)), each["expected"]))
    return found


def derive_case(name: str, given: dict, model: dict) -> Case:
    """One portfolio of PMRM_2.

    The value of collateral is its amount at its price over the price of the stable coin. Profit and loss of perpetuals
    and funding that are not yet settled count as cash.
    """
    case, u = Case(name, model), DERIVE_UNDERLYING
    case.cash = given["Cash"] + given["UnrealisedPerpPNL"] + given["UnrealisedFunding"]
    case.index[u], case.stable_price = given["SpotPrice"], given["StablePrice"]
    case.underlyings = [{"underlying": u, "confidence": given["SpotConfidence"]}]
    if given["NumPerps"]:
        case.hold("PERP", "PERP", given["NumPerps"], u)
        case.marks["PERP"] = given["PerpPrice"]
        case.underlyings[0]["perpetual_confidence"] = given["PerpConfidence"]
    model["collateral_in_scenarios"], model["haircuts"], model["collateral_underlying"] = [], {}, {}
    for row in given["Collaterals"]:
        asset = row["Name"]
        case.hold(asset, "SPOT", row["Amount"], u)
        case.marks[asset] = row["Price"] / given["StablePrice"]
        case.asset_confidences[asset] = row["Confidence"]
        model["collateral_underlying"][asset] = u
        model["haircuts"][asset] = {"mm": decimal(row["MMHaircut"]), "im": decimal(row["IMHaircut"])}
        if row["IsRiskCancelling"]:
            model["collateral_in_scenarios"].append(asset)
    for row in given["OptionFeeds"]:
        case.terms.append(
            {
                "underlying": u,
                "expiry": NOW + row["FeedExpiry"] * 10**9,
                "forward": row["Forward"],
                "rate": row["Rate"],
                "forward_confidence": row["ForwardConfidence"],
                "rate_confidence": row["RateConfidence"],
                "volatility_confidence": row["OptionVolConfidences"],
            }
        )
    for number, row in enumerate(given["Options"]):
        right = "C" if row["IsCall"] else "P"
        symbol = f"{number}-{row['Expiry']}-{row['Strike']}-{right}"
        expiry = NOW + row["Expiry"] * 10**9
        case.hold(symbol, "OPTION", row["Amount"], u, expiry=expiry, strike=row["Strike"], right=right)
        case.volatilities[symbol] = row["MarkVol"]
    return case


# ---- Derive, PMRM version 1


def first_derive_model() -> dict:
    """The model of PMRM version 1 in the vectors' configuration: the static charges are part of what IM multiplies."""
    moves = ("0.15", "0.1", "0.05", "0", "-0.05", "-0.1", "-0.15")
    return {
        "scenarios": [{"move": move, "vol": vol} for move in moves for vol in ("up", "same", "down")],
        "vol_shock": {"up": "0.45", "down": "0.3", "p_short": "0.3", "p_long": "0.13", "dte_floor": "1"},
        "discount": {"base_long": "0.95", "rate_mult_long": "4", "rate_add_long": "0.05"},
        "rates": "zero",
        "mm_factor": "1",
        "im_factor": "1.3",
        "collateral_in_scenarios": True,
        "contingencies": [
            {"kind": "basis", "up": "0.05", "down": "-0.05", "add": "0.25", "mult": "0.01"},
            {"kind": "notional", "rate": "0.02", "of": ["perpetuals", "spot"], "enters": "mm", "scaled": True},
            {"kind": "option_short", "rate": "0.01", "enters": "mm", "scaled": True},
            {"kind": "confidence", "threshold": "0.6", "factor": "0.5", "enters": "im"},
            {"kind": "depeg", "threshold": "0.98", "factor": "2", "enters": "im"},
        ],
    }


def first_derive_case(name: str, scenario: dict) -> Case:
    """One portfolio of PMRM version 1, from whole numbers of 18 decimals."""

    def read(value):
        return [read(each) for each in value] if isinstance(value, list) else float(Fraction(value, 10**18))

    times = ("OptionExpiries", "FeedExpiries")
    given = {name: value if name in times else read(value) for name, value in scenario.items()}
    case, u = Case(name, first_derive_model()), "ETH"
    case.cash = given["Cash"] + given["UnrealisedPerpPNL"] + given["UnrealisedFunding"]
    case.index[u], case.stable_price = given["SpotPrice"], given["StablePrice"]
    case.underlyings = [
        {"underlying": u, "confidence": given["SpotConfidence"], "perpetual_confidence": given["PerpConfidence"]}
    ]
    if given["Perps"]:
        case.hold("PERP", "PERP", given["Perps"], u)
        case.marks["PERP"] = given["PerpPrice"]
    if given["Base"]:
        case.hold("ETH", "SPOT", given["Base"], u)
        case.marks["ETH"] = given["SpotPrice"] / given["StablePrice"]
    for number, seconds in enumerate(given["FeedExpiries"]):
        fixed, variable = given["ForwardsFixed"][number], given["ForwardsVariable"][number]
        term = {"underlying": u, "expiry": NOW + seconds * 10**9, "rate": given["Rates"][number]}
        share = min(1, seconds / 1800)
        term |= {"forward": variable / share, "average": fixed / (1 - share) if share < 1 else None}
        term |= {"forward_confidence": given["ForwardConfidences"][number]}
        term |= {"rate_confidence": given["RateConfidences"][number]}
        term |= {"volatility_confidence": given["OptionVolConfidences"][number]}
        case.terms.append(term)
    for number, seconds in enumerate(given["OptionExpiries"]):
        right, strike = "C" if given["OptionIsCall"][number] else "P", given["OptionStrikes"][number]
        symbol, expiry = f"{number}-{seconds}-{strike}-{right}", NOW + seconds * 10**9
        case.hold(symbol, "OPTION", given["OptionAmounts"][number], u, expiry=expiry, strike=strike, right=right)
        case.volatilities[symbol] = given["OptionVols"][number]
    return case


# ---- Deribit


def buckets_case(name: str, given: dict) -> Case:
    """Inverse contracts: a position in base currency is that many coins at the index, in US dollars."""
    coin = given["settlement"]
    model = {
        "numeraire": coin,
        "inverse_base": "index",
        "grid": {"range": str(given["price_range"]), "steps": given["buckets"], "vols": ["up", "same", "down"]},
        "tails": [{"move": str(m), "vol": "up", "kappa": "1", "coin_tail": True} for m in given["extended_moves"]],
        "vol_shock": {"up": "0.5", "down": "0.25", "min_vol": "0.5"},
        "offset": {"alpha": str(given["pnl_offset"])},
        "dampener": str(given["extended_dampener_usd"]),
        "mm_factor": str(given["mm_factor"]),
        "round_worst": 9,
        "contingencies": [
            {
                "kind": "roll",
                "rate": str(given["min_annualised_move"]),
                "annual": str(given["annualised_move_risk"]),
                "scaled": True,
            }
        ],
    }
    case = Case(name, model, time=given["timestamp_ms"] * 10**6)
    case.index[coin] = given["index"]
    for symbol, size in given["position_base"].items():
        quote = size * given["index"]
        if symbol.endswith("PERPETUAL"):
            case.hold(symbol, "IPERP", quote, coin)
        else:
            expiry = pd.Timestamp(symbol.split("-")[1] + " 08:00", tz="UTC").value
            case.hold(symbol, "IDATED", quote, coin, expiry=expiry)
        case.marks[symbol] = given["marks"][symbol]
    return case


def net_short_case(name: str, given: dict) -> Case:
    """Charges of an older table: options by net short strike, and what offsets between futures, in coin."""
    model = {
        "numeraire": "BTC",
        "inverse_base": "index",
        "scenarios": [{"move": "0"}],
        "contingencies": [
            {"kind": "option_short", "rate": str(given["rate_btc"])},
            {"kind": "spread_delta", "rate": str(given["futures_rate"])},
        ],
    }
    case = Case(name, model)
    case.index["BTC"] = 60_000.0
    near, far = NOW + 30 * rules.DAY, NOW + 60 * rules.DAY
    for right, size in zip("CP", given["strike_positions"], strict=True):
        case.hold(right, "OPTION", size, "BTC", expiry=near, strike=60_000.0, right=right, settles_in_coin=True)
        case.volatilities[right] = 0.6
    case.terms = [{"underlying": "BTC", "expiry": expiry, "forward": 60_000.0} for expiry in (near, far)]
    for expiry, size in zip((near, far), given["futures"], strict=True):
        symbol = f"F{expiry}"
        case.hold(symbol, "IDATED", size * case.index["BTC"], "BTC", expiry=expiry)
        case.marks[symbol] = 60_000.0
    return case


# ---- SPAN, OKX


def array_case(name: str, arrays: dict, sizes: dict) -> Case:
    """Risk arrays that are given (gains of one contract): the moves of one linear instrument each, in one group."""
    length, price = len(next(iter(arrays.values()))), 10_000.0
    rows = [{"move": {u: str(Decimal(a[s]) / 10_000) for u, a in arrays.items()}} for s in range(length)]
    case = Case(name, {"scenarios": rows, "groups": [{"underlyings": list(arrays), "rule": "joint"}]})
    for u, size in sizes.items():
        case.hold(u, "PERP", size, u)
        case.index[u] = case.marks[u] = price
    return case


def scan_range_case(name: str, scan_range: float, multiple: float, cover: float) -> Case:
    """One future, its scenarios multiples of a price scan range that is an amount."""
    rows = []
    for range_ in ("0", "1/3", "-1/3", "2/3", "-2/3", "1", "-1"):
        rows += [{"ranges": range_, "vol": vol} for vol in ("up", "down")]
    rows += [{"ranges": str(sign * multiple), "vol": "same", "weight": str(cover)} for sign in (1, -1)]
    shock = {"up": "0.25", "down": "0.25"}
    case = Case(name, {"scenarios": rows, "scan_range": {"X": str(scan_range)}, "vol_shock": shock})
    case.hold("F", "DATED", 1.0, "X", expiry=NOW + 30 * rules.DAY)
    case.marks["F"] = case.index["X"] = 100_000.0
    return case


def unit_case(name: str, loss: float, spread: float, minimum: float, brackets=None) -> Case:
    """A risk unit of components given: a loss of the scenarios, a charge for spreads, a minimum for contracts."""
    rule = {"rate": str(minimum), "per": "contract"}
    model = {
        "scenarios": [{"move": "0.5"}, {"move": "-0.5"}],
        "contingencies": [{"kind": "spread_delta", "rate": str(spread), "scaled": True}],
        "minimum": rule | ({"brackets": brackets} if brackets else {}),
        "im_multiplier": "1.3",
    }
    case = Case(name, model, index={"X": 1.0})
    if loss:
        case.hold("PERP", "PERP", 1.0, "X")
        case.marks["PERP"] = 2.0 * loss
    else:  # half a contract against half a contract: one contract, no loss
        case.hold("PERP", "PERP", 0.5, "X")
        case.hold("FUTURE", "DATED", -0.5, "X", expiry=NOW + 365 * rules.DAY)
        case.marks |= {"PERP": 1.0, "FUTURE": 1.0}
        case.index["X"] = 2.0
    return case


# ---- Paradex


def grid_model(fee: float) -> dict:
    """The model of the configuration of 2026-04-22."""
    inner = [{"move": m, "vol": vol} for m in ("0.12", "0.08", "0.04", "0") for vol in ("up", "down")]
    inner += [{"move": m, "vol": vol} for m in ("-0.04", "-0.08", "-0.12") for vol in ("up", "down")]
    tails = {"-0.66": "0.18", "-0.33": "0.36", "0.5": "0.24", "1": "0.12", "2": "0.06", "3": "0.04", "4": "0.03"}
    return {
        "scenarios": [{"move": "0.16", "vol": "up"}, *inner, {"move": "-0.16", "vol": "up"}],
        "tails": [{"move": m, "vol": "up", "weight": w} for m, w in (tails | {"5": "0.024"}).items()],
        "vol_shock": {"up": "0.4", "down": "0.22", "min_vol": "0.4", "floor_down": False},
        "price_source": "mark",
        "forward_source": "spot",
        "window": "scale",
        "rates": "zero",
        "mm_factor": "0.5",
        "contingencies": [
            {"kind": "delta_floor", "hedged": "0.01", "unhedged": "0.02"},
            {"kind": "funding"},
            {"kind": "fee", "rate": str(fee), "cap": "0.125"},
        ],
    }


def grid_case(name: str, given: dict) -> Case:
    """An account of positions and orders with the market data of the venue's tests."""
    data = given["market_data"]
    case = Case(name, grid_model(next(iter(data.values()))["fee_rate"]), time=pd.Timestamp(given["now"]).value)
    sizes = dict(given["positions"])
    for symbol, row in data.items():
        coin = symbol.split("-")[0]
        case.index[coin] = row["underlying_price"]
        if symbol.endswith("-PERP"):
            case.hold(symbol, "PERP", sizes.get(symbol, 0.0), coin)
            case.funding[symbol] = row["funding_rate"] * row["underlying_price"]
        else:
            _, _, day, strike, right = symbol.split("-")
            expiry = pd.Timestamp(f"{day} 08:00", tz="UTC").value
            columns = {"expiry": expiry, "strike": float(strike), "right": right}
            case.hold(symbol, "OPTION", sizes.get(symbol, 0.0), coin, **columns)
            case.volatilities[symbol] = row["mark_iv"]
            case.terms = [{"underlying": coin, "expiry": expiry, "forward": row["underlying_price"]}]
        case.marks[symbol] = row["mark_price"]
    case.orders = [tuple(order) for order in given["orders"]]
    return case


def floor_case(name: str, deltas: list[float], spot: float, unhedged: float, hedged: float) -> Case:
    """Positions of given deltas: perpetuals and futures, whose delta is their size."""
    floor = {"kind": "delta_floor", "hedged": str(hedged), "unhedged": str(unhedged)}
    case = Case(name, {"scenarios": [{"move": "0"}], "contingencies": [floor]}, index={"BTC": spot})
    for number, delta in enumerate(deltas):
        case.hold(f"P{number}", "PERP", delta, "BTC")
        case.marks[f"P{number}"] = spot
    return case


def window_case(name: str, seconds: int, window: int) -> Case:
    """A long call that expires in some seconds, by a model that scales changes down in the settlement window."""
    model = {"scenarios": [{"move": "0.1"}, {"move": "-0.1"}], "window": "scale", "window_seconds": window}
    case, expiry = Case(name, model, index={"BTC": 60_000.0}), NOW + seconds * 10**9
    case.hold("C", "OPTION", 1.0, "BTC", expiry=expiry, strike=50_000.0, right="C")
    case.volatilities["C"] = 0.0  # the value is intrinsic, so a change of 6,000 is what is scaled
    case.terms = [{"underlying": "BTC", "expiry": expiry, "forward": 60_000.0}]
    return case


# ---- The same account in the engine's arrays


class Engine:
    """The instruments, the data of the tick and the table of record of a case, as riskcore.scenario has them."""

    def __init__(self, case: Case, model: dict | None = None):
        self.case = case
        self.instruments = Instruments.from_frame(case.frame())
        self.market = ScenarioMarket.read(
            self.instruments,
            case.time,
            index=case.index,
            marks=case.marks,
            volatilities=case.volatilities,
            terms=pd.DataFrame(case.terms) if case.terms else None,
            underlyings=pd.DataFrame(case.underlyings) if case.underlyings else None,
            asset_confidences=case.asset_confidences,
            funding=case.funding,
            stable_price=case.stable_price,
        )
        self.model = load_scenario_model(case.model if model is None else model)
        self.table = ScenarioTable.of(self.model, self.instruments, self.market)

    def portfolios(self, books: list[dict], orders: list | None = None) -> Portfolios:
        """One account for each book of sizes by symbol, every instrument listed in each; `orders` are those of all."""
        rows = [(n, symbol, size) for n, book in enumerate(books) for symbol, size in book.items()]
        return self.of_rows(rows, [(n, *order) for n in range(len(books)) for order in orders or []])

    def of_rows(self, positions: list[tuple], orders: list[tuple]) -> Portfolios:
        """Portfolios of rows of positions and of orders."""
        held = pd.DataFrame(positions, columns=["account", "market", "size"])
        placed = pd.DataFrame(orders, columns=["account", "market", "size", "price"]) if orders else None
        return Portfolios.from_frame(self.instruments, held, placed)[0]

    def requirements(self, books: list[dict], orders: list | None = None, threads: int | None = None):
        """The requirements of some books."""
        return self.table.requirements(self.portfolios(books, orders), threads=threads)


# ---- Both computations of one account


class Outcome(NamedTuple):
    """Requirements and equity of an account; of its group with the largest requirement the losses by scenario."""

    maintenance: float
    initial: float
    equity: float
    loss: float
    worst: int
    y: list
    basis: float
    groups: int


def by_the_rules(case: Case) -> Outcome:
    """The outcome by the oracle."""
    found, record = case.by_the_rules()
    group = found.groups[found.group] if found.groups else None
    y = [float(each) for each in group.y] if group else []
    basis = float(group.basis or 0) if group else 0.0
    amounts = (found.maintenance, found.initial, case.equity(record.value), group.loss if group else 0)
    return Outcome(*map(float, amounts), found.worst, y, basis, len(found.groups))


def by_the_engine(case: Case) -> Outcome:
    """The outcome by the arrays of riskcore.scenario."""
    if not case.instruments:
        return Outcome(0.0, 0.0, case.cash, 0.0, -1, [], 0.0, 0)
    engine = Engine(case)
    portfolios = engine.portfolios([case.sizes], case.orders)
    found = engine.table.requirements(portfolios)
    losses = engine.table.losses(portfolios, 0, 1)[0]
    y = losses[int(found.group[0])]
    count = len(engine.model.rows)
    value = dict(zip(engine.instruments.symbol, engine.table.value.tolist(), strict=True))
    amounts = (found.maintenance[0], found.initial[0], case.equity(value), found.group_loss[0])
    basis = float(y[count]) if len(y) > count else 0.0
    return Outcome(*map(float, amounts), int(found.worst[0]), y[:count].tolist(), basis, len(losses))


WAYS = [by_the_rules, by_the_engine]


# ---- The same account in a venue


SETTLE = "USDC"


def in_lots(size: float) -> tuple[str, Decimal]:
    """A step size, and a size as whole lots of it: all of its decimals, at most 16 digits."""
    exact = Decimal(str(size))
    places = max(0, min(-exact.as_tuple().exponent, 15 - exact.adjusted()))
    step = Decimal(1).scaleb(-places)
    return format(step, "f"), exact.quantize(step)


@dataclass
class Account:
    """A venue, an account of it with the id 1, and a tick."""

    venue: rc.Venue
    accounts: rc.Accounts
    tick: rc.Tick

    @classmethod
    def of(cls, case: Case) -> Account:
        """The account of a case in settle units: what is not held in an instrument is a balance of the settle asset."""
        haircut = {"weight": "1", "kind": {"type": "identity"}}
        markets, collateral = [], [{"symbol": SETTLE, "quantum": "0.000000001", "haircutFunction": haircut}]
        listed = {"market": "LISTED", "kind": "PERP", "underlying": next(iter(case.index))}  # a venue has a market
        steps, lots = {"LISTED": "1"}, {}
        for symbol, size in case.sizes.items():
            steps[symbol], lots[symbol] = in_lots(size)
        for row in [*case.instruments, listed]:
            symbol = row["market"]
            if row["kind"] == "SPOT":
                collateral.append({"symbol": symbol, "quantum": steps[symbol], "haircutFunction": haircut})
                continue
            market = {
                "symbol": symbol,
                "baseSymbol": row["underlying"],
                "quoteSymbol": "USD" if row["kind"].startswith("I") else SETTLE,
                "marketType": row["kind"],
                "filters": {"price": {"tickSize": "0.000001"}, "quantity": {"stepSize": steps[symbol]}},
            }
            market |= {name: str(row[name]) for name in ("strike", "right") if row.get(name) is not None}
            if row.get("expiry"):
                market["expiry"] = pd.Timestamp(row["expiry"], tz="UTC").isoformat()
            markets.append(market)
        venue = rc.load_venue(
            {
                "settle_asset": SETTLE,
                "markets": markets,
                "collateral": collateral,
                "policy": {"margin_model": "scenario"},
                "scenario_model": case.model,
            }
        )
        spot = {row["market"] for row in case.instruments if row["kind"] == "SPOT"}
        held = [
            (1, symbol, size, case.marks.get(symbol, 1.0))
            for symbol, size in lots.items()
            if size and symbol not in spot
        ]
        balances = [(1, SETTLE, Decimal(str(case.cash))), *((1, symbol, lots[symbol]) for symbol in sorted(spot))]
        accounts = rc.Accounts.from_frames(
            venue,
            pd.DataFrame(held, columns=["account", "market", "quantity", "entry_price"]),
            pd.DataFrame(balances, columns=["account", "asset", "quantity"]),
        )
        tick = rc.Tick(
            pd.Timestamp(case.time, tz="UTC"),
            {symbol: mark for symbol, mark in case.marks.items() if symbol not in spot}
            | {"LISTED": case.index[listed["underlying"]]},
            asset_prices={symbol: case.marks[symbol] for symbol in sorted(spot)},
            volatilities=case.volatilities,
            terms=case.terms,
            underlyings=[row | {"index": case.index[row["underlying"]]} for row in case.underlyings],
            asset_confidences=case.asset_confidences,
            stable_price=case.stable_price,
        )
        return cls(venue, accounts, tick)
