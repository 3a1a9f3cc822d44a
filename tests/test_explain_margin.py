"""The margin of one account line by line: worked example E2, and the exact margin as the sum of the lines."""

from decimal import Decimal
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import reference, sample
from tests.comparison import holdings
from tests.strategies import Scene, scenes

BTC, SOL = "BTC_USDC_PERP", "SOL_USDC_PERP"
AMOUNTS = ["net_equity", "exposure", "initial_margin", "maintenance_margin"]
KINDS = ["collateral", "borrow", "position", "orders", "unsettled", "leverage_limit", "total"]


def e2():
    """The mixed account of venue_rules.md 1.8."""
    btc = sample.market_row(
        "BTC", "0.1", "0.00001", ("0.01333333", "0.00002494"), ("0.00666667", "0.00001496"), impact=None
    )
    sol = sample.market_row("SOL", "0.01", "0.01", ("0.02", "0.000075"), ("0.0135", "0.0000375"), impact=None)
    haircut = {"weight": "0.95", "kind": {"type": "identity"}}
    venue = rc.load_venue(
        {
            "settle_asset": "USDC",
            "markets": [btc, sol],
            "collateral": [{"symbol": "SOL", "haircutFunction": haircut}],
        }
    )
    accounts = rc.Accounts.from_frames(
        venue,
        pd.DataFrame({"account": 1, "market": [BTC, SOL], "quantity": [0.5, -300.0], "entry_price": [86_000.0, 150.0]}),
        pd.DataFrame({"account": 1, "asset": ["SOL", "USDC"], "quantity": [200.0, -12_000.0]}),
        pd.DataFrame(
            [(1, BTC, "bid", 86_000.0, 0.2), (1, SOL, "ask", 150.0, 50.0)],
            columns=["account", "market", "side", "price", "quantity"],
        ),
    )
    return accounts, venue, {BTC: 86_700.0, SOL: 145.0}


def test_e2_line_by_line():
    accounts, venue, marks = e2()
    frame = rc.explain_margin(accounts, venue, marks, 1)
    expected = [
        # kind, item, quantity, price, settle asset, PnL, weight, net equity, exposure, initial and maintenance margin
        ("collateral", "SOL", "200", "145", None, None, "0.95", "27550", "0", "0", "0"),
        ("borrow", "USDC", "-12000", "1", None, None, "1", "-12000", "12000", "1200", "600"),
        ("position", BTC, "0.5", "86700", "USDC", "350", None, "350", "43350", "577.9998555", "289.0001445"),
        ("orders", BTC, None, None, None, None, None, "0", "17340", "231.1999422", "0"),
        ("position", SOL, "-300", "145", "USDC", "1500", None, "1500", "43500", "870", "587.25"),
        ("orders", SOL, None, None, None, None, None, "0", "7250", "145", "0"),
        ("total", None, None, None, None, None, None, "17400", "123440", "3024.1997977", "1476.2501445"),
    ]
    assert list(frame.columns) == ["kind", "item", "quantity", "price", "settle_asset", "pnl", "weight", *AMOUNTS]
    found = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    figures = [[None if x in (None, "USDC") else Decimal(x) for x in row[2:]] for row in expected]
    for row, figure in zip(expected, figures, strict=True):
        figure[2] = row[4]
    assert found == [[*row[:2], *figure] for row, figure in zip(expected, figures, strict=True)]


def test_a_limit_of_ones_own_and_what_is_unsettled():
    """A leverage of 2 asks half of 100,000 for the position, half of the order, and half of the debt on top."""
    venue = rc.load_venue(sample.venue_source([]))
    accounts = rc.Accounts.from_frames(
        venue,
        pd.DataFrame({"account": ["me"], "market": [BTC], "quantity": [1.0], "entry_price": [99_000.0]}),
        pd.DataFrame({"account": ["me"], "asset": ["USDC"], "quantity": [-1_000.0]}),
        pd.DataFrame({"account": ["me"], "market": [BTC], "side": ["bid"], "price": [99_000.0], "quantity": [0.5]}),
        pd.DataFrame({"account": ["me"], "leverage_limit": [2.0], "unsettled": [-12.5]}),
    )
    frame = rc.explain_margin(accounts, venue, {BTC: 100_000.0}, "me").set_index("kind")
    assert frame["initial_margin"].to_dict() == {
        "borrow": 100, "position": 50_000, "orders": 25_000, "unsettled": 0, "leverage_limit": 400, "total": 75_500
    }  # fmt: skip
    assert frame.loc["unsettled", ["item", "net_equity"]].tolist() == ["USDC", Decimal("-12.5")]
    assert frame.loc["total", "net_equity"] == 1_000 - 1_000 - Decimal("12.5")


def test_an_account_with_nothing():
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [0.0]})
    frame = rc.explain_margin(rc.Accounts.from_frames(venue, positions, balances), venue, {}, 1)
    assert frame["kind"].tolist() == ["total"]
    assert frame[AMOUNTS].to_numpy().tolist() == [[0, 0, 0, 0]]


@settings(max_examples=40)
@given(scenes(), st.data())
def test_the_lines_add_up_to_the_exact_margin(scene: Scene, data):
    """The last line is the sum of the others to the digit, and the oracle's margin to 15 places a line."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    first, before = scene.ticks[0], holdings(accounts)
    prices = first.prices().at(oracle, state)
    others = {"indexes": first.indexes, "asset_prices": first.asset_prices, "open_interest": first.open_interest}
    for account_id in data.draw(st.permutations(list(state.accounts)))[:4]:
        frame = rc.explain_margin(accounts, venue, first.marks, account_id, **others)
        account = state.accounts[account_id]
        look = reference.margin(oracle, account, prices)
        lines, total = frame.iloc[:-1], frame.iloc[-1]
        for name in AMOUNTS:
            assert sum(map(Fraction, lines[name])) == Fraction(total[name])
            expected = getattr(look, name)
            assert abs(Fraction(total[name]) - expected) <= Fraction(1, 10**15) * (len(lines) + abs(expected))
        for line in lines.to_dict("records"):
            assert_right_line(line, oracle, account, prices, look)
        assert lines["kind"].isin(KINDS[:-1]).all()
        kept = lines[lines["kind"].isin(KINDS[:4])]
        assert not kept.duplicated(["kind", "item"]).any()
        assert set(lines.loc[lines["kind"] == "position", "item"]) >= set(look.position_maintenance_margins)
        assert set(lines.loc[lines["kind"] == "borrow", "item"]) == set(look.borrow_maintenance_margins)
        assert total["kind"] == "total"
    assert holdings(accounts) == before


def assert_right_line(
    line, oracle: reference.Venue, account: reference.Account, prices: reference.Prices, look: reference.Margin
):
    """Each line against the oracle's state: what is held, at what price, and what it is worth or needs."""
    item, unit = line["item"], Fraction(1, 10**15)
    required = {"position": look.position_maintenance_margins, "borrow": look.borrow_maintenance_margins}
    margin = required.get(line["kind"], {}).get(item, 0)
    assert abs(Fraction(line["maintenance_margin"]) - margin) <= unit * (1 + margin)
    initial = Fraction(line["initial_margin"])
    if line["kind"] == "position":
        lots, cost, _ = account.positions.get(item, (0, 0, 0))
        value = lots * prices.of_lot(oracle, item)
        assert Fraction(line["quantity"]) == lots * oracle.markets[item].step_size
        assert Fraction(line["price"]) == prices.marks[item]
        assert abs(Fraction(line["net_equity"]) - value + cost * oracle.settle_quantum) <= unit
        assert abs(Fraction(line["exposure"]) - abs(value)) <= unit
        least = 0 if account.leverage_limit is None else abs(value) / account.leverage_limit
        margin = oracle.markets[item].initial(abs(value), prices.marks[item], prices.of_open_interest(oracle, item))
        assert abs(initial - max(margin, least)) <= unit * (1 + initial)
    elif line["kind"] in ("collateral", "borrow"):
        free, lent = account.balances[item]
        quanta = -max(-free, 0) if line["kind"] == "borrow" else max(free, 0) + lent
        assert Fraction(line["quantity"]) == quanta * oracle.assets[item].quantum
        assert Fraction(line["price"]) == prices.of_asset(oracle, item)
        worth = Fraction(line["quantity"]) * Fraction(line["price"])
        assert abs(Fraction(line["net_equity"]) - worth * Fraction(line["weight"])) <= unit * (1 + abs(worth))
        assert abs(Fraction(line["exposure"]) - max(-worth, 0)) <= unit
        margin = oracle.assets[item].initial(max(-worth, 0), Fraction(line["price"]))
        assert abs(initial - margin) <= unit * (1 + margin)
    elif line["kind"] == "orders":
        assert line["exposure"] > 0
        assert account.open_lots(item, "bid") or account.open_lots(item, "ask")
    elif line["kind"] == "unsettled":
        assert Fraction(line["net_equity"]) == account.unsettled[oracle.settle] * oracle.settle_quantum
    else:
        assert account.leverage_limit is not None


@pytest.mark.parametrize("account", [7, "1", None])
def test_no_such_account(account):
    with pytest.raises(rc.RiskDataError) as caught:
        rc.explain_margin(*e2(), account)
    assert str(caught.value) == f"accounts.account, value '{account}': must be an account of the state"


def test_a_price_is_missing():
    accounts, venue, marks = e2()
    with pytest.raises(rc.RiskDataError) as caught:
        rc.explain_margin(accounts, venue, {BTC: marks[BTC]}, 1)
    assert str(caught.value) == "marks.SOL_USDC_PERP: an account holds it: a mark is needed"
