"""Scenario margin against other systems: the portfolios that they assert, by the rules in plain Python.

The bar of the portfolios of Derive is 1e-9 of `max(1, |x|)` in maintenance, initial and every scenario.
"""

from __future__ import annotations

import pytest

import riskcore as rc
from tests import scenario_vectors as vectors
from tests.test_vectors import FOLDER

pytestmark = pytest.mark.filterwarnings("ignore:.*d- < d")  # some parameters of Derive's tests are of that kind

NO_REQUIREMENT = {
    f"derive-auction-test{number}": "the price of an auction that Riskcore does not hold"
    for number in ("1-0", "4-0", "4-1")
}


def close(found, expected, absolute: float = 1e-9, relative: float = 1e-9) -> bool:
    """Whether a number is as close as `max(absolute, relative * |expected|)`."""
    return abs(found - expected) <= max(absolute, relative * abs(expected))


@pytest.fixture(scope="module", params=vectors.WAYS, ids=lambda way: way.__name__)
def way(request):
    """One of the computations."""
    return request.param


@pytest.mark.parametrize("number", range(35))
def test_portfolios_of_derive(way, number):
    """Margin is what is left of equity after the requirement."""
    case, expected = vectors.derive_cases(FOLDER)[number]
    found = way(case)
    assert close(found.equity - found.maintenance, expected["MM"]), case.name
    assert close(found.equity - found.initial, expected["IM"]), case.name
    given = expected["scenario_pnl"]
    assert len(found.y) in (len(given), 0), case.name
    assert not found.y or all(map(close, found.y, given)), case.name
    assert found.y or not any(given), case.name


@pytest.mark.parametrize("number", range(35))
def test_accounts_of_derive(number):
    """The same portfolios as accounts of a venue: equity less margins, and the losses by scenario."""
    case, expected = vectors.derive_cases(FOLDER)[number]
    account = vectors.Account.of(case)
    margins = rc.sweep(account.accounts, account.venue, account.tick)
    equity = margins.net_equity[0]
    assert close(equity - margins.maintenance_margin[0], expected["MM"]), case.name
    assert close(equity - margins.initial_margin[0], expected["IM"]), case.name
    losses = rc.scenario_losses(account.accounts, account.venue, account.tick)
    found = [-loss for block in losses.blocks() for loss in block.loss.ravel()][: len(expected["scenario_pnl"])]
    assert all(map(close, found, expected["scenario_pnl"])), case.name
    assert found or not any(expected["scenario_pnl"]), case.name


def docs(name: str) -> tuple[dict, dict]:
    """Inputs of a case of documents, and what is printed."""
    cases = vectors.read_vectors(FOLDER, "scenario_docs.json")["cases"]
    case = next(case for case in cases if case["id"] == name)
    return case["inputs"], case["expected"]


def test_every_case_of_documents_is_checked_or_listed():
    """No case of the file is passed over."""
    names = {case["id"] for case in vectors.read_vectors(FOLDER, "scenario_docs.json")["cases"]}
    checked = {name for name in names if not name.startswith("derive-auction")}
    assert names == checked | set(NO_REQUIREMENT)
    assert len(checked) == 23


def test_first_version_of_derive(way):
    """PMRM version 1: margin after maintenance and initial requirement."""
    for number in (1, 4, 7, 12, 14, 16, 18):
        name = f"derive-pmrm1-test{number}"
        given, expected = docs(name)
        found = way(vectors.first_derive_case(name, given["scenario_1e18"]))
        assert close(found.equity - found.maintenance, expected["MM"], 1e-6), name
        assert close(found.equity - found.initial, expected["IM"], 1e-6), name
        assert close(found.equity, expected["mtm"], 1e-6), name


def test_printed_reply_of_deribit(way):
    """Risk vectors of each instrument, their sum, and the margin made of it."""
    given, expected = docs("deribit-pme-doc-vectors")
    alone = {**given, "pnl_offset": 1, "extended_dampener_usd": 0}
    for symbol, size in given["position_base"].items():
        found = way(vectors.buckets_case(symbol, {**alone, "position_base": {symbol: size}}))
        printed = expected["initial_standard"][symbol] + expected["initial_extended"][symbol]
        assert all(close(x, y, 1e-15, 1e-12) for x, y in zip(found.y, printed, strict=True)), symbol

    given, expected = docs("deribit-pme-doc-aggregate")
    found = way(vectors.buckets_case("sum", given))
    printed = expected["aggregated_standard"] + expected["aggregated_extended"]
    assert all(close(x, y, 1e-15, 1e-12) for x, y in zip(found.y, printed, strict=True))
    assert close(found.loss, expected["worst_case"], 5e-10)
    assert found.worst == 0

    given, expected = docs("deribit-pme-doc-margin")
    found = way(vectors.buckets_case("margin", given))
    assert close(found.initial, expected["risk_matrix_margin"], 2e-12)
    assert close(found.initial - found.loss, expected["roll_shock"], 2e-12)
    assert close(found.maintenance, expected["maintenance_margin"], 2e-12)
    whole = found.initial + given["open_orders_margin"] + given["mmp_margin"]
    assert close(round(whole, 9), expected["initial_margin"], 2e-12)


def test_older_charges_of_deribit(way):
    """Short options netted strike by strike, and offsetting futures."""
    given, expected = docs("deribit-old-net-short")
    found = way(vectors.net_short_case("charges", given))
    assert close(found.maintenance, expected["options_btc"] + expected["futures_btc"], 1e-12)


def test_risk_arrays(way):
    """Risk arrays of SPAN: of one contract, of a covered call, and made from a price scan range."""
    given, expected = docs("span-mcmillan-future")
    found = way(vectors.array_case("future", {"F": given["array"]}, {"F": 1.0}))
    assert close(found.maintenance, expected["requirement"])
    given, expected = docs("span-mcmillan-call")
    found = way(vectors.array_case("call", {"C": given["array"]}, {"C": 1.0}))
    assert close(found.maintenance, expected["requirement"])
    assert found.worst + 1 == expected["scenario"]
    given, expected = docs("span-mcmillan-covered")
    sizes = dict(zip(("F", "C"), map(float, given["quantities"]), strict=True))
    found = way(vectors.array_case("covered", {"F": given["future"], "C": given["call"]}, sizes))
    assert all(map(close, found.y, expected["array"]))
    assert close(found.maintenance, expected["requirement"])
    given, expected = docs("span-mcmillan-array")
    case = vectors.scan_range_case("array", given["scan_range"], given["extreme_multiple"], given["extreme_cover"])
    assert all(close(x, y, 5) for x, y in zip(way(case).y, expected["array"], strict=True))


def test_risk_unit_of_okx(way):
    """A minimum scaled tier by tier; the larger of the components and the minimum."""
    given, expected = docs("okx-mr7-tier")
    found = way(vectors.unit_case("tier", given["mr"], 0, given["mr7"], given["tiers"]))
    assert close(found.maintenance, expected["mmr"])
    assert close(found.initial, 1.3 * expected["mmr"])
    for name in ("okx-mmr-before", "okx-mmr-after"):
        given, expected = docs(name)
        assert close(way(vectors.unit_case(name, 0, given["MR4"], given["MR7"])).maintenance, expected["mmr"])


def test_floor_and_window_of_paradex(way):
    """The least loss by deltas, and changes scaled down before expiry."""
    given, expected = docs("paradex-delta-floor")
    for rates, part in (((1.0, 0.0), abs(expected["net"])), ((0.0, 1.0), expected["hedged"])):
        assert close(way(vectors.floor_case("part", given["deltas"], 1.0, *rates)).maintenance, part, 1e-12)
    charge, printed = docs("paradex-delta-floor-charge")
    rates = charge["unhedged_factor"], charge["hedged_factor"]
    found = way(vectors.floor_case("floor", given["deltas"], charge["spot"], *rates))
    assert close(found.maintenance, printed["floor"])
    given, expected = docs("paradex-live-fraction")
    for seconds, share in zip(given["seconds_to_expiry"], expected["fraction"], strict=True):
        found = way(vectors.window_case("window", seconds, given["window"]))
        assert close(found.maintenance, share * 6_000)


def test_accounts_of_paradex(way):
    """Worst loss, funding, fees and open orders of whole accounts; upstream's normal distribution has 7 digits."""
    for name in ("paradex-pm-account", "paradex-pm-orders"):
        given, expected = docs(name)
        found = way(vectors.grid_case(name, given))
        assert close(found.initial, expected["IMR"], 2e-5, 1e-6), name
        assert close(found.maintenance, expected["MMR"], 2e-5, 1e-6), name
