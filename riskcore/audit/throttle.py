"""Legs that a round leaves out: by the seeded draw, and by the cooldown of positions."""

from __future__ import annotations

import math
from hashlib import blake2b

from .folder import Run

_ALL = 2**64 - 1


def _mix(z: int) -> int:
    """Mix 64 bits."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _ALL
    return z ^ (z >> 31)


class Throttle:
    """Draws by account and leg, and the last fill of every position."""

    def __init__(self, run: Run) -> None:
        policy = run.venue.policy
        self.seed, self.ids = run.manifest["seed"], run.ids.tolist()
        self.legs = len(run.venue.markets) + len(run.venue.assets)
        self.bound = math.floor(policy["slice_probability"] * 2**64)
        cooldown = policy.get("slice_cooldown")
        self.cooldown = None if cooldown is None else math.ceil(cooldown * 10**9)
        self.filled = dict[int, int]()
        """Time of the last slice's fill by position row."""
        self.begin(-1, 0)

    def begin(self, tick: int, time: int) -> None:
        """Turn to another tick."""
        self.tick, self.time, self._keys = tick, time, dict[int, int]()

    def _key(self, account: int) -> int:
        if account not in self._keys:
            text = f"{self.seed}/{self.tick}/{self.ids[account]}".encode()
            self._keys[account] = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
        return self._keys[account]

    def order_key(self, account: int) -> int:
        """Key of an account in the random order."""
        return _mix(self._key(account))

    def leaves_out(self, account: int, round_number: int, leg: int) -> bool:
        """Whether the draw leaves a leg (a market, or an asset after all markets) out of a round."""
        number = round_number * self.legs + leg + 1
        return _mix((self._key(account) + number * 0x9E3779B97F4A7C15) & _ALL) >= self.bound

    def cools(self, position: int) -> bool:
        """Whether the cooldown after a position's last fill has not passed."""
        last = self.filled.get(position)
        return self.cooldown is not None and last is not None and self.time - last < self.cooldown
