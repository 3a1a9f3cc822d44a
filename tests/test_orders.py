"""Orders that grow: numbers stay, ids find them, and the sums of the position rows follow."""

import copy
import pickle
from bisect import insort

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import riskcore as rc
from riskcore.state import Accounts

SOL, BTC = "SOL_USDC_PERP", "BTC_USDC_PERP"
VENUE = rc.load_venue("backpack")


def read(orders=None):
    positions = pd.DataFrame(
        [(account, market, 1.0, 100.0) for account in (1, 2, 3) for market in (SOL, BTC)],
        columns=["account", "market", "quantity", "entry_price"],
    )
    balances = pd.DataFrame({"account": [1, 2, 3], "asset": "USDC", "quantity": 1e5})
    return Accounts.from_frames(VENUE, positions, balances, orders)


def table(*rows):
    return pd.DataFrame(rows, columns=["account", "market", "side", "price", "quantity", "order"])


STARTED = table(
    (2, SOL, "ask", 210.0, 2.0, "exit"), (2, SOL, "bid", 190.0, 1.0, None), (1, BTC, "bid", 60_000.0, 0.5, 77),
)  # fmt: skip


class TestIds:
    def test_the_number_is_the_default(self):
        orders = read(STARTED).orders
        assert [orders.id_of(n) for n in range(3)] == ["77", "1", "exit"]
        assert [orders.number_of(a, i) for a, i in ((0, "77"), (1, "1"), (1, "exit"))] == [0, 1, 2]

    @pytest.mark.parametrize(("account", "id_"), [(0, "exit"), (1, "2"), (1, "0"), (0, "1"), (1, "³"), (1, "9" * 40)])
    def test_others_are_unknown(self, account, id_):
        with pytest.raises(KeyError):
            read(STARTED).orders.number_of(account, id_)

    def test_an_order_that_is_closed_is_not_found_and_its_id_is_free(self):
        state = read(STARTED).copy()
        state.change_order(2, 0)
        with pytest.raises(KeyError):
            state.orders.number_of(1, "exit")
        number = state.place_order(1, VENUE.markets.row[SOL], -1, 25_000, 5, reduce_only=True, id_="exit")
        assert (number, state.orders.number_of(1, "exit")) == (3, 3)

    def test_whole_numbers_may_come_as_float_beside_missing_ones(self):
        orders = read(STARTED.assign(order=[4.0, np.nan, 5.0])).orders
        assert [orders.id_of(n) for n in range(3)] == ["5", "1", "4"]

    @pytest.mark.parametrize(
        ("ids", "row", "value"),
        [(["a", "a", "a"], 0, "a"), (["1", None, "x"], 0, "1")],
    )
    def test_one_that_appears_twice_in_an_account_is_refused(self, ids, row, value):
        with pytest.raises(rc.RiskDataError) as error:
            read(STARTED.assign(order=ids))
        rule = "must not be the id of another open order of the account"
        assert str(error.value) == f"orders.order, row {row}, value {value!r}: {rule}"

    @pytest.mark.parametrize("value", [True, 1.5, 1j, np.inf, b"a", "\ud800"])
    def test_other_values_are_refused(self, value):
        with pytest.raises(rc.RiskDataError, match=r"^orders\.order, row 1, value .*: must be text") as error:
            read(STARTED.assign(order=pd.Series(["a", value, "b"], dtype=object)))
        assert len(str(error.value).splitlines()) == 1

    def test_frames_keep_them(self):
        accounts = read(STARTED)
        frames = accounts.to_frames()
        assert frames.orders["order"].tolist() == ["77", "1", "exit"]
        again = Accounts.from_frames(VENUE, *frames)
        assert [again.orders.id_of(n) for n in range(3)] == ["77", "1", "exit"]
        assert "order" not in read(STARTED.drop(columns="order")).to_frames().orders.columns

    def test_frames_are_in_order_and_keep_the_ids_of_orders_that_were_placed(self):
        state = read(STARTED.drop(columns="order")).copy()
        state.place_order(1, VENUE.markets.row[SOL], 1, 18_000, 5, reduce_only=False)
        state.change_order(0, 0)
        frame = state.to_frames().orders
        assert frame[["account", "price", "order"]].to_numpy().tolist() == [
            [2, 180.0, "3"], [2, 190.0, "1"], [2, 210.0, "2"],
        ]  # fmt: skip


def test_a_view_shows_what_is_appended_and_cannot_be_written():
    state = read(STARTED).copy()
    view = state.view()
    for n in range(3000):
        number = state.place_order(2, VENUE.markets.row[SOL], 1, 18_000 + n, 5, reduce_only=False)
        assert (len(view.orders), view.orders.price[number]) == (n + 4, 18_000 + n)
    assert view.orders.open_of(2).tolist() == list(range(3, 3003))
    state.change_order(17, 0)
    assert view.orders.open_of(2).tolist() == [*range(3, 17), *range(18, 3003)]
    with pytest.raises(ValueError, match="read-only"):
        view.orders.lots[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        read(STARTED).orders.append(0, 0, 1, 1, 1, reduce_only=False)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), lambda a: a.copy()])
def test_a_copy_goes_on_by_itself(how):
    state = read(STARTED).copy()
    state.place_order(0, VENUE.markets.row[SOL], 1, 18_000, 5, reduce_only=False, id_="mine")
    other = how(state).copy()
    state.place_order(0, VENUE.markets.row[SOL], 1, 18_001, 5, reduce_only=False, id_="later")
    assert (len(other.orders), other.orders.number_of(0, "mine"), other.orders.first) == (4, 3, 3)
    assert other.place_order(0, VENUE.markets.row[BTC], 1, 1, 5, reduce_only=False) == 4
    assert other.orders.open_of(0).tolist() == [4, 0, 3]
    assert state.orders.open_of(0).tolist() == [0, 3, 4]


actions = st.lists(
    st.tuples(
        st.sampled_from(["place", "place", "change", "close"]), st.integers(0, 2), st.integers(0, 1),
        st.sampled_from([1, -1]), st.integers(1, 3), st.integers(1, 9), st.booleans(),
    ),
    max_size=60,
)  # fmt: skip


@given(actions, st.booleans())
def test_sums_and_order_follow_any_sequence(drawn, is_taken_back):
    """The columns are those of accounts that are built from the orders as they are."""
    state = read(STARTED).copy()
    before = pickle.dumps((state.columns, state.orders))
    undo, first = [], len(state.orders)
    for what, account, market, side, price, lots, reduce_only in drawn:
        market = VENUE.markets.row[(SOL, BTC)[market]]
        if what == "place":
            state.place_order(account, market, side, price, lots, reduce_only=reduce_only)
            undo.append((len(state.orders) - 1, 0, price))
            continue
        numbers = state.orders.open_of(account).tolist()
        if numbers:
            number = numbers[price % len(numbers)]
            undo.append((number, int(state.orders.lots[number]), int(state.orders.price[number])))
            state.change_order(number, 0 if what == "close" else lots, price)
    columns, orders = state.columns, state.orders.columns
    for account in range(3):
        expected = []
        for number in range(len(orders.lots)):
            if orders.account[number] == account and orders.lots[number]:
                key = orders.market[number], -orders.side[number], orders.price[number], number
                insort(expected, tuple(map(int, key)))
        assert state.orders.open_of(account).tolist() == [number for *_, number in expected]
        assert columns.open_orders[account] == len(expected)
        for row in state.positions_of(account):
            for side, column in ((1, columns.open_bid), (-1, columns.open_ask)):
                of_row = (orders.account == account) & (orders.market == columns.market[row]) & (orders.side == side)
                assert column[row] == orders.lots[of_row & ~orders.reduce_only].sum()
    if is_taken_back:
        for number, lots, price in reversed(undo):
            state.change_order(number, lots, price)
        state.orders.truncate(first)
        assert pickle.dumps((state.columns, state.orders)) == before
