"""The audit passes a run in which everything happens, and fails it when one row is altered."""

import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import io, sample
from riskcore.audit import RunError, accruals, audit
from riskcore.journal import EVENTS

WHOLE = [
    "tick", "time", "account", "counterparty", "market", "asset", "order", "requested", "lots", "cost", "cash", "entry",
    "fee", "quanta", "lent", "unsettled", "counter_cost", "counter_cash", "counter_entry", "fund",
]  # fmt: skip
SETTLED = [("redeem", "settlement"), ("convert", "settlement"), ("interest", "entry")]
KINDS = [(event, None) for event in EVENTS] + SETTLED


def stormy_run(path, *, usdc_lent="1000000"):
    """A generated crash with borrowers and lenders, a poor fund, providers soon exhausted, and a gap in the books.

    Every kind of margin function, funding by premium and by a given rate, hours of interest, realised PnL. The pool of
    USDC holds ``usdc_lent`` of others.
    """
    count = 150
    source = sample.venue_source([count + 1, count + 2])
    source["policy"] = {"fund": 150, "slices_per_tick": 2, "min_slice_notional": 200, "realize_interval": 9}
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
            lent = round(amount, 6) if account % 2 else 0.0
            balances.loc[row, ["quantity", "lent"]] = round(amount - lent, 6), lent
            continue
        asset, share = ("BTC", 0.9) if account % 3 == 1 else ("SOL", 1.4)
        moved = share * amount
        balances.loc[row, "quantity"] = round(amount - moved, 6)
        bought = round(moved / 0.94 / first[f"{asset}_USDC_PERP"], 6)
        extra.append((account, asset, *((0.0, bought) if asset == "BTC" else (bought, 0.0))))
    balances = pd.concat([balances, pd.DataFrame(extra, columns=["account", "asset", "quantity", "lent"])])
    unsettled = pd.DataFrame({"account": [3, 4], "unsettled": [-50.0, -1.5]})
    # what the accounts were drawn without: they are held to other margins and pay for the time between the ticks
    btc, eth, sol = source["markets"]
    btc |= {"fundingInterval": 7000, "fundingRateUpperBound": "60", "fundingRateLowerBound": "-60"}
    eth |= {"fundingInterval": 3_600_000}
    btc["mmfFunction"] |= {"unit": "quantity", "factor": "0.002"}
    eth["mmfFunction"] = {
        "type": "tiers",
        "brackets": [
            {"from": 0, "rate": "0.0125"}, {"from": "5000", "rate": "0.015"}, {"from": "40000", "rate": "0.02"},
        ],
    }  # fmt: skip
    sol["mmfFunction"] = {"type": "open_interest", "base": "0.0125", "lower": "100000", "upper": "90000000"}
    source["borrow_lend"] = [
        {"symbol": "USDC", "lentQuantity": usdc_lent, "borrowedQuantity": "1000000", "fee": "0.1",
         "maxUtilization": "0.95", "throttleUtilizationThreshold": "0.9"},
        {"symbol": "BTC", "lentQuantity": "2", "borrowedQuantity": "1.95", "throttleUtilizationThreshold": "0.8"},
    ]  # fmt: skip
    venue = rc.load_venue(source)
    # from before an hour to after the third one
    second = (marks["time"] - sample.START).dt.total_seconds()
    moved = {t: t + pd.Timedelta(8_208 if t >= moments[25] else -12, "s") for t in moments}
    marks["index_price"] = np.round(marks["mark_price"] * (1 + 0.02 * np.sin(second)), 4)
    marks.loc[(second % 4 == 1) | (marks["market"] == "SOL_USDC_PERP"), "index_price"] = np.nan
    marks["open_interest"] = np.where((marks["market"] == "SOL_USDC_PERP") & (second > 20), 20_000.0 + second, np.nan)
    marks["funding_rate"] = np.where((marks["market"] == "ETH_USDC_PERP") & (second != 12), 0.00013, np.nan)
    marks["time"], books["time"] = marks["time"].map(moved), books["time"].map(moved)
    accounts = rc.Accounts.from_frames(venue, positions, balances.reset_index(drop=True), orders, unsettled)
    engine = rc.Engine(accounts, venue)
    for tick in io.read_ticks(venue, accounts, marks, books):
        engine.step(tick)
    engine.save(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "run"
    stormy_run(path)
    return path


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory):
    """The same with a pool that nothing exhausts."""
    path = tmp_path_factory.mktemp("audit") / "wide"
    stormy_run(path, usdc_lent="200000000")
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


def test_what_accounts_owe_is_paid_back_in_every_way(journal):
    """By lends redeemed, by a borrow (its entry interest tells) and by collateral sold."""
    settled = journal[journal["reason"].isin(["settlement", "entry"])]
    paid_back = settled.groupby(["tick", "account"])["unsettled"].transform("sum") > 0
    assert {"redeem", "interest", "convert", "unsettle"} <= set(settled.loc[paid_back, "event"])


def rows_of(journal, event, reason):
    return np.flatnonzero((journal["event"] == event) & ((journal["reason"] == reason) | (reason is None)))


@pytest.mark.parametrize(("event", "reason"), KINDS)
def test_one_altered_number_fails(altered, journal, event, reason):
    """Every whole-number column of a row of each kind, one at a time."""
    rows = rows_of(journal, event, reason)
    row = int(rows[len(rows) // 2])
    for column in WHOLE:
        spoiled = journal.copy()
        spoiled.loc[row, column] += 1
        assert not altered(spoiled).ok, f"{event}.{column} of row {row}"


@pytest.mark.parametrize(("event", "reason"), KINDS)
def test_one_altered_word_or_ratio_fails(altered, journal, event, reason):
    row = int(rows_of(journal, event, reason)[0])
    for column in ("event", "reason"):
        spoiled = journal.copy()
        words = spoiled[column].cat.categories
        spoiled.loc[row, column] = next(word for word in words if word != journal.loc[row, column])
        assert not altered(spoiled).ok, f"{event}.{column} of row {row}"
    spoiled = journal.copy()
    spoiled.loc[row, "mmr_before"] = 2 * min(np.nan_to_num(journal.loc[row, "mmr_before"]), 1e6) + 1
    assert not altered(spoiled).ok


@pytest.mark.parametrize(("event", "reason"), KINDS)
def test_a_row_left_out_or_told_twice_fails(altered, journal, event, reason):
    row = int(rows_of(journal, event, reason)[0])
    assert not altered(journal.drop(index=row)).ok
    again = pd.concat([journal.iloc[: row + 1], journal.iloc[row:]], ignore_index=True)
    assert not altered(again).ok


@pytest.mark.parametrize(
    ("event", "reason", "changes"),
    [
        ("funding", "interval", {"cash": 1, "counter_cash": -1}),
        ("interest", "hour", {"quanta": 1}),
        ("interest", "hour", {"lent": 1}),
        ("interest", "entry", {"quanta": -1}),
        ("realize", "interval", {"cash": 1, "cost": 1}),
        ("unsettle", "settlement", {"cash": 1, "unsettled": -1}),
        ("redeem", "settlement", {"quanta": -1, "lent": 1}),
        ("convert", "settlement", {"cash": 1, "counter_cash": -1}),
        ("convert", "settlement", {"quanta": -1}),
    ],
)
def test_an_accrual_that_is_a_quantum_off_is_found_by_its_rule(altered, journal, event, reason, changes):
    """The row is well formed: only what is due tells."""
    row = int(rows_of(journal, event, reason)[-1])
    spoiled = journal.copy()
    for column, change in changes.items():
        spoiled.loc[row, column] += change
    breaches = altered(spoiled).breaches
    assert ((breaches["rule"] == "accruals") & (breaches["row"] == row)).any()
    assert not (breaches["rule"] == "rows").any()


@pytest.mark.parametrize("event", ["funding", "interest", "realize", "unsettle"])
def test_a_missing_kind_of_accrual_is_found(run, journal, event, tmp_path):
    """All rows of a kind left out: not the sums alone tell."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    left = journal[journal["event"] != event].reset_index(drop=True)
    left.to_parquet(copy / "journal/00000.parquet", index=False)
    found = audit(copy).breaches["rule"]
    assert (found == "accruals").any()


def test_where_no_limit_is_reached_one_account_after_another_comes_to_the_same(wide_run, monkeypatch):
    """The settlement of all at once and the one by one are two ways to the same rows."""
    ways = []
    for way in ("_settle_all", "_settle_each"):
        taken = getattr(accruals.Accruals, way)
        monkeypatch.setattr(accruals.Accruals, way, lambda *given, taken=taken: ways.append(len(ways)) or taken(*given))
    assert audit(wide_run).ok
    settled = len(ways)
    assert settled > 0
    monkeypatch.setattr(accruals.Accruals, "_settle_all", lambda *given: None)
    assert audit(wide_run).ok
    assert len(ways) == 2 * settled  # each time the second way, where the first was enough before


@settings(max_examples=200)
@given(st.lists(st.integers(1 - 2**62, 2**62 - 1)), st.integers(-(10**18), 10**18), st.sampled_from([6, 9, 15]))
def test_a_share_is_that_of_the_long_product(amounts, part, digits):
    expected = [round(Fraction(amount * part, 10**digits)) for amount in amounts]
    expected = [max(min(amount, 2**62), -(2**62)) for amount in expected]
    assert accruals.share(np.array(amounts, np.int64), part, 10**digits).tolist() == expected


def test_an_exempted_account_is_found(altered, journal):
    """All rows of one account left out, as if nobody had looked at it."""
    account = journal.loc[journal["event"] == "book", "account"].iloc[0]
    report = altered(journal[journal["account"] != account])
    assert not report.ok
    assert (report.breaches["rule"] == "selection").any()


def test_no_run(tmp_path):
    with pytest.raises(RunError):
        audit(tmp_path)
