"""The seeded draw that decides which legs of an account rest."""

from __future__ import annotations

import hashlib

WORD = 2**64


def mix(z: int) -> int:
    """`mix(z)` (Throttle)."""
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 % WORD
    z ^= z >> 27
    z = z * 0x94D049BB133111EB % WORD
    return z ^ z >> 31


def key_of(text: str) -> int:
    """The key of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def account_key(seed: int, time_ns: int, account_id) -> int:
    """`key` of an account at an instant (Throttle)."""
    return key_of(f"{seed}/{time_ns}/{account_id}")


def draw(key: int, n: int) -> int:
    """`draw` of a leg (Throttle)."""
    return mix((key + (n + 1) * 0x9E3779B97F4A7C15) % WORD)
