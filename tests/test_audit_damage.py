"""The audit of runs at the edge of what there is, of damaged folders and of venues that the engine refuses."""

import copy
import json
import random
import shutil
from decimal import Context, localcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import riskcore as rc
from riskcore import sample
from riskcore.audit import RunError, audit
from riskcore.audit.venue import read_venue
from riskcore.record import reader

from . import money_venues
from .small_run import seal
from .wild_runs import spot_row, wild_book

BTC, ETH = "BTC_USDC_PERP", "ETH_USDC_PERP"
START = pd.Timestamp("2025-10-10 20:59:58", tz="UTC")


def venue_source(providers=(), **policy):
    """Two markets with a spot market each, every kind of band and figure, and pools of USDC and BTC."""
    source = sample.venue_source(list(providers))
    btc, eth, _ = source["markets"]
    mean = {"minMultiplier": "0.95", "maxMultiplier": "1.05"}
    btc["filters"]["price"] |= {
        "maxPrice": "1000000", "minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01", "meanMarkPriceBand": mean,
        "meanPremiumBand": {"tolerancePct": "0.02"}, "minPriceUpdateMultiplier": "0.9",
        "maxPriceUpdateMultiplier": "1.1", "minMultiplier": "0.9", "maxMultiplier": "1.1",
    }  # fmt: skip
    btc["filters"]["quantity"]["minQuantity"] = "0.0001"
    btc |= {"fundingInterval": 3000, "fundingRateUpperBound": "10", "fundingRateLowerBound": "-10"}
    btc["imfFunction"] = {
        "type": "tiers", "whole": True, "brackets": [{"from": 0, "rate": "0.1"}, {"from": "1e5", "rate": "0.2"}],
    }  # fmt: skip
    btc["mmfFunction"] = {"type": "open_interest", "base": "0.02", "lower": "10", "upper": "1e9"}
    eth["mmfFunction"] = {
        "type": "tiers", "brackets": [{"from": 0, "rate": "0.0125"}, {"from": "5000", "rate": "0.015"}],
    }  # fmt: skip
    pool = {
        "symbol": "USDC", "state": "Open", "lentQuantity": "100000", "borrowedQuantity": "50000", "fee": "0.1",
        "optimalUtilization": "0.8", "maxUtilization": "0.95", "throttleUtilizationThreshold": "0.9",
        "throttleUpdateFraction": "0.1", "openBorrowLendLimit": "900000",
    }  # fmt: skip
    return source | {
        "markets": [btc, eth, spot_row("BTC", "0.1", "0.00001", ("0.99", "1.01"), (None, None))],
        "borrow_lend": [pool, {"symbol": "BTC", "lentQuantity": "5"}],
        "policy": {"fund": 100, "slices_per_tick": 2, "slice_cooldown": 2, "account_cap": 3000, "refill_half_life": 3,
                   "realize_interval": 4, "market_cap": 50_000, "slippage_limit": 50, "conversion_limit": 900,
                   "liquidation_interval": None} | policy,
    }  # fmt: skip


def accounts(venue, positions, balances, settings=None):
    return rc.Accounts.from_frames(
        venue,
        pd.DataFrame(positions, columns=["account", "market", "quantity", "entry_price"]),
        pd.DataFrame(balances, columns=["account", "asset", "quantity", "lent"]),
        settings=settings,
    )


def full_run(path, seed, text):
    """Ten accounts that fall through every stage but ADL in nine ticks; two parts; one is another's owner."""
    rng = np.random.default_rng(seed)

    def name(number):
        return f"a{number:02d}" if text else number

    venue = rc.load_venue(venue_source([name(90)]))
    positions, balances = [], [(name(90), "USDC", 20_000.0, 0.0)]
    for number in range(10):
        quantity = (1 if number % 3 else -1) * round(0.05 + 0.03 * number, 3)
        positions += [(name(number), BTC, quantity, 1e5), (name(number), ETH, -np.sign(quantity) * 0.5, 4e3)]
        equity = abs(quantity) * 1e5 * (0.03 + 0.01 * number)
        balances.append((name(number), "USDC", equity if number != 5 else -equity, 10.0 * (number % 2)))
        if number in (5, 6):
            balances.append((name(number), "BTC", round(2.4 * equity / 1e5, 6), 0.0))
    owned = pd.DataFrame({"account": [name(1)], "owner": [name(5)]})
    engine = rc.Engine(accounts(venue, positions, balances, owned), venue, 16)
    for number in range(9):
        fall = 1 - 0.016 * number
        books = {market: wild_book(price * fall, tick, 4e4 if number % 3 else 300.0, rng)
                 for market, price, tick in ((BTC, 1e5, 0.1), (ETH, 4e3, 0.01), ("BTC_USDC", 1e5, 0.1))}  # fmt: skip
        marks = {BTC: 1e5 * fall, ETH: 4e3 * fall}
        index = {market: mark * 1.001 for market, mark in marks.items()} if number % 2 else None
        moment = START + pd.Timedelta(number + (3700 if number > 6 else 0), "s")
        engine.step(rc.Tick(moment, marks, books, index, last_prices={BTC: 1e5 * fall}))
        if number == 4:
            engine.save(path, complete=False)
    engine.save(path)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    full_run(folder / "one", 3, text=False)
    full_run(folder / "other", 5, text=True)
    return folder


@pytest.fixture
def damaged(full, tmp_path):
    """A way to damage a copy of a run; returns what the audit makes of it: a report, or the line that refuses it."""

    def look(damage, *, sealed):
        path = tmp_path / "run"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(full / "one", path)
        damage(path)
        if sealed:
            seal(path)
        return audit_or_line(path)

    return look


def tables(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*.parquet"))


# -- honest runs


def test_the_runs_that_are_damaged_are_honest_and_full(full):
    for name in ("one", "other"):
        report = audit(full / name)
        assert report.ok, report.breaches
        checked = report.checks.set_index("rule")["checked"]
        assert (checked > 0).all(), checked
        assert checked["files"] == len(tables(full / name)) + 2


def tick(second, price=1e5, **given):
    return rc.Tick(START + pd.Timedelta(second, "s"), {BTC: price, ETH: price / 25}, **given)


LONG = [(1, BTC, 0.5, 1e5)]
MONEY = [(1, "USDC", 3000.0, 0.0)]
OWING = [(1, "USDC", -900.0, 0.0), (1, "BTC", 0.01, 0.0)]
CROSSED = {BTC: {"bids": [(1e5, 1.0)], "asks": [(1e5 - 1, 1.0)]}}


@pytest.mark.parametrize(
    ("positions", "balances", "ticks", "saves"),
    [
        (LONG, MONEY, [], [0]),
        (LONG, MONEY, [tick(1)], [0, 1]),
        (LONG, MONEY, [tick(1), tick(2, 9e4)], [0, 0, 1, 2, 2]),
        (LONG, MONEY, [tick(1), tick(2, 9.4e4), tick(3, 8e4)], [3]),
        (LONG, MONEY, [tick(n, 1e5 - 1200 * n, books={BTC: {"bids": [], "asks": []}}) for n in range(6)], [6]),
        ([], MONEY, [tick(1), tick(2)], [2]),
        ([], OWING, [], [0]),
        ([], OWING, [tick(1), tick(2), tick(4000, 8.9e4), tick(9000, 5e4)], [4]),
        ([], [(1, "USDC", 1050.0, 0.0), (1, "BTC", -0.01, 0.0)], [tick(1), tick(4000, 1.1e5)], [2]),
        ([], MONEY, [tick(n, books=CROSSED) for n in range(4)], [4]),
        ([], MONEY, [rc.Tick(START, {}), rc.Tick(START + pd.Timedelta("1h"), {})], [2]),
    ],
    ids=[
        "begun", "begun and gone on", "empty parts", "bankrupt alone", "empty books", "no positions", "begun and owing",
        "borrow of USDC", "borrow of BTC", "guard rows alone", "no prices",
    ],
)  # fmt: skip
@pytest.mark.parametrize("full_policy", [False, True])
def test_an_honest_run_that_is_hardly_one_passes(tmp_path, positions, balances, ticks, saves, full_policy):
    source = venue_source() if full_policy else sample.venue_source([])
    venue = rc.load_venue(source)
    engine = rc.Engine(accounts(venue, positions, balances), venue)
    for number, one in enumerate([None, *ticks]):
        if one is not None:
            engine.step(one)
        for _ in range(saves.count(number)):
            engine.save(tmp_path / "run", complete=False)
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches


def test_a_change_of_more_than_2_60_quanta_is_one_like_others(tmp_path):
    """Two units of an asset with a quantum of 1e-18 are sold to repay a debt."""
    gold = {
        "symbol": "XAU",
        "quantum": "0.000000000000000001",
        "haircutFunction": {"weight": "1", "kind": {"type": "identity"}},
    }
    source = sample.venue_source([])
    venue = rc.load_venue(source | {"collateral": [*source["collateral"], gold], "policy": {"slice_probability": 1}})
    held = accounts(venue, [], [(1, "USDC", -5500.0, 0.0), (1, "XAU", 1.99, 0.0)])
    engine = rc.Engine(held, venue)
    for number, price in enumerate((3000.0, 2790.0, 2700.0)):
        engine.step(tick(number, asset_prices={"XAU": price}))
    engine.save(tmp_path / "run")
    assert np.abs(reader.read_journal(tmp_path / "run")["quanta"]).max() > 2**60
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches


def test_the_first_spot_market_of_an_asset_is_the_one_that_has_a_book(tmp_path):
    source = venue_source(slice_probability=1)
    rows = source["markets"]
    second = copy.deepcopy(rows[-1]) | {"symbol": "BTC_USDC_2"}
    source["markets"] = [*rows, second, spot_row("ETH", "0.01", "0.001", (None, None), (None, None))]
    venue = rc.load_venue(source)
    engine = rc.Engine(accounts(venue, [], [(1, "USDC", -900.0, 0.0), (1, "ETH", 0.3, 0.0)]), venue)
    for number in range(8):
        price = 1e5 - 2500 * number
        engine.step(tick(number, price, books={"ETH_USDC": {"bids": [(price / 25 - 1, 1.0)], "asks": []}}))
    engine.save(tmp_path / "run")
    assert len(reader.read_journal(tmp_path / "run"))
    report = audit(tmp_path / "run")
    assert report.ok, report.breaches


# -- damaged folders


def raw_damages(rng):
    """Ways to damage a file, whatever it holds."""

    def flip(content):
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]

    return {
        "missing": None, "empty": lambda content: b"", "half": lambda content: content[: len(content) // 2],
        "flip": flip, "noise": lambda content: rng.randbytes(200), "deep": lambda content: b"[" * 10**5,
        "longer": lambda content: content + b" ",
    }  # fmt: skip


def test_a_file_that_is_not_the_one_written_is_found(full, damaged):
    damages = list(raw_damages(random.Random(1)).items())
    for number, name in enumerate(["run.json", "venue.json", *tables(full / "one")]):
        for kind, change in damages if number < 2 else damages[number % 3 :: 3]:

            def damage(path, name=name, change=change):
                content = (path / name).read_bytes()
                (path / name).unlink()
                if change is not None:
                    (path / name).write_bytes(change(content))

            found = damaged(damage, sealed=False)
            if name == "run.json" and kind == "longer":
                assert found.ok  # the same JSON
            elif isinstance(found, str):
                assert name in found, (name, kind, found)
            else:
                assert "files" in set(found.breaches["rule"]), (name, kind)
                assert name in found.breaches["what"].iloc[0]


def test_a_file_of_another_run_is_found(full, damaged):
    for name in ["venue.json", *tables(full / "one")][::2]:
        found = damaged(lambda path, name=name: shutil.copy(full / "other" / name, path / name), sealed=False)
        same = (full / "one" / name).read_bytes() == (full / "other" / name).read_bytes()
        assert isinstance(found, str) or found.ok is same, name


def altered(name, change):
    """Damage a table by a function of it."""

    def damage(path):
        table = change(pq.read_table(path / name))
        pq.write_table(table, path / name)

    return damage


def put(table, column, values):
    return table.set_column(table.column_names.index(column), column, values)


def test_a_table_of_another_shape_is_refused_whatever_its_digest(full, damaged):
    for number, name in enumerate(tables(full / "one")):
        table = pq.read_table(full / "one" / name)
        column = table.column_names[len(name) % table.num_columns]
        others = [other for other in table.column_names if other != column]
        text = pa.types.is_string(table.schema.field(column).type)
        text |= column in ("account", "owner") and not table.num_rows  # ids of no rows may be text
        shapes = {
            "dropped": lambda t, c=column: t.drop_columns([c]),
            "renamed": lambda t, c=column: t.rename_columns([n + "x" if n == c else n for n in t.column_names]),
            "twice": lambda t, c=column: t.append_column(c, t.column(c)),
            "one more": lambda t, c=column: t.append_column("more", t.column(c)),
            "float32": lambda t, c=column: put(t, c, pa.nulls(t.num_rows, pa.float32())),
            "text": lambda t, c=column, text=text: put(
                t, c, pa.array(["1"] * t.num_rows, pa.binary() if text else None)
            ),
            "none": lambda t, c=column: put(t, c, pa.nulls(t.num_rows, pa.timestamp("ns"))),
        }
        for kind, change in list(shapes.items())[number % 3 :: 3]:
            if kind == "dropped" and not others:
                continue
            found = damaged(altered(name, change), sealed=True)
            assert isinstance(found, str), (name, kind, found)
            assert name in found, (name, kind, found)


def test_a_value_that_no_run_has_is_found_whatever_its_digest(full, damaged):
    """One value of every column, and rows that are left out, told twice or out of order; of one part of two."""
    for name in [name for name in tables(full / "one") if not name.endswith("/00001.parquet")]:
        table = pq.read_table(full / "one" / name)
        row, changes = table.num_rows // 2, {}
        for column in table.column_names if table.num_rows else ():
            kind = table.schema.field(column).type
            odd = {pa.int64(): (2**63 - 1, -(2**63)), pa.float64(): (-2.0, -np.inf)}.get(kind, ())
            for value in odd[len(changes) % 2 :][:1]:
                values = table.column(column).to_pylist()
                values[row] = value
                changes[column, value] = lambda t, c=column, v=values, k=kind: put(t, c, pa.array(v, k))
        if table.num_rows and not name.startswith(("books", "assets", "state/00001/samples", "state/00001/ledger")):
            # the other tables have no row that nothing depends on, and an order
            changes["left out"] = lambda t, r=row: pa.concat_tables([t.slice(0, r), t.slice(r + 1)])
            changes["twice"] = lambda t, r=row: pa.concat_tables([t.slice(0, r + 1), t.slice(r)])
            if not table.take(list(range(table.num_rows))[::-1]).equals(table):
                changes["reversed"] = lambda t: t.take(list(range(t.num_rows))[::-1])
        for kind, change in changes.items():
            found = damaged(altered(name, change), sealed=True)
            assert isinstance(found, str) or not found.ok, (name, kind)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("opened/00000.parquet", lambda table: table.drop_columns(["owner"])),
        ("start/accounts.parquet", lambda table: put(table, "owner", pa.array([0, 5, 2, 3, 4, 99, 6, 7, 8, 9, 90]))),
    ],
)
def test_the_engine_refuses_such_accounts_too(full, tmp_path, name, change):
    """A table of another shape though nobody was opened; an owner that is an account of another owner."""
    path = shutil.copytree(full / "one", tmp_path / "run")
    assert reader.read_state(path).accounts.owners.tolist()[:3] == [0, 5, 2]
    altered(name, change)(path)
    seal(path)
    with pytest.raises(rc.RiskDataError, match=name):
        reader.read_state(path)
    assert isinstance(audit_or_line(path), str)


def audit_or_line(path):
    """What the audit makes of a run: a report, or the line that refuses it."""
    try:
        return audit(path)
    except RunError as error:
        return str(error)


WRONG = [None, True, -1, 2**62, 10**400, "x", [], {}, ["x"], {"a": None}, 1.5]


def test_what_run_json_may_not_say_is_refused_whatever_its_digest(full, damaged):
    known = json.loads((full / "one" / "run.json").read_text())
    for key in known.keys() - {"digest"}:
        for value in WRONG:
            if type(value) is type(known[key]) and key in ("complete", "inputs", "versions", "seed"):
                continue

            def damage(path, key=key, value=value):
                (path / "run.json").write_text(json.dumps(known | {key: value}))

            if key == "files" and not isinstance(value, dict):
                assert isinstance(damaged(damage, sealed=False), str)
                continue
            found = damaged(damage, sealed=True)
            assert isinstance(found, str) or not found.ok, (key, value)
    for key in known:
        rest = {name: value for name, value in known.items() if name != key}
        found = damaged(lambda path, rest=rest: (path / "run.json").write_text(json.dumps(rest)), sealed=False)
        assert isinstance(found, str), key
        assert key in found


# -- venues


def places(value, path=()):
    """Paths of everything in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


MISSING = object()
FIGURES = [
    MISSING, None, True, -1, 0, 2, "-0.0001", "1.0001", "1/3", "0.5", "1e-19", "1e19", "nan", "inf", "1/0", "x", "", [],
    {}, "10000", "10000.1", "0.99", "0.995", "100.5", "9" * 5000,
]  # fmt: skip
LARGE = [3600, 3601, 86_400, 86_401, 10**9, 10**12, 10**12 + 1, 31_536_000_000, 31_536_000_001]


def verdict(source):
    """What the engine and the audit say to a venue, None if nothing."""
    found = []
    for read, refusal in (
        (lambda: rc.load_venue(copy.deepcopy(source), any_adl_policy=True), rc.RiskDataError),
        (lambda: read_venue(copy.deepcopy(source), np.array([90]), [0]), RunError),
    ):
        try:
            read()
            found.append(None)
        except refusal as error:
            found.append(str(error))
    return found


def mixed_source():
    """Markets that settle in two assets by their quote, by name and as inverse contracts."""
    source = money_venues.source((90,))
    btc, eth, inverse, *spots = source["markets"]
    named = copy.deepcopy(btc) | {"symbol": "BTC_USDT_PERP", "settle": "USDT", "multiplier": "0.5"}
    return source | {"markets": [btc, eth, inverse, named, *spots]}


@pytest.mark.parametrize(
    ("source", "least"), [(venue_source([90]), 800), (mixed_source(), 600)], ids=["plain", "mixed"]
)
def test_the_audit_refuses_the_venues_that_the_engine_refuses(source, least):
    """Every member of a venue at many values, one at a time."""
    good, refused = json.loads(json.dumps(rc.load_venue(source).source)), 0
    with localcontext(Context(prec=60)):
        assert verdict(good) == [None, None]
        for number, path in enumerate(places(good)):
            whole = path[0] == "policy" or path[-1] == "fundingInterval"
            symbols = ["USDC", "USDT", "BTC", "USD"] if path[-1] in ("settle", "quoteSymbol", "baseSymbol") else []
            kinds = ["PERP", "IPERP", "SPOT", "DATED"] if path[-1] == "marketType" else []
            for value in [*FIGURES[number % 3 :: 3], *(LARGE if whole else []), *symbols, *kinds]:
                source = copy.deepcopy(good)
                parent = source
                for key in path[:-1]:
                    parent = parent[key]
                if value is MISSING:
                    del parent[path[-1]]
                else:
                    parent[path[-1]] = value
                engine, auditor = verdict(source)
                refused += engine is not None
                assert engine is None or auditor is not None, (path, value, engine)
                # the audit alone refuses a policy without defaults, unnamed providers, and another margin model
                alone = path[0] == "backstop" or path in (("policy",), ("policy", "margin_model"))
                if engine is None and value is not MISSING and not alone:
                    assert auditor is None, (path, value, auditor)
    assert refused > least


@pytest.mark.parametrize("table", ["markets", "collateral", "borrow_lend"])
def test_a_symbol_that_stands_twice_is_refused(table):
    good = json.loads(json.dumps(rc.load_venue(venue_source([90])).source))
    source = good | {table: [*good[table], good[table][0]]}
    engine, auditor = verdict(source)
    assert "twice" in engine
    assert "twice" in auditor


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "run").write_text("")
    for path in (tmp_path / "run", tmp_path / "nothing", Path("/dev/null")):
        with pytest.raises(RunError):
            audit(path)
