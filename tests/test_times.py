"""Times in units: what is outside the years 2000 to 2200 is refused, and the message names the unit that fits."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from riskcore import Engine, RiskDataError, Tick, adl_study, load_venue
from riskcore.cli import app
from riskcore.io import books_from_levels, marks_from_books, read_ticks, recentre_books
from riskcore.state import Accounts
from tests import small_run

SECOND, HOUR, DAY = 10**9, 3_600 * 10**9, 86_400 * 10**9
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MOMENTS = [946_684_800, 1_760_000_400, 1_760_000_000, 7_289_654_399]  # seconds: the first, two of 2025, the last
RULE = "must be a timestamp, ISO text or whole {} since the epoch, from 2000 to 2200"
BTC = "BTC_USDC_PERP"


def hint(unit):
    return f'; looks like {NAMES[unit]}: pass unit="{unit}", on the command line --time-unit {unit}'


def in_unit(frame, unit):
    """Frame with its times as whole numbers."""
    stamps = pd.to_datetime(frame["time"], utc=True).dt.as_unit("ns").astype("int64")
    return frame.assign(time=stamps // (SECOND // PER_SECOND[unit]))


@pytest.fixture(scope="module")
def state():
    source, tables = small_run.venue_source(), small_run.tables()
    venue = load_venue(source | {"policy": source["policy"] | {"largest_gap": None, "liquidation_interval": 3600}})
    return venue, Accounts.from_frames(venue, tables["positions"], tables["balances"]), tables


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("unit", NAMES)
def test_a_time_in_its_unit(unit, moment):
    given = moment * PER_SECOND[unit]
    for value in (given, np.int64(given)):
        assert Tick(value, {}, unit=unit).nanoseconds() == moment * SECOND
    for other in set(NAMES) - {unit}:
        with pytest.raises(RiskDataError) as refusal:
            Tick(given, {}, unit=other).nanoseconds()
        assert str(refusal.value) == f"tick.time, row 0, value '{given}': {RULE.format(NAMES[other])}{hint(unit)}"


@pytest.mark.parametrize("value", [0, 5, -1, 946_684_799 * SECOND, 7_289_654_400 * SECOND])
@pytest.mark.parametrize("unit", NAMES)
def test_a_time_of_no_unit(state, unit, value):
    venue, accounts, tables = state
    marks = tables["marks"].assign(time=value)
    with pytest.raises(RiskDataError) as refusal:
        read_ticks(venue, accounts, marks, unit=unit)
    assert str(refusal.value) == f"marks.time, row 0, value '{value}': {RULE.format(NAMES[unit])}"


@pytest.mark.parametrize("value", ["1970-01-01", "1999-12-31T23:59:59.999999999Z", "2201-01-01", pd.Timestamp(5)])
def test_a_timestamp_of_other_years(state, value):
    venue, accounts, tables = state
    with pytest.raises(RiskDataError) as refusal:
        read_ticks(venue, accounts, tables["marks"].assign(time=value))
    assert str(refusal.value) == f"marks.time, row 0, value '{value}': {RULE.format('nanoseconds')}"


@pytest.mark.parametrize(
    ("values", "row", "fault"),
    [
        (["2025-10-10", 1_760_000_400_000], 1, RULE.format("nanoseconds") + hint("ms")),
        (
            ["2025-10-10", "1760000400000"],
            1,
            RULE.format("nanoseconds") + "; the value is text, not a whole number" + hint("ms"),
        ),
        (
            [1.7600004e9, 1.76e9],
            0,
            RULE.format("nanoseconds") + "; the value is a float, not a whole number" + hint("s"),
        ),
        ([1.7600004e12, np.nan], 1, "must not be missing"),
        (["2025-10-10", "now"], 1, RULE.format("nanoseconds")),
        ([pd.Timestamp("2025-10-10"), "today"], 1, RULE.format("nanoseconds")),
    ],
)
def test_what_is_no_whole_number(state, values, row, fault):
    venue, accounts, tables = state
    marks = tables["marks"].iloc[:2].assign(time=pd.Series(values, tables["marks"].index[:2]))
    with pytest.raises(RiskDataError) as refusal:
        read_ticks(venue, accounts, marks)
    assert str(refusal.value) == f"marks.time, row {row}, value '{values[row]}': {fault}"


@pytest.mark.parametrize("value", [10**400, "\ud800", 1 + 2j, "9" * 400, 10**19, {}, pd.Timedelta("1s"), "1e99999"])
def test_what_is_no_time_at_all(state, value):
    late = {"books": {BTC: {"bids": [(100.0, 1.0)]}}, "book_times": {BTC: value}}
    for call in (
        lambda: Tick(value, {}).nanoseconds(),
        lambda: Tick(0, {}, **late).columnar_books(state[0]),
        lambda: Tick("2025-10-10", {}, **late).columnar_books(state[0]),
        lambda: Tick("2025-10-10", {}, unit=value).nanoseconds(),
    ):
        with pytest.raises(RiskDataError) as refusal:
            call()
        assert "\n" not in str(refusal.value)


def test_a_book_past_all_times(state):
    late = {"books": {BTC: {"bids": [(100.0, 1.0)]}}, "book_times": {BTC: "3000-01-01"}}
    for time in (0, "2025-10-10"):
        with pytest.raises(RiskDataError, match=r"value '3000-01-01': must be a timestamp"):
            Tick(time, {}, **late).columnar_books(state[0])


@pytest.mark.parametrize("unit", [None, "min", ["ms"], "MS"])
def test_no_unit(unit):
    with pytest.raises(RiskDataError, match=r"unit, value .*: must be one of ns, us, ms, s"):
        Tick("2025-10-10", {}, unit=unit).nanoseconds()


@pytest.mark.parametrize("unit", ["us", "ms", "s"])
@pytest.mark.parametrize("kind", ["int64", "uint64", "Int64", "object", "category"])
def test_tables(state, unit, kind):
    venue, accounts, tables = state
    given = [tables["marks"], tables["books"], tables["asset_prices"]]
    told = [in_unit(frame, unit) for frame in given]
    told = [frame.assign(time=frame["time"].astype(kind)) for frame in told]
    found, expected = read_ticks(venue, accounts, *told, unit=unit), read_ticks(venue, accounts, *given)
    np.testing.assert_array_equal(found.time, expected.time)
    assert found.books.keys() == expected.books.keys()
    for name, at in (("marks", 0), ("books", 1), ("asset_prices", 2)):
        mixed = given.copy()
        mixed[at] = told[at]
        with pytest.raises(RiskDataError, match=rf"{name}.time, row 0, value .* looks like {NAMES[unit]}: pass unit="):
            read_ticks(venue, accounts, *mixed)


def test_books(state):
    venue, _, tables = state
    books, marks = in_unit(tables["books"].query("market == @BTC"), "ms"), in_unit(tables["marks"], "ms")
    assert marks_from_books(books, unit="ms")["time"].isin(books["time"]).all()
    assert recentre_books(venue, books, marks, BTC, unit="ms")["time"].isin(marks["time"]).all()
    names = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
    levels = pd.DataFrame({"time": books["time"].iloc[:1], "level": 0} | dict.fromkeys(names, 1.0))
    assert books_from_levels(levels, BTC, unit="ms")["time"].tolist() == [levels["time"].iloc[0]] * 2
    for call in (
        lambda: marks_from_books(books),
        lambda: recentre_books(venue, books, marks, BTC),
        lambda: books_from_levels(levels, BTC),
    ):
        with pytest.raises(RiskDataError, match='looks like milliseconds: pass unit="ms"'):
            call()


def test_times_of_the_books_of_a_tick(state):
    venue = state[0]
    rows = [(BTC, "bid", 0, 100.0, 1.0)]
    frame = pd.DataFrame(rows, columns=["market", "side", "level", "price", "quantity"])
    book, now = {BTC: {"bids": [(100.0, 1.0)]}}, 1_760_000_400_000
    for more in (
        {"books": book, "book_times": {BTC: now - 5}},
        {"books": frame.assign(book_time=now - 5)},
        {"books": frame.assign(book_time=now - 5, time=now)},
    ):
        assert Tick(now, {}, unit="ms", **more).columnar_books(venue).time[0] == (now - 5) * 10**6
        with pytest.raises(RiskDataError, match=r'value .* looks like milliseconds: pass unit="ms"'):
            Tick(now * 10**6, {}, **more).columnar_books(venue)


def stepped(state, *times):
    venue, accounts, tables = state
    engine = Engine(accounts, venue)
    prices = tables["marks"].groupby("market")["mark_price"].first().to_dict()
    for time in times:
        engine.step(Tick(time, prices, asset_prices={"XAU": 4_000.0}))
    return engine.time


@pytest.mark.parametrize(
    "times",
    [
        (0, 5, SECOND, 2 * SECOND, 3_000 * SECOND, HOUR * 5, DAY, 40 * DAY),
        (SECOND, 2 * SECOND),
        (DAY, 20 * DAY),
    ],
)
def test_a_clock_of_its_own(state, times):
    assert stepped(state, *times) == times[-1]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ((1_760_000_000_000,), "ms"),
        ((1_760_000_400,), "s"),
        ((1_760_000_000_000_000,), "us"),
        ((0, 1_760_000_400_000), "ms"),
        ((0, 1_760_000_400_000_000), "us"),
        ((1_760_000_400 * SECOND, 1_760_000_401_000), "ms"),
        ((1_760_000_400 * SECOND, 1_760_001_000), "s"),
    ],
)
def test_a_clock_that_is_none(state, times, unit):
    with pytest.raises(RiskDataError) as refusal:
        stepped(state, *times)
    expected = f"tick.time, row 0, value '{times[-1]}': {RULE.format('nanoseconds')}{hint(unit)}"
    assert str(refusal.value) == expected


def test_a_deleveraging():
    winners, requests = adl_study.generated_event()
    told = in_unit(requests, "ms")
    found, expected = adl_study.study(winners, told, ["size"], unit="ms"), adl_study.study(winners, requests, ["size"])
    pd.testing.assert_frame_equal(found.waves, expected.waves)
    with pytest.raises(RiskDataError, match=r'requests.time, row 0, .* looks like milliseconds: pass unit="ms"'):
        adl_study.study(winners, told, ["size"])


class TestCommandLine:
    def run(self, *words):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_sweep(self, tmp_path, suffix):
        tables = small_run.tables()
        tables |= {name: in_unit(tables[name], "ms") for name in ("marks", "asset_prices", "books")}
        files, out = small_run.write(tmp_path, small_run.venue_source(), tables, suffix), tmp_path / "out.csv"
        words = small_run.arguments("sweep", files, out)
        refused = self.run(*words)
        assert (refused.exit_code, out.exists()) == (2, False)
        assert "--time-unit ms" in refused.output
        assert self.run(*words, "--time-unit", "ms").exit_code == 0
        found = pd.to_datetime(pd.read_csv(out)["time"]).drop_duplicates()
        assert found.tolist() == [pd.Timestamp(time) for time in small_run.TIMES]

    def test_queue(self, tmp_path):
        rows = pd.DataFrame(
            {"time": 1_760_130_964_000, "account": range(5), "side": "long", "leverage": 2.0, "pnl_pct": range(5)}
        )
        rows.to_csv(queue := tmp_path / "queue.csv", index=False)
        refused = self.run("adl-study", "--queue", queue)
        assert refused.exit_code == 2
        assert "--time-unit ms" in refused.output
        assert self.run("adl-study", "--queue", queue, "--time-unit", "ms").exit_code == 0
