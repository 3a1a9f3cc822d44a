"""Tables in and out: books laid around a path, ticks from tables, files that appear whole."""

import os
import stat

import numpy as np
import pandas as pd
import pytest

from riskcore import Engine, RiskDataError, io, load_venue, sample
from riskcore.boundary import schemas
from riskcore.market import Books
from tests import small_run
from tests.small_run import BTC, ETH, TIMES

VENUE = load_venue(small_run.venue_source())
NANOSECONDS = pd.to_datetime(pd.Series(TIMES)).astype("datetime64[ns, UTC]").astype("int64").tolist()


def book(bids, asks, time=TIMES[0], market=BTC):
    rows = [
        (time, market, side, n, *level) for side, half in (("bid", bids), ("ask", asks)) for n, level in enumerate(half)
    ]
    return pd.DataFrame(rows, columns=["time", "market", "side", "level", "price", "quantity"])


def path(*marks, market=BTC):
    times = pd.date_range("2025-10-10 21:00", periods=len(marks), freq="s", tz="UTC")
    return pd.DataFrame({"time": times, "market": market, "mark_price": marks})


def random_books(rng, count):
    """Books of 25 levels a side, out to about 1.3 %."""
    parts = []
    for time in pd.date_range("2024-01-01", periods=count, freq="min"):
        mid = rng.uniform(50_000, 60_000)
        halves = []
        for sign in (-1, 1):
            distance = np.cumsum(rng.exponential(5e-4, 25) + 1e-5)
            halves.append(list(zip(mid * (1 + sign * distance), rng.integers(1, 100_000, 25) / 1e5, strict=True)))
        parts.append(book(*halves, time))
    return pd.concat(parts, ignore_index=True)


def depth(side, mid, distance):
    """Quantity within a distance of the mid."""
    return side.loc[(side["price"] / mid - 1).abs() <= distance + 1e-12, "quantity"].sum()


@pytest.fixture(scope="module")
def profiles():
    return random_books(np.random.default_rng(5), 3)


@pytest.fixture(scope="module")
def marks():
    return path(100_000.0, 99_999.9, 73_210.5, 101_234.56, 99_000.0)


@pytest.fixture(scope="module")
def laid(profiles, marks):
    return io.recentre_books(VENUE, profiles, marks, BTC)


def pairs(laid, profiles, marks):
    """Each laid half beside the half that it comes from: side, mark, mid, laid half, source half."""
    sources = [source for _, source in profiles.groupby("time")]
    tables = [table for _, table in laid.groupby("time")]
    for tick, (table, mark) in enumerate(zip(tables, marks["mark_price"], strict=True)):
        source = sources[tick % len(sources)]
        mid = source.loc[source["level"] == 0, "price"].mean()
        for side in ("bid", "ask"):
            yield side, mark, mid, table[table["side"] == side], source[source["side"] == side]


class TestRecentredBooks:
    def test_table_is_accepted(self, laid, marks):
        frames = small_run.tables()
        frames["marks"], frames["books"] = pd.concat([marks, marks.assign(market=ETH, mark_price=4e3)]), laid
        frames["asset_prices"] = pd.DataFrame({"time": marks["time"], "asset": "XAU", "price": 4e3})
        ticks = small_run.read(frames)[2]
        assert list(ticks.books) == ticks.time.tolist()

    def test_levels_ascend_and_get_worse(self, laid):
        for (_, side), half in laid.groupby(["time", "side"]):
            assert half["level"].tolist() == list(range(len(half)))
            assert (half["price"].diff().iloc[1:] * (-1 if side == "bid" else 1) > 0).all()

    def test_prices_and_quantities_are_whole(self, laid):
        for column, unit in (("price", 0.1), ("quantity", 0.00001)):
            count = laid[column] / unit
            np.testing.assert_allclose(count, count.round(), atol=1e-6)

    def test_depth_within_each_distance_is_the_profiles(self, laid, profiles, marks):
        for _, mark, mid, half, source in pairs(laid, profiles, marks):
            for distance in np.array(io.books.BASIS_POINTS) / 1e4:
                # rounding to ticks moves a level by less than one
                assert depth(half, mark, distance + 0.1 / mark) == pytest.approx(depth(source, mid, distance), abs=1e-9)

    def test_walk_pays_no_less_than_in_the_profile(self, laid, profiles, marks):
        for side, mark, mid, half, source in pairs(laid, profiles, marks):
            sign = -1 if side == "bid" else 1
            reached = source["quantity"].cumsum()
            for price, total in zip(half["price"], half["quantity"].cumsum(), strict=True):
                reached_price = source["price"].iloc[np.searchsorted(reached, total - 1e-9)]
                assert sign * price / mark >= sign * reached_price / mid - 1e-12

    def test_distances_that_meet_in_one_tick_are_one_level(self):
        profile = book([(99.99, 1.0), (99.98, 2.0)], [(100.01, 3.0), (100.02, 4.0)])
        laid = io.recentre_books(VENUE, profile, path(50.0), BTC)  # a tick of 0.1 is 20 basis points
        assert laid[["side", "level", "price", "quantity"]].values.tolist() == [
            ["ask", 0, 50.1, 7.0],
            ["bid", 0, 49.9, 3.0],
        ]

    def test_mark_on_a_tick_keeps_exact_prices(self):
        laid = io.recentre_books(VENUE, book([(99_990, 1.0)], [(100_010, 1.0)]), path(100_000.0), BTC)
        assert laid["price"].tolist() == [100_010.0, 99_990.0]

    def test_part_of_a_lot_and_what_is_too_far_is_left_out(self):
        profile = book([(99.99, 0.000015), (90.0, 5.0)], [(100.01, 0.000005)])
        laid = io.recentre_books(VENUE, profile, path(100_000.0), BTC)
        assert laid[["side", "quantity"]].values.tolist() == [["bid", 0.00001]]

    @pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
    def test_times_stay_as_they_were(self, zone):
        marks = path(100_000.0, 99_000.0)
        marks["time"] = marks["time"].dt.tz_convert(zone)
        laid = io.recentre_books(VENUE, book([(99, 1.0)], [(101, 1.0)]), marks.iloc[::-1], BTC, basis_points=[150])
        assert laid["time"].dtype == marks["time"].dtype
        assert laid["time"].tolist() == [t for t in marks["time"] for _ in range(2)]

    @pytest.mark.parametrize(
        ("books", "market", "line"),
        [
            (book([(99, 1.0)], []), BTC, "books.side: must hold both sides at some time"),
            (book([], []), BTC, "books.side: must hold both sides at some time"),
            (book([(99, 1.0)], [(101, 1.0)]), "DOGE", "venue.markets, value 'DOGE': must hold the market"),
            (book([(99, 1.0)], [(101, 1.0)]), ETH, f"marks.market, value '{ETH}': must hold the market"),
            (
                pd.concat([book([(99, 1.0)], []), book([], [(4000, 1.0)], market=ETH)]),
                BTC,
                "books.market: must be the same in every row",
            ),
        ],
    )
    def test_what_gives_no_book_is_refused(self, books, market, line):
        with pytest.raises(RiskDataError) as refusal:
            io.recentre_books(VENUE, books, path(100_000.0), market)
        assert str(refusal.value) == line

    @pytest.mark.parametrize("points", [[], [0, 1], [2, 1], [1, 1]])
    def test_distances_must_ascend(self, points):
        with pytest.raises(ValueError, match="ascend"):
            io.recentre_books(VENUE, book([(99, 1.0)], [(101, 1.0)]), path(1e5), BTC, basis_points=points)


def test_books_from_levels_side_by_side():
    levels = pd.DataFrame(
        {
            "time": TIMES[0], "level": [0, 1], "bid_price": [99.0, 98.0], "bid_quantity": [1.0, 2.0],
            "ask_price": [101.0, np.nan], "ask_quantity": [3.0, np.nan],
        }
    )  # fmt: skip
    found = io.books_from_levels(levels, BTC)
    pd.testing.assert_frame_equal(
        found, book([(99.0, 1.0), (98.0, 2.0)], [(101.0, 3.0)]), check_like=True, check_dtype=False
    )


def test_level_that_lacks_its_quantity_is_no_missing_level():
    levels = pd.DataFrame(
        [[TIMES[0], 0, 99.0, np.nan, 101.0, 1.0]],
        columns=["time", "level", *(f"{s}_{x}" for s in ("bid", "ask") for x in ("price", "quantity"))],
    )
    with pytest.raises(RiskDataError, match=r"books\.quantity, row 0, value nan: must not be missing"):
        io.marks_from_books(io.books_from_levels(levels, BTC))


def test_marks_are_mids_of_books_with_both_sides():
    books = pd.concat([
        book([(99.0, 1.0), (98.0, 1.0)], [(100.0, 1.0), (104.0, 1.0)]),
        book([(39.0, 1.0)], [(41.0, 1.0)], market=ETH),
        book([(99.0, 1.0)], [], time=TIMES[1]),
    ])  # fmt: skip
    found = io.marks_from_books(books)
    assert found.columns.tolist() == ["time", "market", "mark_price"]
    assert found.values.tolist() == [[TIMES[0], BTC, 99.5], [TIMES[0], ETH, 40.0]]
    assert len(io.marks_from_books(book([(99.0, 1.0)], []))) == 0


KINDS = {
    "ISO text": list,
    "other ISO text": lambda text: [text[0].replace("T", " ").replace("Z", ".000000"), "2025-10-11T06:00:01+09:00"],
    "text by pandas": lambda text: pd.array(text, dtype="string"),
    "categories": pd.Categorical,
    "UTC": pd.to_datetime,
    "no zone": lambda text: pd.to_datetime(text).tz_localize(None),
    "Tokyo": lambda text: pd.to_datetime(text).tz_convert("Asia/Tokyo"),
    "seconds": lambda text: pd.to_datetime(text).tz_localize(None).as_unit("s"),
    "Arrow": lambda text: pd.to_datetime(text).tz_localize(None).astype("timestamp[us][pyarrow]"),
    "datetimes": lambda text: np.array(pd.to_datetime(text).to_pydatetime(), object),
    "int64": lambda text: NANOSECONDS,
    "Int64": lambda text: pd.array(NANOSECONDS, dtype="Int64"),
    "whole numbers": lambda text: np.array(NANOSECONDS, object),
}


class TestTicks:
    @pytest.mark.parametrize("kind", KINDS)
    def test_times_of_every_kind_are_one(self, kind):
        frames = small_run.tables()
        for name in ("marks", "asset_prices", "books"):
            kinds = pd.Series(KINDS[kind](list(TIMES)))
            frames[name]["time"] = kinds.iloc[[TIMES.index(t) for t in frames[name]["time"]]].array
        ticks = small_run.read(frames)[2]
        assert ticks.time.tolist() == list(ticks.books) == NANOSECONDS
        assert [tick.time for tick in ticks] == NANOSECONDS

    def test_tables_in_any_order_give_the_same_ticks(self):
        frames = small_run.tables()
        ticks = small_run.read(frames)[2]
        mixed = small_run.read({name: frame.sample(frac=1, random_state=3) for name, frame in frames.items()})[2]
        for name in ("time", "mark", "index", "asset"):
            np.testing.assert_array_equal(getattr(mixed, name), getattr(ticks, name))
        for time, found in ticks.books.items():
            for name in ("offset", "price", "lots"):
                np.testing.assert_array_equal(getattr(mixed.books[time], name), getattr(found, name))

    def test_one_sided_and_missing_books_are_fine(self):
        frames = small_run.tables()
        books = frames["books"]
        frames["books"] = books[(books["side"] == "bid") & (books["time"] == TIMES[0])]
        first, second = small_run.read(frames)[2]
        assert first.books.offset.tolist() == [0, 2, 2, 2, 2, 2, 2]
        assert second.books is None

    def test_asset_takes_its_own_price_before_the_index_before_the_mark(self):
        frames = small_run.tables()
        frames["balances"] = pd.concat(
            [frames["balances"], pd.DataFrame({"account": [1], "asset": ["ETH"], "quantity": [1.0], "lent": [0.0]})]
        )
        small_run.read(frames)  # the index of ETH
        frames["marks"] = frames["marks"].drop(columns="index_price")
        small_run.read(frames)  # its mark
        frames["positions"], frames["orders"] = frames["positions"].iloc[:1], frames["orders"].iloc[:1]
        frames["marks"] = frames["marks"].iloc[[0, 2, 3]]
        with pytest.raises(RiskDataError, match=r"asset_prices\.price, row time .* value 'ETH': an account holds it"):
            small_run.read(frames)
        own = pd.DataFrame({"time": TIMES, "asset": "ETH", "price": 4_000.0})
        small_run.read(frames | {"asset_prices": pd.concat([frames["asset_prices"], own])})

    def test_starting_at(self):
        ticks = small_run.read(small_run.tables())[2]
        assert [tick.time for tick in ticks.starting_at(1)] == NANOSECONDS[1:]


class TestFiles:
    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_table_comes_back_exactly(self, suffix, tmp_path):
        rng = np.random.default_rng(1)
        frame = pd.DataFrame(
            {"account": np.arange(1000), "quantity": rng.normal(size=1000) * 10.0 ** rng.integers(-9, 9, 1000)}
        )
        io.write_table(frame, tmp_path / f"table.{suffix}")
        pd.testing.assert_frame_equal(io.read_table(tmp_path / f"table.{suffix}", "balances"), frame, check_exact=True)

    def test_column_of_a_csv_file_has_one_type(self, tmp_path):
        (tmp_path / "t.csv").write_text("account,market\n" + f"1,{BTC}\n" * 400_000 + f"alice,{BTC}\n")
        assert set(io.read_table(tmp_path / "t.csv", "balances")["account"].map(type)) == {str}

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_failed_write_leaves_the_old_file_alone(self, suffix, tmp_path, monkeypatch):
        target = tmp_path / f"table.{suffix}"
        target.write_text("old")

        def fail(frame, file, **_):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pd.DataFrame, f"to_{suffix}", fail)
        with pytest.raises(RiskDataError) as refusal:
            io.write_table(pd.DataFrame({"a": [1]}), target)
        assert str(refusal.value) == f"out, value '{target}': cannot be written: No space left on device"
        assert [p.name for p in tmp_path.iterdir()] == [target.name]
        assert target.read_text() == "old"

    @pytest.mark.parametrize(
        ("place", "reason"),
        [("none/t.csv", "No such file or directory"), ("file/t.csv", "Not a directory")],
    )
    def test_place_that_takes_no_file_is_refused(self, place, reason, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RiskDataError, match=f"cannot be written: {reason}"):
            io.write_table(pd.DataFrame({"a": [1]}), tmp_path / place)
        assert sorted(tmp_path.rglob("*")) == before


class TestOutputFile:
    @pytest.mark.parametrize("write", ["table", "text", "sweep"])
    @pytest.mark.parametrize("made", ["folder", "pipe", "link to a device", "link to itself"])
    def test_what_is_no_regular_file_stays(self, made, write, tmp_path):
        path = tmp_path / "out.csv"
        if made == "folder":
            path.mkdir()
        elif made == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/null" if made == "link to a device" else path)
        before = path.lstat().st_ino
        with pytest.raises(RiskDataError) as refusal:
            self.written(write, path)
        rule = "must be a new or a regular file: a folder, a device or a pipe is not replaced"
        assert str(refusal.value) == f"out, value '{path}': {rule}"
        assert path.lstat().st_ino == before
        assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    @staticmethod
    def written(write, path):
        if write == "table":
            io.write_table(pd.DataFrame({"a": [1]}), path)
        elif write == "text":
            io.write_text("text", path)
        else:
            venue, accounts, ticks = small_run.read(small_run.tables())
            io.write_sweep(path, accounts, venue, ticks)

    def test_link_to_a_file_is_written_through(self, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "out.csv").symlink_to(tmp_path / "there/table.csv")
        for _ in range(2):  # the file is made, and replaced
            io.write_table(pd.DataFrame({"a": [1]}), tmp_path / "out.csv")
            assert (tmp_path / "there/table.csv").read_text() == "a\n1\n"
        assert (tmp_path / "out.csv").is_symlink()

    @pytest.mark.parametrize("name", ["out.json", "out", "out.csv.gz", "out.html"])
    def test_other_suffixes_are_refused(self, name, tmp_path):
        for write in ("table", "sweep"):
            with pytest.raises(RiskDataError, match=r"must end in \.parquet or \.csv$"):
                self.written(write, tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_run_folder_takes_its_pages_alone(self, tmp_path):
        venue, accounts, _ = small_run.read(small_run.tables())
        Engine(accounts, venue).save(tmp_path / "run")
        before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
        (tmp_path / "link.csv").symlink_to(tmp_path / "run/new.csv")
        for name in ("run/out.csv", "run/start/orders.parquet", "run/start/report.html", "run/run.json", "link.csv"):
            with pytest.raises(RiskDataError, match=r"must not be in a run folder, .*/run, except as report\.html or"):
                io.write_text("text", tmp_path / name)
        with pytest.raises(RiskDataError, match=r"must not be in another run's folder"):
            Engine(accounts, venue).save(tmp_path / "run/start/run")
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
        io.write_text("text", tmp_path / "run/report.html")
        Engine.resume(tmp_path / "run")


def test_generated_books_are_sorted_after_a_deep_crash():
    """Where a tick is more than the distance of two levels, they are a tick apart."""
    venue = load_venue(sample.venue_source([]))
    marks = sample.generate_crash(venue, 40, seed=3, fall=0.5)
    assert len(Books.split(venue, schemas.checked("books", sample.generate_books(venue, marks, seed=3)))) == 40
