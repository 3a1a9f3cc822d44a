"""Findings of an audit: by rule the number of checks and of breaches, and the first breaches in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

KEPT_BREACHES = 1000


@dataclass
class Findings:
    """Counts by rule, and the first breaches: rule, tick, row of the journal, row of the account, text."""

    checked: Counter[str] = field(default_factory=Counter)
    breached: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[str, int, int, int, str]] = field(default_factory=list)

    def breach(self, rule: str, what: str, tick: int = -1, row: int = -1, account: int = -1) -> None:
        """Count a breach."""
        self.breached[rule] += 1
        if len(self.kept) < KEPT_BREACHES:
            self.kept.append((rule, tick, row, account, what))

    def equal(self, rule: str, what: str, value: object, expected: object) -> None:
        """Check that two things are the same."""
        self.checked[rule] += 1
        if value != expected:
            self.breach(rule, f"{what}: {value}, not {expected}")
