"""Activity between ticks: every row is compared with that of the exact model, the accounts as they stand there."""

from __future__ import annotations

from typing import Any

from ..reference import Venue, carried_out, start_state
from .decisions import Decisions
from .findings import Findings
from .folder import BOOK, CHANGES, WORDS, Array, Run
from .margins import Tick


class Activity:
    """Rows of activity after a tick, or before the first; ``there`` tells of each account whether it is there."""

    def __init__(self, run: Run, out: Findings, decisions: Decisions, there: list[bool]) -> None:
        self.run, self.out, self.decisions, self.there = run, out, decisions, there

    def follow(self, rows: Array, tick: Tick | None) -> None:
        """Compare rows, and apply them; ``tick`` is the one before them."""
        prices = None if tick is None else self.decisions.prices(tick)
        venue: Venue = self.decisions.judge.venue
        asked = [self._named(number) for number in rows.tolist()]
        named = {row[side] for row in asked for side in ("account", "counterparty") if isinstance(row[side], int)}
        state = start_state(venue, {n: self.decisions.account(n) for n in sorted(named) if self.there[n]})
        state.delisted = self.decisions.judge.memory.delisted
        for number, row in zip(rows.tolist(), asked, strict=True):
            self.out.checked["stages"] += 1
            account = row["account"]
            if row["event"] == "open":
                state.opening = {} if self.there[account] else {account: self.decisions.account(account)}
                self.there[account] = True
            try:
                state, exact = carried_out(venue, state, [row], prices)
            except LookupError:  # an account that is not there
                exact = []
            if not exact:
                rule = "touched" if row["event"] == "transfer" and self._of_others(row) else "stages"
                self._breach(rule, "is not allowed", number, row)
                continue
            wrong = [name for name in CHANGES if row[name] != exact[0][name]]
            if wrong:
                what = "; ".join(f"{name} is {row[name]}, not {exact[0][name]}" for name in wrong)
                self._breach("cost" if row["event"] == "fill" else "stages", what, number, row)
        self.decisions.state.apply(rows, self.run.journal)
        self.decisions.state.changed()

    def _named(self, number: int) -> dict[str, Any]:
        """A row by its number, with symbols for markets and assets; accounts stay numbers."""
        journal, markets, assets = self.run.journal, self.decisions.markets, self.decisions.assets
        row = {name: journal[name][number].item() for name in (*CHANGES, "account", "counterparty", "price")}
        for name, symbols in (("market", markets), ("asset", assets), ("settle", assets)):
            code = int(journal[name][number])
            row[name] = symbols[code] if code >= 0 else None
        row["event"] = WORDS["event"][journal["event"][number]]
        if row["counterparty"] < 0:
            row["counterparty"] = "book" if row["counterparty"] == BOOK else None
        return row

    def _of_others(self, row: dict[str, Any]) -> bool:
        owner = self.decisions.state.owners
        return bool(owner[row["account"]] != owner[row["counterparty"]])

    def _breach(self, rule: str, what: str, number: int, row: dict[str, Any]) -> None:
        tick = int(self.run.journal["tick"][number])
        self.out.breach(rule, f"{row['event']}: {what}", tick, number, row["account"])
