"""Who a million opposing positions are closed against: scoring them, the head of the queue, and shares by weight."""

from __future__ import annotations

import numpy as np

from riskcore.venue import POLICIES, Counterparties, integer_weights, ranked, top_of_queue, water_fill

from . import ACCOUNTS, _Figures, interleaved_ratio

POSITIONS = ACCOUNTS
DEFICITS = (0.0005, 0.01, 0.3)


def opposing_positions(count: int) -> Counterparties:
    """Longs of all sizes and leverages, half of them at a profit."""
    rng = np.random.default_rng(5)
    lots = np.maximum(rng.lognormal(6, 1.5, count), 1).astype(np.int64)
    value = lots * 100.0
    entry = value * (1 - rng.normal(0, 0.02, count))
    exposure = value * rng.uniform(1, 4, count)
    equity = exposure / rng.lognormal(1, 1, count)
    return Counterparties(lots, value, entry, value * 0.0125, equity, exposure, exposure * 0.0125, value - entry)


class Queue:
    """The head of a queue, and a full stable sort of the same scores, once both give the same rows."""

    def __init__(self, deficit: float) -> None:
        of = opposing_positions(POSITIONS)
        self.score, self.room = ranked(POLICIES["pnl_leverage"], of), of.lots
        self.need = int(of.lots[of.value > of.entry].sum() * deficit)
        rows = self.full_sort()
        rows = rows[: int(np.searchsorted(np.cumsum(self.room[rows]), self.need)) + 1]
        assert np.array_equal(self.head(), rows)

    def full_sort(self) -> np.ndarray:
        return np.argsort(-self.score, kind="stable")

    def head(self) -> np.ndarray:
        return top_of_queue(self.score, self.room, self.need)


class Ratios(_Figures):
    """Of a full stable sort to the head of the queue, interleaved in one process."""

    params = [f"stable argsort / head of the ADL queue, deficit of {deficit:.2%}" for deficit in DEFICITS]

    def setup_cache(self) -> dict[str, float | str]:
        queues = [Queue(deficit) for deficit in DEFICITS]
        ratios = (interleaved_ratio(queue.full_sort, queue.head, 9) for queue in queues)
        return dict(zip(self.params, ratios, strict=True))

    setup_cache.timeout = 600


class Shares:
    """A tenth of all positions by equity."""

    timeout = 300

    def setup(self) -> None:
        of = opposing_positions(POSITIONS)
        self.weight, self.room, self.total = integer_weights(of.equity), of.lots, int(of.lots.sum()) // 10
        taken = water_fill(self.total, self.weight, self.room)  # compile
        assert taken.sum() == self.total
        assert (taken == self.room).any()

    def time_share_out(self) -> None:
        water_fill(self.total, self.weight, self.room)


class Scoring:
    params = ["pnl_leverage", "rap_tail"]
    param_names = ("policy",)

    def setup(self, policy: str) -> None:
        self.of = opposing_positions(POSITIONS)

    def time_ranked(self, policy: str) -> None:
        rank = ranked(POLICIES[policy], self.of)
        if POLICIES[policy].shared:
            integer_weights(rank)
