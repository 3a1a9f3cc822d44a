"""What changed the equity of an account over a run, against equities of the state between the ticks."""

from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from riskcore import Accounts, Engine, RiskDataError, load_venue, run, sample
from riskcore.io import read_ticks
from riskcore.record import EVENT, ROW, reader
from riskcore.record import EVENTS as EVENTS_OF_JOURNAL
from riskcore.run import RecordedRun, report
from riskcore.run.causes import CAUSES, equity_changes
from riskcore.run.losses import liquidation_losses
from tests import money_venues, small_run


def kept(inputs, path):
    """A run folder; marks and prices of assets that it used; the accounts before the first tick and after each."""
    venue, accounts, ticks = inputs
    engine, states = Engine(accounts, venue), [accounts.copy()]
    for tick in ticks:
        engine.step(tick)
        states.append(engine.accounts.copy())
    engine.save(path)
    _, mark, _, asset = reader.open_run(path).prices()
    return path, venue, mark, asset, states


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A run in which every stage but ADL has something to do, and funding falls due."""
    return kept(small_run.crash(), tmp_path_factory.mktemp("crash") / "run")


@pytest.fixture(scope="module")
def deleveraged(tmp_path_factory):
    """A run without fund and backstop, and with a customer who owes money and holds nothing."""
    source = sample.venue_source([])
    venue = load_venue(source | {"policy": source["policy"] | {"fund": 0}})
    _, made = sample.crash(120, 25)
    balances = made.balances[made.balances["account"] <= 120]
    balances = pd.concat([balances, pd.DataFrame({"account": [121], "asset": ["USDC"], "quantity": [-50.0]})])
    accounts = Accounts.from_frames(venue, made.positions, balances, made.orders)
    ticks = read_ticks(venue, accounts, made.marks)
    return kept((venue, accounts, ticks), tmp_path_factory.mktemp("deleveraged") / "run")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run of markets that settle in USDC, in USDT and, inverse, in BTC."""
    policy = {"slice_probability": 1, "fund": 1000, "realize_interval": 90}
    venue, accounts = money_venues.accounts(30, 2, money_venues.PROVIDERS, **policy)
    return kept((venue, accounts, money_venues.ticks(12, 2, -0.3)), tmp_path_factory.mktemp("mixed") / "run")


def value(venue, accounts, mark, asset):
    """Equity of every account without haircuts, in settle units."""
    columns, markets, count = accounts.columns, venue.markets, len(accounts)
    size = (
        columns.lots
        * np.array([float(a * b) for a, b in zip(markets.step, markets.multiplier, strict=True)])[columns.market]
    )
    price = mark[columns.market]
    worth = np.where(markets.inverse[columns.market], -size / price, size * price)
    worth *= asset[markets.settle[columns.market]]
    found = np.bincount(accounts.position_accounts(), np.where(size == 0, 0.0, worth), count)
    amount = columns.free + columns.lent + columns.unsettled - columns.balance_cost
    amount = amount * venue.assets.quantum_size[columns.asset]
    worth = np.where(amount == 0, 0.0, amount * asset[columns.asset])
    return found + np.bincount(accounts.balance_accounts(), worth, count)


@pytest.mark.parametrize(
    ("name", "causes"),
    [
        ("crash", {"price", "slippage", "fee", "backstop", "funding"}),
        ("deleveraged", {"price", "adl", "shortfall"}),
        ("mixed", {"price", "slippage", "fee", "backstop", "shortfall"}),
    ],
)
def test_price_is_what_the_moves_changed_between_the_events(name, causes, request):
    path, venue, mark, asset, states = request.getfixturevalue(name)
    moved = sum(
        value(venue, states[t], mark[t], asset[t]) - value(venue, states[t], mark[t - 1], asset[t - 1])
        for t in range(1, len(mark))
    )
    start, end = value(venue, states[0], mark[0], asset[0]), value(venue, states[-1], mark[-1], asset[-1])
    rows = reader.read_journal(path)
    seen = set()
    touched = np.unique(np.concatenate([rows["account"], rows["counterparty"]]))
    for row in (*touched[touched >= 0][::3], touched[-1]):
        found = asdict(run.explain(path, int(states[0].ids[row])).equity)
        seen |= {name for name, change in found.items() if change}
        assert found["start"] == pytest.approx(start[row], abs=1e-6)
        assert found["end"] == pytest.approx(end[row], abs=1e-6)
        assert found["price"] == pytest.approx(moved[row], abs=1e-6)
        assert sum(found.values()) - 2 * found["end"] == pytest.approx(0, abs=1e-6)
        own = rows[rows["account"] == row]
        unit = np.where(own["settle"] >= 0, asset[own["tick"], own["settle"]], 0.0)
        unit *= venue.assets.quantum_size[own["settle"]]
        assert found["fee"] == pytest.approx(-(own["fee"] * unit).sum())
        assert found["funding"] == pytest.approx((own["cash"] * unit)[own["event"] == EVENT["funding"]].sum())
    assert seen >= causes


EVENTS = {
    "slippage": ("book", "convert"), "provider_edge": ("backstop",), "adl": ("adl",), "funding": ("funding",),
    "interest": ("interest",), "shortfall": ("fund", "socialize", "shortfall"),
}  # fmt: skip


def exact_changes(path, states):
    """Equity and its causes of every account, in exact arithmetic; the price's by its moves."""
    recorded = RecordedRun.read(path)
    rows = recorded.rows
    lot, unit = (
        [[Fraction(price) if price == price else None for price in tick] for tick in prices.tolist()]
        for prices in (recorded.lot_value, recorded.quantum_value)
    )

    def equity(state, tick):
        columns = state.columns
        amounts = [Fraction(0)] * len(state)
        for account, market, lots in zip(
            state.position_accounts().tolist(), columns.market.tolist(), columns.lots.tolist(), strict=True
        ):
            amounts[account] += lots * lot[tick][market] if lots else 0
        quanta = columns.free + columns.lent + columns.unsettled - columns.balance_cost
        for account, asset, held in zip(
            state.balance_accounts().tolist(), columns.asset.tolist(), quanta.tolist(), strict=True
        ):
            amounts[account] += held * unit[tick][asset] if held else 0
        return np.array(amounts, object)

    found = {name: np.array([Fraction(0)] * len(states[0]), object) for name in CAUSES}
    found["start"], found["end"] = equity(states[0], 0), equity(states[-1], len(lot) - 1)
    for tick in range(1, len(lot)):
        found["price"] += equity(states[tick], tick) - equity(states[tick], tick - 1)
    cause_of = {event: cause for cause, events in EVENTS.items() for event in events}
    for row in pd.DataFrame({name: rows[name] for name in ROW.names}).astype(object).to_dict("records"):
        lots = row["lots"] * lot[row["tick"]][row["market"]] if row["lots"] else 0
        quanta = row["quanta"] + row["lent"]
        value = lots + (quanta * unit[row["tick"]][row["asset"]] if quanta else 0)
        cause = cause_of.get(EVENTS_OF_JOURNAL[row["event"]])
        quantum = unit[row["tick"]][row["settle"]] if row["settle"] >= 0 else Fraction(0)
        for side, change in (
            ("account", value + (row["cash"] - row["cost"] + row["unsettled"]) * quantum),
            ("counterparty", -value + (row["counter_cash"] - row["counter_cost"]) * quantum),
        ):
            if row[side] >= 0:
                assert cause or not change, "an event without a cause must change no equity"
                if cause:
                    found[cause][row[side]] += change
        if row["account"] >= 0:
            found["fee"][row["account"]] -= row["fee"] * quantum
            if cause == "provider_edge":
                found["provider_edge"][row["account"]] += row["fund"] * quantum
                found["fund_share"][row["account"]] -= row["fund"] * quantum
    return recorded, found


@pytest.mark.parametrize("name", ["crash", "deleveraged", "mixed"])
def test_causes_sum_to_the_change_of_equity_exactly(name, request):
    path, *_, states = request.getfixturevalue(name)
    recorded, exact = exact_changes(path, states)
    causes = sum(exact[cause] for cause in CAUSES)
    assert (exact["start"] + causes == exact["end"]).all()
    assert sum(causes) == sum(exact["end"]) - sum(exact["start"])
    found = equity_changes(recorded, np.arange(len(states[0])))
    assert list(found.columns) == ["start", "end", *CAUSES]
    for column in found:
        wanted = exact[column].astype(float)
        np.testing.assert_allclose(found[column], wanted, rtol=1e-13, atol=1e-7, err_msg=column)
    if recorded.venue.plain_money:
        # and for the causes that have an exact sum in whole quanta, to the last quantum
        fees = found["fee"].sum() / float(recorded.venue.settle_quantum)
        assert round(fees) == -recorded.rows["fee"].sum()


def test_the_report_and_the_explanation_show_the_same_causes(crash):
    path = crash[0]
    recorded = RecordedRun.read(path)
    losses = liquidation_losses(recorded)
    assert len(losses) > 5
    for loss in losses.to_dict("records"):
        # fees and takeovers come after the first trigger alone
        explained = run.explain(path, loss["account"]).equity
        assert loss["fees"] == pytest.approx(-explained.fee, abs=1e-9)
        assert loss["provider_edge"] + loss["fund_share"] == pytest.approx(-explained.backstop, abs=1e-9)
        assert loss["equity_end"] == explained.end


def test_providers_edge_is_that_of_the_report(crash):
    path = crash[0]
    last = report.provider_pnl(RecordedRun.read(path)).groupby("provider").last()
    assert (last["edge"] > 0).all()
    for provider, row in last.iterrows():
        found = run.explain(path, provider).equity
        assert found.backstop == pytest.approx(row["edge"])
        assert found.backstop + found.price == pytest.approx(row["pnl"])


def test_a_fill_by_hand(tmp_path):
    """Long 1 BTC from 100,000 with 890 USDC; at a mark of 99,750 slices are sold into bids at 99,740."""
    frames = small_run.tables()
    frames = {name: frames[name] for name in ("positions", "balances", "orders", "settings", "marks", "books")}
    frames["positions"] = pd.DataFrame(
        {"account": [1], "market": [small_run.BTC], "quantity": [1.0], "entry_price": [100_000.0]}
    )
    frames["balances"] = pd.DataFrame({"account": [1, small_run.PROVIDER], "asset": "USDC", "quantity": [890.0, 5e7]})
    frames["orders"], frames["settings"] = frames["orders"][:0], frames["settings"][:0]
    frames["asset_prices"] = None
    later = frames["marks"]["time"] == small_run.TIMES[1]
    frames["marks"].loc[later & (frames["marks"]["market"] == small_run.BTC), ["mark_price", "index_price"]] = 99_750.0
    at = frames["books"]["time"] == small_run.TIMES[1]
    frames["books"].loc[at, "price"] -= 250.0
    venue, accounts, ticks = small_run.read(frames)
    engine = Engine(accounts, venue, seed=3)
    rows = np.concatenate([engine.step(tick).rows for tick in ticks])
    engine.save(tmp_path / "run")
    fills = rows[rows["event"] == EVENT["book"]]
    found = run.explain(tmp_path / "run", 1)
    sold = -fills["lots"].sum() * float(venue.markets.step[0])
    assert sold > 0
    assert fills["price"] == pytest.approx(99_740.0)
    equity = found.equity
    assert (equity.start, equity.price) == (890.0, pytest.approx(-250.0))
    assert equity.slippage == pytest.approx(-10.0 * sold)
    assert equity.fee == pytest.approx(-fills["fee"].sum() / 1e6)
    assert equity.end == pytest.approx(640.0 - 10.0 * sold + equity.fee)
    assert (equity.backstop, equity.adl, equity.funding, equity.interest, equity.shortfall) == (0, 0, 0, 0, 0)
    events = found.events[found.events["event"] == "book"]
    assert events["quantity"].sum() == pytest.approx(-sold)
    assert found.settle_asset == "USDC"


def test_unknown_account_is_refused(crash):
    with pytest.raises(RiskDataError, match="must be an account of the run"):
        run.explain(crash[0], 10**6)
