"""The audit passes a run in which everything happens, and fails it when one row is altered."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskcore as rc
from riskcore import io, sample
from riskcore.audit import RULES, RunError, accruals, audit
from riskcore.audit.folder import ACTIVE, EVENTS
from riskcore.venue import POLICIES, Counterparties

from .last_ways import run_of_last_ways
from .small_run import finds, seal
from .wild_runs import wild_run

WHOLE = [
    "tick", "time", "account", "counterparty", "market", "asset", "settle", "order", "requested", "lots", "cost",
    "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost", "counter_cash", "counter_entry", "fund",
]  # fmt: skip
KINDS = [
    (event, reason)
    for event, kind in EVENTS.items()
    for reason in kind.reasons.split()
    if reason not in ACTIVE and event != "propose"
]
"""Every event of a tick with each of its reasons; activity and the slices of a host have a test of their own."""

HARD = {"count": 60, "ticks": 30, "fall": 0.3, "depth": 1500, "poor": 4000}
"""Few buy, and the providers soon have no margin left."""
# policy beside the defaults, and what is drawn; each run draws other accounts, prices and books
RUNS = {
    "waive": (
        {"fund": 50_000, "slice_fraction": "0.3", "slices_per_tick": 2},
        {"seed": 26, "depth": 700, "count": 250},
    ),
    "caps": (
        {
            "slices_per_tick": 3, "account_cap": 1500, "account_cap_interval": 5, "market_cap": 2500,
            "slice_cooldown": 2, "waived_fee_share": "0.9", "slice_fraction": "0.3",
        },
        {"seed": 6, "depth": 20e3, "count": 160},
    ),
    "thin": (
        {
            "slices_per_tick": 3, "depth_share": "0.7", "slippage_limit": 5, "refill_half_life": 4,
            "slice_fraction": "0.5", "slice_cooldown": "0.5",
        },
        {"seed": 16, "depth": 2e3, "count": 160},
    ),
    "passes": (
        {
            "account_order": "pro_rata", "position_order": "pro_rata", "slices_per_tick": 2, "slice_fraction": "0.2",
            "account_cap": 3000, "market_cap": 20_000, "target_mmr": "0.9", "slice_probability": "0.8",
        },
        {"seed": 15},
    ),
    "random": (
        {
            "account_order": "random", "position_order": "largest", "harmful_slice": "send", "slice_probability": 1,
            "slice_fraction": "0.3", "slippage_limit": "7.5", "liquidation_fee": "0.004", "conversion_limit": 900,
        },
        {"seed": 21, "fall": 0.35, "count": 150, "depth": 1500},
    ),
    "backstop": (
        {
            "harmful_slice": "backstop", "slice_probability": 1, "slices_per_tick": 2, "conversion_limit": 900,
            "realize_interval": 9, "mark_index_threshold": "0.01", "stale_after": 5,
        },
        {"seed": 24},
    ),
    "largest": (
        {
            "account_order": "pro_rata", "position_order": "largest", "slices_per_tick": 3, "refill_half_life": 2,
            "depth_share": "0.3", "harmful_slice": "send", "conversion_slippage": "0.004", "acmf_offset": "0.2",
            "acmf_divisor": 5,
        },
        {"seed": 12},
    ),
    "queue": (
        {
            "adl_policy": "binance", "adl_price": "0.5", "adl_counterparties": "opposing", "adl_cap": "0.5",
            "shortfall": "unsettled", "backstop_below_zero": "zero_price", "realize_interval": 29,
            "zero_price_band": "0.02",
        },
        {"seed": 27, **HARD},
    ),
    "shared": (
        {
            "adl_policy": "rap_linear", "adl_price": "1/3", "adl_cap": "0.2", "shortfall": "equity",
            "counterparty_mmr": "0.5",
        },
        {"seed": 5, **HARD},
    ),
    "others": (
        {"adl_policy": "capped_pro_rata", "adl_counterparties": "opposing", "shortfall": "open_interest"},
        {"seed": 6, **HARD},
    ),
    "events": (
        {"price_path": "bridge", "refill_half_life": 4, "realize_interval": 9},
        {"seed": 4, "ticks": 40, "count": 60, "events": True},
    ),
    "at once": (
        {"liquidation_interval": None, "slice_cooldown": 2},
        {"seed": 3, "ticks": 40, "count": 24, "events": True},
    ),
    "book": ({"stages": ["book"], "slice_probability": 1}, {"seed": 1, "count": 80, "ticks": 40, "depth": 3000}),
    "closed": (
        {}, {"seed": 8, "ticks": 30, "count": 60, "closed": {"ETH_USDC_PERP": "PostOnly", "SOL_USDC": "Closed"}}
    ),
}  # fmt: skip
LAST_WAYS = {
    "first": {
        "stages": ["backstop", "adl", "book"], "adl_when": "fund_below", "adl_fund_on": 100, "adl_fund_off": 100,
    },
    "escalated": {"stages": ["book", "adl"], "harmful_slice": "backstop"},
    "steep": {"slice_fraction": "0.5", "slices_per_tick": 3, "target_mmr": "0.5", "slice_probability": 1},
}  # fmt: skip
"""Policies of the runs of `last_ways`."""


def stormy_run(path, *, usdc_lent="1000000"):
    """A generated crash with borrowers and lenders, a poor fund, providers soon exhausted, and a gap in the books.

    Every kind of margin function, funding by premium and by a given rate, hours of interest, realised PnL. The pool of
    USDC holds ``usdc_lent`` of others.
    """
    count = 150
    source = sample.venue_source([count + 1, count + 2])
    source["policy"] = {"fund": 150, "slices_per_tick": 2, "min_slice_notional": 200, "realize_interval": 9}
    source["policy"] |= {"liquidation_interval": None}
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


def active_run(path):
    """Accounts that trade and move money between quiet ticks, one row after a tick: each has a place of its own."""
    venue = rc.load_venue(sample.venue_source([]))
    none = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [1, 2, 3], "asset": "USDC", "quantity": [100.0, 50.0, 9_000.0]})
    engine = rc.Engine(rc.Accounts.from_frames(venue, none, balances), venue)

    def moved(action, account, quantity, **values):
        return {"action": action, "account": account, "asset": "USDC", "quantity": quantity, **values}

    traded = {"market": "BTC_USDC_PERP", "quantity": 0.05, "price": 100_000.0, "fee": 0.5}
    activity = [
        {"action": "open", "account": 4, "owner": 1}, moved("deposit", 4, 5.0),
        moved("transfer", 1, 30.0, to_account=4), moved("withdraw", 4, 32.5),
        {"action": "fill", "account": 3, **traded}, moved("deposit", 2, 1.0),
    ]  # fmt: skip
    for number, action in enumerate(activity):
        marks = dict(zip(venue.markets.symbol, (100_000.0 + number, 4_000.0, 200.0), strict=False))
        engine.step(rc.Tick(sample.START + pd.Timedelta(number, "s"), marks))
        engine.apply(action)
        if number == 2:
            engine.save(path, complete=False)
    engine.save(path)


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory):
    """The storm with a pool that nothing exhausts."""
    path = tmp_path_factory.mktemp("audit") / "wide"
    stormy_run(path, usdc_lent="200000000")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The storm, the wild runs and one with activity alone, by name."""
    folder = tmp_path_factory.mktemp("audit")
    stormy_run(folder / "storm")
    active_run(folder / "active")
    for name, (policy, drawn) in RUNS.items():
        wild_run(folder / name, policy, **drawn)
    for name, policy in LAST_WAYS.items():
        run_of_last_ways(folder / name, policy)
    return {name: folder / name for name in ("storm", "active", *RUNS, *LAST_WAYS)}


@pytest.fixture(scope="module")
def journals(runs):
    return {name: journal_of(path) for name, path in runs.items()}


def journal_of(path):
    parts = [pd.read_parquet(part) for part in sorted((path / "journal").iterdir())]
    return pd.concat(parts, ignore_index=True).astype({"event": object, "reason": object})


def put(path, journal):
    """Put another journal in the place of a run's, in the first part; the digests fit: only what it says can tell."""
    first, *others = sorted((path / "journal").iterdir())
    journal.to_parquet(first, index=False)
    for part in others:
        journal.iloc[:0].to_parquet(part, index=False)
    return seal(path)


@pytest.fixture
def copied(runs, tmp_path):
    """A way to copy a run, to alter it."""

    def copy(name):
        return shutil.copytree(runs[name], tmp_path / name)

    return copy


@pytest.fixture
def altered(copied):
    """A way to put another journal in a copy of a run; returns the path of the copy."""
    copies = {}

    def with_journal(name, journal):
        if name not in copies:
            copies[name] = copied(name)
        return put(copies[name], journal)

    return with_journal


def rows_of(journals, event, reason, of=None, *, first=False):
    """The shortest run with rows of an event and a reason, or the one where they come first, and their numbers.

    Of a ``debt``, or of what is ``held``, where the backstop takes over assets; else those that name a market or asset.
    """
    rows = {}
    for name, journal in journals.items():
        mine = (journal["event"] == event) & (journal["reason"] == reason)
        if event == "backstop":
            sign = {None: 0, "debt": 1, "held": -1}[of]
            mine &= np.sign(journal["quanta"]) == sign
        elif of is not None:
            mine &= journal[of] >= 0
        rows[name] = np.flatnonzero(mine)
    there = [name for name in rows if len(rows[name])]
    name = min(there, key=lambda name: rows[name][0] if first else len(journals[name]))
    return name, rows[name]


def broken(report):
    return set(report.checks.loc[report.checks["breaches"] > 0, "rule"])


@pytest.mark.parametrize("name", ["storm", "active", *RUNS, *LAST_WAYS])
def test_an_honest_run_passes(runs, name):
    report = audit(runs[name])
    assert report.ok, report.breaches
    assert report.breaches.empty
    assert repr(report) == f"AuditReport(every rule was kept in {report.checks['checked'].sum():,} checks)"


def test_everything_happens_and_every_rule_is_checked(runs, journals):
    found = {kind for journal in journals.values() for kind in zip(journal["event"], journal["reason"], strict=True)}
    assert found >= set(KINDS)
    checked = sum(audit(path).checks["checked"].to_numpy() for path in runs.values())
    assert (checked > 0).all()


def test_nobody_borrows_on_nothing_to_pay_an_old_claim(runs, journals):
    """Who owes what the fund did not pay is passed by at later instants; so is who began like that."""
    journal, ids = journals["queue"], pd.read_parquet(runs["queue"] / "start" / "accounts.parquet")["account"]
    last = journal.loc[journal["event"] == "realize", "tick"].max()
    lost = journal[(journal["event"] == "shortfall") & (journal["tick"] < last)]
    assert len(lost)
    for tick, account in zip(lost["tick"], lost["account"], strict=True):
        assert not len(journal[(journal["tick"] > tick) & (journal["account"] == account)])
    first = len(ids) - 4
    paid = journal[journal["account"] >= first].groupby("account")["unsettled"].sum().to_dict()
    assert paid == {first: 30_000_000, first + 1: 20_000_000, first + 2: 5_000_000}


def test_what_accounts_owe_is_paid_back_in_every_way(journals):
    """By lends redeemed, by a borrow (its entry interest tells) and by collateral sold."""
    ways = set()
    for journal in journals.values():
        settled = journal[journal["reason"].isin(["settlement", "entry"])]
        paid_back = settled.groupby(["tick", "account"])["unsettled"].transform("sum") > 0
        ways |= set(settled.loc[paid_back, "event"])
    assert {"redeem", "interest", "convert", "unsettle"} <= ways


@pytest.mark.parametrize(
    ("event", "reason", "of"),
    [(event, reason, None) for event, reason in dict(reversed(KINDS)).items()]
    + [
        ("redeem", "settlement", None),
        ("convert", "settlement", None),
        ("convert", "close_out", None),
        ("interest", "entry", None),
        ("skip", "cooldown", None),
        ("expire", "conversion", None),
        ("expire", "conversion_limit", None),
        ("backstop", "escalated", None),
        ("backstop", "below_auto_close", "debt"),
        ("adl", "full_utilization", None),
        ("shortfall", "unsettled", None),
        ("backstop", "mmr", None),
        ("adl", "fund_below", None),
        ("harm", "to_backstop", None),
        ("unfilled", "full_utilization", None),
        ("unfilled", "no_collateral", None),
    ],
)
def test_one_altered_number_fails(altered, journals, event, reason, of):
    """Every whole-number column of a row of each kind, one at a time."""
    name, rows = rows_of(journals, event, reason, of)
    row = int(rows[len(rows) // 2])
    for column in WHOLE:
        spoiled = journals[name].copy()
        spoiled.loc[row, column] += 1
        assert finds(altered(name, spoiled)), f"{event}.{column} of row {row}"


@pytest.mark.parametrize(("event", "reason"), KINDS)
def test_one_altered_word_or_figure_fails(altered, journals, event, reason):
    name, rows = rows_of(journals, event, reason, first=True)
    journal, row = journals[name], int(rows[0])
    words = EVENTS[event].reasons.split()
    others = [("reason", words[words.index(reason) - 1])] if len(words) > 1 else []
    for column, word in [*others, ("reason", "mmr" if reason != "mmr" else "debt"), ("event", "skip")]:
        if word != journal.loc[row, column]:
            spoiled = journal.copy()
            spoiled.loc[row, column] = word
            assert finds(altered(name, spoiled)), f"{column} {word} of row {row}"
    for column in ("mmr_before", "mmr_after", "price"):
        spoiled = journal.copy()
        spoiled.loc[row, column] = 2 * min(np.nan_to_num(journal.loc[row, column]), 1e6) + 1
        assert finds(altered(name, spoiled)), column


@pytest.mark.parametrize(("event", "reason"), KINDS)
def test_a_row_left_out_told_twice_or_out_of_order_fails(altered, journals, event, reason):
    name, rows = rows_of(journals, event, reason)
    journal, row = journals[name], int(rows[0])
    assert not audit(altered(name, journal.drop(index=row))).ok  # to its end
    name, rows = rows_of(journals, event, reason, first=True)
    journal, row = journals[name], int(rows[0])
    again = pd.concat([journal.iloc[: row + 1], journal.iloc[row:]], ignore_index=True)
    assert finds(altered(name, again))
    swapped = journal.iloc[[*range(row), row + 1, row, *range(row + 2, len(journal))]].reset_index(drop=True)
    assert finds(altered(name, swapped))


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
def test_an_accrual_that_is_a_quantum_off_is_found_by_its_rule(altered, journals, event, reason, changes):
    """The row is well formed: only what is due tells."""
    journal = journals["storm"]
    row = int(np.flatnonzero((journal["event"] == event) & (journal["reason"] == reason))[-1])
    spoiled = journal.copy()
    for column, change in changes.items():
        spoiled.loc[row, column] += change
    breaches = audit(altered("storm", spoiled)).breaches
    assert ((breaches["rule"] == "accruals") & (breaches["row"] == row)).any()
    assert not (breaches["rule"] == "rows").any()


@pytest.mark.parametrize("event", ["funding", "interest", "realize", "unsettle"])
def test_a_missing_kind_of_accrual_is_found(altered, journals, event):
    """All rows of a kind left out: not the sums alone tell."""
    left = journals["storm"][journals["storm"]["event"] != event]
    assert finds(altered("storm", left), "accruals")


@pytest.mark.parametrize(
    ("event", "reason", "changes", "rule", "of"),
    [
        (*row, None)
        for row in (
            ("convert", "debt", {"cash": 1, "counter_cash": -1}, "repay"),
            ("convert", "debt", {"fee": 1}, "repay"),
            ("redeem", "debt", {"quanta": -1, "lent": 1}, "repay"),
            ("expire", "conversion", {"requested": 1}, "repay"),
            ("book", "full", {"cash": 1, "counter_cash": -1}, "book"),
            ("book", "full", {"requested": 1}, "book"),
            ("book", "slippage", {"lots": 1}, "book"),
            ("book", "full", {"fee": 1}, "cost"),
            ("expire", "no_book", {"requested": 1}, "book"),
            ("backstop", "escalated", {"counterparty": -1}, "touched"),
            ("backstop", "below_auto_close", {"fund": 1, "counter_cash": -1}, "stages"),
            ("adl", "backstop_exhausted", {"requested": 1}, "stages"),
            ("adl", "backstop_exhausted", {"lots": 1}, "touched"),
            ("adl", "full_utilization", {"requested": 1}, "stages"),
            ("adl", "full_utilization", {"cash": 1, "counter_cash": -1}, "touched"),
            ("adl", "full_utilization", {"lent": 1}, "touched"),
            ("unfilled", "no_book", {"requested": 1}, "stages"),
            ("unfilled", "no_collateral", {"requested": 1}, "stages"),
            ("unfilled", "withheld", {"requested": 1}, "stages"),
            ("unfilled", "full_utilization", {"requested": -1}, "stages"),
            ("harm", "to_backstop", {"requested": 1}, "repay"),
            ("market_close", "full", {"cash": 1, "counter_cash": -1}, "stages"),
            ("market_close", "full", {"requested": 1}, "stages"),
            ("market_close", "depth", {"lots": 1}, "stages"),
            ("market_close", "impact", {"lots": 1}, "bands"),
            ("market_close", "full", {"fee": 1}, "cost"),
            ("backstop", "mmr", {"fund": 1, "counter_cash": -1}, "stages"),
            ("adl", "fund_below", {"lots": 1}, "touched"),
            ("socialize", "equity", {"cash": 1, "counter_cash": -1}, "touched"),
            ("socialize", "open_interest", {"cash": 1, "counter_cash": -1}, "touched"),
            ("unsettle", "close_out", {"cash": 1, "unsettled": -1}, "stages"),
            ("shortfall", "unsettled", {"cash": 1, "unsettled": -1}, "stages"),
        )
    ]
    + [
        ("harm", "fee_waived", {"requested": 1}, "book", "market"),
        ("harm", "fee_waived", {"requested": 1}, "repay", "asset"),
    ]
    + [
        ("backstop", "below_auto_close", changes, rule, of)
        for of in ("debt", "held")
        for changes, rule in (
            ({"cash": 1, "counter_cash": -1}, "stages"),
            ({"fund": 1, "counter_cash": -1}, "stages"),
            ({"requested": 1}, "stages"),
            ({"quanta": 1}, "touched"),
            ({"counterparty": -1}, "touched"),
        )
    ],
)
def test_a_row_of_a_phase_that_is_off_is_found_by_its_rule(altered, journals, event, reason, changes, rule, of):
    name, rows = rows_of(journals, event, reason, of)
    spoiled = journals[name].copy()
    for column, change in changes.items():
        spoiled.loc[int(rows[-1]), column] += change
    assert finds(altered(name, spoiled), rule, at=rows[-1])


@pytest.mark.parametrize("reason", ["impact", "mean_mark", "mean_premium", "limit", "slippage", "depth", "conversion"])
def test_a_wrong_reason_is_found_where_a_fill_stops(altered, journals, reason):
    """Every other reason in the place of the one that binds."""
    name, rows = rows_of(journals, "expire", reason)
    asset = int(journals[name].loc[rows[0], "asset"])
    for other in EVENTS["expire"].reasons.split():
        if other != reason:
            spoiled = journals[name].copy()
            spoiled.loc[int(rows[0]), "reason"] = other
            assert finds(altered(name, spoiled), "bands", "repay" if asset >= 0 else "book"), other


# -- a run that was made by other rules than its folder says


def policy(figure, value):
    def change(source):
        assert source["policy"][figure] != value
        source["policy"][figure] = value

    return change


def backed(figure, value):
    """Another figure of both providers."""

    def change(source):
        for row in source["backstop"]:
            row[figure] = value

    return change


def filtered(market, figure, value):
    def change(source):
        price = source["markets"][market]["filters"]["price"]
        *outer, name = figure.split(".")
        price = price[outer[0]] if outer else price
        assert price[name] != value
        price[name] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("waive", policy("slice_fraction", "0.31"), "book"),
        ("waive", policy("slices_per_tick", 3), "order"),
        ("waive", policy("slices_per_tick", 1), "order"),
        ("waive", policy("min_slice_notional", 201), "book"),
        ("waive", policy("liquidation_fee", "0.0101"), "cost"),
        ("waive", policy("slice_probability", "0.45"), "throttle"),
        ("waive", policy("slice_probability", "0.55"), "order"),
        ("waive", policy("waived_fee_share", "0.45"), "cost"),
        ("waive", policy("waived_fee_share", "0.55"), "cost"),
        ("waive", policy("target_mmr", "0.99"), "book"),
        ("waive", policy("harmful_slice", "send"), "book"),
        ("waive", policy("harmful_slice", "backstop"), "book"),
        ("waive", policy("position_order", "largest"), "order"),
        ("waive", policy("position_order", "pro_rata"), "order"),
        ("waive", policy("account_order", "random"), "selection"),
        ("waive", policy("acmf_divisor", "2.1"), "order"),
        ("caps", policy("mark_index_threshold", "0.055"), "guards"),
        ("waive", policy("stale_after", 61), "guards"),
        ("waive", policy("stale_after", 55), "guards"),
        ("waive", filtered(0, "minImpactMultiplier", "0.9995"), "bands"),
        ("waive", filtered(0, "meanMarkPriceBand.minMultiplier", "0.994"), "bands"),
        ("waive", filtered(1, "minMultiplier", "0.9975"), "bands"),
        ("waive", filtered(2, "meanPremiumBand.tolerancePct", "0.0005"), "bands"),
        ("waive", filtered(1, "minPriceUpdateMultiplier", "0.9851"), "guards"),
        ("waive", filtered(2, "minPriceUpdateMultiplier", "0.9901"), "guards"),
        ("caps", policy("slice_cooldown", "8"), "throttle"),
        ("caps", policy("slice_cooldown", "0.3"), "book"),
        ("caps", policy("market_cap", 2600), "book"),
        ("caps", policy("account_cap", 1400), "book"),
        ("passes", policy("account_cap_interval", 1), "book"),
        ("caps", policy("account_order", "pro_rata"), "order"),
        ("thin", policy("slippage_limit", "4.8"), "book"),
        ("thin", policy("depth_share", "0.68"), "book"),
        ("thin", policy("refill_half_life", "4.1"), "book"),
        ("passes", policy("account_order", "mmr"), "order"),
        ("passes", policy("position_order", "largest"), "order"),
        ("passes", policy("account_cap", 2900), "book"),
        ("random", policy("account_order", "mmr"), "selection"),
        ("random", policy("conversion_limit", 890), "repay"),
        ("random", policy("slippage_limit", "7.2"), "book"),
        ("backstop", policy("harmful_slice", "send"), "book"),
        ("backstop", policy("realize_interval", 10), "accruals"),
        ("backstop", policy("backstop_fund_share", "0.33"), "stages"),
        ("largest", policy("account_order", "mmr"), "order"),
        ("largest", policy("depth_share", "0.31"), "book"),
        ("largest", policy("conversion_slippage", "0.0045"), "repay"),
        ("random", filtered(4, "minMultiplier", "0.9999"), "repay"),
        ("queue", policy("adl_policy", "leverage"), "touched"),
        ("queue", policy("adl_policy", "bankruptcy_price"), "touched"),
        ("queue", policy("adl_price", "0.51"), "stages"),
        ("queue", policy("adl_cap", "0.51"), "touched"),
        ("queue", policy("adl_counterparties", "profitable"), "touched"),
        ("queue", policy("backstop_below_zero", "mark"), "stages"),
        ("queue", policy("zero_price_band", "0.021"), "stages"),
        ("queue", policy("shortfall", "non_recourse"), "stages"),
        ("queue", policy("backstop_fund_share", "0.33"), "stages"),
        ("queue", backed("assets", ["ETH"]), "touched"),
        ("queue", backed("markets", ["ETH_USDC_PERP"]), "touched"),
        ("queue", backed("max_notional", "1000"), "touched"),
        ("shared", policy("adl_policy", "rap_power"), "touched"),
        ("shared", policy("adl_policy", "size"), "touched"),
        ("shared", policy("adl_price", "0.34"), "stages"),
        ("shared", policy("adl_cap", "0.19"), "touched"),
        ("shared", policy("counterparty_mmr", "0.45"), "touched"),
        ("shared", policy("adl_counterparties", "opposing"), "touched"),
        ("shared", policy("shortfall", "open_interest"), "touched"),
        ("shared", policy("shortfall", "unsettled"), "order"),
        ("others", policy("adl_policy", "pro_rata"), "touched"),
        ("others", policy("shortfall", "equity"), "touched"),
        ("first", policy("stages", ["book", "backstop", "adl"]), "order"),
        ("first", policy("stages", ["adl", "backstop", "book"]), "order"),
        ("first", policy("adl_when", "backstop_exhausted"), "stages"),
        ("first", policy("adl_fund_on", 1), "touched"),
        ("escalated", policy("stages", ["book"]), "touched"),
        ("escalated", policy("harmful_slice", "waive"), "repay"),
        ("steep", policy("conversion_slippage", "0.05"), "repay"),
        ("steep", policy("min_slice_notional", 90), "repay"),
        ("steep", policy("liquidation_fee", "0.011"), "repay"),
        ("book", policy("liquidation_fee", "0.011"), "cost"),
    ],
)
def test_a_run_by_other_rules_is_found(copied, name, change, rule):
    """The journal is all of a piece: only the rules tell."""
    path = copied(name)
    source = json.loads((path / "venue.json").read_text())
    change(source)
    (path / "venue.json").write_text(json.dumps(source))
    assert finds(seal(path), rule)


def test_providers_are_held_to_their_own_initial_margin(copied):
    """By another margin function of a market, and by another leverage limit of their own, they would take less."""
    path = copied("others")
    kept = (path / "venue.json").read_text()
    source = json.loads(kept)
    source["markets"][0]["imfFunction"]["base"] = "0.15"
    (path / "venue.json").write_text(json.dumps(source))
    assert finds(seal(path), "touched")
    (path / "venue.json").write_text(kept)
    accounts = pd.read_parquet(path / "start" / "accounts.parquet")
    accounts.loc[accounts["account"] > HARD["count"], "leverage_limit"] = 2.0
    accounts.to_parquet(path / "start" / "accounts.parquet", index=False)
    assert finds(seal(path), "touched")


@pytest.mark.parametrize(("number", "name"), list(enumerate(POLICIES)))
def test_every_adl_policy_is_followed(tmp_path, number, name):
    figures = {
        "adl_policy": name, "adl_counterparties": ("opposing", "profitable")[number % 2],
        "adl_price": (0, 1, "0.5")[number % 3], "adl_cap": (1, "0.3")[number % 2],
    }  # fmt: skip
    wild_run(tmp_path, figures, **HARD | {"seed": 2, "count": 40, "ticks": 15})
    assert len(journal_of(tmp_path).query("reason == 'backstop_exhausted'")) > 5
    report = audit(tmp_path)
    assert report.ok, report.breaches
    source = json.loads((tmp_path / "venue.json").read_text())
    source["policy"]["adl_policy"] = {"size": "leverage", "pro_rata": "rap_tail"}.get(name, "size")
    (tmp_path / "venue.json").write_text(json.dumps(source))
    assert finds(seal(tmp_path), "touched", "stages")


def named(path, name):
    source = json.loads((path / "venue.json").read_text())
    source["policy"]["adl_policy"] = name
    (path / "venue.json").write_text(json.dumps(source))


@pytest.mark.parametrize(("name", "splits"), [("queue", False), ("shared", True)])
def test_an_adl_policy_of_ones_own_is_followed_where_its_function_is_given(copied, name, splits):
    path = copied(name)
    rank = POLICIES[RUNS[name][0]["adl_policy"]].rank

    def house(figures):
        return rank(Counterparties(**vars(figures)))

    named(path, "mine")
    breaches = audit(seal(path)).breaches
    assert breaches["rule"].tolist() == ["touched"]
    assert "cannot be checked" in breaches["what"].iloc[0]
    assert audit(path, adl_policies={"mine": (house, splits)}).ok
    for function, together in ((lambda f: -house(f), splits), (house, not splits)):
        assert finds(path, "touched", adl_policies={"mine": (function, together)})
    with pytest.raises(RunError, match="size"):
        audit(path, adl_policies={"mine": (house, splits), "size": (house, splits)})


def test_what_is_no_counterparty_is_found_whatever_the_policy(copied, journals):
    """A position of the same side, one that is selected, and more than there is."""
    path, journal = copied("shared"), journals["shared"]
    named(path, "mine")
    rows = np.flatnonzero(journal["reason"] == "backstop_exhausted")
    for column, value in (("counterparty", int(journal.loc[rows[0], "account"])), ("lots", 10**6)):
        spoiled = journal.copy()
        spoiled.loc[rows[0], column] = value
        assert len(audit(put(path, spoiled)).breaches.query("rule == 'touched'")) > 1


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("target_mmr", "1.01"),
        ("adl_price", "1.01"),
        ("adl_price", "-0.01"),
        ("adl_cap", 0),
        ("adl_cap", "1.01"),
        ("zero_price_band", "1.01"),
        ("counterparty_mmr", 0),
        ("adl_counterparties", "winners"),
        ("shortfall", "fund"),
        ("backstop_below_zero", "index"),
    ],
)
def test_a_policy_that_there_is_not_is_refused(copied, figure, value):
    path = copied("queue")
    source = json.loads((path / "venue.json").read_text())
    policy(figure, value)(source)
    (path / "venue.json").write_text(json.dumps(source))
    with pytest.raises(RunError, match=figure):
        audit(seal(path))


@pytest.mark.parametrize(("name", "rule"), [("waive", "throttle"), ("random", "selection")])
def test_a_run_by_another_seed_is_found(copied, name, rule):
    path = copied(name)
    known = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(known | {"seed": known["seed"] + 1}))
    assert finds(seal(path), rule)


# -- altered inputs and states


@pytest.mark.parametrize(
    ("column", "rule"),
    [("mark", "guards"), ("index", "guards"), ("given_mark", "guards"), ("given_index", "guards"), ("time", "rows")],
)
def test_an_altered_price_update_is_found(copied, column, rule):
    path = copied("waive")
    file = min((path / "ticks").iterdir())
    ticks = pd.read_parquet(file)
    for row in np.flatnonzero(ticks[column].notna())[9::14].tolist():
        spoiled = ticks.copy()
        value = ticks.loc[row, column]
        spoiled.loc[row, column] = value + 1 if column == "time" else np.nextafter(value, np.inf)
        if column == "time":
            spoiled.loc[ticks["tick"] == ticks.loc[row, "tick"], "time"] = value + 1
        spoiled.to_parquet(file, index=False)
        assert finds(seal(path), rule), row


def test_a_price_update_that_the_guards_refuse_is_found(copied, journals):
    """A book made old, a book made crossed, an index a half higher, and a mark that was not given."""
    path, journal = copied("waive"), journals["waive"]
    file = min((path / "books").iterdir())
    books = pd.read_parquet(file)
    refused = (
        journal.loc[journal["reason"].isin(["stale_book", "crossed_book"]), ["tick", "market"]].to_numpy().tolist()
    )
    both = books.groupby(["tick", "market"])["side"].nunique()
    tick, market = next(
        (tick, market) for tick, market in both[both == 2].index
        if tick > 3 and market < 3 and [tick, market] not in refused
    )  # fmt: skip
    mine = (books["tick"] == tick) & (books["market"] == market)
    for column, rows, change in (("book_time", mine, -61 * 10**9), ("price", mine & (books["side"] == 1), 10**6)):
        spoiled = books.copy()
        spoiled.loc[rows, column] += change
        spoiled.to_parquet(file, index=False)
        assert finds(seal(path), "guards"), column
    books.to_parquet(file, index=False)
    file = min((path / "ticks").iterdir())
    ticks = pd.read_parquet(file)
    for column, change in (("given_index", 1.5), ("given_mark", np.nan)):
        spoiled = ticks.copy()
        spoiled.loc[int(np.flatnonzero(ticks[column].notna())[20]), column] *= change
        spoiled.to_parquet(file, index=False)
        assert finds(seal(path), "guards"), column


@pytest.mark.parametrize(("name", "count"), [("caps", 40), ("thin", 24), ("events", 24)])
def test_an_altered_state_is_found(tmp_path, name, count):
    """Every column of every table, one value at a time; a row left out, a row told twice."""
    path, (figures, drawn) = tmp_path / name, RUNS[name]
    wild_run(path, figures, **drawn | {"count": count, "ticks": 10})
    last = max((path / "state").iterdir())
    for file in sorted(last.glob("*.parquet")):
        table = pd.read_parquet(file)
        if not len(table):  # then a row is one too many
            one = {
                column: [0 if kind.kind in "ib" else 1.0] for column, kind in table.dtypes.items() if kind.kind in "ifb"
            }
            words = {column: ["book"] for column in table.columns if column not in one}
            pd.DataFrame(one | words)[table.columns].to_parquet(file, index=False)
            assert finds(seal(path)), file.name
        row, spoiled = len(table) // 2, []
        for column in table.columns if len(table) else ():
            if table[column].dtype.kind in "if":
                value = table.loc[row, column]
                spoiled.append(table.copy())
                other = -value if column == "side" else value + 1  # a side is 1 or -1
                spoiled[-1].loc[row, column] = other if value == value else 1.0
        if len(table):
            spoiled += [table.drop(index=row), pd.concat([table.iloc[:1], table], ignore_index=True)]
        for number, other in enumerate(spoiled):
            other.to_parquet(file, index=False)
            assert finds(seal(path)), (file.name, number)
        table.to_parquet(file, index=False)
    assert audit(seal(path)).ok


def test_every_rule_is_broken_by_something(copied, altered, journals):
    """What the other tests do not name by its rule."""
    journal = journals["storm"]
    first = {event: int(np.flatnonzero(journal["event"] == event)[0]) for event in ("trigger", "backstop", "cancel")}
    found = set()
    for event, column in (("trigger", "mmr_before"), ("backstop", "lots"), ("cancel", "requested")):
        spoiled = journal.copy()
        spoiled.loc[first[event], column] += 1
        found |= broken(audit(altered("storm", spoiled)))
    spoiled = journals["active"].copy()
    spoiled.loc[spoiled["event"] == "withdraw", "quanta"] -= 10**9
    found |= broken(audit(altered("active", spoiled)))
    path = copied("backstop")
    file = min((path / "books").iterdir())
    books = pd.read_parquet(file)
    books.loc[[3, 4]] = books.loc[[4, 3]].to_numpy()
    books.to_parquet(file, index=False)
    found |= broken(audit(seal(path)))
    file = max((path / "state").iterdir()) / "positions.parquet"
    positions = pd.read_parquet(file)
    positions.loc[0, "lots"] += 1
    positions.to_parquet(file, index=False)
    found |= broken(audit(path))
    named = {
        "accruals",
        "guards",
        "throttle",
        "order",
        "repay",
        "book",
        "bands",
        "cost",
        "touched",
        "selection",
        "stages",
    }
    assert found | named == set(RULES)


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


def test_an_exempted_account_is_found(altered, journals):
    """All rows of one account left out, as if nobody had looked at it."""
    journal = journals["storm"]
    account = journal.loc[journal["event"] == "backstop", "account"].iloc[0]
    assert finds(altered("storm", journal[journal["account"] != account]), "selection")


def test_no_run(tmp_path):
    with pytest.raises(RunError):
        audit(tmp_path)
