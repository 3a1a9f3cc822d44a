"""The printed numbers of worked examples of scenario margin, by the rules in plain Python and by the engine."""

from __future__ import annotations

from fractions import Fraction

import pytest

from riskcore.reference import scenario as rules
from tests.scenario_vectors import WAYS, Case, array_case, buckets_case, grid_model

DAY = rules.DAY
TAILS = ("-0.66", "-0.33", "0.5", "1", "2", "3")
SKEW = {"cbase": "-0.05", "cap": "0.15", "min_k": "0.01", "width": "4", "vol_static": "0.6", "vol_scale": "-0.1"}
DV = {
    "scenarios": [
        {"move": "0.18", "vol": "up"},
        *(
            {"move": move, "vol": vol}
            for move in ("0.135", "0.09", "0.045", "0", "-0.045", "-0.09", "-0.135")
            for vol in ("down", "same", "up")
        ),
        {"move": "-0.18", "vol": "up"},
        *({"move": move, "vol": "up", "weight": str(0.036 / abs(float(move)))} for move in TAILS),
        {"move": "0", "vol": "linear"},
        {"move": "0", "vol": "abs"},
    ],
    "vol_shock": {"up": "0.5", "down": "0.275", "min_vol": "0.45"},
    "skew": {"linear": SKEW, "abs": SKEW},
    "mm_factor": "0.8",
}
"""The set of Derive: 23 scenarios, 6 tails whose weight is 0.036 over the move, two skews."""

BG = {
    "grid": {"range": "0.16", "steps": 4, "vols": ["up", "same", "down"]},
    "tails": [{"move": move, "vol": "up", "kappa": "1"} for move in (*TAILS, "4", "5")],
    "vol_shock": {"up": "0.5", "down": "0.25", "min_vol": "0.5"},
}
"""The bucket grid: 27 scenarios and 8 tails."""


def printed(x: float, digits: int) -> str:
    """A number as the examples print it."""
    return f"{x:,.{digits}f}"


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def way(request):
    """One of the computations."""
    return request.param


def bitcoin(model: dict, index: float = 60_000.0, **figures) -> Case:
    """An empty account on one underlying."""
    return Case("example", model, index={"BTC": index}, **figures)


def hold_linear(case: Case, symbol: str, size: float, price: float, days: int = 0, kind: str = "") -> Case:
    """Hold a perpetual, or a future of some days."""
    expiry = {"expiry": case.time + days * DAY} if days else {}
    case.hold(symbol, kind or ("DATED" if days else "PERP"), size, "BTC", **expiry)
    case.marks[symbol] = price
    return case


def hold_option(case: Case, size: float, right: str, strike: float, days: float, sigma: float, **term) -> Case:
    """Hold an option; `term` is what the tick gives of its expiry."""
    expiry = case.time + round(days * 86_400) * 10**9
    symbol = f"{right}-{strike}-{days}"
    case.hold(symbol, "OPTION", size, "BTC", expiry=expiry, strike=strike, right=right)
    case.volatilities[symbol] = sigma
    if all(row["expiry"] != expiry for row in case.terms):
        case.terms.append({"underlying": "BTC", "expiry": expiry, "forward": 60_000.0} | term)
    return case


def test_a_perpetual_alone(way):
    """E-S4: every downward tail loses the same, so the edge of the range binds."""
    model = DV | {"contingencies": [{"kind": "notional", "rate": "0.015"}]}
    found = way(hold_linear(bitcoin(model), "PERP", 0.4, 60_000.0))
    assert printed(-found.loss, 2) == "-4,320.00"
    assert found.worst == 22
    assert printed(found.maintenance, 2) == "3,816.00"
    assert printed(100 * found.maintenance / 4_600, 6) == "82.956522"
    assert [printed(found.y[s], 2) for s in (23, 24)] == ["-864.00", "-864.00"]


def test_a_perpetual_against_a_future(way):
    """E-S5: what is left is the basis, and without a roll charge the spread is almost free."""

    def requirement(perpetual, future, charges):
        case = bitcoin(DV | {"contingencies": charges})
        hold_linear(case, "PERP", perpetual, 60_000.0)
        return way(hold_linear(case, "FUTURE", future, 60_600.0, 60))

    notional = [{"kind": "notional", "rate": "0.015", "of": ["perpetuals", "futures"], "at": "mark"}]
    hedged = requirement(0.4, -0.4, notional)
    assert printed(-hedged.loss, 2) == "-43.20"
    assert hedged.worst == 0
    assert printed(hedged.maintenance - 0.8 * hedged.loss, 2) == "723.60"
    assert printed(hedged.maintenance, 2) == "758.16"
    alone = requirement(0.4, 0.0, notional).maintenance + requirement(0.0, -0.4, notional).maintenance
    assert printed(alone, 2) == "7,670.16"
    assert printed(alone - hedged.maintenance, 2) == "6,912.00"
    roll = requirement(0.4, -0.4, [{"kind": "roll", "rate": "0.01", "annual": "0.075"}])
    assert printed(roll.maintenance - 0.8 * roll.loss, 6) == "537.721912"


def straddle() -> Case:
    """E-S6: 15,000, a short straddle of 14 days, all the rules of Derive."""
    charges = [
        {"kind": "basis", "up": "0.045", "down": "-0.045", "add": "0.5", "mult": "2"},
        {"kind": "notional", "rate": "0.015"},
        {"kind": "notional", "rate": "0.005", "enters": "im"},
        {"kind": "option_short", "rate": "0.003"},
        {"kind": "option_short", "rate": "0.002", "enters": "im"},
        {"kind": "confidence", "threshold": "0.55", "factor": "1", "enters": "im"},
        {"kind": "depeg", "threshold": "0.98", "factor": "2", "enters": "im"},
    ]
    discount = {
        "base_long": "0.95",
        "rate_mult_long": "1",
        "rate_add_long": "0.08",
        "base_short": "1.04",
        "rate_mult_short": "0.5",
        "rate_add_short": "0.08",
    }
    case = bitcoin(DV | {"contingencies": charges, "discount": discount, "rates": "not_negative"}, cash=15_000.0)
    for right in "CP":
        hold_option(case, -1.0, right, 60_000.0, 14, 0.55, forward=60_300.0, rate=0.05)
    return case


def test_a_short_straddle(way):
    """E-S6: discounts, basis, skews, charges, and what is left of equity."""
    found = way(straddle())
    assert printed(found.equity - 15_000, 6) == "-5,162.712303"
    assert printed(-found.loss, 6) == "-8,000.151925"
    assert found.worst == 0
    assert printed(found.y[22], 6) == "-6,691.656707"
    assert printed(found.basis, 6) == "-372.938938"
    assert [printed(found.y[s], 6) for s in (29, 30)] == ["-1.980080", "-17.841095"]
    assert printed(found.maintenance - 0.8 * found.loss, 2) == "360.00"
    assert printed(found.initial - found.loss - 360, 2) == "240.00"
    assert printed(found.equity, 6) == "9,837.287697"
    assert printed(found.maintenance, 6) == "6,760.121540"
    assert printed(found.initial, 6) == "8,600.151925"
    assert printed(100 * found.maintenance / found.equity, 6) == "68.719364"
    assert printed(100 * found.initial / found.equity, 6) == "87.424016"
    assert printed(found.equity - found.maintenance, 6) == "3,077.166157"


def ratio_spread(model: dict) -> Case:
    """E-S7: +1 call 65,000 and -3 calls 75,000 of 30 days."""
    case = hold_option(bitcoin(model), 1.0, "C", 65_000.0, 30, 0.6)
    return hold_option(case, -3.0, "C", 75_000.0, 30, 0.6)


def test_what_tails_do(way):
    """E-S7: a ratio spread loses most far outside of the grid."""
    found = way(ratio_spread(BG))
    assert printed(found.equity, 6) == "656.573514"
    assert (printed(-found.loss, 6), found.worst) == ("-17,941.010353", 34)
    tails = ["-9,161.58", "-13,052.30", "-16,053.14", "-17,101.69", "-17,626.26", "-17,941.01"]
    assert [printed(x, 2) for x in found.y[29:]] == tails
    grid = way(ratio_spread(BG | {"tails": []}))
    assert (printed(-grid.loss, 6), grid.worst) == ("-6,294.982430", 24)
    damped = way(ratio_spread(BG | {"tails": [row | {"kappa": "0.2"} for row in BG["tails"]]}))
    assert (printed(-damped.loss, 6), damped.worst) == ("-6,294.982430", 24)


def test_a_calendar_spread(way):
    """E-S8: the volatility of the near leg moves more."""

    def spread(near, far):
        case = hold_option(bitcoin(BG | {"tails": []}), near, "C", 60_000.0, 7, 0.60)
        return way(hold_option(case, far, "C", 60_000.0, 60, 0.55))

    found, near, far = spread(-1.0, 1.0), spread(-1.0, 0.0), spread(0.0, 1.0)
    assert printed(found.equity, 6) == "3,338.311411"
    assert (printed(-found.loss, 6), found.worst) == ("-2,571.989160", 2)
    assert [printed(found.y[s], 6) for s in (24, 12, 14)] == ["290.318091", "879.629890", "-444.494358"]
    assert [printed(-leg.loss, 6) for leg in (near, far)] == ["-8,393.186887", "-4,560.104714"]
    assert printed(near.loss + far.loss - found.loss, 6) == "10,381.302440"


def test_inverse_contracts_in_two_numeraires(way):
    """E-S9: short 60,000 dollars of the inverse perpetual against one coin, in coin and in dollars."""
    model = {"scenarios": [{"move": "-0.16"}, {"move": "0.16"}]}

    def changes(numeraire, size):
        case = bitcoin(model | {"numeraire": numeraire, "collateral_in_scenarios": numeraire == "settle"})
        hold_linear(case, "INVERSE", size, 60_000.0, kind="IPERP")
        if numeraire == "settle":
            case.hold("BTC", "SPOT", 1.0, "BTC")
            case.marks["BTC"] = 60_000.0
        return way(case).y

    assert [printed(x, 10) for x in changes("BTC", -60_000.0)] == ["0.1904761905", "-0.1379310345"]
    assert [printed(x, 2).lstrip("-") for x in changes("settle", -60_000.0)] == ["0.00", "0.00"]
    assert [printed(x, 2) for x in changes("settle", 60_000.0)] == ["-19,200.00", "19,200.00"]


def test_the_printed_reply_of_deribit(way):
    """E-S9: coins at the index, no gain counts, the worst is rounded before the roll charge joins it."""
    given = {
        "settlement": "BTC",
        "index": 65666.19,
        "marks": {"BTC-PERPETUAL": 65910.57, "BTC-28JUN24": 67371.75},
        "price_range": 0.16,
        "buckets": 4,
        "extended_moves": [-0.66, -0.33, 0.5, 1, 2, 3, 4, 5],
        "pnl_offset": 0,
        "min_annualised_move": 0.01,
        "annualised_move_risk": 0.075,
        "mm_factor": 0.8,
        "extended_dampener_usd": 100000,
        "timestamp_ms": 1718619740501,
    }
    positions = {"BTC-PERPETUAL": 0.314538364, "BTC-28JUN24": -0.001187534}
    found = way(buckets_case("reply", given | {"position_base": positions}))
    assert printed(found.y[0], 14) == "-0.05968587238095"
    assert printed(found.initial, 11) == "0.06284313098"
    assert printed(found.initial - found.loss, 11) == "0.00315725898"
    assert printed(found.maintenance, 12) == "0.050274504784"
    assert printed(found.initial + 0.06 + 0.000018212, 9) == "0.122861343"
    for symbol, size, low in (("BTC-PERPETUAL", 0.314538364, "-0.05991206933333"), ("BTC-28JUN24", -0.001187534, "")):
        alone = given | {"position_base": {symbol: size}, "extended_dampener_usd": 0, "pnl_offset": 1}
        y = way(buckets_case("alone", alone)).y
        assert printed(y[0], 14) == (low or "0.00022619695238")
        assert not low or printed(y[27], 14) == low


def test_two_underlyings(way):
    """E-S10: joint, group with a share of gains, and separate."""

    def requirement(groups):
        case = Case("pair", {"scenarios": BUCKETS, "groups": groups}, index={"BTC": 60_000.0, "ETH": 2_500.0})
        for symbol, size in (("BTC", 1.0), ("ETH", -24.0)):
            case.hold(f"{symbol}-PERP", "PERP", size, symbol)
            case.marks[f"{symbol}-PERP"] = case.index[symbol]
        return way(case).maintenance

    both = {"underlyings": ["BTC", "ETH"]}
    assert printed(requirement([both | {"rule": "joint"}]), 2) == "1,200.00"
    assert printed(requirement([both | {"rule": "groups", "alpha": "0.6"}]), 2) == "5,040.00"
    assert printed(requirement([both | {"rule": "groups", "alpha": "0"}]), 2) == "10,800.00"
    assert printed(requirement([]), 2) == "20,400.00"


BUCKETS = [{"move": {"BTC": f"{0.04 * k:.2f}", "ETH": f"{0.045 * k:.3f}"}} for k in range(-4, 5)]


def test_risk_arrays(way):
    """E-S11: a future, a call and a covered call by given risk arrays."""
    thirds = [0, 0, 3330, 3330, -3330, -3330, 6670, 6670, -6670, -6670, 10000, 10000, -10000, -10000, 7000, -7000]
    call = [460, -610, 2640, 1730, -1270, -2340, 5210, 4540, -2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500]
    arrays = {"F": thirds, "C": call}

    def requirement(**sizes):
        found = way(array_case("arrays", {u: arrays[u] for u in sizes}, sizes))
        return printed(found.maintenance, 0), found.worst

    assert requirement(F=1.0)[0] == "10,000"
    assert requirement(C=1.0)[0] == "3,990"
    assert requirement(C=-1.0)[0] == "8,060"
    assert requirement(F=1.0, C=-1.0) == ("6,620", 12)


def test_spreads_of_span(way):
    """E-S11: a charge between near and far, a credit between two underlyings; a price scan range is an amount."""
    legs = [{"underlying": "BTC", "side": "A", "delta": "1"}, {"underlying": "ETH", "side": "B", "delta": "20"}]
    tiers = [{"tier": 0}, {"tier": 1}]
    spreads = {
        "tiers": ["45"],
        "intra": [{"underlying": "BTC", "legs": tiers, "charge": "900"}],
        "inter": [{"legs": legs, "rate": "0.6"}],
    }

    def requirement(near, far, eth, spreads=None):
        rows = [{"ranges": range_} for range_ in ("0", "1", "-1")]
        model = {"scenarios": rows, "scan_range": {"BTC": "9000", "ETH": "400"}} | (
            {"spreads": spreads} if spreads else {}
        )
        case = bitcoin(model)
        case.index["ETH"] = 2_500.0
        hold_linear(case, "NEAR", near, 60_000.0, 30)
        hold_linear(case, "FAR", far, 60_000.0, 60)
        case.hold("ETH-NEAR", "DATED", eth, "ETH", expiry=case.time + 30 * DAY)
        case.marks["ETH-NEAR"] = 2_500.0
        return way(case).maintenance

    only_intra = spreads | {"inter": []}
    assert printed(requirement(10.0, -6.0, 0.0), 0) == "36,000"
    assert printed(requirement(10.0, -6.0, 0.0, only_intra) - 36_000, 0) == "5,400"
    assert printed(requirement(0.0, 0.0, -50.0), 0) == "20,000"
    both = requirement(10.0, -6.0, -50.0, only_intra) - requirement(10.0, -6.0, -50.0, spreads)
    assert printed(both, 0) == "25,500"  # 13,500 and 12,000
    assert printed(requirement(10.0, -6.0, -50.0, spreads), 0) == "35,900"


def test_ten_points(way):
    """E-S12: ten equidistant points, a product group, a minimum per contract."""
    points = [{"move": str(Fraction(-15, 100) + Fraction(30, 900) * k)} for k in range(10)]
    assert printed(100 * float(Fraction(points[1]["move"])), 6) == "-11.666667"

    def requirement(a, b, groups):
        model = {"scenarios": points, "groups": groups, "minimum": {"rate": "37.5", "level": "group"}}
        case = Case("points", model, index={"A": 100.0, "B": 120.0})
        for symbol, contracts in (("A", a), ("B", b)):
            case.hold(f"{symbol}-PERP", "PERP", 100.0 * contracts, symbol, contract=100.0)
            case.marks[f"{symbol}-PERP"] = case.index[symbol]
        return printed(way(case).maintenance, 2)

    assert requirement(10.0, 0.0, []) == "15,000.00"
    assert requirement(0.0, -8.0, []) == "14,400.00"
    both = {"underlyings": "all"}
    assert requirement(10.0, -8.0, [both | {"rule": "groups", "alpha": "0.9"}]) == "2,040.00"
    assert requirement(10.0, -8.0, [both | {"rule": "joint"}]) == "675.00"


def hedged_calls(sold: float) -> Case:
    """E-S13: a perpetual against three short calls, some of the perpetual sold."""
    case = hold_linear(bitcoin(BG | {"mm_factor": "0.8"}, cash=19_000.0), "PERP", 2.0 - sold, 60_000.0)
    return hold_option(case, -3.0, "C", 66_000.0, 30, 0.6)


@pytest.mark.parametrize(
    ("sold", "requirement", "worst", "ratio"),
    [
        (0.0, "14,218.3847", 27, "108.4253"),
        (0.25, "12,298.3847", 27, "93.7839"),
        (0.465, "10,647.1847", None, None),
        (0.5, "10,908.5064", 34, "83.1851"),
        (1.0, "14,748.5064", 34, "112.4678"),
        (1.5, "18,588.5064", 34, "141.7506"),
        (2.0, "22,428.5064", 34, "171.0333"),
    ],
)
def test_the_worst_scenario_changes(way, sold, requirement, worst, ratio):
    """E-S13: selling the hedge lowers the requirement, then raises it again."""
    found = way(hedged_calls(sold))
    assert printed(found.equity, 6) == "13,113.531092"
    assert printed(found.maintenance, 4) == requirement
    assert worst in (None, found.worst)
    assert ratio in (None, printed(100 * found.maintenance / found.equity, 4))


def test_tiers(way):
    """E-S15: a minimum scaled tier by tier, and the larger of it and the loss; 1.3 times that is initial."""
    tiers = [["10000", "1"], ["70000", "2"], ["170000", "4"], ["300000", "6"], ["470000", "8"], ["700000", "10"]]

    def requirement(raw, loss, brackets=None):
        rule = {"rate": str(raw), "brackets": brackets} if brackets else {"rate": str(raw)}
        model = {"scenarios": [{"move": "0.5"}, {"move": "-0.5"}], "minimum": rule, "im_multiplier": "1.3"}
        return way(hold_linear(bitcoin(model), "PERP", 1.0, 2.0 * loss))

    found = requirement(30_000, 40_000.0, [*tiers, [None, "12"]])
    assert printed(found.maintenance, 0) == "50,000"
    assert printed(found.initial, 0) == "65,000"
    assert printed(requirement(500_000, 1.0, [*tiers, [None, "12"]]).maintenance, 0) == "2,970,000"
    assert printed(requirement("3020.87", 1.0).maintenance, 2) == "3,020.87"
    assert printed(requirement("3020.17", 8053.32).maintenance, 2) == "8,053.32"


def test_a_delta_floor(way):
    """E-S16: the least loss by net and hedged delta, and a scan with funding."""
    floor = {"kind": "delta_floor", "hedged": "0.01", "unhedged": "0.02"}
    case = bitcoin({"scenarios": [{"move": "0"}], "contingencies": [floor]}, 70_000.0)
    hold_linear(case, "LONG", 1.0, 70_000.0)
    assert printed(way(hold_linear(case, "SHORT", -1.5, 70_000.0)).maintenance, 0) == "1,400"
    scan = bitcoin(grid_model(0.0), 77_939.768, time=1_776_816_000 * 10**9)  # 2026-04-22 00:00 UTC
    hold_linear(scan, "PERP", -0.0005, 77_888.84)
    hold_option(scan, 0.001, "C", 78_000.0, 16 + 1 / 3, 0.42746687, forward=77_939.768)
    scan.funding["PERP"] = -0.00017403 * 77_939.768
    scan.marks["C-78000.0-16.333333333333332"] = 2455.661
    found = way(scan)
    assert (printed(-found.loss, 5), found.worst) == ("-0.41589", 8)
    assert printed(found.initial - found.loss, 6) == "0.006782"
    assert printed(found.initial, 4) == "0.4227"
    assert printed(found.maintenance, 4) == "0.2147"


def test_losses_of_a_history(way):
    """E-S17: value at risk and expected shortfall, equal weights and weights that fall with age."""
    losses = (120, -40, 300, 15, -75, 210, 60, -10, 95, 180)

    def loss(kind, alpha, decay=None):
        rows = [{"move": str(-each / 1000)} for each in losses]
        for age, row in enumerate(rows):
            row |= {"probability": str(Fraction(9, 10) ** age if decay else Fraction(1, 10))}
        if decay:
            total = sum(Fraction(9, 10) ** age for age in range(10))
            for age, row in enumerate(rows):
                row["probability"] = str(float(Fraction(9, 10) ** age / total))
        model = {"scenarios": rows, "measure": {"kind": kind, "alpha": alpha}}
        return way(hold_linear(bitcoin(model, 1_000.0), "PERP", 1.0, 1_000.0)).loss

    assert printed(loss("var", "0.9"), 2) == "210.00"
    assert printed(loss("es", "0.9"), 2) == "300.00"
    assert printed(loss("var", "0.85"), 2) == "210.00"
    assert printed(loss("es", "0.85"), 2) == "270.00"
    assert printed(loss("var", "0.85", decay=True), 2) == "210.00"
    assert printed(loss("es", "0.85", decay=True), 4) == "284.6175"


def test_a_settlement_window(way):
    """E-S19: 600 seconds before expiry two thirds of the price are fixed."""
    model = {"scenarios": [{"move": "0.18", "vol": "up"}], "vol_shock": DV["vol_shock"]}
    found = way(hold_option(bitcoin(model), -1.0, "C", 59_000.0, 600 / 86_400, 0.5))
    assert printed(found.equity, 6) == "-1,000.000000"
    assert printed(found.y[0], 6) == "-3,600.000000"


def test_confidence_and_a_depegged_stable_coin(way):
    """E-S20: charges on feeds that are not sure, and a larger factor of the loss."""
    charges = [
        {"kind": "notional", "rate": "0.015"},
        {"kind": "notional", "rate": "0.005", "enters": "im"},
        {"kind": "confidence", "threshold": "0.55", "factor": "1", "enters": "im"},
        {"kind": "depeg", "threshold": "0.98", "factor": "2", "enters": "im"},
    ]
    model = {"scenarios": [{"move": "0.18"}, {"move": "-0.18"}], "contingencies": charges}
    case = bitcoin(model, stable_price=0.97, underlyings=[{"underlying": "BTC", "confidence": 0.4}])
    found = way(hold_linear(case, "PERP", 3.0, 60_000.0))
    assert printed(found.loss, 0) == "32,400"
    assert printed(found.initial, 2) == "144,648.00"
    case.underlyings[0]["confidence"] = 0.55  # a confidence at the threshold is charged nothing
    assert printed(way(case).initial, 2) == "36,648.00"
