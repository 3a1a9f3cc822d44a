"""Tables and the page of a run: what the providers made of what they took, worked out by hand."""

import pandas as pd
import pytest

import riskcore as rc
from riskcore import sample
from riskcore.record import reader
from riskcore.run import report

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
    found = report.provider_pnl(run)
    assert found["provider"].tolist() == [9] * 3
    # equity 300 belongs to the position and the debt by their margins; a third of it goes to the fund
    taken, edge = 1e5 + 10 * 200.0, 300 * 2 / 3
    assert found["taken"].to_numpy() == pytest.approx([taken] * 3)
    assert found["edge"].to_numpy() == pytest.approx([edge] * 3, abs=2e-6)
    assert found["pnl"].to_numpy() == pytest.approx([edge, edge - 100 - 1, edge + 100 - 2], abs=2e-6)
    assert found["pnl_bp"].to_numpy() == pytest.approx(found["pnl"] / taken * 1e4)


def test_timeline_ends_at_the_split(run):
    venue, rows = rc.load_venue(run / "venue.json"), reader.read_journal(run)
    line, split = report.timeline(run), report.waterfall_split(rows, venue)
    assert line.iloc[-1][split["stage"]].tolist() == pytest.approx(split["notional"].tolist())
    assert line["fund"].iloc[-1] == pytest.approx(1_000_000 + 100)
    assert (line["shortfall"] == 0).all()


def test_page_needs_nothing_else(run):
    page = report.page(run)
    assert "Backstop providers" in page
    assert "<script src=" not in page


def test_run_without_providers_has_no_pnl(tmp_path):
    venue = rc.load_venue(sample.venue_source([]))
    balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1.0]})
    positions = pd.DataFrame({"account": [1], "market": [BTC], "quantity": [0.0], "entry_price": [1e5]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    engine.step(rc.Tick(START, {BTC: 1e5}, {}))
    engine.save(tmp_path / "run")
    assert report.provider_pnl(tmp_path / "run").empty
    assert "Backstop providers" in report.page(tmp_path / "run")
