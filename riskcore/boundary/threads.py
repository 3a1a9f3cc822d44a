"""Runs a kernel over chunks of accounts in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .errors import RiskDataError


def in_chunks(chunk: Callable[[int, int], None], count: int, threads: int | None, per_thread: int) -> None:
    """Run a kernel over ``count`` accounts or chunks in chunks ``first:last``, one to a thread.

    Chunks write disjoint rows, so the bits are the same for any number.
    """
    threads = thread_count(threads, count, per_thread)
    edges = [count * n // threads for n in range(threads + 1)]
    if threads == 1:
        chunk(0, count)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(chunk, edges[:-1], edges[1:]))


def thread_count(threads: int | None, count: int, per_thread: int) -> int:
    """Threads to take: None is every core, when there are enough accounts or chunks to gain from it."""
    if threads is None:
        cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        threads = min(cores, count // per_thread + 1)
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool):
        raise RiskDataError("threads", None, "must be a whole number >= 1, or None", value=threads)
    if threads < 1:
        raise ValueError(f"threads must be >= 1, not {threads}")
    return min(int(threads), max(count, 1))
