"""What holds after every tick, and the engine that stops where it does not.

That honest ticks keep the invariants is tested by every test that steps an engine, the property tests among them.
"""

import numpy as np
import pytest

from riskcore import Engine
from riskcore.liquidation import waterfall
from riskcore.record import BOOK, EVENT, NOBODY, POOL, InvariantError
from tests import small_run


@pytest.fixture(scope="module")
def crash():
    return small_run.crash()


def step(engine, ticks):
    for tick in ticks:
        engine.step(tick)


@pytest.fixture
def broken(crash, monkeypatch):
    """Steps an engine through the crash with a corrupted last phase, until the engine stops; returns the error."""

    def step_until_broken(corrupt):
        venue, accounts, ticks = crash
        engine, corrupted = Engine(accounts, venue, seed=3), []

        def phase(state):
            if not corrupted and corrupt(state):
                corrupted.append(engine.ticks)

        real = waterfall.phases
        monkeypatch.setattr(waterfall, "phases", lambda policy, **host: (*real(policy, **host), phase))
        with pytest.raises(InvariantError) as caught:
            step(engine, ticks)
        assert corrupted == [engine.ticks], "caught in the same tick"
        with pytest.raises(RuntimeError, match="failed half-way: InvariantError"):
            engine.step(ticks.tick(engine.ticks))
        return caught.value, engine

    return step_until_broken


def altered(event, **changes):
    """Phase that adds to the columns of the last row of an event, or puts what is no whole number there."""

    def corrupt(state):
        rows = state.journal.rows()
        chosen = np.flatnonzero(rows["event"] == EVENT[event])
        if not chosen.size:
            return False
        for column, change in changes.items():
            rows[column][chosen[-1]] = change(rows[column][chosen[-1]]) if callable(change) else change
        state.journal._blocks = [rows]
        return True

    return corrupt


def plus(amount):
    return lambda value: value + amount


@pytest.mark.parametrize(
    ("event", "changes", "equation"),
    [
        ("book", {"lots": plus(2)}, r"lots in \w+ of account \d+ is 2 less than before the tick and its rows"),
        ("book", {"cost": plus(2), "cash": plus(2)}, r"more than one amount of account \d+ is not what it was before"),
        ("book", {"cash": plus(5)}, r"\+ fund \+ unsettled of a row is 5, not 0"),
        ("book", {"cash": plus(5), "counter_cash": plus(-5)}, r"free quanta of USDC of account \d+ is 5 less than"),
        ("book", {"fee": plus(3)}, r"free quanta of USDC of account \d+ is 3 more than"),
        ("book", {"entry": plus(-1)}, r"entry in \w+ of account \d+ is 1 more than"),
        ("book", {"counterparty": NOBODY}, r"a row moves an amount that nobody gives or takes"),
        ("book", {"market": -1}, r"a row moves an amount that nobody gives or takes"),
        ("book", {"settle": 1}, r"a row's money is of another asset than its market's, or of none"),
        ("convert", {"settle": -1}, r"a row's money is of another asset than its market's, or of none"),
        ("trigger", {"settle": 0}, r"a row's money is of another asset than its market's, or of none"),
        ("unsettle", {"settle": 99}, r"a row names an account, market, asset or counterparty that there is not"),
        ("book", {"market": 3}, r"a row names an account, market, asset or counterparty that there is not"),
        ("book", {"account": -1}, r"a row moves an amount that nobody gives or takes"),
        ("book", {"account": 10**6}, r"a row names an account, market, asset or counterparty that there is not"),
        ("book", {"counterparty": POOL - 1}, r"a row names an account, market, asset or counterparty"),
        ("book", {"price": np.nan}, r"the price of a row is nan"),
        ("book", {"price": -np.inf}, r"the price of a row is -inf"),
        ("book", {"mmr_after": np.nan}, r"the margin ratios of a row are [\d.]+ and nan"),
        ("trigger", {"mmr_before": -1.0}, r"the margin ratios of a row are -1.0 and [\d.]+"),
        ("backstop", {"lots": plus(1)}, r"lots in \w+ of account \d+ is 1 less than"),
        ("backstop", {"counter_entry": plus(4)}, r"entry in \w+ of account \d+ is 4 less than"),
        ("backstop", {"counter_cash": plus(-2), "fund": plus(2)}, r"free quanta of USDC of account \d+ is 2 more than"),
        ("backstop", {"counterparty": BOOK}, r"a row moves an amount that nobody gives or takes"),
        ("convert", {"quanta": plus(-7)}, r"free quanta of \w+ of account \d+ is 7 more than"),
        ("convert", {"asset": -1}, r"a row moves an amount that nobody gives or takes"),
        ("funding", {"cash": plus(1), "counter_cash": plus(-1)}, r"free quanta of USDC of account \d+ is 1 less than"),
        ("funding", {"price": np.nan}, r"the price of a row is nan"),
        ("unsettle", {"cash": plus(1), "unsettled": plus(-1)}, r"more than one amount of account \d+"),
        ("realize", {"cost": plus(1)}, r"\+ fund \+ unsettled of a row is -1, not 0"),
    ],
)
def test_a_wrong_row_stops_the_engine(broken, event, changes, equation):
    error, _ = broken(altered(event, **changes))
    with pytest.raises(InvariantError, match=rf"^.*{equation}.*; row \d+: {{.*'event': '"):
        raise error
    assert EVENT[event] in error.rows["event"]
    assert len(error.rows) == len(error.numbers) > 0


@pytest.mark.parametrize("column", ["lots", "cost", "entry", "free", "lent", "unsettled"])
def test_an_account_that_changes_without_a_row_stops_the_engine(broken, column):
    def corrupt(state):
        accounts, account = state.accounts, int(state.selected[-1])
        settle = accounts.columns.settle_row[account]
        row = {"free": accounts.balances_of(account).start, "lent": accounts.balances_of(account).start,
               "unsettled": settle}.get(column, accounts.positions_of(account).start)  # fmt: skip
        getattr(accounts.columns, column)[row] -= 9
        accounts.columns.balance_cost[settle] -= 9 * (column == "cost")
        state.journal.add("skip", "throttle", account, 1.0, 1.0, market=0)
        corrupt.account = accounts.ids[account]
        return True

    error, _ = broken(corrupt)
    expected = rf"^{column}[\w ]* of account {corrupt.account} is 9 less than before the tick and its rows; row \d+: "
    with pytest.raises(InvariantError, match=expected):
        raise error


def test_rows_of_an_account_are_counted_beyond_the_first_three(broken):
    def corrupt(state):
        for _ in range(9):
            state.journal.add("skip", "throttle", int(state.selected[0]), 1.0, 1.0, market=0)
        state.accounts.columns.entry[state.accounts.positions_of(int(state.selected[0])).start] += 2**50
        return True

    error, _ = broken(corrupt)
    assert str(error).endswith(f"; {len(error.rows) - 3} more")
    assert str(error).count("; row ") == 3
    assert str(error).startswith("more than one amount of account")


@pytest.mark.parametrize("name", ["book_lots", "book_quanta", "pool"])
def test_a_ledger_of_markets_or_assets_that_makes_or_loses_anything_stops_the_engine(broken, name):
    def corrupt(state):
        getattr(state.ledger, name)[1] += 4
        return True

    error, engine = broken(corrupt)
    symbol = (engine.venue.markets if name == "book_lots" else engine.venue.assets).symbol[1]
    assert str(error).startswith(f"{name} of {symbol} in the ledger is 4 more than before the tick and its rows; ")


@pytest.mark.parametrize("name", ["fund", "shortfall"])
def test_a_fund_or_shortfall_that_makes_or_loses_anything_stops_the_engine(broken, name):
    def corrupt(state):
        getattr(state.ledger, name)[state.venue.settle] -= 6
        return True

    error, _ = broken(corrupt)
    assert str(error).startswith(f"{name} of USDC in the ledger is 6 less than before the tick and its rows; ")


def test_a_premium_that_is_no_number_stops_the_engine(broken):
    def corrupt(state):
        state.ledger.premium_sum[2] = np.nan
        return True

    error, engine = broken(corrupt)
    assert str(error) == f"premium_sum of {engine.venue.markets.symbol[2]} is nan; no row of the tick"


def test_rows_of_the_makers_are_named(broken):
    def corrupt(state):
        if not (state.journal.rows()["event"] == EVENT["book"]).any():
            return False
        state.ledger.book_quanta[state.venue.settle] += 3
        return True

    error, _ = broken(corrupt)
    assert set(error.rows["counterparty"].tolist()) == {BOOK}
    assert (error.rows["counter_cash"] != 0).all()


def test_a_resumed_engine_compares_with_the_state_that_was_kept(crash, tmp_path):
    venue, accounts, ticks = crash
    engine = Engine(accounts, venue, seed=3)
    step(engine, list(ticks)[:15])
    engine.save(tmp_path)
    resumed = Engine.resume(tmp_path)
    resumed.ledger.fund[venue.settle] += 1
    with pytest.raises(InvariantError, match="fund of USDC in the ledger is 1 more than before the tick and its rows"):
        step(resumed, list(ticks)[15:])
