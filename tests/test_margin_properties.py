"""The sweep against the oracle, and what must not change its bits."""

import copy
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from riskcore import Accounts, MarginTable, RiskDataError, load_venue, reference, sample, sweep
from riskcore.kernels import margin as kernels
from tests.comparison import ROUNDING, gross, same_ratio
from tests.strategies import SETTLE, Scene, TickInput, decimals, margin_functions, scenes

COLUMNS = ("net_equity", "exposure", "initial_margin", "maintenance_margin", "status")


def swept(scene: Scene, accounts=None) -> MarginTable:
    venue, loaded = scene.load()
    first = scene.ticks[0]
    loaded = loaded if accounts is None else accounts
    others = {"asset_prices": first.asset_prices, "open_interest": first.open_interest}
    return sweep(loaded, venue, first.marks, indexes=first.indexes, **others)


def bits(table: MarginTable) -> dict:
    return {name: getattr(table, name).tobytes() for name in COLUMNS}


def by_account(table: MarginTable) -> dict:
    rows = zip(*(getattr(table, name).tolist() for name in COLUMNS), strict=True)
    return dict(zip(table.account.tolist(), rows, strict=True))


@settings(max_examples=200)
@given(st.booleans().flatmap(lambda mixed: scenes(mixed=mixed)))
def test_sweep_equals_the_oracle(scene: Scene):
    table, (venue, state), prices = swept(scene), scene.load_reference(), scene.ticks[0].prices()
    looks = reference.sweep(venue, state, prices)
    assert table.account.tolist() == list(looks)
    for row, (account_id, look) in enumerate(looks.items()):
        scale = gross(venue, state.accounts[account_id], prices)
        assert abs(Fraction(table.net_equity[row]) - look.net_equity) <= ROUNDING * scale
        for found, expected in (
            (table.exposure[row], look.exposure),
            (table.initial_margin[row], look.initial_margin),
            (table.maintenance_margin[row], look.maintenance_margin),
        ):
            assert math.isclose(found, float(expected), rel_tol=1e-12)
        assert same_ratio(table.imr[row], look.initial_margin, look, scale)
        assert same_ratio(table.mmr[row], look.maintenance_margin, look, scale)
        expected = kernels.LIQUIDATING if look.liquidating else kernels.SAFE
        assert table.status[row] == (kernels.BELOW_AUTO_CLOSE if look.below_auto_close else expected)
        assert table.liquidatable[row] == look.liquidating == (table.mmr[row] >= 1)


@pytest.mark.parametrize("edge", ["margin", "auto_close", "zero"])
@settings(max_examples=60)
@given(
    st.integers(1, 10**6),
    st.sampled_from(["0.03", "0.07", "0.0123"]),
    st.integers(1, 10**7),
    st.integers(-1, 1),
)
def test_a_quantum_decides(edge, lots, fraction, price, off):
    """An account exactly at an edge of its tests, and one quantum to either side of it: float64 cannot see it."""
    source = sample.venue_source([])
    source["markets"] = source["markets"][:1]
    source["markets"][0] |= {
        "mmfFunction": {"type": "sqrt", "base": fraction, "factor": "0"},
        "imfFunction": {"type": "sqrt", "base": fraction, "factor": "0"},
    }
    source["collateral"] = [{"symbol": SETTLE, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}]
    symbol, mark = source["markets"][0]["symbol"], Decimal(price) / 100
    required = Decimal(fraction) * mark * lots / 10**5
    wanted = {"margin": required, "auto_close": required / 2, "zero": Decimal(0)}[edge]
    quanta = math.floor(wanted * 10**6) + off  # the entry is the mark, up to the rounding of the cost
    cost = round(mark * lots * 10)
    equity = Fraction(quanta, 10**6) + Fraction(mark) * lots / 10**5 - Fraction(cost, 10**6)
    positions = pd.DataFrame(
        {"account": [1], "market": [symbol], "quantity": [float(Decimal(lots) / 10**5)], "entry_price": [float(mark)]}
    )
    balances = pd.DataFrame({"account": [1], "asset": [SETTLE], "quantity": [float(Decimal(quanta) / 10**6)]})
    venue = load_venue(source)
    table = sweep(Accounts.from_frames(venue, positions, balances), venue, {symbol: float(mark)})
    required = Fraction(required)
    auto_close = max(required / 2, required - Fraction(6, 100) * Fraction(mark) * lots / 10**5)
    if quanta < 0:  # a borrow has its own requirement; that side of zero is bankrupt all the same
        assert table.status[0] == kernels.BELOW_AUTO_CLOSE
    elif required < equity:
        assert table.status[0] == kernels.SAFE
    else:
        below = equity < auto_close or equity <= 0
        assert table.status[0] == (kernels.BELOW_AUTO_CLOSE if below else kernels.LIQUIDATING)


@settings(max_examples=40)
@given(scenes(), st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_no_bit(scene: Scene, seed):
    venue, accounts = scene.load()
    frames = [frame.sample(frac=1, random_state=seed) for frame in scene.frames()]
    assert bits(swept(scene, Accounts.from_frames(venue, *frames))) == bits(swept(scene, accounts))


@settings(max_examples=40)
@given(scenes(), st.randoms(use_true_random=False))
def test_names_of_accounts_change_no_bit(scene: Scene, chance):
    table = swept(scene)
    owners = {row["owner"] for row in scene.settings if row.get("owner") is not None}
    names = [*table.account.tolist(), *sorted(owners - set(table.account.tolist()))]
    fresh = dict(zip(names, chance.sample(range(10**9), len(names)), strict=True))

    def renamed(rows):
        ids = ("account", "owner")
        return [row | {name: fresh[row[name]] for name in ids if row.get(name) is not None} for row in rows]

    other = Scene(
        scene.source | {"backstop": renamed(scene.source["backstop"])},
        *map(renamed, (scene.positions, scene.balances, scene.orders, scene.settings)),
        scene.ticks,
    )
    assert by_account(swept(other)) == {fresh[name]: row for name, row in by_account(table).items()}


@settings(max_examples=40)
@given(scenes(), st.integers(0, 100))
def test_lending_changes_no_bit(scene: Scene, percent):
    """What is lent counts as what is free: any part of a free balance may move."""
    accounts = scene.load()[1]
    lender = accounts.copy()
    moved = np.maximum(lender.columns.free, 0) * percent // 100
    lender.columns.free[:] -= moved
    lender.columns.lent[:] += moved
    assert bits(swept(scene, lender)) == bits(swept(scene, accounts))


@settings(max_examples=40)
@given(scenes(), st.sampled_from([100, 10_000]))
def test_the_currency_is_a_unit(scene: Scene, unit):
    """All prices and settle amounts times `unit`: every amount grows by it, no ratio changes.

    Factors times sqrt(notional) are fractions, so the factors shrink by the root; what goes by token quantity stays.
    """
    by_notional, root = scene.source["policy"]["haircut_size_unit"] == "notional", math.isqrt(unit)

    def scaled(value, by=unit):
        return value if value is None else float(Fraction(str(value)) * by)

    def scaled_row(row, *names):
        return row | {name: scaled(row[name]) for name in names if name in row}

    def scaled_function(function, by_quantity):
        amounts = {
            name: str(Decimal(function[name]) * unit) for name in ("lower", "upper", "minimum") if name in function
        }
        if "brackets" in function:
            amounts["brackets"] = [b | {"from": str(Decimal(b["from"]) * unit)} for b in function["brackets"]]
        if "factor" in function and not by_quantity:
            amounts["factor"] = str(Decimal(function["factor"]) / root)
        if "slope" in function and not by_quantity:
            amounts["slope"] = str(Decimal(function["slope"]) / unit)
        return function | amounts

    source = copy.deepcopy(scene.source)
    for row in (*source["markets"], *source["collateral"]):
        for name in {"imfFunction", "mmfFunction"} & set(row):
            row[name] = scaled_function(row[name], row[name].get("unit") == "quantity" and row["symbol"] != SETTLE)
        if "filters" in row:
            row["filters"]["price"] |= {
                n: str(Decimal(row["filters"]["price"][n]) * unit) for n in ("tickSize", "maxPrice")
            }
        elif by_notional and row["haircutFunction"]["kind"]["type"] == "inverseSqrt":
            kind = row["haircutFunction"]["kind"]
            kind["positiveCurvePenalty"] = str(Decimal(kind["positiveCurvePenalty"]) / root)
        if row["symbol"] == SETTLE:
            row["quantum"] = str(Decimal(row["quantum"]) * unit)
    first = scene.ticks[0]
    other = Scene(
        source,
        [scaled_row(row, "entry_price", "settle_price") for row in scene.positions],
        [scaled_row(row, "quantity", "lent") if row["asset"] == SETTLE else row for row in scene.balances],
        [scaled_row(row, "price") for row in scene.orders],
        [scaled_row(row, "unsettled") for row in scene.settings],
        [
            replace(
                first,
                **{
                    n: {k: scaled(v) for k, v in getattr(first, n).items()}
                    for n in ("marks", "indexes", "asset_prices")
                },
            )
        ],
    )
    table, larger, (venue, state) = swept(scene), swept(other), scene.load_reference()
    scale = [float(gross(venue, account, first.prices())) for account in state.accounts.values()]
    for name in COLUMNS[:-1]:
        difference = np.abs(getattr(larger, name) / unit - getattr(table, name))
        assert (difference <= 2 * float(ROUNDING) * (np.array(scale) + table.exposure)).all(), name
    assert larger.status.tolist() == table.status.tolist()


@pytest.mark.parametrize(
    ("indexes", "asset_prices", "price"),
    [({"SOL_USDC_PERP": 100.0}, {"SOL": 7.0}, 7.0), ({"SOL_USDC_PERP": 100.0}, {}, 100.0), ({}, {}, 200.0)],
    ids=["given", "index", "mark"],
)
def test_the_price_of_an_asset(indexes, asset_prices, price):
    """The one that the tick gives, else the index of its perpetual, else the mark."""
    venue = load_venue(sample.venue_source([]))
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [1], "asset": ["SOL"], "quantity": [1.0]})
    accounts = Accounts.from_frames(venue, positions, balances)
    table = sweep(accounts, venue, {"SOL_USDC_PERP": 200.0}, indexes=indexes, asset_prices=asset_prices)
    assert table.net_equity[0] == pytest.approx(price * 0.95, rel=1e-15)


# ---- Many accounts, many prices


@pytest.fixture(scope="module")
def crowd():
    """40,000 generated accounts after a fall of 3 %: several chunks, some accounts beyond the trigger."""
    venue = load_venue(sample.venue_source([]))
    marks = {"BTC_USDC_PERP": 100_000.0, "ETH_USDC_PERP": 4_000.0, "SOL_USDC_PERP": 200.0}
    accounts = Accounts.from_frames(venue, *sample.generate_accounts(venue, marks, 40_000, seed=7))
    return venue, accounts, {symbol: mark * 0.97 for symbol, mark in marks.items()}


def test_threads_change_no_bit(crowd):
    venue, accounts, marks = crowd
    alone = sweep(accounts, venue, marks, threads=1)
    assert 100 < alone.liquidatable.sum() < 39_000
    for threads in (2, 3, 4, None):
        assert bits(sweep(accounts, venue, marks, threads=threads)) == bits(alone)


@settings(max_examples=50)
@given(scenes(), decimals(50, 150, 0).map(float))
def test_a_table_taken_again_changes_no_bit(scene: Scene, percent):
    """What stood in the arrays before leaves nothing behind: figures, statuses, nor what doubt was settled for."""
    venue, accounts = scene.load()
    first, others = scene.ticks[0], {"asset_prices": scene.ticks[0].asset_prices}
    moved = {symbol: price * percent / 100 for symbol, price in first.marks.items()}
    table = sweep(accounts, venue, first.marks, **others)
    before = bits(table)
    again = sweep(accounts, venue, moved, **others, out=table)
    assert bits(again) == bits(table) == bits(sweep(accounts, venue, moved, **others))
    assert np.shares_memory(again.net_equity, table.net_equity)
    assert bits(sweep(accounts, venue, first.marks, **others, out=again)) == before


def locked(table: MarginTable) -> MarginTable:
    table.exposure.flags.writeable = False
    return table


BAD_OUT = {
    "no table": (lambda table: table.net_equity, "out: must be a MarginTable, not ndarray"),
    "other accounts": (
        lambda table: replace(table, account=table.account + 1),
        "out.account: must be a table of the same accounts",
    ),
    "fewer": (lambda table: table.rows(np.arange(5)), "out.account: must be a table of the same accounts"),
    "other arrays": (
        lambda table: table.rows(np.arange(len(table.account))),
        "out: must have the arrays that a sweep gave it, whole and writable",
    ),
    "float32": (
        lambda table: replace(table, net_equity=table.net_equity.astype(np.float32)),
        "out: must have the arrays that a sweep gave it, whole and writable",
    ),
    "arrays changed places": (
        lambda table: replace(table, net_equity=table.exposure),
        "out: must have the arrays that a sweep gave it, whole and writable",
    ),
    "status of another type": (
        lambda table: replace(table, status=table.status.astype(bool)),
        "out: must have the arrays that a sweep gave it, whole and writable",
    ),
    "not writable": (locked, "out: must have the arrays that a sweep gave it, whole and writable"),
}


@pytest.mark.parametrize("name", BAD_OUT)
def test_a_table_of_other_arrays_is_refused(crowd, name):
    venue, accounts, marks = crowd
    spoil, error = BAD_OUT[name]
    with pytest.raises(RiskDataError) as caught:
        sweep(accounts, venue, marks, out=spoil(sweep(accounts, venue, marks)))
    assert str(caught.value) == error


def test_a_frame_of_prices_has_tables_of_its_own(crowd):
    venue, accounts, marks = crowd
    with pytest.raises(RiskDataError, match=r"^out: must be None with a frame of prices"):
        sweep(accounts, venue, pd.DataFrame([marks]), out=sweep(accounts, venue, marks))


def test_a_frame_of_prices_is_its_rows(crowd):
    venue, accounts, marks = crowd
    frame = pd.DataFrame([{s: m * move for s, m in marks.items()} for move in (1.0, 0.99, 1.02)], index=[10, 20, 30])
    tables = sweep(accounts, venue, frame)
    assert [table.time for table in tables] == [10, 20, 30]
    for table, (_, row) in zip(tables, frame.iterrows(), strict=True):
        assert bits(table) == bits(sweep(accounts, venue, row))
        assert bits(table) == bits(sweep(accounts, venue, row.to_dict()))
    assert tables.to_frame()["time"].tolist() == np.repeat([10, 20, 30], len(accounts)).tolist()


# ---- The rules one by one

EDGES = [100, 10_000, 1_000_000, 0.5, 700, 5_000, 30_000, 150_000]  # where the functions of the strategies bend or jump
near_edges = st.builds(lambda edge, off: int(edge * 1000) + off, st.sampled_from(EDGES), st.integers(-1, 1))


@settings(max_examples=200)
@given(margin_functions(), st.integers(1, 10**9) | near_edges, st.none() | st.integers(0, 200_000))
def test_margin_functions(functions, lots, interest):
    """Of a position of lots worth 0.001 each, so that float64 can be at an edge exactly."""
    source = sample.venue_source([])
    source["markets"] = [source["markets"][0] | dict(zip(("imfFunction", "mmfFunction"), functions, strict=True))]
    symbol, quantity = source["markets"][0]["symbol"], float(Decimal(lots) / 10**5)
    position = {"account": 1, "market": symbol, "quantity": quantity, "entry_price": 100.0}
    scene = Scene(source, [position], [], ticks=[TickInput(0, {symbol: 100.0}, {}, {}, {}, known(symbol, interest))])
    table, (venue, state) = swept(scene), scene.load_reference()
    look = reference.sweep(venue, state, scene.ticks[0].prices())[1]
    assert math.isclose(table.initial_margin[0], float(look.initial_margin), rel_tol=1e-14)
    assert math.isclose(table.maintenance_margin[0], float(look.maintenance_margin), rel_tol=1e-14)


def known(symbol, amount):
    return {} if amount is None else {symbol: float(amount)}


amounts = st.decimals(0, 10**12, places=4, allow_nan=False)
rates = st.decimals("0.0001", 2, places=6, allow_nan=False)


@given(amounts, st.decimals(0, 1, places=3), st.none() | rates, st.decimals(0, 1, places=5))
def test_collateral_weight(size, weight, base, penalty):
    kind = {"type": "identity"}
    if base is not None:
        kind = {"type": "inverseSqrt", "base": base, "positiveCurvePenalty": penalty}
    asset = reference.Asset({"symbol": "X", "haircutFunction": {"weight": weight, "kind": kind}}, "0.1")
    inputs = (math.inf, 0.0) if base is None else (float(base), float(penalty))
    found = kernels.collateral_weight(float(size), float(weight), *inputs)
    assert math.isclose(found, float(asset.effective_weight(Fraction(size))), rel_tol=1e-15)
    assert found <= float(weight)


@pytest.mark.parametrize(
    ("margin", "equity", "exposure", "expected"),
    [
        (5.0, 10.0, 100.0, 0.5),
        (10.0, 10.0, 100.0, 1.0),
        (5.0, 0.0, 100.0, math.inf),
        (5.0, -1.0, 100.0, math.inf),
        (0.0, 0.0, 100.0, math.inf),
        (0.0, -1.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (5.0, math.nan, 100.0, math.inf),
    ],
)
def test_margin_ratio(margin, equity, exposure, expected):
    assert kernels.margin_ratio(margin, equity, exposure) == expected


@pytest.mark.parametrize("unknown", ["equity", "maintenance", "exposure"])
def test_what_is_not_a_number_is_not_safe(unknown):
    figures = {"equity": 10.0, "exposure": 100.0, "maintenance": 5.0} | {unknown: math.nan}
    found = kernels.float_status(figures["equity"], figures["exposure"], figures["maintenance"], 2.0, 0.06)
    assert (found == kernels.SAFE) == (unknown == "exposure")


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e12))
@example(50.0, 100.0, 50.0, 0.0)
@example(25.0, 100.0, 50.0, 0.0)
@example(0.0, 100.0, 50.0, 0.0)
def test_doubt_is_a_band_around_the_edges(equity, exposure, maintenance, scale):
    """Outside the band the exact answer is float64's; at an edge it is in doubt even where nothing is at stake."""
    found = kernels.account_status(equity, exposure, maintenance, scale, 2.0, 0.06)
    plain = kernels.float_status(equity, exposure, maintenance, 2.0, 0.06)
    edges = (
        [maintenance]
        if plain == kernels.SAFE
        else [maintenance, max(maintenance / 2, maintenance - 0.06 * exposure), 0]
    )
    near = exposure > 0 and min(abs(equity - edge) for edge in edges) <= 1e-12 * scale
    assert found == (kernels.DOUBT if near else plain)
