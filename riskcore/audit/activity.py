"""Activity between ticks: every row is compared with that of the exact model, the accounts as they stand there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .decisions import Decisions
from .findings import Findings
from .folder import BOOK, CHANGES, FUND, NAMED, POOL, SHORTFALL, WORDS, Array, Run
from .margins import Tick

LEDGERS = {BOOK: "book", FUND: "fund", SHORTFALL: "shortfall", POOL: "pool"}
COMPARED = ("event", "reason", "time", *NAMED, *CHANGES, "price")
FILLS = ("fill", "book", "market_close")


class Activity:
    """Rows of activity after a tick, or before the first."""

    def __init__(self, run: Run, out: Findings, decisions: Decisions) -> None:
        self.run, self.out, self.decisions, self.time = run, out, decisions, 0
        """The time of the last action."""

    def follow(self, rows: Array, tick: Tick | None) -> None:
        """Compare rows, and apply them; ``tick`` is the one before them."""
        time, prices = (0, None) if tick is None else (tick.time, self.decisions.prices(tick))
        done = self.decisions.judge.activity(time, prices, self.decisions)
        for first, group in self._groups(rows):
            self.out.checked["stages"] += len(group)
            decided = done.decide(group[0])
            if group[0]["event"] == "open":  # there from here on, whatever is wrong with the row
                self.decisions.there[group[0]["account"]] = True
            if self._compare(first, group, *decided):
                done.take_over(group)
        done.finish()
        self.time = done.latest
        self.decisions.state.apply(rows, self.run.journal)
        self.decisions.state.changed()

    def _groups(self, rows: Array) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Rows that were asked for, each with those that follow from it, and the number of the first."""
        named, first = self._named(rows), 0
        for place in range(1, len(named) + 1):
            if place == len(named) or (named[place]["reason"] != "reduce_only" and named[place]["event"] != "interest"):
                yield int(rows[first]), named[first:place]
                first = place

    def _named(self, rows: Array) -> list[dict[str, Any]]:
        """Rows with words, and symbols for markets and assets; accounts stay numbers."""
        journal, decisions = self.run.journal, self.decisions
        columns = {name: journal[name][rows].tolist() for name in COMPARED}
        for name, known in (
            ("market", decisions.markets), ("asset", decisions.assets), ("settle", decisions.assets),
            ("event", WORDS["event"]), ("reason", WORDS["reason"]),
        ):  # fmt: skip
            columns[name] = [known[code] if code >= 0 else None for code in columns[name]]
        columns["order"] = [order if order >= 0 else None for order in columns["order"]]
        columns["counterparty"] = [one if one >= 0 else LEDGERS.get(one) for one in columns["counterparty"]]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _compare(self, first: int, recorded: list[dict[str, Any]], exact: list[dict[str, Any]], refused: str) -> bool:
        """Whether rows differ from the exact ones: the first that does is reported by the rule that it breaks."""
        event = recorded[0]["event"]
        if refused:
            rule = "touched" if event == "transfer" and "owner" in refused else _rule_of(event, "stages")
            self._breach(rule, f"is not allowed: {refused}", first, recorded[0])
            return True
        for place, row in enumerate(recorded[: len(exact)]):
            wrong = [
                f"{name} is {row[name]}, not {exact[place][name]}"
                for name in COMPARED
                if _differ(row, exact[place], name)
            ]
            if wrong:
                self._breach(_rule_of(row["event"], "stages"), "; ".join(wrong), first + place, row)
                return True
        if len(recorded) != len(exact):
            longer, what = (exact, "is due") if len(exact) > len(recorded) else (recorded, "is not due")
            row = longer[min(len(recorded), len(exact))]
            self._breach("stages", f"{what} ({row['reason']}) after {event}", first, row)
            return True
        return False

    def _breach(self, rule: str, what: str, number: int, row: dict[str, Any]) -> None:
        tick = int(self.run.journal["tick"][number])
        self.out.breach(rule, f"{row['event']}: {what}", tick, number, row["account"])


def _rule_of(event: str, other: str) -> str:
    """The rule that a row of activity breaks."""
    return "cost" if event in FILLS else other


def _differ(recorded: dict[str, Any], exact: dict[str, Any], name: str) -> bool:
    """Whether two rows differ in a column; prices may both be missing."""
    both = recorded[name], exact[name]
    return both[0] != both[1] and not (name == "price" and all(map(math.isnan, both)))
