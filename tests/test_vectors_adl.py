"""Numbers of a paper and of a backtester on auto-deleveraging: checked, mostly on the engine, or with a reason."""

import itertools
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

import riskcore as rc
from riskcore.margin import exact
from riskcore.market import Prices
from riskcore.venue import adl_policies
from tests.test_vectors import Given, Held, close_to, flat, number, state, tiers
from tests.test_vectors_liquidation import (
    QUANTUM,
    TENTH,
    TO_ADL,
    TO_BOOK,
    Rules,
    Trader,
    answer,
    equity,
    every,
    ranked_by,
    read,
    run,
)

FILES = ("adl_paper", "flox_adl")


# ------------------------------------------------------------------------------------- Chitra et al., arXiv 2512.01112


def paper_state(position: Given, price: Decimal, rate: Decimal = TENTH) -> tuple[rc.Accounts, rc.Venue, Any]:
    """Its size, and its cash as the equity at a price."""
    held = Held(position["b"] * number(position["q"]), price, price, flat(rate))
    return state(number(position["c"]), held, quantum="0.000000000001", room=1000)


def priced(case: Given) -> list[tuple[Decimal, list[float]]]:
    """The prices of a case, and what is expected of the positions at each."""
    prices = case["inputs"].get("prices") or [case["inputs"].get("p", 1)]
    return [(number(price), found) for price, found in zip(prices, case["expected"].values(), strict=True)]


def check_leverage(case: Given) -> None:
    for price, expected in priced(case):
        tables = [rc.sweep(*paper_state(position, price)) for position in case["inputs"]["positions"]]
        assert [table.exposure[0] / table.net_equity[0] for table in tables] == close_to(expected, case)


def check_liquidation_prices(case: Given) -> None:
    """A price below 0 is none, and 0 in the paper."""
    given = case["inputs"]
    found = []
    for position in given["positions"]:
        at = paper_state(position, number(given["p"]), number(given["mu"]))
        found.append(rc.liquidation_prices(*at).to_frame()["liquidation_price"].fillna(0)[0])
    assert found == close_to(case["expected"]["liq"], case)


def check_bankruptcy_prices(case: Given) -> None:
    """Zero prices; those below 0 are 0 or what they are."""
    for price, expected in priced(case):
        found = []
        for position in case["inputs"]["positions"]:
            accounts, venue, marks = paper_state(position, price)
            margin = exact.account_margin(accounts, 0, Prices.read(venue, accounts, marks))
            left = Fraction(margin.value[0]) - exact.equity_share(margin, margin.requirement[0], margin.equity)
            found.append(float(left / (position["b"] * Fraction(str(position["q"])))))
        at_least = 0 if min(expected) >= 0 else min(found)
        assert [max(at_least, zero) for zero in found] == close_to(expected, case)


def check_maintenance(case: Given) -> None:
    """Whom it makes insolvent follows from the paper's own funding, which the case leaves out."""
    given = case["inputs"]
    at = (paper_state(position, number(given["p"]), number(given["mu"])) for position in given["positions"])
    assert [rc.sweep(*found).maintenance_margin[0] for found in at] == close_to(case["expected"]["thresholds"], case)


def check_socialised(case: Given) -> None:
    """The losers are closed at the mark against all the winners, who then pay for what is short by their equity."""
    winners, losers = ([number(x) for x in case["inputs"][name]] for name in ("winners", "losers"))
    one, size = Decimal(1), (Decimal(len(winners)) / len(losers)).quantize(Decimal("0.001"), rounding="ROUND_DOWN")
    traders = [Trader(left - one, {"X": (one, one)}) for left in winners]
    entries = [(one + left / size).quantize(Decimal("1e-12")) for left in losers]
    traders += [Trader(size * entry, {"X": (-size, entry)}) for entry in entries]
    policy = TO_ADL | {"adl_policy": "pro_rata", "adl_price": 1, "shortfall": "equity"}
    found = run(traders, {"X": one}, flat(Decimal("0.01")), {"X": Decimal("0.001")}, **policy)
    rows = found.event("socialize")
    paid = rows.groupby("counterparty", observed=True)["cash"].sum().reindex(range(1, len(winners) + 1)) * float(
        QUANTUM
    )
    deficit, worth = paid.sum(), float(sum(winners))
    ours = {"D": deficit, "W": worth, "h": deficit / worth, "shares": (paid / deficit).tolist()}
    assert (paid / [float(left) for left in winners]).tolist() == pytest.approx([deficit / worth] * len(winners))
    for name in ours.keys() & case["expected"].keys():
        assert ours[name] == close_to(case["expected"][name], case)


def slice_of(given: Given) -> tuple[Decimal, Decimal, Decimal]:
    """Signed size, equity and mark: who buys above the mark is short, and all came in at 1."""
    mark, paid = number(given["p"]), number(given["exec"])
    size = number(given["q"]) * (1 if paid < mark else -1)
    return size, number(given["c"]) + size * (mark - 1), mark


def equity_is_gone(case: Given) -> bool:
    return "exec" in case["inputs"] and slice_of(case["inputs"])[1] <= 0


def check_slice(case: Given) -> None:
    """The fee is of what was paid, not of the mark."""
    given = case["inputs"]
    size, left, mark = slice_of(given)
    step = abs(size) / 10**6
    policy = TO_BOOK | {"liquidation_fee": str(given["fee"]), "target_mmr": 1}
    book = {"X": {"bids" if size > 0 else "asks": [(given["exec"], 2.0 * given["q"])]}}
    trader = Trader(left - size * mark, {"X": (size, Decimal(1))})
    found = run([trader], {"X": mark}, flat(number(given["mu"])), {"X": step}, book, tick=Decimal("0.00001"), **policy)
    lots = int(found.event("book")["requested"].iloc[0])
    assert float(lots * step) == close_to(min(case["expected"]["dq"], given["q"]), case)


def paper_weight(case: Given) -> str:
    """The policy whose weight a case asks for."""
    named = re.search(r"\bg=(\w+)", case["description"]) or re.search(r"-rap-(\w+)$", case["id"])
    return f"rap_{named[1]}" if named else ""


def unknown_weight(case: Given) -> bool:
    return paper_weight(case) not in adl_policies.POLICIES


def check_shares(case: Given) -> None:
    """Positions are as large as equity times leverage, at a price of 1."""
    worth, leverage = (np.array(case["inputs"][name]) for name in ("equity", "leverage"))
    lots = np.rint(worth * leverage * 1e9).astype(np.int64)
    notional = lots.astype(float)
    of = adl_policies.Counterparties(
        lots, notional, notional, notional / 100, notional / leverage, notional, notional / 100, np.zeros(len(lots))
    )
    need = int(lots.min() // 100)
    taken = adl_policies.allocate(adl_policies.POLICIES[paper_weight(case)], of, need, lots)
    assert (taken / need).tolist() == close_to(case["expected"]["shares"], case)


def check_water_filling(case: Given) -> None:
    """What one can lose at most is its endowment times its cap; the split is of whole amounts, a trillion to one."""
    given = case["inputs"]
    endowment, cap, weight = ([number(x) for x in given[name]] for name in ("endowment", "caps", "risk_weights"))
    unit = Decimal(10) ** 12
    weights, caps = (np.array([int(e * x * unit) for e, x in zip(endowment, of, strict=True)]) for of in (weight, cap))
    taken = adl_policies.water_fill(int(number(given["budget"]) * unit), weights, caps)
    for lost, held, expected in zip(taken.tolist(), endowment, case["expected"]["h"], strict=True):
        assert float(lost / unit) == pytest.approx(float(held) * expected, abs=case["tolerance"] * max(float(held), 1))


# --------------------------------------------------------------------------------------------------------------- FLOX
# An account is closed at the mark; what it then lacks the fund pays, and what the fund lacks comes off the profits of
# the first in the queue. The same is a backstop that takes everything at the mark where the fund has enough, and
# otherwise a deal between the mark, at which the fund pays all, and the zero price, at which the counterparty does.

FLOX_SCORES: dict[str, Callable[[Any], Any]] = {
    "pnl": lambda of: of.profit / (of.equity - of.profit),
    "binance": lambda of: of.profit * np.abs(of.value) / (of.equity - of.profit),
    "size": adl_policies.POLICIES["size"].rank,
}


class Flox(NamedTuple):
    """A case's accounts by id, in numbers."""

    traders: dict[int, Trader]
    mark: dict[str, Decimal]
    rate: dict[int, Decimal]  # what each must hold, by the rate of its bracket

    def profit(self, account: int) -> Decimal:
        size, entry = self.traders[account].held["X"]
        return size * (self.mark["X"] - entry)

    def left(self, account: int) -> Decimal:
        return equity(self.traders[account], self.mark)

    def notional(self, account: int) -> Decimal:
        return abs(self.traders[account].held["X"][0]) * self.mark["X"]

    def short(self) -> dict[int, Decimal]:
        """Those whom the mark leaves with less than nothing, and what they lack."""
        return {n: -self.left(n) for n in self.traders if self.left(n) < 0}


def told(case: Given) -> Given:
    """A case's inputs, and what the file's notes say of those it leaves out."""
    return {"insurance_fund": 0, "adl": False, "ranking": "pnl", "tiers": [[0, 0.005]]} | case["inputs"]


def flox(given: Given) -> Flox:
    mark = number(given["mark"])
    traders, rate = {}, {}
    for account in sorted(given["accounts"], key=lambda account: account["id"]):
        size, entry = number(account["qty"]), number(account["entry"])
        traders[account["id"]] = Trader(number(account["equity"]) - size * entry, {"X": (size, entry)})
        rate[account["id"]] = bracket_rate(abs(size) * mark, given["tiers"])
    return Flox(traders, {"X": mark}, rate)


def bracket_rate(notional: Decimal, brackets: list[list[float]]) -> Decimal:
    return next(number(rate) for lower, rate in reversed(brackets) if number(lower) <= notional)


def continuous(notional: Decimal, brackets: list[list[float]]) -> Decimal:
    """Each rate for its own bracket alone, as maintenance is here."""
    edges = [*(number(lower) for lower, _ in brackets[1:]), Decimal("Infinity")]
    parts = (
        max(min(notional, edge) - number(low), 0) * number(r) for (low, r), edge in zip(brackets, edges, strict=True)
    )
    return sum(parts, Decimal(0))


def no_counterpart(case: Given) -> bool:
    return not flox_known(case)


FLOX_ASSERTS = ("liquidated", "adl", "fund", "insurance_fund", "fund_after", "fund_left", "insurance_after")


def flox_known(case: Given) -> list[str]:
    return [name for name in case["expected"] if name in FLOX_ASSERTS]


def unknown_ranking(case: Given) -> bool:
    return told(case)["ranking"] not in FLOX_SCORES


def at_equality(case: Given) -> bool:
    found = flox(told(case))
    return any(found.left(n) == found.notional(n) * rate for n, rate in found.rate.items())


def bracket_matters(case: Given) -> bool:
    found, brackets = flox(told(case)), told(case)["tiers"]
    notionals = {n: found.notional(n) for n in found.traders}
    return any(
        (found.left(n) < notional * found.rate[n]) != (found.left(n) <= continuous(notional, brackets))
        for n, notional in notionals.items()
    )


def several_short(case: Given) -> bool:
    given = told(case)
    found = flox(given)
    return given["adl"] and len(found.short()) > 1 and sum(found.short().values()) > number(given["insurance_fund"])


def closed_at_the_mark_beside(case: Given) -> bool:
    """Somebody has equity left when closed, while another's loss goes to the queue."""
    given = told(case)
    found = flox(given)
    if not given["adl"] or sum(found.short().values()) <= number(given["insurance_fund"]):
        return False
    return any(0 <= found.left(n) < found.notional(n) * rate for n, rate in found.rate.items())


def queue(case: Given, closed: int) -> list[int]:
    """Profitable holders of the other side, by the case's ranking."""
    given = told(case)
    found = flox(given)
    wallet = {account["id"]: number(account["equity"]) for account in given["accounts"]}

    def score(n: int) -> Decimal:
        if given["ranking"] == "size":
            return abs(found.traders[n].held["X"][0])
        return found.profit(n) / wallet[n] * (found.notional(n) if given["ranking"] == "binance" else 1)

    side = found.traders[closed].held["X"][0]
    winners = [n for n in found.traders if found.profit(n) > 0 and side * found.traders[n].held["X"][0] < 0]
    return sorted(winners, key=lambda n: (-score(n), n))


def profit_is_not_lots(case: Given) -> bool:
    """The loss is gone after another number of counterparties than the lots are."""
    given = told(case)
    found = flox(given)
    short = found.short()
    if not given["adl"] or sum(short.values()) <= number(given["insurance_fund"]):
        return False
    ((closed, lack),) = short.items()
    winners, lots = queue(case, closed), abs(found.traders[closed].held["X"][0])
    profits = [found.profit(n) for n in winners]
    sizes = [abs(found.traders[n].held["X"][0]) for n in winners]
    needed = [
        sum(before < need for before in itertools.accumulate(parts, initial=Decimal(0)))
        for parts, need in ((profits, lack - number(given["insurance_fund"])), (sizes, lots))
    ]
    return min(needed[0], len(winners)) != min(needed[1], len(winners))


def check_flox(case: Given) -> None:
    given = told(case)
    accounts = flox(given)
    ids, fund, lack = list(accounts.traders), number(given["insurance_fund"]), sum(accounts.short().values())
    brackets = [(number(lower), number(rate)) for lower, rate in given["tiers"]]
    policy = {**TO_ADL, "adl_counterparties": "profitable", "fund": str(fund), "backstop_fund_share": 0}
    at_the_mark = not given["adl"] or lack <= fund
    if not at_the_mark:
        policy["adl_price"] = str(Fraction(fund) / Fraction(lack))
    with pytest.MonkeyPatch.context() as monkeypatch:
        policy |= ranked_by(monkeypatch, FLOX_SCORES[given["ranking"]])
        found = run(
            list(accounts.traders.values()), accounts.mark, tiers(*brackets), {"X": Decimal("0.000001")},
            backstop=at_the_mark, **policy,
        )  # fmt: skip
    liquidated = sorted(ids[n - 1] for n in found.event("trigger")["account"])
    left = float(found.fund)
    ours = {"liquidated": liquidated, "adl": [ids[n - 1] for n in found.taken()]} | dict.fromkeys(
        FLOX_ASSERTS[2:], left
    )
    for name in flox_known(case):
        assert ours[name] == pytest.approx(case["expected"][name], abs=case["tolerance"])


def at_an_edge(case: Given) -> bool:
    return case["inputs"]["notional"] in [lower for lower, _ in case["inputs"]["tiers"][1:]]


def no_notional(case: Given) -> bool:
    return not case["inputs"]["notional"]


def check_bracket(case: Given) -> None:
    """A rate for the whole notional is one of an initial margin."""
    given = case["inputs"]
    rule = tiers(*((number(lower), number(rate)) for lower, rate in given["tiers"]))
    size = number(given["notional"])
    held = Held(size, Decimal(1), Decimal(1), flat(number(given["tiers"][0][1])), rule | {"whole": True})
    total = rc.explain_margin(*state(Decimal(0), held), 1).iloc[-1]
    assert Fraction(total["initial_margin"]) / Fraction(total["exposure"]) == Fraction(str(case["expected"]["mm"]))


def cross(case: Given) -> tuple[Decimal, list[Held]]:
    given = case["inputs"]
    held = []
    for (size, entry), mark in zip(given["legs"], given["marks"], strict=True):
        held.append(Held(number(size), number(entry), number(mark), flat(number(given["mm"]))))
    return number(given["equity"]), held


def cross_at_equality(case: Given) -> bool:
    cash, held = cross(case)
    left = cash + sum(h.size * (h.mark - h.entry) for h in held)
    return left == sum(abs(h.size) * h.mark * number(case["inputs"]["mm"]) for h in held)


def check_cross(case: Given) -> None:
    """Which leg is the worst counts for their order of closing; ours are by relief, size, or all at once."""
    cash, held = cross(case)
    assert rc.sweep(*state(cash, *held)).liquidatable[0] == case["expected"]["liquidated"]


# ---------------------------------------------------------------------------------------------------------------- rules


def has(part: str, *names: str) -> Callable[[Given], bool]:
    """Whether these are among the names of a case's inputs or expected figures."""
    return lambda case: set(names) <= set(case[part])


def asserts(what: str) -> Callable[[Given], bool]:
    """Whether all that is expected is one list a price of figures of this name."""
    return lambda case: "positions" in case["inputs"] and all(name.startswith(what) for name in case["expected"])


EQUAL = "at a margin ratio of exactly 100 % an account is liquidated here"

# kinds of cases: which of them, and the check, or why there is none; the first that fits
RULES: Rules = {
    r"adlp-rap-\w+": [(unknown_weight, "a weight that is not among the policies"), (every, check_shares)],
    r"adlp-wf-\w+": [(every, check_water_filling)],
    r"adlp-.*": [
        (lambda case: not case["inputs"], "facts of a day, for comparison"),
        (has("inputs", "oracle"), "funding by a formula of the paper's own, of mark and oracle price"),
        (asserts("lev"), check_leverage),
        (has("expected", "liq"), check_liquidation_prices),
        (asserts("bk"), check_bankruptcy_prices),
        (has("expected", "thresholds"), check_maintenance),
        (has("inputs", "winners", "losers"), check_socialised),
        (has("inputs", "alpha"), "by a model of impact or of shocks: here prices are a book's and a feed's"),
        (equity_is_gone, "sizes a slice of an account whose equity is gone: here it is past the book"),
        (has("inputs", "exec"), check_slice),
        (every, "a figure of the paper's analysis that nothing here computes"),
    ],
    r"flox-tier-\d+": [
        (no_notional, "the rate of no position"),
        (at_an_edge, "at its very edge a bracket ends here, and begins there"),
        (every, check_bracket),
    ],
    r"flox-cross-\w+": [(cross_at_equality, EQUAL), (every, check_cross)],
    r"flox-.*": [
        (has("inputs", "max_depth"), "looks again at a mark that its own fills moved: here marks are given"),
        (no_counterpart, "asserts figures that have no counterpart here"),
        (unknown_ranking, "a ranking that the file's notes do not have"),
        (at_equality, EQUAL),
        (bracket_matters, "the rate of a bracket counts for the whole notional: here maintenance is continuous"),
        (several_short, "several losses use up the fund one after another: here each is paid when all are closed"),
        (closed_at_the_mark_beside, "one is closed in the market, another in the queue: here all are in the queue"),
        (profit_is_not_lots, "takes counterparties until their profits cover the loss: here until the lots are closed"),
        (every, check_flox),
    ],
}  # fmt: skip

CASES = [case for file in FILES for case in read(file)]
CHECKED = [case for case in CASES if callable(answer(RULES, case))]


@pytest.mark.parametrize("file", FILES)
def test_every_case_is_checked_or_has_a_reason(shared, file):
    answers = {case["id"]: answer(RULES, case) for case in read(file)}
    assert [name for name, found in answers.items() if not found] == []
    assert any(callable(found) for found in answers.values())


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case["id"])
def test_case(case):
    found = answer(RULES, case)
    assert callable(found)
    found(case)
