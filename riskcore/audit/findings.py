"""What an audit finds: how many things each rule was checked on, how many broke it, and the first of them in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

KEPT_BREACHES = 1000


@dataclass
class Findings:
    """Counts by rule, and the first breaches: rule, tick, row of the journal, row of the account, what."""

    checked: Counter[str] = field(default_factory=Counter)
    breached: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[str, int, int, int, str]] = field(default_factory=list)

    def breach(self, rule: str, what: str, tick: int = -1, row: int = -1, account: int = -1) -> None:
        """Count a breach."""
        self.breached[rule] += 1
        if len(self.kept) < KEPT_BREACHES:
            self.kept.append((rule, tick, row, account, what))

    def equal(self, rule: str, what: str, found: object, expected: object) -> None:
        """Check that two things are the same."""
        self.checked[rule] += 1
        if found != expected:
            self.breach(rule, f"{what}: {found}, not {expected}")
