"""The table of record and the requirement: reading, bits, gradients, stand-alone requirements, exact decisions."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.scenario import (
    Instruments,
    Portfolios,
    ScenarioMarket,
    ScenarioTable,
    exact,
    load_scenario_model,
    preset_names,
    requirement,
    values_of_record,
)

NOW = pd.Timestamp("2026-01-01", tz="UTC")
FACTORS = {"BTC": 1.0, "ETH": 0.04}


def book(inverse=False):
    """Instruments of two underlyings; of one in a coin numeraire, inverse."""
    rows = []
    for name, factor in FACTORS.items():
        rows.append({"market": name, "kind": "SPOT", "underlying": name})
        rows.append({"market": f"{name}-P", "kind": "IPERP" if inverse else "PERP", "underlying": name})
        for days in (7, 30, 90):
            expiry = NOW + pd.Timedelta(days=days)
            kind = "IDATED" if inverse else "DATED"
            rows.append({"market": f"{name}-F{days}", "kind": kind, "underlying": name, "expiry": expiry})
            rows += [
                {
                    "market": f"{name}-{days}-{strike}-{right}",
                    "kind": "OPTION",
                    "underlying": name,
                    "expiry": expiry,
                    "strike": strike * factor,
                    "right": right,
                    "settles_in_coin": inverse,
                }
                for strike in (54_000, 60_000, 69_000)
                for right in "CP"
            ]
        if inverse:
            break
    return Instruments.from_frame(pd.DataFrame(rows, dtype=object))


def tick(instruments, confidence=1.0):
    """Data of a tick for them."""
    names = instruments.underlyings
    terms = [
        {"underlying": names[u], "expiry": pd.Timestamp(e, tz="UTC"), "rate": 0.05, "forward_confidence": confidence}
        for u, e in zip(instruments.term_underlying, instruments.term_expiry, strict=True)
    ]
    marks, volatilities = {}, {}
    for i, symbol in enumerate(instruments.symbol):
        days = (instruments.expiry[i] - NOW.value) / 86_400e9 if instruments.expiry[i] else 0.0
        price = 60_000.0 * FACTORS[names[instruments.underlying[i]]]
        if instruments.kind[i] == 2:
            volatilities[symbol] = 0.5 + 0.001 * i
        marks[symbol] = price * (0.05 if instruments.kind[i] == 2 else 1 + 0.0001 * days)
    index = {name: 60_000.0 * FACTORS[name] for name in names}
    frame = pd.DataFrame({"underlying": list(names), "confidence": confidence})
    return ScenarioMarket.read(
        instruments, NOW, index=index, marks=marks, volatilities=volatilities, terms=pd.DataFrame(terms),
        underlyings=frame, funding={f"{name}-P": 3.0 for name in names},
    )  # fmt: skip


def drawn(instruments, accounts, seed=0, spots=True):
    """Portfolios of some of the instruments."""
    random, rows = np.random.default_rng(seed), []
    symbols = [s for s, kind in zip(instruments.symbol, instruments.kind, strict=True) if spots or kind != 3]
    for account in range(accounts):
        for symbol in random.choice(symbols, random.integers(1, 9), replace=False):
            i = instruments.symbol.index(symbol)
            size = random.choice([-3.0, -1.5, -0.7, 0.4, 1.1, 2.5])
            size *= 60_000.0 if instruments.inverse[i] and instruments.kind[i] != 2 else 1.0
            size /= FACTORS[instruments.underlyings[instruments.underlying[i]]]
            rows.append((account, symbol, abs(size) if instruments.kind[i] == 3 else size))
    return Portfolios.from_frame(instruments, pd.DataFrame(rows, columns=["account", "market", "size"]))[0]


CHARGES = [
    {"kind": "notional", "rate": "0.015", "of": ["perpetuals", "futures"]},
    {"kind": "option_short", "rate": "0.003"},
    {"kind": "gamma", "rate": "0.01", "hours": "200"},
    {"kind": "confidence", "threshold": "0.9", "factor": "0.5"},
    {"kind": "roll", "rate": "0.01", "annual": "0.075", "scaled": True},
    {"kind": "spread_delta", "rate": "0.05", "annual": True},
    {"kind": "delta_shock", "threshold": "60000", "max": "0.1", "increment": "0.01"},
    {"kind": "theta", "hours": "24"},
    {"kind": "funding"},
    {"kind": "fee", "rate": "0.0003"},
]
GRID = {"range": "0.16", "steps": 4, "vols": ["up", "same", "down"]}
SHOCK = {"up": "0.5", "down": "0.25", "min_vol": "0.5"}
MODELS = {
    "plain": {"grid": GRID, "vol_shock": SHOCK, "mm_factor": "0.8"},
    "joint": {"grid": GRID, "vol_shock": SHOCK, "groups": [{"underlyings": "all"}]},
    "groups": {"grid": GRID, "vol_shock": SHOCK, "groups": [{"underlyings": "all", "rule": "groups", "alpha": "0.6"}]},
    "offset": {"grid": GRID, "vol_shock": SHOCK, "groups": [{"underlyings": "all"}], "offset": {"alpha": "0.5"}},
    "charges": {"grid": GRID, "vol_shock": SHOCK, "mm_factor": "0.8", "contingencies": CHARGES},
    "floor": {
        "scenarios": [{"move": "0.001"}, {"move": "-0.001"}],
        "contingencies": [{"kind": "delta_floor", "hedged": "0.01", "unhedged": "0.02"}],
    },
    "shortfall": {"grid": GRID, "vol_shock": SHOCK, "measure": {"kind": "es", "alpha": "0.9"}},
    "value at risk": {"grid": GRID, "vol_shock": SHOCK, "measure": {"kind": "var", "alpha": "0.9"}},
    "minimum": {"grid": GRID, "vol_shock": SHOCK, "minimum": {"rate": "20000", "per": "contract"}},
    "spreads": {
        "scenarios": [{"move": "0.1"}, {"move": "-0.1"}, {"move": "0"}],
        "spreads": {
            "tiers": ["20"],
            "intra": [
                {"underlying": "BTC", "legs": [{"tier": 0}, {"tier": 1}], "charge": "900"},
            ],
            "inter": [
                {
                    "legs": [{"underlying": "BTC", "side": "A"}, {"underlying": "ETH", "side": "B", "delta": "25"}],
                    "rate": "0.6",
                }
            ],
        },
    },
    "derive": None,
}
HOMOGENEOUS = set(MODELS) - {"charges"}


def model_of(name):
    content = MODELS[name]
    return load_scenario_model("derive" if content is None else content)


@pytest.fixture(scope="module")
def instruments():
    return book()


@pytest.fixture(scope="module")
def market(instruments):
    return tick(instruments, confidence=0.8)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_differences(name, instruments, market):
    """Away from ties the gradient is the difference quotient on either side."""
    table = ScenarioTable.of(model_of(name), instruments, market)
    portfolios = drawn(instruments, 25)
    found = table.gradients(portfolios, threads=1)
    before = table.requirements(portfolios, threads=1)
    np.testing.assert_allclose(found.maintenance, before.maintenance, rtol=1e-13)
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.span.astype(np.int64)))
    ties = 0
    for p in range(len(portfolios.size)):
        quotients = []
        for side in (1.0, -1.0):
            size = portfolios.size.copy()
            bump = side * 1e-6 * abs(size[p])
            size[p] += bump
            after = table.requirements(Portfolios(portfolios.span, portfolios.instrument, size), threads=1)
            quotients.append((after.maintenance[owner[p]] - before.maintenance[owner[p]]) / bump)
        scale = 1e-9 * before.scale[owner[p]] / abs(size[p]) + 1e-6 * abs(found.gradient[p])
        if abs(quotients[0] - quotients[1]) > 4 * scale:
            ties += 1
        else:
            assert abs(found.gradient[p] - quotients[0]) <= 4 * scale, (p, quotients, found.gradient[p])
    assert ties <= 0.1 * len(portfolios.size)


@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_requirement(name, instruments, market):
    """Size times gradient does it alone where the model is homogeneous."""
    table = ScenarioTable.of(model_of(name), instruments, market)
    portfolios = drawn(instruments, 200)
    found = table.gradients(portfolios, threads=1)
    total = np.add.reduceat(found.contribution, portfolios.span[:-1])
    np.testing.assert_allclose(total, found.maintenance, rtol=1e-9, atol=1e-6)
    if name in HOMOGENEOUS:
        np.testing.assert_allclose(found.contribution, portfolios.size * found.gradient, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_exact_requirement(name, instruments, market):
    """The float requirement is within the bound of its rounding; the worst scenario has the exact loss."""
    table = ScenarioTable.of(model_of(name), instruments, market)
    portfolios = drawn(instruments, 12)
    found = table.requirements(portfolios, threads=1)
    for account in range(len(portfolios)):
        rows = slice(*portfolios.span[account : account + 2].tolist())
        sizes = [Fraction(size) for size in portfolios.size[rows].tolist()]
        expected = exact.parts(table, portfolios.instrument[rows].tolist(), sizes)
        bound = 1e-13 * found.scale[account]
        assert abs(Fraction(float(found.maintenance[account])) - expected.maintenance) <= bound
        assert abs(Fraction(float(found.initial[account])) - expected.initial) <= bound
        group = next(each for each in expected.groups if each.group == found.group[account])
        worst = int(found.worst[account])
        if worst == len(group.changes):
            assert group.basis is not None
        elif worst >= 0 and table.model.measure.kind == "worst":
            assert abs(group.changes[worst] + max(-change for change in group.changes)) <= bound


@pytest.mark.parametrize("name", ["derive", "charges", "groups"])
def test_bits_do_not_depend_on_threads_or_padding(name, instruments, market):
    """Threads share no work, and the padding repeats a scenario."""
    table = ScenarioTable.of(model_of(name), instruments, market)
    portfolios = drawn(instruments, 6_100)
    one = table.requirements(portfolios, threads=1)
    for threads in (2, 4):
        other = table.requirements(portfolios, threads=threads)
        for field in ("maintenance", "initial", "loss", "worst", "group", "scale"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    np.testing.assert_array_equal(
        table.gradients(portfolios, threads=1).gradient, table.gradients(portfolios, threads=3).gradient
    )
    part = table.losses(portfolios, 100, 160)
    np.testing.assert_array_equal(part, table.losses(portfolios, 0, 200)[100:160])
    arrays, count = table.arrays, table.arrays.scenarios
    columns = np.append(np.arange(len(arrays.is_skew)), np.full(16, count - 1))
    by_column = {field: np.take(getattr(arrays, field), columns, axis=-1) for field in (
        "row", "weight", "dampener", "coin", "price_move", "is_skew", "probability", "is_stress"
    )}  # fmt: skip
    wider = arrays._replace(**by_column, scenarios=count, initial_scenarios=count)
    np.testing.assert_array_equal(requirement.requirements(portfolios, wider, 1).maintenance, one.maintenance)


def test_order_of_rows_changes_nothing(instruments, market):
    """Positions are sorted and added; rows of size 0 are no positions."""
    table = ScenarioTable.of(model_of("derive"), instruments, market)
    rows = [(1, "BTC-P", 1.0), (1, "BTC-30-60000-C", -2.0), (1, "BTC-30-60000-P", 0.5), (1, "BTC-7-54000-P", -1.0)]
    split = [(1, "BTC-30-60000-C", -0.5), *rows[::-1], (1, "BTC-30-60000-C", 0.5), (1, "BTC-90-69000-C", 0.0)]
    frames = [pd.DataFrame(each, columns=["account", "market", "size"]) for each in (rows, split)]
    found = [table.requirements(Portfolios.from_frame(instruments, frame)[0]) for frame in frames]
    for field in ("maintenance", "initial", "loss", "worst"):
        np.testing.assert_array_equal(getattr(found[0], field), getattr(found[1], field))


def test_no_positions(instruments, market):
    """An account with rows of size 0 has no requirement."""
    table = ScenarioTable.of(model_of("charges"), instruments, market)
    frame = pd.DataFrame([(1, "BTC-P", 0.0)], columns=["account", "market", "size"])
    found = table.requirements(Portfolios.from_frame(instruments, frame)[0])
    assert found.maintenance.tolist() == found.initial.tolist() == [0.0]
    assert found.worst.tolist() == [-1]


def test_orders_add_losses_alone(instruments, market):
    """An order fills at its limit where that loses; it is no part of the maintenance requirement."""
    model = load_scenario_model({"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]})
    table = ScenarioTable.of(model, instruments, market)
    positions = pd.DataFrame([(1, "BTC-P", 1.0)], columns=["account", "market", "size"])
    orders = [(1, "BTC-P", 1.0, 59_000.0), (1, "BTC-P", -1.0, 61_000.0), (2, "ETH-F7", -10.0, 2_500.0)]
    orders = pd.DataFrame(orders, columns=["account", "market", "size", "price"])
    portfolios, ids = Portfolios.from_frame(instruments, positions, orders)
    found = table.requirements(portfolios)
    assert ids.tolist() == [1, 2]
    # down: the position loses 6,000, the bid at 59,000 buys at 54,000 what is worth 5,000 less; the offer gains
    # up: the position gains 6,000, the offer at 61,000 loses 5,000 at 66,000
    np.testing.assert_allclose(found.maintenance, [6_000.0, 0.0])
    mark = 60_000.0 * 0.04 * 1.0007
    np.testing.assert_allclose(found.initial, [6_000.0 + 5_000.0, 10.0 * (1.1 * mark - 2_500.0)])
    np.testing.assert_allclose(table.requirements(portfolios, initial=False).initial, [6_000.0, 0.0])


def test_orders_in_inverse_contracts():
    """An inverse contract is paid in coin: what a fill loses is a difference of reciprocal prices."""
    instruments = book(inverse=True)
    rows = [{"move": "0.25"}, {"move": "-0.2"}]
    for model, unit in (({"numeraire": "BTC"}, 1.0), ({}, 60_000.0)):
        table = ScenarioTable.of(load_scenario_model({"scenarios": rows, **model}), instruments, tick(instruments))
        positions = pd.DataFrame([(1, "BTC-P", 0.0)], columns=["account", "market", "size"])
        orders = [(1, "BTC-P", 60_000.0, 50_000.0)]
        orders = pd.DataFrame(orders, columns=["account", "market", "size", "price"])
        found = table.requirements(Portfolios.from_frame(instruments, positions, orders)[0])
        lost = 60_000.0 * (1 / 48_000.0 - 1 / 50_000.0) * unit * (0.8 if unit > 1 else 1.0)
        np.testing.assert_allclose(found.initial, [lost])


def test_standalone_requirements(instruments, market):
    """What a unit of an instrument alone requires bounds the requirement of a convex homogeneous model."""
    table = ScenarioTable.of(model_of("plain"), instruments, market)
    plus, minus = table.standalone()
    p = instruments.symbol.index("BTC-P")
    np.testing.assert_allclose([plus[p], minus[p]], [0.8 * 0.16 * 60_000.0] * 2)
    portfolios = drawn(instruments, 300)
    alone = np.where(portfolios.size > 0, plus[portfolios.instrument], minus[portfolios.instrument])
    bound = np.add.reduceat(np.abs(portfolios.size) * alone, portfolios.span[:-1])
    assert (table.requirements(portfolios).maintenance <= bound * (1 + 1e-12)).all()


def test_values_of_record_are_those_of_the_table(instruments, market):
    """The value that counts in equity is the base of the changes."""
    model = model_of("derive")
    value, options = values_of_record(instruments, market, model), instruments.kind == 2
    np.testing.assert_array_equal(value[options], ScenarioTable.of(model, instruments, market).value[options])
    assert np.isnan(value[~options]).all()
    coin = book(inverse=True)
    found = values_of_record(coin, tick(coin))
    table = ScenarioTable.of(load_scenario_model({"scenarios": [{}], "numeraire": "BTC"}), coin, tick(coin))
    np.testing.assert_array_equal(found[coin.kind == 2], table.value[coin.kind == 2])


def test_no_move_and_no_shock_change_nothing(instruments, market):
    """The scenario of no move gives the value of record, to the last bit."""
    table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0", "vol": "same"}]}), instruments, market)
    assert not table.change.any()


@pytest.mark.filterwarnings("ignore:scenario_model.discount")
@pytest.mark.parametrize("name", sorted(set(preset_names()) - {"histsim"}))
def test_presets_have_tables(name, instruments, market):
    """Every preset that is no history gives finite requirements."""
    model = load_scenario_model(name)
    if name.startswith("span16"):
        model = model.replace(scan_range={"BTC": "9000", "ETH": "400"})
    if model.numeraire != "settle":
        instruments = book(inverse=True)
        market = tick(instruments)
    table = ScenarioTable.of(model, instruments, market)
    found = table.requirements(drawn(instruments, 50))
    assert np.isfinite(found.maintenance).all()
    assert (found.maintenance >= 0).all()
    assert (found.initial >= found.maintenance).all()


def test_forwards_are_filled_in():
    """The mark of the future of the expiry; else log-linear in time; else none."""
    option = {"kind": "OPTION", "underlying": "BTC", "strike": 60_000.0, "right": "C"}
    rows = [
        {"market": "F", "kind": "DATED", "underlying": "BTC", "expiry": "2026-02-01T00:00Z"},
        option | {"market": "C1", "expiry": "2026-02-01T00:00Z"},
        option | {"market": "C2", "expiry": "2026-03-01T00:00Z"},
        option | {"market": "C3", "expiry": "2026-06-01T00:00Z"},
    ]
    instruments = Instruments.from_frame(pd.DataFrame(rows, dtype=object))
    terms = pd.DataFrame({"underlying": ["BTC"], "expiry": ["2026-04-26T00:00Z"], "forward": [61_200.0]})
    volatilities = dict.fromkeys(("C1", "C2", "C3"), 0.6)
    market = ScenarioMarket.read(
        instruments, NOW, index={"BTC": 6e4}, marks={"F": 60_000.0}, terms=terms, volatilities=volatilities
    )
    assert market.forward[0] == 60_000.0
    np.testing.assert_allclose(market.forward[1], 60_000.0 * (61_200.0 / 60_000.0) ** (28 / 84))
    assert np.isnan(market.forward[2])
    table = ScenarioTable.of(model_of("plain"), instruments, market)
    assert table.available.tolist() == [True, True, True, False]
    held = pd.DataFrame([(1, "C3", 1.0)], columns=["account", "market", "size"])
    portfolios, _ = Portfolios.from_frame(instruments, held)
    for method in (table.requirements, table.gradients, lambda p: table.losses(p, 0, 1)):
        with pytest.raises(rc.RiskDataError, match=r"terms\.C3: an account holds it: a forward is needed"):
            method(portfolios)


BAD_INSTRUMENTS = {
    "kind": ({"kind": "SWAP"}, r"instruments\.kind, row 0, value 'SWAP': must be one of PERP"),
    "strike": ({"strike": None}, r"instruments\.strike, row 0: must be given for OPTION"),
    "right": ({"right": "X"}, r"instruments\.right, row 0, value 'X': must be C or P"),
    "expiry": ({"expiry": None}, r"instruments\.expiry, row 0: must be given for OPTION"),
    "underlying": ({"underlying": None}, r"instruments\.underlying, row 0: must be given for OPTION"),
    "perpetual": ({"kind": "PERP"}, r"instruments\.expiry, row 0: must not be given for PERP"),
    "contract": ({"contract": -1.0}, r"instruments\.contract, row 0, value -1\.0: must be a finite number > 0"),
}


@pytest.mark.parametrize("name", BAD_INSTRUMENTS)
def test_wrong_instruments(name):
    change, message = BAD_INSTRUMENTS[name]
    row = {"market": "C", "kind": "OPTION", "underlying": "BTC", "expiry": "2026-03-27", "strike": 6e4, "right": "C"}
    with pytest.raises(rc.RiskDataError, match=message):
        Instruments.from_frame(pd.DataFrame([row | change], dtype=object))


def test_wrong_ticks(instruments):
    """A number out of range, of an unknown name, or of the wrong length."""
    read = ScenarioMarket.read
    with pytest.raises(rc.RiskDataError, match=r"marks\.BTC-P, value -1\.0: must be from"):
        read(instruments, NOW, marks={"BTC-P": -1.0})
    with pytest.raises(rc.RiskDataError, match=r"volatilities\.SOL, value 0\.5: must be one of the instruments"):
        read(instruments, NOW, volatilities={"SOL": 0.5})
    with pytest.raises(rc.RiskDataError, match=r"index: must be 2 numbers, not float64 of shape \(3,\)"):
        read(instruments, NOW, index=np.ones(3))
    with pytest.raises(rc.RiskDataError, match="stable_price"):
        read(instruments, NOW, stable_price=0.0)
    term = {"underlying": ["BTC"], "expiry": ["2026-03-27"], "forward_confidence": [1.5]}
    with pytest.raises(rc.RiskDataError, match=r"terms\.forward_confidence, row 0, value 1\.5: must be a number"):
        read(instruments, NOW, terms=pd.DataFrame(term))


def test_wrong_portfolios(instruments):
    columns = ["account", "market", "size"]
    with pytest.raises(rc.RiskDataError, match=r"sizes\.market, row 0, value 'SOL': must be an instrument"):
        Portfolios.from_frame(instruments, pd.DataFrame([(1, "SOL", 1.0)], columns=columns))
    with pytest.raises(rc.RiskDataError, match=r"sizes\.size, value .*: must be less than 2\*\*53"):
        Portfolios.from_frame(instruments, pd.DataFrame([(1, "BTC-P", 1e16)], columns=columns))


def test_models_that_do_not_fit():
    """A coin numeraire takes contracts of that coin; an inverse contract cannot fall by its whole price."""
    linear, inverse = book(), book(inverse=True)
    coin = load_scenario_model({"scenarios": [{"move": "0.1"}], "numeraire": "BTC"})
    with pytest.raises(
        rc.RiskDataError, match=r"scenario_model\.numeraire, value 'BTC-P': must be an inverse contract"
    ):
        ScenarioTable.of(coin, linear, tick(linear))
    whole = load_scenario_model({"scenarios": [{"move": "-1"}]})
    ScenarioTable.of(whole, linear, tick(linear))
    with pytest.raises(rc.RiskDataError, match="must have moves above -1 of 'BTC'"):
        ScenarioTable.of(whole, inverse, tick(inverse))


def test_worked_example():
    """The example of docs/scenario_margin.md, "The requirement"."""
    option = {"kind": "OPTION", "underlying": "BTC", "expiry": "2026-01-15T00:00Z", "strike": 60_000.0}
    rows = [option | {"market": right, "right": right} for right in "CP"]
    instruments = Instruments.from_frame(pd.DataFrame(rows))
    terms = pd.DataFrame([{"underlying": "BTC", "expiry": option["expiry"], "forward": 60_300.0, "rate": 0.05}])
    volatilities = {"C": 0.55, "P": 0.55}
    market = ScenarioMarket.read(instruments, NOW, index={"BTC": 6e4}, terms=terms, volatilities=volatilities)
    table = ScenarioTable.of(load_scenario_model("derive"), instruments, market)
    held = pd.DataFrame([(1, "C", -1.0), (1, "P", -1.0)], columns=["account", "market", "size"])
    portfolios, _ = Portfolios.from_frame(instruments, held)
    found, changes = table.requirements(portfolios), table.losses(portfolios, 0, 1)[0, 0]
    value = -table.value.sum()
    equity = 15_000.0 + value
    assert (found.worst[0], found.group[0]) == (0, 0)
    numbers = {
        table.terms.discount[0]: 8, value: 6, table.arrays.discount[0, 1]: 8, changes[0]: 6, changes[22]: 6,
        changes[29]: 6, changes[30]: 6, changes[31]: 6, found.maintenance[0] - 0.8 * found.loss[0]: 2,
        found.initial[0] - found.maintenance[0] - 0.2 * found.loss[0]: 2, found.maintenance[0]: 6,
        found.initial[0]: 6, equity: 6, 100.0 * found.maintenance[0] / equity: 6,
    }  # fmt: skip
    page = (Path(__file__).resolve().parents[1] / "docs/scenario_margin.md").read_text(encoding="utf-8")
    example = page.split("## The requirement")[1].split("*Example.*")[1].split("\n## ")[0]
    for number, digits in numbers.items():
        assert f"{number:,.{digits}f}" in example, number
