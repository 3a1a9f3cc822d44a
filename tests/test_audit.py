"""The audit passes a run in which everything happens, and fails it when one row is altered."""

import shutil

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore import io, sample
from riskcore.audit import RunError, audit
from riskcore.journal import EVENTS

WHOLE = [
    "tick", "time", "account", "counterparty", "market", "asset", "order", "requested", "lots", "cost", "cash", "fee",
    "quanta", "counter_cost", "counter_cash", "fund",
]  # fmt: skip


def stormy_run(path):
    """A generated crash with borrowers and lenders, a poor fund, providers soon exhausted, and a gap in the books."""
    count = 150
    source = sample.venue_source([count + 1, count + 2])
    source["policy"] = {"fund": 150, "slices_per_tick": 2, "min_slice_notional": 200}
    for provider, capacity in zip(source["backstop"], ("300000", "120000"), strict=True):
        provider |= {"capacity_per_min": capacity, "capacity_per_hour": "500000"}
    venue = rc.load_venue(source)
    marks = sample.generate_crash(venue, 40, seed=3, fall=0.3)
    books = sample.generate_books(venue, marks, seed=3, depth=2e5)
    moments = sorted(books["time"].unique())
    books = books[~((books["time"] == moments[20]) & (books["market"] == "SOL_USDC_PERP"))]
    first = marks.groupby("market")["mark_price"].first().to_dict()
    positions, balances, orders = sample.generate_accounts(venue, first, count, seed=3)
    # one account in three moves most of its settle balance into lent BTC, one in three into SOL on a USDC debt
    balances = balances.assign(lent=0.0)
    settle = balances[(balances["asset"] == "USDC") & (balances["account"] <= count)]
    held = set(balances.loc[balances["asset"] != "USDC", "account"])
    extra = []
    for row, account, amount in zip(settle.index, settle["account"], settle["quantity"], strict=True):
        if account in held or account % 3 == 0:
            continue
        asset, share = ("BTC", 0.9) if account % 3 == 1 else ("SOL", 1.4)
        moved = share * amount
        balances.loc[row, "quantity"] = round(amount - moved, 6)
        bought = round(moved / 0.94 / first[f"{asset}_USDC_PERP"], 6)
        extra.append((account, asset, *((0.0, bought) if asset == "BTC" else (bought, 0.0))))
    balances = pd.concat([balances, pd.DataFrame(extra, columns=["account", "asset", "quantity", "lent"])])
    accounts = rc.Accounts.from_frames(venue, positions, balances.reset_index(drop=True), orders)
    engine = rc.Engine(accounts, venue)
    for tick in io.read_ticks(venue, accounts, marks, books):
        engine.step(tick)
    engine.save(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "run"
    stormy_run(path)
    return path


@pytest.fixture
def altered(run, tmp_path):
    """A copy of the run, and a way to put another journal in it."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    file = next((copy / "journal").iterdir())

    def put(journal):
        journal.to_parquet(file, index=False)
        return audit(copy)

    return put


@pytest.fixture(scope="module")
def journal(run):
    return pd.read_parquet(next((run / "journal").iterdir()))


def test_an_honest_run_passes_and_everything_happened_in_it(run, journal):
    report = audit(run)
    assert report.ok
    assert report.breaches.empty
    assert (report.checks["checked"] > 0).all()
    assert set(journal["event"]) == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_one_altered_number_fails(altered, journal, event):
    """Every whole-number column of a row of each kind, one at a time."""
    rows = np.flatnonzero(journal["event"] == event)
    row = int(rows[len(rows) // 2])
    for column in WHOLE:
        spoiled = journal.copy()
        spoiled.loc[row, column] += 1
        assert not altered(spoiled).ok, f"{event}.{column} of row {row}"


@pytest.mark.parametrize("event", EVENTS)
def test_one_altered_word_or_ratio_fails(altered, journal, event):
    row = int(np.flatnonzero(journal["event"] == event)[0])
    for column in ("event", "reason"):
        spoiled = journal.copy()
        words = spoiled[column].cat.categories
        spoiled.loc[row, column] = next(word for word in words if word != journal.loc[row, column])
        assert not altered(spoiled).ok, f"{event}.{column} of row {row}"
    spoiled = journal.copy()
    spoiled.loc[row, "mmr_before"] = 2 * min(journal.loc[row, "mmr_before"], 1e6) + 1
    assert not altered(spoiled).ok


@pytest.mark.parametrize("event", EVENTS)
def test_a_row_left_out_or_told_twice_fails(altered, journal, event):
    row = int(np.flatnonzero(journal["event"] == event)[0])
    assert not altered(journal.drop(index=row)).ok
    again = pd.concat([journal.iloc[: row + 1], journal.iloc[row:]], ignore_index=True)
    assert not altered(again).ok


def test_an_exempted_account_is_found(altered, journal):
    """All rows of one account left out, as if nobody had looked at it."""
    account = journal.loc[journal["event"] == "book", "account"].iloc[0]
    report = altered(journal[journal["account"] != account])
    assert not report.ok
    assert (report.breaches["rule"] == "selection").any()


def test_no_run(tmp_path):
    with pytest.raises(RunError):
        audit(tmp_path)
