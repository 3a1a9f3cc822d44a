"""Many vectors of prices in one call: what a call for each of them gives, in less work, and bounded memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import RiskDataError, io, sample
from riskcore.boundary import moment
from riskcore.io import sweeps
from riskcore.margin import batch
from riskcore.margin.screen import intervals
from riskcore.margin.sweep import COLUMNS
from tests import small_run
from tests.crowds import Market, crowd, markets
from tests.small_run import BTC, ETH

FIGURES = ("net_equity", "exposure", "initial_margin", "maintenance_margin", "liquidatable", "imr", "mmr")


def bits(table) -> list:
    return [table.time, table.account.tolist(), *(getattr(table, name).tobytes() for name in FIGURES)]


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of few rows, with intervals however few the accounts, and parts of two rows."""
    for name, value in (("_MIN_ACCOUNTS", 0), ("_FIRST", 4), ("_SHORTEST", 2), ("_PART", 2), ("_MIN_IN_DOUBT", 1)):
        monkeypatch.setattr(batch, name, value)


@pytest.fixture(scope="module")
def state():
    """20,000 accounts, some past 100 %, and a walk of their marks over 48 rows with a crash in it."""
    venue, marks = rc.load_venue(sample.venue_source([])), {BTC: 1e5, ETH: 4e3, "SOL_USDC_PERP": 200.0}
    accounts = rc.Accounts.from_frames(venue, *sample.generate_accounts(venue, marks, 20_000, seed=7))
    return venue, accounts, walk(marks, 48)


def walk(marks, rows, step=2e-4, seed=3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, step, (rows, len(marks)))
    moves[rows // 2] -= 0.02
    times = pd.date_range("2025-10-10T21:00:00Z", periods=rows, freq="min")
    return pd.DataFrame(np.array(list(marks.values())) * np.exp(moves.cumsum(axis=0)), times, list(marks))


# ---- Who is at 100 %


@settings(max_examples=30)
@given(markets(), st.integers(1, 200), st.integers(0, 2**32), st.sampled_from([1e-5, 1e-3, 3e-2]), st.data())
def test_selections_are_those_of_single_calls(market: Market, count, seed, step, data):
    """Every kind of account and rule; prices that walk and jump; open interests at some rows and not at others."""
    rng, venue, rows = np.random.default_rng(seed), market.venue, 13
    accounts = crowd(market, count, seed)

    def moved(start, names):
        path = start * np.exp(rng.normal(0, step, (rows, len(start))).cumsum(axis=0))
        path[0] = start  # to the last bit, where equities are at an edge
        return pd.DataFrame(path, columns=list(names)).dropna(axis=1)

    marks, assets = moved(market.mark, venue.markets.symbol), moved(market.asset, venue.assets.symbol)
    interests = moved(rng.choice([0.0, 1e3, 1e7], len(market.mark)), venue.markets.symbol)
    interests = interests.where(rng.random(interests.shape) < 0.7)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("_MIN_ACCOUNTS", 0), ("_FIRST", data.draw(st.sampled_from([2, 8]))), ("_SHORTEST", 2), ("_PART", 2),
            ("_MIN_IN_DOUBT", 1), ("_MAX_SELECTED", data.draw(st.sampled_from([1, 300, 1 << 22]))),
        ):  # fmt: skip
            patch.setattr(batch, name, value)
        for threads in (1, 3):
            found = rc.select(
                accounts, venue, marks, asset_prices=assets, open_interest=interests, threads=threads
            )  # fmt: skip
            assert len(found) == rows
            for t, one in enumerate(found):
                single = rc.select(
                    accounts,
                    venue,
                    marks.iloc[t],
                    asset_prices=assets.iloc[t],
                    open_interest=interests.iloc[t].dropna(),
                )
                assert one.row.tolist() == single.row.tolist()
                assert bits(one.table())[1:] == bits(single.table())[1:]


def test_the_frame_of_selections_is_the_sweep_of_those_at_100(state, short_blocks):
    venue, accounts, marks = state
    whole = rc.sweep(accounts, venue, marks).to_frame()
    found = rc.select(accounts, venue, marks).to_frame()
    assert 1_000 < len(found) < len(whole) / 4
    pd.testing.assert_frame_equal(found, whole[whole["liquidatable"]].reset_index(drop=True), check_exact=True)


def test_most_accounts_are_not_computed_row_by_row(state, monkeypatch):
    venue, accounts, marks = state
    computed, bounded, selected, decide = [], [], batch.selected, intervals.PriceIntervals.decide

    def counted(accounts, columns, prices, threads):
        computed.append(len(columns.account))
        return selected(accounts, columns, prices, threads=threads)

    def counting(price_intervals, columns, first, last):
        bounded.append(len(columns.account))
        return decide(price_intervals, columns, first, last)

    monkeypatch.setattr(batch, "selected", counted)
    monkeypatch.setattr(intervals.PriceIntervals, "decide", counting)
    calm = walk(dict(marks.iloc[0]), 96, step=1e-5).iloc[:48]
    rc.select(accounts, venue, calm, threads=1)
    assert len(computed) == len(calm)
    assert sum(computed) + sum(bounded) < len(accounts) * len(calm) / 8


def test_nobody_at_100(state):
    venue, _, marks = state
    nobody = rc.Accounts.from_frames(
        venue,
        pd.DataFrame({"account": ["a"], "market": [marks.columns[0]], "quantity": [1e-3], "entry_price": [1.0]}),
        pd.DataFrame({"account": ["a"], "asset": ["USDC"], "quantity": [1e9]}),
    )
    found = rc.select(nobody, venue, marks)
    assert [len(one) for one in found] == [0] * len(marks)
    assert found.to_frame().columns.tolist() == rc.sweep(nobody, venue, marks).to_frame().columns.tolist()


# ---- Full tables


def test_tables_are_those_of_single_calls(state, monkeypatch):
    venue, accounts, marks = state
    singles = [rc.sweep(accounts, venue, row, threads=1) for _, row in marks.iterrows()]
    for margins, threads in ((1, 1), (5 * len(accounts), 2), (batch._MAX_MARGINS, None)):
        monkeypatch.setattr(batch, "_MAX_MARGINS", margins)
        found = list(rc.sweep_rows(accounts, venue, marks, threads=threads))
        assert [table.time for table in found] == marks.index.tolist()
        for table, single in zip(found, singles, strict=True):
            assert bits(table)[1:] == bits(single)[1:]
    pd.testing.assert_frame_equal(
        rc.sweep(accounts, venue, marks).to_frame(),
        pd.concat([table.to_frame().assign(time=table.time) for table in found], ignore_index=True)[["time", *COLUMNS]],
    )


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one(state, threads):
    venue, accounts, marks = state
    for call in (rc.sweep, rc.select):
        with pytest.raises(ValueError, match=f"threads must be >= 1, not {threads}"):
            call(accounts, venue, marks, threads=threads)


# ---- Prices


@pytest.fixture
def small():
    venue, accounts, _ = small_run.read(small_run.tables())
    return venue, accounts, pd.DataFrame({BTC: [1e5, 9e4, 8e4], ETH: [4e3, 4e3, 5e3], "XAU": [4e3, 4e3, 3e3]})


def refused(small, change, **others) -> str:
    venue, accounts, marks = small
    messages = set()
    for call in (rc.sweep, rc.select, rc.sweep_rows):
        with pytest.raises(RiskDataError) as error:
            call(accounts, venue, change(marks), **others)
        messages.add(str(error.value))
    assert len(messages) == 1
    return messages.pop()


def test_wrong_prices_say_at_which_row(small):
    assert refused(small, lambda m: m.assign(**{ETH: [4e3, 0.0, -1.0]})) == (
        f"marks.{ETH}, row 1, value 0.0: must be a finite number > 0"
    )
    assert refused(small, lambda m: m.assign(**{ETH: [4e3, 4e3, np.inf]})) == (
        f"marks.{ETH}, row 2, value inf: must be a finite number > 0"
    )
    assert (
        refused(small, lambda m: m.assign(**{ETH: ["1", "2", "x"]}))
        == f"marks.{ETH}, row 2, value 'x': must be a number"
    )
    assert refused(small, lambda m: m.assign(DOGE=[np.nan, 1.0, 1.0])) == (
        "marks.DOGE, row 1, value 1.0: must be a market of the venue"
    )
    assert refused(small, lambda m: m.assign(XAU=[1.0, -2.0, 1.0])) == (
        "asset_prices.XAU, row 1, value -2.0: must be a finite number > 0"
    )
    assert refused(small, lambda m: m.assign(**{BTC: [1.0, 1e9, 1.0]})) == (
        f"marks.{BTC}, row 1, value 1000000000.0: must be at most the market's maxPrice"
    )
    assert refused(small, lambda m: m.assign(**{BTC: [1.0, 2.0, np.nan]})) == (
        f"marks.{BTC}, row 2: an account holds it: a mark is needed"
    )
    assert refused(small, lambda m: m.drop(columns="XAU")) == (
        "asset_prices.XAU, row 0: an account holds it: a price is needed"
    )
    assert refused(small, lambda m: m.iloc[:0]) == "marks: must have at least one row"


def test_a_row_is_named_by_its_time(small):
    times = pd.date_range("2025-10-10T21:00:00Z", periods=3, freq="s")
    message = refused(small, lambda m: m.assign(**{ETH: [4e3, 4e3, 0.0]}).set_axis(times))
    assert message == f"marks.{ETH}, row time {moment(times[2].value)}, value 0.0: must be a finite number > 0"


def test_frames_beside_the_marks(small):
    venue, accounts, marks = small
    gold = pd.DataFrame({"XAU": [1e3, 2e3, 3e3]})
    found = rc.sweep(accounts, venue, marks, asset_prices=gold, indexes={BTC: 7e4}, open_interest={ETH: 1e9})
    for t, table in enumerate(found):
        single = rc.sweep(
            accounts, venue, marks.iloc[t], asset_prices=gold.iloc[t], indexes={BTC: 7e4}, open_interest={ETH: 1e9}
        )
        assert bits(table)[1:] == bits(single)[1:]
    assert refused(small, lambda m: m, indexes=marks.iloc[:2]) == "indexes: must have the index of the marks"
    assert refused(small, lambda m: m, open_interest=pd.DataFrame({ETH: [1.0, -1.0, 1.0]})) == (
        f"open_interest.{ETH}, row 1, value -1.0: must be a finite number >= 0"
    )


def test_what_is_unusual_and_no_mistake(small):
    """Whole numbers, numbers as text, markets that nobody holds here and there, columns of nothing."""
    venue, accounts, marks = small
    expected = [bits(table) for table in rc.sweep(accounts, venue, marks)]
    sol = "SOL_USDC_PERP"
    for odd in (
        marks.astype({BTC: int}),
        marks.astype({BTC: str}),
        marks.assign(**{sol: [np.nan, 100.0, np.nan]}),
        marks.assign(nothing=np.nan),
        marks.astype("Float64"),
        marks.astype(object),
    ):
        assert [bits(table) for table in rc.sweep(accounts, venue, odd)] == expected
        assert [one.row.tolist() for one in rc.select(accounts, venue, odd)] == [
            one.row.tolist() for one in rc.select(accounts, venue, marks)
        ]


# ---- Written while it is computed


@pytest.mark.parametrize("lines", [1, 50_000, 1 << 20])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_file_is_the_table(state, tmp_path, monkeypatch, suffix, lines):
    venue, accounts, marks = state
    marks = marks.iloc[20:27]
    monkeypatch.setattr(sweeps, "_LINES", lines)
    wanted, progress = rc.sweep(accounts, venue, marks).to_frame(), []
    for select_only in (False, True):
        path = tmp_path / f"out.{suffix}"
        counts = io.write_sweep(
            path, accounts, venue, marks, select_only=select_only, progress=lambda *at: progress.append(at)
        )
        if select_only:
            wanted = wanted[wanted["liquidatable"]].reset_index(drop=True)
        found = io.read_table(path, "out")
        found["time"] = pd.to_datetime(found["time"]).astype(wanted["time"].dtype)
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
        assert counts == wanted.groupby("time")["liquidatable"].sum().tolist()
    assert progress == 2 * [(n, 7) for n in range(1, 8)]
    assert [p.name for p in tmp_path.iterdir()] == [f"out.{suffix}"]


def test_rows_are_whole_in_row_groups(state, tmp_path, monkeypatch):
    venue, accounts, marks = state
    monkeypatch.setattr(sweeps, "_LINES", 50_000)
    io.write_sweep(tmp_path / "out.parquet", accounts, venue, marks.iloc[:7])
    file = pq.ParquetFile(tmp_path / "out.parquet")
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [40_000, 40_000, 40_000, 20_000]


def test_nobody_selected_leaves_typed_columns(small, tmp_path):
    venue, accounts, marks = small
    marks = marks.iloc[:1].set_axis([pd.Timestamp("2025-10-10", tz="UTC")])
    assert io.write_sweep(tmp_path / "out.parquet", accounts, venue, marks, select_only=True) == [0]
    found, whole = pd.read_parquet(tmp_path / "out.parquet"), rc.sweep(accounts, venue, marks).to_frame()
    assert len(found) == 0
    assert found.dtypes.drop("time").equals(whole.dtypes.drop("time"))
    assert isinstance(found["time"].dtype, pd.DatetimeTZDtype)
    io.write_sweep(tmp_path / "out.csv", accounts, venue, marks, select_only=True)
    assert (tmp_path / "out.csv").read_text() == ",".join(whole.columns) + "\n"


def test_times_with_and_without_fractions_of_a_second_are_text_of_one_kind(small, tmp_path, monkeypatch):
    venue, accounts, marks = small
    monkeypatch.setattr(sweeps, "_LINES", 1)
    times = pd.to_datetime(["2025-10-10T00:00:00Z", "2025-10-10T00:00:00.5Z", "2025-10-11T00:00:00Z"], format="ISO8601")
    io.write_sweep(tmp_path / "out.csv", accounts, venue, marks.set_axis(times))
    found = pd.to_datetime(pd.read_csv(tmp_path / "out.csv")["time"])
    assert found.unique().tolist() == times.tolist()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("select_only", [False, True])
def test_nothing_is_left_of_what_fails_half_way(state, tmp_path, monkeypatch, suffix, select_only):
    venue, accounts, marks = state
    monkeypatch.setattr(sweeps, "_LINES", 1)
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")

    def stop(done, total):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        io.write_sweep(path, accounts, venue, marks, select_only=select_only, progress=stop)
    with pytest.raises(RiskDataError, match="a mark is needed"):
        io.write_sweep(path, accounts, venue, marks.iloc[:, 1:], select_only=select_only)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_a_full_disk_is_one_error(state, tmp_path, monkeypatch):
    venue, accounts, marks = state
    monkeypatch.setattr(sweeps, "_LINES", 1)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(RiskDataError, match=r"cannot be written: No space left on device"):
        io.write_sweep(tmp_path / "out.parquet", accounts, venue, marks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("select_only", [False, True])
def test_memory_does_not_grow_with_the_rows(state, tmp_path, monkeypatch, select_only):
    venue, accounts, marks = state
    monkeypatch.setattr(sweeps, "_LINES", 2 * len(accounts))
    monkeypatch.setattr(batch, "_MAX_MARGINS", 2 * len(accounts))
    monkeypatch.setattr(batch, "_MAX_SELECTED", 2 * len(accounts))
    fallen = pd.concat([marks.iloc[-4:]] * 8, ignore_index=True)  # a quarter of the accounts at 100 % and above
    peaks = []
    for times in (1, 1, 6):  # the first to compile and to pack
        tracemalloc.start()
        io.write_sweep(
            tmp_path / "out.parquet", accounts, venue, pd.concat([fallen] * times, ignore_index=True),
            select_only=select_only, threads=2,
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]


def test_labels_of_several_kinds_are_refused_by_parquet_in_one_line(tmp_path):
    venue, tables = sample.crash(20, 2)
    accounts = rc.Accounts.from_frames(venue, tables.positions, tables.balances)
    frame = pd.DataFrame(1000.0, columns=list(venue.markets.symbol), index=[1, "b"])
    with pytest.raises(RiskDataError, match=r"marks\.time: must be labels of one kind"):
        io.write_sweep(tmp_path / "out.parquet", accounts, venue, frame)
    assert not list(tmp_path.iterdir())
