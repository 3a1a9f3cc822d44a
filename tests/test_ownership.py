"""What is promised not to change does not: an engine's state, what is copied, what comes out of a pickle."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.market import Books, Tick
from tests.test_units import BALANCES, BTC, ETH, MARKS, POSITIONS, SOURCE, START, altered, market

SECOND = 10**9
HOUR_LATER = Tick(START + 3600 * SECOND, MARKS, funding_rates=dict.fromkeys(MARKS, 0.001))
ORDERS = pd.DataFrame({"account": [2], "market": ETH, "side": "bid", "price": 3_000.0, "quantity": 1.0})
TAKEN = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
}


@pytest.fixture(scope="module")
def held():
    venue = rc.load_venue(SOURCE)
    return venue, rc.Accounts.from_frames(venue, POSITIONS, BALANCES, ORDERS)


@pytest.fixture
def engine(held):
    venue, accounts = held
    return rc.Engine(accounts, venue)


@pytest.mark.parametrize("name", ["accounts", "ledger", "memory", "venue", "seed", "ticks", "time"])
def test_nobody_puts_another_state_into_an_engine(engine, name):
    with pytest.raises(AttributeError, match=name):
        setattr(engine, name, getattr(engine, name))


@pytest.mark.parametrize("taken", TAKEN)
def test_a_copy_of_an_engine_shares_nothing_that_changes(engine, taken):
    other = TAKEN[taken](engine)
    before = engine.accounts.columns.free.copy()
    assert other.step(Tick(START, MARKS)).rows["event"].size
    assert other.step(HOUR_LATER).rows["event"].size
    assert not np.array_equal(other.accounts.columns.free, before)
    np.testing.assert_array_equal(engine.accounts.columns.free, before)
    assert (engine.ticks, engine.time, other.ticks) == (0, None, 2)
    assert not np.array_equal(engine.ledger.book_quanta, other.ledger.book_quanta)
    np.testing.assert_array_equal(other.accounts.columns.free, other._state.columns.free)


def arrays(accounts):
    return [*accounts.columns, *accounts.orders.columns, accounts.ids, accounts.leverage_limit]


@pytest.mark.parametrize("taken", TAKEN)
def test_nobody_writes_to_copied_accounts(held, taken):
    venue, accounts = held
    rc.sweep(accounts, venue, MARKS)
    other = TAKEN[taken](accounts)
    for array in arrays(other):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    for mine, theirs in zip(arrays(accounts), arrays(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    pd.testing.assert_frame_equal(rc.sweep(accounts, venue, MARKS).to_frame(), rc.sweep(other, venue, MARKS).to_frame())


@pytest.mark.parametrize("taken", TAKEN)
def test_a_copy_of_an_engines_accounts_stays_as_it_is(engine, taken):
    was = TAKEN[taken](engine.accounts)
    free, lots = was.columns.free.copy(), was.columns.lots.copy()
    engine.step(Tick(START, MARKS))
    engine.step(HOUR_LATER)
    assert not np.array_equal(engine.accounts.columns.free, free)
    np.testing.assert_array_equal(was.columns.free, free)
    np.testing.assert_array_equal(was.columns.lots, lots)
    with pytest.raises(ValueError, match="read-only"):
        was.columns.free[0] = 0


def test_an_engine_begun_in_the_midst_of_another_keeps_its_own_start(engine, held, tmp_path):
    engine.step(Tick(START, MARKS))
    second = rc.Engine(engine.accounts, held[0])
    start = engine.accounts.columns.free.copy()
    engine.step(HOUR_LATER)
    assert not np.array_equal(engine.accounts.columns.free, start)
    second.save(tmp_path / "run")
    kept = pd.read_parquet(tmp_path / "run/start/balances.parquet")["quanta"]
    np.testing.assert_array_equal(kept, start)


def test_what_if_accounts_of_an_engine_stay_as_they_are(engine, held):
    after = engine.accounts.with_fills(held[0])
    assert after.orders.lots.tolist() == [10_000]
    engine.step(Tick(START, MARKS))
    assert engine.accounts.orders.lots.tolist() == [0]
    assert after.orders.lots.tolist() == [10_000]


def test_a_copy_that_one_can_write_to_stays_one(held):
    own = held[1].copy()
    for taken in (copy.copy, copy.deepcopy):
        other = taken(own)
        other.columns.lots[0] += 1
        assert own.columns.lots[0] == other.columns.lots[0] - 1


def whole(offset, price, lots, time=(0, 0, 0)):
    return Books(*(np.array(column, np.int64) for column in (offset, price, lots, time)))


RIGHT = {"offset": (0, 2, 4, 4, 4, 4, 4), "price": (999_000, 998_000, 1_001_000, 1_002_000), "lots": (5, 6, 7, 8)}
WRONG = {
    "unsorted bids": ({"price": (998, 999, 1_001, 1_002)}, f"books.price, row {BTC} bid 1, value 999: must get worse"),
    "a level twice": ({"price": (999, 998, 1_001, 1_001)}, f"books.price, row {BTC} ask 1, value 1001: must get worse"),
    "no price": (
        {"price": (999, 0, 1_001, 1_002)},
        f"books.price, row {BTC} bid 1, value 0: must be at least one tick",
    ),
    "above maxPrice": ({"price": (9, 8, 10**7, 10**7 + 1)}, f"books.price, row {BTC} ask 1, value 10000001: must be "),
    "no lots": ({"lots": (5, 6, -7, 8)}, f"books.lots, row {BTC} ask 0, value -7: must be at least one lot and less"),
    "too many lots": ({"lots": (2**53, 6, 7, 8)}, f"books.lots, row {BTC} bid 0, value 9007199254740992: must be at "),
    "too deep": ({"lots": (2**52, 6, 7, 8)}, f"books.lots, row {BTC} bid 0, value 4503599627370496: a side"),
    "fewer lots": ({"lots": (5, 6, 7)}, "books.lots: must be 4 whole numbers, not 3"),
    "another number of books": ({"offset": (0, 2, 4)}, "books.offset: must be 7 whole numbers, not 3"),
    "descending": ({"offset": (0, 3, 2, 4, 4, 4, 4)}, f"books.offset, row {BTC} ask, value 2: must begin with 0, not "),
    "past the end": ({"offset": (0, 2, 9, 9, 9, 9, 9)}, f"books.offset, row {BTC} bid, value 2: must begin with 0"),
    "before the first": ({"offset": (-1, 2, 4, 4, 4, 4, 4)}, f"books.offset, row {BTC} bid, value 2: must begin with"),
    "times": ({"time": (0, 0)}, "books.time: must be 3 whole numbers, not 2"),
    "later than the tick": (
        {"time": (0, START + 5, 0)},
        f"books.time, row {ETH}, value '2025-10-09.*': must not",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_books_given_as_an_object_are_checked(engine, name):
    change, message = WRONG[name]
    with pytest.raises(rc.RiskDataError, match=f"^{message}"):
        engine.step(Tick(START, MARKS, whole(**RIGHT | change)))
    assert engine.ticks == 0


@pytest.mark.parametrize("array", [np.array([1.0] * 4), np.array([[1, 2, 3, 4]]), [1, 2, 3, 4], np.array(list("abcd"))])
def test_what_is_not_an_array_of_whole_numbers_is_refused(engine, array):
    with pytest.raises(rc.RiskDataError, match=r"^books.lots, value .*: must be a one-dimensional array of whole numb"):
        engine.step(Tick(START, MARKS, replace(whole(**RIGHT), lots=array)))


def test_books_of_a_venue_of_other_units_are_refused(engine):
    other = altered(market(0, "price", "tickSize", "0.2"))
    frame = pd.DataFrame({"market": [BTC], "side": "bid", "level": 0, "price": 99_000.0, "quantity": 1.0})
    with pytest.raises(rc.RiskDataError, match=r"^venue.tickSize, row BTC_USDC_PERP, .* the books were read with"):
        engine.step(Tick(START, MARKS, Books.from_frame(other, frame, START)))


def test_books_as_an_object_are_those_of_a_frame_and_kept_apart_from_the_users_arrays(engine, tmp_path):
    rows = [(BTC, "bid", 0, 99_900.0, 5e-5), (BTC, "bid", 1, 99_800.0, 6e-5), (BTC, "ask", 0, 100_100.0, 7e-5)]
    rows.append((BTC, "ask", 1, 100_200.0, 8e-5))
    frame = pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])
    other, given = copy.copy(engine), whole(**RIGHT)
    first, second = other.step(Tick(START, MARKS, frame)), engine.step(Tick(START, MARKS, given))
    assert first.rows.tobytes() == second.rows.tobytes()
    given.price[:] = 1
    engine.save(tmp_path / "run")
    assert pd.read_parquet(tmp_path / "run/books/00000.parquet")["price"].tolist() == list(RIGHT["price"])
