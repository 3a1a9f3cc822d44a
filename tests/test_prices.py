"""Prices of a tick: mappings and Series alike, and one line for what is wrong with one."""

import numpy as np
import pandas as pd
import pytest

from riskcore import Engine, RiskDataError, Tick, io, load_venue, sweep
from tests import small_run
from tests.small_run import BTC, ETH

MARKS = {BTC: 1e5, ETH: 4e3}
BOOK = {BTC: {"bids": [(99_990.0, 1.0)], "asks": [(100_010.0, 1.0), (100_020.0, 1.0)]}}
LATE = "must not be later than the tick"
TIME = "must be a timestamp, ISO text or whole nanoseconds since the epoch, from 2000 to 2200"
OTHERS = {
    "indexes": {BTC: 99_950.0},
    "asset_prices": {"XAU": 4e3},
    "open_interest": {BTC: 500.0},
    "funding_rates": {BTC: 0.0001},
}


@pytest.fixture(scope="module")
def state():
    venue, accounts, _ = small_run.read(small_run.tables())
    return accounts, venue


def test_series_are_taken_as_mappings_are(state):
    accounts, venue = state
    found = []
    for kind in (dict, pd.Series):
        engine = Engine(accounts, venue)
        for time in ("2026-01-01T00:59:00Z", "2026-01-01T01:00:00Z"):
            tick = Tick(time, kind(MARKS), **{name: kind(values) for name, values in OTHERS.items()})
            result = engine.step(tick, full_table=True)
        kept = {name: kind(values) for name, values in OTHERS.items() if name != "funding_rates"}
        found.append((result.table.net_equity, sweep(accounts, venue, kind(MARKS), **kept).net_equity))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("name", "values", "line"),
    [
        ("indexes", {BTC: 0.0}, f"indexes.{BTC}, value 0.0: must be a finite number > 0"),
        ("open_interest", {BTC: -1.0}, f"open_interest.{BTC}, value -1.0: must be a finite number >= 0"),
        ("open_interest", {"DOGE": 1.0}, "open_interest.DOGE, value 1.0: must be a market of the venue"),
        ("funding_rates", {BTC: 1.5}, f"funding_rates.{BTC}, value 1.5: must be a number from -1 to 1"),
        ("funding_rates", {BTC: float("nan")}, f"funding_rates.{BTC}, value nan: must be a number from -1 to 1"),
        ("funding_rates", {BTC: "much"}, f"funding_rates.{BTC}, value 'much': must be a number"),
        ("last_prices", {BTC: 0.0}, f"last_prices.{BTC}, value 0.0: must be a finite number > 0"),
        ("last_prices", {"DOGE": 1.0}, "last_prices.DOGE, value 1.0: must be a market of the venue"),
        ("marks", {BTC: 1e5, ETH: 1e6 + 1}, f"marks.{ETH}, value 1000001.0: must be at most the market's maxPrice"),
        (
            "marks",
            {BTC: 1e5},
            f"marks.{ETH}: an account holds it: "
            "a mark is needed: the tick has neither a mark nor an index, a book or a last price",
        ),
        ("book_times", {BTC: "2026-01-01T00:00:01Z"}, f"book_times.{BTC}, value '2026-01-01T00:00:01Z': {LATE}"),
        ("book_times", {BTC: "soon"}, f"book_times.{BTC}, row 0, value 'soon': {TIME}"),
        ("book_times", {"DOGE": 1}, "book_times.DOGE, value '1': must be a market of the venue"),
    ],
)
def test_a_wrong_figure_is_refused_and_nothing_changes(state, name, values, line):
    accounts, venue = state
    engine = Engine(accounts, venue)
    with pytest.raises(RiskDataError) as refusal:
        engine.step(Tick("2026-01-01T00:00:00Z", **({"marks": MARKS, "books": BOOK} | OTHERS | {name: values})))
    assert str(refusal.value) == line
    assert engine.ticks == 0
    engine.step(Tick("2026-01-01T00:00:00Z", MARKS, **OTHERS))


class TestMissingMarks:
    """Of `read_ticks`: a mark may be missing where one follows from something else."""

    @pytest.fixture
    def read(self):
        frames = small_run.tables()
        frames["marks"] = frames["marks"].drop(columns="index_price")
        venue, accounts, _ = small_run.read(frames)

        def read(mark, index=np.nan, last=np.nan, books=True):
            """``mark`` of BTC in both ticks, and the others."""
            marks = frames["marks"].assign(index_price=np.nan, last_price=np.nan)
            rows = marks["market"] == BTC
            for name, values in (("mark_price", mark), ("index_price", index), ("last_price", last)):
                marks.loc[rows, name] = values
            return (
                venue,
                accounts,
                io.read_ticks(venue, accounts, marks, frames["books"] if books else None, frames["asset_prices"]),
            )

        return read

    @pytest.mark.parametrize(
        "given",
        [
            {"mark": np.nan, "books": True},
            {"mark": np.nan, "index": 1e5, "books": False},
            {"mark": np.nan, "last": 1e5, "books": False},
            {"mark": [1e5, np.nan], "books": False},
        ],
    )
    def test_a_mark_follows(self, read, given):
        venue, accounts, ticks = read(**given)
        engine = Engine(accounts, venue)
        for tick in ticks:
            engine.step(tick)
        assert engine.ticks == 2

    @pytest.mark.parametrize("mark", [np.nan, [np.nan, 1e5]])
    def test_none_follows(self, read, mark):
        with pytest.raises(RiskDataError, match=r"marks.mark_price, row time 2025-10-10 21:00:00\+00:00, value 'BTC"):
            read(mark, books=False)

    def test_the_last_price_reaches_the_tick(self, read):
        ticks = read(1e5, last=[99.0, np.nan])[2]
        assert [tick.last_prices for tick in ticks] == [{BTC: 99.0}, {}]


class TestBookTimes:
    def test_by_name_and_by_column(self, state):
        _, venue = state
        tick = Tick(10**9, MARKS, BOOK, book_times={BTC: 9 * 10**8, ETH: 10**8})
        books = tick.columnar_books(venue)
        assert books.time.tolist() == [9 * 10**8, 0, 0]
        rows = [(BTC, side, 0, price, 1.0) for side, price in (("bid", 100.0), ("ask", 101.0))]
        frame = pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])
        for seen, time in (
            (pd.Timestamp(5, tz="UTC"), 5), (np.array([5, 5]), 5), ("1970-01-01T00:00:00.000000005Z", 5), (pd.NaT, 0),
            (None, 0), (pd.array([5, 5], "Int64"), 5),
        ):  # fmt: skip
            books = Tick(10**9, MARKS, frame.assign(book_time=seen)).columnar_books(venue)
            assert books.time.tolist() == [time, 0, 0], seen
        with pytest.raises(RiskDataError, match=r"books.book_time, row 0, value '1970-01-01 00:00:02"):
            Tick(10**9, MARKS, frame.assign(book_time=2 * 10**9)).columnar_books(venue)
        with pytest.raises(RiskDataError, match="book_times: needs books as a mapping or a frame"):
            Tick(10**9, MARKS, books, book_times={BTC: 1}).columnar_books(venue)

    def test_a_book_of_a_spot_market(self):
        source = small_run.venue_source()
        spot = {
            "symbol": "BTC_USDC", "baseSymbol": "BTC", "quoteSymbol": "USDC", "marketType": "SPOT",
            "filters": {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.0001"}},
        }  # fmt: skip
        others = [
            spot | {"symbol": "other"},
            spot | {"symbol": "BTC_EUR", "quoteSymbol": "EUR"},
            {**spot, "symbol": "X", "baseSymbol": "USDC"},
        ]
        venue = load_venue(source | {"markets": [spot, *others, *source["markets"]]})
        assert venue.book_symbols == (BTC, ETH, "SOL_USDC_PERP", "BTC_USDC")
        assert venue.spots.asset.tolist() == [1]
        assert venue.spots.lot_quanta.tolist() == [10_000]
        assert (venue.spots.value_num[0], venue.spots.value_den[0]) == (10, 1)
        books = Tick(5, MARKS, {"BTC_USDC": {"asks": [(100.0, 2.0)]}} | BOOK).columnar_books(venue)
        assert books.offset.tolist() == [0, 1, 3, 3, 3, 3, 3, 3, 4]
        assert (books.price[3], books.lots[3]) == (1_000, 20_000)
        assert load_venue(venue.source).book_symbols == venue.book_symbols
