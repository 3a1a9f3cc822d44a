"""Values that no table, tick or venue has: a right result or one line, from whatever entry they come in."""

import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import riskcore as rc
from riskcore import RiskDataError, adl_study, io
from tests import small_run
from tests.small_run import BTC, ETH


def nested(levels):
    found = []
    for _ in range(levels):
        found = [found]
    return found


NO_NUMBERS = {
    "flag": True,
    "NumPy flag": np.True_,
    "complex": 1 + 2j,
    "NumPy complex": np.complex128(1),
    "bytes": b"1",
    "list": [1.0],
    "deep list": nested(20_000),
    "array": np.array([1.0, 2.0]),
    "time": dt.datetime(2025, 1, 1),
    "duration": pd.Timedelta("1s"),
    "surrogate": "\ud800",
    "object": object(),
    "set": {1},
    "signalling": Decimal("sNaN"),
}
TOO_LARGE = {"1e9999999": "1e9999999", "10**400": 10**400, "10**5000": 10**5000, "Decimal": Decimal("1e9999999")}
NUMBERS = {"Decimal": Decimal(4000), "Fraction": Fraction(4000), "float32": np.float32(4000), "text": "4000",
           "0-d array": np.array(4000.0), "int": 4000}  # fmt: skip
MARKS = {BTC: 1e5, ETH: 4e3, "XAU": 4e3}
AT = "2025-10-10T21:00:01Z"


@pytest.fixture(scope="module")
def read():
    """Venue and accounts."""
    return small_run.read(small_run.tables())[:2]


def line(call, *arguments, **named):
    """The one line that a call is refused with."""
    with pytest.raises(RiskDataError) as refusal:
        call(*arguments, **named)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 900
    return str(refusal.value)


def cells(column, value):
    """A column of objects with one value put in."""
    found = pd.Series(np.empty(len(column), object))
    for row, good in enumerate(column):
        found.iat[row] = good
    found.iat[1] = value
    return found


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
class TestNoNumbers:
    def test_tables(self, value):
        for table, column in (("positions", "quantity"), ("balances", "lent"), ("marks", "index_price")):
            frames = small_run.tables()
            frames[table][column] = cells(frames[table][column], value)
            said = line(small_run.read, frames)
            assert said.startswith(f"{table}.{column}, row 1, value ")
            assert said.endswith(": must be a number")

    def test_prices(self, read, value):
        accounts, venue = read[1], read[0]
        for name in ("prices", "indexes", "open_interest"):
            given = {"prices": MARKS} | {name: MARKS | {ETH: value} if name == "prices" else {ETH: value}}
            said = line(rc.sweep, accounts, venue, **given)
            assert said.startswith(f"{'marks' if name == 'prices' else name}.{ETH}, value ")
            assert said.endswith(": must be a number")
        wide = pd.DataFrame({name: [mark, mark] for name, mark in MARKS.items()})
        wide[ETH] = cells(wide[ETH], value)
        assert line(rc.select, accounts, venue, wide).endswith(": must be a number")

    def test_books(self, read, value):
        for level in ((value, 1.0), (99_000.0, value)):
            tick = rc.Tick(AT, {}, {BTC: {"bids": [(99_500.0, 1.0), level], "asks": []}})
            assert line(tick.columnar_books, read[0]).endswith(": must be numbers")


@pytest.mark.parametrize("value", TOO_LARGE.values(), ids=TOO_LARGE)
def test_numbers_past_the_range(read, value):
    frames = small_run.tables()
    frames["positions"]["entry_price"] = cells(frames["positions"]["entry_price"], value)
    assert line(small_run.read, frames).endswith(": must be a finite number > 0")
    assert line(rc.sweep, read[1], read[0], MARKS | {ETH: value}).endswith(": must be a finite number > 0")


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_other_types_are_numbers(read, value):
    accounts, venue = read[1], read[0]
    expected = rc.sweep(accounts, venue, MARKS).to_frame()
    pd.testing.assert_frame_equal(rc.sweep(accounts, venue, MARKS | {ETH: value}).to_frame(), expected)
    frames = small_run.tables()
    frames["marks"]["mark_price"] = cells(frames["marks"]["mark_price"], value)
    assert small_run.read(frames)[2].mark[0].tolist()[1] == 4000


def test_columns_of_flags_and_complex_numbers(read):
    for values in ([True, False], np.array([1 + 2j, 1]), pd.to_timedelta([1, 2])):
        frames = small_run.tables()
        frames["positions"]["quantity"] = values
        assert line(small_run.read, frames).endswith(": must be a number")
        wide = pd.DataFrame(MARKS, index=[0, 1]).assign(**{BTC: values})
        assert line(rc.sweep, read[1], read[0], wide).endswith(": must be a number")


@pytest.mark.parametrize("given", [np.array([1.0]), pd.DataFrame({"a": [1]}), [AT], "soon", 5])
def test_book_times(read, given):
    tick = rc.Tick(AT, {}, {BTC: {"bids": [(99_500.0, 1.0)], "asks": []}}, book_times=given)
    said = line(tick.columnar_books, read[0])
    assert said == f"book_times, value '{type(given).__name__}': must be a mapping by market"
    none = rc.Tick(AT, {}, {BTC: {"bids": [(99_500.0, 1.0)], "asks": []}}, book_times={})
    assert none.columnar_books(read[0]).price.tolist() == [995_000]


@pytest.mark.parametrize("threads", ["2", 1.0, True, [1]])
def test_threads(read, threads):
    assert line(rc.sweep, read[1], read[0], MARKS, threads=threads).endswith("must be a whole number >= 1, or None")


@pytest.mark.parametrize(
    "account", [[], {}, True, 1.0, np.array([1, 2]), "\ud800", object()], ids=lambda value: type(value).__name__
)
def test_accounts_that_are_not_there(read, account):
    said = line(rc.explain_margin, read[1], read[0], MARKS, account)
    assert said.startswith("accounts.account, value ")
    if not isinstance(account, list):
        assert "must be an account" in line(rc.largest_orders, read[1], read[0], MARKS, BTC, account=[account])


def test_engines(read):
    engine = rc.Engine(read[1], read[0])
    assert line(engine.step, 5) == "tick: must be a Tick, not int"
    for seed in ("1", 1.5, True, None, 10**5000):
        assert line(rc.Engine, read[1], read[0], seed).endswith("must be a whole number of 64 bits")


def test_accounts_and_venues(read):
    venue, accounts = read
    wide = pd.DataFrame(MARKS, index=[0])
    frames = small_run.tables()
    for call in (
        lambda accounts, venue: rc.sweep(accounts, venue, MARKS),
        lambda accounts, venue: rc.select(accounts, venue, wide),
        lambda accounts, venue: rc.what_if(accounts, venue, MARKS, fills=frames["positions"]),
        lambda accounts, venue: rc.largest_orders(accounts, venue, MARKS, BTC),
        lambda accounts, venue: rc.liquidation_prices(accounts, venue, MARKS),
        lambda accounts, venue: rc.explain_margin(accounts, venue, MARKS, 1),
        lambda accounts, venue: io.read_ticks(venue, accounts, frames["marks"]),
        rc.Engine,
        rc.Screen,
    ):
        for other in (None, "x", [1], frames, venue):
            assert line(call, other, venue) == f"accounts: must be Accounts, not {type(other).__name__}"
        for other in (None, "venue.json", {}, accounts):
            assert line(call, accounts, other) == f"venue: must be a Venue, not {type(other).__name__}"
    said = line(rc.Accounts.from_frames, {}, frames["positions"], frames["balances"])
    assert said == "venue: must be a Venue, not dict"
    assert line(io.recentre_books, {}, frames["books"], frames["marks"], BTC).startswith("venue: must be a Venue")


class TestPayloads:
    @pytest.mark.parametrize("value", [*NO_NUMBERS.values(), *TOO_LARGE.values()], ids=[*NO_NUMBERS, *TOO_LARGE])
    @pytest.mark.parametrize("path", ["markets.0.filters.price.tickSize", "policy.fund", "backstop.0.max_notional"])
    def test_values(self, path, value):
        assert line(rc.load_venue, self.spoilt(path, value)).startswith("venue")

    @pytest.mark.parametrize("path", ["settle_asset", "markets.0.symbol", "markets.0.unread", "collateral.1.symbol"])
    def test_half_of_a_surrogate_pair(self, path, tmp_path):
        source = self.spoilt(path, "\ud800")
        (tmp_path / "venue.json").write_text(json.dumps(source))
        at = path.replace(".0", "[0]").replace(".1", "[1]")
        expected = rf"venue.{at}, value '\ud800': must be text without a lone surrogate"
        assert line(rc.load_venue, source) == line(rc.load_venue, tmp_path / "venue.json") == expected

    def test_deep_lists(self, tmp_path):
        deep = nested(150)
        (tmp_path / "venue.json").write_text(json.dumps({"markets": deep}))
        (tmp_path / "deeper.json").write_text("[" * 100_000 + "]" * 100_000)
        assert "must not be nested deeper than 100 levels" in line(rc.load_venue, {"markets": deep})
        assert "must not be nested deeper than 100 levels" in line(rc.load_venue, tmp_path / "venue.json")
        assert "is not JSON" in line(rc.load_venue, tmp_path / "deeper.json")

    @pytest.mark.parametrize("share", ["1e-9999999", "1e9999999", "1/0", "1e400/3"])
    def test_figures_are_not_written_out(self, share):
        for path in ("policy.fund", "policy.slice_fraction", "borrow_lend.0.fee"):
            assert line(rc.load_venue, self.spoilt(path, share)).startswith("venue")

    def test_a_bound_past_the_range(self):
        for bound in ("1e9999999", "-1e9999999"):
            said = line(rc.load_venue, self.spoilt("markets.0.fundingRateLowerBound", bound))
            assert said.endswith(": must be from -10000 to 10000 basis points")

    def test_numpy_values_are_taken(self):
        source = small_run.venue_source()
        source["markets"][0]["symbol"] = np.str_(source["markets"][0]["symbol"])
        source["policy"] = {"slices_per_tick": np.int64(2), "fund": np.float64(5)}
        venue = rc.load_venue(source)
        assert venue.policy.slices_per_tick == 2
        assert json.dumps(venue.source)

    @staticmethod
    def spoilt(path, value):
        source = small_run.venue_source()
        source.setdefault("borrow_lend", [{"symbol": "USDC"}])
        *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place = source
        for part in way:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        place[last] = value
        return source


class TestForeignTables:
    """Tables of other libraries by the Arrow interface, as pyarrow has it."""

    def test_every_table(self, read):
        frames = small_run.tables()
        _, accounts, ticks = small_run.read({name: pa.Table.from_pandas(frame) for name, frame in frames.items()})
        pd.testing.assert_frame_equal(
            rc.sweep(accounts, read[0], MARKS).to_frame(), rc.sweep(read[1], read[0], MARKS).to_frame()
        )
        assert len(ticks) == 2
        book = frames["books"].iloc[:4].drop(columns="time")
        tick, foreign = (rc.Tick(AT, {}, given).columnar_books(read[0]) for given in (book, pa.table(book)))
        assert tick.price.tolist() == foreign.price.tolist()

    def test_prices_and_questions(self, read):
        accounts, venue = read[1], read[0]
        wide = pd.DataFrame(MARKS, index=pd.Index(pd.to_datetime(["2025-01-01", "2025-01-02"]), name="time"))
        expected = rc.sweep(accounts, venue, wide).to_frame()
        found = rc.sweep(accounts, venue, pa.Table.from_pandas(wide.reset_index(), preserve_index=False)).to_frame()
        pd.testing.assert_frame_equal(found, expected, check_index_type=False, check_dtype=False)
        fills = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [0.1], "price": [1e5]})
        one, other = (rc.what_if(accounts, venue, MARKS, fills=given) for given in (fills, pa.table(fills)))
        pd.testing.assert_frame_equal(one.to_frame(), other.to_frame())

    def test_studies(self):
        winners, requests = adl_study.generated_event(20)
        one = adl_study.study(winners, requests, ["size"]).total
        other = adl_study.study(pa.table(winners), pa.table(requests), ["size"]).total
        pd.testing.assert_frame_equal(one, other)
        books = small_run.tables()["books"]
        pd.testing.assert_frame_equal(io.marks_from_books(pa.table(books)), io.marks_from_books(books))


def test_a_long_table_of_marks_is_not_a_wide_one(read):
    said = line(rc.sweep, read[1], read[0], small_run.tables()["marks"])
    assert said.startswith("marks: must have a column per market, this looks like the marks table: pivot it, ")


def test_the_nearest_column_is_named():
    frames = small_run.tables()
    frames["positions"] = frames["positions"].rename(columns={"entry_price": "entryprice"})
    with pytest.raises(RiskDataError, match=r"^positions\..*'?entry_?price'?"):
        small_run.read(frames)
    with pytest.raises(RiskDataError, match=r"levels.bid_quantity: the column is missing; .* 'bid_qty'"):
        io.books_from_levels(pd.DataFrame(columns=["time", "level", "bid_price", "bid_qty"]), BTC)


def test_formats_that_are_read(tmp_path):
    path = tmp_path / "positions.xlsx"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    said = line(io.read_table, path, "positions")
    assert said.endswith("must be a CSV file; a .parquet file is read as Parquet, any other file as CSV")
    assert line(io.read_table, None, "positions") == "positions: must be a path, not NoneType"
