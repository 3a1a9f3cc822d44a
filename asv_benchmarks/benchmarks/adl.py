"""Who a million opposing positions are closed against: scoring them, the head of the queue, and shares by weight."""

from __future__ import annotations

import numpy as np

from riskcore.deleveraging import POLICIES, Counterparties, queue_head, ranked, share_out, whole_weights

from . import interleaved_ratio

POSITIONS = 1_000_000


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
    """Against a full stable sort of the same scores, interleaved in one process, once both give the same rows."""

    params = [0.0005, 0.01, 0.3]
    param_names = ("deficit",)
    timeout = 300

    def setup(self, deficit: float) -> None:
        of = opposing_positions(POSITIONS)
        self.score, self.room = ranked(POLICIES["pnl_leverage"], of), of.lots
        self.need = int(of.lots[of.value > of.entry].sum() * deficit)
        rows = self.full_sort()
        rows = rows[: int(np.searchsorted(np.cumsum(self.room[rows]), self.need)) + 1]
        assert np.array_equal(queue_head(self.score, self.room, self.need), rows)

    def full_sort(self) -> np.ndarray:
        return np.argsort(-self.score, kind="stable")

    def head(self) -> np.ndarray:
        return queue_head(self.score, self.room, self.need)

    def track_full_sort_over_queue_head(self, deficit: float) -> float:
        return interleaved_ratio(self.full_sort, self.head, 5)

    track_full_sort_over_queue_head.unit = "ratio"


class Shares:
    """A tenth of all positions by equity."""

    timeout = 300

    def setup(self) -> None:
        of = opposing_positions(POSITIONS)
        self.weight, self.room, self.total = whole_weights(of.equity), of.lots, int(of.lots.sum()) // 10
        taken = share_out(self.total, self.weight, self.room)  # compile
        assert taken.sum() == self.total
        assert (taken == self.room).any()

    def time_share_out(self) -> None:
        share_out(self.total, self.weight, self.room)


class Scoring:
    params = ["pnl_leverage", "rap_tail"]
    param_names = ("policy",)

    def setup(self, policy: str) -> None:
        self.of = opposing_positions(POSITIONS)

    def time_ranked(self, policy: str) -> None:
        rank = ranked(POLICIES[policy], self.of)
        if POLICIES[policy].shared:
            whole_weights(rank)
