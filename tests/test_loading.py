"""Loading: the same accounts in whichever order, type or file the tables come, and what is refused as it was."""

import random
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from riskcore import Accounts, RiskDataError, io, load_venue, sample
from riskcore.boundary import units
from riskcore.state import ids
from tests import small_run

COUNT = 400


def venue_and_frames(seed=1):
    """A venue and tables with orders in markets without a position, accounts without settle, and ids with gaps."""
    venue = load_venue(sample.venue_source([7, 11]))
    rng = np.random.default_rng(seed)
    account = np.sort(rng.choice(3 * COUNT, COUNT, replace=False)).astype(np.int64)
    account[:2] = 7, 11
    account = np.unique(account)
    rows = [(a, m) for a in account for m in rng.choice(3, rng.integers(0, 4), replace=False)]
    symbols, steps = np.array(venue.markets.symbol, object), venue.markets.step_size
    market = np.array([m for _, m in rows])
    positions = pd.DataFrame(
        {
            "account": [a for a, _ in rows],
            "market": symbols[market],
            "quantity": np.round(rng.integers(-500, 500, len(rows)) * steps[market], 10),
            "entry_price": rng.uniform(1, 9_000, len(rows)).round(3),
            "settle_price": np.where(rng.random(len(rows)) < 0.5, np.nan, rng.uniform(1, 9_000, len(rows))),
        }
    )
    held = [(a, k) for a in account for k in rng.choice(4, rng.integers(1, 4), replace=False)]
    balances = pd.DataFrame(
        {
            "account": [a for a, _ in held],
            "asset": np.array(venue.assets.symbol, object)[[k for _, k in held]],
            "quantity": rng.normal(0, 1e4, len(held)),
            "lent": rng.uniform(0, 100, len(held)),
        }
    )
    chosen = rng.choice(account, 60)
    orders = pd.DataFrame(
        {
            "account": chosen,
            "market": symbols[rng.integers(0, 3, 60)],
            "side": np.where(rng.random(60) < 0.5, "bid", "ask"),
            "price": 100.0 + rng.integers(0, 50, 60),
            "quantity": 1.0,
            "reduce_only": rng.random(60) < 0.3,
        }
    )
    return venue, {"positions": positions, "balances": balances, "orders": orders}


def bits(accounts):
    """All of the state, to the bit."""
    return {
        "ids": accounts.ids.tolist(),
        "rounded": accounts.rounded,
        "limit": accounts.leverage_limit.tobytes(),
        **{n: (v.dtype, v.tobytes()) for n, v in accounts.columns._asdict().items()},
        **{f"orders.{n}": (v.dtype, v.tobytes()) for n, v in accounts.orders.columns._asdict().items()},
    }


def renamed(frames, name):
    return {table: frame.assign(account=frame["account"].map(name)) for table, frame in frames.items()}


def text_venue(name):
    return load_venue(sample.venue_source([name(7), name(11)]))


def shuffled(frames, seed=2):
    return {n: f.sample(frac=1, random_state=seed) for n, f in frames.items()}


def without_rounded(state):
    """What rounding moved is summed in the order of the rows."""
    return {n: v for n, v in state.items() if n != "rounded"}


def test_rows_are_what_the_tables_say():
    """Row by row, in plain Python."""
    venue, frames = venue_and_frames()
    accounts = Accounts.from_frames(venue, **frames)
    c = accounts.columns
    want = {}
    for row in frames["positions"].itertuples():
        m = venue.markets.symbol.index(row.market)
        lots = round(row.quantity / venue.markets.step_size[m])
        settled = row.entry_price if np.isnan(row.settle_price) else row.settle_price
        paid = [
            round(units.exact(p) * lots * venue.markets.step[m] / venue.settle_quantum)
            for p in (settled, row.entry_price)
        ]
        want[row.account, m] = (lots, *paid)
    for row in frames["orders"].itertuples():
        want.setdefault((row.account, venue.markets.symbol.index(row.market)), (0, 0, 0))
    for provider in (7, 11):
        for m in range(len(venue.markets.symbol)):
            want.setdefault((provider, m), (0, 0, 0))
    owners = accounts.ids[accounts.position_accounts()].tolist()
    found = dict(
        zip(
            zip(owners, c.market.tolist(), strict=True),
            zip(c.lots.tolist(), c.cost.tolist(), c.entry.tolist(), strict=True),
            strict=True,
        )
    )
    assert len(found) == len(c.lots)
    assert found == want
    assert list(found) == sorted(found)
    held = {}
    for row in frames["balances"].itertuples():
        k = venue.assets.symbol.index(row.asset)
        quantum = venue.assets.quantum[k]
        held[row.account, k] = tuple(round(units.exact(x) / quantum) for x in (row.quantity, row.lent))
    for account in accounts.ids.tolist():
        held.setdefault((account, venue.settle), (0, 0))
    for provider in (7, 11):
        for k in range(len(venue.assets.symbol)):
            held.setdefault((provider, k), (0, 0))
    owners = accounts.ids[accounts.balance_accounts()].tolist()
    found = dict(
        zip(zip(owners, c.asset.tolist(), strict=True), zip(c.free.tolist(), c.lent.tolist(), strict=True), strict=True)
    )
    assert found == held
    assert list(found) == sorted(found)


def test_order_of_the_rows_changes_nothing():
    venue, frames = venue_and_frames()
    want = without_rounded(bits(Accounts.from_frames(venue, **frames)))
    canonical = {n: f.sort_values(["account"], kind="stable") for n, f in frames.items()}
    for some in (shuffled(frames), shuffled(frames, 3), canonical):
        assert without_rounded(bits(Accounts.from_frames(venue, **some))) == want


NAMES = {
    "short": lambda a: f"u{a}",
    "padded": lambda a: f"account-{a:012d}",
    "hex": lambda a: "0x" + uuid.UUID(int=random.Random(a).getrandbits(128)).hex,
    "long and alike": lambda a: "x" * 80 + str(a),
    "words": lambda a: ("", "a", "ab", "ä", "日本", "\x00", "a\x00", "z" * 70)[a] if a < 7 else f"é{a}" * (1 + a % 5),
}


@pytest.mark.parametrize("kind", ["object", "str", "string", "category"])
@pytest.mark.parametrize("name", NAMES)
def test_text_ids_are_as_numbers_are(name, kind):
    _, frames = venue_and_frames()
    name = NAMES[name]
    venue = text_venue(name)
    made = renamed(shuffled(frames), name)
    accounts = Accounts.from_frames(venue, **{n: f.astype({"account": kind}) for n, f in made.items()})
    assert accounts.ids.dtype == object
    assert accounts.ids.tolist() == sorted({a for f in made.values() for a in f["account"]})
    assert all(type(a) is str for a in accounts.ids)
    # the same rows for each account as with numbers
    number = Accounts.from_frames(*venue_and_frames()[:1], **frames)
    for account, found in zip(number.ids.tolist(), range(len(number)), strict=True):
        row = accounts.row_of(name(account))
        for one, other in ((number.positions_of(found), accounts.positions_of(row)),
                           (number.balances_of(found), accounts.balances_of(row))):  # fmt: skip
            assert len(one) == len(other)
        for column in ("market", "lots", "cost", "entry", "open_bid", "open_ask"):
            mine, theirs = (getattr(a.columns, column) for a in (number, accounts))
            assert mine[number.positions_of(found)].tolist() == theirs[accounts.positions_of(row)].tolist()


def test_text_that_utf8_cannot_say():
    frames = small_run.tables()
    for name, ids_of in (("positions", ["b", "\ud800"]), ("balances", ["b", "c", "d"])):
        frames[name] = frames[name].assign(account=pd.Series(ids_of, dtype=object))
    venue = load_venue(small_run.venue_source("d"))
    with pytest.raises(RiskDataError, match=r"positions.account, row 1, value '\\ud800': must be text without a lone"):
        Accounts.from_frames(venue, frames["positions"], frames["balances"])


@pytest.mark.parametrize("kind", ["object", "str", "string", "category"])
def test_kind_of_the_columns_changes_nothing(kind):
    venue, frames = venue_and_frames()
    want = bits(Accounts.from_frames(venue, **frames))
    cast = {n: f.astype({"asset" if n == "balances" else "market": kind}) for n, f in frames.items()}
    assert bits(Accounts.from_frames(venue, **cast)) == want
    numbers = {n: f.astype({"account": "Int64"}) for n, f in cast.items()}
    assert bits(Accounts.from_frames(venue, **numbers)) == want


def test_tables_are_left_as_they_are():
    venue, frames = venue_and_frames()
    frames = {n: f.astype({"quantity": object}) for n, f in shuffled(frames).items()}
    copies = {n: f.copy() for n, f in frames.items()}
    Accounts.from_frames(venue, **frames)
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, copies[name], check_exact=True)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_read_as_frames_are(suffix, tmp_path):
    venue, frames = venue_and_frames()
    settings = pd.DataFrame({"account": frames["balances"]["account"].unique()[::2], "leverage_limit": 5.0})
    frames = frames | {"settings": settings}
    want = bits(Accounts.from_frames(venue, **frames))
    files = {name: tmp_path / f"{name}.{suffix}" for name in frames}
    for name, frame in frames.items():
        io.write_table(frame, files[name])
    assert bits(io.read_accounts(venue, **files)) == want
    assert len(io.read_accounts(venue, files["positions"], files["balances"])) == len(want["ids"])
    if suffix == "parquet":  # row groups with dictionaries of their own
        for name, frame in frames.items():
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), files[name], row_group_size=7)
        assert bits(io.read_accounts(venue, **files)) == want


def spoilt(table, column, value, row):
    def spoil(frames):
        values = frames[table][column].tolist()
        values[row] = value
        frames[table] = frames[table].assign(**{column: values})

    return spoil


def twice(table):
    def spoil(frames):
        frames[table] = pd.concat([frames[table], frames[table].iloc[[5]]])

    return spoil


@pytest.mark.parametrize(
    ("spoils", "line"),
    [
        # of two breaches of a table the first row's is said; a key that stands twice comes before what the venue says
        ([twice("positions"), spoilt("positions", "market", "DOGE", 0)], "positions.account+market"),
        ([twice("positions"), spoilt("positions", "entry_price", -1.0, 9)], "positions.entry_price, row 9"),
        ([twice("positions"), spoilt("balances", "quantity", np.inf, 9)], "positions.account+market"),
        ([twice("balances"), spoilt("positions", "quantity", 1e-9, 9)], "balances.account+asset"),
        ([twice("balances"), twice("positions")], "positions.account+market"),
        ([spoilt("balances", "asset", "EUR", 3), spoilt("positions", "market", "DOGE", 0)], "balances.asset, row 3"),
        ([spoilt("positions", "quantity", 1e-9, 9), spoilt("positions", "market", "DOGE", 30)],
         "positions.market, row 30"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("arrange", [lambda frames: frames, shuffled])
def test_first_breach_is_said(spoils, line, arrange):
    venue, frames = venue_and_frames()
    frames = {n: f.reset_index(drop=True) for n, f in arrange(frames).items()}
    for spoil in spoils:
        spoil(frames)
    with pytest.raises(RiskDataError) as refusal:
        Accounts.from_frames(venue, **frames)
    assert str(refusal.value).startswith(line)


def test_breach_far_down_names_its_row():
    """Beyond the rows that are worked on at a time."""
    venue = load_venue(sample.venue_source([]))
    rows = 70_000
    base = pd.DataFrame({"account": np.arange(rows), "market": venue.markets.symbol[0], "quantity": 1.0,
                         "entry_price": 5.0})  # fmt: skip
    money = pd.DataFrame({"account": np.arange(rows), "asset": "USDC", "quantity": 1.0})
    for column, value in (("quantity", 0.000001), ("quantity", 1e9), ("entry_price", 1e300)):
        frame = base.copy()
        frame.loc[66_000, column] = value
        frame.loc[69_000, column] = value
        with pytest.raises(RiskDataError, match=rf"positions\.{column}, row 66000, value "):
            Accounts.from_frames(venue, frame, money)
    wrong = money.copy()
    wrong.loc[66_000, "quantity"] = 1e18
    with pytest.raises(RiskDataError, match=r"balances\.quantity, row 66000, value "):
        Accounts.from_frames(venue, base, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_half_even_is_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    rows = 40_000
    kind = rng.integers(0, 3, rows).astype(np.uint16)
    step = np.array([1e-5, 0.001, 0.5])
    price = rng.integers(1, 10**6, rows) / 10.0 ** rng.integers(0, 4, rows)
    lots = rng.integers(-(10**6), 10**6, rows) // 10 ** rng.integers(0, 6, rows)
    found = units.round_half_even("t", "c", [price, lots, units.PerKind(step, kind)], np.broadcast_to(1e-6, rows))
    for row in rng.choice(rows, 2_000, replace=False):
        want = units.exact(price[row]) * int(lots[row]) * units.exact(step[kind[row]]) * 10**6
        assert found[row] == round(want)


@pytest.mark.parametrize(
    "values",
    [
        [3, 3, 1, 1, 2],
        [-(2**63), 2**63 - 1, 0, 0],
        [5],
        [2**62, 2**40, 2**62 + 1, 2**40],
        [-(2**62), -5, -(2**62)],
        list(range(0, 10**9, 10**6)) * 3,
    ],
)
def test_ranks_of_numbers(values):
    columns = [np.array(values, np.int64), np.array(values[::-1][:3], np.int64)]
    distinct, ranks = ids.ranked_numbers(columns)
    assert distinct.tolist() == sorted(set(values))
    for column, rank in zip(columns, ranks, strict=True):
        assert distinct[rank].tolist() == column.tolist()


@pytest.mark.parametrize("largest", [10, 2**40, 2**62])
def test_order_sorts_rows(largest):
    key = np.random.default_rng(1).integers(0, largest, 5_000)
    key[0] = largest
    assert ids.order(key.copy()).tolist() == np.argsort(key, kind="stable").tolist()
