"""Scenario margin: against AVX-512 C written by hand, against scipy's sparse product, with and without bounds.

Ratios of calls made in turn in one process on one thread, after a check that all give the same numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model

from . import ACCOUNTS, interleaved_ratio, seconds
from .baseline import compiled, pointer
from .peers import optional

ROUNDS = 11
LEGS = 5
INSTRUMENTS = 1150
EXPIRIES = ["2026-01-30T08:00Z", "2026-02-27T08:00Z", "2026-03-27T08:00Z", "2026-06-26T08:00Z"]
VOLS = ("up", "same", "down")
Array = np.ndarray[Any, Any]


def source(scenarios: int) -> dict[str, Any]:
    """Model of so many scenarios: moves of -30 to 30 %, each with three volatilities, and nothing else."""
    moves = np.linspace(-0.3, 0.3, -(-scenarios // len(VOLS)))
    rows = [{"move": f"{move:.6f}", "vol": vol} for move in moves for vol in VOLS]
    return {"scenarios": rows[:scenarios], "mm_factor": "0.8", "vol_shock": {"up": "0.5", "down": "0.25"}}


@cache
def tick(underlyings: int, options: int) -> tuple[Instruments, ScenarioMarket]:
    """A perpetual of each underlying, and so many options of the first."""
    names = [f"A{n}" for n in range(underlyings)]
    rows: list[tuple[Any, ...]] = [(f"{name}-PERP", "PERP", name, None, None, None) for name in names]
    strikes = np.linspace(30_000.0, 120_000.0, -(-options // (2 * len(EXPIRIES)))).round()
    quoted = [(expiry, strike, right) for expiry in EXPIRIES for strike in strikes for right in "PC"]
    rows += [(f"O{n}", "OPTION", names[0], *each) for n, each in enumerate(quoted[:options])]
    frame = pd.DataFrame(rows, columns=["market", "kind", "underlying", "expiry", "strike", "right"])
    instruments = Instruments.from_frame(frame)
    market = ScenarioMarket.read(
        instruments, "2026-01-01", index=dict.fromkeys(names, 60_000.0),
        marks={f"{name}-PERP": 60_000.0 for name in names}, volatilities={f"O{n}": 0.6 for n in range(options)},
        terms=pd.DataFrame({"underlying": names[0], "expiry": EXPIRIES if options else [], "forward": 60_000.0}),
    )  # fmt: skip
    return instruments, market


@cache
def table(model: str | int, underlyings: int = 1, options: int = INSTRUMENTS - 1) -> ScenarioTable:
    """Table of record of a preset, or of a plain model of so many scenarios."""
    of = load_scenario_model(source(model) if isinstance(model, int) else model)
    return ScenarioTable.of(of, *tick(underlyings, options))


def portfolios(record: ScenarioTable, instrument: Array, size: Array) -> Portfolios:
    """Portfolios of accounts with as many positions each: arrays of shape (A, n)."""
    order = record.instruments.rank[instrument].argsort(axis=1)
    span = np.arange(len(size) + 1, dtype=np.uint32) * np.uint32(size.shape[1])
    held = np.take_along_axis(instrument, order, 1).astype(np.uint16).ravel()
    return Portfolios(span, held, np.take_along_axis(size, order, 1).ravel())


@cache
def random_book(model: str | int, accounts: int) -> Portfolios:
    """Five positions in any instruments."""
    rng, record = np.random.default_rng(11), table(model)
    return portfolios(record, rng.integers(0, INSTRUMENTS, (accounts, LEGS)), rng.normal(size=(accounts, LEGS)))


def perpetual_book(accounts: int) -> tuple[ScenarioTable, Portfolios]:
    """Five perpetuals of 150 underlyings."""
    rng, record = np.random.default_rng(12), table(208, 150, 0)
    shape = accounts, LEGS
    size = rng.lognormal(-3.0, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    return record, portfolios(record, rng.integers(0, 150, shape), size)


def hedged_book(accounts: int, spreads: bool) -> tuple[ScenarioTable, Portfolios]:
    """Four options, two vertical spreads if so asked, and the perpetual that takes away their delta."""
    rng, record = np.random.default_rng(13), table(208)
    shape = accounts, LEGS - 1
    option = rng.integers(1, INSTRUMENTS, shape)
    size = rng.lognormal(-1.0, 1.0, shape) * rng.choice([-1.0, 1.0], shape)
    if spreads:
        wider = option[:, ::2] + 2 * rng.integers(1, 4, (accounts, 2))
        option[:, 1::2] = np.where(wider < INSTRUMENTS, wider, option[:, ::2] - 2)
        size[:, 1::2] = -size[:, ::2]
    delta = (size * record.greeks[option, 0]).sum(axis=1, keepdims=True)
    perpetual = np.zeros((accounts, 1), np.int64)
    return record, portfolios(record, np.hstack([perpetual, option]), np.hstack([-delta, size]))


@cache
def margined_book(kind: str) -> tuple[ScenarioTable, Portfolios, Array]:
    """A book and the equity of its accounts: in the median fifteen times the requirement, in 0.4 % less than it."""
    book = perpetual_book if kind == "perpetuals" else partial(hedged_book, spreads=kind == "spreads")
    record, held = book(ACCOUNTS)
    required = record.requirements(held, threads=1).maintenance
    return record, held, required * np.random.default_rng(14).lognormal(np.log(15.0), 1.02, ACCOUNTS)


def c_losses(name: str, record: ScenarioTable, held: Portfolios) -> Callable[[], Array]:
    """A call of ../baseline/scenario.c on the arrays of a table."""
    function, loss = getattr(compiled("scenario"), name), np.empty(len(held))
    arrays = held.span, held.instrument, held.size, record.arrays.row, record.arrays.weight[0], loss

    def call() -> Array:
        function(ctypes.c_int64(len(held)), *map(pointer, arrays))
        return loss

    return call


class AgainstC:
    """Worst losses of 1,000,000 accounts with 5 positions, in 1,150 instruments of one underlying."""

    params = [208, 64]
    param_names = ("scenarios",)
    timeout = 600
    unit = "ratio"

    def setup(self, scenarios: int) -> None:
        self.record, self.held = table(scenarios), random_book(scenarios, ACCOUNTS)
        self.c = c_losses(f"losses_{scenarios}", self.record, self.held)
        np.testing.assert_array_equal(self.c(), self.ours().loss)

    def ours(self, worst: bool = False) -> Any:
        return self.record.requirements(self.held, worst=worst, threads=1)

    def track_over_c(self, scenarios: int) -> float:
        return interleaved_ratio(self.ours, self.c, ROUNDS)

    def track_with_scenario_over_c(self, scenarios: int) -> float:
        return interleaved_ratio(partial(self.ours, worst=True), self.c, ROUNDS)

    def track_c_over_contracted(self, scenarios: int) -> float:
        return interleaved_ratio(self.c, c_losses(f"losses_{scenarios}_contracted", self.record, self.held), ROUNDS)

    def track_scipy_over_ours(self, scenarios: int) -> float:
        sparse = optional("scipy.sparse")
        shape = len(self.held), len(self.record.instruments)
        matrix = sparse.csr_array((self.held.size, self.held.instrument, self.held.span.astype(np.int64)), shape=shape)
        change, block = np.ascontiguousarray(self.record.change), 10_000

        def product() -> Array:
            starts = range(0, shape[0], block)
            return np.concatenate([(matrix[start : start + block] @ change).min(axis=1) for start in starts])

        loss = self.ours().loss
        np.testing.assert_allclose(np.maximum(-product(), 0.0), loss, rtol=1e-9, atol=1e-9)
        return interleaved_ratio(product, self.ours, 3)

    track_over_c.pretty_name = "requirements / AVX-512 C, {scenarios} scenarios"
    track_with_scenario_over_c.pretty_name = "requirements with the worst scenario / AVX-512 C, {scenarios} scenarios"
    track_c_over_contracted.pretty_name = "AVX-512 C / the same with contraction, {scenarios} scenarios"
    track_scipy_over_ours.pretty_name = "scipy.sparse product and minimum / requirements, {scenarios} scenarios"


class Screened:
    """Accounts at 100 % or above, 208 scenarios: all requirements against bounds first."""

    params = ["perpetuals", "hedged options", "spreads"]
    param_names = ("book",)
    timeout = 600
    unit = "ratio"

    def setup(self, book: str) -> None:
        self.record, self.held, self.equity = margined_book(book)
        np.testing.assert_array_equal(self.select(), self.full())

    def full(self) -> Array:
        required = self.record.requirements(self.held, initial=False, threads=1).maintenance
        return np.flatnonzero(~(required < self.equity))

    def select(self) -> Array:
        return self.record.select(self.held, self.equity, threads=1)[0]

    def track_full_over_select(self, book: str) -> float:
        return interleaved_ratio(self.full, self.select, ROUNDS)

    def track_left_by_sum(self, book: str) -> float:
        return self.left(0)

    def track_left_by_envelope(self, book: str) -> float:
        return self.left(1)

    def left(self, bound: int) -> float:
        return float(100.0 * np.mean(~(self.record.upper_bounds(self.held, threads=1)[bound] < self.equity)))

    track_full_over_select.pretty_name = "all requirements / select by bounds first, {book}"
    track_left_by_sum.unit = track_left_by_envelope.unit = "%"
    track_left_by_sum.pretty_name = "accounts left by the sum of single positions, {book}"
    track_left_by_envelope.pretty_name = "accounts left by blocks of scenarios, {book}"


class General:
    """Models with charges, dampeners and discounts, 5 positions, 27 to 35 scenarios."""

    params = ["buckets", "derive"]
    param_names = ("preset",)
    timeout = 600

    def setup(self, preset: str) -> None:
        self.record, self.held = table(preset), random_book(preset, max(ACCOUNTS // 10, 1))
        self.value()
        self.gradients()

    def value(self) -> object:
        return self.record.requirements(self.held, threads=1)

    def gradients(self) -> object:
        return self.record.gradients(self.held, threads=1)

    def track_rate(self, preset: str) -> float:
        return len(self.held) / min(seconds(self.value) for _ in range(ROUNDS))

    def track_gradients_over_value(self, preset: str) -> float:
        return interleaved_ratio(self.gradients, self.value, ROUNDS)

    track_rate.unit = "portfolios/s"
    track_rate.pretty_name = "requirements of five positions, {preset}"
    track_gradients_over_value.unit = "ratio"
    track_gradients_over_value.pretty_name = "gradients / requirements, {preset}"


class ScenarioMemory:
    """Peak of a process that computes the requirements of 1,000,000 accounts over 208 scenarios."""

    timeout = 300

    def setup(self) -> None:
        self.record, self.held = table(208), random_book(208, ACCOUNTS)

    def peakmem_requirements(self) -> None:
        self.record.requirements(self.held, threads=1)

    peakmem_requirements.pretty_name = "peak memory, requirements over 208 scenarios"
