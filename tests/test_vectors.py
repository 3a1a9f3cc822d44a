"""Numbers that other systems' tests assert or that venues print, on riskcore: every case is checked, or has a reason.

`RULES` has, for each group of cases, what is done with which of them: a check, or the reason why there is none. A case
that no rule knows fails `test_every_case_is_checked_or_has_a_reason`.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.io.venues import dydx
from riskcore.venue import adl_policies

FILES = ("dydx", "freqtrade", "exchange_docs", "nautilus")
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "vectors"
Given = dict[str, Any]


class Held(NamedTuple):
    """A position in a market of its own, and what that market requires."""

    size: Decimal
    entry: Decimal
    mark: Decimal
    maintenance: Given
    initial: Given | None = None


def number(value: float) -> Decimal:
    return Decimal(str(value))


def flat(rate: Decimal) -> Given:
    return {"type": "sqrt", "base": str(rate), "factor": "0"}


def tiers(*brackets: tuple[Decimal, Decimal]) -> Given:
    return {"type": "tiers", "brackets": [{"from": str(lower), "rate": str(rate)} for lower, rate in brackets]}


def lot(size: Decimal) -> Decimal:
    """A position is one lot, so that it is exact."""
    return abs(size) or Decimal("0.000001")


def top(mark: Decimal) -> Decimal:
    """A market's highest price and its tick: one power of ten, so that the largest position fits 64 bits."""
    return Decimal(1).scaleb(mark.adjusted() + 1)


def state(cash: Decimal, *held: Held, quantum: str = "0.000001", room: int = 1) -> tuple[rc.Accounts, rc.Venue, Any]:
    """Account 1, its venue and the marks, which may rise ``room`` times.

    Cash below zero is unsettled: the venues of the vectors ask no margin for it.
    """
    markets = [
        {
            "symbol": f"P{n}", "baseSymbol": f"B{n}", "marketType": "PERP",
            "filters": {
                "price": {"tickSize": str(top(h.mark * room)), "maxPrice": str(top(h.mark * room))},
                "quantity": {"stepSize": str(lot(h.size))},
            },
            "imfFunction": h.initial or h.maintenance, "mmfFunction": h.maintenance,
        }
        for n, h in enumerate(held or [Held(Decimal(0), Decimal(1), Decimal(1), flat(Decimal("0.1")))])
    ]  # fmt: skip
    settle = {"symbol": "USD", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}, "quantum": quantum}
    venue = rc.load_venue({"settle_asset": "USD", "markets": markets, "collateral": [settle]})
    positions = [(1, f"P{n}", float(h.size), float(h.entry)) for n, h in enumerate(held)]
    accounts = rc.Accounts.from_frames(
        venue,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame({"account": [1], "asset": ["USD"], "quantity": [float(max(cash, 0))]}),
        settings=pd.DataFrame({"account": [1], "unsettled": [float(min(cash, 0))]}),
    )
    return accounts, venue, {f"P{n}": float(h.mark) for n, h in enumerate(held)}


def close_to(expected: float | None, case: Given) -> Any:
    """What is expected, within the tolerance that the file states."""
    allowed = case["tolerance"]
    return pytest.approx(expected, **(allowed if isinstance(allowed, dict) else {"abs": allowed, "rel": 0}))


# ---------------------------------------------------------------------------------------------------------------- dYdX
# The chain floors fractions to whole ppm and rounds requirements up to a quote quantum; riskcore rounds neither. Its
# exact figures are brought to that rounding here, and not a step further.


def first(given: Given, *names: str) -> int:
    return next((given[name] for name in names if name in given), 0)


def dydx_position(given: Given) -> tuple[Decimal, Decimal, Decimal]:
    """Size, price and open interest of a case: without a size of its own, a million dollars' worth at a price of 1."""
    if "quantums" in given:
        unit = given["atomic_resolution"]
        size, interest = (Decimal(given.get(name, 0)).scaleb(unit) for name in ("quantums", "oi_quantums"))
        return size, Decimal(given["price"]).scaleb(given["exponent"]), interest
    size, interest = given.get("quote_quantums", 10**12), given.get("oi_notional", 0)
    return Decimal(size).scaleb(-6), Decimal(1), Decimal(interest).scaleb(-6)


def dydx_requirements(given: Given) -> dict[str, tuple[int, int]]:
    """Fraction in ppm, and margin in quote quantums, of the case's position under its liquidity tier."""
    tier = {
        "id": 0,
        "initial_margin_ppm": first(given, "initial_ppm", "base_ppm"),
        "maintenance_fraction_ppm": given.get("fraction_ppm", 500_000),
        "open_interest_lower_cap": first(given, "lower_cap", "oi_lower"),
        "open_interest_upper_cap": first(given, "upper_cap", "oi_upper"),
    }
    params = {"ticker": "P-USD", "id": 0, "atomic_resolution": -6, "liquidity_tier": 0}
    row = dydx.load_venue([tier], [{"params": params}]).source["markets"][0]
    size, price, interest = dydx_position(given)
    held = Held(size, price, price, row["mmfFunction"], row["imfFunction"])
    total = rc.explain_margin(*state(Decimal(0), held), 1, open_interest={"P0": float(interest)}).iloc[-1]
    notional, found = Fraction(total["exposure"]), {}
    for name in ("initial", "maintenance"):
        margin = Fraction(total[f"{name}_margin"]) + Fraction(1, 10**18)  # of its 18 places the last is rounded
        ppm = math.floor(margin / notional * 10**6) if notional else 0
        found[name] = ppm, math.ceil(notional * ppm)
    return found


def check_dydx_margin(case: Given) -> None:
    found, expected = dydx_requirements(case["inputs"]), case["expected"]
    (initial_ppm, initial), (maintenance_ppm, maintenance) = found["initial"], found["maintenance"]
    ours = {"im": initial, "mm": maintenance, "ppm": initial_ppm, "maint_ppm": maintenance_ppm}
    assert {name: ours[name] for name in expected} == expected


def asks_for_nothing(given: Given) -> bool:
    return 0 in (first(given, "initial_ppm", "base_ppm"), given.get("fraction_ppm"), given.get("price"))


def beyond_64_bits(given: Given) -> bool:
    size, price, _ = dydx_position(given)
    return Fraction(lot(size) * top(price) * 10**6).numerator > 2**59  # a lot is at most half of 2**60 quanta


def beyond_a_float(given: Given) -> bool:
    return any(Decimal(repr(float(figure))) != figure for figure in dydx_position(given))


def check_refused(case: Given) -> None:
    """The reason of such a case is a limit of riskcore: it says so and does not answer."""
    rule = r"must be (a number from 1E-18|a finite number > 0|.*less than 2\*\*6\d)"
    with pytest.raises(rc.RiskDataError, match=rule):
        dydx_requirements(case["inputs"])


DYDX_PRICES = {"BTC": (Decimal(50_000), -8), "ETH": (Decimal(3_000), -9)}  # oracle price, decimals of a quantum


def dydx_account(given: Given) -> tuple[Decimal, Decimal, list[Held]]:
    """Net collateral, maintenance requirement and positions, by the words of the file."""
    rate = number(given["maint"])
    held = []
    for symbol, quantums in given["positions"].items():
        price, unit = DYDX_PRICES[symbol]
        held.append(Held(Decimal(quantums).scaleb(unit), price, price, flat(rate)))
    worth = sum(h.size * h.mark for h in held)
    return number(given["quote_usd"]) + worth, sum(abs(h.size) * h.mark * rate for h in held), held


def at_equality(given: Given) -> bool:
    collateral, requirement, _ = dydx_account(given)
    return collateral == requirement > 0


def check_dydx_trigger(case: Given) -> None:
    collateral, _, held = dydx_account(case["inputs"])
    assert rc.sweep(*state(collateral, *held)).liquidatable[0] == case["expected"]["liquidatable"]


def check_dydx_trigger_at_equality(case: Given) -> None:
    """The one place where the two rules differ: at a ratio of exactly 1 this venue liquidates, dYdX does not."""
    collateral, _, held = dydx_account(case["inputs"])
    table = rc.sweep(*state(collateral, *held))
    assert (table.mmr[0], table.liquidatable[0]) == (1.0, True)
    assert not case["expected"]["liquidatable"]


# ------------------------------------------------------------------------------------------------- freqtrade, Nautilus


def with_amount(rate: float, amount: float) -> Given:
    """Tiers whose last rate is this, less a cumulative maintenance amount: the first rate is a hundredth of it."""
    if not amount:
        return flat(number(rate))
    low = number(rate) / 100
    return tiers((Decimal(0), low), (number(amount) / (number(rate) - low), number(rate)))


def check_liquidation_price(case: Given) -> None:
    given = case["inputs"]
    if given.get("exchange") in ("gate", "okx"):
        rule = flat(number(given["mm_ratio"]) + number(given["taker"]))  # the closing fee counts as a requirement
    else:
        rule = with_amount(given["mm_ratio"], given["maint_amt"])
    entry = number(given["open"])
    held = [Held(given.get("side", 1) * number(given["amount"]), entry, entry, rule)]
    if other := given.get("other"):
        amounts = [number(other[name]) for name in ("amount", "open", "mark")]
        held.append(Held(*amounts, with_amount(other["mm_ratio"], other["maint_amt"])))
    found = rc.liquidation_prices(*state(number(given["wallet"]), *held, quantum="0.000000001")).to_frame()
    assert found["liquidation_price"][0] == close_to(case["expected"]["liq_price"], case)


def check_standard_margin(case: Given) -> None:
    given = case["inputs"]
    held = Held(number(given["notional"]), Decimal(1), Decimal(1), flat(number(given["margin"])))
    table = rc.sweep(*state(Decimal(0), held))
    assert table.initial_margin[0] == table.maintenance_margin[0] == close_to(case["expected"]["margin"], case)


def check_nautilus_trigger(case: Given) -> None:
    """A trigger at a multiple of the maintenance margin is a maintenance rate that many times as high."""
    given = case["inputs"]
    balance, profit, maintenance, ratio = (number(given[name]) for name in ("balance", "upnl", "maintenance", "ratio"))
    size = mark = Decimal(1000)
    held = [Held(size, mark - profit / size, mark, flat(maintenance * ratio / (size * mark)))]
    if not maintenance:  # a position that asks for nothing cannot be written, and none asks for nothing
        balance, held = balance + profit, []
    assert rc.sweep(*state(balance, *held)).liquidatable[0] == case["expected"]["liquidated"]


# ------------------------------------------------------------------------------------------------- documents of venues


def check_score(case: Given) -> None:
    """What a position is worth more than at its zero price is its account's equity, if that holds nothing else."""
    given = case["inputs"]
    value, bankrupt, entry = (np.array([given[name]]) for name in ("mark_value", "bankrupt_value", "entry_value"))
    one = np.ones(1)
    of = adl_policies.Counterparties(
        one.astype(int), value, entry, one, value - bankrupt, np.abs(value), one, value - entry
    )
    assert adl_policies.bitmex(of)[0] == close_to(case["expected"]["score"], case)


def check_flow(case: Given) -> None:
    """FTX relates the assets to the notional at the entry, which is the exposure before the price fell."""
    given, expected = case["inputs"], case["expected"]
    held = Held(number(given["notional"]), Decimal(1), Decimal(1), flat(Decimal("0.03")))
    accounts, venue, marks = state(number(given["collateral"]), held)
    entry = rc.sweep(accounts, venue, marks)
    now = rc.sweep(accounts, venue, {"P0": float(1 - number(given["drop"]))})
    assert now.net_equity[0] == close_to(expected["assets"], case)
    assert now.net_equity[0] / entry.exposure[0] == close_to(expected["distance"], case)
    if expected["leverage"] is None:
        assert now.net_equity[0] <= 0
        assert now.mmr[0] == math.inf
    else:
        assert entry.exposure[0] / now.net_equity[0] == close_to(expected["leverage"], case)


def check_equity_at_liquidation(case: Given) -> None:
    """The venue's formula for a flat rate gives the same mark; there nothing is left above the requirement."""
    given = case["inputs"]
    price, side, account, size = (given[name] for name in ("price", "side", "account", "size"))
    rate = 1 / given["maint_leverage"]
    mark = number(price)
    held = Held(side * number(size), mark, mark, flat(number(rate)))
    accounts, venue, marks = state(number(account), held, room=1000)
    found = rc.liquidation_prices(accounts, venue, marks).to_frame()["liquidation_price"][0]
    formula = price - side * (account - size * price * rate) / size / (1 - rate * side)
    if formula <= 0:
        assert math.isnan(found)  # no price is so low
        return
    assert found == pytest.approx(formula, rel=1e-12)
    there = rc.sweep(accounts, venue, {"P0": found})
    left = there.net_equity[0] - there.maintenance_margin[0]
    assert left == close_to(case["expected"]["equity_minus_mm_at_liq"], case)


def check_bands(case: Given) -> None:
    sizes, rates = zip(*[(number(size), number(rate)) for size, rate in case["inputs"]["bands"]], strict=True)
    rule = tiers(*((sum(sizes[:n], Decimal(0)), rate) for n, rate in enumerate(rates)))
    table = rc.sweep(*state(Decimal(0), Held(sum(sizes), Decimal(1), Decimal(1), rule)))
    assert table.initial_margin[0] == table.maintenance_margin[0] == close_to(case["expected"]["charge"], case)


# ---------------------------------------------------------------------------------------------------------------- rules


def every(_: Given) -> bool:
    return True


def of(name: str, *values: str) -> Callable[[Given], bool]:
    return lambda given: given[name] in values


Answer = Callable[[Given], None] | str
LATER = "checked or listed in test_vectors_liquidation.py"
DYDX_MARGIN: list[tuple[Callable[[Given], bool], Answer]] = [
    (asks_for_nothing, check_refused),  # every rate and every price is above 0 here
    (beyond_64_bits, check_refused),  # money is whole quanta in 64 bits here
    (beyond_a_float, "a price, size or open interest of more digits than a float64 holds, as which it is given here"),
    (every, check_dydx_margin),
]

# group of cases: which of them, and the check, or why there is none; the first that fits
RULES: dict[str, list[tuple[Callable[[Given], bool], Answer]]] = {
    "dydx-oimf": DYDX_MARGIN,
    "dydx-im": DYDX_MARGIN,
    "dydx-maint": DYDX_MARGIN,
    "dydx-req": DYDX_MARGIN,
    "dydx-isliq": [(at_equality, check_dydx_trigger_at_equality), (every, check_dydx_trigger)],
    "dydx-bk": [(every, "checked in test_worked_examples.py, test_dydx_bankruptcy_prices")],
    "dydx-fillable": [(every, LATER)],
    "dydx-ifdelta": [(every, LATER)],
    "dydx-delev": [(every, LATER)],
    "dydx-oracledelev": [(every, LATER)],
    "dydx-offset": [(every, LATER)],
    "dydx-minmax": [(every, LATER)],
    "dydx-walk": [(every, LATER)],
    "freqtrade-iso": [
        (
            of("exchange", "bybit"),
            "the requirement is a part of the entry value, whatever the mark: here it is a function of the notional at"
            " the mark, that grows with it",
        ),
        (of("exchange", "binance", "gate", "okx"), check_liquidation_price),
    ],
    "freqtrade-binance": [(every, check_liquidation_price)],
    "freqtrade-buffer": [(every, "a bot reports the price moved towards the entry, for safety: no rule of a venue")],
    "nautilus": [
        (of("model", "standard"), check_standard_margin),
        (
            of("model", "leveraged"),
            "divides the margin rate, the maintenance rate too, by the account's leverage: here a rate is the market's,"
            " and a leverage limit can only raise the initial margin",
        ),
        (
            lambda given: given["model"].startswith("custom"),
            "code of a user in the place of the margin rule, on top of the leveraged one: here margin rules are data",
        ),
    ],
    "nautilus-liq": [(every, check_nautilus_trigger)],
    "doc-bitmex-score": [(every, check_score)],
    "doc-bitmex-adl": [(every, LATER)],
    "doc-ftx-flow": [(every, check_flow)],
    "doc-hl-liq": [(every, check_equity_at_liquidation)],
    "doc-okx-mr9": [(every, check_bands)],
}


def answer(case: Given) -> Answer | None:
    """Check of a case, or the reason why it has none; None if no rule knows it."""
    group = re.sub(r"-[a-z]?\d+$", "", case["id"])
    return next((found for fits, found in RULES.get(group, ()) if fits(case["inputs"])), None)


def read(folder: Path, file: str) -> list[Given]:
    return json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))["cases"]


# none without the folder: tests with the fixture `shared` are left out then
CASES = [case for file in FILES if FOLDER.is_dir() for case in read(FOLDER, file)]
CHECKED = [case for case in CASES if callable(answer(case))]


@pytest.mark.parametrize("file", FILES)
def test_every_case_is_checked_or_has_a_reason(shared, file):
    answers = {case["id"]: answer(case) for case in read(shared / "vectors", file)}
    assert [name for name, found in answers.items() if not found] == []
    assert any(callable(found) for found in answers.values())


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case["id"])
def test_case(case):
    found = answer(case)
    assert callable(found)
    found(case)
