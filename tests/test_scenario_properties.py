"""Properties of scenario margin, and the engine against the oracle, over random models, ticks and portfolios."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore.reference import scenario as rules
from riskcore.scenario import exact
from riskcore.scenario.charges import roll_rates
from tests.scenario_draws import cases, decimals, sizes
from tests.scenario_vectors import Case, Engine

pytestmark = pytest.mark.filterwarnings("ignore:.*d- < d")  # some models are drawn to be of that kind

TOLERANCE = 1e-12  # of the gross amounts of a book: what sums of float64 and their order may change


@st.composite
def two_books(draw) -> tuple[Case, dict]:
    """A case of a convex, positively homogeneous model, and a second book of the same instruments."""
    case = draw(cases(simple=True, orders=False))
    quote = {row["market"]: row["kind"].startswith("I") for row in case.instruments}
    return case, {symbol: draw(sizes) * (60_000 if quote[symbol] else 1) for symbol in case.sizes}


def mixed(one: dict, other: dict, share: float, rest: float) -> dict:
    """The book of a share of one book and another share of another."""
    return {symbol: share * size + rest * other[symbol] for symbol, size in one.items()}


def slack(engine: Engine, *books: dict) -> float:
    """What rounding may change of the requirement of some books."""
    return TOLERANCE * float(engine.requirements(list(books)).scale.sum()) + 1e-9


@settings(max_examples=40)
@given(cases())
def test_engine_is_the_oracle(case):
    """Requirements, losses by scenario and worst scenarios of every group, by rules that share no code."""
    engine = Engine(case)
    portfolios = engine.portfolios([case.sizes], case.orders)
    found = engine.table.requirements(portfolios)
    expected, _ = case.by_the_rules()
    bound = TOLERANCE * float(found.scale[0]) + 1e-9
    assert abs(found.maintenance[0] - expected.maintenance) <= bound
    assert abs(found.initial[0] - expected.initial) <= bound
    losses = engine.table.losses(portfolios, 0, 1)[0]
    for group, rows in zip(expected.groups, losses, strict=True):
        whole = [*group.y, group.basis] if group.basis is not None else group.y
        assert len(whole) == len(rows)
        for s, (x, y) in enumerate(zip(rows, whole, strict=True)):
            assert abs(x - y) <= bound, s


@settings(max_examples=40)
@given(cases())
def test_exact_figures_are_the_oracle(case):
    """The exact requirements are those of the oracle on the same table of record, to the last digit."""
    engine = Engine(case)
    instruments, tick = case.rules_instruments(), case.rules_tick()
    rows = {symbol: row for row, symbol in enumerate(engine.instruments.symbol)}
    held = {symbol: rules.number(size) for symbol, size in case.sizes.items() if size}
    orders = [(rows[symbol], rules.number(size), rules.number(limit)) for symbol, size, limit in case.orders]
    found = exact.parts(engine.table, [rows[symbol] for symbol in held], list(held.values()), orders)
    record = recorded(engine, rules.record(case.model, instruments, tick))
    expected = rules.requirement(case.model, instruments, tick, record, case.sizes, case.orders)
    assert found.maintenance == expected.maintenance
    assert found.initial == expected.initial
    held_groups = {part.group for part in found.groups}
    assert not held or found.worst == expected.worst
    for part in found.groups:
        if part.group >= 0:
            assert list(part.changes) == expected.groups[part.group].y
    assert all(each.requirement == 0 for g, each in enumerate(expected.groups) if g not in held_groups)


def recorded(engine: Engine, record: rules.Record) -> rules.Record:
    """The table of record with the engine's float64 in the place of every entry that needs a function."""
    arrays, table, instruments = engine.table.arrays, engine.table, engine.instruments
    first, count = arrays.initial_first, arrays.initial_scenarios
    for row, symbol in enumerate(instruments.symbol):
        if instruments.kind[row] != 2:
            continue
        value = Fraction(float(table.value[row]))
        record.value[symbol] = value
        shift = value if arrays.is_discounted else 0
        shocked = [Fraction(float(x)) - shift for x in arrays.row[row]]
        record.change[symbol] = shocked[: arrays.scenarios]
        if engine.model.im_scenarios:
            record.initial_change[symbol] = shocked[first : first + count]
        record.delta[symbol] = Fraction(float(arrays.delta[row]))
        record.basis[symbol] = tuple(Fraction(float(x)) for x in arrays.basis[row])
        record.theta[symbol] = Fraction(float(arrays.decay[row]))
    years = engine.market.years(instruments)
    for term, expiry in enumerate(instruments.term_expiry.tolist()):
        key = instruments.underlyings[instruments.term_underlying[term]], expiry
        if key in record.discount:
            record.discount[key] = tuple(Fraction(float(x)) for x in arrays.discount[term])
        for charge in engine.model.charges("roll"):
            rate = float(roll_rates(charge, years)[term])
            record.roll_rate[charge.rate, charge.annual, expiry] = Fraction(rate)
    return record


@settings(max_examples=40)
@given(two_books(), st.integers(0, 8))
def test_homogeneous_convex_and_subadditive(books, eighths):
    """Three books cost three times one; a mixture and a merger never cost more than their parts."""
    case, other = books
    engine, share = Engine(case), eighths / 8
    books = [
        case.sizes,
        other,
        mixed(case.sizes, other, 1 - share, share),
        mixed(case.sizes, other, 1, 1),
        {s: 3 * x for s, x in case.sizes.items()},
    ]
    found, bound = engine.requirements(books), slack(engine, *books)
    for amounts in (found.maintenance, found.initial):
        one, two, mixture, merged, triple = amounts.tolist()
        assert mixture <= (1 - share) * one + share * two + bound
        assert merged <= one + two + bound
        assert abs(triple - 3 * one) <= bound
    traits = engine.model.traits
    assert (traits.homogeneous, traits.convex, traits.subadditive) == (True, True, True)


@settings(max_examples=40)
@given(cases())
def test_traits_promise_only_what_holds(case):
    """Where the loader says that a model is homogeneous or subadditive, its requirement is."""
    engine = Engine(case)
    other = {symbol: -0.5 * size for symbol, size in reversed(case.sizes.items())}
    books = [case.sizes, other, mixed(case.sizes, other, 1, 1), {s: 2 * x for s, x in case.sizes.items()}]
    found, bound = engine.requirements(books), slack(engine, *books)
    one, two, merged, double = found.maintenance.tolist()
    if engine.model.traits.homogeneous:
        assert abs(double - 2 * one) <= bound
    if engine.model.traits.subadditive:
        assert merged <= one + two + bound


@settings(max_examples=40)
@given(cases(simple=True, orders=False))
def test_groups_lie_between_joint_and_separate(case):
    """One scenario for all costs least, one for each underlying most."""
    amounts, bound = [], 0.0
    for groups in (
        [{"underlyings": "all", "rule": "joint"}],
        [{"underlyings": "all", "rule": "groups", "alpha": "0.6"}],
        [{"underlyings": "all", "rule": "groups", "alpha": "0"}],
        [],
    ):
        engine = Engine(case, case.model | {"groups": groups, "offset": {"alpha": "1"}, "contingencies": []})
        amounts.append(float(engine.requirements([case.sizes]).maintenance[0]))
        bound = max(bound, slack(engine, case.sizes))
    assert all(low <= high + bound for low, high in itertools.pairwise(amounts)), amounts


@settings(max_examples=40)
@given(cases(), st.randoms(use_true_random=False))
def test_order_and_splitting_change_nothing(case, random):
    """The order of the rows leaves every bit; rows that are halves of one leave it too."""
    engine = Engine(case)
    shuffled = list(case.sizes.items())
    random.shuffle(shuffled)
    books = [case.sizes, dict(shuffled)]
    found = engine.requirements(books, case.orders)
    assert found.maintenance[0] == found.maintenance[1]
    assert found.initial[0] == found.initial[1]
    positions = [(0, symbol, size / 2) for symbol, size in case.sizes.items() for _ in (0, 1)]
    split = engine.table.requirements(engine.of_rows(positions, [(0, *order) for order in case.orders]))
    assert split.maintenance[0] == found.maintenance[0]
    assert split.initial[0] == found.initial[0]


@settings(max_examples=40)
@given(cases(orders=False))
def test_zero_positions_change_nothing(case):
    """A row of size 0 is as good as none."""
    engine = Engine(case)
    some = {symbol: size for symbol, size in case.sizes.items() if size}
    found = engine.requirements([case.sizes, some or {next(iter(case.sizes)): 0.0}])
    assert found.maintenance[0] == found.maintenance[1]
    assert found.initial[0] == found.initial[1]


@settings(max_examples=40)
@given(cases(simple=True, orders=False), decimals("-0.5", "0.5"), st.sampled_from(["up", "same"]))
def test_another_scenario_never_lowers_the_requirement(case, move, vol):
    """Nor does one that is dominated raise it: the same scenario with half its weight."""
    engine = Engine(case)
    plain = engine.requirements([case.sizes]).maintenance[0]
    row = {"move": move, "vol": vol}
    tails = case.model.get("tails", [])
    wider = Engine(case, case.model | {"tails": [*tails, row]})
    more = wider.requirements([case.sizes]).maintenance[0]
    assert more >= plain
    dominated = Engine(case, case.model | {"tails": [*tails, row, row | {"weight": "0.5"}]})
    assert dominated.requirements([case.sizes]).maintenance[0] == more


@settings(max_examples=40)
@given(cases(), st.sampled_from([1, 2]))
def test_same_bits_for_any_number_of_accounts_and_threads(case, threads):
    """An account's figures do not depend on which accounts stand beside it."""
    engine = Engine(case)
    books = [case.sizes, {s: -x for s, x in case.sizes.items()}, case.sizes]
    alone = engine.requirements(books[:1], case.orders)
    found = engine.requirements(books, case.orders, threads=threads)
    for name in ("maintenance", "initial", "worst", "group"):
        assert np.array_equal(getattr(found, name)[[0, 2]], np.repeat(getattr(alone, name), 2)), name


@settings(max_examples=40)
@given(cases(orders=False))
def test_bounds_hold_for_every_model(case):
    """The requirement is at most its envelope, and that at most the sum of the positions' own bounds."""
    engine = Engine(case)
    books = [case.sizes, {s: -x for s, x in case.sizes.items()}]
    books += [
        {s: x if s == symbol else 0.0 for s, x in case.sizes.items()} for symbol, size in case.sizes.items() if size
    ]
    portfolios = engine.portfolios(books)
    single, envelope = engine.table.upper_bounds(portfolios)
    maintenance = engine.table.requirements(portfolios).maintenance
    assert (maintenance <= envelope).all()
    assert (envelope <= single * (1 + 1e-9) + 1e-9).all()
