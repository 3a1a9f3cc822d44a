"""Random models of scenario margin, ticks and portfolios, as hypothesis strategies of `Case`."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from riskcore.reference import scenario as rules
from tests.scenario_vectors import NOW, Case

UNDERLYINGS = ("BTC", "ETH", "SOL")
PRICES = {"BTC": 60_000.0, "ETH": 2_500.0, "SOL": 140.0}
NEAR, FAR = NOW + 14 * rules.DAY, NOW + 75 * rules.DAY
SHOCK = {"up": "0.5", "down": "0.275", "min_vol": "0.45"}
BUCKETS = {"points": [["0", "0.5"], ["30", "0.35"], ["60", "0.25"]], "percent": [["0", "0.5"], ["60", "0.25"]]}
SKEW = {"cbase": "-0.05", "cap": "0.15", "min_k": "0.01", "width": "4", "vol_static": "0.6", "vol_scale": "-0.1"}
VOLS = ("up", "down", "same", "points_up", "points_down", "percent_up", "percent_down")


def decimals(low: str, high: str, places: int = 2):
    """Decimal strings between two bounds."""
    return st.decimals(Decimal(low), Decimal(high), places=places).map(str)


def numbers(low: float, high: float, places: int = 3):
    """Float64 numbers of few decimals."""
    return st.decimals(Decimal(str(low)), Decimal(str(high)), places=places).map(float)


sizes = st.one_of(st.integers(-5, 5).map(float), numbers(-9, 9))


@st.composite
def rows_of_scenarios(draw, underlyings, vols, most: int = 6) -> list[dict]:
    """Scenarios one by one, some of them twice, so that losses tie."""
    rows = []
    for _ in range(draw(st.integers(1, most))):
        move = draw(decimals("-0.9", "2"))
        row = {"move": move, "vol": draw(st.sampled_from(vols))}
        if draw(st.booleans()):
            row["weight"] = draw(decimals("0", "1.5"))
        if draw(st.integers(0, 5)) == 0:
            row["move"] = {u: draw(decimals("-0.9", "2")) for u in underlyings}
        kind = draw(st.integers(0, 9))
        if kind == 0:
            row["hours"], row["vol"] = draw(st.sampled_from(["24", "48"])), "same"
        elif kind == 1:
            row["vol"], row["vol_change"] = (
                draw(st.sampled_from(["relative", "absolute"])),
                draw(decimals("-0.4", "0.4")),
            )
        elif kind == 2:
            row["move"], row["ranges"] = "0", draw(st.sampled_from(["1/3", "-1", "2"]))
        rows.append(row)
        if draw(st.integers(0, 3)) == 0:
            rows.append(dict(row))
    return rows


@st.composite
def charges(draw, numeraire: str) -> list[dict]:
    """Some of the charges, in any order."""
    rate = decimals("0", "0.1", 4)
    level, scaled = st.sampled_from(["mm", "im"]), st.booleans()
    every = [
        {"kind": "notional", "rate": draw(rate), "at": draw(st.sampled_from(["index", "mark"]))},
        {"kind": "notional", "rate": draw(rate), "of": ["perpetuals", "futures", "spot"]},
        {"kind": "option_short", "rate": draw(rate)},
        {"kind": "confidence", "threshold": "0.55", "factor": draw(decimals("0", "2"))},
        {"kind": "roll", "rate": draw(rate), "annual": draw(decimals("0", "0.3"))},
        {"kind": "spread_delta", "rate": draw(rate), "annual": draw(st.booleans())},
        {"kind": "delta_shock", "threshold": draw(decimals("0", "90000")), "max": "0.1", "increment": draw(rate)},
        {"kind": "theta", "hours": "24"},
        {"kind": "funding"},
        {"kind": "fee", "rate": draw(rate), "cap": "0.125"},
        {"kind": "gamma", "rate": draw(rate), "hours": "400"},
    ]
    chosen = draw(st.permutations(every))[: draw(st.integers(0, 5))]
    found = [{**charge, "enters": draw(level), "scaled": draw(scaled)} for charge in chosen]
    for charge in found:
        concerned = draw(st.integers(0, 8))
        charge |= {"underlyings": ["BTC"]} if concerned == 0 else {"except_for": ["BTC"]} if concerned == 1 else {}
    if draw(st.integers(0, 2)) == 0:
        moves = {"up": draw(decimals("0.01", "0.3")), "down": draw(decimals("-0.3", "-0.01"))}
        found.append({"kind": "basis", **moves, "add": draw(decimals("0", "2")), "mult": draw(decimals("0", "4"))})
    if draw(st.integers(0, 3)) == 0:
        found.append({"kind": "depeg", "threshold": "0.98", "factor": draw(decimals("0", "4"))})
    if draw(st.integers(0, 3)) == 0:
        found.append({"kind": "delta_floor", "hedged": draw(rate), "unhedged": draw(rate)})
    return found


@st.composite
def models(draw, underlyings, numeraire: str = "settle", simple: bool = False) -> dict:
    """A model of the language; `simple`: positively homogeneous and convex."""
    discounted = draw(st.booleans())
    skewed = draw(st.booleans()) and not (simple and discounted)
    vols = [*VOLS, *(["linear", "abs"] if skewed else [])]
    model: dict = {"vol_shock": SHOCK | BUCKETS, "skew": {"linear": SKEW, "abs": SKEW}, "numeraire": numeraire}
    model["scan_range"] = {"BTC": "4000", "others": "20"}
    model["inverse_base"] = draw(st.sampled_from(["mark", "index"]))
    model["price_source"] = draw(st.sampled_from(["model", "model", "model", "mark"]))
    model["forward_source"] = draw(st.sampled_from(["forward", "forward", "forward", "spot"]))
    model["window"] = draw(st.sampled_from(["average", "scale", "none"]))
    if draw(st.booleans()):
        model["scenarios"] = draw(rows_of_scenarios(underlyings, vols))
    else:
        kinds = draw(st.lists(st.sampled_from(("up", "same", "down")), min_size=1, max_size=3, unique=True))
        model["grid"] = {"range": draw(decimals("0.1", "0.3")), "steps": draw(st.integers(1, 2)), "vols": kinds}
        tail = {"vol": "up", "coin_tail": numeraire != "settle"}
        moves = draw(st.lists(st.sampled_from(["-0.66", "-0.33", "0.5", "1", "3"]), max_size=3, unique=True))
        model["tails"] = [{"move": move, "kappa": draw(decimals("0", "1")), **tail} for move in moves]
    if draw(st.booleans()):
        model["moves"] = {u: draw(decimals("0.5", "1.1")) for u in underlyings[:1]}
    if discounted:
        model["discount"] = {
            "base_long": draw(decimals("0.8", "1")),
            "base_short": draw(decimals("1", "1.2")),
            "rate_mult_long": "1",
            "rate_add_long": "0.08",
            "rate_mult_short": "0.5",
            "rate_add_short": "0.08",
        }
    model["offset"] = {"alpha": draw(decimals("0", "1"))}
    model["mm_factor"], model["im_factor"] = draw(decimals("0.5", "1")), draw(decimals("0.8", "1.5"))
    model["rates"] = draw(st.sampled_from(["given", "zero", "not_negative"]))
    model["collateral_in_scenarios"] = draw(st.sampled_from([False, True, ["BTC"]])) if numeraire == "settle" else False
    if draw(st.booleans()):
        rule = draw(st.sampled_from(["joint", "groups"]))
        members = "all" if draw(st.booleans()) else list(underlyings[:2])
        alpha = {"alpha": draw(decimals("0", "1"))} if rule == "groups" else {}
        model["groups"] = [{"underlyings": members, "rule": rule, **alpha}]
    if simple:
        homogeneous = ("notional", "option_short", "roll", "theta", "funding", "fee", "basis")
        model["contingencies"] = [row for row in draw(charges(numeraire)) if row["kind"] in homogeneous]
        return model
    model["contingencies"] = draw(charges(numeraire))
    if "discount" in model and draw(st.booleans()):
        model["discount"] |= {"base_long": draw(decimals("1", "1.2")), "base_short": draw(decimals("0.8", "1"))}
    if draw(st.integers(0, 3)) == 0:
        model["offset"]["cap"] = draw(decimals("0", "5000"))
    if "grid" in model and draw(st.booleans()):
        model["dampener"] = draw(decimals("0", "5000"))
    if "scenarios" in model and draw(st.integers(0, 3)) == 0:
        model["scenarios"][0]["dampener"] = draw(decimals("0", "5000"))
    if draw(st.integers(0, 3)) == 0:
        model["im_scenarios"] = draw(rows_of_scenarios(underlyings, vols, 3))
    if draw(st.integers(0, 3)) == 0:
        model["minimum"] = {
            "rate": draw(decimals("0", "500")),
            "per": draw(st.sampled_from(["contract", "short_option"])),
            "level": draw(st.sampled_from(["group", "account"])),
        }
        if draw(st.booleans()):
            model["minimum"]["brackets"] = [["100", "1"], ["700", "2"], [None, draw(st.sampled_from(["4", "1"]))]]
    if draw(st.integers(0, 3)) == 0:
        model["measure"] = {
            "kind": draw(st.sampled_from(["var", "es"])),
            "alpha": draw(st.sampled_from(["0.5", "0.75", "0.9"])),
            "buffer": draw(st.sampled_from(["0", "0.25"])),
        }
    if "measure" in model and "scenarios" in model and "im_scenarios" not in model and draw(st.booleans()):
        model["scenarios"][-1]["set"] = "stress"
        model["scenarios"].insert(0, {"move": draw(decimals("-0.5", "0.5")), "probability": "0.4"})
        for row in model["scenarios"]:
            row.setdefault("probability", "0.2")
        model["measure"]["stressed_share"] = "0.25"
    if numeraire == "settle" and draw(st.integers(0, 4)) == 0:
        legs = [{"underlying": u, "side": side, "delta": n} for u, side, n in (("BTC", "A", "1"), ("ETH", "B", "20"))]
        tiers = [{"tier": tier, "delta": draw(st.sampled_from(["1", "2"]))} for tier in (0, 1)]
        model["spreads"] = {
            "tiers": [draw(st.sampled_from(["10", "30"]))],
            "intra": [{"underlying": "BTC", "legs": tiers, "charge": draw(decimals("0", "900"))}],
            "inter": [{"legs": legs, "rate": draw(decimals("0", "1"))}] if len(underlyings) > 1 else [],
            "short_option_minimum": draw(decimals("0", "900")),
            "som_count": draw(st.sampled_from(["larger", "sum"])),
        }
    if draw(st.integers(0, 5)) == 0:
        model["round_worst"] = draw(st.integers(0, 3))
    if draw(st.integers(0, 5)) == 0:
        model["im_multiplier"] = "1.3"
    haircut = {"mm": draw(decimals("0", "0.3")), "im": draw(decimals("0", "0.2"))}
    model["haircuts"] = {"BTC": haircut, "USDX": haircut}
    model["collateral_underlying"] = {"LBTC": "BTC"}
    return model


@st.composite
def cases(draw, simple: bool = False, options: bool = True, orders: bool = True) -> Case:
    """An account with a model and a tick; every instrument is listed, about half of them are held."""
    numeraire = "BTC" if draw(st.integers(0, 4)) == 0 else "settle"
    underlyings = UNDERLYINGS[: 1 if numeraire == "BTC" else draw(st.integers(1, 3))]
    case = Case("drawn", draw(models(underlyings, numeraire, simple)))
    confidences = st.sampled_from([1.0, 0.8, 0.55, 0.4])
    near = draw(st.sampled_from([NEAR, NEAR, NEAR, NOW + 600 * 10**9]))
    for u in underlyings:
        price = PRICES[u]
        case.index[u] = price * draw(st.sampled_from([1.0, 0.997, 1.004]))
        row = {"underlying": u, "confidence": draw(confidences), "perpetual_confidence": draw(confidences)}
        case.underlyings.append(row)
        kinds = {"P": ("PERP", 0), "F1": ("DATED", near), "F2": ("DATED", FAR)} if numeraire == "settle" else {}
        kinds |= {"I": ("IPERP", 0), "IF": ("IDATED", FAR)}
        for name, (kind, expiry) in kinds.items():
            size = draw(sizes)
            if kind.startswith("I"):
                size *= price
            case.hold(f"{u}-{name}", kind, size, u, **({"expiry": expiry} if expiry else {}))
            case.marks[f"{u}-{name}"] = price * draw(st.sampled_from([1.0, 1.001, 0.998]))
            if not expiry:
                case.funding[f"{u}-{name}"] = draw(numbers(-1, 1, 2))
        for expiry in (near, FAR):
            term = {"underlying": u, "expiry": expiry, "forward": price * draw(st.sampled_from([1.0, 1.003]))}
            term |= {"rate": draw(st.sampled_from([0.05, 0.0, -0.02])), "forward_confidence": draw(confidences)}
            if draw(st.booleans()):
                term["average"] = price * draw(st.sampled_from([0.99, 1.01]))
            case.terms.append(term)
            for strike, right in ((price, "C"), (price, "P"), (1.125 * price, "C")) if options else ():
                symbol = f"{u}-{expiry}-{strike}-{right}"
                columns = {"expiry": expiry, "strike": strike, "right": right}
                columns["settles_in_coin"] = numeraire != "settle"
                case.hold(symbol, "OPTION", draw(sizes), u, **columns)
                case.volatilities[symbol] = draw(st.sampled_from([0.3, 0.6, 0.9]))
                case.marks[symbol] = 0.05 * (1.0 if numeraire != "settle" else price)
    if numeraire == "settle":
        for asset, price in {"BTC": PRICES["BTC"], "LBTC": PRICES["BTC"] * 0.999, "USDX": 1.0}.items():
            case.hold(asset, "SPOT", draw(sizes), "BTC" if asset == "BTC" else None)
            case.marks[asset] = price
            case.asset_confidences[asset] = draw(confidences)
    case.stable_price = draw(st.sampled_from([1.0, 0.97]))
    for symbol in list(case.sizes):
        if draw(st.booleans()):
            case.sizes[symbol] = 0.0
    if orders and draw(st.booleans()):
        traded = [row for row in case.instruments if row["kind"] != "SPOT"]
        for row in draw(st.lists(st.sampled_from(traded), max_size=3)):
            limit = PRICES[row["underlying"]]
            if row["kind"] == "OPTION":
                limit = 0.05 if numeraire != "settle" else 0.05 * limit
            size = draw(sizes) * (PRICES[row["underlying"]] if row["kind"].startswith("I") else 1)
            if size:
                case.orders.append((row["market"], size, limit * draw(st.sampled_from([0.9, 1.0, 1.1]))))
    return case
