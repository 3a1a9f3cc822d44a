"""The declared events of the journal: engine, reader, audit, `explain` and docs/journal.md follow them."""

import re
import string
from pathlib import Path

import numpy as np
import pytest

import riskcore as rc
from riskcore.audit import folder
from riskcore.record import (
    EVENT,
    EVENT_KINDS,
    EVENTS,
    REASON,
    REASONS,
    ROW,
    STAGE_OF,
    Journal,
    follow_orders,
    is_activity,
    journal_page,
    touched,
)
from riskcore.record.events import ACCOUNT, ACTIVITY, AMOUNTS, COLUMNS, PAYING, check_rows
from tests import small_run

PAGE = Path(__file__).parents[1] / "docs" / "journal.md"
NUMBERS = {"requested": 5, "price": 2.5, "mmr_before": 1.25, "mmr_after": 1.5}


def test_the_page_is_current():
    write = "from riskcore.record import journal_page; open('docs/journal.md', 'w').write(journal_page())"
    assert PAGE.read_text(encoding="utf-8") == journal_page(), f'python -c "{write}"'


def test_the_page_has_whole_cells():
    lines = [line for line in journal_page().splitlines() if line.startswith("| `")]
    assert len(lines) == len(COLUMNS) + len(EVENTS) + len(REASONS)
    cells = [len(re.split(r"(?<!\\)\|", line)) - 2 for line in lines]
    assert cells == [4] * len(COLUMNS) + [7] * len(EVENTS) + [2] * len(REASONS)
    assert all(each.meaning.endswith(".") for each in (*COLUMNS.values(), *EVENT_KINDS.values()))


def test_the_audit_declares_the_same_by_itself():
    assert set(folder.EVENTS) == set(EVENTS)
    assert set(folder.WORDS["reason"]) == set(REASONS)
    assert folder.CHANGES == AMOUNTS
    for name, kind in EVENT_KINDS.items():
        audited = folder.EVENTS[name]
        assert set(kind.reasons.split()) == set(audited.reasons.split()), name
        assert audited.other in kind.counterparties, name
        assert kind.names == audited.rows, name
        assert set(kind.amounts.split()) == set(audited.changes.split()), name
        assert bool(kind.price) == (audited.priced is not False), name


def test_every_reason_has_a_sentence_of_its_own():
    assert len(set(REASONS.values())) == len(REASONS)
    assert {reason for kind in EVENT_KINDS.values() for reason in kind.reasons.split()} == set(REASONS)


def test_requested_has_a_unit_where_it_is_used():
    assert all(bool(kind.requested) == ("requested" in kind.amounts.split()) for kind in EVENT_KINDS.values())


def test_sentences_name_what_their_event_has():
    used_by = {
        "quantity": "lots", "requested": "requested", "cash": "cash", "paid": "cash", "fee": "fee", "amount": "quanta",
        "lent_amount": "lent", "repaid": "unsettled", "verb": "lots", "exchanged": "quanta lent",
    }  # fmt: skip
    for name, kind in EVENT_KINDS.items():
        assert bool(kind.sentences) == (name != "guard"), "a row of a guard is of no account"
        assert [sentence.case for sentence in kind.sentences].count("") == len(kind.sentences[:1]), name
        assert not kind.sentences or kind.sentences[-1].case == "", name
        for text in (part for sentence in kind.sentences for part in sentence[:2]):
            for _, field, _, _ in string.Formatter().parse(text):
                match field:
                    case "market" | "asset" | "item":
                        assert kind.names, (name, text)
                    case "price":
                        assert kind.price, (name, text)
                    case "other":
                        assert ACCOUNT in kind.counterparties, (name, text)
                    case None | "settle":
                        pass
                    case _:
                        assert set(used_by[field].split()) & set(kind.amounts.split()), (name, text)


@pytest.fixture(scope="module")
def rows():
    """Journal of a run with most events."""
    venue, accounts, ticks = small_run.crash()
    engine = rc.Engine(accounts, venue, seed=3)
    return np.concatenate([engine.step(tick).rows for tick in ticks])


def test_rows_of_a_run_are_as_declared(rows):
    check_rows("journal", rows)
    assert len(np.unique(rows["event"])) >= 10
    assert {EVENTS[code] for code in rows["event"]} >= set(STAGE_OF) - {"adl", "market_close"}


def row_of(event):
    """A row as the declaration has it."""
    kind, journal = EVENT_KINDS[event], Journal(3, 30)
    reason = kind.reasons.split()[0]
    values = {name: NUMBERS.get(name, 7) for name in kind.amounts.split()}
    values |= {"settle": 0} if event in PAYING else {}
    names = kind.names.replace("|", " ").split()[: 1 if "|" in kind.names else None]
    values |= {name: 1 for name in names if not name.endswith("?")}
    values["counterparty"] = 4 if kind.counterparties[0] == ACCOUNT else kind.counterparties[0]
    if kind.price:
        values["price"] = NUMBERS["price"]
    rated = event not in ("guard", "funding", "interest", "realize", "unsettle", "delist") and reason not in ACTIVITY
    ratios = (NUMBERS["mmr_before"], NUMBERS["mmr_after"]) if rated else (np.nan, np.nan)
    journal.add(event, reason, -1 if event == "guard" else 2, *ratios, **values)
    return journal.rows()


def refused(row, event, column):
    with pytest.raises(rc.RiskDataError, match=rf"^run\.journal, row 0, value \S+: {column} must be .* of {event}$"):
        check_rows("journal", row)


@pytest.mark.parametrize("event", EVENTS)
class TestRows:
    def test_a_declared_row_is_taken(self, event):
        check_rows("journal", row_of(event))

    def test_an_unused_column_is_refused(self, event):
        kind = EVENT_KINDS[event]
        for name in AMOUNTS:
            row = row_of(event)
            row[name] = 9
            if name in kind.amounts.split():
                check_rows("journal", row)
            else:
                refused(row, event, name)
        for name in {"market", "asset", "order"} - set(kind.names.replace("|", " ").replace("?", "").split()):
            row = row_of(event)
            row[name] = 0
            refused(row, event, name)
        if not kind.price:
            row = row_of(event)
            row["price"] = 1.0
            refused(row, event, "price")
        if event not in PAYING:
            row = row_of(event)
            row["settle"] = 0
            refused(row, event, "settle")

    def test_a_used_column_must_be_set(self, event):
        kind = EVENT_KINDS[event]
        for name in kind.names.split():
            if name.endswith("?"):
                row = row_of(event)
                row[name[:-1]] = 1
                check_rows("journal", row)
                continue
            row = row_of(event)
            for column in name.split("|"):
                row[column] = -1
            refused(row, event, name.split("|")[0])
        if "|" in kind.names:
            row = row_of(event)
            row["market"] = row["asset"] = 0
            refused(row, event, "market")
        if kind.price:
            row = row_of(event)
            row["price"] = np.nan
            if event in ("guard", "leverage", "propose"):
                check_rows("journal", row)
            else:
                refused(row, event, "price")
        if event in PAYING:
            row = row_of(event)
            row["settle"] = -1
            refused(row, event, "settle")

    def test_account_counterparty_reason_and_ratios(self, event):
        kind = EVENT_KINDS[event]
        for party in range(-5, 2):
            row = row_of(event)
            row["counterparty"] = party
            if min(party, 0) in kind.counterparties:
                check_rows("journal", row)
            else:
                refused(row, event, "counterparty")
        row = row_of(event)
        row["account"] = 0 if event == "guard" else -1
        refused(row, event, "account")
        row = row_of(event)
        row["reason"] = next(code for name, code in REASON.items() if name not in kind.reasons.split())
        refused(row, event, "reason")
        for name in ("mmr_before", "mmr_after"):
            row = row_of(event)
            row[name] = 1.0 if np.isnan(row[name][0]) else np.nan
            refused(row, event, name)


def test_ratios_follow_the_reason():
    journal = Journal(0, 0)
    journal.add("interest", "entry", 0, np.nan, np.nan, counterparty=-5, asset=0, quanta=-1)
    journal.add("redeem", "settlement", 0, np.nan, np.nan, asset=0, quanta=1, lent=-1)
    journal.add("unsettle", "close_out", 0, 1.0, 1.0, settle=0, cash=-1, unsettled=1)
    check_rows("journal", journal.rows())


def test_rows_between_ticks_have_no_ratios():
    journal = Journal(0, 0)
    for event, reason in (("cancel", "liquidation"), ("cancel", "host"), ("book", "host"), ("propose", "full")):
        names = {"order": 0} if event == "cancel" else {"price": 5.0}
        names |= {"counterparty": -1, "settle": 0} if event == "book" else {}
        ratio = np.nan if reason == "host" else 1.0
        journal.add(event, reason, 0, ratio, ratio, market=1, requested=7, **names)
    check_rows("journal", journal.rows())
    assert is_activity(journal.rows()).tolist() == [False, True, True, False]


def test_orders_follow_their_rows():
    tick_size, empty = np.array([0.5, 0.1]), np.zeros(4, np.int64)
    lots, price = empty.copy(), empty.copy()
    lots[0], price[0] = 9, 7
    journal = Journal(0, 0)
    for event, order, values in (
        ("place", 1, {"requested": 10, "price": 30.3, "market": 1}),
        ("place", 2, {"requested": 5, "price": 2.5, "market": 0}),
        ("fill", 1, {"lots": -4, "price": 30.4, "market": 1}),
        ("fill", -1, {"lots": -100, "price": 30.4, "market": 1}),
        ("change", 1, {"requested": 8, "price": 30.1, "market": 1}),
        ("fill", 1, {"lots": 3, "price": 30.1, "market": 1}),
        ("fill", 0, {"lots": 2, "price": 1.0, "market": 0}),
        ("cancel", 2, {"requested": 5, "market": 0}),
        ("place", 3, {"requested": 1, "price": 0.5, "market": 0}),
        ("fill", 3, {"lots": 1, "price": 0.5, "market": 0}),
    ):
        journal.add(event, "request", 0, np.nan, np.nan, order=order, **values)
    follow_orders(lots, price, journal.rows(), tick_size)
    assert lots.tolist() == [7, 5, 0, 0]
    assert price.tolist() == [7, 301, 5, 1]


def test_the_first_wrong_row_is_named(rows):
    wrong = rows.copy()
    first, *others = np.flatnonzero(rows["event"] != EVENT["cancel"])[[40, 70, -1]]
    wrong["order"][[*others, first]] = 3
    event = EVENTS[rows["event"][first]]
    with pytest.raises(rc.RiskDataError, match=rf"^run\.journal, row {first}, value 3: order must be -1 .* {event}$"):
        check_rows("journal", {name: wrong[name] for name in ROW.names})


def test_events_that_change_an_account():
    unchanged = {name for name in EVENTS if not touched(row_of(name)).size}
    assert unchanged == {"trigger", "expire", "unfilled", "guard", "skip", "harm", "open", "propose"}
