"""Tables and the page of a run, against figures worked out by hand."""

import html
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore import sample
from riskcore.cli import app, commands
from riskcore.margin import margin_table
from riskcore.market import Prices
from riskcore.record import EVENT, reader
from riskcore.run import RecordedRun, figures, losses, page, report
from riskcore.run.holdings import Holdings, market_value
from riskcore.run.page import money
from tests import small_run

BTC = "BTC_USDC_PERP"
START = pd.Timestamp("2026-01-01", tz="UTC")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A long of 1 BTC and a debt of 10 SOL, both past the book at the first tick; the market falls, then rises."""
    source = sample.venue_source([9])
    source["policy"] |= {"slice_probability": 1, "conversion_limit": 0}
    venue = rc.load_venue(source)
    positions = pd.DataFrame({"account": [1, 2], "market": BTC, "quantity": [1.0, -1.0], "entry_price": [1e5, 1e5]})
    balances = pd.DataFrame(
        [(1, "USDC", 2_300.0), (1, "SOL", -10.0), (2, "USDC", 1e6), (9, "USDC", 1e6)],
        columns=["account", "asset", "quantity"],
    )
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    for second, mark in enumerate((1e5, 99_900.0, 100_100.0)):
        marks = {BTC: mark}
        indexes = {BTC: mark, "SOL_USDC_PERP": 200.0 + second / 10}
        engine.step(rc.Tick(START + pd.Timedelta(seconds=second), marks, {}, indexes))
    path = tmp_path_factory.mktemp("report") / "run"
    engine.save(path)
    return path


def test_provider_is_paid_or_not(run):
    found = report.provider_pnl(RecordedRun.read(run))
    assert found["provider"].tolist() == [9] * 3
    # equity 300 belongs to the position and the debt by their margins; a third of it goes to the fund
    taken, edge = 1e5 + 10 * 200.0, 300 * 2 / 3
    assert found["taken"].to_numpy() == pytest.approx([taken] * 3)
    assert found["edge"].to_numpy() == pytest.approx([edge] * 3, abs=2e-6)
    assert found["pnl"].to_numpy() == pytest.approx([edge, edge - 100 - 1, edge + 100 - 2], abs=2e-6)
    assert found["pnl_bp"].to_numpy() == pytest.approx(found["pnl"] / taken * 1e4)


def test_timeline_ends_at_the_split(run):
    venue, rows = rc.load_venue(run / "venue.json"), reader.read_journal(run)
    line, split = report.timeline(RecordedRun.read(run)), report.waterfall_split(rows, venue)
    assert line.iloc[-1][split["stage"]].tolist() == pytest.approx(split["notional"].tolist())
    assert line["fund"].iloc[-1] == pytest.approx(1_000_000 + 100)
    assert (line["shortfall"] == 0).all()


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A saved run with order book fills, conversions, takeovers, funding and realised PnL, and its engine."""
    venue, accounts, ticks = small_run.crash()
    engine = rc.Engine(accounts, venue, seed=3)
    for tick in ticks:
        engine.step(tick)
    path = tmp_path_factory.mktemp("report") / "crash"
    engine.save(path)
    return path, engine, ticks


def test_journal_leads_from_the_first_accounts_to_the_last(crash):
    run = RecordedRun.read(crash[0])
    holdings = Holdings.of(run.start, run.venue)
    for part in np.array_split(run.rows, 7):
        holdings.apply(part)
    found = holdings.accounts()
    for name, column in run.end.columns._asdict().items():
        np.testing.assert_array_equal(getattr(found.columns, name), column, err_msg=name)
    np.testing.assert_array_equal(found.orders.lots, run.end.orders.lots)


def test_account_below_zero_that_nobody_takes_is_bankrupt(tmp_path):
    venue = rc.load_venue(sample.venue_source([]))
    positions = pd.DataFrame({"account": [1], "market": BTC, "quantity": [1.0], "entry_price": [1e5]})
    balances = pd.DataFrame({"account": [1], "asset": "USDC", "quantity": [2_300.0]})
    for mark, bankrupt in ((98_000.0, False), (97_000.0, True)):
        engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
        engine.step(rc.Tick(START, {BTC: mark}))
        engine.save(tmp_path / str(mark))
        found = losses.liquidation_losses(RecordedRun.read(tmp_path / str(mark)))
        assert found[["account", "closed", "bankrupt"]].to_numpy().tolist() == [[1, False, bankrupt]]


def test_takeover_costs_the_equity(run):
    found = losses.liquidation_losses(RecordedRun.read(run))
    assert found["account"].tolist() == [1]
    assert found[["closed", "bankrupt"]].to_numpy().tolist() == [[True, False]]
    row = found.iloc[0]
    assert row[["equity", "equity_end", "loss", "provider_edge", "fund_share"]].tolist() == pytest.approx(
        [300, 0, 300, 200, 100], abs=3e-6
    )
    assert row[["price", "slippage", "fees", "adl", "accruals", "covered"]].tolist() == pytest.approx([0] * 6, abs=3e-6)


def test_adl_at_the_zero_price_gives_the_equity_to_the_counterparty(tmp_path):
    source = sample.venue_source([])
    source["policy"] |= {"slice_probability": 1}
    venue = rc.load_venue(source)
    positions = pd.DataFrame({"account": [1, 2], "market": BTC, "quantity": [1.0, -1.0], "entry_price": [1e5, 1.1e5]})
    balances = pd.DataFrame([(1, "USDC", 300.0), (2, "USDC", 1e6)], columns=["account", "asset", "quantity"])
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    for second, mark in enumerate((1e5, 9e4)):
        engine.step(rc.Tick(START + pd.Timedelta(seconds=second), {BTC: mark}, {}))
    engine.save(tmp_path / "run")
    run = RecordedRun.read(tmp_path / "run")
    row = losses.liquidation_losses(run).set_index("account").loc[1]
    assert row[["loss", "adl", "price"]].tolist() == pytest.approx([300, 300, 0], abs=3e-6)
    assert losses.adl_gain_of_counterparties(run) == pytest.approx(300, abs=3e-6)


def test_price_takes_what_positions_and_balances_lost_from_tick_to_tick(crash):
    run = RecordedRun.read(crash[0])
    found = losses.liquidation_losses(run)
    trigger = np.searchsorted(run.time, pd.DatetimeIndex(found["time"]).as_unit("ns").asi8)
    rows_of = [run.start.row_of(account) for account in found["account"]]
    holdings, lost = Holdings.of(run.start, run.venue), np.zeros(len(found))

    def worth(accounts, tick):
        at = np.full(len(accounts), tick)
        return market_value(accounts, run.venue, at, run.lot_value, run.quantum_value)[rows_of]

    for tick in range(len(run.time) - 1):
        holdings.apply(run.rows[run.rows["tick"] == tick])
        accounts = holdings.accounts()
        lost += np.where(tick >= trigger, worth(accounts, tick) - worth(accounts, tick + 1), 0)
    assert len(found) > 5
    assert np.abs(lost).max() > 100
    np.testing.assert_allclose(found["price"], lost, atol=1e-4)
    np.testing.assert_allclose(found[list(losses.CAUSES)].sum(axis=1), found["loss"], atol=1e-4)
    fee = run.rows["fee"].sum() * float(run.venue.settle_quantum)
    assert found["fees"].sum() == pytest.approx(fee)
    for event, cause in (("book", "slippage"), ("backstop", "provider_edge"), ("funding", "accruals")):
        assert (run.rows["event"] == EVENT[event]).any()
        assert (found[cause] != 0).any(), cause


def test_margin_bands_end_where_the_engine_does(crash):
    path, engine, ticks = crash
    run = RecordedRun.read(path)
    bands = report.margin_bands(run, 5)
    assert bands["time"].nunique() == 5
    tick = len(ticks) - 1
    assert bands["time"].iloc[-1] == pd.Timestamp(ticks.time[tick], tz="UTC")
    prices = Prices.incomplete(engine.venue, ticks.tick(tick)).guarded(engine.accounts, *reader.read_prices(path, tick))
    last = report.margin_distribution(margin_table(engine.accounts, prices).mmr)
    assert bands["accounts"].iloc[-len(last) :].tolist() == last["accounts"].tolist()
    assert (bands.groupby("time")["accounts"].sum() == len(run.start)).all()


def test_page_is_one_file_that_loads_plotly_once(crash):
    from plotly.offline import get_plotlyjs

    found, library = page(crash[0]), get_plotlyjs()
    assert found.count(library) == 1
    assert len(found.encode()) - len(library.encode()) < 2_000_000
    rest = found.replace(library, "")
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", rest)
    assert rest.count("Plotly.newPlot") == 5
    for text in ("prefers-color-scheme:dark", 'name="viewport"', "max-width:600px"):
        assert text in rest


def test_headline_names_losses_fund_and_verdict(run):
    found = _text(page(run, "every rule was kept in 12 checks"))
    for text in (
        "accounts liquidated 1 1 closed, 0 bankrupt",
        "equity lost by liquidated users 300.00 USDC after the trigger (100.0% of their equity at the trigger)",
        "insurance fund at the end 1,000,100 USDC first 1,000,000, least 1,000,000",
        "audit every rule was kept in 12 checks",
        "price after the trigger 0 0.0%",
        "edge of the providers 200.00 66.7%",
        "fund's share of takeovers 100.00 33.3%",
        "in all 300.00 100.0%",
    ):
        assert text in found
    assert "not audited: run `riskcore audit`" in _text(page(run))


def test_page_has_stages_worst_accounts_policy_seed_and_versions(run):
    found = _text(page(run))
    known = reader.open_run(run).manifest
    for text in (
        "backstop 99,769 100.0% 1 100.0% 1 ADL 0",
        "9 102,000 200.00 298.00 29.2",
        "Account 1 2026-01-01 00:00:00 liquidation begins or continues",
        "slice_probability 1 0.5",
        "conversion_limit 0 none",
        "fund 1,000,000 0",
        "seed 0",
        f"numpy {known['versions']['numpy']}",
        f"digest of the run {known['digest']}",
    ):
        assert text in found
    assert "target_mmr" not in found


@pytest.mark.parametrize(
    ("alter", "said"), [(None, "audit every rule was kept in "), ("mmr_before", "audit broken: ratios (")]
)
def test_report_of_a_small_run_names_the_verdict_of_the_audit(alter, said, crash, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(crash[0], path)
    if alter:
        file = path / "journal/00000.parquet"
        journal = pd.read_parquet(file)
        row = journal.index[journal["event"] == "trigger"][0]
        journal.loc[row, alter] += 1
        journal.to_parquet(file)
        small_run.seal(path)
    result = CliRunner().invoke(app, ["report", str(path)])
    assert result.exit_code == 0, result.output
    assert said in _text((path / "report.html").read_text())


def test_report_of_a_large_run_is_not_audited(crash, monkeypatch):
    monkeypatch.setattr(commands, "_ROWS_TO_AUDIT", 10)
    assert CliRunner().invoke(app, ["report", str(crash[0])]).exit_code == 0
    assert "not audited: run `riskcore audit`" in _text((crash[0] / "report.html").read_text())


def test_long_story_leaves_out_its_middle(crash):
    found = page(crash[0])
    stories = re.findall("<details>.*?</details>", found)
    assert len(stories) == 10
    assert max(story.count("<li>") for story in stories) == 13
    assert not re.search("funding of|realised|rests", "".join(stories))
    assert "more events: see" in found


def test_page_of_a_run_without_ticks(tmp_path):
    venue, accounts, _ = small_run.crash()
    rc.Engine(accounts, venue).save(tmp_path / "run", complete=False)
    found = page(tmp_path / "run")
    assert "The run has no tick yet." in found
    assert "the run is not complete" in found


def test_page_of_a_run_without_liquidations(tmp_path):
    venue, accounts, ticks = small_run.crash()
    engine = rc.Engine(accounts, venue)
    engine.step(ticks.tick(0))
    engine.save(tmp_path / "run")
    assert "No account was liquidated." in page(tmp_path / "run")


@pytest.mark.parametrize("count", [0, 1, 1000, 1001, 54_321])
def test_thinned_series_keep_their_extremes(count):
    values = np.random.default_rng(count).normal(size=count)
    values[1::7] = np.nan
    kept = figures.thinned(values)
    assert len(kept) <= figures.POINTS
    assert (np.diff(kept) > 0).all()
    if count:
        assert {0, count - 1, np.nanargmin(values), np.nanargmax(values)} <= set(kept.tolist())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-7e-12, "0"), (0.004, "0.004"), (-2.5, "-2.50"), (999.994, "999.99"), (1000.4, "1,000"),
     (-1e9, "-1,000,000,000"), (float("nan"), "-")],
)  # fmt: skip
def test_amounts_have_separators_and_sensible_decimals(value, text):
    assert money(value) == text


def _text(found):
    """Text of a page as a reader sees it: no tags, single spaces."""
    body = found[found.index("<main>") : found.index("</main>")]
    body = re.sub("<script.*?</script>", " ", body, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", body)))


def test_run_without_providers_has_no_pnl(tmp_path):
    venue = rc.load_venue(sample.venue_source([]))
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1.0]})
    positions = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [0.0], "entry_price": [1e5]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    engine.step(rc.Tick(START, {BTC: 1e5}, {}))
    engine.save(tmp_path / "run")
    assert report.provider_pnl(RecordedRun.read(tmp_path / "run")).empty
    assert "Backstop providers" in page(tmp_path / "run")
