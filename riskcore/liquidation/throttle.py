"""Seeded draws: the positions and borrows of a round, a random order of accounts; both whatever the input's order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Draws = npt.NDArray[np.uint64]

_STEP, _ONE, _TWO = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def keys(seed: int, time: int, ids: npt.NDArray[np.generic]) -> Draws:
    """Key of each account at a time (nanoseconds since the epoch), by the account's own id."""
    start = f"{seed}/{time}/"
    digests = [blake2b(f"{start}{account}".encode(), digest_size=8).digest() for account in ids.tolist()]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def draws(key: Draws, number: npt.NDArray[np.int64]) -> Draws:
    """Draw of each key with its number, from 0: SplitMix64."""
    # unsigned arithmetic wraps, as the generator asks for
    return mix(key + (number + 1).astype(np.uint64) * _STEP)


def mix(key: Draws) -> Draws:
    """Mix the bits of each key: sorted by the result, keys are in a random order."""
    z = (key ^ (key >> np.uint64(30))) * _ONE
    z = (z ^ (z >> np.uint64(27))) * _TWO
    return z ^ (z >> np.uint64(31))
