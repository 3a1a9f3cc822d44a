"""The full sweep and the select-only one: against what the machine can do, against C, against what a user would pick.

Ratios of calls made in turn in one process, after a check that all give the same numbers; one thread unless a figure
says otherwise. Losses are kept: a peer over the sweep below 1 is a peer that is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import riskcore as rc
from riskcore.margin import margin_table, selection
from riskcore.market import Prices

from . import ACCOUNTS, _Figures, interleaved_ratio, wide_accounts
from .baseline import PlainCompact, PlainTextbook, Sell, Touch
from .peers import PEERS
from .textbook import workload

ROUNDS = 21


class Sweep:
    """Milliseconds, to follow over the versions of one machine."""

    params = [1, 2]
    param_names = ("threads",)
    timeout = 300

    def setup(self, threads: int) -> None:
        self.venue, self.accounts, self.marks = wide_accounts(ACCOUNTS)
        self.time_sweep(threads)  # compile
        self.time_select(threads)

    def time_sweep(self, threads: int) -> None:
        rc.sweep(self.accounts, self.venue, self.marks, threads=threads)

    def time_select(self, threads: int) -> None:
        rc.select(self.accounts, self.venue, self.marks, threads=threads)

    time_sweep.pretty_name = "rc.sweep, 1,000,000 accounts, threads: {threads}"
    time_select.pretty_name = "rc.select, 1,000,000 accounts, threads: {threads}"


class Memory:
    """Peak of a process with the accounts loaded, without and with a sweep."""

    timeout = 300

    def setup(self) -> None:
        self.venue, self.accounts, self.marks = wide_accounts(ACCOUNTS)

    def peakmem_reference(self) -> None:
        """Memory of the setup, to hold against peakmem_sweep."""

    def peakmem_sweep(self) -> None:
        rc.sweep(self.accounts, self.venue, self.marks, threads=1)


class Workload:
    """Prices read once, both sweeps compiled."""

    def __init__(self) -> None:
        venue, self.accounts, marks, self.book = workload()
        self.prices = Prices.read(venue, self.accounts, marks)
        self.ours = margin_table(self.accounts, self.prices, threads=1)
        self.rows = np.flatnonzero(self.ours.liquidatable)
        assert np.array_equal(self.select().account, self.rows)

    def sweep(self, threads: int = 1) -> rc.MarginTable:
        return margin_table(self.accounts, self.prices, threads=threads, out=self.ours)

    def select(self, threads: int = 1) -> rc.Selection:
        return selection(self.accounts, self.prices, threads=threads)


def itself(work: Workload) -> Iterator[float]:
    """One way of calling it over another."""
    yield interleaved_ratio(work.sweep, work.select, ROUNDS)
    yield interleaved_ratio(work.sweep, lambda: work.sweep(2), ROUNDS)
    yield interleaved_ratio(work.select, lambda: work.select(2), ROUNDS)


def floor(work: Workload) -> Iterator[float]:
    """Over reading the same inputs and writing the same outputs."""
    touch = Touch(work.book)
    yield interleaved_ratio(work.sweep, touch.full, ROUNDS)
    yield interleaved_ratio(work.select, touch.inputs_only, ROUNDS)


def by_hand(work: Workload) -> Iterator[float]:
    """Over AVX-512 intrinsics, and these over the floor."""
    c, touch = Sell(work.book), Touch(work.book)
    work.book.check(work.ours, c.full())
    assert np.array_equal(c.select(), work.rows)
    yield interleaved_ratio(work.sweep, c.full, ROUNDS)
    yield interleaved_ratio(work.select, c.select, ROUNDS)
    yield interleaved_ratio(c.full, touch.full, ROUNDS)
    yield interleaved_ratio(c.select, touch.inputs_only, ROUNDS)


def plain_c(work: Workload) -> Iterator[float]:
    """What gcc -O3 -march=native makes of plain loops, over the sweep."""
    for layout in (PlainTextbook, PlainCompact):
        c = layout(work.book)
        work.book.check(work.ours, c.full())
        yield interleaved_ratio(c.full, work.sweep, ROUNDS)


def peer(name: str) -> Callable[[Workload], Iterator[float]]:
    def over_sweep(work: Workload) -> Iterator[float]:
        other = PEERS[name](work.book)
        work.book.check(work.ours, other.sweep())
        yield interleaved_ratio(other.sweep, work.sweep, 5)

    return over_sweep


MEASURED: list[tuple[Callable[[Workload], Iterator[float]], list[str]]] = [
    (itself, ["sweep / select", "sweep, one thread / two", "select, one thread / two"]),
    (floor, ["sweep / touching its inputs and outputs", "select / touching its inputs"]),
    (by_hand, ["sweep / AVX-512 by hand in C", "select / AVX-512 by hand in C",
               "AVX-512 by hand / touching inputs and outputs", "AVX-512 select by hand / touching inputs"]),
    (plain_c, ["plain C, float64 columns / sweep", "plain C, compact columns / sweep"]),
    *((peer(name), [f"{name} / sweep"]) for name in PEERS),
]  # fmt: skip


class Ratios(_Figures):
    params = [name for _, names in MEASURED for name in names]

    def setup_cache(self) -> dict[str, float | str]:
        work, found = Workload(), {}
        for measure, names in MEASURED:
            try:
                found |= dict(zip(names, measure(work), strict=True))
            except NotImplementedError as error:
                found |= dict.fromkeys(names, str(error))
        return found

    setup_cache.timeout = 3600


class Rules(_Figures):
    """What other rules cost: the three margin functions mixed, and liquidation prices."""

    params = ["sweep, three margin functions mixed / square roots alone", "liquidation prices / sweep"]

    def setup_cache(self) -> dict[str, float | str]:
        calls = []
        for mixed in (False, True):
            venue, accounts, marks = wide_accounts(ACCOUNTS, mixed=mixed)
            # the accounts' own open interest, once: deriving it is not the sweep
            prices = Prices.read(venue, accounts, marks)
            calls.append(lambda accounts=accounts, prices=prices: margin_table(accounts, prices, threads=1))
            calls[-1]()  # compile
        assert {type(f).__name__ for f in venue.margin_functions.functions} == {"Sqrt", "Tiers", "OpenInterest"}
        pure, mixed = calls
        all_prices = lambda: rc.liquidation_prices(accounts, venue, marks, threads=1)  # noqa: E731
        all_prices()
        figures = interleaved_ratio(mixed, pure, ROUNDS), interleaved_ratio(all_prices, mixed, 5)
        return dict(zip(self.params, figures, strict=True))

    setup_cache.timeout = 3600


class Money(_Figures):
    """What several money assets cost: a third of the accounts has USDT and inverse markets among its positions."""

    params = [f"{call}, USDT and inverse markets of a third of the accounts / none" for call in ("sweep", "select")]

    def setup_cache(self) -> dict[str, float | str]:
        calls = []
        for money in (True, False):
            venue, accounts, marks = wide_accounts(ACCOUNTS, money=money)
            prices = Prices.read(venue, accounts, marks)
            table = margin_table(accounts, prices, threads=1)  # compiles
            found = selection(accounts, prices, threads=1)
            assert np.array_equal(found.row, np.flatnonzero(table.liquidatable))
            full = partial(margin_table, accounts, prices, threads=1, out=table)
            calls.append((full, partial(selection, accounts, prices, threads=1)))
        return {name: interleaved_ratio(*pair, ROUNDS) for name, *pair in zip(self.params, *calls, strict=True)}

    setup_cache.timeout = 3600
