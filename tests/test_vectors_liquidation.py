"""dYdX's and BitMEX's numbers on how positions are closed and who takes them, on the engine.

`RULES` says what is done with a case by its kind and its figures, never by its number.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.venue import adl_policies
from tests.test_vectors import DYDX_PRICES, FOLDER, Given, flat, number

FILES = ("dydx", "exchange_docs")
QUANTUM = Decimal("0.000000001")

# whoever is liquidated is past the book, with nobody but other accounts to take his positions
TO_ADL: Given = {"acmf_divisor": 1, "acmf_offset": 0, "slice_probability": 1, "adl_counterparties": "opposing"}
# whoever has any equity is sold in the book, whole
TO_BOOK: Given = {
    "acmf_divisor": 10**8, "acmf_offset": 10**8, "slice_probability": 1, "slice_fraction": 1, "min_slice_notional": 0,
    "target_mmr": "0.000001", "harmful_slice": "send",
}  # fmt: skip


class Trader(NamedTuple):
    """What is left of an account's money once its positions are paid, and these: size and entry price."""

    quote: Decimal
    held: dict[str, tuple[Decimal, Decimal]]


class Run(NamedTuple):
    """An engine after one tick, and the tick's rows; accounts are 1, 2, ..."""

    engine: rc.Engine
    events: pd.DataFrame
    fund: Fraction

    def quote(self, account: int) -> Fraction:
        """Its money less what its positions cost, in millionths."""
        columns, row = self.engine.accounts.columns, account - 1
        settle = [j for j in self.engine.accounts.balances_of(row) if columns.asset[j] == self.engine.venue.settle]
        quanta = sum(int(columns.free[j]) for j in settle) + int(columns.unsettled[columns.settle_row[row]])
        quanta -= sum(int(columns.cost[i]) for i in self.engine.accounts.positions_of(row))
        return Fraction(quanta) * Fraction(QUANTUM) * 10**6

    def lots(self, account: int, market: int = 0) -> int:
        columns = self.engine.accounts.columns
        held = self.engine.accounts.positions_of(account - 1)
        return sum(int(columns.lots[i]) for i in held if columns.market[i] == market)

    def taken(self) -> list[int]:
        """Whom positions were closed against, in the order of the rows."""
        return [int(n) for n in self.events.loc[self.events["event"] == "adl", "counterparty"].drop_duplicates()]

    def event(self, name: str) -> pd.DataFrame:
        return self.events[self.events["event"] == name]


def run(
    traders: list[Trader],
    marks: dict[str, Decimal],
    rule: Given,
    steps: dict[str, Decimal],
    books: Given | None = None,
    backstop: bool = False,
    tick: Decimal = Decimal("0.01"),
    least: Decimal | None = None,
    **policy: Any,
) -> Run:
    """One tick; with ``backstop`` there is another account that takes whatever it is offered.

    No slice leaves less than ``least``.
    """
    markets = [
        {
            "symbol": symbol, "baseSymbol": symbol, "marketType": "PERP", "imfFunction": rule, "mmfFunction": rule,
            "filters": {
                "price": {"tickSize": str(tick), "maxPrice": str(mark * 100)},
                "quantity": {"stepSize": f"{steps[symbol]:f}", "minQuantity": f"{least or steps[symbol]:f}"},
            },
        }
        for symbol, mark in marks.items()
    ]  # fmt: skip
    settle = {
        "symbol": "USD",
        "haircutFunction": {"weight": "1", "kind": {"type": "identity"}},
        "quantum": str(QUANTUM),
    }
    provider = [{"account": len(traders) + 1}] if backstop else []
    venue = rc.load_venue(
        {"settle_asset": "USD", "markets": markets, "collateral": [settle], "policy": policy, "backstop": provider}
    )
    cash = [trader.quote + sum(size * entry for size, entry in trader.held.values()) for trader in traders]
    positions = [
        (n, symbol, float(size), float(entry))
        for n, trader in enumerate(traders, 1)
        for symbol, (size, entry) in trader.held.items()
    ]
    balances = [(n, "USD", float(max(amount, 0))) for n, amount in enumerate(cash, 1)]
    accounts = rc.Accounts.from_frames(
        venue,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances + [(len(traders) + 1, "USD", 1e6)] * backstop, columns=["account", "asset", "quantity"]),
        settings=pd.DataFrame({"account": range(1, len(cash) + 1), "unsettled": [float(min(x, 0)) for x in cash]}),
    )
    engine = rc.Engine(accounts, venue)
    prices = {symbol: float(mark) for symbol, mark in marks.items()}
    events = engine.step(rc.Tick(0, prices, books or {})).events
    return Run(engine, events, Fraction(int(engine.ledger.fund[venue.settle])) * Fraction(QUANTUM))


# ---------------------------------------------------------------------------------------------------------------- dYdX
# The chain rounds the share of equity down to its quote quantum. Money is a thousand times finer here, so that what
# the liquidated account receives is rounded up to theirs, and what the other receives down, and not a step further.

ITSELF = "an account at or above a margin ratio of 100 % is itself liquidated here, never a counterparty"
HEALTHY = "closes an account that is not liquidated, as when a market is settled for good"
DYDX_STEPS = {symbol: Decimal(1).scaleb(unit) for symbol, (_, unit) in DYDX_PRICES.items()}
DYDX_MARKS = {symbol: price for symbol, (price, _) in DYDX_PRICES.items()}


def dydx_trader(quote: int, positions: dict[str, int]) -> Trader:
    """Quote quantums, and base quantums held at the oracle price."""
    held = {symbol: (n * DYDX_STEPS[symbol], DYDX_MARKS[symbol]) for symbol, n in positions.items()}
    return Trader(Decimal(quote).scaleb(-6), held)


def equity(trader: Trader, marks: dict[str, Decimal] = DYDX_MARKS) -> Decimal:
    return trader.quote + sum(size * marks[symbol] for symbol, (size, _) in trader.held.items())


def liquidated(trader: Trader, rate: Decimal, marks: dict[str, Decimal] = DYDX_MARKS) -> bool:
    required = sum(abs(size) * marks[symbol] * rate for symbol, (size, _) in trader.held.items())
    return required > 0 and required >= equity(trader, marks)


def delev(given: Given) -> tuple[list[Trader], Decimal]:
    sides = (("liq_quote", "liq_pos"), ("off_quote", "off_pos"))
    return [dydx_trader(given[quote], given[held]) for quote, held in sides], number(given["maint"])


def delta_is_no_close(case: Given) -> bool:
    given = case["inputs"]
    liquidated_lots, offset_lots = (given[name].get("BTC", 0) for name in ("liq_pos", "off_pos"))
    delta = given["delta"]
    return delta * liquidated_lots >= 0 or abs(delta) > min(abs(liquidated_lots), abs(offset_lots))


def delev_of_the_healthy(case: Given) -> bool:
    traders, rate = delev(case["inputs"])
    return not liquidated(traders[0], rate)


def delev_with_the_liquidated(case: Given) -> bool:
    traders, rate = delev(case["inputs"])
    return liquidated(traders[1], rate) and "error" not in case["expected"]


def check_delev(case: Given) -> None:
    """What of it is closed at once is the counterparty's cap."""
    given, expected = case["inputs"], case["expected"]
    traders, rate = delev(given)
    cap = f"{abs(given['delta'])}/{abs(given['off_pos']['BTC'])}"
    found = run(traders, DYDX_MARKS, flat(rate), DYDX_STEPS, **TO_ADL, adl_policy="bankruptcy_price", adl_cap=cap)
    if "error" in expected:
        assert found.taken() == []
        assert 1 in found.event("unfilled")["account"].tolist()
        return
    ours = {
        "liq_quote": math.ceil(found.quote(1)), "liq_btc": found.lots(1),
        "off_quote": math.floor(found.quote(2)), "off_btc": found.lots(2),
    }  # fmt: skip
    assert {name: ours[name] for name in expected} == expected


def settlement(given: Given) -> tuple[list[Trader], dict[str, Decimal]]:
    mark = {"BTC": number(given["price"])}
    traders = [
        Trader(number(given[f"{side}_quote_usd"]), {"BTC": (given[f"{side}_btc"] * DYDX_STEPS["BTC"], mark["BTC"])})
        for side in ("liq", "off")
    ]
    return traders, mark


TENTH = Decimal("0.1")  # maintenance where a case does not say


def settled_with_the_liquidated(case: Given) -> bool:
    traders, marks = settlement(case["inputs"])
    return liquidated(traders[1], TENTH, marks) and "error" not in case["expected"]


def settled_at_a_loss(case: Given) -> bool:
    traders, marks = settlement(case["inputs"])
    return equity(traders[0], marks) < 0 and not liquidated(traders[1], TENTH, marks)


def settled_healthy(case: Given) -> bool:
    traders, marks = settlement(case["inputs"])
    return not liquidated(traders[0], TENTH, marks)


def check_settlement(case: Given) -> None:
    """The price of the mark, an end of `adl_price`."""
    traders, marks = settlement(case["inputs"])
    cap = f"{abs(case['inputs']['delta'])}/{abs(case['inputs']['off_btc'])}"
    policy = TO_ADL | {"adl_policy": "bankruptcy_price", "adl_price": 1, "adl_cap": cap}
    found = run(traders, marks, flat(TENTH), DYDX_STEPS, **policy)
    if "error" in case["expected"]:
        assert found.taken() == []
        return
    ours = {"liq_quote": found.quote(1), "off_quote": found.quote(2)}
    ours |= {"liq_btc": found.lots(1), "off_btc": found.lots(2)}
    assert {name: ours[name] for name in case["expected"]} == case["expected"]


def others(given: Given) -> list[Trader]:
    return [dydx_trader(other["quote"], other["pos"]) for other in given["others"]]


def offset_with_the_liquidated(case: Given) -> bool:
    rate = number(case["inputs"]["maint"])
    fills = zip(others(case["inputs"]), case["expected"]["fills"], strict=True)
    return any(fill is not None and liquidated(trader, rate) for trader, fill in fills)


def offset_of_the_healthy(case: Given) -> bool:
    given = case["inputs"]
    return not liquidated(dydx_trader(given["liq_quote"], given["liq_pos"]), number(given["maint"]))


def offset_of_a_part(case: Given) -> bool:
    return abs(case["inputs"]["need"]) != abs(case["inputs"]["liq_pos"].get("BTC", 0))


def check_offset(case: Given) -> None:
    """One market alone, so by its rows. They start anywhere in the list: from one place ours is the same."""
    given, expected = case["inputs"], case["expected"]
    liquid, rest, tried = dydx_trader(given["liq_quote"], given["liq_pos"]), others(given), []
    policy = TO_ADL | {"adl_policy": "bankruptcy_price"}
    for start in range(max(len(rest), 1)):
        turned = rest[start:] + rest[:start]
        found = run([liquid, *turned], DYDX_MARKS, flat(number(given["maint"])), DYDX_STEPS, **policy)
        rows = found.events[(found.events["account"] == 1) & (found.events["market"] == "BTC")]
        fills: list[Any] = [None] * len(rest)
        for row in rows[rows["event"] == "adl"].to_dict("records"):
            other = (start + int(row["counterparty"]) - 2) % len(rest)
            received = Fraction(row["counter_cash"] - row["counter_cost"]) * Fraction(QUANTUM) * 10**6
            fills[other] = [abs(row["lots"]), given["others"][other]["quote"] + math.floor(received)]
        received = Fraction(int((rows["cash"] - rows["cost"]).sum())) * Fraction(QUANTUM) * 10**6
        ours = {
            "liq_quote": given["liq_quote"] + math.ceil(received), "liq_btc": found.lots(1), "fills": fills,
            "remaining": int(rows.loc[rows["event"] == "unfilled", "requested"].sum()),
        }  # fmt: skip
        tried.append({name: ours[name] for name in expected})
    assert expected in tried


def walk(given: Given) -> tuple[Trader, Decimal, list[tuple[Decimal, Decimal]]]:
    """The trader, the mark, and the levels within the limit price: in the order in which they are met."""
    mark, size = number(given["oracle"]), given["btc"] * DYDX_STEPS["BTC"]
    trader = Trader(Decimal(given["quote"]).scaleb(-6), {"BTC": (size, mark)})
    side, sign = ("asks", 1) if size < 0 else ("bids", -1)
    levels = [(number(price), lots * DYDX_STEPS["BTC"]) for price, lots in given.get(f"book_{side}", [])]
    return trader, mark, [level for level in levels if sign * level[0] <= sign * number(given["limit_price"])]


def worse(price: Decimal, mark: Decimal, size: Decimal) -> Decimal:
    """What closing at a price costs, each."""
    return price - mark if size < 0 else mark - price


def nobody_pays(case: Given) -> bool:
    """An account without equity, and a fund without money."""
    trader, mark, _ = walk(case["inputs"])
    return equity(trader, {"BTC": mark}) <= 0 and case["inputs"]["insurance_fund"] == 0


def fund_decides(case: Given) -> bool:
    """A level that is worse than the bankruptcy price, or better by less than the fee."""
    trader, mark, levels = walk(case["inputs"])
    left, (size, _) = equity(trader, {"BTC": mark}), trader.held["BTC"]
    fee, still = Decimal(case["inputs"]["max_fee_ppm"]).scaleb(-6), abs(size)
    for price, lots in levels:
        if left <= 0 or still == 0:
            break
        if left / still < worse(price, mark, size) + fee * price:
            return True
        taken = min(lots, still)
        left, still = left - taken * (worse(price, mark, size) + fee * price), still - taken
    return False


def check_walk(case: Given) -> None:
    given, expected = case["inputs"], case["expected"]
    trader, mark, levels = walk(given)
    side = "asks" if given["btc"] < 0 else "bids"
    book = {"BTC": {side: [(float(price), float(lots)) for price, lots in levels]}}
    policy = TO_BOOK | {"liquidation_fee": f"{given['max_fee_ppm']}/1000000", "fund": given["insurance_fund"]}
    size = abs(trader.held["BTC"][0])
    found = run([trader], {"BTC": mark}, flat(number(given["maint"])), DYDX_STEPS, book, least=size, **policy)
    filled = abs(given["btc"] - found.lots(1))
    assert (found.quote(1), found.lots(1), filled) == tuple(expected[name] for name in ("quote", "btc", "filled"))
    if not found.lots(1) or equity(trader, {"BTC": mark}) <= 0:
        unfilled = len(found.event("unfilled")) > 0
        assert unfilled == (expected["status"] == "requires_deleveraging")


def never_liquidated(case: Given) -> bool:
    return case["inputs"]["quote_usd"] * case["inputs"]["btc_quantums"] >= 0


HIGHEST_FEE = Decimal("0.99")


def beyond_the_highest_fee(case: Given) -> bool:
    given = case["inputs"]
    flow = given["btc_quantums"] * DYDX_STEPS["BTC"] * number(given["fill_price_usd"])
    gain = number(given["quote_usd"]) + flow
    return Decimal(given["max_fee_ppm"]).scaleb(-6) > HIGHEST_FEE and gain > HIGHEST_FEE * abs(flow)


def check_fund_delta(case: Given) -> None:
    """Sold whole, the fee charged in full, and what is short then paid by the fund: together the same.

    A whole position's bankruptcy price does not depend on the mark. Here it is where a little equity is left, without
    which nothing is sold in the book.
    """
    given = case["inputs"]
    size, price = given["btc_quantums"] * DYDX_STEPS["BTC"], number(given["fill_price_usd"])
    mark = (-number(given["quote_usd"]) / size * (1 + Decimal("0.01").copy_sign(size))).quantize(Decimal("0.01"))
    book = {"BTC": {"asks" if given["is_buy"] else "bids": [(float(price), float(abs(size)))]}}
    fee = min(given["max_fee_ppm"], 10**6 * HIGHEST_FEE)
    policy = TO_BOOK | {"liquidation_fee": f"{int(fee)}/1000000", "fund": 10**6}
    trader, tick = Trader(number(given["quote_usd"]), {"BTC": (size, mark)}), min(price, Decimal("0.01"))
    found = run([trader], {"BTC": mark}, flat(TENTH), {"BTC": abs(size)}, book, tick=tick, **policy)
    assert found.lots(1) == 0
    assert math.floor((found.fund - 10**6) * 10**6) == case["expected"]["if_delta"]


def no_part(case: Given) -> bool:
    return not case["inputs"]["max_portion_ppm"]


def check_sizes(case: Given) -> None:
    """The largest slice of an account that stays liquidated, and that of one whom the least restores; in whole lots."""
    given, mark = case["inputs"], DYDX_MARKS["BTC"]
    size = given["btc_quantums"] * DYDX_STEPS["BTC"]
    policy = {
        "slice_fraction": f"{given['max_portion_ppm']}/1000000", "liquidation_fee": 0,
        "min_slice_notional": str(Decimal(given["min_notional"]).scaleb(-6)),
    }  # fmt: skip
    book = {"BTC": {side: [(float(mark), 10.0 * float(abs(size)))] for side in (["asks"] if size < 0 else ["bids"])}}
    required, lot = abs(size) * mark * TENTH, mark * DYDX_STEPS["BTC"] * 10**6
    for name, left, target in (("max", required / 2, "0.000001"), ("min", required - Decimal("0.000001"), 1)):
        trader = Trader(left - size * mark, {"BTC": (size, mark)})
        options = TO_BOOK | policy | {"target_mmr": target}
        found = run([trader], {"BTC": mark}, flat(TENTH), DYDX_STEPS, book, **options)
        lots = int(found.event("book")["requested"].iloc[0])
        assert lots == max(math.ceil(case["expected"][name] / lot), 1)


# ------------------------------------------------------------------------------------------------------------- BitMEX


def ranked_by(monkeypatch: pytest.MonkeyPatch, rank: adl_policies.Rank, shared: bool = False) -> Given:
    """A policy of one's own, for the time of a test."""
    monkeypatch.setitem(adl_policies.POLICIES, "of the test", adl_policies.AdlPolicy("of the test", rank, shared))
    return {"adl_policy": "of the test"}


def check_ranked(case: Given) -> None:
    """The page's lights, quintiles of the quantity in the order of the queue, are no part of it."""
    given, expected = case["inputs"], case["expected"]
    holders = sorted(given["accounts"], key=lambda holder: holder["id"])
    ids, score = [holder["id"] for holder in holders], np.array([float(holder["score"]) for holder in holders])
    lots = np.array([abs(holder["qty"]) for holder in holders])
    head = adl_policies.top_of_queue(score, lots, int(lots.sum()))
    assert [ids[n] for n in head.tolist()] == expected["order"]
    side, price = (1 if holders[0]["qty"] > 0 else -1), number(given["price"])
    mark = price * (1 - side * Decimal("0.01"))
    size = -side * number(given["bankrupt_size"])
    traders = [Trader(Decimal(10**8), {"X": (number(holder["qty"]), mark)}) for holder in holders]
    traders.append(Trader(-size * price, {"X": (size, mark)}))
    with pytest.MonkeyPatch.context() as monkeypatch:
        policy = TO_ADL | ranked_by(monkeypatch, lambda of: score)
        found = run(traders, {"X": mark}, flat(TENTH), {"X": Decimal(1)}, **policy)
    rows = found.event("adl")
    assert rows["price"].tolist() == pytest.approx([float(price)] * len(rows))
    fills = rows.groupby("counterparty", observed=True)["lots"].sum().abs()
    assert {str(ids[int(n) - 1]): lots for n, lots in fills.items()} == expected["fills"]


# ---------------------------------------------------------------------------------------------------------------- rules


def every(_: Given) -> bool:
    return True


Answer = Callable[[Given], None] | str
Rules = dict[str, list[tuple[Callable[[Given], bool], Answer]]]

# kinds of cases: which of them, and the check, or why there is none; the first that fits
RULES: Rules = {
    r"dydx-delev-\w+": [
        (delta_is_no_close, "refuses a size that closes nothing, or too much: here no size is given, it follows"),
        (delev_of_the_healthy, HEALTHY),
        (delev_with_the_liquidated, ITSELF),
        (every, check_delev),
    ],
    r"dydx-oracledelev-\w+": [
        (settled_at_a_loss, "refuses to leave a debt at the oracle price: here it is closed, and the fund pays"),
        (settled_healthy, HEALTHY),
        (settled_with_the_liquidated, ITSELF),
        (every, check_settlement),
    ],
    r"dydx-offset-\w+": [
        (offset_of_the_healthy, HEALTHY),
        (offset_of_a_part, "closes a part: here ADL closes what the backstop left, whole"),
        (offset_with_the_liquidated, ITSELF),
        (every, check_offset),
    ],
    r"dydx-walk-\w+": [
        (nobody_pays, "leaves to deleveraging what the fund cannot pay: here the last book closes it at any price"),
        (fund_decides, "asks fill by fill whether the fund can pay: here the account pays, and the fund what is short"),
        (every, check_walk),
    ],
    r"dydx-ifdelta-\w+": [
        (never_liquidated, "an account that owes nothing for its position has no bankruptcy price"),
        (beyond_the_highest_fee, "a liquidation fee of more than 99 %"),
        (every, check_fund_delta),
    ],
    r"dydx-minmax-\w+": [(no_part, "a slice of none of the position"), (every, check_sizes)],
    r"dydx-fillable-\w+": [
        (every, "the limit of a liquidation order grows with the distress: here the bands do not know the account"),
    ],
    r"doc-bitmex-adl": [(every, check_ranked)],
}  # fmt: skip


def answer(rules: Rules, case: Given) -> Answer | None:
    """Check of a case, or the reason why it has none."""
    found = next((rules[kind] for kind in rules if re.fullmatch(kind, case["id"])), [])
    return next((what for fits, what in found if fits(case)), None)


def read(file: str) -> list[Given]:
    # none without the folder: tests with the fixture `shared` are left out then
    path = FOLDER / f"{file}.json"
    return json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else []


CASES = [case for file in FILES for case in read(file) if any(re.fullmatch(kind, case["id"]) for kind in RULES)]
CHECKED = [case for case in CASES if callable(answer(RULES, case))]


def test_every_case_is_checked_or_has_a_reason(shared):
    assert [case["id"] for case in CASES if not answer(RULES, case)] == []


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case["id"])
def test_case(case):
    found = answer(RULES, case)
    assert callable(found)
    found(case)
